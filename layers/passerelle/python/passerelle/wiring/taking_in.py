"""Messages of other formats taken in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from passerelle.wiring import http, people, process, publishing, stores

if TYPE_CHECKING:
    from passerelle.ingestion.model import Converter, SourceFormat
    from passerelle.ingestion.service import IngestionService


@cache
def converters() -> Mapping[SourceFormat, Converter]:
    """How each format is read; loaded with the first message, not by the start of the function."""
    from passerelle.fhir.conversion import cda, hl7v2, hprim
    from passerelle.ingestion.model import SourceFormat

    return {
        SourceFormat.CDA: cda.convert,
        SourceFormat.HL7V2: hl7v2.convert,
        SourceFormat.HPRIM: hprim.convert,
    }


@cache
def ingestion_service() -> IngestionService:
    from passerelle.api.ingestion import report_defect
    from passerelle.aws.dynamodb import in_parallel
    from passerelle.aws.ingestion import DynamoInbox, DynamoPositions
    from passerelle.fhir.ingested import FhirExchange
    from passerelle.ingestion.service import IngestionService

    return IngestionService(
        inbox=DynamoInbox(process.dynamodb(), process.table_names()),
        positions=DynamoPositions(process.dynamodb(), process.table_names()),
        exchange=FhirExchange(
            transactions=publishing.transaction_service(),
            patients=people.patient_service(),
            documents=publishing.document_updates(),
            statements=publishing.statements(),
            scheme=people.identity_scheme(),
        ),
        converters=converters,
        blinder=process.blinder(),
        report=report_defect,
        in_parallel=in_parallel,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestWiring(http.HttpWiring):
    ingestion: IngestionService


@cache
def ingest() -> IngestWiring:
    from passerelle.fhir.validation import prepare

    prepare("DiagnosticReport", "DocumentReference", "Encounter", "Observation", "Patient")
    return IngestWiring(trail=stores.trail(), ingestion=ingestion_service())
