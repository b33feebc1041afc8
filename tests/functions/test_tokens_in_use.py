"""Tokens over the whole API: what a scope, a person or a method is refused for.

Contract GEN-13, GEN-14, IUA-8, IUA-9, IUA-10, PCF-11 (the side of the token), SMART-5.
"""

from __future__ import annotations

import base64
import importlib
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from infra.functions import FUNCTIONS, Http
from local.exchange import ExchangeClient
from local.gateway import Response
from local.region import PARTICIPANTS
from passerelle import wiring
from passerelle.api import messages
from passerelle.authorization.service import SCOPES_SUPPORTED
from tests import examples
from tests.authorization import FORM
from tests.exchange import KEYS, URL, Exchange
from tests.somebody import Somebody
from tests.sources import patient

DOMAIN = next(each.domain for each in PARTICIPANTS if each.id == "hospital-a")


def token(exchange: Exchange, scope: str, **extensions: Any) -> str:
    """Of the hospital, with what its assertion says."""
    signer = ExchangeClient(URL, "hospital-a", KEYS["hospital-a"])
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": signer.assertion(
            f"{URL}/oauth2/token", **({"extensions": extensions} if extensions else {})
        ),
        "scope": scope,
    }
    signer.http.close()
    sent = exchange.gateway.request("POST", "/oauth2/token", {"Content-Type": FORM}, urlencode(form).encode())
    assert sent.status == 200, sent.body
    return str(sent.json["access_token"])


def asked(exchange: Exchange, path: str, text: str) -> Response:
    return exchange.gateway.request("GET", path, {"Authorization": f"Bearer {text}"}, b"")


def codes(answer: Response) -> tuple[int, str, str]:
    """Status, issue code and what is said of an emergency."""
    (issue,) = answer.json["issue"]
    (coding,) = issue.get("details", {}).get("coding", [{"code": ""}])
    return answer.status, issue["code"], coding["code"]


@pytest.fixture(scope="module")
def people(exchange: Exchange) -> list[str]:
    """Two patients whom the hospital feeds."""
    hospital = exchange.client("hospital-a")
    made = []
    for number in range(2):
        family = ("BARDUR", "VALTIS")[number]
        answer = hospital.post("Patient", patient(str(DOMAIN), f"a-{number}", family=family, born=f"197{number}-03-08"))
        assert answer.status == 201, answer.body
        made.append(str(answer.json["id"]))
    return made


def test_a_scope_that_does_not_cover_the_request_is_refused(exchange: Exchange, people: list[str]) -> None:
    """GEN-14, SMART-5, IUA-8."""
    text = token(exchange, "system/Observation.rs")
    for path in (f"/fhir/Patient/{people[0]}", "/fhir/Patient/0000000000000000", "/fhir/Patient?_id=1"):
        answer = asked(exchange, path, text)
        assert codes(answer) == (403, "forbidden", "break-glass-not-possible")
        assert 'error="insufficient_scope"' in str(answer.headers)


@pytest.mark.parametrize("form", ["identifier", "reference", "person_id"])
def test_a_token_for_one_person_opens_no_other(exchange: Exchange, people: list[str], form: str) -> None:
    """IUA-8, PCF-11: `patient_id` or `person_id` of somebody else."""
    said: dict[str, Any] = {
        "identifier": {"ihe_pcf": {"patient_id": f"{DOMAIN}|a-0"}},
        "reference": {"ihe_pcf": {"patient_id": f"{URL}/fhir/Patient/{people[0]}"}},
        "person_id": {"ihe_iua": {"person_id": f"a-0^^^&{str(DOMAIN).removeprefix('urn:oid:')}&ISO"}},
    }[form]
    text = token(exchange, "system/*.rs", **said)
    own = asked(exchange, f"/fhir/Observation?patient=Patient/{people[0]}", text)
    assert (own.status, own.json["resourceType"]) == (200, "Bundle")
    other = asked(exchange, f"/fhir/Observation?patient=Patient/{people[1]}", text)
    assert codes(other) == (403, "forbidden", "break-glass-not-possible")


def bound(exchange: Exchange, key: str, role: str = "hospital", **context: str) -> Somebody:
    """Who bears a token for one person, with every right."""
    told = {"organisation": "1990000011", "domain": str(DOMAIN), "limits": json.dumps({"patient_id": f"Patient/{key}"})}
    return Somebody(exchange, client_id="hospital-a", role=role, **told, **context)


def test_a_token_for_one_person_finds_registers_and_decides_about_no_other(
    exchange: Exchange, people: list[str]
) -> None:
    """IUA-8, PCF-11: the patient index, the patient's control and the access log as well as the record."""
    doctor = bound(exchange, people[0], professional="810000000011", profession="10")

    def asked_of(number: int) -> dict[str, tuple[str, str, Any]]:
        key, family = people[number], ("BARDUR", "VALTIS")[number]
        content = patient(str(DOMAIN), f"a-{number}", family=family, born=f"197{number}-03-08", address=[{"city": "X"}])
        identifier, nothing = f"identifier={DOMAIN}|a-{number}", {"resourceType": "Parameters"}
        consent = {"parameter": [{"name": "consent", "valueBoolean": True}]}
        return {
            "read": ("GET", f"Patient/{key}", None),
            "history": ("GET", f"Patient/{key}/_history", None),
            "cross-reference": ("GET", f"Patient/$ihe-pix?sourceIdentifier={DOMAIN}|a-{number}", None),
            "standing": ("GET", f"Patient/{key}/$record-status", None),
            "log": ("GET", f"AuditEvent?date=ge2020-01-01&patient={key}", None),
            "tasks": ("GET", f"Task?patient={key}", None),
            "create": ("POST", "Observation", examples.observation(key)),
            "authorise": ("POST", f"Patient/{key}/$authorize-access", {**nothing, **consent}),
            "update": ("PUT", f"Patient/{key}", {**content, "id": key}),
            "conditional update": ("PUT", f"Patient?{identifier}", content),
        }

    own = {name: doctor.request(*asked).status for name, asked in asked_of(0).items()}
    assert {name: status for name, status in own.items() if status not in (200, 201)} == {}
    told = {name: doctor.request(*asked) for name, asked in asked_of(1).items()}
    assert [name for name, answer in told.items() if answer.status != 403] == []
    for query in (f"identifier={DOMAIN}|a-1", "family=VALTIS&birthdate=1971-03-08"):
        assert doctor.get(f"Patient?{query}").json["total"] == 0
    sought = patient(str(DOMAIN), "a-1", family="VALTIS", born="1971-03-08")
    match = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": sought}]}
    assert "entry" not in doctor.post("Patient/$match", match).json
    newcomer = patient(str(DOMAIN), "a-9", family="NEUF", born="1970-03-08")
    assert doctor.post("Patient", newcomer).status == 403
    assert doctor.request("DELETE", f"Patient?identifier={DOMAIN}|a-1").status == 403
    assert doctor.get("AuditEvent?date=ge2020-01-01").status == 400
    event = exchange.client("auditor").get(f"AuditEvent?date=ge2020-01-01&patient={people[1]}").json["entry"][0]
    assert doctor.get(f"AuditEvent/{event['resource']['id']}").status == 404


@pytest.mark.parametrize("role", ["auditor", "identity-steward", "data-protection-officer"])
def test_who_sees_across_all_records_bears_no_token_for_one(exchange: Exchange, people: list[str], role: str) -> None:
    """IUA-8: what such a token would be narrowed to is not theirs to be narrowed."""
    paths = (f"AuditEvent?date=ge2020-01-01&patient={people[0]}", "Patient/$break-glass-uses", f"Patient/{people[0]}")
    for path in paths:
        assert bound(exchange, people[0], role).get(path).status == 403


def test_without_a_good_token_nothing_is_told(exchange: Exchange) -> None:
    """GEN-13."""
    for sent, code, error in (({}, "login", False), ({"Authorization": "Bearer x"}, "security", True)):
        answer = exchange.gateway.request("GET", "/fhir/Patient/1", sent, b"")
        assert (answer.status, answer.json["issue"][0]["code"]) == (401, code)
        challenge = {name.lower(): value for name, value in dict(answer.headers).items()}["www-authenticate"]
        assert challenge.startswith("Bearer")
        assert ('error="invalid_token"' in challenge) == error


def test_introspection_by_get_and_metadata_of_no_tenant(exchange: Exchange) -> None:
    """IUA-9, IUA-10."""
    assert exchange.gateway.request("GET", "/oauth2/introspect", {}, b"").status == 405
    place = "/.well-known/oauth-authorization-server"
    assert exchange.gateway.request("GET", place, {}, b"").json["issuer"] == URL
    assert exchange.gateway.request("GET", f"{place}/unknown", {}, b"").status == 404


def test_every_endpoint_that_the_metadata_names_is_served(exchange: Exchange) -> None:
    """IUA-10, SMART-1: none of them is unknown to the gateway."""
    said = exchange.gateway.request("GET", "/fhir/.well-known/smart-configuration", {}, b"").json
    for name, url in said.items():
        if name.endswith(("_endpoint", "jwks_uri")):
            found = [exchange.gateway.request(m, url.removeprefix(URL), {}, b"").status for m in ("GET", "POST")]
            assert found != [404, 404], name


def test_the_transactions_of_the_metadata_are_those_of_the_routes() -> None:
    """SMART-1: each that a route is opened by, and no other."""
    served: set[str] = set()
    for spec in FUNCTIONS:
        if isinstance(spec.trigger, Http) and not spec.trigger.public:
            for route in importlib.import_module(f"functions.{spec.name}.handler").handler.routes:
                served |= set(route.permission.transactions if route.permission else ())
    served |= set(messages.TRANSACTIONS)  # of messages it is for each to say
    assert {each for each in SCOPES_SUPPORTED if "/" not in each} == served


def test_the_registration_of_a_client_is_not_in_its_tokens(exchange: Exchange) -> None:
    """Keys, secrets and what it may be granted stay where they are."""
    part = token(exchange, "system/*.rs").split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    known = wiring.clients().find("hospital-a")
    assert known is not None
    assert claims.keys() <= {
        *("iss", "sub", "client_id", "aud", "jti", "iat", "exp", "scope"),
        *("organisation", "role", "domain", "professional", "patient"),
    }
