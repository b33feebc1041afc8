"""What documents cost: AWS calls, round trips before the answer, capacity units; audit included, the authorizer apart.

The ceilings are those of the design. Contents go to storage at the same time, as one round trip; what a search of two
thousand documents reads is in `test_finding_documents`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest

from local.gateway import Response
from passerelle.aws.dynamodb import Meter, measure
from tests import contents, documents, examples, submitting
from tests.exchange import Client, Exchange
from tests.functions.test_links import share, terms, visit
from tests.functions.test_patients import register
from tests.functions.test_uploads import announcement, complete, opened, send, uploaded

AUTHORIZER = Counter({"BatchGetItem": 1})
PDF = contents.pdf(9_000)


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    client = exchange.client("hospital-a")
    client.token()
    return client


@pytest.fixture(scope="module")
def key(hospital: Client) -> str:
    return str(register(hospital, 1).json["id"])


def spent_by(attempt: Callable[[], Response]) -> Meter:
    with measure() as spent:
        answer = attempt()
    assert answer.status in (200, 201), answer.body
    return spent


# Round trips before the answer, and the calls they are made of. Whose record it is and what is hidden in it (GetItem,
# Query) are read with what is asked for.
COSTS: dict[str, tuple[int, str]] = {
    "ITI-65": (3, "GetItem PutObject TransactWriteItems"),
    "ITI-65, the subject by identifier": (4, "Query GetItem PutObject TransactWriteItems"),
    "ITI-105": (3, "GetItem PutObject TransactWriteItems"),
    "ITI-67": (3, "GetItem Query Query BatchGetItem PutItem"),
    "ITI-66": (3, "GetItem Query Query BatchGetItem PutItem"),
    # The last is the access record, before the first byte leaves; quarantine is asked beside the content.
    "ITI-68": (3, "GetItem Query Query GetItem GetObject PutItem"),
    "$share": (2, "GetItem Query Query Query TransactWriteItems"),
    # The link, its issuer as registered now, the document as the issuer sees it, the content: one after the other.
    "opening a link": (5, "GetItem BatchGetItem GetItem Query Query GetItem GetObject TransactWriteItems"),
    "mask": (2, "GetItem Query Query TransactWriteItems"),
    "archive of a masked document": (2, "GetItem Query Query TransactWriteItems"),
    "withdraw": (2, "GetItem Query Query TransactWriteItems"),
    "$upload": (5, "Query CreateMultipartUpload TransactWriteItems GetItem ListParts"),
    # The parts are listed before they are joined, and to join them; then the size, and the content by 8 MB.
    "$complete": (
        8,
        "GetItem ListParts ListParts CompleteMultipartUpload GetObject GetObject TransactWriteItems PutItem",
    ),
    "publishing an upload": (6, "GetItem GetItem GetObject GetItem CopyObject TransactWriteItems"),
}
WRITE_UNITS = {"ITI-65": 32, "ITI-105": 22, "mask": 28, "$share": 6, "opening a link": 4}


def test_round_trips_before_the_answer(exchange: Exchange, hospital: Client, key: str) -> None:
    """Each is a moment that somebody waits: none may come back unnoticed."""
    place = contents.published(hospital, key, PDF).replace("Binary", "DocumentReference")
    ticket = opened(hospital, PDF)
    send(ticket, PDF)
    other = uploaded(hospital, PDF)
    link = share(exchange.client("practice"), place.partition("/")[2], uses__valuePositiveInt=2)
    archive = [documents.operation("replace", documents.ARCHIVE_PATH, True)]
    withdraw = [documents.operation("replace", "/status", "entered-in-error")]
    attempts: dict[str, Callable[[], Response]] = {
        "ITI-65": lambda: hospital.post("", submitting.submission(f"Patient/{key}")),
        "ITI-65, the subject by identifier": lambda: hospital.post(
            "", submitting.submission(f"Patient?identifier={examples.ins(1)}")
        ),
        "ITI-105": lambda: hospital.post("DocumentReference", documents.document(f"Patient/{key}")),
        "ITI-67": lambda: hospital.get(f"DocumentReference?patient={key}&status=current&_count=10"),
        "ITI-66": lambda: hospital.get(f"List?patient={key}&code=submissionset&status=current&_count=10"),
        "ITI-68": lambda: hospital.get(place.replace("DocumentReference", "Binary"), Accept="*/*"),
        "$share": lambda: hospital.post(f"{place}/$share", terms()),
        "opening a link": lambda: visit(exchange, link["url"]),
        "mask": lambda: documents.patch(hospital, place, documents.relabel("MASQUE_PS")),
        "archive of a masked document": lambda: documents.patch(hospital, place, archive),
        "withdraw": lambda: documents.patch(hospital, place, withdraw),
        "$upload": lambda: hospital.post("Binary/$upload", announcement(PDF)),
        "$complete": lambda: complete(hospital, ticket),
        "publishing an upload": lambda: hospital.post(
            "", contents.uploaded_submission(key, other.url, PDF, "application/pdf")
        ),
    }
    found = {name: spent_by(attempt) for name, attempt in attempts.items()}
    public = {"opening a link"}  # no authorizer
    trips = {name: spent.round_trips - (name not in public) for name, spent in found.items()}
    calls = {
        name: Counter(spent.calls) - (Counter() if name in public else AUTHORIZER) for name, spent in found.items()
    }
    assert (trips, calls) == (
        {name: trips for name, (trips, _) in COSTS.items()},
        {name: Counter(calls.split()) for name, (_, calls) in COSTS.items()},
    )
    assert {name: found[name].write_units for name in WRITE_UNITS} == WRITE_UNITS
    assert max(found[name].read_units for name in ("ITI-65", "ITI-105")) == 2, "the authorizer's, and whose record"


def test_what_three_hundred_documents_cost(hospital: Client, key: str) -> None:
    """Each as much as alone, but that it is staged, and so written twice.

    A partition of DynamoDB takes a thousand write units a second, whatever is done at once: that is twelve seconds and
    a half of the twenty-eight that the function has.
    """
    texts = [b"<d>%d</d>" % number for number in range(300)]
    bundle = submitting.submission(f"Patient/{key}", contents=texts)
    spent = spent_by(lambda: hospital.post("", bundle))
    calls = Counter(spent.calls)
    assert calls.pop("PutObject") == 300
    assert calls.total() <= 100, calls
    assert spent.round_trips <= 72, calls
    assert spent.write_units <= 12_500
    assert len(json.dumps(bundle)) < 600_000, "what a request may be has room for contents"
