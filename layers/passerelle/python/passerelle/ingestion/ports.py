"""What ingestion needs of the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from passerelle.access import Request
from passerelle.ingestion.model import Applied, Conversion, Inbound, Position, Status
from passerelle.journal import Change
from passerelle.patients.model import Identifier


class Inbox(Protocol):
    def find(self, id: str, *, at: datetime) -> Inbound | None:
        """What stands at that time: an applied message is forgotten after a while."""

    def receive(self, inbound: Inbound, original: bytes) -> Inbound:
        """Make a message durable, bytes and all; the one that stands, if there is one under its id."""

    def original(self, inbound: Inbound) -> bytes | None:
        """The bytes of a message that is not applied; None where its sender stopped before all were stored."""

    def settle(self, inbound: Inbound) -> Inbound:
        """Store what became of a message, as `model.Settled` does; the one that stands, if it was applied meanwhile."""

    def discard(self, inbound: Inbound) -> Inbound | None:
        """Keep nothing of a message that is not applied; the one that stands, if it was applied meanwhile."""

    def waiting(self, client_id: str, status: Status | None, *, after: str, limit: int) -> tuple[list[Inbound], str]:
        """Messages of a client that are not applied, the oldest first, and where to go on (empty: that was all)."""


class Positions(Protocol):
    def find(self, names: Collection[str]) -> Mapping[str, Position]:
        """The positions (`model.Advance`) by name; nothing for what nobody told of."""


Beside = Callable[[Applied], Sequence[Change]]
"""What is part of a commit, by what that will come to: `is_settled` if there is nothing left to look up after it."""


class Exchange(Protocol):
    """The commands of the exchange that a conversion comes to."""

    def authorise(self, request: Request, conversion: Conversion) -> None:
        """Raises Forbidden where the caller's scopes do not cover everything in it; Invalid where it is no Bundle."""

    def apply(self, request: Request, conversion: Conversion, passed_over: Collection[str], beside: Beside) -> Applied:
        """Make the transaction without the entries of these full URLs.

        What a document that it replaces stated alone, and the new one does not state, is withdrawn in the same commit.
        Raises OvertakenError, else what the transaction raises.
        """

    def withdraw(self, request: Request, document: Identifier) -> Applied:
        """Mark a document as entered in error, as its producer may, and what it stated alone. NotFound for none."""

    def merge(self, request: Request, replaced: Identifier, survivor: Identifier) -> str:
        """Say that one source record of the caller's is replaced by another; the reference to its version."""
