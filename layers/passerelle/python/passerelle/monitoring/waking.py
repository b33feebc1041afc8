"""What of a commit monitoring depends on: the person is looked at again, soon after (`watching.py`).

A wake-up is written beside what causes it, and reads nothing: a plan that changes, or a value of a device that comes
like any other resource, costs one more item, and is never forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from passerelle.access import Request
from passerelle.identifiers import new_ulid
from passerelle.monitoring.measures import home_visits, observations
from passerelle.monitoring.model import Wake
from passerelle.records.model import RecordVersion

_PLANS: Final = frozenset({"CarePlan", "Goal"})
_VISITS: Final = {"Appointment": ("service-type", "appointment-type"), "Encounter": ("class",)}


def wakes(request: Request, versions: Sequence[RecordVersion]) -> list[Wake]:
    """One for each source record that something was written to which monitoring depends on."""
    found: dict[str, list[tuple[str, int]]] = {}
    for each in versions:
        if each.key.patient is None:
            continue
        if _is_measured(each):
            found.setdefault(each.key.patient, []).append((each.key.reference, each.version))
        elif _is_arranged(each):
            found.setdefault(each.key.patient, [])
    return [
        Wake(patient=patient, at=request.at, id=new_ulid(request.at), observations=tuple(measured))
        for patient, measured in found.items()
    ]


def _is_arranged(version: RecordVersion) -> bool:
    kind = version.key.type
    if kind in _PLANS:
        return True
    if kind not in _VISITS:
        return False
    if version.entry is None:
        return True
    return any(not home_visits().isdisjoint(version.entry.values.get(name, ())) for name in _VISITS[kind])


def _is_measured(version: RecordVersion) -> bool:
    """A value of a device: what somebody typed, somebody has seen."""
    if version.key.type != "Observation" or version.entry is None or version.body is None:
        return False
    return b'"device"' in version.body and not observations().keys().isdisjoint(version.entry.values.get("code", ()))
