"""What Consent resources permit and deny (IHE PCF 1.1.1), compiled: evaluated per person, and per item of the record.

Pure. A consent permits or denies as a whole, and has provisions that are exceptions to that (`Provision`): what an
exception that permits does not say of whom, why and what, the whole says; one that denies inherits whom and why.

- A permit is of nothing but what it is about: the rest is withheld from whom it is for, unless another consent permits
  it. Other purposes than its own are withheld, too, but for treatment: whoever agrees to research does not refuse care.
- A denial counts whatever else is permitted. An exception comes before what it is an exception to; of two, the denial.
- To whom a consent is not addressed, it says nothing.
- A confidentiality that is permitted takes in the lower ones, one that is denied the higher ones (R4 Consent,
  `provision.securityLabel`). What is labelled sensitive and nothing else is restricted.
- What has no date is not in a period that is permitted, and in every one that is denied.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

_DATA = Path(__file__).parent / "data" / "consents.json"
CONFIDENTIALITY: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
SENSITIVITY: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


class Effect(StrEnum):
    PERMIT = "permit"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks, as provisions name them.

    `parties` are the IDNPS and the IDNST of the caller, `roles` its role and the code of its profession.
    """

    parties: frozenset[str]
    roles: frozenset[str]
    purpose: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What provisions ask of one resource of the record.

    `authors` are parties (IDNPS, IDNST) and references, `period` when it happened (`yyyymmddHHMMSS`, both ends
    included), `codes` are `system|code` of its class, category, type and code, `tokens` of whatever else is coded in
    it, too, `labels` of its security labels; `about` what it refers to, each `Type/id`.
    """

    type: str
    reference: str
    authors: frozenset[str] = frozenset()
    period: tuple[str, str] | None = None
    codes: frozenset[str] = frozenset()
    tokens: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    about: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whom a provision is for, why, and what it is about: all that is said of these applies; what is empty, to any.

    Each of `actors` is what an asker is at once: parties, roles. Of data are named `instances`, `relatives` (with what
    refers to them) and `authors`: one of these is enough.
    """

    actors: tuple[frozenset[str], ...] = ()
    purposes: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    period: tuple[str, str] | None = None
    instances: frozenset[str] = frozenset()
    relatives: frozenset[str] = frozenset()
    authors: frozenset[str] = frozenset()

    @property
    def names_data(self) -> bool:
        return bool(self.instances or self.relatives or self.authors)

    @property
    def is_selective(self) -> bool:
        """Whether it is about some of the record only."""
        return bool(self.types or self.codes or self.labels or self.period or self.names_data)

    @property
    def names_resources(self) -> bool:
        return bool(self.instances or self.relatives)

    def is_for(self, asker: Asker) -> bool:
        known = asker.parties | asker.roles
        return not self.actors or any(each <= known for each in self.actors)

    def is_meant_for(self, purpose: str) -> bool:
        return not self.purposes or any(purpose == each or purpose in _within(each) for each in self.purposes)

    def within(self, whole: Scope) -> Scope:
        """With what it does not say said by the whole that it is an exception to."""
        data = self if self.names_data else whole
        return Scope(
            actors=self.actors or whole.actors,
            purposes=self.purposes or whole.purposes,
            types=self.types or whole.types,
            codes=self.codes or whole.codes,
            labels=self.labels or whole.labels,
            period=self.period or whole.period,
            instances=data.instances,
            relatives=data.relatives,
            authors=data.authors,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Provision:
    """An exception to a consent, or a rule of a token; it holds from `since` to `until` (excluded)."""

    effect: Effect
    scope: Scope = Scope()
    since: datetime | None = None
    until: datetime | None = None

    def holds(self, at: datetime) -> bool:
        return (self.since is None or self.since <= at) and (self.until is None or at < self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """One active Consent. `id` is its reference; it holds from `since` to `until` (excluded).

    `recorder` is the organisation (IDNST) whose professional recorded it for the patient; None: the patient's own.
    """

    id: str
    effect: Effect
    since: datetime | None = None
    until: datetime | None = None
    scope: Scope = Scope()
    provisions: tuple[Provision, ...] = ()
    recorder: str | None = None

    def holds(self, at: datetime) -> bool:
        return (self.since is None or self.since <= at) and (self.until is None or at < self.until)


Sieve = Callable[[Facts], bool]
"""Whether a resource of the record exists for somebody."""


class _Answer(StrEnum):
    """What a consent says: the last three of the record as a whole, which other grounds of access may outweigh."""

    PERMITTED = "permitted"
    DENIED = "denied"
    WITHHELD = "withheld"
    UNSAID = "unsaid"
    ALL_DENIED = "all-denied"
    ALL_WITHHELD = "all-withheld"


# --- of a record as a whole -------------------------------------------------------------------------------------------


def standing(consents: Sequence[Terms], asker: Asker) -> Effect | None:
    """What the consents say of the record as a whole to this asker; None: nothing.

    PERMIT opens it as far as `sieve` lets through.
    """
    answers = {_whole_answer(each, asker) for each in consents if each.holds(asker.at)}
    if _Answer.ALL_DENIED in answers:
        return Effect.DENY
    if _Answer.PERMITTED in answers:
        return Effect.PERMIT
    return Effect.DENY if _Answer.ALL_WITHHELD in answers else None


def _whole_answer(terms: Terms, asker: Asker) -> _Answer:
    exceptions = _exceptions(terms, asker)
    if any(each.effect is Effect.DENY and not each.scope.is_selective for each in exceptions):
        return _Answer.ALL_DENIED
    is_addressed = terms.scope.is_for(asker) and terms.scope.is_meant_for(asker.purpose)
    if terms.effect is Effect.DENY and is_addressed and terms.scope.is_selective:
        return _Answer.UNSAID
    if any(each.effect is Effect.PERMIT for each in exceptions):
        return _Answer.PERMITTED
    if is_addressed:
        return _Answer.PERMITTED if terms.effect is Effect.PERMIT else _Answer.ALL_DENIED
    return _otherwise(terms, asker)


def _exceptions(terms: Terms, asker: Asker) -> list[Provision]:
    """Those that are for this asker, with what they leave to the whole."""
    found = []
    for each in terms.provisions:
        inherited = each.scope.within(terms.scope)
        if each.effect is Effect.DENY:
            inherited = replace(each.scope, actors=inherited.actors, purposes=inherited.purposes)
        if each.holds(asker.at) and inherited.is_for(asker) and inherited.is_meant_for(asker.purpose):
            found.append(replace(each, scope=inherited))
    return found


def _otherwise(terms: Terms, asker: Asker) -> _Answer:
    """What a consent says of the record to whom it is not for, or for another purpose."""
    if terms.effect is Effect.DENY or not terms.scope.is_for(asker):
        return _Answer.UNSAID
    treatment = rules()["treatment"]
    is_care = asker.purpose == treatment or asker.purpose in _within(treatment)
    return _Answer.UNSAID if is_care else _Answer.ALL_WITHHELD


# --- of one resource --------------------------------------------------------------------------------------------------


def sieve(
    consents: Sequence[Terms], asker: Asker, *, is_admitted_anyway: bool = False, needs_opening: bool = False
) -> Sieve | None:
    """What of the record the consents keep from this asker; None: nothing.

    `is_admitted_anyway`: other grounds than a consent let the asker in, in spite of what one says of the record as a
    whole; what it says of some of it still holds. `needs_opening`: of what is labelled restricted the asker sees only
    what a provision opens. A consent that keeps resources from somebody by name is kept from them, too.
    """
    in_force = [each for each in consents if each.holds(asker.at)]
    heard = [_heard(each, asker, is_admitted_anyway=is_admitted_anyway) for each in in_force]
    opened = _opened(in_force, asker) if needs_opening else None
    if opened is None and not any(each.keeps_back for each in heard):
        return None
    named = frozenset(each.id for each in heard if each.names_resources)

    def is_shown(facts: Facts) -> bool:
        if facts.reference in named:
            return False
        if opened is not None and _is_restricted(facts) and not any(covers(facts) for covers in opened):
            return False
        is_permitted = is_withheld = False
        for each in heard:
            match each.answer(facts):
                case _Answer.DENIED | _Answer.ALL_DENIED:
                    return False
                case _Answer.PERMITTED:
                    is_permitted = True
                case _Answer.WITHHELD | _Answer.ALL_WITHHELD:
                    is_withheld = True
        return is_permitted or not is_withheld

    return is_shown


def residual_sieve(residual: Sequence[Provision]) -> Sieve | None:
    """What a token's residual rules keep back: what one denies and none permits (IHE PCF 1.1.1, updates to ITI-71)."""
    denied = [_covers(each) for each in residual if each.effect is Effect.DENY]
    permitted = [_covers(each) for each in residual if each.effect is Effect.PERMIT]
    if not denied:
        return None
    return lambda facts: not any(each(facts) for each in denied) or any(each(facts) for each in permitted)


def permits_restricted(consents: Sequence[Terms], asker: Asker) -> bool:
    """Whether a provision opens something that is labelled restricted to this asker: `sieve` knows what."""
    return bool(_opened([each for each in consents if each.holds(asker.at)], asker))


@dataclass(frozen=True, slots=True)
class _Heard:
    """One consent as it speaks to one asker: its exceptions that deny, those that permit, and the whole."""

    id: str
    denied: tuple[Sieve, ...]
    permitted: tuple[Sieve, ...]
    otherwise: Callable[[Facts], _Answer]
    keeps_back: bool
    names_resources: bool

    def answer(self, facts: Facts) -> _Answer:
        for covers in self.denied:
            if covers(facts):
                return _Answer.DENIED
        for covers in self.permitted:
            if covers(facts):
                return _Answer.PERMITTED
        return self.otherwise(facts)


def _heard(terms: Terms, asker: Asker, *, is_admitted_anyway: bool) -> _Heard:
    exceptions = _exceptions(terms, asker)
    denied = [each for each in exceptions if each.effect is Effect.DENY]
    permitted = [each for each in exceptions if each.effect is Effect.PERMIT]
    if is_admitted_anyway:
        denied = [each for each in denied if each.scope.is_selective]
    scope, whole = terms.scope, Provision(effect=terms.effect, scope=terms.scope)
    if scope.is_for(asker) and scope.is_meant_for(asker.purpose):
        match terms.effect, scope.is_selective:
            case Effect.PERMIT, False:
                inside = outside = _Answer.PERMITTED
            case Effect.PERMIT, True:
                inside, outside = _Answer.PERMITTED, _Answer.WITHHELD
            case Effect.DENY, True:
                inside, outside = _Answer.DENIED, _Answer.UNSAID
            case _:
                inside = outside = _Answer.ALL_DENIED
    else:
        inside = outside = _Answer.ALL_WITHHELD if permitted else _otherwise(terms, asker)
    if is_admitted_anyway and outside in (_Answer.ALL_DENIED, _Answer.ALL_WITHHELD):
        inside = outside = _Answer.UNSAID
    covers = _covers(whole)
    is_one = inside is outside
    keeps_back = bool(denied) or not {inside, outside} <= {_Answer.PERMITTED, _Answer.UNSAID}
    return _Heard(
        id=terms.id,
        denied=tuple(_covers(each) for each in denied),
        permitted=tuple(_covers(each) for each in permitted),
        otherwise=(lambda _: outside) if is_one else (lambda facts: inside if covers(facts) else outside),
        keeps_back=keeps_back,
        names_resources=any(each.scope.names_resources for each in denied)
        or (inside is _Answer.DENIED and scope.names_resources),
    )


def _opened(consents: Iterable[Terms], asker: Asker) -> list[Sieve]:
    """What permits say of restricted things in so many words: labels of restricted or sensitive ones."""
    found = []
    for terms in consents:
        whole = Provision(effect=terms.effect, scope=terms.scope)
        is_whole = terms.scope.is_for(asker) and terms.scope.is_meant_for(asker.purpose)
        for each in (*_exceptions(terms, asker), *((whole,) if is_whole else ())):
            if each.effect is Effect.PERMIT and any(_opens(label) for label in each.scope.labels):
                found.append(_covers(each))
    return found


def _opens(label: str) -> bool:
    level = _level(label)
    return level is None or level >= _levels()[rules()["restricted"]]


def _covers(provision: Provision) -> Sieve:
    """Whether a provision is about a resource."""
    scope, is_denial = provision.scope, provision.effect is Effect.DENY
    tests: list[Sieve] = []
    if types := scope.types:
        tests.append(lambda facts: facts.type in types)
    if scope.names_data:
        instances, relatives, authors = scope.instances | scope.relatives, scope.relatives, scope.authors
        tests.append(
            lambda facts: (
                facts.reference in instances
                or not relatives.isdisjoint(facts.about)
                or not authors.isdisjoint(facts.authors)
            )
        )
    if period := scope.period:
        tests.append(_overlaps(period) if is_denial else _is_inside(period))
    if codes := scope.codes:
        tests.append(lambda facts: not codes.isdisjoint(facts.tokens))
    if scope.labels:
        tests.append(_labelled(scope.labels, is_denial=is_denial))
    match tests:
        case []:
            return lambda _: True
        case [only]:
            return only
        case _:
            return lambda facts: all(test(facts) for test in tests)


def _overlaps(period: tuple[str, str]) -> Sieve:
    first, last = period
    return lambda facts: facts.period is None or (facts.period[0] <= last and first <= facts.period[1])


def _is_inside(period: tuple[str, str]) -> Sieve:
    first, last = period
    return lambda facts: facts.period is not None and first <= facts.period[0] and facts.period[1] <= last


# --- labels -----------------------------------------------------------------------------------------------------------


def _labelled(labels: frozenset[str], *, is_denial: bool) -> Sieve:
    levels = [level for label in labels if (level := _level(label)) is not None]
    named = frozenset(
        each for label in labels if _level(label) is None for each in (label, *_within_sensitivity(label))
    )
    if not levels:
        return lambda facts: not named.isdisjoint(facts.labels)
    bound = min(levels) if is_denial else max(levels)

    def is_labelled(facts: Facts) -> bool:
        if not named.isdisjoint(facts.labels):
            return True
        level = _level_of(facts.labels)
        return level >= bound if is_denial else level <= bound

    return is_labelled


def _is_restricted(facts: Facts) -> bool:
    return _level_of(facts.labels) >= _levels()[rules()["restricted"]]


@lru_cache(maxsize=1024)
def _level_of(labels: frozenset[str]) -> int:
    """How confidential a resource is: its highest label; without one, restricted if it is sensitive, else normal."""
    levels = [level for label in labels if (level := _level(label)) is not None]
    if levels:
        return max(levels)
    is_sensitive = any(f"{SENSITIVITY}|{code}" in labels for code in rules()["sensitivities"])
    return _levels()[rules()["restricted" if is_sensitive else "normal"]]


def _level(label: str) -> int | None:
    system, _, code = label.rpartition("|")
    return _levels().get(code) if system == CONFIDENTIALITY else None


def _within_sensitivity(label: str) -> Iterable[str]:
    system, _, code = label.rpartition("|")
    codes = rules()["sensitivities"].get(code, ()) if system == SENSITIVITY else ()
    return (f"{SENSITIVITY}|{each}" for each in codes)


@cache
def _levels() -> Mapping[str, int]:
    return {code: place for place, code in enumerate(rules()["confidentialities"])}


@cache
def _within(purpose: str) -> frozenset[str]:
    """The purposes that one takes in."""
    return frozenset(rules()["purposes"].get(purpose, ()))


@cache
def rules() -> Mapping[str, Any]:
    """The vocabulary of consents, as data."""
    content: Mapping[str, Any] = json.loads(_DATA.read_text("utf-8"))
    return content


# --- as JSON ----------------------------------------------------------------------------------------------------------


def terms_to_map(terms: Terms) -> dict[str, Any]:
    """As JSON, without what is not said."""
    provisions = [_provision_to_map(each) for each in terms.provisions]
    whole = _provision_to_map(Provision(effect=terms.effect, scope=terms.scope, since=terms.since, until=terms.until))
    return {"id": terms.id, **whole, **_present(provisions=provisions, recorder=terms.recorder)}


def terms_from_map(kept: Mapping[str, Any]) -> Terms:
    """Read what `terms_to_map` wrote; raises ValueError for what a later release may have written: it might narrow."""
    whole = _provision_from_map({name: value for name, value in kept.items() if name not in _OF_WHOLE})
    return Terms(
        id=kept["id"],
        effect=whole.effect,
        scope=whole.scope,
        since=whole.since,
        until=whole.until,
        provisions=tuple(_provision_from_map(each) for each in kept.get("provisions", ())),
        recorder=kept.get("recorder"),
    )


_SETS: Final = ("purposes", "types", "codes", "labels", "instances", "relatives", "authors")
_OF_WHOLE: Final = frozenset({"id", "provisions", "recorder"})
_OF_PROVISION: Final = frozenset({"effect", "since", "until", "actors", "period", *_SETS})


def _provision_to_map(provision: Provision) -> dict[str, Any]:
    scope = provision.scope
    dates = {"since": provision.since, "until": provision.until}
    return {
        "effect": provision.effect.value,
        **_present(
            **{name: at.isoformat() for name, at in dates.items() if at is not None},
            actors=[sorted(each) for each in scope.actors],
            period=list(scope.period or ()),
            **{name: sorted(getattr(scope, name)) for name in _SETS},
        ),
    }


def _provision_from_map(kept: Mapping[str, Any]) -> Provision:
    if kept.keys() - _OF_PROVISION:
        raise ValueError("a consent says what is not understood")
    sets = {name: frozenset(kept[name]) for name in _SETS if name in kept}
    dates = {name: datetime.fromisoformat(kept[name]) for name in ("since", "until") if name in kept}
    first, last = kept.get("period", (None, None))
    scope = Scope(
        actors=tuple(frozenset(each) for each in kept.get("actors", ())),
        period=(first, last) if first is not None and last is not None else None,
        **sets,
    )
    return Provision(effect=Effect(kept["effect"]), scope=scope, **dates)


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}
