"""A person as monitoring sees them at one moment: plans, watches, and what is committed for what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from passerelle.access import Request
from passerelle.events import Event, EventName
from passerelle.identifiers import new_ulid
from passerelle.journal import Announcement, Change
from passerelle.monitoring.model import Plan, Watch, WatchChange
from passerelle.monitoring.ports import Plans, Tasks, Watches
from passerelle.monitoring.rules import Evaluation
from passerelle.patients.model import Person
from passerelle.records.model import RecordVersion
from passerelle.records.service import announced

_ATTENDING: Final = "attending-physician"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """`evaluations` by source record: of each that has plans, or a watch."""

    person: Person
    evaluations: Mapping[str, Evaluation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequences:
    """What is to be committed, and the references of the alerts among it."""

    changes: tuple[Change, ...] = ()
    alerts: tuple[str, ...] = ()
    unanswered: int = 0  # alerts that have nobody left to go to


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """`in_parallel` runs independent reads at once and returns their results in order."""

    plans: Plans
    watches: Watches
    tasks: Tasks
    in_parallel: Callable[..., tuple[Any, ...]] = field(repr=False)

    def outlook(self, person: Person, at: datetime) -> Outlook:
        plans, watches = self.in_parallel(
            lambda: self.plans.plans(person.members, at), lambda: self.watches.find(person.members)
        )
        of: dict[str, list[Plan]] = {patient: [] for patient in watches}
        for plan in plans:
            of.setdefault(plan.patient, []).append(plan)
        return Outlook(
            person=person,
            evaluations={
                patient: self.evaluation(person, patient, watches.get(patient), mine, at)
                for patient, mine in sorted(of.items())
            },
        )

    def evaluation(
        self, person: Person, patient: str, watch: Watch | None, plans: Sequence[Plan], at: datetime
    ) -> Evaluation:
        """Of one of a person's source records; `watch` None: nothing is remembered of it."""
        attending = person.policy.attending_physician

        def is_known(tier: str) -> bool:
            return tier != _ATTENDING or attending is not None

        return Evaluation(
            watch=watch or Watch(patient=patient),
            plans=plans,
            at=at,
            new_task=lambda name: self.tasks.id_of(patient, at, name),
            tier_known=is_known,
        )

    def consequences(
        self, request: Request, person: Person, evaluation: Evaluation, *, wakes_at: datetime | None
    ) -> Consequences:
        """What an evaluation changes, of one source record."""
        before = evaluation.watch
        after = evaluation.result(wakes_at=wakes_at)
        if after is before and not evaluation.changes:
            return Consequences()
        alerts = list(evaluation.changes.values())
        versions = self.tasks.versions(before.patient, alerts, person.policy.attending_physician, evaluation.at)
        news = {f"Task/{each.after.task}" for each in alerts if each.is_news}
        return Consequences(
            changes=(
                # Of what began and ended among these values, nothing is left to remember.
                *([] if after is before else [WatchChange(before=before if before.revision else None, after=after)]),
                *versions,
                *_announced(request, versions, news),
            ),
            alerts=tuple(each.key.reference for each in versions),
            unanswered=sum(each.is_news and each.after.escalates_at is None for each in alerts),
        )


def _announced(request: Request, versions: Sequence[RecordVersion], news: set[str]) -> list[Announcement]:
    """Whoever takes care is told of what is new; all else is a change of the record like any other."""
    plain = [each for each in versions if each.key.reference not in news]
    events = tuple(
        Event(
            name=EventName.ALERT_RAISED,
            reference=each.key.reference,
            version=each.version,
            at=request.at,
            author=request.caller.client_id,
            patient=each.key.patient,
        )
        for each in versions
        if each.key.reference in news
    )
    told = [Announcement(id=new_ulid(request.at), events=events)] if events else []
    return [*told, *announced(request, plain)]
