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
from passerelle.aws.dynamodb import in_parallel
from passerelle.directory.model import Role
from passerelle.errors import NotFound, PasserelleError, Stale
from passerelle.fhir import json as fhir_json
from passerelle.fhir.patient import FhirPatientDraft
from passerelle.fhir.prescriptions import orders, record, supplies
from passerelle.fhir.prescriptions.issues import FhirIssues
from passerelle.fhir.prescriptions.treatments import RecordCircumstances
from passerelle.journal import AlreadyAnsweredError, Answer, Change
from passerelle.medicines.model import Concept, Context, NotCovered, Product, Report, Treatment
from passerelle.medicines.ports import KnowledgeBase
from passerelle.patients.model import Person, PersonChange, Traits
from passerelle.prescriptions import history
from passerelle.prescriptions.checking import Checks, Circumstances
from passerelle.prescriptions.commands import Target, line_task_id
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import (
    AskChange,
    Attended,
    ClaimChange,
    ClaimTerms,
    Group,
    GroupChange,
    HistoryEvent,
    Line,
    LineChange,
    LineMovedError,
    Outcome,
    PausedError,
    Prescription,
    PrescriptionCreated,
    PrescriptionMovedError,
    Refusal,
    Route,
    Signature,
    Supplied,
    SuppliedLate,
    Supply,
    Told,
    WakeChange,
    to_map,
)
from passerelle.prescriptions.numbers import digest
from passerelle.prescriptions.ports import Prescriptions
from passerelle.prescriptions.service import PrescriptionService
from passerelle.prescriptions.worklists import concerned
from passerelle.records.model import RecordVersion, ResourceKey, StoredVersion
from passerelle.wiring import prescribing
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
NURSE = replace(PHARMACY_A, client_id="nurse", organisation="1990000078", role=Role.NURSE)
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
def region(*, finds: bool = False, emulator: str = "") -> Iterator[Region]:
    """The services on moto or an emulator, with the prescriber's client and one person registered.

    Unless the clinical checks are to find what the small base knows, they read the record and find nothing: then one
    medicine may be prescribed to one person time and again.
    """
    with services(emulator), pytest.MonkeyPatch.context() as patch:
        if not finds:
            patch.setattr(prescribing, "clinical_checks", nothing_found_in_the_record)
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
        self.versions: dict[ResourceKey, StoredVersion] = {}
        self.failures: list[tuple[str, str]] = []
        self.commits = 0
        self.wakes: set[tuple[str | None, str]] = set()
        self.told: dict[tuple[str, str | None], int] = {}
        self.hour: str | None = None
        self._lock = threading.Lock()

    def find(self, id: str) -> Prescription | None:
        with self._lock:
            return self.prescriptions.get(id)

    def find_with_history(self, id: str) -> tuple[Prescription, Sequence[HistoryEvent]] | None:
        found = self.prescriptions.get(id)
        return (found, self.history[id]) if found else None

    def of_patients(self, patients: Sequence[str], *, limit: int, after: str | None) -> tuple[list[str], str | None]:
        found = [each for each in self.prescriptions if each.partition("-")[0] in patients]
        return sorted(found, reverse=True)[:limit], None

    def of_organisation(self, organisation: str, *, limit: int, after: str | None) -> tuple[list[str], str | None]:
        found = [id for id, each in self.prescriptions.items() if organisation in concerned(each)]
        return sorted(found, reverse=True)[:limit], None

    def find_id(self, number: str) -> str | None:
        return next((key for key, each in self.prescriptions.items() if each.group.number == number), None)

    def find_supply(self, dispense_id: str) -> str | None:
        known = ((key, entry) for key, each in self.prescriptions.items() for entry in each.ledger)
        return next((key for key, entry in known if entry.dispense_id == dispense_id), None)

    def blinded(self, organisation: str, identifier: str) -> str:
        return f"{organisation}|{identifier}"

    def is_known(self, organisation: str) -> bool:
        return organisation in (PHARMACY_A.organisation, PHARMACY_B.organisation, NURSE.organisation)

    def locked_until(self, organisation: str, tried: str, at: datetime) -> datetime | None:
        return None

    def count(self, organisation: str, tried: str, at: datetime) -> None:
        self.failures.append((organisation, tried))

    def due(self, hour: str) -> list[str]:
        return sorted(id for at, id in self.wakes if at == hour)

    def drop(self, id: str, hour: str) -> None:
        self.wakes.discard((hour, id))

    def reached(self) -> str | None:
        return self.hour

    def reach(self, hour: str) -> None:
        self.hour = hour

    def find_latest(self, key: ResourceKey) -> StoredVersion | None:
        return self.versions.get(key)

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
        if isinstance(change, Attended):
            group = self.prescriptions[change.before.id].group
            if (group.head, group.wakes_at) != (change.before.head, change.before.wakes_at):
                raise PrescriptionMovedError()
        if isinstance(change, Told) and self.told.get((change.patient, change.pharmacy), 0) > change.now:
            raise PausedError(self.told[change.patient, change.pharmacy])
        if isinstance(change, PersonChange) and self.people[change.after.members[0]] != change.before:
            raise Stale()
        if isinstance(change, Supplied) and change.entry.identifier in self.identifiers:
            raise rx("RX-DUPLICATE")
        if isinstance(change, SuppliedLate) and change.supply.identifier in self.identifiers:
            raise rx("RX-DUPLICATE")

    def _apply(self, change: Change) -> None:
        match change:
            case Answer():
                self.answers[change.client_id, change.key] = change
            case PrescriptionCreated():
                group = change.prescription.group
                self.prescriptions[group.id] = change.prescription
                self.wakes |= {(group.wakes_at, group.id)} if group.wakes_at else set()
            case LineChange():
                id = change.prescription
                self.prescriptions[id] = self.prescriptions[id].with_line(change.after)
            case GroupChange() | Attended():
                id, was, is_ = change.before.id, to_map(change.before), to_map(change.after)
                differing = {name: getattr(change.after, name) for name in is_ if is_[name] != was[name]}
                group = replace(self.prescriptions[id].group, **differing)
                self.prescriptions[id] = replace(self.prescriptions[id], group=group)
            case WakeChange():
                self.wakes -= {(change.before, change.prescription)}
                self.wakes |= {(change.after, change.prescription)} if change.after else set()
            case Told():
                self.told[change.patient, change.pharmacy] = change.until
            case ClaimChange():
                found, new = self.prescriptions[change.prescription], change.claim
                others = [each for each in found.claims if (each.line, each.fence) != (new.line, new.fence)]
                self.prescriptions[change.prescription] = replace(found, claims=(*others, new))
            case Supplied():
                found = self.prescriptions[change.prescription]
                self.prescriptions[change.prescription] = replace(found, ledger=(*found.ledger, change.entry))
                if change.entry.identifier is not None:
                    self.identifiers[change.entry.identifier] = change.entry.dispense_id
            case AskChange():
                id = change.prescription
                self.prescriptions[id] = self.prescriptions[id].with_ask(change.ask)
            case SuppliedLate():
                found = self.prescriptions[change.prescription]
                self.prescriptions[change.prescription] = replace(found, late=(*found.late, change.supply))
                if change.supply.identifier is not None:
                    self.identifiers[change.supply.identifier] = change.supply.dispense_id
            case PersonChange():
                self.people[change.after.members[0]] = change.after
            case RecordVersion():
                self.versions[change.key] = StoredVersion(
                    key=change.key, version=change.version, at=change.at, body=change.body
                )
            case HistoryEvent():
                self.history.setdefault(change.prescription, []).append(change)


class NothingFound:
    """`medicines.ports.KnowledgeBase` for tests of everything else: it knows no medicine, and finds nothing."""

    def resolve(self, treatment: Treatment) -> Concept | NotCovered:
        return NotCovered(key=treatment.key, label=treatment.text, reason="unknown-product")

    def product(self, codings: Sequence[str]) -> Product | None:
        return None

    def check(self, treatments: Sequence[Treatment], context: Context) -> Report:
        said = "\n".join(sorted(",".join(each.codings) for each in treatments))
        return Report(
            base_id="nothing",
            base_version="1",
            base_date=date(2026, 1, 1),
            findings=(),
            checked_pairs=0,
            not_covered=(),
            digest=digest(said),
        )


class NobodyKnown(RecordCircumstances):
    """There is no record to read."""

    def __init__(self) -> None:
        pass

    def find(self, caller: Caller, patient: str, at: datetime) -> Circumstances:
        return Circumstances()


def nothing_found_in_the_record() -> Checks:
    read = RecordCircumstances(store=wiring.record_store(), gate=wiring.gate(), in_parallel=in_parallel)
    return Checks(knowledge=NothingFound(), circumstances=read, issues=FhirIssues(), blind=digest)


def nothing_found() -> Checks:
    return Checks(knowledge=NothingFound(), circumstances=NobodyKnown(), issues=FhirIssues(), blind=digest)


def region_in_memory(knowledge: KnowledgeBase | None = None) -> Region:
    """`knowledge` tells the law of products; without it every product is unknown."""
    store = MemoryExchange()
    service = PrescriptionService(
        prescriptions=store,
        journal=store,
        record=record.FhirClinicalRecord(),
        people=store,
        keys=store,
        parties=store,
        failures=store,
        record_store=store,
        checks=nothing_found(),
        knowledge=knowledge,
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
        order = orders.parse_order(fhir_json.loads(fhir_json.dumps(bundle(*resources))))
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
        override_routing: bool = False,
        **options: Any,
    ) -> Outcome:
        terms = ClaimTerms(code=code, recover=recover, override_routing=override_routing)
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

    def extend(
        self,
        id: str,
        secret: str | None,
        progress: str = "preparing",
        *lines: int,
        caller: Caller = PHARMACY_A,
        at: datetime = AT,
        **options: Any,
    ) -> Outcome:
        target = Target.of(id, lines)
        return self.service.extend_lease(
            request(caller, "$extend-lease", at=at, **options), target, secret or "", progress
        )

    def decline(
        self,
        id: str,
        secret: str | None,
        reason: str = "out-of-stock",
        *lines: int,
        closes: bool = False,
        caller: Caller = PHARMACY_A,
        at: datetime = AT,
        **options: Any,
    ) -> Outcome:
        refusal = Refusal(secret=secret or "", reason=reason, closes=closes)
        return self.service.decline(request(caller, "$decline", at=at, **options), Target.of(id, lines), refusal)

    def withdraw(self, dispense_id: str, *, caller: Caller = PHARMACY_A, at: datetime = AT, **options: Any) -> Outcome:
        asked = request(caller, "$withdraw", at=at, **options)
        return self.service.withdraw(asked, dispense_id, "wrong-quantity")

    def route(
        self,
        id: str,
        pharmacy: str | None = None,
        *,
        coordinator: str | None = None,
        shows_holder: bool | None = None,
        caller: Caller = PATIENT,
        at: datetime = AT,
        **options: Any,
    ) -> Outcome:
        route = Route(pharmacy=pharmacy, coordinator=coordinator, shows_holder=shows_holder)
        return self.service.route(request(caller, "$route", at=at, **options), Target.of(id), route)

    def last_supply(self, id: str, line: int = 1) -> str:
        """The id of the MedicationDispense of the newest entry of a line's ledger."""
        return self.stored(id).entries_of(line)[-1].dispense_id

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
    return supplies.parse_supply(Called(resource=fhir_json.loads(fhir_json.dumps(parameters))))[1]


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
