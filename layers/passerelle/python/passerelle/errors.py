"""The closed set of ways a request can fail.

    PasserelleError
    +-- Invalid               400   malformed, or breaks a FHIR rule
    +-- Unauthenticated       401   no valid token
    +-- Forbidden             403   scope, role or patient-level authorisation refuses
    +-- NotFound              404   does not exist, or not for this caller: the two look the same
    +-- Unsupported           405   the server does not do this
    +-- NotAcceptable         406   no representation in the asked format
    +-- Conflict              409   the state of the record does not allow it
    +-- Gone                  410   was there, is deleted
    +-- Stale                 412   the version or the match that the request relied on is not the current one
    +-- TooLarge              413
    +-- UnsupportedMedia      415
    +-- Unsatisfiable         416   the content has no byte of the range that is asked for
    +-- Unprocessable         422   well formed, but breaks a business rule
    +-- Busy                  429   throttled; `retry_after_seconds` is set
    +-- Fault                 500   a defect of ours; the caller gets a fixed text
    +-- Unavailable           503   a dependency failed; the same request may be sent again

Each class names its HTTP status and default FHIR issue code once, here; `fhir/outcome.py` renders them.
Diagnostics hold field paths, codes and rules: never a value, an identifier or a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """A code in its system, without display."""

    system: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One fault. `code` is an IssueType; `expression` is the FHIRPath of the faulty element."""

    code: str
    diagnostics: str
    expression: str | None = None
    details: Coding | None = None


class PasserelleError(Exception):
    """Base of every expected failure; carries one issue or several, of one severity.

    `about` names the resources that were asked for, for the audit record of the refusal and nobody else.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    about: tuple[str, ...] = ()

    def __init__(
        self,
        diagnostics: str = "",
        *,
        code: str | None = None,
        expression: str | None = None,
        details: Coding | None = None,
        issues: Iterable[Issue] = (),
        headers: dict[str, str] | None = None,
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        self.issues = tuple(issues) or (
            Issue(
                code=code or self.code,
                diagnostics=diagnostics or (type(self).__doc__ or "").strip(),
                expression=expression,
                details=details,
            ),
        )
        self.headers = headers or {}
        self.severity = severity
        super().__init__("; ".join(issue.diagnostics for issue in self.issues))


class Invalid(PasserelleError):
    """The request is not valid."""

    status, code = 400, "invalid"


class Unauthenticated(PasserelleError):
    """A valid access token is required."""

    status, code = 401, "login"


class Forbidden(PasserelleError):
    """The caller may not do this."""

    status, code = 403, "forbidden"


class AccessRefused(Forbidden):
    """The record is not open to this caller."""

    def __init__(self, *, may_break_glass: bool = False) -> None:
        super().__init__()
        self.may_break_glass = may_break_glass


class NotFound(PasserelleError):
    """Not found."""

    status, code = 404, "not-found"


class Unsupported(PasserelleError):
    """This interaction is not offered."""

    status, code = 405, "not-supported"


class NotAcceptable(PasserelleError):
    """No representation in the requested format."""

    status, code = 406, "not-supported"


class Conflict(PasserelleError):
    """The current state does not allow this."""

    status, code = 409, "conflict"


class Gone(PasserelleError):
    """The resource is deleted."""

    status, code = 410, "deleted"


class Stale(PasserelleError):
    """The version that the request relied on is not the current one."""

    status, code = 412, "conflict"


class TooLarge(PasserelleError):
    """The request is larger than the server accepts."""

    status, code = 413, "too-long"


class UnsupportedMedia(PasserelleError):
    """The content type is not supported."""

    status, code = 415, "not-supported"


class Unsatisfiable(PasserelleError):
    """The content has no byte of this range."""

    status, code = 416, "value"


class Unprocessable(PasserelleError):
    """A rule of the exchange is broken."""

    status, code = 422, "business-rule"


class Busy(PasserelleError):
    """Too many requests; repeat later."""

    status, code = 429, "throttled"


class Fault(PasserelleError):
    """The server failed."""

    status, code = 500, "exception"


class Unavailable(PasserelleError):
    """A dependency is unavailable; the same request may be sent again."""

    status, code = 503, "transient"


def failure_of(call: Callable[..., object], *given: Any) -> Exception | None:
    """What a call raises: for who serves several at once, and reports which of them have to come again."""
    try:
        call(*given)
    except Exception as failure:  # noqa: BLE001 - whatever is wrong with one, the others are served
        return failure
    return None
