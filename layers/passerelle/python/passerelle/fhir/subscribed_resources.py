"""What changed, as a subscriber is told it in full: the answer to a read by id at that moment.

One adapter for everything that is read otherwise in the exchange: source records with what an identity discloses
(contract INS-12), prescriptions, and the record with its masks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from passerelle.access import Caller, Request
from passerelle.errors import Busy, Fault, NotFound, PasserelleError, Unavailable
from passerelle.events import Event
from passerelle.fhir import json as fhir_json
from passerelle.fhir.disclosure import Disclosure, is_source
from passerelle.fhir.patient import public_view
from passerelle.fhir.prescriptions.tasks import render_view
from passerelle.patients.model import Person
from passerelle.patients.reading import PatientReader
from passerelle.prescriptions.commands import Target
from passerelle.prescriptions.service import PrescriptionService
from passerelle.records.service import RecordService


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribedResources:
    """`notifications.ports.Resources`; what only some events need is made when it is asked for."""

    patients: PatientReader
    records: RecordService
    prescriptions: Callable[[], PrescriptionService]
    disclosure: Disclosure

    def body(self, owner: Caller, event: Event, person: Person | None, at: datetime) -> bytes | None:
        """The version that is current, whatever came since: what is not to be known any more is not told late.

        None also where the read would be refused. Nothing is recorded here: whoever sends it accounts for it.
        """
        request = Request(caller=owner, name="read", action="R", request_id="", at=at, base_url="")
        kind, _, id = event.reference.partition("/")
        try:
            if kind == "Patient":
                return self._patient(request, id)
            shown = self.disclosure.of(self._read(request, kind, id), owner)
        except (Busy, Fault, Unavailable):
            raise
        except PasserelleError:
            return None
        return shown if isinstance(shown, bytes) else fhir_json.dumps(shown)

    def _patient(self, request: Request, id: str) -> bytes:
        stored, person = self.patients.read_with_person(request, id)
        return public_view(stored, person, is_source=is_source(request.caller, stored.traits.identifiers))

    def _read(self, request: Request, kind: str, id: str) -> bytes:
        if kind == "Task":
            try:
                return fhir_json.dumps(render_view(self.prescriptions().read(request, Target.of(id))))
            except NotFound:  # no prescription: one of the record's own Tasks
                pass
        found = self.records.read(request, kind, id)
        assert found.body is not None  # else it is Gone
        return found.body
