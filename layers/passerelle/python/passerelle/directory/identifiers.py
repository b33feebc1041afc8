"""National identifiers of professionals and structures: two systems that name the same one (contract P17).

IDNPS is `8` and the RPPS number, IDNST `1` and the FINESS number (ANS, referential of the actors of health).
"""

from __future__ import annotations

import re
from typing import Final

IDNPS: Final = "urn:oid:1.2.250.1.71.4.2.1"
RPPS: Final = "https://rpps.esante.gouv.fr"
IDNST: Final = "urn:oid:1.2.250.1.71.4.2.2"
FINESS: Final = "https://finess.esante.gouv.fr"

# A number of another length is none: activities have numbers in the system of RPPS, too (contract DIR-9).
_PREFIXED: Final = {IDNPS: (RPPS, re.compile(r"8([0-9]{11})")), IDNST: (FINESS, re.compile(r"1([0-9AB]{9})"))}
_BARE: Final = {RPPS: (IDNPS, "8", re.compile(r"[0-9]{11}")), FINESS: (IDNST, "1", re.compile(r"[0-9AB]{9}"))}


def other_form(system: str, value: str) -> tuple[str, str] | None:
    """The same professional or structure in the other system; None for any other identifier."""
    if system in _PREFIXED:
        bare, form = _PREFIXED[system]
        match = form.fullmatch(value)
        return (bare, match[1]) if match else None
    if system in _BARE:
        prefixed, prefix, form = _BARE[system]
        return (prefixed, prefix + value) if form.fullmatch(value) else None
    return None


def party_of(system: str, value: str) -> str | None:
    """How policies name a professional (IDNPS) or a structure (IDNST): its number, without the system, in either form.

    None for any other identifier.
    """
    prefixed = (system, value) if system in _PREFIXED else other_form(system, value)
    return prefixed[1] if prefixed and other_form(*prefixed) else None


def system_of(party: str) -> str:
    """The system of a number that `party_of` gave."""
    return IDNPS if party.startswith("8") else IDNST
