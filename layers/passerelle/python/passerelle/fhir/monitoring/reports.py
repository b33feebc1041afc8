"""How a care plan is watched, as Parameters: a part for each target, each activity, and what cannot be told.

watched        target or activity that is compared: `what` (Goal or CarePlan element), `measure`, `alert` (Task), `due`
not-evaluable  element of the plan, and why nothing can be told of it
"""

from __future__ import annotations

from typing import Any

from passerelle.fhir.dates import instant
from passerelle.monitoring.reporting import Report


def render_report(report: Report) -> dict[str, Any]:
    plan = report.plan
    parameters: list[dict[str, Any]] = [{"name": "active", "valueBoolean": plan is not None}]
    if plan is not None:
        alerts = {each.key: each.alert for each in report.concerns if each.alert is not None}
        due = dict(report.due)
        for row in plan.watched:
            parts: list[dict[str, Any]] = [
                {"name": "what", "valueString": row.key.partition("#")[2]},
                {"name": "measure", "valueCode": row.measure},
            ]
            if row.key in due:
                parts.append({"name": "due", "valueInstant": instant(due[row.key])})
            if row.key in alerts:
                parts.append({"name": "alert", "valueReference": {"reference": f"Task/{alerts[row.key].task}"}})
            parameters.append({"name": "watched", "part": parts})
        for each in plan.unevaluable:
            said = [
                {"name": "what", "valueString": each.expression},
                {"name": "reason", "valueString": each.reason},
            ]
            parameters.append({"name": "not-evaluable", "part": said})
    return {"resourceType": "Parameters", "parameter": parameters}
