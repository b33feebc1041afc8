"""What the guards of `data/transitions.json` mean: a predicate each, over a line, a moment and a caller.

E-prescription contract, section 6; the texts in the file are the definitions. A guard of an operation that is
not served yet has no predicate here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property

from passerelle.prescriptions.model import ClaimRecord, Line, Prescription
from passerelle.prescriptions.numbers import opens


@dataclass(frozen=True, kw_only=True)
class Situation:
    """The facts that guards look at. `now` is in epoch milliseconds, `today` the Paris day.

    `is_patient` tells that the caller is the patient or represents them; `has_valid_signature` is asked only
    when nothing else refuses.
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
    has_valid_signature: Callable[[], bool] = lambda: False

    def holds(self, guard: str) -> bool:
        return GUARDS[guard](self)

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
    def is_prescriber(self) -> bool:
        return "prescriber" in self.roles and self.organisation == self.prescription.group.practice


def _not_checked(_: Situation) -> bool:
    """Clinical checks and prescriber scope are not built: the signed bytes say so (`cdsDigest`)."""
    return True


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
        s.prescription.group.routed_to is None or s.is_routed_to_caller or (s.override_routing and s.is_code_right)
    ),
    "secret-known": lambda s: s.own_claim is not None,
    # who asks
    "caller-is-prescriber": lambda s: s.is_prescriber,
    "caller-is-patient": lambda s: s.is_patient,
    "same-prescriber": lambda s: s.is_prescriber and s.professional == s.prescription.group.prescriber,
    # time
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
    # what is signed, what is supplied
    "signature-valid": lambda s: s.has_valid_signature(),
    "authored-today": lambda s: s.prescription.group.authored_on == s.today == s.signed_on,
    "narcotics-gate": lambda s: s.line.is_declared_ordinary and not s.line.is_marked_secure,
    "dispense-id-new": lambda s: (
        s.identifier is None or all(each.identifier != s.identifier for each in s.prescription.ledger)
    ),
    "substitution-ok": lambda s: s.line.is_substitutable or s.line.product in s.products,
    "cds-resolved": _not_checked,
    "cds-acknowledged": _not_checked,
    "prescriber-scope": _not_checked,
}
