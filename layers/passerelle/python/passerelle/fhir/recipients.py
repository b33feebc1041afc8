"""Whether whom a submission is intended for can be told of it (IHE MHD ITI-65 2:3.65.4.1.3; contract 65-16, P15).

The exchange tells who subscribed: a recipient can be reached if the structure or the professional that it names has a
subscription that covers documents of this patient. A recipient that nobody has heard of is unknown; whoever is in the
directory, or is the patient, and has no subscription, is unavailable. Neither keeps a document from being stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from passerelle.access import Caller, Request
from passerelle.directory.identifiers import IDNPS, IDNST, other_form
from passerelle.errors import Issue
from passerelle.fhir.bundles import TransactionEntry
from passerelle.fhir.search import parse_query
from passerelle.patients.model import Person
from passerelle.records.service import RecordService

_EXTENSION: Final = "https://profiles.ihe.net/ITI/MHD/StructureDefinition/ihe-intendedRecipient"
_TOPICS: Final = ("document-published", "document-changed", "anything-changed")
_DIRECTORY: Final = ("Practitioner", "PractitionerRole", "Organization", "HealthcareService", "Location")
_PARTIES: Final = ("practitioner", "organization", "managingOrganization", "providedBy")  # of what refers to a party
_MAX_STEPS: Final = 3  # from a role to its professional and its structure

Identifiers = frozenset[tuple[str, str]]


class Interest(Protocol):
    @property
    def owner(self) -> Caller: ...


class Subscribers(Protocol):
    def interests(self, topics: Sequence[str], patients: Sequence[str]) -> Sequence[Interest]: ...


class Recipients:
    """`subscribers` is made when a submission first names a recipient."""

    def __init__(self, records: RecordService, subscribers: Callable[[], Subscribers]) -> None:
        self._records = records
        self._subscribers = subscribers

    def warnings(self, request: Request, submission_set: TransactionEntry, person: Person) -> list[Issue]:
        """One for each recipient who cannot be told."""
        resource = submission_set.resource
        found = []
        for number, extension in enumerate(resource.get("extension", [])):
            if extension.get("url") != _EXTENSION:
                continue
            text = self._refusal(request, extension.get("valueReference", {}), resource, person)
            if text is not None:
                path = f"{submission_set.path}.resource.extension[{number}]"
                found.append(Issue(code="processing", diagnostics=text, expression=path))
        return found

    def _refusal(
        self, request: Request, reference: Mapping[str, Any], container: Mapping[str, Any], person: Person
    ) -> str | None:
        is_known, names = self._names(request, reference, container, _MAX_STEPS)
        named = {each for name in names for each in (name, other_form(*name) or name)}
        callers = {
            (system, value)
            for interest in self._subscribers().interests(_TOPICS, person.members)
            for system, value in _names_of(interest.owner)
        }
        if callers & named:
            return None
        return "UnavailableRecipient" if is_known or self._is_listed(request, named) else "UnknownRecipient"

    def _names(
        self, request: Request, reference: Mapping[str, Any], container: Mapping[str, Any], steps: int
    ) -> tuple[bool, Identifiers]:
        """Whether the exchange has what a reference names, and its business identifiers, parties' included."""
        own = _identifiers(reference)
        text = str(reference.get("reference", "")).removeprefix(f"{request.base_url}/")
        kind, _, id = text.partition("/")
        if text.startswith("#"):
            inner = next((each for each in container.get("contained", []) if f"#{each.get('id')}" == text), None)
            return self._of(request, inner, container, steps, own, is_known=False)
        if kind == "Patient":
            return self._records.exists(request, kind, id), own
        if kind in _DIRECTORY and self._records.exists(request, kind, id):
            from passerelle.fhir import json as fhir_json

            stored = fhir_json.loads(self._records.read(request, kind, id).body or b"{}")
            return self._of(request, stored, stored, steps, own, is_known=True)
        return False, own

    def _of(
        self,
        request: Request,
        resource: Mapping[str, Any] | None,
        container: Mapping[str, Any],
        steps: int,
        own: Identifiers,
        *,
        is_known: bool,
    ) -> tuple[bool, Identifiers]:
        names = own | (_identifiers(resource) if resource else frozenset())
        if resource is None or steps == 0:
            return is_known, names
        for party in _PARTIES:
            if isinstance(resource.get(party), Mapping):
                is_one, more = self._names(request, resource[party], container, steps - 1)
                is_known, names = is_known or is_one, names | more
        return is_known, names

    def _is_listed(self, request: Request, names: set[tuple[str, str]]) -> bool:
        for system, value in sorted(names):
            for kind in ("Practitioner", "Organization"):
                asked = parse_query(kind, [("identifier", f"{system}|{value}")], base_url=request.base_url)
                if self._records.found(request, asked, None):
                    return True
        return False


def _identifiers(holder: Mapping[str, Any]) -> Identifiers:
    listed = holder.get("identifier", [])
    each = [listed] if isinstance(listed, Mapping) else listed
    return frozenset((one.get("system", ""), one["value"]) for one in each if one.get("value"))


def _names_of(caller: Caller) -> Iterator[tuple[str, str]]:
    yield IDNST, caller.organisation
    if caller.professional is not None:
        yield IDNPS, caller.professional
