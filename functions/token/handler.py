"""The authorization server: tokens, the keys they are verified with, what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passerelle import wiring
from passerelle.api.oauth import MethodNotAllowedError, OAuthApp, OAuthCall, OAuthWired
from passerelle.authorization.metadata import server_metadata, smart_configuration

handler = OAuthApp("token", provide=wiring.token)


@handler.post("/oauth2/token")
def issue(call: OAuthCall, wired: OAuthWired) -> Mapping[str, Any]:
    token = wired.authorization.issue(call.form, at=call.at, endpoints=call.endpoints, shown=call.shown)
    return {
        "access_token": token.access_token,
        "token_type": "Bearer",
        "expires_in": token.expires_in_seconds,
        "scope": token.scope,
    }


@handler.get("/oauth2/jwks")
def publish_keys(call: OAuthCall, wired: OAuthWired) -> Mapping[str, Any]:
    return {"keys": list(wired.authorization.public_keys())}


@handler.post("/oauth2/revoke")
def revoke(call: OAuthCall, wired: OAuthWired) -> Mapping[str, Any]:
    wired.authorization.revoke(call.form, at=call.at, endpoints=call.endpoints, shown=call.shown)
    return {}


@handler.post("/oauth2/introspect")
def introspect(call: OAuthCall, wired: OAuthWired) -> Mapping[str, Any]:
    return wired.authorization.introspect(call.form, at=call.at, endpoints=call.endpoints, shown=call.shown)


@handler.get("/oauth2/introspect")
def introspect_by_get(call: OAuthCall, wired: OAuthWired) -> Mapping[str, Any]:
    raise MethodNotAllowedError("GET")  # a token in a URL is a token in logs


@handler.get("/.well-known/oauth-authorization-server")
def describe(call: OAuthCall, wired: OAuthWired) -> Mapping[str, Any]:
    return server_metadata(call.endpoints)


@handler.get("/fhir/.well-known/smart-configuration")
def discover(call: OAuthCall, wired: OAuthWired) -> Mapping[str, Any]:
    return smart_configuration(call.endpoints)
