"""Documents for tests: clients of any role, one document published simply (ITI-105), patches of it."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from local.gateway import Response
from passerelle.consents.visibility import label_system
from tests import examples
from tests.exchange import KEYS, Client, Exchange

URI = "urn:ietf:rfc:3986"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ARCHIVED = "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition/pdsm-ext-is-archived"
ARCHIVE_PATH = f"/extension[url:'{ARCHIVED}']/valueBoolean"
JSON_PATCH = "application/json-patch+json"
AUTHOR, OTHER = "hospital-a", "practice"
_numbers = itertools.count(1)


def joined(
    exchange: Exchange,
    role: str,
    scope: str,
    *,
    patient: str | None = None,
    organisation: str = "1990000999",
    professional: str | None = None,
) -> Client:
    """A client that registers for this test alone."""
    from local.exchange import new_key, public
    from passerelle import wiring
    from passerelle.access import Scopes
    from passerelle.authorization.model import Client as Registration
    from passerelle.directory.model import Role

    id = f"{role}-{next(_numbers)}"
    key = KEYS[id] = new_key("EC")
    wiring.clients().register(
        Registration(
            id=id,
            organisation=organisation,
            role=Role(role),
            scopes=Scopes.parse(scope),
            jwks=[public(key)],
            patient=patient,
            professional=professional,
        )
    )
    return exchange.client(id, scope)


def unique() -> str:
    return f"urn:oid:2.999.1.78.{next(_numbers)}"


def document(reference: str, /, **changed: Any) -> dict[str, Any]:
    """A document as ITI-105 wants it at least; elements given as None are left out."""
    attachment = {"contentType": "application/xml", "data": base64.b64encode(examples.CDA).decode()}
    made = {
        "resourceType": "DocumentReference",
        "masterIdentifier": {"system": URI, "value": unique()},
        "status": "current",
        "subject": {"reference": reference},
        "content": [{"attachment": attachment}],
        **changed,
    }
    return {name: value for name, value in made.items() if value is not None}


def published(client: Client, key: str, *labels: str, **changed: Any) -> dict[str, Any]:
    """A document of this patient, as stored, with these labels."""
    told: dict[str, Any] = {"securityLabel": [label(each) for each in labels]} if labels else {}
    answer = client.post("DocumentReference", document(f"Patient/{key}", **told, **changed))
    assert answer.status == 201, answer.body
    return dict(answer.json)


def place(resource: Mapping[str, Any]) -> str:
    return f"DocumentReference/{resource['id']}"


def named(resource: Mapping[str, Any]) -> str:
    """The same by its business identifier, as PDSm has it."""
    master = resource["masterIdentifier"]
    return f"DocumentReference?identifier={master['system']}|{master['value']}"


def label(code: str) -> dict[str, Any]:
    system = CONFIDENTIALITY if code in tuple("ULMNRV") else label_system()
    return {"coding": [{"system": system, "code": code}]}


def labels(resource: Mapping[str, Any]) -> list[str]:
    return [coding["code"] for each in resource.get("securityLabel", []) for coding in each["coding"]]


def operation(op: str, path: str, value: Any = None, **more: Any) -> dict[str, Any]:
    return {"op": op, "path": path, **({} if value is None else {"value": value}), **more}


def relabel(code: str, op: str = "replace", path: str = "/securityLabel/0") -> list[dict[str, Any]]:
    """As the DMP draft masks and unmasks: by place."""
    return [operation(op, path, label(code))]


def fhirpath(type: str, path: str, **parts: Any) -> dict[str, Any]:
    """A FHIRPath Patch of one operation; `parts` are named values: `value={"valueCode": "current"}`."""
    given = [{"name": "type", "valueCode": type}, {"name": "path", "valueString": path}]
    given += [{"name": name, **value} for name, value in parts.items()]
    return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": given}]}


def patch(
    client: Client, where: str | Mapping[str, Any], change: Sequence[Any] | Mapping[str, Any] | bytes, **headers: str
) -> Response:
    """A list is a JSON Patch, a resource a FHIRPath Patch, unless `Content_Type` says otherwise."""
    path = where if isinstance(where, str) else place(where)
    sent = {"Content_Type": JSON_PATCH if isinstance(change, list) else "application/fhir+json", **headers}
    return client.request("PATCH", path, change, **sent)


def changed(client: Client, where: str | Mapping[str, Any], change: Any, **headers: str) -> dict[str, Any]:
    """What an accepted patch made."""
    answer = patch(client, where, change, **headers)
    assert answer.status == 200, answer.body
    return dict(answer.json)


def refusal(answer: Response) -> tuple[int, str]:
    return answer.status, answer.json["issue"][0]["code"]
