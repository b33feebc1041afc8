"""Who a source record may be: candidates from the blocks of its match record, compared and judged (data model, 1.2).

Look-ups are bounded: a block gives 100 records at most, and one that holds more is left out unless nothing else was
found. Only the candidates that the model does not rule out cost a read of their person.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from passerelle.matching.blocking import Block, blocks_to_search
from passerelle.matching.decision import Candidate, Grade, Verdict, decide
from passerelle.matching.record import MatchRecord
from passerelle.matching.scoring import Model, Score
from passerelle.patients.model import Blocked, BlockPage, Person, Place, StoredPatient
from passerelle.patients.ports import PatientIndex

_JUDGED = 20  # candidates whose person is read, the best first


@dataclass(frozen=True, slots=True)
class LookUp:
    """What the blocks of a match record list: a page for each block."""

    pages: Mapping[Block, BlockPage]
    named: Person | None = None  # by the national identifier that was looked up beside

    def records(self, *, but: Collection[str] = ()) -> Mapping[str, MatchRecord]:
        """The candidates by patient key; those of crowded blocks only if there is no other."""
        narrow = _listed(page for page in self.pages.values() if not page.is_full)
        found = narrow or _listed(page for page in self.pages.values() if page.is_full)
        return {patient: record for patient, record in found.items() if patient not in but}

    @property
    def is_crowded(self) -> bool:
        """Whether a block held more records than are compared."""
        return any(page.is_full for page in self.pages.values())

    def places(self, blocks: Iterable[Block]) -> tuple[Place, ...]:
        """The next free slots of these blocks, each once."""
        return tuple({self.pages[each].place.key: self.pages[each].place for each in blocks}.values())

    def beside(self, places: Iterable[Place], entered: Blocked) -> LookUp:
        """As it will be once another record of the same commit has entered these places."""
        taken = {place.key: place for place in places}
        pages = {}
        for block, page in self.pages.items():
            other = taken.get(page.place.key)
            pages[block] = page if other is None else _after(page, other, entered)
        return replace(self, pages=pages)


def _after(page: BlockPage, other: Place, entered: Blocked) -> BlockPage:
    place = replace(page.place, slot=max(page.place.slot, other.slot + 1))
    return replace(page, place=place, entries=(entered, *page.entries))


def _listed(pages: Iterable[BlockPage]) -> dict[str, MatchRecord]:
    return {entry.patient: entry.record for page in pages for entry in page.entries}


@dataclass(frozen=True, slots=True)
class Judgement:
    """Candidates judged, the best first, one per person; with the person of each, and what was read of the likely."""

    verdicts: tuple[Verdict, ...]
    people: Mapping[str, Person]  # by person key
    stored: Mapping[str, StoredPatient]  # by patient key

    @property
    def certain(self) -> Verdict | None:
        return next((each for each in self.verdicts if each.grade is Grade.CERTAIN), None)

    def doubtful(self) -> tuple[Verdict, ...]:
        """Those for a steward to look at."""
        return tuple(each for each in self.verdicts if each.grade in (Grade.PROBABLE, Grade.POSSIBLE))


class Resolver:
    def __init__(
        self, *, index: PatientIndex, model: Callable[[], Model], in_parallel: Callable[..., tuple[Any, ...]]
    ) -> None:
        self._index = index
        self._model = model
        self._in_parallel = in_parallel

    def look_up(
        self,
        blocks: Sequence[Block],
        *,
        named: str | None = None,
        beside: Iterable[tuple[tuple[Place, ...], Blocked] | None] = (),
    ) -> LookUp:
        """What these blocks list, and the person whom a blinded national identifier names: one round trip.

        `beside` are the records that enter blocks in the same commit.
        """
        if not blocks and named is None:
            return LookUp({})
        pages, person = self._index.look_up(blocks, named)
        found = LookUp(dict(zip(blocks, pages, strict=True)), person)
        for entry in beside:
            if entry is not None:
                found = found.beside(*entry)
        return found

    def look_up_in_stages(self, record: MatchRecord) -> LookUp:
        """The blocks of the first stage; those of the second, in another round trip, unless somebody stands out."""
        blocks = blocks_to_search(record)
        first = self.look_up([each for each in blocks if each.stage == "a"])
        scores = self._scores(record, first.records())
        if any(score.bits >= self._model().thresholds.certain for score in scores.values()):
            return first
        second = self.look_up([each for each in blocks if each.stage != "a"])
        return LookUp({**first.pages, **second.pages})

    def _scores(self, record: MatchRecord, found: Mapping[str, MatchRecord]) -> dict[str, Score]:
        model = self._model()
        return {patient: model.score(record, each) for patient, each in found.items()}

    def score(self, first: MatchRecord, second: MatchRecord) -> Score:
        return self._model().score(first, second)

    def is_possible(self, score: Score) -> bool:
        return score.probability >= self._model().thresholds.possible

    def judge(
        self,
        record: MatchRecord,
        found: Mapping[str, MatchRecord],
        *,
        qualified: str | None,
        is_barred: bool,
        apart_from: Collection[str] = (),
        known: Mapping[str, Person] | None = None,
        is_hidden: Callable[[Person], bool] = lambda _: False,
        read: Callable[[str], StoredPatient | None] | None = None,
    ) -> Judgement:
        """Grade the candidates. `known` are persons by patient key that need not be read; `read` is called for the
        likely records, in the same round trip.

        Records out of use are no candidates; nor are persons qualified with another national identifier than
        `qualified`, nor those of whom nothing may be told, even by how sure others are. Records in `apart_from` were
        told apart by a steward, and with them all that is the same person.
        """
        apart = frozenset(apart_from)
        scores = self._scores(record, {each: found[each] for each in found if each not in apart})
        likely = [each for each in scores if self.is_possible(scores[each])]
        likely = sorted(likely, key=lambda each: (-scores[each].bits, each))[:_JUDGED]
        people = dict(known or {})
        missing = [each for each in likely if each not in people]
        calls = [partial(self._index.find_person, each) for each in missing]
        bodies = [partial(read, each) for each in likely] if read is not None else []
        answers = self._in_parallel(*calls, *bodies) if calls or bodies else ()
        people |= {each: person for each, person in zip(missing, answers, strict=False) if person is not None}
        stored = {each.patient: each for each in answers[len(missing) :] if each is not None}
        candidates = []
        for patient in likely:
            person = people.get(patient)
            if person is None or not person.member(patient).is_in_use or is_hidden(person):
                continue
            if not apart.isdisjoint(person.members):
                continue
            if qualified and person.qualified and qualified != person.qualified:
                continue
            candidates.append(
                Candidate(
                    record=patient,
                    person=person.key,
                    score=scores[patient],
                    has_same_national=bool(record.national) and record.national == found[patient].national,
                    is_barred=is_barred or person.member(patient).is_barred,
                )
            )
        verdicts = decide(candidates, self._model().thresholds)
        return Judgement(verdicts, {person.key: person for person in people.values()}, stored)


def stored_evidence(score: Score) -> Mapping[str, Any]:
    """What a decision keeps of a score: enough to compute it again (`Model.replay`), and no trait of anybody."""
    levels = [[each.field, each.level, each.rarity] for each in score.evidence]
    return {"model": score.model, "bits": score.bits, "levels": levels, "contradictions": list(score.contradictions)}
