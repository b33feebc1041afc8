"""`passerelle subscriptions`: an operator looks at subscriptions, tries one, and repeats what it was told.

With AWS credentials, straight on the operations table and the queue of deliveries. What a subscription says of its
owner, and of whom it is about, is shown where it is not sealed: the keys of records are not the operator's.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import sleep
from typing import Annotated, Any
from urllib.parse import urlsplit

import boto3
import typer
from rich.console import Console
from rich.table import Table

from local.clients import TableOption
from passerelle.aws.bus import SqsDeliveries
from passerelle.aws.dynamodb import DynamoDb, Item, from_attributes, update
from passerelle.errors import NotFound

QueueOption = Annotated[str, typer.Option(help="The queue of deliveries: output DeliveriesQueue of the stack.")]
DeadOption = Annotated[str, typer.Option(help="Its dead letters: output DeliveriesDeadQueue of the stack.")]
SubscriptionArgument = Annotated[str, typer.Argument(help="The id of a subscription.")]

subscriptions = typer.Typer(no_args_is_help=True, help="Who is told what: look, try, repeat.")

_LOOKS, _PAUSE_SECONDS = 100, 0.2


@subscriptions.command("list")
def list_all(
    table: TableOption,
    status: Annotated[str, typer.Option(help="Only those in this status, as `error`.")] = "",
) -> None:
    """Show every subscription: where it stands, and what its endpoint last did wrong."""
    dynamodb = DynamoDb(boto3.client("dynamodb"))
    shown = Table()
    for name in ("id", "status", "channel", "topic", "client", "endpoint", "told", "of", "failures", "error"):
        shown.add_column(name, overflow="fold")
    for item in sorted(_all(table), key=lambda each: each["PK"]):
        if status in ("", item["status"]):
            shown.add_row(*_row(item, dynamodb, table))
    Console().print(shown)


def _all(table: str) -> Iterator[Item]:
    pages = (
        boto3.client("dynamodb")
        .get_paginator("scan")
        .paginate(
            TableName=table,
            FilterExpression="begins_with(PK, :subscription) AND SK = :sort",
            ExpressionAttributeValues={":subscription": {"S": "S#"}, ":sort": {"S": "S"}},
        )
    )
    return (from_attributes(item) for page in pages for item in page["Items"])


def _row(item: Item, dynamodb: DynamoDb, table: str) -> list[str]:
    id = item["PK"].removeprefix("S#")
    head = dynamodb.get(table, (f"N#{id}", "HEAD")) or {"last": 0}
    interest = item.get("interest", {})
    return [
        id,
        item["status"],
        item["channel"],
        interest.get("topic", "sealed"),
        interest.get("owner", {}).get("client_id", "sealed"),
        # The host alone: paths of webhooks hold secrets, and addresses are personal.
        urlsplit(item.get("endpoint", "")).hostname or "-",
        str(item["delivered"]),
        str(head["last"]),
        str(item["failures"]),
        item["error"],
    ]


@subscriptions.command()
def test(id: SubscriptionArgument, table: TableOption, queue: QueueOption) -> None:
    """Have the exchange look at a subscription now: what waits for it is told, and what its endpoint does is shown."""
    dynamodb, deliveries = DynamoDb(boto3.client("dynamodb")), SqsDeliveries(boto3.client("sqs"), queue)
    before = _found(dynamodb, table, id)
    deliveries.start(id, _next_version(dynamodb, table, id, before))
    now = before
    for _ in range(_LOOKS):
        now = _found(dynamodb, table, id)
        if any(now[name] != before[name] for name in ("told_at", "failures", "status")):
            break
        sleep(_PAUSE_SECONDS)
    head = dynamodb.get(table, (f"N#{id}", "HEAD")) or {"last": 0}
    typer.echo(f"{now['status']}, told {now['delivered']} of {head['last']}, {now['failures']} failures {now['error']}")
    if now["failures"] or now["status"] != "active" or now["delivered"] < head["last"]:
        raise typer.Exit(1)


@subscriptions.command()
def replay(
    id: SubscriptionArgument,
    since: Annotated[int, typer.Option(help="The first event number that is told again.", min=1)],
    table: TableOption,
    queue: QueueOption,
) -> None:
    """Tell a subscriber again what it was told since an event number; the log holds 30 days.

    Numbers and delivery ids are those of the first time: a receiver that kept them drops what it has.
    """
    dynamodb = DynamoDb(boto3.client("dynamodb"))
    before = _found(dynamodb, table, id)
    if before["delivered"] < since:
        typer.echo(f"event {since} was not told yet: nothing to repeat")
        raise typer.Exit(1)
    rewound = update(
        table,
        (f"S#{id}", "S"),
        "SET delivered = :number",
        {":number": since - 1, ":read": before["delivered"]},
        condition="delivered = :read",
        lost=lambda _: typer.BadParameter("it is being told at the moment: try again"),
    )
    dynamodb.change(rewound)
    deliveries = SqsDeliveries(boto3.client("sqs"), queue)
    deliveries.start(id, _next_version(dynamodb, table, id, before))
    typer.echo(f"events {since} to {before['delivered']} are told again")


@subscriptions.command()
def redrive(queue: QueueOption, dead: DeadOption) -> None:
    """Put the dead letters back into the queue they came from, in order: after the fault is mended."""
    sqs, moved = boto3.client("sqs"), 0
    while messages := _received(sqs, dead):
        for message in messages:
            sent: dict[str, Any] = {"QueueUrl": queue, "MessageBody": message["Body"]}
            if queue.endswith(".fifo"):
                sent["MessageGroupId"] = message["Attributes"]["MessageGroupId"]
                sent["MessageDeduplicationId"] = f"redriven#{message['MessageId']}"
            sqs.send_message(**sent)
            sqs.delete_message(QueueUrl=dead, ReceiptHandle=message["ReceiptHandle"])
            moved += 1
    typer.echo(f"moved {moved}")


def _received(sqs: Any, url: str) -> list[dict[str, Any]]:
    answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"])
    found: list[dict[str, Any]] = answer.get("Messages", [])
    return found


def _found(dynamodb: DynamoDb, table: str, id: str) -> Item:
    item = dynamodb.get(table, (f"S#{id}", "S"))
    if item is None:
        raise typer.BadParameter("there is no such subscription")
    return item


def _next_version(dynamodb: DynamoDb, table: str, id: str, read: Item) -> int:
    """A version of its own, so that the order is none of those before."""
    changed = dynamodb.change(
        update(
            table,
            (f"S#{id}", "S"),
            "SET version = :next",
            {":next": read["version"] + 1, ":read": read["version"]},
            condition="version = :read",
            lost=lambda _: NotFound("it was changed meanwhile: try again"),
        )
    )
    return int(changed["version"])
