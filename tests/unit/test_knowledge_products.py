"""Products from the five files of the BDPM (e-prescription contract, 11 and 20.4): the sample, edges of the form."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from knowledge.bdpm import FILES, PRESENTATION, SAMPLE, SPECIALITY, Names, ProductFileError, decoded, read
from knowledge.conditions import supply
from passerelle.medicines.compiled import CompiledKnowledge
from passerelle.medicines.model import Concept, Product, Treatment


@pytest.fixture(scope="module")
def base(knowledge_base: Path) -> CompiledKnowledge:
    return CompiledKnowledge(knowledge_base.read_bytes())


def product(base: CompiledKnowledge, label: str) -> Product:
    lines = (SAMPLE / FILES["CIS"]).read_text("utf-8").splitlines()
    cis = next(line.split("\t")[0] for line in lines if line.split("\t")[1].startswith(label))
    found = base.product([f"{SPECIALITY}|{cis}"])
    assert found is not None
    return found


def test_a_narcotic_in_fractions(base: CompiledKnowledge) -> None:
    patch = product(base, "DUROGESIC")
    assert (patch.listing, patch.is_secure, patch.max_days, patch.fraction_days) == ("stupefiant", True, 28, 14)
    assert patch.routes == ("transdermal",)
    assert [units for _, units in patch.packs] == [5]


def test_a_hypnotic_on_a_secure_prescription(base: CompiledKnowledge) -> None:
    tablet = product(base, "STILNOX")
    assert (tablet.listing, tablet.is_secure, tablet.max_days, tablet.kinds) == ("I", True, 28, ("hypnotic",))
    assert product(base, "HALCION").kinds == ("hypnotic", "triazolam")
    assert (product(base, "XANAX").max_days, product(base, "XANAX").kinds) == (84, ("anxiolytic",))


def test_opioid_substitution_is_told_from_pain_relief(base: CompiledKnowledge) -> None:
    assert "opioid-substitution" in product(base, "SUBUTEX").kinds
    assert "opioid-substitution" in product(base, "METHADONE").kinds
    assert product(base, "TEMGESIC").kinds == ()
    assert product(base, "SUBUTEX").fraction_days == 7


def test_contraceptives_and_quarterly_packs(base: CompiledKnowledge) -> None:
    assert product(base, "MINIDRIL").kinds == ("contraceptive",)
    assert [units for _, units in product(base, "MINIDRIL").packs] == [21, 63]
    assert product(base, "CERAZETTE").kinds == ("contraceptive",)
    assert product(base, "NORLEVO").kinds == ()


def test_a_salt_is_its_therapeutic_fraction(base: CompiledKnowledge) -> None:
    assert product(base, "PLAVIX").mg_per_unit == (("clopidogrel", Decimal(75)),)
    assert product(base, "KARDEGIC").substances == ("acide acetylsalicylique",)
    assert product(base, "KARDEGIC").mg_per_unit == (("acide acetylsalicylique", Decimal(75)),)


def test_names_of_two_salts_that_naive_stripping_misses(base: CompiledKnowledge) -> None:
    depakine = product(base, "DEPAKINE")
    assert depakine.substances == ("acide valproique",)
    assert depakine.mg_per_unit == (("acide valproique", Decimal(478)),)
    assert product(base, "FORADIL").substances == ("formoterol",)


def test_liquids_are_counted_in_millilitres(base: CompiledKnowledge) -> None:
    syrup = product(base, "DOLIPRANE 2,4")
    assert syrup.mg_per_unit == (("paracetamol", Decimal(24)),)
    assert [units for _, units in syrup.packs] == [100]
    assert [units for _, units in product(base, "EFFERALGAN").packs] == [16]


def test_generic_groups_have_their_types(base: CompiledKnowledge) -> None:
    group = [product(base, label) for label in ("PLAVIX", "CLOPIDOGREL VIATRIS", "CLOPIDOGREL TEVA")]
    assert len({each.generic_group for each in group}) == 1
    assert [each.generic_type for each in group] == [0, 1, 4]
    assert product(base, "DOLIPRANE 500").listing is None


def test_a_condition_that_nothing_reads_is_reported(base: CompiledKnowledge) -> None:
    assert product(base, "FORADIL").unread_conditions == ("mention publiée que rien ne lit",)
    morphine = product(base, "MORPHINE LAVOISIER")
    assert morphine.max_days == 28
    assert len(morphine.unread_conditions) == 1  # 7 or 28 days: which of them, its text says
    assert product(base, "ENBREL").is_exception
    assert product(base, "NEORAL").kinds == ("initial-prescription",)


def test_a_presentation_and_a_brand_are_their_product(base: CompiledKnowledge) -> None:
    code, _ = product(base, "BACTRIM").packs[0]
    assert code.startswith(f"{PRESENTATION}|34009999")
    by_code = base.resolve(Treatment(key="it", codings=(code,)))
    by_brand = base.resolve(Treatment(key="it", text="Bactrim Forte"))
    assert isinstance(by_code, Concept)
    assert isinstance(by_brand, Concept)
    assert set(by_code.substances) == set(by_brand.substances) == {"sulfamethoxazole", "trimethoprime"}
    assert (by_code.confidence, by_brand.confidence) == ("code", "synonym")


def test_a_file_is_in_either_encoding() -> None:
    assert decoded("stupéfiants".encode("cp1252")) == decoded("stupéfiants".encode()) == "stupéfiants"


def test_a_missing_file_or_a_short_line_is_refused(tmp_path: Path) -> None:
    names = Names(known=frozenset(), synonyms={}, salts_before=(), salts_after=frozenset())
    with pytest.raises(ProductFileError, match="missing"):
        read(tmp_path, names)
    shutil.copytree(SAMPLE, tmp_path, dirs_exist_ok=True)
    (tmp_path / FILES["GENER"]).write_text("9901\tone\n")
    with pytest.raises(ProductFileError, match="line 1: 2 columns"):
        read(tmp_path, names)


@pytest.mark.parametrize(
    ("text", "days", "unread"),
    [
        ("prescription limitée à 4 semaines", 28, 0),
        ("Prescription limitée à 12 semaines", 84, 0),
        ("prescription limitée à 2 semaines", 14, 0),
        ("prescription limitée à 7 jours", 7, 0),
        ("prescription limitée à 7 jours ou 28 jours", 28, 1),
        ("délivrance fractionnée de 7 jours", None, 0),
        ("quelque chose de nouveau", None, 1),
    ],
)
def test_durations_as_they_are_published(text: str, days: int | None, unread: int) -> None:
    found = supply([text], ["x"], [])
    assert (found.max_days, len(found.unread)) == (days, unread)
