"""`passerelle ingestion`: what an operator sees of messages, and does about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from local import ingestion as command
from local.cli import app
from local.exchange import ExchangeClient
from local.transport import GatewayTransport
from passerelle import wiring
from passerelle.ingestion.model import Conversion, Source, SourceFormat
from passerelle.wiring import taking_in
from tests import ingesting
from tests.exchange import KEYS, URL, Exchange
from tests.ingesting import adt, oru

Run = Callable[..., Result]


@pytest.fixture
def run(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> Run:
    def desk(client: str, scope: str | None, *_: Any) -> ExchangeClient:
        transport = GatewayTransport(exchange.gateway)
        return ExchangeClient(URL, client, KEYS[client], scope=scope or "system/*.cruds", transport=transport)

    monkeypatch.setattr(command, "_desk", desk)
    monkeypatch.setattr(taking_in, "converters", lambda: {SourceFormat.HL7V2: ingesting.convert})
    wiring.ingestion_service.cache_clear()
    wiring.ingest.cache_clear()
    return lambda *arguments: CliRunner().invoke(app, ["ingestion", *arguments])


def test_sent_listed_mended_and_retried(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = tmp_path / "good.hl7", tmp_path / "bad.hl7"
    good.write_bytes(adt("5001"))
    bad.write_bytes(oru("5002", "?", id="NUMBER-7"))
    sent = run("send", "--client", "hospital-a", str(good), str(bad))
    assert sent.exit_code == 1
    assert [line.split()[0] for line in sent.output.splitlines() if line[:2] in ("AA", "AE")] == ["AA", "AE"]

    listed = run("list", "--client", "hospital-a")
    (line,) = [line for line in listed.output.splitlines() if "NUMBER-7" in line]
    assert "103 Table value not found" in line
    assert "Bundle.entry[1].resource.status" in line
    id = line.split()[1]

    assert run("retry", "--client", "hospital-a").exit_code == 2  # one, or all
    again = run("retry", "--client", "hospital-a", id)
    assert (again.exit_code, "Table value not found" in again.output) == (1, True)

    def mended(data: bytes, source: Source) -> Conversion:
        return ingesting.convert(data.replace(b"|?|", b"|13.5|"), source)

    monkeypatch.setattr(taking_in, "converters", lambda: {SourceFormat.HL7V2: mended})
    wiring.ingestion_service.cache_clear()
    wiring.ingest.cache_clear()
    again = run("retry", "--client", "hospital-a", "--all")
    assert (again.exit_code, f"{id}  applied" in again.output) == (0, True)
    shown = run("show", "--client", "hospital-a", id)
    assert "status: applied" in shown.output
    assert "made: Observation/" in shown.output
    assert "NUMBER-7" not in run("list", "--client", "hospital-a").output
    assert run("show", "--client", "hospital-a", "nothing").exit_code == 1


def test_a_message_is_given_up(run: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad.hl7"
    bad.write_bytes(oru("5009", "?", id="NUMBER-9"))
    assert run("send", "--client", "hospital-a", str(bad)).exit_code == 1
    listed = run("list", "--client", "hospital-a")
    (line,) = [line for line in listed.output.splitlines() if "NUMBER-9" in line]
    id = line.split()[1]
    assert run("drop", "--client", "hospital-a", id).exit_code == 0
    assert run("drop", "--client", "hospital-a", id).exit_code == 1
    assert "NUMBER-9" not in run("list", "--client", "hospital-a").output
