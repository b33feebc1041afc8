"""Who is in care relation sees the record, from the next request on and no longer than that (contract CDS-13, D1).

The exchange of these tests lets nobody in whom no relation does (IMPLICIT_POLICY=break-glass-only).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.gateway import Response
from local.region import IDNPS, IDNST, PARTICIPANTS
from passerelle import wiring
from passerelle.access import Caller
from passerelle.consents.decision import Implicit, Rule, admit, standing_of
from passerelle.consents.model import Basis, Block, Policy, Relation
from passerelle.patients.model import PersonChange
from tests import examples, prescribing
from tests.exchange import Client, Exchange, exchange_on_moto
from tests.functions.test_care_circle import circle, stored
from tests.functions.test_patients import register
from tests.people import person_of
from tests.prescribing import PHARMACY_A, PHARMACY_B, region_in_memory
from tests.record import commit

_NUMBERS = itertools.count(2)  # of the synthetic region; person 1 has an application of its own
OF = {each.id: each for each in PARTICIPANTS}
NOW = datetime.now(UTC)


def day(days: float) -> str:
    """So many days from now."""
    return (NOW + timedelta(days=days)).isoformat(timespec="seconds")


@pytest.fixture(scope="module")
def exchange(template: dict[str, Any]) -> Iterator[Exchange]:
    strict = copy.deepcopy(template)
    for resource in strict["Resources"].values():
        variables = resource.get("Properties", {}).get("Environment", {}).get("Variables", {})
        if "IMPLICIT_POLICY" in variables:
            variables["IMPLICIT_POLICY"] = "break-glass-only"
    with exchange_on_moto(strict) as running:
        yield running


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    return exchange.client("practice")


@pytest.fixture
def key(hospital: Client) -> str:
    """Somebody whom no other test knows."""
    return str(register(hospital, next(_NUMBERS)).json["id"])


def opened(client: Client, key: str) -> bool:
    """Whether the record is open to who asks; a refusal is said."""
    answer = client.get(f"Observation?patient={key}")
    assert answer.status in (200, 403), answer.body
    return answer.status == 200


def house(id: str) -> dict[str, Any]:
    return {"identifier": {"system": IDNST, "value": OF[id].organisation}}


def professional(id: str) -> dict[str, Any]:
    return {"identifier": {"system": IDNPS, "value": OF[id].professional}}


def admission(key: str, provider: str, **changed: Any) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": f"Patient/{key}"},
        "period": {"start": day(-1)},
        "serviceProvider": house(provider),
    } | changed


def appointment(key: str, actor: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "resourceType": "Appointment",
        "status": "booked",
        "start": day(2),
        "end": day(2.1),
        "participant": [
            {"actor": {"reference": f"Patient/{key}"}, "status": "accepted"},
            {"actor": actor, "status": "accepted"},
        ],
    } | changed


def named(reference: dict[str, Any], **period: str) -> dict[str, Any]:
    return {"member": reference, "period": period or {"start": day(-1)}}


def id_of(place: str) -> str:
    return place.partition("/")[2]


def policy_of(key: str) -> Policy:
    person = wiring.patient_index().find_person(key)
    assert person is not None
    return person.member(key).policy


def change_policy(key: str, **changed: Any) -> None:
    person = wiring.patient_index().find_person(key)
    assert person is not None
    records = tuple(replace(each, policy=replace(each.policy, **changed)) for each in person.records)
    after = replace(person, records=records, revision=person.revision + 1)
    commit(PersonChange(before=person, after=after))


def bases(key: str) -> list[tuple[Basis, str]]:
    return [(each.basis, each.party) for each in policy_of(key).relations]


# --- each basis opens, and closes -------------------------------------------------------------------------------------


def test_an_admission_opens_the_record_to_its_house(hospital: Client, practice: Client, key: str) -> None:
    assert not opened(hospital, key)
    place = stored(hospital.post("Encounter", admission(key, "hospital-a")))
    assert opened(hospital, key)
    assert not opened(practice, key)
    assert hospital.put(place, admission(key, "hospital-a", id=id_of(place), status="cancelled")).status == 200
    assert not opened(hospital, key)


def test_an_admission_that_is_over_opens_for_some_days(hospital: Client, key: str) -> None:
    left = admission(key, "hospital-a", status="finished", period={"start": day(-20), "end": day(-10)})
    place = stored(hospital.post("Encounter", left))
    assert opened(hospital, key)
    long_ago = {**left, "id": id_of(place), "period": {"start": day(-90), "end": day(-80)}}
    assert hospital.put(place, long_ago).status == 200
    assert not opened(hospital, key)
    assert bases(key) == []


def test_a_deleted_admission_opens_nothing(hospital: Client, key: str) -> None:
    place = stored(hospital.post("Encounter", admission(key, "hospital-a")))
    assert hospital.request("DELETE", place).status == 200
    assert not opened(hospital, key)


def test_an_appointment_opens_some_days_before(practice: Client, key: str) -> None:
    far = appointment(key, professional("practice"), start=day(30), end=day(30.1))
    place = stored(practice.post("Appointment", far))
    assert not opened(practice, key)
    assert practice.put(place, appointment(key, professional("practice"), id=id_of(place))).status == 200
    assert opened(practice, key)
    cancelled = appointment(key, professional("practice"), id=id_of(place), status="noshow")
    assert practice.put(place, cancelled).status == 200
    assert not opened(practice, key)


def test_an_appointment_names_an_activity_of_the_house(hospital: Client, key: str) -> None:
    """References lead through the directory to national numbers, once, when the appointment is written."""
    organisation = {"resourceType": "Organization", "identifier": [house("hospital-a")["identifier"]], "name": "CH"}
    surgeon = {"resourceType": "Practitioner", "identifier": [{"system": IDNPS, "value": "899900000777"}]}
    role = {
        "resourceType": "PractitionerRole",
        "practitioner": {"reference": stored(hospital.post("Practitioner", surgeon))},
        "organization": {"reference": stored(hospital.post("Organization", organisation))},
    }
    actor = {"reference": stored(hospital.post("PractitionerRole", role))}
    assert hospital.post("Appointment", appointment(key, actor)).status == 201
    assert sorted(bases(key)) == [
        (Basis.APPOINTMENT, OF["hospital-a"].organisation),
        (Basis.APPOINTMENT, "899900000777"),
    ]
    assert opened(hospital, key)


def test_cds_13_members_of_the_circle_see_the_record(hospital: Client, practice: Client, key: str) -> None:
    assert hospital.post("Encounter", admission(key, "hospital-a")).status == 201
    place = stored(hospital.post("CareTeam", circle(key, named(professional("practice")))))
    assert opened(practice, key)
    assert practice.get(place).status == 200
    over = circle(key, named(professional("practice"), start=day(-9), end=day(-2)), id=id_of(place))
    assert hospital.put(place, over).status == 200
    for refused in (practice.get(place), practice.get(f"CareTeam?patient={key}"), practice.put(place, over)):
        assert refused.status == 403, refused.body
    assert not opened(practice, key)
    to_come = circle(key, named(professional("practice"), start=day(3)), id=id_of(place))
    assert hospital.put(place, to_come).status == 200
    assert not opened(practice, key)


def test_a_circle_that_is_over_opens_nothing(hospital: Client, practice: Client, key: str) -> None:
    assert hospital.post("Encounter", admission(key, "hospital-a")).status == 201
    content = circle(key, named(house("practice")))
    place = stored(hospital.post("CareTeam", content))
    assert opened(practice, key)
    assert hospital.put(place, {**content, "id": id_of(place), "status": "inactive"}).status == 200
    assert not opened(practice, key)
    ended = {**content, "id": id_of(place), "period": {"start": day(-9), "end": day(-2)}}
    assert hospital.put(place, ended).status == 200
    assert not opened(practice, key)


def test_a_block_beats_every_relation(hospital: Client, key: str) -> None:
    assert hospital.post("Encounter", admission(key, "hospital-a")).status == 201
    assert opened(hospital, key)
    change_policy(key, blocks=(Block(party=OF["hospital-a"].organisation, since=NOW),))
    assert not opened(hospital, key)
    assert hospital.post("Encounter", admission(key, "hospital-a")).status == 403


# --- whose word counts ------------------------------------------------------------------------------------------------


def test_nobody_lets_others_in_without_being_in(practice: Client, key: str) -> None:
    """The own house is attested; another one, and another's professional, are not."""
    named_others = [{"individual": professional("nurse")}]
    written = practice.post("Encounter", admission(key, "hospital-b", participant=named_others))
    assert written.status == 201, written.body
    assert practice.post("Appointment", appointment(key, professional("nurse"))).status == 201
    assert bases(key) == []
    refused = practice.post("CareTeam", circle(key, named(professional("practice"))))
    assert (refused.status, refused.json["issue"][0]["code"]) == (403, "forbidden")
    plain = {"resourceType": "CareTeam", "status": "active", "subject": {"reference": f"Patient/{key}"}}
    assert practice.post("CareTeam", {**plain, "participant": [named(professional("practice"))]}).status == 403
    assert bases(key) == []


def test_who_is_in_vouches_for_others(hospital: Client, practice: Client, key: str) -> None:
    assert hospital.post("Encounter", admission(key, "hospital-a")).status == 201
    assert hospital.post("Appointment", appointment(key, professional("practice"))).status == 201
    assert opened(practice, key)


def test_the_attending_physician_vouches(exchange: Exchange, practice: Client, key: str) -> None:
    change_policy(key, attending_physician=OF["practice"].professional, attending_since=NOW)
    assert practice.post("CareTeam", circle(key, named(house("hospital-b")))).status == 201
    assert opened(exchange.client("hospital-b"), key)


def test_who_is_out_only_takes_away(exchange: Exchange, hospital: Client, practice: Client, key: str) -> None:
    """An admission that others vouched for, changed by its house after that left the circle of who is in."""
    place = stored(hospital.post("Encounter", admission(key, "hospital-a")))
    both = [{"individual": professional("practice")}]
    assert hospital.put(place, admission(key, "hospital-a", id=id_of(place), participant=both)).status == 200
    assert opened(practice, key)
    kept = [each for each in policy_of(key).relations if each.party != OF["hospital-a"].organisation]
    change_policy(key, relations=tuple(kept))
    more = [*both, {"individual": professional("nurse")}]
    changed = admission(key, "hospital-b", id=id_of(place), participant=more)
    assert hospital.put(place, changed).status == 200
    assert bases(key) == [(Basis.ADMISSION, OF["practice"].professional)]
    assert hospital.put(place, admission(key, "hospital-b", id=id_of(place))).status == 200
    assert bases(key) == []


def test_a_newcomer_brings_no_circle_of_friends(exchange: Exchange, practice: Client) -> None:
    """Registered with the national identifier of somebody who is known, it is that person's record that would open."""
    number = next(_NUMBERS)
    key = str(register(exchange.client("hospital-a"), number).json["id"])
    local, person = examples.patient(number, domain="urn:oid:2.999.3")
    entries = [
        {
            "fullUrl": "urn:uuid:11111111-bfdc-4613-8bf2-c5e30094000a",
            "resource": person,
            "request": {"method": "PUT", "url": f"Patient?identifier=urn:oid:2.999.3|{local}"},
        },
        {
            "resource": circle(key, named(house("practice")))
            | {"subject": {"reference": "urn:uuid:11111111-bfdc-4613-8bf2-c5e30094000a"}},
            "request": {"method": "POST", "url": "CareTeam"},
        },
    ]
    answer = practice.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status == 403, answer.body
    assert not opened(practice, key)


def test_attested_relations_are_told_and_recorded(exchange: Exchange, hospital: Client, key: str) -> None:
    """The patient is told that somebody came in (`access-changed`); each access says by which relation."""
    place = stored(hospital.post("Encounter", admission(key, "hospital-a")))
    outbox = [str(item) for item in exchange.table("clinical") if item["PK"]["S"].startswith("O#")]
    assert any(place in item and "record-changed" in item for item in outbox)
    assert sum(key in item and "access-changed" in item for item in outbox) == 1
    assert hospital.put(place, admission(key, "hospital-a", id=id_of(place), status="onleave")).status == 200
    outbox = [str(item) for item in exchange.table("clinical") if item["PK"]["S"].startswith("O#")]
    assert sum(key in item and "access-changed" in item for item in outbox) == 1  # nobody came in
    answer: Response = hospital.get(f"Observation?patient={key}")
    assert answer.status == 200
    accesses = [item for item in exchange.table("audit") if item.get("patient", {}).get("S") == key]
    assert any("relation" in str(item) and "admission" in str(item) for item in accesses)


def test_relations_end_with_the_record_that_says_so(hospital: Client, key: str) -> None:
    """What nobody wrote as a resource stays, and what is over leaves."""
    authorised = Relation(party="899900000555", basis=Basis.AUTHORISATION, since=NOW)
    over = Relation(party="899900000556", basis=Basis.ADMISSION, since=NOW - timedelta(9), until=NOW - timedelta(1))
    change_policy(key, relations=(authorised, over))
    place = stored(hospital.post("Encounter", admission(key, "hospital-a")))
    assert bases(key) == [
        (Basis.AUTHORISATION, "899900000555"),
        (Basis.ADMISSION, OF["hospital-a"].organisation),
    ]
    assert hospital.request("DELETE", place).status == 200
    assert policy_of(key).relations == (authorised,)


# --- prescriptions ----------------------------------------------------------------------------------------------------


def test_a_pharmacy_that_is_handed_a_prescription_is_in() -> None:
    """From its claim on, for the days of the country; no other pharmacy, and again with every claim that is later."""
    region = region_in_memory()
    id, code = region.issued()
    people = region.store.people  # type: ignore[attr-defined]

    def rule(caller: Caller, at: datetime) -> Rule:
        policy = people[region.patient].policy if people else person_of(region.patient).policy
        return admit(standing_of(caller, policy, is_own=False, at=at, implicit=Implicit.BREAK_GLASS_ONLY)).rule

    at = prescribing.AT + timedelta(hours=1)
    assert rule(PHARMACY_A, at) is Rule.NO_RELATION
    claimed = region.accept(id, code, at=at)
    assert rule(PHARMACY_A, at) is Rule.RELATION
    assert rule(PHARMACY_B, at) is Rule.NO_RELATION
    assert rule(PHARMACY_A, at + timedelta(days=30)) is Rule.NO_RELATION
    (relation,) = people[region.patient].policy.relations
    assert (relation.basis, relation.source) == (Basis.PRESCRIPTION, f"Task/{id}")
    region.reject(id, claimed.secret, at=at + timedelta(hours=1))
    region.accept(id, code, at=at + timedelta(hours=1))
    assert people[region.patient].policy.relations == (relation,)
    region.accept(id, code, at=at + timedelta(days=2))  # the claim lapsed meanwhile
    (renewed,) = people[region.patient].policy.relations
    assert rule(PHARMACY_A, at + timedelta(days=31)) is Rule.RELATION
    assert renewed.since == at + timedelta(days=2)
