"""300,000 synthetic French persons in the index, and thousands of registrations looked up in it.

The model is the shipped one; the population is drawn with another seed than the one that the weights were estimated
from, so all of it is held out. Splink gets the same records and is asked the same questions.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any, Final

from benchmarks.identity.index import BLOCK_LIMIT, Answer, MemoryIndex
from benchmarks.identity.population import Kind, Population, Registration, generate, registrations
from benchmarks.identity.projection import Projection, Shares, project
from passerelle.matching.blocking import Block, blocks_to_search
from passerelle.matching.decision import Grade
from passerelle.matching.record import MatchRecord
from passerelle.matching.scoring import Model

SEED: Final = 2026
_BEST: Final = 5  # candidates of a look-up whose probability must hold
_BINS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    persons: int
    known: int
    newcomers: int
    twins: int
    projected: int

    @classmethod
    def full(cls) -> Size:
        return cls(persons=300_000, known=10_000, newcomers=4_000, twins=1_500, projected=4_000)

    @classmethod
    def quick(cls) -> Size:
        return cls(persons=30_000, known=1_000, newcomers=400, twins=300, projected=400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A registration and what the index said of it: `linked` is the person it is linked to without anybody's help,
    `asked` are those that a steward would be asked about."""

    registration: Registration
    linked: str | None
    asked: tuple[str, ...]
    candidates: int
    answer: Answer

    @property
    def is_right(self) -> bool:
        return self.linked is not None and self.linked == self.registration.person

    @property
    def is_wrong(self) -> bool:
        return self.linked is not None and self.linked != self.registration.person


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Over the five best candidates of each look-up: expected calibration error over ten bins, and Brier score."""

    error: float
    brier: float
    pairs: int
    bins: tuple[tuple[int, float, float], ...]  # pairs, mean of what was promised, share that came true


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """CPU microseconds."""

    comparison: float
    lookup: float
    opening: float  # of one sealed record


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    outcomes: Mapping[Kind, tuple[Outcome, ...]]
    calibration: Calibration
    costs: Costs


@dataclass(frozen=True, slots=True, kw_only=True)
class French:
    """`national` is under the prior of the shipped model (68 million people), `local` under that of this index."""

    size: Size
    national: Evaluation
    local: Evaluation
    recall: Mapping[str, tuple[float, float]]  # of blocking, after stage a and after both
    projection: Projection
    items: float
    item_bytes: float
    splink: Mapping[float, Mapping[str, tuple[int, int, int]]]  # threshold, kind: asked, right, wrong
    seconds: Mapping[str, float]
    population: Population = field(repr=False)
    index: MemoryIndex = field(repr=False)


def evaluate(size: Size, *, progress: Callable[[str], None]) -> French:
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def done(what: str) -> None:
        nonlocal clock
        seconds[what] = time.perf_counter() - clock
        clock = time.perf_counter()
        progress(f"{what}: {seconds[what]:.0f} s")

    population = generate(size.persons, seed=SEED)
    asked = {
        Kind.KNOWN: registrations(population, size.known, Kind.KNOWN, seed=SEED),
        Kind.NEWCOMER: registrations(population, size.newcomers, Kind.NEWCOMER, seed=SEED),
        Kind.NEW_TWIN: registrations(population, size.twins, Kind.NEW_TWIN, seed=SEED),
    }
    done("population")
    index, shares = MemoryIndex(), Shares()
    items = 0
    for person in population.persons:
        blocks = index.add(person.id, person.record)
        shares.count(person, blocks)
        items += len(blocks)
    done("index")
    national, local = Model.load(), Model.load(population=size.persons)
    evaluations = []
    for model in (national, local):
        evaluations.append(_evaluation(index, model, asked))
        done(f"look-ups, prior of {'68 million' if model is national else 'this index'}")
    recall = _recall(index, asked[Kind.KNOWN])
    projection = project(population, index, shares, asked[Kind.KNOWN][: size.projected])
    done("projection")
    splink = ask_splink(population, [each for several in asked.values() for each in several])
    done("Splink")
    return French(
        size=size,
        national=evaluations[0],
        local=evaluations[1],
        recall=recall,
        projection=projection,
        items=items / size.persons,
        item_bytes=index.item_bytes,
        splink=splink,
        seconds=seconds,
        population=population,
        index=index,
    )


def _evaluation(index: MemoryIndex, model: Model, asked: Mapping[Kind, Sequence[Registration]]) -> Evaluation:
    began = time.process_time()
    answers = {kind: [index.answer(each.record, model) for each in several] for kind, several in asked.items()}
    spent = time.process_time() - began
    outcomes = {
        kind: tuple(_outcome(each, answer) for each, answer in zip(asked[kind], answers[kind], strict=True))
        for kind in asked
    }
    return Evaluation(
        outcomes=outcomes,
        calibration=_calibration(model, [*outcomes[Kind.KNOWN], *outcomes[Kind.NEWCOMER]]),
        costs=Costs(
            comparison=_comparison_cost(model, outcomes[Kind.NEWCOMER]),
            lookup=spent / sum(map(len, answers.values())) * 1e6,
            opening=_opening_cost([each.record for each in asked[Kind.KNOWN]]),
        ),
    )


def _outcome(registration: Registration, answer: Answer) -> Outcome:
    certain = answer.judgement.certain
    return Outcome(
        registration=registration,
        linked=certain.candidate.person if certain else None,
        asked=tuple(verdict.candidate.person for verdict in answer.judgement.doubtful()),
        candidates=len(answer.found),
        answer=answer,
    )


def _calibration(model: Model, outcomes: Sequence[Outcome]) -> Calibration:
    promised: list[tuple[float, bool]] = []
    for outcome in outcomes:
        record, person = outcome.registration.record, outcome.registration.person
        scores = [(model.score(record, other), key) for key, other in outcome.answer.found.items()]
        best = sorted(scores, key=lambda each: -each[0].bits)[:_BEST]
        promised += [(score.probability, key == person) for score, key in best]
    cells: list[list[float]] = [[0, 0.0, 0.0] for _ in range(_BINS)]
    for probability, truth in promised:
        cell = cells[min(int(probability * _BINS), _BINS - 1)]
        cell[0] += 1
        cell[1] += probability
        cell[2] += truth
    return Calibration(
        error=sum(abs(said - came) for _, said, came in cells) / len(promised),
        brier=fmean((probability - truth) ** 2 for probability, truth in promised),
        pairs=len(promised),
        bins=tuple((int(n), said / n if n else 0.0, came / n if n else 0.0) for n, said, came in cells),
    )


def _comparison_cost(model: Model, outcomes: Sequence[Outcome]) -> float:
    pairs = [(each.registration.record, other) for each in outcomes for other in each.answer.found.values()][:20_000]
    began = time.process_time()
    for one, other in pairs:
        model.score(one, other)
    return (time.process_time() - began) / max(1, len(pairs)) * 1e6


def _opening_cost(records: Sequence[MatchRecord]) -> float:
    from passerelle.aws.sealing import Sealer

    sealer = Sealer(bytes(32))
    sealed = [sealer.seal(record.pack(), "B#") for record in records]
    began = time.process_time()
    for each in sealed:
        MatchRecord.unpack(sealer.open(each, "B#"))
    return (time.process_time() - began) / len(sealed) * 1e6


def _recall(index: MemoryIndex, known: Sequence[Registration]) -> dict[str, tuple[float, float]]:
    """The share of known persons who are in a block of theirs that is read, for all and for those without INS."""
    found: dict[str, list[tuple[bool, bool]]] = {"all": [], "no-ins": []}
    for each in known:
        blocks = blocks_to_search(each.record)
        here = (_is_in(index, each, [b for b in blocks if b.stage == "a"]), _is_in(index, each, blocks))
        found["all"].append(here)
        if not each.record.national:
            found["no-ins"].append(here)
    return {name: (fmean(a for a, _ in cases), fmean(b for _, b in cases)) for name, cases in found.items()}


def _is_in(index: MemoryIndex, registration: Registration, blocks: Sequence[Block]) -> bool:
    members = (index.block(block) for block in blocks)
    return any(registration.person in keys for keys in members if len(keys) <= BLOCK_LIMIT)


def failures(outcomes: Sequence[Outcome]) -> list[tuple[str, int, int]]:
    """For each error of registrations: how often it occurs, and how often such a known person is not linked."""
    seen: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    for outcome in outcomes:
        seen.update(outcome.registration.errors)
        if not outcome.is_right:
            missed.update(outcome.registration.errors)
    return [(name, seen[name], count) for name, count in missed.most_common()]


def grade(outcome: Outcome) -> Grade:
    """The best grade that the index gave anybody."""
    verdicts = outcome.answer.judgement.verdicts
    return verdicts[0].grade if verdicts else Grade.UNLIKELY


def ask_splink(population: Population, asked: Sequence[Registration]) -> dict[float, dict[str, tuple[int, int, int]]]:
    """The best pair of each registration, linked where its probability is enough: how many right, how many wrong."""
    import pandas
    import splink.comparison_level_library as levels
    import splink.comparison_library as comparing
    from splink import Linker, SettingsCreator, block_on
    from splink.backends.duckdb import DuckDBAPI

    def frame(records: Mapping[str, MatchRecord]) -> Any:
        rows = [
            {"unique_id": key, **{name: value or None for name, value in asdict(record).items() if name != "others"}}
            for key, record in records.items()
        ]
        return pandas.DataFrame(rows)

    names = {"term_frequency_adjustments": True}
    # As one trait, like here: its parts are not independent.
    address = [
        levels.NullLevel("postcode"),
        levels.And(levels.ExactMatchLevel("postcode"), levels.JaroWinklerLevel("street", 0.9)),
        levels.ExactMatchLevel("postcode"),
        levels.ElseLevel(),
    ]
    settings = SettingsCreator(
        link_type="link_only",
        comparisons=[
            comparing.NameComparison("family").configure(**names),
            comparing.NameComparison("given").configure(**names),
            comparing.DamerauLevenshteinAtThresholds("birth_date", [1, 2]),
            comparing.ExactMatch("sex"),
            comparing.ExactMatch("birth_place").configure(**names),
            comparing.CustomComparison(output_column_name="address", comparison_levels=address),
            comparing.DamerauLevenshteinAtThresholds("phone", [1]),
            comparing.ExactMatch("email"),
            comparing.ExactMatch("national"),
        ],
        blocking_rules_to_generate_predictions=[
            block_on("national"),
            block_on("family", "birth_date"),
            block_on("given", "birth_date"),
            block_on("family", "given", "postcode"),
            block_on("birth_date", "birth_place"),
            block_on("birth_date", "postcode"),
            block_on("phone"),
            block_on("email"),
        ],
        retain_matching_columns=False,
        max_iterations=100,
    )
    database = DuckDBAPI()
    known = {person.id: person.record for person in population.persons}
    looked_up = {f"q{place}": each.record for place, each in enumerate(asked)}
    tables = [
        database.register(frame(records), dataset_display_name=name)
        for name, records in (("index", known), ("queries", looked_up))
    ]
    linker = Linker(tables, settings, log_level="ERROR")
    linker.training.estimate_probability_two_random_records_match(
        [block_on("national"), block_on("family", "given", "birth_date")], recall=0.9
    )
    linker.training.estimate_u_using_random_sampling(max_pairs=5e6, seed=SEED)
    for rule in (block_on("birth_date", "birth_place"), block_on("family", "given"), block_on("national")):
        linker.training.estimate_parameters_using_expectation_maximisation(rule)
    pairs = linker.inference.predict(threshold_match_probability=0.5).as_pandas_dataframe()
    best: dict[str, tuple[float, str]] = {}
    for one, other, weight in zip(pairs["unique_id_l"], pairs["unique_id_r"], pairs["match_weight"], strict=True):
        query, key = (one, other) if one.startswith("q") else (other, one)
        best[query] = max(best.get(query, (0.0, "")), (weight, key))
    return {threshold: _linked(asked, best, threshold) for threshold in (0.99, 0.999)}


def _linked(
    asked: Sequence[Registration], best: Mapping[str, tuple[float, str]], threshold: float
) -> dict[str, tuple[int, int, int]]:
    from math import log2

    found: dict[str, list[int]] = {}
    for place, each in enumerate(asked):
        weight, key = best.get(f"q{place}", (float("-inf"), ""))
        is_linked = weight >= log2(threshold / (1 - threshold))
        names = [each.kind.value]
        if each.kind is Kind.KNOWN and not each.record.national:
            names.append("known, no INS")
        if "known-household" in each.errors:
            names.append("newcomer, known household")
        for name in names:
            counts = found.setdefault(name, [0, 0, 0])
            counts[0] += 1
            counts[1] += is_linked and key == each.person
            counts[2] += is_linked and key != each.person
    return {name: (counts[0], counts[1], counts[2]) for name, counts in found.items()}
