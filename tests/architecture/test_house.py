"""The house polices itself: who imports whom, how large a handler is, what things are called, docs that are true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from infra.describe import DOCS, pages
from infra.routes import fhir_routes
from passerelle.fhir.capability import capability_statement

ROOT = Path(__file__).resolve().parents[2]
HANDLERS = sorted(ROOT.glob("functions/*/handler.py"))
SOURCES = sorted(
    path for folder in ("layers/passerelle", "functions", "infra", "local") for path in (ROOT / folder).rglob("*.py")
)


def test_imports_keep_to_the_plan() -> None:
    lint = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(lint, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", HANDLERS, ids=lambda path: path.parent.name)
def test_a_handler_is_short_and_alone(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 40
    assert [each.name for each in path.parent.iterdir() if each.name != "__pycache__"] == ["handler.py"]
    source = "\n".join(lines)
    assert "boto3" not in source
    assert "try:" not in source


def test_no_module_is_called_by_what_it_is_not() -> None:
    vague = {"utils", "helpers", "common", "misc", "base", "manager", "constants", "types"}
    assert not [path for path in SOURCES if path.stem in vague]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not text or text.startswith('"""')


@pytest.mark.parametrize("name", pages())
def test_pages_made_from_code_are_up_to_date(name: str) -> None:
    assert (DOCS / name).read_text("utf-8") == pages()[name], "run `make docs`"


def test_the_capability_statement_lists_what_is_served_and_nothing_else() -> None:
    """Goal I18: each interaction, operation and search parameter that is declared has a route, and the other way."""
    (rest,) = capability_statement(fhir_routes())["rest"]
    declared = {
        (each["type"], interaction["code"]) for each in rest["resource"] for interaction in each.get("interaction", [])
    } | {(each["type"], operation["name"]) for each in rest["resource"] for operation in each.get("operation", [])}
    served = {
        (route.resource, route.name.removeprefix("$"))
        for route in fhir_routes()
        if route.resource and not route.name.startswith("conditional-")  # told by members of their own
    }
    assert declared == served
    assert [each["code"] for each in rest["interaction"]] == ["batch", "transaction"]
