"""National identity rules of the French scheme (contract section 16)."""

from __future__ import annotations

import pytest

from passerelle.errors import Unprocessable
from passerelle.patients.identity import french_identity, has_valid_nir_key
from passerelle.patients.model import Traits

NIR = "urn:oid:1.2.250.1.213.1.4.8"
TEST = "urn:oid:1.2.250.1.213.1.4.10"
DEMO = "urn:oid:1.2.250.1.213.1.4.11"
VALID = "255081416802538"  # 97 - 2550814168025 mod 97 = 38


def traits(system: str, value: str, *, is_qualified: bool = True) -> Traits:
    return Traits(identifiers=(("urn:oid:2.999.1", "1"), (system, value)), is_qualified=is_qualified)


@pytest.mark.parametrize(
    ("value", "is_valid"),
    [
        (VALID, True),
        (VALID[:-1] + "9", False),
        (VALID[:-1], False),
        ("123456789012345", False),  # the published examples carry this one
        ("1800" + "72A" + "00100" + "1" + "00", False),
        ("not-a-number-00", False),
    ],
)
def test_ins_5_the_key(value: str, is_valid: bool) -> None:
    assert has_valid_nir_key(value) is is_valid


@pytest.mark.parametrize(("department", "digits"), [("2A", "19"), ("2B", "18")])
def test_ins_5_corsica(department: str, digits: str) -> None:
    number = f"18007{department}001001"
    key = 97 - int(number.replace(department, digits)) % 97
    assert has_valid_nir_key(f"{number}{key:02d}")
    assert not has_valid_nir_key(f"{number}{(key + 1) % 97:02d}")


@pytest.mark.parametrize("system", [TEST, DEMO])
def test_ins_6_test_systems_are_for_test_stages(system: str) -> None:
    french_identity("dev").check(traits(system, VALID), status="QUAL")
    with pytest.raises(Unprocessable):
        french_identity("prod").check(traits(system, VALID), status="QUAL")


def test_ins_5_a_wrong_key_is_refused_in_production_only() -> None:
    french_identity("dev").check(traits(NIR, "123456789012345"), status="QUAL")
    with pytest.raises(Unprocessable, match="key"):
        french_identity("prod").check(traits(NIR, "123456789012345"), status="QUAL")


@pytest.mark.parametrize(("status", "is_accepted"), [("QUAL", True), ("VALI", True), ("RECUP", True), ("PROV", False)])
def test_ins_2_who_may_carry_a_national_identifier(status: str, is_accepted: bool) -> None:
    scheme = french_identity("dev")
    if is_accepted:
        scheme.check(traits(NIR, VALID), status=status)
    else:
        with pytest.raises(Unprocessable):
            scheme.check(traits(NIR, VALID), status=status)


def test_only_a_qualified_identity_is_recognised_by_its_identifier() -> None:
    scheme = french_identity("dev")
    assert scheme.national_identifier(traits(NIR, VALID)) == (NIR, VALID)
    assert scheme.national_identifier(traits(NIR, VALID, is_qualified=False)) is None
    assert scheme.national_identifier(Traits(identifiers=(), is_qualified=True)) is None
