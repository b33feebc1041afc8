"""May this caller see this person's record? Pure, deny by default (law 4).

`standing_of` gathers the facts that count, `admit` decides from them and nothing else: facts that were kept can be
decided again, with the same outcome. What single items of an open record are hidden is `visibility.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from passerelle.access import Caller, Decision
from passerelle.consents import habilitation
from passerelle.consents.model import Basis, MandateKind, Policy, RecordStatus
from passerelle.consents.terms import Asker, Effect, standing
from passerelle.directory.model import CARE_ROLES, Role
from passerelle.errors import AccessRefused

_DATA = Path(__file__).parent / "data" / "access_fr.json"
RESEARCH = "HRESCH"
BREAK_GLASS = "BTG"


class Implicit(StrEnum):
    """What holds for care professionals as long as the patient said nothing (contract PCF-10)."""

    BASIC_NORMAL = "basic-normal"  # they see what is of normal confidentiality
    ALL_NORMAL = "all-normal"  # they see everything that is not masked
    BREAK_GLASS_ONLY = "break-glass-only"  # a care relation is needed, or an emergency
    DENY = "deny"


class Rule(StrEnum):
    """The rule that decided."""

    UNKNOWN_PERSON = "unknown-person"
    TOKEN_IS_FOR_ANOTHER = "token-is-for-another"  # noqa: S105 - no password
    OWN_RECORD = "own-record"
    ANOTHERS_RECORD = "anothers-record"
    MANDATE = "mandate"
    NO_MANDATE = "no-mandate"
    CLOSED = "closed"
    BLOCKED = "blocked"
    ROLE = "role"
    PROFESSION = "profession"
    REGULATION = "regulation"
    REGULATION_OPPOSED = "regulation-opposed"
    RESEARCH = "research"
    RESEARCH_NOT_AGREED = "research-not-agreed"
    PAYMENT = "payment"
    ATTENDING_PHYSICIAN = "attending-physician"
    EMERGENCY = "emergency"
    CONSENT_DENIES = "consent-denies"
    CONSENT_PERMITS = "consent-permits"
    RELATION = "relation"
    IMPLICIT = "implicit"
    NO_RELATION = "no-relation"


ABSENT = frozenset({Rule.UNKNOWN_PERSON, Rule.ANOTHERS_RECORD, Rule.CLOSED, Rule.ROLE, Rule.NO_MANDATE})
"""Refusals that look like absence; all others are said."""

FEEDABLE = frozenset({Rule.NO_RELATION, Rule.CONSENT_DENIES})
"""Refusals to look in spite of which a care professional adds to the record, and sees what it added."""


SHUT = frozenset({Rule.BLOCKED, Rule.REGULATION_OPPOSED, Rule.TOKEN_IS_FOR_ANOTHER})
"""Refusals of everything, the identity of the person among it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a caller stands to a person: everything that `admit` decides from."""

    role: str
    status: RecordStatus
    implicit: Implicit
    is_own: bool = False
    profession: str | None = None
    purpose: str = ""
    is_named: bool = False  # a professional is at the keyboard, not only a system
    is_for_another: bool = False  # the token is bound to another person
    is_blocked: bool = False
    needs_mandate: bool = False
    mandate: MandateKind | None = None
    is_attending: bool = False
    relation: Basis | None = None
    consent: Effect | None = None
    in_emergency: bool = False
    opposes_emergency: bool = False
    opposes_regulation: bool = False
    agrees_to_research: bool = False

    def to_map(self) -> dict[str, Any]:
        """What differs from its default."""
        return {
            each.name: value for each in fields(self) if (value := getattr(self, each.name)) or value != each.default
        }

    @classmethod
    def from_map(cls, content: Mapping[str, Any]) -> Standing:
        read: Mapping[str, Callable[[str], Any]] = {
            "status": RecordStatus,
            "implicit": Implicit,
            "mandate": MandateKind,
            "relation": Basis,
            "consent": Effect,
        }
        return cls(**{name: read[name](value) if name in read and value else value for name, value in content.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The outcome. `may_break_glass` says that an emergency would open what is refused."""

    is_permitted: bool
    rule: Rule
    may_break_glass: bool = False

    def decision(self, standing: Standing) -> Decision:
        return Decision(
            is_permitted=self.is_permitted,
            rule=self.rule,
            facts=standing.to_map(),
            rules=rules_version(),
            purpose=BREAK_GLASS if self.rule is Rule.EMERGENCY else "",
        )


def refusal_of(admission: Admission) -> AccessRefused:
    return AccessRefused(may_break_glass=admission.may_break_glass)


def asker_of(caller: Caller, at: datetime) -> Asker:
    """Who asks, as consents name them. Whoever says that it is an emergency has broken no glass yet."""
    parties = frozenset(each for each in (caller.professional, caller.organisation) if each)
    profession = profession_of(caller)
    return Asker(
        parties=parties,
        roles=frozenset(each for each in (str(caller.role), profession) if each),
        purpose=caller.purpose
        if caller.purpose not in ("", BREAK_GLASS)
        else rules()["purpose_of_role"].get(str(caller.role), ""),
        at=at,
    )


def profession_of(caller: Caller) -> str | None:
    """The profession of who is at the keyboard; for a system alone, the one that its role stands for."""
    return caller.profession or rules()["profession_of_role"].get(str(caller.role))


def standing_of(
    caller: Caller,
    policy: Policy,
    *,
    is_own: bool,
    at: datetime,
    implicit: Implicit,
    is_for_another: bool = False,
) -> Standing:
    """`is_own`: the token names the person whose record it is, as `patient`."""
    asker = asker_of(caller, at)
    mandates = [each for each in policy.mandates if each.holder == caller.person and each.holds(at)]
    relations = [each.basis for each in policy.relations if each.party in asker.parties and each.holds(at)]
    attending = policy.attending_physician
    return Standing(
        role=str(caller.role),
        status=policy.status,
        implicit=implicit,
        is_own=is_own,
        profession=profession_of(caller),
        purpose=caller.purpose,
        is_named=caller.professional is not None,
        is_for_another=is_for_another,
        is_blocked=any(each.party in asker.parties for each in policy.blocks),
        needs_mandate=caller.person is not None,
        mandate=mandates[0].kind if mandates else None,
        is_attending=attending is not None and caller.professional == attending,
        relation=relations[0] if relations else None,
        consent=standing(policy.consents, asker),
        in_emergency=any(each.professional == caller.professional and each.holds(at) for each in policy.emergencies),
        opposes_emergency=policy.opposes_emergency,
        opposes_regulation=policy.opposes_regulation,
        agrees_to_research=policy.agrees_to_research,
    )


def admit(who: Standing) -> Admission:
    """Whether the record is open to a caller, the first rule that applies deciding; everything else is refused."""
    if who.is_for_another:
        return _refused(Rule.TOKEN_IS_FOR_ANOTHER)
    if who.role in (Role.PATIENT, Role.REPRESENTATIVE):
        return _admit_own(who)
    if who.role not in LOOKING_ROLES:
        return _refused(Rule.ROLE)
    if who.status is RecordStatus.CLOSED:
        return _refused(Rule.CLOSED)
    if who.is_blocked:
        return _refused(Rule.BLOCKED)
    if not habilitation.is_known(who.role, who.profession):
        return _refused(Rule.PROFESSION)
    match who.role:
        case Role.REGULATION:
            return _refused(Rule.REGULATION_OPPOSED) if who.opposes_regulation else _permitted(Rule.REGULATION)
        case Role.RESEARCHER:
            is_agreed = who.agrees_to_research and who.purpose == RESEARCH and who.consent is not Effect.DENY
            return _permitted(Rule.RESEARCH) if is_agreed else _refused(Rule.RESEARCH_NOT_AGREED)
        case Role.PAYER:
            return _admit_payer(who)
    return _admit_care(who)


def _admit_payer(who: Standing) -> Admission:
    """Nothing is implied for who pays: the patient, or a relation that the patient knows of, has to say so."""
    if who.consent is Effect.DENY:
        return _refused(Rule.CONSENT_DENIES)
    is_known = who.relation is not None or who.consent is Effect.PERMIT
    return _permitted(Rule.PAYMENT) if is_known else _refused(Rule.NO_RELATION)


def _admit_own(who: Standing) -> Admission:
    if not who.is_own:
        return _refused(Rule.ANOTHERS_RECORD)
    if who.needs_mandate and who.mandate is None:
        return _refused(Rule.NO_MANDATE)
    if who.status is RecordStatus.CLOSED:
        return _refused(Rule.CLOSED)
    return _permitted(Rule.MANDATE if who.role == Role.REPRESENTATIVE else Rule.OWN_RECORD)


def _admit_care(who: Standing) -> Admission:
    if who.is_attending:
        return _permitted(Rule.ATTENDING_PHYSICIAN)
    may_break = may_break_glass(who)
    if who.in_emergency and may_break:
        return _permitted(Rule.EMERGENCY)
    if who.consent is Effect.DENY:
        return Admission(is_permitted=False, rule=Rule.CONSENT_DENIES, may_break_glass=may_break)
    if who.relation is not None:
        return _permitted(Rule.RELATION)
    if who.consent is Effect.PERMIT:
        return _permitted(Rule.CONSENT_PERMITS)
    if who.implicit in (Implicit.BASIC_NORMAL, Implicit.ALL_NORMAL):
        return _permitted(Rule.IMPLICIT)
    return Admission(is_permitted=False, rule=Rule.NO_RELATION, may_break_glass=may_break)


def may_break_glass(who: Standing) -> bool:
    """Whether an emergency opens the record to this caller: a named professional of a profession that may, of a patient
    who does not oppose it."""
    return (
        who.is_named
        and who.role in CARE_ROLES
        and who.profession in rules()["breaks_glass"]
        and not who.is_blocked
        and not who.is_for_another
        and not who.opposes_emergency
        and who.implicit is not Implicit.DENY
        and who.status is not RecordStatus.CLOSED
    )


LOOKING_ROLES: Collection[str] = CARE_ROLES | {Role.REGULATION, Role.PAYER, Role.RESEARCHER}


def may_identify(caller: Caller, policy: Policy, *, is_own: bool, at: datetime) -> bool:
    """Whether the identity of a person exists for this caller: closing a record hides it, not who someone is.

    Somebody may log in for anybody: without a mandate there is nobody. Researchers look at records that they were given
    the keys of, and find nobody.
    """
    if caller.role in (Role.PATIENT, Role.REPRESENTATIVE):
        is_entitled = caller.person is None or any(
            each.holder == caller.person and each.holds(at) for each in policy.mandates
        )
        return is_own and is_entitled
    return caller.role in LOOKING_ROLES and caller.role != Role.RESEARCHER


def _permitted(rule: Rule) -> Admission:
    return Admission(is_permitted=True, rule=rule)


def _refused(rule: Rule) -> Admission:
    return Admission(is_permitted=False, rule=rule)


def rules_version() -> str:
    """Of the rules of access and the matrix together."""
    return f"{rules()['version']} {habilitation.version()}"


@cache
def rules() -> Mapping[str, Any]:
    """The country's rules of access, as data."""
    content: Mapping[str, Any] = json.loads(_DATA.read_text("utf-8"))
    return content
