"""Who is told of what, from the change to the webhook (SUB-2, SUB-10): the audience, filters, accesses to a record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from passerelle import wiring
from passerelle.access import Caller, Scopes
from passerelle.directory.model import Role
from tests import examples
from tests.documents import changed, published, relabel
from tests.exchange import Client, Exchange, PumpedWebhook
from tests.functions.listening import (
    OF,
    Ear,
    blocked,
    condition,
    held_back,
    hospital,
    into_the_circle,
    key,
    number,
    numbers,
    nurse,
    out_of_the_circle,
    revised,
    stored,
    webhook,
)
from tests.functions.test_care_relations import admission, appointment, house
from tests.functions.test_control import refusal, subscription
from tests.functions.test_patients import register

__all__ = ["hospital", "key", "number", "numbers", "nurse", "webhook"]


@pytest.fixture(scope="module")
def laboratory(exchange: Exchange) -> Client:
    """Nobody's care relation in these tests; what holds for all lets it into each record."""
    return exchange.client("laboratory")


# --- the audience -----------------------------------------------------------------------------------------------------


def test_the_care_circle_is_told_by_default_and_others_where_they_name_the_patient(
    exchange: Exchange,
    webhook: PumpedWebhook,
    hospital: Client,
    nurse: Client,
    laboratory: Client,
    number: int,
    key: str,
) -> None:
    into_the_circle(exchange, number, key, "nurse")
    of_all, of_circle = (
        Ear(nurse, webhook, "record-changed"),
        Ear(nurse, webhook, "record-changed", "?care-circle=true"),
    )
    stranger = Ear(laboratory, webhook, "record-changed")
    naming = Ear(laboratory, webhook, "record-changed", f"?patient=Patient/{key}")
    nobodys = Ear(laboratory, webhook, "record-changed", f"?patient=Patient/{key}&care-circle=true")
    own = Ear(hospital, webhook, "record-changed")
    place = stored(hospital, condition(key))
    assert of_all.heard() == of_circle.heard() == naming.heard() == own.heard() == [place]
    assert stranger.heard() == nobodys.heard() == []


def test_an_organisation_is_told_of_its_own_records(
    exchange: Exchange,
    webhook: PumpedWebhook,
    hospital: Client,
    laboratory: Client,
    numbers: Iterator[int],
    key: str,
) -> None:
    """Whoever changes them; and of the Patients that it registered."""
    practice = exchange.client("practice")
    place = stored(hospital, condition(key))
    exchange.pump.run_until_idle()
    ears = [Ear(each, webhook, "anything-changed") for each in (hospital, laboratory)]
    revised(practice, place, condition(key, "y"))
    local, patient = examples.patient(next(numbers))
    registered = hospital.put(f"Patient?identifier={examples.DOMAIN}|{local}", patient).json["id"]
    own, others = (each.heard() for each in ears)
    assert {place, f"Patient/{registered}"} <= set(own)
    assert others == []


def test_sub_10_a_block_between_event_and_delivery(
    exchange: Exchange, webhook: PumpedWebhook, hospital: Client, nurse: Client, number: int, key: str
) -> None:
    """The number is spent, nothing is told; what comes after is not numbered."""
    into_the_circle(exchange, number, key, "nurse")
    ear = Ear(nurse, webhook, "record-changed", f"?patient=Patient/{key}")
    exchange.pump.run_until_idle()
    with held_back(exchange):
        place = stored(hospital, condition(key))
        exchange.pump.run_until_idle()
        assert place in ear.caught_up()
        blocked(exchange, number, key, "nurse")
    stored(hospital, condition(key))
    assert ear.heard() == [""]
    assert place not in ear.caught_up()


def test_sub_10_an_authorisation_that_is_taken_back(
    exchange: Exchange, webhook: PumpedWebhook, hospital: Client, nurse: Client, number: int, key: str
) -> None:
    """Who left the circle is one of the others from the next event on: numbers have no gap."""
    into_the_circle(exchange, number, key, "nurse")
    ear = Ear(nurse, webhook, "record-changed")
    first = stored(hospital, condition(key))
    assert ear.heard() == [first]
    out_of_the_circle(exchange, number, key, "nurse")
    stored(hospital, condition(key))
    assert ear.heard() == [first]


def test_sub_10_a_mask_between_event_and_delivery(
    exchange: Exchange, webhook: PumpedWebhook, hospital: Client, nurse: Client, number: int, key: str
) -> None:
    into_the_circle(exchange, number, key, "nurse")
    ear = Ear(nurse, webhook, "document-published")
    with held_back(exchange):
        document = published(hospital, key, "N")
        exchange.pump.run_until_idle()
        changed(hospital, document, relabel("MASQUE_PS"))
    assert ear.heard() == [""]


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_a_stay_by_its_turns(
    exchange: Exchange, webhook: PumpedWebhook, hospital: Client, nurse: Client, number: int, key: str
) -> None:
    into_the_circle(exchange, number, key, "nurse")
    of_all = Ear(nurse, webhook, "encounter-changed")
    narrow = Ear(nurse, webhook, "encounter-changed", "Encounter?happening=admission,discharge")
    moves = Ear(nurse, webhook, "encounter-changed", "?happening=transfer")
    stay = admission(key, "hospital-a", status="planned")
    place = stored(hospital, stay)
    revised(hospital, place, {**stay, "status": "in-progress"})
    beds = [{"location": {"display": "B12"}}]
    revised(hospital, place, {**stay, "status": "in-progress", "location": beds})
    revised(hospital, place, {**stay, "status": "finished", "location": beds})
    assert of_all.heard() == [place] * 4
    assert narrow.heard() == [place] * 2
    assert moves.heard() == [place]


def test_an_appointment_that_moves(webhook: PumpedWebhook, hospital: Client, key: str) -> None:
    ear = Ear(hospital, webhook, "appointment-changed", "?happening=moved,noshow")
    booked = appointment(key, house("hospital-a"))
    place = stored(hospital, booked)
    revised(hospital, place, {**booked, "start": booked["end"], "end": booked["end"]})
    revised(hospital, place, {**booked, "comment": "x", "status": "noshow"})
    assert ear.heard() == [place] * 2


def test_results_are_those_of_laboratories_and_imaging(webhook: PumpedWebhook, hospital: Client, key: str) -> None:
    ear = Ear(hospital, webhook, "result-available", f"?patient=Patient/{key}")
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    places = [
        stored(
            hospital,
            {
                "resourceType": "Observation",
                "status": "final",
                "category": [{"coding": [{"system": system, "code": category}]}],
                "code": {"text": "x"},
                "subject": {"reference": f"Patient/{key}"},
            },
        )
        for category in ("laboratory", "vital-signs")
    ]
    subject = {"reference": f"Patient/{key}"}
    report = {"resourceType": "DiagnosticReport", "status": "registered", "code": {"text": "x"}, "subject": subject}
    place = stored(hospital, report)
    revised(hospital, place, {**report, "status": "final"})
    assert ear.heard() == [places[0], place]


def test_documents_that_are_new_and_by_author(
    exchange: Exchange, webhook: PumpedWebhook, hospital: Client, key: str
) -> None:
    new = Ear(hospital, webhook, "document-published", f"?patient=Patient/{key}")
    ours = Ear(hospital, webhook, "document-changed", f"?patient={key}&author=nobody,hospital-a")
    theirs = Ear(hospital, webhook, "document-changed", f"?patient={key}&author=practice")
    document = published(hospital, key, "N")
    changed(hospital, document, relabel("R"))
    place = f"DocumentReference/{document['id']}"
    assert new.heard() == [place]
    assert ours.heard() == [place] * 2
    assert theirs.heard() == []


@pytest.mark.parametrize(
    ("topic", "criteria"),
    [
        ("encounter-changed", "Observation?"),
        ("encounter-changed", "?happening=birth"),
        ("record-changed", "?happening=admission"),
        ("access-changed", "?care-circle=true"),
        ("document-published", "?status=current"),
    ],
)
def test_sub_2_a_filter_that_the_topic_does_not_take(
    webhook: PumpedWebhook, hospital: Client, topic: str, criteria: str
) -> None:
    refused = hospital.post("Subscription", subscription(webhook.url, topic, criteria))
    assert refusal(refused) == (422, "not-supported")


# --- accesses to my record --------------------------------------------------------------------------------------------


def test_a_patient_is_told_who_read_the_record(
    exchange: Exchange, webhook: PumpedWebhook, hospital: Client, laboratory: Client
) -> None:
    """Of others' accesses to whichever source record, and what the history shows of them; nobody else is."""
    key, myself = str(register(hospital, 1).json["id"]), exchange.client("patient-1")
    proxy = exchange.client("representative-1")
    elsewhere = exchange.client("hospital-b")
    other = str(register(elsewhere, 1, domain=OF["hospital-b"].domain or "").json["id"])
    exchange.pump.run_until_idle()
    ear = Ear(myself, webhook, "record-accessed", f"?patient=Patient/{key}")
    curious = Ear(laboratory, webhook, "record-accessed", f"?patient=Patient/{key}")
    proxys = Ear(proxy, webhook, "record-accessed", f"?patient=Patient/{key}")
    all_ = Ear(myself, webhook, "anything-changed", f"?patient=Patient/{key}")
    exchange.pump.run_until_idle()
    assert ear.heard() == []
    before = len(all_.heard())
    assert laboratory.get(f"Condition?patient={key}").status == 200
    assert laboratory.get(f"Patient/{other}").status == 200
    assert proxy.get(f"Condition?patient={key}").status == 200
    assert myself.get(f"Condition?patient={key}").status == 200  # the own access is none
    heard = ear.heard()
    found = [myself.get(each) for each in heard]
    assert [each.status for each in found] == [200] * 5  # a search of two source records is in the log of each
    assert {each.partition("/")[2].partition("-")[0] for each in heard} == {key, other}
    assert ear.heard() == heard  # looks at what one was told are no accesses
    assert proxys.heard() == []  # without a mandate there is no history to read
    assert curious.heard() == []
    assert len(all_.heard()) == before


def test_nobody_is_told_of_the_own_access(exchange: Exchange, hospital: Client, laboratory: Client) -> None:
    """An application that looks at the record whenever it is told of an access would never be done."""
    key, at = str(register(hospital, 1).json["id"]), datetime.now(UTC)
    myself = Caller(
        client_id="patient-1",
        organisation="1990000086",
        role=Role.PATIENT,
        scopes=Scopes.parse("system/*.rs"),
        token_id="t",
        patient=examples.ins(1),
    )
    for client, is_told in ((exchange.client("patient-1"), False), (laboratory, True)):
        assert client.get(f"Procedure?patient={key}").status == 200
        accesses = [
            each["id"]["S"]
            for each in exchange.table("audit")
            if each["PK"]["S"].startswith(f"A#P#{key}") and each["client_id"]["S"] == client.id
        ]
        assert wiring.audit_service().shows(myself, max(accesses), at) is is_told


def test_an_access_to_what_the_patient_may_not_see_is_not_told(
    exchange: Exchange, webhook: PumpedWebhook, hospital: Client, laboratory: Client
) -> None:
    """As the history leaves it out until somebody has announced the document."""
    key, myself = str(register(hospital, 1).json["id"]), exchange.client("patient-1")
    ear = Ear(myself, webhook, "record-accessed", f"?patient=Patient/{key}")
    document = published(hospital, key, "INVISIBLE_PATIENT")
    exchange.pump.run_until_idle()
    assert laboratory.get(f"DocumentReference/{document['id']}").status == 200
    shown = published(hospital, key, "N")
    assert laboratory.get(f"DocumentReference/{shown['id']}").status == 200
    (told,) = ear.heard()
    entities = json.dumps(myself.get(told).json)
    assert shown["id"] in entities
    assert document["id"] not in entities
