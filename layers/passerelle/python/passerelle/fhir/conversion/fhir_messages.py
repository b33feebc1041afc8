"""FHIR messages (R4 section 2.4) beside the patient feed: results, admissions, documents, notifications.

Which events are taken is data (`data/message_events.json`). The resources of a message are one transaction, each found
by its own identifier: the same message again, and a correction, meet the same resources. Events about identities (`A01`
and the like) revise the Patient, all others bring one only where the exchange has none. People and organisations of the
network are not made of messages: references to them keep their identifier and name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from passerelle.errors import Busy, Invalid, PasserelleError, Stale, TooLarge, Unprocessable
from passerelle.fhir.bundles import MAX_ENTRIES, TransactionEntry, parse_transaction
from passerelle.fhir.conversion.made import identifier_element, made_identifier, present
from passerelle.fhir.dates import instant
from passerelle.fhir.index import RECORD_TYPES
from passerelle.fhir.outcome import render_outcome
from passerelle.fhir.validation import validate
from passerelle.ingestion.model import Source
from passerelle.patients.model import Identifier

_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_POSTED: Final = frozenset(("Binary", "DocumentReference", "Provenance"))
_HEADER: Final = "Bundle.entry[0].resource"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicalMessage:
    """`id` is what its sender calls the message, `key` what tells it from all others of the same sender."""

    id: str
    key: str
    event: Mapping[str, Any]
    entries: tuple[TransactionEntry, ...]


def names_coded_event(bundle: Any) -> bool:
    """Whether what was sent looks like a message with a coded event; of whatever was sent, as nothing is validated."""
    entries = bundle.get("entry") if isinstance(bundle, Mapping) else None
    first = entries[0] if isinstance(entries, list) and entries else None
    header = first.get("resource") if isinstance(first, Mapping) else None
    return isinstance(header, Mapping) and "eventCoding" in header


def parse_message(bundle: Any, source: Source) -> ClinicalMessage:
    """Read a message with a coded event.

    Raises Invalid for another structure, Unprocessable (`not-supported`) for an event that is not taken.
    """
    if bundle.get("resourceType") != "Bundle" or bundle.get("type") != "message":
        raise Invalid("a Bundle of type message is expected", code="structure", expression="Bundle")
    validate(bundle, expected_type="Bundle")
    listed = bundle["entry"]
    header = listed[0].get("resource", {})
    if header.get("resourceType") != "MessageHeader":
        raise Invalid("the first entry is the MessageHeader", code="structure", expression="Bundle.entry[0]")
    event = header["eventCoding"]
    about = _table()["events"].get(event.get("system"), {}).get(event.get("code"))
    if about is None:
        raise Unprocessable(
            "messages of this event are not taken", code="not-supported", expression=f"{_HEADER}.eventCoding"
        )
    if len(listed) > MAX_ENTRIES:
        raise TooLarge(f"a message may have {MAX_ENTRIES} entries", expression="Bundle.entry")
    id = str(header.get("id") or listed[0].get("fullUrl", "").rpartition(":")[2].rpartition("/")[2])
    if not _ID.fullmatch(id):
        raise Invalid("the MessageHeader has no id", code="structure", expression=f"{_HEADER}.id")
    named = bundle.get("identifier", {})
    key = f"{named.get('system', '')}|{named['value']}" if "value" in named else id
    requests = _Requests(source, key, revises=about == "identity")
    entries = requests.made(listed[1:])
    if not entries:
        raise Invalid("the message has no resource", code="required", expression="Bundle.entry")
    parsed = parse_transaction({"resourceType": "Bundle", "type": "transaction", "entry": entries})
    return ClinicalMessage(id=id, key=key, event=event, entries=tuple(parsed))


@cache
def _table() -> Any:
    return json.loads((Path(__file__).parent / "data" / "message_events.json").read_text("utf-8"))


class _Requests:
    """The entries of a message as entries of a transaction."""

    def __init__(self, source: Source, key: str, *, revises: bool) -> None:
        self._source = source
        self._key = key
        self._revises = revises

    def made(self, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        meant: dict[str, Mapping[str, Any]] = {}
        kept: list[tuple[int, Mapping[str, Any], Mapping[str, Any]]] = []
        for number, entry in enumerate(entries, 1):
            resource = entry.get("resource", {})
            kind = resource.get("resourceType")
            if kind in _table()["not_stored"] and "patient" not in resource:
                logical = _logical(resource)
                meant |= dict.fromkeys(_names(entry, resource), logical)
            elif kind == "Patient" and self._own(resource) is None:
                national = next(_identifiers(resource), None)
                if national is None:
                    self._refuse("the Patient has no identifier", "required", f"Bundle.entry[{number}].resource")
                url = f"Patient?identifier={quote('|'.join(national), safe='')}" if national else ""
                conditional = {"reference": url}
                meant |= dict.fromkeys(_names(entry, resource), conditional)
            elif kind in RECORD_TYPES:
                kept.append((number, entry, resource))
            else:
                text = "this resource type is not kept"
                self._refuse(text, "not-supported", f"Bundle.entry[{number}].resource")
        return [self._entry(number, entry, _replaced(resource, meant)) for number, entry, resource in kept]

    def _entry(self, number: int, entry: Mapping[str, Any], resource: dict[str, Any]) -> dict[str, Any]:
        kind = resource["resourceType"]
        content = {name: value for name, value in resource.items() if name not in ("id", "meta")}
        full_url = {"fullUrl": entry["fullUrl"]} if "fullUrl" in entry else {}
        if kind in _POSTED:
            return {**full_url, "resource": content, "request": {"method": "POST", "url": kind}}
        found = self._own(resource) if kind == "Patient" else next(_identifiers(resource), None)
        if found is None:
            found = made_identifier(self._source, "FHIR", kind, self._key, str(entry.get("fullUrl", number)))
            content["identifier"] = [identifier_element(found), *_listed(content.get("identifier"))]
        query = f"identifier={quote('|'.join(found), safe='')}"
        if kind == "Patient" and not self._revises:
            request = {"method": "POST", "url": kind, "ifNoneExist": query}
        else:
            request = {"method": "PUT", "url": f"{kind}?{query}"}
        return {**full_url, "resource": content, "request": request}

    def _own(self, patient: Mapping[str, Any]) -> Identifier | None:
        return next((each for each in _identifiers(patient) if each[0] == self._source.domain), None)

    def _refuse(self, text: str, code: str, path: str) -> None:
        raise Unprocessable(text, code=code, expression=path)


def _identifiers(resource: Mapping[str, Any]) -> Iterator[Identifier]:
    for each in _listed(resource.get("identifier")):
        if each.get("system") and each.get("value"):
            yield each["system"], each["value"]


def _listed(identifier: Any) -> list[Any]:
    if identifier is None:
        return []
    return list(identifier) if isinstance(identifier, list) else [identifier]


def _names(entry: Mapping[str, Any], resource: Mapping[str, Any]) -> list[str]:
    """How other entries refer to this one."""
    id = resource.get("id")
    return [each for each in (entry.get("fullUrl"), f"{resource['resourceType']}/{id}" if id else None) if each]


def _logical(resource: Mapping[str, Any]) -> dict[str, Any]:
    """A reference by identifier and name, to who is not stored."""
    identifier = next(_identifiers(resource), None)
    name = resource.get("name")
    if isinstance(name, list):
        first = name[0] if name else {}
        parts = [*first.get("given", ()), first.get("family", "")]
        name = first.get("text") or " ".join(part for part in parts if part)
    element = identifier_element(identifier) if identifier else None
    found = present({"type": resource["resourceType"], "identifier": element, "display": name})
    return found if len(found) > 1 else {**found, "display": resource["resourceType"]}


def _replaced(value: Any, meant: Mapping[str, Mapping[str, Any]]) -> Any:
    if isinstance(value, dict):
        reference = value.get("reference")
        if isinstance(reference, str) and reference in meant:
            kept = {name: each for name, each in value.items() if name != "reference"}
            return {**meant[reference], **kept}
        return {name: _replaced(each, meant) for name, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, meant) for each in value]
    return value


# --- answers ----------------------------------------------------------------------------------------------------------

ResponseCode = Literal["ok", "transient-error", "fatal-error"]


def response_code(refusal: PasserelleError | None) -> ResponseCode:
    """Whether the sender has nothing left to do, may send the message again as it is, or would be refused again."""
    if refusal is None:
        return "ok"
    return "transient-error" if refusal.status >= 500 or isinstance(refusal, Stale | Busy) else "fatal-error"


def message_response(
    message: ClinicalMessage,
    made: Sequence[str],
    refusal: PasserelleError | None,
    *,
    base_url: str,
    at: datetime,
) -> dict[str, Any]:
    """The answer: `made` are references to what the message came to, in `focus`; the details say why it was refused."""
    id = str(uuid5(NAMESPACE_URL, f"{base_url}/response/{message.key}"))
    details = str(uuid5(NAMESPACE_URL, f"{base_url}/details/{message.key}"))
    response: dict[str, Any] = {"identifier": message.id, "code": response_code(refusal)}
    if refusal is not None:
        response["details"] = {"reference": f"urn:uuid:{details}"}
    header = {
        "resourceType": "MessageHeader",
        "id": id,
        "eventCoding": message.event,
        "source": {"name": "Passerelle", "endpoint": f"{base_url}/$process-message"},
        "response": response,
        "focus": [{"reference": each} for each in made],
    }
    entries = [{"fullUrl": f"urn:uuid:{id}", "resource": present(header)}]
    if refusal is not None:
        outcome = {**render_outcome(refusal), "id": details}
        entries.append({"fullUrl": f"urn:uuid:{details}", "resource": outcome})
    return {"resourceType": "Bundle", "type": "message", "timestamp": instant(at), "entry": entries}
