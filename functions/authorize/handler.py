"""The gate of the API: turns the access token of a request into the caller that functions see, or refuses."""

from __future__ import annotations

from passerelle import wiring
from passerelle.api.authorizer import TokenAuthorizer

handler = TokenAuthorizer("authorize", provide=wiring.authorize)
