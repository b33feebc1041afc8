"""Registering a client refuses what would weaken it."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc.jwk import RSAKey

from tests.registered import System, key_of

EC = key_of("ES384").as_dict(private=False)


def short_rsa_key() -> dict[str, Any]:
    key = key_of("RS384").as_dict(private=False)
    return {**key, "n": key["n"][:172]}


@pytest.mark.parametrize(
    "registration",
    [
        pytest.param({"jwks": [key_of("ES384").as_dict(private=True)]}, id="private-ec-key"),
        pytest.param({"jwks": [key_of("RS384").as_dict(private=True)]}, id="private-rsa-key"),
        pytest.param({"jwks": [{"kty": "oct", "k": "c2VjcmV0", "kid": "1"}]}, id="shared-secret"),
        pytest.param({"jwks": [{name: EC[name] for name in EC if name != "kid"}]}, id="no-kid"),
        pytest.param({"jwks": [short_rsa_key()]}, id="short-rsa-key"),
        pytest.param({"id": "a#b"}, id="id-with-separator"),
        pytest.param({"id": ""}, id="id-empty"),
        pytest.param({"id": "a" * 65}, id="id-too-long"),
    ],
)
def test_a_weak_registration_is_refused(registration: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        _ = System(registration=registration).client


def test_a_key_of_2048_bits_is_long_enough() -> None:
    assert isinstance(key_of("RS384"), RSAKey)
    assert System(algorithm="RS384").client.jwks
