"""A licensed base of knowledge behind a CDS Hooks service: one POST for each check, by `outbound.py`.

CDS Hooks 2.0: the caller proves who it is with a JWT of its own; cards say what was found. They do not say what a
service knows, so nothing is covered by their absence. No answer in time, one of another form, or more than is read:
nothing was checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import simplejson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry

from passerelle.api.outbound import Outbound, OutboundError
from passerelle.errors import PasserelleError
from passerelle.fhir.cds_hooks import render_order_sign
from passerelle.medicines.errors import KnowledgeUnavailable
from passerelle.medicines.model import (
    CONTRAINDICATION,
    DISCOURAGED,
    PRECAUTION,
    Concept,
    Context,
    Finding,
    Kind,
    NotCovered,
    Product,
    Report,
    Source,
    Treatment,
)
from passerelle.medicines.report import Weight, digest, finding, ordered, told

_LEVELS: Final = {"critical": CONTRAINDICATION, "warning": DISCOURAGED, "info": PRECAUTION}
_ALGORITHMS: Final = frozenset({"ES256", "ES384", "RS384"})
_LIFE: Final = timedelta(minutes=1)
_MAX_BYTES: Final = 256 * 1024
_MAX_CARDS: Final = 100
_MAX_CHARACTERS: Final = 8_000  # of one text of a card


class HookedKnowledge:
    """`medicines.ports.KnowledgeBase`. `key` gives the private JWK that the service knows the public half of."""

    def __init__(
        self,
        outbound: Outbound,
        *,
        url: str,
        issuer: str,
        key: Callable[[], str],
        now: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        self._outbound = outbound
        self._url = url
        self._issuer = issuer
        self._key = key
        self._now = now
        self._new_id = new_id

    def resolve(self, treatment: Treatment) -> Concept | NotCovered:
        return _not_covered(treatment.key, treatment.text, treatment.codings)

    def product(self, codings: Sequence[str]) -> Product | None:
        return None

    def check(self, treatments: Sequence[Treatment], context: Context) -> Report:
        at = self._now()
        new = [each.key for each in treatments if each.is_new]
        findings = ordered(_finding(card, new, at) for card in self._cards(treatments, context, at)) if new else ()
        not_covered = [_not_covered(each.key, each.text, each.codings) for each in treatments]
        not_covered += [_not_covered(each.key, each.text, each.codings) for each in context.allergies]
        return Report(
            base_id=urlsplit(self._url).hostname or "",
            base_version="unstated",
            base_date=at.date(),
            findings=findings,
            checked_pairs=0,
            not_covered=tuple(not_covered),
            digest=digest({"service": self._url, "findings": [told(each) for each in findings]}),
            sources=tuple(dict.fromkeys(each.source for each in findings if each.source)),
        )

    def _cards(self, treatments: Sequence[Treatment], context: Context, at: datetime) -> Sequence[Mapping[str, Any]]:
        asked = render_order_sign(treatments, context, instance=self._new_id(), person=self._new_id(), at=at)
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Authorization": f"Bearer {self._proof(at)}",
        }
        body = simplejson.dumps(asked, use_decimal=True).encode()
        try:
            answer = self._outbound.request("POST", self._url, headers=headers, body=body, max_bytes=_MAX_BYTES + 1)
        except OutboundError as error:
            raise KnowledgeUnavailable(error.reason) from error
        if answer.status != 200 or len(answer.body) > _MAX_BYTES:
            raise KnowledgeUnavailable("no answer that can be read")
        try:
            said = json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise KnowledgeUnavailable("not JSON") from error
        match said:
            case {"cards": list(cards)} if len(cards) <= _MAX_CARDS:
                return cards
        raise KnowledgeUnavailable("no cards")

    def _proof(self, at: datetime) -> str:
        now = int(at.timestamp())
        claims = {
            "iss": self._issuer,
            "aud": self._url,
            "jti": self._new_id(),
            "iat": now,
            "exp": now + int(_LIFE.total_seconds()),
        }
        try:
            jwk: dict[str, Any] = json.loads(self._key())
            header = {"alg": jwk["alg"], "kid": jwk["kid"], "typ": "JWT"}
            if jwk["alg"] not in _ALGORITHMS:
                raise ValueError("no algorithm of CDS Hooks")
            return jwt.encode(header, claims, JWKRegistry.import_key(jwk), algorithms=[jwk["alg"]])
        except (PasserelleError, JoseError, ValueError, LookupError, TypeError) as error:
            raise KnowledgeUnavailable("no key to ask with") from error


def _finding(card: Any, about: Sequence[str], at: datetime) -> Finding:
    """What a card says, of all that is new: it does not tell which of them it is about."""
    match card:
        case {"summary": str(summary), "indicator": str(indicator), "source": {"label": str(label)}} if (
            indicator in _LEVELS
        ):
            detail = _text(card.get("detail"))
            said = json.dumps([label, indicator, summary, detail]).encode()
            found = finding(
                Kind.ADVICE,
                Weight(level=_LEVELS[indicator]),
                rule=f"card:{hashlib.sha256(said).hexdigest()[:32]}",
                substances=(),
                about=about,
                title=_text(summary),
                text=detail,
                source=Source(name=_text(label), date=at.date(), licence=""),
            )
            return replace(found, override_reasons=tuple(_reasons(card.get("overrideReasons"))))
    raise KnowledgeUnavailable("a card of another form")


def _reasons(said: Any) -> list[tuple[str, str]]:
    reasons: list[tuple[str, str]] = []
    for each in said if isinstance(said, list) else ():
        match each:
            case {"code": str(code), "display": str(display)}:
                reasons.append((f"{each.get('system', '')}|{code}", display))
    return reasons


def _text(said: Any) -> str:
    if said is None:
        return ""
    if not isinstance(said, str) or len(said) > _MAX_CHARACTERS:
        raise KnowledgeUnavailable("a text of another form")
    return said


def _not_covered(key: str, text: str, codings: Sequence[str]) -> NotCovered:
    return NotCovered(key=key, label=text or next(iter(codings), ""), reason="no-rules")
