"""What other systems send in formats of their own: a message, what it becomes, and what became of it.

A message is made into one FHIR transaction by a Converter of its format, and applied by the same commands that serve
everybody. It is acknowledged when it is durable (HL7 2.5 chapter 2.9: AA, AE, AR).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from passerelle.journal import Change
from passerelle.patients.model import Identifier


class SourceFormat(StrEnum):
    HL7V2 = "hl7v2"
    HPRIM = "hprim"
    CDA = "cda"
    FHIR = "fhir"


class Reason(StrEnum):
    """Why a message is not applied: HL7 table 0357, for every format, and one code that the table has no word for.

    What is wrong with the content waits for somebody who looks at it; a message of the wrong kind is refused whole.
    """

    SEGMENT_SEQUENCE = "100"
    REQUIRED_FIELD_MISSING = "101"
    DATA_TYPE = "102"
    TABLE_VALUE_NOT_FOUND = "103"
    UNSUPPORTED_MESSAGE_TYPE = "200"
    UNSUPPORTED_EVENT = "201"
    UNSUPPORTED_PROCESSING_ID = "202"
    UNSUPPORTED_VERSION = "203"
    UNKNOWN_KEY = "204"  # whom or what it is about is not known here
    DUPLICATE_KEY = "205"  # another message has this control id
    RECORD_LOCKED = "206"
    INTERNAL_ERROR = "207"
    BUSINESS_RULE = "business-rule"  # what it says can be stored, and is against a rule of the record

    @property
    def is_of_the_kind(self) -> bool:
        """Whether no message of this kind can be applied, whatever it says: nothing of it is kept (AR)."""
        return self in _OF_THE_KIND


_OF_THE_KIND = frozenset(
    {
        Reason.UNSUPPORTED_MESSAGE_TYPE,
        Reason.UNSUPPORTED_EVENT,
        Reason.UNSUPPORTED_PROCESSING_ID,
        Reason.UNSUPPORTED_VERSION,
        Reason.DUPLICATE_KEY,
    }
)


class RefusedMessage(Exception):  # noqa: N818 - the field says "refused", as it says "acknowledged"
    """`path` is where in the message (`PID-3`, `OBX[2]-5`, empty: the whole); never a value of it."""

    def __init__(self, reason: Reason, path: str = "") -> None:
        self.reason = reason
        self.path = path
        super().__init__(f"{reason.value} {path}".rstrip())


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who sent a message. `domain` is the identifier domain that the client feeds the patient index from.

    `organisation` is its FINESS-based IDNST; `organisation_reference` how resources refer to it; `now` when the message
    came, for what it leaves open.
    """

    domain: str
    organisation: str
    organisation_reference: Mapping[str, Any]  # a FHIR Reference, by identifier
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What one message becomes.

    `bundle` is a FHIR transaction. Its Patient is `PUT Patient?identifier=system|value`; everything else is
    `PUT Type?identifier=system|value` with identifiers made of the sender's ids, so that the same message again, and a
    correction, meet the same resource; documents are `POST DocumentReference` with a masterIdentifier; one Provenance.
    Empty (`{}`) when only `merge` is to be done.
    """

    kind: str  # "ADT^A01", "ORU^R01", "HPRIM ORU", "CDA"
    control_id: str  # MSH-10
    sender: str  # "application|facility"
    at: datetime | None  # when what it tells of happened: EVN-2, else MSH-7
    bundle: Mapping[str, Any]
    merge: tuple[Identifier, Identifier] | None = None  # A40: (replaced, survivor)
    withdrawn: tuple[Identifier, ...] = ()  # documents that their sender takes back, by masterIdentifier
    # Full URLs of DocumentReferences that only keep the message itself: left out where a record takes no document.
    copies: frozenset[str] = field(default_factory=frozenset)
    lost: tuple[str, ...] = ()  # fields with a value that nothing was made of, by name: "PV1-36", "OBX[3]-17"
    # Patients by full URL of whom the message says at most "validated", as its format has it of qualified identities,
    # too, and either tells the birth place by its code or nothing of it; each with the national identifier that it
    # names, if it names one.
    validated: Mapping[str, Identifier | None] = field(default_factory=dict)
    # Full URLs of entries (`PUT Type?identifier=`) that tell a state as of `at`, each with what its position is kept
    # with (`Position`): an older message never overwrites what a newer one said of the same.
    ordered: Mapping[str, str] = field(default_factory=dict)


class Converter(Protocol):
    def __call__(self, data: bytes, source: Source) -> Conversion:
        """Pure; raises RefusedMessage."""


class Status(StrEnum):
    RECEIVED = "received"  # durable, not applied: being applied, or whoever did so stopped
    APPLIED = "applied"
    DEAD = "dead"  # durable, and somebody has to look: `reason` and `path` say why


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """One message of the inbox.

    `id` stands for (client, format, sender, control id) and tells none of them; `digest` is the SHA-256 of the bytes.
    `made` are references to versions (`Type/id/_history/n`); `kept` to what a document that no longer stands had
    stated, and that stays, because others did so, too, or changed it; `passed_over` the types of the entries that were
    left as a newer message had said.
    """

    id: str
    client_id: str
    format: SourceFormat
    control_id: str
    digest: str
    received_at: datetime
    status: Status = Status.RECEIVED
    kind: str = ""
    reason: Reason | None = None
    path: str = ""  # in the message, or of the element of the FHIR transaction
    made: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    settled_at: datetime | None = None
    parts: int = 0  # that the original is stored in, where it is large

    @property
    def is_applied(self) -> bool:
        return self.status is Status.APPLIED


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A message of which nothing is kept (AR)."""

    reason: Reason
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What a step came to, as `Inbound` has it."""

    made: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    is_settled: bool = False  # in the very commit

    def __add__(self, other: Applied) -> Applied:
        return Applied(
            made=(*self.made, *other.made),
            kept=(*self.kept, *other.kept),
            lost=(*self.lost, *other.lost),
            passed_over=(*self.passed_over, *other.passed_over),
            is_settled=self.is_settled or other.is_settled,
        )


class OvertakenError(Exception):
    """Another message about the same was applied meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """As of when things that change together are known: the results of an order, the orders of a patient.

    `newest` is by a hash of what each is found by; `revision` counts the changes from 1.
    """

    revision: int = 0
    newest: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled(Change):
    """What became of a message that waits; raises Unavailable unless it still does.

    The bytes of one that is applied are let go: the record has them.
    """

    inbound: Inbound


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance(Change):
    """What has these hashes is known as of `at`; raises OvertakenError unless `name` still is as it was seen."""

    name: str
    seen: Position
    of: tuple[str, ...]
    at: datetime
