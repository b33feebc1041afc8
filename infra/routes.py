"""The routes to deploy, as the handlers declare them (`handler.routes`)."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from infra.functions import FUNCTIONS, FunctionSpec, Http
from passerelle.api.routes import Route


class Served(Protocol):
    """What the gateway needs of a route; the token endpoint's are not FHIR."""

    @property
    def method(self) -> str: ...

    @property
    def gateway_path(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Endpoint:
    """One method of one gateway path; several routes may share it (operations)."""

    path: str
    method: str
    function: str
    public: bool


def endpoints() -> list[Endpoint]:
    """Every endpoint once, sorted; raises ValueError if two functions claim the same one."""
    found: dict[tuple[str, str], Endpoint] = {}
    for spec, public in _http_functions():
        for route in _routes_of(spec):
            endpoint = Endpoint(path=route.gateway_path, method=route.method, function=spec.name, public=public)
            known = found.setdefault((endpoint.path, endpoint.method), endpoint)
            if known != endpoint:
                owners = f"{known.function} and {endpoint.function}"
                raise ValueError(f"{endpoint.method} {endpoint.path} belongs to {owners}")
    return sorted(found.values())


def fhir_routes() -> list[Route]:
    """What the capability statement lists: the routes of the functions that serve FHIR."""
    return [route for spec, public in _http_functions() if not public for route in _routes_of(spec)]


def _http_functions() -> Iterable[tuple[FunctionSpec, bool]]:
    return ((spec, spec.trigger.public) for spec in FUNCTIONS if isinstance(spec.trigger, Http))


def _routes_of(spec: FunctionSpec) -> Sequence[Any]:
    handler: Any = importlib.import_module(f"functions.{spec.name}.handler").handler
    routes: Sequence[Any] = handler.routes
    return routes
