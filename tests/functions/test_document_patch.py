"""Changing a document over HTTP: labels, deletion, archive (PDSm flux 03; DMP TD3.3a to d)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from local.gateway import Response
from passerelle.consents.visibility import labels as all_labels
from passerelle.fhir import xml as fhir_xml
from tests import examples
from tests.documents import (
    ARCHIVE_PATH,
    ARCHIVED,
    AUTHOR,
    OTHER,
    URI,
    changed,
    document,
    fhirpath,
    joined,
    label,
    labels,
    named,
    operation,
    patch,
    place,
    published,
    refusal,
    relabel,
    unique,
)
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register

PERSON = "system/*.rs system/DocumentReference.u"
WITHDRAW = [operation("replace", "/status", "entered-in-error")]
ARCHIVE = [operation("replace", ARCHIVE_PATH, True)]


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    return str(register(exchange.client(AUTHOR), 1).json["id"])


@pytest.fixture(scope="module")
def author(exchange: Exchange) -> Client:
    return exchange.client(AUTHOR)


@pytest.fixture(scope="module")
def other(exchange: Exchange) -> Client:
    """A professional of another organisation."""
    return exchange.client(OTHER)


@pytest.fixture(scope="module")
def patient(exchange: Exchange) -> Client:
    return joined(exchange, "patient", PERSON, patient=examples.ins(1))


@pytest.fixture(scope="module")
def representative(exchange: Exchange) -> Client:
    return joined(exchange, "representative", PERSON, patient=examples.ins(1))


@pytest.fixture(scope="module")
def steady(author: Client, key: str) -> dict[str, Any]:
    """A document for what is refused: it stays as it is."""
    extension = [{"url": "urn:y", "valueCode": "a"}]
    return published(author, key, "N", "MASQUE_PT", description="d", extension=extension)


@pytest.fixture(scope="module")
def announced(author: Client, key: str) -> dict[str, Any]:
    """The same with two masks."""
    return published(author, key, "N", "MASQUE_PS", "INVISIBLE_PATIENT")


def now(client: Client, resource: Mapping[str, Any]) -> dict[str, Any]:
    found = client.get(place(resource))
    assert found.status == 200, found.body
    return dict(found.json)


def is_there(client: Client, resource: Mapping[str, Any]) -> bool:
    """Read, content and search agree."""
    key = resource["subject"]["reference"].partition("/")[2]
    read = client.get(place(resource)).status
    content = client.get(f"Binary/{resource['id']}").status
    found = client.get(f"DocumentReference?patient={key}&_id={resource['id']}&_total=accurate").json["total"]
    assert (read, content, found) in ((200, 200, 1), (404, 404, 0)), (read, content, found)
    return bool(found)


def untold(answer: Response) -> tuple[int, bytes]:
    return answer.status, answer.body


# --- the interaction --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [place, named], ids=["id", "identifier"])
@pytest.mark.parametrize("form", ["json-patch", "fhirpath-json", "fhirpath-xml"])
@pytest.mark.parametrize("element", ["status", "securityLabel", "isArchived"])
def test_pdsm_4_a_new_version_of_the_same_document(author: Client, key: str, element: str, form: str, by: Any) -> None:
    """PDSM-4, D8"""
    before = published(author, key, "N")
    json_patches = {
        "status": [operation("replace", "/status", "superseded")],
        "securityLabel": relabel("MASQUE_PT"),
        "isArchived": ARCHIVE,
    }
    archived = f"DocumentReference.extension.where(url='{ARCHIVED}').value"
    fhirpaths = {
        "status": fhirpath("replace", "DocumentReference.status", value={"valueCode": "superseded"}),
        "securityLabel": fhirpath(
            "add",
            "DocumentReference",
            name={"valueString": "securityLabel"},
            value={"valueCodeableConcept": label("MASQUE_PT")},
        ),
        "isArchived": fhirpath("replace", archived, value={"valueBoolean": True}),
    }
    if form == "json-patch":
        answer = patch(author, by(before), json_patches[element])
    elif form == "fhirpath-json":
        answer = patch(author, by(before), fhirpaths[element])
    else:
        body = fhir_xml.dumps(fhirpaths[element])
        answer = patch(author, by(before), body, Content_Type="application/fhir+xml")
    assert answer.status == 200, answer.body
    after = answer.json
    assert answer.header("ETag") == 'W/"2"'
    assert (after["id"], after["meta"]["versionId"]) == (before["id"], "2")
    assert after["meta"]["lastUpdated"] > before["meta"]["lastUpdated"]
    assert now(author, before) == after
    expected: dict[str, Any] = {
        "status": {"status": "superseded"},
        "securityLabel": {"securityLabel": [label("N"), label("MASQUE_PT")]},
        "isArchived": {"extension": [{"url": ARCHIVED, "valueBoolean": True}]},
    }[element]
    assert {**after, "meta": None} == {**before, **expected, "meta": None}


def test_pdsm_4_by_an_identifier_that_is_not_the_master(author: Client, key: str) -> None:
    """PDSM-4: the guide's own example has the number of a laboratory's system."""
    identifier = {"system": "http://my-lab-system.example", "value": unique()}
    made = published(author, key, identifier=[identifier])
    where = f"DocumentReference?identifier={identifier['system']}|{identifier['value']}"
    assert changed(author, where, ARCHIVE)["id"] == made["id"]


def test_pdsm_5_no_match_and_a_hidden_one_are_the_same(author: Client, other: Client, key: str) -> None:
    """PDSM-5, DMP-21, DMP-28, GEN-11"""
    hidden = published(author, key, "MASQUE_PS")
    gone = f"{hidden['id'][:-1]}{'0' if hidden['id'][-1] != '0' else '1'}"
    unknown = {"id": gone, "masterIdentifier": {"system": URI, "value": unique()}}
    for where in (place, named):
        for change in (relabel("N"), WITHDRAW, ARCHIVE, [operation("test", "/status", "superseded")]):
            assert untold(patch(other, where(hidden), change)) == untold(patch(other, where(unknown), change))
            assert patch(other, where(hidden), change).status == 404
    assert now(author, hidden) == hidden


def test_pdsm_5_two_visible_matches(author: Client, other: Client, key: str) -> None:
    """PDSM-5, DMP-28"""
    identifier = {"system": "urn:oid:2.999.40", "value": unique()}
    first, second = (published(author, key, identifier=[identifier]) for _ in range(2))
    where = f"DocumentReference?identifier={identifier['system']}|{identifier['value']}"
    for path in (where, f"{where}&patient={key}"):
        assert refusal(patch(author, path, ARCHIVE)) == (412, "multiple-matches")
    assert (now(author, first), now(author, second)) == (first, second)
    changed(author, second, relabel("MASQUE_PS"))
    assert changed(other, where, ARCHIVE)["id"] == first["id"]  # who sees one of them has one match


def test_a_condition_may_name_the_patient_and_more(author: Client, key: str) -> None:
    made = published(author, key)
    master = made["masterIdentifier"]
    identifier = f"identifier={master['system']}|{master['value']}"
    assert changed(author, f"DocumentReference?patient={key}&{identifier}", ARCHIVE)["id"] == made["id"]
    by_ins = f"DocumentReference?patient.identifier={examples.ins(1)}&{identifier}&status=current"
    assert changed(author, by_ins, relabel("MASQUE_PT"))["id"] == made["id"]
    someone = register(author, 5).json["id"]
    assert patch(author, f"DocumentReference?patient={someone}&{identifier}", ARCHIVE).status == 404
    assert refusal(patch(author, "DocumentReference", ARCHIVE)) == (400, "required")
    assert refusal(patch(author, f"DocumentReference?{identifier}&foo=bar", ARCHIVE))[0] == 400


@pytest.mark.parametrize("version", ["0", "1", "3"])
def test_gen_17_if_match_of_another_version(author: Client, key: str, version: str) -> None:
    made = changed(author, published(author, key), ARCHIVE)
    answer = patch(author, made, relabel("MASQUE_PS"), If_Match=f'W/"{version}"')
    assert refusal(answer) == (412, "conflict")
    assert now(author, made) == made
    assert labels(changed(author, made, relabel("MASQUE_PS"), If_Match='W/"2"')) == ["MASQUE_PS"]


# --- what can be changed ----------------------------------------------------------------------------------------------

ALLOWED = operation("replace", "/status", "superseded")


@pytest.mark.parametrize(
    ("change", "expression"),
    [
        ([operation("replace", "/description", "x")], "DocumentReference.description"),
        ([ALLOWED, operation("replace", "/description", "x")], "DocumentReference.description"),
        ([operation("replace", "/content/0/attachment/title", "x"), ALLOWED], "DocumentReference.content"),
        ([operation("replace", "/meta/security", [])], "DocumentReference.meta"),
        ([operation("remove", "/subject")], "DocumentReference.subject"),
        ([operation("add", "/docStatus", "final")], "DocumentReference.docStatus"),
        ([operation("replace", "", {"resourceType": "DocumentReference"})], "DocumentReference"),
        ([operation("add", "/unknown", "x")], "DocumentReference"),
        ([operation("copy", "/description", **{"from": "/status"})], "DocumentReference.description"),
        ([operation("move", "/status", **{"from": "/description"})], "DocumentReference.status"),
        ([operation("move", "/securityLabel/0", **{"from": "/securityLabel/1"})], "DocumentReference.securityLabel"),
        ([operation("add", "/extension", [{"url": "urn:x", "valueCode": "a"}])], "DocumentReference.extension"),
        (
            fhirpath("replace", "DocumentReference.description", value={"valueString": "x"}),
            "DocumentReference.description",
        ),
        (
            fhirpath(
                "add", "DocumentReference", name={"valueString": "docStatus"}, value={"valueCode": "final"}
            ),
            "DocumentReference.docStatus",
        ),
        (fhirpath("delete", "DocumentReference.extension.where(url='urn:y')"), "DocumentReference.extension"),
        (
            fhirpath(
                "move", "DocumentReference.securityLabel", source={"valueInteger": 0}, destination={"valueInteger": 1}
            ),
            "DocumentReference.securityLabel",
        ),
    ],
)  # fmt: skip
def test_pdsm_6_any_other_element(author: Client, steady: dict[str, Any], change: Any, expression: str) -> None:
    """PDSM-6, D5: nothing is applied, not even what would be allowed."""
    made = steady
    answer = patch(author, made, change)
    issue = answer.json["issue"][0]
    assert (answer.status, issue["code"], issue["expression"]) == (405, "not-supported", [expression])
    assert now(author, made) == made


@pytest.mark.parametrize(
    "change",
    [
        [operation("replace", ARCHIVE_PATH.replace("'", "”"), True)],
        [operation("replace", ARCHIVE_PATH.replace(ARCHIVED, "urn:x"), True)],
        [operation("replace", ARCHIVE_PATH.replace("valueBoolean", "valueCode"), True)],
        [operation("replace", ARCHIVE_PATH, "true")],
        [operation("remove", ARCHIVE_PATH)],
        [operation("replace", "securityLabel[0]", label("N"))],
        [operation("replace", "/securityLabel[0]", label("N"))],
        [operation("replace", "/securityLabel", "restricted")],
        [operation("replace", "/securityLabel/0", "N")],
        [operation("replace", "/securityLabel/0", {"text": "masqué"})],
        [operation("replace", "/securityLabel/0/coding/0/code", "MASQUE_PS")],
        [operation("replace", "/securityLabel/7", label("MASQUE_PS"))],
        [operation("replace", "/status", "current ")],
        [operation("replace", "/status", "preliminary")],
        [operation("replace", "/status", {"a": 1})],
        [operation("remove", "/status")],
        fhirpath("replace", "DocumentReference.status", value={"valueCode": "preliminary"}),
        fhirpath(
            "replace",
            "DocumentReference.securityLabel[0].coding[0].code",
            value={"valueCode": "MASQUE_PS"},
        ),
        fhirpath("replace", "DocumentReference.securityLabel[0]", value={"valueString": "N"}),
    ],
)
def test_pdsm_7_paths_and_values_that_are_none(author: Client, steady: dict[str, Any], change: Any) -> None:
    """PDSM-7"""
    answer = patch(author, steady, change)
    assert answer.status == 422
    assert answer.json["issue"][0]["code"] in ("value", "code-invalid")
    assert now(author, steady) == steady


def test_pdsm_7_the_outcome_says_what_is_accepted(author: Client, steady: dict[str, Any]) -> None:
    issue = patch(author, steady, [operation("replace", "/extension[url:'x']", True)]).json["issue"][0]
    assert ARCHIVE_PATH in issue["diagnostics"]
    assert issue["expression"] == ["[0].path"]


def test_pdsm_7_the_guides_own_body(author: Client, steady: dict[str, Any]) -> None:
    """As PDSm 3.1.1 prints it: a blank after the status, curly quotes."""
    body = [
        {"op": "replace", "path": "/status", "value": "current "},
        {"op": "replace", "path": "/securityLabel", "value": "restricted"},
        {
            "op": "replace",
            "path": "/extension[url:”https://interop.esante.gouv.fr/ig/fhir/pdsm/SearchParameter/PDSm-isArchived”]"
            "/valueBoolean",
            "value": "true",
        },
    ]
    assert refusal(patch(author, steady, body)) == (422, "value")


def test_pdsm_8_xml_patch(author: Client, steady: dict[str, Any]) -> None:
    """PDSM-8, P12"""
    answer = patch(author, steady, b"<diff/>", Content_Type="application/xml-patch+xml")
    assert refusal(answer) == (415, "not-supported")
    assert "application/json-patch+json" in str(answer.header("Accept-Patch"))


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b'"x"',
        b"[1]",
        b'[{"op":"replace"}]',
        b'[{"op":"patch","path":"/status","value":"current"}]',
        b"[",
    ],
)
def test_pdsm_8_malformed(author: Client, steady: dict[str, Any], body: bytes) -> None:
    """PDSM-8: empty or no list, unknown operation."""
    assert refusal(patch(author, steady, body, Content_Type="application/json-patch+json")) == (400, "structure")
    empty = patch(author, steady, {"resourceType": "Parameters"})
    assert refusal(empty) == (400, "structure")


def test_a_patch_has_few_operations(author: Client, steady: dict[str, Any]) -> None:
    assert patch(author, steady, [operation("replace", "/status", "current")] * 21).status == 400


def test_the_same_is_done_as_an_entry_of_a_batch(author: Client, key: str) -> None:
    made = published(author, key)
    change = fhirpath("replace", "DocumentReference.status", value={"valueCode": "superseded"})
    entries = [
        {"resource": change, "request": {"method": "PATCH", "url": place(made)}},
        {"resource": change, "request": {"method": "PATCH", "url": named(published(author, key))}},
    ]
    answer = author.post("", {"resourceType": "Bundle", "type": "batch", "entry": entries})
    assert [each["response"]["status"] for each in answer.json["entry"]] == ["200 OK", "200 OK"]
    assert now(author, made)["status"] == "superseded"


# --- status -----------------------------------------------------------------------------------------------------------


def test_pdsm_9_by_the_producer_and_by_another(author: Client, other: Client, key: str, exchange: Exchange) -> None:
    """PDSM-9"""
    made = published(author, key)
    superseded = [operation("replace", "/status", "superseded")]
    assert changed(author, made, superseded)["status"] == "superseded"
    assert changed(author, made, [operation("replace", "/status", "current")])["status"] == "current"
    answer = patch(other, made, superseded)
    assert refusal(answer) == (403, "forbidden")
    (coding,) = answer.json["issue"][0]["details"]["coding"]
    assert coding["code"] == "break-glass-not-possible"
    assert coding["system"].endswith("/fhir/CodeSystem/access-refusal")
    colleague = joined(exchange, "nurse", "system/DocumentReference.u", organisation="1990000011")
    assert changed(colleague, made, superseded)["status"] == "superseded"  # the organisation, not the client


# --- labels -----------------------------------------------------------------------------------------------------------

STARTS = [(), ("N",), ("R",), *((each,) for each in all_labels()), ("N", "MASQUE_PS", "INVISIBLE_PATIENT")]


@pytest.mark.parametrize("start", STARTS, ids="+".join)
def test_pdsm_10_from_every_start_set(author: Client, key: str, start: tuple[str, ...]) -> None:
    """PDSM-10: the start set and that label; the confidentiality code is untouched."""
    made = published(author, key, *start)
    after = changed(author, made, relabel("MASQUE_PT"))
    assert labels(after) == [*start, *(() if "MASQUE_PT" in start else ("MASQUE_PT",))]


def test_pdsm_10_again_changes_nothing(author: Client, key: str) -> None:
    made = changed(author, published(author, key, "N"), relabel("MASQUE_PS"))
    assert changed(author, made, relabel("MASQUE_PS")) == made


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ((), ["N"]),
        (("R",), ["N"]),
        (("N",), ["N"]),
        (("N", "MASQUE_PS"), ["N"]),
        (("R", "INVISIBLE_PATIENT"), ["R"]),
        (("MASQUE_PS",), []),
        (("N", "MASQUE_PS", "INVISIBLE_PATIENT"), None),
        (("MASQUE_PS", "MASQUE_PT", "MASQUE_PSOCIAL"), None),
    ],
)
def test_pdsm_11_n_by_place(author: Client, key: str, start: tuple[str, ...], expected: list[str] | None) -> None:
    """PDSM-11, P21: no mask, one, several."""
    made = published(author, key, *start)
    answer = patch(author, made, relabel("N"))
    if expected is None:
        assert refusal(answer) == (422, "business-rule")
        assert now(author, made) == made
    else:
        assert labels(answer.json) == expected


def test_pdsm_12_named_removal(author: Client, key: str) -> None:
    """PDSM-12: only the label that is named."""
    start = ("N", "MASQUE_PS", "INVISIBLE_PATIENT")
    tested = [operation("test", "/securityLabel/1/coding/0/code", "MASQUE_PS"), operation("remove", "/securityLabel/1")]
    assert labels(changed(author, published(author, key, *start), tested)) == ["N", "INVISIBLE_PATIENT"]
    filtered = fhirpath("delete", "DocumentReference.securityLabel.where(coding.code='INVISIBLE_PATIENT')")
    assert labels(changed(author, published(author, key, *start), filtered)) == ["N", "MASQUE_PS"]


@pytest.mark.parametrize(
    "change",
    [
        [operation("replace", "/securityLabel", [label("N"), label("INVISIBLE_PATIENT")])],
        [operation("replace", "/securityLabel", [label("N")])],
        [operation("add", "/securityLabel", [label("MASQUE_PS"), label("INVISIBLE_PATIENT")])],
        [operation("remove", "/securityLabel")],
        [operation("remove", "/securityLabel/1")],
        [operation("remove", "/securityLabel/0")],
        fhirpath("delete", "DocumentReference.securityLabel[1]"),
    ],
)
def test_pdsm_12_a_label_that_is_missing_was_not_named(author: Client, announced: dict[str, Any], change: Any) -> None:
    """PDSM-12"""
    assert refusal(patch(author, announced, change)) == (422, "business-rule")
    assert now(author, announced) == announced


def test_pdsm_12_a_test_that_fails(author: Client, key: str) -> None:
    made = published(author, key, "N", "MASQUE_PS")
    stale = [operation("test", "/securityLabel/0/coding/0/code", "MASQUE_PS"), operation("remove", "/securityLabel/0")]
    assert refusal(patch(author, made, stale)) == (422, "business-rule")


@pytest.mark.parametrize("code", [*all_labels(), "INVISIBLE_REP_LEGAUX"])
def test_pdsm_13_every_code(author: Client, key: str, code: str) -> None:
    """PDSM-13: stored under the code of the nomenclature."""
    after = changed(author, published(author, key), relabel(code))
    stored = "INVISIBLE_REPRESENTANTS_LEGAUX" if code == "INVISIBLE_REP_LEGAUX" else code
    assert after["securityLabel"] == [label(stored)]
    assert now(author, after) == after


@pytest.mark.parametrize(
    "value",
    [
        {"coding": [{"system": label("MASQUE_PS")["coding"][0]["system"], "code": "MASQUE"}]},
        {"coding": [{"system": label("N")["coding"][0]["system"], "code": "X"}]},
        {"coding": [{"system": "urn:x", "code": "MASQUE_PS"}]},
        {"coding": [{"code": "MASQUE_PS"}]},
    ],
)
def test_pdsm_13_unknown_code(author: Client, steady: dict[str, Any], value: dict[str, Any]) -> None:
    """PDSM-13"""
    change = [operation("replace", "/securityLabel/0", value)]
    assert refusal(patch(author, steady, change)) == (422, "code-invalid")
    assert now(author, steady) == steady


# --- the shared record ------------------------------------------------------------------------------------------------


def test_dmp_18_masked_for_other_professionals(author: Client, other: Client, key: str) -> None:
    """DMP-18, DMP-19, DMP-21"""
    made = published(author, key, "N")
    assert is_there(other, made)
    answer = patch(other, named(made), relabel("MASQUE_PS"))  # who masks it need not be its author
    assert (answer.status, labels(answer.json)) == (200, ["N", "MASQUE_PS"])
    assert not is_there(other, made)
    assert is_there(author, made)
    assert patch(other, made, relabel("N")).status == 404


def test_dmp_19_the_author_and_the_patient_still_see_it(author: Client, patient: Client, key: str) -> None:
    """DMP-19"""
    made = published(author, key, "MASQUE_PS")
    assert is_there(author, made)
    assert is_there(patient, made)


def test_dmp_20_unmask(author: Client, other: Client, patient: Client, key: str) -> None:
    """DMP-20: one mask."""
    for who in (author, patient):
        made = published(author, key, "N", "MASQUE_PS")
        assert labels(changed(who, named(made), relabel("N"))) == ["N"]
        assert is_there(other, made)


def test_dmp_20_the_mask_by_position_attack(author: Client, patient: Client, key: str) -> None:
    """DMP-20, D6: a document that waits for its announcement is not shown to the patient by unmasking it."""
    made = published(author, key, "MASQUE_PS", "INVISIBLE_PATIENT")
    for path in ("/securityLabel/0", "/securityLabel/1"):
        assert refusal(patch(author, made, relabel("N", path=path))) == (422, "business-rule")
    whole = [operation("replace", "/securityLabel", [label("N")])]
    twice = [*relabel("N"), *relabel("N", path="/securityLabel/1")]
    placed = fhirpath("replace", "DocumentReference.securityLabel[1]", value={"valueCodeableConcept": label("N")})
    for change in (whole, twice, placed, [operation("remove", "/securityLabel/1")]):
        assert refusal(patch(author, made, change)) == (422, "business-rule")
    assert labels(now(author, made)) == ["MASQUE_PS", "INVISIBLE_PATIENT"]
    assert not is_there(patient, made)
    assert patch(patient, named(made), relabel("N")).status == 404


def test_dmp_22_hide_from_the_patient_and_restore(author: Client, other: Client, patient: Client, key: str) -> None:
    """DMP-22: the announcement comes first."""
    made = published(author, key, "N")
    assert is_there(patient, made)
    hidden = changed(other, named(made), relabel("INVISIBLE_PATIENT"))
    assert labels(hidden) == ["N", "INVISIBLE_PATIENT"]
    assert (is_there(patient, made), is_there(other, made), is_there(author, made)) == (False, True, True)
    assert patch(patient, made, relabel("N")).status == 404
    assert labels(changed(other, named(made), relabel("N"))) == ["N"]
    assert is_there(patient, made)


def test_dmp_23_hide_from_representatives(
    author: Client, other: Client, patient: Client, representative: Client, key: str
) -> None:
    """DMP-23"""
    made = published(author, key)
    assert is_there(representative, made)
    changed(author, named(made), relabel("INVISIBLE_REPRESENTANTS_LEGAUX"))
    there = [is_there(each, made) for each in (representative, patient, other)]
    assert there == [False, True, True]
    assert patch(representative, made, relabel("N")).status == 404
    assert refusal(patch(patient, made, relabel("N"))) == (403, "forbidden")


def test_dmp_24_delete(author: Client, other: Client, patient: Client, key: str) -> None:
    """DMP-24, D4"""
    made = published(author, key)
    for who in (other, patient):
        answer = patch(who, named(made), WITHDRAW)
        assert refusal(answer) == (403, "forbidden")
        assert answer.json["issue"][0]["details"]["coding"][0]["code"] == "break-glass-not-possible"
    hidden = published(author, key, "MASQUE_PS")
    assert patch(other, named(hidden), WITHDRAW).status == 404
    assert changed(author, named(made), WITHDRAW)["status"] == "entered-in-error"


def test_dmp_25_after_the_deletion(author: Client, other: Client, key: str) -> None:
    """DMP-25, P3: in no search; still read by its id; its content is gone."""
    made = published(author, key)
    changed(author, made, WITHDRAW)
    for client in (author, other):
        assert now(client, made)["status"] == "entered-in-error"
        assert refusal(client.get(f"Binary/{made['id']}")) == (410, "deleted")
        master = made["masterIdentifier"]["value"]
        for query in (f"_id={made['id']}", f"identifier={URI}|{master}", "status=entered-in-error"):
            found = client.get(f"DocumentReference?patient={key}&{query}")
            assert made["id"] not in [each["resource"]["id"] for each in found.json.get("entry", [])]


def test_dmp_26_deleted_for_good(author: Client, other: Client, key: str) -> None:
    """DMP-26: idempotent; not back to current; no DELETE, no PUT."""
    made = published(author, key)
    deleted = changed(author, named(made), WITHDRAW)
    for where in (place, named):
        assert changed(author, where(made), WITHDRAW) == deleted
    for change in ([operation("replace", "/status", "current")], ARCHIVE, relabel("MASQUE_PS")):
        assert refusal(patch(author, made, change)) == (422, "business-rule")
    assert now(author, made) == deleted
    assert refusal(author.request("DELETE", place(made))) == (405, "not-supported")
    assert refusal(author.put(place(made), made)) == (405, "not-supported")
    assert refusal(author.put(named(made), made)) == (405, "not-supported")
    assert refusal(author.request("DELETE", named(made))) == (405, "not-supported")


def test_a_withdrawn_document_is_found_where_no_other_is(author: Client, key: str) -> None:
    identifier = {"system": "urn:oid:2.999.41", "value": unique()}
    first, second = (published(author, key, identifier=[identifier]) for _ in range(2))
    where = f"DocumentReference?identifier={identifier['system']}|{identifier['value']}"
    changed(author, first, WITHDRAW)
    assert changed(author, where, ARCHIVE)["id"] == second["id"]


@pytest.mark.parametrize("form", ["draft", "fhirpath"])
@pytest.mark.parametrize("start", [None, True, False])
def test_dmp_27_archive(
    author: Client, other: Client, patient: Client, key: str, start: bool | None, form: str
) -> None:
    """DMP-27: set, created if absent; `isArchived` follows."""
    extension = None if start is None else [{"url": ARCHIVED, "valueBoolean": start}]
    made = published(author, key, extension=extension)
    for who, value in ((other, True), (patient, False)):
        where = f"DocumentReference.extension('{ARCHIVED}').value"
        in_fhirpath = fhirpath("replace", where, value={"valueBoolean": value})
        change = in_fhirpath if form == "fhirpath" else [operation("replace", ARCHIVE_PATH, value)]
        assert changed(who, named(made), change)["extension"] == [{"url": ARCHIVED, "valueBoolean": value}]
        found = other.get(f"DocumentReference?patient={key}&_id={made['id']}&isArchived={json.dumps(value)}")
        assert [each["resource"]["id"] for each in found.json["entry"]] == [made["id"]]


def test_representatives_do_not_archive(author: Client, representative: Client, key: str) -> None:
    made = published(author, key)
    assert refusal(patch(representative, made, ARCHIVE)) == (403, "forbidden")
    assert labels(changed(representative, made, relabel("MASQUE_PS"))) == ["MASQUE_PS"]


def test_confidentiality_is_the_producers(author: Client, other: Client, patient: Client, key: str) -> None:
    made = published(author, key, "R")
    for who in (other, patient):
        assert refusal(patch(who, made, relabel("N"))) == (403, "forbidden")
    assert labels(changed(author, made, relabel("N"))) == ["N"]


# --- scopes -----------------------------------------------------------------------------------------------------------

CHANGES = {
    "TD3.3a": relabel("MASQUE_PS"),
    "TD3.3b": relabel("INVISIBLE_PATIENT"),
    "TD3.3c": WITHDRAW,
    "TD3.3d": ARCHIVE,
}


@pytest.mark.parametrize("scope", [*CHANGES, "system/DocumentReference.u", "system/DocumentReference.rs"])
def test_a_scope_allows_its_transaction(
    exchange: Exchange, author: Client, steady: dict[str, Any], key: str, scope: str
) -> None:
    """DMP-18 to DMP-27, GEN-14: each token does what its transaction is for, whether the document is there or not."""
    client = joined(exchange, "hospital", scope, organisation="1990000011")
    unknown = f"DocumentReference?identifier={URI}|{unique()}"
    for name, change in CHANGES.items():
        is_allowed = scope in (name, "system/DocumentReference.u")
        made = published(author, key) if is_allowed else steady
        answer = patch(client, made, change)
        assert answer.status == (200 if is_allowed else 403), (scope, name)
        assert patch(client, unknown, change).status == (404 if is_allowed else 403)
        if not is_allowed:
            assert "insufficient_scope" in str(answer.header("x-amzn-Remapped-WWW-Authenticate"))
            assert now(author, steady) == steady


def test_n_needs_the_scope_of_the_label_that_it_lifts(exchange: Exchange, author: Client, key: str) -> None:
    masks = joined(exchange, "hospital", "TD3.3a", organisation="1990000011")
    assert labels(changed(masks, published(author, key, "MASQUE_PS"), relabel("N"))) == []
    made = published(author, key, "INVISIBLE_PATIENT")
    assert refusal(patch(masks, made, relabel("N"))) == (403, "forbidden")
    assert now(author, made) == made


# --- closed records ---------------------------------------------------------------------------------------------------


def test_dmp_28_a_closed_record(exchange: Exchange, author: Client, other: Client) -> None:
    """DMP-28: the same whether or not such a document exists."""
    from passerelle import wiring
    from passerelle.consents.model import RecordStatus
    from passerelle.patients.model import PersonChange
    from tests.people import decided
    from tests.record import commit

    key = str(register(author, 7).json["id"])
    made, hidden = published(author, key), published(author, key, "MASQUE_PS")
    person = wiring.patient_index().find_person(key)
    assert person is not None
    commit(PersonChange(before=person, after=decided(person, RecordStatus.CLOSED)))
    absent = {**made, "id": f"{made['id'][:-1]}{'0' if made['id'][-1] != '0' else '1'}"}
    for who in (author, other):
        answers = {untold(patch(who, each, ARCHIVE)) for each in (made, hidden, absent)}
        assert len(answers) == 1
        assert refusal(patch(who, absent, ARCHIVE)) == (422, "business-rule")
    by_patient = f"patient={key}&identifier={URI}|"
    for value in (made["masterIdentifier"]["value"], unique()):
        assert patch(other, f"DocumentReference?{by_patient}{value}", ARCHIVE).status == 422
    assert refusal(patch(other, named(made), ARCHIVE)) == (422, "business-rule")
    assert patch(other, named(hidden), ARCHIVE).status == 404  # the identifier of what one never saw
    owner = joined(exchange, "patient", PERSON, patient=examples.ins(7))
    assert refusal(patch(owner, made, relabel("MASQUE_PS"))) == (422, "business-rule")
    stranger = joined(exchange, "patient", PERSON, patient=examples.ins(1))
    assert patch(stranger, made, relabel("MASQUE_PS")).status == 404


def test_it_costs_a_read_and_a_commit(author: Client, key: str) -> None:
    """Round trips, the authorizer's apart: the document with its person, the commit; by identifier one look-up more."""
    from passerelle.aws.dynamodb import measure

    made = published(author, key)
    for where, trips in ((place, 2), (named, 3)):
        with measure() as spent:
            changed(author, where(made), relabel("MASQUE_PS" if trips == 2 else "MASQUE_PT"))
        assert spent.round_trips - 1 <= trips, spent


def test_a_document_is_never_what_one_was_not_shown(author: Client, other: Client, key: str) -> None:
    """What a relation leads to and the caller may not see is neither in the answer nor lost by the patch."""
    hidden = published(author, key, "MASQUE_PS")
    relation = [{"code": "appends", "target": {"reference": place(hidden)}}]
    made = author.post("DocumentReference", document(f"Patient/{key}", relatesTo=relation)).json
    answer = patch(other, made, ARCHIVE)
    assert answer.status == 200
    assert hidden["id"].encode() not in answer.body
    assert now(author, made)["relatesTo"][0]["target"]["reference"] == place(hidden)
