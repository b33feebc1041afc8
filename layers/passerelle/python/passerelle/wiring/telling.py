"""Notifications: who subscribed, what happened, who is to be told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from passerelle.aws.audit import DynamoAuditIndex
from passerelle.wiring import auditing, http, people, prescribing, process, record, stores

if TYPE_CHECKING:
    from passerelle.aws.bus import SqsDeliveries
    from passerelle.events import Event
    from passerelle.fhir.event_orders import FhirEventOrders
    from passerelle.fhir.patient_feed import FhirPatientFeed
    from passerelle.fhir.subscribed_resources import SubscribedResources
    from passerelle.notifications.accesses import AccessHerald
    from passerelle.notifications.confirmation import Confirmations, ConfirmationService
    from passerelle.notifications.dispatch import Dispatcher
    from passerelle.notifications.offer import Offer
    from passerelle.notifications.ports import Feed, NotificationPorts
    from passerelle.notifications.reconciling import Reconciler
    from passerelle.notifications.relaying import Relay
    from passerelle.notifications.service import SubscriptionService


@cache
def deliveries() -> SqsDeliveries:
    from passerelle.aws.bus import SqsDeliveries

    return SqsDeliveries(process.aws("sqs"), process.environment().deliveries_queue_url)


@cache
def notification_ports() -> NotificationPorts:
    from passerelle.aws.notifications import DynamoNotificationLog, DynamoSubscriptions
    from passerelle.fhir.happenings import RecordTurns
    from passerelle.notifications.ports import NotificationPorts

    return NotificationPorts(
        subscriptions=DynamoSubscriptions(process.dynamodb(), process.table_names()),
        log=DynamoNotificationLog(process.dynamodb(), process.table_names()),
        deliveries=deliveries(),
        clients=stores.clients(),
        people=stores.patient_index(),
        record=record.gate(),
        turns=RecordTurns(stores.record_store(), history=lambda id: stores.prescription_store().history(id)),
        shows_access=lambda caller, id, at: auditing.audit_service().shows(caller, id, at),
        shows_prescription=lambda caller, id, at: prescribing.prescription_service().shows(caller, id, at),
    )


@cache
def subscribed_resources() -> SubscribedResources:
    from passerelle.fhir.subscribed_resources import SubscribedResources

    return SubscribedResources(
        patients=people.patient_reader(),
        records=record.record_service(),
        prescriptions=prescribing.prescription_service,
        disclosure=http.disclosure(),
    )


@cache
def patient_feed() -> FhirPatientFeed:
    from passerelle.fhir.patient_feed import FhirPatientFeed

    return FhirPatientFeed(people.patient_store())


@cache
def event_orders() -> FhirEventOrders:
    from passerelle.fhir.event_orders import FhirEventOrders

    return FhirEventOrders(stores.record_store(), subscribed_resources)


@cache
def partner_queues() -> frozenset[tuple[str, str]]:
    """The queues that the operator gave to clients: (client id, ARN)."""
    return frozenset((each["client_id"], each["arn"]) for each in json.loads(process.environment().partner_queues))


@cache
def offer() -> Offer:
    """The ways of being told that the operator set up."""
    from passerelle.notifications.model import Channel
    from passerelle.notifications.offer import WEBHOOKS, Offer

    set_up = {
        Channel.EMAIL: process.environment().mail_sender,
        Channel.SMS: process.environment().sms_sender,
        Channel.QUEUE: partner_queues(),
        Channel.MAILBOX: process.environment().mssante,
    }
    return Offer(
        channels=WEBHOOKS | {channel for channel, given in set_up.items() if given}, partner_queues=partner_queues()
    )


@cache
def confirmations() -> Confirmations:
    from passerelle.aws.allowances import DynamoAllowances
    from passerelle.notifications.confirmation import Confirmations

    return Confirmations(
        lambda namespace, value: process.blinder().blind(namespace, value),
        DynamoAllowances(process.dynamodb(), process.table_names()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionsWiring(http.HttpWiring):
    subscriptions: SubscriptionService

    @property
    def confirmations(self) -> ConfirmationService:
        from passerelle.notifications.confirmation import ConfirmationService

        return ConfirmationService(
            notification_ports(), journal=stores.journal(), confirmations=confirmations(), find=self.subscriptions.get
        )


@cache
def subscriptions() -> SubscriptionsWiring:
    from passerelle.notifications.service import SubscriptionService

    service = SubscriptionService(
        notification_ports(),
        journal=stores.journal(),
        resources=subscribed_resources,
        allow_loopback=process.allows_loopback(),
        offer=offer(),
    )
    return SubscriptionsWiring(trail=stores.trail(), subscriptions=service)


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueWiring:
    index: DynamoAuditIndex
    herald: AccessHerald
    record_of: Callable[[Mapping[str, Any]], Mapping[str, Any]]


def catalogue() -> CatalogueWiring:
    """A new AccessHerald each time: what it reads holds for one batch."""
    from passerelle.aws.audit import streamed
    from passerelle.aws.bus import EventBridgeBus
    from passerelle.notifications.accesses import AccessHerald

    herald = AccessHerald(
        subscriptions=stores.subscriptions_store(),
        people=stores.patient_index(),
        bus=EventBridgeBus(process.aws("events"), process.environment().event_bus),
    )
    return CatalogueWiring(index=stores.audit_index(), herald=herald, record_of=streamed)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayWiring:
    relay: Relay
    events_of: Callable[[Mapping[str, Any]], list[Event]]


@cache
def relay() -> RelayWiring:
    from passerelle.aws.bus import EventBridgeBus
    from passerelle.aws.dynamodb import in_parallel
    from passerelle.aws.notifications import outbox_events
    from passerelle.notifications.relaying import Relay

    bus = EventBridgeBus(process.aws("events"), process.environment().event_bus)
    return RelayWiring(relay=Relay(bus, in_parallel=in_parallel), events_of=outbox_events)


@cache
def dispatcher() -> Dispatcher:
    from passerelle.aws.dynamodb import in_parallel
    from passerelle.notifications.dispatch import Dispatcher
    from passerelle.notifications.topics import DECLARED, FEED

    feeds: dict[str, Callable[[], Feed]] = {FEED: patient_feed, DECLARED: event_orders}
    return Dispatcher(notification_ports(), feeds=feeds, in_parallel=in_parallel)


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchWiring:
    dispatcher: Dispatcher
    event_of: Callable[[Mapping[str, Any]], Event]
    now: Callable[[], datetime] = process.now


@cache
def dispatch() -> DispatchWiring:
    from passerelle.aws.notifications import envelope_event

    return DispatchWiring(dispatcher=dispatcher(), event_of=envelope_event)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileWiring:
    reconciler: Reconciler
    now: Callable[[], datetime] = process.now


@cache
def reconcile() -> ReconcileWiring:
    from passerelle.aws.reconciling import DynamoOutbox, DynamoSilences
    from passerelle.notifications.reconciling import Reconciler

    ports = notification_ports()
    reconciler = Reconciler(
        outbox=DynamoOutbox(process.dynamodb(), process.table_names()),
        silences=DynamoSilences(process.dynamodb(), process.table_names()),
        audience=dispatcher(),
        subscriptions=ports.subscriptions,
        log=ports.log,
        deliveries=ports.deliveries,
        incident=process.incident(),
    )
    return ReconcileWiring(reconciler=reconciler)
