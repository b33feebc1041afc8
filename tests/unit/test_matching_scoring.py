"""A score is symmetric, bounded, and can be followed and given again."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.errors import Fault
from passerelle.matching.record import MatchRecord
from passerelle.matching.scoring import STRICT, Model, Score

MODEL = Model.load("fr")

# Few values, so that drawn records agree, nearly agree and differ.
RECORDS = st.builds(
    MatchRecord,
    family=st.sampled_from(["", "martin", "matrin", "lefebvre", "lefevre", "le goff", "camille", "inconnu", "quezel"]),
    used=st.sampled_from(["", "", "martin", "garnier"]),
    given=st.sampled_from(["", "camille", "camile", "auguste", "augustin", "marie alice", "marie", "martin"]),
    others=st.sampled_from([(), ("marie",), ("marie", "paul"), ("zoe",)]),
    birth_date=st.sampled_from(["", "19800214", "19801402", "19800215", "19810101", "19800101", "19000101"]),
    sex=st.sampled_from(["", "f", "m"]),
    birth_place=st.sampled_from(["", "59350", "59001", "75056", "99352"]),
    postcode=st.sampled_from(["", "59000", "59001", "13001"]),
    city=st.sampled_from(["", "lille", "marseille"]),
    street=st.sampled_from(["", "rue des tilleuls", "rue du bois"]),
    number=st.sampled_from(["", "1", "2"]),
    phone=st.sampled_from(["", "612345699", "612345698", "000000000"]),
    email=st.sampled_from(["", "a@example.org", "b@example.org"]),
    national=st.sampled_from(["", "280025935001234", "280025935001235"]),
)
SIMPLE = ("birth_date", "sex", "birth_place", "phone", "email", "national")


def _bits(score: Score) -> dict[str, float]:
    return {evidence.field: evidence.bits for evidence in score.evidence}


@given(RECORDS, RECORDS)
def test_the_same_whichever_comes_first(a: MatchRecord, b: MatchRecord) -> None:
    assert MODEL.score(a, b) == MODEL.score(b, a)


@given(RECORDS, RECORDS)
def test_bounded(a: MatchRecord, b: MatchRecord) -> None:
    score = MODEL.score(a, b)
    assert 0.0 <= score.probability <= 1.0
    assert abs(score.bits) < 250
    assert set(score.contradictions) <= set(STRICT)


@given(RECORDS, RECORDS)
def test_the_evidence_adds_up(a: MatchRecord, b: MatchRecord) -> None:
    score = MODEL.score(a, b)
    assert math.isclose(sum(evidence.bits for evidence in score.evidence), score.bits, abs_tol=1e-9)
    assert {"prior", "household"} < _bits(score).keys()


@given(RECORDS, RECORDS)
def test_a_stored_decision_is_given_again(a: MatchRecord, b: MatchRecord) -> None:
    score = MODEL.score(a, b)
    stored = [(evidence.field, evidence.level, evidence.rarity) for evidence in score.evidence]
    assert MODEL.replay(stored) == score


@given(RECORDS, RECORDS, st.sampled_from(SIMPLE))
def test_what_is_missing_is_no_evidence(a: MatchRecord, b: MatchRecord, trait: str) -> None:
    """Neither for nor against, whichever side lacks it; and what else is known tells the same."""
    without = MODEL.score(replace(a, **{trait: ""}), b)
    assert without == MODEL.score(a, replace(b, **{trait: ""}))
    assert without == MODEL.score(replace(a, **{trait: ""}), replace(b, **{trait: ""}))
    assert _bits(without)[trait] == 0.0
    full = _bits(MODEL.score(a, b))
    assert all(full[field] == bits for field, bits in _bits(without).items() if field not in (trait, "household"))


@given(RECORDS)
def test_agreement_is_never_against(record: MatchRecord) -> None:
    bits = _bits(MODEL.score(record, record))
    assert all(bits[trait] >= 0.0 for trait in (*SIMPLE, "family", "given", "others", "address"))


@pytest.mark.parametrize(
    ("trait", "one", "other"),
    [
        ("family", "martin", "roux"),
        ("given", "lea", "hugo"),
        ("birth_date", "19800214", "19751130"),
        ("sex", "f", "m"),
        ("birth_place", "59350", "13055"),
        ("phone", "612345699", "798765432"),
        ("email", "a@example.org", "b@example.org"),
        ("national", "280025935001234", "280025935001235"),
    ],
)
def test_disagreement_is_against(trait: str, one: str, other: str) -> None:
    assert _bits(MODEL.score(MatchRecord(**{trait: one}), MatchRecord(**{trait: other})))[trait] < 0.0


@given(st.floats(-300, 300), st.floats(-300, 300))
def test_the_probability_grows_with_the_bits(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert MODEL.calibrated(low) <= MODEL.calibrated(high)


def test_neighbouring_identifiers_are_those_of_twins() -> None:
    """So they tell as much as any other identifier does: they are never better than a different one."""
    one, near, other = (
        MatchRecord(national=each) for each in ("280025935001234", "280025935001235", "151119935001234")
    )
    assert _bits(MODEL.score(one, near)) == _bits(MODEL.score(one, other))


@given(RECORDS, RECORDS)
def test_a_near_identifier_is_never_better_than_a_different_one(a: MatchRecord, b: MatchRecord) -> None:
    a = replace(a, national="280025935001234")
    near, different = (MODEL.score(a, replace(b, national=each)) for each in ("280025935001243", "151119935004321"))
    assert near == different


def test_weights_may_know_near_identifiers() -> None:
    weights = json.loads((files("passerelle.matching") / "data" / "weights_fr.json").read_text("utf-8"))
    weights["traits"]["national"]["near"] = [0.01, 1e-4, 1e-5]
    model = Model({**weights, "version": "elsewhere-1"})
    score = model.score(MatchRecord(national="280025935001234"), MatchRecord(national="280025935001235"))
    stored = [(evidence.field, evidence.level, evidence.rarity) for evidence in score.evidence]
    assert _bits(score)["national"] > 0
    assert model.replay(stored) == score
    with pytest.raises(Fault):
        MODEL.replay(stored)


def test_a_rare_name_is_better_evidence() -> None:
    rare, common = (MatchRecord(family=name) for name in ("quezel", "martin"))
    assert _bits(MODEL.score(rare, rare))["family"] > _bits(MODEL.score(common, common))["family"] + 3


def test_the_first_of_january_is_poor_evidence() -> None:
    someday, first = (MatchRecord(birth_date=date) for date in ("19600214", "19600101"))
    assert _bits(MODEL.score(someday, someday))["birth_date"] > _bits(MODEL.score(first, first))["birth_date"] + 1


TWIN = MatchRecord(
    family="quezel",
    given="hugo",
    birth_date="20200214",
    postcode="59000",
    city="lille",
    street="rue du bois",
    number="2",
    phone="612345699",
)


def test_a_relative_explains_what_twins_have_in_common() -> None:
    evidence = {each.field: each for each in MODEL.score(TWIN, replace(TWIN, given="camille")).evidence}
    assert evidence["address"].bits > 10
    assert evidence["household"].level == "likely"
    assert evidence["household"].bits < -25


def test_a_rare_name_does_not_make_one_of_two_relatives() -> None:
    """Brothers share a rare name as they share a common one: its frequency counts against chance only."""
    rare, common = (
        MODEL.score(replace(TWIN, family=name), replace(TWIN, family=name, given="camille"))
        for name in ("quezel", "martin")
    )
    assert rare.bits == pytest.approx(common.bits, abs=0.01)


def test_more_people_make_a_coincidence_likelier() -> None:
    record = MatchRecord(family="martin", given="camille", birth_date="19800214")
    few, many = (Model.load("fr", population=size).score(record, record) for size in (100_000, 68_000_000))
    assert few.bits > many.bits


def test_unknown_levels_are_refused() -> None:
    with pytest.raises(Fault):
        MODEL.replay([("given", "nearly", 0.0)])


def test_the_file_of_weights_tells_where_it_comes_from_and_names_no_one() -> None:
    assert MODEL.version
    assert MODEL.score(MatchRecord(), MatchRecord()).model == MODEL.version
