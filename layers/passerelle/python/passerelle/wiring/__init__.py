"""The composition root: one function per Lambda gives its services.

Everything is made once per process and shared by the functions that run in it; `reset` forgets it, for tests. What only
some functions need is imported where it is made: a cold start pays for its own function only. Each module says what it
puts together, and calls the others through their modules.
"""

from __future__ import annotations

from typing import Any

from passerelle.wiring import (
    auditing,
    carrying,
    http,
    leaving,
    monitoring,
    people,
    prescribing,
    process,
    proving,
    publishing,
    record,
    rest,
    stores,
    taking_in,
    telling,
    trust,
)
from passerelle.wiring.auditing import audit, audit_service
from passerelle.wiring.carrying import DeliverWiring, deliver, mailbox_carrier
from passerelle.wiring.leaving import EraseWiring, erase, export_service
from passerelle.wiring.monitoring import WatchWiring, answering_service, measuring_service, monitor, watch
from passerelle.wiring.people import identity_scheme, patient_service, patient_store, resolver, steward_service
from passerelle.wiring.prescribing import (
    RemindWiring,
    clinical_checks,
    knowledge,
    prescription_service,
    prescriptions,
    remind,
)
from passerelle.wiring.process import aws, blinder, dynamodb, environment, keyring, now, table_names
from passerelle.wiring.proving import AppendWiring, LedgerWiring, SealWiring, anchors, append, leaves, ledger, seal
from passerelle.wiring.publishing import (
    QuarantineWiring,
    SweepWiring,
    content_quarantine,
    document_service,
    documents,
    links,
    quarantine,
    sweep,
    transaction_service,
    upload_service,
)
from passerelle.wiring.record import (
    directory,
    gate,
    policy_effects,
    record_history,
    record_search,
    record_service,
    record_status_service,
)
from passerelle.wiring.rest import patients, records
from passerelle.wiring.stores import (
    audit_index,
    clients,
    journal,
    patient_index,
    prescription_store,
    record_store,
    scans,
    trail,
)
from passerelle.wiring.taking_in import converters, ingest, ingestion_service
from passerelle.wiring.telling import (
    CatalogueWiring,
    DispatchWiring,
    ReconcileWiring,
    RelayWiring,
    catalogue,
    dispatch,
    dispatcher,
    notification_ports,
    reconcile,
    relay,
    subscriptions,
)
from passerelle.wiring.trust import authorization_service, authorize, key_sets, login, token

__all__ = [
    "AppendWiring",
    "CatalogueWiring",
    "DeliverWiring",
    "DispatchWiring",
    "EraseWiring",
    "LedgerWiring",
    "QuarantineWiring",
    "ReconcileWiring",
    "RelayWiring",
    "RemindWiring",
    "SealWiring",
    "SweepWiring",
    "WatchWiring",
    "anchors",
    "answering_service",
    "append",
    "audit",
    "audit_index",
    "audit_service",
    "authorization_service",
    "authorize",
    "aws",
    "blinder",
    "catalogue",
    "clients",
    "clinical_checks",
    "content_quarantine",
    "converters",
    "deliver",
    "directory",
    "dispatch",
    "dispatcher",
    "document_service",
    "documents",
    "dynamodb",
    "environment",
    "erase",
    "export_service",
    "gate",
    "identity_scheme",
    "ingest",
    "ingestion_service",
    "journal",
    "key_sets",
    "keyring",
    "knowledge",
    "leaves",
    "ledger",
    "links",
    "login",
    "made",
    "mailbox_carrier",
    "measuring_service",
    "monitor",
    "notification_ports",
    "now",
    "patient_index",
    "patient_service",
    "patient_store",
    "patients",
    "policy_effects",
    "prescription_service",
    "prescription_store",
    "prescriptions",
    "quarantine",
    "reconcile",
    "record_history",
    "record_search",
    "record_service",
    "record_status_service",
    "record_store",
    "records",
    "relay",
    "remind",
    "reset",
    "resolver",
    "scans",
    "seal",
    "steward_service",
    "subscriptions",
    "sweep",
    "table_names",
    "token",
    "trail",
    "transaction_service",
    "upload_service",
    "watch",
]

_MODULES = (
    auditing,
    carrying,
    http,
    leaving,
    monitoring,
    people,
    prescribing,
    process,
    proving,
    publishing,
    record,
    rest,
    stores,
    taking_in,
    telling,
    trust,
)


def made() -> list[Any]:
    """Every function that keeps what it made; `cache_clear` makes one forget."""
    return [
        each
        for module in _MODULES
        for each in vars(module).values()
        if hasattr(each, "cache_clear") and each.__module__ == module.__name__
    ]


def reset() -> None:
    """Forget every client and service: the next call reads the environment again."""
    for each in made():
        each.cache_clear()
