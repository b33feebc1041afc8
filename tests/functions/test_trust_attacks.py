"""Attacks on who may see what, by callers who hold good tokens: the people of one application among themselves, who
acts for somebody without a mandate, who was shut out meanwhile, and whoever hopes that what is broken in store lets in.

Goals I4, I5; contract GEN-11, GEN-13, DMP-3, DMP-11, DMP-30, IUA-8, PCF-4, SUB-10.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from local.gateway import Response
from local.region import INS_TEST, ins_of
from passerelle import wiring
from passerelle.access import Scopes
from passerelle.authorization.model import Party
from passerelle.authorization.people import PROFESSIONS
from passerelle.events import Event, EventName
from passerelle.identifiers import new_ulid
from passerelle.notifications.insight import Moment
from tests import contents, examples
from tests.documents import document, label
from tests.exchange import URL, Client, Exchange
from tests.functions.test_break_glass import broken, uses
from tests.functions.test_control import (
    DOCTOR,
    PDF,
    PRACTICE,
    done,
    matching,
    order,
    patient_of,
    proxy_of,
    subscription,
)
from tests.functions.test_links import share, visit
from tests.functions.test_patients import register
from tests.logging_in import OWN, PORTAL
from tests.somebody import Somebody
from tests.submitting import folder, submission

WEBHOOK = "https://subscriber.example/hook"
STRANGER = 15
PARTICIPATIONS = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    return exchange.client("practice")


def physician(exchange: Exchange, professional: str = DOCTOR["value"], **context: str) -> Somebody:
    """Somebody of the practice, at an application that serves all of it."""
    told = {"role": "practice", "organisation": PRACTICE["value"], "profession": "10", **context}
    return Somebody(exchange, client_id="practice", professional=professional, **told)


def ins(number: int) -> dict[str, str]:
    return {"system": INS_TEST, "value": ins_of(number)}


def refused(answer: Response) -> tuple[int, str]:
    return answer.status, answer.json["issue"][0]["code"]


def observed(client: Client, key: str, **changed: Any) -> str:
    answer = client.post("Observation", examples.observation(key, **changed))
    assert answer.status == 201, answer.body
    return str(answer.json["id"])


# --- acting for somebody ----------------------------------------------------------------------------------------------


def test_whoever_logs_in_for_somebody_finds_nobody_without_a_mandate(exchange: Exchange, hospital: Client) -> None:
    """GEN-11: neither who it is, nor what becomes of the person; a mandate that is over is none."""
    key = str(register(hospital, 2).json["id"])
    wiring.clients().register(replace(OWN, id="patient-app", scopes=Scopes.parse("patient/*.cruds")))
    patient, stranger = patient_of(exchange, 2), proxy_of(exchange, 2, STRANGER)
    told = subscription(WEBHOOK, "emergency-access", f"Patient?patient=Patient/{key}")
    for path in (f"Patient/{key}", f"Patient/$ihe-pix?sourceIdentifier={quote(examples.ins(2))}"):
        assert refused(stranger.get(path)) == (404, "not-found")
    for query in (f"_id={key}", f"identifier={quote(examples.ins(2))}"):
        assert stranger.get(f"Patient?{query}").json["total"] == 0
    assert key not in stranger.post("Patient/$match", matching(2)).body.decode()
    assert refused(stranger.post("Subscription", told)) == (422, "not-supported")
    assert refused(stranger.post("Observation", examples.observation(key))) == (422, "not-found")
    done(patient, key, "appoint-proxy", holder=ins(STRANGER), kind="carer")
    assert stranger.get(f"Patient/{key}").status == 200
    subscribed = stranger.post("Subscription", told).json["id"]
    happened(subscribed, EventName.EMERGENCY_ACCESS, f"Patient/{key}", key)
    assert key in events(stranger, subscribed)
    done(patient, key, "end-proxy", holder=ins(STRANGER))
    assert key not in events(stranger, subscribed)
    assert refused(stranger.get(f"Patient/{key}")) == (404, "not-found")


def happened(subscription: str, name: EventName, reference: str, key: str) -> None:
    """An event reaches the log of a subscription."""
    at = datetime.now(UTC)
    event = Event(name=name, reference=reference, version=1, at=at, author="a", patient=key, occurrence=new_ulid(at))
    assert wiring.notification_ports().log.append(subscription, [event])


def events(client: Client, subscription: str) -> str:
    answer = client.get(f"Subscription/{subscription}/$events?eventsSinceNumber=1&eventsUntilNumber=9")
    assert answer.status == 200, answer.body
    return answer.body.decode()


def test_a_carer_and_a_child_of_age_decide_nothing(exchange: Exchange, hospital: Client, practice: Client) -> None:
    """DMP-11: a carer appoints nobody, consents to nothing, shuts nobody out; and no professional lets herself in."""
    key = str(register(hospital, 5).json["id"])
    patient, carer = patient_of(exchange, 5), proxy_of(exchange, 5, STRANGER)
    done(patient, key, "appoint-proxy", holder=ins(STRANGER), kind="carer")
    for operation, given in (
        ("block", {"party": DOCTOR}),
        ("authorize-access", {"party": DOCTOR, "consent": True}),
        ("appoint-proxy", {"holder": ins(7), "kind": "carer"}),
        ("appoint-proxy", {"holder": ins(STRANGER), "kind": "guardian"}),
        ("release", {"holder": ins(STRANGER), "references": [f"Observation/{key}-x"]}),
        ("set-preferences", {"agree_research": True}),
        ("close-record", {"reason": "x"}),
    ):
        assert order(carer, key, operation, **given).status in (400, 403, 404), operation
    for kind in ("parent", "guardian"):
        assert order(practice, key, "appoint-proxy", holder=ins(STRANGER), kind=kind).status == 422
    assert refused(order(practice, key, "appoint-proxy", holder=ins(STRANGER), kind="parent", consent=True)) == (
        422,
        "business-rule",
    )


# --- users of one application -----------------------------------------------------------------------------------------


def test_an_answer_that_is_kept_is_for_who_asked(exchange: Exchange, hospital: Client) -> None:
    """One application serves many people under its own keys of idempotency (law 6)."""
    key = str(register(hospital, 6).json["id"])
    same = {"Idempotency_Key": "one"}
    body = {"resourceType": "Parameters", "parameter": [{"name": "party", "valueIdentifier": DOCTOR}]}
    made = patient_of(exchange, 6).post(f"Patient/{key}/$block", body, **same)
    assert made.status == 200
    for other in (patient_of(exchange, 7), proxy_of(exchange, 6, STRANGER)):
        answer = other.post(f"Patient/{key}/$block", body, **same)
        assert answer.status in (404, 422)
        assert b"decision" not in answer.body
    assert patient_of(exchange, 6).post(f"Patient/{key}/$block", body, **same).body == made.body


def test_an_answer_that_is_kept_is_told_no_more_to_who_is_shut_out(exchange: Exchange, hospital: Client) -> None:
    """DMP-3: the same command again, after the block, is refused as any other."""
    key = str(register(hospital, 8).json["id"])
    published = contents.published(hospital, key, PDF).removeprefix("Binary/")
    doctor = physician(exchange)
    purpose = {"resourceType": "Parameters", "parameter": [{"name": "purpose", "valueCode": "TREAT"}]}
    glass = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "reason", "valueCode": "unconscious"},
            {"name": "text", "valueString": "Personne ne répond"},
        ],
    }
    consent = {"resourceType": "Parameters", "parameter": [{"name": "consent", "valueBoolean": True}]}
    commands = [
        (f"DocumentReference/{published}/$share", purpose),
        (f"Patient/{key}/$break-glass", glass),
        (f"Patient/{key}/$authorize-access", consent),
        ("Observation", examples.observation(key)),
        ("DocumentReference", document(f"Patient/{key}")),
    ]
    keys = [{"Idempotency_Key": f"again-{number}"} for number in range(len(commands))]
    first = [doctor.post(path, body, **same) for (path, body), same in zip(commands, keys, strict=True)]
    assert {each.status for each in first} == {200, 201}, [each.body for each in first]
    repeated = [doctor.post(path, body, **same) for (path, body), same in zip(commands, keys, strict=True)]
    assert [each.status for each in repeated] == [each.status for each in first]
    before = len(exchange.table("clinical"))
    done(patient_of(exchange, 8), key, "block", party=DOCTOR)
    again = [doctor.post(path, body, **same) for (path, body), same in zip(commands, keys, strict=True)]
    assert [refused(each) for each in again] == [(403, "forbidden")] * len(commands)
    stored = len(exchange.table("clinical"))
    assert stored - before <= 1  # the outbox of the block


def test_what_is_hidden_meanwhile_is_not_shared_again(exchange: Exchange, hospital: Client, practice: Client) -> None:
    """The link of the first answer is not given twice once the document is masked."""
    key = str(register(hospital, 9).json["id"])
    made = hospital.post("DocumentReference", document(f"Patient/{key}")).json["id"]
    purpose = {"resourceType": "Parameters", "parameter": [{"name": "purpose", "valueCode": "TREAT"}]}
    asked = f"DocumentReference/{made}/$share", purpose
    assert practice.post(*asked, Idempotency_Key="share").status == 201
    mask = [{"op": "add", "path": "/securityLabel", "value": [label("MASQUE_PS")]}]
    headers = {"Content_Type": "application/json-patch+json"}
    changed = hospital.request("PATCH", f"DocumentReference/{made}", json.dumps(mask).encode(), **headers)
    assert changed.status == 200, changed.body
    assert refused(practice.post(*asked, Idempotency_Key="share")) == (404, "not-found")


def test_a_subscription_is_of_the_professional_who_made_it(exchange: Exchange, practice: Client) -> None:
    """Nobody else at the application reads it, turns it to another address, or ends it; nor from another house."""
    owner, colleague = physician(exchange), physician(exchange, "810000000099")
    content = subscription(WEBHOOK, "anything-changed", "")
    made = owner.post("Subscription", content)
    assert made.status == 201, made.body
    place = f"Subscription/{made.json['id']}"
    elsewhere = physician(exchange, organisation="1990000011")
    turned = {
        **content,
        "id": made.json["id"],
        "channel": {**content["channel"], "endpoint": "https://thief.example/x"},
    }
    for other in (colleague, elsewhere):
        told = [
            other.get(place),
            other.put(place, turned),
            other.request("DELETE", place),
            other.get(f"{place}/$status"),
            other.get(f"{place}/$events?eventsSinceNumber=1"),
        ]
        assert [each.status for each in told] == [404] * 5
    assert owner.get(place).json["channel"]["endpoint"] == WEBHOOK
    whole = Somebody(exchange, client_id="practice", role="practice", organisation=PRACTICE["value"])
    shared = whole.post("Subscription", content).json["id"]
    assert colleague.get(f"Subscription/{shared}").status == 200  # of the system as such


# --- who is shut out --------------------------------------------------------------------------------------------------


def test_who_is_shut_out_adds_nothing_by_any_route(exchange: Exchange, hospital: Client, practice: Client) -> None:
    """DMP-3: publications of every kind, lists, relations and consents, alone, in batches and in transactions."""
    key = str(register(hospital, 20).json["id"])
    subject = {"reference": f"Patient/{key}"}
    stored = practice.post("List", folder(f"Patient/{key}", observed_document(hospital, key))).json
    member = {"identifier": {"system": DOCTOR["system"], "value": DOCTOR["value"]}}
    team = {"resourceType": "CareTeam", "status": "active", "subject": subject, "participant": [{"member": member}]}
    contained = {
        "DocumentReference": document(f"Patient/{key}"),
        "List": folder(f"Patient/{key}", f"Observation/{key}-x"),
        "CareTeam": team,
        "Consent": consent(key, "x"),
        "Observation": examples.observation(key),
    }
    done(patient_of(exchange, 20), key, "block", party=DOCTOR)
    before = len(exchange.table("clinical"))
    for kind, content in contained.items():
        entry = {"resource": content, "request": {"method": "POST", "url": kind}}
        alone = practice.post(kind, content)
        whole = practice.post("", {"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
        part = practice.post("", {"resourceType": "Bundle", "type": "batch", "entry": [entry]})
        statuses = (alone.status, whole.status, part.json["entry"][0]["response"]["status"][:3])
        assert statuses == (403, 403, "403"), (kind, alone.body, whole.body)
    for answer in (
        practice.put(f"List/{stored['id']}", stored),
        practice.request("DELETE", f"List/{stored['id']}"),
        practice.post("", submission(f"Patient/{key}")),
        practice.get(f"Task?patient={key}"),
        practice.get(f"Consent?patient={key}"),
        practice.get(f"DocumentReference?patient={key}&_summary=count"),
        practice.post(f"Patient/{key}/$set-preferences", {"resourceType": "Parameters"}),
    ):
        assert answer.status in (403, 422), answer.body
        assert answer.status == 403 or key.encode() not in answer.body
    assert len(exchange.table("clinical")) == before


def observed_document(client: Client, key: str) -> str:
    return f"DocumentReference/{client.post('DocumentReference', document(f'Patient/{key}')).json['id']}"


# --- who is out, is out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "party",
    [Party(kind="professional", id=DOCTOR["value"]), Party(kind="organisation", id=PRACTICE["value"])],
    ids=lambda party: party.kind,
)
def test_what_somebody_left_behind_ends_with_the_right_to_be_here(
    exchange: Exchange, hospital: Client, practice: Client, party: Party
) -> None:
    """SUB-10, BALP-9: links and subscriptions of a party that an operator bars."""
    key = str(register(hospital, 10).json["id"])
    published = contents.published(hospital, key, PDF).removeprefix("Binary/")
    link, ports = share(practice, published)["url"], wiring.notification_ports()
    owner = replace(_owner(exchange), professional=DOCTOR["value"])
    assert Moment(ports, datetime.now(UTC)).of(owner).client is not None
    wiring.clients().bar(party, at=datetime.now(UTC))
    try:
        assert visit(exchange, link).status == 404
        assert Moment(ports, datetime.now(UTC)).of(owner).client is None
    finally:
        wiring.clients().readmit(party)
    assert visit(exchange, link).status == 200


def test_a_link_shows_what_its_issuer_sees_by_the_own_profession(exchange: Exchange, hospital: Client) -> None:
    """BALP-9: of who logged in for a house that is not the application's, and as a nurse."""
    key = str(register(hospital, 18).json["id"])
    published = contents.published(hospital, key, PDF).removeprefix("Binary/")
    people = {"organisation": "1990000078", "professional": "810000000078"}
    wiring.clients().register(replace(PORTAL, scopes=Scopes.parse("user/*.rs")))
    nurse = Somebody(exchange, client_id=PORTAL.id, role="nurse", profession="60", **people)
    first, second = (share(nurse, published)["url"] for _ in range(2))
    assert visit(exchange, first).status == 200
    recipient = {"coding": [{"system": PARTICIPATIONS, "code": "IRCP"}]}
    nurses = {"resourceType": "PractitionerRole", "code": [{"coding": [{"system": PROFESSIONS, "code": "60"}]}]}
    entry = {"resource": nurses, "request": {"method": "POST", "url": "PractitionerRole"}}
    made = physician(exchange).post("", {"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
    place = made.json["entry"][0]["response"]["location"].removeprefix(f"{URL}/fhir/")
    actor = {"role": recipient, "reference": {"reference": place.partition("/_history")[0]}}
    denial = consent(key, "x", provision=[{"type": "deny", "actor": [actor]}])
    assert patient_of(exchange, 18).post("Consent", denial).status == 201
    assert visit(exchange, second).status == 404


def _owner(exchange: Exchange) -> Any:
    made = physician(exchange).post("Subscription", subscription(WEBHOOK, "document-changed", "")).json["id"]
    found = wiring.notification_ports().subscriptions.find(made)
    assert found is not None
    return found.interest.owner


def test_nobody_reviews_the_own_emergency(exchange: Exchange, hospital: Client, practice: Client) -> None:
    """DMP-30: neither by another client."""
    key = str(register(hospital, 12).json["id"])
    assert broken(practice, key).status == 200
    use = uses(exchange.client("auditor"), "?status=open")[0][0]["id"]
    given = [{"name": "use", "valueId": use}, {"name": "verdict", "valueCode": "justified"}]
    asked = "Patient/$review-break-glass", {"resourceType": "Parameters", "parameter": given}
    self_reviewing = Somebody(exchange, client_id="auditor", role="auditor", professional=DOCTOR["value"])
    assert refused(self_reviewing.post(*asked)) == (403, "forbidden")
    assert exchange.client("auditor").post(*asked).status == 200


# --- what does not fit ------------------------------------------------------------------------------------------------


def many(name: str, value: dict[str, Any], count: int = 10_000) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": [{"name": name, **value}] * count}


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("$block", many("party", {"valueIdentifier": DOCTOR})),
        ("$release", many("reference", {"valueReference": {"reference": "Observation/x"}})),
        ("$block", {"resourceType": "Parameters", "parameter": [{"name": "party", "valueString": "x"}]}),
        ("$block", many("capacity", {"valueCode": "patient"}, 1)),
        ("$set-preferences", many("agree-research", {"valueBoolean": "true"}, 1)),
        ("$break-glass", many("until", {"valueDateTime": "2099-01-01"}, 1)),
        ("$authorize-access", many("by", {"valueString": "patient"}, 1)),
        ("$authorize-access", many("period", {"valuePeriod": {"start": "2026", "end": "9999-12-31"}}, 2)),
        ("$authorize-access", many("period", {"valuePeriod": {"start": ["x"], "end": {}}}, 1)),
        ("$end-proxy", many("holder", {"valueIdentifier": {"system": 1, "value": None}}, 1)),
        ("$block", b'{"resourceType":"Parameters","parameter":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_command_takes_what_it_takes_and_nothing_else(
    exchange: Exchange, person: str, operation: str, body: Any
) -> None:
    """DMP-11, DMP-30: unknown, doubled, of another kind, ten thousand: 400 or 422, and nothing is decided."""
    patient = patient_of(exchange, 13)
    before = patient.get(f"Patient/{person}/$record-status").body
    assert patient.post(f"Patient/{person}/{operation}", body).status in (400, 422)
    assert patient.get(f"Patient/{person}/$record-status").body == before


def test_reasons_of_a_megabyte_and_periods_of_the_past(exchange: Exchange, person: str, practice: Client) -> None:
    """Words are short; what is said to have begun begins now."""
    patient = patient_of(exchange, 13)
    assert order(patient, person, "block", party=PRACTICE, reason="x" * 2**20).status == 422
    assert broken(practice, person, text="x" * 2**20).status == 422
    decision = done(patient, person, "authorize-access", party=PRACTICE, period={"start": "1990-01-01"})
    assert datetime.fromisoformat(decision["since"]).year >= 2026
    done(patient, person, "end-access", party=PRACTICE)


@pytest.fixture(scope="module")
def person(hospital: Client) -> str:
    return str(register(hospital, 13).json["id"])


# --- Consent ----------------------------------------------------------------------------------------------------------


def consent(key: str, organisation: str, **provision: Any) -> dict[str, Any]:
    coded = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]}
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": coded,
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{key}"},
        "dateTime": "2026-02-01",
        "performer": [{"reference": f"Patient/{key}"}],
        "organization": [{"display": organisation}],
        "sourceAttachment": {"title": "signed"},
        "policy": [{"uri": "http://example.org/policies/basePrivacyConsentPolicy.txt"}],
        "provision": {"type": "permit", **provision},
    }


def test_a_consent_stays_with_its_patient_and_is_not_undone_in_passing(
    exchange: Exchange, hospital: Client, practice: Client
) -> None:
    """PCF-4: moved, deleted in a batch, emptied by a patch, overruled by another in one transaction."""
    key, other = (str(register(hospital, number).json["id"]) for number in (14, 16))
    patient = patient_of(exchange, 14)
    hidden = observed(hospital, key, effectiveDateTime="2022-06-15")
    denial = {"type": "deny", "dataPeriod": {"start": "2022-01-01", "end": "2022-12-31"}}
    made = patient.post("Consent", consent(key, "x", provision=[denial]))
    assert made.status == 201, made.body
    id = made.json["id"]

    def is_hidden() -> bool:
        return practice.get(f"Observation/{hidden}").status == 404

    assert is_hidden()
    moved = {**made.json, "patient": {"reference": f"Patient/{other}"}}
    for who in (patient, hospital, practice):
        assert who.put(f"Consent/{id}", moved).status in (403, 404, 422)
        patch = json.dumps([{"op": "remove", "path": "/provision/provision"}]).encode()
        if who is not patient:
            headers = {"Content_Type": "application/json-patch+json"}
            assert who.request("PATCH", f"Consent/{id}", patch, **headers).status == 403
    removal = {"request": {"method": "DELETE", "url": f"Consent/{id}"}}
    for kind in ("batch", "transaction"):
        answer = patient.post("", {"resourceType": "Bundle", "type": kind, "entry": [removal]})
        statuses = [each["response"]["status"][:3] for each in answer.json.get("entry", [])] or [str(answer.status)]
        assert statuses == ["405"], answer.body
    open_to_all = consent(key, "x")
    both = [
        {"resource": {**made.json, "status": "inactive"}, "request": {"method": "PUT", "url": f"Consent/{id}"}},
        {"resource": open_to_all, "request": {"method": "POST", "url": "Consent"}},
    ]
    theirs = practice.post("", {"resourceType": "Bundle", "type": "transaction", "entry": both})
    assert theirs.status == 403, theirs.body
    assert is_hidden()
    answer = patient.post("", {"resourceType": "Bundle", "type": "transaction", "entry": both})
    assert answer.status == 200, answer.body
    assert not is_hidden()
    policy = wiring.patient_index().find_person(key).policy  # type: ignore[union-attr]
    assert len(policy.consents) == 1  # both took effect in one commit


@pytest.mark.parametrize("kind", ["deep", "wide", "actors"])
def test_a_consent_beyond_measure_is_refused(exchange: Exchange, person: str, kind: str) -> None:
    """A policy is read with every request: what it holds is bounded before it is stored."""
    deep: dict[str, Any] = {"type": "deny"}
    for _ in range(100):
        deep = {"type": "deny", "provision": [deep]}
    provision = {
        "deep": {"provision": [deep]},
        "wide": {"provision": [{"type": "deny"}] * 5_000},
        "actors": {"actor": [{"role": {"text": "x"}, "reference": {"display": "x"}}] * 5_000},
    }[kind]
    answer = patient_of(exchange, 13).post("Consent", consent(person, "x", **provision))
    assert answer.status in (400, 413, 422), answer.body


# --- what decides is not there ----------------------------------------------------------------------------------------


def corrupted(exchange: Exchange, key: str, change: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """While it is entered, what is decided about a person is broken in store."""
    client, table = exchange.stack.client("dynamodb"), exchange.stack.environment["CLINICAL_TABLE"]
    place = {"PK": {"S": f"P#{key}"}, "SK": {"S": "c#PERSON"}}
    whole = client.get_item(TableName=table, Key=place, ConsistentRead=True)["Item"]
    broken_item = json_copy(whole)
    change(broken_item)
    client.put_item(TableName=table, Item=broken_item)
    yield
    client.put_item(TableName=table, Item=whole)


def json_copy(item: dict[str, Any]) -> dict[str, Any]:
    return {name: dict(value) for name, value in item.items()}


def _truncated(item: dict[str, Any]) -> None:
    item["c"]["B"] = bytes(item["c"]["B"])[:-5]


def _flipped(item: dict[str, Any]) -> None:
    value = bytearray(item["c"]["B"])
    value[len(value) // 2] ^= 1
    item["c"]["B"] = bytes(value)


@pytest.mark.parametrize(
    "change",
    [_truncated, _flipped, lambda item: item.pop("c"), lambda item: item.pop("of"), lambda item: item.pop("revision")],
    ids=["truncated", "a bit flipped", "no policy", "no key", "no revision"],
)
def test_a_policy_that_cannot_be_read_opens_nothing(
    exchange: Exchange, practice: Client, opened: tuple[str, str], change: Callable[[dict[str, Any]], None]
) -> None:
    """Goal I4: errors of the policy store refuse, every one of them."""
    key, observation = opened
    paths = (f"Observation/{observation}", f"Observation?patient={key}", f"Patient/{key}/$everything")
    assert {practice.get(path).status for path in paths} == {200}
    for _ in corrupted(exchange, key, change):
        for path in paths:
            answer = practice.get(path)
            assert answer.status >= 400, path
            assert observation.encode() not in answer.body
        assert practice.post("Observation", examples.observation(key)).status >= 400
    assert {practice.get(path).status for path in paths} == {200}


@pytest.fixture(scope="module")
def opened(hospital: Client) -> tuple[str, str]:
    key = str(register(hospital, 17).json["id"])
    return key, observed(hospital, key)
