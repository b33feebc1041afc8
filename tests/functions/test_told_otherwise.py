"""Told by e-mail, SMS, a queue of a partner or a health mailbox: who may, what is said, and what is not (I9)."""

from __future__ import annotations

import json
import re
import socket
import zipfile
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from io import BytesIO
from typing import Any

import boto3
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope
from moto.ses.models import ses_backends
from moto.sns.models import sns_backends

from passerelle import wiring
from passerelle.events import Event, EventName
from passerelle.fhir.subscription import BACKPORT
from passerelle.notifications.allowance import limits
from passerelle.notifications.model import Notification, NotificationKind
from passerelle.notifications.signature import verify
from passerelle.notifications.topics import TOPIC_ROOT
from tests import examples
from tests.documents import changed, place, published, relabel
from tests.exchange import Client, Exchange
from tests.functions import test_event_notification as nde
from tests.functions.listening import blocked, held_back, hospital, into_the_circle, out_of_the_circle
from tests.functions.test_control import refusal
from tests.functions.test_patient_feed import Consumer, consumer
from tests.functions.test_patient_feed import asked as feed
from tests.functions.test_patients import register

__all__ = ["consumer", "hospital"]
ACCOUNT, REGION = "123456789012", "eu-west-3"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:partner.fifo"
SENDER = "passerelle@exchange.example"
DOCTOR = "mailto:docteur@cabinet.mssante.fr"
Json = dict[str, Any]


class Operator:
    """The mail relay of the operator of MSSante; knows every mailbox but those it is told."""

    def __init__(self) -> None:
        self.unknown: set[str] = set()
        self.taken: list[EmailMessage] = []

    async def handle_RCPT(  # noqa: N802 - the name that aiosmtpd calls
        self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.unknown:
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.taken.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


@pytest.fixture(scope="module")
def operator(exchange: Exchange) -> Iterator[Operator]:
    """The exchange with every channel set up."""
    known = Operator()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(known, hostname="127.0.0.1", port=port)
    controller.start()
    mssante = {"host": "127.0.0.1", "port": port, "sender": "passerelle@exchange.mssante.fr", "secret": ""}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAIL_SENDER", SENDER)
        patch.setenv("SMS_SENDER", "Passerelle")
        patch.setenv("PARTNER_QUEUES", json.dumps([{"client_id": "hospital-b", "arn": QUEUE}]))
        patch.setenv("MSSANTE", json.dumps(mssante))
        wiring.reset()
        boto3.client("sesv2").create_email_identity(EmailIdentity=SENDER)
        boto3.client("sqs").create_queue(QueueName="partner.fifo", Attributes={"FifoQueue": "true"})
        yield known
        controller.stop()
    wiring.reset()


@pytest.fixture(scope="module")
def key(hospital: Client) -> str:
    """The record of the patient who has an application."""
    return str(register(hospital, 1).json["id"])


@pytest.fixture(scope="module")
def patient(exchange: Exchange, operator: Operator) -> Client:
    return exchange.client("patient-1")


def subscription(endpoint: str, key: str = "", *, content: str = "empty", topic: str = "record-changed") -> Json:
    """Of the channel that the endpoint is of."""
    extended = "sqs-queue" if endpoint.startswith("arn") else "mssante" if "mssante" in endpoint else ""
    channel: Json = {
        "type": "message" if extended else "email" if endpoint.startswith("mailto") else "sms",
        "endpoint": endpoint,
        "_payload": {"extension": [{"url": BACKPORT + "backport-payload-content", "valueCode": content}]},
        "payload": "application/fhir+json" if extended == "sqs-queue" else "text/plain",
    }
    if extended:
        named = {"url": BACKPORT + "backport-channel-type", "valueCoding": {"code": extended}}
        channel["_type"] = {"extension": [named]}
    criteria = {"url": BACKPORT + "backport-filter-criteria", "valueString": f"?patient=Patient/{key}"}
    narrowed = {"_criteria": {"extension": [criteria]}} if key else {}
    return {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "care coordination",
        "criteria": TOPIC_ROOT + topic,
        **narrowed,
        "channel": channel,
    }


def subscribed(exchange: Exchange, client: Client, asked: Json) -> str:
    made = client.post("Subscription", asked)
    assert made.status == 201, made.body
    exchange.pump.run_until_idle()
    return str(made.json["id"])


def confirm(client: Client, id: str, code: str, **headers: str) -> Any:
    body = {"resourceType": "Parameters", "parameter": [{"name": "code", "valueString": code}]}
    return client.post(f"Subscription/{id}/$confirm", body, **headers)


def status(client: Client, id: str) -> str:
    return str(client.get(f"Subscription/{id}").json["status"])


def happened(exchange: Exchange, client: Client, key: str, times: int = 1) -> None:
    for _ in range(times):
        assert client.post("Observation", examples.observation(key)).status == 201
    exchange.pump.run_until_idle()


def texts() -> list[tuple[str, str]]:
    return list(sns_backends[ACCOUNT][REGION].sms_messages.values())


def mails(address: str) -> list[Any]:
    sent = ses_backends[ACCOUNT][REGION].sent_messages
    return [each for each in sent if each.destinations["ToAddresses"] == [address]]


def code_in(text: str) -> str:
    return str(re.findall(r"\b\d{8}\b", text)[0])


def test_a_telephone_is_told_once_its_holder_gave_the_code_back(
    exchange: Exchange, hospital: Client, patient: Client, key: str
) -> None:
    """SUB-3 of a channel that cannot answer; what happened meanwhile is one message."""
    told = subscribed(exchange, patient, subscription("tel:+33612345671", key))
    (asked,) = [text for number, text in texts() if number == "+33612345671"]
    happened(exchange, hospital, key, 3)
    assert status(patient, told) == "requested"
    assert refusal(confirm(patient, told, "00000000")) == (422, "value")
    confirmed = confirm(patient, told, code_in(asked), Idempotency_Key="confirm-1")
    assert (confirmed.status, confirmed.json["status"]) == (200, "active")
    assert confirm(patient, told, code_in(asked), Idempotency_Key="confirm-1").status == 200
    assert refusal(confirm(patient, told, code_in(asked))) == (409, "conflict")
    exchange.pump.run_until_idle()
    (_, news) = (text for number, text in texts() if number == "+33612345671")
    for word in (key, "Observation", told, "Dupont", "record-changed"):
        assert word.lower() not in (asked + news).lower()


def test_a_mistyped_address_gets_three_letters_at_most(
    exchange: Exchange, hospital: Client, patient: Client, key: str
) -> None:
    address = "mailto:inconnu@maison.example"
    asked = subscription(address, key)
    told = subscribed(exchange, patient, asked)
    happened(exchange, hospital, key, 2)
    for _ in range(4):
        assert patient.put(f"Subscription/{told}", asked | {"id": told}).status == 200
        exchange.pump.run_until_idle()
    subscribed(exchange, patient, asked)
    sent = mails("inconnu@maison.example")
    assert len(sent) == 3
    assert len({code_in(each.body) for each in sent}) == 3  # only that of the last letter is good
    assert patient.get(f"Subscription/{told}").json["error"].endswith("asked too often")
    for each in sent:
        assert refusal(confirm(patient, told, code_in(each.body))) == (409, "conflict")


def test_codes_are_not_guessed(exchange: Exchange, patient: Client, key: str) -> None:
    told = subscribed(exchange, patient, subscription("mailto:a@maison.example", key))
    (letter,) = mails("a@maison.example")
    for guess in ("00000000", "", "\u0661" * 8, code_in(letter.body) + " ", "\ud800"):
        assert confirm(patient, told, guess).status in (400, 422)
    confirm(patient, told, "00000000")  # what is no text at all was no guess
    assert refusal(confirm(patient, told, code_in(letter.body))) == (409, "conflict")
    assert status(patient, told) == "requested"


def test_a_code_is_good_for_its_own_subscription_and_owner(
    exchange: Exchange, hospital: Client, patient: Client, key: str
) -> None:
    first = subscribed(exchange, patient, subscription("mailto:b@maison.example", key))
    second = subscribed(exchange, patient, subscription("mailto:c@maison.example", key))
    (letter,) = mails("b@maison.example")
    assert refusal(confirm(patient, second, code_in(letter.body))) == (422, "value")
    assert confirm(hospital, first, code_in(letter.body)).status == 404
    assert confirm(patient, first, code_in(letter.body)).status == 200
    moved = patient.put(f"Subscription/{first}", subscription("mailto:d@maison.example", key) | {"id": first})
    assert moved.json["status"] == "requested"  # another address is another confirmation


def test_starting_again_and_again_gives_no_more_guesses(exchange: Exchange, patient: Client, key: str) -> None:
    """Nor does subscribing anew, faster than letters are sent."""
    asked = subscription("mailto:victime@maison.example", key)
    told = patient.post("Subscription", asked).json["id"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(limits(), "codes_tried_by_an_owner_a_day", 0)
        assert patient.put(f"Subscription/{told}", asked | {"id": told}).status == 200
        assert refusal(confirm(patient, told, "00000000")) == (409, "conflict")
    patient.request("DELETE", f"Subscription/{told}")


def test_sub_10_no_letter_tells_of_what_may_not_be_known_any_more(
    exchange: Exchange, operator: Operator, hospital: Client
) -> None:
    """A letter tells no number: where none of what happened is for the subscriber any more, there is none."""
    key = str(register(hospital, 5).json["id"])
    nurse = exchange.client("nurse")
    into_the_circle(exchange, 5, key, "nurse")
    told = subscribed(exchange, nurse, subscription("mailto:infirmiere@lilas.example"))
    (asked,) = mails("infirmiere@lilas.example")
    assert confirm(nurse, told, code_in(asked.body)).status == 200
    happened(exchange, hospital, key)
    assert len(mails("infirmiere@lilas.example")) == 2
    with held_back(exchange):
        happened(exchange, hospital, key)
        out_of_the_circle(exchange, 5, key, "nurse")
    exchange.pump.run_until_idle()
    assert len(mails("infirmiere@lilas.example")) == 2
    assert status(nurse, told) == "active"


def test_nde_1_declared_events_by_email(exchange: Exchange, operator: Operator, hospital: Client) -> None:
    """Flow 5: that there is something, to who gave the code back."""
    register(hospital, 17)
    practice = exchange.client("practice")
    asked = nde.subscription("", channel={"type": "email", "endpoint": "mailto:nde@cabinet.example"})
    told = subscribed(exchange, practice, asked)
    (letter,) = mails("nde@cabinet.example")
    assert confirm(practice, told, code_in(letter.body)).status == 200
    for code, letters in (("ADM", 1), ("SOR", 2)):
        assert hospital.post("CommunicationRequest", nde.declaration(code)).status == 201
        exchange.pump.run_until_idle()
        assert len(mails("nde@cabinet.example")) == letters
    news = mails("nde@cabinet.example")[1].body
    assert "Sortie" not in news
    assert "SOR" not in news


def test_a_queue_that_is_another_clients_by_now(exchange: Exchange, operator: Operator, key: str) -> None:
    partner = exchange.client("hospital-b")
    made = partner.post("Subscription", subscription(QUEUE, key, content="id-only")).json["id"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARTNER_QUEUES", json.dumps([{"client_id": "practice", "arn": QUEUE}]))
        wiring.reset()
        exchange.pump.run_until_idle()
        assert status(partner, made) == "error"
    wiring.reset()


def test_more_news_than_a_day_bears_wait_and_are_no_failure(
    exchange: Exchange, hospital: Client, patient: Client, key: str
) -> None:
    told = subscribed(exchange, patient, subscription("tel:+33612345672", key))
    (asked,) = [text for number, text in texts() if number == "+33612345672"]
    assert confirm(patient, told, code_in(asked)).status == 200
    for _ in range(6):
        happened(exchange, hospital, key)
    assert len([number for number, _ in texts() if number == "+33612345672"]) == 1 + 5
    assert status(patient, told) == "active"


def test_an_address_is_not_to_be_read_in_the_tables(exchange: Exchange, patient: Client, key: str) -> None:
    subscribed(exchange, patient, subscription("mailto:georgette@maison.example", key))
    assert mails("georgette@maison.example")
    for table in ("operations", "audit", "clinical"):
        assert "georgette" not in str(exchange.table(table))


def test_a_partner_reads_signed_notifications_from_its_own_queue(
    exchange: Exchange, operator: Operator, hospital: Client, key: str
) -> None:
    partner = exchange.client("hospital-b")
    made = partner.post("Subscription", subscription(QUEUE, key, content="id-only"))
    assert made.status == 201, made.body
    secret = dict(made.headers)["X-Passerelle-Webhook-Secret"]
    exchange.pump.run_until_idle()
    assert status(partner, made.json["id"]) == "active"
    happened(exchange, hospital, key)
    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName="partner.fifo")["QueueUrl"]
    received = []
    while messages := sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"]).get("Messages"):
        for message in messages:
            received.append(message)
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert len(received) == 2  # the handshake, and the event
    for message in received:
        attributes = {name: each["StringValue"] for name, each in message["MessageAttributes"].items()}
        assert verify(
            [secret],
            attributes["X-Passerelle-Delivery"],
            message["Body"].encode(),
            attributes["X-Passerelle-Signature"],
            wiring.now(),
        )
    assert json.loads(received[1]["Body"])["entry"][1]["fullUrl"].rpartition("/")[0].endswith("/Observation")


@pytest.mark.parametrize(
    ("client", "endpoint", "content"),
    [
        ("hospital-a", QUEUE, "id-only"),  # the queue was given to another client
        ("hospital-b", QUEUE.replace("partner", "other"), "id-only"),
        ("patient-1", DOCTOR, "full-resource"),
        ("patient-1", QUEUE, "id-only"),
        ("hospital-a", "mailto:docteur@cabinet.example,autre@x.example", "empty"),
        ("hospital-a", "mailto:docteur@cabinet.example", "id-only"),
        ("hospital-a", "tel:+33899000000", "empty"),
    ],
)
def test_what_is_not_offered_is_refused(
    exchange: Exchange, operator: Operator, key: str, client: str, endpoint: str, content: str
) -> None:
    """SUB-2"""
    answer = exchange.client(client).post("Subscription", subscription(endpoint, key, content=content))
    assert refusal(answer) == (422, "not-supported")


def mailbox(exchange: Exchange, operator: Operator, client: Client, endpoint: str, key: str) -> str:
    """A confirmed subscription to the documents of a patient; forgets the letter with the code."""
    told = subscribed(exchange, client, subscription(endpoint, key, content="full-resource", topic="document-changed"))
    letter = next(each for each in operator.taken if each["To"] == endpoint.removeprefix("mailto:"))
    assert confirm(client, told, code_in(letter.get_content())).status == 200
    operator.taken.clear()
    exchange.pump.run_until_idle()
    return told


def test_a_health_mailbox_gets_the_document_itself(
    exchange: Exchange, operator: Operator, hospital: Client, patient: Client, key: str
) -> None:
    operator.taken.clear()
    practice = exchange.client("practice")
    mailbox(exchange, operator, practice, DOCTOR, key)
    coded = {"coding": [{"system": "http://loinc.org", "code": "11488-4", "display": "CR ou fiche de consultation"}]}
    document = published(hospital, key, type=coded)
    exchange.pump.run_until_idle()
    (message,) = (each for each in operator.taken if each["To"] == DOCTOR.removeprefix("mailto:"))
    assert re.fullmatch(r"XDM/1\.0/DDM\+CR ou fiche de consultation [A-Z' -]+ \S+ \d\d/\d\d/\d{4}", message["Subject"])
    (attached,) = message.iter_attachments()
    archive = zipfile.ZipFile(BytesIO(attached.get_content()))
    assert archive.read("IHE_XDM/SUBSET01/DOC0001.XML") == examples.CDA
    assert key not in str(message["Subject"])
    exchange.pump.run_until_idle()
    log = patient.get(f"AuditEvent?patient=Patient/{key}&date=ge2026&entity=Binary/{document['id']}")
    sent = [each for each in log.json["entry"] if "cabinet.mssante.fr" in json.dumps(each)]
    assert len(sent) == 1  # it names where the content went, and not whose mailbox it is
    assert "docteur" not in json.dumps(sent)


def test_a_document_that_is_hidden_meanwhile_is_not_sent(
    exchange: Exchange, operator: Operator, hospital: Client, key: str
) -> None:
    """SUB-10: rights are asked again when it is sent."""
    operator.taken.clear()
    practice = exchange.client("practice")
    told = mailbox(exchange, operator, practice, "mailto:autre@cabinet.mssante.fr", key)
    document = published(hospital, key, "N")
    subscription = wiring.notification_ports().subscriptions.find(told)
    assert subscription is not None
    event = Event(
        name=EventName.DOCUMENT_CHANGED,
        reference=place(document),
        version=1,
        at=wiring.now(),
        author="hospital-a",
        patient=key,
    )
    for number, sent in ((1, 1), (2, 0)):
        operator.taken.clear()
        entries = [Notification(number=number, at=event.at, event=event)]
        wiring.mailbox_carrier().tell(subscription, NotificationKind.EVENT, entries, number, event.at)
        (message,) = operator.taken
        assert len(list(message.iter_attachments())) == sent
        changed(hospital, document, relabel("MASQUE_PS"))


def test_a_mailbox_that_does_not_exist_ends_the_subscription_at_once(
    exchange: Exchange, operator: Operator, hospital: Client, key: str
) -> None:
    """SUB-6, without fourteen tries."""
    operator.taken.clear()
    practice = exchange.client("practice")
    told = mailbox(exchange, operator, practice, "mailto:parti@cabinet.mssante.fr", key)
    operator.unknown.add("parti@cabinet.mssante.fr")
    published(hospital, key)
    exchange.pump.run_until_idle()
    found = practice.get(f"Subscription/{told}").json
    assert (found["status"], found["error"]) == ("error", "the endpoint did not acknowledge: status 550")


def test_sub_10_a_block_between_event_and_delivery_whatever_the_channel(
    exchange: Exchange, operator: Operator, hospital: Client, consumer: Consumer
) -> None:
    """What the webhook of a topic is told is in test_audience.py."""
    key = str(register(hospital, 17).json["id"])
    nurse, practice, laboratory = (exchange.client(each) for each in ("nurse", "practice", "laboratory"))
    into_the_circle(exchange, 17, key, "nurse")
    told = subscribed(exchange, nurse, subscription("tel:+33612345679", key))
    (letter,) = (said for number, said in texts() if number == "+33612345679")
    assert confirm(nurse, told, code_in(letter)).status == 200
    mailbox(exchange, operator, practice, "mailto:bloque@cabinet.mssante.fr", key)
    subscribed(exchange, practice, nde.subscription(consumer.url))
    subscribed(exchange, laboratory, feed(consumer, f"Patient?_id={key}"))
    subscribed(exchange, exchange.client("hospital-b"), subscription(QUEUE, key, content="full-resource"))
    consumer.received.clear()
    drained("partner.fifo")
    with held_back(exchange):
        happened(exchange, hospital, key)
        published(hospital, key)
        assert hospital.post("CommunicationRequest", nde.declaration()).status == 201
        assert register(hospital, 17, address=[{"city": "Ailleurs"}]).status == 200
        exchange.pump.run_until_idle()
        for each in ("nurse", "practice", "laboratory", "hospital-b"):
            blocked(exchange, 17, key, each)
    exchange.pump.run_until_idle()
    assert len([said for number, said in texts() if number == "+33612345679"]) == 1, "the one with the code"
    assert [each for each in operator.taken if each["To"] == "bloque@cabinet.mssante.fr"] == []
    assert consumer.received == []
    assert not [each for each in drained("partner.fifo") if key in each or "Observation" in each]


def drained(queue: str) -> list[str]:
    """The bodies of all messages in it."""
    sqs, bodies = boto3.client("sqs"), []
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for each in messages:
            bodies.append(str(each["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
    return bodies
