"""The FHIR interactions that resource types have in common, declared for a type in one line (R4 section 3.1.0)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlencode

from passerelle.access import Permission, Request, Scopes, Touched, insufficient_scope
from passerelle.api.app import COMMITTED, Call, FhirApp, Handler, Reply, Wired
from passerelle.api.routes import Feature, InteractionName
from passerelle.errors import Invalid, NotFound
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import Found, searchset
from passerelle.fhir.history import history_bundle
from passerelle.fhir.index import record_type
from passerelle.fhir.outcome import success
from passerelle.fhir.resource import ResourceDraft
from passerelle.fhir.search import DEFAULT_COUNT, MAX_COUNT, ParsedQuery, parse_query
from passerelle.fhir.validation import validate
from passerelle.records.cursors import CURSOR
from passerelle.records.model import Draft, ResourceKey, StoredVersion, Subject

if TYPE_CHECKING:
    from passerelle.records.history import HistoryPage, RecordHistory
    from passerelle.records.model import Draft, StoredVersion
    from passerelle.records.search import Chain, Query
    from passerelle.records.searching import RecordSearch
    from passerelle.records.service import RecordService, Written

# What the function `records` serves; the other types belong to a capability of their own.
CLINICAL_TYPES: Final = """
    AllergyIntolerance Appointment Bundle CarePlan CareTeam Claim Communication CommunicationRequest Composition
    Condition Consent Coverage DetectedIssue Device DiagnosticReport Encounter ExplanationOfBenefit Flag Goal
    ImagingStudy Immunization Medication MedicationAdministration MedicationDispense MedicationRequest
    MedicationStatement Observation Procedure Provenance QuestionnaireResponse RelatedPerson Schedule ServiceRequest
    Slot Specimen
"""

READ_ONLY: Final[tuple[InteractionName, ...]] = (
    "read",
    "vread",
    "history-instance",
    "history-type",
    "search-type",
)
ALL: Final[tuple[InteractionName, ...]] = (
    *READ_ONLY,
    "create",
    "update",
    "conditional-update",
    "patch",
    "conditional-patch",
    "delete",
    "conditional-delete",
)

_HISTORY_PARAMETERS: Final = frozenset({"_since", "_count", "_format", "_pretty", CURSOR})
_FEATURES: Final[Mapping[InteractionName, tuple[Feature, ...]]] = {
    "read": ("conditional-read",),
    "search-type": ("include",),
    "create": ("conditional-create",),
    "update": ("update-create",),
}


class WiredRecords(Wired, Protocol):
    @property
    def records(self) -> RecordService: ...

    @property
    def search(self) -> RecordSearch: ...

    @property
    def history(self) -> RecordHistory: ...


Run = Callable[[Call, WiredRecords, str], Reply]


def serve(
    app: FhirApp,
    kind: str,
    interactions: Sequence[InteractionName],
    *,
    transactions: tuple[str, ...] = (),
    instead: Mapping[InteractionName, Run] | None = None,
    codes_of: Mapping[InteractionName, tuple[str, ...]] | None = None,
) -> None:
    """Declare the routes of a type of the record or the directory; `transactions` are the IHE codes of its search.

    `instead` has interactions that are served otherwise than SERVED says, `codes_of` the IHE codes of others.
    """
    for name in interactions:
        codes = transactions if name == "search-type" else (codes_of or {}).get(name, ())
        declare = app.interaction(kind, name, transactions=codes, features=_FEATURES.get(name, ()))
        declare(_handler((instead or {}).get(name, SERVED[name]), kind))


def _handler(run: Run, kind: str) -> Handler:
    return lambda call, wired: run(call, wired, kind)


def or_record(kind: str, own: Handler) -> Handler:
    """A read of what a capability keeps by itself under ids of its own, and of the record for all other ids."""

    def read(call: Call, wired: Any) -> Reply:
        try:
            return own(call, wired)
        except NotFound as absence:
            try:
                return _read(call, wired, kind)
            except NotFound:
                raise absence from None

    return read


# --- reading ------------------------------------------------------------------------------------------------------


def version_reply(found: StoredVersion, call: Call) -> Reply:
    """A stored version, or the part of it that is asked for, with its ETag and Last-Modified."""
    touched = Touched.of([found.key.patient] if found.key.patient else [], [_version_reference(found)])
    headers = version_headers(found.version, found.at)
    return Reply(body=call.part.of(found.body or b""), headers=headers, touched=touched)


def version_headers(version: int, at: datetime) -> dict[str, str]:
    return {"ETag": f'W/"{version}"', "Last-Modified": at.strftime("%a, %d %b %Y %H:%M:%S GMT")}


def _read(call: Call, wired: WiredRecords, kind: str) -> Reply:
    return version_reply(wired.records.read(call.request, kind, call.id), call)


def _vread(call: Call, wired: WiredRecords, kind: str) -> Reply:
    version = call.path["version"]
    if not (version.isascii() and version.isdigit()):
        raise NotFound()
    return version_reply(wired.records.read_version(call.request, kind, call.id, int(version)), call)


def _version_reference(version: StoredVersion) -> str:
    return f"{version.reference}/_history/{version.version}"


# --- searching ----------------------------------------------------------------------------------------------------


def search(call: Call, wired: WiredRecords, kind: str, *, producer: str | None = None) -> Reply:
    """With a `producer`, only what that organisation published."""
    parsed = parse_query(kind, call.query, base_url=call.request.base_url, strict=call.is_strict, follows=True)
    query = _within_scope(call.request, parsed.query)
    if call.part.summary == "count":
        query = replace(query, count=0, total="accurate")
    page = wired.search.search(call.request, query, _subject(kind, parsed), cursor=call.one(CURSOR), producer=producer)
    following = [*parsed.used, (CURSOR, page.cursor)] if page.cursor else None
    included = [version for version in page.included if may_read(call.request, version.type)]
    body = searchset(
        [
            *(_found(call, version) for version in page.versions),
            *(replace(_found(call, version), mode="include") for version in included),
        ],
        base_url=call.request.base_url,
        self_url=search_url(call, kind, parsed.used),
        next_url=search_url(call, kind, following) if following else None,
        total=page.total,
    )
    references = [_version_reference(version) for version in (*page.versions, *included)]
    return Reply(body=body, touched=Touched.of(page.patients, references))


def _within_scope(request: Request, query: Query) -> Query:
    """The search without what its chains would tell of types that the token may not search; raises Forbidden.

    The scope of the transaction that has the chains (PCC-46) covers what they lead to.
    """
    codes = ("PCC-46",) if query.type == "CareTeam" else ()
    return replace(query, chains=tuple(_searchable(request.caller.scopes, chain, codes) for chain in query.chains))


def _searchable(scopes: Scopes, chain: Chain, codes: tuple[str, ...]) -> Chain:
    queries = [
        replace(each, chains=tuple(_searchable(scopes, further, codes) for further in each.chains))
        for each in chain.queries
        if scopes.permits(Permission(resource=each.type, interaction="s", transactions=codes))
    ]
    if not queries:
        raise insufficient_scope()
    return replace(chain, queries=tuple(queries))


def may_read(request: Request, kind: str) -> bool:
    """Whether the scope covers resources of another type than the request is about."""
    return request.caller.scopes.permits(Permission(resource=kind, interaction="r"))


def _found(call: Call, version: StoredVersion) -> Found:
    return Found(reference=version.reference, body=call.part.of(version.body or b""))


def _subject(kind: str, parsed: ParsedQuery) -> Subject | None:
    """Whose record is searched; None for what may belong to nobody."""
    subject = Subject(key=parsed.patient, identifier=parsed.patient_identifier)
    if subject != Subject():
        return subject
    if not record_type(kind).needs_patient:
        return None
    keys = {key.patient for id in parsed.ids if (key := ResourceKey.of(kind, id))}
    if len(keys) == 1:
        return Subject(key=keys.pop())  # the ids tell whose record they are in
    raise Invalid("a search needs a patient", code="required", expression="http.patient")


def search_url(call: Call, path: str, used: Sequence[tuple[str, str]]) -> str:
    """The URL of a search or a history with the parameters that were used: `link[self]`."""
    return f"{call.request.base_url}/{path}?{urlencode(used)}" if used else f"{call.request.base_url}/{path}"


# --- history ------------------------------------------------------------------------------------------------------


def _history_of_resource(call: Call, wired: WiredRecords, kind: str) -> Reply:
    used, others = _history_parameters(call)
    if others and call.is_strict:
        raise Invalid("a parameter is not supported", code="not-supported")
    page = wired.history.of_resource(
        call.request, kind, call.id, since=_since(call), count=_count(call), cursor=call.one(CURSOR)
    )
    return _history_reply(call, f"{kind}/{call.id}/_history", page, used)


def _history_of_type(call: Call, wired: WiredRecords, kind: str) -> Reply:
    used, others = _history_parameters(call)
    parsed = parse_query(kind, others, base_url=call.request.base_url, strict=call.is_strict)
    if parsed.query.criteria:
        raise Invalid("a history is not narrowed by search parameters", code="not-supported")
    page = wired.history.of_type(
        call.request,
        kind,
        _subject(kind, parsed),
        since=_since(call),
        count=_count(call),
        cursor=call.one(CURSOR),
    )
    return _history_reply(call, f"{kind}/_history", page, [*parsed.used, *used])


def _history_parameters(call: Call) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Those that the self link shows, and those that are not a history's; raises Invalid for `_at` and `_list`."""
    if any(name in ("_at", "_list") for name, _ in call.query):
        raise Invalid("a history is narrowed by _since only", code="not-supported")
    used = [pair for pair in call.query if pair[0] in ("_since", "_count")]
    return used, [pair for pair in call.query if pair[0] not in _HISTORY_PARAMETERS]


def _since(call: Call) -> datetime | None:
    text = call.one("_since")
    if text is None:
        return None
    try:
        since = datetime.fromisoformat(text.replace(" ", "+"))  # a plus that was not escaped in the URL
    except ValueError:
        since = None
    if since is None or since.tzinfo is None:
        raise Invalid("must be an instant", code="value", expression="http._since")
    return since


def _count(call: Call) -> int:
    text = call.one("_count")
    if text is None:
        return DEFAULT_COUNT
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise Invalid("must be a number above zero", code="value", expression="http._count")
    return min(int(text), MAX_COUNT)


def _history_reply(call: Call, path: str, page: HistoryPage, used: Sequence[tuple[str, str]]) -> Reply:
    following = [*used, (CURSOR, page.cursor)] if page.cursor else None
    body = history_bundle(
        page.versions,
        base_url=call.request.base_url,
        self_url=search_url(call, path, used),
        next_url=search_url(call, path, following) if following else None,
        total=page.total,
    )
    return Reply(body=body, touched=Touched.of(page.patients, [_version_reference(each) for each in page.versions]))


# --- writing ------------------------------------------------------------------------------------------------------


def _create(call: Call, wired: WiredRecords, kind: str) -> Reply:
    asked = call.if_none_exist
    condition = None if asked is None else _condition(call, kind, asked)
    return _written(call, wired, wired.records.create(call.request, _draft(call, kind), condition=condition))


def _update(call: Call, wired: WiredRecords, kind: str) -> Reply:
    draft = _draft(call, kind)
    if call.resource.get("id") != call.id:
        raise Invalid("the id in the resource is not the one in the URL", code="invariant", expression=f"{kind}.id")
    return _written(call, wired, wired.records.update(call.request, draft, call.id, if_match=call.if_match))


def _update_where(call: Call, wired: WiredRecords, kind: str) -> Reply:
    condition = _condition(call, kind, call.query)
    written = wired.records.update_where(call.request, _draft(call, kind), condition, if_match=call.if_match)
    return _written(call, wired, written)


def _patch(call: Call, wired: WiredRecords, kind: str) -> Reply:
    revise = _revision(call, kind)
    written = wired.records.patch(call.request, kind, call.id, revise, if_match=call.if_match)
    return _written(call, wired, written)


def _patch_where(call: Call, wired: WiredRecords, kind: str) -> Reply:
    condition = _condition(call, kind, call.query)
    revise = _revision(call, kind)
    written = wired.records.patch_where(call.request, kind, condition, revise, if_match=call.if_match)
    return _written(call, wired, written)


def _delete(call: Call, wired: WiredRecords, kind: str) -> Reply:
    return _deleted(call, wired.records.delete(call.request, kind, call.id, if_match=call.if_match))


def _delete_where(call: Call, wired: WiredRecords, kind: str) -> Reply:
    condition = _condition(call, kind, call.query)
    return _deleted(call, wired.records.delete_where(call.request, kind, condition, if_match=call.if_match))


def _draft(call: Call, kind: str) -> ResourceDraft:
    validate(call.resource, expected_type=kind)
    return ResourceDraft(call.resource, call.request.base_url)


def _condition(call: Call, kind: str, pairs: Sequence[tuple[str, str]]) -> ParsedQuery:
    """The search a write depends on: always strict, since what it ignored would widen it, and never empty."""
    parsed = parse_query(kind, pairs, base_url=call.request.base_url, strict=True)
    if not parsed.query.criteria:
        raise Invalid("a condition is required", code="required")
    return parsed


def _revision(call: Call, kind: str) -> Callable[[StoredVersion], Draft]:
    """What a patch makes of a stored version; the result is validated like any other resource."""

    def revise(current: StoredVersion) -> Draft:
        resource = patched(call, current.body or b"")
        validate(resource, expected_type=kind)
        return ResourceDraft(resource, call.request.base_url)

    return revise


def patched(call: Call, stored: bytes) -> dict[str, Any]:
    """A stored version as the patch in the body changes it."""
    from passerelle.fhir.patch import revised  # few writes are patches

    patch, media_type = call.patch
    return revised(fhir_json.loads(stored), patch, media_type)


def _written(call: Call, wired: WiredRecords, written: Written) -> Reply:
    reply = written_reply(call.request, written)
    if call.returns == "representation":
        reply.body = wired.records.written_body(call.request, written)
    return reply


def written_reply(request: Request, written: Written) -> Reply:
    """The answer to a write, without body: 201 for a new resource, else 200; both with the version's location."""
    headers = version_headers(written.version, written.at)
    headers["Location"] = f"{request.base_url}/{written.reference}/_history/{written.version}"
    return Reply(status=201 if written.is_new else 200, body=None, headers=headers, touched=COMMITTED)


def _deleted(call: Call, written: Written) -> Reply:
    """200 with an outcome (contract P13), or 204 for a client that wants none."""
    headers = {"ETag": f'W/"{written.version}"'}
    if call.returns == "minimal":
        return Reply(status=204, body=None, headers=headers, touched=COMMITTED)
    return Reply(body=success("deleted"), headers=headers, touched=COMMITTED)


SERVED: Final[Mapping[InteractionName, Run]] = {
    "read": _read,
    "vread": _vread,
    "history-instance": _history_of_resource,
    "history-type": _history_of_type,
    "search-type": search,
    "create": _create,
    "update": _update,
    "conditional-update": _update_where,
    "patch": _patch,
    "conditional-patch": _patch_where,
    "delete": _delete,
    "conditional-delete": _delete_where,
}
