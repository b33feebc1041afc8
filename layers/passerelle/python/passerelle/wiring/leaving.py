"""What leaves the exchange: erased records, exported ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from passerelle.wiring import people, process, record, stores

if TYPE_CHECKING:
    from passerelle.erasure.execution import Eraser
    from passerelle.erasure.service import ErasureService
    from passerelle.events import Event
    from passerelle.exports.service import ExportService


@cache
def erasure_service() -> ErasureService:
    from passerelle.erasure.service import ErasureService

    return ErasureService(
        index=stores.patient_index(),
        decisions=stores.patient_index(),
        journal=stores.journal(),
        blinder=process.blinder(),
    )


@cache
def export_service() -> ExportService:
    from passerelle.aws.exports import S3ExportSpace
    from passerelle.exports.service import ExportService

    return ExportService(
        index=stores.patient_index(),
        admissions=record.gate(),
        journal=stores.journal(),
        pause=process.dynamodb().back_off,
        space=S3ExportSpace(process.aws("s3"), process.environment().uploads_bucket),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseWiring:
    eraser: Eraser
    event_of: Callable[[Mapping[str, Any]], Event]
    now: Callable[[], datetime] = process.now


@cache
def erase() -> EraseWiring:
    from passerelle.aws.erasure import S3Contents
    from passerelle.aws.notifications import envelope_event
    from passerelle.erasure.execution import Eraser

    eraser = Eraser(
        index=stores.patient_index(),
        registrar=people.registrar(),
        journal=stores.journal(),
        keys=process.keyring(),
        contents=S3Contents(process.objects()),
        pause=process.dynamodb().back_off,
    )
    return EraseWiring(eraser=eraser, event_of=envelope_event)
