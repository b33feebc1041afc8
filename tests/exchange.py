"""An exchange in this process for tests: the synthesised template on moto, the real functions, the synthetic region."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from moto import mock_aws

from local.exchange import Credentials, ExchangeClient, new_key
from local.gateway import Gateway, Response
from local.pump import Pump
from local.region import PARTICIPANTS
from local.runtime import Runtime
from local.seed import directory, register_clients
from local.story import Step, Story
from local.template import Stack
from local.transport import GatewayTransport
from local.webhook import Webhook
from tests.quick_moto import quicken

HOST = "127.0.0.1:8000"
URL = f"http://{HOST}"
KEYS = {participant.id: new_key("EC") for participant in PARTICIPANTS}


class _Keys(Credentials):
    """Keys made once for all tests, in memory."""

    def __init__(self) -> None:
        self.path = None  # type: ignore[assignment]

    def keys(self) -> dict[str, dict[str, Any]]:
        return dict(KEYS)

    def save(self, keys: Mapping[str, Mapping[str, Any]]) -> None:
        assert dict(keys) == KEYS


class PumpedWebhook(Webhook):
    """A subscriber on loopback; waiting for a notification feeds the events on, in this thread."""

    def __init__(self, pump: Pump) -> None:
        super().__init__()
        self._pump = pump

    def wait_for(self, text: str, seconds: float) -> bool:
        self._pump.run_until_idle()
        return super().wait_for(text, 1)


class Client:
    """A registered client; requests carry its token unless `headers` says otherwise."""

    def __init__(self, exchange: Exchange, client_id: str, scope: str) -> None:
        self.exchange = exchange
        self.id = client_id
        self.scope = scope
        self._token: str | None = None

    def token(self) -> str:
        if self._token is None:
            answer = self.authorization("token", grant_type="client_credentials", scope=self.scope)
            assert answer.status == 200, answer.body
            self._token = answer.json["access_token"]
        return self._token

    def authorization(self, place: str, **form: str) -> Response:
        """A request to an endpoint of the authorization server, with an assertion of its own."""
        signer = ExchangeClient(URL, self.id, KEYS[self.id], transport=GatewayTransport(self.exchange.gateway))
        sent = {
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": signer.assertion(f"{URL}/oauth2/token"),
            **form,
        }
        signer.http.close()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.exchange.gateway.request("POST", f"/oauth2/{place}", headers, urlencode(sent).encode())

    def request(self, method: str, path: str, json_body: Any = None, **headers: str) -> Response:
        """`path` is below the FHIR base; header names with `_` for `-`."""
        sent = {"Authorization": f"Bearer {self.token()}"}
        body = b""
        if json_body is not None:
            body = json_body if isinstance(json_body, bytes) else json.dumps(json_body).encode()
            sent["Content-Type"] = "application/fhir+json"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.exchange.gateway.request(method, f"/fhir/{path}".rstrip("/"), sent, body)

    def get(self, path: str, **headers: str) -> Response:
        return self.request("GET", path, **headers)

    def post(self, path: str, json_body: Any, **headers: str) -> Response:
        return self.request("POST", path, json_body, **headers)

    def put(self, path: str, json_body: Any, **headers: str) -> Response:
        return self.request("PUT", path, json_body, **headers)


class Exchange:
    """The stack with its gateway and pump; `client` gives a registered client with all its scopes, or with some."""

    def __init__(self, stack: Stack, gateway: Gateway, pump: Pump) -> None:
        self.stack = stack
        self.gateway = gateway
        self.pump = pump
        self._clients: dict[tuple[str, str], Client] = {}

    def client(self, client_id: str, scope: str | None = None) -> Client:
        scopes = scope or next(each.scopes for each in PARTICIPANTS if each.id == client_id)
        return self._clients.setdefault((client_id, scopes), Client(self, client_id, scopes))

    def play(self, tell: Callable[[Step], None] = lambda _: None, **options: Any) -> None:
        """Play the story of the demonstration in this process; raises StoryError."""

        def client(client_id: str) -> ExchangeClient:
            scopes = next(each.scopes for each in PARTICIPANTS if each.id == client_id)
            key = (client_id, "story")
            if key not in made:
                made[key] = ExchangeClient(
                    URL, client_id, KEYS[client_id], scope=scopes, transport=GatewayTransport(self.gateway)
                )
            return made[key]

        made: dict[tuple[str, str], ExchangeClient] = {}
        assert client(PARTICIPANTS[0].id).request("POST", "", json=directory()).status_code == 200
        with PumpedWebhook(self.pump) as webhook:
            Story(client, KEYS, tell, webhook=webhook, **options).play()

    def table(self, name: str) -> list[dict[str, Any]]:
        """Every item of a table, in wire form: for tests that look at what is stored."""
        physical = self.stack.environment[f"{name.upper()}_TABLE"]
        pages = self.stack.client("dynamodb").get_paginator("scan").paginate(TableName=physical)
        return [item for page in pages for item in page["Items"]]


def is_weak(operation: str, params: Mapping[str, Any]) -> bool:
    """Whether a call reads what may be out of date: eventually, by an index, or by a scan (law 2)."""
    if operation not in ("Query", "GetItem", "BatchGetItem", "Scan"):
        return False
    tables = params.get("RequestItems", {"": params}).values()
    return operation == "Scan" or "IndexName" in params or not all(each.get("ConsistentRead") for each in tables)


def _refuse_weak_reads(params: Mapping[str, Any], model: Any, **_: Any) -> None:
    assert not is_weak(model.name, params), model.name


@contextmanager
def exchange_on_moto(template: Mapping[str, Any], *, url: str = URL) -> Iterator[Exchange]:
    """A fresh exchange with its clients registered, and nobody in it; `url` is its public one."""
    from passerelle import wiring

    quicken()
    with mock_aws():
        wiring.reset()
        stack = Stack.deploy(template, parameters={"PublicUrl": url})
        guard = threading.RLock()  # moto is not thread-safe
        runtime = Runtime(stack.functions, stack.environment, guard=guard)
        runtime.load()
        host = url.partition("//")[2]
        gateway = Gateway(stack.api, runtime, host=host, region=stack.region, account=stack.account)
        pump = Pump(stack.sources, runtime, stack.client, region=stack.region, scans=stack.scans)
        register_clients(_Keys(), wiring.clients().register)
        wiring.aws("dynamodb").meta.events.register("before-parameter-build.dynamodb.*", _refuse_weak_reads)
        try:
            yield Exchange(stack, gateway, pump)
        finally:
            gateway.close()
            wiring.reset()
