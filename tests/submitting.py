"""Submissions of documents (ITI-65) that tests vary: good ones of every profile, each call a new one."""

from __future__ import annotations

import base64
import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from moto.dynamodb.models import dynamodb_backends

from local.gateway import Response
from local.region import PARTICIPANTS
from passerelle import wiring
from passerelle.fhir import xml as fhir_xml
from passerelle.fhir.lists import LIST_TYPES
from tests import examples
from tests.exchange import Client, Exchange

PROFILES: Mapping[str, str] = {
    "minimal": f"{examples.MHD}/IHE.MHD.Minimal.ProvideBundle",
    "uncontained": f"{examples.MHD}/IHE.MHD.UnContained.Comprehensive.ProvideBundle",
    "comprehensive": f"{examples.MHD}/IHE.MHD.Comprehensive.ProvideBundle",
    "pdsm": f"{examples.PDSM}/pdsm-comprehensive-provide-document-bundle",
}
_numbers = itertools.count(1)

Bundle = dict[str, Any]


def unique() -> str:
    """An identifier that no document has."""
    return f"urn:oid:2.999.1.65.{next(_numbers)}"


def urn(number: int) -> str:
    return f"urn:uuid:65656565-0000-4000-8000-{number:012d}"


def submission(
    subject: str | Mapping[str, Any],
    profile: str = "comprehensive",
    *,
    contents: Sequence[bytes] = (examples.CDA,),
    **document: Any,
) -> Bundle:
    """A SubmissionSet, then a DocumentReference and its Binary for each content; `document` changes all documents."""
    whom = {"reference": subject} if isinstance(subject, str) else dict(subject)
    entries: list[Bundle] = []
    made: list[Bundle] = []
    for number, content in enumerate(contents):
        template = examples.submission("Patient/x", content=content, unique=unique())["entry"]
        submission_set, reference, binary = (copy.deepcopy(entry) for entry in template)
        described = reference["resource"]
        described["subject"] = dict(whom)
        described["content"][0]["attachment"]["url"] = binary["fullUrl"] = urn(2 * number + 2)
        reference["fullUrl"] = urn(2 * number + 1)
        described.update(document)
        for name in [name for name, value in document.items() if value is None]:
            del described[name]
        made += [reference, binary]
        if not entries:
            entries.append(submission_set)
    listed = entries[0]["resource"]
    listed["subject"] = dict(whom)
    listed["identifier"] = [{"use": "usual", "system": "urn:ietf:rfc:3986", "value": unique()}]
    listed["entry"] = [{"item": {"reference": entry["fullUrl"]}} for entry in made[::2]]
    entries[0]["fullUrl"] = urn(0)
    return {
        "resourceType": "Bundle",
        "meta": {"profile": [PROFILES[profile]]},
        "type": "transaction",
        "entry": [*entries, *made],
    }


def with_entries(bundle: Bundle, *entries: Mapping[str, Any]) -> Bundle:
    return {**bundle, "entry": [*bundle["entry"], *entries]}


def superseding(id: str, **request: str) -> Bundle:
    """The PATCH that goes with a replacement."""
    parts = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": "DocumentReference.status"},
        {"name": "value", "valueCode": "superseded"},
    ]
    patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
    url = id if "?" in id else f"DocumentReference/{id}"
    return {"fullUrl": urn(900), "resource": patch, "request": {"method": "PATCH", "url": url, **request}}


def related(code: str, id: str) -> list[Bundle]:
    return [{"code": code, "target": {"reference": f"DocumentReference/{id}"}}]


def replacement(subject: str, id: str, profile: str = "comprehensive", **options: Any) -> Bundle:
    bundle = submission(subject, profile, relatesTo=related("replaces", id), **options)
    return with_entries(bundle, superseding(id))


def folder(subject: str, *items: str) -> Bundle:
    return {
        "resourceType": "List",
        "extension": [
            {"url": f"{examples.MHD}/ihe-designationType", "valueCodeableConcept": {"coding": [{"code": "11"}]}}
        ],
        "identifier": [{"use": "usual", "system": "urn:ietf:rfc:3986", "value": unique()}],
        "status": "current",
        "mode": "working",
        "title": "Suivi",
        "code": {"coding": [{"system": LIST_TYPES, "code": "folder"}]},
        "subject": {"reference": subject},
        "entry": [{"item": {"reference": item}} for item in items],
    }


def posted(resource: Mapping[str, Any], number: int = 901) -> Bundle:
    return {
        "fullUrl": urn(number),
        "resource": dict(resource),
        "request": {"method": "POST", "url": resource["resourceType"]},
    }


def submit(client: Client, bundle: Mapping[str, Any], **headers: str) -> list[Bundle]:
    """The entries of the answer to a submission that is accepted."""
    answer = client.post("", bundle, **headers)
    assert answer.status == 200, answer.body
    assert answer.json["type"] == "transaction-response"
    assert len(answer.json["entry"]) == len(bundle["entry"])
    return list(answer.json["entry"])


def submit_xml(client: Client, bundle: Mapping[str, Any]) -> list[Bundle]:
    media = "application/fhir+xml"
    answer = client.request("POST", "", fhir_xml.dumps(bundle), Content_Type=media, Accept=media)
    assert answer.status == 200, answer.body
    return list(fhir_xml.loads(answer.body)["entry"])


def place(entry: Mapping[str, Any]) -> str:
    return str(entry["response"]["location"]).partition("/_history")[0]


def statuses(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(entry["response"]["status"])[:3] for entry in entries]


def publish(client: Client, subject: str, profile: str = "comprehensive", **options: Any) -> str:
    """The id of a document that is submitted."""
    answered = submit(client, submission(subject, profile, **options))
    return place(answered[1]).partition("/")[2]


def warnings(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    issues = entry["response"].get("outcome", {}).get("issue", [])
    assert {issue["severity"] for issue in issues} <= {"warning"}
    return [(issue["code"], issue["diagnostics"]) for issue in issues]


def refusal(answer: Response) -> tuple[int, list[str]]:
    return answer.status, [issue["code"] for issue in answer.json["issue"]]


def stored(client: Client) -> int:
    """How many items the record has, those about aborted commits left out: straight from the emulator."""
    stack = client.exchange.stack
    table = dynamodb_backends[stack.account][stack.region].tables[stack.environment["CLINICAL_TABLE"]]
    return sum(len(items) for key, items in table.items.items() if not key.value.startswith("X#"))


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def document_of(client: Client, answered: list[Bundle], at: int = 1) -> Any:
    return client.get(place(answered[at])).json


def content_of(client: Client, document: Mapping[str, Any]) -> Any:
    url = document["content"][0]["attachment"]["url"]
    return client.get(url.partition("/fhir/")[2], Accept="*/*")


def changed(bundle: Bundle, path: str, value: Any) -> Bundle:
    """The same with one element set, or (None) left out; a path like `1.status`, from the resource of an entry."""
    bundle = copy.deepcopy(bundle)
    number, *names = path.split(".")
    holder: Any = bundle["entry"][int(number)]["resource"]
    for name in names[:-1]:
        holder = holder[int(name)] if isinstance(holder, list) else holder[name]
    last: Any = int(names[-1]) if isinstance(holder, list) else names[-1]
    if value is None:
        del holder[last]
    else:
        holder[last] = value
    return bundle


def nothing_stored(client: Client, bundle: Bundle) -> tuple[int, list[str]]:
    before = stored(client)
    answer = client.post("", bundle)
    assert stored(client) == before
    return refusal(answer)


def label(code: str | None) -> Bundle:
    confidentiality = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "N"}
    system = "https://mos.esante.gouv.fr/NOS/TRE_A07-StatutVisibiliteDocument/FHIR/TRE-A07-StatutVisibiliteDocument"
    return {"coding": [{"system": system, "code": code} if code else confidentiality]}


def feeder(exchange: Exchange, scope: str) -> Client:
    """A laboratory that may feed the national record."""
    registered = next(each for each in PARTICIPANTS if each.id == "laboratory")
    client = wiring.clients().find("laboratory")
    assert client is not None
    scopes = type(client.scopes).parse(f"{registered.scopes} TD2 TD2.1")
    wiring.clients().register(replace(client, scopes=scopes))
    return exchange.client("laboratory", scope)
