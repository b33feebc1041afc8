"""What documents cost: for each operation the AWS calls, capacity units, CPU and wall time; large ones; many at once.

The emulator is a process of its own: CPU is that of the HTTP front, the authorizer and the functions. Calls and units
are those of the functions and the authorizer, by the size rules that AWS publishes.
"""

from __future__ import annotations

import base64
import copy
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import uuid4

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks import transfers
from local import samples
from local.emulator import Emulator
from local.exchange import ExchangeClient
from local.region import INS_TEST, ins_of

TIMES: Final = 20
MANY: Final = 300
_PATCH: Final = {"Content-Type": "application/json-patch+json"}
_LABELS: Final = "https://mos.esante.gouv.fr/NOS/TRE_A07-StatutVisibiliteDocument/FHIR/TRE-A07-StatutVisibiliteDocument"

Attempt = Callable[[], httpx.Response]


def run(console: Console) -> None:
    with TemporaryDirectory() as folder, Emulator() as elsewhere:
        with console.status("bringing up the functions"):
            client, patient = transfers.exchange(elsewhere.url, Path(folder))
        transfers.run(console, client, patient)  # first, while this process holds little
        console.print(_operations(client, patient))
        console.print(_many(client, patient))


def submission(patient: str, count: int = 1, *, subject: str = "") -> dict[str, Any]:
    """New documents, in one submission."""
    bundle = samples.submission(subject or f"Patient/{patient}", unique=f"urn:uuid:{uuid4()}")
    listed, document, binary = bundle["entry"]
    made, items = [], []
    for _ in range(count):
        document, binary = copy.deepcopy(document), copy.deepcopy(binary)
        document["fullUrl"], binary["fullUrl"] = f"urn:uuid:{uuid4()}", f"urn:uuid:{uuid4()}"
        document["resource"]["masterIdentifier"]["value"] = f"urn:uuid:{uuid4()}"
        document["resource"]["content"][0]["attachment"]["url"] = binary["fullUrl"]
        items.append({"item": {"reference": document["fullUrl"]}})
        made += [document, binary]
    listed["resource"]["entry"] = items
    return {**bundle, "entry": [listed, *made]}


def _operations(client: ExchangeClient, patient: str) -> Table:
    def publish(**options: Any) -> httpx.Response:
        return client.request("POST", "", json=submission(patient, **options))

    def new() -> str:
        return str(publish().json()["entry"][1]["response"]["location"].partition("/_history")[0])

    def simple() -> dict[str, Any]:
        document = submission(patient)["entry"][1]["resource"]
        attachment = {"contentType": "application/xml", "data": base64.b64encode(samples.CDA).decode()}
        return {**document, "content": [{"attachment": attachment}]}

    def patch(place: str, *operations: Mapping[str, Any]) -> Attempt:
        return lambda: client.request("PATCH", place, json=list(operations), headers=_PATCH)

    def shared(place: str) -> Attempt:
        terms = samples.parameters(purpose__valueCode="TREAT")
        return lambda: client.request("POST", f"{place}/$share", json=terms)

    def opening() -> Attempt:
        made = shared(new())().json()["parameter"]
        url = next(each["valueUrl"] for each in made if each["name"] == "url")
        return lambda: client.http.post(url)

    withdraw = {"op": "replace", "path": "/status", "value": "entered-in-error"}
    mask = {
        "op": "replace",
        "path": "/securityLabel/0",
        "value": {"coding": [{"system": _LABELS, "code": "MASQUE_PS"}]},
    }
    prepared: dict[str, Callable[[], Attempt]] = {
        "publish a document (ITI-65)": lambda: publish,
        "the same, the subject by identifier": lambda: (
            lambda: publish(subject=f"Patient?identifier={INS_TEST}|{ins_of(20)}")
        ),
        "publish simply (ITI-105)": lambda: (
            lambda content: lambda: client.request("POST", "DocumentReference", json=content)
        )(simple()),
        "find documents, 10 (ITI-67)": lambda: (
            lambda: client.request("GET", f"DocumentReference?patient={patient}&status=current&_count=10")
        ),
        "find submissions, 10 (ITI-66)": lambda: (
            lambda: client.request("GET", f"List?patient={patient}&code=submissionset&status=current&_count=10")
        ),
        "retrieve (ITI-68)": lambda: (
            lambda place: lambda: client.request("GET", place.replace("DocumentReference", "Binary"))
        )(new()),
        "mask": lambda: patch(new(), mask),
        "withdraw": lambda: patch(new(), withdraw),
        "make a temporary link": lambda: shared(new()),
        "open a temporary link": opening,
    }
    table = _table("operation", "AWS calls", "round trips", "read units", "write units", "CPU ms", "wall ms")
    for name, prepare in prepared.items():
        table.add_row(name, *_measured([prepare() for _ in range(TIMES)]))
    table.caption = f"medians of {TIMES}; the authorizer included; emulator in another process"
    return table


def _measured(attempts: list[Attempt]) -> list[str]:
    from passerelle.aws.dynamodb import measure

    rows = []
    for attempt in attempts:
        cpu, began = time.process_time(), time.perf_counter()
        with measure() as spent:
            answer = attempt()
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        answer.raise_for_status()
        units = (spent.read_units, spent.write_units)
        rows.append((len(spent.calls), spent.round_trips, *units, cpu * 1000, wall * 1000))
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    return [*(f"{each:g}" for each in medians[:4]), *(f"{each:.0f}" for each in medians[4:])]


def _many(client: ExchangeClient, patient: str) -> Table:
    table = _table("documents", "MB", "AWS calls", "round trips", "read units", "write units", "CPU ms", "wall ms")
    for count in (1, 30, MANY):
        bundle = submission(patient, count)
        size = len(httpx.Request("POST", "http://127.0.0.1", json=bundle).content)
        measured = _measured([lambda bundle=bundle: client.request("POST", "", json=bundle)])  # type: ignore[misc]
        table.add_row(str(count), f"{size / 1e6:.2f}", *measured)
    table.caption = "one submission; a partition of DynamoDB takes 1,000 write units a second, the emulator more"
    return table


def _table(*columns: str) -> Table:
    table = Table(*columns)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


if __name__ == "__main__":
    run(Console(width=130))
