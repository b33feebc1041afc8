"""How every command on a prescription runs: read once, decide by the table, commit once.

E-prescription contract, sections 5 to 9. A command reads the whole prescription once, asks the table
(`transitions.py`) about each line concerned, and commits once. Whoever loses a race gets the refusal that the line
means as it is now, or tries again while the command is possible after all.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NoReturn, TypeVar

from passerelle.access import Request, Touched
from passerelle.audit.commands import ANSWER_KEPT, account_of, once
from passerelle.consents.control import is_shut_out
from passerelle.consents.decision import profession_of
from passerelle.directory.model import Role
from passerelle.errors import AccessRefused, Gone, NotFound, PasserelleError, Stale
from passerelle.events import Event, EventName
from passerelle.identifiers import new_ulid, split_resource_id
from passerelle.journal import Announcement, Change, Journal
from passerelle.medicines.errors import KnowledgeUnavailable
from passerelle.medicines.model import Concept, Product, Treatment
from passerelle.medicines.ports import KnowledgeBase
from passerelle.patients.model import Person
from passerelle.prescriptions import history, reminders, validity, worklists
from passerelle.prescriptions.checking import Checks, Circumstances
from passerelle.prescriptions.errors import CATALOGUE, code_of, rx
from passerelle.prescriptions.guards import Situation
from passerelle.prescriptions.model import (
    ClaimChange,
    Group,
    GroupChange,
    Line,
    LineChange,
    LineMovedError,
    Outcome,
    Prescribed,
    Prescription,
    PrescriptionMovedError,
)
from passerelle.prescriptions.ports import (
    ClinicalRecord,
    CurrentVersions,
    Failures,
    Parties,
    People,
    Prescriptions,
    SignerKeys,
)
from passerelle.prescriptions.refusals import refusal
from passerelle.prescriptions.regulation import Regime, regime_of
from passerelle.prescriptions.transitions import STATES, Cell, Transitions

R = TypeVar("R")

_ATTEMPTS = 8  # of a command that other commands of the same prescription overtake
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_REPEATED_LATE = ("$dispense", "$withdraw", "$cancel")  # as long as a prescription lives, and a year
_LONG_KEPT = timedelta(days=731)
_GUESSED = ("RX-ACCESS-CODE", "RX-SECRET")
_LINE_ID = re.compile(r"(?P<group>.+)-(?P<line>\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a region may set (contract, sections 8 and 10)."""

    claim_lease: timedelta = timedelta(hours=2)
    lease_cap: timedelta = timedelta(days=7)
    withdrawal_window: timedelta = timedelta(hours=72)
    early_days: int = 3
    sign_without_check: bool = False  # while the medicines base is out of reach; the signed bytes say so then


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The prescription or the lines that a call names; no `lines` means those in whose state it succeeds.

    `if_match` is a version of the line when `is_line`, else of the group.
    """

    id: str
    lines: tuple[int, ...] = ()
    if_match: int | None = None
    is_line: bool = False

    @classmethod
    def of(cls, task_id: str, lines: Sequence[int] = (), if_match: int | None = None) -> Target:
        """Read a Task id: `<group id>`, or `<group id>-01` for line 1, which leaves no other line to name."""
        match = None if split_resource_id(task_id) else _LINE_ID.fullmatch(task_id)
        if match is None:
            return cls(id=task_id, lines=tuple(dict.fromkeys(lines)), if_match=if_match)
        return cls(id=match["group"], lines=(int(match["line"]),), if_match=if_match, is_line=True)

    @property
    def patient(self) -> str | None:
        """The key of the patient, as the id tells it."""
        return (split_resource_id(self.id) or (None, ""))[0]


PROXIES = frozenset({"patient", "representative"})
"""Who acts for the patient: whether they may for this one is the patient index's to say."""


def line_task_id(group_id: str, number: int) -> str:
    return f"{group_id}-{number:02d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What becomes of a line, and what that takes; `record`: (reference, version) in the patient's record."""

    change: LineChange
    extra: tuple[Change, ...] = ()
    record: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return f"{self.change.before.number}:{self.change.before.state}>{self.change.after.state}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A command worked out: the prescription with what changes apart from its lines, and the lines that move.

    `unmoved` are lines that the command finds done already, `extra` what else changes, `record` what else it changes
    of the patient's record. `notes` are facts for the history that no move of a line tells (`routed`): with one of
    them the group changes even if no line does. `resources` are what else the answer has, and
    `checks` what it shows of the clinical checks, as JSON; `made` is another prescription that the command begins, and
    that the answer is about.
    `bound` are digests for the history, by name (`history.py`).
    """

    prescription: Prescription
    moves: tuple[Move, ...] = ()
    unmoved: tuple[int, ...] = ()
    status: int = 200
    access_code: str | None = None
    secret: str | None = None
    dispense: str | None = None
    extra: tuple[Change, ...] = ()
    record: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    checks: str | None = None
    not_checked: tuple[str, ...] = ()
    made: Prescription | None = None
    bound: Mapping[str, str] = field(default_factory=dict)

    def bound_in(self, before: Group) -> dict[str, str]:
        """With what becomes signed, and with what is supplied."""
        found = dict(self.bound)
        group = self.prescription.group
        if group.signed is not None and group.signed != before.signed:
            found["content"] = history.sha256(group.signed)
        if self.dispense is not None:
            found["dispense"] = history.sha256(self.dispense)
        return found


class Commands:
    """`in_parallel` runs independent reads at once and returns their results in order."""

    def __init__(
        self,
        *,
        prescriptions: Prescriptions,
        journal: Journal,
        record: ClinicalRecord,
        people: People,
        keys: SignerKeys,
        parties: Parties,
        failures: Failures,
        record_store: CurrentVersions,
        checks: Checks,
        in_parallel: Callable[..., tuple[Any, ...]],
        knowledge: KnowledgeBase | None = None,
        policy: Policy | None = None,
    ) -> None:
        self.prescriptions = prescriptions
        self.journal = journal
        self.record = record
        self.people = people
        self.keys = keys
        self.parties = parties
        self.failures = failures
        self.record_store = record_store
        self.checks = checks
        self.in_parallel = in_parallel
        self.knowledge = knowledge  # None: every product is unknown
        self.policy = policy or Policy()
        statuses = {code: each.statuses[0] for code, each in CATALOGUE.items()}
        self.transitions = Transitions(statuses=statuses)

    def known_of(self, request: Request, target: Target) -> Callable[[], Circumstances]:
        """The read of what the checks take from the patient's record."""

        def read() -> Circumstances:
            return self.checks.find(request.caller, target.patient, request.at) if target.patient else Circumstances()

        return read

    def person_of(self, target: Target) -> Callable[[], Person | None]:
        """The read of the person that a prescription is for."""
        return lambda: self.people.find_person(target.patient) if target.patient else None

    def visible(self, request: Request, id: str) -> Prescription:
        prescription = self.prescriptions.find(id)
        if prescription is None:
            raise rx("RX-NOT-FOUND")
        self.check_visible(request, prescription)
        self.check_bound(request, prescription)
        check_open(request, prescription, self.people.find_person(prescription.group.patient))
        return prescription

    def check_bound(self, request: Request, prescription: Prescription) -> None:
        """Raise AccessRefused for a token that is bound to somebody else."""
        if request.caller.limits is not None:
            self.people.read(request, prescription.group.patient)

    def check_visible(self, request: Request, prescription: Prescription) -> None:
        """Patient, practice, coordinating nurse, and pharmacies that hold, held or are to hold a line are concerned."""
        group, caller, mine = prescription.group, request.caller, roles(request)
        holders = {group.routed_to, *(claim.owner for claim in prescription.claims)}
        if "prescriber" in mine and caller.organisation == group.practice:
            return
        if "coordinator" in mine and caller.organisation == group.coordinator:
            return
        if "pharmacy" in mine and caller.organisation in holders:
            return
        if mine & PROXIES:
            try:
                self.people.read(request, group.patient)
            except NotFound:
                raise rx("RX-NOT-FOUND") from None
            return
        raise rx("RX-NOT-FOUND")

    def run(
        self,
        request: Request,
        target: Target,
        plan: Callable[..., Plan],
        *,
        also: Sequence[Callable[[], Any]] = (),
        unknown: str = "RX-NOT-FOUND",
        allowed: Iterable[str] | None = None,
        is_claim: bool = False,
    ) -> Outcome:
        """Run a command on the prescription that `target` names; `unknown` is the refusal of any other.

        `plan` is called with the prescription and with what each of `also` has read, all in one round. Where `unknown`
        is that of a wrong code or secret, who fails too often is locked out. `allowed` are the roles of a command that
        is no row of the table. Who loses a claim (`is_claim`) to another one is refused without another read: to know
        what any other loser is to be told takes more than the line.
        """
        check_key(request)
        check_role(request, self.transitions.roles_of(request.name) if allowed is None else allowed)

        me = request.caller.organisation
        is_guessing = unknown in _GUESSED
        asked: set[str] = set()  # for the record of a refusal; a number that does not exist leaves none

        def locked() -> datetime | None:
            return self.failures.locked_until(me, target.id, request.at) if is_guessing else None

        def run() -> Outcome:
            try:
                return attempts()
            except PasserelleError as refused:
                refused.about = tuple(asked)
                raise

        def attempts() -> Outcome:
            for _ in range(_ATTEMPTS):
                prescription, *read, locked_until = self.find(target.id, [*also, locked])
                if locked_until is not None:
                    raise locked_out(request, locked_until)
                if prescription is None or not all(map(prescription.line, target.lines)):
                    raise rx(unknown)
                asked.add(f"Task/{prescription.group.id}")
                self.check_bound(request, prescription)
                planned = plan(prescription, *read)
                try:
                    return self.commit(request, prescription, planned)
                except LineMovedError as lost:
                    if is_claim and lost.line.owner is not None:
                        plan(prescription.with_line(lost.line), *read)  # raises what the line means now, if it refuses
                except (PrescriptionMovedError, Stale):  # the person changed meanwhile, for one
                    continue
            raise rx("RX-RETRY", headers={"Retry-After": "1"})

        try:
            return once(self.journal, request, run, Outcome.from_map)
        except PasserelleError as refused:  # and a repeated request that was answered before is none
            if is_guessing and code_of(refused) in _GUESSED:
                self.failures.count(me, target.id, request.at)
            raise

    def find(self, id: str, also: Sequence[Callable[[], Any]] = ()) -> tuple[Any, ...]:
        """The prescription, or None, and what each of `also` reads, in one round."""

        def find() -> Prescription | None:
            return self.prescriptions.find(id)

        return self.in_parallel(find, *also) if also else (find(),)

    def decisions(
        self, request: Request, prescription: Prescription, target: Target, facts: Mapping[str, Any]
    ) -> list[tuple[Line, Cell]]:
        """The lines that the command succeeds on, as stored; raises its refusal.

        Lines that are named succeed together. Otherwise a line whose state or claim refuses is left out, and
        the first of them answers when none is left; a rule that is broken refuses the whole command.
        """
        decided, refusals = [], []
        for line in prescription.lines:
            if target.lines and line.number not in target.lines:
                continue
            situation = self.situation(request, prescription, line, facts)
            state = self.effective(situation)
            version = line.version if target.is_line else prescription.group.version
            is_current = target.if_match in (None, version)
            cell = self.transitions.decide(request.name, state, situation.holds, is_current=is_current)
            if cell.error is None:
                decided.append((line, cell))
                continue
            allowed = ",".join(self.transitions.allowed(state)) or "none"
            refused = refusal(cell.error, state, situation, allowed=allowed, version=version)
            if target.lines or (cell.is_rule and cell.http in (412, 422)):
                raise refused
            refusals.append(refused)
        if not decided:
            raise refusals[0]
        return decided

    def situation(
        self, request: Request, prescription: Prescription, line: Line, facts: Mapping[str, Any]
    ) -> Situation:
        return Situation(
            prescription=prescription,
            line=line,
            now=milliseconds(request),
            today=validity.paris_day(request.at),
            organisation=request.caller.organisation,
            professional=request.caller.professional,
            roles=roles(request),
            profession=profession_of(request.caller),
            early_days=self.policy.early_days,
            **facts,
        )

    def regime_of(self, line: Prescribed) -> Regime:
        """The rules that a line is under, by what is known of its product now.

        Raises RX-RETRY without the base, unless the region lets prescribers sign without a check: then the product is
        an unknown one.
        """
        if self.knowledge is None:
            return regime_of(line, None)
        try:
            product = self.the_product(line.products)
            known = None if product else self.knowledge.resolve(Treatment(key="", codings=line.products))
        except KnowledgeUnavailable:
            if not self.policy.sign_without_check:
                raise rx("RX-RETRY", "the medicines base is not available", headers={"Retry-After": "5"}) from None
            return regime_of(line, None)
        return regime_of(line, product, known.substances if isinstance(known, Concept) else ())

    def known_product(self, codings: Sequence[str]) -> Product | None:
        """What is supplied, as the base knows it; without the base it is an unknown product."""
        try:
            return self.the_product(codings)
        except KnowledgeUnavailable:
            return None

    def the_product(self, codings: Sequence[str]) -> Product | None:
        """Raises RX-INVALID for codes of two products: the rules of one would hold for the other."""
        if self.knowledge is None:
            return None
        products = {each.code: each for coding in codings if (each := self.knowledge.product([coding]))}
        if len(products) > 1:
            raise rx("RX-INVALID", "the codes name two products", issue="code-invalid")
        return next(iter(products.values()), None)

    def effective(self, situation: Situation) -> str:
        return self.transitions.effective(situation.line.state, situation.holds)

    def moved(self, request: Request, group: Group, before: Line, after: Line, extra: tuple[Change, ...] = ()) -> Move:
        change = LineChange(prescription=group.id, before=before, after=after)
        return self.recorded(request, group, change, extra)

    def recorded(
        self,
        request: Request,
        group: Group,
        change: LineChange,
        extra: tuple[Change, ...] = (),
        record: tuple[tuple[str, int], ...] = (),
    ) -> Move:
        """The move of a line, with a new version of its MedicationRequest when its status there changes.

        A draft is no part of the patient's record: the first version is the signed one.
        """
        before, after = change.before, change.after
        is_known = before.request_version > 0 or STATES[after.state].kind == "open"
        if not is_known or STATES[before.state].request_status == STATES[after.state].request_status:
            return Move(change=change, extra=extra, record=record)
        after = replace(after, request_version=before.request_version + 1)
        return Move(
            change=replace(change, after=after),
            extra=(*extra, self.record.request_version(group, after, request.at)),
            record=(*record, (f"MedicationRequest/{after.request_id}", after.request_version)),
        )

    def commit(self, request: Request, before: Prescription, plan: Plan) -> Outcome:
        """Store a plan in one transaction; `before` is the prescription as it was read."""
        moves, after = plan.moves, plan.prescription
        changes: list[Change] = []
        if moves or plan.notes:
            facts = [*map(str, moves), *plan.notes]
            event = history.next_event(before.group, request, facts, plan.bound_in(before.group))
            group = replace(
                after.group,
                version=before.group.version + 1,
                updated_at=request.at.isoformat(),
                head=event.hash,
                events=event.number,
            )
            after = replace(after, group=group)
            for move in moves:
                after = after.with_line(move.change.after)
            group, woken = reminders.after(before, after, request.at)
            after = replace(after, group=group)
            # Lines come before the group: a loser is to learn what became of the line.
            changes += [move.change for move in moves]
            changes += [each for move in moves for each in move.extra]
            changes += [GroupChange(before=before.group, after=group), event, *plan.extra]
            record = [*(each for move in moves for each in move.record), *plan.record]
            changes += [announced(request, group, record), *worklists.changes(before, after), *woken]
        concerned = tuple(sorted([*plan.unmoved, *(move.change.after.number for move in moves)]))
        accessed = touched(after.group, concerned)
        if plan.made is not None:
            after, concerned = plan.made, tuple(line.number for line in plan.made.lines)
            accessed = replace(accessed, references=(*accessed.references, *touched(after.group).references))
        outcome = Outcome(
            prescription=told_to(request, replace(after, claims=())),
            lines=concerned,
            status=plan.status,
            access_code=plan.access_code,
            secret=plan.secret,
            dispense=plan.dispense,
            resources=plan.resources,
            checks=plan.checks,
            not_checked=plan.not_checked,
        )
        kept = _LONG_KEPT if request.name in _REPEATED_LATE else ANSWER_KEPT
        self.journal.commit([*changes, *account_of(request, accessed, outcome.to_map(), kept=kept)])
        return outcome


def held(read: Callable[[], R]) -> Callable[[], Callable[[], R]]:
    """The read for the one round of a command: what it raises is raised where its result is asked for."""

    def run() -> Callable[[], R]:
        try:
            found = read()
        except PasserelleError as refusal:
            return partial(_raised, refusal)
        return lambda: found

    return run


def _raised(refusal: PasserelleError) -> NoReturn:
    raise refusal


def moving(decided: Iterable[tuple[Line, Cell]]) -> Iterable[tuple[Line, str]]:
    return ((line, str(cell.next)) for line, cell in decided if line.state != cell.next)


def ended(prescription: Prescription, line: Line, how: str, reason: str | None = None) -> tuple[Change, ...]:
    """The end of the claim that holds a line."""
    return tuple(
        ClaimChange(prescription=prescription.group.id, claim=replace(claim, ended=how, reason=reason))
        for claim in prescription.claims_of(line.number)
        if claim.fence == line.fence
    )


def announced(request: Request, group: Group, record: Sequence[tuple[str, int]]) -> Announcement:
    """The new version of the group, and of each resource of the patient's record that changes with it."""
    changed = [(EventName.PRESCRIPTION_CHANGED, f"Task/{group.id}", group.version)]
    changed += [(EventName.RECORD_CHANGED, reference, version) for reference, version in record]
    events = tuple(
        Event(
            name=name,
            reference=reference,
            version=version,
            at=request.at,
            author=request.caller.client_id,
            patient=group.patient,
        )
        for name, reference, version in changed
    )
    return Announcement(id=new_ulid(request.at), events=events)


def locked_out(request: Request, until: datetime) -> PasserelleError:
    seconds = max(1, round((until - request.at).total_seconds()))
    return rx("RX-RATE", headers={"Retry-After": str(seconds)})


def check_key(request: Request) -> None:
    if not _UUID.fullmatch(request.idempotency_key or ""):
        raise rx("RX-IDEMPOTENCY-MISSING")


def check_role(request: Request, allowed: Iterable[str]) -> None:
    if not roles(request) & set(allowed):
        raise rx("RX-ROLE")


def roles(request: Request) -> frozenset[str]:
    """What the caller is in the words of the contract: one role, or none."""
    caller = request.caller
    if caller.role in (Role.PRACTICE, Role.HOSPITAL) and caller.professional:
        return frozenset({"prescriber"})
    if caller.role == Role.PHARMACY:
        return frozenset({"pharmacy"})
    if caller.role in (Role.PATIENT, Role.REPRESENTATIVE) and caller.patient:
        return frozenset({str(caller.role)})
    if caller.role == Role.NURSE:
        return frozenset({"coordinator"})
    if caller.role == Role.AUDITOR:
        return frozenset({"auditor"})
    return frozenset()


def told_to(request: Request, prescription: Prescription) -> Prescription:
    """What the caller is told of: a pharmacy learns that a prescription goes to another one, and not to which."""
    group = prescription.group
    if "pharmacy" not in roles(request) or group.routed_to in (None, request.caller.organisation):
        return prescription
    return replace(prescription, group=replace(group, routed_to=""))


def is_kept_out(request: Request, prescription: Prescription, person: Person | None) -> bool:
    """Whether the patient has shut out the professional who asks. Who holds a line finishes what was begun."""
    caller = request.caller
    if roles(request) & PROXIES or any(line.owner == caller.organisation for line in prescription.lines):
        return False
    return person is not None and is_shut_out(person.policy, (caller.professional, caller.organisation))


def check_open(request: Request, prescription: Prescription, person: Person | None) -> None:
    """Raises Gone for a person who was erased, AccessRefused for who is kept out."""
    if person is not None and person.is_erased:
        raise Gone()
    if is_kept_out(request, prescription, person):
        raise AccessRefused()


def milliseconds(request: Request) -> int:
    return int(request.at.timestamp() * 1000)


def touched(group: Group, numbers_of_lines: Sequence[int] = ()) -> Touched:
    """With the head of the history, so that the verifiable log anchors it."""
    tasks = [f"Task/{each}" for each in (group.id, *(line_task_id(group.id, each) for each in numbers_of_lines))]
    head = base64.b64encode(bytes.fromhex(group.head)).decode()
    return Touched.of([group.patient], tasks, [(tasks[0], head)])
