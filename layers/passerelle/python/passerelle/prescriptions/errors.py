"""The refusals of the e-prescription contract (section 7), driven by its catalogue `data/errors.json`.

An RX code becomes the error class of its HTTP status, with the code as `details.coding`. What the contract
says an answer carries follows the diagnostics as `name=value`:

    a live claim stands in the way (leaseUntil=2026-03-02T11:30:00+00:00)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from importlib.resources import files
from typing import Protocol, TypeVar

from passerelle import errors
from passerelle.access import Request
from passerelle.errors import Coding, PasserelleError
from passerelle.identifiers import split_resource_id

SYSTEM = "CodeSystem/rx-error"  # below the FHIR base that was called: `coded` completes it


class Call(Protocol):
    """What a handler is called with, as far as refusals need it."""

    @property
    def request(self) -> Request: ...

    @property
    def path(self) -> Mapping[str, str]: ...


_ID_CHARACTERS = 43  # of the id of a group, which those of its lines begin with

C = TypeVar("C", bound=Call)
W = TypeVar("W")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """One RX code: the statuses and issue codes it goes out with, and when."""

    code: str
    statuses: tuple[int, ...]
    issues: tuple[str, ...]
    when: str


def _load() -> dict[str, CatalogueEntry]:
    data = json.loads(files(__package__).joinpath("data/errors.json").read_text("utf-8"))
    return {
        each["code"]: CatalogueEntry(
            code=each["code"], statuses=tuple(each["http"]), issues=tuple(each["issue"]), when=each["when"]
        )
        for each in data["errors"]
    }


CATALOGUE = _load()
_CLASSES: dict[int, type[PasserelleError]] = {
    each.status: each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, PasserelleError) and each.__base__ is PasserelleError
}

# What a refusal that was not raised by code of ours means in the catalogue, by its status. A bare 422 comes
# from the journal alone: the key was used for another request.
_BY_STATUS = {
    400: "RX-INVALID",
    401: "RX-LOGIN",
    403: "RX-ROLE",
    404: "RX-NOT-FOUND",
    406: "RX-MEDIA",
    412: "RX-VERSION",
    413: "RX-SIZE",
    415: "RX-MEDIA",
    422: "RX-IDEMPOTENCY-MISMATCH",
    429: "RX-RATE",
    503: "RX-RETRY",
}


def rx(
    code: str,
    diagnostics: str = "",
    *,
    issue: str | None = None,
    expression: str | None = None,
    headers: dict[str, str] | None = None,
    **extra: object,
) -> PasserelleError:
    """The error of an RX code; `extra` are the facts that the catalogue says its answer carries."""
    entry = CATALOGUE[code]
    facts = "; ".join(f"{name}={value}" for name, value in extra.items() if value is not None)
    text = diagnostics or entry.when
    return _CLASSES[entry.statuses[0]](
        f"{text} ({facts})" if facts else text,
        code=issue or entry.issues[0],
        expression=expression,
        details=Coding(system=SYSTEM, code=code),
        headers=headers,
    )


def code_of(error: PasserelleError) -> str | None:
    """The RX code of a refusal."""
    details = error.issues[0].details
    return details.code if details is not None and details.system == SYSTEM else None


def coded(handler: Callable[[C, W], R]) -> Callable[[C, W], R]:
    """Give every refusal of a handler its code, in the code system below the base URL that was called."""

    @wraps(handler)
    def serve(call: C, wired: W) -> R:
        try:
            return handler(call, wired)
        except PasserelleError as error:
            base, id = call.request.base_url, call.path.get("id", "")
            if not error.about and call.request.name.startswith("$") and split_resource_id(id[:_ID_CHARACTERS]):
                error.about = (f"Task/{id[:_ID_CHARACTERS]}",)
            error.issues = tuple(
                replace(issue, details=_completed(issue.details, error.status, base)) for issue in error.issues
            )
            raise

    return serve


def _completed(details: Coding | None, status: int, base_url: str) -> Coding | None:
    if details is None:
        code = _BY_STATUS.get(status)
        return Coding(system=f"{base_url}/{SYSTEM}", code=code) if code else None
    return replace(details, system=f"{base_url}/{SYSTEM}") if details.system == SYSTEM else details
