"""`python -m benchmarks.exchange`: the local stack as `passerelle run` has it, but that it signs.

Its processor time is that of the HTTP front, the authorizer, the functions and the event pump alone; the emulator is as
far away as it is for a peer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from local import synthesis
from local.child import answer
from local.exchange import Credentials, ExchangeClient
from local.region import PARTICIPANTS, people
from local.seed import register_clients
from local.stack import LocalStack


def main() -> None:
    with TemporaryDirectory() as folder, Path(os.devnull).open("w") as log, LocalStack(log=log, signs=True) as local:
        local.bring_up(synthesis.synthesise(Path(folder)))
        local.serve()
        from passerelle import wiring

        keys = register_clients(Credentials(Path(folder) / "credentials.json"), wiring.clients().register)
        clients = {
            each.id: ExchangeClient(local.url, each.id, keys[each.id], scope=each.scopes) for each in PARTICIPANTS
        }
        local.is_ready = True
        answers: dict[str, Callable[[], dict[str, Any]]] = {
            "cpu": lambda: {"cpu_ms": time.process_time() * 1000},
            "emulator": lambda: {"cpu_ms": local.emulator.cpu_ms()},
            "token": lambda: {"token": clients["practice"].token()},
            "patients": lambda: {"ids": _patients(clients["hospital-a"])},
        }
        answer({"url": f"{local.url}/fhir"}, answers)


def _patients(feeder: ExchangeClient) -> list[str]:
    """Register the synthetic people (ITI-104); their ids."""
    domain = PARTICIPANTS[0].domain
    assert domain is not None
    made: list[Any] = [
        feeder.request("PUT", f"Patient?identifier={domain}|{local}", json=person) for local, person in people(domain)
    ]
    return [answer.json()["id"] for answer in made]


if __name__ == "__main__":
    main()
