"""Labels of a document as a set (contract D6, P21): a change is about one label, and no `N` lifts two."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.consents import visibility
from passerelle.consents.visibility import Viewer
from passerelle.documents.changes import Act, Change, relabelling
from passerelle.documents.labels import (
    CONFIDENTIALITIES,
    Classify,
    Intention,
    Labels,
    Lift,
    Mask,
    Restore,
    State,
    revised,
)
from passerelle.errors import Unprocessable

ALL = sorted(visibility.labels())

masks = st.frozensets(st.sampled_from(ALL))
label = st.sampled_from(ALL)
confidentiality = st.sampled_from([None, *CONFIDENTIALITIES])
labels = st.builds(Labels, masks=masks, confidentiality=confidentiality)


def attempted(before: Labels, intention: Intention) -> Labels:
    """A refused change leaves everything as it was."""
    try:
        return revised(before, intention)
    except Unprocessable:
        return before


@given(labels, label)
def test_a_label_is_added_beside_all_others(before: Labels, label: str) -> None:
    """PDSM-10: from every start set."""
    after = revised(before, Mask(label=label))
    assert after.masks == before.masks | {label}
    assert after.confidentiality == before.confidentiality


@given(labels, label)
def test_only_the_named_label_is_lifted(before: Labels, label: str) -> None:
    """PDSM-12"""
    assert revised(before, Lift(label=label)) == Labels(
        masks=before.masks - {label}, confidentiality=before.confidentiality
    )


@given(labels)
def test_n_restores_one_label_and_no_more(before: Labels) -> None:
    """PDSM-11: none, one, several."""
    if len(before.masks) > 1:
        with pytest.raises(Unprocessable):
            revised(before, Restore())
    elif before.masks:
        assert revised(before, Restore()) == Labels(masks=frozenset(), confidentiality=before.confidentiality)
    else:
        assert revised(before, Restore()) == Labels(masks=frozenset(), confidentiality="N")


@given(labels, st.integers(1, 8))
def test_no_sequence_of_n_drops_two_labels(before: Labels, times: int) -> None:
    after = before
    for _ in range(times):
        after = attempted(after, Restore())
    assert len(before.masks - after.masks) <= 1
    assert after.masks == before.masks or len(before.masks) == 1


@given(labels, st.lists(st.one_of(st.builds(Mask, label=label), st.builds(Classify, code=st.just("R"))), max_size=6))
def test_what_does_not_name_a_label_never_lifts_it(before: Labels, changes: list[Intention]) -> None:
    after = before
    for change in changes:
        after = attempted(after, change)
    assert after.masks >= before.masks


@given(labels, labels, masks)
def test_a_list_lacks_no_label_that_it_does_not_name(before: Labels, wanted: Labels, named: frozenset[str]) -> None:
    """PDSM-12: replacing all at once."""
    after = attempted(before, State(labels=wanted, named=named))
    assert before.masks - after.masks <= named
    assert after.confidentiality is not None or before.confidentiality is None


@given(labels)
def test_confidentiality_is_not_lowered_to_n_under_a_mask(before: Labels) -> None:
    after = attempted(before, Classify(code="N"))
    assert after.confidentiality == "N" or (before.masks and before.confidentiality == after.confidentiality)


# --- who may ----------------------------------------------------------------------------------------------------------


@given(labels, labels)
def test_every_difference_is_an_act(before: Labels, after: Labels) -> None:
    done = list(relabelling(before, after))
    added = {each.label for each in done if each.act is Act.MASK}
    lifted = {each.label for each in done if each.act is Act.LIFT}
    assert (before.masks | added) - lifted == after.masks
    assert (Change(act=Act.CLASSIFY) in done) == (before.confidentiality != after.confidentiality)


@pytest.mark.parametrize(
    ("act", "label"), [*product((Act.MASK, Act.LIFT), ("MASQUE_PS", "MASQUE_PT", "MASQUE_PSOCIAL"))]
)
def test_masks_are_the_patients(act: Act, label: str) -> None:
    change = Change(act=act, label=label)
    for viewer in (Viewer.PATIENT, Viewer.REPRESENTATIVE, Viewer.PROFESSIONAL):
        assert change.is_allowed(viewer, is_producer=False)
    assert not change.is_allowed(Viewer.THIRD_PARTY, is_producer=False)
    assert change.transactions == ("TD3.3a",)


@pytest.mark.parametrize(("act", "label"), [*product((Act.MASK, Act.LIFT), ALL)])
def test_only_professionals_decide_what_patients_and_representatives_see(act: Act, label: str) -> None:
    if label.startswith("INVISIBLE"):
        change = Change(act=act, label=label)
        allowed = {viewer for viewer in Viewer if change.is_allowed(viewer, is_producer=False)}
        assert allowed == {Viewer.PROFESSIONAL}
        assert change.transactions == ("TD3.3b",)


@pytest.mark.parametrize("act", [Act.WITHDRAW, Act.REVISE, Act.CLASSIFY])
def test_status_and_confidentiality_are_the_producers(act: Act) -> None:
    for viewer in Viewer:
        assert not Change(act=act).is_allowed(viewer, is_producer=False)
        assert Change(act=act).is_allowed(viewer, is_producer=True)


def test_what_is_in_no_table_is_nobodys() -> None:
    unknown = Change(act=Act.LIFT, label="MASQUE_AUTRE")
    assert not any(unknown.is_allowed(viewer, is_producer=True) for viewer in Viewer)
    assert unknown.transactions == ()


def test_every_label_has_its_rules() -> None:
    for label, act in product(ALL, (Act.MASK, Act.LIFT)):
        assert Change(act=act, label=label).transactions, label
