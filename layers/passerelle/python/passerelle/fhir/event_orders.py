"""Declared events as their subscribers get them: orders to notify (Notification d'evenements, flow 4).

What a subscription of the guide asks for is kept as a query: the type of event, who declares it, and from when on it
has to have happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs
from uuid import NAMESPACE_URL, uuid5

from passerelle.events import Event
from passerelle.fhir import json as fhir_json
from passerelle.fhir import nde
from passerelle.fhir.dates import date_range, instant, written
from passerelle.notifications.model import Interest, Subscription
from passerelle.notifications.ports import Resources
from passerelle.patients.model import Person
from passerelle.records.model import ResourceKey
from passerelle.records.ports import RecordStore


class FhirEventOrders:
    """`notifications.ports.Feed`, of what is declared about a person. `resources` is called when one is told."""

    def __init__(self, store: RecordStore, resources: Callable[[], Resources]) -> None:
        self._store = store
        self._resources = resources

    def meets(self, interest: Interest, event: Event, person: Person) -> bool:
        """Whether a new declaration is of the type, from one of those who declare, and of the time asked for.

        An order is for its own subscription, whatever it says, and from who subscribed.
        """
        resource = self._declared(event) if event.version == 1 else None
        if resource is None:
            return False
        if nde.is_order(resource):
            reference = str(resource["basedOn"][0].get("reference", ""))
            return reference.rpartition("/")[2] == interest.subscription and event.author == interest.owner.client_id
        asked = parse_qs(interest.filter.query or "")
        happened = nde.event_time(resource)
        assert happened is not None  # checked when it was declared
        first, last = date_range(happened)
        declarants = {f"{system}|{value}" for system, value in nde.requesters_of(resource)}
        return (
            nde.event_type(resource, nde.DECLARED) == asked["event-type"][0]
            and (not asked.get("declarant") or not declarants.isdisjoint(asked["declarant"]))
            and date_range(asked["start"][0])[0] <= last
            and (interest.until is None or first < written(interest.until))
        )

    def message(
        self, subscription: Subscription, event: Event, person: Person, delivery: str, at: datetime
    ) -> bytes | None:
        """The order, from the declaration as the subscriber reads it now; its id is the same at every attempt."""
        body = self._resources().body(subscription.interest.owner, event, person, at)
        if body is None:
            return None
        resource: Mapping[str, Any] = fhir_json.loads(body)
        if nde.is_order(resource):
            return fhir_json.dumps(resource)
        base_url = subscription.base_url
        order = nde.order(
            resource,
            fhir_json.loads(subscription.body),
            id=str(uuid5(NAMESPACE_URL, f"{base_url}/Subscription/{delivery}")),
            based_on=f"{base_url}/{subscription.reference}",
            emitted=instant(event.at),
        )
        return fhir_json.dumps(order)

    def _declared(self, event: Event) -> Mapping[str, Any] | None:
        """The declaration as it is now; None if it is deleted, or is no declaration."""
        kind, _, id = event.reference.partition("/")
        key = ResourceKey.of(kind, id) if kind == nde.DECLARED else None
        stored = self._store.find_latest(key) if key else None
        if stored is None or stored.body is None:
            return None
        resource: Mapping[str, Any] = fhir_json.loads(stored.body)
        return resource if nde.is_declaration(resource) else None
