"""One server for both suites: the kit against it as it is, and against its mutants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conformance.server_under_test import UnderTest


@pytest.fixture(scope="module")
def under_test(template: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnderTest]:
    from tests.conformance.server_under_test import served

    with served(template, tmp_path_factory.mktemp("kit")) as server:
        yield server
