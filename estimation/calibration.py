"""From bits to a probability that keeps its word.

Platt's logistic curve (1999), fitted to labels of which some are wrong: a qualified identifier may be a relative's, or
a provisional number replaced since, or mistyped. A single such label among pairs that nobody would doubt would flatten
an ordinary fit, so how often one person has two identifiers, and two have one, is estimated along (EM; Bootkrajang and
Kabán 2012).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

_BIN_BITS: Final = 0.25
_ROUNDS: Final = 40
_NEWTON_ROUNDS: Final = 30
_WRONG_LABELS: Final = 0.002  # of either kind, to begin with
_PSEUDO_PAIRS: Final = 0.2  # at each bit
_LEAST_WRONG: Final = 1e-6
_MOST_SHARED: Final = 0.02  # identifiers that two people have
_MOST_CHANGED: Final = 0.2  # people who have two identifiers


class _Bin(NamedTuple):
    value: float  # natural units
    matches: float
    others: float


class _Wrong(NamedTuple):
    """How often labels are wrong."""

    shared: float  # of two people, said to be one
    changed: float  # of one person, said to be two


# What the score itself says of a few pairs: all there is to go by where labels are few, or nearly all of one kind.
_AS_SCORED: Final = tuple(
    _Bin(bits * math.log(2), _PSEUDO_PAIRS / (1 + 2.0**-bits), _PSEUDO_PAIRS / (1 + 2.0**bits))
    for bits in range(-9, 10)
)


def platt(bits: Sequence[float], truths: Sequence[bool]) -> tuple[float, float]:
    """Slope and intercept of the logistic curve over `bits * ln 2`.

    (1, 0), which leaves the odds as they are, without both matches and others, or when the fit would not grow with the
    bits.
    """
    matches, others = sum(truths), len(truths) - sum(truths)
    if not matches or not others:
        return 1.0, 0.0
    counts = Counter((round(value / _BIN_BITS), truth) for value, truth in zip(bits, truths, strict=True))
    bins = [
        _Bin(place * _BIN_BITS * math.log(2), counts[place, True], counts[place, False])
        for place in sorted({place for place, _ in counts})
    ]
    slope, intercept, wrong = 1.0, 0.0, _Wrong(_WRONG_LABELS, _WRONG_LABELS)
    for _ in range(_ROUNDS):
        before = slope, intercept
        soft, wrong = _softened(bins, slope, intercept, wrong)
        slope, intercept = _fit([*soft, *_AS_SCORED], slope, intercept)
        if abs(slope - before[0]) + abs(intercept - before[1]) < 1e-5:
            break
    return (round(slope, 4), round(intercept, 4)) if slope > 0 else (1.0, 0.0)


def error(probabilities: Sequence[float], truths: Sequence[bool], bins: int = 10) -> float:
    """Expected calibration error over equal bins: the mean gap between what was promised and what came true."""
    sums = [[0.0, 0.0] for _ in range(bins)]
    for probability, truth in zip(probabilities, truths, strict=True):
        cell = sums[min(int(probability * bins), bins - 1)]
        cell[0] += probability
        cell[1] += truth
    return sum(abs(promised - came) for promised, came in sums) / len(truths) if truths else 0.0


def _softened(bins: Iterable[_Bin], slope: float, intercept: float, wrong: _Wrong) -> tuple[list[_Bin], _Wrong]:
    """The bins with each label counted for as much as it is believed, and how often labels seem to be wrong."""
    soft: list[_Bin] = []
    shared = changed = 0.0
    for value, matches, others in bins:
        probability = _logistic(slope * value + intercept)
        doubted = matches * _share(wrong.shared * (1 - probability), (1 - wrong.changed) * probability)
        denied = others * _share(wrong.changed * probability, (1 - wrong.shared) * (1 - probability))
        soft.append(_Bin(value, matches - doubted + denied, others - denied + doubted))
        shared += doubted
        changed += denied
    people = sum(each.others for each in soft), sum(each.matches for each in soft)
    return soft, _Wrong(
        min(max(_share(shared, people[0] - shared), _LEAST_WRONG), _MOST_SHARED),
        min(max(_share(changed, people[1] - changed), _LEAST_WRONG), _MOST_CHANGED),
    )


def _share(part: float, rest: float) -> float:
    return part / (part + rest) if part else 0.0


def _fit(bins: Sequence[_Bin], slope: float, intercept: float) -> tuple[float, float]:
    """Newton's method, each step halved until it is one."""
    loss = _loss(bins, slope, intercept)
    for _ in range(_NEWTON_ROUNDS):
        by_slope = by_intercept = 0.0
        ss = si = ii = 1e-9
        for value, matches, others in bins:
            probability, count = _logistic(slope * value + intercept), matches + others
            error = count * probability - matches
            weight = count * probability * (1 - probability)
            by_slope += error * value
            by_intercept += error
            ss += weight * value * value
            si += weight * value
            ii += weight
        determinant = ss * ii - si * si
        if determinant <= 0:
            break
        step_slope = (ii * by_slope - si * by_intercept) / determinant
        step_intercept = (ss * by_intercept - si * by_slope) / determinant
        for halving in range(20):
            following = slope - step_slope / 2**halving, intercept - step_intercept / 2**halving
            better = _loss(bins, *following)
            if better < loss:
                break
        else:
            break
        is_done = loss - better < 1e-10 * loss
        (slope, intercept), loss = following, better
        if is_done:
            break
    return slope, intercept


def _loss(bins: Iterable[_Bin], slope: float, intercept: float) -> float:
    total = 0.0
    for value, matches, others in bins:
        exponent = slope * value + intercept
        # log(1 + e^x) without overflow
        total += (matches + others) * (max(exponent, 0.0) + math.log1p(math.exp(-abs(exponent)))) - matches * exponent
    return total


def _logistic(exponent: float) -> float:
    bounded = max(min(exponent, 500.0), -500.0)
    return 1 / (1 + math.exp(-bounded))
