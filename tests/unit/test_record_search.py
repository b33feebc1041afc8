"""The rule that says whether an entry matches a query, against independent readings of it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.records.search import (
    BEGINNING,
    END,
    Criterion,
    DateIs,
    Entry,
    IdentifierIs,
    Prefix,
    Query,
    ReferenceIs,
    TextIs,
    TokenIs,
    matches,
    sort_bounds,
)

PREFIXES: tuple[Prefix, ...] = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
START = datetime(2024, 2, 28, 23, 59, 50)  # noqa: DTZ001 - around the end of a February


def second(number: int) -> str:
    return (START + timedelta(seconds=number)).strftime("%Y%m%d%H%M%S")


def holds(value: str, *alternatives: object, **more: object) -> bool:
    criterion = Criterion(name="x", alternatives=alternatives, **more)  # type: ignore[arg-type]
    return matches(Entry(values={"x": (value,)}), Query(type="Observation", criteria=(criterion,)))


# --- dates --------------------------------------------------------------------------------------------------

ranges = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted).map(tuple)


def by_points(prefix: Prefix, value: tuple[int, int], asked: tuple[int, int]) -> bool:
    """R4 section 3.1.1.4.5 on sets of seconds."""
    found, wanted = set(range(value[0], value[1] + 1)), set(range(asked[0], asked[1] + 1))
    above, below = set(range(asked[1] + 1, 100)), set(range(-100, asked[0]))
    match prefix:
        case "eq":
            return found <= wanted
        case "ne":
            return not found <= wanted
        case "gt":
            return bool(found & above)
        case "lt":
            return bool(found & below)
        case "ge":
            return bool(found & (above | wanted))
        case "le":
            return bool(found & (below | wanted))
        case "sa":
            return found <= above
        case "eb":
            return found <= below
        case "ap":
            return bool(found & wanted)


@given(st.sampled_from(PREFIXES), ranges, ranges)
def test_dates_compare_as_sets_of_seconds(prefix: Prefix, value: tuple[int, int], asked: tuple[int, int]) -> None:
    alternative = DateIs(prefix, second(asked[0]), second(asked[1]))
    assert holds(f"{second(value[0])}/{second(value[1])}", alternative) == by_points(prefix, value, asked)


@pytest.mark.parametrize("prefix", ["gt", "ge", "ap"])
def test_an_open_period_reaches_every_later_date(prefix: Prefix) -> None:
    assert holds(f"{second(0)}/{END}", DateIs(prefix, second(20), second(21)))


def test_an_open_period_is_not_within_a_day() -> None:
    assert not holds(f"{second(0)}/{END}", DateIs("eq", second(0), second(30)))


# --- sort bounds --------------------------------------------------------------------------------------------

criteria = st.lists(
    st.lists(
        st.tuples(st.sampled_from(PREFIXES), ranges).map(lambda x: DateIs(x[0], second(x[1][0]), second(x[1][1]))),
        min_size=1,
        max_size=3,
    ),
    max_size=3,
)


@given(criteria, ranges, st.sampled_from([None, timedelta(seconds=30), timedelta()]))
def test_bounds_lose_no_match(asked: list[list[DateIs]], value: tuple[int, int], reach: timedelta | None) -> None:
    lo, hi = value if reach != timedelta() else (value[0], value[0])
    query = Query(
        type="Observation",
        criteria=tuple(Criterion(name="date", alternatives=tuple(each)) for each in asked),
        sort_date="date",
        sort_reach=reach,
    )
    entry = Entry(values={"date": (f"{second(lo)}/{second(hi)}",)}, sort_at=second(lo)[:12])
    bounds = sort_bounds(query)
    assert bounds is None or bounds[0] <= bounds[1]
    if bounds and matches(entry, query):
        assert bounds[0] <= entry.sort_at <= bounds[1]


def test_bounds_narrow_what_is_read() -> None:
    day = Criterion(name="date", alternatives=(DateIs("eq", "20240314000000", "20240314235959"),))
    query = Query(type="Observation", criteria=(day,), sort_date="date")
    assert sort_bounds(query) == ("202403140000", "202403142359")


def test_a_query_that_contradicts_itself_has_bounds_in_order() -> None:
    days = [
        Criterion(name="date", alternatives=(DateIs("eq", f"{d}000000", f"{d}235959"),)) for d in (20240314, 20240101)
    ]
    query = Query(type="Observation", criteria=tuple(days), sort_date="date")
    assert sort_bounds(query) == ("202403140000", "202403140000")


def test_a_period_that_began_before_the_bound_is_still_read() -> None:
    since = Criterion(name="date", alternatives=(DateIs("ge", "20240314000000", "20240314235959"),))
    assert sort_bounds(Query(type="Encounter", criteria=(since,), sort_date="date")) is None
    instants = Query(type="DocumentReference", criteria=(since,), sort_date="date", sort_reach=timedelta())
    assert sort_bounds(instants) == ("202403140000", "999999999999")


@pytest.mark.parametrize("modifier", ["not", "missing"])
def test_a_negated_date_sets_no_bounds(modifier: str) -> None:
    criterion = Criterion(name="date", alternatives=(DateIs("eq", second(0), second(1)),), modifier=modifier)  # type: ignore[arg-type]
    assert sort_bounds(Query(type="Observation", criteria=(criterion,), sort_date="date")) is None


def test_other_dates_set_no_bounds() -> None:
    issued = Criterion(name="issued", alternatives=(DateIs("eq", second(0), second(1)),))
    assert sort_bounds(Query(type="DiagnosticReport", criteria=(issued,), sort_date="date")) is None


# --- tokens, references, strings ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "value", "expected"),
    [
        (TokenIs(None, "718-7"), "http://loinc.org|718-7", True),
        (TokenIs(None, "718-7"), "|718-7", True),
        (TokenIs(None, "718"), "http://loinc.org|718-7", False),
        (TokenIs("http://loinc.org", "718-7"), "http://loinc.org|718-7", True),
        (TokenIs("http://loinc.org", "718-7"), "urn:x|718-7", False),
        (TokenIs("", "718-7"), "http://loinc.org|718-7", False),
        (TokenIs("", "718-7"), "|718-7", True),
        (TokenIs("http://loinc.org", None), "http://loinc.org|1", True),
        (TokenIs("http://loinc.org", None), "http://loinc.orgs|1", False),
        (TokenIs("urn:x", "a|b"), "urn:x|a|b", True),
    ],
)
def test_tokens(token: TokenIs, value: str, expected: bool) -> None:
    assert holds(value, token) is expected


@pytest.mark.parametrize(
    ("target", "value", "expected"),
    [
        ("Encounter/1", "Encounter/1", True),
        ("Encounter/1", "Encounter/11", False),
        ("1", "Encounter/1", True),
        ("1", "Encounter/11", False),
        ("1", "https://elsewhere.example/fhir/Encounter/1", False),
        ("https://elsewhere.example/fhir/Encounter/1", "https://elsewhere.example/fhir/Encounter/1", True),
        ("1", "|urn:x|1", False),
        ("1", "|urn:x|2024/1", False),
    ],
)
def test_references(target: str, value: str, expected: bool) -> None:
    assert holds(value, ReferenceIs(target)) is expected


def test_logical_references() -> None:
    assert holds("|urn:oid:2.999|7", IdentifierIs(TokenIs("urn:oid:2.999", "7")))
    assert not holds("urn:oid:2.999|7", IdentifierIs(TokenIs("urn:oid:2.999", "7")))


@pytest.mark.parametrize(
    ("text", "how", "expected"),
    [
        ("lefev", "starts", True),
        ("LEFÈVRE", "starts", True),
        ("fevre", "starts", False),
        ("fevre", "contains", True),
        ("Lefèvre", "exact", False),
        ("LEFÈVRE", "exact", True),
    ],
)
def test_strings(text: str, how: str, expected: bool) -> None:
    assert holds("LEFÈVRE", TextIs(text, how)) is expected  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["starts", "contains"])
def test_punctuation_alone_finds_nothing(how: str) -> None:
    assert not holds("LEFÈVRE", TextIs("-", how))  # type: ignore[arg-type]


# --- criteria -----------------------------------------------------------------------------------------------


def test_all_criteria_hold_and_one_alternative_suffices() -> None:
    entry = Entry(values={"code": ("|a", "|b"), "status": ("|final",)})
    code = Criterion(name="code", alternatives=(TokenIs(None, "x"), TokenIs(None, "b")))
    status = Criterion(name="status", alternatives=(TokenIs(None, "draft"),))
    assert matches(entry, Query(type="Observation", criteria=(code,)))
    assert not matches(entry, Query(type="Observation", criteria=(code, status)))


def test_not_holds_when_no_value_is_one_of_the_alternatives() -> None:
    none_of = Criterion(name="code", alternatives=(TokenIs(None, "a"), TokenIs(None, "z")), modifier="not")
    assert not none_of.holds(("|a", "|b"))
    assert none_of.holds(("|b",))
    assert none_of.holds(())


@pytest.mark.parametrize("is_missing", [True, False])
def test_missing(is_missing: bool) -> None:
    criterion = Criterion(name="code", alternatives=(), modifier="missing", is_missing=is_missing)
    assert criterion.holds(()) is is_missing
    assert criterion.holds(("|a",)) is not is_missing


# --- packing ------------------------------------------------------------------------------------------------

values = st.one_of(
    st.text(),
    st.builds("{}|{}".format, st.sampled_from(["http://loinc.org", "", "urn:x", "^", "0", "^0"]), st.text()),
    st.tuples(ranges).map(lambda x: f"{second(x[0][0])}/{second(x[0][1])}"),
    st.sampled_from(
        [
            "20240229000000/20240229235959",
            "20240229000000/20240301235959",
            f"{BEGINNING}/{second(0)}",
            f"{second(0)}/{END}",
            "^d20240229",
            "^^",
            "^0|x",
        ]
    ),
)


@given(st.dictionaries(st.text(min_size=1), st.lists(values, min_size=1).map(tuple)), st.integers(0, 30))
def test_unpacking_gives_what_was_packed(packed: dict[str, tuple[str, ...]], at: int) -> None:
    entry = Entry(values=packed, sort_at=second(at)[:12])
    assert Entry.unpack(entry.pack()) == entry


def test_known_systems_and_days_are_packed_short() -> None:
    entry = Entry(values={"code": ("http://loinc.org|718-7",), "date": ("20240314000000/20240314235959",)})
    assert entry.pack() == '{"":"000000000000","code":"^0|718-7","date":"^d20240314"}'
