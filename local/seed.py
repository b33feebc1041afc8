"""The synthetic region, brought into an exchange: clients by their registration, everything else over HTTP.

Idempotent: registering the same people again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from local.exchange import Credentials, ExchangeClient, new_key, public
from local.portals import PORTALS
from local.region import IDNPS, IDNST, PARTICIPANTS, Participant, organisation, people, practitioner
from passerelle.access import Scopes
from passerelle.authorization.model import Client
from passerelle.directory.model import Role

Register = Callable[[Client], None]
Progress = Callable[[str], None]


class SeedError(Exception):
    """The exchange refused a part of the synthetic region."""


def seed(url: str, credentials: Credentials, register: Register, progress: Progress) -> None:
    """Register the clients, then publish the organisations, the professionals and the people."""
    keys = register_clients(credentials, register)
    feeder = PARTICIPANTS[0]
    client = ExchangeClient(url, feeder.id, keys[feeder.id], scope=feeder.scopes)
    progress("organisations and professionals")
    _expect(client.request("POST", "", json=directory()))
    for local, patient in people(str(feeder.domain)):
        progress(f"person {local}")
        _expect(client.request("PUT", f"Patient?identifier={feeder.domain}|{local}", json=patient))


def register_clients(credentials: Credentials, register: Register) -> Mapping[str, Mapping[str, Any]]:
    """Register every participant with a key of its own, made once; returns the private keys."""
    keys = credentials.keys()
    for participant in PARTICIPANTS:
        if participant.id not in keys:
            keys[participant.id] = new_key("RSA" if participant.role == "laboratory" else "EC")
    credentials.save(keys)
    for participant in PARTICIPANTS:
        register(_client(participant, keys[participant.id]))
    for portal in PORTALS:
        register(portal)
    return keys


def _client(participant: Participant, key: Mapping[str, Any]) -> Client:
    return Client(
        id=participant.id,
        organisation=participant.organisation,
        role=Role(participant.role),
        scopes=Scopes.parse(participant.scopes),
        jwks=[public(key)],
        domain=participant.domain,
        professional=participant.professional,
        patient=participant.patient,
    )


def directory() -> dict[str, Any]:
    """A transaction of the organisations and professionals that take part in care."""
    care = [participant for participant in PARTICIPANTS if participant.rpps]
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            *(_conditional(organisation(each), f"{IDNST}|{each.organisation}") for each in care),
            *(_conditional(practitioner(each), f"{IDNPS}|{each.professional}") for each in care),
        ],
    }


def _conditional(resource: dict[str, Any], identifier: str) -> dict[str, Any]:
    kind = resource["resourceType"]
    request = {"method": "POST", "url": kind, "ifNoneExist": f"identifier={identifier}"}
    return {"resource": resource, "request": request}


def _expect(answer: Any) -> None:
    if answer.status_code not in (200, 201):
        raise SeedError(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:500]}")
