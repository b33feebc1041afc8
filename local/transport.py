"""HTTP clients without a network: httpx over the gateway in this process."""

from __future__ import annotations

import httpx

from local.gateway import Gateway


class GatewayTransport(httpx.BaseTransport):
    """Requests are answered in the calling context, so that a meter of the caller counts what they cost."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._gateway.request(
            request.method, request.url.raw_path.decode(), list(request.headers.multi_items()), request.read()
        )
        return httpx.Response(answer.status, headers=list(answer.headers), content=answer.body, request=request)
