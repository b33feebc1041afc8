"""Fixtures that every suite shares."""

from __future__ import annotations

import fcntl
import gc
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

# The files of the local stack, which is brought up once for all of them.
_ON_THE_STACK = (
    "journeys/test_local_stack.py",
    "journeys/test_races.py",
    "journeys/test_publication_races.py",
    "journeys/test_link_races.py",
    "journeys/test_document_races.py",
    "journeys/test_transfers.py",
)
# The longest files, so that none is begun when the others are done.
_FIRST = (
    *_ON_THE_STACK,
    "conformance/test_mutants.py",
    "conformance/test_kit_passes_here.py",
    "infra/test_stack.py",
    "journeys/test_document_crashes.py",
    "journeys/test_real_inputs.py",
    "journeys/test_story.py",
    "journeys/test_crashes.py",
    "journeys/test_erasure.py",
    "journeys/test_searches.py",
    "journeys/test_identity_crashes.py",
    "ports/test_prescription_crashes.py",
    "ports/test_withheld.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {ROOT / "tests" / name: place for place, name in enumerate(_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`, files that share what is dear are one: the local stack, the synthesised stages."""
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    class _ByWhatIsShared(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            place = file.removeprefix("tests/")
            if place.startswith("infra/"):
                return "infra"
            return "the local stack" if place in _ON_THE_STACK else file

    return _ByWhatIsShared(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the collector of garbage need not look at it ever again, nor look so often."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


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
