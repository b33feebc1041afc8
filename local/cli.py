"""The `passerelle` command: a registry; each subcommand is in the module of its name."""

from __future__ import annotations

import typer

from local.clients import bar, client, issuer, readmit, seed
from local.demo import demo
from local.identity import identity
from local.ingestion import ingestion
from local.knowledge import kb
from local.load import load
from local.login import login
from local.mllp import mllp
from local.run import run
from local.subscriptions import subscriptions
from local.token import token
from local.verify import verify

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Passerelle, a health information exchange.")
for command in (run, token, login, demo, load, bar, readmit, seed, verify, mllp):
    app.command()(command)
app.add_typer(client, name="client")
app.add_typer(identity, name="identity")
app.add_typer(ingestion, name="ingestion")
app.add_typer(issuer, name="issuer")
app.add_typer(kb, name="kb")
app.add_typer(subscriptions, name="subscriptions")
