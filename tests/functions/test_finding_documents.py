"""Finding documents over HTTP: ITI-66, ITI-67, TD3.1a/b. Case ids are rows of the interoperability contract.

Every parameter alone and every pair of them, against a reading of the resources by hand that shares nothing with the
search; what a person of two thousand documents costs.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlparse

import pytest
from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType, Item

from passerelle import wiring
from passerelle.access import Caller, Request, Scopes, Touched
from passerelle.audit.model import audit_of
from passerelle.aws.dynamodb import measure
from passerelle.aws.journal import actions_of
from passerelle.fhir import json as fhir_json
from passerelle.fhir import xml as fhir_xml
from passerelle.fhir.index import entry_of, ranges_of
from passerelle.fhir.resource import ResourceDraft
from passerelle.fhir.search import parse_query
from passerelle.identifiers import new_resource_id
from passerelle.records.model import RecordVersion, ResourceKey
from passerelle.records.search import matches
from tests import contents, examples, registered
from tests.exchange import URL, Client, Exchange
from tests.functions.test_patients import register
from tests.functions.test_record_costs import AUTHORIZER, in_wire

Resource = dict[str, Any]
Predicate = Callable[[Resource], bool]

PERSON = 1
BASE = f"{URL}/fhir"
ARCHIVED = "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition/pdsm-ext-is-archived"
MHD = "https://profiles.ihe.net/ITI/MHD/StructureDefinition"
LISTS = "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes"
IDNPS, RPPS = "urn:oid:1.2.250.1.71.4.2.1", "https://rpps.esante.gouv.fr"
URI = "urn:ietf:rfc:3986"
FORM = {"Content_Type": "application/x-www-form-urlencoded"}
_AT = datetime(2026, 5, 1, 8, tzinfo=UTC)
_CALLER = Caller(client_id="t", organisation="1990000011", role="hospital", scopes=Scopes(frozenset()), token_id="t")


# --- the record that is searched --------------------------------------------------------------------------------------


def coded(*codes: tuple[str, str]) -> Resource:
    return {"coding": [{"system": system, "code": code} for system, code in codes]}


def person_named(kind: str, family: str, given: str, number: str | None = None) -> list[Resource]:
    """Contained resources, the first of them `#who`: a professional as such or in a role, or a patient."""
    identifier = {"identifier": [{"system": IDNPS, "value": number}]} if number else {}
    name = [{"family": family, "given": [given]}]
    if kind != "PractitionerRole":
        return [{"resourceType": kind, "id": "who", "name": name, **identifier}]
    role = {"resourceType": kind, "id": "who", "practitioner": {"reference": "#person"}}
    return [role, {"resourceType": "Practitioner", "id": "person", "name": name, **identifier}]


WHO = (
    ("Practitioner", "LEFÈVRE", "Zoé", "810000000011"),
    ("PractitionerRole", "Lefebvre", "Marc", "810000000029"),
    ("PractitionerRole", "D'Œuvre", "Zoé", None),
    ("Practitioner", "Ng", "Marc-Antoine", "810000000037"),
    ("Patient", "MARTIN", "Rosa", None),
)


def documents() -> list[Resource]:
    """As they are stored, without ids: values that repeat, that are absent, that are nearly the same."""
    rng = random.Random(67)
    made: list[Resource] = []
    for n in range(24):
        day = f"2025-{1 + n % 12:02d}-{1 + n:02d}"
        start, end = f"2024-{1 + n % 6:02d}-10", f"2024-{3 + n % 6:02d}-20T12:00:00+01:00"
        period = [{"start": start}, {"end": end}, {"start": start, "end": end}, None][n % 4]
        context = {
            "event": [coded(("urn:oid:2.999.11", rng.choice("abc")))] if n % 3 else None,
            "facilityType": coded(("urn:oid:2.999.12", rng.choice(["SA01", "SA02"]))) if n % 5 else None,
            "practiceSetting": coded(("urn:oid:2.999.13", rng.choice(["AMB", "HOSP"]))) if n % 6 else None,
            "period": period,
            "related": [{"identifier": {"system": "urn:oid:2.999.14", "value": f"ACC-{n % 4}"}}] if n % 2 else None,
        }
        attachment = {"contentType": "application/pdf", "url": f"{BASE}/Binary/x"}
        if n % 7:
            attachment["creation"] = f"2025-{1 + n % 9:02d}-03T0{n % 10}:00:00Z"
        labels = [("http://terminology.hl7.org/CodeSystem/v3-Confidentiality", rng.choice(["N", "R"]))]
        document: Resource = {
            "resourceType": "DocumentReference",
            "contained": person_named(*WHO[n % 5]),
            "masterIdentifier": {"system": URI, "value": f"urn:oid:2.999.1.{n}"},
            "identifier": [{"system": "urn:oid:2.999.15", "value": f"L-{n // 2}"}],
            "status": "superseded" if n % 8 == 3 else "current",
            "type": coded(
                ("http://loinc.org", rng.choice(["11488-4", "18842-5", "34112-3"])), ("urn:oid:2.999.16", "T")
            ),
            "category": [coded(("urn:oid:2.999.17", rng.choice(["10", "11"])))],
            "date": f"{day}T0{n % 10}:30:00+02:00",
            "author": [{"reference": "#who"}, {"reference": f"Organization/o{n % 2}"}],
            "relatesTo": [{"code": "appends", "target": {"reference": f"DocumentReference/d{n % 3}"}}]
            if n % 4
            else None,
            "securityLabel": [coded(*labels)],
            "content": [{"attachment": attachment, "format": {"system": "urn:oid:2.999.18", "code": f"f{n % 3}"}}],
            "context": {name: value for name, value in context.items() if value},
        }
        if n % 4 != 1:
            document["extension"] = [{"url": ARCHIVED, "valueBoolean": n % 4 == 2}]
        made.append({name: value for name, value in document.items() if value})
    return made


def lists() -> list[Resource]:
    rng = random.Random(66)
    made: list[Resource] = []
    for n in range(20):
        organisation = {"resourceType": "Organization", "id": "org", "identifier": [{"system": "urn:f", "value": "1"}]}
        reference = "#org" if n % 3 == 0 else f"Organization/o{n % 2}"
        extension = [
            {
                "url": f"{MHD}/ihe-designationType",
                "valueCodeableConcept": coded(("urn:oid:2.999.21", rng.choice("xy"))),
            },
            {"url": f"{MHD}/ihe-sourceId", "valueIdentifier": {"system": URI, "value": f"urn:oid:2.999.7.{n % 3}"}},
            {"url": f"{MHD}/ihe-authorOrg", "valueReference": {"reference": reference}},
            {"url": ARCHIVED, "valueBoolean": n % 4 == 0},
        ]
        made.append(
            {
                "resourceType": "List",
                "contained": [*person_named(*WHO[n % 5]), organisation],
                "extension": extension[: 4 if n % 4 < 2 else 3],
                "identifier": [{"system": URI, "value": f"urn:oid:2.999.8.{n}"}],
                "status": "retired" if n % 6 == 5 else "current",
                "mode": "working",
                "title": ["Sortie d'hôpital", "Bilan sanguin", "sortie anticipée"][n % 3],
                "code": coded((LISTS, "folder" if n % 5 == 4 else "submissionset")),
                "date": f"2025-{1 + n % 12:02d}-{1 + n:02d}T10:00:00+01:00",
                "source": {"reference": "#who"},
            }
        )
    return made


def store(resources: Iterable[Resource], patient: str) -> list[Resource]:
    """Commit resources as they are, and give them with their ids: what may be published is another matter."""
    stored = []
    for n, resource in enumerate(resources):
        at = _AT + timedelta(hours=n)
        request = Request(caller=_CALLER, name="create", action="C", request_id="r", at=at, base_url=BASE)
        change = version_of(resource, patient, at)
        wiring.journal().commit([change, *audit_of(request, Touched())])
        stored.append(fhir_json.loads(change.body or b""))
    return stored


def version_of(resource: Resource, patient: str, at: datetime) -> RecordVersion:
    draft = ResourceDraft({**resource, "subject": {"reference": f"Patient/{patient}"}}, BASE)
    key = ResourceKey(type=resource["resourceType"], id=new_resource_id(patient, at), patient=patient)
    body, entry = draft.body(key.id, 1, at), draft.entry(key.id, 1, at)
    return RecordVersion(key=key, version=1, at=at, body=body, entry=entry)


@dataclass(frozen=True)
class Record:
    patient: str
    stored: Mapping[str, list[Resource]]


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    return exchange.client("practice")


@pytest.fixture(scope="module")
def record(exchange: Exchange) -> Record:
    patient = str(register(exchange.client("hospital-a"), PERSON).json["id"])
    other = str(register(exchange.client("hospital-a"), 2).json["id"])
    store(documents()[:3], other)
    kept = {"DocumentReference": store(documents(), patient), "List": store(lists(), patient)}
    return Record(patient, kept)


# --- what each parameter means, by hand -------------------------------------------------------------------------------


def codes(*concepts: Any) -> set[tuple[str, str]]:
    return {(each["system"], each["code"]) for one in concepts if one for each in one["coding"]}


def plain(text: str) -> str:
    table = str.maketrans("ÈÉÔŒèéôœ", "eeooeeoo")
    return text.replace("Œ", "oe").replace("œ", "oe").translate(table).lower().replace("'", " ").replace("-", " ")


def names(resource: Resource, field: str, *kinds: str) -> list[str]:
    """Names of `#who`, or of who is in that role, if it is of one of the kinds."""
    who, *rest = resource["contained"]
    if kinds and who["resourceType"] not in kinds:
        return []
    named = rest[0] if who["resourceType"] == "PractitionerRole" else who
    found = named["name"][0]
    return [*([found["family"]] if field != "given" else []), *(found["given"] if field != "family" else [])]


def starts(wanted: str, found: Iterable[str]) -> bool:
    return any(plain(each).startswith(plain(wanted)) for each in found)


def numbers(resource: Resource) -> list[tuple[str, str]]:
    found = [
        each
        for one in resource["contained"]
        if one["resourceType"] != "Organization"
        for each in one.get("identifier", [])
    ]
    return [(each["system"], each["value"]) for each in found]


def moment(text: str, *, last: bool = False) -> datetime:
    """The first or the last second that a date can mean."""
    if len(text) == 10:
        return datetime.fromisoformat(f"{text}T{'23:59:59' if last else '00:00:00'}+00:00")
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def span(period: Mapping[str, str] | None) -> tuple[datetime, datetime] | None:
    if period is None:
        return None
    start, end = period.get("start"), period.get("end")
    first = moment(start) if start else datetime.min.replace(tzinfo=UTC)
    return first, moment(end, last=True) if end else datetime.max.replace(tzinfo=UTC)


def of_context(resource: Resource, name: str) -> Any:
    return resource.get("context", {}).get(name)


def is_archived(resource: Resource) -> bool:
    return any(each["url"] == ARCHIVED and each["valueBoolean"] for each in resource.get("extension", []))


def extension(resource: Resource, name: str) -> Any:
    found = [each for each in resource["extension"] if each["url"] == f"{MHD}/{name}"]
    return next(value for key, value in found[0].items() if key != "url")


def identifiers(resource: Resource) -> set[tuple[str, str]]:
    found = [
        *resource.get("identifier", []),
        *([resource["masterIdentifier"]] if "masterIdentifier" in resource else []),
    ]
    return {(each["system"], each["value"]) for each in found}


def event_codes(resource: Resource) -> set[str]:
    return {code for _, code in codes(*(of_context(resource, "event") or [None]))}


def context_code(name: str) -> Callable[[Resource], set[str]]:
    return lambda resource: {code for _, code in codes(of_context(resource, name))}


def overlaps(resource: Resource, first: str, last: str) -> bool:
    found = span(of_context(resource, "period"))
    return found is not None and found[0] <= moment(last, last=True) and moment(first) <= found[1]


def period_part(name: str, test: Callable[[datetime], bool]) -> Predicate:
    def holds(resource: Resource) -> bool:
        text = (of_context(resource, "period") or {}).get(name)
        return text is not None and test(moment(text))

    return holds


def created(test: Callable[[datetime], bool]) -> Predicate:
    def holds(resource: Resource) -> bool:
        text = resource["content"][0]["attachment"].get("creation")
        return text is not None and test(moment(text))

    return holds


JUNE, MARCH = datetime(2025, 6, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
DOCUMENT_CASES: dict[str, Predicate] = {
    "author.family=lefev": lambda r: starts("lefev", names(r, "family")),
    "author.family=Ng": lambda r: starts("ng", names(r, "family")),
    "author.family:exact=LEFÈVRE": lambda r: "LEFÈVRE" in names(r, "family"),
    "author.family:contains=uvr": lambda r: any("uvr" in plain(each) for each in names(r, "family")),
    "author.given=zoe,rosa": lambda r: starts("zoe", names(r, "given")) or starts("rosa", names(r, "given")),
    "author:PractitionerRole.name=marc": lambda r: starts("marc", names(r, "", "PractitionerRole")),
    f"author.identifier={RPPS}|10000000011": lambda r: (IDNPS, "810000000011") in numbers(r),
    "author=Organization/o1": lambda r: {"reference": "Organization/o1"} in r["author"],
    "category=10": lambda r: ("urn:oid:2.999.17", "10") in codes(*r["category"]),
    "category=urn:oid:2.999.17|11": lambda r: ("urn:oid:2.999.17", "11") in codes(*r["category"]),
    "creation=lt2025-06-01": created(lambda at: at < JUNE),
    "date=ge2025-06-01": lambda r: moment(r["date"]) >= JUNE,
    "date=ge2025-03-01&date=le2025-09-30": lambda r: "2025-03-01" <= r["date"][:10] <= "2025-09-30",
    "event=a,b": lambda r: bool(event_codes(r) & {"a", "b"}),
    "event:not=a": lambda r: "a" not in event_codes(r),
    "facility=urn:oid:2.999.12|SA01": lambda r: "SA01" in context_code("facilityType")(r),
    "facility:missing=true": lambda r: of_context(r, "facilityType") is None,
    "format=f1": lambda r: r["content"][0]["format"]["code"] == "f1",
    f"identifier={URI}|urn:oid:2.999.1.5": lambda r: (URI, "urn:oid:2.999.1.5") in identifiers(r),
    "identifier=L-4": lambda r: ("urn:oid:2.999.15", "L-4") in identifiers(r),
    "isArchived=true": is_archived,
    "isArchived=false": lambda r: not is_archived(r),
    "period=ge2024-04-01&period=le2024-05-09": lambda r: overlaps(r, "2024-04-01", "2024-05-09"),
    "period=lt2024-03-01": lambda r: (found := span(of_context(r, "period"))) is not None and found[0] < MARCH,
    "period-start=ge2024-03-01": period_part("start", lambda at: at >= MARCH),
    "period-end=lt2024-06-01": period_part("end", lambda at: at < datetime(2024, 6, 1, tzinfo=UTC)),
    "related=urn:oid:2.999.14|ACC-1": lambda r: any(
        each["identifier"]["value"] == "ACC-1" for each in of_context(r, "related") or []
    ),
    "relatesto=DocumentReference/d1": lambda r: any(
        each["target"]["reference"] == "DocumentReference/d1" for each in r.get("relatesTo", [])
    ),
    "relatesTo=DocumentReference/d2": lambda r: any(
        each["target"]["reference"] == "DocumentReference/d2" for each in r.get("relatesTo", [])
    ),
    f"security-label={CONFIDENTIALITY}|N": lambda r: (CONFIDENTIALITY, "N") in codes(*r["securityLabel"]),
    "security-label=R": lambda r: (CONFIDENTIALITY, "R") in codes(*r["securityLabel"]),
    "setting=HOSP": lambda r: "HOSP" in context_code("practiceSetting")(r),
    "status=current": lambda r: r["status"] == "current",
    "status=http://hl7.org/fhir/document-reference-status|superseded": lambda r: r["status"] == "superseded",
    "status=current,superseded": lambda r: True,
    "type=http://loinc.org|11488-4": lambda r: ("http://loinc.org", "11488-4") in codes(r["type"]),
    "type=18842-5,34112-3": lambda r: bool({"18842-5", "34112-3"} & {code for _, code in codes(r["type"])}),
}


def is_coded(resource: Resource, code: str) -> bool:
    return (LISTS, code) in codes(resource["code"])


LIST_CASES: dict[str, Predicate] = {
    "code=submissionset": lambda r: is_coded(r, "submissionset"),
    f"code={LISTS}|submissionset": lambda r: is_coded(r, "submissionset"),
    "status=current": lambda r: r["status"] == "current",
    "status=superseded": lambda r: r["status"] == "retired",
    "date=ge2025-03-01&date=lt2025-09-01": lambda r: "2025-03-01" <= r["date"][:10] < "2025-09-01",
    "date=gt2025-06-01": lambda r: r["date"][:10] > "2025-06-01",
    "designationType=x": lambda r: "x" in {code for _, code in codes(extension(r, "ihe-designationType"))},
    "designationType=urn:oid:2.999.21|y": lambda r: (
        "y" in {code for _, code in codes(extension(r, "ihe-designationType"))}
    ),
    f"identifier={URI}|urn:oid:2.999.8.7": lambda r: (URI, "urn:oid:2.999.8.7") in identifiers(r),
    "source.given=zoe": lambda r: starts("zoe", names(r, "given")),
    "source.family=lef": lambda r: starts("lef", names(r, "family")),
    f"source.identifier={IDNPS}|810000000029": lambda r: (IDNPS, "810000000029") in numbers(r),
    "source:Patient.given=rosa": lambda r: starts("rosa", names(r, "given", "Patient")),
    "source:Patient.family=mar": lambda r: starts("mar", names(r, "family", "Patient")),
    "source:PractitionerRole.name=Marc": lambda r: starts("marc", names(r, "", "PractitionerRole")),
    "sourceId=urn:oid:2.999.7.1": lambda r: extension(r, "ihe-sourceId")["value"] == "urn:oid:2.999.7.1",
    "authorOrg=Organization/o1": lambda r: extension(r, "ihe-authorOrg") == {"reference": "Organization/o1"},
    "authorOrg.identifier=urn:f|1": lambda r: extension(r, "ihe-authorOrg") == {"reference": "#org"},
    "isArchived=true": is_archived,
    "isArchived=false": lambda r: not is_archived(r),
    "title=sortie": lambda r: starts("sortie", [r["title"]]),
    "title:contains=hôpital": lambda r: "hopital" in plain(r["title"]),
}
CASES = {"DocumentReference": DOCUMENT_CASES, "List": LIST_CASES}


def rows(kind: str) -> list[Any]:
    row = "67-2" if kind == "DocumentReference" else "66-2"
    of_pdsm = (
        ("PDSM-15", ("author:", "period-", "relates", "isArchived", "author="))
        if row == "67-2"
        else (
            "PDSM-14",
            ("source:", "authorOrg", "title", "isArchived"),
        )
    )
    found = []
    for asked in CASES[kind]:
        id = "PDSM-16" if asked.startswith("isArchived") else of_pdsm[0] if asked.startswith(of_pdsm[1]) else row
        found.append(pytest.param(kind, asked, id=f"{id} {asked}"))
    return found


def pairs(asked: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (each.partition("=") for each in asked.split("&"))]


def encoded(asked: str) -> str:
    return urlencode(pairs(asked))


def ids(found: Resource) -> list[str]:
    return [each["resource"]["id"] for each in found.get("entry", [])]


def expected(record: Record, kind: str, *predicates: Predicate) -> list[str]:
    """Newest first, by the date of the document."""
    hits = [each for each in record.stored[kind] if all(holds(each) for holds in predicates)]
    hits.sort(key=lambda each: (moment(each["date"]), each["id"]), reverse=True)
    return [each["id"] for each in hits]


@pytest.mark.parametrize(("kind", "asked"), [*rows("DocumentReference"), *rows("List")])
def test_each_parameter_alone(practice: Client, record: Record, kind: str, asked: str) -> None:
    """GET, POST and split between them, JSON and XML: the same entries in the same order (GEN-7)."""
    wanted = expected(record, kind, CASES[kind][asked])
    assert 0 < len(wanted) <= len(record.stored[kind])
    whose = f"patient.identifier={quote(examples.ins(PERSON))}"
    answer = practice.get(f"{kind}?{whose}&{encoded(asked)}")
    assert answer.status == 200, answer.body
    assert (ids(answer.json), answer.json["total"]) == (wanted, len(wanted))
    used = parse_qsl(urlparse(answer.json["link"][0]["url"]).query)
    assert used == parse_qsl(f"{whose}&{encoded(asked)}")
    posted = practice.request("POST", f"{kind}/_search", f"{whose}&{encoded(asked)}".encode(), **FORM)
    split = practice.request("POST", f"{kind}/_search?{whose}", encoded(asked).encode(), **FORM)
    assert posted.body == answer.body
    assert ids(split.json) == wanted
    as_xml = practice.get(f"{kind}?patient={record.patient}&{encoded(asked)}", Accept="application/fhir+xml")
    assert ids(fhir_xml.loads(as_xml.body)) == wanted


@pytest.mark.parametrize("kind", CASES)
def test_67_2_66_2_every_pair_of_parameters(record: Record, kind: str) -> None:
    """AND between names; and whatever matches stands in one of the ranges that the search would read."""
    entries = {each["id"]: entry_of(each, base_url=BASE) for each in record.stored[kind]}
    for one, other in combinations(CASES[kind], 2):
        wanted = expected(record, kind, CASES[kind][one], CASES[kind][other])
        query = parse_query(kind, [*pairs(one), *pairs(other)], strict=True, base_url=BASE).query
        assert {id for id, entry in entries.items() if matches(entry, query)} == set(wanted), (one, other)
        tokens = query.range_tokens()
        assert tokens is None or all(set(tokens) & set(ranges_of(entries[id], kind)) for id in wanted), (one, other)


@pytest.mark.parametrize("kind", CASES)
def test_67_2_66_2_pairs_over_http(practice: Client, record: Record, kind: str) -> None:
    for one, other in random.Random(2).sample(list(combinations(CASES[kind], 2)), 25):
        wanted = expected(record, kind, CASES[kind][one], CASES[kind][other])
        answer = practice.get(f"{kind}?patient={record.patient}&{encoded(one)}&{encoded(other)}")
        assert (ids(answer.json), answer.json["total"]) == (wanted, len(wanted)), (one, other)


@pytest.mark.parametrize(
    ("query", "is_met"),
    [
        ("period=ge2024-04-20T11:00:00Z&period=le2024-04-30", True),  # touches its last second
        ("period=gt2024-04-20T11:00:00Z", False),
        ("period=ge2024-01-01&period=le2024-12-31", True),  # it is inside
        ("period=ge2024-03-01&period=le2024-03-02", True),  # inside of it
        ("period=ge2024-05-01", False),
        ("period=lt2024-02-10", False),
        ("period=le2024-02-10", True),
    ],
)
def test_67_3_periods(exchange: Exchange, practice: Client, query: str, is_met: bool) -> None:
    """From 2024-02-10 to 2024-04-20 12:00 in Paris; touching is overlapping."""
    patient = str(register(exchange.client("hospital-a"), 3).json["id"])
    found = ids(practice.get(f"DocumentReference?patient={patient}").json)
    if not found:
        found = [each["id"] for each in store([_with_period("2024-02-10", "2024-04-20T13:00:00+02:00")], patient)]
    assert ids(practice.get(f"DocumentReference?patient={patient}&{query}").json) == (found if is_met else [])


def _with_period(start: str, end: str) -> Resource:
    content = documents()[0]
    return {**content, "context": {"period": {"start": start, "end": end}}}


@pytest.mark.parametrize("query", ["sourceId=urn:oid:2.999.7.1", "source.family=lef", "source:Patient.given=rosa"])
def test_66_3_a_search_for_folders_ignores_what_they_have_not(practice: Client, record: Record, query: str) -> None:
    folders = expected(record, "List", lambda each: is_coded(each, "folder"))
    answer = practice.get(f"List?patient={record.patient}&code=folder&{query}")
    assert ids(answer.json) == folders
    assert query.partition("=")[0] not in dict(parse_qsl(urlparse(answer.json["link"][0]["url"]).query))


def test_66_3_communities_are_ignored(practice: Client, record: Record) -> None:
    answer = practice.get(f"List?patient={record.patient}&code=submissionset&targetCommunityIdList=urn:oid:1")
    assert ids(answer.json) == expected(record, "List", lambda each: is_coded(each, "submissionset"))
    assert "targetCommunityIdList" not in answer.json["link"][0]["url"]


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("query", ["", "?status=current", "?date=ge2025-01-01&code=folder"])
def test_66_4_67_1_p5_a_search_needs_a_patient(practice: Client, kind: str, query: str) -> None:
    answer = practice.get(f"{kind}{query}")
    assert (answer.status, answer.json["issue"][0]["code"]) == (400, "required")


@pytest.mark.parametrize("kind", CASES)
def test_66_1_67_1_p5_without_a_status_whatever_it_is(practice: Client, record: Record, kind: str) -> None:
    answer = practice.get(f"{kind}?patient.identifier={examples.ins(PERSON)}")
    assert ids(answer.json) == expected(record, kind)
    assert len({each["resource"]["status"] for each in answer.json["entry"]}) == 2


def test_p18_creation_and_date_are_two_dates(practice: Client, record: Record) -> None:
    asked = f"DocumentReference?patient={record.patient}"
    by_date, by_creation = (set(ids(practice.get(f"{asked}&{name}=lt2025-05").json)) for name in ("date", "creation"))
    assert by_date != by_creation


@pytest.mark.parametrize("kind", CASES)
def test_gen_8_9_10_unknown_parameters_no_match_and_pages(practice: Client, record: Record, kind: str) -> None:
    asked = f"{kind}?patient={record.patient}"
    ignored = practice.get(f"{asked}&nothing=1")
    assert ids(ignored.json) == expected(record, kind)
    assert "nothing" not in ignored.json["link"][0]["url"]
    strict = practice.get(f"{asked}&nothing=1", Prefer="handling=strict")
    assert (strict.status, strict.json["issue"][0]["code"]) == (400, "not-supported")
    assert practice.get(f"{asked}&identifier=urn:nobody|1").json["total"] == 0
    status = "status=current"
    seen, path, total = [], f"{asked}&{status}&_count=4", None
    while path:
        page = practice.get(path).json
        total = page["total"] if total is None else total
        seen += ids(page)
        path = next((each["url"].removeprefix(f"{BASE}/") for each in page["link"] if each["relation"] == "next"), "")
    assert seen == expected(record, kind, lambda each: each["status"] == "current")
    assert total == len(seen)
    assert len(set(seen)) == len(seen)


def test_gen_12_the_statement_lists_every_parameter(practice: Client) -> None:
    statement = practice.exchange.gateway.request("GET", "/fhir/metadata", {}, b"").json
    listed = {
        each["type"]: {parameter["name"] for parameter in each.get("searchParam", [])}
        for each in statement["rest"][0]["resource"]
    }
    for kind, cases in CASES.items():
        asked = {pair.partition("=")[0] for case in cases for pair in case.split("&")}
        plain_names = {name if name in listed[kind] else name.rpartition(":")[0] for name in asked}
        assert {*plain_names, "patient", "patient.identifier"} <= listed[kind]
    (responder,) = [each for each in statement["instantiates"] if each.endswith("IHE.MHD.DocumentResponder")]
    assert responder.startswith("https://profiles.ihe.net/ITI/MHD/CapabilityStatement/")
    assert any("PDSm-Gestionnaire" in each for each in statement["instantiates"])


# --- TD3.1a, TD3.1b ---------------------------------------------------------------------------------------------------


def granted(exchange: Exchange, client_id: str, scope: str) -> Client:
    """The client with a scope that it is registered for, beside its own."""
    known = wiring.clients().find(client_id)
    assert known is not None
    wiring.clients().register(replace(known, scopes=Scopes.parse(f"{known.scopes} {scope}")))
    return exchange.client(client_id, scope)


@pytest.mark.parametrize("scope", ["TD3.1", "TD3.1a", "ITI-67", "system/DocumentReference.s"])
def test_dmp_10_the_first_search(exchange: Exchange, record: Record, scope: str) -> None:
    client = granted(exchange, "practice", scope)
    asked = "status=current&date=ge2025-02-01&date=le2025-11-30&period=ge2023-06-01&period=le2024-04-30"
    answer = client.get(f"DocumentReference?patient.identifier={examples.ins(PERSON)}&{asked}")
    assert ids(answer.json) == expected(
        record,
        "DocumentReference",
        lambda each: each["status"] == "current" and "2025-02-01" <= each["date"][:10] <= "2025-11-30",
        lambda each: overlaps(each, "2023-06-01", "2024-04-30"),
    )


def test_dmp_12_what_changed_since_the_last_visit(practice: Client, record: Record) -> None:
    """By when it was stored, not by its date."""
    since = (_AT + timedelta(hours=20)).isoformat().replace("+", "%2B")
    asked = f"DocumentReference?patient={record.patient}&_lastUpdated=gt{since}"
    newest = record.stored["DocumentReference"][21:]
    assert sorted(ids(practice.get(asked).json)) == sorted(each["id"] for each in newest)


def test_dmp_13_the_technical_id_of_a_document(exchange: Exchange, record: Record) -> None:
    client = granted(exchange, "practice", "TD3.1b")

    def found(number: int, person: int = PERSON) -> list[str]:
        asked = f"identifier={URI}|urn:oid:2.999.1.{number}"
        return ids(client.get(f"DocumentReference?patient.identifier={examples.ins(person)}&{asked}").json)

    assert found(7) == [record.stored["DocumentReference"][7]["id"]]
    assert found(99) == []
    assert found(7, person=2) == []


def test_dmp_14_who_only_publishes_finds_the_own_documents(exchange: Exchange) -> None:
    patient = str(register(exchange.client("hospital-a"), 4).json["id"])
    whose = f"DocumentReference?patient.identifier={examples.ins(4)}"
    made = {}
    for name in ("hospital-a", "hospital-b"):
        place = contents.published(exchange.client(name), patient, f"%PDF-1.4\n{name}\n%%EOF\n".encode())
        made[name] = place.removeprefix("Binary/")
    feeder = granted(exchange, "hospital-b", "TD2")
    answer = feeder.get(whose)
    assert (ids(answer.json), answer.json["total"]) == ([made["hospital-b"]], 1)
    assert sorted(ids(exchange.client("hospital-b", "ITI-67").get(whose).json)) == sorted(made.values())
    assert exchange.client("hospital-b", "ITI-78").get(whose).status == 403
    assert feeder.get(f"DocumentReference/{made['hospital-b']}").status == 403


def test_67_5_urls_are_absolute_and_tell_nothing(exchange: Exchange) -> None:
    hospital = exchange.client("hospital-a")
    patient = str(register(hospital, 5).json["id"])
    contents.published(hospital, patient, b"%PDF-1.4\none\n%%EOF\n")
    (entry,) = hospital.get(f"DocumentReference?patient={patient}").json["entry"]
    url = entry["resource"]["content"][0]["attachment"]["url"]
    assert url.startswith(f"{BASE}/Binary/")
    told = [examples.ins(5).partition("|")[2], *(each["family"] for each in examples.patient(5)[1]["name"])]
    assert not any(each.lower() in url.lower() for each in told)
    path = url.removeprefix(f"{BASE}/")
    assert hospital.get(path).status == 200
    for at in range(len("Binary/"), len(path)):
        changed = path[:at] + ("0" if path[at] != "0" else "1") + path[at + 1 :]
        assert hospital.get(changed).status == 404, at


# --- two thousand documents -------------------------------------------------------------------------------------------

DOCUMENTS = 2_000
_FIRST = datetime(2016, 1, 1, 8, tzinfo=UTC)
_EVERY = timedelta(hours=44)  # for ten years
_NOS = "https://mos.esante.gouv.fr/NOS"


def french(number: int) -> Resource:
    """A document as PDSm has it: 40 types, 10 classes, 80 authors, 6 formats, 1 in 50 replaced."""
    at = _FIRST + number * _EVERY
    rng = random.Random(number)
    author = rng.randrange(80)
    organisation = {"identifier": {"system": "urn:oid:1.2.250.1.71.4.2.2", "value": f"19900000{author % 10:02d}"}}
    name = _family(author)

    def concept(table: str, code: str, text: str) -> Resource:
        return {"coding": [{"system": f"{_NOS}/{table}/FHIR/{table.replace('_', '-')}", "code": code, "display": text}]}

    return {
        "resourceType": "DocumentReference",
        "meta": {
            "profile": [
                "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition/pdsm-comprehensive-document-reference"
            ]
        },
        "contained": person_named("PractitionerRole", name, "Anne", f"8100000{author:05d}"),
        "masterIdentifier": {"system": URI, "value": f"urn:oid:1.2.250.1.213.1.1.1.99999.{number}"},
        "identifier": [{"system": URI, "value": f"urn:uuid:0c287d32-01e3-4d87-9953-{number:012x}"}],
        "status": "superseded" if number % 50 == 7 else "current",
        "type": {"coding": [{"system": "http://loinc.org", "code": f"{11400 + rng.randrange(40)}-4", "display": "CR"}]},
        "category": [concept("TRE_A03-ClasseDocument-CISIS", f"{10 + rng.randrange(10)}", "Compte rendu")],
        "date": at.isoformat(),
        "author": [{"reference": "#who"}],
        "custodian": organisation,
        "description": "Compte rendu du séjour",
        "securityLabel": [coded((CONFIDENTIALITY, "N"))],
        "content": [
            {
                "attachment": {
                    "contentType": "application/pdf",
                    "language": "fr-FR",
                    "url": f"{BASE}/Binary/{number:043d}",
                    "creation": at.isoformat(),
                },
                "format": {
                    "system": "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode",
                    "code": f"f{rng.randrange(6)}",
                },
            }
        ],
        "context": {
            "event": [concept("TRE_A00-ActeCCAM", f"HHFA{rng.randrange(60):03d}", "Acte")],
            "period": {"start": (at - timedelta(days=3)).isoformat(), "end": at.isoformat()},
            "facilityType": concept(
                "TRE_R02-SecteurActivite", f"SA{rng.randrange(8):02d}", "Etablissement public de santé"
            ),
            "practiceSetting": concept("TRE_A01-CadreExercice", f"C{rng.randrange(8)}", "Etablissement de santé"),
            "related": [{"identifier": {"system": "urn:oid:2.999.5", "value": f"ACC-{number}"}}],
        },
    }


def _family(author: int) -> str:
    """No two begin alike."""
    return f"{'BCDFGLMNPR'[author % 10]}{'AEIOUYEA'[author // 10]}{'RSTLNMDV'[author // 10]}IN"


@pytest.fixture(scope="module")
def large(exchange: Exchange) -> str:
    """A person with two thousand documents, as commits would have left them."""
    patient = str(register(exchange.client("hospital-a"), 6).json["id"])
    tables = wiring.table_names()
    table = dynamodb_backends[exchange.stack.account][exchange.stack.region].tables[tables.clinical]
    for number in range(DOCUMENTS):
        change = version_of(french(number), patient, _FIRST + number * _EVERY)
        for action in actions_of(change, tables):  # straight into the emulator: a call for each would take minutes
            item = in_wire(action.request["Item"])
            hash_key, range_key = DynamoType(item["PK"]), DynamoType(item["SK"])
            table.items[hash_key][range_key] = Item(hash_key, range_key, item)
    return patient


@pytest.mark.parametrize(
    "query",
    [
        "",
        "status=current",
        "status=superseded",
        "type=11407-4",
        "category=12&status=current",
        "category=12&facility=SA03",
        "type=11407-4,11408-4&setting=C3",
        "author.family=barin",
        "format=f2&status=current&date=ge2020-01-01",
        f"identifier={URI}|urn:oid:1.2.250.1.213.1.1.1.99999.77",
        "date=ge2018-01-01&date=lt2018-06-01&status=current",
        "period=ge2024-01-01&status=current",
    ],
)
def test_what_a_search_reads_does_not_grow_with_the_documents(practice: Client, large: str, query: str) -> None:
    """The first page in three round trips, audit included, and 21 read units of the index; a body is one unit more.

    The look-up of the person, when it is named by an identifier, is one round trip and one unit more.
    """
    practice.token()
    with measure() as spent:
        answer = practice.get(f"DocumentReference?patient={large}&_count=10&{encoded(query) if query else ''}")
    assert answer.status == 200, answer.body
    assert spent.round_trips - AUTHORIZER <= 3, spent.calls
    assert spent.read_units_of["Query"] <= 21, dict(spent.read_units_of)


def test_what_a_document_writes() -> None:
    """Beside its version and the mark of the change, an entry among all of its type and one under each range.

    No entry is larger than a write unit: each costs two, as all that is written in a transaction.
    """
    with registered.services():
        actions = actions_of(version_of(french(1), "0" * 16, _FIRST), wiring.table_names())
    kinds = Counter(action.request["Item"]["SK"]["S"][:1] for action in actions)
    assert kinds == {"v": 1, "h": 1, "e": 1, "x": 10}
    assert all(action.cost_bytes() <= 1024 for action in actions if action.request["Item"]["SK"]["S"][0] in "ex")
