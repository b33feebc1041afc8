"""What the exchange does about prescriptions by itself: lapsed leases, ended validities, given up drafts, reminders.

E-prescription contract, sections 6.2, 6.3 (the two sweeps) and 14. A sweep only stores what is already true: no
answer depends on when it ran. `run` may come late, twice, or beside another: each prescription is worked off in one
transaction, which holds only while nobody else has touched it, and it comes again until that is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from passerelle.access import Caller, Request, Scopes
from passerelle.audit.model import audit_of
from passerelle.errors import Busy
from passerelle.events import Event, EventName
from passerelle.identifiers import new_ulid
from passerelle.journal import Announcement, Change
from passerelle.prescriptions import lines, reminders
from passerelle.prescriptions.commands import Commands, Move, Plan, touched
from passerelle.prescriptions.model import (
    Attended,
    Group,
    Line,
    LineMovedError,
    PausedError,
    Prescription,
    PrescriptionMovedError,
    Told,
    WakeChange,
)
from passerelle.prescriptions.ports import Messages, Wakes
from passerelle.prescriptions.reminders import Reminder
from passerelle.prescriptions.transitions import STATES

_SWEEPS: Final = ("sweep-lease", "sweep-validity")
_SWEEPER: Final = Caller(client_id="remind", organisation="", role="system", scopes=Scopes(frozenset()), token_id="")
_AT_ONCE: Final = 16
_ATTEMPTS: Final = 5  # at a prescription that commands keep changing
_BEFORE_FIRST: Final = timedelta(
    days=1
)  # the schedule is as old as the table: the first run is half a day away at most


class Sweeping:
    def __init__(self, commands: Commands, *, wakes: Wakes, messages: Messages) -> None:
        self._commands = commands
        self._wakes = wakes
        self._messages = messages

    def run(self, at: datetime) -> int:
        """Work off every hour up to this one that has something left; returns how many prescriptions it looked at.

        By night it does nothing: what is due by day is not told then, and nothing else is in a hurry. What fails is
        left for the next run, and raised when everything else is done.
        """
        if reminders.is_quiet(at):
            return 0
        now = reminders.hour_of(at)
        failures: list[Exception] = []
        count = 0
        for hour in reminders.hours_between(min(self._reached(at), now), now):
            ids = self._wakes.due(hour)
            for start in range(0, len(ids), _AT_ONCE):
                calls = [partial(self._tried, id, hour, at) for id in ids[start : start + _AT_ONCE]]
                failures += [each for each in self._commands.in_parallel(*calls) if each is not None]
            count += len(ids)
        if failures:
            raise failures[0]
        self._wakes.reach(now)
        return count

    def _reached(self, at: datetime) -> str:
        """Where to go on from. The first run of all says so before anything else: whatever fails then is not lost."""
        reached = self._wakes.reached()
        if reached is None:
            reached = reminders.hour_of(at - _BEFORE_FIRST)
            self._wakes.reach(reached)
        return reached

    def _tried(self, id: str, hour: str, at: datetime) -> Exception | None:
        try:
            self.attend(id, hour, at)
        except Exception as failure:  # noqa: BLE001 - one keeps no other waiting: `run` raises it at the end
            return failure
        return None

    def attend(self, id: str, hour: str, at: datetime) -> None:
        """Look at a prescription that has a wake-up for this hour."""
        for _ in range(_ATTEMPTS):
            prescription = self._commands.prescriptions.find(id)
            if prescription is None or prescription.group.wakes_at != hour:
                self._wakes.drop(id, hour)  # the patient was erased, or a command has put it elsewhere
                return
            request = Request(caller=_SWEEPER, name="remind", action="U", request_id=new_ulid(at), at=at, base_url="")
            try:
                try:
                    self._attend(request, prescription)
                except PausedError:
                    self._attend(request, prescription, to_patient=False)
            except (LineMovedError, PrescriptionMovedError):
                continue
            return
        raise Busy(headers={"Retry-After": "1"})

    def _attend(self, request: Request, prescription: Prescription, *, to_patient: bool = True) -> None:
        """`to_patient` is False while the patient is left in peace: what is to be said then waits for the next hour."""
        moves = self._swept(request, prescription)
        group = reminders.said(prescription.group, request.at, to_patient=to_patient)
        after = replace(prescription, group=group)
        for move in moves:
            after = after.with_line(move.change.after)
        told = (
            *reminders.swept(after, [move.change.after for move in moves], request.at),
            *reminders.due(replace(after, group=prescription.group), request.at),
        )
        changes = self._told(request, after, [each for each in told if to_patient or each.to != "patient"])
        if moves:
            request = replace(request, name="sweep")
            self._commands.commit(
                request, prescription, Plan(prescription=replace(prescription, group=group), moves=moves, extra=changes)
            )
        else:
            wakes_at = reminders.next_wake(after, request.at)
            self._settle(request, prescription, replace(group, wakes_at=wakes_at), changes)

    def _settle(
        self, request: Request, prescription: Prescription, group: Group, changes: Sequence[Change] = ()
    ) -> None:
        """Store that this hour is worked off, where nothing of the prescription itself changes."""
        before = prescription.group
        commit: list[Change] = [
            Attended(before=before, after=group),
            WakeChange(prescription=group.id, before=before.wakes_at, after=group.wakes_at),
            *changes,
            *audit_of(request, touched(group)),
        ]
        self._commands.journal.commit(commit)

    # --- the two sweeps -------------------------------------------------------------------------------------

    def _swept(self, request: Request, prescription: Prescription) -> tuple[Move, ...]:
        """The lines that are not what they say any more."""
        moves = []
        for line in prescription.lines:
            state = self._state(request, prescription, line)
            if state != line.state:
                moves.append(self._commands.moved(request, prescription.group, line, lines.given_back(line, state)))
        return tuple(moves)

    def _state(self, request: Request, prescription: Prescription, line: Line) -> str:
        """What the rows of the sweeps make of a line as it is stored, where the effective state is another one."""
        situation = self._commands.situation(request, prescription, line, {})
        transitions = self._commands.transitions
        is_true = self._commands.effective(situation) == line.state and STATES[line.state].kind != "draft"
        for sweep in () if is_true else _SWEEPS:
            cell = transitions.decide(sweep, line.state, situation.holds)
            if cell.error is None and cell.next is not None:
                return cell.next
        return line.state

    # --- reminders ------------------------------------------------------------------------------------------

    def _told(self, request: Request, prescription: Prescription, told: Sequence[Reminder]) -> tuple[Change, ...]:
        """One message for each recipient, however many reasons there are; and peace for the patient after it."""
        by_recipient: dict[tuple[str, str], list[Reminder]] = {}
        for each in told:
            by_recipient.setdefault((each.to, each.organisation), []).append(each)
        changes: list[Change] = []
        events: list[Event] = []
        for same in by_recipient.values():
            change, reference = self._messages.message(prescription, same, request.at)
            changes.append(change)
            events.append(
                Event(
                    name=EventName.REMINDER_DUE,
                    reference=reference,
                    version=1,
                    at=request.at,
                    author=request.caller.client_id,
                    patient=prescription.group.patient,
                )
            )
        if events:
            changes.append(Announcement(id=new_ulid(request.at), events=tuple(events)))
        if ("patient", "") in by_recipient:
            changes.append(_pause(request, prescription, by_recipient["patient", ""]))
        return tuple(changes)


def _pause(request: Request, prescription: Prescription, told: Sequence[Reminder]) -> Told:
    """About a pharmacy: the one that holds a line of it, else the one of the patient's choice."""
    numbers = {number for each in told for number in each.lines}
    owners = [line.owner for line in prescription.lines if line.number in numbers and line.owner]
    now = int(request.at.timestamp())
    return Told(
        patient=prescription.group.patient,
        pharmacy=next(iter(owners), prescription.group.routed_to),
        now=now,
        until=now + int(timedelta(hours=reminders.policy()["pauseHours"]).total_seconds()),
    )
