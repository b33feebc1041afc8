"""What a token tells of the person who uses a system: the claims of IHE IUA, in the forms of the country.

IHE IUA ITI-71, table 3.71.6.1.1-1 (`extensions.ihe_iua`); the forms of its values are those of XUA (ITI TF-2: 3.40):
identifiers of people as CX, of structures as `system|value`, roles and purposes as Coding.
"""

from __future__ import annotations

from typing import Any, Final

from passerelle.authorization.model import TokenClaims
from passerelle.directory.identifiers import IDNST
from passerelle.directory.model import Role

EXTENSION: Final = "ihe_iua"
PROFESSIONS: Final = "https://mos.esante.gouv.fr/NOS/TRE_G15-ProfessionSante/FHIR/TRE-G15-ProfessionSante"
PURPOSES: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_ROLE_CLASSES: Final = "http://terminology.hl7.org/CodeSystem/v3-RoleClass"
_CLASS_OF: Final = {Role.PATIENT: "PAT", Role.REPRESENTATIVE: "AGNT"}


def extension_of(claims: TokenClaims) -> dict[str, Any]:
    """`extensions.ihe_iua` of the token of a person who logged in or was named, as a claim; none of a system alone."""
    if claims.subject is None and not (claims.name or claims.purpose):
        return {}
    told = {
        "subject_name": claims.name,
        "subject_organization": claims.organisation_name,
        "subject_organization_id": f"{IDNST}|{claims.organisation}",
        "subject_role": _roles(claims),
        "purpose_of_use": [{"system": PURPOSES, "code": claims.purpose}] if claims.purpose else [],
        "national_provider_identifier": claims.professional,
        "person_id": _cx(claims.patient) if claims.patient else None,
        "home_community_id": claims.community,
    }
    return {"extensions": {EXTENSION: {name: value for name, value in told.items() if value}}}


def _roles(claims: TokenClaims) -> list[dict[str, str]]:
    if claims.profession:
        return [{"system": PROFESSIONS, "code": claims.profession}]
    return [{"system": _ROLE_CLASSES, "code": _CLASS_OF[role]} for role in _CLASS_OF if claims.role == role]


def _cx(identifier: str) -> str:
    """`system|value` as HL7 v2 has it: the identifier, and the authority that gave it."""
    system, _, value = identifier.rpartition("|")
    return f"{value}^^^&{system.removeprefix('urn:oid:')}&ISO"
