"""What a person takes and is, as the clinical checks need it: read from the record, and from what is prescribed.

E-prescription contract, section 17. Sources are the structured resources of all source records of the person: orders in
force, supplies that still last, statements, allergies, conditions and a few observations; documents are none. Codes
that rules ask for are data (`fhir/data/clinical_facts.json`). The index says which resources count; only their bodies
are read. What the caller may not see is read as well, and told apart (docs/adr/hidden-treatments-count.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any

from passerelle.access import Caller
from passerelle.consents.model import RecordStatus
from passerelle.errors import PasserelleError
from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import date_range
from passerelle.fhir.index import ranges_of, record_type
from passerelle.fhir.prescriptions.calls import Arguments, BareCall, target_of
from passerelle.fhir.prescriptions.dosages import days_of, regimen_of, unit
from passerelle.fhir.prescriptions.faults import check, invalid
from passerelle.medicines.model import Allergy, Context, Treatment
from passerelle.patients.model import Person
from passerelle.prescriptions.checking import Circumstances, World
from passerelle.prescriptions.commands import Target
from passerelle.prescriptions.quantities import Dose, exact
from passerelle.prescriptions.validity import paris_day
from passerelle.records.gate import Gate, Sight
from passerelle.records.model import ResourceKey, StoredVersion
from passerelle.records.ports import Indexed, RecordStore, Scan
from passerelle.records.search import Entry

Json = Mapping[str, Any]
Kept = Callable[[Indexed], bool]

_DATA = Path(__file__).parent.parent / "data" / "clinical_facts.json"
_YEAR = timedelta(days=366)
_PREGNANCY = timedelta(days=300)  # for so long a pregnancy that was noted may last
_GESTATION, _OVERDUE = timedelta(days=280), timedelta(days=21)
_NOT_PREGNANT = timedelta(days=30)  # for so long it holds that there is none
_SUPPLY = 30  # days of a supply that does not say: the most that one may cover (CSP R5132-12)
_MAX_SUPPLIES = 200  # that are read, the newest
_MAX_GIVEN = 50  # medicines that a call adds, and allergies
_OBSERVATIONS = 10  # of one code that are read, the newest
_UNDATED = ("0" * 12, "0" * 12)
_RESULTS = frozenset({"final", "amended", "corrected", "appended"})
_PAST = frozenset({"inactive", "remission", "resolved"})
_UNTRUE = frozenset({"entered-in-error", "refuted"})
_OF_MEDICINES = frozenset({"medication", "biologic"})


# --- what one resource says -------------------------------------------------------------------------------------------


def treatment_of(resource: Json, key: str, medication: Json | None = None) -> Treatment:
    """A MedicationRequest, MedicationStatement or MedicationDispense; `medication` is what it refers to, if it does."""
    dosages: Sequence[Json] = resource.get("dosageInstruction") or resource.get("dosage") or ()
    codings, text, components = _product(resource, medication)
    counted, per_day = _per_day(dosages)
    intake, taken_in = _per_intake(dosages)
    day_scale, intake_scale = _mg_in(counted), _mg_in(taken_in)
    prior = resource.get("priorPrescription", {}).get("reference")
    return Treatment(
        key=key,
        codings=codings,
        text=text,
        units_per_intake=intake if intake_scale is None else None,
        units_per_day=per_day if day_scale is None else None,
        mg_per_intake=intake * intake_scale if intake is not None and intake_scale is not None else None,
        mg_per_day=per_day * day_scale if per_day is not None and day_scale is not None else None,
        route=_route(dosages),
        use=tuple(sorted(_conditions(_codings(*resource.get("reasonCode", []))))),
        reference=key,
        replaces=(prior,) if prior else (),
        components=components,
    )


def _product(resource: Json, medication: Json | None) -> tuple[tuple[str, ...], str, tuple[Treatment, ...]]:
    """Its codings, its name, and its ingredients."""
    reference = resource.get("medicationReference", {})
    contained = {f"#{each.get('id')}": each for each in resource.get("contained", [])}
    medicine = contained.get(reference.get("reference")) or medication or {}
    concept = resource.get("medicationCodeableConcept") or medicine.get("code") or {}
    parts = []
    for each in medicine.get("ingredient", []):
        item = each.get("itemReference", {})
        made_of = contained.get(item.get("reference"), {}).get("code") or {"text": str(item.get("display", ""))}
        parts.append(each.get("itemCodeableConcept") or made_of)
    text = _words(concept) or " + ".join(filter(None, map(_words, parts))) or str(reference.get("display", ""))
    components = tuple(Treatment(key="", codings=_codings(each), text=_words(each)) for each in parts)
    return _codings(concept), text, components


def _words(concept: Json) -> str:
    return str(
        concept.get("text") or next((each["display"] for each in concept.get("coding", []) if "display" in each), "")
    )


def _codings(*concepts: Json) -> tuple[str, ...]:
    found = (
        f"{each['system']}|{each['code']}"
        for concept in concepts
        for each in concept.get("coding", [])
        if {"system", "code"} <= each.keys()
    )
    return tuple(dict.fromkeys(found))


def _per_day(dosages: Sequence[Json]) -> tuple[str, Decimal | None]:
    """What is taken on the day on which it is most, and the unit of that."""
    if not dosages:
        return "", None
    try:
        regimen = regimen_of(dosages, {}, "")
    except PasserelleError:  # of a resource that was never a prescription of ours: it does not tell
        return "", None
    highest = max((_on_day(regimen.doses, each.first_day) for each in regimen.doses), default=Fraction())
    return regimen.unit, _decimal(highest) or None


def _on_day(doses: Sequence[Dose], day: Fraction) -> Fraction:
    running = (
        each for each in doses if each.first_day <= day and (each.days is None or day < each.first_day + each.days)
    )
    return sum((each.units_per_day for each in running), Fraction())


def _per_intake(dosages: Sequence[Json]) -> tuple[Decimal | None, str]:
    amounts: list[Json] = [
        each.get("doseQuantity") or each.get("doseRange", {}).get("high") or {}
        for dosage in dosages
        for each in dosage.get("doseAndRate", [])
    ]
    stated = [each for each in amounts if "value" in each]
    units = {unit(each) for each in stated}
    if len(units) != 1:
        return None, ""
    return max(Decimal(each["value"]) for each in stated), units.pop()


def _decimal(value: Fraction) -> Decimal:
    return round(Decimal(value.numerator) / Decimal(value.denominator), 6)


def _mg_in(counted: str) -> Decimal | None:
    scale = _facts()["mass_units_in_mg"].get(counted)
    return Decimal(scale) if scale else None


def _route(dosages: Sequence[Json]) -> str | None:
    """The one route of all dosages that is known to the rules."""
    named = {
        route
        for coding in _codings(*(each.get("route", {}) for each in dosages))
        for route, systems in _facts()["routes"].items()
        if coding.rpartition("|")[2] in systems.get(coding.rpartition("|")[0], ())
    }
    return named.pop() if len(named) == 1 else None


def allergy_of(resource: Json, key: str) -> Allergy:
    parts = [each["substance"] for each in resource.get("reaction", []) if "substance" in each]
    concepts = [*([resource["code"]] if "code" in resource else []), *parts]
    reactions = {
        each.rpartition("|")[2]
        for reaction in resource.get("reaction", [])
        for each in _codings(*reaction.get("manifestation", []))
    }
    return Allergy(
        key=key,
        codings=_codings(*concepts),
        text=next(filter(None, map(_words, concepts)), ""),
        criticality=resource.get("criticality"),
        verification=next((each.rpartition("|")[2] for each in _codings(resource.get("verificationStatus", {}))), None),
        is_intolerance=resource.get("type") == "intolerance",
        is_nsaid_type=not reactions.isdisjoint(_facts()["nsaid_type_reactions"]),
        reference=key,
    )


def _is_allergy(resource: Json) -> bool:
    """One that may be to a medicine, and that there is."""
    kinds = set(resource.get("category", ()))
    verification = {each.rpartition("|")[2] for each in _codings(resource.get("verificationStatus", {}))}
    clinical = {each.rpartition("|")[2] for each in _codings(resource.get("clinicalStatus", {}))}
    return not (verification & _UNTRUE or clinical & _PAST) and (not kinds or bool(kinds & _OF_MEDICINES))


def _conditions(codings: Iterable[str]) -> set[str]:
    """What the rules call these codes; a code of CIM-10 stands for those below it, too."""
    return {name for name, codes in _facts()["conditions"].items() if any(_is_among(each, codes) for each in codings)}


def _is_among(coding: str, codes: Json) -> bool:
    system, _, code = coding.rpartition("|")
    systems = _facts()["systems"]
    if system in systems["cim10"]:
        return any(code.replace(".", "").startswith(each.replace(".", "")) for each in codes["cim10"])
    return system in systems["snomed"] and code in codes["snomed"]


@cache
def _facts() -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads(_DATA.read_text("utf-8"))
    return content


# --- the record -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Read:
    """What of one collection is read: entries of a type, or of one code of Observation."""

    name: str
    type: str
    scan: Scan
    code: str | None = None

    def takes(self, indexed: Indexed) -> bool:
        return self.code is None or self.code in _values(indexed, "code")


def _range_of(code: str) -> str:
    """What the index has an Observation with this code under, among others."""
    return ranges_of(Entry(values={"code": (code,)}), "Observation")[0]


def _reads(at: datetime) -> list[_Read]:
    year = ((at - _YEAR).strftime("%Y%m%d%H%M"), "9" * 12)
    return [
        _Read("orders", "MedicationRequest", Scan(between=year)),
        _Read("orders", "MedicationRequest", Scan(between=_UNDATED)),
        _Read("supplies", "MedicationDispense", Scan(between=year, limit=_MAX_SUPPLIES + 1)),
        _Read("supplies", "MedicationDispense", Scan(between=_UNDATED, limit=_MAX_SUPPLIES + 1)),
        _Read("statements", "MedicationStatement", Scan()),
        _Read("allergies", "AllergyIntolerance", Scan()),
        _Read("conditions", "Condition", Scan()),
        *(
            _Read(name, "Observation", Scan(token=_range_of(code), limit=_OBSERVATIONS), code)
            for name, codes in _facts()["observations"].items()
            for code in codes
        ),
    ]


@dataclass(frozen=True, slots=True)
class _Found:
    """What the record holds: entries by the name of their read, and bodies by reference."""

    entries: Mapping[str, Sequence[Indexed]]
    bodies: Mapping[str, Json]
    medications: Mapping[str, Json]
    patient: Json


class RecordCircumstances:
    """`prescriptions.checking.CircumstancesReader`. `in_parallel` runs reads at once, and returns in order."""

    def __init__(self, *, store: RecordStore, gate: Gate, in_parallel: Callable[..., tuple[Any, ...]]) -> None:
        self._store = store
        self._gate = gate
        self._in_parallel = in_parallel

    def ordered(self, request: str, key: str) -> Treatment:
        return treatment_of(fhir_json.loads(request.encode()), key)

    def supplied(self, dispense: str, ordered: Treatment) -> Treatment:
        """As ordered where the supply says nothing else."""
        given = treatment_of(fhir_json.loads(dispense.encode()), ordered.key)
        return _instead(ordered, given)

    def find(self, caller: Caller, patient: str, at: datetime) -> Circumstances:
        """One round of reads of the index, and one of the bodies that count, if any do."""
        reads = _reads(at)

        def own(member: str) -> list[Callable[[], Any]]:
            return [partial(self._store.entries, member, each.type, each.scan) for each in reads]

        def others(person: Person) -> list[Callable[[], Any]]:
            if not _is_in_use(person):
                return []
            return [read for member in person.members if member != patient for read in own(member)]

        key = ResourceKey(type="Patient", id=patient, patient=patient)
        sight, (found, *first), more = self._gate.survey(
            caller, patient, at, [partial(self._store.find_latest, key), *own(patient)], others
        )
        if sight is None:
            return Circumstances(gaps=("record-unknown",))
        identity = _body(found) if found is not None else {}
        if not _is_in_use(sight.person):
            person = World(context=_person(identity, paris_day(at)))
            return Circumstances(whole=person, gaps=("record-not-open",))
        entries: dict[str, list[Indexed]] = {each.name: [] for each in reads}
        for place, page in enumerate([*first, *more]):
            read = reads[place % len(reads)]
            entries[read.name] += filter(read.takes, page.entries)
        is_cut = len(entries["supplies"]) > _MAX_SUPPLIES
        chosen = _chosen(entries)
        bodies = self._bodies(chosen)
        all_of_it = _Found(entries, bodies, self._medications(bodies.values()), identity)
        return _circumstances(all_of_it, sight, at, ("too-many-supplies",) if is_cut else ())

    def _bodies(self, chosen: Sequence[Indexed]) -> dict[str, Json]:
        if not chosen:
            return {}
        stored = self._store.versions([(each.key, each.version) for each in chosen])
        return {each.key.reference: _body(each) for each in stored.values() if each.body is not None}

    def _medications(self, bodies: Iterable[Json]) -> dict[str, Json]:
        """The Medications of the directory that they refer to."""
        named = {str(each.get("medicationReference", {}).get("reference", "")) for each in bodies}
        ids = sorted(each.removeprefix("Medication/") for each in named if each.startswith("Medication/"))
        if not ids:
            return {}
        keys = [ResourceKey(type="Medication", id=each, patient=None) for each in ids]
        found = self._in_parallel(*(partial(self._store.find_latest, each) for each in keys))
        return {each.reference: _body(each) for each in found if each is not None and each.body is not None}


def _is_in_use(person: Person) -> bool:
    """Whether the person's consent lets the exchange use the record at all."""
    return person.policy.status not in (RecordStatus.CLOSED, RecordStatus.OPPOSED)


def _body(stored: StoredVersion) -> Json:
    content: Json = fhir_json.loads(stored.body) if stored.body is not None else {}
    return content


def _chosen(entries: Mapping[str, Sequence[Indexed]]) -> list[Indexed]:
    """Those whose body says what their entry does not: what is taken, what still lasts, and what is not tolerated."""
    orders = {each.key.reference: each for each in entries["orders"]}
    active = [each for each in entries["orders"] if _status(each) == "active"]
    supplies = [each for each in entries["supplies"][:_MAX_SUPPLIES] if _lasts(each, orders)]
    behind = {reference for each in supplies for reference in _order_of(each)} & orders.keys()
    statements = [each for each in entries["statements"] if _status(each) in ("active", "intended")]
    return [*active, *supplies, *(orders[each] for each in sorted(behind)), *statements, *entries["allergies"]]


def _lasts(supply: Indexed, orders: Mapping[str, Indexed]) -> bool:
    """Whether it may: one of an order in force is part of that."""
    ordered = [orders[each] for each in _order_of(supply) if each in orders]
    return _status(supply) == "completed" and not any(_status(each) == "active" for each in ordered)


def _order_of(supply: Indexed) -> list[str]:
    return [each.partition("|")[0] for each in _values(supply, "prescription")]


def _status(indexed: Indexed) -> str:
    return next((each.rpartition("|")[2] for each in _values(indexed, "status")), "")


def _values(indexed: Indexed, name: str) -> tuple[str, ...]:
    return record_type(indexed.key.type).search[name].reading.of(indexed.entry)


def _circumstances(found: _Found, sight: Sight, at: datetime, gaps: tuple[str, ...]) -> Circumstances:
    hidden = sight.hidden
    every = [each for some in found.entries.values() for each in some]
    kept = {each.key for each in every if hidden.entry(each) is not None} if hidden else None
    whole = _world(found, lambda _: True, at)
    if kept is None or len(kept) == len({each.key for each in every}):
        return Circumstances(whole=whole, gaps=gaps)
    shown = _world(found, lambda each: each.key in kept, at)
    return Circumstances(whole=whole, shown=None if shown == whole else shown, gaps=gaps)


def _world(found: _Found, is_kept: Kept, at: datetime) -> World:
    entries = {name: [each for each in some if is_kept(each)] for name, some in found.entries.items()}
    day = paris_day(at)
    allergies = tuple(
        allergy_of(body, each.key.reference)
        for each in entries["allergies"]
        if (body := found.bodies.get(each.key.reference)) is not None and _is_allergy(body)
    )
    treatments = {each.key: each for each in _taken(found, entries, day)}
    context = replace(_person(found.patient, day), **_known(entries, at), allergies=allergies)
    return World(treatments=tuple(treatments.values()), context=context)


# --- what is taken ----------------------------------------------------------------------------------------------------


def _taken(found: _Found, entries: Mapping[str, Sequence[Indexed]], day: date) -> Iterator[Treatment]:
    """One treatment an order, whatever was supplied of it; statements of what is ordered say nothing more."""
    told: set[str] = set()
    for reference, body in _of(found, entries["orders"]):
        if body.get("status") == "active" and _is_order(body, day):
            told.add(reference)
            yield _read(found, body, reference)
    supplies: dict[str, list[tuple[str, Json]]] = {}
    for reference, body in _of(found, entries["supplies"]):
        ordered = [each.get("reference", "") for each in body.get("authorizingPrescription", [])]
        supplies.setdefault(next(iter(ordered), reference), []).append((reference, body))
    for key, some in supplies.items():
        if key not in told and _covered_until(some, found.bodies.get(key, {}), day) > day:
            told.add(key)
            order = _read(found, found.bodies[key], key) if key in found.bodies else None
            products: set[Any] = set()
            for reference, body in sorted(some, key=lambda each: _handed_over(each[1]), reverse=True):
                given = _read(found, body, reference if products else key)
                product = (given.codings, given.text, given.components)
                if product not in products:
                    products.add(product)
                    yield _supplied(given, order, reference)
    for reference, body in _of(found, entries["statements"]):
        sources = {each.get("reference") for name in ("basedOn", "derivedFrom") for each in body.get(name, [])}
        if sources.isdisjoint(told) and _goes_on(body, day):
            yield _read(found, body, reference)


def _of(found: _Found, entries: Sequence[Indexed]) -> Iterator[tuple[str, Json]]:
    for each in entries:
        body = found.bodies.get(each.key.reference)
        if body is not None:
            yield each.key.reference, body


def _read(found: _Found, body: Json, key: str) -> Treatment:
    reference = body.get("medicationReference", {}).get("reference", "")
    return treatment_of(body, key, found.medications.get(reference))


def _supplied(given: Treatment, order: Treatment | None, reference: str) -> Treatment:
    """What was supplied, taken as it was ordered where the supply does not say how."""
    if order is None or given.units_per_day or given.mg_per_day:
        return replace(given, reference=reference)
    return replace(_instead(order, given), key=given.key, reference=reference)


def _instead(ordered: Treatment, given: Treatment) -> Treatment:
    """Another product, taken as the one that was ordered."""
    text = given.text or ordered.text
    return replace(ordered, codings=given.codings, text=text, components=given.components)


def _is_order(body: Json, day: date) -> bool:
    is_meant = body.get("intent") not in ("proposal", "plan", "option") and body.get("doNotPerform") is not True
    return is_meant and _lasts_until(body.get("dispenseRequest", {}).get("validityPeriod", {}), day)


def _goes_on(body: Json, day: date) -> bool:
    return _lasts_until(body.get("effectivePeriod", {}), day)


def _lasts_until(period: Json, day: date) -> bool:
    return "end" not in period or _range(period["end"])[1] >= day


def _covered_until(supplies: Sequence[tuple[str, Json]], order: Json, day: date) -> date:
    """The first day that is not covered: each supply begins when the one before it is used up.

    One that is dated later than `day` counts as of that day.
    """
    covered = date.min
    for _, body in sorted(supplies, key=lambda each: _handed_over(each[1])):
        covered = max(covered, min(_range(_handed_over(body))[0], day)) + timedelta(days=_days(body, order))
    return covered


def _handed_over(supply: Json) -> str:
    """When, or when it was recorded: a supply that does not say so counts all the same."""
    return str(supply.get("whenHandedOver") or supply.get("whenPrepared") or supply["meta"]["lastUpdated"])


def _days(supply: Json, order: Json) -> int:
    """What it says, as far as that can be: of amounts that no supply has, the longest that counts."""
    try:
        stated = days_of(supply.get("daysSupply", {}))
        quantity = supply.get("quantity", {})
        amount = exact(Decimal(quantity["value"])) if "value" in quantity else None
    except PasserelleError:
        return _YEAR.days
    if stated is None:
        counted, per_day = _per_day(supply.get("dosageInstruction", []))
        if per_day is None:
            counted, per_day = _per_day(order.get("dosageInstruction", []))
        if not per_day or amount is None or unit(quantity) not in (counted, ""):
            return _SUPPLY
        stated = amount / Fraction(per_day)
    return min(-(-stated.numerator // stated.denominator), _YEAR.days)


def _range(text: str) -> tuple[date, date]:
    """The Paris days that a FHIR date or dateTime can mean."""
    try:
        if "T" in text:
            day = paris_day(datetime.fromisoformat(text))
            return day, day
    except (ValueError, OverflowError):  # FHIR has a second 60, and moments at both ends of the calendar
        pass
    first, last = date_range(text)
    return date.fromisoformat(first[:8]), date.fromisoformat(last[:8])


# --- what the person is -----------------------------------------------------------------------------------------------


def _person(patient: Json, day: date) -> Context:
    gender = patient.get("gender")
    return Context(
        age=_age(patient["birthDate"], day) if "birthDate" in patient else None,
        gender=gender,
        is_pregnant=False if gender == "male" else None,
    )


def _age(born: str, day: date) -> Decimal:
    """Years and whole months; of a date that is not whole, the youngest that it can mean."""
    first = _range(born)[1]
    months = max((day.year - first.year) * 12 + day.month - first.month - (day.day < first.day), 0)
    return (Decimal(months) / 12).quantize(Decimal("0.01"), ROUND_DOWN)


def _known(entries: Mapping[str, Sequence[Indexed]], at: datetime) -> dict[str, Any]:
    egfr = _measured(entries["egfr"], at, lambda _: Decimal(1))
    there, absent = _conditions_of(entries["conditions"])
    if egfr is not None:
        there |= {"renal-impairment"} if egfr < 60 else set()
        there |= {"severe-renal-impairment"} if egfr < 30 else set()
        absent |= {"renal-impairment"} if egfr >= 90 else set()
        absent |= {"severe-renal-impairment"} if egfr >= 60 else set()
    known: dict[str, Any] = {
        "weight": _measured(entries["weight"], at, _facts()["weight_units_in_kg"].get),
        "egfr": egfr,
        "conditions": frozenset(there),
        "absent": frozenset(absent - there),
    }
    weeks = _weeks(entries["due"], at)
    pregnant = _is_pregnant(entries, at)
    if pregnant is None and weeks is not None:
        pregnant = True
    if pregnant is not None:
        known["is_pregnant"] = pregnant
    if pregnant and weeks is not None:
        known["trimester"] = 1 if weeks < 14 else 2 if weeks < 28 else 3
    if any(_has(each, _facts()["breastfeeding"], _SINCE) for each in _current(entries["conditions"], at)):
        known["is_breastfeeding"] = True
    return known


_SINCE = _YEAR


def _newest(entries: Sequence[Indexed], at: datetime, within: timedelta) -> list[Indexed]:
    since, until = ((at - within).strftime("%Y%m%d%H%M"), at.strftime("%Y%m%d%H%M"))
    recent = [each for each in entries if since <= each.entry.sort_at <= until and _status(each) in _RESULTS]
    return sorted(recent, key=lambda each: each.entry.sort_at, reverse=True)


def _measured(entries: Sequence[Indexed], at: datetime, scale_of: Callable[[str], Any]) -> Decimal | None:
    """The newest value of a year. One that is only below a limit is just below it."""
    for each in _newest(entries, at, _YEAR):
        for value in _values(each, "value-quantity"):
            number, _, code, *_ = value.split("|")
            scale = scale_of(code)
            try:
                amount = Decimal(number.lstrip("<>=~"))
            except ArithmeticError:  # a range
                continue
            if scale is not None:
                return (amount - Decimal("0.1") if number.startswith("<") else amount) * Decimal(scale)
    return None


def _is_pregnant(entries: Mapping[str, Sequence[Indexed]], at: datetime) -> bool | None:
    for each in _newest(entries["pregnancy"], at, _PREGNANCY):
        said = set(_values(each, "value-concept"))
        if said & set(_facts()["pregnant"]):
            return True
        if said & set(_facts()["not_pregnant"]) and _newest([each], at, _NOT_PREGNANT):
            return False
    conditions = _current(entries["conditions"], at)
    return True if any(_has(each, _facts()["pregnancy"], _PREGNANCY) for each in conditions) else None


def _weeks(due: Sequence[Indexed], at: datetime) -> int | None:
    """Weeks since the last menstruation, by the newest day on which the child is due that is not long past."""
    for each in _newest(due, at, _PREGNANCY):
        for value in _values(each, "value-date"):
            born = datetime.strptime(value[:8], "%Y%m%d").replace(tzinfo=UTC)
            if at - _OVERDUE <= born <= at + _PREGNANCY:
                return max((at - (born - _GESTATION)).days // 7, 0)
    return None


def _current(conditions: Sequence[Indexed], at: datetime) -> Iterator[tuple[Indexed, timedelta]]:
    """Those that are there, and for how long."""
    for each in conditions:
        dates = [*_values(each, "onset-date"), *_values(each, "recorded-date")]
        since = min((one.partition("/")[0] for one in dates), default="")
        if since.strip("0") and not (
            _codes(each, "clinical-status") & _PAST or _codes(each, "verification-status") & _UNTRUE
        ):
            yield each, at - datetime.strptime(since[:8], "%Y%m%d").replace(tzinfo=UTC)


def _has(current: tuple[Indexed, timedelta], codes: Json, within: timedelta) -> bool:
    condition, since = current
    return since <= within and any(_is_among(each, codes) for each in _values(condition, "code"))


def _conditions_of(conditions: Sequence[Indexed]) -> tuple[set[str], set[str]]:
    """Those of the rules that are there, and that were looked for and are not. Some are told from the past alone."""
    there: set[str] = set()
    absent: set[str] = set()
    table = _facts()["conditions"]
    for each in conditions:
        named = _conditions(_values(each, "code"))
        verification = _codes(each, "verification-status")
        if "refuted" in verification:
            absent |= named
        elif "entered-in-error" not in verification:
            is_past = bool(_codes(each, "clinical-status") & _PAST)
            there |= {name for name in named if not is_past or table[name].get("lasting")}
    return there, absent


def _codes(indexed: Indexed, name: str) -> set[str]:
    return {each.rpartition("|")[2] for each in _values(indexed, name)}


# --- what a call adds -------------------------------------------------------------------------------------------------


def parse_check(call: BareCall) -> tuple[Target, tuple[Treatment, ...], tuple[Allergy, ...]]:
    """`$check` of a Task: `medication`* (MedicationRequest, MedicationStatement or a CodeableConcept), `allergy`*."""
    if not call.body:
        return target_of(call), (), ()
    arguments = Arguments(call.resource, "medication", "allergy")
    medications = tuple(
        replace(treatment_of(each, f"medication[{place}]"), is_new=True, reference=None)
        for place, each in enumerate(_given(arguments, "medication", ("MedicationRequest", "MedicationStatement")))
    )
    allergies = tuple(
        replace(allergy_of(each, f"allergy[{place}]"), reference=None)
        for place, each in enumerate(_given(arguments, "allergy", ("AllergyIntolerance",)))
        if _is_allergy(each)
    )
    return target_of(call), medications, allergies


def _given(arguments: Arguments, name: str, types: Sequence[str]) -> Iterator[Json]:
    where, parts = f"Parameters.parameter.where(name='{name}')", arguments.parts(name)
    if len(parts) > _MAX_GIVEN:  # each is looked at beside every other
        raise invalid(f"the parameter {name} is given at most {_MAX_GIVEN} times", where)
    for part in parts:
        if "valueCodeableConcept" in part:
            concept = part["valueCodeableConcept"]
            yield {"medicationCodeableConcept": concept, "code": concept}
            continue
        kind = part.get("resource", {}).get("resourceType")
        if kind not in types:
            raise invalid(f"the parameter {name} is a CodeableConcept, or one of {', '.join(types)}", where)
        check(part["resource"], expected_type=kind, path=f"{where}.resource")
        yield part["resource"]
