"""`python -m benchmarks.notifications URL CREDENTIALS`: from the answer to a write to the arrival at a webhook, on the
local stack, whose settings of AWS this process has; beside it subscribers that are dead.

The load is open: writes begin at their times whether or not those before were answered, and each has its own wait. It
is that of a laboratory, results of one person together, and that of many systems, each result a commit of its own. The
stack, its emulator and the load share this machine, so that the times are those of all of it; ratios between rows are
what tells. The subscriber is told of each event by itself, or of up to twenty; alone, and beside dead ones, of whom
every event is queued, after ten thousand others.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from local.exchange import Credentials, ExchangeClient
from local.region import PARTICIPANTS, people

RATE: Final = 20  # events a second
SECONDS: Final = 20
LOADS: Final = {"4 x 5": 5, "20 x 1": 1}  # commits a second, and results of each
MOST: Final = (1, 20)  # events of a notification
QUEUED: Final = 10_000  # events that a dead subscriber has missed
_SETTLE_SECONDS: Final = 60.0
_BACKPORT: Final = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
_TOPIC: Final = "https://passerelle.example/SubscriptionTopic/record-changed"
_DEAD: Final = "http://127.0.0.1:9/hook"  # the discard port: nobody listens

Keys = Mapping[str, Mapping[str, Any]]


class Clock:
    """A webhook that notes when it first heard of each resource."""

    def __init__(self) -> None:
        self.heard: dict[str, float] = {}
        self._lock = threading.Lock()
        clock = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                clock.note(body, time.monotonic())
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own name
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def note(self, body: bytes, at: float) -> None:
        with self._lock:
            for entry in json.loads(body).get("entry", [])[1:]:
                self.heard.setdefault(entry["fullUrl"].rpartition("/fhir/")[2], at)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def run(url: str, keys: Keys, console: Console) -> None:
    rows: dict[tuple[str, int, str], list[float]] = {}
    for load, together in LOADS.items():
        for most in MOST:
            with _subscribed(url, keys, most) as (clock, writer, patients):
                _writes(writer, patients, together, 2)  # what is made once is made
                rows[load, most, "alone"] = _waits(clock, writer, patients, together, console)
                with _dead(url, keys):
                    rows[load, most, "beside dead ones"] = _waits(clock, writer, patients, together, console)
    console.print(table(rows))


def table(rows: Mapping[tuple[str, int, str], list[float]]) -> Table:
    made = Table(title=f"from commit to webhook, {RATE} events a second for {SECONDS} s, in seconds")
    for name in ("commits", "at a time", "subscriber", "events", "median", "p95", "p99", "most"):
        made.add_column(name, justify="left" if name in ("commits", "subscriber") else "right")
    for (load, most, beside), waits in rows.items():
        cuts = statistics.quantiles(waits, n=100, method="inclusive")
        times = [f"{each:.2f}" for each in (statistics.median(waits), cuts[94], cuts[98], max(waits))]
        made.add_row(load, str(most), beside, str(len(waits)), *times)
    return made


@contextmanager
def _subscribed(url: str, keys: Keys, most: int) -> Iterator[tuple[Clock, ExchangeClient, list[str]]]:
    clock, writer = Clock(), _client(url, keys, "practice")
    id = _subscribe(writer, clock.url, most)
    until = time.monotonic() + _SETTLE_SECONDS
    while writer.request("GET", f"Subscription/{id}").json()["status"] != "active":
        if time.monotonic() > until:
            raise TimeoutError("the subscription did not become active")
        time.sleep(0.1)
    yield clock, writer, _patients(_client(url, keys, "hospital-a"))
    writer.request("DELETE", f"Subscription/{id}")
    clock.close()


@contextmanager
def _dead(url: str, keys: Keys) -> Iterator[None]:
    """Subscriptions whose endpoint answered the handshake and nothing since; one has missed thousands of events."""
    owner, clock = _client(url, keys, "practice"), Clock()
    ids = [_subscribe(owner, clock.url, 1) for _ in range(3)]
    while any(owner.request("GET", f"Subscription/{id}").json()["status"] != "active" for id in ids):
        time.sleep(0.1)
    clock.close()
    _miss(ids[0])
    yield
    for id in ids:
        owner.request("DELETE", f"Subscription/{id}")


def _miss(subscription: str) -> None:
    """Put events in the log of a subscription, as dispatch does, and order their delivery."""
    from passerelle import wiring
    from passerelle.events import Event, EventName

    ports, now = wiring.notification_ports(), datetime.now(UTC)
    for start in range(0, QUEUED, 40):
        events = [
            Event(name=EventName.RECORD_CHANGED, reference="Organization/missed", version=version, at=now, author="-")
            for version in range(start + 1, min(start + 40, QUEUED) + 1)
        ]
        ports.log.append(subscription, events)
    ports.deliveries.order(subscription, 0)


def _subscribe(client: ExchangeClient, endpoint: str, most: int) -> str:
    content = {"extension": [{"url": _BACKPORT + "backport-payload-content", "valueCode": "id-only"}]}
    answer = client.request(
        "POST",
        "Subscription",
        json={
            "resourceType": "Subscription",
            "status": "requested",
            "reason": "measured",
            "criteria": _TOPIC,
            "channel": {
                "type": "rest-hook",
                "extension": [{"url": _BACKPORT + "backport-max-count", "valuePositiveInt": most}],
                "endpoint": endpoint,
                "payload": "application/fhir+json",
                "_payload": content,
            },
        },
    )
    answer.raise_for_status()
    return str(answer.json()["id"])


def _client(url: str, keys: Keys, id: str) -> ExchangeClient:
    scope = next(each.scopes for each in PARTICIPANTS if each.id == id)
    return ExchangeClient(url, id, keys[id], scope=scope)


def _patients(feeder: ExchangeClient) -> list[str]:
    domain = PARTICIPANTS[0].domain
    assert domain is not None
    answers = [
        feeder.request("PUT", f"Patient?identifier={domain}|{local}", json=person) for local, person in people(domain)
    ]
    return [answer.json()["id"] for answer in answers]


def _waits(clock: Clock, writer: ExchangeClient, patients: list[str], together: int, console: Console) -> list[float]:
    with console.status("writing"):
        written = _writes(writer, patients, together, SECONDS)
    until = time.monotonic() + _SETTLE_SECONDS
    while not written.keys() <= clock.heard.keys() and time.monotonic() < until:
        time.sleep(0.1)
    lost = written.keys() - clock.heard.keys()
    if lost:
        raise AssertionError(f"{len(lost)} of {len(written)} events were not told")
    return [clock.heard[reference] - at for reference, at in written.items()]


def _writes(writer: ExchangeClient, patients: list[str], together: int, seconds: int) -> dict[str, float]:
    """When each write was answered, by reference."""
    written: dict[str, float] = {}
    began = time.monotonic()

    def write(number: int) -> None:
        time.sleep(max(0.0, began + number * together / RATE - time.monotonic()))
        answer = writer.request("POST", "", json=_results(patients[number % len(patients)], number, together))
        answer.raise_for_status()
        at = time.monotonic()
        for entry in answer.json()["entry"]:
            written[entry["response"]["location"].partition("/_history")[0]] = at

    with ThreadPoolExecutor(max_workers=2 * RATE) as pool:
        for done in [pool.submit(write, number) for number in range(RATE * seconds // together)]:
            done.result()
    return written


def _results(patient: str, number: int, together: int) -> dict[str, Any]:
    """A transaction of a laboratory: several results of one person."""
    entries = [
        {"resource": _observation(patient, number + place), "request": {"method": "POST", "url": "Observation"}}
        for place in range(together)
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _observation(patient: str, number: int) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "valueQuantity": {"value": 60 + number % 40, "unit": "/min"},
    }


if __name__ == "__main__":
    run(sys.argv[1], Credentials(Path(sys.argv[2])).keys(), Console(width=130))
