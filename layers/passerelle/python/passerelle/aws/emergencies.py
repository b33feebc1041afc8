"""The list of broken glasses on DynamoDB, as supervisors read it: by month, thirteen of them.

    operations   G#<yyyymm>   <ulid>   a use: whose record (patient key), who, why, until when; its review, sealed; ttl

Months are UTC, as in the ulid: the id of a use tells its key. The words of who broke the glass are not here
(`aws/patients.py`, `D#<ulid>`); those of who reviewed it are sealed under the key of the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from passerelle.audit.model import KEPT
from passerelle.aws.dynamodb import Action, DynamoDb, Item, Key, put, put_if
from passerelle.aws.journal import TableNames, actions_of
from passerelle.aws.keys import sealed, unsealed
from passerelle.errors import Fault
from passerelle.identifiers import split_resource_id, time_of
from passerelle.patients.emergencies import EmergencyReview, EmergencyUse, Review, Verdict, already_reviewed

_PAGE = 50
_WORDS = frozenset({"review"})


class DynamoEmergencyUses:
    """`patients.emergencies.EmergencyUses`."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._table = tables.operations
        self._keyring = tables.keyring

    def find(self, id: str) -> EmergencyUse | None:
        key = _key_of(id)
        item = self._dynamodb.get(self._table, key) if key else None
        return self._use(item) if item else None

    def _use(self, item: Item) -> EmergencyUse:
        return _use_from_item(unsealed(item, _WORDS, item["patient"], self._keyring()))

    def listed(self, *, since: datetime, until: datetime, before: str | None) -> Iterator[EmergencyUse]:
        latest = min(until, time_of(before)) if before else until
        for month in _months_back(since, latest):
            items = self._dynamodb.query_all(
                self._table, f"G#{month}", between=("0", before or "~"), descending=True, limit=_PAGE
            )
            for use in map(self._use, items):
                if use.at < since:
                    return
                if use.at < until and use.id != before:
                    yield use


def _key_of(id: str) -> Key | None:
    split = split_resource_id(id)
    if split is None or split[0] is not None:
        return None
    try:
        at = time_of(id)
    except OverflowError:
        return None
    return f"G#{at:%Y%m}", id


def _months_back(since: datetime, until: datetime) -> Iterator[str]:
    first = since.astimezone(UTC).date().replace(day=1)
    month = until.astimezone(UTC).date().replace(day=1)
    while month >= first:
        yield f"{month:%Y%m}"
        month = (month - timedelta(days=1)).replace(day=1)


def _use_to_item(use: EmergencyUse) -> Item:
    key = _key_of(use.id)
    if key is None:
        raise Fault()
    review = use.review
    return {
        "PK": key[0],
        "SK": key[1],
        "patient": use.patient,
        "at": use.at.isoformat(),
        "until": use.until.isoformat(),
        "professional": use.professional,
        "organisation": use.organisation,
        "client_id": use.client_id,
        "reason": use.reason,
        "ttl": int((use.at + KEPT).timestamp()),
        **(
            {
                "verdict": review.verdict.value,
                "review": review.text,
                "reviewed_at": review.at.isoformat(),
                "reviewed_by": review.by,
            }
            if review
            else {}
        ),
    }


def _use_from_item(item: Item) -> EmergencyUse:
    review = None
    if "verdict" in item:
        review = Review(
            verdict=Verdict(item["verdict"]),
            text=item.get("review", ""),
            at=datetime.fromisoformat(item["reviewed_at"]),
            by=item["reviewed_by"],
        )
    return EmergencyUse(
        id=item["SK"],
        patient=item["patient"],
        at=datetime.fromisoformat(item["at"]),
        until=datetime.fromisoformat(item["until"]),
        professional=item["professional"],
        organisation=item["organisation"],
        client_id=item["client_id"],
        reason=item["reason"],
        review=review,
    )


@actions_of.register
def _(change: EmergencyUse, tables: TableNames) -> Sequence[Action]:
    return [put(tables.operations, _use_to_item(change))]


def _reviewed(_: Item) -> Exception:
    return already_reviewed()


@actions_of.register
def _(change: EmergencyReview, tables: TableNames) -> Sequence[Action]:
    condition = "attribute_exists(PK) AND attribute_not_exists(verdict)"
    use = replace(change.before, review=change.review)
    item = sealed(_use_to_item(use), _WORDS, use.patient, tables.keyring())
    return [put_if(tables.operations, item, condition, {}, _reviewed)]
