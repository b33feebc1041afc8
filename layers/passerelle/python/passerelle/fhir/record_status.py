"""Decisions about the shared record as a whole, as Parameters (FHIR R4 section 3.2.0.5).

The DMP draft has the outcome only (TD0.2, the extensions of `dmp_view`): the operations are the exchange's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passerelle.consents.model import Policy
from passerelle.directory.identifiers import IDNPS
from passerelle.errors import Invalid
from passerelle.fhir.parameters import parameters_of
from passerelle.fhir.resource import instant
from passerelle.patients.model import Identifier, RecordDecision
from passerelle.patients.status import ClosingMotive, Standing

Parameter = dict[str, Any]
_KINDS = {"reason": "valueString", "motive": "valueCode", "physician": "valueIdentifier", "consent": "valueBoolean"}
_TYPES: Mapping[str, type] = {"physician": dict, "consent": bool}


class Given:
    """The parameters of an operation that takes each of `names` once at most; raises Invalid for any other."""

    def __init__(self, body: Any, *names: str) -> None:
        self._given: dict[str, Any] = {}
        self._places: dict[str, str] = {}
        listed = parameters_of(body) if body is not None else []
        for position, each in enumerate(listed):
            name, place = str(each.get("name")), f"Parameters.parameter[{position}]"
            if name not in names or name in self._given:
                raise Invalid(
                    f"the operation takes {', '.join(names)}, each once", code="not-supported", expression=place
                )
            value = each.get(_KINDS[name])
            if not isinstance(value, _TYPES.get(name, str)):
                raise Invalid(f"a {_KINDS[name]} is expected", code="value", expression=place)
            self._given[name], self._places[name] = value, place

    @property
    def reason(self) -> str:
        return str(self._given.get("reason", "")).strip()

    @property
    def is_consented(self) -> bool:
        return bool(self._given.get("consent", False))

    @property
    def motive(self) -> ClosingMotive:
        if "motive" not in self._given:
            raise Invalid("required: motive", code="required", expression="Parameters.parameter")
        try:
            return ClosingMotive(self._given["motive"])
        except ValueError:
            raise Invalid(
                f"a motive is one of {', '.join(ClosingMotive)}",
                code="code-invalid",
                expression=f"{self._places['motive']}.value",
            ) from None

    @property
    def physician(self) -> Identifier | None:
        """None: there is none any more."""
        named = self._given.get("physician")
        if named is None:
            return None
        system, value = named.get("system"), named.get("value")
        if not (isinstance(system, str) and isinstance(value, str)):
            raise Invalid(
                "an identifier with system and value is expected",
                code="value",
                expression=f"{self._places['physician']}.value",
            )
        return system, value


def render_policy(policy: Policy) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": _policy(policy)}


def render_standing(standing: Standing) -> dict[str, Any]:
    decisions = [{"name": "decision", "part": _decision(each)} for each in standing.decisions]
    return {"resourceType": "Parameters", "parameter": [*_policy(standing.policy), *decisions]}


def _policy(policy: Policy) -> list[Parameter]:
    return [
        {"name": "status", "valueCode": policy.status.value},
        {"name": "since", "valueInstant": instant(policy.since)},
        *_given("motive", "valueCode", policy.closing_motive),
        *_given("reason", "valueString", policy.closing_reason),
        *_professional("physician", policy.attending_physician),
        *(
            [{"name": "physician-since", "valueInstant": instant(policy.attending_since)}]
            if policy.attending_since and policy.attending_physician
            else []
        ),
    ]


def _decision(decision: RecordDecision) -> list[Parameter]:
    return [
        {"name": "kind", "valueCode": decision.kind.value},
        {"name": "at", "valueInstant": instant(decision.at)},
        {"name": "by", "valueString": decision.by},
        {"name": "role", "valueCode": decision.role},
        *_professional("professional", decision.professional),
        *_given("motive", "valueCode", decision.motive),
        *_given("reason", "valueString", decision.reason),
        *_professional("physician", decision.physician),
        *([{"name": "consent", "valueBoolean": True}] if decision.is_consented else []),
    ]


def _given(name: str, kind: str, value: str | None) -> list[Parameter]:
    return [{"name": name, kind: value}] if value else []


def _professional(name: str, idnps: str | None) -> list[Parameter]:
    return [{"name": name, "valueIdentifier": {"system": IDNPS, "value": idnps}}] if idnps else []
