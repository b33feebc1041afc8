"""Messages of the patient feed for tests: sent by hospital A, about people whom nobody knows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date, timedelta
from itertools import count
from typing import Any

from passerelle.fhir import pmir
from passerelle.fhir.validation import validate
from tests import examples
from tests.exchange import Exchange

FEED_PATH = "$process-message"
_locals = count(100_001)


def message(*entries: Mapping[str, Any], event: str = pmir.FEED, id: str = "m1") -> dict[str, Any]:
    header = {
        "resourceType": "MessageHeader",
        "id": id,
        "eventUri": event,
        "source": {"endpoint": "https://hospital.example/feed"},
        "destination": [{"endpoint": "https://exchange.example/fhir/$process-message"}],
        "focus": [{"reference": "Bundle/h1"}],
    }
    history = {"resourceType": "Bundle", "id": "h1", "type": "history", "entry": list(entries)}
    return {
        "resourceType": "Bundle",
        "type": "message",
        "entry": [
            {"fullUrl": f"https://hospital.example/fhir/MessageHeader/{id}", "resource": header},
            {"fullUrl": "https://hospital.example/fhir/Bundle/h1", "resource": history},
        ],
    }


def entry(method: str, url: str, resource: Any = None, **more: Any) -> dict[str, Any]:
    held = {"resource": resource} if resource else {}
    return {**held, "request": {"method": method, "url": url}, "response": {"status": "200"}, **more}


def newcomer(**changes: Any) -> tuple[str, dict[str, Any]]:
    """Somebody like nobody else: local identifier, Patient of hospital A."""
    local = str(next(_locals))
    digest = hashlib.sha256(local.encode()).digest()
    name = "".join(chr(ord("A") + byte % 26) for byte in digest[:16])
    born = date(1930, 1, 1) + timedelta(days=int.from_bytes(digest[16:20], "big") % 30_000)
    patient = {
        "resourceType": "Patient",
        "identifier": [{"system": examples.DOMAIN, "value": local}],
        "active": True,
        "name": [{"use": "official", "family": name[:8], "given": [name[8:]]}],
        "gender": "female",
        "birthDate": born.isoformat(),
    }
    return local, {**patient, **changes}


def told(answer: Any) -> list[Mapping[str, Any]]:
    """The responses of the entries of an answer to a message."""
    assert answer.status == 200, answer.body
    body = answer.json
    validate(body, expected_type="Bundle")
    kinds = [each["resource"]["resourceType"] for each in body["entry"]]
    assert (body["type"], kinds) == ("message", ["MessageHeader", "Bundle"])
    return [each["response"] for each in body["entry"][1]["resource"]["entry"]]


def code(answer: Any) -> str:
    header = answer.json["entry"][0]["resource"]
    assert header["eventUri"] == f"{pmir.FEED}-response"
    assert header["response"]["identifier"] == "m1"
    return str(header["response"]["code"])


def fed(exchange: Exchange, *entries: Mapping[str, Any], **headers: str) -> Any:
    return exchange.client("hospital-a").post(FEED_PATH, message(*entries), **headers)


def key_of(response: Mapping[str, Any]) -> str:
    return str(response["location"].split("/")[1])


def registered(exchange: Exchange, **changes: Any) -> tuple[str, str, dict[str, Any]]:
    """A newcomer that a message brought: patient key, local identifier, Patient."""
    local, patient = newcomer(**changes)
    (response,) = told(fed(exchange, entry("POST", "Patient", patient)))
    assert response["status"].startswith("201"), response
    return key_of(response), local, patient


def replaced_by(survivor: Mapping[str, Any]) -> dict[str, Any]:
    return {"active": False, "link": [{"type": "replaced-by", "other": survivor}]}
