"""What form an answer has, and what a client prefers: `Accept`, `_format`, `_pretty` and `Prefer`.

FHIR R4 section 3.1.0.1.11: `_format` wins over Accept; who asks for a generic type (`application/json`) gets that
type. RFC 9110 section 12.5.1 (quality values), RFC 7240 (Prefer).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Codec = Literal["json", "xml"]

FHIR_JSON: Final = "application/fhir+json"
FHIR_XML: Final = "application/fhir+xml"
_CODECS: Final[Mapping[str, Codec]] = {
    FHIR_JSON: "json",
    "application/json": "json",
    "text/json": "json",
    FHIR_XML: "xml",
    "application/xml": "xml",
    "text/xml": "xml",
}
_SHORT: Final[Mapping[str, str]] = {"json": FHIR_JSON, "xml": FHIR_XML}
_ANY: Final = ("*/*", "application/*")
_VERSIONS: Final = ("4.0", "4.0.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Representation:
    """A form of resources: how they are written, and the media type that the answer is declared as."""

    codec: Codec = "json"
    media_type: str = FHIR_JSON
    pretty: bool = False


JSON: Final = Representation()


def codec_of(content_type: str) -> Codec | None:
    """How a body of this type is read; None if it is not FHIR, or of another version of it."""
    media_type, parameters = _media_type(content_type)
    return _CODECS.get(media_type) if parameters.get("fhirversion", "4.0") in _VERSIONS else None


def accepted(query: Sequence[tuple[str, str]], accept: str) -> tuple[str, ...]:
    """The media types asked for, the preferred first; `*/*` if the client names none."""
    asked = _format(query)
    if asked:
        return (_SHORT.get(asked, asked),)
    ranked = sorted(_ranked(accept), key=lambda each: -each[1])
    return tuple(media_type for media_type, quality in ranked if quality > 0) if ranked else ("*/*",)


def negotiated(query: Sequence[tuple[str, str]], accept: str) -> Representation | None:
    """The form of the answer, or None if it has none of those asked for."""
    pretty = ("_pretty", "true") in query
    refused = set() if _format(query) else {_CODECS.get(name) for name, quality in _ranked(accept) if not quality}
    for media_type in accepted(query, accept):
        if media_type in _ANY:
            media_type = FHIR_XML if "json" in refused else FHIR_JSON
        codec = _CODECS.get(media_type)
        if codec is not None and codec not in refused:
            return Representation(codec=codec, media_type=media_type, pretty=pretty)
    return None


def preferences(prefer: str) -> Mapping[str, str]:
    """The preferences of a Prefer header: `{"return": "minimal"}`."""
    pairs = (each.partition("=") for each in prefer.replace(";", ",").split(","))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _format(query: Sequence[tuple[str, str]]) -> str:
    """`_format`, in lower case; a plus that was not escaped in the URL arrives as a space."""
    asked = next((value for name, value in query if name == "_format"), "")
    return _media_type(asked.strip().replace(" ", "+"))[0]


def _ranked(accept: str) -> list[tuple[str, float]]:
    """Media types with their quality; those of another version of FHIR are as good as unknown."""
    ranked = []
    for each in accept.split(","):
        media_type, parameters = _media_type(each)
        if parameters.get("fhirversion", "4.0") not in _VERSIONS:
            media_type += "; fhirVersion"
        if media_type:
            ranked.append((_SHORT.get(media_type, media_type), _quality(parameters.get("q", "1"))))
    return ranked


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _media_type(text: str) -> tuple[str, Mapping[str, str]]:
    """A media type and its parameters, in lower case."""
    media_type, *rest = (part.strip().lower() for part in text.split(";"))
    pairs = (part.partition("=") for part in rest)
    return media_type, {name.strip(): value.strip().strip('"') for name, _, value in pairs}
