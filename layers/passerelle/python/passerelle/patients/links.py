"""Persons as sets of links over source records: a graph, and what each change of it means for the persons concerned.

A person is a connected component. Its key is the origin of its earliest record, its policy the strictest of its
records': everything about a person follows from records and links, so that taking back a link gives back what was
before it (data model, 1.6). Two qualified national identifiers never meet in one component (contract INS-10).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from passerelle.errors import Conflict, Fault
from passerelle.patients.model import Link, Member, Person, PersonChange, Rule


def link_between(first: str, second: str, *, id: str, rule: Rule, at: datetime) -> Link:
    first, second = sorted((first, second))
    return Link(id=id, first=first, second=second, rule=rule, at=at)


@dataclass(frozen=True, slots=True)
class LinkGraph:
    """Source records by patient key, and the links between them. Operations give a new graph."""

    records: Mapping[str, Member]
    links: tuple[Link, ...]

    @classmethod
    def of(cls, people: Iterable[Person]) -> LinkGraph:
        records: dict[str, Member] = {}
        links: dict[str, Link] = {}
        for person in people:
            records |= {each.patient: each for each in person.records}
            links |= {each.id: each for each in person.links}
        return cls(records, _ordered(links.values()))

    def joining(self, person: Person) -> LinkGraph:
        """With another person's records; those it holds already stay as it has them."""
        other = LinkGraph.of([person])
        links = {each.id: each for each in (*other.links, *self.links)}
        return LinkGraph({**other.records, **self.records}, _ordered(links.values()))

    def with_record(self, member: Member) -> LinkGraph:
        """With a record added, or replaced by what is known of it now."""
        return LinkGraph({**self.records, member.patient: member}, self.links)

    def linked(self, link: Link) -> LinkGraph:
        if not {link.first, link.second} <= self.records.keys() or link.first == link.second:
            raise Fault()
        return LinkGraph(self.records, _ordered([*self.links, link]))

    def without(self, is_dropped: Callable[[Link], bool]) -> LinkGraph:
        return LinkGraph(self.records, tuple(each for each in self.links if not is_dropped(each)))

    def apart(self, patient: str, *, new_id: Callable[[], str], rule: Rule, at: datetime) -> LinkGraph:
        """Without the links of a record to others, which stay together; the records it replaced go with it."""
        going = self._with_replaced(patient)
        cut = [each for each in self.links if (each.first in going) != (each.second in going)]
        left = sorted({each.second if each.first in going else each.first for each in cut})
        rest = self.without(lambda each: each in cut)
        for other in left[1:]:
            if other not in rest.component(left[0]):
                rest = rest.linked(link_between(left[0], other, id=new_id(), rule=rule, at=at))
        return rest

    def _with_replaced(self, patient: str) -> frozenset[str]:
        """The record, those that it replaced, those that they replaced, and so on."""
        found = {patient}
        while more := {each.patient for each in self.records.values() if each.replaced_by in found} - found:
            found |= more
        return frozenset(found)

    def component(self, patient: str) -> frozenset[str]:
        """The records that are the same person as this one."""
        found = {patient}
        while True:
            more = {side for each in self.links for side in (each.first, each.second) if _touches(each, found)}
            if more <= found:
                return frozenset(found)
            found |= more

    def origins(self) -> frozenset[str]:
        """The keys that persons over these records can have."""
        return frozenset(each.origin for each in self.records.values())

    def people(self) -> Mapping[str, tuple[tuple[Member, ...], tuple[Link, ...]]]:
        """Records and links of each component, by the key of its person; raises Conflict where two identifiers meet."""
        found: dict[str, tuple[tuple[Member, ...], tuple[Link, ...]]] = {}
        remaining = set(self.records)
        while remaining:
            members = self.component(min(remaining))
            remaining -= members
            records = tuple(self.records[each] for each in sorted(members))
            if len({each.qualified for each in records} - {None}) > 1:
                raise Conflict("the identities are qualified with different national identifiers", code="business-rule")
            earliest = min(records, key=lambda each: (each.since, each.patient))
            found[earliest.origin] = (records, tuple(each for each in self.links if each.first in members))
        return found

    def changes_from(self, before: Sequence[Person]) -> list[PersonChange]:
        """What has to be stored so that persons are as this graph has them.

        `before` are the persons whose records the graph holds, and any without records whose key is needed again.
        """
        known = {each.key: each for each in before}
        owners = {each.qualified: each.key for each in before if each.qualified}
        after = self.people()
        still_named = {each.qualified for records, _ in after.values() for each in records if each.qualified}
        changes = []
        for key in sorted(known.keys() | after.keys()):
            was = known.get(key)
            records, links = after.get(key, ((), ()))
            if was is not None and (was.records, was.links) == (records, links):
                continue
            person = Person(key=key, records=records, links=links, revision=was.revision + 1 if was else 1)
            named = person.qualified
            lost = was.qualified if was else None
            changes.append(
                PersonChange(
                    before=was,
                    after=person,
                    takes_from=owners.get(named, key) if named and named != lost else None,
                    releases=lost if lost and lost not in still_named else None,
                )
            )
        return changes


def _touches(link: Link, records: set[str]) -> bool:
    return link.first in records or link.second in records


def _ordered(links: Iterable[Link]) -> tuple[Link, ...]:
    return tuple(sorted(links, key=lambda each: each.id))


def person_after(changes: Sequence[PersonChange], patient: str, otherwise: Person | None = None) -> Person:
    """The person that a record belongs to once the changes are stored."""
    for change in changes:
        if patient in change.after.members:
            return change.after
    if otherwise is None:
        raise Fault()
    return otherwise
