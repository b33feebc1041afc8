"""Who may know of events, and whom they are for, as things are at one moment (contract SUB-10).

Whatever takes a read is read once for all that is asked of a moment, when it is first needed: who people are, what is
hidden from whom, what became of resources. A moment is short: whoever goes on asks of a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from passerelle.access import Caller
from passerelle.authorization.model import Client, parties_of
from passerelle.authorization.ports import Known
from passerelle.events import Event, EventName
from passerelle.notifications.audience import Standing, is_of_house, is_told, may_learn, standings_of
from passerelle.notifications.model import Interest, Turn
from passerelle.notifications.ports import NotificationPorts
from passerelle.notifications.topics import FEED
from passerelle.patients.model import Person


class Moment:
    """May be asked by several threads: what two of them ask for at the same time is read twice, and is the same."""

    def __init__(self, ports: NotificationPorts, at: datetime) -> None:
        self.ports = ports
        self.at = at
        self._people: dict[str, Person | None] = {}
        self._turns: dict[str, Turn] = {}
        self._insights: dict[Caller, Insight] = {}

    def person(self, event: Event) -> Person | None:
        """Whom an event is about; None if it is about nobody, or nobody who is known."""
        if event.patient is None:
            return None
        if event.patient not in self._people:
            self._people[event.patient] = self.ports.people.find_person(event.patient)
        return self._people[event.patient]

    def turn(self, event: Event) -> Turn:
        if event.id not in self._turns:
            self._turns[event.id] = self.ports.turns.of(event)
        return self._turns[event.id]

    def of(self, owner: Caller) -> Insight:
        if owner.limits is not None:  # of one request
            return Insight(self, owner)
        return self._insights.setdefault(owner, Insight(self, owner))


class Insight:
    """What one subscriber may know at a moment."""

    def __init__(self, moment: Moment, owner: Caller) -> None:
        self._moment = moment
        self._ports = moment.ports
        self._owner = owner
        self._known: Known | None = None
        self._hidden: dict[str, Callable[[str], bool]] = {}

    @property
    def client(self) -> Client | None:
        """The client of the subscriber as it is today; None where it acts for somebody who is barred."""
        if self._known is None:
            parties = parties_of(self._owner.organisation, self._owner.professional)
            self._known = self._ports.clients.look_up(self._owner.client_id, parties=parties)
        return None if self._known.barred else self._known.client

    def has_looked_up(self, event: Event) -> bool:
        """Whether there is nothing to read of the person of an event."""
        return event.patient is None or event.patient in self._hidden

    def look_up(self, event: Event) -> None:
        """Read what is asked of the person of an event: for who looks several up at once."""
        person = self._moment.person(event)
        if person is not None:
            self._is_hidden(event, person)

    def may_know(self, event: Event) -> bool:
        """Whether the subscriber could read the changed resource now."""
        person = self._moment.person(event)
        if not may_learn(self._owner, self.client, event, person):
            return False
        if event.name is EventName.ERASED:
            return True  # whoever has a copy has to know, and learns no more than that
        if event.name is EventName.RECORD_ACCESSED:
            return self._ports.shows_access(self._owner, event.reference.removeprefix("AuditEvent/"), self._moment.at)
        if person is not None and self._is_hidden(event, person):
            return False
        if event.name is EventName.PRESCRIPTION_CHANGED:  # not everybody in care relation is concerned by it
            return self._ports.shows_prescription(self._owner, event.reference.removeprefix("Task/"), self._moment.at)
        return True

    def _is_hidden(self, event: Event, person: Person) -> bool:
        assert event.patient is not None
        if event.patient not in self._hidden:
            self._hidden[event.patient] = self._ports.record.hidden_from(self._owner, person, self._moment.at)
        return self._hidden[event.patient](event.reference)

    def is_meant(self, interest: Interest, event: Event) -> bool:
        """Whether the subscriber is one of those whom the topic is for; what is about nobody is for everybody."""
        if interest.topic == FEED:
            return True
        person = self._moment.person(event)
        if person is None:
            return not interest.filter.care_circle
        _, facts = self._ports.record.admission(self._owner, person, self._moment.at)
        standings = standings_of(self._owner, event, facts)
        if interest.filter.care_circle and Standing.CARE_CIRCLE not in standings:
            return False
        if is_told(interest, event, standings):
            return True
        if not is_told(interest, event, {Standing.OWN_HOUSE}):
            return False
        return is_of_house(self._owner, self._moment.turn(event))
