"""Audit records as AuditEvents: what happened, and what was decided about it.

IHE BALP 1.1.5 (agents by direction of the data, entities, token by its `jti`, disclosures, decisions of consent), FHIR
R4 section 6.4. A profile is declared where an event conforms to it: those of BALP are about what succeeded, and came
from an address.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final

from passerelle.access import Decision
from passerelle.audit.model import EXPORT, AuditRecord
from passerelle.audit.service import Entry
from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import instant

DICOM: Final = "http://dicom.nema.org/resources/ontology/DCM"
INTERACTION: Final = "http://hl7.org/fhir/restful-interaction"
BALP: Final = "https://profiles.ihe.net/ITI/BALP/CodeSystem"
PROFILE: Final = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
ORGANISATION: Final = "urn:oid:1.2.250.1.71.4.2.2"  # IDNST
PROFESSIONAL: Final = "urn:oid:1.2.250.1.71.4.2.1"  # IDNPS
PROFESSION: Final = "https://mos.esante.gouv.fr/NOS/TRE_G15-ProfessionSante/FHIR/TRE-G15-ProfessionSante"
_EVENT_TYPE = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ENTITY_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_RESOURCE_TYPE = "http://hl7.org/fhir/resource-types"
_SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_PURPOSE = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_JTI = "urn:ietf:params:oauth:jti:"
TOKEN_CHARACTERS: Final = 32  # BALP 3:5.7.5.1: of a token that is not understood, the last ones

_SOURCE = (DICOM, "110153", "Source Role ID")
_DESTINATION = (DICOM, "110152", "Destination Role ID")
_APPLICATION = (DICOM, "110150", "Application")
_USER = (f"{BALP}/UserAgentTypes", "UserOauthAgent", "User OAuth Agent participant")
_PROVIDER = ("http://terminology.hl7.org/CodeSystem/v3-RoleClass", "PROV", "healthcare provider")
_AGENT_TYPES = {  # client and server, by action; a search sends its parameters to the server
    "C": (_SOURCE, _DESTINATION),
    "U": (_SOURCE, _DESTINATION),
    "E": (_SOURCE, _DESTINATION),
    "R": (_DESTINATION, _SOURCE),
    "D": (
        _APPLICATION,
        ("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "custodian", "Custodian"),
    ),
}
_DISCLOSE = (
    "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle",
    "disclose",
    "Disclose Record Lifecycle Event",
)
_SUBTYPE_OF_ACTION = {"C": "create", "R": "read", "U": "update", "D": "delete", "E": "operation"}
_INTERACTIONS = frozenset(
    (
        *_SUBTYPE_OF_ACTION.values(),
        *("vread", "history-instance", "history-type", "search-type", "patch", "transaction", "batch"),
    )
) - {"operation"}
_PROFILES = {
    "create": "Create",
    "read": "Read",
    "vread": "Read",
    "update": "Update",
    "patch": "Update",
    "delete": "Delete",
    "search-type": "Query",
}
# What is no interaction of FHIR: how somebody proved who it is, or did not.
_AUTHENTICATION: Mapping[str, tuple[str, str, str]] = {
    "authenticate": (DICOM, "110122", "Login"),
    "token": ("urn:ihe:event-type-code", "ITI-71", "Get Access Token"),
    "login": (DICOM, "110122", "Login"),
    "revoke": (DICOM, "110123", "Logout"),
    "introspect": ("urn:ihe:event-type-code", "ITI-102", "Introspect Token"),
}


def render_entry(entry: Entry, base_url: str) -> dict[str, Any]:
    """One AuditEvent that names at most one patient; what was returned is named, never copied."""
    record = entry.record
    if record.deposit:
        return _deposited(record, base_url)
    if entry.is_decision and record.decision is not None:
        return _decided(entry.id, record, record.decision, base_url)
    return _access(record, base_url)


def _access(record: AuditRecord, base_url: str) -> dict[str, Any]:
    if record.recipient or record.name == EXPORT:
        type, subtypes = _coding(DICOM, "110106", "Export"), [_coding(*_DISCLOSE)]
    elif record.name in _AUTHENTICATION:
        type, subtypes = _coding(DICOM, "110114", "User Authentication"), [_coding(*_AUTHENTICATION[record.name])]
    else:
        type, subtypes = _coding(_EVENT_TYPE, "rest", "Restful Operation"), [_coding(INTERACTION, _subtype(record))]
    profiles = _profiles(record)
    return {
        "resourceType": "AuditEvent",
        "id": record.id,
        **({"meta": {"profile": [f"{PROFILE}{each}" for each in profiles]}} if profiles else {}),
        "type": type,
        "subtype": subtypes,
        "action": record.action,
        **_circumstances(record, record.outcome, record.reason),
        "agent": _agents(record, base_url),
        "source": _source(base_url),
        "entity": _entities(record),
    }


def _circumstances(record: AuditRecord, outcome: str, reason: str) -> dict[str, Any]:
    at = instant(record.at)
    return {
        "period": {"start": at},
        "recorded": at,
        "outcome": outcome,
        **({"outcomeDesc": reason} if reason else {}),
        **({"purposeOfEvent": [_concept(_PURPOSE, record.purpose)]} if record.purpose else {}),
    }


def _profiles(record: AuditRecord) -> list[str]:
    if record.outcome != "0" or not record.address:
        return []
    if record.recipient:
        return ["PrivacyDisclosure.Source"] if record.patient else []
    profile = _PROFILES.get(_subtype(record)) if record.name not in _AUTHENTICATION else None
    if profile is None or not (record.query if profile == "Query" else record.references):
        return []
    return [
        f"{'Patient' if record.patient else ''}{profile}",
        *(["OAUTHaccessTokenUse.Minimal"] if record.token_id else []),
    ]


def _agents(record: AuditRecord, base_url: str) -> list[dict[str, Any]]:
    client_type, server_type = _AGENT_TYPES[record.action]
    network = _network(record.address)
    server = {"who": {"display": base_url}, "requestor": False, "network": {"address": base_url, "type": "5"}}
    if record.recipient:
        parties = [
            {"type": _concept(*_DESTINATION), "who": {"display": record.recipient}, "requestor": True, **network},
            {"type": _concept(*_SOURCE), **server},
            {
                "type": _concept(*_APPLICATION),
                "who": _client(record, base_url),
                "requestor": False,
                **({"policy": [record.token_id]} if record.token_id else {}),  # what it was disclosed under
            },
        ]
        return [*parties, *_organisation(record)]
    is_user_known = bool(record.token_id or record.token_tail or record.professional or record.user_name)
    client = {"type": _concept(*client_type), "who": _client(record, base_url), "requestor": not is_user_known}
    user = [{"type": _concept(*_USER), **_user(record, base_url)}] if is_user_known else []
    return [{**client, **network}, {"type": _concept(*server_type), **server}, *user, *_organisation(record)]


def _client(record: AuditRecord, base_url: str) -> dict[str, Any]:
    if not record.client_id:
        return {"display": "unknown"}
    return {"identifier": {"system": base_url.removesuffix("/fhir"), "value": record.client_id}}


def _user(record: AuditRecord, base_url: str) -> dict[str, Any]:
    """Who used the client; the client itself if that is nobody known."""
    who: dict[str, Any]
    if record.professional:
        who = {"identifier": {"system": PROFESSIONAL, "value": record.professional}}
    elif record.role == "patient" and record.patient:
        who = {"reference": f"Patient/{record.patient}"}
    elif record.user_name:
        who = {"display": record.user_name}
    else:
        who = _client(record, base_url)
    roles = [_concept(f"{base_url}/CodeSystem/client-role", record.role)] if record.role else []
    if record.profession:
        roles.append(_concept(PROFESSION, record.profession))
    return {
        **({"role": roles} if roles else {}),
        "who": who,
        **({"name": record.user_name} if record.user_name else {}),
        "requestor": True,
        **_policy(record),
        **({"purposeOfUse": [_concept(_PURPOSE, record.purpose)]} if record.purpose else {}),
    }


def _policy(record: AuditRecord) -> dict[str, Any]:
    """The token, by its id, or the end of one that was not understood."""
    token = f"{_JTI}{record.token_id}" if record.token_id else record.token_tail[-TOKEN_CHARACTERS:]
    return {"policy": [token]} if token else {}


def _organisation(record: AuditRecord) -> list[dict[str, Any]]:
    if not record.organisation:
        return []
    who = {"identifier": {"system": ORGANISATION, "value": record.organisation}}
    return [{"type": _concept(*_PROVIDER), "who": who, "requestor": False}]


def _network(address: str) -> dict[str, Any]:
    if not address:
        return {}
    try:
        ip_address(address)
    except ValueError:
        return {"network": {"address": address, "type": "5"}}
    return {"network": {"address": address, "type": "2"}}


def _entities(record: AuditRecord) -> list[dict[str, Any]]:
    """BALP has one entity that is a system object: what was asked, or the first of what it was done to."""
    entities: list[dict[str, Any]] = [
        {
            "type": _coding(f"{BALP}/BasicAuditEntityType", "XrequestId"),
            "what": {"identifier": {"value": record.external_id or record.request_id}},
            **({"detail": [{"type": "request-id", "valueString": record.request_id}]} if record.external_id else {}),
        }
    ]
    is_asked = bool(record.query) and record.action == "E"
    if record.query:
        entities.append(
            {
                "type": _coding(_ENTITY_TYPE, *(("2", "System Object") if is_asked else ("4", "Other"))),
                "role": _coding(_ENTITY_ROLE, "24", "Query"),
                "query": base64.b64encode(record.query.encode()).decode(),
            }
        )
    digests = dict(record.digests)
    for position, reference in enumerate(record.references):
        is_first = position == 0 and not is_asked
        kind = _coding(_RESOURCE_TYPE, reference.partition("/")[0])
        entity: dict[str, Any] = {
            "what": {"reference": reference},
            "type": _coding(_ENTITY_TYPE, "2", "System Object") if is_first else kind,
            "role": _coding(_ENTITY_ROLE, "4", "Domain Resource"),
        }
        if reference in digests:
            entity["detail"] = [{"type": "sha256", "valueBase64Binary": digests[reference]}]
        entities.append(entity)
    return [*entities, *_patient(record)]


def _patient(record: AuditRecord) -> list[dict[str, Any]]:
    if not record.patient:
        return []
    return [
        {
            "what": {"reference": f"Patient/{record.patient}"},
            "type": _coding(_ENTITY_TYPE, "1", "Person"),
            "role": _coding(_ENTITY_ROLE, "1", "Patient"),
        }
    ]


def _decided(id: str, record: AuditRecord, decision: Decision, base_url: str) -> dict[str, Any]:
    """The decision of consent that an access, or its refusal, came of (BALP-8)."""
    rule = {"system": f"{base_url}/CodeSystem/access-rule", "value": f"{decision.rules}#{decision.rule}"}
    consent: dict[str, Any] = {"type": _coding(_RESOURCE_TYPE, "Consent", "Consent"), "what": {"identifier": rule}}
    token: dict[str, Any] = {
        "type": _coding(*_USER),
        "what": {"identifier": {"value": f"{_JTI}{record.token_id}"}},
    }
    is_whole = bool(record.patient and record.address and record.organisation and record.token_id)
    authoriser = (
        "http://terminology.hl7.org/CodeSystem/extra-security-role-type",
        "authserver",
        "authorization server",
    )
    return {
        "resourceType": "AuditEvent",
        "id": id,
        **({"meta": {"profile": [f"{PROFILE}AuthZconsent"]}} if is_whole else {}),
        "type": _coding(DICOM, "110113", "Security Alert"),
        "subtype": [_coding(f"{BALP}/AuthZsubType", "AuthZ-Consent", "Authorization Decision using Roles and Consent")],
        "action": "E",
        **_circumstances(
            record, "0" if decision.is_permitted else "4", "" if decision.is_permitted else str(decision.rule)
        ),
        "agent": [
            {
                "type": _concept(*_APPLICATION),
                "who": _client(record, base_url),
                "requestor": False,
                **_network(record.address),
            },
            {
                "type": _concept(_PARTICIPATION, "IRCP", "information recipient"),
                **_user(record, base_url),
            },
            *_organisation(record),
            {"type": _concept(*authoriser), "who": {"display": base_url}, "requestor": False},
        ],
        "source": _source(base_url),
        "entity": [*_patient(record), consent, *([token] if record.token_id else [])],
    }


def _deposited(record: AuditRecord, base_url: str) -> dict[str, Any]:
    """As its system deposited it, and marked as that: nothing of it was seen here."""
    content = fhir_json.loads(record.deposit.encode())
    meta = content.get("meta", {})
    tags = [*meta.get("tag", []), _coding(f"{base_url}/CodeSystem/audit-origin", "deposited")]
    rest = {name: value for name, value in content.items() if name not in ("resourceType", "id", "meta")}
    return {"resourceType": "AuditEvent", "id": record.id, "meta": {**meta, "tag": tags}, **rest}


def _source(base_url: str) -> dict[str, Any]:
    return {"observer": {"display": base_url}, "type": [_coding(_SOURCE_TYPE, "4", "Application Server")]}


def _coding(system: str, code: str, display: str | None = None) -> dict[str, str]:
    return {"system": system, "code": code, **({"display": display} if display else {})}


def _concept(system: str, code: str, display: str | None = None) -> dict[str, Any]:
    return {"coding": [_coding(system, code, display)]}


def _subtype(record: AuditRecord) -> str:
    """The FHIR interaction; for an operation, a conditional write or a name of ours, by the action."""
    return record.name if record.name in _INTERACTIONS else _SUBTYPE_OF_ACTION[record.action]
