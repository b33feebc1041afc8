"""The public keys of others: which are good enough, and those that a client publishes at an address of its own.

RFC 7517 (JWK sets), RFC 7518 (sizes), SMART App Launch 2.2 "Client authentication: asymmetric" (a client registers the
URL of its keys, or the keys). Whatever a set holds that is not understood is passed over (RFC 7517 section 5).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

Jwk = Mapping[str, Any]

FRESH: Final = timedelta(minutes=5)  # so long a set is used as it is: a key that was taken out of it works no longer
STALE: Final = timedelta(hours=1)  # and so long while its address does not answer
RETRY: Final = timedelta(minutes=1)  # an unknown kid, or a failure, makes no more calls than this
MAX_SET_BYTES: Final = 64 * 1024
MAX_KEYS: Final = 50
_MAX_SETS: Final = 200  # that a process holds

_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_MODULUS_CHARACTERS = range(342, 684)  # 2048 to 4096 bits in base64url: verifying with a huge key takes seconds
_MAX_EXPONENT_CHARACTERS = 8
_COORDINATE_CHARACTERS = {"P-256": 43, "P-384": 64}

_ALGORITHMS_OF = {
    ("RSA", None): frozenset({"RS256", "RS384"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-256"): frozenset({"ES256"}),
    ("oct", None): frozenset({"HS256"}),
}


def algorithm_of(jwk: Jwk, algorithms: frozenset[str]) -> str | None:
    """The one of the algorithms that a key is used with: the one it says, else the only one for its kind."""
    usable = _ALGORITHMS_OF.get((jwk.get("kty", ""), jwk.get("crv")), frozenset()) & algorithms
    if "alg" in jwk:
        usable &= {jwk["alg"]}
    return next(iter(usable)) if len(usable) == 1 else None


def check_public_key(jwk: Jwk) -> None:
    """Raises ValueError, in our own words, for a key that signatures are not verified with."""
    if _PRIVATE_MEMBERS & jwk.keys():
        raise ValueError("a registered key holds private material")
    if not isinstance(jwk.get("kid"), str) or not jwk["kid"]:
        raise ValueError("a registered key has no kid")
    if jwk.get("use", "sig") != "sig":
        raise ValueError("a registered key is not for signatures")
    match jwk:
        case {"kty": "RSA", "n": str(modulus), "e": str(exponent)}:
            if len(modulus) not in _MODULUS_CHARACTERS or not 0 < len(exponent) <= _MAX_EXPONENT_CHARACTERS:
                raise ValueError("a registered RSA key has fewer than 2048 bits, or more than 4096")
        case {"kty": "EC", "crv": str(curve), "x": str(x), "y": str(y)}:
            if not len(x) == len(y) == _COORDINATE_CHARACTERS.get(curve):
                raise ValueError("a registered EC key is on no curve that is used here")
        case _:
            raise ValueError("a registered key is of no kind that is used here")


def read_key_set(content: bytes) -> Sequence[Jwk]:
    """The usable keys of a JWK set; raises ValueError if it is none."""
    try:
        found = json.loads(content)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("not a JWK set") from None
    if not isinstance(found, list):
        raise ValueError("not a JWK set")
    return [each for each in found[:MAX_KEYS] if isinstance(each, dict) and _is_usable(each)]


def _is_usable(jwk: Jwk) -> bool:
    try:
        check_public_key(jwk)
    except ValueError:
        return False
    return True


class KeySetUnavailableError(Exception):
    """No key set came from an address: nobody answered, or something else than one."""


class KeySets(Protocol):
    def fetch(self, url: str) -> Sequence[Jwk]:
        """The usable keys published at an address; raises KeySetUnavailableError."""


@dataclass(frozen=True, slots=True)
class _Held:
    keys: Sequence[Jwk]
    fetched_at: datetime | None  # None: never yet
    tried_at: datetime


class PublishedKeys:
    """The sets of many addresses, held by this process: asking for a key seldom makes a call.

    `sets` is asked for what fetches them when the first is: most processes need none.
    """

    def __init__(self, sets: Callable[[], KeySets]) -> None:
        self._sets = sets
        self._held: dict[str, _Held] = {}

    def named(self, url: str, kid: object, at: datetime) -> Sequence[Jwk]:
        """The keys of the set with that kid; none if the set is too old and its address does not answer."""
        held = self._held.get(url)
        found = _named(held, kid)
        is_fresh = held is not None and held.fetched_at is not None and at - held.fetched_at < FRESH
        may_try = held is None or at - held.tried_at >= RETRY
        if (not is_fresh or not found) and may_try:
            held = self._fetched(url, held, at)
            found = _named(held, kid)
        if held is None or held.fetched_at is None or at - held.fetched_at >= STALE:
            return ()
        return found

    def _fetched(self, url: str, held: _Held | None, at: datetime) -> _Held:
        try:
            new = _Held(self._sets().fetch(url), at, at)
        except KeySetUnavailableError:
            new = _Held(held.keys if held else (), held.fetched_at if held else None, at)
        self._held.pop(url, None)
        if len(self._held) >= _MAX_SETS:
            self._held.pop(next(iter(self._held)))  # the one that was fetched longest ago
        self._held[url] = new
        return new


def _named(held: _Held | None, kid: object) -> Sequence[Jwk]:
    return [jwk for jwk in held.keys if jwk["kid"] == kid] if held else ()
