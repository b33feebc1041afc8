"""Who is reminded of what and when, as it follows from a prescription; and the one wake-up that is kept of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from passerelle.prescriptions import reminders
from passerelle.prescriptions.model import Ask, LedgerEntry, Line, Prescription, WakeChange
from passerelle.prescriptions.workdays import PARIS
from tests.prescribing import GROUP, LINE, PHARMACY_A, PHARMACY_B

FAR = datetime(2030, 1, 1, 12, tzinfo=UTC)


def paris(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=PARIS)


def prescription(*lines: Line, created: str = "2026-03-02T10:30", **more: Any) -> Prescription:
    group = replace(GROUP, created_at=paris(created).isoformat(), **more.pop("group", {}))
    return Prescription(group=group, lines=lines, **more)


def line(state: str, **changes: Any) -> Line:
    return replace(LINE, state=state, expires_on=None, **changes)


def told(found: Prescription, until: datetime = FAR) -> list[tuple[str, str, str]]:
    """Kind, recipient and Paris time of everything that is to be said, one hour after the other."""
    said: list[tuple[str, str, str]] = []
    for _ in range(50):
        hour = reminders.next_wake(found, until - timedelta(days=2000))
        at = reminders.time_of(hour) if hour else None
        if at is None or at > until:
            return said
        for each in reminders.due(found, at):
            said.append((each.kind, each.to, f"{each.at.astimezone(PARIS):%Y-%m-%d %H:%M}"))
        found = replace(found, group=reminders.said(found.group, at, to_patient=True))
    raise AssertionError("it never ends")


def supply(on: str, quantity: int = 90) -> LedgerEntry:
    day = date.fromisoformat(on)
    return LedgerEntry(
        line=1,
        number=1,
        fill_no=1,
        quantity=quantity,
        on=day,
        at=paris(f"{on}T10:00").isoformat(),
        organisation=PHARMACY_A.organisation,
        dispense_id="7q2k9c4m1xw8z0ab-01jpab3v5w9f2k8m4n6p0q1r2u",
    )


def millis(text: str) -> int:
    return int(paris(text).timestamp() * 1000)


# --- each kind ------------------------------------------------------------------------------------------------------


def test_an_expiring_line_twice_before_its_end() -> None:
    """Section 14: expiring, -14 d and -3 d, on working days: 23 May 2026 is a Saturday, 3 June a Wednesday."""
    found = prescription(replace(LINE, expires_on=date(2026, 6, 6)))
    until = paris("2026-06-05T23:00")
    assert told(found, until) == [
        ("expiring", "patient", "2026-05-22 09:00"),
        ("expiring", "patient", "2026-06-03 09:00"),
    ]


def test_nothing_is_said_of_an_end_that_was_near_from_the_beginning() -> None:
    found = prescription(replace(LINE, expires_on=date(2026, 3, 9)))
    assert told(found, paris("2026-03-08T23:00")) == [("expiring", "patient", "2026-03-06 09:00")]


@pytest.mark.parametrize(
    ("next_allowed", "days"),
    [
        ("2026-04-15", ["2026-04-10", "2026-04-15"]),  # a Wednesday; three days before is a Sunday: Friday
        ("2026-04-06", ["2026-04-03"]),  # Easter Monday: Good Friday, three days before it too: once
        ("2026-05-14", ["2026-05-11", "2026-05-13"]),  # Ascension Day: the day before
        ("2027-01-02", ["2026-12-30", "2026-12-31"]),  # a Saturday after New Year's Day: the last day of the year
        ("2028-02-29", ["2028-02-25", "2028-02-29"]),  # a leap day
        ("2026-03-29", ["2026-03-26", "2026-03-27"]),  # the Sunday whose night is an hour shorter
        ("2026-10-25", ["2026-10-22", "2026-10-23"]),  # and the one whose night is an hour longer
    ],
)
def test_a_fill_on_a_day_off_is_announced_before_it(next_allowed: str, days: list[str]) -> None:
    """Section 14: next-fill-due, nextAllowed and -3 d; announced before a week-end or a public holiday."""
    waiting = line("W", fill_no=2, fills=3, not_before=date.fromisoformat(next_allowed))
    assert told(prescription(waiting)) == [("next-fill-due", "patient", f"{day} 09:00") for day in days]


def test_a_medicine_that_is_ready_and_stays_there() -> None:
    """Section 14: ready-to-collect at once, uncollected after 48 h; both by day."""
    ready = line(
        "C", owner=PHARMACY_A.organisation, progress="ready-to-collect", lease_until=millis("2026-03-06T10:00")
    )
    at = replace(ready, progress_at=millis("2026-03-03T14:20"))
    assert told(prescription(at), paris("2026-03-05T20:00")) == [
        ("ready-to-collect", "patient", "2026-03-03 15:00"),
        ("uncollected", "patient", "2026-03-05 15:00"),
    ]


@pytest.mark.parametrize(
    ("at", "hour"),
    [
        ("2026-03-03T14:00:00", "2026-03-03 15:00"),  # its commit may still be on its way at two
        ("2026-03-03T13:59:00", "2026-03-03 14:00"),
        ("2026-03-03T13:59:01", "2026-03-03 15:00"),
        ("2026-03-03T20:30:00", "2026-03-04 08:00"),  # the next hour is of the night
        ("2026-03-03T19:59:00", "2026-03-03 20:00"),
        ("2026-03-04T00:30:00", "2026-03-04 08:00"),
        ("2026-03-04T07:59:30", "2026-03-04 09:00"),
        ("2026-03-28T23:30:00", "2026-03-29 08:00"),  # over the night of 29 March
        ("2026-10-24T23:30:00", "2026-10-25 08:00"),  # and that of 25 October
        ("2026-12-31T22:10:00", "2027-01-01 08:00"),
    ],
)
def test_what_a_command_brings_about_is_said_in_the_next_hour_of_day(at: str, hour: str) -> None:
    """Section 14: quiet hours 21-8 Paris."""
    cancelled_at = paris(at).isoformat()
    cancelled = line("K", cancelled_by="prescriber", cancelled_at=cancelled_at, cancel_reason="death")
    assert told(prescription(cancelled, created="2026-03-02T08:00")) == [("cancelled", "patient", hour)]


def test_a_cancelled_line_that_is_held_is_said_to_its_holder_too() -> None:
    marks: dict[str, Any] = {"cancelled_at": paris("2026-03-03T14:20").isoformat(), "cancel_requested": True}
    held = line("Q", owner=PHARMACY_A.organisation, cancelled_by="prescriber", **marks)
    found = reminders.due(
        prescription(replace(held, lease_until=millis("2026-03-03T18:00"))), paris("2026-03-03T16:00")
    )
    assert {(each.kind, each.to, each.organisation) for each in found} == {
        ("cancelled", "patient", ""),
        ("cancelled", "pharmacy", PHARMACY_A.organisation),
    }
    assert told(prescription(line("K", cancelled_by="patient", **marks))) == [], "who cancelled knows"
    assert told(prescription(line("K", cancelled_by="prescriber", request_version=0, **marks))) == [], "a draft"


def test_a_treatment_that_lasts_is_to_be_renewed() -> None:
    """Section 14: renewal-needed, last fill + 21 d; 23 March 2026 + 21 d is a Monday."""
    done = line("F", remaining_total=0, remaining_fill=0)
    found = prescription(done, ledger=(supply("2026-03-23"),))
    assert told(found) == [("renewal-needed", "patient", "2026-04-13 09:00")]
    short = replace(done, total=21, units_per_day="3")
    assert told(prescription(short, ledger=(supply("2026-03-23"),))) == [], "seven days of treatment"
    assert told(prescription(replace(short, fills=2), ledger=(supply("2026-03-23"),))) != []


def ask(**changes: Any) -> Ask:
    facts: dict[str, Any] = {
        "number": 1,
        "line": 1,
        "kind": "renewal",
        "status": "requested",
        "version": 1,
        "asked_at": paris("2026-03-24T10:30").isoformat(),
        "asked_by": PHARMACY_B.organisation,
        "asked_as": "pharmacy",
    }
    return Ask(**{**facts, **changes})


def test_a_prescriber_who_does_not_answer_is_asked_again_twice() -> None:
    """Section 14: follow-up to the silent prescriber, 48 h and 96 h; who asked needs no reminder to ask."""
    found = prescription(line("F"), ledger=(supply("2026-03-23"),), asks=(ask(),))
    assert told(found) == [
        ("follow-up", "practice", "2026-03-26 11:00"),
        ("follow-up", "practice", "2026-03-28 11:00"),
    ]


@pytest.mark.parametrize("asked_as", ["pharmacy", "patient"])
def test_the_answer_goes_to_the_patient_and_to_the_pharmacy_that_asked(asked_as: str) -> None:
    """Section 14: renewal-answer."""
    answered = ask(status="completed", answer="approve", answered_at=paris("2026-03-25T09:10").isoformat())
    found = prescription(line("F"), asks=(replace(answered, asked_as=asked_as),))
    assert set(told(found)) == {
        ("renewal-answer", "patient", "2026-03-25 10:00"),
        *([("renewal-answer", "pharmacy", "2026-03-25 10:00")] if asked_as == "pharmacy" else []),
    }


# --- together -------------------------------------------------------------------------------------------------------


def test_twenty_lines_that_say_the_same_are_one_reminder() -> None:
    lines = [replace(LINE, number=number, expires_on=date(2026, 6, 6)) for number in range(1, 21)]
    (found,) = reminders.due(prescription(*lines), paris("2026-05-22T09:00"))
    assert found.lines == tuple(range(1, 21))


def test_a_reminder_keeps_its_id_and_no_other_has_it() -> None:
    """Section 14: id = hash(line, kind, fillNo, day)."""
    first = replace(LINE, expires_on=date(2026, 6, 6))
    at = paris("2026-05-22T09:00")
    (found,) = reminders.due(prescription(first), at)
    assert reminders.due(prescription(replace(first, version=9)), at + timedelta(hours=3)) == (found,)
    others = [
        prescription(replace(first, number=2)),
        prescription(replace(first, fill_no=2)),
        prescription(replace(first, expires_on=date(2026, 6, 4))),
        prescription(first, group={"id": GROUP.id[:-1] + "t"}),
    ]
    ids = {found.id, *(each.id for other in others for each in reminders.due(other, at))}
    assert len(ids) == 5


def test_what_was_missed_is_said_once() -> None:
    """A run that comes weeks late does not say everything again that it would have said."""
    waiting = line("W", fill_no=2, fills=3, not_before=date(2026, 4, 15))
    (found,) = reminders.due(prescription(waiting), paris("2026-05-20T10:00"))
    assert f"{found.at.astimezone(PARIS):%m-%d}" == "04-15"


# --- the wake-up ----------------------------------------------------------------------------------------------------


def test_a_command_moves_the_wake_up_and_ends_what_was_to_be_said() -> None:
    """Section 14: completing or cancelling a line ends its pending reminders in the same transaction."""
    at = paris("2026-03-03T11:00")
    before = prescription(replace(LINE, expires_on=date(2026, 6, 6)))
    group, (begun,) = reminders.after(None, before, at)
    assert begun == WakeChange(prescription=GROUP.id, before=None, after="2026-05-22T07")
    assert group.wakes_at == "2026-05-22T07"
    before = replace(before, group=group)
    assert reminders.after(before, before, at + timedelta(days=1)) == (group, ())
    supplied = before.with_line(line("F", fills=1, total=21))
    assert reminders.after(before, supplied, at)[1] == (
        WakeChange(prescription=GROUP.id, before="2026-05-22T07", after=None),
    )
    cancelled = before.with_line(line("K", cancelled_by="patient", cancelled_at=at.isoformat()))
    assert reminders.after(before, cancelled, at)[0].wakes_at is None


def test_a_wake_up_is_never_in_an_hour_that_may_be_worked_off() -> None:
    """Something was due a while ago, and no run has seen to it yet: the command takes it along."""
    waiting = line("W", fill_no=2, fills=3, not_before=date(2026, 4, 15))
    for minute in range(0, 24 * 60, 7):
        at = paris("2026-05-01T00:00") + timedelta(minutes=minute)
        hour = reminders.next_wake(prescription(waiting), at)
        assert hour is not None
        assert reminders.time_of(hour) >= at + timedelta(minutes=1)
        assert not reminders.is_quiet(reminders.time_of(hour))


@pytest.mark.parametrize(
    ("state", "changes", "hour"),
    [
        ("D", {}, "2026-03-09 11:00"),  # seven days after it was created, at half past ten
        ("C", {"lease_until": "2026-03-02T12:30"}, "2026-03-02 13:00"),
        ("P", {"lease_until": "2026-03-02T22:30"}, "2026-03-03 08:00"),
        ("Q", {"lease_until": "2026-03-02T12:30"}, "2026-03-02 13:00"),
        ("O", {"expires_on": date(2026, 3, 3)}, "2026-03-03 08:00"),
        ("F", {}, None),
        ("N", {}, None),
        ("X", {}, None),
        ("E", {}, None),
    ],
)
def test_when_a_state_ends_by_itself(state: str, changes: dict[str, Any], hour: str | None) -> None:
    found = replace(LINE, **{"expires_on": None, **changes, "state": state})
    if "lease_until" in changes:
        found = replace(found, lease_until=millis(changes["lease_until"]), owner=PHARMACY_A.organisation)
    wake = reminders.next_wake(prescription(found), paris("2026-03-02T10:31"))
    assert (f"{reminders.time_of(wake).astimezone(PARIS):%Y-%m-%d %H:%M}" if wake else None) == hour


def test_hours_go_on_over_the_nights_in_which_clocks_change() -> None:
    for first, last in (("2026-03-28T22", "2026-03-29T04"), ("2026-10-24T22", "2026-10-25T04")):
        assert len(list(reminders.hours_between(first, last))) == 7
    assert [hour for hour in range(24) if reminders.is_quiet(paris(f"2026-03-29T{hour:02d}:00"))] == [
        *range(8),
        *range(21, 24),
    ]


def test_every_text_is_in_both_languages_and_names_nothing() -> None:
    texts = reminders.policy()["texts"]
    for by_recipient in texts.values():
        for text in by_recipient.values():
            assert set(text) == {"fr", "en"}
            assert not set("{}%0123456789") & set("".join(text.values())), "nothing is filled in"
