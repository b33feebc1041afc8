"""To a mailbox of the MSSante trust space: the document itself, as its reader's software takes it in.

The form is that of the national interoperability framework (CI-SIS, exchange of health documents): one patient a
message, the subject `XDM/1.0/DDM+<type> <NAME> <first name> <date of birth>`, the document with its metadata in
`IHE_XDM.ZIP`. What is no document, or is not to be read by the subscriber now, is told by a letter without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from passerelle.events import Event
from passerelle.notifications import letters
from passerelle.notifications.confirmation import Confirmations
from passerelle.notifications.model import Content, Notification, NotificationKind, Subscription

ARCHIVE: Final = "IHE_XDM.ZIP"
_DOCUMENT: Final = "DocumentReference/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclosure:
    """A document to be sent: what the subject says of it, and the archive that holds it."""

    title: str
    archive: bytes


class Enclosures(Protocol):
    def find(self, subscription: Subscription, event: Event, delivery: str, at: datetime) -> Enclosure | None:
        """The document that an event is about, as the owner may read it now; None if it may not, or there is none.

        The disclosure of the content is in the access log before this returns.
        """


class Relay(Protocol):
    def send(self, address: str, subject: str, body: str, *, delivery: str, at: datetime, archive: bytes = b"") -> None:
        """One message, with `archive` attached if there is one; the same delivery has the same Message-ID.

        Raises UndeliveredError, final where the mailbox refuses for good.
        """


class MailboxCarrier:
    """`notifications.ports.Carrier`."""

    def __init__(
        self,
        relay: Relay,
        *,
        enclosures: Enclosures,
        confirmations: Confirmations,
        public_url: str,
    ) -> None:
        self._relay = relay
        self._enclosures = enclosures
        self._confirmations = confirmations
        self._public_url = public_url

    def tell(
        self,
        subscription: Subscription,
        kind: NotificationKind,
        entries: Sequence[Notification],
        total: int,
        at: datetime,
    ) -> None:
        """A message for each document, and one letter for the rest. A heartbeat is not sent."""
        if kind is NotificationKind.HANDSHAKE:
            code = self._confirmations.begin(subscription, at)
            if code is not None:
                self._write(subscription, letters.confirmation(code), f"{subscription.id}.handshake", at)
        elif kind is NotificationKind.EVENT:
            known = [entry for entry in entries if entry.event is not None]
            plain = [entry for entry in known if not self._enclose(subscription, entry, at)]
            if plain:
                delivery = f"{subscription.id}.{plain[-1].number}"
                self._write(subscription, letters.news(self._public_url), delivery, at)

    def _enclose(self, subscription: Subscription, entry: Notification, at: datetime) -> bool:
        """Whether the entry is a document, and was sent."""
        event = entry.event
        if event is None or subscription.content is not Content.FULL_RESOURCE:
            return False
        if not event.reference.startswith(_DOCUMENT):
            return False
        delivery = f"{subscription.id}.{entry.number}"
        enclosure = self._enclosures.find(subscription, event, delivery, at)
        if enclosure is None:
            return False
        self._relay.send(
            _address(subscription),
            f"XDM/1.0/DDM+{enclosure.title}",
            letters.news(self._public_url).body,
            delivery=delivery,
            at=at,
            archive=enclosure.archive,
        )
        return True

    def _write(self, subscription: Subscription, letter: letters.Letter, delivery: str, at: datetime) -> None:
        self._relay.send(_address(subscription), letter.subject, letter.body, delivery=delivery, at=at)


def _address(subscription: Subscription) -> str:
    return subscription.endpoint.removeprefix("mailto:")
