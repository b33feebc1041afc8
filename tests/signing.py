"""Certificates and signatures for tests: an authority, signers below it, documents that they sign."""

from __future__ import annotations

import base64
import json
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey
from lxml import etree
from signxml.xades import XAdESSigner

from passerelle.documents.contents.signatures import canonical

FROM = datetime(2025, 1, 1, tzinfo=UTC)
UNTIL = datetime(2036, 1, 1, tzinfo=UTC)

_DS = "{http://www.w3.org/2000/09/xmldsig#}"

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Identity:
    key: Key
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> str:
        return base64.b64encode(self.certificate.public_bytes(Encoding.DER)).decode()

    @property
    def private(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@cache
def authority(name: str = "Autorité d'essai") -> Identity:
    return _issued(name, ec.generate_private_key(ec.SECP256R1()), None)


@cache
def signer(kind: str = "P-256") -> Identity:
    """A signer of the authority, with a key of a kind: P-256, P-384, RSA-2048, RSA-1024."""
    if kind.startswith("P-"):
        curve = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}[kind]
        return _issued("Dr Signataire", ec.generate_private_key(curve), authority())
    return _issued("Dr Signataire", rsa.generate_private_key(65537, int(kind[4:])), authority())


def _issued(name: str, key: Key, by: Identity | None) -> Identity:
    subject = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "FR"), x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_key = by.key if by else key
    is_authority = by is None
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=not is_authority,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(FROM)
        .not_valid_after(UNTIL - timedelta(days=0 if is_authority else 30))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not is_authority:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.RFC822Name("signataire@example.org")]), critical=False
        )
    return Identity(key, builder.sign(issuer_key, hashes.SHA256()))


class _Signer(XAdESSigner):
    """signxml leaves out how it canonicalised the properties, and takes another way when it verifies."""

    def _add_reference_to_signed_info(self, sig_root: Any, node_to_reference: Any, **attrs: Any) -> None:
        super()._add_reference_to_signed_info(sig_root, node_to_reference, **attrs)
        reference = sig_root.findall(f".//{_DS}Reference")[-1]
        transforms = etree.Element(f"{_DS}Transforms")
        etree.SubElement(transforms, f"{_DS}Transform", Algorithm=self.c14n_alg.value)
        reference.insert(0, transforms)


def signed_xml(document: bytes, by: Identity | None = None, **options: Any) -> bytes:
    """The document with a XAdES signature in its root element."""
    who = by or signer()
    algorithm = "ecdsa-sha256" if isinstance(who.key, ec.EllipticCurvePrivateKey) else "rsa-sha256"
    tool = _Signer(
        **{"signature_algorithm": algorithm, "c14n_algorithm": "http://www.w3.org/2001/10/xml-exc-c14n#"} | options
    )
    return bytes(etree.tostring(tool.sign(etree.fromstring(document), key=who.key, cert=[who.certificate])))


def signed_bundle(bundle: dict[str, Any], by: Identity | None = None, **header: Any) -> dict[str, Any]:
    """The Bundle with a detached JWS over its canonical form."""
    who = by or signer()
    is_ec = isinstance(who.key, ec.EllipticCurvePrivateKey)
    said = {"alg": "ES256" if is_ec else "RS256", "x5c": [who.der], "iat": 1_780_000_000} | header
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weak keys, which are what some tests are about
        key = (ECKey if is_ec else RSAKey).import_key(who.private)
    registry = jws.JWSRegistry(algorithms=[said["alg"]], strict_check_header=False)
    compact = jws.serialize_compact(said, canonical(json.loads(json.dumps(bundle))), key, registry=registry)
    protected, _, signature = compact.split(".")
    return with_signature(bundle, f"{protected}..{signature}")


def with_signature(bundle: dict[str, Any], compact: str) -> dict[str, Any]:
    return bundle | {
        "signature": {
            "type": [{"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.1"}],
            "when": "2026-05-28T22:26:40Z",
            "who": {"display": "Dr Signataire"},
            "sigFormat": "application/jose",
            "data": base64.b64encode(compact.encode()).decode(),
        }
    }
