"""How a care plan is watched, for whoever may read it: nothing of it that cannot be told passes for fine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from passerelle.monitoring.model import Concern, Plan, Watch
from passerelle.monitoring.ports import Plans, Watches
from passerelle.records.model import StoredVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`plan` None: it is not in force. `due` has, by expectation, when it is next known whether it was met."""

    plan: Plan | None
    concerns: tuple[Concern, ...] = ()
    due: tuple[tuple[str, datetime], ...] = ()


class ReportingService:
    def __init__(self, *, plans: Plans, watches: Watches) -> None:
        self._plans = plans
        self._watches = watches

    def report(self, stored: StoredVersion, at: datetime) -> Report:
        """Of the current version of a care plan that the caller may read."""
        patient = stored.key.patient
        if patient is None:
            return Report(plan=None)
        plan = next((each for each in self._plans.plans([patient], at) if each.reference == stored.reference), None)
        if plan is None:
            return Report(plan=None)
        watch = self._watches.find([patient]).get(patient) or Watch(patient=patient)
        keys = {each.key for each in plan.watched}
        due = []
        for each in plan.expectations:
            window = next(each.rhythm.windows(at), None)
            if window is not None:
                due.append((each.key, window.deadline))
        concerns = tuple(each for each in watch.concerns if each.key in keys)
        return Report(plan=plan, concerns=concerns, due=tuple(due))
