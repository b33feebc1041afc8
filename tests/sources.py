"""Sources that register people, without HTTP: drafts, requests and answers of the patient index."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

from local.region import (
    BIRTH_GIVEN_NAMES,
    BIRTH_PLACE,
    COMMUNES,
    IDENTIFIER_TYPES,
    INS_TEST,
    INSEE_CODE,
    RELIABILITY,
    RELIABILITY_CODES,
)
from passerelle import wiring
from passerelle.access import Caller, Request, Scopes
from passerelle.authorization.model import Client
from passerelle.directory.model import Role
from passerelle.fhir.patient import FhirPatientDraft
from passerelle.patients.model import Person, Review
from tests import registered

AT = datetime(2026, 4, 1, 8, tzinfo=UTC)
_numbers = count(1)


def request(caller: Caller, *, name: str = "update", key: str | None = None) -> Request:
    """A request a second after the last one."""
    number = next(_numbers)
    return Request(
        caller=caller,
        name=name,
        action="U",
        request_id=str(number),
        at=AT + timedelta(seconds=number),
        base_url=registered.FHIR_URL,
        idempotency_key=key,
        fingerprint=key or "",
    )


STEWARD = Caller(
    client_id="steward",
    organisation="1990000102",
    role=Role.IDENTITY_STEWARD,
    scopes=Scopes.parse("system/Patient.ru"),
    token_id="t",
    professional="899900000001",
)


@dataclass(frozen=True)
class Source:
    """An organisation that feeds the index, with its identifier domain."""

    number: int

    @property
    def domain(self) -> str:
        return f"urn:oid:2.999.{self.number}"

    @property
    def caller(self) -> Caller:
        return Caller(
            client_id=f"source-{self.number}",
            organisation=f"1{self.number:09d}",
            role=Role.HOSPITAL,
            scopes=Scopes.parse("ITI-104 system/*.cruds"),
            token_id="t",
            domain=self.domain,
        )

    def register(self, local: str, **traits: Any) -> str:
        """Register or revise a person; returns the patient key."""
        done, _ = wiring.patient_service().register(
            request(self.caller), (self.domain, local), draft(self.domain, local, **traits)
        )
        return done.patient

    def plan(self, local: str, **traits: Any) -> Any:
        made = draft(self.domain, local, **traits)
        return wiring.patient_service().plan(request(self.caller), made, identifier=(self.domain, local))


def join(caller: Caller) -> None:
    """Register a source's client, and with it the domain."""
    wiring.clients().register(
        Client(
            id=caller.client_id,
            organisation=caller.organisation,
            role=Role(caller.role),
            scopes=caller.scopes,
            jwks=(),
            domain=caller.domain,
        )
    )


def draft(domain: str, local: str, **traits: Any) -> FhirPatientDraft:
    return FhirPatientDraft(patient(domain, local, **traits), wiring.identity_scheme())


def patient(
    domain: str,
    local: str,
    *,
    family: str = "MOREL",
    given: str = "Camille",
    born: str = "1971-03-08",
    gender: str = "female",
    place: str = "69123",
    ins: str | None = None,
    status: str | None = None,
    replaced_by: str | None = None,
    **content: Any,
) -> dict[str, Any]:
    """A Patient as FR Core has it. `ins` qualifies it, unless `status` says otherwise; `replaced_by` is a local id."""
    code = status or ("QUAL" if ins else "VALI")
    reliability = {"coding": [{"system": RELIABILITY_CODES, "code": code}]}
    identifiers: list[dict[str, Any]] = [{"use": "secondary", "system": domain, "value": local}]
    if ins is not None:
        kind = {"coding": [{"system": IDENTIFIER_TYPES, "code": "INS-NIR-TEST"}]}
        identifiers.append({"use": "official", "type": kind, "system": INS_TEST, "value": ins})
    made: dict[str, Any] = {
        "resourceType": "Patient",
        "extension": [
            {
                "url": RELIABILITY,
                "extension": [{"url": "identityStatus", "valueCodeableConcept": reliability}],
            },
            {
                "url": BIRTH_PLACE,
                "valueAddress": {
                    "extension": [{"url": INSEE_CODE, "valueCoding": {"system": COMMUNES, "code": place}}]
                },
            },
        ],
        "identifier": identifiers,
        "active": replaced_by is None,
        "name": [
            {
                "extension": [{"url": BIRTH_GIVEN_NAMES, "valueString": given}],
                "use": "official",
                "family": family,
                "given": [given],
            }
        ],
        "gender": gender,
        "birthDate": born,
    }
    if replaced_by is not None:
        made["link"] = [{"other": {"identifier": {"system": domain, "value": replaced_by}}, "type": "replaced-by"}]
    return made | content


_SYLLABLES = ("BAR", "CHO", "DUR", "FEL", "GUI", "LAN", "MOR", "NEU", "PAS", "ROU", "TIS", "VAL")
_GIVEN = ("Margaux", "Philippine", "Guillaume", "Bernadette", "Sylvestre", "Augustine")


def newcomer(seed: int | str) -> dict[str, Any]:
    """Traits for `patient` that nobody else has; the birth date stays one with month and day exchanged."""
    chosen = random.Random(seed)
    born = date(1931, 1, 1) + timedelta(days=chosen.randrange(25_000))
    return {
        "family": "".join(chosen.sample(_SYLLABLES, 3)),
        "given": chosen.choice(_GIVEN),
        "born": born.replace(day=born.month % 12 + 1).isoformat(),
        "place": f"{chosen.randrange(1, 96):02d}{chosen.randrange(1, 600):03d}",
    }


def person(key: str) -> Person:
    found = wiring.patient_index().find_person(key)
    assert found is not None
    return found


def reviews(key: str) -> list[Review]:
    return list(wiring.patient_index().reviews_of(key))


def like(caller: Caller, **changes: Any) -> Caller:
    return replace(caller, **changes)
