"""`passerelle client`, `issuer`, `bar` and `readmit`: what an operator does, and what the next call gets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from local.cli import app
from passerelle import wiring
from tests.authorization import basic, called, let_in
from tests.registered import System, key_of, services

SYSTEM = System()
FORM = {"grant_type": "client_credentials", "scope": "ITI-67"}

Command = Callable[..., Result]


@pytest.fixture(scope="module", autouse=True)
def _services() -> Iterator[None]:
    with services():
        yield


@pytest.fixture
def passerelle(tmp_path: Path) -> Command:
    """Runs a command; a mapping among its arguments is given as a file."""

    def run(*arguments: str | dict[str, Any]) -> Result:
        table = wiring.table_names().operations
        given = []
        for number, each in enumerate(arguments):
            if isinstance(each, dict):
                file = tmp_path / f"{number}.json"
                file.write_text(json.dumps(each))
                each = str(file)
            given.append(each)
        return CliRunner().invoke(app, [*given, "--table", table], env={"COLUMNS": "120", "TERM": "dumb"})

    return run


def registration(**changes: Any) -> dict[str, Any]:
    return {
        "id": "hospital-a",
        "organisation": "1754567860",
        "role": "hospital",
        "scopes": "ITI-67 system/*.rs",
        "jwks": {"keys": [SYSTEM.key.as_dict(private=False)]},
    } | changes


def token() -> tuple[int, str]:
    status, body, _ = called("POST", "/oauth2/token", SYSTEM.form(scope="ITI-67"))
    return status, body.get("access_token", "")


def test_a_client_from_its_registration_to_its_end(passerelle: Command) -> None:
    assert passerelle("client", "register", registration()).exit_code == 0
    status, text = token()
    assert status == 200
    assert passerelle("client", "deactivate", "hospital-a").exit_code == 0
    assert (token()[0], let_in(text)) == (401, None)
    assert passerelle("client", "activate", "hospital-a").exit_code == 0
    assert let_in(text) is not None
    claims = called("POST", "/oauth2/introspect", SYSTEM.form() | {"token": text})
    assert claims[0] == 401  # not entitled
    found = let_in(text)
    assert found is not None
    assert passerelle("client", "revoke", "hospital-a", found["jti"]).exit_code == 0
    assert let_in(text) is None
    assert token()[0] == 200


def test_a_secret_is_printed_once_and_its_predecessor_ends(passerelle: Command) -> None:
    passerelle("client", "register", registration())
    first = passerelle("client", "secret", "hospital-a").stdout.strip()
    second = passerelle("client", "secret", "hospital-a", "--days", "0").stdout.strip()
    for text, status in ((first, 401), (second, 200)):
        assert called("POST", "/oauth2/token", FORM, authorization=basic("hospital-a", text))[0] == status
    # A registration that is replaced keeps what only the exchange knows.
    passerelle("client", "register", registration(purposes=["TREAT"]))
    assert called("POST", "/oauth2/token", FORM, authorization=basic("hospital-a", second))[0] == 200
    passerelle("client", "drop-secrets", "hospital-a")
    assert called("POST", "/oauth2/token", FORM, authorization=basic("hospital-a", second))[0] == 401


def test_a_registration_does_not_bring_a_stopped_client_back(passerelle: Command) -> None:
    passerelle("client", "register", registration())
    passerelle("client", "deactivate", "hospital-a")
    passerelle("client", "register", registration())
    assert token()[0] == 401
    passerelle("client", "activate", "hospital-a")


def test_an_organisation_is_barred_and_readmitted(passerelle: Command) -> None:
    passerelle("client", "register", registration())
    _, text = token()
    assert passerelle("bar", "organisation", "1754567860").exit_code == 0
    assert let_in(text) is None
    assert passerelle("readmit", "organisation", "1754567860").exit_code == 0
    assert let_in(text) is not None


def test_an_issuer_is_trusted_and_distrusted(passerelle: Command) -> None:
    issuer: dict[str, Any] = {
        "url": "https://issuer.example",
        "jwks": {"keys": [{**key_of("ES256").as_dict(private=False), "alg": "ES256"}]},
        "clients": ["hospital-a"],
        "roles": ["hospital"],
        "scopes": "ITI-67",
    }
    assert passerelle("issuer", "trust", issuer).exit_code == 0
    assert wiring.clients().look_up("hospital-a", issuer=issuer["url"]).issuer is not None
    assert passerelle("issuer", "distrust", issuer["url"]).exit_code == 0
    assert wiring.clients().look_up("hospital-a", issuer=issuer["url"]).issuer is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("client", "register", {"id": "x"}), "not a registration"),
        (("client", "register", registration(secret="s")), "unknown members: secret"),
        (("client", "register", registration(role="wizard")), "not a registration"),
        (("client", "register", registration(jwks_url="http://x")), "https"),
        (("client", "register", registration(jwks={"keys": [SYSTEM.key.as_dict(private=True)]})), "private"),
        (("client", "secret", "nobody"), "no such client"),
        (("client", "deactivate", "nobody"), "no such client"),
        (("client", "revoke", "nobody", "t"), "no such client"),
        (("bar", "organisation", "MEDICAL CENTRE"), "not the national identifier"),
        (("issuer", "trust", {"url": "https://issuer.example"}), "not a registration"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_changed(
    passerelle: Command, arguments: tuple[Any, ...], reason: str
) -> None:
    ended = passerelle(*arguments)
    assert ended.exit_code == 1
    assert reason in ended.stderr
