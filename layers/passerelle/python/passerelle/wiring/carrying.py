"""The ways to tell, and the function that tells by them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from passerelle.wiring import people, process, publishing, record, stores, telling

if TYPE_CHECKING:
    from ssl import SSLContext

    from passerelle.notifications.delivery import Deliverer
    from passerelle.notifications.letters import Letter
    from passerelle.notifications.model import Channel
    from passerelle.notifications.ports import Carrier


def letter_carriers() -> dict[Channel, Carrier]:
    """What tells by other ways than webhooks, as far as the operator set them up."""
    from passerelle.notifications.model import Channel
    from passerelle.notifications.offer import NotOffered, OnDemand

    made = {
        Channel.EMAIL: mail_carrier,
        Channel.SMS: text_carrier,
        Channel.QUEUE: queue_carrier,
        Channel.MAILBOX: mailbox_carrier,
    }
    return {
        channel: OnDemand(make) if channel in telling.offer().channels else NotOffered()
        for channel, make in made.items()
    }


def mail_carrier() -> Carrier:
    from passerelle.aws.mail import SesMail
    from passerelle.notifications.letter_carrier import by_mail

    return _letters(by_mail(SesMail(process.aws("sesv2"), process.environment().mail_sender)))


def text_carrier() -> Carrier:
    from passerelle.aws.texting import SnsTexting
    from passerelle.notifications.letter_carrier import by_text

    return _letters(by_text(SnsTexting(process.aws("sns"), process.environment().sms_sender)))


def _letters(send: Callable[[str, Letter, str], None]) -> Carrier:
    from passerelle.aws.allowances import DynamoAllowances
    from passerelle.notifications.letter_carrier import LetterCarrier

    return LetterCarrier(
        send,
        confirmations=telling.confirmations(),
        allowances=DynamoAllowances(process.dynamodb(), process.table_names()),
        public_url=process.environment().public_url,
    )


def queue_carrier() -> Carrier:
    from passerelle.aws.partner_queues import SqsPartnerQueues
    from passerelle.fhir.notification import render_notification
    from passerelle.notifications.queue_carrier import QueueCarrier

    @cache
    def client_of(region: str) -> Any:
        return process.session().create_client("sqs", region_name=region, config=process.CLIENT)

    return QueueCarrier(SqsPartnerQueues(client_of), render=render_notification, given=telling.partner_queues())


def mailbox_carrier() -> Carrier:
    """Without mutual TLS only on a desk."""
    from passerelle.api.mailboxes import Operator, SmtpRelay
    from passerelle.api.outbound import certified
    from passerelle.fhir.enclosures import MailEnclosures
    from passerelle.notifications.mailbox_carrier import MailboxCarrier

    settings = json.loads(process.environment().mssante)
    secret = json.loads(process.secret(settings["secret"])) if settings["secret"] else {}
    operator = Operator(
        host=settings["host"],
        port=settings["port"],
        sender=settings["sender"],
        user=secret.get("user", ""),
        password=secret.get("password", ""),
    )
    tls = certified(secret["certificate"], authorities=secret.get("authorities", "")) if secret else None
    if tls is None and not process.allows_loopback():
        raise ValueError("mail of the trust space goes by mutual TLS")
    return MailboxCarrier(
        SmtpRelay(operator, tls=tls),
        enclosures=MailEnclosures(
            records=record.record_service(),
            patients=people.patient_reader(),
            documents=publishing.document_service,
            trail=stores.trail(),
            source=process.environment().home_community_id.removeprefix("urn:oid:"),
        ),
        confirmations=telling.confirmations(),
        public_url=process.environment().public_url,
    )


def webhook_tls() -> SSLContext | None:
    """TLS with the certificate of the exchange, for webhooks that ask for one; None where it has none."""
    from passerelle.api.outbound import certified

    arn = process.environment().webhook_certificate
    return certified(process.secret(arn)) if arn else None


@cache
def carriers() -> Mapping[Channel, Carrier]:
    """Every way of being told that is set up."""
    from passerelle.api.webhooks import HttpWebhooks
    from passerelle.fhir.notification import render_notification
    from passerelle.notifications.carriers import FeedCarrier, WebhookCarrier
    from passerelle.notifications.model import Channel

    webhooks = HttpWebhooks(allow_loopback=process.allows_loopback(), tls=webhook_tls())
    return {
        Channel.REST_HOOK: WebhookCarrier(webhooks, render=render_notification),
        Channel.MESSAGE: FeedCarrier(webhooks, people=stores.patient_index(), feed=telling.patient_feed),
        Channel.ORDER: FeedCarrier(webhooks, people=stores.patient_index(), feed=telling.event_orders),
        **letter_carriers(),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverWiring:
    deliverer: Deliverer


@cache
def deliver() -> DeliverWiring:
    from passerelle.aws.dynamodb import in_parallel
    from passerelle.aws.notifications import DynamoBreakers
    from passerelle.notifications.delivery import Deliverer
    from passerelle.prescriptions.workdays import PARIS

    return DeliverWiring(
        deliverer=Deliverer(
            telling.notification_ports(),
            carriers=carriers(),
            breakers=DynamoBreakers(process.dynamodb(), process.table_names()),
            resources=telling.subscribed_resources,
            trail=stores.trail(),
            incident=process.incident(),
            now=lambda: process.now(),
            zone=PARIS,
            in_parallel=in_parallel,
        )
    )
