"""What the malware scanner said: on DynamoDB, and as GuardDuty reports it.

    clinical  Q#<document or upload id>   Q   verdict, scanned_at: the scan that counts

Contract: GuardDuty user guide, "Monitoring S3 object scans with Amazon EventBridge" (schema 1.0). The result is
NO_THREATS_FOUND, THREATS_FOUND, UNSUPPORTED, ACCESS_DENIED or FAILED; `time` is to the second; an event may come twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from passerelle.aws.dynamodb import Action, DynamoDb, Item, put_if
from passerelle.aws.journal import TableNames, actions_of
from passerelle.documents.quarantine import Scan, ScanChange, Verdict
from passerelle.errors import Stale

SOURCE: Final = "aws.guardduty"
DETAIL_TYPE: Final = "GuardDuty Malware Protection Object Scan Result"
PREFIXES: Final = ("documents/", "uploads/")
"""Below these the objects are contents, each named by its id; the others are bodies of resources, compressed."""

_VERDICTS: Final = {"NO_THREATS_FOUND": Verdict.CLEAN, "THREATS_FOUND": Verdict.INFECTED}


class DynamoScans:
    """`documents.quarantine.Scans`."""

    def __init__(self, dynamodb: DynamoDb, tables: TableNames) -> None:
        self._dynamodb = dynamodb
        self._tables = tables

    def find(self, id: str) -> Scan | None:
        item = self._dynamodb.get(self._tables.clinical, (f"Q#{id}", "Q"))
        if item is None:
            return None
        return Scan(id=id, verdict=Verdict(item["verdict"]), at=datetime.fromisoformat(item["scanned_at"]))

    def replace(self, change: ScanChange) -> None:
        (action,) = actions_of(change, self._tables)
        self._dynamodb.write(action)


@actions_of.register
def _(change: ScanChange, tables: TableNames) -> Sequence[Action]:
    scan, before = change.after, change.before
    item = {"PK": f"Q#{scan.id}", "SK": "Q", "verdict": scan.verdict.value, "scanned_at": scan.at.isoformat()}
    if before is None:
        return [put_if(tables.clinical, item, "attribute_not_exists(PK)", {}, _overtaken)]
    condition = "verdict = :verdict AND scanned_at = :at"
    values = {":verdict": before.verdict.value, ":at": before.at.isoformat()}
    return [put_if(tables.clinical, item, condition, values, _overtaken)]


def _overtaken(_: Item) -> Exception:
    return Stale("another scan came between")


def scan_of(envelope: Mapping[str, Any]) -> Scan | None:
    """What an event from the default bus reports; None for an object that is no content."""
    detail = envelope["detail"]
    id = _id_of(detail["s3ObjectDetails"]["objectKey"])
    if id is None:
        return None
    result = detail["scanResultDetails"]["scanResultStatus"]
    return Scan(
        id=id,
        verdict=_VERDICTS.get(result, Verdict.UNSCANNED),
        at=datetime.fromisoformat(envelope["time"]),
    )


def _id_of(key: str) -> str | None:
    """`documents/<patient key>/<ulid>` is the content of `<patient key>-<ulid>`, `uploads/<id>` that of an upload."""
    prefix, _, rest = key.partition("/")
    return rest.replace("/", "-") if f"{prefix}/" in PREFIXES and rest else None
