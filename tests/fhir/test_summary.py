"""The International Patient Summary: what is in it, what is not, and that it is a valid document."""

from __future__ import annotations

import lzma
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import resolve_references
from passerelle.fhir.narrative import fault_in
from passerelle.fhir.summary import SECTIONS, SUPPORTING_TYPES, summary_document
from passerelle.fhir.validation import validate

BASE = "https://exchange.example.org/fhir"
AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
DOCUMENT_ID = "6f4b2f4e-0f0a-4c57-9a53-0d5c8a8d9b11"
MANDATORY = {"11450-4", "48765-2", "10160-0"}
PROBLEMS, ALLERGIES, MEDICATIONS = "11450-4", "48765-2", "10160-0"
RESULTS, VITAL_SIGNS, SOCIAL, PREGNANCY, PAST = "30954-2", "8716-3", "29762-2", "10162-6", "11348-0"

PATIENT = {
    "resourceType": "Patient",
    "id": "7q2k",
    "name": [{"family": "Durand", "given": ["Anne"]}],
    "birthDate": "1974-12-25",
}
THO = "http://terminology.hl7.org/CodeSystem/"


def concept(code: str, display: str | None = None, system: str = "http://loinc.org") -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, **({"display": display} if display else {})}]}


def resource(type: str, id: str, **members: Any) -> dict[str, Any]:
    subject = "patient" if type in ("AllergyIntolerance", "Immunization", "Consent") else "subject"
    return {"resourceType": type, "id": id, subject: {"reference": "Patient/7q2k"}, **members}


def condition(id: str, status: str | None, text: str = "Asthma", **members: Any) -> dict[str, Any]:
    clinical = {"clinicalStatus": concept(status, system=f"{THO}condition-clinical")} if status else {}
    return resource("Condition", id, code={"text": text}, **clinical, **members)


def observation(id: str, code: str, category: str | None, when: str, **members: Any) -> dict[str, Any]:
    categories = {"category": [concept(category, system=f"{THO}observation-category")]} if category else {}
    return resource(
        "Observation",
        id,
        **{"status": "final", "code": concept(code), "effectiveDateTime": when, **categories, **members},
    )


def summary(*resources: dict[str, Any], patient: dict[str, Any] = PATIENT) -> dict[str, Any]:
    document = summary_document(
        patient, resources, at=AT, base_url=BASE, custodian="Exchange & Cie", document_id=DOCUMENT_ID
    )
    check_document(document)
    return document


def check_document(document: dict[str, Any]) -> None:
    """The rules of R4 and of the profile that hold for every summary."""
    validate(document)
    entries = document["entry"]
    composition = entries[0]["resource"]
    assert document["type"] == "document"
    assert {"system", "value"} <= document["identifier"].keys()  # bdl-9
    assert document["timestamp"]  # bdl-10
    assert composition["resourceType"] == "Composition"  # bdl-11
    assert all(entry["resource"]["resourceType"] != "Composition" for entry in entries[1:])  # bdl-ips-1
    urls = [entry["fullUrl"] for entry in entries]
    assert len(urls) == len(set(urls))  # bdl-7
    listed = [entry["reference"] for section in composition["section"] for entry in section.get("entry", [])]
    parties = [composition["subject"], *composition["author"], composition["custodian"]]
    assert {*listed, *(party["reference"] for party in parties)} <= set(urls)
    codes = [section["code"]["coding"][0]["code"] for section in composition["section"]]
    assert set(codes) >= MANDATORY
    assert len(codes) == len(set(codes))
    for section in composition["section"]:
        assert fault_in(section["text"]["div"]) is None
        assert not ("entry" in section and "emptyReason" in section)  # cmp-2
        if section["code"]["coding"][0]["code"] in MANDATORY:
            assert ("entry" in section) != ("emptyReason" in section)  # ips-comp-1


def sections(document: dict[str, Any]) -> dict[str, list[str]]:
    """Section code -> the ids in it, in order."""
    return {
        section["code"]["coding"][0]["code"]: [
            entry["reference"].rpartition("/")[2] for entry in section.get("entry", [])
        ]
        for section in document["entry"][0]["resource"]["section"]
    }


def filled(document: dict[str, Any]) -> dict[str, list[str]]:
    return {code: ids for code, ids in sections(document).items() if ids}


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def narrative(document: dict[str, Any], code: str) -> list[str]:
    """The texts of a section: title, headings, cells."""
    every = document["entry"][0]["resource"]["section"]
    (div,) = [each["text"]["div"] for each in every if each["code"]["coding"][0]["code"] == code]
    reader = _Words()
    reader.feed(div)
    return reader.words


# --- the document -------------------------------------------------------------------------------------------


def test_without_data_the_mandatory_sections_are_there_and_assert_nothing() -> None:
    document = summary()
    assert sections(document) == {PROBLEMS: [], ALLERGIES: [], MEDICATIONS: []}
    reasons = [each["emptyReason"]["coding"][0]["code"] for each in document["entry"][0]["resource"]["section"]]
    assert reasons == ["unavailable"] * 3
    composition = document["entry"][0]["resource"]
    assert composition["type"]["coding"] == [{"system": "http://loinc.org", "code": "60591-5"}]
    assert (composition["status"], composition["date"]) == ("final", "2026-03-01T09:30:00.000Z")
    assert composition["subject"] == {"reference": f"{BASE}/Patient/7q2k"}
    by_url = {entry["fullUrl"]: entry["resource"] for entry in document["entry"]}
    assert by_url[composition["author"][0]["reference"]]["resourceType"] == "Device"
    assert by_url[composition["custodian"]["reference"]]["name"] == "Exchange & Cie"
    assert document["identifier"] == {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{DOCUMENT_ID}"}


def test_the_order_of_what_is_given_changes_nothing() -> None:
    given = [condition(f"c{n}", "active" if n % 2 else "resolved", recordedDate=f"20{n:02}-01-01") for n in range(10)]
    given += [observation(f"o{n}", str(n % 3), "laboratory", f"20{n:02}-01") for n in range(10)]
    shuffled = random.Random(1).sample([*given, given[0]], 21)
    assert fhir_json.dumps(summary(*given)) == fhir_json.dumps(summary(*shuffled))


def test_the_document_is_as_confidential_as_the_most_confidential_in_it() -> None:
    def label(code: str) -> dict[str, Any]:
        return {"security": [{"system": f"{THO}v3-Confidentiality", "code": code}]}

    def level(*resources: dict[str, Any]) -> str:
        document = summary(*resources)
        code = str(document["entry"][0]["resource"]["confidentiality"])
        assert document["meta"]["security"][0]["code"] == code
        return code

    assert level() == "N"
    assert level(condition("a", "active", meta=label("L"))) == "N"
    assert level(condition("a", "active", meta=label("R")), condition("b", "active", meta=label("V"))) == "V"
    # What is not in the document leaves no trace in it.
    entered_in_error = concept("entered-in-error", system=f"{THO}condition-ver-status")
    assert level(condition("a", None, meta=label("V"), verificationStatus=entered_in_error)) == "N"


# --- what is in which section -------------------------------------------------------------------------------


def verification(code: str) -> dict[str, Any]:
    return {"verificationStatus": concept(code, system=f"{THO}condition-ver-status")}


def allergy(id: str, status: str | None = None, **members: Any) -> dict[str, Any]:
    clinical = {"clinicalStatus": concept(status, system=f"{THO}allergyintolerance-clinical")} if status else {}
    return resource("AllergyIntolerance", id, code={"text": "Penicillin"}, **clinical, **members)


def medication(type: str, id: str, status: str, **members: Any) -> dict[str, Any]:
    order = {"intent": "order"} if type == "MedicationRequest" else {}
    named = {} if "medicationReference" in members else {"medicationCodeableConcept": {"text": "Aspirin"}}
    return resource(type, id, **{"status": status, **named, **order, **members})


def consent(id: str, scope: str, category: str, status: str = "active") -> dict[str, Any]:
    return resource(
        "Consent",
        id,
        status=status,
        scope=concept(scope, system=f"{THO}consentscope"),
        category=[concept(category, system=f"{THO}consentcategorycodes")],
        policyRule={"text": "policy"},
    )


def test_problems_are_active_and_past_ones_apart() -> None:
    document = summary(
        condition("active", "active"),
        condition("relapse", "relapse"),
        condition("no-status", None),
        condition("remission", "remission", abatementDateTime="2020"),
        condition("resolved", "resolved", abatementDateTime="2020"),
        condition("inactive", "inactive", abatementDateTime="2020"),
        condition("refuted", "active", **verification("refuted")),
        condition("error", None, **verification("entered-in-error")),
    )
    assert filled(document) == {
        PROBLEMS: ["active", "no-status", "relapse"],
        PAST: ["inactive", "remission", "resolved"],
    }


def test_allergies_that_are_over_or_untrue_are_left_out() -> None:
    document = summary(
        allergy("active", "active"),
        allergy("resolved", "resolved"),
        allergy("inactive", "inactive"),
        allergy("refuted", "active", **verification("refuted")),
        allergy("error", None, **verification("entered-in-error")),
    )
    assert filled(document) == {ALLERGIES: ["active"]}


def test_medications_are_those_taken_or_to_be_taken() -> None:
    request, statement = "MedicationRequest", "MedicationStatement"
    document = summary(
        medication(request, "active", "active"),
        medication(request, "paused", "on-hold"),
        medication(request, "stopped", "stopped"),
        medication(request, "done", "completed"),
        medication(request, "proposal", "active", intent="proposal"),
        medication(request, "never", "active", doNotPerform=True),
        medication(statement, "taken", "active"),
        medication(statement, "intended", "intended"),
        medication(statement, "not-taken", "not-taken"),
        medication(statement, "error", "entered-in-error"),
    )
    assert {code: set(ids) for code, ids in filled(document).items()} == {
        MEDICATIONS: {"active", "paused", "taken", "intended"}
    }


def test_the_latest_observation_of_each_code_counts() -> None:
    document = summary(
        observation("old", "718-7", "laboratory", "2024-01-01T10:00:00+01:00"),
        observation("new", "718-7", "laboratory", "2025-06"),
        observation("newest-but-preliminary", "718-7", "laboratory", "2026", status="preliminary"),
        observation("other", "17856-6", "laboratory", "2020"),
        observation("image", "42272-5", "imaging", "2019"),
        observation("survey", "71802-3", "survey", "2025"),
        observation("pulse-old", "8867-4", "vital-signs", "2025-01-01T08:00:00Z"),
        observation("pulse", "8867-4", "vital-signs", "2025-01-01T10:30:00+02:00"),
        resource("DiagnosticReport", "report", status="final", code=concept("58410-2"), effectiveDateTime="2018"),
        resource("DiagnosticReport", "void", status="cancelled", code=concept("58410-2"), effectiveDateTime="2025"),
    )
    assert filled(document) == {RESULTS: ["new", "other", "image", "report"], VITAL_SIGNS: ["pulse"]}


def test_an_observation_is_in_one_section() -> None:
    document = summary(
        observation("pregnant", "82810-3", "social-history", "2025"),
        observation("due", "11778-8", "vital-signs", "2024"),
        observation("births", "11640-0", "laboratory", "2023"),
        observation("smoker", "72166-2", None, "2022"),
        observation("job", "11341-5", "social-history", "2021"),
    )
    assert filled(document) == {PREGNANCY: ["pregnant", "due", "births"], SOCIAL: ["smoker", "job"]}


def test_the_other_sections() -> None:
    given = [
        resource("Immunization", "given", status="completed", vaccineCode={"text": "MMR"}, occurrenceDateTime="2020"),
        resource("Immunization", "refused", status="not-done", vaccineCode={"text": "MMR"}, occurrenceDateTime="2021"),
        resource("Procedure", "done", status="completed", code={"text": "Appendectomy"}),
        resource("Procedure", "not-done", status="not-done", code={"text": "Biopsy"}),
        resource("CarePlan", "plan", status="active", intent="plan", title="Diabetes"),
        resource("CarePlan", "old-plan", status="completed", intent="plan", title="Diabetes"),
        resource("Flag", "alert", status="active", code={"text": "Latex"}),
        resource("Flag", "no-alert", status="inactive", code={"text": "Latex"}),
        consent("directive", "adr", "acd"),
        consent("withdrawn", "adr", "acd", status="inactive"),
        consent("privacy", "patient-privacy", "npp"),
    ]
    assert filled(summary(*given)) == {
        "11369-6": ["given"],
        "47519-4": ["done"],
        "42348-3": ["directive"],
        "104605-1": ["alert"],
        "18776-5": ["plan"],
    }
    assert {each["resourceType"] for each in given} <= {name for section in SECTIONS for name in section.types}


def test_devices_are_told_and_are_no_entries() -> None:
    """The profile allows only a DeviceUseStatement as one."""
    names = [{"name": "Pacemaker", "type": "user-friendly-name"}]
    devices = [
        {
            "resourceType": "Device",
            "id": id,
            "patient": {"reference": "Patient/7q2k"},
            "status": status,
            "deviceName": names,
        }
        for id, status in (("d", "active"), ("e", "inactive"))
    ]
    document = summary(*devices)
    assert narrative(document, "46264-8") == ["Medical devices", "Date", "Description", "Pacemaker"]
    assert [entry["fullUrl"] for entry in document["entry"] if entry["fullUrl"].startswith(f"{BASE}/Device")] == []


# --- what comes with it -------------------------------------------------------------------------------------


def test_what_is_referred_to_comes_with_it_and_nothing_else_does() -> None:
    document = summary(
        medication(
            "MedicationRequest",
            "order",
            "active",
            medicationReference={"reference": "Medication/m"},
            requester={"reference": f"{BASE}/PractitionerRole/r/_history/3"},
            encounter={"reference": "Encounter/e"},
            reasonReference=[{"reference": "Condition/over"}],
        ),
        {"resourceType": "Medication", "id": "m", "code": {"text": "Metformin"}},
        {"resourceType": "PractitionerRole", "id": "r", "practitioner": {"reference": "Practitioner/p"}},
        {"resourceType": "Practitioner", "id": "p", "name": [{"text": "Dr Roy"}]},
        {"resourceType": "Practitioner", "id": "stranger", "name": [{"text": "Dr No"}]},
        {"resourceType": "Organization", "id": "gp", "name": "Practice"},
        resource("Encounter", "e", status="finished", **{"class": {"code": "AMB"}}),
        condition("over", "active", **verification("refuted")),
        patient={**PATIENT, "managingOrganization": {"reference": "Organization/gp"}},
    )
    urls = [entry["fullUrl"].removeprefix(f"{BASE}/") for entry in document["entry"] if "uuid" not in entry["fullUrl"]]
    assert urls == [
        "Patient/7q2k",
        "MedicationRequest/order",
        "Organization/gp",
        "Medication/m",
        "PractitionerRole/r",
        "Practitioner/p",
    ]
    assert narrative(document, MEDICATIONS)[-1] == "Metformin"


def test_the_results_of_a_report_come_with_it_unless_withdrawn() -> None:
    results = [{"reference": f"Observation/{id}"} for id in ("kept", "withdrawn", "hidden")]
    document = summary(
        resource("DiagnosticReport", "report", status="final", code=concept("58410-2"), result=results),
        observation("kept", "718-7", None, "2025"),
        observation("withdrawn", "718-7", None, "2025", status="entered-in-error"),
    )
    assert f"{BASE}/Observation/kept" in [entry["fullUrl"] for entry in document["entry"]]
    assert filled(document) == {RESULTS: ["report"]}
    assert len(document["entry"]) == 6


# --- narrative ----------------------------------------------------------------------------------------------


def test_text_from_outside_is_text() -> None:
    document = summary(condition("c", "active", '<script>alert("1")</script> & <b>'))
    assert narrative(document, PROBLEMS)[-1] == '<script>alert("1")</script> & <b>'


@pytest.mark.parametrize(
    ("code", "given", "row"),
    [
        (
            PROBLEMS,
            condition("c", "active", onsetPeriod={"start": "2020-05"}, **verification("provisional")),
            ["2020-05", "Asthma: provisional"],
        ),
        (
            ALLERGIES,
            allergy("a", "active", criticality="high", reaction=[{"manifestation": [{"text": "Hives"}]}]),
            ["Penicillin: Hives; high risk"],
        ),
        (
            MEDICATIONS,
            medication(
                "MedicationRequest",
                "m",
                "on-hold",
                dosageInstruction=[{"text": "1 a day"}],
                authoredOn="2025-02-03T10:00:00Z",
            ),
            ["2025-02-03", "Aspirin: 1 a day; on-hold"],
        ),
        (
            VITAL_SIGNS,
            observation(
                "o",
                "85354-9",
                "vital-signs",
                "2025-01-01",
                component=[
                    {
                        "code": {"text": "systolic"},
                        "valueQuantity": {"value": fhir_json.loads(b"120.0"), "unit": "mmHg"},
                    },
                    {
                        "code": {"text": "diastolic"},
                        "valueQuantity": {
                            "value": 80,
                            "comparator": "<",
                            "code": "mm[Hg]",
                            "system": "http://unitsofmeasure.org",
                        },
                    },
                ],
            ),
            ["2025-01-01", "85354-9: systolic 120.0 mmHg; diastolic < 80 mm[Hg]"],
        ),
        (
            RESULTS,
            observation("o", "x", "laboratory", "2025", valueRange={"low": {"value": 1}, "high": {"value": 2}}),
            ["2025", "x: 1 to 2"],
        ),
        (
            RESULTS,
            observation("o", "x", "laboratory", "2025", dataAbsentReason={"text": "not done"}),
            ["2025", "x: not done"],
        ),
        (
            RESULTS,
            resource(
                "DiagnosticReport",
                "r",
                status="final",
                code={"text": "X-ray"},
                conclusion="Normal",
                issued="2025-01-01T00:00:00Z",
            ),
            ["2025-01-01", "X-ray: Normal"],
        ),
        (SOCIAL, observation("o", "x", "social-history", "2025", valueBoolean=False), ["2025", "x: no"]),
    ],
)
def test_a_row_says_when_what_and_how_much(code: str, given: dict[str, Any], row: list[str]) -> None:
    assert narrative(summary(given), code)[3:] == row


# --- real inputs --------------------------------------------------------------------------------------------


def lines(file: Path) -> Iterator[dict[str, Any]]:
    with lzma.open(file) as listed:
        for line in listed:
            yield fhir_json.loads(line)


def test_the_examples_of_the_guide(shared_data: Path) -> None:
    """Those of the guide's minimal document are found again; its other examples find their sections."""
    examples = [
        each.get("resource") or each["bundle"]
        for each in lines(shared_data / "ig_examples.ndjson.xz")
        if each["file"].startswith("hl7.fhir.uv.ips/")
    ]
    (minimal,) = [each for each in examples if each["resourceType"] == "Bundle"]
    inner = [entry["resource"] for entry in minimal["entry"][1:]]
    patient = next(each for each in inner if each["resourceType"] == "Patient")
    local = {
        entry["fullUrl"]: f"{entry['resource']['resourceType']}/{entry['resource']['id']}" for entry in minimal["entry"]
    }
    document = summary(*(resolve_references(each, local) for each in inner), patient=patient)
    assert {code: len(ids) for code, ids in sections(document).items()} == {PROBLEMS: 1, ALLERGIES: 1, MEDICATIONS: 1}
    assert {each["resourceType"] for each in inner} == {
        entry["resource"]["resourceType"] for entry in document["entry"] if "uuid" not in entry["fullUrl"]
    } | {"Practitioner", "Organization"}

    patient = next(each for each in examples if each["id"] == "66033")
    found = filled(summary(*(each for each in examples if each["resourceType"] != "Bundle"), patient=patient))
    assert {code: set(ids) for code, ids in found.items() if code != MEDICATIONS} == {
        ALLERGIES: {"allergyintolerance-multiple-codings", "eumfh-39-07-1"},
        "11369-6": {"75680"},
        RESULTS: {"hemoglobin", "ips-example-imaging-5", "urine-wbc-range"},
        "47519-4": {"eumfh-39-07-1", "procedure-missing-performed"},
        PREGNANCY: {"pregnancy-outcome-example", "pregnancy-status-example"},
        SOCIAL: {"alcohol-use-example", "tobacco-use-example"},
    }


def test_whole_records(shared_data: Path) -> None:
    for n, each in enumerate(lines(shared_data / "synthea2019_bundles.ndjson.xz")):
        if n == 4:
            break
        entries = each["bundle"]["entry"]
        local = {
            entry["fullUrl"]: f"{entry['resource']['resourceType']}/{entry['resource']['id']}" for entry in entries
        }
        record = [resolve_references(entry["resource"], local) for entry in entries]
        (patient,) = [one for one in record if one["resourceType"] == "Patient"]
        document = summary(*record, patient=patient)
        by_id = {one["id"]: one for one in record}
        found = sections(document)
        for id in found[PROBLEMS]:
            assert by_id[id]["clinicalStatus"]["coding"][0]["code"] == "active"
        latest: dict[str, str] = {}
        for one in record:
            if one["resourceType"] == "Observation" and one["category"][0]["coding"][0]["code"] == "vital-signs":
                code = one["code"]["coding"][0]["code"]
                latest[code] = max(latest.get(code, ""), one["effectiveDateTime"])
        assert len(found.get(VITAL_SIGNS, [])) == len(latest)
        assert {by_id[id]["effectiveDateTime"] for id in found.get(VITAL_SIGNS, [])} <= set(latest.values())
        supporting = {entry["resource"]["resourceType"] for entry in document["entry"]}
        assert supporting <= {"Composition", "Patient", *SUPPORTING_TYPES, *(t for s in SECTIONS for t in s.types)}
