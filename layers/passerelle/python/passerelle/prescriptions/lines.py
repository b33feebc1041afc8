"""What each operation makes of a line: pure, from the line as stored to the line after.

E-prescription contract, sections 6, 8 and 10. The next state is the table's; here is what follows from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from passerelle.prescriptions import validity
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import ClaimRecord, Group, LedgerEntry, Line, OrderLine
from passerelle.prescriptions.quantities import authorised, fill_units, next_allowed, units_per_day
from passerelle.prescriptions.transitions import INITIAL, STATES


def drafted(number: int, order: OrderLine, request_id: str) -> Line:
    """A new line; raises RX-INVALID when its amounts cannot be known."""
    per_day = units_per_day(order.doses) or order.max_per_day
    units = fill_units(per_day, order.duration_days, order.quantity)
    if units <= 0:
        raise rx("RX-INVALID", "the quantity of a fill must be above zero", issue="value")
    if not per_day and order.duration_days:
        per_day = units / order.duration_days
    if order.repeats and not per_day:
        raise rx("RX-INVALID", "repeats need a dosage, or the duration of each supply", issue="required")
    amount = authorised(units, order.repeats)
    return Line(
        number=number,
        state=INITIAL,
        version=1,
        request_id=request_id,
        request=order.request,
        request_version=0,
        product=order.product,
        unit=order.unit,
        is_substitutable=order.is_substitutable,
        is_declared_ordinary=order.is_declared_ordinary,
        is_marked_secure=order.is_marked_secure,
        fills=amount.fills,
        per_fill=amount.per_fill,
        total=amount.total,
        units_per_day=str(per_day) if per_day else None,
        valid_until=order.valid_until,
    )


def activated(group: Group, line: Line, state: str) -> Line:
    return replace(
        line,
        state=state,
        version=line.version + 1,
        fill_no=1,
        remaining_fill=min(line.per_fill, line.total),
        remaining_total=line.total,
        not_before=group.authored_on,
        expires_on=validity.expires_on(group.authored_on, valid_until=line.valid_until, is_supplied=False),
    )


def claimed(line: Line, state: str, claim: ClaimRecord, lease: timedelta) -> Line:
    """The line under a new claim; a recovery by its live holder keeps the start and the end of the lease."""
    after = replace(
        line,
        state=state,
        version=line.version + 1,
        owner=claim.owner,
        secret_hash=claim.secret_hash,
        fence=claim.fence,
    )
    if is_recovery(line, claim):
        return after
    lease_until = claim.taken_at + lease // timedelta(milliseconds=1)
    return replace(after, claimed_at=claim.taken_at, lease_until=lease_until)


def is_recovery(line: Line, claim: ClaimRecord) -> bool:
    return line.owner == claim.owner and line.lease_until >= claim.taken_at


def given_back(line: Line, state: str) -> Line:
    return replace(line.released(), state=state, version=line.version + 1)


def cancelled(line: Line, state: str, *, by: str, at: str, reason: str) -> Line:
    """The line cancelled, or marked for it while it is held; a mark that is there already stays."""
    ended = line.released() if STATES[state].kind == "terminal" else line
    after = replace(ended, state=state, version=line.version + 1)
    if line.cancel_requested:
        return after
    return replace(after, cancel_requested=True, cancelled_by=by, cancelled_at=at, cancel_reason=reason)


def supplied(group: Group, line: Line, state: str, supplies: Sequence[LedgerEntry], early_days: int) -> Line:
    """The line after the newest of its supplies; a complete fill ends the claim and may open the next."""
    quantity = supplies[-1].quantity
    is_complete = quantity == line.remaining_fill
    after = replace(
        line.released() if is_complete else line,
        state=state,
        version=line.version + 1,
        remaining_fill=line.remaining_fill - quantity,
        remaining_total=line.remaining_total - quantity,
        expires_on=validity.expires_on(group.authored_on, valid_until=line.valid_until, is_supplied=True),
    )
    return _next_fill(after, supplies, early_days) if STATES[state].kind == "open" else after


def _next_fill(line: Line, supplies: Sequence[LedgerEntry], early_days: int) -> Line:
    """QA-TOTAL and QA-NEXT. A line with repeats knows its units per day (`drafted`)."""
    assert line.per_day is not None
    handed_over = [(each.on, each.quantity) for each in supplies]
    return replace(
        line,
        fill_no=line.fill_no + 1,
        remaining_fill=min(line.per_fill, line.remaining_total),
        not_before=next_allowed(handed_over, line.per_day, early_days),
    )
