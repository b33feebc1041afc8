"""What may be linked without asking anybody (data model, 1.3 and 1.5).

A wrong link joins two people's records, so it takes more than a high score: nobody else may come near, no strict trait
may contradict, and two people of one household, twins above all, are told apart by a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from passerelle.matching.scoring import Model, Score, Thresholds

_SAME_NAME: Final = ("exact", "misspelt")
# What can tell two people of one name and birth date apart, and its levels of agreement.
_BEYOND_NAMES: Final = {
    "birth_place": ("exact", "department"),
    "address": ("door", "street", "number", "area"),
    "phone": ("exact", "near"),
    "email": ("exact",),
}
_OTHER_NATIONAL: Final = ("near", "different")


class Grade(StrEnum):
    """How sure the index is, as `match-grade` names it."""

    CERTAIN = "certain"
    PROBABLE = "probable"
    POSSIBLE = "possible"
    UNLIKELY = "certainly-not"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A stored record, the person it belongs to, and its score.

    `has_same_national`: both identities are qualified and carry the same national identifier. `is_barred`: never linked
    without a person's decision (a caution, another qualified identifier in the person, a steward's refusal).
    """

    record: str
    person: str
    score: Score
    has_same_national: bool = False
    is_barred: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A candidate and how sure the index is of it."""

    candidate: Candidate
    grade: Grade


def decide(candidates: Iterable[Candidate], thresholds: Thresholds | None = None) -> tuple[Verdict, ...]:
    """One verdict for each person, by its best record, best first; at most the first is certain.

    The order of the candidates does not matter. `thresholds` are those of the model that scored them, by default the
    one for France.
    """
    cuts = thresholds or Model.load().thresholds
    ranked = sorted(candidates, key=_rank)
    best: dict[str, Candidate] = {}
    for candidate in ranked:
        best.setdefault(candidate.person, candidate)
    barred = {candidate.person for candidate in ranked if candidate.is_barred or _has_another_national(candidate)}
    certain = _certain(list(best.values())[:2], cuts)
    return tuple(
        Verdict(
            candidate=candidate,
            grade=Grade.CERTAIN if candidate is certain and person not in barred else _grade(candidate.score, cuts),
        )
        for person, candidate in best.items()
    )


def _rank(candidate: Candidate) -> tuple[float, bool, str, str]:
    return -candidate.score.bits, not candidate.has_same_national, candidate.person, candidate.record


def _certain(leaders: Sequence[Candidate], cuts: Thresholds) -> Candidate | None:
    """The first of the two best, if it is beyond doubt and the second far behind."""
    if not leaders or leaders[0].score.bits < cuts.certain or not _is_safe(leaders[0]):
        return None
    is_alone = len(leaders) == 1 or leaders[0].score.bits - leaders[1].score.bits >= cuts.margin
    return leaders[0] if is_alone else None


def _grade(score: Score, cuts: Thresholds) -> Grade:
    if score.probability >= cuts.probable:
        return Grade.PROBABLE
    return Grade.POSSIBLE if score.probability >= cuts.possible else Grade.UNLIKELY


def _is_safe(candidate: Candidate) -> bool:
    """No strict trait contradicts, but for one under the same national identifier.

    Without it the first name has to be the same, or the same misspelt. Born the same day in the same family, AUGUSTE
    and AUGUSTIN, MARIE ALICE and MARIE ALIX, a newborn without a name and its sister may be two. So may two people of
    one name and birth date when nothing else agrees, and more than a move or a new telephone sets them apart.
    """
    if candidate.has_same_national:
        return len(candidate.score.contradictions) <= 1
    levels = {evidence.field: evidence.level for evidence in candidate.score.evidence}
    has_same_name = levels.get("given") in _SAME_NAME or levels.get("order") == "swapped"
    return has_same_name and not candidate.score.contradictions and not _may_be_namesakes(levels)


def _may_be_namesakes(levels: Mapping[str, str]) -> bool:
    if any(levels.get(trait) in agreements for trait, agreements in _BEYOND_NAMES.items()):
        return False
    return sum(levels.get(trait) == "different" for trait in _BEYOND_NAMES) > 1


def _has_another_national(candidate: Candidate) -> bool:
    return any(
        evidence.field == "national" and evidence.level in _OTHER_NATIONAL for evidence in candidate.score.evidence
    )
