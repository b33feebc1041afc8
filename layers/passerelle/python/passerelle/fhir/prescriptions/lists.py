"""Searches of Tasks that are for the prescriptions: those that ask for the code `fulfil-prescription`.

The Tasks of prescriptions are made when they are read. What narrows a search of Tasks narrows these by the same rules
(FHIR R4 section 3.1.1): each parameter is compared with what is made, so that what is not shown cannot be found out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from passerelle.access import Touched
from passerelle.errors import Invalid
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import Found
from passerelle.fhir.elements import Part
from passerelle.fhir.index import entry_of
from passerelle.fhir.prescriptions.tasks import group_and_line_tasks
from passerelle.fhir.search import ParsedQuery, parse_query
from passerelle.prescriptions.model import Listing
from passerelle.records.search import TokenIs, matches

CODE = "fulfil-prescription"
MAX_LISTED = 50  # prescriptions that a page looks at; each has up to 21 Tasks
_NUMBER = "/sid/prescription-number"

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """What is asked for: a patient's prescriptions, some by id or number, else those on the caller's own list."""

    parsed: ParsedQuery
    patient: str | None
    ids: tuple[str, ...]
    number: str | None
    limit: int


def parse_list(query: Pairs, *, base_url: str, is_strict: bool) -> ListQuery:
    parsed = parse_query("Task", query, base_url=base_url, strict=is_strict)
    asked = parsed.query
    if parsed.summary == "count":
        raise Invalid("nobody counts the prescriptions of a search", code="not-supported", expression="http._summary")
    if parsed.patient_identifier is not None or asked.sort or asked.include or asked.revinclude:
        raise Invalid("prescriptions are listed by the id of a patient, newest first", code="not-supported")
    return ListQuery(
        parsed=parsed,
        patient=parsed.patient,
        ids=parsed.ids,
        number=_number(parsed, base_url),
        limit=max(1, min(asked.count, MAX_LISTED)),
    )


def _number(parsed: ParsedQuery, base_url: str) -> str | None:
    """The prescription number that the search is narrowed to, if it names one."""
    for criterion in parsed.query.criteria:
        tokens = [each for each in criterion.alternatives if isinstance(each, TokenIs)]
        if criterion.name == "group-identifier" and not criterion.modifier and len(tokens) == 1:
            return tokens[0].code if tokens[0].system in (None, f"{base_url}{_NUMBER}") else None
    return None


def found_in(listing: Listing, query: ListQuery, part: Part) -> list[Found]:
    """The Tasks that the search finds."""
    tasks = [task for each in listing.prescriptions for task in group_and_line_tasks(each)]
    return [
        Found(reference=f"Task/{task['id']}", body=_body(task, part))
        for task in tasks
        if matches(entry_of(dict(task)), query.parsed.query)
    ]


def _body(task: Mapping[str, Any], part: Part) -> bytes:
    return part.of(fhir_json.dumps(task))


def disclosed(listing: Listing, found: Sequence[Found]) -> Touched:
    patients = [each.group.patient for each in listing.prescriptions]
    return Touched.of(patients, [each.reference for each in found])
