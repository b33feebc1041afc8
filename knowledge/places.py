"""Where the compiled base is: in this checkout, and where a function finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

LAYER: Final = Path(__file__).parent.parent / "layers" / "knowledge"
ARTEFACT: Final = LAYER / "knowledge" / "passerelle-fr.json.gz"  # made, not kept
MOUNTED: Final = f"/opt/{ARTEFACT.relative_to(LAYER)}"
"""Lambda unpacks a layer under /opt."""
