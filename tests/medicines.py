"""A small base of knowledge, and the treatments that tests ask it about."""

from __future__ import annotations

import atexit
import gzip
import json
import tempfile
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from passerelle.medicines.compiled import CompiledKnowledge
from passerelle.medicines.model import Context, Finding, Report, Treatment

_ANSM = "http://data.esante.gouv.fr/ansm/medicament/"
CIS = f"{_ANSM}SpecialitePharmaceutique|"
CIP = f"{_ANSM}Presentation|"
UCD = f"{_ANSM}UCD|"
SUBSTANCE = f"{_ANSM}substance|"
SMS = f"{_ANSM}codeSMS|"
ATC = "http://www.whocc.no/atc|"

ASPIRIN = f"{CIS}60000001"
PARACETAMOL_CODEINE = f"{CIS}60000002"


def content() -> dict[str, Any]:
    said: dict[str, Any] = json.loads((Path(__file__).parent / "examples/knowledge/small.json").read_text())
    return said


def artefact(said: Any) -> bytes:
    return gzip.compress(json.dumps(said).encode())


@cache
def small_artefact() -> Path:
    """The file of it, for as long as the process lives."""
    folder = tempfile.TemporaryDirectory(prefix="knowledge-")
    atexit.register(folder.cleanup)
    file = Path(folder.name) / "small.json.gz"
    file.write_bytes(artefact(content()))
    return file


@cache
def small_base() -> CompiledKnowledge:
    return CompiledKnowledge(artefact(content()))


def taken(text: str = "", *codings: str, key: str | None = None, is_new: bool = True, **members: Any) -> Treatment:
    amounts: dict[str, Any] = {
        name: Decimal(str(value)) if name.startswith(("mg_", "units_")) else value for name, value in members.items()
    }
    return Treatment(key=key or text or codings[0], text=text, codings=codings, is_new=is_new, **amounts)


def checked(*treatments: Treatment | str, context: Context | None = None) -> Report:
    said = [taken(each) if isinstance(each, str) else each for each in treatments]
    return small_base().check(said, context or Context())


def rules(report: Report) -> dict[str, Finding]:
    """The findings by their rule; each of them once."""
    found = {each.rule: each for each in report.findings}
    assert len(found) == len(report.findings), "one finding for a rule"
    return found
