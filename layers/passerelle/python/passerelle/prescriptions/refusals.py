"""The error of a refused line, with the facts its answer carries (e-prescription contract, section 7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from passerelle.errors import PasserelleError
from passerelle.prescriptions import validity
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.guards import Situation
from passerelle.prescriptions.quantities import decimal_of
from passerelle.prescriptions.transitions import STATES

_RULES_OF_LAW = {
    "RX-VALIDITY",
    "RX-SUBSTITUTION",
    "RX-MAX-SUPPLY",
    "RX-OVERLAP",
    "RX-PHARMACY-REQUIRED",
    "RX-PRESCRIBER-SCOPE",
}


def refusal(code: str, state: str, situation: Situation, *, allowed: str, version: int) -> PasserelleError:
    """`state` is the effective one, `allowed` the operations in it. A holder is named if the patient agreed to that."""
    line = situation.line
    match code:
        case "RX-STATE":
            return rx(code, state=STATES[state].name, allowed=allowed)
        case "RX-CLAIMED-BY-OTHER" | "RX-ALREADY-YOURS":
            holder = line.owner if situation.prescription.group.shows_holder else None
            until = datetime.fromtimestamp(line.lease_until / 1000, UTC).isoformat()
            return rx(code, leaseUntil=until, holder=holder)
        case "RX-LEASE-LOST":
            return rx(code, fence=line.fence, instead="$report-late-supply")
        case "RX-CANCEL-PENDING" | "RX-CANCELLED":
            return rx(code, by=line.cancelled_by, at=line.cancelled_at)
        case "RX-EXPIRED":
            last = line.expires_on - timedelta(days=1) if line.expires_on else None
            return rx(code, rule=_limit(situation).rule, lastValidDay=last)
        case "RX-TOO-EARLY":
            return rx(code, date=line.not_before)
        case "RX-QUANTITY":
            return rx(code, remaining=f"{decimal_of(line.remaining_fill):f}")
        case _ if code in _RULES_OF_LAW:
            breach = situation.breach(code)
            facts = dict(breach.facts) if breach else {"rule": _limit(situation).rule}
            return rx(code, **facts, line=line.number)
        case "RX-WITHDRAW-WINDOW" if situation.entry is not None:
            end = datetime.fromisoformat(situation.entry.at) + situation.withdrawal_window
            return rx(code, endOfWindow=end.isoformat())
        case "RX-DUPLICATE":
            same = [each for each in situation.prescription.ledger if each.identifier == situation.identifier]
            return rx(code, reference=f"MedicationDispense/{same[0].dispense_id}" if same else None)
        case "RX-CDS-STOP":
            return rx(code, findings=",".join(situation.unanswered()))
        case "RX-VERSION":
            return rx(code, etag=f'W/"{version}"')
        case _:
            return rx(code)


def _limit(situation: Situation) -> validity.Limit:
    entries = situation.prescription.entries_of(situation.line.number)
    return validity.limit_of(situation.line, situation.prescription.group.authored_on, entries)
