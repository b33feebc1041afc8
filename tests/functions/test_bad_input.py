"""What must not get in: each fault has its status, its code and the path of the fault, and leaves nothing stored."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from local.gateway import Response
from tests import examples
from tests.exchange import Client, Exchange

Attempt = Callable[[Client, str], Response]


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    """The key of a registered patient."""
    local, patient = examples.patient(1)
    answer = exchange.client("hospital-a").put(f"Patient?identifier={examples.DOMAIN}|{local}", patient)
    assert answer.status == 201, answer.body
    return str(answer.json["id"])


def stored(exchange: Exchange) -> tuple[Any, ...]:
    """Everything but the audit records, which also tell of refusals, and the assertions that tokens were asked with."""
    bucket = exchange.stack.environment["DOCUMENTS_BUCKET"]
    objects = exchange.stack.client("s3").list_object_versions(Bucket=bucket).get("Versions", [])
    tables = [
        sorted(json.dumps(item, default=str, sort_keys=True) for item in exchange.table(name) if _counts(item))
        for name in ("clinical", "patients", "operations")
    ]
    return (*tables, [each["Key"] for each in objects])


def _counts(item: dict[str, Any]) -> bool:
    return not item["PK"]["S"].startswith("J#")


def _without(token: str, part: int, replacement: str) -> str:
    parts = token.split(".")
    parts[part] = replacement
    return ".".join(parts)


def _b64(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def _edited(token: str) -> str:
    payload = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return _without(token, 1, _b64({**payload, "role": "auditor"}))


def _unsigned(token: str) -> str:
    header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    return _without(_without(token, 0, _b64({**header, "alg": "none"})), 2, "")


def _with_hash(bundle: dict[str, Any]) -> dict[str, Any]:
    attachment = bundle["entry"][1]["resource"]["content"][0]["attachment"]
    attachment["hash"] = base64.b64encode(b"x" * 20).decode()
    return bundle


OBSERVATION = "Observation"
HASH = "Bundle.entry[1].resource.content[0].attachment.hash"

CASES: dict[str, tuple[Attempt, int, str, str | None]] = {
    "not-json": (lambda c, k: c.post(OBSERVATION, b"{not json"), 400, "structure", None),
    "json-but-not-an-object": (lambda c, k: c.post(OBSERVATION, b"[]"), 400, "structure", OBSERVATION),
    "no-body": (lambda c, k: c.request("POST", OBSERVATION), 400, "required", None),
    "wrong-content-type": (
        lambda c, k: c.post(OBSERVATION, examples.observation(k), Content_Type="text/plain"),
        415,
        "not-supported",
        None,
    ),
    "wrong-accept": (lambda c, k: c.get(f"Patient/{k}", Accept="text/csv"), 406, "not-supported", None),
    "unknown-resource-type": (lambda c, k: c.post("Foo", {"resourceType": "Foo"}), 404, "not-supported", None),
    "resource-type-in-the-wrong-case": (lambda c, k: c.get(f"patient/{k}"), 404, "not-supported", None),
    "other-resource-type-than-the-url": (
        lambda c, k: c.post(OBSERVATION, {"resourceType": "Condition"}),
        400,
        "structure",
        "Condition.resourceType",
    ),
    "unknown-element": (
        lambda c, k: c.post(OBSERVATION, examples.observation(k, colour="red")),
        400,
        "structure",
        "Observation.colour",
    ),
    "missing-element": (
        lambda c, k: c.post(OBSERVATION, {n: v for n, v in examples.observation(k).items() if n != "code"}),
        422,
        "required",
        "Observation.code",
    ),
    "code-outside-the-binding": (
        lambda c, k: c.post(OBSERVATION, examples.observation(k, status="done")),
        422,
        "code-invalid",
        "Observation.status",
    ),
    "unknown-patient": (
        lambda c, k: c.post(OBSERVATION, examples.observation("0" * 16)),
        422,
        "not-found",
        "Observation.subject",
    ),
    "no-patient": (
        lambda c, k: c.post(OBSERVATION, {n: v for n, v in examples.observation(k).items() if n != "subject"}),
        422,
        "required",
        "Observation.subject",
    ),
    "hash-mismatch": (
        lambda c, k: c.post("", _with_hash(examples.submission(f"Patient/{k}"))),
        422,
        "value",
        HASH,
    ),
    "size-mismatch": (
        lambda c, k: c.post("", _resized(examples.submission(f"Patient/{k}"))),
        422,
        "value",
        HASH.replace("hash", "size"),
    ),
    "one-bad-entry-in-a-transaction": (
        lambda c, k: c.post("", _with_entry(examples.submission(f"Patient/{k}"), {"resourceType": "Observation"})),
        422,
        "required",
        "Bundle.entry[3].resource.code",
    ),
    "bundle-that-asks-for-nothing": (
        lambda c, k: c.post("", {**examples.submission(f"Patient/{k}"), "type": "collection"}),
        400,
        "value",
        "Bundle.type",
    ),
    "the-same-person-twice": (
        lambda c, k: c.post("", _twice(examples.patient(12)[1])),
        422,
        "business-rule",
        "Bundle.entry[1]",
    ),
    "endless-idempotency-key": (
        lambda c, k: c.post(OBSERVATION, examples.observation(k), Idempotency_Key="k" * 129),
        400,
        "value",
        None,
    ),
    "oversized-body": (
        lambda c, k: c.post(OBSERVATION, examples.observation(k, note=[{"text": "x" * 5_300_000}])),
        413,
        "too-long",
        None,
    ),
    "body-larger-than-lambda-takes": (
        lambda c, k: c.post(OBSERVATION, b" " * 7_000_000),
        413,
        "too-long",
        None,
    ),
    "no-token": (lambda c, k: c.get(f"Patient/{k}", Authorization=""), 401, "login", None),
    "garbage-token": (lambda c, k: c.get(f"Patient/{k}", Authorization="Bearer x.y.z"), 401, "security", None),
    "forged-token": (
        lambda c, k: c.get(f"Patient/{k}", Authorization=f"Bearer {_edited(c.token())}"),
        401,
        "security",
        None,
    ),
    "alg-none": (
        lambda c, k: c.get(f"Patient/{k}", Authorization=f"Bearer {_unsigned(c.token())}"),
        401,
        "security",
        None,
    ),
    "missing-scope": (
        lambda c, k: c.exchange.client("hospital-a", "system/Observation.rs").get(f"Patient/{k}"),
        403,
        "forbidden",
        None,
    ),
    "missing-scope-of-an-entry": (
        lambda c, k: c.exchange.client("hospital-a", "system/Observation.rs").post(
            "", examples.submission(f"Patient/{k}")
        ),
        403,
        "forbidden",
        "Bundle.entry[0]",
    ),
    "unknown-route": (lambda c, k: c.get(f"Patient/{k}/nothing/here"), 404, "not-supported", None),
    "unknown-operation": (lambda c, k: c.post(f"Task/{k}/$nothing", {}), 404, "not-supported", None),
    "another-source's-domain": (
        lambda c, k: c.put("Patient?identifier=urn:oid:2.999.2|1", examples.patient(2, domain="urn:oid:2.999.2")[1]),
        403,
        "forbidden",
        None,
    ),
    "identifier-not-in-the-resource": (
        lambda c, k: c.put(f"Patient?identifier={examples.DOMAIN}|999999", examples.patient(2)[1]),
        422,
        "invariant",
        "Patient.identifier",
    ),
    "search-without-patient": (lambda c, k: c.get("Observation?code=718-7"), 400, "required", "http.patient"),
    "people-search-without-criteria": (lambda c, k: c.get("Patient?family=Dupont"), 400, "required", None),
    "unknown-id": (lambda c, k: c.get("Patient/" + "0" * 16), 404, "not-found", None),
    "impossible-id": (lambda c, k: c.get("Observation/..%2f"), 404, "not-found", None),
    "stale-version": (lambda c, k: _stale(c, k), 412, "conflict", None),
}


def _resized(bundle: dict[str, Any]) -> dict[str, Any]:
    bundle["entry"][1]["resource"]["content"][0]["attachment"]["size"] = 81
    return bundle


def _with_entry(bundle: dict[str, Any], resource: dict[str, Any]) -> dict[str, Any]:
    request = {"method": "POST", "url": resource["resourceType"]}
    bundle["entry"].append({"resource": {**resource, "status": "final"}, "request": request})
    return bundle


def _twice(patient: dict[str, Any]) -> dict[str, Any]:
    entry = {"resource": patient, "request": {"method": "POST", "url": "Patient"}}
    return {"resourceType": "Bundle", "type": "transaction", "entry": [entry, entry]}


_made: list[str] = []


def _stale(client: Client, key: str) -> Response:
    if not _made:
        _made.append(client.post(OBSERVATION, examples.observation(key)).json["id"])
    change = examples.observation(key, id=_made[0])
    return client.put(f"Observation/{_made[0]}", change, If_Match='W/"7"')


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_and_leaves_nothing(exchange: Exchange, key: str, name: str) -> None:
    attempt, status, code, expression = CASES[name]
    client = exchange.client("hospital-a")
    if name == "stale-version":
        attempt(client, key)  # makes the resource it is about
    before = stored(exchange)
    answer = attempt(client, key)
    assert answer.status == status, answer.body
    assert answer.header("Content-Type") == "application/fhir+json"
    outcome = answer.json
    assert outcome["resourceType"] == "OperationOutcome"
    assert outcome["issue"][0]["code"] == code, outcome
    if expression is not None:
        assert expression in [path for issue in outcome["issue"] for path in issue.get("expression", [])], outcome
    assert stored(exchange) == before


def test_a_refusal_says_nothing_of_what_was_sent(exchange: Exchange, key: str) -> None:
    secret = "Zébulon-4711"
    client = exchange.client("hospital-a")
    for path, body in (
        (OBSERVATION, examples.observation(key, status=secret)),
        (OBSERVATION, examples.observation(key, effectiveDateTime=secret)),
        (OBSERVATION, examples.observation(key, subject={"reference": f"Patient/{secret}"})),
        (f"Observation?patient={secret}&code={secret}", None),
    ):
        answer = client.post(path, body) if body else client.get(path)
        assert secret not in answer.body.decode() or answer.status == 200
