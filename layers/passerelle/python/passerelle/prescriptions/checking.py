"""The clinical checks of a prescription: what is looked at, what a caller is told of it, and what settles a finding.

E-prescription contract, sections 5, 16, 17 and 20. What the medicines base finds (`medicines`) is about all that the
exchange may know of the person. A caller may know less: what comes of a treatment or a fact that is hidden from the
caller is told without saying of what (docs/adr/hidden-treatments-count.md). Ids of findings and the digest are keyed
hashes: they tell nothing by themselves, and are the same for prescriber and pharmacist.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from passerelle.access import Caller
from passerelle.journal import Change
from passerelle.medicines.errors import KnowledgeUnavailable
from passerelle.medicines.model import (
    Allergy,
    Behaviour,
    Context,
    Finding,
    Kind,
    NotCovered,
    Report,
    Treatment,
)
from passerelle.medicines.ports import KnowledgeBase
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import Group, Line, Override, Prescription, Supply
from passerelle.prescriptions.signature import NOT_CHECKED
from passerelle.prescriptions.transitions import STATES

CHANGED = "cdsDigest"  # among what blocks a signature: the check gives another result than the one that was prepared
HIDDEN = "un traitement ou une donnée qui ne vous est pas montré"
RECORD = "un autre élément du dossier"
NOT_SHOWN = "not-shown"  # why a medicine that the caller does not see is not covered
MAX_OVERRIDES = 60
MAX_TEXT_CHARACTERS = 1_000
_ID_CHARACTERS = 20
_NEEDS_ANSWER = frozenset({Behaviour.HARD_STOP, Behaviour.ACKNOWLEDGE})
_OF_LINES = frozenset({Kind.INTERACTION, Kind.DUPLICATE, Kind.AGE})  # what lines alone can be the cause of


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is known of a person, apart from what is being prescribed."""

    treatments: tuple[Treatment, ...] = ()
    context: Context = field(default_factory=Context)

    def without(self, keys: Collection[str]) -> World:
        return replace(self, treatments=tuple(each for each in self.treatments if each.key not in keys))

    def with_allergies(self, allergies: Sequence[Allergy]) -> World:
        return (
            replace(self, context=replace(self.context, allergies=(*self.context.allergies, *allergies)))
            if allergies
            else self
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """All that a check takes from the record, and `shown`: as much of it as the caller may see (None: all).

    `gaps` are codes of what was not looked at: `record-not-open`, `record-unknown`, `too-many-supplies`.
    """

    whole: World = field(default_factory=World)
    shown: World | None = None
    gaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Concern:
    """A finding as a caller is told it. One that `is_concealed` says how grave it is, and nothing of its cause."""

    id: str
    finding: Finding
    is_concealed: bool = False

    @property
    def needs_answer(self) -> bool:
        return self.finding.behaviour in _NEEDS_ANSWER

    @property
    def is_hard_stop(self) -> bool:
        return self.finding.behaviour is Behaviour.HARD_STOP


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The result of a check for one caller. `treatments` and `allergies` are those that it may be told of, by key."""

    report: Report
    digest: str
    concerns: tuple[Concern, ...]
    not_covered: tuple[NotCovered, ...]
    gaps: tuple[str, ...]
    treatments: Mapping[str, Treatment]
    allergies: Mapping[str, Allergy]

    def concern(self, id: str) -> Concern:
        """The one with this id; raises RX-CDS-STOP for another: what was answered is not what is found now."""
        for each in self.concerns:
            if each.id == id:
                return each
        raise rx("RX-CDS-STOP", "a finding that is answered is not among those of the check as it is now")

    def about(self, key: str) -> tuple[Concern, ...]:
        return tuple(each for each in self.concerns if key in each.finding.about)


class CircumstancesReader(Protocol):
    """What the record says of a person's treatments; implemented by the FHIR boundary."""

    def find(self, caller: Caller, patient: str, at: datetime) -> Circumstances:
        """Whatever the caller may see is told apart, and nothing is refused."""

    def ordered(self, request: str, key: str) -> Treatment:
        """A MedicationRequest, as JSON."""

    def supplied(self, dispense: str, ordered: Treatment) -> Treatment:
        """The product of a MedicationDispense in the place of the one that was ordered."""


class Issues(Protocol):
    """The FHIR form of a check; implemented by the FHIR boundary."""

    def answer(
        self, base_url: str, patient: str, checked: Checked | None, answered: Sequence[Override], at: datetime
    ) -> str:
        """What an answer shows of a check, as JSON; None: nothing could be checked."""

    def noted(self, dispense: str, references: Sequence[str]) -> str:
        """A MedicationDispense that names the issues it was supplied in spite of."""

    def versions(
        self, group: Group, caller: Caller, checked: Checked, answers: Sequence[Override], at: datetime
    ) -> tuple[Sequence[Change], Sequence[str]]:
        """A DetectedIssue for each finding that is answered, and where the group is signed the Provenance that the
        answers rest on: new in the record; and the reference of each, in the order of the answers."""


class Checks:
    """`blind` is a keyed hash."""

    def __init__(
        self,
        *,
        knowledge: KnowledgeBase,
        circumstances: CircumstancesReader,
        issues: Issues,
        blind: Callable[[str], str],
    ) -> None:
        self.issues = issues
        self._knowledge = knowledge
        self._circumstances = circumstances
        self._blind = blind

    def find(self, caller: Caller, patient: str, at: datetime) -> Circumstances:
        return self._circumstances.find(caller, patient, at)

    def of_lines(
        self,
        prescription: Prescription,
        known: Circumstances,
        *,
        new: Collection[int],
        supplies: Mapping[int, Supply] | None = None,
        extra: Sequence[Treatment] = (),
        allergies: Sequence[Allergy] = (),
    ) -> Checked | None:
        """The lines `new`, beside the others of the prescription that are not over and all that is known.

        What is in `supplies` is checked as it is supplied. None when the base cannot be reached.
        """
        lines = [line for line in prescription.lines if line.number in new or _is_in_play(line)]
        ordered = tuple(
            replace(self._treatment(prescription.group, line, supplies or {}), is_new=line.number in new)
            for line in lines
        )
        own = {f"MedicationRequest/{line.request_id}" for line in lines}
        return self.check(prescription.group.id, (*ordered, *extra), known, without=own, allergies=allergies)

    def _treatment(self, group: Group, line: Line, supplies: Mapping[int, Supply]) -> Treatment:
        ordered = self._circumstances.ordered(line.request, key_of(group, line))
        is_known = line.request_version > 0
        reference = f"MedicationRequest/{line.request_id}" if is_known else f"Task/{key_of(group, line)}"
        ordered = replace(ordered, reference=reference)
        supply = supplies.get(line.number)
        return self._circumstances.supplied(supply.dispense, ordered) if supply else ordered

    def of_orders(self, patient: str, requests: Sequence[str], known: Circumstances) -> Checked | None:
        """What was not created yet: MedicationRequests, as JSON."""
        ordered = (
            replace(self._circumstances.ordered(each, str(number)), is_new=True)
            for number, each in enumerate(requests, 1)
        )
        return self.check(patient, tuple(ordered), known)

    def check(
        self,
        scope: str,
        ordered: Sequence[Treatment],
        known: Circumstances,
        *,
        without: Collection[str] = (),
        allergies: Sequence[Allergy] = (),
    ) -> Checked | None:
        """`scope` is what ids of findings hold within; `without` are treatments that stand among the ordered ones."""
        whole = known.whole.without(without).with_allergies(allergies)
        shown = known.shown.without(without).with_allergies(allergies) if known.shown is not None else whole
        try:
            report = self._check(ordered, whole)
            told = report if known.shown is None else self._check(ordered, shown)
        except KnowledgeUnavailable:
            return None
        own = {each.key for each in ordered}
        return Checked(
            report=told,
            digest=self._blind(f"{scope}|{report.digest}"),
            concerns=tuple(self._concerns(scope, report, told, own)),
            not_covered=(*told.not_covered, *_concealed_gaps(report, told)),
            gaps=known.gaps,
            treatments={each.key: each for each in (*ordered, *shown.treatments)},
            allergies={each.key: each for each in shown.context.allergies},
        )

    def _check(self, ordered: Sequence[Treatment], world: World) -> Report:
        return self._knowledge.check([*ordered, *world.treatments], world.context)

    def _concerns(self, scope: str, report: Report, told: Report, own: Collection[str]) -> Iterable[Concern]:
        """What the caller would be told if nothing were hidden from anybody, then what comes of the hidden."""
        plain = {(each.id, each.behaviour) for each in told.findings}
        for each in told.findings:
            yield Concern(id=self._id(scope, each), finding=each)
        for each in report.findings:
            if (each.id, each.behaviour) not in plain and each.behaviour is not Behaviour.COLLAPSED:
                yield Concern(id=self._id(scope, each), finding=_concealed(each, own), is_concealed=True)

    def _id(self, scope: str, finding: Finding) -> str:
        """Another one once the same finding asks for more than it did."""
        return self._blind(f"{scope}|{finding.id}|{finding.behaviour}")[:_ID_CHARACTERS]


def available(checked: Checked | None) -> Checked:
    """Raises RX-RETRY for a check that could not be made."""
    if checked is None:
        raise rx("RX-RETRY", "the medicines base is not available", headers={"Retry-After": "60"})
    return checked


def key_of(group: Group, line: Line) -> str:
    return f"{group.id}-{line.number:02d}"


def _is_in_play(line: Line) -> bool:
    return STATES[line.state].kind in ("draft", "open", "claimed")


def _concealed(finding: Finding, own: Collection[str]) -> Finding:
    """Without its source, too: that of a local rule is the notice of a product."""
    return Finding(
        id="",
        kind=Kind.INTERACTION,
        behaviour=finding.behaviour,
        level=finding.level,
        about=tuple(key for key in finding.about if key in own),
        rule="",
        title=f"Risque avec {HIDDEN}",
    )


def discreet(concern: Concern, scope: str) -> Concern:
    """As whoever reads the prescription may read it: of the record, no more than that something there was concerned."""
    finding = concern.finding
    is_own = all(each.startswith(f"{scope}-") for each in finding.about) and finding.kind in _OF_LINES
    if concern.is_concealed or is_own:
        return concern
    own = [each for each in finding.about if each.startswith(f"{scope}-")]
    return replace(concern, finding=replace(_concealed(finding, own), title=f"Risque avec {RECORD}"), is_concealed=True)


def _concealed_gaps(report: Report, told: Report) -> tuple[NotCovered, ...]:
    is_more = bool({each.key for each in report.not_covered} - {each.key for each in told.not_covered})
    return (NotCovered(key="", label=HIDDEN, reason=NOT_SHOWN),) if is_more else ()


# --- what settles a finding -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a finding is overridden; `by` are the roles that may say so."""

    code: str
    display: str
    by: frozenset[str]


@cache
def reasons() -> Mapping[str, Reason]:
    data = json.loads(files(__package__).joinpath("data/override_reasons.json").read_text("utf-8"))
    return {
        each["code"]: Reason(code=each["code"], display=each["display"], by=frozenset(each["by"]))
        for each in data["reasons"]
    }


def blocking_signature(checked: Checked, digest: str, overrides: Sequence[Override]) -> tuple[str, ...]:
    """What is in the way of a signature: ids of hard stops without an override, and CHANGED."""
    answered = {each.finding for each in overrides}
    found = [each.id for each in checked.concerns if each.is_hard_stop and each.id not in answered]
    return (*([] if checked.digest == digest else [CHANGED]), *found)


def blocking_supply(checked: Checked, key: str, answers: Iterable[Override]) -> tuple[str, ...]:
    """Ids of findings about a line that nobody answered for who had to."""
    answered = {each.finding for each in answers}
    return tuple(each.id for each in checked.about(key) if each.needs_answer and each.id not in answered)


def signed_form(group: Group, checked: Checked | None, overrides: Sequence[Override]) -> list[dict[str, Any]]:
    """The overrides as they are signed, in the order of their ids; each says what was found, as far as a pharmacy that
    is given the signed content may know it."""
    form = []
    for each in sorted(overrides, key=lambda each: each.finding):
        finding = discreet(available(checked).concern(each.finding), group.id).finding
        said = {"rule": finding.rule, "title": finding.title, "level": finding.level}
        form.append({"finding": each.finding, **said, "reason": each.reason, "text": each.text})
    return form


def signed_digest(group: Group) -> str:
    """That of the check that was signed; NOT_CHECKED of what is not signed, or was signed without a check."""
    return str(_signed(group.signed).get("cdsDigest", NOT_CHECKED))


def signed_overrides(prescription: Prescription) -> tuple[Override, ...]:
    """What prescribers signed, with the prescription or to change a line of it; none for a draft."""
    contents = [prescription.group.signed, *(each.approved for each in prescription.asks)]
    return tuple(
        Override(finding=each["finding"], reason=each["reason"], text=each["text"])
        for content in contents
        for each in _signed(content).get("overrides", ())
    )


def _signed(content: str | None) -> dict[str, Any]:
    signed: dict[str, Any] = json.loads(content) if content else {}
    return signed
