"""What differs between stages, and nothing else; everything here is plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Stage = Literal["dev", "prod"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustStore:
    """An object of S3 with the certificates, in PEM, of the authorities that clients' certificates come from.

    Its bucket has versions: API Gateway reads one of them, and another only when the setting names it.
    """

    bucket: str
    key: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """A name of our own for the API; the certificate is in ACM, in the region of the stack.

    With a `trust_store`, clients connect with a certificate of an authority in it (mutual TLS), or not at all.
    """

    name: str
    certificate_arn: str
    trust_store: TrustStore | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenIdProvider:
    """Where people log in: members as in `passerelle.authorization.openid.Provider`.

    `secret` is the ARN of a secret of Secrets Manager in this account: a private JWK, or the password of `client_id`.
    """

    id: str
    name: str
    profile: str
    issuer: str
    client_id: str
    acr: str
    secret: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CdsService:
    """A licensed base of medicines: the `order-sign` service of CDS Hooks that is asked as well.

    `secret` is the ARN of a secret of Secrets Manager in this account: a private JWK with `kid` and `alg` (ES384,
    ES256, RS384), of which the service knows the public half.
    """

    url: str
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartnerQueue:
    """A queue of SQS in an account of a partner, which one client may be told by; its policy lets `deliver` send.

    `key` is the ARN of the customer key that encrypts it, if it has one.
    """

    arn: str
    client_id: str
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MssanteOperator:
    """Whoever carries the mail of the exchange in the MSSante trust space; `sender` is its mailbox there.

    `secret` is the ARN of a secret of Secrets Manager in this account: JSON with `certificate` (private key and
    certificates, PEM), and where the operator asks for them `authorities` (PEM), `user` and `password`.
    """

    host: str
    port: int
    sender: str
    secret: str


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
    anchor_lock_days: int | None  # nobody deletes an anchor of the verifiable log before; None: Object Lock without
    implicit_policy: str  # what care professionals see before the patient decided: a `consents.decision.Implicit`
    upload_max_bytes: int = 2**30  # a content is read once, within the time of one request, before it counts
    ledger_shards: int = 16  # trees of the verifiable log, a power of two; never changed once there is a log
    document_options: tuple[str, ...] = ("relations", "folders")  # names of `documents.options.Options`
    token_keys: tuple[int, ...] = (1,)  # generations: the first signs, tokens of all are good (docs/trust.md)
    domain: Domain | None = None
    openid_providers: tuple[OpenIdProvider, ...] = ()
    cds_service: CdsService | None = None
    mail_sender: str = ""  # an identity of SES in this account and region; empty: nobody is told by e-mail
    sms_sender: str = ""  # the name that telephones show, at most eleven characters; empty: nobody is told by SMS
    partner_queues: tuple[PartnerQueue, ...] = ()
    mssante: MssanteOperator | None = None
    webhook_certificate: str = ""  # ARN of a secret: PEM, shown to webhooks that ask for a certificate
    home_community_id: str = ""  # urn:oid:..., of the community that this exchange is: tokens of people name it

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
    anchor_lock_days=None,
    implicit_policy="basic-normal",
    openid_providers=(
        # Issuers that are paths are served by the local stack (local/openid.py); on AWS, name those of a sandbox.
        OpenIdProvider(
            id="pro-sante-connect",
            name="Pro Santé Connect (local)",
            profile="professionals",
            issuer="/openid/professionals",
            client_id="passerelle",
            acr="eidas1",
        ),
        OpenIdProvider(
            id="carte-vitale",
            name="Appli carte Vitale (local)",
            profile="people",
            issuer="/openid/people",
            client_id="passerelle",
            acr="eidas2",
        ),
    ),
    home_community_id="urn:oid:2.999.1000",
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
    anchor_lock_days=3_653,
    implicit_policy="break-glass-only",
)

STAGES: Final[Mapping[str, StageSettings]] = {each.stage: each for each in (DEV, PROD)}
