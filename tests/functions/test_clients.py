"""Registered systems at the authorization server, and what becomes of their tokens.

Contract IUA-1, -4, -5, -9, -10, SMART-2, -3, PCF-11 (the side of the token).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from passerelle import wiring
from passerelle.api.app import _caller
from passerelle.authorization.model import Party
from passerelle.authorization.secrets import new_secret
from passerelle.authorization.service import Endpoints
from passerelle.aws.dynamodb import measure
from tests.authorization import basic, called, certificate_of, let_in
from tests.registered import FHIR_URL, ROOT, System, services

SECRET, KEPT = new_secret()
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
PROFESSIONS = "https://mos.esante.gouv.fr/NOS/TRE_G15-ProfessionSante/FHIR/TRE-G15-ProfessionSante"
SYSTEM = System()
OFFICE = System(id="office", registration={"secrets": (KEPT,), "jwks": (), "purposes": ("TREAT", "HRESCH")})
DESK = System(id="desk", registration={"names_professionals": True, "purposes": ("TREAT", "BTG")})


@pytest.fixture(autouse=True, scope="module")
def _services() -> Iterator[None]:
    with services():
        yield


@pytest.fixture(autouse=True)
def _registered(_services: None) -> None:
    for system in (SYSTEM, OFFICE, DESK):
        wiring.clients().register(system.client)


def claims_of(text: str) -> dict[str, Any]:
    part = text.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def token_of(system: System, *, certificate: str | None = None, **claims: Any) -> str:
    form = system.form(client_assertion=system.assertion(**claims), scope="ITI-67")
    status, body, _ = called("POST", "/oauth2/token", form, certificate=certificate)
    assert status == 200, body
    return str(body["access_token"])


def refusal(form: dict[str, str], **shown: Any) -> tuple[int, str]:
    status, body, _ = called("POST", "/oauth2/token", form, **shown)
    assert "access_token" not in body
    return status, body["error"]


# --- secrets ----------------------------------------------------------------------------------------------------------

BY_SECRET = {"grant_type": "client_credentials", "scope": "ITI-67", "resource": FHIR_URL}


def test_an_id_and_a_secret_give_a_token() -> None:
    """IUA-1."""
    status, body, headers = called("POST", "/oauth2/token", BY_SECRET, authorization=basic("office", SECRET))
    assert (status, body["token_type"], body["scope"]) == (200, "Bearer", "ITI-67")
    assert (headers["Cache-Control"], headers["Pragma"]) == ("no-store", "no-cache")
    claims = claims_of(body["access_token"])
    assert {"iss", "sub", "client_id", "aud", "jti", "exp", "iat", "scope"} <= claims.keys()  # IUA-5
    assert claims["exp"] - claims["iat"] == 300
    assert let_in(body["access_token"]) is not None


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(basic("office", "wrong"), id="IUA-4-wrong-secret"),
        pytest.param(basic("office", ""), id="no-secret"),
        pytest.param(basic("nobody", SECRET), id="unknown-client"),
        pytest.param(basic("hospital-a", SECRET), id="client-without-secrets"),
        pytest.param(basic("\N{CYRILLIC SMALL LETTER O}ffice", SECRET), id="confusable-id"),
        pytest.param(basic("office\u0000", SECRET), id="id-with-nul"),
        pytest.param(basic("office", "x" * 10_000), id="huge-secret"),
        pytest.param("Basic !!!", id="not-base64"),
        pytest.param("Basic " + base64.b64encode(b"office").decode(), id="no-colon"),
        pytest.param("Basic " + base64.b64encode(b"\xff:x").decode(), id="not-utf-8"),
        pytest.param("Negotiate abc", id="other-scheme"),
        pytest.param("Bearer abc", id="bearer"),
    ],
)
def test_whatever_is_wrong_with_a_secret_is_one_answer(authorization: str) -> None:
    status, body, headers = called("POST", "/oauth2/token", BY_SECRET, authorization=authorization)
    assert (status, body) == (401, {"error": "invalid_client", "error_description": "client authentication failed"})
    assert headers["WWW-Authenticate"] == 'Basic realm="passerelle"'


def test_a_secret_in_the_form_or_beside_an_assertion_counts_for_nothing() -> None:
    in_form = BY_SECRET | {"client_id": "office", "client_secret": SECRET}
    assert refusal(in_form) == (401, "invalid_client")
    assert refusal(SYSTEM.form(), authorization=basic("office", SECRET)) == (401, "invalid_client")
    another = BY_SECRET | {"client_id": "hospital-a"}
    assert refusal(another, authorization=basic("office", SECRET)) == (401, "invalid_client")


def test_passwords_of_people_are_no_grant() -> None:
    form = {"grant_type": "password", "username": "u", "password": "p"}
    assert refusal(form, authorization=basic("office", SECRET)) == (400, "unsupported_grant_type")


@pytest.mark.parametrize("resource", ["https://other.example/fhir", f"{ROOT}/oauth2/token", "fhir"])
def test_a_token_for_another_resource_is_not_given(resource: str) -> None:
    shown = basic("office", SECRET)
    assert refusal(BY_SECRET | {"resource": resource}, authorization=shown) == (400, "invalid_target")


def test_two_secrets_are_good_while_one_replaces_the_other() -> None:
    now = datetime.now(UTC)
    successor, kept = new_secret()
    wiring.clients().add_secret("office", kept, old_until=now + timedelta(hours=1), at=now)
    for each in (SECRET, successor):
        assert called("POST", "/oauth2/token", BY_SECRET, authorization=basic("office", each))[0] == 200
    third, kept = new_secret()
    wiring.clients().add_secret("office", kept, old_until=now, at=now)
    for each in (SECRET, successor):
        assert refusal(BY_SECRET, authorization=basic("office", each)) == (401, "invalid_client")
    assert called("POST", "/oauth2/token", BY_SECRET, authorization=basic("office", third))[0] == 200
    wiring.clients().drop_secrets("office")
    assert refusal(BY_SECRET, authorization=basic("office", third)) == (401, "invalid_client")


def test_no_secret_is_stored() -> None:
    assert SECRET not in str(boto3.client("dynamodb").scan(TableName=wiring.table_names().operations)["Items"])


def test_scopes_of_people_are_not_for_a_system_alone() -> None:
    wiring.clients().register(System(scope="user/*.rs system/*.rs").client)
    assert refusal(SYSTEM.form(scope="user/Observation.rs")) == (400, "invalid_scope")


# --- what an assertion says beyond who signed it ----------------------------------------------------------------------

PURPOSE = {"purpose_of_use": [{"system": ACT_REASON, "code": "TREAT"}]}
DOCTOR = {
    "subject_name": "Dr Claire Fontaine",
    "subject_role": [{"system": PROFESSIONS, "code": "10"}],
    "national_provider_identifier": "810003461033",
    "subject_organization_id": "urn:oid:1.2.250.1.71.4.2.2|1754567860",
    **PURPOSE,
}
CONSENT = {
    "patient_id": "279035121518989^^^&1.2.250.1.213.1.4.10&ISO",
    "doc_id": [f"{FHIR_URL}/Consent/c1"],
    "acp": "https://exchange.example/policies/basic",
    "residual": [
        {"type": "forbid"},
        {
            "type": "permit",
            "dataPeriod": {"start": "2026-01-01"},
            "securityLabel": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "N"}],
            "data": [{"meaning": "instance", "reference": {"reference": "DocumentReference/1"}}],
        },
    ],
}


def test_a_system_names_its_professional_and_purpose_and_narrows_its_token() -> None:
    """IUA-5, PCF-11: what is said reaches the functions, and the token says it in the terms of the guides."""
    text = token_of(DESK, extensions={"ihe_iua": DOCTOR, "ihe_pcf": CONSENT})
    told = claims_of(text)["extensions"]
    assert told["ihe_iua"]["subject_name"] == "Dr Claire Fontaine"
    assert told["ihe_iua"]["purpose_of_use"] == [{"system": ACT_REASON, "code": "TREAT"}]
    assert told["ihe_pcf"]["residual"] == CONSENT["residual"]
    context = let_in(text)
    assert context is not None
    assert all(isinstance(value, str) for value in context.values())
    caller = _caller({"requestContext": {"authorizer": context}})
    assert (caller.professional, caller.profession, caller.purpose) == ("810003461033", "10", "TREAT")
    assert (caller.name, caller.organisation) == ("Dr Claire Fontaine", "1754567860")
    assert caller.limits is not None
    assert caller.limits.patient == "urn:oid:1.2.250.1.213.1.4.10|279035121518989"
    assert caller.limits.consents == {f"{FHIR_URL}/Consent/c1"}
    assert list(caller.limits.residual) == CONSENT["residual"]


@pytest.mark.parametrize(
    ("said", "patient"),
    [
        ({"ihe_pcf": {"patient_id": f"{FHIR_URL}/Patient/7q2k9c4m1xw8z0ab"}}, "Patient/7q2k9c4m1xw8z0ab"),
        ({"ihe_pcf": {"patient_id": "urn:oid:1.2|3"}}, "urn:oid:1.2|3"),
        ({"ihe_iua": {"person_id": "3^^^&1.2&ISO"}}, "urn:oid:1.2|3"),
    ],
)
def test_a_token_is_bound_to_one_person(said: dict[str, Any], patient: str) -> None:
    context = let_in(token_of(SYSTEM, extensions=said))
    assert context is not None
    assert json.loads(context["limits"]) == {"patient_id": patient}


BEYOND: dict[str, tuple[System, Any]] = {
    "a-professional-of-a-client-that-names-none": (
        SYSTEM,
        {"ihe_iua": {"national_provider_identifier": "810003461033"}},
    ),
    "no-identifier-of-a-professional": (DESK, {"ihe_iua": {"national_provider_identifier": "x' OR 1=1"}}),
    "another-organisation": (DESK, {"ihe_iua": DOCTOR | {"subject_organization_id": "1990000011"}}),
    "a-purpose-beyond-the-registration": (
        DESK,
        {"ihe_iua": {"purpose_of_use": [{"system": ACT_REASON, "code": "HRESCH"}]}},
    ),
    "a-purpose-of-another-system": (DESK, {"ihe_iua": {"purpose_of_use": [{"system": "urn:x", "code": "TREAT"}]}}),
    "two-professions": (
        DESK,
        {"ihe_iua": DOCTOR | {"subject_role": [{"system": PROFESSIONS, "code": c} for c in "12"]}},
    ),
    "a-name-over-two-lines": (DESK, {"ihe_iua": DOCTOR | {"subject_name": "a\nb"}}),
    "two-patients": (DESK, {"ihe_iua": {"person_id": "4^^^&1.2&ISO"}, "ihe_pcf": CONSENT}),
    "no-patient": (DESK, {"ihe_pcf": {"residual": []}}),
    "a-residual-of-another-type": (DESK, {"ihe_pcf": CONSENT | {"residual": [{"type": "deny"}]}}),
    "a-residual-with-an-unknown-member": (DESK, {"ihe_pcf": CONSENT | {"residual": [{"type": "forbid", "actor": []}]}}),
    "many-residuals": (DESK, {"ihe_pcf": CONSENT | {"residual": [{"type": "forbid"}] * 21}}),
    "an-unknown-extension": (DESK, {"other": {}}),
    "not-an-object": (DESK, [1]),
    "too-long": (DESK, {"ihe_pcf": CONSENT | {"doc_id": [f"Consent/{'c' * 60}{n}" for n in range(40)]}}),
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_beyond_the_registration_or_not_understood_is_refused(name: str) -> None:
    system, said = BEYOND[name]
    form = system.form(client_assertion=system.assertion(extensions=said))
    assert refusal(form) == (400, "invalid_request")


def test_the_only_purpose_of_a_client_is_its_purpose() -> None:
    wiring.clients().register(System(registration={"purposes": ("HRESCH",)}).client)
    context = let_in(token_of(SYSTEM))
    assert context is not None
    assert context["purpose"] == "HRESCH"


# --- introspection and revocation -------------------------------------------------------------------------------------

MONITOR = System(id="monitor", registration={"introspects": True})


def introspected(text: str, **shown: Any) -> tuple[int, dict[str, Any]]:
    wiring.clients().register(MONITOR.client)
    form = {"token": text} | ({} if shown else MONITOR.form())
    status, body, headers = called("POST", "/oauth2/introspect", form, **shown)
    assert headers["Cache-Control"] == "no-store"
    return status, body


def test_a_good_token_is_told_with_its_claims() -> None:
    """IUA-9."""
    text = token_of(SYSTEM)
    status, body = introspected(text)
    assert (status, body["active"], body["client_id"], body["scope"]) == (200, True, "hospital-a", "ITI-67")
    assert {name: body[name] for name in claims_of(text)} == claims_of(text)


def test_a_resource_server_introspects_with_a_token_of_its_own() -> None:
    """IUA-9: ITI-102 asks for bearer tokens."""
    wiring.clients().register(MONITOR.client)
    own, text = token_of(MONITOR), token_of(SYSTEM)
    assert introspected(text, authorization=f"Bearer {own}")[1]["active"] is True
    assert introspected(text, authorization=f"Bearer {text}")[0] == 401
    assert introspected(text, authorization="Bearer garbage")[0] == 401


def test_of_a_token_that_is_not_good_nothing_is_told() -> None:
    """IUA-9: unknown, expired, revoked: one answer."""
    past = datetime.now(UTC) - timedelta(minutes=6)
    assertion = SYSTEM.assertion(exp=int(past.timestamp()) + 60)
    service, endpoints = wiring.authorization_service(), Endpoints(root=ROOT)
    expired = service.issue(SYSTEM.form(client_assertion=assertion), at=past, endpoints=endpoints).access_token
    revoked = token_of(SYSTEM)
    form = SYSTEM.form() | {"token": revoked}
    assert called("POST", "/oauth2/revoke", form)[0] == 200
    for text in (expired, revoked, "unknown", SYSTEM.assertion()):
        assert introspected(text) == (200, {"active": False})


def test_who_is_not_entitled_is_told_nothing() -> None:
    """IUA-9."""
    text = token_of(SYSTEM)
    status, body, _ = called("POST", "/oauth2/introspect", SYSTEM.form() | {"token": text})
    assert (status, body["error"]) == (401, "invalid_client")
    status, body, _ = called("POST", "/oauth2/introspect", {"token": text})
    assert (status, body["error"]) == (401, "invalid_client")


def test_introspection_by_get_is_not_offered() -> None:
    """IUA-9."""
    status, _, headers = called("GET", "/oauth2/introspect")
    assert (status, headers["Allow"]) == (405, "POST")


def test_a_client_ends_its_own_tokens_and_no_others() -> None:
    mine, others = token_of(SYSTEM), token_of(DESK)
    for text in (mine, others, mine, "garbage"):
        status, body, _ = called("POST", "/oauth2/revoke", SYSTEM.form() | {"token": text})
        assert (status, body) == (200, {})
    assert let_in(mine) is None
    assert let_in(others) is not None
    assert called("POST", "/oauth2/revoke", {"token": others})[0] == 401
    assert called("POST", "/oauth2/revoke", SYSTEM.form())[0] == 400


@pytest.mark.parametrize(
    "party", [Party(kind="professional", id="810003461033"), Party(kind="organisation", id="1754567860")]
)
def test_whoever_is_barred_is_out_at_the_next_request_whichever_system_acts_for_them(party: Party) -> None:
    text, another = token_of(DESK, extensions={"ihe_iua": DOCTOR}), token_of(SYSTEM)
    with measure() as meter:
        assert let_in(text) is not None
    assert meter.calls == ["BatchGetItem"]
    wiring.clients().bar(party, at=datetime.now(UTC))
    assert let_in(text) is None
    assert (let_in(another) is None) == (party.kind == "organisation")
    wiring.clients().readmit(party)
    assert let_in(text) is not None
    stored = boto3.client("dynamodb").scan(TableName=wiring.table_names().operations)["Items"]
    assert not any(party.id in item["PK"]["S"] for item in stored)


# --- keys of the exchange ---------------------------------------------------------------------------------------------


def test_a_new_key_signs_and_tokens_of_the_old_one_are_good_until_they_expire() -> None:
    old = token_of(SYSTEM)
    new_key = boto3.client("kms").create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    (known,) = wiring.environment().token_key_ids
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKEN_KEY_IDS", f"{known} {new_key}")  # published before it signs
        wiring.reset()
        assert len(called("GET", "/oauth2/jwks")[1]["keys"]) == 2
        patch.setenv("TOKEN_KEY_IDS", f"{new_key} {known}")
        wiring.reset()
        new = token_of(SYSTEM)
        assert [let_in(each) is not None for each in (old, new)] == [True, True]
        kids = [jwk["kid"] for jwk in called("GET", "/oauth2/jwks")[1]["keys"]]
        header = json.loads(base64.urlsafe_b64decode(new.split(".")[0] + "=="))
        assert header["kid"] == kids[0]
        assert len(set(kids)) == 2
        patch.setenv("TOKEN_KEY_IDS", new_key)
        wiring.reset()
        assert [let_in(each) is not None for each in (old, new)] == [False, True]
    wiring.reset()


# --- certificates -----------------------------------------------------------------------------------------------------


def test_a_token_works_over_the_certificate_that_it_was_given_over() -> None:
    """RFC 8705: a token that is stolen is of no use without the key of the certificate."""
    mine, thumbprint = certificate_of("mine")
    other, _ = certificate_of("other")
    text = token_of(SYSTEM, certificate=mine)
    assert claims_of(text)["cnf"] == {"x5t#S256": thumbprint}
    assert let_in(text, certificate=mine) is not None
    assert let_in(text, certificate=other) is None
    assert let_in(text) is None


def test_a_client_with_certificates_proves_nothing_without_one_of_them() -> None:
    mine, thumbprint = certificate_of("mine")
    other, _ = certificate_of("other")
    unbound = token_of(SYSTEM)
    bound = System(registration={"certificates": frozenset({thumbprint})})
    wiring.clients().register(bound.client)
    for shown in (None, other):
        assert refusal(SYSTEM.form(), certificate=shown) == (401, "invalid_client")
    assert let_in(unbound) is None
    assert let_in(unbound, certificate=mine) is None
    assert let_in(token_of(SYSTEM, certificate=mine), certificate=mine) is not None


# --- metadata ---------------------------------------------------------------------------------------------------------


def test_the_metadata_of_the_server() -> None:
    """IUA-10."""
    status, said, headers = called("GET", "/.well-known/oauth-authorization-server")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert said["issuer"] == ROOT
    assert said["authorization_endpoint"] == f"{ROOT}/oauth2/authorize"
    assert said["token_endpoint"] == f"{ROOT}/oauth2/token"
    assert said["jwks_uri"] == f"{ROOT}/oauth2/jwks"
    assert said["introspection_endpoint"] == f"{ROOT}/oauth2/introspect"
    assert said["response_types_supported"] == ["code"]
    assert {"client_credentials", "authorization_code"} <= set(said["grant_types_supported"])
    assert "client_secret_basic" in said["token_endpoint_auth_methods_supported"]
    assert "Bearer" in said["introspection_endpoint_auth_methods_supported"]
    assert said["access_token_format"] == "ihe-jwt"


def test_both_documents_say_the_same() -> None:
    server = called("GET", "/.well-known/oauth-authorization-server")[1]
    smart = called("GET", "/fhir/.well-known/smart-configuration")[1]
    shared = server.keys() & smart.keys()
    assert {name: server[name] for name in shared} == {name: smart[name] for name in shared}
    assert server.keys() - smart.keys() == {"access_token_format"}


def test_revoked_tokens_are_forgotten_when_they_would_have_expired() -> None:
    clients, at = wiring.clients(), datetime.now(UTC)
    for number in range(55):
        clients.revoke("desk", f"t{number}", expires_at=at + timedelta(minutes=5), at=at)
    later = at + timedelta(minutes=6)
    for number in range(2):
        clients.revoke("desk", f"u{number}", expires_at=later + timedelta(minutes=5), at=later)
    found = clients.find("desk")
    assert found is not None
    assert set(found.revoked) == {"u0", "u1"}
    assert replace(found, revoked={}) == DESK.client
