"""The synthesised template, from a cache as long as nothing that it is made of has changed.

The CDK runs in a process of its own: it starts Node, and takes seconds and memory that the local stack has no
use for.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
STAGE: Final = "dev"
_INPUTS: Final = ("app.py", "cdk.json", "functions", "infra", "knowledge", "layers", "uv.lock")
_SYNTHESISE: Final = """
import json, sys
from infra import synthesise
json.dump(synthesise(sys.argv[1], bundling=False), open(sys.argv[2], "w"))
"""


class SynthesisError(Exception):
    """The CDK app did not synthesise; the message is its output."""


def fingerprint() -> str:
    """A digest of every file that the template is made of, by name and content."""
    digest = hashlib.sha256()
    for name in _INPUTS:
        top = ROOT / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts and not path.parent.name.endswith(".egg-info"):
                digest.update(f"{path.relative_to(ROOT)}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def cached(folder: Path) -> dict[str, Any] | None:
    """The template kept in `folder`, if it is still the one that would be synthesised."""
    kept = folder / "template.json"
    if not kept.exists():
        return None
    content = json.loads(kept.read_bytes())
    template: dict[str, Any] = content["template"]
    return template if content["inputs"] == fingerprint() else None


def synthesise(folder: Path) -> dict[str, Any]:
    """Synthesise the app and keep the template in `folder`; takes seconds. Raises SynthesisError."""
    inputs = fingerprint()
    fresh = folder / "template.partial"
    run = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", _SYNTHESISE, STAGE, str(fresh)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise SynthesisError(run.stderr.strip())
    template: dict[str, Any] = json.loads(fresh.read_bytes())
    fresh.write_text(json.dumps({"inputs": inputs, "template": template}))
    fresh.replace(folder / "template.json")
    return template
