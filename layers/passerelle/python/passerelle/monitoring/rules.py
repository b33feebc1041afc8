"""What measurements, and the time that goes by, make of the alerts of a person: pure.

    received    values that were just taken in, each compared with the thresholds of the plans
    judged      what was expected up to now, and did not come; visits; alerts whose next tier is due

One alert for each target, activity or visit at a time: as long as nobody answers it, what happens again is counted in
it. It is ended by somebody (`answering.py`), or by what makes it void (`Ending`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from passerelle.monitoring.measures import VISIT, minutes, policy
from passerelle.monitoring.model import (
    Alert,
    AlertKind,
    Concern,
    Ending,
    Expectation,
    Labels,
    Plan,
    Reading,
    Sighting,
    Threshold,
    Visit,
    VisitState,
    Watch,
)

_LOOKED_BACK: Final = timedelta(days=policy()["visitsLookedBackDays"] - 1)
_SEEN_BACK: Final = timedelta(days=31)  # how far what came late is looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertChange:
    """`before` None: it was raised now, with `labels`. `ended` says why nobody has to answer any more."""

    before: Alert | None
    after: Alert
    plan: Plan | None
    ended: Ending | None = None
    labels: Labels = ()

    @property
    def is_news(self) -> bool:
        """Whether somebody is to be told: of a new alert, or because it is the next one's turn."""
        return self.before is None or (self.ended is None and self.after.tier != self.before.tier)


@dataclass(slots=True)
class Evaluation:
    """The watch of one source record as it changes. `tier_known` says whether anybody is known of a tier (by name)."""

    watch: Watch
    plans: Sequence[Plan]
    at: datetime
    new_task: Callable[[str], str]
    tier_known: Callable[[str], bool]
    concerns: dict[str, Concern] = field(init=False)
    changes: dict[str, AlertChange] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.concerns = {each.key: each for each in self.watch.concerns}

    # --- values -----------------------------------------------------------------------------------------------------

    def received(self, readings: Iterable[Reading]) -> None:
        """Compare values, in the order that they were measured in, with the targets; a stale one alerts nobody."""
        oldest = self.at - timedelta(hours=policy()["staleHours"])
        for reading in sorted(readings, key=lambda each: (each.at, each.reference, each.measure)):
            if reading.at < oldest:
                continue
            for plan in self.plans:
                if not plan.covers(reading.at):
                    continue
                for threshold in plan.thresholds:
                    if threshold.measure == reading.measure:
                        self._compared(plan, threshold, reading)
            self.sighted([Sighting(measure=reading.measure, at=reading.at)])

    def _compared(self, plan: Plan, threshold: Threshold, reading: Reading) -> None:
        """Values that are hidden alike are compared by themselves: no alert that others see depends on them."""
        key = "|".join((threshold.key, *(part for label in sorted(reading.labels) for part in label)))
        concern = self._concern(key)
        is_outside = threshold.is_outside(reading.value)
        concern = replace(concern, recent=(concern.recent + "io"[is_outside])[-threshold.among :])
        alert = concern.alert
        if alert is None:
            if concern.recent.count("o") >= threshold.outside:
                alert = self._raised(
                    plan,
                    key,
                    AlertKind.THRESHOLD,
                    reading.reference,
                    reading.at,
                    goal=threshold.goal,
                    labels=reading.labels,
                )
                concern = replace(concern, recent="")
        elif is_outside:
            alert = replace(alert, count=alert.count + 1, focus=reading.reference, in_range=0)
            self._noted(alert, plan)
        else:
            alert = replace(alert, in_range=alert.in_range + 1)
            if alert.in_range >= threshold.back:
                self._noted(alert, plan, Ending.BACK_IN_RANGE)
                alert = None
                concern = replace(concern, recent="")
        self._remember(replace(concern, alert=alert))

    def sighted(self, sightings: Sequence[Sighting]) -> None:
        """What was missed and came late ends its alert."""
        until = self.at + minutes("aheadMinutes")
        for plan, expectation in self._expected():
            if expectation.key in self.concerns:
                concern = self.concerns[expectation.key]
                self.concerns[expectation.key] = self._ended(plan, expectation, concern, sightings, until)

    # --- time -------------------------------------------------------------------------------------------------------

    def judged(self, sightings: Sequence[Sighting], visits: Sequence[Visit]) -> None:
        """What should have happened by now."""
        for plan, expectation in self._expected():
            self._judge(plan, expectation, sightings)
        for visit in visits:
            self._judge_visit(visit)
        self._forget({each.reference for each in visits})
        self._escalate()

    def _judge(self, plan: Plan, expectation: Expectation, sightings: Sequence[Sighting]) -> None:
        concern = self._concern(expectation.key)
        for window in expectation.rhythm.windows(concern.judged_until or concern.since):
            if window.deadline > self.at:
                break
            concern = self._ended(plan, expectation, concern, sightings, window.deadline)
            concern = replace(concern, judged_until=window.deadline)
            if window.start < concern.since or not (plan.covers(window.start) or plan.covers(window.end)):
                continue
            seen = sum(
                each.measure == expectation.measure and window.start <= each.at < window.end for each in sightings
            )
            if seen >= window.needed:
                continue
            alert = concern.alert
            if alert is None:
                alert = self._raised(plan, expectation.key, expectation.alert, plan.reference, window.start)
            else:
                alert = replace(alert, count=alert.count + 1)
                self._noted(alert, plan)
            concern = replace(concern, alert=alert)
        self._remember(self._ended(plan, expectation, concern, sightings, self.at))

    def _ended(
        self, plan: Plan, expectation: Expectation, concern: Concern, sightings: Iterable[Sighting], until: datetime
    ) -> Concern:
        """Without its alert, if what was missed came late, up to a moment."""
        alert = concern.alert
        if alert is None or alert.since is None:
            return concern
        if not any(each.measure == expectation.measure and alert.since <= each.at <= until for each in sightings):
            return concern
        self._noted(alert, plan, Ending.VISITED if expectation.measure == VISIT else Ending.MEASURED)
        return replace(concern, alert=None)

    def _judge_visit(self, visit: Visit) -> None:
        known = self.concerns.get(visit.reference)
        if visit.state is not VisitState.EXPECTED:
            if known is not None and known.alert is not None:
                took_place = visit.state is VisitState.TOOK_PLACE
                self._noted(known.alert, None, Ending.VISITED if took_place else Ending.NOT_EXPECTED)
            self.concerns.pop(visit.reference, None)
            return
        if visit.deadline > self.at:
            return
        concern = self._concern(visit.reference)
        if concern.judged_until is not None and concern.judged_until >= visit.deadline:
            return
        alert = concern.alert
        if alert is None:
            alert = self._raised(None, visit.reference, AlertKind.MISSED_VISIT, visit.reference, visit.deadline)
        else:
            alert = replace(alert, count=alert.count + 1)
            self._noted(alert, None)
        self._remember(replace(concern, judged_until=visit.deadline, alert=alert))

    def _forget(self, visits: set[str]) -> None:
        """What no plan has any more, and no visit."""
        known = visits | {each.key for plan in self.plans for each in plan.watched}
        for key, concern in list(self.concerns.items()):
            if key.partition("|")[0] in known or self._is_past(concern.alert):
                continue
            if concern.alert is not None:
                self._noted(concern.alert, None, Ending.NOT_EXPECTED)
            del self.concerns[key]

    def _is_past(self, alert: Alert | None) -> bool:
        """Whether it is about a visit that is not looked back at any more, and still nobody answered."""
        if alert is None or alert.kind is not AlertKind.MISSED_VISIT or alert.plan or alert.since is None:
            return False
        return alert.since < self.at - _LOOKED_BACK

    def _escalate(self) -> None:
        for concern in list(self.concerns.values()):
            alert = concern.alert
            while alert is not None and alert.escalates_at is not None and alert.escalates_at <= self.at:
                alert = self._turned(alert, alert.tier + 1, alert.escalates_at)
            if alert is not None and alert != concern.alert:
                self._noted(alert, next((each for each in self.plans if each.reference == alert.plan), None))
                self._remember(replace(concern, alert=alert))

    # --- what comes of it -------------------------------------------------------------------------------------------

    def result(self, *, wakes_at: datetime | None) -> Watch:
        """The watch as it is now; the same if nothing of it changed."""
        concerns = tuple(self.concerns[key] for key in sorted(self.concerns))
        if concerns == self.watch.concerns and wakes_at == self.watch.wakes_at:
            return self.watch
        return replace(self.watch, revision=self.watch.revision + 1, concerns=concerns, wakes_at=wakes_at)

    def next_wake(self, visits: Sequence[Visit]) -> datetime | None:
        """When the exchange has to look again, if nothing is written before."""
        moments = [*self.escalations()]
        for plan in self.plans:
            moments += [each for each in (plan.start, plan.over_at) if each is not None and each > self.at]
        for plan, expectation in self._expected():
            concern = self._concern(expectation.key)
            for window in expectation.rhythm.windows(max(concern.judged_until or concern.since, self.at)):
                if window.start >= concern.since:
                    if plan.covers(window.start) or plan.covers(window.end):
                        moments.append(window.deadline)
                    break
        moments += [each.deadline for each in visits if each.state is VisitState.EXPECTED and each.deadline > self.at]
        return min(moments, default=None)

    def escalations(self) -> list[datetime]:
        alerts = (each.alert for each in self.concerns.values() if each.alert is not None)
        return [each.escalates_at for each in alerts if each.escalates_at is not None]

    def earliest(self) -> datetime:
        """From when on it has to be known what was measured."""
        moments = [self.at]
        for _, expectation in self._expected():
            concern = self._concern(expectation.key)
            if concern.alert is not None and concern.alert.since is not None:
                moments.append(max(concern.alert.since, self.at - _SEEN_BACK))
            window = next(expectation.rhythm.windows(concern.judged_until or concern.since), None)
            if window is not None and window.deadline <= self.at:
                moments.append(window.start)
        return min(moments)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _expected(self) -> list[tuple[Plan, Expectation]]:
        return [(plan, each) for plan in self.plans for each in plan.expectations]

    def _concern(self, key: str) -> Concern:
        return self.concerns.get(key) or Concern(key=key, since=self.at)

    def _remember(self, concern: Concern) -> None:
        """A threshold without a past is as good as none."""
        if concern.alert is None and concern.judged_until is None and not concern.recent.count("o"):
            is_expected = any(each.key == concern.key for _, each in self._expected())
            if not is_expected:
                self.concerns.pop(concern.key, None)
                return
        self.concerns[concern.key] = concern

    def _raised(
        self,
        plan: Plan | None,
        key: str,
        kind: AlertKind,
        focus: str,
        since: datetime,
        *,
        goal: str | None = None,
        labels: Labels = (),
    ) -> Alert:
        alert = Alert(
            key=key,
            task=self.new_task(f"{key}|{since.isoformat()}|{self.watch.revision}|{len(self.changes)}"),
            kind=kind,
            plan=plan.reference if plan is not None else "",
            focus=focus,
            raised_at=self.at,
            goal=goal,
            since=since,
        )
        alert = self._turned(alert, 0, self.at)
        labels = tuple(dict.fromkeys((*labels, *(plan.labels if plan is not None else ()))))
        self.changes[alert.task] = AlertChange(before=None, after=alert, plan=plan, labels=labels)
        return alert

    def _turned(self, alert: Alert, tier: int, at: datetime) -> Alert:
        """When it is the turn of a tier from `at` on; of a later one, if nobody is known of this."""
        tiers = policy()["tiers"]
        last = len(tiers) - 1
        while tier < last and not self.tier_known(tiers[tier]["to"]):
            tier += 1
        wait = tiers[tier].get("minutes")
        return replace(alert, tier=tier, escalates_at=at + timedelta(minutes=wait) if wait is not None else None)

    def _noted(self, alert: Alert, plan: Plan | None, ended: Ending | None = None) -> None:
        earlier = self.changes.get(alert.task)
        before = earlier.before if earlier is not None else self.watch.alert_of(alert.task)
        plan = plan or (earlier.plan if earlier is not None else None)
        labels = earlier.labels if earlier is not None else ()
        self.changes[alert.task] = AlertChange(before=before, after=alert, plan=plan, ended=ended, labels=labels)
