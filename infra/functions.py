"""The table of functions: what starts each, how large it is, and the calls it may make. Data only.

One row per folder of `functions/`. `stack.py` deploys the table; tests compare it with the folders and with
the calls that the functions really make.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

# What a grant can name: tables by TableSpec.name, then the rest of the stack.
Resource = Literal[
    "clinical",
    "patients",
    "operations",
    "audit",
    "documents",
    "uploads",
    "events-bus",
    "deliveries",
    "index-secret",
    "token-key",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """IAM actions on one resource. The use of the customer key that protects it follows, see `grants.py`."""

    on: Resource
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """Serves `handler.routes`.

    `public` routes have no authorizer. One function gets the base itself and `every_other_type`: those that no other
    function serves, unknown ones included.
    """

    public: bool = False
    every_other_type: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorizer:
    """Decides on every request of a route that is not public."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbox:
    """The outbox items of the clinical table's stream, in order per outbox partition."""

    batch_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The messages of a queue of `notifications.py`."""

    name: Literal["events", "deliveries", "scans", "contents"]
    batch_size: int


Trigger = Http | Authorizer | Outbox | Queue


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    name: str
    purpose: str
    trigger: Trigger
    memory_mb: int
    timeout_seconds: int
    grants: tuple[Grant, ...]


# API Gateway gives up after 29 seconds: a function must answer, or fail, before.
HTTP_SECONDS: Final = 28

_READ = ("dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query")
_WRITE = ("dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:UpdateItem")

_RECORD = Grant(on="clinical", actions=(*_READ, *_WRITE))
# Documents are published while the record is open.
_PUBLICATION = Grant(on="clinical", actions=("dynamodb:ConditionCheckItem",))
_PATIENTS = Grant(on="clinical", actions=_READ)
_INDEX_READ = Grant(on="patients", actions=("dynamodb:GetItem", "dynamodb:Query"))
_OWN_RECORD = Grant(on="patients", actions=("dynamodb:GetItem",))
_INDEX = Grant(
    on="patients",
    actions=(
        "dynamodb:ConditionCheckItem",
        "dynamodb:DeleteItem",
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "dynamodb:Query",
    ),
)
_ANSWERS = Grant(on="operations", actions=("dynamodb:GetItem", "dynamodb:PutItem"))
# Who subscribed: whether the intended recipient of a submission can be told of it.
_SUBSCRIBERS = Grant(on="operations", actions=("dynamodb:Query",))
# Bodies that are too large for an item, and documents.
_OBJECTS = Grant(on="documents", actions=("s3:GetObject", "s3:PutObject"))
# The lock of a new content; the period is that of its class.
_RETENTION = Grant(on="documents", actions=("s3:PutObjectRetention",))
_LARGE_BODIES = Grant(on="documents", actions=("s3:GetObject",))
# A content that was uploaded becomes that of a document: it is copied, and its ticket is used up.
_ADOPTION = (
    Grant(on="uploads", actions=("s3:GetObject",)),
    Grant(on="operations", actions=("dynamodb:UpdateItem",)),
)
_AUDIT = Grant(on="audit", actions=("dynamodb:PutItem",))
_INDEX_SECRET = Grant(on="index-secret", actions=("secretsmanager:GetSecretValue",))


def _http(name: str, purpose: str, *grants: Grant, trigger: Http = Http(), memory_mb: int = 1024) -> FunctionSpec:
    return FunctionSpec(
        name=name,
        purpose=purpose,
        trigger=trigger,
        memory_mb=memory_mb,
        timeout_seconds=HTTP_SECONDS,
        grants=grants,
    )


FUNCTIONS: Final = (
    _http(
        "patients",
        "Patient: register, search, read; a person's record as a whole",
        _RECORD,
        _INDEX,
        _ANSWERS,
        _OBJECTS,
        _AUDIT,
        _INDEX_SECRET,
    ),
    _http(
        "documents",
        "DocumentReference, List, Binary",
        _RECORD,
        _PUBLICATION,
        _INDEX_READ,
        _ANSWERS,
        Grant(on="operations", actions=("dynamodb:Query", "dynamodb:UpdateItem")),
        Grant(
            on="uploads",
            actions=("s3:DeleteObject", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject"),
        ),
        _OBJECTS,
        _RETENTION,
        _AUDIT,
        _INDEX_SECRET,
    ),
    _http(
        "records",
        "clinical resource types, transactions, messages, and whatever is no resource type",
        _RECORD,
        _PUBLICATION,
        _INDEX,
        _ANSWERS,
        _SUBSCRIBERS,
        *_ADOPTION,
        _OBJECTS,
        _RETENTION,
        _AUDIT,
        _INDEX_SECRET,
        trigger=Http(every_other_type=True),
        memory_mb=1769,  # one full CPU: transactions parse and validate every entry
    ),
    _http(
        "prescriptions",
        "Task: e-prescription operations, tasks of the record",
        _RECORD,
        _INDEX_READ,
        _ANSWERS,
        _OBJECTS,
        _AUDIT,
        _INDEX_SECRET,
    ),
    _http(
        "directory",
        "organisations, professionals, places, services",
        _RECORD,
        _OWN_RECORD,
        _ANSWERS,
        _OBJECTS,
        _AUDIT,
        _INDEX_SECRET,
    ),
    _http(
        "subscriptions",
        "Subscription: create, read, update, delete",
        Grant(
            on="operations",
            actions=(
                "dynamodb:DeleteItem",
                "dynamodb:GetItem",
                "dynamodb:PutItem",
                "dynamodb:Query",
                "dynamodb:UpdateItem",
            ),
        ),
        _PATIENTS,  # what its events are about may be hidden
        _LARGE_BODIES,
        Grant(on="deliveries", actions=("sqs:SendMessage",)),
        _AUDIT,
    ),
    _http(
        "audit",
        "AuditEvent: search, read",
        Grant(on="audit", actions=("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query")),
        # What is hidden from a patient is in no log that the patient reads.
        Grant(on="clinical", actions=("dynamodb:GetItem", "dynamodb:Query")),
        _OWN_RECORD,
        _INDEX_SECRET,
    ),
    _http(
        "token",
        "OAuth 2.0 token endpoint, keys, SMART configuration",
        _ANSWERS,
        Grant(on="token-key", actions=("kms:GetPublicKey", "kms:Sign")),
        trigger=Http(public=True),
        memory_mb=512,
    ),
    _http(
        "links",
        "temporary links: what somebody outside the network opens",
        Grant(on="clinical", actions=(*_READ, "dynamodb:UpdateItem")),
        _OWN_RECORD,
        Grant(on="operations", actions=("dynamodb:GetItem",)),
        _LARGE_BODIES,
        _AUDIT,
        _INDEX_SECRET,
        trigger=Http(public=True),
    ),
    FunctionSpec(
        name="authorize",
        purpose="verifies access tokens",
        trigger=Authorizer(),
        memory_mb=1024,  # on the path of every request
        timeout_seconds=10,
        grants=(
            Grant(on="token-key", actions=("kms:GetPublicKey",)),
            Grant(on="operations", actions=("dynamodb:GetItem",)),
            _AUDIT,
        ),
    ),
    FunctionSpec(
        name="relay",
        purpose="puts the events of the outbox on the bus",
        trigger=Outbox(batch_size=100),
        memory_mb=512,
        timeout_seconds=60,
        grants=(Grant(on="events-bus", actions=("events:PutEvents",)),),
    ),
    FunctionSpec(
        name="dispatch",
        purpose="gives each event to the subscriptions it concerns",
        trigger=Queue(name="events", batch_size=10),
        memory_mb=512,
        timeout_seconds=60,
        grants=(
            Grant(
                on="operations",
                actions=("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem"),
            ),
            _PATIENTS,  # for subscriptions to the patient feed
            _LARGE_BODIES,
            Grant(on="deliveries", actions=("sqs:SendMessage",)),
        ),
    ),
    FunctionSpec(
        name="quarantine",
        purpose="takes in what the malware scanner says of contents",
        trigger=Queue(name="scans", batch_size=10),
        memory_mb=512,
        timeout_seconds=30,
        grants=(
            Grant(on="clinical", actions=(*_READ, "dynamodb:PutItem")),
            _LARGE_BODIES,
            _AUDIT,
        ),
    ),
    FunctionSpec(
        name="deliver",
        purpose="posts notifications to the subscribers' webhooks",
        trigger=Queue(name="deliveries", batch_size=1),  # one slow endpoint must not keep another's batch waiting
        memory_mb=512,
        timeout_seconds=30,
        grants=(
            Grant(on="operations", actions=("dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem")),
            _PATIENTS,  # for subscriptions to the patient feed
            _LARGE_BODIES,
            _AUDIT,
            Grant(on="deliveries", actions=("sqs:ChangeMessageVisibility",)),
        ),
    ),
    FunctionSpec(
        name="sweep",
        purpose="discards contents whose commit never came",
        trigger=Queue(name="contents", batch_size=10),
        memory_mb=512,
        timeout_seconds=30,
        grants=(
            Grant(on="clinical", actions=_READ),
            Grant(on="documents", actions=("s3:DeleteObject",)),
        ),
    ),
)
