"""FHIR JSON: what is read is written again, and what is not JSON is refused."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.errors import Invalid
from passerelle.fhir import json as fhir_json


@pytest.mark.parametrize("number", ["72.50", "0.0000001", "1e-7", "1E+10", "-0.0", "120", "0.10e2"])
def test_decimals_stay_as_written(number: str) -> None:
    text = f'{{"value":{number}}}'.encode()
    parsed = fhir_json.loads(text)
    assert fhir_json.dumps(parsed) == text
    assert fhir_json.dumps(copy.deepcopy(parsed)) == fhir_json.dumps(fhir_json.loads(fhir_json.dumps(parsed)))
    assert float(parsed["value"]) == float(number)


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: st.lists(children) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), children),
    max_leaves=20,
)


@given(documents)
def test_reading_gives_what_was_written(document: object) -> None:
    assert fhir_json.loads(fhir_json.dumps(document)) == document


def test_members_keep_their_order() -> None:
    text = '{"z":1,"a":[{"é":"\N{SMILING FACE WITH OPEN MOUTH}"}]}'.encode()
    assert fhir_json.dumps(fhir_json.loads(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"{'a':1}",
        b'{"a":1}x',
        b'{"a":01}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1,"a":2}',
        b'{"a":"\x01"}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud83d"}',
        b'{"\\ud83d":1}',
        b'{"a":' + b"9" * 5000 + b"}",
        b"[" * 65 + b"]" * 65,
        b"[" * 100_000,
    ],
    ids=range(15),
)
def test_what_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        fhir_json.loads(text)
    assert refused.value.issues[0].code == "structure"


def test_the_place_of_a_fault_is_given() -> None:
    with pytest.raises(Invalid, match="line 2 column 6"):
        fhir_json.loads(b'{\n"a": x}')


def test_a_byte_order_mark_is_no_fault() -> None:
    assert fhir_json.loads(b'\xef\xbb\xbf{"a":"\\ud83d\\ude03"}') == {"a": "\N{SMILING FACE WITH OPEN MOUTH}"}
