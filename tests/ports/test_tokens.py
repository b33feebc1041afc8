"""Access tokens signed by KMS."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from passerelle import wiring
from passerelle.aws.dynamodb import measure
from passerelle.aws.tokens import KmsTokenKey
from passerelle.errors import Fault
from tests.registered import services


@pytest.fixture(scope="module", autouse=True)
def _services() -> Iterator[None]:
    with services():
        yield


@pytest.fixture
def key() -> KmsTokenKey:
    return KmsTokenKey(boto3.client("kms"), wiring.environment().token_key_ids)


def test_a_token_verifies_with_the_published_key(key: KmsTokenKey) -> None:
    published = KeySet.import_key_set({"keys": [dict(jwk) for jwk in key.public_keys()]})
    for number in range(20):  # r and s have leading zeros now and then
        token = jwt.decode(key.sign({"n": number}), published, algorithms=["ES256"])
        assert token.claims == {"n": number}
        assert token.header["typ"] == "at+jwt"


def test_the_published_key_is_public_and_named_by_its_thumbprint(key: KmsTokenKey) -> None:
    (jwk,) = key.public_keys()
    assert "d" not in jwk
    assert jwk["kid"] == ECKey.import_key({name: jwk[name] for name in ("kty", "crv", "x", "y")}).thumbprint()
    assert (jwk["crv"], jwk["alg"], jwk["use"]) == ("P-256", "ES256", "sig")


def test_the_public_key_is_read_once(key: KmsTokenKey) -> None:
    with measure() as meter:
        key.sign({})
        key.sign({})
        key.public_keys()
    assert meter.calls == ["GetPublicKey", "Sign", "Sign"]


def test_a_key_that_does_not_exist_signs_nothing(key: KmsTokenKey) -> None:
    unusable = KmsTokenKey(boto3.client("kms"), ("00000000-0000-0000-0000-000000000000",))
    with pytest.raises(Fault):
        unusable.sign({})
