"""What DynamoDB keeps for every capability, as their ports see it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from passerelle.aws.audit import DynamoAuditIndex, DynamoAuditTrail
from passerelle.aws.journal import DynamoJournal
from passerelle.wiring import process

if TYPE_CHECKING:
    from passerelle.aws.clients import DynamoClients
    from passerelle.aws.links import DynamoLinks
    from passerelle.aws.notifications import DynamoSubscriptions
    from passerelle.aws.patients import DynamoPatientIndex
    from passerelle.aws.prescriptions import DynamoPrescriptions
    from passerelle.aws.quarantine import DynamoScans
    from passerelle.aws.records import DynamoRecordStore


@cache
def trail() -> DynamoAuditTrail:
    return DynamoAuditTrail(process.dynamodb(), process.table_names())


@cache
def journal() -> DynamoJournal:
    return DynamoJournal(process.dynamodb(), process.table_names())


@cache
def patient_index() -> DynamoPatientIndex:
    from passerelle.aws.patients import DynamoPatientIndex

    return DynamoPatientIndex(process.dynamodb(), process.table_names())


@cache
def record_store() -> DynamoRecordStore:
    from passerelle.aws.records import DynamoRecordStore

    return DynamoRecordStore(process.dynamodb(), process.table_names())


@cache
def audit_index() -> DynamoAuditIndex:
    return DynamoAuditIndex(process.dynamodb(), process.table_names())


@cache
def clients() -> DynamoClients:
    from passerelle.aws.clients import DynamoClients

    return DynamoClients(process.dynamodb(), process.table_names())


def subscriptions_store() -> DynamoSubscriptions:
    from passerelle.aws.notifications import DynamoSubscriptions

    return DynamoSubscriptions(process.dynamodb(), process.table_names())


@cache
def prescription_store() -> DynamoPrescriptions:
    from passerelle.aws.prescriptions import DynamoPrescriptions

    return DynamoPrescriptions(process.dynamodb(), process.table_names())


@cache
def scans() -> DynamoScans:
    from passerelle.aws.quarantine import DynamoScans

    return DynamoScans(process.dynamodb(), process.table_names())


@cache
def link_store() -> DynamoLinks:
    from passerelle.aws.links import DynamoLinks

    return DynamoLinks(process.dynamodb(), process.table_names())
