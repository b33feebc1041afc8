"""What follows once a person is erased: pointers, key and contents of each source record, in this order.

Look-up items are named by what the record says, so that they go while it can be read; the key is next, and with it all
that was sealed, in tables, objects, queues and backups. Every step may be made again: whoever is interrupted starts
over, and finds less to do. Meanwhile the gate refuses everybody (`service.py`).

Salts of the verifiable log are derived from the key (`aws/audit.py`): the tree still proves that no leaf was changed,
and no guess of what one stood for can be tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from passerelle.access import Caller, Request, Scopes, Touched
from passerelle.audit.model import audit_of
from passerelle.erasure.model import QuestionsDropped
from passerelle.erasure.ports import Contents, Keys
from passerelle.errors import Stale
from passerelle.identifiers import new_ulid
from passerelle.journal import Change, Journal
from passerelle.patients.model import SourceRecordChange
from passerelle.patients.ports import PatientIndex
from passerelle.patients.registration import Kept, Registrar

_ERASER: Final = Caller(client_id="erase", organisation="", role="", scopes=Scopes(frozenset()), token_id="")
_RACES: Final = 5
_QUESTIONS: Final = 20  # dropped at a time


class Eraser:
    def __init__(
        self,
        *,
        index: PatientIndex,
        registrar: Registrar,
        journal: Journal,
        keys: Keys,
        contents: Contents,
        pause: Callable[[int], None],
    ) -> None:
        self._index = index
        self._registrar = registrar
        self._journal = journal
        self._keys = keys
        self._contents = contents
        self._pause = pause

    def erase(self, patient: str, at: datetime) -> bool:
        """Finish the erasure of a source record; False for one that nobody asked to have erased."""
        person = self._index.find_person(patient)
        if person is None or not person.is_erased:
            return False
        self._unlist(patient, at)
        self._keys.destroy(patient, at)
        self._contents.purge(patient)
        return True

    def _unlist(self, patient: str, at: datetime) -> None:
        """Take the source record out of the index, and every question about it out of the stewards' worklist."""
        kept = self._registrar.find(patient)
        if kept is None or not kept.stored.body:  # removed before, or not legible any more
            return
        reviews = kept.reviews
        for start in range(0, len(reviews), _QUESTIONS):
            self._commit([QuestionsDropped(reviews=reviews[start : start + _QUESTIONS])], patient, at)
        for attempt in range(_RACES):
            try:
                self._commit([self._unlisted(kept, at)], patient, at)
            except Stale:  # a registration that began before takes a slot, or gives it up
                if attempt == _RACES - 1:
                    raise
                self._pause(attempt)
                kept = self._registrar.find(patient) or kept
            else:
                return

    def _unlisted(self, kept: Kept, at: datetime) -> SourceRecordChange:
        patient = kept.stored.patient
        owned = (each for each in kept.stored.traits.identifiers if self._index.find_owner(*each) == patient)
        return SourceRecordChange(
            patient=patient, domain_identifier=next(owned, None), before=kept.listing, after=None, at=at
        )

    def _commit(self, changes: Sequence[Change], patient: str, at: datetime) -> None:
        request = Request(caller=_ERASER, name="$erase", action="D", request_id=new_ulid(at), at=at, base_url="")
        self._journal.commit([*changes, *audit_of(request, Touched.of([patient], [f"Patient/{patient}"]))])
