"""What two registrations are compared by: the traits of a person, normalised (data model, 1.1 to 1.3)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from passerelle.errors import Fault

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchRecord:
    """Normalised traits; an empty string is unknown, and what is unknown is no evidence.

    Names as `names.normalised` gives them. `family` is the birth name, `used` the name in use where it is another one,
    `given` the first given name, `others` the rest of the list in order. `birth_date` is `YYYYMMDD`, or empty when it
    is not known to the day. `sex` is `m`, `f` or empty. `birth_place` is a code of the country's register of places
    (INSEE). `national` is the national identifier of a qualified identity. `phone` is the last nine digits.
    """

    family: str = ""
    used: str = ""
    given: str = ""
    others: tuple[str, ...] = ()
    birth_date: str = ""
    sex: str = ""
    birth_place: str = ""
    postcode: str = ""
    city: str = ""
    street: str = ""
    number: str = ""
    phone: str = ""
    email: str = ""
    national: str = ""

    def pack(self) -> bytes:
        """A JSON array in UTF-8, about 120 bytes: the number of the format, then the traits in a fixed order.

        Equal records have equal bytes. What is unknown at the end takes no room.
        """
        values: list[object] = [_FORMAT, *(getattr(self, name) for name in _ORDER)]
        while not values[-1]:
            values.pop()
        return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def unpack(cls, packed: bytes) -> MatchRecord:
        """The record that was packed. Raises Fault when the bytes are of another format."""
        try:
            number, *values = json.loads(packed)
            if number != _FORMAT:
                raise Fault(f"match records of format {number} cannot be read")
            traits = dict(zip(_ORDER, values, strict=False))
            traits["others"] = tuple(traits.get("others", ()))
            return cls(**traits)
        except (ValueError, TypeError) as error:
            raise Fault("a match record cannot be read") from error


# Never reordered: stored bytes depend on it. A new trait goes to the end.
_ORDER = (
    "family",
    "used",
    "given",
    "others",
    "birth_date",
    "sex",
    "birth_place",
    "postcode",
    "city",
    "street",
    "number",
    "phone",
    "email",
    "national",
)
