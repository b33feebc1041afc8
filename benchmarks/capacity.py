"""What a search of a long record reads: counted, not timed, for a person with 5,000 observations over ten years.

Units follow the size rules that AWS publishes. What a Query reads is the index of the record, the rest single
items: the client of the token, the person, the bodies of the page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.comparison import CODES, bundle, observation
from local.exchange import ExchangeClient
from local.region import INS_TEST, PARTICIPANTS, ins_of
from local.stack import LocalStack
from local.transport import GatewayTransport

HELD: Final = 5_000
YEARS: Final = 10
_BUNDLE: Final = 25
_BEGAN: Final = datetime(2016, 1, 1, tzinfo=UTC)
_CODE: Final = quote(f"http://loinc.org|{CODES[0]}", safe="")
SEARCHES: Final[Mapping[str, str]] = {
    "latest by code": f"code={_CODE}&_sort=-date&_count=1",
    "one month": "date=ge2025-03-01&date=lt2025-04-01&_count=100",
    "one month by code": f"code={_CODE}&date=ge2025-03-01&date=lt2025-04-01",
    "first page of 50": "_count=50",
    "first page of 50, newest first": "_sort=-date&_count=50",
}


def run(local: LocalStack, keys: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    """Load the record, then make each search once, over HTTP on the gateway in this process."""
    from passerelle.aws.dynamodb import measure

    practice = next(each for each in PARTICIPANTS if each.id == "practice")
    client = ExchangeClient(
        local.url, practice.id, keys[practice.id], scope=practice.scopes, transport=GatewayTransport(local.gateway)
    )
    person = client.request("GET", f"Patient?identifier={INS_TEST}|{ins_of(20)}").json()
    patient = person["entry"][0]["resource"]["id"]
    for start in track(range(0, HELD, _BUNDLE), "loading a long record", console=console):
        sent = bundle([_dated(patient, start + place) for place in range(_BUNDLE)])
        answer = client.request("POST", "", json=sent)
        answer.raise_for_status()
    shown = Table("search", "found", "round trips", "read units of Query", "of GetItem", "of BatchGetItem")
    for column in shown.columns[1:]:
        column.justify = "right"
    for title, query in SEARCHES.items():
        with measure() as spent:
            answer = client.request("GET", f"Observation?patient={patient}&{query}")
        answer.raise_for_status()
        units = spent.read_units_of
        found = [e for e in json.loads(answer.content).get("entry", ()) if e["search"]["mode"] == "match"]
        shown.add_row(
            title,
            str(len(found)),
            str(spent.round_trips),
            *(f"{units.get(call, 0):g}" for call in ("Query", "GetItem", "BatchGetItem")),
        )
    shown.caption = f"a person with {HELD:,} observations over {YEARS} years; the authorizer and the audit included"
    console.print(shown)


def _dated(patient: str, number: int) -> dict[str, Any]:
    at = _BEGAN + number * timedelta(days=YEARS * 365.25) / HELD
    return observation(patient, number) | {"effectiveDateTime": at.isoformat(timespec="seconds")}
