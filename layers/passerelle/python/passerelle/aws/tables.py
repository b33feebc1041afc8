"""The tables: one TableSpec each, read by the CDK app, so that tests, the local stack and AWS have the same ones.

Every table has string keys PK and SK, on-demand capacity, a customer-managed key, deletion protection, TTL on `ttl`,
and point-in-time recovery but where nothing may outlive its deletion. There is no secondary index: an index is
eventually consistent, and no search may miss a write. Which items a table holds is documented where they are built, in
the adapter named here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    name: str
    variable: str  # environment variable that holds the deployed table's name
    stream: Literal["NEW_IMAGE", "NEW_AND_OLD_IMAGES"] | None
    content: str
    is_recoverable: bool = True


CLINICAL = TableSpec(
    name="clinical",
    variable="CLINICAL_TABLE",
    stream="NEW_IMAGE",
    content="patient collections, prescriptions, shared resources, outbox (aws/records.py, aws/prescriptions.py)",
)
PATIENTS = TableSpec(
    name="patients",
    variable="PATIENTS_TABLE",
    stream=None,
    content="patient index: source records, links, identifier and name look-up items (aws/patients.py)",
)
OPERATIONS = TableSpec(
    name="operations",
    variable="OPERATIONS_TABLE",
    stream=None,
    content="kept answers, clients, assertions seen, subscriptions, notification log (aws/journal.py and others)",
)
AUDIT = TableSpec(
    name="audit",
    variable="AUDIT_TABLE",
    stream="NEW_IMAGE",
    content="audit records, 13 months (aws/audit.py)",
)
LEDGER = TableSpec(
    name="ledger",
    variable="LEDGER_TABLE",
    stream=None,
    content="verifiable log: trees over the commitments of audit records, epochs (aws/ledger.py)",
)
# A key that a backup brings back was never destroyed.
KEYS = TableSpec(
    name="keys",
    variable="KEYS_TABLE",
    stream=None,
    content="data keys, one for each source record (aws/keys.py)",
    is_recoverable=False,
)

TABLES = (CLINICAL, PATIENTS, OPERATIONS, AUDIT, LEDGER, KEYS)
