"""`passerelle client`, `issuer`, `bar`, `readmit` and `seed`: an operator's acts on a deployed exchange.

With AWS credentials, straight on the operations table: there is no API that could make a client. Each act binds the
next request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import boto3
import typer
from rich.console import Console

from local.exchange import Credentials
from local.options import CredentialsOption, credentials_of
from local.seed import SeedError
from local.seed import seed as seed_region
from passerelle.access import Scopes
from passerelle.authorization.model import Client, Issuer, Party
from passerelle.authorization.secrets import new_secret
from passerelle.aws.clients import DynamoClients
from passerelle.aws.dynamodb import DynamoDb
from passerelle.aws.journal import TableNames
from passerelle.aws.keys import DataKeys
from passerelle.directory.identifiers import IDNPS, IDNST, other_form
from passerelle.directory.model import Role
from passerelle.errors import PasserelleError
from passerelle.identifiers import Blinder

TableOption = Annotated[str, typer.Option(help="The operations table: output OperationsTable of the stack.")]

SecretOption = Annotated[
    str, typer.Option(help="The index secret, where a client acts for one patient: output IndexSecret of the stack.")
]

ClientArgument = Annotated[str, typer.Argument(help="The id of a registered client.")]
FileArgument = Annotated[Path, typer.Argument(help="A file of JSON, see docs/trust.md.", exists=True)]

client = typer.Typer(no_args_is_help=True, help="Systems that may call: register, secrets, revocation.")
issuer = typer.Typer(no_args_is_help=True, help="Authorization servers of others whose tokens are taken.")

_LONGEST_TOKEN: Final = timedelta(hours=1)
_TEXTS = ("id", "organisation", "domain", "professional", "patient", "jwks_url")
_LISTS = ("purposes", "redirect_uris", "providers")
_FLAGS = ("names_professionals", "introspects", "is_public")


@client.command()
def register(file: FileArgument, table: TableOption, index_secret: SecretOption = "") -> None:
    """Register a client, or replace its registration; its keys are public keys, its secrets stay."""
    with _explained():
        new = client_of(json.loads(file.read_text("utf-8")))
        clients = _clients(table, index_secret)
        if known := clients.find(new.id):
            new = replace(new, active=known.active, revoked=known.revoked, secrets=known.secrets)
        clients.register(new)
    typer.echo(f"registered {new.id}")


@client.command()
def secret(
    id: ClientArgument,
    table: TableOption,
    days: Annotated[int, typer.Option(help="How long the secret that it has stays good.", min=0, max=90)] = 7,
) -> None:
    """Give a client a new secret, and print it: it is shown this once."""
    text, kept = new_secret()
    now = datetime.now(UTC)
    with _explained():
        _clients(table).add_secret(id, kept, old_until=now + timedelta(days=days), at=now)
    typer.echo(text)


@client.command()
def drop_secrets(id: ClientArgument, table: TableOption) -> None:
    """End every secret of a client at once: it has been told to somebody."""
    with _explained():
        _clients(table).drop_secrets(id)
    typer.echo(f"{id} has no secret")


@client.command()
def deactivate(id: ClientArgument, table: TableOption) -> None:
    """Stop a client: it gets no token, and those it has are refused."""
    with _explained():
        _clients(table).deactivate(id)
    typer.echo(f"deactivated {id}")


@client.command()
def activate(id: ClientArgument, table: TableOption) -> None:
    """Let a client in again."""
    with _explained():
        _clients(table).activate(id)
    typer.echo(f"activated {id}")


@client.command()
def revoke(
    id: ClientArgument,
    token: Annotated[str, typer.Argument(help="The id of the token: its claim `jti`, as audit records have it.")],
    table: TableOption,
) -> None:
    """Make one token void; the client gets others."""
    now = datetime.now(UTC)
    with _explained():
        _clients(table).revoke(id, token, expires_at=now + _LONGEST_TOKEN, at=now)
    typer.echo(f"revoked a token of {id}")


@issuer.command()
def trust(file: FileArgument, table: TableOption) -> None:
    """Take the tokens of an issuer, or replace what is known of it."""
    with _explained():
        new = issuer_of(json.loads(file.read_text("utf-8")))
        _clients(table).trust(new)
    typer.echo(f"trusts {new.url}")


@issuer.command()
def distrust(url: Annotated[str, typer.Argument(help="Its `iss`.")], table: TableOption) -> None:
    """Take no token of an issuer any more."""
    with _explained():
        _clients(table).distrust(url)
    typer.echo(f"trusts {url} no more")


KindArgument = Annotated[Literal["professional", "organisation"], typer.Argument()]
PartyArgument = Annotated[str, typer.Argument(help="IDNPS (8 and the RPPS number) or IDNST (1 and the FINESS number).")]


def bar(kind: KindArgument, id: PartyArgument, table: TableOption) -> None:
    """Shut a professional or an organisation out, whichever system acts for it."""
    with _explained():
        _clients(table).bar(_party(kind, id), at=datetime.now(UTC))
    typer.echo(f"barred the {kind}")


def readmit(kind: KindArgument, id: PartyArgument, table: TableOption) -> None:
    """Let a barred professional or organisation in again."""
    with _explained():
        _clients(table).readmit(_party(kind, id))
    typer.echo(f"readmitted the {kind}")


def _party(kind: Literal["professional", "organisation"], id: str) -> Party:
    """Raises ValueError for what names nobody: whoever it was meant for would stay in."""
    if other_form({"professional": IDNPS, "organisation": IDNST}[kind], id) is None:
        raise ValueError(f"not the national identifier of a {kind}")
    return Party(kind=kind, id=id)


@contextmanager
def _explained() -> Iterator[None]:
    """Tell what is wrong with a file, or why the exchange refuses, and end with status 1."""
    try:
        yield
    except PasserelleError as refused:
        typer.echo(f"refused: {refused}", err=True)
    except (KeyError, TypeError, ValueError) as fault:
        typer.echo(f"not a registration: {fault}", err=True)
    else:
        return
    raise typer.Exit(1)


def client_of(form: Mapping[str, Any]) -> Client:
    """A registration as a file says it; `scopes` is one string, `jwks` a JWK set. Raises KeyError, ValueError."""
    _check_members(form, {*_TEXTS, *_LISTS, *_FLAGS, "role", "scopes", "jwks", "certificates"})
    given: dict[str, Any] = {name: form[name] for name in (*_TEXTS, *_FLAGS) if name in form}
    given |= {name: tuple(form[name]) for name in _LISTS if name in form}
    return Client(
        role=Role(form["role"]),
        scopes=Scopes.parse(form["scopes"]),
        jwks=form.get("jwks", {"keys": []})["keys"],
        certificates=frozenset(form.get("certificates", ())),
        **given,
    )


def issuer_of(form: Mapping[str, Any]) -> Issuer:
    """An issuer as a file says it: `url`, `jwks` (each key with its `alg`), `clients`, `roles`, `scopes`."""
    _check_members(form, {"url", "jwks", "clients", "roles", "scopes"})
    return Issuer(
        url=form["url"],
        jwks=form["jwks"]["keys"],
        clients=frozenset(form["clients"]),
        roles=frozenset(Role(each) for each in form["roles"]),
        scopes=Scopes.parse(form["scopes"]),
    )


def _check_members(form: Mapping[str, Any], known: set[str]) -> None:
    if unknown := form.keys() - known:
        raise ValueError(f"unknown members: {', '.join(sorted(unknown))}")


def seed(
    url: Annotated[str, typer.Option(help="Root URL of the exchange: output Url of the stack.")],
    table: TableOption,
    index_secret: SecretOption,
    credentials: CredentialsOption = None,
) -> None:
    """Bring the synthetic region into a deployed exchange of stage dev, and keep its clients' keys."""
    where, path = credentials_of(url, credentials)
    console = Console()
    try:
        with console.status("clients") as status:
            seed_region(where, Credentials(path), _clients(table, index_secret).register, status.update)
    except SeedError as refused:
        console.print(f"[red]stopped:[/] {refused}", soft_wrap=True)
        raise typer.Exit(1) from None
    console.print(f"seeded; the clients' keys are in {path}")


def _clients(table: str, index_secret: str = "") -> DynamoClients:
    @cache
    def blinder() -> Blinder:
        if not index_secret:
            raise ValueError("a client acts for one patient: --index-secret is needed")
        answer = boto3.client("secretsmanager").get_secret_value(SecretId=index_secret)
        return Blinder(answer["SecretString"].encode())

    def no_keyring() -> DataKeys:
        raise AssertionError("registrations have nothing of a record")

    tables = TableNames(clinical="", patients="", operations=table, audit="", blinder=blinder, keyring=no_keyring)
    return DynamoClients(DynamoDb(boto3.client("dynamodb")), tables)
