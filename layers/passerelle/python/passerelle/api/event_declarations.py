"""Events declared, and orders to notify, by the ANS guide Notification d'evenements (contract NDE-5 to NDE-9)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from passerelle.access import Caller, Request, Touched
from passerelle.api.app import Call, Reply
from passerelle.api.interactions import SERVED, WiredRecords, search_url, written_reply
from passerelle.errors import Gone, NotFound, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir import nde
from passerelle.fhir.bundles import Found, searchset
from passerelle.fhir.index import entry_of
from passerelle.fhir.resource import stamped
from passerelle.fhir.search import parse_query
from passerelle.fhir.validation import validate
from passerelle.notifications.model import Subscription
from passerelle.notifications.ports import NotificationLog
from passerelle.notifications.service import is_by
from passerelle.notifications.topics import DECLARED
from passerelle.patients.model import Identifier, Person
from passerelle.records.model import StoredVersion, Subject
from passerelle.records.search import matches

_OF_LATE: Final = 50


class FoundSubscriptions(Protocol):
    def find(self, id: str) -> Subscription | None: ...

    def owned_by(self, owner: Caller) -> Sequence[Subscription]: ...


class Whose(Protocol):
    def __call__(
        self, request: Request, identifiers: Sequence[Identifier], *, expression: str
    ) -> tuple[str, Person]: ...


class WiredDeclarations(WiredRecords, Protocol):
    @property
    def subscribed(self) -> FoundSubscriptions: ...

    @property
    def told(self) -> NotificationLog: ...

    @property
    def whose(self) -> Whose: ...


def declare(call: Call, wired: Any, kind: str) -> Reply:
    """Create a CommunicationRequest that may be a declaration."""
    try:
        validate(call.resource, expected_type=kind)
    except Unprocessable:
        if nde.is_declaration(call.resource):
            nde.check_declaration(call.resource)  # a missing subject, not that somebody is contained in vain
        raise
    if not nde.is_declaration(call.resource):
        return SERVED["create"](call, wired, kind)
    nde.check_declaration(call.resource)
    if nde.is_order(call.resource):
        _check_order(call, wired)
    place = f"{nde.DECLARED}.subject"
    patient, _ = wired.whose(call.request, nde.subjects_of(call.resource), expression=place)
    draft = nde.DeclarationDraft(content=call.resource, base_url=call.request.base_url, about=Subject(key=patient))
    written = wired.records.create(call.request, draft)
    reply = written_reply(call.request, written)
    reply.body = fhir_json.dumps(stamped(call.resource, written.id, written.version, written.at))
    return reply


def declared_of_late(call: Call, wired: WiredDeclarations) -> Reply:
    """A searchset of what the caller's subscriptions were told of, as far as it may be seen now."""
    parsed = parse_query(nde.DECLARED, call.query, base_url=call.request.base_url, strict=call.is_strict)
    found: list[StoredVersion] = []
    for reference in _told(call, wired):
        try:
            version = wired.records.read(call.request, *reference.split("/"))
        except (NotFound, Gone):
            continue  # deleted, or not to be seen any more
        entry = entry_of(fhir_json.loads(version.body or b""), base_url=call.request.base_url)
        if matches(entry, parsed.query):
            found.append(version)
    shown = found[: parsed.query.count]
    body = searchset(
        [Found(reference=each.reference, body=call.part.of(each.body or b"")) for each in shown],
        base_url=call.request.base_url,
        self_url=search_url(call, nde.DECLARED, parsed.used),
        next_url=None,
        total=len(found),
    )
    patients = [each.key.patient for each in shown if each.key.patient]
    return Reply(body=body, touched=Touched.of(patients, [each.reference for each in shown]))


def _told(call: Call, wired: WiredDeclarations) -> list[str]:
    """The declarations that the caller's subscriptions were told of, the newest first."""
    owner, told = call.request.caller, {}
    for subscription in wired.subscribed.owned_by(owner):
        interest = subscription.interest
        if interest.topic == DECLARED and is_by(owner, interest.owner):
            last = wired.told.last_number(subscription.id)
            for entry in wired.told.between(subscription.id, max(1, last - _OF_LATE + 1), last):
                if entry.event is not None:
                    told[entry.event.reference] = entry.at
    return sorted(told, key=lambda reference: told[reference], reverse=True)[:_OF_LATE]


def _check_order(call: Call, wired: WiredDeclarations) -> None:
    """An order is given by who subscribed, to the endpoint of the subscription and to no other."""
    place = f"{nde.DECLARED}.basedOn"
    reference = str(call.resource["basedOn"][0].get("reference", "")).removeprefix(f"{call.request.base_url}/")
    kind, _, id = reference.partition("/")
    found = wired.subscribed.find(id) if kind == "Subscription" else None
    if found is None or not is_by(call.request.caller, found.interest.owner):
        raise Unprocessable("the subscription is not known", code="not-found", expression=place)
    if nde.recipient_endpoint(call.resource) != found.endpoint:
        place = f"{nde.DECLARED}.recipient[0].extension"
        raise Unprocessable("the endpoint is not that of the subscription", code="invariant", expression=place)
