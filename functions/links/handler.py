"""Temporary links: what somebody outside the network opens with a link and nothing else."""

from __future__ import annotations

from passerelle import wiring
from passerelle.api.links import LinkApp

handler = LinkApp("links", provide=wiring.links)
