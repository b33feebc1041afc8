"""`$access-history`: who saw what, when and why, in words (DMP-31, TDE-7)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from functions.patients.handler import handler
from passerelle import wiring
from passerelle.access import Decision
from passerelle.audit.history import Chronicle
from passerelle.audit.model import AuditRecord
from passerelle.fhir.validation import validate
from passerelle.identifiers import new_patient_key, new_ulid
from passerelle.patients.model import PersonChange
from tests.people import person_of
from tests.registered import services

INS = ("urn:oid:1.2.250.1.213.1.4.10", "279035121518989")
# In winter Paris is an hour ahead: the last one is of the next day there.
AT = (datetime.now(UTC) - timedelta(days=30)).replace(hour=8, minute=30, second=0, microsecond=0)


def record(patient: str | None, minutes: int = 0, **changes: Any) -> AuditRecord:
    at = AT + timedelta(minutes=minutes)
    made = AuditRecord(
        id=f"{patient}-{new_ulid(at)}" if patient else new_ulid(at),
        at=at,
        name="read",
        action="R",
        outcome="0",
        client_id="hospital-a",
        organisation="1754567860",
        role="hospital",
        token_id="t",
        request_id="r",
        patient=patient,
        professional="810003461033",
        profession="10",
        user_name="Jeanne <Durand>",
        purpose="TREAT",
        references=(f"DocumentReference/{patient}-{'0' * 26}",),
    )
    return replace(made, **changes)


@pytest.fixture(scope="module")
def patient() -> Iterator[str]:
    with services():
        keys = new_patient_key(), new_patient_key()
        known = person_of(*keys, since=AT, qualified=wiring.patient_index().blinded(INS))
        emergency = Decision(is_permitted=True, rule="emergency", facts={"role": "hospital"}, rules="fr-1")
        denied = Decision(is_permitted=False, rule="no-relation", facts={"role": "pharmacy"}, rules="fr-1")
        wiring.journal().commit([PersonChange(before=None, after=known, takes_from=known.key), record(None)])
        wiring.trail().append(
            [
                record(keys[0]),
                record(keys[1], 1, purpose="BTG", decision=emergency),
                record(
                    keys[0],
                    2,
                    outcome="4",
                    reason="forbidden",
                    role="pharmacy",
                    profession=None,
                    professional=None,
                    user_name="",
                    name="search-type",
                    action="E",
                    references=(),
                    purpose="",
                    decision=denied,
                ),
                record(keys[0], 3, role="patient", professional=None, user_name="", purpose="", organisation=""),
            ]
        )
        yield keys[0]


def asked(
    patient: str,
    *,
    role: str = "patient",
    scope: str = "ITI-81",
    accept: str = "application/fhir+json",
    ins: str | None = "|".join(INS),
    **query: str,
) -> dict[str, Any]:
    path = f"/fhir/Patient/{patient}/$access-history"
    known = {"client_id": "app", "organisation": "1", "role": role, "scope": scope, "jti": "t"}
    answer: dict[str, Any] = handler(
        {
            "httpMethod": "GET",
            "resource": "/fhir/Patient/{proxy+}",
            "path": path,
            "headers": {"accept": accept},
            "multiValueQueryStringParameters": {f"_{k}" if k in LONG else k: [v] for k, v in query.items()},
            "body": None,
            "requestContext": {
                "requestId": "now",
                "path": f"/v1{path}",
                "domainName": "x.example",
                "authorizer": known | ({"patient": ins} if ins else {}),
            },
        },
        None,
    )
    return answer


LONG = {"language", "count", "cursor", "format"}
DAY = AT.date().isoformat()


def accesses(answer: dict[str, Any]) -> list[dict[str, Any]]:
    assert answer["statusCode"] == 200
    body = json.loads(answer["body"])
    validate(body, expected_type="Parameters")
    return [
        {part["name"]: next(v for k, v in part.items() if k != "name") for part in each["part"]}
        for each in body["parameter"]
        if each["name"] == "access"
    ]


def test_a_patient_reads_who_saw_what_when_and_why(patient: str) -> None:
    """DMP-31: in French; of all source records of the person."""
    own, refused, emergency, read = accesses(asked(patient, start=DAY, end=DAY))
    assert re.fullmatch(
        r"Le \d+(er)? \S+ \d{4} à (9|10) h 30, Jeanne <Durand> \(médecin\), établissement 1754567860 a consulté "
        r"un document\. Motif : soins\.",
        read["sentence"],
    )
    assert (read["emergency"], read["refused"]) == (False, False)
    assert emergency["emergency"] is True
    assert emergency["why"] == "urgence déclarée (« bris de glace »)"
    assert "bris de glace" in emergency["ground"]
    assert refused["refused"] is True
    assert refused["sentence"].endswith("a demandé à chercher dans votre dossier : accès refusé.")
    assert "vous avez consulté un document" in own["sentence"]
    assert read["event"]["reference"].startswith("https://x.example/v1/fhir/AuditEvent/")


def test_in_english(patient: str) -> None:
    """DMP-31."""
    *_, read = accesses(asked(patient, start=DAY, end=DAY, language="en-GB"))
    assert "Jeanne <Durand> (physician), organisation 1754567860 saw a document. Reason: care." in read["sentence"]
    assert asked(patient, language="de")["statusCode"] == 400


def test_the_period_is_in_days_of_paris(patient: str) -> None:
    before, after = ((AT + timedelta(days=days)).date().isoformat() for days in (-1, 1))
    assert accesses(asked(patient, end=before)) == []
    assert len(accesses(asked(patient, start=before, end=after))) == 4
    assert asked(patient, start="yesterday")["statusCode"] == 400
    summer = record(None, at=datetime(2026, 7, 14, 22, 30, tzinfo=UTC))
    assert Chronicle("fr").tell(summer).sentence.startswith("Le 15 juillet 2026 à 0 h 30")


def test_it_goes_on_where_a_page_ended(patient: str) -> None:
    answer = asked(patient, start=DAY, end=DAY, count="3")
    (url,) = (each["valueUrl"] for each in json.loads(answer["body"])["parameter"] if each["name"] == "next")
    cursor = url.partition("_cursor=")[2].replace("%3D", "=")
    (last,) = accesses(asked(patient, start=DAY, end=DAY, count="3", cursor=cursor))
    assert last["emergency"] is False
    assert asked(patient, start=DAY, end=DAY, count="2", cursor=cursor)["statusCode"] == 404


@pytest.mark.parametrize(
    ("who", "status"),
    [
        ({"role": "hospital", "ins": None}, 403),
        ({"role": "payer", "ins": None}, 403),
        ({"role": "representative"}, 403),  # without a mandate
        ({"ins": f"{INS[0]}|1"}, 403),
        ({"scope": "system/Patient.r"}, 403),
        ({"role": "auditor", "ins": None}, 200),
        ({"accept": "application/pdf"}, 406),
    ],
)
def test_it_is_for_the_patient(patient: str, who: dict[str, Any], status: int) -> None:
    assert asked(patient, **who)["statusCode"] == status


def test_reading_it_is_in_it(patient: str) -> None:
    asked(patient)
    newest, *_ = accesses(asked(patient))
    assert "vous avez consulté l’historique des accès à votre dossier" in newest["sentence"]


# --- the page -----------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags with their attributes, and what the style is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.style = re.findall(r"<style>(.*?)</style>", text, re.S)[0]
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("language", ["fr", "en"])
def test_the_page_is_complete_in_itself_and_says_what_stands_out(patient: str, language: str) -> None:
    """DMP-31: nothing is fetched or run, names are text, emergencies are told in words and counted first."""
    answer = asked(patient, accept="text/html,application/xhtml+xml;q=0.9", start=DAY, end=DAY, language=language)
    text = base64.b64decode(answer["body"]).decode()
    assert (answer["statusCode"], answer["headers"]["Content-Type"]) == (200, "text/html; charset=utf-8")
    page = Page(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "link", "iframe", "form", "object"}
    assert ("html", {"lang": language}) in page.tags
    assert "Jeanne &lt;Durand&gt;" in text
    assert sum(attributes.get("class") == "emergency" for _, attributes in page.tags) == 1
    assert ("1 accès en urgence" if language == "fr" else "1 emergency access") in text
    assert ("Accès refusé" if language == "fr" else "Access refused") in text
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in answer["headers"]["Content-Security-Policy"]
    assert answer["headers"]["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer["headers"]["Cache-Control"] == "no-store"


def test_a_page_without_accesses_says_so(patient: str) -> None:
    answer = asked(patient, format="html", end=(AT - timedelta(days=2)).date().isoformat())
    assert "Aucun accès pendant cette période." in base64.b64decode(answer["body"]).decode()


def test_both_languages_say_the_same_things() -> None:
    def shape(words: Any) -> Any:
        return {name: shape(each) for name, each in words.items()} if isinstance(words, dict) else type(words)

    assert shape(Chronicle("fr").words) == shape(Chronicle("en").words)
