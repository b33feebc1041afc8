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
    """Serves `handler.routes`; `public` routes have no authorizer."""

    public: bool = False


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

    name: Literal["events", "deliveries"]
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

_CLINICAL_READ = Grant(on="clinical", actions=_READ)
_CLINICAL = Grant(on="clinical", actions=(*_READ, *_WRITE, "dynamodb:ConditionCheckItem"))
_PERSON = Grant(on="clinical", actions=("dynamodb:GetItem",))
_PATIENTS_READ = Grant(on="patients", actions=_READ)
_PATIENTS = Grant(on="patients", actions=(*_READ, *_WRITE))
_ANSWERS = Grant(on="operations", actions=("dynamodb:GetItem", "dynamodb:PutItem"))
_AUDIT = Grant(on="audit", actions=("dynamodb:PutItem",))
_DOCUMENTS_READ = Grant(on="documents", actions=("s3:GetObject",))
_DOCUMENTS = Grant(on="documents", actions=("s3:GetObject", "s3:PutObject"))
_INDEX_SECRET = Grant(on="index-secret", actions=("secretsmanager:GetSecretValue",))


def _http(
    name: str, purpose: str, *grants: Grant, public: bool = False, memory_mb: int = 1024
) -> FunctionSpec:
    return FunctionSpec(
        name=name,
        purpose=purpose,
        trigger=Http(public=public),
        memory_mb=memory_mb,
        timeout_seconds=HTTP_SECONDS,
        grants=(*grants, _AUDIT, _INDEX_SECRET),
    )


FUNCTIONS: Final = (
    _http("patients", "Patient: register, search, read", _CLINICAL, _PATIENTS, _ANSWERS),
    _http(
        "documents",
        "DocumentReference, List: search; Binary: read",
        _CLINICAL_READ,
        _PATIENTS_READ,
        _DOCUMENTS_READ,
    ),
    _http(
        "records",
        "clinical resource types and transactions",
        _CLINICAL,
        _PATIENTS,
        _ANSWERS,
        _DOCUMENTS,
        memory_mb=1769,  # one full CPU: transactions parse and validate every entry
    ),
    _http("prescriptions", "e-prescription operations", _CLINICAL, _PATIENTS_READ, _ANSWERS, _DOCUMENTS),
    _http("directory", "Organization, Practitioner: read, search", _CLINICAL_READ),
    _http(
        "subscriptions",
        "Subscription: create, read, delete",
        Grant(on="operations", actions=("dynamodb:GetItem", "dynamodb:Query", *_WRITE)),
        _PERSON,
    ),
    _http(
        "audit",
        "AuditEvent: search, read",
        Grant(on="audit", actions=("dynamodb:GetItem", "dynamodb:Query")),
        Grant(on="patients", actions=("dynamodb:Query",)),
    ),
    _http(
        "token",
        "OAuth 2.0 token endpoint, keys, SMART configuration",
        _ANSWERS,
        Grant(on="token-key", actions=("kms:GetPublicKey", "kms:Sign")),
        public=True,
        memory_mb=512,
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
            _PERSON,
            Grant(on="deliveries", actions=("sqs:SendMessage",)),
            _INDEX_SECRET,
        ),
    ),
    FunctionSpec(
        name="deliver",
        purpose="posts notifications to the subscribers' webhooks",
        trigger=Queue(name="deliveries", batch_size=10),
        memory_mb=512,
        timeout_seconds=120,
        grants=(
            Grant(
                on="operations",
                actions=("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem"),
            ),
            Grant(on="clinical", actions=("dynamodb:GetItem", "dynamodb:Query")),
            Grant(on="patients", actions=("dynamodb:GetItem", "dynamodb:Query")),
            _AUDIT,
            Grant(on="deliveries", actions=("sqs:ChangeMessageVisibility",)),
            _INDEX_SECRET,
        ),
    ),
)
