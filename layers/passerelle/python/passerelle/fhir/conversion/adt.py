"""Who a message is about, and in which stay: PID, PD1, NK1, ROL, PV1, PV2 and ZBE as Patient and Encounter.

HL7 Version 2 to FHIR 1.0.0, segment maps; IHE PAM with its French extension (ITI TF-4): PID-5 of type L is the birth
name, PID-11 of type BDL the place of birth, PID-32 the reliability of the identity, ZBE the movement. A movement is a
version of its Encounter: where the patient was before is in the history.

The national identifier (INS) is claimed only for an identity that is at least validated, and tells its strict traits
(contract P11, INS-2, INS-3). The message says "validated" of what the national service confirmed, too, or nothing: only
that service qualifies an identity here, and what it qualified such a message leaves so (`Conversion.validated`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from passerelle.fhir.conversion import values
from passerelle.fhir.conversion.draft import Draft
from passerelle.fhir.conversion.made import concept_text, present
from passerelle.fhir.conversion.values import table
from passerelle.hl7v2.message import Segment, Value
from passerelle.ingestion.model import Reason, RefusedMessage
from passerelle.patients.identity import is_nir, load_scheme, national_systems
from passerelle.patients.model import Identifier

_ACT: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_PARTICIPATION: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_MARITAL: Final = "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus"
_CONFIDENTIALITY: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
_MAIDEN_NAME: Final = "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName"
_BIRTH_TIME: Final = "http://hl7.org/fhir/StructureDefinition/patient-birthTime"
_CANCEL: Final = "CANCEL"
_NOT_A_PRACTITIONER: Final = ("RCT", "REPLY", "SB")  # of a document: who sends it where


def patient(draft: Draft) -> None:
    """Make the Patient; raises RefusedMessage without a PID, or an identifier in it that names somebody."""
    pid = draft.message.first("PID")
    if not pid:
        raise RefusedMessage(Reason.SEGMENT_SEQUENCE, "PID")
    own, others = _identifiers(draft, pid)
    reliability, may_carry = _reliability(pid)
    resource = {"resourceType": "Patient", **_demographics(draft, pid), **_around(draft)}
    extensions = [*reliability, *resource.get("extension", [])]
    national = _national(pid)
    if own is None:
        foreign = next(((each["system"], each["value"]) for each in others if "system" in each), None)
        known = national or foreign
        if known is None:
            raise RefusedMessage(Reason.REQUIRED_FIELD_MISSING, "PID-3")
        draft.name(known)
        _lose_all(draft)
        return
    identifiers = [{"use": "usual", **own}, *others]
    if national is not None:
        if may_carry and _tells_strict_traits(resource):
            use, kind = load_scheme("fr", "dev").form_of(national[0])
            coding = {"system": kind.system, "code": kind.code}
            identifiers.append({"use": use, "type": {"coding": [coding]}, "system": national[0], "value": national[1]})
        else:
            pid.lose(3)
    ordered = ("identifier", "active", "name", "telecom", "gender", "birthDate")
    complete = {**resource, "extension": extensions, "identifier": identifiers, "active": True}
    first = {name: complete[name] for name in ("resourceType", "extension", *ordered) if complete.get(name)}
    draft.register((own["system"], own["value"]), present({**first, **complete}))
    is_validated = not pid.raw(32) or (reliability and reliability[0]["extension"][0]["valueCoding"]["code"] == "VALI")
    if is_validated and (_has_coded_birth_place(resource) or not _speaks_of_birth_place(pid)):
        draft.validated[str(draft.subject["reference"])] = national


def _lose_all(draft: Draft) -> None:
    """Somebody else registers whom the message is about: the traits in it change nothing."""
    for segment in draft.message.all("PID", "PD1", "NK1"):
        segment.forget()
    draft.message.first("PID").keep(1, 3)


# --- identifiers ------------------------------------------------------------------------------------------------------


def _identifiers(draft: Draft, pid: Segment) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The sender's own number for the person, and all others but the national ones."""
    own: dict[str, Any] | None = None
    others = []
    listed = [each for field in (3, 2, 4) for each in pid.all(field) if each[1]]
    for each in listed:
        if _national_of(each) is not None:
            continue
        system, kind = values.authority(each, 4), each[5].upper()
        is_local = system is None and kind not in table("identifier_elsewhere")
        if own is not None and each[1] == own["value"] and not system:
            continue
        if own is None and (is_local or system == draft.source.domain):
            own = values.named_identifier(draft.source.domain, each[1], kind)
            continue
        period = values.period_of(values.written_time(each[7]), values.written_time(each[8]))
        others.append(
            present({**values.named_identifier(system, each[1], kind, each.part(4, 1)), "period": period or None})
        )
    for field, kind in ((19, "SS"), (20, "DL")):
        if pid[field][1]:
            others.append(values.named_identifier(None, pid[field][1], kind, pid[field][2]))
    return own, others


def merged(draft: Draft) -> tuple[Identifier, Identifier] | None:
    """Who is replaced by whom (MRG-1); raises RefusedMessage where the message does not say it."""
    mrg = draft.message.first("MRG")
    replaced = next((each for each in mrg.all(1) if each[1] and _national_of(each) is None), None)
    if replaced is None:
        raise RefusedMessage(Reason.REQUIRED_FIELD_MISSING, "MRG-1")
    if draft.patient is None:
        raise RefusedMessage(Reason.REQUIRED_FIELD_MISSING, "PID-3")
    mrg.keep(7)
    return (values.authority(replaced, 4) or draft.source.domain, replaced[1]), draft.patient


def _national(pid: Segment) -> Identifier | None:
    return next((found for each in pid.peek(3) if (found := _national_of(each)) is not None), None)


def _national_of(value: Value) -> Identifier | None:
    system = values.authority(value, 4)
    return (system, value[1]) if system in national_systems() and is_nir(value[1]) else None


def _reliability(pid: Segment) -> tuple[list[dict[str, Any]], bool]:
    """The extension that says how far the identity was verified (PID-32), and whether it may carry the INS."""
    rules = load_scheme("fr", "dev").reliability
    codes = [each[1].upper() for each in pid.all(32)]
    statuses = [status for each in codes if (status := table("identity_status").get(each))]
    attributes = [found for each in codes if (found := table("identity_attribute").get(each))]
    if len(statuses) + len(attributes) < len(codes):
        pid.lose(32)
    status = statuses[0] if statuses else "PROV"
    if set(attributes) & set(table("provisional")):
        status = "PROV"
    if not codes:
        return [], False
    parts = [{"url": rules["part"], "valueCoding": {"system": rules["codeSystem"], "code": status}}]
    parts += [
        {"url": rules["comment"], "valueCoding": {"system": rules["codeSystems"][0], "code": each}}
        for each in attributes
    ]
    return [{"url": rules["extension"], "extension": parts}], status in rules["carriesNationalIdentifier"]


def _tells_strict_traits(patient: Mapping[str, Any]) -> bool:
    births = [each for each in patient.get("name", ()) if each.get("use") == "official"]
    return (
        len(births) == 1
        and len(births[0].get("given", ())) == 1
        and "family" in births[0]
        and len(patient.get("birthDate", "")) == 10
        and patient.get("gender") in ("male", "female", "unknown")
        and _has_coded_birth_place(patient)
    )


def _has_coded_birth_place(patient: Mapping[str, Any]) -> bool:
    url = load_scheme("fr", "dev").birth_place["extension"]
    return any(each["url"] == url and "extension" in each["valueAddress"] for each in patient.get("extension", ()))


def _speaks_of_birth_place(pid: Segment) -> bool:
    """Whether a birth place is told, be it without its code, or taken back (`""`)."""
    return bool(pid.raw(23)) or '""' in pid.raw(11) or any(map(_is_birth_place, pid.all(11)))


# --- demographics -----------------------------------------------------------------------------------------------------


def _demographics(draft: Draft, pid: Segment) -> dict[str, Any]:
    extensions: list[dict[str, Any]] = []
    mother = pid[6].part(1, 1)
    if mother:
        extensions.append({"url": _MAIDEN_NAME, "valueString": mother})
    if place := _birth_place(pid):
        extensions.append({"url": load_scheme("fr", "dev").birth_place["extension"], "valueAddress": place})
    birth = values.time_of(pid, 7)
    moment = [{"url": _BIRTH_TIME, "valueDateTime": birth}] if birth and "T" in birth else []
    return present(
        {
            "extension": extensions,
            "name": list(_names(pid)),
            "telecom": [
                *_telecoms(pid, 13),
                *({**each, "use": each.get("use", "work")} for each in _telecoms(pid, 14)),
            ],
            "gender": values.coded(pid, 8, "gender"),
            "birthDate": birth[:10] if birth else None,
            "_birthDate": {"extension": moment} if moment else None,
            **_death(pid),
            "address": [
                found
                for each in pid.all(11)
                if not _is_birth_place(each) and (found := values.address(each)).keys() - {"use", "type"}
            ],
            "maritalStatus": _marital_status(pid),
            **_multiple_birth(pid),
            "communication": _language(pid),
        }
    )


def _names(pid: Segment) -> Iterator[dict[str, Any]]:
    """The legal name is the birth name in France, with the list of all given names beside the first."""
    listed = [each for each in pid.all(5) if each[1] or each[2]]
    legal = next((each for each in listed if each[7].upper() == "L"), None)
    legal = legal or next((each for each in listed if each[7].upper() == "B"), None)
    legal = legal or next((each for each in listed if not each[7]), None)
    for each in listed:
        name = values.human_name(each)
        if each is not legal:
            name = {**name, "use": "usual"} if name.get("use") == "official" else name
            yield name
            continue
        first, rest = each[2], each[3]
        whole = rest if rest.upper().startswith(first.upper()) else f"{first} {rest}".strip()
        named = {**name, "use": "official"}
        if first and each[7].upper() in ("L", "B"):
            named["given"] = [first]
            named["extension"] = [{"url": load_scheme("fr", "dev").birth_given_names, "valueString": whole or first}]
        yield named
    for each in pid.all(9):
        if each[1] or each[2]:
            yield {**values.human_name(each), "use": "nickname"}


def _is_birth_place(value: Value) -> bool:
    return value[7].upper() in table("birth_address")


def _birth_place(pid: Segment) -> dict[str, Any]:
    rules = load_scheme("fr", "dev").birth_place
    born = next((each for each in pid.all(11) if _is_birth_place(each)), None)
    text = pid[23][1]
    found: dict[str, Any] = {}
    if born is not None:
        found = {name: each for name, each in values.address(born).items() if name not in ("use", "type")}
        if code := values.commune(born):
            coding = {"system": rules["codeSystem"], "code": code}
            found["extension"] = [{"url": rules["code"], "valueCoding": coding}]
    if text:
        found.setdefault("text", text)
    return found


def _telecoms(segment: Segment, field: int) -> list[dict[str, Any]]:
    return [found for each in segment.all(field) if (found := values.contact_point(each)) is not None]


def _death(pid: Segment) -> dict[str, Any]:
    died = values.time_of(pid, 29)
    is_dead = values.coded(pid, 30, "yes")
    if died:
        return {"deceasedDateTime": died}
    return {"deceasedBoolean": is_dead} if is_dead is not None else {}


def _multiple_birth(pid: Segment) -> dict[str, Any]:
    order = pid[25][1]
    is_multiple = values.coded(pid, 24, "yes")
    if order.isdecimal() and len(order) < 3 and is_multiple is not False:
        return {"multipleBirthInteger": int(order)}
    if order:
        pid.lose(25)
    return {"multipleBirthBoolean": is_multiple} if is_multiple is not None else {}


def _marital_status(pid: Segment) -> dict[str, Any] | None:
    value = pid[16]
    code = table("marital_status").get(value[1].upper())
    if code is not None:
        return present({"coding": [{"system": _MARITAL, "code": code}], "text": value[2]})
    return concept_text(value[2] or value[1])


def _language(pid: Segment) -> list[dict[str, Any]]:
    value = pid[15]
    if not value:
        return []
    code = table("language").get(value[1].upper())
    coding = [{"system": "urn:ietf:bcp:47", "code": code}] if code else None
    text = value[2] or (value[1] if code is None else "")
    if not coding and not text:
        pid.lose(15)
        return []
    return [{"language": present({"coding": coding, "text": text}), "preferred": True}]


def _around(draft: Draft) -> dict[str, Any]:
    """Who is to be told, and the attending physician: NK1, PD1, ROL."""
    contacts = [found for each in draft.message.all("NK1") if (found := _contact(draft, each))]
    practitioners: list[dict[str, Any]] = []
    for pd1 in draft.message.all("PD1"):
        practitioners += values.people(pd1, 4)
        practitioners += [house for each in pd1.all(3) if (house := values.organisation(each)) is not None]
    for role in draft.message.all("ROL"):
        if role.peek(3) and role.peek(3)[0][1].upper() in table("general_practitioner"):
            role.keep(3)
            practitioners += values.people(role, 4)
    unique = {str(sorted(each.items(), key=str)): each for each in practitioners}
    return present({"contact": contacts, "generalPractitioner": list(unique.values())})


def _contact(draft: Draft, nk1: Segment) -> dict[str, Any]:
    name = next((values.human_name(each) for each in nk1.all(2) if each[1] or each[2]), None)
    home, work = _telecoms(nk1, 5), _telecoms(nk1, 6)
    addresses = [found for each in nk1.all(4) if (found := values.address(each)).keys() - {"use", "type"}]
    if len(addresses) > 1:
        nk1.lose(4)
    relationships = [
        said
        for field in (3, 7)
        if nk1[field] and (said := values.in_table("0131" if field == 7 else "0063", nk1[field]))
    ]
    found = present(
        {
            "relationship": relationships,
            "name": name,
            "telecom": [*home, *({**each, "use": each.get("use", "work")} for each in work)],
            "address": addresses[0] if addresses else None,
            "gender": values.coded(nk1, 15, "gender"),
            "organization": values.organisation(nk1[13]) if nk1[13] else None,
            "period": values.period_of(values.date_of(nk1, 8), values.date_of(nk1, 9)) or None,
        }
    )
    # pat-1: a contact has a name, a telecom, an address or an organization
    if not found.keys() & {"name", "telecom", "address", "organization"}:
        nk1.forget()
        return {}
    return found


# --- the stay ---------------------------------------------------------------------------------------------------------


def encounter(draft: Draft) -> None:
    """Make the Encounter of PV1. Without a number of the stay, only ADT says enough to tell it from others."""
    pv1, pv2, zbe = (draft.message.first(name) for name in ("PV1", "PV2", "ZBE"))
    names = _visit_names(draft, pv1)
    if not pv1 or names is None:
        return
    is_cancelled = zbe[4][1].upper() == _CANCEL and draft.event not in ("A12", "A13")
    start, end = _stay(draft, pv1, zbe)
    status = _status(draft, pv1, end is not None, is_cancelled=is_cancelled)
    resource = {
        "resourceType": "Encounter",
        "meta": _restriction(pv1, pv2),
        "identifier": _visit_numbers(draft, pv1, zbe),
        "status": status,
        "class": _class(pv1),
        "type": [
            found
            for field in (4, 18)
            if pv1[field] and (found := values.in_table(f"{7 if field == 4 else 18:04}", pv1[field]))
        ],
        "serviceType": values.in_table("0069", pv1[10]) if pv1[10] else None,
        "priority": values.in_table("0217", pv2[25]) if pv2[25] else None,
        "subject": draft.subject,
        "participant": list(_participants(draft, pv1, pv2)),
        "period": values.period_of(start, end),
        "length": _length(pv2),
        "reasonCode": _reasons(draft, pv2),
        "hospitalization": _hospitalization(draft, pv1),
        "location": _locations(draft, pv1, zbe, status),
        "serviceProvider": draft.source.organisation_reference,
    }
    draft.visit(present(resource), *names)


def _visit_names(draft: Draft, pv1: Segment) -> tuple[str, ...] | None:
    for segment, field in ((pv1, 19), (pv1, 50), (pv1, 5), (draft.message.first("PID"), 18)):
        value = next(iter(segment.peek(field)), None)
        if value is not None and value[1]:
            return str(field), value.part(4, 1), value[1]
    if not draft.feeds:
        return None
    moment = next((each[1] for each in (*pv1.peek(44), *draft.message.first("EVN").peek(6, 2))), draft.control_id)
    return "at", draft.whom, moment[:8]


def _visit_numbers(draft: Draft, pv1: Segment, zbe: Segment) -> list[dict[str, Any]]:
    account = draft.message.first("PID")
    listed = [(pv1[19], "VN"), (pv1[50], "VN"), (pv1[5], "VN"), (account[18], "AN")]
    found = [
        values.named_identifier(values.authority(value, 4), value[1], value[5] or kind, value.part(4, 1))
        for value, kind in listed
        if value[1]
    ]
    movement = values.order_number(zbe[1], "")
    return [*found, {**movement, "type": {"text": "MVT"}}] if movement else found


def _class(pv1: Segment) -> dict[str, str]:
    code = pv1[2][1].upper()
    known = table("encounter_class").get(code)
    if known is not None:
        return {"system": _ACT, "code": known[0], "display": known[1]}
    if values.is_code(code):
        return {"system": f"{values.V2}0004", "code": code}
    return {"system": "http://terminology.hl7.org/CodeSystem/v3-NullFlavor", "code": "UNK", "display": "unknown"}


def _status(draft: Draft, pv1: Segment, has_ended: bool, *, is_cancelled: bool) -> str:
    if is_cancelled:
        return "cancelled"
    said = table("encounter_status").get(draft.event)
    if said is not None and (not has_ended or draft.event in table("reopened")):
        return str(said)
    if has_ended:
        return "finished"
    if not draft.feeds:
        return "unknown"  # a result says that there is a stay, not how it goes
    return "planned" if pv1[2][1].upper() == "P" else "in-progress"


def _stay(draft: Draft, pv1: Segment, zbe: Segment) -> tuple[str | None, str | None]:
    evn = draft.message.first("EVN")
    moved = values.time_of(zbe, 2)
    happened = values.written_time(evn[6][1]) or moved
    start, end = values.time_of(pv1, 44), values.time_of(pv1, 45)
    if draft.event in ("A01", "A04"):
        start = start or happened or values.written_time(evn[2][1])
    if draft.event == "A03":
        end = end or happened or values.written_time(evn[2][1])
    if draft.event == "A13":
        end = None
    return start, end


def _locations(draft: Draft, pv1: Segment, zbe: Segment, status: str) -> list[dict[str, Any]]:
    """Where the patient is, and was before: a unit (ZBE-7) names what PV1-3 places."""
    moved = values.time_of(zbe, 2)
    former = values.place(pv1[6]) if pv1[6] else None
    current = values.place(pv1[3]) if pv1[3] else None
    unit = next((found for field in (7, 8) if zbe[field] and (found := values.organisation(zbe[field]))), None)
    if zbe[8]:
        zbe.keep(7, 8)
    if unit is not None:
        parts = (unit.get("display"), current["display"] if current else None)
        named = {"type": "Location", "display": ", ".join(filter(None, parts)), "identifier": unit.get("identifier")}
        current = present(named)
    places: list[dict[str, Any]] = []
    if former is not None and former != current:
        places.append({"location": former, "status": "completed", "period": values.period_of(None, moved) or None})
    if current is not None:
        state = "planned" if status == "planned" else "completed" if status in ("finished", "cancelled") else "active"
        places.append({"location": current, "status": state, "period": values.period_of(moved, None) or None})
    return [present(each) for each in places]


def _participants(draft: Draft, pv1: Segment, pv2: Segment) -> Iterator[dict[str, Any]]:
    listed = [
        (code, each)
        for field, code in ((7, "ATND"), (8, "REF"), (9, "CON"), (17, "ADM"))
        for each in values.people(pv1, field)
    ]
    listed += [("REF", each) for each in values.people(pv2, 13)]
    for role, said in (
        *((each, (3, 4)) for each in draft.message.all("ROL")),
        *((each, (4, 5)) for each in draft.message.all("PRT")),
    ):
        code = role.peek(said[0])[0][1].upper() if role.peek(said[0]) else ""
        if code in table("general_practitioner") or code in _NOT_A_PRACTITIONER or code not in table("participation"):
            continue
        role.keep(said[0])
        listed += [(table("participation")[code], each) for each in values.people(role, said[1])]
    for code, individual in listed:
        yield {"type": [{"coding": [{"system": _PARTICIPATION, "code": code}]}], "individual": individual}


def _length(pv2: Segment) -> dict[str, Any] | None:
    days = values.decimal(pv2[11][1])
    return {"value": days, "unit": "d", "system": values.UCUM, "code": "d"} if days is not None else None


def _reasons(draft: Draft, pv2: Segment) -> list[dict[str, Any]]:
    reason = values.concept_of(pv2, 3, draft.source) if pv2[3] else None
    described = concept_text(pv2[12][1])
    return [each for each in (reason, described) if each is not None]


def _hospitalization(draft: Draft, pv1: Segment) -> dict[str, Any] | None:
    destination = pv1[37]
    found = present(
        {
            "admitSource": values.in_table("0023", pv1[14]) if pv1[14] else None,
            "reAdmission": values.in_table("0092", pv1[13]) if pv1[13] else None,
            "dietPreference": [values.in_table("0114", pv1[38])] if pv1[38] else None,
            "destination": present({"display": destination[2] or destination[1]}) if destination else None,
            "dischargeDisposition": values.in_table("0112", pv1[36]) if pv1[36] else None,
        }
    )
    return found or None


def _restriction(pv1: Segment, pv2: Segment) -> dict[str, Any] | None:
    """A stay that is to be kept from inquiries (PV2-22), of somebody who asked to remain unknown (PV1-16)."""
    said = [pv1[16][1].upper(), pv2[22][1].upper()]
    if said[0] not in ("", "N", *table("restricted_stay")):
        pv1.lose(16)
    is_protected = any(each in table("restricted_stay") for each in said)
    return {"security": [{"system": _CONFIDENTIALITY, "code": "R"}]} if is_protected else None
