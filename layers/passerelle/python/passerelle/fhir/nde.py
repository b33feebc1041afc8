"""Notification of events, as the ANS has it: who asks to be told of what, what happened, and the order to tell it.

Notification d'evenements 3.0.0 (contract NDE-1 to NDE-9). Flow 1 is a Subscription, flow 3 the declaration of an event,
flow 4 the order to notify a subscriber, both as CommunicationRequest. Persons are contained: subject and requester by
their identifiers, never by ids of the exchange. Types of events are data (`data/event_types_fr.json`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import count
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl

from passerelle.errors import Unprocessable
from passerelle.fhir.bundles import resolve_references
from passerelle.fhir.dates import date_range
from passerelle.fhir.resource import ResourceDraft, identifiers_of
from passerelle.patients.model import Identifier
from passerelle.records.model import Subject

EXTENSIONS: Final = "https://interop.esante.gouv.fr/ig/fhir/nde/StructureDefinition/"
DECLARED: Final = "CommunicationRequest"
_DATA: Final = Path(__file__).parent / "data" / "event_types_fr.json"
_PARTIES: Final = frozenset({"Organization", "Practitioner"})
_SUBSCRIBERS: Final = _PARTIES | {"Patient", "RelatedPerson"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventInterest:
    """What a Subscription of flow 1 asks for: events of a type that happen to a person from `start` on.

    `subjects` are the person's identifiers, `declarants` those of who declares the events; `start` is a FHIR dateTime.
    """

    type: str
    subjects: tuple[Identifier, ...]
    declarants: tuple[Identifier, ...]
    start: str


def asks_for_events(criteria: str) -> bool:
    """Whether `criteria` selects this family of subscriptions (contract P8)."""
    return criteria.partition("?")[0] == DECLARED


def is_declaration(resource: Mapping[str, Any]) -> bool:
    """Whether a CommunicationRequest is of this guide: it says what type of event it is about."""
    return bool(_extensions(resource, "event-type"))


def is_order(resource: Mapping[str, Any]) -> bool:
    """Whether a declaration is flow 4: based on a subscription."""
    return bool(resource.get("basedOn"))


# --- flow 1 ---------------------------------------------------------------------------------------------------------


def parse_interest(resource: Mapping[str, Any]) -> EventInterest:
    """What a Subscription of this family asks for, valid FHIR otherwise; raises Unprocessable (contract NDE-2)."""
    if not resource.get("contained"):
        _refuse("the resources that are referred to have to be contained", "Subscription.contained")
    for name in ("start", "subject", "declarant", "event-type", "subscriber"):
        _single(resource, name, "Subscription")
    if len(_extensions(resource, "subscription-date")) > 1:
        _refuse("the date of the subscription is given twice", "Subscription.extension")
    subject = _contained(resource, _single(resource, "subject", "Subscription"), {"Patient"}, "subject")
    declarant = _contained(resource, _single(resource, "declarant", "Subscription"), _PARTIES, "declarant")
    _contained(resource, _single(resource, "subscriber", "Subscription"), _SUBSCRIBERS, "subscriber")
    subjects = _identifiers(subject, "Subscription.contained")
    type_ = event_type(resource, "Subscription")
    start = _moment(resource, "start", "Subscription")
    _check_criteria(resource["criteria"], type_, subjects)
    return EventInterest(type=type_, subjects=subjects, declarants=identifiers_of(declarant), start=start)


def _check_criteria(criteria: str, type_: str, subjects: Sequence[Identifier]) -> None:
    """The search says what the extensions say: it may name the person too, and nothing else."""
    place = "Subscription.criteria"
    pairs = parse_qsl(criteria.partition("?")[2], keep_blank_values=True)
    values = dict(pairs)
    if len(values) != len(pairs) or not {"event-type"} <= set(values) <= {"event-type", *_BY_PERSON}:
        _refuse("the search is by event-type, and may name the person", place)
    system, _, code = values["event-type"].rpartition("|")
    named = [value.rpartition("|")[::2] for name, value in pairs if name in _BY_PERSON]
    if code != type_ or system not in ("", _types()["system"], _SHORT_SYSTEM) or not set(named) <= set(subjects):
        _refuse("the search and the extensions do not say the same", place)


_BY_PERSON: Final = frozenset({"patient.identifier", "subject.identifier"})
_SHORT_SYSTEM: Final = "TRE_R254-TypeEvenement"


# --- flows 3 and 4 --------------------------------------------------------------------------------------------------


def check_declaration(resource: Mapping[str, Any]) -> None:
    """Raises Unprocessable for what flow 3, or flow 4, does not take (contract NDE-6, NDE-7)."""
    event_type(resource, DECLARED)
    if resource.get("about") and resource.get("subject"):
        _refuse("an event is about its subject", f"{DECLARED}.about")
    for name in ("subject", "requester", "payload", *(("medium", "recipient") if is_order(resource) else ())):
        given = resource.get(name)
        if not given:
            _refuse(f"the element {name} is required", f"{DECLARED}.{name}", code="required")
        if isinstance(given, list) and len(given) > 1:
            _refuse(f"there is one {name}", f"{DECLARED}.{name}")
    _contained(resource, resource["subject"], {"Patient"}, "subject")
    _contained(resource, resource["requester"], _PARTIES, "requester")
    if not is_order(resource):
        _moment(resource, "event-time", DECLARED)
        return
    if len(resource["basedOn"]) > 1:
        _refuse("an order is based on one subscription", f"{DECLARED}.basedOn")
    if recipient_endpoint(resource) is None:
        _refuse("the endpoint of the recipient is required", f"{DECLARED}.recipient[0].extension", code="required")
    _contained(resource, resource["recipient"][0], _SUBSCRIBERS, "recipient")


def subjects_of(resource: Mapping[str, Any]) -> tuple[Identifier, ...]:
    """The identifiers of whom a declaration is about; raises Unprocessable without any."""
    subject = _contained(resource, resource["subject"], {"Patient"}, "subject")
    return _identifiers(subject, f"{DECLARED}.contained")


def requesters_of(resource: Mapping[str, Any]) -> tuple[Identifier, ...]:
    return identifiers_of(_contained(resource, resource["requester"], _PARTIES, "requester"))


def event_type(resource: Mapping[str, Any], path: str) -> str:
    """The code of what happened; raises Unprocessable (`code-invalid`) for one that nobody is notified of."""
    concept = _single(resource, "event-type", path)
    codes = [
        coding.get("code", "") for coding in concept.get("coding", []) if coding.get("system") == _types()["system"]
    ]
    if len(codes) != 1 or codes[0] not in _types()["codes"]:
        _refuse("the type of event is not in JDV_J46", f"{path}.extension", code="code-invalid")
    return str(codes[0])


def event_time(resource: Mapping[str, Any]) -> str | None:
    """When it happened, as a FHIR dateTime."""
    found = _extensions(resource, "event-time")
    return str(found[0]["valueDateTime"]) if found else None


def recipient_endpoint(resource: Mapping[str, Any]) -> str | None:
    recipients = resource.get("recipient", [])
    found = _extensions(recipients[0], "recipient-endpoint") if recipients else []
    return found[0].get("valueUrl") if len(found) == 1 else None


@dataclass(frozen=True)
class DeclarationDraft(ResourceDraft):
    """A declaration in the record of whom it is about, who is contained in it: it is kept as it was received."""

    about: Subject | None = None

    @cached_property
    def subject(self) -> Subject | None:
        return self.about

    def resolved(self, references: Mapping[str, str], *, subject: str | None = None) -> DeclarationDraft:
        return replace(self, content=resolve_references(self.content, references)) if references else self


# --- the order that the exchange gives ------------------------------------------------------------------------------


def order(
    declaration: Mapping[str, Any], subscription: Mapping[str, Any], *, id: str, based_on: str, emitted: str
) -> dict[str, Any]:
    """Flow 4: to tell the subscriber of what a declaration says, by the channel of the subscription.

    `id` is that of the order, `based_on` the URL of the subscription, `emitted` an instant.
    """
    channel = subscription["channel"]
    subscriber = _contained(
        subscription, _single(subscription, "subscriber", "Subscription"), _SUBSCRIBERS, "subscriber"
    )
    others = declaration.get("contained", [])
    taken = {each.get("id") for each in others}
    recipient = next(id for number in count() if (id := f"subscriber-{number}") not in taken)
    kept = ("language", "priority", "status", "subject", "requester", "payload", "occurrenceDateTime", "authoredOn")
    return {
        "resourceType": DECLARED,
        "id": id,
        "meta": {"profile": [EXTENSIONS + "nde-notificationrequest"]},
        "contained": [*others, {**subscriber, "id": recipient}],
        "extension": [
            *(each for each in declaration["extension"] if each["url"] != EXTENSIONS + "event-emission-time"),
            {"url": EXTENSIONS + "event-emission-time", "valueDateTime": emitted},
        ],
        "basedOn": [{"reference": based_on}],
        "medium": [_types()["media"][channel["type"]]],
        "recipient": [
            {
                "extension": [{"url": EXTENSIONS + "recipient-endpoint", "valueUrl": channel["endpoint"]}],
                "reference": f"#{recipient}",
            }
        ],
        **{name: declaration[name] for name in kept if name in declaration},
    }


# --- reading --------------------------------------------------------------------------------------------------------


def _extensions(element: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [each for each in element.get("extension", []) if each.get("url") == EXTENSIONS + name]


def _single(resource: Mapping[str, Any], name: str, path: str) -> Any:
    """The value of an extension that is there once."""
    found = _extensions(resource, name)
    if not found:
        _refuse(f"the extension {name} is required", f"{path}.extension", code="required")
    if len(found) > 1:
        _refuse(f"the extension {name} is given twice", f"{path}.extension")
    kinds = {"start": "valueDateTime", "event-time": "valueDateTime", "event-type": "valueCodeableConcept"}
    kind = kinds.get(name, "valueReference")
    if kind not in found[0]:
        _refuse(f"the extension {name} has a value of another type", f"{path}.extension")
    return found[0][kind]


def _moment(resource: Mapping[str, Any], name: str, path: str) -> str:
    text = str(_single(resource, name, path))
    try:
        date_range(text)
    except ValueError:
        _refuse(f"the extension {name} is no dateTime", f"{path}.extension", code="value")
    return text


def _contained(
    resource: Mapping[str, Any], reference: Mapping[str, Any], types: set[str] | frozenset[str], name: str
) -> Mapping[str, Any]:
    """The contained resource that a reference means; some write its id without the sign of the fragment."""
    path = f"{resource['resourceType']}.{name}"
    id = str(reference.get("reference", "")).removeprefix("#")
    found = [each for each in resource.get("contained", []) if id and each.get("id") == id]
    if len(found) != 1 or found[0].get("resourceType") not in types:
        _refuse(f"the {name} has to be contained", path)
    contained: Mapping[str, Any] = found[0]
    return contained


def _identifiers(person: Mapping[str, Any], path: str) -> tuple[Identifier, ...]:
    found = tuple((system, value) for system, value in identifiers_of(person) if system)
    if not found:
        _refuse("the person is known by an identifier", path, code="required")
    return found


def _refuse(diagnostics: str, expression: str, *, code: str = "invariant") -> NoReturn:
    raise Unprocessable(diagnostics, code=code, expression=expression)


@cache
def _types() -> Mapping[str, Any]:
    table: Mapping[str, Any] = json.loads(_DATA.read_bytes())
    return table
