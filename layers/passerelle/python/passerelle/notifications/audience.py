"""Who is told of an event: filters, the table of the audience, and the rights that are checked each time. Pure.

The table (`data/audience.json`) says whom a topic is for, by what a subscriber is to the person: who takes care of
somebody is told without naming the person, others where their subscription names the person, or never. It opens
nothing: rights are asked besides, when an event is numbered and again before it is sent (contract SUB-10).

A subscriber is told of its own changes like of anybody's: a system that has several parts relies on it, and
one that does not can tell by `author`. What a subscriber may not see is never numbered for it (law 4).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from passerelle.access import Caller, Permission
from passerelle.authorization.model import Client
from passerelle.consents import decision
from passerelle.directory.model import CARE_ROLES, Role
from passerelle.errors import Unprocessable
from passerelle.events import Event, EventName
from passerelle.identifiers import PATIENT_KEY
from passerelle.notifications.model import LOG_KEPT, Filter, Interest, Turn
from passerelle.notifications.topics import topics
from passerelle.patients.model import Person

_DATA = Path(__file__).parent / "data" / "audience.json"
_CRITERIA: Final = "Subscription.criteria.extension[0].value"

OWN_ROLES: Final = frozenset({Role.PATIENT, Role.REPRESENTATIVE})
"""Who is told of one person only: the own record, or the record of whom they represent."""

TYPE: Final = "_type"
"""The name of the filter that stands before the question mark: types of resources."""

FEED_FILTERS: Final = frozenset({"_id", "identifier", "organization"})
"""Names of the search parameters that narrow a patient feed (ITI-94 section 2:3.94.4.1.2.1.1), one at a time."""

SUBSCRIBES: Final = Permission(resource="Subscription", interaction="c", transactions=("ITI-94",))
"""What it takes to have a subscription, at its creation and as long as it lives."""

# Transactions whose scope lets a client read a type, beside the SMART scope of the type.
_READ_BY: Final = {
    "AuditEvent": ("ITI-81",),
    "DocumentReference": ("ITI-67",),
    "List": ("ITI-66",),
    "Patient": ("ITI-78", "ITI-94"),
}


# --- the table ------------------------------------------------------------------------------------------------------


class Standing(StrEnum):
    """What a subscriber is to the person whom an event is about; it may be several."""

    PATIENT = "patient"
    REPRESENTATIVE = "representative"  # acts for the patient, carers among them
    CARE_CIRCLE = "care-circle"  # attends the patient, or is in care relation by whatever basis
    OWN_HOUSE = "own-house"  # what changed is a record of the own organisation
    AUTHOR = "author"  # made the change
    OTHER = "other"


class Telling(StrEnum):
    """When a subscription is told; each includes those after it."""

    DEFAULT = "default"  # whatever its filter
    SUBSCRIPTION = "subscription"  # if its filter names the patient
    NEVER = "never"


def standings_of(owner: Caller, event: Event, facts: decision.Standing) -> frozenset[Standing]:
    """All but OWN_HOUSE, which the changed resource says; `facts` are what access is decided from."""
    found = set()
    if owner.role in OWN_ROLES and facts.is_own:
        is_self = owner.role == Role.PATIENT and not facts.needs_mandate
        found.add(Standing.PATIENT if is_self else Standing.REPRESENTATIVE)
    if owner.role in CARE_ROLES and (facts.is_attending or facts.relation is not None):
        found.add(Standing.CARE_CIRCLE)
    if event.author == owner.client_id:
        found.add(Standing.AUTHOR)
    return frozenset(found or {Standing.OTHER})


def is_told(interest: Interest, event: Event, standings: Collection[Standing]) -> bool:
    """Whether the subscription is among those that an event about a person is for: the best of its standings counts."""
    row = audience().get(interest.topic) or audience()[event.name.value]
    told = {row[each] for each in standings}
    return Telling.DEFAULT in told or (Telling.SUBSCRIPTION in told and interest.filter.patient is not None)


@cache
def audience() -> Mapping[str, Mapping[Standing, Telling]]:
    """The table, by topic. One that has no row is for whom the topic is for that has the name of the event."""
    content: Mapping[str, Mapping[str, str]] = json.loads(_DATA.read_text("utf-8"))
    return {name: {Standing(each): Telling(row[each]) for each in row} for name, row in content.items()}


@cache
def _is_for_patients_only(name: EventName) -> bool:
    """Whether nobody but patients and who represents them is told of such an event, under whichever topic."""
    row = audience()[name.value]
    own = {Standing.PATIENT, Standing.REPRESENTATIVE}
    return all(telling is Telling.NEVER for standing, telling in row.items() if standing not in own)


# --- filters --------------------------------------------------------------------------------------------------------


def filter_of(topic: str, criteria: Sequence[tuple[str, str]]) -> Filter:
    """Read filter criteria of a topic; raises Unprocessable for one that it does not take, or that is given twice.

    Types, authors and happenings may be lists: one of each is enough.
    """
    offered = topics()[topic]
    names = [name for name, _ in criteria]
    if len(set(names)) != len(names) or not set(names) <= offered.filters:
        raise _not_taken()
    values = dict(criteria)
    patient, types = values.get("patient"), values.get(TYPE)
    if types is not None and offered.types and not offered.types.issuperset(types.split(",")):
        raise _not_taken()
    happenings = frozenset(values["happening"].split(",")) if "happening" in values else frozenset()
    if not offered.happenings >= happenings:
        raise _not_taken()
    if values.get("care-circle", "true") not in ("true", "false"):
        raise Unprocessable("care-circle is true or false", code="value", expression=_CRITERIA)
    return Filter(
        patient=_patient_key(patient.removeprefix("Patient/"), _CRITERIA) if patient is not None else None,
        type=types,
        author=values.get("author"),
        care_circle=values.get("care-circle") == "true",
        happenings=happenings,
    )


def _not_taken() -> Unprocessable:
    return Unprocessable("the topic does not take this filter", code="not-supported", expression=_CRITERIA)


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


def concerns(interest: Interest, event: Event, members: Sequence[str], at: datetime) -> bool:
    """Whether the subscription asked for this event as far as the event tells; `members` are the patient keys of its
    person. What takes reading the resource is left: `query`, the happenings, an author of the directory.

    Events from before the subscription, or so old that their number could be forgotten, are not new: they
    come from a replay of the bus.
    """
    wanted = interest.filter
    return (
        topics()[interest.topic].covers(event)
        and (wanted.patient is None or wanted.patient in members)
        and (wanted.reference is None or wanted.reference == event.reference)
        and (wanted.type is None or resource_type(event) in wanted.type.split(","))
        and interest.since <= event.at
        and (interest.until is None or event.at < interest.until)
        and at - event.at < LOG_KEPT
    )


def meets(interest: Interest, event: Event, turn: Callable[[], Turn]) -> bool:
    """Whether the change is one of those asked for; `turn` is read only where the event does not tell."""
    topic, wanted = topics()[interest.topic], interest.filter
    happenings = wanted.happenings or (topic.happenings if topic.is_selective else frozenset())
    if happenings and happenings.isdisjoint(turn().happenings):
        return False
    if wanted.author is None:
        return True
    authors = wanted.author.split(",")
    return event.author in authors or (any("/" in each for each in authors) and not turn().authors.isdisjoint(authors))


def is_of_house(owner: Caller, turn: Turn) -> bool:
    """Whether the changed resource is one of the records of the owner's own organisation."""
    return owner.organisation in turn.houses or (owner.domain is not None and owner.domain in turn.houses)


# --- rights ---------------------------------------------------------------------------------------------------------


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
        and (_is_itself(client, owner) or _may_log_in(client, owner))
        and may_subscribe(owner)
        and client.scopes.permits(SUBSCRIBES)
    )


def _is_itself(client: Client, owner: Caller) -> bool:
    """Whether the system acts by itself, for whom it acted then."""
    registered = (client.role, client.organisation, client.patient)
    is_same = registered == (owner.role, owner.organisation, owner.patient)
    return is_same and (client.names_professionals or client.professional == owner.professional)


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
    if _is_for_patients_only(event.name) and owner.role not in OWN_ROLES:
        return False
    return event.patient is None or person is not None


def resource_type(event: Event) -> str:
    return event.reference.partition("/")[0]
