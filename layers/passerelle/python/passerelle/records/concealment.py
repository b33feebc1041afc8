"""What of a record does not exist for one caller: hidden resources, and what speaks of them (law 4, contract D1).

A resource is hidden by its labels (`consents/visibility.py`). Its content goes with it, and so does every other
resource that refers to it; a List and a DocumentReference stay, without the references: a List that has nothing left
is as if it had never been. Entries of the index say which documents a resource refers to (ABOUT), so that pages and
totals are those of a record without them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from passerelle.consents.terms import Facts, Sieve
from passerelle.consents.visibility import Restriction, View
from passerelle.records.model import ResourceKey, StoredVersion
from passerelle.records.ports import Indexed
from passerelle.records.search import Entry

PRODUCER = "~producer"  # in the values of an entry: the organisation that published the resource
PRODUCED = frozenset({"Consent", "DocumentReference", "List"})
ABOUT = "~about"  # in the values of an entry: `Type/id` of each document that the resource refers to, wherever
HIDEABLE = ("DocumentReference", "Binary")  # a document, and its content under the same id
MENDED = frozenset({"DocumentReference", "List"})  # lose their references to what is hidden, and stay


class Mending(Protocol):
    """Reads references in FHIR; implemented by the FHIR boundary."""

    def without(self, body: bytes, hidden: Collection[str]) -> bytes | None:
        """A resource without what refers to `hidden` (each `Type/id`); None if nothing of it is left."""

    def documents(self, body: bytes) -> Collection[str]:
        """The documents that a resource refers to, each `Type/id`."""

    def entry(self, body: bytes, base_url: str | None = None) -> Entry:
        """The search values of a stored version; references that start with `base_url` are to this server."""

    def facts(self, key: ResourceKey, entry: Entry) -> Facts:
        """What consents ask of a resource, from its search values."""

    def residual(self, rules: Sequence[Mapping[str, Any]]) -> Sieve | None:
        """What the residual rules of a token (`access.Limits`) leave of a record; None: all."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """What one caller does not see: `absent` does not exist, and nothing speaks of `references` (each `Type/id`).

    What was withdrawn is among the latter only. `view` says of every other resource whether it is shown. `before` finds
    the version before one: a deletion is shown to who was shown that.
    """

    references: frozenset[str]
    absent: frozenset[str]
    mending: Mending
    view: View | None = None
    before: Callable[[StoredVersion], StoredVersion | None] = lambda _: None

    @classmethod
    def of(
        cls,
        restrictions: Mapping[ResourceKey, Restriction],
        view: View,
        mending: Mending,
        documents: Iterable[Indexed] = (),
        before: Callable[[StoredVersion], StoredVersion | None] = lambda _: None,
    ) -> Hidden:
        """`documents` are all of the record, where the view hides some that no label does."""
        absent = _named(key for key, restriction in restrictions.items() if not view.shows(restriction))
        withdrawn = _named(key for key, restriction in restrictions.items() if restriction.is_withdrawn)
        labelled = cls(absent | withdrawn, absent, mending, view if view.is_screened else None, before)
        screened = _named(each.key for each in documents if not labelled.is_kept(each.key, each.entry))
        return replace(labelled, references=labelled.references | screened, absent=absent | screened)

    def and_of(self, other: Hidden) -> Hidden:
        return replace(self, references=self.references | other.references, absent=self.absent | other.absent)

    def but(self, reference: str) -> Hidden:
        """As it would be if one of them were there."""
        return replace(self, references=self.references - {reference}, absent=self.absent - {reference})

    def __bool__(self) -> bool:
        return bool(self.references) or self.view is not None

    def is_kept(self, key: ResourceKey, entry: Entry) -> bool:
        """Whether the view shows a resource, whatever its labels say."""
        if self.view is None:
            return True
        by = entry.values.get(PRODUCER, ()) if key.type in PRODUCED else ()
        producer = by[0].removeprefix("|") if by else None
        return self.view.keeps(key.type, producer, lambda: self.mending.facts(key, entry))

    def hides(self, key: ResourceKey) -> bool:
        return key.reference in self.absent

    def entries(self, indexed: Iterable[Indexed]) -> Iterable[Indexed]:
        """Those that exist for the caller, as they are for the caller."""
        if not self:
            return indexed
        return (shown for each in indexed if (shown := self.entry(each)) is not None)

    def entry(self, indexed: Indexed) -> Indexed | None:
        if self.hides(indexed.key) or not self.is_kept(indexed.key, indexed.entry):
            return None
        values = indexed.entry.values
        about = values.get(ABOUT, ())
        if self.references.isdisjoint(about):
            return indexed
        if indexed.key.type not in MENDED or (indexed.key.type == "List" and self.references.issuperset(about)):
            return None
        kept = {name: tuple(each for each in found if not self._names(each)) for name, found in values.items()}
        entry = replace(indexed.entry, values={name: found for name, found in kept.items() if found})
        return replace(indexed, entry=entry)

    def _names(self, value: str) -> bool:
        return not self.references.isdisjoint(value.split("$"))  # a component, too

    def version(self, stored: StoredVersion) -> StoredVersion | None:
        """A version as it is for the caller; a deletion is one of something that was there."""
        if self.hides(stored.key) or not self._is_kept_version(stored):
            return None
        if not self.references or stored.body is None:
            return stored
        if self.references.isdisjoint(self.mending.documents(stored.body)):
            return stored
        body = self.mending.without(stored.body, self.references)
        return None if body is None else replace(stored, body=body)

    def _is_kept_version(self, stored: StoredVersion) -> bool:
        if self.view is None:
            return True
        if stored.body is None:
            earlier = self.before(stored)
            return earlier is not None and self._is_kept_version(earlier)
        key, body = stored.key, stored.body
        producer = stored.producer if key.type in PRODUCED or self.view.is_own_only else None
        return self.view.keeps(key.type, producer, lambda: self.mending.facts(key, self.mending.entry(body)))


def _named(keys: Iterable[ResourceKey]) -> frozenset[str]:
    return frozenset(f"{kind}/{key.id}" for key in keys for kind in (HIDEABLE if key.type in HIDEABLE else (key.type,)))
