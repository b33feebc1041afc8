"""Prescriptions that others wrote: each is accepted, or refused with the reason that the contract gives.

Contract of prescriptions, section 19, row 12. The French guide's (HAS) examples, and those of NHS England and gematik,
as they are but for what identifies and dates them: person, prescriber, day, number, status. What is refused is in the
tables, with its reason; what is in no table is accepted. Whatever becomes of an example on its way, the answer is never
a 5xx.
"""

from __future__ import annotations

import copy
import lzma
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passerelle.errors import PasserelleError
from passerelle.fhir import json as fhir_json
from passerelle.fhir.prescriptions import orders
from passerelle.fhir.prescriptions.supplies import supply_of
from passerelle.prescriptions.errors import code_of
from passerelle.prescriptions.model import Outcome
from passerelle.prescriptions.validity import paris_day
from tests.prescribing import (
    AT,
    PHARMACY_A,
    PRACTICE,
    MemoryExchange,
    Region,
    refused,
    region,
    region_in_memory,
    request,
    tried,
)
from tests.prescribing_http import Answer, Api

Resource = dict[str, Any]
FRENCH = "ans.fhir.fr.eprescription/Bundle-"
DATED = {"validityPeriod", "nextRefillDate"}
MONTH = {"value": 30, "system": "http://unitsofmeasure.org", "code": "d"}

# --- why an example is refused: the end of the expression, and words of the diagnostics -------------------------------

LENGTH = ("dispenseRequest", "a quantity, or the duration")
AMOUNT = ("dispenseRequest.quantity", "a quantity is required")
RELATED = (".resource", "MedicationRequests, and what they may refer to")  # a RequestGroup tells how lines depend
UNRELATED = (".action[1].resource", "ref-1")  # the same, of lines that are not there
NOWHERE = (".medication", "ref-1")  # the reference to the product leads nowhere
FHIR = (".timing.repeat", "tim-")  # no R4 validator takes it
MAXIMUM = (".dosageInstruction[0]", "below a single dose")
STATUS = (".status", "draft and intent order")
CANCELLATION = (".statusReason", "not taken")
PATIENT_INSTRUCTION = (".dosageInstruction", "patientInstruction")
NO_DOSAGE = (".resource", "authoredOn and a dosage")
ACCEPTED = None

# As published | with a supply for thirty days, which the guide's examples of dosages leave out.
HAS: Mapping[str, tuple[tuple[str, str] | None, tuple[str, str] | None]] = {
    "HAS-01-Presc-Pantoprazole-DC": (LENGTH, ACCEPTED),
    "HAS-01-Presc-Pantoprazole-MV": (LENGTH, ACCEPTED),
    "HAS-03-Presc-INNOHEP": (LENGTH, ACCEPTED),
    "HAS-04a-Presc-Paracetamol": (AMOUNT, AMOUNT),  # as needed, without a maximum
    "HAS-05a-Presc-Fluindione": (LENGTH, ACCEPTED),
    "HAS-05b-Presc-ACTISKENAN": (ACCEPTED, ACCEPTED),
    "HAS-06-2-Presc-Methotrexate": (LENGTH, ACCEPTED),
    "HAS-07-Presc-Paracetamol": (LENGTH, ACCEPTED),
    "HAS-08-2-Presc-Paracetamol": (AMOUNT, AMOUNT),  # doses by the marks of a syringe
    "HAS-09-Presc-Ropinirole": (LENGTH, ACCEPTED),
    "HAS-11-1-Presc-VitamineD": (LENGTH, ACCEPTED),
    "HAS-11-2-Presc-EVRA": (ACCEPTED, ACCEPTED),
    "HAS-12-2-Presc-Methotrexate": (LENGTH, ACCEPTED),
    "HAS-12-3-Presc-Enoxaparine": (LENGTH, ACCEPTED),
    "HAS-14-1-Presc-CODOLIPRANE": (LENGTH, ACCEPTED),
    "HAS-14-2-Presc-Betamethasone": (AMOUNT, AMOUNT),  # in applications: nobody supplies those
    "HAS-16-Presc-Racecadotril": (FHIR, FHIR),
    "HAS-17-Presc-Budesonide": (LENGTH, ACCEPTED),
    "HAS-19-Presc-Paracetamol": (LENGTH, ACCEPTED),
    "HAS-20-Presc-Hydrocortisone": (LENGTH, ACCEPTED),
    "HAS-22-Presc-Prednisolone": (AMOUNT, AMOUNT),  # "until ...", then falling
    "HAS-23-1-Presc-Fluindione": (ACCEPTED, ACCEPTED),
    "HAS-24-1-presc-Doxycyline": (LENGTH, ACCEPTED),
    "HAS-24-1-presc-Topiramate": (LENGTH, ACCEPTED),
    "HAS-26-Diazepam": (AMOUNT, AMOUNT),  # as needed, without a maximum
    "HAS-27-1-presc-GLUCOPHAGE": (LENGTH, ACCEPTED),
    "HAS-28-Presc-LOVENOX": (AMOUNT, AMOUNT),  # before an operation, then after it
    "HAS-29-Presc-LOVENOX": (LENGTH, ACCEPTED),
    "HAS-30-2-Presc-Cetirizine": (AMOUNT, AMOUNT),  # one to four, and no day
    "HAS-31-Presc-DUROGESIC": (ACCEPTED, ACCEPTED),
    "HAS-32-2-Presc-ULTIBRO-BREEZ": (ACCEPTED, ACCEPTED),
    "HAS-33-Presc-VERSATIS": (LENGTH, ACCEPTED),
    "MultiLine-Presc-METHOTREXATE-LEDERFOLINE": (RELATED, RELATED),
    "MultiLine-Presc-Sucralfate-Paracetamol": (UNRELATED, UNRELATED),
    "Presc-Betamethasone-ApplCut": (NOWHERE, NOWHERE),
    "Presc-CLARADOL-DoseDiffParHoraire": (ACCEPTED, ACCEPTED),
    "Presc-CLARADOL-TL6h-MedCodeableConcept": (ACCEPTED, ACCEPTED),
    "Presc-CLARADOL-TLMardisVendredis": (ACCEPTED, ACCEPTED),
    "Presc-Capecitabine-Dose-Calculee": (ACCEPTED, ACCEPTED),
    "Presc-DIPROSONE-AppCut": (AMOUNT, AMOUNT),
    "Presc-EFFERALGAN": (ACCEPTED, ACCEPTED),
    "Presc-Fentanyl-patch72h-TL3j": (ACCEPTED, ACCEPTED),
    "Presc-MV-PerfGl-NaCl-KCl": (AMOUNT, AMOUNT),  # a rate, and no time that it runs
    "Presc-Methylpredinosolone-DosesEvolutives": (ACCEPTED, ACCEPTED),
    "Presc-MiniperfCefotaxime-En20min-Pdt4j": (AMOUNT, AMOUNT),
    "Presc-NICORETTESKIN-patch": (ACCEPTED, ACCEPTED),
    "Presc-Paracetamol-DoseEvolutive": (NOWHERE, NOWHERE),
    "Presc-Paracetamol-SiDouleur-MaxPrise-DelaisMin": (FHIR, FHIR),
    "Presc-Paracetamol": (ACCEPTED, ACCEPTED),
    "Presc-ParacetamolCodeine-500mg30mg": (ACCEPTED, ACCEPTED),
    "Presc-PerfGl-NaCl-KCl-1l": (NOWHERE, NOWHERE),
    "Presc-PerfGl-NaCl-KCl-500ml": (AMOUNT, AMOUNT),
    "TradPN13FHIR-MultiLine-Presc-Alt-METFORMINE-GLICLAZIDE": (RELATED, RELATED),
    "TradPN13FHIR-Presc-DOLIPRANE-Interpret": (ACCEPTED, ACCEPTED),
    "TradPN13FHIR-Presc-Morphine-PCA": (AMOUNT, AMOUNT),
    "TradPN13FHIR-Presc-Paracetamol-SiDouleur": (MAXIMUM, MAXIMUM),
    "TradPN13FHIR-Presc-perfusion-6-composants": (NOWHERE, NOWHERE),
}

# The lines of the others' orders, taken out of their messages and documents: by the end of the file's name.
LINES: Mapping[str, tuple[str, str]] = {
    "errors/4-Process-Request-Send-400_invalid_intent.json": STATUS,
    "acute-and-repeat-prescribing/1-Process-Request-Send-200_OK.json": STATUS,  # reflex-order: NHS repeats
    "medication-list/din/1-Prepare-Request-200_OK.json": STATUS,
    "medication-list/spurious-code/1-Prepare-Request-200_OK.json": STATUS,
    "non-prescriber-endorsed/1-Prepare-Request-200_OK.json": STATUS,
    "single-medication-request/1-Process-Request-Send-200_OK.json": STATUS,
    "prescription-order-update/repeat-primary-example-res.json": STATUS,
    "cancellations/1-Process-Request-Cancel-200_OK.json": CANCELLATION,
    "cancellations/2-Process-Response-Cancel-200_OK.json": CANCELLATION,
    "health-professional/1-Process-Request-Cancel-200_OK.json": CANCELLATION,
    "prescribing-and-professional-codes/1-Process-Request-Cancel-200_OK.json": CANCELLATION,
    "prescription-order-update/R-0005-Cancellation.json": NO_DOSAGE,
    "bulk-translation/1-Process-Request-Send-400_Bad_Request.json": PATIENT_INSTRUCTION,
    "1.3.2/json/Beispiel_25_Rezepturverordnung.json": PATIENT_INSTRUCTION,
    "1.3.2/json/Beispiel_24_Rezepturverordnung_SEL.json": PATIENT_INSTRUCTION,
    "1.2.0/json/Beispiel_25.json": PATIENT_INSTRUCTION,
    "1.2.0/json/Beispiel_23.json": PATIENT_INSTRUCTION,
    "1.3.2/json/Beispiel_55.json": NO_DOSAGE,  # "as on the other sheet" is an extension there
    "1.3.2/json/Beispiel_32.json": NO_DOSAGE,
    "1.3.2/json/Beispiel_33.json": NO_DOSAGE,
    "1.2.0/json/Beispiel_37.json": NO_DOSAGE,
    "1.3.2/json/Beispiel_57.json": NO_DOSAGE,
    "1.2.0/json/Beispiel_57.json": NO_DOSAGE,
    "1.3.2/json/Beispiel_49.json": NO_DOSAGE,
    "1.2.0/json/Beispiel_49.json": NO_DOSAGE,
}
ORDERS, REFUSED_LINES = 70, len(LINES)  # orders in all, of which so many are refused

# What others have supplied, as the supply of a line: by the end of the file's name.
UNDONE = ("MedicationDispense.status", "status completed")  # NHS: on hold, or in progress
UNCOUNTED = ("MedicationDispense.quantity", "quantity supplied")  # gematik: a pack, by its number
SUPPLIES: Mapping[str, tuple[str, str]] = {
    "clinical-practitioner/5-Process-Request-Dispense-200_OK.json": UNDONE,
    "clinical-practitioner/6-Process-Request-Dispense-200_OK.json": UNDONE,
    "json/MedicationDispense-Example-MedicationDispense.json": UNCOUNTED,
    "json/MedicationDispense-Example-MedicationDispense-DiGA-DeepLink.json": UNCOUNTED,
    "json/MedicationDispense-Example-MedicationDispense-Rezeptur.json": UNCOUNTED,
    "json/MedicationDispense-Example-MedicationDispense-2.json": UNCOUNTED,
    "json/MedicationDispense-Example-MedicationDispense-DiGA-Name-And-PZN.json": UNCOUNTED,
}
SUPPLIED = 13

# What is no order at all, as it is sent: by its type, and where it goes.
WHOLE: Mapping[str, str] = {
    "Bundle": "/Task/$create",
    "Claim": "/Task/$create",
    "MedicationDispense": "/Task/{line}/$dispense",
    "OperationOutcome": "/Task/{group}/$cancel",
    "Parameters": "/Task/$accept",
    "Provenance": "/Task/{group}/$activate",
    "Task": "/Task/{group}/$reject",
}


def examples(folder: Path, name: str) -> Iterator[tuple[str, Any]]:
    with lzma.open(folder / f"{name}.ndjson.xz") as lines:
        for line in lines:
            content = fhir_json.loads(line)
            yield content["file"], content.get("resource", content.get("text"))


def french(folder: Path) -> Iterator[tuple[str, Resource]]:
    for file, resource in examples(folder, "fr_ans_examples"):
        if file.startswith(FRENCH):
            yield file.removeprefix(FRENCH).removesuffix(".json"), resource


def foreign(folder: Path) -> Iterator[tuple[str, Any]]:
    for name in ("nhs_eps_examples", "gematik_erezept"):
        yield from examples(folder, name)


def lines_of(resource: Any) -> Resource | None:
    """The order alone of a message or a document: its lines, and the products that they name."""
    if not isinstance(resource, dict):
        return None
    entries = [each for each in resource.get("entry", []) if "resource" in each]
    types = [each["resource"]["resourceType"] for each in entries]
    if "MedicationRequest" not in types:
        return None
    kept = [each for each, kind in zip(entries, types, strict=True) if kind in ("MedicationRequest", "Medication")]
    return {"resourceType": "Bundle", "type": "collection", "entry": kept}


def ours(order: Resource, patient: str, **supply: Any) -> Resource:
    """The same order for a person, from a prescriber and on a day that the exchange knows."""
    made = copy.deepcopy(order)
    for entry in made["entry"]:
        line = entry["resource"]
        if line["resourceType"] != "MedicationRequest":
            continue
        line |= {
            "status": "draft",
            "authoredOn": paris_day(datetime.now(UTC)).isoformat(),
            "subject": {"reference": f"Patient/{patient}"},
            "requester": {"identifier": {"system": orders.RPPS, "value": PRACTICE.professional}},
        }
        for name in ("groupIdentifier", "encounter"):
            line.pop(name, None)
        told = {name: value for name, value in line.get("dispenseRequest", {}).items() if name not in DATED}
        line["dispenseRequest"] = told | supply
        if not line["dispenseRequest"]:
            del line["dispenseRequest"]
    return made


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with region() as made:
        yield Api(made)


def assert_answers(name: str, answer: Answer, reason: tuple[str, str] | None) -> None:
    if reason is ACCEPTED:
        assert answer.status == 201, (name, answer.body)
        return
    issue = answer.body["issue"][0]
    assert answer.code == (400, "RX-INVALID"), name
    assert issue["expression"][0].endswith(reason[0]), (name, issue)
    assert reason[1] in issue["diagnostics"], (name, issue)


def test_the_french_examples(api: Api, shared_data: Path) -> None:
    """Contract, section 19, row 12: the 33 HAS prescriptions, and the guide's others."""
    found = dict(french(shared_data))
    assert found.keys() == HAS.keys()
    for name, resource in found.items():
        published, for_a_month = HAS[name]
        assert_answers(name, api.call("/Task/$create", ours(resource, api.region.patient)), published)
        longer = ours(resource, api.region.patient, expectedSupplyDuration=MONTH)
        assert_answers(name, api.call("/Task/$create", longer), for_a_month)


def test_the_orders_of_others(api: Api, shared_data: Path) -> None:
    """Contract, section 19, rows 12 and 13: the lines of NHS and gematik orders."""
    seen, out = 0, set()
    for file, resource in foreign(shared_data):
        order = lines_of(resource)
        if order is None:
            continue
        seen += 1
        reasons = [(end, reason) for end, reason in LINES.items() if file.endswith(end)]
        out |= {end for end, _ in reasons}
        reason = reasons[0][1] if reasons else ACCEPTED
        assert_answers(file, api.call("/Task/$create", ours(order, api.region.patient)), reason)
    assert (seen, len(out)) == (ORDERS, REFUSED_LINES)


def test_what_is_no_order_is_refused_whole(api: Api, shared_data: Path) -> None:
    """A KBV_PR bundle is a document, an NHS one a message: 400, and the place that says so."""
    id = f"{api.region.patient}-01jpab3v5w9f2k8m4n6p0q1r2s"
    for file, resource in foreign(shared_data):
        if isinstance(resource, str):
            answer = api.call("/Task/$create", resource, Content_Type="application/fhir+xml")
        else:
            path = WHOLE.get(resource["resourceType"], "/Task/$create").format(group=id, line=f"{id}-01")
            by = PRACTICE if path.endswith(("$create", "$activate", "$cancel")) else PHARMACY_A
            answer = api.call(path, resource, by=by)
            if resource.get("type") in ("document", "message"):
                assert answer.body["issue"][0]["expression"] == ["Bundle.type"], file
        assert answer.code == (400, "RX-INVALID"), (file, answer.body)
        assert answer.body["issue"][0].get("expression"), (file, answer.body)


def test_the_supplies_of_others(shared_data: Path) -> None:
    """A MedicationDispense is read as the supply of a line, or refused with the reason."""
    seen = 0
    for file, resource in foreign(shared_data):
        entries = resource.get("entry", []) if isinstance(resource, dict) else []
        for each in (resource, *(entry.get("resource") for entry in entries)):
            if not isinstance(each, dict) or each["resourceType"] != "MedicationDispense":
                continue
            seen += 1
            reason = next((reason for end, reason in SUPPLIES.items() if file.endswith(end)), ACCEPTED)
            if reason is ACCEPTED:
                assert supply_of(each, secret="x").products, file
            else:
                issue = refused(supply_of, each, secret="x").issues[0]
                assert issue.expression == reason[0], file
                assert reason[1] in issue.diagnostics, file
    assert seen == SUPPLIED


# --- what may become of them ------------------------------------------------------------------------------------------

VALUES: tuple[Any, ...] = (
    None,
    "",
    "x",
    0,
    -1,
    Decimal("1E-9"),
    Decimal("1E+40"),
    True,
    [],
    {},
    [{}],
    {"reference": "#"},
    {"value": Decimal("0.1"), "code": "d", "system": "http://unitsofmeasure.org"},
    "2026-13-45",
    "9999-12-31T23:59:59-14:00",
    "0001-01-01",
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield from places(child, (*path, name))


def mutated(order: Resource, place: tuple[Any, ...], value: Any, *, is_dropped: bool) -> Resource:
    made = copy.deepcopy(order)
    at: Any = made
    for step in place[:-1]:
        at = at[step]
    if is_dropped:
        del at[place[-1]]
    else:
        at[place[-1]] = value
    return made


@pytest.fixture(scope="module")
def accepted(shared_data: Path) -> list[Resource]:
    patient = region_in_memory().patient
    found = [resource for name, resource in french(shared_data) if HAS[name][1] is ACCEPTED]
    others = [lines_of(each) for file, each in foreign(shared_data) if not file.endswith(tuple(LINES))]
    kept = [*found, *(each for each in others if each is not None)]
    return [dated(ours(each, patient, expectedSupplyDuration=MONTH)) for each in kept]


def dated(order: Resource) -> Resource:
    for entry in order["entry"]:
        if "authoredOn" in entry["resource"]:
            entry["resource"]["authoredOn"] = AT.date().isoformat()
    return order


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_left_of_them(accepted: list[Resource], data: st.DataObject) -> None:
    """One element dropped or replaced: taken, or refused with a code and nothing stored. So is its signature."""
    order = data.draw(st.sampled_from(accepted))
    place = data.draw(st.sampled_from(list(places(order))))
    value, is_dropped = data.draw(st.sampled_from(VALUES)), data.draw(st.booleans())
    made: Region = region_in_memory()
    store = made.store
    assert isinstance(store, MemoryExchange)
    outcome = tried(lambda: created(made, mutated(order, place, value, is_dropped=is_dropped)))
    if isinstance(outcome, PasserelleError):
        assert outcome.status < 500
        assert code_of(outcome) is not None
        assert (store.commits, store.prescriptions) == (0, {})
        return
    assert store.commits == 1
    in_force = tried(lambda: made.activate(outcome.prescription.group.id))
    assert not isinstance(in_force, PasserelleError) or in_force.status < 500


def created(made: Region, order: Resource) -> Outcome:
    read = orders.parse_order(fhir_json.loads(fhir_json.dumps(order)))
    return made.service.create(request(PRACTICE, "$create"), read)
