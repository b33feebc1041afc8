"""The synthetic region that the local stack is seeded with: who takes part, and twenty people who do not exist.

Identifiers are under test and example OIDs: INS test (1.2.250.1.213.1.4.10), 2.999 (ITU-T X.660 example arc).
FINESS and RPPS numbers are made up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from passerelle.patients.identity import nir_key

INS_TEST: Final = "urn:oid:1.2.250.1.213.1.4.10"
IDNST: Final = "urn:oid:1.2.250.1.71.4.2.2"
IDNPS: Final = "urn:oid:1.2.250.1.71.4.2.1"
RELIABILITY: Final = "https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-identity-reliability"
RELIABILITY_CODES: Final = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0445"
IDENTIFIER_TYPES: Final = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0203"
BIRTH_GIVEN_NAMES: Final = "https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-patient-birth-list-given-name"
BIRTH_PLACE: Final = "http://hl7.org/fhir/StructureDefinition/patient-birthPlace"
INSEE_CODE: Final = "https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-address-insee-code"
COMMUNES: Final = "https://mos.esante.gouv.fr/NOS/TRE_R13-CommuneOM/FHIR/TRE-R13-CommuneOM"


@dataclass(frozen=True, slots=True)
class _Somebody:
    """`given` are the birth given names, separated by commas; `used` is a name in use that is not the birth name."""

    family: str
    given: str
    gender: str
    born: str
    place: str
    line: str
    town: str
    used: str = ""


# Accents, particles, compound names, homonyms and twins on purpose. Department 00 does not exist; Corsica (2A) and
# countries (99) have the codes of INSEE.
_REGION: Final = (
    _Somebody("DUPONT", "Élise,Jeanne", "female", "1955-06-14", "00001", "12 rue des Lilas", "Rivières"),
    _Somebody("D'ŒUVRE", "Jean-Baptiste,Marie", "male", "1948-02-29", "00002", "3 place du Marché", "Saint-Anne"),
    _Somebody("LE GOFF", "Maël", "male", "2019-11-03", "00003", "8 quai des Brumes", "Port-Vieux"),
    _Somebody("MARTIN", "Marie,Louise", "female", "1962-01-01", "00001", "5 avenue Jean-Jaurès", "Rivières", "LEROY"),
    _Somebody("MARTIN", "Marie,Thérèse", "female", "1962-01-10", "00001", "27 bd Victor Hugo", "Rivières"),
    _Somebody("NGUYEN", "Thi Lan", "female", "1979-08-22", "99243", "1 bis impasse du Port", "Port-Vieux"),
    _Somebody("BENALI", "Karim", "male", "1986-12-30", "99352", "14 rue de la Gare", "Saint-Anne"),
    _Somebody("DE LA TOUR", "Côme,Marie,Aymar", "male", "1933-04-05", "00001", "2 allée du Château", "Rivières"),
    _Somebody("FERREIRA DA SILVA", "Inês", "female", "1991-07-17", "99139", "31 rue du Large", "Port-Vieux"),
    _Somebody("MÜLLER", "Anaïs,Sophie", "female", "2001-09-09", "00001", "9 rue Saint-Exupéry", "Rivières"),
    _Somebody("BERNARD", "Hugo", "male", "2012-03-21", "00002", "6 chemin des Vignes", "Saint-Anne"),
    _Somebody("BERNARD", "Léa", "female", "2012-03-21", "00002", "6 chemin des Vignes", "Saint-Anne"),
    _Somebody("ROUSSEAU", "Michel,André", "male", "1941-10-11", "00001", "40 rue Pasteur", "Rivières"),
    _Somebody("ROUX", "Michelle,Andrée", "female", "1941-10-11", "00001", "17 route de Paris", "Rivières", "ROUSSEL"),
    _Somebody("ŁUKASIEWICZ", "Zoé", "female", "1997-05-25", "99122", "22 rue du Phare", "Port-Vieux"),
    _Somebody("DIALLO", "Aminata", "female", "1983-02-14", "99341", "4 square des Tilleuls", "Rivières"),
    _Somebody("O'BRIEN", "Sinéad", "female", "1970-06-06", "99136", "11 rue de l'Église", "Saint-Anne"),
    _Somebody("PETIT", "Paul,Antoine", "male", "1929-12-25", "2A999", "19 rue des Pêcheurs", "Port-Vieux"),
    _Somebody("GARCIA", "Rosa,María", "female", "1951-03-08", "99134", "33 cours Voltaire", "Rivières", "PETIT"),
    _Somebody("LEFÈVRE", "Noé", "male", "2024-01-31", "00002", "7 rue du Lavoir", "Saint-Anne"),
)
_POSTCODES: Final = {"Rivières": "00100", "Saint-Anne": "00200", "Port-Vieux": "00300"}


def ins_of(number: int) -> str:
    """A made-up matricule under the test OID, formed as one is: sex, year, month, birth place, order, key."""
    who = _REGION[number - 1]
    matricule = f"{2 if who.gender == 'female' else 1}{who.born[2:4]}{who.born[5:7]}{who.place}{number:03d}"
    return matricule + nir_key(matricule)


def insured() -> Iterator[tuple[str, str, str, str]]:
    """The twenty people as they log in: first given name, family name, date of birth, matricule."""
    for number, who in enumerate(_REGION, 1):
        yield who.given.split(",")[0], who.used or who.family, who.born, ins_of(number)


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


_FEED = "ITI-93 ITI-104 ITI-65 system/Organization.c system/Practitioner.c"
_DOCUMENTS = "ITI-66 ITI-67 ITI-68"
_PEOPLE = "ITI-78 ITI-83 ITI-119 TD0.2"
_DIRECTORY = "system/Organization.rs system/Practitioner.rs"
_NOTIFY = "ITI-94 system/Subscription.crud system/AuditEvent.rs"
_CARE = f"{_PEOPLE} {_DOCUMENTS} {_DIRECTORY} {_NOTIFY} system/*.rs"

PARTICIPANTS: Final = (
    Participant(
        id="hospital-a",
        role="hospital",
        name="Centre hospitalier des Trois Rivières",
        finess="990000011",
        rpps="10000000011",
        domain="urn:oid:2.999.1",
        scopes=f"{_FEED} {_CARE} ITI-20 ITI-81 system/*.cruds",
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
        scopes=f"{_CARE} system/Task.ru system/MedicationDispense.crus",
    ),
    Participant(
        id="pharmacy-b",
        role="pharmacy",
        name="Pharmacie de la Gare",
        finess="990000060",
        rpps="10000000060",
        scopes=f"{_CARE} system/Task.ru system/MedicationDispense.crus",
    ),
    Participant(
        id="nurse",
        role="nurse",
        name="Cabinet infirmier des Lilas",
        finess="990000078",
        rpps="10000000078",
        scopes=f"{_CARE} system/Task.u",
    ),
    Participant(
        id="patient-1",
        role="patient",
        name="Patient 1",
        finess="990000086",
        patient=f"{INS_TEST}|{ins_of(1)}",
        scopes=(
            "ITI-66 ITI-67 ITI-68 ITI-78 ITI-108 TD3.3a TD3.3d "
            "system/*.rs system/Patient.u system/Subscription.crud system/Task.u"
        ),
    ),
    Participant(
        id="representative-1",
        role="representative",
        name="Représentant légal du patient 1",
        finess="990000086",
        patient=f"{INS_TEST}|{ins_of(1)}",
        scopes=(
            "ITI-66 ITI-67 ITI-68 ITI-78 ITI-108 TD3.3a "
            "system/*.rs system/Patient.u system/Subscription.crud system/Task.u"
        ),
    ),
    Participant(
        id="auditor",
        role="auditor",
        name="Agence régionale, contrôle des accès",
        finess="990000094",
        scopes="ITI-81 system/AuditEvent.rus",
    ),
    Participant(
        id="privacy",
        role="data-protection-officer",
        name="Agence régionale, délégation à la protection des données",
        finess="990000094",
        scopes="system/Patient.rd",
    ),
    Participant(
        id="steward",
        role="identity-steward",
        name="Agence régionale, cellule d'identitovigilance",
        finess="990000102",
        scopes="system/Patient.ru",
    ),
)


def people(domain: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The twenty people as one source registers them: (local identifier, Patient)."""
    for number in range(1, len(_REGION) + 1):
        local = f"{number:06d}"
        yield local, person(domain, local, number)


def person(domain: str, local: str, number: int) -> dict[str, Any]:
    """Person `number` (1 to 20), qualified, as FR Core 2.2.0 has it."""
    who = _REGION[number - 1]
    given = who.given.split(",")
    status = {"coding": [{"system": RELIABILITY_CODES, "code": "QUAL"}]}
    place = {"url": INSEE_CODE, "valueCoding": {"system": COMMUNES, "code": who.place}}
    birth_name = {
        "extension": [{"url": BIRTH_GIVEN_NAMES, "valueString": " ".join(given)}],
        "use": "official",
        "family": who.family,
        "given": given[:1],
    }
    return {
        "resourceType": "Patient",
        "extension": [
            {"url": RELIABILITY, "extension": [{"url": "identityStatus", "valueCodeableConcept": status}]},
            {"url": BIRTH_PLACE, "valueAddress": {"extension": [place]}},
        ],
        "identifier": [
            {
                "use": "official",
                "type": {"coding": [{"system": IDENTIFIER_TYPES, "code": "INS-NIR-TEST"}]},
                "system": INS_TEST,
                "value": ins_of(number),
            },
            {"use": "secondary", "system": domain, "value": local},
        ],
        "active": True,
        "name": [birth_name, *([{"use": "usual", "family": who.used, "given": given[:1]}] if who.used else [])],
        "gender": who.gender,
        "birthDate": who.born,
        "address": [
            {
                "use": "home",
                "line": [who.line],
                "city": who.town,
                "postalCode": _POSTCODES[who.town],
                "country": "FRA",
            }
        ],
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
