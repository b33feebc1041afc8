"""By e-mail and SMS: that there is something new, however much it is, and nothing of what it is.

A service of the cloud carries these letters, and telephones show them to whoever is near: content is `empty`. One
letter tells of everything since the last; more than so many a day wait for the next morning (`allowance.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from passerelle.notifications import letters
from passerelle.notifications.allowance import Allowances, news_a_day, next_day
from passerelle.notifications.confirmation import Confirmations
from passerelle.notifications.model import HeldBackError, Notification, NotificationKind, Subscription


class Mail(Protocol):
    def send(self, address: str, subject: str, body: str, delivery: str) -> None:
        """Raises UndeliveredError."""


class Texting(Protocol):
    def send(self, number: str, text: str) -> None:
        """Raises UndeliveredError."""


class LetterCarrier:
    """`notifications.ports.Carrier`, of one of the two channels: `send` takes endpoint, letter and delivery id."""

    def __init__(
        self,
        send: Callable[[str, letters.Letter, str], None],
        *,
        confirmations: Confirmations,
        allowances: Allowances,
        public_url: str,
    ) -> None:
        self._send = send
        self._confirmations = confirmations
        self._allowances = allowances
        self._public_url = public_url

    def tell(
        self,
        subscription: Subscription,
        kind: NotificationKind,
        entries: Sequence[Notification],
        total: int,
        at: datetime,
    ) -> None:
        """A heartbeat is no news, and is not sent. Raises UndeliveredError, HeldBackError."""
        if kind is NotificationKind.HANDSHAKE:
            code = self._confirmations.begin(subscription, at)
            if code is not None:
                self._send(subscription.endpoint, letters.confirmation(code), f"{subscription.id}.handshake")
        elif kind is NotificationKind.EVENT and entries:
            self._hold_back(subscription, at)
            delivery = f"{subscription.id}.{entries[-1].number}"
            self._send(subscription.endpoint, letters.news(self._public_url), delivery)

    def _hold_back(self, subscription: Subscription, at: datetime) -> None:
        day = next_day(at)
        if not self._allowances.take(f"news|{subscription.id}|{day}", news_a_day(subscription.channel), until=day):
            raise HeldBackError(day)


def by_mail(mail: Mail) -> Callable[[str, letters.Letter, str], None]:
    def send(endpoint: str, letter: letters.Letter, delivery: str) -> None:
        mail.send(endpoint.removeprefix("mailto:"), letter.subject, letter.body, delivery)

    return send


def by_text(texting: Texting) -> Callable[[str, letters.Letter, str], None]:
    def send(endpoint: str, letter: letters.Letter, delivery: str) -> None:
        texting.send(endpoint.removeprefix("tel:"), letter.text)

    return send
