"""ITI-66 Find Document Lists: IHE MHD 4.2.4, section 2:3.66; flux 05a/06a of ANS PDSm."""

from __future__ import annotations

from itertools import combinations
from typing import Any, Final
from urllib.parse import quote, urlencode

import pytest

from conformance.checks import all_pages, expect, ids, ok, ok_xml, refused, searchset, values
from conformance.server import FHIR_XML, FORM
from conformance.shelf import Known, Shelf, Shelves
from conformance.submissions import (
    A07,
    ARCHIVED,
    LIST_TYPES,
    MHD,
    Resource,
    entry_of,
    folder,
    full_url,
    label,
    the,
    unique_id,
)

SHELF: Final = "lists"

_STATUS: Final = "http://hl7.org/fhir/list-status"
Lists = dict[str, dict[str, str]]


def _told(bundle: Resource, *, date: str, kind: str, source: Resource, id: str, archived: bool, title: str) -> Resource:
    """A submission whose SubmissionSet says this."""
    submission_set = the(bundle, "List")
    submission_set |= {"date": date, "title": title, "contained": source["contained"], "source": source["reference"]}
    submission_set["extension"] = [
        {
            "url": f"{MHD}/ihe-designationType",
            "valueCodeableConcept": {"coding": [{"system": "urn:oid:2.999.5", "code": kind}]},
        },
        {"url": f"{MHD}/ihe-sourceId", "valueIdentifier": {"system": "urn:oid:2.999.9", "value": id}},
        {"url": ARCHIVED, "valueBoolean": archived},
    ]
    if "organization" in source:
        submission_set["extension"].append({"url": f"{MHD}/ihe-authorOrg", "valueReference": source["organization"]})
    return bundle


def _practitioner(family: str, given: str) -> Resource:
    contained = {"resourceType": "Practitioner", "id": "author", "name": [{"family": family, "given": [given]}]}
    return {"contained": [contained], "reference": {"reference": "#author"}}


def _role(family: str, given: str, organisation: str) -> Resource:
    contained: list[Resource] = [
        {"resourceType": "Practitioner", "id": "author", "name": [{"family": family, "given": [given]}]},
        {
            "resourceType": "Organization",
            "id": "org",
            "identifier": [{"system": "urn:oid:1.2.250.1.71.4.2.2", "value": "1990000099"}],
            "name": organisation,
        },
        {
            "resourceType": "PractitionerRole",
            "id": "role",
            "practitioner": {"reference": "#author"},
            "organization": {"reference": "#org"},
        },
    ]
    identifier = contained[1]["identifier"][0]
    organization = {"reference": "#org", "identifier": identifier}
    return {"contained": contained, "reference": {"reference": "#role"}, "organization": organization}


def _patient(family: str, given: str) -> Resource:
    contained = {"resourceType": "Patient", "id": "author", "name": [{"family": family, "given": [given]}]}
    return {"contained": [contained], "reference": {"reference": "#author"}}


@pytest.fixture(scope="session")
def lists(shelves: Shelves) -> dict[str, Any]:
    """Three SubmissionSets and a folder that differ in all that is searched by: their ids, and what to search for."""
    shelf = shelves.of(SHELF)
    run = unique_id().rpartition(".")[2][:10]
    sources = {
        "a": _practitioner(f"Alpha{run}", f"Zoe{run}"),
        "b": _role(f"Bravo{run}", f"Yann{run}", f"Clinique{run}"),
        "c": _patient(f"Charlie{run}", f"Xena{run}"),
    }
    said = {
        "a": {"date": "2024-01-10T10:00:00+01:00", "kind": f"k{run}", "id": f"s1{run}", "archived": False},
        "b": {"date": "2024-06-10T10:00:00+02:00", "kind": f"k{run}", "id": f"s2{run}", "archived": True},
        "c": {"date": "2025-01-10T10:00:00+01:00", "kind": f"l{run}", "id": f"s1{run}", "archived": False},
    }
    made: dict[str, Any] = {"run": run, "ids": {}, "unique": {}}
    for name, source in sources.items():
        bundle = _told(shelf.submission(), source=source, title=f"Lot{name}{run}", **said[name])  # type: ignore[arg-type]
        published = shelf.published(bundle)
        made["ids"][name] = published.set.partition("/")[2]
        made["unique"][name] = published.set_unique
    return made


def _names(lists: dict[str, Any], found: list[Resource]) -> str:
    """Which of the three were found, others left out."""
    by_id = {id: name for name, id in lists["ids"].items()}
    return "".join(sorted(by_id[id] for id in ids(found) if id in by_id))


def _query(shelf: Shelf, *pairs: tuple[str, str]) -> str:
    return urlencode([("patient", shelf.person.id), ("code", "submissionset"), *pairs, ("_count", "200")])


@pytest.mark.row("66-1")
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("patient", ["patient", "patient.identifier"])
@pytest.mark.parametrize("status", ["current", f"{_STATUS}|current"])
def test_66_1_find(shelf: Shelf, first: Known, method: str, patient: str, status: str) -> None:
    made = shelf.published()
    who = first.id if patient == "patient" else first.person.identifier
    query = urlencode(
        {patient: who, "code": "submissionset", "status": status, "identifier": f"urn:ietf:rfc:3986|{made.set_unique}"}
    )
    if method == "GET":
        answer = shelf.author.get(f"List?{query}")
    else:
        answer = shelf.author.post("List/_search", query, content_type=FORM)
    found = [f"List/{each}" for each in ids(searchset(answer))]
    expect(found == [made.set], "the SubmissionSet is found, and nothing else", found)


@pytest.mark.row("66-1")
def test_66_1_find_in_xml(shelf: Shelf, first: Known) -> None:
    made = shelf.published()
    query = urlencode(
        {"patient": first.id, "code": "submissionset", "status": "current", "identifier": made.set_unique}
    )
    root = ok_xml(shelf.author.get(f"List?{query}", Accept=FHIR_XML))
    expect(values(root, "total") == ["1"], "the same in XML", values(root, "total"))
    expect(values(root, "entry/resource/List/id") == [made.set.partition("/")[2]], "the same List in XML")


@pytest.mark.row("66-1")
@pytest.mark.option("folders")
def test_66_1_code(shelf: Shelf, first: Known) -> None:
    bundle = shelf.submission()
    made = folder(first.reference, entry_of(bundle, "DocumentReference")["fullUrl"])
    bundle["entry"].append({"fullUrl": full_url(), "resource": made, "request": {"method": "POST", "url": "List"}})
    shelf.send(bundle)
    both = [the(bundle, "List")["identifier"][0]["value"], made["identifier"][0]["value"]]
    for code, expected in (("submissionset", both[:1]), ("folder", both[1:]), (f"{LIST_TYPES}|folder", both[1:])):
        query = urlencode({"patient": first.id, "code": code, "identifier": ",".join(both)})
        found = [each["identifier"][0]["value"] for each in searchset(shelf.author.get(f"List?{query}"))]
        expect(found == expected, f"code={code} selects", found)


@pytest.mark.row("66-1")
def test_66_1_other_status(shelf: Shelf, first: Known) -> None:
    made = shelf.published()
    query = urlencode(
        {"patient": first.id, "code": "submissionset", "status": "retired", "identifier": made.set_unique}
    )
    expect(not searchset(shelf.author.get(f"List?{query}")), "another status selects nothing")


def _parameters(lists: dict[str, Any]) -> dict[str, tuple[tuple[str, str], str]]:
    """Name of the case: the parameter with its value, and which Lists it selects."""
    run, unique = lists["run"], lists["unique"]
    return {
        "date ge": (("date", "ge2024-06-10"), "bc"),
        "date gt": (("date", "gt2024-06-10"), "c"),
        "date le": (("date", "le2024-06-10"), "ab"),
        "date lt": (("date", "lt2024-06-10"), "a"),
        "date of a day": (("date", "2024-06-10"), "b"),
        "designationType": (("designationType", f"urn:oid:2.999.5|k{run}"), "ab"),
        "designationType without system": (("designationType", f"l{run}"), "c"),
        "identifier": (("identifier", f"urn:ietf:rfc:3986|{unique['b']}"), "b"),
        "source.given": (("source.given", f"zoe{run}"), "a"),
        "source.family": (("source.family", f"Bravo{run}"), "b"),
        "sourceId": (("sourceId", f"urn:oid:2.999.9|s1{run}"), "ac"),
    }


_CASES: Final = tuple(_parameters({"run": "", "unique": {"a": "", "b": "", "c": ""}, "ids": {}}))


@pytest.mark.row("66-2")
@pytest.mark.parametrize("case", _CASES)
def test_66_2_parameter(shelf: Shelf, lists: dict[str, Any], case: str) -> None:
    pair, expected = _parameters(lists)[case]
    found = _names(lists, all_pages(shelf.author, f"List?{_query(shelf, pair)}"))
    expect(found == expected, f"{pair[0]}={pair[1]} selects the Lists {expected}", found)


@pytest.mark.row("66-2")
def test_66_2_together(shelf: Shelf, lists: dict[str, Any]) -> None:
    cases = _parameters(lists)
    for one, other in combinations(("date ge", "designationType", "sourceId", "source.family", "identifier"), 2):
        (first, in_first), (second, in_second) = cases[one], cases[other]
        found = _names(lists, all_pages(shelf.author, f"List?{_query(shelf, first, second)}"))
        expected = "".join(sorted(set(in_first) & set(in_second)))
        expect(found == expected, f"{one} and {other} together select what both do ({expected or 'nothing'})", found)


@pytest.mark.row("66-3")
@pytest.mark.option("folders")
def test_66_3_folder_has_no_source(shelf: Shelf, first: Known) -> None:
    bundle = shelf.submission()
    made = folder(first.reference, entry_of(bundle, "DocumentReference")["fullUrl"])
    bundle["entry"].append({"fullUrl": full_url(), "resource": made, "request": {"method": "POST", "url": "List"}})
    shelf.send(bundle)
    unique = made["identifier"][0]["value"]
    for name, value in (("sourceId", "urn:oid:2.999.9|nothing"), ("source.family", "Nobody")):
        query = urlencode({"patient": first.id, "code": "folder", "identifier": unique, name: value})
        found = searchset(shelf.author.get(f"List?{query}"))
        expect(len(found) == 1, f"{name} is ignored for folders", ids(found))


@pytest.mark.row("66-3")
def test_66_3_target_communities(shelf: Shelf, first: Known) -> None:
    made = shelf.published()
    query = urlencode(
        {
            "patient": first.id,
            "code": "submissionset",
            "identifier": made.set_unique,
            "targetCommunityIdList": "urn:oid:2.999.77",
        }
    )
    found = searchset(shelf.author.get(f"List?{query}"))
    expect(len(found) == 1, "targetCommunityIdList is ignored", ids(found))


@pytest.mark.row("66-4")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_66_4_no_patient(shelf: Shelf, method: str) -> None:
    query = "code=submissionset&status=current"
    if method == "GET":
        answer = shelf.author.get(f"List?{query}")
    else:
        answer = shelf.author.post("List/_search", query, content_type=FORM)
    refused(answer, 400, "required")


@pytest.mark.row("66-5")
@pytest.mark.option("dmp")
def test_66_5_hidden_documents(shelves: Shelves, patient: Any) -> None:
    shelf = shelves.of("first")  # whom the patient is
    bundle = shelf.submission(documents=2)
    the(bundle, "DocumentReference")["securityLabel"].append(label("INVISIBLE_PATIENT", A07))
    shelf.send(bundle)
    alone = shelf.submission()
    the(alone, "DocumentReference")["securityLabel"].append(label("INVISIBLE_PATIENT", A07))
    shelf.send(alone)
    sets = [the(each, "List")["identifier"][0]["value"] for each in (bundle, alone)]
    for_author = shelf.find(*sets, kind="List")
    expect(len(for_author) == 2, "the author finds both Lists", ids(for_author))
    query = f"List?patient={shelf.person.id}&identifier={quote(','.join(sets))}"
    answer = patient.get(query)
    found = searchset(answer)
    expect(len(found) == 1, "a List whose documents are all hidden is absent", ids(found))
    expect(ok(answer)["total"] == 1, "and not counted", ok(answer)["total"])
    expect(len(found[0]["entry"]) == 1, "the entry of a hidden document is absent", found[0]["entry"])
    left = next(each for each in for_author if each["id"] != found[0]["id"])
    refused(patient.get(f"List/{left['id']}"), 404, "not-found")


# --- PDSm -------------------------------------------------------------------------------------------------------------


def _pdsm_parameters(lists: dict[str, Any]) -> dict[str, tuple[tuple[str, str], str]]:
    run = lists["run"]
    return {
        "isArchived": (("isArchived", "true"), "b"),
        "not isArchived": (("isArchived", "false"), "ac"),
        "title": (("title", f"Lotb{run}"), "b"),
        "authorOrg": (("authorOrg:identifier", "urn:oid:1.2.250.1.71.4.2.2|1990000099"), "b"),
        "source:Patient.given": (("source:Patient.given", f"Xena{run}"), "c"),
        "source:Patient.family": (("source:Patient.family", f"Charlie{run}"), "c"),
        "source:PractitionerRole.name": (("source:PractitionerRole.name", f"Bravo{run}"), "b"),
    }


@pytest.mark.row("PDSM-14")
@pytest.mark.option("pdsm")
@pytest.mark.parametrize("case", tuple(_pdsm_parameters({"run": ""})))
def test_pdsm_14_parameter(shelf: Shelf, lists: dict[str, Any], case: str) -> None:
    pair, expected = _pdsm_parameters(lists)[case]
    found = _names(lists, all_pages(shelf.author, f"List?{_query(shelf, pair)}"))
    expect(found == expected, f"{pair[0]}={pair[1]} selects the Lists {expected}", found)


@pytest.mark.row("PDSM-14")
@pytest.mark.option("pdsm")
def test_pdsm_14_together(shelf: Shelf, lists: dict[str, Any]) -> None:
    title, source = _pdsm_parameters(lists)["title"][0], _parameters(lists)["designationType"][0]
    found = _names(lists, all_pages(shelf.author, f"List?{_query(shelf, title, source)}"))
    expect(found == "b", "parameters of PDSm and MHD select together", found)
