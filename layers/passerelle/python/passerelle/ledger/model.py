"""The verifiable log: what a leaf says, where it goes, and the signed root over everything of a minute.

    commitment   SHA-256(salt || canonical audit record); the salt is derived from the key of the
                 record's patient, and kept nowhere
    leaf         commitment || time of appending (milliseconds since 1970, 8 bytes, big endian)
    shard        by hash of the patient key, so that all accesses to a record are in one tree; the last shard has the
                 accesses that touched no patient
    epoch        a tree over the shards: shard (4 bytes) || leaves (8 bytes) || root, signed as an anchor

A shard's leaves are in the order of their times, each later than the one before. An epoch has all leaves up to its
time and none beyond, so that a leaf of an epoch is later than the epoch before it: nothing can be put in the past.
`verifier/verify.py` checks all of that. Specification: RFC 6962 section 2.1, data model section 4.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from passerelle.ledger.tree import EMPTY, EMPTY_TREE, Frontier, leaf_hash, root_of

SALT_BYTES = 16
CHUNK_LEAVES = 128
"""The most leaves of one chunk: 4 kB of commitments, 8 kB of nodes."""
TOLERANCE_MS = 24 * 3_600_000
"""How late a record may be appended: for as long as the stream of the audit table keeps it."""
CLOCK_DIFFERENCE_MS = 1_000
"""Between the machine that records and the one that appends."""
NO_ANCHOR = "0" * 64


def commit(salt: bytes, record: bytes) -> bytes:
    """What stands for a record in the log: it tells nothing of it to who lacks the salt."""
    return hashlib.sha256(salt + record).digest()


def shard_of(patient: str | None, shards: int) -> int:
    """The shard of a patient's accesses; `shards` is how many there are for patients, a power of two."""
    if patient is None:
        return shards
    return int.from_bytes(hashlib.sha256(patient.encode()).digest()[:4], "big") % shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An audit record on its way into the log; `recorded_ms` is the time of its id, `position` that in the stream."""

    patient: str | None
    recorded_ms: int
    commitment: bytes
    position: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Leaves that were appended at once, the first at `first`."""

    first: int
    appended_ms: int
    commitments: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """A chunk with the nodes that it completes."""

    chunk: Chunk
    nodes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A shard as it is. Whatever is appended next is later than `appended_ms` and than `floor_ms`, the last epoch."""

    shard: int
    frontier: Frontier = EMPTY_TREE
    appended_ms: int = 0
    floor_ms: int = 0
    exists: bool = False

    def extended(self, commitments: Sequence[bytes], appended_ms: int) -> tuple[Head, list[Grown]]:
        """The shard with these leaves, and what is to be stored of them."""
        frontier, grown = self.frontier, []
        for start in range(0, len(commitments), CHUNK_LEAVES):
            part = tuple(commitments[start : start + CHUNK_LEAVES])
            chunk = Chunk(first=frontier.size, appended_ms=appended_ms, commitments=part)
            frontier, nodes = frontier.extended(leaf_of(each, appended_ms) for each in part)
            grown.append(Grown(chunk=chunk, nodes=tuple(nodes)))
        return replace(self, frontier=frontier, appended_ms=appended_ms, exists=True), grown


def leaf_of(commitment: bytes, appended_ms: int) -> bytes:
    """The hash of a leaf."""
    return leaf_hash(commitment + appended_ms.to_bytes(8, "big"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """One shard in an epoch."""

    size: int
    root: bytes = EMPTY

    def leaf(self, shard: int) -> bytes:
        return leaf_hash(shard.to_bytes(4, "big") + self.size.to_bytes(8, "big") + self.root)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """An epoch: `body` is the text that is signed, `heads` the shards that its root is made of."""

    body: str
    heads: tuple[Sealed, ...]
    key: str
    signature: bytes

    @property
    def hash(self) -> str:
        """What the next anchor calls it."""
        return hashlib.sha256(self.body.encode()).hexdigest()

    @property
    def _said(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.body)
        return said

    @property
    def epoch(self) -> int:
        return int(self._said["epoch"])

    @property
    def time_ms(self) -> int:
        return int(self._said["time"])

    @property
    def previous(self) -> str:
        return str(self._said["previous"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Last:
    """The newest epoch, as far as the next one needs it."""

    epoch: int = -1
    hash: str = NO_ANCHOR
    time_ms: int = 0
    sizes: tuple[int, ...] = ()

    @classmethod
    def of(cls, anchor: Anchor) -> Last:
        sizes = tuple(head.size for head in anchor.heads)
        return cls(epoch=anchor.epoch, hash=anchor.hash, time_ms=anchor.time_ms, sizes=sizes)


def body_of(last: Last, heads: Sequence[Sealed], time_ms: int) -> str:
    """The text of the next anchor: JSON whose members are in order, without spaces (RFC 8785)."""
    said = {
        "epoch": last.epoch + 1,
        "previous": last.hash,
        "root": root_of(epoch_leaves(heads)).hex(),
        "shards": len(heads),
        "time": time_ms,
        "tolerance": TOLERANCE_MS,
    }
    return json.dumps(said, sort_keys=True, separators=(",", ":"))


def epoch_leaves(heads: Sequence[Sealed]) -> Iterator[bytes]:
    return (head.leaf(shard) for shard, head in enumerate(heads))


def anchor_to_map(anchor: Anchor) -> dict[str, Any]:
    """The published form: hashes and the DER signature in hexadecimal."""
    return {
        "body": anchor.body,
        "heads": [[head.size, head.root.hex()] for head in anchor.heads],
        "key": anchor.key,
        "signature": anchor.signature.hex(),
    }


def anchor_from_map(form: dict[str, Any]) -> Anchor:
    return Anchor(
        body=form["body"],
        heads=tuple(Sealed(size=size, root=bytes.fromhex(root)) for size, root in form["heads"]),
        key=form["key"],
        signature=bytes.fromhex(form["signature"]),
    )
