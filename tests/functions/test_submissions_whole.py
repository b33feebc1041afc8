"""All of a submission or nothing of it, and once: crashes, failures, size, the same again (65-11, 65-21, P20)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError

from passerelle import wiring
from passerelle.aws import staging
from tests import examples, submitting
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register
from tests.submitting import (
    Bundle,
    changed,
    label,
    nothing_stored,
    publish,
    refusal,
    statuses,
    submission,
    submit,
    urn,
)


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    return exchange.client("practice")


@pytest.fixture(scope="module")
def key(hospital: Client) -> str:
    return str(register(hospital, 1).json["id"])


@pytest.fixture(scope="module")
def subject(key: str) -> str:
    return f"Patient/{key}"


# --- all or nothing ---------------------------------------------------------------------------------------------------


class Failing:
    """Lets the n-th call of an AWS service fail, the retries of the SDK included."""

    def __init__(self) -> None:
        self.calls = 0
        self.at: int | None = None

    def __call__(self, **_: Any) -> None:
        self.calls += 1
        if self.calls == self.at:
            raise ConnectionClosedError(endpoint_url="https://aws")


@pytest.mark.parametrize("is_staged", [False, True], ids=["one", "staged"])
def test_65_11_a_failure_at_each_step_leaves_nothing(
    exchange: Exchange, hospital: Client, key: str, is_staged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call before the commit fails once; then nothing of the submission is there, and it can be sent again."""
    if is_staged:
        monkeypatch.setattr(staging, "MAX_ACTIONS", 8)
        monkeypatch.setattr(wiring.journal()._staging, "_chunk_actions", 12)
    current = publish(hospital, f"Patient/{key}")
    failing = Failing()
    events = [wiring.aws(service).meta.events for service in ("dynamodb", "s3")]
    for each in events:
        each.register("before-call.*.*", failing)
    refused, at, is_through = 0, 0, False
    try:
        while not is_through:
            bundle, before = submitting.replacement(f"Patient/{key}", current), submitting.stored(hospital)
            at += 1
            failing.calls, failing.at = 0, at
            answer = hospital.post("", bundle)
            is_through, failing.at = failing.calls < at, None
            if answer.status != 200:
                refused += 1
                assert answer.status in (500, 503)
                assert answer.json["resourceType"] == "OperationOutcome"
                # What was staged may wait for the next writer, who takes it away; nobody sees it.
                assert is_staged or submitting.stored(hospital) == before
                assert visible(hospital, key, bundle) == 0
                assert hospital.get(f"DocumentReference/{current}").json["status"] == "current"
                answer = hospital.post("", bundle)
            assert answer.status == 200, answer.body
            assert visible(hospital, key, bundle) == 1
            assert hospital.get(f"DocumentReference/{current}").json["status"] == "superseded"
            current = submitting.place(answer.json["entry"][1]).partition("/")[2]
    finally:
        for each in events:
            each.unregister("before-call.*.*", failing)
    assert refused >= 4


def visible(client: Client, key: str, bundle: Bundle) -> int:
    """How many of its documents are there; its SubmissionSet is there if they are."""
    masters = [
        entry["resource"]["masterIdentifier"] for entry in bundle["entry"] if "masterIdentifier" in entry["resource"]
    ]
    asked = ",".join(f"{each['system']}|{each['value']}" for each in masters)
    found = client.get(f"DocumentReference?patient={key}&identifier={asked}").json["total"]
    listed = bundle["entry"][0]["resource"]["identifier"][0]["value"]
    assert client.get(f"List?patient={key}&identifier={listed}").json["total"] == (1 if found else 0)
    return int(found)


def test_three_hundred_documents_are_one_commit(hospital: Client, practice: Client) -> None:
    """With the kept answer, which tells of six hundred entries."""
    key = register(hospital, 9).json["id"]
    contents = [f"<d>{number}</d>".encode() for number in range(300)]
    bundle = submission(f"Patient?identifier={examples.ins(9)}", "pdsm", contents=contents)
    answered = submit(hospital, bundle, Idempotency_Key="three-hundred")
    assert statuses(answered) == ["201"] * 601
    found = practice.get(f"DocumentReference?patient={key}&status=current&_count=1&_total=accurate").json
    assert found["total"] == 300
    for number in (0, 299):
        assert practice.get(submitting.place(answered[2 + 2 * number]), Accept="*/*").body == contents[number]


# --- once -------------------------------------------------------------------------------------------------------------


def test_65_21_the_same_again(exchange: Exchange, hospital: Client, subject: str) -> None:
    bundle = submission(subject, contents=(b"<a/>", b"<b/>"))
    first = submit(hospital, bundle)
    before = submitting.stored(hospital)
    again = submit(hospital, bundle)
    assert [submitting.place(entry) for entry in again] == [submitting.place(entry) for entry in first]
    assert statuses(again) == ["200"] * 5
    assert submitting.stored(hospital) == before


def _other_bytes(bundle: Bundle, key: str) -> Bundle:
    other = submission(f"Patient/{key}", contents=(b"<a/>", b"<c/>"))
    for number in (1, 3):
        master = bundle["entry"][number]["resource"]["masterIdentifier"]
        other = changed(other, f"{number}.masterIdentifier", master)
    return other


def _other_person(bundle: Bundle, key: str) -> Bundle:
    for number in (0, 1, 3):
        bundle = changed(bundle, f"{number}.subject.reference", f"Patient?identifier={examples.ins(3)}")
    return bundle


def _with_another(bundle: Bundle, key: str) -> Bundle:
    """Part of it was never submitted."""
    more = submission(f"Patient/{key}", contents=(b"<x/>", b"<y/>", b"<d/>"))["entry"][5:]
    partly = copy.deepcopy(submitting.with_entries(bundle, *more))
    partly["entry"][0]["resource"]["entry"].append({"item": {"reference": more[0]["fullUrl"]}})
    return partly


@pytest.mark.parametrize("other", [_other_bytes, _other_person, _with_another])
def test_65_21_something_else_under_the_same_identifier(
    hospital: Client, key: str, subject: str, other: Callable[[Bundle, str], Bundle]
) -> None:
    bundle = submission(subject, contents=(b"<a/>", b"<b/>"))
    submit(hospital, bundle)
    register(hospital, 3)
    assert nothing_stored(hospital, other(bundle, key)) == (409, ["duplicate"])


def test_65_21_by_somebody_else(exchange: Exchange, hospital: Client, subject: str) -> None:
    bundle = submission(subject)
    submit(hospital, bundle)
    assert nothing_stored(exchange.client("hospital-b"), bundle) == (409, ["duplicate"])


def test_65_21_a_replacement_and_a_folder_again(hospital: Client, subject: str) -> None:
    old = publish(hospital, subject)
    bundle = submitting.replacement(subject, old)
    bundle = submitting.with_entries(bundle, submitting.posted(submitting.folder(subject, urn(1))))
    first = submit(hospital, bundle)
    before = submitting.stored(hospital)
    again = submit(hospital, bundle)
    assert [submitting.place(entry) for entry in again] == [submitting.place(entry) for entry in first]
    assert submitting.stored(hospital) == before


def test_65_21_nothing_is_told_of_a_document_that_is_hidden(exchange: Exchange, hospital: Client, subject: str) -> None:
    """The identifier is taken: that is all, whether the document can be seen or not."""
    open_one, hidden = submission(subject), submission(subject, "pdsm", securityLabel=[label("MASQUE_PS")])
    for bundle in (open_one, hidden):
        submit(hospital, bundle)
    other = exchange.client("hospital-b")
    refused = other.post("", open_one)
    assert refusal(refused) == (409, ["duplicate"])
    assert other.post("", hidden).json == refused.json


def test_two_documents_of_one_identifier(hospital: Client, subject: str) -> None:
    bundle = submission(subject, contents=(b"<a/>", b"<b/>"))
    master = bundle["entry"][1]["resource"]["masterIdentifier"]
    assert nothing_stored(hospital, changed(bundle, "3.masterIdentifier", master)) == (422, ["business-rule"])
