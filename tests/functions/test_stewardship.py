"""Identity stewards over HTTP: the worklist, decisions, links, merges, and that each of them can be taken back.

Every test has people of its own: a family name that nobody else has.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from passerelle import wiring
from passerelle.access import Scopes
from passerelle.fhir.stewardship import render_question
from passerelle.fhir.validation import validate
from passerelle.matching.scoring import Model
from passerelle.patients.model import Review, ReviewStatus
from passerelle.patients.stewardship import Question
from tests import examples
from tests.exchange import Client, Exchange
from tests.functions.test_bad_input import stored
from tests.sources import patient

A, B = "urn:oid:2.999.1", "urn:oid:2.999.2"
REASON = "Odile was seen with her identity card"
NOBODY = "0" * 16

Parts = dict[str, list[Any]]


@pytest.fixture(scope="module")
def steward(exchange: Exchange) -> Client:
    return exchange.client("steward")


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    return exchange.client("practice")


class People:
    """Registers people; `a` and `b` are two hospitals, each with its domain."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def put(self, hospital: str, local: str, **traits: Any) -> str:
        domain = {"a": A, "b": B}[hospital]
        client = self.exchange.client(f"hospital-{hospital}")
        answer = client.put(f"Patient?identifier={domain}|{local}", patient(domain, local, **home(**traits)))
        assert answer.status in (200, 201), answer.body
        return str(answer.json["id"])

    def doubtful(self, family: str) -> tuple[str, str]:
        """Two registrations alike in all but the gender: nobody links them without asking."""
        return self.put("a", f"{family}-a", family=family), self.put("b", f"{family}-b", family=family, gender="male")


@pytest.fixture(scope="module")
def people(exchange: Exchange) -> People:
    return People(exchange)


def home(**traits: Any) -> dict[str, Any]:
    """Somebody's traits: those of a family have all in common, those of two families next to nothing."""
    family = traits["family"]
    number = zlib.crc32(family.encode())
    return {
        "given": "Odile",
        "born": born(family),
        "place": f"{1 + number % 95:02d}{number % 900:03d}",
        "address": [{"line": [f"4 rue {family.title()}"], "city": f"{family.title()}-sur-Mer"}],
        "telecom": [{"system": "phone", "value": f"06{number % 10**8:08d}"}],
    } | traits


def born(family: str) -> str:
    return (date(1930, 1, 1) + timedelta(days=zlib.crc32(family.encode()) % 25_000)).isoformat()


# --- Parameters -------------------------------------------------------------------------------------------------------


def by_name(parameters: list[dict[str, Any]]) -> Parts:
    found: Parts = {}
    for each in parameters:
        value = next(content for name, content in each.items() if name != "name")
        if "part" in each:
            value = by_name(value)
        elif "valueReference" in each:
            value = value["reference"].removeprefix("Patient/")
        found.setdefault(each["name"], []).append(value)
    return found


def parts(answer: Any) -> Parts:
    assert answer.status == 200, answer.body
    validate(answer.json, expected_type="Parameters")
    return by_name(answer.json.get("parameter", []))


def parameters(**values: Any) -> dict[str, Any]:
    """Names with `_` for `-`; a string of sixteen characters is the id of a Patient."""
    made = []
    for name, value in values.items():
        is_key = len(value) == 16 and value.isalnum()
        content = {"valueReference": {"reference": f"Patient/{value}"}} if is_key else {"valueString": value}
        made.append({"name": name.replace("_", "-"), **content})
    return {"resourceType": "Parameters", "parameter": made}


def act(client: Client, operation: str, *, headers: Mapping[str, str] | None = None, **values: Any) -> Any:
    body = parameters(**{"reason": REASON, **values})
    return client.post(f"Patient/${operation}", body, **(headers or {}))


def decide(client: Client, review: str, decision: str, **values: Any) -> Any:
    return act(client, "decide", review=review, decision=decision, **values)


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status, answer.json["issue"][0]["code"]


def reviews(steward: Client, status: str, *keys: str) -> list[Parts]:
    """The reviews of a status about two of these records."""
    found = parts(steward.get(f"Patient/$reviews?status={status}&_count=200")).get("review", [])
    return [each for each in found if {each["first"][0], each["second"][0]} <= set(keys)]


def open_review(steward: Client, *keys: str) -> str:
    (found,) = reviews(steward, "open", *keys)
    return str(found["id"][0])


def identity(steward: Client, key: str) -> Parts:
    return parts(steward.get(f"Patient/{key}/$identity"))


def members(steward: Client, key: str) -> list[str]:
    return [each["reference"][0] for each in identity(steward, key)["record"]]


# --- what others see of it --------------------------------------------------------------------------------------------


def cross_referenced(client: Client, identifier: str) -> list[str]:
    answer = client.get(f"Patient/$ihe-pix?sourceIdentifier={identifier}")
    return sorted(f"{each['system']}|{each['value']}" for each in parts(answer).get("targetIdentifier", []))


def observed(client: Client, key: str) -> int:
    total: int = client.get(f"Observation?patient={key}").json["total"]
    return total


# --- a review, from beginning to end ----------------------------------------------------------------------------------


def test_a_question_is_answered_and_the_answer_taken_back(people: People, steward: Client, practice: Client) -> None:
    at_a, at_b = people.doubtful("VASSEUR")
    ours, theirs = f"{A}|VASSEUR-a", f"{B}|VASSEUR-b"
    laboratory = people.exchange.client("laboratory")
    assert laboratory.post("Observation", examples.observation(at_a)).status == 201
    assert cross_referenced(practice, ours) == []
    assert (observed(practice, at_a), observed(practice, at_b)) == (1, 0)

    (found,) = reviews(steward, "open", at_a, at_b)
    assert (found["status"], found["cause"]) == (["open"], ["score"])
    assert found["grade"][0] in ("probable", "possible")
    assert 0.05 <= found["score"][0] < 1
    assert [found["first"][0], found["second"][0]] == sorted([at_a, at_b])
    review = found["id"][0]

    done = parts(decide(steward, review, "same"))
    assert (sorted(done["record"]), done["changed"]) == (sorted([at_a, at_b]), [True])
    assert members(steward, at_a) == members(steward, at_b) == sorted([at_a, at_b])
    assert cross_referenced(practice, ours) == [theirs]
    assert (observed(practice, at_a), observed(practice, at_b)) == (1, 1)
    assert reviews(steward, "open", at_a, at_b) == []
    (answered,) = reviews(steward, "same", at_a, at_b)
    (decision,) = answered["decision"]
    assert (decision["by"], decision["reason"]) == (["steward"], [REASON])
    assert refusal(decide(steward, review, "different")) == (409, "conflict")
    assert refusal(decide(steward, review, "same")) == (409, "conflict")

    gone = parts(act(steward, "unlink", patient=at_b))
    assert (gone["record"], gone["changed"]) == ([at_b], [True])
    assert (members(steward, at_a), members(steward, at_b)) == ([at_a], [at_b])
    assert cross_referenced(practice, ours) == []
    assert (observed(practice, at_a), observed(practice, at_b)) == (1, 0)
    for key, other in ((at_a, at_b), (at_b, at_a)):
        card = identity(steward, key)
        assert "link" not in card
        assert [each["kind"][0] for each in card["history"]] == ["linked", "unlinked"]
        for each in card["history"]:
            assert (each["rule"], each["by"], each["with"]) == (["steward"], ["steward"], [other])
            assert each["reason"] == [REASON]
        assert [each["status"] for each in card["review"]] == [["different"]]


def test_a_review_shows_both_records_and_what_speaks_for_and_against(people: People, steward: Client) -> None:
    at_a, at_b = people.doubtful("TALBOT")
    review = open_review(steward, at_a, at_b)
    place = f"Patient/$reviews?review={review}"
    (shown,) = parts(steward.get(place))["review"]
    assert sorted(each["id"] for each in shown["resource"]) == sorted([at_a, at_b])
    assert {each["id"]: each["gender"] for each in shown["resource"]} == {at_a: "female", at_b: "male"}
    assert shown["contradiction"] == ["sex"]
    assert (shown["model"], shown["is-current-model"]) == ([Model.load().version], [True])
    evidence = {each["field"][0]: each for each in shown["evidence"]}
    assert (evidence["family"]["level"], evidence["birth_date"]["level"]) == (["exact"], ["exact"])
    assert evidence["birth_date"]["bits"][0] > 0 > evidence["prior"]["bits"][0]
    assert sum(each["bits"][0] for each in shown["evidence"]) == pytest.approx(shown["bits"][0], abs=0.2)
    as_xml = steward.get(place, Accept="application/fhir+xml")
    assert (as_xml.status, b'<gender value="male"/>' in as_xml.body) == (200, True)
    records = [each for each in people.exchange.table("audit") if each.get("name", {}).get("S") == "$reviews"]
    assert {at_a, at_b} <= {each["patient"]["S"] for each in records if "patient" in each}


def test_of_a_former_model_only_the_levels_are_told() -> None:
    review = Review(
        id="01m815gzcvp4ts58qnmfpr078w",
        first="1qa79e144v654ny6",
        second="72sjn35t2c3vk7ev",
        status=ReviewStatus.OPEN,
        score=0.4,
        grade="possible",
        evidence={
            "model": "fr-2019",
            "bits": 6.25,
            "levels": [["family", "exact", 1.5], ["eye-colour", "alike", 0]],
            "contradictions": ["given"],
        },
        raised_at=datetime(2026, 3, 1, tzinfo=UTC),
    )
    rendered = render_question(Question(review=review, records=()), Model.load())
    (shown,) = by_name(rendered["parameter"])["review"]
    assert (shown["model"], shown["is-current-model"], shown["contradiction"]) == (["fr-2019"], [False], ["given"])
    assert shown["evidence"] == [
        {"field": ["family"], "level": ["exact"]},
        {"field": ["eye-colour"], "level": ["alike"]},
    ]
    of_one_record = replace(review, second=review.first, evidence={"contradictions": ["birth place"]}, grade="")
    rendered = render_question(Question(review=of_one_record, records=()), Model.load())
    (shown,) = by_name(rendered["parameter"])["review"]
    assert (shown["contradiction"], shown.keys() & {"model", "evidence", "grade"}) == (["birth place"], set())


def test_two_people_are_not_asked_about_again(people: People, steward: Client, practice: Client) -> None:
    at_a, at_b = people.doubtful("SERVANT")
    review = open_review(steward, at_a, at_b)
    done = parts(decide(steward, review, "different"))
    assert done == {"changed": [False]}
    people.put("b", "SERVANT-b", family="SERVANT")  # every trait is the same now
    people.put("a", "SERVANT-a", family="SERVANT", given="Odette")
    people.put("a", "SERVANT-a", family="SERVANT")
    assert (members(steward, at_a), members(steward, at_b)) == ([at_a], [at_b])
    assert [each["status"] for each in identity(steward, at_b)["review"]] == [["different"]]
    assert refusal(decide(steward, review, "same")) == (409, "conflict")
    assert cross_referenced(practice, f"{A}|SERVANT-a") == []


def test_who_was_told_apart_from_a_record_is_told_apart_from_its_person(people: People, steward: Client) -> None:
    """A third record, of the person that the steward said it is not, does not bring them together."""
    apart = people.put("a", "ROUGIER-1", family="ROUGIER", gender="male")
    one = people.put("b", "ROUGIER-2", family="ROUGIER")
    parts(decide(steward, open_review(steward, apart, one), "different"))
    other = people.put("b", "ROUGIER-3", family="ROUGIER")
    if members(steward, one) == [one]:
        parts(act(steward, "link", first=one, second=other))
    assert members(steward, one) == sorted([one, other])
    for review in reviews(steward, "open", apart, other):
        parts(decide(steward, review["id"][0], "later"))
    people.put("a", "ROUGIER-1", family="ROUGIER")  # now the same as both
    assert members(steward, apart) == [apart]
    assert reviews(steward, "open", apart, one, other) == []


def test_later(people: People, steward: Client) -> None:
    at_a, at_b = people.doubtful("QUENTIN")
    review = open_review(steward, at_a, at_b)
    assert parts(decide(steward, review, "later")) == {"changed": [False]}
    assert reviews(steward, "open", at_a, at_b) == []
    (put_off,) = reviews(steward, "later", at_a, at_b)
    assert put_off["id"] == [review]
    people.put("b", "QUENTIN-b", family="QUENTIN", given="Odile Anne")
    assert reviews(steward, "open", at_a, at_b) == []
    assert parts(decide(steward, review, "same"))["changed"] == [True]
    assert reviews(steward, "later", at_a, at_b) == []


def test_what_links_answer_is_no_question_any_more(people: People, steward: Client) -> None:
    at_a, at_b = people.doubtful("PICARD")
    third = people.put("b", "p3", family="PRADEL")
    review = open_review(steward, at_a, at_b)
    parts(act(steward, "link", first=at_a, second=third))
    assert open_review(steward, at_a, at_b) == review
    joined = parts(act(steward, "link", first=at_b, second=third))
    assert sorted(joined["record"]) == sorted([at_a, at_b, third])
    assert reviews(steward, "open", at_a, at_b) == []
    (answered,) = reviews(steward, "moot", at_a, at_b)
    assert answered["id"] == [review]
    assert refusal(decide(steward, review, "different")) == (409, "conflict")
    parts(act(steward, "unlink", patient=at_a))
    assert (members(steward, at_a), members(steward, at_b)) == ([at_a], sorted([at_b, third]))
    assert {each["status"][0] for each in identity(steward, at_a)["review"]} == {"different"}


def test_linked_records_that_turn_out_to_be_two_people(people: People, steward: Client) -> None:
    """A source corrects what it had mixed up: the link stays until a steward says otherwise."""
    at_a, at_b = people.put("a", "OLIVET-a", family="OLIVET"), people.put("b", "OLIVET-b", family="OLIVET")
    assert members(steward, at_a) == sorted([at_a, at_b])
    people.put("b", "OLIVET-b", family="ORSINI", given="Bastien", gender="male", born="1990-11-30", place="00003")
    assert members(steward, at_a) == sorted([at_a, at_b])
    (found,) = reviews(steward, "open", at_a, at_b)
    assert found["cause"] == ["contradiction"]
    done = parts(decide(steward, found["id"][0], "different"))
    assert done["changed"] == [True]
    assert (members(steward, at_a), members(steward, at_b)) == ([at_a], [at_b])
    people.put("b", "OLIVET-b", family="OLIVET")
    assert (members(steward, at_a), members(steward, at_b)) == ([at_a], [at_b])


# --- links and merges -------------------------------------------------------------------------------------------------


def test_linked_already(people: People, steward: Client) -> None:
    one, two = people.put("a", "n1", family="NAVARRE"), people.put("b", "n2", family="NODIER")
    assert parts(act(steward, "link", first=one, second=two))["changed"] == [True]
    assert parts(act(steward, "link", first=two, second=one)) == {"changed": [False]}
    assert len(identity(steward, one)["link"]) == 1


def answers(people: People, practice: Client, steward: Client, family: str, keys: list[str]) -> dict[str, Any]:
    """What the exchange says of two records of one source and their person."""
    found: dict[str, Any] = {
        "read": [practice.get(f"Patient/{key}").json for key in keys],
        "search": practice.get(f"Patient?birthdate={born(family)}&family={family}").json,
        "by identifier": practice.get(f"Patient?identifier={A}|{family}-1").json,
        "pix": [cross_referenced(practice, f"{A}|{family}-{n}") for n in (1, 2)],
        "clinical": [sorted(found_in(practice, f"Observation?patient={key}")) for key in keys],
        "match": practice.post(
            "Patient/$match",
            {
                "resourceType": "Parameters",
                "parameter": [{"name": "resource", "resource": patient(B, "x", **home(family=family))}],
            },
        ).json,
        "person": [members(steward, key) for key in keys],
    }
    return {name: without_version(content) for name, content in found.items()}


def found_in(client: Client, place: str) -> list[str]:
    return [entry["resource"]["id"] for entry in client.get(place).json.get("entry", [])]


def without_version(content: Any) -> Any:
    """The content without what tells versions apart."""
    if isinstance(content, list):
        return [without_version(each) for each in content]
    if isinstance(content, dict):
        return {name: without_version(value) for name, value in content.items() if name not in ("meta", "versionId")}
    return content


@pytest.mark.parametrize(
    ("family", "second"),
    [("MAURIN", {}), ("LANGLOIS", {"born": "1967-04-21", "given": "Odette", "address": [{"city": "Ailleurs"}]})],
    ids=["linked-before", "strangers-before"],
)
def test_a_merge_that_is_undone_leaves_no_trace_in_answers(
    people: People, steward: Client, practice: Client, family: str, second: dict[str, Any]
) -> None:
    source = people.put("a", f"{family}-1", family=family)
    target = people.put("a", f"{family}-2", family=family, **second)
    laboratory = people.exchange.client("laboratory")
    for key in (source, target):
        assert laboratory.post("Observation", examples.observation(key)).status == 201
    before = answers(people, practice, steward, family, [source, target])

    merged = parts(act(steward, "merge", source_patient=source, target_patient=target))
    assert sorted(merged["record"]) == sorted([source, target])
    during = answers(people, practice, steward, family, [source, target])
    (replaced,) = during["read"][0]["link"]
    assert (replaced["type"], replaced["other"]["reference"]) == ("replaced-by", f"Patient/{target}")
    assert during["read"][0]["active"] is False
    assert during["clinical"][0] == during["clinical"][1] != []
    assert during["pix"][0] == []
    states = {each["reference"][0]: each for each in identity(steward, source)["record"]}
    assert states[source]["replaced-by"] == [target]
    assert refusal(act(steward, "merge", source_patient=source, target_patient=target)) == (409, "conflict")
    assert refusal(act(steward, "unlink", patient=source)) == (409, "conflict")

    parts(act(steward, "unmerge", patient=source))
    assert answers(people, practice, steward, family, [source, target]) == before
    assert practice.get(f"Patient/{source}").header("ETag") == 'W/"3"'
    assert practice.get(f"Patient/{target}").header("ETag") == 'W/"1"'
    kinds = [each["kind"][0] for each in identity(steward, source)["history"]]
    assert kinds[-2:] == ["merged", "unmerged"]
    assert refusal(act(steward, "unmerge", patient=source)) == (409, "conflict")


def test_a_question_about_a_record_that_is_merged_waits(people: People, steward: Client) -> None:
    at_a, at_b = people.doubtful("LACOSTE")
    other = people.put("a", "l3", family="LUMET")
    review = open_review(steward, at_a, at_b)
    parts(act(steward, "merge", source_patient=at_a, target_patient=other))
    assert reviews(steward, "open", at_a, at_b) == []
    assert refusal(decide(steward, review, "same")) == (409, "conflict")
    parts(act(steward, "unmerge", patient=at_a))
    assert open_review(steward, at_a, at_b) == review


def test_records_of_two_sources_are_not_merged(people: People, steward: Client) -> None:
    one, two = people.put("a", "k1", family="KELLER"), people.put("b", "k2", family="KERVELLA")
    before = stored(people.exchange)
    assert refusal(act(steward, "merge", source_patient=one, target_patient=two)) == (422, "business-rule")
    assert refusal(act(steward, "link", first=one, second=one)) == (422, "business-rule")
    assert refusal(act(steward, "unlink", patient=one)) == (409, "conflict")
    assert refusal(act(steward, "unmerge", patient=one)) == (409, "conflict")
    assert refusal(act(steward, "unlink", patient=one, reason=" ")) == (422, "required")
    assert refusal(act(steward, "unlink", patient=one, reason="x" * 1001)) == (422, "value")
    assert stored(people.exchange) == before


def test_ins_10_stewards_do_not_join_two_national_identifiers(people: People, steward: Client) -> None:
    """Twins, who share nearly all, and each with an identifier of their own."""
    hospital = people.exchange.client("hospital-a")
    twins = [examples.patient(number) for number in (11, 12)]
    hugo, lea = (hospital.put(f"Patient?identifier={A}|{local}", content).json["id"] for local, content in twins)
    provisional = people.put("b", "j1", family="JOUBERT")
    parts(act(steward, "link", first=provisional, second=lea))
    before = stored(people.exchange)
    for first, second in ((hugo, lea), (lea, hugo), (hugo, provisional)):
        assert refusal(act(steward, "link", first=first, second=second)) == (409, "business-rule")
    assert refusal(act(steward, "merge", source_patient=hugo, target_patient=lea)) == (409, "business-rule")
    assert stored(people.exchange) == before


def test_records_with_the_same_national_identifier_stay_together(people: People, steward: Client) -> None:
    keys = []
    for hospital, domain in (("a", A), ("b", B)):
        local, content = examples.patient(8, domain=domain)
        client = people.exchange.client(f"hospital-{hospital}")
        keys.append(client.put(f"Patient?identifier={domain}|{local}", content).json["id"])
    assert members(steward, keys[0]) == sorted(keys)
    assert refusal(act(steward, "unlink", patient=keys[0])) == (409, "business-rule")


# --- what is kept, who is told ----------------------------------------------------------------------------------------


def test_every_source_is_told_without_a_word_of_anybody(
    people: People, steward: Client, caplog: pytest.LogCaptureFixture
) -> None:
    at_a, at_b = people.doubtful("IMBERT")
    review = open_review(steward, at_a, at_b)
    known = {item["SK"]["S"] for item in outbox(people.exchange)}
    with caplog.at_level(logging.INFO):
        caplog.clear()
        parts(decide(steward, review, "same"))
        parts(act(steward, "unlink", patient=at_a))
        decide(steward, review, "different")
        logged = str([vars(record) for record in caplog.records if record.name.startswith("passerelle")])
    assert "$decide" in logged
    announced = [item for item in outbox(people.exchange) if item["SK"]["S"] not in known]
    assert len(announced) == 2
    for item in announced:
        events = [each["M"] for each in item["events"]["L"]]
        assert sorted(each["reference"]["S"] for each in events) == sorted([f"Patient/{at_a}", f"Patient/{at_b}"])
        assert {each["name"]["S"] for each in events} == {"links-changed"}
    for text in (json.dumps(announced), logged):
        for word in (REASON, "identity card", "IMBERT", "Odil", born("IMBERT")):
            assert word not in text
    assert at_a not in logged
    stored_keys = [f"{item['PK']['S']} {item['SK']['S']}" for item in people.exchange.table("patients")]
    assert not any(word in key for key in stored_keys for word in ("IMBERT", "Imbert", born("IMBERT")))


def outbox(exchange: Exchange) -> list[dict[str, Any]]:
    return [item for item in exchange.table("clinical") if item["PK"]["S"].startswith("O#")]


def test_a_decision_is_recorded_for_everybody_whom_it_concerns(people: People, steward: Client) -> None:
    at_a, at_b = people.doubtful("HAMON")
    decide(steward, open_review(steward, at_a, at_b), "later")
    parts(act(steward, "link", first=at_a, second=at_b))
    parts(act(steward, "unlink", patient=at_a))
    for key in (at_a, at_b):
        records = [item for item in people.exchange.table("audit") if item.get("patient", {}).get("S") == key]
        done = [item["name"]["S"] for item in records if item["client_id"]["S"] == "steward"]
        assert {"$decide", "$link", "$unlink"} <= set(done)
        assert REASON not in str(records)


def test_the_same_command_again_is_answered_again_and_done_once(people: People, steward: Client) -> None:
    at_a, at_b = people.doubtful("GUILLOT")
    review = open_review(steward, at_a, at_b)
    again = {"Idempotency_Key": "guillot-1"}
    first, repeated = (decide(steward, review, "same", headers=again) for _ in range(2))
    assert (first.status, repeated.status, repeated.body) == (200, 200, first.body)
    assert len(identity(steward, at_a)["history"]) == 1
    assert refusal(decide(steward, review, "different", headers=again)) == (422, "business-rule")


def test_pages_of_the_worklist(people: People, steward: Client) -> None:
    for number in range(3):
        people.doubtful(f"FABRE{'XYZ'[number]}")
    whole = [each["id"][0] for each in parts(steward.get("Patient/$reviews?_count=200"))["review"]]
    assert len(whole) >= 3
    assert whole == sorted(whole)  # the oldest first
    collected: list[str] = []
    place = "Patient/$reviews?_count=2"
    while place:
        page = parts(steward.get(place))
        assert len(page["review"]) <= 2
        collected += [each["id"][0] for each in page["review"]]
        place = page["next"][0].partition("/fhir/")[2] if "next" in page else ""
    assert collected == whole
    link = parts(steward.get("Patient/$reviews?_count=2"))["next"][0].partition("/fhir/")[2]
    assert steward.get(link.replace("status=open", "status=later")).status == 404
    cursor = link.partition("_cursor=")[2]
    assert steward.get(f"Patient/$reviews?_cursor={cursor[:-6]}AAAAAA").status == 404


# --- who may, and what is refused -------------------------------------------------------------------------------------

OPERATIONS: Mapping[str, Callable[[Client, str], Any]] = {
    "reviews": lambda client, key: client.get("Patient/$reviews"),
    "review": lambda client, key: client.get("Patient/$reviews?review=01m815gzcvp4ts58qnmfpr078w"),
    "identity": lambda client, key: client.get(f"Patient/{key}/$identity"),
    "decide": lambda client, key: decide(client, "01m815gzcvp4ts58qnmfpr078w", "same"),
    "link": lambda client, key: act(client, "link", first=key, second="1" * 16),
    "unlink": lambda client, key: act(client, "unlink", patient=key),
    "merge": lambda client, key: act(client, "merge", source_patient=key, target_patient="1" * 16),
    "unmerge": lambda client, key: act(client, "unmerge", patient=key),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("client", ["hospital-a", "nurse", "patient-1", "auditor"])
def test_nobody_else_decides(exchange: Exchange, operation: str, client: str) -> None:
    assert refusal(OPERATIONS[operation](exchange.client(client), NOBODY)) == (403, "forbidden")


@pytest.mark.parametrize("operation", ["decide", "link", "unlink", "merge", "unmerge"])
def test_a_steward_who_may_only_look(exchange: Exchange, operation: str) -> None:
    assert refusal(OPERATIONS[operation](exchange.client("steward", "system/Patient.r"), NOBODY)) == (403, "forbidden")


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name != "reviews"])
def test_what_is_unknown(steward: Client, operation: str) -> None:
    assert refusal(OPERATIONS[operation](steward, NOBODY)) == (404, "not-found")


@pytest.mark.parametrize("id", ["unknown", "x" * 2000], ids=["no-key", "endless"])
def test_ids_that_cannot_be(steward: Client, id: str) -> None:
    reason = {"name": "reason", "valueString": REASON}
    patients = [reference("first", f"Patient/{id}"), reference("second", f"Patient/{NOBODY}")]
    review = [{"name": "review", "valueString": id}, {"name": "decision", "valueString": "same"}]
    for answer in (
        steward.get(f"Patient/{id}/$identity"),
        steward.get(f"Patient/$reviews?review={id}"),
        steward.post("Patient/$link", {"resourceType": "Parameters", "parameter": [*patients, reason]}),
        steward.post("Patient/$decide", {"resourceType": "Parameters", "parameter": [*review, reason]}),
    ):
        assert refusal(answer) == (404, "not-found")


def reference(name: str, target: str) -> dict[str, Any]:
    return {"name": name, "valueReference": {"reference": target}}


MALFORMED: Mapping[str, tuple[str, Any, str, str | None]] = {
    "no-parameters": ("link", {"resourceType": "Patient"}, "structure", "Parameters"),
    "a-list": ("link", [], "structure", "Parameters"),
    "no-reason": (
        "unlink",
        {"resourceType": "Parameters", "parameter": [reference("patient", f"Patient/{NOBODY}")]},
        "required",
        "Parameters.parameter",
    ),
    "nothing": ("merge", {"resourceType": "Parameters"}, "required", "Parameters.parameter"),
    "twice": (
        "unmerge",
        {"resourceType": "Parameters", "parameter": [reference("patient", f"Patient/{NOBODY}")] * 2},
        "not-supported",
        "Parameters.parameter[1]",
    ),
    "another": ("decide", parameters(colour="crimson"), "not-supported", "Parameters.parameter[0]"),
    "another-answer": (
        "decide",
        parameters(review="01m815gzcvp4ts58qnmfpr078w", decision="moot", reason=REASON),
        "code-invalid",
        "Parameters.parameter[1].value",
    ),
    "no-text": (
        "decide",
        {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "review", "valueInteger": 1},
                {"name": "decision", "valueCode": "same"},
                {"name": "reason", "valueString": REASON},
            ],
        },
        "value",
        "Parameters.parameter[0].value",
    ),
    "another-type": (
        "link",
        {
            "resourceType": "Parameters",
            "parameter": [
                reference("first", f"Patient/{NOBODY}"),
                reference("second", f"Observation/{NOBODY}"),
                {"name": "reason", "valueString": REASON},
            ],
        },
        "value",
        "Parameters.parameter[1].value",
    ),
    "another-server": (
        "unlink",
        {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "reason", "valueString": REASON},
                reference("patient", f"https://elsewhere.example/fhir/Patient/{NOBODY}"),
            ],
        },
        "value",
        "Parameters.parameter[1].value",
    ),
    "no-reference": (
        "unlink",
        {
            "resourceType": "Parameters",
            "parameter": [{"name": "patient", "valueReference": "x"}, {"name": "reason", "valueString": REASON}],
        },
        "value",
        "Parameters.parameter[0].value",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(steward: Client, case: str) -> None:
    operation, body, code, expression = MALFORMED[case]
    answer = steward.post(f"Patient/${operation}", body)
    (issue,) = answer.json["issue"]
    assert (answer.status, issue["code"], issue.get("expression")) == (400, code, [expression])
    assert not any(word in answer.body.decode() for word in ("crimson", REASON, "elsewhere"))


def test_what_is_malformed_leaves_nothing(exchange: Exchange, steward: Client) -> None:
    before = stored(exchange)
    for operation, body, _, _ in MALFORMED.values():
        assert steward.post(f"Patient/${operation}", body).status == 400
    assert stored(exchange) == before


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("status=done", "code-invalid"),
        ("_count=0", "value"),
        ("_count=many", "value"),
        ("colour=red", "not-supported"),
        ("status=open&status=later", "not-supported"),
        ("review=01m815gzcvp4ts58qnmfpr078w&status=open", "not-supported"),
    ],
)
def test_malformed_queries(steward: Client, query: str, code: str) -> None:
    assert refusal(steward.get(f"Patient/$reviews?{query}")) == (400, code)


def test_references_by_url(exchange: Exchange, people: People, steward: Client) -> None:
    one, two = people.put("a", "e1", family="ESCOFFIER"), people.put("b", "e2", family="EVRARD")
    base = parts(steward.get("Patient/$reviews?_count=1")).get("next", ["http://127.0.0.1:8000/fhir/"])[0]
    root = base.partition("/fhir/")[0] + "/fhir"
    body = parameters(reason=REASON)
    body["parameter"] += [reference("first", f"{root}/Patient/{one}"), reference("second", f"Patient/{two}")]
    assert sorted(parts(steward.post("Patient/$link", body))["record"]) == sorted([one, two])


def test_a_steward_sees_no_clinical_data(exchange: Exchange, people: People) -> None:
    key = people.put("a", "d1", family="DELMAS")
    assert exchange.client("laboratory").post("Observation", examples.observation(key)).status == 201
    steward = exchange.client("steward")
    for place in (f"Patient/{key}", f"Patient/{key}/$everything", f"Patient/{key}/$summary", f"Patient/{key}/_history"):
        assert steward.get(place).status == 404, place
    assert refusal(steward.get(f"Observation?patient={key}")) == (403, "forbidden")
    registered = wiring.clients().find("steward")
    assert registered is not None
    wiring.clients().register(replace(registered, scopes=Scopes.parse("system/*.rs")))
    try:  # the role decides, however wide the scope is
        wide = exchange.client("steward", "system/*.rs")
        found = wide.get(f"Observation?patient={key}")
        assert (found.status, found.json["total"]) == (200, 0)
        assert wide.get(f"Patient?identifier={A}|d1").json["total"] == 0
        assert wide.get(f"Patient/{key}/$everything").status == 404
    finally:
        wiring.clients().register(registered)
