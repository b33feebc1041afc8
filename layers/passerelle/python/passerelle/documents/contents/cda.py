"""The header of a CDA document: HL7 CDA R2 (2005), section 4.2, as C-CDA and the French CI-SIS volet structuration
minimale use it; level 1 (nonXMLBody) and level 3 alike.

What becomes which metadata is IHE PCC TF-2, 4.1.1. A header without an element is a header all the same: whoever needs
that element says so.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import Any, Final
from xml.etree.ElementTree import Element

from passerelle.documents.contents.header import (
    Author,
    Code,
    Header,
    Identifier,
    Organisation,
    Relation,
    code_system,
    data,
    identifier_of,
)
from passerelle.documents.contents.times import read_time

NAMESPACE: Final = "urn:hl7-org:v3"
ROOT: Final = f"{{{NAMESPACE}}}ClinicalDocument"
# Not read: what a section says is for who opens the document.
BODY: Final = frozenset((f"{{{NAMESPACE}}}structuredBody",))

_RELATIONS: Final[dict[str, Any]] = {"RPLC": "replaces", "APND": "appends", "XFRM": "transforms"}
_CONFIDENTIALITY: Final = "2.16.840.1.113883.5.25"


def header_of(root: Element) -> Header:
    event = _first(root, "documentationOf/serviceEvent")
    return Header(
        patients=_identifiers(_all(root, "recordTarget/patientRole/id")),
        document=_identifier(_first(root, "id")),
        set_id=_identifier(_first(root, "setId")),
        version=_attribute(_first(root, "versionNumber"), "value"),
        type=_code(_first(root, "code")),
        title=_text(_first(root, "title")),
        created=read_time(_attribute(_first(root, "effectiveTime"), "value")),
        language=_attribute(_first(root, "languageCode"), "code"),
        confidentiality=tuple(_codes(_all(root, "confidentialityCode"), default_system=_CONFIDENTIALITY)),
        authors=tuple(_author(each, "assignedAuthor") for each in _all(root, "author")),
        legal_authenticator=_legal_authenticator(root),
        custodian=_organisation(_first(root, "custodian/assignedCustodian/representedCustodianOrganization")),
        format=_format(root),
        events=tuple(_codes(_all(root, "documentationOf/serviceEvent/code"))),
        service_start=_bound(event, "low"),
        service_end=_bound(event, "high"),
        facility=_code(_first(root, "componentOf/encompassingEncounter/location/healthCareFacility/code")),
        practice=_practice(root),
        relations=tuple(_relations(root)),
        embedded_type=_attribute(_embedded(root), "mediaType"),
    )


def embedded_bytes(root: Element) -> bytes | None:
    """The body of a document of level 1; None for one that has none here. Raises ValueError if it is not base64."""
    text = _embedded(root)
    if text is None or len(text):
        return None
    content = "".join(text.itertext())
    if text.get("representation") != "B64":
        return content.encode()
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except binascii.Error:
        raise ValueError("the body of the document is not base64") from None


def _embedded(root: Element) -> Element | None:
    return _first(root, "component/nonXMLBody/text")


def _legal_authenticator(root: Element) -> Author | None:
    found = _first(root, "legalAuthenticator")
    return None if found is None else _author(found, "assignedEntity")


def _author(element: Element, role: str) -> Author:
    assigned = _first(element, role)
    if assigned is None:
        return Author(at=read_time(_attribute(_first(element, "time"), "value")))
    name = _first(assigned, "assignedPerson/name")
    device = _first(assigned, "assignedAuthoringDevice/softwareName")
    return Author(
        identifiers=_identifiers(_all(assigned, "id")),
        family=_text(_preferred(name, "family")),
        given=tuple(text for each in _all(name, "given") if (text := _text(each))),
        device=_text(device),
        specialty=_code(_first(assigned, "code")),
        organisation=_organisation(_first(assigned, "representedOrganization")),
        at=read_time(_attribute(_first(element, "time"), "value")),
    )


def _preferred(name: Element | None, part: str) -> Element | None:
    """The part of a name in use (SP in France) before the others."""
    found = _all(name, part)
    return next((each for each in found if each.get("qualifier") == "SP"), found[0] if found else None)


def _organisation(element: Element | None) -> Organisation | None:
    if element is None:
        return None
    found = Organisation(identifiers=_identifiers(_all(element, "id")), name=_text(_first(element, "name")))
    return found if found.identifiers or found.name else None


def _practice(root: Element) -> Code | None:
    path = "documentationOf/serviceEvent/performer/assignedEntity/representedOrganization/standardIndustryClassCode"
    return next(iter(_codes(_all(root, path))), None)


def _bound(event: Element | None, which: str) -> Any:
    return None if event is None else read_time(_attribute(_first(event, f"effectiveTime/{which}"), "value"))


def _relations(root: Element) -> Iterator[Relation]:
    for related in _all(root, "relatedDocument"):
        kind = _RELATIONS.get(related.get("typeCode", ""))
        document = _identifier(_first(related, "parentDocument/id"))
        if kind is not None and document is not None:
            yield Relation(kind=kind, document=document)


def _format(root: Element) -> Code | None:
    """The most specific format that the templates stand for: the table is in that order."""
    templates = {(each.get("root"), each.get("extension", "")) for each in _all(root, "templateId")}
    roots = {template for template, _ in templates}
    body = _attribute(_embedded(root), "mediaType") or ""
    shape = "unstructured" if _embedded(root) is not None else "structured"
    for row in data("formats.json")["formats"]:
        is_named = (row["template"], row["extension"]) in templates if "extension" in row else row["template"] in roots
        if is_named and row.get("body") in (None, body, shape):
            return Code(system=row["system"], code=row["code"])
    return None


def _codes(elements: Iterable[Element], *, default_system: str | None = None) -> Iterator[Code]:
    for element in elements:
        code = _code(element, default_system=default_system)
        if code is not None:
            yield code


def _code(element: Element | None, *, default_system: str | None = None) -> Code | None:
    code = _attribute(element, "code")
    system = _attribute(element, "codeSystem") or default_system
    if code is None or system is None:
        return None
    return Code(system=code_system(system), code=code, display=_attribute(element, "displayName"))


def _identifiers(elements: Iterable[Element]) -> tuple[Identifier, ...]:
    return tuple(found for each in elements if (found := _identifier(each)) is not None)


def _identifier(element: Element | None) -> Identifier | None:
    if element is None or element.get("nullFlavor"):
        return None
    return identifier_of(element.get("root", ""), element.get("extension"))


def _attribute(element: Element | None, name: str) -> str | None:
    value = None if element is None else element.get(name)
    return value.strip() or None if value else None


def _text(element: Element | None) -> str | None:
    return None if element is None else " ".join("".join(element.itertext()).split()) or None


def _first(element: Element | None, path: str) -> Element | None:
    found = _all(element, path)
    return found[0] if found else None


def _all(element: Element | None, path: str) -> list[Element]:
    if element is None:
        return []
    return element.findall("/".join(f"{{{NAMESPACE}}}{each}" for each in path.split("/")))
