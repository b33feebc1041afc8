"""The verifiable log on moto without a stack, its clock in the hands of the test, and the stand-alone verifier."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from passerelle import wiring
from passerelle.audit.canonical import canonical
from passerelle.audit.model import AuditRecord
from passerelle.aws.audit import DerivedSalts
from passerelle.aws.ledger import KmsAnchorKey
from passerelle.identifiers import new_resource_id
from passerelle.ledger.model import Anchor, Entry
from passerelle.ledger.proofs import Prover, Publisher
from passerelle.ledger.service import Appender, Failure, Sealer, milliseconds
from tests.registered import services

VERIFIER = Path(__file__).resolve().parents[1] / "verifier" / "verify.py"
SHARDS = 2
PATIENT = "0123456789abcdef"
START = datetime(2026, 1, 14, 9, 30, tzinfo=UTC)


def verdict(folder: Path, *documents: Mapping[str, Any]) -> tuple[bool, str]:
    """What the verifier says of keys and a proof, alone and in a process of its own."""
    names = []
    for number, document in enumerate(documents):
        (folder / f"{number}.json").write_text(json.dumps(document), "utf-8")
        names.append(str(folder / f"{number}.json"))
    done = subprocess.run(
        [sys.executable, "-I", str(VERIFIER), *names], capture_output=True, text=True, check=False, timeout=30
    )
    return done.returncode == 0, (done.stdout + done.stderr).strip()


class Crash(BaseException):
    """The process ends here."""


@dataclass
class Calls:
    """Counts AWS calls, and does something at one of them: before it is made, or once it took effect."""

    made: list[str] = field(default_factory=list)
    at: int | None = None
    is_after: bool = False
    then: Callable[[], object] | None = None
    _is_busy: bool = False

    def before(self, model: Any, **_: Any) -> None:
        if self._is_busy:
            return
        self.made.append(model.name)
        if not self.is_after:
            self._do()

    def after(self, model: Any, **_: Any) -> None:
        if self.is_after and not self._is_busy:
            self._do()

    def _do(self) -> None:
        if self.then is not None and len(self.made) - 1 == self.at:
            then, self.then, self._is_busy = self.then, None, True
            try:
                then()
            finally:
                self._is_busy = False


def crash() -> None:
    raise Crash


class Log:
    """The services of the log over the adapters of `wiring`; `now` is their clock."""

    def __init__(self) -> None:
        self.now = START
        self.asked: list[str] = []
        self.publisher = Publisher(wiring.leaves(), wiring.anchors(), in_parallel=_one_by_one)
        self.prover = Prover(wiring.leaves(), wiring.anchors(), DerivedSalts(wiring.table_names()), shards=SHARDS)
        self._key = KmsAnchorKey(wiring.aws("kms"), wiring.environment().anchor_key_id)

    def ask(self, minute: str) -> None:
        self.asked.append(minute)

    def record(self, patient: str | None = PATIENT, **said: Any) -> AuditRecord:
        """An audit record of now, stored."""
        made = AuditRecord(
            **{
                "id": new_resource_id(patient, self.now),
                "at": self.now,
                "name": "read",
                "action": "R",
                "outcome": "0",
                "client_id": "hospital-a",
                "organisation": "1",
                "role": "hospital",
                "token_id": "t",
                "request_id": "r",
                "patient": patient,
                **said,
            }
        )
        wiring.trail().append([made])
        return made

    def entries(self, *records: AuditRecord) -> list[Entry]:
        """The records as the stream gives them."""
        return [
            Entry(
                patient=each.patient,
                recorded_ms=milliseconds(each.at),
                commitment=_commitment(each),
                position=f"{number:021}",
            )
            for number, each in enumerate(records)
        ]

    def append(self, entries: Sequence[Entry]) -> list[Failure]:
        appender = Appender(
            wiring.leaves(),
            self,
            shards=SHARDS,
            now=lambda: self.now,
            in_parallel=_one_by_one,
            pause=lambda _: None,
        )
        return appender.append(entries)

    def log(self, *records: AuditRecord) -> None:
        assert self.append(self.entries(*records)) == []

    def seal(self) -> Anchor | None:
        sealer = Sealer(
            wiring.leaves(),
            wiring.anchors(),
            self._key,
            shards=SHARDS,
            in_parallel=_one_by_one,
            pause=lambda _: None,
        )
        return sealer.seal(self.now)

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def proof(self, record: AuditRecord) -> dict[str, Any] | None:
        return self.prover.prove(
            record.id, canonical(record), patient=record.patient, recorded_ms=milliseconds(record.at)
        )

    def leaves(self) -> list[bytes]:
        """Every commitment in the log, shard by shard, in order."""
        shards = range(SHARDS + 1)
        chunks = (chunk for shard in shards for chunk in wiring.leaves().chunks(shard, since_ms=0))
        return [commitment for chunk in chunks for commitment in chunk.commitments]

    @contextmanager
    def calls(self, **options: Any) -> Iterator[Calls]:
        calls = Calls(**options)
        events = [wiring.aws(service).meta.events for service in ("dynamodb", "s3", "kms")]
        for each in events:
            each.register("before-call.*.*", calls.before)
            each.register("after-call.*.*", calls.after)
        try:
            yield calls
        finally:
            for each in events:
                each.unregister("before-call.*.*", calls.before)
                each.unregister("after-call.*.*", calls.after)


def _one_by_one(*calls: Callable[[], Any]) -> tuple[Any, ...]:
    return tuple(call() for call in calls)


def _commitment(record: AuditRecord) -> bytes:
    from passerelle.aws.audit import _key_of

    key = _key_of(record.id)
    assert key is not None
    item = wiring.dynamodb().get(wiring.table_names().audit, key)
    assert item is not None
    commitment: bytes = item["commitment"]
    return commitment


@contextmanager
def log_on_moto() -> Iterator[Log]:
    """A new log; its tables, bucket and key are those of this process until it ends."""
    with services(), pytest.MonkeyPatch.context() as patch:
        key = boto3.client("kms").create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
        boto3.client("s3").create_bucket(
            Bucket="anchors", CreateBucketConfiguration={"LocationConstraint": "eu-west-3"}
        )
        patch.setenv("ANCHORS_BUCKET", "anchors")
        patch.setenv("ANCHOR_KEY_ID", key["KeyMetadata"]["KeyId"])
        patch.setenv("LEDGER_SHARDS", str(SHARDS))
        wiring.reset()
        yield Log()


def empty_log() -> Log:
    """The log of this process, emptied."""
    from tests.registered import empty

    empty("ledger")
    empty("audit")
    wiring.anchors.cache_clear()  # it knows which keys it published
    s3 = boto3.client("s3")
    for each in s3.list_objects_v2(Bucket="anchors").get("Contents", []):
        s3.delete_object(Bucket="anchors", Key=each["Key"])
    return Log()
