"""What each operation makes of a line: pure, from the line as stored to the line after.

E-prescription contract, sections 6, 8 and 10. The next state is the table's; here is what follows from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import timedelta
from fractions import Fraction

from passerelle.prescriptions import validity
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import ClaimRecord, Group, LedgerEntry, Line, OrderLine, Prescribed, standing
from passerelle.prescriptions.quantities import authorised, daily_units, decimal_of, fill_units, is_even, next_allowed
from passerelle.prescriptions.regulation import Regime
from passerelle.prescriptions.transitions import INITIAL, STATES

_SUPPLY = "MedicationRequest.dispenseRequest"
_AMOUNTS = ("fills", "per_fill", "total", "units_per_day", "fill_units", "regime")  # what follows from an order


def drafted(number: int, order: OrderLine, request_id: str) -> Line:
    """A new line; raises RX-INVALID when its amounts cannot be known."""
    per_day = daily_units(order.doses, order.duration_days)
    units = fill_units(per_day, order.duration_days, order.quantity)
    if order.repeats and order.quantity is None and not is_even(order.doses, _supplied_days(order)):
        raise _unknown("repeats of a dosage that changes or ends before them need a quantity")
    if units <= 0:
        raise rx("RX-INVALID", "the quantity of a fill must be above zero", issue="value", expression=_SUPPLY)
    if not per_day and order.duration_days:
        per_day = units / order.duration_days
    if order.repeats and not per_day:
        raise _unknown("repeats need a dosage, or the duration of each supply")
    amount = authorised(units, order.repeats)
    return Line(
        **{each.name: getattr(order, each.name) for each in fields(Prescribed)},
        number=number,
        state=INITIAL,
        version=1,
        request_id=request_id,
        request_version=0,
        fills=amount.fills,
        per_fill=amount.per_fill,
        total=amount.total,
        units_per_day=str(per_day) if per_day else None,
        fill_units=str(units),
    )


def _unknown(diagnostics: str) -> Exception:
    return rx("RX-INVALID", diagnostics, issue="required", expression=_SUPPLY)


def _supplied_days(order: OrderLine) -> Fraction | None:
    """The days that all its supplies are for."""
    return order.duration_days * (1 + order.repeats) if order.duration_days is not None else None


def regulated(line: Line, regime: Regime) -> Line:
    """The line under its regime: amounts in whole packs where it is supplied in packs."""
    if line.fill_units is None:
        return replace(line, regime=regime.to_json())
    amount = authorised(Fraction(line.fill_units), line.fills - 1, regime.units_per_pack(line.unit))
    return replace(line, regime=regime.to_json(), per_fill=amount.per_fill, total=amount.total)


def activated(group: Group, line: Line, state: str, regime: Regime) -> Line:
    line = regulated(line, regime)
    after = replace(
        line,
        state=state,
        version=line.version + 1,
        fill_no=1,
        remaining_fill=min(line.per_fill, line.total),
        remaining_total=line.total,
        not_before=group.authored_on,
    )
    return replace(after, expires_on=validity.limit_of(after, group.authored_on).on)


def amended(group: Group, line: Line, order: OrderLine, regime: Regime, entries: Sequence[LedgerEntry]) -> Line:
    """The line in force as another order has it; raises RX-QUANTITY if the ledger counts in other amounts."""
    new = regulated(drafted(line.number, order, line.request_id), regime)
    drawn = {each.name: getattr(new, each.name) for each in fields(Prescribed)}
    drawn |= {name: getattr(new, name) for name in _AMOUNTS}
    after = replace(line, **drawn, version=line.version + 1)
    if (new.fills, new.per_fill, new.total, new.unit) != (line.fills, line.per_fill, line.total, line.unit):
        if entries:
            remaining = f"{decimal_of(line.remaining_fill):f}"
            raise rx("RX-QUANTITY", "amounts do not change once something was supplied", remaining=remaining)
        after = replace(after, remaining_fill=min(new.per_fill, new.total), remaining_total=new.total)
    return replace(after, expires_on=validity.limit_of(after, group.authored_on, entries).on)


def lapsed(line: Line, amount: int) -> Line:
    """The line with so much less to supply, in millionths, because it is presented late."""
    return replace(line, remaining_fill=line.remaining_fill - amount, remaining_total=line.remaining_total - amount)


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


def extended(line: Line, state: str, until: int, progress: str, now: int) -> Line:
    """The claim until later, never until earlier than it was; times are in epoch milliseconds."""
    since = line.progress_at if line.progress == progress else now
    after = replace(line, state=state, version=line.version + 1, progress=progress, progress_at=since)
    return replace(after, lease_until=max(line.lease_until, until))


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
    )
    after = replace(after, expires_on=validity.limit_of(after, group.authored_on, supplies).on)
    return _next_fill(after, supplies, early_days) if STATES[state].kind == "open" else after


def withdrawn(
    group: Group, line: Line, state: str, entry: LedgerEntry, entries: Sequence[LedgerEntry], early_days: int
) -> Line:
    """The line after an entry was taken back; `entries` are all of its ledger. Its fill is the current one again."""
    held = line if STATES[state].kind == "claimed" else line.released()
    remaining = line.remaining_fill if entry.fill_no == line.fill_no else 0  # a fill is left when nothing remains
    earlier = [(each.on, each.quantity) for each in standing(entries) if each.fill_no < entry.fill_no]
    per_day = line.per_day
    after = replace(
        held,
        state=state,
        version=line.version + 1,
        fill_no=entry.fill_no,
        remaining_fill=remaining + entry.quantity,
        remaining_total=line.remaining_total + entry.quantity,
        not_before=next_allowed(earlier, per_day, early_days) if earlier and per_day else group.authored_on,
    )
    return replace(after, expires_on=validity.limit_of(after, group.authored_on, entries).on)


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
