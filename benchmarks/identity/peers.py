"""Splink and recordlinkage on FEBRL, configured as a careful user would, and this project's matcher beside them.

All three estimate on the unlabelled records that they link. FEBRL's identifiers are mistyped, so Splink and this
project's matcher give those one digit apart a level of their own; France's weights have none. Splink: eight blocking
rules (seven without identifier), its own comparisons with term frequencies, u from random pairs, m from three EM
sessions. recordlinkage: the union of five simple blocks (four without identifier), Jaro-Winkler at .85 and exact
comparisons, ECM; and, as its documentation shows it, with a single block on the given name.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.identity.febrl import Link, Register
from estimation import candidate_pairs, estimate
from passerelle.matching.scoring import Model

OURS: Final = "Passerelle"
SPLINK: Final = "Splink"
ECM: Final = "recordlinkage ECM"
DOCUMENTED: Final = "recordlinkage ECM, one block"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The probability of each pair compared, and the seconds from the records to there."""

    probabilities: Mapping[Link, float]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    precision: float
    recall: float
    f1: float


def quality(register: Register, probabilities: Mapping[Link, float], threshold: float) -> Quality:
    said = {pair for pair, probability in probabilities.items() if probability >= threshold}
    return _quality(len(said & register.truth), len(said), len(register.truth))


def best(register: Register, probabilities: Mapping[Link, float]) -> Quality:
    """At the threshold where F1 is highest: what the labels would have given."""
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    found, right = Quality(precision=0, recall=0, f1=0), 0
    for place, (pair, probability) in enumerate(ranked, start=1):
        right += pair in register.truth
        if place == len(ranked) or ranked[place][1] < probability:
            here = _quality(right, place, len(register.truth))
            found = max(found, here, key=lambda each: each.f1)
    return found


def _quality(right: int, said: int, true: int) -> Quality:
    precision, recall = right / said if said else 0.0, right / true
    return Quality(precision=precision, recall=recall, f1=2 * right / (said + true))


def ours(register: Register, *, profile: str, seed: int) -> tuple[Scored, Model]:
    """Estimated on the register, and the model itself."""
    began = time.perf_counter()
    left = list(register.left.values())
    right = list(register.right.values()) if register.right is not None else None
    pairs = candidate_pairs(left, right, profile=profile)
    model = Model(estimate(left, pairs, seed=seed, others=right, profile=profile, near_identifiers=True))
    left_keys = list(register.left)
    right_keys = list(register.right) if register.right is not None else left_keys
    others = right if right is not None else left
    probabilities = {
        _link(register, left_keys[i], right_keys[j]): model.score(left[i], others[j]).probability for i, j in pairs
    }
    return Scored(probabilities=probabilities, seconds=time.perf_counter() - began), model


def splink(register: Register, *, seed: int) -> Scored:
    import splink.comparison_library as comparing
    from splink import Linker, SettingsCreator, block_on
    from splink.backends.duckdb import DuckDBAPI

    began = time.perf_counter()
    has_id = "soc_sec_id" in register.frames[0]
    rules = [
        block_on("given_name", "surname"),
        block_on("date_of_birth"),
        block_on("surname", "postcode"),
        block_on("given_name", "postcode"),
        block_on("given_name", "suburb"),
        block_on("surname", "suburb"),
        block_on("address_1", "street_number"),
    ]
    comparisons = [
        comparing.NameComparison("given_name").configure(term_frequency_adjustments=True),
        comparing.NameComparison("surname").configure(term_frequency_adjustments=True),
        comparing.DamerauLevenshteinAtThresholds("date_of_birth", [1, 2]),
        comparing.JaroWinklerAtThresholds("address_1", [0.9, 0.7]).configure(term_frequency_adjustments=True),
        comparing.JaroWinklerAtThresholds("suburb", [0.9, 0.7]).configure(term_frequency_adjustments=True),
        comparing.DamerauLevenshteinAtThresholds("postcode", [1, 2]),
        comparing.ExactMatch("street_number"),
    ]
    if has_id:
        rules.append(block_on("soc_sec_id"))
        comparisons.append(comparing.DamerauLevenshteinAtThresholds("soc_sec_id", [1, 2]))
    database = DuckDBAPI()
    tables = [
        database.register(
            frame.reset_index().rename(columns={"rec_id": "unique_id"}), dataset_display_name=f"file_{place}"
        )
        for place, frame in enumerate(register.frames)
    ]
    settings = SettingsCreator(
        link_type="link_only" if len(tables) > 1 else "dedupe_only",
        comparisons=comparisons,
        blocking_rules_to_generate_predictions=rules,
        retain_matching_columns=False,
        max_iterations=100,
    )
    linker = Linker(tables if len(tables) > 1 else tables[0], settings, log_level="ERROR")
    training = linker.training
    training.estimate_probability_two_random_records_match(
        [block_on("given_name", "surname", "date_of_birth")], recall=0.6
    )
    training.estimate_u_using_random_sampling(max_pairs=2e6, seed=seed)
    for rule in (block_on("date_of_birth"), block_on("given_name", "surname"), block_on("postcode")):
        training.estimate_parameters_using_expectation_maximisation(rule)
    frame = linker.inference.predict().as_pandas_dataframe()
    columns = (frame["unique_id_l"], frame["unique_id_r"], frame["match_probability"])
    probabilities = {_link(register, a, b): float(p) for a, b, p in zip(*columns, strict=True)}
    return Scored(probabilities=probabilities, seconds=time.perf_counter() - began)


def ecm(register: Register, *, blocks: tuple[str, ...] | None = None) -> Scored:
    """`blocks` are columns; without it, the union of all that are selective."""
    import recordlinkage

    began = time.perf_counter()
    has_id = "soc_sec_id" in register.frames[0]
    is_documented = blocks is not None
    columns = blocks or ("given_name", "surname", "date_of_birth", "address_1", *(["soc_sec_id"] if has_id else []))
    indexer = recordlinkage.Index()
    for column in columns:
        indexer.block(column)
    pairs = indexer.index(*register.frames)
    comparing = recordlinkage.Compare()
    for column in ("given_name", "surname", "address_1", *(() if is_documented else ("suburb",))):
        comparing.string(column, column, method="jarowinkler", threshold=0.85, label=column)
    exact = ("suburb", "state") if is_documented else ("postcode", "street_number")
    for column in ("date_of_birth", *exact, *(["soc_sec_id"] if has_id else [])):
        comparing.exact(column, column, label=column)
    features = comparing.compute(pairs, *register.frames)
    classifier = recordlinkage.ECMClassifier()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy, about logarithms of zero
        classifier.fit_predict(features)
        series = classifier.prob(features)
    probabilities = {_link(register, str(a), str(b)): float(p) for (a, b), p in series.items()}
    return Scored(probabilities=probabilities, seconds=time.perf_counter() - began)


def all_of_them(register: Register, *, seed: int) -> dict[str, Callable[[], Scored]]:
    return {
        SPLINK: lambda: splink(register, seed=seed),
        ECM: lambda: ecm(register),
        DOCUMENTED: lambda: ecm(register, blocks=("given_name",)),
    }


def _link(register: Register, a: Any, b: Any) -> Link:
    one, other = str(a), str(b)
    if register.right is None:
        return (one, other) if one < other else (other, one)
    return (one, other) if one in register.left else (other, one)
