"""`make docs`: the pages that are made from code - routes, rights, errors. A test compares them with the code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from infra.functions import FUNCTIONS, Authorizer, Http, Outbox, Trail, Trigger
from infra.routes import endpoints, fhir_routes
from passerelle import errors
from passerelle.api.routes import INTERACTIONS
from passerelle.errors import PasserelleError

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"
_MADE: Final = "<!-- Made by `make docs`; change the code, not this page. -->\n"


def pages() -> dict[str, str]:
    """File name and text of each page."""
    return {"routes.md": _routes(), "rights.md": _rights(), "errors.md": _errors()}


def write() -> None:
    for name, text in pages().items():
        (DOCS / name).write_text(text, "utf-8")


def _routes() -> str:
    types: dict[str, dict[str, str]] = {}
    others: dict[tuple[str, str], list[str]] = {}
    for route in fhir_routes():
        codes = "".join(f" {code}" for code in route.permission.transactions) if route.permission else ""
        if route.resource and route.name in INTERACTIONS:
            types.setdefault(route.resource, {})[route.name] = f"{route.name}{codes}"
        else:
            path = route.path.replace(f"/{route.resource}", "/<Type>", 1)
            needs = route.permission.interaction if route.permission else "of each entry"
            others.setdefault((f"`{route.method} {path}`", f"{needs}{codes}"), []).append(route.resource or "")
    listed = "\n".join(f"| {kind} | {_interactions(names)} |" for kind, names in sorted(types.items()))
    operations = "\n".join(f"| {path} | {' '.join(kinds)} | {of} |" for (path, of), kinds in sorted(others.items()))
    shapes = "\n".join(
        f"| {name} | {', '.join(f'`{method} <Type>{path}`' for method, path in shape.places)} | {shape.needs} |"
        for name, shape in INTERACTIONS.items()
    )
    deployed = "\n".join(f"- `{each.method} {each.path}`: {each.function}" for each in endpoints() if not each.public)
    public = "\n".join(f"- `{each.method} {each.path}`: {each.function}" for each in endpoints() if each.public)
    return f"""{_MADE}
# Routes

A token opens a route with the SMART scope `system/<Type>.<right>`, or with the code of one of the transactions named
beside it.

| interaction | below `/fhir/` | right |
|---|---|---|
{shapes}

| type | interactions |
|---|---|
{listed}

| operation | of | right |
|---|---|---|
{operations}

## What API Gateway knows

A path that no function serves is answered by one of them, too: 404 for an unknown type or interaction, 405 with
`Allow` for another method, both as OperationOutcome.

{deployed}

Without a token: `GET /fhir/metadata`, by API Gateway itself, and

{public}
"""


def _interactions(names: Mapping[str, str]) -> str:
    """In the order of the table; one that has a transaction besides is named with it."""
    if names.keys() == INTERACTIONS.keys():
        return ", ".join(["all", *(text for name, text in names.items() if text != name)])
    return ", ".join(names[each] for each in INTERACTIONS if each in names)


def _rights() -> str:
    parts = []
    for spec in FUNCTIONS:
        grants = "\n".join(f"| {grant.on} | {', '.join(sorted(grant.actions))} |" for grant in spec.grants)
        parts.append(
            f"## {spec.name}\n\n{spec.purpose}. {_started(spec.trigger)} {spec.memory_mb} MB, "
            f"{spec.timeout_seconds} s.\n\n| on | actions |\n|---|---|\n{grants}\n"
        )
    listed = "\n".join(parts)
    return f"""{_MADE}
# Rights of the functions

Each function has a role of its own with these actions on these resources, the use of their keys, and its own log group.
A test plays the story and compares: no call without a right, no right without a call.

{listed}"""


def _started(trigger: Trigger) -> str:
    match trigger:
        case Http():
            return "Serves HTTP." if not trigger.public else "Serves HTTP without a token."
        case Authorizer():
            return "Runs before every request with a token."
        case Outbox():
            return f"Started by the outbox, {trigger.batch_size} items at most."
        case Trail():
            return f"Started by new audit records, {trigger.batch_size} at most."
        case _:
            return f"Started by the queue `{trigger.name}`, {trigger.batch_size} messages at most."


def _errors() -> str:
    rows = "\n".join(
        f"| {kind.__name__} | {kind.status} | `{kind.code}` | {(kind.__doc__ or '').strip()} |" for kind in _kinds()
    )
    return f"""{_MADE}
# Errors

Every refusal is an OperationOutcome. `expression` is the path of the fault; no text repeats what was sent. An issue may
have a more precise code than the default of its category (`required`, `value`, `code-invalid`, `structure`, ...).

| category | HTTP | issue code | |
|---|---|---|---|
{rows}
"""


def _kinds() -> Iterator[type[PasserelleError]]:
    found = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, PasserelleError)]
    return iter(sorted((each for each in found if each is not PasserelleError), key=lambda each: each.status))


if __name__ == "__main__":
    write()
