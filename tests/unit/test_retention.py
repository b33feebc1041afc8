"""How long a content cannot be deleted: by class of document, as the table of the country says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from passerelle.documents import retention
from passerelle.documents.retention import Code, Retention, years_of

CLASS = "https://mos.esante.gouv.fr/NOS/TRE_A03-ClasseDocument/FHIR/TRE-A03-ClasseDocument"
LOINC = "http://loinc.org"
AT = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
FOR_EVER = Retention(at_most=timedelta(days=36_525))


@pytest.mark.parametrize(
    ("codes", "years"),
    [
        ([(CLASS, "10"), (LOINC, "11488-4")], 20),
        ([(CLASS, "31")], 20),
        ([], 20),  # nobody knows what it is: as if it were part of the medical file
        ([(CLASS, "10"), (LOINC, "51969-4")], 30),
        ([(CLASS, "90")], 0),
        ([(CLASS, "90"), (LOINC, "51969-4")], 0),  # the patient's own copy
        ([("urn:oid:2.999.5", "90"), (LOINC, "11488-4")], 20),  # the code of another system
    ],
)
def test_years_by_class(codes: list[Code], years: int) -> None:
    assert years_of(codes) == years


def test_the_period_runs_from_the_publication_and_is_never_shorter_than_the_law() -> None:
    until = FOR_EVER.until([(LOINC, "11488-4")], AT)
    assert until is not None
    assert AT.replace(year=2046) <= until < AT.replace(year=2046) + timedelta(days=1)
    leap_day = datetime(2028, 2, 29, tzinfo=UTC)
    later = FOR_EVER.until([], leap_day)
    assert later is not None
    assert later >= datetime(2048, 2, 29, tzinfo=UTC)


def test_the_operator_may_allow_less() -> None:
    assert Retention(at_most=timedelta()).until([], AT) is None
    assert Retention(at_most=timedelta(days=30)).until([], AT) == AT + timedelta(days=30)
    assert FOR_EVER.until([(CLASS, "90")], AT) is None


def test_every_rule_has_a_source_and_the_last_is_for_the_rest() -> None:
    folder = Path(str(retention.__file__)).parent / "data"
    rules = json.loads((folder / "retention_fr.json").read_text("utf-8"))["rules"]
    assert all(rule["source"] for rule in rules)
    assert "class" not in rules[-1]
    assert "type" not in rules[-1]
