"""What is compared with: other FHIR servers that install from npm, driven over HTTP like the exchange.

    fhir-works   FHIR Works on AWS (Apache-2.0): router, JSON Schema validation, DynamoDB persistence, same emulator
    medplum      Medplum's router (Apache-2.0) over its repository in memory: validation and search, no storage

Both run without authorisation, audit and events, which the exchange cannot be without; see `DIFFERENCES`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import boto3

from benchmarks.npm import installed
from infra.node import NODE
from infra.paths import ROOT
from local.child import Child
from local.emulator import REGION, Emulator

MANIFEST: Final = ROOT / "benchmarks" / "peers"
OURS: Final = "Passerelle"
FHIR_WORKS: Final = "FHIR Works"
MEDPLUM: Final = "Medplum"
_TABLE: Final = "fhir-works"

DIFFERENCES: Final = """\
Passerelle   token checked on each request (two reads, a signature), scope, audit record stored before the answer,
             search entries and outbox in one transaction with the resource, events handed on meanwhile
FHIR Works   resource stored in DynamoDB; no token, no audit; search left out: it needs an OpenSearch cluster
Medplum      nothing is stored: objects in memory; no token, no audit; its search reads every resource of the type
All          a process each, HTTP on loopback, the same payloads, warmed up. CPU is that of the server, and then that
             of its emulator of AWS, which reads a whole partition to answer for a part of it, as DynamoDB does not"""


@dataclass(slots=True, kw_only=True)
class Server:
    """A server under measurement; its child says its `url`, the base of the API."""

    name: str
    child: Child
    emulator: Emulator | None = None
    searches: bool = True

    @property
    def host(self) -> str:
        return str(urlsplit(self.child.ready["url"]).netloc)

    @property
    def prefix(self) -> str:
        return str(urlsplit(self.child.ready["url"]).path)

    def headers(self) -> dict[str, str]:
        return {}

    def cpu_ms(self) -> tuple[float, float]:
        """Processor time of the server and of its emulator, since they started."""
        return self.child.cpu_ms(), self.emulator.cpu_ms() if self.emulator else 0.0


class Exchange(Server):
    """The exchange: a token is got outside of what is measured."""

    __slots__ = ()

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.child.ask('token')['token']}"}

    def cpu_ms(self) -> tuple[float, float]:
        return self.child.cpu_ms(), float(self.child.ask("emulator")["cpu_ms"])


@contextmanager
def exchange() -> Iterator[Exchange]:
    with Child(OURS, [sys.executable, "-m", "benchmarks.exchange"]) as child:
        yield Exchange(name=OURS, child=child)


@contextmanager
def fhir_works() -> Iterator[Server]:
    """Raises NpmError."""
    folder = installed(MANIFEST)
    with Emulator() as aws:
        _make_table(aws.url)
        environment = os.environ | {
            "ACCESS_KEY": "local",
            "AWS_ENDPOINT_URL": aws.url,
            "AWS_REGION": REGION,
            "AWS_SDK_JS_SUPPRESS_MAINTENANCE_MODE_MESSAGE": "1",
            "IS_OFFLINE": "true",  # takes the credentials from ACCESS_KEY and SECRET_KEY, and keeps X-Ray quiet
            "LOG_LEVEL": "error",
            "RESOURCE_TABLE": _TABLE,
            "SECRET_KEY": "local",
        }
        with _node(FHIR_WORKS, folder, "fhir-works.cjs", environment) as child:
            yield Server(name=FHIR_WORKS, child=child, emulator=aws, searches=False)


@contextmanager
def medplum() -> Iterator[Server]:
    """Raises NpmError."""
    with _node(MEDPLUM, installed(MANIFEST), "medplum.mjs", dict(os.environ)) as child:
        yield Server(name=MEDPLUM, child=child)


def _node(name: str, folder: Path, script: str, environment: dict[str, str]) -> Child:
    return Child(name, [NODE, script], environment=environment | {"NODE_ENV": "production"}, folder=folder)


def _make_table(endpoint: str) -> None:
    """The table as the deployment of FHIR Works declares it, without its indexes and stream."""
    keys: list[dict[str, Any]] = [
        {"AttributeName": "id", "KeyType": "HASH"},
        {"AttributeName": "vid", "KeyType": "RANGE"},
    ]
    kinds: list[dict[str, Any]] = [
        {"AttributeName": "id", "AttributeType": "S"},
        {"AttributeName": "vid", "AttributeType": "N"},
    ]
    client: Any = boto3.client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 - of the emulator
    )
    client.create_table(TableName=_TABLE, KeySchema=keys, AttributeDefinitions=kinds, BillingMode="PAY_PER_REQUEST")
