"""The simulation of notifications in small, with the real adapters: what comes again, fails, and ends in the middle."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from passerelle.errors import Unavailable
from passerelle.events import Event
from passerelle.notifications.model import SubscriptionCreation, UndeliveredError
from tests.notified import Exchange, event, exchange_on_moto, subscription

EVENTS = 6
NAMES = ("one", "other")


class Unreliable:
    """A port of which some calls fail, before or after they took effect."""

    def __init__(self, port: Any, chance: Random, share: float) -> None:
        self._port, self._chance, self._share = port, chance, share

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._port, name)
        if not callable(call):
            return call

        def called(*args: Any, **given: Any) -> Any:
            if self._chance.random() < self._share:
                raise Unavailable
            result = call(*args, **given)
            if self._chance.random() < self._share:
                raise Unavailable
            return result

        return called


def post(exchange: Exchange, chance: Random) -> Any:
    """Every fifth notification is refused, and of some that were stored the answer is lost."""
    reliable = exchange.network.post

    def posted(endpoint: str, headers: Any, body: bytes) -> None:
        if chance.random() < 0.2:
            raise UndeliveredError("status 503")
        reliable(endpoint, headers, body)
        if chance.random() < 0.1:
            raise UndeliveredError("timeout")

    return posted


def dispatch(exchange: Exchange, event: Event) -> None:
    """As often as the queue brings it."""
    for _ in range(30):
        try:
            exchange.dispatch(event, exchange.at)
        except Unavailable:
            continue
        return
    raise AssertionError("the event is in the dead-letter queue")


@pytest.mark.parametrize("seed", range(3))
def test_each_ends_with_every_event_once_and_in_the_order_of_its_numbers(seed: int) -> None:
    """Contract row SUB-5."""
    chance = Random(seed)
    with exchange_on_moto() as exchange:
        for name in NAMES:
            exchange.store(SubscriptionCreation(subscription=subscription(name)))
        exchange.network.post = post(exchange, chance)  # type: ignore[method-assign]
        log = exchange.log
        for port in ("log", "subscriptions"):
            setattr(exchange, port, Unreliable(getattr(exchange, port), chance, 0.02))
        coming = [event(version) for version in [*range(1, EVENTS + 1)] * 2]
        chance.shuffle(coming)
        for each in coming:
            dispatch(exchange, each)
            if chance.random() < 0.5:
                exchange.step()
        exchange.run()
        for name in NAMES:
            first = list(dict.fromkeys(exchange.ids(name)))
            assert first == [f"{name}.{number}" for number in range(1, EVENTS + 1)]
            told = [each.event.version for each in log.beyond(name, 0) if each.event]
            assert sorted(told) == list(range(1, EVENTS + 1))
