"""What tests of prescriptions start from: a registered person, a prescriber with a key, two pharmacies."""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from local.region import INS_TEST, ins_of, person
from passerelle import wiring
from passerelle.access import Caller, Request, Scopes
from passerelle.authorization.model import Client
from passerelle.directory.model import Role
from passerelle.errors import NotFound, PasserelleError, Stale
from passerelle.fhir import json as fhir_json
from passerelle.fhir import prescription as fhir
from passerelle.fhir.patient import FhirPatientDraft
from passerelle.journal import AlreadyAnsweredError, Answer, Change
from passerelle.patients.model import Person, PersonChange, Traits
from passerelle.prescriptions import history
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import (
    ClaimChange,
    ClaimTerms,
    Group,
    GroupChange,
    HistoryEvent,
    Line,
    LineChange,
    LineMovedError,
    Outcome,
    Prescription,
    PrescriptionCreated,
    PrescriptionMovedError,
    Signature,
    Supplied,
    Supply,
)
from passerelle.prescriptions.numbers import digest
from passerelle.prescriptions.ports import Prescriptions
from passerelle.prescriptions.service import PrescriptionService, Target, line_task_id
from tests.people import person_of
from tests.registered import FHIR_URL, key_of, services

EXAMPLES = Path(__file__).parent / "examples" / "prescriptions"
AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
INS = ins_of(1)

PRACTICE = Caller(
    client_id="practice",
    organisation="1990000037",
    role=Role.PRACTICE,
    scopes=Scopes.parse("system/*.cruds"),
    token_id="t-1",
    domain="urn:oid:2.999.3",
    professional="810000000011",
)
OTHER_PRACTICE = replace(
    PRACTICE,
    client_id="hospital-a",
    organisation="1990000011",
    role=Role.HOSPITAL,
    professional="810000000029",
)
PHARMACY_A = replace(
    PRACTICE,
    client_id="pharmacy-a",
    organisation="1990000052",
    role=Role.PHARMACY,
    domain=None,
    professional="810000000052",
)
PHARMACY_B = replace(PHARMACY_A, client_id="pharmacy-b", organisation="1990000060")
PATIENT = replace(
    PRACTICE,
    client_id="patient-1",
    organisation="1990000086",
    role=Role.PATIENT,
    domain=None,
    professional=None,
    patient=f"{INS_TEST}|{INS}",
)
OTHER_PATIENT = replace(PATIENT, client_id="patient-2", patient=f"{INS_TEST}|155069900000102")


GROUP = Group(
    id="7q2k9c4m1xw8z0ab-01jpab3v5w9f2k8m4n6p0q1r2s",
    base_url="https://exchange.example/fhir",
    number="7K3M9QX2V5T8R1HNB4J1",
    patient="7q2k9c4m1xw8z0ab",
    prescriber="810000000011",
    practice="1990000037",
    authored_on=AT.date(),
    created_at=AT.isoformat(),
    updated_at=AT.isoformat(),
    code_hash=digest("code"),
    version=3,
    head=history.ORIGIN,
    events=0,
)


LINE = Line(
    number=1,
    state="R",
    version=3,
    request_id="7q2k9c4m1xw8z0ab-01jpab3v5w9f2k8m4n6p0q1r2t",
    request="{}",
    request_version=1,
    product="s|61234567",
    unit="",
    is_substitutable=True,
    is_declared_ordinary=True,
    is_marked_secure=False,
    fills=1,
    per_fill=90,
    total=90,
    units_per_day="3",
    valid_until=None,
    fill_no=1,
    remaining_fill=90,
    remaining_total=90,
    not_before=AT.date(),
    expires_on=date(2026, 6, 2),
)


def example(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = fhir_json.loads((EXAMPLES / name).read_bytes())
    return loaded


def medication_request(patient: str, **changes: Any) -> dict[str, Any]:
    """The example for a patient; an element given as None is left out."""
    made = {**example("medication-request.json"), "subject": {"reference": f"Patient/{patient}"}, **changes}
    return {name: value for name, value in made.items() if value is not None}


def bundle(*resources: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": each} for each in resources],
    }


def request(
    caller: Caller,
    name: str,
    *,
    at: datetime = AT,
    key: str | None = "new",
    fingerprint: str = "same",
) -> Request:
    return Request(
        caller=caller,
        name=name,
        action="E",
        request_id=uuid.uuid4().hex,
        at=at,
        base_url=FHIR_URL,
        idempotency_key=str(uuid.uuid4()) if key == "new" else key,
        fingerprint=fingerprint,
    )


def sign(content: str, *, key: ECKey | None = None, header: Mapping[str, Any] | None = None) -> str:
    """A detached JWS over the content (RFC 7515, appendix F)."""
    key = key or signing_key()
    head = {"alg": "ES256", "kid": key.kid, **(header or {})}
    return jws.detach_content(jws.serialize_compact(head, content.encode(), key, algorithms=["ES256", "ES384"]))


def signing_key() -> ECKey:
    key = key_of("ES256")
    assert isinstance(key, ECKey)
    return key


@contextmanager
def region() -> Iterator[Region]:
    """The services on moto, with the prescriber's client and one person registered."""
    with services():
        wiring.clients().register(
            Client(
                id=PRACTICE.client_id,
                organisation=PRACTICE.organisation,
                role=Role.PRACTICE,
                scopes=PRACTICE.scopes,
                jwks=(signing_key().as_dict(private=False),),
                professional=PRACTICE.professional,
                domain=PRACTICE.domain,
            )
        )
        resource = person("urn:oid:2.999.3", "000001", 1)
        registered, _ = wiring.patient_service().register(
            request(PRACTICE, "conditional-update"),
            ("urn:oid:2.999.3", "000001"),
            FhirPatientDraft(resource, wiring.identity_scheme()),
        )
        yield Region(registered.patient, wiring.prescriptions().prescriptions, wiring.prescription_store())


class MemoryExchange:
    """All ports of prescriptions in memory, behind one lock.

    For tests of many cases, and of threads: DynamoDB on moto is slow, and knows no threads.
    """

    def __init__(self) -> None:
        self.prescriptions: dict[str, Prescription] = {}
        self.history: dict[str, list[HistoryEvent]] = {}
        self.answers: dict[tuple[str, str], Answer] = {}
        self.identifiers: dict[str, str] = {}
        self.people: dict[str, Person] = {}
        self.commits = 0
        self._lock = threading.Lock()

    def find(self, id: str) -> Prescription | None:
        return self.prescriptions.get(id)

    def find_id(self, number: str) -> str | None:
        return next((key for key, each in self.prescriptions.items() if each.group.number == number), None)

    def blinded(self, organisation: str, identifier: str) -> str:
        return f"{organisation}|{identifier}"

    def read(self, request: Request, patient: str) -> Any:
        if request.caller.patient not in (None, PATIENT.patient):
            raise NotFound()
        traits = Traits(identifiers=((INS_TEST, INS),), family_names=("DUPONT",), given_names=("Élise",))
        return SimpleNamespace(traits=traits)

    def find_person(self, patient: str) -> Person:
        return self.people.setdefault(patient, person_of(patient))

    def keys_of(self, caller: Caller) -> list[dict[str, Any]]:
        return [signing_key().as_dict(private=False)] if caller.professional == PRACTICE.professional else []

    def find_answer(self, client_id: str, key: str) -> Answer | None:
        return self.answers.get((client_id, key))

    def commit(self, changes: Sequence[Change]) -> None:
        with self._lock:
            for change in changes:
                self._check(change)
            for change in changes:
                self._apply(change)
            self.commits += 1

    def _check(self, change: Change) -> None:
        if isinstance(change, Answer) and (change.client_id, change.key) in self.answers:
            raise AlreadyAnsweredError()
        if isinstance(change, LineChange):
            line = self.prescriptions[change.prescription].line(change.before.number)
            if line is None or line.version != change.before.version:
                raise LineMovedError(line or change.before)
        if isinstance(change, GroupChange) and self.prescriptions[change.before.id].group.head != change.before.head:
            raise PrescriptionMovedError()
        if isinstance(change, PersonChange) and self.people[change.after.members[0]] != change.before:
            raise Stale()
        if isinstance(change, Supplied) and change.entry.identifier in self.identifiers:
            raise rx("RX-DUPLICATE")

    def _apply(self, change: Change) -> None:
        match change:
            case Answer():
                self.answers[change.client_id, change.key] = change
            case PrescriptionCreated():
                self.prescriptions[change.prescription.group.id] = change.prescription
            case LineChange():
                id = change.prescription
                self.prescriptions[id] = self.prescriptions[id].with_line(change.after)
            case GroupChange():
                id = change.before.id
                self.prescriptions[id] = replace(self.prescriptions[id], group=change.after)
            case ClaimChange():
                found, new = self.prescriptions[change.prescription], change.claim
                others = [each for each in found.claims if (each.line, each.fence) != (new.line, new.fence)]
                self.prescriptions[change.prescription] = replace(found, claims=(*others, new))
            case Supplied():
                found = self.prescriptions[change.prescription]
                self.prescriptions[change.prescription] = replace(found, ledger=(*found.ledger, change.entry))
                if change.entry.identifier is not None:
                    self.identifiers[change.entry.identifier] = change.entry.dispense_id
            case PersonChange():
                self.people[change.after.members[0]] = change.after
            case HistoryEvent():
                self.history.setdefault(change.prescription, []).append(change)


def region_in_memory() -> Region:
    store = MemoryExchange()
    service = PrescriptionService(
        prescriptions=store,
        journal=store,
        record=fhir.FhirClinicalRecord(),
        people=store,
        keys=store,
        in_parallel=lambda *calls: tuple(call() for call in calls),
    )
    return Region("7q2k9c4m1xw8z0ab", service, store)


@dataclass(frozen=True)
class Region:
    """Each method is one command, at the moment `at`, by the caller it is for unless told otherwise."""

    patient: str
    service: PrescriptionService
    store: Prescriptions

    def create(
        self, *requests: Mapping[str, Any], at: datetime = AT, caller: Caller = PRACTICE, **options: Any
    ) -> Outcome:
        resources = requests or (medication_request(self.patient),)
        order = fhir.parse_order(fhir_json.loads(fhir_json.dumps(bundle(*resources))))
        return self.service.create(request(caller, "$create", at=at, **options), order)

    def activate(self, id: str, *, at: datetime = AT, caller: Caller = PRACTICE, **options: Any) -> Outcome:
        prepared = self.service.prepare(request(caller, "$prepare", at=at), Target.of(id))
        signed = Signature(jws=sign(prepared.content), signed_on=prepared.group.authored_on)
        return self.service.activate(request(caller, "$activate", at=at, **options), Target.of(id), signed)

    def issued(self, *requests: Mapping[str, Any], at: datetime = AT) -> tuple[str, str]:
        """A prescription in force: its id and its access code."""
        created = self.create(*requests, at=at)
        self.activate(created.prescription.group.id, at=at)
        assert created.access_code is not None
        return created.prescription.group.id, created.access_code

    def accept(
        self,
        id: str,
        code: str | None,
        *lines: int,
        caller: Caller = PHARMACY_A,
        at: datetime = AT,
        recover: bool = False,
        **options: Any,
    ) -> Outcome:
        terms = ClaimTerms(code=code, recover=recover)
        return self.service.accept(request(caller, "$accept", at=at, **options), Target.of(id, lines), terms)

    def dispense(
        self,
        id: str,
        secret: str | None,
        units: int,
        *,
        line: int = 1,
        caller: Caller = PHARMACY_A,
        at: datetime = AT,
        identifier: str | None = None,
        changes: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Outcome:
        supply = supply_of(units, secret or "", identifier, changes)
        target = Target.of(line_task_id(id, line))
        return self.service.dispense(request(caller, "$dispense", at=at, **options), target, supply)

    def reject(
        self,
        id: str,
        secret: str | None,
        *lines: int,
        caller: Caller = PHARMACY_A,
        at: datetime = AT,
        **options: Any,
    ) -> Outcome:
        target = Target.of(id, lines)
        return self.service.reject(request(caller, "$reject", at=at, **options), target, secret or "", None)

    def cancel(
        self,
        id: str,
        *lines: int,
        caller: Caller = PRACTICE,
        at: datetime = AT,
        **options: Any,
    ) -> Outcome:
        target = Target.of(id, lines)
        return self.service.cancel(request(caller, "$cancel", at=at, **options), target, "prescribing-error")

    def stored(self, id: str) -> Prescription:
        found = self.store.find(id)
        assert found is not None
        return found


def supply_of(
    units: int, secret: str, identifier: str | None = None, changes: Mapping[str, Any] | None = None
) -> Supply:
    dispense = {**example("medication-dispense.json"), **(changes or {})}
    dispense["quantity"] = {**dispense["quantity"], "value": units}
    if identifier is not None:
        dispense["identifier"] = [{"system": "urn:oid:2.999.5", "value": identifier}]
    parameters = {
        "resourceType": "Parameters",
        "parameter": [{"name": "secret", "valueString": secret}, {"name": "dispense", "resource": dispense}],
    }
    return fhir.parse_supply(Called(resource=fhir_json.loads(fhir_json.dumps(parameters))))[1]


@dataclass(frozen=True)
class Called:
    resource: Any
    id: str = "unused"
    if_match: int | None = None


def later(**by: int) -> datetime:
    return AT + timedelta(**by)


def provenance(content: str, *, at: datetime = AT, **options: Any) -> dict[str, Any]:
    return {
        "resourceType": "Provenance",
        "target": [{"reference": "urn:uuid:0c3c5a6e-6b1c-4b43-9d0a-3d6f3b6f0f11"}],
        "recorded": at.isoformat(),
        "agent": [{"who": {"identifier": {"value": PRACTICE.professional}}}],
        "signature": [
            {
                "type": [{"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.1"}],
                "when": at.isoformat(),
                "who": {"identifier": {"value": PRACTICE.professional}},
                "sigFormat": "application/jose",
                "data": base64.b64encode(sign(content, **options).encode()).decode(),
            }
        ],
    }


def refused(call: Callable[..., Any], *arguments: Any, **options: Any) -> PasserelleError:
    """The error that a call raises."""
    with pytest.raises(PasserelleError) as raised:
        call(*arguments, **options)
    return raised.value


def tried(call: Callable[[], Outcome]) -> Outcome | PasserelleError:
    """What a call gives, or the error it raises."""
    try:
        return call()
    except PasserelleError as error:
        return error


def code_of(error: PasserelleError) -> str:
    details = error.issues[0].details
    assert details is not None
    return details.code


def items() -> str:
    """All that is stored of prescriptions and records, in one comparable text."""
    names = wiring.table_names()
    found = wiring.aws("dynamodb").scan(TableName=names.clinical)["Items"]
    kept = [each for each in found if not each["PK"]["S"].startswith("O#")]
    return json.dumps(sorted(kept, key=lambda each: (each["PK"]["S"], each["SK"]["S"])), default=str)
