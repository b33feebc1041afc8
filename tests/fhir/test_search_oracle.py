"""Search against a second reading of it (`tests/oracle.py`): every entry, every match, in the documented forms."""

from __future__ import annotations

import lzma
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passerelle.fhir import json as fhir_json
from passerelle.fhir.index import RECORD_TYPES, entry_of, lookups_of
from passerelle.fhir.search import parse_query
from passerelle.records.search import lookup_of, matches
from tests.oracle import PARAMETERS, Maker, is_match, labels_of, plain, queries, text_of, values


def check_query(resource: Mapping[str, Any], name: str, modifier: str, asked: list[str]) -> bool:
    """Whether the search finds the resource, once oracle and code agree."""
    key = f"{name}:{modifier}" if modifier else name
    row = PARAMETERS[resource["resourceType"]][name]
    text = text_of(row, asked)
    query = parse_query(resource["resourceType"], [(key, text)], strict=True).query
    expected = is_match(resource, name, modifier, asked)
    entry = entry_of(resource)
    assert matches(entry, query) == expected, (key, text, values(resource, name))
    starts = lookup_of(query)
    if expected and starts is not None:  # whatever is found in the directory is found from where the search starts
        kept = lookups_of(entry, query.type)
        is_text = row["kind"] == "string"
        reached = ((each, want) for at, want in starts for its, each in kept if at == its)
        assert any(each.startswith(want) if is_text else each == want for each, want in reached)
    return expected


def check_values(resource: Mapping[str, Any]) -> None:
    """Every parameter has the values that the oracle reads."""
    entry, row = entry_of(resource), RECORD_TYPES[resource["resourceType"]]
    for name, official in PARAMETERS[row.name].items():
        expected = {value.written() for value in values(resource, name)}
        assert set(row.search[name].reading.of(entry)) == expected, name
        if official["kind"] == "token":
            assert set(row.search[name].reading.texts.of(entry)) == set(labels_of(resource, official)), name


SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("name", RECORD_TYPES)
@settings(max_examples=12)
@given(seed=SEEDS)
def test_every_parameter_is_read_and_matched_as_the_oracle_does(name: str, seed: int) -> None:
    rng = random.Random(seed)
    resource, other = Maker(rng).resource(name), Maker(rng).resource(name)
    check_values(resource)
    for parameter, row in PARAMETERS[name].items():
        check_query(resource, parameter, "missing", [rng.choice(["true", "false"])])
        found = values(resource, parameter) + values(other, parameter)
        if not found:
            continue
        asked = list(queries(rng, row["kind"], rng.choice(found)))
        if parameter != RECORD_TYPES[name].among:  # there, patients and others cannot be alternatives
            asked += queries(rng, row["kind"], rng.choice(found))
        if asked:
            modifier = asked[0][0]
            check_query(resource, parameter, modifier, [each for kind, each in asked if kind == modifier])
        if row["kind"] == "token":
            label = rng.choice([*labels_of(resource, row), *labels_of(other, row), "zz"])
            check_query(resource, parameter, "text", [label[: rng.randint(1, 9)]])


@pytest.fixture(scope="module")
def examples(shared_data: Path) -> list[dict[str, Any]]:
    with lzma.open(shared_data / "hl7_r4_examples.ndjson.xz") as lines:
        resources = [fhir_json.loads(line)["resource"] for line in lines]
    return [each for each in resources if each["resourceType"] in RECORD_TYPES]


def test_official_examples_are_read_as_the_oracle_does(examples: list[dict[str, Any]]) -> None:
    assert len(examples) > 100
    for resource in examples:
        check_values(resource)


def test_official_examples_are_found_by_each_of_their_values(examples: list[dict[str, Any]]) -> None:
    count = 0
    for resource in examples:
        for name, row in PARAMETERS[resource["resourceType"]].items():
            for value in values(resource, name):
                assert check_query(resource, name, *plain(row["kind"], value)), name
                count += 1
    assert count > 1_500
