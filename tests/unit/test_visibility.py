"""From whom a label hides: the whole table, by the words of the contract (D6, DMP-18 to DMP-23)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import chain, combinations

import pytest

from passerelle.access import Caller, Scopes
from passerelle.consents.decision import Implicit, admit, standing_of
from passerelle.consents.model import Emergency, Policy, RecordStatus
from passerelle.consents.visibility import Restriction, View, canonical_label, labels
from passerelle.directory.model import Role

PRODUCER, OTHER = "1990000011", "1990000029"
PHYSICIAN = "810000000037"
AT = datetime(2026, 1, 1, tzinfo=UTC)
EMERGENCY = Emergency(
    id="e", professional="810000000045", organisation=OTHER, since=AT, until=AT + timedelta(hours=1), reason="r"
)
POLICY = Policy(
    status=RecordStatus.OPEN, since=AT, attending_physician=PHYSICIAN, emergencies=(EMERGENCY,), agrees_to_research=True
)


def view(
    role: Role,
    organisation: str = OTHER,
    professional: str | None = None,
    profession: str | None = None,
    implicit: Implicit = Implicit.BASIC_NORMAL,
) -> View:
    scopes = Scopes.parse("system/*.rs")
    caller = Caller(
        client_id="c",
        organisation=organisation,
        role=role,
        scopes=scopes,
        token_id="t",
        professional=professional,
        profession=profession,
    )
    standing = standing_of(caller, POLICY, is_own=True, at=AT, implicit=implicit)
    return View.of(caller, POLICY, admit(standing), standing, at=AT)


VIEWS = {
    "professional": view(Role.NURSE, professional="810000000052", profession="60"),
    "physician": view(Role.HOSPITAL, professional="810000000060", profession="10"),
    "emergency": view(Role.HOSPITAL, professional="810000000045", profession="10"),
    "regulation centre": view(Role.REGULATION),
    "all-normal": view(Role.NURSE, implicit=Implicit.ALL_NORMAL),
    "payer": view(Role.PAYER),
    "researcher": view(Role.RESEARCHER),
    "producer": view(Role.LABORATORY, PRODUCER),
    "attending physician": view(Role.PRACTICE, professional=PHYSICIAN),
    "patient": view(Role.PATIENT),
    "representative": view(Role.REPRESENTATIVE),
}
STRANGERS = {"payer", "researcher"}
CARE = {"professional", "physician", "emergency", "regulation centre", "all-normal"}
HIDES_FROM = {
    "MASQUE_PS": CARE | STRANGERS,
    "MASQUE_PSOCIAL": STRANGERS,
    "MASQUE_PT": STRANGERS,
    "INVISIBLE_PATIENT": {"patient", "representative"},
    "INVISIBLE_REPRESENTANTS_LEGAUX": {"representative"},
    "R": {"professional"} | STRANGERS,
    "V": CARE | STRANGERS,
    "FROM_ANOTHER_RELEASE": VIEWS.keys() - {"producer"},
}
SETS = list(chain.from_iterable(combinations(HIDES_FROM, size) for size in range(len(HIDES_FROM) + 1)))


def test_the_table_has_every_label() -> None:
    assert HIDES_FROM.keys() - {"FROM_ANOTHER_RELEASE", "R", "V"} == set(labels())


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
