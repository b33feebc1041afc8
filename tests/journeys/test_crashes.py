"""A process may end between any two AWS calls: the same request again converges, once, and nothing is half there."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from moto.dynamodb.models import dynamodb_backends

from local import samples
from local.gateway import Response
from local.story import Story
from passerelle import wiring
from passerelle.aws import staging
from passerelle.aws.records import MAX_INLINE_BYTES
from passerelle.records.model import Subject
from tests import examples, record
from tests.exchange import KEYS, Client, Exchange

_SERVICES = ("dynamodb", "s3")


class Crash(BaseException):
    """The process ends here."""


class Crashes:
    """Ends the process at the n-th call: before it is made, or after it took effect."""

    def __init__(self) -> None:
        self.calls = 0
        self.at: int | None = None
        self.is_done = False
        self._last: Any = None

    def before(self, context: Any, **_: Any) -> None:
        self.calls += 1
        if self.calls == self.at:
            self._last = context
            if not self.is_done:
                raise Crash

    def after(self, context: Any, **_: Any) -> None:
        if self.at is not None and context is self._last:
            raise Crash


@contextmanager
def crashing() -> Iterator[Crashes]:
    crashes = Crashes()
    events = [wiring.aws(service).meta.events for service in _SERVICES]
    for each in events:
        each.register("before-call.*.*", crashes.before)
        each.register("after-call.*.*", crashes.after)
    try:
        yield crashes
    finally:
        for each in events:
            each.unregister("before-call.*.*", crashes.before)
            each.unregister("after-call.*.*", crashes.after)


Command = Callable[[str], Response]


def crash_everywhere(
    command: Command,
    check: Callable[[str, Response], None],
    *,
    prepare: Callable[[str], None] = lambda _: None,
    look: Callable[[str], None] = lambda _: None,
    told: Callable[[Response], Any] = lambda answer: answer.body,
) -> None:
    """Crash at each call of the command in turn; each time, the same request again must succeed, with one effect.

    `prepare` makes what the command is about, `look` reads after the crash, before anything repairs what it left.
    `told` is what the same answer tells each time that it is given.
    """
    with crashing() as crashes:
        for _ in range(2):  # tokens and keys are fetched by the first
            key = str(uuid.uuid4())
            prepare(key)
            crashes.calls = 0
            assert command(key).status < 300
        total = crashes.calls
        assert total >= 2  # what is there, and the commit
        for at in range(total + 1):
            key = str(uuid.uuid4())
            prepare(key)
            # Before any call, or after one: what is before the next.
            crashes.calls, crashes.at, crashes.is_done = 0, max(at, 1), at > 0
            with pytest.raises(Crash):
                command(key)
            crashes.at = None
            look(key)
            again = command(key)
            assert again.status < 300, (at, again.body)
            check(key, again)
            assert told(command(key)) == told(again)
            check(key, again)


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    local, patient = examples.patient(1)
    return str(exchange.client("hospital-a").put(f"Patient?identifier={examples.DOMAIN}|{local}", patient).json["id"])


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    return exchange.client("practice")


def events(exchange: Exchange) -> list[str]:
    """References of what was announced, each time it was."""
    return [event["reference"]["S"] for event in announced(exchange)]


def announced(exchange: Exchange) -> list[dict[str, Any]]:
    stored = items(exchange, "clinical", "O#")
    return [event["M"] for item in stored for event in item["events"]["L"]]


def items(exchange: Exchange, table: str, prefix: str = "") -> list[dict[str, Any]]:
    """Items of partitions, straight from the emulator: a scan would read everything else there is."""
    of_prefix = [each for key, each in partitions(exchange, table).items() if key.value.startswith(prefix)]
    return [item.to_json()["Attributes"] for each in of_prefix for item in each.values()]


def partitions(exchange: Exchange, table: str) -> dict[Any, dict[Any, Any]]:
    tables = dynamodb_backends[exchange.stack.account][exchange.stack.region].tables
    kept: dict[Any, dict[Any, Any]] = tables[exchange.stack.environment[f"{table.upper()}_TABLE"]].items
    return kept


# --- the record -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a command is about: a record of its own, an Observation in it, and the code that tells its effects."""

    patient: str
    there: str
    code: str

    def observation(self, **changed: Any) -> dict[str, Any]:
        code = {"coding": [{"system": "urn:crash", "code": self.code}]}
        return examples.observation(self.patient, code=code, **changed)

    @property
    def condition(self) -> str:
        return f"patient={self.patient}&identifier=urn:crash|{self.code}"

    @property
    def identified(self) -> dict[str, Any]:
        return self.observation(identifier=[{"system": "urn:crash", "value": self.code}])

    def transaction(self, news: int) -> dict[str, Any]:
        """So many new resources, and another version of the one that is there."""
        entries = [{"resource": self.observation(), "request": {"method": "POST", "url": "Observation"}}] * news
        place = f"Observation/{self.there}"
        moved = self.observation(id=self.there, effectiveDateTime="2026-06-01")
        return {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [*entries, {"resource": moved, "request": {"method": "PUT", "url": place}}],
        }


def _coding(place: Place) -> list[dict[str, Any]]:
    return [{"op": "replace", "path": "/code", "value": place.observation()["code"]}]


Sent = tuple[str, str, Any, dict[str, str]]
_PATCHING = {"Content_Type": "application/json-patch+json"}
_LARGE = os.urandom(MAX_INLINE_BYTES).hex()
_WITHDRAWN = ("delete", "conditional delete")

# What is sent, and how many resources it makes or changes. `there` carries the identifier of the condition.
OPERATIONS: dict[str, tuple[Callable[[Place], Sent], int]] = {
    "create": (lambda p: ("POST", "Observation", p.observation(), {}), 1),
    "conditional create": (
        lambda p: (
            "POST",
            "Observation",
            p.observation(identifier=[{"system": "urn:crash", "value": "new"}]),
            {"If_None_Exist": f"patient={p.patient}&identifier=urn:crash|new"},
        ),
        1,
    ),
    "update": (lambda p: ("PUT", f"Observation/{p.there}", p.observation(id=p.there), {"If_Match": 'W/"1"'}), 1),
    "chosen id": (lambda p: ("PUT", f"Observation/{p.code}", p.observation(id=p.code), {}), 1),
    "conditional update": (lambda p: ("PUT", f"Observation?{p.condition}", p.identified, {}), 1),
    "conditional update that creates": (
        lambda p: ("PUT", f"Observation?patient={p.patient}&identifier=urn:crash|new", p.observation(), {}),
        1,
    ),
    "patch": (lambda p: ("PATCH", f"Observation/{p.there}", _coding(p), _PATCHING), 1),
    "conditional patch": (lambda p: ("PATCH", f"Observation?{p.condition}", _coding(p), _PATCHING), 1),
    "delete": (lambda p: ("DELETE", f"Observation/{p.there}", None, {}), 1),
    "conditional delete": (lambda p: ("DELETE", f"Observation?{p.condition}", None, {}), 1),
    "large body": (lambda p: ("POST", "Observation", p.observation(note=[{"text": _LARGE}]), {}), 1),
    "transaction": (lambda p: ("POST", "", p.transaction(2), {}), 3),
    "staged transaction": (lambda p: ("POST", "", p.transaction(2), {}), 3),
}


def shown(place: Place, *, is_withdrawn: bool) -> set[int]:
    """How many of the effects of a command are there, in each way of reading."""
    asked, subject = record.request(9), Subject(key=place.patient)
    coded = record.condition("Observation", patient=place.patient, code=f"urn:crash|{place.code}").query
    found = wiring.record_search().search(asked, coded, subject).versions
    store = wiring.record_store()
    entries = [
        each
        for each in store.everything(place.patient, after=None, limit=100).entries
        if f"urn:crash|{place.code}" in each.entry.values.get("code", ())
    ]
    marked = wiring.record_history().of_type(asked, "Observation", subject, since=None, count=100).versions
    changes = wiring.record_history().delta(asked, subject, count=100, is_wanted=lambda _: True).versions
    if is_withdrawn:
        assert {each.reference for each in found} == {each.key.reference for each in entries}
        return {1 - len(found), *(len([each for each in some if each.body is None]) for some in (marked, changes))}
    code = b'"code":"%b"' % place.code.encode()
    carried = [[each for each in some if code in (each.body or b"")] for some in (found, marked, changes)]
    assert [store.find_latest(each.key) for each in carried[1]] == carried[1]
    return {len(entries), *map(len, carried)}


@pytest.mark.parametrize("name", OPERATIONS)
def test_record(exchange: Exchange, practice: Client, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent, effects = OPERATIONS[name]
    is_withdrawn = name in _WITHDRAWN
    places: dict[str, Place] = {}
    if name.startswith("staged"):  # a transaction of few items, so that it is quick; each step is made several times
        monkeypatch.setattr(staging, "MAX_ACTIONS", 8)
        monkeypatch.setattr(staging, "LEASE_SECONDS", -1)  # whoever comes next need not wait
        monkeypatch.setattr(wiring.journal()._staging, "_chunk_actions", 5)

    def prepare(command: str) -> None:
        place = Place(patient=record.person().members[0], there="", code=command)
        there = place.identified if is_withdrawn else {**place.identified, "code": {"text": "before"}}
        made = practice.post("Observation", there)
        places[command] = replace(place, there=made.json["id"])

    def run(command: str) -> Response:
        method, path, body, headers = sent(places[command])
        content = json.dumps(body).encode() if isinstance(body, list) else body
        return practice.request(method, path, content, Idempotency_Key=command, **headers)

    def look(command: str) -> None:
        assert shown(places[command], is_withdrawn=is_withdrawn) in ({0}, {effects})

    def once(command: str, _: Response) -> None:
        place = places[command]
        assert shown(place, is_withdrawn=is_withdrawn) == {effects}
        assert len([each for each in announced(exchange) if each["patient"].get("S") == place.patient]) == 1 + effects

    crash_everywhere(run, once, prepare=prepare, look=look)


# --- what else changes ----------------------------------------------------------------------------------------------


def test_publish(exchange: Exchange, practice: Client, key: str) -> None:
    def publish(command: str) -> Response:
        content = f"<x>{command}</x>".encode()
        bundle = examples.submission(f"Patient/{key}", content=content, unique=f"urn:uuid:{command}")
        return exchange.client("hospital-a").post("", bundle, Idempotency_Key=command)

    def once(command: str, answer: Response) -> None:
        found = practice.get(f"DocumentReference?patient={key}&identifier=urn:uuid:{command}").json
        (document,) = [entry["resource"] for entry in found["entry"]]
        place = document["content"][0]["attachment"]["url"].partition("/fhir/")[2]
        assert practice.get(place, Accept="*/*").body == f"<x>{command}</x>".encode()
        assert events(exchange).count(f"DocumentReference/{document['id']}") == 1

    crash_everywhere(publish, once)


def test_dispense(exchange: Exchange, practice: Client, key: str) -> None:
    pharmacy = exchange.client("pharmacy-a")
    clients = {"practice": practice, "pharmacy-a": pharmacy}

    class Caller:
        """The story's client, over this exchange."""

        def __init__(self, client: Client) -> None:
            self._client = client

        def request(self, method: str, path: str, **options: Any) -> Any:
            import httpx

            headers = {name.replace("-", "_"): value for name, value in options.get("headers", {}).items()}
            answer = self._client.request(method, path, options.get("json"), **headers)
            sent = httpx.Request(method, f"http://127.0.0.1/fhir/{path}")
            return httpx.Response(answer.status, headers=list(answer.headers), content=answer.body, request=sent)

    story = Story(lambda name: Caller(clients[name]), KEYS, lambda _: None, webhook=None)  # type: ignore[arg-type,return-value]
    task, code = story._issue(key)
    claim = samples.parameters(accessCode__valueString=code)
    held = pharmacy.post(f"Task/{task}/$accept", claim, Idempotency_Key=str(uuid.uuid4())).json
    secret = next(part["valueString"] for part in held["entry"][0]["resource"]["parameter"] if part["name"] == "secret")
    holder = {"system": "urn:oid:1.2.250.1.71.4.2.2", "value": "1990000052"}
    supplied: set[str] = set()

    def dispense(command: str) -> Response:
        body = samples.parameters(secret__valueString=secret, dispense__resource=samples.supply(key, holder, 0.125))
        return pharmacy.post(f"Task/{task}-01/$dispense", body, Idempotency_Key=command)

    def once(command: str, answer: Response) -> None:
        supplied.add(command)
        parts = {part["name"]: part for part in answer.json["parameter"]}
        # Twenty units, an eighth of one in each of the first two calls and for each command since: never two for one.
        assert parts["remaining"]["valueDecimal"] == 20 - 0.125 * (2 + len(supplied))
        assert practice.get(f"MedicationDispense?patient={key}&_count=1").json["total"] == 2 + len(supplied)

    crash_everywhere(dispense, once)
