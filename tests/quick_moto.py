"""moto, made quick: before a transaction it copies the whole table, deeply, for each of its actions.

What it does stays the same. The copies serve to put tables back when a transaction fails, so one of each table is
enough, of the items that the transaction names; and no action of ours reaches inside an attribute: it is enough that
items and attributes are told apart. The stream is not copied: whoever follows it goes on doing so after a transaction
that failed, and finds nothing of it. And a query sorts the whole table, measures each item twice and copies what it
found before its attributes are copied into the answer: the partition that is asked for is enough, and one copy.

Nor do calls for items go through HTTP, as which moto takes them apart and puts its answers together again: they are
answered at botocore's `before-call`, after it has checked and serialised the request, and after everybody else who
listens there. What moto refuses is asked again the long way, and so is what botocore may find wrong in a request:
refusals are those of moto and botocore to the letter.

And what was worked out for each attribute, comparison, call, answer, event or session is so once: sizes, keys, the
words of a condition, where a service is, who calls, the names under which a member of an answer may be, the paths of
event patterns, botocore's own files, and the RSA keys that moto makes for every key that is not of a curve. Nobody
asks moto for every item there ever was, so it need not keep them.
"""

from __future__ import annotations

import copy
import itertools
from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import cache, partial
from operator import itemgetter
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.handlers import BUILTIN_HANDLERS, REGISTER_LAST
from botocore.loaders import JSONFileLoader
from botocore.regions import EndpointRulesetResolver
from botocore.serialize import JSONSerializer
from botocore.useragent import UserAgentString
from botocore.validate import ParamValidator, ValidationErrors
from jsonpath_ng import ext as paths
from moto.core.models import DEFAULT_ACCOUNT_ID, botocore_stubber
from moto.core.serialize import AttributePickerContext, ResponseSerializer, XFormedAttributePicker
from moto.dynamodb import responses
from moto.dynamodb.comparisons import ConditionExpressionParser, get_comparison_func
from moto.dynamodb.exceptions import ItemSizeTooLarge
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models import table as tables
from moto.dynamodb.models.dynamo_type import DynamoType, Item, LimitedSizeDict
from moto.dynamodb.models.table import RESULT_SIZE_LIMIT, StreamRecord, Table
from moto.dynamodb.models.utilities import dynamo_to_dict
from moto.dynamodb.responses import DynamoHandler
from moto.kms import models as kms
from moto.kms.utils import generate_private_key

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
        return _twin(table, table.items)
    actions, copies = transaction
    if table.name not in copies:
        named = defaultdict(set)
        for each in actions:
            if each.get("TableName") == table.name:
                key = each.get("Key") or each["Item"]
                named[DynamoType(key[table.hash_key_attr])].add(DynamoType(key[table.range_key_attr]))
        copies[table.name] = _twin(table, named)
    return copies[table.name]


def _twin(table: Table, named: Mapping[DynamoType, Iterable[DynamoType]]) -> Table:
    """A copy that shares nothing of these items, by partition, and all others."""
    twin = copy.copy(table)
    twin.items = defaultdict(dict, table.items)
    for partition in named.keys() & table.items.keys():
        items = twin.items[partition] = dict(table.items[partition])
        items.update({key: item_twin(items[key]) for key in named[partition] if key in items})
    return twin


def item_twin(item: Item) -> Item:
    """A copy of an item that may be changed apart from it."""
    twin: Item = object.__new__(Item)
    twin.hash_key, twin.range_key, twin.attrs = item.hash_key, item.range_key, LimitedSizeDict.__new__(LimitedSizeDict)
    dict.update(twin.attrs, item.attrs)
    return twin


_query = Table.query


def _queried(
    table: Table,
    hash_key: DynamoType | None,
    comparison: str | None,
    operands: list[DynamoType],
    limit: int | None,
    after: dict[str, Any] | None,
    forward: bool,
    projected: list[list[str]] | None,
    index_name: str | None = None,
    consistent_read: bool = False,
    filtered: Any = None,
    **options: Any,
) -> Any:
    sort_key: str = table.range_key_attr  # type: ignore[assignment]
    if index_name or (after and DynamoType(after[table.hash_key_attr]) != hash_key) or options.keys() - _OF_KEYS:
        given = (comparison, operands, limit, after, forward, projected, index_name, consistent_read, filtered)
        return _query(table, hash_key, *given, **options)  # type: ignore[arg-type]
    items = list(table.items.get(hash_key, {}).values())  # others may be adding to them
    keyed = [(item.range_key.cast_value, item) for item in items]
    keyed.sort(key=itemgetter(0), reverse=not forward)
    if after:
        start = DynamoType(after[sort_key]).cast_value
        keyed = [each for each in keyed if (each[0] > start if forward else each[0] < start)]
    compared, values = get_comparison_func(comparison or ""), [each.cast_value for each in operands]
    found: list[Item] = []
    size, last = 0, None
    for key, item in keyed:
        own = item.size()
        if len(found) == limit or size + own > RESULT_SIZE_LIMIT:
            last = table._get_last_evaluated_key(found[-1], None)
            break
        if compared is None or compared(key, *values):
            found.append(item)
            size += own
    told = [item for item in found if filtered is None or filtered.expr(item)]
    return [item.project(projected) for item in told] if projected else told, len(found), last


_OF_KEYS: Final = {"hash_key_conditions", "range_key_conditions"}
_project = Item.project


def _projected(item: Item, expressions: list[list[str]]) -> Item:
    if any(len(path) > 1 or "[" in path[0] for path in expressions):
        return _project(item, expressions)
    twin = item_twin(item)
    named = {path[0] for path in expressions}
    for name in twin.attrs.keys() - named:
        del twin.attrs[name]
    return twin


_to_dict: Callable[[Any], Any] = dynamo_to_dict


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is DynamoType:
        if value.type in ("B", "BS"):
            return _to_dict(value)
        return {value.type: _plain(value.value)}
    if kind is dict:
        return {name: _plain(each) for name, each in value.items()}
    if kind is list:
        return [_plain(each) for each in value]
    return value if kind in (str, bool, int, bytes) or value is None else _to_dict(value)


def _regular(value: DynamoType) -> dict[str, Any]:
    return {value.type: b64decode(value.value) if value.is_binary() and type(value.value) is str else _held(value)}


def _held(value: DynamoType) -> Any:
    match value.type:
        case "M":
            return {name: _regular(each) for name, each in value.value.items()}
        case "L":
            return [_regular(each) for each in value.value]
        case "SS" | "NS" | "BS":
            return list(value.value)
        case _:
            return value.value


_MAX_ITEM_BYTES: Final = 405_000  # moto's own
_BYTES: Final = "bytes"
_size = DynamoType.size
_cast: Callable[[DynamoType], Any] = DynamoType.cast_value.fget  # type: ignore[attr-defined]


def _sized(value: DynamoType) -> int:
    match value.type:
        case "S" | "B":
            return _bytes(value.value)
        case "L" | "M":
            known: dict[str, int] = value.__dict__
            if _BYTES not in known:
                names, members = (value.value, value.value.values()) if value.type == "M" else ((), value.value)
                known[_BYTES] = sum(map(_bytes, names)) + sum(map(_sized, members))
            return known[_BYTES]
        case _:
            return _size(value)


def _all_sized(item: Item) -> int:
    return sum(map(_bytes, item.attrs)) + sum(map(_sized, item.attrs.values()))


def _bytes(text: str | bytes) -> int:
    return len(text if isinstance(text, bytes) else text.encode())


def _compared(value: DynamoType) -> Any:
    return value.value if value.type in ("S", "B") else _cast(value)


def _made(item: Item, hash_key: DynamoType, range_key: DynamoType | None, attrs: dict[str, Any]) -> None:
    item.hash_key, item.range_key, item.attrs = hash_key, range_key, LimitedSizeDict()
    dict.update(item.attrs, {name: DynamoType(value) for name, value in attrs.items()})
    if item.size() > _MAX_ITEM_BYTES:
        raise ItemSizeTooLarge


_parse = ConditionExpressionParser.parse
_parsed: dict[str, tuple[Any, list[str], list[str]]] = {}


def _understood(parser: ConditionExpressionParser) -> Any:
    asked = (parser.condition_expression, parser.expression_attribute_names, parser.expression_attribute_values)
    key = repr(asked)
    known = _parsed.get(key)
    if known is not None:
        condition, names, values = known
        parser.expr_attr_names_found += names
        parser.expr_attr_values_found += values
        return condition
    condition = _parse(parser)
    if len(_parsed) > 1000:
        _parsed.clear()
    _parsed[key] = condition, [*parser.expr_attr_names_found], [*parser.expr_attr_values_found]
    return condition


_serialize = JSONSerializer.serialize_to_request
_ASKED: Final = "asked"  # a member of a serialised request that botocore does not look at


def _serialized(serializer: JSONSerializer, parameters: Any, operation_model: Any) -> Any:
    request = _serialize(serializer, parameters, operation_model)
    if operation_model.name in _OF_ITEMS:
        request[_ASKED] = parameters
    return request


def _copy(value: Any) -> Any:
    if type(value) is dict:
        return {name: _copy(each) for name, each in value.items()}
    return [_copy(each) for each in value] if isinstance(value, list | tuple) else value


_validate = ParamValidator.validate


def _validated(validator: ParamValidator, params: Any, shape: Any) -> ValidationErrors:
    return ValidationErrors() if _fits(params, shape) else _validate(validator, params, shape)


def _fits(value: Any, shape: Any) -> bool:
    """Whether a value is surely what botocore takes for this; it is asked otherwise."""
    match shape.type_name:
        case "string" | "blob" as kind:
            return type(value) is (str if kind == "string" else bytes) and len(value) >= shape.metadata.get("min", 0)
        case "integer" | "long":
            return type(value) is int and value >= shape.metadata.get("min", value)
        case "boolean":
            return type(value) is bool
        case "structure" if type(value) is dict and not shape.is_tagged_union and not shape.is_document_type:
            members = shape.members
            if any(name not in value for name in shape.required_members):
                return False
            return all(name in members and _fits(each, members[name]) for name, each in value.items())
        case "map" if type(value) is dict:
            of = shape.value
            return all(type(name) is str and _fits(each, of) for name, each in value.items())
        case "list" if type(value) is list and len(value) >= shape.metadata.get("min", 0):
            of = shape.member
            return all(_fits(each, of) for each in value)
        case _:
            return False


_construct = EndpointRulesetResolver.construct_endpoint


def _placed(resolver: EndpointRulesetResolver, operation_model: Any, call_args: Any, request_context: Any) -> Any:
    if operation_model.name not in _OF_ITEMS:
        return _construct(resolver, operation_model, call_args, request_context)
    known = resolver.__dict__.setdefault("known", {})
    if operation_model.name not in known:
        known[operation_model.name] = _construct(resolver, operation_model, call_args, request_context)
    return known[operation_model.name]


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
    handler.body = handler.params = _copy(params[_ASKED])
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


_keys_made = itertools.count()
_generate = generate_private_key


@cache
def _kept(key_spec: str, _: int) -> Any:
    return _generate(key_spec)


def _generated(key_spec: str) -> Any:
    return _generate(key_spec) if key_spec.startswith("ECC") else _kept(key_spec, next(_keys_made) % 8)


_HOOK: Final = ("before-call", _answered, REGISTER_LAST)
_QUICKER: Final[tuple[tuple[Any, str, Any], ...]] = (
    (Table, "__deepcopy__", _copied),
    (Table, "query", _queried),
    (DynamoDBBackend, "transact_write_items", _transacted),
    (DynamoType, "size", _sized),
    (DynamoType, "cast_value", property(_compared)),
    (DynamoType, "to_regular_json", _regular),
    (Item, "__init__", _made),
    (Item, "size", _all_sized),
    (Item, "project", _projected),
    (ConditionExpressionParser, "parse", _understood),
    (responses, "dynamo_to_dict", _plain),
    (tables, "dynamo_json_dump", lambda _: "-"),  # of a record in a stream, to say how long it is
    *((each, "__new__", staticmethod(lambda of, *_, **__: object.__new__(of))) for each in (Item, StreamRecord)),
    (JSONSerializer, "serialize_to_request", _serialized),
    (ParamValidator, "validate", _validated),
    (EndpointRulesetResolver, "construct_endpoint", _placed),
    (UserAgentString, "to_string", cache(UserAgentString.to_string)),
    (kms, "generate_private_key", _generated),
    (ResponseSerializer, "get_value", _picked),
    (JSONFileLoader, "load_file", _loaded),
)
THEIRS: Final = tuple((owner, name, vars(owner).get(name)) for owner, name, _ in _QUICKER)


def quicken() -> None:
    """For every moto of this process, once and for all: every table of ours has a sort key."""
    for owner, name, quicker in _QUICKER:
        setattr(owner, name, quicker)
    if _HOOK not in BUILTIN_HANDLERS:
        BUILTIN_HANDLERS.append(_HOOK)
        paths.parse = cache(paths.parse)  # type: ignore[attr-defined]
