"""What follows from the patient's commands, and in which capacity somebody gives one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from passerelle.access import Caller, Scopes
from passerelle.consents.control import (
    Capacity,
    admitted,
    appointed,
    authorised,
    broken,
    capacity_of,
    mandate_of,
    of_age_on,
    released,
    shut_out,
    told_of,
    unauthorised,
    withheld,
)
from passerelle.consents.decision import Implicit, standing_of
from passerelle.consents.model import (
    Basis,
    Emergency,
    Mandate,
    MandateKind,
    Policy,
    RecordStatus,
    Relation,
    strictest,
)
from passerelle.directory.model import Role

AT = datetime(2026, 3, 1, tzinfo=UTC)
DOCTOR, HOSPITAL, HOLDER = "810000000011", "1990000011", "urn:oid:2.999|1"
EMPTY = Policy(status=RecordStatus.OPEN, since=AT)


def emergency(professional: str = DOCTOR, *, since: datetime = AT) -> Emergency:
    return Emergency(
        id=f"{professional}{since}",
        professional=professional,
        organisation=HOSPITAL,
        since=since,
        until=since + timedelta(hours=4),
        reason="unconscious",
    )


@pytest.mark.parametrize(
    ("born", "expected"),
    [
        (date(2008, 2, 29), datetime(2026, 3, 1, tzinfo=UTC)),
        (date(2008, 3, 1), datetime(2026, 3, 1, tzinfo=UTC)),
        (date(2012, 12, 31), datetime(2030, 12, 31, tzinfo=UTC)),
    ],
)
def test_the_18th_birthday(born: date, expected: datetime) -> None:
    assert of_age_on(born) == expected
    mandate = Mandate(holder=HOLDER, kind=MandateKind.PARENT, since=AT - timedelta(days=9), until=expected)
    assert mandate.holds(expected - timedelta(seconds=1))
    assert not mandate.holds(expected)


def test_a_block_ends_what_was_allowed_and_its_end_gives_nothing_back() -> None:
    """What follows from a resource (a care team) is not the command's to end: it is of no use under a block."""
    team = Relation(party=DOCTOR, basis=Basis.CARE_TEAM, since=AT, source="CareTeam/1")
    policy = authorised(replace(EMPTY, relations=(team,)), DOCTOR, since=AT, until=None)
    policy = broken(policy, emergency())
    shut = shut_out(shut_out(policy, DOCTOR, AT), DOCTOR, AT)
    assert (shut.relations, shut.emergencies, len(shut.blocks)) == ((team,), (), 1)
    assert admitted(shut, DOCTOR) == replace(EMPTY, relations=(team,))
    assert shut_out(policy, HOSPITAL, AT).emergencies == ()


def test_the_latest_authorisation_of_a_party_counts() -> None:
    policy = authorised(EMPTY, DOCTOR, since=AT, until=None)
    policy = authorised(policy, DOCTOR, since=AT, until=AT + timedelta(days=1))
    assert [each.until for each in policy.relations] == [AT + timedelta(days=1)]
    assert unauthorised(policy, DOCTOR) == EMPTY


def test_a_carer_who_is_appointed_again_keeps_what_was_released() -> None:
    carer = Mandate(holder=HOLDER, kind=MandateKind.CARER, since=AT)
    policy = released(appointed(EMPTY, carer), HOLDER, frozenset({"Observation/1", "Observation/2"}))
    policy = withheld(policy, HOLDER, frozenset({"Observation/2"}))
    again = appointed(policy, replace(carer, until=AT + timedelta(days=1)))
    kept = mandate_of(again, HOLDER)
    assert kept is not None
    assert kept.released == frozenset({"Observation/1"})
    guardian = appointed(again, Mandate(holder=HOLDER, kind=MandateKind.GUARDIAN, since=AT))
    assert [each.released for each in guardian.mandates] == [None]
    assert released(guardian, HOLDER, frozenset({"Observation/1"})) == guardian
    carer_again = mandate_of(appointed(guardian, carer), HOLDER)
    assert carer_again is not None
    assert carer_again.released == frozenset()


def test_emergencies_that_are_over_leave_the_policy() -> None:
    policy = broken(broken(EMPTY, emergency("1")), emergency("2"))
    policy = broken(policy, emergency("1", since=AT + timedelta(hours=1)))
    assert [(each.professional, each.since.hour) for each in policy.emergencies] == [("2", 0), ("1", 1)]
    later = broken(policy, emergency("3", since=AT + timedelta(days=1)))
    assert [each.professional for each in later.emergencies] == ["3"]


@pytest.mark.parametrize(
    ("role", "is_own", "person", "expected"),
    [
        (Role.PATIENT, True, None, Capacity.PATIENT),
        (Role.PATIENT, False, None, None),
        (Role.REPRESENTATIVE, True, None, Capacity.REPRESENTATIVE),
        (Role.REPRESENTATIVE, True, "parent", Capacity.REPRESENTATIVE),
        (Role.REPRESENTATIVE, True, "guardian", Capacity.REPRESENTATIVE),
        (Role.REPRESENTATIVE, True, "carer", Capacity.CARER),
        (Role.REPRESENTATIVE, True, "over", None),
        (Role.REPRESENTATIVE, True, "nobody", None),
        (Role.REPRESENTATIVE, False, "parent", None),
        (Role.NURSE, False, None, Capacity.PROFESSIONAL),
        (Role.AUDITOR, True, None, None),
        (Role.PAYER, True, None, None),
        (Role.REGULATION, False, None, None),
    ],
)
def test_the_capacity_of_a_caller(role: Role, is_own: bool, person: str | None, expected: Capacity | None) -> None:
    mandates = [Mandate(holder=kind.value, kind=kind, since=AT) for kind in MandateKind]
    mandates.append(Mandate(holder="over", kind=MandateKind.PARENT, since=AT, until=AT))
    caller = Caller(client_id="c", organisation="o", role=role, scopes=Scopes(frozenset()), token_id="t", person=person)
    policy = replace(EMPTY, mandates=tuple(mandates))
    standing = standing_of(caller, policy, is_own=is_own, at=AT, implicit=Implicit.BASIC_NORMAL)
    assert capacity_of(standing) is expected
    bound = replace(standing, is_for_another=True)
    assert capacity_of(bound) is (Capacity.PROFESSIONAL if expected is Capacity.PROFESSIONAL else None)


def test_everybody_is_told_the_own_part() -> None:
    caller = Caller(
        client_id="c",
        organisation=HOSPITAL,
        role=Role.HOSPITAL,
        scopes=Scopes(frozenset()),
        token_id="t",
        professional=DOCTOR,
        person=HOLDER,
    )
    policy = EMPTY
    for party in (DOCTOR, HOSPITAL, "810000000029"):
        policy = authorised(policy, party, since=AT, until=None)
        policy = broken(policy, emergency(party))
        policy = appointed(policy, Mandate(holder=f"{HOLDER}{party}", kind=MandateKind.CARER, since=AT))
    policy = appointed(policy, Mandate(holder=HOLDER, kind=MandateKind.CARER, since=AT))
    policy = replace(shut_out(policy, "810000000999", AT), opposes_emergency=True, agrees_to_research=True)
    assert told_of(policy, caller, Capacity.PATIENT) == policy
    assert told_of(policy, caller, Capacity.REPRESENTATIVE) == policy
    professional = told_of(policy, caller, Capacity.PROFESSIONAL)
    assert {each.party for each in professional.relations} == {DOCTOR, HOSPITAL}
    assert [each.professional for each in professional.emergencies] == [DOCTOR]
    assert (professional.blocks, professional.mandates) == ((), ())
    carer = told_of(policy, caller, Capacity.CARER)
    assert [each.holder for each in carer.mandates] == [HOLDER]
    assert (carer.relations, carer.emergencies, carer.blocks) == ((), (), ())
    for told in (professional, carer):
        assert (told.opposes_emergency, told.agrees_to_research) == (False, False)


def test_what_was_decided_of_one_of_two_linked_records_counts_for_both() -> None:
    one, other = shut_out(EMPTY, DOCTOR, AT), replace(EMPTY, opposes_regulation=True)
    both = strictest([one, other])
    assert ([each.party for each in both.blocks], both.opposes_regulation) == ([DOCTOR], True)
