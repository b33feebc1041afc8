"""The HTTP front: what API Gateway does between a client and the functions.

Contract: API Gateway developer guide, "Lambda proxy integrations" (payload format 1.0), "Use API Gateway
Lambda authorizers", "Gateway responses", "Payload compression" (of answers), "Quotas" (10 MB bodies, 29 s)
and "Important notes" for REST APIs (headers that are remapped on the way back). Locally there is no stage in
the URL, so `requestContext.path` is the path.
"""

from __future__ import annotations

import asyncio
import base64
import contextvars
import fnmatch
import gzip
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as InvocationTimeout
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from local.api import ApiRoute, Rendering, RestApi
from local.runtime import FunctionError, PayloadTooLargeError, Runtime

MAX_BODY_BYTES: Final = 10 * 1024 * 1024
_REMAPPED: Final = {"connection", "content-length", "date", "server", "www-authenticate"}
_THREADS: Final = 64

Headers = Sequence[tuple[str, str]]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer of the API; `headers` in order, with names as the function or the template wrote them."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for each, value in self.headers if each.lower() == name.lower()), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Refusal(Exception):  # noqa: N818 - not an error of the front: a gateway response, to be rendered
    def __init__(self, kind: str, *, authorizer: Mapping[str, Any] | None = None) -> None:
        super().__init__(kind)
        self.kind = kind
        self.authorizer = authorizer


class Gateway:
    """Answers requests by the API's routes, authorizers and gateway responses; `host` is its public name and
    port.

    `request` may be called from any thread; as an ASGI application it runs each request in a thread of its
    own.
    """

    def __init__(self, api: RestApi, runtime: Runtime, *, host: str, region: str, account: str) -> None:
        self._api = api
        self._runtime = runtime
        self._host = host
        self._arn = f"arn:aws:execute-api:{region}:{account}:local/{api.stage}"
        self._account = account
        self._requests = ThreadPoolExecutor(_THREADS, thread_name_prefix="gateway")
        self._invocations = ThreadPoolExecutor(2 * _THREADS, thread_name_prefix="function")

    def close(self) -> None:
        """Take no more requests; those under way are not waited for."""
        self._requests.shutdown(wait=False, cancel_futures=True)
        self._invocations.shutdown(wait=False, cancel_futures=True)

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | Headers = (),
        body: bytes = b"",
        *,
        source_ip: str = "127.0.0.1",
    ) -> Response:
        """Answer one request; `url` may be absolute, or begin at the path."""
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        target = urlsplit(url)
        event = self._event(method, target.path, target.query, pairs, body, source_ip)
        context = event["requestContext"]
        try:
            return self._compressed(self._answer(event, target.path, body), event)
        except _Refusal as refusal:
            return self._refuse(refusal, context)
        except Exception:  # the front must answer; its own defect is its log's
            log.exception("the front failed")
            return self._refuse(_Refusal("FUNCTION_FAILURE"), context)

    def _compressed(self, response: Response, event: Mapping[str, Any]) -> Response:
        """The answer in gzip if the client takes that and it is large enough."""
        least = self._api.min_compression_bytes
        accepted = _first(list(event["headers"].items()), "accept-encoding") or ""
        codings = {each.replace(" ", "").lower().removesuffix(";q=1.0") for each in accepted.split(",")}
        is_coded = response.header("Content-Encoding") is not None
        if least is None or len(response.body) < least or "gzip" not in codings or is_coded:
            return response
        headers = (*response.headers, ("Content-Encoding", "gzip"))
        return Response(status=response.status, headers=headers, body=gzip.compress(response.body, 1))

    def _event(
        self, method: str, path: str, query: str, headers: Headers, body: bytes, source_ip: str
    ) -> dict[str, Any]:
        """The proxy event of a request, as far as it does not depend on the route."""
        sent = {name.lower() for name, _ in headers}
        added = {"Host": self._host, "X-Forwarded-For": source_ip, "X-Forwarded-Proto": "http"}
        received = [*headers, *((name, value) for name, value in added.items() if name.lower() not in sent)]
        parameters = parse_qsl(query, keep_blank_values=True)
        text: str | None = None
        if body:
            text = base64.b64encode(body).decode() if self._api.is_binary else body.decode("utf-8", "replace")
        return {
            "path": unquote(path),
            "httpMethod": method,
            "headers": dict(received),
            "multiValueHeaders": _grouped(received),
            "queryStringParameters": dict(parameters) or None,
            "multiValueQueryStringParameters": _grouped(parameters) or None,
            "stageVariables": None,
            "requestContext": {
                "requestId": str(uuid.uuid4()),
                "stage": self._api.stage,
                "path": unquote(path),
                "protocol": "HTTP/1.1",
                "httpMethod": method,
                "apiId": "local",
                "accountId": self._account,
                "domainName": self._host,
                "requestTimeEpoch": int(time.time() * 1000),
                "identity": {"sourceIp": source_ip, "userAgent": _first(received, "user-agent")},
            },
            "body": text,
            "isBase64Encoded": self._api.is_binary and bool(body),
        }

    def _answer(self, event: dict[str, Any], path: str, body: bytes) -> Response:
        found = self._api.find(event["httpMethod"], path)
        if found is None:
            raise _Refusal("MISSING_AUTHENTICATION_TOKEN")
        if len(body) > MAX_BODY_BYTES:
            raise _Refusal("REQUEST_TOO_LARGE")
        route, parameters = found
        event |= {"resource": route.resource, "pathParameters": parameters or None}
        context = event["requestContext"]
        context["resourcePath"] = route.resource
        if route.authorizer is not None:
            context["authorizer"] = self._authorize(route, event)
        if route.mock is not None:
            parameters = event["headers"] | (event["queryStringParameters"] or {})
            rendering = route.mock.answer(context, parameters)
            return _rendered(rendering, rendering.status or 200, context)
        return self._integrate(route, event)

    def _authorize(self, route: ApiRoute, event: Mapping[str, Any]) -> dict[str, Any]:
        """The authorizer's context for the function; raises _Refusal unless it allows this very request."""
        authorizer = route.authorizer
        assert authorizer is not None
        for name in authorizer.required_headers:
            if not _first(list(event["headers"].items()), name):
                raise _Refusal("UNAUTHORIZED")
        arn = f"{self._arn}/{event['httpMethod']}{event['path']}"
        if authorizer.token_header is not None:
            token = _first(list(event["headers"].items()), authorizer.token_header)
            question = {"type": "TOKEN", "methodArn": arn, "authorizationToken": token}
        else:
            question = {**event, "type": "REQUEST", "methodArn": arn}
            question.pop("body")
            question.pop("isBase64Encoded")
        try:
            answer = self._invoke(authorizer.function, question, route.timeout_seconds)
        except FunctionError as error:
            if str(error.__cause__) == "Unauthorized":  # how an authorizer says 401
                raise _Refusal("UNAUTHORIZED") from None
            log.warning("%s", error)
            raise _Refusal("AUTHORIZER_FAILURE") from None
        except (PayloadTooLargeError, InvocationTimeout):
            raise _Refusal("AUTHORIZER_FAILURE") from None
        try:
            statements = answer["policyDocument"]["Statement"]
            context = {**(answer.get("context") or {}), "principalId": answer["principalId"]}
            effects = {each["Effect"] for each in statements if _covers(each["Resource"], arn)}
        except (KeyError, TypeError):
            raise _Refusal("AUTHORIZER_CONFIGURATION_ERROR") from None
        if effects != {"Allow"}:
            raise _Refusal("ACCESS_DENIED", authorizer=context)
        # API Gateway passes scalars only, and as strings.
        return {name: json.dumps(each) if isinstance(each, bool) else str(each) for name, each in context.items()}

    def _integrate(self, route: ApiRoute, event: Mapping[str, Any]) -> Response:
        assert route.function is not None
        try:
            answer = self._invoke(route.function, event, route.timeout_seconds)
        except PayloadTooLargeError:
            raise _Refusal("REQUEST_TOO_LARGE") from None
        except InvocationTimeout:
            own_limit = self._runtime.functions[route.function].timeout_seconds
            log.warning("%s did not answer in time", route.function)
            too_slow = "INTEGRATION_TIMEOUT" if route.timeout_seconds < own_limit else "FUNCTION_FAILURE"
            raise _Refusal(too_slow) from None
        except FunctionError as error:
            log.warning("%s", error)
            raise _Refusal("FUNCTION_FAILURE") from None
        try:
            headers = [(name, str(value)) for name, value in (answer.get("headers") or {}).items()]
            for name, values in (answer.get("multiValueHeaders") or {}).items():
                headers = [pair for pair in headers if pair[0].lower() != name.lower()]
                headers += [(name, str(value)) for value in values]
            status, text = int(answer["statusCode"]), answer.get("body") or ""
            content = base64.b64decode(text) if answer.get("isBase64Encoded") else text.encode()
        except (AttributeError, KeyError, TypeError, ValueError):
            log.warning("%s answered with something that is no response", route.function)
            raise _Refusal("FUNCTION_FAILURE") from None
        if content and not any(name.lower() == "content-type" for name, _ in headers):
            headers.append(("Content-Type", "application/json"))
        return Response(
            status=status,
            headers=tuple(
                (f"x-amzn-Remapped-{name}" if name.lower() in _REMAPPED else name, value) for name, value in headers
            ),
            body=content,
        )

    def _invoke(self, function: str, event: Mapping[str, Any], timeout_seconds: float) -> Any:
        """Invoke in another thread, so that the answer can be given up; raises InvocationTimeout."""
        limit = min(timeout_seconds, self._runtime.functions[function].timeout_seconds)
        run = contextvars.copy_context().run  # so that a meter of the caller counts what the function does
        return self._invocations.submit(run, self._runtime.invoke, function, event).result(limit)

    def _refuse(self, refusal: _Refusal, context: Mapping[str, Any]) -> Response:
        status, message, rendering = self._api.failure(refusal.kind)
        if rendering is None:
            body = json.dumps({"message": message}).encode()
            return Response(status=status, headers=(("Content-Type", "application/json"),), body=body)
        error = {"message": message, "messageString": json.dumps(message), "responseType": refusal.kind}
        known = {**context, "error": error}
        if refusal.authorizer is not None:
            known["authorizer"] = refusal.authorizer
        return _rendered(rendering, status, known)

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """ASGI, `http` scopes only."""
        body = bytearray()
        while (message := await receive())["type"] == "http.request":
            if len(body) <= MAX_BODY_BYTES:  # one byte more is enough to refuse it
                body += message.get("body", b"")
            if not message.get("more_body"):
                break
        else:
            return  # the client is gone
        path = scope["raw_path"].decode("ascii", "replace")
        query = scope["query_string"].decode("ascii", "replace")
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        began = time.monotonic()
        response = await asyncio.get_running_loop().run_in_executor(
            self._requests,
            self.request,
            scope["method"],
            f"{path}?{query}" if query else path,
            headers,
            bytes(body),
        )
        elapsed_ms = (time.monotonic() - began) * 1000
        log.info("%s %s %d %.0f ms", scope["method"], path, response.status, elapsed_ms)
        start = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
        if response.status != 204:
            start.append((b"content-length", str(len(response.body)).encode()))
        await send({"type": "http.response.start", "status": response.status, "headers": start})
        await send({"type": "http.response.body", "body": response.body})


def _rendered(rendering: Rendering, status: int, context: Mapping[str, Any]) -> Response:
    headers = {"Content-Type": rendering.content_type}
    headers |= {name: template.render(context) for name, template in rendering.headers.items()}
    return Response(status=status, headers=tuple(headers.items()), body=rendering.body.render(context).encode())


def _grouped(pairs: Headers) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, value in pairs:
        grouped.setdefault(name, []).append(value)
    return grouped


def _first(headers: Headers, wanted: str) -> str | None:
    return next((value for name, value in headers if name.lower() == wanted.lower()), None)


def _covers(resources: str | Sequence[str], arn: str) -> bool:
    return any(fnmatch.fnmatchcase(arn, each) for each in ([resources] if isinstance(resources, str) else resources))
