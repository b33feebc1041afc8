"""Renewals and changes: every cell of their rows, what an answer does, and who may; on storage in memory."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from typing import Any

import pytest

from passerelle.access import Caller
from passerelle.directory.model import Role
from passerelle.fhir import json as fhir_json
from passerelle.fhir.prescriptions import orders, tasks
from passerelle.fhir.prescriptions.issues import FhirIssues
from passerelle.fhir.prescriptions.requests import signed_lines
from passerelle.fhir.validation import validate
from passerelle.identifiers import new_resource_id
from passerelle.medicines.model import Behaviour, Context, Finding, Kind, Report, Treatment
from passerelle.prescriptions import history, worklists
from passerelle.prescriptions.asking import AskTarget
from passerelle.prescriptions.checking import Checks
from passerelle.prescriptions.commands import Target, line_task_id
from passerelle.prescriptions.model import (
    AskedChange,
    ChangeAnswer,
    ClaimRecord,
    Line,
    OrderLine,
    Outcome,
    Override,
    Prescription,
    RenewalAnswer,
    Signature,
)
from passerelle.prescriptions.numbers import digest
from passerelle.prescriptions.quantities import MILLIONTHS
from passerelle.prescriptions.transitions import STATES, Row, Transitions
from passerelle.records.model import ResourceKey
from tests.prescribing import (
    AT,
    GROUP,
    LINE,
    NURSE,
    OTHER_PATIENT,
    OTHER_PRACTICE,
    PATIENT,
    PHARMACY_A,
    PHARMACY_B,
    PRACTICE,
    MemoryExchange,
    NobodyKnown,
    NothingFound,
    Region,
    code_of,
    later,
    medication_request,
    refused,
    region_in_memory,
    request,
    sign,
)

NOW = int(AT.timestamp() * 1000)
ROWS = {row.id: row for row in Transitions(statuses={}).rows}
REPRESENTATIVE = replace(PATIENT, client_id="representative", role=Role.REPRESENTATIVE)
COLLEAGUE = replace(PRACTICE, professional="810000000099")
OTHER_PRODUCT = {
    "coding": [{"system": "http://data.esante.gouv.fr/ansm/medicament/SpecialitePharmaceutique", "code": "60000001"}]
}
HELD = "CPQ"


@pytest.fixture
def here() -> Region:
    return region_in_memory()


def store_of(here: Region) -> MemoryExchange:
    assert isinstance(here.store, MemoryExchange)
    return here.store


def ask_renewal(
    here: Region, id: str, line: int = 1, *, caller: Caller = PATIENT, at: datetime = AT, **options: Any
) -> Outcome:
    target = Target.of(line_task_id(id, line))
    return here.service.request_renewal(request(caller, "$request-renewal", at=at, **options), target, "Stock épuisé")


def ask_change(
    here: Region,
    id: str,
    secret: str | None,
    *,
    topic: str = "dose",
    caller: Caller = PHARMACY_A,
    at: datetime = AT,
    **options: Any,
) -> Outcome:
    asked = AskedChange(secret=secret or "", topic=topic, text="Dose élevée ?", proposal=None)
    target = Target.of(line_task_id(id, 1))
    return here.service.request_change(request(caller, "$request-change", at=at, **options), target, asked)


def answer_renewal(
    here: Region, id: str, answer: RenewalAnswer, *, number: int = 1, caller: Caller = PRACTICE, **options: Any
) -> Outcome:
    target = AskTarget(id=id, number=number)
    return here.service.respond_renewal(request(caller, "$respond-renewal", **options), target, answer)


def answer_change(
    here: Region, id: str, answer: ChangeAnswer, *, number: int = 1, caller: Caller = PRACTICE, **options: Any
) -> Outcome:
    target = AskTarget(id=id, number=number)
    return here.service.respond_change(request(caller, "$respond-change", **options), target, answer)


def order(here: Region, **changes: Any) -> OrderLine:
    made = medication_request(here.patient, **changes)
    return orders.order_line(fhir_json.loads(fhir_json.dumps(made)), "MedicationRequest")


def approval(here: Region, id: str, changed: OrderLine, *, number: int = 1, caller: Caller = PRACTICE) -> ChangeAnswer:
    asked = request(caller, "$prepare-change", key=None)
    prepared = here.service.prepare_change(asked, AskTarget(id=id, number=number), changed)
    signed = Signature(jws=sign(prepared.content), signed_on=AT.date())
    return ChangeAnswer(answer="approve", order=changed, signed=signed)


def task_of(outcome: Outcome) -> Any:
    (task,) = outcome.resources
    return json.loads(task)


# --- the rows of the table ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    row: Row
    state: str
    is_lapsed: bool
    is_expired: bool

    def __str__(self) -> str:
        over = [word for word, is_so in (("lapsed", self.is_lapsed), ("expired", self.is_expired)) if is_so]
        return "-".join([self.row.id, self.state, *over])

    @property
    def effective(self) -> str:
        """Contract section 6.2, stated again and on its own."""
        state = {"C": "R", "P": "O", "Q": "K"}.get(self.state, self.state) if self.is_lapsed else self.state
        return {"R": "X", "O": "X", "W": "X"}.get(state, state) if self.is_expired else state


def cases() -> Iterator[Case]:
    for state, is_lapsed, is_expired in itertools.product(STATES, (False, True), (False, True)):
        if (is_lapsed and state not in HELD) or (is_expired and state not in "ROW" + HELD):
            continue
        yield Case(ROWS["request-renewal"], state, is_lapsed, is_expired)
        if state in "DE":
            continue  # no claim was ever made: there is no secret to come with
        yield Case(ROWS["stale-claim"], state, is_lapsed, is_expired)
        if not is_lapsed:
            yield Case(ROWS["request-change"], state, is_lapsed, is_expired)


def seeded(here: Region, state: str, *, is_lapsed: bool = False, is_expired: bool = False) -> str:
    """Store a prescription with one line in this state, once held by pharmacy B, then by pharmacy A."""
    is_held, is_closed = state in HELD, state in "FN"
    line = replace(
        LINE,
        state=state,
        request_id=new_resource_id(here.patient, AT),
        request=json.dumps(medication_request(here.patient)),
        request_version=0 if state == "D" else 1,
        unit="comprimé",
        per_fill=90 * MILLIONTHS,
        total=90 * MILLIONTHS,
        remaining_fill=0 if is_closed else 90 * MILLIONTHS,
        remaining_total=0 if is_closed else 90 * MILLIONTHS,
        expires_on=AT.date() if is_expired else date(2026, 6, 2),
        owner=PHARMACY_A.organisation if is_held else None,
        secret_hash=digest("current") if is_held else None,
        fence=0 if state in "DE" else 2,
        claimed_at=NOW - 1000 if is_held else 0,
        lease_until=NOW + (-1 if is_lapsed else 1) if is_held else 0,
        cancel_requested=state in "QK",
        cancelled_by="prescriber" if state in "QK" else None,
        cancelled_at=AT.isoformat() if state in "QK" else None,
        cancel_reason="prescribing-error" if state in "QK" else None,
    )
    group = replace(GROUP, id=new_resource_id(here.patient, AT), patient=here.patient)
    claims = tuple(
        ClaimRecord(line=1, fence=fence, owner=by.organisation, secret_hash=digest(secret), taken_at=1, ended=end)
        for fence, by, secret, end in (
            (1, PHARMACY_B, "older", ""),
            (2, PHARMACY_A, "current", "" if is_held else "given-back"),
        )
    )
    found = Prescription(group=group, lines=(line,), claims=() if state in "DE" else claims)
    store_of(here).prescriptions[group.id] = found
    return group.id


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_cell(here: Region, case: Case) -> None:
    id = seeded(here, case.state, is_lapsed=case.is_lapsed, is_expired=case.is_expired)
    calls = {
        "request-renewal": partial(ask_renewal, here, id),
        "request-change": partial(ask_change, here, id, "current"),
        "stale-claim": partial(ask_change, here, id, "older", caller=PHARMACY_B),
    }
    if case.row.id == "stale-claim" and case.is_lapsed:
        calls["stale-claim"] = partial(ask_change, here, id, "current")
    (cell,) = case.row.cells[case.effective]
    before, call = here.stored(id), calls[case.row.id]
    if cell.error is not None:
        error = refused(call)
        assert (error.status, code_of(error)) == (cell.http, cell.error)
        assert (here.stored(id), store_of(here).commits) == (before, 0)
        return
    assert call().status == cell.http == 201
    after = here.stored(id)
    assert after.lines == before.lines
    assert (after.ledger, after.claims) == (before.ledger, before.claims)
    assert [ask.status for ask in after.asks] == ["requested"]
    assert history.is_unbroken(store_of(here).history[id], after.group.head) or before.group.events


def test_every_cell_that_can_occur_is_a_case() -> None:
    reached = {(case.row.id, case.effective) for case in cases()}
    served = {(name, state) for name in ("request-renewal", "request-change") for state in STATES}
    assert served - reached == {("request-change", "D"), ("request-change", "E")}


# --- renewals -------------------------------------------------------------------------------------------------


def test_an_approved_renewal_is_a_draft_that_follows_the_line(here: Region) -> None:
    id, _ = here.issued()
    asked = ask_renewal(here, id)
    task = task_of(asked)
    assert (asked.status, task["status"], task["intent"]) == (201, "requested", "proposal")
    assert task["basedOn"] == [{"reference": f"MedicationRequest/{here.stored(id).lines[0].request_id}"}]
    assert worklists.concerned(here.stored(id)) == {PRACTICE.organisation}

    at = later(days=40)
    done = answer_renewal(here, id, RenewalAnswer(answer="approve"), at=at)
    draft, old = done.prescription, here.stored(id)
    assert (done.status, draft.lines[0].state, draft.group.authored_on) == (200, "D", at.date())
    assert draft.group.number != old.group.number
    assert draft.lines[0].prior == f"MedicationRequest/{old.lines[0].request_id}"
    assert (old.asks[0].status, old.asks[0].draft, old.lines[0].state) == ("completed", draft.group.id, "R")
    assert {"reference": f"Task/{draft.group.id}"} in [each.get("valueReference") for each in task_of(done)["output"]]
    assert worklists.concerned(old) == frozenset()

    assert here.activate(draft.group.id, at=at).status == 200
    line = here.stored(draft.group.id).lines[0]
    assert json.loads(line.request)["priorPrescription"] == {"reference": line.prior}
    assert here.accept(draft.group.id, done.access_code, at=at).status == 200


def test_an_approval_renders_as_the_draft_with_its_number_and_code(here: Region) -> None:
    id, _ = here.issued()
    asked = tasks.render(ask_renewal(here, id))
    validate(fhir_json.loads(fhir_json.dumps(asked)))
    done = answer_renewal(here, id, RenewalAnswer(answer="approve"))
    body = tasks.render(done)
    validate(fhir_json.loads(fhir_json.dumps(body)))
    told = {each["name"] for each in body["entry"][0]["resource"]["parameter"]}
    assert {"number", "accessCode", "qr"} <= told
    answered = body["entry"][-1]["resource"]
    assert (answered["id"], answered["status"]) == (f"{id}-r01", "completed")


def test_what_is_counted_from_another_day_is_left_behind(here: Region) -> None:
    supply = {
        "quantity": {"value": 90, "unit": "comprimé"},
        "validityPeriod": {"start": "2026-03-02", "end": "2026-03-20"},
    }
    id, _ = here.issued(medication_request(here.patient, dispenseRequest=supply))
    ask_renewal(here, id)
    done = answer_renewal(here, id, RenewalAnswer(answer="approve"), at=later(days=60))
    assert done.prescription.lines[0].valid_until is None


def test_a_colleague_renews_under_the_own_name(here: Region) -> None:
    id, _ = here.issued()
    ask_renewal(here, id)
    done = answer_renewal(here, id, RenewalAnswer(answer="approve"), caller=COLLEAGUE)
    assert done.prescription.group.prescriber == COLLEAGUE.professional
    requester = json.loads(done.prescription.lines[0].request)["requester"]
    assert requester["identifier"]["value"] == COLLEAGUE.professional


def test_with_changes_what_is_given_is_what_is_drafted(here: Region) -> None:
    id, _ = here.issued()
    ask_renewal(here, id)
    instead = (order(here, medicationCodeableConcept=OTHER_PRODUCT), order(here))
    answer = RenewalAnswer(answer="approve-with-changes", orders=instead, patient=here.patient)
    wrong = (
        (replace(answer, patient="0000000000000000"), "RX-INVALID"),
        (replace(answer, orders=(replace(instead[0], prescriber="810000000029"),)), "RX-ROLE"),
    )
    for given, code in wrong:
        assert code_of(refused(answer_renewal, here, id, given)) == code
    done = answer_renewal(here, id, answer)
    assert [line.product.rpartition("|")[2] for line in done.prescription.lines] == ["60000001", "61234567"]
    assert {line.prior for line in done.prescription.lines} == {
        f"MedicationRequest/{here.stored(id).lines[0].request_id}"
    }


def test_a_denial_tells_its_reason_and_begins_nothing(here: Region) -> None:
    id, _ = here.issued()
    ask_renewal(here, id)
    known = len(store_of(here).prescriptions)
    done = answer_renewal(here, id, RenewalAnswer(answer="deny", reason="visit-needed", text="Venez me voir"))
    task = task_of(done)
    assert (done.status, task["status"], len(store_of(here).prescriptions)) == (200, "rejected", known)
    assert task["statusReason"]["coding"][0]["code"] == "visit-needed"
    again = refused(answer_renewal, here, id, RenewalAnswer(answer="approve"))
    assert (again.status, code_of(again)) == (409, "RX-STATE")
    assert ask_renewal(here, id, at=later(days=1)).status == 201


def test_of_a_line_one_request_of_a_kind_is_open(here: Region) -> None:
    id, code = here.issued(medication_request(here.patient), medication_request(here.patient))
    secret = here.accept(id, code).secret
    ask_renewal(here, id)
    second = refused(ask_renewal, here, id, caller=PHARMACY_A)
    assert code_of(second) == "RX-STATE"
    assert f"task=Task/{id}-r01" in str(second)
    assert ask_renewal(here, id, 2, caller=PHARMACY_A).status == 201
    assert ask_change(here, id, secret).status == 201
    assert [ask.number for ask in here.stored(id).asks] == [1, 2, 3]


def test_who_may_ask_and_who_may_answer(here: Region) -> None:
    id, code = here.issued()
    for stranger in (PHARMACY_B, OTHER_PATIENT):
        assert code_of(refused(ask_renewal, here, id, caller=stranger)) == "RX-NOT-FOUND"
    assert code_of(refused(ask_renewal, here, id, caller=PRACTICE)) == "RX-ROLE"
    here.accept(id, code)
    assert ask_renewal(here, id, caller=PHARMACY_A).status == 201
    deny = RenewalAnswer(answer="deny", reason="too-early")
    assert code_of(refused(answer_renewal, here, id, deny, caller=OTHER_PRACTICE)) == "RX-NOT-FOUND"
    assert code_of(refused(answer_renewal, here, id, deny, caller=PHARMACY_A)) == "RX-ROLE"
    assert code_of(refused(answer_renewal, here, id, deny, number=2)) == "RX-NOT-FOUND"
    assert code_of(refused(answer_change, here, id, ChangeAnswer(answer="deny", reason="too-early"))) == "RX-NOT-FOUND"
    assert answer_renewal(here, id, deny).status == 200
    assert ask_renewal(here, id, caller=REPRESENTATIVE).status == 201
    other, _ = here.issued()
    assert code_of(refused(ask_renewal, here, other, caller=NURSE)) == "RX-NOT-FOUND"
    here.route(other, coordinator=NURSE.organisation)
    assert ask_renewal(here, other, caller=NURSE).status == 201


def test_a_repeated_request_and_a_repeated_answer_have_one_effect(here: Region) -> None:
    id, _ = here.issued()
    key = "5b0b7f9c-6a57-4c43-8d66-0f1f2a3b4c5d"
    first, again = (ask_renewal(here, id, key=key) for _ in range(2))
    assert (again.is_replay, again.resources) == (True, first.resources)
    key = "6b0b7f9c-6a57-4c43-8d66-0f1f2a3b4c5d"
    first, again = (answer_renewal(here, id, RenewalAnswer(answer="approve"), key=key) for _ in range(2))
    assert again.prescription.group.id == first.prescription.group.id
    assert (again.access_code, tasks.render(again)) == (first.access_code, tasks.render(first))
    assert len(store_of(here).prescriptions) == 2


# --- changes --------------------------------------------------------------------------------------------------


def half_the_dose(here: Region) -> OrderLine:
    half = {
        "text": "1 comprimé 3 fois par jour pendant 15 jours",
        "timing": {"repeat": {"frequency": 3, "period": 1, "periodUnit": "d"}},
        "doseAndRate": [{"doseQuantity": {"value": 1, "unit": "comprimé"}}],
    }
    days = {"value": 15, "unit": "jours", "system": "http://unitsofmeasure.org", "code": "d"}
    return order(here, dosageInstruction=[half], dispenseRequest={"expectedSupplyDuration": days})


def test_an_approved_dose_is_what_is_supplied(here: Region) -> None:
    id, code = here.issued()
    secret = here.accept(id, code).secret
    ask_change(here, id, secret)
    before = here.stored(id)
    done = answer_change(here, id, approval(here, id, half_the_dose(here)))
    line = here.stored(id).lines[0]
    assert (done.status, line.state, line.remaining_fill, line.total) == (200, "C", 45 * MILLIONTHS, 45 * MILLIONTHS)
    assert (line.owner, line.fence, line.request_version) == (PHARMACY_A.organisation, 1, 2)
    assert line.expires_on == before.lines[0].expires_on
    assert here.stored(id).group.signed == before.group.signed
    version = store_of(here).versions[ResourceKey(type="MedicationRequest", id=line.request_id, patient=here.patient)]
    assert version.version == 2
    assert json.loads(version.body or b"")["authoredOn"] == "2026-03-02"
    assert code_of(refused(here.dispense, id, secret, 46)) == "RX-QUANTITY"
    assert here.dispense(id, secret, 45).prescription.lines[0].state == "F"
    events = store_of(here).history[id]
    (changed,) = [each for each in events if each.operation == "$respond-change"]
    assert "1:C>C" in changed.moves
    assert changed.bound == {"change": history.sha256(here.stored(id).asks[0].approved or "")}
    assert history.is_unbroken(events, here.stored(id).group.head)


def test_another_product_is_supplied_only_once_it_is_signed(here: Region) -> None:
    forbidden = {"allowedBoolean": False, "reason": {"coding": [{"code": "CIF"}], "text": "lactose"}}
    id, code = here.issued(medication_request(here.patient, substitution=forbidden))
    secret = here.accept(id, code).secret
    other = {"medicationCodeableConcept": OTHER_PRODUCT}
    assert code_of(refused(here.dispense, id, secret, 45, changes=other)) == "RX-SUBSTITUTION"
    ask_change(here, id, secret, topic="substitution")
    answer_change(here, id, approval(here, id, order(here, **other, substitution=forbidden)))
    assert here.dispense(id, secret, 45, changes=other).status == 200


def test_who_claims_next_gets_what_was_signed_since(here: Region) -> None:
    id, code = here.issued()
    secret = here.accept(id, code).secret
    ask_change(here, id, secret)
    answer_change(here, id, approval(here, id, half_the_dose(here)))
    here.reject(id, secret)
    body = tasks.render(here.accept(id, code, caller=PHARMACY_B))
    validate(fhir_json.loads(fhir_json.dumps(body)))
    kinds = [entry["resource"]["resourceType"] for entry in body["entry"]]
    assert (kinds.count("Binary"), kinds.count("Provenance")) == (2, 2)
    (printed,) = signed_lines(here.stored(id))
    assert printed["dispenseRequest"]["expectedSupplyDuration"]["value"] == 15


def test_amounts_stay_once_something_was_supplied(here: Region) -> None:
    id, code = here.issued()
    secret = here.accept(id, code).secret
    here.dispense(id, secret, 30)
    ask_change(here, id, secret)
    target = AskTarget(id=id, number=1)
    asked = request(PRACTICE, "$prepare-change", key=None)
    error = refused(here.service.prepare_change, asked, target, half_the_dose(here))
    assert (error.status, code_of(error), "remaining=60" in str(error)) == (422, "RX-QUANTITY", True)
    same_amounts = order(here, medicationCodeableConcept=OTHER_PRODUCT)
    assert answer_change(here, id, approval(here, id, same_amounts)).status == 200
    line = here.stored(id).lines[0]
    assert (line.state, line.remaining_fill) == ("P", 60 * MILLIONTHS)


def test_only_what_was_prepared_and_signed_today_is_put_in_force(here: Region) -> None:
    id, code = here.issued()
    ask_change(here, id, here.accept(id, code).secret)
    good = approval(here, id, half_the_dose(here))
    assert good.signed is not None
    before = here.stored(id)
    attempts: list[tuple[ChangeAnswer, Mapping[str, Any]]] = [
        (replace(good, order=order(here, medicationCodeableConcept=OTHER_PRODUCT)), {}),
        (replace(good, signed=replace(good.signed, jws=good.signed.jws[:-3])), {}),
        (replace(good, signed=replace(good.signed, signed_on=date(2026, 3, 1))), {}),
        (good, {"at": later(days=1)}),
    ]
    for given, options in attempts:
        error = refused(answer_change, here, id, given, **options)
        assert (error.status, code_of(error)) == (422, "RX-SIGNATURE")
    assert code_of(refused(answer_change, here, id, good, caller=COLLEAGUE)) == "RX-ROLE"
    assert here.stored(id) == before
    assert answer_change(here, id, good).status == 200


def test_a_signature_is_over_the_line_as_it_was(here: Region) -> None:
    """A line that moved meanwhile is another version: what was signed was signed for what the prescriber saw."""
    id, code = here.issued()
    secret = here.accept(id, code).secret
    ask_change(here, id, secret)
    good = approval(here, id, order(here, medicationCodeableConcept=OTHER_PRODUCT))
    here.dispense(id, secret, 30)
    assert code_of(refused(answer_change, here, id, good)) == "RX-SIGNATURE"


def test_a_line_that_is_over_is_not_changed_and_the_request_can_be_denied(here: Region) -> None:
    id, code = here.issued()
    secret = here.accept(id, code).secret
    ask_change(here, id, secret)
    good = approval(here, id, half_the_dose(here))
    here.cancel(id)
    assert code_of(refused(answer_change, here, id, good)) == "RX-CANCEL-PENDING"
    here.reject(id, secret)
    assert code_of(refused(answer_change, here, id, good)) == "RX-CANCELLED"
    assert answer_change(here, id, ChangeAnswer(answer="deny", reason="clinical-grounds")).status == 200


def test_a_change_is_under_the_rules_that_a_prescription_is_signed_under(here: Region) -> None:
    id, code = here.issued()
    ask_change(here, id, here.accept(id, code).secret)
    undeclared = order(here, medicationCodeableConcept=OTHER_PRODUCT, extension=None)
    asked = request(PRACTICE, "$prepare-change", key=None)
    error = refused(here.service.prepare_change, asked, AskTarget(id=id, number=1), undeclared)
    assert (error.status, code_of(error)) == (422, "RX-VALIDITY")
    elsewhere = order(here, subject={"reference": "Patient/0000000000000000"})
    error = refused(here.service.prepare_change, asked, AskTarget(id=id, number=1), elsewhere)
    assert code_of(error) == "RX-INVALID"


def test_an_explanation_changes_nothing_but_the_request(here: Region) -> None:
    id, code = here.issued()
    secret = here.accept(id, code).secret
    ask_change(here, id, secret, topic="clarify")
    line: Line = here.stored(id).lines[0]
    done = answer_change(here, id, ChangeAnswer(answer="clarify", text="Oui, trois par jour"))
    assert here.stored(id).lines[0] == line
    told = {each["type"]["text"]: each for each in task_of(done)["output"]}
    assert (told["answer"]["valueCode"], told["text"]["valueString"]) == ("clarify", "Oui, trois par jour")


class Stops(NothingFound):
    """Knows that one product must not be taken."""

    def check(self, treatments: Sequence[Treatment], context: Context) -> Report:
        found = tuple(
            Finding(
                id="one",
                kind=Kind.AGE,
                behaviour=Behaviour.HARD_STOP,
                level=4,
                about=(each.key,),
                rule="test:1",
                title="Contre-indication",
            )
            for each in treatments
            if any(coding.endswith("|60000001") for coding in each.codings)
        )
        return replace(super().check(treatments, context), findings=found)


def test_a_change_is_checked_like_a_prescription(here: Region) -> None:
    """Contract section 17: a hard stop needs an override in the signed bytes."""
    id, code = here.issued()
    here.service.checks = Checks(knowledge=Stops(), circumstances=NobodyKnown(), issues=FhirIssues(), blind=digest)
    secret = here.accept(id, code).secret
    ask_change(here, id, secret)
    other = order(here, medicationCodeableConcept=OTHER_PRODUCT)
    stopped = refused(answer_change, here, id, approval(here, id, other))
    assert (stopped.status, code_of(stopped)) == (422, "RX-CDS-STOP")
    finding = str(stopped).rpartition("findings=")[2].rstrip(")")
    overrides = (Override(finding=finding, reason="benefit-outweighs-risk", text="Seule possibilité"),)
    asked, target = request(PRACTICE, "$prepare-change", key=None), AskTarget(id=id, number=1)
    prepared = here.service.prepare_change(asked, target, other, overrides)
    signed = Signature(jws=sign(prepared.content), signed_on=AT.date(), overrides=overrides, digest=prepared.digest)
    assert json.loads(prepared.content)["overrides"][0]["finding"] == finding
    changed = ChangeAnswer(answer="approve", order=other, signed=signed)
    assert answer_change(here, id, changed).status == 200
