"""What the guards of `data/transitions.json` mean: a predicate each, over a line, a moment and a caller.

E-prescription contract, section 6; the texts in the file are the definitions. A guard of an operation that is
not served yet has no predicate here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property

from passerelle.medicines.model import Product
from passerelle.prescriptions import substitution, validity
from passerelle.prescriptions.model import ClaimRecord, LedgerEntry, Line, Prescription
from passerelle.prescriptions.numbers import opens
from passerelle.prescriptions.regulation import (
    Breach,
    Regime,
    gate_breach,
    is_anothers,
    is_in_packs,
    pharmacy_breach,
    regime_of_line,
)
from passerelle.prescriptions.reminders import DRAFT_KEPT
from passerelle.prescriptions.scope import scope_breach
from passerelle.prescriptions.transitions import STATES

CLOSING_REASONS = frozenset({"patient-refused", "prescriber-agreed", "clinical-stop"})
"""Why a pharmacy may close a line for good (contract, section 6.3); for any other reason it only gives it back."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Situation:
    """The facts that guards look at. `now` is in epoch milliseconds, `today` the Paris day.

    `is_patient` tells that the caller is the patient or represents them; `has_valid_signature` is asked only
    when nothing else refuses, as are `born_on` and `covered`: the days of other narcotics prescriptions by the same
    prescriber. `regimes`, by line number, are those of lines that are not signed yet; `supplied` is the product that is
    supplied, as far as it is known. `entry` is the entry of the ledger that is to be taken back.
    """

    prescription: Prescription
    line: Line
    now: int
    today: date
    organisation: str
    professional: str | None = None
    roles: frozenset[str] = frozenset()
    is_patient: bool = False
    code: str | None = None
    recover: bool = False
    override_routing: bool = False
    secret: str | None = None
    quantity: int = 0
    products: tuple[str, ...] = ()
    identifier: str | None = None
    signed_on: date | None = None
    profession: str | None = None
    regimes: Mapping[int, Regime] = field(default_factory=dict)
    supplied: Product | None = None
    supply_reason: str | None = None
    early_days: int = 0
    is_pharmacy_known: bool = False
    reason: str | None = None
    closes: bool = False
    entry: LedgerEntry | None = None
    lease_cap: timedelta = timedelta(days=7)
    withdrawal_window: timedelta = timedelta(hours=72)
    has_valid_signature: Callable[[], bool] = lambda: False
    unanswered: Callable[[], Sequence[str]] = tuple  # findings of the clinical checks that are in the way
    born_on: Callable[[], date | None] = lambda: None
    covered: Callable[[], Sequence[validity.Covered]] = lambda: ()

    def holds(self, guard: str) -> bool:
        return GUARDS[guard](self)

    def breach(self, code: str) -> Breach | None:
        """The rule of law that a refusal with this code rests on."""
        rules = SUPPLY_RULES if self.products else PRESCRIBING_RULES
        return next((found for rule in rules.values() if (found := rule(self)) and found.code == code), None)

    @property
    def regime(self) -> Regime:
        return self.regimes.get(self.line.number) or regime_of_line(self.line)

    @cached_property
    def own_claim(self) -> ClaimRecord | None:
        """The newest claim of the caller on this line that the secret opens."""
        claims = self.prescription.claims_of(self.line.number)
        mine = [c for c in claims if c.owner == self.organisation and opens(self.secret, c.secret_hash)]
        return max(mine, key=lambda claim: claim.fence, default=None)

    @property
    def is_lease_over(self) -> bool:
        return self.line.lease_until < self.now

    @property
    def is_claimed(self) -> bool:
        """A claim that stands in the way of others, until the millisecond in which its lease ends."""
        return self.line.owner is not None and not self.is_lease_over

    @property
    def is_held_by_caller(self) -> bool:
        return self.is_claimed and self.line.owner == self.organisation

    @property
    def is_own_claim_current(self) -> bool:
        claim = self.own_claim
        if claim is None or claim.fence != self.line.fence:
            return False
        return bool(claim.ended) or (self.line.owner == self.organisation and self.line.lease_until > self.now)

    @property
    def is_last_fill(self) -> bool:
        return self.line.fill_no >= self.line.fills or self.line.remaining_total <= self.line.remaining_fill

    @property
    def is_routed_to_caller(self) -> bool:
        return self.prescription.group.routed_to == self.organisation

    @property
    def is_code_right(self) -> bool:
        return opens(self.code, self.prescription.group.code_hash)

    @property
    def is_coordinator(self) -> bool:
        return "coordinator" in self.roles and self.organisation == self.prescription.group.coordinator

    @property
    def is_outside_open_fill(self) -> bool:
        """Whether the entry is neither of the current fill nor, while this one is untouched, of the fill before."""
        assert self.entry is not None
        if self.entry.fill_no == self.line.fill_no:
            return False
        is_untouched = not self.is_claimed and not self._supplied(self.line.fill_no)
        return not (is_untouched and self.entry.fill_no == self.line.fill_no - 1)

    def _supplied(self, fill_no: int) -> list[LedgerEntry]:
        supplies = self.prescription.supplies_of(self.line.number)
        return [each for each in supplies if each.fill_no == fill_no and each != self.entry]

    @property
    def is_fill_empty_after(self) -> bool:
        assert self.entry is not None
        return not self._supplied(self.entry.fill_no)

    @property
    def is_prescriber(self) -> bool:
        return "prescriber" in self.roles and self.organisation == self.prescription.group.practice


def _since(then: str, now: int) -> timedelta:
    return timedelta(milliseconds=now) - (datetime.fromisoformat(then) - _EPOCH)


def _supply_breach(s: Situation) -> Breach | None:
    packs = substitution.packs_of(s.line, s.regime, s.products, s.supplied) if is_in_packs(s.line.unit) else None
    return validity.supply_breach(
        s.prescription, s.line, quantity=s.quantity, packs=packs, today=s.today, early_days=s.early_days
    )


PRESCRIBING_RULES: dict[str, Callable[[Situation], Breach | None]] = {
    "prescriber-scope": lambda s: scope_breach(s.profession, s.regime),
    "narcotics-gate": lambda s: gate_breach(s.line, s.regime),
    "duration-rules": lambda s: validity.duration_breach(s.line, s.regime, s.prescription.group.authored_on),
    "substitution-reason": lambda s: substitution.refusal_breach(
        s.line, s.regime, s.prescription.group.authored_on, s.born_on
    ),
    "pharmacy-named": lambda s: pharmacy_breach(s.line, s.regime),
    "no-overlap": lambda s: validity.overlap_breach(s.line, s.regime, s.prescription.group.authored_on, s.covered),
}
SUPPLY_RULES: dict[str, Callable[[Situation], Breach | None]] = {
    "substitution-ok": lambda s: substitution.supply_breach(s.line, s.regime, s.products, s.supplied, s.supply_reason),
    "supply-within-max": _supply_breach,
}
"""The guards that are rules of law (contract, sections 11 and 12): what of them is broken, and how."""


def _is_kept(rule: Callable[[Situation], Breach | None]) -> Callable[[Situation], bool]:
    return lambda situation: rule(situation) is None


GUARDS: Mapping[str, Callable[[Situation], bool]] = {
    # who claims, who holds
    "claim-free-or-lapsed": lambda s: not s.is_claimed,
    "caller-is-live-owner-new-key": lambda s: s.is_held_by_caller and not s.recover,
    "caller-is-live-owner-recover": lambda s: s.is_held_by_caller and s.recover,
    "other-holds-live-claim": lambda s: s.is_claimed and not s.is_held_by_caller,
    "caller-claim-current": lambda s: s.is_own_claim_current,
    "caller-claim-stale": lambda s: s.own_claim is not None and not s.is_own_claim_current,
    "access-code-or-routed": lambda s: s.is_code_right or s.is_routed_to_caller,
    "routing-allows": lambda s: (
        not is_anothers(s.line, s.organisation)
        and (
            s.prescription.group.routed_to is None or s.is_routed_to_caller or (s.override_routing and s.is_code_right)
        )
    ),
    "secret-known": lambda s: s.own_claim is not None,
    "caller-is-live-owner": lambda s: s.is_held_by_caller,
    "had-claim": lambda s: any(c.owner == s.organisation for c in s.prescription.claims_of(s.line.number)),
    # who asks
    "caller-is-prescriber": lambda s: s.is_prescriber,
    "caller-is-patient": lambda s: s.is_patient,
    "same-prescriber": lambda s: s.is_prescriber and s.professional == s.prescription.group.prescriber,
    "route-role": lambda s: (
        s.is_patient or s.is_coordinator or (s.is_prescriber and STATES[s.line.state].kind == "draft")
    ),
    "own-dispense": lambda s: s.entry is not None and s.entry.organisation == s.organisation,
    # time
    "below-lease-cap": lambda s: timedelta(milliseconds=s.now - s.line.claimed_at) < s.lease_cap,
    "within-window": lambda s: s.entry is not None and _since(s.entry.at, s.now) <= s.withdrawal_window,
    "draft-older-than-7d": lambda s: _since(s.prescription.group.created_at, s.now) > DRAFT_KEPT,
    "lease-over": lambda s: s.is_lease_over,
    "validity-over": lambda s: s.line.expires_on is not None and s.today >= s.line.expires_on,
    "date-reached": lambda s: s.line.not_before is not None and s.today >= s.line.not_before,
    # amounts
    "positive-quantity": lambda s: s.quantity > 0,
    "q-equals-remaining": lambda s: s.quantity == s.line.remaining_fill,
    "q-below-remaining": lambda s: s.quantity < s.line.remaining_fill,
    "q-above-remaining": lambda s: s.quantity > s.line.remaining_fill,
    "last-fill": lambda s: s.is_last_fill,
    "fills-left": lambda s: not s.is_last_fill,
    "entry-outside-open-fill": lambda s: s.is_outside_open_fill,
    "fill-empty-after": lambda s: s.is_fill_empty_after,
    "entry-not-reversed": lambda s: s.entry in s.prescription.supplies_of(s.line.number),
    # what is said
    "pharmacy-known": lambda s: s.is_pharmacy_known,
    "outcome-close": lambda s: s.closes,
    "outcome-release": lambda s: not s.closes,
    "close-reason": lambda s: s.reason in CLOSING_REASONS,
    # what is signed, what is supplied
    "signature-valid": lambda s: s.has_valid_signature(),
    "authored-today": lambda s: s.prescription.group.authored_on == s.today == s.signed_on,
    "dispense-id-new": lambda s: (
        s.identifier is None or s.identifier not in {each.identifier for each in s.prescription.all_supplies}
    ),
    "cds-resolved": lambda s: not s.unanswered(),
    "cds-acknowledged": lambda s: not s.unanswered(),
    **{guard: _is_kept(rule) for guard, rule in (PRESCRIBING_RULES | SUPPLY_RULES).items()},
}
