"""Links over HTTP: `$share`, `$links`, `$revoke` of a document for its readers; for anyone, what links lead to.

Whoever has the link is somebody outside the network, with a browser and no token of ours. GET shows a page with one
button, and counts nothing: messengers and mail filters open links by themselves. POST, which only the button sends, is
one opening. Every refusal is one page (404), the same in every byte, and no page tells anything of the document.

The QR code of a prescription leads to a page of its own, which is the same for every number, and looks nothing up: what
opens the prescription is in the fragment, which stays in the browser.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from mimetypes import guess_extension
from typing import Any, Protocol

from aws_lambda_powertools import Logger

from passerelle.access import Touched
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply, Wired, address_of, places
from passerelle.api.pages import BUSY, INVITATION, PRESCRIPTION, PRIVATE, REFUSAL, page_headers
from passerelle.api.routes import BASE
from passerelle.documents.links import LinkOpener, LinkService
from passerelle.documents.model import Release
from passerelle.errors import NotFound, Unavailable
from passerelle.fhir.links import parse_named, parse_terms, render_issued, render_link, render_links

PATH = "/links/{token}"
PRESCRIPTION_PATH = f"{BASE}/r/{{number}}"


class WiredLinks(Wired, Protocol):
    @property
    def links(self) -> LinkService: ...


def serve_links(app: FhirApp) -> None:
    """Declare what issuers and patients do with the links of a document."""
    app.operation("DocumentReference", "/{id}/$share", needs="r", transaction="ITI-68")(_share)
    app.operation("DocumentReference", "/{id}/$links", needs="r", method="GET", transaction="ITI-67")(_links)
    app.operation("DocumentReference", "/{id}/$revoke", needs="r", transaction="ITI-68")(_revoke)


def _share(call: Call, wired: WiredLinks) -> Reply:
    issued = wired.links.share(call.request, call.id, parse_terms(call.resource, call.request.at))
    url = f"{call.request.base_url.removesuffix('/fhir')}{PATH.format(token=issued.token)}"
    return Reply(status=201, body=render_issued(issued, url), touched=COMMITTED)


def _links(call: Call, wired: WiredLinks) -> Reply:
    found = wired.links.of_document(call.request, call.id)
    touched = Touched.of([call.id.partition("-")[0]], [f"DocumentReference/{call.id}"])
    return Reply(body=render_links(found, call.request.at), touched=touched)


def _revoke(call: Call, wired: WiredLinks) -> Reply:
    link = wired.links.revoke(call.request, call.id, parse_named(call.resource))
    return Reply(body=render_link(link, call.request.at), touched=COMMITTED)


# --- for whoever has the link -------------------------------------------------------------------------------------


class WiredOpener(Protocol):
    """What `wiring` gives the function that opens links; `storage_origin` is where large contents come from."""

    @property
    def opener(self) -> LinkOpener[Release]: ...

    @property
    def public_url(self) -> str: ...

    @property
    def storage_origin(self) -> str: ...

    @property
    def now(self) -> Callable[[], datetime]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRoute:
    method: str
    gateway_path: str = PATH


class LinkApp:
    """A Lambda handler of what links lead to. `provide`, a function of `wiring`, gives the services."""

    def __init__(self, name: str, *, provide: Callable[[], WiredOpener]) -> None:
        self.name = name
        self.routes = (
            LinkRoute(method="GET"),
            LinkRoute(method="POST"),
            LinkRoute(method="GET", gateway_path=PRESCRIPTION_PATH),
        )
        self._provide = provide
        self._log = Logger(service=f"passerelle-{name}")
        if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
            provide()  # at INIT, where the processor is free and fast

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Serve one API Gateway REST proxy event (payload format 1.0)."""
        request_id = event["requestContext"]["requestId"]
        try:
            answer = self._serve(event, request_id)
        except NotFound:
            answer = _page(404, REFUSAL)
        except Exception as failure:  # noqa: BLE001 - the last line: a defect must not tell the caller anything
            self._log.error("failed", failure=type(failure).__name__, places=places(failure), request_id=request_id)
            answer = _page(Unavailable.status, BUSY)
        answer["headers"]["X-Request-Id"] = request_id
        route = f"{event['httpMethod']} {PRESCRIPTION_PATH if _is_prescription(event) else PATH}"
        self._log.info("answered", route=route, status=answer["statusCode"], request_id=request_id)
        return answer

    def _serve(self, event: Mapping[str, Any], request_id: str) -> dict[str, Any]:
        if _is_prescription(event):
            return _page(200, PRESCRIPTION)
        wired = self._provide()
        token, at = event["pathParameters"]["token"], wired.now()
        if event["httpMethod"] == "GET":
            if not wired.opener.leads_somewhere(token, at=at):
                raise NotFound()
            return _page(200, INVITATION, wired.storage_origin)
        opened = wired.opener.open(
            token, at=at, request_id=request_id, base_url=f"{wired.public_url}{BASE}", address=address_of(event)
        )
        return _released(opened.content)


def _is_prescription(event: Mapping[str, Any]) -> bool:
    return str(event["path"]).startswith(PRESCRIPTION_PATH.partition("{")[0])


def _page(status: int, page: str, storage_origin: str = "") -> dict[str, Any]:
    return {"statusCode": status, "headers": page_headers(storage_origin), "body": page, "isBase64Encoded": False}


def _released(content: Release) -> dict[str, Any]:
    """The bytes, as a file without a name that tells anything; or where they are."""
    if content.url is not None:
        return {
            "statusCode": 303,
            "headers": {**PRIVATE, "Location": content.url},
            "body": "",
            "isBase64Encoded": False,
        }
    headers = {
        **PRIVATE,
        "Content-Type": content.content_type,
        "Content-Disposition": f'attachment; filename="document{guess_extension(content.content_type) or ""}"',
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    body = base64.b64encode(content.data or b"").decode()
    return {"statusCode": 200, "headers": headers, "body": body, "isBase64Encoded": True}
