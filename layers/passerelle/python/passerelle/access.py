"""Who is calling, with which rights, and for what: the facts every decision and every audit record starts from.

Scopes are SMART v2 (`system/Observation.rs`, HL7 SMART App Launch 2.2 section 3.0.2) and the codes of IHE or national
transactions (`ITI-65`, `TD0.2`; IUA ITI-71).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from passerelle.errors import Forbidden

Interaction = Literal["c", "r", "u", "d", "s"]

_SMART = re.compile(r"(?P<context>system|user|patient)/(?P<type>\*|[A-Z][A-Za-z]+)\.(?P<rights>c?r?u?d?s?)")
_TRANSACTION = re.compile(r"(ITI|PCC)-\d+|TD\d(\.\d[a-d]?)?")
_FEED = re.compile(r"TD2(\..+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """What a route asks for: one interaction on one resource type, or one of the transactions that it implements."""

    resource: str
    interaction: Interaction
    transactions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scopes:
    """A set of granted scopes; `permits` answers whether one of them covers a permission."""

    values: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> Scopes:
        """Read a space-separated scope string; raises ValueError naming the position of a malformed scope."""
        values = text.split()
        for position, value in enumerate(values, 1):
            smart = _SMART.fullmatch(value)
            if not (smart and smart["rights"]) and not _TRANSACTION.fullmatch(value):
                raise ValueError(f"scope number {position} is malformed")
        return cls(frozenset(values))

    def permits(self, permission: Permission) -> bool:
        if self.values.intersection(permission.transactions):
            return True
        for value in self.values:
            smart = _SMART.fullmatch(value)
            if smart and smart["type"] in ("*", permission.resource) and permission.interaction in smart["rights"]:
                return True
        return False

    @property
    def feed_national_record(self) -> bool:
        """Whether documents are sent for the national record (DMP, transactions TD2)."""
        return any(_FEED.fullmatch(value) for value in self.values)

    @property
    def speaks_for_people(self) -> bool:
        """Whether one of them is for somebody who logged in (`user/`, `patient/`), not for a system by itself."""
        return any(value.startswith(("user/", "patient/")) for value in self.values)

    def covers(self, other: Scopes) -> bool:
        """Whether everything that `other` allows is allowed here too: what a client may be granted."""
        return all(value in self.values or self._covers_smart(value) for value in other.values)

    def _covers_smart(self, value: str) -> bool:
        smart = _SMART.fullmatch(value)
        return smart is not None and all(
            any(
                (mine := _SMART.fullmatch(held))
                and mine["context"] == smart["context"]
                and mine["type"] in ("*", smart["type"])
                and right in mine["rights"]
                for held in self.values
            )
            for right in smart["rights"]
        )

    def __str__(self) -> str:
        return " ".join(sorted(self.values))


def insufficient_scope(*, expression: str | None = None) -> Forbidden:
    """The refusal of a valid token whose scope does not cover the request, or one entry of it (contract GEN-14)."""
    return Forbidden(
        "the token's scope does not cover this request",
        expression=expression,
        headers={"WWW-Authenticate": 'Bearer realm="passerelle", error="insufficient_scope"'},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a token narrows its holder to, beyond scopes (IHE PCF 1.1.1, token extension `ihe_pcf`).

    `patient` is the one person it is about (`system|value`, or `Patient/<id>`), `consents` what the authorisation rests
    on (URLs or references of Consents), `residual` the provisions that are left to the resource server, as the token
    has them.
    """

    patient: str | None = None
    consents: frozenset[str] = frozenset()
    residual: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated system, with the organisation it acts for, and the person who uses it.

    `organisation` is the FINESS-based IDNST (`urn:oid:1.2.250.1.71.4.2.2`); `professional` the IDNPS
    (`urn:oid:1.2.250.1.71.4.2.1`) of the person at the keyboard, if there is one, `profession` a code of TRE_G15,
    `name` how an access log names that person; `domain` the identifier domain this client feeds the patient index from
    (`urn:oid:...`); `role` one of `directory.model.Role`; `purpose` why, as a code of the HL7 value set PurposeOfUse.
    """

    client_id: str
    organisation: str
    role: str
    scopes: Scopes
    token_id: str
    domain: str | None = None
    professional: str | None = None
    patient: str | None = None  # the INS (`system|value`) of the person whose record it is, for patients and proxies
    profession: str | None = None
    name: str = ""
    purpose: str = ""
    person: str | None = None  # the INS of the proxy, when a logged-in person acts for `patient`
    limits: Limits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether a caller was let into a person's record, by which rule and from which facts: it can be taken again.

    `rule` is a `consents.decision.Rule`, `facts` the `consents.decision.Standing` as JSON, `rules` the version of the
    rules that it was decided under. None of it is told to the caller.
    """

    is_permitted: bool
    rule: str
    facts: Mapping[str, Any]
    rules: str
    purpose: str = field(default="", compare=False)  # what the access is for by this rule, whatever the caller said


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call on the exchange, as services and audit need it.

    `at` is the one clock reading of the request; `name` the FHIR interaction or operation (`read`, `search-type`,
    `$accept`); `action` the audit action code (C, R, U, D or E); `query` the raw query for the audit of searches;
    `purpose` why, as a code of the HL7 value set PurposeOfUse, where the caller has to say; `external_id` the
    X-Request-Id that came with it, `address` where it came from, `recipient` who gets what it discloses if that is
    nobody of the network; `decisions` is filled while it is served: what was decided about each source record that it
    asked for, for the audit.
    """

    caller: Caller
    name: str
    action: Literal["C", "R", "U", "D", "E"]
    request_id: str
    at: datetime
    base_url: str
    query: str = ""
    idempotency_key: str | None = None
    fingerprint: str = ""  # SHA-256 over method, path, body and user: what an idempotency key stands for
    purpose: str = ""
    external_id: str = ""
    address: str = ""
    recipient: str = ""
    decisions: dict[str, Decision] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """What a request reached, for its audit records: patients by their opaque key, resources by reference.

    `digests` are the SHA-256, in base64, of contents that were stored or served, each beside its reference.
    """

    patients: tuple[str, ...] = ()
    references: tuple[str, ...] = field(default=())
    digests: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls, patients: Iterable[str], references: Iterable[str] = (), digests: Iterable[tuple[str, str]] = ()
    ) -> Touched:
        return cls(
            patients=tuple(dict.fromkeys(patients)),
            references=tuple(dict.fromkeys(references)),
            digests=tuple(dict.fromkeys(digests)),
        )
