"""The rule that says whether an entry matches a query, against independent readings of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.records.search import (
    BEGINNING,
    END,
    CompositeIs,
    Criterion,
    DateIs,
    Entry,
    IdentifierIs,
    Include,
    Kind,
    Prefix,
    QuantityIs,
    Query,
    Ranges,
    Reading,
    ReferenceIs,
    Sort,
    TextIs,
    TokenIs,
    UriIs,
    joined,
    look_up,
    lookup_of,
    matches,
    outlasts,
    referring,
    refers_to,
    sort_bounds,
    sort_key,
    targets_of,
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


@given(criteria, st.lists(ranges, min_size=1, max_size=3))
def test_bounds_lose_no_match_that_does_not_outlast(asked: list[list[DateIs]], dates: list[tuple[int, int]]) -> None:
    query = Query(
        type="Observation",
        criteria=tuple(Criterion(name="date", alternatives=tuple(each)) for each in asked),
        sort_date="date",
    )
    values = tuple(f"{second(lo)}/{second(hi)}" for lo, hi in dates)
    entry = Entry(values={"date": values}, sort_at=values[0][:12])
    bounds = sort_bounds(query)
    assert bounds is None or bounds[0] <= bounds[1]
    if bounds and matches(entry, query) and not outlasts(entry, "date"):
        assert bounds[0] <= entry.sort_at <= bounds[1]


@pytest.mark.parametrize(
    ("date", "sort_at", "is_long"),
    [
        ("20240314000000/20240314235959", "202403140000", False),
        ("20240314083000/20240315083000", "202403140830", False),
        ("20240314083000/20240315083001", "202403140830", True),
        ("20240314083000/99999999999999", "202403140830", True),
        ("00000000000000/20240314083000", "000000000000", True),
        ("20240101000000/20241231235959", "202401010000", True),
        ("20240313000000/20240313000000", "202403140000", True),
    ],
)
def test_what_outlasts(date: str, sort_at: str, is_long: bool) -> None:
    assert outlasts(Entry(values={"date": (date,)}, sort_at=sort_at), "date") is is_long


def test_what_has_no_date_outlasts_nothing() -> None:
    assert not outlasts(Entry(values={}), "date")
    assert not outlasts(Entry(values={"code": ("|x",)}), None)


def test_bounds_narrow_what_is_read() -> None:
    day = Criterion(name="date", alternatives=(DateIs("eq", "20240314000000", "20240314235959"),))
    query = Query(type="Observation", criteria=(day,), sort_date="date")
    assert sort_bounds(query) == ("202403130000", "202403142359")


def test_a_query_that_contradicts_itself_has_bounds_in_order() -> None:
    days = [
        Criterion(name="date", alternatives=(DateIs("eq", f"{d}000000", f"{d}235959"),)) for d in (20240314, 20240101)
    ]
    query = Query(type="Observation", criteria=tuple(days), sort_date="date")
    assert sort_bounds(query) == ("202403130000", "202403130000")


def test_what_began_a_day_before_the_bound_is_still_read() -> None:
    since = Criterion(name="date", alternatives=(DateIs("ge", "20240314000000", "20240314235959"),))
    query = Query(type="Encounter", criteria=(since,), sort_date="date")
    assert sort_bounds(query) == ("202403130000", "999999999999")


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


# --- quantities, URIs, composites -------------------------------------------------------------------------------------


def quantity(prefix: Prefix, number: str, half: str = "0.5", **unit: str) -> QuantityIs:
    exact, distance = Decimal(number), Decimal(half)
    return QuantityIs(prefix, exact, exact - distance, exact + distance, **unit)


@pytest.mark.parametrize(
    ("value", "holding"),
    [
        ("5", "eq ge le ap"),
        ("5.4", "eq gt ge sa ap"),
        ("5.5", "ne gt ge sa"),
        ("4.5", "eq lt le eb ap"),
        ("<5", "ne lt le eb ap"),
        ("<=5", "ne lt le ge ap"),
        (">5", "ne gt ge sa ap"),
        (">=5", "ne gt ge le ap"),
        ("4~6", "ne gt ge lt le ap"),
        ("~4", "ne lt le eb"),
        ("6~", "ne gt ge sa"),
    ],
)
def test_quantities_compare_as_intervals(value: str, holding: str) -> None:
    for prefix in PREFIXES:
        assert quantity(prefix, "5").accepts(f"{value}|||") == (prefix in holding.split()), prefix


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [
        ({}, "5|http://unitsofmeasure.org|mg|", True),
        ({"system": "http://unitsofmeasure.org", "code": "mg"}, "5|http://unitsofmeasure.org|mg|", True),
        ({"system": "http://unitsofmeasure.org", "code": "mg"}, "5|urn:x|mg|", False),
        ({"system": "http://unitsofmeasure.org", "code": "mg"}, "5|http://unitsofmeasure.org|g|mg", False),
        ({"code": "mg"}, "5|urn:x|mg|milligram", True),
        ({"code": "milligram"}, "5|urn:x|mg|milligram", True),
        ({"code": "g"}, "5|urn:x|mg|milligram", False),
    ],
)
def test_units_are_compared_as_they_are(unit: dict[str, str], value: str, expected: bool) -> None:
    assert quantity("eq", "5", **unit).accepts(value) is expected


def test_a_canonical_is_found_in_any_version_or_the_one_named() -> None:
    value = "http://x.example/q|1.0"
    assert UriIs("http://x.example/q").accepts(value)
    assert UriIs("http://x.example/q|1.0").accepts(value)
    assert not UriIs("http://x.example/q|1").accepts(value)
    assert not UriIs("http://x.example/").accepts(value)


@given(st.lists(st.text(), min_size=2, max_size=3))
def test_components_are_told_apart_whatever_they_hold(texts: list[str]) -> None:
    value = joined(texts)
    assert CompositeIs(tuple(TextIs(text, "exact") for text in texts)).accepts(value)
    assert not CompositeIs(tuple(TextIs(f"{text}x", "exact") for text in texts)).accepts(value)


def test_values_that_follow_from_others_are_read_there() -> None:
    entry = Entry(values={"code": ("|a", "|b"), "value": ("|1",), "part": ("|b$|2",)})
    reading = Reading(names=("part",), products=(("code", "value"),))
    assert reading.of(entry) == ("|b$|2", "|a$|1", "|b$|1")
    wanted = CompositeIs((TokenIs(None, "b"), TokenIs(None, "1")))
    criterion = Criterion(name="both", alternatives=(wanted,), reading=reading)
    assert matches(entry, Query(type="Observation", criteria=(criterion,)))


# --- order ------------------------------------------------------------------------------------------------------------

ENTRIES: dict[str, dict[str, tuple[str, ...]]] = {
    "1": {"date": (f"{second(5)}/{second(9)}",), "name": ("Zoé",), "value": ("10|||",)},
    "2": {"date": (f"{second(1)}/{second(20)}",), "name": ("Élise", "Marc"), "value": ("9.5|||",)},
    "3": {"name": ("anne",), "value": ("<100|||",)},
    "4": {},
    "5": {"date": (f"{second(5)}/{second(9)}",), "name": ("Élise",)},
}


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ([Sort(name="date", kind="date")], "21534"),
        ([Sort(name="date", kind="date", descending=True)], "21534"),
        ([Sort(name="name", kind="string")], "32514"),
        ([Sort(name="name", kind="string", descending=True)], "12534"),
        ([Sort(name="value", kind="quantity")], "32145"),
        ([Sort(name="value", kind="quantity", descending=True)], "31245"),
        ([Sort(name="date", kind="date"), Sort(name="name", kind="string")], "25134"),
        ([Sort(name="date", kind="date"), Sort(name="name", kind="string", descending=True)], "21534"),
    ],
)
def test_sorting_puts_what_has_no_value_last(sort: list[Sort], order: str) -> None:
    query = Query(type="Observation", sort=tuple(sort), sort_date="issued")
    keys = {id: sort_key(Entry(values=values), id, query) for id, values in ENTRIES.items()}
    assert "".join(sorted(keys, key=lambda id: keys[id])) == order


@pytest.mark.parametrize(
    ("sort", "by_date", "ascending", "order"),
    [
        ((), True, False, "cba"),
        ((Sort(name="date", descending=True),), True, False, "cba"),
        ((Sort(name="date"),), True, True, "abc"),
        ((Sort(name="_id"),), False, False, "abc"),
        ((Sort(name="date"), Sort(name="_id")), False, False, "abc"),
    ],
)
def test_the_order_of_the_store(sort: tuple[Sort, ...], by_date: bool, ascending: bool, order: str) -> None:
    query = Query(type="Observation", sort=sort, sort_date="date")
    assert (query.is_by_sort_date, query.ascending) == (by_date, ascending)
    sort_dates = {"a": "202401010000", "b": "202401010000", "c": "202402010000"}
    keys = {id: sort_key(Entry(values={}, sort_at=at), id, query) for id, at in sort_dates.items()}
    assert "".join(sorted(keys, key=lambda id: keys[id])) == order


# --- references between entries ---------------------------------------------------------------------------------------


def test_includes_follow_literal_references() -> None:
    values = (
        "Practitioner/1",
        "Organization/2",
        "|urn:x|3",
        "https://elsewhere.example/fhir/Practitioner/4",
        "urn:uuid:5",
    )
    entry = Entry(values={"performer": values, "encounter": ("Encounter/6",), "code": ("http://loinc.org|718-7",)})
    performers = Include(type="Observation", parameter="performer")
    assert targets_of(entry, performers) == ("Practitioner/1", "Organization/2")
    assert targets_of(entry, replace(performers, target="Organization")) == ("Organization/2",)
    assert targets_of(entry, replace(performers, parameter="*")) == ("Practitioner/1", "Organization/2", "Encounter/6")
    assert refers_to(entry, "performer", {"Organization/2", "Organization/9"})
    assert not refers_to(entry, "performer", {"Encounter/6"})


def test_what_refers_is_a_query_of_its_own() -> None:
    query = referring(Include(type="PractitionerRole", parameter="practitioner"), {"Practitioner/2", "Practitioner/1"})
    assert lookup_of(query) == (("practitioner", "1"), ("practitioner", "2"))
    assert matches(Entry(values={"practitioner": ("Practitioner/2",)}), query)


# --- where a search starts --------------------------------------------------------------------------------------------


def asked(*alternatives: object, name: str = "code", **more: object) -> Criterion:
    return Criterion(name=name, alternatives=alternatives, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ([asked(TokenIs("urn:x", "1"))], ("code=1",)),
        ([asked(TokenIs("", "1"), TokenIs("urn:x", "2"), TokenIs("", "1"))], ("code=1", "code=2")),
        ([asked(TokenIs(None, "1"))], ("code=1",)),
        ([asked(TokenIs("urn:x", None))], None),
        ([asked(TokenIs("urn:x", "1"), TokenIs(None, "1"))], ("code=1",)),
        ([asked(TokenIs("urn:x", "1"), modifier="not")], None),
        ([asked(TextIs("haem"), reading=Reading(names=("code:text",)))], None),
        ([asked(TokenIs("urn:x", "1")), asked(TokenIs("urn:x", "2"))], ("code=1",)),
        ([asked(TokenIs("urn:x", "1"), name="combo-code")], None),
        ([], None),
    ],
)
def test_ranges_of_a_record(criteria: list[Criterion], expected: tuple[str, ...] | None) -> None:
    by_code = Ranges(names=("code",))
    assert Query(type="Observation", criteria=tuple(criteria), ranges=by_code).range_tokens() == expected
    assert Query(type="Condition", criteria=tuple(criteria)).range_tokens() is None


@pytest.mark.parametrize(
    ("kind", "value", "alternatives"),
    [
        ("token", "urn:x|1", [TokenIs("urn:x", "1"), TokenIs(None, "1")]),
        ("reference", "Organization/1", [ReferenceIs("Organization/1"), ReferenceIs("1")]),
        ("reference", "https://x.example/fhir/Organization/1", [ReferenceIs("https://x.example/fhir/Organization/1")]),
        ("reference", "|urn:x|1", [IdentifierIs(TokenIs("urn:x", "1")), IdentifierIs(TokenIs(None, "1"))]),
        ("string", "Hôpital d'Exemple", [TextIs("HOPITAL D EXEMPLE"), TextIs("Hôpital d'Exemple", "exact")]),
    ],
)
def test_a_value_is_looked_up_as_it_is_asked_for(kind: Kind, value: str, alternatives: list[Any]) -> None:
    for alternative in alternatives:
        assert alternative.accepts(value)
        assert alternative.lookup() == look_up(kind, value)


@pytest.mark.parametrize(
    "alternative", [TokenIs("urn:x", None), TextIs("hô"), TextIs("pital", "contains"), UriIs("u"), quantity("eq", "5")]
)
def test_what_cannot_be_looked_up(alternative: Any) -> None:
    query = Query(type="Organization", criteria=(asked(alternative, name="name"),), lookups=("name",))
    assert lookup_of(query) is None


def test_a_search_starts_from_its_most_selective_criterion() -> None:
    criteria = (
        asked(TextIs("Hôp"), name="name"),
        asked(TokenIs("urn:x", "1"), TokenIs("urn:x", "2"), name="identifier"),
        asked(TokenIs("urn:x", "SA01"), name="type"),
    )
    query = Query(type="Organization", criteria=criteria, lookups=("identifier", "name", "type"))
    assert lookup_of(query) == (("identifier", "1"), ("identifier", "2"))
    assert lookup_of(replace(query, criteria=(criteria[0], criteria[2]))) == (("name", "hop"),)
    assert lookup_of(replace(query, criteria=(replace(criteria[1], modifier="not"),))) is None


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
            "http://loinc.org|8480-6$120|http://unitsofmeasure.org|mm[Hg]|",
            "120|http://unitsofmeasure.org|mm[Hg]|mmHg",
            "a|b|http://unitsofmeasure.org|c",
            "^5|http://unitsofmeasure.org|c$^",
            "^",
            "^c",
            "^^",
            "^0|x",
        ]
    ),
)


names = st.one_of(st.text(min_size=1), st.sampled_from(["code", "^11", "^^", "^", "component-code:text"]))


@given(st.dictionaries(names, st.lists(values, min_size=1).map(tuple)), st.integers(0, 30))
def test_unpacking_gives_what_was_packed(packed: dict[str, tuple[str, ...]], at: int) -> None:
    entry = Entry(values=packed, sort_at=second(at)[:12])
    assert Entry.unpack(entry.pack()) == entry


def test_known_systems_and_days_are_packed_short() -> None:
    entry = Entry(values={"code": ("http://loinc.org|718-7",), "date": ("20240314000000/20240314235959",)})
    assert entry.pack() == '{"":"000000000000","^11":"^0|718-7","^13":"^d20240314"}'


def test_entries_of_before_names_were_shortened_are_read() -> None:
    entry = Entry.unpack('{"":"202403140000","code":["^0|718-7","^0|a$b"],"date":"^d20240314","author.given":"Zoé"}')
    assert entry == Entry(
        values={
            "code": ("http://loinc.org|718-7", "http://loinc.org|a$b"),
            "date": ("20240314000000/20240314235959",),
            "author.given": ("Zoé",),
        },
        sort_at="202403140000",
    )


def test_a_composite_of_known_systems_is_packed_short() -> None:
    value = joined(["http://loinc.org|8480-6", "120|http://unitsofmeasure.org|mm[Hg]|"])
    entry = Entry(values={"component-code-value-quantity": (value,)})
    assert entry.pack() == '{"":"000000000000","^22":"^c^0|8480-6$^q120|mm[Hg]|"}'
