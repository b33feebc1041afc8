"""A process may end between any two calls of an upload: the same request again converges, once (law 6)."""

from __future__ import annotations

from collections import Counter

import pytest

from local.gateway import Response
from tests import contents
from tests.exchange import Client, Exchange
from tests.functions.test_patients import register
from tests.functions.test_sweep import stored, sweep
from tests.functions.test_uploads import Ticket, announcement, complete, objects, opened, send, uploaded
from tests.journeys.test_crashes import crash_everywhere

DATA = contents.pdf(9_000)


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def key(exchange: Exchange) -> str:
    return str(register(exchange.client("hospital-a"), 1).json["id"])


@pytest.fixture(autouse=True)
def any_number_of_tickets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passerelle.documents.uploads.MAX_OPEN", 1_000)


def test_a_ticket_is_given_once(exchange: Exchange, hospital: Client) -> None:
    tickets: dict[str, set[str]] = {}

    def once(command: str, answer: Response) -> None:
        ticket = Ticket(answer)
        tickets.setdefault(command, set()).add(ticket.id)
        assert len(tickets[command]) == 1
        items = [item["SK"]["S"] for item in exchange.table("operations") if item["PK"]["S"] == "U#hospital-a"]
        assert Counter(items)[ticket.id] == 1

    crash_everywhere(
        lambda command: hospital.post("Binary/$upload", announcement(DATA), Idempotency_Key=command),
        once,
        told=lambda answer: Ticket(answer).id,
    )


def test_a_content_is_completed(exchange: Exchange, hospital: Client) -> None:
    tickets: dict[str, Ticket] = {}

    def prepare(command: str) -> None:
        tickets[command] = opened(hospital, DATA)
        send(tickets[command], DATA)

    def nothing_yet(command: str) -> None:
        assert hospital.get(f"Binary/{tickets[command].id}").status == 404

    def once(command: str, answer: Response) -> None:
        assert Ticket(answer).state == "verified"
        assert objects(exchange).count(f"uploads/{tickets[command].id}") == 1

    crash_everywhere(lambda command: complete(hospital, tickets[command]), once, prepare=prepare, look=nothing_yet)


def test_a_content_that_is_refused_is_gone(exchange: Exchange, hospital: Client) -> None:
    """Also where the process ended between the refusal and the deletion."""
    tickets: dict[str, Ticket] = {}

    def prepare(command: str) -> None:
        tickets[command] = opened(hospital, DATA)
        send(tickets[command], DATA[:-1] + b" ")

    def refused(command: str) -> Response:
        answer = complete(hospital, tickets[command])
        assert answer.status == 422, answer.body
        return Response(status=200, headers=answer.headers, body=answer.body)

    def once(command: str, answer: Response) -> None:
        assert f"uploads/{tickets[command].id}" not in objects(exchange)

    crash_everywhere(refused, once, prepare=prepare)


def test_an_upload_is_published_once_and_leaves_nothing(exchange: Exchange, hospital: Client, key: str) -> None:
    """Between S3 and DynamoDB: no pointer without content, and no content that anybody could read without a pointer."""
    tickets: dict[str, Ticket] = {}
    places: set[str] = set()

    def prepare(command: str) -> None:
        tickets[command] = uploaded(hospital, DATA)

    def publish(command: str) -> Response:
        bundle = contents.uploaded_submission(
            key, tickets[command].url, DATA, "application/pdf", unique=f"urn:uuid:{command}"
        )
        return hospital.post("", bundle, Idempotency_Key=command)

    def found(command: str) -> list[str]:
        entries = hospital.get(f"DocumentReference?patient={key}&identifier=urn:uuid:{command}").json.get("entry", [])
        return [entry["resource"]["content"][0]["attachment"]["url"].partition("/fhir/")[2] for entry in entries]

    def whole(command: str) -> None:
        for place in found(command):
            assert hospital.get(place, Accept="*/*").body == DATA

    def once(command: str, answer: Response) -> None:
        (place,) = found(command)
        places.add(place)
        assert hospital.get(place, Accept="*/*").body == DATA
        assert Ticket(complete(hospital, tickets[command])).state == "used"

    crash_everywhere(publish, once, prepare=prepare, look=whole)
    assert len(stored(exchange)) > len(places), "some copies were made for a commit that never came"
    sweep(exchange, *stored(exchange))
    assert len(stored(exchange)) >= len(places)
    for place in places:
        assert hospital.get(place, Accept="*/*").body == DATA
