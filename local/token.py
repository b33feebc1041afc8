"""`passerelle token`: an access token of a registered client, for curl and other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from local.exchange import Credentials, ExchangeClient, TokenRefusedError
from local.options import CredentialsOption, UrlOption, credentials_of
from local.region import PARTICIPANTS


def token(
    client: Annotated[str, typer.Option(help="The client's id, hospital-a for example.")],
    scope: Annotated[str | None, typer.Option(help="Scopes to ask for; all of a demo client's by default.")] = None,
    url: UrlOption = None,
    credentials: CredentialsOption = None,
) -> None:
    """Print an access token, valid for five minutes."""
    print(access_token(client, scope, url, credentials))


def access_token(client: str, scope: str | None, url: str | None, credentials: Path | None) -> str:
    """Raises typer.Exit with the reason on standard error."""
    where, path = credentials_of(url, credentials)
    default = next((each.scopes for each in PARTICIPANTS if each.id == client), None)
    try:
        return ExchangeClient(where, client, Credentials(path).key(client), scope=scope or default).token()
    except (KeyError, TokenRefusedError) as refused:
        typer.echo(f"no token: {refused.args[0]}", err=True)
        raise typer.Exit(1) from None
