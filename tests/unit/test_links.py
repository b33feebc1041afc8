"""Persons as link sets: every change can be taken back, and two national identifiers never meet."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passerelle.consents.model import Policy, RecordStatus
from passerelle.errors import Conflict, Fault
from passerelle.patients.links import LinkGraph, link_between, person_after
from passerelle.patients.model import Link, Member, Person, PersonChange, Rule

AT = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = "abcdefgh"
_numbers = count(1)


def member(patient: str, **known: object) -> Member:
    since = AT + timedelta(days=NAMES.index(patient))
    made = Member(
        patient=patient, origin=f"P{patient}", since=since, policy=Policy(status=RecordStatus.ABSENT, since=since)
    )
    return replace(made, **known)  # type: ignore[arg-type]


def alone(patient: str, **known: object) -> Person:
    return Person(key=f"P{patient}", records=(member(patient, **known),), revision=1)


def link(one: str, other: str, rule: Rule = Rule.STEWARD) -> Link:
    return link_between(one, other, id=f"{next(_numbers):06d}", rule=rule, at=AT)


def stored(people: dict[str, Person], changes: list[PersonChange]) -> dict[str, Person]:
    """What storage holds after a commit, its conditions checked."""
    for change in changes:
        assert people.get(change.after.key) == change.before
        assert change.after.revision == (change.before.revision + 1 if change.before else 1)
    return {**people, **{change.after.key: change.after for change in changes}}


def pointers(people: dict[str, Person], changes: list[PersonChange], before: dict[str, str]) -> dict[str, str]:
    """Where national identifiers point after a commit, its conditions checked."""
    after = dict(before)
    for change in changes:
        if change.takes_from is not None:
            assert change.after.qualified is not None
            assert after.get(change.after.qualified, change.takes_from) == change.takes_from
            after[change.after.qualified] = change.after.key
    for change in changes:
        if change.releases is not None:
            assert after[change.releases] == change.after.key
            del after[change.releases]
    return after


def test_a_link_makes_one_person_with_the_key_of_the_earliest_record() -> None:
    a, b = alone("a"), alone("b")
    changes = LinkGraph.of([b, a]).linked(link("b", "a")).changes_from([a, b])
    assert {change.after.key: change.after.members for change in changes} == {"Pa": ("a", "b"), "Pb": ()}
    assert person_after(changes, "b").key == "Pa"


def test_the_strictest_decision_holds_for_linked_records() -> None:
    closed = Policy(status=RecordStatus.CLOSED, since=AT)
    opened = Policy(status=RecordStatus.OPEN, since=AT)
    a, b, c = alone("a", policy=opened), alone("b", policy=closed), alone("c")
    graph = LinkGraph.of([a, b, c]).linked(link("a", "b")).linked(link("b", "c"))
    (records, links) = graph.people()["Pa"]
    assert Person(key="Pa", records=records, links=links, revision=1).policy == closed
    assert Person(key="Pb", records=(b.records[0],), revision=1).policy == closed
    assert Person(key="Pa", records=(a.records[0], c.records[0]), revision=1).policy == opened


def test_two_national_identifiers_never_meet() -> None:
    a, b, c = alone("a", qualified="x"), alone("b"), alone("c", qualified="y")
    graph = LinkGraph.of([a, b, c]).linked(link("a", "b"))
    assert graph.people()["Pa"]
    with pytest.raises(Conflict):
        graph.linked(link("b", "c")).people()


def test_a_record_is_not_linked_to_itself_or_to_a_stranger() -> None:
    graph = LinkGraph.of([alone("a")])
    with pytest.raises(Fault):
        graph.linked(Link(id="1", first="a", second="a", rule=Rule.STEWARD, at=AT))
    with pytest.raises(Fault):
        graph.linked(link("a", "b"))


def test_a_record_that_leaves_takes_those_it_replaced_along_and_leaves_the_others_together() -> None:
    people = [alone("a"), alone("b"), alone("c"), alone("d", replaced_by="b")]
    graph = LinkGraph.of(people).linked(link("a", "b")).linked(link("b", "c")).linked(link("b", "d", Rule.SOURCE))
    rest = graph.apart("b", new_id=lambda: "999999", rule=Rule.STEWARD, at=AT)
    assert rest.component("b") == {"b", "d"}
    assert rest.component("a") == {"a", "c"}


def test_a_national_identifier_moves_with_its_person_and_is_released_with_its_last_record() -> None:
    a, b = alone("a"), alone("b", qualified="x")
    joined = LinkGraph.of([a, b]).linked(link("a", "b"))
    (to_a,) = [change for change in joined.changes_from([a, b]) if change.after.records]
    assert (to_a.after.key, to_a.takes_from) == ("Pa", "Pb")
    lowered = LinkGraph.of([to_a.after]).with_record(member("b")).changes_from([to_a.after])
    assert [(change.releases, change.takes_from) for change in lowered] == [("x", None)]


@st.composite
def operations(draw: st.DrawFn) -> list[tuple[str, str, str]]:
    names = st.sampled_from(NAMES)
    kinds = st.sampled_from(["link", "link", "link", "cut", "apart", "qualify", "lower"])
    return draw(st.lists(st.tuples(kinds, names, names), max_size=25))


@settings(max_examples=200, deadline=None)
@given(operations())
def test_whatever_is_done_persons_stay_whole_and_unmistakable(done: list[tuple[str, str, str]]) -> None:
    people = {f"P{each}": alone(each) for each in NAMES}
    named: dict[str, str] = {}
    for kind, one, other in done:
        involved = {p.key: p for p in people.values() if {one, other} & set(p.members)}
        graph = LinkGraph.of(involved.values())
        before_link = dict(people)
        made = link(one, other) if one != other else None
        match kind:
            case "link" if made:
                graph = graph.linked(made)
            case "cut":
                graph = graph.without(lambda each, cut=one: cut in (each.first, each.second))
            case "apart":
                graph = graph.apart(one, new_id=lambda: f"{next(_numbers):06d}", rule=Rule.STEWARD, at=AT)
            case "qualify":
                graph = graph.with_record(member(one, qualified=f"nir-{other}"))
            case "lower":
                graph = graph.with_record(member(one))
            case _:
                continue
        try:
            wanted = graph.people()
        except Conflict:
            continue
        named_now = [{each.qualified for each in records} - {None} for records, _ in wanted.values()]
        if len(set().union(*named_now)) < sum(map(len, named_now)):
            continue  # one national identifier in two persons: stewards may not do that
        if kind == "qualify" and named.get(f"nir-{other}", next(iter(involved))) not in involved:
            continue  # the service links to whoever has the identifier; see the registration tests
        revived = [people[key] for key in wanted.keys() - involved.keys()]
        changes = graph.changes_from([*involved.values(), *revived])
        people = stored(people, changes)
        named = pointers(people, changes, named)

        everybody = [patient for person in people.values() for patient in person.members]
        assert sorted(everybody) == list(NAMES)
        for person in people.values():
            assert len({each.qualified for each in person.records} - {None}) <= 1
            if person.records:
                assert LinkGraph.of([person]).component(person.members[0]) == set(person.members)
        holders = {person.qualified: person.key for person in people.values() if person.qualified}
        assert named == holders

        if kind == "link" and made and changes:
            undo = LinkGraph.of([people[change.after.key] for change in changes]).without(
                lambda each, undone=made: each == undone
            )
            taken_back = stored(people, undo.changes_from([people[change.after.key] for change in changes]))
            assert {k: (p.records, p.links) for k, p in taken_back.items()} == {
                k: (p.records, p.links) for k, p in before_link.items()
            }
