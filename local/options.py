"""Options that several commands share: which exchange, and whose keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from local.region import PARTICIPANTS
from local.synthesis import ROOT

UrlOption = Annotated[
    str | None, typer.Option(help="Root URL of the exchange, local or deployed.", envvar="PASSERELLE_URL")
]
CredentialsOption = Annotated[
    Path | None,
    typer.Option(help="File of private keys by client id; the local stack's own by default."),
]

ScopeOption = Annotated[
    str | None, typer.Option(help="Scopes to ask for; all that it has, of a client of the demonstration, by default.")
]


def scopes_of(client: str, scope: str | None) -> str | None:
    return scope or next((each.scopes for each in PARTICIPANTS if each.id == client), None)


def credentials_of(url: str | None, credentials: Path | None) -> tuple[str, Path]:
    """The exchange to call and the file of keys: by default the local stack on PORT."""
    where = url or f"http://127.0.0.1:{os.environ.get('PORT', '8000')}"
    return where, credentials or state_folder(urlsplit(where).port or 443) / "credentials.json"


def state_folder(port: int) -> Path:
    """Where the local stack on a port keeps its data."""
    return ROOT / ".passerelle" / str(port)
