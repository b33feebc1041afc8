"""Pairs of records: those that a look-up would compare, and random ones."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence

from passerelle.matching.blocking import blocks_of, blocks_to_search
from passerelle.matching.record import MatchRecord

Pair = tuple[int, int]

_BLOCK_LIMIT = 100  # as the index reads


def candidate_pairs(
    left: Sequence[MatchRecord],
    right: Sequence[MatchRecord] | None = None,
    *,
    profile: str = "national",
    limit: int = _BLOCK_LIMIT,
) -> list[Pair]:
    """See the package."""
    stored = left if right is None else right
    index: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for position, record in enumerate(stored):
        for block in blocks_of(record, profile):
            index[block.namespace, block.value].append(position)
    pairs: set[Pair] = set()
    for position, record in enumerate(left):
        for block in blocks_to_search(record, profile):
            found = index.get((block.namespace, block.value), ())
            if len(found) > limit:
                continue
            if right is None:
                pairs.update((min(position, other), max(position, other)) for other in found if other != position)
            else:
                pairs.update((position, other) for other in found)
    return sorted(pairs)


def random_pairs(rows: int, columns: int, *, within: bool, count: int, source: random.Random) -> Iterator[Pair]:
    """`count` pairs drawn independently; `within` one file, never a record with itself."""
    drawn = 0
    while drawn < count:
        i, j = source.randrange(rows), source.randrange(columns)
        if within and i == j:
            continue
        drawn += 1
        yield i, j
