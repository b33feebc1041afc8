"""A deposited AuditEvent: valid R4, and what the national profile asks for where it declares that (contract P9).

TDE 2.0.0, `tde-auditevent`: `period.start`, one or two agents with `who`, at most one subtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from passerelle.audit.deposits import Trace
from passerelle.errors import Issue, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.audit_event import ORGANISATION
from passerelle.fhir.validation import validate
from passerelle.identifiers import PATIENT_KEY

TDE: Final = "https://interop.esante.gouv.fr/ig/fhir/tde/StructureDefinition/tde-auditevent"
_MAX_AGENTS, _MAX_SUBTYPES = 2, 1


def parse_deposit(resource: Any, base_url: str) -> Trace:
    """Raises Invalid for what is no AuditEvent, Unprocessable for one that breaks a rule."""
    validate(resource, expected_type="AuditEvent")
    if any(each.partition("|")[0] == TDE for each in resource.get("meta", {}).get("profile", ())):
        _check_profile(resource)
    observer = resource["source"]["observer"].get("identifier", {})
    is_known = observer.get("system") in (ORGANISATION, base_url.removesuffix("/fhir"))
    return Trace(
        body=fhir_json.dumps(resource).decode(),
        recorded=_instant(resource["recorded"]),
        observer=observer.get("value") if is_known else None,
        patients=tuple(dict.fromkeys(_patients(resource, base_url))),
        identifiers=tuple(_identifiers(resource)),
    )


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:  # a leap second, for example
        raise Unprocessable("is no moment", code="value", expression="AuditEvent.recorded") from None


def _check_profile(resource: Mapping[str, Any]) -> None:
    faults: list[Issue] = []
    if "start" not in resource.get("period", {}):
        faults.append(_fault("required", "period.start", "the profile asks for the time of the event"))
    if len(resource["agent"]) > _MAX_AGENTS:
        faults.append(_fault("invariant", "agent", "the profile knows two agents"))
    if len(resource.get("subtype", ())) > _MAX_SUBTYPES:
        faults.append(_fault("invariant", "subtype", "the profile knows one subtype"))
    for number, agent in enumerate(resource["agent"]):
        if "who" not in agent:
            faults.append(_fault("required", f"agent[{number}].who", "the profile asks who an agent is"))
    if faults:
        raise Unprocessable(issues=faults)


def _fault(code: str, place: str, text: str) -> Issue:
    return Issue(code=code, diagnostics=text, expression=f"AuditEvent.{place}")


def _patients(resource: Mapping[str, Any], base_url: str) -> Iterator[str]:
    for entity in resource.get("entity", ()):
        kind, _, rest = entity.get("what", {}).get("reference", "").removeprefix(f"{base_url}/").partition("/")
        key = rest.partition("-")[0] if kind != "Patient" else rest.partition("/")[0]
        if PATIENT_KEY.fullmatch(key):
            yield key


def _identifiers(resource: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Of entities that are said to be the patient."""
    for entity in resource.get("entity", ()):
        identifier = entity.get("what", {}).get("identifier", {})
        is_patient = entity.get("role", {}).get("code") == "1" or entity.get("what", {}).get("type") == "Patient"
        if is_patient and "value" in identifier:
            yield identifier.get("system", ""), identifier["value"]
