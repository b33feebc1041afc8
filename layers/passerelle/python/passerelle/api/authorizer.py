"""The Lambda authorizer of the API: a request without a good access token never reaches a function.

API Gateway developer guide, "Lambda authorizers" (type REQUEST, no cache: every call asks again); RFC 6750
(bearer tokens). The policy covers the whole stage, so that it would stay right if it were cached. A refusal
carries in its context what the gateway response turns into a 401: `issue`, the FHIR issue code, and
`challenge`, the value of WWW-Authenticate.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from aws_lambda_powertools import Logger

from passerelle.access import Caller, Request, Scopes, Touched
from passerelle.api.app import places
from passerelle.api.oauth import OAuthWired, endpoints
from passerelle.audit.model import audit_of
from passerelle.audit.ports import AuditTrail
from passerelle.authorization.model import BadTokenError, ExpiredTokenError, TokenClaims
from passerelle.errors import Unauthenticated, Unavailable

CHALLENGE = 'Bearer realm="passerelle"'
INVALID_TOKEN = f'{CHALLENGE}, error="invalid_token"'


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
        try:
            text = _bearer(event)
            if text is None:
                return self._refused(event, wired, at, issue="login", challenge=CHALLENGE)
            addresses = endpoints(event, wired.public_url)
            claims = wired.authorization.verify(text, at=at, endpoints=addresses)
        except ExpiredTokenError as refusal:
            return self._refused(event, wired, at, issue="expired", challenge=INVALID_TOKEN, of=refusal.claims)
        except BadTokenError as refusal:
            self._log.info("refused", reason=str(refusal), request_id=event["requestContext"]["requestId"])
            return self._refused(event, wired, at, issue="security", challenge=INVALID_TOKEN)
        return _policy(event, "Allow", principal=claims.client_id, context=_context(claims))

    def _refused(
        self,
        event: Mapping[str, Any],
        wired: AuthorizerWired,
        at: datetime,
        *,
        issue: str,
        challenge: str,
        of: TokenClaims | None = None,
    ) -> dict[str, Any]:
        """Refuse, and leave an audit record that names nobody unless the token was ours."""
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
        )
        wired.trail.append(audit_of(request, Touched(), refusal=Unauthenticated(code=issue)))
        context = {"issue": issue, "challenge": challenge}
        return _policy(event, "Deny", principal=caller.client_id or "unknown", context=context)


def _bearer(event: Mapping[str, Any]) -> str | None:
    """The bearer token, or None; raises BadTokenError if there are several Authorization headers."""
    sent = event.get("multiValueHeaders") or {n: [v] for n, v in (event.get("headers") or {}).items()}
    values = [value for name, values in sent.items() if name.lower() == "authorization" for value in values]
    if len(values) > 1:
        raise BadTokenError("several Authorization headers")
    scheme, _, token = values[0].strip().partition(" ") if values else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _context(claims: TokenClaims) -> dict[str, str]:
    """What the functions learn of the caller; API Gateway passes strings only."""
    optional = {"domain": claims.domain, "professional": claims.professional, "patient": claims.patient}
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
