"""What taking in a message costs: calls to AWS by operation, and round trips, so that none comes back unnoticed.

Each message is measured when the process has its keys and the sender its token. The data key of somebody who is looked
up for the first time in a minute comes with another read: it is a call, and no round trip.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from passerelle import wiring
from passerelle.aws.dynamodb import measure
from passerelle.aws.ingestion import DynamoInbox
from passerelle.ingestion.model import Status
from tests.exchange import Exchange
from tests.functions.test_converted import document, known, mdm, posted
from tests.functions.test_ingestion_attacks import adt, siu
from tests.ingesting import code, held, oru, send

TRIPS = "round trips"


@contextmanager
def spending() -> Iterator[Counter[str]]:
    """The calls that are made meanwhile, by operation, and the round trips."""
    spent: Counter[str] = Counter()

    def count(model: Any, **_: Any) -> None:
        spent[model.name] += 1

    clients = [wiring.aws(each) for each in ("dynamodb", "s3")]
    for each in clients:
        each.meta.events.register("before-call", count)
    try:
        with measure() as meter:
            yield spent
    finally:
        for each in clients:
            each.meta.events.unregister("before-call", count)
    spent[TRIPS] = meter.round_trips


def cost(exchange: Exchange, message: bytes) -> Counter[str]:
    with spending() as spent:
        answer = send(exchange, message)
    assert code(answer) == "AA", answer.body
    return spent


def results(local: str, order: str, *values: str) -> bytes:
    return oru(local, *values).replace(f"|F{local}\r".encode(), f"|{order}||58410-2^NFS^LN\r".encode())


TEN, TEN_MORE = ([str(value) for value in range(start, start + 10)] for start in (10, 20))

# Before the first: who sends. The inbox takes the message while the positions are read, which a registration, too, has.
# Then the person: the owner of the number, whoever carries it, whose domain it is; then what is known under it: record,
# person, places, questions. Then the record: its guards with what is hidden, then what there is of each type; then the
# versions that are revised. The commit is one transaction, which settles the message.
EXPECTED: dict[str, dict[str, int]] = {
    # Nobody is known: no record to look into, but five blocks of people alike, of whom one may be this one.
    "ORU of somebody new": {"BatchGetItem": 2, "GetItem": 2, "Query": 6, "TransactWriteItems": 2, TRIPS: 5},
    "ORU": {"BatchGetItem": 3, "GetItem": 4, "Query": 6, "TransactWriteItems": 2, TRIPS: 7},
    # However many they are.
    "ORU of ten": {"BatchGetItem": 3, "GetItem": 4, "Query": 6, "TransactWriteItems": 2, TRIPS: 7},
    # The versions before.
    "ORU corrected": {"BatchGetItem": 4, "GetItem": 4, "Query": 6, "TransactWriteItems": 2, TRIPS: 8},
    # Who sends; the message that stands, beside the positions; the access record.
    "ORU again": {"BatchGetItem": 2, "TransactWriteItems": 1, "PutItem": 1, TRIPS: 3},
    # An open record takes the message as a document.
    "ORU kept": {"BatchGetItem": 3, "GetItem": 4, "Query": 6, "TransactWriteItems": 2, "PutObject": 1, TRIPS: 8},
    "A01": {"BatchGetItem": 2, "GetItem": 2, "Query": 6, "TransactWriteItems": 2, TRIPS: 5},
    "A08": {"BatchGetItem": 4, "GetItem": 4, "Query": 5, "TransactWriteItems": 2, TRIPS: 8},
    # The blocks of another name.
    "A08 of another name": {"BatchGetItem": 4, "GetItem": 4, "Query": 10, "TransactWriteItems": 2, TRIPS: 9},
    "S12": {"BatchGetItem": 3, "GetItem": 4, "Query": 5, "TransactWriteItems": 2, TRIPS: 7},
    # No positions: documents are stored as they come. Six types of statements, and the content.
    "T02": {"BatchGetItem": 2, "GetItem": 4, "Query": 10, "TransactWriteItems": 2, "PutObject": 1, TRIPS: 8},
    # States again what the document before stated: the versions before.
    "CDA": {"BatchGetItem": 3, "GetItem": 4, "Query": 10, "TransactWriteItems": 2, "PutObject": 1, TRIPS: 9},
}


def test_what_a_message_costs(exchange: Exchange) -> None:
    cost(exchange, results("K0", "F0", "1"))
    found = {"ORU of somebody new": cost(exchange, results("K1", "F1", "1"))}
    one = results("K1", "F2", "12.5")
    found["ORU"] = cost(exchange, one)
    found["ORU again"] = cost(exchange, one)
    found["ORU of ten"] = cost(exchange, results("K1", "F3", *TEN))
    found["ORU corrected"] = cost(exchange, results("K1", "F3", *TEN_MORE))
    found["A01"] = cost(exchange, adt("A01", "K2", at="20260302090000"))
    found["A08"] = cost(exchange, adt("A08", "K2", at="20260302090100"))
    found["A08 of another name"] = cost(exchange, adt("A08", "K2", "MARTIN", at="20260302090200"))
    found["S12"] = cost(exchange, siu("S12", "K2", at="20260302090000"))
    local = known(exchange, 1)
    cost(exchange, results(local, "F4", "1"))
    found["ORU kept"] = cost(exchange, results(local, "F5", "1"))
    found["T02"] = cost(exchange, mdm("T02", local, document(local, "COST-1")))
    with spending() as spent:
        assert posted(exchange, document(local, "COST-2")).status == 201
    found["CDA"] = spent
    assert found == EXPECTED


def test_a_message_that_is_given_up_while_it_is_applied_is_not_acknowledged(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commit settles it, and fails; sent again, it is applied."""
    message = results("K3", "F1", "1")
    journal = wiring.journal()
    commit = journal.commit

    def interrupted(changes: Any) -> None:
        monkeypatch.undo()
        inbox = DynamoInbox(wiring.dynamodb(), wiring.table_names())
        (received,), _ = inbox.waiting("hospital-a", Status.RECEIVED, after="", limit=2)
        inbox.discard(received)
        commit(changes)

    monkeypatch.setattr(type(journal), "commit", lambda _, changes: interrupted(changes))
    answer = send(exchange, message)
    assert answer.status == 503
    assert held(exchange, "K3") == []
    assert code(send(exchange, message)) == "AA"
    assert len(held(exchange, "K3", "Observation")) == 1
