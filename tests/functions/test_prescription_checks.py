"""The clinical checks in the life of a prescription, over HTTP, with a small base of knowledge written for tests."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from passerelle import wiring
from passerelle.consents.visibility import Restriction, label_system
from passerelle.fhir import json as fhir_json
from passerelle.fhir.patient import FhirPatientDraft
from passerelle.identifiers import new_resource_id
from passerelle.medicines.errors import KnowledgeUnavailable
from passerelle.prescriptions.validity import paris_day
from passerelle.records.model import RecordVersion, ResourceKey
from tests import record
from tests.prescribing import OTHER_PRACTICE, PATIENT, PHARMACY_A, PRACTICE, bundle, medication_request, region, request
from tests.prescribing import provenance as signed_by
from tests.prescribing_http import Answer, Api, parameters, supply

HARD_STOP, ACKNOWLEDGE = "hard-stop", "acknowledge"
_people = count(1)


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with region(finds=True) as made:
        yield Api(made)


@dataclass(frozen=True)
class Case:
    """A patient of one's own, and a prescription for them once there is one."""

    api: Api
    patient: str
    id: str = ""
    code: str = ""

    def prescribed(self, *names: str, **changes: Any) -> Case:
        created = self.api.call("/Task/$create", bundle(*(self.order(each, **changes) for each in names)))
        assert created.status == 201, created.body
        return replace(self, id=created.resources("Task")[0]["id"], code=created.told("accessCode"))

    def order(self, name: str, **changes: Any) -> dict[str, Any]:
        today = paris_day(datetime.now(UTC)).isoformat()
        return medication_request(self.patient, authoredOn=today, medicationCodeableConcept=medicine(name), **changes)

    def checked(self, body: Any = None, **options: Any) -> Answer:
        answer = self.api.call(f"/Task/{self.id}/$check", body, key=None, **options)
        assert answer.status == 200, answer.body
        return answer

    def prepared(self, *overrides: dict[str, Any]) -> Answer:
        body = {"resourceType": "Parameters", "parameter": list(overrides)} if overrides else None
        return self.api.call(f"/Task/{self.id}/$prepare", body, key=None)

    def activated(self, prepared: Answer, *overrides: dict[str, Any], digest: str | None = "same") -> Answer:
        content = base64.b64decode(prepared.told("content")).decode()
        body = parameters(provenance=signed_by(content, at=datetime.now(UTC)))
        body["parameter"] += overrides
        if digest is not None:
            said = prepared.told("cdsDigest") if digest == "same" else digest
            body["parameter"].append({"name": "cdsDigest", "valueString": said})
        return self.api.call(f"/Task/{self.id}/$activate", body)

    def in_force(self) -> Case:
        done = self.activated(self.prepared())
        assert done.status == 200, done.body
        return self

    def accepted(self) -> Answer:
        answer = self.api.call(f"/Task/{self.id}/$accept", parameters(accessCode=self.code), by=PHARMACY_A)
        assert answer.status == 200, answer.body
        return answer

    def dispensed(self, secret: str, name: str, *answers: dict[str, Any], line: int = 1) -> Answer:
        body = supply(secret, 90)
        supplied = body["parameter"][1]["resource"]
        supplied |= {"medicationCodeableConcept": medicine(name), "whenHandedOver": datetime.now(UTC).isoformat()}
        body["parameter"] += answers
        return self.api.call(f"/Task/{self.id}-{line:02d}/$dispense", body, by=PHARMACY_A)

    def adds(self, kind: str, restriction: Restriction | None = None, /, **content: Any) -> str:
        """What somebody else published in the record; its reference."""
        subject = {"reference": f"Patient/{self.patient}"}
        named = {"patient": subject} if kind == "AllergyIntolerance" else {"subject": subject}
        at = datetime.now(UTC)
        key = ResourceKey(type=kind, id=new_resource_id(self.patient, at), patient=self.patient)
        made = record.draft(kind, **named, **content)
        change = RecordVersion(
            key=key,
            version=1,
            at=at,
            body=made.body(key.id, 1, at),
            entry=made.entry(key.id, 1, at),
            producer="1990000011",
            restriction=restriction,
        )
        record.commit(change)
        return key.reference

    def kept(self, kind: str) -> list[dict[str, Any]]:
        entries = wiring.record_store().entries(self.patient, kind, record_scan()).entries
        found = (wiring.record_store().find_latest(each.key) for each in entries)
        return [fhir_json.loads(each.body) for each in found if each is not None and each.body is not None]


def record_scan() -> Any:
    from passerelle.records.ports import Scan

    return Scan()


@pytest.fixture
def case(api: Api) -> Case:
    return somebody(api)


def somebody(api: Api, **changes: Any) -> Case:
    """Somebody who resembles nobody before, a man of some age unless `changes` say otherwise."""
    number = next(_people)
    identifier = ("urn:oid:2.999.3", f"{number:06d}")
    resource = {
        "resourceType": "Patient",
        "identifier": [{"system": identifier[0], "value": identifier[1]}],
        "name": [{"use": "official", "family": chr(65 + number % 26) * 6, "given": [chr(90 - number % 26) * 5]}],
        "gender": "male",
        "birthDate": f"{1940 + number}-03-{1 + number % 28:02d}",
        **changes,
    }
    draft = FhirPatientDraft(resource, wiring.identity_scheme())
    registered, _ = wiring.patient_service().register(request(PRACTICE, "conditional-update"), identifier, draft)
    return Case(api, registered.patient)


def medicine(name: str) -> dict[str, Any]:
    return {"coding": [{"system": "urn:oid:2.999.7", "code": name.casefold()}], "text": name}


def issues(answer: Answer) -> dict[str, dict[str, Any]]:
    """By what they are called."""
    if answer.body["resourceType"] == "Bundle":
        found = answer.resources("DetectedIssue")
    else:
        found = [each["resource"] for each in answer.body["parameter"] if each["name"] == "issue"]
    return {each["code"]["text"]: each for each in found}


def the_issue(answer: Answer) -> dict[str, Any]:
    (found,) = issues(answer).values()
    return found


def behaviour(issue: dict[str, Any]) -> str:
    return str(issue["extension"][0]["extension"][0]["valueCode"])


def answering(
    issue: dict[str, Any], name: str = "override", reason: str = "monitored", text: str = ""
) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [
        {"name": "finding", "valueString": issue["identifier"][0]["value"]},
        {"name": "reason", "valueCode": reason},
    ]
    return {"name": name, "part": [*parts, *([{"name": "text", "valueString": text}] if text else [])]}


def all_of(answer: Answer, name: str) -> list[dict[str, Any]]:
    body = answer.body["entry"][0]["resource"] if answer.body["resourceType"] == "Bundle" else answer.body
    return [each for each in body["parameter"] if each["name"] == name]


STATEMENT = {"status": "active", "medicationCodeableConcept": {"text": "Méthotrexate"}}


# --- hard stops and overrides -----------------------------------------------------------------------------------------


def test_a_hard_stop_blocks_the_signature_until_it_is_overridden(case: Case) -> None:
    made = case.prescribed("Méthotrexate", "Triméthoprime")
    prepared = made.prepared()
    issue = the_issue(prepared)
    assert behaviour(issue) == HARD_STOP
    assert (issue["severity"], issue["code"]["coding"][0]["code"]) == ("high", "DRG")
    assert {each["reference"] for each in issue["implicated"]} == {f"Task/{made.id}-01", f"Task/{made.id}-02"}
    assert issue["evidence"][0]["code"][0]["text"] == "Thésaurus d'essai, 20/10/2020"

    refused = made.activated(prepared)

    assert refused.code == (422, "RX-CDS-STOP")
    assert issue["identifier"][0]["value"] in refused.body["issue"][0]["diagnostics"]
    override = answering(issue, text="Dose faible, numération hebdomadaire")
    again = made.prepared(override)
    assert made.activated(again, override).status == 200


def test_an_override_is_signed_kept_and_seen_by_the_pharmacist(case: Case) -> None:
    made = case.prescribed("Méthotrexate", "Triméthoprime")
    override = answering(the_issue(made.prepared()), text="Dose faible")
    prepared = made.prepared(override)
    assert made.activated(prepared, override).status == 200

    signed = json.loads(base64.b64decode(prepared.told("content")))
    assert [(each["reason"], each["text"], each["rule"]) for each in signed["overrides"]] == [
        ("monitored", "Dose faible", "t:mtx-tmp")
    ]
    (kept,) = case.kept("DetectedIssue")
    assert kept["mitigation"][0]["action"]["text"] == "Dose faible"
    (provenance,) = case.kept("Provenance")
    assert {"reference": f"DetectedIssue/{kept['id']}"} in provenance["target"]
    accepted = made.accepted()
    assert the_issue(accepted)["mitigation"][0]["action"]["text"] == "Dose faible"
    assert all_of(accepted, "override")
    assert made.dispensed(accepted.told("secret"), "Méthotrexate").status == 200


@pytest.mark.parametrize("reason", ["patient-informed", "because"])
def test_an_override_needs_a_reason_of_a_prescriber(case: Case, reason: str) -> None:
    made = case.prescribed("Méthotrexate", "Triméthoprime")
    assert made.prepared(answering(the_issue(made.prepared()), reason=reason)).code == (400, "RX-INVALID")


def test_the_reason_other_needs_words_and_words_have_an_end(case: Case) -> None:
    made = case.prescribed("Méthotrexate", "Triméthoprime")
    issue = the_issue(made.prepared())
    assert made.prepared(answering(issue, reason="other")).code == (400, "RX-INVALID")
    assert made.prepared(answering(issue, text="é" * 1_001)).code == (400, "RX-INVALID")
    assert made.prepared(answering(issue, reason="other", text="é" * 1_000)).status == 200


def test_what_is_not_found_cannot_be_overridden(case: Case) -> None:
    made = case.prescribed("Méthotrexate")
    invented = answering({"identifier": [{"value": "0" * 20}]})
    assert made.prepared(invented).code == (422, "RX-CDS-STOP")


@pytest.mark.parametrize("what", ["text", "reason", "digest", "left out"])
def test_the_signature_is_over_the_check_and_its_overrides(case: Case, what: str) -> None:
    made = case.prescribed("Méthotrexate", "Triméthoprime")
    issue = the_issue(made.prepared())
    prepared = made.prepared(answering(issue, text="Dose faible"))
    sent = {
        "text": [answering(issue, text="Dose faiblE")],
        "reason": [answering(issue, reason="dose-adapted", text="Dose faible")],
        "digest": [answering(issue, text="Dose faible")],
        "left out": [],
    }[what]
    digest = "0" * 32 if what == "digest" else "same"
    assert made.activated(prepared, *sent, digest=digest).code == (422, "RX-SIGNATURE")


def test_what_changed_since_it_was_prepared_is_prepared_again(case: Case) -> None:
    made = case.prescribed("Triméthoprime")
    prepared = made.prepared()
    case.adds("MedicationStatement", **STATEMENT)
    refused = made.activated(prepared)
    assert refused.code == (422, "RX-CDS-STOP")
    assert "cdsDigest" in refused.body["issue"][0]["diagnostics"]
    assert made.activated(prepared, digest=None).code == (422, "RX-SIGNATURE")


def test_twenty_lines_are_signed_with_as_many_overrides_as_there_are_findings(case: Case) -> None:
    names = ["Méthotrexate", "Triméthoprime", "Warfarine", "Ibuprofène", "Kétoprofène", "Ramipril", "Énalapril"]
    names += ["Spironolactone", "Morphine", "Codéine", "Oxybate de sodium", *(f"Essai {n}" for n in range(9))]
    made = case.prescribed(*names)
    found = list(issues(made.prepared()).values())
    assert len(found) > 8
    overrides = [answering(each) for each in found]
    prepared = made.prepared(*overrides)
    assert made.activated(prepared, *overrides).status == 200
    assert len(case.kept("DetectedIssue")) == len(found)


# --- at the pharmacy --------------------------------------------------------------------------------------------------


def test_what_is_discouraged_is_acknowledged_by_one_of_the_two(case: Case) -> None:
    made = case.prescribed("Warfarine", "Ibuprofène").in_force()
    accepted = made.accepted()
    issue = the_issue(accepted)
    assert behaviour(issue) == ACKNOWLEDGE
    secret = accepted.told("secret")

    refused = made.dispensed(secret, "Warfarine")

    assert refused.code == (422, "RX-CDS-STOP")
    prescribers = answering(issue, "acknowledge", reason="no-alternative")
    assert made.dispensed(secret, "Warfarine", prescribers).code == (400, "RX-INVALID")
    done = made.dispensed(secret, "Warfarine", answering(issue, "acknowledge", reason="prescriber-consulted"))
    assert done.status == 200
    (kept,) = case.kept("DetectedIssue")
    assert kept["mitigation"][0]["author"]["identifier"]["value"] == PHARMACY_A.professional
    assert done.told("dispense")["detectedIssue"] == [{"reference": f"DetectedIssue/{kept['id']}"}]
    assert "clinical" not in [each["valueCode"] for each in all_of(done, "notChecked")]
    assert case.kept("Provenance") == []


def test_a_hard_stop_that_came_after_the_signature_blocks_the_supply(case: Case) -> None:
    made = case.prescribed("Triméthoprime").in_force()
    accepted = made.accepted()
    assert issues(accepted) == {}
    case.adds("MedicationStatement", **STATEMENT)

    refused = made.dispensed(accepted.told("secret"), "Triméthoprime")

    assert refused.code == (422, "RX-CDS-STOP")
    issue = the_issue(made.checked(by=PHARMACY_A))
    acknowledged = answering(issue, "acknowledge", reason="prescriber-consulted")
    assert made.dispensed(accepted.told("secret"), "Triméthoprime", acknowledged).status == 200


def test_what_is_supplied_instead_is_what_is_checked(case: Case) -> None:
    case.adds("MedicationStatement", **STATEMENT)
    made = case.prescribed("Paracétamol").in_force()
    secret = made.accepted().told("secret")
    assert made.dispensed(secret, "Triméthoprime").code == (422, "RX-CDS-STOP")


# --- what counts ------------------------------------------------------------------------------------------------------


def test_what_is_not_covered_is_said_every_time(case: Case) -> None:
    made = case.prescribed("Inconnuline")
    checked = made.checked()
    for answer in (checked, made.prepared(), made.in_force().accepted()):
        (gap,) = all_of(answer, "notCovered")
        assert [part[next(n for n in part if n != "name")] for part in gap["part"]] == [
            "Inconnuline",
            "unknown-product",
        ]
    base = {each["name"]: each for each in all_of(checked, "base")[0]["part"]}
    assert base["date"]["valueDate"] == "2020-10-20"


def test_another_prescription_counts_until_it_is_replaced(case: Case) -> None:
    """Duplicates over two prescriptions: an open one, and what is supplied of one that is over."""
    other = case.prescribed("Ibuprofène").in_force()
    made = case.prescribed("Ibuprofène")
    issue = the_issue(made.prepared())
    assert issue["code"]["coding"][0]["code"] == "DUPTHPY"
    assert [each["reference"].partition("/")[0] for each in issue["implicated"]] == ["Task", "MedicationRequest"]
    secret = other.accepted().told("secret")
    assert other.dispensed(secret, "Ibuprofène").status == 200
    assert the_issue(made.prepared())["implicated"][1]["reference"].startswith("MedicationDispense/")


def test_a_statement_of_a_hospital_counts_until_its_end(case: Case) -> None:
    made = case.prescribed("Kétoprofène")
    taken = {"status": "active", "medicationCodeableConcept": {"text": "Ibuprofène"}}
    yesterday = (datetime.now(UTC) - timedelta(days=2)).date().isoformat()
    case.adds("MedicationStatement", **taken, effectivePeriod={"end": yesterday})
    case.adds("MedicationStatement", **{**taken, "status": "stopped"})
    assert issues(made.prepared()) == {}
    case.adds("MedicationStatement", **taken)
    assert issues(made.prepared())


@pytest.mark.parametrize(
    ("verification", "clinical", "is_found"),
    [
        ("confirmed", "active", True),
        ("refuted", None, False),
        ("entered-in-error", None, False),
        ("confirmed", "resolved", False),
    ],
)
def test_an_allergy(case: Case, verification: str, clinical: str | None, is_found: bool) -> None:
    root = "http://terminology.hl7.org/CodeSystem/allergyintolerance-"
    status = {"verificationStatus": {"coding": [{"system": f"{root}verification", "code": verification}]}}
    if clinical:
        status["clinicalStatus"] = {"coding": [{"system": f"{root}clinical", "code": clinical}]}
    case.adds("AllergyIntolerance", **status, code={"text": "Amoxicilline"}, criticality="high")
    found = issues(case.prescribed("Ampicilline").prepared())
    assert [each["code"]["coding"][0]["code"] for each in found.values()] == (["ALGY"] if is_found else [])


def test_a_pregnancy(api: Api) -> None:
    case = somebody(api, gender="female", birthDate="1996-04-02")
    case.adds("Observation", **observed("82810-3", {"valueCodeableConcept": coded("LA15173-0")}))
    found = the_issue(case.prescribed("Isotrétinoïne").prepared())
    assert (found["code"]["coding"][0]["code"], behaviour(found)) == ("PREG", HARD_STOP)


def test_the_age_of_a_child(api: Api) -> None:
    case = somebody(api, birthDate=(datetime.now(UTC) - timedelta(days=3_000)).date().isoformat())
    assert the_issue(case.prescribed("Codéine").prepared())["code"]["coding"][0]["code"] == "AGE"


def coded(code: str) -> dict[str, Any]:
    return {"coding": [{"system": "http://loinc.org", "code": code}]}


def observed(code: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"status": "final", "code": coded(code), "effectiveDateTime": datetime.now(UTC).isoformat(), **value}


# --- what is hidden ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_hidden", [False, True])
def test_what_is_hidden_counts_and_is_not_told(case: Case, is_hidden: bool) -> None:
    label = {"system": label_system(), "code": "MASQUE_PS"}
    hidden = Restriction(labels=frozenset({"MASQUE_PS"}), producer="1990000011") if is_hidden else None
    meta = {"meta": {"security": [label]}} if is_hidden else {}
    reference = case.adds("MedicationStatement", hidden, **STATEMENT, **meta)
    made = case.prescribed("Triméthoprime")
    prepared = made.prepared()
    issue = the_issue(prepared)
    assert behaviour(issue) == HARD_STOP
    said = json.dumps({**prepared.body, "content": ""}, ensure_ascii=False).casefold()
    for secret in ("méthotrexate", reference.casefold(), "t:mtx-tmp", "hématologique"):
        assert (secret in said) is not is_hidden
    override = answering(issue, text="Vu avec le patient")
    assert made.activated(prepared).code == (422, "RX-CDS-STOP")
    again = made.prepared(override)
    assert "thotrexate" not in base64.b64decode(again.told("content")).decode()  # it is read by pharmacies
    assert made.activated(again, override).status == 200
    accepted = made.accepted()
    assert the_issue(accepted)["identifier"] == issue["identifier"]
    assert made.dispensed(accepted.told("secret"), "Triméthoprime").status == 200
    for kept in (*case.kept("DetectedIssue"), *case.kept("Provenance")):
        assert "thotrexate" not in json.dumps(kept, ensure_ascii=False)


def test_a_medicine_that_is_hidden_and_not_covered_is_said_to_be_there(case: Case) -> None:
    taken = {"status": "active", "medicationCodeableConcept": {"text": "Inconnuline"}}
    hidden = Restriction(labels=frozenset({"V"}), producer="1990000011")
    case.adds("MedicationStatement", hidden, **taken)
    checked = case.prescribed("Paracétamol").checked()
    (gap,) = all_of(checked, "notCovered")
    assert gap["part"][1]["valueCode"] == "not-shown"
    assert "nconnuline" not in json.dumps(checked.body)


# --- the operation ----------------------------------------------------------------------------------------------------


def test_what_else_is_taken_can_be_asked_about(case: Case) -> None:
    made = case.prescribed("Triméthoprime", "Ampicilline")
    assert issues(made.checked()) == {}
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "medication", "valueCodeableConcept": {"text": "Méthotrexate"}},
            {"name": "allergy", "valueCodeableConcept": {"text": "Amoxicilline"}},
        ],
    }
    codes = [each["code"]["coding"][0]["code"] for each in issues(made.checked(body)).values()]
    assert sorted(codes) == ["ALGY", "DRG"]
    wrong = {"resourceType": "Parameters", "parameter": [{"name": "medication", "resource": {"resourceType": "Basic"}}]}
    assert made.api.call(f"/Task/{made.id}/$check", wrong, key=None).code == (400, "RX-INVALID")


def test_what_is_not_created_yet_can_be_checked(case: Case) -> None:
    order = bundle(case.order("Méthotrexate"), case.order("Triméthoprime"))
    answer = case.api.call("/Task/$check", order, key=None)
    assert behaviour(the_issue(answer)) == HARD_STOP
    assert case.kept("DetectedIssue") == []


def test_those_who_are_not_concerned_check_nothing(case: Case) -> None:
    made = case.prescribed("Triméthoprime")
    for by in (OTHER_PRACTICE, PHARMACY_A):
        assert made.api.call(f"/Task/{made.id}/$check", key=None, by=by).code == (404, "RX-NOT-FOUND")
    assert made.api.call(f"/Task/{made.id}/$check", key=None, by=PATIENT).code == (403, "RX-ROLE")


# --- no base ----------------------------------------------------------------------------------------------------------


class OutOfReach:
    def check(self, *_: Any) -> Any:
        raise KnowledgeUnavailable()


def test_without_a_base_nothing_is_signed_in_silence(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    made = case.prescribed("Triméthoprime")
    prepared = made.prepared()
    checks = wiring.clinical_checks()
    monkeypatch.setattr(checks, "_knowledge", OutOfReach())
    service = wiring.prescriptions().prescriptions
    for refused in (
        made.prepared(),
        made.activated(prepared),
        case.api.call(f"/Task/{made.id}/$check", key=None),
    ):
        assert refused.code == (503, "RX-RETRY")
        assert refused.headers["Retry-After"] == "60"

    monkeypatch.setattr(service, "policy", replace(service.policy, sign_without_check=True))
    without = made.prepared()
    assert json.loads(base64.b64decode(without.told("content")))["cdsDigest"] == "not-checked"
    assert made.activated(without).status == 200
    accepted = made.accepted()
    assert [each["valueCode"] for each in all_of(accepted, "notChecked")] == ["clinical"]
    done = made.dispensed(accepted.told("secret"), "Triméthoprime")
    assert "clinical" in [each["valueCode"] for each in all_of(done, "notChecked")]


def test_what_was_prepared_without_a_base_is_not_signed_once_there_is_one(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = case.prescribed("Triméthoprime")
    service = wiring.prescriptions().prescriptions
    monkeypatch.setattr(service, "policy", replace(service.policy, sign_without_check=True))
    with monkeypatch.context() as patch:
        patch.setattr(wiring.clinical_checks(), "_knowledge", OutOfReach())
        without = made.prepared()
    assert made.activated(without).code == (422, "RX-CDS-STOP")
