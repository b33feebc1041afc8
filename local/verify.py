"""`passerelle verify`: what the exchange proves of its log, checked by the stand-alone verifier.

The keys and the newest epoch seen are kept beside the credentials: the keys of the first time count ever after, and the
log must have grown from what it was the last time.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from cryptography.exceptions import InvalidSignature

from local.options import CredentialsOption, UrlOption, credentials_of
from local.token import access_token
from verifier import verify as verifier

_TRIES_SECONDS = 40


def verify(
    event: Annotated[str | None, typer.Argument(help="Id of an AuditEvent; without it, the log as a whole.")] = None,
    client: Annotated[str, typer.Option(help="Who may read the event.")] = "auditor",
    save: Annotated[Path | None, typer.Option(help="File to keep the proof of the event in.")] = None,
    url: UrlOption = None,
    credentials: CredentialsOption = None,
) -> None:
    """Verify that an event was logged when it says, and that the log only grew."""
    where, kept = credentials_of(url, credentials)
    with httpx.Client(base_url=where, timeout=_TRIES_SECONDS) as http:
        for proved in check(http, kept.parent, event, lambda: access_token(client, None, where, kept), save):
            print(proved)


def check(
    http: httpx.Client, folder: Path, event: str | None, token: Callable[[], str], save: Path | None = None
) -> Iterator[str]:
    """What is proved, in words; raises typer.Exit with the reason on standard error. `folder` remembers."""
    keys = _remembered(folder / "log-keys.json", lambda: _json(http.get("/log/keys")))
    try:
        if event is not None:
            yield _event(http, event, token(), keys, save)
        yield _growth(http, folder / "log-anchor.json", keys)
    except (verifier.Rejected, InvalidSignature, KeyError, TypeError, ValueError) as reason:
        typer.echo(f"rejected: {reason or type(reason).__name__}", err=True)
        raise typer.Exit(1) from None


def _event(http: httpx.Client, event: str, token: str, keys: Any, save: Path | None) -> str:
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/fhir+json"}
    answer = http.get(f"/fhir/AuditEvent/{event}/$proof", headers=headers)
    if answer.status_code == 202:
        typer.echo(f"not sealed yet: try again in {answer.headers['Retry-After']} seconds", err=True)
        raise typer.Exit(2)
    proof = json.loads(base64.b64decode(_json(answer)["data"]))
    if save is not None:
        save.write_text(json.dumps(proof, ensure_ascii=False), "utf-8")
    said, epoch = verifier.check_event(proof, keys)
    if said["id"] != event:
        raise verifier.Rejected("the proof is of another event")
    return f"proved: {said['name']} at {said['at']} by {said['client_id']}, epoch {epoch['epoch']}"


def _growth(http: httpx.Client, file: Path, keys: Any) -> str:
    """The log from the newest epoch that was seen before to the newest there is, which is kept."""
    latest = _json(http.get("/log/anchors/latest"))
    before = _remembered(file, lambda: latest)
    numbers = {"first": json.loads(before["body"])["epoch"], "second": json.loads(latest["body"])["epoch"]}
    first, second = verifier.check_epochs(_json(http.get("/log/consistency", params=numbers)), keys, before)
    file.write_text(json.dumps(latest), "utf-8")
    return f"proved: epoch {second['epoch']} has everything of epoch {first['epoch']}"


def _remembered(file: Path, fetch: Callable[[], Any]) -> Any:
    """What a file has; the first time, what is fetched is kept in it."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(fetch()), "utf-8")
    return json.loads(file.read_text("utf-8"))


def _json(answer: httpx.Response) -> Any:
    if answer.status_code != 200:
        typer.echo(f"{answer.request.url.path}: {answer.status_code} {answer.text[:300]}", err=True)
        raise typer.Exit(1)
    return answer.json()
