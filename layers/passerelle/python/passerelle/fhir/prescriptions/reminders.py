"""What recipients are told of a prescription, as a CommunicationRequest of the patient's record.

E-prescription contract, section 14. It names kinds, lines (as Tasks) and a recipient, and says it in French, with the
English translation; it names no medicine, so that a gateway may send its text as it is.

    category    {base}/CodeSystem/rx-reminder, one for each kind
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import instant
from passerelle.fhir.index import entry_of
from passerelle.fhir.prescriptions.elements import concept, organisation
from passerelle.fhir.resource import stamped
from passerelle.identifiers import named_ulid
from passerelle.journal import Change
from passerelle.prescriptions.commands import line_task_id
from passerelle.prescriptions.model import Group, Prescription
from passerelle.prescriptions.reminders import Reminder, policy
from passerelle.records.model import RecordVersion, ResourceKey

_TYPE = "CommunicationRequest"
_TRANSLATION = "http://hl7.org/fhir/StructureDefinition/translation"


class FhirMessages:
    """`prescriptions.ports.Messages`."""

    def message(self, prescription: Prescription, reminders: Sequence[Reminder], at: datetime) -> tuple[Change, str]:
        group, name = prescription.group, "|".join(sorted(each.id for each in reminders))
        id = f"{group.patient}-{named_ulid(max(each.at for each in reminders), name)}"
        stored = stamped(communication_request(group, reminders, at), id, 1, at)
        key = ResourceKey(type=_TYPE, id=id, patient=group.patient)
        body, entry = fhir_json.dumps(stored), entry_of(stored, base_url=group.base_url)
        return RecordVersion(key=key, version=1, at=at, body=body, entry=entry, is_managed=True), f"{_TYPE}/{id}"


def communication_request(group: Group, reminders: Sequence[Reminder], at: datetime) -> dict[str, Any]:
    """What one recipient is told."""
    first = reminders[0]
    kinds = list(dict.fromkeys(each.kind for each in reminders))
    lines = sorted({number for each in reminders for number in each.lines})
    return {
        "resourceType": _TYPE,
        "status": "active",
        "category": [concept(group, "rx-reminder", kind) for kind in kinds],
        "subject": {"reference": f"Patient/{group.patient}"},
        "about": [{"reference": f"Task/{line_task_id(group.id, number)}"} for number in lines],
        "payload": [_payload(policy()["texts"][kind][first.to]) for kind in kinds],
        "authoredOn": instant(at),
        "recipient": [_recipient(group, first)],
    }


def _payload(text: Mapping[str, str]) -> dict[str, Any]:
    english = [{"url": "lang", "valueCode": "en"}, {"url": "content", "valueString": text["en"]}]
    return {
        "contentString": text["fr"],
        "_contentString": {"extension": [{"extension": english, "url": _TRANSLATION}]},
    }


def _recipient(group: Group, reminder: Reminder) -> dict[str, Any]:
    if reminder.to == "patient":
        return {"reference": f"Patient/{group.patient}"}
    return {"type": "Organization", **organisation(reminder.organisation)}
