"""Submissions under the French profiles, and the published examples: PDSM-1, PDSM-2, DMP-6 to DMP-8, MHD."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from passerelle import wiring
from passerelle.access import Touched
from passerelle.audit.model import audit_of
from passerelle.consents.model import RecordStatus
from passerelle.patients.model import PersonChange
from tests import examples, sources, submitting
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register
from tests.people import decided
from tests.submitting import (
    Bundle,
    changed,
    content_of,
    document_of,
    feeder,
    label,
    nothing_stored,
    statuses,
    submission,
    submit,
    urn,
    warnings,
)


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    return exchange.client("practice")


@pytest.fixture(scope="module")
def key(hospital: Client) -> str:
    return str(register(hospital, 1).json["id"])


@pytest.fixture(scope="module")
def subject(key: str) -> str:
    return f"Patient/{key}"


@pytest.fixture
def options(exchange: Exchange) -> Iterator[Callable[..., None]]:
    """Turns options of the deployment on and off."""
    service = wiring.transaction_service()
    before = service._options

    def choose(**changed: bool) -> None:
        service._options = replace(before, **changed)

    yield choose
    service._options = before


# --- PDSm and the DMP -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "date",
        "author",
        "contained",
        "context.period.start",
        "content.0.attachment.size",
        "content.0.attachment.hash",
        "content.0.attachment.title",
    ],
)
def test_pdsm_2_required(hospital: Client, subject: str, path: str) -> None:
    bundle = submission(subject, "pdsm")
    if path == "context.period.start":
        bundle = changed(bundle, "1.context.period.end", "2026-06-12T11:30:00+02:00")
    if path == "author":  # and who it is: nothing else refers to it
        bundle = changed(bundle, "1.contained.0", None)
    status, codes = nothing_stored(hospital, changed(bundle, f"1.{path}", None))
    assert status == 422
    # Without anything contained, the references to it break first.
    assert set(codes) == ({"invariant"} if path == "contained" else {"required"})


def test_pdsm_2_accepted_with_a_warning(hospital: Client, subject: str) -> None:
    answered = submit(hospital, submission(subject, "pdsm"))
    assert [code for code, _ in warnings(answered[0]) + warnings(answered[1])] == ["required", "required"]
    assert answered[0]["response"]["outcome"]["issue"][0]["expression"] == ["Bundle.entry[0].resource.source"]
    assert answered[1]["response"]["outcome"]["issue"][0]["expression"] == ["Bundle.entry[1].resource.custodian"]
    role = {"resourceType": "PractitionerRole", "id": "author", "code": [{"text": "x"}]}
    complete = changed(submission(subject, "pdsm", custodian={"display": "CH"}), "0.contained.0", role)
    assert not any("outcome" in entry["response"] for entry in submit(hospital, complete))


def test_pdsm_13_labels_under_their_one_code(hospital: Client, subject: str) -> None:
    labels = [label(None), label("INVISIBLE_REP_LEGAUX")]
    document = document_of(hospital, submit(hospital, submission(subject, securityLabel=labels)))
    assert document["securityLabel"][1]["coding"][0]["code"] == "INVISIBLE_REPRESENTANTS_LEGAUX"
    unknown = submission(subject, securityLabel=[label("MASQUE_PARTOUT")])
    assert nothing_stored(hospital, unknown) == (422, ["code-invalid"])


def test_dmp_6_td2_asks_for_no_right_to_consult(exchange: Exchange, subject: str) -> None:
    source = feeder(exchange, "TD2")
    answered = submit(source, submission(subject, "pdsm"))
    assert statuses(answered) == ["201"] * 3
    assert source.get(submitting.place(answered[1])).status == 403


@pytest.mark.parametrize("status", [RecordStatus.ABSENT, RecordStatus.CLOSED])
def test_dmp_7_a_record_that_is_not_in_use(exchange: Exchange, status: RecordStatus) -> None:
    number = {RecordStatus.ABSENT: 14, RecordStatus.CLOSED: 15}[status]
    hospital = exchange.client("hospital-a")
    key = register(hospital, number).json["id"]
    person = wiring.patient_index().find_person(key)
    assert person is not None
    decision = PersonChange(before=person, after=decided(person, status))
    wiring.journal().commit([decision, *audit_of(sources.request(sources.STEWARD), Touched())])
    found = nothing_stored(hospital, submission(f"Patient/{key}", "pdsm"))
    assert found == (422, ["business-rule"])


def test_dmp_7_hidden_from_the_patient_at_once(exchange: Exchange, hospital: Client, practice: Client) -> None:
    key = register(hospital, 1).json["id"]
    labels = [label(None), label("INVISIBLE_PATIENT")]
    answered = submit(hospital, submission(f"Patient/{key}", "pdsm", securityLabel=labels))
    patient = exchange.client("patient-1")
    for place in map(submitting.place, answered[1:]):
        assert patient.get(place, Accept="*/*").status == 404
        assert practice.get(place, Accept="*/*").status == 200


@pytest.fixture(scope="module")
def dmp(exchange: Exchange, hospital: Client) -> str:
    """The person of the published examples."""
    system, value = "urn:oid:1.2.250.1.213.1.4.8", "123456789012345"
    _, patient = examples.patient(4)
    patient["identifier"] = [examples.national(system, value), {"system": examples.DOMAIN, "value": "dmp"}]
    registered = hospital.put(f"Patient?identifier={examples.DOMAIN}|dmp", patient)
    assert registered.status == 201, registered.body
    return f"{system}|{value}"


def test_dmp_6_dmp_8_the_published_examples(hospital: Client, practice: Client, dmp: str, shared_data: Path) -> None:
    """TD2 as it is; TD2.1 once the document that it replaces is there: the id of that is the exchange's to give."""
    folder = shared_data / "dmp"
    lot = json.loads((folder / "Bundle-example-td2-iti65-lot-soumission.json").read_text("utf-8"))
    answered = submit(hospital, lot)
    assert statuses(answered) == ["201"] * 3
    assert {code for entry in answered for code, _ in warnings(entry)} == {"required"}
    older = json.loads((folder / "DocumentReference-doc-x-id.json").read_text("utf-8"))
    older |= {"status": "current"}
    older["content"][0]["attachment"]["url"] = lot["entry"][2]["fullUrl"]
    first = copy.deepcopy(lot)
    first["entry"][1]["resource"] = older
    published = submitting.place(submit(hospital, first)[1])
    text = (folder / "Bundle-example-td2-1-remplacement.json").read_text("utf-8")
    answered = submit(hospital, json.loads(text.replace("DocumentReference/doc-x-id", published)))
    assert statuses(answered) == ["201", "201", "200", "201"]
    was = practice.get(published)
    assert (was.json["status"], was.header("ETag")) == ("superseded", 'W/"2"')
    now = document_of(practice, answered)
    assert (now["status"], now["relatesTo"][0]["target"]["reference"]) == ("current", published)
    assert content_of(practice, now).body == base64.b64decode(lot["entry"][2]["resource"]["data"])
    current = practice.get(f"DocumentReference?patient.identifier={dmp}&status=current").json
    assert published not in [f"DocumentReference/{entry['resource']['id']}" for entry in current["entry"]]


def _without_nothing(value: Any) -> Any:
    """Published JSON that was compiled leaves objects with nothing in them, which FHIR does not know."""
    if isinstance(value, dict):
        inner = {name: _without_nothing(each) for name, each in value.items()}
        return {name: each for name, each in inner.items() if each not in ({}, [])}
    if isinstance(value, list):
        return [each for each in (_without_nothing(one) for one in value) if each not in ({}, [])]
    return value


def test_65_1_the_published_examples_of_mhd(
    hospital: Client, practice: Client, subject: str, options: Callable[..., None], shared_data: Path
) -> None:
    """As they are, but for the ids of other servers: of the patient, and of a folder that is updated."""
    import lzma

    found = {}
    with lzma.open(shared_data / "ig_examples.ndjson.xz") as lines:
        for line in lines:
            each = json.loads(line)
            resource = each["resource"]
            if each["file"].startswith("ihe.iti.mhd/") and resource.get("type") == "transaction":
                found[resource["id"]] = _without_nothing(resource)
    options(fhir_documents=True)

    def ours(bundle: Bundle) -> Bundle:
        text = json.dumps(bundle)
        for name in ("Patient/ex-patient", "http://example.org/fhir/Patient/fdoc-patient"):
            text = text.replace(json.dumps(name), json.dumps(subject))
        return dict(json.loads(text))

    several = ours(found["ex-comprehensiveProvideDocumentBundleMultiple"])
    assert nothing_stored(hospital, several) == (422, ["business-rule"])  # its two documents have one identifier
    answered = submit(hospital, changed(several, "2.masterIdentifier.value", submitting.unique()))
    assert statuses(answered) == ["201"] * 5
    assert content_of(practice, document_of(practice, answered)).body == b"Hello World"
    fhir = ours(found["ex-comprehensiveProvideDocumentBundleDocument"])
    content = content_of(practice, document_of(practice, submit(hospital, fhir)))
    assert content.json == fhir["entry"][2]["resource"]
    older = submit(
        hospital, submitting.with_entries(submission(subject), submitting.posted(submitting.folder(subject, urn(1))))
    )
    place, entry = submitting.place(older[3]), submitting.place(older[1])
    adding = ours(found["ex-ProvideDocumentBundle-addToFolder"])
    adding = json.loads(json.dumps(adding).replace("DocumentReference/ex-DocumentReferenceComprehensive", entry))
    adding["entry"][2]["request"]["url"] = place
    adding["entry"][2]["resource"]["id"] = place.partition("/")[2]
    adding["entry"][1]["resource"]["masterIdentifier"]["value"] = submitting.unique()  # both examples have the same
    assert statuses(submit(hospital, adding)) == ["201", "201", "200", "201"]
    assert len(practice.get(place).json["entry"]) == 2
