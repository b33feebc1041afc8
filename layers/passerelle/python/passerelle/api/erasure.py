"""Erasing a person over HTTP: first without a confirmation, which says what would go, then with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from passerelle.access import Touched
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply, Wired

if TYPE_CHECKING:
    from passerelle.erasure.service import ErasureService


class WiredErasure(Wired, Protocol):
    @property
    def erasure(self) -> Callable[[], ErasureService]: ...


def serve_erasure(app: FhirApp) -> None:
    """Declare `Patient/{id}/$erase`."""
    app.operation("Patient", "/{id}/$erase", needs="d")(_erase)


def _erase(call: Call, wired: WiredErasure) -> Reply:
    from passerelle.fhir.erasure import parse_order, render_erased, render_proposal  # a person is erased once

    terms, is_export_declined, confirmation = parse_order(call.resource)
    if confirmation:
        return Reply(
            body=render_erased(wired.erasure().confirm(call.request, call.id, terms, confirmation)), touched=COMMITTED
        )
    proposal = wired.erasure().propose(call.request, call.id, terms, is_export_declined=is_export_declined)
    touched = Touched.of(proposal.patients, [f"Patient/{each}" for each in proposal.patients])
    return Reply(body=render_proposal(proposal), touched=touched)
