"""Which accesses to a record are announced, and that nothing is looked up for the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from passerelle.errors import Unavailable
from passerelle.events import Event, EventName
from passerelle.notifications.accesses import AccessHerald
from passerelle.patients.model import Person
from tests.people import person_of

KEY, OTHER = "7q2k9c4m1xw8z0ab", "0123456789abcdef"
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = f"{KEY}-01hr0000000000000000000000"
RECORD = {
    "id": ID,
    "at": AT.isoformat(),
    "name": "read",
    "action": "R",
    "outcome": "0",
    "role": "practice",
    "client_id": "practice",
    "patient": KEY,
}


@dataclass
class Exchange:
    """Subscriptions, people and bus in one: `waited` are the source records that subscriptions name."""

    waited: frozenset[str] = frozenset({OTHER})
    looked_up: list[str] = field(default_factory=list)
    published: list[Event] = field(default_factory=list)
    is_down: bool = False

    def find_person(self, patient: str) -> Person | None:
        self.looked_up.append(patient)
        return person_of(KEY, OTHER) if patient == KEY else None

    def is_awaited(self, topic: str, patients: Sequence[str]) -> bool:
        assert topic == "record-accessed"
        return not self.waited.isdisjoint(patients)

    def publish(self, events: Sequence[Event]) -> None:
        if self.is_down:
            raise Unavailable("the bus did not take every event")
        self.published += events


def herald(exchange: Any) -> AccessHerald:
    return AccessHerald(subscriptions=exchange, people=exchange, bus=exchange)


def test_an_access_is_announced_by_the_id_of_its_audit_event() -> None:
    """Whichever source record of the person the subscription names; once for all of a batch it is looked up."""
    exchange = Exchange()
    announcing = herald(exchange)
    announcing.announce(RECORD)
    announcing.announce(RECORD)
    event = Event(
        name=EventName.RECORD_ACCESSED,
        reference=f"AuditEvent/{ID}",
        version=1,
        at=AT,
        author="practice",
        patient=KEY,
    )
    assert exchange.published == [event, event]
    assert exchange.looked_up == [KEY]


@pytest.mark.parametrize(
    ("changes", "is_announced"),
    [
        ({"name": "search-type", "action": "E"}, True),
        ({"name": "$summary", "action": "E"}, True),
        ({"name": "$access-history", "action": "E"}, True),
        ({"name": "vread"}, True),
        ({"role": "representative"}, True),
        ({"role": "patient", "person": b"sealed"}, True),  # a proxy, logged in for the patient
        ({"role": "patient"}, False),
        # The log itself is one to others, and none to who acts for the patient; nor is what one was told, to anybody.
        ({"references": [f"AuditEvent/{ID}"]}, True),
        ({"role": "representative", "references": [f"AuditEvent/{ID}"]}, False),
        ({"role": "representative", "references": [f"AuditEvent/{ID}", "Observation/x"]}, True),
        ({"role": "representative", "name": "$access-history", "action": "E"}, False),
        ({"references": ["Subscription/x"]}, False),
        ({"name": "$events", "references": ["Subscription/x", "Observation/x"]}, False),
        ({"outcome": "4"}, False),
        ({"outcome": "8"}, False),
        ({"name": "notification", "action": "R"}, False),
        ({"name": "deposit", "action": "R"}, False),
        ({"name": "create", "action": "C"}, False),
        ({"name": "update", "action": "U"}, False),
        ({"name": "$dispense", "action": "E"}, False),
    ],
)
def test_what_is_an_access_by_somebody_else(changes: dict[str, Any], is_announced: bool) -> None:
    exchange = Exchange()
    herald(exchange).announce(RECORD | changes)
    assert bool(exchange.published) is is_announced
    assert bool(exchange.looked_up) is is_announced


def test_nobody_waits() -> None:
    exchange = Exchange(waited=frozenset())
    herald(exchange).announce(RECORD)
    herald(Exchange()).announce({name: value for name, value in RECORD.items() if name != "patient"})
    assert exchange.published == []


def test_a_bus_that_fails_fails_the_record() -> None:
    with pytest.raises(Unavailable):
        herald(Exchange(is_down=True)).announce(RECORD)
