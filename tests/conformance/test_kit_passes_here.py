"""The conformance kit against the exchange, over HTTP: every row that it claims, with and without its options."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.server_under_test import UnderTest

# Rows whose tests need the server without its options.
_WITHOUT_OPTIONS = "65_14 or 65_15 or 65_17 or 105_5"


class _Said:
    """What failed, and why: the kit's own output is its vendor's."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed += report.when == "call" and report.passed
        if report.failed:
            self.failed.append(
                f"{report.nodeid.rpartition('::')[2]}: {getattr(report, 'message', report.longreprtext)}"
            )


def test_every_row_passes(under_test: UnderTest, tmp_path: Path) -> None:
    """And the report says so: fit to hand in, with JUnit beside it."""
    said = _Said()
    page, cases = tmp_path / "report.html", tmp_path / "report.xml"
    under_test.run("--tb=no", f"--report={page}", f"--junitxml={cases}", plugins=(said,))
    _check_page(page.read_text("utf-8"))
    assert cases.read_text("utf-8").count("<testcase ") > 500
    assert not said.failed, "\n".join(said.failed)
    assert said.passed > 500


def _check_page(page: str) -> None:
    """Each row with its outcome, nothing from elsewhere, and no word of a token, a key or a person."""
    assert page.count('<tr id="row-') == 107
    for foreign in ("<script", "<link", "src=", 'href="http', "url("):
        assert foreign not in page, foreign
    for secret in ("eyJ", "255060000100183", "Tournesol", "DUPONT"):
        assert secret not in page, secret


def test_without_options(under_test: UnderTest) -> None:
    said = _Said()
    with under_test.other_options() as profile:
        under_test.run("--tb=no", "-k", _WITHOUT_OPTIONS, profile=profile, plugins=(said,))
    assert not said.failed, "\n".join(said.failed)
    assert said.passed > 4
