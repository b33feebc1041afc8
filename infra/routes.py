"""What to deploy: API Gateway knows which function serves a resource type, the function which interactions it has.

A type is a resource of the gateway with all methods, and so is everything below it (`{proxy+}`): a number that grows
with the functions, not with types, interactions and operations. One function serves the types that no other one does.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from infra.functions import FUNCTIONS, FunctionSpec, Http
from passerelle.api.routes import BASE, Route

ANY: Final = "ANY"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Endpoint:
    """One method of one gateway path."""

    path: str
    method: str
    function: str
    public: bool


def endpoints() -> list[Endpoint]:
    """Every endpoint once, sorted; raises ValueError if two functions claim the same one."""
    found: dict[tuple[str, str], Endpoint] = {}
    for spec, trigger in _http_functions():
        for method, path in _public(spec) if trigger.public else _proxies(spec, trigger):
            endpoint = Endpoint(path=path, method=method, function=spec.name, public=trigger.public)
            if (path, method) in found:
                raise ValueError(f"{method} {path} belongs to {found[path, method].function} and {spec.name}")
            found[path, method] = endpoint
    return sorted(found.values())


def fhir_routes() -> list[Route]:
    """What the capability statement lists: the routes of the functions that serve FHIR."""
    served = (route for spec, trigger in _http_functions() if not trigger.public for route in _routes_of(spec))
    return [route for route in served if route.is_listed]


def _http_functions() -> Iterable[tuple[FunctionSpec, Http]]:
    return ((spec, spec.trigger) for spec in FUNCTIONS if isinstance(spec.trigger, Http))


def _public(spec: FunctionSpec) -> list[tuple[str, str]]:
    return [(route.method, route.gateway_path) for route in _routes_of(spec)]


def _proxies(spec: FunctionSpec, trigger: Http) -> list[tuple[str, str]]:
    paths = [BASE] if trigger.every_other_type else []
    types = ["{type}"] if trigger.every_other_type else types_of(spec)
    paths += [f"{BASE}/{each}{rest}" for each in types for rest in ("", "/{proxy+}")]
    return [(ANY, path) for path in [*paths, *_beside_fhir(spec)]]


def _beside_fhir(spec: FunctionSpec) -> list[str]:
    """The paths at the root that a function serves, and a proxy below those that have anything below."""
    found = [route.path for route in _routes_of(spec) if not _is_fhir(route)]
    roots = {path.split("/")[1]: False for path in found}
    for path in found:
        roots[path.split("/")[1]] |= path.count("/") > 1
    return [f"/{root}{rest}" for root, is_deep in sorted(roots.items()) for rest in ("", *(["/{proxy+}"] * is_deep))]


def _is_fhir(route: Any) -> bool:
    return bool(route.path == BASE or route.path.startswith(f"{BASE}/"))


def types_of(spec: FunctionSpec) -> list[str]:
    """The resource types that a function serves."""
    paths = (route.path for route in _routes_of(spec) if _is_fhir(route))
    return sorted({path.removeprefix(f"{BASE}/").partition("/")[0] for path in paths})


def _routes_of(spec: FunctionSpec) -> Sequence[Any]:
    handler: Any = importlib.import_module(f"functions.{spec.name}.handler").handler
    routes: Sequence[Any] = handler.routes
    return routes
