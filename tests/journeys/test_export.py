"""A person takes the record home: all of it that may be seen, in one archive, and nobody else does."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any

import pytest

from local.gateway import Response
from passerelle import wiring
from passerelle.exports import model
from tests import contents, examples
from tests.exchange import Client, Exchange
from tests.functions.test_control import done, ins
from tests.functions.test_patients import register
from tests.journeys.test_erasure import DECLINED, OVERRIDE, ask
from tests.somebody import Somebody

NUMBER = 1
PDF = contents.pdf(100_000)


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    hospital, practice = exchange.client("hospital-a"), exchange.client("practice")
    key = str(register(hospital, NUMBER).json["id"])
    register(exchange.client("hospital-b"), NUMBER, domain="urn:oid:2.999.2")
    made = practice.post("Observation", examples.observation(key, note=[{"text": "first"}])).json
    assert practice.put(f"Observation/{made['id']}", {**made, "note": [{"text": "second"}]}).status == 200
    gone = practice.post("Observation", examples.observation(key)).json["id"]
    assert practice.request("DELETE", f"Observation/{gone}").status in (200, 204)
    contents.published(hospital, key, PDF)
    return key


def export(client: Client, key: str, **headers: str) -> Response:
    return client.post(f"Patient/{key}/$export-record", {"resourceType": "Parameters"}, **headers)


def opened(exchange: Exchange, answer: Response) -> tuple[zipfile.ZipFile, dict[str, Any]]:
    assert answer.status == 200, answer.body
    told = {each["name"]: next(v for n, v in each.items() if n != "name") for each in answer.json["parameter"]}
    bucket = exchange.stack.environment["UPLOADS_BUCKET"]
    place = told["url"].partition("?")[0].partition("exports/")[2]
    data = exchange.stack.client("s3").get_object(Bucket=bucket, Key=f"exports/{place}")["Body"].read()
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (told["sha256"], told["size"])
    return zipfile.ZipFile(io.BytesIO(data)), told


def lines(archive: zipfile.ZipFile, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in archive.read(name).splitlines()]


def test_the_patient_gets_everything_and_what_it_is(
    exchange: Exchange, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Current resources, every version, contents (in pieces), decisions, the log, in words of two languages."""
    monkeypatch.setattr("passerelle.api.export.MAX_STREAMED_BYTES", 40_000)
    patient = exchange.client("patient-1")
    archive, told = opened(exchange, export(patient, key))
    assert archive.testzip() is None
    assert "X-Amz-Expires=600" in told["url"]
    (observation,) = lines(archive, "resources/Observation.ndjson")
    assert observation["note"][0]["text"] == "second"
    methods = [each["request"]["method"] for each in lines(archive, "history/Observation.ndjson")]
    assert sorted(methods) == ["DELETE", "POST", "POST", "PUT"]
    assert len(lines(archive, "resources/Patient.ndjson")) == 2
    (content,) = (name for name in archive.namelist() if name.startswith("documents/"))
    assert content.endswith(".pdf")
    assert archive.read(content) == PDF
    assert json.loads(archive.read("decisions.json"))["resourceType"] == "Parameters"
    assert "cabinet" in archive.read("acces.html").decode().lower()
    index = archive.read("index.html").decode()
    assert ('lang="fr"' in index, 'lang="en"' in index) == (True, True)
    assert all(f'href="{name}"' in index for name in archive.namelist() if name != "index.html")


def test_it_is_told_in_the_log_as_a_disclosure_and_kept_as_a_decision(exchange: Exchange, key: str) -> None:
    patient = exchange.client("patient-1")
    found = patient.get(f"AuditEvent?patient=Patient/{key}&date=ge2026-01-01&_count=20").json
    exports = [
        each["resource"]
        for each in found["entry"]
        if any(coding["code"] == "disclose" for coding in each["resource"].get("subtype", []))
    ]
    assert exports
    assert exports[0]["type"]["code"] == "110106"
    history = patient.get(f"Patient/{key}/$access-history?_language=en").body.decode()
    assert "downloaded a complete copy of your record" in history
    kinds = patient.get(f"Patient/{key}/$record-status").body.decode()
    assert '"exported"' in kinds


def test_a_scope_that_does_not_cover_a_type_leaves_it_out(exchange: Exchange, key: str) -> None:
    narrow = Somebody(
        exchange, client_id="app", role="patient", patient=examples.ins(NUMBER), scope="system/Patient.rs"
    )
    archive, _ = opened(exchange, export(narrow, key))
    assert set(archive.namelist()) == {
        "resources/Patient.ndjson",
        "history/Patient.ndjson",
        "decisions.json",
        "index.html",
    }


def test_only_the_patient_and_who_decides_in_the_patients_place(exchange: Exchange, key: str) -> None:
    patient = exchange.client("patient-1")
    assert export(exchange.client("practice"), key).status == 403
    assert export(Somebody(exchange, client_id="o", role="patient", patient=examples.ins(2)), key).status == 404
    who = {"client_id": "app", "role": "representative", "patient": examples.ins(NUMBER)}
    carer = Somebody(exchange, **who, person=examples.ins(3))
    assert export(carer, key).status == 404
    done(patient, key, "appoint-proxy", holder=ins(3), kind="carer")
    assert export(carer, key).status == 403
    guardian = Somebody(exchange, **who, person=examples.ins(4))
    done(exchange.client("practice"), key, "appoint-proxy", holder=ins(4), kind="guardian", consent=True)
    assert export(guardian, key).status == 200


def test_the_same_request_again_gives_the_same_file(exchange: Exchange, key: str) -> None:
    patient = exchange.client("patient-1")
    first, again = (opened(exchange, export(patient, key, Idempotency_Key="export-1"))[1] for _ in range(2))
    assert first["sha256"] == again["sha256"]


@pytest.mark.parametrize("bound", ["MAX_RESOURCE_BYTES", "MAX_CONTENT_BYTES"])
def test_what_is_too_large_for_one_file_is_said_so(
    exchange: Exchange, key: str, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"passerelle.api.export.{bound}", 1_000)
    assert getattr(model, bound) > 1_000_000
    assert export(exchange.client("patient-1"), key).status == 413


def test_an_erasure_asks_for_the_export_first(exchange: Exchange, key: str) -> None:
    privacy, hospital = exchange.client("privacy"), exchange.client("hospital-a")
    proposed = ask(privacy, key, OVERRIDE)
    assert proposed.status == 200
    assert "exported" in {each["name"] for each in proposed.json["parameter"]}
    other = str(register(hospital, 5).json["id"])
    assert ask(privacy, other, OVERRIDE).status == 409
    assert ask(privacy, other, OVERRIDE, DECLINED).status == 200


def test_large_archives_are_written_in_parts(exchange: Exchange) -> None:
    """At most a part is held: the same bytes come back."""
    space = wiring.export_service()._space
    sink = space.begin("parts")
    data = contents.pdf(20 * 1024 * 1024)
    for start in range(0, len(data), 3_000_000):
        sink.write(data[start : start + 3_000_000])
    sink.close()
    bucket = exchange.stack.environment["UPLOADS_BUCKET"]
    found = exchange.stack.client("s3").get_object(Bucket=bucket, Key="exports/parts")["Body"].read()
    assert found == data
