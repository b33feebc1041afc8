"""What documents stated, once they no longer stand: resources that were read of one that is withdrawn or replaced.

A resource goes with its document when nobody else speaks for it: every Provenance that names it comes of a document
that does not stand either, and its current version came with one of these. It is marked as entered in error, as its
type has it, and never deleted. What others stated, too, or changed, stays. All of the record is looked at, whatever of
it the caller sees: the rule is about the person (W3C PROV, FHIR R4 Provenance.entity; law 1).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from passerelle.access import Request
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import TransactionEntry
from passerelle.fhir.resource import ResourceDraft
from passerelle.patients.model import Person
from passerelle.records.gate import Gate
from passerelle.records.model import ResourceKey, StoredVersion
from passerelle.records.ports import RecordStore, Scan
from passerelle.records.search import Entry, Include, targets_of
from passerelle.records.service import Plan, RecordService, Target

_ERROR: Final = "entered-in-error"
_DOCUMENT: Final = "DocumentReference/"
_VERIFIED: Final = {
    "AllergyIntolerance": "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification",
    "Condition": "http://terminology.hl7.org/CodeSystem/condition-ver-status",
}
_HAVING_STATUS: Final = frozenset({"DiagnosticReport", "Immunization", "MedicationStatement", "Observation"})
# What is not so has no clinical status (ait-2, con-5), and without one no end (con-4).
_SAID_OF_WHAT_IS_SO: Final = frozenset({"clinicalStatus", "abatementDateTime", "abatementAge", "abatementPeriod"})


READ: Final = {"system": "https://passerelle.example/CodeSystem/document", "code": "read"}
"""The tag of a document that resources may have been read of: others have stated nothing."""


def is_read(document: Mapping[str, Any]) -> bool:
    return READ in [
        {"system": tag.get("system"), "code": tag.get("code")} for tag in document.get("meta", {}).get("tag", [])
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The current version of what a document stated; `is_alone`: it goes with the document."""

    version: StoredVersion
    content: Mapping[str, Any]
    is_alone: bool

    @property
    def is_withdrawn(self) -> bool:
        return _is_withdrawn(self.content)

    @property
    def reference(self) -> str:
        return self.version.key.reference

    def withdrawn(self) -> dict[str, Any]:
        """The resource as it is once it was never so."""
        if self.version.type in _HAVING_STATUS:
            return {**self.content, "status": _ERROR}
        rest = {name: value for name, value in self.content.items() if name not in _SAID_OF_WHAT_IS_SO}
        coding = {"system": _VERIFIED[self.version.type], "code": _ERROR}
        return {**rest, "verificationStatus": {"coding": [coding]}}

    def withdrawal(self, path: str) -> TransactionEntry:
        """The entry of a transaction that makes it so, of the version that was looked at."""
        return TransactionEntry(
            path=path,
            full_url=None,
            method="PUT",
            url=self.reference,
            type=self.version.type,
            id=self.version.id,
            resource=self.withdrawn(),
            if_match=self.version.version,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A Provenance: what it is about, of which documents that came, and when it was stored."""

    targets: frozenset[str]
    documents: frozenset[str]
    at: datetime


class Statements:
    """`in_parallel` runs independent reads at once and returns their results in order."""

    def __init__(
        self,
        *,
        records: RecordService,
        gate: Gate,
        store: RecordStore,
        in_parallel: Callable[..., tuple[Any, ...]],
    ) -> None:
        self._records = records
        self._gate = gate
        self._store = store
        self._in_parallel = in_parallel

    def withdrawal(self, request: Request, document: ResourceKey) -> list[Plan]:
        """What is to be committed with the withdrawal of a document."""
        person = self._person(document)
        if person is None:
            return []
        return [
            self._records.plan_update(
                request,
                ResourceDraft(each.withdrawn(), request.base_url),
                Target(key=each.version.key, current=each.version, person=person),
                if_match=each.version.version,
            )
            for each in self.of(document)
            if each.is_alone
        ]

    def of(self, document: ResourceKey, *, beside: Collection[ResourceKey] = ()) -> list[Statement]:
        """What was read of a document, sorted by reference; nothing that was deleted since.

        Documents that go `beside` it, in the same commit, hold nothing either.
        """
        person = self._person(document)
        if person is None:
            return []
        sources = self._sources(person)
        own = [each for each in sources if document.reference in each.documents]
        told = sorted({target for each in own for target in each.targets} - {document.reference})
        if not told:
            return []
        published, *found = self._latest([document.reference, *told])
        if published is None:
            return []
        naming = [[each for each in sources if name in each.targets] for name in told]
        others = {name for some in naming for each in some for name in each.documents}
        others -= {document.reference, *(each.reference for each in beside)}
        standing = self._standing(sorted(others))
        return [
            Statement(
                version=version,
                content=content,
                is_alone=version.producer == published.producer
                and _may_go(version, content)
                and _is_alone(version, about, document.reference, standing),
            )
            for version, about in zip(found, naming, strict=True)
            if version is not None and version.body is not None
            for content in (fhir_json.loads(version.body),)
        ]

    def _person(self, document: ResourceKey) -> Person | None:
        return self._gate.find_person(document.patient) if document.patient is not None else None

    def _sources(self, person: Person) -> list[_Source]:
        pages = self._in_parallel(
            *(partial(self._store.entries, each, "Provenance", Scan()) for each in person.members)
        )
        return [
            _Source(
                targets=frozenset(_named(each.entry, "target")),
                documents=frozenset(name for name in _named(each.entry, "entity") if name.startswith(_DOCUMENT)),
                at=each.at,
            )
            for page in pages
            for each in page.entries
        ]

    def _standing(self, documents: Sequence[str]) -> set[str]:
        """Those of the documents that were neither withdrawn nor replaced."""
        return {
            each.reference
            for each in self._latest(documents)
            if each is not None and each.body is not None and fhir_json.loads(each.body).get("status") == "current"
        }

    def _latest(self, references: Sequence[str]) -> list[StoredVersion | None]:
        keys = [ResourceKey.of(*each.split("/")) for each in references]
        reads = [partial(self._store.find_latest, key) if key is not None else _nothing for key in keys]
        return list(self._in_parallel(*reads)) if reads else []


def _named(entry: Entry, parameter: str) -> Iterator[str]:
    return iter(targets_of(entry, Include(type="Provenance", parameter=parameter, target=None)))


def _nothing() -> None:
    """What is stored under an id that a client chose: no conversion made it."""


def _is_withdrawn(content: Mapping[str, Any]) -> bool:
    codings = content.get("verificationStatus", {}).get("coding", ())
    return content.get("status") == _ERROR or any(each.get("code") == _ERROR for each in codings)


def _may_go(version: StoredVersion, content: Mapping[str, Any]) -> bool:
    is_known = version.type in _HAVING_STATUS or version.type in _VERIFIED
    return is_known and not version.is_managed and not _is_withdrawn(content)


def _is_alone(version: StoredVersion, about: Sequence[_Source], document: str, standing: set[str]) -> bool:
    """Whether nobody speaks for it but documents that do not stand, and it is as one of these left it.

    What a conversion makes is stored in one commit with its Provenance: both are of the same time.
    """
    is_held = any(not each.documents or each.documents & standing for each in about if document not in each.documents)
    return not is_held and any(each.documents and each.at == version.at for each in about)
