"""From whom a resource is hidden: its labels, and the rules that read them. Pure, deny by default (law 4).

The visibility labels of the shared record are those of the French nomenclature TRE_A07, beside them stand the
confidentiality codes above normal (HL7 v3: R, V); which kind of viewer each hides from is data
(`data/visibility_*.json`), so that another country brings its own. Labels are a set: each hides on its own, none lifts
another (contract D6).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from passerelle.access import Caller
from passerelle.consents.decision import (
    BREAK_GLASS,
    Admission,
    Implicit,
    Rule,
    Standing,
    asker_of,
    profession_of,
    rules_version,
)
from passerelle.consents.habilitation import CODE, CODED, NOTHING, OPEN, Row, row_of
from passerelle.consents.model import Policy
from passerelle.consents.terms import Asker, Facts, Sieve, permits_restricted, sieve, terms_to_map
from passerelle.directory.model import CARE_ROLES, Role

_DATA = Path(__file__).parent / "data" / "visibility_fr.json"


class Viewer(StrEnum):
    """What a caller is to the person whose record it looks at."""

    PROFESSIONAL = "professional"
    SOCIAL_PROFESSIONAL = "social-professional"  # nobody of that kind takes part yet
    THIRD_PARTY = "third-party"  # who comes by a temporary link
    PAYER = "payer"
    RESEARCHER = "researcher"
    PATIENT = "patient"
    REPRESENTATIVE = "representative"


class Exemption(StrEnum):
    """What lets a professional see in spite of a label."""

    PRODUCER = "producer"
    ATTENDING_PHYSICIAN = "attending-physician"
    PHYSICIAN = "physician"
    CONSENTED = "consented"  # a provision of the patient's consent opens what is labelled so
    EMERGENCY = "emergency"
    ALL_NORMAL = "all-normal"  # confidentiality is not looked at where nothing else was decided


@dataclass(frozen=True, slots=True, kw_only=True)
class Restriction:
    """The labels on a resource, and the organisation (IDNST) that published it.

    What `is_withdrawn` is still read by its id by those who may see it, and nothing speaks of it any more.
    """

    labels: frozenset[str]
    producer: str | None
    is_withdrawn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How one caller looks at one person's record.

    `is_own_only`: at nothing but what its organisation published. `released`: at these references alone (None: at all).
    `sieve` keeps back what the patient's consents do.
    """

    viewer: Viewer
    organisation: str
    exemptions: frozenset[str] = frozenset()
    row: Row = OPEN
    is_own_only: bool = False
    released: frozenset[str] | None = None
    sieve: Sieve | None = None

    @classmethod
    def of(
        cls,
        caller: Caller,
        policy: Policy,
        admission: Admission,
        standing: Standing,
        *,
        at: datetime,
        residual: Sieve | None = None,
    ) -> View:
        """`residual` is what the token of the caller leaves of the record.

        Raises ValueError for a role that looks at no record: the gate refuses those first.
        """
        asker = asker_of(caller, at)
        if admission.rule is Rule.EMERGENCY:
            asker = replace(asker, purpose=BREAK_GLASS)
        viewer = viewer_of(caller.role)
        is_care = viewer is Viewer.PROFESSIONAL
        exemptions = _exemptions(standing, admission) if is_care else frozenset()
        consented = _consented(policy, asker) if is_care else frozenset()
        released = [each.released for each in policy.mandates if each.holder == caller.person and each.holds(at)]
        return cls(
            viewer=viewer,
            organisation=caller.organisation,
            exemptions=exemptions | consented,
            row=row_of(caller, standing.profession) or NOTHING,
            is_own_only=not admission.is_permitted,
            released=released[0] if caller.person is not None and released else None,
            sieve=_both(
                sieve(
                    policy.consents,
                    asker,
                    is_admitted_anyway=not admission.is_permitted or admission.rule in _BEFORE_CONSENTS,
                    needs_opening=bool(consented) and exemptions.isdisjoint(_SEE_RESTRICTED),
                )
                if caller.role not in (Role.PATIENT, Role.REPRESENTATIVE)
                else None,
                residual,
            ),
        )

    def shows(self, restriction: Restriction | None) -> bool:
        """Whether a resource under this restriction exists for the viewer, as far as labels go."""
        return restriction is None or not any(self._is_hidden_by(label, restriction) for label in restriction.labels)

    @property
    def is_screened(self) -> bool:
        """Whether more than labels decides what is shown."""
        return self.hides_documents or bool(self.row.resources)

    @property
    def hides_documents(self) -> bool:
        """Whether more than labels decides which documents are shown: what speaks of others is to go with them."""
        return self.is_own_only or self.released is not None or self.sieve is not None or self.row.is_allowance

    def keeps(self, type: str, producer: str | None, facts: Callable[[], Facts]) -> bool:
        """Whether a resource exists for the viewer, as far as everything but labels goes.

        `facts` are asked for where its type and `producer` do not decide.
        """
        if type == "Patient":
            return True
        if self.released is not None:
            return _document(facts().reference) in self.released
        if producer is not None and producer == self.organisation:
            return True
        if self.is_own_only or (not self.row.is_allowance and type in self.row.resources):
            return False
        if not self.hides_documents:
            return True
        found = facts()
        is_shown = not self.row.is_allowance or self.row.shows(type, found.codes)
        return is_shown and (self.sieve is None or self.sieve(found))

    def _is_hidden_by(self, label: str, restriction: Restriction) -> bool:
        if label.startswith(CODE):
            if self.row.is_allowance or restriction.producer == self.organisation:
                return False  # an allowance is of whole documents: `keeps` looks at them
            return not self.row.shows(CODED, (label.removeprefix(CODE),))
        rule = _rules()["labels"].get(label)
        if rule is None:  # of another release, or another country: nobody but who published it
            return restriction.producer != self.organisation
        if self.viewer not in rule["hidden_from"]:
            return False
        is_by_producer = Exemption.PRODUCER in rule["except"] and restriction.producer == self.organisation
        return not is_by_producer and self.exemptions.isdisjoint(rule["except"])


def outlook(view: View, caller: Caller, policy: Policy, at: datetime) -> str:
    """A digest of what decides what a caller sees of a record, labels apart: another one, and other things are seen."""
    terms = [
        {**terms_to_map(each), "holds": [provision.holds(at) for provision in each.provisions]}
        for each in policy.consents
        if each.holds(at)
    ]
    limits = caller.limits.residual if caller.limits else None
    content = [
        *(str(caller.role), profession_of(caller), caller.organisation, rules_version()),
        *(sorted(view.exemptions), view.is_own_only, None if view.released is None else sorted(view.released)),
        *([terms, caller.purpose, limits] if view.sieve is not None else ()),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _document(reference: str) -> str:
    """A content is released with its document."""
    kind, _, id = reference.partition("/")
    return f"{CODED}/{id}" if kind == "Binary" else reference


# Who is let in whatever consents say of the record as a whole.
_BEFORE_CONSENTS = frozenset({Rule.ATTENDING_PHYSICIAN, Rule.EMERGENCY, Rule.REGULATION})
# Who sees what is labelled restricted without a consent that opens it.
_SEE_RESTRICTED = frozenset(
    {Exemption.ATTENDING_PHYSICIAN, Exemption.PHYSICIAN, Exemption.EMERGENCY, Exemption.ALL_NORMAL}
)


def _both(first: Sieve | None, second: Sieve | None) -> Sieve | None:
    if first is None or second is None:
        return first or second
    return lambda facts: first(facts) and second(facts)


def _exemptions(standing: Standing, admission: Admission) -> frozenset[str]:
    found = {
        Exemption.ATTENDING_PHYSICIAN: standing.is_attending,
        Exemption.PHYSICIAN: standing.profession == _rules()["physician"],
        Exemption.EMERGENCY: admission.rule in (Rule.EMERGENCY, Rule.REGULATION),
        Exemption.ALL_NORMAL: standing.implicit is Implicit.ALL_NORMAL,
    }
    return frozenset(each for each, applies in found.items() if applies)


def _consented(policy: Policy, asker: Asker) -> frozenset[str]:
    return frozenset({Exemption.CONSENTED}) if permits_restricted(policy.consents, asker) else frozenset()


def label_system() -> str:
    """The code system of the labels."""
    return str(_rules()["system"])


def canonical_label(code: str) -> str | None:
    """The visibility label that a code stands for, aliases included; None for a code that is none."""
    name = _rules()["aliases"].get(code, code)
    return name if name in labels() else None


def labels() -> tuple[str, ...]:
    """The visibility labels."""
    return tuple(each for each in _rules()["labels"] if each not in _rules()["confidentialities"])


def restricting_labels(codings: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Of the security labels of a resource (system, code), those that hide it from somebody, by canonical name."""
    found = set()
    for system, code in codings:
        if system == label_system():
            found.add(canonical_label(code) or code)
        elif system == _rules()["confidentiality_system"] and code in _rules()["confidentialities"]:
            found.add(code)
    return frozenset(found)


def viewer_of(role: str) -> Viewer:
    """What a role is to the person whose record it looks at; raises ValueError for one that looks at none."""
    if role == Role.PATIENT:
        return Viewer.PATIENT
    if role == Role.REPRESENTATIVE:
        return Viewer.REPRESENTATIVE
    if role in CARE_ROLES or role == Role.REGULATION:
        return Viewer.PROFESSIONAL
    if role in (Role.PAYER, Role.RESEARCHER):
        return Viewer(str(role))
    raise ValueError("nobody who looks at records")


@cache
def _rules() -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads(_DATA.read_text("utf-8"))
    return content
