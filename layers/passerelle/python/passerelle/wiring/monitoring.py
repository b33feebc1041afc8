"""Patients watched from afar: measurements, alerts, and the answers to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from passerelle.aws.dynamodb import in_parallel
from passerelle.wiring import process, record, stores

if TYPE_CHECKING:
    from passerelle.monitoring.answering import AnsweringService
    from passerelle.monitoring.evaluation import Monitor
    from passerelle.monitoring.measuring import MeasuringService
    from passerelle.monitoring.reporting import ReportingService
    from passerelle.monitoring.watching import WatchingService


@cache
def monitor() -> Monitor:
    from passerelle.aws.monitoring import DynamoWatches
    from passerelle.fhir.monitoring.alerts import FhirAlerts
    from passerelle.fhir.monitoring.plans import RecordPlans
    from passerelle.monitoring.evaluation import Monitor

    return Monitor(
        plans=RecordPlans(stores.record_store(), in_parallel),
        watches=DynamoWatches(process.dynamodb(), process.table_names()),
        tasks=FhirAlerts(stores.record_store()),
        in_parallel=in_parallel,
    )


@cache
def measuring_service() -> MeasuringService:
    from passerelle.aws.monitoring import DynamoAllowance
    from passerelle.fhir.monitoring.measurements import FhirContents
    from passerelle.monitoring.measuring import MeasuringService

    return MeasuringService(
        records=record.record_service(),
        store=stores.record_store(),
        monitor=monitor(),
        allowance=DynamoAllowance(process.dynamodb(), process.table_names()),
        contents=FhirContents(),
        journal=stores.journal(),
        blinder=process.blinder(),
        pause=process.dynamodb().back_off,
    )


@cache
def answering_service() -> AnsweringService:
    from passerelle.aws.monitoring import DynamoWatches
    from passerelle.fhir.monitoring.alerts import FhirAlerts
    from passerelle.monitoring.answering import AnsweringService

    return AnsweringService(
        records=record.record_service(),
        store=stores.record_store(),
        people=stores.patient_index(),
        admissions=record.gate(),
        watches=DynamoWatches(process.dynamodb(), process.table_names()),
        tasks=FhirAlerts(stores.record_store()),
        journal=stores.journal(),
        pause=process.dynamodb().back_off,
    )


@cache
def reporting_service() -> ReportingService:
    from passerelle.monitoring.reporting import ReportingService

    return ReportingService(plans=monitor().plans, watches=monitor().watches)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchWiring:
    watching: WatchingService
    now: Callable[[], datetime] = process.now


@cache
def watch() -> WatchWiring:
    import passerelle.aws.records  # noqa: F401 - registers how versions of the record are stored
    from passerelle.monitoring.watching import WatchingService

    service = WatchingService(
        people=stores.patient_index(),
        monitor=monitor(),
        journal=stores.journal(),
        in_parallel=in_parallel,
        pause=process.dynamodb().back_off,
        incident=process.incident(),
    )
    return WatchWiring(watching=service)
