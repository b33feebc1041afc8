"""What is prescribed: MedicationRequests in (e-prescription contract, section 4).

Extensions have the FHIR base that the prescription was created at as their root; `docs/prescriptions.md` defines them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

from passerelle.fhir import json as fhir_json
from passerelle.fhir.prescriptions.attached import KINDS, Attached, spelled_out
from passerelle.fhir.prescriptions.dosages import Regimen, days_of, regimen_of, unit
from passerelle.fhir.prescriptions.faults import check, day, invalid, located, required
from passerelle.fhir.prescriptions.reserved import NUMBERS
from passerelle.identifiers import PATIENT_KEY, split_resource_id
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import MAX_LINES, Mention, Order, OrderLine
from passerelle.prescriptions.quantities import exact

Json = Mapping[str, Any]

RPPS = "urn:oid:1.2.250.1.71.4.2.1"
STRUCTURE = "urn:oid:1.2.250.1.71.4.2.2"
_ANSM = "http://data.esante.gouv.fr/ansm/medicament/"
_PRODUCTS = tuple(_ANSM + name for name in ("SpecialitePharmaceutique", "Presentation", "UCD"))
_NO_SUBSTITUTION = "N"  # of v3-substanceAdminSubstitution
_SUBSTITUTION_REASONS = frozenset({"MTE", "EFG", "CIF"})  # arrêté du 12 novembre 2019
OWN = "/StructureDefinition/rx-"
# What follows StructureDefinition/rx-, and the form of its value.
_EXTENSIONS: Mapping[str, str] = {
    "ordinary-product": "valueBoolean",
    "secure-prescription": "valueBoolean",
    "prescribed-quantity": "valueQuantity",
    "planned-discharge": "valueDate",
    **{str(each): "valueBoolean" for each in Mention if each not in (Mention.NO_RENEWAL, Mention.IN_WORDS)},
    str(Mention.IN_WORDS): "valueString",
}
_NOT_SIGNED = {"id", "meta", "text"}  # so that nothing beside the signed content is ever served
# What the exchange gives itself, and what would turn the meaning of a line around.
_NOT_TAKEN = ("groupIdentifier", "statusReason", "reportedReference")
_OTHER_BUNDLES = {"document", "message", "transaction", "transaction-response", "batch", "batch-response", "history"}


def parse_order(resource: Any) -> Order:
    """`$create`: a Bundle or Parameters of 1 to 20 MedicationRequests, for one patient and of one day.

    What they refer to may stand beside them, and becomes part of them.
    """
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    if kind not in ("Bundle", "Parameters"):
        raise rx("RX-INVALID", "the body is a Bundle or Parameters", issue="structure", expression="Bundle")
    resource = spelled_out(resource)
    check(resource, expected_type=kind)
    if resource.get("type") in _OTHER_BUNDLES:
        raise invalid("an order is a collection, no document, message or other exchange", "Bundle.type")
    path = "Bundle.entry" if kind == "Bundle" else "Parameters.parameter"
    parts = resource.get("entry" if kind == "Bundle" else "parameter", [])
    requests, attached = [], Attached()
    for place, part in enumerate(parts):
        each, where = part.get("resource", {}), f"{path}[{place}].resource"
        if each.get("resourceType") == "MedicationRequest":
            requests.append((where, each))
        elif each.get("resourceType") in KINDS:
            attached.add(each, part.get("fullUrl"), where)
        else:
            raise invalid("an order is MedicationRequests, and what they may refer to", where)
    return _order(requests, path, attached)


def parse_orders(requests: Sequence[Json], path: str) -> Order:
    """The same of MedicationRequests that stand among other parameters."""
    if any(request.get("resourceType") != "MedicationRequest" for request in requests):
        raise invalid("every entry is a MedicationRequest", path)
    return _order([(f"{path}[{place}].resource", request) for place, request in enumerate(requests)], path)


def _order(requests: Sequence[tuple[str, Json]], path: str, attached: Attached | None = None) -> Order:
    if not 1 <= len(requests) <= MAX_LINES:
        raise invalid(f"a prescription has 1 to {MAX_LINES} lines", path)
    patients = {_patient_of(request, where) for where, request in requests}
    if attached is not None:
        requests = [(where, attached.contained_in(request, request["subject"])) for where, request in requests]
    lines = tuple(order_line(request, where) for where, request in requests)
    if len(patients) > 1 or len({line.authored_on for line in lines}) > 1:
        raise invalid("all lines are for the same patient and authored on the same day", path)
    return Order(patient=patients.pop(), lines=lines)


def _patient_of(request: Json, where: str) -> str:
    key = str(request.get("subject", {}).get("reference", "")).removeprefix("Patient/")
    if not PATIENT_KEY.fullmatch(key):
        raise invalid("the subject is a reference Patient/<id> of this exchange", f"{where}.subject")
    return key


def order_line(request: Json, where: str) -> OrderLine:
    """The line that a MedicationRequest orders; raises RX-INVALID for what is none, or says what is not taken."""
    check(request, expected_type="MedicationRequest", path=where)
    _check_taken(request, where)
    with located(where):
        return _read(request, where)


def _check_taken(request: Json, where: str) -> None:
    if request["status"] != "draft" or request["intent"] != "order":
        raise invalid("a line is created with status draft and intent order", f"{where}.status")
    said = [name for name in ("doNotPerform", "reportedBoolean") if request.get(name)]
    for name in (*said, *(each for each in _NOT_TAKEN if each in request)):
        raise invalid(f"{name} is not taken", f"{where}.{name}")
    if "initialFill" in request.get("dispenseRequest", {}):
        raise invalid(
            "initialFill is not taken: all supplies are of the same size", f"{where}.dispenseRequest.initialFill"
        )
    if "authoredOn" not in request or not request.get("dosageInstruction"):
        raise required("authoredOn and a dosage are required", where)
    if any("patientInstruction" in dosage for dosage in request["dosageInstruction"]):
        raise invalid("patientInstruction is not part of a prescription", f"{where}.dosageInstruction")
    for place, contained in enumerate(request.get("contained", [])):
        if contained["resourceType"] == "Patient":
            raise invalid("the line is for the person that its subject names", f"{where}.contained[{place}]")
    for place, identifier in enumerate(request.get("identifier", [])):
        if NUMBERS in identifier.get("system", ""):
            raise invalid("numbers of prescriptions are the exchange's to give", f"{where}.identifier[{place}]")
    told: set[str] = set()
    for place, extension in enumerate(request.get("extension", [])):
        _, is_own, name = extension["url"].partition(OWN)
        if is_own and (name in told or _EXTENSIONS.get(name, "") not in extension):
            raise invalid(
                "an extension of this exchange is unknown, given twice, or has another value",
                f"{where}.extension[{place}]",
            )
        told.add(name if is_own else "")


def _read(request: Json, where: str) -> OrderLine:
    plain(request)
    authored_on = day(request["authoredOn"], f"{where}.authoredOn")
    supply: Json = request.get("dispenseRequest", {})
    valid_until = _valid_until(supply, authored_on, f"{where}.dispenseRequest.validityPeriod")
    repeats = supply.get("numberOfRepeatsAllowed", 0)
    quantity = _quantity(request, supply, repeats, where)
    regimen = regimen_of(request["dosageInstruction"], quantity, f"{where}.dosageInstruction")
    duration = _duration(supply, repeats, regimen)
    if not quantity:
        _check_told(regimen, duration, where)
    discharge = _extension(request, "planned-discharge")
    kept = {name: each for name, each in request.items() if name not in _NOT_SIGNED}
    if "reference" in request["subject"]:  # and nothing else that it says of the person: nobody checked that
        kept["subject"] = {"reference": request["subject"]["reference"]}
    codings = products(request, where)
    return OrderLine(
        request=fhir_json.dumps(kept).decode(),
        prescriber=_prescriber(request, where),
        authored_on=authored_on,
        product=codings[0],
        codings="\n".join(codings),
        unit=regimen.unit,
        doses=regimen.doses,
        duration=_text(duration),
        course=_text(regimen.course),
        interval=_text(days_of(supply.get("dispenseInterval", {}))),
        quantity=exact(Decimal(quantity["value"])) if quantity else None,
        repeats=repeats,
        valid_until=valid_until,
        is_declared_ordinary=_extension(request, "ordinary-product") is True,
        is_marked_secure=_extension(request, "secure-prescription") is True,
        mentions=" ".join(sorted(_mentions(request, supply))),
        executor=_executor(request, supply),
        discharge_on=day(discharge, f"{where}.extension") if discharge else None,
        prior=_prior(request, where),
        **_substitution(request.get("substitution", {})),
    )


def _valid_until(supply: Json, authored_on: date, where: str) -> date | None:
    period = supply.get("validityPeriod", {})
    start, end = (day(period[name], where) if name in period else None for name in ("start", "end"))
    if start is not None and start > authored_on:
        raise invalid("a validity that starts later is not supported", where)
    if end is not None and end < authored_on:
        raise invalid("the validity ends before the day of the prescription", where)
    return end


def _duration(supply: Json, repeats: int, regimen: Regimen) -> Fraction | None:
    """The days that one supply is for: as stated, and no longer than the dosage lasts."""
    stated = days_of(supply.get("expectedSupplyDuration", {}))
    known = [each for each in (stated, regimen.course if stated or not repeats else None) if each]
    return min(known, default=None)


def _check_told(regimen: Regimen, duration: Fraction | None, where: str) -> None:
    if not regimen.doses:
        raise required(
            "the dosage does not tell how much is taken in a day, in a unit that is supplied: a quantity is required",
            f"{where}.dispenseRequest.quantity",
        )
    if duration is None:
        raise required(
            "a quantity, or the duration of a supply or of the dosage, is required", f"{where}.dispenseRequest"
        )


def _quantity(request: Json, supply: Json, repeats: int, where: str) -> Json:
    """What one supply is. The quantity prescribed is that of all supplies, as the French models have it."""
    stated: Json = supply.get("quantity", {})
    quantity = stated if "value" in stated else {}
    whole = _extension(request, "prescribed-quantity") or {}
    if "value" not in whole:
        return quantity
    each = exact(Decimal(whole["value"])) / (1 + repeats)
    if not quantity:
        return {**whole, "value": Decimal(each.numerator) / Decimal(each.denominator)}
    if unit(quantity) != unit(whole) or exact(Decimal(quantity["value"])) != each:
        raise invalid("the quantity prescribed is not that of its supplies", f"{where}.dispenseRequest.quantity")
    return quantity


def _extension(request: Json, name: str) -> Any:
    """The value of one of our extensions, whatever base it is below."""
    urls = f"{OWN}{name}"
    found = [each for each in request.get("extension", []) if each["url"].endswith(urls)]
    return found[0][_EXTENSIONS[name]] if found else None


def _mentions(request: Json, supply: Json) -> Iterator[str]:
    yield from (each for each in Mention if each in _EXTENSIONS and _extension(request, each))
    if supply.get("numberOfRepeatsAllowed") == 0:
        yield Mention.NO_RENEWAL


def _substitution(element: Json) -> dict[str, Any]:
    codes = [each.get("code") for each in element.get("allowedCodeableConcept", {}).get("coding", [])]
    reason = element.get("reason", {})
    coded = [str(each["code"]) for each in reason.get("coding", []) if "code" in each]
    legal = [code for code in coded if code in _SUBSTITUTION_REASONS]
    others = [code for code in coded if code not in legal]
    return {
        "is_substitutable": element.get("allowedBoolean", True) is not False and _NO_SUBSTITUTION not in codes,
        "substitution_reason": next(iter(legal or others), None),
        "substitution_text": reason.get("text") or next(iter(others if legal else ()), None),
    }


def _prescriber(request: Json, where: str) -> str:
    """The RPPS of the requester: a PractitionerRole or Practitioner that the line contains, or an identifier."""
    reference: Json = request.get("requester", {})
    for _ in range(2):  # a role, and who has it
        party = _contained(request, reference)
        identifiers = [reference.get("identifier", {}), *party.get("identifier", [])]
        found = [each["value"] for each in identifiers if each.get("system") == RPPS and "value" in each]
        if found:
            return str(found[0])
        reference = party.get("practitioner", {})
    raise required("the requester is identified by RPPS", f"{where}.requester.identifier")


def _executor(request: Json, supply: Json) -> str | None:
    reference: Json = supply.get("performer", {})
    identifiers = [reference.get("identifier", {}), *_contained(request, reference).get("identifier", [])]
    found = [f"{each.get('system', '')}|{each['value']}" for each in identifiers if "value" in each]
    return next(iter(found), None) or reference.get("display") or reference.get("reference")


def _prior(request: Json, where: str) -> str | None:
    reference = request.get("priorPrescription", {}).get("reference")
    if reference is None:
        return None
    kind, _, id = reference.partition("/")
    owner = split_resource_id(id)
    if kind != "MedicationRequest" or owner is None or owner[0] != _patient_of(request, where):
        raise invalid("the prior prescription is a MedicationRequest of the same patient", f"{where}.priorPrescription")
    return str(reference)


def _contained(resource: Json, reference: Json) -> Json:
    """The contained resource that a reference means; nothing for any other reference."""
    name = reference.get("reference", "")
    found = (each for each in resource.get("contained", []) if name == f"#{each.get('id')}")
    return next(found, {})


def products(resource: Json, where: str) -> tuple[str, ...]:
    """The codings of an order's or a supply's product, each `system|code`: those of products first, then as sent.

    A preparation without a code of its own is the product of its components, whatever their order.
    """
    concept = resource.get("medicationCodeableConcept")
    medication = _contained(resource, resource.get("medicationReference", {}))
    found = _codings(medication.get("code", {}) if concept is None else concept)
    found = found or _prepared(resource, medication.get("ingredient", []))
    systems = [each.rpartition("|")[0] for each in dict.fromkeys(found)]
    if any(systems.count(each) > 1 for each in _PRODUCTS):
        raise rx("RX-INVALID", "the codes name two products", issue="code-invalid", expression=f"{where}.medication")
    if not found:
        raise rx("RX-INVALID", "the product must be coded", issue="code-invalid", expression=f"{where}.medication")
    return tuple(sorted(found, key=lambda each: not each.startswith(_PRODUCTS)))


def _prepared(resource: Json, ingredients: Sequence[Json]) -> list[str]:
    components = []
    for each in ingredients:
        concept = each.get("itemCodeableConcept") or _contained(resource, each.get("itemReference", {})).get("code", {})
        components += _codings(concept)[:1]
    return ["+".join(sorted(components))] if components and len(components) == len(ingredients) else []


def _codings(concept: Json) -> list[str]:
    coded = [each for each in concept.get("coding", []) if {"system", "code"} <= each.keys()]
    return [f"{each['system']}|{each['code']}" for each in coded]


def _text(days: Fraction | None) -> str | None:
    return str(days) if days is not None else None


def plain(value: Any) -> Any:
    """Decimals as the floats that RFC 8785 knows; raises RX-INVALID for one that would become another number."""
    if isinstance(value, Decimal):
        nearest = float(value)
        if Decimal(repr(nearest)) != value:
            raise rx("RX-INVALID", "a number has more digits than the signed content can hold", issue="value")
        return nearest
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value
