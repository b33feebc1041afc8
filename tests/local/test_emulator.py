"""The emulator: what it holds outlives its process, and the pump works on it as on moto."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.emulator import REGION, Emulator
from local.pump import Pump
from local.synthesis import ROOT
from local.template import Stack, clients
from tests.local import small

_PREAMBLE = """
import os, sys
from pathlib import Path
from local.emulator import Emulator
from local.stack import isolate
from local.template import clients

emulator = Emulator(Path(sys.argv[1]))
emulator.start()
isolate(emulator.url)
client = clients(emulator.url)
dynamodb, s3, kms = client("dynamodb"), client("s3"), client("kms")
"""
_WRITE = """
string = [{"AttributeName": "PK", "AttributeType": "S"}]
key = [{"AttributeName": "PK", "KeyType": "HASH"}]
dynamodb.create_table(
    TableName="kept", KeySchema=key, AttributeDefinitions=string, BillingMode="PAY_PER_REQUEST"
)
dynamodb.put_item(TableName="kept", Item={"PK": {"S": "a"}, "bytes": {"B": b"one"}})
s3.create_bucket(Bucket="kept-documents", CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
s3.put_object(Bucket="kept-documents", Key="some/key", Body=b"two")
key_id = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
signature = kms.sign(KeyId=key_id, Message=b"three", SigningAlgorithm="ECDSA_SHA_256")["Signature"]
print(key_id, signature.hex())
"""
_READ = """
assert dynamodb.get_item(TableName="kept", Key={"PK": {"S": "a"}})["Item"]["bytes"]["B"] == b"one"
assert s3.get_object(Bucket="kept-documents", Key="some/key")["Body"].read() == b"two"
signature = bytes.fromhex(sys.argv[3])
key = {"KeyId": sys.argv[2], "SigningAlgorithm": "ECDSA_SHA_256"}
assert kms.verify(Message=b"three", Signature=signature, **key)["SignatureValid"]
"""


def _run(code: str, *arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", _PREAMBLE + textwrap.dedent(code), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_what_was_saved_survives_a_kill(tmp_path: Path) -> None:
    killed = "emulator.save()\nsys.stdout.flush()\nos._exit(0)"
    written = _run(_WRITE + killed, str(tmp_path)).split()
    _run(_READ + "emulator.stop()", str(tmp_path), *written)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    emulator = Emulator()
    emulator.start()
    assert emulator.url.startswith("http://127.0.0.1:")
    yield Stack.deploy(small.small_template(), client=clients(emulator.url))
    emulator.stop()


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


def test_there_is_one_emulator_in_a_process(stack: Stack) -> None:
    with pytest.raises(RuntimeError, match="one emulator"):
        Emulator()


def test_clients_are_made_once_per_endpoint() -> None:
    assert clients("http://127.0.0.1:1")("sqs") is clients("http://127.0.0.1:1")("sqs")
    assert clients("http://127.0.0.1:1")("sqs") is not clients("http://127.0.0.1:2")("sqs")
