"""Reading and verifying signed JWTs: the one place where client assertions and access tokens are checked.

RFC 7515 and RFC 7519 with the rules of RFC 8725 (JWT best practices): the algorithm is the one of the key,
never the one that the token asks for; keys in the header (`jwk`, `x5c`) count for nothing; critical
extensions are refused. Callers check the type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey, RSAKey
from joserfc.util import urlsafe_b64decode

from passerelle.authorization.keys import Jwk, algorithm_of
from passerelle.authorization.model import BadTokenError, ExpiredTokenError

MAX_TOKEN_CHARACTERS = 8192
_LAST_SECOND = 253_402_300_800  # the year 10000

_KEY_OF: Mapping[str, type[RSAKey | ECKey | OctKey]] = {"RSA": RSAKey, "EC": ECKey, "oct": OctKey}


class SignedToken:
    """A compact JWS. `header` and `claims` are what it says; nothing of it is true before `verify`."""

    def __init__(self, text: str) -> None:
        """Raises BadTokenError for whatever is not a compact JWS over a JSON object."""
        if not text.isascii() or len(text) > MAX_TOKEN_CHARACTERS:
            raise BadTokenError("not a token")
        try:
            self._signature = jws.extract_compact(text.encode())
            header = json.loads(urlsafe_b64decode(text.partition(".")[0].encode()), object_pairs_hook=_unique)
            claims = json.loads(self._signature.payload or b"", object_pairs_hook=_unique)
        except (JoseError, ValueError, TypeError, AttributeError, RecursionError) as error:
            # joserfc assumes that the header is an object, and fails in several ways when it is not
            raise BadTokenError("not a token") from error
        if not isinstance(header, dict) or not isinstance(claims, dict):
            raise BadTokenError("not a token")
        self.header: Mapping[str, Any] = header
        self.claims: Mapping[str, Any] = claims

    def verify(self, keys: Sequence[Jwk], *, algorithms: frozenset[str]) -> None:
        """Check the signature with the one key that `kid` names; raises BadTokenError."""
        if {"crit", "b64"} & self.header.keys():
            raise BadTokenError("critical extension")
        kid = self.header.get("kid")
        named = [jwk for jwk in keys if jwk["kid"] == kid]
        if len(named) != 1:
            raise BadTokenError("kid missing, unknown or ambiguous")
        (jwk,) = named
        algorithm = algorithm_of(jwk, algorithms)
        if algorithm is None or self.header.get("alg") != algorithm:
            raise BadTokenError("algorithm is not the one of the key")
        registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
        try:
            key = _KEY_OF[jwk["kty"]].import_key(dict(jwk))
            is_valid = jws.validate_compact(self._signature, key, registry=registry)
        except (JoseError, ValueError) as error:
            raise BadTokenError("signature cannot be checked") from error
        if not is_valid:
            raise BadTokenError("bad signature")

    def check_claims(
        self, *, issuer: str, subject: str | None = None, audience: str, at: datetime, leeway_seconds: int = 0
    ) -> None:
        """Check who speaks to whom and when; raises ExpiredTokenError, or BadTokenError for all else.

        `exp` and `jti` are required. The leeway is for `iat` and `nbf` of a clock ahead of ours; `exp` has
        none. A token for several audiences is refused: one of them could present it to another.
        """
        claims, now = self.claims, at.timestamp()
        if claims.get("iss") != issuer or (subject is not None and claims.get("sub") != subject):
            raise BadTokenError("wrong issuer or subject")
        if claims.get("aud") not in (audience, [audience]):
            raise BadTokenError("wrong audience")
        if not _is_text(claims.get("jti")):
            raise BadTokenError("no jti")
        if any(name in claims and self.seconds(name) > now + leeway_seconds for name in ("iat", "nbf")):
            raise BadTokenError("not valid yet")
        if self.seconds("exp") <= now:
            raise ExpiredTokenError("expired")

    def seconds(self, name: str) -> float:
        """A NumericDate claim, in epoch seconds; raises BadTokenError if it is absent or no finite number."""
        value = self.claims.get(name)
        # NaN is a number to Python's JSON parser, and would never be past
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LAST_SECOND:
            raise BadTokenError(f"{name} is not a date")
        return float(value)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object that says each thing once: two parsers must not read two tokens in one (RFC 8725 section 2.4)."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is repeated")
    return members


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and not value.isspace() and value != ""
