"""A person is erased: nobody sees the record from that moment on, and nothing of it can be read anywhere any more."""

from __future__ import annotations

import base64
import json
import random
import re
import uuid
import zlib
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from local import samples
from local.gateway import Response
from local.region import IDNST, PARTICIPANTS
from passerelle import wiring
from passerelle.aws.journal import actions_of
from passerelle.aws.keys import Lost
from passerelle.aws.records import MAX_INLINE_BYTES
from passerelle.errors import Gone
from passerelle.fhir.resource import ResourceDraft
from passerelle.identifiers import new_resource_id
from passerelle.patients.model import Person
from passerelle.records.model import RecordVersion, ResourceKey
from passerelle.records.ports import Scan
from tests import contents, examples
from tests.exchange import URL, Client, Exchange, PumpedWebhook
from tests.functions.test_break_glass import review, uses
from tests.functions.test_control import done, ins, subscribe, subscription
from tests.functions.test_ledger import events_of, proof_of, public, seal
from tests.functions.test_patients import register
from tests.journeys.test_crashes import Crash, crashing
from tests.ledger import verdict

NUMBER = 1  # whom the story is about
TEXT = "Fibrillation-auriculaire-paroxystique"
PDF = b"%PDF-1.4\n%\xe2\xe3 compte-rendu-confidentiel-de-monsieur\n%%EOF\n"
TODAY = date(2026, 1, 14)
PRESCRIBER = next(str(each.professional) for each in PARTICIPANTS if each.id == "practice")
OVERRIDE = {"name": "override", "valueCode": "court-order"}
DECLINED = {"name": "export-declined", "valueBoolean": True}
TOLD = ("unconscious at home", "MARCHAND", "found no emergency")


class Told:
    """What is known of one person of the region, and where it could be found again."""

    def __init__(self, exchange: Exchange, number: int) -> None:
        self.exchange = exchange
        self.hospital, self.practice = exchange.client("hospital-a"), exchange.client("practice")
        self.patient = examples.patient(number)[1]
        self.key = str(register(self.hospital, number).json["id"])
        other = register(exchange.client("hospital-b"), number, domain="urn:oid:2.999.2").json["id"]
        person = wiring.patient_index().find_person(self.key)
        assert person is not None
        self.keys = sorted(person.members)
        assert {self.key, other} <= set(self.keys), "linked by the national identifier"
        assert self.practice.get(f"Patient?family={self.family}&birthdate={self.patient['birthDate']}").status == 200
        assert self.practice.get(f"Patient?family={self.family}&birthdate=1901-01-01").json["total"] == 0
        note = [{"text": TEXT}]
        self.observation = self.practice.post(
            "Observation", examples.observation(self.key, note=note), Idempotency_Key=f"erasure-{number}"
        ).json["id"]
        noise = base64.b64encode(random.Random(number).randbytes(MAX_INLINE_BYTES + 10_000)).decode()
        large = examples.observation(str(other), note=[{"text": f"{TEXT} {noise}"}])
        assert self.practice.post("Observation", large).status == 201
        self.held = wiring.keyring().find(self.key)
        self.content = contents.published(self.hospital, self.key, PDF)

    @property
    def family(self) -> str:
        return str(self.patient["name"][0]["family"])

    @property
    def canaries(self) -> list[re.Pattern[bytes]]:
        """What must be nowhere: texts as they are, identifiers of any length as whole words.

        But no word after `#`: versions are counted in sort keys, and the hospital's number of this person is 000001.
        """
        identifiers = [each["value"] for each in self.patient["identifier"]]
        known = [self.family, self.patient["name"][0]["given"][0], self.patient["birthDate"], *identifiers]
        texts = [TEXT, self.patient["address"][0]["line"][0], *TOLD]
        words = [rb"(?<![#0-9A-Za-z])%s(?![0-9A-Za-z])" % re.escape(each.encode()) for each in known]
        return [re.compile(each) for each in (*words, *(re.escape(each.encode()) for each in texts), PDF[10:40])]


def use_everything(exchange: Exchange, told: Told) -> None:
    """What the story does not: a mandate, a reviewed emergency, a patient's subscription."""
    mine, auditor, key = exchange.client("patient-1"), exchange.client("auditor"), told.key
    done(mine, key, "appoint-proxy", holder=ins(NUMBER + 1), kind="carer")
    (use, *_), _ = uses(auditor)
    assert review(auditor, use["id"], "unjustified", "found no emergency").status == 200
    with PumpedWebhook(exchange.pump) as webhook:
        subscribe(mine, webhook, "access-changed", f"Patient?patient=Patient/{key}")


def stored(exchange: Exchange) -> Iterator[tuple[str, bytes]]:
    """Everything that is kept anywhere, as who has the disks could read it: inflated, out of base64."""
    for name in ("clinical", "patients", "operations", "audit", "keys", "ledger"):
        for item in exchange.table(name):
            place = f"{name} {item['PK']['S']} {item['SK']['S']}"
            yield place, b"\n".join(_texts({"M": item}))
    s3 = exchange.stack.client("s3")
    for bucket in (each["Name"] for each in s3.list_buckets()["Buckets"]):
        for each in s3.list_object_versions(Bucket=bucket).get("Versions", []):
            body = s3.get_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])["Body"].read()
            yield f"{bucket} {each['Key']}", b"\n".join(_legible(body))
    sqs = exchange.stack.client("sqs")
    for url in sqs.list_queues().get("QueueUrls", []):
        for message in sqs.receive_message(QueueUrl=url, VisibilityTimeout=0).get("Messages", []):
            yield url, message["Body"].encode()


def _texts(value: Mapping[str, Any]) -> Iterator[bytes]:
    ((kind, content),) = value.items()
    match kind:
        case "M":
            for each in content.values():
                yield from _texts(each)
        case "L":
            for each in content:
                yield from _texts(each)
        case "B":
            yield from _legible(bytes(content))
        case _:
            yield str(content).encode()


def _legible(data: bytes) -> Iterator[bytes]:
    yield data
    for start, window in ((0, zlib.MAX_WBITS), (1, -zlib.MAX_WBITS)):
        try:
            yield zlib.decompressobj(window).decompress(data[start:])
        except zlib.error:
            continue


def found(exchange: Exchange, told: Told) -> dict[str, list[bytes]]:
    canaries = told.canaries
    return {
        place: hits
        for place, data in stored(exchange)
        if (hits := [each.pattern for each in canaries if each.search(data) or each.search(place.encode())])
    }


def kept_items(exchange: Exchange) -> dict[tuple[str, str, str], Any]:
    """All tables but the access log, which tells of refusals, and what the log is made of; and no used assertion."""
    return {
        (name, item["PK"]["S"], item["SK"]["S"]): item
        for name in ("clinical", "patients", "operations", "keys")
        for item in exchange.table(name)
        if not item["PK"]["S"].startswith("J#")
    }


def link(*patients: str) -> dict[str, Any]:
    named = [
        {"name": name, "valueReference": {"reference": each}}
        for name, each in zip(("first", "second"), patients, strict=True)
    ]
    return {"resourceType": "Parameters", "parameter": [*named, {"name": "reason", "valueString": "seen at the desk"}]}


def ask(client: Client, key: str, *more: Mapping[str, Any], **headers: str) -> Response:
    given = [{"name": "ground", "valueCode": "consent-withdrawn"}, *more]
    return client.post(f"Patient/{key}/$erase", {"resourceType": "Parameters", "parameter": given}, **headers)


def confirmation(answer: Response) -> dict[str, Any]:
    parameters = {each["name"]: each for each in answer.json["parameter"]}
    return {"name": "confirmation", "valueString": parameters["confirmation"]["valueString"]}


def decide(exchange: Exchange, key: str) -> Response:
    privacy = exchange.client("privacy")
    proposed = ask(privacy, key, OVERRIDE, DECLINED)
    assert proposed.status == 200, proposed.body
    return ask(privacy, key, OVERRIDE, confirmation(proposed))


@pytest.fixture(scope="module")
def told(exchange: Exchange) -> Told:
    exchange.play()
    told = Told(exchange, NUMBER)
    use_everything(exchange, told)
    return told


def test_what_is_kept_is_sealed_but_contents(exchange: Exchange, told: Told) -> None:
    """A backup taken at any time holds nothing that tells of a person without the keys, which are in no backup."""
    exchange.pump.run_until_idle()
    places = found(exchange, told)
    assert {place.split()[1].partition("/")[0] for place in places} == {"documents"}, places
    # Documents and messages as they came: they say of a person what their senders said.
    assert [told.canaries[-1].pattern] in places.values()


def test_only_a_data_protection_officer_erases_and_against_the_law_with_a_reason(
    exchange: Exchange, told: Told
) -> None:
    assert ask(told.hospital, told.key, OVERRIDE).status == 403
    privacy = exchange.client("privacy")
    assert ask(privacy, told.key).status == 409
    assert ask(privacy, "0" * 16).status == 404
    assert ask(privacy, told.key, OVERRIDE).status == 409
    proposed = ask(privacy, told.key, OVERRIDE, DECLINED)
    other_terms = {"name": "override", "valueCode": "opened-in-error"}
    assert ask(privacy, told.key, other_terms, confirmation(proposed)).status == 422
    forged = {"name": "confirmation", "valueString": "9999999999." + "0" * 32}
    assert ask(privacy, told.key, OVERRIDE, forged).status == 422
    assert told.practice.get(f"Observation/{told.observation}").status == 200


def test_an_erased_person_is_refused_at_once_and_unreadable_soon(
    exchange: Exchange, told: Told, tmp_path: Path
) -> None:
    """What was proved stays proved, and nobody else can open the leaf."""
    before = seal(exchange)
    event = events_of(exchange, told.key)[-1]
    proof = proof_of(exchange, event)
    salt = bytes.fromhex(json.loads(base64.b64decode(proof["data"]))["salt"])
    answer = decide(exchange, told.key)
    assert answer.status == 200, answer.body
    _refused(exchange, told)
    exchange.pump.run_until_idle()
    _refused(exchange, told)
    assert found(exchange, told) == {}
    assert [wiring.keyring().find(each) for each in told.keys] == [Lost.DESTROYED] * len(told.keys)
    assert ask(exchange.client("privacy"), told.key, OVERRIDE).status == 410
    after = seal(exchange)
    keys, numbers = public(exchange, "keys"), [json.loads(each["body"])["epoch"] for each in (before, after)]
    assert verdict(tmp_path, keys, proof)[0]
    growth = public(exchange, f"consistency?first={numbers[0]}&second={numbers[1]}")
    assert verdict(tmp_path, keys, growth)[0]
    assert exchange.client("auditor").get(f"AuditEvent/{event}/$proof").status == 404
    assert not any(salt in data for _, data in stored(exchange))
    assert found(exchange, told) == {}


def _refused(exchange: Exchange, told: Told) -> None:
    practice = told.practice
    for key in told.keys:
        assert practice.get(f"Patient/{key}").status == 410
        assert practice.get(f"Observation?patient={key}").json["total"] == 0
    assert practice.get(f"Observation/{told.observation}").status in (404, 410)
    assert practice.get(told.content).status in (404, 410)
    searched = practice.get(f"Patient?family={told.family}&birthdate={told.patient['birthDate']}")
    assert not {each["resource"]["id"] for each in searched.json.get("entry", [])} & set(told.keys)


def test_no_command_on_an_erased_person_stores_anything(exchange: Exchange, told: Told) -> None:
    """404 or 410, whoever asks: the patient, a professional, a steward, a subscriber."""
    key, other = told.keys[0], told.keys[1]
    practice, hospital, steward = (exchange.client(each) for each in ("practice", "hospital-a", "steward"))
    mine = exchange.client("patient-1")
    newcomer = register(hospital, NUMBER + 10).json["id"]
    reference, doctor = f"Patient/{key}", {"system": "urn:oid:1.2.250.1.71.4.2.1", "value": "810000000011"}
    observation = examples.observation(key)
    document = contents.submission(key, PDF, "application/pdf")
    house = {"system": IDNST, "value": "1990000011"}
    commands: list[tuple[Client, str, Any]] = [
        *(
            (who, f"Patient/{key}/${name}", samples.parameters(**given))
            for who in (mine, practice)
            for name, given in (
                ("open-record", {}),
                ("close-record", {"motive__valueCode": "patient-demande"}),
                ("oppose", {}),
                ("withdraw-opposition", {}),
                ("attending-physician", {"physician__valueIdentifier": doctor, "consent__valueBoolean": True}),
                ("block", {"party__valueIdentifier": doctor}),
                ("unblock", {"party__valueIdentifier": doctor}),
                ("authorize-access", {"party__valueIdentifier": doctor, "consent__valueBoolean": True}),
                ("end-access", {"party__valueIdentifier": doctor}),
                ("appoint-proxy", {"holder__valueIdentifier": ins(3), "kind__valueCode": "carer"}),
                ("end-proxy", {"holder__valueIdentifier": ins(3)}),
                ("set-preferences", {"agree-research__valueBoolean": True}),
                ("export-record", {}),
            )
        ),
        (
            practice,
            f"Patient/{key}/$break-glass",
            samples.parameters(reason__valueCode="unconscious", text__valueString="x"),
        ),
        (practice, "Observation", observation),
        (practice, f"Observation/{told.observation}", {**observation, "id": told.observation}),
        (hospital, "", document),
        (mine, "Consent", samples.consent(key, house, "deny")),
        (practice, "Task/$create", samples.prescription(key, PRESCRIBER, TODAY)),
        (hospital, f"Patient/{key}", {**told.patient, "id": key}),
        (
            mine,
            "Subscription",
            subscription("https://hooks.example/x", "access-changed", f"Patient?patient={reference}"),
        ),
        (
            practice,
            "Subscription",
            subscription("https://hooks.example/x", "anything-changed", f"Patient?patient={reference}"),
        ),
        (steward, "Patient/$link", link(reference, f"Patient/{newcomer}")),
        (steward, "Patient/$link", link(reference, f"Patient/{other}")),
        (
            steward,
            "Patient/$unlink",
            samples.parameters(patient__valueReference={"reference": reference}, reason__valueString="x"),
        ),
        (
            exchange.client("privacy"),
            f"Patient/{key}/$erase",
            {"resourceType": "Parameters", "parameter": [{"name": "ground", "valueCode": "objection"}, DECLINED]},
        ),
    ]
    exchange.pump.run_until_idle()
    for who in {each[0].id: each[0] for each in commands}.values():
        who.token()
    before = kept_items(exchange)
    refused = []
    for who, path, body in commands:
        is_update = path.count("/") == 1 and "$" not in path
        once = str(uuid.uuid4())
        answer = who.request("PUT" if is_update else "POST", path, body, Idempotency_Key=once)
        refused.append((who.id, path, answer.status))
    exchange.pump.run_until_idle()
    assert [each for each in refused if each[2] not in (404, 410)] == []
    assert kept_items(exchange) == before


def test_a_write_that_raced_leaves_nothing_that_can_be_read(exchange: Exchange, told: Told) -> None:
    """Its function had the key at hand when the record was erased, and had passed the gate; or it had none."""
    ring, held = wiring.keyring(), told.held
    key = ResourceKey(type="Observation", id=new_resource_id(told.key, wiring.now()), patient=told.key)
    content = examples.observation(told.key, note=[{"text": TEXT}])
    entry = ResourceDraft(content, f"{URL}/fhir").entry("any", 1, wiring.now())
    change = RecordVersion(key=key, version=1, at=wiring.now(), body=json.dumps(content).encode(), entry=entry)
    with pytest.raises(Gone):
        actions_of(change, wiring.table_names())
    ring.keep(told.key, held)
    wiring.dynamodb().transact(actions_of(change, wiring.table_names()))
    wiring.keyring.cache_clear()
    wiring.table_names.cache_clear()
    wiring.record_store.cache_clear()
    (stored,) = wiring.record_store().history(key, before=None, limit=1)
    assert stored.body is None
    assert wiring.record_store().entries(told.key, "Observation", Scan()).entries == ()
    assert found(exchange, told) == {}


def test_an_erasure_that_ends_at_any_call_is_finished_by_the_next(exchange: Exchange) -> None:
    told = Told(exchange, NUMBER + 6)
    assert decide(exchange, told.key).status == 200
    wired = wiring.erase()
    with crashing() as crashes:
        for at in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233):
            crashes.calls, crashes.at, crashes.is_done = 0, at, at % 2 == 0
            try:
                for key in told.keys:
                    wired.eraser.erase(key, wiring.now())
            except Crash:
                continue
            break
        crashes.at = None
        assert all(wired.eraser.erase(key, wiring.now()) for key in told.keys)
    assert found(exchange, told) == {}


def test_the_same_person_may_come_again(exchange: Exchange, told: Told) -> None:
    again = register(told.hospital, NUMBER)
    assert again.status == 201
    assert again.json["id"] not in told.keys
    person = wiring.patient_index().find_person(again.json["id"])
    assert isinstance(person, Person)
    assert person.members == (again.json["id"],)
