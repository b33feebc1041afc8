"""People at home over HTTP: their devices' measurements, the alerts that come of them, and who answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from passerelle import wiring
from passerelle.consents.model import Basis, Block, Relation
from passerelle.identifiers import new_patient_key
from passerelle.patients.model import PersonChange
from tests import record
from tests.monitored import (
    GLUCOSE,
    LOINC,
    NOW,
    PHYSICIAN,
    PRACTICE,
    UCUM,
    Home,
    activity,
    events,
    exchange,
    forgotten,
    quantity,
    raised,
    range_target,
)

HOSPITAL = {"client_id": "hospital-a", "organisation": "1754567860", "role": "hospital"}
ACT_CODES = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
CURVE = {"origin": {"value": 0}, "period": 4, "dimensions": 1, "data": "1 2 3 2 1"}


@pytest.fixture(scope="module")
def people() -> Iterator[Callable[[], Home]]:
    with exchange() as moving_in:
        yield moving_in


@pytest.fixture
def home(people: Callable[[], Home]) -> Home:
    forgotten()
    made = people()
    made.clock.at = NOW
    return made


# --- measurements come in -------------------------------------------------------------------------------------------


def pressure(home: Home, systolic: float, diastolic: float, unit: str = "mm[Hg]") -> dict[str, Any]:
    components = [
        {"code": {"coding": [{"system": LOINC, "code": code}]}, "valueQuantity": quantity(value, unit)}
        for code, value in (("8480-6", systolic), ("8462-4", diastolic))
    ]
    measured = home.measured(0, code="85354-9", component=components)
    del measured["valueQuantity"]
    return measured


def test_every_kind_of_device_is_understood(home: Home) -> None:
    curve = home.measured(0, code="11524-6", valueSampledData=CURVE)
    mdc = {"coding": [{"system": "urn:oid:2.16.840.1.113883.6.24", "code": "131328"}]}
    lead = {**curve, "code": mdc, "component": [{"code": mdc, "valueSampledData": CURVE}]}
    for each in (curve, lead):
        del each["valueQuantity"]
    del lead["valueSampledData"]
    answer = home.submit(
        home.measured("5.5", code="15074-8", unit="mmol/L"),
        home.measured("0.99", code="14743-9", unit="g/L"),
        pressure(home, 132, 84),
        home.measured("72.40", code="29463-7", unit="kg"),
        home.measured(97, code="59408-5", unit="%"),
        home.measured(96, code="2708-6", unit="%"),
        home.measured(64, code="8867-4", unit="/min"),
        curve,
        lead,
    )
    assert answer.statuses == [201] * 9
    weight = home.call("GET", answer.body["entry"][3]["response"]["location"].partition("/_history")[0])
    assert weight.body["valueQuantity"]["value"] == 72.4


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"valueQuantity": quantity(5000)}, "valueQuantity.value"),
        ({"valueQuantity": quantity(-1)}, "valueQuantity.value"),
        ({"valueQuantity": quantity(9, "kg")}, "valueQuantity.code"),
        ({"valueQuantity": {"value": 100, "unit": "mg/dL"}}, "valueQuantity.code"),
        ({"valueQuantity": {**quantity(600), "comparator": ">"}}, "valueQuantity.comparator"),
        ({"valueQuantity": None, "valueString": "high"}, "valueQuantity"),
        ({"status": "preliminary"}, "status"),
        ({"status": "nonsense"}, "status"),
        ({"code": {"coding": [{"system": LOINC, "code": "718-7"}]}}, "code"),
        ({"device": None}, "device"),
        ({"device": {"display": "my meter"}}, "device"),
        ({"effectiveDateTime": "2026-03-02"}, "effectiveDateTime"),
        ({"effectiveDateTime": "2026-03-02T10:30:00Z"}, "effectiveDateTime"),
        ({"effectiveDateTime": None}, "effectiveDateTime"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place_and_refuses_nothing_else(
    home: Home, changes: dict[str, Any], place: str
) -> None:
    bad = {name: value for name, value in {**home.measured(100), **changes}.items() if value is not None}
    answer = home.submit(home.measured(100, 1), bad, home.measured(101, 2))
    assert (answer.status, answer.statuses) == (200, [201, 422, 201])
    assert answer.places == [f"Bundle.entry[1].resource.{place}"]
    assert len(home.observations()) == 2


def test_the_same_batch_an_overlapping_one_and_another_order_are_the_same_resources(home: Home) -> None:
    batch = [home.measured(100 + number, number) for number in range(6)]
    assert home.submit(*batch[:4]).statuses == [201] * 4
    stored = home.observations()
    assert home.submit(*batch[:4]).statuses == [200] * 4
    assert home.submit(*batch[3::-1]).statuses == [200] * 4
    assert home.observations() == stored
    assert home.submit(*batch[2:], batch[5]).statuses == [200, 200, 201, 201, 200]
    assert len(home.observations()) == 6
    again = home.submit(home.measured("100.0"))
    assert again.statuses == [200], "a number is the same however it is written"


def test_another_value_of_the_same_moment_is_a_conflict(home: Home) -> None:
    assert home.submit(home.measured(100), home.measured(120, 1), home.measured(121, 1)).statuses == [201, 409, 409]
    assert home.submit(home.measured(101), home.measured(120, 1)).statuses == [409, 201]
    other = home.measured(101, device={"identifier": {"system": "urn:example:serial", "value": "G-2"}})
    assert home.submit(other).statuses == [201], "of another device"


def test_a_device_is_told_by_whatever_tells_it(home: Home) -> None:
    def of(**device: Any) -> dict[str, Any]:
        contained = [{"resourceType": "Device", "id": "d", **device}]
        return home.measured(100, contained=contained, device={"reference": "#d"})

    devices = [
        of(identifier=[{"system": "urn:s", "value": "1"}]),
        of(udiCarrier=[{"deviceIdentifier": "08717648200274"}], serialNumber="1"),
        of(udiCarrier=[{"deviceIdentifier": "08717648200274"}], serialNumber="2"),
        of(manufacturer="ACME", serialNumber="1"),
        home.measured(100, device={"reference": "Device/meter"}),
    ]
    assert home.submit(*devices, *devices).statuses == [201] * 5 + [200] * 5


def test_what_was_corrected_or_taken_back_does_not_come_again(home: Home) -> None:
    location = home.submit(home.measured(100)).body["entry"][0]["response"]["location"]
    place = location.partition("/_history")[0]
    assert home.call("DELETE", place).status == 200
    assert home.submit(home.measured(100)).statuses == [200]
    assert home.call("GET", place).status == 410


def test_an_idempotency_key_gives_the_same_answer_again(home: Home) -> None:
    batch = (home.measured(100), home.measured(9000, 1))
    first = home.submit(*batch, Idempotency_Key=f"k-{home.patient}")
    assert home.submit(*batch, Idempotency_Key=f"k-{home.patient}").body == first.body
    assert first.statuses == [201, 422]


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (lambda home: {"resourceType": "Bundle", "type": "transaction", "entry": []}, 400),
        (lambda home: {"resourceType": "Bundle", "type": "collection"}, 400),
        (lambda home: home.measured(1), 400),
        (lambda home: bundle(*(home.measured(100, n) for n in range(101))), 413),
        (lambda home: bundle(home.measured(100, note=[{"text": "x" * 2**20}])), 413),
        (lambda home: bundle(home.measured(1), {**home.measured(1), "subject": {"reference": "Patient/other"}}), 422),
        (lambda home: bundle({**home.measured(1), "subject": {"reference": f"Patient/{new_patient_key()}"}}), 422),
        (lambda home: bundle(home.measured(100), method="PUT"), 400),
    ],
)
def test_a_bundle_that_is_none_is_refused_as_a_whole(home: Home, make: Callable[[Home], Any], status: int) -> None:
    assert home.call("POST", "Observation/$submit-measurements", make(home)).status == status
    assert home.observations() == set()


def bundle(*measurements: Any, method: str = "POST") -> dict[str, Any]:
    request = {"method": method, "url": "Observation"}
    entries = [{"resource": each, "request": request} for each in measurements]
    return {"resourceType": "Bundle", "type": "batch", "entry": entries}


def test_a_batch_of_posts_is_the_same_as_a_collection(home: Home) -> None:
    answer = home.call("POST", "Observation/$submit-measurements", bundle(home.measured(100)))
    assert answer.statuses == [201]


# --- who may --------------------------------------------------------------------------------------------------------


def test_the_patients_own_app_submits_and_nobody_elses(home: Home) -> None:
    own = ("urn:oid:1.2.250.1.213.1.4.8", "160012345678901")
    person = wiring.patient_index().find_person(home.patient)
    assert person is not None
    qualified = replace(person.records[0], qualified=wiring.patient_index().blinded(own))
    record.commit(
        PersonChange(before=person, after=replace(person, records=(qualified,), revision=person.revision + 1))
    )
    app = {"client_id": "app", "organisation": "1990000037", "role": "patient", "patient": "|".join(own)}
    assert home.submit(home.measured(100), by=app).statuses == [201]
    other = {**app, "patient": f"{own[0]}|270012345678901"}
    assert home.submit(home.measured(100, 1), by=other).status == 422


def test_whom_the_patient_shut_out_submits_nothing(home: Home) -> None:
    person = wiring.patient_index().find_person(home.patient)
    assert person is not None
    policy = replace(person.records[0].policy, blocks=(Block(party=HOSPITAL["organisation"], since=NOW),))
    shut = replace(person, records=(replace(person.records[0], policy=policy),), revision=person.revision + 1)
    record.commit(PersonChange(before=person, after=shut))
    assert home.submit(home.measured(100), by=HOSPITAL).status in (403, 422)
    assert home.observations() == set()
    assert home.submit(home.measured(100)).statuses == [201]


def test_a_runaway_device_is_stopped_and_recorded_once(home: Home) -> None:
    batch = [home.measured(100, number / 60) for number in range(100)]
    assert all(home.submit(*batch).status == 200 for _ in range(6))
    before = len(record.items("audit"))
    refused = [home.submit(*batch) for _ in range(5)]
    assert len(record.items("audit")) == before + 1
    assert {each.status for each in refused} == {429}
    assert int(refused[0].headers["Retry-After"]) == 600
    home.clock.ahead(minutes=10)
    assert home.submit(*batch).status == 200
    assert home.submit(home.measured(100, 1)).status == 429


# --- alerts ---------------------------------------------------------------------------------------------------------


def test_a_value_and_its_alert_are_one_commit(home: Home) -> None:
    plan = home.with_glucose_plan()
    assert home.submit(home.measured("10.5", code="15074-8", unit="mmol/L")).statuses == [201]
    (task,) = home.alerts()
    assert raised(home) == [f"Task/{task['id']}"]
    assert (task["status"], task["priority"], task["basedOn"]) == ("requested", "urgent", [{"reference": plan}])
    (observation,) = home.observations()
    assert task["focus"] == {"reference": f"Observation/{observation}"}
    assert task["restriction"]["period"]["end"] == "2026-03-02T09:30:00.000Z"
    assert home.call("GET", f"Task/{task['id']}").body == task
    found = home.call("GET", f"Task/{task['id']}/_history").body
    assert found["total"] == 1


def test_a_storm_is_one_alert_and_one_word_about_it(home: Home) -> None:
    home.with_glucose_plan()
    for start in range(0, 100, 25):
        home.submit(*(home.measured(300, start + number - 100) for number in range(25)))
        home.clock.ahead(seconds=1)
    (task,) = home.alerts()
    assert len(raised(home)) == 1
    assert task["extension"][0]["extension"][1] == {"url": "count", "valuePositiveInt": 100}
    assert int(task["meta"]["versionId"]) <= 4


def test_back_in_range_ends_it_with_a_reason(home: Home) -> None:
    home.with_glucose_plan()
    home.submit(home.measured(50))
    home.submit(*(home.measured(100, minutes) for minutes in (1, 2, 3)))
    (task,) = home.alerts()
    assert (task["status"], task["statusReason"]["coding"][0]["code"]) == ("cancelled", "back-in-range")
    assert "restriction" not in task
    home.submit(home.measured(50, 4))
    assert [status for _, status in home.stands()].count("requested") == 1


def test_the_goal_says_how_many_of_how_many(home: Home) -> None:
    parts = [{"url": name, "valuePositiveInt": number} for name, number in (("outside", 2), ("among", 3))]
    url = "https://passerelle.example/StructureDefinition/monitoring-alert-after"
    target = range_target(GLUCOSE, 70, 180, extension=[{"url": url, "extension": parts}])
    home.put_in(home.plan(home.goal(target)))
    home.submit(home.measured(300), home.measured(100, 1))
    assert home.alerts() == []
    home.submit(home.measured(300, 2))
    assert home.stands() == [("threshold", "requested")]


def test_whoever_takes_care_answers_and_nobody_else(home: Home) -> None:
    home.with_glucose_plan()
    home.submit(home.measured(300))
    (task,) = home.alerts()
    place = f"Task/{task['id']}"
    assert home.call("POST", f"{place}/$acknowledge", by=HOSPITAL).status == 403
    assert home.call("POST", f"{place}/$acknowledge", by={**HOSPITAL, "role": "auditor"}).status in (403, 404)
    for _ in range(2):
        answer = home.call("POST", f"{place}/$acknowledge", by={**PRACTICE, **PHYSICIAN})
        assert (answer.status, answer.body["status"], answer.body["meta"]["versionId"]) == (200, "accepted", "2")
    assert answer.body["owner"]["identifier"]["value"] == PHYSICIAN["professional"]
    note = {"resourceType": "Parameters", "parameter": [{"name": "note", "valueString": "dose changed"}]}
    done = home.call("POST", f"{place}/$resolve", note)
    assert (done.status, done.body["status"], done.body["note"][0]["text"]) == (200, "completed", "dose changed")
    assert home.call("POST", f"{place}/$acknowledge").status == 409
    home.clock.ahead(hours=5)
    assert home.watch() == []
    assert home.stands() == [("threshold", "completed")], "nobody is told of it any more"
    home.submit(home.measured(300, 1))
    assert [status for _, status in home.stands()] == ["completed", "requested"], "what is measured later is news"


def test_a_house_in_the_care_circle_answers(home: Home) -> None:
    person = wiring.patient_index().find_person(home.patient)
    assert person is not None
    relation = Relation(party=HOSPITAL["organisation"], basis=Basis.CARE_TEAM, since=NOW)
    policy = replace(person.records[0].policy, relations=(relation,))
    joined = replace(person, records=(replace(person.records[0], policy=policy),), revision=person.revision + 1)
    record.commit(PersonChange(before=person, after=joined))
    home.with_glucose_plan()
    home.submit(home.measured(300))
    (task,) = home.alerts()
    answer = home.call("POST", f"Task/{task['id']}/$acknowledge", by=HOSPITAL)
    assert (answer.status, answer.body["owner"]["identifier"]["value"]) == (200, HOSPITAL["organisation"])


def test_alerts_are_made_and_changed_by_the_exchange_alone(home: Home) -> None:
    home.with_glucose_plan()
    home.submit(home.measured(300))
    (task,) = home.alerts()
    place = f"Task/{task['id']}"
    forged = {name: value for name, value in task.items() if name not in ("id", "meta")}
    assert home.call("POST", "Task", forged).status == 422
    assert home.call("PUT", place, {**task, "status": "completed"}).status == 422
    assert home.call("DELETE", place).status == 422
    mine = home.put_in({"resourceType": "Task", "status": "requested", "intent": "order", "for": forged["for"]})
    assert home.call("PUT", mine, {**forged, "id": mine.partition("/")[2]}).status == 422
    assert home.call("POST", f"{mine}/$acknowledge").status == 422


def test_nobody_answers(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody is known as attending physician: after half an hour it is the organisation's turn, and the last."""
    author = {"type": "Organization", "identifier": {"system": "urn:oid:1.2.250.1.71.4.2.2", "value": "1990000037"}}
    home.with_glucose_plan(author=author)
    home.submit(home.measured(300))
    home.clock.ahead(minutes=29)
    home.watch()
    assert home.alerts()[0]["priority"] == "urgent"
    home.clock.ahead(minutes=1)
    for _ in range(3):
        assert home.watch() == []
        home.clock.ahead(hours=1)
    (task,) = home.alerts()
    assert (task["priority"], task["owner"], task["meta"]["versionId"]) == ("stat", author, "2")
    assert raised(home) == [f"Task/{task['id']}"] * 2
    assert capsys.readouterr().out.count('"alert-unanswered": 1') == 1, "an alarm, once"
    assert home.due() == []


def test_what_a_device_puts_into_the_record_by_another_way_is_seen_at_the_next_tick(home: Home) -> None:
    home.with_glucose_plan()
    home.watch()
    home.put_in(home.measured(300))
    typed = home.measured(300, 1)
    del typed["device"]
    home.put_in(typed)
    assert home.alerts() == []
    for _ in range(2):
        assert home.watch() == []
    (task,) = home.alerts()
    assert task["extension"][0]["extension"][1]["valuePositiveInt"] == 1, "what somebody typed, somebody has seen"
    assert home.due() == [f"2026-03-02T09:30:00#{home.patient}"]


def test_a_plan_that_changes_or_ends_takes_its_alerts_along(home: Home) -> None:
    plan = home.with_glucose_plan()
    home.submit(home.measured(300))
    content = home.call("GET", plan).body
    assert home.call("PUT", plan, {**content, "status": "revoked"}).status == 200
    home.watch()
    assert [(each["status"], each["statusReason"]["coding"][0]["code"]) for each in home.alerts()] == [
        ("cancelled", "not-expected")
    ]
    home.submit(home.measured(300, 1))
    assert len(home.alerts()) == 1
    assert home.due() == []


def test_a_person_of_two_records_is_one_person(people: Callable[[int], Home]) -> None:
    home = people(2)
    home.clock.at = NOW
    home.with_glucose_plan()
    home.watch()
    other = replace(home, patient=home.members[1])
    other.submit(other.measured(300))
    other.put_in(other.measured(310, 1))
    home.watch()
    (task,) = home.alerts()
    assert task["for"] == {"reference": f"Patient/{home.patient}"}
    assert task["extension"][0]["extension"][1]["valuePositiveInt"] == 2
    assert len(home.due()) == 1


# --- what does not come ---------------------------------------------------------------------------------------------


def test_a_measurement_that_does_not_come_and_comes_late(home: Home) -> None:
    performer = {"reference": "Practitioner/nurse"}
    expected = activity(timeOfDay=["12:00:00"])
    expected["detail"]["performer"] = [performer]
    home.put_in(home.plan(activity=[expected]))
    home.watch()
    assert home.due() == [f"2026-03-02T13:00:00#{home.patient}"], "noon in Paris, and two hours"
    home.clock.ahead(hours=4)
    for _ in range(2):
        assert home.watch() == []
    (task,) = home.alerts()
    assert (task["code"]["coding"][0]["code"], task["owner"]) == ("missed-measurement", performer)
    home.submit(home.measured(100))
    (task,) = home.alerts()
    assert (task["status"], task["statusReason"]["coding"][0]["code"]) == ("cancelled", "measured")
    typed = home.measured(100, 22 * 60)
    del typed["device"]
    home.clock.ahead(hours=22)
    home.put_in({**typed, "effectiveDateTime": home.measured(100)["effectiveDateTime"]})
    home.clock.ahead(hours=4)
    home.watch()
    assert len(home.alerts()) == 1, "however it was measured, it was"


@pytest.mark.parametrize("kind", ["Appointment", "Encounter"])
@pytest.mark.parametrize("then", ["nobody", "late", "called off"])
def test_a_visit_at_home(home: Home, kind: str, then: str) -> None:
    start, end = "2026-03-02T10:00:00Z", "2026-03-02T11:00:00Z"
    person = {"reference": f"Patient/{home.patient}"}
    at_home = {"system": ACT_CODES, "code": "HH"}
    visits: dict[str, dict[str, Any]] = {
        "Appointment": {
            "resourceType": "Appointment",
            "status": "booked",
            "serviceType": [{"coding": [at_home]}],
            "start": start,
            "end": end,
            "participant": [{"actor": person, "status": "accepted"}],
        },
        "Encounter": {
            "resourceType": "Encounter",
            "status": "planned",
            "class": at_home,
            "subject": person,
            "period": {"start": start, "end": end},
        },
    }
    place = home.put_in(visits[kind])
    home.watch()
    home.clock.ahead(hours=2)
    home.watch()
    assert home.alerts() == [] or kind == "Appointment"
    home.clock.ahead(hours=2)
    assert home.watch() == []
    (task,) = home.alerts()
    assert (task["code"]["coding"][0]["code"], task["focus"]["reference"]) == ("missed-visit", place)
    if then != "nobody":
        came, off = {"Appointment": ("fulfilled", "noshow"), "Encounter": ("in-progress", "cancelled")}[kind]
        content = home.call("GET", place).body
        assert home.call("PUT", place, {**content, "status": came if then == "late" else off}).status == 200
        home.watch()
    (task,) = home.alerts()
    reason = task.get("statusReason", {"coding": [{"code": ""}]})["coding"][0]["code"]
    assert reason == {"nobody": "", "late": "visited", "called off": "not-expected"}[then]


def test_visits_by_the_plan(home: Home) -> None:
    home.put_in(home.plan(activity=[activity("HH", ACT_CODES, frequency=1, period=1, periodUnit="d")]))
    home.watch()
    home.clock.ahead(days=2)
    home.watch()
    assert home.stands() == [("missed-visit", "requested")]
    now = home.measured(1)["effectiveDateTime"]
    home.put_in(
        {
            "resourceType": "Encounter",
            "status": "in-progress",
            "class": {"system": ACT_CODES, "code": "HH"},
            "subject": {"reference": f"Patient/{home.patient}"},
            "period": {"start": now},
        }
    )
    home.watch()
    assert home.stands() == [("missed-visit", "cancelled")]


def test_what_cannot_be_told_is_said(home: Home) -> None:
    value = {"measure": {"coding": [{"system": LOINC, "code": GLUCOSE}]}}
    goal = home.goal(
        range_target(GLUCOSE, 70, 180),
        {**value, "detailQuantity": {"value": 100, "system": UCUM, "code": "mg/dL"}},
        {**value, "detailQuantity": {"value": 100, "comparator": "<", "system": UCUM, "code": "kg"}},
        {"measure": {"text": "mood"}, "detailString": "better"},
        range_target("718-7", 1, 2),
    )
    plan = home.put_in(
        home.plan(
            goal,
            "Goal/unknown",
            activity=[activity(timeOfDay=["08:00:00"]), activity(when=["ACM"]), activity("diet", "urn:x", frequency=1)],
        )
    )
    home.submit(home.measured(300))
    answer = home.call("GET", f"{plan}/$monitoring-status")
    assert answer.status == 200
    watched = [each["part"] for each in answer.body["parameter"] if each["name"] == "watched"]
    unsaid = [each["part"][0]["valueString"] for each in answer.body["parameter"] if each["name"] == "not-evaluable"]
    assert [part[1]["valueCode"] for part in watched] == ["glucose", "glucose"]
    assert watched[0][-1]["valueReference"]["reference"] == f"Task/{home.alerts()[0]['id']}"
    assert watched[1][-1] == {"name": "due", "valueInstant": "2026-03-03T09:00:00.000Z"}, "eight, and two hours"
    assert unsaid == [
        *(f"CarePlan.goal[0].target[{number}]" for number in (1, 2, 3, 4)),
        "CarePlan.goal[1]",
        "CarePlan.activity[1].detail",
    ]


@pytest.mark.parametrize(
    ("period", "timing"),
    [
        ({"start": "0001", "end": "9999-12-31"}, {"timeOfDay": ["23:59:60"]}),
        ({"start": "2026-03-01", "end": "9999-12-31T23:59:59Z"}, {"frequency": 1, "period": 1, "periodUnit": "d"}),
        ({}, {"frequency": 1, "period": 10**12, "periodUnit": "d"}),
        ({}, {"frequency": 1, "period": 366, "periodUnit": "wk", "dayOfWeek": ["mon"]}),
        ({}, {"frequency": 1, "period": 1, "periodUnit": "a"}),
        ({"start": "2999"}, {"frequency": 3, "period": 8, "periodUnit": "h"}),
        ({}, {"boundsPeriod": {"end": "9999"}, "frequency": 1}),
    ],
)
def test_no_plan_however_strange_keeps_the_clock_from_ticking(
    home: Home, period: dict[str, str], timing: dict[str, Any]
) -> None:
    encounter = {
        "resourceType": "Encounter",
        "status": "planned",
        "class": {"system": ACT_CODES, "code": "HH"},
        "subject": {"reference": f"Patient/{home.patient}"},
        "period": {"start": "2026-03-02T10:00:00Z", "end": "9999-12-31"},
    }
    home.put_in(encounter)
    team = {"careTeam": [{"reference": "#team"}], "contained": [{"resourceType": "CareTeam", "id": "team"}]}
    plan = home.put_in(home.plan(activity=[activity(**timing)], **({"period": period} if period else {}), **team))
    home.put_in(home.measured(100, effectiveDateTime="9999-12-31T23:59:59Z"))
    assert home.watch() == []
    home.clock.ahead(days=3)
    assert home.watch() == []
    assert home.call("GET", f"{plan}/$monitoring-status").status == 200
    assert ("missed-visit", "requested") in home.stands()


def test_no_event_says_more_than_ids(home: Home) -> None:
    for name, reference, _ in events():
        assert " " not in name + reference
