"""What notifications ask the rest of the exchange: clients, people, what is hidden from whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

from passerelle.access import Caller, Scopes
from passerelle.authorization.model import Client
from passerelle.authorization.ports import Known
from passerelle.consents.decision import Admission, Implicit, Standing
from passerelle.consents.model import RecordStatus
from passerelle.directory.model import Role
from passerelle.events import Event
from passerelle.notifications.model import (
    Turn,
)
from tests.people import person_of
from tests.simulated.weather import port

if TYPE_CHECKING:
    from tests.simulated.world import World

PATIENTS: Final = ("7q2k9c4m1xw8z0ab", "0123456789abcdef", "zyxwvtsrqpnmkjhg")
SCOPES: Final = Scopes.parse("system/Subscription.crd system/DocumentReference.rs system/Observation.rs system/Task.rs")


class Neighbours:
    """Clients, people, what is hidden from whom, what became of resources, and what they are."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.people = {each: person_of(each) for each in PATIENTS}
        self.left: dict[str, float] = {}  # when clients were deactivated
        self.hidden: dict[str, float] = {}  # from when references are hidden

    @port
    def look_up(self, client_id: str, *, parties: Any = ()) -> Known:
        client = Client(
            id=client_id,
            organisation="1",
            role=Role.PRACTICE,
            scopes=SCOPES,
            jwks=(),
            active=self.world.time.now < self.left.get(client_id, float("inf")),
        )
        return Known(client=client)

    @port
    def find_person(self, patient: str) -> Any:
        return self.people.get(patient)

    @port
    def hidden_from(self, caller: Caller, person: Any, at: datetime) -> Callable[[str], bool]:
        read: list[set[str]] = []

        def is_hidden(reference: str) -> bool:
            if not read:
                read.append(self.restrictions())
            return reference in read[0]

        return is_hidden

    @port
    def restrictions(self) -> set[str]:
        return {reference for reference, since in self.hidden.items() if self.world.time.now >= since}

    def admission(self, caller: Caller, person: Any, at: datetime) -> tuple[Admission, Standing]:
        facts = Standing(role=caller.role, status=RecordStatus.OPEN, implicit=Implicit.BASIC_NORMAL, is_attending=True)
        return cast(Admission, None), facts

    def of(self, event: Event) -> Turn:
        return Turn()

    @port
    def body(self, owner: Caller, event: Event, person: Any, at: datetime) -> bytes | None:
        if event.id in self.world.poisonous:
            raise KeyError("code")
        return event.id.encode()

    @port
    def append(self, records: Sequence[Any]) -> None:
        self.world.disclosed.update(each.references[0] for each in records)
