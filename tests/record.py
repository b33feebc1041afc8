"""The record without HTTP: the stores and services of `wiring` on moto, people in it, requests and drafts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import boto3

from passerelle import wiring
from passerelle.access import Caller, Request, Scopes, Touched
from passerelle.audit.model import audit_of
from passerelle.fhir.resource import ResourceDraft
from passerelle.fhir.search import ParsedQuery, parse_query
from passerelle.identifiers import new_patient_key
from passerelle.journal import Change
from passerelle.patients.model import Person, PersonChange
from passerelle.records.model import Placement, RecordVersion, ResourceKey
from tests import registered
from tests.people import person_of

AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
BASE = f"{registered.FHIR_URL}"
BUCKET = "none"  # the name that `registered.services` gives
CALLER = Caller(
    client_id="practice",
    organisation="1990000037",
    role="practice",
    scopes=Scopes.parse("system/*.cruds"),
    token_id="t",
)
_numbers = count(1)


@contextmanager
def services() -> Iterator[None]:
    """`registered.services` with the bucket that holds large bodies."""
    with registered.services():
        boto3.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
        yield


def request(seconds: float = 0, *, client: str = "practice", key: str | None = None, content: str = "") -> Request:
    """A request that begins so long after AT; `content` is what its idempotency key stands for."""
    return Request(
        caller=replace(CALLER, client_id=client),
        name="update",
        action="U",
        request_id=str(next(_numbers)),
        at=AT + timedelta(seconds=seconds),
        base_url=BASE,
        idempotency_key=key,
        fingerprint=content,
    )


def commit(*changes: Change) -> None:
    wiring.journal().commit([*changes, *audit_of(request(), Touched())])


def person(members: int = 1) -> Person:
    """A new person with an open record, of so many source records."""
    keys = tuple(new_patient_key() for _ in range(members))
    made = person_of(*keys, since=AT)
    commit(PersonChange(before=None, after=made))
    return made


def linked(before: Person, *members: str) -> Person:
    """The same person with other source records."""
    after = replace(person_of(*members, key=before.key, since=AT), revision=before.revision + 1)
    commit(PersonChange(before=before, after=after))
    return after


def draft(type: str, /, **content: Any) -> ResourceDraft:
    return ResourceDraft({"resourceType": type, **content}, BASE)


def observation(patient: str, code: str = "a", date: str = "2026-02-01", **content: Any) -> ResourceDraft:
    named = {"subject": {"reference": f"Patient/{patient}"}, "effectiveDateTime": date, "status": "final"}
    return draft("Observation", **{"code": {"coding": [{"system": "urn:x", "code": code}]}, **named, **content})


def condition(type: str, /, **parameters: str) -> ParsedQuery:
    pairs = [(name.replace("_", "-"), value) for name, value in parameters.items()]
    return parse_query(type, pairs, strict=True, base_url=BASE)


def version(
    content: ResourceDraft,
    key: ResourceKey,
    number: int = 1,
    *,
    seconds: float = 0,
    previous: Placement | None = None,
    **more: Any,
) -> RecordVersion:
    at = AT + timedelta(seconds=seconds)
    return RecordVersion(
        key=key,
        version=number,
        at=at,
        body=content.body(key.id, number, at),
        entry=content.entry(key.id, number, at),
        previous=previous,
        **more,
    )


def deletion(key: ResourceKey, number: int, *, seconds: float = 0, previous: Placement | None = None) -> RecordVersion:
    at = AT + timedelta(seconds=seconds)
    return RecordVersion(key=key, version=number, at=at, body=None, entry=None, previous=previous)


def items(table: str = "clinical") -> list[dict[str, Any]]:
    """Every item of a table, as Python values."""
    from passerelle.aws.dynamodb import from_attributes

    pages = wiring.aws("dynamodb").get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return [from_attributes(item) for page in pages for item in page["Items"]]


def emptied(table: str = "clinical") -> None:
    """A new table in place of the old one, at once however much there was."""
    client = wiring.aws("dynamodb")
    client.delete_table(TableName=table)
    created(table)


def created(table: str) -> None:
    names = (("PK", "HASH"), ("SK", "RANGE"))
    wiring.aws("dynamodb").create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in names],
        KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in names],
    )


class Crash(BaseException):
    """The process ends here."""


class CrashingClient:
    """A DynamoDB client whose n-th write ends the process: before it is made, or after it took effect."""

    def __init__(self, client: Any, at: int, *, is_done: bool) -> None:
        self._client, self._left, self._is_done = client, at, is_done

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        if not name.startswith(("put", "update", "delete", "transact")):
            return call

        def write(**options: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._is_done:
                raise Crash
            answer = call(**options)
            if self._left == 0:
                raise Crash
            return answer

        return write
