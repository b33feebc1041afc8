"""The verifiable log on DynamoDB, S3 and KMS; there is nothing personal in any of them.

    ledger  L#<shard>  head                    leaves, peaks (hashes), appended, floor
    ledger  L#<shard>  t#<appended>#<first>    commitments of a chunk, 32 bytes each
    ledger  L#<shard>  n#<last>                first; nodes that the chunk completes, 32 bytes each, in their order
    ledger  E          last                    the last epoch: epoch, hash, time, sizes
    ledger  E          t#<time>                epoch: when it was sealed
    ledger  K          <kid>                   a public key that anchors were signed with
    bucket             epochs/<number>.json    an anchor

Times are milliseconds in 13 digits, leaves 12, epochs 10. A node is found by the leaf that completes it: it is in the
first `n#` item that ends at that leaf or later, and how far from its start follows from the numbers (`ledger/tree.py`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from passerelle.aws.dynamodb import Action, DynamoDb, Item, aws_errors, count, in_parallel, put, put_if, update
from passerelle.aws.objects import S3Objects
from passerelle.errors import Fault, Stale
from passerelle.identifiers import split_resource_id, time_of
from passerelle.ledger.model import (
    Anchor,
    Chunk,
    Entry,
    Grown,
    Head,
    Last,
    anchor_from_map,
    anchor_to_map,
)
from passerelle.ledger.tree import HASH_BYTES, Frontier, Node, completed_by, completing_leaf


def entry_of(record: Mapping[str, Any]) -> Entry:
    """A record of the audit table's stream, as Lambda gets it, to what the log needs of it."""
    change = record["dynamodb"]
    image = change["NewImage"]
    patient, ulid = split_resource_id(image["id"]["S"]) or _unreadable()
    return Entry(
        patient=patient,
        recorded_ms=int(time_of(ulid).timestamp() * 1000),
        commitment=base64.b64decode(image["commitment"]["B"]),
        position=change["SequenceNumber"],
    )


def _unreadable() -> tuple[None, str]:
    raise Fault()


class DynamoLeaves:
    """`ledger.ports.Leaves`."""

    def __init__(self, dynamodb: DynamoDb, table: str) -> None:
        self._dynamodb = dynamodb
        self._table = table

    def heads(self, shards: Iterable[int]) -> Mapping[int, Head]:
        keys = {shard: (_partition(shard), "head") for shard in shards}
        found = self._dynamodb.get_many(self._table, list(keys.values()))
        return {shard: _head_from_item(shard, found.get(key)) for shard, key in keys.items()}

    def append(self, before: Head, after: Head, grown: Sequence[Grown]) -> None:
        self._dynamodb.transact(
            [self._head(before, after), *(action for each in grown for action in self._chunk(after.shard, each))]
        )

    def _head(self, before: Head, after: Head) -> Action:
        item: Item = {
            "PK": _partition(after.shard),
            "SK": "head",
            "leaves": after.frontier.size,
            "peaks": b"".join(after.frontier.peaks),
            "appended": after.appended_ms,
            "floor": after.floor_ms,
        }
        if not before.exists:
            return put(self._table, item, unless_exists=_lost)
        return put_if(
            self._table,
            item,
            "leaves = :leaves AND floor = :floor",
            {":leaves": before.frontier.size, ":floor": before.floor_ms},
            lost=_lost,
        )

    def _chunk(self, shard: int, grown: Grown) -> list[Action]:
        chunk = grown.chunk
        last = chunk.first + len(chunk.commitments) - 1
        timed: Item = {
            "PK": _partition(shard),
            "SK": f"t#{chunk.appended_ms:013}#{chunk.first:012}",
            "commitments": b"".join(chunk.commitments),
        }
        placed: Item = {
            "PK": _partition(shard),
            "SK": f"n#{last:012}",
            "first": chunk.first,
            "nodes": b"".join(grown.nodes),
        }
        return [put(self._table, each, unless_exists=_lost) for each in (timed, placed)]

    def fence(self, shard: int, time_ms: int) -> Head:
        met: list[Item] = []

        def higher(item: Item) -> Exception:
            met.append(item)
            return Stale()

        raised = update(
            self._table,
            (_partition(shard), "head"),
            "SET floor = :time, leaves = if_not_exists(leaves, :none), peaks = if_not_exists(peaks, :empty), "
            "appended = if_not_exists(appended, :none)",
            {":time": time_ms, ":none": 0, ":empty": b""},
            condition="attribute_not_exists(floor) OR floor < :time",
            lost=higher,
        )
        try:
            item = self._dynamodb.change(raised)
        except Stale:
            (item,) = met
        return _head_from_item(shard, item)

    def chunks(self, shard: int, *, since_ms: int) -> Iterator[Chunk]:
        items = self._dynamodb.query_all(
            self._table, _partition(shard), between=(f"t#{max(0, since_ms):013}", "t#~"), limit=100
        )
        for item in items:
            _, appended, first = item["SK"].split("#")
            yield Chunk(first=int(first), appended_ms=int(appended), commitments=tuple(_hashes(item["commitments"])))

    def nodes(self, shard: int, wanted: Iterable[Node]) -> Mapping[Node, bytes]:
        by_leaf: dict[int, list[Node]] = {}
        for node in wanted:
            by_leaf.setdefault(completing_leaf(node), []).append(node)
        if not by_leaf:
            return {}
        found = in_parallel(*(lambda leaf=leaf: self._completed_by(shard, leaf) for leaf in by_leaf))
        return {
            node: hashes[node[0]] for (_, nodes), hashes in zip(by_leaf.items(), found, strict=True) for node in nodes
        }

    def _completed_by(self, shard: int, leaf: int) -> list[bytes]:
        """The nodes that a leaf completes, by level."""
        items, _ = self._dynamodb.query(self._table, _partition(shard), between=(f"n#{leaf:012}", "n#~"), limit=1)
        if not items or items[0]["first"] > leaf:
            raise Fault()
        start = completed_by(leaf) - completed_by(items[0]["first"])
        return _hashes(items[0]["nodes"])[start : start + completed_by(leaf + 1) - completed_by(leaf)]


class DynamoAnchors:
    """`ledger.ports.Anchors`: the anchors in a bucket whose objects nobody can change, the way to them in the table."""

    def __init__(self, dynamodb: DynamoDb, table: str, objects: S3Objects) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._objects = objects
        self._published: set[str] = set()

    def last(self) -> Last:
        item = self._dynamodb.get(self._table, ("E", "last"))
        if item is None:
            return Last()
        return Last(epoch=item["epoch"], hash=item["hash"], time_ms=item["time"], sizes=tuple(item["sizes"]))

    def store(self, epoch: int, anchor: Anchor) -> Anchor:
        text = json.dumps(anchor_to_map(anchor), sort_keys=True, separators=(",", ":")).encode()
        self._objects.put(_name(epoch), text, "application/json")
        return self.get(epoch)

    def advance(self, before: Last, anchor: Anchor) -> None:
        last = Last.of(anchor)
        item: Item = {
            "PK": "E",
            "SK": "last",
            "epoch": last.epoch,
            "hash": last.hash,
            "time": last.time_ms,
            "sizes": list(last.sizes),
        }
        pointer = (
            put(self._table, item, unless_exists=_lost)
            if before.epoch < 0
            else put_if(self._table, item, "epoch = :epoch", {":epoch": before.epoch}, lost=_lost)
        )
        at: Item = {"PK": "E", "SK": f"t#{last.time_ms:013}", "epoch": last.epoch}
        try:
            self._dynamodb.transact([pointer, put(self._table, at)])
        except Stale:
            return  # somebody did: there is one anchor of that number

    def get(self, epoch: int) -> Anchor:
        text = self._objects.find(_name(epoch))
        if text is None:
            raise Fault()
        return anchor_from_map(json.loads(text))

    def epoch_at(self, time_ms: int) -> int | None:
        items, _ = self._dynamodb.query(self._table, "E", between=(f"t#{time_ms:013}", "t#~"), limit=1)
        return int(items[0]["epoch"]) if items else None

    def publish_key(self, key: Mapping[str, Any]) -> None:
        if key["kid"] not in self._published:
            self._dynamodb.write(put(self._table, {"PK": "K", "SK": key["kid"], "key": dict(key)}))
            self._published.add(key["kid"])

    def keys(self) -> Sequence[Mapping[str, Any]]:
        return [item["key"] for item in self._dynamodb.query_all(self._table, "K")]


class KmsAnchorKey:
    """`ledger.ports.AnchorKey` on a KMS key of spec ECC_NIST_P256 for SIGN_VERIFY."""

    def __init__(self, kms: Any, key_id: str) -> None:
        self._kms = kms
        self._key_id = key_id

    @cached_property
    def public(self) -> Mapping[str, Any]:
        from joserfc.jwk import ECKey  # for who signs; all others only read

        count("GetPublicKey")
        with aws_errors():
            der = self._kms.get_public_key(KeyId=self._key_id)["PublicKey"]
        key = ECKey.import_key(der)
        return {**key.as_dict(private=False), "kid": key.thumbprint(), "use": "sig", "alg": "ES256"}

    def sign(self, message: bytes) -> bytes:
        count("Sign")
        with aws_errors():
            answer = self._kms.sign(
                KeyId=self._key_id, Message=message, MessageType="RAW", SigningAlgorithm="ECDSA_SHA_256"
            )
        signature: bytes = answer["Signature"]
        return signature


class SqsSealing:
    """`ledger.ports.Sealing`: a FIFO queue that holds each message back for a minute, and takes one of each minute."""

    def __init__(self, client: Any, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def ask(self, minute: str) -> None:
        count("SendMessage")
        with aws_errors():
            self._client.send_message(
                QueueUrl=self._queue_url,
                MessageBody=json.dumps({"minute": minute}),
                MessageGroupId="seal",
                MessageDeduplicationId=minute,
            )


def _head_from_item(shard: int, item: Item | None) -> Head:
    if item is None:
        return Head(shard=shard)
    return Head(
        shard=shard,
        frontier=Frontier(size=item["leaves"], peaks=tuple(_hashes(item["peaks"]))),
        appended_ms=item["appended"],
        floor_ms=item["floor"],
        exists=True,
    )


def _partition(shard: int) -> str:
    return f"L#{shard:03}"


def _name(epoch: int) -> str:
    return f"epochs/{epoch:010}.json"


def _hashes(joined: bytes) -> list[bytes]:
    return [joined[start : start + HASH_BYTES] for start in range(0, len(joined), HASH_BYTES)]


def _lost(_: Item) -> Exception:
    return Stale()
