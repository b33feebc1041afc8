"""The REST API as the template declares it: routes, authorizers, mock integrations and gateway responses.

Contract: API Gateway developer guide, "Gateway response types", "Set up a mock integration", "Lambda
authorizer" and "Payload compression".
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import unquote

from local.intrinsics import TemplateError
from local.resources import Properties
from local.velocity import MappingTemplate, Reference

Served = Callable[[str], Iterator[tuple[str, Properties]]]

# Response type -> status and message that API Gateway has for it. It has no name for a function that
# failed: DEFAULT_5XX renders that.
FAILURES: Final[Mapping[str, tuple[int, str]]] = {
    "ACCESS_DENIED": (403, "User is not authorized to access this resource"),
    "AUTHORIZER_CONFIGURATION_ERROR": (500, "Internal server error"),
    "AUTHORIZER_FAILURE": (500, "Internal server error"),
    "FUNCTION_FAILURE": (502, "Internal server error"),
    "INTEGRATION_TIMEOUT": (504, "Endpoint request timed out"),
    "MISSING_AUTHENTICATION_TOKEN": (403, "Missing Authentication Token"),
    "REQUEST_TOO_LARGE": (413, "Request Too Long"),
    "UNAUTHORIZED": (401, "Unauthorized"),
}
_INVOCATION = re.compile(r"^arn:.*:lambda:path/2015-03-31/functions/(?P<arn>.+)/invocations$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """A response that API Gateway writes itself: header values and body are templates."""

    status: int | None
    headers: Mapping[str, MappingTemplate]
    content_type: str
    body: MappingTemplate


@dataclass(frozen=True, slots=True, kw_only=True)
class Mock:
    """A mock integration: its request template says which status its answer is known by."""

    choice: MappingTemplate
    answers: Mapping[int, Rendering]

    def answer(self, context: Mapping[str, Any], parameters: Mapping[str, str]) -> Rendering:
        """Raises TemplateError if the choice is no status of an answer."""
        try:
            return self.answers[json.loads(self.choice.render(context, parameters))["statusCode"]]
        except (KeyError, TypeError, ValueError):
            raise TemplateError("a mock integration chooses an answer that it does not have") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorizer:
    """A Lambda authorizer; `token_header` is None for one that gets the whole request."""

    function: str
    token_header: str | None
    required_headers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRoute:
    """A method on a resource: served by a function, or, where there is none, by `mock`."""

    method: str
    resource: str
    authorizer: Authorizer | None
    function: str | None
    timeout_seconds: float
    mock: Mock | None

    def match(self, segments: list[str]) -> dict[str, str] | None:
        """The path parameters, decoded, if the path is this resource's."""
        parts = self.resource.strip("/").split("/")
        if parts[-1].endswith("+}"):
            segments = [*segments[: len(parts) - 1], "/".join(segments[len(parts) - 1 :])]
        if len(parts) != len(segments):
            return None
        found: dict[str, str] = {}
        for part, segment in zip(parts, segments, strict=True):
            if part.startswith("{") and segment:
                found[part.strip("{+}")] = unquote(segment)
            elif part != unquote(segment):
                return None
        return found

    @property
    def precedence(self) -> list[int]:
        """Sorts what API Gateway tries first: static segments, then variables, then the rest of the path."""
        return [2 if part.endswith("+}") else part.startswith("{") for part in self.resource.strip("/").split("/")]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestApi:
    """Everything about the API that the front has to know."""

    stage: str
    is_binary: bool
    min_compression_bytes: int | None
    routes: tuple[ApiRoute, ...]
    failures: Mapping[str, Rendering]

    def find(self, method: str, path: str) -> tuple[ApiRoute, dict[str, str]] | None:
        """The route of a request, by its path as sent; the most specific resource decides alone."""
        segments = path.removeprefix("/").removesuffix("/").split("/")
        resource: str | None = None
        for route in self.routes:
            parameters = route.match(segments)
            if parameters is None or (resource is not None and resource != route.resource):
                continue
            resource = route.resource
            if route.method in (method, "ANY"):
                return route, parameters
        return None

    @classmethod
    def read(cls, served: Served, by_arn: Mapping[str, str]) -> RestApi:
        """Raises TemplateError for a property that the front does not implement."""
        is_binary = False
        min_compression_bytes = None
        for _, given in served("AWS::ApiGateway::RestApi"):
            given.take("Name")
            given.take("Description")
            media = given.take("BinaryMediaTypes", [])
            if media not in ([], ["*/*"]):
                raise TemplateError("binary media types are all or none")
            is_binary = bool(media)
            min_compression_bytes = given.take("MinimumCompressionSize")
            given.finish()
        stages = []
        for _, given in served("AWS::ApiGateway::Stage"):
            for name in ("RestApiId", "DeploymentId", "Description"):
                given.take(name)
            stages.append(given.take("StageName"))
            given.finish()
        authorizers = {name: _authorizer(given, by_arn) for name, given in served("AWS::ApiGateway::Authorizer")}
        paths = _paths(served)
        routes = [_route(given, paths, authorizers, by_arn) for _, given in served("AWS::ApiGateway::Method")]
        return cls(
            stage=stages[0] if stages else "",
            is_binary=is_binary,
            min_compression_bytes=min_compression_bytes,
            routes=tuple(sorted(routes, key=lambda route: (route.precedence, route.resource, route.method == "ANY"))),
            failures=dict(_gateway_response(given) for _, given in served("AWS::ApiGateway::GatewayResponse")),
        )

    def failure(self, kind: str) -> tuple[int, str, Rendering | None]:
        """Status, message and rendering of a failure of the API itself."""
        status, message = FAILURES[kind]
        rendering = self.failures.get(kind) or self.failures.get(f"DEFAULT_{status // 100}XX")
        return (rendering.status if rendering and rendering.status else status), message, rendering


def _paths(served: Served) -> dict[str, str]:
    """Resource id -> path."""
    parts: dict[str, tuple[str, str]] = {}
    for logical_id, given in served("AWS::ApiGateway::Resource"):
        given.take("RestApiId")
        parts[logical_id] = given.take("ParentId"), given.take("PathPart")
        given.finish()

    def path(resource: str) -> str:
        if resource == "/":
            return ""
        parent, part = parts[resource]
        return f"{path(parent)}/{part}"

    return {"/": "/", **{resource: path(resource) for resource in parts}}


def _function(uri: str, by_arn: Mapping[str, str]) -> str:
    match = _INVOCATION.match(uri)
    if match is None or match["arn"] not in by_arn:
        raise TemplateError("an integration calls something that is no function of the template")
    return by_arn[match["arn"]]


def _authorizer(given: Properties, by_arn: Mapping[str, str]) -> Authorizer:
    for name in ("Name", "RestApiId", "AuthType"):
        given.take(name)
    kind = given.take("Type")
    if given.take("AuthorizerResultTtlInSeconds", 300):
        raise TemplateError(f"{given.owner}: answers of the authorizer are not cached here")
    sources = [source.strip() for source in given.take("IdentitySource", "").split(",") if source.strip()]
    prefix = "method.request.header."
    if kind not in ("TOKEN", "REQUEST") or not all(source.startswith(prefix) for source in sources):
        raise TemplateError(f"{given.owner}: an authorizer reads headers, and is of type TOKEN or REQUEST")
    headers = tuple(source.removeprefix(prefix) for source in sources)
    authorizer = Authorizer(
        function=_function(given.take("AuthorizerUri"), by_arn),
        token_header=headers[0] if kind == "TOKEN" else None,
        required_headers=headers,
    )
    given.finish()
    return authorizer


def _route(
    given: Properties,
    paths: Mapping[str, str],
    authorizers: Mapping[str, Authorizer],
    by_arn: Mapping[str, str],
) -> ApiRoute:
    for name in ("RestApiId", "OperationName", "MethodResponses"):
        given.take(name)
    if given.take("ApiKeyRequired", False) or given.take("AuthorizationType") not in ("NONE", "CUSTOM"):
        raise TemplateError(f"{given.owner}: methods are open, or have a Lambda authorizer")
    resource = paths[given.take("ResourceId")]
    authorizer = given.take("AuthorizerId")
    integration = given.part("Integration")
    kind = integration.take("Type")
    timeout = integration.take("TimeoutInMillis", 29_000) / 1000
    function, mock = None, None
    if kind == "AWS_PROXY":
        integration.take("IntegrationHttpMethod")
        function = _function(integration.take("Uri"), by_arn)
    elif kind == "MOCK":
        mock = _mock(integration)
    else:
        raise TemplateError(f"{given.owner}: integrations of type {kind} are not implemented")
    integration.finish()
    route = ApiRoute(
        method=given.take("HttpMethod"),
        resource=resource,
        authorizer=authorizers[authorizer] if authorizer else None,
        function=function,
        timeout_seconds=timeout,
        mock=mock,
    )
    given.finish()
    return route


def _mock(integration: Properties) -> Mock:
    """A mock integration whose request templates are all the same: they choose the answer, by its status."""
    for name in ("PassthroughBehavior", "ContentHandling"):
        integration.take(name)
    choices = set(integration.take("RequestTemplates").values())
    if len(choices) != 1:
        raise TemplateError(f"{integration.owner}: one request template for every media type")
    answers: dict[int, Rendering] = {}
    for answer in integration.parts("IntegrationResponses"):
        answer.take("ContentHandling")
        status = int(answer.take("StatusCode"))
        if answer.take("SelectionPattern", str(status)) != str(status):
            raise TemplateError(f"{answer.owner}: an answer is chosen by its own status")
        templates = answer.take("ResponseTemplates", {})
        rendering = _rendering(answer, "method.response.header.", status, templates)
        answers[status] = replace(rendering, status=rendering.body.status or status)
        answer.finish()
    return Mock(choice=MappingTemplate.read(choices.pop()), answers=answers)


def _gateway_response(given: Properties) -> tuple[str, Rendering]:
    given.take("RestApiId")
    status = given.take("StatusCode")
    templates = given.take("ResponseTemplates", {})
    rendering = _rendering(given, "gatewayresponse.header.", int(status) if status else None, templates)
    kind = given.take("ResponseType")
    given.finish()
    return kind, rendering


def _rendering(given: Properties, prefix: str, status: int | None, templates: Mapping[str, str]) -> Rendering:
    if len(templates) > 1:
        raise TemplateError(f"{given.owner}: one representation of each response")
    content_type, body = next(iter(templates.items()), ("application/json", ""))
    headers: dict[str, MappingTemplate] = {}
    for target, source in given.take("ResponseParameters", {}).items():
        if not target.startswith(prefix):
            raise TemplateError(f"{given.owner}: {target} is not implemented")
        headers[target.removeprefix(prefix)] = _header_value(given.owner, source)
    return Rendering(status=status, headers=headers, content_type=content_type, body=MappingTemplate.read(body))


def _header_value(owner: str, source: str) -> MappingTemplate:
    if source.startswith("'") and source.endswith("'"):
        return MappingTemplate((source[1:-1],))
    root, *path = source.split(".")
    if root != "context":
        raise TemplateError(f"{owner}: a header comes from a literal or the context")
    return MappingTemplate((Reference(tuple(path)),))
