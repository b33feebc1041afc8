"""The pump feeds queues and streams as event source mappings do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from moto import mock_aws

from local.intrinsics import TemplateError
from local.pump import Pump
from local.template import Stack
from tests.local import small


class Running:
    """The small stack and its pump, with what the handlers saw."""

    def __init__(self) -> None:
        small.worked.clear()
        small.followed.clear()
        self.stack = Stack.deploy(small.small_template())
        self.pump = Pump(self.stack.sources, small.runtime_of(self.stack), self.stack.client, region=self.stack.region)

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self.stack.client("sqs").send_message(QueueUrl=self.url("Jobs"), MessageBody=body)

    def put(self, *keys: str) -> None:
        for key in keys:
            item = {"PK": {"S": key}, "bytes": {"B": b"\x00"}}
            self.stack.client("dynamodb").put_item(TableName=self.stack.environment["TABLE"], Item=item)

    def messages(self, queue: str) -> list[str]:
        received = self.stack.client("sqs").receive_message(QueueUrl=self.url(queue), MaxNumberOfMessages=10)
        return [message["Body"] for message in received.get("Messages", [])]

    def url(self, queue: str) -> str:
        return self.stack.resources[queue].ref


@pytest.fixture
def running() -> Iterator[Running]:
    with mock_aws():
        yield Running()


def test_messages_are_fed_once(running: Running) -> None:
    running.send("a", "b")
    assert running.pump.run_until_idle() == 2
    assert running.pump.run_until_idle() == 0
    assert sorted(small.worked) == ["a", "b"]
    assert running.messages("Jobs") == []


def test_reported_messages_wait_for_their_visibility_timeout(running: Running) -> None:
    running.send("a", "bad", "b")
    running.pump.run_until_idle()
    assert sorted(small.worked) == ["a", "b"]
    assert running.messages("Jobs") == []
    assert running.messages("DeadJobs") == []


def test_what_fails_too_often_ends_in_the_dead_letter_queue(running: Running) -> None:
    running.send("a", "bad")
    running.pump.run_until_idle(retry_at_once=True)
    assert small.worked == ["a"]
    assert running.messages("DeadJobs") == ["bad"]


def test_a_failed_invocation_fails_the_batch(running: Running) -> None:
    running.send("a", "boom")
    running.pump.run_until_idle(retry_at_once=True)
    assert small.worked == []
    assert sorted(running.messages("DeadJobs")) == ["a", "boom"]


def test_only_what_the_filter_lets_through_is_fed(running: Running) -> None:
    running.put("O#1", "P#1", "O#2", "P#2")
    running.pump.run_until_idle()
    assert small.followed == [["O#1", "O#2"]]
    running.put("P#3")
    assert running.pump.run_until_idle() == 1
    assert len(small.followed) == 1


def test_a_bad_record_is_isolated_retried_and_given_up(running: Running) -> None:
    running.put("O#1", "O#2", "O#3bad", "O#4")
    running.pump.run_until_idle()
    alone = [keys for keys in small.followed if keys == ["O#3bad"]]
    assert 1 <= len(alone) <= 3
    succeeded = [key for keys in small.followed if not any(key.endswith("bad") for key in keys) for key in keys]
    assert succeeded == ["O#1", "O#2", "O#4"]
    (given_up,) = (json.loads(message) for message in running.messages("DeadRecords"))
    assert given_up["DDBStreamBatchInfo"]["batchSize"] == 1


def test_threads(running: Running) -> None:
    running.pump.start()
    running.send("a")
    running.put("O#1")
    deadline = time.monotonic() + 5
    while not (small.worked and small.followed) and time.monotonic() < deadline:
        time.sleep(0.02)
    running.put("O#2")  # still in the stream when it stops
    assert running.pump.stop()
    assert small.worked == ["a"]
    assert [key for keys in small.followed for key in keys] == ["O#1", "O#2"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("TumblingWindowInSeconds", 5), ("Enabled", False), ("EventSourceArn", "arn:aws:kinesis:x")],
)
def test_a_mapping_that_would_behave_otherwise_is_an_error(name: str, value: Any) -> None:
    template = small.small_template()
    template["Resources"]["JobsToWorker"]["Properties"][name] = value
    with mock_aws(), pytest.raises(TemplateError, match="JobsToWorker"):
        Stack.deploy(template)
