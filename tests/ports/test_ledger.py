"""The verifiable log on its adapters: every record once, whatever crashes, comes again, or happens at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passerelle import wiring
from passerelle.audit.model import AuditRecord
from passerelle.errors import Fault, Invalid, NotFound
from passerelle.ledger.model import CHUNK_LEAVES, shard_of
from passerelle.ledger.tree import EMPTY_TREE
from tests.ledger import PATIENT, SHARDS, Crash, Log, crash, empty_log, log_on_moto
from verifier import verify

OTHER = next(f"{number:016}" for number in range(99) if shard_of(f"{number:016}", SHARDS) != shard_of(PATIENT, SHARDS))
GONE, KEYLESS = f"{PATIENT[:-1]}g", f"{PATIENT[:-1]}h"
PEOPLE = (PATIENT, OTHER, None)


@pytest.fixture(scope="module")
def module_log() -> Iterator[Log]:
    with log_on_moto() as log:
        yield log


@pytest.fixture
def log(module_log: Log) -> Log:
    return empty_log()


def items() -> list[Any]:
    """The access log as it is stored."""
    table = boto3.resource("dynamodb").Table(wiring.table_names().audit)
    return [
        {name: value.value if hasattr(value, "value") else value for name, value in item.items()}
        for item in table.scan()["Items"]
    ]


def assert_whole(log: Log, records: list[AuditRecord]) -> None:
    """Every record is a leaf, once, in a sound tree, and proved by a chain of epochs without gap or fork."""
    log.wait(60)
    log.seal()
    assert sorted(log.leaves()) == sorted(entry.commitment for entry in log.entries(*records))
    keys = log.publisher.keys()
    for record in records:
        proof = log.proof(record)
        assert proof is not None
        event, _ = verify.check_event(proof, keys)
        assert event["id"] == record.id
    last = wiring.anchors().last()
    objects = boto3.client("s3").list_objects_v2(Bucket="anchors")["Contents"]
    assert [each["Key"] for each in objects] == [f"epochs/{epoch:010}.json" for epoch in range(last.epoch + 1)]
    for epoch in range(last.epoch):
        verify.check_epochs(log.publisher.growth(epoch, epoch + 1), keys)
    verify.check_epochs(log.publisher.growth(0, last.epoch), keys)


@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=4), st.booleans(), st.booleans()),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=6)
def test_every_record_is_a_leaf_once_however_often_it_comes(module_log: Log, batches: Any) -> None:
    """Goal I6: what was disclosed is recorded, and what is recorded is in the log; batches come again, whole or not."""
    log, records = empty_log(), list[AuditRecord]()
    for people, comes_again, is_sealed in batches:
        new = [log.record(patient) for patient in people]
        records += new
        log.wait(0.4)
        log.log(*new)
        if comes_again:
            log.wait(7)
            log.log(*records[-len(new) - 1 :])
        if is_sealed:
            log.seal()
            assert log.seal() is None
    assert_whole(log, records)


def test_large_batches_are_in_several_chunks_of_one_transaction(log: Log) -> None:
    records = [log.record() for _ in range(CHUNK_LEAVES + 30)]
    with log.calls() as calls:
        log.log(*records)
    assert calls.made.count("TransactWriteItems") == 1
    sizes = [len(each.commitments) for each in wiring.leaves().chunks(shard_of(PATIENT, SHARDS), since_ms=0)]
    assert sizes == [CHUNK_LEAVES, 30]
    log.seal()
    for record in (records[0], records[CHUNK_LEAVES - 1], records[-1]):
        verify.check_event(log.proof(record) or {}, log.publisher.keys())


def test_what_a_batch_costs(log: Log) -> None:
    """Heads in one call; then one transaction for each shard, and nothing is looked through when nothing is new."""
    log.log(*(log.record(patient) for patient in PEOPLE))
    log.wait(5)
    batch = log.entries(*(log.record(patient) for patient in PEOPLE * 3))
    with log.calls() as calls:
        assert log.append(batch) == []
    assert sorted(calls.made) == ["BatchGetItem", *["TransactWriteItems"] * 3]
    with log.calls() as again:
        assert log.append(batch) == []
    assert sorted(again.made) == ["BatchGetItem", *["Query"] * 3]


def test_what_a_seal_costs(log: Log) -> None:
    log.log(log.record())
    log.seal()
    log.log(log.record())
    with log.calls() as calls:
        assert log.seal() is not None
    head = ["GetItem", *["UpdateItem"] * (SHARDS + 1)]
    assert calls.made[: len(head)] == head
    assert calls.made[len(head) :] == ["Sign", "PutObject", "GetObject", "TransactWriteItems"]
    with log.calls() as idle:
        assert log.seal() is None
    assert idle.made == head


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_an_append_may_be_killed_at_each_call(log: Log, is_after: bool) -> None:
    records, at = list[AuditRecord](), 0
    while True:
        batch = [log.record(patient) for patient in PEOPLE]
        records += batch
        entries = log.entries(*batch)
        with log.calls(at=at, is_after=is_after, then=crash) as calls:
            try:
                log.append(entries)
            except Crash:
                assert log.append(entries) == []
            else:
                assert at == len(calls.made)
                break
        at += 1
    assert at >= 4
    assert_whole(log, records)


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_a_seal_may_be_killed_at_each_call(log: Log, is_after: bool) -> None:
    records, at = list[AuditRecord](), 0
    while True:
        records.append(log.record())
        log.log(records[-1])
        with log.calls(at=at, is_after=is_after, then=crash) as calls:
            try:
                log.wait(60)
                assert log.seal() is not None
            except Crash:
                records.append(log.record(OTHER))  # life goes on before somebody seals again
                log.log(records[-1])
                log.wait(1)
                log.seal()
            else:
                assert at == len(calls.made)
                break
        assert wiring.anchors().last().sizes == tuple(
            head.frontier.size for head in wiring.leaves().heads(range(SHARDS + 1)).values()
        )
        at += 1
    assert_whole(log, records)


def test_two_append_the_same_at_once(log: Log) -> None:
    """As when a poller of the stream is replaced: the second runs within the first, at each of its calls."""
    records = list[AuditRecord]()
    for at in range(4):
        log.wait(2)
        batch = [log.record(), log.record()]
        more = log.record()
        records += [*batch, more]
        entries, both = log.entries(*batch), log.entries(*batch, more)
        with log.calls(at=at, then=lambda both=both: log.append(both)):
            assert log.append(entries) == []
        assert log.append(both) == []
    assert_whole(log, records)


def test_somebody_appends_while_the_log_is_sealed(log: Log) -> None:
    """No leaf is outside an epoch and as old as it: at each call of the seal others append."""
    records, at, calls_of_a_seal = list[AuditRecord](), 0, 99
    while at < calls_of_a_seal:
        log.wait(60)
        records += [log.record(), log.record(OTHER)]
        log.log(records[-2])
        late = log.entries(records[-1])
        with log.calls(at=at, then=lambda late=late: log.append(late)) as calls:
            log.seal()
        calls_of_a_seal = len(calls.made)
        at += 1
    log.log(*records[-2:])
    assert at >= 8
    assert_whole(log, records)


def test_the_log_is_sealed_while_somebody_appends(log: Log) -> None:
    """The other way round: a leaf that was on its way when the epoch ended is later than it."""
    records = [log.record()]
    log.log(*records)
    for at in range(3):
        log.wait(60)
        records += [log.record(), log.record(OTHER)]
        log.log(records[-1])
        entries = log.entries(records[-2])

        def seal_in_half_a_second() -> None:
            log.wait(0.5)
            log.seal()
            log.wait(-0.5)

        with log.calls(at=at, then=seal_in_half_a_second):
            assert log.append(entries) == []
    assert_whole(log, records)


def test_two_seal_at_once(log: Log) -> None:
    """The second runs within the first, at each of its calls: there is one epoch of each number."""
    records, at, calls_of_a_seal = list[AuditRecord](), 0, 99
    while at < calls_of_a_seal:
        log.wait(60)
        records.append(log.record())
        log.log(records[-1])
        with log.calls(at=at, then=log.seal) as calls:
            log.seal()
        calls_of_a_seal = len(calls.made)
        at += 1
    assert at >= 8
    assert_whole(log, records)


def test_a_seal_is_asked_for_once_the_batch_is_there_again_or_not(log: Log) -> None:
    batch = log.entries(log.record())
    log.append(batch)
    log.wait(60)
    log.append(batch)
    assert log.asked == ["202601140930", "202601140931"]
    assert log.append([]) == []
    assert len(log.asked) == 2


def test_leaves_are_in_the_order_of_their_times_on_a_clock_that_goes_back(log: Log) -> None:
    records = [log.record()]
    log.log(*records)
    log.seal()
    log.wait(-0.3)
    records.append(log.record())
    log.log(records[-1])
    times = [chunk.appended_ms for chunk in wiring.leaves().chunks(shard_of(PATIENT, SHARDS), since_ms=0)]
    assert times == sorted(set(times))
    assert_whole(log, records)


def test_what_is_ahead_of_the_clock_waits_and_holds_no_other_shard_up(log: Log) -> None:
    log.wait(10)
    early = log.record(OTHER)
    log.wait(-10)
    prompt = log.record(PATIENT)
    (failure,) = log.append(log.entries(early, prompt))
    assert failure.positions == (log.entries(early)[0].position,)
    assert log.leaves() == [log.entries(prompt)[0].commitment]
    log.wait(10)
    log.log(early, prompt)
    assert_whole(log, [early, prompt])


def test_a_log_with_another_number_of_shards_is_not_sealed(log: Log) -> None:
    from passerelle.ledger.service import Sealer

    log.log(log.record())
    log.seal()
    other: Any = Sealer(wiring.leaves(), wiring.anchors(), log._key, shards=4, in_parallel=None, pause=None)  # type: ignore[arg-type]
    with pytest.raises(Fault):
        other.seal(log.now)


def test_a_record_is_proved_once_it_is_sealed(log: Log) -> None:
    record = log.record()
    assert log.proof(record) is None
    log.log(record)
    assert log.proof(record) is None
    log.seal()
    assert log.proof(record) is not None


def test_what_is_erased_is_proved_to_nobody_but_who_has_the_proof(log: Log) -> None:
    """Goal I15: without its salt a leaf tells nothing, and the tree goes on proving all others."""
    wiring.keyring().sealer(GONE)
    erased, kept, sparse = log.record(GONE, query="Patient?family=DURAND"), log.record(), log.record(None)
    log.log(erased, kept, sparse)
    log.seal()
    proof = log.proof(erased)
    wiring.keyring().destroy(GONE, log.now)
    with pytest.raises(NotFound):
        log.proof(erased)
    late = log.record(GONE, query="Patient?family=DURAND")
    log.wait(60)
    log.log(late)
    log.seal()
    with pytest.raises(NotFound):
        log.proof(late)
    keys = log.publisher.keys()
    for each in (proof, log.proof(kept), log.proof(sparse)):
        verify.check_event(each or {}, keys)
    verify.check_epochs(log.publisher.growth(0, 1), keys)
    stored = b"".join(bytes(value) for item in items() for value in item.values() if isinstance(value, bytes))
    assert bytes.fromhex((proof or {})["salt"]) not in stored
    assert "DURAND" not in str(items())


def test_a_record_of_somebody_without_a_key_is_proved_once_there_is_one(log: Log) -> None:
    early = log.record(KEYLESS, query="Patient?family=DURAND")
    log.log(early)
    log.seal()
    wiring.keyring().sealer(KEYLESS)
    assert log.proof(early) is not None
    assert wiring.trail().find(early.id) == early


def test_what_was_changed_in_the_table_has_no_proof(log: Log) -> None:
    record = log.record(client_id="hospital-a")
    log.log(record)
    log.seal()
    from dataclasses import replace

    assert log.proof(record) is not None
    assert log.proof(replace(record, client_id="hospital-b")) is None


def test_a_proof_is_small_in_a_large_log(log: Log) -> None:
    """At most 4 kB beside the event and the anchor: a leaf of a shard of two thousand million has 31 hashes."""
    import json

    records = [log.record() for _ in range(300)]
    log.log(*records)
    log.seal()
    proof = log.proof(records[150])
    assert proof is not None
    assert len(proof["path"]) == 9
    rest = {name: said for name, said in proof.items() if name not in ("event", "anchor", "previous")}
    assert len(json.dumps(rest)) + (31 - 9) * 68 < 4_096


def test_questions_about_epochs_that_are_not_there(log: Log) -> None:
    with pytest.raises(NotFound):
        log.publisher.latest()
    log.log(log.record())
    log.seal()
    assert log.publisher.latest() == log.publisher.anchor(0)
    with pytest.raises(NotFound):
        log.publisher.anchor(1)
    with pytest.raises(Invalid):
        log.publisher.growth(1, 0)


def test_the_keys_of_earlier_anchors_stay_known(log: Log) -> None:
    log.log(log.record())
    log.seal()
    (before,) = log.publisher.keys()["keys"]
    wiring.anchors().publish_key({**before, "kid": "next"})
    assert {key["kid"] for key in log.publisher.keys()["keys"]} == {before["kid"], "next"}


def test_nothing_in_the_log_is_about_anybody(log: Log) -> None:
    record = log.record()
    log.log(record)
    log.seal()
    items = boto3.client("dynamodb").scan(TableName="ledger")["Items"]
    stored = repr(items) + repr(log.publisher.latest())
    assert not [each for each in (record.id, PATIENT, "hospital-a", "read") if each in stored]
    assert EMPTY_TREE.root.hex() in stored
