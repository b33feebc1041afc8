"""What is linked without asking, and what never is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.matching.decision import Candidate, Grade, decide
from passerelle.matching.record import MatchRecord
from passerelle.matching.scoring import STRICT, Evidence, Model, Score

MODEL = Model.load("fr")
CUTS = MODEL.thresholds

KNOWN = MatchRecord(
    family="lefebvre",
    given="camille",
    others=("anne",),
    birth_date="19800211",
    sex="f",
    birth_place="59350",
    postcode="59000",
    city="lille",
    street="rue des tilleuls",
    number="12",
    phone="612345699",
)
NATIONAL, OTHER_NATIONAL = "280025935001234", "280025935001235"
MOVED = {"postcode": "13001", "city": "marseille", "street": "avenue du prado", "number": "3", "phone": "798765432"}
CHILD = replace(KNOWN, birth_date="20240704", given="auguste", sex="m", others=())


def _verdict(stored: MatchRecord, sought: MatchRecord) -> Grade:
    is_same = bool(stored.national) and stored.national == sought.national
    score = MODEL.score(stored, sought)
    (verdict,) = decide([Candidate(record="r", person="p", score=score, has_same_national=is_same)])
    return verdict.grade


@pytest.mark.parametrize(
    ("case", "stored", "sought"),
    [
        ("all the same", KNOWN, KNOWN),
        ("moved", KNOWN, replace(KNOWN, **MOVED)),
        ("no address, no telephone", KNOWN, replace(KNOWN, postcode="", city="", street="", number="", phone="")),
        ("no birth place", KNOWN, replace(KNOWN, birth_place="", others=())),
        ("used name on one side", replace(KNOWN, used="garnier"), KNOWN),
        ("used name as family name", replace(KNOWN, used="garnier"), replace(KNOWN, family="garnier")),
        ("the same, moved", replace(KNOWN, used="garnier"), replace(KNOWN, family="garnier", **MOVED)),
        ("compound family name", KNOWN, replace(KNOWN, family="lefebvre garnier")),
        ("particle left out", replace(KNOWN, family="de oliveira"), replace(KNOWN, family="oliveira")),
        ("words of a first name joined", replace(KNOWN, given="jean paul"), replace(KNOWN, given="jeanpaul")),
        ("first name mistyped", KNOWN, replace(KNOWN, given="cammille")),
        ("family name by ear", KNOWN, replace(KNOWN, family="lefevre")),
        ("day and month exchanged", KNOWN, replace(KNOWN, birth_date="19801102")),
        ("one digit of the date", KNOWN, replace(KNOWN, birth_date="19800212")),
        ("names exchanged", KNOWN, replace(KNOWN, family="camille", given="lefebvre")),
        ("sex not known", KNOWN, replace(KNOWN, sex="")),
        ("another place of the same department", KNOWN, replace(KNOWN, birth_place="59001")),
        ("department redrawn", *(replace(KNOWN, birth_place=each) for each in ("75050", "92050"))),
        ("birth place not known, moved", KNOWN, replace(KNOWN, birth_place="", **{**MOVED, "phone": ""})),
        (
            "same identifier, sex mistaken",
            replace(KNOWN, national=NATIONAL),
            replace(KNOWN, national=NATIONAL, sex="m"),
        ),
        (
            "same identifier, first name another one",
            replace(KNOWN, national=NATIONAL),
            replace(KNOWN, national=NATIONAL, given="zoe"),
        ),
    ],
)
def test_linked_without_asking(case: str, stored: MatchRecord, sought: MatchRecord) -> None:
    assert _verdict(stored, sought) is Grade.CERTAIN, case


@pytest.mark.parametrize(
    ("case", "stored", "sought"),
    [
        ("twin", KNOWN, replace(KNOWN, given="louise", others=())),
        ("twin of the other sex", KNOWN, replace(KNOWN, given="hugo", sex="m", others=())),
        ("twins with like names", CHILD, replace(CHILD, given="augustin")),
        ("twins with like compound names", *(replace(CHILD, given=each) for each in ("marie alice", "marie alix"))),
        ("two names, one letter apart", *(replace(CHILD, given=each) for each in ("louis", "louise"))),
        ("newborn without a name, and its twin", CHILD, replace(CHILD, given="bebe 2")),
        ("newborn without a name", CHILD, replace(CHILD, given="")),
        ("known by a further first name", KNOWN, replace(KNOWN, given="anne", others=())),
        ("father and son of one name", KNOWN, replace(KNOWN, birth_date="20120830", phone="")),
        (
            "born the same day, a common name",
            *(MatchRecord(family="martin", given="marie", birth_date="19620311"),) * 2,
        ),
        ("the other sex", KNOWN, replace(KNOWN, sex="m")),
        ("born elsewhere", KNOWN, replace(KNOWN, birth_place="13055")),
        ("born in another country", *(replace(KNOWN, birth_place=each) for each in ("99350", "99352"))),
        ("the same names and birth date, nothing else", KNOWN, replace(KNOWN, birth_place="", **MOVED)),
        ("another birth date", KNOWN, replace(KNOWN, birth_date="19750830")),
        ("other identifier", replace(KNOWN, national=NATIONAL), replace(KNOWN, national=OTHER_NATIONAL)),
        (
            "same identifier, two traits differ",
            replace(KNOWN, national=NATIONAL),
            replace(KNOWN, national=NATIONAL, given="zoe", sex="m"),
        ),
        ("one name in common, in the wrong place", KNOWN, replace(KNOWN, family="moreau", given="lefebvre")),
        ("nothing known", MatchRecord(), MatchRecord()),
    ],
)
def test_never_linked_without_asking(case: str, stored: MatchRecord, sought: MatchRecord) -> None:
    assert _verdict(stored, sought) is not Grade.CERTAIN, case


@pytest.mark.parametrize("sought", [replace(KNOWN, given="anne", others=()), replace(CHILD, given="bebe")])
def test_a_doubt_is_shown_to_a_steward(sought: MatchRecord) -> None:
    stored = KNOWN if sought.given == "anne" else CHILD
    assert _verdict(stored, sought) in (Grade.PROBABLE, Grade.POSSIBLE)


LEVELS = {
    "given": st.sampled_from(["exact", "misspelt", "close", "other", "different", "unknown"]),
    "birth_date": st.sampled_from(["exact", "near", "different", "unknown"]),
    "sex": st.sampled_from(["exact", "different", "unknown"]),
    "birth_place": st.sampled_from(["exact", "department", "different", "unknown"]),
    "address": st.sampled_from(["door", "different", "unknown"]),
    "phone": st.sampled_from(["exact", "different", "unknown"]),
    "national": st.sampled_from(["exact", "near", "different", "unknown"]),
    "order": st.sampled_from(["kept", "swapped", "half", "unknown"]),
}


@st.composite
def _candidates(draw: st.DrawFn) -> Candidate:
    bits = draw(st.floats(-60, 90))
    levels = {field: draw(values) for field, values in LEVELS.items()}
    return Candidate(
        record=draw(st.sampled_from(["r1", "r2", "r3", "r4", "r5"])),
        person=draw(st.sampled_from(["p1", "p2", "p3"])),
        score=Score(
            bits=bits,
            probability=MODEL.calibrated(bits),
            evidence=tuple(Evidence(field=field, level=level, bits=0.0) for field, level in levels.items()),
            contradictions=tuple(field for field in STRICT if levels[field] == "different"),
            model="test",
        ),
        has_same_national=draw(st.booleans()) and levels["national"] == "exact",
        is_barred=draw(st.booleans()),
    )


@given(st.lists(_candidates(), max_size=6))
def test_guards(candidates: list[Candidate]) -> None:
    verdicts = decide(candidates)
    people = [verdict.candidate.person for verdict in verdicts]
    assert sorted(people) == sorted({candidate.person for candidate in candidates})
    scores = [verdict.candidate.score.bits for verdict in verdicts]
    assert scores == sorted(scores, reverse=True)
    certain = [verdict for verdict in verdicts if verdict.grade is Grade.CERTAIN]
    assert len(certain) <= 1
    for verdict in certain:
        chosen = verdict.candidate
        assert verdict is verdicts[0]
        assert chosen.score.bits >= CUTS.certain
        assert len(chosen.score.contradictions) <= chosen.has_same_national
        levels = {each.field: each.level for each in chosen.score.evidence}
        if not chosen.has_same_national and levels["birth_place"] == "unknown":
            assert (levels["address"], levels["phone"]) != ("different", "different")
        for candidate in candidates:
            if candidate.person == chosen.person:
                assert not candidate.is_barred
                nationals = [each.level for each in candidate.score.evidence if each.field == "national"]
                assert nationals in (["exact"], ["unknown"])
            else:
                assert chosen.score.bits - candidate.score.bits >= CUTS.margin


@given(st.lists(_candidates(), max_size=6).flatmap(lambda each: st.tuples(st.just(each), st.permutations(each))))
def test_the_order_of_the_candidates_does_not_matter(drawn: tuple[list[Candidate], list[Candidate]]) -> None:
    one, other = (
        [(verdict.candidate.person, verdict.candidate.score.bits, verdict.grade) for verdict in decide(each)]
        for each in drawn
    )
    assert one == other


def test_two_records_of_one_person_are_no_rivals() -> None:
    score = MODEL.score(KNOWN, KNOWN)
    same = [Candidate(record=record, person="p", score=score) for record in ("r1", "r2")]
    assert [verdict.grade for verdict in decide(same)] == [Grade.CERTAIN]
    rivals = [replace(same[0], person="p1"), replace(same[1], person="p2")]
    assert [verdict.grade for verdict in decide(rivals)] == [Grade.PROBABLE, Grade.PROBABLE]


def test_nobody() -> None:
    assert decide([]) == ()
