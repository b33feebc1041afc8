"""The story of the demonstration, in this process: what it costs, what it may do, and what it leaves in the logs."""

from __future__ import annotations

import base64
import contextvars
import json
import logging
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.functions import FUNCTIONS
from local import samples
from local.region import IDNST, PARTICIPANTS, ins_of, people
from local.samples import CLARITHROMYCIN, COLCHICINE
from local.scanner import EICAR
from local.story import Step
from passerelle import wiring
from tests import contents, documents, examples, submitting
from tests.exchange import Client, Exchange, PumpedWebhook, exchange_on_moto, is_weak
from tests.feeding import entry, fed, key_of, newcomer, replaced_by, told
from tests.functions import test_sweep, test_uploads
from tests.functions.test_control import subscribe

_function: contextvars.ContextVar[str | None] = contextvars.ContextVar("function", default=None)

# Rights that only what a crash left behind makes use of: a reader that meets an unsettled transaction asks for its
# state, a writer settles it (tests/ports/test_staging.py).
_MEETS = {("clinical", "dynamodb:BatchGetItem")}
_UPDATES = {("clinical", "dynamodb:UpdateItem")}
# And those that a body needs which is too large for an item (tests/ports/test_records.py).
_READS_LARGE = {("documents", "s3:GetObject")}
# The lock of a content: the stage of the tests has none (tests/ports/test_locked_contents.py).
_LOCKS = {("documents", "s3:PutObjectRetention")}
# And those of notifications about accesses.
_ACCESSES = {("audit", "dynamodb:GetItem"), ("patients", "dynamodb:GetItem")}
_LARGE = base64.b64encode(random.Random(1).randbytes(400_000)).decode()


def _all_of(function: str) -> set[tuple[str, str]]:
    (spec,) = (each for each in FUNCTIONS if each.name == function)
    return {(grant.on, action) for grant in spec.grants for action in grant.actions}


UNSEEN: Mapping[str, set[tuple[str, str]]] = {
    # A record is handed out by its patient (tests/journeys/test_export.py).
    "patients": _UPDATES | {("uploads", "s3:GetObject"), ("uploads", "s3:PutObject")},
    "documents": _LOCKS,
    "sweep": _MEETS | {("clinical", "dynamodb:GetItem")},
    "records": _LOCKS,
    "directory": _UPDATES,
    # Accesses that somebody is told of, and more to tell than one order has time for (tests/functions/test_audience.py,
    # tests/ports/test_delivery.py).
    "dispatch": _READS_LARGE,
    "deliver": _READS_LARGE | {("deliveries", "sqs:SendMessage")},
    "subscriptions": _READS_LARGE | _ACCESSES,
    # Merges, documents that are replaced, messages that wait (tests/ports/test_ingestion.py).
    "ingest": _UPDATES
    | _READS_LARGE
    | _LOCKS
    | {("clinical", "dynamodb:DeleteItem"), ("keys", "dynamodb:PutItem")}
    | {("operations", "dynamodb:ConditionCheckItem"), ("operations", "dynamodb:Query")}
    | {("patients", "dynamodb:ConditionCheckItem"), ("patients", "dynamodb:DeleteItem")},
    # Nothing is overdue (tests/ports/test_monitoring.py), and nothing was lost (tests/ports/test_reconciling.py).
    "watch": _UPDATES | _READS_LARGE | {("patients", "dynamodb:GetItem"), ("patients", "dynamodb:Query")},
    "reconcile": _READS_LARGE | _ACCESSES | {("deliveries", "sqs:SendMessage"), ("operations", "dynamodb:UpdateItem")},
    "links": _MEETS,
    "quarantine": _MEETS | _READS_LARGE,
    # People log in at a provider (tests/functions/test_login.py).
    "login": _all_of("login"),
    # The clock starts it (tests/functions/test_reminders.py).
    "remind": _all_of("remind"),
    # Nobody is erased in the story (tests/journeys/test_erasure.py).
    "erase": _all_of("erase"),
}


class Calls:
    """The IAM actions that each function made use of, by the resource it named."""

    def __init__(self, exchange: Exchange) -> None:
        self.made: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.reads = 0
        self.weak: list[str] = []
        environment = exchange.stack.environment
        self._names = {
            environment["CLINICAL_TABLE"]: "clinical",
            environment["PATIENTS_TABLE"]: "patients",
            environment["OPERATIONS_TABLE"]: "operations",
            environment["AUDIT_TABLE"]: "audit",
            environment["DOCUMENTS_BUCKET"]: "documents",
            environment["UPLOADS_BUCKET"]: "uploads",
            environment["EVENT_BUS"]: "events-bus",
            environment["DELIVERIES_QUEUE_URL"]: "deliveries",
            environment["INDEX_SECRET_ARN"]: "index-secret",
            environment["LEDGER_TABLE"]: "ledger",
            environment["KEYS_TABLE"]: "keys",
            environment["ANCHORS_BUCKET"]: "anchors",
            environment["ANCHOR_KEY_ID"]: "anchor-key",
            environment["SEALS_QUEUE_URL"]: "seals",
            environment["TOKEN_KEY_IDS"]: "token-key",
        }

    def note(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        function = _function.get()
        if function is None:
            return
        if model.name in ("Query", "GetItem", "BatchGetItem", "Scan"):
            self.reads += 1
            if is_weak(model.name, params):
                self.weak.append(f"{function} {model.name}")
        service = model.service_model.service_name
        for action, named in _actions(model.name, params):
            self.made[function, self._names[named]].add(f"{service}:{action}")


def _actions(operation: str, params: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The IAM actions of an API call, with the resource each is about."""
    if operation == "TransactWriteItems":
        kinds = {
            "Put": "PutItem",
            "Update": "UpdateItem",
            "Delete": "DeleteItem",
            "ConditionCheck": "ConditionCheckItem",
        }
        for item in params["TransactItems"]:
            ((kind, body),) = item.items()
            yield kinds[kind], body["TableName"]
    elif operation == "BatchGetItem":
        yield from ((operation, table) for table in params["RequestItems"])
    elif operation == "PutEvents":
        yield from ((operation, entry["EventBusName"]) for entry in params["Entries"])
    elif operation == "CopyObject":
        yield "GetObject", params["CopySource"]["Bucket"]
        yield "PutObject", params["Bucket"]
    else:
        named = ("TableName", "Bucket", "QueueUrl", "KeyId", "SecretId")
        yield _ACTIONS.get(operation, operation), next(params[name] for name in named if name in params)


# Where the action is not named like the call (Service Authorization Reference, Amazon S3). The call of a URL that is
# given away is made by whoever has it, with the rights of the function: it counts as its own when the URL is made.
_ACTIONS = {
    "CompleteMultipartUpload": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "ListParts": "ListMultipartUploadParts",
    "UploadPart": "PutObject",
}


@contextmanager
def recorded(exchange: Exchange) -> Iterator[Calls]:
    """Note every AWS call that is made while a function runs."""
    calls = Calls(exchange)
    runtime = exchange.gateway._runtime
    invoke = runtime.invoke
    for service in ("dynamodb", "s3", "kms", "events", "sqs", "secretsmanager"):
        wiring.aws(service).meta.events.register("before-parameter-build.*.*", calls.note)

    kept = (wiring.aws, wiring.environment, wiring.dynamodb)
    caches = [each for each in wiring.made() if each not in kept]

    def named(logical_id: str, event: Mapping[str, Any]) -> Any:
        for each in caches:
            each.cache_clear()  # a function of its own, as on AWS: nothing was fetched for it by another
        token = _function.set(runtime.functions[logical_id].name)
        try:
            return invoke(logical_id, event)
        finally:
            _function.reset(token)

    runtime.invoke = named  # type: ignore[method-assign]
    yield calls


@pytest.fixture(scope="module")
def played(template: dict[str, Any]) -> Iterator[tuple[Exchange, Calls, list[Step], str]]:
    """The story, and what it leaves out of each function, on a fresh exchange; with everything that was logged."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.dumps(record.__dict__, default=str) + self.format(record))

    with exchange_on_moto(template) as exchange, recorded(exchange) as calls:
        keep = Keep()
        loggers = [
            logging.getLogger(name) for name in list(logging.root.manager.loggerDict) if name.startswith("passerelle")
        ]
        for logger in [*loggers, logging.getLogger()]:
            logger.addHandler(keep)
        steps: list[Step] = []
        exchange.play(steps.append)
        _the_rest(exchange)
        yield exchange, calls, steps, "\n".join(lines)
        for logger in [*loggers, logging.getLogger()]:
            logger.removeHandler(keep)


def _the_rest(exchange: Exchange) -> None:
    """What the story does not do, so that every right that is granted is made use of."""
    hospital, practice, myself = (exchange.client(name) for name in ("hospital-a", "practice", "patient-1"))
    local, patient = examples.patient(2)
    place = f"Patient?identifier={examples.DOMAIN}|{local}"
    key = hospital.put(place, patient, Idempotency_Key="p").json["id"]
    as_autre, as_tiers, as_encore = (
        {**patient, "name": [*patient["name"], {"use": "usual", "family": family}]}
        for family in ("AUTRE", "TIERS", "ENCORE")
    )
    assert hospital.put(place, as_autre).status == 200
    assert hospital.put(place, as_tiers, Idempotency_Key="p").status == 422
    update = {"resource": as_encore, "request": {"method": "PUT", "url": place}}
    assert hospital.post("", {"resourceType": "Bundle", "type": "transaction", "entry": [update]}).status == 200
    created = practice.post("Observation", examples.observation(key), Idempotency_Key="k")
    assert practice.post("Observation", examples.observation(key), Idempotency_Key="k").body == created.body
    place = f"Observation/{created.json['id']}"
    moved = examples.observation(key, id=created.json["id"], effectiveDateTime="2026-05-01")
    assert practice.put(place, moved).status == 200
    assert practice.request("DELETE", place).status == 200
    _hidden_and_large(hospital, key)
    _by_the_clock(exchange)
    assert practice.get("CommunicationRequest?event-type=SOR").json["total"] == 0
    _patient_feed(exchange)
    _dead_endpoint(exchange)  # no system is told of what follows
    _emergency(exchange)
    many = [
        {"resource": examples.observation(key), "request": {"method": "POST", "url": "Observation"}} for _ in range(60)
    ]
    assert hospital.post("", {"resourceType": "Bundle", "type": "transaction", "entry": many}).status == 200
    answer = practice.get("Organization?identifier=urn:oid:1.2.250.1.71.4.2.2|1990000011")
    assert answer.status == 200
    for reader in (practice, myself):
        assert reader.get(f"Organization/{key}-{'0' * 26}").status == 404  # a guess
        assert reader.get(f"DocumentReference?patient.identifier={examples.ins(2)}").status == 200
    assert myself.get(f"Observation?patient={key}").json["total"] == 0
    assert myself.get(f"Patient/{key}").status == 404
    task = next(item["PK"]["S"] for item in exchange.table("clinical") if item["SK"]["S"] == "T0")
    assert myself.get(f"Task/{task.removeprefix('RX#')}").status == 200
    found = exchange.client("auditor").get(f"AuditEvent?patient=Patient/{key}&date=ge2026-01-01")
    record = found.json["entry"][0]["resource"]["id"]
    assert exchange.client("auditor").get(f"AuditEvent/{record}").status == 200
    assert myself.get(f"AuditEvent?patient=Patient/{key}&date=ge2026-01-01").json.get("entry") is None
    _plain_resources(exchange.client("hospital-a", "system/*.cruds"), key)
    _links_and_malware(exchange, key)
    _identities(exchange)
    _transfers(exchange, key)
    _verifiable_log(exchange)
    _logs_and_tokens(exchange)


def _hidden_and_large(hospital: Client, key: str) -> None:
    """A document that is masked, for somebody who has no subscription; then whoever is told of anything is asked for.

    What tells of it is read as it is: from storage, if it is too large for an item.
    """
    recipient = {"identifier": {"system": "urn:oid:1.2.250.1.71.4.2.2", "value": "1990000099"}}
    bundle = submitting.submission(f"Patient/{key}", securityLabel=[documents.label("MASQUE_PS"), documents.label("N")])
    listed = bundle["entry"][0]["resource"]
    listed["extension"].append({"url": f"{examples.MHD}/ihe-intendedRecipient", "valueReference": recipient})
    submitting.submit(hospital, bundle)
    assert hospital.post("Observation", _large_report(key)).status == 201


def _large_report(key: str) -> dict[str, Any]:
    report = examples.observation(key, valueString=_LARGE)
    del report["valueQuantity"]
    return report


def _transfers(exchange: Exchange, key: str) -> None:
    """Contents that clients send to storage, and those that nobody publishes."""
    hospital, data = exchange.client("hospital-a"), contents.pdf(9_000)
    test_uploads.opened(hospital, data, key="u")
    assert test_uploads.opened(hospital, data, key="u").state == "open"
    upload = test_uploads.uploaded(hospital, data)
    contents.publish(hospital, contents.uploaded_submission(key, upload.url, data, "application/pdf"))
    wrong = test_uploads.opened(hospital, data)
    test_uploads.send(wrong, data[:-1] + b" ")
    assert test_uploads.complete(hospital, wrong).status == 422
    orphan = f"documents/{key}/{'0' * 26}"
    exchange.stack.client("s3").put_object(Bucket=exchange.stack.environment["DOCUMENTS_BUCKET"], Key=orphan, Body=b"x")
    test_sweep.sweep(exchange, orphan)


def _links_and_malware(exchange: Exchange, key: str) -> None:
    """A document for a third party, until malware is found in it."""
    hospital, practice = exchange.client("hospital-a"), exchange.client("practice")
    sent = samples.submission(f"Patient/{key}", content=b"<a>" + EICAR + b"</a>", unique="urn:oid:2.999.1.77.9")
    places = [each["response"]["location"] for each in hospital.post("", sent).json["entry"]]
    document = next(place for place in places if "DocumentReference" in place).split("/_history")[0]
    by_practice = _shared(practice, document)
    assert exchange.gateway.request("GET", by_practice).status == 200
    assert exchange.gateway.request("POST", by_practice).status == 200
    assert exchange.gateway.request("POST", by_practice).status == 404
    revoked = practice.get(f"{document}/$links").json["parameter"][0]["part"][0]["valueId"]
    assert practice.post(f"{document}/$revoke", samples.parameters(id__valueId=revoked)).status == 200
    exchange.pump.run_until_idle()
    assert practice.get(document.replace("DocumentReference", "Binary")).status == 403


def _shared(client: Client, document: str) -> str:
    """The path of a new link."""
    made = client.post(f"{document}/$share", samples.parameters(purpose__valueCode="TREAT"))
    assert made.status == 201, made.body
    url = next(each["valueUrl"] for each in made.json["parameter"] if each["name"] == "url")
    return "/" + str(url).split("/", 3)[3]


def _plain_resources(hospital: Client, key: str) -> None:
    """What every function serves besides the transactions of its capability."""
    subject = {"reference": f"Patient/{key}"}
    task = {"resourceType": "Task", "status": "requested", "intent": "order", "for": subject}
    of_function = {
        "documents": {"resourceType": "List", "status": "current", "mode": "working", "subject": subject},
        "prescriptions": {**task, "authoredOn": "2026-03-01"},
        "directory": {"resourceType": "Organization", "name": "Essai"},
    }
    changes: dict[str, dict[str, Any]] = {
        "documents": {"date": "2026-03-01"},
        "prescriptions": {"authoredOn": "2026-03-02", "description": _LARGE},
        "directory": {"name": "Autre", "alias": [_LARGE]},
    }
    for name, resource in of_function.items():
        kind = str(resource["resourceType"])
        made = hospital.post(kind, resource, Idempotency_Key=name)
        assert made.status == 201, made.body
        assert hospital.post(kind, resource, Idempotency_Key=name).json == made.json
        place = f"{kind}/{made.json['id']}"
        assert hospital.put(place, {**resource, **changes[name], "id": made.json["id"]}).status == 200
        ins = f"patient.identifier={examples.ins(2)}"
        assert hospital.get(f"{kind}?name=Autre" if name == "directory" else f"{kind}?{ins}").json["total"] >= 1
        assert hospital.request("DELETE", place).status == 200
    large = {"resourceType": "Binary", "contentType": "application/pdf", "securityContext": subject, "data": _LARGE}
    place = f"Binary/{hospital.post('Binary', large).json['id']}"
    assert hospital.get(place, Accept="application/fhir+json").json["data"] == _LARGE
    place = f"Observation/{hospital.post('Observation', _large_report(key)).json['id']}"
    assert hospital.get(place).json["valueString"] == _LARGE
    assert hospital.get(f"Patient/{key}/$everything?_count=1").status == 200
    assert hospital.get(f"Patient/{key}/$everything").json["entry"]


def _identities(exchange: Exchange) -> None:
    """What stewards and sources do beside the story: qualify, merge and its end, link, a message of changes."""
    hospital, steward = exchange.client("hospital-a"), exchange.client("steward")
    _, known = examples.patient(9)
    known["extension"][0]["extension"][0]["valueCodeableConcept"]["coding"][0]["code"] = "VALI"
    known["identifier"] = [{"system": examples.DOMAIN, "value": "rest-9"}]
    known["photo"] = [{"contentType": "image/png", "data": _LARGE}]
    key = hospital.post("Patient", known).json["id"]
    assert hospital.post(f"Patient/{key}/$ins-qualify", b"").status == 200
    locals_, (one, other) = zip(*(newcomer() for _ in range(2)), strict=True)
    first, second = (
        key_of(response)
        for response in told(fed(exchange, entry("POST", "Patient", one), entry("POST", "Patient", other)))
    )
    because = {"reason__valueString": "seen at the desk"}
    reference = {name: {"reference": f"Patient/{key}"} for name, key in (("first", first), ("second", second))}
    for operation, *named in (
        ("link", "first", "second"),
        ("unlink", "second:patient"),
        ("merge", "first:source-patient", "second:target-patient"),
        ("unmerge", "first:patient"),
    ):
        pairs = [each.partition(":") for each in named]
        about = {f"{role or which}__valueReference": reference[which] for which, _, role in pairs}
        done = steward.post(f"Patient/${operation}", samples.parameters(**about, **because), Idempotency_Key=operation)
        assert done.status == 200, done.body
    assert steward.get(f"Patient/{first}/$identity").status == 200
    survivor = {"identifier": {"system": examples.DOMAIN, "value": locals_[1]}}
    (merged,) = told(fed(exchange, entry("PUT", "Patient/1", {**one, **replaced_by(survivor)})))
    assert merged["status"] == "200 OK"
    (removed,) = told(fed(exchange, entry("DELETE", f"Patient/{second}")))
    assert removed["status"] == "200 OK"


def _dead_endpoint(exchange: Exchange) -> None:
    """Nobody listens at the webhook of the story any more: what happens is numbered, and kept for who asks."""
    practice = exchange.client("practice")
    exchange.pump.run_until_idle()
    (item,) = [each for each in exchange.table("operations") if each["PK"]["S"].startswith("S#")]
    place = f"Subscription/{item['PK']['S'].removeprefix('S#')}"
    assert practice.get(place).json["status"] == "active"  # no day has passed
    assert practice.get(f"{place}/$status").status == 200
    assert practice.get(f"{place}/$events?eventsSinceNumber=1").json["entry"]
    assert practice.get(f"{place}/$events?eventsSinceNumber=1&content=full-resource").json["entry"]
    assert practice.request("DELETE", place).status == 200


def _verifiable_log(exchange: Exchange) -> None:
    """A minute later: what was recorded is sealed, and proved to be so."""
    exchange.pump.run_until_idle()
    runtime = exchange.gateway._runtime
    (seal,) = (logical_id for logical_id, each in runtime.functions.items() if each.name == "seal")
    message = {"messageId": "1", "receiptHandle": "r", "body": "{}", "attributes": {"MessageGroupId": "seal"}}
    assert runtime.invoke(seal, {"Records": [message]}) == {"batchItemFailures": []}
    event = next(item["id"]["S"] for item in exchange.table("audit") if "commitment" in item)
    answer = exchange.client("auditor").get(f"AuditEvent/{event}/$proof")
    assert answer.status == 200, answer.body
    for path in ("anchors/latest", "consistency?first=0&second=0", "keys"):
        assert exchange.gateway.request("GET", f"/log/{path}", {}, b"").status == 200


def _by_the_clock(exchange: Exchange) -> None:
    """The clock starts `watch` and `reconcile`; an hour passes, in which every part of the outbox has its turn."""
    runtime = exchange.gateway._runtime
    by_name = {each.name: logical_id for logical_id, each in runtime.functions.items()}
    now = datetime.now(UTC)
    ticks = [("watch", now), *(("reconcile", now + timedelta(minutes=20 + 5 * part)) for part in range(12))]
    for name, at in ticks:
        message = {
            "messageId": "1",
            "receiptHandle": "r",
            "body": json.dumps({"time": at.isoformat()}),
            "attributes": {},
        }
        assert runtime.invoke(by_name[name], {"Records": [message]}) == {"batchItemFailures": []}


def _logs_and_tokens(exchange: Exchange) -> None:
    """A system deposits a trace of its own; logs are asked by who and when; tokens are looked at and taken back."""
    exchange.pump.run_until_idle()
    day = datetime.now(UTC).date().isoformat()
    depositor = exchange.client("hospital-a", "ITI-20 ITI-81")
    trace = {
        "resourceType": "AuditEvent",
        "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
        "period": {"start": f"{day}T00:00:00Z"},
        "recorded": f"{day}T00:00:00Z",
        "agent": [{"who": {"display": "viewer"}, "requestor": True}],
        "source": {"observer": {"identifier": {"system": IDNST, "value": PARTICIPANTS[0].organisation}}},
    }
    for _ in range(2):
        assert depositor.post("AuditEvent", trace, Idempotency_Key="trace").status == 201
    assert depositor.get(f"AuditEvent?date=ge{day}").json["entry"]
    assert exchange.client("auditor").get(f"AuditEvent?date=ge{day}&_count=5").json["entry"]
    assert depositor.authorization("introspect", token=depositor.token()).status == 401  # not entitled to
    assert depositor.authorization("revoke", token=depositor.token()).status == 200


def _emergency(exchange: Exchange) -> None:
    """A glass that is broken: the patient is told, as of each access, and a supervisor looks at it."""
    practice, myself, auditor = (exchange.client(name) for name in ("practice", "patient-1", "auditor"))
    key = myself.get(f"Patient?identifier={examples.ins(1)}").json["entry"][0]["resource"]["id"]
    with PumpedWebhook(exchange.pump) as webhook, PumpedWebhook(exchange.pump) as other:
        made = subscribe(myself, webhook, "emergency-access", f"Patient?patient=Patient/{key}")
        curious = subscribe(myself, other, "record-accessed", f"?patient=Patient/{key}")
        given = samples.parameters(reason__valueCode="unconscious", text__valueString="found in the street")
        assert practice.post(f"Patient/{key}/$break-glass", given, Idempotency_Key="glass").status == 200
        exchange.pump.run_until_idle()
        listed = auditor.get("Patient/$break-glass-uses").json["parameter"][0]["part"]
        review = samples.parameters(use__valueId=listed[0]["valueId"], verdict__valueCode="justified")
        assert auditor.post("Patient/$review-break-glass", review).status == 200
        assert practice.get(f"Observation?patient={key}").status == 200
        assert other.wait_for("AuditEvent/", 5)
        for each in (made, curious):
            assert myself.request("DELETE", f"Subscription/{each}").status == 200


def _patient_feed(exchange: Exchange) -> None:
    """A consumer of Patients, of those of one domain, where nobody listens; one comes and goes."""
    laboratory = exchange.client("laboratory")
    channel = {"type": "message", "endpoint": "http://127.0.0.1:9/", "payload": "application/fhir+json"}
    sent = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "patient administration",
        "criteria": f"Patient?identifier={examples.DOMAIN}|",
        "channel": channel,
    }
    made = laboratory.post("Subscription", sent).json
    exchange.pump.run_until_idle()
    local, patient = examples.patient(3)
    hospital, place = exchange.client("hospital-a"), f"Patient?identifier={examples.DOMAIN}|{local}"
    assert hospital.put(place, patient).status == 201
    assert hospital.request("DELETE", place).status == 200
    exchange.pump.run_until_idle()
    place = f"Subscription/{made['id']}"
    found = laboratory.get(place).json
    assert found["status"] == "active"  # its breaker is open: nobody tries for a while
    total = laboratory.get(f"{place}/$status").json["entry"][0]["resource"]["parameter"]
    assert next(each["valueString"] for each in total if each["name"] == "events-since-subscription-start") == "2"
    assert laboratory.put(place, {**found, "status": "off"}).status == 200
    assert laboratory.request("DELETE", place).status == 200


def test_the_story_is_told(played: tuple[Exchange, Calls, list[Step], str]) -> None:
    _, _, steps, _ = played
    assert len(steps) >= 30
    assert {step.chapter.partition(".")[0] for step in steps} == {str(number) for number in range(1, 16)}


@pytest.mark.parametrize("spec", FUNCTIONS, ids=lambda spec: spec.name)
def test_a_function_makes_the_calls_it_may_make_and_no_other(
    played: tuple[Exchange, Calls, list[Step], str], spec: Any
) -> None:
    _, calls, _, _ = played
    granted = {(grant.on, action) for grant in spec.grants for action in grant.actions}
    used = {(on, action) for (name, on), actions in calls.made.items() if name == spec.name for action in actions}
    unseen = UNSEEN.get(spec.name, set())
    assert sorted(used - granted) == [], "not granted"
    assert sorted(granted - used - unseen) == [], "granted for nothing"
    assert sorted(unseen & used) == [], "listed as unseen, but seen"


def test_no_personal_data_in_logs_and_events(played: tuple[Exchange, Calls, list[Step], str]) -> None:
    exchange, _, _, logged = played
    assert "passerelle-" in logged
    patient = next(people(examples.DOMAIN))[1]
    traits = [
        ins_of(1),
        ins_of(2),
        patient["name"][0]["family"],
        patient["name"][0]["given"][0],
        patient["birthDate"],
        "colchicine",
        "clarithromycin",
        "arrêtée",
        COLCHICINE,
        CLARITHROMYCIN,
        "718-7",
        "ClinicalDocument",
        "Antoine",
        "identity card",  # of the reasons that stewards give
        "brother",
        "street",  # of the words of who broke the glass
    ]
    outbox = [item for item in exchange.table("clinical") if item["PK"]["S"].startswith("O#")]
    assert outbox
    for trait in traits:
        assert trait not in logged
        assert trait not in json.dumps(outbox, ensure_ascii=False)
    for participant in PARTICIPANTS:
        assert participant.name not in logged


def test_every_request_left_an_access_record(played: tuple[Exchange, Calls, list[Step], str]) -> None:
    exchange, _, steps, _ = played
    records = [item for item in exchange.table("audit") if item["PK"]["S"].startswith("A#")]
    asked = {item["request_id"]["S"] for item in records if "request_id" in item}
    answered = [step for step in steps if step.path.startswith("/fhir/")]
    assert len(asked) >= len(answered)
    refused = [item for item in records if item["outcome"]["S"] == "4"]
    assert len(refused) >= len([step for step in steps if 400 <= step.status < 500])


def test_every_read_is_consistent_and_no_index_is_used(played: tuple[Exchange, Calls, list[Step], str]) -> None:
    """Law 2: read your writes, everywhere."""
    _, calls, _, _ = played
    assert calls.reads > 100
    assert not calls.weak
