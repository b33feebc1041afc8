"""Who takes care of the patient, as care teams, admissions and appointments say (`records.effects`).

Each resource gives the parties that it names a relation for as long as it says, and some days around it
(`consents/data/access_*.json`). Whose word counts is not the resource's to say: a professional who is no part of the
patient's care must not become one by writing so. Who is in relation already, attends the patient, or is the patient
vouches for everybody. Any other author attests its own admissions and appointments, for its own house; of the rest it
can take away, and add nothing (docs/adr/whose-word-opens-a-record.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from passerelle.access import Caller, Request
from passerelle.consents.decision import Rule, Standing, admit, refusal_of, rules
from passerelle.consents.model import Basis, Policy, Relation
from passerelle.directory.identifiers import IDNPS, IDNST, party_of, system_of
from passerelle.directory.model import CARE_ROLES
from passerelle.errors import Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import date_range
from passerelle.records.effects import Effect
from passerelle.records.model import ResourceKey

MAX_RELATIONS = 300  # of one source record: its policy is read with every request

_ADMISSIONS = frozenset({"planned", "arrived", "triaged", "in-progress", "onleave", "finished"})
_APPOINTMENTS = frozenset({"booked", "arrived", "checked-in", "fulfilled"})
_HOUSES = {  # where the organisation stands that a resource of the directory belongs to
    "PractitionerRole": "organization",
    "HealthcareService": "providedBy",
    "Location": "managingOrganization",
}
_SECOND = timedelta(seconds=1)
_NO_END = datetime.max.replace(tzinfo=UTC)

Value = Mapping[str, Any]
Directory = Callable[[str, str], Value | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Party:
    """A party that a resource names; `house` is the structure that it is named in, itself for a structure."""

    number: str
    house: str | None = None

    @property
    def is_professional(self) -> bool:
        return system_of(self.number) == IDNPS

    def is_of(self, caller: Caller) -> bool:
        return self.number == caller.professional or self.house == caller.organisation


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stated:
    """What a resource says, whoever says it."""

    party: _Party
    since: datetime
    until: datetime | None


def care_relations(directory: Directory, in_parallel: Callable[..., tuple[Any, ...]]) -> Mapping[str, Effect]:
    """The effects of the types that say who takes care of the patient. `directory` is asked before each commit."""
    parties = _Parties(directory, in_parallel)
    return {
        "CareTeam": lambda request, key, body, policy: _after_care_team(request, key, _read(body), policy, parties),
        "Encounter": _Attested(Basis.ADMISSION, _ADMISSIONS, _admission, parties),
        "Appointment": _Attested(Basis.APPOINTMENT, _APPOINTMENTS, _appointment, parties),
    }


def _read(body: bytes | None) -> Value:
    return fhir_json.loads(body) if body is not None else {}


# --- whose word counts ------------------------------------------------------------------------------------------------


def _vouches(request: Request, key: ResourceKey) -> bool:
    """Whether the author is one who says who else takes care of the patient, by what was decided about the record."""
    decision = request.decisions.get(str(key.patient))
    if decision is None or not decision.is_permitted:
        return False
    if decision.rule in (Rule.OWN_RECORD, Rule.MANDATE):
        return True
    standing = Standing.from_map(decision.facts)
    return standing.role in CARE_ROLES and (standing.is_attending or standing.relation is not None)


def _check_opened(request: Request, key: ResourceKey) -> None:
    """Raise Forbidden for an author to whom the record is not open (CDS-13): it changes no care team either."""
    decision = request.decisions.get(str(key.patient))
    if decision is not None and not decision.is_permitted:
        raise refusal_of(admit(Standing.from_map(decision.facts)))


def _following(
    policy: Policy,
    basis: Basis,
    source: str,
    stated: Iterable[_Stated],
    counts: Callable[[_Stated], bool],
    at: datetime,
) -> Policy:
    """The policy after a resource said all that is `stated`; what does not count only stays as far as it was there.

    Relations that are over leave the policy: what was decided by them stands in the access log.
    """
    before = [each for each in policy.relations if each.source == source]
    found: list[Relation] = []
    for each in stated:
        relation = Relation(party=each.party.number, basis=basis, since=each.since, until=each.until, source=source)
        found += [relation] if counts(each) else _within(relation, before)
    others = [each for each in policy.relations if each.source != source]
    kept = [each for each in (*others, *found) if each.until is None or (at < each.until and each.since < each.until)]
    relations = tuple(dict.fromkeys(kept))
    if len(relations) > max(MAX_RELATIONS, len(policy.relations)):
        raise Unprocessable("too many take care of this person at once", code="too-long")
    return replace(policy, relations=relations)


def _within(relation: Relation, before: Sequence[Relation]) -> list[Relation]:
    """The part of a relation that is in force already."""
    return [
        replace(
            relation,
            since=max(relation.since, each.since),
            until=min(relation.until or each.until, each.until) if each.until else relation.until,
        )
        for each in before
        if each.party == relation.party
    ]


# --- what resources say -----------------------------------------------------------------------------------------------


def _after_care_team(request: Request, key: ResourceKey, team: Value, policy: Policy, parties: _Parties) -> Policy:
    _check_opened(request, key)
    is_vouched = _vouches(request, key)
    stated = _members(team, parties, request) if team.get("status") == "active" else ()
    return _following(policy, Basis.CARE_TEAM, key.reference, stated, lambda _: is_vouched, request.at)


def _members(team: Value, parties: _Parties, request: Request) -> Iterator[_Stated]:
    """A member for its own period within that of the team. A role is the professional in it, not the house."""
    listed = [each for each in team.get("participant", ()) if "member" in each]
    named = parties.named([each["member"] for each in listed], request.base_url)
    since, until = _bounds(team.get("period"), request.at)
    for each, found in zip(listed, named, strict=True):
        first, last = _bounds(each.get("period"), since)
        for party in [one for one in found if one.is_professional] or found:
            yield _Stated(party=party, since=max(since, first), until=_earlier(until, last))


@dataclass(frozen=True, slots=True)
class _Attested:
    """The effect of a resource by which a house attests that it takes care of the patient."""

    basis: Basis
    statuses: frozenset[str]
    read: Callable[[Value], tuple[Value | None, list[Value]]]
    parties: _Parties

    def __call__(self, request: Request, key: ResourceKey, body: bytes | None, policy: Policy) -> Policy:
        resource, caller = _read(body), request.caller
        is_vouched = _vouches(request, key)
        is_attested = caller.role in CARE_ROLES
        stated = self._stated(resource, request) if resource.get("status") in self.statuses else ()
        return _following(
            policy,
            self.basis,
            key.reference,
            stated,
            lambda each: is_vouched or (is_attested and each.party.is_of(caller)),
            request.at,
        )

    def _stated(self, resource: Value, request: Request) -> Iterator[_Stated]:
        period, references = self.read(resource)
        days, at = rules()["relation_days"], request.at
        start, end = _bounds(period, at)
        if end is None and resource["status"] in ("finished", "fulfilled"):
            end = at
        # Without an end it is renewed by every version, and does not last for ever.
        last = max(start, at) + timedelta(days=days["unended"]) if end is None else end
        until = last + timedelta(days=days[self.basis.value])
        since = start - timedelta(days=days["before"])
        if until <= at:
            return  # most of a history that is brought in at once: nothing is to be looked up
        for found in self.parties.named(references, request.base_url):
            for party in found:
                yield _Stated(party=party, since=since, until=until)


def _admission(encounter: Value) -> tuple[Value | None, list[Value]]:
    individuals = [each["individual"] for each in encounter.get("participant", ()) if "individual" in each]
    provider = encounter.get("serviceProvider")
    return encounter.get("period"), [*([provider] if provider else []), *individuals]


def _appointment(appointment: Value) -> tuple[Value | None, list[Value]]:
    period = {name: appointment[name] for name in ("start", "end") if name in appointment}
    listed = (each for each in appointment.get("participant", ()) if each.get("status") != "declined")
    return period, [each["actor"] for each in listed if "actor" in each]


def _bounds(period: Value | None, otherwise: datetime) -> tuple[datetime, datetime | None]:
    """From its first second to the one after its last; `otherwise` where it has no start."""
    given = period or {}
    since = _moment(date_range(given["start"])[0]) if "start" in given else otherwise
    until = _moment(date_range(given["end"])[1]) if "end" in given else None
    return since, until + _SECOND if until is not None and until < _NO_END - _SECOND else None


def _moment(second: str) -> datetime:
    return datetime.strptime(second, "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return min((each for each in (one, other) if each is not None), default=None)


# --- whom references mean ---------------------------------------------------------------------------------------------


class _Parties:
    """Reads references to professionals and structures as the national numbers that policies know them by.

    As they are when the resource is written: a resource of the directory that changes later changes no policy.
    """

    def __init__(self, directory: Directory, in_parallel: Callable[..., tuple[Any, ...]]) -> None:
        self._directory = directory
        self._in_parallel = in_parallel

    def named(self, references: Sequence[Value], base_url: str) -> list[tuple[_Party, ...]]:
        """The parties of each reference, professionals first: none for persons, and for what is not known here."""
        first = self._read(references, base_url)
        below = [each for found in first.values() for each in _below(found)]
        known = {**first, **self._read(below, base_url)}
        reading = _Known(known, base_url)
        return [tuple(dict.fromkeys(reading.parties(each))) for each in references]

    def _read(self, references: Sequence[Value], base_url: str) -> dict[str, Value]:
        targets = (_target(each, base_url) for each in references)
        wanted = list(dict.fromkeys(target for target in targets if target is not None))
        if not wanted:
            return {}
        read = self._in_parallel(*(lambda each=each: self._directory(*each.split("/")) for each in wanted))
        return {target: found for target, found in zip(wanted, read, strict=True) if found is not None}


def _target(reference: Value, base_url: str) -> str | None:
    """`Type/id` of a literal reference to the directory of this server, whichever version it names."""
    text = str(reference.get("reference", "")).removeprefix(f"{base_url}/")
    target = text.partition("/_history/")[0]
    kind, _, id = target.partition("/")
    return target if kind in ("Practitioner", "Organization", *_HOUSES) and id and "/" not in id else None


def _below(resource: Value) -> list[Value]:
    names = ("practitioner", _HOUSES.get(resource["resourceType"], ""))
    return [resource[name] for name in names if name in resource]


@dataclass(frozen=True, slots=True)
class _Known:
    """The resources of the directory that references lead to, by `Type/id`."""

    resources: Mapping[str, Value]
    base_url: str

    def parties(self, reference: Value) -> Iterator[_Party]:
        resource = self._resource(reference)
        kind = resource.get("resourceType")
        if kind not in _HOUSES:
            yield from (_Party(number=each, house=_house([each])) for each in self._numbers(reference))
            return
        professionals = self._numbers(resource.get("practitioner", {}))
        houses = self._numbers(resource.get(_HOUSES[kind], {}))
        yield from (_Party(number=each, house=_house(houses)) for each in professionals)
        yield from (_Party(number=each, house=each) for each in houses)

    def _resource(self, reference: Value) -> Value:
        return self.resources.get(_target(reference, self.base_url) or "", {})

    def _numbers(self, reference: Value) -> list[str]:
        """Those in a logical reference, and of the professional or structure that it leads to."""
        identifiers = [reference["identifier"]] if "identifier" in reference else []
        identifiers += self._resource(reference).get("identifier", ())
        found = (party_of(each.get("system", ""), each.get("value", "")) for each in identifiers)
        return [each for each in found if each is not None]


def _house(numbers: Sequence[str]) -> str | None:
    return next((each for each in numbers if system_of(each) == IDNST), None)
