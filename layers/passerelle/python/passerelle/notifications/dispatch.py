"""Give an event to the subscriptions that it concerns, each under that subscription's next number.

May run any number of times for one event, at the same time too: the log has each event once. The order of
delivery comes after the log entry; when it is lost, the event comes again from the queue and the order is
repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from passerelle.errors import PasserelleError
from passerelle.events import Event
from passerelle.notifications.audience import concerns, topics_of
from passerelle.notifications.model import Interest
from passerelle.notifications.ports import NotificationPorts, PatientFeed
from passerelle.patients.model import Person


class Dispatcher:
    """Serves one batch: who a patient's person is, and who asked to be told, is read once for all its events.

    Every event of a batch was committed before the batch was received, so that what is read then cannot be too old
    for any of them; whether the subscriber may still know is asked again at delivery.
    `feed` is called when a Patient has to be read: few events need it.
    """

    def __init__(self, ports: NotificationPorts, *, feed: Callable[[], PatientFeed]) -> None:
        self._subscriptions = ports.subscriptions
        self._log = ports.log
        self._deliveries = ports.deliveries
        self._client_of = ports.client_of
        self._people = ports.people
        self._may_know = ports.may_know
        self._feed = feed
        self._read: dict[tuple[str | None, tuple[str, ...]], tuple[Person | None, Sequence[Interest]]] = {}

    def dispatch(self, event: Event, at: datetime) -> None:
        """Number the event for each subscription and order its delivery.

        A failure for one subscription does not keep the event from the others; it is raised at the end.
        """
        person, interests = self._concerned(event)
        members = person.members if person else ()
        failure: PasserelleError | None = None
        for interest in interests:
            if not concerns(interest, event, members, at):
                continue
            try:
                client = self._client_of(interest.owner)
                if not self._may_know(interest.owner, client, event, person, at):
                    continue
                if not self._meets(interest, event, person):
                    continue
                number = self._log.append(interest.subscription, event)
                if number is not None:
                    self._deliveries.order(interest.subscription, number)
            except PasserelleError as error:
                failure = error
        if failure is not None:
            raise failure

    def _meets(self, interest: Interest, event: Event, person: Person | None) -> bool:
        query = interest.filter.query
        return query is None or (person is not None and self._feed().meets(query, event, interest.owner, person))

    def _concerned(self, event: Event) -> tuple[Person | None, Sequence[Interest]]:
        """The person of the event, and all that was asked for about it on its topics."""
        topics = tuple(topics_of(event))
        if (event.patient, topics) not in self._read:
            person = self._people.find_person(event.patient) if event.patient else None
            interests = self._subscriptions.interests(topics, person.members if person else ())
            self._read[event.patient, topics] = person, interests
        return self._read[event.patient, topics]
