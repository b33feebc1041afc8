"""What HL7 v2 messages become: identity and stay, results, orders, medicines, vaccines, appointments; what is lost."""

from __future__ import annotations

import base64
import json
import lzma
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passerelle.fhir.conversion.hl7v2 import convert
from passerelle.ingestion.model import Reason, RefusedMessage
from tests import kinds
from tests.hl7v2 import (
    DOMAIN,
    NAMES,
    SOURCE,
    changed,
    check,
    converted,
    counted,
    example,
    made,
    only,
    request_of,
)

EXPECTATIONS = Path(__file__).parent.parent / "expectations" / "hl7v2.txt"
INS = f"urn:oid:{kinds.NIR_SYSTEM}"
PARIS = timezone(timedelta(hours=2))


def refusal(data: bytes) -> tuple[Reason, str]:
    with pytest.raises(RefusedMessage) as refused:
        convert(data, SOURCE)
    return refused.value.reason, refused.value.path


def code_of(concept: dict[str, Any]) -> tuple[str, str]:
    return concept["coding"][0]["system"], concept["coding"][0]["code"]


# --- who, and in which stay -------------------------------------------------------------------------------------------


def test_an_admission_says_who_somebody_is_as_fr_core_has_it() -> None:
    conversion = converted(example("admission"))
    patient = only(conversion, "Patient")
    assert request_of(conversion, "Patient") == {"method": "PUT", "url": f"Patient?identifier={DOMAIN}|IPP-4711"}
    assert [(each["use"], each["system"], each["value"]) for each in patient["identifier"]] == [
        ("usual", DOMAIN, "IPP-4711"),
        ("official", INS, "255060000100183"),
    ]
    birth, usual = patient["name"]
    assert (birth["use"], birth["family"], birth["given"]) == ("official", "MOREAU", ["Élise"])
    assert birth["extension"][0]["valueString"] == "Élise Anne"
    assert (usual["use"], usual["family"]) == ("usual", "DURAND")
    reliability, place = patient["extension"]
    assert reliability["extension"][0]["valueCoding"]["code"] == "VALI"
    assert place["valueAddress"]["extension"][0]["valueCoding"]["code"] == "69123"
    assert [each["city"] for each in patient["address"]] == ["LYON"]  # where somebody was born is no address
    assert [(each["system"], each["use"]) for each in patient["telecom"][:1]] == [("phone", "mobile")]
    assert patient["contact"][0]["name"]["family"] == "MOREAU"
    assert patient["generalPractitioner"][0]["identifier"] == {
        "system": "https://rpps.esante.gouv.fr",
        "value": "10000000017",
    }


@pytest.mark.parametrize(
    ("change", "is_lost"),
    [
        (("|||||||||||||N||VALI", "|||||||||||||N||PROV"), True),
        (("|||||||||||||N||VALI", "|||||||||||||N||"), True),
        (("BDL^^69123", "BDL^^"), True),
        (("|19580412|", "|1958|"), True),
        (("|||||||||||||N||VALI", "|||||||||||||N||RECUP"), False),
    ],
)
def test_the_national_identifier_is_claimed_only_for_a_validated_identity_with_its_traits(
    change: tuple[str, str], *, is_lost: bool
) -> None:
    conversion = converted(changed("admission", change))
    systems = [each.get("system") for each in only(conversion, "Patient")["identifier"]]
    assert (INS in systems, "PID-3" in conversion.lost) == (not is_lost, is_lost)


BORN = "~^^LYON^^69000^FRA^BDL^^69123"


@pytest.mark.parametrize(
    ("changes", "may_stay"),
    [
        pytest.param([], True, id="its code"),
        pytest.param([(BORN, "")], True, id="nothing"),
        pytest.param([("BDL^^69123", "BDL^^")], False, id="no code"),
        pytest.param([(BORN, '~""')], False, id="taken back"),
        pytest.param([(BORN, ""), ("M||||||||||||||N", "M|||||||Lyon|||||||N")], False, id="words"),
        pytest.param([("N||VALI", "N||PROV")], False, id="provisional"),
    ],
)
def test_ins_7_who_is_qualified_stays_so_by_what_is_said_of_the_birth_place(
    changes: list[tuple[str, str]], *, may_stay: bool
) -> None:
    assert bool(converted(changed("admission", *changes)).validated) is may_stay


def test_a_stay_has_its_number_its_movement_and_its_unit() -> None:
    conversion = converted(example("admission"))
    stay = only(conversion, "Encounter")
    assert request_of(conversion, "Encounter")["method"] == "PUT"
    assert (stay["status"], stay["class"]["code"]) == ("in-progress", "IMP")
    assert [each["value"] for each in stay["identifier"][1:]] == ["SEJ-880", "MVT-1"]
    assert stay["period"] == {"start": "2026-04-01T08:00:00+02:00"}
    (place,) = stay["location"]
    assert (place["status"], place["location"]["display"]) == (
        "active",
        "Cardiologie 2104, HOPITAL-A, CARDIO, 101, 1",
    )
    assert stay["serviceProvider"] == SOURCE.organisation_reference
    assert [code_of(each["type"][0])[1] for each in stay["participant"]] == ["ATND", "ADM"]


def test_what_comes_with_an_admission() -> None:
    conversion = converted(example("admission"))
    assert code_of(only(conversion, "Condition")["code"]) == ("http://hl7.org/fhir/sid/icd-10", "I50.1")
    allergy = only(conversion, "AllergyIntolerance")
    assert (allergy["category"], allergy["criticality"]) == (["medication"], "high")
    assert allergy["reaction"][0]["severity"] == "severe"
    assert only(conversion, "Procedure")["performedDateTime"] == "2026-04-01T10:00:00+02:00"
    assert only(conversion, "Coverage")["subscriberId"] == "2550600001001"
    assert only(conversion, "RelatedPerson")["name"][0]["family"] == "MOREAU"
    assert conversion.lost == ("PD1-12", "ZBE-5", "GT1-2", "ZFA-1")
    assert conversion.at == datetime(2026, 4, 1, 8, tzinfo=PARIS)


def test_movements_are_versions_of_one_stay() -> None:
    admission, transfer, discharge = (converted(example(each)) for each in ("admission", "transfer", "discharge"))
    urls = {request_of(each, "Encounter")["url"] for each in (admission, transfer, discharge)}
    assert len(urls) == 1
    before, now = only(transfer, "Encounter")["location"]
    assert (before["status"], before["period"]) == ("completed", {"end": "2026-04-02T09:30:00+02:00"})
    assert (now["status"], now["location"]["display"][:10]) == ("active", "Réanimatio")
    left = only(discharge, "Encounter")
    assert (left["status"], left["period"]["end"]) == ("finished", "2026-04-05T10:30:00+02:00")
    assert left["hospitalization"]["dischargeDisposition"]["coding"][0]["code"] == "8"


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ("A01", "in-progress"),
        ("A02", "in-progress"),
        ("A03", "finished"),
        ("A04", "in-progress"),
        ("A05", "planned"),
        ("A06", "in-progress"),
        ("A08", "in-progress"),
        ("A11", "cancelled"),
        ("A12", "in-progress"),
        ("A13", "in-progress"),
    ],
)
def test_each_event_says_how_the_stay_goes(event: str, status: str) -> None:
    conversion = converted(changed("admission", ("ADT^A01", f"ADT^{event}")))
    assert only(conversion, "Encounter")["status"] == status


def test_a_discharge_that_is_cancelled_has_no_end() -> None:
    stay = only(converted(changed("discharge", ("ADT^A03", "ADT^A13"))), "Encounter")
    assert (stay["status"], "end" in stay["period"]) == ("in-progress", False)


def test_a_movement_that_is_cancelled_cancels_the_stay_it_began() -> None:
    stay = only(converted(changed("admission", ("|INSERT|", "|CANCEL|"))), "Encounter")
    assert stay["status"] == "cancelled"


def test_only_registrations_revise_who_somebody_is() -> None:
    """A transfer or a result tells little of the person: what is known is not replaced by it."""
    for name, method in (("admission", "PUT"), ("transfer", "POST"), ("biology", "POST"), ("merge", "POST")):
        assert request_of(converted(example(name)), "Patient")["method"] == method, name
    for name, expected in (("admission", {"Patient", "Encounter"}), ("biology", set())):
        conversion = converted(example(name))
        kinds = {
            each["resource"]["resourceType"]
            for each in conversion.bundle["entry"]
            if each["fullUrl"] in conversion.ordered
        }
        assert kinds & {"Patient", "Encounter"} == expected


def test_whatever_a_message_replaces_has_a_position() -> None:
    for name in NAMES:
        conversion = converted(example(name))
        listed = conversion.bundle.get("entry", ())
        assert {each["fullUrl"] for each in listed if each["request"]["method"] == "PUT"} == set(conversion.ordered)


def test_a_result_says_that_there_is_a_stay_and_not_how_it_goes() -> None:
    conversion = converted(example("biology"))
    request = request_of(conversion, "Encounter")
    assert (request["method"], request["url"]) == ("POST", "Encounter")
    query = request["ifNoneExist"]
    assert request_of(converted(example("admission")), "Encounter")["url"] == f"Encounter?{query}"
    assert only(conversion, "Encounter")["status"] == "unknown"


@pytest.mark.parametrize("event", ["A40", "A34"])
def test_a_merge_names_who_is_replaced_and_who_survives(event: str) -> None:
    conversion = converted(changed("merge", ("A40", event)))
    assert conversion.merge == ((DOMAIN, "IPP-4799"), (DOMAIN, "IPP-4711"))
    assert set(counted(conversion)) == {"Patient", "Provenance"}


def test_a_merge_without_the_replaced_is_refused() -> None:
    assert refusal(changed("merge", ("MRG|IPP-4799", "MRG|"))) == (Reason.REQUIRED_FIELD_MISSING, "MRG-1")


def test_who_is_known_by_the_national_identifier_alone_is_not_registered() -> None:
    conversion = converted(changed("biology", ("IPP-4711^^^HOPITAL-A^PI", f"255060000100183^^^INS&{INS[8:]}&ISO^INS")))
    assert made(conversion, "Patient") == []
    named = {each["subject"]["reference"] for each in made(conversion, "Observation")}
    assert named == {f"Patient?identifier={INS}|255060000100183"}
    assert "PID-5" in conversion.lost


def test_a_stay_to_be_kept_from_inquiries_is_restricted() -> None:
    pv2 = ("PV2|||I50", "PV2|||I50^Insuffisance cardiaque^CIM10" + "|" * 19 + "Y\rZZZ|")
    stay = only(converted(changed("admission", pv2)), "Encounter")
    assert stay["meta"]["security"][0]["code"] == "R"


# --- results ----------------------------------------------------------------------------------------------------------


def test_results_are_observations_in_a_report() -> None:
    conversion = converted(example("biology"))
    assert conversion.lost == ()
    values = {each["code"]["coding"][0]["code"]: each for each in made(conversion, "Observation")}
    potassium = values["2823-3"]
    assert str(potassium["valueQuantity"]["value"]) == "5.90"  # with the digits of the laboratory
    assert potassium["valueQuantity"]["code"] == "mmol/L"
    assert potassium["interpretation"][0]["coding"][0]["code"] == "H"
    bounds = potassium["referenceRange"][0]
    assert (str(bounds["low"]["value"]), str(bounds["high"]["value"])) == ("3.5", "5.1")
    assert potassium["note"] == [{"text": "Contrôlé"}]
    assert (values["33914-3"]["valueQuantity"]["comparator"], values["33914-3"]["status"]) == ("<", "preliminary")
    assert values["5778-6"]["valueCodeableConcept"]["coding"][0]["code"] == "371244009"
    assert values["8251-1"]["valueString"] == "Première ligne\nDeuxième ligne & fin"
    assert values["2951-2"]["valueString"] == "trop peu"  # what is no number is told as it was written
    report = made(conversion, "DiagnosticReport")[0]
    assert (report["status"], report["conclusion"], len(report["result"])) == ("final", "Prélèvement non hémolysé", 5)
    (order,) = report["contained"]
    assert order["requester"]["identifier"]["value"] == "810000000025"
    assert only(conversion, "Specimen")["collection"]["collectedDateTime"] == "2026-04-01T08:55:00+02:00"


def test_what_follows_from_a_culture_is_a_member_of_it() -> None:
    conversion = converted(example("biology"))
    by_code = {each["code"]["coding"][0]["code"]: each for each in made(conversion, "Observation")}
    urls = {each["resource"]["code"]["coding"][0]["code"]: each["fullUrl"] for each in _observed(conversion.bundle)}
    assert by_code["6463-4"]["hasMember"] == [{"reference": urls["18864-9"]}]
    assert by_code["18864-9"]["derivedFrom"] == [{"reference": urls["6463-4"]}]
    assert by_code["18864-9"]["interpretation"][0]["coding"][0]["code"] == "R"


OTHER_CULTURE = (
    "OBR|4|P-77^CARDIO|F-58^LABO|600-7^Hémoculture^LN|||20260401090000+0200|||||||||||||||||MB|P\r"
    "OBX|1|CE|6463-4^Germe^LN|1|3092008^Staphylococcus aureus^SCT||||||P\r"
)


@pytest.mark.parametrize(
    ("order", "germ", "lost"),
    [
        ("^F-56&LABO", "112283007", False),
        ("^F-58&LABO", "3092008", False),
        ("", None, True),
        ("^F-99&LABO", None, True),
    ],
)
def test_a_susceptibility_is_of_the_germ_of_its_order(order: str, germ: str | None, lost: bool) -> None:
    """Two cultures number their isolates alike: the order tells which, and without it none is guessed."""
    own = "OBR|3|P-77^CARDIO|F-57^LABO"
    data = changed("biology", (own, OTHER_CULTURE + own), ("LN^1|||^F-56&LABO", f"LN^1^E. coli|||{order}"))
    conversion = converted(data)
    named = {each["fullUrl"]: each["resource"] for each in _observed(conversion.bundle)}
    (tested,) = (each for each in named.values() if each["code"]["coding"][0]["code"] == "18864-9")
    germs = [named[each["reference"]] for each in tested.get("derivedFrom", ())]
    assert [each["valueCodeableConcept"]["coding"][0]["code"] for each in germs] == ([germ] if germ else [])
    assert ("OBR[4]-26" in conversion.lost, tested.get("note")) == (lost, [{"text": "E. coli"}] if lost else None)


def _observed(bundle: Any) -> Iterator[Any]:
    return (each for each in bundle["entry"] if each["resource"]["resourceType"] == "Observation")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *(("F", "final"), ("P", "preliminary"), ("C", "corrected"), ("W", "entered-in-error")),
        *(("D", "entered-in-error"), ("X", "cancelled"), ("I", "registered"), ("", "unknown")),
    ],
)
def test_a_correction_meets_the_result_that_it_corrects(status: str, expected: str) -> None:
    line = "|5.90|mmol/L^^UCUM|3.5-5.1|H|||{}|||2026"
    first = converted(example("biology"))
    again = converted(
        changed("biology", (line.format("F"), line.format(status).replace("5.90", "4.20")), ("SIL-2001", "SIL-2002"))
    )
    assert [each["request"]["url"] for each in _observed(first.bundle)] == [
        each["request"]["url"] for each in _observed(again.bundle)
    ]
    corrected = made(again, "Observation")[0]
    assert (corrected["status"], str(corrected["valueQuantity"]["value"])) == (expected, "4.20")


def test_other_orders_and_other_senders_never_meet() -> None:
    def urls(data: bytes) -> set[str]:
        return {each["request"]["url"] for each in _observed(converted(data).bundle)}

    first = urls(example("biology"))
    assert first.isdisjoint(urls(changed("biology", ("F-55", "F-95"), ("F-56", "F-96"), ("F-57", "F-97"))))
    assert first.isdisjoint(urls(changed("biology", ("|SIL|LABO|", "|SIL|AUTRE|"))))


@pytest.mark.parametrize(
    ("kind", "value", "element", "expected"),
    [
        ("NM", "-0.50", "valueQuantity", "-0.50"),
        ("NM", "<0,5", "valueQuantity", "0.5"),
        ("SN", "^1^:^128", "valueRatio", None),
        ("SN", "^10^-^20", "valueRange", None),
        ("SN", ">^10^x", "valueString", ">^10^x"),
        ("CE", "^texte", "valueCodeableConcept", None),
        ("DT", "20260229", "valueString", "20260229"),
        ("TS", "20260401083000.123+0200", "valueDateTime", "2026-04-01T08:30:00.123000+02:00"),
        ("TS", "190001011200", "valueDateTime", "1900-01-01T11:50:39+00:00"),
        ("TM", "0830", "valueTime", "08:30:00"),
        ("FT", "a\\.br\\b\\F\\c", "valueString", "a\nb|c"),
        ("XX", "quoi", "valueString", "quoi"),
        ("NM", "1~2", "component", None),
    ],
)
def test_values_by_their_type(kind: str, value: str, element: str, expected: str | None) -> None:
    data = changed("biology", ("OBX|1|NM|2823-3^Potassium^LN||5.90|", f"OBX|1|{kind}|2823-3^Potassium^LN||{value}|"))
    observation = made(converted(data), "Observation")[0]
    assert element in observation
    if expected is not None:
        found = observation[element]
        assert str(found["value"] if element == "valueQuantity" else found) == expected


def test_documents_in_a_message_are_published() -> None:
    conversion = converted(kinds.oru(kinds.ed(kinds.pdf()), "OBX|2|NM|718-7^Hb^LN||13.4|g/dL|||||F"))
    assert {"DocumentReference", "Binary", "Observation"} <= set(counted(conversion))


def test_the_message_itself_is_kept_unless_it_is_about_identity_or_brings_documents() -> None:
    conversion = converted(example("biology"))
    (document,) = made(conversion, "DocumentReference")
    assert document["content"][0]["attachment"]["contentType"] == "application/hl7-v2"
    assert base64.b64decode(only(conversion, "Binary")["data"]) == example("biology")
    assert len(conversion.copies) == 1
    for other in (example("merge"), changed("admission", ("A01", "A31")), kinds.oru(kinds.ed(kinds.pdf()))):
        assert converted(other).copies == frozenset()


MASK = "OBX|8|CE|MASQUE_PS^Masqué^MetaDMPMSS||Y^^expandedYes-NoIndicator||||||F"
RESULT = "OBX|2|NM|718-7^Hb^LN||13.4|g/dL|||||F"


@pytest.mark.parametrize("document", [kinds.ed(kinds.pdf()), "OBX|1|ST|X^Y^LN||Z||||||F"])
def test_what_is_hidden_is_hidden_in_whatever_is_made_of_it(document: str) -> None:
    conversion = converted(kinds.oru(document, RESULT, MASK))
    codes = {each["code"]["coding"][0]["code"]: each for each in made(conversion, "Observation")}
    assert "MASQUE_PS" not in codes
    assert [each["code"] for each in codes["718-7"]["meta"]["security"]] == ["MASQUE_PS"]
    assert [each["code"] for each in only(conversion, "DiagnosticReport")["meta"]["security"]] == ["MASQUE_PS"]
    assert only(conversion, "DocumentReference")["securityLabel"][0]["coding"][0]["code"] == "MASQUE_PS"
    shown = converted(kinds.oru(document, RESULT, MASK.replace("||Y^", "||N^")))
    assert all("meta" not in each for each in made(shown, "Observation"))


def test_a_document_that_is_taken_back_is_withdrawn() -> None:
    conversion = converted(kinds.oru(kinds.ed(kinds.pdf(), status="D")))
    assert len(conversion.withdrawn) == 1
    assert made(conversion, "DocumentReference") == []


# --- orders, medicines, vaccines, appointments ------------------------------------------------------------------------


def test_an_order_is_a_service_request() -> None:
    conversion = converted(example("order"))
    order = only(conversion, "ServiceRequest")
    assert (order["status"], order["priority"], order["intent"]) == ("active", "stat", "order")
    assert order["occurrenceDateTime"] == "2026-04-02T08:00:00+02:00"
    assert order["note"] == [{"text": "Diurétiques en cours"}]
    assert len(order["reasonReference"]) == 1
    cancelled = only(converted(changed("order", ("ORC|NW", "ORC|CA"))), "ServiceRequest")
    assert cancelled["status"] == "revoked"


def test_an_order_for_a_medicine_is_a_medication_request() -> None:
    request = only(converted(example("pharmacy")), "MedicationRequest")
    assert (request["status"], request["intent"]) == ("active", "order")
    assert code_of(request["medicationCodeableConcept"])[1] == "3400930000011"
    (dosage,) = request["dosageInstruction"]
    assert dosage["text"] == "QD, le matin"
    assert str(dosage["doseAndRate"][0]["doseRange"]["high"]["value"]) == "80"
    assert dosage["timing"]["repeat"]["boundsPeriod"] == {"start": "2026-04-01", "end": "2026-04-28"}
    assert request["dispenseRequest"]["numberOfRepeatsAllowed"] == 2
    for action, status in (("DC", "stopped"), ("CA", "cancelled"), ("HD", "on-hold")):
        ended = only(converted(changed("pharmacy", ("ORC|NW", f"ORC|{action}"))), "MedicationRequest")
        assert ended["status"] == status


def test_a_vaccination_and_one_that_was_refused() -> None:
    given_ = only(converted(example("vaccine")), "Immunization")
    assert (given_["status"], given_["lotNumber"], given_["primarySource"]) == ("completed", "LOT-12", True)
    refused = only(converted(changed("vaccine", ("|CP|A", "|RE|A"))), "Immunization")
    assert refused["status"] == "not-done"
    deleted = only(converted(changed("vaccine", ("|CP|A", "|CP|D"))), "Immunization")
    assert deleted["status"] == "entered-in-error"


@pytest.mark.parametrize(
    ("event", "status"),
    [("S12", "booked"), ("S13", "booked"), ("S14", "booked"), ("S15", "cancelled"), ("S26", "noshow")],
)
def test_appointments(event: str, status: str) -> None:
    conversion = converted(changed("appointment", ("SIU^S12", f"SIU^{event}")))
    appointment = only(conversion, "Appointment")
    assert (appointment["status"], appointment["minutesDuration"]) == (status, 30)
    assert appointment["start"] == "2026-04-10T14:00:00+02:00"
    assert [each["actor"].get("type") for each in appointment["participant"][1:]] == ["Practitioner", "Location"]
    assert request_of(conversion, "Appointment") == request_of(converted(example("appointment")), "Appointment")


def test_problems_last() -> None:
    problem = only(converted(example("problem")), "Condition")
    assert (code_of(problem["category"][0])[1], problem["onsetDateTime"]) == ("problem-list-item", "2015-03-01")
    ended = only(converted(changed("problem", ("PRB|AD", "PRB|DE"))), "Condition")
    assert (code_of(ended["verificationStatus"])[1], "clinicalStatus" in ended) == ("entered-in-error", False)


# --- every message ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_message_says_where_its_resources_are_from(name: str) -> None:
    conversion = converted(example(name))
    provenance = only(conversion, "Provenance")
    listed = {each["reference"] for each in provenance["target"]}
    entries = conversion.bundle["entry"][:-1]
    assert listed == {each["fullUrl"] for each in entries if each["resource"]["resourceType"] != "Binary"}
    assert provenance["entity"][0]["what"]["display"] == conversion.kind
    assert converted(example(name)) == conversion  # the same message, the same resources


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("ADT^A01^ADT_A01", "ACK^A01^ACK"), (Reason.UNSUPPORTED_MESSAGE_TYPE, "MSH-9")),
        (("ADT^A01^ADT_A01", "ADT^A17^ADT_A17"), (Reason.UNSUPPORTED_EVENT, "MSH-9")),
        (("\rPID|", "\rXXX|"), (Reason.SEGMENT_SEQUENCE, "PID")),
        (("IPP-4711^^^HOPITAL-A^PI~255060000100183^^^", "^^^"), (Reason.REQUIRED_FIELD_MISSING, "PID-3")),
        (("MSH|^~\\&", "MSH|||||"), (Reason.SEGMENT_SEQUENCE, "MSH")),
    ],
)
def test_refusals_say_what_is_wrong(change: tuple[str, str], expected: tuple[Reason, str]) -> None:
    assert refusal(changed("admission", change)) == expected


def test_codes_of_the_sender_stay_the_senders() -> None:
    data = changed("biology", ("2823-3^Potassium^LN", "K^Potassium^99SIL"))
    assert code_of(made(converted(data), "Observation")[0]["code"]) == (f"{DOMAIN}#codes:99SIL", "K")


def test_nothing_of_a_message_is_in_what_is_lost_or_in_a_refusal() -> None:
    data = changed("admission", ("ZFA|ACTIF", "SECRET^PATIENT|ACTIF"))
    lost = converted(data).lost
    assert lost[-1] == "???-2"
    assert all("SECRET" not in each for each in lost)


MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.integers(0, 3_000),
        st.sampled_from(["|", "^", "&", "~", "\\", "\r", '""', "9" * 20, "é", "\x85", "-", "<", "|||||"]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=150)
@given(st.sampled_from(NAMES), MUTATIONS)
def test_whatever_is_sent_is_converted_to_valid_fhir_or_refused(
    name: str, mutations: list[tuple[int, int, str]]
) -> None:
    text = example(name).decode()
    for way, place, sign in mutations:
        at = place % (len(text) or 1)
        lines = text.split("\r")
        if way == 0:
            text = text[:at]
        elif way == 1:
            text = text[:at] + sign + text[at:]
        elif way == 2:
            text = text[:at] + text[at + 17 :]
        elif way == 3:
            text = "\r".join([*lines[:1], *lines[:0:-1]])
        elif way == 4:
            text = "\r".join([*lines, lines[place % len(lines)]])
        else:
            text = text.replace(lines[place % len(lines)], "")
    try:
        conversion = convert(text.encode(), SOURCE)
    except RefusedMessage:
        return
    check(conversion)


# --- real messages ----------------------------------------------------------------------------------------------------


def test_real_messages_become_what_was_read_and_found_right(shared_data: Path) -> None:
    """`tests/expectations/hl7v2.txt`: what is made of each, and which of its fields are lost."""
    assert "\n".join(expectations(shared_data)).splitlines() == EXPECTATIONS.read_text("utf-8").splitlines()


def expectations(shared_data: Path) -> Iterator[str]:
    seen: Counter[str] = Counter()
    with lzma.open(shared_data / "hl7v2_messages.ndjson.xz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            name = row["file"].rpartition("/")[2].replace(" ", "_")
            seen[name] += 1
            yield f"{name} ({seen[name]}): {_told(row['text'].encode())}"


def _told(data: bytes) -> str:
    try:
        conversion = convert(data, SOURCE)
    except RefusedMessage as refused:
        return f"refused: {refused.reason.name.lower()} {refused.path}".rstrip()
    check(conversion)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(counted(conversion).items()))
    parts = [conversion.kind, counts or "nothing"]
    if conversion.merge:
        parts.append("merge")
    if conversion.withdrawn:
        parts.append(f"{len(conversion.withdrawn)} withdrawn")
    if conversion.lost:
        parts.append(f"lost {' '.join(dict.fromkeys(each.partition('/')[0] for each in conversion.lost))}")
    return "; ".join(parts)
