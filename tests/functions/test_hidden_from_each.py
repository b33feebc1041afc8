"""A document that is kept from one caller is one that never was, whatever keeps it back: over HTTP, byte for byte.

What `test_hidden_documents.py` asks of a mask is asked here of a profession, of a consent and of a mandate, by
everything that writes and counts. Contract GEN-11, DMP-29, PCF-7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests import examples
from tests.documents import AUTHOR, JSON_PATCH, document, named, operation, place, published, relabel
from tests.exchange import Client, Exchange
from tests.functions.test_control import done, ins, patient_of, proxy_of
from tests.functions.test_hidden_documents import World, pages, standing_clock, take_out, told
from tests.functions.test_patients import register
from tests.functions.test_trust_attacks import STRANGER, consent
from tests.somebody import Somebody
from tests.submitting import folder, related, submission

__all__ = ["standing_clock"]
RECENT = {"date": "2026-02-01T08:00:00Z"}
OBSTETRICS = {"coding": [{"system": "http://loinc.org", "code": "15508-5"}]}
HOUSE = "1990000999"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Who asks, what the hidden document holds, and what the patient decides."""

    name: str
    number: int
    caller: Callable[[Exchange, int], Client]
    content: dict[str, Any] = field(default_factory=dict)
    decide: Callable[[Exchange, World, int], None] = lambda exchange, world, number: None


def professional(role: str, profession: str) -> Callable[[Exchange, int], Client]:
    told = {"professional": "810000000888", "profession": profession, "organisation": HOUSE}
    return lambda exchange, _: Somebody(exchange, client_id="practice", role=role, **told)


def denied(exchange: Exchange, world: World, number: int) -> None:
    period = {"type": "deny", "dataPeriod": {"start": "2022-01-01", "end": "2022-12-31"}}
    answer = patient_of(exchange, number).post("Consent", consent(world.key, "x", provision=[period]))
    assert answer.status == 201, answer.body


def released(exchange: Exchange, world: World, number: int) -> None:
    patient = patient_of(exchange, number)
    done(patient, world.key, "appoint-proxy", holder=ins(STRANGER), kind="carer")
    shown = [f"DocumentReference/{each}" for each in (*world.shown, world.appended)]
    done(patient, world.key, "release", holder=ins(STRANGER), references=[*shown, f"List/{world.folder}"])


CASES = (
    Case(name="profession", number=2, caller=professional("practice", "80"), content={"type": OBSTETRICS}),
    Case(
        name="consent by date",
        number=5,
        caller=professional("practice", "10"),
        content={"date": "2022-06-15T08:00:00Z"},
        decide=denied,
    ),
    Case(name="carer", number=6, caller=lambda exchange, n: proxy_of(exchange, n, STRANGER), decide=released),
)


def build(exchange: Exchange, case: Case) -> World:
    author = exchange.client(AUTHOR)
    key = str(register(author, case.number).json["id"])
    world = World(key)
    world.shown = [published(author, key, **RECENT)["id"] for _ in range(2)]
    world.masked = published(author, key, **{**RECENT, **case.content})
    relation = [{"code": "appends", "target": {"reference": place(world.masked)}}]
    world.appended = published(author, key, **RECENT, relatesTo=relation)["id"]
    items = [f"DocumentReference/{each}" for each in (world.shown[0], world.hidden)]
    world.folder = author.post("List", folder(f"Patient/{key}", *items)).json["id"]
    derived = examples.observation(key, derivedFrom=[{"reference": place(world.masked)}])
    world.observation = author.post("Observation", derived).json["id"]
    case.decide(exchange, world, case.number)
    return world


def requests(world: World) -> Iterator[tuple[str, str, Any, dict[str, str]]]:
    """Method, path, body and headers of everything that is asked."""
    key, hidden, subject, own = world.key, world.hidden, f"Patient/{world.key}", f"DocumentReference/{world.hidden}"
    for path in (own, f"{own}/_history", f"{own}/_history/1", f"{own}/$links", f"Binary/{hidden}"):
        yield "GET", path, None, {"If_None_Match": 'W/"1"', "If_Modified_Since": "Mon, 01 Jan 2035 00:00:00 GMT"}
    for query in (
        *("", "&_count=1", "&_summary=count", "&_count=2&_total=accurate&_sort=date", f"&_id={hidden}"),
        *(f"&relatesto={own}", "&_include=DocumentReference:relatesto", "&_revinclude=List:item"),
        *("&_revinclude=Observation:derived-from", f"&_has:List:item:_id={world.folder}"),
    ):
        yield "GET", f"DocumentReference?patient={key}{query}", None, {}
    yield "GET", f"List?patient={key}&_include=List:item&_summary=count", None, {}
    yield "GET", f"List?item={own}&patient={key}", None, {}
    yield "GET", f"Observation?patient={key}&derived-from={own}", None, {}
    for path in (f"List/{world.folder}", f"DocumentReference/{world.appended}", f"Observation/{world.observation}"):
        yield "GET", path, None, {}
    for path in ("$everything?_count=2", "$changes?_count=2"):
        yield "GET", f"Patient/{key}/{path}", None, {}
    json_patch = {"Content_Type": JSON_PATCH}
    for change in (relabel("N"), [operation("test", "/status", "current")]):
        for where in (own, named(world.masked), f"DocumentReference?patient={key}&_id={hidden}"):
            yield "PATCH", where, change, {**json_patch, "If_Match": 'W/"9"'}
    yield "PUT", own, {**world.masked}, {"If_Match": 'W/"1"'}
    yield "DELETE", own, None, {}
    yield "DELETE", f"Observation?patient={key}&derived-from={own}", None, {}
    yield "DELETE", f"Observation/{world.observation}", None, {"If_Match": 'W/"9"'}
    yield (
        "PUT",
        f"Observation/{world.observation}",
        examples.observation(key, id=world.observation),
        {"If_Match": 'W/"9"'},
    )
    for path in ("$validate", f"{hidden}/$validate"):
        yield "POST", f"DocumentReference/{path}", document(subject, relatesTo=related("appends", hidden)), {}
    for master in (world.masked["masterIdentifier"], {"system": "urn:ietf:rfc:3986", "value": "urn:oid:2.999.1.1"}):
        clash = document(subject, masterIdentifier=master, relatesTo=related("appends", hidden))
        yield "POST", "DocumentReference", clash, {}
    yield "POST", "", submission(subject, relatesTo=related("replaces", hidden)), {}
    yield "POST", "List", folder(subject, own), {"If_None_Exist": f"item={own}&patient={key}"}
    speaks = examples.observation(key, derivedFrom=[{"reference": own}])
    yield "POST", "Observation", speaks, {"If_None_Exist": f"derived-from={own}&patient={key}"}
    share = {"resourceType": "Parameters", "parameter": [{"name": "purpose", "valueCode": "TREAT"}]}
    yield "POST", f"{own}/$share", share, {"Idempotency_Key": "s"}
    entries: list[dict[str, Any]] = [
        {"request": {"method": "GET", "url": own}},
        {"request": {"method": "DELETE", "url": own}},
        {"request": {"method": "PUT", "url": own}, "resource": world.masked},
        {"request": {"method": "POST", "url": "Observation"}, "resource": speaks},
    ]
    yield "POST", "", {"resourceType": "Bundle", "type": "batch", "entry": entries}, {}
    for each in entries:
        yield "POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": [each]}, {}


def answers(client: Client, world: World) -> dict[str, list[tuple[Any, ...]]]:
    return {
        f"{number} {asked[0]} {asked[1]}": [told(each) for each in pages(client, *asked)]
        for number, asked in enumerate(requests(world))
    }


@pytest.mark.usefixtures("standing_clock")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_kept_from_somebody_never_was(exchange: Exchange, case: Case) -> None:
    """GEN-11, DMP-29, PCF-7: reads, counts, conditions, refusals and commands."""
    world = build(exchange, case)
    client = case.caller(exchange, case.number)
    shown = client.get(f"DocumentReference/{world.shown[0]}").status, client.get(place(world.masked)).status
    assert shown == (200, 404)
    with_it = answers(client, world)
    assert {status for said in with_it.values() for status, *_ in said} >= {200, 404}
    take_out(exchange, world)
    without_it = answers(client, world)
    different = [name for name in with_it if with_it[name] != without_it[name]]
    assert not different, [(each, with_it[each], without_it[each]) for each in different[:3]]
