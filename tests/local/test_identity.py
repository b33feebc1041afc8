"""`passerelle identity`: the steward's worklist in the terminal, against the functions in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from local.cli import app
from local.transport import GatewayTransport
from tests.exchange import KEYS, URL, Exchange
from tests.sources import patient

A, B = "urn:oid:2.999.1", "urn:oid:2.999.2"

Command = Callable[..., Result]


@pytest.fixture
def passerelle(exchange: Exchange, tmp_path: Path) -> Command:
    """Runs a command of the group, and gives how it ended."""
    credentials = tmp_path / "credentials.json"
    credentials.write_text(json.dumps(KEYS))

    def run(*arguments: str, typed: str = "", is_local: bool = True, url: str = URL) -> Result:
        return CliRunner().invoke(
            app,
            ["identity", *arguments, "--url", url, "--credentials", str(credentials)],
            input=typed,
            obj=GatewayTransport(exchange.gateway) if is_local else None,
            env={"COLUMNS": "120", "TERM": "dumb"},
        )

    return run


def register(exchange: Exchange, hospital: str, local: str, family: str, **traits: Any) -> str:
    domain = {"hospital-a": A, "hospital-b": B}[hospital]
    home: dict[str, Any] = {"address": [{"line": [f"7 quai {family.title()}"], "city": f"{family.title()}-le-Port"}]}
    content = patient(domain, local, family=family, **home, **traits)
    answer = exchange.client(hospital).put(f"Patient?identifier={domain}|{local}", content)
    assert answer.status == 201, answer.body
    return str(answer.json["id"])


def doubtful(exchange: Exchange, family: str, **traits: Any) -> tuple[str, str]:
    """Two registrations alike in all but the gender."""
    first = register(exchange, "hospital-a", family, family, **traits)
    return first, register(exchange, "hospital-b", family, family, **traits, gender="male")


def lines(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.output.splitlines()]


def review_of(passerelle: Command, exchange: Exchange, key: str) -> str:
    found = exchange.client("steward").get(f"Patient/{key}/$identity").json["parameter"]
    (review,) = [each["part"] for each in found if each["name"] == "review"]
    return str(review[0]["valueId"])


def test_from_the_list_to_a_decision(passerelle: Command, exchange: Exchange) -> None:
    assert passerelle("list").output == "no review is open\n"
    first, second = doubtful(exchange, "ALLARD", born="1944-05-30")
    heading, row = lines(passerelle("list"))
    assert heading == ["id", "score", "grade", "cause", "since"]
    review = row[0]
    assert 0.05 <= float(row[1]) < 1
    assert row[2] in ("probable", "possible")
    assert row[3] == "score"

    shown = passerelle("show", review)
    table = lines(shown)
    assert ["family", "names", "ALLARD", "ALLARD"] in table
    assert ["born", "1944-05-30", "1944-05-30"] in table
    genders = {first: "female", second: "male"}
    assert ["≠", "gender", *(genders[key] for key in sorted(genders))] in table
    assert sorted(genders) in table
    assert "contradictions: sex" in shown.output
    (against,) = [line for line in shown.output.splitlines() if line.startswith("sex")]
    (favour,) = [line for line in shown.output.splitlines() if line.startswith("birth_date")]
    assert against.split()[1] == "different"
    assert against.split()[2].startswith("-")
    assert against.index("█") < against.index("│")
    assert favour.split()[2].startswith("+")
    assert favour.index("█") > favour.index("│")

    done = passerelle("decide", review, "--same", "--reason", "seen with the identity card")
    assert done.output == f"done; one person now: {', '.join(sorted(genders))}\n"
    assert passerelle("list").output == "no review is open\n"
    assert lines(passerelle("list", "--status", "same"))[1][0] == review
    assert "same by steward on" in passerelle("show", review).output
    told = passerelle("history", f"Patient/{first}").output
    assert "linked (steward)" in told
    assert "seen with the identity card" in told
    assert first in told
    assert second in told
    again = passerelle("decide", review, "--different", "--reason", "on second thoughts")
    assert (again.exit_code, again.stderr) == (1, "refused: 409 the question was answered already\n")


def test_what_is_not_given_is_asked_for(passerelle: Command, exchange: Exchange) -> None:
    first, second = doubtful(exchange, "BESSON", born="1950-01-13")
    review = review_of(passerelle, exchange, first)
    asked = passerelle("decide", review, typed="perhaps\nlater\nno document at hand\n")
    assert asked.exit_code == 0, asked.output
    assert "BESSON" in asked.output
    assert "done; no link changed" in asked.output
    assert lines(passerelle("list", "--status", "later"))[1][0] == review
    linked = passerelle("link", first, second, typed="her daughter says so\n")
    assert linked.output.endswith(f"done; one person now: {', '.join(sorted([first, second]))}\n")
    assert "no link changed" in passerelle("link", first, second, "--reason", "again").output


def test_unlink_merge_and_unmerge(passerelle: Command, exchange: Exchange) -> None:
    one = register(exchange, "hospital-a", "c1", "CARLIER", born="1961-02-03")
    two = register(exchange, "hospital-a", "c2", "CHARRON", born="1982-11-23")
    why = ("--reason", "registered twice")
    both = ", ".join(sorted([one, two]))
    assert passerelle("merge", one, two, *why).output == f"done; one person now: {both}\n"
    assert f"replaced by {two}" in passerelle("history", one).output
    assert passerelle("unlink", one, *why).stderr.startswith("refused: 409 ")
    assert passerelle("unmerge", one, *why).output == f"done; one person now: {one}\n"
    assert passerelle("link", one, two, *why).output == f"done; one person now: {both}\n"
    assert passerelle("unlink", one, *why).output == f"done; one person now: {one}\n"
    told = passerelle("history", one).output
    assert [what for what in ("merged", "unmerged", "unlinked") if what not in told] == []


def test_the_list_goes_on_over_pages(passerelle: Command, exchange: Exchange) -> None:
    for number, family in enumerate(("DELORME", "DUFOUR", "DUHAMEL")):
        doubtful(exchange, family, born=f"19{31 + 13 * number}-0{number + 1}-1{number}")
    whole = [row[0] for row in lines(passerelle("list"))[1:]]
    short = passerelle("list", "--count", "2")
    assert [row[0] for row in lines(short)[1:3]] == whole[:2]
    assert short.output.endswith("there are more than 2: ask for more with --count\n")
    assert "more than" not in passerelle("list", "--count", str(len(whole))).output


def test_names_are_text(passerelle: Command, exchange: Exchange) -> None:
    """Neither markup nor what a terminal obeys."""
    first, _ = doubtful(exchange, "[red]ERNOULT[/]", born="1977-07-17")
    shown = passerelle("show", review_of(passerelle, exchange, first))
    assert "[red]ERNOULT[/]" in shown.output
    assert "\x1b" not in shown.output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("show", "unknown"), "refused: 404 "),
        (("history", "unknown"), "refused: 404 "),
        (("list", "--status", "done"), "refused: 400 a status is one of open"),
        (("list", "--client", "hospital-a"), "refused: 403 only identity stewards"),
        (("list", "--client", "nobody"), "no token: no key of nobody"),
        (("unlink", "0" * 16, "--reason", " "), "refused: 422 a decision needs a reason"),
    ],
)
def test_refusals_end_with_1_and_the_reason(passerelle: Command, arguments: tuple[str, ...], reason: str) -> None:
    refused = passerelle(*arguments)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith(reason)
    assert len(refused.stderr.splitlines()) == 1


def test_two_answers_are_none(passerelle: Command) -> None:
    refused = passerelle("decide", "01m815gzcvp4ts58qnmfpr078w", "--same", "--later", "--reason", "x")
    assert refused.exit_code == 2
    assert "give one of --same, --different and --later" in refused.stderr


def test_nobody_answers(passerelle: Command) -> None:
    refused = passerelle("list", is_local=False, url="http://127.0.0.1:1")
    assert (refused.exit_code, refused.stderr) == (1, "http://127.0.0.1:1 does not answer: ConnectError\n")
