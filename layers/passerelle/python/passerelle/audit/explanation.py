"""Why a record was opened or refused, decided again from the facts that were kept (goal I17).

The sentences are data, one for each rule, in French and in English. Care is told of a refusal only what it was told
then: that a patient blocks somebody is the patient's to say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from passerelle.access import Decision, Request
from passerelle.audit.service import AuditService
from passerelle.directory.model import CARE_ROLES
from passerelle.errors import Unprocessable

LANGUAGES: Final = ("fr", "en")
_DATA = Path(__file__).parent / "data" / "explanations.json"

Replay = Callable[[Mapping[str, Any]], tuple[bool, str]]
"""Decides from facts: whether it is permitted, and by which rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """`is_same`: the facts lead to the same decision again. `rule` and `facts` are None where they are not told.

    `rules` is the version of the rules that was decided under, `rules_now` the one that was decided again under.
    """

    is_permitted: bool
    is_same: bool
    rule: str | None
    facts: Mapping[str, Any] | None
    rules: str
    rules_now: str
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explainer:
    audit: AuditService
    replay: Replay
    rules_now: Callable[[], str]

    def explain(self, request: Request, event_id: str) -> tuple[Explanation, str | None]:
        """What was decided about the access of an event, and whose record it was.

        Raises NotFound for an event that the caller may not see, Unprocessable for one without a decision.
        """
        record = self.audit.get(request, event_id).record
        decision = record.decision
        if decision is None:
            raise Unprocessable("no decision about a person's record was taken for this event", code="not-found")
        is_told = request.caller.role not in CARE_ROLES or decision.is_permitted
        rule = str(decision.rule)
        return (
            Explanation(
                is_permitted=decision.is_permitted,
                is_same=self._is_same(decision),
                rule=rule if is_told else None,
                facts=decision.facts if is_told else None,
                rules=decision.rules,
                rules_now=self.rules_now(),
                texts=sentences()[rule if is_told else "not-told"],
            ),
            record.patient,
        )

    def _is_same(self, decision: Decision) -> bool:
        return self.replay(decision.facts) == (decision.is_permitted, str(decision.rule))


@cache
def sentences() -> Mapping[str, Mapping[str, str]]:
    """By rule and language."""
    content: Mapping[str, Mapping[str, str]] = json.loads(_DATA.read_text("utf-8"))
    return content
