"""Make `passerelle/fhir/data/search_parameters.json` from the official search parameters of FHIR R4 4.0.1.

    python -m definitions.search <folder with search-parameters.json and what `definitions.structures` reads>

An official expression speaks of types (`(Observation.value as Quantity)`); what is shipped beside it are the elements
of the JSON form that it leads to, each with its type (`valueQuantity:Quantity`), so that no function needs to know
the definitions to answer a search. The form is that of `passerelle/fhir/paths.py`. FHIR R4 section 3.1.1.4 says which
types a kind of parameter can read.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from definitions.structures import structures

SHIPPED = Path(__file__).parent.parent / "layers/passerelle/python/passerelle/fhir/data/search_parameters.json"
SOURCE = "search-parameters.json"

TYPES = (
    "AllergyIntolerance",
    "Appointment",
    "Binary",
    "Bundle",
    "CarePlan",
    "CareTeam",
    "Claim",
    "Communication",
    "CommunicationRequest",
    "Composition",
    "Condition",
    "Consent",
    "Coverage",
    "DetectedIssue",
    "Device",
    "DiagnosticReport",
    "DocumentReference",
    "Encounter",
    "Endpoint",
    "ExplanationOfBenefit",
    "Flag",
    "Goal",
    "HealthcareService",
    "ImagingStudy",
    "Immunization",
    "List",
    "Location",
    "Medication",
    "MedicationAdministration",
    "MedicationDispense",
    "MedicationRequest",
    "MedicationStatement",
    "Observation",
    "Organization",
    "OrganizationAffiliation",
    "Patient",
    "Practitioner",
    "PractitionerRole",
    "Procedure",
    "Provenance",
    "QuestionnaireResponse",
    "RelatedPerson",
    "Schedule",
    "ServiceRequest",
    "Slot",
    "Specimen",
    "Task",
)
_OF_ALL = ("Resource",)

# Not comparisons of elements: full text, named queries, distances, and names by their sound.
_LEFT_OUT = ("_content", "_query", "_text", "near", "phonetic")

# What a kind of parameter reads (R4 section 3.1.1.4.4 on). A SampledData is many quantities, and R4 does not say which
# one a search would mean.
_READ = {
    "token": "boolean code id string uri oid CodeableConcept Coding ContactPoint Identifier",
    "string": "string markdown Address HumanName",
    "date": "date dateTime instant Period Timing",
    "reference": "Reference canonical Resource",
    "quantity": "Quantity SimpleQuantity Age Duration Range",
    "uri": "canonical uri url",
}
_PLAIN_TYPES = {"SimpleQuantity": "Quantity", "Age": "Quantity", "Duration": "Quantity", "oid": "uri", "url": "uri"}

_STEP = re.compile(
    r"(?P<name>\w+\b)(?!\()|as\((?P<as>\w+)\)|where\(resolve\(\) is (?P<is>\w+)\)"
    r"|(?P<where>where\(\w+='[^']+'\))|\[(?P<index>\d+)\]"
)
_TRUTH = re.compile(r"(\S+)\.exists\(\) and \1 != false")  # of Patient.deceased

Branch = tuple[str, str]  # the path in JSON, and the type of what is there
Parameter = dict[str, Any]


def search_parameters(folder: Path) -> dict[str, Any]:
    """The content of search_parameters.json, from the folder of official definitions."""
    return _Compiler(folder).content()


def write(content: Mapping[str, Any]) -> str:
    """The text of the file: one line a parameter, so that a change can be read."""
    head = ",\n".join(f'"{key}": {json.dumps(content[key], ensure_ascii=False)}' for key in ("origin", "sha256"))
    types = []
    for name, parameters in content["types"].items():
        rows = (f'"{code}": {json.dumps(row, ensure_ascii=False)}' for code, row in parameters.items())
        types.append(f'"{name}": {{\n' + ",\n".join(rows) + "\n}")
    return "{\n" + head + ',\n"types": {\n' + ",\n".join(types) + "\n}\n}\n"


class _Compiler:
    def __init__(self, folder: Path) -> None:
        known = structures(folder)
        self._types: Mapping[str, Any] = known["types"]
        self._codes: Mapping[str, Mapping[str, str]] = known["codes"]
        self._sha256 = {SOURCE: hashlib.sha256((folder / SOURCE).read_bytes()).hexdigest(), **known["sha256"]}
        bundle = json.loads((folder / SOURCE).read_text("utf-8"))
        found = (entry["resource"] for entry in bundle["entry"])
        self._official = {each["url"]: each for each in found if each["url"].startswith("http://hl7.org/fhir/")}

    def content(self) -> dict[str, Any]:
        return {
            "origin": "HL7 FHIR R4 4.0.1, https://hl7.org/fhir/R4/downloads.html, CC0-1.0",
            "sha256": self._sha256,
            "types": {name: dict(sorted(self._of_type(name))) for name in (*_OF_ALL, *TYPES)},
        }

    def _of_type(self, name: str) -> Iterator[tuple[str, Parameter]]:
        made: dict[str, Parameter] = {}
        official = [each for each in self._official.values() if name in each["base"] and each["code"] not in _LEFT_OUT]
        for each in official:
            expression = _part(each["expression"], name)
            row: Parameter = {"definition": each["id"], "kind": each["type"], "expression": expression}
            if each["type"] == "composite":
                row |= self._composite(name, each, expression)
            else:
                row |= self._read(each["type"], self._branches(expression, name), name, each.get("target", []))
            made[each["code"]] = row
        for row in made.values():
            row |= _from_others(row, made)
        yield from made.items()

    def _read(self, kind: str, branches: Sequence[Branch], name: str, targets: Sequence[str] = ()) -> Parameter:
        """The paths that a parameter of this kind reads, and what their type or binding says about the values."""
        allowed = _READ[kind].split()
        read = [(path, type) for path, type in branches if type in allowed]
        assert read, (name, kind, branches)
        paths = [f"{path}.is({targets[0]})" if type == "Resource" else path for path, type in read]
        types = [_PLAIN_TYPES.get(type, type) for _, type in read]
        row: Parameter = {"paths": [f"{path}:{type}" for path, type in zip(paths, types, strict=True)]}
        systems = [system for path, type in read if type == "code" for system in self._systems(name, path)]
        if kind == "token" and types == ["boolean"]:
            systems = ["http://hl7.org/fhir/special-values"]
        if kind == "token" and systems:
            assert set(types) <= {"code", "boolean"}, (name, read)
            row["systems"] = list(dict.fromkeys(systems))
        if kind == "reference" and 0 < len(targets) < len(_any_target(self._official)):
            row["targets"] = sorted(targets)
        return row

    def _composite(self, name: str, official: Mapping[str, Any], expression: str) -> Parameter:
        """Components are read from the same element; their kind is that of their definition, if it can read them."""
        elements = self._branches(expression, name)
        components = []
        for each in official["component"]:
            kind = self._official[each["definition"]]["type"]
            per_element = []
            for _, type in elements:
                branches = self._branches(f"{type}.{each['expression']}".replace("| ", f"| {type}."), type)
                if not any(found in _READ[kind].split() for _, found in branches):
                    # R4 4.0.1 names the definitions of DocumentReference-relationship in the wrong order.
                    kind = "reference" if branches[0][1].startswith("Reference") else "token"
                per_element.append(self._read(kind, branches, type))
            assert all(found == per_element[0] for found in per_element), (name, official["code"])
            components.append({"kind": kind, **per_element[0]})
        return {"paths": [f"{path}:{type}" for path, type in elements], "components": components}

    # --- expressions ----------------------------------------------------------------------------------------------

    def _branches(self, expression: str, name: str) -> list[Branch]:
        truth = _TRUTH.fullmatch(expression)
        if truth:
            elements = ",".join(path for path, _ in self._branches(truth[1], name))
            return [(f"holds({elements})", "boolean")]
        return [found for part in expression.split(" | ") for found in self._walk(part, name)]

    def _walk(self, expression: str, name: str) -> list[Branch]:
        """The branches of one chain of steps: several where a step is a choice of types."""
        plain = re.sub(r"\(([\w.]+) as (\w+)\)", r"\1.as(\2)", expression)
        first, _, rest = plain.partition(".")
        assert first in (name, "Resource"), expression
        branches: list[Branch] = [("", name)]
        at = 0
        for step in _STEP.finditer(rest):
            assert rest[at : step.start()] in ("", "."), expression
            at = step.end()
            if step["name"]:
                branches = [found for branch in branches for found in self._children(branch, step["name"])]
            elif step["as"]:
                branches = [each for each in branches if each[1].lower() == step["as"].lower()]
            elif step["is"]:
                branches = [(f"{path}.is({step['is']})", type) for path, type in branches]
            elif step["where"]:
                branches = [(f"{path}.{step['where']}", type) for path, type in branches]
            else:
                branches = [(f"{path}[{step['index']}]", type) for path, type in branches]
        assert at == len(rest), expression
        assert branches, expression
        return branches

    def _children(self, branch: Branch, name: str) -> Iterator[Branch]:
        path, type = branch
        prefix = f"{path}." if path else ""
        elements = self._elements(type)
        if name in elements:
            yield f"{prefix}{name}", _types(elements[name])[0]
        for each in _types(elements[f"{name}[x]"]) if f"{name}[x]" in elements else ():
            yield f"{prefix}{name}{each[0].upper()}{each[1:]}", each

    def _elements(self, type: str) -> dict[str, str]:
        described = self._types[type]
        inherited = self._elements(described["base"]) if described["base"] else {}
        return {**inherited, **described["elements"]}

    def _systems(self, name: str, path: str) -> Iterator[str]:
        """The code systems of a code with a required value set."""
        type, text = name, ""
        for step in re.findall(r"\w+", path):
            text = self._elements(type)[step]
            type = _types(text)[0]
        _, bound, value_set = text.partition(" =")
        yield from self._codes[value_set] if bound else ()


def _part(expression: str, name: str) -> str:
    """What an expression shared by several types says of this one."""
    parts = (part.strip() for part in expression.split("|"))
    return " | ".join(part for part in parts if re.match(rf"\(?{name}\b", part))


def _types(element: str) -> list[str]:
    """The types of an element as structures.json writes it, without the targets of references."""
    return [type.partition("(")[0] for type in re.sub(r"\([^)]*\)", "", element.split(" ")[1]).split("|")]


def _any_target(official: Mapping[str, Any]) -> list[str]:
    return max((each.get("target", []) for each in official.values()), key=len)


def _from_others(row: Parameter, made: Mapping[str, Parameter]) -> Parameter:
    """From which parameters of the type the values of this one follow: they need not be kept a second time.

    `union` names parameters that read its elements between them. `product` names those that give each component of a
    composite over the whole resource.
    """
    peers = {code: each for code, each in made.items() if each["kind"] == row["kind"] and each is not row}
    if row["kind"] == "composite":
        if row["paths"][0].startswith(":") and len(row["paths"]) == 1:
            named = [_named(component, made) for component in row["components"]]
            return {"product": named} if all(named) else {}
        parts = {code: each for code, each in peers.items() if each["components"] == row["components"]}
    elif row["kind"] in ("token", "quantity") and len(row["paths"]) > 1:
        parts = {code: each for code, each in peers.items() if each.get("systems") == row.get("systems")}
    else:
        return {}
    names = []
    for path in row["paths"]:
        single = [code for code, each in parts.items() if each["paths"] == [path]]
        if not single:
            return {}
        names.append(min(single))
    return {"union": names}


def _named(component: Parameter, made: Mapping[str, Parameter]) -> str | None:
    read = ("kind", "paths", "systems")
    names = [code for code, each in made.items() if all(each.get(key) == component.get(key) for key in read)]
    return min(names) if names else None


if __name__ == "__main__":
    SHIPPED.write_text(write(search_parameters(Path(sys.argv[1]))), "utf-8")
