"""The `passerelle` command: a registry; each subcommand is in the module of its name."""

from __future__ import annotations

import typer

from local.clients import register, seed
from local.demo import demo
from local.identity import identity
from local.load import load
from local.run import run
from local.token import token

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Passerelle, a health information exchange.")
for command in (run, token, demo, load, register, seed):
    app.command()(command)
app.add_typer(identity, name="identity")
