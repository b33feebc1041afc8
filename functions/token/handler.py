"""The authorization server: tokens, the keys they are verified with, and the discovery document of SMART."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passerelle import wiring
from passerelle.api.oauth import OAuthApp, OAuthCall, OAuthWired
from passerelle.authorization.service import discovery_document

handler = OAuthApp("token", provide=wiring.token)


@handler.post("/oauth2/token")
def issue(call: OAuthCall, wired: OAuthWired) -> Mapping[str, Any]:
    token = wired.authorization.issue(call.form, at=call.at, endpoints=call.endpoints)
    return {
        "access_token": token.access_token,
        "token_type": "bearer",
        "expires_in": token.expires_in_seconds,
        "scope": token.scope,
    }


@handler.get("/oauth2/jwks")
def publish_keys(call: OAuthCall, wired: OAuthWired) -> Mapping[str, Any]:
    return {"keys": list(wired.authorization.public_keys())}


@handler.get("/fhir/.well-known/smart-configuration")
def discover(call: OAuthCall, wired: OAuthWired) -> Mapping[str, Any]:
    return discovery_document(call.endpoints)
