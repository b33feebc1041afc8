"""The error of a refused line, with the facts its answer carries (e-prescription contract, section 7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from passerelle.errors import PasserelleError
from passerelle.prescriptions import validity
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.guards import Situation
from passerelle.prescriptions.quantities import decimal_of
from passerelle.prescriptions.transitions import STATES


def refusal(code: str, state: str, situation: Situation, *, allowed: str, version: int) -> PasserelleError:
    """`state` is the effective one, `allowed` the operations in it. The holder of a claim is never named."""
    line = situation.line
    match code:
        case "RX-STATE":
            return rx(code, state=STATES[state].name, allowed=allowed)
        case "RX-CLAIMED-BY-OTHER" | "RX-ALREADY-YOURS":
            return rx(code, leaseUntil=datetime.fromtimestamp(line.lease_until / 1000, UTC).isoformat())
        case "RX-LEASE-LOST":
            return rx(code, fence=line.fence)
        case "RX-CANCEL-PENDING" | "RX-CANCELLED":
            return rx(code, by=line.cancelled_by, at=line.cancelled_at)
        case "RX-EXPIRED":
            is_supplied = bool(situation.prescription.supplies_of(line.number))
            rule = validity.TREATMENT_RULE if is_supplied else validity.FIRST_SUPPLY_RULE
            return rx(code, rule=rule, lastValidDay=line.expires_on and line.expires_on - timedelta(days=1))
        case "RX-TOO-EARLY":
            return rx(code, date=line.not_before)
        case "RX-QUANTITY":
            return rx(code, remaining=f"{decimal_of(line.remaining_fill):f}")
        case "RX-VALIDITY":
            return rx(code, rule=validity.NARCOTICS_RULE)
        case "RX-VERSION":
            return rx(code, etag=f'W/"{version}"')
        case _:
            return rx(code)
