"""`passerelle verify` against an exchange in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import typer

from local.transport import GatewayTransport
from local.verify import check
from tests.exchange import URL, Exchange
from tests.functions.test_ledger import PATIENT, SOMEBODY, events_of, seal

Ask = Callable[[str | None], list[str]]


@pytest.fixture
def ask(exchange: Exchange, tmp_path: Path) -> Iterator[Ask]:
    """What it says; what it remembers is in `tmp_path`."""
    exchange.client("practice").get(SOMEBODY)
    seal(exchange)
    with httpx.Client(base_url=URL, transport=GatewayTransport(exchange.gateway)) as http:
        yield lambda event: list(check(http, tmp_path, event, exchange.client("auditor").token, tmp_path / "proof"))


def test_an_event_and_the_log_since_the_last_time(exchange: Exchange, ask: Ask, tmp_path: Path) -> None:
    one, whole = ask(events_of(exchange, PATIENT)[0])
    assert one.startswith("proved: read at ")
    assert one.endswith("by practice, epoch 0")
    assert whole == "proved: epoch 0 has everything of epoch 0"
    assert PATIENT in (tmp_path / "proof").read_text()
    exchange.client("practice").get(SOMEBODY)
    seal(exchange)
    assert ask(None) == ["proved: epoch 1 has everything of epoch 0"]


def test_a_log_that_is_another_one_is_rejected(ask: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(ask(None)) == 1
    kept = tmp_path / "log-anchor.json"
    kept.write_text(kept.read_text().replace("tolerance", "Tolerance"))
    with pytest.raises(typer.Exit):
        ask(None)
    assert "rejected: the epoch that you kept is gone" in capsys.readouterr().err
