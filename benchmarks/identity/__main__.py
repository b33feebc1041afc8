"""`make bench-identity`: `python -m benchmarks.identity [--quick] [--cases] [--output FILE]`.

`--quick` is a tenth of it, in two minutes; `--cases` shows synthetic persons who were not recognised; without
`--output` the report is only shown.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from benchmarks.identity import french, peers, report
from benchmarks.identity.febrl import Register, register, registers
from benchmarks.identity.french import French, Size
from benchmarks.identity.population import Kind
from passerelle.matching.scoring import Model

SEED = 7
SHOWN = 30


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.identity", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cases", action="store_true")
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # of the peers, about their own dependencies
    began = time.perf_counter()
    compared = [
        _compared(each, has_id=has_id)
        for has_id in (True, False)
        for each in registers(with_id=has_id)
        if not asked.quick or each.name in ("febrl1", "febrl4")
    ]
    measured = french.evaluate(Size.quick() if asked.quick else Size.full(), progress=_progress)
    command = "make bench-identity" + (" QUICK=1" if asked.quick else "")
    text = report.text(compared, measured, command=command, seconds=time.perf_counter() - began)
    if asked.output:
        asked.output.write_text(text)
    print(text)
    if asked.cases:
        print("\n".join(_cases(measured)))


def _compared(records: Register, *, has_id: bool) -> report.Compared:
    scored = {}
    for profile in report.PROFILES:
        scored[f"{peers.OURS}, {profile}"], model = peers.ours(records, profile=profile, seed=SEED)
        if profile == "national":
            registered = register(records, model)
    for name, match in peers.all_of_them(records, seed=SEED).items():
        scored[name] = match()
    _progress(f"{records.name} {'with' if has_id else 'without'} identifier")
    return report.Compared(register=records, has_id=has_id, scored=scored, registered=registered)


def _cases(measured: French) -> Iterator[str]:
    """Wrong links, then known persons not linked, drawn at random."""
    model = Model.load()
    outcomes = [each for several in measured.national.outcomes.values() for each in several]
    missed = [each for each in measured.national.outcomes[Kind.KNOWN] if each.linked is None]
    chosen = [each for each in outcomes if each.is_wrong] + random.Random(SEED).sample(missed, min(SHOWN, len(missed)))
    for outcome in chosen:
        registration = outcome.registration
        key = outcome.linked or registration.person
        score = model.score(registration.record, measured.index.record(str(key)))
        evidence = ", ".join(f"{e.field} {e.level} {e.bits:.1f}" for e in score.evidence if e.level != "unknown")
        yield f"{'LINKED WRONGLY' if outcome.is_wrong else french.grade(outcome).value}: {score.bits:.1f} bits"
        yield f"  {registration.kind}: {', '.join(sorted(registration.errors))}"
        yield f"  {evidence}"


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


main(sys.argv[1:])
