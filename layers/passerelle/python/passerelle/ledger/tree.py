"""The Merkle tree of RFC 6962 (and 9162, section 2.1): growing one, and which of its nodes a proof is made of.

A tree that only grows is its frontier: the roots of its complete subtrees, from the left, the largest first. Appending
a leaf completes that leaf and perhaps some nodes above it; each node is completed once and never changes, so that all
of them, in the order in which they are completed, are the whole tree:

    the first n leaves complete 2n - (number of ones in n) nodes
    node (level, index) is completed by leaf (index + 1) * 2^level - 1, `level` places after that leaf's own hash

Checking proofs is for whoever does not trust this program: `verifier/verify.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Node = tuple[int, int]  # level, index from the left; level 0 are the leaves
Span = tuple[int, int]  # leaves first <= leaf < end

HASH_BYTES = 32
EMPTY = hashlib.sha256(b"").digest()  # the root of no leaves


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """A tree of `size` leaves as far as its growth needs it."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def extended(self, leaves: Iterable[bytes]) -> tuple[Frontier, list[bytes]]:
        """The tree with these leaf hashes too, and every node that they complete, in order."""
        size, peaks, completed = self.size, list(self.peaks), []
        for leaf in leaves:
            node = leaf
            completed.append(node)
            place = size
            while place & 1:
                node = node_hash(peaks.pop(), node)
                completed.append(node)
                place >>= 1
            peaks.append(node)
            size += 1
        return Frontier(size=size, peaks=tuple(peaks)), completed

    @property
    def root(self) -> bytes:
        return _joined(self.peaks) if self.peaks else EMPTY


EMPTY_TREE = Frontier()


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over these leaf hashes."""
    return Frontier().extended(leaves)[0].root


def completed_by(leaves: int) -> int:
    """How many nodes the first so many leaves complete."""
    return 2 * leaves - leaves.bit_count()


def completing_leaf(node: Node) -> int:
    """The leaf that completes a node."""
    level, index = node
    return ((index + 1) << level) - 1


def inclusion(index: int, size: int) -> list[Span]:
    """What the inclusion proof of a leaf consists of, from the leaf up: the root over each span is one hash."""
    spans, first, end = [], 0, size
    while end - first > 1:
        middle = first + _left_leaves(end - first)
        if index < middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((first, middle))
            first = middle
    return spans[::-1]


def consistency(earlier: int, later: int) -> list[Span]:
    """The same for the proof that a tree of `later` leaves begins with the one of `earlier`."""
    spans, first, end, is_whole = [], 0, later, True
    while earlier and earlier != end:
        middle = first + _left_leaves(end - first)
        if earlier <= middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((first, middle))
            first, is_whole = middle, False
    return [*([] if is_whole else [(first, end)]), *spans[::-1]]


def nodes_of(span: Span) -> list[Node]:
    """The complete subtrees that a span of a proof consists of, from the left."""
    first, end = span
    nodes = []
    while first < end:
        level = (end - first).bit_length() - 1
        nodes.append((level, first >> level))
        first += 1 << level
    return nodes


def span_root(span: Span, known: Mapping[Node, bytes]) -> bytes:
    """The root over a span; `known` has its nodes."""
    return _joined([known[node] for node in nodes_of(span)])


def _left_leaves(size: int) -> int:
    """The largest power of two below: how many leaves are on the left of the root."""
    return 1 << ((size - 1).bit_length() - 1)


def _joined(peaks: Iterable[bytes]) -> bytes:
    *others, root = peaks
    for peak in reversed(others):
        root = node_hash(peak, root)
    return root
