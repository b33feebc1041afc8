"""Data types of HL7 version 2 as data types of FHIR R4: TS, CX, XPN, XAD, XTN, XCN, XON, PL, CWE, EI, and of results.

HL7 Version 2 to FHIR 1.0.0, datatype maps; IHE ITI TF-4, national extension for France. What is not valid for its type
is no value: nothing is guessed. Tables are data (`data/hl7v2.json`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

from passerelle.directory.identifiers import FINESS, IDNPS, IDNST, RPPS
from passerelle.documents.contents.header import code_system
from passerelle.documents.contents.times import read_time
from passerelle.fhir.conversion.made import present
from passerelle.fhir.json import WrittenDecimal
from passerelle.fhir.primitives import has_syntax
from passerelle.hl7v2.message import Segment, Value
from passerelle.ingestion.model import Source

UCUM: Final = "http://unitsofmeasure.org"
V2: Final = "http://terminology.hl7.org/CodeSystem/v2-"
_FAR: Final = timedelta(hours=14)  # the most that a FHIR dateTime is away from UTC
_DIGITS: Final = re.compile(r"[0-9]*", re.ASCII)
_DECIMAL: Final = re.compile(r"([-+]?)0*((?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?)", re.ASCII)
_COMPARED: Final = re.compile(r"(<=|>=|<|>|=)?\s*([-+]?[0-9.]+)", re.ASCII)
_RANGE: Final = re.compile(r"\s*([0-9.]+)\s*(?:-|à|to)\s*([0-9.]+)\s*", re.ASCII)
_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9])([0-5][0-9])?(?:\..*)?", re.ASCII)
_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]*)){2,}", re.ASCII)
_TABLE: Final = re.compile(r"HL7(\d{4})", re.ASCII)


@cache
def table(name: str) -> Mapping[str, Any]:
    """A table of HL7 version 2, and what its codes are in FHIR."""
    found: Mapping[str, Any] = json.loads((Path(__file__).parent / "data" / "hl7v2.json").read_text("utf-8"))
    entries: Mapping[str, Any] = found[name]
    return entries


# --- time -------------------------------------------------------------------------------------------------------------


def written_time(text: str) -> str | None:
    """TS as a date or dateTime of the same precision; without an offset of Europe/Paris. None if it is no time."""
    read = read_time(text)
    if read is None:
        return None
    digits = len(_DIGITS.match(text.strip())[0])  # type: ignore[index]  # it matches any text
    if digits <= 8:
        return f"{read.year:04}-{read.month:02}-{read.day:02}"[: {4: 4, 6: 7}.get(digits, 10)]
    offset = read.utcoffset() or timedelta()
    if offset.seconds % 60 or abs(offset) > _FAR:  # the local time of before 1911
        read = read.astimezone(UTC)
    return read.isoformat()


def time_of(segment: Segment, field: int) -> str | None:
    """The field as a date or dateTime; lost, if it is none."""
    value = segment[field]
    found = written_time(value.part(1, 1))
    if value and found is None:
        segment.lose(field)
    return found


def date_of(segment: Segment, field: int) -> str | None:
    found = time_of(segment, field)
    return found[:10] if found else None


def instant_of(segment: Segment, field: int) -> str | None:
    """An instant, of what is at least exact to the second of a day; a day alone is none."""
    found = time_of(segment, field)
    if found is not None and "T" not in found:
        segment.lose(field)
        return None
    return found


def period_of(start: str | None, end: str | None) -> dict[str, str]:
    """Without an end that is before the start (per-1)."""
    if start and end and (read := (read_back(start), read_back(end)))[1] < read[0]:
        end = None
    return {name: value for name, value in (("start", start), ("end", end)) if value}


def read_back(text: str) -> str:
    """What orders times of any precision and offset."""
    from passerelle.fhir.dates import date_range

    return date_range(text)[0]


# --- codes ------------------------------------------------------------------------------------------------------------


def system_of(name: str, source: Source) -> str:
    """The URL of a coding system by what HL7 calls it (table 0396), by its OID, or one of the sender's own."""
    systems: Mapping[str, str] = table("code_systems")
    known = systems.get(name.upper())
    if known is not None:
        return known
    if match := _TABLE.fullmatch(name.upper()):
        return f"{V2}{match[1]}"
    if _OID.fullmatch(name):
        return code_system(name)
    if name.startswith(("http://", "https://", "urn:")) and not re.search(r"\s", name):
        return name
    local = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-")
    return f"{source.domain}#codes" + (f":{local}" if local and name not in ("L", "LOCAL") else "")


def is_code(text: str) -> bool:
    return has_syntax("code", text)


def concept(value: Value, source: Source) -> dict[str, Any] | None:
    """CWE, CE, and a code alone: both codings that it may have, and its text."""
    codings = [
        present({"system": system_of(value[at + 2], source), "code": value[at], "display": value[at + 1]})
        for at in (1, 4)
        if is_code(value[at]) and (value[at + 1] or value[at + 2] or at == 1)
    ]
    text = value[9] or value[2] or value[5]
    if not codings and not text:
        return None
    return present({"coding": codings, "text": text})


def concept_of(segment: Segment, field: int, source: Source) -> dict[str, Any] | None:
    return concept(segment[field], source)


def coded(segment: Segment, field: int, name: str) -> Any:
    """What a table has for the code in a field; the field is lost if it has nothing for it."""
    value = segment[field]
    found = table(name).get(value[1].upper())
    if value and found is None:
        segment.lose(field)
    return found


def in_table(number: str, value: Value) -> dict[str, Any] | None:
    """A code of a table of HL7's own; other codes with their text alone."""
    code = value[1]
    if not is_code(code):
        return {"text": value[2]} if value[2] else None
    return present({"coding": [present({"system": f"{V2}{number}", "code": code, "display": value[2]})]})


# --- identifiers, people, places --------------------------------------------------------------------------------------


def oid_of(*parts: str) -> str | None:
    """The OID of an authority (HD: namespace, universal id, its type), wherever the sender wrote it."""
    return next((each for each in parts[1::-1] if _OID.fullmatch(each)), None)


def authority(value: Value, component: int) -> str | None:
    """The system of an identifier whose authority has an OID."""
    parts = (*value.parts(component), "", "")
    oid = oid_of(parts[0], parts[1])
    return f"urn:oid:{oid}" if oid else None


def named_identifier(system: str | None, value: str, kind: str, assigner: str = "") -> dict[str, Any]:
    """An identifier with its type of table 0203; one without a system says by name who gave it."""
    return present(
        {
            "type": {"coding": [{"system": f"{V2}0203", "code": kind}]} if is_code(kind) else None,
            "system": system,
            "value": value,
            "assigner": {"display": assigner} if assigner and system is None else None,
        }
    )


def order_number(value: Value, kind: str) -> dict[str, Any] | None:
    """EI: the number of an order, a visit, a specimen."""
    if not value[1]:
        return None
    oid = oid_of(value[2], value[3])
    return named_identifier(f"urn:oid:{oid}" if oid else None, value[1], kind, value[2])


def human_name(value: Value) -> dict[str, Any]:
    """XPN; in the family name the own surname stands first (FN)."""
    given = [each for each in (value[2], value[3]) if each]
    return present(
        {
            "use": table("name_use").get(value[7].upper()),
            "family": value.part(1, 1),
            "given": given,
            "prefix": [value[5]] if value[5] else None,
            "suffix": [each for each in (value[4], value[6]) if each],
        }
    )


def address(value: Value) -> dict[str, Any]:
    """XAD: a street line may have its parts in sub-components (SAD)."""
    kind = value[7].upper()
    return present(
        {
            "use": table("address_use").get(kind),
            "type": table("address_type").get(kind),
            "line": [each for each in (" ".join(filter(None, value.parts(1))), value[2]) if each],
            "city": value[3],
            "district": value[9] if not _is_commune(value[9]) else None,
            "state": value[4],
            "postalCode": value[5],
            "country": value[6],
        }
    )


def commune(value: Value) -> str | None:
    """The INSEE code of the place of an address (XAD-9 in the French use)."""
    return value[9] if _is_commune(value[9]) else None


def _is_commune(text: str) -> bool:
    return re.fullmatch(r"[0-9][0-9AB][0-9]{3}", text) is not None


def contact_point(value: Value) -> dict[str, Any] | None:
    """XTN, of the forms before 2.3 (the number alone) as well."""
    equipment, use = value[3].upper(), value[2].upper()
    parts = [f"+{value[5].lstrip('+')}" if value[5] else "", value[6], value[7], value[8]]
    is_mail = use == "NET" or equipment in ("INTERNET", "X.400")
    said = value[4] if is_mail or not any((value[1], value[12], *parts)) else ""
    number = said or value[1] or value[12] or " ".join(filter(None, parts))
    if not number:
        return None
    system = "email" if said and "@" in said else table("telecom_system").get(equipment, "phone")
    return present(
        {
            "system": system,
            "value": number,
            "use": "mobile" if equipment == "CP" else table("telecom_use").get(use),
        }
    )


def person(value: Value) -> dict[str, Any] | None:
    """XCN as a Reference: by the national number, or another whose authority has an OID; else by name."""
    name = " ".join(each for each in (value[6], value[3], value.part(2, 1)) if each)
    if not name and not value[1]:
        return None
    found = _numbered(authority(value, 9), value[1])
    return present({"type": "Practitioner", "identifier": found, "display": name or value[1]})


def _numbered(system: str | None, number: str) -> dict[str, str] | None:
    """National numbers without the digit that tells people from structures are of the systems that have none."""
    if system is None or not number:
        return None
    bare = {IDNPS: (RPPS, 11), IDNST: (FINESS, 9)}.get(system)
    return {"system": bare[0] if bare and len(number) == bare[1] else system, "value": number}


def people(segment: Segment, field: int) -> list[dict[str, Any]]:
    return [found for each in segment.all(field) if (found := person(each)) is not None]


def organisation(value: Value) -> dict[str, Any] | None:
    """XON as a Reference: a unit (UF) by its name and the number that its house gave it."""
    number = value[10] or value[3]
    system = authority(value, 6)
    if not value[1] and not number:
        return None
    found = _numbered(system, number)
    display = value[1] if not number or found else " ".join(filter(None, (value[1], number)))
    return present({"type": "Organization", "identifier": found, "display": display})


def place(value: Value) -> dict[str, Any] | None:
    """PL as a Reference: facility, building, floor, point of care, room and bed, from the whole to the part."""
    parts = [value.part(4, 1), value[7], value[8], value[1], value[2], value[3], value[9]]
    display = ", ".join(each for each in parts if each)
    return {"type": "Location", "display": display} if display else None


# --- values of observations -------------------------------------------------------------------------------------------


def decimal(text: str) -> WrittenDecimal | None:
    """With the digits that it was sent with."""
    found = _DECIMAL.fullmatch(text.strip().replace(",", "."))
    return WrittenDecimal(("-" if found[1] == "-" else "") + found[2]) if found else None


def quantity(text: str, units: Value) -> dict[str, Any] | None:
    """NM, with a comparator that some put before it."""
    found = _COMPARED.fullmatch(text.strip().replace(",", "."))
    number = decimal(found[2]) if found else None
    if found is None or number is None:
        return None
    comparator = found[1] if found[1] and found[1] != "=" else None
    return {**({"comparator": comparator} if comparator else {}), "value": number, **unit(units)}


def unit(value: Value) -> dict[str, Any]:
    """The unit as it is written, and its UCUM code where the sender says that it is one."""
    for at in (1, 4):
        if value[at + 2].upper() == "UCUM" and is_code(value[at]):
            return {"unit": value[at + 1] or value[at], "system": UCUM, "code": value[at]}
    text = value[1] or value[2]
    return {"unit": text} if text else {}


def structured(value: Value, units: Value) -> dict[str, Any] | None:
    """SN: `<^10`, `^1^-^5`, `^1^:^128`: an element of Observation with its value."""
    comparator, first, separator, second = value[1], decimal(value[2]), value[3], decimal(value[4])
    if first is None:
        return None
    if separator in (":", "/") and second is not None:
        return {"valueRatio": {"numerator": {"value": first}, "denominator": {"value": second}}}
    if separator == "-" and second is not None and second >= first:
        return {"valueRange": {"low": {"value": first, **unit(units)}, "high": {"value": second, **unit(units)}}}
    if separator or second is not None:
        return None
    known = {"comparator": comparator} if comparator in ("<", "<=", ">=", ">") else {}
    return {"valueQuantity": {**known, "value": first, **unit(units)}}


def reference_range(text: str, units: Value) -> dict[str, Any]:
    """OBX-7 as it is written, and its bounds where it is two numbers, or one with a comparator."""
    between, one = _RANGE.fullmatch(text), _COMPARED.fullmatch(text.strip())
    found: dict[str, Any] = {}
    if between:
        low, high = decimal(between[1]), decimal(between[2])
        if low is not None and high is not None and low <= high:
            found = {"low": {"value": low, **unit(units)}, "high": {"value": high, **unit(units)}}
    elif one and one[1] in ("<", "<=", ">", ">=") and (bound := decimal(one[2])) is not None:
        found = {"high" if one[1] < ">" else "low": {"value": bound, **unit(units)}}
    return {**found, "text": text}


def clock(text: str) -> str | None:
    """TM as a time."""
    found = _CLOCK.fullmatch(text.strip())
    return f"{found[1]}:{found[2]}:{found[3] or '00'}" if found else None
