"""The report that a vendor hands in: one HTML page that needs nothing else, with the outcome of each row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any, Final

import pytest

from conformance.profile import Profile

KIT_VERSION: Final = "1.0.0"
HERE: Final = Path(__file__).parent
_OUTCOMES: Final = {
    "failed": "Failed",
    "passed": "Passed",
    "partial": "Passed in part",
    "skipped": "Not tested",
    "untestable": "Not testable",
    "absent": "Not run",
}


@dataclass(slots=True)
class Case:
    """One test of a row."""

    name: str
    outcome: str
    seconds: float
    message: str = ""
    exchanges: list[Mapping[str, Any]] = field(default_factory=list)


class Report:
    """A pytest plugin that collects outcomes by row, and writes the page at the end."""

    def __init__(self, path: Path, rows: Mapping[str, Mapping[str, str]]) -> None:
        self._path = path
        self._rows = rows
        self._cases: dict[str, list[Case]] = {id: [] for id in rows}
        self._began = datetime.now(UTC)
        self._url = ""
        self._profile: Profile | None = None

    def pytest_runtest_logreport(self, report: Any) -> None:
        row = getattr(report, "row", None)
        if (
            row is None
            or (report.when != "call" and report.passed)
            or (report.when == "teardown" and not report.failed)
        ):
            return
        name = report.nodeid.rpartition("::")[2]
        message = report.longrepr[2].removeprefix("Skipped: ") if report.skipped else getattr(report, "message", "")
        self._cases[row].append(
            Case(
                name=name,
                outcome=report.outcome,
                seconds=report.duration,
                message=message,
                exchanges=getattr(report, "exchanges", []),
            )
        )

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._url = str(session.config.getoption("url"))
        self._profile = Profile.load(session.config.getoption("profile"))
        self._path.write_text(self._page(), "utf-8")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.write_line(f"{self._counted()}: {self._path}")

    # --- the page -----------------------------------------------------------------------------------------------------

    def _outcome(self, id: str) -> str:
        outcomes = {case.outcome for case in self._cases[id]}
        if "failed" in outcomes:
            return "failed"
        if "passed" in outcomes:
            return "partial" if "skipped" in outcomes else "passed"
        if "skipped" in outcomes:
            return "skipped"
        return "untestable" if "reason" in self._rows[id] else "absent"

    def _counts(self) -> dict[str, int]:
        outcomes = [self._outcome(id) for id in self._rows]
        return {name: outcomes.count(name) for name in _OUTCOMES if name in outcomes}

    def _counted(self) -> str:
        return ", ".join(f"{count} {_OUTCOMES[name].lower()}" for name, count in self._counts().items())

    def _page(self) -> str:
        assert self._profile is not None
        counts = self._counts()
        cases = [case for each in self._cases.values() for case in each]
        options = self._profile.options.items()
        page = Template((HERE / "report.html").read_text("utf-8"))
        return page.substitute(
            server=escape(f"{self._profile.name} {self._profile.version}"),
            url=escape(self._url),
            date=f"{self._began:%d %B %Y, %H:%M} UTC",
            kit=f"{KIT_VERSION} ({_digest()})",
            cases=f"{sum(case.outcome == 'passed' for case in cases)} of {len(cases)} passed",
            verdict="failed" if "failed" in counts else "passed",
            verdict_text=escape(_verdict(counts, len(self._rows))),
            bar="".join(f'<i class="{name}" style="flex:{count}"></i>' for name, count in counts.items()),
            legend="".join(
                f'<li><i class="{name}"></i><b>{count}</b> {_OUTCOMES[name].lower()}</li>'
                for name, count in counts.items()
            ),
            options="".join(f'<li class="{"on" if is_on else "off"}">{escape(name)}</li>' for name, is_on in options),
            failures=self._failures(),
            sections="".join(self._sections()),
        )

    def _sections(self) -> Iterator[str]:
        for (section, guide, version), rows in groupby(
            self._rows.values(), lambda row: (row["section"], row["guide"], row["version"])
        ):
            body = "".join(self._row(row) for row in rows)
            yield (
                f"<section><h2>{escape(section)}<small>{escape(guide)} {escape(version)}</small></h2>"
                f"<table><thead><tr><th>Row</th><th>Rule</th><th>Cases</th><th>Outcome</th></tr></thead>"
                f"<tbody>{body}</tbody></table></section>"
            )

    def _row(self, row: Mapping[str, str]) -> str:
        id = row["id"]
        outcome, cases = self._outcome(id), self._cases[id]
        reasons = dict.fromkeys(case.message for case in cases if case.outcome == "skipped")
        if outcome == "untestable":
            reasons = {row["reason"]: None}
        said = "".join(f"<small>{escape(each)}</small>" for each in reasons)
        passed = sum(case.outcome == "passed" for case in cases)
        link = f'<a href="#failed-{id}">{_OUTCOMES[outcome]}</a>' if outcome == "failed" else _OUTCOMES[outcome]
        return (
            f'<tr id="row-{id}"><th scope="row">{id}</th><td>{escape(row["title"])}{said}</td>'
            f'<td class="number">{f"{passed}/{len(cases)}" if cases else "–"}</td>'
            f'<td><span class="badge {outcome}">{link}</span></td></tr>'
        )

    def _failures(self) -> str:
        failed = [id for id in self._rows if self._outcome(id) == "failed"]
        if not failed:
            return ""
        return "<section><h2>What failed</h2>" + "".join(self._failed_row(id) for id in failed) + "</section>"

    def _failed_row(self, id: str) -> str:
        row = self._rows[id]
        cases = "".join(_failed_case(case) for case in self._cases[id] if case.outcome == "failed")
        return (
            f'<article id="failed-{id}"><h3><a href="#row-{id}">{id}</a> {escape(row["title"])}</h3>'
            f'<p class="guide">{escape(row["guide"])} {escape(row["version"])}, {escape(row["section"])}</p>'
            f"{cases}</article>"
        )


def _verdict(counts: Mapping[str, int], rows: int) -> str:
    failed = counts.get("failed", 0)
    tested = failed + counts.get("passed", 0) + counts.get("partial", 0)
    if failed:
        return f"{failed} of {tested} tested rows failed"
    return f"Every tested row passed: {tested} of {rows}"


def _failed_case(case: Case) -> str:
    exchanges = "".join(
        f"<details><summary><code>{escape(each['line'])}</code> <b>{escape(each['status'])}</b>"
        f" <span>{escape(each['actor'])}, {each['milliseconds']} ms</span></summary>"
        f"<h5>Request</h5><pre>{escape(each['request'])}</pre><h5>Answer</h5><pre>{escape(each['answer'])}</pre></details>"
        for each in case.exchanges
    )
    return (
        f'<div class="case"><h4>{escape(case.name)}</h4><p class="message">{escape(case.message)}</p>{exchanges}</div>'
    )


def _digest() -> str:
    """Identifies the files of the kit, so that a report tells which tests it comes from."""
    digest = hashlib.sha256()
    for path in sorted(HERE.rglob("*")):
        if path.suffix in (".py", ".json", ".xml") and path.name not in ("local.json",):
            digest.update(path.relative_to(HERE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
