"""Who subscribed, and the endpoints where they are told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from passerelle.access import Caller
from passerelle.directory.model import Role
from passerelle.events import Event
from passerelle.notifications.model import (
    Content,
    Filter,
    Interest,
    NotificationKind,
    Pace,
    Subscription,
    SubscriptionStatus,
    UndeliveredError,
)
from tests.simulated.neighbours import SCOPES
from tests.simulated.weather import port

if TYPE_CHECKING:
    from tests.simulated.world import World

AT_ONCE: Final = Pace()


@dataclass
class Subscriber:
    """Who subscribed, what it received, and how its endpoint does; `outages` are (from, until, how)."""

    id: str
    topic: str = "anything-changed"
    patient: str | None = None
    pace: Pace = AT_ONCE
    content: Content = Content.ID_ONLY
    origin: str = ""
    client: str = "practice"
    outages: list[tuple[float, float, str]] = field(default_factory=list)
    catches_up: bool = True
    numbers: dict[int, str | None] = field(default_factory=dict)
    arrived: dict[int, float] = field(default_factory=dict)  # when each number came first
    asked: set[int] = field(default_factory=set)  # numbers that came by $events
    heard: list[float] = field(default_factory=list)  # whenever anything came
    news: list[tuple[float, list[int]]] = field(default_factory=list)  # notifications that told something new
    failed: int = 0  # attempts since the last that was acknowledged

    @property
    def endpoint(self) -> str:
        return f"https://{self.origin or self.id}.example/{self.id}"

    def wants(self, event: Event) -> bool:
        is_of_topic = self.topic == "anything-changed" or event.name.value == self.topic
        return is_of_topic and self.patient in (None, event.patient)

    def subscription(self, at: datetime) -> Subscription:
        owner = Caller(client_id=self.client, organisation="1", role=Role.PRACTICE, scopes=SCOPES, token_id="t")
        return Subscription(
            id=self.id,
            version=1,
            at=at,
            status=SubscriptionStatus.REQUESTED,
            interest=Interest(
                subscription=self.id, owner=owner, topic=self.topic, filter=Filter(patient=self.patient), since=at
            ),
            endpoint=self.endpoint,
            headers=(),
            content=self.content,
            secret="s",
            base_url="https://api.example/fhir",
            delivered=0,
            body=b"{}",
            pace=self.pace,
        )

    def take(self, at: float, entries: Iterable[tuple[int, str | None]]) -> list[int]:
        """The numbers that are new."""
        new = []
        for number, event in entries:
            if number not in self.numbers:
                self.numbers[number], self.arrived[number] = event, at
                new.append(number)
        return new


class Endpoints:
    """`notifications.ports.Webhooks`, and the subscribers behind."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.failing: dict[str, float] = {}  # origins, since when nothing was acknowledged there

    @port
    def post(self, endpoint: str, headers: Mapping[str, str], body: bytes) -> None:
        world = self.world
        subscriber = next(each for each in world.subscribers.values() if each.endpoint == endpoint)
        origin, now = endpoint.rpartition("/")[0], world.time.now
        way = self.way(subscriber, now)
        if way != "dead":
            world.sleep(0.05)
        if way in ("taken", "answer lost", "slow"):
            world.witness.received(subscriber, json.loads(body))
        if way in ("answer lost", "slow", "timeout"):
            world.sleep(5.0)
        if way == "taken":
            subscriber.failed = 0
            self.failing.pop(origin, None)
            return
        subscriber.failed += 1
        self.failing.setdefault(origin, now)
        raise UndeliveredError(way, is_answer=way == "status 404")

    def way(self, subscriber: Subscriber, now: float) -> str:
        """What becomes of a notification that is sent now."""
        chance = self.world.chance
        for start, end, how in subscriber.outages:
            if start <= now < end:
                return how
        if chance.random() >= self.world.weather.refused:
            return "taken"
        return chance.choice(["status 503", "status 404", "timeout", "answer lost", "slow", "dead"])


def render(subscription: Subscription, kind: NotificationKind, entries: Any, total: int, at: datetime) -> bytes:
    told = [[each.number, each.event.id if each.event else None] for each in entries]
    return json.dumps([kind, total, told]).encode()
