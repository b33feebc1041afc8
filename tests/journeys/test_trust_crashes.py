"""Whatever is answered is in the access log first, whichever AWS call fails; commands happen once or not at all.

Goal I6 (contract BALP-1, TDE-6): no byte of a record leaves without its access record, and where that cannot be known
to be stored there is no answer. What gives, takes and proves access is killed between any two calls as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Protocol
from urllib.parse import urlencode

import pytest
from botocore.exceptions import ReadTimeoutError

from local.exchange import ExchangeClient
from local.gateway import Response
from passerelle import wiring
from passerelle.consents.model import Policy
from tests import contents, examples
from tests.exchange import KEYS, URL, Client, Exchange
from tests.functions.test_break_glass import broken
from tests.functions.test_consents import REASONS
from tests.functions.test_control import PRACTICE, parameters, patient_of, standing
from tests.functions.test_ledger import seal
from tests.functions.test_links import share, visit
from tests.functions.test_patients import register
from tests.journeys.test_crashes import crash_everywhere, items
from tests.somebody import Somebody

SERVICES = ("dynamodb", "s3", "kms", "secretsmanager")
SECRET = "glycémie-de-mars"
PDF = contents.pdf(3_000)
TODAY = datetime.now(UTC).date() - timedelta(days=1)
_numbers = itertools.count(2)
_parties = itertools.count(1_990_100_000)


class Failures:
    """The n-th AWS call fails: it is refused, or takes effect and its answer is lost."""

    def __init__(self) -> None:
        self.calls = 0
        self.at: int | None = None
        self.is_done = False
        self._last: Any = None

    def before(self, context: Any, **_: Any) -> Any:
        self.calls += 1
        if self.calls != self.at:
            return None
        self._last = context
        if self.is_done:
            return None
        error = {"Error": {"Code": "InternalServerError", "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 500}}
        return SimpleNamespace(status_code=500), error

    def after(self, context: Any, **_: Any) -> None:
        if self.at is not None and self.is_done and context is self._last:
            raise ReadTimeoutError(endpoint_url="")


@contextmanager
def failing() -> Iterator[Failures]:
    failures = Failures()
    events = [wiring.aws(service).meta.events for service in SERVICES]
    for each in events:
        each.register("before-call.*.*", failures.before)
        each.register("after-call.*.*", failures.after)
    try:
        yield failures
    finally:
        for each in events:
            each.unregister("before-call.*.*", failures.before)
            each.unregister("after-call.*.*", failures.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A record with a result and a document, a link to it, and an access that is in the log and sealed."""

    exchange: Exchange
    key: str
    observation: str
    binary: str
    event: str

    @property
    def practice(self) -> Client:
        return self.exchange.client("practice")

    @property
    def patient(self) -> Client:
        return self.exchange.client("patient-1")

    @property
    def auditor(self) -> Client:
        return self.exchange.client("auditor")


@pytest.fixture(scope="module")
def world(exchange: Exchange) -> World:
    hospital, practice = exchange.client("hospital-a"), exchange.client("practice")
    key = str(register(hospital, 1).json["id"])
    made = practice.post("Observation", examples.observation(key, note=[{"text": SECRET}])).json["id"]
    binary = contents.published(hospital, key, PDF)
    assert practice.get(f"Observation/{made}").status == 200
    seal(exchange)
    (event,) = [
        each["id"]["S"]
        for each in items(exchange, "audit", "A#P#")
        if each["name"]["S"] == "read" and each["patient"]["S"] == key
    ]
    assert exchange.client("patient-1").get(f"AuditEvent/{event}").status == 200
    return World(exchange=exchange, key=key, observation=made, binary=binary, event=event)


class HasRecord(Protocol):
    @property
    def key(self) -> str: ...


def logged(exchange: Exchange) -> set[str]:
    return {each["id"]["S"] for each in items(exchange, "audit", "A#")}


def _token(world: World) -> Response:
    signer = ExchangeClient(URL, "practice", KEYS["practice"])
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": signer.assertion(f"{URL}/oauth2/token"),
        "scope": "system/*.rs",
    }
    signer.http.close()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return world.exchange.gateway.request("POST", "/oauth2/token", headers, urlencode(form).encode())


# What is asked, and what only its answer has.
DISCLOSURES: dict[str, tuple[Callable[[World], Response], str]] = {
    "read": (lambda w: w.practice.get(f"Observation/{w.observation}"), SECRET),
    "search": (lambda w: w.practice.get(f"Observation?patient={w.key}"), SECRET),
    "$everything": (lambda w: w.practice.get(f"Patient/{w.key}/$everything?_count=2"), "Bundle"),
    "content": (lambda w: w.practice.get(w.binary, Accept="*/*"), PDF[:40].decode()),
    "$access-history": (lambda w: w.patient.get(f"Patient/{w.key}/$access-history?start={TODAY}"), "sentence"),
    "page of $access-history": (
        lambda w: w.patient.get(f"Patient/{w.key}/$access-history?start={TODAY}", Accept="text/html"),
        "<td",
    ),
    "$record-status": (lambda w: w.patient.get(f"Patient/{w.key}/$record-status"), "Parameters"),
    "search of the log": (
        lambda w: w.patient.get(f"AuditEvent?patient=Patient/{w.key}&date=ge2020&_count=3"),
        "searchset",
    ),
    "event": (lambda w: w.patient.get(f"AuditEvent/{w.event}"), '"AuditEvent"'),
    "$explain": (lambda w: w.patient.get(f"AuditEvent/{w.event}/$explain"), "Parameters"),
    "$proof": (lambda w: w.patient.get(f"AuditEvent/{w.event}/$proof"), '"Binary"'),
    "$break-glass-uses": (lambda w: w.auditor.get("Patient/$break-glass-uses"), "Parameters"),
    "token": (_token, "access_token"),
}


@pytest.mark.parametrize("name", DISCLOSURES)
def test_nothing_is_told_that_is_not_in_the_log(world: World, name: str) -> None:
    """BALP-1, TDE-6: the answer with its access record, or a refusal without a word of the record."""
    ask, secret = DISCLOSURES[name]
    with failing() as failures:
        assert ask(world).status == 200  # keys and tokens are fetched by the first
        failures.calls = 0
        answer = ask(world)
        assert answer.status == 200, answer.body
        assert secret in answer.body.decode()
        total = failures.calls
        assert total >= 2
        for at, is_done in itertools.product(range(1, total + 1), (False, True)):
            before = logged(world.exchange)
            failures.calls, failures.at, failures.is_done = 0, at, is_done
            answer = ask(world)
            failures.at = None
            if answer.status == 200:
                assert logged(world.exchange) - before, (at, is_done)
            else:
                assert answer.status in (403, 500, 503), (at, is_done, answer.status)
                assert secret not in answer.body.decode(), (at, is_done)


def test_a_link_opens_with_its_access_record_or_not_at_all(world: World) -> None:
    """BALP-1, BALP-9: each opening counts at most once, and shows nothing that the log does not have."""
    document = world.binary.removeprefix("Binary/")
    with failing() as failures:
        url = share(world.practice, document)["url"]
        failures.calls = 0
        assert visit(world.exchange, url).status == 200
        total = failures.calls
        for at, is_done in itertools.product(range(1, total + 1), (False, True)):
            url = share(world.practice, document)["url"]
            before = logged(world.exchange)
            failures.calls, failures.at, failures.is_done = 0, at, is_done
            answer = visit(world.exchange, url)
            failures.at = None
            if answer.status == 200:
                assert logged(world.exchange) - before, (at, is_done)
            else:
                assert PDF[:40] not in answer.body, (at, is_done)


# --- commands ---------------------------------------------------------------------------------------------------------


def _physician(world: World, professional: str) -> Somebody:
    about = {"organisation": str(PRACTICE["value"]), "professional": professional, "profession": "10"}
    return Somebody(world.exchange, client_id="practice", role="practice", **about)


def _house(world: World, organisation: str) -> Somebody:
    return Somebody(world.exchange, client_id="house", role="hospital", organisation=organisation)


def _party(number: str) -> dict[str, Any]:
    return {"party": {"system": PRACTICE["system"], "value": number}}


def admission_to(world: HasRecord, party: str) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": f"Patient/{world.key}"},
        "period": {"start": "2026-01-01"},
        "serviceProvider": {"identifier": _party(party)["party"]},
    }


def team_of(world: HasRecord, party: str) -> dict[str, Any]:
    return {
        "resourceType": "CareTeam",
        "status": "active",
        "subject": {"reference": f"Patient/{world.key}"},
        "period": {"start": "2026-01-01"},
        "participant": [{"member": {"identifier": _party(party)["party"]}, "period": {"start": "2026-01-01"}}],
    }


def consent_against(world: HasRecord, party: str) -> dict[str, Any]:
    reasons = [{"system": REASONS, "code": each} for each in ("TREAT", "HPAYMT", "HOPERAT")]
    scope = "http://terminology.hl7.org/CodeSystem/consentscope"
    participation = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"system": scope, "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{world.key}"},
        "dateTime": "2026-02-01",
        "performer": [{"reference": f"Patient/{world.key}"}],
        "organization": [{"reference": "Organization/any"}],
        "sourceAttachment": {"title": "signed"},
        "policy": [{"uri": "http://example.org/policies/basePrivacyConsentPolicy.txt"}],
        "provision": {
            "type": "permit",
            "purpose": reasons,
            "provision": [
                {
                    "type": "deny",
                    "actor": [
                        {
                            "role": {"coding": [{"system": participation, "code": "IRCP"}]},
                            "reference": {"identifier": _party(party)["party"]},
                        }
                    ],
                }
            ],
        },
    }


def _by_patient(operation: str) -> Callable[[World, str, str], Response]:
    return lambda w, party, command: w.patient.post(
        f"Patient/{w.key}/${operation}", parameters(**_party(party)), Idempotency_Key=command
    )


# Each is about a party of its own, which tells what came of it: in the policy, and how often it was decided.
COMMANDS: dict[str, Callable[[World, str, str], Response]] = {
    "$block": _by_patient("block"),
    "$authorize-access": _by_patient("authorize-access"),
    "$break-glass": lambda w, party, command: broken(_physician(w, party), w.key, Idempotency_Key=command),
    "Consent": lambda w, party, command: patient_of(w.exchange, 1).post(
        "Consent", consent_against(w, party), Idempotency_Key=command
    ),
    "CareTeam": lambda w, party, command: patient_of(w.exchange, 1).post(
        "CareTeam", team_of(w, party), Idempotency_Key=command
    ),
    "Encounter": lambda w, party, command: _house(w, party).post(
        "Encounter", admission_to(w, party), Idempotency_Key=command
    ),
}


def named_in(policy: Policy) -> list[str]:
    """The parties that a policy blocks, lets in, or is about in another way, each time that it does."""
    return [
        *(each.party for each in policy.blocks),
        *(each.party for each in policy.relations),
        *(each.professional for each in policy.emergencies),
        *(one for terms in policy.consents for p in terms.provisions for actor in p.scope.actors for one in actor),
    ]


def _effects(world: World, party: str) -> int:
    person = wiring.patient_index().find_person(world.key)
    assert person is not None
    return named_in(person.policy).count(party)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_about_access_happens_once_or_not_at_all(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No half of a policy, however often the process ends; the same command again ends it, on the record."""
    parties: dict[str, str] = {}

    def prepare(command: str) -> None:
        parties[command] = str(next(_parties))

    def run(command: str) -> Response:
        before = logged(world.exchange)
        answer = COMMANDS[name](world, parties[command], command)
        assert answer.status >= 300 or logged(world.exchange) - before  # told again is an access again
        return answer

    def look(command: str) -> None:
        assert _effects(world, parties[command]) in (0, 1)

    def once(command: str, _: Response) -> None:
        assert _effects(world, parties[command]) == 1
        if name in ("$block", "$authorize-access", "$break-glass"):
            decisions = [each.get("party", {}).get("value") for each in standing(world.patient, world.key)["decision"]]
            assert decisions.count(parties[command]) == 1

    crash_everywhere(run, once, prepare=prepare, look=look)
