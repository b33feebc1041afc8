"""Subscription: its interactions and operations (Subscriptions R5 Backport, IHE ITI-94)."""

from __future__ import annotations

from passerelle import wiring
from passerelle.api.app import FhirApp
from passerelle.api.subscriptions import serve_subscriptions

handler = FhirApp("subscriptions", provide=wiring.subscriptions)

serve_subscriptions(handler)
