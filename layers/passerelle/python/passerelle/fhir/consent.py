"""Consent resources: what they must say (IHE PCF 1.1.1, ITI-108), and what they mean (`consents.terms`).

The profiles of the guide (basic, intermediate, advanced) as one: what each may have on top of the one before is
understood in all. Beyond them, `class` of a resource type, `code`, and the actions access and disclose. What cannot be
enforced is refused, never passed over: a consent that was stored holds as it is written.

Whoever a provision names is resolved when it is stored, by the directory as it is then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Final, Protocol

from passerelle.access import Request
from passerelle.consents.model import MandateKind, Policy
from passerelle.consents.terms import (
    CONFIDENTIALITY,
    Effect,
    Provision,
    Scope,
    Sieve,
    Terms,
    residual_sieve,
    rules,
    terms_to_map,
)
from passerelle.directory.identifiers import other_form, party_of, system_of
from passerelle.directory.model import CARE_ROLES, Role
from passerelle.errors import Forbidden, Issue, Unprocessable, Unsupported
from passerelle.fhir import json as fhir_json
from passerelle.fhir.attribution import identifier_name, reference_name
from passerelle.fhir.dates import date_range
from passerelle.fhir.index import RECORD_TYPES
from passerelle.records.effects import Effect as PolicyEffect
from passerelle.records.model import ResourceKey
from passerelle.records.search import BEGINNING, END

Directory = Callable[[str, str], Mapping[str, Any] | None]
"""(type, id) to the current content of a resource of the directory; None if there is none."""


class Stored(Protocol):
    """What there is beside the directory, whoever may see it: nothing of it is told."""

    def carriers(self, type: str, parameter: str, value: str) -> Sequence[str]:
        """The resources of the directory, each `Type/id`, that have this value of a search parameter."""

    def references(self, reference: str) -> Sequence[str]:
        """What a resource of a record refers to, each `Type/id`."""


MAX_PROVISIONS: Final = 30
MAX_NAMED: Final = 50  # of actors, of data, of codes in one provision
MAX_TERMS_BYTES: Final = 32_768  # of the consents in one policy: it is read with every request about the person
_SCOPES: Final = "http://terminology.hl7.org/CodeSystem/consentscope"
_PURPOSES: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_PARTICIPATIONS: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_ACTIONS: Final = "http://terminology.hl7.org/CodeSystem/consentaction"
_TYPES: Final = "http://hl7.org/fhir/resource-types"
_PROFESSIONS: Final = "https://mos.esante.gouv.fr/NOS/TRE_G15-ProfessionSante/FHIR/TRE-G15-ProfessionSante"
_ENFORCED_ACTIONS: Final = frozenset({"access", "disclose"})
_REQUIRED: Final = ("status", "scope", "category", "patient", "dateTime", "performer", "organization")
_OWN: Final = (Role.PATIENT, Role.REPRESENTATIVE)
_UTC_FORMAT: Final = "%Y%m%d%H%M%S"


class ConsentRules:
    """`records.model.Succession`: every version says what it must, and there is always a last one (PCF-4)."""

    def check(self, type: str, before: bytes | None, after: bytes | None) -> None:
        if after is None:
            raise Unsupported("a consent is ended by an update of its status")
        _read(fhir_json.loads(after), None)


def consent_effect(directory: Directory, stored: Stored) -> PolicyEffect:
    """What a Consent changes of the policy of whose record it is in."""

    def effect(request: Request, key: ResourceKey, body: bytes | None, policy: Policy) -> Policy:
        """Raises Forbidden for who may not consent for the patient, Unprocessable for what cannot be enforced."""
        known = next((each for each in policy.consents if each.id == key.reference), None)
        _check_recorder(request, key, known)
        others = [each for each in policy.consents if each is not known and not _is_over(each, request.at)]
        terms = _read(fhir_json.loads(body), _Known(directory, stored)) if body is not None else None
        if terms is not None:
            recorder = request.caller.organisation if request.caller.role in CARE_ROLES else None
            others.append(replace(terms, id=key.reference, recorder=recorder))
            if len(json.dumps([terms_to_map(each) for each in others])) > MAX_TERMS_BYTES:
                raise Unprocessable("the consents in force say too much", code="too-long", expression="Consent")
        return replace(policy, consents=tuple(others))

    return effect


def _check_recorder(request: Request, key: ResourceKey, known: Terms | None) -> None:
    """The patient, a representative, or for them a care professional who is named: not over what others recorded."""
    caller = request.caller
    decision = request.decisions.get(key.patient or "")
    if caller.role in _OWN:
        if decision is not None and decision.facts.get("mandate") == MandateKind.CARER:
            raise Forbidden("a carer does not consent for the patient")
        return
    if caller.role not in CARE_ROLES:
        raise Forbidden("the patient consents, or a care professional records it")
    if caller.professional is None:
        raise Forbidden("a professional has to be named to record a consent")
    if known is not None and known.recorder != caller.organisation:
        raise Forbidden("a consent is changed by the patient, or where it was recorded")


def _is_over(terms: Terms, at: datetime) -> bool:
    return terms.until is not None and terms.until <= at


def residual(given: Sequence[Mapping[str, Any]]) -> Sieve | None:
    """What the residual rules of a token leave of a record (PCF-11); None: all.

    Raises Forbidden for rules that are not understood.
    """
    reading = _Reading(None)
    found = [reading.rule(each, f"residual[{place}]") for place, each in enumerate(given)]
    if reading.issues:
        raise Forbidden("the token has rules that are not understood")
    return residual_sieve(found)


def _read(content: Mapping[str, Any], known: _Known | None) -> Terms | None:
    """What a Consent means, None for one that is not active; raises Unprocessable with every fault there is.

    Where nothing is `known` nobody is looked up.
    """
    reading = _Reading(known if content.get("status") == "active" else None)
    terms = reading.consent(content)
    if reading.issues:
        raise Unprocessable(issues=reading.issues)
    return terms if content["status"] == "active" else None


@dataclass(frozen=True, slots=True)
class _Known:
    directory: Directory
    stored: Stored


@dataclass(frozen=True, slots=True)
class _Named:
    """What a reference names at once: a professional (any of these IDNPS), a structure (any IDNST), professions."""

    people: frozenset[str] = frozenset()
    houses: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()

    @classmethod
    def of(cls, parties: Iterable[str], roles: Iterable[str] = ()) -> _Named:
        found = frozenset(parties)
        people = frozenset(each for each in found if each.startswith("8"))
        return cls(people, found - people, frozenset(roles))

    def actors(self, effect: Effect) -> Iterator[frozenset[str]]:
        """A role in a structure is permitted to its holder there, and denied to its holder anywhere."""
        houses = () if effect is Effect.DENY and self.people else self.houses
        for each in product(self.people or [None], houses or [None]):
            if found := self.roles.union(name for name in each if name is not None):
                yield found


@dataclass(slots=True)
class _Reading:
    """Reads one Consent, or the rules of a token, and collects what is wrong with it."""

    known: _Known | None
    issues: list[Issue] = field(default_factory=list)

    def _refuse(self, path: str, text: str, code: str = "not-supported") -> None:
        self.issues.append(Issue(code=code, diagnostics=text, expression=path))

    def _require(self, path: str) -> None:
        self._refuse(path, "the element is mandatory", "required")

    # --- the whole ------------------------------------------------------------------------------------------------

    def consent(self, content: Mapping[str, Any]) -> Terms:
        for name in _REQUIRED:
            if name not in content:
                self._require(f"Consent.{name}")
        if "sourceAttachment" not in content and "sourceReference" not in content:
            self._require("Consent.source")
        if "scope" in content and (_SCOPES, "patient-privacy") not in _codings(content["scope"]):
            self._refuse("Consent.scope", "the scope is patient-privacy", "required")
        if "verification" in content:
            self._refuse("Consent.verification", "consents here are verified by who records them (PCF)", "invariant")
        whole = content.get("provision", {})
        if "type" not in whole:
            self._require("Consent.provision.type")
        self._policies(content.get("policy", ()), whole.get("type"))
        self._inner(whole)
        read = self.provision(whole, "Consent.provision")
        return Terms(
            id="",
            effect=read.effect,
            since=read.since,
            until=read.until,
            scope=read.scope,
            provisions=tuple(
                self.provision(each, f"Consent.provision.provision[{place}]")
                for place, each in enumerate(whole.get("provision", ())[:MAX_PROVISIONS])
            ),
        )

    def _policies(self, policies: Sequence[Mapping[str, Any]], effect: str | None) -> None:
        known = rules()["policies"]
        if not any("uri" in each for each in policies):
            self._require("Consent.policy.uri")
        for place, each in enumerate(policies):
            path = f"Consent.policy[{place}].uri"
            if "uri" not in each:
                self._require(path)
            elif each["uri"] not in known:
                self._refuse(path, "the exchange does not know this policy", "code-invalid")
            elif effect is not None and effect not in known[each["uri"]]:
                self._refuse("Consent.provision.type", "contradicts the policy", "invariant")

    def _inner(self, whole: Mapping[str, Any]) -> None:
        inner = whole.get("provision", ())
        if len(inner) > MAX_PROVISIONS:
            self._refuse("Consent.provision.provision", f"at most {MAX_PROVISIONS} provisions are kept", "too-long")
        for place, each in enumerate(inner):
            path = f"Consent.provision.provision[{place}]"
            if "type" not in each:
                self._require(f"{path}.type")
            if "provision" in each:
                self._refuse(f"{path}.provision", "exceptions have no exceptions (PCF)", "invariant")

    # --- a provision ----------------------------------------------------------------------------------------------

    def provision(self, content: Mapping[str, Any], path: str) -> Provision:
        effect = Effect.PERMIT if content.get("type") == "permit" else Effect.DENY
        for name in ("actor", "data", "code", "class", "purpose", "securityLabel"):
            if len(content.get(name, ())) > MAX_NAMED:
                self._refuse(f"{path}.{name}", f"at most {MAX_NAMED} are kept", "too-long")
        if "modifierExtension" in content:
            self._refuse(f"{path}.modifierExtension", "is not understood", "extension")
        for place, each in enumerate(content.get("action", ())):
            if not any(system == _ACTIONS and code in _ENFORCED_ACTIONS for system, code in _codings(each)):
                self._refuse(f"{path}.action[{place}]", "nothing but access and disclosure is enforced")
        period = self._period(content.get("period"), f"{path}.period")
        first, last = period or (BEGINNING, END)
        return Provision(
            effect=effect,
            since=_moment(first) if first != BEGINNING else None,
            until=_moment(last) + timedelta(seconds=1) if last != END else None,
            scope=replace(
                self._data(content, path, effect),
                actors=tuple(self._actors(content.get("actor", ()), f"{path}.actor", effect)),
                purposes=frozenset(self._purposes(content.get("purpose", ()), f"{path}.purpose")),
                types=frozenset(self._classes(content.get("class", ()), f"{path}.class")),
                codes=frozenset(self._codes(content.get("code", ()), f"{path}.code")),
            ),
        )

    def rule(self, content: Mapping[str, Any], path: str) -> Provision:
        """A residual rule of a token."""
        effect = Effect.PERMIT if content.get("type") == "permit" else Effect.DENY
        return Provision(effect=effect, scope=self._data(content, path, effect))

    def _data(self, content: Mapping[str, Any], path: str, effect: Effect) -> Scope:
        """What of the record it is about: labels, dates, named data."""
        labels = frozenset(self._labels(content.get("securityLabel", ()), f"{path}.securityLabel", effect))
        instances, relatives, authors = set[str](), set[str](), set[str]()
        for place, each in enumerate(content.get("data", ())[:MAX_NAMED]):
            where, reference = f"{path}.data[{place}].reference", each["reference"]
            if each["meaning"] == "authoredby":
                authors.update(self._authors(reference, where))
                continue
            found = reference_name(reference.get("reference", ""))
            if found is None or found.partition("/")[0] not in RECORD_TYPES:
                self._refuse(where, "must be a literal reference to a resource of a record")
            elif each["meaning"] == "instance":
                instances.add(found)
            else:
                relatives.add(found)
                if each["meaning"] == "related" and self.known is not None:
                    instances.update(self.known.stored.references(found))
        return Scope(
            labels=labels,
            period=self._period(content.get("dataPeriod"), f"{path}.dataPeriod"),
            instances=frozenset(instances),
            relatives=frozenset(relatives),
            authors=frozenset(authors),
        )

    def _labels(self, codings: Sequence[Mapping[str, Any]], path: str, effect: Effect) -> Iterator[str]:
        for place, each in enumerate(codings):
            system, code = each.get("system"), each.get("code")
            if not (system and code):
                self._refuse(f"{path}[{place}]", "a label has a system and a code")
            elif system == CONFIDENTIALITY and code not in rules()["confidentialities"]:
                self._refuse(f"{path}[{place}]", "is no code of Confidentiality", "code-invalid")
            elif system == CONFIDENTIALITY and effect is Effect.PERMIT and code not in rules()["permitted"]:
                self._refuse(f"{path}[{place}]", "what is labelled so is opened by no consent")
            else:
                yield f"{system}|{code}"

    def _period(self, period: Mapping[str, Any] | None, path: str) -> tuple[str, str] | None:
        if not period:
            return None
        try:
            first = date_range(period["start"])[0] if "start" in period else BEGINNING
            last = date_range(period["end"])[1] if "end" in period else END
        except ValueError:
            self._refuse(path, "must be a period", "value")
            return None
        if first > last or (first, last) == (BEGINNING, END):
            self._refuse(path, "must be a period", "value")
        return first, last

    def _purposes(self, codings: Sequence[Mapping[str, Any]], path: str) -> Iterator[str]:
        for place, each in enumerate(codings):
            if each.get("system") != _PURPOSES or "code" not in each:
                self._refuse(f"{path}[{place}]", "a purpose is a code of ActReason", "code-invalid")
            else:
                yield each["code"]

    def _classes(self, codings: Sequence[Mapping[str, Any]], path: str) -> Iterator[str]:
        for place, each in enumerate(codings):
            if each.get("system") != _TYPES or each.get("code") not in RECORD_TYPES:
                self._refuse(f"{path}[{place}]", "a class is a resource type that is kept here")
            else:
                yield each["code"]

    def _codes(self, concepts: Sequence[Mapping[str, Any]], path: str) -> Iterator[str]:
        for place, each in enumerate(concepts):
            codings = [(system, code) for system, code in _codings(each) if system and code]
            if not codings:
                self._refuse(f"{path}[{place}]", "a code has a system and a code")
            yield from (f"{system}|{code}" for system, code in codings)

    # --- who ------------------------------------------------------------------------------------------------------

    def _actors(self, actors: Sequence[Mapping[str, Any]], path: str, effect: Effect) -> Iterator[frozenset[str]]:
        for place, each in enumerate(actors[:MAX_NAMED]):
            where = f"{path}[{place}]"
            if (_PARTICIPATIONS, "IRCP") not in _codings(each.get("role", {})):
                self._refuse(f"{where}.role", "an actor is an information recipient (IRCP)")
            named = self._named(each["reference"], f"{where}.reference")
            found = list(named.actors(effect)) if named is not None else []
            if named is not None and not found and self.known is not None:
                self._refuse(f"{where}.reference", "has no identifier that a token could carry")
            yield from found

    def _authors(self, reference: Mapping[str, Any], path: str) -> Iterator[str]:
        """Every name that an author has in resources of a record."""
        identifier, name = reference.get("identifier", {}), reference_name(reference.get("reference", ""))
        if name is not None:
            yield name
        if "value" in identifier:
            yield identifier_name(identifier.get("system", ""), identifier["value"])
        if name is not None and name.partition("/")[0] in ("Patient", "RelatedPerson", "Device"):
            return
        if name is None and "value" in identifier and not _parties({"identifier": [identifier]}):
            return
        named = self._named(reference, path)
        if named is None or self.known is None:
            return
        for party in named.people or named.houses:
            yield party
            yield from self._carriers("Practitioner" if party in named.people else "Organization", party)

    def _carriers(self, type: str, party: str) -> Iterator[str]:
        """The resources of the directory that stand for a professional, roles included, or for a structure."""
        assert self.known is not None
        carriers = self.known.stored.carriers
        system = system_of(party)
        forms = [(system, party), *([other] if (other := other_form(system, party)) else [])]
        for each in {name for form in forms for name in carriers(type, "identifier", "|".join(form))}:
            yield each
            if type == "Practitioner":
                yield from carriers("PractitionerRole", "practitioner", each)

    def _named(self, reference: Mapping[str, Any], path: str) -> _Named | None:
        """Whom a reference to the directory names; None, with an issue."""
        identifier = reference.get("identifier")
        parties = _parties({"identifier": [identifier]}) if identifier else set()
        name = reference_name(reference.get("reference", ""))
        if name is None:
            if not parties:
                self._refuse(path, "must name a professional or a structure, by reference or national identifier")
                return None
            return _Named.of(parties)
        type, _, id = name.partition("/")
        if type not in ("Practitioner", "PractitionerRole", "Organization"):
            self._refuse(path, "must be a professional, a role or a structure")
            return None
        if self.known is None:
            return _Named.of(parties)
        content = self.known.directory(type, id)
        if content is None:
            self._refuse(path, "is not in the directory", "not-found")
            return None
        parties |= _parties(content)
        roles: set[str] = set()
        if type == "PractitionerRole":
            for element in ("practitioner", "organization"):
                parties |= self._parties_of(content.get(element, {}))
            if "practitioner" not in content:
                concepts = content.get("code", ())
                roles = {code for each in concepts for system, code in _codings(each) if system == _PROFESSIONS}
        return _Named.of(parties, roles)

    def _parties_of(self, reference: Mapping[str, Any]) -> set[str]:
        found = _parties({"identifier": [reference["identifier"]]}) if "identifier" in reference else set()
        name = reference_name(reference.get("reference", ""))
        content = self.known.directory(*name.split("/")) if name and self.known else None
        return found | (_parties(content) if content else set())


def _parties(content: Mapping[str, Any]) -> set[str]:
    """The professionals and structures that identifiers name."""
    return {
        party
        for each in content.get("identifier", ())
        if "value" in each and (party := party_of(each.get("system", ""), each["value"]))
    }


def _codings(concept: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(each.get("system", ""), each.get("code", "")) for each in concept.get("coding", ())]


def _moment(text: str) -> datetime:
    return datetime.strptime(text, _UTC_FORMAT).replace(tzinfo=UTC)
