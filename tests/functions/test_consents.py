"""Consents of patients over HTTP (IHE PCF 1.1.1, ITI-108): stored, enforced from the next request on, ended.

The functions are called as API Gateway calls them, with what the authorizer would say of a token.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import parse_qsl

import pytest

from passerelle import wiring
from passerelle.access import Caller, Limits, Scopes
from passerelle.authorization.extensions import limits_to_map
from passerelle.consents.decision import Implicit
from passerelle.consents.model import Emergency, Mandate, MandateKind
from passerelle.directory.identifiers import IDNPS, IDNST, RPPS
from passerelle.identifiers import new_patient_key
from passerelle.patients.model import Person, PersonChange
from passerelle.records.model import ResourceKey
from tests import examples, record, sources
from tests.paging import pages
from tests.people import person_of

INS = "urn:oid:1.2.250.1.213.1.4.10|2550699999%05d"
PROXY = "urn:oid:1.2.250.1.213.1.4.10|180127501234567"
SCOPE = "system/*.cruds"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
SENSITIVITY = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
REASONS = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
RECIPIENT = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]}
TPO = [{"system": REASONS, "code": each} for each in ("TREAT", "HPAYMT", "HOPERAT")]
POLICY = "http://example.org/policies/basePrivacyConsentPolicy.txt"
REQUIRED = (
    *("status", "scope", "category", "patient", "dateTime", "performer"),
    *("organization", "source", "policy.uri", "provision.type"),
)
_numbers = count(1)
Content = dict[str, Any]


def caller(role: str, organisation: str, **more: str) -> dict[str, str]:
    return {"client_id": role, "organisation": organisation, "role": role, "scope": SCOPE, "jti": "t", **more}


HOSPITAL = caller("hospital", "1990000011", professional="810000000011", profession="10")
PHYSICIAN = caller("practice", "1990000037", professional="810000000037", profession="10")
NURSE = caller("nurse", "1990000078", professional="810000000078", profession="60")
SYSTEM = caller("practice", "1990000037")


@dataclass
class Answer:
    status: int
    body: str
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def faults(self) -> set[tuple[str, str | None]]:
        return {(each["code"], each.get("expression", [None])[0]) for each in self.json["issue"]}


def ask(who: Mapping[str, str], method: str, path: str, content: Any = None, **headers: str) -> Answer:
    """`path` below the FHIR base, with its query."""
    where, _, query = path.partition("?")
    function = {"Patient": "patients", "DocumentReference": "documents"}.get(where.split("/")[0], "records")
    parameters: dict[str, list[str]] = {}
    for name, value in parse_qsl(query):
        parameters.setdefault(name, []).append(value)
    kind = "application/x-www-form-urlencoded" if where.endswith("_search") else "application/fhir+json"
    sent = content if isinstance(content, str) or content is None else json.dumps(content)
    event = {
        "httpMethod": method,
        "path": f"/fhir/{where}".rstrip("/"),
        "resource": "",
        "headers": {"Content-Type": kind, **{name.replace("_", "-"): each for name, each in headers.items()}},
        "multiValueQueryStringParameters": parameters,
        "requestContext": {
            "requestId": "r",
            "authorizer": dict(who),
            "domainName": "exchange.example",
            "path": f"/fhir/{where}",
        },
        "body": sent,
        "isBase64Encoded": False,
    }
    answer = importlib.import_module(f"functions.{function}.handler").handler(event, None)
    return Answer(answer["statusCode"], answer["body"] or "", answer["headers"])


@dataclass
class World:
    """A person with a record, and two professionals with their structures in the directory."""

    person: Person
    ins: str
    practitioner: str
    organisation: str

    @property
    def patient(self) -> dict[str, str]:
        return caller("patient", "1990000086", patient=self.ins)

    @property
    def parent(self) -> dict[str, str]:
        return caller("representative", "1990000086", patient=self.ins, person=PROXY)

    @property
    def key(self) -> str:
        return self.person.members[0]

    def decide(self, **policy: Any) -> None:
        before = wiring.patient_index().find_person(self.key)
        assert before is not None
        records = tuple(replace(each, policy=replace(each.policy, **policy)) for each in before.records)
        record.commit(PersonChange(before=before, after=replace(before, records=records, revision=before.revision + 1)))

    def consent(self, type: str = "permit", *, within: Any = (), **provision: Any) -> Content:
        """An active Consent with all that PCF requires; `within` are the exceptions."""
        inner = {"provision": list(within)} if within else {}
        return {
            "resourceType": "Consent",
            "status": "active",
            "scope": {
                "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]
            },
            "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
            "patient": {"reference": f"Patient/{self.key}"},
            "dateTime": "2026-02-01",
            "performer": [{"reference": f"Patient/{self.key}"}],
            "organization": [{"reference": f"Organization/{self.organisation}"}],
            "sourceAttachment": {"title": "signed"},
            "policy": [{"uri": POLICY}],
            "provision": {"type": type, **provision, **inner},
        }

    def given(self, *args: Any, by: Mapping[str, str] | None = None, **kwargs: Any) -> Content:
        answer = ask(by or self.patient, "POST", "Consent", self.consent(*args, **kwargs))
        assert answer.status == 201, answer.body
        return dict(answer.json)

    def observed(self, **changed: Any) -> str:
        answer = ask(HOSPITAL, "POST", "Observation", examples.observation(self.key, **changed))
        assert answer.status == 201, answer.body
        return str(answer.json["id"])


def registered(ins: str) -> Person:
    system, value = ins.split("|")
    qualified = wiring.patient_index().blinded((system, value))
    person = person_of(new_patient_key(), since=record.AT, qualified=qualified)
    record.commit(PersonChange(before=None, after=person, takes_from=person.key))
    return person


def resource(type: str, **content: Any) -> str:
    answer = ask(HOSPITAL, "POST", "", transaction({"resource": {"resourceType": type, **content}}))
    assert answer.status == 200, answer.body
    return str(answer.json["entry"][0]["response"]["location"].split("/")[1])


def transaction(*entries: Content, type: str = "transaction") -> Content:
    made = [
        {"request": {"method": "POST", "url": each["resource"]["resourceType"]}, **each} if "resource" in each else each
        for each in entries
    ]
    return {"resourceType": "Bundle", "type": type, "entry": made}


@pytest.fixture(scope="module")
def services() -> Iterator[None]:
    with record.services():
        yield


@pytest.fixture(scope="module")
def directory(services: None) -> tuple[str, str]:
    """A Practitioner and an Organization: of PHYSICIAN."""
    return (
        resource("Practitioner", identifier=[{"system": RPPS, "value": PHYSICIAN["professional"][1:]}]),
        resource("Organization", identifier=[{"system": IDNST, "value": PHYSICIAN["organisation"]}], name="x"),
    )


@pytest.fixture
def world(directory: tuple[str, str]) -> World:
    """Somebody new each time."""
    ins = INS % next(_numbers)
    return World(registered(ins), ins, *directory)


def actor(reference: str | tuple[str, str]) -> Content:
    if isinstance(reference, str):
        return {"role": RECIPIENT, "reference": {"reference": reference}}
    system, value = reference
    return {"role": RECIPIENT, "reference": {"identifier": {"system": system, "value": value}}}


def labels(*codes: str) -> list[Content]:
    return [{"system": CONFIDENTIALITY if len(each) == 1 else SENSITIVITY, "code": each} for each in codes]


def data(meaning: str, reference: str) -> list[Content]:
    return [{"meaning": meaning, "reference": {"reference": reference}}]


def seen(world: World, who: Mapping[str, str] = PHYSICIAN, query: str = "") -> set[str]:
    answer = ask(who, "GET", f"Observation?patient={world.key}&_count=50{query}")
    assert answer.status == 200, answer.body
    found = {each["resource"]["id"] for each in answer.json.get("entry", [])}
    assert answer.json["total"] == len(found)
    return found


# --- what is stored ---------------------------------------------------------------------------------------------------


def test_pcf_1_the_three_profiles_are_stored(world: World) -> None:
    observation = world.observed()
    basic = world.consent(purpose=TPO, period={"start": "2026-01-01", "end": "2030-12-31"})
    intermediate = world.consent(
        purpose=TPO,
        within=[
            {"type": "deny", "dataPeriod": {"start": "2022-01-01", "end": "2022-12-31"}},
            {"type": "deny", "data": data("instance", f"Observation/{observation}")},
            {"type": "deny", "data": data("authoredby", f"Practitioner/{world.practitioner}")},
        ],
    )
    advanced = world.consent(
        purpose=TPO,
        securityLabel=labels("N"),
        within=[
            {
                "type": "permit",
                "securityLabel": labels("R", "PSY"),
                "actor": [actor(f"Practitioner/{world.practitioner}")],
            }
        ],
    )
    for content in (basic, intermediate, advanced):
        answer = ask(world.patient, "POST", "Consent", content)
        assert answer.status == 201, answer.body
        assert answer.headers["Location"].startswith("https://exchange.example/fhir/Consent/")
        assert {**answer.json, "id": None, "meta": None} == {**content, "id": None, "meta": None}


@pytest.mark.parametrize("element", REQUIRED)
def test_pcf_1_what_a_consent_must_say(world: World, element: str) -> None:
    content = world.consent()
    name, _, inner = element.partition(".")
    if name == "source":
        del content["sourceAttachment"]
    elif inner == "uri":
        content["policy"] = [{"authority": "urn:x"}]
        content["policyRule"] = {"text": "x"}
    elif inner:
        del content[name][inner]
        content[name]["purpose"] = TPO
    else:
        del content[name]
    for answer in (
        ask(world.patient, "POST", "Consent", content),
        ask(world.patient, "POST", "", transaction({"resource": content})),
    ):
        assert answer.status == 422, answer.body
        assert ("required", f"Consent.{element}") in {
            (code, path.replace("Bundle.entry[0].resource", "Consent")) for code, path in answer.faults if path
        }


def test_pcf_1_another_scope_and_verification_are_refused(world: World) -> None:
    content = world.consent()
    content["scope"]["coding"][0]["code"] = "research"
    assert ("required", "Consent.scope") in ask(world.patient, "POST", "Consent", content).faults
    content = {**world.consent(), "verification": [{"verified": True}]}
    answer = ask(world.patient, "POST", "Consent", content)
    assert (answer.status, answer.faults) == (422, {("invariant", "Consent.verification")})


@pytest.mark.parametrize(
    ("provision", "path"),
    [
        ({"action": [{"coding": [{"system": "urn:x", "code": "correct"}]}]}, "action[0]"),
        ({"class": [{"system": "urn:ietf:bcp:13", "code": "application/hl7-cda+xml"}]}, "class[0]"),
        ({"code": [{"text": "HIV"}]}, "code[0]"),
        ({"purpose": [{"system": "urn:x", "code": "TREAT"}]}, "purpose[0]"),
        ({"securityLabel": [{"code": "N"}]}, "securityLabel[0]"),
        ({"securityLabel": labels("V")}, "securityLabel[0]"),
        ({"actor": [{**actor("Organization/x"), "role": {"text": "x"}}]}, "actor[0].role"),
        ({"actor": [actor("Group/x")]}, "actor[0].reference"),
        ({"actor": [actor("Patient/x")]}, "actor[0].reference"),
        ({"actor": [actor("Practitioner/unknown")]}, "actor[0].reference"),
        ({"actor": [actor(("urn:x", "1"))]}, "actor[0].reference"),
        ({"data": data("instance", "urn:uuid:7a3c2c4c-7a3c-4c4c-8a3c-2c4c7a3c2c4c")}, "data[0].reference"),
        ({"data": data("authoredby", "CareTeam/x")}, "data[0].reference"),
        ({"dataPeriod": {"start": "2027", "end": "2026"}}, "dataPeriod"),
        ({"within": [{"type": "deny", "provision": [{"type": "permit"}]}]}, "provision[0].provision"),
        ({"within": [{"purpose": TPO}]}, "provision[0].type"),
        ({"within": [{"type": "deny"}] * 31}, "provision"),
        ({"data": data("instance", "Observation/x") * 51}, "data"),
    ],
)
def test_what_cannot_be_enforced_is_refused(world: World, provision: Content, path: str) -> None:
    answer = ask(world.patient, "POST", "Consent", world.consent(**provision))
    assert answer.status == 422, answer.body
    assert f"Consent.provision.{path}" in {place for _, place in answer.faults}
    assert ask(world.patient, "GET", f"Consent?patient={world.key}").json["total"] == 0


def test_unknown_and_contradicted_policies_are_refused(world: World) -> None:
    content = {**world.consent(), "policy": [{"uri": "urn:x"}]}
    assert ask(world.patient, "POST", "Consent", content).faults == {("code-invalid", "Consent.policy[0].uri")}
    content = {**world.consent(), "policy": [{"uri": "https://profiles.ihe.net/ITI/PCF/Policy-deny"}]}
    assert ask(world.patient, "POST", "Consent", content).faults == {("invariant", "Consent.provision.type")}


def test_consents_that_say_too_much_together_are_refused(world: World) -> None:
    many = [{"type": "deny", "data": data("instance", f"Observation/{'x' * 60}") * 40} for _ in range(1)]
    codes = [{"coding": [{"system": f"urn:{'x' * 300}", "code": str(each)}]} for each in range(50)]
    answers = [ask(world.patient, "POST", "Consent", world.consent(within=many, code=codes)).status for _ in range(3)]
    assert answers == [201, 201, 422]


def test_pcf_2_read_and_vread(world: World) -> None:
    stored = world.given()
    for path in (f"Consent/{stored['id']}", f"Consent/{stored['id']}/_history/1"):
        assert ask(world.patient, "GET", path).json == stored
    for path in ("Consent/unknown", f"Consent/{stored['id']}/_history/2"):
        assert ask(world.patient, "GET", path).status == 404


def test_pcf_4_a_consent_is_not_deleted(world: World) -> None:
    stored = world.given("deny")
    url = f"Consent/{stored['id']}"
    for path in (url, "Consent/unknown", f"Consent?patient={world.key}&status=active"):
        assert ask(world.patient, "DELETE", path).status == 405
        entry = {"request": {"method": "DELETE", "url": path}}
        assert ask(world.patient, "POST", "", transaction(entry)).status == 405
        answer = ask(world.patient, "POST", "", transaction(entry, type="batch"))
        assert answer.json["entry"][0]["response"]["status"].startswith("405")
    assert ask(PHYSICIAN, "GET", f"Observation?patient={world.key}").status == 403


def test_pcf_5_search_by_patient_actor_and_status(directory: tuple[str, str]) -> None:
    local, patient = examples.patient(1)
    feeding = {**HOSPITAL, "domain": examples.DOMAIN, "scope": "ITI-104"}
    scopes = Scopes.parse("ITI-104")
    told = Caller(client_id="hospital", organisation="1990000011", role="hospital", scopes=scopes, token_id="t")
    sources.join(replace(told, domain=examples.DOMAIN))
    key = ask(feeding, "PUT", f"Patient?identifier={examples.DOMAIN}|{local}", patient).json["id"]
    person = wiring.patient_index().find_person(key)
    assert person is not None
    world = World(person, examples.ins(1), *directory)
    none = ask(world.patient, "GET", f"Consent?patient={world.key}")
    assert (none.status, none.json["type"], none.json["total"]) == (200, "searchset", 0)
    named = world.given(actor=[actor(f"Practitioner/{world.practitioner}")])
    other = {**world.given(), "status": "inactive"}
    assert ask(world.patient, "PUT", f"Consent/{other['id']}", other).status == 200

    def found(query: str) -> set[str]:
        answer = ask(world.patient, "GET", f"Consent?{query}")
        posted = ask(world.patient, "POST", "Consent/_search", query)
        assert answer.status == posted.status == 200
        assert answer.json["entry"] == posted.json["entry"]
        return {each["resource"]["id"] for each in answer.json["entry"]}

    assert found(f"patient={world.key}") == {named["id"], other["id"]}
    assert found(f"patient={world.key}&status=active") == {named["id"]}
    assert found(f"patient={world.key}&actor=Practitioner/{world.practitioner}") == {named["id"]}
    assert found(f"patient.identifier={world.ins}&status=inactive") == {other["id"]}
    for query in ("", "status=active"):
        refused = ask(world.patient, "GET", f"Consent?{query}")
        assert (refused.status, {code for code, _ in refused.faults}) == (400, {"required"})


# --- who consents -----------------------------------------------------------------------------------------------------


def test_gen_14_the_scope_of_iti_108_is_enough_and_needed(world: World) -> None:
    content = world.consent()
    for scope, status in (("ITI-108", 201), ("system/Consent.c", 201), ("ITI-67 system/Observation.cruds", 403)):
        who = {**world.patient, "scope": scope}
        assert ask(who, "POST", "Consent", content).status == status
        answer = ask(who, "POST", "", transaction({"resource": content}))
        assert answer.status == (200 if status == 201 else 403), answer.body
    stored = world.given()
    who = {**world.patient, "scope": "ITI-108"}
    assert ask(who, "GET", f"Consent/{stored['id']}").status == 200
    assert ask(who, "GET", f"Consent?patient={world.key}").status == 200
    assert ask(who, "PUT", f"Consent/{stored['id']}", {**stored, "status": "inactive"}).status == 200


def test_who_may_consent_for_a_patient(world: World) -> None:
    parent = Mandate(holder=PROXY, kind=MandateKind.PARENT, since=record.AT)
    content = world.consent()
    for who, status in ((world.patient, 201), (HOSPITAL, 201), (world.parent, 422), (SYSTEM, 403)):
        answer = ask(who, "POST", "Consent", content)
        assert answer.status == status, answer.body
    world.decide(mandates=(parent,))
    assert ask(world.parent, "POST", "Consent", content).status == 201
    world.decide(mandates=(replace(parent, kind=MandateKind.CARER),))
    assert ask(world.parent, "POST", "Consent", content).status == 403
    for role in ("payer", "regulation", "researcher", "auditor"):
        answer = ask(caller(role, "1990000094"), "POST", "Consent", content)
        assert answer.status in (403, 422), answer.body


def test_a_consent_is_changed_by_the_patient_or_where_it_was_recorded(world: World) -> None:
    own, recorded = world.given(), world.given(by=HOSPITAL)
    for stored, who, status in (
        (own, HOSPITAL, 403),
        (recorded, PHYSICIAN, 403),
        (recorded, HOSPITAL, 200),
        (own, world.patient, 200),
    ):
        answer = ask(who, "PUT", f"Consent/{stored['id']}", {**stored, "status": "inactive"})
        assert answer.status == status, answer.body


def test_no_consent_locks_the_patient_out(world: World) -> None:
    observation = world.observed()
    refusal = world.given("deny")
    world.given("deny", data=data("instance", f"Observation/{observation}"))
    assert seen(world, world.patient) == {observation}
    assert ask(world.patient, "PUT", f"Consent/{refusal['id']}", {**refusal, "status": "inactive"}).status == 200


# --- what is enforced -------------------------------------------------------------------------------------------------


def test_pcf_6_permitted_denied_over(world: World) -> None:
    observation = world.observed()
    assert seen(world) == {observation}
    permit = world.given(purpose=TPO)
    assert seen(world) == {observation}
    deny = world.given("deny")
    refused = ask(PHYSICIAN, "GET", f"Observation?patient={world.key}")
    assert (refused.status, refused.json["issue"][0]["code"]) == (403, "forbidden")
    assert refused.json["issue"][0]["details"]["coding"][0]["code"] == "break-glass-possible"
    assert ask(NURSE, "GET", f"Observation/{observation}").json["issue"][0]["details"]["coding"][0]["code"] == (
        "break-glass-not-possible"
    )
    over = {**deny, "provision": {"type": "deny", "period": {"end": "2026-01-31"}}}
    assert ask(world.patient, "PUT", f"Consent/{deny['id']}", over).status == 200
    assert seen(world) == {observation}
    assert permit["status"] == "active"


@pytest.mark.parametrize("status", ["inactive", "entered-in-error", "rejected"])
def test_pcf_3_effective_on_the_next_request(world: World, status: str) -> None:
    observation = world.observed()
    stored = world.given("deny")
    assert ask(PHYSICIAN, "GET", f"Observation/{observation}").status == 403
    patch = [{"op": "replace", "path": "/status", "value": status}]
    if status == "rejected":
        answer = ask(
            world.patient, "PATCH", f"Consent/{stored['id']}", patch, Content_Type="application/json-patch+json"
        )
    else:
        answer = ask(world.patient, "PUT", f"Consent/{stored['id']}", {**stored, "status": status})
    assert answer.status == 200, answer.body
    assert ask(PHYSICIAN, "GET", f"Observation/{observation}").status == 200
    terms = {**stored, "provision": {"type": "deny", "actor": [actor((IDNPS, NURSE["professional"]))]}}
    assert ask(world.patient, "PUT", f"Consent/{stored['id']}", terms).status == 200
    assert ask(PHYSICIAN, "GET", f"Observation/{observation}").status == 200
    assert ask(NURSE, "GET", f"Observation/{observation}").status == 403


def test_i4_a_consent_that_is_revoked_between_two_pages_binds_the_second(world: World) -> None:
    observations = [world.observed(effectiveDateTime=f"2026-01-{day:02}") for day in range(1, 5)]
    permit = world.given()
    first = ask(PHYSICIAN, "GET", f"Observation?patient={world.key}&_count=2").json
    following = next(each["url"] for each in first["link"] if each["relation"] == "next").partition("/fhir/")[2]
    hidden = {"type": "deny", "data": data("instance", f"Observation/{observations[0]}")}
    narrowed = {**permit, "provision": {"type": "permit", "provision": [hidden]}}
    assert ask(world.patient, "PUT", f"Consent/{permit['id']}", narrowed).status == 200
    second = ask(PHYSICIAN, "GET", following).json
    assert [each["resource"]["id"] for each in second["entry"]] == [observations[1]]
    assert (
        ask(world.patient, "PUT", f"Consent/{permit['id']}", {**narrowed, "provision": {"type": "deny"}}).status == 200
    )
    assert ask(PHYSICIAN, "GET", following).status == 403


CONTRACTED = ("time frame", "instance", "related", "dependents", "author", "encounter")  # in the row PCF-7


def provisions(world: World) -> Iterator[tuple[str, Content, list[str], list[str]]]:
    """By name: what a provision is about, and which observations that are (the rest are not)."""
    encounter = resource(
        "Encounter", status="finished", subject={"reference": f"Patient/{world.key}"}, **{"class": {"code": "AMB"}}
    )
    role = resource("PractitionerRole", practitioner={"reference": f"Practitioner/{world.practitioner}"})
    house = {"identifier": {"system": IDNST, "value": PHYSICIAN["organisation"]}}
    logical = {"identifier": {"system": IDNPS, "value": PHYSICIAN["professional"]}}
    theirs = {"reference": f"Practitioner/{world.practitioner}"}
    of_2022 = world.observed(effectiveDateTime="2022-06-15T08:00:00Z")
    named = world.observed(effectiveDateTime="2025-01-01")
    member = world.observed(effectiveDateTime="2025-01-02", hasMember=[{"reference": f"Observation/{named}"}])
    met = world.observed(effectiveDateTime="2025-01-03", encounter={"reference": f"Encounter/{encounter}"})
    authored = [
        world.observed(effectiveDateTime=f"2025-02-{day:02}", performer=[each])
        for day, each in enumerate((theirs, logical, {"reference": f"PractitionerRole/{role}"}), 1)
    ]
    by_house = world.observed(effectiveDateTime="2025-03-01", performer=[house])
    code = [{"system": "urn:x", "code": "a"}]
    coded = world.observed(effectiveDateTime="2025-03-02", code={"coding": code})
    everything = [of_2022, named, member, met, *authored, by_house, coded]
    for name, provision, about in (
        ("time frame", {"dataPeriod": {"start": "2022-01-01", "end": "2022-12-31"}}, [of_2022]),
        ("instance", {"data": data("instance", f"Observation/{named}")}, [named]),
        ("related", {"data": data("related", f"Observation/{member}")}, [named, member]),
        ("dependents", {"data": data("dependents", f"Observation/{named}")}, [named, member]),
        ("author", {"data": data("authoredby", f"Practitioner/{world.practitioner}")}, authored),
        ("author by identifier", {"data": [{"meaning": "authoredby", "reference": logical}]}, authored),
        ("author's house", {"data": data("authoredby", f"Organization/{world.organisation}")}, [by_house]),
        ("encounter", {"data": data("related", f"Encounter/{encounter}")}, [met]),
        ("code", {"code": [{"coding": code}]}, [coded]),
    ):
        yield name, provision, about, [each for each in everything if each not in about]


def test_pcf_7_permitted_alone_and_denied_alone(world: World) -> None:
    """Also GEN-11 of consents: what is kept back is, on every page, as if it had never been."""
    stored = world.given()
    for name, provision, about, others in provisions(world):
        for content, expected in (
            ({"type": "permit", **provision}, about),
            ({"type": "permit", "provision": [{"type": "deny", **provision}]}, others),
        ):
            terms = {**stored, "provision": content}
            answer = ask(world.patient, "PUT", f"Consent/{stored['id']}", terms)
            assert answer.status == 200, (name, answer.body)

            for size in (1, 2, 10) if name in CONTRACTED else (10,):
                found, sizes = followed(f"Observation?patient={world.key}&_count={size}&_total=accurate")
                assert sorted(found) == sorted(expected), (name, content)
                assert sizes == [size] * (len(expected) // size) + [len(expected) % size] * bool(len(expected) % size)
            hidden = next(each for each in (*about, *others) if each not in expected)
            unknown = ask(PHYSICIAN, "GET", f"Observation/{hidden[:-4]}0000")
            assert told(ask(PHYSICIAN, "GET", f"Observation/{hidden}")) == told(unknown), name
            assert ask(PHYSICIAN, "GET", f"Observation/{expected[0]}").status == 200, name
            assert ask(PHYSICIAN, "GET", f"Observation/{hidden}/_history/1").status == 404, name
            whole = ask(PHYSICIAN, "GET", f"Patient/{world.key}/$everything?_type=Observation").json["entry"]
            assert hidden not in {each["resource"]["id"] for each in whole}, name
            assert hidden not in ask(PHYSICIAN, "GET", f"Consent?patient={world.key}").body, name


def followed(search: str) -> tuple[list[str], list[int]]:
    """The ids that PHYSICIAN finds on all pages, and how many on each; totals are right."""
    each_page = list(pages(lambda path: ask(PHYSICIAN, "GET", path).json, search))
    found = [[each["resource"]["id"] for each in page.get("entry", [])] for page in each_page]
    assert {page["total"] for page in each_page} == {sum(map(len, found))}
    return [id for page in found for id in page], [len(page) for page in found]


def told(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body


@pytest.mark.parametrize(
    ("provision", "nurse", "physician"),
    [
        pytest.param({"securityLabel": labels("N")}, "n", "n", id="normal only"),
        pytest.param({"securityLabel": labels("N", "R")}, "nr", "nr", id="normal and restricted"),
        pytest.param(
            {
                "securityLabel": labels("N"),
                "within": [
                    {"type": "permit", "securityLabel": labels("R"), "actor": [actor((IDNPS, NURSE["professional"]))]}
                ],
            },
            "nr",
            "n",
            id="restricted for one practitioner",
        ),
        pytest.param({}, "n", "nr", id="all: physicians see what is restricted"),
    ],
)
def test_pcf_8_labels_decide(world: World, provision: Content, nurse: str, physician: str) -> None:
    ids = {world.observed(): "n", world.observed(meta={"security": labels("R")}): "r"}
    world.given(purpose=TPO, **provision)
    for who, expected in ((NURSE, nurse), (PHYSICIAN, physician)):
        assert "".join(sorted(ids[each] for each in seen(world, who))) == expected
        for id, name in ids.items():
            assert ask(who, "GET", f"Observation/{id}").status == (200 if name in expected else 404)


def test_pcf_8_restricted_under_break_glass(world: World) -> None:
    normal, restricted = world.observed(), world.observed(meta={"security": labels("R")})
    exception = {
        "type": "permit",
        "purpose": [{"system": REASONS, "code": "BTG"}],
        "securityLabel": labels("R"),
    }
    world.given(purpose=TPO, securityLabel=labels("N"), within=[exception])
    assert seen(world) == {normal}
    assert seen(world, {**PHYSICIAN, "purpose": "BTG"}) == {normal}  # to say so breaks no glass
    broken = Emergency(
        id="e",
        professional=PHYSICIAN["professional"],
        organisation=PHYSICIAN["organisation"],
        since=datetime.now(UTC) - timedelta(hours=1),
        until=datetime.now(UTC) + timedelta(hours=1),
        reason="unconscious",
    )
    world.decide(emergencies=(broken,))
    assert seen(world) == {normal, restricted}


def test_pcf_8_a_purpose_that_is_not_permitted_is_refused(world: World) -> None:
    observation = world.observed()
    world.given(purpose=TPO)
    for purpose, status in (("TREAT", 200), ("ETREAT", 200), ("HRESCH", 403), ("HMARKT", 403)):
        assert ask({**PHYSICIAN, "purpose": purpose}, "GET", f"Observation/{observation}").status == status


@pytest.mark.parametrize("implicit", list(Implicit))
def test_pcf_10_nothing_on_file(world: World, implicit: Implicit, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a consent goes before each of the policies."""
    normal, restricted = world.observed(), world.observed(meta={"security": labels("R")})
    monkeypatch.setenv("IMPLICIT_POLICY", implicit)
    wiring.reset()
    try:
        expected = {Implicit.BASIC_NORMAL: {normal}, Implicit.ALL_NORMAL: {normal, restricted}}.get(implicit)
        if expected is None:
            refused = ask(NURSE, "GET", f"Observation?patient={world.key}")
            assert refused.status == 403
            code = ask(PHYSICIAN, "GET", f"Observation/{normal}").json["issue"][0]["details"]["coding"][0]["code"]
            assert code == f"break-glass-{'not-' if implicit is Implicit.DENY else ''}possible"
        else:
            assert seen(world, NURSE) == expected
        world.given(actor=[actor((IDNPS, NURSE["professional"]))])
        assert seen(world, NURSE) == (expected or {normal})
        assert ask(PHYSICIAN, "GET", f"Observation/{normal}").status == (403 if expected is None else 200)
    finally:
        monkeypatch.undo()
        wiring.reset()


def test_pcf_11_residual_rules_of_a_token(world: World) -> None:
    old = world.observed(effectiveDateTime="2022-06-15")
    new = world.observed(performer=[{"reference": f"Practitioner/{world.practitioner}"}])

    def bearing(*rules: Content, patient: str = f"Patient/{world.key}") -> dict[str, str]:
        limits = Limits(patient=patient, residual=rules)
        return {**PHYSICIAN, "limits": json.dumps(limits_to_map(limits))}

    all_of_it, period = {"type": "forbid"}, {"dataPeriod": {"start": "2022-01-01", "end": "2022-12-31"}}
    by = data("authoredby", f"https://exchange.example/fhir/Practitioner/{world.practitioner}")
    assert seen(world, bearing()) == {old, new}
    assert seen(world, bearing(all_of_it)) == set()
    assert seen(world, bearing(all_of_it, {"type": "permit", **period})) == {old}
    assert seen(world, bearing({"type": "forbid", **period}, {"type": "permit"})) == {old, new}
    assert seen(world, bearing({"type": "forbid", "data": by})) == {old}
    assert ask(bearing({"type": "forbid", "data": by}), "GET", f"Observation/{new}").status == 404
    world.given("deny", dataPeriod=period["dataPeriod"])
    assert seen(world, bearing({"type": "permit"})) == {new}  # a token opens nothing that the patient denies
    assert ask(bearing(patient=f"Patient/{registered(PROXY).members[0]}"), "GET", f"Observation/{new}").status == 403


# --- two worlds -------------------------------------------------------------------------------------------------------


def test_gen_11_what_a_consent_hides_is_as_if_it_had_never_been(world: World) -> None:
    """Byte for byte but for ids: with the resource and a consent that hides it, and without both."""
    shown = world.observed(effectiveDateTime="2026-01-02")
    hidden = world.observed(effectiveDateTime="2026-01-01", hasMember=[{"reference": f"Observation/{shown}"}])
    consent = world.given(within=[{"type": "deny", "data": data("instance", f"Observation/{hidden}")}])
    asked = [
        f"Observation/{hidden}",
        f"Observation/{hidden}/_history",
        f"Observation/_history?patient={world.key}",
        f"Observation?patient={world.key}",
        f"Observation?patient={world.key}&_count=1",
        f"Observation?patient={world.key}&_summary=count",
        f"Observation?patient={world.key}&_id={hidden}",
        f"Observation?patient={world.key}&has-member=Observation/{shown}",
        f"Observation?patient={world.key}&_id={shown}&_revinclude=Observation:has-member",
        f"Consent/{consent['id']}",
        f"Consent?patient={world.key}",
        f"Patient/{world.key}/$everything",
        f"Patient/{world.key}/$changes",
    ]
    with_it = {each: comparable(ask(PHYSICIAN, "GET", each)) for each in asked}
    take_out(world, f"Observation/{hidden}", f"Consent/{consent['id']}")
    world.decide(consents=())
    assert with_it == {each: comparable(ask(PHYSICIAN, "GET", each)) for each in asked}


def comparable(answer: Answer) -> tuple[int, str]:
    """Without the clock: what a delta is until, in its links."""
    content = answer.json
    content.get("meta", {}).pop("lastUpdated", None)
    if content.get("type") == "history":
        content.pop("link")
    return answer.status, json.dumps({name: each for name, each in content.items() if name not in ("id", "timestamp")})


def take_out(world: World, *references: str) -> None:
    """As if it had never been stored."""
    client = wiring.aws("dynamodb")
    local = [each.partition("/")[2].partition("-")[2] for each in references]
    for item in client.scan(TableName="clinical", ConsistentRead=True)["Items"]:
        if any(each in json.dumps(item, default=str) for each in local):
            client.delete_item(TableName="clinical", Key={name: item[name] for name in ("PK", "SK")})
    assert ResourceKey.of(*references[0].split("/")) is not None
