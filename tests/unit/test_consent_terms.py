"""What consents say, evaluated: who is let in, and what of the record is there for whom (IHE PCF 1.1.1)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.consents.terms import (
    CONFIDENTIALITY,
    SENSITIVITY,
    Asker,
    Effect,
    Facts,
    Provision,
    Scope,
    Terms,
    permits_restricted,
    residual_sieve,
    rules,
    sieve,
    standing,
    terms_from_map,
    terms_to_map,
)

AT = datetime(2026, 3, 1, 9, tzinfo=UTC)
DAY = timedelta(days=1)
ME, MY_HOUSE, OTHER = "810001234567", "1990000037", "810007654321"
PERMIT, DENY = Effect.PERMIT, Effect.DENY
N, R, V, PSY = f"{CONFIDENTIALITY}|N", f"{CONFIDENTIALITY}|R", f"{CONFIDENTIALITY}|V", f"{SENSITIVITY}|PSY"
YEAR = ("20220101000000", "20221231235959")
ALL = Scope()
TPO = frozenset({"TREAT", "HPAYMT", "HOPERAT"})


def asker(**more: Any) -> Asker:
    said = {"parties": frozenset({ME, MY_HOUSE}), "roles": frozenset({"practice", "10"}), "purpose": "TREAT", "at": AT}
    return Asker(**{**said, **more})


def scope(*actors: str, **more: Any) -> Scope:
    sets: dict[str, Any] = {name: frozenset(each) if isinstance(each, list) else each for name, each in more.items()}
    return Scope(actors=tuple(frozenset({each}) for each in actors), **sets)


def terms(effect: Effect = PERMIT, whole: Scope = ALL, *exceptions: Provision, **more: Any) -> Terms:
    return Terms(id="Consent/1", effect=effect, scope=whole, provisions=exceptions, **more)


def but(effect: Effect, of: Scope = ALL) -> Provision:
    return Provision(effect=effect, scope=of)


def facts(reference: str = "Observation/1", *labels: str, at: str | None = "20220615", **more: Any) -> Facts:
    sets = {name: frozenset(each) for name, each in more.items()}
    period = (f"{at}000000", f"{at}235959") if at else None
    return Facts(type=reference.split("/")[0], reference=reference, period=period, labels=frozenset(labels), **sets)


def shows(consents: list[Terms], what: Facts, who: Asker | None = None, **admitted: bool) -> bool:
    found = sieve(consents, who or asker(), **admitted)
    return found is None or found(what)


# --- the record as a whole --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("consents", "said"),
    [
        pytest.param([], None, id="PCF-10 nothing on file"),
        pytest.param([terms()], PERMIT, id="PCF-6 basic permit"),
        pytest.param([terms(DENY)], DENY, id="PCF-6 basic deny"),
        pytest.param([terms(DENY, until=AT)], None, id="PCF-6 period over"),
        pytest.param([terms(DENY, since=AT + DAY)], None, id="period to come"),
        pytest.param([terms(), terms(DENY)], DENY, id="a denial counts"),
        pytest.param([terms(PERMIT, scope(OTHER))], None, id="a permit for another says nothing"),
        pytest.param([terms(DENY, scope(OTHER))], None, id="a denial for another says nothing"),
        pytest.param([terms(DENY, scope(MY_HOUSE))], DENY, id="a denial for my house is for me"),
        pytest.param([terms(DENY, scope("10"))], DENY, id="a denial for my profession is for me"),
        pytest.param([terms(DENY, ALL, but(PERMIT, scope(ME)))], PERMIT, id="all but me are denied"),
        pytest.param([terms(PERMIT, ALL, but(DENY, scope(ME)))], DENY, id="all but me are permitted"),
        pytest.param([terms(DENY, ALL, but(PERMIT, scope(purposes=["BTG"])))], DENY, id="PCF-9 but in need"),
        pytest.param([terms(DENY, scope(labels=[R]))], None, id="a denial of some of it denies not the record"),
        pytest.param([terms(DENY, scope(labels=[R]), but(PERMIT, scope(ME)))], None, id="nor is it opened"),
    ],
)
def test_pcf_6_what_is_said_of_the_record(consents: list[Terms], said: Effect | None) -> None:
    assert standing(consents, asker()) is said


@pytest.mark.parametrize(
    ("purposes", "asked", "said"),
    [
        (TPO, "TREAT", PERMIT),
        (TPO, "ETREAT", PERMIT),
        (TPO, "HRESCH", DENY),
        (TPO, "HMARKT", DENY),
        (["HRESCH"], "CLINTRCH", PERMIT),
        (["HRESCH"], "HMARKT", DENY),
        (["HRESCH"], "TREAT", None),
    ],
)
def test_pcf_8_a_permit_is_for_its_purposes(purposes: list[str], asked: str, said: Effect | None) -> None:
    """What is permitted for research alone is refused for anything else, but no refusal of care."""
    consents = [terms(PERMIT, scope(purposes=frozenset(purposes)))]
    assert standing(consents, asker(purpose=asked)) is said
    both = [*consents, terms(PERMIT, scope(purposes=frozenset({asked})))]
    assert standing(both, asker(purpose=asked)) is PERMIT


def test_an_exception_holds_in_its_own_period() -> None:
    exception = replace(but(DENY, scope(ME)), since=AT - DAY, until=AT + DAY)
    consents = [terms(PERMIT, ALL, exception)]
    assert standing(consents, asker()) is DENY
    assert standing(consents, asker(at=AT + DAY)) is PERMIT


# --- single resources -------------------------------------------------------------------------------------------------

IN_2022, IN_2023 = facts(at="20220615"), facts(at="20230615")
MINE, THEIRS = facts(authors={ME}), facts(authors={OTHER})


@pytest.mark.parametrize(
    ("of", "inside", "outside"),
    [
        pytest.param(scope(period=YEAR), IN_2022, IN_2023, id="time frame"),
        pytest.param(scope(instances=["Observation/1"]), facts(), facts("Observation/2"), id="instance"),
        pytest.param(scope(relatives=["Encounter/1"]), facts("Encounter/1"), facts("Encounter/2"), id="the encounter"),
        pytest.param(scope(relatives=["Encounter/1"]), facts(about={"Encounter/1"}), facts(), id="of the encounter"),
        pytest.param(scope(authors=[ME]), MINE, THEIRS, id="author"),
        pytest.param(scope(types=["Observation"]), facts(), facts("Condition/1"), id="class"),
        pytest.param(scope(codes=["urn:x|a"]), facts(tokens={"urn:x|a"}), facts(tokens={"urn:x|b"}), id="code"),
    ],
)
def test_pcf_7_permitted_alone_and_denied_alone(of: Scope, inside: Facts, outside: Facts) -> None:
    only = [terms(PERMIT, of)]
    assert standing(only, asker()) is PERMIT
    assert (shows(only, inside), shows(only, outside)) == (True, False)
    for all_but in ([terms(PERMIT, ALL, but(DENY, of))], [terms(DENY, of)]):
        assert (shows(all_but, inside), shows(all_but, outside)) == (False, True)
    none_but = [terms(DENY, ALL, but(PERMIT, of))]
    assert standing(none_but, asker()) is PERMIT
    assert (shows(none_but, inside), shows(none_but, outside)) == (True, False)


def test_what_has_no_date_is_in_no_period_that_is_permitted_and_in_any_that_is_denied() -> None:
    undated = facts(at=None)
    assert not shows([terms(PERMIT, scope(period=YEAR))], undated)
    assert not shows([terms(DENY, scope(period=YEAR))], undated)
    across = replace(undated, period=("20211231000000", "20220101235959"))
    assert not shows([terms(PERMIT, scope(period=YEAR))], across)
    assert not shows([terms(DENY, scope(period=YEAR))], across)


def test_two_permits_add_up_and_a_denial_outweighs_both() -> None:
    two = [terms(PERMIT, scope(period=YEAR)), terms(PERMIT, scope(authors=[ME]))]
    assert shows(two, IN_2022)
    assert shows(two, replace(IN_2023, authors=frozenset({ME})))
    assert not shows(two, IN_2023)
    assert not shows([*two, terms(DENY, scope(authors=[ME]))], replace(IN_2022, authors=frozenset({ME})))


def test_an_exception_that_permits_is_of_what_the_whole_is_of() -> None:
    consents = [terms(PERMIT, scope(period=YEAR, labels=[N]), but(PERMIT, scope(ME, labels=[R])))]
    assert shows(consents, facts("Observation/1", R))
    assert not shows(consents, facts("Observation/1", R, at="20230615"))
    assert not shows(consents, facts("Observation/1", R), asker(parties=frozenset({OTHER})))


@pytest.mark.parametrize(
    ("consents", "seen"),
    [
        pytest.param([terms(PERMIT, scope(labels=[N]))], "N", id="normal only"),
        pytest.param([terms(PERMIT, scope(labels=[N, R]))], "NRP", id="normal and restricted"),
        pytest.param([terms(PERMIT, scope(labels=[N]), but(DENY, scope(labels=[R])))], "N", id="not restricted"),
        pytest.param([terms(PERMIT, scope(labels=[N]), but(PERMIT, scope(ME, labels=[R])))], "NRP", id="R for me"),
        pytest.param([terms(PERMIT, scope(labels=[N]), but(PERMIT, scope(OTHER, labels=[R])))], "N", id="R not for me"),
        pytest.param([terms(PERMIT, scope(labels=[N]), but(PERMIT, scope(ME, labels=[PSY])))], "NP", id="PSY for me"),
        pytest.param([terms(PERMIT, ALL, but(DENY, scope(labels=[PSY])))], "NRV", id="all but PSY"),
        pytest.param([terms(PERMIT, ALL, but(DENY, scope(labels=[R])))], "N", id="all but restricted, and more so"),
    ],
)
def test_pcf_8_labels_decide(consents: list[Terms], seen: str) -> None:
    """N normal, R restricted, V very restricted, P labelled PSY alone, which is restricted."""
    of = {
        "N": facts(),
        "R": facts("Observation/1", R),
        "V": facts("Observation/1", V),
        "P": facts("Observation/1", PSY),
    }
    assert "".join(name for name, each in of.items() if shows(consents, each)) == "".join(
        name for name in of if name in seen
    )


def test_pcf_8_restricted_under_break_glass() -> None:
    consents = [terms(PERMIT, scope(purposes=TPO, labels=[N]), but(PERMIT, scope(purposes=["BTG"], labels=[R])))]
    restricted = facts("Observation/1", R)
    assert not shows(consents, restricted)
    assert shows(consents, restricted, asker(purpose="BTG"), is_admitted_anyway=True)
    assert shows(consents, facts(), asker(purpose="BTG"), is_admitted_anyway=True)


def test_what_opens_the_restricted_opens_no_more_of_it() -> None:
    consents = [terms(), terms(PERMIT, ALL, but(PERMIT, scope(ME, labels=[R], period=YEAR)))]
    assert permits_restricted(consents, asker())
    assert not permits_restricted(consents, asker(parties=frozenset({OTHER})))
    assert shows(consents, facts("Observation/1", R), needs_opening=True)
    assert not shows(consents, facts("Observation/1", R, at="20230615"), needs_opening=True)
    assert shows(consents, facts("Observation/1", R, at="20230615"))  # for who needs no consent for it


def test_who_is_let_in_anyway_is_kept_from_what_is_named_alone() -> None:
    whole, some = terms(DENY), terms(DENY, scope(instances=["Observation/1"]))
    assert shows([whole], facts(), is_admitted_anyway=True)
    assert not shows([whole, some], facts(), is_admitted_anyway=True)
    assert shows([whole, some], facts("Observation/2"), is_admitted_anyway=True)


def test_a_consent_that_names_what_it_hides_is_hidden_with_it() -> None:
    naming = replace(terms(PERMIT, ALL, but(DENY, scope(OTHER, instances=["Observation/1"]))), id="Consent/9")
    them = asker(parties=frozenset({OTHER}))
    assert shows([naming], facts("Consent/9"))
    assert not shows([naming], facts("Consent/9"), them)
    assert shows([terms(PERMIT, ALL, but(DENY, scope(authors=[ME])))], facts("Consent/1"))


def test_pcf_11_a_residual_permit_overrides_a_forbid() -> None:
    forbid, permit = but(DENY), but(PERMIT, scope(period=YEAR))
    assert residual_sieve([]) is None
    assert residual_sieve([permit]) is None
    only = residual_sieve([forbid, permit])
    assert only is not None
    assert (only(IN_2022), only(IN_2023)) == (True, False)
    normal = residual_sieve([forbid, but(PERMIT, scope(labels=[N])), but(DENY, scope(labels=[R]))])
    assert normal is not None
    assert (normal(facts()), normal(facts("Observation/1", R))) == (True, False)


# --- properties -------------------------------------------------------------------------------------------------------

SCOPES = st.builds(
    Scope,
    actors=st.sampled_from([(), (frozenset({ME}),), (frozenset({OTHER}),), (frozenset({ME, MY_HOUSE}),)]),
    purposes=st.sampled_from([frozenset(), frozenset({"TREAT"}), frozenset({"HRESCH"}), TPO]),
    types=st.sampled_from([frozenset(), frozenset({"Observation"})]),
    labels=st.sampled_from([frozenset(), frozenset({N}), frozenset({R}), frozenset({N, PSY})]),
    period=st.sampled_from([None, YEAR]),
    instances=st.sampled_from([frozenset(), frozenset({"Observation/1"})]),
    relatives=st.sampled_from([frozenset(), frozenset({"Encounter/1"})]),
    authors=st.sampled_from([frozenset(), frozenset({OTHER})]),
)
EFFECTS = st.sampled_from(list(Effect))
MOMENTS = st.sampled_from([None, AT - DAY, AT, AT + DAY])
PROVISIONS = st.builds(Provision, effect=EFFECTS, scope=SCOPES, since=MOMENTS, until=MOMENTS)
TERMS = st.builds(
    Terms,
    id=st.sampled_from(["Consent/1", "Consent/2"]),
    effect=EFFECTS,
    scope=SCOPES,
    since=MOMENTS,
    until=MOMENTS,
    provisions=st.lists(PROVISIONS, max_size=3).map(tuple),
    recorder=st.sampled_from([None, MY_HOUSE]),
)
DENIALS = st.builds(
    Terms,
    id=st.just("Consent/3"),
    effect=st.just(DENY),
    scope=SCOPES,
    since=MOMENTS,
    until=MOMENTS,
    provisions=st.lists(st.builds(Provision, effect=st.just(DENY), scope=SCOPES), max_size=2).map(tuple),
)
ASKERS = st.builds(
    Asker,
    parties=st.sampled_from([frozenset({ME}), frozenset({ME, MY_HOUSE}), frozenset({OTHER})]),
    roles=st.just(frozenset({"practice", "10"})),
    purpose=st.sampled_from(["TREAT", "HRESCH", "BTG", ""]),
    at=st.sampled_from([AT, AT + DAY]),
)
FACTS = st.builds(
    facts,
    st.sampled_from(["Observation/1", "Observation/2", "Encounter/1", "Consent/1"]),
    st.sampled_from([N, R, V, PSY]),
    at=st.sampled_from([None, "20220615", "20230615"]),
    authors=st.sampled_from([set(), {ME}, {OTHER}]),
    about=st.sampled_from([set(), {"Encounter/1"}]),
)
ADMITTED = st.fixed_dictionaries({"is_admitted_anyway": st.booleans(), "needs_opening": st.booleans()})


def is_open(consents: list[Terms], who: Asker, what: Facts, admitted: dict[str, bool]) -> bool:
    is_let_in = admitted["is_admitted_anyway"] or standing(consents, who) is not DENY
    return is_let_in and shows(consents, what, who, **admitted)


@given(st.lists(TERMS, max_size=3), DENIALS, ASKERS, FACTS, ADMITTED)
def test_a_denial_more_never_adds_access(
    consents: list[Terms], denial: Terms, who: Asker, what: Facts, admitted: dict[str, bool]
) -> None:
    """Goal I3: neither beside other consents, nor as an exception in one of them."""
    before = is_open(consents, who, what, admitted)
    assert before or not is_open([*consents, denial], who, what, admitted)
    for place, each in enumerate(consents):
        for exception in denial.provisions:
            narrower = replace(each, provisions=(*each.provisions, exception))
            changed = [*consents[:place], narrower, *consents[place + 1 :]]
            assert before or not is_open(changed, who, what, admitted)


@given(st.lists(TERMS, max_size=3), ASKERS, FACTS)
def test_the_order_of_consents_means_nothing(consents: list[Terms], who: Asker, what: Facts) -> None:
    assert standing(consents, who) is standing(consents[::-1], who)
    assert shows(consents, what, who) == shows(consents[::-1], what, who)


@given(TERMS)
def test_terms_survive_as_json(made: Terms) -> None:
    assert terms_from_map(json.loads(json.dumps(terms_to_map(made)))) == made


@pytest.mark.parametrize("place", ["whole", "exception"])
def test_terms_of_a_later_release_are_not_read_in_part(place: str) -> None:
    """Goal I4: what is passed over might have narrowed."""
    kept: dict[str, Any] = {"id": "Consent/c", "effect": "permit", "provisions": [{"effect": "deny"}]}
    (kept if place == "whole" else kept["provisions"][0])["obligations"] = ["x"]
    with pytest.raises(ValueError, match="not understood"):
        terms_from_map(kept)


def test_the_vocabulary_is_closed() -> None:
    """Whatever a purpose or a sensitivity takes in transitively, its row lists."""
    for name in ("purposes", "sensitivities"):
        rows = rules()[name]
        for code, within in rows.items():
            assert code not in within
            assert {inner for each in within for inner in rows.get(each, ())} <= set(within), code
