"""Persons over source records, for tests that need one and do not register anybody."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

from passerelle.consents.model import Policy, RecordStatus
from passerelle.identifiers import new_patient_key, new_ulid
from passerelle.patients.links import link_between
from passerelle.patients.model import Member, Person, Rule

AT = datetime(2026, 1, 1, tzinfo=UTC)


def person_of(
    *patients: str,
    key: str | None = None,
    status: RecordStatus = RecordStatus.OPEN,
    since: datetime = AT,
    qualified: str | None = None,
    revision: int = 1,
) -> Person:
    """A person with these source records, linked one to the next."""
    policy = Policy(status=status, since=since)
    ordered = sorted(patients)
    records = tuple(
        Member(patient=each, origin=new_patient_key(), since=since, policy=policy, qualified=qualified)
        for each in ordered
    )
    links = tuple(
        link_between(one, other, id=new_ulid(since), rule=Rule.STEWARD, at=since) for one, other in pairwise(ordered)
    )
    return Person(key=key or new_patient_key(), records=records, links=links, revision=revision)


def decided(person: Person, status: RecordStatus, *, since: datetime = AT) -> Person:
    """The same person after a decision about the record."""
    policy = Policy(status=status, since=since)
    records = tuple(replace(each, policy=policy) for each in person.records)
    return replace(person, records=records, revision=person.revision + 1)
