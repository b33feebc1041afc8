"""Parameters: the arguments of an operation in a body (FHIR R4 section 3.2.0.5)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from passerelle.errors import Invalid
from passerelle.fhir.validation import check_members

_OBJECTS = ("valueIdentifier", "valuePeriod", "valueReference")


def parameters_of(body: Any) -> list[Mapping[str, Any]]:
    """The parameters of a Parameters resource that nobody validated; raises Invalid (`structure`)."""
    if not isinstance(body, Mapping) or body.get("resourceType") != "Parameters":
        raise Invalid("a Parameters resource is expected", code="structure", expression="Parameters")
    listed = body.get("parameter", [])
    if not isinstance(listed, list) or not all(isinstance(each, Mapping) for each in listed):
        raise Invalid("an array of parameters is expected", code="structure", expression="Parameters.parameter")
    faults = check_members(body, "Parameters", "Parameters")
    if faults:
        raise Invalid(issues=faults)
    return listed


class Arguments:
    """The parameters that an operation takes, by name, each of its kind (`valueCode`): once, but for the `repeated`.

    Raises Invalid for any other.
    """

    def __init__(self, body: Any, kinds: Mapping[str, str], *, repeated: Collection[str] = ()) -> None:
        self._given: dict[str, list[tuple[Any, str]]] = {}
        for position, each in enumerate(parameters_of(body) if body is not None else []):
            name, place = str(each.get("name")), f"Parameters.parameter[{position}]"
            if name not in kinds or (name in self._given and name not in repeated):
                raise Invalid(
                    f"the operation takes {', '.join(kinds)}, each once", code="not-supported", expression=place
                )
            kind = kinds[name]
            value = each.get(kind)
            if not isinstance(value, _type_of(kind)):
                raise Invalid(f"a {kind} is expected", code="value", expression=place)
            self._given.setdefault(name, []).append((value, place))

    def __contains__(self, name: str) -> bool:
        return name in self._given

    def get(self, name: str, absent: Any = None) -> Any:
        return self._given[name][0][0] if name in self._given else absent

    def all(self, name: str) -> list[tuple[Any, str]]:
        """The values, each with its place."""
        return self._given.get(name, [])

    def place(self, name: str) -> str:
        """The FHIRPath of a value, or of where it is missing."""
        return f"{self._given[name][0][1]}.value" if name in self._given else "Parameters.parameter"

    def text(self, name: str) -> str:
        return str(self.get(name, "")).strip()

    def required(self, name: str) -> Any:
        """Raises Invalid (`required`)."""
        if name not in self._given:
            raise Invalid(f"required: {name}", code="required", expression="Parameters.parameter")
        return self.get(name)

    def identifier(self, name: str) -> tuple[str, str] | None:
        """System and value; raises Invalid for an identifier without."""
        named = self.get(name)
        if named is None:
            return None
        system, value = named.get("system"), named.get("value")
        if not (isinstance(system, str) and isinstance(value, str)):
            raise Invalid("an identifier with system and value is expected", code="value", expression=self.place(name))
        return system, value


def _type_of(kind: str) -> type:
    return dict if kind in _OBJECTS else bool if kind == "valueBoolean" else str
