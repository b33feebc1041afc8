"""The directory over HTTP: what every type has, and that its references hold (IHE mCSD: ITI-90, ITI-91, ITI-130)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passerelle.api.app import Call, FhirApp, Reply
from passerelle.api.interactions import ALL, SERVED, Run, WiredRecords, serve
from passerelle.api.operations import serve_validate
from passerelle.errors import Conflict, Issue, Unprocessable
from passerelle.fhir.index import entry_of, referrers
from passerelle.fhir.validation import validate
from passerelle.records.search import Include, referring, targets_of

TYPES = "Endpoint HealthcareService Location Organization OrganizationAffiliation Practitioner PractitionerRole"


def serve_directory(app: FhirApp) -> None:
    """Declare the routes of every type of the directory."""
    offered = [name for name in ALL if name != "conditional-delete"]
    for kind in TYPES.split():
        serve(
            app,
            kind,
            offered,
            instead={
                "create": _with_targets(SERVED["create"]),
                "update": _with_targets(SERVED["update"]),
                "conditional-update": _with_targets(SERVED["conditional-update"]),
                "delete": _unless_referred,
            },
        )
        serve_validate(app, kind)


def _with_targets(run: Run) -> Run:
    """A write of a resource whose references to the directory lead somewhere (contract MCSD-11)."""

    def checked(call: Call, wired: WiredRecords, kind: str) -> Reply:
        validate(call.resource, expected_type=kind)
        _check_facility(call.resource)
        entry = entry_of(call.resource, base_url=call.request.base_url)
        targets = targets_of(entry, Include(type=kind, parameter="*"))
        absent = {each for each in targets if not _exists(call, wired, each)}
        if absent:
            places = [f"{kind}.{name}" for name, value in call.resource.items() if not absent.isdisjoint(_texts(value))]
            text = "a reference leads to nothing"
            raise Unprocessable(
                issues=[Issue(code="not-found", diagnostics=text, expression=place) for place in places or [kind]]
            )
        return run(call, wired, kind)

    return checked


def _texts(value: Any) -> set[str]:
    """The references in an element, relative to the base."""
    if isinstance(value, Mapping):
        own = value.get("reference")
        found = {"/".join(own.split("/")[-2:])} if isinstance(own, str) else set()
        return found.union(*(_texts(child) for child in value.values()))
    return set().union(*(_texts(child) for child in value)) if isinstance(value, list) else set()


def _exists(call: Call, wired: WiredRecords, reference: str) -> bool:
    kind, _, id = reference.partition("/")
    return kind not in TYPES.split() or wired.records.exists(call.request, kind, id)


def _check_facility(resource: Mapping[str, Any]) -> None:
    """A facility is a place and an organisation (mCSD section 1:46.8)."""
    profiles = resource.get("meta", {}).get("profile", [])
    if any(each.endswith("mCSD.FacilityLocation") for each in profiles) and "managingOrganization" not in resource:
        raise Unprocessable(
            "a facility has a managing organisation", code="invariant", expression="Location.managingOrganization"
        )


def _unless_referred(call: Call, wired: WiredRecords, kind: str) -> Reply:
    """A deletion, of what nothing in the directory refers to (contract MCSD-12)."""
    reference = f"{kind}/{call.id}"
    for type, parameter in referrers(kind):
        if wired.search.hits(referring(Include(type=type, parameter=parameter), [reference]), None):
            raise Conflict("other resources of the directory refer to it")
    return SERVED["delete"](call, wired, kind)
