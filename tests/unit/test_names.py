"""Names are compared without what people write differently."""

from __future__ import annotations

import pytest

from passerelle.matching.names import normalised


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("D'ŒUVRE", "d oeuvre"),
        ("Jean-Baptiste", "JEAN BAPTISTE"),
        ("Müller", "muller"),
        ("  Le   Goff ", "le goff"),
        ("Inês", "ines"),
        ("O’Brien", "O'BRIEN"),
    ],
)
def test_the_same_name(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


def test_different_names_stay_different() -> None:
    assert normalised("Michel") != normalised("Michelle")
    assert normalised("Le Goff") != normalised("Legoff")
