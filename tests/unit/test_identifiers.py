"""Opaque identifiers."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from passerelle.identifiers import (
    PATIENT_KEY,
    Blinder,
    is_made_here,
    new_patient_key,
    new_resource_id,
    new_ulid,
    split_resource_id,
    time_of,
)

AT = datetime(2026, 3, 1, 9, 30, 0, 123_000, tzinfo=UTC)


def test_ids_are_legal_fhir_ids_that_tell_their_place() -> None:
    key = new_patient_key()
    assert PATIENT_KEY.fullmatch(key)
    made = new_resource_id(key, AT)
    assert re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", made)
    assert split_resource_id(made) == (key, made.partition("-")[2])
    assert split_resource_id(new_resource_id(None, AT)) is not None


@pytest.mark.parametrize(
    "text", ["", "x", "0" * 25, "0" * 27, "0" * 16 + "-", "U" * 26, "0" * 15 + "-" + "0" * 26, "../0"]
)
def test_other_strings_are_no_ids(text: str) -> None:
    assert split_resource_id(text) is None


def test_ulids_sort_by_time_and_tell_it() -> None:
    moments = [AT + timedelta(milliseconds=n) for n in range(50)]
    made = [new_ulid(at) for at in moments]
    assert made == sorted(made)
    assert [time_of(ulid) for ulid in made] == moments
    assert len({new_ulid(AT) for _ in range(1000)}) == 1000


def test_blinded_values_depend_on_key_and_namespace() -> None:
    one, other = Blinder(b"a" * 32), Blinder(b"b" * 32)
    assert one.blind("identifier", "x") == one.blind("identifier", "x")
    assert len({one.blind("identifier", "x"), one.blind("name", "x"), other.blind("identifier", "x")}) == 3
    with pytest.raises(ValueError, match="32 bytes"):
        Blinder(b"short")


def test_ids_made_from_ids_of_ours_are_ours() -> None:
    made = new_resource_id(new_patient_key(), AT)
    assert all(map(is_made_here, (made, f"{made}-01", f"{made}-r01", new_ulid(AT))))
    for chosen in ("x", f"x{made}", f"{made}x", f"{new_ulid(AT)}-01", "3f1c9a52-7d0e-4a8b-9c61-2b5e8d4f7a90"):
        assert not is_made_here(chosen)
