"""Documents as they are enclosed in mail: read as the subscriber would read them now, and recorded as read by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from passerelle.access import Request, Touched
from passerelle.audit.model import audit_of
from passerelle.audit.ports import AuditTrail
from passerelle.documents.links import READS, RETRIEVES
from passerelle.documents.model import Document, Release
from passerelle.errors import Busy, Fault, PasserelleError
from passerelle.events import Event
from passerelle.fhir import json as fhir_json
from passerelle.fhir import xdm
from passerelle.fhir.disclosure import is_source
from passerelle.fhir.mhd import stored_document
from passerelle.fhir.patient import public_content
from passerelle.notifications.mailbox_carrier import Enclosure
from passerelle.notifications.model import Subscription
from passerelle.patients.reading import PatientReader
from passerelle.records.service import RecordService


class Vault(Protocol):
    def release(self, request: Request, document: Document) -> Release: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MailEnclosures:
    """`notifications.mailbox_carrier.Enclosures`; `source` is the OID of the exchange."""

    records: RecordService
    patients: PatientReader
    documents: Callable[[], Vault]
    trail: AuditTrail
    source: str

    def find(self, subscription: Subscription, event: Event, delivery: str, at: datetime) -> Enclosure | None:
        """None for what is refused, gone, in quarantine, or too large to be sent.

        Busy, Fault and Unavailable are raised: the document may be there the next time.
        """
        owner = subscription.interest.owner
        if not (owner.scopes.permits(READS) and owner.scopes.permits(RETRIEVES)):
            return None
        request = Request(
            caller=owner,
            name="notification",
            action="R",
            request_id=delivery,
            at=at,
            base_url=subscription.base_url,
            recipient=subscription.endpoint.rpartition("@")[2],
        )
        try:
            return self._enclosed(request, event)
        except PasserelleError as refusal:
            if isinstance(refusal, Busy) or refusal.status >= Fault.status:
                raise
            return None

    def _enclosed(self, request: Request, event: Event) -> Enclosure | None:
        found = self.records.read(request, "DocumentReference", event.reference.partition("/")[2])
        document = stored_document(found)
        stored, person = self.patients.read_with_person(request, document.patient)
        release = self.documents().release(request, document)
        if release.data is None:
            return None
        described = fhir_json.loads(found.body or b"{}")
        patient = public_content(stored, person, is_source=is_source(request.caller, stored.traits.identifiers))
        enclosure = Enclosure(
            title=xdm.title(described, patient),
            archive=xdm.archive(described, patient, release.data, source=self.source, at=event.at),
        )
        binary = f"Binary/{document.id}"
        touched = Touched.of([document.patient], [found.reference, binary], [(binary, release.kept.sha256)])
        self.trail.append(audit_of(request, touched))
        return enclosure
