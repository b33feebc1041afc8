"""Registered systems on DynamoDB.

    operations  C#<client id>                      C   client: rights, public keys, revoked tokens; its patient, sealed
    operations  A#<identifier domain>              A   assigning authority: the organisation whose clients feed it
    operations  J#<client id>#<sha256 of the jti>  J   assertion seen: ttl when it expires
    operations  T#<sha256 of its URL>              T   trusted issuer: its keys, whom it may speak for
    operations  B#<sha256 of kind and id>          B   barred party: a professional or an organisation shut out

One call gives all that a request needs of its client: the ids of revoked tokens are kept with it until the
tokens would have expired, and a token lives for five minutes (one of a trusted issuer for an hour at most).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from passerelle.access import Scopes
from passerelle.authorization.model import Client, Issuer, Party, ReplayedAssertionError
from passerelle.authorization.ports import Known
from passerelle.authorization.secrets import MAX_LIVE, Secret
from passerelle.aws.dynamodb import DynamoDb, Item, Key, delete, put, put_if, update
from passerelle.aws.journal import TableNames
from passerelle.aws.keys import sealed_with, unsealed_with
from passerelle.aws.sealing import Sealer
from passerelle.directory.model import Role
from passerelle.errors import Conflict, NotFound

_FORGOTTEN_AT_ONCE: Final = 50  # an update expression has at most 4 kB


class DynamoClients:
    """`authorization.ports.Clients`, `patients.ports.Domains`, and the registration of clients."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._table = tables.operations
        self._tables = tables

    def find(self, client_id: str) -> Client | None:
        item = self._dynamodb.get(self._table, (f"C#{client_id}", "C"))
        return client_from_item(item, self._tables) if item else None

    def look_up(self, client_id: str, *, parties: Sequence[Party] = (), issuer: str | None = None) -> Known:
        of_client, of_issuer = (f"C#{client_id}", "C"), _issuer_key(issuer) if issuer is not None else None
        of_parties = {_party_key(each): each for each in parties}
        keys = [of_client, *of_parties, *([of_issuer] if of_issuer else [])]
        found = self._dynamodb.get_many(self._table, keys)
        return Known(
            client=client_from_item(found[of_client], self._tables) if of_client in found else None,
            issuer=issuer_from_item(found[of_issuer]) if of_issuer in found else None,
            barred=frozenset(party for key, party in of_parties.items() if key in found),
        )

    def register(self, client: Client) -> None:
        """Add a client, or replace its registration; raises Conflict if another organisation feeds its domain."""
        actions = [put(self._table, client_to_item(client, self._tables))]
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
        self._set(client_id, "active", False)

    def activate(self, client_id: str) -> None:
        """Let a client in again. Raises NotFound."""
        self._set(client_id, "active", True)

    def revoke(self, client_id: str, token_id: str, *, expires_at: datetime, at: datetime) -> None:
        """Make one token void at once, and forget those that would have expired. Raises NotFound."""
        item = self._dynamodb.get(self._table, (f"C#{client_id}", "C"))
        if item is None:
            raise _unknown({})
        # By name, without a condition: of revocations at the same moment none is lost, and none has to repeat.
        over = [token for token, until in item["revoked"].items() if until <= at.timestamp()][:_FORGOTTEN_AT_ONCE]
        names = {f"#t{number}": token for number, token in enumerate([token_id, *(t for t in over if t != token_id)])}
        removed = ", ".join(f"revoked.{name}" for name in list(names)[1:])
        self._dynamodb.write(
            update(
                self._table,
                (f"C#{client_id}", "C"),
                f"SET revoked.#t0 = :until {'REMOVE ' + removed if removed else ''}",
                {":until": int(expires_at.timestamp())},
                condition="attribute_exists(PK)",
                names=names,
                lost=_unknown,
            )
        )

    def add_secret(self, client_id: str, secret: Secret, *, old_until: datetime, at: datetime) -> None:
        """Give a client another secret; those it has are good until `old_until`, at most, and one of them at all.

        Raises NotFound, or Conflict if the secrets changed meanwhile.
        """
        item = self._dynamodb.get(self._table, (f"C#{client_id}", "C"))
        if item is None:
            raise _unknown({})
        end = int(old_until.timestamp())
        kept = [
            {**each, "expires_at": min(end, each["expires_at"] or end)}
            for each in item.get("secrets", [])
            if _secret(each).is_live(at)
        ][: MAX_LIVE - 1]
        self._dynamodb.write(
            update(
                self._table,
                (f"C#{client_id}", "C"),
                "SET secrets = :new",
                {":new": [_secret_to_map(secret), *kept], ":read": item.get("secrets", [])},
                condition="attribute_exists(PK) AND (attribute_not_exists(secrets) OR secrets = :read)",
                lost=_overtaken,
            )
        )

    def drop_secrets(self, client_id: str) -> None:
        """End every secret of a client at once. Raises NotFound."""
        self._set(client_id, "secrets", [])

    def trust(self, issuer: Issuer) -> None:
        """Take the tokens of an issuer, or replace what is known of it."""
        self._dynamodb.write(put(self._table, issuer_to_item(issuer)))

    def distrust(self, url: str) -> None:
        """Take no token of an issuer any more, from the next request on."""
        self._dynamodb.write(delete(self._table, _issuer_key(url)))

    def bar(self, party: Party, *, at: datetime) -> None:
        """Shut a professional or an organisation out, whichever client acts for it, from the next request on."""
        pk, sk = _party_key(party)
        self._dynamodb.write(put(self._table, {"PK": pk, "SK": sk, "since": at.isoformat()}))

    def readmit(self, party: Party) -> None:
        self._dynamodb.write(delete(self._table, _party_key(party)))

    def _set(self, client_id: str, name: str, value: object) -> None:
        self._dynamodb.write(
            update(
                self._table,
                (f"C#{client_id}", "C"),
                f"SET {name} = :value",
                {":value": value},
                condition="attribute_exists(PK)",
                lost=_unknown,
            )
        )

    def remember_assertion(self, client_id: str, assertion_id: str, *, until: datetime) -> None:
        digest = hashlib.sha256(assertion_id.encode()).hexdigest()
        item = {"PK": f"J#{client_id}#{digest}", "SK": "J", "ttl": int(until.timestamp())}
        self._dynamodb.write(put(self._table, item, unless_exists=_replayed))


def _issuer_key(url: str) -> Key:
    return f"T#{hashlib.sha256(url.encode()).hexdigest()}", "T"


def _party_key(party: Party) -> Key:
    """Item keys show in logs and metrics: a hash tells no name there."""
    return f"B#{hashlib.sha256(f'{party.kind}|{party.id}'.encode()).hexdigest()}", "B"


def _replayed(_: Item) -> Exception:
    return ReplayedAssertionError("assertion used before")


def _claimed(_: Item) -> Exception:
    return Conflict("another organisation feeds this identifier domain")


def _unknown(_: Item) -> Exception:
    return NotFound("no such client")


def _overtaken(_: Item) -> Exception:
    return Conflict("the client changed meanwhile; repeat")


_PERSONAL: Final = frozenset({"patient"})


def _sealer(tables: TableNames) -> Sealer:
    """For the few clients that act for one patient alone."""
    return Sealer(tables.blinder().subkey("clients"))


def client_to_item(client: Client, tables: TableNames) -> Item:
    item = _client_attributes(client)
    return sealed_with(_sealer(tables), item, _PERSONAL) if client.patient else item


def _client_attributes(client: Client) -> Item:
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
        "secrets": [_secret_to_map(each) for each in client.secrets],
        "certificates": sorted(client.certificates),
        "purposes": list(client.purposes),
        "names_professionals": client.names_professionals,
        "introspects": client.introspects,
        "redirect_uris": list(client.redirect_uris),
        "providers": list(client.providers),
        "is_public": client.is_public,
    }


def client_from_item(item: Item, tables: TableNames) -> Client:
    if item["patient"]:
        item = unsealed_with(_sealer(tables), item, _PERSONAL)
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
        secrets=tuple(_secret(each) for each in item.get("secrets", ())),
        certificates=frozenset(item.get("certificates", ())),
        purposes=tuple(item.get("purposes", ())),
        names_professionals=item.get("names_professionals", False),
        introspects=item.get("introspects", False),
        redirect_uris=tuple(item.get("redirect_uris", ())),
        providers=tuple(item.get("providers", ())),
        is_public=item.get("is_public", False),
    )


def _secret(content: Mapping[str, Any]) -> Secret:
    return Secret(salt=content["salt"], digest=content["digest"], expires_at=content["expires_at"])


def _secret_to_map(secret: Secret) -> dict[str, Any]:
    return {"salt": secret.salt, "digest": secret.digest, "expires_at": secret.expires_at}


def issuer_to_item(issuer: Issuer) -> Item:
    pk, sk = _issuer_key(issuer.url)
    return {
        "PK": pk,
        "SK": sk,
        "url": issuer.url,
        "jwks": [dict(jwk) for jwk in issuer.jwks],
        "clients": sorted(issuer.clients),
        "roles": sorted(role.value for role in issuer.roles),
        "scope": str(issuer.scopes),
        "active": issuer.active,
    }


def issuer_from_item(item: Item) -> Issuer:
    return Issuer(
        url=item["url"],
        jwks=tuple(item["jwks"]),
        clients=frozenset(item["clients"]),
        roles=frozenset(Role(each) for each in item["roles"]),
        scopes=Scopes.parse(item["scope"]),
        active=item["active"],
    )
