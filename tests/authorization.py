"""Calls of the functions `token` and `authorize` as API Gateway makes them, for tests of clients and tokens."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import quote_plus, urlencode

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from functions.authorize.handler import handler as authorize
from functions.token.handler import handler as token

ARN = "arn:aws:execute-api:eu-west-3:123456789012:abc123/v1/GET/fhir/Patient"
FORM = "application/x-www-form-urlencoded"


def basic(client_id: str, secret: str) -> str:
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _context(path: str, certificate: str | None) -> dict[str, Any]:
    identity = {"clientCert": {"clientCertPem": certificate}} if certificate else {}
    return {"requestId": "r-1", "path": f"/v1{path}", "domainName": "api.example", "identity": identity}


def called(
    method: str,
    path: str,
    form: Mapping[str, str] | None = None,
    *,
    authorization: str | None = None,
    certificate: str | None = None,
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers of a call of the authorization server."""
    headers = {"content-type": FORM} | ({"Authorization": authorization} if authorization else {})
    event = {
        "httpMethod": method,
        "resource": path,
        "path": path,
        "headers": headers,
        "body": urlencode(form) if form is not None else None,
        "isBase64Encoded": False,
        "requestContext": _context(path, certificate),
    }
    answer = token(event, None)
    return answer["statusCode"], json.loads(answer["body"]), answer["headers"]


def let_in(text: str, *, certificate: str | None = None) -> dict[str, str] | None:
    """The context that a token gives a function; None if the authorizer refuses it."""
    headers = {"Authorization": f"Bearer {text}"}
    event = {
        "type": "REQUEST",
        "methodArn": ARN,
        "path": "/fhir/Patient",
        "httpMethod": "GET",
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "requestContext": _context("/fhir/Patient", certificate),
    }
    answer = authorize(event, None)
    (statement,) = answer["policyDocument"]["Statement"]
    return dict(answer["context"]) if statement["Effect"] == "Allow" else None


@cache
def certificate_of(name: str) -> tuple[str, str]:
    """A certificate in PEM, and its thumbprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    day = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(day)
        .not_valid_after(day + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    digest = hashlib.sha256(made.public_bytes(serialization.Encoding.DER)).digest()
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    return pem, base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
