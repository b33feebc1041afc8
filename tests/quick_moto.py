"""moto, made quick: its transactions copy a whole table, deeply, for each of their actions.

What it does stays the same. The copies serve to put tables back when a transaction fails, and no action of ours
reaches inside an attribute: it is enough that items, attributes and the stream are told apart.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

from moto.dynamodb.models.dynamo_type import Item, LimitedSizeDict
from moto.dynamodb.models.table import Table


def _item(item: Item) -> Item:
    twin = copy.copy(item)
    twin.attrs = LimitedSizeDict.__new__(LimitedSizeDict)
    dict.update(twin.attrs, item.attrs)
    return twin


def _table(table: Table, memo: dict[int, Any]) -> Table:
    twin = copy.copy(table)
    twin.items = defaultdict(dict)
    for partition, items in table.items.items():
        twin.items[partition] = {key: _item(item) for key, item in items.items()}
    if table.stream_shard is not None:
        twin.stream_shard = copy.copy(table.stream_shard)
        twin.stream_shard.table = twin
        twin.stream_shard.items = list(table.stream_shard.items)
    return twin


def quicken() -> None:
    """For every moto of this process, once and for all: every table of ours has a sort key."""
    Table.__deepcopy__ = _table  # type: ignore[attr-defined]
