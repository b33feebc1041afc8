"""Measurements of connected devices as FHIR: a Bundle of Observations read, checked, and answered (R4 Observation).

    Bundle      collection, or batch of `POST Observation`; at most 100 entries, of one patient
    device      Observation.device: a contained Device with an identifier, a UDI or a serial number; a logical
                reference; or a Device of the record
    code        one of `monitoring/data/measures.json`; quantities in UCUM, curves as SampledData

An Observation that cannot be taken is refused with the path of what is wrong with it, and refuses no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from http import HTTPStatus
from typing import Any, Final, TypeGuard

from passerelle.consents.visibility import restricting_labels
from passerelle.errors import Invalid, PasserelleError, TooLarge, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.bundles import EntryResponse
from passerelle.fhir.dates import instant
from passerelle.fhir.outcome import outcome
from passerelle.fhir.resource import ResourceDraft, read_subject
from passerelle.fhir.validation import check_members, validate
from passerelle.monitoring.measures import Observed, measure, minutes, observations
from passerelle.monitoring.measuring import Measurement, Outcome
from passerelle.monitoring.model import Labels, Reading
from passerelle.records.model import Subject

MAX_ENTRIES: Final = 100
MAX_BYTES: Final = 1024 * 1024
_UCUM: Final = "http://unitsofmeasure.org"

Value = Mapping[str, Any]


def read_submission(
    bundle: Any, base_url: str, now: datetime
) -> tuple[Subject, str, list[Measurement | PasserelleError]]:
    """Whose measurements they are, the element that says so, and each of them, or what is wrong with it.

    Raises Invalid for what is no such Bundle, TooLarge for too many entries, Unprocessable for several patients.
    """
    resources = _resources(bundle)
    entries: list[Measurement | PasserelleError] = []
    subjects: dict[Subject, str] = {}
    for number, resource in enumerate(resources):
        place = f"Bundle.entry[{number}].resource"
        try:
            entries.append(_measurement(resource, base_url, place, now))
        except PasserelleError as refusal:
            entries.append(refusal)
        subject = resource.get("subject") if isinstance(resource, Mapping) else None
        if _is_reference(subject):
            subjects.setdefault(read_subject(subject, base_url, f"{place}.subject"), f"{place}.subject")
    if len(subjects) != 1:
        code, text = ("required", "a subject is required") if not subjects else ("invariant", "one patient each time")
        raise Unprocessable(text, code=code, expression="Bundle.entry")
    ((subject, place),) = subjects.items()
    return subject, place, entries


def _is_reference(subject: Any) -> TypeGuard[Value]:
    """As far as it is read: that of an entry which is refused tells whose it is, too."""
    if not isinstance(subject, Mapping) or not isinstance(subject.get("reference", ""), str):
        return False
    identifier = subject.get("identifier", {})
    return isinstance(identifier, Mapping) and all(isinstance(each, str) for each in identifier.values())


def _resources(bundle: Any) -> list[Any]:
    if not isinstance(bundle, Mapping) or bundle.get("resourceType") != "Bundle":
        raise Invalid("a Bundle is expected", code="structure", expression="Bundle")
    if bundle.get("type") not in ("collection", "batch"):
        raise Invalid("a collection or a batch is expected", code="value", expression="Bundle.type")
    faults = check_members(bundle, "Bundle", "Bundle")
    listed = bundle.get("entry")
    if faults:
        raise Invalid(issues=faults)
    if not isinstance(listed, list) or not listed:
        raise Invalid("measurements are required", code="required", expression="Bundle.entry")
    if len(listed) > MAX_ENTRIES:
        raise TooLarge(f"{MAX_ENTRIES} measurements may come at once", expression="Bundle.entry")
    found = []
    for number, entry in enumerate(listed):
        if not isinstance(entry, Mapping) or "resource" not in entry:
            raise Invalid("a resource is required", code="required", expression=f"Bundle.entry[{number}]")
        asked = entry.get("request")
        if asked is not None and (not isinstance(asked, Mapping) or _asked(asked) != ("POST", "Observation")):
            place = f"Bundle.entry[{number}].request"
            raise Invalid("only `POST Observation` is understood", code="not-supported", expression=place)
        found.append(entry["resource"])
    return found


def _asked(request: Value) -> tuple[Any, Any]:
    return request.get("method"), request.get("url")


def _measurement(resource: Any, base_url: str, place: str, now: datetime) -> Measurement:
    validate(resource, expected_type="Observation", path=place)
    if resource["status"] != "final":
        raise _refused("what a device sends is final", f"{place}.status")
    if "subject" not in resource:
        raise Unprocessable("a subject is required", code="required", expression=f"{place}.subject")
    code, observed = _observed(resource, place)
    at = _at(resource, place, now)
    labels = labels_of(resource)
    readings = tuple(replace(each, labels=labels) for each in _readings(resource, observed, at, place))
    return Measurement(
        draft=ResourceDraft(resource, base_url),
        device=_device(resource, place),
        code=code,
        at=at,
        content=content_of(resource),
        readings=readings,
    )


def _observed(resource: Value, place: str) -> tuple[str, Observed]:
    known = observations()
    for coding in resource["code"].get("coding", ()):
        code = f"{coding.get('system', '')}|{coding.get('code', '')}"
        if code in known:
            return code, known[code]
    raise Unprocessable("no device that is known measures this", code="not-supported", expression=f"{place}.code")


def _at(resource: Value, place: str, now: datetime | None) -> datetime:
    """When it was measured; with `now`, not after that."""
    text = resource.get("effectiveDateTime") or resource.get("effectiveInstant")
    start = resource.get("effectivePeriod", {}).get("start")
    name = "effectivePeriod.start" if text is None and start is not None else "effectiveDateTime"
    try:
        at = datetime.fromisoformat(str(text or start).replace("Z", "+00:00"))
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise Unprocessable("an instant is required", code="required", expression=f"{place}.{name}")
    if now is not None and at > now + minutes("aheadMinutes"):
        raise _refused("it is from the future", f"{place}.{name}")
    if not _OLDEST_YEAR <= at.year <= _LAST_YEAR:
        raise _refused("it is of no time that devices measure in", f"{place}.{name}")
    return at.astimezone(UTC)


_OLDEST_YEAR: Final = 2000
_DIGITS: Final = 100  # before the decimal point, or after it
_LAST_YEAR: Final = 2999


def _device(resource: Value, place: str) -> str:
    """What tells a device from every other one."""
    reference = resource.get("device", {})
    literal = str(reference.get("reference", ""))
    if literal.startswith("#"):
        device: Value = next((each for each in resource.get("contained", ()) if f"#{each.get('id')}" == literal), {})
        for identifier in device.get("identifier", ()):
            if identifier.get("value"):
                return f"{identifier.get('system', '')}|{identifier['value']}"
        for carrier in device.get("udiCarrier", ()):
            if carrier.get("deviceIdentifier"):
                return f"udi|{carrier['deviceIdentifier']}|{device.get('serialNumber', '')}"
        if device.get("serialNumber"):
            return f"{device.get('manufacturer', '')}|{device.get('modelNumber', '')}|{device['serialNumber']}"
    elif literal:
        return "Device/" + literal.rpartition("Device/")[2]
    identifier = reference.get("identifier", {})
    if identifier.get("value"):
        return f"{identifier.get('system', '')}|{identifier['value']}"
    raise Unprocessable(
        "a device that can be told from others is required", code="required", expression=f"{place}.device"
    )


def _readings(resource: Value, observed: Observed, at: datetime, place: str) -> Iterator[Reading]:
    """The values, converted; raises Unprocessable for those that nobody can have, and for none."""
    if observed.is_waveform:
        curves = [resource, *resource.get("component", ())]
        if not any("valueSampledData" in each for each in curves):
            raise Unprocessable("a curve is required", code="required", expression=f"{place}.valueSampledData")
    elif observed.value is not None:
        yield _reading(resource, observed.value, at, place)
    else:
        found = 0
        for number, component in enumerate(resource.get("component", ())):
            codes = (f"{each.get('system', '')}|{each.get('code', '')}" for each in component["code"].get("coding", ()))
            name = next((observed.components[each] for each in codes if each in observed.components), None)
            if name is not None:
                found += 1
                yield _reading(component, name, at, f"{place}.component[{number}]")
        if not found:
            raise Unprocessable("a component is required", code="required", expression=f"{place}.component")


def _reading(element: Value, name: str, at: datetime, place: str) -> Reading:
    quantity = element.get("valueQuantity")
    place = f"{place}.valueQuantity"
    if not isinstance(quantity, Mapping) or "value" not in quantity:
        raise Unprocessable("a quantity is required", code="required", expression=place)
    if "comparator" in quantity:
        raise _refused("a device measures a value, and no limit", f"{place}.comparator")
    if _number(quantity["value"]) is None:
        raise _refused("nobody has such a value", f"{place}.value")
    value = in_measure(quantity, name)
    if value is None:
        raise Unprocessable("a unit of UCUM for this measure is required", code="value", expression=f"{place}.code")
    if not measure(name).is_plausible(value):
        raise _refused("nobody has such a value", f"{place}.value")
    return Reading(measure=name, value=value, at=at, reference="")


def in_measure(quantity: Value, name: str) -> Decimal | None:
    """A quantity in the unit of a measure; None for a unit that is none of it, and for a number of no measure."""
    number = _number(quantity.get("value"))
    if quantity.get("system") != _UCUM or number is None:
        return None
    return measure(name).converted(number, str(quantity.get("code", "")))


def _number(value: Any) -> Decimal | None:
    """None beyond what can be computed with: JSON has numbers of any exponent."""
    number = Decimal(str(value)) if value is not None else None
    return number if number is not None and abs(number.adjusted()) <= _DIGITS else None


def _refused(text: str, expression: str) -> Unprocessable:
    return Unprocessable(text, code="value", expression=expression)


def readings_of(resource: Value, reference: str) -> list[Reading]:
    """The values of a stored observation; none of one that does not stand, or is of nothing that is known."""
    if resource.get("status") not in ("final", "amended", "corrected"):
        return []
    try:
        _, observed = _observed(resource, "")
        at = _at(resource, "", None)
        found = [*_readings(resource, observed, at, "")]
    except PasserelleError:  # whoever wrote it did not mean it for this
        return []
    labels = labels_of(resource)
    return [replace(each, reference=reference, labels=labels) for each in found]


def labels_of(resource: Value) -> Labels:
    """What hides it from somebody."""
    said = (
        (str(each.get("system", "")), str(each.get("code", "")))
        for each in resource.get("meta", {}).get("security", ())
    )
    return tuple(each for each in said if restricting_labels([each]))


def content_of(resource: Value) -> str:
    """What an observation says: its values, in the units they came in, and the codes beside them."""
    values = {name: value for name, value in resource.items() if name.startswith("value")}
    parts = [
        [
            sorted(f"{each.get('system', '')}|{each.get('code', '')}" for each in component["code"].get("coding", ())),
            {name: value for name, value in component.items() if name.startswith("value")},
        ]
        for component in resource.get("component", ())
    ]
    return _plain([values, sorted(parts, key=_plain)])


def _plain(value: Any) -> str:
    """The same text for the same value, however its members are ordered and its numbers are written."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_plain(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_plain, value)) + "]"
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return str(_ANY_NUMBER.normalize(Decimal(str(value))))
    return str(fhir_json.dumps(value).decode())


_ANY_NUMBER: Final = Context(prec=_DIGITS, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])


class FhirContents:
    """`monitoring.measuring.Contents`."""

    def content_of(self, body: bytes) -> str:
        return content_of(fhir_json.loads(body))


def answers(outcomes: Sequence[Outcome]) -> list[EntryResponse]:
    return [_answer(each) for each in outcomes]


def _answer(each: Outcome) -> EntryResponse:
    if each.issues:
        status = HTTPStatus(each.status)
        return EntryResponse(status=f"{status.value} {status.phrase}", outcome=outcome(*each.issues))
    return EntryResponse(
        status="201 Created" if each.is_new else "200 OK",
        location=f"{each.reference}/_history/{each.version}",
        etag=f'W/"{each.version}"',
        last_modified=instant(each.at) if each.at else None,
    )
