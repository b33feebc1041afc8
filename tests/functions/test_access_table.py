"""Every route to a record x every caller x every standing and label: as `tests/expectations/access.txt` says.

The file is read by people: change it by hand, with the reason for it, when the rules change. What a route answers is
one word: the status, and for collections how many of what they could show they show (`3/12`).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from passerelle import wiring
from passerelle.consents.model import (
    Basis,
    Block,
    Emergency,
    Mandate,
    MandateKind,
    Policy,
    RecordStatus,
    Relation,
)
from passerelle.consents.visibility import Restriction
from passerelle.directory.model import Role
from passerelle.identifiers import new_patient_key, new_resource_id
from passerelle.patients.model import Person, PersonChange
from passerelle.records.concealment import PRODUCED
from passerelle.records.concealment import PRODUCER as BY
from passerelle.records.model import ResourceKey
from passerelle.records.search import Entry
from tests import record
from tests.people import person_of

EXPECTED = Path(__file__).parent.parent / "expectations" / "access.txt"
AT = record.AT
ME, HOUSE, PRODUCER, OTHER = "810001234567", "1750000001", "1990000011", "1990000029"
INS = "urn:oid:1.2.250.1.213.1.4.10"
SOMEBODY, PROXY = f"{INS}|255069999999934", f"{INS}|180127501234567"
SCOPE = "system/*.cruds TD3.1 ITI-81"


def caller(role: str, **more: str) -> dict[str, str]:
    """The context that the authorizer gives for a token of this caller."""
    return {"client_id": role, "organisation": HOUSE, "role": role, "scope": SCOPE, "jti": "t", **more}


CALLERS: Mapping[str, Mapping[str, str]] = {
    "physician": caller(Role.HOSPITAL, professional=ME, profession="10"),
    "nurse": caller(Role.NURSE, professional=ME, profession="60"),
    "podologist": caller(Role.PRACTICE, professional=ME, profession="80"),
    "producer's system": {**caller(Role.LABORATORY), "organisation": PRODUCER},
    "pharmacy system": caller(Role.PHARMACY),
    "regulation centre": caller(Role.REGULATION),
    "payer": caller(Role.PAYER),
    "researcher": caller(Role.RESEARCHER, purpose="HRESCH"),
    "auditor": caller(Role.AUDITOR),
    "patient": caller(Role.PATIENT, patient=SOMEBODY),
    "parent": caller(Role.REPRESENTATIVE, patient=SOMEBODY, person=PROXY),
    "another patient": caller(Role.PATIENT, patient=PROXY),
}

OPEN = Policy(status=RecordStatus.OPEN, since=AT)
EMERGENCY = Emergency(
    id="e", professional=ME, organisation=HOUSE, since=AT, until=AT + timedelta(days=36_500), reason="r"
)
RELATED = replace(OPEN, relations=(Relation(party=HOUSE, basis=Basis.ADMISSION, since=AT),))
STANDINGS: Mapping[str, Policy] = {
    "nothing decided": OPEN,
    "care relation of the house": RELATED,
    "attending physician": replace(OPEN, attending_physician=ME),
    "professional blocked, house related": replace(RELATED, blocks=(Block(party=ME, since=AT),)),
    "glass broken": replace(OPEN, emergencies=(EMERGENCY,)),
    "agrees to research, opposes regulation": replace(OPEN, agrees_to_research=True, opposes_regulation=True),
    "mandate of the parent": replace(OPEN, mandates=(Mandate(holder=PROXY, kind=MandateKind.PARENT, since=AT),)),
    "record closed": replace(RELATED, status=RecordStatus.CLOSED),
}

A07 = "https://mos.esante.gouv.fr/NOS/TRE_A07-StatutVisibiliteDocument/FHIR/TRE-A07-StatutVisibiliteDocument"
CONF = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
LOINC, A03 = "http://loinc.org", "https://mos.esante.gouv.fr/NOS/TRE_A03-ClasseDocument/FHIR/TRE-A03-ClasseDocument"
A05 = "https://mos.esante.gouv.fr/NOS/TRE_A05-TypeDocComplementaire/FHIR/TRE-A05-TypeDocComplementaire"
PLAIN = ((LOINC, "60591-5"), (A03, "11"))
DOCUMENTS: Mapping[str, tuple[tuple[str, str] | None, tuple[tuple[str, str], tuple[str, str]]]] = {
    "plain": (None, PLAIN),
    "MASQUE_PS": ((A07, "MASQUE_PS"), PLAIN),
    "MASQUE_PSOCIAL": ((A07, "MASQUE_PSOCIAL"), PLAIN),
    "MASQUE_PT": ((A07, "MASQUE_PT"), PLAIN),
    "INVISIBLE_PATIENT": ((A07, "INVISIBLE_PATIENT"), PLAIN),
    "INVISIBLE_REPRESENTANTS_LEGAUX": ((A07, "INVISIBLE_REPRESENTANTS_LEGAUX"), PLAIN),
    "restricted": ((CONF, "R"), PLAIN),
    "very restricted": ((CONF, "V"), PLAIN),
    "obstetrics": (None, ((LOINC, "15508-5"), (A03, "10"))),
    "psychiatry": (None, ((LOINC, "68599-0"), (A03, "11"))),
    "attestation de résidence": (None, ((A05, "ATTEST-RESID"), (A03, "95"))),
    "reimbursement": (None, ((A05, "REMB"), (A03, "60"))),
}


@dataclass
class World:
    """A person and the record; ids of documents by their names."""

    person: Person
    documents: dict[str, str] = field(default_factory=dict)
    observation: str = ""
    coverage: str = ""

    @property
    def patient(self) -> str:
        return self.person.members[0]

    def decide(self, policy: Policy) -> None:
        before = self.person
        records = tuple(replace(each, policy=policy) for each in before.records)
        self.person = replace(before, records=records, revision=before.revision + 1)
        record.commit(PersonChange(before=before, after=self.person))

    def keep(self, content: Any) -> str:
        at = AT + timedelta(seconds=len(self.documents))
        key = ResourceKey(type=content.type, id=new_resource_id(self.patient, at), patient=self.patient)
        restriction = Restriction(labels=content.labels, producer=PRODUCER) if content.labels else None
        version = record.version(content, key, producer=PRODUCER, restriction=restriction)
        record.commit(replace(version, entry=published(version.entry) if content.type in PRODUCED else version.entry))
        return key.id


def published(entry: Entry | None) -> Entry:
    assert entry is not None
    return replace(entry, values={**entry.values, BY: (f"|{PRODUCER}",)})


@pytest.fixture(scope="module", params=["basic-normal", "break-glass-only"])
def world(request: pytest.FixtureRequest) -> Iterator[tuple[str, World]]:
    with record.services(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMPLICIT_POLICY", request.param)
        wiring.reset()
        made = World(registered())
        for name, (label, (kind, category)) in DOCUMENTS.items():
            made.documents[name] = made.keep(document(made.patient, label, kind, category))
        made.observation = made.keep(record.observation(made.patient))
        made.coverage = made.keep(coverage(made.patient))
        yield request.param, made


def registered() -> Person:
    """A person whose qualified identity is SOMEBODY's, and one whose is PROXY's."""
    made = []
    for ins in (SOMEBODY, PROXY):
        system, value = ins.split("|")
        qualified = wiring.patient_index().blinded((system, value))
        person = person_of(new_patient_key(), since=AT, qualified=qualified)
        record.commit(PersonChange(before=None, after=person, takes_from=person.key))
        made.append(person)
    return made[0]


def document(patient: str, label: tuple[str, str] | None, kind: tuple[str, str], category: tuple[str, str]) -> Any:
    security = [{"coding": [{"system": label[0], "code": label[1]}]}] if label else []
    return record.draft(
        "DocumentReference",
        status="current",
        subject={"reference": f"Patient/{patient}"},
        type={"coding": [{"system": kind[0], "code": kind[1]}]},
        category=[{"coding": [{"system": category[0], "code": category[1]}]}],
        date="2026-02-01T10:00:00Z",
        content=[{"attachment": {"contentType": "text/plain"}}],
        **({"securityLabel": security} if security else {}),
    )


def coverage(patient: str) -> Any:
    return record.draft(
        "Coverage",
        status="active",
        beneficiary={"reference": f"Patient/{patient}"},
        payor=[{"identifier": {"system": "urn:x", "value": "1"}}],
    )


# --- asking -----------------------------------------------------------------------------------------------------------


def ask(function: str, method: str, path: str, who: Mapping[str, str], query: str = "") -> tuple[int, Any]:
    handler = importlib.import_module(f"functions.{function}.handler").handler
    pairs = dict(each.split("=", 1) for each in query.split("&")) if query else {}
    event = {
        "httpMethod": method,
        "path": f"/fhir{path}",
        "resource": "",
        "headers": {},
        "multiValueQueryStringParameters": {name: [value] for name, value in pairs.items()},
        "requestContext": {
            "requestId": "r",
            "authorizer": dict(who),
            "domainName": "exchange.example",
            "path": f"/fhir{path}",
        },
        "body": None,
        "isBase64Encoded": False,
    }
    answer = handler(event, None)
    return answer["statusCode"], json.loads(answer["body"] or "{}")


def word(status: int, body: Any, of: int) -> str:
    if status == 403:
        code = body["issue"][0]["details"]["coding"][0]["code"]
        return "403!" if code == "break-glass-possible" else "403"
    if body.get("resourceType") != "Bundle":
        return str(status)
    entries = [each for each in body.get("entry", ()) if "resource" in each]
    found = [each for each in entries if each["resource"]["resourceType"] not in ("Patient", "OperationOutcome")]
    return f"{len(found)}/{of}"


def routes(world: World) -> Mapping[str, tuple[str, str, str, str, int]]:
    """By name: function, method, path, query, and how many of the record it could show."""
    patient, plain, obs = world.patient, world.documents["plain"], world.observation
    everything = len(world.documents) + 2
    return {
        "read Observation": ("records", "GET", f"/Observation/{obs}", "", 1),
        "vread Observation": ("records", "GET", f"/Observation/{obs}/_history/1", "", 1),
        "history of Observation": ("records", "GET", f"/Observation/{obs}/_history", "", 1),
        "search Observation": ("records", "GET", "/Observation", f"patient={patient}", 1),
        "read Coverage": ("records", "GET", f"/Coverage/{world.coverage}", "", 1),
        "search Coverage": ("records", "GET", "/Coverage", f"patient={patient}", 1),
        "read DocumentReference": ("documents", "GET", f"/DocumentReference/{plain}", "", 1),
        "search DocumentReference": ("documents", "GET", "/DocumentReference", f"patient={patient}", 12),
        "$everything": ("patients", "GET", f"/Patient/{patient}/$everything", "", everything),
        "$changes": ("patients", "GET", f"/Patient/{patient}/$changes", "", everything),
    }


def table(implicit: str, world: World) -> Iterator[str]:
    yield f"== implicit policy: {implicit}"
    for name in STANDINGS if implicit == "break-glass-only" else ("nothing decided",):
        world.decide(STANDINGS[name])
        yield f"-- {name}"
        for who, context in CALLERS.items():
            answers: dict[str, list[str]] = {}
            for route, (function, method, path, query, of) in routes(world).items():
                outcome = word(*ask(function, method, path, context, query), of)
                answers.setdefault(outcome, []).append(route)
            yield from (f"   {who:18} {outcome:6} {', '.join(each)}" for outcome, each in sorted(answers.items()))
    world.decide(replace(RELATED, agrees_to_research=True, mandates=STANDINGS["mandate of the parent"].mandates))
    yield "-- documents read by id, by who is let in"
    for who, context in CALLERS.items():
        seen = {
            label: ask("documents", "GET", f"/DocumentReference/{id}", context)[0]
            for label, id in world.documents.items()
        }
        shown = [label for label, status in seen.items() if status == 200]
        others = sorted({status for status in seen.values() if status != 200})
        yield f"   {who:18} sees {', '.join(shown) or 'nothing'}; else {', '.join(map(str, others)) or '-'}"
        found = ask("documents", "GET", "/DocumentReference", context, f"patient={world.patient}&_count=50")
        assert found[0] != 200 or found[1]["total"] == len(shown), who


def test_every_route_answers_as_expected(world: tuple[str, World]) -> None:
    """Contract DMP-29 among others; goals I3, I4."""
    implicit, made = world
    sections = EXPECTED.read_text("utf-8").split("== implicit policy: ")
    expected = next(each for each in sections if each.startswith(f"{implicit}\n"))
    assert "\n".join(table(implicit, made)).removeprefix("== implicit policy: ") == expected.rstrip("\n")
