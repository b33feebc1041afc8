"""What the verifiable log needs from storage, from the key that signs it, and from the clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from passerelle.ledger.model import Anchor, Chunk, Grown, Head, Last
from passerelle.ledger.tree import Node


class Leaves(Protocol):
    """The trees of the shards. Nothing in them is ever changed but their heads."""

    def heads(self, shards: Iterable[int]) -> Mapping[int, Head]: ...

    def append(self, before: Head, after: Head, grown: Sequence[Grown]) -> None:
        """Store new leaves with the head that they make, or nothing; raises Stale if `before` is not the head."""

    def fence(self, shard: int, time_ms: int) -> Head:
        """The head, with `floor_ms` raised to `time_ms`; it stays where it is if it is higher.

        From then on an append that began before finds another head than it knows.
        """

    def chunks(self, shard: int, *, since_ms: int) -> Iterator[Chunk]:
        """The chunks that were appended at `since_ms` or later, in order."""

    def nodes(self, shard: int, wanted: Iterable[Node]) -> Mapping[Node, bytes]:
        """Nodes that are complete; raises Fault for one that is not."""


class Anchors(Protocol):
    """The epochs, each stored once and for all."""

    def last(self) -> Last: ...

    def store(self, epoch: int, anchor: Anchor) -> Anchor:
        """Store an epoch if there is none of that number; returns the one that there is then."""

    def advance(self, before: Last, anchor: Anchor) -> None:
        """Make an anchor the last one; nothing if somebody did."""

    def get(self, epoch: int) -> Anchor:
        """An epoch that is not after the last one."""

    def epoch_at(self, time_ms: int) -> int | None:
        """The number of the first epoch at this time or later."""

    def publish_key(self, key: Mapping[str, Any]) -> None:
        """Keep a public key (JWK) for good, so that what it signed can be verified once there is another."""

    def keys(self) -> Sequence[Mapping[str, Any]]: ...


class AnchorKey(Protocol):
    @property
    def public(self) -> Mapping[str, Any]:
        """The public key as a JWK with its `kid`."""

    def sign(self, message: bytes) -> bytes:
        """ECDSA with SHA-256 on P-256, in DER; `message` has 4096 bytes at most."""


class Salts(Protocol):
    """What opens a commitment: derived from keys, and kept nowhere."""

    def find(self, record_id: str) -> Sequence[bytes]:
        """What the salt of a record can be; nothing once its patient was erased."""


class Sealing(Protocol):
    def ask(self, minute: str) -> None:
        """Have the log sealed in a minute, or a little later: once, however often the same minute is asked for."""
