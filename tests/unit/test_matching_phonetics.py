"""French spellings of one name sound alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.matching.names import components, normalised
from passerelle.matching.phonetics import encoder, skeleton

ALIKE = """
Thierry/Thiéry Jacqueline/Jaqueline Émilie/Emily Mathilde/Matilde Mickaël/Michaël Mickaël/Mikael Raphaël/Rafael
Joëlle/Joel Elisabeth/Élizabeth Sylvie/Silvie Aurélie/Orélie Laetitia/Létitia Solène/Solenne Margaux/Margot
Frédéric/Frederick Christophe/Kristof Loïc/Loick Erwan/Erwann Cédric/Sédric Dominique/Dominik Véronique/Veronik
Jérôme/Gérôme Geoffroy/Joffroy Hugo/Ugo Hélène/Elène Sarah/Sara Chloé/Cloé Johan/Yohann Quentin/Kentin Renaud/Reynaud
Boyer/Boyé Dubois/Duboit Lambert/Lembert Lemaire/Lemère Leroy/Leroi Mercier/Mersier Chevallier/Chevalier
Giraud/Girault Blanchard/Blanchart Brunet/Bruné Schneider/Schnaider Rousseau/Rousso Fontaine/Fontène Hamon/Amon
Philippot/Filippeau Weber/Veber Klein/Clein Muller/Müller Boulanger/Boulangé Hussein/Houssein Mohammed/Mouhamed
Da-Silva/Dasilva Saint-Martin/St-Martin Le-Bihan/Lebihan De-Oliveira/Oliveira
"""
NAMES = st.text("abcdefghijklmnopqrstuvwxyzéèçôï '-", min_size=1, max_size=15)


@pytest.mark.parametrize("pair", ALIKE.split())
def test_spellings_of_one_name(pair: str) -> None:
    one, other = pair.split("/")
    assert skeleton(one.replace("-", " ")) == skeleton(other.replace("-", " "))


@pytest.mark.parametrize("pair", ["Martin/Bernard", "Petit/Moreau", "Simon/Laurent", "Marie/Lucie", "Paul/Jean"])
def test_other_names_sound_otherwise(pair: str) -> None:
    one, other = pair.split("/")
    assert skeleton(one) != skeleton(other)


@given(NAMES)
def test_how_a_name_is_written_does_not_matter(name: str) -> None:
    assert skeleton(name) == skeleton(name.upper()) == skeleton(normalised(name))


@given(st.text(max_size=20))
def test_a_skeleton_is_short_and_there_is_one_for_any_letter(name: str) -> None:
    assert len(skeleton(name)) <= 5
    assert bool(skeleton(name)) == any(character.isalpha() for character in normalised(name))


def test_another_language_is_another_list_of_rules() -> None:
    spanish = encoder(
        {"particles": ["de"], "sounds": [["^h", ""]], "vowels": "aeiou", "first": {}, "next": {}, "length": 9}
    )
    assert spanish("de Hernández") == spanish("Ernandez") == "erndz"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("martin", ()),
        ("le goff", ()),
        ("de la tour", ()),
        ("martin dupont", ("martin", "dupont")),
        ("martin de la tour", ("martin", "de la tour")),
        ("van den berg", ()),
    ],
)
def test_compound_names(name: str, parts: tuple[str, ...]) -> None:
    assert components(name) == parts
