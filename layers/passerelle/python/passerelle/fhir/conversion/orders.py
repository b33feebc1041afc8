"""Orders: ORC with OBR as ServiceRequest, with RXO or RXE as MedicationRequest, with RXA as Immunization.

HL7 2.5, chapters 4 and 4A; HL7 Version 2 to FHIR 1.0.0. An order for a medicine is a fact of the record: it is no
prescription of the exchange, which is signed and has a number of its own.
"""

from __future__ import annotations

from typing import Any, Final

from passerelle.fhir.conversion import values
from passerelle.fhir.conversion.draft import Draft, Reference, digest
from passerelle.fhir.conversion.groups import Group, groups, remarks
from passerelle.fhir.conversion.made import concept_text, present
from passerelle.fhir.conversion.results import numbers, observations, order_names
from passerelle.fhir.conversion.values import table
from passerelle.hl7v2.message import Segment, Value

_UNKNOWN_AMOUNT: Final = ("999", "9999")  # of a vaccine (RXA-6)
_VACCINE_FUNDING: Final = "programEligibility"


def orders(draft: Draft, diagnoses: list[Reference]) -> None:
    """The orders of ORM, OML, OMP and RDE, with the observations that came with each."""
    for group in groups(draft.message):
        if group.drug.name in ("RXO", "RXE"):
            made = _medication_request(draft, group)
        elif group.obr or group.orc:
            made = _service_request(draft, group, diagnoses)
        else:
            made = None
        names = _names(draft, group)
        noted = observations(draft, group, group.observed, names if group.obr or group.drug or group.orc else ())
        if made is not None and noted:
            element = "supportingInformation" if group.drug else "supportingInfo"
            draft.revise(made, **{element: list(noted.values())})


def _names(draft: Draft, group: Group) -> tuple[str, ...]:
    """Of an order the placer gives the number, and the filler may come later."""
    for field in (2, 3):
        for segment in (group.orc, group.obr):
            value = next(iter(segment.peek(field)), None)
            if value is not None and value[1]:
                said = group.drug.raw(2 if group.drug.name == "RXE" else 1) or group.obr.raw(4)
                return draft.sender, str(field), value[1], value[2], said.partition("^")[0]
    if group.drug:
        return draft.sender, draft.whom, digest(group.drug, 1, 2), digest(group.orc, 9, 15)
    return order_names(draft, group)


def _status(orc: Segment, otherwise: str = "active") -> str:
    """What is asked for (ORC-1), unless the order says its state (ORC-5)."""
    orc.keep(1)
    action = next((each[1].upper() for each in orc.peek(1)), "")
    state = values.coded(orc, 5, "order_state")
    asked = table("order_status").get(action)
    if action and asked is None:
        orc.lose(1)
    # what ends an order ends it, whatever state it was in
    if asked in ("revoked", "on-hold"):
        return str(asked)
    return str(state or asked or otherwise)


def _service_request(draft: Draft, group: Group, diagnoses: list[Reference]) -> Reference | None:
    orc, obr = group.orc, group.obr
    code = values.concept_of(obr, 4, draft.source) if obr else None
    if code is None and not numbers(group):
        orc.forget()
        return None
    supplements = [found for each in (*obr.all(31), *orc.all(16)) if (found := values.concept(each, draft.source))]
    requesters = [*values.people(orc, 12), *values.people(obr, 16)]
    site = [found for at in (4, 5) if (found := concept_text(obr[15].part(at, 2) or obr[15].part(at, 1)))]
    resource = {
        "resourceType": "ServiceRequest",
        "identifier": numbers(group),
        "requisition": values.order_number(orc[4], "PGN"),
        "status": _status(orc),
        "intent": "order",
        "priority": _priority(group),
        "code": code,
        "occurrenceDateTime": values.time_of(obr, 36)
        or values.time_of(obr, 6)
        or values.time_of(obr, 7)
        or _timing(group),
        "authoredOn": values.time_of(orc, 9) or values.time_of(orc, 15),
        "requester": requesters[0] if requesters else None,
        "performer": values.people(obr, 34),
        "reasonCode": supplements,
        "reasonReference": diagnoses,
        "bodySite": site,
        "note": [{"text": text} for text in [obr.text(13), obr.text(39), *remarks(group.notes)] if text],
    }
    for other in requesters[1:]:
        if other != requesters[0]:
            obr.lose(16)
    return draft.put(draft.about(present(resource)), "order", *_names(draft, group))


def _timing(group: Group) -> str | None:
    """TQ1-7, or the start of ORC-7 and OBR-27 (TQ)."""
    for segment, field, component in (*((each, 7, 1) for each in group.timings), (group.orc, 7, 4), (group.obr, 27, 4)):
        if segment.peek(field) and (found := values.written_time(segment.peek(field)[0][component])):
            segment.keep(field)
            return found
    return None


def _priority(group: Group) -> str | None:
    """TQ1-9, OBR-5, or the last word of ORC-7 and OBR-27."""
    listed = (*((each, 9, 1) for each in group.timings), (group.obr, 5, 1), (group.orc, 7, 6), (group.obr, 27, 6))
    for segment, field, component in listed:
        if segment.peek(field):
            code = table("priority").get(segment.peek(field)[0][component].upper())
            if code:
                segment.keep(field)
                return str(code)
    return None


# --- medicines --------------------------------------------------------------------------------------------------------


def _medication_request(draft: Draft, group: Group) -> Reference | None:
    orc, drug = group.orc, group.drug
    encoded = drug.name == "RXE"
    code = values.concept_of(drug, 2 if encoded else 1, draft.source)
    if code is None:
        drug.forget()
        return None
    status = _status(orc)
    known = str(table("medication_status").get(status, "unknown"))
    if orc[1][1].upper() in ("CA", "OC"):
        known = "cancelled"
    requesters = [*values.people(orc, 12), *values.people(drug, 13 if encoded else 14)]
    resource = {
        "resourceType": "MedicationRequest",
        "identifier": numbers(group),
        "groupIdentifier": values.order_number(orc[4], "PGN"),
        "status": known,
        "intent": "order",
        "priority": _priority(group),
        "medicationCodeableConcept": code,
        "authoredOn": values.time_of(orc, 9) or values.time_of(orc, 15),
        "requester": requesters[0] if requesters else None,
        "reasonCode": [found for each in orc.all(16) if (found := values.concept(each, draft.source))],
        "note": [{"text": text} for text in remarks(group.notes)],
        "dosageInstruction": _dosage(draft, group),
        "dispenseRequest": _supply(drug, encoded=encoded),
        "substitution": _substitution(drug, 9),
    }
    return draft.put(draft.about(present(resource)), "medication", *_names(draft, group))


def _dosage(draft: Draft, group: Group) -> list[dict[str, Any]]:
    drug, orc = group.drug, group.orc
    low, high, unit = (3, 4, 5) if drug.name == "RXE" else (2, 3, 4)
    least, most = (values.quantity(drug[field][1], drug[unit]) for field in (low, high))
    for field, amount in ((low, least), (high, most)):
        if drug.peek(field) and amount is None:
            drug.lose(field)
    dose: dict[str, Any] = {}
    if least and most and "comparator" not in {**least, **most} and least["value"] <= most["value"]:
        dose = {"doseRange": {"low": least, "high": most}}
    elif least and "comparator" not in least:
        dose = {"doseQuantity": least}
    route = next((found for each in group.routes if (found := values.concept_of(each, 1, draft.source))), None)
    site = next((found for each in group.routes if (found := values.concept_of(each, 2, draft.source))), None)
    timing, text = _schedule(group)
    said = [found for each in drug.all(7) if (found := values.concept(each, draft.source))]
    form = values.concept_of(drug, 6 if drug.name == "RXE" else 5, draft.source)
    words = [
        text,
        *(each.get("text") or each["coding"][0].get("display") or each["coding"][0]["code"] for each in said),
    ]
    if form:
        words.append(form.get("text") or form["coding"][0].get("display") or form["coding"][0]["code"])
    orc.keep(7)
    found = present(
        {
            "text": ", ".join(filter(None, words)),
            "timing": timing,
            "route": route,
            "site": site,
            "doseAndRate": [dose] if dose else None,
        }
    )
    return [found] if found else []


def _schedule(group: Group) -> tuple[dict[str, Any] | None, str]:
    """When it is to be taken, as far as it is a start and an end, and in words (RXE-1, ORC-7, TQ1)."""
    bounds: dict[str, str] = {}
    words = ""
    encoded = group.drug[1] if group.drug.name == "RXE" else None
    for value in filter(None, (encoded, group.orc[7])):
        bounds = bounds or values.period_of(values.written_time(value[4]), values.written_time(value[5]))
        words = words or " ".join(each for each in (value.part(1, 1), value.part(2, 1), value[3]) if each)
    for tq1 in group.timings:
        bounds = bounds or values.period_of(values.time_of(tq1, 7), values.time_of(tq1, 8))
        words = words or " ".join(
            each for each in (tq1[2][1], tq1[3].part(1, 1), tq1[6][1], tq1[6][2], tq1.text(11)) if each
        )
    return ({"repeat": {"boundsPeriod": bounds}} if bounds else None), words


def _supply(drug: Segment, *, encoded: bool) -> dict[str, Any] | None:
    amount, unit, refills = (10, 11, 12) if encoded else (11, 12, 13)
    number = drug[refills][1]
    quantity = values.quantity(drug[amount][1], drug[unit])
    for field, is_known in ((amount, quantity), (refills, number.isdecimal() and len(number) < 4)):
        if drug.peek(field) and not is_known:
            drug.lose(field)
    found = present({"quantity": quantity if quantity and "comparator" not in quantity else None})
    if number.isdecimal() and len(number) < 4:
        found["numberOfRepeatsAllowed"] = int(number)
    return found or None


def _substitution(drug: Segment, field: int) -> dict[str, Any] | None:
    """Table 0161 (RXO-9, RXE-9): generic, no substitution, therapeutic."""
    code = drug[field][1].upper()
    if code in ("G", "T", "Y"):
        return {"allowedBoolean": True}
    if code == "N":
        return {"allowedBoolean": False}
    if code:
        drug.lose(field)
    return None


# --- vaccines ---------------------------------------------------------------------------------------------------------


def immunizations(draft: Draft) -> None:
    for group in groups(draft.message):
        if group.drug.name != "RXA":
            observations(draft, group, group.observed, ())
            continue
        _immunization(draft, group)


def _immunization(draft: Draft, group: Group) -> None:
    orc, rxa = group.orc, group.drug
    code = values.concept_of(rxa, 5, draft.source)
    moment = values.time_of(rxa, 3) or values.time_of(rxa, 4)
    if code is None:
        rxa.forget()
        return
    completion = values.coded(rxa, 20, "immunization_status") if rxa[20] else None
    refusal = [found for each in rxa.all(18) if (found := values.concept(each, draft.source))]
    status = completion or ("not-done" if refusal else "completed")
    action = rxa[21][1].upper()
    rxa.keep(4)
    if rxa[5][1] in table("no_vaccine"):
        status = "not-done"
    occurrence = {"occurrenceDateTime": moment} if moment else {"occurrenceString": rxa[3][1] or "unknown"}
    resource = {
        "resourceType": "Immunization",
        "identifier": numbers(group),
        "status": "entered-in-error" if action in table("immunization_deleted") else status,
        "statusReason": refusal[0] if refusal else None,
        "vaccineCode": code,
        **occurrence,
        "recorded": values.time_of(orc, 9) or values.time_of(rxa, 22),
        "primarySource": _is_first_hand(rxa),
        "location": _place(rxa),
        "manufacturer": _manufacturer(rxa[17]),
        "lotNumber": rxa[15][1],
        "expirationDate": values.date_of(rxa, 16),
        "doseQuantity": _amount(rxa),
        "performer": _performers(orc, rxa),
        "reasonCode": [found for each in rxa.all(19) if (found := values.concept(each, draft.source))],
    }
    for segment in group.routes[:1]:
        resource["route"] = values.concept_of(segment, 1, draft.source)
        resource["site"] = values.concept_of(segment, 2, draft.source) if segment[2] else None
    said, rest = _said_of_it(draft, group)
    names = _vaccine_names(draft, group)
    made = draft.put(draft.about(present({**resource, **said}), subject="patient"), "immunization", *names)
    observations(draft, group, rest, ("immunization", *names), partOf=[made])


def _vaccine_names(draft: Draft, group: Group) -> tuple[str, ...]:
    for field in (3, 2):
        value = next(iter(group.orc.peek(field)), None)
        if value is not None and value[1] not in ("", "9999"):
            return draft.sender, str(field), value[1], value[2], group.drug[5][1]
    return draft.sender, draft.whom, digest(group.drug, 3, 5)


def _is_first_hand(rxa: Segment) -> bool | None:
    """RXA-9 (NIP001): `00` was given by whom the message is of, `01` to `08` are told from elsewhere."""
    code = rxa[9][1]
    if not code:
        return None
    if code in ("00", "01", "02", "03", "04", "05", "06", "07", "08"):
        return code == "00"
    rxa.lose(9)
    return None


def _amount(rxa: Segment) -> dict[str, Any] | None:
    if rxa[6][1] in _UNKNOWN_AMOUNT:
        return None
    found = values.quantity(rxa[6][1], rxa[7])
    if rxa[6] and found is None:
        rxa.lose(6)
    return found if found and "comparator" not in found else None


def _place(rxa: Segment) -> dict[str, Any] | None:
    """LA2: the facility is the fourth component."""
    value = rxa[11]
    return values.place(value) if value else None


def _manufacturer(value: Value) -> dict[str, Any] | None:
    display = value[2] or value[1]
    return {"type": "Organization", "display": display} if display else None


def _performers(orc: Segment, rxa: Segment) -> list[dict[str, Any]]:
    functions = "http://terminology.hl7.org/CodeSystem/v2-0443"
    return [
        {"function": {"coding": [{"system": functions, "code": code}]}, "actor": each}
        for segment, field, code in ((rxa, 10, "AP"), (orc, 12, "OP"))
        for each in values.people(segment, field)
    ]


def _said_of_it(draft: Draft, group: Group) -> tuple[dict[str, Any], list[Any]]:
    """OBX that say an element of the Immunization, and those that are observations beside it."""
    said: dict[str, Any] = {}
    notes = [{"text": text} for text in remarks(group.notes)]
    rest = []
    for each in group.observed:
        obx = each.first
        code = obx.raw(3).partition("^")[0]
        if code in table("funding_eligibility") and (found := values.concept_of(obx, 5, draft.source)):
            said.setdefault(_VACCINE_FUNDING, []).append(found)
            obx.keep(3, 4, 11)
        elif code in table("annotation") and (text := obx.text(5)):
            notes.append({"text": text})
            obx.keep(3, 4, 11)
        else:
            rest.append(each)
    return {**said, "note": notes}, rest
