"""The Lambda authorizer of the API: a request without a good access token never reaches a function.

API Gateway developer guide, "Lambda authorizers" (type REQUEST, no cache: every call asks again); RFC 6750
(bearer tokens). The policy covers the whole stage, so that it would stay right if it were cached. A refusal
carries in its context what the gateway response turns into a 401: `issue`, the FHIR issue code, and
`challenge`, the value of WWW-Authenticate.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from aws_lambda_powertools import Logger

from passerelle.access import Caller, Request, Scopes, Touched
from passerelle.api.app import address_of, external_id_of, places
from passerelle.api.oauth import OAuthWired, authorizations, certificate_of, endpoints
from passerelle.audit.model import audit_of
from passerelle.audit.ports import AuditTrail
from passerelle.authorization.extensions import limits_to_map
from passerelle.authorization.model import BadTokenError, ExpiredTokenError, TokenClaims
from passerelle.errors import Unauthenticated, Unavailable

CHALLENGE = 'Bearer realm="passerelle"'
INVALID_TOKEN = f'{CHALLENGE}, error="invalid_token"'
TOKEN_CHARACTERS = 32  # of a token that is not ours: enough to tell it from others, too few to use it
MAX_ANSWER_CHARACTERS = 7500  # API Gateway takes 8 kB from an authorizer


class AuthorizerWired(OAuthWired, Protocol):
    @property
    def trail(self) -> AuditTrail: ...


class TokenAuthorizer:
    """A Lambda handler that answers a REQUEST authorizer event with an IAM policy.

    It raises only when a token cannot be checked or a refusal cannot be recorded; API Gateway then refuses.
    """

    def __init__(self, name: str, *, provide: Callable[[], AuthorizerWired]) -> None:
        self.name = name
        self._provide = provide
        self._log = Logger(service=f"passerelle-{name}")
        if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
            provide()  # at INIT, where the processor is free and fast

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        try:
            return self._decide(event)
        except Exception as failure:  # noqa: BLE001 - the runtime would log the message of whatever is raised here
            self._log.error("failed", failure=type(failure).__name__, places=places(failure))
        raise Unavailable("the token cannot be checked")

    def _decide(self, event: Mapping[str, Any]) -> dict[str, Any]:
        wired = self._provide()
        at = wired.now()
        text: str | None = None
        try:
            text = _bearer(event)
            if text is None:
                return self._refused(event, wired, at, issue="login", challenge=CHALLENGE)
            addresses = endpoints(event, wired.public_url)
            certificate = certificate_of(event)
            claims = wired.authorization.authorise(text, at=at, endpoints=addresses, certificate=certificate)
            allowed = _policy(event, "Allow", principal=claims.client_id, context=_context(claims))
            if len(json.dumps(allowed)) > MAX_ANSWER_CHARACTERS:
                raise BadTokenError("too long to be passed on")
        except ExpiredTokenError as refusal:
            return self._refused(event, wired, at, issue="expired", challenge=INVALID_TOKEN, of=refusal.claims)
        except BadTokenError as refusal:
            self._log.info("refused", reason=str(refusal), request_id=event["requestContext"]["requestId"])
            tail = (text or "")[-TOKEN_CHARACTERS:]
            return self._refused(event, wired, at, issue="security", challenge=INVALID_TOKEN, token_tail=tail)
        return allowed

    def _refused(
        self,
        event: Mapping[str, Any],
        wired: AuthorizerWired,
        at: datetime,
        *,
        issue: str,
        challenge: str,
        of: TokenClaims | None = None,
        token_tail: str = "",
    ) -> dict[str, Any]:
        """Refuse, and leave an audit record that names nobody unless the token was ours.

        Of a token that is not, `token_tail` is recorded: who has the token finds out what was done with it (BALP-4).
        """
        caller = Caller(
            client_id=of.client_id if of else "",
            organisation=of.organisation if of else "",
            role=of.role if of else "",
            scopes=Scopes(frozenset()),
            token_id=of.token_id if of else "",
        )
        request = Request(
            caller=caller,
            name="authenticate",
            action="E",
            request_id=event["requestContext"]["requestId"],
            at=at,
            base_url=endpoints(event, wired.public_url).fhir,
            query=f"{event.get('httpMethod', '')} {event.get('path', '')}".strip(),
            external_id=external_id_of(event),
            address=address_of(event),
        )
        records = audit_of(request, Touched(), refusal=Unauthenticated(code=issue))
        wired.trail.append([replace(each, token_tail=token_tail) for each in records])
        context = {"issue": issue, "challenge": challenge}
        return _policy(event, "Deny", principal=caller.client_id or "unknown", context=context)


def _bearer(event: Mapping[str, Any]) -> str | None:
    """The bearer token, or None; raises BadTokenError if there are several Authorization headers."""
    values = authorizations(event)
    if len(values) > 1:
        raise BadTokenError("several Authorization headers")
    scheme, _, token = values[0].strip().partition(" ") if values else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _context(claims: TokenClaims) -> dict[str, str]:
    """What the functions learn of the caller; API Gateway passes strings only."""
    optional = {
        "domain": claims.domain,
        "professional": claims.professional,
        "patient": claims.patient,
        "profession": claims.profession,
        "name": claims.name or None,
        "purpose": claims.purpose or None,
        "person": claims.person,
        "limits": json.dumps(limits_to_map(claims.limits)) if claims.limits else None,
    }
    return {
        "client_id": claims.client_id,
        "organisation": claims.organisation,
        "role": claims.role,
        "scope": claims.scope,
        "jti": claims.token_id,
        "exp": str(int(claims.expires_at.timestamp())),
        **{name: value for name, value in optional.items() if value is not None},
    }


def _policy(event: Mapping[str, Any], effect: str, *, principal: str, context: Mapping[str, str]) -> dict[str, Any]:
    api, stage = event["methodArn"].split("/")[:2]
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": f"{api}/{stage}/*/*"}
    return {
        "principalId": principal,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": dict(context),
    }
