"""Source records and persons.

Each feeding organisation registers people in its own identifier domain: a source record, which is one Patient
resource, one collection of clinical records, and one patient key. A person is a set of links over source records.
Nothing is merged in place, so every link can be undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from passerelle.consents.model import Policy
from passerelle.journal import Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What identifies a person (RNIV strict traits first), as a source declares it.

    Names are as sent; `names.py` normalises them. `identifiers` are (system, value); `is_qualified` tells that the
    identity was verified against the national service (INS status QUAL).
    """

    identifiers: tuple[tuple[str, str], ...]
    family_names: tuple[str, ...] = ()
    given_names: tuple[str, ...] = ()
    birth_date: date | None = None
    gender: str | None = None
    is_qualified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person as one of its source records sees it: the same content is kept with each of them.

    `members` are the patient keys of all source records linked to the person, oldest first; `revision` counts the
    changes of links and policy.
    """

    key: str
    members: tuple[str, ...]
    policy: Policy
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonChange(Change):
    """The links or the policy of a person change: every member's copy is replaced, if `before` is still current."""

    before: Person | None
    after: Person


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecordChange(Change):
    """A source record comes to exist, or its traits change: its look-up items follow.

    `domain_identifier` is the (system, value) the source knows the person by: it belongs to one record for ever.
    `national_identifier`, when the identity is qualified, ties all its records to `person`.
    """

    patient: str
    person: str
    domain_identifier: tuple[str, str] | None
    national_identifier: tuple[str, str] | None
    after: Traits
    before: Traits | None
    at: datetime
