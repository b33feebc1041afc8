"""DynamoDB as the adapters use it: plain Python items, consistent reads, guarded transactions, and a meter.

Contract relied on: DynamoDB developer guide, "Transactions" (100 actions, 4 MB, one action per item; cancellation
reasons in the order of the actions) and "Read consistency". moto and ministack enforce neither limit: they are
enforced here.

    items        str, int, bool, None, bytes, list, dict with str keys; numbers are integers
    reads        always strongly consistent
    Meter        counts what an operation costs: round trips (calls made in parallel count as one), read and write
                 units by the published size rules
"""

from __future__ import annotations

import contextvars
import math
import random
import time
from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar, cast

from botocore.exceptions import BotoCoreError, ClientError

from passerelle.errors import Busy, Fault, PasserelleError, Unavailable

Item = dict[str, Any]
Key = tuple[str, str]
R = TypeVar("R")

MAX_ACTIONS = 100
MAX_TRANSACTION_BYTES = 4 * 1024 * 1024
MAX_ITEM_BYTES = 400 * 1024
_CONFLICT_RETRIES = 8


def to_attributes(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item in wire form (API reference, "AttributeValue"); raises TypeError for a value of any other type."""
    return {name: _to_wire(value) for name, value in item.items()}


def from_attributes(attributes: Mapping[str, Any]) -> Item:
    return {name: _from_wire(value) for name, value in attributes.items()}


# Not those of boto3.dynamodb, whose import costs more than all of this package, and which make Decimals of integers.
def _to_wire(value: Any) -> dict[str, Any]:
    match value:
        case str():
            return {"S": value}
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case None:
            return {"NULL": True}
        case bytes():
            return {"B": value}
        case list() | tuple():
            return {"L": [_to_wire(each) for each in value]}
        case Mapping():
            return {"M": to_attributes(value)}
        case _:
            raise TypeError(f"an item holds no {type(value).__name__}")


def _from_wire(attribute: Mapping[str, Any]) -> Any:
    ((kind, content),) = attribute.items()
    match kind:
        case "S" | "BOOL":
            return content
        case "N":
            return int(content)
        case "NULL":
            return None
        case "B":
            return b64decode(content) if isinstance(content, str) else bytes(content)  # text, in records of a stream
        case "L":
            return [_from_wire(each) for each in content]
        case "M":
            return from_attributes(content)
        case _:
            raise TypeError(f"an item holds no {kind}")


def size_bytes(attributes: Mapping[str, Any]) -> int:
    """The size that DynamoDB bills for an item in wire form ("DynamoDB item sizes and formats")."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in attributes.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "B":
            return len(content)
        case "N":
            return len(content.strip("-").replace(".", "")) // 2 + 2
        case "L":
            return 3 + sum(1 + _value_bytes(each) for each in content)
        case "M":
            return 3 + sum(1 + len(name.encode()) + _value_bytes(each) for name, each in content.items())
        case _:
            return 1


@dataclass(slots=True)
class Meter:
    """What was spent between `measure()` and its end. Round trips include other services that report here.

    `read_units_of` are the read units by call: what a Query reads is the index of the record, the rest single items.
    """

    round_trips: int = 0
    calls: list[str] = field(default_factory=list)
    read_units: float = 0
    write_units: float = 0
    read_units_of: dict[str, float] = field(default_factory=lambda: defaultdict(float))


_meters: contextvars.ContextVar[tuple[Meter, ...]] = contextvars.ContextVar("meters", default=())
_in_parallel: contextvars.ContextVar[int] = contextvars.ContextVar("in_parallel", default=0)  # how deep


@contextmanager
def measure() -> Iterator[Meter]:
    """Count the AWS calls of the enclosed code, in this context and the parallel calls it makes."""
    meter = Meter()
    token = _meters.set((*_meters.get(), meter))
    try:
        yield meter
    finally:
        _meters.reset(token)


def count(call: str, *, read_units: float = 0, write_units: float = 0) -> None:
    """Report one AWS call to the meters that are running."""
    for meter in _meters.get():
        meter.calls.append(call)
        meter.round_trips += _in_parallel.get() == 0
        meter.read_units += read_units
        meter.read_units_of[call] += read_units
        meter.write_units += write_units


_pools: list[ThreadPoolExecutor] = []
_DEEPEST = 2  # calls made at once by calls made at once


def in_parallel(*calls: Callable[[], Any]) -> tuple[Any, ...]:
    """Make independent calls at once, as one round trip; the first exception, in argument order, is raised.

    Calls that one of them makes in turn have a pool of their own: one whose workers wait for it may never end. What
    these make in turn go one after the other.
    """
    depth = _in_parallel.get()
    if len(calls) == 1 or depth == _DEEPEST:
        return tuple(call() for call in calls)
    if len(_pools) == depth:
        _pools.append(ThreadPoolExecutor(max_workers=16, thread_name_prefix="dynamodb"))
    for meter in _meters.get():
        meter.round_trips += depth == 0
    token = _in_parallel.set(depth + 1)
    try:
        futures = [_pools[depth].submit(contextvars.copy_context().run, call) for call in calls]
    finally:
        _in_parallel.reset(token)
    return tuple(future.result() for future in futures)


@contextmanager
def aws_errors() -> Iterator[None]:
    """Turn what AWS or the network raises into errors of the exchange; the cause is kept for the log."""
    try:
        yield
    except ClientError as error:
        raise _translated(error) from error
    except BotoCoreError as error:
        raise Unavailable("a dependency cannot be reached; repeat the same request") from error


_THROTTLED = {"ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException"}


def _translated(error: ClientError) -> PasserelleError:
    code = error.response["Error"]["Code"]
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    if code in _THROTTLED:
        return Busy(headers={"Retry-After": "1"})
    if status >= 500 or code in {"TransactionInProgressException", "RequestTimeout"}:
        return Unavailable("a dependency failed; repeat the same request")
    return Fault()


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action of a transaction, with the error that its lost condition means.

    `request` is a TransactWriteItems element (`{"Put": {...}}`) without table name. `lost` gets the item as it was
    (empty if there was none) when the condition did not hold.
    """

    table: str
    kind: str  # Put, Update, Delete, ConditionCheck
    request: Mapping[str, Any]
    lost: Callable[[Item], Exception]

    def rendered(self) -> dict[str, Any]:
        body = {**self.request, "TableName": self.table}
        if "ConditionExpression" in body:
            body["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        return {self.kind: body}

    def cost_bytes(self) -> int:
        item = self.request.get("Item") or self.request.get("ExpressionAttributeValues") or {}
        return size_bytes(item)


def _impossible(_: Item) -> Exception:
    return Fault()


def put(table: str, item: Item, *, unless_exists: Callable[[Item], Exception] | None = None) -> Action:
    """Put an item; with `unless_exists`, only where there is none, else that error."""
    request: dict[str, Any] = {"Item": to_attributes(item)}
    if unless_exists is not None:
        request["ConditionExpression"] = "attribute_not_exists(PK)"
    return Action(table=table, kind="Put", request=request, lost=unless_exists or _impossible)


def put_if(
    table: str,
    item: Item,
    condition: str,
    values: Mapping[str, Any],
    lost: Callable[[Item], Exception],
    *,
    names: Mapping[str, str] | None = None,
) -> Action:
    """Put an item where the condition expression holds on the item that is there."""
    request: dict[str, Any] = {"Item": to_attributes(item), "ConditionExpression": condition}
    if values:
        request["ExpressionAttributeValues"] = to_attributes(values)
    if names:
        request["ExpressionAttributeNames"] = dict(names)
    return Action(table=table, kind="Put", request=request, lost=lost)


def update(
    table: str,
    key: Key,
    expression: str,
    values: Mapping[str, Any],
    *,
    condition: str | None = None,
    names: Mapping[str, str] | None = None,
    lost: Callable[[Item], Exception] = _impossible,
) -> Action:
    request: dict[str, Any] = {"Key": to_attributes({"PK": key[0], "SK": key[1]}), "UpdateExpression": expression}
    if values:
        request["ExpressionAttributeValues"] = to_attributes(values)
    if condition is not None:
        request["ConditionExpression"] = condition
    if names:
        request["ExpressionAttributeNames"] = dict(names)
    return Action(table=table, kind="Update", request=request, lost=lost)


def delete(table: str, key: Key) -> Action:
    request = {"Key": to_attributes({"PK": key[0], "SK": key[1]})}
    return Action(table=table, kind="Delete", request=request, lost=_impossible)


def delete_if(
    table: str,
    key: Key,
    condition: str,
    values: Mapping[str, Any],
    lost: Callable[[Item], Exception],
    *,
    names: Mapping[str, str] | None = None,
) -> Action:
    request: dict[str, Any] = {
        "Key": to_attributes({"PK": key[0], "SK": key[1]}),
        "ConditionExpression": condition,
    }
    if values:
        request["ExpressionAttributeValues"] = to_attributes(values)
    if names:
        request["ExpressionAttributeNames"] = dict(names)
    return Action(table=table, kind="Delete", request=request, lost=lost)


def check_absent(table: str, key: Key, lost: Callable[[Item], Exception]) -> Action:
    """Nothing is written; the transaction holds only while there is no such item."""
    request = {
        "Key": to_attributes({"PK": key[0], "SK": key[1]}),
        "ConditionExpression": "attribute_not_exists(PK)",
    }
    return Action(table=table, kind="ConditionCheck", request=request, lost=lost)


def check_if(
    table: str,
    key: Key,
    condition: str,
    values: Mapping[str, Any],
    lost: Callable[[Item], Exception],
    *,
    names: Mapping[str, str] | None = None,
) -> Action:
    """Nothing is written; the transaction holds only while the condition does."""
    request: dict[str, Any] = {
        "Key": to_attributes({"PK": key[0], "SK": key[1]}),
        "ConditionExpression": condition,
        "ExpressionAttributeValues": to_attributes(values),
    }
    if names:
        request["ExpressionAttributeNames"] = dict(names)
    return Action(table=table, kind="ConditionCheck", request=request, lost=lost)


class DynamoDb:
    """The calls that the adapters make. Thread-safe, as the client is."""

    def __init__(self, client: Any, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._sleep = sleep

    def get(self, table: str, key: Key) -> Item | None:
        with aws_errors():
            answer = self._client.get_item(
                TableName=table, Key=to_attributes({"PK": key[0], "SK": key[1]}), ConsistentRead=True
            )
        found = answer.get("Item")
        count("GetItem", read_units=max(1, math.ceil(size_bytes(found or {}) / 4096)))
        return from_attributes(found) if found is not None else None

    def get_many(self, table: str, keys: Sequence[Key]) -> dict[Key, Item]:
        """The items that exist under these keys, in batches of 100 read in parallel."""
        chunks = [keys[start : start + 100] for start in range(0, len(keys), 100)]
        found: dict[Key, Item] = {}
        if chunks:
            for part in in_parallel(*(lambda chunk=chunk: self._get_batch(table, chunk) for chunk in chunks)):
                found.update(part)
        return found

    def _get_batch(self, table: str, keys: Sequence[Key]) -> dict[Key, Item]:
        pending = [to_attributes({"PK": pk, "SK": sk}) for pk, sk in dict.fromkeys(keys)]
        found: dict[Key, Item] = {}
        for attempt in range(_CONFLICT_RETRIES):
            with aws_errors():
                answer = self._client.batch_get_item(RequestItems={table: {"Keys": pending, "ConsistentRead": True}})
            items = answer["Responses"].get(table, [])
            units = sum(max(1, math.ceil(size_bytes(item) / 4096)) for item in items)
            count("BatchGetItem", read_units=units)
            for attributes in items:
                item = from_attributes(attributes)
                found[item["PK"], item["SK"]] = item
            pending = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
            if not pending:
                return found
            self.back_off(attempt)
        raise Busy(headers={"Retry-After": "1"})

    def query(
        self,
        table: str,
        pk: str,
        *,
        prefix: str | None = None,
        between: tuple[str, str] | None = None,
        descending: bool = False,
        limit: int | None = None,
        start_after: str | None = None,
    ) -> tuple[list[Item], str | None]:
        """One page of a partition in key order: the items, and the sort key to start after for the next page.

        `limit` bounds the items read; a page also ends at 1 MB.
        """
        values: Item = {":pk": pk}
        condition = "PK = :pk"
        if prefix is not None:
            condition += " AND begins_with(SK, :prefix)"
            values[":prefix"] = prefix
        elif between is not None:
            condition += " AND SK BETWEEN :low AND :high"
            values |= {":low": between[0], ":high": between[1]}
        options: dict[str, Any] = {}
        if limit is not None:
            options["Limit"] = limit
        if start_after is not None:
            options["ExclusiveStartKey"] = to_attributes({"PK": pk, "SK": start_after})
        with aws_errors():
            answer = self._client.query(
                TableName=table,
                ConsistentRead=True,
                KeyConditionExpression=condition,
                ExpressionAttributeValues=to_attributes(values),
                ScanIndexForward=not descending,
                **options,
            )
        items = answer["Items"]
        count("Query", read_units=max(1, math.ceil(sum(map(size_bytes, items)) / 4096)))
        last = answer.get("LastEvaluatedKey")
        return [from_attributes(item) for item in items], last["SK"]["S"] if last else None

    def query_all(self, table: str, pk: str, **options: Any) -> Iterator[Item]:
        """Every item of the range, page after page."""
        start_after: str | None = None
        while True:
            items, start_after = self.query(table, pk, start_after=start_after, **options)
            yield from items
            if start_after is None:
                return

    def write(self, action: Action) -> None:
        """Make one write outside a transaction; raises the action's error when its condition is lost."""
        call = {"Put": "put_item", "Update": "update_item", "Delete": "delete_item"}[action.kind]
        (body,) = action.rendered().values()
        count(f"{action.kind}Item", write_units=max(1, math.ceil(action.cost_bytes() / 1024)))
        try:
            with aws_errors():
                getattr(self._client, call)(**body)
        except Fault as fault:
            cause = fault.__cause__
            if isinstance(cause, ClientError) and _code(cause) == "ConditionalCheckFailedException":
                raise action.lost(from_attributes(cast(Any, cause.response).get("Item", {}))) from None
            raise

    def change(self, action: Action) -> Item:
        """Make one update, and return the item as it is then; waits for transactions that hold the item.

        Raises the action's error when its condition is lost, Busy when there was a transaction each time.
        """
        (body,) = action.rendered().values()
        for attempt in range(_CONFLICT_RETRIES):
            count("UpdateItem", write_units=max(1, math.ceil(action.cost_bytes() / 1024)))
            try:
                with aws_errors():
                    answer = self._client.update_item(ReturnValues="ALL_NEW", **body)
            except Fault as fault:
                cause = fault.__cause__
                if isinstance(cause, ClientError) and _code(cause) == "ConditionalCheckFailedException":
                    raise action.lost(from_attributes(cast(Any, cause.response).get("Item", {}))) from None
                if not (isinstance(cause, ClientError) and _code(cause) == "TransactionConflictException"):
                    raise
                self.back_off(attempt)
            else:
                return from_attributes(answer["Attributes"])
        raise Busy(headers={"Retry-After": "1"})

    def transact(self, actions: Sequence[Action]) -> None:
        """Make all writes or none.

        Raises the error of the first action, in order, whose condition is lost; Busy when other transactions kept
        touching the same items through every retry.
        """
        keys = [_key_of(action) for action in actions]
        if len(actions) > MAX_ACTIONS or len(set(keys)) != len(keys):
            raise Fault()
        sizes = [action.cost_bytes() for action in actions]
        if sum(sizes) > MAX_TRANSACTION_BYTES:
            raise Fault()
        write_units = 2 * sum(max(1, math.ceil(size / 1024)) for size in sizes)
        for attempt in range(_CONFLICT_RETRIES):
            count("TransactWriteItems", write_units=write_units)
            try:
                with aws_errors():
                    self._client.transact_write_items(TransactItems=[action.rendered() for action in actions])
            except (Fault, Unavailable) as error:
                cause = error.__cause__
                if isinstance(cause, ClientError) and _code(cause) == "TransactionCanceledException":
                    self._raise_unless_conflict(cause, actions)
                elif not (isinstance(cause, ClientError) and _code(cause) == "TransactionConflictException"):
                    raise
                self.back_off(attempt)
            else:
                return
        raise Busy(headers={"Retry-After": "1"})

    def _raise_unless_conflict(self, error: ClientError, actions: Sequence[Action]) -> None:
        response: dict[str, Any] = {**error.response}
        reasons = response.get("CancellationReasons", [])
        for action, reason in zip(actions, reasons, strict=False):
            if reason.get("Code") == "ConditionalCheckFailed":
                raise action.lost(from_attributes(reason.get("Item") or {})) from None
        if not any(reason.get("Code") in ("TransactionConflict", "ThrottlingError") for reason in reasons):
            self._unexplained(error)

    @staticmethod
    def _unexplained(error: ClientError) -> NoReturn:
        raise Fault() from error

    def back_off(self, attempt: int) -> None:
        """Wait for others who use the same items: the longer, the more attempts (from 0) were in vain."""
        self._sleep(random.uniform(0, min(0.4, 0.01 * 2**attempt)))  # noqa: S311 - jitter, not a secret


def _code(error: ClientError) -> str:
    return error.response["Error"]["Code"]


def _key_of(action: Action) -> tuple[str, str, str]:
    key = action.request.get("Key") or action.request["Item"]
    return action.table, key["PK"]["S"], key["SK"]["S"]
