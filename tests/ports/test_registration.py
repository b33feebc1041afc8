"""Registrations against storage: nobody is missed by two that happen at once, and no rule of identity is broken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from local.region import RELIABILITY, ins_of
from passerelle import wiring
from passerelle.access import Touched
from passerelle.audit.model import audit_of
from passerelle.errors import Conflict, Forbidden, Stale, Unprocessable, Unsupported
from passerelle.matching import blocking
from passerelle.matching.blocking import Block
from passerelle.patients.model import HistoryKind, ReviewStatus, Rule
from passerelle.patients.registration import Plan
from tests import record, registered, sources
from tests.sources import Source, person, reviews

A, B, C = Source(1), Source(2), Source(3)


@pytest.fixture(autouse=True)
def _index(_services: None) -> None:
    """Each test has people of its own: an empty index."""
    for table in ("patients", "clinical", "operations", "audit"):
        registered.empty(table)
    for source in (A, B, C):
        sources.join(source.caller)


@pytest.fixture(scope="module")
def _services() -> Iterator[None]:
    with record.services():
        yield


def commit(*plans: Plan) -> None:
    changes = [change for plan in plans for change in plan.changes]
    wiring.journal().commit([*changes, *audit_of(sources.request(A.caller), Touched())])


# --- two registrations at once ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({}, id="the-same-traits"),
        pytest.param({"given": "Camile"}, id="a-given-name-misspelt"),
        pytest.param({"born": "1971-08-03"}, id="day-and-month-exchanged"),
        pytest.param({"family": "CAMILLE", "given": "Morel"}, id="names-exchanged"),
    ],
)
def test_two_registrations_of_a_newcomer_at_once_do_not_miss_each_other(other: dict[str, Any]) -> None:
    first, second = A.plan("1"), B.plan("2", **other)
    commit(first)
    with pytest.raises(Stale):
        commit(second)
    again = B.register("2", **other)
    known = first.registered.patient
    is_one_person = again in person(known).members
    is_asked = any(each.other(again) == known for each in reviews(again))
    assert is_one_person != is_asked


def test_a_correction_and_a_registration_at_once_do_not_miss_each_other() -> None:
    key = A.register("1", family="AUTRE", born="1940-01-01", place="29019")
    correction, newcomer = A.plan("1"), B.plan("2")
    commit(correction)
    with pytest.raises(Stale):
        commit(newcomer)
    assert person(B.register("2")).members == tuple(sorted([key, newcomer_key("2")]))


def newcomer_key(local: str) -> str:
    found = wiring.patient_index().find_owner(B.domain, local)
    assert found is not None
    return found


def test_strangers_at_once_do_not_disturb_each_other() -> None:
    first = A.plan("1")
    second = B.plan("2", family="NGUYEN", given="Thi Lan", born="1979-08-22", place="99243", gender="male")
    commit(first)
    commit(second)


def test_relatives_of_one_transaction_share_blocks() -> None:
    """A mother and her child at one address: both enter its block in one commit."""
    home = {"address": [{"line": ["4 rue des Lilas"], "city": "Lyon", "postalCode": "69003"}]}
    mother = A.plan("1", **home)
    child_draft = sources.draft(A.domain, "2", given="Zoé", born="2024-05-05", **home)
    child = wiring.patient_service().plan(
        sources.request(A.caller), child_draft, identifier=(A.domain, "2"), beside=[mother]
    )
    commit(mother, child)
    keys = (mother.registered.patient, child.registered.patient)
    assert [person(key).members for key in keys] == [(key,) for key in keys]
    # Both are found by those who come next.
    assert set(keys) <= {
        entry.patient
        for page in wiring.patient_index().look_up(sorted(blocks_of(mother) & blocks_of(child), key=str), None)[0]
        for entry in page.entries
    }


def blocks_of(plan: Plan) -> set[Block]:
    assert plan.listed is not None
    return set(blocking.blocks_of(plan.listed.record))


def test_a_slot_that_was_left_is_not_taken_again_while_anybody_looks() -> None:
    key = A.register("1")
    held = wiring.patient_index().find_places(key)
    A.register("1", family="AUTRE", born="1940-01-01", place="29019")  # leaves its blocks
    newcomer = B.register("2")
    again = {place.key: place.slot for place in wiring.patient_index().find_places(newcomer)}
    assert [again[place.key] - place.slot for place in held if place.key in again] == [1] * len(again)


def test_nothing_of_a_person_shows_in_keys_or_blocks() -> None:
    A.register("1", ins=ins_of(1), telecom=[{"system": "phone", "value": "0611223344"}])
    traits = ("morel", "camille", "1971-03-08", "19710308", "611223344", ins_of(1))
    for table in ("patients", "clinical", "operations"):
        for item in record.items(table):
            assert not [each for each in traits if each in f"{item['PK']} {item['SK']}".lower()]
            if item["PK"].startswith("B#"):
                assert not [each for each in traits if each.encode() in bytes(item["traits"]).lower()]


# --- links --------------------------------------------------------------------------------------------------------


def test_the_same_person_from_two_sources_is_linked_by_the_score_and_both_sources_are_told() -> None:
    known = A.register("1")
    joined = B.register("2")
    assert person(known) == person(joined)
    assert [each.rule for each in person(known).links] == [Rule.SCORE]
    for key, other in ((known, joined), (joined, known)):
        (event,) = wiring.patient_index().history_of(key)
        assert (event.kind, event.with_records, event.by) == (HistoryKind.LINKED, (other,), "source-2")
        assert event.evidence["model"]


def test_ins_10_the_score_never_links_two_national_identifiers() -> None:
    one, other = A.register("1", ins=ins_of(1)), B.register("2", ins=ins_of(2))
    assert person(one).members == (one,)
    assert person(other).members == (other,)
    assert not reviews(one)


def test_ins_10_a_merge_of_two_national_identifiers_is_refused() -> None:
    A.register("1", ins=ins_of(1))
    other = A.register("2", ins=ins_of(2))
    with pytest.raises(Conflict):
        A.register("2", ins=ins_of(2), replaced_by="1")
    assert person(other).members == (other,)


def test_a_qualified_identity_joins_its_person_and_traits_that_differ_are_asked_about() -> None:
    known = A.register("1", ins=ins_of(1))
    joined = B.register("2", ins=ins_of(1), family="AUTRE", given="Nom", born="1990-01-01")
    assert person(known) == person(joined)
    assert [each.rule for each in person(known).links] == [Rule.NATIONAL_IDENTIFIER]
    assert [(each.cause, each.other(joined)) for each in reviews(joined)] == [("contradiction", known)]
    agreeing = C.register("3", ins=ins_of(1))
    assert person(known) == person(agreeing)
    assert not reviews(agreeing)


def test_a_person_may_have_many_records() -> None:
    """Every structure that ever saw the person, over the years."""
    many = [Source(number) for number in range(10, 52)]
    for source in many:
        sources.join(source.caller)
    keys = [source.register("1", ins=ins_of(1)) for source in many]
    assert person(keys[0]).members == tuple(sorted(keys))
    assert [person(key) for key in keys] == [person(keys[0])] * len(keys)


def test_a_doubtful_identity_is_never_linked_by_its_score() -> None:
    known = A.register("1")
    doubtful = sources.patient(B.domain, "2", status="PROV")
    comment = {
        "coding": [
            {"system": "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-identity-status-comment", "code": "DOUT"}
        ]
    }
    (extension,) = [each for each in doubtful["extension"] if each["url"] == RELIABILITY]
    extension["extension"].append({"url": "comment", "valueCodeableConcept": comment})
    key = B.register("2", extension=doubtful["extension"], status="PROV")
    assert person(key).members == (key,)
    assert [each.status for each in reviews(known)] == [ReviewStatus.OPEN]


def test_linked_records_that_no_longer_agree_are_a_steward_s_question() -> None:
    known, joined = A.register("1"), B.register("2")
    assert joined in person(known).members
    B.register("2", family="DURAND", given="Paul", born="1999-12-31", gender="male", place="99351")
    assert joined in person(known).members  # nothing is undone without a person
    assert [each.cause for each in reviews(joined)] == ["contradiction"]


# --- a source merges its own records ------------------------------------------------------------------------------


def test_104_4_a_replaced_record_stands_for_nobody_and_keeps_what_was_published() -> None:
    survivor, duplicate = A.register("1", ins=ins_of(1)), A.register("2", family="MOREAU", born="1971-03-09")
    other = B.register("3", family="MOREAU", born="1971-03-09")
    assert other in person(duplicate).members
    A.register("2", family="MOREAU", born="1971-03-09", replaced_by="1")
    joined = person(survivor)
    assert joined.members == tuple(sorted([survivor, duplicate, other]))
    assert joined.member(duplicate).replaced_by == survivor
    assert not wiring.patient_index().find_places(duplicate)
    assert wiring.patient_index().history_of(duplicate)[-1].kind is HistoryKind.MERGED
    # Sent again, it changes nothing.
    before = person(survivor)
    A.register("2", family="MOREAU", born="1971-03-09", replaced_by="1")
    assert person(survivor) == before


@pytest.mark.parametrize(
    ("replaced_by", "code"),
    [pytest.param("9", "not-found", id="unknown"), pytest.param("2", "business-rule", id="itself")],
)
def test_104_5_a_survivor_that_cannot_be_one(replaced_by: str, code: str) -> None:
    A.register("2")
    with pytest.raises(Unprocessable) as refused:
        A.register("2", replaced_by=replaced_by)
    assert refused.value.issues[0].code == code


def test_104_5_records_do_not_replace_each_other_in_a_circle() -> None:
    A.register("1")
    A.register("2", family="AUTRE", born="1950-05-05")
    A.register("3", family="TIERS", born="1960-06-06")
    A.register("1", replaced_by="2")
    A.register("2", family="AUTRE", born="1950-05-05", replaced_by="3")
    with pytest.raises(Unprocessable) as refused:
        A.register("3", family="TIERS", born="1960-06-06", replaced_by="1")
    assert refused.value.issues[0].code == "business-rule"


def test_93_3_a_source_does_not_undo_a_merge() -> None:
    A.register("1")
    A.register("2", family="MOREAU")
    A.register("2", family="MOREAU", replaced_by="1")
    with pytest.raises(Unsupported):
        A.register("2", family="MOREAU")


# --- domains ------------------------------------------------------------------------------------------------------


def test_104_3_a_domain_belongs_to_one_organisation() -> None:
    thief = sources.like(B.caller, domain=A.domain)
    draft = sources.draft(A.domain, "7")
    with pytest.raises(Forbidden):
        wiring.patient_service().register(sources.request(thief), (A.domain, "7"), draft)
    with pytest.raises(Conflict):
        sources.join(thief)
    assert wiring.patient_index().find_owner(A.domain, "7") is None


def test_104_6_a_removed_record_keeps_its_person_and_frees_its_identifier() -> None:
    known, joined = A.register("1"), B.register("2")
    wiring.patient_service().remove(sources.request(B.caller), (B.domain, "2"))
    assert person(known).members == tuple(sorted([known, joined]))
    assert person(known).member(joined).is_removed
    assert wiring.patient_index().find_owner(B.domain, "2") is None
    assert B.register("2") not in (known, joined)
