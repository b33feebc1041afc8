"""The emulator: what it holds outlives its process, which ends with its parent; the pump works on it as on moto."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.child import Child, ChildError
from local.emulator import REGION, Emulator
from local.pump import Pump
from local.synthesis import ROOT
from local.template import Stack, clients
from tests.local import small

_STARTED_AND_KILLED = """
import fcntl, os, signal, sys
from pathlib import Path
from local.emulator import Emulator
from local.template import clients

lock = open(sys.argv[2], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
emulator = Emulator(Path(sys.argv[1]), keeps=[lock.fileno()])
clients(emulator.url)("s3").put_object(Bucket="kept-documents", Key="late", Body=b"late")
print(emulator.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def _write(client: Callable[[str], Any]) -> tuple[str, bytes]:
    """A little of everything; the id of a key, and a signature of it."""
    string: list[Any] = [{"AttributeName": "PK", "AttributeType": "S"}]
    key: list[Any] = [{"AttributeName": "PK", "KeyType": "HASH"}]
    client("dynamodb").create_table(
        TableName="kept", KeySchema=key, AttributeDefinitions=string, BillingMode="PAY_PER_REQUEST"
    )
    client("dynamodb").put_item(TableName="kept", Item={"PK": {"S": "a"}, "bytes": {"B": b"one"}})
    where = {"LocationConstraint": REGION}
    client("s3").create_bucket(Bucket="kept-documents", CreateBucketConfiguration=where)
    client("s3").put_object(Bucket="kept-documents", Key="some/key", Body=b"two")
    id = client("kms").create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    signed = client("kms").sign(KeyId=id, Message=b"three", SigningAlgorithm="ECDSA_SHA_256")
    return id, signed["Signature"]


def _check(client: Callable[[str], Any], id: str, signature: bytes) -> None:
    kept = client("dynamodb").get_item(TableName="kept", Key={"PK": {"S": "a"}})
    assert kept["Item"]["bytes"]["B"] == b"one"
    assert client("s3").get_object(Bucket="kept-documents", Key="some/key")["Body"].read() == b"two"
    verified = client("kms").verify(KeyId=id, Message=b"three", Signature=signature, SigningAlgorithm="ECDSA_SHA_256")
    assert verified["SignatureValid"]


def test_what_was_saved_survives_a_kill_which_is_told(tmp_path: Path) -> None:
    killed = Emulator(tmp_path)
    written = _write(clients(killed.url))
    killed.save()
    assert killed.is_running
    os.kill(killed.pid, signal.SIGKILL)
    for told in (killed.wait, killed.save, killed.close):
        with pytest.raises(ChildError, match=r"ended by itself \(exit status -9\)"):
            told()
    with Emulator(tmp_path) as again:
        _check(clients(again.url), *written)


def test_it_ends_when_whoever_started_it_is_killed_and_has_saved(tmp_path: Path) -> None:
    folder, lock = tmp_path / "emulator", tmp_path / "lock"
    with Emulator(folder) as emulator:
        written = _write(clients(emulator.url))
    command = [sys.executable, "-c", _STARTED_AND_KILLED, str(folder), str(lock)]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # not before the orphan has let go
    with Emulator(folder) as again:
        _check(clients(again.url), *written)
        assert clients(again.url)("s3").get_object(Bucket="kept-documents", Key="late")["Body"].read() == b"late"


def test_signals_are_for_whoever_started_it(emulator: Emulator) -> None:
    for each in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        os.kill(emulator.pid, each)
    assert emulator.cpu_ms() > 0
    assert os.getsid(emulator.pid) != os.getsid(0)  # so Ctrl-C does not reach it


def test_a_child_that_does_not_come_up_is_told() -> None:
    with pytest.raises(ChildError, match=r"^it ended by itself \(exit status 3\)$"):
        Child("it", [sys.executable, "-c", "raise SystemExit(3)"])


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator() as started:
        yield started


@pytest.fixture(scope="module")
def stack(emulator: Emulator) -> Stack:
    assert emulator.url.startswith("http://127.0.0.1:")
    return Stack.deploy(small.small_template(), client=clients(emulator.url))


@pytest.fixture
def pump(stack: Stack) -> Pump:
    small.worked.clear()
    small.followed.clear()
    return Pump(stack.sources, small.runtime_of(stack), stack.client, region=REGION)


def test_failing_messages_reach_the_dead_letter_queue(stack: Stack, pump: Pump) -> None:
    sqs = stack.client("sqs")
    for body in ("a", "bad"):
        sqs.send_message(QueueUrl=stack.resources["Jobs"].ref, MessageBody=body)
    pump.run_until_idle(retry_at_once=True)
    assert small.worked == ["a"]
    dead = sqs.receive_message(QueueUrl=stack.resources["DeadJobs"].ref)["Messages"]
    assert [message["Body"] for message in dead] == ["bad"]


def test_table_records_reach_their_follower(stack: Stack, pump: Pump) -> None:
    for key in ("O#1", "P#1", "O#2bad"):
        stack.client("dynamodb").put_item(TableName=stack.environment["TABLE"], Item={"PK": {"S": key}})
    pump.run_until_idle()
    assert ["O#1"] in small.followed
    assert len(stack.client("sqs").receive_message(QueueUrl=stack.resources["DeadRecords"].ref)["Messages"]) == 1


def test_a_group_of_a_fifo_queue_waits_for_its_first_message(stack: Stack) -> None:
    sqs = stack.client("sqs")
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true", "VisibilityTimeout": "1"}
    url = sqs.create_queue(QueueName="groups.fifo", Attributes=attributes)["QueueUrl"]
    for group, body in (("x", "x1"), ("x", "x2"), ("y", "y1")):
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=group)

    def received() -> list[str]:
        return [each["Body"] for each in sqs.receive_message(QueueUrl=url).get("Messages", [])]

    assert (received(), received(), received()) == (["x1"], ["y1"], [])
    time.sleep(1.1)
    assert received() == ["x1"]


def test_clients_are_made_once_per_endpoint() -> None:
    assert clients("http://127.0.0.1:1")("sqs") is clients("http://127.0.0.1:1")("sqs")
    assert clients("http://127.0.0.1:1")("sqs") is not clients("http://127.0.0.1:2")("sqs")
