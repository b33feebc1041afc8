"""`passerelle run`: comes up, keeps its data, listens on loopback only, ends cleanly."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from local import synthesis
from local.run import forget

COMMAND = [sys.executable, "-c", "from local.cli import app; app()", "run"]
_HAS_PROC = Path("/proc/self/net/tcp").exists()


@contextmanager
def _running(port: int, state: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, "--port", str(port), "--state", str(state), *options],
        cwd=synthesis.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a process group, as a terminal makes one
    )
    try:
        _wait_until_ready(process, port)
        yield process
    finally:
        process.kill()
        process.communicate()


def _wait_until_ready(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + 60
    with httpx.Client(trust_env=False) as client:
        while time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[0]
            try:
                if client.get(f"http://127.0.0.1:{port}/fhir/metadata").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
    raise AssertionError("not ready in time")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ended(process: subprocess.Popen[str], status: int = 0) -> str:
    output, _ = process.communicate(timeout=30)
    assert process.returncode == status, output
    return output


def _emulator_of(process: int) -> int:
    """The process that a process started, from Linux's /proc."""
    for each in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            if each.read_text().rpartition(")")[2].split()[1] == str(process):
                return int(each.parent.name)
    raise AssertionError("it started none")


def _listening(process: int) -> set[str]:
    """Local addresses on which a process listens, from Linux's /proc."""
    names = []
    for each in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            names.append(str(each.readlink()))
    inodes = {name.removeprefix("socket:[").removesuffix("]") for name in names if name.startswith("socket:")}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and columns[9] in inodes:
                found.add(columns[1].split(":")[0])
    return found


@pytest.fixture
def state(tmp_path: Path, template: dict[str, Any]) -> Path:
    """A folder that has the template already, as after a first start."""
    content = {"inputs": synthesis.fingerprint(), "template": template}
    (tmp_path / "template.json").write_text(json.dumps(content))
    return tmp_path


def test_it_comes_up_keeps_its_data_and_ends(state: Path) -> None:
    port = _free_port()
    with _running(port, state) as first:
        if _HAS_PROC:
            assert _listening(first.pid) == _listening(_emulator_of(first.pid)) == {"0100007F"}  # 127.0.0.1
        same_folder = [*COMMAND, "--port", str(_free_port()), "--state", str(state)]
        refused = subprocess.run(same_folder, cwd=synthesis.ROOT, capture_output=True, text=True, check=False)
        assert (refused.returncode, "another stack" in refused.stdout) == (1, True)
        keys = httpx.get(f"http://127.0.0.1:{port}/oauth2/jwks", trust_env=False).json()
        os.killpg(first.pid, signal.SIGINT)  # Ctrl-C
        output = _ended(first)
        assert "cached" in output
        assert "Synthetic region" in output
    with _running(port, state) as second:
        assert httpx.get(f"http://127.0.0.1:{port}/oauth2/jwks", trust_env=False).json() == keys
        second.terminate()
        assert "Synthetic region" not in _ended(second)


@pytest.mark.skipif(not _HAS_PROC, reason="the emulator is found by Linux's /proc")
def test_it_ends_when_its_emulator_does(state: Path) -> None:
    (state / "seeded").touch()
    with _running(_free_port(), state) as process:
        os.kill(_emulator_of(process.pid), signal.SIGKILL)
        assert "the emulator of AWS ended by itself" in _ended(process, 1)


def test_fresh_forgets_the_data_and_keeps_the_template(tmp_path: Path) -> None:
    (tmp_path / "emulator" / "state").mkdir(parents=True)
    for name in (
        "emulator/state/kms.json",
        "stack.json",
        "seeded",
        "credentials.json",
        "template.json",
        "lock",
    ):
        (tmp_path / name).touch()
    forget(tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {"template.json", "lock"}


def test_the_template_is_synthesised_again_when_its_inputs_change(tmp_path: Path) -> None:
    kept = tmp_path / "template.json"
    assert synthesis.cached(tmp_path) is None
    kept.write_text(json.dumps({"inputs": synthesis.fingerprint(), "template": {"Resources": {}}}))
    assert synthesis.cached(tmp_path) == {"Resources": {}}
    kept.write_text(json.dumps({"inputs": "other", "template": {}}))
    assert synthesis.cached(tmp_path) is None
