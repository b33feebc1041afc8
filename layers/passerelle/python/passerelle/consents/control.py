"""What follows in a policy from a command of the patient, and in which capacity somebody gives one. Pure.

Code de la santé publique: R. 1111-46 (professionals shut out), L. 1110-4 and L. 1111-17 (consent to an access),
L. 1111-17 (emergency, regulation). Ended decisions leave the policy: what was decided stays in the history.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Final

from passerelle.access import Caller
from passerelle.consents.decision import Standing
from passerelle.consents.model import Basis, Block, Emergency, Mandate, MandateKind, Policy, Relation
from passerelle.directory.model import CARE_ROLES, Role

_EMERGENCIES: Final = Path(__file__).parent / "data" / "emergency_reasons_fr.json"
OF_AGE_YEARS: Final = 18
MAX_PARTIES: Final = 200  # that are shut out, and that are authorised: a policy is read with every request
MAX_MANDATES: Final = 20
MAX_RELEASED: Final = 500


class Capacity(StrEnum):
    """What somebody is to the patient when giving a command."""

    PATIENT = "patient"
    REPRESENTATIVE = "representative"  # holds parental authority, is the guardian, or is registered as representative
    CARER = "carer"
    PROFESSIONAL = "professional"


OWN: Final = frozenset({Capacity.PATIENT, Capacity.REPRESENTATIVE})
"""Who decides for the patient."""


def capacity_of(standing: Standing) -> Capacity | None:
    """None: the person does not exist for the caller, or its record is none of the caller's business."""
    if standing.role in CARE_ROLES:
        return Capacity.PROFESSIONAL
    if standing.role not in (Role.PATIENT, Role.REPRESENTATIVE) or not standing.is_own or standing.is_for_another:
        return None
    if standing.needs_mandate:
        if standing.mandate is None:
            return None
        return Capacity.CARER if standing.mandate is MandateKind.CARER else Capacity.REPRESENTATIVE
    return Capacity.PATIENT if standing.role == Role.PATIENT else Capacity.REPRESENTATIVE


# --- parties --------------------------------------------------------------------------------------------------------


def is_shut_out(policy: Policy, parties: Iterable[str | None]) -> bool:
    named = set(parties)
    return any(each.party in named for each in policy.blocks)


def shut_out(policy: Policy, party: str, at: datetime) -> Policy:
    """Nothing opens the record to the party any more, and nothing it was allowed comes back with an `admitted`."""
    return replace(
        unauthorised(policy, party),
        blocks=(*(each for each in policy.blocks if each.party != party), Block(party=party, since=at)),
        emergencies=tuple(each for each in policy.emergencies if party not in (each.professional, each.organisation)),
    )


def admitted(policy: Policy, party: str) -> Policy:
    return replace(policy, blocks=tuple(each for each in policy.blocks if each.party != party))


def _is_authorisation(relation: Relation, party: str) -> bool:
    """Whether it is an authorisation that was given by command; others follow from a resource, and end with it."""
    return relation.party == party and relation.basis is Basis.AUTHORISATION and not relation.source


def is_authorised(policy: Policy, party: str) -> bool:
    return any(_is_authorisation(each, party) for each in policy.relations)


def authorised(policy: Policy, party: str, *, since: datetime, until: datetime | None) -> Policy:
    """The latest authorisation of a party stands for all before."""
    given = Relation(party=party, basis=Basis.AUTHORISATION, since=since, until=until)
    return replace(unauthorised(policy, party), relations=(*unauthorised(policy, party).relations, given))


def unauthorised(policy: Policy, party: str) -> Policy:
    return replace(policy, relations=tuple(each for each in policy.relations if not _is_authorisation(each, party)))


# --- proxies --------------------------------------------------------------------------------------------------------


def of_age_on(born: date) -> datetime:
    """The beginning of the 18th birthday; of who was born on 29 February, 1 March."""
    year = born.year + OF_AGE_YEARS
    if (born.month, born.day) == (2, 29):  # eighteen years later is never a leap year
        return datetime(year, 3, 1, tzinfo=UTC)
    return datetime(year, born.month, born.day, tzinfo=UTC)


def mandate_of(policy: Policy, holder: str) -> Mandate | None:
    return next((each for each in policy.mandates if each.holder == holder), None)


def appointed(policy: Policy, mandate: Mandate) -> Policy:
    """One mandate a holder: the latest. A carer who is appointed again keeps what was released."""
    before = mandate_of(policy, mandate.holder)
    if mandate.kind is MandateKind.CARER:
        kept = before.released if before and before.kind is MandateKind.CARER else None
        mandate = replace(mandate, released=kept or frozenset())
    return replace(policy, mandates=(*dismissed(policy, mandate.holder).mandates, mandate))


def dismissed(policy: Policy, holder: str) -> Policy:
    return replace(policy, mandates=tuple(each for each in policy.mandates if each.holder != holder))


def released(policy: Policy, holder: str, references: frozenset[str]) -> Policy:
    return replace(policy, mandates=tuple(_with(each, holder, add=references) for each in policy.mandates))


def withheld(policy: Policy, holder: str, references: frozenset[str]) -> Policy:
    return replace(policy, mandates=tuple(_with(each, holder, remove=references) for each in policy.mandates))


def _with(
    mandate: Mandate, holder: str, *, add: frozenset[str] = frozenset(), remove: frozenset[str] = frozenset()
) -> Mandate:
    if mandate.holder != holder or mandate.released is None:
        return mandate
    return replace(mandate, released=(mandate.released | add) - remove)


# --- emergencies ----------------------------------------------------------------------------------------------------


def broken(policy: Policy, emergency: Emergency) -> Policy:
    """The glass is broken; what is over leaves the policy. One that began later stays: of a request that came first."""
    kept = tuple(
        each
        for each in policy.emergencies
        if emergency.since < each.until and each.professional != emergency.professional
    )
    return replace(policy, emergencies=(*kept, emergency))


@cache
def emergency_codes() -> Mapping[str, Any]:
    """Why a glass is broken (`reasons`), and what becomes of it (`verdicts`): the country's codes, with their words."""
    content: Mapping[str, Any] = json.loads(_EMERGENCIES.read_text("utf-8"))
    return content


# --- what each is told ----------------------------------------------------------------------------------------------


def told_of(policy: Policy, caller: Caller, capacity: Capacity) -> Policy:
    """The policy as far as it is the caller's business: everybody else's part of it is left out."""
    if capacity in OWN:
        return policy
    parties = {caller.professional, caller.organisation}
    is_carer = capacity is Capacity.CARER
    return replace(
        policy,
        relations=() if is_carer else tuple(each for each in policy.relations if each.party in parties),
        blocks=(),
        mandates=tuple(each for each in policy.mandates if is_carer and each.holder == caller.person),
        emergencies=tuple(
            each for each in policy.emergencies if not is_carer and each.professional == caller.professional
        ),
        consents=(),
        opposes_emergency=False,
        opposes_regulation=False,
        agrees_to_research=False,
    )
