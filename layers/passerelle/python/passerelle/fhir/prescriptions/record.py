"""What becomes part of the patient's record: MedicationRequest and MedicationDispense."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from passerelle.fhir import json as fhir_json
from passerelle.fhir.index import entry_of
from passerelle.fhir.prescriptions import requests
from passerelle.fhir.prescriptions.orders import STRUCTURE, plain
from passerelle.fhir.resource import stamped
from passerelle.identifiers import new_resource_id
from passerelle.journal import Change
from passerelle.prescriptions.model import (
    Ask,
    Group,
    LateSupply,
    LedgerEntry,
    Line,
    OrderLine,
    Prescription,
    Supply,
)
from passerelle.records.model import Placement, RecordVersion, ResourceKey, StoredVersion

Json = Mapping[str, Any]


class FhirClinicalRecord:
    """`prescriptions.ports.ClinicalRecord`."""

    def signed_line(self, group: Group, line: Line) -> Json:
        content: Json = plain({"id": line.request_id, **request_of(group, line, "active")})
        return content

    def request_version(self, group: Group, line: Line, at: datetime) -> Change:
        stored = stamped(request_of(group, line), line.request_id, line.request_version, at)
        entry = entry_of(stored)
        return RecordVersion(
            key=ResourceKey(type="MedicationRequest", id=line.request_id, patient=group.patient),
            version=line.request_version,
            at=at,
            body=fhir_json.dumps(stored),
            entry=entry,
            # authoredOn never changes: every version has its entry at the same place
            previous=Placement(sort_at=entry.sort_at) if line.request_version > 1 else None,
            is_managed=True,
        )

    def renewed(self, line: Line, prescriber: str, today: date) -> OrderLine:
        return requests.renewed(line, prescriber, today)

    def following(self, order: OrderLine, line: Line) -> OrderLine:
        return requests.following(order, line)

    def amended(self, line: Line, order: OrderLine) -> OrderLine:
        return requests.amended(line, order)

    def ask_version(self, group: Group, line: Line, ask: Ask, at: datetime) -> tuple[Change, str]:
        return requests.ask_version(group, line, ask, at)

    def late_versions(
        self, prescription: Prescription, late: LateSupply, supply: Supply, at: datetime
    ) -> tuple[tuple[Change, Change], tuple[str, str]]:
        return requests.late_versions(prescription, late, supply, at)

    def dispense_version(
        self, group: Group, line: Line, entry: LedgerEntry, supply: Supply, at: datetime
    ) -> tuple[Change, str]:
        stored = stamped(requests.with_own(supply, group, line, entry.organisation, at), entry.dispense_id, 1, at)
        body = fhir_json.dumps(stored)
        change = RecordVersion(
            key=ResourceKey(type="MedicationDispense", id=entry.dispense_id, patient=group.patient),
            version=1,
            at=at,
            body=body,
            entry=entry_of(stored),
            is_managed=True,
        )
        return change, body.decode()

    def withdrawn_version(self, group: Group, stored: StoredVersion, reason: str, at: datetime) -> tuple[Change, str]:
        dispense: dict[str, Any] = fhir_json.loads(stored.body or b"{}")
        before = entry_of(dispense)
        dispense["status"] = "entered-in-error"
        dispense["statusReasonCodeableConcept"] = _reason(group, reason)
        after = stamped(dispense, stored.key.id, stored.version + 1, at)
        body = fhir_json.dumps(after)
        change = RecordVersion(
            key=stored.key,
            version=stored.version + 1,
            at=at,
            body=body,
            entry=entry_of(after),
            previous=Placement(sort_at=before.sort_at),
            is_managed=True,
        )
        return change, body.decode()

    def declined_version(
        self, group: Group, line: Line, reason: str, organisation: str, at: datetime
    ) -> tuple[Change, str]:
        id = new_resource_id(group.patient, at)
        request = fhir_json.loads(line.request.encode())
        medication = {name: value for name, value in request.items() if name.startswith("medication")}
        contained = {"contained": request["contained"]} if "contained" in request else {}
        declined = {
            "resourceType": "MedicationDispense",
            **contained,
            "status": "declined",
            "statusReasonCodeableConcept": _reason(group, reason),
            **medication,
            "subject": {"reference": f"Patient/{group.patient}"},
            "performer": [{"actor": {"identifier": {"system": STRUCTURE, "value": organisation}}}],
            "authorizingPrescription": [{"reference": f"MedicationRequest/{line.request_id}"}],
        }
        stored = stamped(declined, id, 1, at)
        change = RecordVersion(
            key=ResourceKey(type="MedicationDispense", id=id, patient=group.patient),
            version=1,
            at=at,
            body=fhir_json.dumps(stored),
            entry=entry_of(stored),
            is_managed=True,
        )
        return change, f"MedicationDispense/{id}"


def _reason(group: Group, code: str) -> Json:
    return {"coding": [{"system": f"{group.base_url}/CodeSystem/rx-status-reason", "code": code}]}


def request_of(group: Group, line: Line, status: str | None = None) -> dict[str, Any]:
    """The MedicationRequest of a line, as it is now."""
    request: dict[str, Any] = fhir_json.loads(line.request.encode())
    request["status"] = status or request_status(line)
    request["groupIdentifier"] = {
        "system": f"{group.base_url}/sid/prescription-number",
        "value": group.number,
    }
    of_line = {"system": f"{group.base_url}/sid/prescription-line", "value": f"{group.number}-{line.number:02d}"}
    request["identifier"] = [*request.get("identifier", []), of_line]
    reason = "expired" if line.state == "X" else line.cancel_reason
    if reason is not None:
        system = f"{group.base_url}/CodeSystem/rx-status-reason"
        request["statusReason"] = {"coding": [{"system": system, "code": reason}]}
    return request


def request_status(line: Line) -> str:
    """MedicationRequest.status of a line (contract, section 6.1)."""
    if line.state == "K":  # R4 `cancelled` means that nothing was supplied
        return "cancelled" if line.remaining_total == line.total or not line.fill_no else "stopped"
    statuses = {"D": "draft", "F": "completed", "N": "stopped", "X": "stopped", "E": "entered-in-error"}
    return statuses.get(line.state, "active")
