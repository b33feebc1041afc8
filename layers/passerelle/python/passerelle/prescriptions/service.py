"""The life of a prescription: create, prepare, activate, accept, dispense, reject, cancel.

E-prescription contract, sections 5 to 10, 15 and 16. Every command reads the whole prescription once, asks
the table (`transitions.py`) about each line concerned, and commits once. Whoever loses a race gets the
refusal that the line means as it is now, or tries again while the command is possible after all.

A success of `dispense` is the permission to hand over: commit, then hand over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Any

from passerelle.access import Request, Touched
from passerelle.audit.commands import account_of, once
from passerelle.consents.control import is_shut_out
from passerelle.directory.model import Role
from passerelle.errors import AccessRefused, NotFound, Stale
from passerelle.events import Event, EventName
from passerelle.identifiers import new_resource_id, new_ulid, split_resource_id
from passerelle.journal import Announcement, Change, Journal
from passerelle.patients.model import Person
from passerelle.prescriptions import history, lines, numbers, signature, validity
from passerelle.prescriptions.errors import CATALOGUE, rx
from passerelle.prescriptions.guards import Situation
from passerelle.prescriptions.model import (
    ClaimChange,
    ClaimRecord,
    ClaimTerms,
    Group,
    GroupChange,
    LedgerEntry,
    Line,
    LineChange,
    LineClaimed,
    LineMovedError,
    LineSupplied,
    Order,
    Outcome,
    Prepared,
    Prescription,
    PrescriptionCreated,
    PrescriptionMovedError,
    Signature,
    Supplied,
    Supply,
    View,
)
from passerelle.prescriptions.ports import ClinicalRecord, People, Prescriptions, SignerKeys
from passerelle.prescriptions.refusals import refusal
from passerelle.prescriptions.relations import after_claim
from passerelle.prescriptions.transitions import STATES, Cell, Transitions

SERVED = ("$create", "$prepare", "$activate", "$accept", "$dispense", "$reject", "$cancel")

_ATTEMPTS = 8  # of a command that other commands of the same prescription overtake
_MAX_REQUESTS_BYTES = 48_000  # of all MedicationRequests: they are signed, stored and answered as one item
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LINE_ID = re.compile(r"(?P<group>.+)-(?P<line>\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a region may set (contract, sections 8 and 10)."""

    claim_lease: timedelta = timedelta(hours=2)
    early_days: int = 3


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


def line_task_id(group_id: str, number: int) -> str:
    return f"{group_id}-{number:02d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Move:
    """What becomes of a line, and what that takes; `record`: (reference, version) in the patient's record."""

    change: LineChange
    extra: tuple[Change, ...] = ()
    record: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return f"{self.change.before.number}:{self.change.before.state}>{self.change.after.state}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A command worked out: the prescription with what changes apart from its lines, and the lines that move.

    `unmoved` are lines that the command finds done already, `extra` what else changes.
    """

    prescription: Prescription
    moves: tuple[_Move, ...]
    unmoved: tuple[int, ...] = ()
    status: int = 200
    access_code: str | None = None
    secret: str | None = None
    dispense: str | None = None
    extra: tuple[Change, ...] = ()


class PrescriptionService:
    """`in_parallel` runs independent reads at once and returns their results in order."""

    def __init__(
        self,
        *,
        prescriptions: Prescriptions,
        journal: Journal,
        record: ClinicalRecord,
        people: People,
        keys: SignerKeys,
        in_parallel: Callable[..., tuple[Any, ...]],
        policy: Policy | None = None,
    ) -> None:
        self._prescriptions = prescriptions
        self._journal = journal
        self._record = record
        self._people = people
        self._keys = keys
        self._in_parallel = in_parallel
        self._policy = policy or Policy()
        self._transitions = Transitions(statuses={code: each.statuses[0] for code, each in CATALOGUE.items()})

    # --- prescriber -----------------------------------------------------------------------------------------

    def create(self, request: Request, order: Order) -> Outcome:
        """Keep a draft; raises RX-ROLE unless each line names the caller as its prescriber."""
        _check_key(request)
        _check_role(request, {"prescriber"})
        if any(line.prescriber != request.caller.professional for line in order.lines):
            raise rx("RX-ROLE", "the requester is not the prescriber who calls")
        return once(self._journal, request, lambda: self._create(request, order), Outcome.from_map)

    def _create(self, request: Request, order: Order) -> Outcome:
        self._people.read(request, order.patient)
        if sum(len(line.request.encode()) for line in order.lines) > _MAX_REQUESTS_BYTES:
            raise rx("RX-SIZE", f"the lines are larger than {_MAX_REQUESTS_BYTES} bytes")
        code = numbers.new_secret()
        at = request.at.isoformat()
        group = Group(
            id=new_resource_id(order.patient, request.at),
            base_url=request.base_url,
            number=numbers.new_number(),
            patient=order.patient,
            prescriber=request.caller.professional or "",
            practice=request.caller.organisation,
            authored_on=order.lines[0].authored_on,
            created_at=at,
            updated_at=at,
            code_hash=numbers.digest(code),
            version=1,
            head=history.ORIGIN,
            events=0,
        )
        drafts = tuple(
            lines.drafted(number, line, new_resource_id(order.patient, request.at))
            for number, line in enumerate(order.lines, 1)
        )
        event = history.next_event(group, request, [f"{line.number}:>{line.state}" for line in drafts])
        group = replace(group, head=event.hash, events=event.number)
        outcome = Outcome(
            prescription=Prescription(group=group, lines=drafts),
            lines=tuple(line.number for line in drafts),
            status=201,
            access_code=code,
        )
        self._journal.commit(
            [
                PrescriptionCreated(prescription=outcome.prescription),
                event,
                _announced(request, group, ()),
                *account_of(request, _touched(group), outcome.to_map()),
            ]
        )
        return outcome

    def prepare(self, request: Request, target: Target) -> Prepared:
        """What to sign for the draft as it is now; changes nothing."""
        _check_role(request, self._transitions.roles_of(request.name))
        prescription = self._visible(request, target.id)
        self._decisions(request, prescription, target, {})
        header = signature.protected_header(self._keys.keys_of(request.caller))
        return Prepared(group=prescription.group, content=self._content(request, prescription), protected=header)

    def activate(self, request: Request, target: Target, signed: Signature) -> Outcome:
        """Put a signed draft in force: all its lines, or none."""

        def plan(prescription: Prescription) -> _Plan:
            self._check_visible(request, prescription)
            content = cache(lambda: self._content(request, prescription))
            is_signed = cache(lambda: signature.is_signature(signed.jws, content(), self._keys.keys_of(request.caller)))
            facts = {"signed_on": signed.signed_on, "has_valid_signature": is_signed}
            decided = self._decisions(request, prescription, target, facts)
            group = replace(prescription.group, signed=content(), jws=signed.jws, signed_at=request.at.isoformat())
            moves = [
                self._moved(request, group, line, lines.activated(group, line, state))
                for line, state in _moving(decided)
            ]
            return _Plan(prescription=replace(prescription, group=group), moves=tuple(moves))

        if target.lines:
            raise rx("RX-INVALID", "the operation is on the whole prescription", issue="value")
        return self._run(request, target, plan)

    def cancel(self, request: Request, target: Target, reason: str) -> Outcome:
        """Cancel at once what nobody holds; of a claimed line, ask its holder to stop (status 202)."""

        def plan(prescription: Prescription) -> _Plan:
            (role,) = _roles(request)
            if role == "patient":
                self._check_visible(request, prescription)
            decided = self._decisions(request, prescription, target, {"is_patient": role == "patient"})
            at = request.at.isoformat()
            moves = [
                self._moved(
                    request,
                    prescription.group,
                    line,
                    lines.cancelled(line, state, by=role, at=at, reason=reason),
                )
                for line, state in _moving(decided)
            ]
            unmoved = tuple(line.number for line, cell in decided if line.state == cell.next)
            status = max(cell.http for _, cell in decided)
            return _Plan(prescription=prescription, moves=tuple(moves), unmoved=unmoved, status=status)

        return self._run(request, target, plan)

    # --- pharmacy -------------------------------------------------------------------------------------------

    def accept(self, request: Request, target: Target, terms: ClaimTerms) -> Outcome:
        """Claim the lines named, all or none, or every line that is free; of N callers one succeeds."""

        def plan(prescription: Prescription, person: Person | None) -> _Plan:
            facts = {
                "code": terms.code,
                "recover": terms.recover,
                "override_routing": terms.override_routing,
            }
            decided = self._decisions(request, prescription, target, facts)
            parties = (request.caller.professional, request.caller.organisation)
            if person is not None and is_shut_out(person.policy, parties):
                raise AccessRefused()  # even to who has the code: what was claimed before can be finished
            secret = numbers.new_secret()
            group = prescription.group
            moves = tuple(
                self._claimed(request, group, line, str(cell.next), numbers.digest(secret)) for line, cell in decided
            )
            relation = after_claim(request, group, person) if person else ()
            return _Plan(prescription=prescription, moves=moves, secret=secret, extra=relation)

        patient = (split_resource_id(target.id) or (None, ""))[0]

        def find() -> tuple[Prescription | None, Person | None]:
            if patient is None:
                return self._prescriptions.find(target.id), None
            found = self._in_parallel(
                lambda: self._prescriptions.find(target.id), lambda: self._people.find_person(patient)
            )
            return found[0], found[1]

        return self._run_on(request, target, find, plan, unknown="RX-ACCESS-CODE")

    def accept_number(self, request: Request, number: str, target: Target, terms: ClaimTerms) -> Outcome:
        """Claim by the number printed on the prescription; a wrong number is answered like a wrong code."""
        found = self._prescriptions.find_id(number) if numbers.is_well_formed(number) else None
        return self.accept(request, replace(target, id=found or ""), terms)

    def _claimed(self, request: Request, group: Group, line: Line, state: str, secret_hash: str) -> _Move:
        claim = ClaimRecord(
            line=line.number,
            fence=line.fence + 1,
            owner=request.caller.organisation,
            secret_hash=secret_hash,
            taken_at=_milliseconds(request),
        )
        change = LineClaimed(
            prescription=group.id,
            before=line,
            after=lines.claimed(line, state, claim, self._policy.claim_lease),
            now=claim.taken_at,
            today=validity.paris_day(request.at),
            is_recovery=lines.is_recovery(line, claim),
        )
        return _Move(change=change, extra=(ClaimChange(prescription=group.id, claim=claim),))

    def reject(self, request: Request, target: Target, secret: str, reason: str | None) -> Outcome:
        """Give lines back; what was supplied stays supplied."""

        def plan(prescription: Prescription) -> _Plan:
            decided = self._decisions(request, prescription, target, {"secret": secret})
            moves = [
                self._moved(
                    request,
                    prescription.group,
                    line,
                    lines.given_back(line, str(cell.next)),
                    extra=_ended(prescription, line, "given-back", reason),
                )
                for line, cell in decided
            ]
            return _Plan(prescription=prescription, moves=tuple(moves))

        return self._run(request, target, plan, unknown="RX-SECRET")

    def dispense(self, request: Request, target: Target, supply: Supply) -> Outcome:
        """Record a supply of one line; the commit that this returns from is the permission to hand over."""
        if not target.is_line:
            raise rx("RX-INVALID", "the operation is on one line", issue="value")
        identifier = None
        if supply.identifier is not None:
            identifier = self._prescriptions.blinded(request.caller.organisation, supply.identifier)

        def plan(prescription: Prescription) -> _Plan:
            facts = {
                "secret": supply.secret,
                "quantity": supply.quantity,
                "products": supply.products,
                "identifier": identifier,
            }
            ((line, cell),) = self._decisions(request, prescription, target, facts)
            if line.unit and supply.unit != line.unit:
                raise rx("RX-INVALID", "the quantity is in another unit than the prescribed one", issue="value")
            return self._supplied(request, prescription, line, str(cell.next), supply, identifier)

        return self._run(request, target, plan, unknown="RX-SECRET")

    def _supplied(
        self,
        request: Request,
        prescription: Prescription,
        line: Line,
        state: str,
        supply: Supply,
        identifier: str | None,
    ) -> _Plan:
        group, earlier = prescription.group, prescription.supplies_of(line.number)
        entry = LedgerEntry(
            line=line.number,
            number=len(earlier) + 1,
            fill_no=line.fill_no,
            quantity=supply.quantity,
            on=validity.paris_day(request.at),
            at=request.at.isoformat(),
            organisation=request.caller.organisation,
            dispense_id=new_resource_id(group.patient, request.at),
            identifier=identifier,
        )
        after = lines.supplied(group, line, state, [*earlier, entry], self._policy.early_days)
        stored, dispense = self._record.dispense_version(group, after, entry, supply, request.at)
        extra: tuple[Change, ...] = (Supplied(prescription=group.id, entry=entry), stored)
        code = None
        if after.owner is None:
            extra += _ended(prescription, line, "finished")
            code = _next_code(prescription, line, after)
        if code is not None:
            group = replace(group, code_hash=numbers.digest(code), rotated_for=line.secret_hash)
        change = LineSupplied(
            prescription=group.id,
            before=line,
            after=after,
            now=_milliseconds(request),
            quantity=supply.quantity,
        )
        record = ((f"MedicationDispense/{entry.dispense_id}", 1),)
        return _Plan(
            prescription=replace(prescription, group=group, ledger=(*prescription.ledger, entry)),
            moves=(self._recorded(request, group, change, extra, record),),
            access_code=code,
            dispense=dispense,
        )

    # --- everyone concerned ---------------------------------------------------------------------------------

    def read(self, request: Request, target: Target) -> View:
        """The group or one line, in effective states; raises RX-NOT-FOUND unless the caller is concerned."""
        prescription = self._visible(request, target.id)
        if not all(map(prescription.line, target.lines)):
            raise rx("RX-NOT-FOUND")
        seen = tuple(
            replace(line, state=self._effective(self._situation(request, prescription, line, {})))
            for line in prescription.lines
        )
        mine = request.caller.organisation
        if "pharmacy" in _roles(request):
            seen = tuple(line if line.owner == mine else line.released() for line in seen)
        return View(prescription=replace(prescription, lines=seen), line=next(iter(target.lines), None))

    def _visible(self, request: Request, id: str) -> Prescription:
        prescription = self._prescriptions.find(id)
        if prescription is None:
            raise rx("RX-NOT-FOUND")
        self._check_visible(request, prescription)
        self._check_bound(request, prescription)
        return prescription

    def _check_bound(self, request: Request, prescription: Prescription) -> None:
        """Raise AccessRefused for a token that is bound to somebody else."""
        if request.caller.limits is not None:
            self._people.read(request, prescription.group.patient)

    def _check_visible(self, request: Request, prescription: Prescription) -> None:
        """Patient, practice, and pharmacies that hold, held or are to hold a line are concerned."""
        group, caller, roles = prescription.group, request.caller, _roles(request)
        holders = {group.routed_to, *(claim.owner for claim in prescription.claims)}
        if "prescriber" in roles and caller.organisation == group.practice:
            return
        if "pharmacy" in roles and caller.organisation in holders:
            return
        if "patient" in roles:
            try:
                self._people.read(request, group.patient)
            except NotFound:
                raise rx("RX-NOT-FOUND") from None
            return
        raise rx("RX-NOT-FOUND")

    # --- how every command runs -----------------------------------------------------------------------------

    def _run(
        self,
        request: Request,
        target: Target,
        plan: Callable[[Prescription], _Plan],
        *,
        unknown: str = "RX-NOT-FOUND",
    ) -> Outcome:
        """Run a command on the prescription that `target` names; `unknown` is the refusal of any other."""
        return self._run_on(
            request,
            target,
            lambda: (self._prescriptions.find(target.id), None),
            lambda prescription, _: plan(prescription),
            unknown=unknown,
        )

    def _run_on(
        self,
        request: Request,
        target: Target,
        find: Callable[[], tuple[Prescription | None, Person | None]],
        plan: Callable[[Prescription, Person | None], _Plan],
        *,
        unknown: str,
    ) -> Outcome:
        """The same, on what is found each time: where the policy of the person changes too, with that person."""
        _check_key(request)
        _check_role(request, self._transitions.roles_of(request.name))

        def run() -> Outcome:
            for _ in range(_ATTEMPTS):
                prescription, person = find()
                if prescription is None or not all(map(prescription.line, target.lines)):
                    raise rx(unknown)
                self._check_bound(request, prescription)
                planned = plan(prescription, person)
                try:
                    return self._commit(request, prescription.group, planned)
                except LineMovedError as lost:
                    plan(prescription.with_line(lost.line), person)  # raises what the line means now, if it refuses
                except (PrescriptionMovedError, Stale):  # the person changed meanwhile, for one
                    continue
            raise rx("RX-RETRY", headers={"Retry-After": "1"})

        return once(self._journal, request, run, Outcome.from_map)

    def _decisions(
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
            situation = self._situation(request, prescription, line, facts)
            state = self._effective(situation)
            version = line.version if target.is_line else prescription.group.version
            is_current = target.if_match in (None, version)
            cell = self._transitions.decide(request.name, state, situation.holds, is_current=is_current)
            if cell.error is None:
                decided.append((line, cell))
                continue
            allowed = ",".join(self._transitions.allowed(state, SERVED)) or "none"
            refused = refusal(cell.error, state, situation, allowed=allowed, version=version)
            if target.lines or (cell.is_rule and cell.http in (412, 422)):
                raise refused
            refusals.append(refused)
        if not decided:
            raise refusals[0]
        return decided

    def _situation(
        self, request: Request, prescription: Prescription, line: Line, facts: Mapping[str, Any]
    ) -> Situation:
        return Situation(
            prescription=prescription,
            line=line,
            now=_milliseconds(request),
            today=validity.paris_day(request.at),
            organisation=request.caller.organisation,
            professional=request.caller.professional,
            roles=_roles(request),
            **facts,
        )

    def _effective(self, situation: Situation) -> str:
        return self._transitions.effective(situation.line.state, situation.holds)

    def _moved(
        self, request: Request, group: Group, before: Line, after: Line, extra: tuple[Change, ...] = ()
    ) -> _Move:
        change = LineChange(prescription=group.id, before=before, after=after)
        return self._recorded(request, group, change, extra)

    def _recorded(
        self,
        request: Request,
        group: Group,
        change: LineChange,
        extra: tuple[Change, ...] = (),
        record: tuple[tuple[str, int], ...] = (),
    ) -> _Move:
        """The move of a line, with a new version of its MedicationRequest when its status there changes.

        A draft is no part of the patient's record: the first version is the signed one.
        """
        before, after = change.before, change.after
        is_known = before.request_version > 0 or STATES[after.state].kind == "open"
        if not is_known or STATES[before.state].request_status == STATES[after.state].request_status:
            return _Move(change=change, extra=extra, record=record)
        after = replace(after, request_version=before.request_version + 1)
        return _Move(
            change=replace(change, after=after),
            extra=(*extra, self._record.request_version(group, after, request.at)),
            record=(*record, (f"MedicationRequest/{after.request_id}", after.request_version)),
        )

    def _commit(self, request: Request, before: Group, plan: _Plan) -> Outcome:
        """Store a plan in one transaction; `before` is the group as it was read."""
        moves, after = plan.moves, plan.prescription
        changes: list[Change] = []
        if moves:
            event = history.next_event(before, request, [str(move) for move in moves])
            group = replace(
                after.group,
                version=before.version + 1,
                updated_at=request.at.isoformat(),
                head=event.hash,
                events=event.number,
            )
            after = replace(after, group=group)
            for move in moves:
                after = after.with_line(move.change.after)
            # Lines come before the group: a loser is to learn what became of the line.
            changes += [move.change for move in moves]
            changes += [each for move in moves for each in move.extra]
            changes += [GroupChange(before=before, after=group), event, *plan.extra]
            changes += [_announced(request, group, [each for move in moves for each in move.record])]
        outcome = Outcome(
            prescription=replace(after, claims=()),
            lines=tuple(sorted([*plan.unmoved, *(move.change.after.number for move in moves)])),
            status=plan.status,
            access_code=plan.access_code,
            secret=plan.secret,
            dispense=plan.dispense,
        )
        self._journal.commit(
            [
                *changes,
                *account_of(request, _touched(after.group, outcome.lines), outcome.to_map()),
            ]
        )
        return outcome

    def _content(self, request: Request, prescription: Prescription) -> str:
        """The bytes to sign: the lines that are still drafts, as they will be in force."""
        group = prescription.group
        patient = self._people.read(request, group.patient).traits
        drafts = [line for line in prescription.lines if STATES[line.state].kind == "draft"]
        return signature.content(group, [self._record.signed_line(group, line) for line in drafts], patient)


def _moving(decided: Iterable[tuple[Line, Cell]]) -> Iterable[tuple[Line, str]]:
    return ((line, str(cell.next)) for line, cell in decided if line.state != cell.next)


def _next_code(prescription: Prescription, before: Line, after: Line) -> str | None:
    """A new access code, once per claim that completes a fill, while anything is left to claim."""
    kinds = {STATES[line.state].kind for line in prescription.with_line(after).lines}
    if prescription.group.rotated_for == before.secret_hash or not kinds & {"open", "claimed"}:
        return None
    return numbers.new_secret()


def _ended(prescription: Prescription, line: Line, how: str, reason: str | None = None) -> tuple[Change, ...]:
    """The end of the claim that holds a line."""
    return tuple(
        ClaimChange(prescription=prescription.group.id, claim=replace(claim, ended=how, reason=reason))
        for claim in prescription.claims_of(line.number)
        if claim.fence == line.fence
    )


def _announced(request: Request, group: Group, record: Sequence[tuple[str, int]]) -> Announcement:
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


def _check_key(request: Request) -> None:
    if not _UUID.fullmatch(request.idempotency_key or ""):
        raise rx("RX-IDEMPOTENCY-MISSING")


def _check_role(request: Request, allowed: Iterable[str]) -> None:
    if not _roles(request) & set(allowed):
        raise rx("RX-ROLE")


def _roles(request: Request) -> frozenset[str]:
    """What the caller is in the words of the contract: one role, or none."""
    caller = request.caller
    if caller.role in (Role.PRACTICE, Role.HOSPITAL) and caller.professional:
        return frozenset({"prescriber"})
    if caller.role == Role.PHARMACY:
        return frozenset({"pharmacy"})
    if caller.role == Role.PATIENT and caller.patient:
        return frozenset({"patient"})
    return frozenset()


def _milliseconds(request: Request) -> int:
    return int(request.at.timestamp() * 1000)


def _touched(group: Group, numbers_of_lines: Sequence[int] = ()) -> Touched:
    tasks = [group.id, *(line_task_id(group.id, number) for number in numbers_of_lines)]
    return Touched.of([group.patient], [f"Task/{task}" for task in tasks])
