"""The one look at a content before it is kept: its type from its bytes, its header, its signatures.

What the bytes contradict is refused; where they do not tell (plain text or CSV), the declared type stands.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from passerelle.documents.contents import cda, dicom, fhir_document, hl7v2, pdf
from passerelle.documents.contents.detection import (
    Family,
    HarmfulContentError,
    declared_families,
    detect,
    media_type_of,
    text_of,
)
from passerelle.documents.contents.dicom import RefusedDicomError
from passerelle.documents.contents.fhir_document import RefusedJsonError
from passerelle.documents.contents.header import Header
from passerelle.documents.contents.hl7v2 import RefusedMessageError
from passerelle.documents.contents.signatures import (
    BadSignatureError,
    Signature,
    jws_signature,
    trusted_authorities,
    xades_signature,
)
from passerelle.documents.contents.study import Study
from passerelle.documents.contents.xml import RefusedXmlError, XmlDocument, read_xml
from passerelle.errors import Unprocessable

_REFUSALS: Final = (
    HarmfulContentError,
    RefusedXmlError,
    RefusedJsonError,
    RefusedDicomError,
    RefusedMessageError,
    BadSignatureError,
)
_RTF_OBJECT: Final = re.compile(rb"\\obj(data|update|ocx|emb|link|autlink)", re.IGNORECASE)
_IMAGES: Final = frozenset((Family.JPEG, Family.PNG, Family.GIF, Family.TIFF, Family.BMP, Family.WEBP))


class Kind(StrEnum):
    CDA = "cda"
    FHIR_DOCUMENT = "fhir-document"
    PDF = "pdf"
    IMAGE = "image"
    DICOM = "dicom"
    HL7V2 = "hl7v2"
    RTF = "rtf"
    TEXT = "text"
    XML = "xml"
    JSON = "json"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """`media_type` is the declared one, without parameters; `study` is that of a DICOM object."""

    media_type: str
    kind: Kind
    header: Header | None = None
    signatures: tuple[Signature, ...] = ()
    study: Study | None = None


def inspect(data: bytes, declared: str, *, path: str, is_whole: bool = True, trust: bytes | None = None) -> Inspection:
    """What a content is; raises Unprocessable (`value`) naming `path` for one that is not kept under this type.

    Without the whole, `data` is the beginning of the content (some kilobytes): then only what that tells is checked.
    `trust` is the PEM of trusted authorities, by default those of the installation. No bytes are a content that comes
    later.
    """
    media_type, parameters = media_type_of(declared), declared.partition(";")[2]
    families = None if media_type is None else declared_families(media_type)
    if media_type is None or families is None:
        raise _refused("contents of this media type are not kept", path)
    if not data:
        return Inspection(media_type=media_type, kind=Kind.OTHER)
    try:
        family = detect(data, is_whole=is_whole)
        if family not in families:
            raise _refused("the content is not of the declared type", path)
        return _read(data, media_type, family, _charset(parameters), is_whole, trust)
    except _REFUSALS as refusal:
        raise _refused(str(refusal), path) from refusal


def _read(
    data: bytes, media_type: str, family: Family, charset: str, is_whole: bool, trust: bytes | None
) -> Inspection:
    if family is Family.PDF:
        fault = pdf.fault_of(data, is_whole=is_whole)
        if fault is not None:
            raise HarmfulContentError(fault)
        return Inspection(media_type=media_type, kind=Kind.PDF)
    if family in _IMAGES:
        return Inspection(media_type=media_type, kind=Kind.IMAGE)
    if family is Family.RTF:
        if _RTF_OBJECT.search(data):
            raise HarmfulContentError("a text with embedded objects is not accepted")
        return Inspection(media_type=media_type, kind=Kind.RTF)
    if family is Family.DICOM:
        study = dicom.study_of(data)
        return Inspection(media_type=media_type, kind=Kind.DICOM, header=dicom.header_of(study), study=study)
    if family is Family.XML:
        return _xml(data, media_type, is_whole, trust)
    if family is Family.HL7V2:
        header = hl7v2.header_of(data) if is_whole else None
        return Inspection(media_type=media_type, kind=Kind.HL7V2, header=header)
    if family is Family.JSON and media_type != "text/plain":
        return _json(data, media_type, is_whole, trust)
    if is_whole and text_of(data, charset) is None:
        raise HarmfulContentError("the content is not text of the declared charset")
    return Inspection(media_type=media_type, kind=Kind.TEXT)


# --- XML ------------------------------------------------------------------------------------------------------


def _xml(data: bytes, media_type: str, is_whole: bool, trust: bytes | None) -> Inspection:
    if not is_whole:
        return Inspection(media_type=media_type, kind=Kind.XML)
    document = read_xml(data, without=cda.BODY)
    root = document.root
    kind, header = Kind.XML, None
    if root.tag == cda.ROOT:
        kind, header = Kind.CDA, cda.header_of(root)
        _check_body(root, header)
    elif root.tag == fhir_document.ROOT:
        bundle = fhir_document.plain(root)
        if fhir_document.is_document(bundle):
            kind, header = Kind.FHIR_DOCUMENT, fhir_document.header_of(bundle)
            if bundle.get("signature"):
                raise BadSignatureError("the signature of a FHIR document in XML cannot be verified")
    if media_type == "application/fhir+xml" and not root.tag.startswith(f"{{{fhir_document.NAMESPACE}}}"):
        raise HarmfulContentError("the content is not of the declared type")
    if media_type == "application/hl7-cda+xml" and kind is not Kind.CDA:
        raise HarmfulContentError("the content is not of the declared type")
    signatures = _xml_signatures(data, document, trust)
    return Inspection(media_type=media_type, kind=kind, header=header, signatures=signatures)


def _check_body(root: Any, header: Header) -> None:
    """A document of level 1 is an envelope: what is in it meets the same rules."""
    try:
        body = cda.embedded_bytes(root)
    except ValueError as error:
        raise RefusedXmlError(str(error)) from None
    if not body or header.embedded_type is None:
        return
    family = detect(body)
    if family not in (declared_families(header.embedded_type) or ()):
        raise HarmfulContentError("the body of the document is not of the type that it is said to be")
    if family is Family.PDF and (fault := pdf.fault_of(body)) is not None:
        raise HarmfulContentError(fault)


def _xml_signatures(data: bytes, document: XmlDocument, trust: bytes | None) -> tuple[Signature, ...]:
    """A document that is a signature itself (IHE DSG) signs others, and is kept as what it is."""
    if not document.is_signed or document.root.tag.endswith("}Signature"):
        return ()
    return (xades_signature(data, trust=_trust(trust)),)


# --- JSON -----------------------------------------------------------------------------------------------------


def _json(data: bytes, media_type: str, is_whole: bool, trust: bytes | None) -> Inspection:
    if not is_whole:
        return Inspection(media_type=media_type, kind=Kind.JSON)
    value = fhir_document.read_json(data)
    if media_type == "application/fhir+json" and not (isinstance(value, Mapping) and "resourceType" in value):
        raise HarmfulContentError("the content is not of the declared type")
    if not fhir_document.is_document(value):
        return Inspection(media_type=media_type, kind=Kind.JSON)
    return Inspection(
        media_type=media_type,
        kind=Kind.FHIR_DOCUMENT,
        header=fhir_document.header_of(value),
        signatures=_json_signatures(value, trust),
    )


def _json_signatures(bundle: Mapping[str, Any], trust: bytes | None) -> tuple[Signature, ...]:
    signature = bundle.get("signature")
    if signature is None:
        return ()
    if not isinstance(signature, Mapping):
        raise BadSignatureError("the signature of the document cannot be verified")
    if str(signature.get("sigFormat", "")).startswith("image/"):
        return ()  # a picture of a signature: it proves nothing, and pretends nothing
    try:
        text = base64.b64decode(str(signature.get("data", "")), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        raise BadSignatureError("the signature of the document cannot be verified") from None
    signed = {name: each for name, each in bundle.items() if name != "signature"}
    return (jws_signature(text, signed, trust=_trust(trust)),)


def _trust(given: bytes | None) -> bytes:
    return trusted_authorities() if given is None else given


def _charset(parameters: str) -> str:
    for each in parameters.split(";"):
        name, _, value = each.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"')
    return ""


def _refused(text: str, path: str) -> Unprocessable:
    return Unprocessable(text, code="value", expression=path)
