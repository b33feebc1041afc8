"""Two decide about one record at once: whichever commits first, both are kept, and nobody is told to come again.

The second is served whole between what the first read and what it commits, which no luck is needed for: the worst
moment there is. What the two are is every pair of what changes a policy.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from passerelle import wiring
from passerelle.consents.model import Policy
from tests import examples, record
from tests.functions.test_care_circle import circle
from tests.functions.test_consents import INS, PHYSICIAN, Answer, World, ask, caller, registered
from tests.functions.test_control import parameters
from tests.journeys.test_trust_crashes import admission_to, consent_against, named_in, team_of

IDNST = "urn:oid:1.2.250.1.71.4.2.2"
_parties = itertools.count(1_990_200_000)
_numbers = itertools.count(70_000)


@pytest.fixture(scope="module", autouse=True)
def _services() -> Iterator[None]:
    with record.services():
        yield


@pytest.fixture
def world() -> World:
    ins = INS % next(_numbers)
    return World(registered(ins), ins, "any", "any")


@contextmanager
def overtaken_by(attempt: Callable[[], Answer]) -> Iterator[list[Answer]]:
    """The next transaction comes after another request."""
    answers: list[Answer] = []
    begun: list[bool] = []

    def overtake(**_: Any) -> None:
        if not begun:
            begun.append(True)
            answers.append(attempt())

    events = wiring.aws("dynamodb").meta.events
    events.register("before-call.dynamodb.TransactWriteItems", overtake)
    try:
        yield answers
    finally:
        events.unregister("before-call.dynamodb.TransactWriteItems", overtake)


def policy_of(world: World) -> Policy:
    person = wiring.patient_index().find_person(world.key)
    assert person is not None
    return person.policy


def _control(operation: str) -> Callable[[World, str], Answer]:
    def command(world: World, party: str) -> Answer:
        given = parameters(party={"system": IDNST, "value": party})
        return ask(world.patient, "POST", f"Patient/{world.key}/${operation}", given)

    return command


def _glass(world: World, party: str) -> Answer:
    given = [
        {"name": "reason", "valueCode": "unconscious"},
        {"name": "text", "valueString": "Patient inconscient aux urgences"},
    ]
    who = caller("practice", "1990000037", professional=party, profession="10")
    return ask(who, "POST", f"Patient/{world.key}/$break-glass", {"resourceType": "Parameters", "parameter": given})


COMMANDS: dict[str, Callable[[World, str], Answer]] = {
    "$block": _control("block"),
    "$authorize-access": _control("authorize-access"),
    "$break-glass": _glass,
    "Consent": lambda w, party: ask(w.patient, "POST", "Consent", consent_against(w, party)),
    "CareTeam": lambda w, party: ask(w.patient, "POST", "CareTeam", team_of(w, party)),
    "Encounter": lambda w, party: ask(caller("hospital", party), "POST", "Encounter", admission_to(w, party)),
}


@pytest.mark.parametrize("first", COMMANDS)
def test_both_are_kept(world: World, first: str) -> None:
    """Of any two decisions none is lost, and none is refused for the other."""
    for second in COMMANDS:
        one, other = str(next(_parties)), str(next(_parties))
        with overtaken_by(partial(COMMANDS[second], world, other)) as answers:
            answer = COMMANDS[first](world, one)
        assert {each.status for each in (answer, *answers)} <= {200, 201}, (second, answer.body, answers[0].body)
        named = named_in(policy_of(world))
        assert (named.count(one), named.count(other)) == (1, 1), second


def test_the_same_consent_ended_by_two(world: World) -> None:
    """Without If-Match the later one follows the earlier; with it, it is told."""
    given = world.given("deny")
    ended = {**given, "status": "inactive"}
    place = f"Consent/{given['id']}"
    with overtaken_by(lambda: ask(world.patient, "PUT", place, ended)) as answers:
        answer = ask(world.patient, "PUT", place, {**ended, "dateTime": "2026-03-01"})
    assert (answer.status, answers[0].status) == (200, 200), (answer.body, answers[0].body)
    assert not policy_of(world).consents
    with overtaken_by(lambda: ask(world.patient, "PUT", place, given)):
        answer = ask(world.patient, "PUT", place, {**ended, "dateTime": "2026-04-01"}, If_Match='W/"3"')
    assert answer.status == 412, answer.body
    assert [each.id for each in policy_of(world).consents] == [place]


def test_two_devices_of_a_patient_edit_mandates(world: World) -> None:
    """DMP-11: both carers are there."""
    carers = [INS % each for each in (80_001, 80_002)]
    for each in carers:
        registered(each)

    def appoint(carer: str) -> Answer:
        system, value = carer.split("|")
        given = parameters(holder={"system": system, "value": value}, kind="carer")
        return ask(world.patient, "POST", f"Patient/{world.key}/$appoint-proxy", given)

    with overtaken_by(lambda: appoint(carers[1])) as answers:
        answer = appoint(carers[0])
    assert [answer.status, answers[0].status] == [200, 200], (answer.body, answers[0].body)
    assert {each.holder for each in policy_of(world).mandates} == set(carers)


def test_a_block_in_the_middle_of_a_publication(world: World) -> None:
    """I4, DMP-3: documents that would be there after the block are refused; so is whatever is asked from then on."""
    with overtaken_by(lambda: _control("block")(world, PHYSICIAN["organisation"])) as answers:
        sent = examples.submission(f"Patient/{world.key}", content=b"<x/>", unique="urn:uuid:1")
        answer = ask(PHYSICIAN, "POST", "", sent)
    assert answers[0].status == 200, answers[0].body
    found = ask(world.patient, "GET", f"DocumentReference?patient={world.key}")
    assert (answer.status, found.json["total"]) == (403, 0), answer.body
    assert ask(PHYSICIAN, "POST", "Observation", examples.observation(world.key)).status == 403


def test_two_circles_at_once(world: World) -> None:
    """CDS-5: one is there, the other is told so."""

    def created(name: str) -> Answer:
        identifier = [{"system": "urn:oid:2.999.7", "value": name}]
        return ask(world.patient, "POST", "CareTeam", circle(world.key, identifier=identifier))

    with overtaken_by(lambda: created("b")) as answers:
        answer = created("a")
    assert sorted([answer.status, answers[0].status]) == [201, 409], (answer.body, answers[0].body)
