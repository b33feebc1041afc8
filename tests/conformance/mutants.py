"""Servers that break one rule each: what the conformance kit has to notice.

A mutant changes one function, constant or row of data of the server under test, in this process. `MUTANTS` are of the
server with the options of its profile, `MUTANTS_WITHOUT_OPTIONS` of one that claims none.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

Break = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`rows` are those whose tests should notice; `case` is a part of the names of the tests to run, if not all."""

    rows: tuple[str, ...]
    rule: str
    apply: Break
    case: str = ""


def _owner(place: str) -> tuple[Any, str]:
    """What holds `module:name` or `module:Class.name`, modules below `passerelle`."""
    module, _, path = place.partition(":")
    *parents, name = path.split(".")
    owner: Any = importlib.import_module(f"passerelle.{module}")
    for each in parents:
        owner = getattr(owner, each)
    return owner, name


@contextmanager
def _replaced(place: str, change: Callable[[Any], Any]) -> Iterator[None]:
    owner, name = _owner(place)
    original = owner.__dict__[name]
    setattr(owner, name, change(original))
    try:
        yield
    finally:
        setattr(owner, name, original)


def to(place: str, value: Any) -> Break:
    """It has this value."""
    return lambda: _replaced(place, lambda _: value)


def by(place: str, change: Callable[[Any], Any]) -> Break:
    """It is what `change` makes of it."""
    return lambda: _replaced(place, change)


def giving(place: str, value: Any = None) -> Break:
    """A function that always gives the same."""
    return to(place, lambda *_, **__: value)


def then(place: str, change: Callable[[Any], Any]) -> Break:
    """A function whose result is changed."""
    return by(place, lambda original: lambda *given, **named: change(original(*given, **named)))


def ignoring(*names: str) -> Break:
    """Search parameters that select nothing."""

    def change(original: Any) -> Any:
        return lambda row, pairs: [pair for pair in original(row, pairs) if pair[0] not in names]

    return by("fhir.search:_without_folder_exceptions", change)


def both(*breaks: Break) -> Break:
    """Where one rule stands behind another."""

    @contextmanager
    def applied() -> Iterator[None]:
        with ExitStack() as stack:
            for each in breaks:
                stack.enter_context(each())
            yield

    return applied


def tolerating(place: str, *codes: str, texts: tuple[str, ...] = ("",)) -> Break:
    """A generator of issues that keeps back those of a code and with a text."""

    def change(original: Any) -> Any:
        def found(*given: Any) -> Iterator[Any]:
            for issue in original(*given):
                if not (issue.code in codes and any(text in issue.diagnostics for text in texts)):
                    yield issue

        return found

    return by(place, change)


def not_asking(path: str) -> Break:
    """A submission may lack this element of its document."""
    return by("fhir.mhd:_DOCUMENT", lambda required: tuple(each for each in required if each.path != path))


def relabelled(change: Callable[[dict[str, Any]], None]) -> Break:
    """Other rules of visibility."""

    def changed(original: Any) -> Any:
        import copy

        rules = copy.deepcopy(dict(original()))
        change(rules)
        return lambda: rules

    return by("consents.visibility:_rules", changed)


def _m(rows: str, rule: str, apply: Break, case: str = "") -> Mutant:
    return Mutant(rows=tuple(rows.split()), rule=rule, apply=apply, case=case)


# --- for all transactions ---------------------------------------------------------------------------------------------


def _raising_not_found(original: Any) -> Any:
    from passerelle.errors import NotFound

    def find(*given: Any, **named: Any) -> Any:
        try:
            return original(*given, **named)
        except NotFound:
            raise NotFound() from None

    return find


def _nothing_is_absent(page: Any) -> Any:
    from passerelle.errors import NotFound

    if not page.versions:
        raise NotFound()
    return page


def _rounded(original: Any) -> Any:
    return lambda node, type_name, written: (
        float(written) if type_name == "decimal" else original(node, type_name, written)
    )


def _without_form(original: Any) -> Any:
    return lambda event, body: original(event, b"")


def _without_body_faults(original: Any) -> Any:
    def resource(walk: Any, *given: Any, **named: Any) -> None:
        original(walk, *given, **named)
        walk.malformed.clear()

    return resource


def _without_codes(original: Any) -> Any:
    def refused(walk: Any, path: str, code: str, text: str) -> None:
        if code != "code-invalid":
            original(walk, path, code, text)

    return refused


_GENERAL = (
    _m("GEN-1", "_format is ignored", giving("api.negotiation:_format", ""), "_format"),
    _m("GEN-1", "XML is never answered", by("api.app:negotiated", lambda _: lambda *__: _json()), "xml"),
    _m("GEN-2", "JSON for who takes none", by("api.app:negotiated", lambda old: lambda *x: old(*x) or _json())),
    _m("GEN-3", "any media type is read", giving("api.app:_check_type")),
    _m("GEN-4", "unknown elements are kept", by("fhir.validation:_Walk.resource", _without_body_faults)),
    _m("GEN-5", "required bindings are not checked", by("fhir.validation:_Walk._refused", _without_codes)),
    _m("GEN-6", "decimals lose digits", by("fhir.xml:_value", _rounded)),
    _m("GEN-7", "parameters in a body are not read", by("api.app:_query", _without_form)),
    _m("GEN-8", "strict handling is ignored", to("api.app:Call.is_strict", False)),
    _m("GEN-9", "an empty search is not found", then("records.searching:RecordSearch.search", _nothing_is_absent)),
    _m("GEN-10", "cursors serve any client", giving("records.cursors:Cursors._mark", "all")),
    _m(
        "GEN-13",
        "signatures of tokens are not verified",
        giving("authorization.signatures:SignedToken.verify"),
        "edited",
    ),
    _m("GEN-14", "the scope is not asked for", giving("access:Scopes.permits", True)),
    _m("GEN-16", "an unknown type is any absence", by("api.routes:RouteTable.find", _raising_not_found)),
    _m("GEN-17", "If-Match is ignored", to("api.app:Call.if_match", None)),
    _m("GEN-18", "the scope is not asked for", giving("access:Scopes.permits", True)),
)


def _json() -> Any:
    from passerelle.api.negotiation import JSON

    return JSON


def _found(page: Any) -> Any:
    from passerelle.errors import NotFound

    if not page.versions:
        raise NotFound()
    return page


# --- submissions ------------------------------------------------------------------------------------------------------

_UNCONTAINED = (
    "type",
    "category",
    "securityLabel",
    "content.attachment.language",
    "content.attachment.creation",
    "content.format",
    "context.facilityType",
    "context.practiceSetting",
    "context.sourcePatientInfo",
)
_NATIONAL = (
    "date",
    "author",
    "context.period.start",
    "content.attachment.size",
    "content.attachment.hash",
    "content.attachment.title",
)


def _reversed_entries(original: Any) -> Any:
    return lambda entries, **named: original(list(entries)[::-1], **named)


def _without_etags(original: Any) -> Any:
    return lambda entries, **named: original([replace(each, etag=None) for each in entries], **named)


def _any_level(original: Any) -> Any:
    from passerelle.errors import Unprocessable

    def level(bundle: Mapping[str, Any]) -> Any:
        from passerelle.fhir.mhd import Level

        try:
            return original(bundle)
        except Unprocessable:
            return Level.COMPREHENSIVE

    return level


def _only_transactions(original: Any) -> Any:
    return lambda bundle: original({**bundle, "type": "transaction"})


def _without_logical(original: Any) -> Any:
    from passerelle.errors import Unprocessable

    def patient_of(gate: Any, subject: Any) -> Any:
        if subject.identifier is not None and subject.key is None:
            raise Unprocessable("the patient is not known", code="not-found")
        return original(gate, subject)

    return patient_of


def _without_relations(original: Any) -> Any:
    return lambda entries, level, options: original(entries, level, replace(options, relations=False))


def _lenient_relations(original: Any) -> Any:
    from passerelle.errors import Unprocessable

    def checked(*given: Any) -> Iterator[Any]:
        try:
            yield from original(*given)
        except Unprocessable as refusal:
            if refusal.issues[0].code != "business-rule":
                raise

    return checked


def _of_anybody(original: Any) -> Any:
    return lambda document, other, path: None if other.current is not None else original(document, other, path)


def _relative_url(original: Any) -> Any:
    def place(service: Any, work: Any, document: Any, entry: Any) -> None:
        original(service, work, document, entry)
        base = f"{work.request.base_url}/"
        work.references = {url: text.removeprefix(base) for url, text in work.references.items()}

    return place


_SUBMISSIONS = (
    _m("65-1", "response entries in another order", by("api.bundles:transaction_response", _reversed_entries), "1]"),
    _m("65-1", "response entries without etag", by("api.bundles:transaction_response", _without_etags), "1]"),
    _m("65-2", "any profile will do", by("api.bundles:submission_level", _any_level)),
    _m(
        "65-2",
        "any type of Bundle is a transaction",
        both(
            by("api.bundles:submission_level", _only_transactions),
            by("api.bundles:parse_transaction", _only_transactions),
        ),
        "no_transaction",
    ),
    _m("65-3", "mode and status are not checked", to("fhir.mhd:_SUBMISSION_SET_VALUES", {})),
    _m("65-3", "sourceId is not asked for", by("fhir.mhd:_SUBMISSION_SET_EXTENSIONS", lambda old: old[1:])),
    _m("65-3", "designationType is not asked for", by("fhir.mhd:_SUBMISSION_SET_EXTENSIONS", lambda old: old[:1])),
    _m("65-3", "date of the set is not asked for", by("fhir.mhd:_SUBMISSION_SET", lambda old: (old[0], old[2]))),
    _m("65-3", "two SubmissionSets", tolerating("fhir.mhd:_check_lists", "invariant"), "two"),
    _m("65-4", "docStatus and data are taken", to("fhir.mhd:_DOCUMENT_ABSENT", ())),
    _m("65-4", "withdrawn documents are taken", to("fhir.mhd:_STATUSES", ("current", "entered-in-error")), "other"),
    _m("65-4", "two contents", tolerating("fhir.mhd:_check_document", "invariant", texts=("one content",)), "two"),
    *(_m("65-5", f"{path} is not asked for", not_asking(path), path) for path in _UNCONTAINED),
    _m("65-6", "authors need not be contained", to("fhir.mhd:_CONTAINED", ())),
    _m("65-6", "source need not be contained", tolerating("fhir.mhd:_check_submission_set", "invariant"), "[source]"),
    _m("65-7", "content may be elsewhere", tolerating("fhir.mhd:_check_document", "not-found")),
    _m(
        "65-8",
        "size and hash are not verified",
        by("fhir.mhd:verified", lambda _: lambda content, *__, **___: content),
        "wrong",
    ),
    _m("65-8", "delayed documents are refused", to("documents.model:Declared.is_delayed", False), "delayed"),
    _m("65-9 105-4", "subjects by identifier are not resolved", by("records.gate:Gate.patient_of", _without_logical)),
    _m("65-10", "two patients in one submission", giving("fhir.transaction:TransactionService._check_patient"), "two"),
    _m("65-12 65-20 DMP-8 PDSM-1", "relations are dropped", by("fhir.transaction:taken", _without_relations)),
    _m("65-13", "PATCH and relation need not agree", by("fhir.relations:Relations.checked", _lenient_relations)),
    _m("65-13", "superseded documents are replaced", giving("fhir.relations:_check_replacement"), "already"),
    _m("65-15", "folders shrink", giving("fhir.lists:ListSuccession.check")),
    _m("65-16", "nobody is warned of a recipient", giving("fhir.recipients:Recipients.warnings", [])),
    _m("65-17", "FHIR documents are taken unclaimed", giving("fhir.submissions:_check_contents")),
    _m(
        "65-18",
        "people are registered without scope",
        giving("fhir.transaction:TransactionService._authorise"),
        "without",
    ),
    _m("65-19", "identifiers are misused", giving("fhir.mhd:_is_misused", False), "IdentifierUse"),
    _m("65-19", "SubmissionSets have no identifier", giving("fhir.mhd:_has_unique_id", True), "UniqueId_Sub"),
    _m(
        "65-19",
        "submissions have no SubmissionSet",
        tolerating("fhir.mhd:_check_lists", "invariant"),
        "Missing_SubmissionSet",
    ),
    _m("65-21", "a repetition is a conflict", giving("fhir.resubmissions:Resubmissions.find"), "same"),
    _m(
        "65-21",
        "any bytes are the same",
        by("fhir.resubmissions:Resubmissions._document", lambda _: _document_again),
        "other",
    ),
    _m("PDSM-2", "warnings are not given", giving("fhir.mhd:_tolerated", {}), "warning"),
    *(_m("PDSM-2", f"{path} is not asked for", not_asking(path), f"[{path}]") for path in _NATIONAL),
    _m(
        "DMP-9",
        "documents of anybody are replaced",
        both(
            by("fhir.relations:_check", _of_anybody),
            giving("fhir.transaction:TransactionService._check_patient"),
        ),
        "person",
    ),
    _m("67-5", "content URLs are relative", by("fhir.transaction:TransactionService._place_content", _relative_url)),
)


def _document_again(service: Any, request: Any, entry: Any, *_: Any) -> Any:
    master = entry.resource["masterIdentifier"]
    return service._relations.named(request, (master["system"], master["value"]))


# --- finding ----------------------------------------------------------------------------------------------------------

_LIST_PARAMETERS = ("date", "designationType", "identifier", "source.given", "source.family", "sourceId")
_LIST_PARAMETERS_PDSM = (
    "isArchived",
    "title",
    "authorOrg:identifier",
    "source:Patient.given",
    "source:Patient.family",
    "source:PractitionerRole.name",
)
_DOCUMENT_PARAMETERS = (
    "author.given",
    "author.family",
    "category",
    "creation",
    "date",
    "event",
    "facility",
    "format",
    "identifier",
    "period",
    "related:identifier",
    "security-label",
    "setting",
    "type",
)
_DOCUMENT_PARAMETERS_PDSM = ("isArchived", "period-start", "period-end", "author:PractitionerRole.name")


def _case(name: str) -> str:
    return f"[{name.removesuffix(':identifier')}"


def _whole(original: Any) -> Any:
    return lambda mending, body, hidden: body


def _anybodys(original: Any) -> Any:
    return lambda kind, parsed: original(kind, parsed) or _somebody()


def _somebody() -> Any:
    from passerelle.records.model import Subject

    return Subject(key="0" * 16)


def _with_folders(original: Any) -> Any:
    return lambda row, pairs: pairs


def _strict(original: Any) -> Any:
    return lambda *given, **named: original(*given, **{**named, "strict": True})


def _without_patient_needed(original: Any) -> Any:
    from passerelle.errors import Invalid

    def subject(kind: str, parsed: Any) -> Any:
        try:
            return original(kind, parsed)
        except Invalid:
            return _somebody()

    return subject


_FINDING = (
    *(_m("66-2", f"{name} selects nothing", ignoring(name), _case(name)) for name in _LIST_PARAMETERS),
    *(_m("PDSM-14", f"{name} selects nothing", ignoring(name), _case(name)) for name in _LIST_PARAMETERS_PDSM),
    *(_m("67-2", f"{name} selects nothing", ignoring(name), _case(name)) for name in _DOCUMENT_PARAMETERS),
    *(_m("PDSM-15", f"{name} selects nothing", ignoring(name), _case(name)) for name in _DOCUMENT_PARAMETERS_PDSM),
    _m("66-1", "code selects nothing", ignoring("code"), "code"),
    _m("66-1", "status of a List selects nothing", ignoring("status"), "other_status"),
    _m("66-3", "sourceId selects folders", by("fhir.search:_without_folder_exceptions", _with_folders), "folder"),
    _m("66-3", "unknown parameters are refused", by("api.interactions:parse_query", _strict), "target"),
    _m(
        "66-4 67-1", "a search needs no patient", by("api.interactions:_subject", _without_patient_needed), "no_patient"
    ),
    _m("66-5", "Lists tell of hidden documents", by("fhir.concealment:ReferenceMending.without", _whole)),
    _m("67-1", "status of a document selects nothing", ignoring("status"), "status"),
    _m("67-3", "identifier selects nothing", ignoring("identifier"), "identifiers"),
    _m("67-3", "period selects nothing", ignoring("period"), "period"),
    _m("PDSM-15", "relatesto selects nothing", ignoring("relatesto", "relatesTo"), "relates_to"),
    _m("PDSM-16", "isArchived selects nothing", ignoring("isArchived")),
    _m("DMP-10", "bounds of date select nothing", ignoring("date"), "pairs3"),
    _m(
        "DMP-12",
        "_lastUpdated is refused",
        to("fhir.search:_INDIFFERENT", frozenset({"_lastUpdated", "patient.identifier"})),
    ),
    _m("DMP-13", "identifier selects nothing", ignoring("identifier")),
    _m("DMP-14", "who feeds finds everything", by("api.finding:search", lambda old: lambda *x, producer=None: old(*x))),
)


# --- retrieving -------------------------------------------------------------------------------------------------------


def _bytes(original: Any) -> Any:
    return lambda call, content_type: iter(("bytes",))


def _shortened(release: Any) -> Any:
    return replace(release, data=release.data[:-1]) if release.data else release


def _as_text(release: Any) -> Any:
    return replace(release, content_type="application/octet-stream")


def _not_found() -> Any:
    from passerelle.errors import NotFound

    return NotFound()


def _empty_binary(binary: dict[str, Any]) -> dict[str, Any]:
    return {**binary, "data": "AAAA"}


_RETRIEVING = (
    _m("68-1 PDSM-17", "contents are shortened", then("documents.service:DocumentService.release", _shortened)),
    _m("68-1", "contents lose their type", then("documents.service:DocumentService.release", _as_text)),
    _m("68-2", "hidden contents are released", giving("consents.visibility:View.shows", True), "hidden"),
    _m(
        "68-3",
        "superseded contents are released",
        giving("documents.service:DocumentService.check_available"),
        "superseded",
    ),
    _m(
        "68-3",
        "withdrawn contents are released",
        giving("documents.service:DocumentService.check_available"),
        "withdrawn",
    ),
    _m("68-4", "contents are given as another type", by("api.contents:_forms", _bytes)),
    _m("68-5", "other methods are not found", by("api.contents:_not_legal", lambda _: _not_found), "P"),
    _m("68-5", "any query is legal", to("api.contents:_LEGAL_QUERY", frozenset({"colour"})), "query"),
    _m("DMP-15", "content URLs are relative", by("fhir.transaction:TransactionService._place_content", _relative_url)),
    _m("DMP-16", "a Binary has other data", then("api.contents:_as_binary", _empty_binary)),
    _m("DMP-17", "hidden contents in a batch", giving("consents.visibility:View.shows", True)),
)


# --- single documents -------------------------------------------------------------------------------------------------


def _without_set(original: Any) -> Any:
    def execute(service: Any, request: Any, entries: Any, level: Any, **named: Any) -> Any:
        if named.get("is_authorised"):
            entries, level = [each for each in entries if each.type != "List"], None
        return original(service, request, entries, level, **named)

    return execute


def _unmeasured(original: Any) -> Any:
    def described(document: Mapping[str, Any], content: bytes) -> Any:
        attachment = {k: v for k, v in document["content"][0]["attachment"].items() if k not in ("size", "hash")}
        bare = {**document, "content": [{**document["content"][0], "attachment": attachment}]}
        return original(bare, content)

    return described


def _uncomputed(described: dict[str, Any]) -> dict[str, Any]:
    attachment = {k: v for k, v in described["content"][0]["attachment"].items() if k not in ("size", "hash")}
    return {**described, "content": [{**described["content"][0], "attachment": attachment}]}


def _not_superseding(original: Any) -> Any:
    return lambda document, content, request: original(
        {name: value for name, value in document.items() if name != "relatesTo"}, content, request
    )


def _stripped(document: Any) -> Any:
    return replace(document, data=document.data + b" ")


def _first_argument(original: Any) -> Any:
    def argument(parameters: Mapping[str, Any]) -> Any:
        return original({**parameters, "parameter": [{**parameters["parameter"][0], "name": "document"}]})

    return argument


_PUBLISHING = (
    _m(
        "105-1",
        "no SubmissionSet is derived",
        by("fhir.transaction:TransactionService.execute", _without_set),
        "publish",
    ),
    _m("105-2", "constraints are not checked", giving("fhir.documents:check_simplified")),
    _m("105-3", "size and hash are not verified", by("fhir.documents:_described", _unmeasured), "wrong"),
    _m("105-3", "size and hash are not computed", then("fhir.documents:_described", _uncomputed), "absent"),
    _m("105-5", "replaced documents stay current", by("fhir.documents:submission_of", _not_superseding)),
    _m("106-1", "bytes are changed", then("fhir.generated_metadata:coded_document", _stripped), "test_106_1_cda"),
    _m("106-2", "the same document is a conflict", giving("fhir.resubmissions:Resubmissions.find")),
    _m("106-3", "headers may lack anything", giving("fhir.generated_metadata:_missing", []), "without"),
    _m("106-3", "any argument will do", by("fhir.generated_metadata:_argument", _first_argument), "two parts"),
    _m("PDSM-3", "an unknown patient is no fault of the URL", to("fhir.documents:_SUBJECT", ""), "unknown"),
    _m("DMP-6", "a custodian is asked for", by("fhir.mhd:_DOCUMENT", lambda old: (*old, _national("custodian")))),
    _m(
        "DMP-7", "labels of a new document are lost", by("fhir.submissions:_canonical", lambda _: lambda *__: _normal())
    ),
)


def _national(path: str) -> Any:
    from passerelle.fhir.mhd import Level, Required

    return Required(path, Level.NATIONAL)


def _normal() -> Iterator[dict[str, Any]]:
    yield {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "N"}]}


# --- changing ---------------------------------------------------------------------------------------------------------


def _first_carrier(original: Any) -> Any:
    def carrier(service: Any, request: Any, identifier: Any, named: Any) -> Any:
        from passerelle.errors import Stale
        from passerelle.fhir.mhd import identifier_token
        from passerelle.records.model import ResourceKey

        try:
            return original(service, request, identifier, named)
        except Stale:
            token = identifier_token(service._blinder, *identifier)
            return ResourceKey.of("DocumentReference", min(service._store.find_carriers("DocumentReference", token)))

    return carrier


def _labels(make: Callable[[Any, Any, Any], Any]) -> Break:
    """Labels by another rule: `make(original, labels, intention)`."""
    return by("fhir.document_patch:revised", lambda original: lambda labels, meant: make(original, labels, meant))


def _replacing_all(original: Any, labels: Any, meant: Any) -> Any:
    from passerelle.documents.labels import Mask

    if isinstance(meant, Mask):
        return replace(labels, masks=frozenset({meant.label}))
    return original(labels, meant)


def _lifting_all(original: Any, labels: Any, meant: Any) -> Any:
    from passerelle.documents.labels import Lift, Restore

    if isinstance(meant, Restore | Lift):
        return replace(labels, masks=frozenset())
    return original(labels, meant)


def _as_listed(original: Any, labels: Any, meant: Any) -> Any:
    from passerelle.documents.labels import State

    return meant.labels if isinstance(meant, State) else original(labels, meant)


def _never_lifting(original: Any, labels: Any, meant: Any) -> Any:
    from passerelle.documents.labels import Restore

    return labels if isinstance(meant, Restore) else original(labels, meant)


def _hidden_from(label: str, *viewers: str) -> Break:
    return relabelled(lambda rules: rules["labels"][label].update(hidden_from=list(viewers)))


def _unchanged(revised: Any) -> Any:
    return replace(revised, status=revised.status_before)


def _not_final(original: Any) -> Any:
    def check(revision: Any, current: Any, revised: Any) -> None:
        original(revision, current, replace(revised, status_before="current"))

    return check


_PATCHED = ("status", "securityLabel", "extension", "type", "description", "date", "docStatus")
_EVERYBODY = ("professional", "patient", "representative")
_CHANGING = (
    _m("PDSM-4", "status does not change", then("fhir.document_patch:DocumentPatch.applied", _unchanged), "status"),
    _m(
        "PDSM-5 DMP-28",
        "one of several is changed",
        by("fhir.document_updates:DocumentUpdateService._carrier", _first_carrier),
    ),
    _m("PDSM-6", "other elements change", to("fhir.document_patch:_PATCHED", _PATCHED)),
    _m("PDSM-7", "the accepted forms are not named", to("fhir.document_patch:_ACCEPTED", "no")),
    _m("PDSM-8", "Accept-Patch is not told", to("api.app:PATCH_TYPES", ("application/fhir+json",)), "xml"),
    _m("PDSM-8", "operations are not checked", giving("fhir.patch:_check_operation"), "improve"),
    _m("PDSM-9 DMP-24", "anybody may do anything", giving("documents.changes:Change.is_allowed", True)),
    _m("PDSM-10", "a label replaces the others", _labels(_replacing_all)),
    _m("PDSM-11 DMP-20", "N lifts every mask", _labels(_lifting_all)),
    _m("PDSM-12", "lifting one mask lifts all", _labels(_lifting_all), "by_name"),
    _m("PDSM-12", "masks are dropped silently", _labels(_as_listed), "silently"),
    _m("PDSM-13", "aliases stay", relabelled(lambda rules: rules["aliases"].clear()), "REP_LEGAUX"),
    _m("PDSM-13", "a label is unknown", relabelled(lambda rules: rules["labels"].pop("MASQUE_PT")), "MASQUE_PT]"),
    _m("DMP-18", "masks hide from nobody", _hidden_from("MASQUE_PS"), "mask"),
    _m(
        "DMP-19",
        "masks hide from who published",
        relabelled(lambda rules: rules["labels"]["MASQUE_PS"].update({"except": []})),
    ),
    _m("DMP-19", "masks hide from the patient", _hidden_from("MASQUE_PS", *_EVERYBODY)),
    _m("DMP-20", "a mask is never lifted", _labels(_never_lifting), "unmask"),
    _m("DMP-21 PDSM-5", "hidden documents are changed", giving("consents.visibility:View.shows", True)),
    _m("DMP-22 DMP-7", "the patient sees what is hidden", _hidden_from("INVISIBLE_PATIENT")),
    _m("DMP-22", "professionals do not see it either", _hidden_from("INVISIBLE_PATIENT", *_EVERYBODY)),
    _m("DMP-23", "representatives see what is hidden", _hidden_from("INVISIBLE_REPRESENTANTS_LEGAUX")),
    _m("DMP-23", "the patient does not see it either", _hidden_from("INVISIBLE_REPRESENTANTS_LEGAUX", *_EVERYBODY)),
    _m("DMP-25", "withdrawn contents are released", giving("documents.service:DocumentService.check_available")),
    _m("DMP-25", "withdrawn documents are found", to("fhir.resource:ResourceDraft.is_withdrawn", False)),
    _m("DMP-26", "withdrawn documents come back", by("fhir.document_updates:_Revision._check", _not_final), "back"),
    _m("DMP-27", "the draft's path is none", to("fhir.document_patch:_ARCHIVE_PATH", "/nothing"), "JSON Patch"),
)


# --- the state of a record --------------------------------------------------------------------------------------------

_STATE = (
    _m(
        "DMP-7",
        "no open record is needed",
        giving("documents.service:DocumentService.check_publication"),
        "no_open_record",
    ),
    _m("DMP-31", "the patient is told of nothing", then("api.app:audit_of", lambda records: list(records)[:0])),
)

MUTANTS = (*_GENERAL, *_SUBMISSIONS, *_FINDING, *_RETRIEVING, *_PUBLISHING, *_CHANGING, *_STATE)


# --- without the options ----------------------------------------------------------------------------------------------

MUTANTS_WITHOUT_OPTIONS = (
    _m(
        "65-14 105-5",
        "the warning is not that of the guide",
        to("fhir.submissions:_NOT_PROCESSED", dict.fromkeys(("replaces", "transforms", "appends"), "ignored")),
    ),
    _m("65-15", "the warning is not that of the guide", to("fhir.submissions:_FOLDER_NOT_PROCESSED", "ignored")),
    _m(
        "65-17",
        "FHIR documents are refused",
        by(
            "fhir.submissions:_check_contents",
            lambda old: lambda contents, options: old(contents, replace(options, fhir_documents=False)),
        ),
    ),
)
