"""Temporary links as Parameters: what `$share` and `$revoke` are given, what they and `$links` answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from passerelle.access import Request
from passerelle.consents.visibility import Restriction
from passerelle.documents.links import DEFAULT_LIFE, Issued, Link, Terms
from passerelle.documents.model import Document
from passerelle.errors import Invalid
from passerelle.fhir.mhd import stored_document
from passerelle.fhir.parameters import parameters_of
from passerelle.records.service import RecordService

PURPOSE: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_TAKEN: Final[Mapping[str, tuple[str, ...]]] = {
    "purpose": ("valueCode", "valueCoding"),
    "reason": ("valueString",),
    "recipient": ("valueString",),
    "expires": ("valueInstant", "valueDateTime"),
    "uses": ("valuePositiveInt", "valueInteger"),
}


class RecordDocuments:
    """`documents.links.Publications`: what the record has, as the caller may see it."""

    def __init__(self, records: RecordService) -> None:
        self._records = records

    def find(self, request: Request, id: str) -> tuple[Document, Restriction | None]:
        found = self._records.read(request, "DocumentReference", id, absent="Document Not Found")
        return stored_document(found), found.restriction


def parse_terms(body: Any, at: datetime) -> Terms:
    """The terms of a link, with what is usual for those not given; raises Invalid."""
    given = _given(body, _TAKEN)
    if "purpose" not in given:
        raise _faulty("a purpose is required", "purpose", "required")
    purpose = given["purpose"]
    if isinstance(purpose, Mapping):
        purpose = purpose.get("code") if purpose.get("system", PURPOSE) == PURPOSE else None
    return Terms(
        purpose=_text(purpose, "purpose"),
        expires_at=_instant(given["expires"]) if "expires" in given else at + DEFAULT_LIFE,
        uses=_count(given.get("uses", 1)),
        reason=_text(given.get("reason", ""), "reason"),
        recipient=_text(given.get("recipient", ""), "recipient"),
    )


def parse_named(body: Any) -> str:
    """The id of the link that is to be revoked; raises Invalid."""
    given = _given(body, {"id": ("valueId", "valueString")})
    if "id" not in given:
        raise _faulty("the id of the link is required", "id", "required")
    return _text(given["id"], "id")


def render_issued(issued: Issued, url: str) -> dict[str, Any]:
    link = issued.link
    return _parameters(
        [
            {"name": "id", "valueId": link.id},
            {"name": "url", "valueUrl": url},
            {"name": "expires", "valueInstant": _rendered(link.terms.expires_at)},
            {"name": "uses", "valuePositiveInt": link.terms.uses},
        ]
    )


def render_links(links: Sequence[Link], at: datetime) -> dict[str, Any]:
    return _parameters([{"name": "link", "part": _parts(link, at)} for link in links])


def render_link(link: Link, at: datetime) -> dict[str, Any]:
    return _parameters(_parts(link, at))


def _parts(link: Link, at: datetime) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [
        {"name": "id", "valueId": link.id},
        {"name": "active", "valueBoolean": link.is_open(at)},
        {"name": "purpose", "valueCoding": {"system": PURPOSE, "code": link.terms.purpose}},
        {"name": "issued", "valueInstant": _rendered(link.issued_at)},
        {"name": "issuer", "valueString": link.client_id},
        {"name": "expires", "valueInstant": _rendered(link.terms.expires_at)},
        {"name": "uses", "valuePositiveInt": link.terms.uses},
        {"name": "opened", "valueUnsignedInt": link.opens},
    ]
    for name, words in (("reason", link.terms.reason), ("recipient", link.terms.recipient)):
        if words:
            parts.append({"name": name, "valueString": words})
    for name, moment in (("lastOpened", link.last_opened_at), ("revoked", link.revoked_at)):
        if moment:
            parts.append({"name": name, "valueInstant": _rendered(moment)})
    return parts


def _parameters(listed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"resourceType": "Parameters", **({"parameter": list(listed)} if listed else {})}


def _rendered(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _given(body: Any, taken: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """The values by name, each once and of a type that it may have."""
    given: dict[str, Any] = {}
    for each in parameters_of(body):
        name = str(each.get("name"))
        if name not in taken or name in given:
            raise Invalid("the operation takes other parameters, each once", expression="Parameters.parameter")
        values = [each[kind] for kind in taken[name] if kind in each]
        if len(values) != 1 or len(each) != 2:
            raise _faulty("the value is not of the type of this parameter", name)
        given[name] = values[0]
    return given


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _faulty("the value is not of the type of this parameter", name)
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _faulty("the value is not of the type of this parameter", "uses")
    return value


def _instant(value: Any) -> datetime:
    text = _text(value, "expires")
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise ValueError("without time zone")
    except ValueError:
        raise _faulty("must be an instant, with its time zone", "expires") from None
    return at


def _faulty(diagnostics: str, name: str, code: str = "value") -> Invalid:
    return Invalid(diagnostics, code=code, expression=f"Parameters.parameter.where(name='{name}')")
