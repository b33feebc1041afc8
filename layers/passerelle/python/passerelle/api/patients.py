"""Patient over HTTP: the feed (ITI-104), demographics (ITI-78, ITI-119), cross-reference (ITI-83), DMP status (TD0.2).

Beside them the plain interactions of R4. Source records are not deleted by id: their source withdraws them under its
own identifier. What others than the source may see of an identity is left out here, where searches compare what is
shown, and once more of every answer (`fhir/disclosure.py`), past versions among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from passerelle.access import Permission, Touched
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply
from passerelle.api.interactions import WiredRecords, patched, search_url, serve, version_headers
from passerelle.api.operations import serve_person, serve_validate
from passerelle.consents.model import RecordStatus
from passerelle.errors import Invalid, Issue, NotFound
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import Found, searchset
from passerelle.fhir.crossreference import read_crossreference, render_crossreference
from passerelle.fhir.demographics import (
    check_dmp_search,
    chosen,
    is_dmp_search,
    narrowed,
    read_search,
    single_identifier,
)
from passerelle.fhir.disclosure import is_source
from passerelle.fhir.identity import check_size
from passerelle.fhir.match import Graded, check_traits, read_match, render_matches
from passerelle.fhir.outcome import success
from passerelle.fhir.patient import FhirPatientDraft, dmp_view, public_view, traits_of
from passerelle.fhir.validation import validate
from passerelle.patients.identity import IdentityScheme
from passerelle.patients.model import Person, StoredPatient
from passerelle.patients.registration import Registered
from passerelle.patients.search import PatientSearch
from passerelle.patients.service import PatientService
from passerelle.records.cursors import CURSOR, Cursors

_DMP = "TD0.2"
_WITH_RECORD = (RecordStatus.OPEN, RecordStatus.CLOSED)
SeenPatient = tuple[StoredPatient, Person]
_SEARCH = Permission(resource="Patient", interaction="s", transactions=("ITI-78",))


class WiredPatients(WiredRecords, Protocol):
    @property
    def patients(self) -> PatientService: ...

    @property
    def scheme(self) -> IdentityScheme: ...

    @property
    def cursors(self) -> Cursors: ...


def serve_patients(app: FhirApp) -> None:
    """Declare the routes of Patient."""
    feed = ("ITI-104",)
    app.interaction("Patient", "conditional-update", transactions=feed)(_register)
    app.interaction("Patient", "conditional-delete", transactions=feed)(_remove)
    app.interaction("Patient", "create", transactions=feed, features=("conditional-create",))(_create)
    app.interaction("Patient", "update", transactions=feed)(_update)
    app.interaction("Patient", "patch", transactions=feed)(_patch)
    app.interaction("Patient", "read", transactions=("ITI-78",), features=("conditional-read",))(_read)
    app.interaction("Patient", "search-type", transactions=("ITI-78", _DMP))(_search)
    for method in ("GET", "POST"):
        app.operation("Patient", "/$ihe-pix", needs="s", method=method, transaction="ITI-83")(_cross_reference)
    app.operation("Patient", "/$match", needs="s", transaction="ITI-119")(_match)
    serve(app, "Patient", ("vread", "history-instance"))
    serve_person(app)
    serve_validate(app, "Patient")


# --- feed (ITI-104) ---------------------------------------------------------------------------------------------------


def _register(call: Call, wired: WiredPatients) -> Reply:
    identifier = single_identifier(call.query)
    draft = _draft(call, wired, call.resource)
    registered = wired.patients.register(call.request, identifier, draft, if_match=call.if_match)
    return _written(call, *registered, warnings=draft.warnings)


def _create(call: Call, wired: WiredPatients) -> Reply:
    asked = call.if_none_exist
    condition = None if asked is None else single_identifier(asked)
    draft = _draft(call, wired, call.resource)
    created = wired.patients.create(call.request, draft, if_none_exist=condition)
    return _written(call, *created, warnings=draft.warnings)


def _update(call: Call, wired: WiredPatients) -> Reply:
    draft = _draft(call, wired, call.resource)
    if call.resource.get("id") != call.id:
        raise Invalid("the id in the resource is not the one in the URL", code="invariant", expression="Patient.id")
    updated = wired.patients.update(call.request, call.id, draft, if_match=call.if_match)
    return _written(call, *updated, warnings=draft.warnings)


def _patch(call: Call, wired: WiredPatients) -> Reply:
    def revise(stored: bytes) -> FhirPatientDraft:
        return _draft(call, wired, patched(call, stored))

    return _written(call, *wired.patients.patch(call.request, call.id, revise, if_match=call.if_match))


def _draft(call: Call, wired: WiredPatients, resource: Any) -> FhirPatientDraft:
    validate(resource, expected_type="Patient")
    return FhirPatientDraft(resource, wired.scheme, base_url=call.request.base_url)


def _written(call: Call, registered: Registered, stored: StoredPatient, *, warnings: tuple[Issue, ...] = ()) -> Reply:
    headers = version_headers(registered.version, stored.at)
    headers["Location"] = f"{call.request.base_url}/Patient/{registered.patient}/_history/{registered.version}"
    return Reply(
        status=201 if registered.is_new else 200,
        body=stored.body,
        headers=headers,
        touched=COMMITTED,
        warnings=warnings,
    )


def _remove(call: Call, wired: WiredPatients) -> Reply:
    """200 with an outcome (contract P13), or 204 for a client that wants none."""
    removed = wired.patients.remove(call.request, single_identifier(call.query))
    headers = {"ETag": f'W/"{removed.version}"'}
    if call.returns == "minimal":
        return Reply(status=204, body=None, headers=headers, touched=COMMITTED)
    return Reply(body=success("deleted"), headers=headers, touched=COMMITTED)


# --- demographics (ITI-78, TD0.2) -------------------------------------------------------------------------------------


def _shown(call: Call, stored: StoredPatient, person: Person) -> StoredPatient:
    """A source record as the caller may see it."""
    own = is_source(call.request.caller, stored.traits.identifiers)
    return replace(stored, body=public_view(stored, person, is_source=own))


def _read(call: Call, wired: WiredPatients) -> Reply:
    found, person = wired.patients.read_with_person(call.request, call.id)
    touched = Touched.of([found.patient], [f"Patient/{found.patient}/_history/{found.version}"])
    body = call.part.of(_shown(call, found, person).body)
    headers = version_headers(found.version, found.at)
    return Reply(body=body, headers=headers, touched=touched, is_disclosed=True)


def _search(call: Call, wired: WiredPatients) -> Reply:
    asked = _asked(call, wired)
    is_dmp = _has_dmp(call) and is_dmp_search(asked, wired.scheme.systems)
    matching = wired.patients.find(call.request, asked, says_refusals=is_dmp)
    found = [(_shown(call, each, person), person) for each, person in matching]
    hits = [each for each in chosen(found, asked) if not is_dmp or each[1].policy.status in _WITH_RECORD]
    page, following = _page(call, wired, asked, hits)
    survivors = [] if is_dmp else _survivors(call, wired, page, hits)
    matches = [_dmp_body(call, *each) if is_dmp else each[0].body for each in page]
    listed = [each.patient for each, _ in page]
    body = searchset(
        [
            *(_found(call, asked, *each) for each in zip(listed, matches, strict=True)),
            *(replace(_found(call, asked, each.patient, each.body), mode="include") for each in survivors),
        ],
        base_url=call.request.base_url,
        self_url=search_url(call, "Patient", asked.used),
        next_url=search_url(call, "Patient", [*asked.used, (CURSOR, following)]) if following else None,
        total=None if asked.shown.total == "none" else len(hits),
    )
    touched = Touched.of([*listed, *(each.patient for each in survivors)])
    return Reply(body=body, touched=touched, is_disclosed=True)


def _dmp_body(call: Call, shown: StoredPatient, person: Person) -> bytes:
    professional = call.request.caller.professional
    # What is not for the caller is left out already.
    return fhir_json.dumps(dmp_view(shown, person, is_source=True, professional=professional))


def _has_dmp(call: Call) -> bool:
    return _DMP in call.request.caller.scopes.values


def _asked(call: Call, wired: WiredPatients) -> PatientSearch:
    request = call.request
    if _has_dmp(call) and not request.caller.scopes.permits(_SEARCH):
        check_dmp_search(call.query, wired.scheme.systems)
    return read_search(
        call.query, base_url=request.base_url, strict=call.is_strict, is_known=wired.patients.is_known_system
    )


def _survivors(
    call: Call, wired: WiredPatients, page: Sequence[SeenPatient], hits: Sequence[SeenPatient]
) -> list[StoredPatient]:
    """What replaced the records of the page, unless it matches, too (contract 78-6)."""
    matching = {each.patient for each, _ in hits}
    found = wired.patients.survivors(call.request, page)
    return [_shown(call, each, person) for each, person in found if each.patient not in matching]


def _found(call: Call, asked: PatientSearch, patient: str, body: bytes) -> Found:
    return Found(reference=f"Patient/{patient}", body=call.part.of(narrowed(body, asked.systems)))


def _page(
    call: Call, wired: WiredPatients, asked: PatientSearch, hits: Sequence[SeenPatient]
) -> tuple[Sequence[SeenPatient], str | None]:
    """As many as are wanted after those that were given before, and where the next page starts."""
    purpose = repr(asked)
    last = wired.cursors.read(call.request, purpose, call.one(CURSOR))
    start = 0
    if last is not None:
        patient, number = last
        start = next((place for place, each in enumerate(hits, 1) if each[0].patient == patient), number)
    count = 0 if call.part.summary == "count" else asked.shown.count
    page = hits[start : start + count]
    if not page or start + count >= len(hits):
        return page, None
    return page, wired.cursors.made(call.request, purpose, [page[-1][0].patient, start + count])


# --- cross-reference (ITI-83), match (ITI-119) ------------------------------------------------------------------------


def _cross_reference(call: Call, wired: WiredPatients) -> Reply:
    body = call.resource if call.body else None
    asked = read_crossreference(call.query, body, base_url=call.request.base_url)
    is_known = wired.patients.is_known_system
    try:
        found = wired.patients.cross_reference(
            call.request, identifier=asked.identifier, patient=asked.patient, systems=asked.domains
        )
    except NotFound:
        raise asked.refusal(is_known) from None
    met = {system for system, _ in found.identifiers}  # what is in the answer needs no look-up to be known
    asked.check_domains(lambda system: system in met or is_known(system))
    told_of = [*([asked.patient] if asked.patient else []), *found.patients]
    return Reply(body=render_crossreference(asked, found), touched=Touched.of(told_of))


def _match(call: Call, wired: WiredPatients) -> Reply:
    asked = read_match(call.query, call.resource)
    check_size(asked.patient)
    traits = traits_of(asked.patient, wired.scheme)
    check_traits(traits)
    found = wired.patients.match(call.request, traits, count=asked.count, only_certain=asked.only_certain)
    graded = [
        Graded(
            reference=f"Patient/{each.stored.patient}",
            body=_shown(call, each.stored, each.person).body,
            score=each.score,
            grade=each.grade.value,
        )
        for each in found.matches
    ]
    base_url = call.request.base_url
    body = render_matches(graded, found.warnings, base_url=base_url, self_url=f"{base_url}/Patient/$match")
    touched = Touched.of([each.stored.patient for each in found.matches])
    return Reply(body=body, touched=touched, is_disclosed=True)
