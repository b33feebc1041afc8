"""What an operator has to know though nothing failed: counted in CloudWatch, where an alarm watches it.

CloudWatch user guide, "Embedded metric format specification": a metric is made of a line of the function's log. The
line says what, never about whom.
"""

from __future__ import annotations

import json
from collections.abc import Callable

NAMESPACE = "Passerelle"
DIMENSION = "stage"


def incidents(stage: str, now_ms: Callable[[], int]) -> Callable[[str], None]:
    """Counts one incident, by its name, of this stage."""

    def count(name: str) -> None:
        metric = {"Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": [{"Name": name, "Unit": "Count"}]}
        line = {"_aws": {"Timestamp": now_ms(), "CloudWatchMetrics": [metric]}, DIMENSION: stage, name: 1}
        print(json.dumps(line), flush=True)  # noqa: T201 - the log

    return count
