"""Patient identifier cross-reference: `$ihe-pix` (IHE PIXm 3.1, ITI-83; contract rows 83-1 to 83-8).

The texts of the refusals are the guide's: clients compare them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from passerelle.errors import Forbidden, Invalid, NotFound
from passerelle.fhir.parameters import parameters_of
from passerelle.patients.model import Identifier

UNKNOWN_SOURCE: Final = "sourceIdentifier Assigning Authority not found"
UNKNOWN_IDENTIFIER: Final = "sourceIdentifier Patient Identifier not found"
UNKNOWN_TARGET: Final = "targetSystem not found"

MAX_TARGETS: Final = 20

_KNOWN: Final = ("sourceIdentifier", "targetSystem")
_IGNORED: Final = ("_format", "_pretty")


class CrossReferenced(Protocol):
    """`patients.service.CrossReference`: what the person is known by elsewhere, the source identifier apart."""

    @property
    def identifiers(self) -> Sequence[Identifier]: ...

    @property
    def patients(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossReferenceQuery:
    """Whose identifiers are asked for, by a business identifier or by the id of a Patient; and in which domains.

    Without `systems` and `wants_ids`, in all of them. `wants_ids`: ids of Patients are asked for by name, as the
    domain that this server is.
    """

    identifier: Identifier | None = None
    patient: str | None = None
    systems: tuple[str, ...] = ()
    wants_ids: bool = False

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains to narrow the look-up to; none where ids are wanted besides, of whatever Patient."""
        return () if self.wants_ids else self.systems

    def check_domains(self, is_known: Callable[[str], bool]) -> None:
        """Raise Forbidden if a domain of the answer is unknown (contract D2)."""
        if not all(map(is_known, self.systems)):
            raise Forbidden(UNKNOWN_TARGET, code="code-invalid", expression="http.targetSystem")

    def refusal(self, is_known: Callable[[str], bool]) -> Invalid | NotFound:
        """Why nothing was found: the identifier is unknown, or its whole domain is."""
        if self.identifier is not None and not is_known(self.identifier[0]):
            return Invalid(UNKNOWN_SOURCE, code="code-invalid", expression="http.sourceIdentifier")
        return NotFound(UNKNOWN_IDENTIFIER)


def read_crossreference(query: Sequence[tuple[str, str]], body: Any, *, base_url: str) -> CrossReferenceQuery:
    """Read the arguments, from the URL or from a Parameters resource (`body`, None without); raises Invalid."""
    pairs = [(name, value) for name, value in query if name not in _IGNORED]
    if body is not None:
        pairs += [(str(each.get("name")), _text(each)) for each in parameters_of(body)]
    if any(name not in _KNOWN for name, _ in pairs):
        raise Invalid("the operation takes sourceIdentifier and targetSystem", code="not-supported")
    sources = [value for name, value in pairs if name == "sourceIdentifier"]
    targets = [value.strip() for name, value in pairs if name == "targetSystem"]
    if not sources:
        raise Invalid("a sourceIdentifier is required", code="required", expression="http.sourceIdentifier")
    if len(sources) > 1:
        raise Invalid("one sourceIdentifier may be given", expression="http.sourceIdentifier")
    system, bar, value = sources[0].partition("|")
    if not (bar and system and value):
        raise Invalid("a sourceIdentifier is system|value", expression="http.sourceIdentifier")
    if not all(targets):
        raise Invalid("a targetSystem is a URI", code="value", expression="http.targetSystem")
    if len(targets) > MAX_TARGETS:
        raise Invalid(f"{MAX_TARGETS} targetSystems may be given", code="too-costly", expression="http.targetSystem")
    is_own = system.rstrip("/") == base_url
    own = [each for each in targets if each.rstrip("/") == base_url]
    return CrossReferenceQuery(
        identifier=None if is_own else (system, value),
        patient=value.removeprefix("Patient/") if is_own else None,
        systems=tuple(dict.fromkeys(each for each in targets if each not in own)),
        wants_ids=bool(own),
    )


def _text(argument: Mapping[str, Any]) -> str:
    """An argument as a URL would have it."""
    identifier = argument.get("valueIdentifier")
    if isinstance(identifier, Mapping):
        return f"{identifier.get('system', '')}|{identifier.get('value', '')}"
    value = argument.get("valueUri", argument.get("valueString"))
    if not isinstance(value, str):
        raise Invalid("an Identifier or a URI is expected", code="value", expression="Parameters.parameter.value")
    return value


def render_crossreference(query: CrossReferenceQuery, found: CrossReferenced) -> dict[str, Any]:
    """The Parameters of the answer: without any where nothing is known in the domains asked for."""
    wanted = set(query.systems)
    parameters = [
        {"name": "targetIdentifier", "valueIdentifier": {"system": system, "value": value}}
        for system, value in found.identifiers
        if (not wanted and not query.wants_ids) or system in wanted
    ]
    parameters += [
        {"name": "targetId", "valueReference": {"reference": f"Patient/{patient}"}} for patient in found.patients
    ]
    return {"resourceType": "Parameters", **({"parameter": parameters} if parameters else {})}
