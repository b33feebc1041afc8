"""Operations of the record: `$everything`, `$changes`, `$summary` of a person, `$validate` of any type.

FHIR R4 (Patient-everything, Resource-validate), IPS 2.0 (`$summary`). `$changes` is the exchange's own: what is new,
changed or withdrawn in a person's record since the last call, in one resumable request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol
from urllib.parse import urlencode
from uuid import uuid4

from passerelle.access import Touched
from passerelle.api.app import Call, FhirApp, Reply, Wired
from passerelle.api.interactions import may_read
from passerelle.errors import Invalid, PasserelleError, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import Found, searchset
from passerelle.fhir.history import history_bundle
from passerelle.fhir.outcome import outcome, render_outcome, success
from passerelle.fhir.search import DEFAULT_COUNT, MAX_COUNT, parse_query
from passerelle.fhir.validation import validate
from passerelle.records.cursors import CURSOR
from passerelle.records.history import RecordHistory
from passerelle.records.model import Subject
from passerelle.records.search import Query
from passerelle.records.searching import RecordSearch

CUSTODIAN = "Passerelle"  # who answers for a summary: the exchange that made it


class WiredSearch(Wired, Protocol):
    @property
    def search(self) -> RecordSearch: ...

    @property
    def history(self) -> RecordHistory: ...


def serve_person(app: FhirApp) -> None:
    """Declare the operations on a person's whole record."""
    for method in ("GET", "POST"):
        app.operation("Patient", "/{id}/$everything", needs="r", method=method)(_everything)
        app.operation("Patient", "/{id}/$summary", needs="r", method=method)(_summary)
        app.operation("Patient", "/$summary", needs="r", method=method)(_summary)
    app.operation("Patient", "/{id}/$changes", needs="r", method="GET")(_changes)


def serve_validate(app: FhirApp, kind: str) -> None:
    """Declare `$validate` of a type: whoever may create one may ask whether it would be accepted."""
    for path in ("/$validate", "/{id}/$validate"):
        app.operation(kind, path, needs="c")(lambda call, _: _validate(call, kind))


# --- $everything, $changes ----------------------------------------------------------------------------------------


def _everything(call: Call, wired: WiredSearch) -> Reply:
    arguments = _arguments(call, {"_since", "_count", "_type", CURSOR})
    page = wired.search.everything(
        call.request,
        Subject(key=call.id),
        is_wanted=_readable(call, arguments.get("_type")),
        since=_instant(arguments, "_since"),
        count=_count(arguments),
        cursor=arguments.get(CURSOR),
    )
    base_url = call.request.base_url
    body = searchset(
        [
            *(Found(reference=each.reference, body=each.body or b"") for each in page.versions),
            *(
                Found(reference=each.reference, body=each.body or b"", mode="include")
                for each in page.included
                if may_read(call.request, each.type)
            ),
        ],
        base_url=base_url,
        self_url=_url(call, arguments),
        next_url=_url(call, {**arguments, CURSOR: page.cursor}) if page.cursor else None,
        total=page.total,
    )
    references = [f"{each.reference}/_history/{each.version}" for each in page.versions]
    return Reply(body=body, touched=Touched.of(page.patients, references))


def _changes(call: Call, wired: WiredSearch) -> Reply:
    """A history Bundle, oldest first. The link `next` goes on at once, `delta` at any later time."""
    arguments = _arguments(call, {"_count", "_type", CURSOR})
    delta = wired.history.delta(
        call.request,
        Subject(key=call.id),
        count=_count(arguments),
        is_wanted=_readable(call, arguments.get("_type")),
        narrowed_to=arguments.get("_type", ""),
        cursor=arguments.get(CURSOR),
    )
    following = _url(call, {**arguments, CURSOR: delta.cursor})
    body = history_bundle(
        delta.versions,
        base_url=call.request.base_url,
        self_url=_url(call, arguments),
        total=None,
        next_url=None if delta.is_complete else following,
        delta_url=following if delta.is_complete else None,
    )
    references = [f"{each.reference}/_history/{each.version}" for each in delta.versions]
    return Reply(body=body, touched=Touched.of(delta.patients, references))


def _readable(call: Call, types: str | None) -> Callable[[str], bool]:
    """Which types the caller asks for, and has the scope to read."""
    asked = set(types.split(",")) if types else None
    permitted: dict[str, bool] = {}

    def is_readable(type: str) -> bool:
        if type not in permitted:
            permitted[type] = (asked is None or type in asked) and may_read(call.request, type)
        return permitted[type]

    return is_readable


# --- $summary -----------------------------------------------------------------------------------------------------


def _summary(call: Call, wired: WiredSearch) -> Reply:
    """The International Patient Summary of what the caller may see; nothing of it is kept."""
    from passerelle.fhir.summary import SECTIONS, summary_document

    arguments = _arguments(call, {"identifier", "profile"})
    if "profile" in arguments:
        raise Unprocessable("only the International Patient Summary is made", code="not-supported")
    subject = Subject(key=call.id) if "id" in call.path else _identified(arguments)
    is_readable = _readable(call, None)
    types = sorted({each for section in SECTIONS for each in section.types if is_readable(each)})
    page = wired.search.digest(call.request, subject, [_reported(each) for each in ("Patient", *types)])
    found = [fhir_json.loads(each.body or b"") for each in page.versions]
    shared = [fhir_json.loads(each.body or b"") for each in page.included if is_readable(each.type)]
    patient = next((each for each in found if each["id"] == subject.key), found[0])
    document = summary_document(
        patient,
        [*found, *shared],
        at=call.request.at,
        base_url=call.request.base_url,
        custodian=CUSTODIAN,
        document_id=str(uuid4()),
    )
    references = [f"{each.reference}/_history/{each.version}" for each in page.versions]
    return Reply(body=document, touched=Touched.of(page.patients, references))


def _identified(arguments: Mapping[str, str]) -> Subject:
    system, _, value = arguments.get("identifier", "").partition("|")
    if not (system and value):
        raise Invalid("an identifier is required: system|value", code="required", expression="http.identifier")
    return Subject(identifier=(system, value))


def _reported(type: str) -> Query:
    """All of a type; of results, those that stand."""
    pairs = [("status", "final,amended,corrected,appended")] if type in ("Observation", "DiagnosticReport") else []
    return parse_query(type, pairs).query


# --- $validate ----------------------------------------------------------------------------------------------------


def _validate(call: Call, kind: str) -> Reply:
    """200 with what would be wrong, or with the information that nothing is and what R4B says; nothing is stored."""
    resource = call.resource
    if isinstance(resource, Mapping) and resource.get("resourceType") == "Parameters" and kind != "Parameters":
        given = {each.get("name"): each for each in resource.get("parameter", []) if isinstance(each, Mapping)}
        if "profile" in given:
            raise Unprocessable("profiles are not validated", code="not-supported", expression="Parameters.parameter")
        resource = given.get("resource", {}).get("resource")
        if resource is None:
            raise Invalid("the parameter resource is required", code="required", expression="Parameters.parameter")
    try:
        validate(resource, expected_type=kind)
    except PasserelleError as faults:
        return Reply(body=render_outcome(faults), touched=Touched())
    from passerelle.fhir.models import second_reading  # seldom asked for, and slow to import

    report = success("the resource is valid")
    report["issue"] += outcome(*second_reading(resource), severity="warning")["issue"]
    return Reply(body=report, touched=Touched())


# --- arguments ----------------------------------------------------------------------------------------------------


def _arguments(call: Call, known: set[str]) -> dict[str, str]:
    """The arguments of an operation, from the URL or a Parameters resource, each once; raises Invalid."""
    pairs = [(name, value) for name, value in call.query if name not in ("_format", "_pretty")]
    if call.body:
        parameters = call.resource.get("parameter", []) if isinstance(call.resource, Mapping) else []
        for each in parameters:
            value = next((value for name, value in each.items() if name.startswith("value")), None)
            if not isinstance(value, str | int):
                raise Invalid("an argument is a primitive value", code="value", expression="Parameters.parameter")
            pairs.append((each.get("name", ""), str(value)))
    given = dict(pairs)
    if len(given) < len(pairs) or not known.issuperset(given):
        raise Invalid("the operation takes other arguments, each once", code="not-supported")
    return given


def _count(arguments: Mapping[str, str]) -> int:
    text = arguments.get("_count", str(DEFAULT_COUNT))
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise Invalid("_count must be a number above 0", code="value", expression="http._count")
    return min(int(text), MAX_COUNT)


def _instant(arguments: Mapping[str, str], name: str) -> datetime | None:
    text = arguments.get(name)
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))
        if at.tzinfo is None:
            raise ValueError("without time zone")
    except ValueError:
        raise Invalid("must be an instant", code="value", expression=f"http.{name}") from None
    return at


def _url(call: Call, arguments: Mapping[str, str]) -> str:
    query = f"?{urlencode(arguments)}" if arguments else ""
    return f"{call.request.base_url}/Patient/{call.id}/{call.request.name}{query}"
