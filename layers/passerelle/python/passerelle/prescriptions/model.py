"""A prescription: one signed and routed group of 1 to 20 lines, each with its own lock, ledger and state.

E-prescription contract, sections 2, 6.1 and 8. Amounts are whole millionths of a unit (section 10). `state`
is the stored letter of `data/transitions.json`; what it means at a given moment is the effective state
(`transitions.py`). Every record here is made of text, integers, booleans and dates, so that it has one plain
form (`to_map`) for storage and for kept answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

from passerelle.journal import Change
from passerelle.prescriptions.quantities import Dose

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_LINES = 20

R = TypeVar("R", bound="DataclassInstance")


def to_map(record: DataclassInstance) -> dict[str, Any]:
    values = {each.name: getattr(record, each.name) for each in fields(record)}
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in values.items()}


def from_map(kind: type[R], form: Mapping[str, Any]) -> R:
    """The record with this form; members that it does not have (keys of an item) are left out."""
    known = {each.name: each.type for each in fields(kind)}
    return kind(
        **{
            name: date.fromisoformat(value) if value and str(known[name]).startswith("date") else value
            for name, value in form.items()
            if name in known
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One medication. `lease_until` and `claimed_at` are epoch milliseconds; 0 when no claim is held.

    `request` is its MedicationRequest as JSON, as sent but for what is not signed; `request_version` its
    newest version in the record (0 before it is signed). `fence` counts claims and recoveries. `expires_on`
    is the first refused day.
    """

    number: int
    state: str
    version: int
    request_id: str
    request: str
    request_version: int
    product: str
    unit: str
    is_substitutable: bool
    is_declared_ordinary: bool  # the prescriber states: neither narcotic nor on a secure prescription
    is_marked_secure: bool
    fills: int
    per_fill: int
    total: int
    units_per_day: str | None
    valid_until: date | None
    fill_no: int = 0
    remaining_fill: int = 0
    remaining_total: int = 0
    not_before: date | None = None
    expires_on: date | None = None
    owner: str | None = None
    secret_hash: str | None = None
    fence: int = 0
    claimed_at: int = 0
    lease_until: int = 0
    cancel_requested: bool = False
    cancelled_by: str | None = None
    cancelled_at: str | None = None
    cancel_reason: str | None = None

    @property
    def per_day(self) -> Fraction | None:
        return Fraction(self.units_per_day) if self.units_per_day else None

    def released(self) -> Line:
        """The line without a claim; its fence stays."""
        return replace(self, owner=None, secret_hash=None, claimed_at=0, lease_until=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What the lines of a prescription share. `head` is the hash of the newest event of its history."""

    id: str
    base_url: str  # the FHIR base it was created at: the root of its identifier systems and extensions
    number: str
    patient: str
    prescriber: str
    practice: str
    authored_on: date
    created_at: str
    updated_at: str
    code_hash: str
    version: int
    head: str
    events: int
    routed_to: str | None = None
    signed: str | None = None  # the canonical JSON that was signed
    jws: str | None = None
    signed_at: str | None = None
    rotated_for: str | None = None  # hash of the claim secret that last changed the access code


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRecord:
    """One claim of one line. `ended` says how its holder ended it; a claim that lapses is left as it is."""

    line: int
    fence: int
    owner: str
    secret_hash: str
    taken_at: int
    ended: str = ""  # given-back | finished
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One supply of one line, never changed. `identifier` is the blinded MedicationDispense.identifier."""

    line: int
    number: int
    fill_no: int
    quantity: int
    on: date
    at: str
    organisation: str
    dispense_id: str
    identifier: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prescription:
    """Everything that is known of one prescription, its history apart."""

    group: Group
    lines: tuple[Line, ...]
    claims: tuple[ClaimRecord, ...] = ()
    ledger: tuple[LedgerEntry, ...] = ()

    def line(self, number: int) -> Line | None:
        return next((each for each in self.lines if each.number == number), None)

    def with_line(self, line: Line) -> Prescription:
        return replace(self, lines=tuple(line if each.number == line.number else each for each in self.lines))

    def claims_of(self, number: int) -> tuple[ClaimRecord, ...]:
        return tuple(each for each in self.claims if each.line == number)

    def supplies_of(self, number: int) -> tuple[LedgerEntry, ...]:
        return tuple(each for each in self.ledger if each.line == number)


# --- what a caller asks for ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine:
    """A MedicationRequest to prescribe, as far as the rules need it; `request` is all of it."""

    request: str
    prescriber: str
    authored_on: date
    product: str
    unit: str
    doses: tuple[Dose, ...]
    max_per_day: Fraction | None
    duration_days: Fraction | None
    quantity: Fraction | None
    repeats: int
    valid_until: date | None
    is_substitutable: bool
    is_declared_ordinary: bool
    is_marked_secure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    patient: str
    lines: tuple[OrderLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A detached JWS over the prepared bytes; `signed_on` the Paris day that the signer states."""

    jws: str
    signed_on: date


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTerms:
    code: str | None
    recover: bool = False
    override_routing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """A MedicationDispense to record; `dispense` is all of it, as JSON."""

    secret: str
    quantity: int
    unit: str
    products: tuple[str, ...]
    dispense: str
    identifier: str | None = None


# --- what an operation gives back ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command did: the prescription after it, the lines concerned, and what is told only once."""

    prescription: Prescription
    lines: tuple[int, ...]
    status: int = 200
    access_code: str | None = None
    secret: str | None = None
    dispense: str | None = None
    is_replay: bool = False

    def to_map(self) -> dict[str, Any]:
        """The form kept for a repeated request; claims stay out, as no answer shows them."""
        return {
            "group": to_map(self.prescription.group),
            "lines": [to_map(each) for each in self.prescription.lines],
            "ledger": [to_map(each) for each in self.prescription.ledger],
            "concerned": list(self.lines),
            "status": self.status,
            "access_code": self.access_code,
            "secret": self.secret,
            "dispense": self.dispense,
        }

    @classmethod
    def from_map(cls, form: Mapping[str, Any]) -> Outcome:
        return cls(
            prescription=Prescription(
                group=from_map(Group, form["group"]),
                lines=tuple(from_map(Line, each) for each in form["lines"]),
                ledger=tuple(from_map(LedgerEntry, each) for each in form["ledger"]),
            ),
            lines=tuple(form["concerned"]),
            status=form["status"],
            access_code=form["access_code"],
            secret=form["secret"],
            dispense=form["dispense"],
            is_replay=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What the prescriber is to sign: canonical JSON, and the protected header of the JWS."""

    group: Group
    content: str
    protected: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A prescription as one caller may see it, in its effective states; `line` if one was asked for."""

    prescription: Prescription
    line: int | None = None


# --- what is committed --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PrescriptionCreated(Change):
    prescription: Prescription


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChange(Change):
    """Holds only while `before.head` is the head of the history: writers of one prescription take turns."""

    before: Group
    after: Group


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChange(Change):
    """A line changes, if it is still as it was read. Lost: LineMovedError with the line as it is now."""

    prescription: str
    before: Line
    after: Line


@dataclass(frozen=True, slots=True, kw_only=True)
class LineClaimed(LineChange):
    """Also holds only while nobody else has a live claim (contract section 8, `$accept`)."""

    now: int
    today: date
    is_recovery: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSupplied(LineChange):
    """Also holds only while the claim is live and enough remains (contract section 8, `$dispense`)."""

    now: int
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimChange(Change):
    prescription: str
    claim: ClaimRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Supplied(Change):
    """A new entry of the ledger; its identifier may be used once by its organisation (RX-DUPLICATE)."""

    prescription: str
    entry: LedgerEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEvent(Change):
    """One link of the chain: `hash` is SHA-256 over the previous hash and the canonical JSON of the rest."""

    prescription: str
    number: int
    operation: str
    at: str
    organisation: str
    role: str
    moves: tuple[str, ...]  # `<line>:<from>><to>`
    previous: str
    hash: str


class LineMovedError(Exception):
    """A line is not what it was when it was read."""

    def __init__(self, line: Line) -> None:
        self.line = line
        super().__init__("the line has changed")


class PrescriptionMovedError(Exception):
    """Another command of the same prescription was faster."""
