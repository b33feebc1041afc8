"""Registered clients that hold their private keys, and the services of `wiring` on moto without a stack."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from moto import mock_aws

from passerelle import wiring
from passerelle.access import Scopes
from passerelle.authorization.model import Client
from passerelle.aws.tables import TABLES
from passerelle.directory.model import Role
from tests.medicines import small_artefact
from tests.quick_moto import quicken

ROOT = "https://exchange.example"
TOKEN_URL = f"{ROOT}/oauth2/token"
FHIR_URL = f"{ROOT}/fhir"


@contextmanager
def services(emulator: str = "") -> Iterator[None]:
    """Tables, token key and index secret on moto, or on the emulator with this URL, and `wiring` made for them."""
    quicken()
    with mock_aws() if not emulator else nullcontext(), pytest.MonkeyPatch.context() as patch:
        if emulator:
            patch.setenv("AWS_ENDPOINT_URL", emulator)
        dynamodb = boto3.client("dynamodb")
        for table in TABLES:
            patch.setenv(table.variable, table.name)
            dynamodb.create_table(
                TableName=table.name,
                KeySchema=[
                    {"AttributeName": "PK", "KeyType": "HASH"},
                    {"AttributeName": "SK", "KeyType": "RANGE"},
                ],
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("PK", "SK")],
                BillingMode="PAY_PER_REQUEST",
            )
        key = boto3.client("kms").create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
        secret = boto3.client("secretsmanager").create_secret(Name="index", SecretString=secrets.token_hex(32))
        patch.setenv("STAGE", "dev")
        patch.setenv("TOKEN_KEY_IDS", key["KeyMetadata"]["KeyId"])
        patch.setenv("INDEX_SECRET_ARN", secret["ARN"])
        patch.setenv("PUBLIC_URL", ROOT)
        patch.setenv("RETENTION_DAYS", "0")
        patch.setenv("HOLD_UNTIL_SCANNED", "false")
        patch.setenv("DOCUMENT_OPTIONS", "relations folders")
        patch.setenv("UPLOADS_BUCKET", "none")
        patch.setenv("UPLOAD_MAX_BYTES", str(2**30))
        patch.setenv("IMPLICIT_POLICY", "basic-normal")
        patch.setenv("OPENID_PROVIDERS", "[]")
        patch.setenv("HOME_COMMUNITY_ID", "urn:oid:2.999.1000")
        patch.setenv("LEDGER_SHARDS", "4")
        patch.setenv("KNOWLEDGE_BASE", str(small_artefact()))
        patch.setenv("CDS_SERVICE_URL", "")
        patch.setenv("CDS_SERVICE_SECRET", "")
        for name in ("MAIL_SENDER", "SMS_SENDER", "MSSANTE", "WEBHOOK_CERTIFICATE"):
            patch.setenv(name, "")
        patch.setenv("PARTNER_QUEUES", "[]")
        for name in ("ANCHORS_BUCKET", "ANCHOR_KEY_ID", "SEALS_QUEUE_URL"):
            patch.setenv(name, "none")
        for name in ("DOCUMENTS_BUCKET", "EVENT_BUS", "DELIVERIES_QUEUE_URL"):
            patch.setenv(name, "none")
        wiring.reset()
        yield
    wiring.reset()


def empty(table: str) -> None:
    """Delete every item: much faster than another `services()` for each test."""
    dynamodb = boto3.client("dynamodb")
    for item in dynamodb.scan(TableName=table)["Items"]:
        dynamodb.delete_item(TableName=table, Key={name: item[name] for name in ("PK", "SK")})


@cache
def key_of(kind: str) -> ECKey | RSAKey:
    """One key of each kind for all tests: making RSA keys is slow."""
    if kind == "RS384":
        return RSAKey.generate_key(2048, {"kid": "rsa-1"})
    return ECKey.generate_key({"ES384": "P-384", "ES256": "P-256"}[kind], {"kid": f"{kind.lower()}-1"})


@dataclass(frozen=True, kw_only=True)
class System:
    """A client with its private key, of the kind of `algorithm`."""

    id: str = "hospital-a"
    algorithm: str = "ES384"
    role: Role = Role.HOSPITAL
    scope: str = "system/*.cruds ITI-65 ITI-67"
    registration: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> ECKey | RSAKey:
        return key_of(self.algorithm)

    @property
    def client(self) -> Client:
        known: dict[str, Any] = {
            "id": self.id,
            "organisation": "1754567860",
            "role": self.role,
            "scopes": Scopes.parse(self.scope),
            "jwks": (self.key.as_dict(private=False),),
        }
        return Client(**{**known, **self.registration})

    def assertion(self, *, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """A good assertion but for what is given; a claim or header member given as None is left out."""
        said = {
            "iss": self.id,
            "sub": self.id,
            "aud": TOKEN_URL,
            "jti": secrets.token_hex(8),
            "exp": int(datetime.now(UTC).timestamp()) + 240,
        } | claims
        head = {"alg": self.algorithm, "typ": "JWT", "kid": self.key.kid} | dict(header or {})
        return jwt.encode(
            {name: value for name, value in head.items() if value is not None},
            {name: value for name, value in said.items() if value is not None},
            self.key,
            algorithms=[self.algorithm],
            default_type=None,
        )

    def form(self, **changes: str | None) -> dict[str, str]:
        """A good token request but for the parameters given; None leaves one out."""
        parameters = {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": changes.get("client_assertion") or self.assertion(),
            "scope": self.scope,
        } | changes
        return {name: value for name, value in parameters.items() if value is not None}
