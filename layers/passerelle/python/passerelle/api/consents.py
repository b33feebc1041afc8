"""Consents over HTTP (IHE PCF 1.1.1, Access Consent ITI-108): what the record has for every type, but never deleted."""

from __future__ import annotations

from typing import Final

from passerelle.api.app import FhirApp
from passerelle.api.interactions import ALL, serve

TYPE: Final = "Consent"
_TRANSACTION: Final = ("ITI-108",)
_SERVED: Final = tuple(name for name in ALL if name not in ("delete", "conditional-delete"))


def serve_consents(app: FhirApp) -> None:
    """Declare the interactions on Consent. What ends one is an update of its status."""
    codes = dict.fromkeys(_SERVED, _TRANSACTION)
    serve(app, TYPE, _SERVED, transactions=_TRANSACTION, codes_of=codes)
