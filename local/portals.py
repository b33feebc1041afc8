"""The applications of the synthetic region that people log in through: public clients, on this machine."""

from __future__ import annotations

from typing import Final

from local.region import PARTICIPANTS
from passerelle.access import Scopes
from passerelle.authorization.model import Client
from passerelle.directory.model import Role

REDIRECT_URI: Final = "http://127.0.0.1:8765/callback"
_READS: Final = "ITI-66 ITI-67 ITI-68 ITI-78"
_OPERATOR: Final = next(each.organisation for each in PARTICIPANTS if each.id == "auditor")

PORTALS: Final = (
    Client(
        id="portal-professionals",
        organisation=_OPERATOR,
        role=Role.PRACTICE,
        scopes=Scopes.parse(f"{_READS} ITI-65 ITI-81 TD0.2 user/*.cruds"),
        jwks=(),
        redirect_uris=(REDIRECT_URI,),
        providers=("pro-sante-connect",),
        is_public=True,
    ),
    Client(
        id="portal-patients",
        organisation=_OPERATOR,
        role=Role.PATIENT,
        scopes=Scopes.parse(f"{_READS} ITI-81 TD3.3a TD3.3d patient/*.cruds"),
        jwks=(),
        redirect_uris=(REDIRECT_URI,),
        providers=("carte-vitale",),
        is_public=True,
    ),
)
