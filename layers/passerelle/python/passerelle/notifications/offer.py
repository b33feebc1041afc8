"""Which ways of being told are offered, and to whom: what the operator set up, and no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from passerelle.access import Caller
from passerelle.directory.model import CARE_ROLES
from passerelle.errors import Unprocessable
from passerelle.notifications.model import (
    Channel,
    Notification,
    NotificationKind,
    Subscription,
    UndeliveredError,
)

if TYPE_CHECKING:
    from passerelle.notifications.ports import Carrier

WEBHOOKS: Final = frozenset({Channel.REST_HOOK, Channel.MESSAGE, Channel.ORDER})
_FOR_CARE: Final = frozenset({Channel.MESSAGE, Channel.QUEUE, Channel.MAILBOX})


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """`partner_queues` are the queues (ARN) that the operator gave to a client, by the client's id."""

    channels: frozenset[Channel] = WEBHOOKS
    partner_queues: frozenset[tuple[str, str]] = frozenset()

    def check(self, caller: Caller, channel: Channel, endpoint: str) -> None:
        """Raise Unprocessable (`not-supported`) for a channel or queue that this caller is not offered."""
        if channel not in self.channels or (channel in _FOR_CARE and caller.role not in CARE_ROLES):
            raise _refused("the channel is not offered", "type")
        if channel is Channel.QUEUE and (caller.client_id, endpoint) not in self.partner_queues:
            raise _refused("the queue is not one that the operator gave to this client", "endpoint")


class OnDemand:
    """`notifications.ports.Carrier` that is made when somebody is first told by it.

    A certificate that is not one, or a secret that is gone, then fails its own channel and no other.
    """

    def __init__(self, make: Callable[[], Carrier]) -> None:
        self._make = make
        self._made: Carrier | None = None

    def tell(
        self,
        subscription: Subscription,
        kind: NotificationKind,
        entries: Sequence[Notification],
        total: int,
        at: datetime,
    ) -> None:
        self._made = self._made or self._make()
        self._made.tell(subscription, kind, entries, total, at)


class NotOffered:
    """`notifications.ports.Carrier` of a channel that was offered when somebody subscribed, and is no longer."""

    def tell(
        self,
        subscription: Subscription,
        kind: NotificationKind,
        entries: Sequence[Notification],
        total: int,
        at: datetime,
    ) -> None:
        raise UndeliveredError("the channel is no longer offered", is_final=True, is_answer=True)


def _refused(diagnostics: str, element: str) -> Unprocessable:
    return Unprocessable(diagnostics, code="not-supported", expression=f"Subscription.channel.{element}")
