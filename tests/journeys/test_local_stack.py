"""The local stack as its users meet it: a process, HTTP, a FHIR client library, many at once, real input.

Races belong here: the emulator's DynamoDB serves calls in parallel, moto's does not.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections import Counter
from pathlib import Path

import httpx
import pytest
from fhirpy import SyncFHIRClient

from local import samples
from local.exchange import Credentials
from local.region import INS_TEST, ins_of
from tests import examples
from tests.stack_process import Running, at_once


def test_the_demonstration_completes(running: Running) -> None:
    played = running.command("demo")
    assert played.returncode == 0, played.stdout + played.stderr
    assert re.search(r"Done: \d+ requests", played.stdout)


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
def test_a_fhir_client_library_feels_at_home(running: Running, person: str) -> None:
    client = SyncFHIRClient(f"{running.url}/fhir", authorization=f"Bearer {running.client('practice').token()}")
    created = client.resource("Observation", **examples.observation(person, code={"text": "fhirpy"}))
    created.save()
    assert created["meta"]["versionId"] == "1"
    created["status"] = "amended"
    created.save()
    read = client.reference("Observation", created["id"]).to_resource()
    assert (read["status"], read["meta"]["versionId"]) == ("amended", "2")
    found = client.resources("Observation").search(patient=person, status="amended").fetch_all()
    assert created["id"] in [each["id"] for each in found]
    people = client.resources("Patient").search(identifier=f"{INS_TEST}|{ins_of(3)}").fetch()
    assert [each["id"] for each in people] == [person]
    created.delete()
    assert client.resources("Observation").search(patient=person, status="amended").fetch() == []


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


def test_of_updates_at_once_none_is_lost(running: Running, person: str) -> None:
    practice = running.client("practice")
    created = practice.request("POST", "Observation", json=examples.observation(person)).json()
    place = f"Observation/{created['id']}"
    clients = [running.client("practice") for _ in range(10)]
    for client in clients:
        client.token()

    def change(number: int) -> httpx.Response:
        content = examples.observation(person, id=created["id"], code={"text": str(number)})
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


def test_a_dead_subscriber_delays_nobody(running: Running, person: str) -> None:
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
            naming = content["url"].replace("payload-content", "filter-criteria")
            body["_criteria"] = {"extension": [{"url": naming, "valueString": f"?patient=Patient/{person}"}]}
            answer = client.request("POST", "Subscription", json=body)
            assert answer.status_code == 201, answer.text
            webhook.secret = answer.headers["X-Passerelle-Webhook-Secret"]
            assert webhook.wait_for("handshake", 20)
        time.sleep(1)
        dying.secret = "somebody else's"  # from now on it refuses everything
        made = practice.request("POST", "Observation", json=examples.observation(person)).json()["id"]
        began = time.monotonic()
        assert alive.wait_for(made, 20)
        assert time.monotonic() - began < 15
        assert not dying.wait_for(made, 0)


def test_the_published_dmp_submission(running: Running, shared_data: Path) -> None:
    """The PDSm4DMP example as published, its subject by a conditional reference to the person's INS."""
    bundle = json.loads((shared_data / "dmp" / "Bundle-example-td2-iti65-lot-soumission.json").read_text("utf-8"))
    ins = "urn:oid:1.2.250.1.213.1.4.8|123456789012345"
    assert ins in json.dumps(bundle)
    system, _, value = ins.partition("|")
    _, patient = examples.patient(4)
    patient["identifier"] = [examples.national(system, value), {"system": examples.DOMAIN, "value": "dmp"}]
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


def test_one_pharmacy_wins_the_claim(running: Running, person: str) -> None:
    from local.story import Story

    keys = Credentials(running.credentials).keys()
    story = Story(running.client, keys, lambda _: None, webhook=None)
    task, code = story._issue(person)
    claim = samples.parameters(accessCode__valueString=code)
    clients = [running.client(("pharmacy-a", "pharmacy-b")[n % 2]) for n in range(10)]
    for client in clients:
        client.token()

    def attempt(number: int) -> httpx.Response:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        return clients[number].request("POST", f"Task/{task}/$accept", json=claim, headers=headers)

    answers = at_once(10, attempt)
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 9}
