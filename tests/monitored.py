"""People who are monitored at home: plans, measurements and alerts over the functions, on moto."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from passerelle import wiring
from passerelle.aws.dynamodb import delete
from passerelle.fhir import json as fhir_json
from passerelle.fhir.monitoring.alerts import CODES
from passerelle.fhir.validation import validate
from passerelle.records.ports import Scan
from tests import record

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)  # a Monday, 10 in Paris
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
GLUCOSE, SYSTOLIC = "2339-0", "8480-6"
PRACTICE = {"client_id": "practice", "organisation": "1990000037", "role": "practice"}
PHYSICIAN = {"professional": "810000000016", "profession": "10"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def statuses(self) -> list[int]:
        """Of the entries of a batch-response."""
        return [int(each["response"]["status"][:3]) for each in self.body["entry"]]

    @property
    def places(self) -> list[str]:
        """The FHIRPaths that are wrong, entry by entry."""
        return [
            issue["expression"][0]
            for each in self.body["entry"]
            for issue in each["response"].get("outcome", {}).get("issue", ())
        ]


@dataclass
class Clock:
    at: datetime = NOW

    def __call__(self) -> datetime:
        return self.at

    def ahead(self, **time: float) -> datetime:
        self.at += timedelta(**time)
        return self.at


@dataclass
class Home:
    """One exchange with a clock of its own; `patient` is somebody at home."""

    clock: Clock
    patient: str = ""
    members: tuple[str, ...] = ()
    caller: Mapping[str, str] = field(default_factory=lambda: PRACTICE)

    def moved_in(self, members: int = 1) -> Home:
        """Another person."""
        person = record.person(members)
        return Home(clock=self.clock, patient=person.members[0], members=person.members)

    # --- calls ------------------------------------------------------------------------------------------------------

    def call(
        self, method: str, path: str, body: Any = None, *, by: Mapping[str, str] | None = None, **more: str
    ) -> Answer:
        from functions.prescriptions.handler import handler as prescriptions
        from functions.records.handler import handler as records

        headers = {"Content-Type": "application/fhir+json", **{k.replace("_", "-"): v for k, v in more.items()}}
        event = {
            "httpMethod": method,
            "path": f"/fhir/{path}",
            "multiValueQueryStringParameters": None,
            "headers": headers,
            "body": None if body is None else body if isinstance(body, str) else fhir_json.dumps(body).decode(),
            "isBase64Encoded": False,
            "requestContext": {
                "requestId": uuid.uuid4().hex,
                "domainName": "api.example",
                "path": f"/fhir/{path}",
                "authorizer": {**(by or self.caller), "scope": "system/*.cruds", "jti": "t"},
            },
        }
        handler = prescriptions if path.startswith("Task") else records
        answer = handler(event, None)
        read = fhir_json.loads(answer["body"].encode()) if answer["body"] else None
        if read is not None:
            validate(read)
        return Answer(answer["statusCode"], answer["headers"], json.loads(answer["body"]) if answer["body"] else None)

    def put_in(self, resource: Mapping[str, Any]) -> str:
        """The reference of a resource that is stored in the record as any other."""
        answer = self.call("POST", str(resource["resourceType"]), resource)
        assert answer.status == 201, answer.body
        return f"{resource['resourceType']}/{answer.body['id']}"

    def submit(self, *measurements: Mapping[str, Any], by: Mapping[str, str] | None = None, **headers: str) -> Answer:
        bundle = {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"resource": each} for each in measurements],
        }
        return self.call("POST", "Observation/$submit-measurements", bundle, by=by, **headers)

    def watch(self, at: datetime | None = None) -> list[str]:
        """A tick of the clock; the messages that come again."""
        from functions.watch.handler import handler

        message = {
            "messageId": "1",
            "receiptHandle": "r",
            "body": json.dumps({"time": (at or self.clock()).isoformat()}),
            "attributes": {},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-west-3:000000000000:watches",
            "awsRegion": "eu-west-3",
        }
        return [each["itemIdentifier"] for each in handler({"Records": [message]}, None)["batchItemFailures"]]

    # --- resources --------------------------------------------------------------------------------------------------

    def measured(
        self, value: float | str, minutes: float = 0, *, code: str = GLUCOSE, unit: str = "mg/dL", **more: Any
    ) -> dict[str, Any]:
        """A value of this moment, or of so many minutes later."""
        at = self.clock() + timedelta(minutes=minutes)
        return {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": LOINC, "code": code}]},
            "subject": {"reference": f"Patient/{self.patient}"},
            "effectiveDateTime": at.isoformat().replace("+00:00", "Z"),
            "valueQuantity": quantity(value, unit),
            "device": {"identifier": {"system": "urn:example:serial", "value": "G-1"}},
            **more,
        }

    def goal(self, *targets: Mapping[str, Any]) -> str:
        return self.put_in(
            {
                "resourceType": "Goal",
                "lifecycleStatus": "active",
                "description": {"text": "stay within"},
                "subject": {"reference": f"Patient/{self.patient}"},
                "target": list(targets),
            }
        )

    def plan(self, *goals: str, **more: Any) -> dict[str, Any]:
        return {
            "resourceType": "CarePlan",
            "status": "active",
            "intent": "plan",
            "subject": {"reference": f"Patient/{self.patient}"},
            **({"goal": [{"reference": each} for each in goals]} if goals else {}),
            **more,
        }

    def with_glucose_plan(self, low: float = 70, high: float = 180, **more: Any) -> str:
        target = range_target(GLUCOSE, low, high)
        return self.put_in(self.plan(self.goal(target), **more))

    # --- what there is ----------------------------------------------------------------------------------------------

    def alerts(self) -> list[dict[str, Any]]:
        """The Tasks of alerts, oldest first, as they are now."""
        store = wiring.record_store()
        found = []
        for member in self.members:
            for each in store.entries(member, "Task", Scan()).entries:
                stored = store.find_latest(each.key)
                assert stored is not None
                found.append(json.loads(stored.body or b""))
        mine = [each for each in found if each["code"]["coding"][0]["system"] == CODES]
        return sorted(mine, key=lambda each: (str(each["authoredOn"]), str(each["id"])))

    def stands(self) -> list[tuple[str, str]]:
        """Kind and status of the alerts."""
        return [(each["code"]["coding"][0]["code"], each["status"]) for each in self.alerts()]

    def observations(self) -> set[str]:
        return {each.key.id for each in wiring.record_store().entries(self.patient, "Observation", Scan()).entries}

    def due(self) -> list[str]:
        """The places of this person's wake-ups."""
        return [
            item["SK"]
            for item in record.items()
            if item["PK"].startswith("WATCH#") and item["SK"].split("#")[1] in self.members
        ]


def quantity(value: float | str, unit: str = "mg/dL") -> dict[str, Any]:
    return {"value": fhir_json.WrittenDecimal(str(value)), "system": UCUM, "code": unit, "unit": unit}


def range_target(code: str, low: float | None, high: float | None, unit: str = "mg/dL", **more: Any) -> dict[str, Any]:
    bounds = {"low": low, "high": high}
    return {
        "measure": {"coding": [{"system": LOINC, "code": code}]},
        "detailRange": {name: quantity(value, unit) for name, value in bounds.items() if value is not None},
        **more,
    }


def activity(code: str = GLUCOSE, system: str = LOINC, **timing: Any) -> dict[str, Any]:
    detail = {
        "status": "in-progress",
        "code": {"coding": [{"system": system, "code": code}]},
        "scheduledTiming": {"repeat": timing},
    }
    return {"detail": detail}


def events() -> list[tuple[str, str, int]]:
    """Name, reference and version of everything that was announced."""
    found = []
    for item in record.items():
        if item["PK"].startswith("O#"):
            found += [(each["name"], each["reference"], each["version"]) for each in item["events"]]
    return found


def raised(home: Home) -> list[str]:
    """The references of what those who take care of somebody were told of, in any order."""
    told = (reference for name, reference, _ in events() if name == "alert-raised")
    return [each for each in told if each.removeprefix("Task/")[:16] in home.members]


def forgotten() -> None:
    """Nobody who was there before is looked at any more."""
    for item in record.items():
        if item["PK"].startswith("WATCH#"):
            wiring.dynamodb().write(delete("clinical", (item["PK"], item["SK"])))


@contextmanager
def exchange() -> Iterator[Callable[[], Home]]:
    """Gives people at home; their clock is the exchange's."""
    clock = Clock()
    with record.services():
        for made in (wiring.records(), wiring.prescriptions(), wiring.watch()):
            object.__setattr__(made, "now", clock)
        yield Home(clock=clock).moved_in
