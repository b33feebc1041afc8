"""A prescription: one signed and routed group of 1 to 20 lines, each with its own lock, ledger and state.

E-prescription contract, sections 2, 6.1 and 8. Amounts are whole millionths of a unit (section 10). `state`
is the stored letter of `data/transitions.json`; what it means at a given moment is the effective state
(`transitions.py`). Every record here is made of text, integers, booleans and dates, so that it has one plain
form (`to_map`) for storage and for kept answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from enum import StrEnum
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


class Mention(StrEnum):
    """What a prescriber states of a line beside what is taken and how."""

    ALD = "ald"  # for the long illness that is covered in full: the upper zone of a bi-zone prescription
    ACCIDENT = "at-mp"  # accident at work, occupational disease
    PREVENTION = "prevention"
    NOT_REIMBURSED = "non-reimbursable"
    OFF_LABEL = "off-label"
    EXCEPTION = "exception"  # on the form for exception medicines
    NO_RENEWAL = "no-renewal"  # numberOfRepeatsAllowed is given, and is 0
    SINGLE_SUPPLY = "single-supply"  # "délivrance en une seule fois" (R5132-30)
    OVERLAP = "overlap"  # another prescription of narcotics runs at the same time, and is meant to (R5132-33)
    IN_WORDS = "in-words"  # units, dosage and dose are written out in full (R5132-29)
    STABILISED = "stabilised"  # attestation that goes with the substitution reason MTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Prescribed:
    """What a MedicationRequest says, as far as the rules need it; `request` is all of it, as JSON.

    `request` is as sent but for what is not signed. `product` is the coding (`system|code`) that a supply is compared
    with, `codings` are all of them, one a line; a preparation of several is one product, its components joined by `+`.
    """

    request: str
    product: str
    unit: str
    is_substitutable: bool
    is_declared_ordinary: bool  # the prescriber states: neither narcotic nor on a secure prescription
    is_marked_secure: bool
    valid_until: date | None
    codings: str = ""
    mentions: str = ""  # codes of `Mention`, sorted, a space between them
    duration: str | None = None  # days that one supply is for: an exact fraction
    course: str | None = None  # days after which the dosage itself ends, when it does
    interval: str | None = None  # days that the prescriber wants between two supplies (dispenseInterval)
    substitution_reason: str | None = None  # MTE, EFG or CIF, or what was sent instead
    substitution_text: str | None = None  # the excipient, coded or in words
    executor: str | None = None  # the pharmacy named to supply it: `system|value`, or its name
    discharge_on: date | None = None  # planned discharge after surgery (décret 2022-972)
    prior: str | None = None  # the MedicationRequest/<id> that it takes the place of

    def says(self, mention: Mention) -> bool:
        return mention in self.mentions.split()

    @property
    def products(self) -> tuple[str, ...]:
        return tuple(self.codings.splitlines()) or (self.product,)

    @property
    def duration_days(self) -> Fraction | None:
        return Fraction(self.duration) if self.duration else None

    @property
    def course_days(self) -> Fraction | None:
        return Fraction(self.course) if self.course else None

    @property
    def interval_days(self) -> Fraction | None:
        return Fraction(self.interval) if self.interval else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line(Prescribed):
    """One medication. `lease_until` and `claimed_at` are epoch milliseconds; 0 when no claim is held.

    `request_version` is the newest version of its MedicationRequest in the record (0 before it is signed). `fence`
    counts claims and recoveries. `expires_on` is the first refused day.
    """

    number: int
    state: str
    version: int
    request_id: str
    request_version: int
    fills: int
    per_fill: int
    total: int
    units_per_day: str | None
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
    progress: str | None = None  # preparing, awaiting-stock or ready-to-collect: what its holder said last
    progress_at: int = 0  # since when, in epoch milliseconds
    fill_units: str | None = None  # units of one supply as prescribed, before they are counted in packs
    regime: str | None = None  # `regulation.Regime` as JSON, from when it was signed on

    @property
    def per_day(self) -> Fraction | None:
        return Fraction(self.units_per_day) if self.units_per_day else None

    @property
    def fill_days(self) -> Fraction | None:
        """The days that one supply is for: as stated, or as the amount lasts if that is longer."""
        lasts = Fraction(self.fill_units) / self.per_day if self.fill_units and self.per_day else None
        known = [each for each in (self.duration_days, lasts) if each is not None]
        return max(known, default=None)

    @property
    def total_days(self) -> Fraction | None:
        """The days that all its supplies are for."""
        return self.fill_days * self.fills if self.fill_days is not None else None

    def released(self) -> Line:
        """The line without a claim; its fence stays."""
        return replace(self, owner=None, secret_hash=None, claimed_at=0, lease_until=0, progress=None, progress_at=0)


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
    routed_to: str | None = None  # the pharmacy of the patient's choice
    coordinator: str | None = None  # the nurse's organisation that sees to it for the patient
    shows_holder: bool = False  # whether who claims in vain is told who holds the line
    is_code_with_patient: bool = False  # the patient asked for a code, and asks for the next one too: no paper
    signed: str | None = None  # the canonical JSON that was signed
    jws: str | None = None
    signed_at: str | None = None
    rotated_for: str | None = None  # hash of the claim secret that last changed the access code
    wakes_at: str | None = None  # the hour at which it is looked at by itself (`reminders.py`)
    patient_reminded_until: str | None = None  # the hour up to which the patient was told everything
    others_reminded_until: str | None = None  # and everybody else


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRecord:
    """One claim of one line. `ended` says how its holder ended it; a claim that lapses is left as it is."""

    line: int
    fence: int
    owner: str
    secret_hash: str
    taken_at: int
    ended: str = ""  # given-back | finished | declined
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One entry of a line's ledger, never changed.

    A `supply`; a `reversal` of the entry whose number it `reverses`, with the same quantity; or a `lapse`, an amount
    that nobody may supply any more. `identifier` is the blinded MedicationDispense.identifier.
    """

    line: int
    number: int
    fill_no: int
    quantity: int
    on: date
    at: str
    organisation: str
    dispense_id: str
    identifier: str | None = None
    kind: str = "supply"
    reverses: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request about a line, to its prescriber, and the answer. `kind` is renewal or change, `status` as of its Task.

    `topic` is what a change is about, `proposal` the MedicationRequest that the pharmacy has in mind, as JSON. `draft`
    is the prescription that an approved renewal began; `approved` the canonical JSON that an approved change is signed
    over.
    """

    number: int
    line: int
    kind: str
    status: str  # requested | completed | rejected
    version: int
    asked_at: str
    asked_by: str
    asked_as: str
    topic: str | None = None
    text: str | None = None
    proposal: str | None = None
    answer: str | None = None  # approve | approve-with-changes | deny | clarify
    answered_at: str | None = None
    answered_by: str | None = None
    answer_reason: str | None = None
    answer_text: str | None = None
    draft: str | None = None
    approved: str | None = None
    approved_jws: str | None = None

    @property
    def is_open(self) -> bool:
        return self.status == "requested"


@dataclass(frozen=True, slots=True, kw_only=True)
class LateSupply:
    """A supply that was handed over under a claim that had ended: no entry of the ledger, and never changed."""

    line: int
    number: int
    quantity: int
    at: str
    organisation: str
    dispense_id: str
    issue_id: str
    identifier: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prescription:
    """Everything that is known of one prescription, its history apart."""

    group: Group
    lines: tuple[Line, ...]
    claims: tuple[ClaimRecord, ...] = ()
    ledger: tuple[LedgerEntry, ...] = ()
    asks: tuple[Ask, ...] = ()
    late: tuple[LateSupply, ...] = ()

    def ask(self, number: int) -> Ask | None:
        return next((each for each in self.asks if each.number == number), None)

    @property
    def standing_asks(self) -> tuple[Ask, ...]:
        """Those that wait for an answer, and of each line the newest change that was approved."""
        changes = {each.line: each.number for each in self.asks if each.approved}
        return tuple(each for each in self.asks if each.is_open or each.number in changes.values())

    @property
    def all_supplies(self) -> tuple[LedgerEntry | LateSupply, ...]:
        return (*self.ledger, *self.late)

    def with_ask(self, ask: Ask) -> Prescription:
        return replace(self, asks=(*(each for each in self.asks if each.number != ask.number), ask))

    def line(self, number: int) -> Line | None:
        return next((each for each in self.lines if each.number == number), None)

    def with_line(self, line: Line) -> Prescription:
        return replace(self, lines=tuple(line if each.number == line.number else each for each in self.lines))

    def claims_of(self, number: int) -> tuple[ClaimRecord, ...]:
        return tuple(each for each in self.claims if each.line == number)

    def entries_of(self, number: int) -> tuple[LedgerEntry, ...]:
        return tuple(each for each in self.ledger if each.line == number)

    def supplies_of(self, number: int) -> tuple[LedgerEntry, ...]:
        """What was supplied of a line and stands: no reversal took it back."""
        return standing(self.entries_of(number))


def standing(entries: Sequence[LedgerEntry]) -> tuple[LedgerEntry, ...]:
    """The supplies among the entries of one line that no reversal took back."""
    reversed_ = {each.reverses for each in entries if each.kind == "reversal"}
    return tuple(each for each in entries if each.kind == "supply" and each.number not in reversed_)


# --- what a caller asks for ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLine(Prescribed):
    """A line to prescribe. `doses` are none where the dosage does not say how much is taken in a day."""

    prescriber: str
    authored_on: date
    doses: tuple[Dose, ...]
    quantity: Fraction | None  # of one supply
    repeats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    patient: str
    lines: tuple[OrderLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """An answer to a finding of the clinical checks: why what was found is accepted (`checking.reasons`)."""

    finding: str
    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A detached JWS over the prepared bytes; `signed_on` the Paris day that the signer states.

    `overrides` are those that were prepared, `digest` the cdsDigest (None: that of the check as it is now).
    """

    jws: str
    signed_on: date
    overrides: tuple[Override, ...] = ()
    digest: str | None = None


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
    substitution_reason: str | None = None  # why another product is supplied, or why it is not
    acknowledged: tuple[Override, ...] = ()  # findings that the pharmacist answers for


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where the patient wants a prescription to go; a member that is None is left as it is, "" takes it back."""

    pharmacy: str | None = None
    coordinator: str | None = None
    shows_holder: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a pharmacy does not supply a line; `closes` it for good, or leaves it to others."""

    secret: str
    reason: str
    closes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedChange:
    """What a pharmacy asks of the prescriber; members as of `Ask`."""

    secret: str
    topic: str
    text: str | None = None
    proposal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalAnswer:
    """`orders` are what is prescribed instead of the same again (`approve-with-changes`)."""

    answer: str
    orders: tuple[OrderLine, ...] = ()
    patient: str | None = None  # whom the orders are for
    reason: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeAnswer:
    """`order` is the line as it is to be from now on, and `signed` the signature over it (`approve`)."""

    answer: str
    order: OrderLine | None = None
    signed: Signature | None = None
    reason: str | None = None
    text: str | None = None


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
    resources: tuple[str, ...] = ()  # what else the answer has, as JSON
    checks: str | None = None  # what it shows of the clinical checks, as JSON
    not_checked: tuple[str, ...] = ()  # rules of law that too little was known for
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
            "resources": list(self.resources),
            "checks": self.checks,
            "not_checked": list(self.not_checked),
            "asks": [
                to_map(replace(each, text=None, proposal=None, answer_text=None))
                for each in self.prescription.standing_asks
            ],
        }

    @classmethod
    def from_map(cls, form: Mapping[str, Any]) -> Outcome:
        return cls(
            prescription=Prescription(
                group=from_map(Group, form["group"]),
                lines=tuple(from_map(Line, each) for each in form["lines"]),
                ledger=tuple(from_map(LedgerEntry, each) for each in form["ledger"]),
                asks=tuple(from_map(Ask, each) for each in form.get("asks", ())),
            ),
            lines=tuple(form["concerned"]),
            status=form["status"],
            access_code=form["access_code"],
            secret=form["secret"],
            dispense=form["dispense"],
            resources=tuple(form.get("resources", ())),
            checks=form.get("checks"),
            not_checked=tuple(form.get("not_checked", ())),
            is_replay=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What the prescriber is to sign: canonical JSON, and the protected header of the JWS."""

    group: Group
    content: str
    protected: Mapping[str, Any]
    digest: str
    checks: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A check that was asked for, as JSON; `patient` is whose it is, `group` the prescription if there is one yet."""

    patient: str
    checks: str
    group: Group | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A prescription as one caller may see it, in its effective states; `line` if one was asked for."""

    prescription: Prescription
    line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A page of prescriptions, newest first; `following` is where the next page begins, None at the end."""

    prescriptions: tuple[Prescription, ...]
    following: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The changes of a prescription, oldest first, as one caller may read them.

    Of the `masked` ones, by number, the caller does not learn who made them. `is_unbroken` is what the exchange found
    when it read them; whoever gets them can find out alone.
    """

    group: Group
    events: tuple[HistoryEvent, ...]
    masked: frozenset[int]
    is_unbroken: bool


# --- what is committed --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PrescriptionCreated(Change):
    prescription: Prescription


@dataclass(frozen=True, slots=True, kw_only=True)
class Concern(Change):
    """A prescription comes on the list of an organisation, or leaves it (`worklists.py`)."""

    prescription: str
    organisation: str
    is_concerned: bool


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
class AskChange(Change):
    """A request is made or answered. It needs no condition: the head of the history, which moves with it, has one."""

    prescription: str
    ask: Ask


@dataclass(frozen=True, slots=True, kw_only=True)
class SuppliedLate(Change):
    """A supply beside the ledger; its identifier may be used once by its organisation, as those of supplies."""

    prescription: str
    supply: LateSupply


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEvent(Change):
    """One link of the chain: `hash` is SHA-256 over the previous hash and the event (`history.py`).

    `bound` are the SHA-256 of what else it put in force, by name: `content` (the signed bytes), `dispense` (the
    MedicationDispense as stored).
    """

    prescription: str
    number: int
    operation: str
    at: str
    organisation: str
    professional: str | None
    role: str
    moves: tuple[str, ...]  # `<line>:<from>><to>`, and what no move tells
    bound: Mapping[str, str]
    salt: str
    previous: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeChange(Change):
    """When a prescription is looked at by itself: hours as of `reminders.hour_of`, None for never."""

    prescription: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended(Change):
    """A prescription was looked at by itself, and no line moved: its history stays as it is.

    Holds only while `before` has the newest head of the history, and its hour; else PrescriptionMovedError.
    """

    before: Group
    after: Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Told(Change):
    """The patient is told something about a pharmacy (or none), and is left in peace until the time that it names.

    Holds only if the patient is not in that time already: PausedError. Both times are epoch seconds.
    """

    patient: str
    pharmacy: str | None
    now: int
    until: int


class PausedError(Exception):
    """The patient was told something a moment ago; `until` is in epoch seconds."""

    def __init__(self, until: int) -> None:
        self.until = until
        super().__init__("the patient was told something a moment ago")


class LineMovedError(Exception):
    """A line is not what it was when it was read."""

    def __init__(self, line: Line) -> None:
        self.line = line
        super().__init__("the line has changed")


class PrescriptionMovedError(Exception):
    """Another command of the same prescription was faster."""
