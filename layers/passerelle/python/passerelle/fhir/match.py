"""Matching a person over FHIR: `$match` (FHIR R4 Patient-match; IHE PDQm 3.2, ITI-119; contract rows 119-n)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from passerelle.errors import Invalid, Issue, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import listing
from passerelle.fhir.outcome import outcome
from passerelle.fhir.parameters import parameters_of
from passerelle.fhir.validation import validate
from passerelle.matching.blocking import blocks_to_search
from passerelle.patients.identity import match_record
from passerelle.patients.model import Traits

GRADE: Final = "http://hl7.org/fhir/StructureDefinition/match-grade"
MAX_MATCHES: Final = 100
_IGNORED: Final = ("_format", "_pretty")


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchQuery:
    """The Patient to match, as sent; how many of the matches are wanted (None: all), and how sure they have to be."""

    patient: Mapping[str, Any]
    count: int | None = None
    only_certain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A match for the answer: `body` is the Patient as the caller may see it, `score` from 0 to 1."""

    reference: str
    body: bytes
    score: float
    grade: str


def read_match(query: Sequence[tuple[str, str]], body: Any) -> MatchQuery:
    """Read a Parameters resource, or a Patient alone, whose other arguments are in the URL then.

    The Patient is validated as FHIR, not as an identity: little may be known of the person. Raises Invalid and
    Unprocessable.
    """
    given: list[tuple[str, Any]] = [(name, _primitive(name, text)) for name, text in query if name not in _IGNORED]
    patient = body
    if isinstance(body, Mapping) and body.get("resourceType") == "Parameters":
        parameters = parameters_of(body)
        resources = [each.get("resource") for each in parameters if each.get("name") == "resource"]
        if len(resources) > 1:
            raise Invalid("one resource may be matched", expression="Parameters.parameter")
        if not resources or resources[0] is None:
            raise Invalid("the parameter resource is required", code="required", expression="Parameters.parameter")
        patient = resources[0]
        given += [(str(each.get("name")), each) for each in parameters if each.get("name") != "resource"]
    if not isinstance(patient, Mapping) or patient.get("resourceType") != "Patient":
        raise Invalid("a Patient is matched, alone or as the parameter resource", expression="Patient")
    validate(body)
    arguments = dict(given)
    if len(arguments) < len(given) or not arguments.keys() <= {"count", "onlyCertainMatches"}:
        raise Invalid("the operation takes resource, count and onlyCertainMatches, each once", code="not-supported")
    return MatchQuery(
        patient=patient,
        count=_count(arguments.get("count")),
        only_certain=_flag(arguments.get("onlyCertainMatches")),
    )


def _primitive(name: str, text: str) -> Mapping[str, Any]:
    """An argument of the URL, as Parameters would have it."""
    if name == "count":
        return {"valueInteger": int(text)} if text.isascii() and text.isdigit() and len(text) < 10 else {}
    return {"valueBoolean": text == "true"} if text in ("true", "false") else {}


def _count(argument: Mapping[str, Any] | None) -> int | None:
    if argument is None:
        return None
    value = argument.get("valueInteger", argument.get("valuePositiveInt", argument.get("valueUnsignedInt")))
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Invalid(
            "must be a number above zero", code="value", expression="Parameters.parameter.where(name='count')"
        )
    return min(value, MAX_MATCHES)


def _flag(argument: Mapping[str, Any] | None) -> bool:
    if argument is None:
        return False
    value = argument.get("valueBoolean")
    if not isinstance(value, bool):
        place = "Parameters.parameter.where(name='onlyCertainMatches')"
        raise Invalid("must be true or false", code="value", expression=place)
    return value


def check_traits(traits: Traits) -> None:
    """Raise Unprocessable if nothing in a Patient could find a person."""
    if not traits.identifiers and not blocks_to_search(match_record(traits)):
        raise Unprocessable(
            "a match needs an identifier, or a name with a birth date, an address or a phone number",
            expression="Patient",
        )


def render_matches(matches: Iterable[Graded], warnings: Iterable[str], *, base_url: str, self_url: str) -> bytes:
    """The JSON of the searchset, in the order given; what went wrong on the way comes last and is not counted."""
    entries = [_entry(each, base_url) for each in matches]
    issues = [Issue(code="incomplete", diagnostics=text) for text in warnings]
    total = len(entries)
    if issues:
        warned = {"resource": outcome(*issues, severity="warning"), "search": {"mode": "outcome"}}
        entries.append(fhir_json.dumps(warned))
    return listing("searchset", entries, links={"self": self_url}, total=total)


def _entry(match: Graded, base_url: str) -> bytes:
    graded = [{"url": GRADE, "valueCode": match.grade}]
    search = {"extension": graded, "mode": "match", "score": round(match.score, 4)}
    full_url = fhir_json.dumps(f"{base_url}/{match.reference}")
    return b'{"fullUrl":%b,"resource":%b,"search":%b}' % (full_url, match.body, fhir_json.dumps(search))
