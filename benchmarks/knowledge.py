"""What a check of medicines costs: loading the compiled base, and checking twenty lines at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from infra.paths import ROOT
from passerelle.medicines.compiled import CompiledKnowledge
from passerelle.medicines.model import Allergy, Context, Treatment

# Of an old person with many illnesses, and more interactions than most.
_TWENTY: Final = (
    "acide acétylsalicylique",
    "allopurinol",
    "amiodarone",
    "amlodipine",
    "atorvastatine",
    "bisoprolol",
    "ciprofloxacine",
    "clarithromycine",
    "digoxine",
    "furosémide",
    "ibuprofène",
    "lévothyroxine",
    "metformine",
    "oméprazole",
    "paracétamol",
    "ramipril",
    "sertraline",
    "spironolactone",
    "tramadol",
    "warfarine",
)


def run(console: Console) -> None:
    """Prints nothing but a hint when no base was compiled (`passerelle kb build`)."""
    found = sorted((ROOT / "layers" / "knowledge").rglob("*.json.gz"))
    if not found:
        console.print("no compiled base of medicines under layers/knowledge: passerelle kb build")
        return
    console.print(table(found[-1]))


def table(path: Path) -> Table:
    artefact = path.read_bytes()
    base = CompiledKnowledge(artefact)
    lines = [
        Treatment(key=str(number), text=name, mg_per_day=Decimal(100), mg_per_intake=Decimal(50), is_new=True)
        for number, name in enumerate(_TWENTY)
    ]
    context = Context(age=Decimal(82), gender="female", allergies=(Allergy(key="a", text="pénicillines"),))
    report = base.check(lines, context)
    one_new = [line if line.key == "0" else _known(line) for line in lines]
    shown = Table("medicines", "", title=f"{base.id} {base.version}")
    shown.add_row("compressed", f"{len(artefact) / 1000:.0f} kB")
    shown.add_row("loaded", f"{_cpu_ms(lambda: CompiledKnowledge(artefact), 7):.0f} ms CPU")
    shown.add_row("20 lines, all new", f"{_cpu_ms(lambda: base.check(lines, context), 20):.1f} ms CPU")
    shown.add_row("20 lines, one new", f"{_cpu_ms(lambda: base.check(one_new, context), 20):.1f} ms CPU")
    shown.caption = f"{report.checked_pairs} pairs, {len(report.findings)} findings; least of several"
    return shown


def _known(line: Treatment) -> Treatment:
    return Treatment(key=line.key, text=line.text, mg_per_day=line.mg_per_day, mg_per_intake=line.mg_per_intake)


def _cpu_ms(run: Callable[[], object], times: int) -> float:
    spent = []
    for _ in range(times):
        began = time.process_time()
        run()
        spent.append(time.process_time() - began)
    return min(spent) * 1000
