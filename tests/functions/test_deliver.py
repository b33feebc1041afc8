"""The batch of delivery: the order within a subscription, and independence between two."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from passerelle.api.batches import BatchApp
from passerelle.api.incidents import incidents
from passerelle.notifications.model import HeldBackError


def record(name: str, group: str) -> dict[str, Any]:
    return {"messageId": name, "body": json.dumps({"name": name}), "attributes": {"MessageGroupId": group}}


def test_after_a_failure_the_rest_of_its_group_waits_and_other_groups_go_on() -> None:
    handler = BatchApp("deliver", source="fifo queue", provide=lambda: None)
    served = []

    @handler.record
    def serve(record: Any, wired: Any) -> None:
        served.append(record["messageId"])
        if record["messageId"] == "a1":
            raise RuntimeError("a value that is not to be logged")

    batch = [record("a1", "a"), record("b1", "b"), record("a2", "a"), record("b2", "b")]
    answer = handler({"Records": batch}, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "a1"}, {"itemIdentifier": "a2"}]}
    assert served == ["a1", "b1", "b2"]


def test_a_batch_that_failed_as_a_whole_is_answered_and_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    handler = BatchApp("deliver", source="queue", provide=lambda: None)

    @handler.record
    def serve(record: Any, wired: Any) -> None:
        raise RuntimeError("a value that is not to be logged")

    answer = handler({"Records": [record("a", "a"), record("b", "b")]}, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": "b"}]}
    logged = str([vars(record) for record in caplog.records])
    assert "RuntimeError" in logged
    assert "a value that is not to be logged" not in logged


def test_what_only_waits_is_not_logged_as_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    handler = BatchApp("deliver", source="fifo queue", provide=lambda: None)

    @handler.record
    def serve(record: Any, wired: Any) -> None:
        raise HeldBackError(datetime(2026, 3, 1, tzinfo=UTC))

    answer = handler({"Records": [record("a", "a")]}, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "a"}]}
    assert caplog.records == []


def test_an_incident_is_a_metric_of_the_stage_and_of_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    incidents("prod", lambda: 1_772_366_400_000)("subscription-in-error")
    line = json.loads(capsys.readouterr().out)
    (metric,) = line["_aws"]["CloudWatchMetrics"]
    assert (metric["Namespace"], metric["Dimensions"]) == ("Passerelle", [["stage"]])
    assert {name: value for name, value in line.items() if name != "_aws"} == {
        "stage": "prod",
        "subscription-in-error": 1,
    }


def test_the_deliver_function_is_a_fifo_consumer() -> None:
    from functions.deliver.handler import handler

    assert handler.source == "fifo queue"
