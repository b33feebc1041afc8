"""The rules that R4 adds to its types: constraints of severity `error`, each under R4's own id.

Taken from the StructureDefinitions of R4 4.0.1 for the types that a record, a directory, a document or a
request to change them is made of. A rule is asked of a value whose form is valid, and answers whether it holds;
where the FHIRPath of R4 leaves open what to make of a value, it holds. Rules that look at contained resources
(dom-2 to dom-5, ref-1) and at XHTML (txt-1, txt-2) are part of the walk in `validation.py`; `ele-1` is its JSON
form: nothing is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from passerelle.fhir.dates import date_range

Value = Mapping[str, Any]
Rule = Callable[[Value], bool]

_UCUM = "http://unitsofmeasure.org"
_ALLERGY_STATUS = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"
_CONDITION_CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
_CONDITION_STATUS = "http://terminology.hl7.org/CodeSystem/condition-ver-status"


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """`text` says what is broken if the rule does not hold."""

    key: str
    text: str
    holds: Rule


# --- words to say rules with --------------------------------------------------------------------------------


def _has(value: Value, name: str) -> bool:
    """Whether an element is there, with a value or with extensions only; of any type for `value[x]`."""
    if name.endswith("[x]"):
        stem = name[:-3]
        names = (each.lstrip("_") for each in value)
        return any(each.startswith(stem) and each[len(stem) : len(stem) + 1].isupper() for each in names)
    return name in value or f"_{name}" in value


def _implies(name: str, other: str) -> Rule:
    return lambda value: not _has(value, name) or _has(value, other)


def _not_both(name: str, other: str) -> Rule:
    return lambda value: not (_has(value, name) and _has(value, other))


def _one_of(*names: str) -> Rule:
    return lambda value: any(_has(value, name) for name in names)


def _just_one_of(*names: str) -> Rule:
    return lambda value: sum(_has(value, name) for name in names) == 1


def _not_negative(name: str) -> Rule:
    return lambda value: value.get(name, 0) >= 0


def _all(name: str, holds: Rule) -> Rule:
    """Whether the rule holds for each element of a list."""
    return lambda value: all(holds(each) for each in value.get(name, ()))


def _is_coded(concept: Value, system: str, *codes: str) -> bool:
    codings: Iterable[Value] = concept.get("coding", ())
    return any(each.get("system") == system and each.get("code") in codes for each in codings)


def _in_order(first: Any, last: Any) -> bool:
    """Whether a date can be before or at another; open ends are in order."""
    return first is None or last is None or date_range(first)[0] <= date_range(last)[1]


def _measured(system: str = _UCUM) -> Rule:
    """A value needs a code, and a system is that of the units."""
    return lambda value: (_has(value, "code") or not _has(value, "value")) and value.get("system", system) == system


# --- rules that need more than a line -----------------------------------------------------------------------


def _age_is_positive(value: Value) -> bool:
    return _measured()(value) and value.get("value", 1) > 0


def _count_is_whole(value: Value) -> bool:
    number = value.get("value", 0)
    return _measured()(value) and value.get("code", "1") == "1" and "." not in str(number)


def _duration_is_measured(value: Value) -> bool:
    return not _has(value, "code") or (value.get("system") == _UCUM and _has(value, "value"))


def _range_is_upward(value: Value) -> bool:
    low, high = value.get("low", {}), value.get("high", {})
    units = [(each.get("system"), each.get("code", each.get("unit"))) for each in (low, high)]
    if units[0] != units[1] or "value" not in low or "value" not in high:
        return True  # not comparable without conversion
    return bool(low["value"] <= high["value"])


def _ratio_is_whole(value: Value) -> bool:
    has_numerator = _has(value, "numerator")
    return has_numerator == _has(value, "denominator") and (has_numerator or _has(value, "extension"))


def _offset_is_from_an_event(value: Value) -> bool:
    return not _has(value, "offset") or (
        _has(value, "when") and not {"C", "CM", "CD", "CV"}.intersection(value.get("when", ()))
    )


def _allergy_is_withdrawn(value: Value) -> bool:
    return _is_coded(value.get("verificationStatus", {}), _ALLERGY_STATUS, "entered-in-error")


def _abated_is_not_active(value: Value) -> bool:
    return not _has(value, "abatement[x]") or _is_coded(
        value.get("clinicalStatus", {}), _CONDITION_CLINICAL, "inactive", "resolved", "remission"
    )


def _withdrawn_condition_has_no_status(value: Value) -> bool:
    is_withdrawn = _is_coded(value.get("verificationStatus", {}), _CONDITION_STATUS, "entered-in-error")
    return not (is_withdrawn and _has(value, "clinicalStatus"))


def _value_is_said_once(value: Value) -> bool:
    if not _has(value, "value[x]"):
        return True
    codings = value.get("code", {}).get("coding", ())
    parts = (part.get("code", {}).get("coding", ()) for part in value.get("component", ()))
    return not any(coding in codings for part in parts for coding in part)


def _missing_times_are_planned(value: Value) -> bool:
    return (_has(value, "start") and _has(value, "end")) or value.get("status") in ("proposed", "cancelled", "waitlist")


def _cancelled_for_a_reason(value: Value) -> bool:
    # R4 writes `no-show` here and `noshow` in the value set.
    return not _has(value, "cancelationReason") or value.get("status") in ("noshow", "cancelled")


def _is_percentage(value: Value) -> bool:
    ends = [value["probabilityRange"][end] for end in ("low", "high") if end in value.get("probabilityRange", {})]
    return all(each.get("code") == "%" and each.get("system") == _UCUM for each in ends)


def _entry_is_of(*types: str) -> Callable[[str], Callable[[Value], bool]]:
    """Whether every entry has the element if, and only if, the Bundle is of one of these types."""
    return lambda name: (
        lambda bundle: all(_has(entry, name) == (bundle.get("type") in types) for entry in bundle.get("entry", ()))
    )


def _full_urls_are_distinct(bundle: Value) -> bool:
    if bundle.get("type") == "history":
        return True
    entries = [each for each in bundle.get("entry", ()) if "fullUrl" in each]
    keys = [f"{each['fullUrl']}{each.get('resource', {}).get('meta', {}).get('versionId', '')}" for each in entries]
    return len(keys) == len(set(keys))


def _first_is(bundle_type: str, resource_type: str) -> Rule:
    def holds(bundle: Value) -> bool:
        first: Value = next(iter(bundle.get("entry", ())), {})
        return bundle.get("type") != bundle_type or first.get("resource", {}).get("resourceType") == resource_type

    return holds


def _document_is_identified(bundle: Value) -> bool:
    identifier = bundle.get("identifier", {})
    return bundle.get("type") != "document" or (_has(identifier, "system") and _has(identifier, "value"))


# --- the rules ----------------------------------------------------------------------------------------------


def _rules(*rows: tuple[str, str, Rule]) -> tuple[Invariant, ...]:
    return tuple(Invariant(key=key, text=text, holds=holds) for key, text, holds in rows)


_QUANTITY = ("qty-3", "a code of a unit needs its system", _implies("code", "system"))
_RESPONSES = _entry_is_of("batch-response", "transaction-response", "history")

INVARIANTS: Mapping[str, tuple[Invariant, ...]] = {
    # datatypes
    "Age": _rules(_QUANTITY, ("age-1", "an age is positive, in a unit of UCUM", _age_is_positive)),
    "Attachment": _rules(("att-1", "data needs a content type", _implies("data", "contentType"))),
    "ContactPoint": _rules(("cpt-2", "a value needs a system", _implies("value", "system"))),
    "Count": _rules(_QUANTITY, ("cnt-3", "a count is whole, with the code 1", _count_is_whole)),
    "Distance": _rules(_QUANTITY, ("dis-1", "a distance is in a unit of UCUM", _measured())),
    "Duration": _rules(_QUANTITY, ("drt-1", "a duration is in a unit of UCUM", _duration_is_measured)),
    "Expression": _rules(("exp-1", "has neither an expression nor a reference", _one_of("expression", "reference"))),
    "Extension": _rules(("ext-1", "has a value or extensions, not both", _just_one_of("value[x]", "extension"))),
    "Period": _rules(("per-1", "ends before it starts", lambda value: _in_order(value.get("start"), value.get("end")))),
    "Quantity": _rules(_QUANTITY),
    "Range": _rules(("rng-2", "the low end is above the high one", _range_is_upward)),
    "Ratio": _rules(("rat-1", "has a numerator and a denominator, or extensions only", _ratio_is_whole)),
    "SimpleQuantity": _rules(("sqty-1", "a comparator is not used here", lambda value: not _has(value, "comparator"))),
    "TimingRepeat": _rules(
        ("tim-1", "a duration needs a unit", _implies("duration", "durationUnit")),
        ("tim-2", "a period needs a unit", _implies("period", "periodUnit")),
        ("tim-4", "a duration is not negative", _not_negative("duration")),
        ("tim-5", "a period is not negative", _not_negative("period")),
        ("tim-6", "a longest period needs a period", _implies("periodMax", "period")),
        ("tim-7", "a longest duration needs a duration", _implies("durationMax", "duration")),
        ("tim-8", "a highest count needs a count", _implies("countMax", "count")),
        ("tim-9", "an offset needs an event, not a meal in general", _offset_is_from_an_event),
        ("tim-10", "has a time of day or an event, not both", _not_both("timeOfDay", "when")),
    ),
    # resources
    "AllergyIntolerance": _rules(
        (
            "ait-1",
            "has no clinical status",
            lambda value: _allergy_is_withdrawn(value) or _has(value, "clinicalStatus"),
        ),
        (
            "ait-2",
            "what was entered in error has no clinical status",
            lambda value: not (_allergy_is_withdrawn(value) and _has(value, "clinicalStatus")),
        ),
    ),
    "Appointment": _rules(
        ("app-2", "has a start and an end, or neither", lambda value: _has(value, "start") == _has(value, "end")),
        ("app-3", "only what is proposed, waited for or cancelled has no times", _missing_times_are_planned),
        ("app-4", "a reason of cancellation is of what was cancelled or missed", _cancelled_for_a_reason),
    ),
    "AppointmentParticipant": _rules(("app-1", "has neither a type nor an actor", _one_of("type", "actor"))),
    "AppointmentResponse": _rules(
        ("apr-1", "has neither a type of participant nor an actor", _one_of("participantType", "actor"))
    ),
    "AuditEventEntity": _rules(("sev-1", "has a name or a query, not both", _not_both("name", "query"))),
    "Bundle": _rules(
        (
            "bdl-1",
            "only a search or a history has a total",
            lambda value: not _has(value, "total") or value.get("type") in ("searchset", "history"),
        ),
        (
            "bdl-2",
            "only an entry of a search has `search`",
            lambda value: value.get("type") == "searchset" or _all("entry", lambda each: "search" not in each)(value),
        ),
        (
            "bdl-3",
            "entries of a batch, a transaction or a history have a request, others have none",
            _entry_is_of("batch", "transaction", "history")("request"),
        ),
        (
            "bdl-4",
            "entries of a history or of an answer to a batch or transaction have a response, others have none",
            _RESPONSES("response"),
        ),
        ("bdl-7", "two entries have the same fullUrl", _full_urls_are_distinct),
        ("bdl-9", "a document has an identifier with a system and a value", _document_is_identified),
        ("bdl-10", "a document has a date", lambda value: value.get("type") != "document" or "timestamp" in value),
        ("bdl-11", "a document starts with a Composition", _first_is("document", "Composition")),
        ("bdl-12", "a message starts with a MessageHeader", _first_is("message", "MessageHeader")),
    ),
    "BundleEntry": _rules(
        ("bdl-5", "has no resource, request or response", _one_of("resource", "request", "response")),
        ("bdl-8", "a fullUrl names no version", lambda value: "/_history/" not in value.get("fullUrl", "")),
    ),
    "CarePlanActivity": _rules(("cpl-3", "has a reference or a detail, not both", _not_both("detail", "reference"))),
    "CompositionSection": _rules(
        ("cmp-1", "has no text, entry or section", _one_of("text", "entry", "section")),
        ("cmp-2", "only what is empty has a reason to be so", _not_both("emptyReason", "entry")),
    ),
    "Condition": _rules(
        ("con-4", "what is abated is inactive, resolved or in remission", _abated_is_not_active),
        ("con-5", "what was entered in error has no clinical status", _withdrawn_condition_has_no_status),
    ),
    "ConditionEvidence": _rules(("con-2", "has neither a code nor a detail", _one_of("code", "detail"))),
    "ConditionStage": _rules(("con-1", "has neither a summary nor an assessment", _one_of("summary", "assessment"))),
    "Consent": _rules(("ppc-1", "has neither a policy nor a rule", _one_of("policy", "policyRule"))),
    "FamilyMemberHistory": _rules(
        ("fhs-1", "has an age or a birth, not both", _not_both("age[x]", "born[x]")),
        ("fhs-2", "only an age is estimated", _implies("estimatedAge", "age[x]")),
    ),
    "GoalTarget": _rules(("gol-1", "a detail needs a measure", _implies("detail[x]", "measure"))),
    "Group": _rules(
        (
            "grp-1",
            "only an actual group has members",
            lambda value: "member" not in value or value.get("actual") is True,
        )
    ),
    "ImmunizationEducation": _rules(
        ("imm-1", "has neither a type of document nor a reference", _one_of("documentType", "reference"))
    ),
    "ImmunizationRecommendationRecommendation": _rules(
        ("imr-1", "has neither a vaccine nor a disease", _one_of("vaccineCode", "targetDisease"))
    ),
    "Linkage": _rules(("lnk-1", "links fewer than two items", lambda value: len(value.get("item", ())) > 1)),
    "List": _rules(
        ("lst-1", "only what is empty has a reason to be so", _not_both("emptyReason", "entry")),
        (
            "lst-2",
            "only a list of changes has deleted entries",
            lambda value: (
                value.get("mode") == "changes" or _all("entry", lambda each: not _has(each, "deleted"))(value)
            ),
        ),
        (
            "lst-3",
            "only a working list has dated entries",
            lambda value: value.get("mode") == "working" or _all("entry", lambda each: not _has(each, "date"))(value),
        ),
    ),
    "MedicationAdministrationDosage": _rules(("mad-1", "has neither a dose nor a rate", _one_of("dose", "rate[x]"))),
    "MedicationDispense": _rules(
        (
            "mdd-1",
            "is handed over before it is prepared",
            lambda value: _in_order(value.get("whenPrepared"), value.get("whenHandedOver")),
        )
    ),
    "Observation": _rules(
        ("obs-6", "has a value or a reason for its absence, not both", _not_both("dataAbsentReason", "value[x]")),
        ("obs-7", "the value is that of a component with the same code", _value_is_said_once),
    ),
    "ObservationReferenceRange": _rules(("obs-3", "has no low, high or text", _one_of("low", "high", "text"))),
    "Organization": _rules(
        ("org-1", "has neither a name nor an identifier", _one_of("name", "identifier")),
        ("org-2", "has no home address", _all("address", lambda each: each.get("use") != "home")),
        ("org-3", "has no telecom at home", _all("telecom", lambda each: each.get("use") != "home")),
    ),
    "ParametersParameter": _rules(
        ("inv-1", "has one of a value, a resource and parts", _just_one_of("value[x]", "resource", "part"))
    ),
    "PatientContact": _rules(
        (
            "pat-1",
            "has no name, telecom, address or organization",
            _one_of("name", "telecom", "address", "organization"),
        )
    ),
    "QuestionnaireResponseItem": _rules(
        ("qrs-1", "has items beneath it or beneath its answers, not both", _not_both("answer", "item"))
    ),
    "RequestGroupAction": _rules(("rqg-1", "has a resource or actions, not both", _just_one_of("resource", "action"))),
    "RiskAssessmentPrediction": _rules(
        ("ras-1", "the ends of a probability are percentages", _is_percentage),
        ("ras-2", "a probability is above 100", lambda value: value.get("probabilityDecimal", 0) <= 100),
    ),
    "ServiceRequest": _rules(("prr-1", "a detail of an order needs its code", _implies("orderDetail", "code"))),
}
