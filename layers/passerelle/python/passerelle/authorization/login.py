"""People log in: the exchange sends them to an OpenID provider, and back to their application with a code of its own.

RFC 6749 section 4.1 with RFC 7636 (S256 only), RFC 9207 (`iss`) and RFC 9700; SMART App Launch 2.2, standalone launch;
IHE IUA ITI-71 (contract IUA-2, SMART-6, SMART-7). The application never sees the tokens of the provider, nor the
provider what the application asks for. Whatever is wrong before it is clear who the application is and where it is, is
said on a page; later faults of the application are sent to it.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from passerelle.access import Scopes
from passerelle.authorization.activities import Activity, Insured, Professional, insured_of, professional_of
from passerelle.authorization.codes import CHALLENGE, CHALLENGE_METHOD, CODE, CODE_LIFE, Grant, challenge_of, digest_of
from passerelle.authorization.model import CLIENT_ID, BadTokenError, Client
from passerelle.authorization.openid import (
    Provider,
    ProviderRefusedError,
    ProviderUnavailableError,
    check_id_token,
    country,
    userinfo_claims,
)
from passerelle.authorization.ports import Clients, Codes, Logins, OpenIdProviders
from passerelle.authorization.service import Endpoints
from passerelle.authorization.signatures import SignedToken
from passerelle.directory.model import CARE_ROLES, Role

LOGIN_LIFE: Final = timedelta(minutes=10)
MAX_SCOPE_CHARACTERS: Final = 1000  # beside the person, in a token that KMS signs
_MAX_STATE_CHARACTERS: Final = 512
_MAX_CODE_CHARACTERS: Final = 4096  # of a provider
_OWN: Final = frozenset({Role.PATIENT, Role.REPRESENTATIVE})
_PERSON: Final = re.compile(r"urn:oid:[0-9.]{3,64}\|[0-9A-Z]{1,32}")
_ACTIVITY: Final = re.compile(r"[0-9A-Z|]{1,64}")
_SECONDS: Final = re.compile(r"[0-9]{1,7}")

Parameters = Sequence[tuple[str, str]]


class LoginRefusedError(Exception):
    """A page says so, with this status. `back` is where the person may go on to: their application, with the error.

    `reason` is one of our own phrases.
    """

    def __init__(self, reason: str, *, status: int = 400, error: str = "invalid_request", back: str = "") -> None:
        self.reason = reason
        self.status = status
        self.error = error
        self.back = back
        super().__init__(reason)


class SentBackError(Exception):
    """The application is told, by a redirect to `location` (RFC 6749 section 4.1.2.1)."""

    def __init__(self, reason: str, location: str) -> None:
        self.reason = reason
        self.location = location
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A login under way: what the application asked for, and the secrets between the exchange and the provider.

    `cookie` is the digest of what the browser holds; whoever comes back without it did not begin this login.
    """

    client_id: str
    redirect_uri: str
    state: str
    scope: str
    challenge: str
    provider: str
    cookie: str
    nonce: str
    verifier: str
    expires_at: datetime
    purpose: str = ""
    activity: str = ""
    person: str = ""
    max_age_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """Where the provider is; the browser keeps `cookie` under `name` until it is back."""

    location: str
    name: str
    cookie: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Where the application is, with its code; `grant` is what was granted, for the audit."""

    location: str
    grant: Grant
    cookie: str  # its name, to be forgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Several activities: each with the address that begins again with it."""

    activities: tuple[tuple[Activity, str], ...]
    cookie: str


def cookie_name(state: str, *, is_secure: bool) -> str:
    """One for each login, so that two at once do not disturb each other; bound to this host by its prefix."""
    return f"{'__Host-' if is_secure else ''}login-{digest_of(state)[:16]}"


class LoginService:
    """`new_secret` gives 256 random bits in base64url."""

    def __init__(
        self,
        *,
        clients: Clients,
        logins: Logins,
        codes: Codes,
        openid: OpenIdProviders,
        providers: Mapping[str, Provider],
        new_secret: Callable[[], str],
    ) -> None:
        self._clients = clients
        self._logins = logins
        self._codes = codes
        self._openid = openid
        self._providers = providers
        self._new_secret = new_secret

    # --- to the provider --------------------------------------------------------------------------------------------

    def begin(self, parameters: Parameters, *, at: datetime, endpoints: Endpoints, is_posted: bool) -> Departure:
        """Answer an authorization request; raises LoginRefusedError or SentBackError."""
        client, redirect_uri = self._application(parameters)
        asked = dict(parameters)
        back = _Back(redirect_uri, asked.get("state", ""), endpoints.root)
        if len(asked) != len(parameters):
            raise back.error("a parameter is repeated")
        provider = self._provider(client, asked, back)
        scope = _scope(client, asked.get("scope", ""), back)
        _check_request(asked, endpoints, back, is_posted=is_posted)
        try:
            metadata = self._openid.metadata(provider, at)
        except ProviderUnavailableError:
            raise back.error("the provider does not answer", "temporarily_unavailable") from None
        state, cookie, verifier = self._new_secret(), self._new_secret(), self._new_secret()
        login = Pending(
            client_id=client.id,
            redirect_uri=redirect_uri,
            state=asked["state"],
            scope=scope,
            challenge=asked["code_challenge"],
            provider=provider.id,
            cookie=digest_of(cookie),
            nonce=self._new_secret(),
            verifier=verifier,
            expires_at=at + LOGIN_LIFE,
            purpose=asked.get("purpose_of_use", ""),
            activity=asked.get("activity", ""),
            person=asked.get("person_id", ""),
            max_age_seconds=int(asked["max_age"]) if "max_age" in asked else None,
        )
        self._logins.keep(digest_of(state), login)
        request = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": endpoints.callback,
            "scope": provider.claims["scope"],
            "state": state,
            "nonce": login.nonce,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": CHALLENGE_METHOD,
            "acr_values": provider.acr,
            **({"max_age": asked["max_age"]} if "max_age" in asked else {}),
        }
        return Departure(
            location=_with(metadata.authorization_endpoint, request),
            name=cookie_name(state, is_secure=endpoints.root.startswith("https://")),
            cookie=cookie,
        )

    def _application(self, parameters: Parameters) -> tuple[Client, str]:
        """Who asks, and where to send whoever logged in; nobody is sent anywhere else."""
        ids = [value for name, value in parameters if name == "client_id"]
        uris = [value for name, value in parameters if name == "redirect_uri"]
        if len(ids) != 1 or len(uris) != 1 or not CLIENT_ID.fullmatch(ids[0]):
            raise LoginRefusedError("client_id and redirect_uri are needed, each once")
        client = self._clients.find(ids[0])
        if client is None or not client.active or uris[0] not in client.redirect_uris:
            raise LoginRefusedError("the application, or its address, is not registered")
        return client, uris[0]

    def _provider(self, client: Client, asked: Mapping[str, str], back: _Back) -> Provider:
        known = [each for each in client.providers if each in self._providers]
        named = asked.get("provider") or (known[0] if len(known) == 1 else "")
        if named not in known:
            raise back.error("a provider that the application is registered with has to be named")
        provider = self._providers[named]
        if (provider.profile == "people") != (client.role in _OWN):
            raise back.error("the provider's people have no use for this application", "unauthorized_client")
        return provider

    # --- from the provider ------------------------------------------------------------------------------------------

    def finish(
        self, parameters: Parameters, cookies: Mapping[str, str], *, at: datetime, endpoints: Endpoints
    ) -> Arrival | Choice:
        """Answer the provider's redirect; raises LoginRefusedError or SentBackError.

        A login is over with the first answer that comes with its cookie, whatever comes of it.
        """
        said = dict(parameters)
        state = said.get("state", "")
        if len(said) != len(parameters) or not CODE.fullmatch(state):
            raise LoginRefusedError("not an answer to a login")
        name = cookie_name(state, is_secure=endpoints.root.startswith("https://"))
        login = self._logins.find(digest_of(state))
        if login is None or login.expires_at <= at:
            raise LoginRefusedError("this login is over")
        if not hmac.compare_digest(digest_of(cookies.get(name, "")), login.cookie):
            raise LoginRefusedError("this login was begun in another browser")
        if not self._logins.take(digest_of(state)):
            raise LoginRefusedError("this login is over")
        back = _Back(login.redirect_uri, login.state, endpoints.root)
        client, provider = self._clients.find(login.client_id), self._providers.get(login.provider)
        if client is None or not client.active or provider is None:
            raise LoginRefusedError("the application is no longer registered", status=403)
        try:
            person = self._person(said, login, provider, back, at, endpoints)
            if isinstance(person, Insured):
                grant = _granted_to_person(person, login, client, back, at)
            else:
                activity = _activity(person, login, client, back)
                if activity is None:
                    return Choice(activities=_choices(person, login, client, endpoints), cookie=name)
                grant = _granted_to_professional(person, activity, login, client, back, at)
        except ProviderUnavailableError:
            raise back.error("the provider does not answer", "temporarily_unavailable") from None
        except (BadTokenError, ProviderRefusedError) as error:
            raise back.refusal(str(error), status=401) from error
        code = self._new_secret()
        self._codes.keep(digest_of(code), grant)
        return Arrival(location=back.to({"code": code}), grant=grant, cookie=name)

    def _person(
        self,
        said: Mapping[str, str],
        login: Pending,
        provider: Provider,
        back: _Back,
        at: datetime,
        endpoints: Endpoints,
    ) -> Professional | Insured:
        """Who logged in; raises BadTokenError, ProviderRefusedError, ProviderUnavailableError."""
        metadata = self._openid.metadata(provider, at)
        if said.get("iss", None if metadata.names_itself else provider.issuer) != provider.issuer:
            raise BadTokenError("an answer of another provider")
        if "error" in said:
            refused = said["error"] in ("access_denied", "login_required", "interaction_required")
            raise back.error("the provider says no", "access_denied" if refused else "server_error")
        code = said.get("code", "")
        if not 0 < len(code) <= _MAX_CODE_CHARACTERS or not code.isascii() or not code.isprintable():
            raise BadTokenError("no code")
        tokens = self._openid.redeem(
            provider, code=code, verifier=login.verifier, redirect_uri=endpoints.callback, at=at
        )
        token = SignedToken(tokens.id_token)
        keys = self._openid.keys(provider, token.header.get("kid"), at)
        subject = check_id_token(token, keys, provider, nonce=login.nonce, at=at, max_age_seconds=login.max_age_seconds)
        told = self._openid.userinfo(provider, tokens.access_token, at)
        claims = {**(userinfo_claims(told, keys, provider, subject) if told else {}), **token.claims}
        read = insured_of if provider.profile == "people" else professional_of
        return read(claims, provider.claims)


def _check_request(asked: Mapping[str, str], endpoints: Endpoints, back: _Back, *, is_posted: bool) -> None:
    if asked.get("response_type") != "code":
        raise back.error("the response type is code", "unsupported_response_type")
    state = asked.get("state", "")
    if not 0 < len(state) <= _MAX_STATE_CHARACTERS or not state.isascii() or not state.isprintable():
        raise back.error("a state is needed")
    if asked.get("code_challenge_method") != CHALLENGE_METHOD or not CHALLENGE.fullmatch(
        asked.get("code_challenge", "")
    ):
        raise back.error("a code_challenge is needed, of method S256")
    if any(asked.get(name, endpoints.fhir) != endpoints.fhir for name in ("aud", "resource")):
        raise back.error("the token would be for another server", "invalid_target")
    if "person_id" in asked and not (is_posted and _PERSON.fullmatch(asked["person_id"])):
        raise back.error("person_id is system|value, and goes into the body of a POST: addresses are kept")
    if not _ACTIVITY.fullmatch(asked.get("activity", "0")) or not _SECONDS.fullmatch(asked.get("max_age", "0")):
        raise back.error("activity or max_age is malformed")
    if asked.get("purpose_of_use", "TREAT") not in {code for codes in country()["purposes"].values() for code in codes}:
        raise back.error("purpose_of_use is no code that is in use")


def _scope(client: Client, asked: str, back: _Back) -> str:
    """All or nothing, and nothing for systems: `system/` is what a client has without anybody."""
    try:
        scopes = Scopes.parse(asked)
    except ValueError:
        raise back.error("malformed scope", "invalid_scope") from None
    if not scopes.values or len(asked) > MAX_SCOPE_CHARACTERS or not client.scopes.covers(scopes):
        raise back.error("no scope, or beyond registration", "invalid_scope")
    if any(value.startswith("system/") for value in scopes.values):
        raise back.error("a system's scope for a person", "invalid_scope")
    return str(scopes)


def _activity(person: Professional, login: Pending, client: Client, back: _Back) -> Activity | None:
    """The activity that was asked for, or the only one; None where the person has to choose (contract SMART-7)."""
    possible = [each for each in person.activities if _is_possible(each, client)]
    if login.activity:
        possible = [each for each in possible if each.is_called(login.activity)]
    if not possible:
        raise back.refusal("no activity of this person is the one that is asked for, or has a role here", status=403)
    return possible[0] if len(possible) == 1 else None


def _is_possible(activity: Activity, client: Client) -> bool:
    """At an application that is no care provider's, people work for whoever runs it."""
    return client.role in CARE_ROLES or activity.organisation == client.organisation


def _choices(
    person: Professional, login: Pending, client: Client, endpoints: Endpoints
) -> tuple[tuple[Activity, str], ...]:
    asked = {
        "response_type": "code",
        "client_id": login.client_id,
        "redirect_uri": login.redirect_uri,
        "state": login.state,
        "scope": login.scope,
        "code_challenge": login.challenge,
        "code_challenge_method": CHALLENGE_METHOD,
        "provider": login.provider,
        **({"purpose_of_use": login.purpose} if login.purpose else {}),
        **({"max_age": str(login.max_age_seconds)} if login.max_age_seconds is not None else {}),
    }
    possible = [each for each in person.activities if _is_possible(each, client)]
    return tuple((each, _with(endpoints.authorize, asked | {"activity": each.key})) for each in possible)


def _granted_to_professional(
    person: Professional, activity: Activity, login: Pending, client: Client, back: _Back, at: datetime
) -> Grant:
    role = activity.role if client.role in CARE_ROLES else client.role
    return Grant(
        client_id=client.id,
        redirect_uri=login.redirect_uri,
        challenge=login.challenge,
        scope=login.scope,
        expires_at=at + CODE_LIFE,
        subject=person.identifier,
        name=person.name,
        role=role,
        organisation=activity.organisation,
        organisation_name=activity.name,
        professional=person.identifier,
        profession=activity.profession,
        purpose=_purpose(login, role, client, back),
    )


def _granted_to_person(person: Insured, login: Pending, client: Client, back: _Back, at: datetime) -> Grant:
    """Somebody who acts for another may log in; whether they have a mandate is asked at every request."""
    is_own = login.person in ("", person.identifier)
    role = Role.PATIENT if is_own else Role.REPRESENTATIVE
    return Grant(
        client_id=client.id,
        redirect_uri=login.redirect_uri,
        challenge=login.challenge,
        scope=login.scope,
        expires_at=at + CODE_LIFE,
        subject=person.identifier,
        name=person.name,
        role=role,
        organisation=client.organisation,
        patient=person.identifier if is_own else login.person,
        person=None if is_own else person.identifier,
        purpose=_purpose(login, role, client, back),
    )


def _purpose(login: Pending, role: Role, client: Client, back: _Back) -> str:
    """What was asked for, or what the role has first; within what the country lets the role say, and the client."""
    allowed = [code for code in country()["purposes"].get(role, []) if code in (client.purposes or (code,))]
    purpose = login.purpose or (allowed[0] if allowed else "")
    if purpose not in allowed:
        raise back.refusal("a purpose that this role, or the application, may not have", status=403)
    return purpose


@dataclass(frozen=True, slots=True)
class _Back:
    """The way back to the application."""

    redirect_uri: str
    state: str
    issuer: str

    def to(self, said: Mapping[str, str]) -> str:
        return _with(self.redirect_uri, {**said, **({"state": self.state} if self.state else {}), "iss": self.issuer})

    def error(self, reason: str, error: str = "invalid_request") -> SentBackError:
        return SentBackError(reason, self.to({"error": error, "error_description": reason}))

    def refusal(self, reason: str, *, status: int) -> LoginRefusedError:
        back = self.to({"error": "access_denied", "error_description": "the login is refused"})
        return LoginRefusedError(reason, status=status, error="access_denied", back=back)


def _with(url: str, parameters: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}"
