"""fhir-kit-client (npm), the JavaScript library of FHIR clients, feels at home."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.npm import NpmError, installed
from benchmarks.peers import Exchange
from infra.node import NODE

CALLS = (
    "capabilityStatement",
    "smartAuthMetadata",
    "create",
    "create unless it exists",
    "read",
    "vread",
    "resolve",
    "update",
    "update with an id of the client",
    "conditional update",
    "patch",
    "transaction",
    "batch",
    "search and next pages",
    "search by POST",
    "search with _include",
    "history of a resource",
    "history of a type",
    "operation $validate",
    "operation $everything",
    "operation $summary",
    "delete",
)


@pytest.fixture(scope="module")
def outcomes(served: Exchange, patients: list[str]) -> Mapping[str, str]:
    try:
        folder = installed(Path(__file__).parent)
    except NpmError as missing:
        pytest.skip(f"fhir-kit-client cannot be installed: {missing}")
    token = served.child.ask("token")["token"]
    finished = subprocess.run(
        [NODE, "fhir-kit-client.mjs", served.child.ready["url"], token, patients[0]],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    told: dict[str, str] = json.loads(finished.stdout)
    return told


@pytest.mark.parametrize("call", CALLS)
def test_it_feels_at_home(outcomes: Mapping[str, str], call: str) -> None:
    assert outcomes[call] == "ok"


def test_every_call_is_told(outcomes: Mapping[str, str]) -> None:
    assert tuple(outcomes) == CALLS
