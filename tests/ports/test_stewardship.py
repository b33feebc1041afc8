"""Whatever sources and stewards do, in whichever order: persons stay whole, and what is undone is as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.region import ins_of
from passerelle import wiring
from passerelle.aws.dynamodb import measure
from passerelle.errors import Conflict, Forbidden, NotFound, Unprocessable, Unsupported
from passerelle.fhir import json as fhir_json
from passerelle.patients.model import HistoryKind, ReviewStatus, Rule
from passerelle.patients.stewardship import MAX_REASON_CHARACTERS
from tests import record, registered, sources, wholeness
from tests.sources import STEWARD, Source, person, reviews

A, B = Source(1), Source(2)
WHY = "same person, seen at the desk"


@pytest.fixture(scope="module")
def _services() -> Iterator[None]:
    with record.services():
        yield


@pytest.fixture(autouse=True)
def _index(_services: None) -> None:
    emptied()


def emptied() -> None:
    for table in ("patients", "clinical", "operations", "audit"):
        registered.empty(table)
    for source in (A, B):
        sources.join(source.caller)


def steward(name: str = "$link") -> Any:
    return sources.request(STEWARD, name=name)


def two_strangers() -> tuple[str, str]:
    return A.register("1"), B.register("2", family="NGUYEN", given="Lan", born="1990-10-10", place="99243")


# --- what is undone is as it was ----------------------------------------------------------------------------------


def answers(*keys: str) -> dict[str, Any]:
    """What the index says of people, to everybody: who is one person, cross-references, matches, records."""
    service, caller = wiring.patient_service(), A.caller
    said: dict[str, Any] = {}
    for key in keys:
        stored = wiring.patient_store().find(key)
        content = fhir_json.loads(stored.body) if stored else {}
        content.pop("meta", None)
        found = service.cross_reference(sources.request(caller), identifier=None, patient=key, systems=())
        matches = (
            service.match(sources.request(caller), stored.traits, count=None, only_certain=False) if stored else None
        )
        said[key] = (
            person(key).members,
            person(key).policy,
            person(key).key,
            content,
            sorted(found.identifiers),
            sorted(found.patients),
            [(each.stored.patient, each.score, each.grade) for each in matches.matches] if matches else [],
        )
    return said


def test_a_link_and_its_end_leave_identical_answers() -> None:
    one, other = two_strangers()
    before = answers(one, other)
    wiring.steward_service().link(steward(), one, other, reason=WHY)
    assert person(one) == person(other)
    assert answers(one, other) != before
    wiring.steward_service().unlink(steward(), other, reason="mistaken")
    assert answers(one, other) == before


def test_a_merge_and_its_end_leave_identical_answers() -> None:
    one = A.register("1", ins=ins_of(1))
    other = A.register("2", family="NGUYEN", given="Lan", born="1990-10-10", place="99243")
    third = B.register("3", family="BENALI", given="Karim", born="1986-12-30", gender="male")
    wiring.steward_service().link(steward(), other, third, reason=WHY)
    before = answers(one, other, third)
    wiring.steward_service().merge(steward(), other, one, reason=WHY)
    assert person(one).members == tuple(sorted([one, other, third]))
    assert (
        wiring.patient_service()
        .cross_reference(sources.request(A.caller), identifier=(A.domain, "2"), patient=None, systems=())
        .patients
        == ()
    )
    wiring.steward_service().unmerge(steward(), other, reason="mistaken")
    assert answers(one, other, third) == before
    kinds = [each.kind for each in wiring.patient_index().history_of(other)]
    assert kinds[-2:] == [HistoryKind.MERGED, HistoryKind.UNMERGED]


def test_a_merge_by_the_source_is_undone_by_a_steward() -> None:
    one = A.register("1")
    other = A.register("2", family="NGUYEN", given="Lan", born="1990-10-10", place="99243")
    before = answers(one, other)
    A.register("2", family="NGUYEN", given="Lan", born="1990-10-10", place="99243", replaced_by="1")
    wiring.steward_service().unmerge(steward(), other, reason="two different people")
    assert answers(one, other) == before


# --- decisions ----------------------------------------------------------------------------------------------------


def test_who_decided_when_and_why_is_kept_and_the_sources_are_told() -> None:
    one, other = two_strangers()
    wiring.steward_service().link(steward(), one, other, reason=WHY)
    for key, against in ((one, other), (other, one)):
        (event,) = wiring.patient_index().history_of(key)
        assert (event.kind, event.rule, event.by, event.professional) == (
            HistoryKind.LINKED,
            Rule.STEWARD,
            "steward",
            STEWARD.professional,
        )
        assert (event.with_records, event.reason) == ((against,), WHY)
    told = [
        event
        for item in record.items()
        if item["PK"].startswith("O#")
        for event in item["events"]
        if event["name"] == "links-changed"
    ]
    assert sorted(each["patient"] for each in told) == sorted([one, other])
    assert len({each["id"] for each in told}) == 2
    assert WHY not in json.dumps(told)


def test_records_told_apart_are_never_linked_again_by_their_score() -> None:
    one, other = two_strangers()
    wiring.steward_service().link(steward(), one, other, reason=WHY)
    wiring.steward_service().unlink(steward(), other, reason="mistaken")
    assert [each.status for each in reviews(one)] == [ReviewStatus.DIFFERENT]
    B.register("2")  # from now on, the same traits as the other
    assert person(one).members == (one,)
    assert [each.status for each in reviews(one)] == [ReviewStatus.DIFFERENT]


def test_a_record_of_the_same_national_identifier_is_not_told_apart() -> None:
    one, other = A.register("1", ins=ins_of(1)), B.register("2", ins=ins_of(1))
    with pytest.raises(Conflict):
        wiring.steward_service().unlink(steward(), other, reason=WHY)
    assert person(one) == person(other)


def test_ins_10_a_steward_does_not_link_two_national_identifiers() -> None:
    one = A.register("1", ins=ins_of(1))
    other = B.register("2", ins=ins_of(2), family="NGUYEN", given="Lan", born="1990-10-10")
    with pytest.raises(Conflict):
        wiring.steward_service().link(steward(), one, other, reason=WHY)
    assert person(one).members == (one,)


@pytest.mark.parametrize("reason", ["", "   ", "x" * (MAX_REASON_CHARACTERS + 1)])
def test_a_decision_needs_a_reason(reason: str) -> None:
    one, other = two_strangers()
    with pytest.raises(Unprocessable):
        wiring.steward_service().link(steward(), one, other, reason=reason)
    assert person(one).members == (one,)


def test_only_stewards_decide() -> None:
    one, other = two_strangers()
    service, caller = wiring.steward_service(), sources.request(A.caller)
    for attempt in (
        lambda: service.link(caller, one, other, reason=WHY),
        lambda: service.unlink(caller, one, reason=WHY),
        lambda: service.merge(caller, one, other, reason=WHY),
        lambda: service.unmerge(caller, one, reason=WHY),
        lambda: service.card(caller, one),
        lambda: service.listed(caller, ReviewStatus.OPEN, count=10, after=None),
    ):
        with pytest.raises(Forbidden):
            attempt()
    assert person(one).members == (one,)


def test_records_of_two_sources_are_linked_and_not_merged() -> None:
    one, other = two_strangers()
    with pytest.raises(Unprocessable):
        wiring.steward_service().merge(steward(), one, other, reason=WHY)


def test_an_unknown_record_is_not_found() -> None:
    one, _ = two_strangers()
    for key in ("0" * 16, "not a key", "../x"):
        with pytest.raises(NotFound):
            wiring.steward_service().link(steward(), one, key, reason=WHY)


def test_a_decision_sent_again_is_made_once() -> None:
    one, other = two_strangers()
    asked = sources.request(STEWARD, name="$link", key="once")
    first = wiring.steward_service().link(asked, one, other, reason=WHY)
    assert wiring.steward_service().link(asked, one, other, reason=WHY) == first
    assert len(wiring.patient_index().history_of(one)) == 1


# --- any sequence -------------------------------------------------------------------------------------------------

TRAITS: tuple[dict[str, Any], ...] = (
    {},
    {"given": "Camile"},
    {"family": "MOREAU"},
    {"born": "1971-08-03"},
    {"family": "NGUYEN", "given": "Lan", "born": "1990-10-10", "place": "99243"},
)
LOCALS = ("1", "2", "3")
_register = st.tuples(
    st.just("register"),
    st.sampled_from([A, B]),
    st.sampled_from(LOCALS),
    st.integers(0, len(TRAITS) - 1),
    st.sampled_from([None, None, 1, 2]),
)
_decide = st.tuples(
    st.sampled_from(["link", "unlink", "merge", "unmerge", "same", "different"]),
    st.integers(0, 5),
    st.integers(0, 5),
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_register, min_size=3, max_size=5), st.lists(st.one_of(_decide, _register), max_size=8))
def test_no_sequence_links_two_national_identifiers(first: list[Any], then: list[Any]) -> None:
    emptied()
    known: list[str] = []
    for step in [*first, *then]:
        with suppress(Conflict, Forbidden, NotFound, Unprocessable, Unsupported):  # refused, and nothing stored
            _apply(step, known)
    check_index()


def _apply(step: Any, known: list[str]) -> None:
    service = wiring.steward_service()
    if step[0] == "register":
        _, source, local, traits, ins = step
        national = ins_of(ins) if ins else None
        key = source.register(local, **TRAITS[traits], **({"ins": national} if national else {}))
        if key not in known:
            known.append(key)
        return
    kind, one, other = step
    first, second = known[one % len(known)], known[other % len(known)]
    match kind:
        case "link":
            service.link(steward(), first, second, reason=WHY)
        case "unlink":
            service.unlink(steward(), first, reason=WHY)
        case "merge":
            service.merge(steward(), first, second, reason=WHY)
        case "unmerge":
            service.unmerge(steward(), first, reason=WHY)
        case "same" | "different":
            for review in reviews(first)[:1]:
                service.decide(steward(), review.id, ReviewStatus(kind), reason=WHY)


def check_index() -> None:
    wholeness.check_index(record.items("patients"), record.items())


# --- costs --------------------------------------------------------------------------------------------------------


def test_decisions_cost_two_round_trips() -> None:
    one, other = two_strangers()
    with measure() as spent:
        wiring.steward_service().link(steward(), one, other, reason=WHY)
    assert spent.round_trips <= 4, spent.calls
