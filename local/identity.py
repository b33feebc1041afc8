"""`passerelle identity`: the worklist of identity stewards in the terminal, over the API of a running exchange.

What comes from the exchange is printed as text: neither markup nor control characters of a name take effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import httpx
import typer
from rich.console import Console
from rich.prompt import Prompt
from rich.table import Table
from rich.text import Text

from local.exchange import Credentials, ExchangeClient, TokenRefusedError
from local.options import CredentialsOption, UrlOption, credentials_of
from local.region import PARTICIPANTS
from passerelle.errors import PasserelleError
from passerelle.fhir.identity import traits_of
from passerelle.patients.identity import IdentityScheme, french_identity
from passerelle.patients.model import Identifier, Traits

identity = typer.Typer(no_args_is_help=True, help="The worklist of identity stewards, and what is known of a record.")

ClientOption = Annotated[str, typer.Option(help="The client's id; its role has to be identity-steward.")]
ReasonOption = Annotated[str, typer.Option(help="Kept in the history of each record concerned.", prompt="Why")]
ReviewArgument = Annotated[str, typer.Argument(help="The review's id.")]
RecordArgument = Annotated[str, typer.Argument(help="A source record: the id of its Patient.")]

_BAR_BITS: Final = 2  # of evidence, for each character of a bar
_BAR_WIDTH: Final = 12
_COLOURS: Final = {"open": "yellow", "later": "cyan", "same": "green", "different": "red", "moot": "dim"}


# --- commands -------------------------------------------------------------------------------------------------------


@identity.command("list")
def list_reviews(
    context: typer.Context,
    status: Annotated[str, typer.Option(help="open, later, same, different or moot.")] = "open",
    count: Annotated[int, typer.Option(help="How many at most, the oldest first.", min=1)] = 50,
    client: ClientOption = "steward",
    url: UrlOption = None,
    credentials: CredentialsOption = None,
) -> None:
    """List the questions of a status."""
    with _desk(context, client, url, credentials) as desk:
        found, has_more = desk.reviews(status, count)
        if not found:
            desk.say(f"no review is {status}")
            return
        table = _table("id", "score", "grade", "cause", "since")
        for each in found:
            table.add_row(
                _text(each.get("id")),
                _score(each),
                _text(each.get("grade")),
                _text(each.get("cause")),
                _moment(each.get("raised")),
            )
        desk.console.print(table)
        if has_more:
            desk.say(f"there are more than {count}: ask for more with --count")


@identity.command()
def show(
    context: typer.Context,
    review: ReviewArgument,
    client: ClientOption = "steward",
    url: UrlOption = None,
    credentials: CredentialsOption = None,
) -> None:
    """Show both records of a review side by side, and what the index saw, trait by trait."""
    with _desk(context, client, url, credentials) as desk:
        desk.show(desk.review(review))


@identity.command()
def decide(
    context: typer.Context,
    review: ReviewArgument,
    same: Annotated[bool, typer.Option("--same", help="They are one person.")] = False,
    different: Annotated[bool, typer.Option("--different", help="They are two people; not asked again.")] = False,
    later: Annotated[bool, typer.Option("--later", help="It cannot be told yet.")] = False,
    reason: Annotated[str | None, typer.Option(help="Kept in the history of each record concerned.")] = None,
    client: ClientOption = "steward",
    url: UrlOption = None,
    credentials: CredentialsOption = None,
) -> None:
    """Answer a review; without an answer among the options, it is shown and asked for."""
    chosen = [name for name, is_chosen in (("same", same), ("different", different), ("later", later)) if is_chosen]
    if len(chosen) > 1:
        raise typer.BadParameter("give one of --same, --different and --later")
    with _desk(context, client, url, credentials) as desk:
        if not chosen:
            desk.show(desk.review(review))
        answer = chosen[0] if chosen else Prompt.ask("One person?", choices=["same", "different", "later"])
        why = reason or Prompt.ask("Why")
        desk.act("decide", _value("review", "Id", review), _value("decision", "Code", answer), _why(why))


@identity.command()
def link(
    context: typer.Context,
    first: RecordArgument,
    second: RecordArgument,
    reason: ReasonOption,
    client: ClientOption = "steward",
    url: UrlOption = None,
    credentials: CredentialsOption = None,
) -> None:
    """Make two source records one person."""
    with _desk(context, client, url, credentials) as desk:
        desk.act("link", _patient("first", first), _patient("second", second), _why(reason))


@identity.command()
def unlink(
    context: typer.Context,
    record: RecordArgument,
    reason: ReasonOption,
    client: ClientOption = "steward",
    url: UrlOption = None,
    credentials: CredentialsOption = None,
) -> None:
    """Take a source record out of its person, for good."""
    with _desk(context, client, url, credentials) as desk:
        desk.act("unlink", _patient("patient", record), _why(reason))


@identity.command()
def merge(
    context: typer.Context,
    source: RecordArgument,
    target: RecordArgument,
    reason: ReasonOption,
    client: ClientOption = "steward",
    url: UrlOption = None,
    credentials: CredentialsOption = None,
) -> None:
    """Put SOURCE out of use in favour of TARGET, a record of the same domain."""
    with _desk(context, client, url, credentials) as desk:
        desk.act("merge", _patient("source-patient", source), _patient("target-patient", target), _why(reason))


@identity.command()
def unmerge(
    context: typer.Context,
    record: RecordArgument,
    reason: ReasonOption,
    client: ClientOption = "steward",
    url: UrlOption = None,
    credentials: CredentialsOption = None,
) -> None:
    """Put a record that was replaced back in use, as it was."""
    with _desk(context, client, url, credentials) as desk:
        desk.act("unmerge", _patient("patient", record), _why(reason))


@identity.command()
def history(
    context: typer.Context,
    record: RecordArgument,
    client: ClientOption = "steward",
    url: UrlOption = None,
    credentials: CredentialsOption = None,
) -> None:
    """Show the person of a source record: its records, their links, and what happened to them."""
    with _desk(context, client, url, credentials) as desk:
        desk.show_card(desk.parts(desk.asked("GET", f"Patient/{_key(record)}/$identity")))


# --- the exchange ---------------------------------------------------------------------------------------------------


class _RefusedError(Exception):
    """The exchange refused; the message is its diagnostics."""


@contextmanager
def _desk(context: typer.Context, client: str, url: str | None, credentials: Path | None) -> Iterator[_Desk]:
    """A steward at a running exchange; what goes wrong ends the command with 1 and the reason on standard error.

    The object of the command's context, if there is one, is the transport that requests go by.
    """
    where, path = credentials_of(url, credentials)
    scope = next((each.scopes for each in PARTICIPANTS if each.id == client), None)
    try:
        exchange = ExchangeClient(where, client, Credentials(path).key(client), scope=scope, transport=context.obj)
        with exchange.http:
            yield _Desk(exchange, Console(highlight=False))
    except _RefusedError as refusal:
        reason = f"refused: {refusal}"
    except (KeyError, TokenRefusedError) as refusal:
        reason = f"no token: {refusal.args[0]}"
    except httpx.TransportError as failure:
        reason = f"{where} does not answer: {type(failure).__name__}"
    else:
        return
    typer.echo(_printable(reason), err=True)
    raise typer.Exit(1)


_Parts = Mapping[str, Any]  # by name, the values of the parts; a list where a name is repeated


@dataclass(frozen=True, slots=True)
class _Desk:
    exchange: ExchangeClient
    console: Console

    def asked(self, method: str, path: str, **options: Any) -> Any:
        answer = self.exchange.request(method, path, **options)
        if answer.status_code != 200:
            raise _RefusedError(f"{answer.status_code} {_diagnostics(answer)}")
        return answer.json()

    def reviews(self, status: str, count: int) -> tuple[list[_Parts], bool]:
        """At most so many reviews, over as many pages as it takes; and whether there are more."""
        found: list[_Parts] = []
        following: str | None = f"Patient/$reviews?{urlencode({'status': status, '_count': count})}"
        while following and len(found) < count:
            page = self.parts(self.asked("GET", following))
            found += page.get("review", [])
            following = next(iter(page.get("next", [])), None)
        return found[:count], following is not None or len(found) > count

    def review(self, review: str) -> _Parts:
        (found,) = self.parts(self.asked("GET", f"Patient/$reviews?{urlencode({'review': review})}"))["review"]
        return dict(found)

    def act(self, operation: str, *parameters: Mapping[str, Any]) -> None:
        body = {"resourceType": "Parameters", "parameter": list(parameters)}
        done = self.parts(self.asked("POST", f"Patient/${operation}", json=body))
        if _first(done, "changed"):
            self.say(f"done; one person now: {', '.join(done['record'])}")
        else:
            self.say("done; no link changed")

    @staticmethod
    def parts(body: Any) -> dict[str, list[Any]]:
        """The parameters of an answer by name: values as they are, parts as a mapping of the same kind."""
        return _by_name(body.get("parameter", []))

    def say(self, text: str) -> None:
        self.console.print(_text(text), soft_wrap=True)

    # --- what is shown ----------------------------------------------------------------------------------------------

    def show(self, review: _Parts) -> None:
        status = str(_first(review, "status"))
        head = Text.assemble(
            ("review ", "bold"),
            _printable(str(_first(review, "id"))),
            "  ",
            (status, _COLOURS.get(status, "")),
            f"  raised {_moment(review.get('raised'))}, cause: {_printable(str(_first(review, 'cause')))}",
        )
        self.console.print(head, soft_wrap=True)
        self.console.print(_traits_table(_records(review)))
        self._show_evidence(review)
        for decision in review.get("decision", []):
            self.say(f"{status} by {_who(decision)} on {_moment(decision.get('at'))}: {_first(decision, 'reason')}")

    def _show_evidence(self, review: _Parts) -> None:
        contradictions = review.get("contradiction", [])
        if contradictions:
            self.say(f"contradictions: {', '.join(contradictions)}")
        evidence = [each for each in review.get("evidence", []) if _first(each, "level") != "unknown"]
        if not evidence:
            return
        table = _table("trait", "agreement", "bits", "")
        for each in evidence:
            bits = _first(each, "bits")
            table.add_row(
                _text(each.get("field")),
                _text(each.get("level")),
                Text("" if bits is None else f"{bits:+.1f}", justify="right"),
                _bar(0.0 if bits is None else bits),
            )
        self.console.print(table)
        total = f"{_first(review, 'bits'):+.1f} bits, " if "bits" in review else ""
        self.say(f"{total}score {_score(review)}, model {_first(review, 'model')}")
        if review.get("is-current-model") == [False]:
            self.say("the model has changed since: only the levels are known")

    def show_card(self, card: Mapping[str, list[Any]]) -> None:
        table = _table("record", "since", "state")
        for each in card.get("record", []):
            table.add_row(_text(each.get("reference")), _moment(each.get("since")), _state(each))
        self.console.print(table)
        if links := card.get("link", []):
            table = _table("linked", "with", "by", "since")
            for each in links:
                table.add_row(*(_text(each.get(name)) for name in ("first", "second", "rule")), _moment(each.get("at")))
            self.console.print(table)
        if events := card.get("history", []):
            table = _table("when", "what", "by", "with", "why")
            for each in events:
                what = f"{_first(each, 'kind')} ({_first(each, 'rule')})"
                table.add_row(
                    _moment(each.get("at")),
                    _text(what),
                    _text(_who(each)),
                    _text(each.get("with")),
                    _text(each.get("reason")),
                )
            self.console.print(table)


def _diagnostics(answer: httpx.Response) -> str:
    try:
        return "; ".join(issue.get("diagnostics", issue["code"]) for issue in answer.json()["issue"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase


# --- Parameters -----------------------------------------------------------------------------------------------------


def _by_name(parameters: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for each in parameters:
        found.setdefault(each["name"], []).append(_by_name(each["part"]) if "part" in each else _content(each))
    return found


def _content(parameter: Mapping[str, Any]) -> Any:
    if "valueReference" in parameter:
        return _key(parameter["valueReference"]["reference"])
    return next(each for name, each in parameter.items() if name != "name")


def _first(parts: _Parts, name: str) -> Any:
    return next(iter(parts.get(name, [])), None)


def _value(name: str, kind: str, value: str) -> dict[str, Any]:
    return {"name": name, f"value{kind}": value}


def _patient(name: str, record: str) -> dict[str, Any]:
    return {"name": name, "valueReference": {"reference": f"Patient/{_key(record)}"}}


def _key(record: str) -> str:
    return record.removeprefix("Patient/")


def _why(reason: str) -> dict[str, Any]:
    return _value("reason", "String", reason)


# --- cells ----------------------------------------------------------------------------------------------------------


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column == "bits" else "left")
    return table


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _text(value: Any) -> Text:
    """A value, or several, as they are."""
    values = value if isinstance(value, list) else [value]
    return Text(_printable(", ".join(str(each) for each in values if each is not None)))


def _score(review: _Parts) -> Text:
    return Text(f"{_first(review, 'score'):.3f}")


def _moment(values: Sequence[str] | None) -> Text:
    """The day and time here of an instant."""
    at = datetime.fromisoformat(values[0]) if values else None
    return Text(f"{at.astimezone():%Y-%m-%d %H:%M}" if at else "")


def _who(act: _Parts) -> str:
    professional = _first(act, "professional")
    return f"{_first(act, 'by')} ({professional})" if professional else str(_first(act, "by"))


def _state(record: _Parts) -> Text:
    if _first(record, "removed"):
        return Text("removed", "dim")
    if replacement := _first(record, "replaced-by"):
        return Text(f"replaced by {_printable(str(replacement))}", "dim")
    return Text("qualified", "green") if _first(record, "qualified") else Text("in use")


def _bar(bits: float) -> Text:
    """To the right what speaks for one person, to the left what speaks against."""
    length = min(round(abs(bits) / _BAR_BITS), _BAR_WIDTH)
    against, favour = (length, 0) if bits < 0 else (0, length)
    return Text.assemble(
        " " * (_BAR_WIDTH - against), ("█" * against, "red"), "│", ("█" * favour, "green"), " " * (_BAR_WIDTH - favour)
    )


# --- traits ---------------------------------------------------------------------------------------------------------


def _records(review: _Parts) -> list[tuple[str, Mapping[str, Any] | None]]:
    """The records of a review by their ids; None for one that was removed."""
    known = {each["id"]: each for each in review.get("resource", [])}
    return [(key, known.get(key)) for key in dict.fromkeys((_first(review, "first"), _first(review, "second")))]


def _traits_table(records: Sequence[tuple[str, Mapping[str, Any] | None]]) -> Table:
    """A column for each record; what differs is marked and stands out."""
    table = _table("", "", *(key for key, _ in records))
    scheme = french_identity("dev")
    columns = [_cells(content, scheme) for _, content in records]
    for name in (*_TRAITS, *_CIRCUMSTANCES):
        cells = [column.get(name, "") for column in columns]
        if not any(cells):
            continue
        differs = name in _TRAITS and len(set(cells)) > 1
        style = "bold yellow" if differs and all(cells) else ""
        table.add_row(
            Text("≠" if differs else "", style or "dim"),
            name,
            *(Text(_printable(cell) or "-", style if cell else "dim") for cell in cells),
        )
    return table


_TRAITS: Final = (
    "family names",
    "given names",
    "born",
    "gender",
    "birth place",
    "address",
    "phone",
    "e-mail",
    "status",
    "caution",
    "national",
)
_CIRCUMSTANCES: Final = ("identifiers", "version", "since")  # which differ of one person, too


def _cells(content: Mapping[str, Any] | None, scheme: IdentityScheme) -> Mapping[str, str]:
    if content is None:
        return {"version": "removed by its source"}
    meta = content["meta"]
    try:
        traits = traits_of(content, scheme)
    except PasserelleError:
        return {"version": "an identity that this program cannot read"}
    return {
        "family names": ", ".join(traits.family_names),
        "given names": ", ".join(traits.given_names),
        "born": traits.birth_date.isoformat() if traits.birth_date else content.get("birthDate", ""),
        "gender": traits.gender or "",
        "birth place": traits.birth_place,
        "address": "; ".join(" ".join((each.line, each.postcode, each.city)).strip() for each in traits.addresses),
        "phone": ", ".join(traits.phones),
        "e-mail": ", ".join(traits.emails),
        "status": traits.status,
        "caution": ", ".join(sorted(traits.cautions)),
        "national": traits.national[1] if traits.national else "",
        "identifiers": ", ".join(f"{value} ({system})" for system, value in _own(traits)),
        "version": meta["versionId"],
        "since": f"{_moment([meta['lastUpdated']])}",
    }


def _own(traits: Traits) -> list[Identifier]:
    return [each for each in traits.identifiers if each != traits.national]
