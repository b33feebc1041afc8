"""What the authorization server says of itself, from what it does: two documents with the same facts.

RFC 8414 and IHE IUA ITI-103 (`.well-known/oauth-authorization-server`), SMART App Launch 2.2 "Conformance"
(`.well-known/smart-configuration`), RFC 8705 section 3.3 (certificate-bound tokens).
"""

from __future__ import annotations

from typing import Any, Final

from passerelle.authorization import codes
from passerelle.authorization.authentication import ASSERTION_ALGORITHMS, METHODS
from passerelle.authorization.service import GRANT_TYPE, SCOPES_SUPPORTED, Endpoints

CAPABILITIES: Final = (
    "authorize-post",
    "client-confidential-asymmetric",
    "client-confidential-symmetric",
    "client-public",
    "launch-standalone",
    "permission-patient",
    "permission-user",
    "permission-v2",
)


def server_metadata(endpoints: Endpoints) -> dict[str, Any]:
    """Of IUA and RFC 8414. Access tokens are JWTs."""
    return {**_facts(endpoints), "access_token_format": "ihe-jwt"}


def smart_configuration(endpoints: Endpoints) -> dict[str, Any]:
    return {**_facts(endpoints), "capabilities": list(CAPABILITIES)}


def _facts(endpoints: Endpoints) -> dict[str, Any]:
    algorithms = sorted(ASSERTION_ALGORITHMS, reverse=True)
    methods = list(METHODS)
    return {
        "issuer": endpoints.root,
        "jwks_uri": endpoints.jwks,
        "token_endpoint": endpoints.token,
        "authorization_endpoint": endpoints.authorize,
        "authorization_response_iss_parameter_supported": True,
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": [codes.CHALLENGE_METHOD],
        "grant_types_supported": [GRANT_TYPE, codes.GRANT_TYPE],
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": algorithms,
        "revocation_endpoint": endpoints.revoke,
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
        "introspection_endpoint": endpoints.introspect,
        "introspection_endpoint_auth_methods_supported": [*methods, "Bearer"],
        "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
        "scopes_supported": list(SCOPES_SUPPORTED),
        "tls_client_certificate_bound_access_tokens": True,
    }
