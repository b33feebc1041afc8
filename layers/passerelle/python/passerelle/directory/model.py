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
    IDENTITY_STEWARD = "identity-steward"  # cellule d'identitovigilance


CARE_ROLES = frozenset({Role.HOSPITAL, Role.PRACTICE, Role.LABORATORY, Role.PHARMACY, Role.NURSE})
