"""Subscriptions, and the numbered log of what each was told.

A subscription's log is its truth: dispatch appends an event to it once, under the next number; delivery sends
what the log holds beyond the last number delivered, in order. Messages between the two only say "look at the
log up to n", so a message lost, repeated or overtaken changes nothing (data-model.md section 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import Final

from passerelle.access import Caller
from passerelle.events import Event
from passerelle.journal import Change

MAX_DELIVERY_ATTEMPTS: Final = 14
"""Attempts in a row that an endpoint does not acknowledge before its subscription is in `error`."""

GIVEN_UP_AFTER: Final = timedelta(days=1)
"""How long an endpoint may fail, however seldom it is tried: others at the same origin take turns with it."""

MAX_RECEIVES: Final = 150
"""`maxReceiveCount` of the queue `deliveries`: an order is also received each time that it was put off."""

_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=5), timedelta(hours=1)


def longest_pause(failures: int) -> timedelta:
    """The bound of the random pause after failure 1, 2, 3 ...: 5, 10, 20 ... seconds, an hour at most."""
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * (1 << min(failures - 1, 16)))


LOG_KEPT = timedelta(days=30)
"""How long the log can be asked for, and how long an event that comes again is recognised."""


class SubscriptionStatus(StrEnum):
    """FHIR R4 SubscriptionStatus."""

    REQUESTED = "requested"  # the endpoint has not answered the handshake yet
    ACTIVE = "active"
    ERROR = "error"  # the endpoint failed; events are still numbered, nothing is sent
    OFF = "off"  # its owner switched it off, or may no longer subscribe


class Channel(StrEnum):
    """How a subscription is told; follows from what it asks for."""

    REST_HOOK = "rest-hook"  # which resource changed (Subscriptions R5 Backport)
    MESSAGE = "message"  # the changed Patients themselves, as a feed of PMIR (ITI-93)
    ORDER = "order"  # events declared about a person, as orders to notify (Notification d'evenements)
    EMAIL = "email"  # that there is something to look at, and nothing else
    SMS = "sms"  # the same
    QUEUE = "sqs-queue"  # what a rest-hook is told, to a queue of a partner's AWS account
    MAILBOX = "mssante"  # a mailbox of the MSSante trust space: with the document attached

    @property
    def is_signed(self) -> bool:
        """Whether what is sent carries a signature, and the subscriber holds the secret of it."""
        return self in (Channel.REST_HOOK, Channel.MESSAGE, Channel.ORDER, Channel.QUEUE)


CONFIRMED: Final = frozenset({Channel.EMAIL, Channel.SMS, Channel.MAILBOX})
"""Whose handshake is a letter with a code: such a subscription is active once its owner gives the code back."""


class Content(StrEnum):
    """How much of an event a notification tells."""

    EMPTY = "empty"
    ID_ONLY = "id-only"
    FULL_RESOURCE = "full-resource"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """When, and how much at once, a subscriber is told.

    Quiet hours (from, until; local time of the region, over midnight where the first is later) hold back what is not
    urgent; `digest_at` gathers a day's events into one notification at that local time; `max_count` events at most in
    one notification; `heartbeat` is the longest silence.
    """

    quiet: tuple[time, time] | None = None
    digest_at: time | None = None
    max_count: int = 1
    heartbeat: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What narrows a topic; None does not.

    `patient` is the patient key of one of the person's source records, `reference` the changed resource itself,
    `query` a search that the changed Patient meets, in the form that it has in a URL. `type` and `author` are lists
    with commas: `author` of client ids of systems that made the change, and of references to whom the resource names as
    its authors. `care_circle`: only people in whose care circle the owner is. `happenings`: only these turns of what
    changed (`admission`, `discharge` ...; the codes of `data/topics.json`).
    """

    patient: str | None = None
    type: str | None = None
    author: str | None = None
    reference: str | None = None
    query: str | None = None
    care_circle: bool = False
    happenings: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one version made of a resource, against the version before; nothing for a resource that is not there.

    `authors` are the references that it names as its authors, `houses` the organisations (IDNST) whose record it is,
    and the identifier domains that a Patient was registered in.
    """

    happenings: frozenset[str] = frozenset()
    authors: frozenset[str] = frozenset()
    houses: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """What a subscription asks to be told, and on whose behalf.

    `owner` is the caller that created it, with the scopes that it held then.
    """

    subscription: str
    owner: Caller
    topic: str
    filter: Filter
    since: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionDraft:
    """A Subscription as asked for; `criteria` holds the pairs of the filter, `_type` among them.

    `topic` is a canonical URL; `payload` the media type of what is sent; `subjects` are the identifiers of whom
    declared events are about.
    """

    topic: str
    criteria: tuple[tuple[str, str], ...]
    endpoint: str
    headers: tuple[tuple[str, str], ...]
    content: Content
    until: datetime | None
    body: bytes
    status: str = SubscriptionStatus.REQUESTED
    channel: Channel = Channel.REST_HOOK
    payload: str = "application/fhir+json"
    pace: Pace = Pace()
    subjects: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """`body` is the resource as it was sent; `id`, `meta` and `status` are rendered from here.

    `version` counts changes; `delivered` is the last number that the endpoint acknowledged; `base_url` the FHIR base
    that the owner knows this server by; `error` why the status is `error`, in a few fixed words.

    Both secrets sign while `former_until` has not come. `failures` counts attempts in a row that the endpoint did not
    acknowledge, the first of them at `failing_since`; `told_at` is when it was last told anything.
    """

    id: str
    version: int
    at: datetime
    status: SubscriptionStatus
    interest: Interest
    endpoint: str
    headers: tuple[tuple[str, str], ...]
    content: Content
    secret: str
    base_url: str
    delivered: int
    body: bytes
    channel: Channel = Channel.REST_HOOK
    payload: str = "application/fhir+json"
    error: str = ""
    pace: Pace = Pace()
    former_secret: str | None = None
    former_until: datetime | None = None
    failures: int = 0
    failing_since: datetime | None = None
    told_at: datetime | None = None

    @property
    def reference(self) -> str:
        return f"Subscription/{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """Entry `number` of a subscription's log; `event` None when the receiver may not learn which.

    `resource` is what changed, as the receiver may read it now (FHIR JSON), where content is `full-resource`.
    """

    number: int
    at: datetime
    event: Event | None
    resource: bytes | None = None


class NotificationKind(StrEnum):
    """Types of notification of the Subscriptions R5 Backport."""

    HANDSHAKE = "handshake"
    HEARTBEAT = "heartbeat"
    EVENT = "event-notification"
    QUERY_STATUS = "query-status"
    QUERY_EVENT = "query-event"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionCreation(Change):
    subscription: Subscription


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionRevision(Change):
    """The owner changed it; Stale when `before` is not current. What was delivered is not touched.

    One that is `off` has no place in the index: its events are not numbered.
    """

    before: Subscription
    after: Subscription


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionDeletion(Change):
    """The subscription and its place in the index go; its log expires. NotFound when it is gone already."""

    subscription: Subscription


class UndeliveredError(Exception):
    """The endpoint did not acknowledge; `reason` is one of a few fixed words, fit for the log.

    `is_final`: it said that it never will (there is no such mailbox), so that no other attempt is worth it.
    `is_answer`: whoever is there answered, and refused: the origin is not down.
    """

    def __init__(self, reason: str, *, is_final: bool = False, is_answer: bool = False) -> None:
        self.reason = reason
        self.is_final = is_final
        self.is_answer = is_answer
        super().__init__(reason)


class HeldBackError(Exception):
    """The subscriber is not to be told now. No failure: it is told at `until`."""

    def __init__(self, until: datetime) -> None:
        self.until = until
        super().__init__("held back")
