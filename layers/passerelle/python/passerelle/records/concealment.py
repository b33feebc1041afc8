"""What of a record does not exist for one caller: hidden resources, and what speaks of them (law 4, contract D1).

A resource is hidden by its labels (`consents/visibility.py`). Its content goes with it, and so does every other
resource that refers to it; a List and a DocumentReference stay, without the references: a List that has nothing left
is as if it had never been. Entries of the index say which documents a resource refers to (ABOUT), so that pages and
totals are those of a record without them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from passerelle.consents.visibility import Restriction, View
from passerelle.records.model import ResourceKey, StoredVersion
from passerelle.records.ports import Indexed

ABOUT = "~about"  # in the values of an entry: `Type/id` of each document that the resource refers to, wherever
HIDEABLE = ("DocumentReference", "Binary")  # a document, and its content under the same id
MENDED = frozenset({"DocumentReference", "List"})  # lose their references to what is hidden, and stay


class Mending(Protocol):
    """Reads references in FHIR; implemented by the FHIR boundary."""

    def without(self, body: bytes, hidden: Collection[str]) -> bytes | None:
        """A resource without what refers to `hidden` (each `Type/id`); None if nothing of it is left."""

    def documents(self, body: bytes) -> Collection[str]:
        """The documents that a resource refers to, each `Type/id`."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """What one caller does not see: `absent` does not exist, and nothing speaks of `references` (each `Type/id`).

    What was withdrawn is among the latter only.
    """

    references: frozenset[str]
    absent: frozenset[str]
    mending: Mending

    @classmethod
    def of(cls, restrictions: Mapping[ResourceKey, Restriction], view: View, mending: Mending) -> Hidden:
        absent = _named(key for key, restriction in restrictions.items() if not view.shows(restriction))
        withdrawn = _named(key for key, restriction in restrictions.items() if restriction.is_withdrawn)
        return cls(absent | withdrawn, absent, mending)

    def and_of(self, other: Hidden) -> Hidden:
        return Hidden(self.references | other.references, self.absent | other.absent, self.mending)

    def but(self, reference: str) -> Hidden:
        """As it would be if one of them were there."""
        return Hidden(self.references - {reference}, self.absent - {reference}, self.mending)

    def __bool__(self) -> bool:
        return bool(self.references)

    def hides(self, key: ResourceKey) -> bool:
        return key.reference in self.absent

    def entries(self, indexed: Iterable[Indexed]) -> Iterable[Indexed]:
        """Those that exist for the caller, as they are for the caller."""
        if not self.references:
            return indexed
        return (shown for each in indexed if (shown := self.entry(each)) is not None)

    def entry(self, indexed: Indexed) -> Indexed | None:
        if self.hides(indexed.key):
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
        if not self.references or stored.body is None:
            return None if self.hides(stored.key) else stored
        if self.hides(stored.key):
            return None
        if self.references.isdisjoint(self.mending.documents(stored.body)):
            return stored
        body = self.mending.without(stored.body, self.references)
        return None if body is None else replace(stored, body=body)


def _named(keys: Iterable[ResourceKey]) -> frozenset[str]:
    return frozenset(f"{kind}/{key.id}" for key in keys for kind in HIDEABLE)
