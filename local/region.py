"""The synthetic region that the local stack is seeded with: who takes part, and twenty people who do not exist.

Identifiers are under test and example OIDs: INS test (1.2.250.1.213.1.4.10), 2.999 (ITU-T X.660 example arc).
FINESS and RPPS numbers are made up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

INS_TEST: Final = "urn:oid:1.2.250.1.213.1.4.10"
IDNST: Final = "urn:oid:1.2.250.1.71.4.2.2"
IDNPS: Final = "urn:oid:1.2.250.1.71.4.2.1"
RELIABILITY: Final = "https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-identity-reliability"
RELIABILITY_CODES: Final = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0445"


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """A client of the exchange with the structure it acts for. `finess` has 9 digits, `rpps` 11."""

    id: str
    role: str
    name: str
    finess: str
    scopes: str
    domain: str | None = None
    rpps: str | None = None
    patient: str | None = None

    @property
    def organisation(self) -> str:
        return f"1{self.finess}"  # IDNST: type 1 (FINESS), then the number

    @property
    def professional(self) -> str | None:
        return f"8{self.rpps}" if self.rpps else None  # IDNPS: type 8 (RPPS), then the number


_FEED = "ITI-104 ITI-65 system/Organization.c system/Practitioner.c"
_DOCUMENTS = "ITI-66 ITI-67 ITI-68"
_PEOPLE = "ITI-78 TD0.2"
_DIRECTORY = "system/Organization.rs system/Practitioner.rs"
_NOTIFY = "system/Subscription.crud system/AuditEvent.rs"
_CARE = f"{_PEOPLE} {_DOCUMENTS} {_DIRECTORY} {_NOTIFY} system/*.rs"

PARTICIPANTS: Final = (
    Participant(
        id="hospital-a",
        role="hospital",
        name="Centre hospitalier des Trois Rivières",
        finess="990000011",
        rpps="10000000011",
        domain="urn:oid:2.999.1",
        scopes=f"{_FEED} {_CARE} system/*.cruds",
    ),
    Participant(
        id="hospital-b",
        role="hospital",
        name="Clinique du Vieux Port",
        finess="990000029",
        rpps="10000000029",
        domain="urn:oid:2.999.2",
        scopes=f"{_FEED} {_CARE} system/*.cruds",
    ),
    Participant(
        id="practice",
        role="practice",
        name="Cabinet médical des Tilleuls",
        finess="990000037",
        rpps="10000000037",
        domain="urn:oid:2.999.3",
        scopes=f"{_FEED} {_CARE} system/*.cruds",
    ),
    Participant(
        id="laboratory",
        role="laboratory",
        name="Laboratoire de la Place",
        finess="990000045",
        rpps="10000000045",
        domain="urn:oid:2.999.4",
        scopes=f"{_FEED} {_CARE} system/*.cruds",
    ),
    Participant(
        id="pharmacy-a",
        role="pharmacy",
        name="Pharmacie du Marché",
        finess="990000052",
        rpps="10000000052",
        scopes=f"{_CARE} system/Task.ru system/MedicationDispense.crs",
    ),
    Participant(
        id="pharmacy-b",
        role="pharmacy",
        name="Pharmacie de la Gare",
        finess="990000060",
        rpps="10000000060",
        scopes=f"{_CARE} system/Task.ru system/MedicationDispense.crs",
    ),
    Participant(
        id="nurse",
        role="nurse",
        name="Cabinet infirmier des Lilas",
        finess="990000078",
        rpps="10000000078",
        scopes=_CARE,
    ),
    Participant(
        id="patient-1",
        role="patient",
        name="Patient 1",
        finess="990000086",
        patient=f"{INS_TEST}|255069900000101",
        scopes="ITI-66 ITI-67 ITI-68 ITI-78 system/*.rs system/Task.u",
    ),
    Participant(
        id="auditor",
        role="auditor",
        name="Agence régionale, contrôle des accès",
        finess="990000094",
        scopes="ITI-81 system/AuditEvent.rs",
    ),
)

# Birth name, given names, gender, birth date, town: accents, particles, compound names and homonyms on purpose.
_PEOPLE_ROWS = (
    ("DUPONT", "Élise", "female", "1955-06-14", "Rivières"),
    ("D'ŒUVRE", "Jean-Baptiste", "male", "1948-02-29", "Saint-Anne"),
    ("LE GOFF", "Maël", "male", "2019-11-03", "Port-Vieux"),
    ("MARTIN", "Marie", "female", "1962-01-01", "Rivières"),
    ("MARTIN", "Marie", "female", "1962-01-10", "Rivières"),
    ("NGUYEN", "Thi Lan", "female", "1979-08-22", "Port-Vieux"),
    ("BENALI", "Karim", "male", "1986-12-30", "Saint-Anne"),
    ("DE LA TOUR", "Côme", "male", "1933-04-05", "Rivières"),
    ("FERREIRA DA SILVA", "Inês", "female", "1991-07-17", "Port-Vieux"),
    ("MÜLLER", "Anaïs", "female", "2001-09-09", "Rivières"),
    ("BERNARD", "Hugo", "male", "2012-03-21", "Saint-Anne"),
    ("BERNARD", "Léa", "female", "2012-03-21", "Saint-Anne"),
    ("ROUSSEAU", "Michel", "male", "1941-10-11", "Rivières"),
    ("ROUX", "Michelle", "female", "1941-10-11", "Rivières"),
    ("ŁUKASIEWICZ", "Zoé", "female", "1997-05-25", "Port-Vieux"),
    ("DIALLO", "Aminata", "female", "1983-02-14", "Rivières"),
    ("O'BRIEN", "Sinéad", "female", "1970-06-06", "Saint-Anne"),
    ("PETIT", "Paul", "male", "1929-12-25", "Port-Vieux"),
    ("GARCIA", "Rosa", "female", "1951-03-08", "Rivières"),
    ("LEFÈVRE", "Noé", "male", "2024-01-31", "Saint-Anne"),
)


def people(domain: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The twenty people as one source registers them: (local identifier, Patient)."""
    for number, (family, given, gender, born, town) in enumerate(_PEOPLE_ROWS, 1):
        local = f"{number:06d}"
        yield local, person(domain, local, ins_of(number), family, given, gender, born, town)


def ins_of(number: int) -> str:
    """A made-up matricule of 15 digits under the test OID; the key digits are the sequence number."""
    _, _, gender, born, _ = _PEOPLE_ROWS[number - 1]
    return f"{2 if gender == 'female' else 1}{born[2:4]}{born[5:7]}99{number:06d}{number:02d}"


def person(
    domain: str, local: str, ins: str, family: str, given: str, gender: str, born: str, town: str
) -> dict[str, Any]:
    status = {"coding": [{"system": RELIABILITY_CODES, "code": "QUAL"}]}
    return {
        "resourceType": "Patient",
        "extension": [{"url": RELIABILITY, "extension": [{"url": "identityStatus", "valueCodeableConcept": status}]}],
        "identifier": [
            {"use": "official", "system": INS_TEST, "value": ins},
            {"use": "secondary", "system": domain, "value": local},
        ],
        "active": True,
        "name": [{"use": "official", "family": family, "given": given.split(" ")}],
        "gender": gender,
        "birthDate": born,
        "address": [{"city": town, "country": "FRA"}],
    }


def organisation(participant: Participant) -> dict[str, Any]:
    return {
        "resourceType": "Organization",
        "identifier": [{"system": IDNST, "value": participant.organisation}],
        "active": True,
        "name": participant.name,
    }


def practitioner(participant: Participant) -> dict[str, Any]:
    return {
        "resourceType": "Practitioner",
        "identifier": [{"system": IDNPS, "value": participant.professional}],
        "active": True,
        "name": [{"family": f"PROFESSIONNEL {participant.id.upper()}"}],
    }
