"""The Lambda authorizer: who gets in, what is left of who does not (GEN-13, IUA-6, -7, BALP-7, -10)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc import jwt

from functions.authorize.handler import handler
from passerelle import wiring
from passerelle.access import Caller, Scopes, Touched
from passerelle.api.app import Call, FhirApp, Reply
from passerelle.authorization.service import Endpoints
from passerelle.aws.audit import record_from_item
from passerelle.aws.dynamodb import from_attributes, measure
from passerelle.aws.tokens import KmsTokenKey
from passerelle.errors import Unavailable
from tests.registered import FHIR_URL, ROOT, TOKEN_URL, System, key_of, services

ARN = "arn:aws:execute-api:eu-west-3:123456789012:abc123/v1/GET/fhir/Patient"
FACTS = {"domain": "urn:oid:2.999.1", "professional": "810003461033", "patient": "urn:oid:1.2|3"}
SYSTEM = System(registration=FACTS)


@pytest.fixture(autouse=True, scope="module")
def _services() -> Iterator[None]:
    with services():
        yield


@pytest.fixture(autouse=True)
def _registered(_services: None) -> None:
    wiring.clients().register(SYSTEM.client)


def token(*, age: timedelta = timedelta(0), root: str = ROOT) -> str:
    """An access token issued some time ago, or by an exchange at another place."""
    at = datetime.now(UTC) - age
    assertion = SYSTEM.assertion(exp=int(at.timestamp()) + 60, aud=f"{root}/oauth2/token")
    form = SYSTEM.form(client_assertion=assertion)
    service = wiring.authorization_service()
    return service.issue(form, at=at, endpoints=Endpoints(root=root)).access_token


def claims_of(text: str) -> dict[str, Any]:
    part = text.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def signed_here(claims: Mapping[str, Any]) -> str:
    """A token with the signature of the exchange over claims it would not make."""
    key = KmsTokenKey(wiring.aws("kms"), wiring.environment().token_key_ids)
    return key.sign({**claims_of(token()), **claims})


def event(headers: Mapping[str, str]) -> dict[str, Any]:
    return {
        "type": "REQUEST",
        "methodArn": ARN,
        "resource": "/fhir/Patient",
        "path": "/fhir/Patient",
        "httpMethod": "GET",
        "headers": dict(headers),
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "requestContext": {"requestId": "request-1", "path": "/v1/fhir/Patient", "domainName": "api.example"},
    }


def asked(headers: Mapping[str, str]) -> dict[str, Any]:
    return handler(event(headers), None)


def bearing(text: str) -> dict[str, Any]:
    return asked({"Authorization": f"Bearer {text}"})


def effect(answer: Mapping[str, Any]) -> str:
    (statement,) = answer["policyDocument"]["Statement"]
    assert statement["Action"] == "execute-api:Invoke"
    assert statement["Resource"] == "arn:aws:execute-api:eu-west-3:123456789012:abc123/v1/*/*"
    return str(statement["Effect"])


def audit_records() -> list[Any]:
    items = boto3.client("dynamodb").scan(TableName=wiring.table_names().audit)["Items"]
    return [record_from_item(from_attributes(item), wiring.table_names()) for item in items]


def seen_by_a_function(context: Mapping[str, str]) -> Caller:
    """The caller that a route gets when API Gateway hands on this context."""
    callers: list[Caller] = []
    app = FhirApp("probe", provide=wiring.audit)

    @app.interaction("Basic", "read")
    def read(call: Call, wired: Any) -> Reply:
        callers.append(call.request.caller)
        return Reply(body=None, touched=Touched())

    request = event({}) | {"path": "/fhir/Basic/1"}
    request["requestContext"]["authorizer"] = dict(context)
    assert app(request, None)["statusCode"] == 200
    return callers[0]


def test_a_good_token_becomes_the_caller_that_functions_see() -> None:
    """IUA-6 ES256."""
    text = token()
    answer = bearing(text)
    assert effect(answer) == "Allow"
    assert answer["principalId"] == "hospital-a"
    assert all(isinstance(value, str) for value in answer["context"].values())
    assert answer["context"]["exp"] == str(claims_of(text)["exp"])
    caller = seen_by_a_function(answer["context"])
    assert caller.client_id == "hospital-a"
    assert caller.organisation == "1754567860"
    assert caller.role == "hospital"
    assert caller.scopes == Scopes.parse(SYSTEM.scope)
    assert caller.token_id == claims_of(text)["jti"]
    assert {"domain": caller.domain, "professional": caller.professional, "patient": caller.patient} == FACTS


def test_what_the_exchange_does_not_know_of_a_client_is_absent() -> None:
    wiring.clients().register(System().client)
    assert not set(FACTS) & set(bearing(token())["context"])


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_header_and_scheme_are_case_insensitive(name: str, scheme: str) -> None:
    assert effect(asked({name: f"{scheme} {token()}"})) == "Allow"


def test_an_allowed_call_costs_one_read_and_no_audit_record() -> None:
    text = token()
    before = len(audit_records())
    with measure() as meter:
        bearing(text)
    assert meter.calls == ["BatchGetItem"]
    assert len(audit_records()) == before


def edited() -> str:
    head, payload, signature = token().split(".")
    claims = claims_of(f"{head}.{payload}") | {"scope": "system/*.cruds"}
    return f"{head}.{encoded(json.dumps(claims).encode())}.{signature}"


def foreign(**header: Any) -> str:
    """The right claims under the signature of another key."""
    key = key_of("ES256")
    (published,) = wiring.authorization_service().public_keys()
    head = {"alg": "ES256", "typ": "at+jwt", "kid": published["kid"]} | header
    head = {name: value for name, value in head.items() if value is not None}
    return jwt.encode(head, claims_of(token()), key, algorithms=["ES256"], default_type=None)


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def signed_as(typ: str | None) -> str:
    """A token of another type under the signature of the exchange: its key might come to sign others."""
    (published,) = wiring.authorization_service().public_keys()
    head = {"alg": "ES256", "kid": published["kid"]} | ({"typ": typ} if typ else {})
    message = f"{encoded(json.dumps(head).encode())}.{token().split('.')[1]}"
    answer = wiring.aws("kms").sign(
        KeyId=wiring.environment().token_key_ids[0],
        Message=message.encode(),
        MessageType="RAW",
        SigningAlgorithm="ECDSA_SHA_256",
    )
    r, s = decode_dss_signature(answer["Signature"])
    return f"{message}.{encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def unsigned() -> str:
    (published,) = wiring.authorization_service().public_keys()
    head = json.dumps({"alg": "none", "typ": "at+jwt", "kid": published["kid"]})
    return f"{encoded(head.encode())}.{token().split('.')[1]}."


def revoked() -> str:
    text = token()
    now = datetime.now(UTC)
    later = now + timedelta(minutes=5)
    wiring.clients().revoke("hospital-a", claims_of(text)["jti"], expires_at=later, at=now)
    return text


def deactivated() -> str:
    text = token()
    wiring.clients().deactivate("hospital-a")
    return text


def in_seconds(seconds: int) -> int:
    return int(datetime.now(UTC).timestamp()) + seconds


BAD: Mapping[str, Callable[[], str]] = {
    "GEN-13-garbage": lambda: "garbage",
    "GEN-13-two-tokens": lambda: f"{token()} {token()}",
    "GEN-13-wrong-aud": lambda: signed_here({"aud": TOKEN_URL}),
    "IUA-7-alg-none": unsigned,
    "IUA-7-edited-payload": edited,
    "IUA-7-signed-by-another-key": foreign,
    "IUA-7-unknown-kid": lambda: foreign(kid="unknown"),
    "IUA-7-no-kid": lambda: foreign(kid=None),
    "IUA-7-key-in-the-header": lambda: foreign(jwk=key_of("ES256").as_dict(private=False)),
    "IUA-7-an-assertion-is-no-access-token": lambda: SYSTEM.assertion(aud=FHIR_URL),
    "IUA-7-typ-JWT": lambda: signed_as("JWT"),
    "IUA-7-typ-none": lambda: signed_as(None),
    "IUA-7-nbf-ahead": lambda: signed_here({"nbf": in_seconds(60)}),
    "IUA-7-iat-ahead": lambda: signed_here({"iat": in_seconds(60)}),
    "IUA-7-other-iss": lambda: signed_here({"iss": "https://other.example"}),
    "IUA-7-other-exchange": lambda: token(root="https://other.example"),
    "IUA-7-no-exp": lambda: signed_here({"exp": None}),
    "IUA-7-no-jti": lambda: signed_here({"jti": ""}),
    "IUA-7-revoked-jti": revoked,
    "IUA-7-deactivated-client": deactivated,
    "IUA-7-unknown-client": lambda: signed_here({"client_id": "nobody"}),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_token_is_refused_and_the_refusal_recorded(name: str) -> None:
    """BALP-7 with each."""
    text = BAD[name]()
    before = {record.id for record in audit_records()}
    answer = bearing(text)
    assert effect(answer) == "Deny"
    assert answer["principalId"] == "unknown"
    assert answer["context"] == {
        "issue": "security",
        "challenge": 'Bearer realm="passerelle", error="invalid_token"',
    }
    (record,) = (record for record in audit_records() if record.id not in before)
    assert (record.outcome, record.reason, record.client_id, record.patient) == ("4", "security", "", None)
    assert record.request_id == "request-1"


def test_an_expired_token_is_refused_as_such_and_its_owner_recorded() -> None:
    """GEN-13 and IUA-7 expired: to the second, without leeway."""
    assert effect(bearing(token(age=timedelta(seconds=298)))) == "Allow"
    before = {record.id for record in audit_records()}
    text = token(age=timedelta(seconds=300))
    answer = bearing(text)
    assert effect(answer) == "Deny"
    assert answer["context"]["issue"] == "expired"
    assert answer["context"]["challenge"] == 'Bearer realm="passerelle", error="invalid_token"'
    (record,) = (record for record in audit_records() if record.id not in before)
    assert (record.outcome, record.reason, record.client_id) == ("4", "expired", "hospital-a")
    assert record.token_id == claims_of(text)["jti"]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="GEN-13-no-token"),
        pytest.param({"Authorization": "Basic YTpi"}, id="GEN-13-basic"),
        pytest.param({"Authorization": "Bearer "}, id="GEN-13-empty"),
        pytest.param({"Authorization": ""}, id="GEN-13-blank"),
        pytest.param({"X-Authorization": "Bearer x"}, id="GEN-13-other-header"),
    ],
)
def test_no_token_is_told_from_a_bad_one(headers: dict[str, str]) -> None:
    answer = asked(headers)
    assert effect(answer) == "Deny"
    assert answer["context"] == {"issue": "login", "challenge": 'Bearer realm="passerelle"'}


def test_a_token_in_the_url_or_in_a_second_header_does_not_count() -> None:
    text = token()
    in_url = event({}) | {"queryStringParameters": {"access_token": text}}
    assert effect(handler(in_url, None)) == "Deny"
    twice = event({}) | {"multiValueHeaders": {"authorization": [f"Bearer {text}", f"Bearer {text}"]}}
    assert effect(handler(twice, None)) == "Deny"


def test_an_event_with_single_headers_only_is_read_too() -> None:
    single = event({"Authorization": f"Bearer {token()}"}) | {"multiValueHeaders": None}
    assert effect(handler(single, None)) == "Allow"


@pytest.mark.parametrize("table", ["OPERATIONS_TABLE", "AUDIT_TABLE"])
def test_what_cannot_be_checked_or_recorded_is_no_answer(table: str, caplog: pytest.LogCaptureFixture) -> None:
    """BALP-10: API Gateway lets nobody in when the authorizer fails."""
    text = token()
    bad = text if table == "OPERATIONS_TABLE" else edited()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(table, "absent")
        wiring.reset()
        with pytest.raises(Unavailable) as failure:
            bearing(bad)
    wiring.reset()
    assert failure.value.__cause__ is None
    assert failure.value.__context__ is None
    assert text not in str([vars(record) for record in caplog.records])
