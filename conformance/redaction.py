"""Exchanges as text for the report, without tokens, contents, or what could be personal data.

People are synthetic, but a vendor may name those of a test platform: the report must be fit to hand in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote

from conformance.profile import Profile
from conformance.server import Exchanged

_MAX_CHARACTERS: Final = 6000
_HEADERS: Final = frozenset(
    {
        "accept",
        "accept-patch",
        "authorization",
        "content-location",
        "content-type",
        "etag",
        "if-match",
        "if-none-match",
        "last-modified",
        "location",
        "prefer",
        "retry-after",
        "warning",
        "www-authenticate",
        "x-amzn-remapped-www-authenticate",
        "x-request-id",
    }
)
_PERSONAL: Final = frozenset(
    {
        "family",
        "given",
        "prefix",
        "suffix",
        "birthDate",
        "deceasedDateTime",
        "line",
        "city",
        "district",
        "postalCode",
        "telecom",
        "photo",
        "div",
        "data",
        "access_token",
        "client_assertion",
        "assertion",
    }
)
_XML_VALUE: Final = re.compile(rf"<({'|'.join(sorted(_PERSONAL))})(\s[^>]*?)?\svalue=\"[^\"]*\"")
_XML_DIV: Final = re.compile(r"<div\b.*?</div>", re.DOTALL)
_BEARER: Final = re.compile(r"(?i)bearer\s+[\w.~+/=-]+")
_JWT: Final = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")
_SIGNED: Final = re.compile(r"(?i)([?&](?:X-Amz-[\w-]+|sig|signature|token|access_token)=)[^&\s\"<]+")


class Redaction:
    """Knows the people of a profile, whose identifiers and names are cut wherever they stand."""

    def __init__(self, profile: Profile) -> None:
        values = {
            value
            for person in profile.people.values()
            for value in (person.value, *(str(each) for each in person.traits.values()))
            if len(value) > 3
        }
        forms = {form for value in values for form in (value, quote(value), json.dumps(value)[1:-1])}
        self._people = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))) or r"(?!)")

    def told(self, exchanged: Exchanged) -> dict[str, Any]:
        """Who asked what, and what was answered."""
        request, answer = exchanged.request, exchanged.answer
        return {
            "actor": exchanged.actor,
            "line": self.text(f"{request.method} {request.url}"),
            "request": self._message(request.headers, request.content),
            "status": f"{answer.status_code} {answer.reason_phrase}",
            "answer": self._message(answer.headers, answer.content),
            "milliseconds": round(answer.elapsed.total_seconds() * 1000),
        }

    def text(self, text: str) -> str:
        """A text without tokens, signatures of URLs, and people."""
        text = _SIGNED.sub(r"\1…", _JWT.sub("…", _BEARER.sub("Bearer …", text)))
        return self._people.sub("…", text)

    def _message(self, headers: Mapping[str, str], body: bytes) -> str:
        lines = [f"{name}: {value}" for name, value in headers.items() if name.lower() in _HEADERS]
        kind = headers.get("content-type", "")
        return self.text("\n".join([*lines, "", self._body(body, kind)]).strip())

    def _body(self, body: bytes, kind: str) -> str:
        if not body:
            return ""
        if not any(each in kind for each in ("json", "xml", "text/", "form")):
            return f"[{len(body)} bytes]"
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return f"[{len(body)} bytes]"
        if "json" in kind:
            with suppress(ValueError):  # what is malformed on purpose is shown as it was sent
                text = json.dumps(_cut(json.loads(text)), ensure_ascii=False, indent=1)
        text = _XML_VALUE.sub(r'<\1\2 value="…"', _XML_DIV.sub("<div>…</div>", text))
        return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}\n… {len(text)} characters in all"


def _cut(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: "…" if name in _PERSONAL and each else _cut(each) for name, each in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_cut(each) for each in value]
    return value
