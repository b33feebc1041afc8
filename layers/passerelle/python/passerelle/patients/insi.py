"""The national identity service (INSi téléservice): asked with traits, it answers with who has them.

The port, and an implementation for development that answers from a file of people who do not exist. The real service
wants the card or the structure certificate of whoever asks: an adapter of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from passerelle.errors import Unavailable
from passerelle.patients.identity import same_strict_traits
from passerelle.patients.model import Identifier, Traits


@dataclass(frozen=True, slots=True, kw_only=True)
class NationalIdentity:
    """An identity as the national service knows it. `traits` are strict traits only."""

    identifier: Identifier
    traits: Traits


class NationalIdentityService(Protocol):
    def search(self, traits: Traits) -> Sequence[NationalIdentity]:
        """Who has these strict traits: nobody, one, or several; raises Unavailable when the service does not answer.

        What it gives may differ from what was asked, in spelling or more: the caller compares.
        """


class LocalIdentities:
    """People who do not exist, for development. `sought` is what a person is found by, if not by the own traits."""

    def __init__(self, entries: Sequence[tuple[Traits, NationalIdentity]]) -> None:
        self._entries = entries

    def search(self, traits: Traits) -> Sequence[NationalIdentity]:
        return [identity for sought, identity in self._entries if same_strict_traits(traits, sought)]


class NotConnected:
    """Where no national service is connected, nobody is qualified."""

    def search(self, traits: Traits) -> Sequence[NationalIdentity]:
        raise Unavailable("the national identity service is not connected")


@cache
def local_identities() -> LocalIdentities:
    rows = json.loads((files("passerelle.patients") / "data" / "insi_dev.json").read_text("utf-8"))["identities"]
    return LocalIdentities([_entry(row) for row in rows])


def national_identity_service(stage: str) -> NationalIdentityService:
    return local_identities() if stage == "dev" else NotConnected()


def _entry(row: dict[str, Any]) -> tuple[Traits, NationalIdentity]:
    traits = _traits(row)
    identity = NationalIdentity(identifier=(row["system"], row["value"]), traits=traits)
    return (_traits({**row, **row["sought"]}) if "sought" in row else traits), identity


def _traits(row: dict[str, Any]) -> Traits:
    return Traits(
        identifiers=(),
        family_names=(row["birthName"],),
        given_names=tuple(row["givenNames"]),
        gender=row["gender"],
        birth_date=date.fromisoformat(row["birthDate"]),
        birth_place=row["birthPlace"],
    )
