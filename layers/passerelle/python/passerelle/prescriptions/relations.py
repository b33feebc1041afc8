"""The care relation of who sees to a prescription: a pharmacy that claims it or that it is routed to, and a nurse.

The access code that a claim needs is the patient's to give, and so is the choice of who it is routed to; to dispense is
to look at what else the patient takes (Code de la santé publique, R. 4235-48).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from passerelle.access import Request
from passerelle.consents.decision import rules
from passerelle.consents.model import Basis, Relation
from passerelle.journal import Change
from passerelle.patients.model import Person, PersonChange
from passerelle.prescriptions.model import Group
from passerelle.records.effects import access_changed

_RENEWED_AFTER = timedelta(days=1)


def related(request: Request, group: Group, person: Person, *parties: str) -> tuple[Change, ...]:
    """What it changes of the patient's policy that these organisations see to a prescription from now on.

    Nothing for those that it was said of not long before.
    """
    at = request.at
    source = f"Task/{group.id}"
    until = at + timedelta(days=rules()["relation_days"][Basis.PRESCRIPTION.value])
    policy = person.member(group.patient).policy
    known = [each for each in policy.relations if each.source == source and each.basis == Basis.PRESCRIPTION]
    recent = [each.party for each in known if each.holds(at) and each.until and until - each.until < _RENEWED_AFTER]
    new = [party for party in dict.fromkeys(parties) if party not in recent]
    if not new:
        return ()
    added = [Relation(party=each, basis=Basis.PRESCRIPTION, since=at, until=until, source=source) for each in new]
    mine = [each for each in known if each.party in new]
    kept = [each for each in policy.relations if each not in mine and (each.until is None or at < each.until)]
    changed = replace(policy, relations=(*kept, *added))
    records = tuple(replace(each, policy=changed) if each.patient == group.patient else each for each in person.records)
    after = replace(person, records=records, revision=person.revision + 1)
    told = () if len(mine) == len(new) else (access_changed(request, group.patient),)
    return (PersonChange(before=person, after=after), *told)
