"""What trust costs: AWS round trips before the answer, and capacity units, the access record included.

Frozen. The ceilings are those of the design: read 2, search 3, create 2, content 3 before the first byte. The policy of
a person lies beside the source record that is asked for: one read of it per patient and request, however much it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from local.exchange import ExchangeClient
from local.gateway import Response
from passerelle import wiring
from passerelle.aws.dynamodb import measure
from passerelle.consents.model import Basis, Relation
from passerelle.consents.terms import Effect, Provision, Scope, Terms
from passerelle.patients.model import PersonChange
from tests import contents, examples
from tests.exchange import KEYS, URL, Client, Exchange
from tests.functions.test_break_glass import broken
from tests.functions.test_control import order, patient_of
from tests.functions.test_patients import register
from tests.journeys.test_trust_crashes import admission_to, consent_against, team_of
from tests.record import commit
from tests.somebody import Somebody

PARTY = {"system": "urn:oid:1.2.250.1.71.4.2.2", "value": "1990000210"}
READS = ("GetItem", "BatchGetItem", "Query", "GetObject")
EXPLAIN = 6
AUTHORIZER = 1  # round trips, and read units: whether the token is good still


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    exchange: Exchange
    key: str
    observation: str
    binary: str

    @property
    def patient(self) -> Somebody:
        return patient_of(self.exchange, 1)


@pytest.fixture(scope="module")
def world(exchange: Exchange) -> World:
    """A record with twenty results, a document, a consent of twenty provisions, and five relations."""
    hospital = exchange.client("hospital-a")
    key = str(register(hospital, 1).json["id"])
    made = [hospital.post("Observation", examples.observation(key)).json["id"] for _ in range(20)]
    binary = contents.published(hospital, key, contents.pdf(3_000))
    before = wiring.patient_index().find_person(key)
    assert before is not None
    since = datetime.now(UTC) - timedelta(days=1)
    parties = ("1990000037", "1990000078", "1990000201", "1990000202", "1990000203")
    relations = tuple(Relation(party=each, basis=Basis.AUTHORISATION, since=since) for each in parties)
    provisions = tuple(
        Provision(
            effect=Effect.DENY, scope=Scope(actors=(frozenset({f"19900003{number:02}"}),), labels=frozenset({"ETH"}))
        )
        for number in range(20)
    )
    terms = Terms(id=f"Consent/{key}-{'0' * 26}", effect=Effect.PERMIT, provisions=provisions)
    policy = replace(before.policy, relations=relations, consents=(terms,))
    records = tuple(replace(each, policy=policy) for each in before.records)
    commit(PersonChange(before=before, after=replace(before, records=records, revision=before.revision + 1)))
    return World(exchange=exchange, key=key, observation=made[0], binary=binary)


def podologist(world: World) -> Somebody:
    who = {"organisation": "1990000201", "professional": "810000000201", "profession": "80"}
    return Somebody(world.exchange, client_id="podologist", role="practice", **who)


def nurse(world: World) -> Somebody:
    who = {"organisation": "1990000078", "professional": "810000000078", "profession": "60"}
    return Somebody(world.exchange, client_id="nurse", role="nurse", **who)


def token(world: World) -> Response:
    signer = ExchangeClient(URL, "practice", KEYS["practice"])
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": signer.assertion(f"{URL}/oauth2/token"),
        "scope": "system/*.rs",
    }
    signer.http.close()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return world.exchange.gateway.request("POST", "/oauth2/token", headers, urlencode(form).encode())


def _practitioner(world: World) -> Somebody:
    """Of the practice, which is in relation, and who is not herself."""
    who = {"organisation": "1990000037", "professional": "810000000939", "profession": "10"}
    return Somebody(world.exchange, client_id="practice", role="practice", **who)


def _reads(who: Callable[[World], Client]) -> dict[str, Callable[[World], Response]]:
    return {
        "read": lambda w: who(w).get(f"Observation/{w.observation}"),
        "search": lambda w: who(w).get(f"Observation?patient={w.key}&_count=10"),
        "$everything": lambda w: who(w).get(f"Patient/{w.key}/$everything?_count=10"),
        "ITI-68": lambda w: who(w).get(w.binary, Accept="*/*"),
    }


READERS: Mapping[str, Callable[[World], Client]] = {
    "nurse": nurse,
    "podologist": podologist,
    "patient": lambda w: w.patient,
}
# Round trips, read units, write units. Ten bodies are ten units; what was asked makes the access record longer.
COSTS_OF_READING = {"read": (2, 3, 1), "search": (3, 14, 2), "$everything": (4, 14, 2), "ITI-68": (3, 4, 1)}

COMMANDS: Mapping[str, tuple[Callable[[World], Response], int, float, float]] = {
    # The person as it is, and the commit: what is kept of it beside the record and among the people, the decision, its
    # event, the access record.
    "$block": (lambda w: order(w.patient, w.key, "block", party=PARTY), 2, 1, 10),
    "$unblock": (lambda w: order(w.patient, w.key, "unblock", party=PARTY), 2, 1, 10),
    "$authorize-access": (lambda w: order(w.patient, w.key, "authorize-access", party=PARTY), 2, 1, 10),
    "$break-glass": (lambda w: broken(_practitioner(w), w.key), 2, 1, 12),
    "Consent": (lambda w: w.patient.post("Consent", consent_against(w, "1990000211")), 2, 1, 16),
    "CareTeam": (lambda w: w.patient.post("CareTeam", team_of(w, "1990000212")), 2, 1, 18),
    "Encounter": (lambda w: house(w).post("Encounter", admission_to(w, "1990000209")), 2, 1, 18),
    "Observation": (lambda w: _practitioner(w).post("Observation", examples.observation(w.key)), 2, 1, 12),
    "$record-status": (lambda w: w.patient.get(f"Patient/{w.key}/$record-status"), 3, 2, 1),
}


def house(world: World) -> Somebody:
    return Somebody(world.exchange, client_id="house", role="hospital", organisation="1990000209")


@contextmanager
def counting_policies() -> Iterator[list[str]]:
    """The reads of people that are made, by what their key says."""
    seen: list[str] = []

    def look(params: Mapping[str, Any], model: Any, **_: Any) -> None:
        if model.name in ("GetItem", "BatchGetItem", "Query") and b"c#PERSON" in params["body"]:
            seen.append(str(params["body"]))

    events = wiring.aws("dynamodb").meta.events
    events.register("before-call.dynamodb.*", look)
    try:
        yield seen
    finally:
        events.unregister("before-call.dynamodb.*", look)


@pytest.mark.parametrize("name", COSTS_OF_READING)
@pytest.mark.parametrize("reader", READERS)
def test_reading_under_a_policy(world: World, reader: str, name: str) -> None:
    """A policy of twenty provisions and five relations costs what none does."""
    attempt = _reads(READERS[reader])[name]
    with counting_policies() as policies, measure() as spent:
        answer = attempt(world)
    assert answer.status == 200, answer.body
    assert (spent.round_trips, spent.read_units, spent.write_units) == COSTS_OF_READING[name], spent.calls
    assert len(policies) == 1
    assert [each for each in spent.calls if each not in READS] == ["PutItem"]  # the access record, and nothing else


@pytest.mark.parametrize("name", COMMANDS)
def test_deciding(world: World, name: str) -> None:
    attempt, *cost = COMMANDS[name]
    with counting_policies() as policies, measure() as spent:
        answer = attempt(world)
    assert answer.status in (200, 201), answer.body
    assert [spent.round_trips, spent.read_units, spent.write_units] == cost, spent.calls
    assert len(policies) == 1


def test_a_token_costs_one_round_trip_where_it_is_used(world: World) -> None:
    """Beside its own request; and four where it is made: client, assertion used up, signature, record."""
    practice = world.exchange.client("practice")
    practice.token()
    with measure() as spent:
        assert practice.get(f"Observation/{world.observation}").status == 200
    assert spent.round_trips == AUTHORIZER + COSTS_OF_READING["read"][0]
    with measure() as spent:
        assert token(world).status == 200
    assert (spent.round_trips, spent.read_units, spent.write_units) == (4, 1, 2), spent.calls


def test_the_log_is_searched_in_few_round_trips(world: World) -> None:
    """The person, whose it is, what is hidden from the patient, the month, the access record."""
    today = datetime.now(UTC).date()
    with measure() as spent:
        answer = world.patient.get(f"AuditEvent?patient=Patient/{world.key}&date=ge{today}&_count=10")
    assert answer.status == 200, answer.body
    assert (spent.round_trips, spent.write_units) == (6, 1), spent.calls
    event = next(e["resource"]["id"] for e in answer.json["entry"] if not e["resource"]["id"].endswith(".decision"))
    with measure() as spent:
        assert world.patient.get(f"AuditEvent/{event}/$explain").status == 200
    assert (spent.round_trips, spent.write_units) == (EXPLAIN, 1), spent.calls
