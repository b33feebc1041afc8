"""Weights are found without labels, and are the same whenever they are estimated."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from estimation import calibration, candidate_pairs, estimate, mixture
from estimation.__main__ import main
from passerelle.matching.comparison import LEVELS, Comparison
from passerelle.matching.record import MatchRecord
from passerelle.matching.scoring import Model

FAMILIES = [
    f"{a}{b}" for a in ("bar", "cor", "dul", "fem", "gor", "lam", "nev") for b in ("tin", "net", "vard", "lois")
]
GIVEN = ["camille", "hugo", "louise", "nathan", "zoe", "victor", "agathe", "martin", "ines", "paul"]


def _register(people: int, seed: int) -> tuple[list[MatchRecord], list[MatchRecord]]:
    """Everybody once in each file, the second time with mistakes; couples share name and address."""
    rng = Random(seed)
    first: list[MatchRecord] = []
    for place in range(people):
        record = MatchRecord(
            family=rng.choice(FAMILIES),
            given=rng.choice(GIVEN),
            birth_date=f"{rng.randint(1930, 2020)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}",
            sex=rng.choice("fm"),
            postcode=f"{rng.randint(10000, 95000)}",
            street=f"rue {rng.choice(FAMILIES)}",
            number=str(rng.randint(1, 99)),
            national=f"{place:015}" if rng.random() < 0.7 else "",
        )
        if place % 4 == 1:
            home = first[-1]
            record = replace(record, family=home.family, postcode=home.postcode, street=home.street, number=home.number)
        first.append(record)
    second = []
    for record in first:
        given = record.given[:-1] + "x" if rng.random() < 0.1 else record.given
        moved = {"postcode": "", "street": "", "number": ""} if rng.random() < 0.2 else {}
        second.append(replace(record, given=given, **moved))
    return first, second


def test_a_mixture_is_found_again() -> None:
    """Patterns drawn from classes whose shares are known: EM starts elsewhere and comes back to them."""
    rng = Random(5)
    shares = {"same": (mixture.SAME, 4000), "household": (mixture.HOUSEHOLD, 4000)}
    patterns: Counter[Comparison] = Counter()
    for truth, count in shares.values():
        for _ in range(count):
            drawn = {name: rng.choices(list(truth[name]), list(truth[name].values()))[0] for name in LEVELS}
            patterns[Comparison(**drawn)] += 1
    unrelated = {
        name: {level: 0.5 ** (len(levels) - place) for place, level in enumerate(levels)}
        for name, levels in LEVELS.items()
    }
    found = mixture.fit(patterns, unrelated, pairs=1_000_000)
    assert found.share_same == pytest.approx(0.004, rel=0.03)
    assert found.share_household == pytest.approx(0.004, rel=0.08)
    assert found.same["birth_date"]["exact"] == pytest.approx(mixture.SAME["birth_date"]["exact"], abs=0.02)
    assert found.household["given"]["different"] == pytest.approx(mixture.HOUSEHOLD["given"]["different"], abs=0.03)


def test_weights_tell_people_apart_and_are_deterministic() -> None:
    left, right = _register(500, seed=1)
    pairs = candidate_pairs(left, right)
    weights = estimate(left, pairs, seed=3, others=right, chance=20_000)
    assert weights == estimate(left, reversed(pairs), seed=3, others=right, chance=20_000)
    model = Model(json.loads(json.dumps(weights)))
    linked = {
        (i, j)
        for i, j in pairs
        if model.score(replace(left[i], national=""), replace(right[j], national="")).probability >= 0.5
    }
    right_links = sum(i == j for i, j in linked)
    assert right_links / 500 > 0.95
    assert right_links / len(linked) > 0.98
    assert weights["per_search"]["same"] == pytest.approx(1.0, abs=0.08)
    assert weights["estimated"]["labelled"] > 50


def test_values_that_few_bear_are_not_listed() -> None:
    left, _ = _register(400, seed=2)
    weights = estimate(left, candidate_pairs(left), seed=3, chance=2_000)
    listed = weights["frequencies"]["family"]["terms"]
    borne = Counter(record.family for record in left)
    assert listed.keys() == {name for name, count in borne.items() if count >= 10}
    assert not weights["frequencies"]["birth_date"]["terms"]


def test_candidates_within_a_file_and_between_two() -> None:
    one = MatchRecord(family="martin", given="zoe", birth_date="19800214")
    near, far = replace(one, given="lou"), MatchRecord(family="roux", given="paul", birth_date="19751130")
    assert candidate_pairs([one, far, near]) == [(0, 2)]
    assert candidate_pairs([far, one], [near, far]) == [(0, 1), (1, 0)]
    assert candidate_pairs([one, near, replace(one, given="max")], limit=2) == []


def test_calibration_is_not_led_astray_by_wrong_labels() -> None:
    rng = Random(11)
    bits = [rng.uniform(-30, 30) for _ in range(6000)]
    truths = [rng.random() < 1 / (1 + math.exp(-(value - 6) * math.log(2))) for value in bits]
    slope, intercept = calibration.platt(bits, truths)
    mislabelled = [truth != (rng.random() < 0.004) for truth in truths]
    robust_slope, robust_intercept = calibration.platt(bits, mislabelled)
    assert (slope, intercept) == pytest.approx((1.0, -6 * math.log(2)), rel=0.15)
    assert (robust_slope, robust_intercept) == pytest.approx((slope, intercept), rel=0.15)


def test_calibration_bears_identifiers_that_are_mistyped() -> None:
    """One person in eight has two, so the labels say; two people never share one."""
    rng = Random(12)
    bits = [rng.uniform(-30, 30) for _ in range(6000)]
    truths = [rng.random() < 1 / (1 + math.exp(-(value - 6) * math.log(2))) for value in bits]
    mislabelled = [truth and rng.random() > 1 / 8 for truth in truths]
    assert calibration.platt(bits, mislabelled) == pytest.approx(calibration.platt(bits, truths), rel=0.25)


def test_few_labels_change_little() -> None:
    slope, intercept = calibration.platt([25.0] * 150, [True] * 130 + [False] * 20)
    assert slope == pytest.approx(1.0, abs=0.1)
    assert intercept == pytest.approx(0.0, abs=0.1)


def test_near_identifiers_count_where_they_are_asked_for() -> None:
    left, right = _register(300, seed=6)
    rng = Random(6)
    right = [
        replace(each, national=f"{each.national[:-2]}x{each.national[-1]}")
        if each.national and rng.random() < 0.3
        else each
        for each in right
    ]
    pairs = candidate_pairs(left, right)
    without = estimate(left, pairs, seed=3, others=right, chance=5_000)
    assert without["traits"]["national"].keys() == {"exact", "different"}
    counted = estimate(left, pairs, seed=3, others=right, chance=5_000, near_identifiers=True)
    same, _, chance = counted["traits"]["national"]["near"]
    assert same == pytest.approx(0.3, abs=0.1)
    assert chance < 0.01


def test_calibration_needs_both_kinds() -> None:
    assert calibration.platt([1.0, 2.0], [True, True]) == (1.0, 0.0)
    assert calibration.platt([], []) == (1.0, 0.0)


def test_the_calibration_error_is_the_gap_between_promise_and_truth() -> None:
    assert calibration.error([0.9] * 10, [True] * 9 + [False]) == pytest.approx(0.0)
    assert calibration.error([0.9] * 10, [False] * 10) == pytest.approx(0.9)
    assert calibration.error([0.05, 0.95], [True, False]) == pytest.approx(0.95)


def test_the_program_writes_a_file_that_the_model_reads(tmp_path: Path) -> None:
    records = tmp_path / "records.ndjson"
    left, right = _register(60, seed=4)
    records.write_text(
        "\n".join(
            json.dumps({"family": each.family, "given": each.given, "birth_date": each.birth_date})
            for each in left + right
        )
    )
    output = tmp_path / "weights.json"
    main([str(records), "--output", str(output), "--version", "test-1", "--chance", "2000", "--population", "1000"])
    weights = json.loads(output.read_text())
    assert weights["estimated"]["records"] == 120
    assert Model(weights).version == "test-1"
