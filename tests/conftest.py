"""Fixtures that every suite shares."""

from __future__ import annotations

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
def template() -> dict[str, Any]:
    """The CloudFormation template of the dev stage, synthesised once."""
    import infra

    return infra.synthesise()


@pytest.fixture(scope="module")
def exchange(template: dict[str, Any]) -> Iterator[Exchange]:
    """The whole exchange on moto, fresh for each module, its clients registered."""
    from tests.exchange import exchange_on_moto

    with exchange_on_moto(template) as running:
        yield running
