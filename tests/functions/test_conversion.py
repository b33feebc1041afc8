"""HL7 v2 messages over HTTP, as they come to the record: registered, moved, corrected, merged; each applied once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.exchange import Client, Exchange
from tests.hl7v2 import DOMAIN, NAMES, changed, example
from tests.ingesting import code, send

ORDER = ("admission", *(name for name in NAMES if name not in ("admission", "merge", "discharge")), "discharge")


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


def found(client: Client, query: str) -> list[dict[str, Any]]:
    answer = client.get(query)
    assert answer.status == 200, answer.body
    return [each["resource"] for each in answer.json.get("entry", ()) if each.get("search", {}).get("mode") == "match"]


@pytest.fixture(scope="module")
def patient(exchange: Exchange, hospital: Client) -> str:
    """Every example is applied, in the order in which things happen; the first registers the patient."""
    for name in ORDER:
        answer = send(exchange, example(name))
        assert code(answer) == "AA", (name, answer.body)
    (known,) = found(hospital, f"Patient?identifier={DOMAIN}|IPP-4711")
    return str(known["id"])


def test_every_message_is_applied(hospital: Client, patient: str) -> None:
    for kind, count in (("Observation", 7), ("DiagnosticReport", 3), ("Appointment", 1), ("Immunization", 1)):
        assert len(found(hospital, f"{kind}?patient={patient}")) == count, kind
    (known,) = found(hospital, f"Patient?identifier={DOMAIN}|IPP-4711")
    assert (known["meta"]["versionId"], "address" in known) == ("1", True)  # only the registration says who they are


def test_a_stay_is_one_encounter_with_its_movements_in_its_history(hospital: Client, patient: str) -> None:
    (stay,) = found(hospital, f"Encounter?patient={patient}")
    assert (stay["status"], stay["meta"]["versionId"]) == ("finished", "3")


def test_a_correction_is_the_next_version_of_a_result(exchange: Exchange, hospital: Client, patient: str) -> None:
    value = ("|5.90|mmol/L^^UCUM|3.5-5.1|H|||F", "|4.10|mmol/L^^UCUM|3.5-5.1||||C")
    answer = send(exchange, changed("biology", value, ("SIL-2001", "SIL-2002")))
    assert code(answer) == "AA", answer.body
    (corrected,) = found(hospital, f"Observation?patient={patient}&code=http://loinc.org|2823-3")
    assert (corrected["status"], float(corrected["valueQuantity"]["value"])) == ("corrected", 4.1)
    assert corrected["meta"]["versionId"] == "2"


def test_a_result_of_somebody_unknown_registers_them(exchange: Exchange, hospital: Client) -> None:
    numbers = (("IPP-4711", "IPP-4799"), ("SEJ-880", "SEJ-881"), ("SIL-2001", "SIL-2003"))
    other = changed("biology", *numbers, ("MOREAU^Élise^Élise Anne", "VASSEUR^Odile^Odile"), ("19580412", "19330107"))
    assert code(send(exchange, other)) == "AA"
    (known,) = found(hospital, f"Patient?identifier={DOMAIN}|IPP-4799")
    (stay,) = found(hospital, f"Encounter?patient={known['id']}")
    assert stay["status"] == "unknown"


def test_a_merge_replaces_one_record_by_the_other(exchange: Exchange, hospital: Client, patient: str) -> None:
    answer = send(exchange, example("merge"))
    assert code(answer) == "AA", answer.body
    (replaced,) = found(hospital, f"Patient?identifier={DOMAIN}|IPP-4799")
    assert (replaced["active"], replaced["link"][0]["other"]["reference"]) == (False, f"Patient/{patient}")
