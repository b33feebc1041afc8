"""Transactions over HTTP: one commit, whatever is in it (R4 section 3.1.0.11; contract MCSD-13, CDS-11, CDS-12)."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Mapping
from typing import Any

import pytest

from passerelle.fhir import xml as fhir_xml
from passerelle.fhir.validation import validate
from tests import examples
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register

_numbers = itertools.count(1)
PRACTITIONERS = "urn:oid:2.999.20"


def urn(number: int) -> str:
    return f"urn:uuid:cccccccc-0000-4000-8000-{number:012d}"


def token() -> dict[str, str]:
    """A business identifier that nothing else has."""
    return {"system": "urn:oid:2.999.30", "value": f"n{next(_numbers)}"}


def text_of(identifier: Mapping[str, str]) -> str:
    return f"identifier={identifier['system']}|{identifier['value']}"


def entry(
    method: str, url: str, resource: Mapping[str, Any] | None = None, *, full_url: str | None = None, **request: str
) -> dict[str, Any]:
    made: dict[str, Any] = {"request": {"method": method, "url": url, **request}}
    if resource is not None:
        made["resource"] = resource
    if full_url is not None:
        made["fullUrl"] = full_url
    return made


def post(resource: Mapping[str, Any], *, full_url: str | None = None, **request: str) -> dict[str, Any]:
    return entry("POST", resource["resourceType"], resource, full_url=full_url, **request)


def bundle(*entries: Mapping[str, Any], kind: str = "transaction") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, **({"entry": list(entries)} if entries else {})}


def send(client: Client, *entries: Mapping[str, Any], **headers: str) -> list[dict[str, Any]]:
    """The entries of the answer to a transaction that is accepted."""
    answer = client.post("", bundle(*entries), **headers)
    assert answer.status == 200, answer.body
    validate(answer.json, expected_type="Bundle")
    assert answer.json["type"] == "transaction-response"
    return list(answer.json.get("entry", []))


def refused(client: Client, *entries: Mapping[str, Any], **headers: str) -> tuple[int, str, str]:
    """Status, code and place of the first issue; nothing is stored."""
    before = stored(client)
    answer = client.post("", bundle(*entries), **headers)
    assert stored(client) == before
    issue = answer.json["issue"][0]
    return answer.status, issue["code"], issue.get("expression", [""])[0]


def stored(client: Client) -> int:
    """How many items the record has: what changes or is deleted adds a version."""
    stack = client.exchange.stack
    pages = (
        stack.client("dynamodb")
        .get_paginator("scan")
        .paginate(TableName=stack.environment["CLINICAL_TABLE"], Select="COUNT")
    )
    return sum(page["Count"] for page in pages)


def statuses(answered: list[dict[str, Any]]) -> list[str]:
    return [each["response"]["status"].partition(" ")[0] for each in answered]


def place(answered: Mapping[str, Any]) -> str:
    return str(answered["response"]["location"]).partition("/_history")[0]


def total(client: Client, query: str) -> int:
    found = client.get(f"{query}&_total=accurate")
    assert found.status == 200, found.body
    return int(found.json["total"])


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    return str(register(exchange.client("hospital-a"), 1).json["id"])


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


def created(client: Client, resource: Mapping[str, Any]) -> str:
    answer = client.post(resource["resourceType"], resource)
    assert answer.status == 201, answer.body
    return f"{resource['resourceType']}/{answer.json['id']}"


# --- every kind of entry ------------------------------------------------------------------------------------------


def test_every_kind_of_change_in_one_commit(hospital: Client, key: str) -> None:
    """Answered in the order of the request, whichever order that is."""
    named = {name: token() for name in ("put", "patch", "delete", "new")}
    updated, patched, deleted = (created(hospital, examples.observation(key)) for _ in range(3))
    conditional = {
        name: created(hospital, examples.observation(key, identifier=[named[name]]))
        for name in ("put", "patch", "delete")
    }
    parameters = {
        "resourceType": "Parameters",
        "parameter": [
            {
                "name": "operation",
                "part": [
                    {"name": "type", "valueCode": "replace"},
                    {"name": "path", "valueString": "Observation.status"},
                    {"name": "value", "valueCode": "amended"},
                ],
            }
        ],
    }
    operations = [{"op": "replace", "path": "/status", "value": "corrected"}]
    json_patch = {
        "resourceType": "Binary",
        "contentType": "application/json-patch+json",
        "data": base64.b64encode(json.dumps(operations).encode()).decode(),
    }
    of = f"patient={key}&"
    amended = examples.observation(key, status="amended")
    entries = {
        "read": entry("GET", updated),
        "history": entry("GET", f"{updated}/_history"),
        "patch": entry("PATCH", patched, parameters, ifMatch='W/"1"'),
        "patch where": entry("PATCH", f"Observation?{of}{text_of(named['patch'])}", json_patch),
        "put": entry("PUT", updated, {**amended, "id": updated.partition("/")[2]}, ifMatch='W/"1"'),
        "put where": entry(
            "PUT", f"Observation?{of}{text_of(named['put'])}", {**amended, "identifier": [named["put"]]}
        ),
        "put new": entry("PUT", f"Observation?{of}{text_of(named['new'])}", {**amended, "identifier": [named["new"]]}),
        "put chosen": entry("PUT", "Observation/chosen-1", {**amended, "id": "chosen-1"}),
        "post": post(amended, full_url=urn(1)),
        "delete": entry("DELETE", deleted, ifMatch='W/"1"'),
        "delete where": entry("DELETE", f"Observation?{of}{text_of(named['delete'])}"),
        "search": entry("GET", f"Observation?patient={key}&status=amended,corrected&_summary=count"),
    }
    answered = dict(zip(entries, send(hospital, *entries.values()), strict=True))
    told = {name: each["response"]["status"] for name, each in answered.items()}
    is_created = {"put new", "put chosen", "post"}
    assert told == {name: "201 Created" if name in is_created else "200 OK" for name in entries}
    for name, each in answered.items():
        if entries[name]["request"]["method"] == "GET":
            continue
        version = "1" if name in is_created else "2"
        assert each["response"]["etag"] == f'W/"{version}"'
        assert "lastModified" in each["response"]
        if "delete" in name:
            assert "location" not in each["response"]
            continue
        assert each["response"]["location"].endswith(f"/_history/{version}")
        assert "resource" not in each
        read = hospital.get(place(each))
        assert (read.status, read.header("ETag")) == (200, f'W/"{version}"')
        assert read.json["status"] == ("corrected" if name == "patch where" else "amended")
        assert read.json["meta"]["lastUpdated"] == each["response"]["lastModified"]
    assert place(answered["put where"]) == conditional["put"]
    assert place(answered["put chosen"]) == "Observation/chosen-1"
    assert answered["read"]["resource"]["status"] == "amended"  # after the writes
    assert answered["history"]["resource"]["total"] == 2
    assert answered["search"]["resource"]["total"] == 7
    assert [hospital.get(each).status for each in (deleted, conditional["delete"])] == [410, 410]


def test_the_order_of_entries_means_nothing(hospital: Client, key: str) -> None:
    """What is deleted is gone for the conditions beside it, wherever the deletion stands."""
    for order in (1, -1):
        name = token()
        old = created(hospital, examples.observation(key, identifier=[name]))
        entries = [
            post(examples.observation(key, identifier=[name]), ifNoneExist=f"patient={key}&{text_of(name)}"),
            entry("DELETE", old),
        ]
        answered = send(hospital, *entries[::order])[::order]
        assert statuses(answered) == ["201", "200"]
        assert place(answered[0]) != old
        assert hospital.get(old).status == 410
        assert total(hospital, f"Observation?patient={key}&{text_of(name)}") == 1


def test_if_none_exist(hospital: Client, key: str) -> None:
    name, condition = token(), f"patient={key}&status=final&"
    content = examples.observation(key, identifier=[name])
    (made,) = send(hospital, post(content, ifNoneExist=condition + text_of(name)))
    (found,) = send(hospital, post(content, ifNoneExist=condition + text_of(name)))
    assert (statuses([made]), statuses([found])) == (["201"], ["200"])
    assert found["response"] == made["response"] | {"status": "200 OK"}
    refers = {"resourceType": "Provenance", "recorded": "2026-03-01T10:00:00Z", "agent": [{"who": {"display": "x"}}]}
    answered = send(
        hospital,
        post(content, full_url=urn(1), ifNoneExist=condition + text_of(name)),
        post({**refers, "target": [{"reference": urn(1)}]}),
    )
    assert hospital.get(place(answered[1])).json["target"] == [{"reference": place(made)}]
    created(hospital, content)
    several = refused(hospital, post(examples.observation(key)), post(content, ifNoneExist=condition + text_of(name)))
    assert several == (412, "multiple-matches", "Bundle.entry[1]")
    fresh = token()
    twice = post(examples.observation(key, identifier=[fresh]), ifNoneExist=f"patient={key}&{text_of(fresh)}")
    assert refused(hospital, twice, twice) == (400, "invalid", "Bundle.entry[1]")
    # A condition that another entry would meet depends on which comes first.
    beside = post(examples.observation(key, identifier=[fresh]))
    for entries in ((beside, twice), (twice, beside)):
        assert refused(hospital, *entries)[:2] == (400, "invalid")
    assert refused(hospital, post(content, ifNoneExist=f"patient={key}"))[:2] == (400, "required")
    assert refused(hospital, post(content, ifNoneExist=f"patient={key}&colour=red"))[:2] == (400, "not-supported")


def test_shared_resources_are_found_by_condition(hospital: Client) -> None:
    name = token()
    content = {"resourceType": "Practitioner", "identifier": [name], "name": [{"family": "Garance"}]}
    assert statuses(send(hospital, post(content, ifNoneExist=text_of(name)))) == ["201"]
    assert statuses(send(hospital, post(content, ifNoneExist=text_of(name)))) == ["200"]
    elsewhere = post({"resourceType": "Device"}, ifNoneExist=f"patient=nobody&{text_of(token())}")
    beside = send(hospital, post(content, ifNoneExist=text_of(name)), elsewhere)  # in the record of nobody who is known
    assert statuses(beside) == ["200", "201"]
    assert total(hospital, f"Practitioner?{text_of(name)}") == 1


# --- references ---------------------------------------------------------------------------------------------------


def test_references_between_entries(hospital: Client, key: str) -> None:
    """By urn, by absolute and relative full URL, in contained resources, in a circle, in any order."""
    elsewhere = "https://other.example/fhir"
    encounter = {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "subject": {"reference": f"Patient/{key}"},
        "diagnosis": [{"condition": {"reference": urn(2)}}],
    }
    condition = {
        "resourceType": "Condition",
        "code": {"text": "toux"},
        "subject": {"reference": f"Patient/{key}"},
        "encounter": {"reference": urn(1)},
    }
    organization = {"resourceType": "Organization", "name": "Cabinet d'essai"}
    report = {
        "resourceType": "DiagnosticReport",
        "contained": [
            {"resourceType": "Practitioner", "id": "p", "qualification": [{"code": {"text": "x"}}]},
            {"resourceType": "PractitionerRole", "id": "r", "organization": {"reference": "Organization/9"}},
        ],
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": f"Patient/{key}"},
        "performer": [{"reference": "#p"}, {"reference": "#r"}, {"reference": f"{elsewhere}/Organization/9"}],
        "result": [{"reference": "Observation/7"}, {"reference": f"{elsewhere}/Observation/7"}],
        "encounter": {"reference": urn(1)},
        "presentedForm": [{"contentType": "text/plain", "url": urn(6)}],
    }
    binary = {"resourceType": "Binary", "contentType": "text/plain", "securityContext": {"reference": urn(5)}}
    provenance = {
        "resourceType": "Provenance",
        "target": [{"reference": urn(5)}],
        "recorded": "2026-03-01T10:00:00Z",
        "agent": [{"who": {"reference": f"{elsewhere}/Organization/9"}}],
        "entity": [{"role": "source", "what": {"reference": urn(6)}}],
    }
    made = {
        "provenance": post(provenance),
        "binary": post({**binary, "data": "YQ=="}, full_url=urn(6)),
        "report": post(report, full_url=f"{elsewhere}/DiagnosticReport/5"),
        "encounter": post(encounter, full_url=urn(1)),
        "condition": post(condition, full_url=urn(2)),
        "observation": post(examples.observation(key), full_url=f"{elsewhere}/Observation/7"),
        "organization": post(organization, full_url=f"{elsewhere}/Organization/9"),
    }
    # The Provenance and the Binary belong to the record of the report, which is named by its full URL.
    for name in ("provenance", "binary"):
        made[name] = json.loads(json.dumps(made[name]).replace(urn(5), f"{elsewhere}/DiagnosticReport/5"))
    for names in (list(made), list(made)[::-1]):
        answered = dict(zip(names, send(hospital, *(made[name] for name in names)), strict=True))
        at = {name: place(each) for name, each in answered.items()}
        read = {name: hospital.get(at[name], Accept="application/fhir+json").json for name in at}
        assert read["encounter"]["diagnosis"][0]["condition"]["reference"] == at["condition"]
        assert read["condition"]["encounter"]["reference"] == at["encounter"]
        assert read["report"]["contained"][1]["organization"]["reference"] == at["organization"]
        assert [each["reference"] for each in read["report"]["performer"]] == ["#p", "#r", at["organization"]]
        assert {each["reference"] for each in read["report"]["result"]} == {at["observation"]}
        assert read["report"]["presentedForm"][0]["url"] == at["binary"]
        assert read["provenance"]["target"] == [{"reference": at["report"]}]
        assert read["provenance"]["agent"][0]["who"]["reference"] == at["organization"]
        assert read["provenance"]["entity"][0]["what"]["reference"] == at["binary"]
        assert read["binary"]["data"] == "YQ=="
        assert at["binary"].startswith(f"Binary/{key}-")
        linked = hospital.get(
            f"DiagnosticReport?patient={key}&_id={at['report'].partition('/')[2]}&_revinclude=Provenance:target"
        )
        assert [each["search"]["mode"] for each in linked.json["entry"]] == ["match", "include"]


def test_a_provenance_of_a_resource_whose_id_the_client_chose(hospital: Client, key: str) -> None:
    provenance = {
        "resourceType": "Provenance",
        "target": [{"reference": "Observation/chosen-2"}],
        "recorded": "2026-03-01T10:00:00Z",
        "agent": [{"who": {"display": "x"}}],
    }
    assert refused(hospital, post(provenance)) == (422, "not-found", "Bundle.entry[0].resource.target")
    content = examples.observation(key, id="chosen-2")
    answered = send(hospital, post(provenance), entry("PUT", "Observation/chosen-2", content))
    assert place(answered[0]).startswith(f"Provenance/{key}-")
    # Alone, too, once the resource is there.
    assert created(hospital, provenance).startswith(f"Provenance/{key}-")


def test_conditional_references(hospital: Client, key: str) -> None:
    doctor, stay = token(), token()
    practitioner = {"resourceType": "Practitioner", "identifier": [doctor]}
    encounter = {
        "resourceType": "Encounter",
        "identifier": [stay],
        "status": "finished",
        "class": {"code": "AMB"},
        "subject": {"reference": f"Patient/{key}"},
    }
    refers = examples.observation(
        key,
        contained=[{"resourceType": "PractitionerRole", "id": "r"}],
        performer=[{"reference": f"Practitioner?{text_of(doctor)}"}, {"reference": "#r"}],
        encounter={"reference": f"Encounter?{text_of(stay)}"},
        focus=[{"reference": f"Patient?identifier={examples.ins(1)}"}],
        subject={"reference": f"Patient?identifier={examples.ins(1)}"},
    )
    refers["contained"][0]["practitioner"] = {"reference": f"Practitioner?{text_of(doctor)}"}
    assert refused(hospital, post(refers)) == (422, "not-found", "Bundle.entry[0]")
    # They are resolved last: what the same transaction makes is found, what it deletes is not.
    answered = send(hospital, post(refers), post(practitioner), post(encounter))
    read = hospital.get(place(answered[0])).json
    assert read["performer"][0]["reference"] == place(answered[1])
    assert read["contained"][0]["practitioner"]["reference"] == place(answered[1])
    assert read["encounter"]["reference"] == place(answered[2])
    assert read["focus"] == [{"reference": f"Patient/{key}"}] == [read["subject"]]
    again = send(hospital, post(refers))
    assert hospital.get(place(again[0])).json["encounter"]["reference"] == place(answered[2])
    gone = refused(hospital, post(refers), entry("DELETE", place(answered[2])))
    assert gone == (422, "not-found", "Bundle.entry[0]")
    moved = send(hospital, post(refers), entry("DELETE", place(answered[2])), post(encounter))
    assert hospital.get(place(moved[0])).json["encounter"]["reference"] == place(moved[2])
    assert refused(hospital, post(refers), post(practitioner))[:2] == (422, "multiple-matches")


def test_a_conditional_reference_stays_in_the_record(exchange: Exchange, hospital: Client, key: str) -> None:
    other, stay = register(hospital, 3).json["id"], token()
    foreign = {
        "resourceType": "Encounter",
        "identifier": [stay],
        "status": "finished",
        "class": {"code": "AMB"},
        "subject": {"reference": f"Patient/{other}"},
    }
    created(hospital, foreign)
    refers = examples.observation(key, encounter={"reference": f"Encounter?{text_of(stay)}"})
    assert refused(hospital, post(refers)) == (422, "not-found", "Bundle.entry[0]")
    across = examples.observation(key, encounter={"reference": f"Encounter?patient={other}&{text_of(stay)}"})
    assert refused(hospital, post(across))[0] == 422


def test_a_resource_does_not_move_to_another_record(hospital: Client, key: str) -> None:
    other = register(hospital, 3).json["id"]
    at = created(hospital, examples.observation(key))
    moved = examples.observation(other, id=at.partition("/")[2])
    assert refused(hospital, entry("PUT", at, moved)) == (422, "business-rule", "Bundle.entry[0].resource.subject")


def test_links_to_the_web_are_no_conditional_references(hospital: Client, key: str) -> None:
    link = "https://other.example/fhir/Practitioner?identifier=1"
    answered = send(hospital, post(examples.observation(key, performer=[{"reference": link}])))
    assert hospital.get(place(answered[0])).json["performer"] == [{"reference": link}]


# --- people -------------------------------------------------------------------------------------------------------


def test_a_person_and_the_record_in_one_commit(hospital: Client) -> None:
    local, person = examples.patient(4)
    entries = [
        post(examples.observation("x", subject={"reference": urn(1)})),
        post(examples.observation("x", subject={"reference": f"Patient?identifier={examples.ins(4)}"})),
        post(examples.observation("x", subject={"identifier": {"system": examples.DOMAIN, "value": local}})),
        post(person, full_url=urn(1)),
    ]
    answered = send(hospital, *entries)
    assert statuses(answered) == ["201"] * 4
    key = place(answered[3]).partition("/")[2]
    assert total(hospital, f"Observation?patient={key}") == 3
    duplicate = (409, "duplicate", "Bundle.entry[3]")
    assert refused(hospital, *entries) == duplicate  # a creation does not revise what is there
    condition = f"identifier={examples.DOMAIN}|{local}"
    found = send(hospital, *entries[:3], post(person, full_url=urn(1), ifNoneExist=condition))
    assert (statuses(found), place(found[3])) == (["201"] * 3 + ["200"], f"Patient/{key}")
    revised = {**person, "id": key, "active": False}
    by_id = send(hospital, entry("PUT", f"Patient/{key}", revised, ifMatch='W/"1"'))
    assert by_id[0]["response"]["etag"] == 'W/"2"'
    stale = refused(hospital, entry("PUT", f"Patient/{key}", revised, ifMatch='W/"1"'))
    assert stale == (412, "conflict", "Bundle.entry[0]")
    operations = [{"op": "replace", "path": "/active", "value": True}]
    data = base64.b64encode(json.dumps(operations).encode()).decode()
    patch = {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}
    assert send(hospital, entry("PATCH", f"Patient/{key}", patch))[0]["response"]["etag"] == 'W/"3"'
    assert hospital.get(f"Patient/{key}").json["active"] is True
    assert refused(hospital, entry("DELETE", f"Patient/{key}"))[0] == 405
    twice = refused(hospital, entry("PUT", f"Patient?{condition}", person), entry("PATCH", f"Patient/{key}", patch))
    assert twice == (400, "invalid", "Bundle.entry[1]")


def test_a_source_revises_its_own_people_only(exchange: Exchange, hospital: Client) -> None:
    made = register(exchange.client("hospital-b"), 5, domain="urn:oid:2.999.2").json
    theirs = entry("PUT", f"Patient/{made['id']}", made)
    assert refused(hospital, theirs) == (403, "forbidden", "Bundle.entry[0]")


# --- refusals -----------------------------------------------------------------------------------------------------


def test_mcsd_13_one_invalid_entry_refuses_all(hospital: Client, key: str) -> None:
    valid = {"resourceType": "Organization", "name": "Cabinet d'essai"}
    assert statuses(send(hospital, post(valid), post(valid), post(valid))) == ["201"] * 3
    assert refused(hospital, post(valid), post({**valid, "colour": "red"}), post(valid)) == (
        400,
        "structure",
        "Bundle.entry[1].resource.colour",
    )
    wrong = examples.observation(key, status="unknown-code")
    assert refused(hospital, post(valid), post(wrong)) == (422, "code-invalid", "Bundle.entry[1].resource.status")


@pytest.mark.parametrize(
    ("faulty", "answer"),
    [
        (entry("DELETE", "Observation/absent"), (404, "not-found", "Bundle.entry[1]")),
        (entry("DELETE", "Observation?patient=0000000000000000&code=1"), (404, "not-found", "Bundle.entry[1]")),
        (post(examples.observation("0" * 16)), (422, "not-found", "Bundle.entry[1].resource.subject")),
        (
            post(examples.observation("x", subject={"reference": urn(404)})),
            (422, "not-found", "Bundle.entry[1].resource.subject"),
        ),
        (
            post({"resourceType": "Library", "status": "draft", "type": {"text": "x"}}),
            (422, "not-supported", "Bundle.entry[1].resource"),
        ),
        (
            entry("PUT", "Observation/1", examples.observation("x", id="2")),
            (400, "value", "Bundle.entry[1].resource.id"),
        ),
        (entry("POST", "Bundle", bundle(kind="batch")), (400, "value", "Bundle.entry[1].resource.type")),
        (entry("GET", "Nothing/1"), (404, "not-supported", "Bundle.entry[1]")),
        (
            entry("PATCH", "Observation/1", {"resourceType": "Binary", "contentType": "text/plain", "data": "YQ=="}),
            (404, "not-found", "Bundle.entry[1]"),
        ),
    ],
)
def test_a_refusal_names_the_entry(hospital: Client, key: str, faulty: Any, answer: tuple[int, str, str]) -> None:
    assert refused(hospital, post(examples.observation(key)), faulty) == answer


@pytest.mark.parametrize(
    ("patch", "answer"),
    [
        (
            {"contentType": "application/json-patch+json", "data": "!"},
            (400, "invalid", "Bundle.entry[0].resource.data"),
        ),
        ({"contentType": "text/plain", "data": "YQ=="}, (400, "structure", "Bundle.entry[0]")),
        ({"contentType": "text/plain", "data": "W10="}, (415, "not-supported", "Bundle.entry[0]")),
        ({"contentType": "application/json-patch+json", "data": "e30="}, (400, "structure", "Bundle.entry[0]")),
    ],
)
def test_a_patch_that_is_none(hospital: Client, key: str, patch: dict[str, str], answer: tuple[int, str, str]) -> None:
    at = created(hospital, examples.observation(key))
    assert refused(hospital, entry("PATCH", at, {"resourceType": "Binary", **patch})) == answer


def test_the_same_resource_twice(hospital: Client, key: str) -> None:
    name = token()
    at = created(hospital, examples.observation(key, identifier=[name]))
    content = examples.observation(key, identifier=[name], id=at.partition("/")[2])
    by_id, deletion = entry("PUT", at, content), entry("DELETE", at)
    by_condition = entry("PUT", f"Observation?patient={key}&{text_of(name)}", content)
    for pair in ((by_id, by_id), (by_id, deletion), (by_id, by_condition), (by_condition, by_id)):
        status, code, where = refused(hospital, *pair)
        assert (status, code) == (400, "invalid")
        assert where.startswith("Bundle.entry[1]")


@pytest.mark.parametrize(
    ("scope", "faulty"),
    [
        ("system/Observation.c system/Patient.r", entry("DELETE", "Observation/1")),
        ("system/Observation.c system/Patient.r", post({"resourceType": "Organization", "name": "x"})),
        ("system/Observation.cu", entry("GET", "Observation/1")),
        ("system/Observation.cr", entry("GET", "Observation?patient=1")),
    ],
)
def test_gen_14_a_scope_that_lacks_one_entry(exchange: Exchange, key: str, scope: str, faulty: Any) -> None:
    client = exchange.client("hospital-a", scope)
    assert refused(client, post(examples.observation(key)), faulty) == (403, "forbidden", "Bundle.entry[1]")


def test_the_content_of_a_document_does_not_change(hospital: Client, key: str) -> None:
    submitted = examples.submission(f"Patient/{key}", unique="urn:oid:2.999.1.88.1")["entry"][1:]
    answered = send(hospital, *submitted)
    at, content = place(answered[0]), place(answered[1])
    assert hospital.get(content).body == examples.CDA
    document = hospital.get(at).json
    other = {**submitted[1]["resource"], "data": base64.b64encode(b"<other/>").decode()}
    document["content"][0]["attachment"] = {"contentType": "application/xml", "url": urn(9)}
    change = refused(hospital, entry("PUT", at, document), post(other, full_url=urn(9)))
    assert change == (405, "not-supported", "Bundle.entry[0].request")
    for one in (entry("DELETE", at), entry("PUT", at, hospital.get(at).json)):
        assert refused(hospital, one)[0] == 405
    condition = f"patient={key}&identifier=urn:oid:2.999.1.88.1"
    found = send(
        hospital,
        {**submitted[0], "request": {"method": "POST", "url": "DocumentReference", "ifNoneExist": condition}},
        {**submitted[1], "resource": other},
    )
    assert (statuses(found), place(found[1])) == (["200", "200"], content)
    assert hospital.get(content).body == examples.CDA


# --- answers ------------------------------------------------------------------------------------------------------


def test_prefer(hospital: Client, key: str) -> None:
    at = created(hospital, examples.observation(key))
    deleted = created(hospital, examples.observation(key))

    def entries(version: int) -> list[dict[str, Any]]:
        changed = examples.observation(key, id=at.partition("/")[2], status="amended")
        return [post(examples.observation(key)), entry("PUT", at, changed, ifMatch=f'W/"{version}"')]

    full = send(hospital, *entries(1), entry("DELETE", deleted), Prefer="return=representation")
    assert [each.get("resource", {}).get("status") for each in full] == ["final", "amended", None]
    assert full[1]["resource"] == hospital.get(at).json
    for version, prefer in ((2, "return=minimal"), (3, "handling=strict")):
        assert not any("resource" in each for each in send(hospital, *entries(version), Prefer=prefer))
    told = send(hospital, *entries(4), Prefer="return=OperationOutcome")
    assert [each["response"]["outcome"]["issue"][0]["severity"] for each in told] == ["information"] * 2


def test_an_idempotency_key_gives_the_same_answer(hospital: Client, key: str) -> None:
    at = created(hospital, examples.observation(key))
    name = token()
    changed = examples.observation(key, id=at.partition("/")[2], status="amended")
    entries = [
        post(examples.observation(key, identifier=[name])),
        entry("PUT", at, changed, ifMatch='W/"1"'),
        entry("DELETE", created(hospital, examples.observation(key))),
    ]
    for prefer in ("return=minimal", "return=representation"):
        first = send(hospital, *entries, Idempotency_Key="tx-1", Prefer=prefer)
        assert send(hospital, *entries, Idempotency_Key="tx-1", Prefer=prefer) == first
    assert total(hospital, f"Observation?patient={key}&{text_of(name)}") == 1
    other = hospital.post("", bundle(entries[0]), Idempotency_Key="tx-1")
    assert (other.status, other.json["issue"][0]["code"]) == (422, "business-rule")


def test_xml_in_and_out(hospital: Client, key: str) -> None:
    content = bundle(
        post(examples.observation(key, valueQuantity={"value": 7.2}), full_url=urn(1)),
        entry("GET", f"Observation?patient={key}&_summary=count"),
    )
    sent = fhir_xml.dumps(content).replace(b'<value value="7.2"', b'<value value="7.20"')
    answer = hospital.request(
        "POST",
        "",
        sent,
        Content_Type="application/fhir+xml",
        Accept="application/fhir+xml",
        Prefer="return=representation",
    )
    assert (answer.status, answer.header("Content-Type")) == (200, "application/fhir+xml"), answer.body
    read = fhir_xml.loads(answer.body)
    assert [each["response"]["status"] for each in read["entry"]] == ["201 Created", "200 OK"]
    assert b'"value":7.20' in hospital.get(place(read["entry"][0])).body
    assert read["entry"][0]["resource"]["id"] == place(read["entry"][0]).partition("/")[2]


def test_each_patient_gets_a_record_of_the_access(exchange: Exchange, hospital: Client, key: str) -> None:
    other = register(hospital, 6).json["id"]
    before = {item["SK"]["S"] for item in exchange.table("audit")}
    answered = send(
        hospital, post(examples.observation(key)), post(examples.observation(other)), entry("GET", f"Patient/{other}")
    )
    made = [item for item in exchange.table("audit") if item["SK"]["S"] not in before]
    told = sorted((item["patient"]["S"], item["name"]["S"]) for item in made)
    assert told == sorted([(key, "transaction"), (other, "transaction"), (other, "read")])
    for item in made:
        if item["name"]["S"] == "transaction":
            number = 0 if item["patient"]["S"] == key else 1
            assert [each["S"] for each in item["references"]["L"]] == [place(answered[number])]


def test_a_transaction_without_entries(hospital: Client) -> None:
    assert send(hospital) == []


# --- size ---------------------------------------------------------------------------------------------------------


def test_a_staged_transaction_is_refused_as_a_whole(hospital: Client) -> None:
    """More than one DynamoDB transaction holds, and the last entry is stale."""
    key = register(hospital, 7).json["id"]
    at = created(hospital, examples.observation(key))
    stale = entry("PUT", at, examples.observation(key, id=at.partition("/")[2]), ifMatch='W/"7"')
    many = [post(examples.observation(key, status="registered")) for _ in range(60)]
    assert refused(hospital, *many, stale) == (412, "conflict", "Bundle.entry[60]")
    fresh = entry("PUT", at, examples.observation(key, id=at.partition("/")[2]), ifMatch='W/"1"')
    condition = f"patient={key}&{text_of(token())}"
    answered = send(hospital, *many, fresh, post(examples.observation(key), ifNoneExist=condition))
    assert statuses(answered) == ["201"] * 60 + ["200", "201"]
    assert total(hospital, f"Observation?patient={key}&status=registered&_count=1") == 60


def test_a_thousand_entries_are_one_commit(hospital: Client) -> None:
    key = register(hospital, 8).json["id"]
    code = {"coding": [{"system": "urn:x", "code": "thousand"}]}
    entries = [post(examples.observation(key, code=code), full_url=urn(n)) for n in range(1000)]
    answered = send(hospital, *entries)
    assert statuses(answered) == ["201"] * 1000
    assert len({place(each) for each in answered}) == 1000
    assert total(hospital, f"Observation?patient={key}&code=thousand&_count=1") == 1000
    before = stored(hospital)
    over = hospital.post("", bundle(*entries, post(examples.observation(key))))
    assert (over.status, over.json["issue"][0]["code"]) == (413, "too-long")
    assert stored(hospital) == before
