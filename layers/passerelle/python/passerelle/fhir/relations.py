"""How a new document relates to others: replaces, appends to, transforms, signs (IHE MHD ITI-65 2:3.65.4.1.2.3).

Contract 65-12, 65-13, DMP-8, DMP-9. A replacement comes with a PATCH that marks what it replaces as superseded, and the
two are one commit. Only the organisation that published a document replaces it: the content of a superseded document
is served to nobody any more (P2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from passerelle.access import Request
from passerelle.errors import Conflict, Forbidden, NotFound, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import TransactionEntry
from passerelle.fhir.mhd import identifier_token
from passerelle.identifiers import Blinder
from passerelle.patients.model import Person
from passerelle.records.model import ResourceKey
from passerelle.records.service import RecordService, Target

_UNKNOWN = "the document is not known"
Literal = Callable[[str, Person | None], str]
"""What a reference of the transaction means, in the record of a person: `Type/id`, or the text as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """An entry about a document, and the document that it is about; `target.current` is None for a new one."""

    entry: TransactionEntry
    target: Target


class Relations:
    def __init__(self, records: RecordService, blinder: Blinder) -> None:
        self._records = records
        self._blinder = blinder

    def named(self, request: Request, identifier: tuple[str, str]) -> Target:
        """The document that a business identifier names; raises NotFound, also where the caller may not see it."""
        id = self._records.claimed("DocumentReference", identifier_token(self._blinder, *identifier))
        if id is None:
            raise NotFound()
        return self._records.existing(request, "DocumentReference", id)

    def checked(
        self, request: Request, documents: Sequence[Related], patches: Sequence[Related], literal: Literal
    ) -> Iterator[TransactionEntry]:
        """The new documents with each relation by the id of the document that it is to.

        Raises Unprocessable (`not-found`) for a document that does not exist for the caller, Unprocessable
        (`business-rule`) for one of another person, or for a replacement and its PATCH that do not go together;
        Forbidden for who replaces a document of others; Conflict when it is not current any more.
        """
        by_key = {patch.target.key: patch for patch in patches}
        beside = {document.target.key: document for document in documents}
        replaced: dict[ResourceKey, str] = {}
        for document in documents:
            resolved = []
            for number, relation in enumerate(document.entry.resource.get("relatesTo", [])):
                path = f"{document.entry.path}.resource.relatesTo[{number}].target"
                other = self._other(request, document, relation["target"], path, {**beside, **by_key}, literal)
                _check(document, other, path)
                if relation["code"] == "replaces":
                    if other.key in replaced:
                        raise Unprocessable("another document replaces it already", expression=path)
                    replaced[other.key] = path
                    _check_replacement(request, other, beside.get(other.key), path)
                resolved.append({**relation, "target": {**relation["target"], "reference": other.key.reference}})
            if resolved:
                yield replace(document.entry, resource={**document.entry.resource, "relatesTo": resolved})
        for key, path in replaced.items():
            if key not in by_key and key not in beside:
                raise Unprocessable("a replacement comes with the PATCH of what it replaces", expression=path)
        for key, patch in by_key.items():
            if key not in replaced:
                raise Unprocessable("it is not replaced here", expression=f"{patch.entry.path}.request.url")

    def _other(
        self,
        request: Request,
        document: Related,
        target: Mapping[str, Any],
        path: str,
        here: Mapping[ResourceKey, Related],
        literal: Literal,
    ) -> Target:
        text = literal(target["reference"], document.target.person) if "reference" in target else ""
        kind, _, rest = text.removeprefix(f"{request.base_url}/").partition("/")
        id = rest.partition("/_history/")[0]
        for key, related in here.items():
            if (kind, id) == (key.type, key.id):
                return related.target
        try:
            if kind == "DocumentReference" and id:
                return self._records.existing(request, kind, id)
            identifier = target.get("identifier", {})
            if not text and "value" in identifier:
                return self.named(request, (identifier.get("system", ""), identifier["value"]))
        except NotFound:
            raise Unprocessable(_UNKNOWN, code="not-found", expression=path) from None
        raise Unprocessable(_UNKNOWN, code="not-found", expression=path)


def is_supersession(stored: Mapping[str, Any], patched: Mapping[str, Any]) -> bool:
    """Whether a patch does what a replacement asks for, and nothing else."""
    return patched == {**stored, "status": "superseded"}


def _check(document: Related, other: Target, path: str) -> None:
    if other.key == document.target.key:
        raise Unprocessable("a document has no relation to itself", expression=path)
    if other.current is not None and other.current.body is None:
        raise Unprocessable(_UNKNOWN, code="not-found", expression=path)
    person, owner = document.target.person, other.person
    if person is None or owner is None or person.key != owner.key:
        raise Unprocessable("the document is of another person", expression=path)
    if _status(other) == "entered-in-error":
        raise Conflict("the document is withdrawn", expression=path)


def _check_replacement(request: Request, other: Target, beside: Related | None, path: str) -> None:
    if other.current is None:
        # An older version that is published beside the newer one.
        if beside is None or beside.entry.resource.get("status") != "superseded":
            raise Unprocessable("what is replaced in its own submission is superseded", expression=path)
        return
    if other.current.producer != request.caller.organisation:
        raise Forbidden("a document is replaced by the organisation that published it", expression=path)
    if _status(other) != "current":
        raise Conflict("the document is superseded already", expression=path)


def _status(target: Target) -> str | None:
    if target.current is None or target.current.body is None:
        return None
    status: str | None = fhir_json.loads(target.current.body).get("status")
    return status
