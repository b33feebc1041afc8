"""Who is told of an event: topics, filters, and the rights that are checked again each time. Pure.

A subscriber is told of its own changes like of anybody's: a system that has several parts relies on it, and
one that does not can tell by `author`. What a subscriber may not see is never numbered for it (law 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from passerelle.access import Caller, Permission
from passerelle.authorization.model import Client
from passerelle.directory.model import CARE_ROLES, Role
from passerelle.errors import Unprocessable
from passerelle.events import Event, EventName
from passerelle.identifiers import PATIENT_KEY
from passerelle.notifications.model import LOG_KEPT, Filter, Interest
from passerelle.patients.model import Person

TOPIC_ROOT: Final = "https://passerelle.example/SubscriptionTopic/"
"""A topic's canonical URL is this and its name: the same wherever the exchange is deployed."""


FEED: Final = "patient-feed"
"""The topic of subscriptions to the patient feed (ITI-94), which ask for it in other words."""

TOPICS: Final = {
    "identity-changed": frozenset({EventName.IDENTITY_CHANGED}),
    "links-changed": frozenset({EventName.LINKS_CHANGED}),
    "record-status-changed": frozenset({EventName.RECORD_STATUS_CHANGED}),
    "access-changed": frozenset({EventName.ACCESS_CHANGED}),
    "emergency-access": frozenset({EventName.EMERGENCY_ACCESS}),
    "record-erased": frozenset({EventName.ERASED}),
    FEED: frozenset({EventName.IDENTITY_CHANGED, EventName.LINKS_CHANGED}),
    "document-changed": frozenset({EventName.DOCUMENT_CHANGED}),
    "document-quarantined": frozenset({EventName.DOCUMENT_QUARANTINED}),
    "record-changed": frozenset({EventName.RECORD_CHANGED}),
    "reminder-due": frozenset({EventName.REMINDER_DUE}),
    "prescription-changed": frozenset({EventName.PRESCRIPTION_CHANGED}),
    "anything-changed": frozenset(EventName),
}
"""The events that each topic covers. Every topic takes every filter."""

OWN_ROLES: Final = frozenset({Role.PATIENT, Role.REPRESENTATIVE})
"""Who is told of one person only: the own record, or the record of whom they represent."""

_OWN_ONLY: Final = frozenset({EventName.ACCESS_CHANGED, EventName.EMERGENCY_ACCESS})

FILTERS: Final = frozenset({"_type", "patient", "author"})
"""Names of filter criteria; `_type` stands for the resource type before the question mark."""

FEED_FILTERS: Final = frozenset({"_id", "identifier", "organization"})
"""Names of the search parameters that narrow a patient feed (ITI-94 section 2:3.94.4.1.2.1.1), one at a time."""

SUBSCRIBES: Final = Permission(resource="Subscription", interaction="c", transactions=("ITI-94",))
"""What it takes to have a subscription, at its creation and as long as it lives."""

# Transactions whose scope lets a client read a type, beside the SMART scope of the type.
_READ_BY: Final = {
    "DocumentReference": ("ITI-67",),
    "List": ("ITI-66",),
    "Patient": ("ITI-78", "ITI-94"),
}


def topic_named(canonical: str) -> str:
    """The name of the topic with this canonical URL; raises Unprocessable (`not-supported`)."""
    name = canonical.removeprefix(TOPIC_ROOT)
    if not canonical.startswith(TOPIC_ROOT) or name not in TOPICS:
        raise Unprocessable("the topic is not offered", code="not-supported", expression="Subscription.criteria")
    return name


def filter_of(criteria: Sequence[tuple[str, str]]) -> Filter:
    """Read filter criteria; raises Unprocessable for a name that is unknown or given twice."""
    place = "Subscription.criteria.extension[0].value"
    names = [name for name, _ in criteria]
    if len(set(names)) != len(names) or not set(names) <= FILTERS:
        raise Unprocessable("the topic does not take this filter", code="not-supported", expression=place)
    values = dict(criteria)
    patient = values.get("patient")
    if patient is not None:
        patient = _patient_key(patient.removeprefix("Patient/"), place)
    return Filter(patient=patient, type=values.get("_type"), author=values.get("author"))


def feed_filter_of(criteria: Sequence[tuple[str, str]]) -> Filter:
    """Read the search that narrows a patient feed; raises Unprocessable for any that is not offered.

    An id asks for one source record, where the `patient` of a topic asks for a person: it is what a search for it
    would find.
    """
    if not criteria:
        return Filter()
    (name, value), *more = criteria
    if more or name not in FEED_FILTERS:
        raise Unprocessable(
            "a feed is narrowed by one of _id, identifier, organization",
            code="not-supported",
            expression="Subscription.criteria",
        )
    if name == "_id":
        patient = _patient_key(value, "Subscription.criteria")
        return Filter(patient=patient, reference=f"Patient/{patient}")
    return Filter(query=urlencode([(name, value)]))


def _patient_key(text: str, place: str) -> str:
    if not PATIENT_KEY.fullmatch(text):
        raise Unprocessable("not the id of a Patient", code="value", expression=place)
    return text


def topics_of(event: Event) -> list[str]:
    return [name for name, topic in TOPICS.items() if event.name in topic]


def concerns(interest: Interest, event: Event, members: Sequence[str], at: datetime) -> bool:
    """Whether the subscription asked for this event, its `query` apart; `members` are the patient keys of its person.

    Events from before the subscription, or so old that their number could be forgotten, are not new: they
    come from a replay of the bus.
    """
    wanted = interest.filter
    return (
        event.name in TOPICS[interest.topic]
        and (wanted.patient is None or wanted.patient in members)
        and (wanted.reference is None or wanted.reference == event.reference)
        and (wanted.type is None or wanted.type == resource_type(event))
        and (wanted.author is None or wanted.author == event.author)
        and interest.since <= event.at
        and (interest.until is None or event.at < interest.until)
        and at - event.at < LOG_KEPT
    )


def may_subscribe(caller: Caller) -> bool:
    """Care professionals' systems, and patients with who represents them, these of one record: their own.

    A token that is narrowed to some of a record outlives no request: there is no subscription with it.
    """
    return caller.role in CARE_ROLES | OWN_ROLES and caller.limits is None


def is_entitled(owner: Caller, client: Client | None) -> bool:
    """Whether the owner is still the client that it was when it subscribed, or logged in there."""
    return (
        client is not None
        and client.active
        and (client.role == owner.role or _may_log_in(client, owner))
        and may_subscribe(owner)
        and client.scopes.permits(SUBSCRIBES)
    )


def _may_log_in(client: Client, owner: Caller) -> bool:
    """Whether the role is one that people have who log in at the client, by their activity or for somebody else."""
    return bool(client.providers) and any({client.role, owner.role} <= roles for roles in (CARE_ROLES, OWN_ROLES))


def may_learn(owner: Caller, client: Client | None, event: Event, person: Person | None) -> bool:
    """Whether the owner could read the changed resource as far as registration and scopes go; `Gate` knows the rest."""
    kind = resource_type(event)
    reading = Permission(resource=kind, interaction="r", transactions=_READ_BY.get(kind, ()))
    if client is None or not is_entitled(owner, client):
        return False
    if not (client.scopes.permits(reading) and owner.scopes.permits(reading)):
        return False
    if event.name in _OWN_ONLY and owner.role not in OWN_ROLES:
        return False
    return event.patient is None or person is not None


def resource_type(event: Event) -> str:
    return event.reference.partition("/")[0]
