"""The topics that are offered, as data (`data/topics.json`): what each is about, and how it may be narrowed.

HL7 Subscriptions R5 Backport 1.2.0-ballot, on R4: a topic is named by its canonical URL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from passerelle.errors import Unprocessable
from passerelle.events import Event, EventName

TOPIC_ROOT: Final = "https://passerelle.example/SubscriptionTopic/"
"""A topic's canonical URL is this and its name: the same wherever the exchange is deployed."""

FEED: Final = "patient-feed"
"""The topic of subscriptions to the patient feed (ITI-94), which ask for it in other words."""

DECLARED: Final = "event-declared"
"""The topic of subscriptions to declared events, by the guide of the ANS, which ask for it in other words."""

_DATA = Path(__file__).parent / "data" / "topics.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """`types` are those of the resources that its events name; empty: any.

    `happenings` are the turns that a filter may choose from. One that `is_selective` covers nothing but those: what
    else becomes of a resource is no event of it. What `is_urgent` does not wait for quiet hours or a digest to be over.
    """

    name: str
    title: str
    description: str
    events: frozenset[EventName]
    types: frozenset[str] = frozenset()
    happenings: frozenset[str] = frozenset()
    filters: frozenset[str] = frozenset()
    is_selective: bool = False
    is_urgent: bool = False

    @property
    def canonical(self) -> str:
        return f"{TOPIC_ROOT}{self.name}"

    def covers(self, event: Event) -> bool:
        """Whether an event is one of the topic, as far as the event tells: its happenings are read elsewhere."""
        return event.name in self.events and (not self.types or event.reference.partition("/")[0] in self.types)


@cache
def topics() -> Mapping[str, Topic]:
    """All topics, by name."""
    content: Mapping[str, Mapping[str, Any]] = json.loads(_DATA.read_text("utf-8"))
    return {
        name: Topic(
            name=name,
            title=row["title"],
            description=row["description"],
            events=frozenset(map(EventName, row["events"])),
            types=frozenset(row.get("types", ())),
            happenings=frozenset(row.get("happenings", ())),
            filters=frozenset(row["filters"]),
            is_selective=row.get("selective", False),
            is_urgent=row.get("urgent", False),
        )
        for name, row in content.items()
    }


def topic_named(canonical: str) -> str:
    """The name of the topic with this canonical URL; raises Unprocessable (`not-supported`)."""
    name = canonical.removeprefix(TOPIC_ROOT)
    if not canonical.startswith(TOPIC_ROOT) or name not in topics() or name == DECLARED:
        raise Unprocessable("the topic is not offered", code="not-supported", expression="Subscription.criteria")
    return name


def topics_of(event: Event) -> list[str]:
    """The names of the topics that an event may be one of."""
    return [name for name, topic in topics().items() if topic.covers(event)]


def is_urgent(event: Event, topic: str) -> bool:
    """Whether who subscribed to the topic is told at once; what is urgent by itself is so under a wider topic, too."""
    return topics()[topic].is_urgent or topics()[event.name.value].is_urgent
