"""`passerelle ingestion`: messages of other formats - send them, see which wait and why, try them once more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer
from rich.console import Console
from rich.table import Table

from local.exchange import Credentials, ExchangeClient, TokenRefusedError
from local.options import CredentialsOption, ScopeOption, UrlOption, credentials_of, scopes_of
from passerelle.ingestion.model import SourceFormat

ClientOption = Annotated[str, typer.Option(help="Whose messages they are: the id of a registered client.")]
IdArgument = Annotated[str, typer.Argument(help="The id of a message, as `list` shows it.")]

ingestion = typer.Typer(no_args_is_help=True, help="Messages in HL7 v2, HPRIM and CDA: send, list, retry.")

_TYPES: Final = {
    SourceFormat.HL7V2: "application/hl7-v2",
    SourceFormat.HPRIM: "application/hprim",
    SourceFormat.CDA: "application/cda+xml",
}


@ingestion.command()
def send(
    client: ClientOption,
    files: Annotated[list[Path], typer.Argument(help="One message, or one batch, each.", exists=True)],
    of: Annotated[SourceFormat, typer.Option("--format", help="What they are.")] = SourceFormat.HL7V2,
    scope: ScopeOption = None,
    url: UrlOption = None,
    credentials: CredentialsOption = None,
) -> None:
    """Send messages, in this order, and say what became of each; exit status 1 unless all were applied."""
    desk = _desk(client, scope, url, credentials)
    refused = 0
    for file in files:
        verdict = _sent(desk, of, file.read_bytes())
        refused += verdict not in ("AA", "CA", "201")
        typer.echo(f"{verdict}  {file}")
    if refused:
        raise typer.Exit(1)


@ingestion.command(name="list")
def list_waiting(
    client: ClientOption,
    status: Annotated[str | None, typer.Option(help="Only `dead`, or only `received`.")] = None,
    scope: ScopeOption = None,
    url: UrlOption = None,
    credentials: CredentialsOption = None,
) -> None:
    """The messages that are not applied, the oldest first, with the reason."""
    table = Table("received", "id", "control id", "kind", "status", "reason", "where", box=None)
    for each in waiting(_desk(client, scope, url, credentials), status):
        reason = f"{each.get('reason', '')} {each.get('text', '')}".strip()
        cells = (each["received"], each["id"], each["control-id"], each.get("kind", ""), each["status"])
        table.add_row(*cells, reason, each.get("path", ""))
    Console(width=None if Console().is_terminal else 220).print(table)


@ingestion.command()
def show(
    client: ClientOption,
    id: IdArgument,
    scope: ScopeOption = None,
    url: UrlOption = None,
    credentials: CredentialsOption = None,
) -> None:
    """What became of one message: what was made of it, and which of its fields were lost."""
    answer = _call(_desk(client, scope, url, credentials), "GET", f"/ingestion/{id}")
    for part in answer.json()["parameter"][0]["part"]:
        typer.echo(f"{part['name']}: {_value(part)}")


@ingestion.command()
def retry(
    client: ClientOption,
    id: Annotated[str | None, typer.Argument(help="The id of a message, as `list` shows it.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that wait, the oldest first.")] = False,
    scope: ScopeOption = None,
    url: UrlOption = None,
    credentials: CredentialsOption = None,
) -> None:
    """Try messages that wait once more, when what was in their way is mended."""
    if (id is None) is not every:
        typer.echo("name a message, or --all", err=True)
        raise typer.Exit(2)
    desk = _desk(client, scope, url, credentials)
    ids = [id] if id else [str(each["id"]) for each in waiting(desk, None)]
    left = 0
    for each in ids:
        answer = _call(desk, "POST", f"/ingestion/{each}/$retry", accepts=(200, 404, 409, 422))
        is_applied = answer.status_code == 200
        left += not is_applied
        said = "applied" if is_applied else answer.json()["issue"][0]["diagnostics"]
        typer.echo(f"{each}  {said}")
    if left:
        raise typer.Exit(1)


@ingestion.command()
def drop(
    client: ClientOption,
    id: Annotated[str, typer.Argument(help="The id of a message, as `list` shows it.")],
    scope: ScopeOption = None,
    url: UrlOption = None,
    credentials: CredentialsOption = None,
) -> None:
    """Give up a message that will never be applied: nothing of it is kept."""
    answer = _call(_desk(client, scope, url, credentials), "DELETE", f"/ingestion/{id}", accepts=(204, 404, 409))
    if answer.status_code != 204:
        typer.echo(answer.json()["issue"][0]["diagnostics"], err=True)
        raise typer.Exit(1)
    typer.echo(f"{id}  dropped")


def waiting(desk: ExchangeClient, status: str | None) -> Iterator[Mapping[str, Any]]:
    """The parts of each message that waits, by name, page after page."""
    after = ""
    while True:
        query = {name: value for name, value in (("status", status), ("after", after)) if value}
        answer = _call(desk, "GET", f"/ingestion?{httpx.QueryParams(query)}" if query else "/ingestion").json()
        after = ""
        for parameter in answer.get("parameter", ()):
            if parameter["name"] == "after":
                after = parameter["valueString"]
            else:
                yield {part["name"]: _value(part) for part in parameter["part"]}
        if not after:
            return


def _value(part: Mapping[str, Any]) -> Any:
    return next(value for name, value in part.items() if name != "name")


def _sent(desk: ExchangeClient, of: SourceFormat, data: bytes) -> str:
    """The code of the acknowledgement, of each message of a batch; an HTTP status for what has none."""
    answer = _call(desk, "POST", f"/{of}", accepts=(200, 201, 204, 422), data=data, content_type=_TYPES[of])
    if answer.status_code != 200:
        return str(answer.status_code)
    codes = {line[4:6] for line in answer.content.decode("latin-1").split("\r") if line.startswith("MSA")}
    return " ".join(sorted(codes))


def _desk(client: str, scope: str | None, url: str | None, credentials: Path | None) -> ExchangeClient:
    where, path = credentials_of(url, credentials)
    try:
        return ExchangeClient(where, client, Credentials(path).key(client), scope=scopes_of(client, scope))
    except KeyError as missing:
        typer.echo(missing.args[0], err=True)
        raise typer.Exit(1) from None


def _call(
    desk: ExchangeClient,
    method: str,
    path: str,
    *,
    accepts: tuple[int, ...] = (200,),
    data: bytes = b"",
    content_type: str = "",
) -> httpx.Response:
    """Exits with what the exchange says where it says nothing of the message."""
    headers = {"Content-Type": content_type} if content_type else {}
    try:
        answer = desk.request(method, f"{desk.url}{path}", content=data, headers=headers)
    except (httpx.HTTPError, TokenRefusedError) as error:
        typer.echo(f"no answer: {error}", err=True)
        raise typer.Exit(1) from None
    if answer.status_code not in accepts:
        typer.echo(f"{answer.status_code} {answer.text[:300]}", err=True)
        raise typer.Exit(1)
    return answer
