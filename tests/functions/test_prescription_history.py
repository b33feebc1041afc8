"""`$history` over HTTP: who reads it, and whether whoever has the answer alone can verify it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import rfc8785

from passerelle import wiring
from passerelle.access import Caller
from passerelle.directory.model import Role
from passerelle.records.model import ResourceKey
from tests.prescribing import OTHER_PRACTICE, PATIENT, PHARMACY_A, PHARMACY_B, PRACTICE, bundle, region
from tests.prescribing_http import Answer, Api, parameters, supply

AUDITOR = replace(PRACTICE, client_id="auditor", organisation="1990000094", role=Role.AUDITOR, professional=None)
Json = dict[str, Any]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with region() as made:
        yield Api(made)


@pytest.fixture(scope="module")
def life(api: Api) -> str:
    """Signed, tried in vain, claimed and given back by one pharmacy, half supplied by another."""
    id, code = api.issued()
    api.call(f"/Task/{id}/$accept", parameters(accessCode="wrong"), by=PHARMACY_B)
    claim = api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_A)
    api.call(f"/Task/{id}/$reject", parameters(secret=claim.told("secret"), reason="out-of-stock"), by=PHARMACY_A)
    claim = api.call(f"/Task/{id}/$accept", parameters(accessCode=code), by=PHARMACY_B)
    assert api.call(f"/Task/{id}-01/$dispense", supply(claim.told("secret"), 45), by=PHARMACY_B).status == 200
    return id


def history(api: Api, id: str, by: Caller = PRACTICE) -> Answer:
    return api.read(f"/Task/{id}/$history", by=by)


# --- what a client does with the answer alone: also in docs/prescriptions.md ----------------------------------------


def links(answer: Json) -> list[Json]:
    """The proofs of the changes, in order."""
    resources = [entry["resource"] for entry in answer["entry"]]
    found = [each for r in resources for each in r.get("extension", []) if each["url"].endswith("/rx-event")]
    return [
        {part["url"]: next(v for k, v in part.items() if k != "url") for part in each["extension"]} for each in found
    ]


def verified(origin: str, head: str, chain: list[Json]) -> bool:
    previous = origin
    for link in chain:
        event = base64.b64decode(link["event"])
        if rfc8785.dumps(json.loads(event)) != event or link["previous"] != previous:
            return False
        if "disclosure" in link:
            told = hashlib.sha256(base64.b64decode(link["disclosure"])).hexdigest()
            if json.loads(event)["actor"] != told:
                return False
        previous = hashlib.sha256(bytes.fromhex(previous) + event).hexdigest()
        if previous != link["hash"]:
            return False
    return previous == head


def test_row_history_the_answer_proves_itself(api: Api, life: str) -> None:
    answer = history(api, life, PATIENT)
    assert (answer.status, answer.body["type"]) == (200, "collection")
    chain = links(answer.body)
    assert verified(answer.told("origin"), answer.told("head"), chain)
    assert len(chain) == answer.told("events") == 6
    assert answer.told("unbroken") is True
    events = [json.loads(base64.b64decode(each["event"])) for each in chain]
    operations = ["$create", "$activate", "$accept", "$reject", "$accept", "$dispense"]
    assert [each["operation"] for each in events] == operations
    assert [each["number"] for each in events] == [1, 2, 3, 4, 5, 6]
    assert events[-1]["moves"] == ["1:C>P"]
    codes = [each["activity"]["coding"][0]["code"] for each in answer.resources("Provenance") if "activity" in each]
    assert codes == [each.removeprefix("$") for each in operations]


def test_row_history_what_was_signed_and_supplied_is_part_of_it(api: Api, life: str) -> None:
    answer = history(api, life)
    events = [json.loads(base64.b64decode(each["event"])) for each in links(answer.body)]
    (binary,) = answer.resources("Binary")
    signed = base64.b64decode(binary["data"])
    assert events[1]["bound"] == {"content": hashlib.sha256(signed).hexdigest()}
    reference = api.read(f"/Task/{life}-01").body["output"][0]["valueReference"]["reference"]
    key = ResourceKey.of("MedicationDispense", reference.partition("/")[2])
    stored = wiring.record_store().find_latest(key) if key else None
    assert stored is not None
    assert events[5]["bound"] == {"dispense": hashlib.sha256(stored.body or b"").hexdigest()}


CHANGES: dict[str, Callable[[list[Json]], list[Json]]] = {
    "left-out": lambda chain: [*chain[:2], *chain[3:]],
    "the-first-left-out": lambda chain: chain[1:],
    "the-last-left-out": lambda chain: chain[:-1],
    "two-exchanged": lambda chain: [chain[0], chain[2], chain[1], *chain[3:]],
    "put-in-twice": lambda chain: [*chain[:3], chain[2], *chain[3:]],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_row_history_an_event_moved_is_seen(api: Api, life: str, change: Callable[[list[Json]], list[Json]]) -> None:
    answer = history(api, life, PATIENT)
    assert not verified(answer.told("origin"), answer.told("head"), change(links(answer.body)))


def test_row_history_an_event_changed_is_seen(api: Api, life: str) -> None:
    answer = history(api, life, PATIENT)
    origin, head = answer.told("origin"), answer.told("head")
    for number in range(6):
        for member, value in (("at", "2020-01-01T00:00:00+00:00"), ("moves", []), ("bound", {}), ("actor", "0" * 64)):
            chain = links(answer.body)
            event = json.loads(base64.b64decode(chain[number]["event"]))
            if event[member] == value:
                continue
            forged = rfc8785.dumps({**event, member: value})
            chain[number]["event"] = base64.b64encode(forged).decode()
            assert not verified(origin, head, chain)
            # Whoever changes the hashes that follow as well ends at another head.
            for link, following in zip(chain[number:], [*chain[number + 1 :], None], strict=True):
                content = bytes.fromhex(link["previous"]) + base64.b64decode(link["event"])
                link["hash"] = hashlib.sha256(content).hexdigest()
                if following is not None:
                    following["previous"] = link["hash"]
            assert not verified(origin, head, chain)


def test_row_history_the_verifiable_log_has_the_head(api: Api, life: str) -> None:
    """The audit record of each change holds the head it made: the log, whose epochs are signed, anchors the chain."""
    answer = history(api, life, PATIENT)
    entities = [entity for each in answer.resources("AuditEvent") for entity in each["entity"]]
    details = [each for entity in entities for each in entity.get("detail", []) if each["type"] == "sha256"]
    heads = {base64.b64decode(each["valueBase64Binary"]).hex() for each in details}
    assert heads >= {link["hash"] for link in links(answer.body)}


def test_row_history_reads_and_refusals_are_in_it(api: Api, life: str) -> None:
    api.read(f"/Task/{life}", by=PHARMACY_B)
    accesses = history(api, life, PATIENT).resources("AuditEvent")
    told = [(each["subtype"][0]["code"], each["outcome"]) for each in accesses]
    assert ("operation", "4") in told
    assert ("read", "0") in told
    assert [each["recorded"] for each in accesses] == sorted(each["recorded"] for each in accesses)
    for each in accesses:
        assert wiring.trail().find(each["id"]) is not None  # what `AuditEvent/{id}/$proof` is about


def test_row_history_of_accesses_care_reads_its_own(api: Api, life: str) -> None:
    """The rules of the access log: professionals the own actions, patients and auditors all."""
    accesses = history(api, life, PHARMACY_B).resources("AuditEvent")
    assert accesses
    assert PHARMACY_A.organisation not in json.dumps(accesses)


def test_row_history_a_pharmacy_does_not_learn_who_else_held_it(api: Api, life: str) -> None:
    answer = history(api, life, PHARMACY_B)
    assert verified(answer.told("origin"), answer.told("head"), links(answer.body))
    assert PHARMACY_A.organisation not in json.dumps(answer.body)
    disclosures = [base64.b64decode(each["disclosure"]) for each in links(answer.body) if "disclosure" in each]
    assert not any(PHARMACY_A.organisation.encode() in each for each in disclosures)
    assert sum(PHARMACY_B.organisation.encode() in each for each in disclosures) == 2
    assert ["disclosure" in each for each in links(answer.body)] == [True, True, False, False, True, True]


@pytest.mark.parametrize("by", [PRACTICE, PATIENT, PHARMACY_A, PHARMACY_B, AUDITOR], ids=lambda each: each.client_id)
def test_row_history_is_for_those_concerned(api: Api, life: str, by: Caller) -> None:
    answer = api.call(f"/Task/{life}/$history", by=by, key=None)
    assert answer.status == 200
    # An auditor verifies who did what, not what a patient takes.
    assert bool(answer.resources("Binary")) == (by is not AUDITOR)


def test_row_history_is_not_for_others(api: Api) -> None:
    id, _ = api.issued()
    for by in (OTHER_PRACTICE, PHARMACY_A, replace(PHARMACY_A, role=Role.LABORATORY)):
        assert history(api, id, by).code[0] in (403, 404)
    assert history(api, id, OTHER_PRACTICE).code == (404, "RX-NOT-FOUND")
    assert history(api, id, PHARMACY_A).code == (404, "RX-NOT-FOUND")
    assert history(api, f"{id}-01").code == (400, "RX-INVALID")
    assert history(api, "unknown").code == (404, "RX-NOT-FOUND")


def test_row_history_k_a_cancelled_one_is_not_gone(api: Api) -> None:
    id, _ = api.issued()
    assert api.call(f"/Task/{id}/$cancel", parameters(reason="prescribing-error")).status == 200
    answer = history(api, id)
    assert answer.status == 200
    assert verified(answer.told("origin"), answer.told("head"), links(answer.body))


def test_row_history_d_a_draft_has_one(api: Api) -> None:
    created = api.call("/Task/$create", bundle(api.order()))
    answer = history(api, created.resources("Task")[0]["id"])
    assert (answer.status, answer.told("events")) == (200, 1)
    assert not answer.resources("Binary")
