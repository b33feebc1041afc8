"""The care relation of a pharmacy: whoever is handed a prescription takes care of the patient for a while.

The access code that a claim needs is the patient's to give; to dispense is to look at what else the patient takes (Code
de la santé publique, R. 4235-48).
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


def after_claim(request: Request, group: Group, person: Person) -> tuple[Change, ...]:
    """What a claim changes of the patient's policy; nothing for one that comes soon after another."""
    pharmacy, at = request.caller.organisation, request.at
    source = f"Task/{group.id}"
    until = at + timedelta(days=rules()["relation_days"][Basis.PRESCRIPTION.value])
    relation = Relation(party=pharmacy, basis=Basis.PRESCRIPTION, since=at, until=until, source=source)
    policy = person.member(group.patient).policy
    mine = [each for each in policy.relations if (each.party, each.source) == (pharmacy, source)]
    if any(each.holds(at) and each.until is not None and until - each.until < _RENEWED_AFTER for each in mine):
        return ()
    kept = tuple(each for each in policy.relations if each not in mine and (each.until is None or at < each.until))
    changed = replace(policy, relations=(*kept, relation))
    records = tuple(replace(each, policy=changed) if each.patient == group.patient else each for each in person.records)
    after = replace(person, records=records, revision=person.revision + 1)
    told = () if mine else (access_changed(request, group.patient),)
    return (PersonChange(before=person, after=after), *told)
