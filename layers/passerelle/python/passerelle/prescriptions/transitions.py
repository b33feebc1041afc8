"""The state machine of a line, read from `data/transitions.json`: one cell for every operation and state.

E-prescription contract, section 6. Nothing here knows an operation or a state by name: rows, cells, guards
and the order of checks are data. What a guard means is the caller's matter (`guards.py`), given as a
predicate by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any

Holds = Callable[[str], bool]
"""Whether the guard of this name holds now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One outcome: the next state, or the RX code of a refusal. It applies when all its `guards` hold.

    `is_rule` tells a refusal by a check that the operation requires from one by the state of the line.
    """

    http: int
    next: str | None = None
    error: str | None = None
    guards: tuple[str, ...] = ()
    is_rule: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An operation under the variant that `given` names. A state without cells cannot occur there."""

    id: str
    operations: tuple[str, ...]
    roles: tuple[str, ...]
    given: tuple[str, ...]
    requires: tuple[str, ...]
    cells: Mapping[str, tuple[Cell, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    name: str
    kind: str
    tier: str
    fails: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a state letter means. `kind` is draft, open, claimed, closed-reopenable or terminal."""

    name: str
    kind: str
    task_status: str
    business_statuses: tuple[str, ...]
    request_status: str


def _load() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(files(__package__).joinpath("data/transitions.json").read_text("utf-8"))
    return table


_TABLE = _load()
STATES: Mapping[str, State] = {
    letter: State(
        name=each["name"],
        kind=each["kind"],
        task_status=each["taskStatus"],
        business_statuses=tuple(each["businessStatus"]),
        request_status=each["medicationRequestStatus"],
    )
    for letter, each in _TABLE["states"].items()
}
INITIAL: str = _TABLE["initial"]["next"]


class Transitions:
    """`statuses` are those of the RX codes."""

    def __init__(self, *, statuses: Mapping[str, int]) -> None:
        self.guards = {
            name: Guard(name=name, kind=each["kind"], tier=each["tier"], fails=each.get("fails"))
            for name, each in _TABLE["guards"].items()
        }
        self.rows = tuple(_row(each) for each in _TABLE["operations"])
        self._effective = tuple((each["from"], tuple(each["if"]), each["to"]) for each in _TABLE["effectiveState"])
        self._order: tuple[str, ...] = tuple(_TABLE["checkOrder"])
        self._statuses = statuses

    def rows_of(self, operation: str) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if operation in row.operations)

    def roles_of(self, operation: str) -> frozenset[str]:
        return frozenset(role for row in self.rows_of(operation) for role in row.roles)

    def allowed(self, state: str) -> list[str]:
        """The operations that have a success in this state; what the exchange does by itself is none."""
        operations = dict.fromkeys(name for row in self.rows for name in row.operations if name.startswith("$"))
        return [
            each
            for each in operations
            if any(cell.error is None for row in self.rows_of(each) for cell in row.cells[state])
        ]

    def effective(self, state: str, holds: Holds) -> str:
        """What a stored state means now; the rules apply top to bottom, each at most once."""
        for source, guards, target in self._effective:
            if state == source and all(map(holds, guards)):
                state = target
        return state

    def decide(self, operation: str, state: str, holds: Holds, *, is_current: bool = True) -> Cell:
        """The first refusal, in the order of checks, of an operation in an effective state; or its success.

        `is_current` is False when If-Match names another version. Required guards are asked in that order,
        and no further than the first that fails.
        """
        row = next((each for each in self.rows_of(operation) if all(map(holds, each.given))), None)
        if row is None:
            return self._unplaced(operation, holds)
        if not row.cells[state]:
            raise LookupError(f"{row.id} cannot occur in state {state}")
        cell = next(each for each in row.cells[state] if all(map(holds, each.guards)))
        checks: list[tuple[str, Callable[[], Cell | None]]] = []
        if cell.error is not None:  # of its step it is the first: "409 and 422 after the state"
            checks.append((cell.error, lambda: cell))
        checks += [(str(guard.fails), partial(self._required, guard, holds)) for guard in self._requires(row)]
        checks.append(("RX-VERSION", lambda: None if is_current else self._refusal("RX-VERSION")))
        for _, check in sorted(checks, key=lambda each: self._rank(each[0])):
            refusal = check()
            if refusal is not None:
                return refusal
        return cell

    def first_broken(self, operation: str, holds: Holds, *, besides: Iterable[str] = ()) -> str | None:
        """The code of the first guard that an operation requires, those of `besides` apart, and that does not hold."""
        required = [guard for row in self.rows_of(operation) for guard in self._requires(row)]
        ranked = sorted(
            (guard for guard in required if guard.name not in besides), key=lambda guard: self._rank(str(guard.fails))
        )
        return next((guard.fails for guard in ranked if not holds(guard.name)), None)

    def _unplaced(self, operation: str, holds: Holds) -> Cell:
        """The refusal of a caller to whom no variant applies: the check before the state that they fail."""
        required = (guard for row in self.rows_of(operation) for guard in self._requires(row))
        fails = next((guard.fails for guard in required if not holds(guard.name)), None)
        return self._refusal(fails or "RX-NOT-FOUND")

    def _requires(self, row: Row) -> Iterable[Guard]:
        return (self.guards[name] for name in row.requires)

    def _required(self, guard: Guard, holds: Holds) -> Cell | None:
        return None if holds(guard.name) else self._refusal(str(guard.fails))

    def _refusal(self, code: str) -> Cell:
        return Cell(http=self._statuses[code], error=code, is_rule=True)

    def _rank(self, code: str) -> int:
        """The place of a code in the order of checks: the step that names it, else the step of its status."""
        for place, step in enumerate(self._order):
            if code in step.replace(",", "").split():
                return place
        status = str(self._statuses[code])
        return next(place for place, step in enumerate(self._order) if step.startswith(status))


def _row(data: Mapping[str, Any]) -> Row:
    return Row(
        id=data["id"],
        operations=tuple(data["op"]),
        roles=tuple(data["roles"]),
        given=tuple(data["given"]),
        requires=tuple(data["requires"]),
        cells={state: tuple(filter(None, map(_cell, cells))) for state, cells in data["cells"].items()},
    )


def _cell(data: Mapping[str, Any]) -> Cell | None:
    if data.get("unreachable"):
        return None
    return Cell(
        http=data.get("http", 200),
        next=data.get("next"),
        error=data.get("error"),
        guards=tuple(data.get("if", ())),
    )
