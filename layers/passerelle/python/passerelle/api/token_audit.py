"""Audit records of the endpoints that tokens are asked at (IHE IUA ITI-71, BALP-7): what was given, refused, to whom.

Whoever was refused proved nothing: the client that a refused request names is kept as part of what was asked, and
nothing secret of it. What was issued is recorded by what the token itself says.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from passerelle.access import Caller, Request, Scopes, Touched
from passerelle.api.app import address_of, external_id_of
from passerelle.audit.model import AuditRecord, audit_of
from passerelle.authorization.model import BadTokenError
from passerelle.authorization.service import claims_from_map
from passerelle.authorization.signatures import SignedToken
from passerelle.errors import Forbidden, PasserelleError

# The parameters that hold no secret; codes and assertions are one.
_KEPT: Final = ("grant_type", "client_id", "scope", "requested_token_type", "token_type_hint")
_MAX_CHARACTERS = 200


def token_record(
    event: Mapping[str, Any],
    *,
    base_url: str,
    at: datetime,
    form: Mapping[str, str],
    basic: tuple[str, str] | None,
    answer: Mapping[str, Any],
    refusal: PasserelleError | None = None,
    reason: str = "",
) -> AuditRecord:
    """`form` is empty where it could not be read; `reason` is ours, of a refusal in the words of OAuth."""
    claimed = basic[0] if basic else form.get("client_id") or _subject(form.get("client_assertion", ""))
    asked = {name: form[name][:_MAX_CHARACTERS] for name in _KEPT if name in form} | (
        {"client_id": claimed[:_MAX_CHARACTERS]} if claimed else {}
    )
    is_refused = refusal is not None or bool(reason)
    request = Request(
        caller=_caller("" if is_refused else claimed, answer),
        name=event["path"].rpartition("/")[2],
        action="E",
        request_id=event["requestContext"]["requestId"],
        at=at,
        base_url=base_url,
        query=f"{event['path']}?{urlencode(asked)}" if asked else event["path"],
        external_id=external_id_of(event),
        address=address_of(event),
    )
    said = Forbidden(code=reason) if reason else refusal
    (record,) = audit_of(request, Touched(), refusal=said)
    return record


def _caller(client_id: str, answer: Mapping[str, Any]) -> Caller:
    """Who got a token, as it says; who did anything else, by its id alone."""
    try:
        claims = claims_from_map(SignedToken(answer["access_token"]).claims)
    except (KeyError, BadTokenError):
        return Caller(client_id=client_id, organisation="", role="", scopes=Scopes(frozenset()), token_id="")
    return Caller(
        client_id=claims.client_id,
        organisation=claims.organisation,
        role=claims.role,
        scopes=Scopes(frozenset()),
        token_id=claims.token_id,
        professional=claims.professional,
        profession=claims.profession,
        person=claims.person,
        name=claims.name,
        purpose=claims.purpose,
    )


def _subject(assertion: str) -> str:
    """Whom an assertion speaks of, which nobody checked."""
    try:
        return str(SignedToken(assertion).claims.get("sub", ""))
    except BadTokenError:
        return ""
