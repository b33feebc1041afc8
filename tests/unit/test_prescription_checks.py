"""What a caller is told of a check, and what settles a finding; with a small base of knowledge written for tests."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from passerelle.errors import PasserelleError
from passerelle.medicines.errors import KnowledgeUnavailable
from passerelle.medicines.model import Allergy, Behaviour, Context, Treatment
from passerelle.prescriptions.checking import (
    CHANGED,
    Checked,
    Checks,
    Circumstances,
    World,
    blocking_signature,
    blocking_supply,
    discreet,
    signed_form,
    signed_overrides,
)
from passerelle.prescriptions.model import Override, Prescription
from passerelle.prescriptions.numbers import digest
from tests.medicines import small_base
from tests.prescribing import GROUP, NobodyKnown

LINE = f"{GROUP.id}-01"
OTHER = f"{GROUP.id}-02"


class Unused:
    """No check below is rendered."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def check(
    *ordered: Treatment, known: Circumstances | None = None, key: str = "secret", scope: str = GROUP.id
) -> Checked:
    checks = Checks(
        knowledge=small_base(),
        circumstances=NobodyKnown(),
        issues=Unused(),
        blind=lambda value: digest(f"{key}{value}"),
    )
    found = checks.check(scope, ordered, known or Circumstances(whole=world(gender="male")))
    assert found is not None
    return found


def line(text: str, key: str = LINE) -> Treatment:
    return Treatment(key=key, text=text, is_new=True)


def world(*texts: str, **context: Any) -> World:
    taken = tuple(Treatment(key=f"MedicationStatement/{each}", text=each) for each in texts)
    return World(treatments=taken, context=Context(**context))


def test_ids_and_digest_are_keyed_and_stand_for_one_prescription() -> None:
    ordered = (line("méthotrexate"), line("triméthoprime", OTHER))
    checked = [check(*ordered), check(*ordered, key="another"), check(*ordered, scope="another")]
    assert len({each.digest for each in checked}) == 3
    assert len({each.concerns[0].id for each in checked}) == 3
    assert check(*ordered) == checked[0]


def test_what_comes_of_the_hidden_is_grave_and_nothing_else() -> None:
    known = Circumstances(whole=world("méthotrexate", "paracétamol"), shown=world("paracétamol"))
    checked = check(line("triméthoprime"), known=known)
    (concern,) = checked.concerns
    assert (concern.is_concealed, concern.is_hard_stop, concern.finding.level) == (True, True, 4)
    assert (concern.finding.rule, concern.finding.text, concern.finding.about) == ("", "", (LINE,))
    assert "thotrexate" not in repr(checked)
    assert concern.finding.source is None  # that of a local rule would name the product
    seen = check(line("triméthoprime"), known=Circumstances(whole=known.whole))
    assert seen.concerns[0].id == concern.id  # who sees more answers for the same
    assert seen.digest == checked.digest


def test_a_hidden_fact_that_makes_it_worse_stands_beside_what_is_shown() -> None:
    """A hidden ulcer turns what may be into what is; what would be said without it is said, too."""
    aspirin = Treatment(key=LINE, text="aspirine", mg_per_day=None, is_new=True)
    whole = world("warfarine", conditions=frozenset({"ulcer-history"}))
    low = replace(aspirin, mg_per_day=Decimal(400), mg_per_intake=Decimal(400))
    known = Circumstances(whole=whole, shown=world("warfarine"))
    told = {(each.is_concealed, each.finding.behaviour) for each in check(low, known=known).concerns}
    assert told == {(False, Behaviour.ACKNOWLEDGE), (True, Behaviour.HARD_STOP)}


def test_a_hidden_fact_that_makes_it_better_takes_nothing_away() -> None:
    whole = world("warfarine", absent=frozenset({"ulcer-history"}))
    low = Treatment(key=LINE, text="aspirine", mg_per_day=Decimal(400), mg_per_intake=Decimal(400), is_new=True)
    (concern,) = check(low, known=Circumstances(whole=whole, shown=world("warfarine"))).concerns
    assert (concern.is_concealed, concern.needs_answer) == (False, True)


def test_a_hidden_pregnancy_is_not_named() -> None:
    whole = world(is_pregnant=True, gender="female")
    known = Circumstances(whole=whole, shown=world(is_pregnant=False, gender="female"))
    (concern,) = check(line("isotrétinoïne"), known=known).concerns
    assert concern.is_hard_stop
    assert "regnan" not in repr(concern).casefold()
    assert "grossesse" not in repr(concern).casefold()


def test_a_line_stands_in_the_place_of_its_version_in_the_record() -> None:
    same = Treatment(key="MedicationRequest/1", text="ibuprofène")
    known = Circumstances(whole=World(treatments=(same,), context=Context(gender="male")))
    assert check(line("ibuprofène"), known=known).concerns
    without = Checks(knowledge=small_base(), circumstances=NobodyKnown(), issues=Unused(), blind=digest).check(
        GROUP.id, [line("ibuprofène")], known, without={"MedicationRequest/1"}
    )
    assert without is not None
    assert without.concerns == ()


def test_a_signature_needs_an_answer_to_each_hard_stop_and_the_check_as_it_is() -> None:
    checked = check(line("méthotrexate"), line("triméthoprime", OTHER))
    (concern,) = checked.concerns
    override = Override(finding=concern.id, reason="monitored")
    assert blocking_signature(checked, checked.digest, ()) == (concern.id,)
    assert blocking_signature(checked, checked.digest, [override]) == ()
    assert blocking_signature(checked, "another", [override]) == (CHANGED,)


def test_a_supply_needs_answers_about_its_line_alone() -> None:
    checked = check(line("warfarine"), line("ibuprofène", OTHER), line("paracétamol", f"{GROUP.id}-03"))
    (concern,) = checked.concerns
    assert blocking_supply(checked, LINE, ()) == (concern.id,)
    assert blocking_supply(checked, f"{GROUP.id}-03", ()) == ()
    assert blocking_supply(checked, OTHER, [Override(finding=concern.id, reason="patient-informed")]) == ()


def test_what_is_signed_says_what_was_found_between_lines_and_no_more_of_the_record() -> None:
    ordered = (line("méthotrexate"), line("triméthoprime", OTHER), line("ampicilline", f"{GROUP.id}-03"))
    allergy = Allergy(key="AllergyIntolerance/1", text="amoxicilline", criticality="high")
    known = Circumstances(whole=World(context=Context(allergies=(allergy,))))
    checked = check(*ordered, known=known)
    overrides = [Override(finding=each.id, reason="monitored", text="vu") for each in checked.concerns]
    form = signed_form(GROUP, checked, overrides)
    assert sorted(each["rule"] for each in form) == ["", "t:mtx-tmp"]
    assert "moxicilline" not in repr(form)
    assert [each["finding"] for each in form] == sorted(each.id for each in checked.concerns)


def test_what_is_no_longer_found_cannot_be_signed() -> None:
    with pytest.raises(PasserelleError) as refused:
        signed_form(GROUP, check(line("paracétamol")), [Override(finding="0" * 20, reason="monitored")])
    assert refused.value.status == 422
    with pytest.raises(PasserelleError) as unavailable:
        signed_form(GROUP, None, [Override(finding="0" * 20, reason="monitored")])
    assert unavailable.value.status == 503


def test_a_draft_has_no_overrides() -> None:
    assert signed_overrides(Prescription(group=GROUP, lines=())) == ()


def test_what_is_concealed_already_stays_so() -> None:
    known = Circumstances(whole=world("méthotrexate"), shown=world())
    (concern,) = check(line("triméthoprime"), known=known).concerns
    assert discreet(concern, GROUP.id) == concern


def test_no_base_is_no_check() -> None:
    class OutOfReach:
        def __getattr__(self, name: str) -> Any:
            raise KnowledgeUnavailable()

    checks = Checks(knowledge=OutOfReach(), circumstances=NobodyKnown(), issues=Unused(), blind=digest)
    assert checks.check(GROUP.id, [line("paracétamol")], Circumstances()) is None
