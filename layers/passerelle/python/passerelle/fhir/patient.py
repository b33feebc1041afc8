"""Patient resources: what they say of a person's identity, and source records read back (FHIR R4, FR Core 2.2.0)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from passerelle.access import Request
from passerelle.consents.model import Policy, RecordStatus
from passerelle.errors import Issue, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.identity import (
    REPLACED_BY,
    Content,
    check_size,
    dated,
    declaration_of,
    still_qualified,
    strict_traits_of,
    traits_of,
    with_national,
    with_status,
    with_strict_traits,
    with_survivor,
    without_national,
    without_undisclosed,
)
from passerelle.fhir.index import entry_of
from passerelle.fhir.resource import stamped
from passerelle.patients.identity import IdentityScheme, changed_strict_traits
from passerelle.patients.insi import NationalIdentity
from passerelle.patients.model import Identifier, Person, StoredPatient, Traits
from passerelle.records.model import RecordVersion, ResourceKey, StoredVersion
from passerelle.records.ports import RecordStore, Scan
from passerelle.records.search import Query, matches

__all__ = [
    "FhirPatientDraft",
    "FhirPatientStore",
    "ValidatedPatientDraft",
    "dmp_view",
    "public_content",
    "public_view",
    "traits_of",
]

_DMP = "https://interop.esante.gouv.fr/ig/fhir/dmp/StructureDefinition/"
_MOTIVES = "https://interop.esante.gouv.fr/ig/fhir/dmp/CodeSystem/dmp-motif-fermeture"


class FhirPatientDraft:
    """`patients.ports.PatientDraft` over a Patient that passed `validation.validate`.

    Raises Unprocessable for an identity or a replacement that breaks a rule; what `is_stored` was checked before.
    """

    def __init__(
        self, content: Content, scheme: IdentityScheme, *, base_url: str = "", is_stored: bool = False
    ) -> None:
        self._content = content
        self._scheme = scheme
        if not is_stored:
            check_size(content)
        self._declared = declaration_of(content, scheme, base_url=base_url)
        self._is_restated = False
        if not is_stored:
            scheme.check(self._declared)
            _check_replacement(content, self.traits)

    @property
    def traits(self) -> Traits:
        return self._declared.traits

    @property
    def warnings(self) -> tuple[Issue, ...]:
        """What is stored, but looks wrong."""
        return self._scheme.warnings(self._declared)

    def revising(self, before: StoredPatient | None) -> FhirPatientDraft:
        """What a source may make of the stored version: `before` is None for a new record.

        Raises Forbidden when it would qualify the identity (INS-7). When a strict trait of a qualified identity
        changes, the identity is no longer qualified, and its national identifier is set aside (INS-9).
        """
        if before is None:
            return self
        was, now, qualified = before.traits.status, self.traits.status, self._scheme.reliability["qualified"]
        self._scheme.check_change(was, now, path=self._declared.status_path)
        if was == now == qualified:
            known = strict_traits_of(fhir_json.loads(before.body), self._scheme)
            if changed_strict_traits(known, strict_traits_of(self._content, self._scheme)):
                content = without_national(self._content, self._scheme)
                return self._restated(content, str(self._scheme.reliability["lowered"]))
        return self

    def qualified(self, found: NationalIdentity) -> FhirPatientDraft:
        """With the identifier and the strict traits that the national service has (INS-8)."""
        content = with_national(self._content, found.identifier, self._scheme)
        content = with_strict_traits(content, found.traits, self._scheme)
        return self._restated(content, str(self._scheme.reliability["qualified"]))

    def merged_into(self, survivor: Identifier | None, patient: str) -> FhirPatientDraft:
        """Out of use, with a reference to the surviving record beside whatever named it."""
        content = with_survivor({**self._content, "active": False}, patient, identifier=survivor)
        draft = FhirPatientDraft(content, self._scheme, is_stored=True)
        draft._is_restated = self._is_restated
        return draft

    def _restated(self, content: Content, status: str) -> FhirPatientDraft:
        draft = FhirPatientDraft(with_status(content, status, self._scheme), self._scheme)
        draft._is_restated = True
        return draft

    def version_of(self, patient: str, version: int, request: Request, before: StoredPatient | None) -> RecordVersion:
        content = stamped(self._content, patient, version, request.at)
        if self._is_restated:
            content = dated(content, request.at, self._scheme)
        return RecordVersion(
            key=_key(patient),
            version=version,
            at=request.at,
            body=fhir_json.dumps(content),
            entry=entry_of(content),
            previous=before.placement if before else None,
        )

    def equals(self, stored: StoredPatient) -> bool:
        return _said(self._content) == _said(fhir_json.loads(stored.body))


class ValidatedPatientDraft(FhirPatientDraft):
    """Of a source whose format says "validated" at most, of qualified identities, too (contract INS-7).

    `national` is the national identifier that it names, if it names one.
    """

    def __init__(
        self, content: Content, scheme: IdentityScheme, national: Identifier | None, *, base_url: str = ""
    ) -> None:
        super().__init__(content, scheme, base_url=base_url)
        self._national = national

    def revising(self, before: StoredPatient | None) -> FhirPatientDraft:
        """An identity that is qualified here stays so, if nothing else is said of who that is."""
        national = before.traits.qualified_identifier if before is not None else None
        if before is None or national is None or self._national not in (None, national):
            return super().revising(before)
        known = fhir_json.loads(before.body)
        was, told = (strict_traits_of(each, self._scheme) for each in (known, self._content))
        if changed_strict_traits(was, told):  # a birth place that is not told is no other one
            return super().revising(before)
        content = still_qualified(self._content, known, national, self._scheme)
        return FhirPatientDraft(content, self._scheme).revising(before)


def _key(patient: str) -> ResourceKey:
    return ResourceKey(type="Patient", id=patient, patient=patient)


def _said(content: Content) -> dict[str, Any]:
    meta = {name: v for name, v in content.get("meta", {}).items() if name not in ("versionId", "lastUpdated")}
    return {**{name: v for name, v in content.items() if name not in ("id", "meta")}, "meta": meta}


def _check_replacement(content: Content, traits: Traits) -> None:
    """Raise Unprocessable for a merge that makes no sense (contract 104-5); the service knows the rest."""
    places = [n for n, link in enumerate(content.get("link", [])) if link.get("type") == REPLACED_BY]
    if not places:
        return
    path = f"Patient.link[{places[0]}].other"
    if traits.is_active:
        raise Unprocessable("a record that is replaced is not active", expression="Patient.active")
    if len(places) > 1:
        raise Unprocessable("a record is replaced by one other", expression=f"Patient.link[{places[1]}]")
    survivor = traits.replaced_by
    if survivor is None:
        raise Unprocessable("the surviving record is not known", code="not-found", expression=path)
    if survivor.identifier in traits.identifiers or survivor.patient == content.get("id", ""):
        raise Unprocessable("a record does not replace itself", expression=path)


class FhirPatientStore:
    """`patients.ports.PatientStore`: source records as Patient resources in the record store."""

    def __init__(self, store: RecordStore, scheme: IdentityScheme, in_parallel: Callable[..., tuple[Any, ...]]) -> None:
        self._store = store
        self._scheme = scheme
        self._in_parallel = in_parallel

    def find(self, patient: str) -> StoredPatient | None:
        version = self._store.find_latest(_key(patient))
        return self._read(version) if version is not None else None

    def find_version(self, patient: str, version: int) -> StoredPatient | None:
        found = self._store.find_version(_key(patient), version)
        return self._read(found) if found is not None else None

    def matching(self, patients: Sequence[str], criteria: Query) -> Sequence[StoredPatient]:
        """Two round trips, however many there are: all entries at once, then all bodies."""
        if not patients:
            return []
        reads = self._in_parallel(*(lambda key=key: self._store.entries(key, "Patient", Scan()) for key in patients))
        entries = [each for page in reads for each in page.entries if matches(each.entry, criteria)]
        keys = [(each.key, each.version) for each in entries]
        versions = self._store.versions(keys)
        found = [self._read(versions[key]) for key in keys if key in versions]
        return [stored for stored in found if stored is not None]

    def draft(self, stored: StoredPatient) -> FhirPatientDraft:
        """What is stored as a draft again: to qualify it, to merge it, to bring an earlier version back."""
        return FhirPatientDraft(fhir_json.loads(stored.body), self._scheme, is_stored=True)

    def removal(self, before: StoredPatient, request: Request) -> RecordVersion:
        """The version that deletes a source record."""
        return RecordVersion(
            key=_key(before.patient),
            version=before.version + 1,
            at=request.at,
            body=None,
            entry=None,
            previous=before.placement,
        )

    def _read(self, version: StoredVersion) -> StoredPatient | None:
        if version.body is None:
            return None
        return StoredPatient(
            patient=version.id,
            version=version.version,
            at=version.at,
            body=version.body,
            traits=traits_of(fhir_json.loads(version.body), self._scheme),
            placement=version.placement,
        )


def public_content(stored: StoredPatient, person: Person, *, is_source: bool) -> Content:
    """A source record as this reader may see it; `person` is whom it belongs to.

    Others than its source read a national identifier only of a qualified identity, and only in use (INS-12). A record
    that was replaced by another one refers to it, however its source named that (D9).
    """
    return _disclosed(fhir_json.loads(stored.body), stored, person, is_source=is_source)


def public_view(stored: StoredPatient, person: Person, *, is_source: bool) -> bytes:
    """`public_content` as an answer: byte for byte as stored, unless there is something to leave out or to add."""
    content = fhir_json.loads(stored.body)
    shown = _disclosed(content, stored, person, is_source=is_source)
    return stored.body if shown == content else fhir_json.dumps(shown)


def _disclosed(content: Content, stored: StoredPatient, person: Person, *, is_source: bool) -> Content:
    shown = content if is_source else without_undisclosed(content, stored.traits)
    survivor = person.member(stored.patient).replaced_by
    return with_survivor(shown, survivor) if survivor else shown


def dmp_view(
    stored: StoredPatient, person: Person, *, is_source: bool, professional: str | None = None
) -> dict[str, Any]:
    """The answer of TD0.2: `active` tells whether the shared record is open, not whether the identity is in use.

    Nor does it tell what replaced the identity: that goes with the other meaning (P6). Of the attending physician it
    tells whether the caller's `professional` (IDNPS) is the one, as TD0.2 does, never who else is.
    """
    content = public_content(stored, person, is_source=is_source)
    links = [link for link in content.get("link", []) if link.get("type") != REPLACED_BY]
    rest = {name: value for name, value in content.items() if name != "link"}
    policy = person.policy
    extensions = [each for each in content.get("extension", []) if not each.get("url", "").startswith(_DMP)]
    if policy.status is RecordStatus.CLOSED:
        extensions.append({"url": f"{_DMP}dmp-fermeture", "extension": _closing(policy)})
    is_attending = professional is not None and professional == policy.attending_physician
    # No exchange of a region is Mon espace santé: what it holds is not attached there.
    extensions.append({"url": f"{_DMP}dmp-rattachement-mes", "valueBoolean": False})
    extensions.append({"url": f"{_DMP}dmp-medecin-traitant", "valueBoolean": is_attending})
    shown = {**rest, "active": policy.status is RecordStatus.OPEN, "extension": extensions}
    return {**shown, "link": links} if links else shown


def _closing(policy: Policy) -> list[dict[str, Any]]:
    motive, reason = policy.closing_motive, policy.closing_reason
    coded = {"coding": [{"system": _MOTIVES, "code": motive}]}
    return [
        {"url": "dateFermeture", "valueDate": policy.since.date().isoformat()},
        *([{"url": "motifFermeture", "valueCodeableConcept": coded}] if motive else []),
        *([{"url": "raisonFermeture", "valueString": reason}] if reason else []),
    ]
