"""Care plans, goals, appointments and encounters as monitoring reads them (FHIR R4 CarePlan, Goal, Timing).

    CarePlan.goal -> Goal.target              measure, detailRange or detailQuantity with a comparator: what a value
                                              should be
    CarePlan.activity.detail                  code and scheduledTiming or scheduledPeriod: what is expected, how often
    Appointment, Encounter                    of the class or type of a home visit: when somebody is expected

    {SITE}/StructureDefinition/monitoring-alert-after   on a target: `outside` of the last `among` values raise an
                                                        alert, `back` in range end it (positiveInt each)

What cannot be told is said (`Plan.unevaluable`), with the element and the reason; nothing passes in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import partial
from typing import Any, Final

from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import date_range, written
from passerelle.fhir.monitoring.measurements import in_measure, labels_of, readings_of
from passerelle.monitoring.measures import VISIT, home_visits, measure, measure_of, minutes, observations, policy
from passerelle.monitoring.model import (
    Expectation,
    Plan,
    Reading,
    Sighting,
    Threshold,
    Unevaluable,
    Visit,
    VisitState,
)
from passerelle.monitoring.rhythm import Rhythm, midnight
from passerelle.records.model import ResourceKey
from passerelle.records.ports import Indexed, RecordStore, Scan
from passerelle.records.search import BEGINNING, END, Entry

SITE: Final = "https://passerelle.example"
ALERT_AFTER: Final = f"{SITE}/StructureDefinition/monitoring-alert-after"
_OVER: Final = frozenset({"completed", "cancelled", "stopped", "entered-in-error", "on-hold"})
_PURSUED: Final = frozenset({"|accepted", "|active"})
_STANDS: Final = frozenset({"|final", "|amended", "|corrected"})
_PRESENT: Final = frozenset({"|arrived", "|triaged", "|in-progress", "|onleave", "|finished"})
_EXPECTED: Final = frozenset({"|booked", "|pending", "|planned"})
_CAME: Final = frozenset({"|arrived", "|checked-in", "|fulfilled", *_PRESENT})
_WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FORMAT: Final = "%Y%m%d%H%M%S"
_EARLIEST_YEAR: Final = 1900
_LATEST_YEAR: Final = 2999
_LONGEST: Final = 366  # hours, days or weeks

Value = Mapping[str, Any]


class RecordPlans:
    """`monitoring.ports.Plans` of the record store; `in_parallel` runs independent reads at once."""

    def __init__(self, store: RecordStore, in_parallel: Callable[..., tuple[Any, ...]]) -> None:
        self._store = store
        self._in_parallel = in_parallel

    def plans(self, patients: Sequence[str], at: datetime) -> Sequence[Plan]:
        pages = self._entries(patients, ("CarePlan", "Goal"))
        wanted = [(each.key, each.version) for each in pages if _is_in_force(each, at)]
        if not any(key.type == "CarePlan" for key, _ in wanted):
            return ()
        stored = self._store.versions(wanted)
        bodies = {key.reference: fhir_json.loads(each.body) for (key, _), each in stored.items() if each.body}
        plans = []
        for (key, _), each in stored.items():
            if key.type == "CarePlan" and each.body is not None and key.patient is not None:
                plan = read_plan(bodies[key.reference], bodies, key, each.producer)
                if plan.over_at is None or plan.over_at > at:
                    plans.append(plan)
        return sorted(plans, key=lambda plan: plan.reference)

    def visits(self, patients: Sequence[str], at: datetime) -> Sequence[Visit]:
        since = written((at - timedelta(days=policy()["visitsLookedBackDays"])).astimezone(UTC))[:12]
        found = self._entries(patients, ("Appointment", "Encounter"), Scan(between=(since, "9" * 12)))
        kept: set[str] = set()
        for each in found:  # an appointment is kept by whoever comes, whatever becomes of it itself
            if each.key.type == "Encounter" and _is_one_of(each.entry, "status", _PRESENT):
                kept.update(each.entry.values.get("appointment", ()))
        return [visit for each in found if (visit := _visit(each, kept)) is not None]

    def sightings(self, patients: Sequence[str], since: datetime) -> Sequence[Sighting]:
        between = Scan(between=(written(since.astimezone(UTC))[:12], "9" * 12))
        found = self._entries(patients, ("Observation", "Encounter"), between)
        return [sighting for each in found for sighting in _sightings(each.entry, each.key.type)]

    def readings(self, observations: Sequence[tuple[str, int]]) -> Sequence[Reading]:
        keys = [(_key(reference, self._store), version) for reference, version in observations]
        stored = self._store.versions([(key, version) for key, version in keys if key is not None])
        return [
            reading
            for (key, _), each in stored.items()
            if each.body is not None
            for reading in readings_of(fhir_json.loads(each.body), key.reference)
        ]

    def _entries(self, patients: Sequence[str], types: Iterable[str], scan: Scan | None = None) -> list[Indexed]:
        reads = [partial(self._store.entries, each, type, scan or Scan()) for each in patients for type in types]
        return [entry for page in self._in_parallel(*reads) for entry in page.entries]


def _key(reference: str, store: RecordStore) -> ResourceKey | None:
    kind, _, id = reference.partition("/")
    return ResourceKey.of(kind, id) or store.find_key(kind, id)


# --- entries --------------------------------------------------------------------------------------------------------


def _is_one_of(entry: Entry, name: str, values: frozenset[str]) -> bool:
    """Statuses are kept with their system, or without."""
    return any(f"|{each.rpartition('|')[2]}" in values for each in entry.values.get(name, ()))


def _is_in_force(each: Indexed, at: datetime) -> bool:
    if each.key.type == "Goal":
        return _is_one_of(each.entry, "lifecycle-status", _PURSUED)
    return _is_one_of(each.entry, "status", frozenset({"|active"}))


def _period(entry: Entry) -> tuple[datetime | None, datetime | None]:
    """The first and the last second of the date of an entry."""
    for each in entry.values.get("date", ()):
        first, _, last = each.partition("/")
        return (
            None if first == BEGINNING else datetime.strptime(first, _FORMAT).replace(tzinfo=UTC),
            None if last == END else datetime.strptime(last, _FORMAT).replace(tzinfo=UTC),
        )
    return None, None


def _visit(each: Indexed, kept: set[str]) -> Visit | None:
    entry, patient = each.entry, each.key.patient
    names = ("class",) if each.key.type == "Encounter" else ("service-type", "appointment-type")
    if patient is None or not any(not home_visits().isdisjoint(entry.values.get(name, ())) for name in names):
        return None
    first, last = _period(entry)
    if first is None or not _EARLIEST_YEAR <= first.year <= _LATEST_YEAR:
        return None
    # An encounter may begin until its planned end, an appointment at its time.
    is_limited = last is not None and last.year <= _LATEST_YEAR and each.key.type == "Encounter"
    latest = last if last is not None and is_limited else first
    if _is_one_of(entry, "status", _CAME) or each.key.reference in kept:
        state = VisitState.TOOK_PLACE
    elif _is_one_of(entry, "status", _EXPECTED):
        state = VisitState.EXPECTED
    else:
        state = VisitState.CALLED_OFF
    return Visit(patient=patient, reference=each.key.reference, deadline=latest + minutes("visitGrace"), state=state)


def _sightings(entry: Entry, kind: str) -> Iterator[Sighting]:
    first, _ = _period(entry)
    if first is None:
        return
    if kind == "Encounter":
        if _is_one_of(entry, "status", _PRESENT) and not home_visits().isdisjoint(entry.values.get("class", ())):
            yield Sighting(measure=VISIT, at=first)
    elif _is_one_of(entry, "status", _STANDS):
        known = (observations()[code] for code in entry.values.get("code", ()) if code in observations())
        for name in dict.fromkeys(name for each in known for name in each.measures):
            yield Sighting(measure=name, at=first)


# --- a plan ---------------------------------------------------------------------------------------------------------


def read_plan(content: Value, goals: Mapping[str, Value], key: ResourceKey, producer: str | None) -> Plan:
    """What a care plan asks for; `goals` are those in force, by reference."""
    reader = _Reader(content, key.reference, goals)
    period = content.get("period", {})
    return Plan(
        patient=str(key.patient),
        reference=key.reference,
        start=_first(period.get("start")),
        end=_last(period.get("end")),
        thresholds=tuple(reader.thresholds()),
        expectations=tuple(reader.expectations()),
        unevaluable=tuple(reader.unevaluable),
        responsible=_named(content.get("careTeam", ())) or _named(content.get("contributor", ())),
        organisation=_organisation(content),
        producer=producer,
        labels=tuple(dict.fromkeys(label for each in (content, *reader.goals) for label in labels_of(each))),
    )


def _named(references: Iterable[Value]) -> tuple[Value, ...]:
    """Without those to what the plan itself contains: an alert is read without it."""
    return tuple(each for each in references if not each.get("reference", "").startswith("#"))


def _organisation(content: Value) -> Value | None:
    """On call for the plan: an organisation among those who answer for it."""
    answering = [each for each in (content.get("author"), *content.get("contributor", ())) if each]
    return next((each for each in _named(answering) if _is_organisation(each)), None)


def _is_organisation(reference: Value) -> bool:
    return reference.get("type") == "Organization" or "Organization/" in reference.get("reference", "")


@dataclass(slots=True)
class _UnsaidError(Exception):
    """What cannot be told from measurements, and why."""

    reason: str


class _Reader:
    def __init__(self, content: Value, reference: str, goals: Mapping[str, Value]) -> None:
        self._content = content
        self._reference = reference
        self._goals = goals
        self.goals: list[Value] = []  # those that the plan names
        self.unevaluable: list[Unevaluable] = []

    def _unsaid(self, expression: str, reason: str) -> None:
        self.unevaluable.append(Unevaluable(expression=expression, reason=reason))

    # --- targets --------------------------------------------------------------------------------------------------

    def thresholds(self) -> Iterator[Threshold]:
        for number, named in enumerate(self._content.get("goal", ())):
            place = f"CarePlan.goal[{number}]"
            goal = self._goal(str(named.get("reference", "")))
            if goal is None:
                self._unsaid(place, "no goal in force is known")
                continue
            reference, content = goal
            self.goals.append(content)
            if not content.get("target"):
                self._unsaid(place, "the goal has no target")
            for position, target in enumerate(content.get("target", ())):
                try:
                    yield _threshold(target, f"{self._reference}#{reference}.target[{position}]", reference)
                except _UnsaidError as unsaid:
                    self._unsaid(f"{place}.target[{position}]", unsaid.reason)

    def _goal(self, reference: str) -> tuple[str, Value] | None:
        if reference.startswith("#"):
            for each in self._content.get("contained", ()):
                if f"#{each.get('id')}" == reference and f"|{each.get('lifecycleStatus')}" in _PURSUED:
                    return reference, each
            return None
        plain = "Goal/" + reference.rpartition("Goal/")[2].partition("/_history/")[0]
        return (plain, self._goals[plain]) if plain in self._goals else None

    # --- activities -----------------------------------------------------------------------------------------------

    def expectations(self) -> Iterator[Expectation]:
        for number, activity in enumerate(self._content.get("activity", ())):
            detail = activity.get("detail")
            if detail is None or detail.get("status") in _OVER or detail.get("doNotPerform"):
                continue
            names = _expected_of(detail.get("code", {}))
            for name in names:
                place = f"CarePlan.activity[{number}].detail"
                try:
                    rhythm = self._rhythm(detail)
                except _UnsaidError as unsaid:
                    self._unsaid(place, unsaid.reason)
                    break
                yield Expectation(
                    key=f"{self._reference}#activity[{number}]:{name}",
                    measure=name,
                    rhythm=rhythm,
                    performers=_named(detail.get("performer", ())),
                )

    def _rhythm(self, detail: Value) -> Rhythm:
        plan = self._content.get("period", {})
        start, end = _first(plan.get("start")), _last(plan.get("end"))
        if "scheduledPeriod" in detail:
            period = detail["scheduledPeriod"]
            if "start" not in period or "end" not in period:
                raise _UnsaidError("the period has no start, or no end")
            return Rhythm(start=_first(period["start"]), end=_last(period["end"]), is_once=True)
        repeat = detail.get("scheduledTiming", {}).get("repeat")
        if not repeat:
            raise _UnsaidError("no timing is given that repeats")
        strange = set(repeat) - _UNDERSTOOD
        if strange:
            raise _UnsaidError("the timing says more than is understood")
        unit = repeat.get("periodUnit", "d")
        period_of = repeat.get("period", 1)
        if unit not in ("h", "d", "wk") or period_of != int(period_of) or not 1 <= period_of <= _LONGEST:
            raise _UnsaidError("the timing has another period than hours, days or weeks")
        bounds = repeat.get("boundsPeriod", {})
        return Rhythm(
            frequency=repeat.get("frequency", 1),
            period=int(period_of),
            unit=unit,
            times=tuple(_time_of_day(each) for each in repeat.get("timeOfDay", ())),
            days=frozenset(_WEEKDAYS.index(each) for each in repeat.get("dayOfWeek", ())),
            start=_first(bounds.get("start")) or start,
            end=_last(bounds.get("end")) or end,
        )


def _time_of_day(text: str) -> time:
    try:
        return time.fromisoformat(text[:5])
    except ValueError:
        raise _UnsaidError("there is no such time of day") from None


_UNDERSTOOD: Final = frozenset({"boundsPeriod", "frequency", "period", "periodUnit", "timeOfDay", "dayOfWeek"})


def _expected_of(concept: Value) -> list[str]:
    """What an activity is: the measures of a device, or a visit; most are neither, and nobody's to watch."""
    for coding in concept.get("coding", ()):
        code = f"{coding.get('system', '')}|{coding.get('code', '')}"
        if code in home_visits():
            return [VISIT]
        if code in observations():
            return [*observations()[code].measures[:1]]
        if code in measure_of():
            return [measure_of()[code]]
    return []


def _threshold(target: Value, key: str, goal: str) -> Threshold:
    codes = [f"{each.get('system', '')}|{each.get('code', '')}" for each in target.get("measure", {}).get("coding", ())]
    name = next((measure_of()[each] for each in codes if each in measure_of()), None)
    if name is None:
        raise _UnsaidError("no device that is known measures this")
    bounds: dict[str, Any] = {**_alert_after(target)}
    if "detailRange" in target:
        for side in ("low", "high"):
            if side in target["detailRange"]:
                bounds[side] = _bound(target["detailRange"][side], name)
    elif "detailQuantity" in target:
        quantity = target["detailQuantity"]
        comparator = quantity.get("comparator")
        if comparator is None:
            raise _UnsaidError("a quantity without a comparator does not say which way is better")
        side = "high" if comparator.startswith("<") else "low"
        bounds |= {side: _bound(quantity, name), f"excludes_{side}": not comparator.endswith("=")}
    if "low" not in bounds and "high" not in bounds:
        raise _UnsaidError("the target is no range and no quantity")
    return Threshold(key=key, goal=goal, measure=name, **bounds)


def _bound(quantity: Value, name: str) -> Any:
    value = in_measure(quantity, name)
    if value is None:
        raise _UnsaidError(f"the unit is none of {', '.join(measure(name).factors)}")
    return value


def _alert_after(target: Value) -> dict[str, int]:
    found = {"outside": 1, "among": 1, "back": int(policy()["backInRange"])}
    for extension in target.get("extension", ()):
        if extension.get("url") == ALERT_AFTER:
            for part in extension.get("extension", ()):
                if part.get("url") in found and isinstance(part.get("valuePositiveInt"), int):
                    found[part["url"]] = min(part["valuePositiveInt"], _MOST)
    if found["outside"] > found["among"]:
        raise _UnsaidError("more values are asked for than are looked at")
    return found


_MOST: Final = 50  # values that are remembered


def _first(text: Any) -> datetime | None:
    """When a date begins, in Paris; an instant itself."""
    return None if text is None else _moment(str(text), is_end=False)


def _last(text: Any) -> datetime | None:
    return None if text is None else _moment(str(text), is_end=True)


def _moment(text: str, *, is_end: bool) -> datetime | None:
    """None for a year that is written to say that there is no limit."""
    first, last = date_range(text)
    second = datetime.strptime(last if is_end else first, _FORMAT).replace(tzinfo=UTC)
    if not _EARLIEST_YEAR <= second.year <= _LATEST_YEAR:
        return None
    if "T" in text:
        return second
    if is_end:
        return midnight(second.date() + timedelta(days=1)) - timedelta(seconds=1)
    return midnight(second.date())
