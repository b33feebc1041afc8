"""Match records are stored for years as bytes."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.errors import Fault
from passerelle.matching.record import MatchRecord

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
RECORDS = st.builds(
    MatchRecord,
    **{field.name: TEXT for field in fields(MatchRecord) if field.name != "others"},
    others=st.lists(TEXT, max_size=3).map(tuple),
)


@given(RECORDS)
def test_what_is_packed_is_unpacked(record: MatchRecord) -> None:
    assert MatchRecord.unpack(record.pack()) == record


def test_the_bytes_of_a_record_do_not_change() -> None:
    record = MatchRecord(family="l hote", given="zoe", others=("anne",), birth_date="19800214", birth_place="2A004")
    assert record.pack() == b'[1,"l hote","","zoe",["anne"],"19800214","","2A004"]'
    assert MatchRecord().pack() == b"[1]"


@pytest.mark.parametrize("packed", [b"", b"[]", b"[2]", b"{}", b"[1,2", b"\xff", b'[1,"a","b","c",1]'])
def test_other_bytes_are_refused_without_telling_them(packed: bytes) -> None:
    with pytest.raises(Fault):
        MatchRecord.unpack(packed)
