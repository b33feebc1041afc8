"""Give an event to the subscriptions that it concerns, each under that subscription's next number.

May run any number of times for one event, at the same time too: the log has each event once. The order of
delivery comes after the log entry; when it is lost, the event comes again from the queue and the order is
repeated.

What narrows comes before what is read: most subscriptions to a topic are left out by the event, and by what the owner
is to the person, without a read of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from passerelle.access import Caller
from passerelle.authorization.model import Client
from passerelle.errors import PasserelleError
from passerelle.events import Event
from passerelle.notifications.audience import concerns, meets
from passerelle.notifications.model import Interest, Turn
from passerelle.notifications.ports import Feed, NotificationPorts
from passerelle.notifications.topics import is_urgent, topics_of
from passerelle.patients.model import Person

APPENDED_WITHIN: Final = timedelta(minutes=2)
"""More than a dispatcher runs, and what the clocks of two machines differ by."""


InParallel = Callable[..., tuple[PasserelleError | None, ...]]
"""Makes independent calls, and returns what they return, in their order."""


def one_by_one(*calls: Callable[[], PasserelleError | None]) -> tuple[PasserelleError | None, ...]:
    return tuple(call() for call in calls)


class Dispatcher:
    """Serves one batch: who a patient's person is, who asked to be told, and which client that is, is read once for it.

    Every event of a batch was committed before the batch was received, so that what is read then cannot be too old
    for any of them; whether the subscriber may still know is asked again at delivery.
    `feeds`, by topic, are called when a resource has to be read for a search, and what became of a resource is read
    when a subscription asks for it: few events need either. `in_parallel` serves the subscriptions of an event at once.
    """

    def __init__(
        self,
        ports: NotificationPorts,
        *,
        feeds: Mapping[str, Callable[[], Feed]],
        in_parallel: InParallel = one_by_one,
    ) -> None:
        self._subscriptions = ports.subscriptions
        self._log = ports.log
        self._deliveries = ports.deliveries
        self._client_of = ports.client_of
        self._people = ports.people
        self._may_know = ports.may_know
        self._is_meant = ports.is_meant
        self._feeds = feeds
        self._in_parallel = in_parallel
        self._turns = ports.turns
        self._read: dict[tuple[str | None, tuple[str, ...]], tuple[Person | None, Sequence[Interest]]] = {}
        self._turned: dict[str, Turn] = {}
        self._clients: dict[tuple[str, ...], Client | None] = {}

    def dispatch(self, event: Event, at: datetime) -> None:
        """Number the event for each subscription and order its delivery.

        A failure for one subscription does not keep the event from the others; it is raised at the end.
        """
        person, asked = self._asked(event, at)
        if not asked:
            return
        numbered = (partial(self._numbered, interest, event, person, at) for interest in asked)
        failures = [failure for failure in self._in_parallel(*numbered) if failure is not None]
        if failures:
            raise failures[0]

    def _numbered(
        self, interest: Interest, event: Event, person: Person | None, at: datetime
    ) -> PasserelleError | None:
        """What kept the event from being numbered and ordered for one subscription."""
        try:
            if self._is_told(interest, event, person, at):
                number = self._log.append(interest.subscription, event)
                if number is not None:
                    self._ordered(interest, event, number, at)
        except PasserelleError as failure:
            return failure
        return None

    def told(self, event: Event, at: datetime) -> Iterator[Interest]:
        """Those for whom the event is numbered."""
        person, asked = self._asked(event, at)
        return (interest for interest in asked if self._is_told(interest, event, person, at))

    def _asked(self, event: Event, at: datetime) -> tuple[Person | None, list[Interest]]:
        person, interests = self._concerned(event)
        members = person.members if person else ()
        return person, [interest for interest in interests if concerns(interest, event, members, at)]

    def _is_told(self, interest: Interest, event: Event, person: Person | None, at: datetime) -> bool:
        """Whether the subscription asked for this change, and its owner is to know of it."""
        return (
            self._is_meant(interest, event, person, at, self._turn)
            and meets(interest, event, partial(self._turn, event))
            and self._may_know(interest.owner, self._client(interest.owner), event, person, at)
            and self._is_found(interest, event, person)
        )

    def _ordered(self, interest: Interest, event: Event, number: int, at: datetime) -> None:
        """Order what was appended, unless it was delivered already; how far is read after it was appended.

        An order that waits for a time to come looks at the log then, and one more would only wait behind it.
        """
        progress = self._subscriptions.progress(interest.subscription)
        if progress is None or number <= progress.delivered:
            return
        if progress.held_until is None or at + APPENDED_WITHIN >= progress.held_until:
            self._deliveries.order(interest.subscription, progress.delivered)
        if progress.is_paced and is_urgent(event, interest.topic):
            self._deliveries.order(interest.subscription, progress.delivered, urgent=True)

    def _is_found(self, interest: Interest, event: Event, person: Person | None) -> bool:
        if interest.filter.query is None:
            return True
        return person is not None and self._feeds[interest.topic]().meets(interest, event, person)

    def _client(self, owner: Caller) -> Client | None:
        key = (owner.client_id, owner.organisation, owner.professional or "")
        if key not in self._clients:
            self._clients[key] = self._client_of(owner)
        return self._clients[key]

    def _turn(self, event: Event) -> Turn:
        if event.id not in self._turned:
            self._turned[event.id] = self._turns.of(event)
        return self._turned[event.id]

    def _concerned(self, event: Event) -> tuple[Person | None, Sequence[Interest]]:
        """The person of the event, and all that was asked for about it on its topics."""
        topics = tuple(topics_of(event))
        if (event.patient, topics) not in self._read:
            person = self._people.find_person(event.patient) if event.patient else None
            interests = self._subscriptions.interests(topics, person.members if person else ())
            self._read[event.patient, topics] = person, interests
        return self._read[event.patient, topics]
