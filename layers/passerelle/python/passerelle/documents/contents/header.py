"""What a content says of itself, whatever standard it is written in.

The elements are those that document sharing derives metadata from (IHE ITI-106; IHE PCC 4.1.1, CDA to XDS). Nothing is
true because a content says so: it is compared with what is known (`names_other`), or taken where nothing is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

Identifier = tuple[str, str]  # system, value: as FHIR writes them
URI = "urn:ietf:rfc:3986"

_DATA = Path(__file__).parent.parent / "data"
_OID = re.compile(r"[0-2](\.(0|[1-9]\d*))+", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A code with the name that its author gave it."""

    system: str
    code: str
    display: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Organisation:
    identifiers: tuple[Identifier, ...] = ()
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """A person or a device; `at` is when it wrote or signed."""

    identifiers: tuple[Identifier, ...] = ()
    family: str | None = None
    given: tuple[str, ...] = ()
    device: str | None = None
    specialty: Code | None = None
    organisation: Organisation | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """What a document does to an earlier one: the codes of DocumentReference.relatesTo."""

    kind: Literal["replaces", "appends", "transforms", "signs"]
    document: Identifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Every element is optional. Times without an offset are of Europe/Paris.

    `confidentiality` holds the visibility labels that a content asks for, too. `embedded_type` is the media type of the
    body of a CDA of level 1.
    """

    patients: tuple[Identifier, ...] = ()
    document: Identifier | None = None
    set_id: Identifier | None = None
    version: str | None = None
    type: Code | None = None
    title: str | None = None
    created: datetime | None = None
    language: str | None = None
    confidentiality: tuple[Code, ...] = ()
    authors: tuple[Author, ...] = ()
    legal_authenticator: Author | None = None
    custodian: Organisation | None = None
    format: Code | None = None
    events: tuple[Code, ...] = ()
    service_start: datetime | None = None
    service_end: datetime | None = None
    facility: Code | None = None
    practice: Code | None = None
    relations: tuple[Relation, ...] = ()
    embedded_type: str | None = None


def names_other(header: Header, identifiers: Iterable[Identifier]) -> bool:
    """Whether a content is about somebody else than the person of these identifiers.

    Identifiers are compared within their system. The national ones decide: one that differs is not made good by a local
    one that is the same. A content without any that can be compared says nothing.
    """
    known: dict[str, set[str]] = {}
    for system, value in identifiers:
        known.setdefault(system, set()).add(_comparable(system, value))
    named = [(system, _comparable(system, value)) for system, value in header.patients if system in known]
    national = [each for each in named if each[0] in _national()]
    deciding = national or named
    return bool(deciding) and not any(value in known[system] for system, value in deciding)


def identifier_of(root: str, extension: str | None) -> Identifier | None:
    """An HL7 instance identifier (II) as FHIR writes it; None if its root is neither an OID nor a UUID."""
    lower = root.strip().lower()
    if _OID.fullmatch(lower):
        uri = f"urn:oid:{lower}"
    elif _UUID.fullmatch(lower):
        uri = f"urn:uuid:{lower}"
    else:
        return None
    extension = (extension or "").strip()
    return (uri, extension) if extension else (URI, uri)


def code_system(oid: str) -> str:
    """The URL by which FHIR knows a code system, or its OID as a URN."""
    systems: Mapping[str, str] = data("code_systems.json")
    return systems.get(oid, f"urn:oid:{oid}")


@cache
def data(name: str) -> Any:
    """A table of this capability."""
    return json.loads((_DATA / name).read_text("utf-8"))


def _comparable(system: str, value: str) -> str:
    """A NIR is the same with its key (two digits) and without; letters of Corsica in either case."""
    text = value.replace(" ", "").upper()
    return text[:13] if system in _national() and len(text) == 15 else text


@cache
def _national() -> frozenset[str]:
    return frozenset(data("national_identifiers.json")["systems"])
