"""Names of substances, and conditions of rules in three values (contract 20.2 D3, D4, D8; 20.6)."""

from __future__ import annotations

from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.medicines.conditions import Facts, Side, conjunction, disjunction, negation, parse
from passerelle.medicines.model import Context
from passerelle.medicines.names import normalised

TRUTHS = (True, False, None)


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("ÉVÉROLIMUS", "everolimus"),
        ("INHIBITEURS DE LA MONOAMINE- OXYDASE", "inhibiteurs de la monoamine-oxydase"),
        ("bêta‑bloquants  dans l’insuffisance\ncardiaque", "beta-bloquants dans l'insuffisance cardiaque"),
        ("œstrogènes", "oestrogenes"),
    ],
)
def test_names_are_one_however_they_are_printed(written: str, compared: str) -> None:
    assert normalised(written) == compared
    assert normalised(compared) == compared


FACTS = Facts(
    a=Side(
        substance="aspirine",
        classes=frozenset({"antiagregants"}),
        mg_per_day=Decimal(300),
        routes=frozenset({"iv", "oral"}),
        use=frozenset({"curative"}),
    ),
    b=Side(substance="warfarine", routes=frozenset({"oral"})),
    context=Context(
        age=Decimal("70.5"), is_pregnant=False, conditions=frozenset({"ulcer-history"}), absent=frozenset({"asthma"})
    ),
)


@pytest.mark.parametrize(
    ("said", "truth"),
    [
        (None, True),
        ({"a.in": ["aspirine", "autre"]}, True),
        ({"b.not_in": ["aspirine"]}, True),
        ({"a.class": ["antiagregants"]}, True),
        ({"b.class": ["antiagregants"]}, False),
        ({"a.mg_per_day": "<=300"}, True),
        ({"a.mg_per_day": ">375"}, False),
        ({"a.mg_per_intake": ">=200"}, None),
        ({"a.mg_per_intake": ">=1000"}, False),  # the day has 300 mg
        ({"b.mg_per_day": "<0.5"}, None),
        ({"b.route": ["oral", "im"]}, True),
        ({"b.route": ["iv"]}, False),
        ({"a.route": ["iv"]}, None),  # it may be taken either way
        ({"a.use": ["curative"]}, True),
        ({"a.use": ["preventive"]}, False),  # a dose of another kind is stated
        ({"a.use": ["heart-failure"]}, None),  # what it is for is another matter
        ({"a.use": ["asthma"]}, False),  # nobody is treated for what they do not have
        ({"b.use": ["curative"]}, None),
        ({"age": ">=65"}, True),
        ({"egfr": "<60"}, None),
        ({"has": ["ulcer-history", "asthma"]}, True),
        ({"has": ["asthma"]}, False),
        ({"has": ["heart-failure", "asthma"]}, None),
        ({"has": ["pregnancy"]}, False),
        ({"has": ["breastfeeding"]}, None),
        ({"any": [{"egfr": "<60"}, {"age": ">=65"}]}, True),
        ({"any": [{"egfr": "<60"}, {"age": "<65"}]}, None),
        ({"all": [{"egfr": "<60"}, {"age": "<65"}]}, False),
        ({"not": {"egfr": "<60"}}, None),
        ({"not": {"age": "<65"}, "has": ["ulcer-history"]}, True),
        ({"never_known": True}, None),
        ({"never_known": True, "age": "<65"}, False),
    ],
)
def test_a_condition_holds_does_not_or_is_not_known(said: dict[str, Any] | None, truth: bool | None) -> None:
    assert parse(said)(FACTS) is truth


@pytest.mark.parametrize(
    "said",
    [
        {},
        [],
        "age",
        {"c.in": ["x"]},
        {"a.dose": ">1"},
        {"a.in": "warfarine"},
        {"a.in": []},
        {"a.route": ["orale"]},
        {"age": "65"},
        {"age": 65},
        {"age": ">= -1"},
        {"any": []},
        {"any": {"age": ">1"}},
        {"not": [{"age": ">1"}]},
        {"never_known": False},
        {"see": "elsewhere"},
    ],
)
def test_what_is_not_of_the_language_is_refused_when_read(said: Any) -> None:
    with pytest.raises(ValueError):
        parse(said)


def test_the_logic_is_kleenes() -> None:
    """Whoever fills in what is unknown, either way, never contradicts an answer that was given."""
    for first, second in product(TRUTHS, TRUTHS):
        for operation in (conjunction, disjunction):
            answers = {operation([x, y]) for x, y in product(_either(first), _either(second))}
            assert operation([first, second]) == (answers.pop() if len(answers) == 1 else None)
    assert [negation(truth) for truth in TRUTHS] == [False, True, None]


def _either(truth: bool | None) -> tuple[bool, ...]:
    return (True, False) if truth is None else (truth,)


conditions = st.recursive(
    st.one_of(
        st.sampled_from(["<60", ">=60", ">30"]).map(lambda bound: {"egfr": bound}),
        st.sampled_from(["<65", ">=18"]).map(lambda bound: {"age": bound}),
        st.sampled_from(["ulcer-history", "asthma"]).map(lambda code: {"has": [code]}),
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda each: {"any": each}),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: {"all": each}),
        inner.map(lambda each: {"not": each}),
    ),
    max_leaves=6,
)


@given(conditions, st.none() | st.integers(0, 120), st.none() | st.integers(0, 100), st.sets(st.sampled_from("ua")))
def test_learning_facts_never_changes_an_answer(
    said: dict[str, Any], age: int | None, egfr: int | None, known: set[str]
) -> None:
    side = Side(substance="x")
    little = Context(
        age=None if age is None else Decimal(age),
        egfr=None if egfr is None else Decimal(egfr),
        conditions=frozenset({"ulcer-history"} if "u" in known else ()),
        absent=frozenset({"asthma"} if "a" in known else ()),
    )
    everything = Context(
        age=Decimal(40) if age is None else little.age,
        egfr=Decimal(45) if egfr is None else little.egfr,
        conditions=frozenset({"ulcer-history"}),
        absent=frozenset({"asthma"}),
    )
    before, after = (parse(said)(Facts(a=side, b=side, context=context)) for context in (little, everything))
    assert after is not None
    assert before is None or before is after
