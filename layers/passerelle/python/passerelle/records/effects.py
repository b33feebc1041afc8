"""What resources change of the policy of the person whose record they are in: a consent, a care team, an admission.

A resource that says who may see the record says so from the commit that stores it (law 1): the policy beside its source
record changes in the same transaction. Only that record carries what the resource says, so that a link that is taken
back takes it along. How each type is read is the FHIR boundary's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from passerelle.access import Request
from passerelle.consents.model import Policy
from passerelle.events import Event, EventName
from passerelle.identifiers import new_ulid
from passerelle.journal import Announcement, Change
from passerelle.patients.model import Person, PersonChange, PersonHolds
from passerelle.records.model import RecordVersion, ResourceKey

Effect = Callable[[Request, ResourceKey, bytes | None, Policy], Policy]
"""The policy of a source record after a version of a resource in it; None: a deletion, or withdrawn."""

Effects = Callable[[Sequence[Change]], Mapping[str, Effect]]
"""The effects by resource type in a commit that makes these changes: they know what it brings to the directory."""


def with_policies(
    request: Request, changes: Sequence[Change], people: Mapping[str, Person], effects: Mapping[str, Effect]
) -> list[Change]:
    """The changes of a commit and what they make of policies; `people` are those who change, by source record.

    A person that the commit changes anyway is changed once.
    """
    changed = {change.after.key: change for change in changes if isinstance(change, PersonChange)}
    told: dict[str, Announcement] = {}
    for change in changes:
        if not isinstance(change, RecordVersion) or change.key.type not in effects or change.key.patient is None:
            continue
        person = people[change.key.patient]
        known = changed.get(person.key) or PersonChange(before=person, after=person)
        member = known.after.member(change.key.patient)
        body = change.body if change.entry is not None else None
        policy = effects[change.key.type](request, change.key, body, member.policy)
        if policy == member.policy:
            continue
        if _concerns(member.policy, policy):
            told[member.patient] = access_changed(request, member.patient)
        records = tuple(
            replace(each, policy=policy) if each.patient == member.patient else each for each in known.after.records
        )
        after = replace(known.after, records=records, revision=known.after.revision + (known.after == known.before))
        changed[person.key] = replace(known, after=after)
    members = {patient for each in changed.values() for patient in each.after.members}
    return [
        *(
            each
            for each in changes
            if not isinstance(each, PersonChange) and not (isinstance(each, PersonHolds) and each.patient in members)
        ),
        *changed.values(),
        *told.values(),
    ]


def _concerns(before: Policy, after: Policy) -> bool:
    """Whether the patient is told: somebody comes into relation, or a consent says something else."""
    known = {each.party for each in before.relations}
    return before.consents != after.consents or any(each.party not in known for each in after.relations)


def access_changed(request: Request, patient: str) -> Announcement:
    """What tells the patient, and nobody else, that somebody may see the record who might not before."""
    event = Event(
        name=EventName.ACCESS_CHANGED,
        reference=f"Patient/{patient}",
        version=1,
        at=request.at,
        author=request.caller.client_id,
        patient=patient,
        occurrence=new_ulid(request.at),
    )
    return Announcement(id=new_ulid(request.at), events=(event,))
