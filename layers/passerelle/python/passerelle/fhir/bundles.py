"""Bundles: searchsets made of stored bytes, transactions read and answered.

FHIR R4 sections 3.1.1.5 (searchset), 3.1.0.11 (transaction), 2.36.4 (references between entries). A stored
resource is embedded as the bytes it is stored as: the server promises the same resource from a read and from
a search.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from passerelle.errors import Invalid, Issue, TooLarge
from passerelle.fhir import json as fhir_json
from passerelle.fhir.validation import check_members

MAX_ENTRIES = 1000
_MAX_ISSUES = 50

Mode = Literal["match", "include", "outcome"]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


# --- searchset ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A resource for a searchset: `reference` is its `Type/id`, `body` its stored JSON."""

    reference: str
    body: bytes
    mode: Mode = "match"


def searchset(
    entries: Iterable[Found], *, self_url: str, base_url: str, total: int | None, next_url: str | None = None
) -> bytes:
    """The JSON of a searchset. `total` counts the matches of all pages, None where nobody counted them."""
    parts = [
        b'{"fullUrl":%b,"resource":%b,"search":{"mode":"%b"}}'
        % (fhir_json.dumps(f"{base_url}/{entry.reference}"), entry.body, entry.mode.encode())
        for entry in entries
    ]
    return listing("searchset", parts, links={"self": self_url, "next": next_url}, total=total)


def listing(
    kind: Literal["searchset", "history"],
    entries: Sequence[bytes],
    *,
    links: Mapping[str, str | None],
    total: int | None,
) -> bytes:
    """The JSON of a Bundle of entries that are JSON already; a link without URL is left out."""
    listed = [{"relation": relation, "url": url} for relation, url in links.items() if url]
    counted = {} if total is None else {"total": total}
    bundle = fhir_json.dumps({"resourceType": "Bundle", "type": kind, **counted, "link": listed})
    # An empty array is not FHIR: a Bundle without entries has no `entry`.
    return b'%b,"entry":[%b]}' % (bundle[:-1], b",".join(entries)) if entries else bundle


# --- transaction --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionEntry:
    """One request of a transaction; `path` is where it stands (`Bundle.entry[3]`).

    `url` is `Type`, `Type/id` or `Type?query`, or (in a batch, and to read) any path below the base; `type` its type,
    `id` its id, `query` its query. `if_match` is the version it names.
    """

    path: str
    full_url: str | None
    method: Method
    url: str
    type: str
    id: str | None = None
    query: str = ""
    resource: Mapping[str, Any] = field(default_factory=dict)  # empty for GET and DELETE
    if_none_exist: str | None = None
    if_match: int | None = None
    if_none_match: str | None = None


_URL = re.compile(r"(?P<type>[A-Z][A-Za-z]{1,63})(?:/(?P<id>[A-Za-z0-9\-.]{1,64})|\?(?P<query>.+))?", re.ASCII)
_PATH = re.compile(
    r"(?P<type>[A-Z][A-Za-z]{1,63})(?:/(?P<id>[$A-Za-z0-9\-._]{1,64}))?(/[$\w\-.]+)*(?:\?(?P<query>.*))?", re.ASCII
)
_FULL_URL = re.compile(r"urn:(uuid|oid):\S+|https?://\S+", re.ASCII)
_VERSION = re.compile(r'(?:W/)?"(\d{1,9})"', re.ASCII)
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_WITH_RESOURCE = ("POST", "PUT", "PATCH")


def parse_transaction(bundle: Any) -> list[TransactionEntry]:
    """The requests of a transaction or batch, in order; the resources in them are not validated.

    Raises Invalid with every fault found (`structure`, `value`, `required`), TooLarge beyond MAX_ENTRIES.
    """
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise Invalid("a Bundle is expected", code="structure", expression="Bundle")
    if bundle.get("type") not in ("transaction", "batch"):
        raise Invalid("the Bundle must be a transaction or a batch", code="value", expression="Bundle.type")
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        raise Invalid("an array is expected", code="structure", expression="Bundle.entry")
    if len(entries) > MAX_ENTRIES:
        raise TooLarge(f"a transaction may have {MAX_ENTRIES} entries", expression="Bundle.entry")
    faults: list[Issue] = check_members(bundle, "Bundle", "Bundle")
    parsed = [_parse_entry(entry, f"Bundle.entry[{n}]", faults) for n, entry in enumerate(entries)]
    found = [entry for entry in parsed if entry is not None]
    _check_unique(found, faults, is_batch=bundle["type"] == "batch")
    if faults:
        raise Invalid(issues=faults[:_MAX_ISSUES])
    return found


def _parse_entry(entry: Any, path: str, faults: list[Issue]) -> TransactionEntry | None:
    before = len(faults)

    def fault(code: str, where: str, text: str) -> None:
        faults.append(Issue(code=code, diagnostics=text, expression=f"{path}{where}"))

    def text_of(holder: Mapping[str, Any], name: str, where: str) -> str | None:
        value = holder.get(name)
        if value is not None and (not isinstance(value, str) or not value):
            fault("structure", f"{where}.{name}", "a text is expected")
            return None
        return value

    if not isinstance(entry, dict) or not isinstance(entry.get("request"), dict):
        fault("required", ".request", "each entry of a transaction must have a request")
        return None
    request, resource = entry["request"], entry.get("resource")
    faults += check_members(entry, "BundleEntry", path) + check_members(
        request, "BundleEntryRequest", f"{path}.request"
    )
    full_url = text_of(entry, "fullUrl", "")
    if full_url is not None and not _FULL_URL.fullmatch(full_url):
        fault("value", ".fullUrl", "must be a urn:uuid, a urn:oid or an absolute URL")
    method, url = text_of(request, "method", ".request"), text_of(request, "url", ".request")
    if method is None or url is None:
        if len(faults) == before:
            missing = "url" if method else "method"
            fault("required", f".request.{missing}", "the element is mandatory")
        return None
    is_free = method == "GET" or (method == "POST" and "$" in url)
    target = (_PATH if is_free else _URL).fullmatch(url)
    if method not in _METHODS:
        fault("value", ".request.method", "must be GET, POST, PUT, PATCH or DELETE")
    elif target is None:
        fault("value", ".request.url", "must be Type, Type/id or Type?query, relative to the base")
    else:
        _check_shape(method, target, resource, fault)
    version = _VERSION.fullmatch(text_of(request, "ifMatch", ".request") or '"0"')
    if version is None:
        fault("value", ".request.ifMatch", 'must name one version: W/"n"')
    if_none_exist = text_of(request, "ifNoneExist", ".request")
    if if_none_exist is not None and method != "POST":
        fault("value", ".request.ifNoneExist", "only a creation may be conditional on absence")
    if_none_match = text_of(request, "ifNoneMatch", ".request")
    if len(faults) > before or target is None:
        return None
    return TransactionEntry(
        path=path,
        full_url=full_url,
        method=cast(Method, method),
        url=url,
        type=target["type"],
        id=target["id"],
        query=target["query"] or "",
        resource=resource if resource and method in _WITH_RESOURCE else {},
        if_none_exist=if_none_exist,
        if_match=int(version[1]) if version and "ifMatch" in request else None,
        if_none_match=if_none_match,
    )


def _check_shape(method: str, target: re.Match[str], resource: Any, fault: Any) -> None:
    """What the method says about the URL and about the resource beside it."""
    if method == "POST" and "$" not in target[0] and (target["id"] or target["query"]):
        fault("value", ".request.url", "a creation names the type only")
    if method in ("PUT", "PATCH", "DELETE") and not (target["id"] or target["query"]):
        fault("value", ".request.url", "must name one resource")
    if method not in _WITH_RESOURCE:
        # MHD puts the Patient beside the GET that reads it, as a copy.
        if resource is not None and (method != "GET" or target["type"] != "Patient"):
            fault("structure", ".resource", "a GET or DELETE has no resource")
    elif not isinstance(resource, dict):
        fault("required", ".resource", "a POST, PUT or PATCH has a resource")
    elif method != "PATCH":
        if "$" not in target[0] and resource.get("resourceType") != target["type"]:
            fault("structure", ".resource", "the resource is not of the type in the URL")
        if resource.get("resourceType") == "Bundle" and resource.get("type") in ("batch", "transaction"):
            fault("value", ".resource.type", "a batch or transaction is no entry of another")
        if method == "PUT" and target["id"] and resource.get("id") != target["id"]:
            fault("value", ".resource.id", "the id is not the one in the URL")


def _check_unique(entries: Sequence[TransactionEntry], faults: list[Issue], *, is_batch: bool) -> None:
    """No resource twice: not under a fullUrl (bdl-7), in a transaction nor as the target of a change (3.1.0.11.2)."""
    urls: set[str] = set()
    targets: set[str] = set()
    for entry in entries:
        if entry.full_url is not None and entry.method != "GET":
            if entry.full_url in urls:
                text = "two entries have the same fullUrl"
                faults.append(Issue(code="invalid", diagnostics=text, expression=f"{entry.path}.fullUrl"))
            urls.add(entry.full_url)
        if entry.method in ("PUT", "PATCH", "DELETE") and not is_batch:
            if entry.url in targets:
                text = "two entries change the same resource"
                faults.append(Issue(code="invalid", diagnostics=text, expression=f"{entry.path}.request.url"))
            targets.add(entry.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryResponse:
    """Of one entry: an HTTP status, `location` as `Type/id/_history/n`, a warning in `outcome`."""

    status: str
    location: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    resource: Mapping[str, Any] | None = None
    outcome: Mapping[str, Any] | None = None


def transaction_response(
    entries: Iterable[EntryResponse],
    *,
    kind: Literal["transaction-response", "batch-response"] = "transaction-response",
) -> dict[str, Any]:
    """The answer to a transaction: one entry for each of the request, in its order."""
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": kind}
    answered = [_answered(entry) for entry in entries]
    return {**bundle, "entry": answered} if answered else bundle


def _answered(entry: EntryResponse) -> dict[str, Any]:
    response = {
        "status": entry.status,
        "location": entry.location,
        "etag": entry.etag,
        "lastModified": entry.last_modified,
        "outcome": entry.outcome,
    }
    answered: dict[str, Any] = {"resource": entry.resource} if entry.resource else {}
    answered["response"] = {name: value for name, value in response.items() if value is not None}
    return answered


# --- references between entries -----------------------------------------------------------------------------


def resolve_references(
    resource: Mapping[str, Any], mapping: Mapping[str, str], *, full_url: str | None = None
) -> dict[str, Any]:
    """A copy in which references and URLs that are keys of `mapping` are replaced by its values.

    Only elements that hold a URL are looked at: an identifier that happens to equal a fullUrl stays what it
    is, and so does the narrative. `full_url` is that of the resource's entry; where it is a RESTful URL,
    relative references mean its neighbours.
    """
    root = ""
    if full_url and full_url.startswith("http"):
        root = full_url.rsplit("/", 2)[0] + "/"

    def replaced(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: replaced(key, child) for key, child in value.items()}
        if isinstance(value, list):
            return [replaced(name, child) for child in value]
        if isinstance(value, str) and _holds_url(name):
            return mapping.get(value) or (mapping.get(root + value) if root else None) or value
        return value

    return {name: replaced(name, value) for name, value in resource.items()}


def _holds_url(name: str) -> bool:
    return name in ("reference", "url", "uri") or name.endswith(("Url", "Uri", "Uuid", "Oid"))
