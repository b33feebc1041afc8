"""What others wrote comes back as it was sent, and is found by all that it says.

Official examples of FHIR R4 and of the guides go over HTTP into an exchange on moto; meanwhile Synthea's bundles go
into the local stack by the load command.
"""

from __future__ import annotations

import copy
import lzma
import os
import random
import subprocess
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fhirpy import SyncFHIRClient

from local.exchange import ExchangeClient
from local.load import Bundle, bundles, send
from passerelle.api.directory import TYPES as DIRECTORY
from passerelle.fhir import json as fhir_json
from passerelle.fhir.index import RECORD_TYPES
from tests import examples
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register
from tests.oracle import PARAMETERS, Link, is_match, plain, text_of, values
from tests.paging import Ask, encoded, matches, pages
from tests.stack_process import PASSERELLE, ROOT, Running

Resource = Mapping[str, Any]
FILES = ("hl7_r4_examples", "ig_examples", "fr_ans_examples")
PEOPLE = 10
EVERY = 8  # of the resources that a Bundle carries
LIVES = 20 if "PASSERELLE_EVERY_INPUT" in os.environ else 3  # bundles of Synthea, with every type; all take minutes
ALIKE = 1  # searches of one type by one parameter alone

# What is refused, and why: no R4 validator takes it either.
INVALID = {
    "MedicationRequest-medrx0301.json": "dispenseRequest.performer is a Practitioner, may be an Organization only",
    "ans.fhir.fr.eprescription/Bundle-HAS-16-Presc-Racecadotril.json#0": "tim-8: countMax without count",
}


# --- what is sent -----------------------------------------------------------------------------------------------------


def inputs(folder: Path) -> Iterator[tuple[str, Resource]]:
    """Every example of a type of the record or the directory, and some of what the Bundles among them carry."""
    return described(folder, RECORD_TYPES.keys() - {"Patient"})


def described(folder: Path, types: Collection[str]) -> Iterator[tuple[str, Resource]]:
    for file in FILES:
        with lzma.open(folder / f"{file}.ndjson.xz") as lines:
            for line in lines:
                content = fhir_json.loads(line)
                for number, (name, resource) in enumerate(unpacked(content["file"], content["resource"])):
                    if resource["resourceType"] in types and number % EVERY == 0:
                        yield name, resource


def unpacked(name: str, resource: Resource) -> Iterator[tuple[str, Resource]]:
    yield name, resource
    if resource["resourceType"] == "Bundle" and resource["type"] != "document":
        for number, entry in enumerate(resource.get("entry", [])):
            if "resource" in entry:
                yield from unpacked(f"{name}#{number}", entry["resource"])


def owned(resource: Resource, person: str) -> dict[str, Any]:
    """The same resource in the record of a person."""
    content: dict[str, Any] = copy.deepcopy(dict(resource))
    row = RECORD_TYPES[content["resourceType"]]
    own = {"reference": f"Patient/{person}"}
    if row.name == "Bundle":
        content["entry"][0]["resource"]["subject"] = own
    elif row.compartment in ("target", "participant.actor"):
        listed = content["target"] if row.compartment == "target" else content["participant"]
        listed[0] = own if row.compartment == "target" else {**listed[0], "actor": own}
    elif row.needs_patient or (row.compartment in content and row.among is None):
        content[str(row.compartment)] = own
        named = references(content)  # the patient may have been contained
        content["contained"] = [each for each in content.get("contained", []) if f"#{each['id']}" in named]
        content = {name: value for name, value in content.items() if name != "contained" or value}
    return content


NEEDED_OF_CONSENTS = {"dateTime", "performer", "policy"}


def refusal(name: str, resource: Resource) -> str | None:
    """Why a resource is not taken, if it is not."""
    kind = resource["resourceType"]
    if kind == "Bundle" and resource["type"] != "document":
        return "a Bundle of the record is a document: it has one subject"
    if kind == "DocumentReference":
        return "documents are published by transactions (ITI-65)"
    if not internal_references(resource) <= {f"#{each['id']}" for each in resource.get("contained", [])} | {"#"}:
        return "ref-1: it refers to what it does not contain"
    if kind == "Consent" and not resource.keys() >= NEEDED_OF_CONSENTS:
        return "PCF: it does not say all that a consent has to"
    if kind == "Consent" and "psy" in name:
        return "its actor is in no directory that the exchange knows"
    return INVALID.get(name)


def internal_references(value: Any) -> set[str]:
    return {each for each in references(value) if each.startswith("#")}


def references(value: Any) -> set[str]:
    if isinstance(value, Mapping):
        own = {value["reference"]} if isinstance(value.get("reference"), str) else set()
        return own.union(*(references(child) for child in value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


MINIMAL: Mapping[str, Mapping[str, Any]] = {
    "Endpoint": {
        "status": "active",
        "connectionType": {"code": "hl7-fhir-rest"},
        "payloadType": [{"text": "any"}],
        "address": "https://stand-in.example",
    },
    "Location": {"name": "a stand-in"},
    "Organization": {"name": "a stand-in"},
}


# --- the examples -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An example as it was sent, where it went, and whose record that is."""

    sent: Resource
    id: str
    person: str

    @property
    def type(self) -> str:
        return str(self.sent["resourceType"])

    @property
    def place(self) -> str:
        return f"{self.type}/{self.id}"


@dataclass(frozen=True, kw_only=True)
class Examples:
    kept: list[Kept]
    refused: dict[str, Any]
    explained: dict[str, str]


@pytest.fixture(scope="module")
def client(exchange: Exchange) -> Client:
    return exchange.client("practice")


@pytest.fixture(scope="module")
def people(exchange: Exchange) -> list[str]:
    return [register(exchange.client("hospital-a"), number + 1).json["id"] for number in range(PEOPLE)]


@pytest.fixture(scope="module")
def stored(client: Client, people: list[str], shared_data: Path) -> Examples:
    """Every example, under its own id where no other took that."""
    found = Examples(kept=[], refused={}, explained={})
    taken: set[str] = set()
    for number, (name, resource) in enumerate(inputs(shared_data)):
        why = refusal(name, resource)
        if why:
            found.explained[name] = why
        person = people[number % PEOPLE]
        content = dict(resource) if why else owned(resource, person)
        kind, id = content["resourceType"], content.get("id")
        if kind in DIRECTORY:
            for target in references(content) - taken:
                stand_in(client, target, taken)
        if id is None or (f"{kind}/{id}" in taken and kind not in DIRECTORY):
            content.pop("id", None)
            answer = client.post(kind, fhir_json.dumps(content))
        else:
            taken.add(f"{kind}/{id}")
            answer = client.put(f"{kind}/{id}", fhir_json.dumps(content))
        if answer.status in (200, 201):
            found.kept.append(Kept(sent=content, id=answer.json["id"], person=person))
        else:
            found.refused[name] = (answer.status, answer.json["issue"])
    return found


def stand_in(client: Client, reference: str, taken: set[str]) -> None:
    """References in the directory lead somewhere: what an example refers to is there."""
    kind, _, id = reference.partition("/")
    if kind in DIRECTORY.split():
        content = {"resourceType": kind, "id": id, **MINIMAL.get(kind, {})}
        assert client.put(f"{kind}/{id}", content).status == 201
        taken.add(reference)


def ask_of(client: Client) -> Ask:
    def ask(path: str) -> Resource:
        answer = client.get(path)
        assert answer.status == 200, (path, answer.body)
        content: Resource = fhir_json.loads(answer.body)
        return content

    return ask


@pytest.fixture(scope="module")
def read(client: Client, people: list[str], stored: Examples) -> dict[str, Resource]:
    """Everything that there is, by reference: whole records, and all of what is shared."""
    shared = [name for name, row in RECORD_TYPES.items() if not row.needs_patient and name != "Patient"]
    paths = [
        *(f"Patient/{person}/$everything?_count=50" for person in people),
        *(f"{name}?_count=50" for name in shared),
    ]
    found = (
        entry["resource"] for path in paths for page in pages(ask_of(client), path) for entry in page.get("entry", [])
    )
    return {f"{each['resourceType']}/{each['id']}": each for each in found}


def test_what_is_refused_is_explained(stored: Examples) -> None:
    assert stored.refused.keys() == stored.explained.keys(), {
        name: stored.refused.get(name) for name in stored.refused.keys() ^ stored.explained.keys()
    }
    assert {status for status, _ in stored.refused.values()} == {405, 422}
    assert len(stored.kept) > 200
    assert len({each.type for each in stored.kept}) >= 33


def content_of(resource: Resource) -> bytes:
    """All that a client sent, to the digit: without id, version and time."""
    meta = {name: value for name, value in resource.get("meta", {}).items() if name not in ("versionId", "lastUpdated")}
    rest = {name: value for name, value in resource.items() if name not in ("id", "meta")}
    return fhir_json.dumps(ordered({**({"meta": meta} if meta else {}), **rest}))


def ordered(value: Any) -> Any:
    """The same with members in one order, as JSON has none."""
    if isinstance(value, Mapping):
        return {name: ordered(value[name]) for name in sorted(value)}
    return [ordered(each) for each in value] if isinstance(value, list) else value


def test_examples_are_read_as_they_were_sent(stored: Examples, read: dict[str, Resource]) -> None:
    for each in stored.kept:
        assert content_of(read[each.place]) == content_of(each.sent), each.place
        assert each.sent.get("id") in (None, each.id)


def asked_of(resource: Resource) -> list[tuple[str, str, list[str]]]:
    """For every parameter that has a value in a resource: modifier and what to ask for to find it by that value.

    Some guides write a reference as an id alone, which names nothing (R4 section 2.3.0.1).
    """
    return [
        (name, *plain(row["kind"], found[0]))
        for name, row in PARAMETERS[resource["resourceType"]].items()
        if (found := [each for each in values(resource, name) if not isinstance(each, Link) or is_name(each)])
    ]


def is_name(link: Link) -> bool:
    return link.token is not None or "/" in link.target or ":" in link.target


def pair_of(kind: str, name: str, modifier: str, asked: list[str]) -> tuple[str, str]:
    return (f"{name}:{modifier}" if modifier else name), text_of(PARAMETERS[kind][name], asked)


def test_examples_are_found_by_each_of_their_parameters(
    client: Client, stored: Examples, read: dict[str, Resource]
) -> None:
    """By all together; what belongs to nobody, which every parameter looks up in its own way, by one at a time."""
    ask, rng = ask_of(client), random.Random(4)
    owners = {each.place: each.person for each in stored.kept}
    tried: Counter[str] = Counter()
    for each in (one for one in stored.kept if one.type != "Binary"):  # has no search (R4 section 2.39.6)
        content = read[each.place]
        asked = asked_of(content)
        is_shared = f"Patient/{each.person}" not in references(each.sent)
        own = [] if is_shared else [("patient", each.person)]
        among = [
            other
            for place, other in read.items()
            if other["resourceType"] == each.type and (is_shared or owners.get(place) == each.person)
        ]
        for some in [[one] for one in asked] if is_shared else [asked]:
            tried.update(f"{each.type} {name}" for name, *_ in some)
            if is_shared and tried[f"{each.type} {some[0][0]}"] > ALIKE:
                continue
            pairs = [*own, *(pair_of(each.type, *one) for one in some)]
            found = {one["id"] for one in matches(ask, f"{each.type}?{encoded(pairs)}&_count={rng.randint(1, 20)}")}
            assert each.id in found, (each.place, some)
            assert found == {one["id"] for one in among if all(is_match(one, *which) for which in some)}, pairs
    assert len(tried) > 300
    assert tried.total() > 1_900


def test_examples_go_through_xml_unharmed(client: Client, stored: Examples) -> None:
    """Out as XML, in again as XML, out as JSON: the largest of each type."""
    largest = {each.type: each for each in sorted(stored.kept, key=lambda each: len(fhir_json.dumps(each.sent)))}
    for each in largest.values():
        out = client.get(each.place, Accept="application/fhir+xml")
        assert out.header("Content-Type") == "application/fhir+xml"
        put = client.put(each.place, out.body, Content_Type="application/fhir+xml", Accept="application/fhir+json")
        assert put.status == 200, (each.place, put.body)
        assert content_of(fhir_json.loads(put.body)) == content_of(each.sent), each.place


def test_people_are_registered_as_they_are_described(exchange: Exchange, shared_data: Path) -> None:
    """The Patients among the examples, each under an identifier of the hospital that sends it."""
    client = exchange.client("hospital-a")
    for number, (name, patient) in enumerate(described(shared_data, {"Patient"})):
        own = {"system": examples.DOMAIN, "value": f"example-{number}"}
        content = {**patient, "identifier": [own, *patient.get("identifier", [])]}
        content.pop("id", None)
        answer = client.put(f"Patient?identifier={own['system']}|{own['value']}", fhir_json.dumps(content))
        if any(link["type"] == "replaced-by" for link in patient.get("link", [])):  # by whom nobody registered
            assert (answer.status, answer.json["issue"][0]["code"]) == (422, "not-found")
            continue
        assert answer.status == 201, (name, answer.body)
        read = client.get(f"Patient/{answer.json['id']}")
        assert content_of(fhir_json.loads(read.body)) == content_of(content), name


# --- Synthea ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def loading(_stacks: Any, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loading]:
    """Bundles of 150 and more entries, being loaded while the tests of the examples run."""
    path = tmp_path_factory.mktemp("synthea") / "bundles.ndjson"
    with lzma.open(shared_data / "synthea2019_bundles.ndjson.xz") as lines:
        path.write_bytes(b"".join(random.Random(98).sample(list(lines), LIVES)))
    with Loading(_stacks.current(), path) as under_way:
        yield under_way


class Loading:
    """The load command under way."""

    def __init__(self, stack: Running, path: Path) -> None:
        self.stack = stack
        self.path = path
        command = ["load", str(path), "--url", stack.url, "--credentials", str(stack.credentials)]
        self._process = subprocess.Popen(
            [*PASSERELLE, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def __enter__(self) -> Loading:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # without effect when it has ended
        self._process.communicate()

    def result(self) -> tuple[int, str]:
        output, _ = self._process.communicate(timeout=300)
        return self._process.returncode, output


@dataclass(frozen=True, kw_only=True)
class Life:
    """A synthetic person: the resources sent, as they should be stored, by reference."""

    key: str
    resources: dict[str, dict[str, Any]]

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        return {each["id"]: each for each in self.resources.values() if each["resourceType"] == kind}


@pytest.fixture(scope="module")
def lives(loading: Loading) -> list[Life]:
    status, output = loading.result()
    assert status == 0, output
    assert f"{LIVES} bundles taken" in output
    again = loading.stack.command("load", str(loading.path))
    assert f"{LIVES} taken before" in again.stdout, again.stdout + again.stderr
    client = loading.stack.client("laboratory")
    try:
        return [sent_again(client, bundle) for bundle in bundles([loading.path])]
    finally:
        loading.stack.close_clients()


def sent_again(client: ExchangeClient, bundle: Bundle) -> Life:
    """A repetition changes nothing: it is answered as the first time, with where everything went."""
    answer = send(client, bundle)
    assert answer.status_code == 200, answer.text
    content = fhir_json.loads(bundle.content)
    places = [entry["response"]["location"].partition("/_history/")[0] for entry in answer.json()["entry"]]
    places = ["/".join(place.split("/")[-2:]) for place in places]
    urls = {entry["fullUrl"]: place for entry, place in zip(content["entry"], places, strict=True)}
    stored = {
        place: {**replaced(entry["resource"], urls), "id": place.partition("/")[2]}
        for entry, place in zip(content["entry"], places, strict=True)
    }
    key = next(place.partition("/")[2] for place in places if place.startswith("Patient/"))
    return Life(key=key, resources=stored)


def replaced(value: Any, urls: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {
            name: urls.get(each, each) if name == "reference" else replaced(each, urls) for name, each in value.items()
        }
    return [replaced(each, urls) for each in value] if isinstance(value, list) else value


def asked_by(client: ExchangeClient) -> Ask:
    def ask(path: str) -> Resource:
        answer = client.request("GET", path)
        assert answer.status_code == 200, (path, answer.text)
        content: Resource = fhir_json.loads(answer.content)
        return content

    return ask


def test_whole_lives_are_read_as_they_were_sent(running: Running, lives: list[Life]) -> None:
    """Every resource, once, in pages; what belongs to nobody comes with what refers to it."""
    ask = asked_by(running.client("practice"))
    kinds: Counter[str] = Counter()
    for life in lives:
        found: Counter[str] = Counter()
        for page in pages(ask, f"Patient/{life.key}/$everything?_count=100"):
            for entry in page["entry"]:
                each = entry["resource"]
                reference = f"{each['resourceType']}/{each['id']}"
                assert content_of(each) == content_of(life.resources[reference]), reference
                found[reference] += entry["search"]["mode"] == "match"
        own = {each for each in life.resources if each.partition("/")[0] not in ("Organization", "Practitioner")}
        assert {each for each, times in found.items() if times == 1} == own
        assert max(found.values()) == 1
        assert found.keys() == life.resources.keys()
        kinds.update(each.partition("/")[0] for each in found)
    assert len(kinds) == 16, kinds


def test_each_kind_is_found_by_its_parameters(running: Running, lives: list[Life]) -> None:
    ask, rng = asked_by(running.client("practice")), random.Random(6)
    kinds = sorted({each.partition("/")[0] for life in lives for each in life.resources} - {"Patient"})
    for kind in kinds:
        life = rng.choice([each for each in lives if each.of(kind)])
        is_shared = kind in DIRECTORY.split()
        own = [] if is_shared else [("patient", life.key)]
        one = rng.choice(list(life.of(kind).values()))
        asked = [each for each in asked_of(one) if not each[0].startswith("_")]
        for some in [asked, *([each] for each in rng.sample(asked, min(3, len(asked))))]:
            pairs = [*own, *(pair_of(kind, *each) for each in some)]
            found = {each["id"] for each in matches(ask, f"{kind}?{encoded(pairs)}&_count={rng.choice([40, 100])}")}
            expected = {id for id, each in life.of(kind).items() if all(is_match(each, *which) for which in some)}
            assert one["id"] in found, pairs
            assert expected == found if own else expected <= found, pairs


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library leaves its sockets open
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_client_library_finds_a_whole_life(running: Running, lives: list[Life]) -> None:
    life = max(lives, key=lambda each: len(each.of("Observation")))
    client = SyncFHIRClient(f"{running.url}/fhir", authorization=f"Bearer {running.client('practice').token()}")
    found = client.resources("Observation").search(patient=life.key).sort("-date").limit(60).fetch_all()
    assert sorted(each["id"] for each in found) == sorted(life.of("Observation"))
    dates = [each["effectiveDateTime"] for each in found]
    assert [each[:10] for each in dates] == [each[:10] for each in sorted(dates, reverse=True)]
