"""What each stored resource type is searched by: one row a type, as data, and how a resource is read by it.

A new clinical type is one row here. Parameters are those of FHIR R4 (section 3.1.1 and each type's page), for
documents those of IHE MHD 4.2 (ITI-66, ITI-67). Not offered, because one resource could fill an entry:
parameters over lists without bound (`DiagnosticReport.result`, `List.item`, `Observation.hasMember`).

Paths are dotted element names, with `extension('url')` and `resolve()`, which follows a `#id` into the same
resource.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Literal

from passerelle.errors import Unprocessable
from passerelle.fhir.dates import date_range
from passerelle.records.search import BEGINNING, END, Entry

Kind = Literal["token", "reference", "date", "string"]

MAX_ENTRY_CHARACTERS = 30_000  # of search values in one resource: an entry is one item, read by every search


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchParameter:
    """`system` is that of a plain code; `reach` how long one of its dates can last, None for periods."""

    kind: Kind
    paths: tuple[str, ...]
    system: str | None = None
    reach: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordType:
    """`code` is the type in keys of the store. `compartment` is the path to the patient whose record it
    belongs to, None for what belongs to none. `sort` names the date parameter that the type is sorted by.
    """

    name: str
    code: str
    compartment: str | None
    sort: str | None
    search: Mapping[str, SearchParameter]

    @property
    def patient_parameters(self) -> frozenset[str]:
        """The parameters that name the patient; the record searched is chosen by them, not the entries."""
        if self.compartment is None:
            return frozenset()
        own = {"for": "subject", "subject": "subject", "beneficiary": "beneficiary"}.get(self.compartment, "patient")
        return frozenset({"patient", own})


def _token(*paths: str, system: str | None = None) -> SearchParameter:
    return SearchParameter(kind="token", paths=paths, system=system)


def _reference(*paths: str) -> SearchParameter:
    return SearchParameter(kind="reference", paths=paths)


def _string(*paths: str) -> SearchParameter:
    return SearchParameter(kind="string", paths=paths)


def _instant(*paths: str) -> SearchParameter:
    return SearchParameter(kind="date", paths=paths, reach=timedelta())


def _date(*paths: str) -> SearchParameter:
    return SearchParameter(kind="date", paths=paths, reach=timedelta(days=366))  # `2024` is a date


def _period(*paths: str) -> SearchParameter:
    return SearchParameter(kind="date", paths=paths)


_HL7 = "http://hl7.org/fhir/"
_THO = "http://terminology.hl7.org/CodeSystem/"
_MHD = "https://profiles.ihe.net/ITI/MHD/StructureDefinition/"

_COMMON = {"_id": _token("id"), "_lastUpdated": _instant("meta.lastUpdated")}

# Patient is searched through the patient index, by these (IHE PDQm, ITI-78).
PATIENT_SEARCH: Mapping[str, SearchParameter] = {
    "_id": _token("id"),
    "identifier": _token("identifier"),
    "family": _string("name.family"),
    "given": _string("name.given"),
    "birthdate": _date("birthDate"),
    "gender": _token("gender", system=_HL7 + "administrative-gender"),
}


def _row(
    name: str, code: str, compartment: str | None, sort: str | None = None, /, **search: SearchParameter
) -> RecordType:
    named = {parameter.replace("__", ".").replace("_", "-"): rule for parameter, rule in search.items()}
    return RecordType(name=name, code=code, compartment=compartment, sort=sort, search={**_COMMON, **named})


_IDENTIFIER = _token("identifier")

RECORD_TYPES: Mapping[str, RecordType] = {
    row.name: row
    for row in (
        RecordType(name="Patient", code="PAT", compartment=None, sort=None, search=PATIENT_SEARCH),
        _row(
            "AllergyIntolerance",
            "ALG",
            "patient",
            "date",
            identifier=_IDENTIFIER,
            code=_token("code", "reaction.substance"),
            clinical_status=_token("clinicalStatus"),
            verification_status=_token("verificationStatus"),
            type=_token("type", system=_HL7 + "allergy-intolerance-type"),
            category=_token("category", system=_HL7 + "allergy-intolerance-category"),
            criticality=_token("criticality", system=_HL7 + "allergy-intolerance-criticality"),
            severity=_token("reaction.severity", system=_HL7 + "reaction-event-severity"),
            manifestation=_token("reaction.manifestation"),
            onset=_period("reaction.onset"),
            last_date=_date("lastOccurrence"),
            date=_date("recordedDate"),
            recorder=_reference("recorder"),
            asserter=_reference("asserter"),
        ),
        _row(
            "Appointment",
            "APT",
            "participant.actor",
            "date",
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "appointmentstatus"),
            date=_instant("start"),
            actor=_reference("participant.actor"),
            appointment_type=_token("appointmentType"),
            service_type=_token("serviceType"),
            specialty=_token("specialty"),
        ),
        _row(
            "CarePlan",
            "CPL",
            "subject",
            "date",
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "request-status"),
            intent=_token("intent", system=_HL7 + "request-intent"),
            category=_token("category"),
            date=_period("period"),
            encounter=_reference("encounter"),
            care_team=_reference("careTeam"),
            condition=_reference("addresses"),
            goal=_reference("goal"),
            based_on=_reference("basedOn"),
            part_of=_reference("partOf"),
        ),
        _row(
            "CareTeam",
            "CTM",
            "subject",
            "date",
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "care-team-status"),
            category=_token("category"),
            date=_period("period"),
            encounter=_reference("encounter"),
            participant=_reference("participant.member"),
        ),
        _row(
            "Claim",
            "CLM",
            "patient",
            "created",
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "fm-status"),
            use=_token("use", system=_HL7 + "claim-use"),
            created=_date("created"),
            priority=_token("priority"),
            provider=_reference("provider"),
            insurer=_reference("insurer"),
            facility=_reference("facility"),
            enterer=_reference("enterer"),
            encounter=_reference("item.encounter"),
        ),
        _row(
            "Condition",
            "CON",
            "subject",
            "onset-date",
            identifier=_IDENTIFIER,
            code=_token("code"),
            category=_token("category"),
            clinical_status=_token("clinicalStatus"),
            verification_status=_token("verificationStatus"),
            severity=_token("severity"),
            body_site=_token("bodySite"),
            onset_date=_period("onsetDateTime", "onsetPeriod"),
            abatement_date=_period("abatementDateTime", "abatementPeriod"),
            recorded_date=_date("recordedDate"),
            encounter=_reference("encounter"),
            asserter=_reference("asserter"),
        ),
        _row(
            "Consent",
            "CNS",
            "patient",
            "date",
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "consent-state-codes"),
            scope=_token("scope"),
            category=_token("category"),
            date=_date("dateTime"),
            period=_period("provision.period"),
            actor=_reference("provision.actor.reference"),
            consentor=_reference("performer"),
            organization=_reference("organization"),
            purpose=_token("provision.purpose"),
        ),
        _row(
            "Coverage",
            "COV",
            "beneficiary",
            None,
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "fm-status"),
            type=_token("type"),
            payor=_reference("payor"),
            subscriber=_reference("subscriber"),
        ),
        _row(
            "Device",
            "DEV",
            "patient",
            None,
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "device-status"),
            type=_token("type"),
            manufacturer=_string("manufacturer"),
            model=_string("modelNumber"),
            device_name=_string("deviceName.name", "type.text", "type.coding.display"),
            organization=_reference("owner"),
            location=_reference("location"),
        ),
        _row(
            "DiagnosticReport",
            "DRP",
            "subject",
            "date",
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "diagnostic-report-status"),
            category=_token("category"),
            code=_token("code"),
            conclusion=_token("conclusionCode"),
            date=_period("effectiveDateTime", "effectivePeriod"),
            issued=_instant("issued"),
            encounter=_reference("encounter"),
            based_on=_reference("basedOn"),
            performer=_reference("performer"),
            results_interpreter=_reference("resultsInterpreter"),
            specimen=_reference("specimen"),
        ),
        _row(
            "DocumentReference",
            "DOC",
            "subject",
            "date",
            identifier=_token("masterIdentifier", "identifier"),
            status=_token("status", system=_HL7 + "document-reference-status"),
            type=_token("type"),
            category=_token("category"),
            date=_instant("date"),
            creation=_date("content.attachment.creation"),
            period=_period("context.period"),
            event=_token("context.event"),
            facility=_token("context.facilityType"),
            setting=_token("context.practiceSetting"),
            format=_token("content.format"),
            security_label=_token("securityLabel"),
            related=_reference("context.related"),
            author=_reference("author"),
            author__given=_string("author.resolve().name.given", "author.resolve().practitioner.resolve().name.given"),
            author__family=_string(
                "author.resolve().name.family", "author.resolve().practitioner.resolve().name.family"
            ),
            authenticator=_reference("authenticator"),
            custodian=_reference("custodian"),
            encounter=_reference("context.encounter"),
            contenttype=_token("content.attachment.contentType"),
            language=_token("content.attachment.language"),
            description=_string("description"),
            relatesto=_reference("relatesTo.target"),
            relation=_token("relatesTo.code", system=_HL7 + "document-relationship-type"),
        ),
        _row(
            "Encounter",
            "ENC",
            "subject",
            "date",
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "encounter-status"),
            type=_token("type"),
            date=_period("period"),
            reason_code=_token("reasonCode"),
            diagnosis=_reference("diagnosis.condition"),
            participant=_reference("participant.individual"),
            participant_type=_token("participant.type"),
            service_provider=_reference("serviceProvider"),
            location=_reference("location.location"),
            episode_of_care=_reference("episodeOfCare"),
            based_on=_reference("basedOn"),
            part_of=_reference("partOf"),
            **{"class": _token("class")},
        ),
        _row(
            "ExplanationOfBenefit",
            "EOB",
            "patient",
            "created",
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "explanationofbenefit-status"),
            created=_date("created"),
            provider=_reference("provider"),
            facility=_reference("facility"),
            claim=_reference("claim"),
            coverage=_reference("insurance.coverage"),
            encounter=_reference("item.encounter"),
        ),
        _row(
            "Goal",
            "GOL",
            "subject",
            "start-date",
            identifier=_IDENTIFIER,
            lifecycle_status=_token("lifecycleStatus", system=_HL7 + "goal-status"),
            achievement_status=_token("achievementStatus"),
            category=_token("category"),
            start_date=_date("startDate"),
            target_date=_date("target.dueDate"),
        ),
        _row(
            "ImagingStudy",
            "IMG",
            "subject",
            "started",
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "imagingstudy-status"),
            started=_date("started"),
            modality=_token("modality", "series.modality"),
            bodysite=_token("series.bodySite"),
            reason=_token("reasonCode"),
            encounter=_reference("encounter"),
            basedon=_reference("basedOn"),
            interpreter=_reference("interpreter"),
            referrer=_reference("referrer"),
        ),
        _row(
            "Immunization",
            "IMM",
            "patient",
            "date",
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "event-status"),
            vaccine_code=_token("vaccineCode"),
            target_disease=_token("protocolApplied.targetDisease"),
            date=_date("occurrenceDateTime"),
            lot_number=_string("lotNumber"),
            status_reason=_token("statusReason"),
            reason_code=_token("reasonCode"),
            performer=_reference("performer.actor"),
            location=_reference("location"),
            manufacturer=_reference("manufacturer"),
        ),
        _row(
            "List",
            "LST",
            "subject",
            "date",
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "list-status"),
            code=_token("code"),
            title=_string("title"),
            date=_date("date"),
            encounter=_reference("encounter"),
            source=_reference("source"),
            source__given=_string("source.resolve().name.given", "source.resolve().practitioner.resolve().name.given"),
            source__family=_string(
                "source.resolve().name.family", "source.resolve().practitioner.resolve().name.family"
            ),
            designationType=_token(f"extension('{_MHD}ihe-designationType').valueCodeableConcept"),
            sourceId=_token(f"extension('{_MHD}ihe-sourceId').valueIdentifier"),
        ),
        _row(
            "Location",
            "LOC",
            None,
            None,
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "location-status"),
            name=_string("name", "alias"),
            type=_token("type"),
            organization=_reference("managingOrganization"),
            partof=_reference("partOf"),
        ),
        _row("Medication", "MED", None, None, identifier=_IDENTIFIER, code=_token("code"), form=_token("form")),
        _row(
            "MedicationAdministration",
            "MAD",
            "subject",
            "effective-time",
            identifier=_IDENTIFIER,
            status=_token("status", system=_THO + "medication-admin-status"),
            code=_token("medicationCodeableConcept"),
            medication=_reference("medicationReference"),
            effective_time=_period("effectiveDateTime", "effectivePeriod"),
            context=_reference("context"),
            performer=_reference("performer.actor"),
            request=_reference("request"),
        ),
        _row(
            "MedicationDispense",
            "MDI",
            "subject",
            "whenhandedover",
            identifier=_IDENTIFIER,
            status=_token("status", system=_THO + "medicationdispense-status"),
            code=_token("medicationCodeableConcept"),
            medication=_reference("medicationReference"),
            whenhandedover=_date("whenHandedOver"),
            whenprepared=_date("whenPrepared"),
            prescription=_reference("authorizingPrescription"),
            performer=_reference("performer.actor"),
            receiver=_reference("receiver"),
            context=_reference("context"),
        ),
        _row(
            "MedicationRequest",
            "MRQ",
            "subject",
            "authoredon",
            identifier=_IDENTIFIER,
            group_identifier=_token("groupIdentifier"),
            status=_token("status", system=_HL7 + "CodeSystem/medicationrequest-status"),
            intent=_token("intent", system=_HL7 + "CodeSystem/medicationrequest-intent"),
            priority=_token("priority", system=_HL7 + "request-priority"),
            category=_token("category"),
            code=_token("medicationCodeableConcept"),
            medication=_reference("medicationReference"),
            authoredon=_date("authoredOn"),
            date=_period("dosageInstruction.timing"),
            encounter=_reference("encounter"),
            requester=_reference("requester"),
            intended_dispenser=_reference("dispenseRequest.performer"),
            intended_performer=_reference("performer"),
        ),
        _row(
            "MedicationStatement",
            "MST",
            "subject",
            "effective",
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "CodeSystem/medication-statement-status"),
            category=_token("category"),
            code=_token("medicationCodeableConcept"),
            medication=_reference("medicationReference"),
            effective=_period("effectiveDateTime", "effectivePeriod"),
            context=_reference("context"),
            source=_reference("informationSource"),
            part_of=_reference("partOf"),
        ),
        _row(
            "Observation",
            "OBS",
            "subject",
            "date",
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "observation-status"),
            category=_token("category"),
            code=_token("code"),
            component_code=_token("component.code"),
            value_concept=_token("valueCodeableConcept"),
            data_absent_reason=_token("dataAbsentReason"),
            date=_period("effectiveDateTime", "effectivePeriod", "effectiveInstant", "effectiveTiming"),
            encounter=_reference("encounter"),
            performer=_reference("performer"),
            based_on=_reference("basedOn"),
            part_of=_reference("partOf"),
            specimen=_reference("specimen"),
            device=_reference("device"),
            focus=_reference("focus"),
        ),
        _row(
            "Organization",
            "ORG",
            None,
            None,
            identifier=_IDENTIFIER,
            active=_token("active"),
            name=_string("name", "alias"),
            type=_token("type"),
            address_city=_string("address.city"),
            address_postalcode=_string("address.postalCode"),
            partof=_reference("partOf"),
        ),
        _row(
            "Practitioner",
            "PRA",
            None,
            None,
            identifier=_IDENTIFIER,
            active=_token("active"),
            name=_string("name.family", "name.given", "name.text"),
            family=_string("name.family"),
            given=_string("name.given"),
        ),
        _row(
            "PractitionerRole",
            "PRR",
            None,
            None,
            identifier=_IDENTIFIER,
            active=_token("active"),
            role=_token("code"),
            specialty=_token("specialty"),
            practitioner=_reference("practitioner"),
            organization=_reference("organization"),
            location=_reference("location"),
            service=_reference("healthcareService"),
        ),
        _row(
            "Procedure",
            "PRO",
            "subject",
            "date",
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "event-status"),
            category=_token("category"),
            code=_token("code"),
            date=_period("performedDateTime", "performedPeriod"),
            encounter=_reference("encounter"),
            performer=_reference("performer.actor"),
            location=_reference("location"),
            based_on=_reference("basedOn"),
            part_of=_reference("partOf"),
            reason_code=_token("reasonCode"),
        ),
        _row(
            "Provenance",
            "PRV",
            "target",
            "recorded",
            target=_reference("target"),
            recorded=_instant("recorded"),
            when=_period("occurredDateTime", "occurredPeriod"),
            agent=_reference("agent.who"),
            entity=_reference("entity.what"),
        ),
        _row(
            "ServiceRequest",
            "SRQ",
            "subject",
            "authored",
            identifier=_IDENTIFIER,
            status=_token("status", system=_HL7 + "request-status"),
            intent=_token("intent", system=_HL7 + "request-intent"),
            priority=_token("priority", system=_HL7 + "request-priority"),
            category=_token("category"),
            code=_token("code"),
            authored=_date("authoredOn"),
            occurrence=_period("occurrenceDateTime", "occurrencePeriod", "occurrenceTiming"),
            encounter=_reference("encounter"),
            requester=_reference("requester"),
            performer=_reference("performer"),
            requisition=_token("requisition"),
            based_on=_reference("basedOn"),
            specimen=_reference("specimen"),
        ),
        _row(
            "Specimen",
            "SPE",
            "subject",
            "collected",
            identifier=_IDENTIFIER,
            accession=_token("accessionIdentifier"),
            status=_token("status", system=_HL7 + "specimen-status"),
            type=_token("type"),
            bodysite=_token("collection.bodySite"),
            collected=_period("collection.collectedDateTime", "collection.collectedPeriod"),
            collector=_reference("collection.collector"),
            parent=_reference("parent"),
        ),
        _row(
            "Task",
            "TSK",
            "for",
            "authored-on",
            identifier=_IDENTIFIER,
            group_identifier=_token("groupIdentifier"),
            status=_token("status", system=_HL7 + "task-status"),
            intent=_token("intent", system=_HL7 + "request-intent"),
            priority=_token("priority", system=_HL7 + "request-priority"),
            business_status=_token("businessStatus"),
            code=_token("code"),
            authored_on=_date("authoredOn"),
            modified=_date("lastModified"),
            period=_period("executionPeriod"),
            encounter=_reference("encounter"),
            focus=_reference("focus"),
            requester=_reference("requester"),
            owner=_reference("owner"),
            performer=_token("performerType"),
            based_on=_reference("basedOn"),
            part_of=_reference("partOf"),
        ),
    )
}


def record_type(name: str) -> RecordType:
    """The row of a type; raises Unprocessable (`not-supported`) for a type that is not stored here."""
    try:
        return RECORD_TYPES[name]
    except KeyError:
        raise Unprocessable("resources of this type are not stored here", code="not-supported") from None


def subject_of(resource: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The Reference to the patient whose record a resource belongs to: among several the first that names a
    Patient.

    None for a type of no patient's record, and where the element is absent.
    """
    row = record_type(resource["resourceType"])
    if row.compartment is None:
        return None
    found = [each for each in evaluate(resource, row.compartment) if isinstance(each, Mapping)]
    return next((each for each in found if _names_patient(each)), found[0] if found else None)


def with_subject(resource: Mapping[str, Any], patient: str) -> dict[str, Any]:
    """A copy in which what `subject_of` gives refers to `Patient/<patient>`, wherever it stands."""
    named = subject_of(resource)
    if named is None:
        return dict(resource)

    def copied(value: Any) -> Any:
        if value is named:
            return {**named, "reference": f"Patient/{patient}"}
        if isinstance(value, Mapping):
            return {name: copied(child) for name, child in value.items()}
        return [copied(child) for child in value] if isinstance(value, list) else value

    return {name: copied(value) for name, value in resource.items()}


def _names_patient(reference: Mapping[str, Any]) -> bool:
    target = str(reference.get("reference", ""))
    return reference.get("type") == "Patient" or re.search(r"(^|/)Patient[/?]", target) is not None


def entry_of(resource: Mapping[str, Any]) -> Entry:
    """The search values of a valid resource as it will be stored, `id` and `meta.lastUpdated` included.

    Raises Unprocessable (`too-long`) when they are too many for one entry.
    """
    row = record_type(resource["resourceType"])
    values: dict[str, tuple[str, ...]] = {}
    for name, parameter in row.search.items():
        nodes = (node for path in parameter.paths for node in evaluate(resource, path))
        found = tuple(dict.fromkeys(value for node in nodes for value in _READ[parameter.kind](node)))
        if found:
            values[name] = found
    if sum(len(value) for found in values.values() for value in found) > MAX_ENTRY_CHARACTERS:
        raise Unprocessable(
            "the elements that can be searched are too long together", code="too-long", expression=row.name
        )
    sort_at = values[row.sort][0][:12] if row.sort in values else BEGINNING[:12]
    return Entry(values=values, sort_at=sort_at)


# --- paths --------------------------------------------------------------------------------------------------

_STEP = re.compile(r"extension\('(?P<url>[^']+)'\)|(?P<resolve>resolve\(\))|(?P<name>\w+)")


@cache
def _steps(path: str) -> tuple[re.Match[str], ...]:
    return tuple(_STEP.finditer(path))


def evaluate(resource: Mapping[str, Any], path: str) -> list[Any]:
    """The elements at a path, lists flattened, in document order."""
    nodes: list[Any] = [resource]
    for step in _steps(path):
        if step["url"]:
            nodes = [node for node in _children(nodes, "extension") if node.get("url") == step["url"]]
        elif step["resolve"]:
            nodes = [found for node in nodes if (found := _contained(resource, node)) is not None]
        else:
            nodes = list(_children(nodes, step["name"]))
    return nodes


def _children(nodes: Iterable[Any], name: str) -> Iterator[Any]:
    for node in nodes:
        child = node.get(name) if isinstance(node, Mapping) else None
        yield from child if isinstance(child, list) else () if child is None else (child,)


def _contained(resource: Mapping[str, Any], reference: Any) -> Any | None:
    target = reference.get("reference", "") if isinstance(reference, Mapping) else ""
    if not target.startswith("#"):
        return None
    return next((each for each in resource.get("contained", ()) if each.get("id") == target[1:]), None)


# --- values -------------------------------------------------------------------------------------------------


def _tokens(node: Any) -> Iterator[str]:
    if isinstance(node, bool):
        yield f"|{str(node).lower()}"
    elif isinstance(node, str):
        yield f"|{node}"
    elif isinstance(node, Mapping):
        if "coding" in node:
            for coding in node["coding"]:
                yield from _tokens(coding)
        else:
            code = node.get("code", node.get("value"))  # of a Coding, of an Identifier
            if isinstance(code, str):
                yield f"{node.get('system', '')}|{code}"


def _references(node: Any) -> Iterator[str]:
    if not isinstance(node, Mapping):
        return
    target = node.get("reference", "")
    if target and not target.startswith("#"):
        yield target.partition("/_history/")[0]
    if "identifier" in node:
        yield from (f"|{token}" for token in _tokens(node["identifier"]))


def _dates(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield "/".join(date_range(node))
    elif isinstance(node, Mapping):
        lo, hi = _limits(node)
        if (lo, hi) != (BEGINNING, END):
            yield f"{lo}/{hi}"


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


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node


_READ = {"token": _tokens, "reference": _references, "date": _dates, "string": _texts}
