"""`passerelle load`: transaction bundles from files into an exchange, resumable, with a summary of what was refused.

Each bundle is sent with an Idempotency-Key made of its content, so that sending it again, after a crash or a lost
answer, does nothing twice; what succeeded is noted in a ledger beside the credentials, and skipped next time.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from local.exchange import Credentials, ExchangeClient, TokenRefusedError
from local.options import CredentialsOption, UrlOption, credentials_of
from local.region import PARTICIPANTS

_ATTEMPTS: Final = 5
_NAMESPACE: Final = uuid.UUID("6d9f1a52-58b4-5b4e-9a55-6b1f6c1d2a10")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One transaction: where it came from, and its bytes as they will be sent."""

    source: str
    content: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What the exchange said of a bundle it did not take."""

    source: str
    status: int
    code: str
    diagnostics: str
    expression: str


def bundles(paths: Sequence[Path]) -> Iterator[Bundle]:
    """The transaction bundles in files (.json, .ndjson) and folders; a line may wrap one as `bundle` or `resource`."""
    for path in sorted(each for given in paths for each in _files(given)):
        if path.suffix == ".ndjson":
            with path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    content = json.loads(line)
                    inner = content.get("bundle") or content.get("resource") or content
                    yield Bundle(source=f"{path.name}:{number}", content=_encoded(inner))
        else:
            yield Bundle(source=path.name, content=path.read_bytes())


def _files(path: Path) -> list[Path]:
    return [each for each in path.rglob("*") if each.suffix in (".json", ".ndjson")] if path.is_dir() else [path]


def _encoded(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


class Ledger:
    """Digests of the bundles that were taken, one a line, appended as they are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.taken = set(path.read_text("ascii").split()) if path.is_file() else set()

    def note(self, digest: str) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="ascii") as file:
            file.write(f"{digest}\n")
        self.taken.add(digest)


def send(client: ExchangeClient, bundle: Bundle) -> httpx.Response:
    """Send one bundle; repeats what may be repeated, with the same key, up to five times."""
    key = str(uuid.uuid5(_NAMESPACE, bundle.digest))
    headers = {"Content-Type": "application/fhir+json", "Idempotency-Key": key}
    for attempt in range(_ATTEMPTS):
        try:
            answer = client.request("POST", "", content=bundle.content, headers=headers)
        except httpx.TransportError:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            if answer.status_code not in (429, 500, 502, 503, 504):
                return answer
        time.sleep(min(8.0, 0.5 * 2**attempt))
    return answer


def load(
    paths: Annotated[list[Path], typer.Argument(help="Files or folders of transaction bundles.", exists=True)],
    client: Annotated[str, typer.Option(help="The client that sends them.")] = "laboratory",
    scope: Annotated[str | None, typer.Option(help="Scopes to ask for.")] = None,
    url: UrlOption = None,
    credentials: CredentialsOption = None,
) -> None:
    """Send transaction bundles, and say which were refused and why. Ends with 1 if any was."""
    where, path = credentials_of(url, credentials)
    default = next((each.scopes for each in PARTICIPANTS if each.id == client), None)
    console = Console()
    try:
        exchange = ExchangeClient(where, client, Credentials(path).key(client), scope=scope or default)
        refusals = _load_all(exchange, list(bundles(paths)), Ledger(path.parent / f"loaded-{client}.txt"), console)
    except (KeyError, TokenRefusedError, httpx.TransportError) as failure:
        console.print(f"[red]stopped:[/] {failure}. What was taken is noted; run the same command to go on.")
        raise typer.Exit(1) from None
    if refusals:
        console.print(_summary(refusals))
        raise typer.Exit(1)


def _load_all(client: ExchangeClient, found: list[Bundle], ledger: Ledger, console: Console) -> list[Refusal]:
    waiting = [bundle for bundle in found if bundle.digest not in ledger.taken]
    refusals: list[Refusal] = []
    entries = 0
    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("bundles", total=len(waiting))
        for bundle in waiting:
            answer = send(client, bundle)
            if answer.status_code == 200:
                ledger.note(bundle.digest)
                entries += len(answer.json().get("entry", []))
            else:
                refusals.append(_refusal(bundle, answer))
            progress.advance(task)
    seconds = time.monotonic() - started
    taken = len(waiting) - len(refusals)
    console.print(
        f"{taken} bundles taken with {entries} resources in {seconds:.1f} s, {len(refusals)} refused, "
        f"{len(found) - len(waiting)} taken before"
    )
    return refusals


def _refusal(bundle: Bundle, answer: httpx.Response) -> Refusal:
    try:
        issue = answer.json()["issue"][0]
    except (ValueError, KeyError, IndexError):
        issue = {"code": "", "diagnostics": answer.text[:200]}
    return Refusal(
        source=bundle.source,
        status=answer.status_code,
        code=issue.get("code", ""),
        diagnostics=issue.get("diagnostics", ""),
        expression=", ".join(issue.get("expression", [])),
    )


def _summary(refusals: Sequence[Refusal]) -> Table:
    table = Table("bundle", "status", "code", "why", "where", title="refused")
    for refusal in refusals:
        table.add_row(refusal.source, str(refusal.status), refusal.code, refusal.diagnostics, refusal.expression)
    counted = ", ".join(f"{n} x {code}" for code, n in Counter(each.code for each in refusals).most_common())
    table.caption = counted
    return table
