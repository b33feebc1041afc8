"""The keys of access tokens in KMS: signing there, the public halves here.

Of several keys the first signs, and tokens of all are good: so a key is replaced without a token that fails.

KMS developer guide: `Sign` with MessageType RAW takes at most 4096 bytes and gives an ECDSA signature in DER;
a JWS wants r and s as 32 bytes each (RFC 7518 section 3.4). The public keys are read once per process.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc.jwk import ECKey

from passerelle.authorization.model import Jwk
from passerelle.aws.dynamodb import aws_errors, count, in_parallel

_COORDINATE_BYTES = 32  # P-256


class KmsTokenKey:
    """`authorization.ports.TokenKey` on KMS keys of spec ECC_NIST_P256 for SIGN_VERIFY, the signing one first."""

    def __init__(self, kms: Any, key_ids: Sequence[str]) -> None:
        self._kms = kms
        self._key_ids = tuple(key_ids)

    def sign(self, claims: Mapping[str, Any]) -> str:
        header = {"alg": "ES256", "typ": "at+jwt", "kid": self._public[0]["kid"]}
        message = f"{_encoded_json(header)}.{_encoded_json(claims)}"
        count("Sign")
        with aws_errors():
            answer = self._kms.sign(
                KeyId=self._key_ids[0],
                Message=message.encode(),
                MessageType="RAW",
                SigningAlgorithm="ECDSA_SHA_256",
            )
        r, s = decode_dss_signature(answer["Signature"])
        raw = r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")
        return f"{message}.{_encoded(raw)}"

    def public_keys(self) -> Sequence[Jwk]:
        return self._public

    @cached_property
    def _public(self) -> Sequence[dict[str, Any]]:
        return in_parallel(*(partial(self._read, key_id) for key_id in self._key_ids))

    def _read(self, key_id: str) -> dict[str, Any]:
        count("GetPublicKey")
        with aws_errors():
            der = self._kms.get_public_key(KeyId=key_id)["PublicKey"]
        key = ECKey.import_key(der)
        return {**key.as_dict(private=False), "kid": key.thumbprint(), "use": "sig", "alg": "ES256"}


def _encoded_json(value: Mapping[str, Any]) -> str:
    return _encoded(json.dumps(value, separators=(",", ":")).encode())


def _encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
