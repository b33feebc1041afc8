"""The capability statement lists what the routes serve, and nothing else."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from passerelle.fhir.audit_search import parse_audit_search
from passerelle.fhir.capability import VERSION, capability_statement
from passerelle.fhir.index import RECORD_TYPES
from passerelle.fhir.search import parse_query
from passerelle.fhir.validation import validate
from passerelle.notifications.topics import topic_named

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Served:
    resource: str | None
    name: str
    features: tuple[str, ...] = ()


ROUTES = [
    Served("Patient", "conditional-update"),
    Served("Patient", "read", ("conditional-read",)),
    Served("Patient", "search-type"),
    Served("Observation", "read", ("conditional-read",)),
    Served("Observation", "vread"),
    Served("Observation", "history-instance"),
    Served("Observation", "search-type", ("include",)),
    Served("Observation", "create", ("conditional-create",)),
    Served("Observation", "update", ("update-create",)),
    Served("Observation", "conditional-patch"),
    Served("Observation", "patch"),
    Served("Observation", "delete"),
    Served("Observation", "conditional-delete"),
    Served("Organization", "search-type"),
    Served("AuditEvent", "search-type"),
    Served("Binary", "read"),
    Served("Subscription", "create"),
    Served("Task", "$accept"),
    Served(None, "transaction", ("batch",)),
    Served(None, "$process-message"),
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
        ["json", "xml"],
    )


def test_interactions_are_those_of_the_routes() -> None:
    resources = listed(capability_statement(ROUTES))
    assert codes(resources["Observation"]) == [
        *("create", "delete", "history-instance", "patch", "read", "search-type", "update", "vread")
    ]
    assert codes(resources["Patient"]) == ["read", "search-type"]  # by a condition only is not by id
    assert codes(resources["Binary"]) == ["read"]
    assert codes(resources["Task"]) == []
    assert resources["Task"]["operation"][0]["name"] == "accept"
    assert "searchParam" not in resources["Binary"]


def test_what_goes_beyond_an_interaction_is_said_where_it_is_done() -> None:
    resources = listed(capability_statement(ROUTES))
    names = (
        *("versioning", "readHistory", "updateCreate", "conditionalCreate", "conditionalRead"),
        *("conditionalUpdate", "conditionalDelete"),
    )
    told = {kind: {name: each[name] for name in names if name in each} for kind, each in resources.items()}
    assert told["Observation"] == {
        "versioning": "versioned",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalDelete": "single",
    }
    assert told["Patient"] == {"conditionalRead": "full-support", "conditionalUpdate": True}
    assert told["Subscription"] == told["Binary"] == {}


def test_includes_follow_references_of_types_that_are_searched_with_them() -> None:
    resources = listed(capability_statement(ROUTES))
    assert "Observation:subject" in resources["Observation"]["searchInclude"]
    assert "searchInclude" not in resources["Patient"]
    both = [*ROUTES, Served("Organization", "search-type", ("include",))]
    assert "Observation:performer" in listed(capability_statement(both))["Organization"]["searchRevInclude"]


def test_a_canonical_is_searched_and_not_included() -> None:
    (plan,) = listed(capability_statement([Served("CarePlan", "search-type", ("include",))])).values()
    assert "instantiates-canonical" in {each["name"] for each in plan["searchParam"]}
    assert "CarePlan:instantiates-canonical" not in plan["searchInclude"]
    assert "CarePlan:encounter" in plan["searchInclude"]


def test_patch_formats_are_told_if_anything_is_patched() -> None:
    statement = capability_statement(ROUTES)
    assert statement["patchFormat"] == [
        *("application/json-patch+json", "application/fhir+json", "application/fhir+xml")
    ]
    assert "patchFormat" not in capability_statement([Served("Binary", "read")])


def test_a_guide_is_named_only_if_all_that_it_takes_is_served() -> None:
    named = [each.rpartition("/")[2] for each in capability_statement(ROUTES)["instantiates"]]
    assert named == ["IHE.PDQm.PatientDemographicsSupplierQuery", "IHE.MHD.DocumentRecipient"]
    assert "instantiates" not in capability_statement([Served("Patient", "read")])


def test_system_interactions_and_operations() -> None:
    (rest,) = capability_statement(ROUTES)["rest"]
    assert rest["interaction"] == [{"code": "batch"}, {"code": "transaction"}]
    assert [operation["name"] for operation in rest["operation"]] == ["process-message"]
    assert rest["security"]["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"


def test_every_listed_search_parameter_is_understood() -> None:
    values = {
        "date": "2025-03-14",
        "number": "1",
        "quantity": "1||kg",
        "reference": "1",
        "string": "a",
        "token": "urn:oid:2.999|1",
        "uri": "urn:x",
    }
    for name, resource in listed(capability_statement(ROUTES)).items():
        for parameter in resource.get("searchParam", []):
            if parameter["type"] == "composite":
                parts = RECORD_TYPES[name].search[parameter["name"]].components
                values["composite"] = "$".join(values[part.kind] for part in parts)
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
    assert {"_id", "identifier", "name"} <= names["Organization"]
    assert {"_id", "identifier", "family", "given", "birthdate", "gender"} <= names["Patient"]
    assert not any(name.startswith("patient") for kind in ("Organization", "Patient") for name in names[kind])


def test_the_same_routes_give_the_same_bytes_in_any_order() -> None:
    one, other = capability_statement(ROUTES), capability_statement(reversed(ROUTES))
    assert json.dumps(one) == json.dumps(other)


def test_the_version_is_that_of_the_project() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_sub_11_topics_are_listed_where_subscriptions_are() -> None:
    """SUB-11: by the canonical extension of the backport; only where somebody can subscribe."""
    resources = listed(capability_statement(ROUTES))
    extensions = resources["Subscription"]["extension"]
    url = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/capabilitystatement-subscriptiontopic-canonical"
    assert {each["url"] for each in extensions} == {url}
    names = [topic_named(each["valueCanonical"]) for each in extensions]
    assert {"document-changed", "access-changed", "patient-feed"} <= set(names)
    assert len(set(names)) == len(names)
    assert not any("extension" in each for name, each in resources.items() if name != "Subscription")
    assert "extension" not in listed(capability_statement([Served("Subscription", "read")]))["Subscription"]
