"""Where people log in: sends them to their OpenID provider, and back to their application with a code."""

from __future__ import annotations

from passerelle import wiring
from passerelle.api.login import LoginApp

handler = LoginApp("login", provide=wiring.login)
