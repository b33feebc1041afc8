"""Contents whose commit never came are discarded, some time later; those of a document never are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import contents
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register

DATA = contents.pdf(1_000)


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    return str(register(exchange.client("hospital-a"), 1).json["id"])


def stored(exchange: Exchange) -> list[str]:
    listed = exchange.stack.client("s3").list_objects_v2(Bucket=exchange.stack.environment["DOCUMENTS_BUCKET"])
    return [each["Key"] for each in listed.get("Contents", [])]


def sweep(exchange: Exchange, *keys: str) -> dict[str, Any]:
    """What the queue gives the function, as S3 says it (its user guide, "EventBridge event message structure")."""
    records = [
        {
            "messageId": str(number),
            "receiptHandle": "r",
            "body": json.dumps(
                {"source": "aws.s3", "detail-type": "Object Created", "detail": {"object": {"key": key}}}
            ),
            "attributes": {},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-west-3:000000000000:contents",
            "awsRegion": "eu-west-3",
        }
        for number, key in enumerate(keys)
    ]
    runtime = exchange.gateway._runtime
    (name,) = (name for name, function in runtime.functions.items() if function.name == "sweep")
    answer: dict[str, Any] = runtime.invoke(name, {"Records": records})
    return answer


def test_what_no_document_names_is_discarded(exchange: Exchange, hospital: Client, key: str) -> None:
    place = contents.published(hospital, key, DATA)
    (published,) = stored(exchange)
    taken = contents.submission(key, DATA, "application/pdf", unique="urn:uuid:taken")
    contents.publish(hospital, taken)
    other = contents.submission(key, contents.pdf(1_000, seed=3), "application/pdf", unique="urn:uuid:taken")
    assert hospital.post("", other).status == 409
    assert len(stored(exchange)) == 3, "the content of the refused submission"
    assert sweep(exchange, *stored(exchange)) == {"batchItemFailures": []}
    assert len(stored(exchange)) == 2
    assert published in stored(exchange)
    assert hospital.get(place, Accept="*/*").body == DATA


def test_again_and_for_what_is_none_of_its_business(exchange: Exchange, key: str) -> None:
    """The queue delivers at least once, and S3 holds more than contents."""
    before = stored(exchange)
    orphan = f"documents/{key}/{'0' * 26}"
    s3, bucket = exchange.stack.client("s3"), exchange.stack.environment["DOCUMENTS_BUCKET"]
    kept = [f"versions/{key}/{'0' * 64}", f"documents/{key}/other", f"documents/{key}/{'0' * 26}/below"]
    for each in (orphan, *kept):
        s3.put_object(Bucket=bucket, Key=each, Body=b"x")
    for _ in range(2):
        assert sweep(exchange, orphan, *kept) == {"batchItemFailures": []}
        assert sorted(stored(exchange)) == sorted([*before, *kept])


def test_the_queue_is_told_of_every_new_content_and_waits(exchange: Exchange, hospital: Client, key: str) -> None:
    (queue,) = (
        each.ref
        for name, each in exchange.stack.resources.items()
        if name.startswith("NotificationsContents") and "Dead" not in name and each.ref.startswith("http")
    )
    sqs = exchange.stack.client("sqs")

    def waiting() -> int:
        names = ["ApproximateNumberOfMessagesDelayed", "ApproximateNumberOfMessages"]
        found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        assert found["ApproximateNumberOfMessages"] == "0", "nothing can be asked before a commit had its time"
        return int(found["ApproximateNumberOfMessagesDelayed"])

    before = waiting()
    contents.published(hospital, key, DATA)
    assert waiting() == before + 1


def test_a_deleted_content_comes_back_for_a_while(exchange: Exchange, key: str) -> None:
    """The function may take a content out of reach, not destroy it."""
    name = f"documents/{key}/{'1' * 26}"
    s3, bucket = exchange.stack.client("s3"), exchange.stack.environment["DOCUMENTS_BUCKET"]
    s3.put_object(Bucket=bucket, Key=name, Body=b"x")
    sweep(exchange, name)
    versions = s3.list_object_versions(Bucket=bucket, Prefix=name)
    assert [each["Key"] for each in versions["Versions"]] == [name]
    assert versions["DeleteMarkers"][0]["IsLatest"] is True
