"""What an assertion, or the token of a trusted issuer, says beyond who signed it: who sits at the system, why, and what
its holder is narrowed to.

IHE IUA ITI-71 (`extensions.ihe_iua`), IHE PCF 1.1.1 "Updates to ITI-71" (`extensions.ihe_pcf`). What is beyond the
registration of the client, or not understood, is refused: nothing is passed over that would narrow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from passerelle.access import Limits
from passerelle.authorization.model import BadTokenError, Client
from passerelle.authorization.people import EXTENSION, PROFESSIONS, PURPOSES
from passerelle.directory.identifiers import IDNPS, IDNST, other_form

CONSENT_EXTENSION: Final = "ihe_pcf"
MAX_LIMITS_CHARACTERS: Final = 2000  # of its JSON: API Gateway passes 8 kB from the authorizer to a function
MAX_RESIDUAL: Final = 20
_MAX_NAME_CHARACTERS: Final = 120
_MAX_VALUE_CHARACTERS: Final = 512

_CX = re.compile(r"(?P<value>[^\^&|]+)\^\^\^&(?P<authority>[0-9]+(\.[0-9]+)+)&ISO(\^.*)?")
_IDENTIFIER = re.compile(r"(?P<system>(urn:oid:[0-9.]+|https?://[^|\s]+))\|(?P<value>[^|\s]+)")
_PATIENT = re.compile(r"(?:https?://[^?#\s]+/)?(?P<reference>Patient/[A-Za-z0-9.-]{1,64})")
_CONSENT = re.compile(r"(?:https?://[^?#\s]+/)?Consent/[A-Za-z0-9.-]{1,64}|urn:(?:uuid|oid):[0-9A-Za-z.:-]{1,128}")
_PROFESSION_SYSTEMS = frozenset({PROFESSIONS, "urn:oid:1.2.250.1.213.1.6.1.107", "urn:oid:1.2.250.1.71.1.2.7"})
_MEANINGS = frozenset({"instance", "related", "dependents", "authoredby"})
_TYPES = frozenset({"permit", "forbid"})
_RESIDUAL_MEMBERS = frozenset({"type", "securityLabel", "dataPeriod", "data"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The names are those of `access.Caller`; what was not said is empty."""

    professional: str | None = None
    profession: str | None = None
    name: str = ""
    purpose: str = ""
    limits: Limits | None = None


def said_by(payload: Mapping[str, Any], client: Client) -> Said:
    """What the claims say, within the registration of the client; raises BadTokenError."""
    extensions = payload.get("extensions", {})
    if not isinstance(extensions, dict) or extensions.keys() - {EXTENSION, CONSENT_EXTENSION}:
        raise BadTokenError("extensions that are not understood")
    user, consent = extensions.get(EXTENSION, {}), extensions.get(CONSENT_EXTENSION)
    if not isinstance(user, dict):
        raise BadTokenError("ihe_iua is not an object")
    professional = _professional(user, client)
    return Said(
        professional=professional,
        profession=_profession(user, is_named=professional is not None),
        name=_text(user, "subject_name", _MAX_NAME_CHARACTERS) if professional else "",
        purpose=_purpose(user, client),
        limits=_limits(consent, user),
    )


def _professional(user: Mapping[str, Any], client: Client) -> str | None:
    """The IDNPS of who is named; the one of the registration, if there is one, is nobody else."""
    organisation = _text(user, "subject_organization_id")
    if organisation and _identifier(organisation, IDNST) != client.organisation:
        raise BadTokenError("another organisation")
    named = _text(user, "national_provider_identifier")
    if not named:
        return client.professional
    professional = _identifier(named, IDNPS)
    if client.professional is not None and professional != client.professional:
        raise BadTokenError("another professional")
    if client.professional is None and not client.names_professionals:
        raise BadTokenError("the client may not name professionals")
    return professional


def _identifier(text: str, system: str) -> str:
    """The value in a system, from `system|value`, CX, or the bare value; raises BadTokenError for another system."""
    match = _IDENTIFIER.fullmatch(text) or _CX.fullmatch(text)
    if match is None:
        named, value = system, text
    else:
        parts = match.groupdict()
        named, value = parts.get("system") or f"urn:oid:{parts['authority']}", parts["value"]
    if named != system:
        named, value = other_form(named, value) or ("", "")
    if named == system and other_form(system, value) is None:  # RPPS and FINESS without their prefix
        value = {IDNPS: "8", IDNST: "1"}[system] + value
    if named != system or other_form(system, value) is None:
        raise BadTokenError("not an identifier of a professional or of an organisation")
    return value


def _profession(user: Mapping[str, Any], *, is_named: bool) -> str | None:
    codes = [code for system, code in _codings(user, "subject_role") if system in _PROFESSION_SYSTEMS]
    if len(codes) > 1:
        raise BadTokenError("several professions")
    return codes[0] if codes and is_named else None


def _purpose(user: Mapping[str, Any], client: Client) -> str:
    """The first purpose; all of them are among those of the client, whose only one it is if none is said."""
    purposes = _codings(user, "purpose_of_use")
    if any(system != PURPOSES or code not in client.purposes for system, code in purposes):
        raise BadTokenError("a purpose that the client is not registered for")
    if purposes:
        return purposes[0][1]
    return client.purposes[0] if len(client.purposes) == 1 else ""


def _codings(user: Mapping[str, Any], name: str) -> Sequence[tuple[str, str]]:
    """FHIR Codings, of which one alone may stand without an array."""
    given = user.get(name, [])
    codings = given if isinstance(given, list) else [given]
    found = []
    for each in codings:
        match each:
            case {"system": str(system), "code": str(code)} if len(code) <= _MAX_VALUE_CHARACTERS:
                found.append((system, code))
            case _:
                raise BadTokenError(f"{name} is not a Coding")
    return found


def _text(said: Mapping[str, Any], name: str, at_most: int = _MAX_VALUE_CHARACTERS) -> str:
    value = said.get(name, "")
    if not isinstance(value, str) or len(value) > at_most or not (value == "" or value.isprintable()):
        raise BadTokenError(f"{name} is not a text, or too long")
    return value.strip()


# --- limits -----------------------------------------------------------------------------------------------------------


def _limits(consent: object, user: Mapping[str, Any]) -> Limits | None:
    """`person_id` of IUA and `patient_id` of PCF both bind a token to a person: to one."""
    person = _text(user, "person_id")
    if consent is None:
        return Limits(patient=_patient(person)) if person else None
    if not isinstance(consent, dict) or consent.keys() - {"patient_id", "doc_id", "acp", "residual"}:
        raise BadTokenError("ihe_pcf is not an object that is understood")
    patient = _patient(_text(consent, "patient_id"))
    if person and _patient(person) != patient:
        raise BadTokenError("two patients")
    _text(consent, "acp")
    given = consent.get("doc_id", [])
    consents = given if isinstance(given, list) else [given]
    if not all(isinstance(each, str) and _CONSENT.fullmatch(each) for each in consents):
        raise BadTokenError("doc_id names no Consent")
    limits = Limits(patient=patient, consents=frozenset(consents), residual=_residual(consent.get("residual", [])))
    if len(json.dumps(limits_to_map(limits))) > MAX_LIMITS_CHARACTERS:
        raise BadTokenError("ihe_pcf is too long")
    return limits


def _patient(text: str) -> str:
    """`system|value`, from that or from CX, or `Patient/<id>`, from that or from its URL."""
    if match := _PATIENT.fullmatch(text):
        return match["reference"]
    if match := _CX.fullmatch(text):
        return f"urn:oid:{match['authority']}|{match['value']}"
    if match := _IDENTIFIER.fullmatch(text):
        return text
    raise BadTokenError("not an identifier of a patient")


def _residual(given: object) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(given, list) or len(given) > MAX_RESIDUAL:
        raise BadTokenError("residual is not an array, or too long")
    for each in given:
        if not isinstance(each, dict) or each.get("type") not in _TYPES or each.keys() - _RESIDUAL_MEMBERS:
            raise BadTokenError("a residual that is not understood")
        _codings(each, "securityLabel")
        _check_period(each.get("dataPeriod", {}))
        _check_data(each.get("data", []))
    return tuple(given)


def _check_period(period: object) -> None:
    match period:
        case dict() if not period.keys() - {"start", "end"} and all(isinstance(each, str) for each in period.values()):
            return
    raise BadTokenError("dataPeriod is not a Period")


def _check_data(given: object) -> None:
    if not isinstance(given, list):
        raise BadTokenError("data is not an array")
    for each in given:
        match each:
            case {"meaning": str(meaning), "reference": {"reference": str()}} if meaning in _MEANINGS:
                continue
        raise BadTokenError("data that is not understood")


def limits_to_map(limits: Limits) -> dict[str, Any]:
    """As `ihe_pcf` has it."""
    said = {
        "patient_id": limits.patient,
        "doc_id": sorted(limits.consents),
        "residual": [dict(each) for each in limits.residual],
    }
    return {name: value for name, value in said.items() if value}


def limits_from_map(said: Mapping[str, Any]) -> Limits:
    """Read what `limits_to_map` wrote."""
    return Limits(
        patient=said.get("patient_id"),
        consents=frozenset(said.get("doc_id", ())),
        residual=tuple(said.get("residual", ())),
    )
