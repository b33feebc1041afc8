"""Who takes part in the exchange, by role."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a client does in the exchange; given at registration, never by the client."""

    HOSPITAL = "hospital"
    PRACTICE = "practice"
    LABORATORY = "laboratory"
    PHARMACY = "pharmacy"
    NURSE = "nurse"
    PATIENT = "patient"
    REPRESENTATIVE = "representative"  # acts for the patient whom its registration names: a legal representative
    AUDITOR = "auditor"
    DATA_PROTECTION_OFFICER = "data-protection-officer"  # has people erased
    IDENTITY_STEWARD = "identity-steward"  # cellule d'identitovigilance
    REGULATION = "regulation"  # centre de régulation médicale (SAMU)
    PAYER = "payer"  # assurance maladie, complémentaire
    RESEARCHER = "researcher"


CARE_ROLES = frozenset({Role.HOSPITAL, Role.PRACTICE, Role.LABORATORY, Role.PHARMACY, Role.NURSE})
RECORD_ROLES = CARE_ROLES | {Role.PATIENT, Role.REPRESENTATIVE, Role.REGULATION, Role.PAYER, Role.RESEARCHER}
"""Who has to do with records of single people: others see across all of them."""
