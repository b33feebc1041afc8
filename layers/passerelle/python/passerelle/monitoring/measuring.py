"""Batches of measurements from connected devices: each stored once, however often and in whatever order it is sent.

The id of a measurement follows from its device, its code, its time and the patient: what was stored is found by it, and
two that are sent at once cannot both be new. An entry that is refused leaves the others as they are. Whatever alert
arises is committed with the values that it arises from, by one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Protocol

from passerelle.access import Request, Touched
from passerelle.audit.commands import account_of, once
from passerelle.errors import Conflict, Issue, PasserelleError, Stale
from passerelle.identifiers import Blinder, named_ulid
from passerelle.journal import Change, Journal
from passerelle.monitoring.evaluation import Monitor
from passerelle.monitoring.model import Reading
from passerelle.monitoring.ports import Allowance
from passerelle.patients.model import Person
from passerelle.records.model import Draft, ResourceKey, StoredVersion, Subject
from passerelle.records.ports import RecordStore
from passerelle.records.service import Plan, RecordService, Target, announced

_RACES: Final = 16
_TYPE: Final = "Observation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A valid observation of a device. `device` and `code` tell it from others of the moment `at`; `content` is what it
    says, in a form that is the same for the same values."""

    draft: Draft
    device: str
    code: str
    at: datetime
    content: str
    readings: tuple[Reading, ...]  # without reference

    @property
    def name(self) -> str:
        return f"{self.device}|{self.code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an entry: stored now, found as it was sent (`is_new` False), or refused."""

    reference: str = ""
    version: int = 1
    at: datetime | None = None
    is_new: bool = False
    status: int = 200
    issues: tuple[Issue, ...] = ()


class Contents(Protocol):
    def content_of(self, body: bytes) -> str:
        """What a stored observation says, in the form of `Measurement.content`."""


@dataclass(slots=True)
class _Batch:
    patient: str
    person: Person
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    plans: list[Plan] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)


class MeasuringService:
    """`pause` waits before another attempt, the longer the more (from 0) were in vain."""

    def __init__(
        self,
        *,
        records: RecordService,
        store: RecordStore,
        monitor: Monitor,
        allowance: Allowance,
        contents: Contents,
        journal: Journal,
        blinder: Blinder,
        pause: Callable[[int], None],
    ) -> None:
        self._records = records
        self._store = store
        self._monitor = monitor
        self._allowance = allowance
        self._contents = contents
        self._journal = journal
        self._blinder = blinder
        self._pause = pause

    def submit(
        self, request: Request, subject: Subject, entries: Sequence[Measurement | PasserelleError], *, expression: str
    ) -> Sequence[Outcome]:
        """Store what is new of a patient's measurements; the outcomes in the order of the entries.

        Raises Unprocessable for a patient who is not known, RateExceededError for more than is taken of one.
        """
        patient, person = self._records.owner_for(request, subject, expression=expression)
        self._allowance.take(person.key, len(entries), request.at)

        def run() -> Sequence[Outcome]:
            for attempt in range(_RACES - 1):
                try:
                    return self._store_new(request, patient, person, entries)
                except Stale:  # the same measurements by another way, or another change of the watch
                    self._pause(attempt)
            return self._store_new(request, patient, person, entries)

        return once(self._journal, request, run, _restored)

    def _store_new(
        self, request: Request, patient: str, person: Person, entries: Sequence[Measurement | PasserelleError]
    ) -> Sequence[Outcome]:
        batch = _Batch(patient, person)
        named = self._named(batch, entries)
        outlook, stored = self._monitor.in_parallel(
            lambda: self._monitor.outlook(person, request.at), lambda: self._stored(named.keys())
        )
        for key, numbers in named.items():
            self._settle(request, batch, key, [(each, entries[each]) for each in numbers], stored.get(key))
        changes: list[Change] = [change for plan in batch.plans for change in plan.changes]
        alerts: list[str] = []
        for evaluation in outlook.evaluations.values() if batch.readings else ():
            evaluation.received(batch.readings)
            watch = evaluation.watch
            moments = [each for each in (watch.wakes_at, *evaluation.escalations()) if each is not None]
            came = self._monitor.consequences(request, person, evaluation, wakes_at=min(moments, default=None))
            changes += came.changes
            alerts += came.alerts
        versions = [plan.version for plan in batch.plans if plan.version is not None]
        outcomes = [batch.outcomes[number] for number in range(len(entries))]
        references = [each.reference for each in outcomes if each.reference]
        people = [patient, *(each.partition("/")[2].partition("-")[0] for each in alerts)]
        account = account_of(request, Touched.of(people, [*references, *alerts]), _kept(outcomes))
        self._journal.commit([*changes, *announced(request, versions), *account])
        return outcomes

    def _named(self, batch: _Batch, entries: Sequence[Measurement | PasserelleError]) -> dict[ResourceKey, list[int]]:
        """The entries by what they measure; those that were refused have their outcome."""
        named: dict[ResourceKey, list[int]] = {}
        for number, entry in enumerate(entries):
            if isinstance(entry, PasserelleError):
                batch.outcomes[number] = Outcome(status=entry.status, issues=tuple(entry.issues))
                continue
            name = self._blinder.blind("measurement", f"{entry.name}|{batch.patient}")
            id = f"{batch.patient}-{named_ulid(entry.at, name)}"
            named.setdefault(ResourceKey(type=_TYPE, id=id, patient=batch.patient), []).append(number)
        return named

    def _stored(self, keys: Any) -> Mapping[ResourceKey, StoredVersion]:
        """What devices said first: a correction by somebody else changes nothing of that."""
        found = self._store.versions([(key, 1) for key in keys])
        return {key: version for (key, _), version in found.items()}

    def _settle(
        self,
        request: Request,
        batch: _Batch,
        key: ResourceKey,
        entries: Sequence[tuple[int, Measurement | PasserelleError]],
        stored: StoredVersion | None,
    ) -> None:
        """The outcomes of all entries that are one measurement: with two values, none of them is it."""
        same = [(number, each) for number, each in entries if isinstance(each, Measurement)]
        contents = {each.content for _, each in same}
        known = self._contents.content_of(stored.body) if stored is not None and stored.body is not None else None
        if known is None and stored is None and len(contents) == 1:
            number, first = same[0]
            made = self._planned(request, batch, key, first)
            for other, _ in same:
                batch.outcomes[other] = made
            if made.status == 201:
                for other, _ in same[1:]:
                    batch.outcomes[other] = Outcome(reference=key.reference, at=request.at)
            return
        for number, each in same:
            if stored is not None and each.content == known:
                batch.outcomes[number] = Outcome(reference=key.reference, at=stored.at)
            else:
                refusal = Conflict("this device measured something else at that time", expression=f"{_TYPE}.value")
                batch.outcomes[number] = Outcome(status=refusal.status, issues=tuple(refusal.issues))

    def _planned(self, request: Request, batch: _Batch, key: ResourceKey, measurement: Measurement) -> Outcome:
        target = Target(key=key, current=None, person=batch.person)
        try:
            plan = self._records.plan_create(request, measurement.draft, target)
            self._records.check_mentioned(request, plan)
        except Stale:
            raise
        except PasserelleError as refusal:
            return Outcome(status=refusal.status, issues=tuple(refusal.issues))
        batch.plans.append(plan)
        batch.readings += [_of(each, key.reference) for each in measurement.readings]
        return Outcome(reference=key.reference, at=request.at, is_new=True, status=201)


def _of(reading: Reading, reference: str) -> Reading:
    return replace(reading, reference=reference)


def _kept(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "entries": [
            {
                "reference": each.reference,
                "at": each.at.isoformat() if each.at else None,
                "is_new": each.is_new,
                "status": each.status,
                "issues": [[issue.code, issue.diagnostics, issue.expression] for issue in each.issues],
            }
            for each in outcomes
        ]
    }


def _restored(kept: Mapping[str, Any]) -> Sequence[Outcome]:
    return [
        Outcome(
            reference=each["reference"],
            at=datetime.fromisoformat(each["at"]) if each["at"] else None,
            is_new=each["is_new"],
            status=each["status"],
            issues=tuple(
                Issue(code=code, diagnostics=text, expression=expression) for code, text, expression in each["issues"]
            ),
        )
        for each in kept["entries"]
    ]
