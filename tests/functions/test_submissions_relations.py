"""Documents that replace, append to, transform or sign others over HTTP: 65-12, 65-13, 65-20, DMP-8, DMP-9."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from local.region import PARTICIPANTS
from passerelle import wiring
from passerelle.access import Scopes
from passerelle.fhir.bundles import parse_transaction
from passerelle.fhir.mhd import Level
from tests import examples, record, submitting
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register
from tests.submitting import (
    Bundle,
    changed,
    content_of,
    document_of,
    label,
    nothing_stored,
    publish,
    refusal,
    related,
    replacement,
    statuses,
    submission,
    submit,
    superseding,
    urn,
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


@pytest.mark.parametrize("as_xml", [False, True], ids=["J", "X"])
@pytest.mark.parametrize("profile", ["minimal", "uncontained", "comprehensive", "pdsm"])
def test_65_12_pdsm_1_a_replacement(
    hospital: Client, practice: Client, subject: str, profile: str, as_xml: bool
) -> None:
    old = publish(hospital, subject, profile)
    was = practice.get(f"DocumentReference/{old}").json
    bundle = replacement(subject, old, profile, contents=(b"<v2/>",))
    answered = submitting.submit_xml(hospital, bundle) if as_xml else submit(hospital, bundle)
    assert statuses(answered) == ["201", "201", "201", "200"]
    patched = answered[3]["response"]
    assert (patched["location"], patched["etag"]) == (f"DocumentReference/{old}/_history/2", 'W/"2"')
    now = practice.get(f"DocumentReference/{old}")
    assert now.json == was | {"status": "superseded", "meta": now.json["meta"]}
    assert content_of(practice, now.json).status == 410
    new = document_of(practice, answered)
    assert new["status"] == "current"
    assert new["relatesTo"] == [{"code": "replaces", "target": {"reference": f"DocumentReference/{old}"}}]
    assert content_of(practice, new).body == b"<v2/>"
    found = practice.get(f"DocumentReference?{subject.replace('Patient/', 'patient=')}&related=&status=current")
    assert old not in [entry["resource"]["id"] for entry in found.json.get("entry", [])]


def test_65_12_a_json_patch_supersedes_as_well(hospital: Client, subject: str) -> None:
    old = publish(hospital, subject)
    operations = json.dumps([{"op": "replace", "path": "/status", "value": "superseded"}]).encode()
    patch = {
        "resourceType": "Binary",
        "contentType": "application/json-patch+json",
        "data": base64.b64encode(operations).decode(),
    }
    bundle = replacement(subject, old)
    bundle["entry"][3]["resource"] = patch
    assert statuses(submit(hospital, bundle))[3] == "200"


def _named(way: str, document: Mapping[str, Any]) -> tuple[Bundle, str]:
    """The target of a relation, and the URL of its PATCH."""
    master = document["masterIdentifier"]
    place = f"DocumentReference/{document['id']}"
    condition = f"DocumentReference?identifier={master['system']}|{master['value']}"
    match way:
        case "absolute":
            return {"reference": f"http://127.0.0.1:8000/fhir/{place}"}, document["id"]
        case "version":
            return {"reference": f"{place}/_history/1"}, document["id"]
        case "identifier":
            return {"identifier": {"system": master["system"], "value": master["value"]}}, condition
        case _:
            patient = document["subject"]["reference"].partition("/")[2]
            return {"reference": condition}, f"{condition}&patient={patient}"


@pytest.mark.parametrize("way", ["absolute", "version", "identifier", "condition"])
def test_65_12_ways_to_name_a_document(hospital: Client, subject: str, way: str) -> None:
    """A source that keeps no ids of the exchange names a document by its own identifier."""
    old = publish(hospital, subject)
    target, url = _named(way, hospital.get(f"DocumentReference/{old}").json)
    bundle = submission(subject, relatesTo=[{"code": "replaces", "target": target}])
    answered = submit(hospital, submitting.with_entries(bundle, superseding(url) | {"fullUrl": urn(9)}))
    assert statuses(answered) == ["201", "201", "201", "200"]
    assert document_of(hospital, answered)["relatesTo"][0]["target"]["reference"] == f"DocumentReference/{old}"
    assert hospital.get(f"DocumentReference/{old}").json["status"] == "superseded"


def test_65_13_a_replacement_and_its_patch_go_together(hospital: Client, subject: str) -> None:
    old, other = publish(hospital, subject), publish(hospital, subject)
    alone = submission(subject, relatesTo=related("replaces", old))
    assert nothing_stored(hospital, alone) == (422, ["business-rule"])
    crossed = submitting.with_entries(alone, superseding(other))
    assert nothing_stored(hospital, crossed) == (422, ["business-rule"])
    both = submitting.with_entries(replacement(subject, old), superseding(other) | {"fullUrl": urn(9)})
    assert nothing_stored(hospital, both) == (422, ["business-rule"])
    idle = submitting.with_entries(submission(subject), superseding(old))
    assert nothing_stored(hospital, idle) == (422, ["business-rule"])
    assert statuses(submit(hospital, replacement(subject, old)))[3] == "200"
    assert nothing_stored(hospital, replacement(subject, old)) == (409, ["conflict"])
    assert nothing_stored(hospital, submission(subject, relatesTo=related("replaces", old))) == (409, ["conflict"])


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("DocumentReference.status", {"valueCode": "entered-in-error"}, "business-rule"),
        ("DocumentReference.status", {"valueCode": "current"}, "business-rule"),
        ("DocumentReference.description", {"valueString": "x"}, "value"),
    ],
)
def test_65_13_the_patch_supersedes_and_nothing_else(
    hospital: Client, subject: str, path: str, value: Any, code: str
) -> None:
    old = publish(hospital, subject)
    bundle = replacement(subject, old)
    parts = bundle["entry"][3]["resource"]["parameter"][0]["part"]
    parts[1]["valueString"] = path
    parts[2] = {"name": "value", **value}
    assert nothing_stored(hospital, bundle) == (422, [code])


def test_65_13_in_any_transaction(hospital: Client, subject: str) -> None:
    """What is no declared submission has the same rules about relations."""
    old = publish(hospital, subject)

    def plain(bundle: Bundle) -> Bundle:
        return {"resourceType": "Bundle", "type": "transaction", "entry": bundle["entry"][1:]}

    alone = submission(subject, relatesTo=related("replaces", old))
    assert nothing_stored(hospital, plain(alone)) == (422, ["business-rule"])
    idle = submitting.with_entries(submission(subject), superseding(old))
    assert nothing_stored(hospital, plain(idle)) == (422, ["business-rule"])
    assert statuses(submit(hospital, plain(replacement(subject, old)))) == ["201", "201", "200"]
    assert nothing_stored(hospital, plain(replacement(subject, old))) == (409, ["conflict"])
    withdrawn = changed(submission(subject), "1.status", "entered-in-error")
    assert nothing_stored(hospital, plain(withdrawn)) == (422, ["value"])


def test_a_document_is_replaced_by_who_published_it(exchange: Exchange, hospital: Client, subject: str) -> None:
    """Its content would be gone for everybody: another organisation appends to it, or transforms it."""
    old = publish(hospital, subject)
    other = exchange.client("hospital-b")
    assert nothing_stored(other, replacement(subject, old)) == (403, ["forbidden"])
    for code in ("appends", "transforms", "signs"):
        assert statuses(submit(other, submission(subject, relatesTo=related(code, old)))) == ["201"] * 3
    assert hospital.get(f"DocumentReference/{old}").json["status"] == "current"


@pytest.mark.parametrize("code", ["replaces", "appends", "transforms", "signs"])
def test_dmp_9_the_other_document(exchange: Exchange, hospital: Client, subject: str, code: str) -> None:
    """Unknown and hidden are the same; so is what is said of them."""
    masked = publish(hospital, subject, "pdsm", securityLabel=[label("MASQUE_PS")])
    other = exchange.client("hospital-b")
    stranger = publish(other, f"Patient/{register(hospital, 2).json['id']}")

    def attempt(client: Client, id: str) -> Any:
        bundle = submission(subject, relatesTo=related(code, id))
        return client.post("", submitting.with_entries(bundle, superseding(id)) if code == "replaces" else bundle)

    unknown = attempt(other, masked[:-5] + "zzzzz")
    assert refusal(unknown) == (422, ["not-found"])
    assert attempt(other, masked).body == unknown.body
    assert refusal(attempt(other, "elsewhere")) == (422, ["not-found"])
    assert refusal(attempt(other, stranger)) == (422, ["business-rule"])


def test_a_document_is_hidden_from_who_names_it_by_its_identifier(
    exchange: Exchange, hospital: Client, subject: str
) -> None:
    masked = publish(hospital, subject, "pdsm", securityLabel=[label("MASQUE_PS")])
    target, url = _named("identifier", hospital.get(f"DocumentReference/{masked}").json)
    bundle = submission(subject, relatesTo=[{"code": "appends", "target": target}])
    assert nothing_stored(exchange.client("hospital-b"), bundle) == (422, ["not-found"])
    replaced = submitting.with_entries(
        submission(subject, relatesTo=[{"code": "replaces", "target": target}]), superseding(url)
    )
    assert nothing_stored(exchange.client("hospital-b"), replaced) == (422, ["not-found"])


def test_a_relation_leads_to_a_document(hospital: Client, key: str, subject: str) -> None:
    place = hospital.post("Observation", examples.observation(key)).json["id"]
    for target in ({"reference": f"Observation/{place}"}, {"display": "x"}, {"reference": urn(404)}):
        bundle = submission(subject, relatesTo=[{"code": "appends", "target": target}])
        status, codes = nothing_stored(hospital, bundle)
        assert (status, codes[0] in ("not-found", "value")) == (422, True)


def test_versions_that_are_published_together(hospital: Client, subject: str) -> None:
    """What a source migrates: the older one superseded from the start, and named by its full URL."""
    bundle = submission(subject, contents=(b"<v1/>", b"<v2/>"))
    bundle = changed(bundle, "3.relatesTo", [{"code": "replaces", "target": {"reference": urn(1)}}])
    assert nothing_stored(hospital, bundle) == (422, ["business-rule"])
    answered = submit(hospital, changed(bundle, "1.status", "superseded"))
    older, newer = (document_of(hospital, answered, at) for at in (1, 3))
    assert (older["status"], newer["status"]) == ("superseded", "current")
    assert newer["relatesTo"][0]["target"]["reference"] == f"DocumentReference/{older['id']}"
    itself = changed(submission(subject), "1.relatesTo", [{"code": "appends", "target": {"reference": urn(1)}}])
    assert nothing_stored(hospital, itself) == (422, ["business-rule"])


def test_one_of_two_replacements_at_once(hospital: Client, key: str, subject: str) -> None:
    """The other one commits between the reads and the commit of the first, which then finds it superseded."""
    old = publish(hospital, subject)
    events = wiring.aws("s3").meta.events
    caller = replace(
        record.request().caller,
        organisation=next(each.organisation for each in PARTICIPANTS if each.id == "hospital-a"),
        role="hospital",
        scopes=Scopes.parse("ITI-65"),
    )
    request = replace(record.request(), caller=caller, name="transaction", at=datetime.now(UTC))
    entries = parse_transaction(replacement(subject, old))

    def meanwhile(**_: Any) -> None:
        events.unregister("before-call.s3.PutObject", meanwhile)
        wiring.transaction_service().execute(request, entries, Level.COMPREHENSIVE)

    events.register("before-call.s3.PutObject", meanwhile)
    assert refusal(hospital.post("", replacement(subject, old))) == (409, ["conflict"])
    found = hospital.get(f"DocumentReference?patient={key}&relatesto=DocumentReference/{old}").json
    assert len(found["entry"]) == 1
    assert hospital.get(f"DocumentReference/{old}").header("ETag") == 'W/"2"'


# --- Asbestos positives -----------------------------------------------------------------------------------------------


def _single(client: Client, subject: str, profile: str) -> Bundle:
    return submission(subject, profile)


def _two(client: Client, subject: str, profile: str) -> Bundle:
    return submission(subject, profile, contents=(b"<a/>", b"<b/>"))


def _addendum(client: Client, subject: str, profile: str) -> Bundle:
    return submission(subject, profile, relatesTo=related("appends", publish(client, subject, profile)))


def _replace(client: Client, subject: str, profile: str) -> Bundle:
    return replacement(subject, publish(client, subject, profile), profile)


def _transforms(client: Client, subject: str, profile: str) -> Bundle:
    return submission(subject, profile, relatesTo=related("transforms", publish(client, subject, profile)))


POSITIVES: Mapping[str, Callable[[Client, str, str], Bundle]] = {
    "Single_Document": _single,
    "Two_Documents_Submit": _two,
    "Document_Addendum": _addendum,
    "Document_Replace": _replace,
    "Document_Transforms": _transforms,
}


@pytest.mark.parametrize("case", POSITIVES)
@pytest.mark.parametrize("profile", ["minimal", "comprehensive"])
def test_65_20(hospital: Client, practice: Client, key: str, subject: str, profile: str, case: str) -> None:
    bundle = POSITIVES[case](hospital, subject, profile)
    answered = submit(hospital, bundle)
    for at in range(1, 3 if case == "Two_Documents_Submit" else 2, 2):
        document = document_of(practice, answered, at)
        master = document["masterIdentifier"]
        query = f"DocumentReference?patient={key}&identifier={master['system']}|{master['value']}&status=current"
        assert [entry["resource"]["id"] for entry in practice.get(query).json["entry"]] == [document["id"]]
        related_to = [each["code"] for each in document.get("relatesTo", [])]
        assert related_to == {"Document_Addendum": ["appends"], "Document_Replace": ["replaces"]}.get(
            case, ["transforms"] if case == "Document_Transforms" else []
        )
    identifier = bundle["entry"][0]["resource"]["identifier"][0]["value"]
    lists = practice.get(f"List?patient={key}&code=submissionset&identifier={identifier}").json
    assert [entry["resource"]["id"] for entry in lists["entry"]] == [submitting.place(answered[0]).partition("/")[2]]
