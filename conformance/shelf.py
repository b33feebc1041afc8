"""Publishing documents and looking for them, as most tests do first; and the synthetic people they are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote
from zlib import crc32

import pytest

from conformance import checks, submissions
from conformance.profile import Person, Profile
from conformance.server import Actor


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A person that the server knows, under this id."""

    id: str
    person: Person

    @property
    def reference(self) -> str:
        return f"Patient/{self.id}"

    @property
    def condition(self) -> str:
        """The subject as the DMP sends it: a conditional reference."""
        return f"Patient?identifier={self.person.identifier}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A document that was published by a submission."""

    id: str
    set: str
    unique: str
    set_unique: str
    binary: str
    content: bytes

    @property
    def reference(self) -> str:
        return f"DocumentReference/{self.id}"


class Shelf:
    """Publishes documents of the first person as the author, and looks for them."""

    def __init__(self, author: Actor, person: Known) -> None:
        self.author = author
        self.person = person

    def submission(self, **options: Any) -> dict[str, Any]:
        return submissions.submission(self.person.person, self.person.reference, **options)

    def send(self, bundle: Mapping[str, Any], by: Actor | None = None, **headers: Any) -> list[dict[str, Any]]:
        """The response entries of a submission that is accepted."""
        return checks.transaction_response((by or self.author).post("", bundle, **headers), bundle)

    def published(self, bundle: dict[str, Any] | None = None, **changes: Any) -> Published:
        """A new document, with these elements changed."""
        bundle = bundle or self.submission()
        document = submissions.the(bundle, "DocumentReference")
        document.update(changes)
        entries = self.send(bundle)
        at = {
            each["resource"]["resourceType"]: checks.place(got["response"])
            for each, got in zip(bundle["entry"], entries, strict=True)
            if each["request"]["method"] == "POST"
        }
        submission_set = submissions.the(bundle, "List")
        return Published(
            id=at["DocumentReference"].partition("/")[2],
            set=at["List"],
            unique=document["masterIdentifier"]["value"],
            set_unique=submission_set.get("identifier", [{"value": ""}])[0]["value"],
            binary=at.get("Binary", ""),
            content=submissions.CDA,
        )

    def read(self, document: Published | str, by: Actor | None = None) -> dict[str, Any]:
        id = document if isinstance(document, str) else document.id
        return dict(checks.ok((by or self.author).get(f"DocumentReference/{id}")))

    def url_of(self, document: Published) -> str:
        """Its content URL, as the server tells it."""
        return str(submissions.attachment_of(self.read(document))["url"])

    def find(self, *uniques: str, by: Actor | None = None, kind: str = "DocumentReference") -> list[dict[str, Any]]:
        """What the caller finds under these unique identifiers, by search."""
        tokens = ",".join(f"{submissions.URI}|{each}" for each in uniques)
        return checks.searchset((by or self.author).get(f"{kind}?patient={self.person.id}&identifier={quote(tokens)}"))

    def nothing_of(self, bundle: Mapping[str, Any]) -> None:
        """Fail if anything of a refused submission is found."""
        resources = [each["resource"] for each in bundle.get("entry", ())]
        names: dict[str, list[str]] = {"DocumentReference": [], "List": []}
        for each in resources:
            if each["resourceType"] in names:
                given = [each.get("masterIdentifier", {}), *each.get("identifier", ())]
                names[each["resourceType"]] += [one["value"] for one in given if "value" in one]
        for kind, uniques in names.items():
            if uniques:
                found = checks.ids(self.find(*uniques, kind=kind))
                checks.expect(not found, f"nothing of a refused submission is stored: no {kind} is found", found)

    def refused(self, bundle: dict[str, Any], status: int, *codes: str, **said: Any) -> None:
        """The submission is refused so, and nothing of it is stored."""
        checks.refused(self.author.post("", bundle), status, *codes, **said)
        self.nothing_of(bundle)


# Somebody for each shelf, so that no record grows long: names and births have nothing in common.
_SOMEBODY: Final = (
    ("ABRICOT", "Garance", "female", "1951-02-03"),
    ("BRUYERE", "Octave", "male", "1963-11-27"),
    ("CAPUCINE", "Ludivine", "female", "1984-05-16"),
    ("DIGITALE", "Philibert", "male", "1938-08-09"),
    ("EGLANTIER", "Mahaut", "female", "1997-12-30"),
    ("FOUGERE", "Wandrille", "male", "1970-04-21"),
    ("GENTIANE", "Isaure", "female", "1945-10-12"),
    ("HELLEBORE", "Thibault", "male", "1989-07-05"),
    ("IPOMEE", "Solveig", "female", "1958-01-24"),
    ("JONQUILLE", "Ferreol", "male", "2003-06-18"),
    ("LIVECHE", "Quitterie", "female", "1976-09-02"),
    ("MUSCARI", "Baudouin", "male", "1932-03-29"),
)
_INS_TEST: Final = "urn:oid:1.2.250.1.213.1.4.10"


def _somebody(number: int) -> Person:
    """A made-up person; the matricule is formed as one is, of a department that does not exist."""
    family, given, gender, born = _SOMEBODY[number]
    matricule = f"{2 if gender == 'female' else 1}{born[2:4]}{born[5:7]}00990{number + 1:03d}"
    traits = {"family": family, "given": given, "gender": gender, "birth_date": born, "birth_place": "00990"}
    key = 97 - int(matricule) % 97
    return Person(identifier=f"{_INS_TEST}|{matricule}{key:02d}", local=f"conformance-{number + 1}", traits=traits)


class Shelves:
    """The people of the profile, found on the server (ITI-78); where it may register (ITI-104), others beside them."""

    def __init__(self, author: Actor, profile: Profile) -> None:
        self._author = author
        self._profile = profile
        self._known: dict[str, Known] = {}

    def of(self, name: str) -> Shelf:
        """The shelf of this name: of the person whom the profile calls so, or of somebody else."""
        if name in self._profile.people or not self._profile.is_registering:
            return Shelf(self._author, self.known(name if name in self._profile.people else "first"))
        number = crc32(name.encode()) % len(_SOMEBODY)
        return Shelf(self._author, self._found(f"somebody {number}", _somebody(number)))

    def known(self, name: str) -> Known:
        """Somebody of the profile."""
        if name not in self._profile.people:
            pytest.skip(f"the profile names no person “{name}”")
        return self._found(name, self._profile.people[name])

    def _found(self, name: str, person: Person) -> Known:
        if name not in self._known:
            self._known[name] = Known(id=self._id_of(person), person=person)
        return self._known[name]

    def _id_of(self, person: Person) -> str:
        found = self._author.get(f"Patient?identifier={quote(person.identifier)}")
        entries = checks.ok(found).get("entry", []) if found.status_code == 200 else []
        for each in entries:
            if each["resource"]["resourceType"] == "Patient":
                return str(each["resource"]["id"])
        if not self._profile.is_registering:
            pytest.exit("a person of the profile is not known to the server, and may not be registered", returncode=4)
        local = f"{self._profile.domain}|{person.local}"
        resource = submissions.from_json(
            "patient.json",
            ins_system=person.system,
            ins_value=person.value,
            domain=str(self._profile.domain),
            local=str(person.local),
            **{name: str(value) for name, value in person.traits.items()},
        )
        answer = self._author.put(f"Patient?identifier={quote(local)}", resource)
        if answer.status_code not in (200, 201):
            pytest.exit(f"a person cannot be registered: {checks.told(answer)}", returncode=4)
        return str(answer.headers["location"]).partition("/_history")[0].rpartition("/")[2]
