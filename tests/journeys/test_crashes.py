"""A process may end between any two AWS calls: the same request again converges, once, and nothing is half there."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from local import samples
from local.gateway import Response
from local.story import Story
from passerelle import wiring
from tests import examples
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

    def before(self, **_: Any) -> None:
        self.calls += 1
        if self.calls == self.at and not self.is_done:
            raise Crash

    def after(self, **_: Any) -> None:
        if self.calls == self.at and self.is_done:
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


def crash_everywhere(command: Command, check: Callable[[str, Response], None]) -> None:
    """Crash at each call of the command in turn; each time, the same request again must succeed, with one effect."""
    with crashing() as crashes:
        assert command(str(uuid.uuid4())).status < 300  # tokens and keys are fetched
        crashes.calls = 0
        assert command(str(uuid.uuid4())).status < 300
        total = crashes.calls
        assert total >= 3
        for is_done in (False, True):
            for at in range(1, total + 1):
                crashes.calls, crashes.at, crashes.is_done = 0, at, is_done
                key = str(uuid.uuid4())
                with pytest.raises(Crash):
                    command(key)
                crashes.at = None
                again = command(key)
                assert again.status < 300, (at, is_done, again.body)
                check(key, again)
                assert command(key).body == again.body


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    local, patient = examples.patient(1)
    return str(exchange.client("hospital-a").put(f"Patient?identifier={examples.DOMAIN}|{local}", patient).json["id"])


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    return exchange.client("practice")


def events(exchange: Exchange) -> list[str]:
    """References of what was announced, each time it was."""
    outbox = [item for item in exchange.table("clinical") if item["PK"]["S"].startswith("O#")]
    return [event["M"]["reference"]["S"] for item in outbox for event in item["events"]["L"]]


def test_create(exchange: Exchange, practice: Client, key: str) -> None:
    def create(command: str) -> Response:
        code = {"coding": [{"system": "urn:crash", "code": command}]}
        return practice.post("Observation", examples.observation(key, code=code), Idempotency_Key=command)

    def once(command: str, answer: Response) -> None:
        found = practice.get(f"Observation?patient={key}&code=urn:crash|{command}").json
        assert [entry["resource"]["id"] for entry in found["entry"]] == [answer.json["id"]]
        assert events(exchange).count(f"Observation/{answer.json['id']}") == 1

    crash_everywhere(create, once)


def test_register(exchange: Exchange, practice: Client) -> None:
    def register(command: str) -> Response:
        patient = {
            "resourceType": "Patient",
            "identifier": [{"system": examples.DOMAIN, "value": command}],
            "name": [{"family": "Essai"}],
            "birthDate": "1971-02-03",
        }
        place = f"Patient?identifier={examples.DOMAIN}|{command}"
        return exchange.client("hospital-a").put(place, patient, Idempotency_Key=command)

    def once(command: str, answer: Response) -> None:
        found = practice.get(f"Patient?identifier={examples.DOMAIN}|{command}").json
        assert [entry["resource"]["id"] for entry in found["entry"]] == [answer.json["id"]]
        assert events(exchange).count(f"Patient/{answer.json['id']}") == 1

    crash_everywhere(register, once)


def test_publish(exchange: Exchange, practice: Client, key: str) -> None:
    def publish(command: str) -> Response:
        bundle = examples.submission(f"Patient/{key}", content=command.encode(), unique=f"urn:uuid:{command}")
        return exchange.client("hospital-a").post("", bundle, Idempotency_Key=command)

    def once(command: str, answer: Response) -> None:
        found = practice.get(f"DocumentReference?patient={key}&identifier=urn:uuid:{command}").json
        (document,) = [entry["resource"] for entry in found["entry"]]
        place = document["content"][0]["attachment"]["url"].partition("/fhir/")[2]
        assert practice.get(place, Accept="*/*").body == command.encode()
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
    supplied: list[str] = []

    def dispense(command: str) -> Response:
        body = samples.parameters(secret__valueString=secret, dispense__resource=samples.supply(key, holder, 1))
        return pharmacy.post(f"Task/{task}-01/$dispense", body, Idempotency_Key=command)

    def once(command: str, answer: Response) -> None:
        supplied.append(command)
        parts = {part["name"]: part for part in answer.json["parameter"]}
        # Thirty units, two in the first two calls, one for each command since: never two for one.
        assert parts["remaining"]["valueDecimal"] == 30 - 2 - len(supplied)
        assert practice.get(f"MedicationDispense?patient={key}&_count=1").json["total"] == 2 + len(supplied)

    crash_everywhere(dispense, once)
