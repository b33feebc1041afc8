"""The patient feed as its subscribers get it: Patients in messages (IHE PMIR 1.5.1, ITI-93 sent for ITI-94)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import parse_qsl
from uuid import NAMESPACE_URL, uuid5

from passerelle.access import Caller
from passerelle.events import Event, EventName
from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import instant
from passerelle.fhir.disclosure import is_source
from passerelle.fhir.index import entry_of
from passerelle.fhir.patient import public_content
from passerelle.fhir.pmir import FEED, feed_bundle
from passerelle.fhir.search import parse_query
from passerelle.fhir.subscription import FHIR_XML
from passerelle.notifications.model import Interest, Subscription
from passerelle.patients.model import Person, StoredPatient
from passerelle.records.search import matches


class SourceRecords(Protocol):
    """What is read of source records (`patients.ports.PatientStore`)."""

    def find(self, patient: str) -> StoredPatient | None: ...

    def find_version(self, patient: str, version: int) -> StoredPatient | None: ...


class FhirPatientFeed:
    """`notifications.ports.Feed`."""

    def __init__(self, store: SourceRecords) -> None:
        self._store = store

    def meets(self, interest: Interest, event: Event, person: Person) -> bool:
        """Searches what the owner may see: that a hidden identifier matches would tell it."""
        query = interest.filter.query
        assert event.patient is not None
        assert query is not None
        stored = (
            self._store.find(event.patient)
            or self._store.find_version(event.patient, event.version)
            or self._store.find_version(event.patient, event.version - 1)
        )
        if stored is None:
            return False
        entry = entry_of(_view(stored, person, interest.owner))
        return matches(entry, parse_query("Patient", parse_qsl(query)).query)

    def message(self, subscription: Subscription, event: Event, person: Person, delivery: str, at: datetime) -> bytes:
        """The current version, whatever came since: what is not to be known any more is not sent late.

        Its MessageHeader has the same id at every attempt.
        """
        assert event.patient is not None
        base_url = subscription.base_url
        stored = self._store.find(event.patient)
        if stored is None:
            told = _removed(event)
        else:
            told = _changed(event, stored, _view(stored, person, subscription.interest.owner))
        entry = {"fullUrl": f"{base_url}/{event.reference}", **told}
        history = {"resourceType": "Bundle", "type": "history", "entry": [entry]}
        header = {"destination": [{"endpoint": subscription.endpoint}]}
        id = str(uuid5(NAMESPACE_URL, f"{base_url}/Subscription/{delivery}"))
        message = feed_bundle(FEED, id, history, header, base_url=base_url, at=at)
        if subscription.payload == FHIR_XML:
            from passerelle.fhir import xml as fhir_xml  # few subscribers ask for XML

            return fhir_xml.dumps(message)
        return fhir_json.dumps(message)


def _view(stored: StoredPatient, person: Person, owner: Caller) -> Mapping[str, Any]:
    return public_content(stored, person, is_source=is_source(owner, stored.traits.identifiers))


def _removed(event: Event) -> dict[str, Any]:
    response = {"status": "200", "lastModified": instant(event.at)}
    return {"request": {"method": "DELETE", "url": event.reference}, "response": response}


def _changed(event: Event, stored: StoredPatient, view: Mapping[str, Any]) -> dict[str, Any]:
    is_new = event.version == 1 and event.name is EventName.IDENTITY_CHANGED
    response = {
        "status": "201" if is_new else "200",
        "location": f"{event.reference}/_history/{stored.version}",
        "etag": f'W/"{stored.version}"',
        "lastModified": instant(stored.at),
    }
    request = {"method": "POST", "url": "Patient"} if is_new else {"method": "PUT", "url": event.reference}
    return {"resource": view, "request": request, "response": response}
