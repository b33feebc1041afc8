"""Authorization codes: what one stands for, how it is redeemed, and that it is redeemed once.

RFC 6749 sections 4.1.3 and 10.5, RFC 7636 (PKCE, S256 only), IHE IUA ITI-71. Who has a code and not the verifier, the
client and the address that it was made for, has used it up; who brings one again ends the token that it gave.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from passerelle.authorization.model import Client, InvalidGrantError
from passerelle.authorization.ports import Clients, Codes

GRANT_TYPE: Final = "authorization_code"
CHALLENGE_METHOD: Final = "S256"
CODE_LIFE: Final = timedelta(seconds=60)
CODE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
CHALLENGE: Final = CODE  # SHA-256 in base64url
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Who logged in, and what the client may have in their name; the names are those of `TokenClaims`."""

    client_id: str
    redirect_uri: str
    challenge: str
    scope: str
    expires_at: datetime
    subject: str
    name: str
    role: str
    organisation: str
    purpose: str
    organisation_name: str = ""
    professional: str | None = None
    profession: str | None = None
    patient: str | None = None
    person: str | None = None


class CodeUsedError(Exception):
    """The code was redeemed before; `token_id` is the token that it gave, good until `until`."""

    def __init__(self, token_id: str, until: datetime) -> None:
        self.token_id = token_id
        self.until = until
        super().__init__("code used before")


def digest_of(secret: str) -> str:
    """What is kept of a code, a state or a cookie: each has 256 random bits, no salt is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def challenge_of(verifier: str) -> str:
    """RFC 7636 section 4.2, method S256."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


class CodeDesk:
    """Takes codes in."""

    def __init__(self, *, codes: Codes, clients: Clients) -> None:
        self._codes = codes
        self._clients = clients

    def redeem(self, form: Mapping[str, str], client: Client, *, at: datetime, token_id: str, until: datetime) -> Grant:
        """What the token `token_id`, good until then, is to say; raises InvalidGrantError."""
        code = form.get("code", "")
        if not CODE.fullmatch(code):
            raise InvalidGrantError("no code")
        grant = self._codes.find(digest_of(code))
        if grant is None:
            raise InvalidGrantError("unknown code")
        try:
            self._codes.use(digest_of(code), token_id=token_id, until=until)
        except CodeUsedError as used:
            self._clients.revoke(grant.client_id, used.token_id, expires_at=used.until, at=at)
            raise InvalidGrantError("code used before") from used
        if grant.expires_at <= at:
            raise InvalidGrantError("code too old")
        if grant.client_id != client.id:
            raise InvalidGrantError("code of another client")
        if form.get("redirect_uri") != grant.redirect_uri:
            raise InvalidGrantError("another redirect URI")
        verifier = form.get("code_verifier", "")
        if not _VERIFIER.fullmatch(verifier) or not hmac.compare_digest(challenge_of(verifier), grant.challenge):
            raise InvalidGrantError("wrong verifier")
        return grant
