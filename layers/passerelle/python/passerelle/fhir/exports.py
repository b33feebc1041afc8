"""The export of a record: its resources as lines of JSON (FHIR Bulk Data, ndjson), and the answer as Parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from passerelle.exports.model import Exported
from passerelle.fhir.dates import instant
from passerelle.fhir.history import history_entry
from passerelle.records.model import ResourceKey, StoredVersion


def by_type(versions: Iterable[StoredVersion]) -> Mapping[str, list[bytes]]:
    """The resources as they are now, one a line, without those that were deleted."""
    latest: dict[ResourceKey, StoredVersion] = {}
    for each in versions:
        if each.key not in latest or latest[each.key].version < each.version:
            latest[each.key] = each
    found: dict[str, list[bytes]] = {}
    for each in latest.values():
        if each.body is not None:
            found.setdefault(each.type, []).append(each.body + b"\n")
    return found


def history_by_type(versions: Iterable[StoredVersion], base_url: str) -> Mapping[str, list[bytes]]:
    """All versions, each as the entry of a Bundle of type history, one a line."""
    found: dict[str, list[bytes]] = {}
    for each in versions:
        found.setdefault(each.type, []).append(history_entry(each, base_url) + b"\n")
    return found


def render_exported(exported: Exported) -> dict[str, Any]:
    packed = exported.packed
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "url", "valueUrl": exported.url},
            {"name": "expires", "valueInstant": instant(exported.expires_at)},
            {"name": "sha256", "valueString": packed.sha256},
            {"name": "size", "valueDecimal": packed.size_bytes},
        ],
    }
