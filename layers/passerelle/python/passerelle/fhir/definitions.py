"""What FHIR R4 says of each type: elements in their order, types and cardinalities, required codes, targets.

Read from `data/structures.json`, which is made of HL7's own definitions of R4 4.0.1 (`definitions/structures.py`),
once and type by type. There, a type has the elements it adds to its base, each written as
`min..max type|type(target,target) =value set`; `@` before a name is an attribute in XML.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_ABSTRACT = frozenset(("Resource", "DomainResource"))
# Profiles that are types of elements: what they add to the type is an invariant.
_PROFILES = {"SimpleQuantity": "Quantity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """`type` is a FHIR type; primitives are in lower case. `choice` is `value` for each of `value[x]`.

    `codes` is the required value set: codes of a code, `system|code` of a CodeableConcept. `targets` are the
    types that a Reference may name. Both are empty if any. `profile` is a profile that the type keeps to.
    """

    type: str
    many: bool = False
    choice: str | None = None
    codes: frozenset[str] = frozenset()
    targets: frozenset[str] = frozenset()
    profile: str | None = None
    is_attribute: bool = False
    is_primitive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """`elements` stand in the order of R4, which is that of XML.

    `choices` has the elements of each `x[x]`; `required_choices` are those of which one is mandatory.
    """

    name: str
    is_resource: bool
    elements: Mapping[str, Element]
    required: tuple[str, ...]
    choices: Mapping[str, tuple[str, ...]]
    required_choices: tuple[str, ...]


@cache
def definition(name: str) -> Definition | None:
    """The definition of a resource, a datatype or a backbone element (`ObservationComponent`), or None."""
    described = _structures()["types"].get(name)
    if described is None:
        return None
    base = definition(described["base"]) if described["base"] else None
    elements = dict(base.elements) if base else {}
    required = list(base.required) if base else []
    choices: dict[str, tuple[str, ...]] = {}
    required_choices: list[str] = []
    for written, text in described["elements"].items():
        key = written.lstrip("@")
        cardinality, types, *binding = text.split(" ")
        is_mandatory, many = not cardinality.startswith("0"), not cardinality.endswith("1")
        choice = key.removesuffix("[x]") if key.endswith("[x]") else None
        members = dict(_elements(key, choice, types, many=many, is_attribute=key != written, binding=binding))
        elements |= members
        if choice:
            choices[choice] = tuple(members)
        if is_mandatory:
            (required_choices if choice else required).append(choice or key)
    return Definition(
        name=name,
        is_resource=name in _ABSTRACT or bool(base and base.is_resource),
        elements=elements,
        required=tuple(required),
        choices=choices,
        required_choices=tuple(required_choices),
    )


def resource_definition(name: str) -> Definition | None:
    """The definition of a type of which there are resources, or None."""
    found = definition(name)
    return found if found is not None and found.is_resource and name not in _ABSTRACT else None


def is_type(name: str) -> bool:
    """Whether FHIR R4 has a type of this name."""
    return name in _structures()["types"]


@cache
def _structures() -> Any:
    return json.loads((Path(__file__).parent / "data" / "structures.json").read_text("utf-8"))


def _elements(
    key: str, choice: str | None, types: str, *, many: bool, is_attribute: bool, binding: list[str]
) -> Iterator[tuple[str, Element]]:
    for written in types.split("|"):
        type_name, _, targets = written.rstrip(")").partition("(")
        of_type = _PROFILES.get(type_name, type_name)
        element = Element(
            type=of_type,
            many=many,
            choice=choice,
            codes=_codes(binding[0].removeprefix("="), of_type) if binding else frozenset(),
            targets=frozenset(targets.split(",")) if targets else frozenset(),
            profile=type_name if of_type != type_name else None,
            is_attribute=is_attribute,
            is_primitive=of_type[0].islower(),
        )
        yield (choice + of_type[0].upper() + of_type[1:] if choice else key), element


@cache
def _codes(value_set: str, type_name: str) -> frozenset[str]:
    listed: Mapping[str, str] = _structures()["codes"][value_set]
    return frozenset(
        code if type_name == "code" else f"{system}|{code}"
        for system, codes in listed.items()
        for code in codes.split()
    )
