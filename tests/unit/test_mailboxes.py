"""The mail client against a real server: mutual TLS, what is sent, and what refusals mean."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope

from passerelle.api.mailboxes import Operator, SmtpRelay
from passerelle.api.outbound import certified
from passerelle.notifications.model import UndeliveredError
from tests.certificates import certificate_in, self_signed, server_tls

AT = datetime(2026, 3, 1, 9, tzinfo=UTC)
SENDER = "passerelle@exchange.mssante.example"
ADDRESS = "docteur@cabinet.mssante.example"


class Mailboxes:
    """Takes everything but what it is told to refuse."""

    def __init__(self) -> None:
        self.recipient, self.data = "250 OK", "250 OK"
        self.taken: list[EmailMessage] = []

    async def handle_RCPT(  # noqa: N802 - the name that aiosmtpd calls
        self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.recipient.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.recipient

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        if self.data.startswith("250"):
            self.taken.append(message_from_bytes(envelope.content, policy=policy.default))
        return self.data


@contextmanager
def operator(handler: Mailboxes, tls: ssl.SSLContext | None = None) -> Iterator[Operator]:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    listening.close()
    controller = Controller(handler, hostname="127.0.0.1", port=port, tls_context=tls, require_starttls=tls is not None)
    controller.start()
    try:
        yield Operator(host="localhost", port=port, sender=SENDER)
    finally:
        controller.stop()


@pytest.fixture
def mailboxes() -> Mailboxes:
    return Mailboxes()


def send(relay: SmtpRelay, **given: Any) -> None:
    relay.send(ADDRESS, "Du nouveau", "Corps é\n", delivery="sub.1", at=AT, **given)


def refusal(relay: SmtpRelay) -> UndeliveredError:
    with pytest.raises(UndeliveredError) as undelivered:
        send(relay)
    return undelivered.value


def test_a_message_arrives_over_mutual_tls_with_its_document(mailboxes: Mailboxes, tmp_path: Path) -> None:
    server, ours = self_signed("localhost"), self_signed("exchange.example")
    with operator(mailboxes, server_tls(tmp_path, server, clients=certificate_in(ours))) as place:
        send(SmtpRelay(place, tls=certified(ours, authorities=certificate_in(server))), archive=b"PK")
        stranger = self_signed("other.example")
        failure = refusal(SmtpRelay(place, tls=certified(stranger, authorities=certificate_in(server))))
        assert failure.reason in ("tls", "connection")
        assert refusal(SmtpRelay(place, tls=ssl.create_default_context())).reason == "tls"
    (message,) = mailboxes.taken
    assert (message["From"], message["To"], message["Subject"]) == (SENDER, ADDRESS, "Du nouveau")
    assert message["Message-ID"] == "<sub.1@exchange.mssante.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    body, attached = message.iter_parts()
    assert body.get_content().strip() == "Corps é"
    assert (attached.get_filename(), attached.get_content_type()) == ("IHE_XDM.ZIP", "application/zip")
    assert attached.get_content() == b"PK"


@pytest.mark.parametrize(
    ("recipient", "data", "is_final"),
    [
        ("550 5.1.1 no such mailbox", "250 OK", True),
        ("450 4.2.1 busy", "250 OK", False),
        ("250 OK", "552 5.3.4 too big", True),
        ("250 OK", "451 4.3.0 later", False),
    ],
)
def test_what_a_mailbox_refuses_for_good_is_not_tried_again(
    mailboxes: Mailboxes, recipient: str, data: str, is_final: bool
) -> None:
    mailboxes.recipient, mailboxes.data = recipient, data
    with operator(mailboxes) as place:
        failure = refusal(SmtpRelay(place, tls=None))
    assert failure.is_final is is_final
    assert failure.is_answer
    assert failure.reason == f"status {(recipient if not recipient.startswith('250') else data)[:3]}"
    assert mailboxes.taken == []


def test_a_login_that_the_operator_refuses_is_no_fault_of_the_mailbox(mailboxes: Mailboxes) -> None:
    with operator(mailboxes) as place:
        relay = SmtpRelay(Operator(host=place.host, port=place.port, sender=SENDER, user="u", password="p"), tls=None)
        failure = refusal(relay)
    assert not failure.is_final
    assert not failure.is_answer


def test_a_server_that_says_nothing_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = Operator(host="127.0.0.1", port=silent.getsockname()[1], sender=SENDER)
        assert refusal(SmtpRelay(place, tls=None, timeout_seconds=0.2)).reason == "timeout"


def test_nobody_there_is_a_failure_to_connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert refusal(SmtpRelay(Operator(host="127.0.0.1", port=port, sender=SENDER), tls=None)).reason == "connection"


def test_no_header_is_smuggled_in_by_a_subject(mailboxes: Mailboxes) -> None:
    with operator(mailboxes) as place, pytest.raises(ValueError):
        SmtpRelay(place, tls=None).send(ADDRESS, "a\r\nBcc: x@y.example", "b", delivery="sub.1", at=AT)
    assert mailboxes.taken == []
