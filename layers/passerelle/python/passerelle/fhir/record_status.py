"""Decisions about the shared record as a whole, as Parameters (FHIR R4 section 3.2.0.5).

The DMP draft has the outcome only (TD0.2, the extensions of `dmp_view`): the operations are the exchange's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from passerelle.consents.model import Policy
from passerelle.directory.identifiers import system_of
from passerelle.errors import Invalid
from passerelle.fhir.dates import instant
from passerelle.fhir.parameters import Arguments
from passerelle.patients.model import Identifier, RecordDecision
from passerelle.patients.status import ClosingMotive, Standing

Parameter = dict[str, Any]
_KINDS = {"reason": "valueString", "motive": "valueCode", "physician": "valueIdentifier", "consent": "valueBoolean"}


class Given:
    """The parameters of an operation that takes each of `names` once at most; raises Invalid for any other."""

    def __init__(self, body: Any, *names: str) -> None:
        self._given = Arguments(body, {name: _KINDS[name] for name in names})

    @property
    def reason(self) -> str:
        return self._given.text("reason")

    @property
    def is_consented(self) -> bool:
        return bool(self._given.get("consent", False))

    @property
    def motive(self) -> ClosingMotive:
        try:
            return ClosingMotive(self._given.required("motive"))
        except ValueError:
            raise Invalid(
                f"a motive is one of {', '.join(ClosingMotive)}",
                code="code-invalid",
                expression=self._given.place("motive"),
            ) from None

    @property
    def physician(self) -> Identifier | None:
        """None: there is none any more."""
        return self._given.identifier("physician")


def render_policy(policy: Policy) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": _policy(policy)}


def render_standing(standing: Standing) -> dict[str, Any]:
    decisions = [{"name": "decision", "part": decision_parts(each)} for each in standing.decisions]
    control = control_parameters(standing.policy, is_whole=standing.is_whole)
    return {"resourceType": "Parameters", "parameter": [*_policy(standing.policy), *control, *decisions]}


def _policy(policy: Policy) -> list[Parameter]:
    return [
        {"name": "status", "valueCode": policy.status.value},
        {"name": "since", "valueInstant": instant(policy.since)},
        *value("motive", "valueCode", policy.closing_motive),
        *value("reason", "valueString", policy.closing_reason),
        *national("physician", policy.attending_physician),
        *(
            [{"name": "physician-since", "valueInstant": instant(policy.attending_since)}]
            if policy.attending_since and policy.attending_physician
            else []
        ),
    ]


def control_parameters(policy: Policy, *, is_whole: bool) -> list[Parameter]:
    """Who is let in and shut out; the preferences only where all of it is told."""
    return [
        *(
            {"name": "block", "part": [*national("party", each.party), *instants(since=each.since)]}
            for each in policy.blocks
        ),
        *(
            {
                "name": "access",
                "part": [
                    *national("party", each.party),
                    *value("basis", "valueCode", each.basis.value),
                    *instants(since=each.since, until=each.until),
                    *([{"name": "source", "valueReference": {"reference": each.source}}] if each.source else []),
                ],
            }
            for each in policy.relations
        ),
        *(
            {
                "name": "proxy",
                "part": [
                    *party("holder", each.holder),
                    *value("kind", "valueCode", each.kind.value),
                    *instants(since=each.since, until=each.until),
                    *references("released", sorted(each.released or ())),
                ],
            }
            for each in policy.mandates
        ),
        *(
            {
                "name": "emergency",
                "part": [
                    *national("professional", each.professional),
                    *national("organisation", each.organisation),
                    *value("reason", "valueCode", each.reason),
                    *instants(since=each.since, until=each.until),
                ],
            }
            for each in policy.emergencies
        ),
        *(
            [
                {"name": "oppose-emergency", "valueBoolean": policy.opposes_emergency},
                {"name": "oppose-regulation", "valueBoolean": policy.opposes_regulation},
                {"name": "agree-research", "valueBoolean": policy.agrees_to_research},
            ]
            if is_whole
            else []
        ),
    ]


def decision_parts(decision: RecordDecision) -> list[Parameter]:
    return [
        {"name": "kind", "valueCode": decision.kind.value},
        {"name": "at", "valueInstant": instant(decision.at)},
        {"name": "by", "valueString": decision.by},
        {"name": "role", "valueCode": decision.role},
        *national("professional", decision.professional),
        *value("motive", "valueCode", decision.motive),
        *value("reason", "valueString", decision.reason),
        *national("physician", decision.physician),
        *party("party", decision.party),
        *instants(since=decision.since, until=decision.until),
        *references("reference", decision.references),
        *([{"name": "consent", "valueBoolean": True}] if decision.is_consented else []),
    ]


def value(name: str, kind: str, content: str | None) -> list[Parameter]:
    return [{"name": name, kind: content}] if content else []


def national(name: str, number: str | None) -> list[Parameter]:
    """A professional or structure, as policies name it."""
    return [{"name": name, "valueIdentifier": {"system": system_of(number), "value": number}}] if number else []


def party(name: str, named: str | None) -> list[Parameter]:
    """Whoever a decision is about: a professional, a structure, or a proxy (`system|value`)."""
    system, separator, number = (named or "").partition("|")
    if not separator:
        return national(name, named)
    return [{"name": name, "valueIdentifier": {"system": system, "value": number}}]


def instants(**moments: datetime | None) -> list[Parameter]:
    return [{"name": name, "valueInstant": instant(at)} for name, at in moments.items() if at is not None]


def references(name: str, listed: Sequence[str]) -> list[Parameter]:
    return [{"name": name, "valueReference": {"reference": each}} for each in listed]
