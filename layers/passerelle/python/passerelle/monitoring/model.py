"""Remote monitoring: what a care plan expects of a person at home, and what is known of how it goes.

Issue "In and out", devices. A plan is read from the record each time that it is asked for; a Watch is what has to be
remembered between two looks: which alerts are open, and up to when what was expected was judged. One watch for each
source record that has plans; whoever changes it was the only one since it was read, so that every alert is raised,
escalated and ended once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from passerelle.errors import Stale
from passerelle.journal import Change
from passerelle.monitoring.measures import VISIT
from passerelle.monitoring.rhythm import Rhythm

_LINGERS: Final = timedelta(days=1)  # after the end of a plan, for what was expected last


Labels = tuple[tuple[str, str], ...]
"""System and code of what hides a resource from somebody; whatever comes of it is hidden from the same."""


class AlertKind(StrEnum):
    THRESHOLD = "threshold"
    MISSED_MEASUREMENT = "missed-measurement"
    MISSED_VISIT = "missed-visit"


class Ending(StrEnum):
    """Why an alert ended without anybody answering it."""

    BACK_IN_RANGE = "back-in-range"
    MEASURED = "measured"
    VISITED = "visited"
    NOT_EXPECTED = "not-expected"  # the plan ended or changed, the visit was called off


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A value of an observation, in the unit of its measure; `labels` hide it from somebody."""

    measure: str
    value: Decimal
    at: datetime
    reference: str  # Observation/<id>
    labels: Labels = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """That something was measured, or somebody was there (`measures.VISIT`)."""

    measure: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A target of a goal: what a value should be.

    `outside` of the last `among` values beyond it raise an alert, `back` in a row within it end one. `low` and `high`
    are fine themselves unless they are excluded.
    """

    key: str
    goal: str
    measure: str
    low: Decimal | None = None
    high: Decimal | None = None
    excludes_low: bool = False
    excludes_high: bool = False
    outside: int = 1
    among: int = 1
    back: int = 3

    def is_outside(self, value: Decimal) -> bool:
        is_low = self.low is not None and (value < self.low or (self.excludes_low and value == self.low))
        is_high = self.high is not None and (value > self.high or (self.excludes_high and value == self.high))
        return is_low or is_high


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """An activity that is to be done by a rhythm: a measure, or a visit at home."""

    key: str
    measure: str
    rhythm: Rhythm
    performers: tuple[Mapping[str, Any], ...] = ()

    @property
    def alert(self) -> AlertKind:
        return AlertKind.MISSED_VISIT if self.measure == VISIT else AlertKind.MISSED_MEASUREMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Unevaluable:
    """What of a plan cannot be told from measurements, and why: it is said, and never taken for fine."""

    expression: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An active care plan, or one that begins later, in the collection of the source record `patient`.

    `responsible` are the references of who takes care by it, `organisation` that of whose plan it is; `producer` is the
    organisation (IDNST) that wrote it.
    """

    patient: str
    reference: str
    start: datetime | None = None
    end: datetime | None = None
    thresholds: tuple[Threshold, ...] = ()
    expectations: tuple[Expectation, ...] = ()
    unevaluable: tuple[Unevaluable, ...] = ()
    responsible: tuple[Mapping[str, Any], ...] = ()
    organisation: Mapping[str, Any] | None = None
    producer: str | None = None
    labels: Labels = ()  # of the plan and of its goals

    @property
    def watched(self) -> tuple[Threshold | Expectation, ...]:
        return (*self.thresholds, *self.expectations)

    @property
    def over_at(self) -> datetime | None:
        """When nothing of it is left to be judged."""
        return None if self.end is None else self.end + _LINGERS

    def covers(self, at: datetime) -> bool:
        return (self.start is None or self.start <= at) and (self.end is None or at <= self.end)


class VisitState(StrEnum):
    EXPECTED = "expected"
    TOOK_PLACE = "took-place"
    CALLED_OFF = "called-off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A visit at home that was arranged (an Appointment, an Encounter); `deadline` is the latest that it may begin."""

    patient: str
    reference: str
    deadline: datetime
    state: VisitState


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert that nobody answered yet. `task` is the id of its Task, `tier` whose turn it is to answer.

    `count` is how often what it is about happened, `focus` what is to be looked at; `since` when what is missed should
    have been begun; `in_range` how many values in a row were fine again.
    """

    key: str  # of its concern
    task: str
    kind: AlertKind
    focus: str
    raised_at: datetime
    plan: str = ""
    goal: str | None = None
    tier: int = 0
    escalates_at: datetime | None = None
    count: int = 1
    since: datetime | None = None
    in_range: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Concern:
    """What is remembered of a threshold, an expectation or a visit.

    `since` is when it was first looked at: nothing before is judged. `judged_until` is up to when it was. `recent` has
    a letter for each of the last values: `o` outside, `i` within.
    """

    key: str
    since: datetime
    judged_until: datetime | None = None
    recent: str = ""
    alert: Alert | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """`revision` counts its versions from 1; `wakes_at` is when the exchange looks at it by itself."""

    patient: str
    revision: int = 0
    wakes_at: datetime | None = None
    concerns: tuple[Concern, ...] = ()

    def alert_of(self, task: str) -> Alert | None:
        return next((each.alert for each in self.concerns if each.alert is not None and each.alert.task == task), None)

    def answered(self, task: str) -> Watch:
        """Without an alert that somebody answered."""
        concerns = tuple(
            replace(each, alert=None, recent="") if each.alert is not None and each.alert.task == task else each
            for each in self.concerns
        )
        return replace(self, concerns=concerns, revision=self.revision + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchChange(Change):
    """The watch becomes `after`; raises WatchMovedError unless it still is `before` (None: there is none)."""

    before: Watch | None
    after: Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake(Change):
    """The exchange looks at a person soon: something was written that a watch depends on.

    `observations` (each a reference and a version) are values that nobody has compared with thresholds yet.
    """

    patient: str
    at: datetime
    id: str  # a ulid
    observations: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DueWake:
    """A wake-up whose time has come; `place` is where the store has it. `id` is None for that of the watch itself."""

    patient: str
    place: str
    id: str | None = None
    observations: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeAttended(Change):
    """A wake-up is worked off."""

    wake: DueWake


class WatchMovedError(Stale):
    """Somebody else changed the watch: look again."""


# --- as it is stored ------------------------------------------------------------------------------------------------


def watch_to_map(watch: Watch) -> list[dict[str, Any]]:
    """The concerns as JSON, without what is as it always is."""
    return [_written(each) for each in watch.concerns]


def concerns_of(listed: list[dict[str, Any]]) -> tuple[Concern, ...]:
    return tuple(_concern(each) for each in listed)


_TIMES = frozenset({"since", "judged_until", "raised_at", "escalates_at"})


def _written(value: Concern | Alert) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in type(value).__slots__:
        held = getattr(value, name)
        if isinstance(held, datetime):
            held = held.isoformat()
        if held not in (None, ""):
            found[name] = _written(held) if isinstance(held, Alert) else held
    return found


def _concern(content: Mapping[str, Any]) -> Concern:
    alert = content.get("alert")
    return Concern(**{**_read(content), "alert": Alert(**_alert(alert)) if alert else None})


def _alert(content: Mapping[str, Any]) -> dict[str, Any]:
    return {**_read(content), "kind": AlertKind(content["kind"])}


def _read(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: datetime.fromisoformat(held) if name in _TIMES else held for name, held in content.items()}
