"""Commands of one prescription at once (contract, sections 8 and 19, items 2, 3 and 6).

On storage in memory whose commits have a real lock, in many rounds; and in a few on the emulator's DynamoDB, in a
process of its own, which serves calls in parallel.
"""

from __future__ import annotations

import random
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from local.emulator import Emulator
from passerelle import wiring
from passerelle.access import Caller
from passerelle.aws.prescriptions import DynamoWakes
from passerelle.errors import PasserelleError
from passerelle.fhir.prescriptions.reminders import FhirMessages
from passerelle.prescriptions import history
from passerelle.prescriptions.asking import AskTarget
from passerelle.prescriptions.commands import Target, line_task_id
from passerelle.prescriptions.model import HistoryEvent, Line, Outcome, RenewalAnswer, Signature
from passerelle.prescriptions.quantities import MILLIONTHS
from passerelle.prescriptions.sweeping import Sweeping
from tests import linearisability
from tests.linearisability import Answer, Call, Recorder, linearised
from tests.prescribing import (
    AT,
    PATIENT,
    PHARMACY_A,
    PHARMACY_B,
    PRACTICE,
    MemoryExchange,
    Region,
    code_of,
    later,
    medication_request,
    region,
    region_in_memory,
    request,
    sign,
    tried,
)

OK = "ok"


@dataclass
class Ground:
    """Where the races are run, and how often. `rounds` is None in memory: as many as the test wants."""

    here: Region
    rounds: int | None = None

    def times(self, wanted: int) -> range:
        return range(wanted if self.rounds is None else self.rounds)

    def issued(self, units: int = 10, lines: int = 1) -> tuple[str, str]:
        supply = {"quantity": {"value": units, "unit": "comprimé"}}
        return self.here.issued(*[medication_request(self.here.patient, dispenseRequest=supply) for _ in range(lines)])

    def line(self, id: str) -> Line:
        return self.here.stored(id).lines[0]

    @property
    def sweeping(self) -> Sweeping:
        store = self.here.store
        wakes = store if isinstance(store, MemoryExchange) else DynamoWakes(wiring.dynamodb(), wiring.table_names())
        return Sweeping(self.here.service, wakes=wakes, messages=FhirMessages())

    def events(self, id: str) -> Sequence[HistoryEvent]:
        store = self.here.store
        return store.history[id] if isinstance(store, MemoryExchange) else wiring.prescription_store().history(id)

    def adds_up(self, id: str) -> bool:
        """Nothing was supplied twice, and the history has each change once."""
        stored = self.here.stored(id)
        line = stored.lines[0]
        supplied = sum(each.quantity for each in stored.supplies_of(1))
        is_whole = history.is_unbroken(self.events(id), stored.group.head)
        return is_whole and supplied + line.remaining_total == line.total and line.remaining_fill >= 0


@pytest.fixture(scope="module", params=["memory", "emulator"])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    before = sys.getswitchinterval()
    if request.param == "memory":
        sys.setswitchinterval(1e-5)
        yield Ground(region_in_memory())
        sys.setswitchinterval(before)
        return
    with Emulator() as elsewhere, region(emulator=elsewhere.url) as there:
        yield Ground(there, rounds=1)


@pytest.fixture
def memory() -> Ground:
    return Ground(region_in_memory())


def at_once(*calls: Callable[[], Any]) -> list[Outcome | PasserelleError]:
    """What each of the calls gives that are made at the same moment."""
    barrier = threading.Barrier(len(calls))
    done: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        barrier.wait()
        done[number] = tried(calls[number])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


def result(done: Outcome | PasserelleError) -> str:
    return code_of(done) if isinstance(done, PasserelleError) else OK


def raced(*calls: Callable[[], Any]) -> tuple[str, ...]:
    return tuple(map(result, at_once(*calls)))


def pharmacy(number: int) -> Caller:
    return replace(PHARMACY_A, client_id=f"pharmacy-{number}", organisation=f"199000{number:04d}")


# --- claims -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("many", "rounds"), [(2, 30), (10, 15), (100, 2)])
def test_of_many_claimers_one_succeeds(ground: Ground, many: int, rounds: int) -> None:
    """Item 2: one 200, the rest 409 with the end of the lease, nothing else."""
    for _ in ground.times(rounds)[: 1 if many == 100 else None]:
        id, code = ground.issued()
        claims = [partial(ground.here.accept, id, code, caller=pharmacy(number)) for number in range(many)]
        done = at_once(*claims)
        assert Counter(map(result, done)) == {OK: 1, "RX-CLAIMED-BY-OTHER": many - 1}
        until = f"leaseUntil={later(hours=2).isoformat()}"
        assert all(each.status == 409 and until in str(each) for each in done if isinstance(each, PasserelleError))
        stored = ground.here.stored(id)
        (winner,) = (number for number, each in enumerate(done) if isinstance(each, Outcome))
        assert (stored.lines[0].fence, len(stored.claims)) == (1, 1)
        assert stored.lines[0].owner == pharmacy(winner).organisation


def test_one_request_sent_many_times_at_once_is_one_claim(ground: Ground) -> None:
    for _ in ground.times(15):
        id, code = ground.issued()
        key = str(uuid.uuid4())
        done = at_once(*[partial(ground.here.accept, id, code, key=key)] * 8)
        assert set(map(result, done)) == {OK}
        assert len({each.secret for each in done if isinstance(each, Outcome)}) == 1
        assert ground.line(id).fence == 1


def test_named_lines_are_claimed_all_or_none(ground: Ground) -> None:
    """Item 6: both want the second line."""
    for _ in ground.times(20):
        id, code = ground.issued(lines=4)
        found = raced(
            partial(ground.here.accept, id, code, 1, 2, 3),
            partial(ground.here.accept, id, code, 2, 4, caller=PHARMACY_B),
        )
        owners = [line.owner for line in ground.here.stored(id).lines]
        a, b = PHARMACY_A.organisation, PHARMACY_B.organisation
        assert (found, owners) in (
            ((OK, "RX-CLAIMED-BY-OTHER"), [a, a, a, None]),
            (("RX-CLAIMED-BY-OTHER", OK), [None, b, None, b]),
        )


# --- one of two comes first -----------------------------------------------------------------------------------------


def test_claim_and_cancel(ground: Ground) -> None:
    """Item 3."""
    for _ in ground.times(30):
        id, code = ground.issued()
        claimed, cancelled = at_once(partial(ground.here.accept, id, code), partial(ground.here.cancel, id))
        assert isinstance(cancelled, Outcome)
        assert (result(claimed), cancelled.status, ground.line(id).state) in (
            (OK, 202, "Q"),
            ("RX-CANCELLED", 200, "K"),
        )


@pytest.mark.parametrize(("units", "state"), [(6, "Q"), (10, "F")])
def test_dispense_and_cancel(ground: Ground, units: int, state: str) -> None:
    """Item 3."""
    for _ in ground.times(20):
        id, code = ground.issued()
        secret = ground.here.accept(id, code).secret
        found = raced(partial(ground.here.dispense, id, secret, units), partial(ground.here.cancel, id))
        first = (OK, OK if state == "Q" else "RX-DONE")
        assert (found, ground.line(id).state) in ((first, state), (("RX-CANCEL-PENDING", OK), "Q"))
        assert ground.adds_up(id)


def test_dispense_and_dispense_with_one_secret(ground: Ground) -> None:
    """Item 3: six of ten, twice."""
    for _ in ground.times(30):
        id, code = ground.issued()
        secret = ground.here.accept(id, code).secret
        found = raced(*[partial(ground.here.dispense, id, secret, 6)] * 2)
        assert sorted(found) == ["RX-QUANTITY", OK]
        assert ground.line(id).remaining_fill == 4 * MILLIONTHS
        assert ground.adds_up(id)


def test_dispense_and_the_sweep_of_its_lapsed_lease(ground: Ground) -> None:
    """Item 3: the clock of one is a little behind that of the other."""
    for _ in ground.times(20):
        id, code = ground.issued()
        secret = ground.here.accept(id, code).secret
        hour = str(ground.here.stored(id).group.wakes_at)
        found = raced(
            partial(ground.here.dispense, id, secret, 6, at=AT + timedelta(hours=2, milliseconds=-1)),
            partial(ground.sweeping.attend, id, hour, later(hours=3)),
        )
        assert (found[0], ground.line(id).state) in ((OK, "O"), (OK, "P"), ("RX-LEASE-LOST", "R"))
        assert found[1] == OK
        assert ground.adds_up(id)


def test_withdraw_and_dispense(ground: Ground) -> None:
    """Item 3: what is taken back in time can be supplied."""
    for _ in ground.times(20):
        id, code = ground.issued()
        secret = ground.here.accept(id, code).secret
        ground.here.dispense(id, secret, 4)
        wrong = ground.here.last_supply(id)
        found = raced(partial(ground.here.withdraw, wrong), partial(ground.here.dispense, id, secret, 7))
        line = ground.line(id)
        assert (found, line.state, line.remaining_fill // MILLIONTHS) in (
            ((OK, OK), "P", 3),
            ((OK, "RX-QUANTITY"), "C", 10),
        )
        assert ground.adds_up(id)


def test_one_supply_is_taken_back_once(memory: Ground) -> None:
    for _ in memory.times(15):
        id, code = memory.issued()
        memory.here.dispense(id, memory.here.accept(id, code).secret, 10)
        found = raced(*[partial(memory.here.withdraw, memory.here.last_supply(id))] * 3)
        assert sorted(found) == ["RX-STATE", "RX-STATE", OK]
        assert memory.adds_up(id)


def test_route_and_claim(ground: Ground) -> None:
    """Item 3: a code that died opens nothing; what is claimed goes nowhere else."""
    for _ in ground.times(20):
        id, code = ground.issued()
        routed, claimed = at_once(partial(ground.here.route, id, ""), partial(ground.here.accept, id, code))
        found = (result(routed), result(claimed))
        assert found in ((OK, "RX-ACCESS-CODE"), ("RX-CLAIMED-BY-OTHER", OK))
        if isinstance(routed, Outcome):
            assert ground.here.accept(id, routed.access_code).status == 200


def test_one_holder_ends_a_claim_once(memory: Ground) -> None:
    for _ in memory.times(20):
        id, code = memory.issued()
        secret = memory.here.accept(id, code).secret
        found = raced(partial(memory.here.reject, id, secret), partial(memory.here.reject, id, secret))
        assert sorted(found) == ["RX-NOT-CLAIMED", OK]
        assert memory.line(id).state == "R"


# --- signatures and answers -----------------------------------------------------------------------------------------


def test_a_draft_is_signed_once(ground: Ground) -> None:
    for _ in ground.times(15):
        id = ground.here.create().prescription.group.id
        content = ground.here.service.prepare(request(PRACTICE, "$prepare", key=None), Target.of(id)).content
        signed = Signature(jws=sign(content), signed_on=AT.date())

        def activate(id: str = id, signed: Signature = signed) -> Outcome:
            return ground.here.service.activate(request(PRACTICE, "$activate"), Target.of(id), signed)

        assert sorted(raced(activate, activate)) == ["RX-STATE", OK]
        assert (ground.line(id).state, ground.line(id).request_version) == ("R", 1)


def test_a_renewal_is_answered_once(ground: Ground) -> None:
    for _ in ground.times(15):
        id, _ = ground.issued()
        target = Target.of(line_task_id(id, 1))
        ground.here.service.request_renewal(request(PATIENT, "$request-renewal"), target, None)

        def answer(id: str = id) -> Outcome:
            asked = request(PRACTICE, "$respond-renewal")
            given = RenewalAnswer(answer="approve")
            return ground.here.service.respond_renewal(asked, AskTarget(id=id, number=1), given)

        done = at_once(answer, answer)
        assert sorted(map(result, done)) == ["RX-STATE", OK]
        (draft,) = (each.prescription.group.id for each in done if isinstance(each, Outcome))
        assert ground.here.stored(id).asks[0].draft == draft


# --- histories ------------------------------------------------------------------------------------------------------


class Story:
    """Callers who do with one line what comes to their mind; each call and its answer is recorded.

    Nobody is told the code that comes into force by `$route`: who loses a claim to somebody who has that code is told
    so, and not that the own code has died meanwhile.
    """

    def __init__(self, ground: Ground, seed: int) -> None:
        self.here, self.seed = ground.here, seed
        self.id, self.code = ground.issued()
        self.recorder = Recorder()
        self.secrets: dict[str, list[str]] = {"pharmacy-0": [], "pharmacy-1": []}
        self.supplies: dict[str, list[str]] = {"pharmacy-0": [], "pharmacy-1": []}

    def run(self, calls: int) -> None:
        pharmacies = [pharmacy(number) for number in (0, 0, 1)]  # two counters of one
        threads = [
            threading.Thread(target=self._work, args=(who, number, calls))
            for number, who in enumerate([*pharmacies, PRACTICE, PATIENT])
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, who: Caller, number: int, calls: int) -> None:
        chance = random.Random(self.seed * 10 + number)
        if who is PRACTICE:
            if chance.random() < 0.5:
                self._make(Call(operation="cancel", by="practice"), lambda: self.here.cancel(self.id))
            return
        for _ in range(calls if who is not PATIENT else 1):
            if who is PATIENT:
                self._make(Call(operation="route", by="patient"), lambda: self.here.route(self.id, ""))
            else:
                self._at_the_counter(who, chance)

    def _at_the_counter(self, who: Caller, chance: random.Random) -> None:
        by = who.client_id
        secrets, supplies = self.secrets[by], self.supplies[by]
        does = chance.choice(["accept", "dispense", "dispense", "reject", "withdraw"])
        if does == "withdraw" and supplies:
            of = chance.choice(supplies)
            self._make(Call(operation=does, by=by, of=of), lambda: self.here.withdraw(of, caller=who))
        elif does in ("dispense", "reject") and secrets:
            secret = chance.choice(secrets[-2:])
            units = chance.choice([3, 5, 10])
            if does == "reject":
                call = Call(operation=does, by=by, secret=secret)
                self._make(call, lambda: self.here.reject(self.id, secret, caller=who))
            else:
                call = Call(operation=does, by=by, secret=secret, units=units)
                supplies += self._make(call, lambda: self.here.dispense(self.id, secret, units, caller=who))
        else:
            code, recover = self.code, chance.random() < 0.3
            call = Call(operation="accept", by=by, secret=code, recover=recover)
            secrets += self._make(call, lambda: self.here.accept(self.id, code, caller=who, recover=recover))

    def _make(self, call: Call, make: Callable[[], Outcome]) -> list[str]:
        """What is told once, if the call succeeds."""

        def answered() -> Answer:
            done = tried(make)
            if isinstance(done, PasserelleError):
                return Answer(result=code_of(done), status=done.status)
            token = done.secret or done.access_code
            if call.operation == "dispense":
                token = done.prescription.ledger[-1].dispense_id
            return Answer(result=OK, status=done.status, token=token)

        answer = self.recorder.record(call, answered)
        return [answer.token] if answer.token else []


def test_every_history_is_one_after_the_other(ground: Ground) -> None:
    """What callers were told could have been told to them in turn: linearisability."""
    results: Counter[str] = Counter()
    for seed in ground.times(60):
        story = Story(ground, seed)
        story.run(calls=5 if ground.rounds is None else 3)
        model = linearisability.Line(authorised=10, code=story.code)
        events = story.recorder.events
        assert linearised(events, model) is not None, sorted(events, key=lambda each: each.invoked)
        results.update(f"{each.call.operation} {each.answer.result}" for each in events)
    if ground.rounds is None:
        assert len(results) >= 20, results  # these stories say something


# --- the moment -----------------------------------------------------------------------------------------------------


def lease_end(ground: Ground, id: str) -> datetime:
    assert ground.line(id).lease_until == int(later(hours=2).timestamp() * 1000)
    return later(hours=2)


@pytest.mark.parametrize(
    ("milliseconds", "holder", "other"),
    [(-1, OK, "RX-CLAIMED-BY-OTHER"), (0, "RX-LEASE-LOST", "RX-CLAIMED-BY-OTHER"), (1, "RX-LEASE-LOST", OK)],
)
def test_around_the_end_of_a_lease(memory: Ground, milliseconds: int, holder: str, other: str) -> None:
    """Item 5: at once, and each as if it were alone."""
    for _ in memory.times(5):
        id, code = memory.issued()
        secret = memory.here.accept(id, code).secret
        at = lease_end(memory, id) + timedelta(milliseconds=milliseconds)
        found = raced(
            partial(memory.here.dispense, id, secret, 1, at=at),
            partial(memory.here.accept, id, code, caller=PHARMACY_B, at=at),
        )
        assert found == (holder, other)
        assert memory.line(id).fence == (2 if other == OK else 1)
        assert memory.adds_up(id)
