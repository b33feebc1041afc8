"""What a signed token has to be before a word of it is believed (RFC 7515, RFC 7519, RFC 8725)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt

from passerelle.authorization.model import BadTokenError, ExpiredTokenError
from passerelle.authorization.signatures import MAX_TOKEN_CHARACTERS, SignedToken
from tests.registered import key_of

AT = datetime(2026, 1, 14, 9, 30, tzinfo=UTC)
NOW = int(AT.timestamp())
ALGORITHMS = frozenset({"ES384", "RS384"})
CLAIMS = {"iss": "a", "sub": "a", "aud": "b", "jti": "1", "exp": NOW + 60}


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def signed(algorithm: str, claims: dict[str, Any] | None = None, **header: Any) -> str:
    key = key_of(algorithm)
    head = {"alg": algorithm, "kid": key.kid} | header
    return jwt.encode(head, claims or CLAIMS, key, algorithms=[algorithm])


def public(*algorithms: str) -> list[dict[str, Any]]:
    return [key_of(each).as_dict(private=False) for each in algorithms]


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
def test_a_good_signature_passes(algorithm: str) -> None:
    token = SignedToken(signed(algorithm))
    token.verify(public("ES384", "RS384"), algorithms=ALGORITHMS)
    assert token.claims == CLAIMS


def hs256_with_public_key(form: bytes) -> str:
    head = {"alg": "HS256", "kid": key_of("RS384").kid}
    message = f"{encoded(json.dumps(head).encode())}.{encoded(json.dumps(CLAIMS).encode())}"
    return f"{message}.{encoded(hmac.new(form, message.encode(), hashlib.sha256).digest())}"


def unsigned(**header: Any) -> str:
    return f"{encoded(json.dumps(header).encode())}.{encoded(json.dumps(CLAIMS).encode())}."


def edited() -> str:
    head, _, signature = signed("ES384").split(".")
    return f"{head}.{encoded(json.dumps(CLAIMS | {'sub': 'other'}).encode())}.{signature}"


def signed_by_header_key() -> str:
    """Signed well, by the key that the token itself brings along."""
    key = key_of("ES256")
    head = {"alg": "ES256", "kid": key_of("ES384").kid, "jwk": key.as_dict(private=False)}
    return jwt.encode(head, CLAIMS, key, algorithms=["ES256"])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(unsigned(alg="none"), id="none"),
        pytest.param(unsigned(alg="none", kid="es384-1"), id="none-with-kid"),
        pytest.param(unsigned(alg="ES384", kid="es384-1"), id="no-signature"),
        pytest.param(hs256_with_public_key(key_of("RS384").as_pem(private=False)), id="HS256-with-public-key"),
        pytest.param(hs256_with_public_key(key_of("RS384").as_der(private=False)), id="HS256-with-public-der"),
        pytest.param(signed("ES256"), id="key-not-registered"),
        pytest.param(signed("ES256", kid="es384-1"), id="weaker-algorithm-under-a-registered-kid"),
        pytest.param(signed("RS384", kid="es384-1"), id="kid-of-another-key"),
        pytest.param(signed("ES384", kid="unknown"), id="kid-unknown"),
        pytest.param(signed_by_header_key(), id="key-in-the-header"),
        pytest.param(signed("ES384", crit=["kid"]), id="critical-extension"),
        pytest.param(edited(), id="edited-payload"),
        pytest.param(signed("ES384")[:-4] + "AAAA", id="edited-signature"),
    ],
)
def test_forged_tokens_are_refused(text: str) -> None:
    with pytest.raises(BadTokenError):
        SignedToken(text).verify(public("ES384", "RS384"), algorithms=ALGORITHMS)


def test_a_kid_that_two_keys_carry_is_refused() -> None:
    keys = [{**jwk, "kid": "same"} for jwk in public("ES384", "RS384")]
    token = SignedToken(signed("ES384", kid="same"))
    with pytest.raises(BadTokenError):
        token.verify(keys, algorithms=ALGORITHMS)


def test_a_key_of_another_strength_serves_no_algorithm() -> None:
    token = SignedToken(signed("ES256"))
    with pytest.raises(BadTokenError):
        token.verify(public("ES256"), algorithms=ALGORITHMS)


_HEADERS = [
    b"{}",
    b"[]",
    b"null",
    b'"alg"',
    b'["alg"]',
    b'{"alg":5}',
    b'{"alg":"ES384","crit":5}',
    b"\xff",
    b"{",
]
_PAYLOADS = [b"[]", b"5", b"", b"[" * 2000, b'{"exp":' + b"9" * 5000 + b"}", b"\xff\xfe"]


@pytest.mark.parametrize("head", _HEADERS)
@pytest.mark.parametrize("payload", [b"{}", *_PAYLOADS])
def test_malformed_parts_are_refused_in_the_same_way(head: bytes, payload: bytes) -> None:
    with pytest.raises(BadTokenError):
        SignedToken(f"{encoded(head)}.{encoded(payload)}.AAAA").verify(public("ES384"), algorithms=ALGORITHMS)


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
def test_any_text_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(BadTokenError):
        SignedToken(text).verify(public("ES384"), algorithms=ALGORITHMS)


def test_a_token_that_is_too_long_is_not_read() -> None:
    with pytest.raises(BadTokenError):
        SignedToken(signed("ES384", CLAIMS | {"extra": "x" * MAX_TOKEN_CHARACTERS}))


def check(**claims: Any) -> None:
    said = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    token = SignedToken(signed("ES384", said))
    token.check_claims(issuer="a", subject="a", audience="b", at=AT, leeway_seconds=5)


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"aud": ["b"]},
        {"iat": NOW, "nbf": NOW - 10},
        {"iat": NOW + 5},
        {"exp": NOW + 1},
        {"exp": NOW + 0.5},
    ],
)
def test_claims_of_a_good_token_pass(claims: dict[str, Any]) -> None:
    check(**claims)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "c"},
        {"iss": None},
        {"sub": "c"},
        {"sub": ["a"]},
        {"aud": "c"},
        {"aud": None},
        {"aud": ["b", "c"]},
        {"jti": None},
        {"jti": ""},
        {"jti": " "},
        {"jti": 5},
        {"jti": "\ud800"},
        {"nbf": NOW + 6},
        {"iat": NOW + 6},
        {"iat": "now"},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": -1},
        {"exp": 10**400},
    ],
    ids=str,
)
def test_claims_that_do_not_hold_are_refused(claims: dict[str, Any]) -> None:
    said = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    # not through a signer: some of these no signer would write
    head = encoded(json.dumps({"alg": "ES384"}).encode())
    token = SignedToken(f"{head}.{encoded(json.dumps(said).encode())}.AAAA")
    with pytest.raises(BadTokenError) as refused:
        token.check_claims(issuer="a", subject="a", audience="b", at=AT, leeway_seconds=5)
    assert not isinstance(refused.value, ExpiredTokenError)


@pytest.mark.parametrize("exp", [NOW, NOW - 1, 0, NOW - 0.5])
def test_an_expired_token_is_told_from_a_bad_one(exp: float) -> None:
    with pytest.raises(ExpiredTokenError):
        check(exp=exp)
