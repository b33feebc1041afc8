"""Data types of HL7 version 3 (CDA R2) as data types of FHIR R4: CD, TS and IVL_TS, PQ and IVL_PQ, RTO, BL, INT, ST.

A nullFlavor is no value. What is not valid for its type is no value either: nothing is guessed. Codes keep the code
system that they came with, as a URL where FHIR knows one (`documents/data/code_systems.json`), else as its OID.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from xml.etree.ElementTree import Element

from passerelle.documents.contents.cda import NAMESPACE
from passerelle.documents.contents.header import code_system, identifier_of
from passerelle.documents.contents.times import read_time
from passerelle.fhir.conversion.made import present
from passerelle.fhir.json import WrittenDecimal
from passerelle.patients.model import Identifier

UCUM: Final = "http://unitsofmeasure.org"
_TYPE: Final = "{http://www.w3.org/2001/XMLSchema-instance}type"
_DECIMAL = re.compile(r"-?(0|[1-9]\d{0,17})(\.\d{1,17})?([eE][+-]?\d{1,3})?", re.ASCII)
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,8})", re.ASCII)
_UNIT = re.compile(r"[!-~]{1,60}", re.ASCII)
_OID = re.compile(r"[0-2](\.(0|[1-9]\d*))+", re.ASCII)
_CODE = re.compile(r"\S{1,100}( \S{1,100}){0,20}")
# Of forms: an entry may refer to the cell of its answer, which is not the name of what was asked.
_ANSWERS: Final = frozenset(("oui", "non", "yes", "no", "x", "-", "vrai", "faux"))
_DATE_LENGTHS: Final = {4: "{0}", 6: "{0}-{1}", 8: "{0}-{1}-{2}"}


def all_of(element: Element | None, path: str) -> list[Element]:
    if element is None:
        return []
    return element.findall("/".join(f"{{{NAMESPACE}}}{each}" for each in path.split("/")))


def first_of(element: Element | None, path: str) -> Element | None:
    return next(iter(all_of(element, path)), None)


def name_of(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def type_of(element: Element) -> str:
    """The data type that an element says it is of (`xsi:type`), without prefix."""
    return element.get(_TYPE, "").rpartition(":")[2]


def identifiers(element: Element) -> Iterator[Identifier]:
    for each in all_of(element, "id"):
        found = None if each.get("nullFlavor") else identifier_of(each.get("root", ""), each.get("extension"))
        if found is not None:
            yield found


def plain_text(element: Element | None) -> str | None:
    return None if element is None else " ".join("".join(element.itertext()).split()) or None


class Narrative:
    """The text of a document for people, by the ids that entries refer to."""

    def __init__(self, root: Element) -> None:
        self._parts = {id: each for each in root.iter() if (id := each.get("ID"))}

    def text_of(self, element: Element | None) -> str | None:
        """Text that stands in an element, or that it refers to (`<reference value="#id"/>`)."""
        if element is None:
            return None
        reference = first_of(element, "reference")
        if reference is None:
            return plain_text(element)
        # Senders leave the # out.
        return plain_text(self._parts.get(reference.get("value", "").removeprefix("#")))


# --- codes ------------------------------------------------------------------------------------------------------------


def concept(element: Element | None, narrative: Narrative, **systems: str) -> dict[str, Any] | None:
    """CD, CE, CO, CV, CS: the code, its translations, and its text as its author wrote it; None without either."""
    if element is None:
        return None
    coded = [element, *all_of(element, "translation")]
    codings: list[dict[str, str]] = []
    for each in coded:
        found = coding(each, **systems)
        if found is not None and found not in codings:
            codings.append(found)
    written = narrative.text_of(first_of(element, "originalText"))
    if written is not None and written.lower() in _ANSWERS:
        written = None
    text = written or _trimmed(element.get("displayName"))
    return present({"coding": codings, "text": text}) or None


def coding(element: Element | None, *, default_system: str = "") -> dict[str, str] | None:
    code = _trimmed(None if element is None else element.get("code"))
    if element is None or code is None or not _CODE.fullmatch(code):
        return None
    root = (element.get("codeSystem") or default_system).strip()
    system = code_system(root) if _OID.fullmatch(root) else None
    return present({"system": system, "code": code, "display": _trimmed(element.get("displayName"))})


def mapped(element: Element | None, table: Mapping[str, str]) -> str | None:
    """What the code of an element is in a table; None for a code that it does not have."""
    return None if element is None else table.get(element.get("code", ""))


def _trimmed(text: str | None) -> str | None:
    return (text or "").strip() or None


# --- times ------------------------------------------------------------------------------------------------------------


def date_time(text: str | None) -> str | None:
    """A FHIR dateTime as precise as the TS; without an offset it is of Europe/Paris."""
    value = (text or "").strip()
    read = read_time(value)
    if read is None:
        return None
    form = _DATE_LENGTHS.get(len(value))
    return form.format(value[:4], value[4:6], value[6:8]) if form else read.isoformat(timespec="seconds")


def moment(element: Element | None) -> str | None:
    """The time of TS, or where an interval begins."""
    if element is None:
        return None
    begun = first_of(element, "low")
    if begun is None:
        begun = first_of(element, "center")
    return date_time(element.get("value")) or date_time(None if begun is None else begun.get("value"))


def ended(element: Element | None) -> str | None:
    high = first_of(element, "high")
    return None if high is None else date_time(high.get("value"))


def period(element: Element | None) -> dict[str, str]:
    """What is known of an interval; of one that ends before it begins, nothing (per-1)."""
    start, end = moment(element), ended(element)
    if start and end:
        low, high = first_of(element, "low"), first_of(element, "high")
        times = [read_time(None if each is None else each.get("value")) for each in (low, high)]
        if times[0] is not None and times[1] is not None and times[0] > times[1]:
            return {}
    return present({"start": start, "end": end})


def effective(element: Element | None) -> dict[str, Any]:
    """`effectiveDateTime` or `effectivePeriod`."""
    found = period(element)
    if "end" in found and found.get("start") != found["end"]:
        return {"effectivePeriod": found}
    return {"effectiveDateTime": found["start"]} if "start" in found else {}


# --- quantities -------------------------------------------------------------------------------------------------------


def quantity(element: Element | None) -> dict[str, Any] | None:
    """PQ, MO, REAL, INT: with its UCUM unit, as written."""
    value = _decimal(None if element is None else element.get("value"))
    if element is None or value is None:
        return None
    unit = _trimmed(element.get("unit"))
    if unit in (None, "1"):
        return {"value": value}
    is_ucum = _UNIT.fullmatch(str(unit)) is not None
    return {"value": value, "unit": unit, **({"system": UCUM, "code": unit} if is_ucum else {})}


def interval(element: Element | None) -> dict[str, Any]:
    """IVL_PQ as `Quantity` (with a comparator where it has one end) or `Range`."""
    low, high = first_of(element, "low"), first_of(element, "high")
    lower, upper = quantity(low), quantity(high)
    if lower and upper:
        return {"Quantity": lower} if lower == upper else {"Range": {"low": lower, "high": upper}}
    if lower:
        return {"Quantity": {**lower, "comparator": ">" if _is_open(low) else ">="}}
    if upper:
        return {"Quantity": {**upper, "comparator": "<" if _is_open(high) else "<="}}
    one = quantity(element)
    return {"Quantity": one} if one else {}


def simple_range(element: Element | None) -> dict[str, Any]:
    return present({"low": quantity(first_of(element, "low")), "high": quantity(first_of(element, "high"))})


def _is_open(bound: Element | None) -> bool:
    return bound is not None and bound.get("inclusive") == "false"


def _decimal(text: str | None) -> WrittenDecimal | None:
    value = (text or "").strip().removeprefix("+")
    return WrittenDecimal(value) if _DECIMAL.fullmatch(value) else None


# --- values of observations -------------------------------------------------------------------------------------------


def value_of(element: Element, narrative: Narrative) -> dict[str, Any]:
    """`value[x]` of an Observation; empty where there is none, or none of a type that FHIR knows."""
    kind = type_of(element)
    if kind in ("CD", "CE", "CV", "CO", "CS", "SC"):
        found: Any = concept(element, narrative)
        return present({"valueCodeableConcept": found})
    if element.get("nullFlavor"):
        return {}
    if kind in ("PQ", "REAL"):
        return present({"valueQuantity": quantity(element)})
    if kind == "INT":
        text = (element.get("value") or "").strip()
        return {"valueInteger": int(text)} if _INTEGER.fullmatch(text) else {}
    if kind == "BL":
        return {"valueBoolean": element.get("value") == "true"} if element.get("value") in ("true", "false") else {}
    if kind == "IVL_PQ":
        return {f"value{name}": each for name, each in interval(element).items()}
    if kind in ("TS", "TS_NULL"):
        return present({"valueDateTime": date_time(element.get("value"))})
    if kind == "IVL_TS":
        return present({"valuePeriod": period(element)})
    if kind in ("RTO", "RTO_PQ_PQ"):
        parts = {name: quantity(first_of(element, name)) for name in ("numerator", "denominator")}
        return {"valueRatio": parts} if all(parts.values()) else {}
    if kind in ("ST", "ED", "", "ON", "PN", "TN"):
        return present({"valueString": narrative.text_of(element) if len(element) < 2 else plain_text(element)})
    return {}
