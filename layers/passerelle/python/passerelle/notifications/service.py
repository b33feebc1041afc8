"""What a subscriber does: subscribe, look at subscriptions, change one, end it, and catch up from its log.

A change is of the status, the endpoint and what is sent with each notification; what is subscribed to stays (contract
93-6, SUB-9):

    asked for    then
    requested    it starts again: handshake, then what the log holds beyond the last number delivered
    off          nothing is sent or numbered until it is `requested`
    as it is     nothing, but an active one with another endpoint starts again: the new one has to answer
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode

from passerelle.access import Caller, Request, Touched
from passerelle.audit.commands import account_of, once
from passerelle.audit.model import audit_of
from passerelle.errors import Forbidden, Gone, Invalid, NotFound, Stale, Unprocessable
from passerelle.identifiers import new_ulid
from passerelle.journal import Journal
from passerelle.notifications.audience import OWN_ROLES, feed_filter_of, filter_of, may_subscribe
from passerelle.notifications.endpoint import check_endpoint
from passerelle.notifications.insight import Moment
from passerelle.notifications.model import (
    Channel,
    Content,
    Filter,
    Interest,
    Notification,
    Subscription,
    SubscriptionCreation,
    SubscriptionDeletion,
    SubscriptionDraft,
    SubscriptionRevision,
    SubscriptionStatus,
)
from passerelle.notifications.offer import Offer
from passerelle.notifications.ports import NotificationPorts, Resources
from passerelle.notifications.signature import new_secret
from passerelle.notifications.topics import DECLARED, FEED, topic_named

MAX_EVENTS: Final = 100
"""Log entries in one answer; the next are asked for from there."""

MAX_RESOURCES: Final = 20
"""The same where each comes with its resource."""

MAX_RESOURCE_BYTES: Final = 3 * 1024 * 1024
"""Of the resources in one answer (AWS Lambda quotas: 6 MB, in JSON within JSON); one is told whatever its size."""

MAX_OWNED: Final = 200
"""Subscriptions of one owner: each event is compared with all that there are."""

MAX_CHOSEN: Final = 100
"""Subscriptions that one `$status` may name."""

SECRETS_OVERLAP: Final = timedelta(hours=24)
"""How long the former secret signs beside the new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtUp:
    """Part of a log, what it discloses, and the number of events since the start; `content` is what was asked for."""

    subscription: Subscription
    notifications: tuple[Notification, ...]
    total: int
    touched: Touched
    content: Content | None = None


class SubscriptionService:
    """`resources` is called when a resource has to be read: few ask for their content."""

    def __init__(
        self,
        ports: NotificationPorts,
        *,
        journal: Journal,
        resources: Callable[[], Resources],
        allow_loopback: bool,
        offer: Offer,
    ) -> None:
        self._subscriptions = ports.subscriptions
        self._log = ports.log
        self._deliveries = ports.deliveries
        self._people = ports.people
        self._record = ports.record
        self._ports = ports
        self._journal = journal
        self._resources = resources
        self._allow_loopback = allow_loopback
        self._offer = offer

    def subscribe(self, request: Request, draft: SubscriptionDraft) -> Subscription:
        """Create the subscription in status `requested` and order its handshake.

        Raises Unprocessable (`not-supported`) for a topic, filter or endpoint that is not offered.
        """
        subscription = once(
            self._journal,
            request,
            lambda: self._subscribe(request, draft),
            lambda kept: self.get(request, kept["id"]),
        )
        # After the commit: should this fail, the caller repeats the request, and any event of the topic
        # orders too.
        self._deliveries.start(subscription.id, subscription.version)
        return subscription

    def _subscribe(self, request: Request, draft: SubscriptionDraft) -> Subscription:
        if not may_subscribe(request.caller):
            raise Forbidden("this role may not subscribe")
        topic, filter_ = self._asked(request, draft)
        self._check_own(request, topic, filter_)
        self._check_channel(request, draft)
        if draft.status != SubscriptionStatus.REQUESTED:
            raise _no_such_status("a subscription starts in status requested")
        if self._subscriptions.number_owned_by(request.caller) >= MAX_OWNED:
            raise Unprocessable(f"nobody has more than {MAX_OWNED} subscriptions", code="too-costly")
        id_ = new_ulid(request.at)
        interest = Interest(
            subscription=id_,
            owner=request.caller,
            topic=topic,
            filter=filter_,
            since=request.at,
            until=draft.until,
        )
        subscription = Subscription(
            id=id_,
            version=1,
            at=request.at,
            status=SubscriptionStatus.REQUESTED,
            interest=interest,
            endpoint=draft.endpoint,
            headers=draft.headers,
            content=draft.content,
            secret=new_secret(),
            base_url=request.base_url,
            delivered=0,
            body=draft.body,
            channel=draft.channel,
            payload=draft.payload,
            pace=draft.pace,
        )
        kept: Mapping[str, Any] = {"id": id_}
        self._journal.commit(
            [
                SubscriptionCreation(subscription=subscription),
                *account_of(request, _touched(subscription), kept),
            ]
        )
        return subscription

    def _check_own(self, request: Request, topic: str, asked: Filter) -> None:
        """A patient is told of the own record: the filter has to name it."""
        if request.caller.role not in OWN_ROLES:
            return
        person = self._people.find_person(asked.patient) if asked.patient and topic != FEED else None
        if person is not None and person.is_erased:
            raise Gone("the person was erased")
        if person is None or self._record.hidden_from(request.caller, person, request.at)(f"Patient/{asked.patient}"):
            raise Unprocessable(
                "a patient subscribes to the own record, by the filter patient",
                code="not-supported",
                expression="Subscription.criteria",
            )

    def get(self, request: Request, id_: str) -> Subscription:
        """The caller's own subscription; anybody else's is NotFound: another user's of the same client, too."""
        subscription = self._subscriptions.find(id_)
        if subscription is None or not is_by(request.caller, subscription.interest.owner):
            raise NotFound()
        return subscription

    def revise(
        self, request: Request, id_: str, draft: SubscriptionDraft, *, if_match: int | None = None
    ) -> Subscription:
        """Change the caller's own subscription; order its handshake if it starts again.

        Raises Unprocessable when what is subscribed to would change, or for a status that a subscriber does not give;
        Stale when `if_match` is not its version, or it changes at the same time.
        """
        subscription = once(
            self._journal,
            request,
            lambda: self._revise(request, id_, draft, if_match),
            lambda kept: self.get(request, kept["id"]),
        )
        if subscription.status is SubscriptionStatus.REQUESTED:
            self._deliveries.start(id_, subscription.version)
        return subscription

    def _revise(self, request: Request, id_: str, draft: SubscriptionDraft, if_match: int | None) -> Subscription:
        before = self.get(request, id_)
        if if_match not in (None, before.version):
            raise Stale()
        after = self._revised(request, before, draft)
        changes = [] if after == before else [SubscriptionRevision(before=before, after=after)]
        self._journal.commit([*changes, *account_of(request, _touched(before), {"id": id_})])
        return after

    def _revised(self, request: Request, before: Subscription, draft: SubscriptionDraft) -> Subscription:
        interest = before.interest
        if (*self._asked(request, draft), draft.channel, draft.content) != (
            interest.topic,
            interest.filter,
            before.channel,
            before.content,
        ):
            raise Unprocessable(
                "what is subscribed to does not change: subscribe anew", code="not-supported", expression="Subscription"
            )
        self._check_channel(request, draft)
        if draft.status not in (before.status, SubscriptionStatus.OFF, SubscriptionStatus.REQUESTED):
            raise _no_such_status("a subscriber sets the status off or requested; the exchange sets the others")
        status = SubscriptionStatus(draft.status)
        if status is SubscriptionStatus.ACTIVE and draft.endpoint != before.endpoint:
            status = SubscriptionStatus.REQUESTED
        after = replace(
            before,
            status=status,
            interest=replace(interest, until=draft.until),
            endpoint=draft.endpoint,
            headers=draft.headers,
            payload=draft.payload,
            pace=draft.pace,
            body=draft.body,
            error=before.error if status is SubscriptionStatus.ERROR else "",
        )
        if after == before and status is not SubscriptionStatus.REQUESTED:
            return before
        if status is SubscriptionStatus.REQUESTED:
            after = replace(after, failures=0, failing_since=None)
        if before.status is SubscriptionStatus.OFF and status is SubscriptionStatus.REQUESTED:
            after = replace(after, interest=replace(after.interest, since=request.at))
        return replace(after, version=before.version + 1, at=request.at)

    def _asked(self, request: Request, draft: SubscriptionDraft) -> tuple[str, Filter]:
        """Topic and filter; raises Unprocessable for those that are not offered, and for somebody who is not known."""
        if draft.channel is Channel.MESSAGE:
            return FEED, feed_filter_of(draft.criteria)
        if draft.subjects:
            patient, _ = self._record.owner_among(request, draft.subjects, expression="Subscription.contained")
            return DECLARED, Filter(patient=patient, query=urlencode(draft.criteria))
        topic = topic_named(draft.topic)
        return topic, filter_of(topic, draft.criteria)

    def _check_channel(self, request: Request, draft: SubscriptionDraft) -> None:
        self._offer.check(request.caller, draft.channel, draft.endpoint)
        try:
            check_endpoint(draft.channel, draft.endpoint, allow_loopback=self._allow_loopback)
        except ValueError as fault:
            raise Unprocessable(str(fault), code="not-supported", expression="Subscription.channel.endpoint") from None

    def rotate_secret(self, request: Request, id_: str) -> Subscription:
        """Give the caller's own subscription a new secret; the one that it had signs for another day, beside it.

        Run again under the same Idempotency-Key it gives the secret that the subscription has now: the kept answer does
        not hold it. Raises Unprocessable where nothing is signed.
        """
        return once(
            self._journal,
            request,
            lambda: self._rotate_secret(request, id_),
            lambda kept: self.get(request, kept["id"]),
        )

    def _rotate_secret(self, request: Request, id_: str) -> Subscription:
        before = self.get(request, id_)
        if not before.channel.is_signed:
            raise Unprocessable("what the channel sends is not signed", code="not-supported")
        after = replace(
            before,
            secret=new_secret(),
            former_secret=before.secret,
            former_until=request.at + SECRETS_OVERLAP,
            version=before.version + 1,
            at=request.at,
        )
        self._journal.commit(
            [
                SubscriptionRevision(before=before, after=after),
                *account_of(request, _touched(before), {"id": id_}),
            ]
        )
        return after

    def unsubscribe(self, request: Request, id_: str) -> None:
        """End the caller's own subscription; a notification under way may still arrive."""
        subscription = self.get(request, id_)
        self._journal.commit(
            [
                SubscriptionDeletion(subscription=subscription),
                *audit_of(request, _touched(subscription)),
            ]
        )

    def owned(self, request: Request) -> list[Subscription]:
        """The caller's own subscriptions, the oldest first."""
        found = self._subscriptions.owned_by(request.caller)
        return sorted((each for each in found if is_by(request.caller, each.interest.owner)), key=lambda each: each.id)

    def status(self, request: Request, id_: str) -> CaughtUp:
        (found,) = self._statuses([self.get(request, id_)])
        return found

    def statuses(
        self, request: Request, ids: Sequence[str], statuses: Collection[SubscriptionStatus]
    ) -> list[CaughtUp]:
        """Of the caller's own subscriptions those named, or all; of these the ones in one of the statuses, if any."""
        if len(ids) > MAX_CHOSEN:
            raise Invalid(f"at most {MAX_CHOSEN} subscriptions may be named", code="too-costly")
        return self._statuses(
            [
                each
                for each in self.owned(request)
                if (not ids or each.id in ids) and (not statuses or each.status in statuses)
            ]
        )

    def _statuses(self, subscriptions: Sequence[Subscription]) -> list[CaughtUp]:
        last = self._log.last_numbers([each.id for each in subscriptions])
        return [
            CaughtUp(subscription=each, notifications=(), total=last[each.id], touched=_touched(each))
            for each in subscriptions
        ]

    def events(self, request: Request, id_: str, since: int, until: int | None, content: Content | None) -> CaughtUp:
        """The log from number `since` to `until`, both included, as far as one answer goes.

        An event that the caller may not see now is there by its number only, as everything is in an `empty` answer.
        More content than the subscription asked for may be had, too: it is read with the rights of this request.
        """
        subscription = self.get(request, id_)
        if since < 1 or (until is not None and until < since):
            raise Invalid("the range of event numbers is not valid", code="value")
        content = content or subscription.content
        total = self._log.last_number(id_)
        limit = MAX_RESOURCES if content is Content.FULL_RESOURCE else MAX_EVENTS
        entries = self._log.between(id_, since, min(until or total, total), limit=limit)
        shown = self._shown(request, subscription.interest, entries, content)
        events = [entry.event for entry in shown if entry.event is not None]
        return CaughtUp(
            subscription=subscription,
            notifications=tuple(shown),
            total=total,
            touched=Touched.of(
                [event.patient for event in events if event.patient],
                [subscription.reference, *(event.reference for event in events)],
            ),
            content=content,
        )

    def _shown(
        self, request: Request, interest: Interest, entries: Sequence[Notification], content: Content
    ) -> list[Notification]:
        """Entries as the caller may see them; of full resources, as many as an answer holds."""
        if content is Content.EMPTY:
            return [replace(entry, event=None) for entry in entries]
        moment, shown = Moment(self._ports, request.at), list[Notification]()
        insight = moment.of(request.caller)
        room = MAX_RESOURCE_BYTES
        for entry in entries:
            event = entry.event
            if event is None or not insight.may_know(event) or not insight.is_meant(interest, event):
                seen = replace(entry, event=None)
            elif content is Content.FULL_RESOURCE:
                body = self._resources().body(request.caller, event, moment.person(event), request.at)
                seen = replace(entry, resource=body)
            else:
                seen = entry
            room -= len(seen.resource or b"")
            if room < 0 and shown:
                break
            shown.append(seen)
        return shown


def is_by(caller: Caller, owner: Caller) -> bool:
    """Whether somebody is the owner. What a system subscribed to by itself is everybody's who sits at it."""
    same = (caller.client_id, caller.organisation, caller.patient, caller.person) == (
        *(owner.client_id, owner.organisation, owner.patient, owner.person),
    )
    return same and owner.professional in (None, caller.professional)


def _no_such_status(diagnostics: str) -> Unprocessable:
    return Unprocessable(diagnostics, code="value", expression="Subscription.status")


def _touched(subscription: Subscription) -> Touched:
    """A subscription to one person's record shows in that person's access log."""
    patient = subscription.interest.filter.patient
    return Touched.of([patient] if patient else [], [subscription.reference])
