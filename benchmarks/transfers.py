"""What a large document costs the function that verifies it, and the one that publishes it: time, and memory.

The emulator is a process of its own, so that what this one holds is what a function would hold. The content is made and
sent part by part; it is a PDF to whoever looks at its ends.
"""

from __future__ import annotations

import base64
import hashlib
import resource
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table

from local import samples, synthesis
from local.exchange import Credentials, ExchangeClient
from local.gateway import Gateway
from local.region import INS_TEST, PARTICIPANTS, ins_of
from local.runtime import Runtime
from local.seed import seed
from local.server import Server
from local.stack import isolate
from local.template import Stack, clients
from local.transport import GatewayTransport

_MIB: Final = 1024 * 1024
SIZES: Final = (20 * _MIB, 200 * _MIB)
_HEAD, _TAIL = b"%PDF-1.7\n", b"\n%%EOF\n"


def run(console: Console, client: ExchangeClient, patient: str) -> None:
    """Take each size through the functions, the smallest first."""
    shown = Table("content", "verify s", "MB/s", "publish s", "more memory: verify", "publish", "first answer ms")
    for column in shown.columns[1:]:
        column.justify = "right"
    _passed_on(client, patient, _MIB)  # what the first of its kind imports and connects
    for size in SIZES:
        shown.add_row(f"{size // _MIB} MB", *_passed_on(client, patient, size))
    console.print(shown)


def exchange(endpoint: str, folder: Path) -> tuple[ExchangeClient, str]:
    """A client of an exchange in this process on an emulator elsewhere, and the id of somebody in it.

    Its requests do not leave the process, so that what is called for them can be counted.
    """
    isolate(endpoint)
    server = Server()
    stack = Stack.deploy(
        synthesis.synthesise(folder), parameters={"PublicUrl": server.url}, client=clients(endpoint), state=None
    )
    runtime = Runtime(stack.functions, stack.environment, log=(folder / "log").open("w"))
    runtime.load()
    host = server.url.removeprefix("http://")
    gateway = Gateway(stack.api, runtime, host=host, region=stack.region, account=stack.account)
    server.start(gateway)
    from passerelle import wiring

    credentials = Credentials(folder / "credentials.json")
    seed(server.url, credentials, wiring.clients().register, lambda _: None)
    hospital = PARTICIPANTS[0]
    key, transport = credentials.keys()[hospital.id], GatewayTransport(gateway)
    client = ExchangeClient(server.url, hospital.id, key, scope=hospital.scopes, transport=transport)
    person = client.request("GET", f"Patient?identifier={INS_TEST}|{ins_of(20)}").json()
    return client, str(person["entry"][0]["resource"]["id"])


def _passed_on(client: ExchangeClient, patient: str, size: int) -> list[str]:
    sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
    for part in _parts(size, 8 * _MIB):
        sha1.update(part)
        sha256.update(part)
    digests = {"hash": _text(sha1.digest()), "sha256": _text(sha256.digest())}
    announced = samples.parameters(
        contentType__valueCode="application/pdf",
        size__valueInteger=size,
        hash__valueBase64Binary=digests["hash"],
        sha256__valueBase64Binary=digests["sha256"],
    )
    ticket = _parameters(_ok(client.request("POST", "Binary/$upload", json=announced)))
    for url, part in zip(ticket["part"], _parts(size, ticket["partSize"]), strict=True):
        httpx.put(url, content=part, timeout=30).raise_for_status()
    before = _peak_bytes()
    began = time.perf_counter()
    _ok(client.request("POST", f"Binary/{ticket['id']}/$complete", content=b""))
    verified = time.perf_counter() - began
    verifying = _peak_bytes() - before
    bundle = samples.submission(f"Patient/{patient}", unique=f"urn:oid:2.999.9.{size}")
    del bundle["entry"][2]
    attachment = bundle["entry"][1]["resource"]["content"][0]["attachment"]
    attachment |= {
        "url": ticket["url"],
        "contentType": "application/pdf",
        "size": size,
        "hash": digests["hash"],
    }
    began = time.perf_counter()
    answer = _ok(client.request("POST", "", json=bundle))
    published = time.perf_counter() - began
    publishing = _peak_bytes() - before - verifying
    id = answer["entry"][1]["response"]["location"].split("/")[1]
    began = time.perf_counter()
    client.request("GET", f"Binary/{id}")
    told = time.perf_counter() - began
    return [
        f"{verified:.2f}",
        f"{size / _MIB / verified:.0f}",
        f"{published:.2f}",
        f"{verifying / _MIB:.0f} MB",
        f"{publishing / _MIB:.0f} MB",
        f"{told * 1000:.0f}",
    ]


def _parts(size: int, part: int) -> Iterator[bytes]:
    """The content, so many bytes at a time."""
    for first in range(0, size, part):
        data = bytearray(b"0" * min(part, size - first))
        if first == 0:
            data[: len(_HEAD)] = _HEAD
        if first + part >= size:
            data[-len(_TAIL) :] = _TAIL
        yield bytes(data)


def _parameters(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an answer; of the parts, their URLs in order."""
    found: dict[str, Any] = {"part": []}
    for each in answer["parameter"]:
        if each["name"] == "part":
            found["part"].append(next(part["valueUrl"] for part in each["part"] if part["name"] == "url"))
        else:
            found[each["name"]] = next(value for name, value in each.items() if name != "name")
    return found


def _ok(answer: httpx.Response) -> dict[str, Any]:
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def _text(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
