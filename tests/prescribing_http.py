"""Prescriptions over HTTP: calls of the function, and a life up to the signature."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from functions.prescriptions.handler import handler
from passerelle.access import Caller
from passerelle.fhir import json as fhir_json
from passerelle.fhir.validation import validate
from passerelle.prescriptions.validity import paris_day
from tests.prescribing import PRACTICE, Region, bundle, example, medication_request, provenance

BASE = "https://api.example/fhir"
SCOPE = "system/Task.crus"


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: dict[str, str]

    @property
    def code(self) -> tuple[int, str]:
        """Status and RX code; every refusal has one, in the code system of the base that was called."""
        coding = self.body["issue"][0]["details"]["coding"][0]
        assert coding["system"] == f"{BASE}/CodeSystem/rx-error"
        return self.status, coding["code"]

    def told(self, name: str) -> Any:
        """The value of a parameter of the answer, or of the Parameters at the head of its Bundle."""
        parameters = self.body["entry"][0]["resource"] if self.body["resourceType"] == "Bundle" else self.body
        (part,) = [each for each in parameters["parameter"] if each["name"] == name]
        return next(value for key, value in part.items() if key != "name")

    def resources(self, kind: str) -> list[Any]:
        return [each["resource"] for each in self.body["entry"] if each["resource"]["resourceType"] == kind]


@dataclass(frozen=True)
class Api:
    region: Region

    def call(
        self,
        path: str,
        body: Any = None,
        *,
        by: Caller = PRACTICE,
        method: str = "POST",
        key: str | None = "new",
        scope: str = SCOPE,
        function: Any = handler,
        **headers: str,
    ) -> Answer:
        sent = {
            "Content-Type": "application/fhir+json",
            **{k.replace("_", "-"): v for k, v in headers.items()},
        }
        if key is not None:
            sent["Idempotency-Key"] = str(uuid.uuid4()) if key == "new" else key
        path, _, query = path.partition("?")
        _, kind, *parts = path.split("/")
        names = ("id", "operation")[: len(parts)]
        context: dict[str, Any] = {
            "client_id": by.client_id,
            "organisation": by.organisation,
            "role": by.role,
            "scope": scope,
            "jti": "token-1",
        }
        named = ("professional", by.professional), ("profession", by.profession), ("patient", by.patient)
        context |= {k: v for k, v in named if v}
        event = {
            "httpMethod": method,
            "path": f"/fhir{path}",
            "resource": "/".join(["/fhir", kind, *(f"{{{name}}}" for name in names)]),
            "pathParameters": dict(zip(names, parts, strict=True)),
            "multiValueQueryStringParameters": parse_qs(query) or None,
            "headers": sent,
            "body": body if body is None or isinstance(body, str) else fhir_json.dumps(body).decode(),
            "isBase64Encoded": False,
            "requestContext": {
                "requestId": uuid.uuid4().hex,
                "domainName": "api.example",
                "path": f"/fhir{path}",
                "authorizer": context,
            },
        }
        answer = function(event, None)
        if answer["isBase64Encoded"]:
            return Answer(answer["statusCode"], base64.b64decode(answer["body"]), answer["headers"])
        answered = json.loads(answer["body"])
        validate(fhir_json.loads(answer["body"].encode()))
        return Answer(answer["statusCode"], answered, answer["headers"])

    def read(self, path: str, *, by: Caller = PRACTICE, **options: Any) -> Answer:
        return self.call(path, by=by, method="GET", key=None, **options)

    def issued(self, *orders: dict[str, Any]) -> tuple[str, str]:
        created = self.call("/Task/$create", bundle(*(orders or (self.order(),))))
        assert created.status == 201
        id = created.resources("Task")[0]["id"]
        prepared = self.call(f"/Task/{id}/$prepare", key=None)
        content = base64.b64decode(prepared.told("content")).decode()
        signed = self.call(f"/Task/{id}/$activate", provenance(content, at=datetime.now(UTC)))
        assert signed.status == 200
        return id, created.told("accessCode")

    def order(self, **changes: Any) -> dict[str, Any]:
        today = paris_day(datetime.now(UTC)).isoformat()
        return medication_request(self.region.patient, authoredOn=today, **changes)


def parameters(**values: Any) -> dict[str, Any]:
    kinds = {bool: "valueBoolean", int: "valuePositiveInt", str: "valueString", dict: "resource"}
    named = {"reason": "valueCode", "outcome": "valueCode"}
    parts = [{"name": name, named.get(name, kinds[type(value)]): value} for name, value in values.items()]
    return {"resourceType": "Parameters", "parameter": parts}


def supply(secret: str, units: float) -> dict[str, Any]:
    dispense = example("medication-dispense.json")
    return parameters(secret=secret, dispense={**dispense, "quantity": {"value": units, "unit": "comprimé"}})
