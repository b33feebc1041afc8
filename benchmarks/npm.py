"""Packages of npm for what is compared with or tested against, by the Node.js of the environment (PyPI).

The manifest and its lock are in the checkout; what they name goes into the ignored folder `.passerelle`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from infra.node import NODE
from infra.paths import ROOT

# The link beside node that should run npm leads nowhere in this wheel.
_NPM: Final = NODE.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_SECONDS: Final = 240


class NpmError(Exception):
    """The packages cannot be had; the message is npm's own."""


def installed(manifest: Path) -> Path:
    """The folder that has node_modules as locked beside `manifest`, and its scripts. Raises NpmError."""
    folder = ROOT / ".passerelle" / "npm" / manifest.name
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / "node_modules" / ".locked"
    digest = hashlib.sha256((manifest / "package-lock.json").read_bytes()).hexdigest()
    for source in manifest.iterdir():
        if source.suffix in (".json", ".mjs", ".cjs"):
            shutil.copyfile(source, folder / source.name)
    if not marker.is_file() or marker.read_text("ascii") != digest:
        _npm("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", folder=folder)
        marker.write_text(digest, "ascii")
    return folder


def _npm(*arguments: str, folder: Path) -> None:
    environment = os.environ | {"PATH": os.pathsep.join([str(NODE.parent), os.environ.get("PATH", "")])}
    try:
        finished = subprocess.run(  # noqa: S603 - npm of the environment
            [NODE, _NPM, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        raise NpmError(f"npm does not run: {type(failure).__name__}") from failure
    if finished.returncode:
        reasons = [line for line in finished.stderr.splitlines() if line.startswith("npm error")]
        raise NpmError(reasons[0] if reasons else f"npm ended with {finished.returncode}")
