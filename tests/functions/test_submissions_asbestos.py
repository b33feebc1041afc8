"""The negative cases of NIST Asbestos for a Document Recipient, each a good submission with one change (65-19).

Named as they are there. A case that Asbestos has for comprehensive metadata only, because minimal metadata make the
element optional, is one here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.exchange import Client, Exchange
from tests.functions.test_patients import register
from tests.submitting import Bundle, changed, nothing_stored, submission, urn

FOREIGN = "http://example.com/fhir/Patient/1"
Change = Callable[[Bundle], Bundle]


def _set(path: str, value: Any = None) -> Change:
    return lambda bundle: changed(bundle, path, value)


def _without_source_patient(bundle: Bundle) -> Bundle:
    return changed(changed(bundle, "1.context.sourcePatientInfo", None), "1.contained.1", None)


def _with_identifier(bundle: Bundle) -> Bundle:
    identifier = {"use": "usual", "system": "urn:ietf:rfc:3986", "value": urn(77)}
    return changed(bundle, "1.identifier", [identifier])


def _without_documents(*, has_reference: bool) -> Change:
    def change(bundle: Bundle) -> Bundle:
        bundle = {**bundle, "entry": [bundle["entry"][0], bundle["entry"][2]]}
        return bundle if has_reference else changed(bundle, "0.entry", None)

    return change


def _with_meta(meta: Any) -> Change:
    def change(bundle: Bundle) -> Bundle:
        return {name: value for name, value in (bundle | {"meta": meta}).items() if value is not None}

    return change


EVERY: Mapping[str, Change] = {
    "Bad_Patient_Link": _set("1.subject.reference", FOREIGN),
    "Bad_Patient_Link_SubmissionSetTypeList": _set("0.subject.reference", FOREIGN),
    "Bad_Profile": _with_meta({"profile": ["http://ihe.net/fhir/StructureDefinition/BadProfile"]}),
    "Bad_SourcePatientInfo_Link": _set("1.contained.1"),
    "Bad_IdentifierUse": _with_identifier,
    "Missing_Document": _set("1.content.0.attachment.url"),
    "Missing_MimeType": _set("1.content.0.attachment.contentType"),
    "Missing_PatientID": _set("1.subject"),
    "Missing_PatientID_Reference": _set("1.subject", {"display": "nobody"}),
    "Missing_Profile": _with_meta(None),
    "Missing_SourceId": _set("0.extension.1"),
    "Missing_SubmissionTime": _set("0.date"),
    "Missing_UniqueId": _set("1.masterIdentifier"),
    "Missing_UniqueId_Reference": _set("1.masterIdentifier", {"system": "urn:ietf:rfc:3986"}),
    "Missing_UniqueId_SubmissionSetTypeList": _set("0.identifier"),
    "Missing_DocumentReference_with_reference": _without_documents(has_reference=True),
    "Missing_DocumentReference_without_reference": _without_documents(has_reference=False),
    "Missing_SubmissionSetTypeList": lambda bundle: {**bundle, "entry": bundle["entry"][1:]},
}
COMPREHENSIVE: Mapping[str, Change] = {
    "Missing_PatientID_SubmissionSetTypeList": _set("0.subject"),
    "Missing_ContentTypeCode": _set("0.extension.0"),
    "Missing_Format_Code": _set("1.content.0.format"),
    "Missing_HealthcareFacilityTypeCode": _set("1.context.facilityType"),
    "Missing_LanguageCode": _set("1.content.0.attachment.language"),
    "Missing_PracticeSettingCode": _set("1.context.practiceSetting"),
    "Missing_SourcePatientId": _without_source_patient,
    "Missing_TypeCode": _set("1.type"),
}
CASES = [
    *(pytest.param("minimal", change, id=f"minimal-{name}") for name, change in EVERY.items()),
    *(
        pytest.param("comprehensive", change, id=f"comprehensive-{name}")
        for name, change in {**EVERY, **COMPREHENSIVE}.items()
    ),
]


@pytest.fixture(scope="module")
def subject(exchange: Exchange) -> str:
    return f"Patient/{register(exchange.client('hospital-a'), 1).json['id']}"


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.mark.parametrize(("profile", "change"), CASES)
def test_65_19(hospital: Client, subject: str, profile: str, change: Change) -> None:
    status, codes = nothing_stored(hospital, change(submission(subject, profile)))
    assert 400 <= status < 500
    assert codes


@pytest.mark.parametrize("profile", ["minimal", "comprehensive"])
def test_what_the_cases_are_made_of_is_good(hospital: Client, subject: str, profile: str) -> None:
    assert hospital.post("", submission(subject, profile)).status == 200
