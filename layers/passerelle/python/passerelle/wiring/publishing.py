"""Documents: contents, their quarantine, links to them, publication; and transactions, which publish too."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from passerelle.aws.dynamodb import in_parallel
from passerelle.wiring import people, process, record, stores

if TYPE_CHECKING:
    from passerelle.aws.documents import S3DocumentVault
    from passerelle.aws.records import DynamoRecordStore
    from passerelle.documents.links import LinkOpener, LinkService
    from passerelle.documents.model import Release
    from passerelle.documents.options import Options
    from passerelle.documents.quarantine import Quarantine, QuarantineService, Scan
    from passerelle.documents.service import DocumentService
    from passerelle.documents.sweeping import Sweeper
    from passerelle.documents.uploads import UploadService
    from passerelle.fhir.document_updates import DocumentUpdateService
    from passerelle.fhir.documents import PublicationService
    from passerelle.fhir.statements import Statements
    from passerelle.fhir.transaction import TransactionService


@cache
def document_vault() -> S3DocumentVault:
    from passerelle.aws.documents import S3DocumentVault

    return S3DocumentVault(process.objects(), uploads_bucket=process.environment().uploads_bucket)


@cache
def content_quarantine() -> Quarantine:
    from passerelle.documents.quarantine import Quarantine

    return Quarantine(scans=stores.scans(), holds=process.environment().holds_until_scanned)


@cache
def document_options() -> Options:
    from passerelle.documents.options import Options

    return Options.parse(process.environment().document_options)


@cache
def document_service() -> DocumentService:
    from passerelle.documents.retention import Retention
    from passerelle.documents.service import DocumentService

    return DocumentService(
        vault=document_vault(),
        quarantine=content_quarantine(),
        retention=Retention(at_most=timedelta(days=process.environment().retention_days)),
        in_parallel=in_parallel,
    )


@cache
def upload_service() -> UploadService:
    from passerelle.aws.uploads import DynamoUploadTickets, S3UploadSpace
    from passerelle.documents.uploads import UploadService

    return UploadService(
        tickets=DynamoUploadTickets(process.dynamodb(), process.table_names()),
        space=S3UploadSpace(process.aws("s3"), process.environment().uploads_bucket),
        quarantine=content_quarantine(),
        journal=stores.journal(),
        max_bytes=process.environment().upload_max_bytes,
    )


@cache
def transaction_service() -> TransactionService:
    from passerelle.fhir.recipients import Recipients
    from passerelle.fhir.transaction import TransactionService

    return TransactionService(
        records=record.record_service(),
        patients=people.patient_service(),
        documents=document_service(),
        journal=stores.journal(),
        blinder=process.blinder(),
        scheme=people.identity_scheme(),
        options=document_options(),
        recipients=Recipients(record.record_service(), stores.subscriptions_store),
        uploads=upload_service(),
        effects=record.policy_effects,
        statements=statements,
    )


@cache
def publication() -> PublicationService:
    from passerelle.fhir.documents import PublicationService

    return PublicationService(
        transactions=transaction_service(),
        records=record.record_service(),
        gate=record.gate(),
        blinder=process.blinder(),
        national_systems=people.identity_scheme().systems,
    )


@cache
def document_updates() -> DocumentUpdateService:
    from passerelle.fhir.document_updates import DocumentUpdateService

    return DocumentUpdateService(
        records=record.record_service(),
        gate=record.gate(),
        store=stores.record_store(),
        blinder=process.blinder(),
        statements=statements,
    )


@cache
def statements() -> Statements:
    from passerelle.fhir.statements import Statements

    return Statements(
        records=record.record_service(), gate=record.gate(), store=stores.record_store(), in_parallel=in_parallel
    )


@cache
def link_service() -> LinkService:
    from passerelle.aws.links import sealer_of
    from passerelle.documents.links import LinkService
    from passerelle.fhir.links import RecordDocuments

    return LinkService(
        links=stores.link_store(),
        publications=RecordDocuments(record.record_service()),
        journal=stores.journal(),
        seal=sealer_of(process.table_names()),
        new_token=lambda: secrets.token_urlsafe(32),
        in_parallel=in_parallel,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentsWiring(record.RecordWiring):
    """What publishes and changes documents is made for the first that is."""

    documents: DocumentService
    links: LinkService
    uploads: UploadService
    publication: Callable[[], PublicationService] = publication
    document_updates: Callable[[], DocumentUpdateService] = document_updates


@cache
def documents() -> DocumentsWiring:
    return DocumentsWiring(
        **record.services(), documents=document_service(), links=link_service(), uploads=upload_service()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LinksWiring:
    opener: LinkOpener[Release]
    public_url: str
    storage_origin: str
    now: Callable[[], datetime] = process.now


@cache
def links() -> LinksWiring:
    from passerelle.documents.links import LinkOpener
    from passerelle.fhir.links import RecordDocuments

    opener: LinkOpener[Release] = LinkOpener(
        links=stores.link_store(),
        publications=RecordDocuments(record.record_service()),
        clients=stores.clients(),
        trail=stores.trail(),
        journal=stores.journal(),
        release=document_service().release,
        digests=lambda content: content.kept.sha256,
    )
    example = urlsplit(document_vault().link("-", content_type="", lifetime=timedelta(seconds=1)))
    return LinksWiring(
        opener=opener,
        public_url=process.environment().public_url,
        storage_origin=f"{example.scheme}://{example.netloc}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedDocuments:
    """`documents.quarantine.Publications`: of the record."""

    store: DynamoRecordStore

    def version_of(self, document: str) -> int | None:
        from passerelle.records.model import ResourceKey

        key = ResourceKey.of("DocumentReference", document)
        found = self.store.find_latest(key) if key else None
        return found.version if found and found.body is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineWiring:
    quarantine: QuarantineService
    scan_of: Callable[[Mapping[str, Any]], Scan | None]
    now: Callable[[], datetime] = process.now


@cache
def quarantine() -> QuarantineWiring:
    from passerelle.aws.quarantine import scan_of
    from passerelle.documents.quarantine import QuarantineService

    service = QuarantineService(
        scans=stores.scans(), publications=PublishedDocuments(store=stores.record_store()), journal=stores.journal()
    )
    return QuarantineWiring(quarantine=service, scan_of=scan_of)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedDocuments:
    """`documents.ports.Publications`: what the record has, or had, under the id of a content."""

    store: DynamoRecordStore

    def is_published(self, id: str) -> bool:
        from passerelle.records.model import ResourceKey

        key = ResourceKey.of("DocumentReference", id)
        return key is not None and self.store.find_latest(key) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepWiring:
    sweeper: Sweeper
    id_of: Callable[[str], str | None]


@cache
def sweep() -> SweepWiring:
    from passerelle.aws.documents import id_of
    from passerelle.documents.sweeping import Sweeper

    publications = CommittedDocuments(store=stores.record_store())
    return SweepWiring(sweeper=Sweeper(vault=document_vault(), publications=publications), id_of=id_of)
