"""Subscriptions and their logs on DynamoDB, and events read from the stream and the queue.

    operations  S#<id>                      S             subscription: status, endpoint, secret, delivered
    operations  SO#<blinded owner>          <id>          what its owner finds it by
    operations  U#<topic>#<patient key|*>   <id>          interest: read to find who is concerned
    operations  N#<id>                      HEAD          last: number of the newest entry of the log
    operations  N#<id>                      #<9 digits>   entry of the log: event, ttl
    operations  N#<id>                      E#<event id>  number that the event has, ttl
    operations  B#<blinded origin>          B             breaker: failures, until; ttl

What a subscription to one patient's record says, and who owns it, may tell who the patient is: both are sealed under
the data key of the record (`keys.py`), and such a subscription is not found any more once that is destroyed. What
narrows a patient feed may be somebody's identifier: it is sealed under a key of the exchange.

Entries, their numbers and the head are one transaction, so numbers have no gap and an event no second number.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, time, timedelta
from functools import partial
from itertools import islice
from typing import Any, Final

from passerelle.access import Caller, Scopes
from passerelle.aws.dynamodb import Action, DynamoDb, Item, Key, delete, delete_if, in_parallel, put, update
from passerelle.aws.dynamodb import from_attributes as item_from_attributes
from passerelle.aws.journal import TableNames, actions_of, event_from_map, event_to_map
from passerelle.aws.keys import opened, place_of
from passerelle.aws.reconciling import HEARTBEATS, heartbeat_item
from passerelle.aws.sealing import Sealer
from passerelle.errors import Busy, Fault, NotFound, Stale
from passerelle.events import Event
from passerelle.identifiers import Blinder
from passerelle.notifications.breaker import Breaker
from passerelle.notifications.model import (
    GIVEN_UP_AFTER,
    LOG_KEPT,
    Channel,
    Content,
    Filter,
    Interest,
    Notification,
    Pace,
    Subscription,
    SubscriptionCreation,
    SubscriptionDeletion,
    SubscriptionRevision,
    SubscriptionStatus,
)
from passerelle.notifications.pace import is_immediate
from passerelle.notifications.ports import Progress

_LAST = 999_999_999  # what nine digits hold
_APPENDED = 40  # events of one transaction: two actions each, and one in all, of a hundred
_RACES = 12  # attempts to get a number while other dispatchers number events of the same subscription


def outbox_events(record: Mapping[str, Any]) -> list[Event]:
    """The events of a stream record: those of a new outbox item, none of an item that expired."""
    image = record["dynamodb"].get("NewImage")
    return [event_from_map(form) for form in item_from_attributes(image)["events"]] if image else []


def envelope_event(envelope: Mapping[str, Any]) -> Event:
    """The event in an EventBridge envelope."""
    return event_from_map(envelope["detail"])


class DynamoSubscriptions:
    """`notifications.ports.Subscriptions`."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._tables = tables
        self._table = tables.operations
        self._blinder = tables.blinder

    def find(self, id: str) -> Subscription | None:
        item = self._dynamodb.get(self._table, (f"S#{id}", "S"))
        plain = _opened(item, self._tables) if item else None
        return subscription_from_item(plain) if plain else None

    def owned_by(self, owner: Caller) -> Sequence[Subscription]:
        pointers = self._dynamodb.query_all(self._table, _owner_key(owner, self._blinder()))
        items = self._dynamodb.get_many(self._table, [(f"S#{each['SK']}", "S") for each in pointers])
        found = (_opened(item, self._tables) for item in items.values())
        return [subscription_from_item(plain) for plain in found if plain is not None]

    def number_owned_by(self, owner: Caller) -> int:
        return sum(1 for _ in self._dynamodb.query_all(self._table, _owner_key(owner, self._blinder())))

    def interests(self, topics: Iterable[str], patients: Sequence[str]) -> Sequence[Interest]:
        keys = [f"U#{topic}#{patient}" for topic in topics for patient in ("*", *patients)]
        pages = in_parallel(*(lambda key=key: list(self._dynamodb.query_all(self._table, key)) for key in keys))
        found = (_opened(item, self._tables) for items in pages for item in items)
        return [interest_from_item(item) for item in found if item is not None]

    def is_awaited(self, topic: str, patients: Sequence[str]) -> bool:
        keys = [f"U#{topic}#{patient}" for patient in patients]
        pages = in_parallel(*(partial(self._dynamodb.query, self._table, key, limit=1) for key in keys))
        return any(items for items, _ in pages)

    def set_status(
        self, subscription: Subscription, status: SubscriptionStatus, at: datetime, *, error: str = ""
    ) -> None:
        changed = "SET #status = :status, #at = :at, version = :next, #error = :error"
        values: dict[str, Any] = {
            ":status": status.value,
            ":error": error,
            ":at": at.isoformat(),
            ":next": subscription.version + 1,
            ":read": subscription.version,
        }
        if status is SubscriptionStatus.ACTIVE:
            changed += ", failures = :none, failing_since = :never, told_at = :at"
            values |= {":none": 0, ":never": None}
        self._dynamodb.change(
            update(
                self._table,
                (f"S#{subscription.id}", "S"),
                changed,
                values,
                names={"#status": "status", "#at": "at", "#error": "error"},
                condition="version = :read",
                lost=lambda _: Stale(),
            )
        )

    def progress(self, id: str) -> Progress | None:
        item = self._dynamodb.get(self._table, (f"S#{id}", "S"))
        if item is None or item["status"] in (SubscriptionStatus.ERROR, SubscriptionStatus.OFF):
            return None
        return Progress(
            delivered=item["delivered"],
            is_paced=not is_immediate(_pace_from_map(item["pace"])),
            held_until=_instant(item.get("held_until")),
        )

    def acknowledge(self, subscription: Subscription, number: int, at: datetime) -> None:
        # An invocation that outlived its order may acknowledge what another one did.
        self._note(
            subscription.id,
            f"{_ANSWERED}, delivered = :number",
            {":none": 0, ":never": None, ":at": at.isoformat(), ":number": number},
            condition="delivered < :number",
        )

    def answered(self, subscription: Subscription, at: datetime) -> None:
        self._note(subscription.id, _ANSWERED, {":none": 0, ":never": None, ":at": at.isoformat()})

    def count_failure(self, subscription: Subscription, at: datetime) -> int:
        since = subscription.failing_since or at
        changed = self._note(
            subscription.id,
            "SET failures = failures + :one, failing_since = :since",
            {":one": 1, ":since": since.isoformat()},
        )
        return int(changed["failures"]) if changed is not None else 0

    def hold(self, id: str, until: datetime) -> None:
        self._note(id, "SET held_until = :until", {":until": until.isoformat()})

    def mark_failing(self, subscription: Subscription, at: datetime) -> None:
        self._note(subscription.id, "SET failing_since = :since", {":since": at.isoformat()})

    def _note(
        self,
        id: str,
        expression: str,
        values: Mapping[str, Any],
        *,
        condition: str = "attribute_exists(PK)",
    ) -> Item | None:
        """Change what deliveries write, which is no version of the subscription; None if it was deleted meanwhile."""
        key = (f"S#{id}", "S")
        try:
            return self._dynamodb.change(
                update(self._table, key, expression, values, condition=condition, lost=lambda _: Stale())
            )
        except Stale:
            return None


_ANSWERED: Final = "SET told_at = :at, failures = :none, failing_since = :never"


class _TakenError(Exception):
    """Somebody else tries already."""


class DynamoBreakers:
    """`notifications.ports.Breakers`: an item for each origin that failed of late, under its keyed hash."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._tables = tables

    def _key(self, origin: str) -> Key:
        return f"B#{self._tables.blinder().blind('origin', origin)}", "B"

    def find(self, origin: str) -> Breaker:
        item = self._dynamodb.get(self._tables.operations, self._key(origin)) or {}
        return Breaker(failures=item.get("failures", 0), until=_instant(item.get("until")))

    def count_failure(self, origin: str, open_until: datetime | None, at: datetime) -> None:
        values: dict[str, Any] = {":one": 1, ":ttl": int((at + 2 * GIVEN_UP_AFTER).timestamp())}
        opened = ""
        if open_until is not None:
            opened, values = ", #until = :until", {**values, ":until": open_until.isoformat()}
        names = {"#until": "until"} if open_until is not None else {}
        self._change(origin, f"SET #ttl = :ttl{opened} ADD failures :one", values, {**names, "#ttl": "ttl"})

    def take_probe(self, origin: str, breaker: Breaker, until: datetime) -> bool:
        values: dict[str, Any] = {":until": until.isoformat()}
        condition = "attribute_not_exists(#until)"
        if breaker.until is not None:
            condition, values = "#until = :read", {**values, ":read": breaker.until.isoformat()}
        try:
            self._change(origin, "SET #until = :until", values, {"#until": "until"}, condition=condition)
        except _TakenError:
            return False
        return True

    def close(self, origin: str) -> None:
        self._change(origin, "SET failures = :none REMOVE #until", {":none": 0}, {"#until": "until"})

    def _change(
        self,
        origin: str,
        expression: str,
        values: Mapping[str, Any],
        names: Mapping[str, str],
        *,
        condition: str | None = None,
    ) -> None:
        self._dynamodb.change(
            update(
                self._tables.operations,
                self._key(origin),
                expression,
                values,
                names=names,
                condition=condition,
                lost=lambda _: _TakenError(),
            )
        )


class _Numbered(Exception):  # noqa: N818 - a turn of events, not an error
    """One of the events is in the log already."""


class _Overtaken(Exception):  # noqa: N818
    """Another event took the number."""


class DynamoNotificationLog:
    """`notifications.ports.NotificationLog`."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._table = tables.operations

    def append(self, subscription: str, events: Sequence[Event]) -> Sequence[int] | None:
        numbers: dict[str, int] = {}
        for start in range(0, len(events), _APPENDED):
            some = self._appended(subscription, events[start : start + _APPENDED])
            if some is None:
                return None
            numbers |= some
        return [numbers[each.id] for each in events]

    def _appended(self, subscription: str, events: Sequence[Event]) -> Mapping[str, int] | None:
        """Their numbers, by the ids of the events."""
        new: dict[str, Event] = {each.id: each for each in events}
        numbers: Mapping[str, int] = {}
        for _ in range(_RACES):
            last = self._last(subscription)
            if last is None:
                return None
            try:
                self._dynamodb.transact(self._append(subscription, list(new.values()), last))
            except _Numbered:
                numbers = self.numbers(subscription, events)
                new = {id: each for id, each in new.items() if id not in numbers}
                if not new:
                    return numbers
            except _Overtaken:
                continue
            else:
                return {**numbers, **{id: number for number, id in enumerate(new, last + 1)}}
        raise Busy(headers={"Retry-After": "1"})

    def _append(self, subscription: str, events: Sequence[Event], last: int) -> list[Action]:
        """What tells that events have numbers comes first: of two lost conditions, the first in order is reported."""
        pk = f"N#{subscription}"
        numbered = [
            (number, each, int((each.at + LOG_KEPT).timestamp())) for number, each in enumerate(events, last + 1)
        ]
        known = [{"PK": pk, "SK": f"E#{each.id}", "number": number, "ttl": ttl} for number, each, ttl in numbered]
        entries = [
            {"PK": pk, "SK": _entry_key(number), "event": event_to_map(each), "ttl": ttl}
            for number, each, ttl in numbered
        ]
        return [
            *(put(self._table, item, unless_exists=lambda _: _Numbered()) for item in known),
            update(
                self._table,
                (pk, "HEAD"),
                "SET #last = :number",
                {":number": last + len(events), ":previous": last},
                names={"#last": "last"},
                condition="#last = :previous",
                lost=lambda _: _Overtaken(),
            ),
            *(put(self._table, item, unless_exists=lambda _: Fault()) for item in entries),
        ]

    def numbers(self, subscription: str, events: Sequence[Event]) -> Mapping[str, int]:
        found = self._dynamodb.get_many(self._table, [(f"N#{subscription}", f"E#{each.id}") for each in events])
        return {sk.removeprefix("E#"): int(item["number"]) for (_, sk), item in found.items()}

    def last_number(self, subscription: str) -> int:
        return self._last(subscription) or 0

    def last_numbers(self, subscriptions: Sequence[str]) -> Mapping[str, int]:
        heads = self._dynamodb.get_many(self._table, [(f"N#{each}", "HEAD") for each in subscriptions])
        return {each: int(heads.get((f"N#{each}", "HEAD"), {"last": 0})["last"]) for each in subscriptions}

    def _last(self, subscription: str) -> int | None:
        head = self._dynamodb.get(self._table, (f"N#{subscription}", "HEAD"))
        return int(head["last"]) if head else None

    def between(self, subscription: str, first: int, last: int, *, limit: int | None = None) -> list[Notification]:
        if last < first:
            return []
        items = self._dynamodb.query_all(
            self._table, f"N#{subscription}", between=(_entry_key(first), _entry_key(last)), limit=limit
        )
        return [notification_from_item(item) for item in islice(items, limit)]

    def beyond(self, subscription: str, number: int, *, limit: int | None = None) -> list[Notification]:
        return self.between(subscription, number + 1, _LAST, limit=limit)


def _entry_key(number: int) -> str:
    return f"#{number:09}"


def notification_from_item(item: Item) -> Notification:
    event = event_from_map(item["event"])
    return Notification(number=int(item["SK"].removeprefix("#")), at=event.at, event=event)


@actions_of.register
def _(change: SubscriptionCreation, tables: TableNames) -> Sequence[Action]:
    subscription = change.subscription
    head = {"PK": f"N#{subscription.id}", "SK": "HEAD", "last": 0}
    owner = _owner_key(subscription.interest.owner, tables.blinder())
    return [
        put(tables.operations, _sealed(subscription, tables), unless_exists=lambda _: Fault()),
        put(tables.operations, _sealed(subscription.interest, tables)),
        put(tables.operations, {"PK": owner, "SK": subscription.id}),
        put(tables.operations, head),
        *_heartbeats(None, subscription, tables),
    ]


def _heartbeats(before: Subscription | None, after: Subscription | None, tables: TableNames) -> list[Action]:
    """The place of a subscription among those that are not to be left in silence."""
    if after is not None and after.pace.heartbeat is not None and after.status is not SubscriptionStatus.OFF:
        return [put(tables.operations, heartbeat_item(after.id, after.pace.heartbeat, after.at))]
    if before is not None and before.pace.heartbeat is not None:
        return [delete(tables.operations, (HEARTBEATS, before.id))]
    return []


def _owner_key(owner: Caller, blinder: Blinder) -> str:
    """Blinded: patients and who acts for them are known by their national identifier."""
    who = [owner.client_id, owner.organisation, owner.patient, owner.person]
    return f"SO#{blinder.blind('subscriber', json.dumps(who))}"


@actions_of.register
def _(change: SubscriptionRevision, tables: TableNames) -> Sequence[Action]:
    """What deliveries write is left as it is, for one may be under way: failures are forgotten by a restart only."""
    after = change.after
    item = _sealed(after, tables)
    kept = {"PK", "SK", "delivered", "told_at"}
    if after.status is not SubscriptionStatus.REQUESTED:
        kept |= {"failures", "failing_since"}
    names = [name for name in item if name not in kept]
    revised = update(
        tables.operations,
        (item["PK"], item["SK"]),
        f"SET {', '.join(f'#{name} = :{name}' for name in names)}",
        {**{f":{name}": item[name] for name in names}, ":read": change.before.version},
        names={f"#{name}": name for name in names},
        condition="#version = :read",
        lost=lambda _: Stale("the subscription was changed meanwhile: read it again"),
    )
    interest = _sealed(after.interest, tables)
    heartbeats = _heartbeats(change.before, after, tables)
    if after.status is SubscriptionStatus.OFF:
        return [revised, delete(tables.operations, (interest["PK"], interest["SK"])), *heartbeats]
    return [revised, put(tables.operations, interest), *heartbeats]


@actions_of.register
def _(change: SubscriptionDeletion, tables: TableNames) -> Sequence[Action]:
    subscription = change.subscription
    interest = interest_to_item(subscription.interest)
    return [
        delete_if(
            tables.operations,
            (f"S#{subscription.id}", "S"),
            "attribute_exists(PK)",
            {},
            lost=lambda _: NotFound(),
        ),
        delete(tables.operations, (interest["PK"], interest["SK"])),
        delete(tables.operations, (_owner_key(subscription.interest.owner, tables.blinder()), subscription.id)),
        delete(tables.operations, (f"N#{subscription.id}", "HEAD")),
        *_heartbeats(subscription, None, tables),
    ]


_PERSONAL: Final = ("interest", "body", "endpoint", "owner", "query", "reference")


def _sealed(kept: Subscription | Interest, tables: TableNames) -> Item:
    """The item; with what may be personal sealed, if it is about one patient, or a search that may name one."""
    if isinstance(kept, Subscription):
        item, kept_interest = subscription_to_item(kept), kept.interest
    else:
        item, kept_interest = interest_to_item(kept), kept
    patient = kept_interest.filter.patient
    if patient is None and kept_interest.filter.query is None:
        return item
    personal = {name: item[name] for name in _PERSONAL if name in item}
    plain = {name: value for name, value in item.items() if name not in personal}
    if "body" in personal:
        personal["body"] = personal["body"].decode()
    packed = zlib.compress(json.dumps(personal, separators=(",", ":")).encode(), 9)
    sealer = tables.keyring().sealer(patient) if patient is not None else _search_sealer(tables)
    return {**plain, "of": patient, "c": sealer.seal(packed, place_of(item))}


def _search_sealer(tables: TableNames) -> Sealer:
    """For a search of the patient feed: it may name somebody by an identifier, who may have no record."""
    return Sealer(tables.blinder().subkey("subscription"))


def _opened(item: Item, tables: TableNames) -> Item | None:
    """An item as it was before it was sealed; None if the key was destroyed."""
    if "c" not in item:
        return item
    held = tables.keyring().find(item["of"]) if item["of"] is not None else _search_sealer(tables)
    packed = opened(held, item["c"], place_of(item))
    if packed is None:
        return None
    personal = json.loads(zlib.decompress(packed))
    if "body" in personal:
        personal["body"] = personal["body"].encode()
    return {**item, **personal}


def subscription_to_item(subscription: Subscription) -> Item:
    return {
        "PK": f"S#{subscription.id}",
        "SK": "S",
        "version": subscription.version,
        "at": subscription.at.isoformat(),
        "status": subscription.status.value,
        "interest": _interest_to_map(subscription.interest),
        "endpoint": subscription.endpoint,
        "headers": [list(header) for header in subscription.headers],
        "content": subscription.content.value,
        "secret": subscription.secret,
        "base_url": subscription.base_url,
        "delivered": subscription.delivered,
        "body": subscription.body,
        "channel": subscription.channel.value,
        "payload": subscription.payload,
        "error": subscription.error,
        "pace": _pace_to_map(subscription.pace),
        "former_secret": subscription.former_secret,
        "former_until": _text(subscription.former_until),
        "failures": subscription.failures,
        "failing_since": _text(subscription.failing_since),
        "told_at": _text(subscription.told_at),
    }


def _text(at: datetime | time | None) -> str | None:
    return at.isoformat() if at is not None else None


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _pace_to_map(pace: Pace) -> dict[str, Any]:
    return {
        "quiet": [each.isoformat() for each in pace.quiet] if pace.quiet else None,
        "digest_at": _text(pace.digest_at),
        "max_count": pace.max_count,
        "heartbeat": int(pace.heartbeat.total_seconds()) if pace.heartbeat else None,
    }


def _pace_from_map(form: Mapping[str, Any]) -> Pace:
    quiet, heartbeat = form["quiet"], form["heartbeat"]
    return Pace(
        quiet=(time.fromisoformat(quiet[0]), time.fromisoformat(quiet[1])) if quiet else None,
        digest_at=time.fromisoformat(form["digest_at"]) if form["digest_at"] else None,
        max_count=int(form["max_count"]),
        heartbeat=timedelta(seconds=int(heartbeat)) if heartbeat else None,
    )


def subscription_from_item(item: Item) -> Subscription:
    return Subscription(
        id=item["PK"].removeprefix("S#"),
        version=item["version"],
        at=datetime.fromisoformat(item["at"]),
        status=SubscriptionStatus(item["status"]),
        interest=_interest_from_map(item["interest"]),
        endpoint=item["endpoint"],
        headers=tuple((name, value) for name, value in item["headers"]),
        content=Content(item["content"]),
        secret=item["secret"],
        base_url=item["base_url"],
        delivered=item["delivered"],
        body=item["body"],
        channel=Channel(item["channel"]),
        payload=item["payload"],
        error=item["error"],
        pace=_pace_from_map(item["pace"]),
        former_secret=item["former_secret"],
        former_until=_instant(item["former_until"]),
        failures=int(item["failures"]),
        failing_since=_instant(item["failing_since"]),
        told_at=_instant(item["told_at"]),
    )


def interest_to_item(interest: Interest) -> Item:
    pk = f"U#{interest.topic}#{interest.filter.patient or '*'}"
    return {"PK": pk, "SK": interest.subscription, **_interest_to_map(interest)}


def interest_from_item(item: Item) -> Interest:
    return _interest_from_map(item)


def _interest_to_map(interest: Interest) -> dict[str, Any]:
    owner = interest.owner
    return {
        "subscription": interest.subscription,
        "owner": {
            "client_id": owner.client_id,
            "organisation": owner.organisation,
            "role": owner.role,
            "scope": str(owner.scopes),
            "token_id": owner.token_id,
            "domain": owner.domain,
            "professional": owner.professional,
            "patient": owner.patient,
            "profession": owner.profession,
            "purpose": owner.purpose,
            "person": owner.person,
        },
        "topic": interest.topic,
        "patient": interest.filter.patient,
        "type": interest.filter.type,
        "author": interest.filter.author,
        "reference": interest.filter.reference,
        "query": interest.filter.query,
        "care_circle": interest.filter.care_circle,
        "happenings": sorted(interest.filter.happenings),
        "since": interest.since.isoformat(),
        "until": interest.until.isoformat() if interest.until else None,
    }


def _interest_from_map(form: Mapping[str, Any]) -> Interest:
    owner = dict(form["owner"])
    scopes = Scopes.parse(owner.pop("scope"))
    return Interest(
        subscription=form["subscription"],
        owner=Caller(scopes=scopes, **owner),
        topic=form["topic"],
        filter=Filter(
            **{name: form[name] for name in ("patient", "type", "author", "reference", "query", "care_circle")},
            happenings=frozenset(form["happenings"]),
        ),
        since=datetime.fromisoformat(form["since"]),
        until=datetime.fromisoformat(form["until"]) if form["until"] else None,
    )
