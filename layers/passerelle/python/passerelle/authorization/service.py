"""Issuing access tokens to registered systems, verifying them, and making them void: no refresh tokens.

SMART App Launch 2.2 "Backend services", RFC 6749 section 4.4 (client credentials), RFC 7009 (revocation), RFC 7662
(introspection), RFC 8707 (`resource`), RFC 9068 (JWT access tokens), IHE IUA ITI-71, ITI-72 and ITI-102.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from passerelle.access import Scopes
from passerelle.authorization import codes
from passerelle.authorization.authentication import ClientAuthentication, Proven, Shown
from passerelle.authorization.extensions import CONSENT_EXTENSION, limits_from_map, limits_to_map, said_by
from passerelle.authorization.issuers import claims_of
from passerelle.authorization.keys import PublishedKeys
from passerelle.authorization.model import (
    CLIENT_ID,
    MAX_ISSUER_CHARACTERS,
    BadTokenError,
    Client,
    ExpiredTokenError,
    InvalidClientError,
    InvalidExtensionsError,
    InvalidScopeError,
    InvalidTargetError,
    IssuedToken,
    Jwk,
    TokenClaims,
    TokenRefusedError,
    TooMuchSaidError,
    UnsupportedGrantError,
    parties_of,
)
from passerelle.authorization.people import EXTENSION, extension_of
from passerelle.authorization.ports import Clients, TokenKey
from passerelle.authorization.signatures import SignedToken
from passerelle.identifiers import new_ulid

GRANT_TYPE = "client_credentials"
ACCESS_TOKEN_ALGORITHMS = frozenset({"ES256"})
ACCESS_TOKEN_TYPE = "at+jwt"  # noqa: S105 - a media type (RFC 9068), not a secret

SCOPES_SUPPORTED = (
    "system/*.cruds",
    "user/*.cruds",
    "patient/*.cruds",
    *("ITI-20", "ITI-65", "ITI-66", "ITI-67", "ITI-68", "ITI-78", "ITI-81", "ITI-83", "ITI-93", "ITI-94"),
    *("ITI-104", "ITI-105", "ITI-106", "ITI-108", "ITI-119", "PCC-45", "PCC-46", "PCC-47"),
    *("TD0.2", "TD2", "TD2.1", "TD3.1", "TD3.1a", "TD3.1b", "TD3.2", "TD3.3a", "TD3.3b", "TD3.3c", "TD3.3d"),
)

TOKEN_LIFE = timedelta(minutes=5)
MAX_SCOPE_CHARACTERS = 2000
MAX_PAYLOAD_CHARACTERS = 2900  # KMS signs messages of at most 4096 bytes: header and payload, in base64


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The public addresses that tokens are bound to, derived from the root URL of the exchange."""

    root: str

    @property
    def token(self) -> str:
        return f"{self.root}/oauth2/token"

    @property
    def authorize(self) -> str:
        return f"{self.root}/oauth2/authorize"

    @property
    def callback(self) -> str:
        return f"{self.root}/oauth2/callback"

    @property
    def jwks(self) -> str:
        return f"{self.root}/oauth2/jwks"

    @property
    def revoke(self) -> str:
        return f"{self.root}/oauth2/revoke"

    @property
    def introspect(self) -> str:
        return f"{self.root}/oauth2/introspect"

    @property
    def fhir(self) -> str:
        return f"{self.root}/fhir"


class AuthorizationService:
    """The authorization server (`issue`) and the check of the resource server (`verify`).

    `desk` takes the codes of people who logged in; `community` is the home community that their tokens name.
    """

    def __init__(
        self,
        *,
        clients: Clients,
        key: TokenKey,
        published: PublishedKeys,
        desk: Callable[[], codes.CodeDesk] | None = None,
        community: str = "",
    ) -> None:
        self._clients = clients
        self._key = key
        self._desk = desk
        self._community = community
        self._authentication = ClientAuthentication(clients, published)

    def prove(self, form: Mapping[str, str], shown: Shown, *, at: datetime, endpoints: Endpoints) -> Proven:
        """Which client it is; raises InvalidClientError. An assertion is used up as soon as it is found good."""
        return self._authentication.prove(form, shown, at=at, audience=endpoints.token)

    def issue(
        self, form: Mapping[str, str], *, at: datetime, endpoints: Endpoints, shown: Shown | None = None
    ) -> IssuedToken:
        """Answer a token request; raises a TokenRefusedError."""
        shown = shown or Shown()
        if "grant_type" not in form:
            raise TokenRefusedError("no grant type")
        if form["grant_type"] == codes.GRANT_TYPE and self._desk is not None:
            return self._redeemed(self._desk(), form, shown, at, endpoints)
        if form["grant_type"] != GRANT_TYPE:
            raise UnsupportedGrantError("grant type")
        proven = self.prove(form, shown, at=at, endpoints=endpoints)
        client = proven.client
        check_resource(form, endpoints)
        scope = _granted(client, form.get("scope", ""))
        if scope.speaks_for_people:
            raise InvalidScopeError("a scope of people who log in")
        try:
            said = said_by(proven.claims, client)
        except BadTokenError as error:
            raise InvalidExtensionsError(str(error)) from error
        claims = TokenClaims(
            issuer=endpoints.root,
            audience=endpoints.fhir,
            token_id=new_ulid(at),
            client_id=client.id,
            issued_at=at,
            expires_at=at + TOKEN_LIFE,
            scope=str(scope),
            organisation=client.organisation,
            role=client.role,
            domain=client.domain,
            professional=said.professional,
            patient=client.patient,
            profession=said.profession,
            name=said.name,
            purpose=said.purpose,
            limits=said.limits,
            certificate=shown.certificate,
        )
        return self.sign(claims)

    def _redeemed(
        self, desk: codes.CodeDesk, form: Mapping[str, str], shown: Shown, at: datetime, endpoints: Endpoints
    ) -> IssuedToken:
        """The token of a person who logged in; an application that can keep nothing secret proves nothing but that."""
        is_shown = shown.basic is not None or "client_assertion" in form or "client_secret" in form
        client = self.prove(form, shown, at=at, endpoints=endpoints).client if is_shown else self._public(form)
        check_resource(form, endpoints)
        token_id, until = new_ulid(at), at + TOKEN_LIFE
        grant = desk.redeem(form, client, at=at, token_id=token_id, until=until)
        claims = TokenClaims(
            issuer=endpoints.root,
            audience=endpoints.fhir,
            token_id=token_id,
            client_id=client.id,
            issued_at=at,
            expires_at=until,
            scope=grant.scope,
            organisation=grant.organisation,
            role=grant.role,
            domain=client.domain,
            professional=grant.professional,
            patient=grant.patient,
            subject=grant.subject,
            profession=grant.profession,
            name=grant.name,
            purpose=grant.purpose,
            person=grant.person,
            organisation_name=grant.organisation_name,
            community=self._community,
            certificate=shown.certificate,
        )
        return self.sign(claims)

    def _public(self, form: Mapping[str, str]) -> Client:
        claimed = form.get("client_id", "")
        client = self._clients.find(claimed) if CLIENT_ID.fullmatch(claimed) else None
        if client is None or not client.active or not client.is_public:
            raise InvalidClientError("no proof, and not a public client")
        return client

    def sign(self, claims: TokenClaims) -> IssuedToken:
        """A token that says this; raises TooMuchSaidError."""
        payload = claims_to_map(claims)
        if len(json.dumps(payload, separators=(",", ":"))) > MAX_PAYLOAD_CHARACTERS:
            raise TooMuchSaidError("payload too long")
        return IssuedToken(
            access_token=self._key.sign(payload),
            expires_in_seconds=int((claims.expires_at - claims.issued_at).total_seconds()),
            scope=claims.scope,
        )

    def revoke(self, form: Mapping[str, str], *, at: datetime, endpoints: Endpoints, shown: Shown) -> None:
        """Make a token of the client itself void; one that is not good, or not its own, is let be (RFC 7009).

        Raises InvalidClientError, and TokenRefusedError if no token is named.
        """
        client = self.prove(form, shown, at=at, endpoints=endpoints).client
        if "token" not in form:
            raise TokenRefusedError("no token")
        try:
            claims = self.verify(form["token"], at=at, endpoints=endpoints)
        except BadTokenError:
            return
        if claims.client_id == client.id:
            self._clients.revoke(client.id, claims.token_id, expires_at=claims.expires_at, at=at)

    def introspect(
        self, form: Mapping[str, str], *, at: datetime, endpoints: Endpoints, shown: Shown
    ) -> Mapping[str, Any]:
        """What a token says, to a client that is entitled to it; `active` alone of one that is not good.

        The client proves who it is, or brings an access token of its own (ITI-102). Raises InvalidClientError, and
        TokenRefusedError if no token is named.
        """
        if shown.bearer is not None:
            client = self._bearing(shown.bearer, shown.certificate, at, endpoints)
        else:
            client = self.prove(form, shown, at=at, endpoints=endpoints).client
        if not client.introspects:
            raise InvalidClientError("not entitled to introspection")
        if "token" not in form:
            raise TokenRefusedError("no token")
        try:
            claims = self.verify(form["token"], at=at, endpoints=endpoints)
        except BadTokenError:
            return {"active": False}
        return {"active": True, "token_type": "Bearer", **claims_to_map(claims)}

    def public_keys(self) -> Sequence[Jwk]:
        return self._key.public_keys()

    def _bearing(self, text: str, certificate: str | None, at: datetime, endpoints: Endpoints) -> Client:
        try:
            claims, client = self._verified(text, at, endpoints)
            _check_certificate(claims, client, certificate)
        except BadTokenError as error:
            raise InvalidClientError(str(error)) from error
        return client

    def authorise(self, text: str, *, at: datetime, endpoints: Endpoints, certificate: str | None) -> TokenClaims:
        """`verify`, over a connection with this client certificate, or with none (RFC 8705 section 3)."""
        claims, client = self._verified(text, at, endpoints)
        _check_certificate(claims, client, certificate)
        return claims

    def verify(self, text: str, *, at: datetime, endpoints: Endpoints) -> TokenClaims:
        """What a good access token says; raises ExpiredTokenError or BadTokenError.

        A client that is deactivated, a token that is revoked, and whoever is barred, stop at once: what is on record of
        them is read every time, in one call (two for the token of another issuer, which does not say its organisation).
        """
        return self._verified(text, at, endpoints)[0]

    def _verified(self, text: str, at: datetime, endpoints: Endpoints) -> tuple[TokenClaims, Client]:
        token = SignedToken(text)
        if token.claims.get("iss") == endpoints.root:
            claims = self._own(token, at, endpoints)
        else:
            claims = self._foreign(token, at, endpoints)
        known = self._clients.look_up(claims.client_id, parties=parties_of(claims.organisation, claims.professional))
        client = known.client
        if client is None or not client.active or claims.token_id in client.revoked or known.barred:
            raise BadTokenError("revoked")
        return claims, client

    def _own(self, token: SignedToken, at: datetime, endpoints: Endpoints) -> TokenClaims:
        """What a token that we signed says. Our own clock made it: no leeway."""
        if token.header.get("typ") != ACCESS_TOKEN_TYPE:
            raise BadTokenError("not an access token")
        token.verify(self._key.public_keys(), algorithms=ACCESS_TOKEN_ALGORITHMS)
        try:
            token.check_claims(issuer=endpoints.root, audience=endpoints.fhir, at=at)
        except ExpiredTokenError as error:
            error.claims = claims_from_map(token.claims)
            raise
        return claims_from_map(token.claims)

    def _foreign(self, token: SignedToken, at: datetime, endpoints: Endpoints) -> TokenClaims:
        """What the token of a trusted issuer says; nothing of it is believed before the issuer's key is known."""
        url, client_id = token.claims.get("iss"), token.claims.get("client_id")
        if not isinstance(url, str) or not isinstance(client_id, str) or not CLIENT_ID.fullmatch(client_id):
            raise BadTokenError("wrong issuer or subject")
        if len(url) > MAX_ISSUER_CHARACTERS:
            raise BadTokenError("wrong issuer or subject")
        known = self._clients.look_up(client_id, issuer=url)
        if known.issuer is None or known.client is None:
            raise BadTokenError("unknown issuer or client")
        return claims_of(token, known.issuer, known.client, audience=endpoints.fhir, at=at)


def check_resource(form: Mapping[str, str], endpoints: Endpoints) -> None:
    """Whether a token is asked for what there is; raises InvalidTargetError (RFC 8707 section 2)."""
    if form.get("resource", endpoints.fhir).removesuffix("/") != endpoints.fhir:
        raise InvalidTargetError("resource")


def _check_certificate(claims: TokenClaims, client: Client, certificate: str | None) -> None:
    is_bound = claims.certificate is not None or bool(client.certificates)
    if is_bound and (certificate is None or claims.certificate != certificate):
        raise BadTokenError("not the certificate that the token is bound to")


def _granted(client: Client, asked: str) -> Scopes:
    """The scope asked for, all or nothing: SMART lets servers grant less, which clients notice too late."""
    if not asked.strip():
        raise InvalidScopeError("no scope")
    if len(asked) > MAX_SCOPE_CHARACTERS:
        raise InvalidScopeError("scope too long")
    try:
        scopes = Scopes.parse(asked)
    except ValueError as error:
        raise InvalidScopeError("malformed scope") from error
    if not client.scopes.covers(scopes) or client.is_public:
        raise InvalidScopeError("scope beyond registration")
    if any(value.startswith(("user/", "patient/")) for value in scopes.values):
        raise InvalidScopeError("a person's scope for a system")
    return scopes


_OPTIONAL = ("domain", "professional", "patient", "profession", "person")


def claims_to_map(claims: TokenClaims) -> dict[str, Any]:
    """The payload of an access token."""
    return {
        "iss": claims.issuer,
        "sub": claims.subject or claims.client_id,
        "client_id": claims.client_id,
        "aud": claims.audience,
        "jti": claims.token_id,
        "iat": int(claims.issued_at.timestamp()),
        "exp": int(claims.expires_at.timestamp()),
        "scope": claims.scope,
        "organisation": claims.organisation,
        "role": str(claims.role),
        **{name: value for name in _OPTIONAL if (value := getattr(claims, name)) is not None},
        **({"cnf": {"x5t#S256": claims.certificate}} if claims.certificate else {}),
        **_extensions(claims),
    }


def _extensions(claims: TokenClaims) -> dict[str, Any]:
    extensions: dict[str, Any] = dict(extension_of(claims).get("extensions", {}))
    if claims.limits is not None:
        extensions[CONSENT_EXTENSION] = limits_to_map(claims.limits)
    return {"extensions": extensions} if extensions else {}


def claims_from_map(payload: Mapping[str, Any]) -> TokenClaims:
    """Read the payload of a token that we signed; raises BadTokenError if a claim is missing."""
    extensions = payload.get("extensions", {})
    told = extensions.get(EXTENSION, {})
    purposes = told.get("purpose_of_use") or [{}]
    try:
        return TokenClaims(
            issuer=payload["iss"],
            audience=payload["aud"],
            token_id=payload["jti"],
            client_id=payload["client_id"],
            issued_at=datetime.fromtimestamp(payload["iat"], UTC),
            expires_at=datetime.fromtimestamp(payload["exp"], UTC),
            scope=payload["scope"],
            organisation=payload["organisation"],
            role=payload["role"],
            subject=payload["sub"] if payload["sub"] != payload["client_id"] else None,
            name=told.get("subject_name", ""),
            purpose=purposes[0].get("code", ""),
            organisation_name=told.get("subject_organization", ""),
            community=told.get("home_community_id", ""),
            limits=limits_from_map(extensions[CONSENT_EXTENSION]) if CONSENT_EXTENSION in extensions else None,
            certificate=payload.get("cnf", {}).get("x5t#S256"),
            **{name: payload.get(name) for name in _OPTIONAL},
        )
    except KeyError as error:
        raise BadTokenError("a claim is missing") from error
