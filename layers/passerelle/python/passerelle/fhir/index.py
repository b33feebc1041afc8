"""What each stored resource type is searched by: one row a type, as data, and how a resource is read by it.

A new type is one row here and a name in `definitions/search.py`. Search parameters are those of FHIR R4 that compare
elements (`data/search_parameters.json`, made from the official definitions) and those of the guides that the exchange
follows (`data/project_parameters.json`); a type's own are read on first use. Paths are those of `paths.py`; the values
that come of them have the forms of `records/search.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from passerelle.errors import Unprocessable
from passerelle.fhir.attribution import unindexed
from passerelle.fhir.dates import date_range
from passerelle.fhir.paths import evaluate, is_to, typed
from passerelle.records.search import BEGINNING, END, NO_RANGES, Entry, Kind, Ranges, Reading, joined, look_up

MAX_ENTRY_BYTES = 350_000  # of the packed search values of one resource: an item holds 400 kB
MAX_TEXT_CHARACTERS = 1_000  # of a text are searched; what follows is read with the resource
_VALUE_CHARACTERS = 4  # quotes and commas of a value

_DATA = Path(__file__).parent / "data"
_FILES = ("search_parameters.json", "project_parameters.json")
_OF_ALL = "Resource"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchParameter:
    """`paths` are typed. `systems` are those of a plain code, `targets` the types a reference may name (empty: any).

    `definition` is the URL of the official definition, None for a parameter of a guide. A composite reads each of its
    `components` in the elements at its paths. `reading` is where its values stand; what is not `is_kept` follows from
    other values. `otherwise` is the value of a resource that says none; `aliases` are codes that guides ask for, with
    the code that the element has.
    """

    kind: Kind
    paths: tuple[str, ...]
    reading: Reading
    definition: str | None = None
    systems: tuple[str, ...] = ()
    targets: frozenset[str] = frozenset()
    components: tuple[SearchParameter, ...] = ()
    is_kept: bool = True
    otherwise: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def types(self) -> frozenset[str]:
        return frozenset(typed(path)[1] for path in self.paths)

    @property
    def is_canonical(self) -> bool:
        return self.types == {"canonical"}

    @property
    def is_followed(self) -> bool:
        """Whether includes lead from its values to what is kept: not from those of a second name, nor from names."""
        return self.kind == "reference" and self.is_kept and not self.is_canonical


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordType:
    """`code` is the type in keys of the store; those of stored types never change.

    `compartment` is the path to the reference that names the patient whose record it belongs to, None for what belongs
    to none: the directory, and Patient itself. Without `needs_patient` it may belong to nobody. `among` is the
    parameter over the compartment's path where that may name others beside the patient. Chains over a parameter that is
    `together` ask for one target that meets them all. `sort` names the date parameter
    that the type is sorted by, `ranges` the parameters with a range index. `selective` are strings and tokens
    worth a look-up in what belongs to nobody.
    """

    name: str
    code: str
    compartment: str | None = None
    needs_patient: bool = True
    among: str | None = None
    together: frozenset[str] = frozenset()
    sort: str | None = None
    ranges: Ranges = NO_RANGES
    selective: tuple[str, ...] = ()

    @property
    def search(self) -> Mapping[str, SearchParameter]:
        """By name, without those that name the patient."""
        return _parameters(self.name)

    @property
    def patient_parameters(self) -> frozenset[str]:
        """The parameters that name the patient; the record searched is chosen by them, not the entries."""
        return _patient_parameters(self.name)

    @property
    def lookups(self) -> tuple[str, ...]:
        """The parameters that shared resources are looked up by, the most selective first; none of other types."""
        return _lookups(self.name)


def _clinical(name: str, code: str, compartment: str, sort: str | None = None, **more: Any) -> RecordType:
    return RecordType(name=name, code=code, compartment=compartment, sort=sort, **more)


def _shared(name: str, code: str, *selective: str, sort: str | None = None) -> RecordType:
    return RecordType(name=name, code=code, needs_patient=False, sort=sort, selective=selective)


# What narrows a search to few of many documents; the codes apart that most documents have.
_DOCUMENT_RANGES = Ranges(
    names=(
        *("identifier", "related", "relatesto", "author.family", "event", "type"),
        *("security-label", "status", "isArchived", "setting", "facility", "category", "format"),
    ),
    common=frozenset({"current", "false", "N"}),
)

RECORD_TYPES: Mapping[str, RecordType] = {
    row.name: row
    for row in (
        RecordType(name="Patient", code="PAT"),
        _clinical("AllergyIntolerance", "ALG", "patient", "date"),
        _clinical("Appointment", "APT", "participant.actor", "date", among="actor"),
        _clinical("Binary", "BIN", "securityContext"),
        _clinical("Bundle", "BDL", "entry[0].resource.subject", "timestamp"),
        _clinical("CarePlan", "CPL", "subject", "date"),
        _clinical("CareTeam", "CTM", "subject", "date", together=frozenset({"participant"})),
        _clinical("Claim", "CLM", "patient", "created"),
        _clinical("Communication", "COM", "subject", "sent"),
        _clinical("CommunicationRequest", "CRQ", "subject", "authored"),
        _clinical("Composition", "CMP", "subject", "date"),
        _clinical("Condition", "CON", "subject", "onset-date"),
        _clinical("Consent", "CNS", "patient", "date"),
        _clinical("Coverage", "COV", "beneficiary"),
        _clinical("DetectedIssue", "DTI", "patient", "identified"),
        _clinical(
            "Device", "DEV", "patient", needs_patient=False, selective=("device-name", "model", "manufacturer", "type")
        ),
        _clinical("DiagnosticReport", "DRP", "subject", "date"),
        _clinical("DocumentReference", "DOC", "subject", "date", ranges=_DOCUMENT_RANGES),
        _clinical("Encounter", "ENC", "subject", "date"),
        _clinical("ExplanationOfBenefit", "EOB", "patient", "created"),
        _clinical("Flag", "FLG", "subject", "date"),
        _clinical("Goal", "GOL", "subject", "start-date"),
        _clinical("ImagingStudy", "IMG", "subject", "started"),
        _clinical("Immunization", "IMM", "patient", "date"),
        _clinical("List", "LST", "subject", "date"),
        _clinical("MedicationAdministration", "MAD", "subject", "effective-time"),
        _clinical("MedicationDispense", "MDI", "subject", "whenhandedover"),
        _clinical("MedicationRequest", "MRQ", "subject", "authoredon"),
        _clinical("MedicationStatement", "MST", "subject", "effective"),
        _clinical("Observation", "OBS", "subject", "date", ranges=Ranges(names=("code",))),
        _clinical("Procedure", "PRO", "subject", "date"),
        _clinical("Provenance", "PRV", "target", "recorded", among="target"),
        _clinical("QuestionnaireResponse", "QRS", "subject", "authored"),
        _clinical("RelatedPerson", "REL", "patient"),
        _clinical(
            "Schedule", "SCH", "actor", needs_patient=False, among="actor", selective=("service-type", "specialty")
        ),
        _clinical("ServiceRequest", "SRQ", "subject", "authored"),
        _clinical("Specimen", "SPE", "subject", "collected"),
        _clinical("Task", "TSK", "for", "authored-on"),
        _shared("Endpoint", "EPT", "name", "connection-type"),
        _shared("HealthcareService", "HCS", "name", "service-type", "specialty", "characteristic"),
        _shared("Location", "LOC", "name", "address-postalcode", "address-city", "type"),
        _shared("Medication", "MED", "lot-number", "code", "ingredient-code"),
        _shared(
            "Organization",
            "ORG",
            "pharmacy-licence",
            "mailbox-mss",
            "name",
            "address-line",
            "address-postalcode",
            "address-city",
            "type",
        ),
        _shared("OrganizationAffiliation", "OAF", "role", "specialty"),
        _shared("Practitioner", "PRA", "number-smartcard", "mailbox-mss", "family", "name", "qualification-code"),
        _shared("PractitionerRole", "PRR", "number-smartcard", "mailbox-mss", "specialty", "role"),
        _shared("Slot", "SLO", "service-type", "specialty", sort="start"),
    )
}


def record_type(name: str) -> RecordType:
    """The row of a type; raises Unprocessable (`not-supported`) for a type that is not stored here."""
    try:
        return RECORD_TYPES[name]
    except KeyError:
        raise Unprocessable("resources of this type are not stored here", code="not-supported") from None


# --- parameters -------------------------------------------------------------------------------------------------------


@cache
def _data() -> Mapping[str, Mapping[str, Any]]:
    """The rows of both files, by type."""
    found: dict[str, dict[str, Any]] = {}
    for name in _FILES:
        for type, rows in json.loads((_DATA / name).read_text("utf-8"))["types"].items():
            found.setdefault(type, {}).update(rows)
    return found


@cache
def _parameters(type: str) -> Mapping[str, SearchParameter]:
    rows = {**_data()[_OF_ALL], **_data().get(type, {})}
    patient = _patient_parameters(type)
    return {name: _parameter(name, row, rows) for name, row in rows.items() if name not in patient}


def _parameter(name: str, row: Mapping[str, Any], rows: Mapping[str, Any]) -> SearchParameter:
    definition = row.get("definition")
    return SearchParameter(
        kind=row["kind"],
        paths=tuple(row["paths"]),
        reading=_reading(name, rows),
        definition=f"http://hl7.org/fhir/SearchParameter/{definition}" if definition else None,
        systems=tuple(row.get("systems", ())),
        targets=frozenset(row.get("targets", ())),
        components=tuple(_parameter("", each, {"": {}}) for each in row.get("components", ())),
        is_kept=not row.keys() & {"union", "product"},
        otherwise=row.get("otherwise"),
        aliases=row.get("aliases", {}),
    )


def _reading(name: str, rows: Mapping[str, Any]) -> Reading:
    row = rows[name]
    if "product" in row:
        return Reading(products=(tuple(row["product"]),))
    parts = [_reading(each, rows) for each in row.get("union", ())]
    if not parts:
        return Reading(names=(name,))
    return Reading(
        names=tuple(each for part in parts for each in part.names),
        products=tuple(each for part in parts for each in part.products),
    )


@cache
def _patient_parameters(type: str) -> frozenset[str]:
    row = RECORD_TYPES[type]
    if row.compartment is None:
        return frozenset()
    named = (f"{row.compartment}:Reference", f"{row.compartment}.is(Patient):Reference")
    found = {name for name, each in _data().get(type, {}).items() if each["paths"][0] in named and name != row.among}
    return frozenset({"patient", *found})


@cache
def _lookups(type: str) -> tuple[str, ...]:
    row = RECORD_TYPES[type]
    if row.needs_patient:
        return ()
    references = (name for name, each in row.search.items() if each.is_followed)
    first = (name for name in ("identifier", "_id") if name in row.search)
    return (*first, *references, *row.selective)


def lookups_of(entry: Entry, type: str) -> tuple[tuple[str, str], ...]:
    """The (parameter, look-up) pairs that a resource which belongs to nobody is found by: `records.search.look_up`."""
    row = record_type(type)
    found = (
        (name, look_up(row.search[name].kind, value)) for name in row.lookups for value in entry.values.get(name, ())
    )
    return tuple(dict.fromkeys((name, value) for name, value in found if value))


def ranges_of(entry: Entry, type: str) -> tuple[str, ...]:
    """The ranges that a resource of a record stands in (`records.search.Ranges`)."""
    row = record_type(type)
    return row.ranges.of(entry, lambda name: row.search[name].kind)


def referrers(type: str) -> list[tuple[str, str]]:
    """The (type, parameter) pairs by which resources that belong to nobody refer to a type."""
    return [
        (row.name, name)
        for row in RECORD_TYPES.values()
        for name in row.lookups
        if row.search[name].kind == "reference" and type in row.search[name].targets
    ]


# --- subjects ---------------------------------------------------------------------------------------------------------


def subject_of(resource: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The Reference to the patient whose record a resource belongs to: among several the first that names a Patient.

    Otherwise the first there is: the target of a Provenance is in that record, a document holds the content of a
    Binary. None for what belongs to no patient's record, and where the element is absent.
    """
    row = record_type(resource["resourceType"])
    if row.compartment is None:
        return None
    found = [each for each in evaluate(resource, row.compartment) if isinstance(each, Mapping)]
    named = next((each for each in found if is_to(resource, each, "Patient")), None)
    if named is None and found and (row.needs_patient or row.among is None):
        return found[0]
    return named


def with_subject(resource: Mapping[str, Any], patient: str) -> dict[str, Any]:
    """A copy in which what `subject_of` gives refers to `Patient/<patient>`, unless it refers to another resource."""
    named = subject_of(resource)
    if named is None or _names_another(record_type(resource["resourceType"]), named):
        return dict(resource)

    def copied(value: Any) -> Any:
        if value is named:
            return {**named, "reference": f"Patient/{patient}"}
        if isinstance(value, Mapping):
            return {name: copied(child) for name, child in value.items()}
        return [copied(child) for child in value] if isinstance(value, list) else value

    return {name: copied(value) for name, value in resource.items()}


def _names_another(row: RecordType, reference: Mapping[str, Any]) -> bool:
    """Whether a reference that may name any resource names one that is not a Patient."""
    is_open = row.compartment in ("target", "securityContext")
    return (
        is_open
        and not is_to({}, reference, "Patient")
        and re.search(r"[/?]", reference.get("reference", "")) is not None
    )


# --- entries ----------------------------------------------------------------------------------------------------------


def entry_of(resource: Mapping[str, Any], *, base_url: str | None = None) -> Entry:
    """The search values of a valid resource as it will be stored, `id` and `meta.lastUpdated` included.

    References that start with `base_url` are to this server. Raises Unprocessable (`too-long`) when the values are too
    many for one entry.
    """
    row = record_type(resource["resourceType"])
    reader = _Reader(resource, f"{base_url}/" if base_url else None)
    values: dict[str, tuple[str, ...]] = {}
    for name, parameter in row.search.items():
        if not parameter.is_kept:
            continue
        found = tuple(dict.fromkeys(reader.values(parameter)))
        if not found and parameter.otherwise is not None:
            found = (parameter.otherwise,)
        if found:
            values[name] = found
        if parameter.kind == "token" and (texts := tuple(dict.fromkeys(reader.texts(parameter)))):
            values[f"{name}:text"] = texts
    if row.compartment is not None:
        values |= unindexed(resource, {name: found for name, found in values.items() if ":" not in name})
    sort_at = values[row.sort][0][:12] if row.sort in values else BEGINNING[:12]
    entry = Entry(values=values, sort_at=sort_at)
    characters = sum(len(each) + _VALUE_CHARACTERS for found in values.values() for each in found)
    if characters > MAX_ENTRY_BYTES // 4 and len(entry.pack().encode()) > MAX_ENTRY_BYTES:
        raise Unprocessable(
            "the elements that can be searched are too long together", code="too-long", expression=row.name
        )
    return entry


class _Reader:
    """Reads search values out of one resource."""

    def __init__(self, resource: Mapping[str, Any], base: str | None) -> None:
        self._resource = resource
        self._base = base

    def values(self, parameter: SearchParameter, start: Any = None) -> Iterator[str]:
        """The values of a parameter, or of a component in the element `start`."""
        for path in parameter.paths:
            bare, type = typed(path)
            for node in evaluate(self._resource, bare, start):
                match parameter.kind:
                    case "token":
                        yield from _tokens(type, node)
                    case "reference":
                        yield from self._references(type, node)
                    case "date":
                        yield from _dates(type, node)
                    case "string":
                        yield from _strings(type, node)
                    case "quantity":
                        yield from _quantities(type, node)
                    case "uri":
                        yield node
                    case "composite":
                        parts = [list(self.values(component, node)) for component in parameter.components]
                        yield from map(joined, product(*parts))

    def texts(self, parameter: SearchParameter) -> Iterator[str]:
        """What `:text` compares: texts and displays of concepts, the names of types of identifiers."""
        for path in parameter.paths:
            bare, type = typed(path)
            for node in evaluate(self._resource, bare):
                if type == "CodeableConcept":
                    yield from _present(node.get("text"))
                    yield from _present(*(coding.get("display") for coding in node.get("coding", ())))
                elif type == "Coding":
                    yield from _present(node.get("display"))
                elif type == "Identifier":
                    yield from _present(node.get("type", {}).get("text"))

    def _references(self, type: str, node: Any) -> Iterator[str]:
        if type == "canonical":
            yield node
        elif type == "Resource":
            yield from _present(f"{node['resourceType']}/{node['id']}" if "id" in node else None)
        else:
            target = node.get("reference", "").partition("/_history/")[0]
            if target and not target.startswith("#"):
                yield target.removeprefix(self._base) if self._base else target
            if "identifier" in node:
                yield from (f"|{token}" for token in _tokens("Identifier", node["identifier"]))


def _present(*texts: str | None) -> Iterator[str]:
    yield from (each[:MAX_TEXT_CHARACTERS] for each in texts if each)


def _tokens(type: str, node: Any) -> Iterator[str]:
    match type:
        case "CodeableConcept":
            for coding in node.get("coding", ()):
                yield from _tokens("Coding", coding)
        case "Coding" | "Identifier":
            code = node.get("code" if type == "Coding" else "value")
            yield from _present(code and f"{node.get('system', '')}|{code}")
        case "ContactPoint":
            yield from (f"|{value}" for value in _present(node.get("value")))
        case "boolean":
            yield f"|{str(node).lower()}"
        case _:
            yield f"|{node}"


def _dates(type: str, node: Any) -> Iterator[str]:
    if type in ("Period", "Timing"):
        lo, hi = _limits(node)
        if (lo, hi) != (BEGINNING, END):
            yield f"{lo}/{hi}"
    else:
        yield "/".join(date_range(node))


def _limits(node: Mapping[str, Any]) -> tuple[str, str]:
    """The outer limits of a Period, or of a Timing: from its first event to its last."""
    ranges = [date_range(event) for event in node.get("event", ()) if event is not None]
    bounds = node.get("repeat", {}).get("boundsPeriod")
    if bounds:
        ranges.append(_limits(bounds))
    if ranges:
        return min(lo for lo, _ in ranges), max(hi for _, hi in ranges)
    lo = date_range(node["start"])[0] if "start" in node else BEGINNING
    hi = date_range(node["end"])[1] if "end" in node else END
    return lo, hi


_PARTS = {
    "HumanName": ("text", "family", "given", "prefix", "suffix"),
    "Address": ("text", "line", "city", "district", "state", "postalCode", "country"),
}


def _strings(type: str, node: Any) -> Iterator[str]:
    if type not in _PARTS:
        yield node[:MAX_TEXT_CHARACTERS]
        return
    for name in _PARTS[type]:
        part = node.get(name)
        yield from _present(*part) if isinstance(part, list) else _present(part)


def _quantities(type: str, node: Mapping[str, Any]) -> Iterator[str]:
    if type == "Range":
        low, high = node.get("low", {}), node.get("high", {})
        number, measured = f"{low.get('value', '')}~{high.get('value', '')}", low or high
    else:
        number, measured = f"{node.get('comparator', '')}{node['value']}" if "value" in node else "", node
    if number not in ("", "~"):
        code, unit = measured.get("code", ""), measured.get("unit", "")
        yield f"{number}|{measured.get('system', '')}|{code}|{unit if unit != code else ''}"
