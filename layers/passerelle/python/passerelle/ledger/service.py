"""The log grows and is sealed: every audit record becomes a leaf once, every minute with new leaves an epoch.

Both may be killed anywhere, and run twice at once. What makes that safe:

    append   one conditional transaction per shard, on the head that was read. A record that comes again is known by
             its commitment: no leaf is older than its record, so that only what was appended since is looked through
    seal     the heads are read by raising their floor, which makes every append under way read its head again. What
             the bucket has under the next number is the epoch, whoever put it there; the pointer follows
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from passerelle.errors import Busy, Fault, PasserelleError, Stale, Unavailable
from passerelle.ledger.model import (
    CLOCK_DIFFERENCE_MS,
    Anchor,
    Entry,
    Head,
    Last,
    Sealed,
    body_of,
    shard_of,
)
from passerelle.ledger.ports import AnchorKey, Anchors, Leaves, Sealing

_ATTEMPTS = 10
_AT_ONCE = 4_096  # leaves of one transaction: a hundred actions hold 49 chunks

Clock = Callable[[], datetime]
InParallel = Callable[..., tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Entries of one shard that are not in the log, and why."""

    positions: tuple[str, ...]
    error: PasserelleError


class Appender:
    """`shards` is how many there are for patients: the same for as long as the log lives."""

    def __init__(
        self,
        leaves: Leaves,
        sealing: Sealing,
        *,
        shards: int,
        now: Clock,
        in_parallel: InParallel,
        pause: Callable[[int], None],
    ) -> None:
        self._leaves = leaves
        self._sealing = sealing
        self._shards = shards
        self._now = now
        self._in_parallel = in_parallel
        self._pause = pause

    def append(self, entries: Sequence[Entry]) -> list[Failure]:
        """Append what is not in the log yet; returns which entries could not be. A shard holds no other one up."""
        by_shard: dict[int, list[Entry]] = defaultdict(list)
        for entry in entries:
            by_shard[shard_of(entry.patient, self._shards)].append(entry)
        if not by_shard:
            return []
        heads = self._leaves.heads(by_shard)
        failed = self._in_parallel(
            *(partial(self._append_or_tell, heads[shard], group) for shard, group in by_shard.items())
        )
        # After the commits: a seal of this minute or a later one finds them.
        self._sealing.ask(f"{self._now().astimezone(UTC):%Y%m%d%H%M}")
        return [failure for failure in failed if failure is not None]

    def _append_or_tell(self, head: Head, entries: Sequence[Entry]) -> Failure | None:
        try:
            for start in range(0, len(entries), _AT_ONCE):
                self._append(head if start == 0 else None, entries[start : start + _AT_ONCE])
        except PasserelleError as error:
            return Failure(positions=tuple(entry.position for entry in entries), error=error)
        return None

    def _append(self, known: Head | None, entries: Sequence[Entry]) -> None:
        shard = shard_of(entries[0].patient, self._shards)
        since_ms = min(entry.recorded_ms for entry in entries) - CLOCK_DIFFERENCE_MS
        for attempt in range(_ATTEMPTS):
            head = known if known and not attempt else self._leaves.heads([shard])[shard]
            now_ms = milliseconds(self._now())
            appended_ms = max(now_ms, head.appended_ms + 1, head.floor_ms + 1)
            if max(appended_ms, *(entry.recorded_ms for entry in entries)) > now_ms + CLOCK_DIFFERENCE_MS:
                raise Unavailable("a record, or the log, is ahead of this clock")
            new = dict.fromkeys(entry.commitment for entry in entries)
            if since_ms <= head.appended_ms:
                for chunk in self._leaves.chunks(shard, since_ms=since_ms):
                    for commitment in chunk.commitments:
                        new.pop(commitment, None)
            if not new:
                return
            after, grown = head.extended(list(new), appended_ms)
            try:
                self._leaves.append(head, after, grown)
            except Stale:
                self._pause(attempt)
            else:
                return
        raise Busy()


class Sealer:
    """`shards` as for Appender."""

    def __init__(
        self,
        leaves: Leaves,
        anchors: Anchors,
        key: AnchorKey,
        *,
        shards: int,
        in_parallel: InParallel,
        pause: Callable[[int], None],
    ) -> None:
        self._leaves = leaves
        self._anchors = anchors
        self._key = key
        self._shards = shards
        self._in_parallel = in_parallel
        self._pause = pause

    def seal(self, at: datetime) -> Anchor | None:
        """Seal everything that was appended so far; None if all of it is sealed."""
        for attempt in range(_ATTEMPTS):
            last = self._anchors.last()
            if last.epoch >= 0 and len(last.sizes) != self._shards + 1:
                raise Fault("the number of shards is fixed for the life of a log")
            time_ms, heads = self._fenced(max(milliseconds(at), last.time_ms + 1))
            if tuple(head.size for head in heads) == (last.sizes or (0,) * len(heads)):
                return None
            own = self._signed(last, heads, time_ms)
            there = self._anchors.store(last.epoch + 1, own)
            if there.previous != last.hash:
                raise Fault("an epoch follows another one than the last")
            self._anchors.advance(last, there)
            if there.body == own.body:
                return there
            self._pause(attempt)  # somebody else's, perhaps of a seal that ended before it could advance
        raise Busy()

    def _fenced(self, time_ms: int) -> tuple[int, list[Sealed]]:
        """A time that every leaf of the heads is not after, and that every other leaf will be after."""
        while True:
            fences = (partial(self._leaves.fence, shard, time_ms) for shard in range(self._shards + 1))
            heads: tuple[Head, ...] = self._in_parallel(*fences)
            needed = max(max(head.appended_ms, head.floor_ms) for head in heads)
            if needed <= time_ms:
                return time_ms, [Sealed(size=head.frontier.size, root=head.frontier.root) for head in heads]
            time_ms = needed + 1

    def _signed(self, last: Last, heads: Sequence[Sealed], time_ms: int) -> Anchor:
        self._anchors.publish_key(self._key.public)
        body = body_of(last, heads, time_ms)
        return Anchor(
            body=body, heads=tuple(heads), key=str(self._key.public["kid"]), signature=self._key.sign(body.encode())
        )


def milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)
