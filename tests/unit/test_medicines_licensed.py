"""A licensed base behind CDS Hooks, against a real server; and two bases as one (contract 20.6)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from passerelle import wiring
from passerelle.api.cds_hooks import HookedKnowledge
from passerelle.api.outbound import Outbound
from passerelle.errors import Unavailable
from passerelle.medicines.compiled import CompiledKnowledge
from passerelle.medicines.errors import KnowledgeUnavailable
from passerelle.medicines.joined import Both
from passerelle.medicines.model import Allergy, Behaviour, Context, Kind, NotCovered
from tests.medicines import SMS, artefact, content, rules, small_base, taken
from tests.registered import services

AT = datetime(2026, 3, 2, 10, tzinfo=UTC)
KEY = ECKey.generate_key("P-384", {"kid": "exchange", "alg": "ES384", "use": "sig"})
CARD = {
    "uuid": "f3b9",
    "summary": "Association contre-indiquée",
    "indicator": "critical",
    "detail": "Risque *hémorragique*.",
    "source": {"label": "Base sous licence", "url": "https://base.example"},
    "overrideReasons": [
        {"code": "monitored", "system": "https://base.example/reasons", "display": "Surveillance prévue"},
        {"display": "sans code"},
    ],
}


class Service(ThreadingHTTPServer):
    """Answers as it is told, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status = 200
        self.said: Any = {"cards": [CARD]}
        self.pause_seconds = 0.0
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/cds-services/order-sign"


class _Answer(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, dict(self.headers), body))
        said = self.server.said
        sent = said if isinstance(said, bytes) else json.dumps(said).encode()
        time.sleep(self.server.pause_seconds)
        try:
            self.send_response(self.server.status)
            self.send_header("Location", self.server.url)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)
        except OSError:
            return  # the client had enough

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def licensed(
    url: str, *, allow_loopback: bool = True, key: Callable[[], str] = lambda: json.dumps(KEY.as_dict(private=True))
) -> HookedKnowledge:
    numbers = count(1)
    return HookedKnowledge(
        Outbound(allow_loopback=allow_loopback, timeout_seconds=0.5),
        url=url,
        issuer="https://exchange.example",
        key=key,
        now=lambda: AT,
        new_id=lambda: f"id-{next(numbers)}",
    )


TREATMENTS = [
    taken(
        "COUMADINE de Jean Martin", f"{SMS}100000092079", key="line-1", reference="MedicationRequest/1", mg_per_day=5
    ),
    taken("ibuprofène", key="old", is_new=False, route="oral"),
]
PERSON = Context(
    age=Decimal(30),
    gender="female",
    is_pregnant=True,
    weight=Decimal("61.50"),
    egfr=Decimal(80),
    allergies=(Allergy(key="a", text="pénicillines", criticality="high", verification="confirmed"),),
)


def test_the_service_is_asked_what_it_needs_and_not_of_whom(service: Service) -> None:
    licensed(service.url).check(TREATMENTS, PERSON)
    ((path, headers, body),) = service.asked
    assert path == "/cds-services/order-sign"
    assert body["hook"] == "order-sign"
    (draft,) = body["context"]["draftOrders"]["entry"]
    assert draft["resource"]["status"] == "draft"
    coding = draft["resource"]["medicationCodeableConcept"]["coding"]
    assert coding == [{"system": SMS.rstrip("|"), "code": "100000092079"}]
    assert draft["resource"]["dosageInstruction"][0]["maxDosePerPeriod"]["numerator"]["value"] == 5
    (active,) = body["prefetch"]["medications"]["entry"]
    assert active["resource"]["medicationCodeableConcept"] == {"text": "ibuprofène"}
    assert body["prefetch"]["patient"] == {
        "resourceType": "Patient",
        "id": body["context"]["patientId"],
        "gender": "female",
        "birthDate": "1996-03",
    }
    (allergy,) = body["prefetch"]["allergies"]["entry"]
    assert allergy["resource"]["criticality"] == "high"
    codes = [each["resource"]["code"]["coding"][0]["code"] for each in body["prefetch"]["observations"]["entry"]]
    assert codes == ["29463-7", "98979-8", "82810-3"]
    sent = json.dumps(body)
    for told in ("Martin", "MedicationRequest/1", "line-1"):
        assert told not in sent
    token = jwt.decode(headers["Authorization"].removeprefix("Bearer "), KEY, algorithms=["ES384"])
    assert token.header["kid"] == "exchange"
    assert (token.claims["iss"], token.claims["aud"]) == ("https://exchange.example", service.url)
    assert 0 < token.claims["exp"] - AT.timestamp() <= 300
    assert token.claims["jti"]


@pytest.mark.parametrize(
    ("indicator", "behaviour"),
    [("critical", Behaviour.HARD_STOP), ("warning", Behaviour.ACKNOWLEDGE), ("info", Behaviour.SHOW)],
)
def test_cards_are_findings_about_what_is_new(service: Service, indicator: str, behaviour: Behaviour) -> None:
    service.said = {"cards": [{**CARD, "indicator": indicator}]}
    report = licensed(service.url).check(TREATMENTS, PERSON)
    (finding,) = report.findings
    assert (finding.kind, finding.behaviour, finding.about) == (Kind.ADVICE, behaviour, ("line-1",))
    assert (finding.title, finding.text) == ("Association contre-indiquée", "Risque *hémorragique*.")
    assert finding.source is not None
    assert finding.source.name == "Base sous licence"
    assert finding.override_reasons == (("https://base.example/reasons|monitored", "Surveillance prévue"),)
    service.said["cards"][0]["uuid"] = "another"
    assert licensed(service.url).check(TREATMENTS, PERSON).digest == report.digest


def test_no_card_covers_nothing(service: Service) -> None:
    service.said = {"cards": []}
    report = licensed(service.url).check(TREATMENTS, PERSON)
    assert report.findings == ()
    assert report.checked_pairs == 0
    assert {each.key for each in report.not_covered} == {"line-1", "old", "a"}


ANSWERS: dict[str, Any] = {
    "not JSON": b"<html>",
    "nested": b"[" * 100_000,
    "no cards": {"card": []},
    "too many cards": {"cards": [CARD] * 101},
    "too long": {"cards": [{**CARD, "detail": "x" * 7_000}] * 60},
    "too long a text": {"cards": [{**CARD, "detail": "x" * 9_000}]},
    "no summary": {"cards": [{key: value for key, value in CARD.items() if key != "summary"}]},
    "an indicator of its own": {"cards": [{**CARD, "indicator": "hard-stop"}]},
    "a card that is a text": {"cards": ["stop"]},
    "a detail that is a list": {"cards": [{**CARD, "detail": ["x"]}]},
}


@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_of_another_form_is_no_check(service: Service, what: str) -> None:
    service.said = ANSWERS[what]
    with pytest.raises(KnowledgeUnavailable):
        licensed(service.url).check(TREATMENTS, PERSON)


@pytest.mark.parametrize("status", [204, 302, 307, 401, 500])
def test_no_redirect_is_followed_and_no_refusal_is_an_answer(service: Service, status: int) -> None:
    service.status = status
    with pytest.raises(KnowledgeUnavailable):
        licensed(service.url).check(TREATMENTS, PERSON)
    assert len(service.asked) == 1


def test_a_service_that_is_slow_away_or_not_https_is_unavailable(service: Service) -> None:
    with pytest.raises(KnowledgeUnavailable):
        licensed(service.url, allow_loopback=False).check(TREATMENTS, PERSON)
    assert not service.asked
    service.pause_seconds = 2
    began = time.monotonic()
    with pytest.raises(KnowledgeUnavailable):
        licensed(service.url).check(TREATMENTS, PERSON)
    assert time.monotonic() - began < 2
    service.shutdown()
    service.server_close()
    with pytest.raises(KnowledgeUnavailable):
        licensed(service.url).check(TREATMENTS, PERSON)


def _unreachable() -> str:
    raise Unavailable("no secret")


@pytest.mark.parametrize(
    "key",
    [
        _unreachable,
        lambda: "a password",
        lambda: "{}",
        lambda: json.dumps({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "1"}),
    ],
)
def test_without_a_key_nothing_is_asked(service: Service, key: Callable[[], str]) -> None:
    with pytest.raises(KnowledgeUnavailable):
        licensed(service.url, key=key).check(TREATMENTS, PERSON)
    assert not service.asked


def test_nothing_is_asked_when_nothing_is_new(service: Service) -> None:
    assert licensed(service.url).check(TREATMENTS[1:], PERSON).findings == ()
    assert not service.asked


def test_a_licensed_base_adds_and_takes_nothing_away(service: Service) -> None:
    treatments = [*TREATMENTS, taken("dapagliflozine", key="unknown")]
    alone = small_base().check(treatments, PERSON)
    joined = Both(small_base(), licensed(service.url))
    report = joined.check(treatments, PERSON)
    assert set(alone.findings) < set(report.findings)
    assert "t:ains-aco" in rules(report)
    assert [each for each in report.findings if each.kind is Kind.ADVICE]
    assert report.not_covered == alone.not_covered
    assert [each.key for each in report.not_covered] == ["unknown"]
    assert report.checked_pairs == alone.checked_pairs
    assert report.base_id == "small+127.0.0.1"
    assert report.digest != alone.digest
    assert joined.resolve(TREATMENTS[0]) == small_base().resolve(TREATMENTS[0])
    service.status = 503
    with pytest.raises(KnowledgeUnavailable):
        joined.check(treatments, PERSON)


def test_what_either_base_covers_is_covered() -> None:
    said = content()
    said["substances"]["dapagliflozine"] = {"label": "Dapagliflozine", "classes": []}
    treatments = [taken("warfarine"), taken("dapagliflozine"), taken("sémaglutide")]
    for bases in ((small_base(), CompiledKnowledge(artefact(said))), (CompiledKnowledge(artefact(said)), small_base())):
        report = Both(*bases).check(treatments, Context())
        assert [each.key for each in report.not_covered] == ["sémaglutide"]
        assert report.checked_pairs == 1
        assert not isinstance(Both(*bases).resolve(treatments[1]), NotCovered)


def test_the_exchange_asks_both_bases_when_a_service_is_set(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with services():
        file = tmp_path / "base.json.gz"
        file.write_bytes(artefact(content()))
        key = json.dumps(KEY.as_dict(private=True))
        secret = boto3.client("secretsmanager").create_secret(Name="cds", SecretString=key)
        monkeypatch.setenv("KNOWLEDGE_BASE", str(file))
        monkeypatch.setenv("CDS_SERVICE_URL", service.url)
        monkeypatch.setenv("CDS_SERVICE_SECRET", secret["ARN"])
        wiring.reset()
        report = wiring.knowledge().check(TREATMENTS, PERSON)
        assert {each.kind for each in report.findings} >= {Kind.INTERACTION, Kind.ADVICE}
        monkeypatch.setenv("CDS_SERVICE_SECRET", "none")
        wiring.reset()
        with pytest.raises(KnowledgeUnavailable):
            wiring.knowledge().check(TREATMENTS, PERSON)
