"""The Lists of shared documents: SubmissionSets and folders (IHE MHD 4.2.4), and what may become of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from passerelle.errors import Unprocessable
from passerelle.fhir import json as fhir_json

LIST_TYPES: Final = "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes"


def is_submission_set(resource: Mapping[str, Any]) -> bool:
    return _is_list(resource, "submissionset")


def is_folder(resource: Mapping[str, Any]) -> bool:
    return _is_list(resource, "folder")


def _is_list(resource: Mapping[str, Any], code: str) -> bool:
    """Whether it is a List of this kind, also of a resource that nobody validated yet."""
    concept = resource.get("code") if resource.get("resourceType") == "List" else None
    codings = concept.get("coding") if isinstance(concept, Mapping) else None
    return isinstance(codings, list) and any(
        isinstance(each, Mapping) and (each.get("system"), each.get("code")) == (LIST_TYPES, code) for each in codings
    )


class ListSuccession:
    """`records.model.Succession`: XDS only ever adds to a folder (65-15), and a SubmissionSet stays what it was.

    Asked of what the caller sees: what is hidden in a List stays in any case.
    """

    def check(self, type: str, before: bytes | None, after: bytes | None) -> None:
        if type != "List" or before is None:
            return
        stored, resource = fhir_json.loads(before), fhir_json.loads(after) if after else {}
        for is_kind in (is_folder, is_submission_set):
            if not is_kind(stored) or "entry" not in stored:
                continue
            kept = [_item(each) for each in resource.get("entry", ())]
            if not is_kind(resource) or any(_item(each) not in kept for each in stored["entry"]):
                raise Unprocessable("a folder or SubmissionSet keeps what is in it", expression="List.entry")


def _item(entry: Mapping[str, Any]) -> Any:
    return entry.get("item", {}).get("reference")
