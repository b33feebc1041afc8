"""The labels on a document, and what a change of them means: from a set and an intention to a set. Pure.

Contract D6, P21: visibility labels (`consents.visibility`) are a set beside one confidentiality code. Clients address
them by place in a list, which with two masks would lift one by hiding from another; so a place says nothing here: a
change adds or lifts the label that it names, and no other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from passerelle.errors import Unprocessable

# HL7 v3 Confidentiality: unrestricted, low, moderate, normal, restricted, very restricted.
CONFIDENTIALITY: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
CONFIDENTIALITIES: Final = ("U", "L", "M", "N", "R", "V")
NORMAL: Final = "N"


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """`masks` are visibility labels in their canonical form; `confidentiality` is None where nothing says it."""

    masks: frozenset[str]
    confidentiality: str | None = None


# --- intentions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Add a visibility label."""

    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """Remove a visibility label that the client named."""

    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Classify:
    """Set the confidentiality code."""

    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """The code N sent to a place: "unmask" and "make visible" of the DMP draft are the same bytes (P21)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All labels at once: none may be missing but those in `named`, which the client showed that it means."""

    labels: Labels
    named: frozenset[str] = frozenset()


Intention = Mask | Lift | Classify | Restore | State


def revised(labels: Labels, intention: Intention) -> Labels:
    """The labels after a change; raises Unprocessable (`business-rule`) where it could expose the document."""
    match intention:
        case Mask(label=label):
            return replace(labels, masks=labels.masks | {label})
        case Lift(label=label):
            return replace(labels, masks=labels.masks - {label})
        case Classify(code=code):
            if code == NORMAL and labels.masks and labels.confidentiality not in (None, NORMAL):
                raise Unprocessable("the confidentiality is not lowered while a visibility label is there")
            return replace(labels, confidentiality=code)
        case Restore():
            return _restored(labels)
        case State(labels=wanted, named=named):
            is_declassified = labels.confidentiality is not None and wanted.confidentiality is None
            if labels.masks - wanted.masks - named or is_declassified:
                raise Unprocessable("the list lacks a label of the document: name the label that is to be lifted")
            return wanted


def _restored(labels: Labels) -> Labels:
    if len(labels.masks) > 1:
        raise Unprocessable("the document has several visibility labels: name the one that is to be lifted")
    if labels.masks:
        return replace(labels, masks=frozenset())
    return replace(labels, confidentiality=NORMAL)
