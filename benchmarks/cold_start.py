"""What a cold start costs: processor time and modules of a function's INIT, in a fresh interpreter.

On Lambda, INIT is the import of the handler and the making of its clients; so it is here, with the environment
of Lambda and an endpoint that answers what a function asks when it starts. Modules of the standard library do
not count: they are those of the Python version.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import boto3
from rich.table import Table

from infra.paths import ROOT
from local.emulator import REGION, Emulator

HTTP_FUNCTIONS: Final = (
    "audit",
    "authorize",
    "directory",
    "documents",
    "ingest",
    "ledger",
    "links",
    "login",
    "patients",
    "prescriptions",
    "records",
    "subscriptions",
    "token",
)
FUNCTIONS: Final = (*HTTP_FUNCTIONS, "relay", "dispatch", "deliver", "quarantine", "append", "seal")
SDK: Final = "boto3"  # the AWS SDK alone, for comparison
_STATEMENTS: Final = {SDK: 'import boto3; boto3.client("dynamodb")'}
_PROGRAM: Final = """
import json, sys, time
before, began = set(sys.modules), time.process_time()
exec(sys.argv[1])
spent = time.process_time() - began
loaded = [name for name in set(sys.modules) - before if name.partition(".")[0] not in sys.stdlib_module_names]
print(json.dumps({"cpu_ms": spent * 1000, "modules": loaded}))
"""
_SECRET: Final = "benchmark"  # noqa: S105 - a name
_CODE: Final = (ROOT, ROOT / "layers" / "passerelle" / "python")


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """`cpu_ms` is user and system time, the least of several starts."""

    cpu_ms: float
    modules: frozenset[str]

    def packages(self) -> frozenset[str]:
        return frozenset(module.partition(".")[0] for module in self.modules)


def starts(names: Iterable[str], *, times: int = 3) -> dict[str, Start]:
    """Start each function, or SDK, so many times, two at once."""
    wanted = list(names)
    with Emulator() as emulator, ThreadPoolExecutor(2) as pool:
        _make_secret(emulator.url)
        made = list(pool.map(lambda name: _start(name, emulator.url), wanted * times))
    return {name: min(made[place :: len(wanted)], key=lambda start: start.cpu_ms) for place, name in enumerate(wanted)}


def _make_secret(endpoint: str) -> None:
    """What any function asks for when it starts."""
    client = boto3.client(
        "secretsmanager",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 - of the emulator
    )
    client.create_secret(Name=_SECRET, SecretString="benchmark" * 8)


def _start(name: str, endpoint: str) -> Start:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(map(str, _CODE)),
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "STAGE": "dev",
        "CLINICAL_TABLE": "clinical",
        "PATIENTS_TABLE": "patients",
        "OPERATIONS_TABLE": "operations",
        "AUDIT_TABLE": "audit",
        "DOCUMENTS_BUCKET": "documents",
        "EVENT_BUS": "events",
        "DELIVERIES_QUEUE_URL": f"{endpoint}/000000000000/deliveries.fifo",
        "TOKEN_KEY_IDS": "key",
        "INDEX_SECRET_ARN": _SECRET,
        "PUBLIC_URL": "",
        "RETENTION_DAYS": "0",
        "HOLD_UNTIL_SCANNED": "false",
        "DOCUMENT_OPTIONS": "relations folders",
        "UPLOADS_BUCKET": "uploads",
        "UPLOAD_MAX_BYTES": str(2**30),
        "IMPLICIT_POLICY": "basic-normal",
        "OPENID_PROVIDERS": "[]",
        "HOME_COMMUNITY_ID": "",
        "LEDGER_TABLE": "ledger",
        "ANCHORS_BUCKET": "anchors",
        "ANCHOR_KEY_ID": "key",
        "SEALS_QUEUE_URL": f"{endpoint}/000000000000/seals.fifo",
        "LEDGER_SHARDS": "16",
        "KNOWLEDGE_BASE": "none",
        "CDS_SERVICE_URL": "",
        "CDS_SERVICE_SECRET": "",
        "MAIL_SENDER": "",
        "SMS_SENDER": "",
        "PARTNER_QUEUES": "[]",
        "MSSANTE": "",
        "WEBHOOK_CERTIFICATE": "",
    }
    statement = _STATEMENTS.get(name, f"import functions.{name}.handler")
    finished = subprocess.run(  # noqa: S603 - a program of this module
        [sys.executable, "-c", _PROGRAM, statement],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if finished.returncode:
        raise RuntimeError(f"{name} does not start: {finished.stderr[-2000:]}")
    told = json.loads(finished.stdout)
    return Start(cpu_ms=told["cpu_ms"], modules=frozenset(told["modules"]))


def table(made: dict[str, Start]) -> Table:
    """For `make bench`."""
    shown = Table("cold start of", "CPU ms", "of boto3 alone", "modules")
    for column in shown.columns[1:]:
        column.justify = "right"
    for name, start in made.items():
        ratio = f"{start.cpu_ms / made[SDK].cpu_ms:.2f}"
        shown.add_row(name, f"{start.cpu_ms:.0f}", ratio, str(len(start.modules)))
    shown.caption = "import of the handler and its AWS clients, least of several; modules outside the standard library"
    return shown
