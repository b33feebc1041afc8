"""Submissions of documents over HTTP: IHE MHD ITI-65, PDSm, the DMP's TD2. Case ids are rows of the contract."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from local.region import IDNST, PARTICIPANTS
from passerelle import wiring
from tests import examples, submitting
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register
from tests.submitting import (
    PROFILES,
    Bundle,
    changed,
    content_of,
    document_of,
    feeder,
    label,
    nothing_stored,
    publish,
    refusal,
    statuses,
    submission,
    submit,
    urn,
    warnings,
)

LEVELS = ("minimal", "uncontained", "comprehensive", "pdsm")
CDA_HASH = "A/hMRrv6Y15BjSM8kMLidrz+mHc="
BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition"
EMPTY_HASH = "2jmj7l5rSw0yVb/vlWAYkK/YBwk="


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


# --- what is taken ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_xml", [False, True], ids=["J", "X"])
@pytest.mark.parametrize("count", [1, 2], ids=["one", "two"])
@pytest.mark.parametrize("profile", LEVELS)
def test_65_1_every_profile(
    hospital: Client, practice: Client, key: str, profile: str, count: int, as_xml: bool
) -> None:
    contents = [f"<x>{n}</x>".encode() for n in range(count)]
    bundle = submission(f"Patient/{key}", profile, contents=contents)
    answered = submitting.submit_xml(hospital, bundle) if as_xml else submit(hospital, bundle)
    assert statuses(answered) == ["201"] * (1 + 2 * count)
    places = [submitting.place(entry) for entry in answered]
    assert [each.partition("/")[0] for each in places] == ["List", *["DocumentReference", "Binary"] * count]
    assert all(entry["response"]["etag"] == 'W/"1"' for entry in answered)
    for number, content in enumerate(contents):
        document = practice.get(places[2 * number + 1]).json
        assert content_of(practice, document).body == content
        master = document["masterIdentifier"]
        found = practice.get(f"DocumentReference?patient={key}&identifier={master['system']}|{master['value']}").json
        assert [entry["resource"]["id"] for entry in found["entry"]] == [document["id"]]
    identifier = bundle["entry"][0]["resource"]["identifier"][0]
    listed = practice.get(f"List?patient={key}&identifier=|{identifier['value']}&code=submissionset").json
    listed = listed if listed["total"] else practice.get(f"List?patient={key}&identifier={identifier['value']}").json
    items = [entry["item"]["reference"] for entry in listed["entry"][0]["resource"]["entry"]]
    assert items == places[1::2]


@pytest.mark.parametrize(
    ("profile", "resource_type", "expected"),
    [
        pytest.param(None, "transaction", (422, ["required"]), id="65-2-missing"),
        pytest.param(["urn:other"], "transaction", (422, ["value"]), id="65-2-unknown"),
        pytest.param([f"{examples.MHD}/IHE.MHD.Else"], "transaction", (422, ["value"]), id="65-2-of-the-guide"),
        pytest.param([PROFILES["minimal"]], "batch", (400, ["value"]), id="65-2-batch"),
        pytest.param([PROFILES["minimal"]], "collection", (400, ["value"]), id="65-2-collection"),
    ],
)
def test_65_2(hospital: Client, subject: str, profile: Any, resource_type: str, expected: Any) -> None:
    bundle = submission(subject, "minimal") | {"type": resource_type}
    bundle["meta"] = {"profile": profile}
    if profile is None:
        del bundle["meta"]
    assert nothing_stored(hospital, bundle) == expected


def _with_second_set(bundle: Bundle) -> Bundle:
    second = copy.deepcopy(bundle["entry"][0]) | {"fullUrl": urn(800)}
    return submitting.with_entries(bundle, second)


_SET_FAULTS: Mapping[str, tuple[Callable[[Bundle], Bundle], tuple[int, str]]] = {
    "none": (lambda b: {**b, "entry": b["entry"][1:]}, (422, "invariant")),
    "two": (_with_second_set, (422, "invariant")),
    "no-code": (lambda b: changed(b, "0.code", None), (422, "invariant")),
    "wrong-code": (lambda b: changed(b, "0.code.coding.0.code", "worklist"), (422, "invariant")),
    "wrong-system": (lambda b: changed(b, "0.code.coding.0.system", "urn:x"), (422, "invariant")),
    "no-mode": (lambda b: changed(b, "0.mode", None), (422, "required")),
    "wrong-mode": (lambda b: changed(b, "0.mode", "snapshot"), (422, "value")),
    "no-status": (lambda b: changed(b, "0.status", None), (422, "required")),
    "wrong-status": (lambda b: changed(b, "0.status", "retired"), (422, "value")),
    "no-date": (lambda b: changed(b, "0.date", None), (422, "required")),
    "no-source-id": (lambda b: changed(b, "0.extension.1", None), (422, "required")),
    "no-unique-id": (lambda b: changed(b, "0.identifier", None), (422, "required")),
    "no-entry": (lambda b: changed(b, "0.entry", None), (422, "invariant")),
}


@pytest.mark.parametrize("case", _SET_FAULTS)
@pytest.mark.parametrize("profile", ["minimal", "comprehensive"])
def test_65_3(hospital: Client, subject: str, profile: str, case: str) -> None:
    broken, (status, code) = _SET_FAULTS[case]
    found = nothing_stored(hospital, broken(submission(subject, profile)))
    assert found[0] == status
    assert code in found[1]


@pytest.mark.parametrize("path", ["0.subject", "0.extension.0"], ids=["subject", "designationType"])
def test_65_3_comprehensive(hospital: Client, subject: str, path: str) -> None:
    for profile in ("comprehensive", "uncontained"):
        assert "required" in nothing_stored(hospital, changed(submission(subject, profile), path, None))[1]


_FAULTS: Mapping[str, tuple[str, Any, str]] = {
    "masterIdentifier": ("1.masterIdentifier", None, "required"),
    "status": ("1.status", None, "required"),
    "content": ("1.content", None, "required"),
    "contentType": ("1.content.0.attachment.contentType", None, "required"),
    "url": ("1.content.0.attachment.url", None, "required"),
    "data": ("1.content.0.attachment.data", "YQ==", "invariant"),
    "modifierExtension": ("1.modifierExtension", [{"url": "urn:x", "valueBoolean": True}], "invariant"),
    "docStatus": ("1.docStatus", "final", "invariant"),
    "two-contents": ("1.content", [{"attachment": {"contentType": "text/plain", "url": "urn:x"}}] * 2, "invariant"),
    "entered-in-error": ("1.status", "entered-in-error", "value"),
}


@pytest.mark.parametrize("case", _FAULTS)
@pytest.mark.parametrize("profile", LEVELS)
def test_65_4(hospital: Client, subject: str, profile: str, case: str) -> None:
    path, value, code = _FAULTS[case]
    status, codes = nothing_stored(hospital, changed(submission(subject, profile), path, value))
    assert status == 422
    assert code in codes


def test_65_4_a_document_may_be_superseded_from_the_start(hospital: Client, subject: str) -> None:
    document = document_of(hospital, submit(hospital, submission(subject, status="superseded")))
    assert document["status"] == "superseded"
    assert content_of(hospital, document).status == 410


_COMPREHENSIVE = (
    "type",
    "category",
    "subject",
    "securityLabel",
    "content.0.attachment.language",
    "content.0.attachment.creation",
    "content.0.format",
    "context.facilityType",
    "context.practiceSetting",
    "context.sourcePatientInfo",
)


def test_65_3_a_minimal_submission_set_is_about_who_its_documents_are_about(hospital: Client, subject: str) -> None:
    answered = submit(hospital, changed(submission(subject, "minimal"), "0.subject", None))
    listed = hospital.get(submitting.place(answered[0])).json
    assert listed["subject"] == document_of(hospital, answered)["subject"]


@pytest.mark.parametrize("path", _COMPREHENSIVE)
def test_65_5(hospital: Client, subject: str, path: str) -> None:
    def without(profile: str) -> Bundle:
        bundle = changed(submission(subject, profile), f"1.{path}", None)
        return changed(bundle, "1.contained.1", None) if path == "context.sourcePatientInfo" else bundle

    for profile in ("comprehensive", "uncontained"):
        assert nothing_stored(hospital, without(profile)) == (422, ["required"])
    if path == "subject":  # nobody's document is not kept, whatever MHD allows
        assert nothing_stored(hospital, without("minimal")) == (422, ["required"])
    else:
        assert hospital.post("", without("minimal")).status == 200


_UNCONTAINED: Mapping[str, tuple[str, Any]] = {
    "author": ("1.author", [{"reference": "#author"}, {"reference": "Practitioner/1"}]),
    "authenticator": ("1.authenticator", {"reference": "Practitioner/1"}),
    "sourcePatientInfo": ("1.context.sourcePatientInfo", {"reference": "Patient/1"}),
    "source": ("0.source", {"reference": "Practitioner/1"}),
}


@pytest.mark.parametrize("case", _UNCONTAINED)
def test_65_6(hospital: Client, subject: str, case: str) -> None:
    path, value = _UNCONTAINED[case]

    def outside(profile: str) -> Bundle:
        bundle = changed(submission(subject, profile), path, value)
        if case == "sourcePatientInfo":
            return changed(bundle, "1.contained.1", None)
        return changed(bundle, "0.contained", None) if case == "source" else bundle

    for profile in ("comprehensive", "pdsm"):
        status, codes = nothing_stored(hospital, outside(profile))
        assert (status, "invariant" in codes) == (422, True)
    assert hospital.post("", outside("uncontained")).status == 200


@pytest.mark.parametrize("profile", LEVELS)
def test_65_7(hospital: Client, subject: str, profile: str) -> None:
    bundle = changed(submission(subject, profile), "1.content.0.attachment.url", "urn:uuid:absent")
    assert nothing_stored(hospital, bundle) == (422, ["not-found"])
    same = submission(subject, profile, contents=(b"<a/>", b"<b/>"))
    url = same["entry"][1]["resource"]["content"][0]["attachment"]["url"]
    twice = changed(same, "3.content.0.attachment.url", url)
    assert "invariant" in nothing_stored(hospital, twice)[1]  # a content has one document


def test_65_8_hash_and_size(hospital: Client, practice: Client, subject: str) -> None:
    good = submission(subject)
    attachment = good["entry"][1]["resource"]["content"][0]["attachment"]
    assert (attachment["size"], attachment["hash"]) == (80, CDA_HASH)
    for path, value in (("size", 81), ("hash", EMPTY_HASH)):
        status, codes = nothing_stored(hospital, changed(good, f"1.content.0.attachment.{path}", value))
        assert (status, codes) == (422, ["value"])
    assert hospital.post("", good).status == 200
    on_demand = submission(subject)
    for name in ("size", "hash"):
        on_demand = changed(on_demand, f"1.content.0.attachment.{name}", None)
    document = document_of(practice, submit(hospital, on_demand))
    assert document["content"][0]["attachment"].keys().isdisjoint(("size", "hash"))
    assert content_of(practice, document).body == examples.CDA


def test_65_8_a_delayed_document(hospital: Client, practice: Client, subject: str) -> None:
    """Its metadata are there, its content is not, until it comes; one that comes along is what it is."""
    delayed = submission(subject)
    for name, value in (("size", 0), ("hash", EMPTY_HASH)):
        delayed = changed(delayed, f"1.content.0.attachment.{name}", value)
    came = document_of(practice, submit(hospital, delayed))
    attachment = came["content"][0]["attachment"]
    assert (attachment["size"], attachment["hash"]) == (80, CDA_HASH)
    assert content_of(practice, came).body == examples.CDA
    alone = changed(delayed, "1.masterIdentifier.value", submitting.unique())
    alone["entry"] = alone["entry"][:2]
    answered = submit(hospital, alone)
    document = document_of(practice, answered)
    attachment = document["content"][0]["attachment"]
    assert (attachment["size"], attachment["hash"]) == (0, EMPTY_HASH)
    assert attachment["url"].endswith(f"/Binary/{document['id']}")
    content = content_of(practice, document)
    assert (content.status, content.json["issue"][0]["diagnostics"]) == (404, "Document Not Found")
    # The content comes with the document that replaces it.
    newer = submit(hospital, submitting.replacement(subject, document["id"]))
    assert content_of(practice, document_of(practice, newer)).body == examples.CDA


def test_65_9_whom_it_is_about(exchange: Exchange, hospital: Client, key: str) -> None:
    system, _, value = examples.ins(1).partition("|")
    local, person = examples.patient(1)
    condition = f"Patient?identifier={examples.DOMAIN}|{local}"
    inside = submission(urn(700))
    inside["entry"].insert(0, {"fullUrl": urn(700), "resource": person, "request": {"method": "PUT", "url": condition}})
    for bundle, at in (
        (submission(f"Patient/{key}"), 1),
        (submission(f"http://127.0.0.1:8000/fhir/Patient/{key}"), 1),
        (inside, 2),
        (submission({"identifier": {"system": system, "value": value}}), 1),
        (submission(f"Patient?identifier={examples.ins(1)}"), 1),
    ):
        document = document_of(hospital, submit(hospital, bundle), at)
        assert document["subject"]["reference"] == f"Patient/{key}"


def test_65_10(hospital: Client, subject: str) -> None:
    other = register(hospital, 2).json["id"]
    unknown = ("Patient/" + "0" * 16, "Patient?identifier=urn:oid:2.999.1|nobody", urn(799))
    for each in unknown:
        status, codes = nothing_stored(hospital, submission(each))
        assert (status, codes) == (422, ["not-found"])
    two = changed(submission(subject), "1.subject.reference", f"Patient/{other}")
    assert nothing_stored(hospital, two) == (422, ["business-rule"])


# --- options, recipients, people --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("replaces", "PartialReplaceContentNotProcessed"),
        ("transforms", "PartialTransformContentNotProcessed"),
        ("appends", "PartialAppendContentNotProcessed"),
    ],
)
def test_65_14_relations_that_are_not_taken(
    hospital: Client, subject: str, options: Callable[..., None], code: str, text: str
) -> None:
    other = publish(hospital, subject)
    options(relations=False)
    bundle = submission(subject, relatesTo=submitting.related(code, other))
    if code == "replaces":
        bundle = submitting.with_entries(bundle, submitting.superseding(other))
    answered = submit(hospital, bundle)
    assert warnings(answered[1]) == [("processing", text)]
    assert answered[1]["response"]["outcome"]["issue"][0]["expression"] == ["Bundle.entry[1].resource.relatesTo"]
    document = document_of(hospital, answered)
    assert "relatesTo" not in document
    assert content_of(hospital, document).body == examples.CDA
    assert hospital.get(f"DocumentReference/{other}").json["status"] == "current"
    if code == "replaces":
        assert statuses(answered) == ["201"] * 3 + ["200"]
        assert warnings(answered[3]) == [("processing", text)]


def test_65_15_folders(hospital: Client, practice: Client, key: str, subject: str) -> None:
    bundle = submission(subject)
    answered = submit(hospital, submitting.with_entries(bundle, submitting.posted(submitting.folder(subject, urn(1)))))
    assert statuses(answered) == ["201"] * 4
    place = submitting.place(answered[3])
    folder = practice.get(place).json
    assert [each["item"]["reference"] for each in folder["entry"]] == [submitting.place(answered[1])]
    found = practice.get(f"List?patient={key}&code=folder&identifier={folder['identifier'][0]['value']}").json
    assert found["total"] == 1

    def update(content: Any) -> Bundle:
        entry = {"fullUrl": urn(902), "resource": content, "request": {"method": "PUT", "url": place}}
        return submitting.with_entries(submission(subject), entry)

    more = {**folder, "entry": [*folder["entry"], {"item": {"reference": urn(1)}}]}
    added = submit(hospital, update(more))
    assert statuses(added) == ["201"] * 3 + ["200"]
    items = [each["item"]["reference"] for each in practice.get(place).json["entry"]]
    assert items == [submitting.place(answered[1]), submitting.place(added[1])]
    fewer = {**folder, "entry": [{"item": {"reference": urn(1)}}]}
    assert nothing_stored(hospital, update(fewer)) == (422, ["business-rule"])
    assert len(practice.get(place).json["entry"]) == 2


def test_65_15_a_folder_keeps_what_the_caller_does_not_see(exchange: Exchange, hospital: Client, subject: str) -> None:
    """Who adds to a folder with a masked document in it learns nothing, and takes nothing out."""
    masked = submission(subject, "pdsm", contents=(b"<m/>", b"<n/>"))
    masked = changed(masked, "1.securityLabel", [label("MASQUE_PS")])
    folder = submitting.folder(subject, urn(1), urn(3))
    answered = submit(hospital, submitting.with_entries(masked, submitting.posted(folder)))
    place = submitting.place(answered[5])
    other = exchange.client("hospital-b")
    seen = other.get(place).json
    assert [each["item"]["reference"] for each in seen["entry"]] == [submitting.place(answered[3])]
    more = {**seen, "entry": [*seen["entry"], {"item": {"reference": urn(1)}}]}
    entry = {"fullUrl": urn(902), "resource": more, "request": {"method": "PUT", "url": place}}
    assert statuses(submit(other, submitting.with_entries(submission(subject), entry)))[-1] == "200"
    assert len(other.get(place).json["entry"]) == 2
    assert submitting.place(answered[1]) in [each["item"]["reference"] for each in hospital.get(place).json["entry"]]


def test_65_15_folders_that_are_not_taken(hospital: Client, subject: str, options: Callable[..., None]) -> None:
    options(folders=False)
    bundle = submitting.with_entries(submission(subject), submitting.posted(submitting.folder(subject, urn(1))))
    bundle["entry"][0]["resource"]["entry"].append({"item": {"reference": urn(901)}})
    answered = submit(hospital, bundle)
    assert statuses(answered) == ["201"] * 3 + ["200"]
    assert "location" not in answered[3]["response"]
    assert warnings(answered[3]) == [("processing", "PartialFolderContentNotProcessed")]
    listed = hospital.get(submitting.place(answered[0])).json
    assert [each["item"]["reference"] for each in listed["entry"]] == [submitting.place(answered[1])]
    told = hospital.post("", {**bundle, "entry": _renewed(bundle)}, Prefer="return=OperationOutcome").json["entry"]
    assert [issue["severity"] for issue in told[3]["response"]["outcome"]["issue"]] == ["information", "warning"]


def _renewed(bundle: Bundle) -> list[Bundle]:
    again = changed(bundle, "1.masterIdentifier.value", submitting.unique())
    return list(again["entry"])


def _intended(recipient: Mapping[str, Any], *contained: Mapping[str, Any]) -> Callable[[Bundle], Bundle]:
    def intend(bundle: Bundle) -> Bundle:
        listed = bundle["entry"][0]["resource"]
        listed["extension"].append({"url": f"{examples.MHD}/ihe-intendedRecipient", "valueReference": dict(recipient)})
        listed["contained"] = [*listed["contained"], *contained]
        return bundle

    return intend


def test_65_16_whom_it_is_intended_for(exchange: Exchange, hospital: Client, key: str, subject: str) -> None:
    def warned(intend: Callable[[Bundle], Bundle]) -> list[tuple[str, str]]:
        return warnings(submit(hospital, intend(submission(subject)))[0])

    structure = {"system": IDNST, "value": "1990000099"}
    stranger = {"resourceType": "Organization", "id": "to", "identifier": [structure]}
    assert warned(_intended({"reference": "#to"}, stranger)) == [("processing", "UnknownRecipient")]
    assert warned(_intended({"reference": "Organization/nowhere"})) == [("processing", "UnknownRecipient")]
    listed = hospital.post("Organization", {"resourceType": "Organization", "name": "x", "identifier": [structure]})
    assert listed.status == 201, listed.body
    for reference in ({"reference": f"Organization/{listed.json['id']}"}, {"identifier": structure}):
        assert warned(_intended(reference)) == [("processing", "UnavailableRecipient")]
    assert warned(_intended({"reference": subject})) == [("processing", "UnavailableRecipient")]
    subscriber = next(each for each in PARTICIPANTS if each.id == "practice")
    own = {
        "resourceType": "Organization",
        "id": "to",
        "identifier": [{"system": IDNST, "value": subscriber.organisation}],
    }
    assert warned(_intended({"reference": "#to"}, own)) == [("processing", "UnknownRecipient")]
    topic = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "x",
        "criteria": "https://passerelle.example/SubscriptionTopic/document-changed",
        "channel": {
            "type": "rest-hook",
            "endpoint": "http://127.0.0.1:9/hook",
            "payload": "application/fhir+json",
            "_payload": {"extension": [{"url": f"{BACKPORT}/backport-payload-content", "valueCode": "id-only"}]},
        },
    }
    made = exchange.client("practice").post("Subscription", topic)
    assert made.status == 201, made.body
    try:
        assert warned(_intended({"reference": "#to"}, own)) == []
    finally:
        exchange.client("practice").request("DELETE", f"Subscription/{made.json['id']}")


def fhir_document(key: str) -> Bundle:
    composition = {
        "resourceType": "Composition",
        "status": "final",
        "type": {"coding": [{"system": "http://loinc.org", "code": "11488-4"}]},
        "subject": {"reference": f"Patient/{key}"},
        "date": "2026-06-12T10:00:00+02:00",
        "author": [{"display": "Dr Essai"}],
        "title": "Compte rendu",
    }
    return {
        "resourceType": "Bundle",
        "type": "document",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": submitting.unique()},
        "timestamp": "2026-06-12T10:00:00+02:00",
        "entry": [{"fullUrl": urn(600), "resource": composition}],
    }


@pytest.mark.parametrize("profile", ["minimal", "comprehensive", "pdsm"])
def test_65_17_fhir_documents(
    hospital: Client, practice: Client, key: str, subject: str, options: Callable[..., None], profile: str
) -> None:
    bundle = submission(subject, profile)
    bundle["entry"][2] |= {"resource": fhir_document(key), "request": {"method": "POST", "url": "Bundle"}}
    bundle = changed(bundle, "1.content.0.attachment.contentType", "application/fhir+json")
    refused = hospital.post("", bundle)
    assert refusal(refused) == (422, ["not-supported"])
    assert refused.json["issue"][0]["diagnostics"] == "FHIRDocumentNotSupported"
    options(fhir_documents=True)
    sent = bundle if profile == "minimal" else _unmeasured(bundle)
    answered = submit(hospital, sent)
    assert statuses(answered) == ["201"] * 3
    document = document_of(practice, answered)
    assert document["content"][0]["attachment"].keys().isdisjoint(("size", "hash"))
    content = content_of(practice, document)
    assert content.header("Content-Type") == "application/fhir+json"
    assert content.json == bundle["entry"][2]["resource"]
    kind = changed(_unmeasured(bundle), "2.type", "collection")
    assert 400 <= nothing_stored(hospital, kind)[0] < 500
    wrong = changed(_unmeasured(bundle), "1.content.0.attachment.contentType", "application/pdf")
    assert nothing_stored(hospital, wrong) == (422, ["value"])


def _unmeasured(bundle: Bundle) -> Bundle:
    for name in ("size", "hash"):
        bundle = changed(bundle, f"1.content.0.attachment.{name}", None)
    return bundle


def test_65_18_a_patient_among_the_entries(exchange: Exchange, hospital: Client, key: str) -> None:
    read = {"fullUrl": urn(700), "request": {"method": "GET", "url": f"Patient/{key}"}}
    for each in (read, {**read, "resource": hospital.get(f"Patient/{key}").json}):
        answered = submit(hospital, submitting.with_entries(submission(urn(700)), each))
        assert statuses(answered) == ["201"] * 3 + ["200"]
        assert answered[3]["resource"]["id"] == key
        assert document_of(hospital, answered)["subject"]["reference"] == f"Patient/{key}"
    local, person = examples.patient(12)
    condition = f"Patient?identifier={examples.DOMAIN}|{local}"

    def register_in(method: str, url: str) -> Bundle:
        bundle = submission(urn(700))
        entry = {"fullUrl": urn(700), "resource": person, "request": {"method": method, "url": url}}
        return submitting.with_entries(bundle, entry)

    narrow = exchange.client("hospital-a", "ITI-65")
    assert refusal(narrow.post("", register_in("POST", "Patient"))) == (403, ["forbidden"])
    feeding = exchange.client("hospital-a", "ITI-65 ITI-104")
    assert statuses(submit(feeding, register_in("POST", "Patient"))) == ["201"] * 4
    assert statuses(submit(feeding, register_in("PUT", condition))) == ["201"] * 3 + ["200"]


@pytest.mark.parametrize("scope", ["ITI-65", "TD2", "TD2.1"])
def test_gen_14_what_the_scope_of_a_submission_opens(
    exchange: Exchange, hospital: Client, subject: str, scope: str
) -> None:
    """Publishing, and nothing beside it: no deletion, no other type."""
    source = exchange.client("hospital-a", scope) if scope == "ITI-65" else feeder(exchange, scope)
    document = publish(source, subject)
    place = submitting.place(submit(hospital, submission(subject))[0])
    for entry in (
        {"request": {"method": "DELETE", "url": place}},
        submitting.posted(examples.observation("x", subject={"reference": subject})),
        submitting.posted(fhir_document(subject.partition("/")[2])),
    ):
        refused = source.post("", submitting.with_entries(submission(subject), entry))
        assert refusal(refused) == (403, ["forbidden"])
    assert statuses(submit(source, submitting.replacement(subject, document))) == ["201"] * 3 + ["200"]
