"""The record: who may see and write what of it, and who decides that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from passerelle.aws.dynamodb import in_parallel
from passerelle.wiring import http, people, process, stores

if TYPE_CHECKING:
    from passerelle.access import Request
    from passerelle.journal import Change
    from passerelle.patients.control import ControlService
    from passerelle.patients.emergencies import EmergencyService
    from passerelle.patients.status import RecordStatusService
    from passerelle.records.cursors import Cursors
    from passerelle.records.effects import Effect
    from passerelle.records.gate import Gate
    from passerelle.records.history import RecordHistory
    from passerelle.records.model import RecordVersion
    from passerelle.records.searching import RecordSearch
    from passerelle.records.service import RecordService


def policy_effects(changes: Sequence[Change]) -> Mapping[str, Effect]:
    from passerelle.fhir.policy_effects import directory_of
    from passerelle.fhir.policy_effects import policy_effects as effects

    return effects(directory_of(stores.record_store(), changes), in_parallel, stores.record_store())


def monitored(request: Request, versions: Sequence[RecordVersion]) -> Sequence[Change]:
    from passerelle.monitoring.waking import wakes

    return wakes(request, versions)


@cache
def gate() -> Gate:
    from passerelle.consents.decision import Implicit
    from passerelle.fhir.concealment import ReferenceMending
    from passerelle.records.gate import Gate

    implicit = Implicit(process.environment().implicit_policy)
    return Gate(stores.patient_index(), stores.record_store(), ReferenceMending(), in_parallel, implicit=implicit)


@cache
def record_search() -> RecordSearch:
    from passerelle.records.searching import RecordSearch

    return RecordSearch(store=stores.record_store(), gate=gate(), blinder=process.blinder(), in_parallel=in_parallel)


@cache
def record_history() -> RecordHistory:
    from passerelle.records.history import RecordHistory

    return RecordHistory(store=stores.record_store(), gate=gate(), blinder=process.blinder(), in_parallel=in_parallel)


@cache
def record_service() -> RecordService:
    from passerelle.fhir.succession import Successions
    from passerelle.records.service import RecordService

    return RecordService(
        store=stores.record_store(),
        gate=gate(),
        search=record_search(),
        journal=stores.journal(),
        blinder=process.blinder(),
        succession=Successions(),
        effects=policy_effects,
        in_parallel=in_parallel,
        pause=process.dynamodb().back_off,
        following=monitored,
    )


@cache
def record_status_service() -> RecordStatusService:
    from passerelle.patients.status import RecordStatusService

    return RecordStatusService(
        index=stores.patient_index(),
        admissions=gate(),
        decisions=stores.patient_index(),
        journal=stores.journal(),
        in_parallel=in_parallel,
        pause=process.dynamodb().back_off,
    )


@cache
def control_service() -> ControlService:
    from passerelle.patients.control import ControlService

    return ControlService(
        index=stores.patient_index(),
        admissions=gate(),
        journal=stores.journal(),
        pause=process.dynamodb().back_off,
        identities=people.patient_store(),
        record=record_service(),
        is_national=people.identity_scheme().is_national,
        in_parallel=in_parallel,
    )


@cache
def emergency_service() -> EmergencyService:
    from passerelle.aws.emergencies import DynamoEmergencyUses
    from passerelle.patients.emergencies import EmergencyService

    return EmergencyService(
        index=stores.patient_index(),
        admissions=gate(),
        journal=stores.journal(),
        pause=process.dynamodb().back_off,
        decisions=stores.patient_index(),
        uses=DynamoEmergencyUses(process.dynamodb(), process.table_names()),
        in_parallel=in_parallel,
    )


@cache
def cursors() -> Cursors:
    from passerelle.records.cursors import Cursors

    return Cursors(process.blinder())


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordWiring(http.HttpWiring):
    """What every function has that serves resources of the record or of the directory."""

    records: RecordService
    search: RecordSearch
    history: RecordHistory


def services() -> dict[str, Any]:
    return {
        "trail": stores.trail(),
        "records": record_service(),
        "search": record_search(),
        "history": record_history(),
    }


@cache
def directory() -> RecordWiring:
    return RecordWiring(**services())
