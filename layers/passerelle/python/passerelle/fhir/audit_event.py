"""Audit records as AuditEvents, and the search on them.

IHE BALP 1.1.5 (agents by direction of the data, entities, token by its `jti`), FHIR R4 section 6.4, IHE
ITI-81 (search). No `meta.profile` is declared: BALP's ask for the network address of the client, which is not
kept.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from passerelle.audit.model import AuditRecord
from passerelle.audit.service import AuditSearch
from passerelle.errors import Invalid
from passerelle.fhir.dates import date_range
from passerelle.identifiers import PATIENT_KEY

_DICOM = "http://dicom.nema.org/resources/ontology/DCM"
_EVENT_TYPE = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_INTERACTION = "http://hl7.org/fhir/restful-interaction"
_ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_ENTITY_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
_SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
_BALP = "https://profiles.ihe.net/ITI/BALP/CodeSystem"
_ORGANISATION = "urn:oid:1.2.250.1.71.4.2.2"  # IDNST
_PROFESSIONAL = "urn:oid:1.2.250.1.71.4.2.1"  # IDNPS
_PURPOSE = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_TOKEN_CHARACTERS = 32  # BALP 3:5.7.5.1: of a long token, the last ones

_SOURCE = (_DICOM, "110153", "Source Role ID")
_DESTINATION = (_DICOM, "110152", "Destination Role ID")
_AGENT_TYPES = {  # client and server, by action; a search sends its parameters to the server
    "C": (_SOURCE, _DESTINATION),
    "U": (_SOURCE, _DESTINATION),
    "E": (_SOURCE, _DESTINATION),
    "R": (_DESTINATION, _SOURCE),
    "D": (
        (_DICOM, "110150", "Application"),
        ("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "custodian", "Custodian"),
    ),
}
_INTERACTIONS = frozenset(
    {
        "read",
        "vread",
        "history-instance",
        "history-type",
        "search-type",
        "create",
        "update",
        "patch",
        "delete",
        "transaction",
        "batch",
    }
)
_SUBTYPE_OF_ACTION = {"C": "create", "R": "read", "U": "update", "D": "delete", "E": "operation"}


def render_audit_event(record: AuditRecord, base_url: str) -> dict[str, Any]:
    """An AuditEvent that names at most one patient; what was returned is named, never copied."""
    issuer = base_url.removesuffix("/fhir")
    rendered: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": record.id,
        "type": _coding(_EVENT_TYPE, "rest", "Restful Operation"),
        "subtype": [_coding(_INTERACTION, _subtype(record))],
        "action": record.action,
        "recorded": record.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "outcome": record.outcome,
        "agent": _agents(record, base_url, issuer),
        "source": {
            "observer": {"display": base_url},
            "type": [_coding(_SOURCE_TYPE, "4", "Application Server")],
        },
        "entity": _entities(record),
    }
    if record.reason:
        rendered["outcomeDesc"] = record.reason
    if record.purpose:
        rendered["purposeOfEvent"] = [{"coding": [_coding(_PURPOSE, record.purpose)]}]
    return rendered


def _agents(record: AuditRecord, base_url: str, issuer: str) -> list[dict[str, Any]]:
    client_type, server_type = _AGENT_TYPES[record.action]
    client = {"identifier": {"system": issuer, "value": record.client_id}} if record.client_id else None
    agents: list[dict[str, Any]] = [
        {
            "type": {"coding": [_coding(*client_type)]},
            "who": client or {"display": "unknown"},
            "requestor": not record.token_id,
        },
        {
            "type": {"coding": [_coding(*server_type)]},
            "who": {"display": base_url},
            "requestor": False,
            "network": {"address": base_url, "type": "5"},
        },
    ]
    if record.token_id:
        person = {"identifier": {"system": _PROFESSIONAL, "value": record.professional}}
        agents.append(
            {
                "type": {"coding": [_coding(f"{_BALP}/UserAgentTypes", "UserOauthAgent")]},
                "who": person if record.professional else client or {"display": "unknown"},
                "requestor": True,
                "role": [{"coding": [_coding(f"{base_url}/CodeSystem/client-role", record.role)]}],
                "policy": [record.token_id[-_TOKEN_CHARACTERS:]],
            }
        )
    if record.organisation:
        provider = ("http://terminology.hl7.org/CodeSystem/v3-RoleClass", "PROV", "healthcare provider")
        agents.append(
            {
                "type": {"coding": [_coding(*provider)]},
                "who": {"identifier": {"system": _ORGANISATION, "value": record.organisation}},
                "requestor": False,
            }
        )
    return agents


def _entities(record: AuditRecord) -> list[dict[str, Any]]:
    entities: list[dict[str, Any]] = [
        {
            "type": _coding(f"{_BALP}/BasicAuditEntityType", "XrequestId"),
            "what": {"identifier": {"value": record.request_id}},
        }
    ]
    if record.query:
        entities.append(
            {
                "type": _coding(_ENTITY_TYPE, "2", "System Object"),
                "role": _coding(_ENTITY_ROLE, "24", "Query"),
                "query": base64.b64encode(record.query.encode()).decode(),
            }
        )
    digests = dict(record.digests)
    for reference in record.references:
        entity: dict[str, Any] = {
            "what": {"reference": reference},
            "type": _coding(_ENTITY_TYPE, "2", "System Object"),
            "role": _coding(_ENTITY_ROLE, "4", "Domain Resource"),
        }
        if reference in digests:
            entity["detail"] = [{"type": "sha256", "valueBase64Binary": digests[reference]}]
        entities.append(entity)
    if record.patient:
        entities.append(
            {
                "what": {"reference": f"Patient/{record.patient}"},
                "type": _coding(_ENTITY_TYPE, "1", "Person"),
                "role": _coding(_ENTITY_ROLE, "1", "Patient"),
            }
        )
    return entities


def _coding(system: str, code: str, display: str | None = None) -> dict[str, str]:
    return {"system": system, "code": code, **({"display": display} if display else {})}


def _subtype(record: AuditRecord) -> str:
    """The FHIR interaction; for an operation, a conditional write or a name of ours, by the action."""
    return record.name if record.name in _INTERACTIONS else _SUBTYPE_OF_ACTION[record.action]


# --- search -------------------------------------------------------------------------------------------------

DEFAULT_COUNT, MAX_COUNT = 50, 100
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_FILTERS: Mapping[str, Callable[[AuditRecord], tuple[str, str]]] = {
    "type": lambda record: (_EVENT_TYPE, "rest"),
    "subtype": lambda record: (_INTERACTION, _subtype(record)),
    "action": lambda record: ("http://hl7.org/fhir/audit-event-action", record.action),
    "outcome": lambda record: ("http://terminology.hl7.org/CodeSystem/audit-event-outcome", record.outcome),
}
_IGNORED = {"_format", "_pretty"}
Pairs = Sequence[tuple[str, str]]


def parse_audit_search(query: Pairs, *, base_url: str, strict: bool) -> tuple[AuditSearch, Pairs]:
    """The search, and the parameters it understood, for the self link; raises Invalid.

    `patient` and at least one bound of `date` are required.
    """
    used = [pair for pair in query if pair[0] in {"patient", "date", "_count", *_FILTERS}]
    if strict and len(used) != sum(name not in _IGNORED for name, _ in query):
        raise Invalid("a search parameter is not supported", code="not-supported")
    since, until = _period([value for name, value in used if name == "date"])
    search = AuditSearch(
        patient=_patient([value for name, value in used if name == "patient"], base_url),
        since=since,
        until=until,
        count=_count([value for name, value in used if name == "_count"]),
        matches=_filter([(name, value) for name, value in used if name in _FILTERS]),
    )
    return search, used


def _patient(values: Sequence[str], base_url: str) -> str:
    if len(values) != 1:
        raise Invalid("the parameter patient is required once", code="required")
    key = values[0].removeprefix(f"{base_url}/").removeprefix("Patient/")
    if not PATIENT_KEY.fullmatch(key):
        raise Invalid("patient is no reference to a Patient of this exchange", code="value")
    return key


def _count(values: Sequence[str]) -> int:
    if not values:
        return DEFAULT_COUNT
    if len(values) > 1 or not _NUMBER.fullmatch(values[0]):
        raise Invalid("_count is one number above zero", code="value")
    return min(int(values[0]), MAX_COUNT)


def _period(values: Sequence[str]) -> tuple[datetime | None, datetime | None]:
    """What `date` parameters leave of the time line: since <= recorded < until."""
    if not values:
        raise Invalid("the parameter date is required, with one bound or two", code="required")
    since: list[datetime] = []
    until: list[datetime] = []
    for value in values:
        prefix, text = (value[:2], value[2:]) if value[:2].isalpha() else ("eq", value)
        try:
            first, last = (datetime.strptime(f"{each}+0000", "%Y%m%d%H%M%S%z") for each in date_range(text))
            after = last + timedelta(seconds=1)
        except (ValueError, OverflowError) as error:
            raise Invalid("date is not a FHIR date with a prefix", code="value") from error
        match prefix:
            case "eq":
                since.append(first)
                until.append(after)
            case "ge":
                since.append(first)
            case "gt" | "sa":
                since.append(after)
            case "le":
                until.append(after)
            case "lt" | "eb":
                until.append(first)
            case _:
                raise Invalid("the prefix of date is not supported", code="not-supported")
    return max(since, default=None), min(until, default=None)


def _filter(asked: Pairs) -> Callable[[AuditRecord], bool]:
    """Every parameter has to match one of its comma-separated tokens: `code`, `system|code`."""

    def matches(record: AuditRecord) -> bool:
        for name, value in asked:
            system, code = _FILTERS[name](record)
            if not {code, f"{system}|{code}", f"{system}|"} & set(value.split(",")):
                return False
        return True

    return matches
