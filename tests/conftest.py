"""Fixtures that every suite shares."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.exchange import Exchange

# Every test talks to an emulator; no call may ever leave with real credentials.
os.environ.update(
    AWS_ACCESS_KEY_ID="testing",
    AWS_SECRET_ACCESS_KEY="testing",
    AWS_DEFAULT_REGION="eu-west-3",
    AWS_REGION="eu-west-3",
    AWS_ACCOUNT_ID_ENDPOINT_MODE="disabled",
    AWS_EC2_METADATA_DISABLED="true",
    POWERTOOLS_LOG_LEVEL="INFO",
)

# How fast a machine is says nothing about the code: timings live in benchmarks.
settings.register_profile("passerelle", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("passerelle")

ROOT = Path(__file__).resolve().parent.parent

# The longest files, so that none is begun when the others are done; those that share the local stack side by side.
_FIRST = (
    "conformance/test_kit_passes_here.py",
    "conformance/test_mutants.py",
    "journeys/test_document_crashes.py",
    "journeys/test_story.py",
    "functions/test_access_table.py",
    "journeys/test_local_stack.py",
    "journeys/test_link_races.py",
    "journeys/test_transfers.py",
    "journeys/test_real_inputs.py",
    "journeys/test_erasure.py",
    "journeys/test_searches.py",
    "ports/test_records.py",
    "journeys/test_crashes.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {ROOT / "tests" / name: place for place, name in enumerate(_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real inputs, which are not part of the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real inputs (../shared/data) is not on this machine")
    return folder


@pytest.fixture(scope="session")
def knowledge_base() -> Path:
    """The compiled knowledge base of this checkout, made when it is missing."""
    from knowledge.ansm import SourceError
    from knowledge.compiler import ensured

    try:
        return ensured()
    except SourceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def template_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the template of the dev stage is kept, as the local stack keeps it: synthesised once for all workers."""
    from local import synthesis

    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "template"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if synthesis.cached(folder) is None:
            synthesis.synthesise(folder)
    return folder


@pytest.fixture(scope="session")
def template(template_folder: Path) -> dict[str, Any]:
    """The CloudFormation template of the dev stage."""
    kept: dict[str, Any] = json.loads((template_folder / "template.json").read_bytes())["template"]
    return kept


@pytest.fixture(scope="module")
def exchange(template: dict[str, Any]) -> Iterator[Exchange]:
    """The whole exchange on moto, fresh for each module, its clients registered."""
    from tests.exchange import exchange_on_moto

    with exchange_on_moto(template) as running:
        yield running
