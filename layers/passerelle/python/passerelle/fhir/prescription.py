"""Prescriptions as FHIR: MedicationRequest orders and Task operations in; Task, Bundle and Parameters out.

E-prescription contract, sections 4, 5 and 16. The group is one Task, each line another (`partOf`); what is
told only once (number, access code, claim secret) is a Parameters resource at the head of the answer.
Extensions and code systems have the FHIR base that the prescription was created at as their root:

    StructureDefinition/rx-claim                fence, leaseUntil                       on a line Task
    StructureDefinition/rx-ledger               authorised, dispensed, remaining, fillNo  on a line Task
    StructureDefinition/rx-ordinary-product     boolean, on a MedicationRequest: neither narcotic nor secure
    StructureDefinition/rx-secure-prescription  boolean, on a MedicationRequest
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Protocol

from passerelle.access import Touched
from passerelle.errors import Coding, Invalid, PasserelleError
from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import instant
from passerelle.fhir.index import entry_of
from passerelle.fhir.resource import stamped
from passerelle.fhir.validation import validate
from passerelle.identifiers import PATIENT_KEY
from passerelle.journal import Change
from passerelle.prescriptions.errors import SYSTEM, rx
from passerelle.prescriptions.model import (
    MAX_LINES,
    ClaimTerms,
    Group,
    LedgerEntry,
    Line,
    Order,
    OrderLine,
    Outcome,
    Prepared,
    Prescription,
    Signature,
    Supply,
    View,
)
from passerelle.prescriptions.quantities import Dose, decimal_of, exact, exact_dose, millionths
from passerelle.prescriptions.service import Target, line_task_id
from passerelle.prescriptions.signature import NOT_CHECKED
from passerelle.prescriptions.transitions import STATES
from passerelle.prescriptions.validity import paris_day
from passerelle.records.model import Placement, RecordVersion, ResourceKey

Json = Mapping[str, Any]

RPPS = "urn:oid:1.2.250.1.71.4.2.1"
STRUCTURE = "urn:oid:1.2.250.1.71.4.2.2"
_AUTHOR = {"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.1"}
_JOSE = "application/jose"
_FHIR_JSON = "application/fhir+json"
_ORDINARY = "/StructureDefinition/rx-ordinary-product"
_SECURE = "/StructureDefinition/rx-secure-prescription"
_DAYS = {"min": Fraction(1, 1440), "h": Fraction(1, 24), "d": Fraction(1), "wk": Fraction(7)}
_BOUNDS = {"boundsDuration", "boundsPeriod"}
# What a daily amount follows from.
_COUNTED = {"frequency", "frequencyMax", "period", "periodUnit", "when", "timeOfDay"}
_NOT_SIGNED = {"id", "meta", "text"}  # so that nothing beside the signed content is ever served
# What the exchange gives, what it does not do yet, and what would turn the meaning of a line around.
_NOT_TAKEN = {"groupIdentifier", "statusReason", "priorPrescription", "doNotPerform", "modifierExtension"}
_REASON = re.compile(r"[a-z][a-z-]{0,39}")
CANCEL_REASONS = {  # with their codes of the NHS Electronic Prescription Service, as in section 15
    "prescribing-error": "0001",
    "contra-indication": "0002",
    "regimen-change": "0003",
    "clinical-grounds": "0004",
    "patient-request": "0005",
    "pharmacist-request": "0006",
    "death": "0007",
    "left-practice": "0008",
    "registered-elsewhere": "0009",
}


# --- in: parameters -----------------------------------------------------------------------------------------


class TaskCall(Protocol):
    """An operation on one Task, as the HTTP boundary received it."""

    @property
    def id(self) -> str: ...

    @property
    def resource(self) -> Any: ...

    @property
    def if_match(self) -> int | None: ...


def _target(call: TaskCall, lines: Sequence[int] = ()) -> Target:
    return Target.of(call.id, lines, call.if_match)


def _check(resource: Any, *, expected_type: str, path: str | None = None) -> None:
    """Refuse what is not valid FHIR as the contract does: every fault is a 400 RX-INVALID."""
    try:
        validate(resource, expected_type=expected_type, path=path)
    except PasserelleError as error:
        details = Coding(system=SYSTEM, code="RX-INVALID")
        raise Invalid(issues=[replace(issue, details=details) for issue in error.issues]) from None


class _Arguments:
    """The input Parameters of an operation; raises RX-INVALID for a parameter it does not know."""

    def __init__(self, resource: Any, *known: str) -> None:
        _check(resource, expected_type="Parameters")
        self._parts: list[Json] = resource.get("parameter", [])
        if any(part["name"] not in known for part in self._parts):
            raise rx(
                "RX-INVALID",
                "a parameter is unknown to this operation",
                expression="Parameters.parameter.name",
            )

    def all(self, name: str, kind: str) -> list[Any]:
        found = [part for part in self._parts if part["name"] == name]
        if any(kind not in part for part in found):
            raise _invalid(f"the parameter {name} is a {kind}", f"Parameters.parameter.where(name='{name}')")
        return [part[kind] for part in found]

    def find(self, name: str, kind: str) -> Any:
        values = self.all(name, kind)
        if len(values) > 1:
            raise _invalid(f"the parameter {name} may be given once", f"Parameters.parameter.where(name='{name}')")
        return values[0] if values else None

    def get(self, name: str, kind: str) -> Any:
        value = self.find(name, kind)
        if value is None:
            raise _required(f"the parameter {name} is required", f"Parameters.parameter.where(name='{name}')")
        return value


def _invalid(diagnostics: str, expression: str) -> Exception:
    return rx("RX-INVALID", diagnostics, issue="value", expression=expression)


def _required(diagnostics: str, expression: str) -> Exception:
    return rx("RX-INVALID", diagnostics, issue="required", expression=expression)


def parse_claim(call: TaskCall) -> tuple[Target, ClaimTerms]:
    """`$accept` of a Task: `accessCode`, `line`*, `recover`, `overrideRouting`."""
    arguments = _Arguments(call.resource, "accessCode", "line", "recover", "overrideRouting")
    return _target(call, arguments.all("line", "valuePositiveInt")), _terms(arguments)


def parse_number_claim(resource: Any) -> tuple[str, Target, ClaimTerms]:
    """`$accept` on the type: the same with `number`, as printed on the prescription."""
    arguments = _Arguments(resource, "number", "accessCode", "line", "recover", "overrideRouting")
    number = re.sub(r"[\s-]", "", arguments.get("number", "valueString")).upper()
    return number, Target.of("", arguments.all("line", "valuePositiveInt")), _terms(arguments)


def _terms(arguments: _Arguments) -> ClaimTerms:
    return ClaimTerms(
        code=arguments.find("accessCode", "valueString"),
        recover=bool(arguments.find("recover", "valueBoolean")),
        override_routing=bool(arguments.find("overrideRouting", "valueBoolean")),
    )


def parse_rejection(call: TaskCall) -> tuple[Target, str, str | None]:
    """`$reject`: `secret`, `line`*, `reason`."""
    arguments = _Arguments(call.resource, "secret", "line", "reason")
    reason = arguments.find("reason", "valueCode")
    if reason is not None and not _REASON.fullmatch(reason):
        raise _invalid("the reason is not a code", "Parameters.parameter.where(name='reason')")
    target = _target(call, arguments.all("line", "valuePositiveInt"))
    return target, arguments.get("secret", "valueString"), reason


def parse_cancellation(call: TaskCall) -> tuple[Target, str]:
    """`$cancel`: `reason`, `line`*."""
    arguments = _Arguments(call.resource, "reason", "line")
    reason = arguments.get("reason", "valueCode")
    if reason not in CANCEL_REASONS:
        raise rx(
            "RX-INVALID",
            f"the reason is one of {', '.join(CANCEL_REASONS)}",
            issue="code-invalid",
            expression="Parameters.parameter.where(name='reason')",
        )
    return _target(call, arguments.all("line", "valuePositiveInt")), reason


def parse_signature(call: TaskCall) -> tuple[Target, Signature]:
    """`$activate`: a Provenance, or Parameters with one as `provenance`, holding the detached JWS."""
    provenance = call.resource
    if isinstance(provenance, dict) and provenance.get("resourceType") == "Parameters":
        provenance = _Arguments(provenance, "provenance").get("provenance", "resource")
    _check(provenance, expected_type="Provenance")
    signatures = provenance.get("signature", [])
    if len(signatures) != 1:
        raise _required("one signature is required", "Provenance.signature")
    (signature,) = signatures
    if signature.get("sigFormat") != _JOSE or "data" not in signature:
        raise _invalid(f"the signature is base64 data in format {_JOSE}", "Provenance.signature[0].sigFormat")
    try:
        jws = base64.b64decode(signature["data"], validate=True).decode("ascii")
    except ValueError:
        raise _invalid("the signature is not base64 of a JWS", "Provenance.signature[0].data") from None
    signed_on = _day(signature["when"], "Provenance.signature[0].when")
    return _target(call), Signature(jws=jws, signed_on=signed_on)


# --- in: what is prescribed ---------------------------------------------------------------------------------


def parse_order(resource: Any) -> Order:
    """`$create`: a Bundle or Parameters of 1 to 20 MedicationRequests, for one patient and of one day."""
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    if kind not in ("Bundle", "Parameters"):
        raise rx("RX-INVALID", "the body is a Bundle or a Parameters resource", issue="structure")
    _check(resource, expected_type=kind)
    path = "Bundle.entry" if kind == "Bundle" else "Parameters.parameter"
    parts = resource.get("entry" if kind == "Bundle" else "parameter", [])
    requests = [(f"{path}[{place}].resource", part.get("resource", {})) for place, part in enumerate(parts)]
    if any(request.get("resourceType") != "MedicationRequest" for _, request in requests):
        raise _invalid("every entry is a MedicationRequest", path)
    if not 1 <= len(requests) <= MAX_LINES:
        raise _invalid(f"a prescription has 1 to {MAX_LINES} lines", path)
    patients = {_patient_of(request, where) for where, request in requests}
    lines = tuple(_order_line(request, where) for where, request in requests)
    if len(patients) > 1 or len({line.authored_on for line in lines}) > 1:
        raise _invalid("all lines are for the same patient and authored on the same day", path)
    return Order(patient=patients.pop(), lines=lines)


def _patient_of(request: Json, where: str) -> str:
    key = str(request["subject"].get("reference", "")).removeprefix("Patient/")
    if not PATIENT_KEY.fullmatch(key):
        raise _invalid("the subject is a reference Patient/<id> of this exchange", f"{where}.subject")
    return key


def _order_line(request: Json, where: str) -> OrderLine:
    _check(request, expected_type="MedicationRequest", path=where)
    if request["status"] != "draft" or request["intent"] != "order":
        raise _invalid("a line is created with status draft and intent order", f"{where}.status")
    _plain(request)
    for name in _NOT_TAKEN & request.keys():
        raise _invalid(f"{name} is not taken", f"{where}.{name}")
    requester = request.get("requester", {}).get("identifier", {})
    if requester.get("system") != RPPS or "value" not in requester:
        raise _required("the requester is identified by RPPS", f"{where}.requester.identifier")
    if "authoredOn" not in request or not request.get("dosageInstruction"):
        raise _required("authoredOn and a dosage are required", where)
    if any("patientInstruction" in dosage for dosage in request["dosageInstruction"]):
        raise _invalid("patientInstruction is not part of a prescription", f"{where}.dosageInstruction")
    authored_on = _day(request["authoredOn"], f"{where}.authoredOn")
    supply = request.get("dispenseRequest", {})
    validity = supply.get("validityPeriod", {})
    if "start" in validity and _day(validity["start"], f"{where}.dispenseRequest.validityPeriod") > authored_on:
        raise _invalid("a validity that starts later is not supported", f"{where}.dispenseRequest.validityPeriod")
    dosages = request["dosageInstruction"]
    is_as_needed = any(each.get("asNeededBoolean") or "asNeededCodeableConcept" in each for each in dosages)
    quantity = supply.get("quantity", {})
    return OrderLine(
        request=fhir_json.dumps({n: each for n, each in request.items() if n not in _NOT_SIGNED}).decode(),
        prescriber=requester["value"],
        authored_on=authored_on,
        product=_products(request, where)[0],
        unit=_unit(quantity or _amount(dosages[0])),
        doses=() if is_as_needed else _doses(dosages),
        max_per_day=_maximum(dosages) if is_as_needed else None,
        duration_days=_days(supply.get("expectedSupplyDuration", {})),
        quantity=exact(Decimal(quantity["value"])) if "value" in quantity else None,
        repeats=supply.get("numberOfRepeatsAllowed", 0),
        valid_until=_day(validity["end"], f"{where}.dispenseRequest.validityPeriod") if "end" in validity else None,
        is_substitutable=request.get("substitution", {}).get("allowedBoolean", True) is not False,
        is_declared_ordinary=_flag(request, _ORDINARY),
        is_marked_secure=_flag(request, _SECURE),
    )


def _flag(request: Json, name: str) -> bool:
    return any(
        each.get("url", "").endswith(name) and each.get("valueBoolean") is True for each in request.get("extension", [])
    )


def _day(text: str, where: str) -> date:
    """The Paris day of a FHIR date or dateTime, of a full date at least."""
    try:
        return paris_day(datetime.fromisoformat(text)) if "T" in text else date.fromisoformat(text)
    except ValueError:
        raise _invalid("a full date is required", where) from None


def _products(resource: Json, where: str) -> tuple[str, ...]:
    """The coded products of an order or a supply, each `system|code`."""
    concept = resource.get("medicationCodeableConcept", {})
    reference = resource.get("medicationReference", {}).get("reference", "")
    if reference.startswith("#"):
        concept = next(
            (each.get("code", {}) for each in resource.get("contained", []) if each.get("id") == reference[1:]),
            {},
        )
    products = tuple(
        f"{each['system']}|{each['code']}" for each in concept.get("coding", []) if {"system", "code"} <= each.keys()
    )
    if not products:
        raise rx("RX-INVALID", "the product must be coded", issue="code-invalid", expression=f"{where}.medication")
    return products


def _doses(dosages: Sequence[Json]) -> tuple[Dose, ...]:
    """What adds up to the units per day: nothing when a dosage does not say, or when they take turns."""
    doses = [_dose(each) for each in dosages]
    if None in doses or len({each.get("sequence") for each in dosages}) > 1:
        return ()
    return tuple(dose for dose in doses if dose)


def _dose(dosage: Json) -> Dose | None:
    amount = _amount(dosage)
    repeat = dosage.get("timing", {}).get("repeat", {})
    unit = _DAYS.get(repeat.get("periodUnit", "d"))
    times = len(repeat.get("when", []) or repeat.get("timeOfDay", []))
    times = times or repeat.get("frequencyMax", repeat.get("frequency", 0))
    period = exact(Decimal(repeat.get("period", 1)))
    if "value" not in amount or unit is None or not (times and period) or repeat.keys() - _COUNTED - _BOUNDS:
        return None
    return Dose(dose=exact_dose(Decimal(amount["value"])), times=Fraction(times), period_days=period * unit)


def _amount(dosage: Json) -> Json:
    """The dose of one taking; the higher end of a range."""
    rate: Json = next(iter(dosage.get("doseAndRate", [])), {})
    return rate.get("doseQuantity") or rate.get("doseRange", {}).get("high") or {}


def _maximum(dosages: Sequence[Json]) -> Fraction | None:
    """The units per day that an as-needed line cannot exceed."""
    limits = [each.get("maxDosePerPeriod", {}) for each in dosages]
    days = [_days(each.get("denominator", {})) for each in limits]
    if not all(days) or any("value" not in each.get("numerator", {}) for each in limits):
        return None
    amounts = [exact(Decimal(each["numerator"]["value"])) for each in limits]
    return sum((amount / day for amount, day in zip(amounts, days, strict=True) if day), Fraction())


def _days(duration: Json) -> Fraction | None:
    """A UCUM duration in days; None for one that is none, as a month is."""
    unit = _DAYS.get(duration.get("code", duration.get("unit", "")))
    return exact(Decimal(duration["value"])) * unit if unit and "value" in duration else None


def _unit(quantity: Json) -> str:
    return str(quantity.get("code", quantity.get("unit", "")))


# --- in: what is supplied -----------------------------------------------------------------------------------


def parse_supply(call: TaskCall) -> tuple[Target, Supply]:
    """`$dispense`: `secret`, and the MedicationDispense as `dispense`."""
    arguments = _Arguments(call.resource, "secret", "dispense")
    dispense = arguments.get("dispense", "resource")
    _check(dispense, expected_type="MedicationDispense")
    if dispense["status"] != "completed" or "modifierExtension" in dispense:
        raise _invalid("a supply is recorded with status completed, as it is", "MedicationDispense.status")
    quantity = dispense.get("quantity", {})
    if "value" not in quantity:
        raise _required("the quantity supplied is required", "MedicationDispense.quantity")
    if len(dispense.get("performer", [])) != 1:
        raise _required("one performer is required", "MedicationDispense.performer")
    identifiers = [f"{each.get('system', '')}|{each['value']}" for each in dispense.get("identifier", [])]
    if len(identifiers) > 1:
        raise _invalid("a supply has at most one identifier", "MedicationDispense.identifier")
    supply = Supply(
        secret=arguments.get("secret", "valueString"),
        quantity=millionths(Decimal(quantity["value"])),
        unit=_unit(quantity),
        products=_products(dispense, "MedicationDispense"),
        dispense=fhir_json.dumps(dispense).decode(),
        identifier=next(iter(identifiers), None),
    )
    return _target(call), supply


# --- the patient's record -----------------------------------------------------------------------------------


class FhirClinicalRecord:
    """`prescriptions.ports.ClinicalRecord`."""

    def signed_line(self, group: Group, line: Line) -> Json:
        content: Json = _plain({"id": line.request_id, **_request(group, line, "active")})
        return content

    def request_version(self, group: Group, line: Line, at: datetime) -> Change:
        stored = stamped(_request(group, line), line.request_id, line.request_version, at)
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

    def dispense_version(
        self, group: Group, line: Line, entry: LedgerEntry, supply: Supply, at: datetime
    ) -> tuple[Change, str]:
        dispense = fhir_json.loads(supply.dispense.encode())
        own = {
            "subject": {"reference": f"Patient/{group.patient}"},
            "authorizingPrescription": [{"reference": f"MedicationRequest/{line.request_id}"}],
        }
        for name, value in own.items():
            if name in dispense and dispense[name] != value:
                raise _invalid("the supply is for another prescription or patient", f"MedicationDispense.{name}")
        stored = stamped({**dispense, **own}, entry.dispense_id, 1, at)
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


def _request(group: Group, line: Line, status: str | None = None) -> dict[str, Any]:
    """The MedicationRequest of a line, as it is now."""
    request: dict[str, Any] = fhir_json.loads(line.request.encode())
    request["status"] = status or _request_status(line)
    request["groupIdentifier"] = {
        "system": f"{group.base_url}/sid/prescription-number",
        "value": group.number,
    }
    reason = "expired" if line.state == "X" else line.cancel_reason
    if reason is not None:
        system = f"{group.base_url}/CodeSystem/rx-status-reason"
        request["statusReason"] = {"coding": [{"system": system, "code": reason}]}
    return request


def _request_status(line: Line) -> str:
    """MedicationRequest.status of a line (contract, section 6.1)."""
    if line.state == "K":  # R4 `cancelled` means that nothing was supplied
        return "cancelled" if line.remaining_total == line.total or not line.fill_no else "stopped"
    statuses = {"D": "draft", "F": "completed", "N": "stopped", "X": "stopped", "E": "entered-in-error"}
    return statuses.get(line.state, "active")


def _plain(value: Any) -> Any:
    """Decimals as the floats that RFC 8785 knows; raises RX-INVALID for one that would become another number."""
    if isinstance(value, Decimal):
        nearest = float(value)
        if Decimal(repr(nearest)) != value:
            raise rx("RX-INVALID", "a number has more digits than the signed content can hold", issue="value")
        return nearest
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


# --- out ----------------------------------------------------------------------------------------------------


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
        entries += _signed(group)
    head = [{"resource": {"resourceType": "Parameters", "parameter": told}}] if told else []
    return {"resourceType": "Bundle", "type": "collection", "entry": [*head, *entries]}


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
            {"name": "cdsDigest", "valueString": NOT_CHECKED},
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
        found["Location"] = f"{group.base_url}/Task/{group.id}"
    if outcome.is_replay:
        found["Idempotency-Replayed"] = "true"
    return found


def _concerned(outcome: Outcome) -> list[Line]:
    return [line for line in outcome.prescription.lines if line.number in outcome.lines]


def _told_once(outcome: Outcome) -> list[Json]:
    group = outcome.prescription.group
    told: list[Json] = []
    if outcome.status == 201:
        told.append({"name": "number", "valueString": group.number})
    if outcome.access_code is not None:
        told.append({"name": "accessCode", "valueString": outcome.access_code})
        if outcome.status == 201:
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
                        {"name": "leaseUntil", "valueInstant": _instant(line.lease_until)},
                    ],
                }
            )
    return told


def _supplied(outcome: Outcome, dispense: str) -> Json:
    (line,) = _concerned(outcome)
    entry = outcome.prescription.supplies_of(line.number)[-1]
    is_same_fill = entry.fill_no == line.fill_no
    told: list[Json] = [
        {"name": "dispense", "resource": fhir_json.loads(dispense.encode())},
        {"name": "task", "resource": _line_task(outcome.prescription, line)},
        {"name": "remaining", "valueDecimal": decimal_of(line.remaining_fill if is_same_fill else 0)},
    ]
    if not is_same_fill and line.not_before is not None:
        told.append({"name": "nextAllowed", "valueDate": line.not_before.isoformat()})
    # Rules that a later tier of the contract brings: recorded, not enforced, and said so.
    told += [{"name": "notChecked", "valueCode": each} for each in ("clinical", "supply-maximum", "substitution")]
    return {"resourceType": "Parameters", "parameter": [*told, *_told_once(outcome)]}


def _group_task(prescription: Prescription) -> Json:
    group = prescription.group
    task: dict[str, Any] = {
        **_task_head(group, group.id, group.version),
        "status": _group_status([line.state for line in prescription.lines]),
        "input": [{"type": {"text": "cdsDigest"}, "valueString": NOT_CHECKED}],
    }
    if group.signed is not None:
        task["focus"] = {"reference": _binary_url(group), "type": "Binary"}
    if group.routed_to is not None:
        task["restriction"] = {"recipient": [_organisation(group.routed_to)]}
    return task


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


def _line_task(prescription: Prescription, line: Line) -> Json:
    group, state = prescription.group, STATES[line.state]
    task: dict[str, Any] = {
        **_task_head(group, line_task_id(group.id, line.number), line.version),
        "partOf": [{"reference": f"Task/{group.id}"}],
        "status": state.task_status,
    }
    if state.business_statuses:
        status = "routed" if group.routed_to and "routed" in state.business_statuses else state.business_statuses[0]
        task["businessStatus"] = _concept(group, "rx-business-status", status)
    if line.cancel_reason is not None:
        task["statusReason"] = _concept(group, "rx-status-reason", line.cancel_reason)
    if state.kind == "draft":  # what is not signed is no part of the record, so that nothing there can be named
        task["contained"] = [{**_request(group, line), "id": "request"}]
        task["basedOn"] = [{"reference": "#request"}]
        return task
    task["basedOn"] = [{"reference": f"MedicationRequest/{line.request_id}"}]
    extensions = []
    if line.owner is not None:
        task["owner"] = _organisation(line.owner)
        claim: dict[str, Json] = {
            "fence": {"valuePositiveInt": line.fence},
            "leaseUntil": {"valueInstant": _instant(line.lease_until)},
        }
        extensions.append(_extension(group, "rx-claim", claim))
    if line.not_before is not None and line.expires_on is not None:
        last = line.expires_on - timedelta(days=1)
        task["restriction"] = {"period": {"start": line.not_before.isoformat(), "end": last.isoformat()}}
        ledger: dict[str, Json] = {
            "authorised": {"valueDecimal": decimal_of(line.total)},
            "dispensed": {"valueDecimal": decimal_of(line.total - line.remaining_total)},
            "remaining": {"valueDecimal": decimal_of(line.remaining_fill)},
            "fillNo": {"valuePositiveInt": line.fill_no},
        }
        extensions.append(_extension(group, "rx-ledger", ledger))
    if extensions:
        task["extension"] = extensions
    supplies = prescription.supplies_of(line.number)
    if supplies:
        task["output"] = [
            {
                "type": {"text": "supply"},
                "valueReference": {"reference": f"MedicationDispense/{each.dispense_id}"},
            }
            for each in supplies
        ]
    return task


def _task_head(group: Group, id: str, version: int) -> dict[str, Any]:
    number = {"system": f"{group.base_url}/sid/prescription-number", "value": group.number}
    return {
        "resourceType": "Task",
        "id": id,
        "meta": {"versionId": str(version), "lastUpdated": instant(datetime.fromisoformat(group.updated_at))},
        "groupIdentifier": number,
        "intent": "order",
        "code": _concept(group, "rx-task", "fulfil-prescription"),
        "for": {"reference": f"Patient/{group.patient}"},
        "authoredOn": group.authored_on.isoformat(),
        "requester": {"identifier": {"system": RPPS, "value": group.prescriber}},
    }


def _medication_request(group: Group, line: Line) -> Json:
    at = datetime.fromisoformat(group.updated_at)
    return stamped(_request(group, line), line.request_id, line.request_version, at)


def _signed(group: Group) -> list[Json]:
    """The signed bytes and the signature, for a pharmacy to verify by itself."""
    if group.signed is None or group.jws is None:
        return []
    data = base64.b64encode(group.signed.encode()).decode()
    binary = {"resourceType": "Binary", "contentType": _FHIR_JSON, "data": data}
    who = {"identifier": {"system": RPPS, "value": group.prescriber}}
    provenance = {
        "resourceType": "Provenance",
        "target": [{"reference": _binary_url(group)}],
        "recorded": group.signed_at,
        "agent": [{"who": who}],
        "signature": [
            {
                "type": [_AUTHOR],
                "when": group.signed_at,
                "who": who,
                "targetFormat": _FHIR_JSON,
                "sigFormat": _JOSE,
                "data": base64.b64encode(group.jws.encode()).decode(),
            }
        ],
    }
    return [{"fullUrl": _binary_url(group), "resource": binary}, {"resource": provenance}]


def _binary_url(group: Group) -> str:
    return uuid.uuid5(uuid.NAMESPACE_URL, group.id).urn


def _entry(group: Group, resource: Json) -> Json:
    return {"fullUrl": f"{group.base_url}/{resource['resourceType']}/{resource['id']}", "resource": resource}


def _concept(group: Group, system: str, code: str) -> Json:
    return {"coding": [{"system": f"{group.base_url}/CodeSystem/{system}", "code": code}]}


def _extension(group: Group, name: str, parts: Mapping[str, Json]) -> Json:
    nested = [{"url": part, **value} for part, value in parts.items()]
    return {"extension": nested, "url": f"{group.base_url}/StructureDefinition/{name}"}


def _organisation(identifier: str) -> Json:
    return {"identifier": {"system": STRUCTURE, "value": identifier}}


def _instant(milliseconds: int) -> str:
    return instant(datetime.fromtimestamp(milliseconds / 1000, UTC))
