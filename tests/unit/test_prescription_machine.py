"""Any commands in any order, right or wrong, as time passes: the contract's laws hold after each (section 19, item 7).

Each script runs in two exchanges. One stores lapsed leases and ended validities as they come, the other never does: all
answers are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from passerelle.access import Caller
from passerelle.errors import PasserelleError
from passerelle.fhir.prescriptions.reminders import FhirMessages
from passerelle.prescriptions import history, reminders
from passerelle.prescriptions.asking import AskTarget
from passerelle.prescriptions.commands import Target, line_task_id
from passerelle.prescriptions.model import AskedChange, ChangeAnswer, Outcome, Prescription, RenewalAnswer
from passerelle.prescriptions.sweeping import Sweeping
from passerelle.prescriptions.transitions import STATES
from tests.medicines import small_base
from tests.prescribing import (
    PATIENT,
    PHARMACY_A,
    PHARMACY_B,
    PRACTICE,
    MemoryExchange,
    Region,
    code_of,
    later,
    medication_request,
    region_in_memory,
    request,
    supply_of,
    tried,
)
from tests.unit.test_prescription_law import NARCOTIC, WORDS, coded, order
from tests.unit.test_prescription_matrix import everything

PHARMACIES = st.sampled_from([PHARMACY_A, PHARMACY_B])
LINES = st.sampled_from([(), (1,), (2,), (1, 2)])
LINE = st.integers(1, 2)
NEWEST = st.integers(0, 3)  # of what a caller knows: the newest, or an older one


@dataclass
class World:
    """An exchange with one prescription, and what callers know of it: codes, secrets, supplies."""

    here: Region
    id: str
    codes: list[str]
    is_swept: bool
    secrets: list[tuple[Caller, str]] = field(default_factory=lambda: [(PHARMACY_A, "never given")])
    ended: dict[int, str] = field(default_factory=dict)

    @property
    def store(self) -> MemoryExchange:
        assert isinstance(self.here.store, MemoryExchange)
        return self.here.store

    @property
    def stored(self) -> Prescription:
        return self.here.stored(self.id)

    def code(self, age: int) -> str:
        return self.codes[-1 - age % len(self.codes)]

    def secret(self, age: int) -> tuple[Caller, str]:
        return self.secrets[-1 - age % len(self.secrets)]

    def dispense_id(self, age: int) -> str | None:
        made = [each.dispense_id for each in self.stored.ledger if each.kind == "supply"]
        return made[-1 - age % len(made)] if made else None

    def states(self, at: datetime) -> str:
        """As the prescriber reads them."""
        view = self.here.service.read(request(PRACTICE, "read", at=at, key=None), Target.of(self.id))
        return "".join(line.state for line in view.prescription.lines)

    def sweep(self, at: datetime) -> None:
        if self.is_swept:
            Sweeping(self.here.service, wakes=self.store, messages=FhirMessages()).run(at)


Command = Callable[[World], Outcome]


def begun(fills: int, units: int, *, is_swept: bool) -> World:
    """A line with repeats, and one of a narcotic, of which lateness costs."""
    here = region_in_memory(small_base())
    supply = {"quantity": {"value": units, "unit": "comprimé"}, "numberOfRepeatsAllowed": fills - 1}
    plain = medication_request(here.patient, dispenseRequest=supply)
    id, code = here.issued(plain, {**order(here, NARCOTIC, 14, WORDS), "authoredOn": plain["authoredOn"]})
    return World(here, id, [code], is_swept)


class Prescriptions(RuleBasedStateMachine):
    @initialize(fills=st.integers(1, 3), units=st.integers(1, 12))
    def issue(self, fills: int, units: int) -> None:
        self.worlds = [begun(fills, units, is_swept=is_swept) for is_swept in (True, False)]
        self.minutes = 0

    @property
    def at(self) -> datetime:
        return later(minutes=self.minutes)

    def attempt(self, command: Command, by: Caller | None = None) -> None:
        answers = [self._attempted(world, command, by) for world in self.worlds]
        assert answers[0] == answers[1]

    def _attempted(self, world: World, command: Command, by: Caller | None) -> tuple[object, ...]:
        before = everything(world.store)
        done = tried(partial(command, world))
        if isinstance(done, PasserelleError):
            assert done.status in (400, 403, 404, 409, 410, 422)
            assert everything(world.store) == before
            return done.status, code_of(done), world.states(self.at)
        if done.secret and by is not None:
            world.secrets.append((by, done.secret))
        if done.access_code and done.prescription.group.id == world.id:
            world.codes.append(done.access_code)
        return done.status, done.lines, world.states(self.at)

    @rule(minutes=st.sampled_from([1, 60, 121, 60 * 24 * 2, 60 * 24 * 20]))
    def time_passes(self, minutes: int) -> None:
        self.minutes += minutes
        for world in self.worlds:
            world.sweep(self.at)
        assert self.worlds[0].states(self.at) == self.worlds[1].states(self.at)

    @rule(caller=PHARMACIES, lines=LINES, recover=st.booleans(), code=NEWEST, overrides=st.booleans())
    def accept(self, caller: Caller, lines: tuple[int, ...], recover: bool, code: int, overrides: bool) -> None:
        def accept(world: World) -> Outcome:
            return world.here.accept(
                world.id,
                world.code(code),
                *lines,
                caller=caller,
                recover=recover,
                override_routing=overrides,
                at=self.at,
            )

        self.attempt(accept, caller)

    @rule(units=st.integers(0, 13), line=LINE, secret=NEWEST)
    def dispense(self, units: int, line: int, secret: int) -> None:
        def dispense(world: World) -> Outcome:
            caller, known = world.secret(secret)
            changes = coded(NARCOTIC) if line == 2 else None
            return world.here.dispense(world.id, known, units, line=line, caller=caller, at=self.at, changes=changes)

        self.attempt(dispense)

    @rule(line=LINE, secret=NEWEST)
    def dispense_the_rest(self, line: int, secret: int) -> None:
        def dispense(world: World) -> Outcome:
            caller, known = world.secret(secret)
            units = world.stored.lines[line - 1].remaining_fill // 1_000_000
            changes = coded(NARCOTIC) if line == 2 else None
            return world.here.dispense(world.id, known, units, line=line, caller=caller, at=self.at, changes=changes)

        self.attempt(dispense)

    @rule(age=NEWEST, caller=PHARMACIES)
    def withdraw(self, age: int, caller: Caller) -> None:
        def withdraw(world: World) -> Outcome:
            made = world.dispense_id(age) or f"{world.here.patient}-00000000000000000000000000"
            done = world.here.withdraw(made, caller=caller, at=self.at)
            for number in done.lines:
                if world.ended.get(number) == "F":
                    del world.ended[number]
            return done

        self.attempt(withdraw)

    @rule(lines=LINES, secret=NEWEST)
    def reject(self, lines: tuple[int, ...], secret: int) -> None:
        def reject(world: World) -> Outcome:
            caller, known = world.secret(secret)
            return world.here.reject(world.id, known, *lines, caller=caller, at=self.at)

        self.attempt(reject)

    @rule(secret=NEWEST, progress=st.sampled_from(["preparing", "awaiting-stock", "ready-to-collect"]))
    def extend(self, secret: int, progress: str) -> None:
        def extend(world: World) -> Outcome:
            caller, known = world.secret(secret)
            return world.here.extend(world.id, known, progress, caller=caller, at=self.at)

        self.attempt(extend)

    @rule(lines=LINES, secret=NEWEST, closes=st.booleans())
    def decline(self, lines: tuple[int, ...], secret: int, closes: bool) -> None:
        def decline(world: World) -> Outcome:
            caller, known = world.secret(secret)
            return world.here.decline(
                world.id, known, "patient-refused", *lines, closes=closes, caller=caller, at=self.at
            )

        self.attempt(decline)

    @rule(lines=st.sampled_from([(1,), (2,)]), caller=st.sampled_from([PRACTICE, PATIENT]))
    def cancel(self, lines: tuple[int, ...], caller: Caller) -> None:
        self.attempt(lambda world: world.here.cancel(world.id, *lines, caller=caller, at=self.at))

    @rule(pharmacy=st.sampled_from([PHARMACY_A.organisation, PHARMACY_B.organisation, ""]))
    def route(self, pharmacy: str) -> None:
        self.attempt(lambda world: world.here.route(world.id, pharmacy, at=self.at))

    @rule(line=LINE, caller=st.sampled_from([PATIENT, PHARMACY_A]))
    def ask_for_a_renewal(self, line: int, caller: Caller) -> None:
        def ask(world: World) -> Outcome:
            target = Target.of(line_task_id(world.id, line))
            return world.here.service.request_renewal(request(caller, "$request-renewal", at=self.at), target, None)

        self.attempt(ask)

    @rule(line=LINE, secret=NEWEST)
    def ask_for_a_change(self, line: int, secret: int) -> None:
        def ask(world: World) -> Outcome:
            caller, known = world.secret(secret)
            asked = AskedChange(secret=known, topic="clarify", text="Lisible ?")
            target = Target.of(line_task_id(world.id, line))
            return world.here.service.request_change(request(caller, "$request-change", at=self.at), target, asked)

        self.attempt(ask)

    @rule(number=st.integers(1, 3), answer=st.sampled_from(["approve", "deny"]))
    def answer_a_renewal(self, number: int, answer: str) -> None:
        def respond(world: World) -> Outcome:
            given = RenewalAnswer(answer=answer, reason="visit-needed" if answer == "deny" else None)
            asked = request(PRACTICE, "$respond-renewal", at=self.at)
            return world.here.service.respond_renewal(asked, AskTarget(id=world.id, number=number), given)

        self.attempt(respond)

    @rule(number=st.integers(1, 3))
    def answer_a_change(self, number: int) -> None:
        def respond(world: World) -> Outcome:
            given = ChangeAnswer(answer="clarify", text="500 mg")
            asked = request(PRACTICE, "$respond-change", at=self.at)
            return world.here.service.respond_change(asked, AskTarget(id=world.id, number=number), given)

        self.attempt(respond)

    @rule(line=LINE, units=st.integers(1, 5), caller=PHARMACIES)
    def report_late_supply(self, line: int, units: int, caller: Caller) -> None:
        def report(world: World) -> Outcome:
            asked = request(caller, "$report-late-supply", at=self.at)
            target = Target.of(line_task_id(world.id, line))
            return world.here.service.report_late_supply(asked, target, supply_of(units, "unused"))

        self.attempt(report)

    @invariant()
    def laws_hold(self) -> None:
        for world in getattr(self, "worlds", ()):
            check_laws(world)


def check_laws(world: World) -> None:
    stored = world.stored
    for line in stored.lines:
        supplied = sum(each.quantity for each in stored.supplies_of(line.number))
        lapsed = sum(each.quantity for each in stored.entries_of(line.number) if each.kind == "lapse")
        assert supplied <= line.total
        assert supplied + lapsed + line.remaining_total == line.total
        assert 0 <= line.remaining_fill <= min(line.per_fill, line.remaining_total)
        claims = stored.claims_of(line.number)
        assert sorted(each.fence for each in claims) == list(range(1, line.fence + 1))
        is_claimed = STATES[line.state].kind == "claimed"
        assert (line.owner is not None) is is_claimed is (line.secret_hash is not None) is (line.lease_until > 0)
        if is_claimed:
            (holding,) = (each for each in claims if each.secret_hash == line.secret_hash)
            assert (holding.owner, holding.fence, holding.ended) == (line.owner, line.fence, "")
        if STATES[line.state].kind in ("terminal", "closed-reopenable"):
            assert world.ended.setdefault(line.number, line.state) == line.state
        assert world.ended.get(line.number, line.state) == line.state
    numbers = [(each.line, each.number) for each in stored.ledger]
    assert len(set(numbers)) == len(numbers)
    events = world.store.history[world.id]
    assert history.is_unbroken(events, stored.group.head)
    assert len(events) == stored.group.events
    wakes = [hour for hour, id in world.store.wakes if id == world.id]
    assert wakes == ([stored.group.wakes_at] if stored.group.wakes_at else [])


TestLaws = Prescriptions.TestCase
TestLaws.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_a_sweep_has_something_to_do_in_these_scripts() -> None:
    """Else two exchanges that answer the same would say nothing."""
    world = begun(1, 10, is_swept=True)
    caller = PHARMACY_A
    world.here.accept(world.id, world.codes[0], 1, caller=caller)
    at = later(hours=5)
    assert not reminders.is_quiet(at)
    world.sweep(at)
    assert world.stored.lines[0].state == "R"
    world.sweep(later(days=200))
    assert "".join(line.state for line in world.stored.lines) == "XX"
