"""From records and candidate pairs to a file of weights; see the package."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from estimation import calibration, mixture
from estimation.frequencies import frequencies
from estimation.pairs import Pair, random_pairs
from passerelle.matching.blocking import blocks_of, blocks_to_search
from passerelle.matching.comparison import LEVELS, Comparison, compare
from passerelle.matching.record import MatchRecord
from passerelle.matching.scoring import Model

_FITTED_PAIRS: Final = 200_000
_HELD_OUT: Final = 0.3
_CALIBRATED_PAIRS: Final = 60_000

# The raw odds of 0.999, six bits ahead of anybody else (data model, 1.5), and what is worth showing (1.3).
_THRESHOLDS: Final = {"certain": 10.0, "margin": 6.0, "probable": 0.8, "possible": 0.05}


def estimate(
    records: Sequence[MatchRecord],
    pairs: Iterable[Pair],
    *,
    seed: int,
    others: Sequence[MatchRecord] | None = None,
    population: int | None = None,
    version: str = "unnamed",
    profile: str = "national",
    chance: int = 200_000,
    near_identifiers: bool = False,
) -> dict[str, Any]:
    """See the package."""
    source = random.Random(seed)  # noqa: S311 - a sample, not a secret
    right = records if others is None else others
    candidates = sorted(pairs)
    source.shuffle(candidates)
    held_out, fitted = _split(candidates)

    unrelated = mixture.chance(_counted(_random_patterns(records, others, source, profile, chance), near_identifiers))
    patterns = _counted(Counter(compare(records[i], right[j]) for i, j in fitted), near_identifiers)
    total = len(records) * len(right) if others is not None else len(records) * (len(records) - 1) // 2
    share = len(fitted) / len(candidates) if candidates else 1.0
    found = mixture.fit(patterns, unrelated, pairs=max(int(total * share), 1))
    # A record meets as many of its person's records, and of its household's, in an index of any size.
    met = len(right) if others is not None else len(records) - 1

    weights: dict[str, Any] = {
        "version": version,
        "estimated": {
            "how": "EM over candidate pairs, chance from random pairs, Platt on pairs with two qualified identifiers",
            "records": len(records) + (len(others) if others is not None else 0),
            "candidates": len(candidates),
            "chance": chance,
            "seed": seed,
            "blocking": profile,
        },
        "population": population or len(right),
        "per_search": {"same": found.share_same * met, "household": found.share_household * met},
        "traits": {
            name: {
                level: [_short(shares[name][level]) for shares in (found.same, found.household, found.unrelated)]
                for level in levels
                if near_identifiers or (name, level) != ("national", "near")
            }
            for name, levels in LEVELS.items()
        },
        "frequencies": frequencies(
            records if others is None else [*records, *others],
            {name: levels["exact"] for name, levels in found.unrelated.items() if "exact" in levels},
        ),
        "calibration": {"slope": 1.0, "intercept": 0.0},
        "thresholds": dict(_THRESHOLDS),
    }
    slope, intercept, labelled = _calibrate(weights, records, right, held_out)
    weights["calibration"] = {"slope": slope, "intercept": intercept}
    weights["estimated"]["labelled"] = labelled
    return weights


def _counted(patterns: Counter[Comparison], near_identifiers: bool) -> Counter[Comparison]:
    """Near identifiers as what they count for."""
    if near_identifiers:
        return patterns
    found: Counter[Comparison] = Counter()
    for pattern, count in patterns.items():
        found[pattern._replace(national="different") if pattern.national == "near" else pattern] += count
    return found


def _split(candidates: list[Pair]) -> tuple[list[Pair], list[Pair]]:
    held_out = int(len(candidates) * _HELD_OUT)
    return candidates[:held_out], candidates[held_out : held_out + _FITTED_PAIRS]


def _random_patterns(
    records: Sequence[MatchRecord],
    others: Sequence[MatchRecord] | None,
    source: random.Random,
    profile: str,
    count: int,
) -> Counter[Comparison]:
    """Random pairs that no key brings together: one person's records would otherwise count as chance."""
    right = records if others is None else others
    patterns: Counter[Comparison] = Counter()
    for i, j in random_pairs(len(records), len(right), within=others is None, count=count, source=source):
        comparison = compare(records[i], right[j])
        if _is_suspect(comparison) and not set(blocks_to_search(records[i], profile)).isdisjoint(
            blocks_of(right[j], profile)
        ):
            continue
        patterns[comparison] += 1
    return patterns


def _is_suspect(comparison: Comparison) -> bool:
    return sum(level in ("exact", "door", "street", "used") for level in comparison) >= 2


def _calibrate(
    weights: dict[str, Any], records: Sequence[MatchRecord], right: Sequence[MatchRecord], held_out: list[Pair]
) -> tuple[float, float, int]:
    model = Model(weights, population=len(right))
    bits: list[float] = []
    truths: list[bool] = []
    for i, j in held_out:
        a, b = records[i], right[j]
        if a.national and b.national:
            bits.append(model.score(replace(a, national=""), replace(b, national="")).bits)
            truths.append(a.national == b.national)
            if len(bits) == _CALIBRATED_PAIRS:
                break
    slope, intercept = calibration.platt(bits, truths)
    return slope, intercept, len(bits)


def _short(share: float) -> float:
    """Four significant digits: the file is read by people too."""
    return float(f"{share:.4g}")
