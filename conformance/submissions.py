"""What the kit sends: the files of examples/ with values of this run put in, and small changes of them."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import secrets
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, Final
from xml.sax.saxutils import quoteattr

from conformance.profile import Person

EXAMPLES: Final = Path(__file__).parent / "examples"
MHD: Final = "https://profiles.ihe.net/ITI/MHD/StructureDefinition"
PDSM: Final = "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition"
PROFILES: Final[Mapping[str, str]] = {
    "minimal": f"{MHD}/IHE.MHD.Minimal.ProvideBundle",
    "comprehensive": f"{MHD}/IHE.MHD.Comprehensive.ProvideBundle",
    "uncontained": f"{MHD}/IHE.MHD.UnContained.Comprehensive.ProvideBundle",
    "pdsm": f"{PDSM}/pdsm-comprehensive-provide-document-bundle",
}
SIMPLIFIED: Final = f"{PDSM}/pdsm-simplified-publish"
IDNPS: Final = "urn:oid:1.2.250.1.71.4.2.1"
URI: Final = "urn:ietf:rfc:3986"
CONFIDENTIALITY: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
A07: Final = "https://mos.esante.gouv.fr/NOS/TRE_A07-StatutVisibiliteDocument/FHIR/TRE-A07-StatutVisibiliteDocument"
ARCHIVED: Final = f"{PDSM}/pdsm-ext-is-archived"
LIST_TYPES: Final = "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes"

# The CDA of the published DMP examples: 80 bytes, SHA-1 A/hMRrv6Y15BjSM8kMLidrz+mHc=.
CDA: Final = b'<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3"/>'
CDA_HASH: Final = "A/hMRrv6Y15BjSM8kMLidrz+mHc="
PDF: Final = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]>>endobj\nxref\n0 4\n0000000000 65535 f \n"
    b"0000000009 00000 n \n"
    b"0000000054 00000 n \n0000000105 00000 n \ntrailer<</Size 4/Root 1 0 R>>\nstartxref\n168\n%%EOF\n"
)
EMPTY_HASH: Final = "2jmj7l5rSw0yVb/vlWAYkK/YBwk="

Resource = dict[str, Any]


def unique_id() -> str:
    """A unique identifier of a document or a submission, under the arc of UUIDs."""
    return f"urn:oid:2.25.{secrets.randbits(120)}"


def full_url() -> str:
    text = secrets.token_hex(16)
    return f"urn:uuid:{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}"


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sha1_of(data: bytes) -> str:
    """SHA-1 in base64, as Attachment.hash has it in FHIR R4."""
    return base64_of(hashlib.sha1(data, usedforsecurity=False).digest())


@cache
def _example(name: str) -> str:
    return (EXAMPLES / name).read_text("utf-8")


def from_json(name: str, **values: str) -> Resource:
    """An example; `$placeholders` stand for values, and those that get none stay."""
    escaped = {key: json.dumps(value, ensure_ascii=False)[1:-1] for key, value in values.items()}
    made: Resource = json.loads(Template(_example(name)).safe_substitute(escaped))
    return made


def from_xml(name: str, **values: str) -> bytes:
    escaped = {key: quoteattr(value, {'"': "&quot;"})[1:-1] for key, value in values.items()}
    return Template(_example(name)).substitute(escaped).encode()


def submission(
    person: Person,
    subject: str,
    *,
    level: str = "comprehensive",
    content: bytes = CDA,
    content_type: str = "application/xml",
    documents: int = 1,
) -> Resource:
    """A valid ITI-65 transaction under the profile of a level, with no more than minimal metadata if minimal."""
    bundle = _one(person, subject, content, content_type)
    for _ in range(documents - 1):
        other = _one(person, subject, content, content_type)
        bundle["entry"] += other["entry"][1:]
        the(bundle, "List")["entry"] += the(other, "List")["entry"]
    bundle["meta"]["profile"] = [PROFILES[level]]
    if level == "minimal":
        for entry in bundle["entry"]:
            _reduce(entry["resource"])
    if level == "uncontained":
        for entry in bundle["entry"]:
            uncontain(entry["resource"], subject)
    return bundle


def submission_xml(person: Person, subject: str, *, level: str = "comprehensive", content: bytes = CDA) -> bytes:
    return from_xml("submission.xml", profile=PROFILES[level], **_values(person, subject, content))


def _one(person: Person, subject: str, content: bytes, content_type: str) -> Resource:
    bundle = from_json("submission.json", **_values(person, subject, content))
    attachment = the(bundle, "DocumentReference")["content"][0]["attachment"]
    attachment |= {"contentType": content_type, "size": len(content)}
    the(bundle, "Binary")["contentType"] = content_type
    return bundle


def _values(person: Person, subject: str, content: bytes) -> dict[str, str]:
    return {
        "subject": subject,
        "unique": unique_id(),
        "set_id": unique_id(),
        "set_url": full_url(),
        "document_url": full_url(),
        "binary_url": full_url(),
        "data": base64_of(content),
        "size": str(len(content)),
        "hash": sha1_of(content),
        "ins_system": person.system,
        "ins_value": person.value,
    }


def _reduce(resource: Resource) -> None:
    """Leave what minimal metadata has."""
    if resource["resourceType"] == "List":
        for name in ("source", "contained", "title"):
            resource.pop(name, None)
        resource["extension"] = [each for each in resource["extension"] if each["url"].endswith("ihe-sourceId")]
    if resource["resourceType"] == "DocumentReference":
        kept = ("resourceType", "masterIdentifier", "status", "subject", "content")
        for name in [name for name in resource if name not in kept]:
            del resource[name]
        content = resource["content"][0]
        content.pop("format")
        content["attachment"] = {name: content["attachment"][name] for name in ("contentType", "url", "size", "hash")}


def uncontain(resource: Resource, subject: str) -> None:
    """Refer to people and organisations by identifier, instead of containing them."""
    if resource["resourceType"] not in ("List", "DocumentReference"):
        return
    resource.pop("contained", None)
    who = {"type": "Practitioner", "identifier": {"system": IDNPS, "value": "810000000011"}}
    if resource["resourceType"] == "List":
        resource["source"] = who
        return
    resource |= {"author": [who], "authenticator": who}
    resource.pop("custodian", None)
    resource["context"]["sourcePatientInfo"] = {"reference": subject}


def simplified(subject: str, *, content: bytes = CDA, content_type: str = "application/xml") -> Resource:
    """A DocumentReference for ITI-105."""
    made = from_json("document-reference.json", subject=subject, unique=unique_id(), data=base64_of(content))
    made["content"][0]["attachment"]["contentType"] = content_type
    return made


def cda(person: Person, unique: str | None = None) -> bytes:
    """A CDA R2 document of level 3 with a coded header of the French kind."""
    return from_xml(
        "document.xml",
        unique_oid=(unique or unique_id()).removeprefix("urn:oid:"),
        ins_oid=person.system.removeprefix("urn:oid:"),
        ins_value=person.value,
        family=str(person.traits.get("family", "SYNTHETIQUE")),
        given=str(person.traits.get("given", "Camille")).split(" ")[0],
    )


def fhir_document(person: Person) -> Resource:
    return from_json(
        "fhir-document.json",
        unique=unique_id(),
        ins_system=person.system,
        ins_value=person.value,
        family=str(person.traits.get("family", "SYNTHETIQUE")),
        given=str(person.traits.get("given", "Camille")),
    )


def the(bundle: Mapping[str, Any], kind: str) -> Resource:
    """The first resource of a type in a Bundle."""
    return next(each["resource"] for each in bundle["entry"] if each["resource"]["resourceType"] == kind)


def entry_of(bundle: Mapping[str, Any], kind: str) -> Resource:
    return next(each for each in bundle["entry"] if each["resource"]["resourceType"] == kind)


def attachment_of(resource: Mapping[str, Any]) -> Resource:
    return resource["content"][0]["attachment"]  # type: ignore[no-any-return]


def without(resource: Resource, path: str) -> Resource:
    """The same resource without the element at a dotted path, through the first of each list."""
    changed = copy.deepcopy(resource)
    *parents, last = path.split(".")
    here: Any = changed
    for name in parents:
        here = here[name]
        here = here[0] if isinstance(here, list) else here
    del here[last]
    return pruned(changed)


def pruned(resource: Resource) -> Resource:
    """The same resource without what it contains and nothing refers to any more (dom-3)."""
    if "contained" not in resource:
        return resource
    told = json.dumps(resource)
    kept = [each for each in resource["contained"] if f'"#{each["id"]}"' in told]
    return {name: value for name, value in resource.items() if name != "contained"} | (
        {"contained": kept} if kept else {}
    )


def replacing(bundle: Resource, target: str, *, patched: str | None = "") -> Resource:
    """The same submission, its document replacing `target` (`DocumentReference/…`).

    `patched` is what its PATCH entry supersedes: the target unless said otherwise, nothing if None.
    """
    the(bundle, "DocumentReference")["relatesTo"] = [{"code": "replaces", "target": {"reference": target}}]
    if patched is not None:
        resource = fhirpath_patch("replace", "DocumentReference.status", "valueCode", "superseded")
        bundle["entry"].append(
            {"fullUrl": full_url(), "resource": resource, "request": {"method": "PATCH", "url": patched or target}}
        )
    return bundle


def fhirpath_patch(
    type: str, path: str, kind: str | None = None, value: Any = None, name: str | None = None
) -> Resource:
    """A FHIRPath Patch of one operation."""
    part: list[Resource] = [{"name": "type", "valueCode": type}, {"name": "path", "valueString": path}]
    if name is not None:
        part.append({"name": "name", "valueString": name})
    if kind is not None:
        part.append({"name": "value", kind: value})
    return {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}]}


def label(code: str, system: str = A07) -> Resource:
    """A securityLabel."""
    return {"coding": [{"system": system, "code": code}]}


NORMAL: Final = label("N", CONFIDENTIALITY)


def folder(subject: str, *items: str) -> Resource:
    """A Folder List of these documents."""
    return {
        "resourceType": "List",
        "extension": [
            {
                "url": f"{MHD}/ihe-designationType",
                "valueCodeableConcept": {"coding": [{"system": "urn:oid:2.999.5", "code": "21"}]},
            }
        ],
        "identifier": [{"use": "usual", "system": URI, "value": unique_id()}],
        "status": "current",
        "mode": "working",
        "title": "Dossier de conformité",
        "code": {"coding": [{"system": LIST_TYPES, "code": "folder"}]},
        "subject": {"reference": subject},
        "date": "2026-06-12T10:00:00+02:00",
        "entry": [{"item": {"reference": each}} for each in items],
    }
