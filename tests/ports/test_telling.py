"""Adapters of the ways to be told, on moto: what is sent, and what refusals mean."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.ses.models import ses_backends
from moto.sns.models import sns_backends

from passerelle import wiring
from passerelle.aws.allowances import DynamoAllowances
from passerelle.aws.mail import SesMail
from passerelle.aws.partner_queues import SqsPartnerQueues
from passerelle.aws.texting import SnsTexting
from passerelle.notifications.model import UndeliveredError
from passerelle.notifications.queue_carrier import TooLongError
from tests.notifications import notifications_on_moto

REGION, ACCOUNT = "eu-west-3", "123456789012"
SENDER = "passerelle@exchange.example"
NUMBER = "+33612345678"


@pytest.fixture
def aws() -> Iterator[Any]:
    """Makes clients of services."""
    with mock_aws():
        yield lambda service: boto3.client(service, region_name=REGION)


def test_a_letter_is_sent_as_automatic_mail(aws: Any) -> None:
    client = aws("sesv2")
    client.create_email_identity(EmailIdentity=SENDER)
    SesMail(client, SENDER).send("somebody@home.example", "Sujet é", "Corps", "sub.1")
    (sent,) = ses_backends[ACCOUNT][REGION].sent_messages
    assert (sent.source, sent.subject, sent.body) == (SENDER, "Sujet é", "Corps")
    assert sent.destinations == {"ToAddresses": ["somebody@home.example"]}


def test_a_sender_that_is_not_verified_can_be_mended(aws: Any) -> None:
    with pytest.raises(UndeliveredError) as refusal:
        SesMail(aws("sesv2"), SENDER).send("somebody@home.example", "s", "b", "sub.1")
    assert not refusal.value.is_final
    assert "home" not in refusal.value.reason


def test_a_text_is_sent_to_one_number(aws: Any) -> None:
    SnsTexting(aws("sns"), "Passerelle").send(NUMBER, "du nouveau")
    assert list(sns_backends[ACCOUNT][REGION].sms_messages.values()) == [(NUMBER, "du nouveau")]


@pytest.fixture
def queues(aws: Any) -> SqsPartnerQueues:
    return SqsPartnerQueues(lambda region: boto3.client("sqs", region_name=region))


def arn(name: str, region: str = REGION) -> str:
    return f"arn:aws:sqs:{region}:{ACCOUNT}:{name}"


def received(aws: Any, url: str) -> list[Any]:
    answer = aws("sqs").receive_message(QueueUrl=url, MessageAttributeNames=["All"], AttributeNames=["All"])
    return list(answer.get("Messages", []))


def test_a_partner_receives_the_message_with_its_signature(aws: Any, queues: SqsPartnerQueues) -> None:
    url = aws("sqs").create_queue(QueueName="partner")["QueueUrl"]
    queues.send(arn("partner"), '{"é":1}', {"X-Passerelle-Delivery": "sub.1"}, group="sub", delivery="sub.1")
    (message,) = received(aws, url)
    assert message["Body"] == '{"é":1}'
    assert message["MessageAttributes"]["X-Passerelle-Delivery"]["StringValue"] == "sub.1"


def test_the_same_delivery_is_once_in_a_fifo_queue(aws: Any, queues: SqsPartnerQueues) -> None:
    url = aws("sqs").create_queue(QueueName="partner.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    for _ in range(2):
        queues.send(arn("partner.fifo"), "{}", {}, group="sub", delivery="sub.1")
    (message,) = received(aws, url)
    assert message["Attributes"]["MessageGroupId"] == "sub"


def test_a_queue_is_found_in_its_own_region(aws: Any, queues: SqsPartnerQueues) -> None:
    elsewhere = boto3.client("sqs", region_name="eu-west-1")
    url = elsewhere.create_queue(QueueName="partner")["QueueUrl"]
    queues.send(arn("partner", "eu-west-1"), "{}", {}, group="sub", delivery="sub.1")
    assert elsewhere.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "{}"


@pytest.mark.parametrize("size", [2_000, 2**20])
def test_what_is_too_long_for_the_queue_is_told_apart(aws: Any, queues: SqsPartnerQueues, size: int) -> None:
    aws("sqs").create_queue(QueueName="partner", Attributes={"MaximumMessageSize": "1024"})
    with pytest.raises(TooLongError):
        queues.send(arn("partner"), "x" * size, {}, group="sub", delivery="sub.1")


def test_a_queue_that_is_gone_refuses_and_sqs_is_not_down(queues: SqsPartnerQueues) -> None:
    with pytest.raises(UndeliveredError) as refusal:
        queues.send(arn("gone"), "{}", {}, group="sub", delivery="sub.1")
    assert refusal.value.is_answer
    assert not refusal.value.is_final


def test_nobody_takes_more_than_there_is() -> None:
    until = datetime(2026, 3, 2, 8, tzinfo=UTC)
    with notifications_on_moto():
        allowances = DynamoAllowances(wiring.dynamodb(), wiring.table_names())
        taken = [allowances.take("address|a@b.example", 3, until=until) for _ in range(5)]
        assert taken == [True, True, True, False, False]  # by one conditional write each
        assert allowances.take("address|c@d.example", 3, until=until)
        items = boto3.client("dynamodb").scan(TableName=wiring.table_names().operations)["Items"]
        assert "example" not in str(items)
        assert {item["ttl"]["N"] for item in items} == {str(int(until.timestamp()))}
