"""The route table as data: what API Gateway, the scope check, audit, the capability statement and the docs read.

API Gateway refuses `$` in a path part, so an operation is deployed as a path variable: `/Task/{id}/$accept` as
`/Task/{id}/{operation}`, `/Patient/$match` as `/Patient/{id}`, `/$process-message` as `/{id}`. `gateway_path` is the
one place that knows, `api/app.py` resolves the value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from passerelle.access import Permission

BASE = "/fhir"
Action = Literal["C", "R", "U", "D", "E"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`permission` is None where the service authorises each part of the request by itself (transactions).

    `name` is the FHIR interaction (`read`, `search-type`, `create`, ...) or the operation with its `$`; `resource` the
    type it is listed under in the capability statement, None for the whole system. A `raw` route answers with bytes of
    any type: its handler negotiates.
    """

    method: str
    path: str
    name: str
    action: Action
    resource: str | None
    permission: Permission | None
    handler: Callable[..., Any]
    raw: bool = False

    @property
    def gateway_path(self) -> str:
        return gateway_path(self.path)

    @property
    def operation(self) -> str | None:
        last = self.path.rpartition("/")[2]
        return last if last.startswith("$") else None


def gateway_path(path: str) -> str:
    """The path as API Gateway holds it: the `$operation` segment as a variable."""
    head, _, last = path.rpartition("/")
    if not last.startswith("$"):
        return path
    return f"{head}/{{operation}}" if head.endswith("}") else f"{head}/{{id}}"
