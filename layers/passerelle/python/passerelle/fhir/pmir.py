"""The patient feed: its messages, read and answered (IHE PMIR 1.5.1, ITI-93); what is sent is in `patient_feed.py`.

A message is a Bundle of a MessageHeader and a history Bundle, in this order; FHIR R4 section 2.4 (messaging). Entries
are applied one by one, in their order, each by the rules of a single registration (contract 93-1 to 93-3): an entry
that is refused says so in its response, and the others stand. A message that could be misread is refused as a whole
before any entry is applied.

How the Patient of an entry is found: by the id that the exchange gave it (`Patient/<id>`), by a search
(`Patient?identifier=system|value`), else by its identifier in the domain of the caller. Ids that the caller chose mean
nothing here, but between the entries of one message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, cast
from urllib.parse import parse_qsl
from uuid import NAMESPACE_URL, uuid4, uuid5

from passerelle.errors import Busy, Invalid, Issue, NotFound, PasserelleError, Stale, TooLarge, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import instant
from passerelle.fhir.identity import REPLACED_BY
from passerelle.fhir.outcome import render_outcome
from passerelle.fhir.patient import FhirPatientDraft
from passerelle.fhir.validation import validate
from passerelle.patients.identity import IdentityScheme
from passerelle.patients.model import StoredPatient

FEED: Final = "urn:ihe:iti:pmir:2019:patient-feed"
MAX_ENTRIES: Final = 100  # each is a commit of its own, and all are one request

_DEFINITION: Final = "https://profiles.ihe.net/ITI/PMIR/MessageDefinition/IHE.PMIR.MessageDefinition"
_METHODS: Final = ("POST", "PUT", "DELETE")
_PATIENT_URL = re.compile(
    r"(?:\S*/)?Patient(?:/(?P<id>[A-Za-z0-9\-.]{1,64})(?:/_history/\S+)?|\?(?P<query>\S+))?", re.ASCII
)
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")

Method = Literal["POST", "PUT", "DELETE"]
ResponseCode = Literal["ok", "transient-error", "fatal-error"]


# --- messages received ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEntry:
    """What became of one Patient at its source; `path` is where it stands, `url` as sent, `resource` empty if none is.

    `ids` are the Patient ids that name it, `query` the search that does.
    """

    path: str
    method: Method
    url: str
    full_url: str | None
    ids: tuple[str, ...]
    query: tuple[tuple[str, str], ...]
    resource: Mapping[str, Any]

    @property
    def is_merge(self) -> bool:
        return any(link["type"] == REPLACED_BY for link in self.resource.get("link", ()))

    @property
    def is_only_merge(self) -> bool:
        """Whether it says nothing of the Patient but who replaces it (IHE.PMIR.Patient.Merge has no traits)."""
        return self.is_merge and not self.resource.keys() & {"name", "birthDate", "gender"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedMessage:
    id: str
    entries: tuple[FeedEntry, ...]


def parse_feed(bundle: Any) -> FeedMessage:
    """Read a message; raises Invalid for another structure, and Unprocessable for other content (contract 93-2)."""
    header, history = _parts(bundle)
    validate(bundle, expected_type="Bundle")
    if header.get("eventUri") != FEED:
        raise Unprocessable(
            "the event is not that of the patient feed", code="value", expression="Bundle.entry[0].resource.eventUri"
        )
    entries = history.get("entry", [])
    if len(entries) > MAX_ENTRIES:
        raise TooLarge(f"a message may have {MAX_ENTRIES} entries", expression="Bundle.entry[1].resource.entry")
    faults: list[Issue] = []
    parsed = [_entry(each, f"Bundle.entry[1].resource.entry[{n}]", faults) for n, each in enumerate(entries)]
    if faults:
        raise Unprocessable(issues=faults)
    return FeedMessage(id=_id_of(header, bundle["entry"][0]), entries=tuple(parsed))


def _parts(bundle: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """MessageHeader and history Bundle; of whatever was sent, as nothing was validated yet."""
    entries = bundle.get("entry") if isinstance(bundle, dict) else None
    if not isinstance(entries, list) or bundle.get("resourceType") != "Bundle" or bundle.get("type") != "message":
        raise Invalid("a Bundle of type message is expected", code="structure", expression="Bundle")
    resources = [each.get("resource") if isinstance(each, dict) else None for each in entries]
    parts = [each for each in resources if isinstance(each, dict)]
    if len(resources) != 2 or [each.get("resourceType") for each in parts] != ["MessageHeader", "Bundle"]:
        raise Invalid(
            "a message has two entries, a MessageHeader and a history Bundle, in this order",
            code="structure",
            expression="Bundle.entry",
        )
    header, history = parts
    if history.get("type") != "history" or not history.get("entry"):
        raise Invalid("a history Bundle with entries is expected", code="structure", expression="Bundle.entry[1]")
    return header, history


def _id_of(header: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """What the response names: the header's id, or the UUID in its place."""
    id = header.get("id") or entry.get("fullUrl", "").rpartition(":")[2].rpartition("/")[2]
    if not _ID.fullmatch(id):
        raise Invalid("the MessageHeader has no id", code="structure", expression="Bundle.entry[0].resource.id")
    return str(id)


def _entry(entry: Mapping[str, Any], path: str, faults: list[Issue]) -> FeedEntry:
    request, resource = entry["request"], entry.get("resource", {})
    method, url = request["method"], _PATIENT_URL.fullmatch(request["url"])
    named = _PATIENT_URL.fullmatch(entry.get("fullUrl", ""))

    def fault(where: str, diagnostics: str) -> None:
        faults.append(Issue(code="value", diagnostics=diagnostics, expression=f"{path}.{where}"))

    if url is None:
        fault("request.url", "must name a Patient")
    if method not in _METHODS:
        fault("request.method", "must be POST, PUT or DELETE")
    if resource.get("resourceType", "Patient") != "Patient":
        fault("resource", "must be a Patient")
    elif not resource and method != "DELETE":
        fault("resource", "what was created or updated has its resource")
    places = [each for each in (url, named) if each]
    return FeedEntry(
        path=path,
        method=cast(Method, method),
        url=request["url"],
        full_url=entry.get("fullUrl"),
        ids=tuple(dict.fromkeys(each["id"] for each in places if each["id"])),
        query=tuple(pair for each in places[:1] for pair in parse_qsl(each["query"] or "", keep_blank_values=True)),
        resource=resource,
    )


def merged(stored: bytes, said: Mapping[str, Any]) -> dict[str, Any]:
    """A stored Patient as a merge leaves it that says nothing else of it."""
    content = fhir_json.loads(stored)
    others = [link for link in content.get("link", []) if link["type"] != REPLACED_BY]
    return {**content, "active": said.get("active", True), "link": [*others, *said["link"]]}


class MergeDraft(FhirPatientDraft):
    """A merge that says nothing else of the Patient: the rest stays as it is stored."""

    def __init__(self, content: Mapping[str, Any], scheme: IdentityScheme, *, base_url: str) -> None:
        super().__init__(content, scheme, base_url=base_url, is_stored=True)  # checked with what is stored
        self._base_url = base_url

    def revising(self, before: StoredPatient | None) -> FhirPatientDraft:
        if before is None:
            raise NotFound("the record that is replaced is not known")
        content = merged(before.body, self._content)
        return FhirPatientDraft(content, self._scheme, base_url=self._base_url).revising(before)


# --- answers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedAnswer:
    """What became of one entry: an HTTP status, and the version that it led to or why there is none.

    `reference` is `Patient/id/_history/n`.
    """

    status: str
    reference: str | None = None
    at: datetime | None = None
    refusal: PasserelleError | None = None


def feed_response(
    message: FeedMessage, answers: Sequence[FeedAnswer], *, base_url: str, at: datetime
) -> dict[str, Any]:
    """The answer to a message: `ok` if its sender has nothing left to do, which the removal of what was gone is, too.

    `transient-error` says that the message may be sent again as it is, `fatal-error` that an entry would be refused
    again.
    """
    history = {
        "resourceType": "Bundle",
        "type": "history",
        "entry": [_answered(entry, answer) for entry, answer in zip(message.entries, answers, strict=True)],
    }
    response = {"identifier": message.id, "code": _code(message, answers)}
    return feed_bundle(f"{FEED}-response", str(uuid4()), history, {"response": response}, base_url=base_url, at=at)


def _answered(entry: FeedEntry, answer: FeedAnswer) -> dict[str, Any]:
    response: dict[str, Any] = {"status": answer.status}
    if answer.reference is not None:
        response["location"] = answer.reference
        response["etag"] = f'W/"{answer.reference.rpartition("/")[2]}"'
    if answer.at is not None:
        response["lastModified"] = instant(answer.at)
    if answer.refusal is not None:
        response["outcome"] = render_outcome(answer.refusal)
    full_url = {"fullUrl": entry.full_url} if entry.full_url else {}
    return {**full_url, "request": {"method": entry.method, "url": entry.url}, "response": response}


def _code(message: FeedMessage, answers: Sequence[FeedAnswer]) -> ResponseCode:
    refusals = [
        answer.refusal
        for entry, answer in zip(message.entries, answers, strict=True)
        if answer.refusal is not None and not (entry.method == "DELETE" and isinstance(answer.refusal, NotFound))
    ]
    if not refusals:
        return "ok"
    is_transient = all(each.status >= 500 or isinstance(each, Stale | Busy) for each in refusals)
    return "transient-error" if is_transient else "fatal-error"


# --- messages of either kind ------------------------------------------------------------------------------------------


def feed_bundle(
    event: str, id: str, history: Mapping[str, Any], more: Mapping[str, Any], *, base_url: str, at: datetime
) -> dict[str, Any]:
    """A message Bundle; `more` is what its MessageHeader says beside event and source."""
    history_id = str(uuid5(NAMESPACE_URL, f"{base_url}/{id}"))
    header = {
        "resourceType": "MessageHeader",
        "id": id,
        "eventUri": event,
        "source": {"name": "Passerelle", "endpoint": f"{base_url}/$process-message"},
        **more,
        "focus": [{"reference": f"urn:uuid:{history_id}"}],
        "definition": _DEFINITION if event == FEED else f"{_DEFINITION}.Response",
    }
    return {
        "resourceType": "Bundle",
        "id": str(uuid5(NAMESPACE_URL, f"{base_url}/Bundle/{id}")),
        "type": "message",
        "timestamp": instant(at),
        "entry": [
            {"fullUrl": f"urn:uuid:{id}", "resource": header},
            {"fullUrl": f"urn:uuid:{history_id}", "resource": {**history, "id": history_id}},
        ],
    }
