"""Access tokens of trusted issuers at the authorizer, and every way to forge one (contract IUA-6, IUA-7, IUA-8)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from passerelle import wiring
from passerelle.access import Scopes
from passerelle.authorization.model import Issuer, Party
from passerelle.aws.dynamodb import measure
from passerelle.directory.model import Role
from tests.authorization import let_in
from tests.registered import FHIR_URL, ROOT, System, services

ISSUER = "https://issuer.example"
SYSTEM = System(scope="ITI-67 ITI-68 system/*.rs", registration={"names_professionals": True, "purposes": ("TREAT",)})
UNNAMED = System(id="hospital-b", scope="ITI-67 ITI-68 system/*.rs")
Key = RSAKey | ECKey | OctKey


@cache
def key_of(algorithm: str) -> Key:
    """The key of the issuer for an algorithm; `other` is one that nobody registered."""
    match algorithm:
        case "RS256":
            return RSAKey.generate_key(2048, {"kid": "rsa"})
        case "HS256":
            return OctKey.generate_key(256, {"kid": "shared"})
        case _:
            return ECKey.generate_key("P-256", {"kid": "ec" if algorithm == "ES256" else "other"})


def registered_key(algorithm: str) -> dict[str, Any]:
    return {**key_of(algorithm).as_dict(private=algorithm == "HS256"), "alg": algorithm}


def issuer(**changes: Any) -> Issuer:
    known: dict[str, Any] = {
        "url": ISSUER,
        "jwks": tuple(registered_key(each) for each in ("RS256", "HS256", "ES256")),
        "clients": frozenset({"hospital-a"}),
        "roles": frozenset({Role.HOSPITAL}),
        "scopes": Scopes.parse("ITI-67 system/*.r"),
    }
    return Issuer(**{**known, **changes})


@pytest.fixture(autouse=True, scope="module")
def _services() -> Iterator[None]:
    with services():
        yield


@pytest.fixture(autouse=True)
def _registered(_services: None) -> None:
    wiring.clients().trust(issuer())
    wiring.clients().register(SYSTEM.client)
    wiring.clients().register(UNNAMED.client)


def said(**changes: Any) -> dict[str, Any]:
    now = int(datetime.now(UTC).timestamp())
    claims = {
        "iss": ISSUER,
        "sub": "a-user",
        "client_id": "hospital-a",
        "aud": FHIR_URL,
        "jti": secrets.token_hex(8),
        "iat": now,
        "exp": now + 300,
        "scope": "ITI-67",
    } | changes
    return {name: value for name, value in claims.items() if value is not None}


def signed(algorithm: str = "ES256", *, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
    """A good token but for what is given; None leaves a claim or a header member out."""
    key = key_of(algorithm)
    head = {"alg": algorithm, "typ": "at+jwt", "kid": key.kid} | dict(header or {})
    head = {name: value for name, value in head.items() if value is not None}
    return jwt.encode(head, said(**changes), key, algorithms=[algorithm], default_type=None)


@pytest.mark.parametrize("algorithm", ["RS256", "HS256", "ES256"])
def test_tokens_of_a_trusted_issuer_are_taken(algorithm: str) -> None:
    """IUA-6: what the issuer says, within what is registered here."""
    context = let_in(signed(algorithm))
    assert context is not None
    assert (context["client_id"], context["organisation"], context["role"]) == ("hospital-a", "1754567860", "hospital")
    assert context["scope"] == "ITI-67"
    assert "professional" not in context


def test_an_issuer_names_the_professional_the_purpose_and_the_patient() -> None:
    user = {
        "subject_name": "Dr Jean Roux",
        "national_provider_identifier": "https://rpps.esante.gouv.fr|10003461033",
        "purpose_of_use": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}],
        "person_id": "3^^^&1.2&ISO",
    }
    with measure() as meter:
        context = let_in(signed(extensions={"ihe_iua": user}))
    assert context is not None
    assert (context["professional"], context["purpose"]) == ("810003461033", "TREAT")
    assert json.loads(context["limits"]) == {"patient_id": "urn:oid:1.2|3"}
    assert meter.calls == ["BatchGetItem", "BatchGetItem"]  # whose organisation it is shows in the registration
    wiring.clients().bar(Party(kind="professional", id="810003461033"), at=datetime.now(UTC))
    assert let_in(signed(extensions={"ihe_iua": user})) is None
    wiring.clients().readmit(Party(kind="professional", id="810003461033"))


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def raw(header: str, payload: str, sign: Callable[[bytes], bytes] = lambda _: b"") -> str:
    message = f"{encoded(header.encode())}.{encoded(payload.encode())}"
    return f"{message}.{encoded(sign(message.encode()))}"


def hmac_of(key: bytes) -> Callable[[bytes], bytes]:
    return lambda message: hmac.new(key, message, hashlib.sha256).digest()


def shared(message: bytes) -> bytes:
    return hmac_of(key_of("HS256").get_op_key("sign"))(message)  # type: ignore[arg-type]


def confused(form: bytes, kid: str) -> str:
    """Signed with the public RSA key as if it were a shared secret."""
    return raw(json.dumps({"alg": "HS256", "typ": "at+jwt", "kid": kid}), json.dumps(said()), hmac_of(form))


def edited() -> str:
    head, payload, signature = signed().split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return f"{head}.{encoded(json.dumps(claims | {'scope': 'system/*.r'}).encode())}.{signature}"


def with_raw_header(header: str) -> str:
    return raw(header, json.dumps(said()), shared)


def seconds(ahead: float) -> int:
    return int(datetime.now(UTC).timestamp() + ahead)


def revoked() -> str:
    at = datetime.now(UTC)
    wiring.clients().revoke("hospital-a", "the-id", expires_at=at + timedelta(minutes=5), at=at)
    return signed(jti="the-id")


def distrusted() -> str:
    wiring.clients().distrust(ISSUER)
    return signed()


def unregistered_key() -> str:
    return jwt.encode({"alg": "ES256", "kid": "ec"}, said(), key_of("other"), algorithms=["ES256"])


RSA_PEM = key_of("RS256").as_pem(private=False)  # type: ignore[union-attr]
OTHER_KEY = key_of("other").as_dict(private=False)
PURPOSES = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
ATTACKS: Mapping[str, Callable[[], str]] = {
    "alg-none": lambda: raw(json.dumps({"alg": "none", "typ": "at+jwt", "kid": "ec"}), json.dumps(said())),
    "alg-None": lambda: raw(json.dumps({"alg": "None", "kid": "ec"}), json.dumps(said())),
    "HS256-with-the-RSA-public-key": lambda: confused(RSA_PEM, "rsa"),
    "HS256-with-the-RSA-public-key-under-the-kid-of-the-shared-one": lambda: confused(RSA_PEM, "shared"),
    "HS256-with-an-empty-key": lambda: confused(b"", "shared"),
    "RS384-with-the-key-of-RS256": lambda: jwt.encode(
        {"alg": "RS384", "kid": "rsa"}, said(), key_of("RS256"), algorithms=["RS384"]
    ),
    "unknown-kid": lambda: signed(header={"kid": "unknown"}),
    "no-kid": lambda: signed(header={"kid": None}),
    "kid-of-another-key": lambda: signed(header={"kid": "rsa"}),
    "kid-is-a-path": lambda: signed(header={"kid": "../../../../dev/null"}),
    "kid-is-sql": lambda: signed(header={"kid": "ec' UNION SELECT 'k"}),
    "kid-is-an-object": lambda: with_raw_header('{"alg": "HS256", "kid": {"$ne": ""}}'),
    "kid-is-huge": lambda: signed(header={"kid": "k" * 7000}),
    "another-key-under-the-kid": unregistered_key,
    "key-in-the-header": lambda: jwt.encode(
        {"alg": "ES256", "kid": "other", "jwk": OTHER_KEY}, said(), key_of("other"), algorithms=["ES256"]
    ),
    "jku": lambda: jwt.encode(
        {"alg": "ES256", "kid": "other", "jku": "https://evil.example/jwks"}, said(), key_of("other")
    ),
    "x5u": lambda: jwt.encode(
        {"alg": "ES256", "kid": "other", "x5u": "https://evil.example/x"}, said(), key_of("other")
    ),
    "crit": lambda: with_raw_header('{"alg": "HS256", "kid": "shared", "crit": ["exp"], "exp": 1}'),
    "b64": lambda: with_raw_header('{"alg": "HS256", "kid": "shared", "b64": false}'),
    "alg-twice": lambda: with_raw_header('{"alg": "none", "alg": "HS256", "kid": "shared"}'),
    "claim-twice": lambda: raw(
        '{"alg": "HS256", "kid": "shared"}', json.dumps(said())[:-1] + f', "aud": "{FHIR_URL}"}}', shared
    ),
    "edited-payload": edited,
    "no-signature": lambda: signed().rpartition(".")[0] + ".",
    "nested-JSON": lambda: raw('{"alg": "HS256", "kid": "shared"}', "[" * 3000 + "]" * 3000, shared),
    "a-token-within-the-token": lambda: raw('{"alg": "HS256", "kid": "shared", "cty": "JWT"}', signed(), shared),
    "oversized": lambda: signed(extra="x" * 9000),
    "an-id-token": lambda: signed(header={"typ": "id+jwt"}),
    "nbf-ahead": lambda: signed(nbf=seconds(60)),
    "iat-ahead": lambda: signed(iat=seconds(60)),
    "expired": lambda: signed(exp=seconds(-1)),
    "exp-beyond-an-hour": lambda: signed(exp=seconds(3700)),
    "exp-is-NaN": lambda: raw('{"alg": "HS256", "kid": "shared"}', json.dumps(said(exp=float("nan"))), shared),
    "exp-is-a-text": lambda: signed(exp="9999999999"),
    "no-exp": lambda: signed(exp=None),
    "no-jti": lambda: signed(jti=None),
    "jti-is-huge": lambda: signed(jti="j" * 200),
    "other-aud": lambda: signed(aud="https://other.example/fhir"),
    "two-auds": lambda: signed(aud=[FHIR_URL, "https://other.example/fhir"]),
    "other-iss": lambda: signed(iss="https://other.example"),
    "our-own-iss": lambda: signed(iss=ROOT),
    "iss-with-a-slash": lambda: signed(iss=f"{ISSUER}/"),
    "iss-with-a-look-alike": lambda: signed(
        iss=ISSUER.replace("i", "\N{CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I}")
    ),
    "iss-is-huge": lambda: signed(iss=f"{ISSUER}/{'x' * 4000}"),
    "no-client": lambda: signed(client_id=None),
    "unknown-client": lambda: signed(client_id="nobody"),
    "client-of-a-look-alike": lambda: signed(client_id="hosp\N{CYRILLIC SMALL LETTER I}tal-a"),
    "client-with-a-separator": lambda: signed(client_id="hospital-a#C"),
    "client-that-it-may-not-speak-for": lambda: signed(client_id="hospital-b"),
    "scope-beyond-the-issuer": lambda: signed(scope="ITI-68"),
    "scope-beyond-the-client": lambda: signed(scope="system/*.c"),
    "no-scope": lambda: signed(scope=""),
    "scope-is-a-list": lambda: signed(scope=["ITI-67"]),
    "purpose-beyond-the-client": lambda: signed(
        extensions={"ihe_iua": {"purpose_of_use": [{"system": PURPOSES, "code": "BTG"}]}}
    ),
    "another-organisation": lambda: signed(extensions={"ihe_iua": {"subject_organization_id": "1990000011"}}),
    "bound-to-a-key-of-another-kind": lambda: signed(cnf={"jkt": "x" * 43}),
    "bound-to-a-certificate-that-is-not-shown": lambda: signed(cnf={"x5t#S256": "x" * 43}),
    "revoked-jti": revoked,
    "distrusted-issuer": distrusted,
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused(name: str) -> None:
    """IUA-7."""
    assert let_in(ATTACKS[name]()) is None


def test_a_client_that_is_stopped_is_stopped_for_its_issuers_too() -> None:
    text = signed()
    assert let_in(text) is not None
    wiring.clients().deactivate("hospital-a")
    assert let_in(text) is None


def test_clocks_may_differ_by_seconds() -> None:
    assert let_in(signed(iat=seconds(3), nbf=seconds(3))) is not None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"jwks": ({**registered_key("RS256"), "alg": "HS256"},)}, id="an-RSA-key-for-HS256"),
        pytest.param({"jwks": ({**registered_key("HS256"), "k": "c2VjcmV0"},)}, id="a-short-shared-key"),
        pytest.param({"jwks": (key_of("RS256").as_dict(private=False),)}, id="a-key-without-its-algorithm"),
        pytest.param({"jwks": ({**key_of("ES256").as_dict(private=True), "alg": "ES256"},)}, id="a-private-key"),
        pytest.param({"url": "http://issuer.example"}, id="not-https"),
        pytest.param({"url": ""}, id="no-url"),
    ],
)
def test_a_weak_issuer_is_not_registered(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        issuer(**changes)


def test_an_issuer_speaks_for_roles_that_it_is_trusted_for() -> None:
    wiring.clients().trust(issuer(roles=frozenset({Role.PHARMACY})))
    assert let_in(signed()) is None
