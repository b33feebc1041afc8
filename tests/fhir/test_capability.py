"""The capability statement lists what the routes serve, and nothing else."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from passerelle.fhir.audit_event import parse_audit_search
from passerelle.fhir.capability import VERSION, capability_statement
from passerelle.fhir.search import parse_query
from passerelle.fhir.validation import validate

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Served:
    method: str
    path: str
    resource: str | None


ROUTES = [
    Served("PUT", "/fhir/Patient", "Patient"),
    Served("GET", "/fhir/Patient/{id}", "Patient"),
    Served("GET", "/fhir/Patient", "Patient"),
    Served("POST", "/fhir/Patient/_search", "Patient"),
    Served("GET", "/fhir/Observation/{id}", "Observation"),
    Served("GET", "/fhir/Observation/{id}/_history/{version}", "Observation"),
    Served("GET", "/fhir/Observation", "Observation"),
    Served("POST", "/fhir/Observation", "Observation"),
    Served("PUT", "/fhir/Observation/{id}", "Observation"),
    Served("DELETE", "/fhir/Observation/{id}", "Observation"),
    Served("GET", "/fhir/Organization", "Organization"),
    Served("GET", "/fhir/AuditEvent", "AuditEvent"),
    Served("GET", "/fhir/Binary/{id}", "Binary"),
    Served("POST", "/fhir/Task/{id}/$accept", "Task"),
    Served("POST", "/fhir", None),
    Served("POST", "/fhir/$process-message", None),
    Served("POST", "/oauth2/token", None),
]


def listed(statement: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {resource["type"]: resource for resource in statement["rest"][0]["resource"]}


def codes(resource: dict[str, Any]) -> list[str]:
    return [interaction["code"] for interaction in resource.get("interaction", [])]


def test_it_is_a_valid_capability_statement_of_r4() -> None:
    statement = capability_statement(ROUTES)
    validate(statement, expected_type="CapabilityStatement")
    assert (statement["fhirVersion"], statement["kind"], statement["format"]) == (
        "4.0.1",
        "instance",
        ["json"],
    )


def test_interactions_are_those_of_the_routes() -> None:
    resources = listed(capability_statement(ROUTES))
    assert codes(resources["Observation"]) == ["create", "delete", "read", "search-type", "update", "vread"]
    assert codes(resources["Patient"]) == ["read", "search-type", "update"]
    assert resources["Patient"]["conditionalUpdate"] is True
    assert "conditionalUpdate" not in resources["Observation"]
    assert "conditionalDelete" not in resources["Patient"]
    assert codes(resources["Binary"]) == ["read"]
    assert codes(resources["Task"]) == []
    assert resources["Task"]["operation"][0]["name"] == "accept"
    assert "searchParam" not in resources["Binary"]


def test_system_interactions_and_operations() -> None:
    (rest,) = capability_statement(ROUTES)["rest"]
    assert rest["interaction"] == [{"code": "transaction"}]
    assert [operation["name"] for operation in rest["operation"]] == ["process-message"]
    assert rest["security"]["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"


def test_every_listed_search_parameter_is_understood() -> None:
    values = {"date": "2025-03-14", "reference": "1", "token": "urn:oid:2.999|1", "string": "a"}
    for name, resource in listed(capability_statement(ROUTES)).items():
        for parameter in resource.get("searchParam", []):
            pair = (parameter["name"], values[parameter["type"]])
            if name == "AuditEvent":
                asked = {"patient": "7q2k9c4m1xw8z0ab", "date": "ge2025-03-14", **dict([pair])}
                asked["patient"] = "7q2k9c4m1xw8z0ab"
                _, used = parse_audit_search(list(asked.items()), base_url="https://x", strict=True)
            else:
                used = parse_query(name, [pair], strict=True).used
            assert parameter["name"] in [each for each, _ in used]


def test_only_types_with_a_record_have_a_patient() -> None:
    resources = listed(capability_statement(ROUTES))
    names = {kind: {each["name"] for each in resources[kind].get("searchParam", [])} for kind in resources}
    assert {"patient", "subject", "patient.identifier", "code", "_id"} <= names["Observation"]
    assert names["Organization"] == {"identifier"}
    assert names["Patient"] == {"_id", "identifier", "family", "given", "birthdate", "gender"}


def test_the_same_routes_give_the_same_bytes_in_any_order() -> None:
    one, other = capability_statement(ROUTES), capability_statement(reversed(ROUTES))
    assert json.dumps(one) == json.dumps(other)


def test_the_version_is_that_of_the_project() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
