"""ministack, the emulator of AWS, in this process: tables, buckets, keys, queues, bus and secrets, on
loopback.

Contract: ministack 1.5, `ministack.app:app` (ASGI). It keeps its state in module globals, so there is one
emulator in a process. It saves what it holds only when it stops; `save` does so in between, and `keep_saving`
from time to time, so that a killed process loses little. The streams of tables are not saved: whoever reads
them must be done first.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Final

from local.server import LOOPBACK, Server

ACCOUNT: Final = "000000000000"
REGION: Final = "eu-west-3"
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


class Emulator:
    """AWS on `url`; with a `folder`, what it holds is there again when another process starts it.

    Raises RuntimeError where there was one before in this process, unless that has stopped and neither has a
    folder: then the new one is empty.
    """

    _before: ClassVar[Emulator | None] = None
    _folder: Path | None
    _stopping: threading.Event

    def __init__(self, folder: Path | None = None) -> None:
        before = Emulator._before
        if before is not None and (before._folder or folder or not before._stopping.is_set()):
            raise RuntimeError("there is one emulator in a process")
        Emulator._before = self
        self._is_first = before is None
        self._folder = folder
        self._server = Server()
        self._app: Any = None
        self._saving = threading.Thread(target=self._keep_saving, name="emulator-saves", daemon=True)
        self._stopping = threading.Event()

    @property
    def url(self) -> str:
        return self._server.url

    def start(self) -> None:
        with _settings(self._folder, self._server.port):
            self._app = _imported()
            if not self._is_first:
                self._app._reset_all_state()
            self._server.start(self._app.app, lifespan="on")
        if self._folder is not None:
            self._saving.start()

    def save(self) -> None:
        """Write everything to the folder; nothing is served meanwhile, so that it fits together."""
        done = threading.Event()

        def write() -> None:
            try:
                self._app.save_all(self._app._build_persistence_save_dict())
            finally:
                done.set()

        self._app._MAIN_LOOP.call_soon_threadsafe(write)
        done.wait()

    def stop(self) -> None:
        """Save everything and end."""
        self._stopping.set()
        if self._saving.is_alive():
            self._saving.join()
        self._server.stop()

    def _keep_saving(self) -> None:
        pause = _SAVE_SECONDS
        while not self._stopping.wait(pause):
            began = time.monotonic()
            self.save()
            pause = max(_SAVE_SECONDS, _SAVE_SHARE * (time.monotonic() - began))


@contextmanager
def _settings(folder: Path | None, port: int) -> Iterator[None]:
    """The environment that the emulator reads, some of it when it is imported, some when it starts."""
    settings = {
        "BIND_HOST": LOOPBACK,
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",  # would listen on every interface
        "SFTP_ENABLED": "0",
        "LOG_LEVEL": "ERROR",
        "MINISTACK_REGION": REGION,
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
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _imported() -> Any:
    """The module, with the services that are used, which it would import later, without the settings.

    It sets up logging for the whole process, which is undone.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    from ministack import app

    for service in _SERVICES:
        importlib.import_module(f"ministack.services.{service}")
    root.handlers[:], root.level = handlers, level
    _hasten()
    return app


def _hasten() -> None:
    """Make the emulator's tables fast enough for logs of thousands of entries.

    It reads an expression again for every item of a partition: each is parsed once now, and the conditions that the
    exchange queries by are compared without. Whatever else is asked, and every fault, is answered by the emulator.
    """
    from ministack.services import dynamodb

    evaluate = dynamodb._evaluate_condition
    if hasattr(evaluate, "is_hastened"):
        return
    for name in ("_tokenize", "_condition_syntax_error"):
        setattr(dynamodb, name, lru_cache(maxsize=1_024)(getattr(dynamodb, name)))

    def hastened(expr: str, item: Any, values: Any, names: Any, slot: str = "ConditionExpression") -> Any:
        if slot == "KeyConditionExpression":
            found = _meets(expr, item, values)
            if found is not None:
                return found
        return evaluate(expr, item, values, names, slot)

    hastened.is_hastened = True  # type: ignore[attr-defined]
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
                low, key, high = (each["S"].encode() for each in (values[":low"], item["SK"], values[":high"]))
                return low <= key <= high if low <= high else None
    except (KeyError, TypeError):
        return None
    return None
