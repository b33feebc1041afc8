"""Temporary links on DynamoDB.

    clinical  LK#<sha256 of the token>   LK          the link: document, issuer, terms, how often it was opened; ttl
    clinical  LD#<document id>           <link id>   the links of a document: digest; ttl

The token itself is nowhere. What an issuer wrote in words (reason, recipient) is sealed under the data key of the
record (`keys.py`), and bound to its link.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from passerelle.aws.dynamodb import Action, DynamoDb, Item, put, update
from passerelle.aws.journal import TableNames, actions_of
from passerelle.aws.keys import DataKeys, opened
from passerelle.aws.sealing import Sealer
from passerelle.documents.links import (
    KEPT,
    MAX_LINKS,
    Link,
    LinkCreation,
    LinkOpening,
    LinkRevocation,
    LinkSpentError,
    Terms,
)
from passerelle.errors import Fault


class DynamoLinks:
    """`documents.links.Links`. Whoever opens a link reads no words of it."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._table = tables.clinical
        self._keyring = tables.keyring

    def find(self, digest: str) -> Link | None:
        item = self._dynamodb.get(self._table, _key(digest))
        return link_from_item(item) if item else None

    def count(self, document: str) -> int:
        return len(self._named(document))

    def of_document(self, document: str) -> Sequence[Link]:
        keys = [_key(item["digest"]) for item in self._named(document)]
        items = self._dynamodb.get_many(self._table, keys)
        return [link_from_item(items[key], self._keyring()) for key in keys if key in items]

    def _named(self, document: str) -> Sequence[Item]:
        return self._dynamodb.query(self._table, f"LD#{document}", limit=2 * MAX_LINKS)[0]


def sealer_of(tables: TableNames) -> Sealer:
    """What seals the token of a kept answer, which is sealed as all answers are besides."""
    return Sealer(tables.blinder().subkey("links"))


def _key(digest: str) -> tuple[str, str]:
    return f"LK#{digest}", "LK"


@actions_of.register
def _(change: LinkCreation, tables: TableNames) -> Sequence[Action]:
    link = change.link
    ttl = int((link.terms.expires_at + KEPT).timestamp())
    pointer = {"PK": f"LD#{link.document}", "SK": link.id, "digest": link.digest, "ttl": ttl}
    item = {**link_to_item(link, tables.keyring()), "ttl": ttl}
    return [put(tables.clinical, item, unless_exists=lambda _: Fault()), put(tables.clinical, pointer)]


@actions_of.register
def _(change: LinkRevocation, tables: TableNames) -> Sequence[Action]:
    return [
        update(
            tables.clinical,
            _key(change.link.digest),
            "SET revoked_at = if_not_exists(revoked_at, :at)",
            {":at": change.at.isoformat()},
            condition="attribute_exists(PK)",
        )
    ]


@actions_of.register
def _(change: LinkOpening, tables: TableNames) -> Sequence[Action]:
    return [
        update(
            tables.clinical,
            _key(change.digest),
            "SET opens = opens + :one, last_opened_at = :at",
            {":one": 1, ":at": change.at.isoformat(), ":now": _moment(change.at)},
            condition="attribute_not_exists(revoked_at) AND opens < uses AND expires > :now",
            lost=lambda _: LinkSpentError(),
        )
    ]


def link_to_item(link: Link, keys: DataKeys) -> Item:
    words = json.dumps({"reason": link.terms.reason, "recipient": link.terms.recipient}).encode()
    pk, sk = _key(link.digest)
    return {
        "PK": pk,
        "SK": sk,
        "id": link.id,
        "document": link.document,
        "patient": link.patient,
        "client_id": link.client_id,
        "organisation": link.organisation,
        "professional": link.professional,
        "role": link.role,
        "profession": link.profession,
        "purpose": link.terms.purpose,
        "words": keys.sealer(link.patient).seal(words, _words_of(link.id)),
        "uses": link.terms.uses,
        "expires": _moment(link.terms.expires_at),
        "issued_at": link.issued_at.isoformat(),
        "opens": link.opens,
    }


def _words_of(id: str) -> str:
    return f"link {id}"


def link_from_item(item: Item, keys: DataKeys | None = None) -> Link:
    """A link as stored; without keys, or once they are destroyed, without its words."""
    plain = opened(keys.find(item["patient"]), item["words"], _words_of(item["id"])) if keys else None
    words = json.loads(plain) if plain else {}
    return Link(
        id=item["id"],
        digest=item["PK"].removeprefix("LK#"),
        document=item["document"],
        patient=item["patient"],
        client_id=item["client_id"],
        organisation=item["organisation"],
        professional=item["professional"],
        role=item["role"],
        profession=item["profession"],
        terms=Terms(
            purpose=item["purpose"],
            expires_at=datetime.fromisoformat(item["expires"]),
            uses=item["uses"],
            reason=words.get("reason", ""),
            recipient=words.get("recipient", ""),
        ),
        issued_at=datetime.fromisoformat(item["issued_at"]),
        opens=item["opens"],
        last_opened_at=_at(item.get("last_opened_at")),
        revoked_at=_at(item.get("revoked_at")),
    )


def _moment(at: datetime) -> str:
    """An instant that sorts as text."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def _at(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
