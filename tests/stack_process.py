"""The local stack in a process of its own, as its users run it, and many requests to it at once.

The emulator's DynamoDB serves calls in parallel; moto's does not.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from local.exchange import Credentials, ExchangeClient
from local.region import PARTICIPANTS
from local.template import clients
from passerelle.aws.dynamodb import DynamoDb, from_attributes
from passerelle.aws.keys import KeyRing
from passerelle.aws.sealing import Sealer
from passerelle.identifiers import Blinder
from tests.wholeness import Opening

ROOT = Path(__file__).resolve().parents[1]
PASSERELLE = [sys.executable, "-c", "from local.cli import app; app()"]
_READY_SECONDS = 90


class Running:
    """A local stack in a process of its own."""

    def __init__(self, url: str, state: Path) -> None:
        self.url = url
        self.credentials = state / "credentials.json"
        self._made = state / "stack.json"
        self._keys = Credentials(self.credentials).keys()
        self._clients: list[ExchangeClient] = []

    def client(self, client_id: str) -> ExchangeClient:
        """A new client, open until the end of the test."""
        scope = next(each.scopes for each in PARTICIPANTS if each.id == client_id)
        self._clients.append(ExchangeClient(self.url, client_id, self._keys[client_id], scope=scope))
        return self._clients[-1]

    def close_clients(self) -> None:
        while self._clients:
            self._clients.pop().http.close()

    def items(self, table: str) -> list[dict[str, Any]]:
        """What a table of the stack holds, as Python values: straight from its emulator."""
        pages = self._aws("dynamodb").get_paginator("scan").paginate(TableName=self._named(f"Tables{table.title()}"))
        return [from_attributes(item) for page in pages for item in page["Items"]]

    def opening(self) -> Opening:
        """What its items are opened with."""
        secret = self._aws("secretsmanager").get_secret_value(SecretId=self._named("KeysIndexSecret"))
        blinder = Blinder(secret["SecretString"].encode())
        wrapping = cache(lambda: Sealer(blinder.subkey("data-keys")))
        return Opening(KeyRing(DynamoDb(self._aws("dynamodb")), self._named("TablesKeys"), wrapping), blinder)

    def contents(self) -> set[str]:
        """The keys of the contents that its vault holds."""
        pages = self._aws("s3").get_paginator("list_objects_v2").paginate(Bucket=self._named("DocumentVaultBucket"))
        return {each["Key"] for page in pages for each in page.get("Contents", ())}

    def _named(self, resource: str) -> str:
        made = {name: each["ref"] for name, each in json.loads(self._made.read_text("utf-8")).items()}
        return str(next(ref for name, ref in made.items() if name.startswith(resource)))

    def _aws(self, service: str) -> Any:
        return clients(f"http://{urlsplit(self._named('NotificationsEvents')).netloc}")(service)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        options = ["--url", self.url, "--credentials", str(self.credentials)]
        return subprocess.run(
            [*PASSERELLE, *arguments, *options], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )


@contextmanager
def running_stack(state: Path) -> Iterator[Running]:
    """`passerelle run` on a free port, until the end of the block."""
    port = _free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    process = subprocess.Popen(
        [*PASSERELLE, "run", "--port", str(port), "--state", str(state)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(process, url)
        yield Running(url, state)
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_ready(process: subprocess.Popen[str], url: str) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        try:
            if httpx.get(f"{url}/fhir/metadata", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail("the local stack was not ready in time")


def at_once(count: int, attempt: Callable[[int], httpx.Response]) -> list[httpx.Response]:
    """The answers to attempts that all start at the same moment."""
    barrier = threading.Barrier(count)

    def start(number: int) -> httpx.Response:
        barrier.wait()
        return attempt(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(start, range(count)))
