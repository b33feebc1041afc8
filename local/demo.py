"""`passerelle demo`: plays the story over HTTP against a running exchange, showing what was sent and what came back."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import Annotated
from urllib.parse import urlsplit

import httpx
import typer
from rich.console import Console
from rich.markup import escape

from local.exchange import Credentials, ExchangeClient, TokenRefusedError
from local.options import CredentialsOption, UrlOption, credentials_of
from local.region import PARTICIPANTS
from local.story import Step, Story, StoryError
from local.webhook import Webhook

_SHOWN = 160  # characters of each body


def demo(
    url: UrlOption = None,
    credentials: CredentialsOption = None,
    full: Annotated[bool, typer.Option(help="Show whole requests and answers.")] = False,
) -> None:
    """Play the story; ends with 1 at the first answer that is not as told."""
    where, path = credentials_of(url, credentials)
    keys = Credentials(path).keys()
    console = Console(highlight=False, soft_wrap=True)
    if not keys:
        console.print(f"[red]no keys in {path}[/]: start the local stack with `make run`, or give --credentials")
        raise typer.Exit(1)
    made: dict[str, ExchangeClient] = {}

    def client(client_id: str) -> ExchangeClient:
        scope = next(each.scopes for each in PARTICIPANTS if each.id == client_id)
        return made.setdefault(client_id, ExchangeClient(where, client_id, keys[client_id], scope=scope))

    teller = _Teller(console, full=full)
    began = time.perf_counter()
    with ExitStack() as stack:
        is_local = urlsplit(where).hostname in ("127.0.0.1", "localhost")
        webhook = stack.enter_context(Webhook()) if is_local else None
        try:
            Story(client, keys, teller, webhook=webhook).play()
        except (StoryError, TokenRefusedError, httpx.TransportError) as failure:
            console.print(f"[red]failed:[/] {escape(str(failure))}")
            raise typer.Exit(1) from None
    if webhook is None:
        console.print("Notifications are left out: a deployed exchange cannot reach a webhook on this machine.")
    console.print(f"\n[green]Done:[/] {teller.count} requests in {time.perf_counter() - began:.1f} s.")


class _Teller:
    def __init__(self, console: Console, *, full: bool) -> None:
        self._console = console
        self._full = full
        self._chapter = ""
        self.count = 0

    def __call__(self, step: Step) -> None:
        if step.chapter != self._chapter:
            self._chapter = step.chapter
            self._console.print(f"\n[bold]{step.chapter}[/]")
        self.count += 1
        colour = "green" if step.status < 400 else "yellow"
        self._console.print(
            f"  [{colour}]{step.status}[/] {escape(step.client):<11}{step.method} {escape(step.path)}"
            f"  [dim]{step.title}, {step.seconds * 1000:.0f} ms[/]"
        )
        for mark, body in (("->", step.sent), ("<-", step.received)):
            if body:
                self._console.print(f"      [dim]{mark} {escape(self._shown(body))}[/]")
        if step.note:
            self._console.print(f"      [dim]{escape(step.note)}[/]")

    def _shown(self, body: bytes) -> str:
        text = body.decode("utf-8", "replace")
        if self._full:
            try:
                return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
            except ValueError:
                return text
        text = " ".join(text.split())
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(body)} bytes)"
