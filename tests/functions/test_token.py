"""The token endpoint, the keys and the discovery document (contract: SMART-1 to SMART-4, IUA-4, IUA-5)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from functions.token.handler import handler
from passerelle import wiring
from passerelle.access import Scopes
from passerelle.authorization.service import MAX_SCOPE_CHARACTERS
from tests.registered import FHIR_URL, ROOT, TOKEN_URL, System, key_of, services

LONE = "\ud800"  # half a character: legal JSON, and nothing that could be stored
EC, RSA = System(), System(id="hospital-b", algorithm="RS384", scope="system/*.rs")


@pytest.fixture(autouse=True, scope="module")
def _services() -> Iterator[None]:
    with services():
        yield


@pytest.fixture(autouse=True)
def _registered(_services: None) -> None:
    wiring.clients().register(EC.client)
    wiring.clients().register(RSA.client)


@pytest.fixture
def environment() -> Iterator[pytest.MonkeyPatch]:
    """Changes of the environment, which wiring reads again before and after."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch
    wiring.reset()


def called(method: str, path: str, body: str | None = None, **changes: Any) -> dict[str, Any]:
    event: dict[str, Any] = {
        "httpMethod": method,
        "resource": path,
        "path": path,
        "headers": {"content-type": "application/x-www-form-urlencoded"},
        "body": body,
        "isBase64Encoded": False,
        "requestContext": {"requestId": "r-1", "path": f"/v1{path}", "domainName": "api.example"},
    }
    return handler(event | changes, None)


def asked(form: Mapping[str, str], **changes: Any) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    answer = called("POST", "/oauth2/token", **({"body": urlencode(form)} | changes))
    assert answer["headers"]["Cache-Control"] == "no-store"
    assert answer["headers"]["Pragma"] == "no-cache"
    assert answer["headers"]["Content-Type"] == "application/json"
    return answer["statusCode"], json.loads(answer["body"]), answer["headers"]


def refused(form: Mapping[str, str], status: int, error: str) -> dict[str, Any]:
    got, body, _ = asked(form)
    assert (got, body["error"]) == (status, error)
    assert "access_token" not in body
    return body


def seconds_from_now(seconds: float) -> int:
    return int(datetime.now(UTC).timestamp() + seconds)


@pytest.mark.parametrize("system", [pytest.param(EC, id="SMART-2-ES384"), pytest.param(RSA, id="SMART-2-RS384")])
def test_a_registered_system_gets_a_token(system: System) -> None:
    status, body, _ = asked(system.form())
    assert status == 200
    assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
    assert body["token_type"] == "Bearer"
    assert body["expires_in"] == 300
    assert Scopes.parse(body["scope"]) == Scopes.parse(system.scope)


def test_the_token_says_who_for_whom_and_for_how_long() -> None:
    """IUA-5."""
    facts = {"domain": "urn:oid:2.999.1", "professional": "810003461033", "patient": "s|v"}
    wiring.clients().register(System(registration=facts).client)
    _, body, _ = asked(EC.form(scope="ITI-65"))
    keys = KeySet.import_key_set(json.loads(called("GET", "/oauth2/jwks")["body"]))
    token = jwt.decode(body["access_token"], keys, algorithms=["ES256"])
    assert token.header["typ"] == "at+jwt"
    claims = token.claims
    assert claims["exp"] - claims["iat"] == 300
    assert abs(claims["iat"] - datetime.now(UTC).timestamp()) < 10
    assert claims.pop("jti")
    del claims["iat"], claims["exp"]
    assert claims == {
        "iss": ROOT,
        "aud": FHIR_URL,
        "sub": "hospital-a",
        "client_id": "hospital-a",
        "scope": "ITI-65",
        "organisation": "1754567860",
        "role": "hospital",
        **facts,
    }


def test_two_tokens_have_two_ids() -> None:
    tokens = {asked(EC.form())[1]["access_token"] for _ in range(2)}
    assert len(tokens) == 2


def encoded(part: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def alg_none() -> str:
    claims = {"iss": EC.id, "sub": EC.id, "aud": TOKEN_URL, "jti": "1", "exp": seconds_from_now(60)}
    return f"{encoded({'alg': 'none', 'kid': EC.key.kid})}.{encoded(claims)}."


def hs256() -> str:
    """Signed with the public key as if it were a shared secret."""
    claims = {"iss": RSA.id, "sub": RSA.id, "aud": TOKEN_URL, "jti": "1", "exp": seconds_from_now(60)}
    message = f"{encoded({'alg': 'HS256', 'kid': RSA.key.kid})}.{encoded(claims)}"
    mac = hmac.new(RSA.key.as_pem(private=False), message.encode(), hashlib.sha256).digest()
    return f"{message}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


ASSERTIONS: Mapping[str, Callable[[], str]] = {
    "SMART-3-exp-over-5-minutes-ahead": lambda: EC.assertion(exp=seconds_from_now(310)),
    "SMART-3-exp-past": lambda: EC.assertion(exp=seconds_from_now(-1)),
    "SMART-3-exp-missing": lambda: EC.assertion(exp=None),
    "SMART-3-iss-not-sub": lambda: EC.assertion(sub="hospital-b"),
    "SMART-3-iss-missing": lambda: EC.assertion(iss=None),
    "SMART-3-iss-of-another-client": lambda: EC.assertion(iss="hospital-b", sub="hospital-b"),
    "SMART-3-unknown-client": lambda: System(id="nobody").assertion(),
    "SMART-3-client-id-is-no-id": lambda: EC.assertion(iss="x" * 4000, sub="x" * 4000),
    "SMART-3-client-id-is-no-text": lambda: f"{encoded({'alg': 'ES384'})}.{encoded({'iss': LONE})}.AAAA",
    "SMART-3-aud-not-token-url": lambda: EC.assertion(aud=FHIR_URL),
    "SMART-3-aud-missing": lambda: EC.assertion(aud=None),
    "SMART-3-aud-of-two-servers": lambda: EC.assertion(aud=[TOKEN_URL, "https://other.example/token"]),
    "SMART-3-jti-missing": lambda: EC.assertion(jti=None),
    "SMART-3-nbf-ahead": lambda: EC.assertion(nbf=seconds_from_now(60)),
    "SMART-3-iat-ahead": lambda: EC.assertion(iat=seconds_from_now(60)),
    "SMART-3-kid-missing": lambda: EC.assertion(header={"kid": None}),
    "SMART-3-kid-unknown": lambda: EC.assertion(header={"kid": "other"}),
    "SMART-3-typ-not-JWT": lambda: EC.assertion(header={"typ": "at+jwt"}),
    "SMART-3-jku-not-registered": lambda: EC.assertion(header={"jku": "https://evil.example/jwks"}),
    "SMART-3-alg-none": alg_none,
    "SMART-3-HS256-with-public-key": hs256,
    "SMART-3-ES256": lambda: System(algorithm="ES256").assertion(),
    "SMART-3-signed-by-another-key": lambda: System(id="hospital-a", algorithm="RS384").assertion(
        header={"kid": EC.key.kid}
    ),
    "SMART-3-garbage": lambda: "garbage",
    "SMART-3-too-long": lambda: EC.assertion(extra="x" * 9000),
}


@pytest.mark.parametrize("name", ASSERTIONS)
def test_a_faulty_assertion_is_refused_without_a_hint(name: str) -> None:
    body = refused(EC.form(client_assertion=ASSERTIONS[name]()), 401, "invalid_client")
    assert body == {"error": "invalid_client", "error_description": "client authentication failed"}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"client_assertion": None}, id="IUA-4-no-assertion"),
        pytest.param({"client_assertion_type": None}, id="IUA-4-no-assertion-type"),
        pytest.param({"client_assertion_type": "saml2-bearer"}, id="IUA-4-other-assertion-type"),
        pytest.param({"client_id": "hospital-b"}, id="SMART-3-client-id-of-another"),
        pytest.param(
            {"client_assertion": None, "client_assertion_type": None, "client_id": "a", "client_secret": "b"},
            id="IUA-4-wrong-secret",
        ),
    ],
)
def test_a_system_that_does_not_prove_itself_is_refused(changes: dict[str, str | None]) -> None:
    form = EC.form() | changes
    sent = {name: value for name, value in form.items() if value is not None}
    body = refused(sent, 401, "invalid_client")
    assert body["error_description"] == "client authentication failed"


def test_a_kid_that_two_registered_keys_carry_is_refused() -> None:
    """SMART-3 kid ambiguous."""
    keys = tuple({**key_of(kind).as_dict(private=False), "kid": "same"} for kind in ("ES384", "RS384"))
    wiring.clients().register(System(registration={"jwks": keys}).client)
    refused(EC.form(client_assertion=EC.assertion(header={"kid": "same"})), 401, "invalid_client")


def test_an_assertion_is_good_for_one_token() -> None:
    """SMART-3 jti replayed."""
    form = EC.form()
    assert asked(form)[0] == 200
    refused(form, 401, "invalid_client")
    again = EC.form(client_assertion=EC.assertion(jti="same"))
    assert asked(again)[0] == 200
    refused(EC.form(client_assertion=EC.assertion(jti="same", iat=0)), 401, "invalid_client")


def test_a_registered_jku_is_accepted_and_not_fetched() -> None:
    """SMART-3 jku."""
    url = "https://hospital-a.example/jwks"
    wiring.clients().register(System(registration={"jwks_url": url}).client)
    assert asked(EC.form(client_assertion=EC.assertion(header={"jku": url})))[0] == 200


def test_an_inactive_client_is_refused_as_an_unknown_one() -> None:
    wiring.clients().deactivate("hospital-a")
    refused(EC.form(), 401, "invalid_client")


def test_typ_may_be_absent_and_clocks_may_differ_by_seconds() -> None:
    good = [
        EC.assertion(header={"typ": None}),
        EC.assertion(exp=seconds_from_now(303)),
        EC.assertion(iat=seconds_from_now(3)),
    ]
    assert [asked(EC.form(client_assertion=each))[0] for each in good] == [200] * 3


@pytest.mark.parametrize(
    "scope",
    [
        pytest.param("system/*.cruds ITI-68", id="SMART-4-transaction-beyond"),
        pytest.param("user/Observation.r", id="SMART-4-other-context"),
        pytest.param("system/Observation", id="IUA-4-malformed"),
        pytest.param("everything", id="IUA-4-unknown"),
        pytest.param(None, id="SMART-4-none"),
        pytest.param(" ", id="SMART-4-blank"),
        pytest.param(" ".join(["ITI-65"] * 400), id="SMART-4-too-long"),
    ],
)
def test_a_scope_beyond_the_registration_is_refused(scope: str | None) -> None:
    refused(EC.form(scope=scope), 400, "invalid_scope")


def test_a_narrower_scope_than_registered_is_granted() -> None:
    _, body, _ = asked(RSA.form(scope="system/Observation.r system/Patient.rs"))
    assert body["scope"] == "system/Observation.r system/Patient.rs"


def test_the_longest_scope_still_fits_what_kms_signs() -> None:
    kinds = (f"system/{'A' * 10}{chr(97 + n // 26)}{chr(97 + n % 26)}.cruds" for n in range(200))
    scope = ""
    for kind in kinds:
        if len(scope) + len(kind) + 1 > MAX_SCOPE_CHARACTERS:
            break
        scope = f"{scope} {kind}".strip()
    facts = {"domain": "urn:oid:" + "1." * 40 + "1", "professional": "8" * 12, "patient": "s" * 60}
    longest = System(id="h" * 64, registration=facts)
    wiring.clients().register(longest.client)
    status, body, _ = asked(longest.form(scope=scope))
    assert status == 200
    assert len(body["access_token"].rpartition(".")[0]) <= 4096


@pytest.mark.parametrize(
    ("form", "error"),
    [
        pytest.param({"grant_type": "password"}, "unsupported_grant_type", id="IUA-4-unknown-grant"),
        pytest.param({"grant_type": None}, "invalid_request", id="no-grant"),
        pytest.param({"grant_type": ""}, "invalid_request", id="empty-grant"),
    ],
)
def test_other_grants_are_refused(form: dict[str, str | None], error: str) -> None:
    refused(EC.form(**form), 400, error)


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        pytest.param(415, {"headers": {"Content-Type": "application/json"}}, id="GEN-3-json"),
        pytest.param(415, {"headers": None}, id="GEN-3-none"),
        pytest.param(413, {"body": "a=" + "x" * 20_000}, id="GEN-3-oversized"),
        pytest.param(400, {"body": "grant_type=client_credentials&grant_type=x"}, id="repeated"),
        pytest.param(400, {"body": "&".join(f"p{n}=1" for n in range(50))}, id="many-fields"),
        pytest.param(400, {"body": "grant_type=%ff"}, id="not-utf-8"),
        pytest.param(400, {"body": "%%%", "isBase64Encoded": True}, id="not-base64"),
        pytest.param(400, {"body": None}, id="no-body"),
    ],
)
def test_a_request_that_is_no_form_is_refused(status: int, changes: dict[str, Any]) -> None:
    got, body, _ = asked(EC.form(), **changes)
    assert (got, body["error"]) == (status, "invalid_request")


def test_parameters_in_the_url_do_not_count() -> None:
    query = {name: [value] for name, value in EC.form().items()}
    got, body, _ = asked({}, multiValueQueryStringParameters=query)
    assert (got, body["error"]) == (400, "invalid_request")


def test_a_base64_body_is_a_form_too() -> None:
    body = base64.b64encode(urlencode(EC.form()).encode()).decode()
    assert asked({}, body=body, isBase64Encoded=True)[0] == 200


def test_the_discovery_document_is_json_whatever_is_asked() -> None:
    """SMART-1."""
    for accept in ("application/fhir+xml", "text/html"):
        answer = called("GET", "/fhir/.well-known/smart-configuration", headers={"Accept": accept})
        assert answer["statusCode"] == 200
        assert answer["headers"]["Content-Type"] == "application/json"
    said = json.loads(answer["body"])
    assert said["issuer"] == ROOT
    assert said["token_endpoint"] == TOKEN_URL
    assert said["jwks_uri"] == f"{ROOT}/oauth2/jwks"
    assert said["grant_types_supported"] == ["client_credentials", "authorization_code"]
    assert said["token_endpoint_auth_methods_supported"] == ["private_key_jwt", "client_secret_basic"]
    assert said["token_endpoint_auth_signing_alg_values_supported"] == ["RS384", "ES384"]
    assert {"client-confidential-asymmetric", "permission-v2"} <= set(said["capabilities"])
    assert Scopes.parse(" ".join(said["scopes_supported"]))


def test_without_a_public_url_the_api_speaks_under_its_own_name(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PUBLIC_URL", "")
    wiring.reset()
    said = json.loads(called("GET", "/fhir/.well-known/smart-configuration")["body"])
    assert said["token_endpoint"] == "https://api.example/v1/oauth2/token"


def test_a_dependency_that_fails_is_a_server_error_and_no_token(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = secrets.token_hex(8)
    form = EC.form(client_assertion=EC.assertion(jti=secret))
    environment.setenv("OPERATIONS_TABLE", "absent")
    wiring.reset()
    got, body, _ = asked(form)
    assert (got, body) == (500, {"error": "server_error"})
    (logged,) = (str(vars(record)) for record in caplog.records if record.name == "passerelle-token")
    assert "Fault" in logged
    assert secret not in logged
    assert form["client_assertion"] not in logged


def test_a_refusal_is_logged_with_our_words_only(caplog: pytest.LogCaptureFixture) -> None:
    refused(EC.form(client_assertion=EC.assertion(iss="pasteur", sub="pasteur")), 401, "invalid_client")
    (logged,) = (str(vars(record)) for record in caplog.records if record.name == "passerelle-token")
    assert "unknown or inactive client" in logged
    assert "pasteur" not in logged


def test_routes_are_data_for_the_gateway() -> None:
    assert {(route.method, route.gateway_path) for route in handler.routes} == {
        ("POST", "/oauth2/token"),
        ("POST", "/oauth2/revoke"),
        ("POST", "/oauth2/introspect"),
        ("GET", "/oauth2/introspect"),
        ("GET", "/oauth2/jwks"),
        ("GET", "/.well-known/oauth-authorization-server"),
        ("GET", "/fhir/.well-known/smart-configuration"),
    }
