"""The printed prescription: what it says, its QR code, and that the same input gives the same bytes."""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import segno

from passerelle.fhir import json as fhir_json
from passerelle.fhir.prescriptions.paper import grouped, render_paper, url_of, written
from passerelle.prescriptions.model import Prescription
from tests.prescribing import GROUP, LINE

CODE = "MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43UOV3HO6DZPIYTEMZUGU3A"
UCUM = "http://unitsofmeasure.org"


def stated(*names: str) -> list[dict[str, Any]]:
    root = f"{GROUP.base_url}/StructureDefinition/rx-"
    return [{"url": root + name, "valueBoolean": True} for name in names]


def line(id: str, product: str, **elements: Any) -> dict[str, Any]:
    supply = {"quantity": {"value": Decimal(28), "unit": "gélule"}}
    return {
        "id": id,
        "medicationCodeableConcept": {"text": product},
        "requester": {"display": "Dr Hélène Œuvrard"},
        "dosageInstruction": [{"text": "1 gélule matin et soir"}],
        "dispenseRequest": supply,
        **elements,
    }


def prescription(*lines: dict[str, Any], states: str = "") -> Prescription:
    patient = {
        "ins": ["urn:oid:1.2.250.1.213.1.4.10|155069900000102"],
        "family": ["ŁUKASZ"],
        "given": ["Zoë"],
        "birthDate": "1955-06-01",
        "gender": "female",
    }
    content = {"authoredOn": "2026-03-02", "requester": GROUP.prescriber, "patient": patient, "lines": lines}
    group = replace(GROUP, signed=fhir_json.dumps(content).decode(), jws="..", signed_at="2026-03-02T09:30:00+00:00")
    kept = (
        replace(LINE, number=number, request_id=each["id"], state=state)
        for number, (each, state) in enumerate(zip(lines, states or "R" * len(lines), strict=True), 1)
    )
    return Prescription(group=group, lines=tuple(kept))


def drawn(pdf: bytes) -> str:
    """The page descriptions, in clear."""
    streams = re.findall(rb"stream\n(.*?)\nendstream", pdf, re.DOTALL)
    return "\n".join(zlib.decompress(each).decode("cp1252") for each in streams)


def said(pdf: bytes) -> str:
    texts = re.findall(r"\((.*?)(?<!\\)\) Tj", drawn(pdf), re.DOTALL)
    return " ".join(re.sub(r"\\(.)", r"\1", each) for each in texts)


def test_the_same_prescription_gives_the_same_bytes() -> None:
    whole = prescription(line("a", "EXEMPLINE 500 mg"))
    assert render_paper(whole, CODE) == render_paper(whole, CODE)
    assert render_paper(whole, CODE)[:5] == b"%PDF-"


def test_who_for_whom_when_and_how_to_find_it() -> None:
    text = said(render_paper(prescription(line("a", "EXEMPLINE 500 mg")), CODE))
    for expected in (
        "Dr Hélène Œuvrard",
        f"RPPS {GROUP.prescriber}",
        GROUP.practice,
        "Le 02/03/2026",
        "Zoë LUKASZ",
        "Né(e) le 01/06/1955 - Sexe F",
        "INS 1550699000001 02 (identité de test)",
        "1. EXEMPLINE 500 mg",
        "1 gélule matin et soir",
        "Quantité : 28 gélules - Non renouvelable",
        "7K3M-9QX2-V5T8-R1HN-B4J1",
        "La forme électronique de cette ordonnance fait seule foi.",
        "page 1/ 1",
    ):
        assert expected in text


def test_names_are_those_that_the_signed_line_contains() -> None:
    doctor = {
        "resourceType": "Practitioner",
        "id": "p",
        "name": [{"prefix": ["Dr"], "given": ["Max"], "family": "NOM"}],
    }
    role = {
        "resourceType": "PractitionerRole",
        "id": "r",
        "practitioner": {"reference": "#p"},
        "organization": {"display": "Cabinet du Port"},
    }
    parts = [{"itemCodeableConcept": {"text": each}} for each in ("ACIDE 2 %", "VASELINE")]
    mixture = {"resourceType": "Medication", "id": "m", "ingredient": parts}
    whole = line("a", "", contained=[doctor, role, mixture], requester={"reference": "#r"})
    del whole["medicationCodeableConcept"]
    whole["medicationReference"] = {"reference": "#m"}
    text = said(render_paper(prescription(whole), CODE))
    assert "Dr Max NOM, Cabinet du Port" in text
    assert "1. ACIDE 2 % + VASELINE" in text


def test_the_qr_code_is_the_address_and_the_access_code() -> None:
    whole = prescription(line("a", "EXEMPLINE 500 mg"))
    symbol = segno.make(url_of(whole.group, CODE), error="m", micro=False)
    found = re.findall(r"([\d.]+) ([\d.]+) ([\d.]+) (-?[\d.]+) re f", drawn(render_paper(whole, CODE)))
    boxes = [tuple(map(float, each)) for each in found]
    size = abs(boxes[0][3])
    left, top = min(x for x, *_ in boxes), max(y for _, y, *_ in boxes)
    dark = {
        (round((top - y) / size), round((x - left) / size) + step)
        for x, y, width, _ in boxes
        for step in range(round(width / size))
    }
    assert dark == {(y, x) for y, row in enumerate(symbol.matrix) for x, module in enumerate(row) if module}
    assert url_of(whole.group, CODE) == f"{GROUP.base_url}/r/{GROUP.number}#{CODE}"


def test_two_zones_when_a_line_is_for_a_long_term_illness() -> None:
    one = line("a", "HABITUELLE 5 mg", extension=stated("ald"))
    text = said(render_paper(prescription(line("b", "PASSAGERE 1 g"), one), CODE))
    order = ["AFFECTION EXONÉRANTE", "1. HABITUELLE", "MALADIES INTERCURRENTES", "2. PASSAGERE"]
    assert [text.index(each) for each in order] == sorted(text.index(each) for each in order)
    assert "MALADIES" not in said(render_paper(prescription(line("b", "PASSAGERE 1 g")), CODE))


def test_narcotics_are_written_in_letters() -> None:
    timing = {"repeat": {"frequency": 1, "period": 12, "periodUnit": "h"}}
    dosage = {
        "text": "1 gélule matin et soir",
        "timing": timing,
        "doseAndRate": [{"doseQuantity": {"value": 1, "unit": "gélule"}}],
    }
    secure = line("a", "MORPHINE LP 30 mg", extension=stated("secure-prescription"), dosageInstruction=[dosage])
    text = said(render_paper(prescription(secure), CODE))
    assert "une gélule toutes les douze heures" in text
    assert "Quantité : vingt-huit gélules" in text


def test_what_the_prescriber_states_is_printed() -> None:
    supply = {
        "numberOfRepeatsAllowed": 5,
        "expectedSupplyDuration": {"value": 28, "unit": "jours", "system": UCUM, "code": "d"},
        "validityPeriod": {"end": "2026-09-02"},
    }
    substitution = {"allowedBoolean": False, "reason": {"coding": [{"code": "MTE"}]}}
    mentions = stated("at-mp", "off-label", "non-reimbursable")
    whole = line("a", "LEVO 75 µg", dispenseRequest=supply, substitution=substitution, extension=mentions)
    text = said(render_paper(prescription(whole), CODE))
    for expected in (
        "Durée : 28 jours - À renouveler 5 fois",
        "Valable jusqu’au 02/09/2026",
        "NON SUBSTITUABLE (MTE)",
        "accident du travail",
        "hors autorisation de mise sur le marché",
        "Non remboursable",
    ):
        assert expected in text


def test_a_line_that_is_closed_is_struck_out() -> None:
    text = said(render_paper(prescription(line("a", "UNE"), line("b", "AUTRE"), states="RK"), CODE))
    assert "2. AUTRE [ligne close : ne plus délivrer]" in text
    assert "1. UNE [" not in text


def test_twenty_lines_go_over_several_numbered_pages() -> None:
    lines = [line(str(number), f"EXEMPLINE {number} mg") for number in range(20)]
    text = said(render_paper(prescription(*lines), CODE))
    pages = int(re.findall(r"page 1/ ?(\d+)", text)[0])
    assert pages > 1
    assert f"page {pages}/ {pages}" in text
    assert all(f"EXEMPLINE {number} mg" in text for number in range(20))


@pytest.mark.parametrize(
    ("text", "expected"), [("œuf’…", "œuf’…"), ("Łódź Đurić", "Lódz Duric"), ("İıŞ", "IiS"), ("山", "?")]
)
def test_letters_that_the_fonts_lack_become_their_nearest(text: str, expected: str) -> None:
    assert written(text) == expected


def test_only_what_is_signed_is_printed() -> None:
    with pytest.raises(ValueError, match="signed"):
        render_paper(Prescription(group=GROUP, lines=(LINE,)), CODE)


def test_a_number_is_printed_in_groups_of_four() -> None:
    assert grouped("7K3M9QX2V5T8R1HNB4J1") == "7K3M-9QX2-V5T8-R1HN-B4J1"
