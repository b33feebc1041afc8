"""What consents ask of resources: the same whether a search or a read asks, and no author is overlooked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from passerelle.consents.terms import CONFIDENTIALITY, Facts
from passerelle.directory.identifiers import FINESS, IDNPS, IDNST, RPPS
from passerelle.fhir import attribution
from passerelle.fhir.concealment import ReferenceMending
from passerelle.fhir.facts import facts_of
from passerelle.fhir.index import RECORD_TYPES, record_type
from passerelle.fhir.resource import ResourceDraft
from passerelle.identifiers import new_resource_id
from passerelle.records.model import ResourceKey
from tests import record
from tests.fhir.test_index import elements_at

PATIENT = "0123456789abcdef"
AUTHORED = json.loads(attribution._DATA.read_text("utf-8"))["types"]


def facts(type: str, /, **content: Any) -> Facts:
    """Of a resource as a search finds it; a read is asked, too, and says the same."""
    draft = ResourceDraft({"resourceType": type, **content}, record.BASE)
    key = ResourceKey(type=type, id=new_resource_id(PATIENT, record.AT), patient=PATIENT)
    found = facts_of(key, draft.entry(key.id, 1, record.AT))
    mending = ReferenceMending()
    assert mending.facts(key, mending.entry(draft.body(key.id, 1, record.AT))) == found
    return found


@pytest.mark.parametrize("type", sorted(AUTHORED))
def test_authors_are_read_where_the_type_has_them(type: str) -> None:
    assert type in RECORD_TYPES
    for path in AUTHORED[type]["paths"]:
        if not path.startswith("entry[0].resource"):
            *_, last = elements_at(type, path)
            assert last.type == "Reference", path
    for name in AUTHORED[type]["parameters"]:
        assert record_type(type).search[name].kind in ("reference", "token")


def test_an_author_has_every_name_that_a_consent_may_use() -> None:
    document = facts(
        "DocumentReference",
        contained=[
            {
                "resourceType": "PractitionerRole",
                "id": "role",
                "practitioner": {"reference": "#who"},
                "organization": {"identifier": {"system": FINESS, "value": "990000011"}},
            },
            {"resourceType": "Practitioner", "id": "who", "identifier": [{"system": RPPS, "value": "10000000011"}]},
        ],
        author=[{"reference": "#role"}, {"reference": f"{record.BASE}/Practitioner/p1"}],
        authenticator={"identifier": {"system": IDNST, "value": "1990000029"}},
    )
    assert document.authors == {"810000000011", "1990000011", "Practitioner/p1", "1990000029"}
    noted = {"system": IDNPS, "value": "810000000011"}
    condition = facts("Condition", recorder={"identifier": noted}, asserter={"reference": "Practitioner/p1"})
    assert condition.authors == {"810000000011", "Practitioner/p1"}
    assert facts("Procedure", recorder={"reference": "https://elsewhere.example/fhir/Practitioner/p2"}).authors == {
        "Practitioner/p2"
    }


def test_what_a_resource_refers_to_is_found_without_a_search_parameter() -> None:
    found = facts(
        "Procedure",
        subject={"reference": f"Patient/{PATIENT}"},
        encounter={"reference": f"{record.BASE}/Encounter/e1/_history/2"},
        complicationDetail=[{"reference": "Condition/c1"}],
        usedReference=[{"reference": "Device/d1"}],
    )
    assert found.about == {"Encounter/e1", "Condition/c1", "Device/d1"}
    document = facts(
        "DocumentReference", content=[{"attachment": {"url": f"{record.BASE}/Binary/b1", "contentType": "text/plain"}}]
    )
    assert document.about == {"Binary/b1"}


def test_labels_codes_and_dates() -> None:
    restricted = {"system": CONFIDENTIALITY, "code": "R"}
    found = facts(
        "Observation",
        meta={"security": [restricted]},
        code={"coding": [{"system": "urn:x", "code": "a"}]},
        valueCodeableConcept={"coding": [{"system": "urn:x", "code": "b"}]},
        effectivePeriod={"start": "2022-01-01", "end": "2022-01-31"},
    )
    assert found.labels == {f"{CONFIDENTIALITY}|R"}
    assert found.codes == {"urn:x|a"}
    assert {"urn:x|a", "urn:x|b"} <= found.tokens
    assert found.period == ("20220101000000", "20220131235959")
    assert facts("DocumentReference", securityLabel=[{"coding": [restricted]}]).labels == found.labels
    assert facts("Observation").period is None
