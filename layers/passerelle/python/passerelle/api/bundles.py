"""Batches and transactions over HTTP (FHIR R4 section 3.1.0.11).

An entry of a batch is a request of its own: found, authorised, served and recorded like any other. The changes of a
transaction are one commit (`fhir/transaction.py`); its reads are served after it, as entries of a batch are.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qsl

from passerelle.api.app import COMMITTED, Call, FhirApp, Reply, Wired
from passerelle.api.negotiation import FHIR_JSON
from passerelle.api.routes import BASE
from passerelle.errors import PasserelleError, TooLarge
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import EntryResponse, TransactionEntry, parse_transaction, transaction_response
from passerelle.fhir.mhd import submission_level
from passerelle.fhir.outcome import render_outcome
from passerelle.fhir.resource import instant
from passerelle.fhir.transaction import TransactionService

MAX_RESPONSE_BYTES = 4 * 1024 * 1024  # of resources: a function answers with 6 MB at most


class WiredTransactions(Wired, Protocol):
    @property
    def transactions(self) -> TransactionService: ...


def serve_bundles(app: FhirApp, *, entries: FhirApp) -> None:
    """Declare `POST /fhir`; `entries` has the routes that an entry can ask for."""

    @app.route("POST", "", name="transaction", action="E", resource=None, permission=None, features=("batch",))
    def bundle(call: Call, wired: WiredTransactions) -> Reply:
        parsed = parse_transaction(call.resource)
        if call.resource["type"] == "batch":
            return _answered(call, wired, entries, parsed, {})
        changes = [entry for entry in parsed if entry.method != "GET"]
        done = wired.transactions.execute(call.request, changes, submission_level(call.resource))
        return _answered(call, wired, entries, parsed, done)


def _answered(
    call: Call,
    wired: Wired,
    entries: FhirApp,
    parsed: list[TransactionEntry],
    done: Mapping[str, EntryResponse],
) -> Reply:
    answers = []
    room = MAX_RESPONSE_BYTES
    for number, entry in enumerate(parsed):
        answer = done.get(entry.path)
        if answer is None:
            reply = _served(call, wired, entries, entry, number)
            room -= len(reply.body) if isinstance(reply.body, bytes) else 0
            if room < 0:
                refusal = TooLarge("the answers together are too large: ask for this one by itself")
                reply = Reply(status=refusal.status, body=render_outcome(refusal), touched=COMMITTED)
            answer = _entry_response(reply)
        answers.append(answer)
    kind = "batch-response" if call.resource["type"] == "batch" else "transaction-response"
    return Reply(body=transaction_response(answers, kind=kind), touched=COMMITTED)  # type: ignore[arg-type]


def _served(call: Call, wired: Wired, entries: FhirApp, entry: TransactionEntry, number: int) -> Reply:
    path = f"{BASE}/{entry.url.partition('?')[0]}"
    headers = {"accept": FHIR_JSON, "prefer": call.headers.get("prefer", "")}
    if entry.if_match is not None:
        headers["if-match"] = f'W/"{entry.if_match}"'
    if entry.if_none_match is not None:
        headers["if-none-match"] = entry.if_none_match
    if entry.if_none_exist is not None:
        headers["if-none-exist"] = entry.if_none_exist
    body, headers["content-type"] = _body(entry)
    key = call.request.idempotency_key
    part = replace(
        call,
        path={},
        query=parse_qsl(entry.query, keep_blank_values=True),
        headers=headers,
        body=body,
        request=replace(
            call.request,
            query=f"{path}?{entry.query}" if entry.query else "",
            idempotency_key=f"{key}#{number}" if key else None,
        ),
    )
    try:
        return entries.answer(entry.method, path, part, wired)
    except PasserelleError as error:  # found no route
        return Reply(status=error.status, body=render_outcome(error), touched=COMMITTED)


def _body(entry: TransactionEntry) -> tuple[bytes, str]:
    """What the entry would send by itself; a patch that is no resource comes in a Binary."""
    resource = entry.resource
    if entry.method == "PATCH" and resource.get("resourceType") == "Binary":
        return base64.b64decode(resource.get("data", "")), str(resource.get("contentType", ""))
    return (fhir_json.dumps(resource) if resource else b""), FHIR_JSON


def _entry_response(reply: Reply) -> EntryResponse:
    resource = _resource(reply)
    is_outcome = reply.status >= 400
    modified = reply.headers.get("Last-Modified")
    return EntryResponse(
        status=f"{reply.status} {HTTPStatus(reply.status).phrase}",
        location=reply.headers.get("Location"),
        etag=reply.headers.get("ETag"),
        last_modified=instant(parsedate_to_datetime(modified)) if modified else None,
        resource=None if is_outcome else resource,
        outcome=resource if is_outcome else None,
    )


def _resource(reply: Reply) -> Mapping[str, Any] | None:
    if reply.body is None or reply.body == b"":
        return None
    if not isinstance(reply.body, bytes):
        return reply.body
    if reply.content_type is not None:
        data = base64.b64encode(reply.body).decode()
        return {"resourceType": "Binary", "contentType": reply.content_type, "data": data}
    loaded: Mapping[str, Any] = fhir_json.loads(reply.body)
    return loaded
