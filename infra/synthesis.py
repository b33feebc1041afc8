"""From the settings of a stage to a CloudFormation template, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aws_cdk import App

from infra.paths import ROOT
from infra.settings import STAGES, StageSettings
from infra.stack import PasserelleStack


def new_app(*, bundling: bool = True, outdir: Path | None = None) -> App:
    """An app with the context of cdk.json, which only the CDK command line reads by itself."""
    context: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text())["context"]
    if not bundling:
        context["aws:cdk:bundling-stacks"] = []
    return App(
        context=context,
        outdir=str(outdir) if outdir else None,
        analytics_reporting=False,
        tree_metadata=False,
        # CloudFormation's own rules take seconds: whoever wants the template fast does without.
        builtin_cloud_formation_validation=bundling,
    )


def add_stack(app: App, settings: StageSettings) -> PasserelleStack:
    return PasserelleStack(app, f"passerelle-{settings.stage}", settings=settings)


def template_of(stage: str, *, bundling: bool, outdir: Path | None) -> dict[str, Any]:
    """See `infra.synthesise`."""
    if outdir is None:
        with TemporaryDirectory(prefix="passerelle-") as folder:
            return template_of(stage, bundling=bundling, outdir=Path(folder))
    app = new_app(bundling=bundling, outdir=outdir)
    stack = add_stack(app, STAGES[stage])
    app.synth()
    template: dict[str, Any] = json.loads((outdir / stack.template_file).read_text())
    return template
