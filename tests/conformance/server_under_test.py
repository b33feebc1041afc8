"""The exchange in this process, on a port of loopback, as the conformance kit calls it; and what its profile names."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from local.exchange import ExchangeClient, new_key, public
from local.region import IDNPS, PARTICIPANTS, practitioner
from local.server import Server
from passerelle import wiring
from passerelle.access import Scopes
from passerelle.authorization.model import Client, TokenClaims
from passerelle.authorization.service import claims_to_map
from passerelle.directory.model import Role
from passerelle.documents.options import Options
from tests import examples
from tests.exchange import KEYS, exchange_on_moto

KIT: Final = Path(__file__).resolve().parents[2] / "conformance"
_FIRST: Final = "urn:oid:1.2.250.1.213.1.4.10|255060000100183"
_OPTIONS_OFF: Final = ("relations = true", "folders = true", "fhir_documents = false")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderTest:
    url: str
    folder: Path

    def run(self, *options: str, profile: str = "profile.toml", plugins: tuple[object, ...] = ()) -> int:
        """pytest's exit code of the kit, run in this process."""
        known = {"url": self.url, "client": self.folder / "client.json", "profile": self.folder / profile}
        arguments = [f"--{name}={value}" for name, value in known.items()]
        quiet = ["-p", "no:xdist", "-p", "no:logging"]
        with contextlib.redirect_stdout(io.StringIO()):  # a plugin says what matters
            return int(pytest.main([str(KIT), f"--rootdir={KIT}", *quiet, *arguments, *options], plugins=list(plugins)))

    @contextmanager
    def other_options(self) -> Iterator[str]:
        """The server with the options that it does not claim otherwise, and the name of the profile that says so."""
        text = (self.folder / "profile.toml").read_text("utf-8")
        for line in _OPTIONS_OFF:
            name, _, value = line.partition(" = ")
            assert line in text
            text = text.replace(line, f"{name} = {'false' if value == 'true' else 'true'}")
        (self.folder / "other.toml").write_text(text, "utf-8")
        with pytest.MonkeyPatch.context() as patch:
            others = Options(relations=False, folders=False, fhir_documents=True)
            patch.setattr(wiring.transaction_service(), "_options", others)
            yield "other.toml"


@contextmanager
def served(template: Mapping[str, Any], folder: Path) -> Iterator[UnderTest]:
    """A fresh exchange with the actors of the kit, until the end of the block."""
    server = Server()
    with exchange_on_moto(template, url=server.url) as exchange:
        server.start(exchange.gateway)
        try:
            clients = {"actors": dict(_registered()), "refused_tokens": _refused(server.url)}
            (folder / "client.json").write_text(json.dumps(clients), "utf-8")
            profile = (KIT / "examples" / "local.toml").read_text("utf-8")
            (folder / "profile.toml").write_text(profile + _prepared(server.url), "utf-8")
            yield UnderTest(url=f"{server.url}/fhir", folder=folder)
        finally:
            server.stop()


# --- who calls --------------------------------------------------------------------------------------------------------

_CARE: Final = (
    "ITI-65 ITI-66 ITI-67 ITI-68 ITI-78 ITI-104 TD0.2 TD2 TD2.1 TD3.1 TD3.1a TD3.1b TD3.2 "
    "TD3.3a TD3.3b TD3.3c TD3.3d system/*.cruds"
)
_OWN: Final = "ITI-66 ITI-67 ITI-68 ITI-78 system/*.rs"
_ACTORS: Final[Mapping[str, dict[str, Any]]] = {
    "author": {
        "role": "hospital",
        "organisation": "1990000011",
        "professional": "810000000011",
        "domain": examples.DOMAIN,
        "scope": _CARE,
    },
    "professional": {
        "role": "practice",
        "organisation": "1990000037",
        "professional": "810000000037",
        "scope": _CARE,
    },
    "patient": {"role": "patient", "organisation": "1990000086", "patient": _FIRST, "scope": _OWN},
    "representative": {"role": "representative", "organisation": "1990000086", "patient": _FIRST, "scope": _OWN},
}


def _registered() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, said in _ACTORS.items():
        key = new_key("EC")
        known = {**said, "id": f"kit-{name}", "role": Role(said["role"]), "scopes": Scopes.parse(said["scope"])}
        known.pop("scope")
        wiring.clients().register(Client(**known, jwks=[public(key)]))
        yield name, {"client_id": f"kit-{name}", "key": key, "scope": said["scope"]}


def _refused(url: str) -> dict[str, str]:
    """Tokens that this server itself signed, and has to refuse."""

    def token(audience: str, issued_at: datetime) -> str:
        claims = TokenClaims(
            issuer=url,
            audience=audience,
            token_id=issued_at.isoformat(),
            client_id="kit-author",
            issued_at=issued_at,
            expires_at=issued_at + timedelta(minutes=5),
            scope=_CARE,
            organisation="1990000011",
            role="hospital",
        )
        return str(wiring.authorization_service()._key.sign(claims_to_map(claims)))

    now = datetime.now(UTC)
    return {
        "expired": token(f"{url}/fhir", now - timedelta(hours=1)),
        "wrong_audience": token("https://other.example/fhir", now),
    }


# --- whom it is about -------------------------------------------------------------------------------------------------


def _prepared(url: str) -> str:
    """People in states that the guides have no transaction for, and what else the profile names."""
    hospital = ExchangeClient(url, "hospital-a", KEYS["hospital-a"], scope=PARTICIPANTS[0].scopes)

    def sent(method: str, path: str, body: Any) -> dict[str, Any]:
        answer = hospital.request(method, path, json=body)
        assert answer.status_code in (200, 201), answer.text
        return dict(answer.json())

    def registered(number: int, **changed: Any) -> str:
        local, patient = examples.patient(number)
        return str(sent("PUT", f"Patient?identifier={examples.DOMAIN}|{local}", {**patient, **changed})["id"])

    def decided(key: str, operation: str, *parameters: dict[str, Any]) -> None:
        sent("POST", f"Patient/{key}/${operation}", {"resourceType": "Parameters", "parameter": list(parameters)})

    closed = registered(18)
    bundle = examples.submission(f"Patient/{closed}", unique="urn:oid:2.999.1.99.1")
    document = sent("POST", "", bundle)["entry"][1]["response"]["location"].partition("/_history")[0]
    decided(closed, "close-record", {"name": "motive", "valueCode": "patient-demande"})
    opposed = registered(19, **_unqualified(19))
    decided(opposed, "oppose", {"name": "reason", "valueString": "opposition"})
    registered(20, **_unqualified(20))
    sent("POST", "Practitioner", practitioner(PARTICIPANTS[1]))
    hospital.http.close()
    return f"""
[people.closed]
identifier = "{examples.ins(18)}"

[people.opposed]
identifier = "{examples.DOMAIN}|{examples.patient(19)[0]}"

[people.unqualified]
identifier = "{examples.DOMAIN}|{examples.patient(20)[0]}"

[references]
closed_document = "{document}"
unreachable_recipient = "{IDNPS}|{PARTICIPANTS[1].professional}"
"""


def _unqualified(number: int) -> dict[str, Any]:
    """The elements of a patient whose identity nobody qualified, and who has no record yet."""
    _, patient = examples.patient(number)
    own = [each for each in patient["identifier"] if each["system"] == examples.DOMAIN]
    place = [each for each in patient["extension"] if each["url"].endswith("birthPlace")]
    return {"identifier": own, "extension": place}
