"""The HTTP front does what API Gateway does with a REST API."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator

import httpx
import pytest
from moto import mock_aws

from local.gateway import MAX_BODY_BYTES, Gateway
from local.runtime import MAX_PAYLOAD_BYTES
from local.server import PortTakenError, Server
from local.template import Stack
from tests.local.small import runtime_of, small_template


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with mock_aws():
        stack = Stack.deploy(small_template())
        gateway = Gateway(
            stack.api,
            runtime_of(stack),
            host="127.0.0.1:8000",
            region=stack.region,
            account=stack.account,
        )
        yield gateway
        gateway.close()


@pytest.mark.parametrize(
    ("method", "path", "resource", "parameters"),
    [
        ("GET", "/things", "/things", None),
        ("GET", "/things/", "/things", None),
        ("GET", "/things/a%20b%2Fc", "/things/{id}", {"id": "a b/c"}),
        ("GET", "/things/$match", "/things/{id}", {"id": "$match"}),
        ("PATCH", "/things/1", "/things/{id}", {"id": "1"}),
        ("GET", "/things/1/2/3", "/things/{rest+}", {"rest": "1/2/3"}),
    ],
)
def test_routing(gateway: Gateway, method: str, path: str, resource: str, parameters: dict[str, str] | None) -> None:
    event = gateway.request(method, path).json
    assert (event["resource"], event["pathParameters"]) == (resource, parameters)


def test_a_static_segment_comes_before_a_variable(gateway: Gateway) -> None:
    response = gateway.request("GET", "/things/info")
    assert (response.status, response.body) == (200, b'{"op":"$x"}')
    assert response.header("content-type") == "application/fhir+json"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/nothing"), ("GET", "/"), ("PUT", "/things"), ("POST", "/things/info"), ("GET", "//things")],
)
def test_an_unknown_route_gets_the_response_of_the_template(gateway: Gateway, method: str, path: str) -> None:
    response = gateway.request(method, path)
    assert (response.status, response.json) == (404, {"code": "not-found"})


def test_the_proxy_event(gateway: Gateway) -> None:
    headers = [("X-Sent-As", "1"), ("X-Sent-As", "2"), ("Accept", "a/b")]
    event = gateway.request("PATCH", "/things/7?a=1&b=&a=2%203", headers, b"caf\xc3\xa9").json
    assert event["headers"]["X-Sent-As"] == "2"
    assert event["multiValueHeaders"]["X-Sent-As"] == ["1", "2"]
    assert event["headers"]["X-Forwarded-Proto"] == "http"
    assert event["queryStringParameters"] == {"a": "2 3", "b": ""}
    assert event["multiValueQueryStringParameters"] == {"a": ["1", "2 3"], "b": [""]}
    assert event["isBase64Encoded"] is True
    assert base64.b64decode(event["body"]) == "café".encode()
    context = event["requestContext"]
    assert context["path"] == event["path"] == "/things/7"
    assert context["domainName"] == "127.0.0.1:8000"
    assert (context["httpMethod"], context["resourcePath"], context["stage"]) == (
        "PATCH",
        "/things/{id}",
        "v1",
    )
    assert "authorizer" not in context


def test_no_body_is_null(gateway: Gateway) -> None:
    event = gateway.request("GET", "/things").json
    assert (event["body"], event["isBase64Encoded"]) == (None, False)
    assert event["queryStringParameters"] is None


def test_answers(gateway: Gateway) -> None:
    response = gateway.request("GET", "/things", {"x-status": "418"})
    assert response.status == 418
    assert [value for name, value in response.headers if name == "X-Many"] == ["1", "2"]
    assert response.header("WWW-Authenticate") is None  # API Gateway keeps it for its own
    assert response.header("x-amzn-Remapped-WWW-Authenticate") == "Bearer"
    assert gateway.request("GET", "/things", {"x-bytes": "1"}).body == b"\x00\xff"


@pytest.mark.parametrize(("accepted", "is_coded"), [("gzip, br", True), ("br", False), ("gzip;q=0", False)])
def test_large_answers_are_compressed_for_clients_that_accept_it(
    gateway: Gateway, accepted: str, is_coded: bool
) -> None:
    response = gateway.request("GET", "/things", {"Accept-Encoding": accepted})
    assert (response.header("Content-Encoding") == "gzip") is is_coded
    body = gzip.decompress(response.body) if is_coded else response.body
    assert json.loads(body)["resource"] == "/things"
    small = gateway.request("GET", "/things/info", {"Accept-Encoding": accepted})
    assert small.header("Content-Encoding") is None


def test_an_authorizer_that_allows_gives_its_context_as_strings(gateway: Gateway) -> None:
    context = gateway.request("POST", "/things", {"authorization": "good"}).json["requestContext"]
    assert context["authorizer"] == {
        "principalId": "somebody",
        "issue": "expired",
        "level": "3",
        "trusted": "true",
    }


@pytest.mark.parametrize("token", ["bad", "elsewhere"])
def test_an_authorizer_that_does_not_allow_this_request(gateway: Gateway, token: str) -> None:
    response = gateway.request("POST", "/things", {"Authorization": token})
    assert response.status == 401
    assert response.json == {"issue": "expired", "message": "User is not authorized to access this resource"}
    assert response.header("WWW-Authenticate") == "Bearer"
    assert len(response.header("X-Request-Id") or "") == 36


@pytest.mark.parametrize("headers", [{}, {"Authorization": ""}, {"Authorization": "unauthorized"}])
def test_without_credentials(gateway: Gateway, headers: dict[str, str]) -> None:
    response = gateway.request("POST", "/things", headers)
    assert (response.status, response.json) == (401, {"message": "Unauthorized"})


def test_an_authorizer_that_fails(gateway: Gateway) -> None:
    response = gateway.request("POST", "/things", {"Authorization": "broken"})
    assert (response.status, response.json["code"]) == (500, "exception")


@pytest.mark.parametrize("header", ["x-raise", "x-junk"])
def test_a_function_that_fails(gateway: Gateway, header: str, caplog: pytest.LogCaptureFixture) -> None:
    response = gateway.request("GET", "/things", {header: "1"})
    assert (response.status, response.json["code"]) == (502, "exception")
    assert "name that no log may hold" not in caplog.text


def test_a_function_that_takes_too_long(gateway: Gateway) -> None:
    assert gateway.request("DELETE", "/things/1").status == 502


@pytest.mark.parametrize("size", [MAX_PAYLOAD_BYTES, MAX_BODY_BYTES + 1])
def test_a_body_that_is_too_large(gateway: Gateway, size: int) -> None:
    response = gateway.request("PATCH", "/things/1", body=b"x" * size)
    assert (response.status, response.json) == (413, {"message": "Request Too Long"})


def test_over_http(gateway: Gateway) -> None:
    server = Server()
    server.start(gateway)
    try:
        with httpx.Client(base_url=server.url, trust_env=False) as client:
            event = client.request("PATCH", "/things/a%2Fb?q=%C3%A9", content=b"x").json()
            assert event["path"] == "/things/a/b"
            assert event["queryStringParameters"] == {"q": "é"}
            assert event["body"] == "eA=="
            assert client.get("/things", headers={"x-bytes": "1"}).content == b"\x00\xff"
            assert client.get("/nothing").status_code == 404
            assert client.request("PATCH", "/things/1", content=b"x" * (MAX_BODY_BYTES + 2)).status_code == 413
        with pytest.raises(PortTakenError):
            Server(port=server.port)
    finally:
        server.stop()
