"""Who is told of what: topics, filters, rights."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from passerelle.access import Caller, Limits, Scopes
from passerelle.authorization.model import Client
from passerelle.directory.model import Role
from passerelle.errors import Unprocessable
from passerelle.events import Event, EventName
from passerelle.notifications.audience import (
    TOPIC_ROOT,
    TOPICS,
    concerns,
    feed_filter_of,
    filter_of,
    may_learn,
    topic_named,
    topics_of,
)
from passerelle.notifications.model import Filter, Interest
from passerelle.patients.model import Person
from tests.people import person_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY, OTHER = "7q2k9c4m1xw8z0ab", "0123456789abcdef"
EVENT = Event(
    name=EventName.DOCUMENT_CHANGED,
    reference=f"DocumentReference/{KEY}-01hr0000000000000000000000",
    version=1,
    at=NOON,
    author="hospital-a",
    patient=KEY,
)
SCOPES = Scopes.parse("system/Subscription.crd system/DocumentReference.rs")
OWNER = Caller(client_id="practice", organisation="1", role=Role.PRACTICE, scopes=SCOPES, token_id="t")
CLIENT = Client(id="practice", organisation="1", role=Role.PRACTICE, scopes=SCOPES, jwks=())
INTEREST = Interest(
    subscription="s", owner=OWNER, topic="document-changed", filter=Filter(), since=NOON - timedelta(hours=1)
)


def person() -> Person:
    return person_of(KEY, OTHER, key="p", since=NOON)


def test_every_event_has_a_topic_of_its_own_and_the_one_of_all() -> None:
    for name in EventName:
        is_of_feed = name in (EventName.IDENTITY_CHANGED, EventName.LINKS_CHANGED)
        feed = ["patient-feed"] if is_of_feed else []
        assert topics_of(replace(EVENT, name=name)) == [name.value, *feed, "anything-changed"]


@pytest.mark.parametrize(
    "canonical", ["", TOPIC_ROOT, TOPIC_ROOT + "unknown", "https://other.example/document-changed"]
)
def test_a_topic_that_is_not_offered_is_refused(canonical: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        topic_named(canonical)
    assert refused.value.issues[0].code == "not-supported"
    assert topic_named(TOPIC_ROOT + "document-changed") in TOPICS


@pytest.mark.parametrize(
    ("criteria", "code"),
    [
        ([("status", "current")], "not-supported"),
        ([("patient", KEY), ("patient", OTHER)], "not-supported"),
        ([("patient", "Patient/../x")], "value"),
        ([("patient", "")], "value"),
    ],
)
def test_a_filter_that_is_not_offered_is_refused(criteria: list[tuple[str, str]], code: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        filter_of(criteria)
    assert refused.value.issues[0].code == code


def test_a_filter_is_read() -> None:
    criteria = [("_type", "DocumentReference"), ("patient", f"Patient/{KEY}"), ("author", "hospital-a")]
    assert filter_of(criteria) == Filter(patient=KEY, type="DocumentReference", author="hospital-a")


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ([], Filter()),
        ([("_id", KEY)], Filter(patient=KEY, reference=f"Patient/{KEY}")),
        ([("organization", "1")], Filter(query="organization=1")),
        ([("identifier", "urn:oid:2.999|1 é")], Filter(query="identifier=urn%3Aoid%3A2.999%7C1+%C3%A9")),
    ],
)
def test_93_5_the_criteria_of_a_feed(criteria: list[tuple[str, str]], expected: Filter) -> None:
    assert feed_filter_of(criteria) == expected


@pytest.mark.parametrize(
    ("criteria", "code"),
    [
        ([("family", "x")], "not-supported"),
        ([("identifier:not", "x")], "not-supported"),
        ([("_id", KEY), ("_id", KEY)], "not-supported"),
        ([("_id", "255069900000101")], "value"),  # nothing of a caller's becomes a key
    ],
)
def test_93_5_other_criteria(criteria: list[tuple[str, str]], code: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        feed_filter_of(criteria)
    assert refused.value.issues[0].code == code


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(), True),
        (Filter(patient=KEY, reference=EVENT.reference), True),
        (Filter(patient=KEY, reference=f"Patient/{KEY}"), False),
        (Filter(patient=KEY), True),
        (Filter(patient=OTHER), True),  # another source record of the same person
        (Filter(patient="zzzzzzzzzzzzzzzz"), False),
        (Filter(type="DocumentReference"), True),
        (Filter(type="List"), False),
        (Filter(author="hospital-a"), True),
        (Filter(author="practice"), False),
        (Filter(patient=KEY, author="practice"), False),
    ],
)
def test_filters_narrow(wanted: Filter, expected: bool) -> None:
    assert concerns(replace(INTEREST, filter=wanted), EVENT, (KEY, OTHER), NOON) is expected


@pytest.mark.parametrize(
    ("interest", "at"),
    [
        (replace(INTEREST, topic="record-changed"), NOON),
        (replace(INTEREST, since=NOON + timedelta(seconds=1)), NOON),  # a replay of what was before
        (replace(INTEREST, until=NOON), NOON),
        (INTEREST, NOON + timedelta(days=31)),  # a replay of what the log may have forgotten
    ],
)
def test_other_topics_and_other_times_do_not_concern(interest: Interest, at: datetime) -> None:
    assert concerns(INTEREST, EVENT, (KEY,), NOON)
    assert not concerns(interest, EVENT, (KEY,), at)


def test_a_subscriber_is_told_what_it_could_read() -> None:
    assert may_learn(OWNER, CLIENT, EVENT, person())
    assert may_learn(OWNER, CLIENT, replace(EVENT, patient=None), None)


WITHOUT_READ = Scopes.parse("system/Subscription.crd system/Observation.rs")


@pytest.mark.parametrize(
    ("owner", "client", "whose"),
    [
        (OWNER, None, person()),
        (OWNER, replace(CLIENT, active=False), person()),
        (OWNER, replace(CLIENT, role=Role.LABORATORY), person()),
        (OWNER, replace(CLIENT, scopes=WITHOUT_READ), person()),
        (OWNER, replace(CLIENT, scopes=Scopes.parse("system/DocumentReference.rs")), person()),
        (replace(OWNER, scopes=WITHOUT_READ), CLIENT, person()),
        (OWNER, CLIENT, None),
        (replace(OWNER, limits=Limits(patient="urn:x|1")), CLIENT, person()),
        (replace(OWNER, role=Role.AUDITOR), replace(CLIENT, role=Role.AUDITOR), person()),
    ],
)
def test_rights_that_are_not_there_or_no_longer(owner: Caller, client: Client | None, whose: Person | None) -> None:
    assert not may_learn(owner, client, EVENT, whose)


@pytest.mark.parametrize("name", [EventName.ACCESS_CHANGED, EventName.EMERGENCY_ACCESS])
def test_who_is_let_in_is_told_to_patient_and_representative_only(name: EventName) -> None:
    event = replace(EVENT, name=name, reference=f"Patient/{KEY}")
    everything = Scopes.parse("system/*.cruds")
    told = {
        role
        for role in Role
        if may_learn(
            replace(OWNER, role=role, scopes=everything), replace(CLIENT, role=role, scopes=everything), event, person()
        )
    }
    assert told == {Role.PATIENT, Role.REPRESENTATIVE}


def test_the_scope_of_the_feed_subscribes_and_reads_patients() -> None:
    scopes = Scopes.parse("ITI-94")
    changed = replace(EVENT, name=EventName.IDENTITY_CHANGED, reference=f"Patient/{KEY}")
    assert may_learn(replace(OWNER, scopes=scopes), replace(CLIENT, scopes=scopes), changed, person())
    assert not may_learn(replace(OWNER, scopes=scopes), replace(CLIENT, scopes=scopes), EVENT, person())


def test_the_scope_of_a_transaction_reads_too() -> None:
    scopes = Scopes.parse("system/Subscription.c ITI-67")
    assert may_learn(replace(OWNER, scopes=scopes), replace(CLIENT, scopes=scopes), EVENT, person())
