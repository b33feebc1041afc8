"""Messages over HTTP: `POST [base]/$process-message`: the patient feed of PMIR (ITI-93), and clinical messages.

A clinical message (one with a coded event, `fhir/conversion/fhir_messages.py`) is one transaction, applied once however
often it is sent. What refuses it is in the answer, but for a refusal of the sender itself, which is one of HTTP.

Entries of the feed are one command each: applied in order, authorised, recorded and refused one by one, so that one bad
record does not keep a night's feed out. Registering the same content again changes nothing, and so does removing what
is gone: a message of which the outcome is not known, or that was refused in part, is safe to send again as a whole.
Under an Idempotency-Key an entry that was applied is not applied again, whatever became of the Patient since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final, Protocol

from passerelle.access import Permission, Request, Touched, insufficient_scope
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply, Wired
from passerelle.audit.model import audit_of
from passerelle.directory.identifiers import IDNST
from passerelle.errors import Forbidden, NotFound, PasserelleError, Unprocessable
from passerelle.fhir.bundles import resolve_references
from passerelle.fhir.demographics import single_identifier
from passerelle.fhir.patient import FhirPatientDraft
from passerelle.fhir.pmir import FeedAnswer, FeedEntry, MergeDraft, feed_response, merged, parse_feed
from passerelle.fhir.transaction import TransactionService
from passerelle.identifiers import PATIENT_KEY
from passerelle.patients.identity import IdentityScheme
from passerelle.patients.model import Identifier, StoredPatient
from passerelle.patients.registration import Registered
from passerelle.patients.service import PatientService

OPERATION: Final = "$process-message"
TRANSACTIONS: Final = ("ITI-93",)
_FEEDS: Final = Permission(resource="Patient", interaction="u", transactions=TRANSACTIONS)
_REMOVES: Final = Permission(resource="Patient", interaction="d", transactions=TRANSACTIONS)


class WiredFeed(Wired, Protocol):
    @property
    def patients(self) -> PatientService: ...

    @property
    def scheme(self) -> IdentityScheme: ...

    @property
    def transactions(self) -> TransactionService: ...


def serve_messages(app: FhirApp) -> None:
    """Declare `POST /fhir/$process-message`."""
    declare = app.route("POST", f"/{OPERATION}", name=OPERATION, action="E", resource=None, permission=None)
    declare(_process)


def _process(call: Call, wired: WiredFeed) -> Reply:
    from passerelle.fhir.conversion.fhir_messages import names_coded_event  # few messages are no feed

    if names_coded_event(call.resource):
        return _process_clinical(call, wired)
    if not call.request.caller.scopes.permits(_FEEDS):
        raise insufficient_scope()
    message = parse_feed(call.resource)
    removes = any(entry.method == "DELETE" for entry in message.entries)
    if removes and not call.request.caller.scopes.permits(_REMOVES):
        raise insufficient_scope()
    feeding = _Feeding(call.request, wired)
    answers = [feeding.applied(entry, number) for number, entry in enumerate(message.entries)]
    body = feed_response(message, answers, base_url=call.request.base_url, at=call.request.at)
    return Reply(body=body, touched=COMMITTED)


def _process_clinical(call: Call, wired: WiredFeed) -> Reply:
    from passerelle.fhir.conversion.fhir_messages import message_response, parse_message
    from passerelle.ingestion.model import Source

    request = call.request
    caller = request.caller
    organisation = {"system": IDNST, "value": caller.organisation}
    source = Source(
        domain=caller.domain or f"{IDNST}:{caller.organisation}",
        organisation=caller.organisation,
        organisation_reference={"type": "Organization", "identifier": organisation},
        now=request.at,
    )
    message = parse_message(call.resource, source)
    key = request.idempotency_key or f"message-{hashlib.sha256(message.key.encode()).hexdigest()}"
    made: list[str] = []
    refused: PasserelleError | None = None
    try:
        done = wired.transactions.execute(replace(request, idempotency_key=key), message.entries, None)
        made = [f"{each.key.reference}/_history/{each.version}" for each in done.values() if each.key is not None]
    except Forbidden:
        raise
    except PasserelleError as refusal:
        wired.trail.append(audit_of(request, Touched(), refusal=refusal))
        refused = refusal
    body = message_response(message, made, refused, base_url=request.base_url, at=request.at)
    return Reply(body=body, touched=COMMITTED)


class _Feeding:
    """The entries of one message, and what the ids that the caller chose in it stand for."""

    def __init__(self, request: Request, wired: WiredFeed) -> None:
        self._request = request
        self._wired = wired
        self._patients = wired.patients
        self._meant: dict[str, str] = {}

    def applied(self, entry: FeedEntry, number: int) -> FeedAnswer:
        """Apply one entry; a refusal is recorded, and is an answer."""
        key = self._request.idempotency_key
        request = replace(
            self._request,
            action="D" if entry.method == "DELETE" else "U",
            idempotency_key=hashlib.sha256(f"{key}#{number}".encode()).hexdigest() if key else None,
        )
        try:
            try:
                return self._apply(request, entry)
            except PasserelleError as refusal:
                named = [id for id in entry.ids if PATIENT_KEY.fullmatch(id)]
                self._wired.trail.append(audit_of(request, Touched.of(named[:1]), refusal=refusal))
                raise
        except PasserelleError as refusal:
            return FeedAnswer(status=_status(refusal.status), refusal=refusal)

    def _apply(self, request: Request, entry: FeedEntry) -> FeedAnswer:
        if entry.method == "DELETE":
            self._patients.remove(request, self._removed(entry))
            return FeedAnswer(status=_status(200))
        registered, stored = self._write(request, entry)
        reference = f"Patient/{registered.patient}"
        for name in (entry.full_url, *(f"Patient/{id}" for id in (*entry.ids, entry.resource.get("id")) if id)):
            if name:
                self._meant[name] = reference
        return FeedAnswer(
            status=_status(201 if registered.is_new else 200),
            reference=f"{reference}/_history/{registered.version}",
            at=stored.at,
        )

    def _write(self, request: Request, entry: FeedEntry) -> tuple[Registered, StoredPatient]:
        resource = resolve_references(entry.resource, self._meant, full_url=entry.full_url)
        known = None if entry.method == "POST" else self._known(entry)
        draft: FhirPatientDraft
        if entry.is_only_merge:
            if known is not None:

                def revise(stored: bytes) -> FhirPatientDraft:
                    return self._draft(merged(stored, resource))

                return self._patients.patch(request, known.patient, revise, if_match=None)
            draft = MergeDraft(resource, self._wired.scheme, base_url=request.base_url)
        else:
            draft = self._draft(resource)
        if entry.query:
            return self._patients.register(request, single_identifier(entry.query), draft)
        if known is not None:
            return self._patients.update(request, known.patient, draft, if_match=None)
        own = self._own(draft.traits.identifiers)
        if own is None:
            raise Unprocessable(
                "the Patient carries no identifier of the caller's domain",
                code="required",
                expression=f"{entry.path}.resource.identifier",
            )
        return self._patients.register(request, own, draft)

    def _removed(self, entry: FeedEntry) -> Identifier:
        if entry.query:
            asked: Identifier = single_identifier(entry.query)
            return asked
        known = self._known(entry)
        if known is not None:
            return self._patients.identifier_of(self._request, known)
        if entry.resource:
            own = self._own(self._draft(entry.resource).traits.identifiers)
            if own is not None:
                return own
        raise NotFound()

    def _known(self, entry: FeedEntry) -> StoredPatient | None:
        """The source record that one of the entry's ids means: ours, or the caller's of an entry before."""
        for id in entry.ids:
            key = self._meant.get(f"Patient/{id}", id).removeprefix("Patient/")
            if PATIENT_KEY.fullmatch(key):
                try:
                    return self._patients.read(self._request, key)
                except NotFound:
                    continue  # an id of the caller's may look like one of ours
        return None

    def _own(self, identifiers: tuple[Identifier, ...]) -> Identifier | None:
        return next((each for each in identifiers if each[0] == self._request.caller.domain), None)

    def _draft(self, resource: Mapping[str, Any]) -> FhirPatientDraft:
        return FhirPatientDraft(resource, self._wired.scheme, base_url=self._request.base_url)


def _status(code: int) -> str:
    return f"{code} {HTTPStatus(code).phrase}"
