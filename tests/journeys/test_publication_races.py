"""Who publishes, changes, replaces and closes at the same moment: one after the other, and the record is whole."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from local import samples
from local.exchange import ExchangeClient
from passerelle.patients.identity import nir_key
from tests import contents, documents, sources, submitting, wholeness
from tests.stack_process import Running, at_once

ROUNDS = 5
DOMAIN = "urn:oid:2.999.1"
PATCH = {"Content-Type": "application/json-patch+json"}


class Vault:
    """Two clients that are signed in, people of whom only these tests know, and what is stored in the end."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.hospital, self.practice = running.client("hospital-a"), running.client("practice")
        for client in (self.hospital, self.practice):
            client.token()

    def person(self) -> str:
        """The subject of a new record, which is open."""
        traits = sources.newcomer(str(uuid.uuid4()))
        matricule = f"2{traits['born'][2:4]}{traits['born'][5:7]}{traits['place']}{random.randrange(1000):03d}"
        content = sources.patient(DOMAIN, local := str(uuid.uuid4()), **traits, ins=matricule + nir_key(matricule))
        made = self.hospital.request("PUT", f"Patient?identifier={DOMAIN}|{local}", json=content)
        assert made.status_code == 201, made.text
        return f"Patient/{made.json()['id']}"

    def publish(self, subject: str, **options: Any) -> str:
        return places(self.submit(submitting.submission(subject, **options)))[1]

    def submit(self, bundle: submitting.Bundle, **headers: str) -> httpx.Response:
        return self.hospital.request("POST", "", json=bundle, headers=headers)

    def patch(self, client: ExchangeClient, place: str, change: list[dict[str, Any]]) -> httpx.Response:
        return client.request("PATCH", place, json=change, headers=PATCH)

    def resource(self, place: str) -> dict[str, Any]:
        found = self.hospital.request("GET", place)
        assert found.status_code == 200, found.text
        return dict(found.json())

    def count(self, subject: str, query: str = "") -> int:
        found = self.practice.request("GET", f"DocumentReference?patient={subject}&_total=accurate{query}")
        assert found.status_code == 200, found.text
        return int(found.json()["total"])

    def is_whole(self) -> None:
        wholeness.check_documents(self.running.items("clinical"), self.running.contents())


@pytest.fixture
def vault(running: Running) -> Iterator[Vault]:
    """Whatever a test does, what is stored holds together afterwards."""
    made = Vault(running)
    yield made
    made.is_whole()


def places(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [submitting.place(entry) for entry in answer.json()["entry"]]


def together(*attempts: Callable[[], httpx.Response]) -> list[httpx.Response]:
    return at_once(len(attempts), lambda number: attempts[number]())


def statuses(answers: list[httpx.Response]) -> dict[int, int]:
    return dict(Counter(answer.status_code for answer in answers))


WITHDRAW = [documents.operation("replace", "/status", "entered-in-error")]
ARCHIVE = [documents.operation("replace", documents.ARCHIVE_PATH, True)]


def test_mask_and_unmask(vault: Vault) -> None:
    """What one adds stays, whether the other lifts the label that it saw, or is refused."""
    subject = vault.person()
    for _ in range(ROUNDS):
        place = vault.publish(subject, securityLabel=[documents.label("MASQUE_PT"), documents.label("N")])
        masked, lifted = together(
            partial(vault.patch, vault.hospital, place, documents.relabel("MASQUE_PS")),
            partial(vault.patch, vault.hospital, place, documents.relabel("N")),
        )
        assert masked.status_code == 200, masked.text
        assert lifted.status_code in (200, 412, 422), lifted.text
        labels = documents.labels(vault.resource(place))
        assert "MASQUE_PS" in labels
        assert ("MASQUE_PT" in labels) == (lifted.status_code != 200)
    assert vault.count(subject) == 0, "masked from professionals of other organisations"


def test_withdraw_and_replace(vault: Vault) -> None:
    subject = vault.person()
    replaced = 0
    for _ in range(ROUNDS):
        place = vault.publish(subject)
        newer = submitting.replacement(subject, place.partition("/")[2])
        withdrawn, published = together(
            partial(vault.patch, vault.hospital, place, WITHDRAW), partial(vault.submit, newer)
        )
        assert withdrawn.status_code == 200, withdrawn.text
        assert published.status_code in (200, 409), published.text
        replaced += published.status_code == 200
        assert vault.resource(place)["status"] == "entered-in-error"
        assert vault.count(subject, "&status=current") == replaced
    assert vault.count(subject) == replaced


def test_two_replacements_of_one_document(vault: Vault) -> None:
    """Exactly one wins; the other is told that it is superseded already."""
    subject = vault.person()
    for number in range(ROUNDS):
        place = vault.publish(subject)
        newer = [submitting.replacement(subject, place.partition("/")[2]) for _ in range(2)]
        answers = together(*(partial(vault.submit, each) for each in newer))
        assert statuses(answers) == {200: 1, 409: 1}, [answer.text for answer in answers]
        assert vault.resource(place)["status"] == "superseded"
        assert vault.count(subject, "&status=current") == number + 1


@pytest.mark.parametrize("is_keyed", [True, False], ids=["key", "no-key"])
def test_the_same_submission_eight_times(vault: Vault, is_keyed: bool) -> None:
    """P20: one document, and its ids for everybody."""
    subject = vault.person()
    for number in range(ROUNDS):
        bundle = submitting.submission(subject)
        headers = {"Idempotency-Key": str(uuid.uuid4())} if is_keyed else {}
        answers = at_once(8, lambda _, bundle=bundle, headers=headers: vault.submit(bundle, **headers))
        assert len({tuple(places(answer)) for answer in answers}) == 1
        assert vault.count(subject) == number + 1


def test_one_upload_for_two_documents(vault: Vault) -> None:
    subject = vault.person()
    for number in range(ROUNDS):
        data = contents.pdf(2_000, seed=number)
        url = upload(vault.hospital, data)
        key = subject.partition("/")[2]
        twice = [contents.uploaded_submission(key, url, data, "application/pdf") for _ in range(2)]
        answers = together(*(partial(vault.submit, each) for each in twice))
        assert statuses(answers) == {200: 1, 409: 1}, [answer.text for answer in answers]
        assert vault.count(subject) == number + 1


def upload(client: ExchangeClient, data: bytes) -> str:
    """The URL of a verified upload."""
    announced = samples.parameters(
        contentType__valueCode="application/pdf",
        size__valueInteger=len(data),
        sha256__valueBase64Binary=contents.sha256(data),
    )
    ticket = client.request("POST", "Binary/$upload", json=announced).json()["parameter"]
    told = {each["name"]: each for each in ticket}
    assert httpx.put(told["part"]["part"][2]["valueUrl"], content=data).status_code == 200
    assert client.request("POST", f"Binary/{told['id']['valueId']}/$complete", content=b"").status_code == 200
    return str(told["url"]["valueUrl"])


def test_publish_and_close(vault: Vault) -> None:
    """DMP-7: a document was published before, or is not there."""
    motive = samples.parameters(motive__valueCode="patient-demande")
    for _ in range(ROUNDS):
        subject = vault.person()
        bundle = submitting.submission(subject)
        published, closed = together(
            partial(vault.submit, bundle),
            partial(vault.practice.request, "POST", f"{subject}/$close-record", json=motive),
        )
        assert closed.status_code == 200, closed.text
        assert published.status_code in (200, 422), published.text
        assert vault.practice.request("POST", f"{subject}/$open-record", content=b"").status_code == 200
        assert vault.count(subject) == (1 if published.status_code == 200 else 0)


def test_archive_while_a_large_submission_replaces(vault: Vault) -> None:
    """The one that is second is made over what the first left; nobody is told to come again later."""
    subject, count = vault.person(), 12
    for number in range(ROUNDS):
        place = vault.publish(subject)
        texts = [b"<d>%d</d>" % n for n in range(count)]
        bundle = submitting.submission(subject, contents=texts)
        bundle["entry"][1]["resource"]["relatesTo"] = submitting.related("replaces", place.partition("/")[2])
        bundle = submitting.with_entries(bundle, submitting.superseding(place.partition("/")[2]))
        published, archived = together(
            partial(vault.submit, bundle), partial(vault.patch, vault.hospital, place, ARCHIVE)
        )
        assert (published.status_code, archived.status_code) == (200, 200), (published.text, archived.text)
        now = vault.resource(place)
        assert (now["status"], now["meta"]["versionId"]) == ("superseded", "3")
        assert any(each.get("valueBoolean") for each in now["extension"])
        assert vault.count(subject, "&status=current") == (number + 1) * count
