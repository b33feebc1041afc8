"""The key of access tokens in KMS: signing there, the public half here.

KMS developer guide: `Sign` with MessageType RAW takes at most 4096 bytes and gives an ECDSA signature in DER;
a JWS wants r and s as 32 bytes each (RFC 7518 section 3.4). The public key is read once per process.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc.jwk import ECKey

from passerelle.authorization.model import Jwk
from passerelle.aws.dynamodb import aws_errors, count

_COORDINATE_BYTES = 32  # P-256


class KmsTokenKey:
    """`authorization.ports.TokenKey` on a KMS key of spec ECC_NIST_P256 for SIGN_VERIFY."""

    def __init__(self, kms: Any, key_id: str) -> None:
        self._kms = kms
        self._key_id = key_id

    def sign(self, claims: Mapping[str, Any]) -> str:
        header = {"alg": "ES256", "typ": "at+jwt", "kid": self._public["kid"]}
        message = f"{_encoded_json(header)}.{_encoded_json(claims)}"
        count("Sign")
        with aws_errors():
            answer = self._kms.sign(
                KeyId=self._key_id,
                Message=message.encode(),
                MessageType="RAW",
                SigningAlgorithm="ECDSA_SHA_256",
            )
        r, s = decode_dss_signature(answer["Signature"])
        raw = r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")
        return f"{message}.{_encoded(raw)}"

    def public_keys(self) -> Sequence[Jwk]:
        return (self._public,)

    @cached_property
    def _public(self) -> dict[str, Any]:
        count("GetPublicKey")
        with aws_errors():
            der = self._kms.get_public_key(KeyId=self._key_id)["PublicKey"]
        key = ECKey.import_key(der)
        return {**key.as_dict(private=False), "kid": key.thumbprint(), "use": "sig", "alg": "ES256"}


def _encoded_json(value: Mapping[str, Any]) -> str:
    return _encoded(json.dumps(value, separators=(",", ":")).encode())


def _encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
