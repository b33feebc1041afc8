"""Whose mailbox or telephone is it? The handshake of such a subscription is a letter with a code.

Whoever reads the letter gives the code to the application that subscribed, and that gives it back by `$confirm`: only
then is the subscription active. There is no link to follow, because programs that look at mail follow links. Nothing of
the code is kept: it is made of a secret of the exchange, the address, and the version of the subscription that asked.

Per subscription, per address and per owner only so many handshakes are sent, and per handshake so many codes are tried
(`allowance.py`): who mistypes a number troubles its holder three times at most.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from passerelle.access import Request, Touched
from passerelle.audit.commands import account_of, once
from passerelle.errors import Conflict, Unprocessable
from passerelle.journal import Journal
from passerelle.notifications.allowance import Allowances, limits, next_day
from passerelle.notifications.model import (
    CONFIRMED,
    LOG_KEPT,
    Subscription,
    SubscriptionRevision,
    SubscriptionStatus,
    UndeliveredError,
)
from passerelle.notifications.ports import NotificationPorts

_DIGITS: Final = 8

Blind = Callable[[str, str], str]
"""A keyed hash, in hexadecimal, of a value in a namespace (`identifiers.Blinder.blind`)."""


class Confirmations:
    """Makes and checks codes. `blind` is asked for when one is needed."""

    def __init__(self, blind: Blind, allowances: Allowances) -> None:
        self._blind = blind
        self._allowances = allowances

    def begin(self, subscription: Subscription, at: datetime) -> str | None:
        """The code to send for this handshake; None if it was sent. Raises UndeliveredError if there were enough.

        Counted before it is sent: a letter that was lost is asked for again by its owner, none is sent twice.
        """
        most, day, forgotten = limits(), next_day(at), at + LOG_KEPT
        owner = subscription.interest.owner
        if not self._allowances.take(f"handshake|{subscription.id}|{subscription.version}", 1, until=forgotten):
            return None
        allowances = (
            (f"handshakes|{subscription.id}", most["handshakes_of_a_subscription"], forgotten),
            (f"address|{subscription.endpoint.lower()}|{day}", most["handshakes_to_an_address_a_day"], day),
            (f"owner|{owner.client_id}|{owner.patient}|{day}", most["handshakes_of_an_owner_a_day"], day),
        )
        if not all(self._allowances.take(name, number, until=until) for name, number, until in allowances):
            raise UndeliveredError("it was asked too often", is_final=True, is_answer=True)
        return self._code(subscription)

    def is_right(self, subscription: Subscription, code: str, at: datetime) -> bool:
        """Raises Conflict when too many codes were tried since it was last started."""
        most, day, owner = limits(), next_day(at), subscription.interest.owner
        allowances = (
            (f"code|{subscription.id}|{subscription.version}", most["codes_tried"], at + LOG_KEPT),
            # Who starts again and again, or subscribes anew, gets no more letters, and no more guesses.
            (f"codes|{owner.client_id}|{owner.patient}|{day}", most["codes_tried_by_an_owner_a_day"], day),
        )
        if not all(self._allowances.take(name, number, until=until) for name, number, until in allowances):
            raise Conflict("too many codes were tried: start the subscription again, for another letter")
        return code.isascii() and hmac.compare_digest(code, self._code(subscription))

    def _code(self, subscription: Subscription) -> str:
        said = f"{subscription.id}|{subscription.version}|{subscription.endpoint}"
        return f"{int(self._blind('confirmation', said), 16) % 10**_DIGITS:0{_DIGITS}}"


class ConfirmationService:
    """`find` gives the caller's own subscription and raises NotFound for any other (`SubscriptionService.get`)."""

    def __init__(
        self,
        ports: NotificationPorts,
        *,
        journal: Journal,
        confirmations: Confirmations,
        find: Callable[[Request, str], Subscription],
    ) -> None:
        self._deliveries = ports.deliveries
        self._journal = journal
        self._confirmations = confirmations
        self._find = find

    def confirm(self, request: Request, id: str, code: str) -> Subscription:
        """Make the caller's own subscription active, if the code is that of the letter that was sent last.

        Raises Conflict if it awaits no code, or too many were tried; Unprocessable for another code.
        """
        subscription = once(
            self._journal, request, lambda: self._confirm(request, id, code), lambda kept: self._find(request, id)
        )
        self._deliveries.start(id, subscription.version)
        return subscription

    def _confirm(self, request: Request, id: str, code: str) -> Subscription:
        before = self._find(request, id)
        if before.channel not in CONFIRMED or before.status is not SubscriptionStatus.REQUESTED:
            raise Conflict("the subscription does not await a code")
        if not self._confirmations.is_right(before, code, request.at):
            raise Unprocessable(
                "not the code of the last letter", code="value", expression="Parameters.parameter.where(name='code')"
            )
        after = replace(before, status=SubscriptionStatus.ACTIVE, version=before.version + 1, at=request.at, error="")
        patient = before.interest.filter.patient
        touched = Touched.of([patient] if patient else [], [before.reference])
        self._journal.commit(
            [SubscriptionRevision(before=before, after=after), *account_of(request, touched, {"id": id})]
        )
        return after
