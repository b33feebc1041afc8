"""Histories as FHIR: a Bundle of the versions of a resource, or of a type (R4 section 3.1.0.9.2)."""

from __future__ import annotations

from collections.abc import Iterable

from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import listing
from passerelle.fhir.dates import instant
from passerelle.records.model import ResourceKey, StoredVersion


def history_bundle(
    versions: Iterable[StoredVersion],
    *,
    self_url: str,
    base_url: str,
    total: int | None,
    next_url: str | None = None,
    delta_url: str | None = None,
) -> bytes:
    """The JSON of a history, in the order given; a deletion has no resource. `delta_url` will tell what is new."""
    entries = [history_entry(version, base_url) for version in versions]
    return listing("history", entries, links={"self": self_url, "next": next_url, "delta": delta_url}, total=total)


def history_entry(version: StoredVersion, base_url: str) -> bytes:
    """A version, and the request that made it: under an id of the exchange, the first one was a POST."""
    if version.body is None:
        method, status = "DELETE", "204"
    elif version.version > 1:
        method, status = "PUT", "200"
    else:
        method, status = "PUT" if ResourceKey.of(version.type, version.id) is None else "POST", "201"
    entry = {
        "request": {"method": method, "url": version.type if method == "POST" else version.reference},
        "response": {"status": status, "etag": f'W/"{version.version}"', "lastModified": instant(version.at)},
    }
    full_url = fhir_json.dumps(f"{base_url}/{version.reference}")
    resource = b"" if version.body is None else b'"resource":%b,' % version.body
    return b'{"fullUrl":%b,%b%b' % (full_url, resource, fhir_json.dumps(entry)[1:])
