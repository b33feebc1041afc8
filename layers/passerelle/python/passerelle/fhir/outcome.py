"""Failures as FHIR: the one rendering of an error to an OperationOutcome (FHIR R4 section 2.36)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from passerelle.errors import Issue, PasserelleError


def render_outcome(error: PasserelleError) -> dict[str, Any]:
    return outcome(*error.issues, severity=error.severity)


def outcome(*issues: Issue, severity: str = "error") -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": [_issue(issue, severity) for issue in issues]}


def success(diagnostics: str, warnings: Iterable[Issue] = ()) -> dict[str, Any]:
    """What a client gets that wants to be told, not shown, what was done."""
    told = outcome(Issue(code="informational", diagnostics=diagnostics), severity="information")
    told["issue"] += [_issue(each, "warning") for each in warnings]
    return told


def _issue(issue: Issue, severity: str) -> dict[str, Any]:
    rendered: dict[str, Any] = {"severity": severity, "code": issue.code}
    if issue.details:
        rendered["details"] = {"coding": [{"system": issue.details.system, "code": issue.details.code}]}
    if issue.diagnostics:
        rendered["diagnostics"] = issue.diagnostics
    if issue.expression:
        rendered["expression"] = [issue.expression]
    return rendered
