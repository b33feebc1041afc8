"""The history of a prescription as a Bundle that proves itself (e-prescription contract, section 18).

    Parameters    origin, head, events (how many), unbroken; accesses: complete, or recent where there are more
    Provenance*   one for each change, oldest first, with the extension rx-event
    Binary, Provenance   what was signed, and the signature; not for auditors
    AuditEvent*   every access that the caller may read in the log, oldest first, each with a proof of its own

StructureDefinition/rx-event holds `number`, `previous`, `event` (base64 of what is hashed: RFC 8785 JSON), `hash` and
`disclosure` (base64 of who acted, whose SHA-256 is the `actor` of the event), the last unless it is masked.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from passerelle.access import Touched
from passerelle.audit.service import AuditPage
from passerelle.directory.model import Role
from passerelle.fhir.audit_event import render_entry
from passerelle.fhir.prescriptions.elements import concept, extension, organisation
from passerelle.fhir.prescriptions.orders import RPPS
from passerelle.fhir.prescriptions.tasks import signed_entries
from passerelle.prescriptions import history
from passerelle.prescriptions.commands import line_task_id
from passerelle.prescriptions.model import Chain, HistoryEvent

Json = Mapping[str, Any]

_MASKED = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked"}


def render_history(chain: Chain, accesses: AuditPage, *, with_content: bool) -> Json:
    group = chain.group
    task = f"Task/{group.id}"
    told: list[Json] = [
        {"name": "prescription", "valueReference": {"reference": task}},
        {"name": "origin", "valueString": history.ORIGIN},
        {"name": "head", "valueString": group.head},
        {"name": "events", "valueInteger": group.events},
        {"name": "unbroken", "valueBoolean": chain.is_unbroken},
        {"name": "accesses", "valueCode": "recent" if accesses.following else "complete"},
    ]
    entries: list[Json] = [{"resource": {"resourceType": "Parameters", "parameter": told}}]
    entries += [{"fullUrl": _url(chain, each), "resource": _change(chain, each)} for each in chain.events]
    if with_content:
        entries += signed_entries(group)
    for entry in reversed(accesses.entries):
        event = render_entry(entry, group.base_url)
        entries.append({"fullUrl": f"{group.base_url}/AuditEvent/{event['id']}", "resource": event})
    log = urlencode({"patient": f"Patient/{group.patient}", "entity": task})
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "link": [{"relation": "related", "url": f"{group.base_url}/AuditEvent?{log}"}],
        "entry": entries,
    }


def disclosed(chain: Chain, accesses: AuditPage) -> Touched:
    """What the answer tells of, with the head that it told."""
    task = f"Task/{chain.group.id}"
    head = base64.b64encode(bytes.fromhex(chain.group.head)).decode()
    events = [f"AuditEvent/{each.id}" for each in accesses.entries]
    return Touched.of([chain.group.patient], [task, *events], [(task, head)])


def _change(chain: Chain, event: HistoryEvent) -> Json:
    group = chain.group
    lines = dict.fromkeys(int(number) for move in event.moves if (number := move.partition(":")[0]).isdigit())
    proof: dict[str, Json] = {
        "number": {"valuePositiveInt": event.number},
        "previous": {"valueString": event.previous},
        "event": {"valueBase64Binary": _base64(history.canonical(event))},
        "hash": {"valueString": event.hash},
    }
    if event.number not in chain.masked:
        proof["disclosure"] = {"valueBase64Binary": _base64(history.disclosure(event))}
    tasks = [group.id, *(line_task_id(group.id, number) for number in lines)]
    return {
        "resourceType": "Provenance",
        "extension": [extension(group, "rx-event", proof)],
        "target": [{"reference": f"Task/{each}"} for each in tasks],
        "occurredDateTime": event.at,
        "recorded": event.at,
        "activity": concept(group, "rx-operation", event.operation.removeprefix("$")),
        "agent": [_agent(chain, event)],
    }


def _agent(chain: Chain, event: HistoryEvent) -> Json:
    role = [concept(chain.group, "rx-role", event.role)]
    if event.number in chain.masked:
        return {"role": role, "who": {"extension": [_MASKED]}}
    if event.role == Role.PATIENT:
        return {"role": role, "who": {"reference": f"Patient/{chain.group.patient}"}}
    if event.professional is None:
        return {"role": role, "who": organisation(event.organisation)}
    who = {"identifier": {"system": RPPS, "value": event.professional}}
    return {"role": role, "who": who, "onBehalfOf": organisation(event.organisation)}


def _url(chain: Chain, event: HistoryEvent) -> str:
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{chain.group.id}#{event.number}").urn


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
