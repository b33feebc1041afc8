"""Give events to the subscriptions that they concern, each under that subscription's next number.

May run any number of times for one event, at the same time too: the log has each event once. The order of
delivery comes after the log entry; when it is lost, the event comes again from the queue and the order is
repeated.

Events that come together are served together: who they are about, who asked to be told and who may know is read once
for all of them, and one transaction numbers what one subscription is told. All were committed before they came, so
that what is read then cannot be too old for any; whether the subscriber may still know is asked again at delivery.

What narrows comes before what is read: most subscriptions to a topic are left out by the event, and by what the owner
is to the person, without a read of their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import Any, Final

from passerelle.access import Caller
from passerelle.errors import Busy, Unavailable, failure_of
from passerelle.events import Event
from passerelle.notifications.audience import concerns, meets
from passerelle.notifications.insight import Moment
from passerelle.notifications.model import Interest
from passerelle.notifications.ports import Feed, InParallel, NotificationPorts, one_by_one
from passerelle.notifications.topics import is_urgent, topics_of

APPENDED_WITHIN: Final = timedelta(minutes=2)
"""More than a dispatcher runs, and what the clocks of two machines differ by."""

Failures = Mapping[str, Exception]
"""By the id of an event, what kept it from being served."""

_Asked = tuple[Interest, Sequence[Event]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Who is told of some events: each subscription with those that it is told, in their order of time."""

    by_interest: Sequence[_Asked]
    failures: Failures = field(default_factory=dict)


class Dispatcher:
    """`feeds`, by topic, are called when a resource has to be read for a search, and what became of a resource is read
    when a subscription asks for it: few events need either. `in_parallel` serves owners, and subscriptions, at once.
    """

    def __init__(
        self,
        ports: NotificationPorts,
        *,
        feeds: Mapping[str, Callable[[], Feed]],
        in_parallel: InParallel = one_by_one,
    ) -> None:
        self._ports = ports
        self._subscriptions = ports.subscriptions
        self._log = ports.log
        self._deliveries = ports.deliveries
        self._feeds = feeds
        self._in_parallel = in_parallel

    def dispatch(self, events: Iterable[Event], at: datetime) -> Failures:
        """Number the events for each subscription and order its delivery.

        What fails for one event or one subscription does not keep the others from being served. Versions of a resource
        that come together are numbered in their order.
        """
        told = self.told(events, at)
        served = self._at_once(*(partial(self._numbered, interest, some, at) for interest, some in told.by_interest))
        return _joined(told.failures, *served)

    def told(self, events: Iterable[Event], at: datetime) -> Told:
        """For whom the events are to be numbered."""
        moment, once = Moment(self._ports, at), {each.id: each for each in events}
        ordered = sorted(once.values(), key=lambda each: (each.at, each.version))
        unknown = self._met(ordered, moment)
        known = [each for each in ordered if each.id not in unknown]
        asked = self._asked(known, moment)
        judged = self._at_once(*(partial(self._judged, some, moment) for some in asked.values()))
        by_interest = [pair for told, _ in judged for pair in told]
        return Told(by_interest=by_interest, failures=_joined(unknown, *(failures for _, failures in judged)))

    def _met(self, events: Sequence[Event], moment: Moment) -> Failures:
        """Read whom the events are about."""
        first = {each.patient: each for each in reversed(events) if each.patient is not None}
        failures = self._at_once(*(partial(failure_of, moment.person, each) for each in first.values()))
        failed = {patient: failure for patient, failure in zip(first, failures, strict=True) if failure is not None}
        return {each.id: failed[each.patient] for each in events if each.patient in failed}

    def _asked(self, events: Sequence[Event], moment: Moment) -> Mapping[Caller, Sequence[_Asked]]:
        """Subscriptions that asked for these events as far as those tell, by their owners."""
        topics = dict.fromkeys(topic for each in events for topic in topics_of(each))
        people = [moment.person(each) for each in events]
        members = [person.members if person else () for person in people]
        interests = self._subscriptions.interests(topics, list(dict.fromkeys(chain(*members)))) if topics else ()
        asked: dict[Caller, list[_Asked]] = defaultdict(list)
        for interest in interests:
            pairs = zip(events, members, strict=True)
            if some := [each for each, of in pairs if concerns(interest, each, of, moment.at)]:
                asked[interest.owner].append((interest, some))
        return asked

    def _judged(self, asked: Sequence[_Asked], moment: Moment) -> tuple[Sequence[_Asked], Failures]:
        """Which events the subscriptions of one owner asked for, and the owner is to know of."""
        told, failures = [], {}
        for interest, events in asked:
            some = []
            for event in events:
                try:
                    if self._is_told(interest, event, moment):
                        some.append(event)
                except Exception as failure:  # noqa: BLE001 - whatever is wrong with it, the others are served
                    failures[event.id] = failure
            if some:
                told.append((interest, some))
        return told, failures

    def _is_told(self, interest: Interest, event: Event, moment: Moment) -> bool:
        insight = moment.of(interest.owner)
        return (
            insight.is_meant(interest, event)
            and meets(interest, event, partial(moment.turn, event))
            and insight.may_know(event)
            and self._is_found(interest, event, moment)
        )

    def _is_found(self, interest: Interest, event: Event, moment: Moment) -> bool:
        if interest.filter.query is None:
            return True
        person = moment.person(event)
        return person is not None and self._feeds[interest.topic]().meets(interest, event, person)

    def _numbered(self, interest: Interest, events: Sequence[Event], at: datetime) -> Failures:
        """Number the events for one subscription and order what was appended; what kept any of them from it."""
        failure = failure_of(self._number, interest, events, at)
        if failure is None:
            return {}
        if len(events) == 1 or isinstance(failure, (Busy, Unavailable)):
            return dict.fromkeys((each.id for each in events), failure)
        return _joined(*(self._numbered(interest, [each], at) for each in events))  # one of them may be what is wrong

    def _number(self, interest: Interest, events: Sequence[Event], at: datetime) -> None:
        numbers = self._log.append(interest.subscription, events)
        if numbers is not None:
            self._order(interest, events, max(numbers), at)

    def _order(self, interest: Interest, events: Sequence[Event], number: int, at: datetime) -> None:
        """Order what was appended, unless it was delivered already; how far is read after it was appended.

        An order that waits for a time to come looks at the log then, and one more would only wait behind it.
        """
        progress = self._subscriptions.progress(interest.subscription)
        if progress is None or number <= progress.delivered:
            return
        if progress.held_until is None or at + APPENDED_WITHIN >= progress.held_until:
            self._deliveries.order(interest.subscription, progress.delivered)
        if progress.is_paced and any(is_urgent(each, interest.topic) for each in events):
            self._deliveries.order(interest.subscription, progress.delivered, urgent=True)

    def _at_once(self, *calls: Callable[[], Any]) -> tuple[Any, ...]:
        return self._in_parallel(*calls) if calls else ()


def _joined(*failures: Failures) -> Failures:
    """The first of each event."""
    return {id: failure for some in reversed(failures) for id, failure in some.items()}
