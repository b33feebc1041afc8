"""Subscription: create, read, end, and its `$status` and `$events` (Subscriptions R5 Backport)."""

from __future__ import annotations

from passerelle import wiring
from passerelle.access import Touched
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply
from passerelle.fhir import subscription as fhir

handler = FhirApp("subscriptions", provide=wiring.subscriptions)


@handler.interaction("Subscription", "create")
def create(call: Call, wired: wiring.SubscriptionsWiring) -> Reply:
    made = wired.subscriptions.subscribe(call.request, fhir.parse(call.resource))
    return Reply(status=201, body=fhir.render(made), touched=COMMITTED, headers=fhir.created_headers(made))


@handler.interaction("Subscription", "read")
def read(call: Call, wired: wiring.SubscriptionsWiring) -> Reply:
    found = wired.subscriptions.get(call.request, call.id)
    return Reply(body=fhir.render(found), touched=Touched.of([], [found.reference]))


@handler.interaction("Subscription", "delete")
def end(call: Call, wired: wiring.SubscriptionsWiring) -> Reply:
    wired.subscriptions.unsubscribe(call.request, call.id)
    return Reply(body=fhir.ENDED, touched=COMMITTED)


@handler.operation("Subscription", "/{id}/$status", needs="r", method="GET")
def status(call: Call, wired: wiring.SubscriptionsWiring) -> Reply:
    asked = wired.subscriptions.status(call.request, call.id)
    return Reply(body=fhir.status_bundle(asked, call.request.at), touched=asked.touched)


@handler.operation("Subscription", "/{id}/$events", needs="r", method="GET")
def events(call: Call, wired: wiring.SubscriptionsWiring) -> Reply:
    caught_up = wired.subscriptions.events(call.request, call.id, *fhir.parse_range(call.one))
    return Reply(body=fhir.events_bundle(caught_up, call.request.at), touched=caught_up.touched)
