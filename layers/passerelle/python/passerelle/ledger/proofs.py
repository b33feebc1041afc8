"""Proofs that need no trust in this program: a record was in the log at its time, and the log only ever grew.

A proof of a record leads from its text to the anchor of the epoch it came in with: salt, leaf, path in the shard, path
of the shard in the epoch, signature; and it has the text of the anchor before, whose time the leaf is later than. A
proof of growth leads from one anchor to a later one, for all shards. `verifier/verify.py` reads both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from passerelle.errors import Invalid, NotFound
from passerelle.ledger.model import (
    CLOCK_DIFFERENCE_MS,
    Anchor,
    Chunk,
    anchor_to_map,
    commit,
    epoch_leaves,
    shard_of,
)
from passerelle.ledger.ports import Anchors, Leaves, Salts
from passerelle.ledger.tree import Frontier, Node, Span, consistency, inclusion, nodes_of, span_root

_LOOKED_THROUGH = 500
"""Chunks after the time of a record: even after an outage, what waited comes first."""

InParallel = Callable[..., tuple[Any, ...]]


class Prover:
    """Proofs of records; `shards` as for the Appender."""

    def __init__(self, leaves: Leaves, anchors: Anchors, salts: Salts, *, shards: int) -> None:
        self._leaves = leaves
        self._anchors = anchors
        self._salts = salts
        self._shards = shards

    def prove(self, record_id: str, text: bytes, *, patient: str | None, recorded_ms: int) -> dict[str, Any] | None:
        """The proof of a record whose canonical form is `text`; None while it is not sealed.

        None, too, where `text` is not what was recorded: the log has no such leaf. Raises NotFound where the patient
        was erased, and the salt with it.
        """
        salts = {commit(salt, text): salt for salt in self._salts.find(record_id)}
        if not salts:
            raise NotFound()
        shard = shard_of(patient, self._shards)
        found = self._leaf(shard, salts, recorded_ms)
        if found is None:
            return None
        index, chunk = found
        salt = salts[chunk.commitments[index - chunk.first]]
        epoch = self._anchors.epoch_at(chunk.appended_ms)
        if epoch is None:
            return None
        anchor = self._anchors.get(epoch)
        size = anchor.heads[shard].size
        return {
            "event": text.decode(),
            "salt": salt.hex(),
            "appended": chunk.appended_ms,
            "shard": shard,
            "index": index,
            "size": size,
            "path": _hashes(inclusion(index, size), lambda nodes: self._leaves.nodes(shard, nodes)),
            "epoch_path": _epoch_path(anchor, shard),
            "anchor": {name: said for name, said in anchor_to_map(anchor).items() if name != "heads"},
            "previous": self._anchors.get(epoch - 1).body if epoch else None,
        }

    def _leaf(self, shard: int, commitments: Collection[bytes], recorded_ms: int) -> tuple[int, Chunk] | None:
        chunks = self._leaves.chunks(shard, since_ms=recorded_ms - CLOCK_DIFFERENCE_MS)
        for chunk in islice(chunks, _LOOKED_THROUGH):
            for place, commitment in enumerate(chunk.commitments):
                if commitment in commitments:
                    return chunk.first + place, chunk
        return None


class Publisher:
    """What everybody may know of the log: anchors, keys, and that it only grew. Nothing in it is about anybody."""

    def __init__(self, leaves: Leaves, anchors: Anchors, *, in_parallel: InParallel) -> None:
        self._leaves = leaves
        self._anchors = anchors
        self._in_parallel = in_parallel

    def latest(self) -> dict[str, Any]:
        """The newest anchor; raises NotFound before the first."""
        return self.anchor(self._anchors.last().epoch)

    def anchor(self, epoch: int) -> dict[str, Any]:
        return anchor_to_map(self._anchor(epoch, self._anchors.last().epoch))

    def keys(self) -> dict[str, Any]:
        """A JWK Set with every key that an anchor was ever signed with."""
        return {"keys": list(self._anchors.keys())}

    def growth(self, first: int, second: int) -> dict[str, Any]:
        """The proof that the log at the second epoch begins with that at the first, shard by shard.

        Raises Invalid for epochs that are not in this order, NotFound for one that is not there.
        """
        if first > second:
            raise Invalid("the first epoch is not after the second", code="value")
        last = self._anchors.last().epoch
        earlier, later = self._anchor(first, last), self._anchor(second, last)
        paths = self._in_parallel(*(partial(self._path, shard, earlier, later) for shard in range(len(later.heads))))
        return {
            "first": anchor_to_map(earlier),
            "second": anchor_to_map(later),
            "paths": list(paths),
        }

    def _path(self, shard: int, earlier: Anchor, later: Anchor) -> list[str]:
        spans = consistency(earlier.heads[shard].size, later.heads[shard].size)
        return _hashes(spans, lambda nodes: self._leaves.nodes(shard, nodes))

    def _anchor(self, epoch: int, last: int) -> Anchor:
        if not 0 <= epoch <= last:
            raise NotFound()
        return self._anchors.get(epoch)


def _hashes(spans: Sequence[Span], read: Callable[[Iterable[Node]], Mapping[Node, bytes]]) -> list[str]:
    known = read([node for span in spans for node in nodes_of(span)]) if spans else {}
    return [span_root(span, known).hex() for span in spans]


def _epoch_path(anchor: Anchor, shard: int) -> list[str]:
    leaves = list(epoch_leaves(anchor.heads))
    return [Frontier().extended(leaves[first:end])[0].root.hex() for first, end in inclusion(shard, len(leaves))]
