"""Registered systems on DynamoDB.

    operations  C#<client id>                      C   client: rights, public keys, revoked tokens
    operations  A#<identifier domain>              A   assigning authority: the organisation whose clients feed it
    operations  J#<client id>#<sha256 of the jti>  J   assertion seen: ttl when it expires

One read gives all that a request needs of its client: the ids of revoked tokens are kept with it until the
tokens would have expired, and a token lives for five minutes.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from passerelle.access import Scopes
from passerelle.authorization.model import Client, ReplayedAssertionError
from passerelle.aws.dynamodb import DynamoDb, Item, put, put_if, update
from passerelle.aws.journal import TableNames
from passerelle.directory.model import Role
from passerelle.errors import Conflict, NotFound


class DynamoClients:
    """`authorization.ports.Clients`, `patients.ports.Domains`, and the registration of clients."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._table = tables.operations

    def find(self, client_id: str) -> Client | None:
        item = self._dynamodb.get(self._table, (f"C#{client_id}", "C"))
        return client_from_item(item) if item else None

    def register(self, client: Client) -> None:
        """Add a client, or replace its registration; raises Conflict if another organisation feeds its domain."""
        actions = [put(self._table, client_to_item(client))]
        if client.domain:
            authority = {"PK": f"A#{client.domain}", "SK": "A", "organisation": client.organisation}
            values = {":organisation": client.organisation}
            condition = "attribute_not_exists(PK) OR organisation = :organisation"
            actions.append(put_if(self._table, authority, condition, values, _claimed))
        self._dynamodb.transact(actions)

    def find_authority(self, system: str) -> str | None:
        """`patients.ports.Domains`"""
        item = self._dynamodb.get(self._table, (f"A#{system}", "A"))
        return item["organisation"] if item else None

    def deactivate(self, client_id: str) -> None:
        """Stop a client at once: no new token, and the tokens it holds are refused. Raises NotFound."""
        self._dynamodb.write(
            update(
                self._table,
                (f"C#{client_id}", "C"),
                "SET active = :no",
                {":no": False},
                condition="attribute_exists(PK)",
                lost=_unknown,
            )
        )

    def revoke(self, client_id: str, token_id: str, *, expires_at: datetime, at: datetime) -> None:
        """Make one token void at once. Raises NotFound, or Conflict if another was revoked meanwhile."""
        item = self._dynamodb.get(self._table, (f"C#{client_id}", "C"))
        if item is None:
            raise _unknown({})
        still_alive = {token: until for token, until in item["revoked"].items() if until > at.timestamp()}
        self._dynamodb.write(
            update(
                self._table,
                (f"C#{client_id}", "C"),
                "SET revoked = :new",
                {":new": {**still_alive, token_id: int(expires_at.timestamp())}, ":read": item["revoked"]},
                condition="revoked = :read",
                lost=_overtaken,
            )
        )

    def remember_assertion(self, client_id: str, assertion_id: str, *, until: datetime) -> None:
        digest = hashlib.sha256(assertion_id.encode()).hexdigest()
        item = {"PK": f"J#{client_id}#{digest}", "SK": "J", "ttl": int(until.timestamp())}
        self._dynamodb.write(put(self._table, item, unless_exists=_replayed))


def _replayed(_: Item) -> Exception:
    return ReplayedAssertionError("assertion used before")


def _claimed(_: Item) -> Exception:
    return Conflict("another organisation feeds this identifier domain")


def _unknown(_: Item) -> Exception:
    return NotFound("no such client")


def _overtaken(_: Item) -> Exception:
    return Conflict("the client changed meanwhile; repeat")


def client_to_item(client: Client) -> Item:
    return {
        "PK": f"C#{client.id}",
        "SK": "C",
        "organisation": client.organisation,
        "role": client.role.value,
        "scope": str(client.scopes),
        "jwks": [dict(jwk) for jwk in client.jwks],
        "domain": client.domain,
        "professional": client.professional,
        "patient": client.patient,
        "jwks_url": client.jwks_url,
        "active": client.active,
        "revoked": dict(client.revoked),
    }


def client_from_item(item: Item) -> Client:
    return Client(
        id=item["PK"].removeprefix("C#"),
        organisation=item["organisation"],
        role=Role(item["role"]),
        scopes=Scopes.parse(item["scope"]),
        jwks=tuple(item["jwks"]),
        domain=item["domain"],
        professional=item["professional"],
        patient=item["patient"],
        jwks_url=item["jwks_url"],
        active=item["active"],
        revoked=item["revoked"],
    )
