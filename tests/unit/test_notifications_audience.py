"""Who is told of what: topics, the table of the audience, filters, rights."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from passerelle.access import Caller, Limits, Scopes
from passerelle.authorization.model import Client
from passerelle.consents import decision
from passerelle.consents.model import Basis, MandateKind, RecordStatus
from passerelle.consents.terms import Effect
from passerelle.directory.model import Role
from passerelle.errors import Unprocessable
from passerelle.events import Event, EventName
from passerelle.notifications.audience import (
    Standing,
    Telling,
    audience,
    concerns,
    feed_filter_of,
    filter_of,
    is_of_house,
    is_told,
    may_learn,
    meets,
    standings_of,
)
from passerelle.notifications.model import Filter, Interest, Turn
from passerelle.notifications.topics import FEED, TOPIC_ROOT, is_urgent, topic_named, topics, topics_of
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


def test_every_event_has_a_topic_of_its_own_and_is_in_that_of_all_but_accesses() -> None:
    """That a record was read is no change of it: who asks for all changes is not told."""
    for name in EventName:
        assert name in topics()[name.value].events
    assert set(EventName) - topics()["anything-changed"].events == {EventName.RECORD_ACCESSED}


@pytest.mark.parametrize(
    ("name", "reference", "expected"),
    [
        (EventName.RECORD_CHANGED, "Encounter/x", ["encounter-changed"]),
        (EventName.RECORD_CHANGED, "Appointment/x", ["appointment-changed"]),
        (EventName.RECORD_CHANGED, "Consent/x", ["consent-changed"]),
        (EventName.RECORD_CHANGED, "Observation/x", ["result-available"]),
        (EventName.RECORD_CHANGED, "DiagnosticReport/x", ["result-available"]),
        (EventName.RECORD_CHANGED, "Condition/x", []),
        (EventName.DOCUMENT_CHANGED, "DocumentReference/x", ["document-published"]),
        (EventName.IDENTITY_CHANGED, "Patient/x", ["patient-feed"]),
    ],
)
def test_the_topics_of_an_event(name: EventName, reference: str, expected: list[str]) -> None:
    found = topics_of(replace(EVENT, name=name, reference=reference))
    assert sorted(found) == sorted([name.value, "anything-changed", *expected])


def test_what_is_urgent_is_so_under_a_wider_topic_too() -> None:
    urgent = {EventName.ALERT_RAISED, EventName.EMERGENCY_ACCESS}
    for topic in ("anything-changed", None):
        assert {name for name in EventName if is_urgent(replace(EVENT, name=name), topic or name.value)} == urgent


@pytest.mark.parametrize(
    "canonical", ["", TOPIC_ROOT, TOPIC_ROOT + "unknown", "https://other.example/document-changed"]
)
def test_a_topic_that_is_not_offered_is_refused(canonical: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        topic_named(canonical)
    assert refused.value.issues[0].code == "not-supported"
    assert topic_named(TOPIC_ROOT + "document-changed") in topics()


@pytest.mark.parametrize(
    ("topic", "criteria", "code"),
    [
        ("document-changed", [("status", "current")], "not-supported"),
        ("document-changed", [("patient", KEY), ("patient", OTHER)], "not-supported"),
        ("document-changed", [("patient", "Patient/../x")], "value"),
        ("document-changed", [("patient", "")], "value"),
        ("document-changed", [("patient", f"{KEY},{OTHER}")], "value"),  # one record at a time
        ("document-changed", [("care-circle", "yes")], "value"),
        ("document-changed", [("_type", "Encounter")], "not-supported"),
        ("document-changed", [("_type", "DocumentReference,Encounter")], "not-supported"),
        ("document-changed", [("happening", "admission")], "not-supported"),
        ("encounter-changed", [("happening", "admission,arrival")], "not-supported"),
        ("record-changed", [("happening", "created")], "not-supported"),
        ("emergency-access", [("care-circle", "true")], "not-supported"),
        ("patient-feed", [("care-circle", "true")], "not-supported"),
    ],
)
def test_sub_2_a_filter_that_the_topic_does_not_take(topic: str, criteria: list[tuple[str, str]], code: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        filter_of(topic, criteria)
    assert refused.value.issues[0].code == code


def test_a_filter_is_read() -> None:
    criteria = [("_type", "DocumentReference"), ("patient", f"Patient/{KEY}"), ("author", "hospital-a")]
    expected = Filter(patient=KEY, type="DocumentReference", author="hospital-a")
    assert filter_of("document-changed", criteria) == expected
    criteria = [("care-circle", "true"), ("happening", "admission,discharge")]
    expected = Filter(care_circle=True, happenings=frozenset({"admission", "discharge"}))
    assert filter_of("encounter-changed", criteria) == expected
    assert filter_of("encounter-changed", [("care-circle", "false")]) == Filter()


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
        (Filter(type="List,DocumentReference"), True),
    ],
)
def test_filters_narrow(wanted: Filter, expected: bool) -> None:
    assert concerns(replace(INTEREST, filter=wanted), EVENT, (KEY, OTHER), NOON) is expected


TURN = Turn(
    happenings=frozenset({"published"}),
    authors=frozenset({"Organization/o"}),
    houses=frozenset({"1", "urn:oid:2.999.1"}),
)


@pytest.mark.parametrize(
    ("topic", "wanted", "expected"),
    [
        ("document-changed", Filter(author="hospital-a"), True),
        ("document-changed", Filter(author="practice"), False),
        ("document-changed", Filter(author="practice,hospital-a"), True),
        ("document-changed", Filter(author="Organization/o"), True),
        ("document-changed", Filter(author="Organization/other,Practitioner/p"), False),
        ("document-changed", Filter(happenings=frozenset({"published", "withdrawn"})), True),
        ("document-changed", Filter(happenings=frozenset({"withdrawn"})), False),
        ("document-changed", Filter(author="practice", happenings=frozenset({"published"})), False),
        ("document-published", Filter(), True),
        ("result-available", Filter(), False),  # a turn that is none of a selective topic's
    ],
)
def test_what_became_of_the_resource_narrows(topic: str, wanted: Filter, expected: bool) -> None:
    assert meets(replace(INTEREST, topic=topic, filter=wanted), EVENT, lambda: TURN) is expected


@pytest.mark.parametrize("wanted", [Filter(), Filter(author="hospital-a"), Filter(author="practice")])
def test_what_the_event_tells_takes_no_read(wanted: Filter) -> None:
    def read() -> Turn:
        raise AssertionError

    assert meets(replace(INTEREST, filter=wanted), EVENT, read) is (wanted.author != "practice")


def test_whose_house_it_is() -> None:
    assert is_of_house(OWNER, TURN)
    assert is_of_house(replace(OWNER, organisation="2", domain="urn:oid:2.999.1"), TURN)
    assert not is_of_house(replace(OWNER, organisation="2"), TURN)
    assert not is_of_house(OWNER, Turn())


# --- the table ------------------------------------------------------------------------------------------------------

FACTS = decision.Standing(role=Role.PRACTICE, status=RecordStatus.OPEN, implicit=decision.Implicit.BASIC_NORMAL)


@pytest.mark.parametrize(
    ("role", "facts", "author", "expected"),
    [
        (Role.PRACTICE, FACTS, "hospital-a", {Standing.OTHER}),
        (Role.PRACTICE, FACTS, "practice", {Standing.AUTHOR}),
        (Role.PRACTICE, replace(FACTS, is_attending=True), "hospital-a", {Standing.CARE_CIRCLE}),
        (Role.PRACTICE, replace(FACTS, relation=Basis.ADMISSION), "practice", {Standing.CARE_CIRCLE, Standing.AUTHOR}),
        (Role.PRACTICE, replace(FACTS, consent=Effect.PERMIT), "hospital-a", {Standing.OTHER}),
        (Role.PRACTICE, replace(FACTS, in_emergency=True), "hospital-a", {Standing.OTHER}),
        (Role.PATIENT, replace(FACTS, is_own=True), "hospital-a", {Standing.PATIENT}),
        (Role.PATIENT, FACTS, "hospital-a", {Standing.OTHER}),
        (Role.REPRESENTATIVE, replace(FACTS, is_own=True), "hospital-a", {Standing.REPRESENTATIVE}),
        (
            Role.PATIENT,
            replace(FACTS, is_own=True, needs_mandate=True, mandate=MandateKind.CARER),
            "hospital-a",
            {Standing.REPRESENTATIVE},
        ),
    ],
)
def test_what_a_subscriber_is_to_a_person(
    role: Role, facts: decision.Standing, author: str, expected: set[Standing]
) -> None:
    assert standings_of(replace(OWNER, role=role), replace(EVENT, author=author), facts) == expected


CELLS = [(topic, standing) for topic in topics() if topic != FEED for standing in Standing]


@pytest.mark.parametrize(("topic", "standing"), CELLS)
def test_each_cell_of_the_table(topic: str, standing: Standing) -> None:
    """A default is told whatever its filter, a subscription if it names the patient; the topic of all is for whom each
    event's own topic is for."""
    unfiltered = replace(INTEREST, topic=topic)
    naming = replace(unfiltered, filter=Filter(patient=KEY))
    for name in topics()[topic].events:
        event = replace(EVENT, name=name)
        telling = audience()[topic if topic in audience() else name.value][standing]
        assert is_told(unfiltered, event, {standing}) is (telling is Telling.DEFAULT)
        assert is_told(naming, event, {standing}) is (telling is not Telling.NEVER)


def test_the_table_is_whole() -> None:
    """Each topic but the feed has a row, or its events have; and each row a cell for each standing."""
    for topic in topics().values():
        assert topic.name == FEED or topic.name in audience() or all(each.value in audience() for each in topic.events)
    assert set(audience()) <= set(topics())
    assert {frozenset(row) for row in audience().values()} == {frozenset(Standing)}


def test_the_best_of_several_standings_counts() -> None:
    assert is_told(INTEREST, EVENT, {Standing.OTHER, Standing.OWN_HOUSE})
    assert not is_told(INTEREST, EVENT, {Standing.OTHER})


def test_nobody_is_told_of_another_patients_record_by_default() -> None:
    """Patients and who represents them are told by a subscription that names the record, never by default."""
    own = (Standing.PATIENT, Standing.REPRESENTATIVE)
    assert {row[each] for row in audience().values() for each in own} == {Telling.SUBSCRIPTION}


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


@pytest.mark.parametrize("name", [EventName.ACCESS_CHANGED, EventName.EMERGENCY_ACCESS, EventName.RECORD_ACCESSED])
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
