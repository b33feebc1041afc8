"""From whom a resource is hidden: visibility labels, and the rule that reads them. Pure, deny by default (law 4).

The labels of the shared record are those of the French nomenclature TRE_A07; which kind of viewer each hides from is
data (`data/visibility_*.json`), so that another country brings its own. Labels are a set: each hides on its own, none
lifts another (contract D6).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from passerelle.access import Caller
from passerelle.consents.model import Policy
from passerelle.directory.model import CARE_ROLES, Role

_DATA = Path(__file__).parent / "data" / "visibility_fr.json"


class Viewer(StrEnum):
    """What a caller is to the person whose record it looks at."""

    PROFESSIONAL = "professional"
    SOCIAL_PROFESSIONAL = "social-professional"  # nobody of that kind takes part yet
    THIRD_PARTY = "third-party"  # who comes by a temporary link
    PATIENT = "patient"
    REPRESENTATIVE = "representative"


class Exemption(StrEnum):
    """What lets a professional see in spite of a label."""

    PRODUCER = "producer"
    ATTENDING_PHYSICIAN = "attending-physician"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restriction:
    """The labels on a resource, and the organisation (IDNST) that published it.

    What `is_withdrawn` is still read by its id by those who may see it, and nothing speaks of it any more.
    """

    labels: frozenset[str]
    producer: str | None
    is_withdrawn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How one caller looks at one person's record."""

    viewer: Viewer
    organisation: str
    is_attending: bool = False

    @classmethod
    def of(cls, caller: Caller, policy: Policy) -> View:
        """Raises ValueError for a role that looks at no record: the gate refuses those first."""
        attending = policy.attending_physician
        return cls(
            viewer=viewer_of(caller.role),
            organisation=caller.organisation,
            is_attending=attending is not None and caller.professional == attending,
        )

    def shows(self, restriction: Restriction | None) -> bool:
        """Whether a resource under this restriction exists for the viewer."""
        return restriction is None or not any(self._is_hidden_by(label, restriction) for label in restriction.labels)

    def _is_hidden_by(self, label: str, restriction: Restriction) -> bool:
        rule = _rules()["labels"].get(label)
        if rule is None:  # of another release, or another country: nobody but who published it
            return restriction.producer != self.organisation
        if self.viewer not in rule["hidden_from"]:
            return False
        is_excepted = (Exemption.PRODUCER in rule["except"] and restriction.producer == self.organisation) or (
            Exemption.ATTENDING_PHYSICIAN in rule["except"] and self.is_attending
        )
        return not is_excepted


def label_system() -> str:
    """The code system of the labels."""
    return str(_rules()["system"])


def canonical_label(code: str) -> str | None:
    """The label that a code stands for, aliases included; None for a code that is none."""
    name = _rules()["aliases"].get(code, code)
    return name if name in _rules()["labels"] else None


def labels() -> tuple[str, ...]:
    return tuple(_rules()["labels"])


def viewer_of(role: str) -> Viewer:
    """What a role is to the person whose record it looks at; raises ValueError for one that looks at none."""
    if role == Role.PATIENT:
        return Viewer.PATIENT
    if role == Role.REPRESENTATIVE:
        return Viewer.REPRESENTATIVE
    if role in CARE_ROLES:
        return Viewer.PROFESSIONAL
    raise ValueError("nobody who looks at records")


@cache
def _rules() -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads(_DATA.read_text("utf-8"))
    return content
