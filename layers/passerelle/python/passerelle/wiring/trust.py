"""Who calls: clients, tokens, log-in."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from passerelle.aws.audit import DynamoAuditTrail
from passerelle.wiring import http, process, stores

if TYPE_CHECKING:
    from passerelle.api.keysets import HttpKeySets
    from passerelle.api.outbound import Outbound
    from passerelle.authorization.codes import CodeDesk
    from passerelle.authorization.login import LoginService
    from passerelle.authorization.service import AuthorizationService


def outbound() -> Outbound:
    from passerelle.api.outbound import Outbound  # loads the certificates of the authorities that it trusts

    return Outbound(allow_loopback=process.allows_loopback())


@cache
def key_sets() -> HttpKeySets:
    from passerelle.api.keysets import HttpKeySets

    return HttpKeySets(outbound())


@cache
def code_desk() -> CodeDesk:
    from passerelle.authorization.codes import CodeDesk
    from passerelle.aws.codes import DynamoCodes

    return CodeDesk(codes=DynamoCodes(process.dynamodb(), process.table_names()), clients=stores.clients())


@cache
def authorization_service() -> AuthorizationService:
    from passerelle.authorization.keys import PublishedKeys
    from passerelle.authorization.service import AuthorizationService
    from passerelle.aws.tokens import KmsTokenKey

    return AuthorizationService(
        clients=stores.clients(),
        key=KmsTokenKey(process.aws("kms"), process.environment().token_key_ids),
        published=PublishedKeys(key_sets),
        desk=code_desk,
        community=process.environment().home_community_id,
    )


@cache
def openid_secret(arn: str) -> str:
    """What proves the exchange to an OpenID provider; read once per process."""
    return process.secret(arn)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginWiring(http.HttpWiring):
    login: LoginService
    public_url: str


@cache
def login() -> LoginWiring:
    from passerelle.api.openid import HttpOpenIdProviders
    from passerelle.authorization.keys import PublishedKeys
    from passerelle.authorization.login import LoginService
    from passerelle.authorization.openid import parse_providers
    from passerelle.aws.codes import DynamoCodes
    from passerelle.aws.logins import DynamoLogins

    service = LoginService(
        clients=stores.clients(),
        logins=DynamoLogins(process.dynamodb(), process.table_names()),
        codes=DynamoCodes(process.dynamodb(), process.table_names()),
        openid=HttpOpenIdProviders(outbound(), PublishedKeys(key_sets), openid_secret),
        providers=parse_providers(process.environment().openid_providers, process.environment().public_url),
        new_secret=lambda: secrets.token_urlsafe(32),
    )
    return LoginWiring(trail=stores.trail(), login=service, public_url=process.environment().public_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWiring:
    trail: DynamoAuditTrail
    authorization: AuthorizationService
    public_url: str
    now: Callable[[], datetime] = process.now


@cache
def token() -> TokenWiring:
    return TokenWiring(
        trail=stores.trail(), authorization=authorization_service(), public_url=process.environment().public_url
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizeWiring(http.HttpWiring):
    authorization: AuthorizationService
    public_url: str


@cache
def authorize() -> AuthorizeWiring:
    return AuthorizeWiring(
        trail=stores.trail(), authorization=authorization_service(), public_url=process.environment().public_url
    )
