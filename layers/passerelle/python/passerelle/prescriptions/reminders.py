"""Who is to be reminded of a prescription, of what and when; and when the exchange has to look at it by itself.

E-prescription contract, section 14. All of it follows from the prescription as it is: a command ends reminders and
begins others by changing a line. What is stored is one wake-up for each prescription, at the earliest hour at which
something is due (`Group.wakes_at`), and up to which hour everything was said (`Group.patient_reminded_until`, and
`others_reminded_until`: only patients are left in peace for a while). Each command moves the wake-up in its own
transaction: `after` is all that commands know of reminders.

Moments are whole hours, in which it is day in Paris. What a command brings about is due one minute later at the
earliest: its commit is over by then, so that no hour that was worked off gets anything new. Every number, and every
text, is data (`data/reminders_fr.json`); no text names a medicine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

from passerelle.journal import Change
from passerelle.prescriptions.model import Group, Line, Prescription, WakeChange
from passerelle.prescriptions.transitions import STATES
from passerelle.prescriptions.workdays import PARIS, last_working_day

DRAFT_KEPT: Final = timedelta(days=7)
"""A draft that nobody signs is given up after this."""

Recipient = Literal["patient", "practice", "pharmacy"]
_HOUR = timedelta(hours=1)
_COMMITTED = timedelta(minutes=1)  # a command lasts half a minute at most, and clocks differ by less than the rest
_BY_PATIENT = frozenset({"patient", "representative"})  # who cancelled needs no telling


@dataclass(frozen=True, slots=True, kw_only=True)
class Reminder:
    """Of lines of one prescription, for one recipient; `organisation` is "" for the patient.

    `id` follows from lines, kind, fills and day: what is written under it is written once.
    """

    id: str
    kind: str
    to: Recipient
    organisation: str
    lines: tuple[int, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cause:
    """Why somebody is reminded of one line."""

    kind: str
    line: Line
    at: datetime
    to: Recipient = "patient"
    organisation: str = ""


def after(before: Prescription | None, prescription: Prescription, at: datetime) -> tuple[Group, tuple[Change, ...]]:
    """The group with its next wake-up, and what a command at `at` has to store of it: two writes at most."""
    was, group = before.group.wakes_at if before else None, prescription.group
    wakes_at = next_wake(prescription, at)
    if wakes_at == was:
        return replace(group, wakes_at=was), ()
    return replace(group, wakes_at=wakes_at), (WakeChange(prescription=group.id, before=was, after=wakes_at),)


def next_wake(prescription: Prescription, at: datetime) -> str | None:
    """The hour, as text, at which something is due for the first time after `at`; None if never."""
    moments = [each.at for each in _unsaid(prescription)]
    moments += [_soon(each) for line in prescription.lines for each in _changes_by_itself(prescription.group, line)]
    return hour_of(max(min(moments), _soon(at))) if moments else None


def due(prescription: Prescription, at: datetime) -> tuple[Reminder, ...]:
    """What is to be said now: of several reminders of the same thing that were missed, the last."""
    latest: dict[tuple[str, int, str, str], _Cause] = {}
    for each in sorted(_unsaid(prescription), key=lambda cause: cause.at):
        if each.at <= at:
            latest[each.kind, each.line.number, each.to, each.organisation] = each
    return merged(prescription.group, latest.values())


def swept(prescription: Prescription, lines: Iterable[Line], at: datetime) -> tuple[Reminder, ...]:
    """What the prescriber is told of lines that the exchange has ended by itself."""
    kinds = {"K": "cancelled", "X": "expired"}
    causes = [
        _Cause(kind=kinds[line.state], line=line, at=at, to="practice", organisation=prescription.group.practice)
        for line in lines
        if line.state in kinds
    ]
    return merged(prescription.group, causes)


def merged(group: Group, causes: Iterable[_Cause]) -> tuple[Reminder, ...]:
    """One reminder for all lines that have the same to say to the same recipient at the same time."""
    together: dict[tuple[str, Recipient, str, datetime], list[_Cause]] = {}
    for each in causes:
        together.setdefault((each.kind, each.to, each.organisation, each.at), []).append(each)
    return tuple(
        Reminder(
            id=_digest(to, organisation, *sorted(_id(group, each) for each in same)),
            kind=kind,
            to=to,
            organisation=organisation,
            lines=tuple(sorted(each.line.number for each in same)),
            at=at,
        )
        for (kind, to, organisation, at), same in together.items()
    )


def is_quiet(at: datetime) -> bool:
    """Whether nobody is told anything at this time."""
    quiet = policy()["quiet"]
    return not quiet["until"] <= at.astimezone(PARIS).hour < quiet["from"]


def hour_of(at: datetime) -> str:
    """The hour of an instant as it is stored: in UTC, and sorting by time."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H")


def time_of(hour: str) -> datetime:
    return datetime.strptime(hour, "%Y-%m-%dT%H").replace(tzinfo=UTC)


def hours_between(first: str, last: str) -> Iterator[str]:
    """Both included."""
    at = time_of(first)
    while (hour := hour_of(at)) <= last:
        yield hour
        at += _HOUR


def end_of_draft(created_at: datetime) -> str:
    """The hour at which a draft of this time is given up, if nobody signs it."""
    return hour_of(_soon(created_at + DRAFT_KEPT))


@cache
def policy() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(files(__package__).joinpath("data/reminders_fr.json").read_text("utf-8"))
    return data


def said(group: Group, at: datetime, *, to_patient: bool) -> Group:
    """The group when everything was said up to now; what is for the patient may wait."""
    hour = hour_of(at)
    return replace(
        group,
        others_reminded_until=hour,
        patient_reminded_until=hour if to_patient else group.patient_reminded_until,
    )


# --- what follows from a prescription -----------------------------------------------------------------------


def _unsaid(prescription: Prescription) -> Iterator[_Cause]:
    """Before a prescription was created, or what was due then, nobody is reminded of."""
    group = prescription.group
    created_at = datetime.fromisoformat(group.created_at)
    for each in _causes(prescription):
        until = group.patient_reminded_until if each.to == "patient" else group.others_reminded_until
        if max(created_at, time_of(until) if until else created_at) < each.at:
            yield each


def _causes(prescription: Prescription) -> Iterator[_Cause]:
    for line in prescription.lines:
        kind = STATES[line.state].kind
        if kind == "claimed":
            yield from _held(line)
        if kind == "open":
            yield from _unused(line)
        if line.cancelled_at is not None and line.request_version:
            yield from _cancelled(line, datetime.fromisoformat(line.cancelled_at))
        if line.state == "F":
            yield from _used_up(prescription, line)
    yield from _asked(prescription)
    yield from _supplied_late(prescription)


def _held(line: Line) -> Iterator[_Cause]:
    if line.progress == "ready-to-collect":
        ready_at = datetime.fromtimestamp(line.progress_at / 1000, UTC)
        yield _Cause(kind="ready-to-collect", line=line, at=_soon(ready_at))
        for hours in policy()["uncollectedHours"]:
            yield _Cause(kind="uncollected", line=line, at=_soon(ready_at + timedelta(hours=hours)))


def _unused(line: Line) -> Iterator[_Cause]:
    """A line that waits to be collected: from a day on, and until another."""
    if line.state == "W" and line.not_before is not None:
        for days in policy()["nextFillDaysBefore"]:
            yield _Cause(kind="next-fill-due", line=line, at=_morning(line.not_before - timedelta(days=days)))
    if line.expires_on is not None:
        for days in policy()["expiringDaysBefore"]:
            yield _Cause(kind="expiring", line=line, at=_morning(line.expires_on - timedelta(days=days)))


def _cancelled(line: Line, at: datetime) -> Iterator[_Cause]:
    if line.cancelled_by not in _BY_PATIENT:
        yield _Cause(kind="cancelled", line=line, at=_soon(at))
    if line.owner is not None:
        yield _Cause(kind="cancelled", line=line, at=_soon(at), to="pharmacy", organisation=line.owner)


def _used_up(prescription: Prescription, line: Line) -> Iterator[_Cause]:
    """A treatment that lasts: who has repeats, or had enough for weeks, may need more; unless it was asked for."""
    supplies = prescription.supplies_of(line.number)
    lasts = line.fills > 1 or (line.per_day and line.total >= line.per_day * policy()["renewalFromDays"])
    is_asked_for = any(each.line == line.number and each.kind == "renewal" for each in prescription.asks)
    if supplies and lasts and not is_asked_for:
        day = supplies[-1].on + timedelta(days=policy()["renewalDaysAfter"])
        yield _Cause(kind="renewal-needed", line=line, at=_morning(day))


def _asked(prescription: Prescription) -> Iterator[_Cause]:
    """Requests to the prescriber, of which nobody may be left without an answer."""
    for ask in prescription.asks:
        line = prescription.line(ask.line)
        assert line is not None  # a request is about a line of its prescription
        if ask.is_open:
            for hours in policy()["silentHours"]:
                at = _soon(datetime.fromisoformat(ask.asked_at) + timedelta(hours=hours))
                practice = prescription.group.practice
                yield _Cause(kind="follow-up", line=line, at=at, to="practice", organisation=practice)
        elif ask.kind == "renewal" and ask.answered_at is not None:
            at = _soon(datetime.fromisoformat(ask.answered_at))
            yield _Cause(kind="renewal-answer", line=line, at=at)
            if ask.asked_as == "pharmacy":
                yield _Cause(kind="renewal-answer", line=line, at=at, to="pharmacy", organisation=ask.asked_by)


def _supplied_late(prescription: Prescription) -> Iterator[_Cause]:
    """All concerned: whoever supplied the line or holds it, the practice, and the patient, who may have it twice."""
    for late in prescription.late:
        line = prescription.line(late.line)
        assert line is not None  # a supply is of a line of its prescription
        at = _soon(datetime.fromisoformat(late.at))
        supplies = prescription.supplies_of(line.number)
        pharmacies = {late.organisation, line.owner, *(each.organisation for each in supplies)}
        yield _Cause(kind="late-supply", line=line, at=at)
        practice = prescription.group.practice
        yield _Cause(kind="late-supply", line=line, at=at, to="practice", organisation=practice)
        for each in sorted(filter(None, pharmacies)):
            yield _Cause(kind="late-supply", line=line, at=at, to="pharmacy", organisation=each)


def _changes_by_itself(group: Group, line: Line) -> Iterator[datetime]:
    """When the state of a line ends without a command (contract, section 6.2)."""
    kind = STATES[line.state].kind
    if kind == "draft":
        yield datetime.fromisoformat(group.created_at) + DRAFT_KEPT
    if kind == "claimed":
        yield datetime.fromtimestamp(line.lease_until / 1000, UTC)
    if kind == "open" and line.expires_on is not None:
        yield datetime.combine(line.expires_on, time(), PARIS)


# --- moments ------------------------------------------------------------------------------------------------


def _soon(at: datetime) -> datetime:
    """The first hour of day that begins when a commit of `at` is over."""
    over = at.astimezone(UTC) + _COMMITTED
    hour = over.replace(minute=0, second=0, microsecond=0)
    return _by_day(hour if hour == over else hour + _HOUR)


def _by_day(hour: datetime) -> datetime:
    """The hour itself, or where the night that it is in ends."""
    if not is_quiet(hour):
        return hour
    quiet, local = policy()["quiet"], hour.astimezone(PARIS)
    day = local.date() + timedelta(days=1 if local.hour >= quiet["from"] else 0)
    return datetime.combine(day, time(quiet["until"]), PARIS).astimezone(UTC)


def _morning(day: date) -> datetime:
    """On the day, or on the last working day before it: who is reminded can do something about it."""
    working = last_working_day(day, policy()["holidayRegion"])
    return datetime.combine(working, time(policy()["morning"]), PARIS).astimezone(UTC)


def _id(group: Group, cause: _Cause) -> str:
    day = cause.at.astimezone(PARIS).date().isoformat()
    return _digest(group.id, str(cause.line.number), cause.kind, str(cause.line.fill_no), day)


def _digest(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()
