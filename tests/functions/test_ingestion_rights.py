"""The rights of `ingest`: what it is granted is what it uses, of messages of every kind."""

from __future__ import annotations

import random

import pytest

from infra.functions import FUNCTIONS
from passerelle.ingestion.model import SourceFormat
from passerelle.wiring import taking_in
from tests import examples, ingesting
from tests.exchange import Exchange
from tests.functions.test_ingestion import EXAMPLES
from tests.ingesting import adt, call, code, merge, oru, send, waiting
from tests.journeys.test_story import recorded

# What more than a hundred changes stage and settle (tests/ports/test_staging.py); bodies that are too large
# for an item (tests/ports/test_records.py); locks of contents, of which the stage of the tests has none.
_UNSEEN = {
    ("clinical", "dynamodb:BatchGetItem"),
    ("clinical", "dynamodb:DeleteItem"),
    ("clinical", "dynamodb:UpdateItem"),
    ("documents", "s3:GetObject"),
    ("documents", "s3:PutObjectRetention"),
}


def test_it_is_granted_what_it_uses(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    (spec,) = (each for each in FUNCTIONS if each.name == "ingest")
    with recorded(exchange) as calls:
        for name in ("admission", "biology", "pharmacy", "discharge"):
            assert code(send(exchange, (EXAMPLES / f"{name}.hl7").read_bytes())) == "AA"
        local, patient = examples.patient(1)
        assert exchange.client("hospital-a").put(f"Patient?identifier={examples.DOMAIN}|{local}", patient).status == 201
        cda = (EXAMPLES.parent / "cda" / "synthese.xml").read_bytes().replace(b"N3-0001", local.encode())
        assert send(exchange, cda, path="/cda", content_type="application/cda+xml").status == 201
        monkeypatch.setattr(taking_in, "converters", lambda: {SourceFormat.HL7V2: ingesting.convert})
        noise = random.Random(1).randbytes(400_000).hex()
        for message in (
            adt("6001"),
            adt("6002"),
            merge("6001", "6002"),
            oru("6003", "?") + f"NTE|1||{noise}\r".encode(),
        ):
            send(exchange, message)
        (dead, *_) = waiting(exchange)
        call(exchange, "POST", f"/ingestion/{dead['id'][0]}/$retry")
    granted = {(grant.on, action) for grant in spec.grants for action in grant.actions}
    used = {(on, action) for (name, on), actions in calls.made.items() if name == "ingest" for action in actions}
    assert sorted(used - granted) == [], "not granted"
    assert sorted(granted - used - _UNSEEN) == [], "granted for nothing"
