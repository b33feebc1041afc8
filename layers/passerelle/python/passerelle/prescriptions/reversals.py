"""What was said to be supplied and was not, and what was supplied and could not be said in time.

E-prescription contract, sections 2, 6.3, 8 and 10: the ledger is append-only. A reversal is a new entry; a late supply
is none.
"""

from __future__ import annotations

from dataclasses import replace

from passerelle.access import Request
from passerelle.identifiers import new_resource_id, split_resource_id
from passerelle.prescriptions import history, lines, validity
from passerelle.prescriptions.commands import Commands, Move, Plan, Target
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import (
    LateSupply,
    LedgerEntry,
    Line,
    LineChange,
    Outcome,
    Prescription,
    Supplied,
    SuppliedLate,
    Supply,
)
from passerelle.records.model import ResourceKey, StoredVersion


class Reversing(Commands):
    def withdraw(self, request: Request, dispense_id: str, reason: str, if_match: int | None = None) -> Outcome:
        """Take a supply back by a new entry of the ledger: its line is open, or held, with that much again.

        `if_match` is a version of the MedicationDispense. One read more than other commands: which prescription the
        supply is of.
        """
        found = self.prescriptions.find_supply(dispense_id) if split_resource_id(dispense_id) else None
        target = Target.of(found or dispense_id)
        key = ResourceKey(type="MedicationDispense", id=dispense_id, patient=target.patient)

        def stored() -> StoredVersion | None:
            return self.record_store.find_latest(key)

        def plan(prescription: Prescription, version: StoredVersion | None) -> Plan:
            self.check_visible(request, prescription)
            entry = next((each for each in prescription.ledger if each.dispense_id == dispense_id), None)
            line = prescription.line(entry.line) if entry else None
            if entry is None or line is None or version is None:
                raise rx("RX-NOT-FOUND")
            facts = {"entry": entry, "withdrawal_window": self.policy.withdrawal_window}
            ((_, cell),) = self.decisions(request, prescription, replace(target, lines=(line.number,)), facts)
            if if_match not in (None, version.version):
                raise rx("RX-VERSION", etag=f'W/"{version.version}"')
            return self._withdrawn(request, prescription, line, str(cell.next), entry, version, reason)

        return self.run(request, target, plan, also=[stored])

    def report_late_supply(self, request: Request, target: Target, supply: Supply) -> Outcome:
        """Keep what was handed over under a claim that had ended; the ledger stays as it is (status 202).

        What was supplied since may be in addition to it: the record says so, and all concerned are told.
        """
        if not target.is_line:
            raise rx("RX-INVALID", "the operation is on one line", issue="value")
        if supply.quantity <= 0:
            raise rx("RX-INVALID", "the quantity must be above zero", issue="value")
        identifier = None
        if supply.identifier is not None:
            identifier = self.prescriptions.blinded(request.caller.organisation, supply.identifier)

        def plan(prescription: Prescription) -> Plan:
            ((line, cell),) = self.decisions(request, prescription, target, {})
            patient = prescription.group.patient
            late = LateSupply(
                line=line.number,
                number=sum(each.line == line.number for each in prescription.late) + 1,
                quantity=supply.quantity,
                at=request.at.isoformat(),
                organisation=request.caller.organisation,
                dispense_id=new_resource_id(patient, request.at),
                issue_id=new_resource_id(patient, request.at),
                identifier=identifier,
            )
            stored, told = self.record.late_versions(prescription, late, supply, request.at)
            return Plan(
                prescription=replace(prescription, late=(*prescription.late, late)),
                unmoved=(line.number,),
                status=cell.http,
                extra=(SuppliedLate(prescription=prescription.group.id, supply=late), *stored),
                record=((f"MedicationDispense/{late.dispense_id}", 1), (f"DetectedIssue/{late.issue_id}", 1)),
                resources=told,
                notes=(f"{line.number}:late-supply",),
                bound={"late": history.sha256(told[0])},
            )

        return self.run(request, target, plan)

    def _withdrawn(
        self,
        request: Request,
        prescription: Prescription,
        line: Line,
        state: str,
        entry: LedgerEntry,
        version: StoredVersion,
        reason: str,
    ) -> Plan:
        reversal = replace(
            entry,
            number=len(prescription.entries_of(line.number)) + 1,
            on=validity.paris_day(request.at),
            at=request.at.isoformat(),
            identifier=None,
            kind="reversal",
            reverses=entry.number,
        )
        after = replace(prescription, ledger=(*prescription.ledger, reversal))
        entries = after.entries_of(line.number)
        changed = lines.withdrawn(prescription.group, line, state, entry, entries, self.policy.early_days)
        stored, dispense = self.record.withdrawn_version(prescription.group, version, reason, request.at)
        extra = (Supplied(prescription=prescription.group.id, entry=reversal), stored)
        change = LineChange(prescription=prescription.group.id, before=line, after=changed)
        reference = (f"MedicationDispense/{entry.dispense_id}", version.version + 1)
        move: Move = self.recorded(request, prescription.group, change, extra, (reference,))
        return Plan(prescription=after, moves=(move,), dispense=dispense)
