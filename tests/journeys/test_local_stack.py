"""The local stack as its users meet it: a process, HTTP, a FHIR client library, many at once, real input.

Races belong here: the emulator's DynamoDB serves calls in parallel, moto's does not.
"""

from __future__ import annotations

import json
import lzma
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fhirpy import SyncFHIRClient

from local import samples
from local.exchange import Credentials, ExchangeClient
from local.region import INS_TEST, PARTICIPANTS, ins_of
from tests import examples

ROOT = Path(__file__).resolve().parents[2]
PASSERELLE = [sys.executable, "-c", "from local.cli import app; app()"]
_READY_SECONDS = 90


class Running:
    """A local stack in a process of its own."""

    def __init__(self, url: str, state: Path) -> None:
        self.url = url
        self.credentials = state / "credentials.json"
        self._keys = Credentials(self.credentials).keys()
        self._clients: list[ExchangeClient] = []

    def client(self, client_id: str) -> ExchangeClient:
        """A new client, open until the end of the test."""
        scope = next(each.scopes for each in PARTICIPANTS if each.id == client_id)
        self._clients.append(ExchangeClient(self.url, client_id, self._keys[client_id], scope=scope))
        return self._clients[-1]

    def close_clients(self) -> None:
        while self._clients:
            self._clients.pop().http.close()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        options = ["--url", self.url, "--credentials", str(self.credentials)]
        return subprocess.run(
            [*PASSERELLE, *arguments, *options], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("state")
    port = _free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(
        [*PASSERELLE, "run", "--port", str(port), "--state", str(state)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(process, url)
        yield Running(url, state)
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output


@pytest.fixture(autouse=True)
def _closed_clients(running: Running) -> Iterator[None]:
    yield
    running.close_clients()


def _free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[str], url: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        try:
            if httpx.get(f"{url}/fhir/metadata", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail("the local stack was not ready in time")


@pytest.fixture(scope="module")
def key(running: Running) -> str:
    found = running.client("practice").request("GET", f"Patient?identifier={INS_TEST}|{ins_of(3)}")
    running.close_clients()
    return str(found.json()["entry"][0]["resource"]["id"])


def test_the_demonstration_completes(running: Running) -> None:
    played = running.command("demo")
    assert played.returncode == 0, played.stdout + played.stderr
    assert re.search(r"Done: \d\d requests", played.stdout)


def test_the_token_command_prints_a_token(running: Running) -> None:
    printed = running.command("token", "--client", "practice", "--scope", "ITI-78")
    token = printed.stdout.strip()
    answer = httpx.get(
        f"{running.url}/fhir/Patient?identifier={INS_TEST}|{ins_of(1)}", headers={"Authorization": f"Bearer {token}"}
    )
    assert (answer.status_code, answer.json()["total"]) == (200, 1)
    refused = running.command("token", "--client", "nobody")
    assert refused.returncode == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library leaves its sockets open
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_fhir_client_library_feels_at_home(running: Running, key: str) -> None:
    client = SyncFHIRClient(f"{running.url}/fhir", authorization=f"Bearer {running.client('practice').token()}")
    created = client.resource("Observation", **examples.observation(key, code={"text": "fhirpy"}))
    created.save()
    assert created["meta"]["versionId"] == "1"
    created["status"] = "amended"
    created.save()
    read = client.reference("Observation", created["id"]).to_resource()
    assert (read["status"], read["meta"]["versionId"]) == ("amended", "2")
    found = client.resources("Observation").search(patient=key, status="amended").fetch_all()
    assert created["id"] in [each["id"] for each in found]
    people = client.resources("Patient").search(identifier=f"{INS_TEST}|{ins_of(3)}").fetch()
    assert [each["id"] for each in people] == [key]
    created.delete()
    assert client.resources("Observation").search(patient=key, status="amended").fetch() == []


def at_once(count: int, attempt: Callable[[int], httpx.Response]) -> list[httpx.Response]:
    """The answers to attempts that all start at the same moment."""
    barrier = threading.Barrier(count)

    def start(number: int) -> httpx.Response:
        barrier.wait()
        return attempt(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(start, range(count)))


@pytest.mark.parametrize("round_number", range(3))
def test_a_person_registered_at_once_is_one(running: Running, round_number: int) -> None:
    local = f"race-{uuid.uuid4()}"
    patient = {
        "resourceType": "Patient",
        "identifier": [{"system": examples.DOMAIN, "value": local}],
        "name": [{"family": "COURSE"}],
        "birthDate": "1980-01-01",
    }
    clients = [running.client("hospital-a") for _ in range(12)]
    for client in clients:
        client.token()
    place = f"Patient?identifier={examples.DOMAIN}|{local}"
    answers = at_once(12, lambda n: clients[n].request("PUT", place, json=patient))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 11}
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_of_updates_at_once_none_is_lost(running: Running, key: str) -> None:
    practice = running.client("practice")
    created = practice.request("POST", "Observation", json=examples.observation(key)).json()
    place = f"Observation/{created['id']}"
    clients = [running.client("practice") for _ in range(10)]
    for client in clients:
        client.token()

    def change(number: int) -> httpx.Response:
        content = examples.observation(key, id=created["id"], code={"text": str(number)})
        return clients[number].request("PUT", place, json=content, headers={"If-Match": 'W/"1"'})

    answers = at_once(10, change)
    assert Counter(answer.status_code for answer in answers) == {200: 1, 412: 9}
    winner = next(n for n, answer in enumerate(answers) if answer.status_code == 200)
    read = practice.request("GET", place).json()
    assert (read["code"]["text"], read["meta"]["versionId"]) == (str(winner), "2")


def test_one_assertion_used_at_once_gives_one_token(running: Running) -> None:
    client = running.client("practice")
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": client.assertion(f"{running.url}/oauth2/token"),
        "scope": "ITI-78",
    }
    answers = at_once(8, lambda _: httpx.post(f"{running.url}/oauth2/token", data=form))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 7}


def test_a_dead_subscriber_delays_nobody(running: Running, key: str) -> None:
    """What happens is told within seconds, while another endpoint does not answer."""
    from local.webhook import Webhook

    practice, nurse = running.client("practice"), running.client("nurse")
    with Webhook() as dying, Webhook() as alive:
        for client, webhook in ((nurse, dying), (practice, alive)):
            body = {
                "resourceType": "Subscription",
                "status": "requested",
                "reason": "test",
                "criteria": "https://passerelle.example/SubscriptionTopic/record-changed",
                "channel": {"type": "rest-hook", "endpoint": webhook.url, "payload": "application/fhir+json"},
            }
            content = {
                "url": "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content",
                "valueCode": "id-only",
            }
            body["channel"]["_payload"] = {"extension": [content]}  # type: ignore[index]
            answer = client.request("POST", "Subscription", json=body)
            assert answer.status_code == 201, answer.text
            webhook.secret = answer.headers["X-Passerelle-Webhook-Secret"]
            assert webhook.wait_for("handshake", 20)
        time.sleep(1)
        dying.secret = "somebody else's"  # from now on it refuses everything
        made = practice.request("POST", "Observation", json=examples.observation(key)).json()["id"]
        began = time.monotonic()
        assert alive.wait_for(made, 20)
        assert time.monotonic() - began < 15
        assert not dying.wait_for(made, 0)


def test_real_transactions_are_taken_whole(running: Running, shared_data: Path, tmp_path: Path) -> None:
    """Synthea's bundles of 150 and more entries, through the load command, twice."""
    with lzma.open(shared_data / "synthea2019_bundles.ndjson.xz", "rt") as lines:
        smallest = sorted((line for line in lines), key=len)[:2]
    path = tmp_path / "synthea.ndjson"
    path.write_text("".join(smallest), "utf-8")
    loaded = running.command("load", str(path))
    assert loaded.returncode == 0, loaded.stdout + loaded.stderr
    assert "2 bundles taken" in loaded.stdout
    assert "2 taken before" in running.command("load", str(path)).stdout
    bundle = json.loads(smallest[0])
    bundle = bundle.get("bundle") or bundle["resource"]
    person = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Patient")
    identifier = person["identifier"][0]
    practice = running.client("practice")
    found = practice.request("GET", f"Patient?identifier={identifier['system']}|{identifier['value']}").json()
    assert found["total"] == 1
    key = found["entry"][0]["resource"]["id"]
    sent = Counter(entry["resource"]["resourceType"] for entry in bundle["entry"])
    for kind in ("Observation", "Encounter", "Claim", "Immunization"):
        assert practice.request("GET", f"{kind}?patient={key}&_count=1").json()["total"] == sent[kind], kind


def test_the_published_dmp_submission(running: Running, shared_data: Path) -> None:
    """The PDSm4DMP example as published, its subject by a conditional reference to the person's INS."""
    bundle = json.loads((shared_data / "dmp" / "Bundle-example-td2-iti65-lot-soumission.json").read_text("utf-8"))
    ins = "urn:oid:1.2.250.1.213.1.4.8|123456789012345"
    assert ins in json.dumps(bundle)
    system, _, value = ins.partition("|")
    _, patient = examples.patient(4)
    patient["identifier"] = [{"system": system, "value": value}, {"system": examples.DOMAIN, "value": "dmp"}]
    hospital, practice = running.client("hospital-a"), running.client("practice")
    registered = hospital.request("PUT", f"Patient?identifier={examples.DOMAIN}|dmp", json=patient)
    assert registered.status_code == 201, registered.text
    assert hospital.request("POST", "", json=bundle).status_code == 200
    found = practice.request("GET", f"DocumentReference?patient.identifier={ins}&status=current").json()
    assert found["total"] == 1
    attachment = found["entry"][0]["resource"]["content"][0]["attachment"]
    content = practice.request("GET", attachment["url"], headers={"Accept": attachment["contentType"]}).content
    sent = next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Binary")
    import base64

    assert content == base64.b64decode(sent["data"])
    assert len(content) == attachment["size"] == 80


def test_one_pharmacy_wins_the_claim(running: Running, key: str) -> None:
    from local.story import Story

    keys = Credentials(running.credentials).keys()
    story = Story(running.client, keys, lambda _: None, webhook=None)
    task, code = story._issue(key)
    claim = samples.parameters(accessCode__valueString=code)
    clients = [running.client(("pharmacy-a", "pharmacy-b")[n % 2]) for n in range(10)]
    for client in clients:
        client.token()

    def attempt(number: int) -> httpx.Response:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        return clients[number].request("POST", f"Task/{task}/$accept", json=claim, headers=headers)

    answers = at_once(10, attempt)
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 9}
