"""Electronic signatures in documents: XAdES enveloped in XML, JWS over a FHIR document. Verified, or refused.

W3C XML Signature 1.1 and its best practices, ETSI EN 319 132-1 (XAdES); RFC 7515 and ETSI TS 119 182-1 (JAdES) over the
canonical JSON of RFC 8785 (FHIR R4, 2.39: Bundle.signature signs the Bundle without itself). Allowed are SHA-256 to
SHA-512, RSA of 2,048 bits and more, and the NIST curves. One signature, over the whole document: one over a part lets
the rest be exchanged.

That a signature is valid says that the holder of a certificate made it over these bytes. Who stands behind the
certificate is told only by an authority that is trusted: `data/trust/*.pem`. There is no revocation check and no time
authority: the time is the one that the signer claims, and certificates are judged at that time.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from passerelle.documents.contents.times import read_fhir_time

if TYPE_CHECKING:
    from cryptography import x509

_TRUST: Final = Path(__file__).parent.parent / "data" / "trust"
_DS: Final = "{http://www.w3.org/2000/09/xmldsig#}"
_XADES: Final = "{http://uri.etsi.org/01903/v1.3.2#}"
_SIGNED_PROPERTIES: Final = "http://uri.etsi.org/01903#SignedProperties"
_ENVELOPED: Final = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_CANONICAL: Final = frozenset(
    (
        "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
        "http://www.w3.org/2006/12/xml-c14n11",
        "http://www.w3.org/2001/10/xml-exc-c14n#",
    )
)
_MIN_RSA_BITS: Final = 2048
_HASHES: Final = ("SHA256", "SHA384", "SHA512")
_CURVES: Final[Mapping[str, str]] = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA: Final = ("PS256", "PS384", "PS512", "RS256", "RS384", "RS512")
_MAX_CERTIFICATES: Final = 10


class BadSignatureError(Exception):
    """A signature that proves nothing; the text is for the sender."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A verified signature. `signer` is the subject of the certificate (RFC 4514), `signed_at` what the signer says.

    `is_trusted`: the certificate leads to an authority that is trusted here, at that time.
    """

    is_valid: bool
    signer: str
    signed_at: datetime | None
    is_trusted: bool
    format: Literal["XAdES", "JWS"]


def trusted_authorities() -> bytes:
    """The certificates of the authorities that are trusted, as PEM; none until some are added."""
    return _anchors()


def xades_signature(data: bytes, *, trust: bytes) -> Signature:
    """The signature of an XML document, which stands in its root element; raises BadSignatureError."""
    from lxml import etree  # type: ignore[import-untyped]
    from signxml.exceptions import SignXMLException

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(data, parser)
        found = _one_signature(root)
        leaf, others = _certificates(["".join(each.itertext()) for each in found.iter(f"{_DS}X509Certificate")])
        signed_at = read_fhir_time(_text_of(found, "SigningTime"))
        _check_references(root, found)
        _verify_xades(root, found, leaf, signed_at, parser)
    except (
        etree.LxmlError,
        SignXMLException,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        AssertionError,
    ) as error:
        # signxml takes what the schema lets through, and fails in several ways on what it does not expect
        raise BadSignatureError("the signature of the document cannot be verified") from error
    return Signature(
        is_valid=True,
        signer=leaf.subject.rfc4514_string(),
        signed_at=signed_at,
        is_trusted=_is_trusted(leaf, others, signed_at, trust),
        format="XAdES",
    )


def jws_signature(text: str, signed: Any, *, trust: bytes) -> Signature:
    """The signature of a JSON document: `text` is a detached JWS, `signed` the document without it."""
    from passerelle.jws import Detached

    try:
        detached = Detached(text, canonical(signed))
        chain = detached.header.get("x5c")
        if not isinstance(chain, list) or not all(isinstance(each, str) for each in chain):
            raise ValueError("the certificate is not in the signature")
        leaf, others = _certificates(chain)
        if not _is_made_by(detached, leaf):
            raise ValueError("the certificate is not the one of the signature")
    except (ValueError, TypeError) as error:
        raise BadSignatureError("the signature of the document cannot be verified") from error
    signed_at = _jws_time(detached.header)
    return Signature(
        is_valid=True,
        signer=leaf.subject.rfc4514_string(),
        signed_at=signed_at,
        is_trusted=_is_trusted(leaf, others, signed_at, trust),
        format="JWS",
    )


def canonical(value: Any) -> bytes:
    """RFC 8785; raises ValueError for numbers that have no canonical form: a double would change them unseen."""
    import rfc8785

    return rfc8785.dumps(_doubles(value))


# --- XAdES ----------------------------------------------------------------------------------------------------


def _one_signature(root: Any) -> Any:
    """The one signature, a child of the root: whichever a verifier takes, it is this one."""
    found = list(root.iter(f"{_DS}Signature"))
    if len(found) != 1 or found[0].getparent() is not root:
        raise BadSignatureError("a signed document has one signature, in its root element")
    return found[0]


def _check_references(root: Any, signature: Any) -> None:
    """One reference is the whole document without the signature; all others are to parts of the signature.

    Transforms that could leave something out (XPath, XSLT) are not among those that are taken.
    """
    references = signature.findall(f"{_DS}SignedInfo/{_DS}Reference")
    own = {each.get("Id") for each in signature.iter() if each.get("Id")}
    whole = 0
    for reference in references:
        transforms = [each.get("Algorithm") for each in reference.findall(f"{_DS}Transforms/{_DS}Transform")]
        uri = reference.get("URI")
        is_whole = uri == "" or (uri is not None and uri.startswith("#") and root.get("Id") == uri[1:])
        if is_whole:
            whole += 1
            if transforms[:1] != [_ENVELOPED] or not set(transforms[1:]) <= _CANONICAL:
                raise BadSignatureError("the signature is over the whole document, or it is not accepted")
        elif uri is None or uri[1:] not in own or not set(transforms) <= _CANONICAL:
            raise BadSignatureError("the signature is over the whole document, or it is not accepted")
    properties = [each for each in references if each.get("Type") == _SIGNED_PROPERTIES]
    if whole != 1 or len(properties) != 1:
        raise BadSignatureError("the signature is over the whole document, or it is not accepted")


def _verify_xades(root: Any, signature: Any, leaf: x509.Certificate, signed_at: datetime | None, parser: Any) -> None:
    from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
    from signxml.xades.xades import XAdESSignatureConfiguration, XAdESVerifier

    _check_key(leaf)
    methods = [f"RSA_{each}" for each in _HASHES] + [f"ECDSA_{each}" for each in _HASHES]
    methods += [f"{each}_RSA_MGF1" for each in _HASHES]
    config = XAdESSignatureConfiguration(
        location="./",
        expect_references=True,
        signature_methods=frozenset(SignatureMethod[each] for each in methods),
        digest_algorithms=frozenset(DigestAlgorithm[each] for each in _HASHES),
        # W3C XML Signature 1.1, 4.4.3.2: of a reference that names no transform.
        default_reference_c14n_method=CanonicalizationMethod.CANONICAL_XML_1_0,
        # Without a time, any time at which the certificate was valid: what counts then is that it is never trusted.
        verification_time=signed_at or leaf.not_valid_before_utc,
    )
    results = XAdESVerifier().verify(root, x509_cert=leaf, expect_config=config, parser=parser)
    signed = [each.signed_xml for each in results if each.signed_xml is not None and each.signed_xml.tag == root.tag]
    if len(signed) != 1 or signed[0].find(f"{_DS}Signature") is not None:
        raise BadSignatureError("the signature is over the whole document, or it is not accepted")


def _text_of(signature: Any, name: str) -> str | None:
    """The text of a signed property; XAdES is verified to have signed it."""
    path = f"{_DS}Object/{_XADES}QualifyingProperties/{_XADES}SignedProperties/{_XADES}SignedSignatureProperties"
    found = signature.findall(f"{path}/{_XADES}{name}")
    return found[0].text if len(found) == 1 else None


# --- JWS ------------------------------------------------------------------------------------------------------


def _is_made_by(detached: Any, leaf: x509.Certificate) -> bool:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from joserfc.jwk import ECKey, RSAKey

    _check_key(leaf)
    public = leaf.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if isinstance(public, ec.EllipticCurvePublicKey):
        return bool(detached.is_by(ECKey.import_key(pem), _CURVES[public.curve.name]))
    algorithm = detached.header.get("alg")
    return algorithm in _RSA and bool(detached.is_by(RSAKey.import_key(pem), str(algorithm)))


def _jws_time(header: Mapping[str, Any]) -> datetime | None:
    """JAdES has `iat`, and before that `sigT`."""
    seconds = header.get("iat")
    if isinstance(seconds, int) and not isinstance(seconds, bool) and 0 <= seconds < 253_402_300_800:
        return datetime.fromtimestamp(seconds, UTC)
    text = header.get("sigT")
    return read_fhir_time(text) if isinstance(text, str) else None


def _doubles(value: Any) -> Any:
    if isinstance(value, Decimal):
        double = float(value)
        if Decimal(repr(double)) != value:
            raise ValueError("a number has no canonical form")
        return double
    if isinstance(value, Mapping):
        return {name: _doubles(each) for name, each in value.items()}
    return [_doubles(each) for each in value] if isinstance(value, list) else value


# --- certificates ---------------------------------------------------------------------------------------------


def _certificates(texts: Sequence[str]) -> tuple[x509.Certificate, list[x509.Certificate]]:
    """The certificate of the signer, which issued none of the others, and these."""
    from cryptography import x509

    if not 0 < len(texts) <= _MAX_CERTIFICATES:
        raise ValueError("no certificate, or too many")
    try:
        found = [
            x509.load_der_x509_certificate(base64.b64decode("".join(each.split()), validate=True)) for each in texts
        ]
    except binascii.Error as error:
        raise ValueError("a certificate is not base64") from error
    issuers = {each.issuer for each in found if each.issuer != each.subject}
    leaf = next((each for each in found if each.subject not in issuers), found[0])
    return leaf, [each for each in found if each is not leaf]


def _check_key(leaf: x509.Certificate) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    key = leaf.public_key()
    is_strong = (isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS) or (
        isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES
    )
    if not is_strong:
        raise BadSignatureError("the key of the signature is too weak")


def _is_trusted(
    leaf: x509.Certificate, others: Sequence[x509.Certificate], signed_at: datetime | None, trust: bytes
) -> bool:
    """Whether the chain leads to a trusted authority at the time of the signature, with a certificate to sign with."""
    from cryptography import x509
    from cryptography.x509 import verification

    if signed_at is None or not trust.strip():
        return False
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    # Certificates of health professionals have one or the other (IGC-Santé: content commitment alone).
    if not (usage.digital_signature or usage.content_commitment):
        return False
    policy = (
        verification.PolicyBuilder()
        .store(verification.Store(x509.load_pem_x509_certificates(trust)))
        .time(signed_at.astimezone(UTC).replace(tzinfo=None))
        .extension_policies(
            ee_policy=verification.ExtensionPolicy.permit_all(),
            ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(),
        )
    )
    try:
        policy.build_client_verifier().verify(leaf, list(others))
    except (verification.VerificationError, ValueError):
        return False
    return True


@cache
def _anchors() -> bytes:
    return b"\n".join(each.read_bytes() for each in sorted(_TRUST.glob("*.pem")))
