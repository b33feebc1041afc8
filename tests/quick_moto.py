"""moto, made quick: before a transaction it copies the whole table, deeply, for each of its actions.

What it does stays the same. The copies serve to put tables back when a transaction fails, so one of each table is
enough, of the partitions that the transaction names; and no action of ours reaches inside an attribute: it is enough
that items and attributes are told apart. The stream is not copied: whoever follows it goes on doing so after a
transaction that failed, and finds nothing of it. And before a query it sorts the whole table: the partition that is
asked for is enough.

Nor do calls for items go through HTTP, as which moto takes them apart and puts its answers together again: they are
answered at botocore's `before-call`, after it has checked and serialised the request, and after everybody else who
listens there. What moto refuses is asked again the long way: refusals are those of moto and botocore to the letter.

And what was worked out for each attribute, comparison, answer, event or session is so once: sizes, keys, the names
under which a member of an answer may be, the paths of event patterns, botocore's own files.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.handlers import BUILTIN_HANDLERS, REGISTER_LAST
from botocore.loaders import JSONFileLoader
from jsonpath_ng import ext as paths
from moto.core.models import DEFAULT_ACCOUNT_ID, botocore_stubber
from moto.core.parse import JSONParser
from moto.core.serialize import AttributePickerContext, ResponseSerializer, XFormedAttributePicker
from moto.dynamodb.exceptions import ItemSizeTooLarge
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType, Item, LimitedSizeDict
from moto.dynamodb.models.table import Table
from moto.dynamodb.responses import DynamoHandler

_transact: Callable[[DynamoDBBackend, list[dict[str, Any]]], None] = DynamoDBBackend.transact_write_items
# The actions of the transaction under way, and the copies made for it, by name of the table.
_under_way: ContextVar[tuple[list[dict[str, Any]], dict[str, Table]] | None] = ContextVar("under_way", default=None)


def _transacted(backend: DynamoDBBackend, transact_items: list[dict[str, Any]]) -> None:
    actions = [action for each in transact_items for action in each.values()]
    named = {backend.tables[name] for name in {str(each.get("TableName")) for each in actions} & backend.tables.keys()}
    streams = [(shard, len(shard.items)) for table in named if (shard := table.stream_shard) is not None]
    token = _under_way.set((actions, {}))
    try:
        _transact(backend, transact_items)
    except Exception:
        for shard, count in streams:
            del shard.items[count:]
            shard.table = backend.tables[shard.table.name]  # a copy has taken its place
        raise
    finally:
        _under_way.reset(token)


def _copied(table: Table, memo: dict[int, Any]) -> Table:
    transaction = _under_way.get()
    if transaction is None:
        return _twin(table, set(table.items))
    actions, copies = transaction
    if table.name not in copies:
        own = [each for each in actions if each.get("TableName") == table.name]
        keys = [each.get("Key") or each["Item"] for each in own]
        copies[table.name] = _twin(table, {DynamoType(key[table.hash_key_attr]) for key in keys})
    return copies[table.name]


def _twin(table: Table, partitions: set[DynamoType]) -> Table:
    """A copy that shares nothing of these partitions, and all others."""
    twin = copy.copy(table)
    twin.items = defaultdict(dict, table.items)
    for partition in partitions & table.items.keys():
        twin.items[partition] = {key: item_twin(item) for key, item in table.items[partition].items()}
    return twin


def item_twin(item: Item) -> Item:
    """A copy of an item that may be changed apart from it."""
    twin = copy.copy(item)
    twin.attrs = LimitedSizeDict.__new__(LimitedSizeDict)
    dict.update(twin.attrs, item.attrs)
    return twin


_query = Table.query


def _queried(table: Table, hash_key: DynamoType | None, *arguments: Any, **options: Any) -> Any:
    partition = copy.copy(table)
    items = table.items.get(hash_key, {})
    partition.items = defaultdict(dict, {hash_key: items})
    partition.all_items = lambda: list(items.values())  # type: ignore[method-assign]
    return _query(partition, hash_key, *arguments, **options)


_MAX_ITEM_BYTES: Final = 405_000  # moto's own
_size = DynamoType.size
_cast: Callable[[DynamoType], Any] = DynamoType.cast_value.fget  # type: ignore[attr-defined]


def _sized(value: DynamoType) -> int:
    match value.type:
        case "S" | "B":
            return _bytes(value.value)
        case "L":
            return sum(_sized(each) for each in value.value)
        case "M":
            return sum(_bytes(name) + _sized(each) for name, each in value.value.items())
        case _:
            return _size(value)


def _bytes(text: str | bytes) -> int:
    return len(text if isinstance(text, bytes) else text.encode())


def _compared(value: DynamoType) -> Any:
    return value.value if value.type in ("S", "B") else _cast(value)


def _made(item: Item, hash_key: DynamoType, range_key: DynamoType | None, attrs: dict[str, Any]) -> None:
    item.hash_key, item.range_key, item.attrs = hash_key, range_key, LimitedSizeDict()
    dict.update(item.attrs, {name: DynamoType(value) for name, value in attrs.items()})
    if item.size() > _MAX_ITEM_BYTES:
        raise ItemSizeTooLarge


_OF_ITEMS: Final = {
    "BatchGetItem": DynamoHandler.batch_get_item,
    "BatchWriteItem": DynamoHandler.batch_write_item,
    "DeleteItem": DynamoHandler.delete_item,
    "GetItem": DynamoHandler.get_item,
    "PutItem": DynamoHandler.put_item,
    "Query": DynamoHandler.query,
    "Scan": DynamoHandler.scan,
    "TransactWriteItems": DynamoHandler.transact_write_items,
    "UpdateItem": DynamoHandler.update_item,
}


def _answered(model: Any, params: Any, context: dict[str, Any], **_: Any) -> Any:
    """botocore's hook: the answer as it would parse it, or nothing, and it sends the request."""
    if model.service_model.service_name != "dynamodb" or model.name not in _OF_ITEMS or not botocore_stubber.enabled:
        return None
    if not str(urlsplit(params["url"]).hostname).endswith(".amazonaws.com"):
        return None
    handler = DynamoHandler()
    handler.current_account = DEFAULT_ACCOUNT_ID
    handler.region = context["client_region"]
    handler.body = handler.params = JSONParser(model).parse(params)
    try:
        told: Any = _OF_ITEMS[model.name](handler).result
    except Exception:  # noqa: BLE001 - raised again by the long way
        return None
    known = {name: told[name] for name in model.output_shape.members if told.get(name) is not None}
    metadata = {"HTTPStatusCode": 200, "HTTPHeaders": {}, "RetryAttempts": 0}
    return SimpleNamespace(status_code=200), {**known, "ResponseMetadata": metadata}


_get_value = ResponseSerializer.get_value


def _picked(serializer: ResponseSerializer, value: Any, key: str, shape: Any) -> Any:
    picker: Any = serializer._value_picker
    if type(value) is not dict or type(picker) is not XFormedAttributePicker or picker.response_transformers:
        return _get_value(serializer, value, key, shape)
    known = shape.__dict__.setdefault("names_by_key", {})
    if key not in known:
        known[key] = tuple(picker.get_possible_keys(AttributePickerContext(obj=value, key=key, shape=shape)))
    for name in known[key]:
        if name in value:
            return value[name]
    return None


_load = cache(partial(JSONFileLoader.load_file, JSONFileLoader()))


def _loaded(_: JSONFileLoader, path: str) -> Any:
    return _load(path)


_HOOK: Final = ("before-call", _answered, REGISTER_LAST)


def quicken() -> None:
    """For every moto of this process, once and for all: every table of ours has a sort key."""
    Table.__deepcopy__ = _copied  # type: ignore[attr-defined]
    Table.query = _queried  # type: ignore[assignment,method-assign]
    DynamoDBBackend.transact_write_items = _transacted  # type: ignore[assignment]
    DynamoType.size = _sized  # type: ignore[assignment,method-assign]
    DynamoType.cast_value = property(_compared)  # type: ignore[assignment,method-assign]
    Item.__init__ = _made  # type: ignore[assignment,method-assign]
    if _HOOK not in BUILTIN_HANDLERS:
        BUILTIN_HANDLERS.append(_HOOK)
        paths.parse = cache(paths.parse)  # type: ignore[attr-defined]
    ResponseSerializer.get_value = _picked  # type: ignore[assignment,method-assign]
    JSONFileLoader.load_file = _loaded  # type: ignore[assignment,method-assign]
