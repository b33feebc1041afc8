"""The policy of a person as it is kept: all of it comes back, and what is not understood is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from passerelle.aws.policies import policy_from_map, policy_to_map
from passerelle.consents.model import (
    Basis,
    Block,
    Emergency,
    Mandate,
    MandateKind,
    Policy,
    RecordStatus,
    Relation,
)
from passerelle.consents.terms import Effect, Provision, Scope, Terms

AT = datetime(2026, 3, 1, 9, tzinfo=UTC)
LATER = AT + timedelta(hours=4)
WHOLE = Policy(
    status=RecordStatus.CLOSED,
    since=AT,
    closing_motive="deces",
    closing_reason="words",
    attending_physician="810000000011",
    attending_since=AT,
    relations=(Relation(party="1990000011", basis=Basis.CARE_TEAM, since=AT, until=LATER, source="CareTeam/1"),),
    blocks=(Block(party="810000000029", since=AT),),
    mandates=(
        Mandate(holder="ins|1", kind=MandateKind.CARER, since=AT, released=frozenset()),
        Mandate(holder="ins|2", kind=MandateKind.PARENT, since=AT, until=LATER),
    ),
    emergencies=(
        Emergency(id="e", professional="810000000037", organisation="1990000011", since=AT, until=LATER, reason="r"),
    ),
    consents=(
        Terms(
            id="Consent/1",
            effect=Effect.PERMIT,
            provisions=(Provision(effect=Effect.DENY, scope=Scope(types=frozenset({"Observation"}))),),
        ),
    ),
    opposes_emergency=True,
    opposes_regulation=True,
    agrees_to_research=True,
)


@pytest.mark.parametrize("policy", [WHOLE, Policy(status=RecordStatus.OPEN, since=AT)], ids=["whole", "nothing said"])
def test_what_is_kept_comes_back(policy: Policy) -> None:
    """A carer to whom nothing was released yet is not one who sees everything."""
    assert policy_from_map(json.loads(json.dumps(policy_to_map(policy)))) == policy


def test_half_a_policy_is_none() -> None:
    """Goal I4: what a later release decides cannot be passed over."""
    with pytest.raises(ValueError, match="another release"):
        policy_from_map({**policy_to_map(WHOLE), "curfew": True})
