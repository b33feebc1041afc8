"""Who may change what of a document, beside publishing it: data, deny by default (`data/changes_fr.json`).

DMP TD3.3a to d; contract D4, PDSM-9. Only who sees a document can change it, so that these rules say nothing of masks:
a patient cannot lift what hides the document from patients.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from passerelle.consents.visibility import Viewer
from passerelle.documents.labels import Labels

_DATA = Path(__file__).parent / "data" / "changes_fr.json"
_PRODUCER = "producer"


class Act(StrEnum):
    """What is done to a document; `REVISE` is between current and superseded, `WITHDRAW` is for good."""

    MASK = "mask"
    LIFT = "lift"
    CLASSIFY = "classify"
    ARCHIVE = "archive"
    REVISE = "revise"
    WITHDRAW = "withdraw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One act; `label` is the visibility label that it is about, empty for all else."""

    act: Act
    label: str = ""

    def is_allowed(self, viewer: Viewer, *, is_producer: bool) -> bool:
        """Whether somebody who sees the document may do it; the producer is the organisation that published it."""
        who = _rules()["who"].get(self.act, {}).get(self.label, ())
        return viewer in who or (is_producer and _PRODUCER in who)

    @property
    def transactions(self) -> tuple[str, ...]:
        """The transactions of the shared record that are for it."""
        return tuple(_rules()["transactions"].get(self.act, {}).get(self.label, ()))


def relabelling(before: Labels, after: Labels) -> Iterator[Change]:
    """The differences between two sets of labels, each of which somebody has to be allowed to make."""
    for label in sorted(after.masks - before.masks):
        yield Change(act=Act.MASK, label=label)
    for label in sorted(before.masks - after.masks):
        yield Change(act=Act.LIFT, label=label)
    if before.confidentiality != after.confidentiality:
        yield Change(act=Act.CLASSIFY)


@cache
def _rules() -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads(_DATA.read_text("utf-8"))
    return content
