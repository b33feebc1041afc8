"""`Patient/{id}/$export-record`: the whole record as one ZIP archive, for its patient or who decides in that place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from passerelle.api.app import Call, FhirApp, Reply, Wired

if TYPE_CHECKING:
    from passerelle.audit.service import AuditService
    from passerelle.documents.service import DocumentService
    from passerelle.exports.service import ExportService
    from passerelle.patients.status import RecordStatusService
    from passerelle.records.history import RecordHistory


class WiredExports(Wired, Protocol):
    @property
    def history(self) -> RecordHistory: ...

    @property
    def record_status(self) -> RecordStatusService: ...

    @property
    def audit(self) -> Callable[[], AuditService]: ...

    @property
    def contents(self) -> Callable[[], DocumentService]: ...

    @property
    def exports(self) -> Callable[[], ExportService]: ...


def serve_exports(app: FhirApp) -> None:
    """Declare the operation. Types, documents and the log are in the archive as far as the scope covers them."""
    app.operation("Patient", "/{id}/$export-record", needs="r")(_export)


def _export(call: Call, wired: WiredExports) -> Reply:
    from passerelle.api.export import exported  # an archive and its pages, for few of the requests of a function

    return exported(call, wired)
