"""Changing a document that is published: mask, show, archive, withdraw (ANS PDSm flux 03 and 04; DMP TD3.3a to d).

The document is named by its id, or by a business identifier that is looked up wherever it is (contract PDSM-4): whose
record that is, the client need not know. Decisions are made on the version that is about to change, and again when
another change came first. What a document alone stated is withdrawn with it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from passerelle.access import Permission, Request, insufficient_scope
from passerelle.consents.model import RecordStatus
from passerelle.consents.visibility import viewer_of
from passerelle.errors import Forbidden, NotFound, Stale, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.document_patch import WITHDRAWN, DocumentPatch, Revised
from passerelle.fhir.mhd import identifier_token
from passerelle.fhir.resource import ResourceDraft
from passerelle.fhir.search import ParsedQuery
from passerelle.fhir.statements import Statements, is_read
from passerelle.fhir.validation import validate
from passerelle.identifiers import Blinder
from passerelle.records.gate import Gate
from passerelle.records.model import Draft, ResourceKey, StoredVersion, Subject
from passerelle.records.ports import RecordStore
from passerelle.records.search import TokenIs
from passerelle.records.service import Plan, RecordService, Written

TYPE: Final = "DocumentReference"


class DocumentUpdateService:
    def __init__(
        self,
        *,
        records: RecordService,
        gate: Gate,
        store: RecordStore,
        blinder: Blinder,
        statements: Callable[[], Statements],
    ) -> None:
        self._statements = statements
        self._records = records
        self._gate = gate
        self._store = store
        self._blinder = blinder

    def update(self, request: Request, id: str, patch: DocumentPatch, *, if_match: int | None) -> Written:
        """Store the next version, or leave it where nothing changes; without `if_match`, of whichever is current.

        Raises Forbidden for what the scope or the caller's part in the document does not allow, NotFound for a document
        that is not there for the caller, Unprocessable in a closed record, whether the document is there or not.
        """
        self._check_scope(request, patch)
        key = ResourceKey.of(TYPE, id)
        refuse = partial(self._refuse_if_closed, request, key)
        return self._updated(request, key, patch, if_match=if_match, refuse=refuse)

    def update_where(
        self, request: Request, condition: ParsedQuery, patch: DocumentPatch, *, if_match: int | None
    ) -> Written:
        """The same for the one document that a condition finds; raises NotFound for none, Stale for several.

        A document that was withdrawn is found where no other is.
        """
        self._check_scope(request, patch)
        named = self._named(condition)
        if named is not None:
            self._refuse_if_closed(request, named)
        identifier = _identifier(condition)
        key: ResourceKey | None
        if identifier is None:
            key = self._records.matching(request, TYPE, condition).key
        else:
            key = self._carrier(request, identifier, named)
        refuse = partial(self._refuse_if_closed, request, key, is_named=False)
        return self._updated(request, key, patch, if_match=if_match, refuse=refuse)

    def _updated(
        self,
        request: Request,
        key: ResourceKey | None,
        patch: DocumentPatch,
        *,
        if_match: int | None,
        refuse: Callable[[], None],
    ) -> Written:
        if key is None:
            raise NotFound()
        try:
            return self._records.patch(
                request,
                TYPE,
                key.id,
                _Revision(request, patch),
                if_match=if_match,
                along=partial(self._what_follows, request),
            )
        except NotFound:
            refuse()
            raise

    def _what_follows(self, request: Request, plan: Plan) -> list[Plan]:
        """A document that is withdrawn, which it is once, takes along what it stated, if anything was read of it."""
        is_withdrawn = plan.version is not None and plan.version.entry is None
        if not is_withdrawn or plan.version is None or not is_read(fhir_json.loads(plan.version.body or b"{}")):
            return []
        return self._statements().withdrawal(request, plan.written.key)

    # --- which document -------------------------------------------------------------------------------------------

    def _carrier(self, request: Request, identifier: tuple[str, str], named: ResourceKey | None) -> ResourceKey | None:
        """The document that carries a business identifier; raises Stale where several do that the caller sees."""
        token = identifier_token(self._blinder, *identifier)
        keys = [key for id in self._store.find_carriers(TYPE, token) if (key := ResourceKey.of(TYPE, id))]
        if named is not None and named.patient is not None:
            person = self._gate.find_person(named.patient)
            keys = [key for key in keys if person is not None and key.patient in person.members]
        if len(keys) < 2:
            return keys[0] if keys else None
        found = [stored for key in keys if (stored := self._seen(request, key)) is not None]
        standing = [stored for stored in found if _status(stored) != WITHDRAWN]
        if len(standing or found) > 1:
            raise Stale("several resources match", code="multiple-matches")
        return (standing or found)[0].key if found else None

    def _seen(self, request: Request, key: ResourceKey) -> StoredVersion | None:
        try:
            return self._records.read(request, TYPE, key.id)
        except NotFound:
            return None

    def _named(self, condition: ParsedQuery) -> ResourceKey | None:
        """The record that a condition names, if it names one that there is."""
        subject = Subject(key=condition.patient, identifier=condition.patient_identifier)
        patient = self._gate.patient_of(subject)
        return ResourceKey.of("Patient", patient) if patient else None

    # --- who may --------------------------------------------------------------------------------------------------

    def _check_scope(self, request: Request, patch: DocumentPatch) -> None:
        """Before anything is read, so that the answer says nothing of the document."""
        for transactions in patch.transactions():
            _require(request, transactions)

    def _refuse_if_closed(self, request: Request, key: ResourceKey | None, *, is_named: bool = True) -> None:
        """Raise Unprocessable where the record is closed, for those who could see into it if it were open.

        A record that a client did not name itself (`is_named`) is spoken of only to who would see the document there.
        """
        person = self._gate.find_person(key.patient) if key is not None and key.patient is not None else None
        if key is None or person is None or person.policy.status is not RecordStatus.CLOSED:
            return
        view = self._gate.view_if_open(request, person)
        if view is None:
            return
        if not is_named:
            stored = self._store.find_latest(key)
            if stored is None or not view.shows(stored.restriction):
                return
        raise Unprocessable("the shared record of this person is closed")


class _Revision:
    """`records.service.Revise` of a document: what a patch makes of a version, if the caller may make that of it."""

    def __init__(self, request: Request, patch: DocumentPatch) -> None:
        self._request = request
        self._patch = patch
        self._lifted: frozenset[str] | None = None

    def __call__(self, current: StoredVersion) -> Draft | None:
        revised = self._patch.applied(fhir_json.loads(current.body or b"{}"))
        if self._lifted not in (None, revised.unnamed):
            # Another change came between, and the code N would lift what its sender has not seen.
            raise Stale("the labels of the document were changed meanwhile: read it again")
        self._lifted = revised.unnamed
        self._check(current, revised)
        if not revised.changes:
            return None
        validate(revised.content, expected_type=TYPE)
        return ResourceDraft(revised.content, self._request.base_url)

    def _check(self, current: StoredVersion, revised: Revised) -> None:
        caller = self._request.caller
        is_producer = current.producer is not None and current.producer == caller.organisation
        viewer = viewer_of(caller.role)
        for change in revised.changes:
            _require(self._request, change.transactions)
            if not change.is_allowed(viewer, is_producer=is_producer):
                raise Forbidden("this change of the document is not for this caller")
        if revised.changes and revised.status_before == WITHDRAWN:
            raise Unprocessable("a document that was withdrawn does not change", expression=f"{TYPE}.status")


def _require(request: Request, transactions: tuple[str, ...]) -> None:
    permission = Permission(resource=TYPE, interaction="u", transactions=transactions)
    if not request.caller.scopes.permits(permission):
        raise insufficient_scope()


def _identifier(condition: ParsedQuery) -> tuple[str, str] | None:
    """The identifier that is all that a condition asks for, as system and value."""
    criteria = condition.query.criteria
    if len(criteria) != 1 or criteria[0].name != "identifier" or criteria[0].modifier:
        return None
    tokens = criteria[0].alternatives
    if len(tokens) != 1 or not isinstance(tokens[0], TokenIs) or not tokens[0].system or not tokens[0].code:
        return None
    return tokens[0].system, tokens[0].code


def _status(stored: StoredVersion) -> str:
    return str(fhir_json.loads(stored.body or b"{}").get("status"))
