"""Who is let into a record: every caller against every standing, as `tests/expectations/admissions.txt` says.

The file is read by people: change it by hand, with the reason for it, when the rules change.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.access import Caller, Limits, Scopes
from passerelle.consents.decision import Admission, Implicit, Rule, Standing, admit, may_identify, standing_of
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
from passerelle.consents.terms import Effect
from passerelle.directory.model import CARE_ROLES, Role

AT = datetime(2026, 3, 1, 9, tzinfo=UTC)
LATER = AT + timedelta(hours=1)
EXPECTED = Path(__file__).parent.parent / "expectations" / "admissions.txt"
ME, MY_HOUSE = "810001234567", "1750000001"


def caller(role: str, **more: Any) -> Caller:
    return Caller(client_id="c", organisation=MY_HOUSE, role=role, scopes=Scopes(frozenset()), token_id="t", **more)


CALLERS: Mapping[str, Caller] = {
    "physician": caller(Role.HOSPITAL, professional=ME, profession="10"),
    "pharmacist": caller(Role.PHARMACY, professional=ME, profession="21"),
    "unknown profession": caller(Role.PRACTICE, professional=ME, profession="0"),
    "hospital system": caller(Role.HOSPITAL),
    "laboratory system": caller(Role.LABORATORY),
    "regulation centre": caller(Role.REGULATION),
    "researcher, for research": caller(Role.RESEARCHER, purpose="HRESCH"),
    "researcher, for care": caller(Role.RESEARCHER, purpose="TREAT"),
    "payer": caller(Role.PAYER, purpose="HPAYMT"),
    "auditor": caller(Role.AUDITOR),
    "identity steward": caller(Role.IDENTITY_STEWARD),
    "patient": caller(Role.PATIENT, patient="ins|1"),
    "registered representative": caller(Role.REPRESENTATIVE, patient="ins|1"),
    "logged-in proxy": caller(Role.REPRESENTATIVE, patient="ins|1", person="ins|2"),
    "role nobody knows": caller("wizard"),
}
OPEN = Policy(status=RecordStatus.OPEN, since=AT)
RELATED = replace(OPEN, relations=(Relation(party=ME, basis=Basis.AUTHORISATION, since=AT),))
EMERGENCY = Emergency(id="e", professional=ME, organisation=MY_HOUSE, since=AT, until=LATER, reason="r")


def blocked(party: str, policy: Policy) -> Policy:
    return replace(policy, blocks=(Block(party=party, since=AT),))


POLICIES: Mapping[str, Policy] = {
    "nothing decided": OPEN,
    "care relation": RELATED,
    "relation of the house": replace(
        OPEN, relations=(Relation(party=MY_HOUSE, basis=Basis.CARE_TEAM, since=AT, until=LATER),)
    ),
    "relation is over": replace(
        OPEN, relations=(Relation(party=ME, basis=Basis.ADMISSION, since=AT - timedelta(days=1), until=AT),)
    ),
    "attending physician": replace(OPEN, attending_physician=ME),
    "blocked": blocked(ME, OPEN),
    "house blocked": blocked(MY_HOUSE, RELATED),
    "blocked attending": blocked(ME, replace(OPEN, attending_physician=ME)),
    "glass broken": replace(OPEN, emergencies=(EMERGENCY,)),
    "glass broken, over": replace(OPEN, emergencies=(replace(EMERGENCY, since=AT - timedelta(days=1), until=AT),)),
    "glass broken, blocked": blocked(ME, replace(OPEN, emergencies=(EMERGENCY,))),
    "glass broken, opposed": replace(OPEN, emergencies=(EMERGENCY,), opposes_emergency=True),
    "opposes regulation": replace(OPEN, opposes_regulation=True),
    "agrees to research": replace(OPEN, agrees_to_research=True),
    "mandate": replace(OPEN, mandates=(Mandate(holder="ins|2", kind=MandateKind.CARER, since=AT),)),
    "mandate is over": replace(
        OPEN, mandates=(Mandate(holder="ins|2", kind=MandateKind.CARER, since=AT - timedelta(days=1), until=AT),)
    ),
    "record closed": replace(RELATED, status=RecordStatus.CLOSED),
    "record opposed": replace(OPEN, status=RecordStatus.OPPOSED),
}


def admitted(who: Caller, policy: Policy, implicit: Implicit, *, is_own: bool = True) -> Admission:
    return admit(standing_of(who, policy, is_own=is_own, at=AT, implicit=implicit))


def cell(admission: Admission) -> str:
    """`+rule` is let in, `-rule` is not, `!` says that an emergency would open the record."""
    return f"{'+' if admission.is_permitted else '-'}{admission.rule}{'!' if admission.may_break_glass else ''}"


def table() -> Iterator[str]:
    for implicit in Implicit:
        yield f"== implicit policy: {implicit}"
        for name, policy in POLICIES.items():
            yield f"-- {name}"
            outcomes: dict[str, list[str]] = {}
            for who, each in CALLERS.items():
                outcomes.setdefault(cell(admitted(each, policy, implicit)), []).append(who)
            yield from (f"   {outcome:28} {', '.join(who)}" for outcome, who in sorted(outcomes.items()))


def test_who_is_let_in() -> None:
    assert "\n".join(table()) + "\n" == EXPECTED.read_text("utf-8")


def test_nobody_sees_the_record_of_another_person_as_their_own() -> None:
    for role in (Role.PATIENT, Role.REPRESENTATIVE):
        assert admitted(caller(role, patient="ins|1"), OPEN, Implicit.ALL_NORMAL, is_own=False).rule is (
            Rule.ANOTHERS_RECORD
        )


def test_a_token_for_another_person_opens_nothing() -> None:
    """Contract IUA-8, PCF-11."""
    who = caller(Role.HOSPITAL, professional=ME, profession="10", limits=Limits(patient="ins|9"))
    standing = standing_of(who, RELATED, is_own=False, at=AT, implicit=Implicit.ALL_NORMAL, is_for_another=True)
    assert cell(admit(standing)) == "-token-is-for-another"


@pytest.mark.parametrize("role", [*Role, "wizard"])
def test_who_knows_a_person(role: str) -> None:
    """Closing a record hides it, not who somebody is."""
    own = role in (Role.PATIENT, Role.REPRESENTATIVE)
    looks = role in (*CARE_ROLES, Role.REGULATION, Role.PAYER)
    assert may_identify(caller(role), OPEN, is_own=True, at=AT) is (own or looks)
    assert may_identify(caller(role), OPEN, is_own=False, at=AT) is looks


def test_nobody_knows_a_person_by_saying_so() -> None:
    """Whoever logs in for somebody needs a mandate that holds."""
    proxy = CALLERS["logged-in proxy"]
    given = replace(OPEN, mandates=(Mandate(holder="ins|2", kind=MandateKind.CARER, since=AT, until=LATER),))
    assert not may_identify(proxy, OPEN, is_own=True, at=AT)
    assert may_identify(proxy, given, is_own=True, at=AT)
    assert not may_identify(proxy, given, is_own=True, at=LATER)


standings = st.builds(
    Standing,
    role=st.sampled_from([*map(str, Role), "wizard"]),
    status=st.sampled_from(RecordStatus),
    implicit=st.sampled_from(Implicit),
    is_own=st.booleans(),
    profession=st.sampled_from([None, "10", "21", "0"]),
    purpose=st.sampled_from(["", "TREAT", "HRESCH"]),
    is_named=st.booleans(),
    is_for_another=st.booleans(),
    is_blocked=st.booleans(),
    needs_mandate=st.booleans(),
    mandate=st.sampled_from([None, *MandateKind]),
    is_attending=st.booleans(),
    relation=st.sampled_from([None, *Basis]),
    consent=st.sampled_from([None, *Effect]),
    in_emergency=st.booleans(),
    opposes_emergency=st.booleans(),
    opposes_regulation=st.booleans(),
    agrees_to_research=st.booleans(),
)


@given(standings)
def test_a_denial_never_opens(who: Standing) -> None:
    before = admit(who).is_permitted
    for denied in (
        replace(who, is_blocked=True),
        replace(who, is_for_another=True),
        replace(who, consent=Effect.DENY),
        replace(who, opposes_emergency=True),
        replace(who, opposes_regulation=True),
        replace(who, agrees_to_research=False),
        replace(who, status=RecordStatus.CLOSED),
        replace(who, implicit=Implicit.DENY),
        replace(who, relation=None, mandate=None, is_attending=False, in_emergency=False),
    ):
        assert before or not admit(denied).is_permitted


@given(standings)
def test_no_emergency_opens_what_is_blocked_closed_or_of_another(who: Standing) -> None:
    for shut in (replace(who, is_blocked=True), replace(who, status=RecordStatus.CLOSED)):
        if shut.role in CARE_ROLES:
            admission = admit(replace(shut, in_emergency=True))
            assert not admission.is_permitted
            assert not admission.may_break_glass


@given(standings)
def test_who_is_told_that_an_emergency_opens_the_record_gets_in_by_one(who: Standing) -> None:
    admission = admit(who)
    if admission.may_break_glass:
        assert not admission.is_permitted
        assert admit(replace(who, in_emergency=True)) == Admission(is_permitted=True, rule=Rule.EMERGENCY)


@given(standings)
def test_facts_that_were_kept_are_decided_again_with_the_same_outcome(who: Standing) -> None:
    """Goal I17."""
    decision = admit(who).decision(who)
    kept = json.loads(json.dumps(decision.facts))
    assert Standing.from_map(kept) == who
    assert admit(Standing.from_map(kept)).decision(who) == decision
