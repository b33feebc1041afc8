"""Uploads: their tickets on DynamoDB, their bytes in a bucket of their own, where nothing stays.

    operations      U#<client id>    <upload id>     ticket: what was announced, state; ttl when it expires
    uploads bucket  uploads/<upload id>              the content, once its parts are assembled

The bucket has neither versions nor Object Lock, so that what nobody publishes is gone a day or two later. Contract
relied on: Amazon S3 user guide, "Uploading and copying objects using multipart upload", "Download and upload objects
with presigned URLs": what is signed, here the length of the part, must be sent as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from passerelle.aws.dynamodb import Action, DynamoDb, Item, aws_errors, count, put, update
from passerelle.aws.journal import TableNames, actions_of
from passerelle.aws.objects import S3Objects, code_of
from passerelle.documents.uploads import Announced, State, Ticket, TicketOpened, TicketSettled, UploadUse
from passerelle.errors import Conflict, Fault, Stale

# Without the right to list the bucket, S3 says of what is not there that it is denied.
_ABSENT = {"NoSuchKey", "AccessDenied"}


class DynamoUploadTickets:
    """`documents.ports.UploadTickets`"""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._table = tables.operations

    def find(self, client_id: str, id: str) -> Ticket | None:
        item = self._dynamodb.get(self._table, (f"U#{client_id}", id))
        return _ticket(item) if item else None

    def of_client(self, client_id: str) -> Sequence[Ticket]:
        return [_ticket(item) for item in self._dynamodb.query_all(self._table, f"U#{client_id}")]


class S3UploadSpace:
    """`documents.ports.UploadSpace`"""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._objects = S3Objects(client, bucket)

    def begin(self, id: str, content_type: str) -> str:
        count("CreateMultipartUpload")
        with aws_errors():
            answer = self._client.create_multipart_upload(Bucket=self._bucket, Key=key_of(id), ContentType=content_type)
        handle: str = answer["UploadId"]
        return handle

    def part_url(self, ticket: Ticket, number: int, lifetime: timedelta) -> str:
        part = {"PartNumber": number, "ContentLength": ticket.parts[number]}
        url: str = self._client.generate_presigned_url(
            "upload_part", Params=self._upload(ticket) | part, ExpiresIn=int(lifetime.total_seconds())
        )
        return url

    def parts(self, ticket: Ticket) -> Mapping[int, int] | None:
        listed = self._listed(ticket)
        return None if listed is None else {each["PartNumber"]: each["Size"] for each in listed}

    def assemble(self, ticket: Ticket) -> None:
        listed = self._listed(ticket)
        if listed is None:
            return
        parts = [{"PartNumber": each["PartNumber"], "ETag": each["ETag"]} for each in listed]
        count("CompleteMultipartUpload")
        try:
            with aws_errors():
                self._client.complete_multipart_upload(**self._upload(ticket), MultipartUpload={"Parts": parts})
        except Fault as fault:
            if code_of(fault) != "NoSuchUpload":  # somebody else's same request was faster
                raise

    def size(self, ticket: Ticket) -> int | None:
        try:
            with aws_errors():
                count("GetObject")
                answer = self._client.get_object(Bucket=self._bucket, Key=key_of(ticket.id), Range="bytes=0-0")
        except Fault as fault:
            if code_of(fault) in _ABSENT:
                return None
            raise
        answer["Body"].close()
        return int(answer["ContentRange"].rpartition("/")[2])

    def read(self, ticket: Ticket, first: int, last: int) -> bytes:
        return self._objects.read(key_of(ticket.id), first, last)

    def discard(self, ticket: Ticket) -> None:
        self._objects.delete(key_of(ticket.id))

    def _upload(self, ticket: Ticket) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": key_of(ticket.id), "UploadId": ticket.handle}

    def _listed(self, ticket: Ticket) -> list[dict[str, Any]] | None:
        """The parts that came: fewer than a thousand, one page."""
        count("ListParts")
        try:
            with aws_errors():
                listed: list[dict[str, Any]] = self._client.list_parts(**self._upload(ticket)).get("Parts", [])
        except Fault as fault:
            if code_of(fault) == "NoSuchUpload":
                return None
            raise
        return listed


def key_of(upload_id: str) -> str:
    return f"uploads/{upload_id}"


def _ticket(item: Item) -> Ticket:
    return Ticket(
        id=item["SK"],
        client_id=item["PK"].removeprefix("U#"),
        announced=Announced(**item["announced"]),
        part_bytes=item["part_bytes"],
        handle=item["handle"],
        expires_at=datetime.fromtimestamp(item["ttl"], UTC),
        state=State(item["state"]),
        refusal=item.get("refusal"),
    )


@actions_of.register
def _(change: TicketOpened, tables: TableNames) -> Sequence[Action]:
    ticket = change.ticket
    item = {
        "PK": f"U#{ticket.client_id}",
        "SK": ticket.id,
        "announced": asdict(ticket.announced),
        "part_bytes": ticket.part_bytes,
        "handle": ticket.handle,
        "state": ticket.state.value,
        "ttl": int(ticket.expires_at.timestamp()),
    }
    return [put(tables.operations, item, unless_exists=_moved_on)]


@actions_of.register
def _(change: TicketSettled, tables: TableNames) -> Sequence[Action]:
    ticket = change.ticket
    values = {
        ":announced": asdict(ticket.announced),
        ":state": ticket.state.value,
        ":refusal": ticket.refusal,
        ":open": State.OPEN.value,
    }
    return [
        update(
            tables.operations,
            (f"U#{ticket.client_id}", ticket.id),
            "SET announced = :announced, #state = :state, refusal = :refusal",
            values,
            condition="#state = :open",
            names={"#state": "state"},
            lost=_moved_on,
        )
    ]


@actions_of.register
def _(change: UploadUse, tables: TableNames) -> Sequence[Action]:
    return [
        update(
            tables.operations,
            (f"U#{change.client_id}", change.id),
            "SET #state = :used",
            {":used": State.USED.value, ":verified": State.VERIFIED.value},
            condition="#state = :verified",
            names={"#state": "state"},
            lost=_used,
        )
    ]


def _moved_on(_: Item) -> Exception:
    return Stale("the upload is not open any more")


def _used(_: Item) -> Exception:
    return Conflict("the upload is the content of a document already")
