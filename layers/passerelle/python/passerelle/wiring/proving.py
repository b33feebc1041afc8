"""The verifiable log: appended to, sealed, published, proved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from passerelle.aws.dynamodb import in_parallel
from passerelle.wiring import process

if TYPE_CHECKING:
    from passerelle.aws.ledger import DynamoAnchors, DynamoLeaves
    from passerelle.ledger.model import Entry as LedgerEntry
    from passerelle.ledger.proofs import Prover, Publisher
    from passerelle.ledger.service import Appender, Sealer


@cache
def leaves() -> DynamoLeaves:
    from passerelle.aws.ledger import DynamoLeaves

    return DynamoLeaves(process.dynamodb(), process.ledger_table())


@cache
def anchors() -> DynamoAnchors:
    from passerelle.aws.ledger import DynamoAnchors
    from passerelle.aws.objects import S3Objects

    bucket = S3Objects(process.aws("s3"), process.environment().anchors_bucket)
    return DynamoAnchors(process.dynamodb(), process.ledger_table(), bucket)


@cache
def prover() -> Prover:
    from passerelle.aws.audit import DerivedSalts
    from passerelle.ledger.proofs import Prover

    return Prover(leaves(), anchors(), DerivedSalts(process.table_names()), shards=process.environment().ledger_shards)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendWiring:
    appender: Appender
    entry_of: Callable[[Mapping[str, Any]], LedgerEntry]


@cache
def append() -> AppendWiring:
    from passerelle.aws.ledger import SqsSealing, entry_of
    from passerelle.ledger.service import Appender

    appender = Appender(
        leaves(),
        SqsSealing(process.aws("sqs"), process.environment().seals_queue_url),
        shards=process.environment().ledger_shards,
        now=process.now,
        in_parallel=in_parallel,
        pause=process.dynamodb().back_off,
    )
    return AppendWiring(appender=appender, entry_of=entry_of)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealWiring:
    sealer: Sealer
    now: Callable[[], datetime] = process.now


@cache
def seal() -> SealWiring:
    from passerelle.aws.ledger import KmsAnchorKey
    from passerelle.ledger.service import Sealer

    sealer = Sealer(
        leaves(),
        anchors(),
        KmsAnchorKey(process.aws("kms"), process.environment().anchor_key_id),
        shards=process.environment().ledger_shards,
        in_parallel=in_parallel,
        pause=process.dynamodb().back_off,
    )
    return SealWiring(sealer=sealer)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerWiring:
    publisher: Publisher


@cache
def ledger() -> LedgerWiring:
    from passerelle.ledger.proofs import Publisher

    return LedgerWiring(publisher=Publisher(leaves(), anchors(), in_parallel=in_parallel))
