"""Results: OBR, OBX, NTE and SPM as DiagnosticReport, Observation and Specimen (HL7 2.5, chapter 7).

A correction, a final result after a preliminary one, and a result that is taken back meet the resource of the first, by
the laboratory's number of the order (OBR-3) and what was observed (OBX-3, OBX-4). HL7 Version 2 to FHIR 1.0.0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Final

from passerelle.fhir.conversion import values
from passerelle.fhir.conversion.draft import Draft, Reference, digest
from passerelle.fhir.conversion.groups import Group, Observed, groups, remarks
from passerelle.fhir.conversion.made import present
from passerelle.fhir.conversion.values import table
from passerelle.hl7v2.message import Segment, Value

_CATEGORIES: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
_INTERPRETATIONS: Final = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
_DOCUMENTS: Final = ("ED", "RP")  # which are no values
_TEXTS: Final = ("TX", "FT")


def reports(draft: Draft, handled: Collection[int]) -> None:
    """A report for each order with its observations; `handled` are the OBX of documents, by their number."""
    made: dict[tuple[str, ...], Reference] = {}
    for group in groups(draft.message):
        listed = [each for each in group.observed if each.first.number not in handled]
        if not group.obr or not (group.obr.peek(4, 3, 2) or group.orc.peek(3, 2)):
            group.obr.forget()
            observations(draft, group, listed, ())
            continue
        report = _report(draft, group, listed, made)
        if not listed and len(group.observed) > len(listed):
            group.obr.keep(4, 25)  # the document is the report
            continue
        _child(draft, group, [made[each] for each in report], made)


def _report(
    draft: Draft, group: Group, listed: list[Observed], made: dict[tuple[str, ...], Reference]
) -> list[tuple[str, ...]]:
    obr, orc = group.obr, group.orc
    names = order_names(draft, group)
    if not listed and group.observed:
        return []
    specimens = [found for each in group.specimens if (found := _specimen(draft, each))]
    if not specimens and obr[15] and (found := _former_specimen(draft, obr, names)):
        specimens = [found]
    results = observations(draft, group, listed, names, specimens=specimens)
    effective, end = values.time_of(obr, 7), values.time_of(obr, 8)
    report = {
        "resourceType": "DiagnosticReport",
        "identifier": numbers(group),
        **_order(draft, group),
        "status": values.coded(obr, 25, "report_status") or _overall(draft, results) or "unknown",
        "category": [{"coding": [{"system": f"{values.V2}0074", "code": obr[24][1]}]}] if obr[24][1] else None,
        "code": values.concept_of(obr, 4, draft.source) or {"text": "order"},
        "issued": values.instant_of(obr, 22),
        "performer": [draft.source.organisation_reference],
        "resultsInterpreter": _interpreters(obr),
        "specimen": specimens,
        "result": list(results.values()),
        "conclusion": "\n".join(remarks(group.notes)),
    }
    if end and effective:
        report["effectivePeriod"] = values.period_of(effective, end)
    elif effective:
        report["effectiveDateTime"] = effective
    orc.keep(2, 3, 5)
    draft.put(draft.about(present(report)), "report", *names, within=names)
    for key, reference in results.items():
        made[names + key] = reference
    return [names + key for key in results]


def order_names(draft: Draft, group: Group) -> tuple[str, ...]:
    """What the order goes by: the filler's number, else the placer's; and what was asked for."""
    obr, orc = group.obr, group.orc
    for field in (3, 2):
        for segment in (obr, orc):
            value = next(iter(segment.peek(field)), None)
            if value is not None and value[1]:
                return draft.sender, str(field), value[1], value[2], obr.raw(4).partition("^")[0]
    return draft.sender, draft.whom, digest(obr, 4, 7) if obr else draft.control_id


def numbers(group: Group) -> list[dict[str, Any]]:
    """Of the order: the placer's and the filler's."""
    found = []
    for field, kind in ((2, "PLAC"), (3, "FILL")):
        value = next((segment[field] for segment in (group.obr, group.orc) if segment.peek(field)), None)
        group.orc.keep(field)
        group.obr.keep(field)
        if value is not None and (number := values.order_number(value, kind)):
            found.append(number)
    return found


def _order(draft: Draft, group: Group) -> dict[str, Any]:
    """What was asked for, by whom: contained, because the order itself is its placer's to tell."""
    obr, orc = group.obr, group.orc
    requesters = [*values.people(obr, 16), *values.people(orc, 12)]
    order = present(
        {
            "identifier": [each for each in numbers(group) if each["type"]["coding"][0]["code"] == "PLAC"],
            "requisition": values.order_number(orc[4], "PGN"),
            "authoredOn": values.time_of(orc, 9),
            "requester": requesters[0] if requesters else None,
            "reasonCode": [found for each in obr.all(31) if (found := values.concept(each, draft.source))],
            "note": [{"text": text}] if (text := obr.text(13)) else None,
        }
    )
    if not order:
        return {}
    known = {"resourceType": "ServiceRequest", "id": "order", "status": "unknown", "intent": "order"}
    return {"contained": [{**known, **order, "subject": draft.subject}], "basedOn": [{"reference": "#order"}]}


def _overall(draft: Draft, results: Mapping[tuple[str, ...], Reference]) -> str | None:
    statuses = {draft.made(each)["status"] for each in results.values()}
    return next((each for each in ("preliminary", "corrected", "final") if each in statuses), None)


def _interpreters(obr: Segment) -> list[dict[str, Any]]:
    """NDL: the name is in the first component."""
    found = []
    for each in obr.all(32):
        parts = each.parts(1)
        if len(parts) < 2:
            parts = tuple(each[number] for number in range(1, 4))
        name = " ".join(part for part in (*parts[2:3], *parts[1:2]) if part) or parts[0]
        if name:
            found.append({"type": "Practitioner", "display": name})
    return found


# --- observations -----------------------------------------------------------------------------------------------------


def observations(
    draft: Draft,
    group: Group,
    listed: list[Observed],
    names: tuple[str, ...],
    *,
    specimens: list[Reference] | None = None,
    **elements: Any,
) -> dict[tuple[str, ...], Reference]:
    """Make the observations of a group; by what was observed, and its sub-id."""
    found: dict[tuple[str, ...], Reference] = {}
    seen: Counter[tuple[str, str]] = Counter()
    category = _category(group.obr)
    when = values.time_of(group.obr, 7) if group.obr else None
    for each in listed:
        obx = each.first
        about = (obx.raw(3).partition("^")[0] or obx.raw(3), obx.raw(4))
        seen[about] += 1
        made = _observation(draft, each, when)
        if made is None:
            for segment in each.segments:
                segment.forget()
            continue
        made |= {"category": category, "specimen": next(iter(specimens or ()), None), **elements}
        key = (*about, str(seen[about]))
        context = names or _context(draft, obx)
        found[key] = draft.put(draft.about(present(made)), "observation", *context, *key, within=context)
    return found


def _context(draft: Draft, obx: Segment) -> tuple[str, ...]:
    """An observation without an order: of its stay, and its time."""
    visit = str((draft.encounter or {}).get("reference", ""))
    return draft.sender, draft.whom, visit, obx.raw(14)


def _category(obr: Segment) -> list[dict[str, Any]] | None:
    section = obr[24][1].upper() if obr else ""
    code = "imaging" if section in table("radiology_sections") else table("other_sections").get(section)
    if code is None and not section:
        return None
    return [{"coding": [{"system": _CATEGORIES, "code": code or "laboratory"}]}]


def _observation(draft: Draft, observed: Observed, when: str | None) -> dict[str, Any] | None:
    obx = observed.first
    code = values.concept_of(obx, 3, draft.source)
    if obx.raw(2) in _DOCUMENTS or (code is None and not obx.peek(5)):
        return None
    value = _value(draft, observed)
    for segment in observed.segments[1:]:
        segment.keep(3, 4, 11)
        for field in (14, 16):
            if segment.raw(field) == obx.raw(field):
                segment.keep(field)
    interpretation = [_interpretation(each) for each in obx.all(8) if each[1] or each[2]]
    status = values.coded(obx, 11, "result_status") or "unknown"
    obx.keep(4)
    notes = [{"text": text} for text in remarks(observed.notes)]
    return {
        "resourceType": "Observation",
        "status": status,
        "code": code or {"text": "observation"},
        "effectiveDateTime": values.time_of(obx, 14) or when,
        "issued": values.instant_of(obx, 19) if obx[19] else None,
        "performer": _performers(obx),
        **value,
        "interpretation": interpretation,
        "note": notes,
        "bodySite": values.concept_of(obx, 20, draft.source) if obx[20] else None,
        "method": values.concept_of(obx, 17, draft.source) if obx[17] else None,
        "device": {"type": "Device", "display": obx[18][1]} if obx[18][1] else None,
        "referenceRange": [values.reference_range(obx.text(7), obx[6])] if obx[7] else None,
    }


def _performers(obx: Segment) -> list[dict[str, Any]]:
    listed = [*values.people(obx, 16), *(found for each in obx.all(23) if (found := values.organisation(each)))]
    producer = obx[15]
    if producer[1] or producer[2]:
        listed.append({"type": "Organization", "display": producer[2] or producer[1]})
    if obx[24]:
        obx.lose(24)
    return listed


def _interpretation(value: Value) -> dict[str, Any]:
    code = value[1].upper()
    if code in table("interpretation"):
        return {"coding": [{"system": _INTERPRETATIONS, "code": code}]}
    return {"text": value[2] or value[1]}


def _value(draft: Draft, observed: Observed) -> dict[str, Any]:
    """The value by its type (OBX-2); several of one result are its components. Lost, if it is not of its type."""
    obx, kind = observed.first, observed.first.raw(2).upper()
    listed = obx.all(5)
    units = obx[6]
    if not listed:
        return {}
    if kind in _TEXTS:
        return {"valueString": "\n".join(each.text(5) for each in observed.segments).strip() or "-"}
    found = [_typed(draft, kind, each, units) for each in listed]
    if any(each is None for each in found):
        # what is not of its type is told as it was written
        return {"valueString": obx.text(5)}
    if len(found) == 1:
        return found[0] or {}
    code = values.concept_of(obx, 3, draft.source) or {"text": "observation"}
    return {"component": [{"code": code, **(each or {})} for each in found]}


def _typed(draft: Draft, kind: str, value: Value, units: Value) -> dict[str, Any] | None:
    if kind in ("NM", "SI"):
        number = values.quantity(value[1], units)
        return {"valueQuantity": number} if number else None
    if kind == "SN":
        return values.structured(value, units)
    if kind in ("CE", "CWE", "CNE", "CF"):
        concept = values.concept(value, draft.source)
        return {"valueCodeableConcept": concept} if concept else None
    if kind in ("DT", "TS", "DTM"):
        moment = values.written_time(value.part(1, 1))
        return {"valueDateTime": moment} if moment else None
    if kind == "TM":
        time = values.clock(value[1])
        return {"valueTime": time} if time else None
    if kind in ("CQ",):
        amount = values.quantity(value[1], units)
        return {"valueQuantity": amount} if amount else None
    return None


# --- specimens, and reports of reports --------------------------------------------------------------------------------


def _specimen(draft: Draft, spm: Segment) -> Reference | None:
    number = next((each for each in spm.all(2) if each), None)
    identity = " ".join(number.parts(2) or number.parts(1)) if number is not None else ""
    entity = (number.part(2, 1) or number.part(1, 1)) if number is not None else ""
    kind = values.concept_of(spm, 4, draft.source)
    if kind is None and not entity:
        spm.forget()
        return None
    collected = spm[17]
    period = values.period_of(values.written_time(collected[1]), values.written_time(collected[2]))
    collection = present(
        {
            "collectedDateTime": period.get("start") if "end" not in period else None,
            "collectedPeriod": period if "end" in period else None,
            "method": values.concept_of(spm, 7, draft.source) if spm[7] else None,
            "bodySite": values.concept_of(spm, 8, draft.source) if spm[8] else None,
        }
    )
    resource = {
        "resourceType": "Specimen",
        "identifier": [{"value": entity}] if entity else None,
        "type": kind,
        "subject": draft.subject,
        "receivedTime": values.time_of(spm, 18),
        "collection": collection,
        "note": [{"text": each[1]} for each in spm.all(14) if each[1]],
    }
    return draft.put(present(resource), "specimen", draft.sender, identity, digest(spm, 4, 17) if not entity else "")


def _former_specimen(draft: Draft, obr: Segment, names: tuple[str, ...]) -> Reference | None:
    """OBR-15, before SPM: the kind of specimen stands in its first component."""
    value = obr[15]
    text = value.part(1, 2) or value.part(1, 1)
    if not text:
        obr.lose(15)
        return None
    received = values.time_of(obr, 14)
    resource = {"resourceType": "Specimen", "type": {"text": text}, "subject": draft.subject, "receivedTime": received}
    return draft.put(present(resource), "specimen", *names)


def _child(draft: Draft, group: Group, results: list[Reference], made: Mapping[tuple[str, ...], Reference]) -> None:
    """Results that follow from another one (OBR-26, of the order in OBR-29: sensitivities of a germ) are members of it.

    Where it is not sure which one is meant, they are nobody's; what the message calls it (OBR-26.3) is told of each.
    """
    if not group.obr[26]:
        return
    value = group.obr[26]
    parents = [
        each
        for key, each in made.items()
        if key[-3:-1] == (value.part(1, 1), value[2]) and each not in results and _is_of(key, group.obr[29])
    ]
    if len(parents) != 1 or not results:
        group.obr.lose(26)
        for each in results if value[3] else ():
            draft.revise(each, note=[*draft.made(each).get("note", ()), {"text": value[3]}])
        return
    (parent,) = parents
    group.obr.keep(29)
    members = [*draft.made(parent).get("hasMember", ()), *results]
    draft.revise(parent, hasMember=list({each["reference"]: each for each in members}.values()))
    for each in results:
        draft.revise(each, derivedFrom=[parent])


def _is_of(key: tuple[str, ...], order: Value) -> bool:
    """Whether a result is of an order (EIP: the placer's number, the filler's), as far as that is said."""
    number = {"2": order.part(1, 1), "3": order.part(2, 1)}.get(key[1], "")
    return not number or key[2] == number
