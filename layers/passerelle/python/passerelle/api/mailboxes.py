"""The mail client of the exchange: one message to the relay of its MSSante operator, over TLS.

The operator is the only host that it talks to, with a certificate of the exchange (mutual TLS) and, where they are
asked for, a name and a password. RFC 5321 section 4.2.1: what a server answers with 5yz it would answer again, 4yz not.
"""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from passerelle.api.outbound import TIMEOUT_SECONDS, deadline
from passerelle.notifications.mailbox_carrier import ARCHIVE
from passerelle.notifications.model import UndeliveredError

_IMPLICIT_TLS: Final = 465  # RFC 8314; on any other port TLS is asked for by STARTTLS
_WHOLE_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Where the operator takes messages, and as whom; `sender` is a mailbox of the exchange there."""

    host: str
    port: int
    sender: str
    user: str = ""
    password: str = ""


class SmtpRelay:
    """`notifications.mailbox_carrier.Relay`. Without `tls` only for a stack that runs on a desk."""

    def __init__(
        self,
        operator: Operator,
        *,
        tls: ssl.SSLContext | None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._operator = operator
        self._tls = tls
        self._timeout_seconds = timeout_seconds

    def send(self, address: str, subject: str, body: str, *, delivery: str, at: datetime, archive: bytes = b"") -> None:
        message = self._message(address, subject, body, delivery, at, archive)
        try:
            self._send(address, message)
        except smtplib.SMTPRecipientsRefused as refusal:
            ((code, _),) = refusal.recipients.values()
            raise UndeliveredError(f"status {code}", is_final=code >= 500, is_answer=True) from None
        except smtplib.SMTPDataError as refusal:
            code = refusal.smtp_code
            raise UndeliveredError(f"status {code}", is_final=code >= 500, is_answer=True) from None
        except smtplib.SMTPResponseException as refusal:  # of us, not of the mailbox: the operator will mend it
            raise UndeliveredError(f"status {refusal.smtp_code}") from None
        except TimeoutError:
            raise UndeliveredError("timeout") from None
        except ssl.SSLError:
            raise UndeliveredError("tls") from None
        except OSError as error:  # of which SMTPException is one; smtplib hides timeouts in it
            raise UndeliveredError("timeout" if isinstance(error.__context__, TimeoutError) else "connection") from None

    def _message(
        self, address: str, subject: str, body: str, delivery: str, at: datetime, archive: bytes
    ) -> EmailMessage:
        sender = self._operator.sender
        message = EmailMessage()
        message["From"] = sender
        message["To"] = address
        message["Subject"] = subject
        message["Date"] = format_datetime(at)
        message["Message-ID"] = f"<{delivery}@{sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(body)
        if archive:
            message.add_attachment(archive, maintype="application", subtype="zip", filename=ARCHIVE)
        return message

    def _send(self, address: str, message: EmailMessage) -> None:
        with self._connected() as smtp:
            assert smtp.sock is not None
            with deadline(smtp.sock, _WHOLE_SECONDS):
                if self._operator.user:
                    smtp.login(self._operator.user, self._operator.password)
                smtp.send_message(message, self._operator.sender, [address])

    def _connected(self) -> smtplib.SMTP:
        operator = self._operator
        if self._tls is not None and operator.port == _IMPLICIT_TLS:
            return smtplib.SMTP_SSL(operator.host, operator.port, timeout=self._timeout_seconds, context=self._tls)
        smtp = smtplib.SMTP(operator.host, operator.port, timeout=self._timeout_seconds)
        if self._tls is not None:
            try:
                smtp.starttls(context=self._tls)
            except BaseException:
                smtp.close()
                raise
        return smtp
