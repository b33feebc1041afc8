"""The International Patient Summary: a document made of what a patient's record holds, at one moment.

IPS 2.0.1 (`$summary`, Bundle-uv-ips, Composition-uv-ips) and FHIR R4 section 3.3 (documents). A pure function
of what the caller may see: it says nothing of what is not there, which is why an empty section is
`unavailable` and never `nilknown`. The document is assembled by software, so its author is a Device, and
nobody attests it. Which resources belong in which section is data, in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any
from uuid import UUID, uuid5

from passerelle.fhir.dates import date_range, instant

Resource = Mapping[str, Any]

_LOINC = "http://loinc.org"
_PROFILE = "http://hl7.org/fhir/uv/ips/StructureDefinition/"
_CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
_LEVELS = ("N", "R", "V")  # the levels below normal do not make a document less than normal


# --- what belongs in which section --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """`types` are read for it. `is_latest_only` keeps the most recent resource of each code."""

    title: str
    code: str
    types: tuple[str, ...]
    takes: Callable[[Resource], bool]
    is_mandatory: bool = False
    is_latest_only: bool = False
    is_narrative_only: bool = False


def _codes(*concepts: Any) -> set[str]:
    """The codes of CodeableConcepts, in lists or alone."""
    each = [one for concept in concepts for one in (concept if isinstance(concept, list) else [concept]) if one]
    return {coding["code"] for concept in each for coding in concept.get("coding", []) if "code" in coding}


def _is_true(resource: Resource) -> bool:
    """Neither entered in error nor found to be untrue."""
    return not _codes(resource.get("verificationStatus")) & {"entered-in-error", "refuted"}


def _is_problem(resource: Resource) -> bool:
    return _is_true(resource) and not _is_past_problem(resource)


def _is_past_problem(resource: Resource) -> bool:
    return _is_true(resource) and bool(_codes(resource.get("clinicalStatus")) & {"inactive", "remission", "resolved"})


def _is_allergy(resource: Resource) -> bool:
    return _is_true(resource) and not _codes(resource.get("clinicalStatus")) & {"inactive", "resolved"}


def _is_medication(resource: Resource) -> bool:
    """Taken, to be taken or paused; neither a proposal nor an order not to give (MedicationRequest-uv-ips)."""
    if resource.get("intent") in ("proposal", "option") or resource.get("doNotPerform"):
        return False
    return resource.get("status") in ("active", "intended", "on-hold", "unknown")


def _has_status(*statuses: str) -> Callable[[Resource], bool]:
    return lambda resource: resource.get("status") in statuses


_PREGNANCY = {
    # Status, expected delivery date and outcomes: value sets of the IPS pregnancy profiles.
    *("82810-3", "11778-8", "11779-6", "11780-4"),
    *("11636-8", "11637-6", "11638-4", "11639-2", "11640-0", "11612-9", "11613-7", "11614-5", "33065-4"),
}
_SOCIAL = {"72166-2", "74013-4"}  # tobacco and alcohol use


def _is_pregnancy(resource: Resource) -> bool:
    return _is_reported(resource) and bool(_codes(resource.get("code")) & _PREGNANCY)


def _is_social(resource: Resource) -> bool:
    is_one = "social-history" in _codes(resource.get("category")) or _codes(resource.get("code")) & _SOCIAL
    return _is_reported(resource) and bool(is_one) and not _is_pregnancy(resource)


def _is_vital_sign(resource: Resource) -> bool:
    return _is_reported(resource) and "vital-signs" in _codes(resource.get("category")) and not _is_pregnancy(resource)


def _is_result(resource: Resource) -> bool:
    if resource["resourceType"] == "DiagnosticReport":
        return _is_reported(resource)
    is_one = _codes(resource.get("category")) & {"laboratory", "imaging"}
    others = (_is_pregnancy, _is_social, _is_vital_sign)
    return _is_reported(resource) and bool(is_one) and not any(takes(resource) for takes in others)


_is_reported = _has_status("final", "amended", "corrected", "appended")


def _is_directive(resource: Resource) -> bool:
    """An advance directive, not a consent to the use of data."""
    kinds = _codes(resource.get("scope"), resource.get("category"))
    return resource.get("status") == "active" and bool(kinds & {"adr", "acd", "dnr", "hcd", "polst", "42348-3"})


SECTIONS: tuple[Section, ...] = (
    Section(title="Problem list", code="11450-4", types=("Condition",), takes=_is_problem, is_mandatory=True),
    Section(
        title="Allergies and intolerances",
        code="48765-2",
        types=("AllergyIntolerance",),
        takes=_is_allergy,
        is_mandatory=True,
    ),
    Section(
        title="Medication summary",
        code="10160-0",
        types=("MedicationStatement", "MedicationRequest"),
        takes=_is_medication,
        is_mandatory=True,
    ),
    Section(title="Immunizations", code="11369-6", types=("Immunization",), takes=_has_status("completed")),
    Section(
        title="Results",
        code="30954-2",
        types=("Observation", "DiagnosticReport"),
        takes=_is_result,
        is_latest_only=True,
    ),
    Section(
        title="History of procedures",
        code="47519-4",
        types=("Procedure",),
        takes=_has_status("in-progress", "on-hold", "stopped", "completed", "unknown"),
    ),
    # The profile has DeviceUseStatement as the only structured entry, and the record holds Devices.
    Section(
        title="Medical devices",
        code="46264-8",
        types=("Device",),
        takes=_has_status("active"),
        is_narrative_only=True,
    ),
    Section(title="Advance directives", code="42348-3", types=("Consent",), takes=_is_directive),
    Section(title="Alerts", code="104605-1", types=("Flag",), takes=_has_status("active")),
    Section(title="History of past problems", code="11348-0", types=("Condition",), takes=_is_past_problem),
    Section(
        title="History of pregnancy",
        code="10162-6",
        types=("Observation",),
        takes=_is_pregnancy,
        is_latest_only=True,
    ),
    Section(title="Plan of care", code="18776-5", types=("CarePlan",), takes=_has_status("active", "on-hold")),
    Section(
        title="Social history",
        code="29762-2",
        types=("Observation",),
        takes=_is_social,
        is_latest_only=True,
    ),
    Section(
        title="Vital signs",
        code="8716-3",
        types=("Observation",),
        takes=_is_vital_sign,
        is_latest_only=True,
    ),
)

# What those refer to, without which they cannot be understood; included if given and referred to.
SUPPORTING_TYPES = (
    "Device",
    "ImagingStudy",
    "Location",
    "Medication",
    "Observation",
    "Organization",
    "Practitioner",
    "PractitionerRole",
    "Specimen",
)


# --- the document -------------------------------------------------------------------------------------------


def summary_document(
    patient: Resource,
    resources: Iterable[Resource],
    *,
    at: datetime,
    base_url: str,
    custodian: str,
    document_id: str,
) -> dict[str, Any]:
    """The document, as FHIR JSON; the same resources in any order give the same document.

    `resources` are of this patient and of the directory, valid, and all visible to the caller. `base_url` ends
    without a slash, `custodian` is the name of the organisation that answers for the exchange, `document_id` a
    UUID. The resources are embedded, not copied.
    """
    record = _Record(patient, resources, base_url)
    chosen = {section.code: _choose(section, record) for section in SECTIONS}
    referred = [each for section in SECTIONS if not section.is_narrative_only for each in chosen[section.code]]
    included = record.with_supporting([patient, *referred])
    level = _highest_level(included)
    own = UUID(document_id)
    urls = {name: f"urn:uuid:{uuid5(own, name)}" for name in ("Composition", "Device", "Organization")}
    composition = {
        "resourceType": "Composition",
        "id": _id(urls["Composition"]),
        "meta": {"profile": [f"{_PROFILE}Composition-uv-ips"]},
        "language": "en",
        "status": "final",
        "type": _concept(_LOINC, "60591-5"),
        "subject": {"reference": record.url(patient)},
        "date": instant(at),
        "author": [{"reference": urls["Device"]}],
        "title": "International Patient Summary",
        "confidentiality": level,
        "custodian": {"reference": urls["Organization"]},
        "event": [
            {
                "code": [_concept("http://terminology.hl7.org/CodeSystem/v3-ActClass", "PCPR")],
                "period": {"end": instant(at)},
            }
        ],
        "section": [
            _render_section(section, chosen[section.code], record)
            for section in SECTIONS
            if section.is_mandatory or chosen[section.code]
        ],
    }
    device = {
        "resourceType": "Device",
        "id": _id(urls["Device"]),
        "deviceName": [{"name": "Passerelle", "type": "user-friendly-name"}],
        "owner": {"reference": urls["Organization"]},
    }
    organization = {"resourceType": "Organization", "id": _id(urls["Organization"]), "name": custodian}
    return {
        "resourceType": "Bundle",
        "id": document_id,
        "meta": {
            "profile": [f"{_PROFILE}Bundle-uv-ips"],
            "security": [{"system": _CONFIDENTIALITY, "code": level}],
        },
        "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{own}"},
        "type": "document",
        "timestamp": instant(at),
        "entry": [
            {"fullUrl": urls["Composition"], "resource": composition},
            *({"fullUrl": record.url(each), "resource": each} for each in included[:1]),
            {"fullUrl": urls["Device"], "resource": device},
            {"fullUrl": urls["Organization"], "resource": organization},
            *({"fullUrl": record.url(each), "resource": each} for each in included[1:]),
        ],
    }


class _Record:
    """What the summary is made of, found by reference."""

    def __init__(self, patient: Resource, resources: Iterable[Resource], base_url: str) -> None:
        self._base = f"{base_url}/"
        self._all = {_key(each): each for each in resources} | {_key(patient): patient}
        by_key = [self._all[key] for key in sorted(self._all)]
        self.latest_first = sorted(by_key, key=_recency, reverse=True)  # and what has no date last

    def url(self, resource: Resource) -> str:
        return f"{self._base}{_key(resource)}"

    def find(self, reference: str, source: Resource) -> Resource | None:
        """What a reference in `source` leads to, if that is here or contained."""
        if reference.startswith("#"):
            inner: Sequence[Resource] = source.get("contained", ())
            return next((each for each in inner if each.get("id") == reference[1:]), None)
        return self._all.get(reference.removeprefix(self._base).partition("/_history/")[0])

    def with_supporting(self, chosen: Sequence[Resource]) -> list[Resource]:
        """The chosen, in order, each once, and after them what they refer to, and that refers to."""
        included = {_key(each): each for each in chosen}
        todo = list(included.values())
        while todo:
            source = todo.pop(0)
            for reference in _references(source):
                target = self.find(reference, source)
                if target is None or reference.startswith("#") or _key(target) in included:
                    continue
                if target["resourceType"] in SUPPORTING_TYPES and target.get("status") not in _WITHDRAWN:
                    included[_key(target)] = target
                    todo.append(target)
        return list(included.values())


_WITHDRAWN = ("entered-in-error", "cancelled")


def _key(resource: Resource) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def _id(url: str) -> str:
    return url.removeprefix("urn:uuid:")


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for child in value.values():
            yield from _references(child)
    elif isinstance(value, list):
        for child in value:
            yield from _references(child)


def _choose(section: Section, record: _Record) -> list[Resource]:
    taken = [each for each in record.latest_first if each["resourceType"] in section.types and section.takes(each)]
    if not section.is_latest_only:
        return taken
    latest: dict[Any, Resource] = {}
    for each in taken:
        latest.setdefault(_subject_matter(each), each)
    return list(latest.values())


def _subject_matter(resource: Resource) -> tuple[str, ...]:
    """What two resources share of which only the later one counts; without a code, nothing."""
    concept = resource.get("code", {})
    for coding in concept.get("coding", []):
        if "code" in coding:
            return resource["resourceType"], coding.get("system", ""), coding["code"]
    return resource["resourceType"], concept.get("text", _key(resource))


def _highest_level(included: Iterable[Resource]) -> str:
    """The high water mark: the document is as sensitive as the most sensitive resource in it."""
    labels = [label for each in included for label in each.get("meta", {}).get("security", [])]
    codes = {label.get("code") for label in labels if label.get("system") == _CONFIDENTIALITY}
    return next(level for level in reversed(_LEVELS) if level in codes or level == _LEVELS[0])


# --- sections and their narrative ---------------------------------------------------------------------------

_DATES = (
    "effectiveDateTime",
    "effectivePeriod",
    "effectiveInstant",
    "onsetDateTime",
    "onsetPeriod",
    "performedDateTime",
    "performedPeriod",
    "occurrenceDateTime",
    "authoredOn",
    "dateAsserted",
    "recordedDate",
    "period",
    "issued",
    "created",
    "dateTime",
    "manufactureDate",
)
_NAMES = (
    "code",
    "vaccineCode",
    "medicationCodeableConcept",
    "medicationReference",
    "title",
    "deviceName",
    "type",
    "description",
    "category",
)
_EXPECTED = ("active", "completed", "final", "amended", "corrected", "appended")


def _render_section(section: Section, chosen: Sequence[Resource], record: _Record) -> dict[str, Any]:
    rows = "".join(
        f"<tr><td>{escape(_when(each)[:10])}</td><td>{escape(_description(each, record))}</td></tr>" for each in chosen
    )
    table = f"<table><thead><tr><th>Date</th><th>Description</th></tr></thead><tbody>{rows}</tbody></table>"
    div = f"<h2>{escape(section.title)}</h2>{table if chosen else '<p>No information available.</p>'}"
    rendered: dict[str, Any] = {
        "title": section.title,
        "code": _concept(_LOINC, section.code),
        "text": {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{div}</div>'},
    }
    if not chosen:
        rendered["emptyReason"] = _concept("http://terminology.hl7.org/CodeSystem/list-empty-reason", "unavailable")
    elif not section.is_narrative_only:
        rendered["entry"] = [{"reference": record.url(each)} for each in chosen]
    return rendered


def _when(resource: Resource) -> str:
    """As written; the start of a period, or its end if that is all there is."""
    for name in _DATES:
        value = resource.get(name)
        if isinstance(value, Mapping):
            value = value.get("start", value.get("end"))
        if isinstance(value, str):
            return value
    return ""


def _recency(resource: Resource) -> tuple[str, str]:
    try:
        when = date_range(_when(resource))[1]
    except ValueError:
        when = ""
    return when, resource.get("meta", {}).get("lastUpdated", "")


def _description(resource: Resource, record: _Record) -> str:
    names = (_text(resource.get(name), resource, record) for name in _NAMES)
    name = next((each for each in names if each), "Not described")
    details = [each for each in _details(resource, record) if each]
    return f"{name}: {'; '.join(details)}" if details else name


def _text(value: Any, source: Resource, record: _Record) -> str:
    """A CodeableConcept, a Reference, a device name or a text in words; of a list, the first that has any."""
    if isinstance(value, list):
        return next((text for each in value if (text := _text(each, source, record))), "")
    if not isinstance(value, Mapping):
        return str(value or "")
    target = record.find(value["reference"], source) if "reference" in value else None
    if target is not None:
        return _text(target.get("code"), target, record) or _text(target.get("name"), target, record)
    codings = value.get("coding", [])
    words = [value.get("text"), value.get("display"), value.get("name")]
    words += [each.get(name) for name in ("display", "code") for each in codings]
    return next((each for each in words if isinstance(each, str)), "")


def _details(resource: Resource, record: _Record) -> Iterator[str]:
    """What changes the meaning of the name: values, doses, reactions, doubts, unusual states."""
    yield _value(resource, resource, record)
    for component in resource.get("component", []):
        value = _value(component, resource, record)
        yield f"{_text(component.get('code'), resource, record)} {value}" if value else ""
    for dosage in (*resource.get("dosage", ()), *resource.get("dosageInstruction", ())):
        yield dosage.get("text", "")
    for reaction in resource.get("reaction", ()):
        yield ", ".join(_text(each, resource, record) for each in reaction.get("manifestation", ()))
    yield _text(resource.get("severity"), resource, record)
    criticality = resource.get("criticality")
    yield {"high": "high risk", "low": "low risk", "unable-to-assess": "risk not assessed"}.get(criticality or "", "")
    doubts = _codes(resource.get("verificationStatus")) - {"confirmed"}
    yield ", ".join(sorted(doubts))
    status = resource.get("status", _EXPECTED[0])
    yield status if status not in _EXPECTED else ""
    yield resource.get("conclusion", "")


def _value(holder: Mapping[str, Any], source: Resource, record: _Record) -> str:
    for name, value in holder.items():
        if name.startswith("value"):
            return _written(value, source, record)
    return _text(holder.get("dataAbsentReason"), source, record)


def _written(value: Any, source: Resource, record: _Record) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, Mapping):
        return str(value)
    if "value" in value:
        words = (value.get("comparator"), value["value"], value.get("unit", value.get("code")))
        return " ".join(str(each) for each in words if each is not None)
    for names, between in (
        (("low", "high"), " to "),
        (("numerator", "denominator"), " / "),
        (("start", "end"), " to "),
    ):
        ends = [_written(value[name], source, record) for name in names if name in value]
        if ends:
            return between.join(ends)
    return _text(value, source, record)
