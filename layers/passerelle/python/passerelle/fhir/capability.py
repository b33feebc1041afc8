"""The capability statement: what this server does, computed from the routes that do it.

FHIR R4 sections 2.21 and 3.1.0.9. Nothing is listed that no route serves. The statement is a function of the
release: the same routes give the same bytes, so that it can be fixed when the stack is synthesised.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from passerelle.fhir.audit_search import PARAMETERS
from passerelle.fhir.index import RECORD_TYPES
from passerelle.fhir.subscription import BACKPORT, SEARCH
from passerelle.notifications.topics import DECLARED, topics

VERSION = "0.1.0"
RELEASED = "2026-11-22"

_BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition"
# Operations that a guide defines; the others are the exchange's own.
_DEFINED = {
    ("Patient", "ihe-pix"): "https://profiles.ihe.net/ITI/PIXm/OperationDefinition/IHE.PIXm.pix",
    ("Patient", "match"): "https://profiles.ihe.net/ITI/PDQm/OperationDefinition/PDQmMatch",
    ("Subscription", "events"): f"{_BACKPORT}/backport-subscription-events",
    ("Subscription", "status"): f"{_BACKPORT}/backport-subscription-status",
    ("", "process-message"): "http://hl7.org/fhir/OperationDefinition/MessageHeader-process-message",
}
# A topic that subscriptions may be to, at their type (Subscriptions R5 Backport, section "Topic discovery").
_TOPIC = f"{BACKPORT}capabilitystatement-subscriptiontopic-canonical"
_OWN = "https://passerelle.example/OperationDefinition"
_SECURITY = "http://terminology.hl7.org/CodeSystem/restful-security-service"
_PURPOSE = "Passerelle: health information exchange, one record per person"
_ACCESS = (
    "SMART Backend Services (client_credentials, private_key_jwt) with SMART v2 scopes or the codes of IHE "
    "transactions (IUA); see .well-known/smart-configuration"
)

# A guide's actor, and what it takes to be it: (type or nothing, interaction).
_MHD = "https://profiles.ihe.net/ITI/MHD/CapabilityStatement"
_INSTANTIATES: Mapping[str, Sequence[tuple[str, str]]] = {
    "https://profiles.ihe.net/ITI/PDQm/CapabilityStatement/IHE.PDQm.PatientDemographicsSupplierQuery": [
        ("Patient", "search-type"),
        ("Patient", "read"),
    ],
    "https://profiles.ihe.net/ITI/PDQm/CapabilityStatement/IHE.PDQm.PatientDemographicsSupplierMatch": [
        ("Patient", "$match"),
    ],
    "https://profiles.ihe.net/ITI/PIXm/CapabilityStatement/IHE.PIXm.Manager": [
        ("Patient", "$ihe-pix"),
        ("Patient", "conditional-update"),
        ("Patient", "conditional-delete"),
    ],
    "https://profiles.ihe.net/ITI/mCSD/CapabilityStatement/IHE.mCSD.Directory": [
        (kind, name)
        for kind in ("HealthcareService", "Location", "Organization", "Practitioner", "PractitionerRole")
        for name in ("search-type", "read", "history-type")
    ],
    "https://profiles.ihe.net/ITI/PCF/CapabilityStatement/IHE.PCF.consentRegistry": [
        ("Consent", name) for name in ("create", "read", "vread", "update", "search-type")
    ],
    f"{_MHD}/IHE.MHD.DocumentRecipient": [("", "transaction")],
    f"{_MHD}/IHE.MHD.DocumentResponder": [
        ("DocumentReference", "search-type"),
        ("List", "search-type"),
        ("Binary", "read"),
    ],
    "https://interop.esante.gouv.fr/ig/fhir/pdsm/CapabilityStatement/PDSm-GestionnaireDePartageDeDocuments": [
        ("", "transaction"),
        *(("List", name) for name in ("read", "search-type")),
        *(("DocumentReference", name) for name in ("read", "search-type", "patch", "conditional-patch")),
        ("Binary", "read"),
    ],
}
_PATCHES = ("application/json-patch+json", "application/fhir+json", "application/fhir+xml")
_FEATURES = frozenset({"conditional-create", "conditional-read", "update-create", "include", "batch"})


class Served(Protocol):
    """What the statement reads of a route (`api/routes.py`)."""

    @property
    def name(self) -> str: ...

    @property
    def resource(self) -> str | None: ...

    @property
    def features(self) -> Sequence[str]: ...


def capability_statement(routes: Iterable[Served], *, date: str = RELEASED) -> dict[str, Any]:
    """The CapabilityStatement of a server with these routes; `date` is that of the release."""
    by_type: dict[str, set[str]] = {}
    system: set[str] = set()
    for route in routes:
        done = system if route.resource is None else by_type.setdefault(route.resource, set())
        done.update((route.name, *route.features))
    is_patched = any("patch" in done for done in by_type.values())
    return {
        "resourceType": "CapabilityStatement",
        "name": "Passerelle",
        "title": _PURPOSE,
        "status": "active",
        "date": date,
        "kind": "instance",
        **_listed("instantiates", [each for each, needs in _INSTANTIATES.items() if _serves(by_type, system, needs)]),
        "software": {"name": "Passerelle", "version": VERSION, "releaseDate": date},
        "implementation": {"description": _PURPOSE},
        "fhirVersion": "4.0.1",
        "format": ["json", "xml"],
        **_listed("patchFormat", list(_PATCHES) if is_patched else []),
        "rest": [
            {
                "mode": "server",
                "security": {
                    "service": [{"coding": [{"system": _SECURITY, "code": "SMART-on-FHIR"}]}],
                    "description": _ACCESS,
                },
                **_listed("resource", [_resource(name, by_type) for name in sorted(by_type)]),
                **_listed("interaction", [{"code": code} for code in sorted(system) if not code.startswith("$")]),
                **_listed("operation", [_operation(None, name) for name in sorted(system) if name.startswith("$")]),
            }
        ],
    }


def _serves(by_type: Mapping[str, set[str]], system: set[str], needed: Sequence[tuple[str, str]]) -> bool:
    return all(name in (by_type.get(kind, set()) if kind else system) for kind, name in needed)


def _resource(name: str, by_type: Mapping[str, set[str]]) -> dict[str, Any]:
    served = by_type[name]
    plain = {each for each in served - _FEATURES if not each.startswith(("$", "conditional-"))}
    resource: dict[str, Any] = {"type": name}
    if name == "Subscription" and "create" in plain:
        resource["supportedProfile"] = [f"{BACKPORT}backport-subscription"]
        resource["extension"] = [
            {"url": _TOPIC, "valueCanonical": each.canonical} for each in topics().values() if each.name != DECLARED
        ]
    resource.update(_listed("interaction", [{"code": code} for code in sorted(plain)]))
    if "vread" in served:
        resource.update({"versioning": "versioned", "readHistory": True})
    if "update" in plain:
        resource["updateCreate"] = "update-create" in served
    if "conditional-create" in served:
        resource["conditionalCreate"] = True
    if "conditional-read" in served:
        resource["conditionalRead"] = "full-support"
    if "conditional-update" in served:
        resource["conditionalUpdate"] = True
    if "conditional-delete" in served:
        resource["conditionalDelete"] = "single"
    if "include" in served:
        searched = [each for each in by_type if "include" in by_type[each]]
        resource.update(_listed("searchInclude", [f"{name}:{each}" for each in _references(name)]))
        resource.update(_listed("searchRevInclude", _referring(name, searched)))
    if "search-type" in served:
        parameters = [{"name": each, "type": kind} for each, kind in sorted(_search(name).items())]
        resource.update(_listed("searchParam", parameters))
    operations = sorted(each for each in served if each.startswith("$"))
    resource.update(_listed("operation", [_operation(name, each) for each in operations]))
    return resource


def _references(name: str) -> list[str]:
    """The parameters that includes can follow: a canonical is a name, and leads to nothing that is kept."""
    row = RECORD_TYPES.get(name)
    dead = {each for each, found in row.search.items() if not found.is_followed} if row else set()
    return sorted(each for each, kind in _search(name).items() if kind == "reference" and each not in dead)


def _referring(name: str, searched: Iterable[str]) -> list[str]:
    """The reference parameters that can lead to this type; one without declared targets leads to any."""
    return sorted(
        f"{other}:{each}"
        for other in searched
        for each in _references(other)
        if name in (_targets(other, each) or (name,))
    )


def _targets(name: str, parameter: str) -> Collection[str]:
    row = RECORD_TYPES.get(name)
    found = row.search.get(parameter) if row else None
    return found.targets if found else ("Patient",)


def _search(name: str) -> dict[str, str]:
    """The search parameters of a type, each with its type."""
    if name == "AuditEvent":
        return dict(PARAMETERS)  # AuditEvents are kept in a form of their own, and searched by it
    if name == "Subscription":
        return dict(SEARCH)
    row = RECORD_TYPES.get(name)
    if row is None:
        return {}
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
