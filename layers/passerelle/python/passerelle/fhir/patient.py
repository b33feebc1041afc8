"""Patient resources: what they say of a person's identity, and source records read back (FHIR R4, FR Core 2.2.0)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

from passerelle.access import Request
from passerelle.errors import Invalid, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.index import entry_of
from passerelle.fhir.resource import identifiers_of, instant, read_identifiers, stamped
from passerelle.fhir.search import parse_query
from passerelle.patients.identity import IdentityScheme
from passerelle.patients.model import Person, Traits
from passerelle.patients.service import PatientSearch, StoredPatient
from passerelle.records.model import RecordVersion, ResourceKey, StoredVersion
from passerelle.records.ports import RecordStore, Scan
from passerelle.records.search import Query, matches

_DMP = "https://interop.esante.gouv.fr/ig/fhir/pdsm4dmp/StructureDefinition/"


class FhirPatientDraft:
    """`patients.service.PatientDraft` over a Patient that passed `validation.validate`."""

    def __init__(self, content: Mapping[str, Any], scheme: IdentityScheme) -> None:
        self._content = content
        self.status = identity_status(content, scheme)
        self.traits = _traits(content, is_qualified=self.status == scheme.reliability["qualified"])
        scheme.check(self.traits, status=self.status)

    def version_of(self, patient: str, version: int, request: Request, before: StoredPatient | None) -> RecordVersion:
        content = stamped(self._content, patient, version, request.at)
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


def _key(patient: str) -> ResourceKey:
    return ResourceKey(type="Patient", id=patient, patient=patient)


def _said(content: Mapping[str, Any]) -> dict[str, Any]:
    meta = {name: v for name, v in content.get("meta", {}).items() if name not in ("versionId", "lastUpdated")}
    return {**{name: v for name, v in content.items() if name not in ("id", "meta")}, "meta": meta}


def identity_status(content: Mapping[str, Any], scheme: IdentityScheme) -> str:
    """The reliability of the identity (INS-1): one code of the scheme; raises Unprocessable for any other."""
    rules = scheme.reliability
    codes = [
        coding.get("code")
        for extension in content.get("extension", [])
        if extension.get("url") == rules["extension"]
        for part in extension.get("extension", [])
        if part.get("url") == rules["part"]
        for coding in part.get("valueCodeableConcept", {}).get("coding", [part.get("valueCoding", {})])
    ]
    if not codes:
        return str(rules["absent"])
    if len(codes) > 1 or codes[0] not in rules["codes"]:
        raise Unprocessable(
            "the identity status is not one of the scheme's codes", code="code-invalid", expression="Patient.extension"
        )
    return str(codes[0])


def _traits(content: Mapping[str, Any], *, is_qualified: bool) -> Traits:
    names = content.get("name", [])
    born = content.get("birthDate", "")
    return Traits(
        identifiers=identifiers_of(content),
        family_names=tuple(name["family"] for name in names if "family" in name),
        given_names=tuple(given for name in names for given in name.get("given", []) if given),
        birth_date=date.fromisoformat(born) if len(born) == 10 else None,
        gender=content.get("gender"),
        is_qualified=is_qualified,
    )


class FhirPatientStore:
    """`patients.service.PatientStore`: source records as Patient resources in the record store."""

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

    def _read(self, version: StoredVersion) -> StoredPatient | None:
        if version.body is None:
            return None
        content = fhir_json.loads(version.body)
        qualified = identity_status(content, self._scheme) == self._scheme.reliability["qualified"]
        return StoredPatient(
            patient=version.id,
            version=version.version,
            at=version.at,
            body=version.body,
            traits=_traits(content, is_qualified=qualified),
            placement=version.placement,
        )


def dmp_view(stored: StoredPatient, person: Person) -> dict[str, Any]:
    """The answer of TD0.2: `active` tells whether the shared record is open, not whether the identity is in use."""
    content = fhir_json.loads(stored.body)
    policy = person.policy
    extensions = [each for each in content.get("extension", []) if not each.get("url", "").startswith(_DMP)]
    if policy.status == "open":
        extensions.append({"url": f"{_DMP}dmp-rattachement-mes", "valueBoolean": False})
    else:
        reason = [{"url": "raisonFermeture", "valueString": policy.closing_reason}] if policy.closing_reason else []
        closed = [{"url": "dateFermeture", "valueDateTime": instant(policy.since)}, *reason]
        extensions.append({"url": f"{_DMP}dmp-fermeture", "extension": closed})
    return {**content, "active": policy.status == "open", "extension": extensions}


def read_search(pairs: Sequence[tuple[str, str]], *, base_url: str, strict: bool) -> PatientSearch:
    """Read the parameters of ITI-78; raises Invalid with the name of a malformed one."""
    parsed = parse_query("Patient", pairs, base_url=base_url, strict=strict)
    given = dict(pairs)
    identifiers = read_identifiers(pairs) if "identifier" in given else ()
    born = given.get("birthdate", "").removeprefix("eq")
    try:
        birth_date = date.fromisoformat(born) if born and not identifiers else None
    except ValueError:
        raise Invalid("people are searched by a whole birth date", code="value", expression="birthdate") from None
    return PatientSearch(
        identifiers=identifiers,
        birth_date=birth_date,
        family=given.get("family", given.get("family:exact", "")),
        criteria=parsed.query,
        used=tuple(parsed.used),
    )


def single_identifier(pairs: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """The condition of ITI-104, `identifier=system|value` and nothing else; raises Invalid."""
    identifiers = read_identifiers(pairs)
    if len(identifiers) != 1 or len(pairs) != 1:
        raise Invalid("the condition is one identifier", code="invalid", expression="identifier")
    return identifiers[0]


def patient_body(stored: StoredPatient, person: Person, *, is_dmp_view: bool) -> bytes:
    """A source record as an answer: as stored, or as TD0.2 shows it."""
    return fhir_json.dumps(dmp_view(stored, person)) if is_dmp_view else stored.body
