"""ITI-65 Provide Document Bundle: IHE MHD 4.2.4, section 2:3.65."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from conformance.checks import (
    expect,
    ids,
    ok,
    ok_xml,
    place,
    refused,
    status_of,
    values,
    warnings_of,
)
from conformance.profile import Profile
from conformance.server import FHIR_XML
from conformance.shelf import Known, Shelf
from conformance.submissions import (
    CDA,
    CDA_HASH,
    EMPTY_HASH,
    IDNPS,
    MHD,
    PDF,
    PROFILES,
    Resource,
    attachment_of,
    entry_of,
    fhir_document,
    folder,
    full_url,
    pruned,
    replacing,
    submission_xml,
    the,
    unique_id,
    without,
)

LEVELS = tuple(PROFILES)
FAULTS = ("required", "value", "invariant")


@pytest.fixture
def _pdsm(request: pytest.FixtureRequest, profile: Profile) -> None:
    if request.node.callspec.params.get("level") == "pdsm" and not profile.options["pdsm"]:
        pytest.skip("the profile does not claim the option pdsm")


# --- what is stored ---------------------------------------------------------------------------------------------------


@pytest.mark.row("65-1")
@pytest.mark.usefixtures("_pdsm")
@pytest.mark.parametrize("documents", [1, 2])
@pytest.mark.parametrize("level", LEVELS)
def test_65_1_valid_submission(shelf: Shelf, level: str, documents: int) -> None:
    bundle = shelf.submission(level=level, documents=documents)
    entries = shelf.send(bundle)
    for sent, got in zip(bundle["entry"], entries, strict=True):
        answer = shelf.author.get(place(got["response"]))
        stored = ok(answer)
        kind = sent["resource"]["resourceType"]
        expect(stored["resourceType"] == kind, f"what the response locates is the {kind} of that entry", stored)
        if kind == "DocumentReference":
            unique = stored["masterIdentifier"]["value"]
            expect(
                unique == sent["resource"]["masterIdentifier"]["value"],
                "the response locates the document of that very entry",
                unique,
            )
            expect(
                got["response"]["etag"] == answer.headers.get("etag"),
                "the etag of the response entry is that of the stored resource",
                (got["response"]["etag"], answer.headers.get("etag")),
            )


@pytest.mark.row("65-1")
def test_65_1_minimal_submission_set_without_subject(shelf: Shelf) -> None:
    """Only comprehensive metadata ask for SubmissionSet.subject: the documents say whose they are."""
    bundle = shelf.submission(level="minimal")
    del the(bundle, "List")["subject"]
    shelf.send(bundle)


@pytest.mark.row("65-1")
@pytest.mark.parametrize("level", [each for each in LEVELS if each not in ("minimal", "uncontained")])
@pytest.mark.usefixtures("_pdsm")
def test_65_1_valid_submission_in_xml(shelf: Shelf, level: str) -> None:
    body = submission_xml(shelf.person.person, shelf.person.reference, level=level)
    root = ok_xml(shelf.author.post("", body, content_type=FHIR_XML, Accept=FHIR_XML))
    expect(
        values(root, "type") == ["transaction-response"], "the answer is a transaction-response", values(root, "type")
    )
    statuses = [each.partition(" ")[0] for each in values(root, "entry/response/status")]
    expect(statuses == ["201"] * 3, "one response entry of status 201 per request entry", statuses)
    kinds = [each.partition("/_history")[0].split("/")[-2] for each in values(root, "entry/response/location")]
    expect(kinds == ["List", "DocumentReference", "Binary"], "locations come in the order of the request", kinds)


@pytest.mark.row("65-2")
def test_65_2_profile_missing(shelf: Shelf) -> None:
    bundle = shelf.submission()
    del bundle["meta"]
    shelf.refused(bundle, 422, "required")


@pytest.mark.row("65-2")
def test_65_2_profile_unknown(shelf: Shelf) -> None:
    bundle = shelf.submission()
    bundle["meta"]["profile"] = [f"{MHD}/IHE.MHD.Unknown.ProvideBundle"]
    shelf.refused(bundle, 422, "value")


@pytest.mark.row("65-2")
@pytest.mark.parametrize("kind", ["collection", "document"])
def test_65_2_no_transaction(shelf: Shelf, kind: str) -> None:
    bundle = shelf.submission() | {"type": kind}
    shelf.refused(bundle, 400, "value")


# --- SubmissionSet and DocumentReference ------------------------------------------------------------------------------


def _second_set(bundle: Resource) -> None:
    other = copy.deepcopy(entry_of(bundle, "List")) | {"fullUrl": full_url()}
    other["resource"]["identifier"][0]["value"] = unique_id()
    bundle["entry"].append(other)


def _no_set(bundle: Resource) -> None:
    bundle["entry"].remove(entry_of(bundle, "List"))


def _extension_away(name: str) -> Callable[[Resource], None]:
    def change(bundle: Resource) -> None:
        resource = the(bundle, "List")
        resource["extension"] = [each for each in resource["extension"] if not each["url"].endswith(name)]
        if not resource["extension"]:
            del resource["extension"]  # an empty list would be another fault

    return change


def _with(kind: str, **changes: Any) -> Callable[[Resource], None]:
    return lambda bundle: the(bundle, kind).update(changes)


def _away(kind: str, path: str) -> Callable[[Resource], None]:
    def change(bundle: Resource) -> None:
        entry = entry_of(bundle, kind)
        entry["resource"] = without(entry["resource"], path)

    return change


_SET_FAULTS: dict[str, Callable[[Resource], None]] = {
    "none": _no_set,
    "two": _second_set,
    "code missing": _away("List", "code"),
    "code other": _with("List", code={"coding": [{"system": "urn:oid:2.999.5", "code": "other"}]}),
    "mode missing": _away("List", "mode"),
    "mode other": _with("List", mode="snapshot"),
    "status missing": _away("List", "status"),
    "status other": _with("List", status="retired"),
    "date missing": _away("List", "date"),
    "sourceId missing": _extension_away("ihe-sourceId"),
}


@pytest.mark.row("65-3")
@pytest.mark.parametrize("fault", _SET_FAULTS)
@pytest.mark.parametrize("level", ["minimal", "comprehensive"])
def test_65_3_submission_set(shelf: Shelf, level: str, fault: str) -> None:
    bundle = shelf.submission(level=level)
    _SET_FAULTS[fault](bundle)
    shelf.refused(bundle, 422, *FAULTS)


@pytest.mark.row("65-3")
@pytest.mark.parametrize("fault", ["subject", "designationType"])
def test_65_3_comprehensive_submission_set(shelf: Shelf, fault: str) -> None:
    bundle = shelf.submission()
    (_away("List", "subject") if fault == "subject" else _extension_away("ihe-designationType"))(bundle)
    shelf.refused(bundle, 422, *FAULTS)


def _two_contents(bundle: Resource) -> None:
    document = the(bundle, "DocumentReference")
    document["content"] = document["content"] * 2


def _inline_data(bundle: Resource) -> None:
    attachment_of(the(bundle, "DocumentReference"))["data"] = the(bundle, "Binary")["data"]


_DOCUMENT_FAULTS: dict[str, Callable[[Resource], None]] = {
    **{
        f"{path} missing": _away("DocumentReference", path)
        for path in (
            "masterIdentifier",
            "status",
            "content",
            "content.attachment.contentType",
            "content.attachment.url",
        )
    },
    "data present": _inline_data,
    "modifierExtension present": _with(
        "DocumentReference", modifierExtension=[{"url": "https://example.org/modifier", "valueBoolean": True}]
    ),
    "docStatus present": _with("DocumentReference", docStatus="final"),
    "two content": _two_contents,
    "status other": _with("DocumentReference", status="entered-in-error"),
}


@pytest.mark.row("65-4")
@pytest.mark.parametrize("fault", _DOCUMENT_FAULTS)
@pytest.mark.parametrize("level", ["minimal", "comprehensive"])
def test_65_4_document_reference(shelf: Shelf, level: str, fault: str) -> None:
    bundle = shelf.submission(level=level)
    _DOCUMENT_FAULTS[fault](bundle)
    shelf.refused(bundle, 422, *FAULTS, at="DocumentReference" if level == "none" else None)


@pytest.mark.row("65-5")
@pytest.mark.parametrize(
    "path",
    [
        "type",
        "category",
        "subject",
        "securityLabel",
        "content.attachment.language",
        "content.attachment.creation",
        "content.format",
        "context.facilityType",
        "context.practiceSetting",
        "context.sourcePatientInfo",
    ],
)
@pytest.mark.parametrize("level", ["comprehensive", "uncontained"])
def test_65_5_comprehensive_metadata(shelf: Shelf, level: str, path: str) -> None:
    bundle = shelf.submission(level=level)
    _away("DocumentReference", path)(bundle)
    shelf.refused(bundle, 422, "required", at=path.rpartition(".")[2])


def _uncontained(bundle: Resource, element: str, subject: str) -> None:
    who = {"type": "Practitioner", "identifier": {"system": IDNPS, "value": "810000000011"}}
    document = the(bundle, "DocumentReference")
    if element == "source":
        the(bundle, "List")["source"] = who
    elif element == "sourcePatientInfo":
        document["context"]["sourcePatientInfo"] = {"reference": subject}
    else:
        document[element] = [who] if element == "author" else who
    for kind in ("List", "DocumentReference"):
        entry_of(bundle, kind)["resource"] = pruned(the(bundle, kind))


@pytest.mark.row("65-6")
@pytest.mark.parametrize("element", ["author", "authenticator", "sourcePatientInfo", "source"])
def test_65_6_contained(shelf: Shelf, element: str) -> None:
    bundle = shelf.submission()
    _uncontained(bundle, element, shelf.person.reference)
    shelf.refused(bundle, 422, "invariant", at=element)
    bundle = shelf.submission(level="uncontained")
    shelf.send(bundle)


# --- contents ---------------------------------------------------------------------------------------------------------


@pytest.mark.row("65-7")
@pytest.mark.parametrize("level", ["minimal", "comprehensive"])
def test_65_7_content_absent(shelf: Shelf, level: str) -> None:
    bundle = shelf.submission(level=level)
    attachment_of(the(bundle, "DocumentReference"))["url"] = full_url()
    shelf.refused(bundle, 422, "not-found", at="url")


@pytest.mark.row("65-8")
@pytest.mark.parametrize(("element", "value"), [("hash", EMPTY_HASH), ("size", 81)])
@pytest.mark.parametrize("level", ["minimal", "comprehensive"])
def test_65_8_wrong(shelf: Shelf, level: str, element: str, value: object) -> None:
    bundle = shelf.submission(level=level)
    attachment_of(the(bundle, "DocumentReference"))[element] = value
    shelf.refused(bundle, 422, "value", at=element)


@pytest.mark.row("65-8")
def test_65_8_right(shelf: Shelf) -> None:
    bundle = shelf.submission()
    attachment = attachment_of(the(bundle, "DocumentReference"))
    assert (attachment["size"], attachment["hash"]) == (len(CDA), CDA_HASH) == (80, CDA_HASH)
    shelf.send(bundle)


@pytest.mark.row("65-8")
@pytest.mark.option("delayed")
@pytest.mark.parametrize("kind", ["delayed", "on-demand"])
def test_65_8_later(shelf: Shelf, kind: str) -> None:
    bundle = shelf.submission()
    attachment = attachment_of(the(bundle, "DocumentReference"))
    if kind == "delayed":
        attachment |= {"size": 0, "hash": EMPTY_HASH}
    else:
        del attachment["size"], attachment["hash"]
    shelf.send(bundle)


# --- whose document ---------------------------------------------------------------------------------------------------


@pytest.mark.row("65-9")
@pytest.mark.parametrize("form", ["stored", "bundled", "logical", "conditional"])
def test_65_9_subject(shelf: Shelf, first: Known, form: str) -> None:
    bundle = shelf.submission()
    subject: dict[str, Any] = {"reference": first.reference}
    if form == "logical":
        system, value = first.person.system, first.person.value
        subject = {"type": "Patient", "identifier": {"system": system, "value": value}}
    if form == "conditional":
        subject = {"reference": first.condition}
    if form == "bundled":
        url = shelf.author.server.url(first.reference)
        resource = ok(shelf.author.get(first.reference))
        bundle["entry"].append(
            {"fullUrl": url, "resource": resource, "request": {"method": "GET", "url": first.reference}}
        )
        subject = {"reference": url}
    for kind in ("List", "DocumentReference"):
        the(bundle, kind)["subject"] = subject
    shelf.send(bundle)
    found = shelf.find(the(bundle, "DocumentReference")["masterIdentifier"]["value"])
    expect(len(found) == 1, "the document is found in the record of that patient", ids(found))


@pytest.mark.row("65-10")
def test_65_10_subject_unresolvable(shelf: Shelf, first: Known) -> None:
    for subject in ({"reference": f"{first.reference[:-4]}zzzz"}, {"reference": f"{first.condition[:-4]}0000"}):
        bundle = shelf.submission()
        for kind in ("List", "DocumentReference"):
            the(bundle, kind)["subject"] = subject
        shelf.refused(bundle, 422, "not-found")


@pytest.mark.row("65-10")
def test_65_10_two_patients(shelf: Shelf, second: Known) -> None:
    bundle = shelf.submission(documents=2)
    bundle["entry"][3]["resource"]["subject"] = {"reference": second.reference}
    shelf.refused(bundle, 422, "business-rule")
    other = bundle["entry"][3]["resource"]["masterIdentifier"]["value"]
    found = shelf.author.get(f"DocumentReference?patient={second.id}&identifier={other}")
    expect(ok(found)["total"] == 0, "nothing is stored in the other record either", ok(found)["total"])


# --- relations --------------------------------------------------------------------------------------------------------


@pytest.mark.row("65-12")
@pytest.mark.option("relations")
def test_65_12_replace(shelf: Shelf) -> None:
    old = shelf.published()
    bundle = replacing(shelf.submission(), old.reference)
    entries = shelf.send(bundle)
    expect(status_of(entries[3]) == 200, "the response to the PATCH entry has status 200", entries[3])
    before = shelf.read(old)
    expect(before["status"] == "superseded", "the replaced document is superseded", before["status"])
    expect(before["id"] == old.id, "the id of the replaced document is stable", before["id"])
    expect(before["meta"]["versionId"] == "2", "its version is one more", before["meta"]["versionId"])
    (after,) = shelf.find(the(bundle, "DocumentReference")["masterIdentifier"]["value"])
    expect(after["status"] == "current", "the new document is current", after["status"])
    relation = after.get("relatesTo", [{}])[0]
    expect(
        relation.get("code") == "replaces" and relation["target"]["reference"].endswith(old.reference),
        "the new document names the one it replaces",
        relation,
    )


@pytest.mark.row("65-13")
@pytest.mark.option("relations")
@pytest.mark.parametrize("fault", ["no patch", "other patch"])
def test_65_13_replace_refused(shelf: Shelf, fault: str) -> None:
    old, other = shelf.published(), shelf.published()
    bundle = replacing(shelf.submission(), old.reference, patched=None if fault == "no patch" else other.reference)
    shelf.refused(bundle, 422, "business-rule")
    for each in (old, other):
        expect(shelf.read(each)["status"] == "current", "no document is superseded", shelf.read(each)["status"])


@pytest.mark.row("65-13")
@pytest.mark.option("relations")
def test_65_13_already_superseded(shelf: Shelf) -> None:
    old = shelf.published()
    shelf.send(replacing(shelf.submission(), old.reference))
    shelf.refused(replacing(shelf.submission(), old.reference), 409)


@pytest.mark.row("65-14")
@pytest.mark.option("relations", is_claimed=False)
@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("replaces", "PartialReplaceContentNotProcessed"),
        ("transforms", "PartialTransformContentNotProcessed"),
        ("appends", "PartialAppendContentNotProcessed"),
    ],
)
def test_65_14_relations_not_supported(shelf: Shelf, code: str, text: str) -> None:
    old = shelf.published()
    bundle = shelf.submission()
    the(bundle, "DocumentReference")["relatesTo"] = [{"code": code, "target": {"reference": old.reference}}]
    entries = shelf.send(bundle)
    warned = warnings_of(entries)
    expect(any(one == "processing" and text in said for one, said in warned), f"the warning {text} is given", warned)
    expect(len(shelf.find(old.unique)) == 1, "the related document stays as it is", shelf.find(old.unique))


@pytest.mark.row("65-15")
@pytest.mark.option("folders")
def test_65_15_folder(shelf: Shelf, first: Known) -> None:
    bundle = shelf.submission()
    made = folder(first.reference, entry_of(bundle, "DocumentReference")["fullUrl"])
    url = full_url()
    bundle["entry"].append({"fullUrl": url, "resource": made, "request": {"method": "POST", "url": "List"}})
    the(bundle, "List")["entry"].append({"item": {"reference": url}})
    where = place(shelf.send(bundle)[-1]["response"])
    kept = ok(shelf.author.get(where))
    items = [each["item"]["reference"] for each in kept["entry"]]

    more = shelf.submission()
    grown = folder(first.reference, *items, entry_of(more, "DocumentReference")["fullUrl"])
    grown |= {"id": where.partition("/")[2], "identifier": kept["identifier"]}
    more["entry"].append(
        {"fullUrl": shelf.author.server.url(where), "resource": grown, "request": {"method": "PUT", "url": where}}
    )
    entries = shelf.send(more)
    expect(status_of(entries[-1]) == 200, "a folder with one more entry is updated", entries[-1])
    expect(len(ok(shelf.author.get(where))["entry"]) == 2, "the folder has both documents")

    less = shelf.submission()
    reduced = copy.deepcopy(grown) | {"entry": [{"item": {"reference": items[0]}}]}
    less["entry"].append(
        {"fullUrl": shelf.author.server.url(where), "resource": reduced, "request": {"method": "PUT", "url": where}}
    )
    refused(shelf.author.post("", less), 422, "business-rule")
    shelf.nothing_of({"entry": less["entry"][:3]})
    expect(len(ok(shelf.author.get(where))["entry"]) == 2, "the folder keeps both documents")


@pytest.mark.row("65-15")
@pytest.mark.option("folders", is_claimed=False)
def test_65_15_folders_not_supported(shelf: Shelf, first: Known) -> None:
    bundle = shelf.submission()
    made = folder(first.reference, entry_of(bundle, "DocumentReference")["fullUrl"])
    bundle["entry"].append({"fullUrl": full_url(), "resource": made, "request": {"method": "POST", "url": "List"}})
    answer = shelf.author.post("", bundle)
    warned = warnings_of(ok(answer).get("entry", []))
    text = "PartialFolderContentNotProcessed"
    expect(any(one == "processing" and text in said for one, said in warned), f"the warning {text} is given", warned)
    found = shelf.find(the(bundle, "DocumentReference")["masterIdentifier"]["value"])
    expect(len(found) == 1, "the rest of the submission is stored", ids(found))
    expect(not shelf.find(made["identifier"][0]["value"], kind="List"), "the folder is not stored")


# --- recipients, FHIR documents, people -------------------------------------------------------------------------------


def _addressed(bundle: Resource, recipient: dict[str, Any]) -> Resource:
    the(bundle, "List")["extension"].append({"url": f"{MHD}/ihe-intendedRecipient", "valueReference": recipient})
    return bundle


@pytest.mark.row("65-16")
@pytest.mark.parametrize("text", ["UnknownRecipient", "UnavailableRecipient"])
def test_65_16_recipient(shelf: Shelf, profile: Profile, text: str) -> None:
    recipient: dict[str, Any] = {"type": "Practitioner", "identifier": {"system": IDNPS, "value": "899999999990"}}
    if text == "UnavailableRecipient":
        if "unreachable_recipient" not in profile.references:
            pytest.skip("the profile names no unreachable_recipient")
        system, _, value = profile.references["unreachable_recipient"].partition("|")
        recipient = {"type": "Practitioner", "identifier": {"system": system, "value": value}}
    bundle = _addressed(shelf.submission(), recipient)
    warned = warnings_of(shelf.send(bundle))
    expect(any(one == "processing" and text in said for one, said in warned), f"the warning {text} is given", warned)
    found = shelf.find(the(bundle, "DocumentReference")["masterIdentifier"]["value"])
    expect(len(found) == 1, "the submission is stored all the same", ids(found))


def _with_fhir_document(shelf: Shelf) -> Resource:
    bundle = shelf.submission()
    document, content = the(bundle, "DocumentReference"), entry_of(bundle, "Binary")
    attachment = attachment_of(document)
    attachment["contentType"] = "application/fhir+json"
    del attachment["size"], attachment["hash"]
    content |= {"resource": fhir_document(shelf.person.person), "request": {"method": "POST", "url": "Bundle"}}
    return bundle


@pytest.mark.row("65-17")
@pytest.mark.option("fhir_documents", is_claimed=False)
def test_65_17_fhir_documents_not_supported(shelf: Shelf) -> None:
    shelf.refused(_with_fhir_document(shelf), 422, "not-supported", saying="FHIRDocumentNotSupported")


@pytest.mark.row("65-17")
@pytest.mark.option("fhir_documents")
def test_65_17_fhir_documents(shelf: Shelf) -> None:
    bundle = _with_fhir_document(shelf)
    shelf.send(bundle)
    found = shelf.find(the(bundle, "DocumentReference")["masterIdentifier"]["value"])
    expect(len(found) == 1, "the document is stored and found", ids(found))
    content = ok(shelf.author.get(attachment_of(found[0])["url"], Accept="application/fhir+json"))
    expect((content["resourceType"], content["type"]) == ("Bundle", "document"), "its content is the document Bundle")


def _with_patient(bundle: Resource, method: str, resource: Resource, url: str) -> Resource:
    bundle["entry"].append({"fullUrl": full_url(), "resource": resource, "request": {"method": method, "url": url}})
    return bundle


@pytest.mark.row("65-18")
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_65_18_patient_entry(shelf: Shelf, first: Known, profile: Profile, method: str) -> None:
    resource = ok(shelf.author.get(first.reference))
    bundle = shelf.submission()
    if method == "GET":
        bundle["entry"].append({"request": {"method": "GET", "url": first.reference}})
        answer = ok(shelf.author.post("", bundle))
        last = answer["entry"][-1]
        expect(status_of(last) == 200, "the Patient entry is answered with 200", last)
        return
    if not profile.is_registering:
        pytest.skip("the profile does not let the kit register people")
    known = first.person
    local = f"{profile.domain}|{known.local}"
    resource.pop("meta", None)
    if method == "POST":
        resource.pop("id")
        request = {"method": "POST", "url": "Patient", "ifNoneExist": f"identifier={local}"}
    else:
        request = {"method": "PUT", "url": first.reference}
    bundle["entry"].append({"fullUrl": full_url(), "resource": resource, "request": request})
    answer = ok(shelf.author.post("", bundle))
    expect(status_of(answer["entry"][-1]) in (200, 201), "the Patient entry is accepted", answer["entry"][-1])


@pytest.mark.row("65-18")
def test_65_18_patient_entry_without_scope(shelf: Shelf, first: Known, profile: Profile) -> None:
    if "submitting" not in profile.scopes:
        pytest.skip("the profile names no scope “submitting”")
    resource = ok(shelf.author.get(first.reference))
    bundle = _with_patient(shelf.submission(), "PUT", resource, first.reference)
    refused(shelf.author.with_scope(profile.scopes["submitting"]).post("", bundle), 403, "forbidden")
    shelf.nothing_of({"entry": bundle["entry"][:3]})


# --- NIST Asbestos ----------------------------------------------------------------------------------------------------


def _bad_link(kind: str) -> Callable[[Resource], None]:
    return _with(kind, subject={"reference": "Patient/does-not-exist-7f3a"})


def _bad_source_patient(bundle: Resource) -> None:
    the(bundle, "DocumentReference")["context"]["sourcePatientInfo"] = {"reference": "#nobody"}


def _usual_entry_uuid(bundle: Resource) -> None:
    the(bundle, "DocumentReference")["identifier"] = [
        {"use": "usual", "system": "urn:ietf:rfc:3986", "value": full_url()}
    ]


def _no_document(bundle: Resource) -> None:
    bundle["entry"].remove(entry_of(bundle, "DocumentReference"))


def _no_document_nor_item(bundle: Resource) -> None:
    _no_document(bundle)
    del the(bundle, "List")["entry"]


def _profile(*profiles: str) -> Callable[[Resource], None]:
    def change(bundle: Resource) -> None:
        bundle["meta"]["profile"] = list(profiles)
        if not profiles:
            del bundle["meta"]

    return change


_BOTH: dict[str, Callable[[Resource], None]] = {
    "Bad_Patient_Link": _bad_link("DocumentReference"),
    "Bad_Patient_Link_SubmissionSetTypeList": _bad_link("List"),
    "Bad_Profile": _profile("https://example.org/StructureDefinition/none"),
    "Bad_IdentifierUse": _usual_entry_uuid,
    "Missing_MimeType": _away("DocumentReference", "content.attachment.contentType"),
    "Missing_Profile": _profile(),
    "Missing_SourceId": _extension_away("ihe-sourceId"),
    "Missing_SubmissionTime": _away("List", "date"),
    "Missing_SubmissionSetTypeList": _no_set,
    "Missing_UniqueId_Reference": _away("DocumentReference", "masterIdentifier"),
    "Missing_UniqueId_SubmissionSetTypeList": _away("List", "identifier"),
    "Missing_DocumentReference_with_reference": _no_document,
    "Missing_DocumentReference_without_reference": _no_document_nor_item,
}
_COMPREHENSIVE: dict[str, Callable[[Resource], None]] = {
    "Bad_SourcePatientInfo_Link": _bad_source_patient,
    "Missing_ContentTypeCode": _extension_away("ihe-designationType"),
    "Missing_Document": _away("DocumentReference", "content.attachment.url"),
    "Missing_Format_Code": _away("DocumentReference", "content.format"),
    "Missing_HealthcareFacilityTypeCode": _away("DocumentReference", "context.facilityType"),
    "Missing_LanguageCode": _away("DocumentReference", "content.attachment.language"),
    "Missing_PatientID": _away("DocumentReference", "subject"),
    "Missing_PatientID_Reference": _with("DocumentReference", subject={"display": "nobody"}),
    "Missing_PatientID_SubmissionSetTypeList": _away("List", "subject"),
    "Missing_PracticeSettingCode": _away("DocumentReference", "context.practiceSetting"),
    "Missing_SourcePatientId": _away("DocumentReference", "context.sourcePatientInfo"),
    "Missing_TypeCode": _away("DocumentReference", "type"),
}


@pytest.mark.row("65-19")
@pytest.mark.parametrize(
    ("level", "case"),
    [*(("minimal", each) for each in _BOTH), *(("comprehensive", each) for each in (_BOTH | _COMPREHENSIVE))],
)
def test_65_19_asbestos_negative(shelf: Shelf, level: str, case: str) -> None:
    bundle = shelf.submission(level=level)
    (_BOTH | _COMPREHENSIVE)[case](bundle)
    refused(shelf.author.post("", bundle), range(400, 500))
    shelf.nothing_of(bundle)


@pytest.mark.row("65-20")
@pytest.mark.parametrize("level", ["minimal", "comprehensive"])
@pytest.mark.parametrize("case", ["Single_Document", "Two_Documents_Submit"])
def test_65_20_asbestos_positive(shelf: Shelf, level: str, case: str) -> None:
    bundle = shelf.submission(level=level, documents=2 if case == "Two_Documents_Submit" else 1)
    shelf.send(bundle)
    _found(shelf, bundle)


@pytest.mark.row("65-20")
@pytest.mark.option("relations")
@pytest.mark.parametrize("case", ["Document_Addendum", "Document_Replace", "Document_Transforms"])
def test_65_20_asbestos_relations(shelf: Shelf, case: str) -> None:
    old = shelf.published()
    bundle = shelf.submission()
    if case == "Document_Replace":
        replacing(bundle, old.reference)
    else:
        code = "appends" if case == "Document_Addendum" else "transforms"
        the(bundle, "DocumentReference")["relatesTo"] = [{"code": code, "target": {"reference": old.reference}}]
    shelf.send(bundle)
    _found(shelf, bundle)
    status = shelf.read(old)["status"]
    expected = "superseded" if case == "Document_Replace" else "current"
    expect(status == expected, f"the related document is {expected}", status)


def _found(shelf: Shelf, bundle: Resource) -> None:
    """All of a submission is found by ITI-66 and ITI-67."""
    uniques = [
        each["resource"]["masterIdentifier"]["value"]
        for each in bundle["entry"]
        if each["resource"]["resourceType"] == "DocumentReference"
    ]
    found = shelf.find(*uniques)
    expect(len(found) == len(uniques), "every document of the submission is found (ITI-67)", ids(found))
    sets = shelf.find(the(bundle, "List")["identifier"][0]["value"], kind="List")
    expect(len(sets) == 1, "the SubmissionSet is found (ITI-66)", ids(sets))


# --- the same document again ------------------------------------------------------------------------------------------


@pytest.mark.row("65-21")
def test_65_21_same_bytes(shelf: Shelf) -> None:
    bundle = shelf.submission()
    once = shelf.send(bundle)
    again = shelf.author.post("", bundle)
    answered = ok(again)["entry"]
    where = [[place(each["response"]) for each in entries] for entries in (once, answered)]
    expect(where[0] == where[1], "the first result is given again", where)
    unique = the(bundle, "DocumentReference")["masterIdentifier"]["value"]
    expect(len(shelf.find(unique)) == 1, "there is one such document", ids(shelf.find(unique)))


@pytest.mark.row("65-21")
def test_65_21_other_bytes(shelf: Shelf) -> None:
    bundle = shelf.submission()
    shelf.send(bundle)
    unique = the(bundle, "DocumentReference")["masterIdentifier"]["value"]
    other = shelf.submission(content=PDF, content_type="application/pdf")
    the(other, "DocumentReference")["masterIdentifier"]["value"] = unique
    refused(shelf.author.post("", other), 409, "duplicate")
    found = shelf.find(unique)
    expect(len(found) == 1, "there is one such document", ids(found))
    kinds = attachment_of(found[0])["contentType"]
    expect(kinds == "application/xml", "the first document stays as it was", kinds)
