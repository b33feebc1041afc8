"""One HL7 v2 message on its way to a transaction: what was made so far, and what each thing goes by.

Whom a message is about is named by its sender's own number for the person (PID-3), else by an identifier that is known
here already: the national one, or that of another house. Registrations revise the Patient (A01, A04, A05, A08, A28,
A31), and every ADT the Encounter; other messages bring them only where the exchange has none: a laboratory does not
correct what admissions know, and a transfer tells little of the person.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from passerelle.documents.contents import Code
from passerelle.documents.contents.times import read_time
from passerelle.fhir.conversion.made import Entry, identifier_element, made_identifier, made_uuid, post, put
from passerelle.fhir.conversion.values import table
from passerelle.fhir.dates import instant
from passerelle.hl7v2.message import Message, Segment
from passerelle.ingestion.model import Source
from passerelle.patients.model import Identifier

Resource = Mapping[str, Any]
Reference = Mapping[str, Any]


class Draft:
    def __init__(self, message: Message, source: Source, *, kind: str, event: str, feeds: bool) -> None:
        msh = message.first("MSH")
        self.message = message
        self.source = source
        self.kind = kind
        self.event = event
        self.feeds = feeds
        self.sender = "|".join((msh[3].part(1, 1), msh[4].part(1, 1)))
        self.control_id = msh[10][1]
        self.at = _moment(message)
        self.patient: Identifier | None = None  # in the source's own domain
        self.subject: Reference = {}
        self.encounter: Reference | None = None
        self.validated: dict[str, Identifier | None] = {}
        self.ordered: dict[str, str] = {}
        self.withdrawn: tuple[Identifier, ...] = ()
        self.lost: list[str] = []
        self.copies: frozenset[str] = frozenset()
        self.labels: tuple[Code, ...] = ()  # what hides the content of the message from somebody
        self._entries: dict[str, Entry] = {}
        self._others: list[Entry] = []

    @property
    def whom(self) -> str:
        """The person in names of things that have no number of their own."""
        return self.patient[1] if self.patient else str(self.subject.get("reference"))

    # --- what is made ---------------------------------------------------------------------------------------------

    def register(self, identifier: Identifier, patient: Resource) -> None:
        """Whom everything else is about."""
        url = made_uuid(self.source, "Patient", *identifier)
        query = f"identifier={identifier[0]}|{identifier[1]}"
        self.patient, self.subject = identifier, {"reference": url}
        if self.feeds and self.event in table("identity_feeding"):
            self.ordered[url] = url
            self._entries[url] = {
                "fullUrl": url,
                "resource": patient,
                "request": {"method": "PUT", "url": f"Patient?{query}"},
            }
        else:
            self._entries[url] = post(url, patient, ifNoneExist=query)

    def name(self, identifier: Identifier) -> None:
        """Who is known here by this identifier, and is not the source's to register."""
        self.subject = {"reference": f"Patient?identifier={identifier[0]}|{identifier[1]}"}

    def put(self, resource: Resource, *names: str, within: Sequence[str] = ()) -> Reference:
        """Create or replace what the sender calls so, unless a newer message told of it.

        `names` begin with the kind of thing. Its position is kept with those of all that are `within` the same: by
        default, of its kind and about the same person.
        """
        entry = put(made_identifier(self.source, *names), resource)
        self._entries[entry["fullUrl"]] = entry
        self.ordered[entry["fullUrl"]] = chr(0).join(within or (names[0], self.whom))
        return {"reference": entry["fullUrl"]}

    def visit(self, encounter: Resource, *names: str) -> None:
        """The stay or consultation that the message belongs to."""
        entry = put(made_identifier(self.source, "visit", *names), encounter)
        url = entry["fullUrl"]
        if self.feeds:
            self.ordered[url] = url
        else:
            query = str(entry["request"]["url"]).partition("?")[2]
            entry["request"] = {"method": "POST", "url": "Encounter", "ifNoneExist": query}
        self._entries[url] = entry
        self.encounter = {"reference": url}

    def revise(self, reference: Reference, **elements: Any) -> None:
        """Add to what this message made."""
        url = str(reference["reference"])
        entry = self._entries[url]
        self._entries[url] = {**entry, "resource": {**entry["resource"], **elements}}

    def made(self, reference: Reference) -> Resource:
        found: Resource = self._entries[str(reference["reference"])]["resource"]
        return found

    def add(self, entries: Sequence[Entry]) -> None:
        """Entries that others made: documents with their contents."""
        self._others += entries

    def about(self, resource: Resource, *, subject: str = "subject", encounter: str = "encounter") -> dict[str, Any]:
        """The resource with whose it is, and in which encounter."""
        elements = {**resource, subject: self.subject}
        if self.encounter is not None and encounter:
            elements[encounter] = self.encounter
        return elements

    @property
    def is_something(self) -> bool:
        """Whether anything is made beside the person."""
        return any(each["resource"]["resourceType"] != "Patient" for each in self._entries.values())

    # --- the whole ------------------------------------------------------------------------------------------------

    @property
    def bundle(self) -> dict[str, Any]:
        entries = [self._labelled(each) for each in (*self._entries.values(), *self._others)]
        if not any("fullUrl" in each for each in entries):
            return {}
        return {"resourceType": "Bundle", "type": "transaction", "entry": [*entries, self._provenance(entries)]}

    def _labelled(self, entry: Entry) -> Entry:
        """Who may not see a document may not see what was read of it either."""
        resource = entry["resource"]
        if not self.labels or resource["resourceType"] in _NOT_LABELLED:
            return entry
        meta = resource.get("meta", {})
        codings = [{"system": each.system, "code": each.code} for each in self.labels]
        labelled = {**meta, "security": [*meta.get("security", ()), *codings]}
        return {**entry, "resource": {**resource, "meta": labelled}}

    def _provenance(self, entries: Sequence[Entry]) -> Entry:
        # What is read of a document has a Provenance of its own, which leads to the document.
        told = {
            target["reference"]
            for each in self._others
            if each["resource"]["resourceType"] == "Provenance"
            for target in each["resource"]["target"]
        }
        kept = [
            each
            for each in entries
            if "fullUrl" in each and each["resource"]["resourceType"] != "Binary" and each["fullUrl"] not in told
        ]
        original = made_identifier(self.source, "message", self.sender, self.control_id)
        provenance = {
            "resourceType": "Provenance",
            "target": [{"reference": each["fullUrl"]} for each in kept],
            "recorded": instant(self.source.now),
            "agent": [
                {
                    "type": {"coding": [{"system": _PARTICIPANT, "code": "assembler"}]},
                    "who": self.source.organisation_reference,
                }
            ],
            "entity": [{"role": "source", "what": {"identifier": identifier_element(original), "display": self.kind}}],
        }
        if self.at is not None:
            provenance["occurredDateTime"] = instant(self.at)
        return post(made_uuid(self.source, "Provenance", self.sender, self.control_id), provenance)


# Documents have labels of their own; who somebody is, and that there is a stay, are no content of a result.
_NOT_LABELLED = ("Patient", "Encounter", "DocumentReference", "Binary", "Parameters", "Provenance")
_EARLIEST, _LATEST = 1900, 9000
_PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"


def _moment(message: Message) -> datetime | None:
    """When what it tells of happened; None for a time that nobody means."""
    evn, msh = message.first("EVN"), message.first("MSH")
    said = (read_time(each[1]) for each in (evn[6], evn[2], msh[7]))
    return next((each for each in said if each is not None and _EARLIEST < each.year < _LATEST), None)


def digest(segment: Segment, *fields: int) -> str:
    """What tells a segment without a number of its own from others: what it says in these fields."""
    text = "\x1f".join(segment.raw(field) for field in fields)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
