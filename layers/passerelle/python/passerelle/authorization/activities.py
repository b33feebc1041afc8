"""Who logged in, and where they work: read from the claims of an OpenID provider.

The names of claims, the forms of their values and the role of each kind of activity are data of the country
(`openid.country`). Nothing is believed that has not the form which the data give.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from passerelle.authorization.model import BadTokenError
from passerelle.authorization.openid import country
from passerelle.directory.identifiers import IDNST, other_form
from passerelle.directory.model import Role

MAX_NAME_CHARACTERS: Final = 80  # with non-ASCII letters, and the scope, a token has to fit into what KMS signs
_MAX_EXERCISES: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Where a professional works, as what. `organisation` is the IDNST; `role` the one that such an activity gives."""

    profession: str
    organisation: str
    name: str
    role: Role

    @property
    def key(self) -> str:
        """What an application asks for it by."""
        return f"{self.organisation}|{self.profession}"

    def is_called(self, asked: str) -> bool:
        """Whether an application that asks for this means it: by its key, the structure's IDNST, or its FINESS."""
        bare = other_form(IDNST, self.organisation)
        return asked in (self.key, self.organisation, bare[1] if bare else self.organisation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Professional:
    """`identifier` is the IDNPS. Only activities that have a role here are among `activities`."""

    identifier: str
    name: str
    activities: tuple[Activity, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Insured:
    """A patient, or somebody who acts for one; `identifier` is the INS, `system|value`."""

    identifier: str
    name: str


def professional_of(claims: Mapping[str, Any], names: Mapping[str, Any]) -> Professional:
    """Raises BadTokenError if the claims name no professional of the country."""
    identifier = _formed(claims, names["professional"], names["professional_form"])
    if not identifier:
        raise BadTokenError("no identifier of a professional")
    activities = [
        activity
        for exercise in _objects(claims, *names["exercises"])
        if _text(exercise, names["category"]) in names["categories"]
        for each in _objects(exercise, names["activities"])
        if (activity := _activity(exercise, each, names)) is not None
    ]
    found = {each.key: each for each in reversed(activities)}  # the first of a key stands
    return Professional(
        identifier=identifier, name=_name(claims, names), activities=tuple(found[key] for key in reversed(found))
    )


def insured_of(claims: Mapping[str, Any], names: Mapping[str, Any]) -> Insured:
    """Raises BadTokenError if the claims hold no national identifier."""
    value, authority = _formed(claims, names["identifier"], names["identifier_form"]), _text(claims, names["authority"])
    if not value or authority not in names["authorities"]:
        raise BadTokenError("no national identifier")
    return Insured(identifier=f"urn:oid:{authority}|{value}", name=_name(claims, names))


def _activity(exercise: Mapping[str, Any], said: Mapping[str, Any], names: Mapping[str, Any]) -> Activity | None:
    profession = _formed(exercise, names["profession"], "[0-9A-Z]{1,10}")
    role = _role(profession, _text(said, names["sector"]))
    organisation = next(
        (
            each["prefix"] + value
            for each in names["organisation"]
            if (value := _formed(said, each["claim"], each["form"]))
        ),
        None,
    )
    if not profession or role is None or organisation is None:
        return None
    return Activity(
        profession=profession,
        organisation=organisation,
        name=_text(said, names["organisation_name"])[:MAX_NAME_CHARACTERS],
        role=role,
    )


def _role(profession: str, sector: str) -> Role | None:
    """The first rule that is about this sector and this profession decides."""
    for rule in country()["roles"]:
        if sector in rule.get("sectors", [sector]) and profession in rule.get("professions", [profession]):
            return Role(rule["role"]) if rule["role"] else None
    return None


def _name(claims: Mapping[str, Any], names: Mapping[str, Any]) -> str:
    return f"{_text(claims, names['given_name'])} {_text(claims, names['family_name'])}".strip()[:MAX_NAME_CHARACTERS]


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    return value.strip() if isinstance(value, str) and value.isprintable() else ""


def _formed(claims: Mapping[str, Any], name: str, form: str) -> str:
    value = _text(claims, name)
    return value if re.fullmatch(form, value) else ""


def _objects(claims: Mapping[str, Any], *path: str) -> Sequence[Mapping[str, Any]]:
    found: Any = claims
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return [each for each in found[:_MAX_EXERCISES] if isinstance(each, dict)] if isinstance(found, list) else []
