"""Alerts as Tasks of the record, which the exchange makes and its operations change (FHIR R4 Task).

code            {SITE}/CodeSystem/monitoring-alert: threshold, missed-measurement, missed-visit
status          requested, accepted (acknowledged), completed; cancelled, with why nobody has to any more
priority        by tier: urgent, asap, stat; performerType says whose turn it is
focus           the value, the plan, or the visit; reasonReference the goal, basedOn the plan
restriction     period.end: when it is the next one's turn

{SITE}/StructureDefinition/monitoring-alert     `tier` and `count` (how often it happened)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from passerelle.access import Request
from passerelle.consents.visibility import Restriction
from passerelle.directory.identifiers import IDNPS, IDNST
from passerelle.errors import Fault, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import instant
from passerelle.fhir.index import entry_of
from passerelle.fhir.monitoring.plans import SITE
from passerelle.fhir.resource import ResourceDraft, stamped
from passerelle.identifiers import named_ulid
from passerelle.monitoring.measures import policy
from passerelle.monitoring.model import Alert, Plan
from passerelle.monitoring.rules import AlertChange
from passerelle.records.model import RecordVersion, ResourceKey, StoredVersion
from passerelle.records.ports import RecordStore

CODES: Final = f"{SITE}/CodeSystem/monitoring-alert"
TIERS: Final = f"{SITE}/CodeSystem/monitoring-tier"
ENDINGS: Final = f"{SITE}/CodeSystem/monitoring-ending"
_OF_TIER: Final = ("owner", "restriction")
EXTENSION: Final = f"{SITE}/StructureDefinition/monitoring-alert"


class FhirAlerts:
    """`monitoring.ports.Tasks`, `monitoring.answering.AnsweredTasks`."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store

    def id_of(self, patient: str, at: datetime, name: str) -> str:
        return f"{patient}-{named_ulid(at, name)}"

    def versions(
        self, patient: str, changes: Sequence[AlertChange], attending: str | None, at: datetime
    ) -> Sequence[RecordVersion]:
        return [self._version(patient, each, attending, at) for each in changes]

    def _version(self, patient: str, change: AlertChange, attending: str | None, at: datetime) -> RecordVersion:
        key = ResourceKey(type="Task", id=change.after.task, patient=patient)
        if change.before is None:
            return _made(_task(patient, change, attending, at), key, None, at, _producer(change))
        stored = self._store.find_latest(key)
        if stored is None or stored.body is None:
            raise Fault()
        kept = {name: value for name, value in fhir_json.loads(stored.body).items() if name not in _OF_TIER}
        return _made({**kept, **_state(change, attending, at)}, key, stored, at, stored.producer)

    def status_of(self, body: bytes) -> str | None:
        content = fhir_json.loads(body)
        return str(content["status"]) if is_alert(content) else None

    def answered(self, request: Request, stored: StoredVersion, status: str, note: str) -> RecordVersion:
        content: dict[str, Any] = fhir_json.loads(stored.body or b"{}")
        content |= {"status": status, "owner": _who(request), "lastModified": instant(request.at)}
        content.pop("restriction", None)
        if note:
            said = {"authorReference": _who(request), "time": instant(request.at), "text": note}
            content["note"] = [*content.get("note", ()), said]
        return _made(content, stored.key, stored, request.at, stored.producer)


def is_alert(task: Mapping[str, Any]) -> bool:
    return any(each.get("system") == CODES for each in task.get("code", {}).get("coding", ()))


def refuse_forged(content: Mapping[str, Any]) -> None:
    """Raise Unprocessable for a Task of a client that says it is an alert."""
    if is_alert(content):
        raise Unprocessable("alerts are raised by the exchange", code="business-rule", expression="Task.code")


def _made(
    content: Mapping[str, Any], key: ResourceKey, before: StoredVersion | None, at: datetime, producer: str | None
) -> RecordVersion:
    version = before.version + 1 if before is not None else 1
    stored = stamped(content, key.id, version, at)
    labels = ResourceDraft(stored, "").labels
    return RecordVersion(
        key=key,
        version=version,
        at=at,
        body=fhir_json.dumps(stored),
        entry=entry_of(stored),
        previous=before.placement if before is not None else None,
        is_managed=True,
        producer=producer,
        restriction=Restriction(labels=labels, producer=producer) if labels else None,
        was_restricted=before is not None and before.restriction is not None,
    )


def _producer(change: AlertChange) -> str | None:
    """Whose plan it is: to what is hidden from this organisation, too, it has no claim."""
    plan = change.plan
    return plan.producer if plan is not None and set(change.labels) <= set(plan.labels) else None


def _task(patient: str, change: AlertChange, attending: str | None, at: datetime) -> dict[str, Any]:
    alert = change.after
    security = [{"system": system, "code": code} for system, code in change.labels]
    return {
        "resourceType": "Task",
        **({"meta": {"security": security}} if security else {}),
        **({"basedOn": [{"reference": alert.plan}]} if alert.plan else {}),
        "intent": "order",
        "code": {"coding": [{"system": CODES, "code": alert.kind.value}]},
        **({"reasonReference": {"reference": alert.goal}} if alert.goal and not alert.goal.startswith("#") else {}),
        "for": {"reference": f"Patient/{patient}"},
        "authoredOn": instant(at),
        **_state(change, attending, at),
    }


def _state(change: AlertChange, attending: str | None, at: datetime) -> dict[str, Any]:
    """What changes in the life of an alert."""
    alert = change.after
    row = policy()["tiers"][alert.tier]
    state: dict[str, Any] = {
        "extension": [
            {
                "extension": [
                    {"url": "tier", "valuePositiveInt": alert.tier + 1},
                    {"url": "count", "valuePositiveInt": alert.count},
                ],
                "url": EXTENSION,
            }
        ],
        "status": "cancelled" if change.ended is not None else "requested",
        "priority": row["priority"],
        "focus": {"reference": alert.focus},
        "lastModified": instant(at),
        "performerType": [{"coding": [{"system": TIERS, "code": row["to"]}]}],
    }
    if change.ended is not None:
        state["statusReason"] = {"coding": [{"system": ENDINGS, "code": change.ended.value}]}
    owner = _owner(row["to"], alert, change.plan, attending)
    if owner is not None:
        state["owner"] = owner
    if alert.escalates_at is not None and change.ended is None:
        state["restriction"] = {"period": {"end": instant(alert.escalates_at)}}
    return state


def _owner(tier: str, alert: Alert, plan: Plan | None, attending: str | None) -> Mapping[str, Any] | None:
    """Who has to answer, where that is one."""
    if tier == "attending-physician" and attending is not None:
        return {"type": "Practitioner", "identifier": {"system": IDNPS, "value": attending}}
    if tier == "organisation" and plan is not None and plan.organisation is not None:
        return plan.organisation
    if plan is None:
        return None
    named = [each for row in plan.expectations if row.key == alert.key for each in row.performers]
    performers = named or plan.responsible
    return performers[0] if performers and tier == "carers" else None


def _who(request: Request) -> dict[str, Any]:
    caller = request.caller
    if caller.professional:
        return {"type": "Practitioner", "identifier": {"system": IDNPS, "value": caller.professional}}
    return {"type": "Organization", "identifier": {"system": IDNST, "value": caller.organisation}}
