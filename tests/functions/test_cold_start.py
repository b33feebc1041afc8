"""What a cold start of each HTTP function loads and costs (goal I16): frozen, without a number of any machine.

Milliseconds are in `make bench`; here processor time is compared with that of the AWS SDK alone, which every
function needs, in the same run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from benchmarks.cold_start import HTTP_FUNCTIONS, SDK, Start, starts
from infra.paths import ROOT

# What costs most to import, so that none of it comes unnoticed: a function that has a use for it says so below.
HEAVY = frozenset({"boto3", "cryptography", "fhir", "joserfc", "jsonpatch", "jsonschema", "pydantic", "yaml"})
SIGNATURES = frozenset({"cryptography", "joserfc"})
RATIO = 3.5  # to the processor time of the SDK: generous, since what else runs on the machine weighs on both


@dataclass(frozen=True, slots=True)
class Budget:
    """`modules`, of our own and of libraries, at most; `heavy` are the libraries that it needs."""

    modules: int
    heavy: frozenset[str] = frozenset()


# Every function that shows a record reads the policy, the matrix of professions, consents and data keys (ten modules);
# every function has the composition root (seventeen).
BUDGETS: Mapping[str, Budget] = {
    "audit": Budget(266),  # also explanations, deposits, proofs of the log
    "authorize": Budget(341, SIGNATURES),
    "directory": Budget(276),
    "documents": Budget(303),
    "ingest": Budget(326),  # transactions; what reads messages comes with the first
    "ledger": Budget(246),
    "links": Budget(306),
    "login": Budget(376, SIGNATURES),
    "patients": Budget(314),  # also the patient's control and emergencies
    "prescriptions": Budget(456, SIGNATURES),  # also the law, the clinical checks, requests and their answers
    "records": Budget(343),  # also care circles, effects of resources on a policy, what documents state
    "subscriptions": Budget(297),  # also topics, channels, who may know, declared events
    "token": Budget(341, SIGNATURES),
}


@pytest.fixture(scope="module")
def started() -> Mapping[str, Start]:
    return starts([SDK, *HTTP_FUNCTIONS])


def test_every_http_function_has_a_budget() -> None:
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/handler.py")}
    started_otherwise = {"relay", "dispatch", "deliver", "quarantine", "sweep", "append", "seal", "erase", "catalogue"}
    started_otherwise |= {"remind", "watch", "reconcile"}
    assert folders - started_otherwise == BUDGETS.keys() == set(HTTP_FUNCTIONS)


@pytest.mark.parametrize("name", BUDGETS)
def test_a_cold_start_stays_in_its_budget(started: Mapping[str, Start], name: str) -> None:
    start, budget = started[name], BUDGETS[name]
    assert start.packages() & HEAVY == budget.heavy
    assert len(start.modules) <= budget.modules
    assert start.cpu_ms <= RATIO * started[SDK].cpu_ms
