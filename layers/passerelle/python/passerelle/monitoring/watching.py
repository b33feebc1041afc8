"""What the exchange looks at by itself: what was expected and did not come, alerts that nobody answers, new values.

`run` may come late, twice, or beside another. The wake-ups of a person are worked off in one transaction, with whatever
comes of them; it holds only while the watch is the one that was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from passerelle.access import Caller, Request, Scopes, Touched
from passerelle.audit.model import audit_of
from passerelle.errors import Busy, Stale
from passerelle.identifiers import new_ulid
from passerelle.journal import Change, Journal
from passerelle.monitoring.evaluation import Monitor
from passerelle.monitoring.model import DueWake, WakeAttended, WatchChange
from passerelle.monitoring.ports import People
from passerelle.patients.model import Person

_WATCHER: Final = Caller(client_id="watch", organisation="", role="system", scopes=Scopes(frozenset()), token_id="")
_AT_ONCE: Final = 8
_ATTEMPTS: Final = 8  # at a person who keeps being measured
UNANSWERED: Final = "alert-unanswered"
_WAKES: Final = 40  # worked off in one transaction, which has a hundred actions


class WatchingService:
    """`in_parallel` runs calls at once and returns their results in order.

    `incident` counts what an operator has to know, by its name.
    """

    def __init__(
        self,
        *,
        people: People,
        monitor: Monitor,
        journal: Journal,
        in_parallel: Callable[..., tuple[Any, ...]],
        pause: Callable[[int], None],
        incident: Callable[[str], None],
    ) -> None:
        self._incident = incident
        self._people = people
        self._monitor = monitor
        self._journal = journal
        self._in_parallel = in_parallel
        self._pause = pause

    def run(self, at: datetime) -> None:
        """Work off what is due; what fails is left for the next run, and raised when everything else is done."""
        by_patient: dict[str, list[DueWake]] = {}
        for wake in self._monitor.watches.due(at):
            by_patient.setdefault(wake.patient, []).append(wake)
        calls = [partial(self._tried, patient, wakes, at) for patient, wakes in by_patient.items()]
        failures: list[Exception] = []
        for start in range(0, len(calls), _AT_ONCE):
            outcomes = self._in_parallel(*calls[start : start + _AT_ONCE])
            failures += [each for each in outcomes if each is not None]
        if failures:
            raise failures[0]

    def _tried(self, patient: str, wakes: Sequence[DueWake], at: datetime) -> Exception | None:
        try:
            for start in range(0, len(wakes), _WAKES):
                self.attend(patient, wakes[start : start + _WAKES], at)
        except Exception as failure:  # noqa: BLE001 - one keeps no other waiting: `run` raises it at the end
            return failure
        return None

    def attend(self, patient: str, wakes: Sequence[DueWake], at: datetime) -> None:
        """Look at the person of a source record that has these wake-ups."""
        for attempt in range(_ATTEMPTS):
            person = self._people.find_person(patient)
            if person is None or person.is_erased:
                self._monitor.watches.drop(wakes)
                return
            try:
                self._attend(patient, person, wakes, at)
            except Stale:
                self._pause(attempt)
            else:
                return
        raise Busy(headers={"Retry-After": "1"})

    def _attend(self, patient: str, person: Person, wakes: Sequence[DueWake], at: datetime) -> None:
        request = Request(caller=_WATCHER, name="watch", action="U", request_id=new_ulid(at), at=at, base_url="")
        observations = list(dict.fromkeys(each for wake in wakes for each in wake.observations))
        outlook, visits, readings = self._in_parallel(
            lambda: self._monitor.outlook(person, at),
            lambda: self._monitor.plans.visits(person.members, at),
            lambda: self._monitor.plans.readings(observations),
        )
        evaluations = dict(outlook.evaluations)
        for visit in visits:
            if visit.patient not in evaluations:
                evaluations[visit.patient] = self._monitor.evaluation(person, visit.patient, None, (), at)
        earliest = min((each.earliest() for each in evaluations.values()), default=at)
        sightings = self._monitor.plans.sightings(person.members, earliest) if earliest < at else ()
        changes: list[Change] = []
        alerts: list[str] = []
        unanswered = 0
        for owner, evaluation in evaluations.items():
            mine = [each for each in visits if each.patient == owner]
            evaluation.received(readings)
            evaluation.judged(sightings, mine)
            came = self._monitor.consequences(request, person, evaluation, wakes_at=evaluation.next_wake(mine))
            changes += came.changes
            alerts += came.alerts
            unanswered += came.unanswered
        moved = {each.after.patient for each in changes if isinstance(each, WatchChange)}
        stale = [wake for wake in wakes if wake.id is not None or wake.patient not in moved]
        if not changes:
            self._monitor.watches.drop(stale)
            return
        for _ in range(unanswered):
            self._incident(UNANSWERED)  # before it is stored: rather twice than never
        touched = Touched.of(_people_of(patient, alerts), alerts)
        self._journal.commit([*changes, *(WakeAttended(wake=each) for each in stale), *audit_of(request, touched)])


def _people_of(patient: str, references: Iterable[str]) -> list[str]:
    return [patient, *(each.partition("/")[2].partition("-")[0] for each in references)]
