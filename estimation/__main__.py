"""`python -m estimation`: writes a file of weights, from records or from a made-up French population.

Records are JSON objects, one a line, with the fields of `passerelle.matching.record.MatchRecord` (all source records of
an index, normalised as the index does). Without a file, the population that `benchmarks.identity` describes stands in:
its persons are the index, and second registrations of them and of newcomers are what is looked up.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from estimation import candidate_pairs, estimate
from passerelle.matching.record import MatchRecord

_SEED: Final = 2411
_FRANCE: Final = 68_000_000
_NEWCOMERS: Final = 4  # one for so many known persons


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m estimation", description="Estimate the weights of a patient index")
    parser.add_argument("records", nargs="?", type=Path, help="one JSON object a line; by default a made-up population")
    parser.add_argument("--output", type=Path, required=True, help="the file to write")
    parser.add_argument("--version", required=True, help="stored with every decision: never used twice")
    parser.add_argument("--population", type=int, default=_FRANCE, help="people the index is meant for")
    parser.add_argument("--profile", default="national", help="the blocking keys: national, regional")
    parser.add_argument("--seed", type=int, default=_SEED)
    parser.add_argument("--chance", type=int, default=1_000_000, help="random pairs to learn chance agreement from")
    parser.add_argument("--persons", type=int, default=100_000, help="size of the made-up population")
    parser.add_argument("--near-identifiers", action="store_true", help="identifiers one digit apart count: not INS")
    chosen = parser.parse_args(arguments)

    left, right, origin = (
        (_read(chosen.records), None, "records of an index")
        if chosen.records
        else _made_up(chosen.persons, seed=chosen.seed)
    )
    weights = estimate(
        left,
        candidate_pairs(left, right, profile=chosen.profile),
        seed=chosen.seed,
        others=right,
        population=chosen.population,
        version=chosen.version,
        profile=chosen.profile,
        chance=chosen.chance,
        near_identifiers=chosen.near_identifiers,
    )
    weights["estimated"] |= {"from": origin, "on": datetime.now(UTC).date().isoformat()}
    chosen.output.write_text(_rendered(weights), "utf-8")
    sys.stdout.write(f"{chosen.output}: {json.dumps(weights['estimated'])}\n")


def _read(path: Path) -> list[MatchRecord]:
    records = []
    for line in path.read_text("utf-8").splitlines():
        traits = json.loads(line)
        records.append(MatchRecord(**{**traits, "others": tuple(traits.get("others", ()))}))
    return records


def _made_up(size: int, *, seed: int) -> tuple[list[MatchRecord], list[MatchRecord], str]:
    from benchmarks.identity.population import Kind, generate, registrations

    population = generate(size, seed=seed)
    looked_up = [
        each.record
        for kind, count in ((Kind.KNOWN, size // 3), (Kind.NEWCOMER, size // 3 // _NEWCOMERS))
        for each in registrations(population, count, kind, seed=seed)
    ]
    origin = f"benchmarks.identity.population, {size} persons and {len(looked_up)} registrations"
    return looked_up, [person.record for person in population.persons], origin


def _rendered(weights: dict[str, Any]) -> str:
    """One line for each level and for each list of frequencies: a difference between versions can be read."""
    lines = []
    for name, value in weights.items():
        if name in ("traits", "frequencies"):
            inner = ",\n".join(f"  {json.dumps(key)}: {json.dumps(each)}" for key, each in value.items())
            lines.append(f" {json.dumps(name)}: {{\n{inner}\n }}")
        else:
            lines.append(f" {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    main()
