"""The bytes of an audit record that the verifiable log commits to: canonical JSON (RFC 8785) of its plain fields.

Two records with the same fields have the same bytes on every machine; whoever was given a record as JSON makes them
again without this program. A field that says nothing is left out, so that one which is added later leaves the bytes of
older records as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import rfc8785

from passerelle.access import Decision
from passerelle.audit.model import AuditRecord


def canonical(record: AuditRecord) -> bytes:
    return rfc8785.dumps(to_map(record))


def to_map(record: AuditRecord) -> dict[str, Any]:
    """The fields of a record that say something, as JSON; times in UTC to the microsecond, with `Z`."""
    plain = {each.name: _plain(getattr(record, each.name)) for each in fields(record)}
    plain["digests"] = dict(record.digests)  # storage keeps them in no order
    return {name: value for name, value in plain.items() if value not in ("", None, [], {})}


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return f"{value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
        case Decision():
            return {
                "is_permitted": value.is_permitted,
                "rule": str(value.rule),
                "facts": _plain(value.facts),
                "rules": value.rules,
            }
        case Mapping():
            return {str(name): _plain(each) for name, each in value.items()}
        case tuple() | list():
            return [_plain(each) for each in value]
        case str():
            return str(value)
        case _:
            return value
