"""Callers whose token says what a test wants: the authorizer's word is put in, all the rest is the real exchange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

from local.gateway import Response
from tests.exchange import Client, Exchange


class Somebody(Client):
    """A caller by the context that the authorizer passes on, as API Gateway has it: strings by name.

    Not for several threads: what is put in holds for the whole gateway as long as a request takes.
    """

    def __init__(self, exchange: Exchange, *, scope: str = "system/*.cruds", **context: str) -> None:
        super().__init__(exchange, context["client_id"], scope)
        self.context: Mapping[str, Any] = {"organisation": "1990000999", "jti": "t", "scope": scope, **context}

    def token(self) -> str:
        return "any"

    def request(self, method: str, path: str, json_body: Any = None, **headers: str) -> Response:
        with patch.object(self.exchange.gateway, "_authorize", lambda route, event: self.context):
            return super().request(method, path, json_body, **headers)
