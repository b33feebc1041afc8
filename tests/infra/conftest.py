"""Both stages, synthesised once: seconds, most of them to start Node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from infra.settings import STAGES  # `infra` before aws_cdk: brings Node

if TYPE_CHECKING:
    from aws_cdk import App

Resources = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesised:
    """A stage as the app that made it, and as its template."""

    app: App
    template: Mapping[str, Any]

    def of(self, kind: str) -> Resources:
        """Logical id -> properties of the resources of a type; fails if there is none."""
        found = {
            name: resource["Properties"]
            for name, resource in self.template["Resources"].items()
            if resource["Type"] == kind
        }
        assert found, kind
        return found


def _synthesise(stage: str, tmp_path_factory: pytest.TempPathFactory) -> Synthesised:
    from infra.synthesis import add_stack, new_app

    outdir = tmp_path_factory.mktemp(stage)
    app = new_app(bundling=False, outdir=outdir)
    stack = add_stack(app, STAGES[stage])
    app.synth()
    return Synthesised(app=app, template=json.loads((outdir / stack.template_file).read_text()))


@pytest.fixture(scope="session")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Synthesised:
    return _synthesise("dev", tmp_path_factory)


@pytest.fixture(scope="session")
def prod(tmp_path_factory: pytest.TempPathFactory) -> Synthesised:
    return _synthesise("prod", tmp_path_factory)


@pytest.fixture(scope="session", params=["dev", "prod"])
def stage(request: pytest.FixtureRequest) -> Synthesised:
    """Each stage in turn."""
    found: Synthesised = request.getfixturevalue(request.param)
    return found
