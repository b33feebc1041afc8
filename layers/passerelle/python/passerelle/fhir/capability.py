"""The capability statement: what this server does, computed from the routes that do it.

FHIR R4 sections 2.21 and 3.1.0.9. Nothing is listed that no route serves. The statement is a function of the
release: the same routes give the same bytes, so that it can be fixed when the stack is synthesised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from passerelle.fhir.index import RECORD_TYPES

VERSION = "0.1.0"
RELEASED = "2026-11-22"

_BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition"
# Operations that a guide defines; the others are the exchange's own.
_DEFINED = {
    ("Subscription", "events"): f"{_BACKPORT}/backport-subscription-events",
    ("Subscription", "status"): f"{_BACKPORT}/backport-subscription-status",
}
_OWN = "https://passerelle.example/OperationDefinition"
_SECURITY = "http://terminology.hl7.org/CodeSystem/restful-security-service"
_PURPOSE = "Passerelle: health information exchange, one record per person"
_ACCESS = (
    "SMART Backend Services (client_credentials, private_key_jwt) with SMART v2 scopes or the codes of IHE "
    "transactions (IUA); see .well-known/smart-configuration"
)

# Resources of no patient are looked up by identifier; AuditEvents are kept in a form of their own.
_SHARED_SEARCH = {"identifier": "token"}
_AUDIT_SEARCH = {
    "action": "token",
    "date": "date",
    "outcome": "token",
    "patient": "reference",
    "subtype": "token",
    "type": "token",
}


class Served(Protocol):
    """What the statement reads of a route (`api/routes.py`)."""

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def resource(self) -> str | None: ...


def capability_statement(routes: Iterable[Served], *, date: str = RELEASED) -> dict[str, Any]:
    """The CapabilityStatement of a server with these routes; `date` is that of the release."""
    by_type: dict[str, set[str]] = {}
    system: set[str] = set()
    for route in routes:
        done = _interaction(route)
        if done is None:
            continue
        if route.resource is None:
            system.add(done)
        else:
            by_type.setdefault(route.resource, set()).add(done)
    return {
        "resourceType": "CapabilityStatement",
        "name": "Passerelle",
        "title": _PURPOSE,
        "status": "active",
        "date": date,
        "kind": "instance",
        "software": {"name": "Passerelle", "version": VERSION, "releaseDate": date},
        "implementation": {"description": _PURPOSE},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [
            {
                "mode": "server",
                "security": {
                    "service": [{"coding": [{"system": _SECURITY, "code": "SMART-on-FHIR"}]}],
                    "description": _ACCESS,
                },
                **_listed("resource", [_resource(name, by_type[name]) for name in sorted(by_type)]),
                **_listed("interaction", [{"code": code} for code in sorted(system) if not code.startswith("$")]),
                **_listed("operation", [_operation(None, name) for name in sorted(system) if name.startswith("$")]),
            }
        ],
    }


# What stands after the type in a route's path, `*` for a variable.
_INTERACTIONS: Mapping[tuple[str, str], str] = {
    ("GET", "*"): "read",
    ("GET", "*/_history/*"): "vread",
    ("GET", "*/_history"): "history-instance",
    ("GET", ""): "search-type",
    ("POST", "_search"): "search-type",
    ("POST", ""): "create",
    ("PUT", "*"): "update",
    ("PATCH", "*"): "patch",
    ("DELETE", "*"): "delete",
    ("PUT", ""): "conditional-update",
    ("DELETE", ""): "conditional-delete",
}


def _interaction(route: Served) -> str | None:
    """The interaction or `$operation` of a route; None for one that is not FHIR's."""
    base, *parts = route.path.strip("/").split("/")
    if base != "fhir":
        return None
    if parts and parts[-1].startswith("$"):
        return parts[-1]
    if route.resource is None:
        return "transaction" if route.method == "POST" and not parts else None
    tail = "/".join("*" if part.startswith("{") else part for part in parts[1:])
    return _INTERACTIONS.get((route.method, tail))


def _resource(name: str, served: set[str]) -> dict[str, Any]:
    plain = {each for each in served if not each.startswith(("$", "conditional-"))}
    if "conditional-update" in served:
        plain.add("update")
    if "conditional-delete" in served:
        plain.add("delete")
    resource: dict[str, Any] = {"type": name}
    resource.update(_listed("interaction", [{"code": code} for code in sorted(plain)]))
    if "vread" in served:
        resource["versioning"] = "versioned"
    if "conditional-update" in served:
        resource["conditionalUpdate"] = True
    if "conditional-delete" in served:
        resource["conditionalDelete"] = "single"
    if "search-type" in served:
        searched = [{"name": each, "type": kind} for each, kind in sorted(_search(name).items())]
        resource.update(_listed("searchParam", searched))
    operations = sorted(each for each in served if each.startswith("$"))
    resource.update(_listed("operation", [_operation(name, each) for each in operations]))
    return resource


def _search(name: str) -> dict[str, str]:
    """The search parameters of a type, each with its type."""
    if name == "AuditEvent":
        return dict(_AUDIT_SEARCH)
    row = RECORD_TYPES.get(name)
    if row is None:
        return {}
    if row.compartment is None and name != "Patient":
        return dict(_SHARED_SEARCH)
    whose: dict[str, str] = dict.fromkeys(row.patient_parameters, "reference")
    if whose:
        whose["patient.identifier"] = "token"
    return {**whose, **{each: parameter.kind for each, parameter in row.search.items()}}


def _operation(resource: str | None, name: str) -> dict[str, str]:
    code = name.removeprefix("$")
    own = f"{_OWN}/{resource}-{code}" if resource else f"{_OWN}/{code}"
    return {"name": code, "definition": _DEFINED.get((resource or "", code), own)}


def _listed(name: str, items: list[Any]) -> dict[str, Any]:
    """A member for a list, none for an empty one: FHIR has no empty arrays."""
    return {name: items} if items else {}
