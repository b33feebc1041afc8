"""Searches over HTTP against brute force: whatever is written in whichever way, every search finds just what it should.

A model keeps the bodies that writes were answered with; `tests/oracle.py` reads and matches them. Order, pages, totals
and includes are judged by a reading of their own. Everything is random, and the same in every run.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest

from passerelle.fhir import json as fhir_json
from passerelle.fhir.index import RECORD_TYPES
from passerelle.identifiers import new_resource_id
from tests import examples
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register
from tests.oracle import PARAMETERS, WORDS, folded, is_match, labels_of, queries, text_of, values
from tests.paging import Ask, encoded, matches, pages

Resource = dict[str, Any]
DATES = [
    "2024",
    "2024-02",
    "2024-02-29",
    "2025-03-14",
    "2025-03-14T07:30:10Z",
    "2025-03-14T08:30:00+01:00",
    "2023-12-31",
]
CODES = [
    {"system": "http://loinc.org", "code": "718-7", "display": "Hémoglobine"},
    {"system": "http://loinc.org", "code": "2345-7"},
    {"system": "http://snomed.info/sct", "code": "718-7", "display": "a,b|c$d"},
    {"code": "local"},
]
NUMBERS = ["5", "5.4", "5.40", "100", "-0.1"]
WRITES = 120
SEARCHES = 100


# --- resources to write -----------------------------------------------------------------------------------------------


class Writer:
    """Makes valid resources of a few types, with what they are searched by at random; `known` are those to refer to."""

    def __init__(self, rng: random.Random, people: Sequence[str]) -> None:
        self._rng = rng
        self._people = people
        self.known: dict[str, list[str]] = {"Encounter": [], "Observation": [], "Condition": []}

    def resource(self, kind: str) -> Resource:
        made: Resource = getattr(self, f"_{kind.lower()}")()
        own = {"reference": f"Patient/{self._rng.choice(self._people)}"}
        if kind == "Appointment":
            made["participant"].insert(self._rng.randint(0, 1), {"actor": own, "status": "accepted"})
        else:
            made["subject"] = own
        if self._often(0.5):
            made["identifier"] = [{"system": self._rng.choice(["urn:a", "urn:b"]), "value": self._rng.choice("1234")}]
        if self._often(0.3):
            made["meta"] = {"tag": [self._rng.choice(CODES)]}
        return {"resourceType": kind, **{name: value for name, value in made.items() if value is not None}}

    def _often(self, share: float) -> bool:
        return self._rng.random() < share

    def _observation(self) -> Resource:
        effective = self._rng.choice(["effectiveDateTime", "effectivePeriod", "effectiveInstant", None])
        value = self._rng.choice(["valueQuantity", "valueString", "valueCodeableConcept", "valueDateTime", None])
        of = {
            "effectiveDateTime": self._date,
            "effectivePeriod": self._period,
            "effectiveInstant": lambda: "2025-03-14T07:30:10.250Z",
            "valueQuantity": self._quantity,
            "valueString": lambda: self._rng.choice(WORDS),
            "valueCodeableConcept": self._concept,
            "valueDateTime": self._date,
        }
        made: Resource = {each: of[each]() for each in (effective, value) if each}
        if self._often(0.3):
            parts = [{"coding": [{"system": "urn:part", "code": self._rng.choice("12")}]} for _ in range(2)]
            made["component"] = [{"code": part, "valueQuantity": self._quantity()} for part in parts]
        made |= {"status": self._rng.choice(["final", "amended", "preliminary"]), "code": self._concept()}
        made |= {"encounter": self._to("Encounter"), "hasMember": self._many("Observation")}
        return made

    def _condition(self) -> Resource:
        onset = self._rng.choice(["onsetDateTime", "onsetPeriod", "onsetString", None])
        of = {"onsetDateTime": self._date, "onsetPeriod": self._period, "onsetString": lambda: "dans l'enfance"}
        active = {"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}
        made: Resource = {onset: of[onset]()} if onset else {}
        made |= {"code": self._concept(), "encounter": self._to("Encounter"), "clinicalStatus": {"coding": [active]}}
        made["recordedDate"] = self._date() if self._often(0.5) else None
        return made

    def _encounter(self) -> Resource:
        status = self._rng.choice(["planned", "finished", "in-progress"])
        made: Resource = {"status": status, "class": self._rng.choice(CODES), "partOf": self._to("Encounter")}
        made |= {"period": self._period() if self._often(0.7) else None, "type": [self._concept()]}
        made["reasonReference"] = self._many("Condition")
        return made

    def _appointment(self) -> Resource:
        start = self._rng.choice(["2025-03-14T07:30:00Z", "2024-02-29T23:30:00-05:00"])
        actor = {"reference": f"Practitioner/{self._rng.choice('12')}"}
        made: Resource = {"status": self._rng.choice(["booked", "fulfilled"]), "start": start, "end": start}
        return made | {"participant": [{"actor": actor, "status": "accepted"}], "serviceType": [self._concept()]}

    def _medicationrequest(self) -> Resource:
        made: Resource = {"status": self._rng.choice(["active", "stopped"]), "intent": "order"}
        made |= {"medicationCodeableConcept": self._concept(), "authoredOn": self._date() if self._often(0.7) else None}
        identifier = {"system": "urn:a", "value": self._rng.choice("12")}
        made["requester"] = self._rng.choice([{"identifier": identifier}, {"reference": "Practitioner/1"}, None])
        return made | {"encounter": self._to("Encounter")}

    def _concept(self) -> Resource:
        if self._often(0.15):
            return {"text": self._rng.choice(WORDS)}
        codings = self._rng.sample(CODES, self._rng.choice([1, 1, 2]))
        return {"coding": codings, **({"text": self._rng.choice(WORDS)} if self._often(0.4) else {})}

    def _date(self) -> str:
        return self._rng.choice(DATES)

    def _period(self) -> Resource:
        start, end = self._rng.choice(
            [("2024-02-29", "2025-03-14"), ("2023-12-31", None), (None, "2024-02"), ("2024", "2024")]
        )
        return {name: value for name, value in (("start", start), ("end", end)) if value}

    def _quantity(self) -> Resource:
        unit = self._rng.choice(
            [{"system": "http://unitsofmeasure.org", "code": "g/dL", "unit": "g/dL"}, {"unit": "g"}, {}]
        )
        comparator = {"comparator": self._rng.choice(["<", ">="])} if self._often(0.2) else {}
        number = fhir_json.loads(self._rng.choice(NUMBERS).encode())
        return {"value": number, **comparator, **unit}

    def _to(self, kind: str) -> Resource | None:
        if not self.known[kind] or self._often(0.4):
            return None
        return {"reference": f"{kind}/{self._rng.choice(self.known[kind])}"}

    def _many(self, kind: str) -> list[Resource] | None:
        found = self._to(kind)
        return [found] if found else None


TYPES = ("Observation", "Condition", "Encounter", "Appointment", "MedicationRequest")


class Record:
    """A person's record as its writes say it is: `there` are the bodies by reference, `gone` those deleted."""

    def __init__(self, client: Client, people: Sequence[str], rng: random.Random) -> None:
        self.client = client
        self.people = people
        self.rng = rng
        self.writer = Writer(rng, people)
        self.there: dict[str, Resource] = {}
        self.gone: dict[str, Resource] = {}
        self.ways: dict[str, int] = {}

    def of(self, kind: str) -> list[Resource]:
        return [each for each in self.there.values() if each["resourceType"] == kind]

    def write(self) -> None:
        """One write, in a way of its own."""
        ways = [self.create, self.create, self.update, self.patch, self.fhirpath_patch, self.delete, self.transaction]
        way = self.rng.choice(ways) if len(self.there) > 5 else self.create
        self.ways[way.__name__] = self.ways.get(way.__name__, 0) + 1
        way()

    def create(self) -> None:
        kind = self.rng.choice(TYPES)
        self._took(self.client.post(kind, fhir_json.dumps(self.writer.resource(kind))), 201)

    def update(self) -> None:
        reference = self._any()
        kind, _, id = reference.partition("/")
        content = {**self.writer.resource(kind), "id": id}
        self._took(self.client.put(reference, fhir_json.dumps(content)), 200)

    def patch(self) -> None:
        """A JSON Patch that moves the resource to another identifier."""
        identifier = [{"system": "urn:p", "value": self.rng.choice("12")}]
        body = fhir_json.dumps([{"op": "add", "path": "/identifier", "value": identifier}])
        answer = self.client.request("PATCH", self._any(), body, Content_Type="application/json-patch+json")
        self._took(answer, 200)

    def fhirpath_patch(self) -> None:
        """A FHIRPath Patch that gives an observation another status."""
        named = [each["id"] for each in self.of("Observation")]
        if not named:
            return
        status = self.rng.choice(["final", "corrected"])
        parts = [
            ("type", "valueCode", "replace"),
            ("path", "valueString", "Observation.status"),
            ("value", "valueCode", status),
        ]
        operation = {"name": "operation", "part": [{"name": name, kind: value} for name, kind, value in parts]}
        body = {"resourceType": "Parameters", "parameter": [operation]}
        self._took(self.client.request("PATCH", f"Observation/{self.rng.choice(named)}", body), 200)

    def delete(self) -> None:
        reference = self._any()
        assert self.client.request("DELETE", reference).status == 200
        self._lost(reference)

    def transaction(self) -> None:
        """Several writes at once, one to a resource; new ones refer to each other."""
        visit = self.writer.resource("Encounter")
        url = "urn:uuid:00000000-0000-4000-8000-00000000000a"
        entries = [{"fullUrl": url, "resource": visit, "request": {"method": "POST", "url": "Encounter"}}]
        new = self.writer.resource("Observation") | {"encounter": {"reference": url}}
        entries.append({"resource": new, "request": {"method": "POST", "url": "Observation"}})
        changed, deleted = self.rng.sample(sorted(self.there), 2)
        kind, _, id = changed.partition("/")
        content = {**self.writer.resource(kind), "id": id}
        entries.append({"resource": content, "request": {"method": "PUT", "url": changed}})
        entries.append({"request": {"method": "DELETE", "url": deleted}})
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        answer = self.client.post("", fhir_json.dumps(bundle))
        assert answer.status == 200, answer.body
        for entry in answer.json["entry"][:3]:
            place = "/".join(entry["response"]["location"].split("/_history")[0].split("/")[-2:])
            self._took(self.client.get(place), 200)
        self._lost(deleted)

    def _any(self) -> str:
        return self.rng.choice(sorted(self.there))

    def _took(self, answer: Any, status: int) -> None:
        assert answer.status == status, answer.body
        body: Resource = fhir_json.loads(answer.body)
        reference = f"{body['resourceType']}/{body['id']}"
        self.there[reference] = body
        known = self.writer.known.get(body["resourceType"])
        if known is not None and body["id"] not in known:
            known.append(body["id"])

    def _lost(self, reference: str) -> None:
        self.gone[reference] = self.there.pop(reference)


# --- searches and what they should find -------------------------------------------------------------------------------


def ask_of(client: Client) -> Ask:
    def ask(path: str) -> Resource:
        answer = client.get(path)
        assert answer.status == 200, (path, answer.body)
        content: Resource = fhir_json.loads(answer.body)
        return content

    return ask


Criterion = tuple[str, str, list[str]]  # parameter, modifier, alternatives


def criteria(rng: random.Random, kind: str, resources: Sequence[Resource]) -> Iterator[Criterion]:
    """One to three criteria that have to do with resources that are there, or were."""
    names = sorted(PARAMETERS[kind])
    for _ in range(rng.choice([1, 1, 2, 3])):
        name = rng.choice(names)
        row = PARAMETERS[kind][name]
        found = [value for each in rng.sample(resources, min(3, len(resources))) for value in values(each, name)]
        labels = [label for each in resources[:9] for label in labels_of(each, row)] if row["kind"] == "token" else []
        if rng.random() < 0.1 or not found:
            if rng.random() < 0.5:
                yield name, "missing", [rng.choice(["true", "false"])]
        elif labels and rng.random() < 0.1:
            yield name, "text", [rng.choice(labels)[: rng.randint(1, 9)]]
        else:
            asked = list(queries(rng, row["kind"], rng.choice(found)))
            if name != RECORD_TYPES[kind].among:  # there, patients and others cannot be alternatives
                asked += queries(rng, row["kind"], rng.choice(found))
            if asked:
                modifier = asked[0][0]
                yield name, modifier, [each for how, each in asked if how == modifier]


def pair_of(kind: str, name: str, modifier: str, asked: list[str]) -> tuple[str, str]:
    return (f"{name}:{modifier}" if modifier else name), text_of(PARAMETERS[kind][name], asked)


def sortable(kind: str) -> list[str]:
    return [name for name, row in PARAMETERS[kind].items() if row["kind"] != "composite"]


ALWAYS = datetime.min.replace(tzinfo=UTC)
NEVER = datetime.max.replace(tzinfo=UTC)


def sort_key(resource: Resource, name: str, *, is_descending: bool) -> Any:
    """Of several values the one that comes first in the order asked for; None without any."""
    row = PARAMETERS[resource["resourceType"]][name]
    found = values(resource, name)
    if not found:
        return None
    low: Callable[[Any], Any]
    match row["kind"]:
        case "date":
            low, high = (lambda each: each.start or ALWAYS), (lambda each: each.end or NEVER)
        case "quantity":
            unknown = Fraction(10**9)
            low = lambda each: -unknown if each.low is None else each.low  # noqa: E731
            high = lambda each: unknown if each.high is None else each.high  # noqa: E731
        case "token":
            low = high = lambda each: (each.code, each.system)
        case "string":
            low = high = lambda each: folded(each.text)
        case _:
            low = high = lambda each: each.written()
    return max(map(high, found)) if is_descending else min(map(low, found))


def check_order(resources: Sequence[Resource], kind: str, asked: str | None) -> None:
    """That no two neighbours stand the wrong way round."""
    by_date = RECORD_TYPES[kind].sort
    names = (asked or "").split(",")
    if asked is None or [each.removeprefix("-") for each in names] == [by_date]:
        starts = [start_of(each, str(by_date)) for each in resources]
        assert starts == sorted(starts, reverse=asked is None or asked.startswith("-")), (kind, asked)
        return
    for before, after in pairwise(resources):
        for name in names:
            bare, is_descending = name.removeprefix("-"), name.startswith("-")
            one, other = (sort_key(each, bare, is_descending=is_descending) for each in (before, after))
            if one == other:
                continue
            assert other is None or (one is not None and (one > other if is_descending else one < other)), (kind, asked)
            break


def start_of(resource: Resource, name: str) -> datetime:
    """To the minute; what has no date is the oldest."""
    found = values(resource, name)
    return (found[0].start or ALWAYS).replace(second=0) if found else ALWAYS


@pytest.fixture(scope="module")
def record(exchange: Exchange) -> Record:
    """A person of two source records."""
    rng = random.Random(20260301)
    first = register(exchange.client("hospital-a"), 1).json["id"]
    second = register(exchange.client("hospital-b"), 1, domain="urn:oid:2.999.2").json["id"]
    return Record(exchange.client("practice"), [first, second], rng)


def whose(record: Record) -> tuple[str, str]:
    form = record.rng.choice(["patient", "patient", "subject", "patient.identifier"])
    if form == "patient.identifier":
        return form, examples.ins(1)
    return "patient", record.rng.choice(record.people)


def check_search(record: Record, kind: str) -> int:
    """A random search, all its pages; how many it found."""
    rng = record.rng
    others = [each for each in record.gone.values() if each["resourceType"] == kind]
    asked = list(criteria(rng, kind, [*record.of(kind), *others] or [record.writer.resource(kind)]))
    sort = None
    if rng.random() < 0.5:
        names = (
            rng.sample(sortable(kind), rng.choice([1, 1, 2])) if rng.random() < 0.6 else [str(RECORD_TYPES[kind].sort)]
        )
        sort = ",".join(rng.choice(["", "-"]) + name for name in names)
    expected = {each["id"] for each in record.of(kind) if all(is_match(each, *which) for which in asked)}
    count = rng.choice([50, len(expected) // rng.randint(1, 4) + 1])
    pairs = [whose(record), *(pair_of(kind, *each) for each in asked), ("_count", str(count))]
    pairs += [("_sort", sort)] if sort else []
    total = rng.choice(["none", "estimate", "accurate", None])
    pairs += [("_total", total)] if total else []
    path = f"{kind}?{encoded(pairs)}"
    found = matches(ask_of(record.client), path)
    assert {each["id"] for each in found} == expected, path
    for each in found:
        assert each == record.there[f"{kind}/{each['id']}"], path
    check_order([dict(each) for each in found], kind, sort)
    if total in ("none", "accurate"):
        assert ask_of(record.client)(path).get("total") == (len(expected) if total == "accurate" else None), path
    return len(found)


def test_random_writes_and_searches(record: Record) -> None:
    hits = []
    for number in range(WRITES):
        record.write()
        if number >= 20:
            hits += [check_search(record, record.rng.choice(TYPES)) for _ in range(SEARCHES // (WRITES - 20))]
    assert set(record.ways) == {"create", "update", "patch", "fhirpath_patch", "delete", "transaction"}
    assert len(hits) >= SEARCHES
    assert sum(count > 0 for count in hits) > SEARCHES // 3
    assert len(record.gone) > 5


def test_nothing_else_is_there(record: Record) -> None:
    """After all writes: whole collections, one by one and together, and nothing that was deleted."""
    ask = ask_of(record.client)
    for kind in TYPES:
        found = matches(ask, f"{kind}?patient={record.people[0]}&_count=9")
        assert {each["id"] for each in found} == {each["id"] for each in record.of(kind)}
    for reference in record.gone:
        assert record.client.get(reference).status == 410
        kind, _, id = reference.partition("/")
        assert matches(ask, f"{kind}?patient={record.people[0]}&_id={id}") == []
    everything = [
        entry["resource"]
        for page in pages(ask, f"Patient/{record.people[1]}/$everything?_count=20")
        for entry in page["entry"]
        if entry["resource"]["resourceType"] in TYPES
    ]
    assert len(everything) == len(record.there)
    assert {f"{each['resourceType']}/{each['id']}" for each in everything} == record.there.keys()


def test_a_search_by_post_finds_the_same(record: Record) -> None:
    pairs = [("patient", record.people[0]), ("status", "final,amended"), ("_sort", "-date")]
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    posted = record.client.post("Observation/_search", encoded(pairs[1:]).encode(), **form)
    assert posted.status == 400  # it names no patient
    posted = record.client.post("Observation/_search", encoded(pairs).encode(), **form)
    mixed = record.client.post(f"Observation/_search?{encoded(pairs[:1])}", encoded(pairs[1:]).encode(), **form)
    asked = record.client.get(f"Observation?{encoded(pairs)}")
    assert asked.json["entry"] == posted.json["entry"] == mixed.json["entry"]


def entries(page: Mapping[str, Any], mode: str) -> dict[str, Resource]:
    found = [each["resource"] for each in page.get("entry", []) if each["search"]["mode"] == mode]
    by_reference = {f"{each['resourceType']}/{each['id']}": each for each in found}
    assert len(by_reference) == len(found)
    return by_reference


def targets(resource: Resource, name: str) -> set[str]:
    return {value.target for value in values(resource, name)}


@pytest.mark.parametrize("kind", ["Observation", "Condition", "MedicationRequest"])
def test_what_matches_refer_to_comes_with_them(record: Record, kind: str) -> None:
    ask = ask_of(record.client)
    followed = {"Observation": ["encounter", "has-member"]}.get(kind, ["encounter"])
    includes = "".join(f"&_include={kind}:{name}" for name in [*followed, "patient"])
    seen: set[str] = set()
    for page in pages(ask, f"{kind}?patient={record.people[0]}&_count=6{includes}"):
        hits = entries(page, "match")
        wanted = set().union(*(targets(hit, name) for hit in hits.values() for name in followed))
        included = entries(page, "include")
        people = {hit["subject"]["reference"] for hit in hits.values()}
        assert {each for each in included if each.startswith("Patient/")} == people
        others = {reference: each for reference, each in included.items() if reference not in people}
        assert others == {each: record.there[each] for each in wanted - hits.keys() if each in record.there}
        seen |= hits.keys()
    assert len(seen) == len(record.of(kind))


def test_what_refers_to_matches_comes_with_them(record: Record) -> None:
    ask = ask_of(record.client)
    asked = "_revinclude=Observation:encounter&_revinclude=Condition:encounter&_revinclude=Encounter:part-of"
    count = 0
    for page in pages(ask, f"Encounter?patient={record.people[1]}&_count=4&{asked}"):
        hits = entries(page, "match")
        names = {"Observation": "encounter", "Condition": "encounter", "Encounter": "part-of"}
        expected = {
            reference: each
            for reference, each in record.there.items()
            if (name := names.get(each["resourceType"])) and targets(each, name) & hits.keys() and reference not in hits
        }
        assert entries(page, "include") == expected
        count += len(expected)
    assert count > 2


def test_parts_of_what_is_found(record: Record) -> None:
    ask, path = ask_of(record.client), f"Observation?patient={record.people[0]}&_count=200"
    whole = {each["id"]: each for each in matches(ask, path)}
    assert ask(f"{path}&_summary=count") == {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": len(whole),
        "link": [{"relation": "self", "url": ask(f"{path}&_summary=count")["link"][0]["url"]}],
    }
    for some in matches(ask, f"{path}&_elements=status,value"):
        kept = {
            name for name in whole[some["id"]] if name in ("status", "code", "id", "meta") or name.startswith("value")
        }
        assert some.keys() == kept | {"resourceType"}
        assert "SUBSETTED" in [tag["code"] for tag in some["meta"]["tag"]]
        assert {name: some[name] for name in kept - {"meta"}} == {
            name: whole[some["id"]][name] for name in kept - {"meta"}
        }
    assert {each["id"] for each in matches(ask, f"{path}&_summary=true")} == whole.keys()
    (page,) = pages(ask, f"Observation?patient={record.people[0]}&_count=0")
    assert (page["total"], page.get("entry")) == (len(whole), None)


@pytest.mark.parametrize("sort", ["", "&_sort=date", "&_sort=code"])
def test_pages_hold_while_others_write(exchange: Exchange, sort: str) -> None:
    """What was there from the first page to the last comes once, whatever else comes, changes and goes."""
    key = register(exchange.client("hospital-a"), 5).json["id"]
    client = exchange.client("practice")
    code = f"held{len(sort)}"

    def content(day: int, **more: Any) -> Resource:
        coded = {"coding": [{"system": "urn:held", "code": code}, {"system": "urn:order", "code": f"{day:02d}"}]}
        return examples.observation(key, effectiveDateTime=f"2026-01-{day:02d}", code=coded, **more)

    made = [client.post("Observation", content(day)).json["id"] for day in range(10, 22)]
    seen: list[str] = []
    touched: set[str] = set()
    listing = pages(ask_of(client), f"Observation?patient={key}&code=urn:held|{code}&_count=3{sort}")
    for number, page in enumerate(listing):
        seen += [entry["resource"]["id"] for entry in page["entry"]]
        if number < 3:
            last, other = seen[-1], next(each for each in made if each not in seen and each not in touched)
            assert client.request("DELETE", f"Observation/{last}").status == 200
            moved = content(25 if number else 1, id=other)
            assert client.put(f"Observation/{other}", moved).status == 200
            client.post("Observation", content(2 + number))
            touched.add(other)
    assert len(set(seen)) == len(seen)
    assert set(made) - touched <= set(seen)


def test_a_page_ends_where_an_answer_would_be_too_large(exchange: Exchange) -> None:
    key = register(exchange.client("hospital-a"), 6).json["id"]
    client = exchange.client("practice")
    made = {
        client.post("Observation", examples.observation(key, note=[{"text": "x" * 1_000_000}])).json["id"]
        for _ in range(9)
    }
    for sort in ("", "&_sort=code"):
        sizes = [len(page["entry"]) for page in pages(ask_of(client), f"Observation?patient={key}&_count=50{sort}")]
        assert sizes == [4, 4, 1]
        assert {each["id"] for each in matches(ask_of(client), f"Observation?patient={key}{sort}")} == made


def test_references_that_lead_nowhere_hide_none(exchange: Exchange) -> None:
    """However many there are, and whatever they name: what is there comes with the record."""
    key = register(exchange.client("hospital-a"), 7).json["id"]
    client = exchange.client("practice")
    assert client.put("Practitioner/sought", {"resourceType": "Practitioner", "id": "sought"}).status in (200, 201)
    lost = [{"reference": f"Observation/{new_resource_id(key, datetime.now(UTC))}"} for _ in range(600)]
    content = {
        **examples.observation(key, hasMember=lost, focus=[{"reference": "Substance/1"}]),
        "performer": [{"reference": "Practitioner/sought"}],
    }
    assert client.post("Observation", content).status == 201
    for path in (f"Patient/{key}/$everything", f"Observation?patient={key}&_include=Observation:performer"):
        (page,) = pages(ask_of(client), path)
        assert "Practitioner/sought" in entries(page, "include"), path
    refused = client.get(f"Observation?patient={key}&_include=Observation:has-member")
    assert (refused.status, refused.json["issue"][0]["code"]) == (400, "too-costly")


# --- the directory ----------------------------------------------------------------------------------------------------

TOWNS = ["Port-Vieux", "Saint-Anne", "Rivières", "L'Œuvre"]
NAMES = ["Clinique", "Hôpital", "Cabinet", "Pharmacie du Marché", "Élise-Marie", "a,b|c$d"]
ORGANISATIONS = 300


class Directory:
    """Organisations in trees, places that they manage, and who works there; as they were answered."""

    def __init__(self, client: Client, rng: random.Random) -> None:
        self.client = client
        self.there: dict[str, Resource] = {}
        made = [self._organisation(rng, number) for number in range(ORGANISATIONS)]
        for first in range(0, ORGANISATIONS, 100):
            self._written(made[first : first + 100])
        self._written([self._location(rng, number) for number in range(20)])
        self._written(
            [{"resourceType": "Practitioner", "id": "doctor", "name": [{"family": "MÜLLER", "given": ["Zoé"]}]}]
        )
        self._written([self._role(rng, number) for number in range(20)])

    def of(self, kind: str) -> list[Resource]:
        return [each for each in self.there.values() if each["resourceType"] == kind]

    def _written(self, resources: Sequence[Resource]) -> None:
        entries = [
            {"resource": each, "request": {"method": "PUT", "url": f"{each['resourceType']}/{each['id']}"}}
            for each in resources
        ]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        answer = self.client.post("", bundle, Prefer="return=representation")
        assert answer.status == 200, answer.body
        for entry in fhir_json.loads(answer.body)["entry"]:
            each = entry["resource"]
            self.there[f"{each['resourceType']}/{each['id']}"] = each

    def _organisation(self, rng: random.Random, number: int) -> Resource:
        made: Resource = {
            "resourceType": "Organization",
            "id": f"o{number}",
            "identifier": [{"system": "urn:oid:1.2.250.1.71.4.2.2", "value": f"1{number % 280:09d}"}],
            "name": f"{rng.choice(NAMES)} {rng.choice(TOWNS)} {number % 50}",
            "address": [{"city": rng.choice(TOWNS), "postalCode": f"{13000 + number % 30}", "country": "FRA"}],
            "active": rng.random() < 0.9,
        }
        if number % 3 == 0:
            made["type"] = [{"coding": [rng.choice(CODES)]}]
        if number > 9 and rng.random() < 0.6:
            made["partOf"] = {"reference": f"Organization/o{rng.randint(0, 9)}"}
        return made

    def _location(self, rng: random.Random, number: int) -> Resource:
        managing = {"reference": f"Organization/o{rng.randint(0, 9)}"}
        name = f"{rng.choice(['Site', 'Bâtiment'])} {number}"
        return {"resourceType": "Location", "id": f"l{number}", "name": name, "managingOrganization": managing}

    def _role(self, rng: random.Random, number: int) -> Resource:
        return {
            "resourceType": "PractitionerRole",
            "id": f"r{number}",
            "practitioner": {"reference": "Practitioner/doctor"},
            "organization": {"reference": f"Organization/o{rng.randint(0, 20)}"},
            "location": [{"reference": f"Location/l{rng.randint(0, 19)}"}],
        }


@pytest.fixture(scope="module")
def directory(exchange: Exchange) -> Directory:
    return Directory(exchange.client("practice"), random.Random(7))


def test_the_directory_is_searched_by_what_selects(directory: Directory) -> None:
    """Each parameter that the directory looks resources up by, by whole values and by parts of them."""
    ask, rng = ask_of(directory.client), random.Random(8)
    hits = 0
    for kind in ("Organization", "Location", "PractitionerRole"):
        for name in RECORD_TYPES[kind].lookups:
            candidates = [each for each in directory.of(kind) if name in PARAMETERS[kind] and values(each, name)]
            for each in rng.sample(candidates, min(2, len(candidates))):
                row = PARAMETERS[kind][name]
                asked = list(queries(rng, row["kind"], rng.choice(values(each, name))))
                for modifier, value in asked:
                    if modifier in ("not", "contains") and rng.random() < 0.8:
                        continue  # they compare with everything there is
                    count = rng.choice([5, 50])
                    found = matches(ask, f"{kind}?{encoded([pair_of(kind, name, modifier, [value])])}&_count={count}")
                    expected = {one["id"] for one in directory.of(kind) if is_match(one, name, modifier, [value])}
                    assert {one["id"] for one in found} == expected, (kind, name, modifier, value)
                    assert all(one == directory.there[f"{kind}/{one['id']}"] for one in found)
                    hits += bool(found)
    assert hits > 10


def test_the_directory_in_pages(directory: Directory) -> None:
    ask = ask_of(directory.client)
    assert len(matches(ask, "Organization?_count=120")) == ORGANISATIONS
    names = [each["name"] for each in matches(ask, "Organization?active=true&_sort=name&_count=100")]
    assert names == sorted(names, key=folded)
    assert len(names) == sum(each["active"] for each in directory.of("Organization"))


def test_the_directory_with_what_refers_to_it(directory: Directory) -> None:
    """mCSD: an organisation with the places it manages, those who work there, and what it is a part of."""
    ask = ask_of(directory.client)
    asked = "_include=Organization:partof&_revinclude=Location:organization&_revinclude=PractitionerRole:organization"
    seen: set[str] = set()
    for page in pages(ask, f"Organization?_id=o0,o1,o2,o3,o15&_count=2&{asked}"):
        hits = entries(page, "match")
        above = set().union(*(targets(hit, "partof") for hit in hits.values()))
        below = {
            reference
            for reference, each in directory.there.items()
            if each["resourceType"] in ("Location", "PractitionerRole") and targets(each, "organization") & hits.keys()
        }
        assert entries(page, "include") == {each: directory.there[each] for each in (above | below) - hits.keys()}
        seen |= hits.keys()
    assert seen == {f"Organization/o{number}" for number in (0, 1, 2, 3, 15)}
    role = entries(ask("PractitionerRole?_id=r1&_include=PractitionerRole:practitioner"), "include")
    assert role.keys() == {"Practitioner/doctor"}


def test_the_directory_tells_what_changed(directory: Directory) -> None:
    """`_history` of a type from the moment of a copy: every later version, the newest first, deletions too."""
    ask = ask_of(directory.client)
    since = max(each["meta"]["lastUpdated"] for each in directory.there.values())
    changed = {**directory.there["Organization/o200"], "name": "Autre"}
    assert directory.client.put("Organization/o200", fhir_json.dumps(changed)).status == 200
    assert directory.client.request("DELETE", "Organization/o201").status == 200
    told = [
        (entry["request"]["method"], entry["request"]["url"], entry["response"]["etag"])
        for page in pages(ask, f"Organization/_history?{encoded([('_since', since), ('_count', '1')])}")
        for entry in page.get("entry", [])
    ]
    assert told[:2] == [("DELETE", "Organization/o201", 'W/"2"'), ("PUT", "Organization/o200", 'W/"2"')]
    assert matches(ask, "Organization?name=autre")[0]["id"] == "o200"
    assert matches(ask, "Organization?_id=o201") == []
    assert matches(ask, f"Organization?{encoded([('_lastUpdated', f'gt{since}')])}")[0]["id"] == "o200"
    whole = [entry for page in pages(ask, "Organization/_history?_count=150") for entry in page["entry"]]
    assert len(whole) == ORGANISATIONS + 2
