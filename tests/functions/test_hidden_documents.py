"""Consent is non-interference, over HTTP (law 4, contract D1): two worlds, one with a masked document, one without it.

`tests/ports/test_hidden.py` asks the services the same with many documents; here it is one, and every way to ask that
HTTP has. The second world is made by taking out of the store what speaks of the document, item by item.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from local.gateway import Response
from passerelle import wiring
from passerelle.fhir import json as fhir_json
from passerelle.fhir.resource import ResourceDraft
from passerelle.records.model import RecordVersion, ResourceKey, StoredVersion
from tests import examples, record
from tests.documents import (
    AUTHOR,
    JSON_PATCH,
    OTHER,
    changed,
    document,
    fhirpath,
    named,
    operation,
    place,
    published,
    relabel,
)
from tests.exchange import URL, Client, Exchange, PumpedWebhook
from tests.functions.test_patients import register
from tests.submitting import folder, publish, related, replacement, submission

AT = datetime(2027, 3, 1, 9, 30, tzinfo=UTC)


@dataclass
class World:
    """Ids of a record: documents that are shown and one that is masked, and what speaks of that one."""

    key: str
    shown: list[str] = field(default_factory=list)
    masked: dict[str, Any] = field(default_factory=dict)
    folder: str = ""
    appended: str = ""
    observation: str = ""

    @property
    def hidden(self) -> str:
        return str(self.masked["id"])


@pytest.fixture(scope="module")
def other(exchange: Exchange) -> Client:
    return exchange.client(OTHER)


@pytest.fixture
def standing_clock(exchange: Exchange) -> Iterator[None]:
    functions = [wiring.documents(), wiring.records(), wiring.patients()]
    clocks = [each.now for each in functions]
    for each in functions:
        object.__setattr__(each, "now", lambda: AT)  # frozen for all but this
    yield
    for each, now in zip(functions, clocks, strict=True):
        object.__setattr__(each, "now", now)


@pytest.fixture(scope="module")
def world(exchange: Exchange) -> World:
    author = exchange.client(AUTHOR)
    key = str(register(author, 1).json["id"])
    made = World(key)
    made.shown = [published(author, key)["id"], published(author, key)["id"]]
    made.masked = published(author, key, "MASQUE_PS")
    relation = [{"code": "appends", "target": {"reference": place(made.masked)}}]
    made.appended = published(author, key, relatesTo=relation)["id"]
    items = [f"DocumentReference/{each}" for each in (made.shown[0], made.hidden)]
    made.folder = author.post("List", folder(f"Patient/{key}", *items)).json["id"]
    derived = examples.observation(key, derivedFrom=[{"reference": place(made.masked)}])
    made.observation = author.post("Observation", derived).json["id"]
    return made


def requests(world: World) -> Iterator[tuple[str, str, Any, dict[str, str]]]:
    """Method, path, body and headers of everything that is asked."""
    key, hidden, subject = world.key, world.hidden, f"Patient/{world.key}"
    own = f"DocumentReference/{hidden}"
    json_patch = {"Content_Type": JSON_PATCH}
    for path in (own, f"{own}/_history", f"{own}/_history/1", f"{own}/$links", f"{own}?_summary=text"):
        yield "GET", path, None, {}
    for accept in ("*/*", "application/xml", "application/fhir+json", "image/png"):
        yield "GET", f"Binary/{hidden}", None, {"Accept": accept}
        yield "HEAD", f"Binary/{hidden}", None, {"Accept": accept}
    yield "GET", f"Binary/{hidden}", None, {"Accept": "*/*", "Range": "bytes=0-9"}
    yield "GET", f"Binary/{hidden}", None, {"Accept": "*/*", "Range": "bytes=99999-"}
    yield "GET", f"Binary/{hidden}", None, {"Accept": "*/*", "If_None_Match": "*"}
    for path in (f"Binary/{hidden}?patient=1", f"Binary/{hidden}/_history/1", f"Binary/{hidden}/_history"):
        yield "GET", path, None, {}
    binary = {"resourceType": "Binary", "id": hidden, "contentType": "text/plain", "data": "YQ=="}
    yield "PUT", f"Binary/{hidden}", {**binary, "securityContext": {"reference": subject}}, {}
    for method in ("DELETE", "POST", "PATCH", "OPTIONS"):
        yield method, f"Binary/{hidden}", [], json_patch
    yield "PUT", own, {**world.masked}, {}
    yield "DELETE", own, None, {}
    for change in (
        relabel("N"),
        relabel("MASQUE_PT"),
        [operation("test", "/status", "current")],
        [operation("replace", "/status", "entered-in-error")],
        [operation("replace", "/description", "x")],
    ):
        for where in (own, named(world.masked), f"DocumentReference?patient={key}&_id={hidden}"):
            yield "PATCH", where, change, json_patch
            yield "PATCH", where, change, {**json_patch, "If_Match": 'W/"9"', "Prefer": "return=representation"}
    share = {"resourceType": "Parameters", "parameter": [{"name": "purpose", "valueCode": "TREAT"}]}
    yield "POST", f"{own}/$share", share, {}
    yield "POST", f"{own}/$revoke", {"resourceType": "Parameters", "parameter": [{"name": "id", "valueId": "x"}]}, {}
    master = world.masked["masterIdentifier"]
    for query in (
        "",
        "&_count=1",
        "&_count=2&_sort=date",
        "&_count=2&_total=accurate",
        "&_summary=count",
        "&_count=0",
        "&status=current&type=http://loinc.org|11488-4",
        f"&_id={hidden}",
        f"&identifier={master['system']}|{master['value']}",
        f"&relatesto={own}",
        "&relatesto:missing=false",
        "&security-label=MASQUE_PS",
        "&_include=DocumentReference:relatesto",
        "&_revinclude=List:item",
        "&_revinclude=Observation:derived-from",
        f"&_has:List:item:_id={world.folder}",
        "&relatesto.status=current",
        "&_lastUpdated=gt2026-01-01",
    ):
        yield "GET", f"DocumentReference?patient={key}{query}", None, {}
    for query in ("", "&code=submissionset", "&code=folder", "&_count=1", "&_summary=count", "&_include=List:item"):
        yield "GET", f"List?patient={key}{query}", None, {}
    yield "GET", f"List?patient={key}&item={own}", None, {}
    for path in (f"List/{world.folder}", f"DocumentReference/{world.appended}", f"Observation/{world.observation}"):
        for part in ("", "/_history", "/_history/1"):
            yield "GET", f"{path}{part}", None, {}
    for kind in ("DocumentReference", "List", "Observation"):
        yield "GET", f"{kind}/_history?patient={key}&_count=2", None, {}
    yield "GET", f"Observation?patient={key}", None, {}
    yield "GET", f"Observation?patient={key}&derived-from={own}", None, {}
    for path in ("$everything", "$everything?_count=2", "$everything?_type=List", "$changes", "$changes?_count=2"):
        yield "GET", f"Patient/{key}/{path}", None, {}
    urls = [own, f"Binary/{hidden}", f"DocumentReference?patient={key}", f"List/{world.folder}"]
    entries = [{"request": {"method": "GET", "url": each}} for each in urls]
    for kind in ("batch", "transaction"):
        yield "POST", "", {"resourceType": "Bundle", "type": kind, "entry": entries}, {}
    status = fhirpath("replace", "DocumentReference.status", value={"valueCode": "superseded"})
    for kind in ("batch", "transaction"):
        for where in (own, named(world.masked)):
            entry = {"resource": status, "request": {"method": "PATCH", "url": where}}
            yield "POST", "", {"resourceType": "Bundle", "type": kind, "entry": [entry]}, {}
    for code in ("appends", "transforms", "replaces"):
        yield "POST", "", submission(subject, relatesTo=related(code, hidden)), {}
        yield "POST", "DocumentReference", document(subject, relatesTo=related(code, hidden)), {}
    yield "POST", "", replacement(subject, hidden), {}
    yield "POST", "List", folder(subject, own), {"If_None_Exist": f"item={own}&patient={key}"}
    listed = folder(subject, f"DocumentReference/{world.shown[0]}", own) | {"id": world.folder}
    yield "PUT", f"List/{world.folder}", listed, {}
    for criteria in (named(world.masked), f"DocumentReference?_id={hidden}"):
        speaks = examples.observation(key, derivedFrom=[{"reference": criteria}])
        entry = {"resource": speaks, "request": {"method": "POST", "url": "Observation"}}
        yield "POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}, {}


def pages(client: Client, method: str, path: str, body: Any, headers: dict[str, str]) -> Iterator[Response]:
    """The answer, and whatever its `next` links lead to."""
    for _ in range(20):
        answer = client.request(method, path, body, **headers)
        yield answer
        content = answer.json if answer.body.startswith(b"{") else {}
        links = content.get("link", []) if isinstance(content, dict) else []
        following = [each["url"] for each in links if each["relation"] == "next"]
        if method != "GET" or not following:
            return
        path = following[0].removeprefix(f"{URL}/fhir/")


def told(answer: Response) -> tuple[Any, ...]:
    """All of an answer but what each has of its own."""
    headers = [each for each in answer.headers if each[0] not in ("X-Request-Id", "Date")]
    return answer.status, headers, answer.body


def answers(client: Client, world: World) -> dict[str, list[tuple[Any, ...]]]:
    said: dict[str, list[tuple[Any, ...]]] = {}
    for number, (method, path, body, headers) in enumerate(requests(world)):
        said[f"{number} {method} {path} {headers}"] = [
            told(each) for each in pages(client, method, path, body, headers)
        ]
    return said


def take_out(exchange: Exchange, world: World) -> None:
    """Make it the record in which the masked document was never published."""
    mended: list[tuple[StoredVersion, dict[str, Any]]] = []
    for kind, id, name in (("List", world.folder, "entry"), ("DocumentReference", world.appended, "relatesTo")):
        key = ResourceKey.of(kind, id)
        stored = wiring.record_store().find_latest(key) if key else None
        assert stored is not None
        content = fhir_json.loads(stored.body or b"")
        content[name] = [each for each in content[name] if world.hidden not in json.dumps(each)]
        mended.append((stored, {each: value for each, value in content.items() if value}))
    sets = [
        entry["resource"]["id"]
        for entry in exchange.client(AUTHOR).get(f"List?item={place(world.masked)}&patient={world.key}").json["entry"]
        if entry["resource"]["id"] != world.folder
    ]
    gone = [id.partition("-")[2] for id in (world.hidden, world.folder, world.appended, world.observation, *sets)]
    client, table = exchange.stack.client("dynamodb"), exchange.stack.environment["CLINICAL_TABLE"]
    for item in exchange.table("clinical"):
        if any(each in json.dumps(item, default=str) for each in gone):
            client.delete_item(TableName=table, Key={name: item[name] for name in ("PK", "SK")})
    for stored, content in mended:
        draft = ResourceDraft({k: v for k, v in content.items() if k not in ("id", "meta")}, f"{URL}/fhir")
        entry = draft.entry(stored.id, 1, stored.at)
        producer = {"~producer": (f"|{stored.producer}",)} if stored.type == "DocumentReference" else {}
        version = RecordVersion(
            key=stored.key,
            version=1,
            at=stored.at,
            body=draft.body(stored.id, 1, stored.at),
            entry=replace(entry, values={**entry.values, **producer}),
            producer=stored.producer,
        )
        record.commit(version)


@pytest.mark.usefixtures("standing_clock")
def test_gen_11_a_masked_document_is_one_that_never_was(exchange: Exchange, other: Client, world: World) -> None:
    """GEN-11, 66-5, 68-2, DMP-16, DMP-17, DMP-18, DMP-21, PDSM-5: every answer, byte for byte."""
    with_it = answers(other, world)
    assert {status for said in with_it.values() for status, *_ in said} >= {200, 404, 422}
    for name, said in with_it.items():
        if world.hidden not in name:  # as a link to what was asked has it
            assert not any(world.hidden.encode() in body for _, _, body in said), name
    author = exchange.client(AUTHOR)
    assert author.get(place(world.masked)).status == 200
    take_out(exchange, world)
    assert author.get(place(world.masked)).status == 404
    without_it = answers(other, world)
    different = [name for name in with_it if with_it[name] != without_it[name]]
    assert not different, [(with_it[each], without_it[each]) for each in different[:1]]


def test_sub_10_nobody_is_notified_of_what_is_masked(
    exchange: Exchange, other: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SUB-10: no notification, no gap in the numbers; neither by delivery nor when the subscriber catches up."""
    monkeypatch.setattr(wiring.append().appender, "_now", lambda: AT)  # the log takes nothing from times to come
    author = exchange.client(AUTHOR)
    key = str(register(author, 4).json["id"])
    exchange.pump.run_until_idle()
    with PumpedWebhook(exchange.pump) as webhook:
        backport = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition"
        content, naming = f"{backport}/backport-payload-content", f"{backport}/backport-filter-criteria"
        channel = {
            "type": "rest-hook",
            "endpoint": webhook.url,
            "payload": "application/fhir+json",
            "_payload": {"extension": [{"url": content, "valueCode": "id-only"}]},
        }
        asked = {
            "resourceType": "Subscription",
            "status": "requested",
            "reason": "care coordination",
            "criteria": "https://passerelle.example/SubscriptionTopic/anything-changed",
            "_criteria": {"extension": [{"url": naming, "valueString": f"?patient=Patient/{key}"}]},
            "channel": channel,
        }
        answer = other.post("Subscription", asked)
        assert answer.status == 201, answer.body
        webhook.secret = answer.header("X-Passerelle-Webhook-Secret") or ""
        assert webhook.wait_for("handshake", 5)
        first, masked = published(author, key), published(author, key, "MASQUE_PS")
        inner = publish(author, f"Patient/{key}", "pdsm", securityLabel=masked["securityLabel"])
        last = published(author, key)
        exchange.pump.run_until_idle()

        def events() -> tuple[list[int], str]:
            found = other.get(f"Subscription/{answer.json['id']}/$events?eventsSinceNumber=1&eventsUntilNumber=99")
            assert found.status == 200, found.body
            parameters = found.json["entry"][0]["resource"]["parameter"]
            numbers = [
                int(each["part"][0]["valueString"]) for each in parameters if each["name"] == "notification-event"
            ]
            return numbers, found.body.decode()

        numbers, text = events()
        assert numbers == list(range(1, len(numbers) + 1))
        assert first["id"] in text
        assert last["id"] in text
        for hidden in (masked["id"], inner):
            assert hidden not in text
            assert not re.search(hidden, repr(webhook.__dict__))
        changed(author, last, relabel("MASQUE_PS"))
        exchange.pump.run_until_idle()
        _, text = events()
        assert last["id"] not in text
