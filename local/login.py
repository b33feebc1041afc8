"""`passerelle login`: log in as a person, in a browser, and print the access token of what was allowed.

What an application on a desk does (RFC 8252): it listens on loopback for the code, which only its verifier redeems.
"""

from __future__ import annotations

import secrets
import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Annotated, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import typer

from local.options import UrlOption, credentials_of
from local.portals import PORTALS, REDIRECT_URI
from passerelle.authorization.codes import challenge_of

_SECONDS: Final = 300


def login(
    portal: Annotated[str, typer.Option(help="portal-professionals or portal-patients.")] = "portal-professionals",
    scope: Annotated[str | None, typer.Option(help="Scopes to ask for; all of the portal's by default.")] = None,
    activity: Annotated[str | None, typer.Option(help="FINESS of the structure to work for.")] = None,
    url: UrlOption = None,
) -> None:
    """Log in with a browser, and print an access token, valid for five minutes."""
    where, _ = credentials_of(url, None)
    known = {each.id: each for each in PORTALS}
    if portal not in known:
        typer.echo(f"no portal: {', '.join(known)}", err=True)
        raise typer.Exit(1)
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    asked = {
        "response_type": "code",
        "client_id": portal,
        "redirect_uri": REDIRECT_URI,
        "scope": scope or str(known[portal].scopes),
        "state": state,
        "code_challenge": challenge_of(verifier),
        "code_challenge_method": "S256",
        "aud": f"{where}/fhir",
        **({"activity": activity} if activity else {}),
    }
    address = f"{where}/oauth2/authorize?{urlencode(asked)}"
    typer.echo(f"Log in at:\n{address}", err=True)
    webbrowser.open(address)
    said = _awaited()
    if said.get("state") != state or said.get("iss") != where or "code" not in said:
        typer.echo(f"not logged in: {said.get('error', 'no answer')}", err=True)
        raise typer.Exit(1)
    form = {
        "grant_type": "authorization_code",
        "client_id": portal,
        "code": said["code"],
        "code_verifier": verifier,
        "redirect_uri": REDIRECT_URI,
    }
    answer = httpx.post(f"{where}/oauth2/token", data=form, timeout=30)
    if answer.status_code != 200:
        typer.echo(f"no token: {answer.status_code} {answer.text[:300]}", err=True)
        raise typer.Exit(1)
    print(answer.json()["access_token"])


def _awaited() -> dict[str, str]:
    """What comes back to the redirect URI, or nothing within five minutes."""
    said: dict[str, str] = {}
    place = urlsplit(REDIRECT_URI)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            target = urlsplit(self.path)
            if target.path == place.path:
                said.update(parse_qsl(target.query))
            content = b"Vous pouvez fermer cette page et revenir au terminal."
            self.send_response(200 if target.path == place.path else 404)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own name
            return

    with HTTPServer((str(place.hostname), place.port or 80), Handler) as server:
        server.timeout = _SECONDS
        server.handle_request()
    return said
