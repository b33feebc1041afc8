"""What the vendor declares: the server, the options it claims, the synthetic people to use, and who calls it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ACTORS: Final = ("author", "professional", "patient", "representative")
OPTIONS: Final = ("relations", "folders", "fhir_documents", "delayed", "pdsm", "dmp")


class DeclarationError(Exception):
    """The profile or the client file cannot be used; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A synthetic person. `traits` are needed only where the kit registers people (ITI-104)."""

    identifier: str  # system|value of the national identifier
    local: str | None = None
    traits: Mapping[str, Any] = field(default_factory=dict)

    @property
    def system(self) -> str:
        return self.identifier.partition("|")[0]

    @property
    def value(self) -> str:
        return self.identifier.partition("|")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What the server under test is, and what it says it does."""

    name: str
    version: str
    options: Mapping[str, bool]
    people: Mapping[str, Person]
    is_registering: bool
    domain: str | None
    scopes: Mapping[str, str]
    references: Mapping[str, str]
    max_body_bytes: int | None

    @classmethod
    def load(cls, path: Path) -> Profile:
        """Raises DeclarationError."""
        try:
            said = tomllib.loads(path.read_text("utf-8"))
            people = dict(said.get("people", {}))
            is_registering = bool(people.pop("register", False))
            domain = people.pop("domain", None)
            options = dict.fromkeys(OPTIONS, False) | said.get("options", {})
            if unknown := sorted(options.keys() - set(OPTIONS)):
                raise DeclarationError(f"{path.name}: there is no option {', '.join(unknown)}: {', '.join(OPTIONS)}")
            return cls(
                name=said["server"]["name"],
                version=str(said["server"]["version"]),
                options=options,
                people={name: _person(each) for name, each in people.items()},
                is_registering=is_registering,
                domain=domain,
                scopes=said.get("scopes", {}),
                references=said.get("references", {}),
                max_body_bytes=said.get("limits", {}).get("max_body_bytes"),
            )
        except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
            raise DeclarationError(f"{path}: {type(error).__name__}: {error}") from None


def _person(said: Mapping[str, Any]) -> Person:
    traits = {name: value for name, value in said.items() if name not in ("identifier", "local")}
    return Person(identifier=said["identifier"], local=said.get("local"), traits=traits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """How one actor authenticates: a SMART backend service with its private JWK, or a token that it already has."""

    client_id: str | None = None
    key: Mapping[str, Any] | None = None
    scope: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """The actors that the vendor registered for the kit. `refused` are tokens that the server must refuse, by cause."""

    token_endpoint: str | None
    actors: Mapping[str, Credentials]
    refused: Mapping[str, str]

    @classmethod
    def load(cls, path: Path) -> Clients:
        """Raises DeclarationError."""
        try:
            said = json.loads(path.read_text("utf-8"))
            if unknown := sorted(said["actors"].keys() - set(ACTORS)):
                raise DeclarationError(f"{path.name}: there is no actor {', '.join(unknown)}: {', '.join(ACTORS)}")
            return cls(
                token_endpoint=said.get("token_endpoint"),
                actors={name: _credentials(each, path.parent) for name, each in said["actors"].items()},
                refused=said.get("refused_tokens", {}),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DeclarationError(f"{path}: {type(error).__name__}: {error}") from None


def _credentials(said: Mapping[str, Any], folder: Path) -> Credentials:
    key = said.get("key")
    if isinstance(key, dict) and "file" in key:
        held = json.loads((folder / key["file"]).read_text("utf-8"))
        key = held[key["member"]] if "member" in key else held
    if "token" not in said and not (key and said.get("client_id")):
        raise DeclarationError("an actor has a token, or a client_id and a key")
    return Credentials(client_id=said.get("client_id"), key=key, scope=said.get("scope"), token=said.get("token"))
