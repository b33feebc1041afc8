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
    "keys",
    "documents",
    "documents-bucket",
    "uploads",
    "events-bus",
    "deliveries",
    "index-secret",
    "token-key",
    "ledger",
    "anchors",
    "anchor-key",
    "seals",
]


# The queues of `notifications.py`.
QueueName = Literal[
    "events",
    "deliveries",
    "scans",
    "contents",
    "seals",
    "erasures",
    "reminders",
    "watches",
    "reconciliations",
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
class Trail:
    """The new records of the audit table's stream, in order per patient."""

    batch_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The messages of a queue of `notifications.py`."""

    name: QueueName
    batch_size: int


Trigger = Http | Authorizer | Outbox | Trail | Queue


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
_INDEX_READ = Grant(on="patients", actions=("dynamodb:Query",))
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
# Who subscribed: whether the intended recipient of a submission can be told of it; and what somebody was told.
_SUBSCRIBERS = Grant(on="operations", actions=("dynamodb:BatchGetItem", "dynamodb:Query"))
# The list of broken glasses.
_EMERGENCIES = Grant(on="operations", actions=("dynamodb:Query",))
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
# Wrong access codes and claim secrets, counted.
_FAILURES = Grant(on="operations", actions=("dynamodb:BatchGetItem", "dynamodb:UpdateItem"))
_AUDIT = Grant(on="audit", actions=("dynamodb:PutItem",))
# Whether somebody may be told of an access: what the history of accesses would show.
_ACCESSES = (Grant(on="audit", actions=("dynamodb:GetItem",)), _OWN_RECORD)
# What is personal is sealed under the data key of its record; whoever writes a first version makes that key.
_OPENS = Grant(on="keys", actions=("dynamodb:GetItem",))
_SEALS = Grant(on="keys", actions=("dynamodb:GetItem", "dynamodb:PutItem"))
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
        _EMERGENCIES,
        _OBJECTS,
        _AUDIT,
        Grant(on="audit", actions=("dynamodb:Query",)),  # the history of accesses
        Grant(on="uploads", actions=("s3:GetObject", "s3:PutObject")),  # a record that is handed out
        _SEALS,
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
        _OPENS,
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
        _SEALS,
        _INDEX_SECRET,
        trigger=Http(every_other_type=True),
        memory_mb=1769,  # one full CPU: transactions parse and validate every entry
    ),
    _http(
        "ingest",
        "what other systems send: HL7 version 2, HPRIM, CDA; what waits to be applied",
        _RECORD,
        _PUBLICATION,
        _INDEX,
        _ANSWERS,
        _SUBSCRIBERS,
        # The inbox; how far the state of each patient and visit is known.
        Grant(
            on="operations",
            actions=(
                "dynamodb:BatchGetItem",
                "dynamodb:ConditionCheckItem",
                "dynamodb:DeleteItem",
                "dynamodb:UpdateItem",
            ),
        ),
        _OBJECTS,
        _RETENTION,
        _AUDIT,
        _SEALS,
        _INDEX_SECRET,
        memory_mb=1769,  # as for transactions, after reading the message
    ),
    _http(
        "prescriptions",
        "Task: e-prescription operations, tasks of the record",
        _RECORD,
        _INDEX_READ,
        Grant(on="patients", actions=("dynamodb:PutItem",)),  # a pharmacy that claims comes into care relation
        _OWN_RECORD,
        _ANSWERS,
        _FAILURES,
        _OBJECTS,
        _AUDIT,
        Grant(on="audit", actions=("dynamodb:Query",)),  # who read a prescription: part of its history
        _OPENS,
        _INDEX_SECRET,
    ),
    _http(
        "directory",
        "organisations, professionals, places, services",
        _RECORD,
        _ANSWERS,
        _OBJECTS,
        _AUDIT,
        _OPENS,
        _INDEX_SECRET,
    ),
    _http(
        "subscriptions",
        "Subscription: create, read, search, update, delete; its operations",
        Grant(
            on="operations",
            actions=(
                "dynamodb:BatchGetItem",
                "dynamodb:DeleteItem",
                "dynamodb:GetItem",
                "dynamodb:PutItem",
                "dynamodb:Query",
                "dynamodb:UpdateItem",
            ),
        ),
        _PATIENTS,  # what its events are about may be hidden
        *_ACCESSES,
        _OPENS,
        _INDEX_SECRET,
        _LARGE_BODIES,
        Grant(on="deliveries", actions=("sqs:SendMessage",)),
        _AUDIT,
    ),
    _http(
        "audit",
        "AuditEvent: search, read",
        Grant(on="audit", actions=(*_READ, "dynamodb:PutItem")),
        # Proofs that an event was logged.
        Grant(on="ledger", actions=("dynamodb:Query",)),
        Grant(on="anchors", actions=("s3:GetObject",)),
        # What is hidden from a patient is in no log that the patient reads.
        Grant(on="clinical", actions=("dynamodb:GetItem", "dynamodb:Query")),
        _OWN_RECORD,
        _ANSWERS,  # of deposits
        _OPENS,
        _INDEX_SECRET,
    ),
    _http(
        "token",
        "OAuth 2.0: tokens, revocation, introspection, keys, metadata",
        _ANSWERS,
        Grant(on="operations", actions=("dynamodb:BatchGetItem", "dynamodb:UpdateItem")),
        Grant(on="token-key", actions=("kms:GetPublicKey", "kms:Sign")),
        _AUDIT,
        _INDEX_SECRET,  # what is personal in the access log is sealed under a key of it
        trigger=Http(public=True),
        memory_mb=512,
    ),
    _http(
        "login",
        "where people log in: to their OpenID provider, and back with a code",
        Grant(on="operations", actions=("dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem")),
        _AUDIT,
        _INDEX_SECRET,
        trigger=Http(public=True),
        memory_mb=512,
    ),
    _http(
        "links",
        "temporary links: what somebody outside the network opens",
        Grant(on="clinical", actions=(*_READ, "dynamodb:UpdateItem")),
        Grant(on="operations", actions=("dynamodb:BatchGetItem",)),
        _LARGE_BODIES,
        _AUDIT,
        _OPENS,
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
            Grant(on="operations", actions=("dynamodb:BatchGetItem",)),
            _AUDIT,
            _INDEX_SECRET,
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
                actions=(*_READ, "dynamodb:PutItem", "dynamodb:UpdateItem"),
            ),
            _PATIENTS,  # for subscriptions to the patient feed, and what is hidden
            *_ACCESSES,
            _OPENS,
            _INDEX_SECRET,
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
            _OPENS,
            _INDEX_SECRET,
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
            Grant(on="operations", actions=(*_READ, "dynamodb:UpdateItem")),
            _PATIENTS,  # for subscriptions to the patient feed, and what is hidden
            *_ACCESSES,
            _OPENS,
            _INDEX_SECRET,
            _LARGE_BODIES,
            _AUDIT,
            Grant(on="deliveries", actions=("sqs:ChangeMessageVisibility", "sqs:SendMessage")),
        ),
    ),
    _http(
        "ledger",
        "the verifiable log: anchors, keys, proofs that it only grew",
        Grant(on="ledger", actions=("dynamodb:GetItem", "dynamodb:Query")),
        Grant(on="anchors", actions=("s3:GetObject",)),
        trigger=Http(public=True),
        memory_mb=512,
    ),
    FunctionSpec(
        name="append",
        purpose="puts new audit records into the verifiable log",
        trigger=Trail(batch_size=1_000),
        memory_mb=1024,
        timeout_seconds=60,
        grants=(
            Grant(on="ledger", actions=("dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:Query")),
            Grant(on="seals", actions=("sqs:SendMessage",)),
        ),
    ),
    FunctionSpec(
        name="catalogue",
        purpose="keeps the access log findable by who acted, and by when; announces accesses that patients wait for",
        trigger=Trail(batch_size=100),
        memory_mb=512,
        timeout_seconds=60,
        grants=(
            _AUDIT,
            Grant(on="clinical", actions=("dynamodb:GetItem",)),  # whose source record it is
            Grant(on="operations", actions=("dynamodb:Query",)),
            Grant(on="events-bus", actions=("events:PutEvents",)),
            _OPENS,
            _INDEX_SECRET,
        ),
    ),
    FunctionSpec(
        name="seal",
        purpose="signs what was appended to the verifiable log within a minute",
        trigger=Queue(name="seals", batch_size=1),
        memory_mb=512,
        timeout_seconds=60,
        grants=(
            Grant(on="ledger", actions=("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem")),
            Grant(on="anchors", actions=("s3:GetObject", "s3:PutObject")),
            Grant(on="anchor-key", actions=("kms:GetPublicKey", "kms:Sign")),
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
            _OPENS,
            _INDEX_SECRET,
            Grant(on="documents", actions=("s3:DeleteObject",)),
        ),
    ),
    FunctionSpec(
        name="remind",
        purpose="looks at prescriptions whose hour has come: reminders, lapsed leases, ended validities",
        trigger=Queue(name="reminders", batch_size=1),
        memory_mb=1024,
        timeout_seconds=600,  # all that is due in the hour; what is left comes again
        grants=(_RECORD, _AUDIT, _OPENS, _INDEX_SECRET),
    ),
    FunctionSpec(
        name="watch",
        purpose="looks at care plans: missed measurements and visits, alerts that nobody answers",
        trigger=Queue(name="watches", batch_size=1),
        memory_mb=1024,
        timeout_seconds=240,  # less than from one tick to the next
        grants=(_RECORD, _INDEX_READ, _OWN_RECORD, _LARGE_BODIES, _AUDIT, _OPENS, _INDEX_SECRET),
    ),
    FunctionSpec(
        name="reconcile",
        purpose="silent subscriptions; events that were lost on their way",
        trigger=Queue(name="reconciliations", batch_size=1),
        memory_mb=512,
        timeout_seconds=120,
        grants=(
            Grant(on="operations", actions=(*_READ, "dynamodb:PutItem", "dynamodb:UpdateItem")),
            _PATIENTS,  # the outbox, and what dispatch reads
            *_ACCESSES,
            _OPENS,
            _INDEX_SECRET,
            _LARGE_BODIES,
            Grant(on="deliveries", actions=("sqs:SendMessage",)),
        ),
    ),
    FunctionSpec(
        name="erase",
        purpose="makes what is known of an erased person unreadable",
        trigger=Queue(name="erasures", batch_size=1),
        memory_mb=512,
        timeout_seconds=120,
        grants=(
            Grant(on="clinical", actions=(*_READ, "dynamodb:PutItem")),
            _INDEX,
            _AUDIT,
            # The only one that changes a key, and that deletes what is locked.
            Grant(on="keys", actions=("dynamodb:GetItem", "dynamodb:UpdateItem")),
            Grant(
                on="documents",
                actions=("s3:BypassGovernanceRetention", "s3:DeleteObjectVersion", "s3:GetObject"),
            ),
            Grant(on="documents-bucket", actions=("s3:ListBucketVersions",)),
            _INDEX_SECRET,
        ),
    ),
)
