"""`passerelle register` and `passerelle seed`: the operator's acts on a deployed exchange, with AWS credentials.

Clients are registered straight in the operations table: there is no API that could make a client.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import boto3
import typer
from rich.console import Console

from local.exchange import Credentials
from local.options import CredentialsOption, credentials_of
from local.seed import SeedError
from local.seed import seed as seed_region
from passerelle.access import Scopes
from passerelle.authorization.model import Client
from passerelle.aws.clients import DynamoClients
from passerelle.aws.dynamodb import DynamoDb
from passerelle.aws.journal import TableNames
from passerelle.directory.model import Role
from passerelle.errors import Conflict
from passerelle.identifiers import Blinder

TableOption = Annotated[str, typer.Option(help="The operations table: output OperationsTable of the stack.")]


def register(
    file: Annotated[Path, typer.Argument(help="JSON: id, organisation, role, scopes, jwks, ...", exists=True)],
    table: TableOption,
) -> None:
    """Register a client, or replace its registration; its keys are public keys."""
    try:
        client = client_of(json.loads(file.read_text("utf-8")))
    except (KeyError, TypeError, ValueError) as fault:
        typer.echo(f"not a registration: {fault}", err=True)
        raise typer.Exit(1) from None
    try:
        _clients(table).register(client)
    except Conflict as refused:
        typer.echo(f"refused: {refused}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"registered {client.id}")


def client_of(form: dict[str, Any]) -> Client:
    """A registration as a file says it; `scopes` is one string, `jwks` a JWK set. Raises KeyError, ValueError."""
    unknown = form.keys() - {"id", "organisation", "role", "scopes", "jwks", "domain", "professional", "patient"}
    if unknown:
        raise ValueError(f"unknown members: {', '.join(sorted(unknown))}")
    return Client(
        id=form["id"],
        organisation=form["organisation"],
        role=Role(form["role"]),
        scopes=Scopes.parse(form["scopes"]),
        jwks=form["jwks"]["keys"],
        domain=form.get("domain"),
        professional=form.get("professional"),
        patient=form.get("patient"),
    )


def seed(
    url: Annotated[str, typer.Option(help="Root URL of the exchange: output Url of the stack.")],
    table: TableOption,
    credentials: CredentialsOption = None,
) -> None:
    """Bring the synthetic region into a deployed exchange of stage dev, and keep its clients' keys."""
    where, path = credentials_of(url, credentials)
    console = Console()
    try:
        with console.status("clients") as status:
            seed_region(where, Credentials(path), _clients(table).register, status.update)
    except SeedError as refused:
        console.print(f"[red]stopped:[/] {refused}", soft_wrap=True)
        raise typer.Exit(1) from None
    console.print(f"seeded; the clients' keys are in {path}")


def _clients(table: str) -> DynamoClients:
    def no_blinder() -> Blinder:
        raise AssertionError("registrations have no blinded key")

    tables = TableNames(clinical="", patients="", operations=table, audit="", blinder=no_blinder)
    return DynamoClients(DynamoDb(boto3.client("dynamodb")), tables)
