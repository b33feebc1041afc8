"""`python -m benchmarks.exchange ENDPOINT`: the local stack as `passerelle run` has it, but on an emulator elsewhere.

So its processor time is that of the HTTP front, the authorizer, the functions and the event pump alone, and the
emulator is as far away as it is for a peer.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.children import say
from local import synthesis
from local.exchange import Credentials, ExchangeClient
from local.region import PARTICIPANTS, people
from local.seed import register_clients
from local.stack import LocalStack


class _Elsewhere:
    """`local.emulator.Emulator` of another process."""

    def __init__(self, url: str) -> None:
        self.url = url

    def start(self) -> None: ...

    def save(self) -> None: ...

    def stop(self) -> None: ...


def main(endpoint: str) -> None:
    with TemporaryDirectory() as folder, Path(os.devnull).open("w") as log, LocalStack(log=log) as local:
        local.emulator = _Elsewhere(endpoint)  # type: ignore[assignment]
        local.bring_up(synthesis.synthesise(Path(folder)))
        local.serve()
        from passerelle import wiring

        keys = register_clients(Credentials(Path(folder) / "credentials.json"), wiring.clients().register)
        clients = {
            each.id: ExchangeClient(local.url, each.id, keys[each.id], scope=each.scopes) for each in PARTICIPANTS
        }
        local.is_ready = True
        say({"url": f"{local.url}/fhir"})
        answers: dict[str, Callable[[], dict[str, Any]]] = {
            "cpu": lambda: {"cpu_ms": time.process_time() * 1000},
            "token": lambda: {"token": clients["practice"].token()},
            "patients": lambda: {"ids": _patients(clients["hospital-a"])},
        }
        for line in sys.stdin:
            say(answers[line.strip()]())


def _patients(feeder: ExchangeClient) -> list[str]:
    """Register the synthetic people (ITI-104); their ids."""
    domain = PARTICIPANTS[0].domain
    assert domain is not None
    made: list[Any] = [
        feeder.request("PUT", f"Patient?identifier={domain}|{local}", json=person) for local, person in people(domain)
    ]
    return [answer.json()["id"] for answer in made]


if __name__ == "__main__":
    main(sys.argv[1])
