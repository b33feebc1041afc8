"""Which resources say who may see the record that they are in, and how each is read (`records.effects`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from passerelle.fhir import json as fhir_json
from passerelle.fhir.care_relations import care_relations
from passerelle.fhir.consent import consent_effect
from passerelle.fhir.facts import facts_of
from passerelle.fhir.index import entry_of
from passerelle.journal import Change
from passerelle.records.effects import Effect
from passerelle.records.model import RecordVersion, ResourceKey
from passerelle.records.ports import RecordStore
from passerelle.records.search import look_up

_CARRIERS = 200  # resources of the directory that carry one identifier, or are roles of one professional

Directory = Callable[[str, str], Mapping[str, Any] | None]
"""(type, id) to the current content of a resource of the directory; None if there is none."""


def policy_effects(
    directory: Directory, in_parallel: Callable[..., tuple[Any, ...]], store: RecordStore
) -> Mapping[str, Effect]:
    """By resource type. `in_parallel` runs independent reads at once and returns their results in order."""
    return {**care_relations(directory, in_parallel), "Consent": consent_effect(directory, StoredNames(store))}


class StoredNames:
    """`consent.Stored` of the record store."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store

    def carriers(self, type: str, parameter: str, value: str) -> Sequence[str]:
        looked = look_up("reference" if parameter == "practitioner" else "token", value)
        page = self._store.listed(type, (parameter, looked or value), after=None, limit=_CARRIERS)
        return [each.key.reference for each in page.entries if value in each.entry.values.get(parameter, ())]

    def references(self, reference: str) -> Sequence[str]:
        type, _, id = reference.partition("/")
        key = ResourceKey.of(type, id) or self._store.find_key(type, id)
        found = self._store.find_latest(key) if key is not None and key.patient is not None else None
        if found is None or found.body is None:
            return ()
        return sorted(facts_of(found.key, entry_of(fhir_json.loads(found.body))).about)


def directory_of(store: RecordStore, changes: Sequence[Change] = ()) -> Directory:
    """The directory, as it is after these changes."""
    made = {
        change.key.reference: change.body
        for change in changes
        if isinstance(change, RecordVersion) and change.key.patient is None
    }

    def find(type: str, id: str) -> Mapping[str, Any] | None:
        if f"{type}/{id}" in made:
            body = made[f"{type}/{id}"]
            return None if body is None else fhir_json.loads(body)
        key = ResourceKey.of(type, id) or store.find_key(type, id)
        if key is None or key.patient is not None:
            return None
        found = store.find_latest(key)
        return fhir_json.loads(found.body) if found is not None and found.body is not None else None

    return find
