"""What FHIR R4 says of each type: elements, their types and cardinalities, required codes, reference targets.

Read from the models of fhir.resources R4B (R4 4.0.1 and R4B 4.3.0 are the same for every clinical type but
for the corrections below) and only from their declarations: a model is imported on first use, never built, so
that nothing of a resource passes through code that converts. This module is the only importer of
fhir.resources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin

# --- corrections --------------------------------------------------------------------------------------------

# Elements that R4 4.0.1 has and R4B has not, and the other way round: the choice of types of an extension.
_R4_ONLY = {"Extension": {"valueMeta": "Meta"}}
_R4B_ONLY = {
    "ActivityDefinition": ("subjectCanonical",),
    "Extension": ("valueCodeableReference", "valueRatioRange"),
    "PlanDefinition": ("subjectCanonical",),
    "PlanDefinitionAction": ("subjectCanonical",),
}

_REPORT = "registered preliminary final amended corrected cancelled entered-in-error unknown"
_ENCOUNTER = "planned arrived triaged in-progress onleave finished cancelled entered-in-error unknown"
_COMPARATOR = "< <= >= >"
# Required value sets that the models cut short (`+`) or leave out; None where the binding is not required.
_CODES: Mapping[tuple[str, str], str | None] = {
    ("Age", "comparator"): _COMPARATOR,
    ("CapabilityStatement", "format"): None,
    ("Count", "comparator"): _COMPARATOR,
    ("DetectedIssue", "status"): _REPORT,
    ("DeviceUdiCarrier", "entryType"): "barcode rfid manual card self-reported unknown",
    ("DeviceUseStatement", "status"): "active completed entered-in-error intended stopped on-hold",
    ("DiagnosticReport", "status"): (
        "registered partial preliminary final amended corrected appended cancelled entered-in-error unknown"
    ),
    ("Distance", "comparator"): _COMPARATOR,
    ("Duration", "comparator"): _COMPARATOR,
    ("Encounter", "status"): _ENCOUNTER,
    ("EncounterStatusHistory", "status"): _ENCOUNTER,
    ("Expression", "language"): None,
    ("Observation", "status"): _REPORT,
    ("Quantity", "comparator"): _COMPARATOR,
    ("QuestionnaireItem", "type"): (
        "group display question boolean decimal integer date dateTime time string text url choice "
        "open-choice attachment reference quantity"
    ),
    ("RiskAssessment", "status"): _REPORT,
    ("StructureMapGroupRuleTarget", "transform"): (
        "create copy truncate escape cast append translate reference dateOp uuid pointer evaluate cc c qty id cp"
    ),
    ("SupplyRequest", "status"): "draft active suspended cancelled completed entered-in-error unknown",
    ("Task", "status"): (
        "draft requested received accepted rejected ready cancelled in-progress on-hold failed completed "
        "entered-in-error"
    ),
}


# --- definitions --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """`type` is a FHIR type; primitives are in lower case. `choice` is `value` for each of `value[x]`.

    `codes` is the required value set of a code, `targets` the types that a Reference may name; both empty if
    any.
    """

    type: str
    many: bool = False
    choice: str | None = None
    codes: frozenset[str] = frozenset()
    targets: frozenset[str] = frozenset()

    @property
    def is_primitive(self) -> bool:
        return self.type[0].islower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """`choices` has the elements of each `x[x]`; `required_choices` are those of which one is mandatory."""

    name: str
    is_resource: bool
    elements: Mapping[str, Element]
    required: tuple[str, ...]
    choices: Mapping[str, tuple[str, ...]]
    required_choices: tuple[str, ...]


@cache
def definition(name: str) -> Definition | None:
    """The definition of a resource, a datatype or a backbone element (`ObservationComponent`), or None."""
    model = _model(name)
    if model is None:
        return None
    elements: dict[str, Element] = {}
    required: list[str] = []
    choices: dict[str, list[str]] = {}
    required_choices: set[str] = set()
    for field_name, field in model.model_fields.items():
        alias = field.alias or field_name
        extra = field.json_schema_extra or {}
        if alias.startswith("_") or alias == "fhir_comments" or alias in _R4B_ONLY.get(name, ()):
            continue
        element = _element(name, alias, field.annotation, extra)
        elements[alias] = element
        if field.is_required() or extra.get("element_required"):
            required.append(alias)
        if element.choice:
            choices.setdefault(element.choice, []).append(alias)
            if extra.get("one_of_many_required"):
                required_choices.add(element.choice)
    for alias, type_name in _R4_ONLY.get(name, {}).items():
        elements[alias] = Element(type=type_name, choice="value")
        choices["value"].append(alias)
    return Definition(
        name=name,
        is_resource=any(base.__name__ == "Resource" for base in model.__mro__),
        elements=elements,
        required=tuple(required),
        choices={choice: tuple(names) for choice, names in choices.items()},
        required_choices=tuple(sorted(required_choices)),
    )


def is_type(name: str) -> bool:
    """Whether FHIR has a type of this name, without importing its model."""
    return hasattr(_types(), f"{name}Type")


@cache
def _types() -> Any:
    from fhir_core.fhirabstractmodel import FHIRAbstractModel

    # The models are read, never built: without their validators, importing them takes half the time.
    FHIRAbstractModel.set_global_model_config(defer_build=True)
    from fhir.resources.R4B import fhirtypes

    return fhirtypes


def _model(name: str) -> Any | None:
    declared: Any = getattr(_types(), f"{name}Type", None)
    return declared.get_model_klass() if hasattr(declared, "get_model_klass") else None


def _element(owner: str, name: str, annotation: Any, extra: Mapping[str, Any]) -> Element:
    type_name, many = _type_of(annotation)
    codes = _CODES.get((owner, name), " ".join(extra.get("enum_values", ()))) if type_name == "code" else None
    return Element(
        type=type_name,
        many=many,
        choice=extra.get("one_of_many"),
        codes=frozenset((codes or "").split()),
        targets=frozenset(extra.get("enum_reference_types", ())) - {"Resource"},
    )


def _type_of(annotation: Any) -> tuple[str, bool]:
    """The FHIR type of an annotation like `List[Optional[Annotated[str, Code()]]]`, and if a list."""
    if get_origin(annotation) is Annotated:
        marks = [getattr(mark, "__visit_name__", None) for mark in annotation.__metadata__]
        return next((mark for mark in marks if mark), "uuid"), False
    if get_origin(annotation) is list:
        return _type_of(get_args(annotation)[0])[0], True
    if get_args(annotation):
        return next(_type_of(each) for each in get_args(annotation) if each is not type(None))
    if annotation is bool:
        return "boolean", False
    return annotation._model_klass.rpartition(".")[2], False
