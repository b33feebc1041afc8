"""Messages of the patient feed read, answered and written: contract rows 93-1 to 93-3, on IHE's own examples."""

from __future__ import annotations

import copy
import json
import lzma
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle

from passerelle.access import Caller, Scopes
from passerelle.errors import Busy, Forbidden, Invalid, NotFound, PasserelleError, TooLarge, Unprocessable
from passerelle.events import Event, EventName
from passerelle.fhir import pmir
from passerelle.fhir import xml as fhir_xml
from passerelle.fhir.identity import traits_of
from passerelle.fhir.patient_feed import FhirPatientFeed
from passerelle.fhir.validation import validate
from passerelle.notifications.model import (
    Channel,
    Content,
    Filter,
    Interest,
    Subscription,
    SubscriptionStatus,
)
from passerelle.patients.identity import french_identity
from passerelle.patients.model import StoredPatient
from tests import examples
from tests.people import person_of

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY, OTHER = "7q2k9c4m1xw8z0ab", "0123456789abcdef"
BASE = "https://api.example/fhir"


def message(*entries: Mapping[str, Any], **header: Any) -> dict[str, Any]:
    """A message of the feed with these history entries."""
    return {
        "resourceType": "Bundle",
        "type": "message",
        "entry": [
            {
                "fullUrl": "urn:uuid:14298d90-b285-4c4c-8252-5d4e7bb5fdb6",
                "resource": {
                    "resourceType": "MessageHeader",
                    "id": "m1",
                    "eventUri": pmir.FEED,
                    "source": {"endpoint": "https://source.example"},
                    "focus": [{"reference": "urn:uuid:95e1726c-9c3c-4de3-bebc-15daed6b6d34"}],
                    **header,
                },
            },
            {
                "fullUrl": "urn:uuid:95e1726c-9c3c-4de3-bebc-15daed6b6d34",
                "resource": {"resourceType": "Bundle", "type": "history", "entry": list(entries)},
            },
        ],
    }


def entry(method: str = "PUT", url: str = "Patient/1", resource: Any = None, **more: Any) -> dict[str, Any]:
    found = {"resourceType": "Patient", "id": "1", "active": True} if resource is None else resource
    held = {"resource": found} if found else {}
    return {**held, "request": {"method": method, "url": url}, "response": {"status": "200"}, **more}


@pytest.fixture(scope="module")
def ihe(shared_data: Path) -> Mapping[str, Any]:
    """IHE's examples of PMIR, by id."""
    found = {}
    with lzma.open(shared_data / "ig_examples.ndjson.xz", "rt", encoding="utf-8") as lines:
        for line in lines:
            if '"ihe.iti.pmir/' in line[:200]:
                resource = json.loads(line)["resource"]
                found[resource["id"]] = resource
    return found


# --- messages received ------------------------------------------------------------------------------------------------


def test_93_1_the_examples_of_the_guide_are_read(ihe: Mapping[str, Any]) -> None:
    created = pmir.parse_feed(ihe["ex-PMIRBundleCreate"])
    assert created.id == "ex-messageheader-create"
    assert [(each.method, each.url, each.ids) for each in created.entries] == [("POST", "Patient", ())] * 2
    (updated,) = pmir.parse_feed(ihe["ex-PMIRBundleUpdate"]).entries
    assert (updated.method, updated.ids, updated.is_merge) == ("PUT", ("ex-patient-update",), False)


def test_93_1_the_parts_of_the_guide_make_messages(ihe: Mapping[str, Any]) -> None:
    """The guide has deletion and merge in parts."""
    (deleted,) = pmir.parse_feed(message(*ihe["ex-bundle-history-delete"]["entry"])).entries
    assert (deleted.method, deleted.ids, deleted.resource) == ("DELETE", ("ex-patient-delete",), {})
    patient = ihe["ex-patient-merge"]
    (merged,) = pmir.parse_feed(message(entry(url="Patient/ex-patient-merge", resource=patient))).entries
    assert merged.is_merge
    assert merged.is_only_merge
    named = entry(resource={**patient, "name": [{"family": "X"}]})
    assert not pmir.parse_feed(message(named)).entries[0].is_only_merge


def test_93_1_the_xml_of_a_message_says_the_same(ihe: Mapping[str, Any]) -> None:
    sent = ihe["ex-PMIRBundleUpdate"]
    assert pmir.parse_feed(fhir_xml.loads(fhir_xml.dumps(sent))) == pmir.parse_feed(sent)


@pytest.mark.parametrize(
    ("url", "full_url", "ids", "query"),
    [
        ("Patient/abc", None, ("abc",), ()),
        ("Patient/abc/_history/2", "http://a.example/fhir/Patient/def", ("abc", "def"), ()),
        ("Patient", "urn:uuid:14298d90-b285-4c4c-8252-5d4e7bb5fdb7", (), ()),
        ("Patient?identifier=urn:oid:2.999.1|000001", None, (), (("identifier", "urn:oid:2.999.1|000001"),)),
    ],
)
def test_93_1_what_names_the_patient_of_an_entry(url: str, full_url: str | None, ids: Any, query: Any) -> None:
    more = {"fullUrl": full_url} if full_url else {}
    (read,) = pmir.parse_feed(message(entry(url=url, **more))).entries
    assert (read.ids, read.query, read.full_url) == (ids, query, full_url)


def test_93_1_a_header_without_id_is_known_by_its_uuid() -> None:
    sent = message(entry())
    del sent["entry"][0]["resource"]["id"]
    assert pmir.parse_feed(sent).id == "14298d90-b285-4c4c-8252-5d4e7bb5fdb6"
    del sent["entry"][0]["fullUrl"]
    with pytest.raises(Invalid):
        pmir.parse_feed(sent)


def changed(where: str, value: Any) -> dict[str, Any]:
    """A message with one element changed (None: left out); `where` is a path with dots."""
    sent: Any = message(entry())
    *path, last = where.split(".")
    place = sent
    for name in path:
        place = place[int(name)] if isinstance(place, list) else place[name]
    key: Any = int(last) if isinstance(place, list) else last
    if value is None:
        del place[key]
    else:
        place[key] = value
    return dict(sent)


@pytest.mark.parametrize(
    "sent",
    [
        None,
        [],
        {"resourceType": "Patient"},
        changed("type", "batch"),
        changed("entry", None),
        changed("entry", {}),
        changed("entry", [None, None]),
        changed("entry.1", None),
        changed("entry", list(reversed(message(entry())["entry"]))),
        changed("entry", [*message(entry())["entry"], {"resource": {"resourceType": "Basic"}}]),
        changed("entry.1.resource.type", "transaction"),
        changed("entry.1.resource.entry", None),
        changed("entry.1.resource.resourceType", "Patient"),
        changed("entry.0.resource.resourceType", "Patient"),
    ],
)
def test_93_2_another_structure(sent: Any) -> None:
    with pytest.raises(Invalid) as refused:
        pmir.parse_feed(sent)
    assert {issue.code for issue in refused.value.issues} == {"structure"}


@pytest.mark.parametrize(
    ("sent", "place"),
    [
        (changed("entry.0.resource.eventUri", "urn:ihe:iti:pmir:2019:other"), "Bundle.entry[0].resource.eventUri"),
        (
            message(entry(), entry(resource={"resourceType": "RelatedPerson", "patient": {"display": "x"}})),
            "Bundle.entry[1].resource.entry[1].resource",
        ),
        (message(entry(url="RelatedPerson/1")), "Bundle.entry[1].resource.entry[0].request.url"),
        (message(entry(url="Patient?")), "Bundle.entry[1].resource.entry[0].request.url"),
        (message(entry("GET")), "Bundle.entry[1].resource.entry[0].request.method"),
        (message(entry("PUT", resource={})), "Bundle.entry[1].resource.entry[0].resource"),
    ],
)
def test_93_2_another_content(sent: Any, place: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        pmir.parse_feed(sent)
    assert [(issue.code, issue.expression) for issue in refused.value.issues] == [("value", place)]


def test_93_2_another_event_in_a_coding() -> None:
    sent = changed("entry.0.resource.eventUri", None)
    sent["entry"][0]["resource"]["eventCoding"] = {"system": "urn:x", "code": "y"}
    with pytest.raises(Unprocessable) as refused:
        pmir.parse_feed(sent)
    assert refused.value.issues[0].code == "value"


def test_what_breaks_a_rule_of_fhir_is_refused_as_a_whole() -> None:
    with pytest.raises(PasserelleError) as refused:
        pmir.parse_feed(message(entry(resource={"resourceType": "Patient", "gender": "x"})))
    assert refused.value.issues[0].expression == "Bundle.entry[1].resource.entry[0].resource.gender"


def test_a_message_has_a_size() -> None:
    with pytest.raises(TooLarge):
        pmir.parse_feed(message(*(entry(url=f"Patient/{number}") for number in range(pmir.MAX_ENTRIES + 1))))


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusals", "code"),
    [
        ([None, None], "ok"),
        ([None, NotFound()], "ok"),  # of a removal: it was gone
        ([NotFound(), None], "fatal-error"),
        ([Busy(), None], "transient-error"),
        ([Busy(), Forbidden()], "fatal-error"),
    ],
)
def test_93_1_the_answer_to_a_message(refusals: list[PasserelleError | None], code: str) -> None:
    sent = pmir.parse_feed(message(entry(), entry("DELETE", url="Patient/2", resource={})))
    applied = pmir.FeedAnswer(status="200 OK", reference=f"Patient/{KEY}/_history/3", at=AT)
    answers = [applied if each is None else pmir.FeedAnswer(status=str(each.status), refusal=each) for each in refusals]
    body = pmir.feed_response(sent, answers, base_url=BASE, at=AT)
    validate(body, expected_type="Bundle")
    Bundle.model_validate(body)
    header, history = (each["resource"] for each in body["entry"])
    assert (body["type"], header["eventUri"]) == ("message", "urn:ihe:iti:pmir:2019:patient-feed-response")
    assert header["response"] == {"identifier": "m1", "code": code}
    assert "destination" not in header  # IHE.PMIR.MessageHeader.Response
    assert header["focus"] == [{"reference": body["entry"][1]["fullUrl"]}]
    for each, refusal in zip(history["entry"], refusals, strict=True):
        assert ("outcome" in each["response"]) is (refusal is not None)
        assert each["response"].get("etag") == ('W/"3"' if refusal is None else None)


# --- messages sent ----------------------------------------------------------------------------------------------------


class Records:
    """Source records in memory: the versions of one."""

    def __init__(self, *versions: dict[str, Any] | None) -> None:
        scheme = french_identity("dev")
        self.versions = [
            None
            if content is None
            else StoredPatient(
                patient=KEY,
                version=number,
                at=AT,
                body=json.dumps({**content, "id": KEY}).encode(),
                traits=traits_of(content, scheme),
                placement=None,
            )
            for number, content in enumerate(versions, 1)
        ]

    def find(self, patient: str) -> StoredPatient | None:
        return self.versions[-1]

    def find_version(self, patient: str, version: int) -> StoredPatient | None:
        return self.versions[version - 1] if 0 < version <= len(self.versions) else None


def caller(domain: str | None = None) -> Caller:
    return Caller(
        client_id="consumer",
        organisation="1",
        role="practice",
        scopes=Scopes.parse("ITI-94"),
        token_id="t",
        domain=domain,
    )


def subscription(domain: str | None = None, payload: str = "application/fhir+json") -> Subscription:
    return Subscription(
        id="s1",
        version=1,
        at=AT,
        status=SubscriptionStatus.ACTIVE,
        interest=Interest(subscription="s1", owner=caller(domain), topic="patient-feed", filter=Filter(), since=AT),
        endpoint="https://consumer.example/fhir/$process-message",
        headers=(),
        content=Content.ID_ONLY,
        secret="s",
        base_url=BASE,
        delivered=0,
        body=b"{}",
        channel=Channel.MESSAGE,
        payload=payload,
    )


def event(version: int, name: EventName = EventName.IDENTITY_CHANGED) -> Event:
    return Event(name=name, reference=f"Patient/{KEY}", version=version, at=AT, author="hospital-a", patient=KEY)


def sent_for(records: Records, version: int, *, domain: str | None = None, **more: Any) -> Any:
    feed = FhirPatientFeed(records)
    return json.loads(feed.message(subscription(domain), event(version, **more), person_of(KEY), "s1.7", AT))


def test_93_5_a_new_patient_is_a_message_that_a_registry_would_take() -> None:
    _, patient = examples.patient(1)
    body = sent_for(Records(patient), 1)
    validate(body, expected_type="Bundle")
    Bundle.model_validate(body)
    (read,) = pmir.parse_feed(body).entries
    assert (read.method, read.resource["id"], read.resource["name"]) == ("POST", KEY, patient["name"])
    header, history = (each["resource"] for each in body["entry"])
    assert header["destination"] == [{"endpoint": "https://consumer.example/fhir/$process-message"}]
    assert history["entry"][0]["response"]["status"] == "201"
    again = sent_for(Records(patient), 1)
    assert again["entry"][0]["resource"]["id"] == header["id"]


def test_93_5_a_change_is_told_with_what_is_there_now() -> None:
    _, patient = examples.patient(1)
    records = Records(patient, {**patient, "active": False})
    (read,) = pmir.parse_feed(sent_for(records, 1)).entries
    assert (read.method, read.resource["active"]) == ("POST", False)
    (read,) = pmir.parse_feed(sent_for(records, 2)).entries
    assert (read.method, read.url) == ("PUT", f"Patient/{KEY}")
    (read,) = pmir.parse_feed(sent_for(records, 1, name=EventName.LINKS_CHANGED)).entries
    assert read.method == "PUT"


def test_93_5_a_removal_is_told_without_content() -> None:
    body = sent_for(Records(examples.patient(1)[1], None), 2)
    validate(body, expected_type="Bundle")
    (read,) = pmir.parse_feed(body).entries
    assert (read.method, read.ids, read.resource) == ("DELETE", (KEY,), {})


def test_93_5_xml_for_who_asked_for_it() -> None:
    feed = FhirPatientFeed(Records(examples.patient(1)[1]))
    body = feed.message(subscription(payload="application/fhir+xml"), event(1), person_of(KEY), "s1.7", AT)
    assert pmir.parse_feed(fhir_xml.loads(body)).entries[0].method == "POST"


def asking(query: str) -> Interest:
    return replace(subscription().interest, filter=Filter(query=query))


def unqualified(patient: dict[str, Any]) -> dict[str, Any]:
    """The same identity, validated only."""
    text = json.dumps(patient)
    assert '"QUAL"' in text
    return dict(json.loads(text.replace('"QUAL"', '"VALI"')))


def test_ins_12_an_unverified_national_identifier_is_not_told_to_third_parties() -> None:
    _, patient = examples.patient(1)
    _, _, value = examples.ins(1).partition("|")
    records = Records(unqualified(patient))
    assert value not in json.dumps(sent_for(records, 1))
    assert value in json.dumps(sent_for(records, 1, domain=examples.DOMAIN))
    assert value in json.dumps(sent_for(Records(patient), 1))
    assert not FhirPatientFeed(records).meets(asking(f"identifier={value}"), event(1), person_of(KEY))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"identifier={examples.DOMAIN}|000001", True),
        (f"identifier={examples.DOMAIN}|", True),
        (f"identifier={examples.DOMAIN}|000002", False),
        ("identifier=urn:oid:2.999.2|", False),
        ("organization=org-1", True),
        ("organization=Organization/org-1", True),
        ("organization=org-2", False),
    ],
)
@pytest.mark.parametrize("is_removed", [False, True])
def test_93_5_which_changes_meet_the_criteria(query: str, expected: bool, is_removed: bool) -> None:
    patient = {**examples.patient(1)[1], "managingOrganization": {"reference": "Organization/org-1"}}
    versions = [patient, None] if is_removed else [patient]
    feed = FhirPatientFeed(Records(*versions))
    for number in range(1, len(versions) + 1):
        assert feed.meets(asking(query), event(number), person_of(KEY)) is expected


def test_what_never_was_meets_nothing() -> None:
    assert not FhirPatientFeed(Records(None)).meets(asking("identifier=x"), event(1), person_of(KEY))


def test_a_merge_keeps_what_it_does_not_say() -> None:
    link = {"type": "seealso", "other": {"reference": f"Patient/{OTHER}"}}
    stored = {**copy.deepcopy(examples.patient(1)[1]), "link": [link]}
    survivor, another = ({"type": "replaced-by", "other": {"reference": f"Patient/{id}"}} for id in (8, 9))
    merged = pmir.merged(json.dumps(stored).encode(), {"active": False, "link": [survivor]})
    assert merged == {**stored, "active": False, "link": [link, survivor]}
    again = pmir.merged(json.dumps(merged).encode(), {"active": False, "link": [another]})
    assert again["link"] == [link, another]
