"""`python -m local.ministack REGION [FOLDER]`: tables, buckets, keys, queues, bus and secrets, on loopback.

Contract: ministack 1.5, `ministack.app:app` (ASGI). It reads its settings from the environment when it is imported,
keeps its state in module globals, and saves it only when it stops: `_Saving` does so when asked and from time to time,
so that a killed process loses little. The streams of tables are not saved: whoever reads them must be done first.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from local.child import answer
from local.emulator import CREDENTIALS
from local.server import LOOPBACK, Server

_SERVICES: Final = (
    "dynamodb",
    "dynamodb_streams",
    "eventbridge",
    "kms",
    "s3",
    "secretsmanager",
    "sns",
    "sqs",
    "sts",
)
_SAVE_SECONDS: Final = 60.0
_SAVE_SHARE: Final = 50  # saving stops the emulator for a moment: at most this part of the time


def main(region: str, folder: Path | None) -> None:
    for each in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)  # it ends after whoever started it, who may still have something to keep
    server = Server()
    os.environ.update(_settings(region, folder, server.port))
    app = _imported()
    server.start(app.app, lifespan="on")
    saving = _Saving(app)
    if folder is not None:
        saving.start()
    try:
        answer({"url": server.url}, {"cpu": _cpu, "save": saving.save})
    finally:
        saving.stop()
        server.stop()


def _cpu() -> dict[str, Any]:
    return {"cpu_ms": time.process_time() * 1000}


class _Saving:
    """Writes everything to the folder; nothing is served meanwhile, so that it fits together."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_saving, name="saves", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def save(self) -> dict[str, Any]:
        done = threading.Event()

        def write() -> None:
            try:
                self._app.save_all(self._app._build_persistence_save_dict())
            finally:
                done.set()

        self._app._MAIN_LOOP.call_soon_threadsafe(write)
        done.wait()
        return {}

    def _keep_saving(self) -> None:
        pause = _SAVE_SECONDS
        while not self._stopping.wait(pause):
            began = time.monotonic()
            self.save()
            pause = max(_SAVE_SECONDS, _SAVE_SHARE * (time.monotonic() - began))


def _settings(region: str, folder: Path | None, port: int) -> dict[str, str]:
    settings = {
        "AWS_ACCESS_KEY_ID": CREDENTIALS,
        "AWS_SECRET_ACCESS_KEY": CREDENTIALS,
        "BIND_HOST": LOOPBACK,
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",  # would listen on every interface
        "SFTP_ENABLED": "0",
        "LOG_LEVEL": "ERROR",
        "MINISTACK_REGION": region,
        "PERSIST_STATE": "0",
        "S3_PERSIST": "0",
    }
    if folder is not None:
        settings |= {
            "PERSIST_STATE": "1",
            "S3_PERSIST": "1",
            "STATE_DIR": str(folder / "state"),
            "S3_DATA_DIR": str(folder / "objects"),
        }
    return settings


def _imported() -> Any:
    """The module, with the services that are used, which it would import when they are."""
    from ministack import app

    for service in _SERVICES:
        importlib.import_module(f"ministack.services.{service}")
    _hasten()
    return app


def _hasten() -> None:
    """Make the emulator's tables fast enough for logs of thousands of entries.

    It reads an expression again for every item of a partition: each is parsed once now, and the conditions that the
    exchange queries by are compared without. Whatever else is asked, and every fault, is answered by the emulator.
    """
    from ministack.services import dynamodb

    evaluate = dynamodb._evaluate_condition
    for name in ("_tokenize", "_condition_syntax_error"):
        setattr(dynamodb, name, lru_cache(maxsize=1_024)(getattr(dynamodb, name)))

    def hastened(expr: str, item: Any, values: Any, names: Any, slot: str = "ConditionExpression") -> Any:
        if slot == "KeyConditionExpression":
            found = _meets(expr, item, values)
            if found is not None:
                return found
        return evaluate(expr, item, values, names, slot)

    dynamodb._evaluate_condition = hastened


def _meets(expr: str, item: Mapping[str, Any], values: Mapping[str, Any]) -> bool | None:
    """Whether an item meets a key condition of `passerelle.aws.dynamodb`; None for any other."""
    try:
        if item["PK"]["S"] != values[":pk"]["S"]:
            return False
        match expr:
            case "PK = :pk":
                return True
            case "PK = :pk AND begins_with(SK, :prefix)":
                return bool(item["SK"]["S"].startswith(values[":prefix"]["S"]))
            case "PK = :pk AND SK BETWEEN :low AND :high":
                low, high = values[":low"]["S"], values[":high"]["S"]
                return bool(low <= item["SK"]["S"] <= high) if low <= high else None  # code points: as UTF-8
    except (KeyError, TypeError):
        return None
    return None


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)
