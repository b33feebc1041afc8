"""What the patient index costs: round trips before the answer, and read units however many people there are.

The ceilings are those of the design, audit included, counted by the rules DynamoDB bills by; the authorizer's own
look-up is apart. A look-up is one round trip of one Query for each block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from moto.dynamodb.models import dynamodb_backends

from local.gateway import Response
from passerelle import wiring
from passerelle.aws.dynamodb import Meter, measure
from passerelle.aws.journal import actions_of
from passerelle.aws.patients import BLOCK_LIMIT
from passerelle.fhir.identity import traits_of
from passerelle.identifiers import new_patient_key
from passerelle.matching.blocking import Block, blocks_of, blocks_to_search
from passerelle.matching.record import MatchRecord
from passerelle.patients.identity import match_record
from passerelle.patients.model import Listing, Place, SourceRecordChange, Traits
from tests import examples, sources
from tests.exchange import Exchange
from tests.functions.test_record_costs import AUTHORIZER, in_wire
from tests.functions.test_stewardship import People, act, decide, open_review

A, B = examples.DOMAIN, "urn:oid:2.999.2"
CROWD = 150  # records in one block
ADDRESS = [{"line": ["4 rue Neuve"], "city": "Rivières", "postalCode": "00100"}]
PHONE = [{"system": "phone", "value": "0612345678"}]


class Spending:
    """Attempts with what they cost, the authorizer left out."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.clients = {A: exchange.client("hospital-a"), B: exchange.client("hospital-b")}
        self.practice, self.steward = exchange.client("practice"), exchange.client("steward")

    def of(self, attempt: Callable[[], Response]) -> Meter:
        with measure() as spent:
            answer = attempt()
        assert answer.status in (200, 201), answer.body
        spent.round_trips -= AUTHORIZER
        spent.read_units -= AUTHORIZER
        return spent

    def put(self, domain: str, local: str, **traits: Any) -> Response:
        place = f"Patient?identifier={domain}|{local}"
        return self.clients[domain].put(place, sources.patient(domain, local, **traits))

    def match(self, **traits: Any) -> Response:
        return self.practice.post("Patient/$match", asked(**traits))


def asked(**traits: Any) -> dict[str, Any]:
    """Traits without what a source knows them by."""
    content = sources.patient(A, "-", **traits)
    return {name: value for name, value in content.items() if name not in ("identifier", "active")}


@pytest.fixture(scope="module")
def spending(exchange: Exchange) -> Spending:
    made = Spending(exchange)
    for domain in (A, B):  # what is read once a process
        assert made.put(domain, "warm", **sources.newcomer("warm")).status == 201
    assert made.match(**sources.newcomer("warm")).status == 200
    assert made.steward.get("Patient/$reviews").status == 200
    return made


def test_round_trips_before_the_answer(spending: Spending) -> None:
    """Each is a moment that a registration desk waits: none may come back unnoticed."""
    put, traits = spending.put, sources.newcomer("costs")
    moved = {**traits, "address": ADDRESS, "telecom": PHONE}
    costs: dict[str, tuple[int, Callable[[], Response]]] = {
        # Who owns the identifier; who it may be; the commit.
        "newcomer": (3, lambda: put(A, "1", **traits)),
        # Who owns it, what is stored; the access record.
        "same content": (3, lambda: put(A, "1", **traits)),
        "changed address": (4, lambda: put(A, "1", **moved)),
        "not compared": (3, lambda: put(A, "1", **moved, maritalStatus={"text": "inconnu"})),
        # The persons of those who come near.
        "known elsewhere": (4, lambda: put(B, "1", **moved)),
        "doubtful": (4, lambda: put(B, "2", **moved, gender="male")),
        "another newcomer": (3, lambda: put(A, "2", **sources.newcomer("costs-2"), address=ADDRESS)),
        # Whether there is a survivor, what it is, and its person.
        "merge": (6, lambda: put(A, "2", **sources.newcomer("costs-2"), replaced_by="1")),
        "remove": (3, lambda: spending.clients[B].request("DELETE", f"Patient?identifier={B}|2")),
    }
    found = {name: spending.of(attempt).round_trips for name, (_, attempt) in costs.items()}
    assert found == {name: ceiling for name, (ceiling, _) in costs.items()}


def test_round_trips_of_consumers_and_stewards(spending: Spending) -> None:
    steward, traits = spending.steward, sources.newcomer("reads")
    key = spending.put(A, "11", **traits).json["id"]
    assert spending.put(B, "11", **traits, address=ADDRESS, telecom=PHONE).status == 201
    one, other = People(spending.exchange).doubtful("SOBRIER")
    review = open_review(steward, one, other)
    costs: dict[str, tuple[int, Callable[[], Response]]] = {
        # Whose identifier, who that is; the access record.
        "cross-reference": (3, lambda: spending.practice.get(f"Patient/$ihe-pix?sourceIdentifier={A}|11")),
        "cross-reference of an id": (
            2,
            lambda: spending.practice.get(
                f"Patient/$ihe-pix?sourceIdentifier=http://127.0.0.1:8000/fhir|Patient/{key}"
            ),
        ),
        # The first blocks; persons and bodies; the access record.
        "match": (3, lambda: spending.match(**traits)),
        # The other blocks, too, where nobody stands out.
        "match of a doubtful": (4, lambda: spending.match(**{**traits, "family": "LEGRAND"}, telecom=PHONE)),
        "match of nobody": (3, lambda: spending.match(**sources.newcomer("nobody"), address=ADDRESS)),
        "worklist": (2, lambda: steward.get("Patient/$reviews")),
        "review": (3, lambda: steward.get(f"Patient/$reviews?review={review}")),
        "record": (2, lambda: steward.get(f"Patient/{one}/$identity")),
        # The review, one record, the other, questions between all that they are linked to; the commit.
        "decide": (5, lambda: decide(steward, review, "same")),
        "unlink": (3, lambda: act(steward, "unlink", patient=other)),
        "link": (4, lambda: act(steward, "link", first=one, second=other)),
    }
    found = {name: spending.of(attempt).round_trips for name, (_, attempt) in costs.items()}
    assert found == {name: ceiling for name, (ceiling, _) in costs.items()}


def test_read_units_of_who_has_every_trait(spending: Spending) -> None:
    """A look-up reads one unit for each block, of which a record has about twenty."""
    traits = {**sources.newcomer("units"), "address": ADDRESS, "telecom": [{"system": "phone", "value": "0698765432"}]}
    registered = spending.of(lambda: spending.put(A, "21", **traits))
    assert registered.read_units <= 24, dict(registered.read_units_of)
    assert registered.write_units <= 66
    found = spending.of(lambda: spending.match(**traits))
    assert found.read_units <= 10, dict(found.read_units_of)
    nobody = spending.of(lambda: spending.match(**{**sources.newcomer("units-2"), "address": ADDRESS}))
    assert nobody.read_units <= 20, dict(nobody.read_units_of)
    crossed = spending.of(lambda: spending.practice.get(f"Patient/$ihe-pix?sourceIdentifier={A}|21"))
    assert crossed.read_units <= 2


# --- a block that is too full ---------------------------------------------------------------------------------------

FAMILY: dict[str, Any] = {"family": "DURAND", "born": "1968-05-05", "place": "99100", "gender": "male"}


def record_of(**traits: Any) -> tuple[Traits, MatchRecord]:
    found = traits_of(sources.patient(A, "-", **traits), wiring.identity_scheme())
    return found, match_record(found)


@pytest.fixture(scope="module")
def crowd(exchange: Exchange) -> Block:
    """The block of many of one family name, born the same day, as commits would have left it."""
    tables = wiring.table_names()
    table = dynamodb_backends[exchange.stack.account][exchange.stack.region].tables[tables.patients]
    (block,) = [each for each in blocks_of(record_of(**FAMILY)[1]) if each.namespace == "ND"]
    ((page,), _) = wiring.patient_index().look_up([block], None)
    for number in range(CROWD):
        traits, record = record_of(**{**FAMILY, "given": f"Prosper{chr(65 + number // 26)}{chr(65 + number % 26)}"})
        assert block in blocks_of(record)
        listing = Listing(traits=traits, record=record, places=(Place(key=page.place.key, slot=number + 1),))
        change = SourceRecordChange(
            patient=new_patient_key(), domain_identifier=None, before=None, after=listing, at=sources.AT
        )
        for action in actions_of(change, tables):  # straight into the emulator: a call for each would take long
            table.put_item(in_wire(action.request["Item"]))
    return block


def test_a_block_is_read_as_far_as_people_are_compared(crowd: Block) -> None:
    with measure() as spent:
        ((page,), _) = wiring.patient_index().look_up([crowd], None)
    assert (page.is_full, len(page.entries), page.place.slot) == (True, BLOCK_LIMIT + 1, CROWD + 1)
    assert spent.calls == ["Query"]
    assert spent.read_units <= 8
    assert len(wiring.resolver().look_up([crowd]).records()) == BLOCK_LIMIT + 1  # nobody else: better than nothing


def test_who_is_in_a_crowd_is_found_by_other_traits(spending: Spending, crowd: Block) -> None:
    """The full block costs its read and nothing more: nobody in it is compared, and whoever asks is told so."""
    traits = {**FAMILY, "given": "Anatole", "place": "31555", "gender": "female"}
    registered = spending.of(lambda: spending.put(A, "31", **traits))
    assert registered.round_trips == 3
    key = spending.put(A, "31", **traits).json["id"]
    look_up = wiring.resolver().look_up(blocks_to_search(record_of(**traits)[1]))
    assert look_up.is_crowded
    assert look_up.records().keys() == {key}
    known = spending.of(lambda: spending.put(B, "31", **traits))
    assert (known.round_trips, known.read_units <= 16) == (4, True), dict(known.read_units_of)
    answer = spending.match(**traits)
    assert [each["search"]["mode"] for each in answer.json["entry"]] == ["match", "outcome"]
    (issue,) = answer.json["entry"][1]["resource"]["issue"]
    assert (issue["severity"], "too large" in issue["diagnostics"]) == ("warning", True)
    assert spending.of(lambda: spending.match(**traits)).read_units <= 13
