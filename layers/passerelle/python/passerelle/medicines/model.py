"""What is known of medicines, and what a check of a person's treatments finds.

E-prescription contract, sections 17 and 20. Substances and classes go by their normalised French names (`names.py`). A
check never passes in silence: each medicine is covered or said not to be, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum

CONTRAINDICATION, DISCOURAGED, PRECAUTION, CONSIDER = 4, 3, 2, 1
"""Levels of the ANSM thesaurus: contre-indication, association déconseillée, précaution d'emploi, à prendre en
compte."""


class Behaviour(StrEnum):
    """What a finding asks of who prescribes or dispenses."""

    HARD_STOP = "hard-stop"  # needs a signed override with its reason
    ACKNOWLEDGE = "acknowledge"
    SHOW = "show"
    COLLAPSED = "collapsed"


class Kind(StrEnum):
    INTERACTION = "interaction"
    ALLERGY = "allergy"
    DUPLICATE = "duplicate"
    AGE = "age"
    PREGNANCY = "pregnancy"
    ADVICE = "advice"  # of a service that does not say of which kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where knowledge comes from: shown with every finding."""

    name: str
    date: date
    licence: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """What is known of one product (BDPM): facts of law and supply. `conditions` are the published texts, all of them.

    `listing`: "I", "II", "stupefiant" or None when it is on no list; `max_days`, `fraction_days`: of one prescription,
    of one supply; `packs`: units in each presentation, by its code (`system|code`).
    """

    code: str  # system|code
    label: str
    substances: tuple[str, ...]
    mg_per_unit: tuple[tuple[str, Decimal], ...] = ()
    routes: tuple[str, ...] = ()
    listing: str | None = None
    is_secure: bool = False  # ordonnance sécurisée: narcotics and those treated alike
    is_exception: bool = False  # médicament d'exception
    max_days: int | None = None
    fraction_days: int | None = None
    kinds: tuple[str, ...] = ()  # hypnotic, anxiolytic, triazolam, contraceptive, opioid-substitution...
    conditions: tuple[str, ...] = ()
    unread_conditions: tuple[str, ...] = ()  # texts that no rule reads: reported, never ignored
    generic_group: str | None = None
    generic_type: int | None = None
    packs: tuple[tuple[str, int], ...] = ()
    atc: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """A medicine as the base knows it. `confidence`: "code", "name" or "synonym".

    `unknown` are those of its substances that the base has no rules on: what is found without them is not all.
    """

    substances: tuple[str, ...]
    label: str
    confidence: str
    product: Product | None = None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCovered:
    """A medicine, or an allergy, that was not checked, and why.

    `unknown-product`: its codes are not known; `unknown-substance`: one of its substances is not; `no-rules`: it is
    known, and no source says anything of it; `not-coded`: it has a text only, that is no name of a substance.
    """

    key: str
    label: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """One medicine that a person takes or is to take, whatever source names it.

    `key` tells it from the others of one check (a line number, a reference); `codings` are `system|code`; amounts are
    units of the product as prescribed, `mg_*` when the source states them in mg. `is_new`: it is what is being
    prescribed or supplied; pairs of two treatments that are not new are not looked at. `replaces`: keys of those that
    it takes the place of. `components`: what it is said to be made of, each with codings and a text.
    """

    key: str
    codings: tuple[str, ...] = ()
    text: str = ""
    units_per_intake: Decimal | None = None
    units_per_day: Decimal | None = None
    mg_per_intake: Decimal | None = None
    mg_per_day: Decimal | None = None
    route: str | None = None
    use: tuple[str, ...] = ()
    is_new: bool = False
    reference: str | None = None  # MedicationRequest/…, MedicationStatement/…: implicated of a DetectedIssue
    replaces: tuple[str, ...] = ()
    components: tuple[Treatment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Allergy:
    """`verification`: confirmed, unconfirmed, presumed; refuted ones and errors are not given at all."""

    key: str
    codings: tuple[str, ...] = ()
    text: str = ""
    criticality: str | None = None  # low, high, unable-to-assess
    verification: str | None = None
    is_intolerance: bool = False
    is_nsaid_type: bool = False
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is known of the person; None is not known. `egfr` in mL/min/1.73 m², `weight` in kg, `age` in years."""

    age: Decimal | None = None
    gender: str | None = None
    is_pregnant: bool | None = None
    is_breastfeeding: bool | None = None
    weight: Decimal | None = None
    egfr: Decimal | None = None
    trimester: int | None = None  # of the pregnancy: 1 to 3
    conditions: frozenset[str] = frozenset()  # ulcer-history, heart-failure...: those known to be there
    absent: frozenset[str] = frozenset()  # those known not to be there
    allergies: tuple[Allergy, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found. `id` is the same for the same rule over the same substances, run after run, as long as the
    behaviour is: what was acknowledged is not thereby acknowledged as a hard stop.

    `about` are the keys of the treatments (or treatment and allergy) concerned. `level` is the most severe one that
    certainly applies (0: none), `candidates` the levels above it that would apply with facts that are not known.
    `override_reasons` are those that a service offers, as (`system|code`, text).
    """

    id: str
    kind: Kind
    behaviour: Behaviour
    level: int
    about: tuple[str, ...]
    rule: str
    title: str
    text: str = ""
    mechanism: str = ""
    candidates: tuple[int, ...] = ()
    is_conditional: bool = False
    source: Source | None = None
    override_reasons: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of a check: found, looked at without finding, not covered. `digest` covers all three and the base."""

    base_id: str
    base_version: str
    base_date: date
    findings: tuple[Finding, ...]
    checked_pairs: int
    not_covered: tuple[NotCovered, ...]
    digest: str
    sources: tuple[Source, ...] = ()
