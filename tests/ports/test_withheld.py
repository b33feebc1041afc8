"""Consent is non-interference (law 4): what a consent, a profession or a mandate keeps back is as if it were not there.

Two worlds (`tests/worlds.py`) of random records, each asked by callers who see different parts. What each does not see
is said here in the words of the contract, apart from the code that decides it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from passerelle import wiring
from passerelle.access import Request
from passerelle.consents.model import Basis, Emergency, Mandate, MandateKind, Policy, RecordStatus, Relation
from passerelle.consents.terms import Effect, Provision, Scope, Terms
from passerelle.consents.visibility import label_system
from passerelle.directory.model import Role
from passerelle.errors import Gone, PasserelleError
from passerelle.fhir.search import parse_query
from passerelle.patients.model import PersonChange
from passerelle.records.model import Subject
from tests import record
from tests.worlds import World, answers, person, take_out

OURS, OTHERS, PAYER = "1990000037", "1990000011", "1990000045"
ME, SURGEON = "810000000037", "810000000045"
RPPS = "https://rpps.esante.gouv.fr"
LOINC = "http://loinc.org"
CONF = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
A03 = "https://mos.esante.gouv.fr/NOS/TRE_A03-ClasseDocument/FHIR/TRE-A03-ClasseDocument"
SYNTHESIS, DELIVERY, PSYCHIATRY = "60591-5", "15508-5", "68599-0"
REPORT, REIMBURSED = "10", "60"


@dataclass(frozen=True, kw_only=True)
class Item:
    """What a resource is, as the oracle sees it."""

    id: str
    type: str
    is_ours: bool
    kind: str = ""
    category: str = ""
    label: str = "N"
    is_masked: bool = False
    month: int = 1
    author: str = ""


Oracle = Callable[[Item], bool]
"""Whether something is hidden from the caller."""


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    caller: dict[str, Any]
    hides: Oracle
    decide: Callable[[Policy, World], Policy] = lambda policy, _: policy


def masked(item: Item) -> bool:
    return item.is_masked and not item.is_ours


def ordinary(item: Item) -> bool:
    """What a physician does not see of a record that nothing was decided about."""
    return masked(item) or (item.label == "V" and not item.is_ours)


def denied(**scope: Any) -> Callable[[Policy, World], Policy]:
    """A consent that permits all but something."""

    def decide(policy: Policy, _: World) -> Policy:
        exception = Provision(effect=Effect.DENY, scope=Scope(**scope))
        return replace(policy, consents=(Terms(id="Consent/c", effect=Effect.PERMIT, provisions=(exception,)),))

    return decide


def named(policy: Policy, world: World) -> Policy:
    """A consent that names every third document."""
    some = frozenset(f"DocumentReference/{each}" for each in sorted(world.documents)[::3])
    return denied(instances=some)(policy, world)


def released(policy: Policy, world: World) -> Policy:
    some = frozenset(f"DocumentReference/{each}" for each in sorted(world.documents)[::2])
    carer = Mandate(holder="urn:ins|2", kind=MandateKind.CARER, since=record.AT, released=some)
    return replace(policy, mandates=(carer,))


def paid(policy: Policy, _: World) -> Policy:
    return replace(policy, relations=(Relation(party=PAYER, basis=Basis.AUTHORISATION, since=record.AT),))


def in_emergency(policy: Policy, _: World) -> Policy:
    until = record.AT.replace(year=2099)
    glass = Emergency(id="e", professional=ME, organisation=OURS, since=record.AT, until=until, reason="r")
    refusal = Terms(id="Consent/c", effect=Effect.DENY)
    return replace(policy, emergencies=(glass,), consents=(refusal,))


PHYSICIAN = {"role": Role.HOSPITAL, "professional": ME, "profession": "10"}
CASES = [
    Case(name="physician", caller=PHYSICIAN, hides=ordinary),
    Case(
        name="podologist",
        caller={"role": Role.PRACTICE, "professional": ME, "profession": "80"},
        hides=lambda item: ordinary(item)
        or item.type == "Coverage"
        or (
            not item.is_ours
            and (item.label == "R" or item.kind in (PSYCHIATRY, DELIVERY) or item.category == REIMBURSED)
        ),
    ),
    Case(
        name="payer",
        caller={"role": Role.PAYER, "organisation": PAYER, "purpose": "HPAYMT"},
        decide=paid,
        hides=lambda item: item.type != "Coverage"
        and (item.category != REIMBURSED or item.is_masked or item.label in ("R", "V")),
    ),
    Case(
        name="carer, some released",
        caller={"role": Role.REPRESENTATIVE, "patient": "urn:ins|1", "person": "urn:ins|2"},
        decide=released,
        hides=lambda item: True,  # but for what was released, see `hidden_of`
    ),
    Case(
        name="consent by date",
        caller=PHYSICIAN,
        decide=denied(period=("202602010000", "202602282359")),
        hides=lambda item: ordinary(item) or (item.month == 2 and not (item.is_ours and item.type != "Observation")),
    ),
    Case(
        name="consent by author",
        caller=PHYSICIAN,
        decide=denied(authors=frozenset({SURGEON})),
        hides=lambda item: ordinary(item)
        or (item.author == SURGEON and not (item.is_ours and item.type != "Observation")),
    ),
    Case(name="consent by name", caller=PHYSICIAN, decide=named, hides=ordinary),
    Case(name="emergency", caller=PHYSICIAN, decide=in_emergency, hides=ordinary),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def services() -> Iterator[None]:
    with record.services():
        yield


@pytest.fixture(autouse=True)
def empty_record() -> None:
    record.emptied()
    record.emptied("patients")


def asking(case: Case, seconds: float = 1000) -> Request:
    sent = record.request(seconds)
    caller = replace(sent.caller, **{"organisation": OURS, **case.caller})
    return replace(sent, request_id="r", caller=caller)


def build(chance: random.Random) -> tuple[World, list[Item]]:
    world, items = World(person(2)), []
    subjects = [{"reference": f"Patient/{key}"} for key in world.person.members]
    seconds = iter(range(1, 1000))

    def create(item: dict[str, Any], kind: str, /, **content: Any) -> str:
        ours = chance.random() < 0.3
        request = record.request(next(seconds))
        request = replace(request, caller=replace(request.caller, organisation=OURS if ours else OTHERS))
        id = world.create(request, kind, **content)
        items.append(Item(id=id, type=kind, is_ours=ours, **item))
        return id

    for _ in range(7):
        author, month, label = chance.choice([ME, SURGEON]), chance.choice([1, 2]), chance.choice("NNNRV")
        kind = chance.choice([SYNTHESIS, DELIVERY, PSYCHIATRY, "x"])
        category = REIMBURSED if kind == "x" else REPORT
        is_masked = chance.random() < 0.25
        labels = [(CONF, label), *([(label_system(), "MASQUE_PS")] if is_masked else [])]
        related = chance.choice([*world.documents, None])
        item = {"author": author, "month": month, "label": label, "kind": kind, "category": category}
        target = {"reference": f"DocumentReference/{related}"}
        id = create(
            {**item, "is_masked": is_masked},
            "DocumentReference",
            status="current",
            subject=chance.choice(subjects),
            date=f"2026-{month:02d}-{chance.randrange(1, 28):02d}T08:00:00Z",
            type={"coding": [{"system": LOINC, "code": kind}]},
            category=[{"coding": [{"system": A03, "code": category}]}],
            author=[{"identifier": {"system": RPPS, "value": author[1:]}}],
            securityLabel=[{"coding": [{"system": system, "code": code}]} for system, code in labels],
            content=[{"attachment": {"contentType": "text/plain"}}],
            **({"relatesTo": [{"code": "appends", "target": target}]} if related else {}),
        )
        world.documents[id] = frozenset()
    for number in range(3):
        month, author = 1 + number % 2, chance.choice([ME, SURGEON])
        create(
            {"month": month, "author": author},
            "Observation",
            status="final",
            subject=chance.choice(subjects),
            effectiveDateTime=f"2026-{month:02d}-10",
            code={"coding": [{"system": "urn:x", "code": "a"}]},
            performer=[{"identifier": {"system": RPPS, "value": author[1:]}}],
        )
        some = chance.sample(sorted(world.documents), 3)
        world.create(
            record.request(next(seconds)),
            "List",
            status="current",
            mode="working",
            subject=chance.choice(subjects),
            date="2025-01-01",
            entry=[{"item": {"reference": f"DocumentReference/{each}"}} for each in some],
        )
    create(
        {}, "Coverage", status="active", beneficiary=subjects[0], payor=[{"identifier": {"system": "u", "value": "1"}}]
    )
    return world, items


def decide(world: World, case: Case) -> None:
    before = world.person
    policy = case.decide(Policy(status=RecordStatus.OPEN, since=record.AT), world)
    records = tuple(replace(each, policy=policy) for each in before.records)
    world.person = replace(before, records=records, revision=before.revision + 1)
    record.commit(PersonChange(before=before, after=world.person))


def hidden_of(world: World, items: list[Item], case: Case) -> set[str]:
    hidden = {each.id for each in items if case.hides(each)}
    documents = sorted(world.documents)
    if case.decide is released:
        lists = {made.id for kind, made in world.written if kind == "List"}
        return (hidden | lists) - set(documents[::2])
    if case.decide is named:
        own = {each.id for each in items if each.is_ours}
        return hidden | (set(documents[::3]) - own)
    if case.caller["role"] == Role.PAYER:
        hidden |= {made.id for kind, made in world.written if kind == "List"}
    return hidden


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_kept_back_is_as_if_it_were_not_there(case: Case) -> None:
    """GEN-11, PCF-7, PCF-8, DMP-29."""
    world, items = build(random.Random(case.name))
    decide(world, case)
    world.hidden = hidden_of(world, items, case)
    with_hidden = answers(world, asking(case))
    assert len(world.hidden) > 0
    assert any("b'{" in each for each in with_hidden)  # something is told
    take_out(world)
    assert answers(world, asking(case)) == with_hidden


def test_a_decision_binds_between_two_pages_and_a_copy_starts_again() -> None:
    """Goal I4."""
    case = next(each for each in CASES if each.name == "physician")
    world, _ = build(random.Random(4))
    query = parse_query("Observation", [("_count", "1")]).query
    subject = Subject(key=world.person.members[0])
    search, history = wiring.record_search(), wiring.record_history()
    first = search.search(asking(case), query, subject)
    copied = history.delta(asking(case), subject, count=50, is_wanted=lambda _: True)
    decide(world, Case(name="", caller={}, hides=masked, decide=denied(types=frozenset({"Observation"}))))
    assert search.search(asking(case), query, subject, cursor=first.cursor).versions == ()
    with pytest.raises(Gone):
        history.delta(asking(case), subject, count=50, is_wanted=lambda _: True, cursor=copied.cursor)
    decide(world, Case(name="", caller={}, hides=masked, decide=denied()))
    with pytest.raises(PasserelleError):
        search.search(asking(case), query, subject, cursor=first.cursor)
