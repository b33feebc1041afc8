"""What differs between stages, and nothing else; everything here is plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Stage = Literal["dev", "prod"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A name of our own for the API; the certificate is in ACM, in the region of the stack."""

    name: str
    certificate_arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSettings:
    stage: Stage
    keeps_data: bool  # False: deleting the stack deletes its tables, bucket and keys
    traces: bool  # AWS X-Ray
    log_retention_days: int  # one of the periods that CloudWatch Logs knows
    requests_per_second: int
    burst_requests: int
    requests_per_address: int  # from one IP address in five minutes; then WAF refuses
    object_lock_days: int | None  # nobody deletes a document version before; None: Object Lock without a period
    archive_days: int  # events can be replayed for as long
    retention_days: int  # the content of a document is locked for its class's period, and for so long at most
    hold_until_scanned: bool  # no content leaves before the malware scanner has seen it
    upload_max_bytes: int = 2**30  # a content is read once, within the time of one request, before it counts
    document_options: tuple[str, ...] = ("relations", "folders")  # names of `documents.options.Options`
    domain: Domain | None = None

    @property
    def bus_name(self) -> str:
        """A bus cannot go without a name, and the policy of its key needs it before the bus exists."""
        return f"passerelle-{self.stage}"


DEV: Final = StageSettings(
    stage="dev",
    keeps_data=False,
    traces=False,
    log_retention_days=14,
    requests_per_second=50,
    burst_requests=100,
    requests_per_address=2_000,
    object_lock_days=None,
    archive_days=7,
    retention_days=0,
    hold_until_scanned=False,
)
PROD: Final = StageSettings(
    stage="prod",
    keeps_data=True,
    traces=True,
    log_retention_days=400,
    requests_per_second=4_000,
    burst_requests=5_000,
    requests_per_address=60_000,
    object_lock_days=30,
    archive_days=90,
    retention_days=36_525,
    hold_until_scanned=True,
)

STAGES: Final[Mapping[str, StageSettings]] = {each.stage: each for each in (DEV, PROD)}
