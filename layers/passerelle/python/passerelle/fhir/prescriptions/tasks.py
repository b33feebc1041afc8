"""A prescription as Tasks, and the answers of the operations (e-prescription contract, sections 4 and 6.1).

The group is one Task, each line another (`partOf`); what is told only once (number, access code, claim secret) is a
Parameters resource at the head of the answer. Extensions and code systems have the FHIR base that the prescription was
created at as their root:

    StructureDefinition/rx-claim                fence, leaseUntil                       on a line Task
    StructureDefinition/rx-ledger               authorised, dispensed, remaining, fillNo  on a line Task
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from passerelle.access import Touched
from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import instant
from passerelle.fhir.prescriptions.elements import AUTHOR, FHIR_JSON, JOSE, concept, extension, organisation
from passerelle.fhir.prescriptions.issues import check_parameters, issue_entries, issue_parameters
from passerelle.fhir.prescriptions.orders import RPPS
from passerelle.fhir.prescriptions.record import request_of
from passerelle.fhir.prescriptions.requests import signature_of
from passerelle.fhir.resource import stamped
from passerelle.prescriptions.asking import ask_task_id
from passerelle.prescriptions.checking import signed_digest
from passerelle.prescriptions.commands import line_task_id
from passerelle.prescriptions.model import Group, Line, Outcome, Prepared, Prescription, View
from passerelle.prescriptions.quantities import decimal_of
from passerelle.prescriptions.regulation import forms_of
from passerelle.prescriptions.signature import NOT_CHECKED
from passerelle.prescriptions.transitions import STATES

Json = Mapping[str, Any]


def render(outcome: Outcome) -> Json:
    """The answer to a command."""
    if outcome.dispense is not None:
        return _supplied(outcome, outcome.dispense)
    group = outcome.prescription.group
    told = _told_once(outcome)
    entries = [_entry(group, _group_task(outcome.prescription))]
    entries += [_entry(group, _line_task(outcome.prescription, line)) for line in _concerned(outcome)]
    if outcome.secret is not None:
        entries += [_entry(group, _medication_request(group, line)) for line in _concerned(outcome)]
        entries += signed_entries(group)
        entries += _changes_signed(outcome)
    entries += [_entry(group, fhir_json.loads(each.encode())) for each in outcome.resources]
    if outcome.checks is not None:
        told += check_parameters(outcome.checks)
        entries += issue_entries(outcome.checks)
    head = [{"resource": {"resourceType": "Parameters", "parameter": told}}] if told else []
    return {"resourceType": "Bundle", "type": "collection", "entry": [*head, *entries]}


def group_and_line_tasks(prescription: Prescription) -> list[Json]:
    """All Tasks of a prescription, the group first."""
    return [_group_task(prescription), *(_line_task(prescription, line) for line in prescription.lines)]


def render_view(view: View) -> Json:
    """The group Task, or the line Task that was asked for."""
    line = view.prescription.line(view.line) if view.line is not None else None
    return _line_task(view.prescription, line) if line else _group_task(view.prescription)


def render_prepared(prepared: Prepared) -> Json:
    """What to sign: `protected`, a dot and base64url of `content` are the JWS input (RFC 7515, 5.1)."""
    content = prepared.content.encode()
    protected = base64.urlsafe_b64encode(fhir_json.dumps(prepared.protected)).decode().rstrip("=")
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "content", "valueBase64Binary": base64.b64encode(content).decode()},
            {"name": "sha256", "valueString": hashlib.sha256(content).hexdigest()},
            {"name": "protected", "valueString": protected},
            *([{"name": "cdsDigest", "valueString": prepared.digest}] if prepared.digest == NOT_CHECKED else []),
            *check_parameters(prepared.checks),
            *issue_parameters(prepared.checks),
        ],
    }


def touched(group: Group) -> Touched:
    """What the answer to a read discloses."""
    return Touched.of([group.patient], [f"Task/{group.id}/_history/{group.version}"])


def headers(outcome: Outcome) -> dict[str, str]:
    """ETag of what was changed: the line for a supply, else the group."""
    group = outcome.prescription.group
    version = group.version if outcome.dispense is None else _concerned(outcome)[0].version
    found = {"ETag": f'W/"{version}"'}
    if outcome.status == 201:
        made = outcome.resources[0] if outcome.resources else None
        id = fhir_json.loads(made.encode())["id"] if made else group.id
        found["Location"] = f"{group.base_url}/Task/{id}"
    if outcome.is_replay:
        found["Idempotency-Replayed"] = "true"
    return found


def _concerned(outcome: Outcome) -> list[Line]:
    return [line for line in outcome.prescription.lines if line.number in outcome.lines]


def _told_once(outcome: Outcome) -> list[Json]:
    group = outcome.prescription.group
    told: list[Json] = []
    if group.version == 1:
        told.append({"name": "number", "valueString": group.number})
    if outcome.access_code is not None:
        told.append({"name": "accessCode", "valueString": outcome.access_code})
        told.append({"name": "qr", "valueUri": f"{group.base_url}/r/{group.number}#{outcome.access_code}"})
    if outcome.secret is not None:
        told.append({"name": "secret", "valueString": outcome.secret})
        for line in _concerned(outcome):
            told.append(
                {
                    "name": "claim",
                    "part": [
                        {
                            "name": "line",
                            "valueReference": {"reference": f"Task/{line_task_id(group.id, line.number)}"},
                        },
                        {"name": "fence", "valuePositiveInt": line.fence},
                        {"name": "leaseUntil", "valueInstant": instant_of(line.lease_until)},
                    ],
                }
            )
    return told


def _supplied(outcome: Outcome, dispense: str) -> Json:
    (line,) = _concerned(outcome)
    entry = outcome.prescription.entries_of(line.number)[-1]
    is_same_fill = entry.fill_no == line.fill_no
    told: list[Json] = [
        {"name": "dispense", "resource": fhir_json.loads(dispense.encode())},
        {"name": "task", "resource": _line_task(outcome.prescription, line)},
        {"name": "remaining", "valueDecimal": decimal_of(line.remaining_fill if is_same_fill else 0)},
    ]
    if not is_same_fill and line.not_before is not None:
        told.append({"name": "nextAllowed", "valueDate": line.not_before.isoformat()})
    told += [{"name": "notChecked", "valueCode": each} for each in outcome.not_checked]
    if outcome.checks is not None:
        told += [*check_parameters(outcome.checks), *issue_parameters(outcome.checks)]
    return {"resourceType": "Parameters", "parameter": [*told, *_told_once(outcome)]}


def _group_task(prescription: Prescription) -> Json:
    group = prescription.group
    task: dict[str, Any] = {
        **_task_head(group, group.id, group.version),
        "status": _group_status([line.state for line in prescription.lines]),
        "input": [{"type": {"text": "cdsDigest"}, "valueString": signed_digest(group)}],
    }
    for ask in prescription.asks:
        if ask.is_open:
            reference = f"Task/{ask_task_id(group.id, ask.number)}"
            task["input"].append({"type": {"text": "request"}, "valueReference": {"reference": reference}})
    forms = [_form(group, *each) for each in forms_of(prescription.lines)]
    if forms:
        task["extension"] = forms
    if group.signed is not None:
        task["focus"] = {"reference": _binary_url(group.id), "type": "Binary"}
    if group.routed_to:  # "" is one that the caller is not to know
        task["restriction"] = {"recipient": [organisation(group.routed_to)]}
    return task


def _form(group: Group, code: str, national: str | None) -> Json:
    form = concept(group, "rx-form", code)
    if national is not None:
        system, _, value = national.partition("|")
        form = {"coding": [*form["coding"], {"system": system, "code": value}]}
    return {"url": f"{group.base_url}/StructureDefinition/rx-form", "valueCodeableConcept": form}


def _group_status(states: Sequence[str]) -> str:
    """Group status, computed on read (contract, section 6.1)."""
    kinds = {STATES[state].kind for state in states}
    if kinds == {"draft"}:
        return "draft"
    if "claimed" in kinds:
        return "in-progress"
    if kinds & {"draft", "open"}:
        return "ready"
    statuses = {STATES[state].task_status for state in states}
    return statuses.pop() if len(statuses) == 1 else "completed"


def _draft(group: Group, line: Line) -> tuple[list[Json], list[Json]]:
    """The MedicationRequest of a draft with what it contains, side by side as R4 wants it, and a reference to it."""
    request = request_of(group, line)
    beside = request.pop("contained", [])
    name = "request"
    while name in {each.get("id") for each in beside}:
        name += "-"
    return [{**request, "id": name}, *beside], [{"reference": f"#{name}"}]


def _line_task(prescription: Prescription, line: Line) -> Json:
    group, state = prescription.group, STATES[line.state]
    task: dict[str, Any] = {
        **_task_head(group, line_task_id(group.id, line.number), line.version),
        "partOf": [{"reference": f"Task/{group.id}"}],
        "status": state.task_status,
    }
    if state.business_statuses:
        status = _business_status(prescription, line)
        task["businessStatus"] = concept(group, "rx-business-status", status)
    if line.cancel_reason is not None:
        task["statusReason"] = concept(group, "rx-status-reason", line.cancel_reason)
    if state.kind == "draft":  # what is not signed is no part of the record, so that nothing there can be named
        task["contained"], task["basedOn"] = _draft(group, line)
        return task
    task["basedOn"] = [{"reference": f"MedicationRequest/{line.request_id}"}]
    supplies = prescription.supplies_of(line.number)
    extensions = []
    if line.owner is not None:
        task["owner"] = organisation(line.owner)
        claim: dict[str, Json] = {
            "fence": {"valuePositiveInt": line.fence},
            "leaseUntil": {"valueInstant": instant_of(line.lease_until)},
        }
        extensions.append(extension(group, "rx-claim", claim))
    if line.not_before is not None and line.expires_on is not None:
        last = line.expires_on - timedelta(days=1)
        task["restriction"] = {"period": {"start": line.not_before.isoformat(), "end": last.isoformat()}}
        ledger: dict[str, Json] = {
            "authorised": {"valueDecimal": decimal_of(line.total)},
            "dispensed": {"valueDecimal": decimal_of(sum(each.quantity for each in supplies))},
            "remaining": {"valueDecimal": decimal_of(line.remaining_fill)},
            "fillNo": {"valuePositiveInt": line.fill_no},
        }
        lapsed = sum(each.quantity for each in prescription.entries_of(line.number) if each.kind == "lapse")
        if lapsed:
            ledger["lapsed"] = {"valueDecimal": decimal_of(lapsed)}
        extensions.append(extension(group, "rx-ledger", ledger))
    if extensions:
        task["extension"] = extensions
    if supplies:
        task["output"] = [
            {
                "type": {"text": "supply"},
                "valueReference": {"reference": f"MedicationDispense/{each.dispense_id}"},
            }
            for each in supplies
        ]
    return task


def _business_status(prescription: Prescription, line: Line) -> str:
    """The one of those of the state that says most: what the holder said, where it goes, what was supplied."""
    first, *others = STATES[line.state].business_statuses
    was_supplied = bool(prescription.supplies_of(line.number))
    is_routed = prescription.group.routed_to is not None
    said = (line.progress, "routed" if is_routed else None, "closed-incomplete" if was_supplied else None)
    return next((each for each in said if each in others), first)


def _task_head(group: Group, id: str, version: int) -> dict[str, Any]:
    number = {"system": f"{group.base_url}/sid/prescription-number", "value": group.number}
    return {
        "resourceType": "Task",
        "id": id,
        "meta": {"versionId": str(version), "lastUpdated": instant(datetime.fromisoformat(group.updated_at))},
        "groupIdentifier": number,
        "intent": "order",
        "code": concept(group, "rx-task", "fulfil-prescription"),
        "for": {"reference": f"Patient/{group.patient}"},
        "authoredOn": group.authored_on.isoformat(),
        "requester": {"identifier": {"system": RPPS, "value": group.prescriber}},
    }


def _medication_request(group: Group, line: Line) -> Json:
    at = datetime.fromisoformat(group.updated_at)
    return stamped(request_of(group, line), line.request_id, line.request_version, at)


def signed_entries(group: Group) -> list[Json]:
    """The signed bytes and the signature, for a pharmacy to verify by itself."""
    if group.signed is None or group.jws is None:
        return []
    signature = {
        "type": [AUTHOR],
        "when": group.signed_at,
        "who": {"identifier": {"system": RPPS, "value": group.prescriber}},
        "targetFormat": FHIR_JSON,
        "sigFormat": JOSE,
        "data": base64.b64encode(group.jws.encode()).decode(),
    }
    return _signed(_binary_url(group.id), group.signed, signature)


def _changes_signed(outcome: Outcome) -> list[Json]:
    """The same of the changes that were approved since: of these lines, they are in force."""
    id = outcome.prescription.group.id
    return [
        entry
        for ask in outcome.prescription.standing_asks
        if ask.approved is not None and ask.line in outcome.lines
        for entry in _signed(_binary_url(f"{id}-{ask.number}"), ask.approved, signature_of(ask))
    ]


def _signed(url: str, content: str, signature: Json) -> list[Json]:
    binary = {
        "resourceType": "Binary",
        "contentType": FHIR_JSON,
        "data": base64.b64encode(content.encode()).decode(),
    }
    provenance = {
        "resourceType": "Provenance",
        "target": [{"reference": url}],
        "recorded": signature["when"],
        "agent": [{"who": signature["who"]}],
        "signature": [signature],
    }
    return [{"fullUrl": url, "resource": binary}, {"resource": provenance}]


def _binary_url(name: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_URL, name).urn


def _entry(group: Group, resource: Json) -> Json:
    return {"fullUrl": f"{group.base_url}/{resource['resourceType']}/{resource['id']}", "resource": resource}


def instant_of(milliseconds: int) -> str:
    return instant(datetime.fromtimestamp(milliseconds / 1000, UTC))
