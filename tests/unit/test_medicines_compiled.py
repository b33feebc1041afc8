"""What the open base resolves, finds and leaves uncovered (contract 17, 20.5, 20.6), over a small one."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passerelle.medicines.compiled import CompiledKnowledge, OnDemand
from passerelle.medicines.errors import KnowledgeUnavailable
from passerelle.medicines.model import Allergy, Behaviour, Concept, Context, Kind, NotCovered, Report, Treatment
from tests.medicines import (
    ASPIRIN,
    ATC,
    CIP,
    CIS,
    PARACETAMOL_CODEINE,
    SMS,
    SUBSTANCE,
    UCD,
    artefact,
    checked,
    content,
    rules,
    small_base,
    taken,
)


@pytest.mark.parametrize(
    ("treatment", "substances", "confidence"),
    [
        (taken("", ASPIRIN), ["acide acetylsalicylique"], "code"),
        (taken("", f"{CIP}3400960000011"), ["acide acetylsalicylique"], "code"),
        (taken("", f"{SUBSTANCE}02202"), ["paracetamol"], "code"),
        (taken("", f"{SMS}100000092079"), ["warfarine"], "code"),
        (taken("", PARACETAMOL_CODEINE), ["paracetamol", "codeine"], "code"),
        (taken("", f"{ATC}B01AA03", f"{SMS}100000092079"), ["warfarine"], "code"),
        (taken("", ASPIRIN, f"{SMS}100000092079"), ["acide acetylsalicylique", "warfarine"], "code"),
        (taken("Warfarine", ASPIRIN), ["acide acetylsalicylique", "warfarine"], "code"),
        (taken("Aspirine du Rhône 500 mg", ASPIRIN), ["acide acetylsalicylique"], "code"),
        (taken("", ASPIRIN, PARACETAMOL_CODEINE), ["acide acetylsalicylique", "paracetamol", "codeine"], "code"),
        (taken("", ASPIRIN, components=(taken("Warfarine"),)), ["acide acetylsalicylique", "warfarine"], "code"),
        (taken("WARFARINE"), ["warfarine"], "name"),
        (taken("Énalapril", f"{CIS}69999999"), ["enalapril"], "name"),
        (taken("aspirine"), ["acide acetylsalicylique"], "synonym"),
        (taken("Cotrimoxazole"), ["sulfamethoxazole", "trimethoprime"], "synonym"),
        (taken("Paracétamol 500 mg, comprimé pelliculé sécable"), ["paracetamol"], "name"),
        (taken("amoxicilline 250 mg/5 ml, poudre pour suspension buvable"), ["amoxicilline"], "name"),
        (taken("paracétamol 500 mg + codéine 30 mg"), ["paracetamol", "codeine"], "name"),
        (taken("paracétamol 500 mg, codéine 30,5 mg gél."), ["paracetamol", "codeine"], "name"),
        (taken("oxybate de sodium 500 mg/mL"), ["oxybate de sodium"], "name"),
    ],
)
def test_a_medicine_is_known_by_its_codes_then_by_its_name(
    treatment: Treatment, substances: list[str], confidence: str
) -> None:
    concept = small_base().resolve(treatment)
    assert isinstance(concept, Concept)
    assert sorted(concept.substances) == sorted(substances)
    assert concept.confidence == confidence


@pytest.mark.parametrize(
    ("treatment", "reason"),
    [
        (taken("", f"{CIS}69999999"), "unknown-product"),
        (taken("Kérioxal", f"{CIS}69999999"), "unknown-product"),
        (taken("", f"{UCD}9000001"), "no-rules"),
        (taken("eau pour préparations injectables"), "no-rules"),
        (taken("dapagliflozine"), "not-coded"),
        (taken("paracétamol 500 mg codéine 30 mg"), "not-coded"),  # nothing of a text is left unread
        (taken("paracétamol selon protocole"), "not-coded"),
        (taken("500 mg", key="1"), "not-coded"),
        (taken("", key="1"), "not-coded"),
    ],
)
def test_what_is_not_known_is_said_not_to_be_covered(treatment: Treatment, reason: str) -> None:
    found = small_base().resolve(treatment)
    assert isinstance(found, NotCovered)
    assert found.reason == reason
    report = checked(treatment, "warfarine")
    assert [(each.key, each.reason) for each in report.not_covered] == [(treatment.key, reason)]
    assert report.checked_pairs == 0


def test_a_product_of_which_one_substance_is_unknown_is_checked_for_the_other_and_said_not_to_be_covered() -> None:
    report = checked(taken("", f"{CIS}60000003", key="half"), "ibuprofène", "paracétamol")
    assert rules(report)["t:ains-aco"].behaviour is Behaviour.ACKNOWLEDGE
    assert [(each.key, each.reason) for each in report.not_covered] == [("half", "unknown-substance")]
    assert report.checked_pairs == 1  # ibuprofène + paracétamol


def test_products_are_found_by_product_and_by_presentation() -> None:
    for coding in (ASPIRIN, f"{CIP}3400960000011"):
        product = small_base().product([f"{CIS}69999999", coding])
        assert product is not None
        assert product.mg_per_unit == (("acide acetylsalicylique", Decimal(500)),)
        assert product.packs == ((f"{CIP}3400960000011", 20),)
    assert small_base().product([f"{ATC}B01AA03"]) is None


def test_a_product_may_be_written_as_text_and_has_to_be_whole() -> None:
    said = content()
    said["products"] = {code: json.dumps(product) for code, product in said["products"].items()}
    assert CompiledKnowledge(artefact(said)).product([ASPIRIN]) == small_base().product([ASPIRIN])
    for broken in ("{", '{"label": "no code"}', {**content()["products"][ASPIRIN], "mg_per_unit": [["x", "much"]]}):
        said["products"][ASPIRIN] = broken
        with pytest.raises(KnowledgeUnavailable):
            CompiledKnowledge(artefact(said)).check([taken("", ASPIRIN)], Context())


def test_a_rule_between_substances_is_found_in_both_directions_with_its_source() -> None:
    for pair in (("méthotrexate", "triméthoprime"), ("triméthoprime", "méthotrexate")):
        (finding,) = checked(*pair).findings
        assert (finding.kind, finding.behaviour, finding.level) == (Kind.INTERACTION, Behaviour.HARD_STOP, 4)
        assert finding.title == "Méthotrexate + Triméthoprime"
        assert set(finding.about) == set(pair)
        assert finding.source is not None
        assert (finding.source.name, finding.source.date) == ("Thésaurus d'essai", date(2020, 10, 20))


ASPIRIN_CASES: dict[str, tuple[dict[str, Any], Context, Behaviour, int, tuple[int, ...]]] = {
    "nothing is known": ({}, Context(), Behaviour.ACKNOWLEDGE, 1, (4, 3)),
    "1 g at once": ({"units_per_intake": 2, "units_per_day": 2}, Context(), Behaviour.HARD_STOP, 4, ()),
    "3 g a day": ({"units_per_intake": 1, "units_per_day": 6}, Context(), Behaviour.HARD_STOP, 4, ()),
    "analgesic, ulcer not known": (
        {"units_per_intake": 1, "units_per_day": 3},
        Context(),
        Behaviour.ACKNOWLEDGE,
        3,
        (4,),
    ),
    "analgesic, an ulcer": (
        {"units_per_intake": 1, "units_per_day": 3},
        Context(conditions=frozenset({"ulcer-history"})),
        Behaviour.HARD_STOP,
        4,
        (),
    ),
    "analgesic, no ulcer": (
        {"units_per_intake": 1, "units_per_day": 3},
        Context(absent=frozenset({"ulcer-history"})),
        Behaviour.ACKNOWLEDGE,
        3,
        (),
    ),
    "low dose, an ulcer": (
        {"mg_per_intake": 75, "mg_per_day": 75},
        Context(conditions=frozenset({"ulcer-history"})),
        Behaviour.ACKNOWLEDGE,
        3,
        (),
    ),
    "low dose, no ulcer": (
        {"mg_per_intake": 75, "mg_per_day": 75},
        Context(absent=frozenset({"ulcer-history"})),
        Behaviour.COLLAPSED,
        1,
        (),
    ),
}


@pytest.mark.parametrize("case", ASPIRIN_CASES)
def test_a_rule_with_conditions_is_weighed_by_dose_and_history(case: str) -> None:
    """D1: the most severe branch that applies counts; one that may apply has to be acknowledged."""
    amounts, context, behaviour, level, candidates = ASPIRIN_CASES[case]
    found = rules(checked(taken("", ASPIRIN, **amounts), "warfarine", context=context))["t:aspirine-aco"]
    assert (found.behaviour, found.level, found.candidates) == (behaviour, level, candidates)
    assert found.is_conditional is bool(candidates)
    assert "Selon la dose." in found.text


def test_what_one_substance_of_a_product_weighs_is_not_what_the_product_does() -> None:
    unknown_parts = taken("aspirine + paracétamol", mg_per_intake=1500, mg_per_day=1500)
    assert rules(checked(unknown_parts, "warfarine"))["t:aspirine-aco"].candidates == (4, 3)


def test_a_branch_that_never_applies_is_no_finding_but_a_checked_pair() -> None:
    oral, injected = taken("amiodarone", route="oral"), taken("amiodarone", route="iv")
    report = checked(oral, "méthotrexate")
    assert (report.findings, report.checked_pairs) == ((), 1)
    assert rules(checked(injected, "méthotrexate"))["t:amiodarone-iv"].behaviour is Behaviour.HARD_STOP


@pytest.mark.parametrize(
    ("treatments", "behaviour", "candidates"),
    [
        (["triméthoprime", "amiodarone"], Behaviour.ACKNOWLEDGE, (4,)),
        (["cotrimoxazole", "amiodarone"], Behaviour.HARD_STOP, ()),
    ],
)
def test_a_rule_on_a_combination_is_certain_with_both_components_only(
    treatments: list[str], behaviour: Behaviour, candidates: tuple[int, ...]
) -> None:
    """D7."""
    found = rules(checked(*treatments))["t:cotrimoxazole-amiodarone"]
    assert (found.behaviour, found.candidates) == (behaviour, candidates)


def test_components_that_are_taken_apart_are_both_there() -> None:
    found = checked("triméthoprime", "sulfaméthoxazole", "amiodarone").findings
    assert {each.behaviour for each in found if each.rule == "t:cotrimoxazole-amiodarone"} == {Behaviour.HARD_STOP}


def test_a_rule_of_a_class_with_others_of_it_knows_no_order() -> None:
    for pair in (("oxybate de sodium", "diazépam"), ("diazépam", "oxybate de sodium")):
        assert rules(checked(*pair))["t:sedatifs"].behaviour is Behaviour.HARD_STOP
    assert rules(checked("morphine", "diazépam"))["t:sedatifs"].behaviour is Behaviour.COLLAPSED


def test_several_substances_of_a_product_that_one_rule_means_are_one_finding() -> None:
    found = rules(checked(taken("", f"{CIS}60000004"), "codéine"))["t:sedatifs"]
    assert found.title == "Codéine + Diazépam + Morphine"


def test_within_one_product_no_rule_applies() -> None:
    report = checked(taken("", f"{CIS}60000004"))
    assert (report.findings, report.checked_pairs) == ((), 0)


def test_pairs_of_what_was_already_taken_are_not_looked_at() -> None:
    old = [taken("warfarine", is_new=False), taken("ibuprofène", is_new=False)]
    assert checked(*old).findings == ()
    report = checked(*old, "paracétamol")
    assert (report.findings, report.checked_pairs) == ((), 2)


def test_what_is_replaced_by_the_same_is_not_there_any_more() -> None:
    ended = taken("warfarine", key="old", is_new=False)
    report = checked(ended, taken("warfarine", key="new", replaces=("old",)))
    assert (report.findings, report.checked_pairs) == ((), 0)


def test_what_is_replaced_by_another_is_taken_until_it_is_stopped() -> None:
    """To say that ibuprofène comes after warfarine does not make the two compatible."""
    ended = taken("warfarine", key="old", is_new=False)
    assert "t:ains-aco" in rules(checked(ended, taken("ibuprofène", key="new", replaces=("old",))))
    other = taken("enalapril", key="old", is_new=False)
    assert "duplicate:iec" not in rules(checked(other, taken("ramipril", key="new", replaces=("old",))))


def test_two_that_replace_each_other_are_not_both_gone() -> None:
    old = [taken("warfarine", key=key, is_new=False, replaces=(other,)) for key, other in ("ab", "ba")]
    assert "t:ains-aco" in rules(checked(*old, "ibuprofène"))


@pytest.mark.parametrize("is_known", [True, False])
def test_a_preparation_is_all_that_it_is_made_of(is_known: bool) -> None:
    """What is known of it is checked, and what is not is said."""
    second = "Triméthoprime" if is_known else "Racine de mandragore"
    mixed = taken("Préparation magistrale", components=(taken("Paracétamol"), taken(second)))
    report = checked(mixed, "méthotrexate")
    assert ("t:mtx-tmp" in rules(report)) is is_known
    assert [each.reason for each in report.not_covered] == ([] if is_known else ["unknown-substance"])


def test_of_two_new_ones_neither_hides_the_other() -> None:
    both = [
        taken("ibuprofène", key="1", replaces=("2",)),
        taken("warfarine", key="2", replaces=("1",)),
    ]
    assert "t:ains-aco" in rules(checked(*both))


@pytest.mark.parametrize(
    ("one", "other", "rule", "behaviour"),
    [
        (taken("warfarine", key="1"), taken("", f"{SMS}100000092079"), "duplicate:substance", Behaviour.ACKNOWLEDGE),
        (taken("énalapril"), taken("ramipril"), "duplicate:iec", Behaviour.SHOW),
        (taken("paracétamol", f"{ATC}N02BA51"), taken("", ASPIRIN), "duplicate:atc:N02BA", Behaviour.SHOW),
        (
            taken("dapagliflozine", key="1"),
            taken("Dapagliflozine 10 mg, comprimé", key="2"),
            "duplicate:substance",
            Behaviour.ACKNOWLEDGE,
        ),
        (
            taken("", f"{CIS}69999999", key="1"),
            taken("", f"{CIS}69999999", key="2"),
            "duplicate:substance",
            Behaviour.ACKNOWLEDGE,
        ),
    ],
)
def test_duplicates(one: Treatment, other: Treatment, rule: str, behaviour: Behaviour) -> None:
    found = rules(checked(one, replace(other, is_new=False)))
    assert found[rule].behaviour is behaviour
    assert found[rule].kind is Kind.DUPLICATE
    assert [name for name in found if name.startswith("duplicate")] == [rule]


def test_a_line_is_not_its_own_duplicate() -> None:
    line = taken("warfarine", key="line")
    assert checked(line, replace(line, reference="MedicationStatement/1", is_new=False)).findings == ()


def test_one_code_of_another_group_is_no_duplicate() -> None:
    assert checked(taken("paracétamol", f"{ATC}N02BE01"), taken("", ASPIRIN)).findings == ()


PENICILLINS = "http://snomed.info/sct|764146007"


@pytest.mark.parametrize(
    ("allergy", "medicine", "rule", "behaviour"),
    [
        ({"text": "Amoxicilline"}, "amoxicilline", "allergy:substance", Behaviour.HARD_STOP),
        ({"text": "Amoxicilline"}, "ampicilline", "allergy:penicillines", Behaviour.HARD_STOP),
        ({"text": "allergie à la pénicilline"}, "ampicilline", "allergy:penicillines", Behaviour.HARD_STOP),
        ({"codings": (PENICILLINS,)}, "ampicilline", "allergy:penicillines", Behaviour.HARD_STOP),
        ({"text": "pénicillines", "criticality": "low"}, "ampicilline", "allergy:penicillines", Behaviour.ACKNOWLEDGE),
        ({"text": "céfaclor", "verification": "presumed"}, "céfaclor", "allergy:substance", Behaviour.ACKNOWLEDGE),
        ({"text": "céfaclor", "verification": "confirmed"}, "céfaclor", "allergy:substance", Behaviour.HARD_STOP),
        ({"text": "amoxicilline", "is_intolerance": True}, "amoxicilline", "allergy:substance", Behaviour.ACKNOWLEDGE),
        ({"text": "pénicillines"}, "céfaclor", "allergy:penicillines>cephalosporines", Behaviour.SHOW),
        ({"text": "ampicilline"}, "céfaclor", "allergy:penicillines>cephalosporines", Behaviour.SHOW),
        ({"text": "anti-inflammatoire non stéroïdien"}, "aspirine", "allergy:ains", Behaviour.HARD_STOP),
        ({"text": "ibuprofène", "is_nsaid_type": True}, "aspirine", "allergy:ains", Behaviour.HARD_STOP),
        ({"text": "ibuprofène"}, "aspirine", "allergy:ains", Behaviour.ACKNOWLEDGE),
        ({"text": "ibuprofène"}, "ibuprofène", "allergy:substance", Behaviour.HARD_STOP),
        ({"text": "dapagliflozine"}, "dapagliflozine", "allergy:substance", Behaviour.HARD_STOP),
    ],
)  # fmt: skip
def test_allergies(allergy: dict[str, Any], medicine: str, rule: str, behaviour: Behaviour) -> None:
    report = checked(medicine, context=Context(gender="male", allergies=(Allergy(key="allergy", **allergy),)))
    found = rules(report)
    assert list(found) == [rule]
    assert (found[rule].kind, found[rule].behaviour) == (Kind.ALLERGY, behaviour)
    assert found[rule].about == (medicine, "allergy")


def test_a_code_that_nobody_knows_is_still_the_same_code() -> None:
    allergy = Allergy(key="allergy", text="Kérioxal", codings=(f"{CIS}69999999",))
    report = checked(taken("Keri", f"{CIS}69999999"), context=Context(allergies=(allergy,)))
    assert rules(report)["allergy:substance"].behaviour is Behaviour.HARD_STOP


def test_allergies_to_what_is_already_taken_are_not_told_again() -> None:
    context = Context(allergies=(Allergy(key="a", text="pénicillines"),))
    assert checked(taken("amoxicilline", is_new=False), "warfarine", context=context).findings == ()


def test_an_allergy_that_cannot_be_read_is_not_covered() -> None:
    allergies = (Allergy(key="a", text="produit du dentiste"), Allergy(key="b", codings=("http://snomed.info/sct|1",)))
    report = checked("warfarine", context=Context(allergies=allergies))
    assert [(each.key, each.reason) for each in report.not_covered] == [("a", "not-coded"), ("b", "unknown-substance")]


@pytest.mark.parametrize(("age", "behaviour"), [(11, Behaviour.HARD_STOP), (12, None), (None, Behaviour.ACKNOWLEDGE)])
def test_age(age: int | None, behaviour: Behaviour | None) -> None:
    found = rules(checked("codéine", context=Context(age=None if age is None else Decimal(age))))
    assert (found["t:codeine-12"].behaviour if found else None) is behaviour


WOMAN = Context(gender="female", age=Decimal(30))


@pytest.mark.parametrize(
    ("medicine", "context", "behaviour"),
    [
        ("isotrétinoïne", replace(WOMAN, is_pregnant=True), Behaviour.HARD_STOP),
        ("isotrétinoïne", replace(WOMAN, is_pregnant=False), None),
        ("isotrétinoïne", WOMAN, Behaviour.ACKNOWLEDGE),
        ("isotrétinoïne", Context(), Behaviour.ACKNOWLEDGE),
        ("isotrétinoïne", Context(gender="male"), None),
        ("isotrétinoïne", replace(WOMAN, age=Decimal(70)), None),
        ("énalapril", WOMAN, Behaviour.SHOW),
        ("énalapril", replace(WOMAN, is_pregnant=True), Behaviour.ACKNOWLEDGE),
        ("ibuprofène", WOMAN, Behaviour.SHOW),  # late pregnancies are known
        ("ibuprofène", replace(WOMAN, is_pregnant=True), Behaviour.ACKNOWLEDGE),
        ("ibuprofène", replace(WOMAN, is_pregnant=True, trimester=3), Behaviour.HARD_STOP),
        ("ibuprofène", replace(WOMAN, is_pregnant=True, trimester=1), None),
    ],
)
def test_pregnancy(medicine: str, context: Context, behaviour: Behaviour | None) -> None:
    found = [each for each in checked(medicine, context=context).findings if each.kind is Kind.PREGNANCY]
    assert (found[0].behaviour if found else None) is behaviour


def test_the_gravest_comes_first() -> None:
    report = checked("warfarine", "ibuprofène", "énalapril", "ramipril", "triméthoprime", "méthotrexate", "aspirine")
    order = [list(Behaviour).index(each.behaviour) for each in report.findings]
    assert order == sorted(order)
    assert len(set(order)) >= 3


def test_an_id_says_how_grave_the_finding_was() -> None:
    """What was acknowledged when little was known is not acknowledged as a hard stop."""
    unknown, severe = (
        rules(checked(taken("aspirine", mg_per_day=amount), "warfarine"))["t:aspirine-aco"] for amount in (400, 4000)
    )
    again = rules(checked("warfarine", taken("acide acétylsalicylique", mg_per_day=400)))["t:aspirine-aco"]
    assert unknown.id == again.id
    assert unknown.id != severe.id


def test_the_digest_is_of_what_was_looked_at_and_found() -> None:
    context = Context(age=Decimal(40), allergies=(Allergy(key="a", text="pénicillines"),))
    base = checked("warfarine", "ibuprofène", context=context).digest
    assert len(base) == 64
    renamed = [taken("Ibuprofène", key="x", reference="MedicationRequest/7"), taken("warfarine sodique", key="y")]
    assert checked(*renamed, context=replace(context, age=Decimal("40.0"))).digest == base
    others = [
        checked("warfarine", "ibuprofène", "paracétamol", context=context),
        checked("warfarine", taken("ibuprofène", mg_per_day=400), context=context),
        checked("warfarine", taken("ibuprofène", is_new=False), context=context),
        checked("warfarine", "ibuprofène", "dapagliflozine", context=context),
        checked("warfarine", "ibuprofène", context=replace(context, allergies=())),
        checked("warfarine", "ibuprofène", context=replace(context, age=Decimal(41))),
        CompiledKnowledge(artefact({**content(), "version": "next"})).check(
            [taken("warfarine"), taken("ibuprofène")], context
        ),
    ]
    assert len({base, *(each.digest for each in others)}) == len(others) + 1


NAMES = ("warfarine", "ibuprofène", "aspirine", "méthotrexate", "cotrimoxazole", "triméthoprime", "amiodarone",
         "diazépam", "oxybate de sodium", "énalapril", "ramipril", "dapagliflozine", "amoxicilline")  # fmt: skip
lists = st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True)
contexts = st.builds(
    Context,
    age=st.none() | st.integers(0, 100).map(Decimal),
    conditions=st.sets(st.sampled_from(["ulcer-history"])).map(frozenset),
    allergies=st.lists(st.sampled_from(["pénicillines", "ibuprofène", "?"]), unique=True, max_size=2).map(
        lambda texts: tuple(Allergy(key=text, text=text) for text in texts)
    ),
)


@settings(max_examples=60)
@given(lists, contexts, st.randoms())
def test_the_order_of_treatments_does_not_matter(names: list[str], context: Context, random: Any) -> None:
    shuffled = random.sample(names, len(names))
    one, other = checked(*names, context=context), checked(*shuffled, context=context)
    assert one.digest == other.digest
    assert [_told(each) for each in one.findings] == [_told(each) for each in other.findings]


def _told(each: Any) -> Any:
    return replace(each, about=tuple(sorted(each.about)))


@settings(max_examples=60)
@given(lists, st.sampled_from(NAMES), contexts)
def test_another_treatment_never_lowers_what_was_found(names: list[str], more: str, context: Context) -> None:
    before, after = checked(*names, context=context), checked(*names, taken(more, key="more"), context=context)
    worst = {(each.rule, frozenset(each.about)): _weight(each) for each in before.findings}
    for (rule, about), weight in worst.items():
        same = [_weight(each) for each in after.findings if each.rule == rule and about <= set(each.about)]
        assert same
        assert max(same) >= weight
    assert {each.key for each in before.not_covered} <= {each.key for each in after.not_covered}


def _weight(each: Any) -> int:
    return -list(Behaviour).index(each.behaviour)


def _broken() -> dict[str, bytes]:
    whole, said = artefact(content()), content()

    def without(name: str) -> bytes:
        return artefact({key: value for key, value in said.items() if key != name})

    rule = said["rules"][0]
    return {
        "empty": b"",
        "no gzip": b"{}",
        "truncated": whole[:-200],
        "a changed byte": whole[:600] + bytes([whole[600] ^ 1]) + whole[601:],
        "no JSON": gzip.compress(b"{"),
        "a list": artefact([]),
        "nested": gzip.compress(b"[" * 200_000),
        "another format": artefact({**said, "format": 2}),
        "no rules": artefact({**said, "rules": []}),
        "no substances": artefact({**said, "substances": {}}),
        "a condition of tomorrow": artefact(
            {**said, "rules": [{**rule, "branches": [{"level": 4, "when": {"moon": "full"}}]}]}
        ),
        "a level of tomorrow": artefact({**said, "rules": [{**rule, "branches": [{"level": 5, "when": None}]}]}),
        "a rule of no source": artefact({**said, "rules": [{**rule, "source": 9}]}),
        "no date": artefact({**said, "date": ""}),
        **{f"no {name}": without(name) for name in said if name != "uncoded"},
    }


@pytest.mark.parametrize("what", _broken())
def test_a_base_that_is_not_whole_is_none(what: str) -> None:
    with pytest.raises(KnowledgeUnavailable):
        CompiledKnowledge(_broken()[what])


def test_the_base_is_read_when_it_is_first_asked_and_again_when_it_could_not_be(tmp_path: Path) -> None:
    file = tmp_path / "base.json.gz"
    reads: list[int] = []

    def read() -> bytes:
        reads.append(1)
        return file.read_bytes()

    base = OnDemand(read)
    assert not reads
    for _ in range(2):
        with pytest.raises(KnowledgeUnavailable):
            base.check([taken("warfarine")], Context())
    file.write_bytes(artefact(content()))
    report: Report = base.check([taken("warfarine"), taken("ibuprofène")], Context())
    assert rules(report)
    assert isinstance(base.resolve(taken("warfarine")), Concept)
    assert base.product([ASPIRIN]) is not None
    assert len(reads) == 3
