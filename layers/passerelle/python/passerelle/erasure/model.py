"""What it takes to erase a person: on which ground, against which duty to keep, and how it is confirmed.

GDPR, article 17 (paragraph 1: the grounds; 3: the duties that stand against them). How long a record is kept is data of
the country (`data/retention_fr.json`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from passerelle.consents.model import Policy, RecordStatus
from passerelle.journal import Change
from passerelle.patients.model import Review

_DATA = Path(__file__).parent / "data" / "retention_fr.json"


class Ground(StrEnum):
    """GDPR, article 17, paragraph 1, letters a to e."""

    NO_LONGER_NECESSARY = "no-longer-necessary"
    CONSENT_WITHDRAWN = "consent-withdrawn"
    OBJECTION = "objection"
    UNLAWFUL_PROCESSING = "unlawful-processing"
    LEGAL_OBLIGATION = "legal-obligation"


class Override(StrEnum):
    """What stands above the duty to keep a record."""

    COURT_ORDER = "court-order"
    SUPERVISORY_AUTHORITY = "supervisory-authority"
    OPENED_IN_ERROR = "opened-in-error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    ground: Ground
    override: Override | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What would be erased, and what it takes to have it done: `confirmation`, until `expires_at`."""

    patients: tuple[str, ...]
    confirmation: str
    expires_at: datetime
    exported_at: datetime | None = None  # when the record was last handed out


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """`patients` are the source records that nothing is known of from `at` on."""

    patients: tuple[str, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionsDropped(Change):
    """These questions to the identity stewards were never asked: one of the two is not known any more."""

    reviews: tuple[Review, ...]


def is_kept_by_law(policy: Policy, at: datetime) -> bool:
    """Whether the record has to be kept still: it is not closed, or not for long enough."""
    if policy.status is RecordStatus.CLOSED:
        years: int = _retention()["years_after_closing"]
        since = policy.since
        return (at.year - years, at.month, at.day) < (since.year, since.month, since.day)
    return policy.status is RecordStatus.OPEN


@cache
def _retention() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(_DATA.read_text("utf-8"))
    return content
