"""The prescriber's signature: what is signed, and whether a detached JWS is one over it.

E-prescription contract, section 16; RFC 8785 (canonical JSON), RFC 7515 appendix F (detached content), ES256
or ES384. The key is one bound to the prescriber: keys and certificates in the header count for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import rfc8785
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from passerelle.jws import Detached
from passerelle.patients.model import Traits
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import Group

NOT_CHECKED = "not-checked"  # the clinical checks did not run: said in the signed bytes, never left out
_INS_SYSTEMS = ("urn:oid:1.2.250.1.213.1.4.8", "urn:oid:1.2.250.1.213.1.4.10")  # NIR, and its test root
_ALGORITHMS = {"P-256": "ES256", "P-384": "ES384"}

Jwk = Mapping[str, Any]


def content(
    group: Group,
    lines: Sequence[Mapping[str, Any]],
    patient: Traits,
    *,
    digest: str = NOT_CHECKED,
    overrides: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The canonical JSON to sign; raises RX-INVALID for numbers that have no canonical form.

    `digest` is that of the clinical check, `overrides` the findings of it that are accepted, and why.
    """
    form: dict[str, Any] = {
        "number": group.number,
        "version": group.version,
        "authoredOn": group.authored_on.isoformat(),
        "requester": group.prescriber,
        "patient": {
            "ins": [f"{system}|{value}" for system, value in patient.identifiers if system in _INS_SYSTEMS],
            "family": list(patient.family_names),
            "given": list(patient.given_names),
            "birthDate": patient.birth_date.isoformat() if patient.birth_date else None,
            "gender": patient.gender,
        },
        "cdsDigest": digest,
        "overrides": list(overrides),
        "lines": list(lines),
    }
    return _canonical(form)


def _canonical(form: Mapping[str, Any]) -> str:
    try:
        return rfc8785.dumps(dict(form)).decode()
    except rfc8785.CanonicalizationError:
        raise rx("RX-INVALID", "a number of the prescription has no canonical form", issue="value") from None


def change(
    group: Group,
    *,
    line: int,
    version: int,
    ask: int,
    requester: str,
    signed_on: date,
    request: Mapping[str, Any],
    digest: str,
    overrides: Sequence[Mapping[str, Any]],
) -> str:
    """The canonical JSON to sign so that a line, as it is in this version, becomes `request`; see `content`."""
    form = {
        "number": group.number,
        "line": line,
        "version": version,
        "ask": ask,
        "requester": requester,
        "signedOn": signed_on.isoformat(),
        "cdsDigest": digest,
        "overrides": list(overrides),
        "change": request,
    }
    return _canonical(form)


def protected_header(keys: Sequence[Jwk]) -> dict[str, str]:
    """The header to sign with: that of the first bound key, or of any ES256 key when none is bound yet."""
    named = next((key for key in keys if _is_for_signing(key)), None)
    return {"alg": _ALGORITHMS[named["crv"]], "kid": named["kid"]} if named else {"alg": "ES256"}


def is_signature(text: str, signed: str, keys: Sequence[Jwk]) -> bool:
    """Whether `text` (`header..signature`) is a JWS over exactly these bytes, by one of the keys."""
    try:
        detached = Detached(text, signed.encode())
        named = [key for key in keys if _is_for_signing(key) and key["kid"] == detached.header.get("kid")]
        return len(named) == 1 and detached.is_by(ECKey.import_key(dict(named[0])), _ALGORITHMS[named[0]["crv"]])
    except (JoseError, ValueError, TypeError):
        return False  # no signature, or a key that is none


def _is_for_signing(key: Jwk) -> bool:
    return key.get("kty") == "EC" and key.get("crv") in _ALGORITHMS and key.get("use", "sig") == "sig"
