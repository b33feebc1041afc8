"""EM for a mixture of three classes of pairs, over counted patterns (Fellegi and Sunter 1969; Winkler 1988)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from passerelle.matching.comparison import LEVELS, UNKNOWN, Comparison

Shares = dict[str, dict[str, float]]
"""For each trait, the probability of each level, given that the trait is known."""

_ROUNDS: Final = 60
_STILL: Final = 1e-4  # relative change of the shares of the classes at which EM stops
# How much the starting points weigh. Two in a hundred pairs of one person: what a file happens not to show, such as a
# kind of mistake that a made-up population lacks, is not impossible. Relatives are few in some files.
_SHARE_SAME: Final = 0.02
_LEAST_SAME: Final = 20.0
_PSEUDO_HOUSEHOLD: Final = 200.0

# Starting points, and what holds for a trait that is never known. Not estimates: EM moves them.
SAME: Final[Shares] = {
    "family": {"exact": 0.89, "used": 0.04, "close": 0.03, "similar": 0.02, "different": 0.02},
    "given": {"exact": 0.90, "misspelt": 0.03, "close": 0.02, "similar": 0.02, "other": 0.01, "different": 0.02},
    "others": {"exact": 0.85, "shared": 0.08, "different": 0.07},
    "birth_date": {"exact": 0.94, "near": 0.03, "partial": 0.01, "different": 0.02},
    "sex": {"exact": 0.99, "different": 0.01},
    "address": {"door": 0.60, "street": 0.20, "number": 0.03, "area": 0.05, "near": 0.02, "different": 0.10},
    "birth_place": {"exact": 0.95, "department": 0.02, "different": 0.03},
    "national": {"exact": 0.99, "near": 0.005, "different": 0.005},
    "phone": {"exact": 0.80, "near": 0.02, "different": 0.18},
    "email": {"exact": 0.85, "different": 0.15},
    "order": {"kept": 0.97, "swapped": 0.015, "swapped-close": 0.005, "half": 0.01},
}
HOUSEHOLD: Final[Shares] = {
    "family": {"exact": 0.76, "used": 0.05, "close": 0.01, "similar": 0.02, "different": 0.16},
    "given": {"exact": 0.01, "misspelt": 0.01, "close": 0.01, "similar": 0.05, "other": 0.02, "different": 0.90},
    "others": {"exact": 0.01, "shared": 0.10, "different": 0.89},
    "birth_date": {"exact": 0.03, "near": 0.01, "partial": 0.06, "different": 0.90},
    "sex": {"exact": 0.50, "different": 0.50},
    "address": {"door": 0.85, "street": 0.10, "number": 0.01, "area": 0.01, "near": 0.01, "different": 0.02},
    "birth_place": {"exact": 0.35, "department": 0.25, "different": 0.40},
    "national": {"exact": 0.0001, "near": 0.0001, "different": 0.9998},
    "phone": {"exact": 0.40, "near": 0.01, "different": 0.59},
    "email": {"exact": 0.02, "different": 0.98},
    "order": {"kept": 0.9988, "swapped": 0.0001, "swapped-close": 0.0001, "half": 0.001},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """`share_same` and `share_household` are of all pairs, not only of the candidates."""

    same: Shares
    household: Shares
    unrelated: Shares
    share_same: float
    share_household: float


def fit(patterns: Mapping[Comparison, int], unrelated: Shares, *, pairs: int) -> Mixture:
    """The classes that explain the candidates best. `unrelated` is known beforehand and stays; `pairs` is how many
    pairs there are in all, candidates or not."""
    known = [
        (
            tuple((name, level) for name, level in zip(Comparison._fields, pattern, strict=True) if level != UNKNOWN),
            count,
        )
        for pattern, count in sorted(patterns.items())
    ]
    same, household = SAME, HOUSEHOLD
    share_same = share_household = sum(patterns.values()) / pairs / 4
    for _ in range(_ROUNDS):
        logs = [_logs(shares) for shares in (same, household, unrelated)]
        priors = math.log(share_same), math.log(share_household), 0.0
        same_counts = _start(SAME, max(_LEAST_SAME, _SHARE_SAME * share_same * pairs))
        household_counts = _start(HOUSEHOLD, _PSEUDO_HOUSEHOLD)
        same_total = household_total = 0.0
        for levels, count in known:
            of_same, of_household = _responsibilities(levels, logs, priors)
            of_same, of_household = of_same * count, of_household * count
            same_total += of_same
            household_total += of_household
            for name, level in levels:
                same_counts[name][level] += of_same
                household_counts[name][level] += of_household
        same, household = _normalised(same_counts), _normalised(household_counts)
        before = share_same
        share_same, share_household = max(same_total / pairs, 1e-15), max(household_total / pairs, 1e-15)
        if abs(share_same - before) < _STILL * before:
            break
    return Mixture(
        same=same,
        household=household,
        unrelated=unrelated,
        share_same=share_same,
        share_household=share_household,
    )


def _responsibilities(
    levels: tuple[tuple[str, str], ...],
    logs: list[dict[tuple[str, str], float]],
    priors: tuple[float, float, float],
) -> tuple[float, float]:
    same, household, unrelated = (
        prior + sum(map(log.__getitem__, levels)) for prior, log in zip(priors, logs, strict=True)
    )
    top = max(same, household, unrelated)
    weights = math.exp(same - top), math.exp(household - top), math.exp(unrelated - top)
    total = sum(weights)
    return weights[0] / total, weights[1] / total


def _logs(shares: Shares) -> dict[tuple[str, str], float]:
    return {(name, level): math.log(share) for name, levels in shares.items() for level, share in levels.items()}


def _start(shares: Shares, weight: float) -> Shares:
    return {name: {level: weight * share for level, share in levels.items()} for name, levels in shares.items()}


def _normalised(counts: Shares) -> Shares:
    return {
        name: {level: count / sum(levels.values()) for level, count in levels.items()}
        for name, levels in counts.items()
    }


def chance(patterns: Mapping[Comparison, int]) -> Shares:
    """How often unrelated people agree, from counted random pairs."""
    counts: Shares = {name: dict.fromkeys(levels, 0.5) for name, levels in LEVELS.items()}
    for pattern, count in patterns.items():
        for name, level in zip(Comparison._fields, pattern, strict=True):
            if level != UNKNOWN:
                counts[name][level] += count
    shares = _normalised(counts)
    for name, level, least, most in _RARE:
        shares[name][level] = min(max(shares[name][level], least), most)
    return _normalised(shares)


# Agreements by chance that are too rare for a sample of random pairs to show, and what they are at national scale: ten
# or more digits, or a door among thirty million. Someone else's number, typed by mistake, is what remains.
_RARE: Final = (
    ("national", "exact", 1e-8, 1e-8),
    ("national", "near", 1e-7, 1e-5),
    ("phone", "exact", 2e-8, 2e-8),
    ("phone", "near", 1e-7, 1e-6),
    ("email", "exact", 2e-8, 2e-8),
    ("address", "door", 1e-6, 2e-5),
)
