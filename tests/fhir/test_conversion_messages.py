"""FHIR messages with a coded event: how each resource is found, who is not stored, what is refused unread."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from passerelle.errors import Busy, Conflict, Invalid, PasserelleError, Stale, Unavailable, Unprocessable
from passerelle.fhir.conversion.fhir_messages import names_coded_event, parse_message, response_code
from passerelle.ingestion.model import Source

SOURCE = Source(
    domain="urn:oid:2.999.1",
    organisation="1990000011",
    organisation_reference={"display": "H"},
    now=datetime(2026, 3, 2, 12, tzinfo=UTC),
)
V2_EVENTS = "http://terminology.hl7.org/CodeSystem/v2-0003"
PATIENT = {"resourceType": "Patient", "id": "p", "identifier": [{"system": "urn:oid:2.999.1", "value": "1"}]}
RESULT = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"text": "Hb"},
    "subject": {"reference": "Patient/p"},
    "performer": [{"reference": "urn:uuid:00000000-0000-4000-9000-000000000003"}],
}


def message(*resources: Any, event: str = "R01", **more: Any) -> dict[str, Any]:
    header = {
        "resourceType": "MessageHeader",
        "id": "m-1",
        "eventCoding": {"system": V2_EVENTS, "code": event},
        "source": {"endpoint": "https://laboratory.example/fhir"},
    }
    urls = [f"urn:uuid:00000000-0000-4000-9000-{n:012d}" for n in range(len(resources) + 1)]
    entries = [{"fullUrl": url, "resource": each} for url, each in zip(urls, (header, *resources), strict=True)]
    return {"resourceType": "Bundle", "type": "message", **more, "entry": entries}


def test_each_resource_is_found_by_its_identifier() -> None:
    named = {**RESULT, "identifier": [{"system": "urn:oid:2.999.8", "value": "a|b&c"}]}
    patient, result = parse_message(message(PATIENT, named), SOURCE).entries
    assert (patient.method, patient.if_none_exist) == ("POST", "identifier=urn%3Aoid%3A2.999.1%7C1")
    assert (result.method, result.url) == ("PUT", "Observation?identifier=urn%3Aoid%3A2.999.8%7Ca%7Cb%26c")
    assert "id" not in result.resource  # ids of the sender mean nothing here


def test_what_has_no_identifier_gets_one_that_is_the_same_again() -> None:
    first = parse_message(message(PATIENT, RESULT), SOURCE).entries[1]
    again = parse_message(message(PATIENT, RESULT), SOURCE).entries[1]
    other = parse_message(message(PATIENT, RESULT, identifier={"system": "urn:x", "value": "2"}), SOURCE).entries[1]
    assert first.url == again.url != other.url
    assert first.resource["identifier"][0]["value"].startswith("urn:uuid:")


def test_identity_events_revise_the_patient() -> None:
    (patient,) = parse_message(message(PATIENT, event="A31"), SOURCE).entries
    assert (patient.method, patient.query) == ("PUT", "identifier=urn%3Aoid%3A2.999.1%7C1")


def test_a_patient_of_another_domain_is_one_that_is_known_here() -> None:
    stranger = {**PATIENT, "identifier": [{"system": "urn:oid:1.2.250.1.213.1.4.10", "value": "2"}]}
    (result,) = parse_message(message(stranger, RESULT), SOURCE).entries
    assert result.resource["subject"]["reference"] == "Patient?identifier=urn%3Aoid%3A1.2.250.1.213.1.4.10%7C2"


def test_people_of_the_network_are_named_and_not_stored() -> None:
    doctor = {
        "resourceType": "Practitioner",
        "identifier": [{"system": "urn:oid:1.2.250.1.71.4.2.1", "value": "8"}],
        "name": [{"family": "MÉDECIN", "given": ["Jean"]}],
    }
    _, result = parse_message(message(PATIENT, RESULT, doctor), SOURCE).entries
    assert result.resource["performer"] == [
        {
            "type": "Practitioner",
            "identifier": {"system": "urn:oid:1.2.250.1.71.4.2.1", "value": "8"},
            "display": "Jean MÉDECIN",
        }
    ]


@pytest.mark.parametrize(
    ("sent", "kind", "code"),
    [
        pytest.param(message(PATIENT, event="Q99"), Unprocessable, "not-supported", id="event"),
        pytest.param(
            message({**PATIENT, "identifier": []} | {"identifier": [{"value": "1"}]}),
            Unprocessable,
            "required",
            id="nobody",
        ),
        pytest.param(message({"resourceType": "Parameters"}), Unprocessable, "not-supported", id="type"),
        pytest.param({**message(PATIENT), "type": "collection"}, Invalid, "structure", id="no message"),
        pytest.param(message(), Invalid, "required", id="empty"),
    ],
)
def test_refused(sent: Any, kind: type[PasserelleError], code: str) -> None:
    assert names_coded_event(sent)
    with pytest.raises(kind) as refused:
        parse_message(sent, SOURCE)
    assert refused.value.issues[0].code == code


@pytest.mark.parametrize(
    "sent", [None, [], {}, {"entry": []}, {"entry": [1]}, {"entry": [{"resource": {"eventUri": "x"}}]}]
)
def test_what_is_no_coded_message_is_the_feeds(sent: Any) -> None:
    assert not names_coded_event(sent)


def test_what_the_sender_has_to_do() -> None:
    assert [response_code(each) for each in (None, Unavailable(), Busy(), Stale())] == ["ok", *["transient-error"] * 3]
    assert [response_code(each) for each in (Invalid(), Conflict(), Unprocessable())] == ["fatal-error"] * 3
