"""What answers are checked against, with messages that tell a vendor what the guide asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from xml.etree import ElementTree

import httpx

from conformance.server import FHIR_JSON, FHIR_XML, Actor

_ERRORS: Final = frozenset({"error", "fatal"})
_FHIR: Final = {"f": "http://hl7.org/fhir"}
_TRACES: Final = ("Traceback (most recent", "\tat ", ".java:", '.py", line', "Exception in thread", "System.Exception")


def expect(is_so: object, asked: str, got: object = "") -> None:
    """Fail with what is asked for, and what was found instead."""
    if not is_so:
        raise AssertionError(f"{asked}{f'; got {got}' if got != '' else ''}")


def told(answer: httpx.Response) -> str:
    """An answer in one line."""
    return f"{answer.status_code} to {answer.request.method} {answer.request.url.path}: {answer.text[:600]}"


def ok(answer: httpx.Response, status: int = 200) -> Any:
    """The FHIR JSON of an answer with this status."""
    expect(answer.status_code == status, f"the answer must be {status}", told(answer))
    kind = answer.headers.get("content-type", "")
    expect(kind.startswith(FHIR_JSON), f"the answer must be {FHIR_JSON}", kind)
    return answer.json()


def ok_xml(answer: httpx.Response, status: int = 200) -> ElementTree.Element:
    """The root of an answer in FHIR XML with this status."""
    expect(answer.status_code == status, f"the answer must be {status}", told(answer))
    kind = answer.headers.get("content-type", "")
    expect(kind.startswith(FHIR_XML), f"the answer must be {FHIR_XML}", kind)
    return _parsed(answer)


def _parsed(answer: httpx.Response) -> ElementTree.Element:
    # Of the server under test; expat resolves no external entities, and bounds those that expand.
    return ElementTree.fromstring(answer.content)  # noqa: S314


def values(root: ElementTree.Element, path: str) -> list[str]:
    """The primitive values at a path of element names, `entry/response/status`."""
    return [str(each.get("value")) for each in root.findall("/".join(f"f:{name}" for name in path.split("/")), _FHIR)]


def kind_of(root: ElementTree.Element) -> str:
    """The resource type of a FHIR XML element."""
    return root.tag.rpartition("}")[2]


def refused(
    answer: httpx.Response,
    status: int | Iterable[int],
    *codes: str,
    at: str | None = None,
    saying: str | None = None,
    severities: frozenset[str] = _ERRORS,
) -> dict[str, Any]:
    """An OperationOutcome with this status and one of these issue codes; `at` is part of an expression of it."""
    allowed = (status,) if isinstance(status, int) else tuple(status)
    wanted = " or ".join(map(str, allowed))
    expect(answer.status_code in allowed, f"the request must be refused with {wanted}", told(answer))
    outcome = _outcome(answer)
    expect(
        outcome.get("resourceType") == "OperationOutcome" and outcome.get("issue"),
        "a refusal carries an OperationOutcome with an issue",
        answer.text[:300],
    )
    issues: list[dict[str, Any]] = outcome["issue"]
    found = {each.get("severity") for each in issues}
    expect(found & severities, f"a refusal has an issue of severity {' or '.join(sorted(severities))}", found)
    if codes:
        found = {each.get("code") for each in issues}
        expect(found & set(codes), f"issue.code must be {' or '.join(codes)}", found)
    if at is not None:
        places = [place for each in issues for place in (*each.get("expression", ()), *each.get("location", ()))]
        expect(any(at in place for place in places), f"issue.expression must name {at}", places or "none")
    if saying is not None:
        texts = [str(each.get("diagnostics", "")) for each in issues]
        expect(any(saying in text for text in texts), f"issue.diagnostics must say “{saying}”", texts)
    expect(not any(trace in answer.text for trace in _TRACES), "an outcome shows no stack trace", answer.text[:300])
    return outcome


def _outcome(answer: httpx.Response) -> dict[str, Any]:
    kind = answer.headers.get("content-type", "")
    if kind.startswith(FHIR_XML):
        root = _parsed(answer)
        issues = [
            {
                "severity": next(iter(values(each, "severity")), None),
                "code": next(iter(values(each, "code")), None),
                "diagnostics": " ".join(values(each, "diagnostics")),
                "expression": values(each, "expression"),
            }
            for each in root.findall("f:issue", _FHIR)
        ]
        return {"resourceType": kind_of(root), "issue": issues}
    try:
        outcome = answer.json()
    except ValueError:
        outcome = {}
    return outcome if isinstance(outcome, dict) else {}


def searchset(answer: httpx.Response, *, is_first: bool = True) -> list[dict[str, Any]]:
    """The matches of a search, checked as every search answer is (FHIR R4 3.1.1)."""
    bundle = ok(answer)
    expect(
        (bundle.get("resourceType"), bundle.get("type")) == ("Bundle", "searchset"),
        "a search answers with a Bundle of type searchset",
        (bundle.get("resourceType"), bundle.get("type")),
    )
    if is_first and link(bundle, "next") is None:
        expect(isinstance(bundle.get("total"), int), "a searchset of one page has a total", bundle.get("total"))
    relations = {each.get("relation") for each in bundle.get("link", ())}
    expect("self" in relations, "a searchset has a link of relation self", relations)
    entries = bundle.get("entry", [])
    modes = [each.get("search", {}).get("mode") for each in entries]
    expect(all(modes), "every entry of a searchset has search.mode", modes)
    return [each["resource"] for each, mode in zip(entries, modes, strict=True) if mode == "match"]


def all_pages(actor: Actor, query: str) -> list[dict[str, Any]]:
    """Every match of a search, following its links."""
    answer = actor.get(query)
    found = searchset(answer)
    while url := link(answer.json(), "next"):
        answer = actor.get(url)
        found += searchset(answer, is_first=False)
    return found


def ids(resources: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(each["id"]) for each in resources]


def link(bundle: Mapping[str, Any], relation: str) -> str | None:
    return next((str(each["url"]) for each in bundle.get("link", ()) if each.get("relation") == relation), None)


def transaction_response(answer: httpx.Response, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of an accepted transaction: as many as were asked, in that order."""
    bundle = ok(answer)
    expect(
        (bundle.get("resourceType"), bundle.get("type")) == ("Bundle", "transaction-response"),
        "a transaction answers with a Bundle of type transaction-response",
        (bundle.get("resourceType"), bundle.get("type")),
    )
    entries: list[dict[str, Any]] = bundle.get("entry", [])
    asked = request["entry"]
    expect(len(entries) == len(asked), f"one response entry per request entry ({len(asked)})", len(entries))
    for sent, got in zip(asked, entries, strict=True):
        response = got.get("response", {})
        if sent["request"]["method"] != "POST":
            continue
        kind = sent["request"]["url"]
        location = place(response)
        kinds = (kind, "Binary") if kind == "Bundle" else (kind,)  # a document may be kept as the bytes that it is
        expect(
            status_of(got) == 201 and location.partition("/")[0] in kinds,
            f"the response entry of a created {kind} has status 201 and its location, in the order of the request",
            response,
        )
        expect(response.get("etag"), f"the response entry of a created {kind} has an etag", response)
    return entries


def status_of(entry: Mapping[str, Any]) -> int:
    return int(str(entry.get("response", {}).get("status", "0")).partition(" ")[0] or 0)


def place(response: Mapping[str, Any]) -> str:
    """`Type/id` of a location, which may be absolute and name a version."""
    return "/".join(str(response.get("location", "")).partition("/_history")[0].rsplit("/", 2)[-2:])


def warnings_of(entries: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Code and text of every warning in the outcomes of response entries."""
    return [
        (str(issue.get("code")), str(issue.get("diagnostics") or issue.get("details", {}).get("text", "")))
        for entry in entries
        for issue in entry.get("response", {}).get("outcome", {}).get("issue", ())
        if issue.get("severity") == "warning"
    ]


def labels(document: Mapping[str, Any]) -> list[str]:
    """The codes of securityLabel."""
    return [str(each.get("code")) for label in document.get("securityLabel", ()) for each in label.get("coding", ())]
