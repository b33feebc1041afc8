"""Dosages in French words."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from passerelle.fhir.prescriptions.posology import dosage_in_words, instruction
from passerelle.prescriptions.letters import in_letters

UCUM = "http://unitsofmeasure.org"


def dose(value: Any, unit: str) -> list[dict[str, Any]]:
    return [{"doseQuantity": {"value": Decimal(value), "unit": unit}}]


def days(value: int) -> dict[str, Any]:
    return {"value": Decimal(value), "unit": "jours", "system": UCUM, "code": "d"}


SAID = [
    ({"frequency": 3, "period": 1, "periodUnit": "d"}, "1 comprimé 3 fois par jour"),
    ({"frequency": 1, "period": 8, "periodUnit": "h"}, "1 comprimé toutes les 8 heures"),
    ({"frequency": 2, "period": 3, "periodUnit": "d"}, "1 comprimé 2 fois tous les 3 jours"),
    ({"frequency": 1, "frequencyMax": 3, "period": 1, "periodUnit": "d"}, "1 comprimé 1 à 3 fois par jour"),
    ({"period": 1, "periodUnit": "d", "when": ["MORN", "EVE"]}, "1 comprimé le matin et le soir"),
    ({"when": ["ACV"], "offset": 30}, "1 comprimé 30 minutes avant le dîner"),
    ({"frequency": 1, "period": 1, "periodUnit": "wk", "dayOfWeek": ["mon"]}, "1 comprimé 1 fois par semaine le lundi"),
    ({"timeOfDay": ["08:00:00", "20:00:00"]}, "1 comprimé à 08 h 00 et 20 h 00"),
    (
        {"frequency": 1, "period": 1, "periodUnit": "d", "boundsDuration": days(10)},
        "1 comprimé 1 fois par jour, pendant 10 jours",
    ),
    (
        {"frequency": 1, "period": 1, "periodUnit": "d", "boundsPeriod": {"start": "2026-03-02", "end": "2026-03-09"}},
        "1 comprimé 1 fois par jour, à partir du 02/03/2026 jusqu'au 09/03/2026",
    ),
]


@pytest.mark.parametrize(("repeat", "words"), SAID, ids=[words for _, words in SAID])
def test_a_dosage_is_said_in_words(repeat: dict[str, Any], words: str) -> None:
    assert dosage_in_words({"timing": {"repeat": repeat}, "doseAndRate": dose(1, "comprimé")}) == words


def test_all_that_goes_with_it_is_said() -> None:
    dosage = {
        "doseAndRate": [{"doseRange": {"low": {"value": 1}, "high": {"value": 2, "unit": "comprimé"}}}],
        "timing": {"repeat": {"frequency": 1, "period": 6, "periodUnit": "h"}},
        "asNeededCodeableConcept": {"text": "douleur"},
        "maxDosePerPeriod": {"numerator": {"value": 8, "unit": "comprimé"}, "denominator": {"value": 1, "code": "d"}},
        "route": {"coding": [{"display": "voie orale"}]},
        "additionalInstruction": [{"text": "à jeun"}],
    }
    words = "1 à 2 comprimés toutes les 6 heures, si besoin (douleur), maximum 8 comprimés par jour, voie orale, à jeun"
    assert dosage_in_words(dosage) == words


def test_amounts_agree_with_their_nouns_in_letters() -> None:
    dosage = {"doseAndRate": dose(1, "gélule"), "timing": {"repeat": {"frequency": 1, "period": 12, "periodUnit": "h"}}}
    assert dosage_in_words(dosage, in_letters) == "une gélule toutes les douze heures"
    once = {
        "doseAndRate": dose("0.5", "comprimé"),
        "timing": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}},
    }
    assert dosage_in_words(once, in_letters) == "un demi comprimé une fois par jour"


def test_what_the_prescriber_wrote_goes_first() -> None:
    timing = {"repeat": {"frequency": 3, "period": 1, "periodUnit": "d"}}
    structured = {"timing": timing, "doseAndRate": dose(1, "comprimé")}
    rendered = {
        "url": "http://hl7.org/fhir/5.0/StructureDefinition/extension-MedicationRequest.renderedDosageInstruction",
        "valueMarkdown": "Un comprimé à chaque repas",
    }
    request = {"extension": [rendered], "dosageInstruction": [{**structured, "text": "1 cp x 3/j"}]}
    assert instruction(request) == "Un comprimé à chaque repas"
    del request["extension"]
    assert instruction(request) == "1 cp x 3/j"
    spelt = instruction(request, in_letters, is_spelt=True)
    assert spelt == "1 cp x 3/j - un comprimé trois fois par jour"


def test_dosages_run_together_or_one_after_the_other() -> None:
    one, two = ({"doseAndRate": dose(each, "comprimé"), "timing": {"repeat": {"when": ["HS"]}}} for each in (1, 2))
    assert instruction({"dosageInstruction": [one, two]}) == "1 comprimé au coucher ; 2 comprimés au coucher"
    steps = [{**one, "sequence": 1}, {**two, "sequence": 2}]
    assert instruction({"dosageInstruction": steps}) == "1 comprimé au coucher, puis 2 comprimés au coucher"
