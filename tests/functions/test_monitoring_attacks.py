"""Measurements, plans and alerts by those who mean no good, or whose devices are broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.monitored import GLUCOSE, NOW, PRACTICE, Home, activity, exchange, forgotten, raised, range_target

HOSPITAL = {"client_id": "hospital-a", "organisation": "1754567860", "role": "hospital"}
MASKED: dict[str, Any] = {
    "meta": {
        "security": [
            {
                "system": "https://mos.esante.gouv.fr/NOS/TRE_A07-StatutVisibiliteDocument/FHIR/"
                "TRE-A07-StatutVisibiliteDocument",
                "code": "MASQUE_PS",
            }
        ]
    }
}


@pytest.fixture(scope="module")
def people() -> Iterator[Callable[..., Home]]:
    with exchange() as moving_in:
        yield moving_in


@pytest.fixture
def home(people: Callable[..., Home]) -> Home:
    forgotten()
    made = people()
    made.clock.at = NOW
    return made


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", ["2E+999999999", "1E-999999999", "0E+400000"])
def test_a_bound_that_nobody_can_compute_with_is_said_and_stops_nothing(home: Home, bound: str) -> None:
    """One such goal would else keep every measurement of the person out, and the clock from ticking."""
    target = range_target(GLUCOSE, None, bound)  # type: ignore[arg-type]
    plan = home.put_in(home.plan(home.goal(target)))
    answer = home.call("GET", f"{plan}/$monitoring-status")
    assert [each["name"] for each in answer.body["parameter"]] == ["active", "not-evaluable"]
    assert home.submit(home.measured(100)).statuses == [201]
    home.put_in(home.measured("1E+999999999", 1))
    assert home.watch() == []


@pytest.mark.parametrize("value", ["1E+400", "1E+999999999", "1E-999999999", "-1E+99", "100000000000"])
def test_a_value_that_nobody_has_is_refused(home: Home, value: str) -> None:
    answer = home.submit(home.measured(value))
    assert (answer.statuses, answer.places) == ([422], ["Bundle.entry[0].resource.valueQuantity.value"])


def test_digits_without_end_are_a_number(home: Home) -> None:
    assert home.submit(home.measured("100." + "0" * 2000)).statuses == [201]
    assert home.submit(home.measured("100")).statuses == [200]


@pytest.mark.parametrize(
    "timing",
    [
        {"frequency": 10**9},
        {"frequency": 1, "period": 1.5, "periodUnit": "d"},
        {"dayOfWeek": ["mon"] * 5000},
        {"timeOfDay": [f"{hour:02d}:{minute:02d}:00" for hour in range(24) for minute in range(60)]},
    ],
    ids=["often", "one and a half", "many days", "every minute"],
)
def test_a_strange_rhythm_keeps_nobody_waiting(home: Home, timing: dict[str, Any]) -> None:
    home.put_in(home.plan(activity=[activity(**timing)]))
    assert home.watch() == []
    home.clock.ahead(days=3)
    assert home.watch() == []
    assert len(home.alerts()) <= 1


def test_a_value_counts_in_the_unit_that_is_coded(home: Home) -> None:
    """5.5 mmol/L is what many have; 5.5 mg/dL calls for somebody, whatever the words beside it say."""
    home.with_glucose_plan()
    said = {"value": 5.5, "system": "http://unitsofmeasure.org", "code": "mmol/L", "unit": "mg/dL"}
    for wrong in ({**said, "system": "urn:x"}, {"value": 5.5, "unit": "mmol/L"}, {**said, "code": "%"}):
        assert home.submit(home.measured(0, valueQuantity=wrong)).statuses == [422]
    assert home.submit(home.measured(0, valueQuantity=said)).statuses == [201]
    assert home.stands() == []
    assert home.submit(home.measured(0, 1, valueQuantity={**said, "code": "mg/dL", "unit": "mmol/L"})).statuses == [201]
    assert home.stands() == [("threshold", "requested")]


# --- how much ---------------------------------------------------------------------------------------------------------


def test_a_person_of_several_records_sends_no_more_than_others(people: Callable[..., Home]) -> None:
    home = people(2)
    home.clock.at = NOW
    other = replace(home, patient=home.members[1])
    for start in range(3):
        for each in (home, other):
            batch = [each.measured(100, -start - number / 200) for number in range(100)]
            assert each.submit(*batch).status == 200
    assert home.submit(home.measured(100, 1)).status == 429
    assert other.submit(other.measured(100, 1)).status == 429


# --- what is hidden ---------------------------------------------------------------------------------------------------


def test_an_alert_is_hidden_from_whom_the_value_is(home: Home) -> None:
    home.with_glucose_plan()
    assert home.submit(home.measured(300, **MASKED), by=HOSPITAL).statuses == [201]
    (task,) = home.alerts()
    (observation,) = home.observations()
    stranger = {"client_id": "hospital-b", "organisation": "1754567878", "role": "hospital"}
    for by in (PRACTICE, stranger):
        assert home.call("GET", f"Observation/{observation}", by=by).status == 404
        assert home.call("GET", f"Task/{task['id']}", by=by).status == 404
        assert home.call("POST", f"Task/{task['id']}/$acknowledge", by=by).status == 404
        found = home.call("GET", f"Task?patient={home.patient}", by=by)
        assert "entry" not in found.body
    home.clock.ahead(hours=2)
    assert home.watch() == []
    (task,) = home.alerts()
    assert task["priority"] == "stat"
    assert home.call("GET", f"Task/{task['id']}").status == 404, "escalated, and hidden as before"


def test_a_hidden_value_changes_nothing_of_an_alert_that_others_see(home: Home) -> None:
    """With it and without it, they read the same."""
    plan = home.with_glucose_plan()
    home.submit(home.measured(300))
    (before,) = home.alerts()
    seen = home.call("GET", f"{plan}/$monitoring-status").body
    hidden = [home.measured(value, minutes, **MASKED) for minutes, value in enumerate((310, 100, 100, 100), 1)]
    assert home.submit(*hidden, by=HOSPITAL).statuses == [201] * 4
    assert home.call("GET", f"Task/{before['id']}").body == before
    assert home.call("GET", f"{plan}/$monitoring-status").body == seen
    home.watch()
    assert home.call("GET", f"Task/{before['id']}").body == before


# --- whose it is ------------------------------------------------------------------------------------------------------


def test_no_other_way_changes_an_alert(home: Home) -> None:
    home.with_glucose_plan()
    home.submit(home.measured(300))
    (task,) = home.alerts()
    place = f"Task/{task['id']}"
    patch = [{"op": "replace", "path": "/focus", "value": {"reference": "Observation/other"}}]
    answer = home.call("PATCH", place, json.dumps(patch), Content_Type="application/json-patch+json")
    assert answer.status == 422
    forged = {name: value for name, value in task.items() if name not in ("id", "meta")}
    for request, resource in (
        ({"method": "POST", "url": "Task"}, forged),
        ({"method": "PUT", "url": place}, {**task, "status": "completed"}),
        ({"method": "DELETE", "url": place}, None),
    ):
        entry = {"request": request, **({"resource": resource} if resource else {})}
        for kind in ("transaction", "batch"):
            sent = {"resourceType": "Bundle", "type": kind, "entry": [entry]}
            answer = home.call("POST", "", sent)
            status = answer.statuses[0] if answer.status == 200 else answer.status
            assert (kind, request["method"], status) == (kind, request["method"], 422)
    for by in ({**PRACTICE, "role": "patient"}, {**PRACTICE, "role": "system"}, HOSPITAL):
        assert home.call("POST", f"{place}/$acknowledge", by=by).status in (403, 404)
    assert home.stands() == [("threshold", "requested")]


def test_what_is_another_persons_is_nothing_here(people: Callable[..., Home], home: Home) -> None:
    """A goal or a device of another record is worth what one is that nobody has: nobody learns which are there."""
    other = people()
    goal = other.goal(range_target(GLUCOSE, 0, 1))
    device = other.put_in({"resourceType": "Device", "patient": {"reference": f"Patient/{other.patient}"}})
    nobody = f"{'0' * 16}-01hr0000000000000000000000"
    told = []
    for named in (goal, f"Goal/{nobody}"):
        plan = home.put_in(home.plan(named))
        told.append(home.call("GET", f"{plan}/$monitoring-status").body["parameter"])
    assert told[0] == told[1]
    assert [each["name"] for each in told[0]] == ["active", "not-evaluable"]
    for minute, named in enumerate((device, f"Device/{nobody}")):
        assert home.submit(home.measured(300, minute, device={"reference": named})).statuses == [201]
    assert home.stands() == other.stands() == []


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "1999-12-31T23:00:00Z"])
def test_a_time_that_no_device_measures_in_is_refused(home: Home, at: str) -> None:
    (status,) = home.submit(home.measured(100, effectiveDateTime=at)).statuses
    assert status in (400, 422)
    assert home.observations() == set()


def test_an_outage_of_days_is_no_storm(home: Home) -> None:
    """Whatever was missed meanwhile is one alert for each activity, and one word about it."""
    home.put_in(home.plan(activity=[activity(timeOfDay=["08:00:00", "12:00:00", "20:00:00"])]))
    home.watch()
    home.clock.ahead(days=20)
    for _ in range(2):
        assert home.watch() == []
    (task,) = home.alerts()
    assert (task["status"], len(raised(home))) == ("requested", 1)
    assert task["extension"][0]["extension"][1]["valuePositiveInt"] >= 55


def test_a_replay_after_the_alert_is_over_raises_nothing(home: Home) -> None:
    home.with_glucose_plan()
    batch = [home.measured(300), *(home.measured(100, minutes) for minutes in (1, 2, 3))]
    home.submit(*batch)
    home.submit(*batch)
    home.submit(*reversed(batch))
    assert home.stands() == [("threshold", "cancelled")], "over before anybody heard of it, and told all the same"
    assert home.watch() == []
    assert len(raised(home)) == 1
