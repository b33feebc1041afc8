"""National identity rules, read from a data module (`data/identity_fr.json`): another country adds its own file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from passerelle.errors import Unprocessable
from passerelle.patients.model import Traits


class IdentityScheme:
    """The identity rules of one country, for one stage of deployment."""

    def __init__(self, rules: Mapping[str, Any], stage: str) -> None:
        self._rules = rules
        self._stage = stage

    @property
    def reliability(self) -> Mapping[str, Any]:
        """Where a Patient says how far its identity was verified, and with which codes."""
        rules: Mapping[str, Any] = self._rules["identityReliability"]
        return rules

    @property
    def systems(self) -> frozenset[str]:
        return frozenset(self._rules["nationalIdentifiers"])

    def national_identifier(self, traits: Traits) -> tuple[str, str] | None:
        """The national identifier of a qualified identity; any other status may not be used to recognise a person."""
        if not traits.is_qualified:
            return None
        return next((each for each in traits.identifiers if each[0] in self.systems), None)

    def check(self, traits: Traits, *, status: str) -> None:
        """Raise Unprocessable for an identity that the scheme forbids (contract rows INS-2, INS-5, INS-6)."""
        carried = [each for each in traits.identifiers if each[0] in self.systems]
        if carried and status not in self.reliability["carriesNationalIdentifier"]:
            raise Unprocessable(
                "a national identifier needs an identity that is at least validated",
                expression="Patient.identifier",
            )
        for system, value in carried:
            if self._stage not in self._rules["nationalIdentifiers"][system]["stages"]:
                raise Unprocessable(
                    "this identifier system is not accepted in this stage", expression="Patient.identifier.system"
                )
            if self._stage in self._rules["checkKeyStages"] and not has_valid_nir_key(value):
                raise Unprocessable(
                    "the national identifier does not match its key",
                    code="value",
                    expression="Patient.identifier.value",
                )


def has_valid_nir_key(value: str) -> bool:
    """Whether 13 characters and 2 key digits agree: key = 97 - (number mod 97), Corsica's 2A as 19 and 2B as 18."""
    if len(value) != 15:
        return False
    number = value[:13].upper().replace("2A", "19", 1).replace("2B", "18", 1)
    if not (number.isascii() and number.isdigit() and value[13:].isascii() and value[13:].isdigit()):
        return False
    return 97 - int(number) % 97 == int(value[13:])


@cache
def french_identity(stage: str) -> IdentityScheme:
    text = resources.files("passerelle.patients").joinpath("data/identity_fr.json").read_text("utf-8")
    return IdentityScheme(json.loads(text), stage)
