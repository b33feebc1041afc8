"""Give an event to the subscriptions that it concerns, each under that subscription's next number.

May run any number of times for one event, at the same time too: the log has each event once. The order of
delivery comes after the log entry; when it is lost, the event comes again from the queue and the order is
repeated.
"""

from __future__ import annotations

from datetime import datetime

from passerelle.errors import PasserelleError
from passerelle.events import Event
from passerelle.notifications.audience import concerns, may_learn, topics_of
from passerelle.notifications.ports import NotificationPorts


class Dispatcher:
    def __init__(self, ports: NotificationPorts) -> None:
        self._subscriptions = ports.subscriptions
        self._log = ports.log
        self._deliveries = ports.deliveries
        self._clients = ports.clients
        self._people = ports.people

    def dispatch(self, event: Event, at: datetime) -> None:
        """Number the event for each subscription and order its delivery.

        A failure for one subscription does not keep the event from the others; it is raised at the end.
        """
        person = self._people.find_person(event.patient) if event.patient else None
        members = person.members if person else ()
        failure: PasserelleError | None = None
        for interest in self._subscriptions.interests(topics_of(event), members):
            if not concerns(interest, event, members, at):
                continue
            try:
                client = self._clients.find(interest.owner.client_id)
                if not may_learn(interest.owner, client, event, person):
                    continue
                number = self._log.append(interest.subscription, event)
                if number is not None:
                    self._deliveries.order(interest.subscription, number)
            except PasserelleError as error:
                failure = error
        if failure is not None:
            raise failure
