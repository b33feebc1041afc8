"""From whom a label hides: the whole table, by the words of the contract (D6, DMP-18 to DMP-23)."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import chain, combinations

import pytest

from passerelle.access import Caller, Scopes
from passerelle.consents.model import Policy, RecordStatus
from passerelle.consents.visibility import Restriction, View, canonical_label, labels
from passerelle.directory.model import Role

PRODUCER, OTHER = "1990000011", "1990000029"
PHYSICIAN = "810000000037"
POLICY = Policy(status=RecordStatus.OPEN, since=datetime(2026, 1, 1, tzinfo=UTC), attending_physician=PHYSICIAN)


def view(role: Role, organisation: str = OTHER, professional: str | None = None) -> View:
    scopes = Scopes.parse("system/*.rs")
    caller = Caller(
        client_id="c", organisation=organisation, role=role, scopes=scopes, token_id="t", professional=professional
    )
    return View.of(caller, POLICY)


VIEWS = {
    "professional": view(Role.HOSPITAL),
    "producer": view(Role.LABORATORY, PRODUCER),
    "attending physician": view(Role.PRACTICE, professional=PHYSICIAN),
    "patient": view(Role.PATIENT),
    "representative": view(Role.REPRESENTATIVE),
}
HIDES_FROM = {
    "MASQUE_PS": {"professional"},
    "MASQUE_PSOCIAL": set(),
    "MASQUE_PT": set(),
    "INVISIBLE_PATIENT": {"patient", "representative"},
    "INVISIBLE_REPRESENTANTS_LEGAUX": {"representative"},
    "FROM_ANOTHER_RELEASE": {"professional", "attending physician", "patient", "representative"},
}
SETS = list(chain.from_iterable(combinations(HIDES_FROM, size) for size in range(len(HIDES_FROM) + 1)))


def test_the_table_has_every_label() -> None:
    assert HIDES_FROM.keys() - {"FROM_ANOTHER_RELEASE"} == set(labels())


@pytest.mark.parametrize("some", SETS, ids="+".join)
def test_each_label_hides_on_its_own(some: tuple[str, ...]) -> None:
    restriction = Restriction(labels=frozenset(some), producer=PRODUCER) if some else None
    hidden = {name for name, each in VIEWS.items() if not each.shows(restriction)}
    assert hidden == set().union(*(HIDES_FROM[label] for label in some))


def test_an_alias_is_the_label() -> None:
    assert canonical_label("INVISIBLE_REP_LEGAUX") == "INVISIBLE_REPRESENTANTS_LEGAUX"
    assert canonical_label("N") is None


def test_nobody_else_looks_at_records() -> None:
    with pytest.raises(ValueError, match="nobody"):
        view(Role.AUDITOR)
