"""Alerts are answered by who takes care of the person: accepted, then completed (Task.status).

Whoever accepts an alert ends its escalation in the same commit. The Task changes by these operations only: nobody can
make an alert, or change what one says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

from passerelle.access import Request, Touched
from passerelle.audit.commands import account_of, once
from passerelle.consents.decision import Admission, Standing
from passerelle.directory.model import CARE_ROLES
from passerelle.errors import Conflict, Forbidden, NotFound, Stale, Unprocessable
from passerelle.journal import Change, Journal
from passerelle.monitoring.model import WatchChange
from passerelle.monitoring.ports import People, Watches
from passerelle.patients.model import Person
from passerelle.records.model import RecordVersion, StoredVersion
from passerelle.records.ports import RecordStore
from passerelle.records.service import RecordService, announced

_RACES: Final = 8


class Admissions(Protocol):
    def admission(self, caller: Any, person: Person, at: datetime) -> tuple[Admission, Standing]: ...


class AnsweredTasks(Protocol):
    """Implemented by the FHIR boundary."""

    def status_of(self, body: bytes) -> str | None:
        """The status of an alert's Task; None for any other Task."""

    def answered(self, request: Request, stored: StoredVersion, status: str, note: str) -> RecordVersion:
        """The Task after an answer of the caller."""


class AnsweringService:
    """`pause` waits before another attempt, the longer the more (from 0) were in vain."""

    def __init__(
        self,
        *,
        records: RecordService,
        store: RecordStore,
        people: People,
        admissions: Admissions,
        watches: Watches,
        tasks: AnsweredTasks,
        journal: Journal,
        pause: Callable[[int], None],
    ) -> None:
        self._records = records
        self._store = store
        self._people = people
        self._admissions = admissions
        self._watches = watches
        self._tasks = tasks
        self._journal = journal
        self._pause = pause

    def acknowledge(self, request: Request, id: str) -> StoredVersion:
        """Accept an alert; one that is accepted stays as it is. Raises Conflict for one that is over."""
        return self._answer(request, id, {"requested": "accepted"}, same=("accepted",), note="")

    def resolve(self, request: Request, id: str, note: str) -> StoredVersion:
        """Complete an alert, accepted before or not; one that is completed stays as it is."""
        nexts = {"requested": "completed", "accepted": "completed"}
        return self._answer(request, id, nexts, same=("completed",), note=note)

    def _answer(
        self, request: Request, id: str, nexts: Mapping[str, str], *, same: tuple[str, ...], note: str
    ) -> StoredVersion:
        def run() -> tuple[str, int]:
            for attempt in range(_RACES - 1):
                try:
                    return self._once(request, id, nexts, same, note)
                except Stale:
                    self._pause(attempt)
            return self._once(request, id, nexts, same, note)

        def restored(kept: Mapping[str, Any]) -> tuple[str, int]:
            return kept["id"], kept["version"]

        _, version = once(self._journal, request, run, restored)
        return self._records.read_version(request, "Task", id, version)

    def _once(
        self, request: Request, id: str, nexts: Mapping[str, str], same: tuple[str, ...], note: str
    ) -> tuple[str, int]:
        seen = self._records.read(request, "Task", id)
        whole = self._store.find_latest(seen.key)
        patient = seen.key.patient
        if whole is None or whole.body is None or patient is None:
            raise NotFound()
        status = self._tasks.status_of(whole.body)
        if status is None:
            raise Unprocessable("the task is no alert", code="business-rule", expression="Task.code")
        self._check(request, patient, whole)
        touched = Touched.of([patient], [whole.reference])
        if status in same:
            self._journal.commit(account_of(request, touched, {"id": id, "version": whole.version}))
            return id, whole.version
        if status not in nexts:
            raise Conflict("the alert is over", expression="Task.status")
        changed = self._tasks.answered(request, whole, nexts[status], note)
        watch = self._watches.find([patient]).get(patient)
        changes: list[Change] = [changed]
        if watch is not None and watch.alert_of(id) is not None:
            changes.append(WatchChange(before=watch, after=watch.answered(id)))
        account = account_of(request, touched, {"id": id, "version": changed.version})
        self._journal.commit([*changes, *announced(request, [changed]), *account])
        return id, changed.version

    def _check(self, request: Request, patient: str, task: StoredVersion) -> None:
        """Raise Forbidden for whoever does not take care of the person, and did not write the plan."""
        caller = request.caller
        person = self._people.find_person(patient)
        if person is None:
            raise NotFound()
        _, standing = self._admissions.admission(caller, person, request.at)
        takes_care = standing.is_attending or standing.relation is not None or caller.organisation == task.producer
        if caller.role not in CARE_ROLES or not takes_care:
            raise Forbidden("an alert is answered by who takes care of the person")
