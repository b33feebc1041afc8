"""Bring a subscription's log to its subscriber, in order, and judge the endpoint by its answers.

    requested   -> active   the handshake is answered 2xx
    requested   -> error    the handshake is answered otherwise, or not at all
    active      -> error    too many attempts in a row, or a whole day, without an acknowledgement
    either      -> off      the owner lost its rights

How somebody is told is a `Carrier`, chosen by the channel; what is due, who may know it now, and what follows from the
answer is decided here. A letter with a code is answered by its owner: such a subscription stays `requested`.

An order says "look at this subscription". Whoever has one reads the log on until nothing is left, so that one order is
enough for any backlog; what comes later is ordered anew (docs/adr/one-order-however-many-events.md). Orders of one
subscription never run at the same time, but for an urgent one that overtakes an order that waits for the morning. What
was told is acknowledged once a second; what could not be acknowledged is told again under the same numbers.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from passerelle.audit.model import AuditRecord
from passerelle.audit.ports import AuditTrail
from passerelle.errors import Busy, Unavailable, failure_of
from passerelle.events import Event
from passerelle.identifiers import new_ulid
from passerelle.notifications.audience import is_entitled
from passerelle.notifications.breaker import PROBED_WITHIN, Breaker
from passerelle.notifications.carriers import delivery_id
from passerelle.notifications.insight import Moment
from passerelle.notifications.model import (
    CONFIRMED,
    GIVEN_UP_AFTER,
    MAX_DELIVERY_ATTEMPTS,
    Channel,
    Content,
    HeldBackError,
    Notification,
    NotificationKind,
    Subscription,
    SubscriptionStatus,
    UndeliveredError,
    longest_pause,
)
from passerelle.notifications.pace import is_immediate, next_moment
from passerelle.notifications.ports import (
    ORDERED_ONCE_WITHIN,
    Breakers,
    Carrier,
    InParallel,
    NotificationPorts,
    Resources,
    one_by_one,
)
from passerelle.notifications.topics import is_urgent

KNOWN_FOR: Final = timedelta(seconds=1)
"""How old what is known of people and rights is when a notification is begun, at most."""

NOTED_WITHIN: Final = timedelta(seconds=1)
"""How long what was told is not acknowledged, at most, beside the notification under way: what a crash tells again."""

WORKS: Final = timedelta(seconds=20)
"""How long one order is worked on; the rest of the function's time is for the notification under way."""

MAX_RESOURCE_BYTES: Final = 1_000_000
"""Of all resources in one notification; what has no room is told by its id."""

_LONGEST_HOLD = timedelta(hours=11)  # SQS hides a message for twelve hours at most, from when it was received
_AHEAD = 20  # entries that are read at once, where each is told by itself
_GATHERED, _LETTER = 100, 1000  # entries of one digest, and of one letter, which says nothing of them
_SUSPECT = 6  # receives of an order before an entry that cannot be told is told without what makes it so
_ORIGINS = frozenset({Channel.REST_HOOK, Channel.MESSAGE, Channel.ORDER})  # whose endpoints share hosts with others'
_NOT_ITS_FAULT = (UndeliveredError, HeldBackError, Unavailable, Busy)  # says nothing about an entry


Incident = Callable[[str], None]
"""Counts one for the operator, who has an alarm on it; its name says what, never about whom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """`attempt` counts its receives; `receipt` is what it is put off by. `urgent` overtakes one that waits."""

    subscription: str
    attempt: int
    receipt: str
    urgent: bool = False


class Deliverer:
    """`resources` is called when one has to be read: most subscriptions want none. `zone` is that of times of day.

    `in_parallel` makes independent calls at once.
    """

    def __init__(
        self,
        ports: NotificationPorts,
        *,
        carriers: Mapping[Channel, Carrier],
        breakers: Breakers,
        resources: Callable[[], Resources],
        trail: AuditTrail,
        incident: Incident,
        now: Callable[[], datetime],
        zone: tzinfo,
        spread: Callable[[float, float], float] = random.uniform,
        in_parallel: InParallel = one_by_one,
    ) -> None:
        self._subscriptions = ports.subscriptions
        self._log = ports.log
        self._deliveries = ports.deliveries
        self._ports = ports
        self._carriers = carriers
        self._breakers = breakers
        self._resources = resources
        self._trail = trail
        self._incident = incident
        self._now = now
        self._zone = zone
        self._spread = spread
        self._in_parallel = in_parallel

    def deliver(self, order: Order) -> None:
        """Tell all that the log holds and was not told; nothing in status `error` or `off`.

        Raises UndeliveredError or HeldBackError when the order was put off: it has to stay in the queue.
        """
        moment = Moment(self._ports, self._now())
        subscription = self._served(order.subscription, moment)
        if subscription is None or (order.urgent and _waits_for_another(subscription, order)):
            return
        try:
            self._tell_all(subscription, order, moment)
        except HeldBackError as held:
            self._put_off(order, held.until - self._now())
            raise
        except UndeliveredError as failure:
            pause = self._pause_after(subscription, failure, self._now())
            if pause is None:
                return
            self._put_off(order, pause)
            raise

    def beat(self, subscription_id: str) -> None:
        """Show a subscriber that wants heartbeats that the exchange is there, if nothing was told for that long.

        Not tried again: the next one is due soon. Its failure counts as one of the endpoint.
        """
        at = self._now()
        subscription = self._served(subscription_id, Moment(self._ports, at))
        if subscription is None or subscription.status is not SubscriptionStatus.ACTIVE:
            return
        total = self._log.last_number(subscription.id)
        if total > subscription.delivered or not self._is_silent(subscription, at):
            return
        try:
            breaker = self._admitted(subscription, at)
            if breaker is not None:
                self._carrier(subscription).tell(subscription, NotificationKind.HEARTBEAT, (), total, at)
                self._subscriptions.answered(subscription, at)
                self._closed(subscription, breaker)
        except UndeliveredError as failure:
            self._pause_after(subscription, failure, at)
        except HeldBackError:
            return

    def _is_silent(self, subscription: Subscription, at: datetime) -> bool:
        """Whether it was told nothing for as long as it bears, and now is no time to be quiet."""
        pace = subscription.pace
        if pace.heartbeat is None or at - (subscription.told_at or subscription.at) < pace.heartbeat:
            return False
        return next_moment(replace(pace, digest_at=None), at, at, self._zone) is None

    def _served(self, subscription_id: str, moment: Moment) -> Subscription | None:
        """The subscription, if it is to be told anything."""
        subscription = self._subscriptions.find(subscription_id)
        if subscription is None or subscription.status in (SubscriptionStatus.ERROR, SubscriptionStatus.OFF):
            return None
        owner = subscription.interest.owner
        if is_entitled(owner, moment.of(owner).client):
            return subscription
        self._subscriptions.set_status(subscription, SubscriptionStatus.OFF, moment.at)
        return None

    def _tell_all(self, subscription: Subscription, order: Order, moment: Moment) -> None:
        """Whatever ends this, what was told is acknowledged; and what was acknowledged last, before the log is read.

        So the order for what is appended later is not dropped as the same as this one.
        """
        started = noted = at = self._now()
        if subscription.status is SubscriptionStatus.REQUESTED and not self._shake_hands(subscription, at):
            return
        breaker: Breaker | None = None
        entries: Sequence[Notification] = ()
        told = subscription.delivered
        try:
            while True:
                if not entries or at - noted >= NOTED_WITHIN:
                    subscription, noted = self._acknowledged(subscription, told, at), at
                entries = entries or self._due(subscription, order, at)
                if not entries:
                    return
                if at - started >= WORKS:
                    subscription = self._acknowledged(subscription, told, at)
                    self._deliveries.order(subscription.id, subscription.delivered, urgent=order.urgent)
                    return
                breaker = breaker or self._admitted(subscription, at)
                if breaker is None:
                    return
                if at - moment.at >= KNOWN_FOR:
                    moment = Moment(self._ports, at)
                self._look_up(subscription, entries, moment)
                told = self._tell(subscription, entries[: _most(subscription)], order, moment, at)
                breaker = self._closed(subscription, breaker)
                entries = [each for each in entries if each.number > told]
                at = self._now()
        except Exception:
            self._acknowledged(subscription, told, at)
            raise

    def _look_up(self, subscription: Subscription, entries: Sequence[Notification], moment: Moment) -> None:
        """Read at once what is asked of several people, instead of one after another; what fails is asked again."""
        insight = moment.of(subscription.interest.owner)
        events = [each.event for each in entries if each.event is not None and not insight.has_looked_up(each.event)]
        people = {each.patient: each for each in reversed(events)}
        if len(people) > 1 and subscription.content is not Content.EMPTY:
            self._in_parallel(*(partial(failure_of, insight.look_up, each) for each in people.values()))

    def _acknowledged(self, subscription: Subscription, number: int, at: datetime) -> Subscription:
        if number == subscription.delivered:
            return subscription
        self._subscriptions.acknowledge(subscription, number, at)
        # Not `told_at`: what has no room in a digest follows at once.
        return replace(subscription, delivered=number, failures=0, failing_since=None)

    def _due(self, subscription: Subscription, order: Order, at: datetime) -> Sequence[Notification]:
        """What is to be told next; raises HeldBackError if there is something, and this is not the time."""
        most, pace = _most(subscription), subscription.pace
        if is_immediate(pace):
            limit = most if subscription.failures else max(most, _AHEAD)
            return self._log.beyond(subscription.id, subscription.delivered, limit=limit)
        waiting = self._log.beyond(subscription.id, subscription.delivered)
        if not waiting:
            return ()
        # What was numbered late, after the digest of the day, is for the next one.
        since = max(waiting[0].at, subscription.told_at or waiting[0].at)
        until = next_moment(pace, since, at, self._zone)
        if until is None:
            return waiting[:most]
        topic = subscription.interest.topic
        urgent = [place for place, each in enumerate(waiting) if each.event and is_urgent(each.event, topic)]
        if urgent:
            return waiting[: min(most, urgent[-1] + 1)]
        if order.urgent:
            return ()
        raise HeldBackError(until)

    # --- one notification -------------------------------------------------------------------------------------------

    def _shake_hands(self, subscription: Subscription, at: datetime) -> bool:
        """Whether it is active now. Tried once: whoever asked for it is there, and asks again."""
        total = self._log.last_number(subscription.id)
        try:
            self._carrier(subscription).tell(subscription, NotificationKind.HANDSHAKE, (), total, at)
        except UndeliveredError as failure:
            self._judge_origin(subscription, failure, at)
            self._subscriptions.set_status(subscription, SubscriptionStatus.ERROR, at, error=_reported(failure))
            return False
        self._closed(subscription, self._breaker(subscription))
        if subscription.channel in CONFIRMED:
            self._subscriptions.answered(subscription, at)
            return False
        self._subscriptions.set_status(subscription, SubscriptionStatus.ACTIVE, at)
        return True

    def _tell(
        self, subscription: Subscription, entries: Sequence[Notification], order: Order, moment: Moment, at: datetime
    ) -> int:
        """Tell these entries, or the first of them, as the subscriber may know them now; the last number told.

        A letter tells no numbers: there is none where nothing may be known any more.
        """
        if subscription.channel in CONFIRMED:
            known = (each for each in entries if each.event and self._is_known(subscription, each.event, moment))
            if next(known, None) is None:
                return entries[-1].number
        try:
            self._send(subscription, [self._in_full(subscription, entry, moment, at) for entry in entries], at)
            return entries[-1].number
        except _NOT_ITS_FAULT:
            raise
        except Exception:  # whatever is wrong with an entry, those behind it have to come through
            if order.attempt < _SUSPECT:
                raise
        self._isolate(subscription, entries[0], moment, at)
        return entries[0].number

    def _isolate(self, subscription: Subscription, entry: Notification, moment: Moment, at: datetime) -> None:
        """Tell one entry as it was asked for; if it is the one that cannot be, by its id; else by its number."""
        try:
            self._send(subscription, [self._in_full(subscription, entry, moment, at)], at)
            return
        except _NOT_ITS_FAULT:
            raise
        except Exception:  # noqa: BLE001 - as above
            self._incident("notification-without-content")
        try:
            self._send(subscription, [self._known(subscription, entry, moment)], at)
        except _NOT_ITS_FAULT:
            raise
        except Exception:  # noqa: BLE001 - as above; if the number cannot be told either, the fault is in no entry
            self._send(subscription, [replace(entry, event=None)], at)

    def _known(self, subscription: Subscription, entry: Notification, moment: Moment) -> Notification:
        """An entry without its event, if that may no longer be seen, or was not asked for.

        The number of a notification is still told, so that its absence tells nothing either.
        """
        event = entry.event if subscription.content is not Content.EMPTY else None
        is_known = event is not None and self._is_known(subscription, event, moment)
        return entry if is_known else replace(entry, event=None)

    def _is_known(self, subscription: Subscription, event: Event, moment: Moment) -> bool:
        """Whether the subscriber is still to know of an event, and may: nobody is told by a standing that has ended."""
        insight = moment.of(subscription.interest.owner)
        return insight.may_know(event) and insight.is_meant(subscription.interest, event)

    def _in_full(self, subscription: Subscription, entry: Notification, moment: Moment, at: datetime) -> Notification:
        known = self._known(subscription, entry, moment)
        if subscription.content is not Content.FULL_RESOURCE or known.event is None:
            return known
        owner = subscription.interest.owner
        return replace(known, resource=self._resources().body(owner, known.event, moment.person(known.event), at))

    def _send(self, subscription: Subscription, entries: Sequence[Notification], at: datetime) -> None:
        entries = _limited(entries)
        delivery = delivery_id(subscription, NotificationKind.EVENT, entries, at)
        told = [_disclosure(subscription, each.event, delivery, at) for each in entries if each.event is not None]
        if told:
            self._trail.append(told)
        active = replace(subscription, status=SubscriptionStatus.ACTIVE)
        self._carrier(subscription).tell(active, NotificationKind.EVENT, entries, entries[-1].number, at)

    def _carrier(self, subscription: Subscription) -> Carrier:
        return self._carriers[subscription.channel]

    # --- what follows from the answer -------------------------------------------------------------------------------

    def _pause_after(self, subscription: Subscription, failure: UndeliveredError, at: datetime) -> timedelta | None:
        """Count a failure: how long to wait before the next attempt, None if there is none."""
        self._judge_origin(subscription, failure, at)
        current = self._subscriptions.find(subscription.id)  # as it is since what was acknowledged before
        if current is None:
            return None
        failures = self._subscriptions.count_failure(current, at)
        if failure.is_final or failures >= MAX_DELIVERY_ATTEMPTS or _is_over(current, at):
            self._give_up(current.id, failure, at)
            return None
        return timedelta(seconds=self._spread(0, longest_pause(failures).total_seconds()))

    def _give_up(self, subscription_id: str, failure: UndeliveredError, at: datetime) -> None:
        current = self._subscriptions.find(subscription_id)
        if current is not None and current.status is SubscriptionStatus.ACTIVE:
            self._subscriptions.set_status(current, SubscriptionStatus.ERROR, at, error=_reported(failure))
            self._incident("subscription-in-error")

    def _put_off(self, order: Order, pause: timedelta) -> None:
        pause = min(pause, _LONGEST_HOLD)
        if pause > ORDERED_ONCE_WITHIN and not order.urgent:  # noted first: one that is not put off comes back soon
            self._subscriptions.hold(order.subscription, self._now() + pause)
        self._deliveries.postpone(order.receipt, max(0, math.ceil(pause.total_seconds())))

    # --- the breaker of the origin ----------------------------------------------------------------------------------

    def _admitted(self, subscription: Subscription, at: datetime) -> Breaker | None:
        """The breaker, if the endpoint may be tried; None if the subscription was given up.

        Raises HeldBackError while it is open. To wait for it is no attempt, but nobody waits for longer than a day.
        """
        origin, breaker = _shared_origin(subscription), self._breaker(subscription)
        if origin is None or breaker.is_closed:
            return breaker
        if not breaker.is_open(at) and self._breakers.take_probe(origin, breaker, at + PROBED_WITHIN):
            return breaker
        if _is_over(subscription, at):
            self._give_up(subscription.id, UndeliveredError("unreachable"), at)
            return None
        if subscription.failing_since is None:
            self._subscriptions.mark_failing(subscription, at)
        until = breaker.until if breaker.is_open(at) and breaker.until else at
        raise HeldBackError(until + timedelta(seconds=self._spread(0, PROBED_WITHIN.total_seconds())))

    def _breaker(self, subscription: Subscription) -> Breaker:
        origin = _shared_origin(subscription)
        return self._breakers.find(origin) if origin is not None else Breaker()

    def _closed(self, subscription: Subscription, breaker: Breaker) -> Breaker:
        origin = _shared_origin(subscription)
        if origin is not None and breaker.failures:
            self._breakers.close(origin)
        return Breaker()

    def _judge_origin(self, subscription: Subscription, failure: UndeliveredError, at: datetime) -> None:
        origin, breaker = _shared_origin(subscription), self._breaker(subscription)
        if origin is not None and failure.is_answer:
            self._closed(subscription, breaker)
        elif origin is not None:
            self._breakers.count_failure(origin, breaker.open_until(at), at)


def _most(subscription: Subscription) -> int:
    """Entries of one notification, at most."""
    if subscription.channel in (Channel.MESSAGE, Channel.ORDER):
        return 1  # a message carries one Patient, an order one event
    if subscription.channel in (Channel.EMAIL, Channel.SMS):
        return _LETTER
    most = subscription.pace.max_count
    return _GATHERED if subscription.pace.digest_at is not None and most == 1 else most


def _waits_for_another(subscription: Subscription, order: Order) -> bool:
    """Whether the ordinary order will tell what is urgent: the handshake is to come, or it tries again and again."""
    if subscription.status is SubscriptionStatus.REQUESTED:
        return True
    return order.attempt == 1 and subscription.failures > 0


def _is_over(subscription: Subscription, at: datetime) -> bool:
    return subscription.failing_since is not None and at - subscription.failing_since >= GIVEN_UP_AFTER


def _limited(entries: Sequence[Notification]) -> list[Notification]:
    """The entries, with as many of their resources as there is room for."""
    room, limited = MAX_RESOURCE_BYTES, []
    for entry in entries:
        size = len(entry.resource or b"")
        limited.append(entry if size <= room else replace(entry, resource=None))
        room -= size if size <= room else 0
    return limited


def _reported(failure: UndeliveredError) -> str:
    return f"the endpoint did not acknowledge: {failure.reason}"


def _disclosure(subscription: Subscription, event: Event, delivery: str, at: datetime) -> AuditRecord:
    """The record of telling the subscriber that a resource changed (law 5: stored before it is sent)."""
    owner = subscription.interest.owner
    return AuditRecord(
        id=f"{event.patient}-{new_ulid(at)}" if event.patient else new_ulid(at),
        at=at,
        name="notification",
        action="R",
        outcome="0",
        client_id=owner.client_id,
        organisation=owner.organisation,
        role=owner.role,
        professional=owner.professional,
        token_id=owner.token_id,
        request_id=delivery,
        patient=event.patient,
        references=(event.reference, subscription.reference),
        address=_origin(subscription.endpoint),
        recipient=_origin(subscription.endpoint),
    )


def _shared_origin(subscription: Subscription) -> str | None:
    return _origin(subscription.endpoint) if subscription.channel in _ORIGINS else None


def _origin(endpoint: str) -> str:
    """Where a notification goes, without what a path, a query or the name of a mailbox may tell."""
    target = urlsplit(endpoint)
    return f"{target.scheme}://{target.netloc.rpartition('@')[2]}" if target.netloc else target.scheme
