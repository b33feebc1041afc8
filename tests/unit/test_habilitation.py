"""The matrix of professions and kinds of documents: what was published of it, and what it may never do."""

from __future__ import annotations

import pytest

from passerelle.access import Caller, Scopes
from passerelle.consents.habilitation import CODE, Row, code_labels, is_known, row_of
from passerelle.directory.model import CARE_ROLES, Role

LOINC = "http://loinc.org"
A03 = "https://mos.esante.gouv.fr/NOS/TRE_A03-ClasseDocument/FHIR/TRE-A03-ClasseDocument"
A05 = "https://mos.esante.gouv.fr/NOS/TRE_A05-TypeDocComplementaire/FHIR/TRE-A05-TypeDocComplementaire"
RESIDENCE, DIRECTIVES = f"{A05}|ATTEST-RESID", f"{A05}|EXPPAT_3"
DELIVERY, SYNTHESIS, PSYCHIATRY = f"{LOINC}|15508-5", f"{LOINC}|60591-5", f"{LOINC}|68599-0"
REIMBURSEMENT = f"{A03}|60"
PROFESSIONS = ("10", "21", "26", "28", "40", "50", "60", "70", "80", "91", "92", "93", "94", "95", "96", "98", "SOC")
PHYSICIAN, DENTIST, PODOLOGIST = "10", "40", "80"


def row(profession: str | None, role: str = Role.PRACTICE) -> Row | None:
    return row_of(
        Caller(client_id="c", organisation="o", role=role, scopes=Scopes(frozenset()), token_id="t"), profession
    )


def sees(profession: str, *codes: str, type: str = "DocumentReference") -> bool:
    found = row(profession)
    assert found is not None
    return found.shows(type, codes)


@pytest.mark.parametrize(
    ("profession", "code", "is_seen"),
    [
        pytest.param(PHYSICIAN, RESIDENCE, False, id="physicians see all but the attestation de résidence"),
        pytest.param(PHYSICIAN, PSYCHIATRY, True, id="a psychiatric synthesis among it"),
        pytest.param(PHYSICIAN, DIRECTIVES, True, id="and directives"),
        pytest.param(DENTIST, PSYCHIATRY, False, id="dentists no psychiatric synthesis"),
        pytest.param(DENTIST, f"{LOINC}|83901-9", False, id="no psychological assessment"),
        pytest.param(DENTIST, f"{LOINC}|75496-0", False, id="no request of telemedicine"),
        pytest.param(DENTIST, f"{LOINC}|83981-1", False, id="no letter of a social structure"),
        pytest.param(DENTIST, f"{LOINC}|80788-3", False, id="no accompaniment project"),
        pytest.param(DENTIST, DIRECTIVES, False, id="DMP-29 directives"),
        pytest.param(DENTIST, DELIVERY, True, id="dentists see obstetrics"),
        pytest.param(PODOLOGIST, DELIVERY, False, id="DMP-29 obstetrics"),
        pytest.param(PODOLOGIST, SYNTHESIS, True, id="podologists see a synthesis"),
    ],
)
def test_what_a_profession_sees(profession: str, code: str, is_seen: bool) -> None:
    assert sees(profession, code) is is_seen


@pytest.mark.parametrize("profession", PROFESSIONS)
def test_no_profession_sees_what_physicians_do_not_but_social_work(profession: str) -> None:
    if profession != "SOC":
        assert not sees(profession, RESIDENCE)


@pytest.mark.parametrize("profession", PROFESSIONS)
def test_another_code_of_a_hidden_document_does_not_show_it(profession: str) -> None:
    for hidden in (RESIDENCE, DELIVERY, PSYCHIATRY, DIRECTIVES):
        if profession != "SOC" and not sees(profession, hidden):
            assert not sees(profession, hidden, f"{A03}|10", SYNTHESIS)


def test_a_row_that_allows_shows_nothing_else() -> None:
    payer = row(None, Role.PAYER)
    assert payer is not None
    assert payer.shows("DocumentReference", [REIMBURSEMENT])
    assert payer.shows("ExplanationOfBenefit", [])
    assert not payer.shows("DocumentReference", [SYNTHESIS])
    assert not payer.shows("DocumentReference", [])
    assert not payer.shows("Observation", [])
    assert not payer.shows("MedicationRequest", [])
    assert not sees("SOC", "", type="Observation")
    assert sees("SOC", type="CarePlan")


def test_who_is_not_in_the_matrix_has_no_row() -> None:
    for profession in (None, "", "0", "médecin"):
        assert row(profession) is None
        assert not is_known(Role.PRACTICE, profession)
    assert all(is_known(role, "10") for role in CARE_ROLES)


def test_patients_and_who_acts_for_them_are_not_in_a_profession() -> None:
    for role in (Role.PATIENT, Role.REPRESENTATIVE):
        found = row(None, role)
        assert found is not None
        assert found.is_open


def test_documents_are_labelled_by_what_is_hidden_from_somebody() -> None:
    """So that what hides them is read with the record, and what speaks of them goes with them."""
    assert code_labels([("http://loinc.org", "15508-5"), ("http://loinc.org", "60591-5")]) == {f"{CODE}{DELIVERY}"}
    assert code_labels([(A03, "10"), ("http://example.org", "15508-5")]) == frozenset()
