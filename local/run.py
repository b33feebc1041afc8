"""`passerelle run`: brings the local stack up, shows each step, and stays until it is told to stop."""

from __future__ import annotations

import fcntl
import logging
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.markup import escape

from local import synthesis
from local.child import ChildError
from local.exchange import Credentials
from local.options import state_folder
from local.seed import SeedError, seed
from local.server import PortTakenError
from local.stack import LocalStack
from local.template import ChangedError
from passerelle import wiring

CLIENTS = "hospital-a hospital-b practice laboratory pharmacy-a pharmacy-b nurse patient-1 auditor steward"
_LOCK = "lock"
_TEMPLATE = "template.json"
console = Console(highlight=False)


class _Stopped(BaseException):
    """A signal asked the process to end; not an error, so that nothing handles it as one."""


def run(
    port: Annotated[int, typer.Option(envvar="PORT", help="Port to listen on, on 127.0.0.1.")] = 8000,
    fresh: Annotated[bool, typer.Option(envvar="FRESH", help="Start empty: forget the data of this port.")] = False,
    state: Annotated[
        Path | None, typer.Option(help="Folder that keeps the data.", show_default=".passerelle/<port>")
    ] = None,
) -> None:
    """Bring up the whole stack on this machine, and stay until Ctrl-C."""
    folder = (state or state_folder(port)).resolve()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # the keys of the emulator are in it
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _stop)
    try:
        with _locked(folder) as lock, (folder / "functions.log").open("a", buffering=1) as log:
            if fresh:
                forget(folder)
            logging.basicConfig(stream=log, level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
            logging.getLogger("local").setLevel(logging.INFO)
            _stay(port, folder, log, lock)
    except _Stopped:
        console.print("Stopped.")
    except (PortTakenError, ChangedError, SeedError, synthesis.SynthesisError, ChildError, _InUseError) as error:
        console.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)
        if isinstance(error, PortTakenError):
            console.print("Choose another port: PORT=8100 make run")
        if isinstance(error, ChangedError):
            console.print("The data kept were made for another template. To start empty: make run FRESH=1")
        raise typer.Exit(1) from None


def _stay(port: int, folder: Path, log: TextIO, lock: TextIO) -> None:
    """Come up, say so, and wait; raises _Stopped when all is saved."""
    local = LocalStack(port=port, folder=folder, log=log, keeps=[lock.fileno()])
    try:
        template = synthesis.cached(folder)
        with _step("CDK template" + (" (cached)" if template else "")):
            template = template or synthesis.synthesise(folder)
        with _step("Emulator of AWS"):
            local.start_emulator()
        with _step("Resources of the template"):
            local.deploy(template)
        with _step("Functions"):
            local.load_functions()
        local.serve()
        _seed(local, folder)
        local.is_ready = True
        _greet(local, folder)
        local.emulator.wait()
    except _Stopped:
        console.print("\nStopping: saving the data ...")
        raise
    finally:
        if not local.close():
            console.print("[yellow]Some announcements could not be handed on, and are lost.[/yellow]")


def _seed(local: LocalStack, folder: Path) -> None:
    """Fill an empty stack, once."""
    marker = folder / "seeded"
    if marker.exists():
        return
    with _step("Synthetic region") as show:
        seed(local.url, Credentials(folder / "credentials.json"), wiring.clients().register, show)
        local.emulator.save()
        marker.touch()


def _greet(local: LocalStack, folder: Path) -> None:
    console.print(
        f"""
[bold green]Passerelle is up[/bold green]   {local.url}/fhir

  demo clients   {CLIENTS}
  data and logs  {folder}

Try, in another terminal:

  curl {local.url}/fhir/metadata
  .venv/bin/passerelle demo --url {local.url}
  .venv/bin/passerelle token --client practice --url {local.url}

Ctrl-C stops it and keeps the data; FRESH=1 starts empty.""",
        soft_wrap=True,
    )


@contextmanager
def _step(name: str) -> Iterator[Callable[[str], None]]:
    """Show a step while it runs, and how long it took; gives what tells more of it."""
    began = time.monotonic()
    if not console.is_terminal:
        console.print(f"{name} ...")
    with console.status(f"{name} ...") as status:
        yield lambda detail: status.update(f"{name}: {detail} ...")
    console.print(f"  {name:<28} {time.monotonic() - began:5.1f} s")


class _InUseError(Exception):
    """Another process uses the folder."""


@contextmanager
def _locked(folder: Path) -> Iterator[TextIO]:
    """Keep a second stack away from the data; the system lets go when nobody has the file open any more."""
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _InUseError(f"another stack uses {folder}: is it running already?") from None
        yield lock


def forget(folder: Path) -> None:
    """Remove the data, not the template."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (_LOCK, _TEMPLATE):
            path.unlink()


def _stop(number: int, frame: FrameType | None) -> None:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # once is enough: nothing may interrupt the saving
    raise _Stopped
