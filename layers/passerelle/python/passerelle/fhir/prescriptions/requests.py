"""Requests to a prescriber and their answers, and supplies that are reported late.

E-prescription contract, sections 5, 8, 12 and 14. A request is a Task of the patient's record (code `renewal-request`
or `change-request`, intent proposal) whose id is `<group id>-r01`. What an answer signs is in its output, so that who
supplies can verify it alone.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import instant
from passerelle.fhir.index import entry_of
from passerelle.fhir.prescriptions.calls import Arguments, BareCall, TaskCall, parse_provenance, target_of
from passerelle.fhir.prescriptions.elements import (
    AUTHOR,
    FHIR_JSON,
    JOSE,
    concept,
    number_of,
    organisation,
)
from passerelle.fhir.prescriptions.faults import check, day, invalid, required
from passerelle.fhir.prescriptions.orders import RPPS, STRUCTURE, order_line, parse_orders, products
from passerelle.fhir.prescriptions.overrides import overrides_in
from passerelle.fhir.prescriptions.supplies import supply_of
from passerelle.fhir.resource import stamped
from passerelle.journal import Change
from passerelle.prescriptions.asking import AskTarget, ask_task_id
from passerelle.prescriptions.commands import PROXIES, Target, line_task_id
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import (
    Ask,
    AskedChange,
    ChangeAnswer,
    Group,
    LateSupply,
    Line,
    Order,
    OrderLine,
    Override,
    Prescription,
    RenewalAnswer,
    Supply,
)
from passerelle.prescriptions.validity import paris_day
from passerelle.records.model import Placement, RecordVersion, ResourceKey

Json = Mapping[str, Any]

MAX_TEXT = 1000  # characters
_MAX_PROPOSAL = 16_000  # bytes
TOPICS = ("therapeutic", "dose", "substitution", "clarify")
RENEWAL_ANSWERS = ("approve", "approve-with-changes", "deny")
CHANGE_ANSWERS = ("approve", "deny", "clarify")
DENIALS = (
    "visit-needed",
    "no-longer-indicated",
    "too-early",
    "already-prescribed",
    "other-prescriber",
    "patient-unknown",
    "clinical-grounds",
)
_ASK_ID = re.compile(r"(?P<group>.+)-r(?P<number>\d\d)", re.ASCII)
_HANDED_OVER = "MedicationDispense.whenHandedOver"
_AHEAD = timedelta(hours=1)  # a clock of a pharmacy may be
_DUPLICATE_THERAPY = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "DUPTHPY"}


# --- in -------------------------------------------------------------------------------------------------------------


def parse_renewal_request(call: BareCall) -> tuple[Target, str | None]:
    """`$request-renewal`: `text`, or no body."""
    return target_of(call), _text(Arguments(call.resource, "text")) if call.body else None


def parse_change_request(call: TaskCall) -> tuple[Target, AskedChange]:
    """`$request-change`: `secret`, `topic`, `text`, and the MedicationRequest that is proposed as `change`."""
    arguments = Arguments(call.resource, "secret", "topic", "text", "change")
    topic, text = _code(arguments, "topic", TOPICS), _text(arguments)
    if topic == "clarify" and text is None:
        raise required("what is to be clarified is told in words", "Parameters.parameter.where(name='text')")
    return target_of(call), AskedChange(
        secret=arguments.get("secret", "valueString"), topic=topic, text=text, proposal=_proposal(arguments)
    )


def parse_renewal_answer(call: TaskCall) -> tuple[AskTarget, RenewalAnswer]:
    """`$respond-renewal`: `answer`, `reason` and `text` of a denial, MedicationRequests as `order`* with changes."""
    arguments = Arguments(call.resource, "answer", "reason", "text", "order")
    answer = _code(arguments, "answer", RENEWAL_ANSWERS)
    orders: Order | None = None
    given = arguments.all("order", "resource")
    if bool(given) != (answer == "approve-with-changes"):
        raise invalid("orders are given with approve-with-changes, and only with it", "Parameters.parameter")
    if given:
        orders = parse_orders(given, "Parameters.parameter.where(name='order')")
    return _ask_of(call), RenewalAnswer(
        answer=answer,
        orders=orders.lines if orders else (),
        patient=orders.patient if orders else None,
        reason=_reason(arguments, answer),
        text=_text(arguments),
    )


def parse_change_answer(call: TaskCall) -> tuple[AskTarget, ChangeAnswer]:
    """`$respond-change`: `answer`; `reason` to deny, `text` to clarify; to approve `change` and `provenance`, with
    `override`* and `cdsDigest` as they were prepared."""
    known = ("answer", "reason", "text", "change", "provenance", "override", "cdsDigest")
    arguments = Arguments(call.resource, *known)
    answer, text = _code(arguments, "answer", CHANGE_ANSWERS), _text(arguments)
    if answer == "clarify" and text is None:
        raise required("the answer is told in words", "Parameters.parameter.where(name='text')")
    if answer != "approve":
        if any(arguments.parts(name) for name in ("change", "provenance", "override", "cdsDigest")):
            raise invalid("a change is given to approve it", "Parameters.parameter")
        return _ask_of(call), ChangeAnswer(answer=answer, reason=_reason(arguments, answer), text=text)
    return _ask_of(call), ChangeAnswer(
        answer=answer,
        order=_change(arguments),
        signed=replace(
            parse_provenance(arguments.get("provenance", "resource")),
            overrides=_overrides(arguments),
            digest=arguments.find("cdsDigest", "valueString"),
        ),
        reason=_reason(arguments, answer),
        text=text,
    )


def parse_change(call: TaskCall) -> tuple[AskTarget, OrderLine, tuple[Override, ...]]:
    """`$prepare-change`: the MedicationRequest that is to be approved, as `change`, and `override`*."""
    arguments = Arguments(call.resource, "change", "override")
    return _ask_of(call), _change(arguments), _overrides(arguments)


def parse_late_supply(call: TaskCall) -> tuple[Target, Supply]:
    """`$report-late-supply`: the MedicationDispense of what was handed over, as `dispense`."""
    arguments = Arguments(call.resource, "dispense")
    return target_of(call), supply_of(arguments.get("dispense", "resource"), secret="")


def _ask_of(call: TaskCall) -> AskTarget:
    found = _ASK_ID.fullmatch(call.id)
    if found is None:
        raise rx("RX-NOT-FOUND")
    return AskTarget(id=found["group"], number=int(found["number"]), if_match=call.if_match)


def _change(arguments: Arguments) -> OrderLine:
    return order_line(arguments.get("change", "resource"), "Parameters.parameter.where(name='change').resource")


def _overrides(arguments: Arguments) -> tuple[Override, ...]:
    return overrides_in(arguments.parts("override"), "override", "prescriber")


def _proposal(arguments: Arguments) -> str | None:
    proposal = arguments.find("change", "resource")
    if proposal is None:
        return None
    where = "Parameters.parameter.where(name='change').resource"
    check(proposal, expected_type="MedicationRequest", path=where)
    products(proposal, where)
    if "contained" in proposal:
        raise invalid("a proposal contains no other resource", f"{where}.contained")
    text = fhir_json.dumps({name: each for name, each in proposal.items() if name not in ("id", "meta", "text")})
    if len(text) > _MAX_PROPOSAL:
        raise rx("RX-SIZE", f"a proposal is larger than {_MAX_PROPOSAL} bytes")
    return text.decode()


def _text(arguments: Arguments) -> str | None:
    text: str | None = arguments.find("text", "valueString")
    if text is not None and len(text) > MAX_TEXT:
        raise invalid(f"a text has at most {MAX_TEXT} characters", "Parameters.parameter.where(name='text')")
    return text


def _reason(arguments: Arguments, answer: str) -> str | None:
    """Why: of a denial, and of nothing else."""
    if answer == "deny":
        return _code(arguments, "reason", DENIALS)
    if arguments.all("reason", "valueCode"):
        raise invalid("a reason is given to deny", "Parameters.parameter.where(name='reason')")
    return None


def _code(arguments: Arguments, name: str, codes: Sequence[str]) -> str:
    code: str = arguments.get(name, "valueCode")
    if code not in codes:
        raise rx(
            "RX-INVALID",
            f"{name} is one of {', '.join(codes)}",
            issue="code-invalid",
            expression=f"Parameters.parameter.where(name='{name}')",
        )
    return code


# --- what is prescribed after what ----------------------------------------------------------------------------------


def renewed(line: Line, prescriber: str, today: date) -> OrderLine:
    """The order of a line again, of today; its validity was counted from another day, and stays behind."""
    request: dict[str, Any] = fhir_json.loads(line.request.encode())
    for name in ("priorPrescription", "statusReason", "groupIdentifier"):
        request.pop(name, None)
    if "validityPeriod" in request.get("dispenseRequest", {}):
        supply = {name: each for name, each in request["dispenseRequest"].items() if name != "validityPeriod"}
        request["dispenseRequest"] = supply
    request |= {
        "status": "draft",
        "intent": "order",
        "authoredOn": today.isoformat(),
        "requester": {"identifier": {"system": RPPS, "value": prescriber}},
    }
    return following(order_line(request, "MedicationRequest"), line)


def following(order: OrderLine, line: Line) -> OrderLine:
    """An order that comes after a line, and says so."""
    return _preceded(order, f"MedicationRequest/{line.request_id}")


def amended(line: Line, order: OrderLine) -> OrderLine:
    """The order that a line becomes: when it was first written, and after what, remains."""
    before, after = fhir_json.loads(line.request.encode()), fhir_json.loads(order.request.encode())
    if before["subject"]["reference"] != after["subject"].get("reference"):
        raise invalid("the change is for another patient", "Parameters.parameter.where(name='change').resource.subject")
    after["authoredOn"] = before["authoredOn"]
    prior = before.get("priorPrescription", {}).get("reference")
    return _preceded(replace(order, request=fhir_json.dumps(after).decode()), prior)


def _preceded(order: OrderLine, prior: str | None) -> OrderLine:
    request = fhir_json.loads(order.request.encode())
    request.pop("priorPrescription", None)
    if prior is not None:
        request["priorPrescription"] = {"reference": prior}
    return replace(order, request=fhir_json.dumps(request).decode(), prior=prior)


# --- the patient's record -------------------------------------------------------------------------------------------


def ask_version(group: Group, line: Line, ask: Ask, at: datetime) -> tuple[Change, str]:
    task = stamped(_task(group, line, ask), ask_task_id(group.id, ask.number), ask.version, at)
    body, entry = fhir_json.dumps(task), entry_of(task)
    change = RecordVersion(
        key=ResourceKey(type="Task", id=task["id"], patient=group.patient),
        version=ask.version,
        at=at,
        body=body,
        entry=entry,
        previous=Placement(sort_at=entry.sort_at) if ask.version > 1 else None,  # authoredOn never changes
        is_managed=True,
    )
    return change, body.decode()


def _task(group: Group, line: Line, ask: Ask) -> dict[str, Any]:
    prescriber = {"identifier": {"system": RPPS, "value": group.prescriber}}
    task: dict[str, Any] = {
        "resourceType": "Task",
        "groupIdentifier": number_of(group),
        "basedOn": [{"reference": f"MedicationRequest/{line.request_id}"}],
        "partOf": [{"reference": f"Task/{group.id}"}],
        "status": ask.status,
        "intent": "proposal",
        "code": concept(group, "rx-task", f"{ask.kind}-request"),
        "focus": {"reference": f"Task/{line_task_id(group.id, line.number)}"},
        "for": {"reference": f"Patient/{group.patient}"},
        "authoredOn": instant(datetime.fromisoformat(ask.asked_at)),
        "requester": {"reference": f"Patient/{group.patient}"}
        if ask.asked_as in PROXIES
        else organisation(ask.asked_by),
        "owner": organisation(group.practice),
        "restriction": {"recipient": [prescriber]},
    }
    told: list[tuple[str, str, Any]] = [("topic", "valueCode", ask.topic), ("text", "valueString", ask.text)]
    if ask.proposal is not None:
        task["contained"] = [{**fhir_json.loads(ask.proposal.encode()), "id": "proposal"}]
        told.append(("change", "valueReference", {"reference": "#proposal"}))
    answered: list[tuple[str, str, Any]] = [
        ("answer", "valueCode", ask.answer),
        ("text", "valueString", ask.answer_text),
        ("draft", "valueReference", {"reference": f"Task/{ask.draft}"} if ask.draft else None),
    ]
    if ask.approved is not None:
        answered.append(("content", "valueBase64Binary", base64.b64encode(ask.approved.encode()).decode()))
        answered.append(("signature", "valueSignature", signature_of(ask)))
    for name, parts in (("input", told), ("output", answered)):
        found = [{"type": {"text": what}, kind: value} for what, kind, value in parts if value is not None]
        if found:
            task[name] = found
    if ask.answer_reason is not None:
        task["statusReason"] = concept(group, "rx-request-reason", ask.answer_reason)
    if ask.answered_at is not None:
        task["lastModified"] = instant(datetime.fromisoformat(ask.answered_at))
    return task


def signature_of(ask: Ask) -> Json:
    """The signature of an approved change."""
    assert ask.answered_at is not None
    assert ask.approved_jws is not None
    return {
        "type": [AUTHOR],
        "when": instant(datetime.fromisoformat(ask.answered_at)),
        "who": {"identifier": {"system": RPPS, "value": ask.answered_by}},
        "targetFormat": FHIR_JSON,
        "sigFormat": JOSE,
        "data": base64.b64encode(ask.approved_jws.encode()).decode(),
    }


def signed_lines(prescription: Prescription) -> list[Json]:
    """The lines as they were signed last: with the prescription, or since with a change of theirs."""
    signed = fhir_json.loads((prescription.group.signed or "{}").encode())
    changes = [fhir_json.loads(ask.approved.encode())["change"] for ask in prescription.standing_asks if ask.approved]
    since = {change["id"]: change for change in changes}
    return [since.get(line["id"], line) for line in signed.get("lines", [])]


def late_versions(
    prescription: Prescription, late: LateSupply, supply: Supply, at: datetime
) -> tuple[tuple[Change, Change], tuple[str, str]]:
    """The MedicationDispense of a late supply and the DetectedIssue about it, as versions of the record and as JSON."""
    group, line = prescription.group, prescription.line(late.line)
    assert line is not None
    patient = {"reference": f"Patient/{group.patient}"}
    mark = {"url": f"{group.base_url}/StructureDefinition/rx-unreconciled", "valueBoolean": True}
    dispense = with_own(supply, group, line, late.organisation, at)
    dispense["extension"] = [*dispense.get("extension", []), mark]
    supplies = [f"MedicationDispense/{each.dispense_id}" for each in prescription.supplies_of(line.number)]
    concerned = [f"MedicationRequest/{line.request_id}", f"MedicationDispense/{late.dispense_id}", *supplies]
    issue = {
        "resourceType": "DetectedIssue",
        "status": "final",
        "code": {"coding": [_DUPLICATE_THERAPY]},
        "severity": "high",
        "patient": patient,
        "identifiedDateTime": instant(at),
        "implicated": [{"reference": each} for each in concerned],
        "detail": "Handed over after the claim had ended: anything supplied since may be in addition to it.",
    }
    made = [_made(dispense, late.dispense_id, group, at), _made(issue, late.issue_id, group, at)]
    (first, first_body), (second, second_body) = made
    return (first, second), (first_body, second_body)


def with_own(supply: Supply, group: Group, line: Line, pharmacy: str, at: datetime) -> dict[str, Any]:
    """The MedicationDispense of a supply, naming its patient and order; raises RX-INVALID if it named others, or
    another pharmacy as the one that supplied, or a day on which it cannot have been.

    Unless it says when it was handed over, that is now: the commit is the permission to.
    """
    dispense: dict[str, Any] = fhir_json.loads(supply.dispense.encode())
    own = {
        "subject": {"reference": f"Patient/{group.patient}"},
        "authorizingPrescription": [{"reference": f"MedicationRequest/{line.request_id}"}],
    }
    for name, value in own.items():
        if name in dispense and dispense[name] != value:
            raise invalid("the supply is for another prescription or patient", f"MedicationDispense.{name}")
    supplier = dispense["performer"][0]["actor"].get("identifier", {})
    if supplier.get("system") == STRUCTURE and supplier.get("value") != pharmacy:
        raise invalid("the supply is said to be of another pharmacy", "MedicationDispense.performer")
    if "whenHandedOver" not in dispense:
        dispense["whenHandedOver"] = at.isoformat()
    elif not group.authored_on <= day(dispense["whenHandedOver"], _HANDED_OVER) <= paris_day(at + _AHEAD):
        raise invalid("the supply is of another time than the prescription", _HANDED_OVER)
    return {**dispense, **own}


def _made(content: Json, id: str, group: Group, at: datetime) -> tuple[Change, str]:
    stored = stamped(content, id, 1, at)
    body = fhir_json.dumps(stored)
    key = ResourceKey(type=stored["resourceType"], id=id, patient=group.patient)
    change = RecordVersion(key=key, version=1, at=at, body=body, entry=entry_of(stored), is_managed=True)
    return change, body.decode()
