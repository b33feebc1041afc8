"""Subscriptions over HTTP: both families at one endpoint (Subscriptions R5 Backport, IHE PMIR ITI-94)."""

from __future__ import annotations

from typing import Protocol

from passerelle.access import Touched
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply, Wired
from passerelle.errors import Invalid
from passerelle.fhir import subscription as fhir
from passerelle.notifications.service import SubscriptionService


class WiredSubscriptions(Wired, Protocol):
    @property
    def subscriptions(self) -> SubscriptionService: ...


def serve_subscriptions(app: FhirApp) -> None:
    """Declare the routes of Subscription."""
    feed = ("ITI-94",)
    app.interaction("Subscription", "create", transactions=feed)(_create)
    app.interaction("Subscription", "read", transactions=feed)(_read)
    app.interaction("Subscription", "update", transactions=feed)(_update)
    app.interaction("Subscription", "delete", transactions=feed)(_end)
    app.operation("Subscription", "/{id}/$status", needs="r", method="GET", transaction="ITI-94")(_status)
    app.operation("Subscription", "/{id}/$events", needs="r", method="GET", transaction="ITI-94")(_events)


def _create(call: Call, wired: WiredSubscriptions) -> Reply:
    made = wired.subscriptions.subscribe(call.request, fhir.parse(call.resource))
    return Reply(status=201, body=fhir.render(made), touched=COMMITTED, headers=fhir.created_headers(made))


def _read(call: Call, wired: WiredSubscriptions) -> Reply:
    found = wired.subscriptions.get(call.request, call.id)
    touched = Touched.of([], [found.reference])
    return Reply(body=fhir.render(found), touched=touched, headers=fhir.version_headers(found))


def _update(call: Call, wired: WiredSubscriptions) -> Reply:
    draft = fhir.parse(call.resource)
    if call.resource.get("id") != call.id:
        place = "Subscription.id"
        raise Invalid("the id in the resource is not the one in the URL", code="invariant", expression=place)
    revised = wired.subscriptions.revise(call.request, call.id, draft, if_match=call.if_match)
    return Reply(body=fhir.render(revised), touched=COMMITTED, headers=fhir.version_headers(revised))


def _end(call: Call, wired: WiredSubscriptions) -> Reply:
    wired.subscriptions.unsubscribe(call.request, call.id)
    return Reply(body=fhir.ENDED, touched=COMMITTED)


def _status(call: Call, wired: WiredSubscriptions) -> Reply:
    asked = wired.subscriptions.status(call.request, call.id)
    return Reply(body=fhir.status_bundle(asked, call.request.at), touched=asked.touched)


def _events(call: Call, wired: WiredSubscriptions) -> Reply:
    caught_up = wired.subscriptions.events(call.request, call.id, *fhir.parse_range(call.one))
    return Reply(body=fhir.events_bundle(caught_up, call.request.at), touched=caught_up.touched)
