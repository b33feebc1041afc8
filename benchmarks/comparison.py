"""Create, read, search and transaction in requests a second, with one client and with eight, of us and of peers.

Each server is measured alone, in a process of its own, in the same run: a warm-up, then three rounds, of which the
median counts. Requests go out of this process over kept connections, each client waiting for its answer.
"""

from __future__ import annotations

import http.client
import itertools
import json
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from rich.console import Console
from rich.table import Table

from benchmarks.npm import NpmError
from benchmarks.peers import DIFFERENCES, FHIR_WORKS, MEDPLUM, OURS, Exchange, Server, exchange, fhir_works, medplum
from local.child import ChildError

ROUNDS: Final = 3
SECONDS: Final = 1.5
WARM_UP_SECONDS: Final = 0.7
CLIENTS: Final = (1, 8)
ENTRIES: Final = 20
HELD: Final = 200  # observations of the patient that is searched
CODES: Final = ("8867-4", "8310-5", "9279-1", "59408-5", "29463-7", "8302-2", "39156-5", "2339-0", "718-7", "2160-0")


class BenchmarkError(Exception):
    """A server answered with something else than what is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A request below the base of the API, and the status that answers it."""

    method: str
    path: str
    body: bytes = b""
    expected: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Medians of the rounds."""

    per_second: float
    cpu_ms: float  # of the server, for one request
    emulator_ms: float


Results = dict[tuple[str, int], Speed]


def observation(patient: str, number: int) -> dict[str, Any]:
    """A vital sign or a laboratory value, of about 900 bytes."""
    at = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=number)
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [_concept("http://terminology.hl7.org/CodeSystem/observation-category", "vital-signs")],
        "code": _concept("http://loinc.org", CODES[number % len(CODES)]) | {"text": "Mesure"},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": at.isoformat(),
        "issued": (at + timedelta(minutes=5)).isoformat(),
        "valueQuantity": {
            "value": 60 + number % 40,
            "unit": "/min",
            "system": "http://unitsofmeasure.org",
            "code": "/min",
        },
        "interpretation": [_concept("http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation", "N")],
        "note": [{"text": "Au repos, position assise, bras gauche, après dix minutes de calme."}],
        "referenceRange": [{"low": {"value": 60, "unit": "/min"}, "high": {"value": 100, "unit": "/min"}}],
    }


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def bundle(resources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    entries = [{"resource": each, "request": {"method": "POST", "url": each["resourceType"]}} for each in resources]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def run(console: Console) -> None:
    results: dict[str, Results] = {}
    missing: dict[str, str] = {}
    servers: Mapping[str, Callable[[], AbstractContextManager[Server]]] = {
        OURS: exchange,
        FHIR_WORKS: fhir_works,
        MEDPLUM: medplum,
    }
    for name, start in servers.items():
        try:
            with console.status(f"measuring {name}"), start() as server:
                results[name] = _measured(server)
        except (NpmError, ChildError, BenchmarkError) as failure:
            if name == OURS:
                raise
            missing[name] = str(failure)
    console.print(_table(results))
    for name, reason in missing.items():
        console.print(f"{name} is not here: {reason}", soft_wrap=True)
    console.print(DIFFERENCES, highlight=False, soft_wrap=True)


def _measured(server: Server) -> Results:
    searched, written = _patients(server)
    headers = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"} | server.headers()
    client = _Client(server, headers)
    for start in range(0, HELD, ENTRIES):
        held = [observation(searched, start + place) for place in range(ENTRIES)]
        client.send(Sent(method="POST", path="/", body=_encoded(bundle(held))))
    one = json.loads(client.send(_create(written, 0)))["id"]
    numbers = itertools.count()
    codes = itertools.cycle(CODES)
    token = quote("http://loinc.org|", safe="")
    kinds: dict[str, Callable[[], Sent]] = {
        "search": lambda: Sent(
            method="GET", path=f"/Observation?patient=Patient/{searched}&code={token}{next(codes)}&_count=20"
        ),
        "read": lambda: Sent(method="GET", path=f"/Observation/{one}"),
        "create": lambda: _create(written, next(numbers)),
        "transaction": lambda: Sent(
            method="POST",
            path="/",
            body=_encoded(bundle([observation(written, next(numbers)) for _ in range(ENTRIES)])),
        ),
    }
    client.close()
    if not server.searches:
        del kinds["search"]
    found: Results = {}
    for kind, make in kinds.items():
        for clients in CLIENTS:
            headers |= server.headers()  # a token may have expired meanwhile
            _driven(server, headers, make, clients, WARM_UP_SECONDS)
            rounds = [_driven(server, headers, make, clients, SECONDS) for _ in range(ROUNDS)]
            found[kind, clients] = Speed(
                per_second=statistics.median(each.per_second for each in rounds),
                cpu_ms=statistics.median(each.cpu_ms for each in rounds),
                emulator_ms=statistics.median(each.emulator_ms for each in rounds),
            )
    return found


def _patients(server: Server) -> tuple[str, str]:
    if isinstance(server, Exchange):
        first, second, *_ = server.child.ask("patients")["ids"]
        return first, second
    client = _Client(server, {"Content-Type": "application/fhir+json"})
    person = _encoded({"resourceType": "Patient", "name": [{"family": "BANC"}], "birthDate": "1980-01-01"})
    made = [
        json.loads(client.send(Sent(method="POST", path="/Patient", body=person, expected=201)))["id"] for _ in "12"
    ]
    client.close()
    return made[0], made[1]


def _create(patient: str, number: int) -> Sent:
    return Sent(method="POST", path="/Observation", body=_encoded(observation(patient, number)), expected=201)


def _encoded(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


class _Client:
    """One connection, kept."""

    def __init__(self, server: Server, headers: Mapping[str, str]) -> None:
        self._connection = http.client.HTTPConnection(server.host, timeout=30)
        self._prefix = server.prefix
        self._headers = dict(headers)

    def send(self, sent: Sent) -> bytes:
        path = f"{self._prefix}{sent.path}".rstrip("/") or "/"
        self._connection.request(sent.method, path, body=sent.body or None, headers=self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != sent.expected:
            raise BenchmarkError(f"{sent.method} {path.partition('?')[0]}: {answer.status} {content[:300]!r}")
        return content

    def close(self) -> None:
        self._connection.close()


def _driven(
    server: Server, headers: Mapping[str, str], make: Callable[[], Sent], clients: int, seconds: float
) -> Speed:
    """One round; `make` is called from every client. Raises BenchmarkError if any answer is not the expected one."""
    done: list[int] = []
    failures: list[BaseException] = []
    before, began = server.cpu_ms(), time.perf_counter()
    until = began + seconds

    def work() -> None:
        client = _Client(server, headers)
        count = 0
        try:
            while time.perf_counter() < until:
                client.send(make())
                count += 1
        except (BenchmarkError, OSError, http.client.HTTPException) as failure:
            failures.append(failure)
        finally:
            client.close()
        done.append(count)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - began
    if failures:
        raise BenchmarkError(str(failures[0])) from failures[0]
    own, emulators = (after - was for after, was in zip(server.cpu_ms(), before, strict=True))
    count = max(1, sum(done))
    return Speed(per_second=count / spent, cpu_ms=own / count, emulator_ms=emulators / count)


def _table(results: Mapping[str, Results]) -> Table:
    peers = [name for name in results if name != OURS]
    shown = Table("", "clients", OURS, "CPU ms")
    for name in peers:
        shown.add_column(name)
        shown.add_column("CPU ms")
        shown.add_column("ours/theirs")
    for column in shown.columns[1:]:
        column.justify = "right"
    for (kind, clients), ours in results[OURS].items():
        row = [kind, str(clients), *_cells(ours)]
        for name in peers:
            theirs = results[name].get((kind, clients))
            row += [*_cells(theirs), f"{ours.per_second / theirs.per_second:.2f}"] if theirs else ["-", "-", "-"]
        shown.add_row(*row)
    shown.caption = (
        f"requests a second, medians of {ROUNDS} rounds of {SECONDS} s; a transaction has {ENTRIES} entries; "
        f"a search finds {HELD // len(CODES)} of {HELD} observations"
    )
    return shown


def _cells(speed: Speed) -> tuple[str, str]:
    parts = [speed.cpu_ms, speed.emulator_ms] if speed.emulator_ms else [speed.cpu_ms]
    return _figures(speed.per_second), " + ".join(_figures(part) for part in parts)


def _figures(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
