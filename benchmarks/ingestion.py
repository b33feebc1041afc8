"""`python -m benchmarks.ingestion`: a thousand results by HL7 v2, some twice, some cut: nothing lost, and how fast.

Through the whole stack in this process, on moto, one sender at a time: what is measured is our own code, on an emulator
whose calls take no time. Each message is checked to be there, once.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

from local import synthesis
from passerelle.aws.dynamodb import measure
from tests.exchange import Exchange, exchange_on_moto
from tests.ingesting import code, held, oru, send

MESSAGES: Final = 1_000
PATIENTS: Final = 100
TWICE: Final = 0.05
CUT: Final = 0.02
_SETTINGS: Final = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "eu-west-3",
    "AWS_REGION": "eu-west-3",
    "AWS_ACCOUNT_ID_ENDPOINT_MODE": "disabled",
}


def main() -> None:
    os.environ.update(_SETTINGS)
    with tempfile.TemporaryDirectory() as folder:
        template = synthesis.synthesise(Path(folder))
        with exchange_on_moto(template) as exchange:
            sys.stderr.write("sending\n")
            _run(exchange)


def _run(exchange: Exchange) -> None:
    chance = random.Random(1)
    messages = [_result(number) for number in range(MESSAGES)]
    spent: list[float] = []
    trips: list[int] = []
    codes: Counter[str] = Counter()
    for message in messages:
        copies = [message] * (2 if chance.random() < TWICE else 1)
        if chance.random() < CUT:
            copies.insert(0, message[: chance.randrange(10, 60)])
        for each in copies:
            began = time.perf_counter()
            with measure() as meter:
                answer = send(exchange, each)
            if each is copies[-1] and len(copies) == 1:
                spent.append(time.perf_counter() - began)
                trips.append(meter.round_trips)
            codes[code(answer)] += 1
    found = [each for number in range(PATIENTS) for each in held(exchange, str(9000 + number), "DiagnosticReport")]
    versions = Counter(each["meta"]["versionId"] for each in found)
    assert len(found) == MESSAGES, len(found)
    assert set(versions) == {"1"}, versions
    median = statistics.median(spent)
    sys.stdout.write(
        f"{MESSAGES} ORU^R01 about {PATIENTS} people; {TWICE:.0%} sent twice, {CUT:.0%} cut and sent again\n"
        f"answers: {', '.join(f'{count} {name}' for name, count in sorted(codes.items()))}\n"
        f"applied exactly once: {len(found)}\n"
        f"one sender, one after the other, on moto: {1 / statistics.fmean(spent):.0f} messages a second "
        f"(median {median * 1000:.0f} ms)\n"
        f"round trips to AWS of one message: median {statistics.median(trips):.0f}\n"
    )


def _result(number: int) -> bytes:
    local = str(9000 + number % PATIENTS)
    return oru(local, "12.5").replace(
        f"|F{local}\r".encode(), f"|F{number}||58410-2^NFS^LN|||20260302080000\r".encode()
    )


if __name__ == "__main__":
    main()
