"""The CDK app: `cdk synth -c stage=prod`, or `python app.py`, which writes stage dev to `cdk.out`."""

from __future__ import annotations

import os
from pathlib import Path

from infra.paths import ROOT
from infra.settings import STAGES
from infra.synthesis import add_stack, new_app

app = new_app(outdir=Path(os.environ.get("CDK_OUTDIR", ROOT / "cdk.out")))
add_stack(app, STAGES[app.node.try_get_context("stage") or "dev"])
app.synth()
