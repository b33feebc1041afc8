"""The CDK app: the stack as code, one construct per capability; `stack.py` only composes.

`synthesise` gives the template to whoever needs it (tests, the local stack) without the CDK command line, a
network or credentials.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra import node

__all__ = ["node", "synthesise"]  # `node` comes first: aws_cdk starts Node when it is imported


def synthesise(stage: str = "dev", *, bundling: bool = False, outdir: Path | None = None) -> dict[str, Any]:
    """The CloudFormation template of a stage.

    Without `bundling` the layer of dependencies is not built, and CDK's own validation is left out: the
    template is the same. The cloud assembly stays in `outdir` if one is given.
    """
    # Here, because aws_cdk takes seconds to import, and most of `infra` is plain data.
    from infra.synthesis import template_of

    return template_of(stage, bundling=bundling, outdir=outdir)
