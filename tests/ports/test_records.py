"""The store of the record: what readers see of versions, entries and marks, whatever commits come in between."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import boto3
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from passerelle import wiring
from passerelle.access import Touched
from passerelle.audit.commands import account_of
from passerelle.audit.model import audit_of
from passerelle.aws import staging
from passerelle.aws.dynamodb import DynamoDb
from passerelle.aws.journal import DynamoJournal, actions_of, staged_of
from passerelle.aws.keys import opened, place_of
from passerelle.aws.records import MAX_INLINE_BYTES, DynamoRecordStore
from passerelle.aws.staging import Staging
from passerelle.errors import Busy, Conflict, Fault, Stale
from passerelle.fhir.resource import ResourceDraft
from passerelle.identifiers import new_patient_key, new_resource_id
from passerelle.journal import AlreadyAnsweredError
from passerelle.records.model import Guard, IdentifierClaim, Overtaken, RecordVersion, ResourceKey, StoredVersion
from passerelle.records.ports import Scan
from tests import record
from tests.record import AT, Crash, CrashingClient, commit, deletion, draft, observation, version

CHUNK = 5  # so that a commit takes several transactions, as a large one does


@pytest.fixture(scope="module")
def _services() -> Iterator[None]:
    with record.services():
        yield


@pytest.fixture
def store(_services: None) -> DynamoRecordStore:
    return wiring.record_store()


@pytest.fixture
def patient() -> str:
    return new_patient_key()


def new_key(patient: str | None, type: str = "Observation") -> ResourceKey:
    return ResourceKey(type=type, id=new_resource_id(patient, AT), patient=patient)


def latest(store: DynamoRecordStore, key: ResourceKey) -> StoredVersion:
    found = store.find_latest(key)
    assert found is not None
    return found


def following(
    store: DynamoRecordStore, key: ResourceKey, content: ResourceDraft | None, seconds: float = 0
) -> RecordVersion:
    """The next version of what is there; without content, its deletion."""
    now = latest(store, key)
    number, previous = now.version + 1, now.placement
    if content is None:
        return deletion(key, number, seconds=seconds, previous=previous)
    return version(content, key, number, seconds=seconds, previous=previous)


def stage(*changes: RecordVersion, client: Any = None, now: float | None = None) -> None:
    """Commit in small chunks, whatever the size."""
    tables = wiring.table_names()
    made = Staging(
        DynamoDb(client) if client else wiring.dynamodb(),
        tables,
        chunk_actions=CHUNK,
        **({} if now is None else {"now": lambda: now}),
    )
    made.commit([each for change in changes if (each := staged_of(change, tables))], [])


def settled() -> None:
    """What any writer does about the transactions that it meets, once their lease is over."""
    late = Staging(wiring.dynamodb(), wiring.table_names(), now=lambda: 4e9)
    for transaction in {item["x"] for item in record.items() if "x" in item}:
        late.recover(transaction)


# --- versions -----------------------------------------------------------------------------------------------------


def test_versions_come_back_as_they_were(store: DynamoRecordStore, patient: str) -> None:
    key = new_key(patient)
    commit(first := version(observation(patient), key, 1))
    commit(second := following(store, key, observation(patient, status="amended"), 0.5))
    commit(following(store, key, None, 1))
    found = store.history(key, before=None, limit=5)
    assert [(each.version, each.at, each.body) for each in found] == [
        (3, AT + timedelta(seconds=1), None),
        (2, second.at, second.body),
        (1, first.at, first.body),
    ]
    assert [each.version for each in store.history(key, before=3, limit=1)] == [2]
    assert store.history(key, before=1, limit=5) == []
    assert store.find_version(key, 2) == found[1]
    assert [store.find_version(key, number) for number in (0, 4, -1, 10**6)] == [None] * 4
    assert store.versions([(key, 1), (key, 9), (new_key(patient), 1)]) == {(key, 1): found[2]}
    assert store.find_latest(new_key(patient)) is None


def test_a_version_is_written_once(store: DynamoRecordStore, patient: str) -> None:
    key = new_key(patient)
    commit(version(observation(patient), key))
    before = record.items()
    for change in (version(observation(patient, code="b"), key), deletion(key, 1)):
        with pytest.raises(Stale):
            commit(change)
    assert record.items() == before


def test_the_versions_of_one_resource_are_not_those_of_another(store: DynamoRecordStore, patient: str) -> None:
    """Ids that clients choose may begin alike."""
    keys = [ResourceKey(type="Observation", id=id, patient=patient) for id in ("a", "a-1", "a1", "A")]
    for number, key in enumerate(keys):
        commit(version(observation(patient, code=str(number)), key))
    for key in keys:
        assert [each.key for each in store.history(key, before=None, limit=9)] == [key]
    shown = store.entries(patient, "Observation", Scan()).entries
    assert {each.key for each in shown} == set(keys)


@pytest.mark.parametrize("state", ["pending", "aborted", "committed"])
def test_a_reader_meets_an_unsettled_transaction(store: DynamoRecordStore, patient: str, state: str) -> None:
    """All of it is there, or nothing, in every way of reading."""
    keys = [new_key(patient) for _ in range(4)]
    chosen = ResourceKey(type="Observation", id=f"chosen-{patient}", patient=patient)
    for key in keys:
        commit(version(observation(patient), key))
    for key in keys[:2]:  # the versions before are not always the first
        commit(following(store, key, observation(patient), 1))
    before = {key: latest(store, key) for key in keys}
    changes = [following(store, key, observation(patient, "b", "2026-02-09"), seconds=2) for key in keys[:3]]
    changes.append(following(store, keys[3], None, seconds=2))
    changes.append(version(observation(patient, "b"), chosen, seconds=2))
    writes = {"pending": 3, "aborted": 3, "committed": 8}[state]  # X, six chunks, the flip
    with pytest.raises(Crash):
        stage(*changes, client=CrashingClient(wiring.aws("dynamodb"), writes, is_done=True))
    (transaction,) = {item["x"] for item in record.items() if "x" in item and patient in item["PK"]}
    if state == "aborted":
        wiring.aws("dynamodb").update_item(
            TableName="clinical",
            Key={"PK": {"S": f"X#{transaction}"}, "SK": {"S": "X"}},
            UpdateExpression="SET #s = :s",
            ExpressionAttributeNames={"#s": "state"},
            ExpressionAttributeValues={":s": {"S": "aborted"}},
        )
    is_done = state == "committed"
    for key in keys:
        now = before[key].version + is_done
        assert latest(store, key).version == now
        assert [each.version for each in store.history(key, before=None, limit=1)] == [now]
        assert [each.version for each in store.history(key, before=None, limit=9)] == list(range(now, 0, -1))
        assert (store.find_version(key, before[key].version + 1) is not None) is is_done
    assert (store.find_key("Observation", chosen.id) == chosen) is is_done
    assert (store.find_latest(chosen) is not None) is is_done
    shown = store.entries(patient, "Observation", Scan()).entries
    expected = {key: before[key].version for key in keys}
    if is_done:
        expected = {**{key: before[key].version + 1 for key in keys[:3]}, chosen: 1}
    assert {each.key: each.version for each in shown} == expected
    assert [each.version for each in shown] == [expected[each.key] for each in shown]
    coded = store.entries(patient, "Observation", Scan(token="code=b")).entries
    assert {each.key for each in coded} == ({*keys[:3], chosen} if is_done else set())
    assert {each.key: each.version for each in store.everything(patient, after=None, limit=50).entries} == expected
    marks = store.marks(patient, None, since="", until="~", ascending=True, limit=50).marks
    assert len(marks) == 6 + 5 * is_done
    seen = (shown, coded, marks)
    settled()
    assert not [item for item in record.items() if "x" in item or "n" in item]
    assert seen == (
        store.entries(patient, "Observation", Scan()).entries,
        store.entries(patient, "Observation", Scan(token="code=b")).entries,
        store.marks(patient, None, since="", until="~", ascending=True, limit=50).marks,
    )


def test_a_committed_transaction_outlives_its_time_to_live(store: DynamoRecordStore, patient: str) -> None:
    """Only a settled one may expire: what is marked with one that is gone would be lost."""
    key = new_key(patient)
    with pytest.raises(Crash):
        stage(version(observation(patient), key), client=CrashingClient(wiring.aws("dynamodb"), 3, is_done=True))
    (marked,) = {item["x"] for item in record.items() if item["PK"] == f"P#{patient}"}
    (transaction,) = [item for item in record.items() if item["PK"] == f"X#{marked}"]
    assert transaction["state"] == "committed"
    assert "ttl" not in transaction
    settled()
    assert latest(store, key).version == 1
    (transaction,) = [item for item in record.items() if item["PK"] == f"X#{marked}"]
    assert transaction["ttl"] > 4e9


def test_a_writer_waits_for_a_larger_commit_and_goes_on(store: DynamoRecordStore, patient: str) -> None:
    key = new_key(patient)
    commit(version(observation(patient), key))
    placement = latest(store, key).placement
    second = version(observation(patient, "b"), key, 2, previous=placement)
    with pytest.raises(Crash):
        stage(second, client=CrashingClient(wiring.aws("dynamodb"), 2, is_done=True), now=0)  # its lease is over
    commit(version(observation(patient, "c"), key, 2, previous=placement))
    assert b'"c"' in (latest(store, key).body or b"")
    with pytest.raises(Crash):
        stage(
            following(store, key, observation(patient, "d")),
            client=CrashingClient(wiring.aws("dynamodb"), 2, is_done=True),
        )
    waits: list[float] = []
    patient_journal = DynamoJournal(DynamoDb(wiring.aws("dynamodb"), sleep=waits.append), wiring.table_names())
    with pytest.raises(Busy):  # that one may still be at work
        patient_journal.commit(
            [
                following(store, key, observation(patient, "e")),
                *_audit(),
            ]
        )
    assert len(waits) > 3
    assert latest(store, key).version == 2


def _audit() -> list[Any]:
    return list(audit_of(record.request(), Touched()))


def test_an_answer_given_before_leaves_nothing_of_a_large_commit(store: DynamoRecordStore, patient: str) -> None:
    """The repetition of a transaction that was staged must not be in anybody's way."""

    def changes() -> list[Any]:
        made = [version(observation(patient), new_key(patient)) for _ in range(30)]
        return [*made, *account_of(record.request(key=patient), Touched(), {})]

    wiring.journal().commit(changes())
    with pytest.raises(AlreadyAnsweredError):
        wiring.journal().commit(changes())
    assert not [item for item in record.items() if item["PK"] == f"P#{patient}" and "x" in item]
    assert len(store.entries(patient, "Observation", Scan()).entries) == 30


# --- entries ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dated(_services: None) -> tuple[str, list[ResourceKey]]:
    """A record with an Observation a day, oldest first, of three codes in turn; two at the same minute, one undated."""
    patient = new_patient_key()
    dates = [f"2026-02-{day:02d}T08:30:00Z" for day in (1, 2, 3, 4, 5, 6, 6, 7)]
    contents = [observation(patient, "abc"[n % 3], date) for n, date in enumerate(dates)]
    undated = dict(contents[0].content)
    del undated["effectiveDateTime"]
    keys = [
        ResourceKey(type="Observation", id=f"{patient}-{n:026d}", patient=patient) for n in range(len(contents) + 1)
    ]
    commit(
        *(version(each, key) for each, key in zip([ResourceDraft(undated, record.BASE), *contents], keys, strict=True))
    )
    return patient, keys


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 5, 50])
def test_entries_come_page_after_page(
    store: DynamoRecordStore, dated: tuple[str, list[ResourceKey]], ascending: bool, limit: int
) -> None:
    patient, keys = dated
    seen: list[ResourceKey] = []
    after: str | None = None
    while True:
        page = store.entries(patient, "Observation", Scan(ascending=ascending, limit=limit, after=after))
        assert len(page.entries) <= limit
        seen += [each.key for each in page.entries]
        if page.entries:  # the position of any entry is a place to go on from
            assert page.after in (None, "#".join(page.entries[-1].position))
        after = page.after
        if after is None:
            break
    assert seen == (keys if ascending else keys[::-1])


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize(
    ("between", "token", "expected"),
    [
        (("202602020830", "202602040830"), None, [2, 3, 4]),
        (("202602020831", "202602040829"), None, [3]),
        (("202602060830", "202602060830"), None, [6, 7]),
        (("000000000000", "202602010830"), None, [0, 1]),
        (("202603010000", "999999999999"), None, []),
        (None, "code=a", [0, 1, 4, 7]),
        (("202602040000", "202602070000"), "code=a", [4, 7]),
        (None, "code=none", []),
        (None, "a", []),
    ],
)
def test_entries_within_a_range(
    store: DynamoRecordStore,
    dated: tuple[str, list[ResourceKey]],
    ascending: bool,
    between: tuple[str, str] | None,
    token: str | None,
    expected: list[int],
) -> None:
    patient, keys = dated
    scan = Scan(between=between, token=token, ascending=ascending)
    wanted = [keys[n] for n in (expected if ascending else expected[::-1])]
    assert [each.key for each in store.entries(patient, "Observation", scan).entries] == wanted
    seen, after = [], None
    while True:  # the same in pages
        page = store.entries(patient, "Observation", replace(scan, limit=2, after=after))
        seen += [each.key for each in page.entries]
        after = page.after
        if after is None:
            break
    assert seen == wanted


def test_a_record_has_what_is_its_own(store: DynamoRecordStore, dated: tuple[str, list[ResourceKey]]) -> None:
    assert store.entries(new_patient_key(), "Observation", Scan()).entries == ()
    assert store.entries(dated[0], "Condition", Scan()).entries == ()


def test_everything_is_read_by_type_and_in_pages(store: DynamoRecordStore, patient: str) -> None:
    keys = {new_key(patient, type) for type in ("Observation", "Condition", "Observation", "Encounter")}
    keys.add(ResourceKey(type="Device", id=f"pump-{patient}", patient=patient))
    for key in keys:
        named = {"patient" if key.type == "Device" else "subject": {"reference": f"Patient/{patient}"}}
        commit(version(draft(key.type, **named), key))
    seen, after = [], None
    while True:
        page = store.everything(patient, after=after, limit=2)
        seen += [each.key for each in page.entries]
        after = page.after
        if after is None:
            break
    assert set(seen) == keys
    assert len(seen) == len(keys)
    assert [each.type for each in seen] == sorted(
        (each.type for each in seen), key=["Condition", "Device", "Encounter", "Observation"].index
    )


# --- ids that clients choose --------------------------------------------------------------------------------------


def test_a_chosen_id_tells_where_it_is(store: DynamoRecordStore, patient: str) -> None:
    key = ResourceKey(type="Observation", id=f"mine-{patient}", patient=patient)
    assert store.find_key("Observation", key.id) is None
    commit(version(observation(patient), key))
    assert store.find_key("Observation", key.id) == key
    assert store.find_key("Condition", key.id) is None
    assert [each.key for each in store.entries(patient, "Observation", Scan()).entries] == [key]
    assert [each.key for each in store.marks(patient, None, since="", until="~", ascending=True, limit=9).marks] == [
        key
    ]
    other = new_patient_key()
    with pytest.raises(Stale):
        commit(version(observation(other), replace(key, patient=other)))
    assert store.find_latest(replace(key, patient=other)) is None
    commit(following(store, key, None))
    assert store.find_key("Observation", key.id) == key
    with pytest.raises(Stale):
        commit(version(observation(other), replace(key, patient=other)))


def test_a_type_that_is_always_shared_needs_no_look_up(store: DynamoRecordStore) -> None:
    key = ResourceKey(type="Organization", id="any", patient=None)
    assert store.find_key("Organization", "any") == key
    assert store.find_latest(key) is None


@pytest.mark.parametrize("id", ["a-device", None])
def test_a_device_of_a_patient_or_of_nobody(store: DynamoRecordStore, patient: str, id: str | None) -> None:
    for owner in (patient, None):
        own = f"{id}-{patient}-{owner}"[:60] if id else new_resource_id(owner, AT)
        key = ResourceKey(type="Device", id=own, patient=owner)
        content = draft("Device", **({"patient": {"reference": f"Patient/{owner}"}} if owner else {}))
        commit(version(content, key))
        assert (ResourceKey.of("Device", own) or store.find_key("Device", own)) == key
        assert latest(store, key).key == key
        listed = [each.key for each in store.listed("Device", None, after=None, limit=100).entries]
        assert (key in listed) is (owner is None)
        marks = store.marks(owner, "Device", since="", until="~", ascending=False, limit=100).marks
        assert key in [each.key for each in marks]


# --- look-ups of the directory --------------------------------------------------------------------------------------


def organization(name: str, *, value: str = "1", **content: Any) -> ResourceDraft:
    return draft("Organization", name=name, identifier=[{"system": "urn:o", "value": value}], **content)


def test_shared_resources_are_listed_and_looked_up(store: DynamoRecordStore) -> None:
    record.emptied()
    names = {"1": "Clinique du Port", "2": "Clinique Élan", "3": "CLINIQUE du parc", "4": "Hôpital", "5": "Port"}
    keys = {value: new_key(None, "Organization") for value in names}
    for value, name in names.items():
        commit(version(organization(name, value=value, partOf={"reference": "Organization/root"}), keys[value]))

    def listed(*lookup: str) -> set[str]:
        seen: list[ResourceKey] = []
        after: str | None = None
        while True:
            page = store.listed("Organization", (lookup[0], lookup[1]) if lookup else None, after=after, limit=2)
            seen += [each.key for each in page.entries]
            after = page.after
            if after is None:
                break
        assert len(set(seen)) == len(seen)
        return {value for value, key in keys.items() if key in seen}

    assert listed() == set("12345")
    assert listed("name", "clinique") == set("123")
    assert listed("name", "clinique du") == set("13")
    assert listed("name", "cli") == set("123")
    assert listed("name", "por") == set("5")
    assert listed("identifier", "3") == set("3")
    assert listed("partof", "root") == set("12345")
    assert listed("identifier", "9") == set()
    commit(
        following(store, keys["4"], organization("Hôtel", value="4")),
        following(store, keys["5"], None),
    )
    assert listed() == set("1234")
    assert listed("name", "hopital") == set()
    assert listed("name", "hotel") == set("4")
    assert listed("partof", "root") == set("123")
    assert listed("name", "port") == set()


# --- marks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 3, 50])
def test_marks_are_in_the_order_of_the_requests(
    store: DynamoRecordStore, patient: str, ascending: bool, limit: int
) -> None:
    moments = [5, 1, 1, 3, 2]  # committed in this order; two began at once
    keys = [new_key(patient, "Condition" if n == 3 else "Observation") for n in range(len(moments))]
    for key, second in zip(keys, moments, strict=True):
        named = {"subject": {"reference": f"Patient/{patient}"}}
        commit(version(draft(key.type, **named), key, seconds=second))
    expected = [key for _, key in sorted(zip(moments, keys, strict=True), key=lambda each: (each[0], each[1].id))]

    def read(type: str | None = None, since: str = "", until: str = "~") -> list[Any]:
        seen: list[Any] = []
        while True:
            page = store.marks(patient, type, since=since, until=until, ascending=ascending, limit=limit)
            assert len(page.marks) <= limit
            seen += page.marks
            if page.after is None:
                return seen if ascending else seen[::-1]
            since, until = (page.after, until) if ascending else (since, page.after)

    marks = read()
    assert [mark.key for mark in marks] == expected
    assert [mark.at for mark in marks] == sorted(AT + timedelta(seconds=second) for second in moments)
    assert [mark.key for mark in read("Condition")] == [keys[3]]
    assert [mark.key for mark in read("Encounter")] == []
    assert read(since=marks[1].position, until=marks[4].position) == marks[2:4]
    moment = f"{AT + timedelta(seconds=3):%Y%m%d%H%M%S}000"
    assert read(since=moment) == marks[3:]  # what began at that moment is since then
    assert read(until=moment) == marks[:3]


# --- guards and claims --------------------------------------------------------------------------------------------


def test_a_guard_lets_one_through(store: DynamoRecordStore, patient: str) -> None:
    assert store.guard_counts([patient])[patient] == 0
    commit(Guard(name=patient, count=0))
    with pytest.raises(Overtaken):
        commit(Guard(name=patient, count=0))
    assert store.guard_counts([patient])[patient] == 1
    for _ in range(2):
        commit(Guard(name=patient, count=store.guard_counts([patient])[patient]))
    key = new_key(patient)
    with pytest.raises(Overtaken):
        commit(version(observation(patient), key), Guard(name=patient, count=2))
    assert store.guard_counts([patient])[patient] == 3
    assert store.find_latest(key) is None


@pytest.mark.usefixtures("_services")
def test_an_identifier_belongs_to_one_resource(patient: str) -> None:
    commit(IdentifierClaim(token=patient, type="DocumentReference", id="a"))
    with pytest.raises(Conflict) as refused:
        commit(IdentifierClaim(token=patient, type="DocumentReference", id="b"))
    assert refused.value.issues[0].code == "duplicate"
    commit(IdentifierClaim(token=patient, type="Composition", id="b"))


# --- bodies that no item holds ------------------------------------------------------------------------------------


def incompressible() -> str:
    return os.urandom(MAX_INLINE_BYTES).hex()  # half of it remains


@pytest.fixture
def large(store: DynamoRecordStore, patient: str) -> tuple[ResourceKey, RecordVersion]:
    key = new_key(patient)
    change = version(observation(patient, note=[{"text": incompressible()}]), key)
    commit(change)
    return key, change


def objects(patient: str) -> list[str]:
    found = boto3.client("s3").list_objects_v2(Bucket=record.BUCKET, Prefix=f"sealed/{patient}/")
    return [each["Key"] for each in found.get("Contents", [])]


def test_a_large_body_comes_back_equal(
    store: DynamoRecordStore, large: tuple[ResourceKey, RecordVersion], patient: str
) -> None:
    key, change = large
    assert len(objects(patient)) == 1
    assert latest(store, key).body == change.body
    assert store.versions([(key, 1)])[key, 1].body == change.body
    small = following(store, key, observation(patient))
    commit(small)
    assert [each.body for each in store.history(key, before=None, limit=5)] == [small.body, change.body]
    again = following(store, key, observation(patient, note=[{"text": incompressible()}]))
    stage(again)
    assert latest(store, key).body == again.body
    assert len(objects(patient)) == 2


def test_what_is_not_what_was_stored_is_not_served(
    store: DynamoRecordStore, large: tuple[ResourceKey, RecordVersion], patient: str
) -> None:
    key, _ = large
    (name,) = objects(patient)
    s3 = boto3.client("s3")
    head = s3.head_object(Bucket=record.BUCKET, Key=name)
    for body, metadata in (
        (b"other", head["Metadata"]),
        (b"other", {"sha256": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}),
    ):
        s3.put_object(Bucket=record.BUCKET, Key=name, Body=body, Metadata=metadata)
        with pytest.raises(Fault):
            store.find_latest(key)
        with pytest.raises(Fault):
            store.versions([(key, 1)])
    s3.delete_object(Bucket=record.BUCKET, Key=name)
    with pytest.raises(Fault):
        store.find_latest(key)
    assert [each.version for each in store.entries(patient, "Observation", Scan()).entries] == [1]


def test_a_crash_between_object_and_commit_leaves_nothing_to_see(store: DynamoRecordStore, patient: str) -> None:
    key = new_key(patient)
    change = version(observation(patient, note=[{"text": incompressible()}]), key)
    crashing = DynamoJournal(DynamoDb(CrashingClient(wiring.aws("dynamodb"), 1, is_done=False)), wiring.table_names())
    with pytest.raises(Crash):
        crashing.commit([change, *_audit()])
    assert len(objects(patient)) == 1
    assert store.find_latest(key) is None
    assert store.entries(patient, "Observation", Scan()).entries == ()
    assert store.marks(patient, None, since="", until="~", ascending=True, limit=9).marks == ()
    commit(change)  # the same again meets its own object
    assert latest(store, key).body == change.body
    assert len(objects(patient)) == 1


# --- anything, in any order ---------------------------------------------------------------------------------------


PATIENT = "0123456789abcdef"


def unsealed(item: dict[str, Any]) -> dict[str, Any]:
    """No two ciphertexts of one entry are alike."""
    if "c" not in item:
        return item
    return {**item, "c": opened(wiring.keyring().find(PATIENT), item["c"], place_of(item))}


_codes = st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)
_dates = st.sampled_from([None, "2025", "2026-02-01", "2026-02-01T08:30:00Z", "2026-02-01T08:30:59Z"])
_names = st.sampled_from(["Clinique", "Clinique du Port", "Port", "Éà"])


def _content(key: ResourceKey, codes: list[str], date: str | None, name: str) -> ResourceDraft:
    coded = {"coding": [{"system": "urn:x", "code": code} for code in codes]}
    match key.type:
        case "Observation":
            dated = {"effectiveDateTime": date} if date else {}
            return draft("Observation", subject={"reference": f"Patient/{key.patient}"}, code=coded, **dated)
        case "Device":
            owned = {"patient": {"reference": f"Patient/{key.patient}"}} if key.patient else {}
            return draft("Device", type=coded, deviceName=[{"name": name, "type": "other"}], **owned)
        case _:
            return draft("Organization", name=name, type=[coded])


class AnyCommits(RuleBasedStateMachine):
    """Versions of a few resources, made one by one, together, or in transactions that end anywhere.

    What is read is what a plain list of versions says; and what stands in searches in the end is what it would be
    if nothing but the last versions had ever been written.
    """

    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        record.emptied()
        self.versions: dict[ResourceKey, list[RecordVersion]] = {}
        self.drafts: dict[ResourceKey, ResourceDraft | None] = {}
        self.seconds = 0.0
        self.store = wiring.record_store()

    @rule(
        target=keys,
        type=st.sampled_from(["Observation", "Observation", "Device", "Organization"]),
        is_shared=st.booleans(),
        is_chosen=st.booleans(),
    )
    def name(self, type: str, is_shared: bool, is_chosen: bool) -> ResourceKey:
        patient = None if type == "Organization" or (type == "Device" and is_shared) else PATIENT
        id = f"chosen-{len(self.versions)}" if is_chosen else new_resource_id(patient, AT)
        key = ResourceKey(type=type, id=id, patient=patient)
        self.versions.setdefault(key, [])
        return key

    def _next(self, key: ResourceKey, content: ResourceDraft | None) -> RecordVersion:
        number = len(self.versions[key]) + 1
        found = self.store.find_latest(key)
        previous = found.placement if found else None
        if content is None:
            return deletion(key, number, seconds=self.seconds, previous=previous)
        return version(content, key, number, seconds=self.seconds, previous=previous)

    def _keep(self, changes: list[RecordVersion], contents: dict[ResourceKey, ResourceDraft | None]) -> None:
        for change in changes:
            self.versions[change.key].append(change)
            self.drafts[change.key] = contents[change.key]

    def _contents(self, data: st.DataObject, chosen: list[ResourceKey]) -> dict[ResourceKey, ResourceDraft | None]:
        """Something else for each; a resource that is there may be deleted."""
        self.seconds += data.draw(st.sampled_from([0, 0.001, 7]))
        contents: dict[ResourceKey, ResourceDraft | None] = {}
        for key in chosen:
            if self.drafts.get(key) is not None and data.draw(st.booleans()):
                contents[key] = None
            else:
                contents[key] = _content(key, data.draw(_codes), data.draw(_dates), data.draw(_names))
        return contents

    @rule(chosen=st.lists(keys, min_size=1, max_size=3, unique=True), data=st.data())
    def write(self, chosen: list[ResourceKey], data: st.DataObject) -> None:
        contents = self._contents(data, chosen)
        changes = [self._next(key, content) for key, content in contents.items()]
        if self._is_blocked(changes):
            settled()
        commit(*changes)
        self._keep(changes, contents)

    @rule(
        chosen=st.lists(keys, min_size=1, max_size=4, unique=True),
        ends_at=st.integers(0, 12),
        is_done=st.booleans(),
        data=st.data(),
    )
    def write_staged(self, chosen: list[ResourceKey], ends_at: int, is_done: bool, data: st.DataObject) -> None:
        contents = self._contents(data, chosen)
        changes = [self._next(key, content) for key, content in contents.items()]
        if self._is_blocked(changes):
            settled()
        known = {item["PK"] for item in record.items() if item["PK"].startswith("X#")}
        try:
            stage(*changes, client=CrashingClient(wiring.aws("dynamodb"), ends_at, is_done=is_done))
        except Crash:
            made = [item for item in record.items() if item["PK"].startswith("X#") and item["PK"] not in known]
            if not made or made[0]["state"] != "committed":
                return
        self._keep(changes, contents)

    @rule(key=keys, data=st.data())
    def write_late(self, key: ResourceKey, data: st.DataObject) -> None:
        """A writer who read before another wrote."""
        if not self.versions[key]:
            return
        content = _content(key, data.draw(_codes), data.draw(_dates), data.draw(_names))
        late = version(content, key, len(self.versions[key]), previous=None)
        before = record.items()
        tables = wiring.table_names()
        try:
            wiring.dynamodb().transact(list(actions_of(late, tables)))
        except (Stale, staging.StagedItemError):
            assert record.items() == before
        else:
            raise AssertionError("a version was written twice")

    @rule()
    def settle(self) -> None:
        settled()

    def _is_blocked(self, changes: list[RecordVersion]) -> bool:
        """Whether a writer would have to wait for a transaction that a crash left."""
        return any("x" in item for item in record.items())

    @invariant()
    def reads_are_what_was_written(self) -> None:
        current = {key: made[-1] for key, made in self.versions.items() if made and made[-1].body is not None}
        for key, made in self.versions.items():
            assert [(each.version, each.body) for each in self.store.history(key, before=None, limit=99)] == [
                (each.version, each.body) for each in reversed(made)
            ]
            if ResourceKey.of(key.type, key.id) is None and (made or key.type == "Organization"):
                assert self.store.find_key(key.type, key.id) == key
        for type, code in (("Observation", None), ("Observation", "a"), ("Device", None)):
            shown = self.store.entries(PATIENT, type, Scan(token=f"code={code}" if code else None)).entries
            expected = {
                key: each
                for key, each in current.items()
                if (key.type, key.patient) == (type, PATIENT)
                and (code is None or (each.entry and f"urn:x|{code}" in each.entry.values["code"]))
            }
            assert {each.key: (each.version, each.entry) for each in shown} == {
                key: (each.version, each.entry) for key, each in expected.items()
            }
            assert [each.position for each in shown] == sorted((each.position for each in shown), reverse=True)
        lookups: list[tuple[str, tuple[str, str] | None, str]] = [
            ("Organization", None, ""),
            ("Device", None, ""),
            ("Organization", ("name", "clinique"), "Clinique"),
            ("Device", ("device-name", "port"), "Port"),
        ]
        for type, lookup, text in lookups:
            found = self.store.listed(type, lookup, after=None, limit=99).entries
            assert {each.key: each.version for each in found} == {
                key: each.version
                for key, each in current.items()
                if (key.type, key.patient) == (type, None) and self._named(key).startswith(text)
            }
        everything = self.store.everything(PATIENT, after=None, limit=99).entries
        assert {each.key: each.version for each in everything} == {
            key: each.version for key, each in current.items() if key.patient
        }
        for owner, kind in ((PATIENT, None), (None, "Organization"), (None, "Device")):
            marks = self.store.marks(owner, kind, since="", until="~", ascending=True, limit=99).marks
            assert {(each.key, each.version) for each in marks} == {
                (key, each.version)
                for key, made in self.versions.items()
                if key.patient == owner and kind in (None, key.type)
                for each in made
            }

    def _named(self, key: ResourceKey) -> str:
        content = self.drafts[key].content  # type: ignore[union-attr]
        return str(content["deviceName"][0]["name"] if key.type == "Device" else content["name"])

    def teardown(self) -> None:
        settled()
        left = [item for item in record.items() if item["PK"][0] in "PGAELH"]
        assert not [item for item in left if "x" in item or "n" in item]
        record.emptied()
        for made in self.versions.values():
            if made:
                commit(replace(made[-1], previous=None))
        anew = [item for item in record.items() if item["PK"][0] in "PGAELH"]

        def searched(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
            found = [unsealed(item) for item in items if item["PK"][0] in "EL" or item["SK"][:2] in ("e#", "x#")]
            return sorted(found, key=lambda item: (item["PK"], item["SK"]))

        assert searched(left) == searched(anew)
        count = sum(len(made) for made in self.versions.values())
        assert len([item for item in left if item["SK"].startswith("v#")]) == count
        assert len([item for item in left if item["SK"].startswith("h#")]) == count


@pytest.mark.usefixtures("_services")
def test_any_commits_in_any_order() -> None:
    run_state_machine_as_test(AnyCommits, settings=settings(max_examples=15, stateful_step_count=12))
