"""The rows of the kit: each has a test or a reason, and they are those of the contract."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from tests.conformance.mutants import MUTANTS, MUTANTS_WITHOUT_OPTIONS

ROOT = Path(__file__).resolve().parents[2]
KIT = ROOT / "conformance"
ROWS = {row["id"]: row for row in json.loads((KIT / "rows.json").read_text("utf-8"))}
CONTRACT = ROOT.parent / "shared" / "contracts" / "interop.md"
# General rows that are not about documents, or concern what is proved elsewhere.
_NOT_HERE = {"GEN-11", "GEN-12", "GEN-15"}


def _tests() -> dict[str, list[str]]:
    """The names of the kit's tests, by row."""
    found: dict[str, list[str]] = {}
    for path in sorted(KIT.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                rows = [
                    each.args[0].value
                    for each in node.decorator_list
                    if isinstance(each, ast.Call)
                    and ast.unparse(each.func) == "pytest.mark.row"
                    and isinstance(each.args[0], ast.Constant)
                ]
                assert len(rows) == 1, f"{node.name}: a test is of one row"
                found.setdefault(str(rows[0]), []).append(node.name)
    return found


def test_each_row_has_a_test_or_a_reason() -> None:
    tested = _tests()
    assert tested.keys() <= ROWS.keys()
    without = {id for id in ROWS if id not in tested}
    assert without == {id for id, row in ROWS.items() if "reason" in row}


def test_tests_are_named_by_their_row() -> None:
    for row, names in _tests().items():
        prefix = f"test_{row.lower().replace('-', '_')}_"
        assert [name for name in names if not name.startswith(prefix)] == []


def test_rows_are_those_of_the_contract() -> None:
    if not CONTRACT.is_file():
        pytest.skip("the contract (../shared/contracts) is not on this machine")
    text = CONTRACT.read_text("utf-8")
    ids = re.findall(r"^\| ((?:GEN|65|66|67|68|105|106|PDSM|DMP)-\d+) \|", text, re.MULTILINE)
    assert set(ids) - _NOT_HERE == ROWS.keys()


def test_mutants_break_rows_that_have_tests() -> None:
    tested = _tests()
    for mutant in (*MUTANTS, *MUTANTS_WITHOUT_OPTIONS):
        assert set(mutant.rows) <= tested.keys(), mutant.rule


def test_the_kit_is_a_black_box() -> None:
    """It imports nothing of the server, and nothing that a vendor does not have."""
    for path in KIT.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules = [each.name for each in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [str(node.module)]
            else:
                continue
            for module in modules:
                assert module.partition(".")[0] not in ("passerelle", "local", "infra", "functions", "tests"), path.name
