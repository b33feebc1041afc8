"""A process may end between any two calls to storage: a document is there with its content, once, or not at all.

The same request again converges, with an Idempotency-Key or without (law 6); whatever was done or not, the record holds
together at any moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from local import samples
from local.gateway import Response
from passerelle import wiring
from passerelle.aws import staging
from passerelle.aws.dynamodb import from_attributes
from passerelle.documents.quarantine import Verdict
from passerelle.patients.status import ClosingMotive
from passerelle.records.model import ResourceKey
from tests import documents, record, submitting, wholeness
from tests.exchange import URL, Client, Exchange
from tests.functions.test_links import listed, share, terms, visit
from tests.functions.test_quarantine import events_of, report, soon, take
from tests.functions.test_sweep import stored, sweep
from tests.journeys.test_crashes import Crash, announced, crash_everywhere, crashing, items, partitions

TYPE = "DocumentReference"
STAGED = 2  # documents: a submission of few items is quick, and each step is made several times


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission larger than one transaction, though it is small."""
    monkeypatch.setattr(staging, "MAX_ACTIONS", 8)
    monkeypatch.setattr(staging, "LEASE_SECONDS", -1)  # whoever comes next need not wait
    monkeypatch.setattr(wiring.journal()._staging, "_chunk_actions", 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A record of its own, a document in it, and what is sent about them."""

    patient: str
    there: str = ""
    sent: Any = None

    @property
    def subject(self) -> str:
        return f"Patient/{self.patient}"


class Record:
    """The record of one command at a time: nothing else is stored."""

    def __init__(self, exchange: Exchange, client: Client) -> None:
        self.exchange = exchange
        self.client = client
        self.place = Place(patient="")

    def begin(self, *, is_published: bool = False) -> None:
        for table in ("patients", "clinical"):
            partitions(self.exchange, table).clear()
        self.place = Place(patient=record.person().members[0])
        if is_published:
            self.place = replace(self.place, there=submitting.publish(self.client, self.place.subject))

    def is_whole(self) -> None:
        """Every document stands where it should, with its content; other contents are there for nobody."""
        clinical = [from_attributes(item) for item in items(self.exchange, "clinical")]
        contents = {each for each in stored(self.exchange) if each.startswith(f"documents/{self.place.patient}/")}
        wholeness.check_documents(clinical, contents)
        for each in contents:
            id = each.removeprefix("documents/").replace("/", "-")
            if wiring.record_store().find_latest(ResourceKey(type=TYPE, id=id, patient=self.place.patient)) is None:
                assert self.client.get(f"Binary/{id}").status == 404

    def versions(self) -> list[tuple[str, int]]:
        """What was announced of this record, each time it was."""
        return [
            (event["reference"]["S"], int(event["version"]["N"]))
            for event in announced(self.exchange)
            if event["patient"].get("S") == self.place.patient and "DocumentReference" in event["reference"]["S"]
        ]

    def current(self) -> list[dict[str, Any]]:
        found = self.client.get(f"DocumentReference?patient={self.place.patient}&status=current&_count=50").json
        return [entry["resource"] for entry in found.get("entry", [])]


@pytest.fixture
def kept(exchange: Exchange, hospital: Client) -> Record:
    return Record(exchange, hospital)


# What is sent, how many documents are current afterwards, and how many versions came to exist with it.
Publication = tuple[Callable[[Place], Any], int, int]
PUBLICATIONS: dict[str, Publication] = {
    "one": (lambda place: submitting.submission(place.subject), 1, 1),
    "two": (lambda place: submitting.submission(place.subject, contents=[b"<a/>", b"<b/>"]), 2, 2),
    "replacement": (lambda place: submitting.replacement(place.subject, place.there), 1, 2),
    "staged": (
        lambda place: submitting.submission(place.subject, contents=[b"<d>%d</d>" % n for n in range(STAGED)]),
        STAGED,
        STAGED,
    ),
    "simplified": (lambda place: documents.document(place.subject), 1, 1),
}


@pytest.mark.parametrize("is_keyed", [True, False], ids=["key", "no-key"])
@pytest.mark.parametrize("name", PUBLICATIONS)
def test_a_publication(
    exchange: Exchange, hospital: Client, kept: Record, name: str, is_keyed: bool, request: pytest.FixtureRequest
) -> None:
    """65-11, 65-21, 105-n: between S3 and DynamoDB, at each chunk of a large one, before and after each took effect."""
    content, count, made = PUBLICATIONS[name]
    if name == "staged":
        request.getfixturevalue("chunks")

    def prepare(_: str) -> None:
        kept.begin(is_published=name == "replacement")
        kept.place = replace(kept.place, sent=content(kept.place))

    def publish(command: str) -> Response:
        path = "DocumentReference" if name == "simplified" else ""
        return hospital.post(path, kept.place.sent, **({"Idempotency_Key": command} if is_keyed else {}))

    def all_or_nothing(_: str) -> None:
        kept.is_whole()
        before = 1 if name == "replacement" else 0
        assert len(kept.versions()) - before in (0, made)
        assert len(kept.current()) in (before, count)

    def once(_: str, answer: Response) -> None:
        kept.is_whole()
        assert len(set(kept.versions())) == len(kept.versions()) == made + (1 if name == "replacement" else 0)
        current = kept.current()
        assert len(current) == count
        for document in current:
            assert submitting.content_of(hospital, document).status == 200
        if name == "replacement":
            (document,) = current
            assert document["id"] != kept.place.there
            assert hospital.get(f"DocumentReference/{kept.place.there}").json["status"] == "superseded"

    def ids(answer: Response) -> list[str]:
        if name == "simplified":
            return [answer.json["id"]]
        return [submitting.place(entry) for entry in answer.json["entry"]]

    crash_everywhere(publish, once, prepare=prepare, look=all_or_nothing, told=ids)
    sweep(exchange, *stored(exchange))
    left = [each for each in stored(exchange) if f"/{kept.place.patient}/" in each]
    assert len(left) == count + (1 if name == "replacement" else 0), "what no document names is discarded"


CHANGES: dict[str, tuple[list[dict[str, Any]], int]] = {
    "mask": (documents.relabel("MASQUE_PS"), 1),
    "archive": ([documents.operation("replace", documents.ARCHIVE_PATH, True)], 1),
    "withdraw": ([documents.operation("replace", "/status", "entered-in-error")], 0),
}


@pytest.mark.parametrize("is_keyed", [True, False], ids=["key", "no-key"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change(hospital: Client, kept: Record, name: str, is_keyed: bool) -> None:
    """PDSM-4 to 9: the labels, what hides it and what finds it are one."""
    patch, found = CHANGES[name]

    def change(command: str) -> Response:
        headers = {"Idempotency_Key": command} if is_keyed else {}
        return documents.patch(hospital, f"DocumentReference/{kept.place.there}", patch, **headers)

    def once(_: str, answer: Response) -> None:
        kept.is_whole()
        assert answer.json["meta"]["versionId"] == "2"
        assert [version for _, version in kept.versions()] == [1, 2]
        assert len(kept.current()) == found

    crash_everywhere(change, once, prepare=lambda _: kept.begin(is_published=True), look=lambda _: kept.is_whole())


# --- what else is done to documents ---------------------------------------------------------------------------------


def test_a_link_is_made_once(exchange: Exchange, kept: Record) -> None:
    practice = exchange.client("practice")

    def url(answer: Response) -> str:
        return str(next(each["valueUrl"] for each in answer.json["parameter"] if each["name"] == "url"))

    def once(_: str, answer: Response) -> None:
        assert len(listed(practice, kept.place.there)) == 1
        assert exchange.gateway.request("GET", url(answer).removeprefix(URL)).status == 200

    crash_everywhere(
        lambda command: practice.post(f"DocumentReference/{kept.place.there}/$share", terms(), Idempotency_Key=command),
        once,
        prepare=lambda _: kept.begin(is_published=True),
        told=url,
    )


def test_a_link_is_opened_as_often_as_it_is_counted(exchange: Exchange, kept: Record) -> None:
    """A content that was released was counted before: who got none may find the link used up, nobody gets two."""
    practice = exchange.client("practice")
    with crashing() as crashes:
        at = is_through = 0
        while not is_through:
            kept.begin(is_published=True)
            link = share(practice, kept.place.there)
            crashes.calls, crashes.at, crashes.is_done = 0, at // 2 + 1, bool(at % 2)
            try:
                is_through = visit(exchange, link["url"]).status == 200
                assert crashes.calls < at // 2 + 1
            except Crash:
                pass
            at, crashes.at = at + 1, None
            (before,) = listed(practice, kept.place.there)
            again = visit(exchange, link["url"])
            (after,) = listed(practice, kept.place.there)
            assert (again.status, after["opened"]) == ((404, 1) if before["opened"] else (200, 1)), at
    assert at > 2 * 4


@pytest.mark.parametrize("verdicts", [(Verdict.INFECTED,), (Verdict.INFECTED, Verdict.CLEAN)], ids=["in", "out"])
def test_a_report_of_the_scanner_counts_once(
    exchange: Exchange, hospital: Client, kept: Record, verdicts: tuple[Verdict, ...]
) -> None:
    """The queue gives a report again that was not taken in; each is announced once."""
    reports: dict[str, list[dict[str, Any]]] = {}

    def prepare(command: str) -> None:
        kept.begin(is_published=True)
        reports[command] = [report(kept.place.there, each, soon(minutes=n)) for n, each in enumerate(verdicts)]
        for each in reports[command][:-1]:
            assert take(each) == []

    def taken(command: str) -> Response:
        assert take(reports[command][-1]) == []
        return hospital.get(f"DocumentReference/{kept.place.there}")

    def once(_: str, answer: Response) -> None:
        is_infected = verdicts[-1] is Verdict.INFECTED
        assert hospital.get(f"Binary/{kept.place.there}").status == (403 if is_infected else 200)
        assert len(events_of(exchange, kept.place.there)) == 1 + len(verdicts)
        kept.is_whole()

    crash_everywhere(taken, once, prepare=prepare)


def test_a_record_is_closed_once(exchange: Exchange, hospital: Client, kept: Record) -> None:
    practice = exchange.client("practice")

    def close(command: str) -> Response:
        motive = samples.parameters(motive__valueCode="patient-demande")
        return practice.post(f"{kept.place.subject}/$close-record", motive, Idempotency_Key=command)

    def once(_: str, answer: Response) -> None:
        kept.is_whole()
        decided = practice.get(f"{kept.place.subject}/$record-status").json["parameter"]
        assert [each["name"] for each in decided].count("decision") == 1
        assert hospital.get(f"DocumentReference/{kept.place.there}").status == 404
        names = [each["name"]["S"] for each in announced(exchange) if each["reference"]["S"] == kept.place.subject]
        assert len(names) == 1

    crash_everywhere(close, once, prepare=lambda _: kept.begin(is_published=True), look=lambda _: kept.is_whole())


# --- what happens meanwhile -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["one", "staged", "simplified"])
def test_nothing_is_published_in_a_record_that_was_closed(
    exchange: Exchange, hospital: Client, kept: Record, name: str, request: pytest.FixtureRequest
) -> None:
    """DMP-7: before each call of a publication somebody closes the record, once; what is not there yet never is."""
    if name == "staged":
        request.getfixturevalue("chunks")
    content, count, _ = PUBLICATIONS[name]
    calls, at, there = 0, 0, 0
    is_closed = True

    def close(**_: Any) -> None:
        nonlocal calls, is_closed, there
        calls += 1
        if calls == at and not is_closed:
            is_closed = True
            caller = replace(record.CALLER, professional="810000000037")
            asked = replace(record.request(), caller=caller)
            wiring.record_status_service().close(asked, kept.place.patient, ClosingMotive.PATIENT)
            there = published()

    def published() -> int:
        """How many documents are committed, whoever may see them."""
        clinical = [from_attributes(item) for item in items(exchange, "clinical")]
        return wholeness.documents(clinical)

    hospital.token()
    statuses = []
    events = [wiring.aws(service).meta.events for service in ("dynamodb", "s3")]
    for each in events:
        each.register("before-call.*.*", close)
    try:
        while is_closed:
            kept.begin()
            at, calls, is_closed, there = at + 1, 0, False, 0
            answer = hospital.post("DocumentReference" if name == "simplified" else "", content(kept.place))
            statuses.append(answer.status)
            assert answer.status < 300 if there or not is_closed else answer.status in (404, 422), (at, answer.body)
            assert published() == (there if is_closed else count), at
            kept.is_whole()
    finally:
        for each in events:
            each.unregister("before-call.*.*", close)
    assert len([status for status in statuses if status >= 400]) >= 3
