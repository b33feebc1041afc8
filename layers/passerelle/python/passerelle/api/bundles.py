"""Batches and transactions over HTTP (FHIR R4 section 3.1.0.11).

An entry of a batch is a request of its own: found, authorised, served and recorded like any other. The changes of a
transaction are one commit (`fhir/transaction.py`); its reads are served after it, as entries of a batch are.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

from passerelle.access import Touched
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply, Wired
from passerelle.api.negotiation import FHIR_JSON
from passerelle.api.routes import BASE
from passerelle.errors import Invalid, PasserelleError, TooLarge
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import (
    EntryResponse,
    TransactionEntry,
    parse_transaction,
    resolve_references,
    transaction_response,
)
from passerelle.fhir.care_team import circle_entries
from passerelle.fhir.dates import instant
from passerelle.fhir.mhd import submission_level
from passerelle.fhir.outcome import render_outcome, success
from passerelle.fhir.transaction import Done, TransactionService

MAX_RESPONSE_BYTES: Final = 4 * 1024 * 1024  # of resources: a function answers with 6 MB at most
_MAX_DEPTH: Final = fhir_json.MAX_DEPTH + 8  # a resource of any depth that is accepted, in a Bundle
_ANY_FORM: Final = f"{FHIR_JSON}, */*;q=0.1"  # content that is no FHIR goes into a Binary


class WiredTransactions(Wired, Protocol):
    @property
    def transactions(self) -> TransactionService: ...


def serve_bundles(app: FhirApp, *, entries: FhirApp) -> None:
    """Declare `POST /fhir`; `entries` has the routes that an entry can ask for."""

    @app.route("POST", "", name="transaction", action="E", resource=None, permission=None, features=("batch",))
    def bundle(call: Call, wired: WiredTransactions) -> Reply:
        parsed = parse_transaction(call.resource)
        level = submission_level(call.resource)
        answering = _Answering(call, wired, entries)
        if call.resource["type"] == "batch":
            answers = [answering.served(entry, number) for number, entry in enumerate(parsed)]
            # Each entry is recorded by itself; without any, the request is.
            touched = COMMITTED if parsed else Touched()
            body = transaction_response(answers, kind="batch-response")
            return Reply(body=body, touched=touched, is_disclosed=True)  # each entry was, by itself
        parsed = circle_entries(call.resource, parsed, call.request.caller.scopes)
        _authorise_reads(call, entries, parsed)
        changes = _with_patients_that_are_read(parsed)
        done = wired.transactions.execute(call.request, changes, level)
        answers = answering.done(wired.transactions, [done[entry.path] for entry in changes])
        written = dict(zip((entry.path for entry in changes), answers, strict=True))
        both = [written.get(entry.path) or answering.served(entry, number) for number, entry in enumerate(parsed)]
        return Reply(body=transaction_response(both), touched=COMMITTED)


def _authorise_reads(call: Call, entries: FhirApp, parsed: Sequence[TransactionEntry]) -> None:
    """Nothing is changed for a transaction whose reads would be refused unread."""
    for entry in parsed:
        if entry.method == "GET":
            try:
                entries.authorise(entry.method, _path(entry), call.request.caller)
            except PasserelleError as refusal:
                refusal.issues = tuple(replace(issue, expression=entry.path) for issue in refusal.issues)
                raise


def _with_patients_that_are_read(parsed: Sequence[TransactionEntry]) -> list[TransactionEntry]:
    """The changes; where they name the entry that reads a Patient, they mean the Patient (ITI-65 2:3.65.4.1.2.2)."""
    read = [entry for entry in parsed if entry.method == "GET" and entry.type == "Patient" and entry.full_url]
    named = {str(entry.full_url): entry.url for entry in read if entry.url == f"Patient/{entry.id}" or entry.query}
    changes = [entry for entry in parsed if entry.method != "GET"]
    if not named:
        return changes
    return [replace(entry, resource=resolve_references(entry.resource, named)) for entry in changes]


class _Answering:
    """The answers to the entries of one bundle, which share the room that an answer has."""

    def __init__(self, call: Call, wired: Wired, entries: FhirApp) -> None:
        self._call = call
        self._wired = wired
        self._entries = entries
        self._room = MAX_RESPONSE_BYTES

    def done(self, transactions: TransactionService, done: Sequence[Done]) -> list[EntryResponse]:
        """Of changes that are committed: with the resources, for who prefers that, while there is room."""
        preferred = self._call.preferences.get("return", "").lower()
        if preferred == "operationoutcome":
            return [replace(each.response, outcome=success("stored", each.warnings)) for each in done]
        if preferred != "representation":
            return [each.response for each in done]
        bodies = transactions.bodies(self._call.request, done)
        return [self._with_resource(each.response, bodies.get(each.key) if each.key else None) for each in done]

    def _with_resource(self, answer: EntryResponse, body: bytes | None) -> EntryResponse:
        if body is None or not self._fits(len(body)):
            return answer
        return replace(answer, resource=fhir_json.loads(body))

    def served(self, entry: TransactionEntry, number: int) -> EntryResponse:
        """Of a request of its own."""
        reply = self._reply(entry, number)
        resource, size = _resource(reply, entry)
        if not self._fits(size):
            refusal = TooLarge("the answers together are too large: ask for this one by itself")
            if entry.method == "GET":
                reply, resource = Reply(status=refusal.status, body=None, touched=COMMITTED), render_outcome(refusal)
            else:
                resource = None  # it is done: the client can read it
        is_outcome = reply.status >= 400
        modified = reply.headers.get("Last-Modified")
        location = reply.headers.get("Location")
        return EntryResponse(
            status=f"{reply.status} {HTTPStatus(reply.status).phrase}",
            location=location.removeprefix(f"{self._call.request.base_url}/") if location else None,
            etag=reply.headers.get("ETag"),
            last_modified=instant(parsedate_to_datetime(modified)) if modified else None,
            resource=None if is_outcome else resource,
            outcome=resource if is_outcome else None,
        )

    def _fits(self, size: int) -> bool:
        if size > self._room:
            return False
        self._room -= size
        return True

    def _reply(self, entry: TransactionEntry, number: int) -> Reply:
        path = _path(entry)
        try:
            return self._entries.answer(entry.method, path, self._part(entry, path, number), self._wired)
        except PasserelleError as error:  # found no route, or no request
            return Reply(status=error.status, body=render_outcome(error), touched=COMMITTED)

    def _part(self, entry: TransactionEntry, path: str, number: int) -> Call:
        """The entry as the request that it would be by itself."""
        call = self._call
        body, content_type = _body(entry)
        headers = {
            "accept": _ANY_FORM,
            "prefer": call.headers.get("prefer", ""),
            "content-type": content_type,
            "if-match": None if entry.if_match is None else f'W/"{entry.if_match}"',
            "if-none-match": entry.if_none_match,
            "if-none-exist": entry.if_none_exist,
        }
        key = call.request.idempotency_key
        return replace(
            call,
            path={},
            query=parse_qsl(entry.query, keep_blank_values=True),
            headers={name: value for name, value in headers.items() if value is not None},
            body=body,
            request=replace(
                call.request,
                query=f"{path}?{entry.query}" if entry.query else "",
                idempotency_key=hashlib.sha256(f"{key}#{number}".encode()).hexdigest() if key else None,
            ),
        )


def _path(entry: TransactionEntry) -> str:
    return f"{BASE}/{entry.url.partition('?')[0]}"


def _body(entry: TransactionEntry) -> tuple[bytes, str]:
    """What the entry would send by itself; a patch that is no resource comes in a Binary."""
    resource = entry.resource
    if entry.method == "PATCH" and resource.get("resourceType") == "Binary":
        try:
            patch = base64.b64decode(resource.get("data", ""), validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise Invalid("data must be base64", expression=f"{entry.path}.resource.data") from None
        return patch, str(resource.get("contentType", ""))
    return (fhir_json.dumps(resource) if resource else b""), FHIR_JSON


def _resource(reply: Reply, entry: TransactionEntry) -> tuple[Mapping[str, Any] | None, int]:
    """The resource of an answer, and how many bytes it takes; what is kept as a dict is small."""
    body = reply.body
    if body is None or body == b"":
        return None, 0
    if not isinstance(body, bytes):
        return body, 0
    if reply.content_type is not None:
        data = base64.b64encode(body).decode()
        id = {"id": entry.id} if entry.id else {}
        return {"resourceType": "Binary", **id, "contentType": reply.content_type, "data": data}, len(data)
    loaded: Mapping[str, Any] = fhir_json.loads(body, max_depth=_MAX_DEPTH)
    return loaded, len(body)
