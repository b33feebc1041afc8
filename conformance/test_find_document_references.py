"""ITI-67 Find Document References: IHE MHD 4.2.4, section 2:3.67; flux 05b/06b of ANS PDSm; TD3.1 of the DMP."""

from __future__ import annotations

from itertools import combinations
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import pytest

from conformance.checks import all_pages, expect, ids, ok_xml, refused, searchset, values
from conformance.server import FHIR_XML, FORM
from conformance.shelf import Known, Shelf, Shelves
from conformance.submissions import (
    ARCHIVED,
    CONFIDENTIALITY,
    URI,
    Resource,
    attachment_of,
    replacing,
    the,
    unique_id,
)

SHELF: Final = "references"

_STATUS: Final = "http://hl7.org/fhir/document-reference-status"
_CODES: Final = "urn:oid:2.999.40"


def _search(shelf: Shelf, *pairs: tuple[str, str]) -> list[Resource]:
    query = urlencode([("patient", shelf.person.id), *pairs, ("_count", "200")])
    return all_pages(shelf.author, f"DocumentReference?{query}")


@pytest.mark.row("67-1")
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("patient", ["patient", "patient.identifier"])
@pytest.mark.parametrize("status", ["current", f"{_STATUS}|current", None])
def test_67_1_find(shelf: Shelf, first: Known, method: str, patient: str, status: str | None) -> None:
    made = shelf.published()
    who = first.id if patient == "patient" else first.person.identifier
    parameters = {patient: who, "identifier": f"{URI}|{made.unique}"} | ({"status": status} if status else {})
    query = urlencode(parameters)
    if method == "GET":
        answer = shelf.author.get(f"DocumentReference?{query}")
    else:
        answer = shelf.author.post("DocumentReference/_search", query, content_type=FORM)
    found = ids(searchset(answer))
    expect(found == [made.id], "the document is found, and nothing else", found)


@pytest.mark.row("67-1")
def test_67_1_find_in_xml(shelf: Shelf, first: Known) -> None:
    made = shelf.published()
    query = urlencode({"patient": first.id, "status": "current", "identifier": made.unique})
    root = ok_xml(shelf.author.get(f"DocumentReference?{query}", Accept=FHIR_XML))
    expect(values(root, "entry/resource/DocumentReference/id") == [made.id], "the same document in XML")


@pytest.mark.row("67-1")
@pytest.mark.option("relations")
def test_67_1_status(shelf: Shelf) -> None:
    old = shelf.published()
    bundle = replacing(shelf.submission(), old.reference)
    shelf.send(bundle)
    both = ",".join((old.unique, the(bundle, "DocumentReference")["masterIdentifier"]["value"]))
    for status, count in (("current", 1), ("superseded", 1), ("current,superseded", 2), (f"{_STATUS}|superseded", 1)):
        found = _search(shelf, ("identifier", both), ("status", status))
        expect(len(found) == count, f"status={status} selects {count} of a document and its replacement", ids(found))


@pytest.mark.row("67-1")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_67_1_no_patient(shelf: Shelf, method: str) -> None:
    if method == "GET":
        answer = shelf.author.get("DocumentReference?status=current")
    else:
        answer = shelf.author.post("DocumentReference/_search", "status=current", content_type=FORM)
    refused(answer, 400, "required")


# --- every parameter --------------------------------------------------------------------------------------------------


def _coded(code: str) -> Resource:
    return {"coding": [{"system": _CODES, "code": code}]}


def _differing(shelf: Shelf, name: str, run: str) -> Resource:
    """One of three submissions whose documents differ in all that is searched by."""
    number = "abc".index(name)
    bundle = shelf.submission()
    document = the(bundle, "DocumentReference")
    pair = "x" if name in "ab" else "y"
    document["contained"][0]["name"] = [{"family": f"Author{name}{run}", "given": [f"Given{pair}{run}"]}]
    document |= {
        "identifier": [{"system": "urn:oid:2.999.41", "value": f"local-{name}-{run}"}],
        "category": [_coded(f"cat-{pair}")],
        "type": _coded(f"type-{name}"),
        "date": f"202{3 + number}-03-01T10:00:00+01:00",
        "extension": [{"url": ARCHIVED, "valueBoolean": name == "b"}],
    }
    if name == "c":
        del document["extension"]
    document["securityLabel"] = [{"coding": [{"system": CONFIDENTIALITY, "code": "R" if name == "c" else "N"}]}]
    attachment_of(document)["creation"] = f"202{3 + number}-02-01T10:00:00+01:00"
    document["content"][0]["format"] = {"system": _CODES, "code": f"format-{pair}"}
    period = {
        "a": {"start": "2023-01-10T00:00:00Z", "end": "2023-01-20T00:00:00Z"},
        "b": {"start": "2024-01-10T00:00:00Z", "end": "2024-01-20T00:00:00Z"},
        "c": {"start": "2025-01-10T00:00:00Z"},
    }[name]
    document["context"] |= {
        "event": [_coded(f"event-{name}")],
        "facilityType": _coded(f"facility-{pair}"),
        "practiceSetting": _coded(f"setting-{pair}"),
        "period": period,
        "related": [{"identifier": {"system": "urn:oid:2.999.42", "value": f"order-{name}-{run}"}}],
    }
    return bundle


@pytest.fixture(scope="session")
def documents(shelves: Shelves) -> dict[str, Any]:
    shelf = shelves.of(SHELF)
    run = unique_id().rpartition(".")[2][:10]
    made: dict[str, Any] = {"run": run, "ids": {}, "unique": {}}
    for name in "abc":
        published = shelf.published(_differing(shelf, name, run))
        made["ids"][name] = published.id
        made["unique"][name] = published.unique
    return made


def _names(documents: dict[str, Any], found: list[Resource]) -> str:
    by_id = {id: name for name, id in documents["ids"].items()}
    return "".join(sorted(by_id[id] for id in ids(found) if id in by_id))


def _parameters(documents: dict[str, Any]) -> dict[str, tuple[tuple[str, str], str]]:
    run, unique = documents["run"], documents["unique"]
    return {
        "author.given": (("author.given", f"givenx{run}"), "ab"),
        "author.family": (("author.family", f"Authorc{run}"), "c"),
        "category": (("category", f"{_CODES}|cat-x"), "ab"),
        "category without system": (("category", "cat-y"), "c"),
        "creation": (("creation", "ge2024-02-01"), "bc"),
        "date": (("date", "lt2025-01-01"), "ab"),
        "date of a day": (("date", "2024-03-01"), "b"),
        "event": (("event", f"{_CODES}|event-a"), "a"),
        "facility": (("facility", f"{_CODES}|facility-x"), "ab"),
        "format": (("format", f"{_CODES}|format-y"), "c"),
        "identifier": (("identifier", f"{URI}|{unique['b']}"), "b"),
        "period": (("period", "ge2024-01-15"), "bc"),
        "related": (("related:identifier", f"urn:oid:2.999.42|order-a-{run}"), "a"),
        "security-label": (("security-label", f"{CONFIDENTIALITY}|R"), "c"),
        "setting": (("setting", f"{_CODES}|setting-x"), "ab"),
        "type": (("type", f"{_CODES}|type-b"), "b"),
        "type without system": (("type", "type-b"), "b"),
        "type of several": (("type", f"{_CODES}|type-a,{_CODES}|type-c"), "ac"),
    }


_NOTHING: Final[dict[str, Any]] = {"run": "", "unique": {"a": "", "b": "", "c": ""}, "ids": {}}


@pytest.mark.row("67-2")
@pytest.mark.parametrize("case", tuple(_parameters(_NOTHING)))
def test_67_2_parameter(shelf: Shelf, documents: dict[str, Any], case: str) -> None:
    pair, expected = _parameters(documents)[case]
    found = _names(documents, _search(shelf, pair))
    expect(found == expected, f"{pair[0]}={pair[1]} selects the documents {expected}", found)


@pytest.mark.row("67-2")
def test_67_2_pairs(shelf: Shelf, documents: dict[str, Any]) -> None:
    cases = _parameters(documents)
    names = ("author.given", "category", "creation", "date", "event", "format", "period", "security-label", "type")
    for one, other in combinations(names, 2):
        (first, in_first), (second, in_second) = cases[one], cases[other]
        found = _names(documents, _search(shelf, first, second))
        expected = "".join(sorted(set(in_first) & set(in_second)))
        expect(found == expected, f"{one} and {other} together select what both do ({expected or 'nothing'})", found)


@pytest.mark.row("67-3")
def test_67_3_both_identifiers(shelf: Shelf, documents: dict[str, Any]) -> None:
    for token in (f"{URI}|{documents['unique']['a']}", f"urn:oid:2.999.41|local-a-{documents['run']}"):
        found = _names(documents, _search(shelf, ("identifier", token)))
        expect(found == "a", "identifier searches masterIdentifier and identifier", found)


@pytest.mark.row("67-3")
@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        (("ge2023-01-20", "le2023-01-25"), "a"),  # touching
        (("ge2023-01-12", "le2023-01-13"), "a"),  # inside it
        (("ge2023-01-01", "le2024-12-31"), "ab"),  # around both
        (("ge2023-02-01", "le2023-12-31"), ""),  # outside
        (("ge2030-01-01", "le2030-12-31"), "c"),  # without an end
        (("lt2025-01-10", "ge2023-01-01"), "ab"),
    ],
)
def test_67_3_period(shelf: Shelf, documents: dict[str, Any], bounds: tuple[str, ...], expected: str) -> None:
    found = _names(documents, _search(shelf, *(("period", each) for each in bounds)))
    expect(found == expected, f"period={'&period='.join(bounds)} selects by overlap {expected or 'nothing'}", found)


@pytest.mark.row("67-5")
def test_67_5_content_url(shelf: Shelf, first: Known) -> None:
    made = shelf.published()
    (found,) = shelf.find(made.unique)
    url = attachment_of(found)["url"]
    expect(urlsplit(url).scheme in ("http", "https"), "attachment.url is absolute", url)
    for told in (first.person.value, made.unique, str(first.person.traits.get("family", "no name"))):
        expect(told.lower() not in url.lower(), "attachment.url holds no identifier and no name", url)
    altered = url[:-1] + ("0" if url[-1] != "0" else "1")
    answer = shelf.author.get(altered, Accept="*/*")
    expect(answer.status_code == 404, "a URL altered by one character opens nothing", answer.status_code)


# --- PDSm -------------------------------------------------------------------------------------------------------------


def _pdsm_parameters(documents: dict[str, Any]) -> dict[str, tuple[tuple[str, str], str]]:
    run = documents["run"]
    return {
        "isArchived": (("isArchived", "true"), "b"),
        "period-start": (("period-start", "ge2024-01-01"), "bc"),
        "period-end": (("period-end", "lt2024-01-01"), "a"),
        "author:PractitionerRole.name": (("author:PractitionerRole.name", f"Rolename{run}"), "r"),
    }


@pytest.fixture(scope="session")
def role_document(shelves: Shelves, documents: dict[str, Any]) -> str:
    """A document whose author is a PractitionerRole."""
    shelf = shelves.of(SHELF)
    bundle = shelf.submission()
    document = the(bundle, "DocumentReference")
    document["contained"][0]["name"] = [{"family": f"Rolename{documents['run']}", "given": ["R"]}]
    role = {"resourceType": "PractitionerRole", "id": "role", "practitioner": {"reference": "#author"}}
    document["contained"].append(role)
    document["author"] = [{"reference": "#role"}]
    return shelf.published(bundle).id


@pytest.mark.row("PDSM-15")
@pytest.mark.option("pdsm")
@pytest.mark.parametrize("case", tuple(_pdsm_parameters(_NOTHING)))
def test_pdsm_15_parameter(shelf: Shelf, documents: dict[str, Any], role_document: str, case: str) -> None:
    pair, expected = _pdsm_parameters(documents)[case]
    known = {"ids": documents["ids"] | {"r": role_document}}
    found = "".join(each for each in _names(known, _search(shelf, pair)) if each in expected or each != "r")
    expect(found == expected, f"{pair[0]}={pair[1]} selects the documents {expected}", found)


@pytest.mark.row("PDSM-15")
@pytest.mark.option("pdsm")
@pytest.mark.option("relations")
@pytest.mark.parametrize("name", ["relatesto", "relatesTo"])
def test_pdsm_15_relates_to(shelf: Shelf, name: str) -> None:
    old = shelf.published()
    relation = [{"code": "appends", "target": {"reference": old.reference}}]
    new = shelf.published(relatesTo=relation)
    found = ids(_search(shelf, (name, old.reference)))
    expect(found == [new.id], f"{name} finds what relates to a document", found)


@pytest.mark.row("PDSM-15")
@pytest.mark.option("pdsm")
def test_pdsm_15_author(shelf: Shelf, first: Known) -> None:
    bundle = shelf.submission(level="uncontained")
    the(bundle, "DocumentReference")["author"] = [{"reference": first.reference}]
    made = shelf.published(bundle)
    found = ids(_search(shelf, ("author", first.reference), ("identifier", made.unique)))
    expect(found == [made.id], "author finds what somebody is the author of", found)


@pytest.mark.row("PDSM-16")
@pytest.mark.option("pdsm")
@pytest.mark.parametrize(("archived", "expected"), [("false", "ac"), ("true", "b"), (None, "abc")])
def test_pdsm_16_archived(shelf: Shelf, documents: dict[str, Any], archived: str | None, expected: str) -> None:
    run_ids = ",".join(documents["unique"].values())
    pairs = [("identifier", run_ids)] + ([("isArchived", archived)] if archived else [])
    found = _names(documents, _search(shelf, *pairs))
    expect(found == expected, f"isArchived={archived or 'absent'} selects {expected}", found)


# --- DMP --------------------------------------------------------------------------------------------------------------


@pytest.mark.row("DMP-10")
@pytest.mark.option("dmp")
@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], "abc"),
        ([("type", f"{_CODES}|type-a")], "a"),
        ([("category", f"{_CODES}|cat-x")], "ab"),
        ([("date", "ge2023-03-01"), ("date", "le2024-03-01")], "ab"),
        ([("date", "ge2023-03-02"), ("date", "le2024-02-29")], ""),
        ([("period", "ge2024-01-01"), ("period", "le2024-12-31")], "b"),
        ([("facility", f"{_CODES}|facility-y")], "c"),
        ([("setting", f"{_CODES}|setting-x")], "ab"),
        ([("format", f"{_CODES}|format-x")], "ab"),
        ([("security-label", f"{CONFIDENTIALITY}|N")], "ab"),
        ([("event", f"{_CODES}|event-c")], "c"),
    ],
)
def test_dmp_10_td31a(
    shelf: Shelf, first: Known, documents: dict[str, Any], pairs: list[tuple[str, str]], expected: str
) -> None:
    ours = ("identifier", ",".join(f"{URI}|{each}" for each in documents["unique"].values()))
    query = urlencode([("patient.identifier", first.person.identifier), ("status", "current"), ours, *pairs])
    found = _names(documents, searchset(shelf.author.get(f"DocumentReference?{query}")))
    expect(found == expected, f"the search of TD3.1a with {pairs or 'no more'} selects {expected or 'nothing'}", found)


@pytest.mark.row("DMP-13")
@pytest.mark.option("dmp")
def test_dmp_13_td31b(shelf: Shelf, first: Known, second: Known) -> None:
    made = shelf.published()
    for identifier, unique, expected in (
        (first.person.identifier, made.unique, [made.id]),
        (first.person.identifier, unique_id(), []),
        (second.person.identifier, made.unique, []),
    ):
        query = urlencode({"patient.identifier": identifier, "identifier": f"{URI}|{unique}"})
        found = ids(searchset(shelf.author.get(f"DocumentReference?{query}")))
        expect(found == expected, "TD3.1b finds the document of that patient under that identifier", found)
