"""Tells the bus that a record was read, where somebody asked to be told (topic `record-accessed`).

It follows the log of accesses, and not what reads: nothing is announced that is not in the log, and a read waits for
nobody. Most records have no subscription of this kind: those are looked up, and no event comes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from passerelle.audit.history import is_disclosure
from passerelle.directory.model import Role
from passerelle.events import Event, EventName
from passerelle.notifications.audience import OWN_ROLES
from passerelle.notifications.ports import EventBus, People, Subscriptions

_SUCCESS: Final = "0"
_TOLD: Final = frozenset({"$events", "$status"})  # which resources changed, as a notification tells it
_LOG: Final = frozenset({"$access-history", "$explain", "$proof"})


class AccessHerald:
    """Serves one batch: whether anybody waits for the accesses to a record is read once for all of them."""

    def __init__(self, *, subscriptions: Subscriptions, people: People, bus: EventBus) -> None:
        self._subscriptions = subscriptions
        self._people = people
        self._bus = bus
        self._awaited: dict[str, bool] = {}

    def announce(self, record: Mapping[str, Any]) -> None:
        """Put an access on the bus if it is one by somebody else, to a record whose accesses are waited for.

        `record` is an audit record as it is kept, of which what is sealed is not read. May run again for the same
        record: the event has the same id. Raises Unavailable if the bus did not take it.
        """
        patient = record.get("patient")
        if patient is not None and _is_by_another(record) and self._is_awaited(patient):
            event = Event(
                name=EventName.RECORD_ACCESSED,
                reference=f"AuditEvent/{record['id']}",
                version=1,
                at=datetime.fromisoformat(record["at"]),
                author=record["client_id"],
                patient=patient,
            )
            self._bus.publish([event])

    def _is_awaited(self, patient: str) -> bool:
        if patient not in self._awaited:
            person = self._people.find_person(patient)
            topic = EventName.RECORD_ACCESSED.value
            self._awaited[patient] = (
                person is not None and not person.is_erased and self._subscriptions.is_awaited(topic, person.members)
            )
        return self._awaited[patient]


def _is_by_another(record: Mapping[str, Any]) -> bool:
    """Whether something of the record was disclosed to somebody other than the patient: a proxy is somebody else.

    That what acts for the patient reads of accesses is no access: two that are told of each other's, and look at what
    they are told, would never be done.
    """
    if record["outcome"] != _SUCCESS or record["name"] in _TOLD or not is_disclosure(record["name"], record["action"]):
        return False
    kinds = {each.partition("/")[0] for each in record.get("references", ())}
    if record["role"] not in OWN_ROLES:
        return not kinds or not kinds <= {"Subscription"}
    is_own = record["role"] == Role.PATIENT and "person" not in record
    is_log = record["name"] in _LOG or (bool(kinds) and kinds <= {"AuditEvent", "Subscription"})
    return not is_own and not is_log
