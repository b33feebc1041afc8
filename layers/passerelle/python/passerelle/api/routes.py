"""The route table as data: what the scope check, audit, the capability statement and the docs read.

API Gateway only knows which function serves a resource type (`infra/routes.py`); here a function finds the route of a
request by its method and path. An operation (`$accept`) is a part of the path like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import unquote

from passerelle.access import Interaction, Permission
from passerelle.errors import NotFound, Unsupported

BASE: Final = "/fhir"
Action = Literal["C", "R", "U", "D", "E"]
InteractionName = Literal[
    "read",
    "vread",
    "history-instance",
    "history-type",
    "search-type",
    "create",
    "update",
    "conditional-update",
    "patch",
    "conditional-patch",
    "delete",
    "conditional-delete",
]
# What a route does beyond its interaction; each is a member of the capability statement.
Feature = Literal["conditional-create", "conditional-read", "update-create", "include", "batch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How an interaction is asked for, below the type: methods with paths, audit action and SMART v2 right."""

    places: tuple[tuple[str, str], ...]
    action: Action
    needs: Interaction


# FHIR R4 section 3.1.0; SMART App Launch 2.2 section 3.0.2.2 for the rights.
INTERACTIONS: Final[Mapping[InteractionName, Shape]] = {
    "read": Shape(places=(("GET", "/{id}"),), action="R", needs="r"),
    "vread": Shape(places=(("GET", "/{id}/_history/{version}"),), action="R", needs="r"),
    "history-instance": Shape(places=(("GET", "/{id}/_history"),), action="R", needs="r"),
    "history-type": Shape(places=(("GET", "/_history"),), action="R", needs="s"),
    "search-type": Shape(places=(("GET", ""), ("POST", "/_search")), action="E", needs="s"),
    "create": Shape(places=(("POST", ""),), action="C", needs="c"),
    "update": Shape(places=(("PUT", "/{id}"),), action="U", needs="u"),
    "conditional-update": Shape(places=(("PUT", ""),), action="U", needs="u"),
    "patch": Shape(places=(("PATCH", "/{id}"),), action="U", needs="u"),
    "conditional-patch": Shape(places=(("PATCH", ""),), action="U", needs="u"),
    "delete": Shape(places=(("DELETE", "/{id}"),), action="D", needs="d"),
    "conditional-delete": Shape(places=(("DELETE", ""),), action="D", needs="d"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`permission` is None where the service authorises each part of the request by itself (transactions).

    `name` is the FHIR interaction (`read`, `search-type`, `create`, ...) or the operation with its `$`; `resource` the
    type it is listed under in the capability statement, None for the whole system. A `raw` route answers with bytes of
    any type: its handler negotiates. One that is not listed is no FHIR, or only refuses, in words of a guide.
    `consumes` are the media types that it takes instead of those of FHIR.
    """

    method: str
    path: str
    name: str
    action: Action
    resource: str | None
    permission: Permission | None
    handler: Callable[..., Any]
    raw: bool = False
    features: tuple[Feature, ...] = ()
    is_listed: bool = True
    consumes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    variable: tuple[str, _Node] | None = None
    routes: dict[str, Route] = field(default_factory=dict)


MAX_VARIABLE: Final = 256
"""Characters of a variable of a path; ids of FHIR have 64."""


class RouteTable:
    """Routes by path. A literal part comes before a variable, which takes no operation and no `_history`."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, route: Route) -> None:
        """Raises ValueError if the method of this path is taken, or its variable has another name."""
        node = self._root
        for part in _parts(route.path):
            if not part.startswith("{"):
                node = node.literals.setdefault(part, _Node())
                continue
            node.variable = node.variable or (part.strip("{}"), _Node())
            if node.variable[0] != part.strip("{}"):
                raise ValueError(f"{route.path}: the variable has two names")
            node = node.variable[1]
        if route.method in node.routes:
            raise ValueError(f"{route.method} {route.path} is declared twice")
        node.routes[route.method] = route

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """The route, and the values of its path's variables; raises NotFound, or Unsupported for another method."""
        node: _Node | None = self._root
        parameters = {}
        for part in map(unquote, _parts(path)):
            if node is not None and part in node.literals:
                node = node.literals[part]
            elif node is not None and node.variable is not None and part and part[0] not in "$_":
                name, node = node.variable
                parameters[name] = part
            else:
                node = None
        if node is None or not node.routes:
            raise NotFound("the server has no such resource type or interaction", code="not-supported")
        served = {**node.routes, **({"HEAD": node.routes["GET"]} if "GET" in node.routes else {})}
        if method not in served:
            raise Unsupported(headers={"Allow": ", ".join(sorted(served))})
        if any(len(value) > MAX_VARIABLE for value in parameters.values()):
            raise NotFound()  # nothing has so long a name that no key of a table could hold it
        return served[method], parameters


def _parts(path: str) -> list[str]:
    return path.removeprefix("/").removesuffix("/").split("/")
