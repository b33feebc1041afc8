"""Every command on a prescription, ready to be made once or again: for what must hold of all of them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from passerelle import wiring
from passerelle.access import Caller
from passerelle.aws.prescriptions import DynamoWakes
from passerelle.fhir import json as fhir_json
from passerelle.fhir.prescriptions import orders
from passerelle.fhir.prescriptions.reminders import FhirMessages
from passerelle.prescriptions.asking import AskTarget
from passerelle.prescriptions.commands import Target, line_task_id
from passerelle.prescriptions.model import (
    AskedChange,
    ChangeAnswer,
    ClaimTerms,
    Outcome,
    RenewalAnswer,
    Signature,
)
from passerelle.prescriptions.reminders import is_quiet, time_of
from passerelle.prescriptions.sweeping import Sweeping
from tests.prescribing import (
    AT,
    PATIENT,
    PHARMACY_A,
    PHARMACY_B,
    PRACTICE,
    Region,
    later,
    medication_request,
    request,
    sign,
    supply_of,
)

UNITS = 30


@dataclass
class Subject:
    """A prescription that a command is to be made on, and what its caller knows of it."""

    here: Region
    lines: int = 1
    id: str = ""
    code: str | None = None
    secret: str | None = None
    number: str = ""
    supply: str = ""
    signed: Signature | None = None

    def asked(self, caller: Caller, name: str, key: str, at: datetime = AT) -> Any:
        return request(caller, name, at=at, key=key)

    def line(self, number: int = 1) -> Target:
        return Target.of(line_task_id(self.id, number))

    @property
    def orders(self) -> Sequence[Mapping[str, Any]]:
        supply = {"quantity": {"value": UNITS, "unit": "comprimé"}, "numberOfRepeatsAllowed": 1}
        return [medication_request(self.here.patient, dispenseRequest=supply) for _ in range(self.lines)]

    # --- how far it has come ------------------------------------------------------------------------------------------

    def drafted(self) -> Subject:
        created = self.here.create(*self.orders)
        self.id, self.code = created.prescription.group.id, created.access_code
        return self

    def prepared(self) -> Subject:
        self.drafted()
        content = self.here.service.prepare(request(PRACTICE, "$prepare", key=None), Target.of(self.id)).content
        self.signed = Signature(jws=sign(content), signed_on=AT.date())
        return self

    def issued(self) -> Subject:
        self.id, self.code = self.here.issued(*self.orders)
        self.number = self.here.stored(self.id).group.number
        return self

    def claimed(self) -> Subject:
        self.issued()
        self.secret = self.here.accept(self.id, self.code).secret
        return self

    def lapsed(self) -> Subject:
        self.claimed()
        self.here.accept(self.id, self.code, caller=PHARMACY_B, at=later(hours=3))
        return self

    def supplied(self) -> Subject:
        self.claimed()
        for number in range(1, self.lines + 1):
            self.here.dispense(self.id, self.secret, UNITS - 1, line=number)
        self.supply = self.here.last_supply(self.id)
        return self

    def renewing(self) -> Subject:
        self.issued()
        asked = request(PATIENT, "$request-renewal")
        self.here.service.request_renewal(asked, self.line(), None)
        return self

    def changing(self) -> Subject:
        self.claimed()
        asked = AskedChange(secret=self.secret or "", topic="dose", text="Dose élevée ?")
        self.here.service.request_change(request(PHARMACY_A, "$request-change"), self.line(), asked)
        prepared = self.here.service.prepare_change(
            request(PRACTICE, "$prepare-change", key=None), AskTarget(id=self.id, number=1), self.changed_order()
        )
        self.signed = Signature(jws=sign(prepared.content), signed_on=AT.date())
        return self

    def changed_order(self) -> Any:
        supply = {"quantity": {"value": UNITS // 2, "unit": "comprimé"}}
        changed = medication_request(self.here.patient, dispenseRequest=supply)
        return orders.order_line(fhir_json.loads(fhir_json.dumps(changed)), "MedicationRequest")

    def ready(self) -> Subject:
        """What its patient is to be told, and nothing else is due."""
        self.claimed()
        self.here.extend(self.id, self.secret, "ready-to-collect")
        return self

    # --- what the exchange does by itself -----------------------------------------------------------------------------

    def attended(self, hour: str) -> None:
        at = time_of(hour) + timedelta(minutes=1)
        assert not is_quiet(at)
        Sweeping(self.here.service, wakes=self.wakes, messages=FhirMessages()).attend(self.id, hour, at)

    @property
    def wakes(self) -> DynamoWakes:
        return DynamoWakes(wiring.dynamodb(), wiring.table_names())

    def woken(self) -> str:
        return str(self.here.stored(self.id).group.wakes_at)


@dataclass(frozen=True)
class Command:
    """`prepare` makes what it is about, `make` sends it under a key."""

    name: str
    prepare: Callable[[Subject], Subject]
    make: Callable[[Subject, str], Outcome]

    def __str__(self) -> str:
        return self.name

    @property
    def operation(self) -> str:
        return self.name.partition(" ")[0]


def _create(on: Subject, key: str) -> Outcome:
    done = on.here.create(*on.orders, key=key)
    on.id = done.prescription.group.id
    return done


def _activate(on: Subject, key: str) -> Outcome:
    assert on.signed is not None
    return on.here.service.activate(on.asked(PRACTICE, "$activate", key), Target.of(on.id), on.signed)


def _accept_number(on: Subject, key: str) -> Outcome:
    asked = on.asked(PHARMACY_A, "$accept", key)
    return on.here.service.accept_number(asked, on.number, Target.of(""), ClaimTerms(code=on.code))


def _request_renewal(on: Subject, key: str) -> Outcome:
    asked = on.asked(PATIENT, "$request-renewal", key)
    return on.here.service.request_renewal(asked, on.line(), "Stock épuisé")


def _respond_renewal(on: Subject, key: str) -> Outcome:
    asked = on.asked(PRACTICE, "$respond-renewal", key)
    return on.here.service.respond_renewal(asked, AskTarget(id=on.id, number=1), RenewalAnswer(answer="approve"))


def _request_change(on: Subject, key: str) -> Outcome:
    asked = AskedChange(secret=on.secret or "", topic="dose", text="Dose élevée ?")
    return on.here.service.request_change(on.asked(PHARMACY_A, "$request-change", key), on.line(), asked)


def _respond_change(on: Subject, key: str) -> Outcome:
    given = ChangeAnswer(answer="approve", order=on.changed_order(), signed=on.signed)
    return on.here.service.respond_change(
        on.asked(PRACTICE, "$respond-change", key), AskTarget(id=on.id, number=1), given
    )


def _report(on: Subject, key: str) -> Outcome:
    asked = on.asked(PHARMACY_A, "$report-late-supply", key, later(hours=4))
    return on.here.service.report_late_supply(asked, on.line(), supply_of(2, "unused", identifier=key))


COMMANDS: tuple[Command, ...] = (
    Command("$create", lambda on: on, _create),
    Command("$activate", Subject.prepared, _activate),
    Command("$route", Subject.issued, lambda on, key: on.here.route(on.id, "", key=key)),
    Command("$accept", Subject.issued, lambda on, key: on.here.accept(on.id, on.code, key=key)),
    Command("$accept by number", Subject.issued, _accept_number),
    Command("$accept recover", Subject.claimed, lambda on, key: on.here.accept(on.id, on.code, recover=True, key=key)),
    Command("$extend-lease", Subject.claimed, lambda on, key: on.here.extend(on.id, on.secret, key=key)),
    Command("$reject", Subject.claimed, lambda on, key: on.here.reject(on.id, on.secret, key=key)),
    Command("$decline", Subject.claimed, lambda on, key: on.here.decline(on.id, on.secret, key=key)),
    Command("$dispense part", Subject.claimed, lambda on, key: on.here.dispense(on.id, on.secret, 7, key=key)),
    Command(
        "$dispense",
        Subject.claimed,
        lambda on, key: on.here.dispense(on.id, on.secret, UNITS, key=key, identifier=key),
    ),
    Command("$withdraw", Subject.supplied, lambda on, key: on.here.withdraw(on.supply, key=key)),
    Command("$cancel", Subject.issued, lambda on, key: on.here.cancel(on.id, key=key)),
    Command("$cancel while claimed", Subject.claimed, lambda on, key: on.here.cancel(on.id, key=key)),
    Command("$request-renewal", Subject.issued, _request_renewal),
    Command("$respond-renewal", Subject.renewing, _respond_renewal),
    Command("$request-change", Subject.claimed, _request_change),
    Command("$respond-change", Subject.changing, _respond_change),
    Command("$report-late-supply", Subject.lapsed, _report),
)


def key() -> str:
    return str(uuid.uuid4())
