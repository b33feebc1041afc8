"""A FHIR document: Bundle of type document, its Composition first (FHIR R4, 3.3.1), in JSON or in XML.

Both are read into the same shape, of which only the header's elements are looked at; what becomes which metadata is IHE
ITI-106, FHIR document option. Nothing is validated here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final
from xml.etree.ElementTree import Element

from passerelle.documents.contents.header import URI, Author, Code, Header, Identifier, Organisation, Relation
from passerelle.documents.contents.times import read_fhir_time

NAMESPACE: Final = "http://hl7.org/fhir"
ROOT: Final = f"{{{NAMESPACE}}}Bundle"

_MAX_DEPTH: Final = 200
_CONFIDENTIALITY: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
_RELATIONS: Final = frozenset(("replaces", "appends", "transforms", "signs"))

Resource = Mapping[str, Any]


class RefusedJsonError(Exception):
    """The text is for the sender: it holds nothing of the document."""


def read_json(data: bytes) -> Any:
    """JSON of which every number has one meaning, and every member too; raises RefusedJsonError.

    Numbers are those of RFC 8785: what a double cannot hold is refused where it is signed.
    """
    try:
        value = json.loads(
            data.decode("utf-8-sig"),
            parse_float=Decimal,
            parse_constant=_refused,
            object_pairs_hook=_unique,
        )
    except (ValueError, RecursionError):
        raise RefusedJsonError("the content is not JSON") from None
    _check_depth(value)
    return value


def plain(element: Element) -> dict[str, Any]:
    """A resource in XML as the shape of its JSON: elements are lists, primitives are text."""
    resource: dict[str, Any] = {"resourceType": element.tag.rpartition("}")[2]}
    return resource | _members(element)


def is_document(resource: Any) -> bool:
    return (
        isinstance(resource, Mapping)
        and resource.get("resourceType") == "Bundle"
        and _text(resource, "type") == "document"
    )


def header_of(bundle: Resource) -> Header | None:
    """None for a Bundle whose first entry is no Composition."""
    entries = [each for each in _all(bundle, "entry") if isinstance(each, Mapping)]
    resources = [(_text(each, "fullUrl"), _one(each, "resource")) for each in entries]
    composition = resources[0][1] if resources else None
    if not isinstance(composition, Mapping) or composition.get("resourceType") != "Composition":
        return None
    found = _Resolver(resources)
    event = _one(composition, "event")
    period = _one(event, "period")
    return Header(
        patients=_identifiers(found.target(_one(composition, "subject"))),
        document=_identifier(_one(bundle, "identifier")),
        set_id=_identifier(_one(composition, "identifier")),
        type=_code(_one(composition, "type")),
        title=_text(composition, "title"),
        created=read_fhir_time(_text(composition, "date")),
        language=_text(composition, "language") or _text(bundle, "language"),
        confidentiality=tuple(
            Code(system=_CONFIDENTIALITY, code=str(each)) for each in _all(composition, "confidentiality")
        ),
        authors=tuple(_author(found, each) for each in _all(composition, "author")),
        legal_authenticator=_legal_authenticator(found, composition),
        custodian=_organisation(found.target(_one(composition, "custodian"))),
        events=tuple(code for each in _all(event, "code") if (code := _code(each)) is not None),
        service_start=read_fhir_time(_text(period, "start")),
        service_end=read_fhir_time(_text(period, "end")),
        relations=tuple(_relations(composition)),
    )


class _Resolver:
    """References inside a Bundle: by full URL, or relative to it (FHIR R4, 2.36.4.1)."""

    def __init__(self, resources: list[tuple[str | None, Any]]) -> None:
        self._by_url = {url: each for url, each in resources if url and isinstance(each, Mapping)}
        self._by_name = {
            f"{each.get('resourceType')}/{_text(each, 'id')}": each
            for _, each in resources
            if isinstance(each, Mapping)
        }

    def target(self, reference: Any) -> Any:
        """What is referred to; a reference by identifier is its own target."""
        named = _text(reference, "reference")
        if named is None:
            return {"identifier": _all(reference, "identifier"), "name": _all(reference, "display")}
        return self._by_url.get(named) or self._by_name.get("/".join(named.split("/")[-2:]))


def _author(found: _Resolver, reference: Any) -> Author:
    target = found.target(reference)
    kind = target.get("resourceType") if isinstance(target, Mapping) else None
    if kind == "Organization":
        return Author(organisation=_organisation(target))
    if kind == "PractitionerRole":
        person = found.target(_one(target, "practitioner")) or {}
        return _person(
            person,
            identifiers=_identifiers(person) or _identifiers(target),
            specialty=_code(_one(target, "specialty")) or _code(_one(target, "code")),
            organisation=_organisation(found.target(_one(target, "organization"))),
        )
    if kind == "Device":
        return Author(identifiers=_identifiers(target), device=_text(_one(target, "deviceName"), "name"))
    return _person(target, identifiers=_identifiers(target))


def _person(person: Any, **known: Any) -> Author:
    name = _one(person, "name")
    named = name if isinstance(name, Mapping) else {}
    return Author(family=_text(named, "family"), given=tuple(str(each) for each in _all(named, "given")), **known)


def _legal_authenticator(found: _Resolver, composition: Resource) -> Author | None:
    for each in _all(composition, "attester"):
        if _text(each, "mode") == "legal" and _one(each, "party") is not None:
            return _author(found, _one(each, "party"))
    return None


def _organisation(target: Any) -> Organisation | None:
    name = _one(target, "name")
    found = Organisation(identifiers=_identifiers(target), name=name if isinstance(name, str) else None)
    return found if found.identifiers or found.name else None


def _relations(composition: Resource) -> Iterator[Relation]:
    for each in _all(composition, "relatesTo"):
        kind: Any = _text(each, "code")
        document = _identifier(_one(each, "targetIdentifier"))
        if kind in _RELATIONS and document is not None:
            yield Relation(kind=kind, document=document)


def _code(concept: Any) -> Code | None:
    for coding in _all(concept, "coding"):
        code, system = _text(coding, "code"), _text(coding, "system")
        if code and system:
            return Code(system=system, code=code, display=_text(coding, "display"))
    return None


def _identifiers(resource: Any) -> tuple[Identifier, ...]:
    return tuple(found for each in _all(resource, "identifier") if (found := _identifier(each)) is not None)


def _identifier(identifier: Any) -> Identifier | None:
    value = _text(identifier, "value")
    if value is None:
        return None
    system = _text(identifier, "system") or ""
    return (URI, value) if not system and value.startswith("urn:") else (system, value)


def _all(value: Any, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return [] if found is None else found if isinstance(found, list) else [found]


def _one(value: Any, name: str) -> Any:
    found = _all(value, name)
    return found[0] if found else None


def _text(value: Any, name: str) -> str | None:
    found = _one(value, name)
    return found if isinstance(found, str) and found else None


def _members(element: Element) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for child in element:
        name = child.tag.rpartition("}")[2]
        value: Any = child.get("value")
        if value is None:
            is_resource = len(child) == 1 and child[0].tag.rpartition("}")[2][:1].isupper()
            value = plain(child[0]) if is_resource else _members(child)
        members.setdefault(name, []).append(value)
    return members


def _refused(_: str) -> Any:
    raise ValueError("NaN and Infinity are not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("two members of the same name")
    return members


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())
        ]
        if not level:
            return
    raise RefusedJsonError("the JSON is nested too deeply")
