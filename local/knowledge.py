"""`passerelle kb`: the knowledge base on medicines, compiled, asked, measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from knowledge import ansm, bdpm, compiler, repairs
from knowledge.places import ARTEFACT
from passerelle.medicines.compiled import CompiledKnowledge
from passerelle.medicines.errors import KnowledgeUnavailable
from passerelle.medicines.model import Context, NotCovered, Report, Treatment

kb = typer.Typer(no_args_is_help=True, help="The knowledge base on medicines: a safety net and a demonstration.")

T = TypeVar("T")
BaseOption = Annotated[Path, typer.Option("--base", help="The compiled base.")]

_REASONS: Final = {
    "unknown-product": "no such product",
    "unknown-substance": "not all of its substances are known",
    "no-rules": "known, without rules",
    "not-coded": "neither a code nor a name that is known",
}


@kb.command()
def build(
    bdpm_folder: Annotated[
        Path, typer.Option("--bdpm", help="Folder with the five files of the BDPM; without it, the sample.")
    ] = bdpm.SAMPLE,
    overrides: Annotated[Path, typer.Option(help="Local rules, in the place of ours.")] = compiler.OVERRIDES,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where it goes.")] = ARTEFACT,
    when_needed: Annotated[
        bool, typer.Option("--when-needed", help="Only ours, and only when it is missing or a table has changed.")
    ] = False,
) -> None:
    """Compile the base, the same bytes for the same sources, and its manifest."""
    if when_needed:
        typer.echo(f"knowledge base: {_or_exit(lambda: compiler.ensured(output))}")
        return
    made = _or_exit(lambda: compiler.compiled(ansm.published(), bdpm_folder, overrides))
    compiler.write(made, output)
    counts, size = made.manifest["counts"], made.manifest["artefact"]["bytes"]
    typer.echo(
        f"{made.manifest['id']} {made.manifest['version']}: {counts['rules']} rules over {counts['substances']} "
        f"substances, {counts['products']} products; {size / 1000:.0f} kB in {output}"
    )


@kb.command()
def show(
    name: Annotated[str, typer.Argument(help="A medicine.")],
    other: Annotated[str | None, typer.Argument(help="Another: what the two give together.")] = None,
    base: BaseOption = ARTEFACT,
) -> None:
    """Show what is known of a medicine, or what a pair gives when nothing is known of the person."""
    read = _or_exit(lambda: CompiledKnowledge(base.read_bytes()))
    console = Console()
    treatments = [Treatment(key=each, text=each, is_new=True) for each in (name, other) if each]
    for each in treatments:
        known = read.resolve(each)
        if isinstance(known, NotCovered):
            console.print(Text(f"{each.text}: not covered, {_REASONS[known.reason]}", style="yellow"))
        else:
            beside = f"; not covered: {', '.join(known.unknown)}" if known.unknown else ""
            console.print(Text(f"{each.text}: {', '.join(known.substances)} ({known.confidence}){beside}"))
    if other:
        _print(console, read.check(treatments, Context()))


@kb.command()
def coverage(base: BaseOption = ARTEFACT) -> None:
    """Show the manifest: what went in, what came out, what is not covered."""
    manifest = _or_exit(lambda: json.loads(compiler.manifest_of(base).read_text(encoding="utf-8")))
    console = Console()
    console.print(Text(f"{manifest['id']} {manifest['version']}", style="bold"))
    for title in ("counts", "defects", "coverage", "unread conditions"):
        table = Table(title, "", box=None, title_justify="left", header_style="bold")
        for key, value in _flat(manifest[title]):
            table.add_row(Text(key), Text(str(value)))
        console.print(table)


def _print(console: Console, report: Report) -> None:
    for each in report.findings:
        candidates = f", perhaps {max(each.candidates)}" if each.candidates else ""
        console.print(Text(f"{each.kind} {each.level}{candidates}: {each.behaviour}", style="bold"))
        console.print(Text("\n".join(part for part in (each.text, each.mechanism) if part)))
        if each.source:
            console.print(Text(each.source.name, style="dim"))
    if not report.findings and report.checked_pairs:
        console.print("checked: nothing found")


def _flat(said: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        pair for key, value in said.items() for pair in (value.items() if isinstance(value, dict) else [(key, value)])
    ]


def _or_exit(make: Callable[[], T]) -> T:
    try:
        return make()
    except (
        ansm.SourceError,
        bdpm.ProductFileError,
        compiler.TooLargeError,
        repairs.RepairError,
        KnowledgeUnavailable,
        OSError,
        ValueError,
    ) as error:
        typer.echo(f"passerelle kb: {error}", err=True)
        raise typer.Exit(1) from error
