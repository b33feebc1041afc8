"""Signatures in documents: valid ones are shown, all others are refused; attacks on both formats."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from lxml import etree

from passerelle.documents.contents import Kind, Signature, inspect
from passerelle.documents.contents.signatures import canonical, trusted_authorities
from passerelle.errors import Unprocessable
from tests import kinds, signing

DS = "{http://www.w3.org/2000/09/xmldsig#}"
HL7 = "{urn:hl7-org:v3}"


def signature(data: bytes, declared: str = "application/xml", *, trust: bytes = b"") -> Signature:
    (found,) = inspect(data, declared, path="x", trust=trust).signatures
    return found


def refuse(data: bytes, declared: str = "application/xml") -> None:
    with pytest.raises(Unprocessable) as caught:
        inspect(data, declared, path="x", trust=signing.authority().pem)
    assert [issue.code for issue in caught.value.issues] == ["value"]


# --- XAdES ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA-2048"])
def test_the_signer_of_a_cda_is_shown(kind: str) -> None:
    found = signature(signing.signed_xml(kinds.cda(), signing.signer(kind)), trust=signing.authority().pem)
    assert (found.is_valid, found.is_trusted, found.format) == (True, True, "XAdES")
    assert "Dr Signataire" in found.signer
    assert found.signed_at is not None
    assert abs((datetime.now(UTC) - found.signed_at).total_seconds()) < 60


def test_whom_nobody_vouches_for_is_shown_and_not_trusted() -> None:
    document = signing.signed_xml(kinds.cda())
    assert not signature(document).is_trusted
    assert not signature(document, trust=signing.authority("Une autre").pem).is_trusted
    assert trusted_authorities() == b""  # an installation adds its own


def test_a_document_that_is_not_signed_has_no_signature() -> None:
    assert inspect(kinds.cda(), "application/xml", path="x").signatures == ()


SIGNED = signing.signed_xml(kinds.cda())


def tampered(change: Callable[[Any], Any]) -> bytes:
    """The signed document after a change of its tree; the change may give another root."""
    root = etree.fromstring(SIGNED)
    return bytes(etree.tostring(changed if (changed := change(root)) is not None else root))


def _wrapped(root: Any) -> Any:
    """The signed document moved into another, its signature on top."""
    other = etree.fromstring(kinds.cda(ins="180035121518912"))
    mark = root.find(f"{DS}Signature")
    other.append(deepcopy(mark))
    root.remove(mark)
    other.append(root)
    return other


def _wrapped_by_id(root: Any) -> Any:
    """A reference by id to the signed document, which stands inside a forged one."""
    other = _wrapped(root)
    other[-1].set("Id", "signed")
    other.find(f"{DS}Signature/{DS}SignedInfo/{DS}Reference").set("URI", "#signed")
    return other


def _renamed(root: Any) -> Any:
    other = etree.Element("anything")
    other.extend(list(root))
    return other


def _second_signature(root: Any) -> None:
    root.append(deepcopy(root.find(f"{DS}Signature")))


def _deeper(root: Any) -> None:
    mark = root.find(f"{DS}Signature")
    root.find(f"{HL7}custodian").append(mark)


def _set(path: str, attribute: str, value: str) -> Callable[[Any], None]:
    def change(root: Any) -> None:
        root.find(path).set(attribute, value)

    return change


def _text(path: str, value: str) -> Callable[[Any], None]:
    def change(root: Any) -> None:
        root.find(path).text = value

    return change


def _xpath_transform(root: Any) -> None:
    transforms = root.find(f".//{DS}Transforms")
    etree.SubElement(transforms, f"{DS}Transform", Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116")


def _other_certificate(root: Any) -> None:
    root.find(f".//{DS}X509Certificate").text = signing.signer("P-384").der


def _no_certificate(root: Any) -> None:
    found = root.find(f".//{DS}X509Data")
    found.getparent().remove(found)


@pytest.mark.parametrize(
    "change",
    [
        _set(f"{HL7}recordTarget/{HL7}patientRole/{HL7}id", "extension", "180035121518912"),
        _text(f"{HL7}title", "Autre"),
        _wrapped,
        _wrapped_by_id,
        _renamed,
        _second_signature,
        _deeper,
        _xpath_transform,
        _other_certificate,
        _no_certificate,
        _text(f".//{DS}SignatureValue", base64.b64encode(bytes(64)).decode()),
        _text(f".//{DS}DigestValue", base64.b64encode(bytes(32)).decode()),
        _set(f".//{DS}SignatureMethod", "Algorithm", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"),
        _set(f".//{DS}SignatureMethod", "Algorithm", "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha1"),
        _set(f".//{DS}DigestMethod", "Algorithm", "http://www.w3.org/2000/09/xmldsig#sha1"),
        _set(f".//{DS}Reference", "URI", "http://169.254.169.254/"),
        _set(f".//{DS}Reference", "URI", "#xpointer(/)"),
        _text(".//{http://uri.etsi.org/01903/v1.3.2#}SigningTime", "2020-01-01T00:00:00Z"),
    ],
)
def test_a_signature_that_does_not_hold_the_whole_document_is_refused(change: Callable[[Any], Any]) -> None:
    refuse(tampered(change))


def test_an_empty_signature_is_refused() -> None:
    refuse(kinds.cda(more='<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"/>'))


def test_weak_algorithms_and_keys_are_refused() -> None:
    refuse(signing.signed_xml(kinds.cda(), signing.signer("RSA-1024")))
    refuse(signing.signed_xml(kinds.cda(), digest_algorithm="sha224"))


def test_a_signature_over_a_part_is_refused() -> None:
    """A true signature of another document, over which the forged one is built by reference to an id."""
    part = etree.fromstring(b'<part Id="p" xmlns="urn:hl7-org:v3">innocent</part>')
    signed = etree.fromstring(signing.signed_xml(bytes(etree.tostring(part))))
    mark = signed.find(f"{DS}Signature")
    document = etree.fromstring(kinds.cda())
    document.append(part)
    document.append(mark)
    refuse(bytes(etree.tostring(document)))


def test_a_document_that_is_a_signature_is_kept_as_one() -> None:
    """IHE DSG signs other documents from outside: it says nothing of itself."""
    mark = etree.fromstring(SIGNED).find(f"{DS}Signature")
    found = inspect(bytes(etree.tostring(mark)), "application/xml", path="x")
    assert (found.kind, found.signatures) == (Kind.XML, ())


# --- JWS ------------------------------------------------------------------------------------------------------

FHIR = "application/fhir+json"


def sent(bundle: dict[str, Any]) -> bytes:
    return json.dumps(bundle).encode()


@pytest.mark.parametrize("kind", ["P-256", "RSA-2048"])
def test_the_signer_of_a_fhir_document_is_shown(kind: str) -> None:
    bundle = signing.signed_bundle(kinds.fhir_document(), signing.signer(kind))
    found = signature(sent(bundle), FHIR, trust=signing.authority().pem)
    assert (found.is_valid, found.is_trusted, found.format) == (True, True, "JWS")
    assert found.signed_at == datetime.fromtimestamp(1_780_000_000, UTC)
    # however the same document is written
    again = json.dumps(dict(reversed(bundle.items())), indent=4, ensure_ascii=False).encode()
    assert signature(again, FHIR, trust=signing.authority().pem) == found


def test_a_signature_after_the_certificate_ended_is_not_trusted() -> None:
    late = int(datetime(2037, 1, 1, tzinfo=UTC).timestamp())
    bundle = signing.signed_bundle(kinds.fhir_document(), iat=late)
    assert not signature(sent(bundle), FHIR, trust=signing.authority().pem).is_trusted


def changed_header(**header: Any) -> dict[str, Any]:
    """The signature of the document under a header that it was not made with."""
    bundle = signing.signed_bundle(kinds.fhir_document())
    _, _, value = base64.b64decode(bundle["signature"]["data"]).decode().partition("..")
    said = {"alg": "ES256", "x5c": [signing.signer().der], **header}
    protected = base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")
    return signing.with_signature(kinds.fhir_document(), f"{protected}..{value}")


def hmac_with_the_certificate() -> dict[str, Any]:
    """Algorithm confusion: the certificate, which everybody has, as the secret of an HMAC."""
    who = signing.signer()
    said = json.dumps({"alg": "HS256", "x5c": [who.der]}).encode()
    protected, payload = (
        base64.urlsafe_b64encode(each).decode().rstrip("=") for each in (said, canonical(kinds.fhir_document()))
    )
    tag = hmac.digest(who.pem, f"{protected}.{payload}".encode(), "sha256")
    value = base64.urlsafe_b64encode(tag).decode().rstrip("=")
    return signing.with_signature(kinds.fhir_document(), f"{protected}..{value}")


SIGNED_BUNDLE = signing.signed_bundle(kinds.fhir_document())


@pytest.mark.parametrize(
    "bundle",
    [
        SIGNED_BUNDLE | {"timestamp": "2026-03-15T09:30:00+01:00"},
        SIGNED_BUNDLE | {"entry": SIGNED_BUNDLE["entry"][:1]},
        SIGNED_BUNDLE | {"id": "added"},
        signing.with_signature(kinds.fhir_document(), ""),
        signing.with_signature(kinds.fhir_document(), "no signature"),
        signing.with_signature(kinds.fhir_document(), "e30..AAAA"),
        signing.with_signature(kinds.fhir_document(), "W10..AAAA"),
        kinds.fhir_document(signature={"data": "###"}),
        kinds.fhir_document(signature="x"),
        kinds.fhir_document(signature={}),
        changed_header(alg="none"),
        changed_header(alg="RS256"),
        changed_header(alg="ES384"),
        changed_header(x5c=[signing.signer("RSA-2048").der]),
        changed_header(x5c=[]),
        changed_header(x5c="x"),
        changed_header(x5c=[None]),
        changed_header(x5c=["AAAA"]),
        changed_header(crit=["exp"]),
        changed_header(b64=False),
        hmac_with_the_certificate(),
        signing.signed_bundle(kinds.fhir_document(), signing.signer("RSA-1024")),
    ],
)
def test_a_fhir_document_whose_signature_does_not_hold_is_refused(bundle: dict[str, Any]) -> None:
    refuse(sent(bundle), FHIR)


def test_a_number_that_a_signature_cannot_hold_is_refused() -> None:
    """RFC 8785 signs doubles: two numbers that are one double would be one signed document."""
    bundle = kinds.fhir_document()
    bundle["entry"][0]["resource"]["extension"] = [{"url": "urn:x", "valueDecimal": 0.1}]
    signed = sent(signing.signed_bundle(bundle))
    assert signature(signed, FHIR).is_valid
    refuse(signed.replace(b"0.1", b"0.10000000000000000001"), FHIR)
    assert signature(signed.replace(b'"valueDecimal": 0.1', b'"valueDecimal": 0.100'), FHIR).is_valid


def test_a_picture_of_a_signature_proves_nothing() -> None:
    picture = {"sigFormat": "image/png", "data": "iVBORw0KGgo="}
    found = inspect(sent(kinds.fhir_document(signature=picture)), FHIR, path="x")
    assert (found.kind, found.signatures) == (Kind.FHIR_DOCUMENT, ())


def test_a_signature_in_xml_of_a_fhir_document_is_refused() -> None:
    from passerelle.fhir import xml as fhir_xml

    refuse(fhir_xml.dumps(SIGNED_BUNDLE), "application/fhir+xml")


def test_refusals_tell_nothing_of_the_document() -> None:
    with pytest.raises(Unprocessable) as caught:
        inspect(tampered(_text(f"{HL7}title", "Secret")), "application/xml", path="x")
    assert not re.search("Secret|Signataire|279035", str(caught.value))
