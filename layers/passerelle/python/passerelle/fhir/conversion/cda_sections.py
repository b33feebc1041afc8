"""What stands in the sections of a CDA document of level 3, as resources: problems, allergies, medications, results,
isolates with their antibiograms, vital signs, immunisations (C-CDA R2.1, IHE PCC, IHE XD-LAB and their French versions,
the CI-SIS).

Which template means what is data (`data/cda_templates.json`, `data/cda_codes.json`). What is not known is not guessed:
an entry of an unknown template, a section without entries, a statement without a code are in `lost`, by their place and
template, never by content. Statements about relatives, about the document itself, or about what is planned or asked
for, are none about the patient's state.

The one Provenance says of all that was made which document it comes from, who wrote that, and who assembled it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import Element, tostring

from passerelle.documents.contents.cda import ROOT, header_of
from passerelle.documents.contents.header import Header
from passerelle.documents.contents.xml import RefusedXmlError, read_xml
from passerelle.fhir.conversion.cda_values import (
    Narrative,
    all_of,
    concept,
    effective,
    ended,
    first_of,
    identifiers,
    interval,
    mapped,
    moment,
    name_of,
    period,
    plain_text,
    quantity,
    simple_range,
    type_of,
    value_of,
)
from passerelle.fhir.conversion.made import Entry, identifier_element, made_identifier, made_uuid, post, present, put
from passerelle.fhir.dates import instant
from passerelle.ingestion.model import Reason, RefusedMessage, Source

MAX_RESOURCES: Final = 500  # of one document; a transaction has 1,000 entries, and more is no summary of anything

_DATA: Final = Path(__file__).parent / "data"
_OID = re.compile(r"[0-2](\.(0|[1-9]\d{0,30})){1,30}", re.ASCII)
_SECTION_CODE = re.compile(r"[A-Za-z0-9\-]{1,20}", re.ASCII)
_ASSEMBLER: Final = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type", "code": "assembler"}]
}
_AUTHOR: Final = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type", "code": "author"}]
}
_HL7: Final = "http://terminology.hl7.org/CodeSystem"
_SNOMED: Final = "http://snomed.info/sct"
_STATEMENTS: Final = frozenset(
    (
        "act",
        "encounter",
        "observation",
        "observationMedia",
        "organizer",
        "procedure",
        "regionOfInterest",
        "substanceAdministration",
        "supply",
    )
)
_DONE: Final = ("EVN",)
_DONE_OR_PRESCRIBED: Final = ("EVN", "INT")
_TOLD_BY: Final = {
    "allergy": frozenset(("MFST",)),
    "medication": frozenset(("RSON",)),
    "medication-of-pcc": frozenset(("RSON",)),
    "immunization": frozenset(("RSON",)),
}
_CATEGORIES: Final = {"vital-sign": "vital-signs", "result": "laboratory", "social-history": "social-history"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sections:
    """`entries` of a transaction, their Provenance last."""

    entries: tuple[Entry, ...] = ()
    lost: tuple[str, ...] = ()


def resources_of(cda: bytes, subject: str, source: Source, *, document: str) -> Sections:
    """The resources that the sections of a CDA document state about the patient whom the reference `subject` means.

    `document` refers to its DocumentReference. Raises RefusedMessage for what is no CDA document.
    """
    try:
        root = read_xml(cda).root
    except RefusedXmlError:
        raise RefusedMessage(Reason.DATA_TYPE) from None
    if root.tag != ROOT:
        raise RefusedMessage(Reason.UNSUPPORTED_MESSAGE_TYPE)
    reading = _Reading(root, subject, source)
    for section in all_of(root, "component/structuredBody/component/section"):
        reading.read_section(section)
    if not reading.entries:
        return Sections(lost=tuple(reading.lost))
    header = header_of(root)
    made = [{"reference": each["fullUrl"]} for each in reading.entries]
    provenance = post(
        made_uuid(source, "Provenance", document),
        {
            "resourceType": "Provenance",
            "target": made,
            "recorded": instant(source.now),
            "agent": [*_authors(header), {"type": _ASSEMBLER, "who": {"display": "Passerelle"}}],
            "entity": [{"role": "source", "what": {"reference": document}}],
        },
    )
    return Sections(entries=(*reading.entries, provenance), lost=tuple(reading.lost))


def _authors(header: Header) -> Iterator[dict[str, Any]]:
    for author in header.authors[:20]:
        name = " ".join(part for part in (*author.given, author.family) if part) or author.device
        numbers = [identifier_element(each) for each in author.identifiers[:1]]
        who = present({"identifier": numbers[0] if numbers else None, "display": name})
        if who:
            yield {"type": _AUTHOR, "who": who}


# --- tables -----------------------------------------------------------------------------------------------------------


@cache
def _templates() -> Any:
    return json.loads((_DATA / "cda_templates.json").read_text("utf-8"))


@cache
def _codes() -> Any:
    return json.loads((_DATA / "cda_codes.json").read_text("utf-8"))


def _roots(*elements: Element) -> list[str]:
    found = [each.get("root", "") for element in elements for each in all_of(element, "templateId")]
    return [each for each in dict.fromkeys(found) if _OID.fullmatch(each)]


def _kind(roots: Sequence[str]) -> str | None:
    """The most telling of what the templates mean; None for nothing, or for what is not about the patient."""
    tables = _templates()
    if any(each in tables["about_something_else"] for each in roots):
        return None
    kinds = {tables["statements"][each] for each in roots if each in tables["statements"]}
    return next((each for each in tables["precedence"] if each in kinds), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a statement stands: the kind of its section, its path, and what the statements around it say of it."""

    section: str
    path: str
    concern: Element | None = None
    time: Element | None = None  # of the organizer around it
    isolate: tuple[str, ...] = ()  # what tells it from others: two germs may have one result, word for word
    results: list[str] = field(default_factory=list)  # full URLs, collected for the report or battery around it


# --- reading ----------------------------------------------------------------------------------------------------------


class _Reading:
    def __init__(self, root: Element, subject: str, source: Source) -> None:
        self.entries: list[dict[str, Any]] = []
        self.lost: list[str] = []
        self._narrative = Narrative(root)
        self._subject = {"reference": subject}
        self._source = source
        self._written_at = moment(first_of(root, "effectiveTime"))
        self._document = next(identifiers(root), ("", ""))
        self._names: set[str] = set()

    def read_section(self, section: Element, above: str = "") -> None:
        code = first_of(section, "code")
        name = code.get("code", "") if code is not None else ""
        path = f"{above}section[{name if _SECTION_CODE.fullmatch(name) else '?'}]"
        roots = _roots(section)
        kind = next((_templates()["sections"][each] for each in roots if each in _templates()["sections"]), "")
        entries = all_of(section, "entry")
        inner = all_of(section, "component/section")
        if not entries and not inner:
            self._lose(f"{path}: no entries")
        for number, entry in enumerate(entries, 1):
            place = _Place(section=kind, path=f"{path}/entry[{number}]")
            for statement in _statements(entry):
                if kind in _templates()["not_of_the_patient"]:
                    self._lose_statement(place, statement, entry)
                else:
                    self._read(statement, place, _roots(entry, statement))
        for each in inner:
            self.read_section(each, f"{path}/")

    def _read(self, statement: Element, place: _Place, roots: list[str]) -> None:
        kind = _kind(roots)
        moods = _DONE_OR_PRESCRIBED if kind in ("medication", "medication-of-pcc") else _DONE
        if kind is None or statement.get("moodCode") not in moods:
            self._lose_statement(place, statement)
        elif kind == "concern":
            self._descend(statement, place, concern=statement)
        elif kind in ("report", "battery", "vital-signs"):
            self._group(kind, statement, place)
        elif kind == "isolate":
            self._isolate(statement, place)
        else:
            if kind == "problem":
                resource = self._condition(statement, place)
            elif kind == "allergy":
                resource = self._allergy(statement, place)
            elif kind in ("medication", "medication-of-pcc"):
                resource = self._medication(statement, place, is_of_pcc=kind != "medication")
            elif kind == "immunization":
                resource = self._immunization(statement)
            else:
                resource = self._observation(statement, place, kind)
            self._made(statement, place, resource)
            if resource is not None:
                self._lose_parts(statement, place, _TOLD_BY.get(kind, frozenset()))

    def _descend(self, statement: Element, place: _Place, **said: Any) -> None:
        """What is stated within a statement that is none by itself."""
        for number, inner in enumerate(_parts(statement), 1):
            within = _Place(
                section=place.section,
                path=f"{place.path}/{number}",
                concern=said.get("concern", place.concern),
                time=said.get("time", place.time),
                isolate=said.get("isolate", place.isolate),
                results=said.get("results", place.results),
            )
            if not self._is_part(inner):
                self._read(inner, within, _roots(inner))

    def _is_part(self, element: Element) -> bool:
        """Whether it belongs to the statement around it, which says it."""
        code = first_of(element, "code")
        named = code is not None and code.get("code") in _templates()["parts"]
        return named or any(each in _templates()["comments"] for each in _roots(element))

    def _group(self, kind: str, organizer: Element, place: _Place) -> None:
        """Of an organizer: what it groups, and itself where it says what that is (a report, or a panel of results)."""
        results: list[str] = []
        time = first_of(organizer, "effectiveTime")
        self._descend(organizer, place, time=time if time is not None else place.time, results=results)
        code = concept(first_of(organizer, "code"), self._narrative)
        if kind == "vital-signs" or not results:
            return
        resource: dict[str, Any] | None = None
        if kind == "report" and code is not None:
            status = mapped(first_of(organizer, "statusCode"), _codes()["report_status"]) or "unknown"
            resource = {"resourceType": "DiagnosticReport", "status": status, "result": _references(results)}
            resource["category"] = [_concept(f"{_HL7}/v2-0074", "LAB")]
            if self._written_at is not None and "T" in self._written_at:
                resource["issued"] = self._written_at
        elif kind == "battery" and code is not None:
            status = mapped(first_of(organizer, "statusCode"), _codes()["observation_status"]) or "unknown"
            resource = {"resourceType": "Observation", "status": status, "hasMember": _references(results)}
            resource["category"] = [_concept(f"{_HL7}/observation-category", "laboratory")]
        if resource is None:
            place.results.extend(results)
            return
        resource |= {"code": code, "subject": self._subject, **effective(time)}
        self._made(organizer, place, resource, within=results)

    def _isolate(self, organizer: Element, place: _Place) -> None:
        """A germ, and what was found of it: each tells the germ, because a susceptibility is nothing without.

        IHE XD-LAB, Laboratory Isolate Organizer: the isolate is a specimen, whose playing entity says which germ it is.
        """
        role = first_of(organizer, "specimen/specimenRole")
        germ = concept(first_of(role, "specimenPlayingEntity/code"), self._narrative)
        if germ is None:
            self._lose_statement(place, organizer)
            return
        before, results = len(self.entries), list[str]()
        time = first_of(organizer, "effectiveTime")
        time = time if time is not None else place.time
        self._descend(organizer, place, time=time, isolate=(_digest(organizer),), results=results)
        number = next(identifiers(role), None) if role is not None else None
        specimen = present(
            {
                "type": "Specimen",
                "identifier": None if number is None else identifier_element(number),
                "display": germ.get("text") or next((each.get("display") for each in germ.get("coding", ())), None),
            }
        )
        resource = {
            "resourceType": "Observation",
            "status": mapped(first_of(organizer, "statusCode"), _codes()["observation_status"]) or "unknown",
            "category": [_concept(f"{_HL7}/observation-category", "laboratory")],
            "code": {"coding": [_codes()["isolate"]]},
            "subject": self._subject,
            **effective(time),
            "valueCodeableConcept": germ,
            "note": self._notes(organizer),
            "specimen": specimen,
            "hasMember": _references(results),
        }
        found = self.entries[before:]
        isolate = self._made(organizer, place, present(resource))
        if isolate is None:
            del self.entries[before:]
        for entry in found:
            entry["resource"] |= {"derivedFrom": [{"reference": isolate}], "specimen": specimen}

    # --- what is made of each -----------------------------------------------------------------------------------------

    def _condition(self, problem: Element, place: _Place) -> dict[str, Any] | None:
        value = first_of(problem, "value")
        code = concept(value, self._narrative) if value is not None else None
        if code is None:
            return None
        time = first_of(problem, "effectiveTime")
        abatement = ended(time)
        is_refuted = problem.get("negationInd") == "true"
        is_listed = place.section == "problems"
        status = self._status(problem) or ("resolved" if abatement else self._concern_status(place))
        if abatement and status not in ("inactive", "resolved", "remission"):
            status = "resolved"  # con-4
        category = "problem-list-item" if is_listed else "encounter-diagnosis"
        certainty = "refuted" if is_refuted else "confirmed"
        return present(
            {
                "resourceType": "Condition",
                "clinicalStatus": None if is_refuted else _concept(f"{_HL7}/condition-clinical", status),
                "verificationStatus": _concept(f"{_HL7}/condition-ver-status", certainty),
                "category": [_concept(f"{_HL7}/condition-category", category)],
                "severity": self._part_value(problem, "severity"),
                "code": code,
                "bodySite": [each for each in [concept(first_of(problem, "targetSiteCode"), self._narrative)] if each],
                "subject": self._subject,
                "onsetDateTime": moment(time),
                "abatementDateTime": None if is_refuted else abatement,
                "recordedDate": self._recorded(problem),
                "note": self._notes(problem),
            }
        )

    def _allergy(self, allergy: Element, place: _Place) -> dict[str, Any] | None:
        code, is_none_known = self._allergen(allergy)
        if code is None:
            return None
        tables = _codes()
        kind = first_of(allergy, "value")
        kinds = [kind, first_of(allergy, "code")]
        time = first_of(allergy, "effectiveTime")
        is_refuted = allergy.get("negationInd") == "true" and not is_none_known
        status = self._status(allergy) or ("resolved" if ended(time) else self._concern_status(place))
        if is_refuted or status == "remission":
            status = "inactive"  # FHIR wants one of an allergy that there is not, too (ait-1)
        elif status in ("recurrence", "relapse"):  # which allergies have not in FHIR
            status = "active"
        category = next((found for each in kinds if (found := mapped(each, tables["allergy_category"]))), None)
        return present(
            {
                "resourceType": "AllergyIntolerance",
                "clinicalStatus": _concept(f"{_HL7}/allergyintolerance-clinical", status),
                "verificationStatus": _concept(
                    f"{_HL7}/allergyintolerance-verification", "refuted" if is_refuted else "confirmed"
                ),
                "type": next((found for each in kinds if (found := mapped(each, tables["allergy_type"]))), None),
                "category": [category] if category else None,
                "criticality": mapped(self._part_element(allergy, "criticality"), tables["criticality"]),
                "code": code,
                "patient": self._subject,
                "onsetDateTime": moment(time),
                "recordedDate": self._recorded(allergy),
                "note": self._notes(allergy),
                "reaction": [each for each in self._reactions(allergy) if each],
            }
        )

    def _allergen(self, allergy: Element) -> tuple[dict[str, Any] | None, bool]:
        """The substance: the consumable's in C-CDA, the value itself in older documents; or that none is known."""
        consumable = first_of(allergy, "participant/participantRole/playingEntity/code")
        value = first_of(allergy, "value")
        substance = concept(consumable, self._narrative)
        if substance is None and (value is None or value.get("code") not in _codes()["allergy_type"]):
            substance = concept(value, self._narrative)
        if substance is not None:
            return substance, False
        if allergy.get("negationInd") != "true":
            # A kind of allergy to a substance that nobody wrote as code: the narrative may name it.
            text = self._narrative.text_of(first_of(allergy, "text"))
            return ({"text": text} if text else None), False
        table = _codes()["no_known_allergy"]
        code = table.get(value.get("code", "") if value is not None else "", table[""])
        names = _codes()["no_known_allergy_names"]
        return {"coding": [{"system": _SNOMED, "code": code, "display": names[code]}]}, True

    def _reactions(self, allergy: Element) -> Iterator[dict[str, Any]]:
        for related in all_of(allergy, "entryRelationship"):
            if related.get("typeCode") != "MFST":
                continue
            for reaction in all_of(related, "observation"):
                manifestation = concept(first_of(reaction, "value"), self._narrative)
                if manifestation is None:
                    continue
                severity = mapped(self._part_element(reaction, "severity"), _codes()["severity"])
                onset = moment(first_of(reaction, "effectiveTime"))
                yield present({"manifestation": [manifestation], "severity": severity, "onset": onset})

    def _medication(self, taking: Element, place: _Place, *, is_of_pcc: bool) -> dict[str, Any] | None:
        code = self._product(taking)
        if code is None:
            return None
        time = next((each for each in all_of(taking, "effectiveTime") if type_of(each) in ("IVL_TS", "TS", "")), None)
        is_period = time is not None and (first_of(time, "low") is not None or first_of(time, "high") is not None)
        taken = {"effectivePeriod": period(time)} if is_period else effective(time)
        return present(
            {
                "resourceType": "MedicationStatement",
                "status": self._medication_status(taking, place, time, is_of_pcc=is_of_pcc),
                "medicationCodeableConcept": code,
                "subject": self._subject,
                **taken,
                "dateAsserted": self._written_at,
                "reasonCode": [*self._reasons(taking)],
                "note": self._notes(taking),
                "dosage": [each for each in [self._dosage(taking)] if each],
            }
        )

    def _medication_status(self, taking: Element, place: _Place, time: Element | None, *, is_of_pcc: bool) -> str:
        """In PCC every statement is `completed`, whatever the patient does: there, the period says whether it is over.

        IHE PCC TF-2, 6.3.4.16.
        """
        if taking.get("negationInd") == "true":
            return "not-taken"
        end = ended(time)
        if is_of_pcc:
            is_over = end is not None and self._written_at is not None and end[:10] < self._written_at[:10]
            return "completed" if is_over or place.section == "administered" else "active"
        status = mapped(first_of(taking, "statusCode"), _codes()["medication_status"]) or "unknown"
        return "intended" if taking.get("moodCode") == "INT" and status == "active" else str(status)

    def _product(self, taking: Element) -> dict[str, Any] | None:
        material = first_of(taking, "consumable/manufacturedProduct/manufacturedMaterial")
        code = concept(first_of(material, "code"), self._narrative)
        name = plain_text(first_of(material, "name"))
        if code is None:
            return {"text": name} if name else None
        return {**code, "text": code.get("text") or name} if code.get("text") or name else code

    def _dosage(self, taking: Element) -> dict[str, Any]:
        dose, rate = interval(first_of(taking, "doseQuantity")), interval(first_of(taking, "rateQuantity"))
        amount = {f"dose{name}": _plain(value) for name, value in dose.items()}
        amount |= {f"rate{name}": _plain(value) for name, value in rate.items()}
        return present(
            {
                "text": self._narrative.text_of(first_of(taking, "text")),
                "timing": self._timing(taking),
                "asNeededBoolean": True if first_of(taking, "precondition") is not None else None,
                "site": concept(first_of(taking, "approachSiteCode"), self._narrative),
                "route": concept(first_of(taking, "routeCode"), self._narrative),
                "doseAndRate": [amount] if amount else None,
                "maxDosePerPeriod": _ratio(first_of(taking, "maxDoseQuantity")),
            }
        )

    def _timing(self, taking: Element) -> dict[str, Any]:
        """Once every period (PIVL_TS); what hangs on meals (EIVL_TS) stays in the text."""
        for each in all_of(taking, "effectiveTime"):
            every = first_of(each, "period")
            unit = every.get("unit", "") if every is not None else ""
            measured = quantity(every)
            if (
                type_of(each) == "PIVL_TS"
                and measured
                and measured["value"] > 0
                and unit in ("s", "min", "h", "d", "wk", "mo", "a")
            ):
                return {"repeat": {"frequency": 1, "period": measured["value"], "periodUnit": unit}}
        return {}

    def _reasons(self, taking: Element) -> Iterator[dict[str, Any]]:
        for related in all_of(taking, "entryRelationship"):
            if related.get("typeCode") == "RSON":
                for each in all_of(related, "observation"):
                    found = concept(first_of(each, "value"), self._narrative)
                    if found is not None:
                        yield found

    def _immunization(self, given: Element) -> dict[str, Any] | None:
        code = self._product(given)
        if code is None:
            return None
        is_given = given.get("negationInd") != "true"
        at = moment(first_of(given, "effectiveTime"))
        number = quantity(self._part_element(given, "dose-number"))
        rank = int(number["value"]) if number and 0 < number["value"] < 1000 else None
        lot = plain_text(first_of(given, "consumable/manufacturedProduct/manufacturedMaterial/lotNumberText"))
        return present(
            {
                "resourceType": "Immunization",
                "status": "completed" if is_given else "not-done",
                "statusReason": None if is_given else next(self._refusals(given), None),
                "vaccineCode": code,
                "patient": self._subject,
                # Somebody was vaccinated, and nobody wrote when.
                **({"occurrenceDateTime": at} if at else {"occurrenceString": "unknown"}),
                "recorded": self._recorded(given),
                "lotNumber": lot,
                "site": concept(first_of(given, "approachSiteCode"), self._narrative),
                "route": concept(first_of(given, "routeCode"), self._narrative),
                "doseQuantity": quantity(first_of(given, "doseQuantity")),
                "note": self._notes(given),
                "protocolApplied": [{"doseNumberPositiveInt": rank}] if rank else None,
            }
        )

    def _refusals(self, given: Element) -> Iterator[dict[str, Any]]:
        for related in all_of(given, "entryRelationship"):
            if related.get("typeCode") == "RSON":
                for each in all_of(related, "observation"):
                    found = concept(first_of(each, "code"), self._narrative)
                    if found is not None:
                        yield found

    def _observation(self, observed: Element, place: _Place, kind: str) -> dict[str, Any] | None:
        code = concept(first_of(observed, "code"), self._narrative)
        if code is None or observed.get("negationInd") == "true":  # nothing of FHIR says "not observed"
            return None
        values = [value_of(each, self._narrative) for each in all_of(observed, "value")]
        value = next((each for each in values if each), {})
        status = mapped(first_of(observed, "statusCode"), _codes()["observation_status"]) or "unknown"
        category = _CATEGORIES.get(kind) or (place.section if place.section in _CATEGORIES.values() else None)
        time = effective(first_of(observed, "effectiveTime")) or effective(place.time)
        return present(
            {
                "resourceType": "Observation",
                "status": status,
                "category": [_concept(f"{_HL7}/observation-category", category)] if category else None,
                "code": code,
                "subject": self._subject,
                **time,
                **value,
                "dataAbsentReason": None if value else _concept(f"{_HL7}/data-absent-reason", "unknown"),
                "interpretation": [*self._interpretations(observed)],
                "note": self._notes(observed),
                "bodySite": concept(first_of(observed, "targetSiteCode"), self._narrative),
                "method": concept(first_of(observed, "methodCode"), self._narrative),
                "referenceRange": [each for each in self._ranges(observed) if each],
            }
        )

    def _interpretations(self, observed: Element) -> Iterator[dict[str, Any]]:
        for each in all_of(observed, "interpretationCode"):
            found = concept(each, self._narrative, default_system="2.16.840.1.113883.5.83")
            if found is not None:
                yield found

    def _ranges(self, observed: Element) -> Iterator[dict[str, Any]]:
        for each in all_of(observed, "referenceRange/observationRange"):
            limits = simple_range(first_of(each, "value"))
            text = self._narrative.text_of(first_of(each, "text"))
            if limits or text:
                yield present({**limits, "text": text})

    # --- what statements have in common -------------------------------------------------------------------------------

    def _part_element(self, statement: Element, name: str) -> Element | None:
        """The value of the part of a statement that is called so: severity, status, criticality, rank of a dose."""
        for part in _parts(statement):
            code = first_of(part, "code")
            if code is not None and _templates()["parts"].get(code.get("code")) == name:
                return first_of(part, "value")
        return None

    def _part_value(self, statement: Element, name: str) -> dict[str, Any] | None:
        return concept(self._part_element(statement, name), self._narrative)

    def _status(self, statement: Element) -> str | None:
        return mapped(self._part_element(statement, "status"), _codes()["clinical_status"])

    def _concern_status(self, place: _Place) -> str:
        """A concern that is completed is one that its author stopped following, not one that is over."""
        concern = first_of(place.concern, "statusCode") if place.concern is not None else None
        return mapped(concern, _codes()["concern_status"]) or "active"

    def _recorded(self, statement: Element) -> str | None:
        return moment(first_of(statement, "author/time")) or self._written_at

    def _notes(self, statement: Element) -> list[dict[str, str]]:
        texts = []
        for part in _parts(statement):
            if any(each in _templates()["comments"] for each in _roots(part)):
                text = self._narrative.text_of(first_of(part, "text"))
                if text:
                    texts.append({"text": text})
        return texts

    def _made(
        self, statement: Element, place: _Place, resource: dict[str, Any] | None, *, within: Sequence[str] = ()
    ) -> str | None:
        """Its full URL; None where it is lost, or was made before."""
        if resource is None or len(self.entries) >= MAX_RESOURCES:
            self._lose_statement(place, statement)
            place.results.extend(within)
            return None
        kind = str(resource["resourceType"])
        own = next(identifiers(statement), None)
        names: list[tuple[str, ...]] = [("id", *own)] if own else []
        names.append(("digest", *self._document, *place.isolate, _digest(statement)))
        for name in names:  # some senders give several statements one id
            identifier = made_identifier(self._source, kind, *name)
            if identifier[1] not in self._names:
                self._names.add(identifier[1])
                given = {} if own is None else {"identifier": [identifier_element(own)]}
                self.entries.append(put(identifier, {**resource, **given}))
                place.results.append(identifier[1])
                return identifier[1]
        return None

    # --- what is lost -------------------------------------------------------------------------------------------------

    def _lose_statement(self, place: _Place, statement: Element, *around: Element) -> None:
        templates = " ".join(_roots(*around, statement)[:6]) or "no template"
        mood = statement.get("moodCode", "")
        is_intent = mood in ("INT", "RQO", "PRMS", "PRP", "ARQ", "APT", "GOL", "EVN.CRT")
        self._lose(f"{place.path}: {name_of(statement)}{f' ({mood})' if is_intent else ''} {templates}")

    def _lose_parts(self, statement: Element, place: _Place, told: frozenset[str]) -> None:
        """What stands within a statement and is not told by its resource: all but some relations."""
        number = 0
        for related in (*all_of(statement, "entryRelationship"), *all_of(statement, "component")):
            for part in _statements(related):
                number += 1
                if related.get("typeCode") not in told and not self._is_part(part):
                    within = _Place(section=place.section, path=f"{place.path}/{number}")
                    self._lose_statement(within, part)

    def _lose(self, what: str) -> None:
        self.lost.append(what)


def _digest(element: Element) -> str:
    return hashlib.sha256(tostring(element)).hexdigest()


def _statements(element: Element) -> list[Element]:
    return [each for each in element if name_of(each) in _STATEMENTS]


def _parts(statement: Element) -> Iterator[Element]:
    """The statements directly within one."""
    for related in (*all_of(statement, "entryRelationship"), *all_of(statement, "component")):
        yield from _statements(related)


def _references(urls: Sequence[str]) -> list[dict[str, str]]:
    return [{"reference": each} for each in dict.fromkeys(urls)]


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """A SimpleQuantity has no comparator."""
    return {name: each for name, each in value.items() if name != "comparator"}


def _ratio(element: Element | None) -> dict[str, Any]:
    parts = {name: quantity(first_of(element, name)) for name in ("numerator", "denominator")}
    return dict(parts) if element is not None and all(parts.values()) else {}
