"""Uploads as FHIR Parameters: what a client announces, and the ticket that it gets (operations of our own)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from passerelle.documents.uploads import Announced, Invitation, Ticket
from passerelle.errors import Invalid
from passerelle.fhir.dates import instant
from passerelle.fhir.parameters import parameters_of

_TYPES: Mapping[str, tuple[str, ...]] = {
    "contentType": ("valueCode", "valueString"),
    "size": ("valueInteger", "valuePositiveInt", "valueUnsignedInt"),
    "hash": ("valueBase64Binary",),
    "sha256": ("valueBase64Binary",),
}


def announced_of(body: Any) -> Announced:
    """Raises Invalid for parameters that are unknown, repeated, missing or of another type."""
    given: dict[str, Any] = {}
    for index, parameter in enumerate(parameters_of(body)):
        name, place = str(parameter.get("name")), f"Parameters.parameter[{index}]"
        if name not in _TYPES or name in given:
            raise Invalid("not a parameter of this operation, or one too many", code="value", expression=place)
        given[name] = next((parameter[each] for each in _TYPES[name] if each in parameter), None)
        expected = int if name == "size" else str
        if not isinstance(given[name], expected) or isinstance(given[name], bool):
            raise Invalid(f"the parameter has {' or '.join(_TYPES[name])}", code="value", expression=place)
    for name in ("contentType", "size"):
        if name not in given:
            raise Invalid(f"the parameter {name} is required", code="required", expression="Parameters")
    return Announced(
        content_type=given["contentType"],
        size_bytes=given["size"],
        sha1=given.get("hash"),
        sha256=given.get("sha256"),
    )


def ticket_parameters(ticket: Ticket, base_url: str, invitation: Invitation | None = None) -> dict[str, Any]:
    """A ticket; with an invitation, where its missing parts go."""
    announced = ticket.announced
    parameters: list[dict[str, Any]] = [
        {"name": "id", "valueId": ticket.id},
        {"name": "url", "valueUrl": f"{base_url}/Binary/{ticket.id}"},
        {"name": "state", "valueCode": ticket.state.value},
        {"name": "expires", "valueInstant": instant(ticket.expires_at)},
        {"name": "contentType", "valueCode": announced.content_type},
        {"name": "size", "valueInteger": announced.size_bytes},
        *({"name": "hash", "valueBase64Binary": each} for each in [announced.sha1] if each),
        *({"name": "sha256", "valueBase64Binary": each} for each in [announced.sha256] if each),
    ]
    if invitation is not None:
        parameters += [
            {"name": "partSize", "valueInteger": ticket.part_bytes},
            {"name": "urlsExpire", "valueInstant": instant(invitation.urls_expire_at)},
            *(
                {
                    "name": "part",
                    "part": [
                        {"name": "number", "valuePositiveInt": number},
                        {"name": "size", "valueInteger": ticket.parts[number]},
                        {"name": "url", "valueUrl": url},
                    ],
                }
                for number, url in invitation.urls.items()
            ),
        ]
    return {"resourceType": "Parameters", "parameter": parameters}
