"""The verifiable log without AWS: events a second and core, how large a proof is, and how long verifying one takes.

What is counted of append is our own code: a record of the stream to a leaf, hashes, chunks in wire form.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc.jwk import ECKey

from passerelle.audit.canonical import canonical
from passerelle.audit.model import AuditRecord
from passerelle.aws.dynamodb import Action
from passerelle.aws.ledger import DynamoLeaves, entry_of
from passerelle.identifiers import new_patient_key, new_resource_id
from passerelle.ledger.model import Anchor, Chunk, Grown, Head, Last, Sealed, body_of, commit
from passerelle.ledger.proofs import Prover
from passerelle.ledger.service import Appender, milliseconds
from passerelle.ledger.tree import Node, completed_by, completing_leaf
from verifier import verify

EVENTS: Final = 50_000
_BATCH: Final = 1_000
_SHARDS: Final = 16
_SALT: Final = bytes(16)


class _Memory:
    """`ledger.ports.Leaves`, `Anchors`, `Salts` and `Sealing`; actions are rendered as for DynamoDB, and dropped."""

    def __init__(self) -> None:
        self._heads: dict[int, Head] = {}
        self._chunks: dict[int, list[Chunk]] = {}
        self._nodes: dict[int, list[bytes]] = {}
        self._rendering = DynamoLeaves(self, "ledger")  # type: ignore[arg-type]
        self.anchor: Anchor | None = None

    def transact(self, actions: Sequence[Action]) -> None:
        for action in actions:
            action.rendered()

    def heads(self, shards: Iterable[int]) -> Mapping[int, Head]:
        return {shard: self._heads.get(shard, Head(shard=shard)) for shard in shards}

    def append(self, before: Head, after: Head, grown: Sequence[Grown]) -> None:
        self._rendering.append(before, after, grown)
        self._heads[after.shard] = after
        for each in grown:
            self._chunks.setdefault(after.shard, []).append(each.chunk)
            self._nodes.setdefault(after.shard, []).extend(each.nodes)

    def fence(self, shard: int, time_ms: int) -> Head:
        raise NotImplementedError

    def chunks(self, shard: int, *, since_ms: int) -> Iterator[Chunk]:
        return (chunk for chunk in self._chunks.get(shard, []) if chunk.appended_ms >= since_ms)

    def nodes(self, shard: int, wanted: Iterable[Node]) -> Mapping[Node, bytes]:
        return {node: self._nodes[shard][completed_by(completing_leaf(node)) + node[0]] for node in wanted}

    def epoch_at(self, time_ms: int) -> int | None:
        return 0

    def get(self, epoch: int) -> Anchor:
        assert self.anchor is not None
        return self.anchor

    def find(self, record_id: str) -> Sequence[bytes]:
        return (_SALT,)

    def ask(self, minute: str) -> None:
        pass


def main() -> None:
    memory: Any = _Memory()
    now = datetime.now(UTC)
    patients = [new_patient_key() for _ in range(200)]
    records = [_record(patients[number % len(patients)], now) for number in range(EVENTS)]
    began = time.process_time()
    commitments = [commit(_SALT, canonical(record)) for record in records]
    committing = time.process_time() - began
    stream = [_stream_record(*each) for each in zip(records, commitments, strict=True)]
    appender = Appender(memory, memory, shards=_SHARDS, now=lambda: now, in_parallel=_one_by_one, pause=lambda _: None)
    began = time.process_time()
    for start in range(0, EVENTS, _BATCH):
        assert not appender.append([entry_of(each) for each in stream[start : start + _BATCH]])
    appending = time.process_time() - began

    key = ec.generate_private_key(ec.SECP256R1())
    heads = [Sealed(size=head.frontier.size, root=head.frontier.root) for head in memory.heads(range(17)).values()]
    body = body_of(Last(), heads, milliseconds(now) + EVENTS)
    memory.anchor = Anchor(
        body=body, heads=tuple(heads), key="k", signature=key.sign(body.encode(), ec.ECDSA(SHA256()))
    )
    keys: Any = {"keys": [{**ECKey.import_key(key.public_key()).as_dict(private=False), "kid": "k"}]}
    prover = Prover(memory, memory, memory, shards=_SHARDS)
    proofs = []
    for record in records[:: EVENTS // 100]:
        proof = prover.prove(record.id, canonical(record), patient=record.patient, recorded_ms=milliseconds(record.at))
        assert proof is not None
        proofs.append(proof)
    began = time.process_time()
    for proof in proofs:
        verify.check_event(proof, keys)
    verifying = (time.process_time() - began) / len(proofs)
    anchor_bytes = max(len(json.dumps(proof["anchor"])) for proof in proofs)
    proof_bytes = max(len(json.dumps(proof)) for proof in proofs) - anchor_bytes
    print(f"commit, at the writer       {EVENTS / committing:10,.0f} events/s/core")
    print(f"append, {_BATCH:,} at once      {EVENTS / appending:10,.0f} events/s/core")
    print(f"proof beside its anchor     {proof_bytes:10,} bytes   anchor {anchor_bytes:,} bytes")
    print(f"verified in                 {verifying * 1000:10.2f} ms")


def _record(patient: str, at: datetime) -> AuditRecord:
    id = new_resource_id(patient, at)
    return AuditRecord(
        id=id,
        at=at,
        name="read",
        action="R",
        outcome="0",
        client_id="hospital-a",
        organisation="1750000001",
        role="hospital",
        token_id="0" * 32,
        request_id="0" * 36,
        professional="810000000001",
        patient=patient,
        references=(f"Observation/{id}",),
    )


def _stream_record(record: AuditRecord, commitment: bytes) -> dict[str, Any]:
    """As Lambda gets it."""
    image = {"id": {"S": record.id}, "commitment": {"B": base64.b64encode(commitment).decode()}}
    return {"dynamodb": {"NewImage": image, "SequenceNumber": "1"}}


def _one_by_one(*calls: Any) -> tuple[Any, ...]:
    return tuple(call() for call in calls)


if __name__ == "__main__":
    main()
