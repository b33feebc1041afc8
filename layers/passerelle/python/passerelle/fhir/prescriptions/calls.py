"""Parameters of the operations on prescriptions (e-prescription contract, section 5)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from passerelle.fhir.prescriptions.elements import JOSE
from passerelle.fhir.prescriptions.faults import check, day, invalid, required
from passerelle.fhir.prescriptions.orders import STRUCTURE
from passerelle.fhir.prescriptions.overrides import overrides_in
from passerelle.prescriptions.commands import Target
from passerelle.prescriptions.errors import rx
from passerelle.prescriptions.model import ClaimTerms, Override, Refusal, Route, Signature

Json = Mapping[str, Any]

_REASON = re.compile(r"[a-z][a-z-]{0,39}")
CANCEL_REASONS = {  # with their codes of the NHS Electronic Prescription Service, as in section 15
    "prescribing-error": "0001",
    "contra-indication": "0002",
    "regimen-change": "0003",
    "clinical-grounds": "0004",
    "patient-request": "0005",
    "pharmacist-request": "0006",
    "death": "0007",
    "left-practice": "0008",
    "registered-elsewhere": "0009",
}
DECLINE_REASONS = (
    "patient-refused",
    "prescriber-agreed",
    "clinical-stop",
    "out-of-stock",
    "not-collected",
    "not-supplied-here",
    "other",
)
WITHDRAWAL_REASONS = ("not-collected", "returned-at-once", "wrong-patient", "wrong-product", "wrong-quantity", "other")


class TaskCall(Protocol):
    """An operation on one Task, as the HTTP boundary received it."""

    @property
    def id(self) -> str: ...

    @property
    def resource(self) -> Any: ...

    @property
    def if_match(self) -> int | None: ...


class BareCall(TaskCall, Protocol):
    """One that may come without a body."""

    @property
    def body(self) -> bytes: ...


def target_of(call: TaskCall, lines: Sequence[int] = ()) -> Target:
    return Target.of(call.id, lines, call.if_match)


class Arguments:
    """The input Parameters of an operation; raises RX-INVALID for a parameter it does not know."""

    def __init__(self, resource: Any, *known: str) -> None:
        check(resource, expected_type="Parameters")
        self._parts: list[Json] = resource.get("parameter", [])
        if any(part["name"] not in known for part in self._parts):
            raise rx(
                "RX-INVALID",
                "a parameter is unknown to this operation",
                expression="Parameters.parameter.name",
            )

    def parts(self, name: str) -> list[Json]:
        return [part for part in self._parts if part["name"] == name]

    def all(self, name: str, kind: str) -> list[Any]:
        found = [part for part in self._parts if part["name"] == name]
        if any(kind not in part for part in found):
            raise invalid(f"the parameter {name} is a {kind}", f"Parameters.parameter.where(name='{name}')")
        return [part[kind] for part in found]

    def find(self, name: str, kind: str) -> Any:
        values = self.all(name, kind)
        if len(values) > 1:
            raise invalid(f"the parameter {name} may be given once", f"Parameters.parameter.where(name='{name}')")
        return values[0] if values else None

    def get(self, name: str, kind: str) -> Any:
        value = self.find(name, kind)
        if value is None:
            raise required(f"the parameter {name} is required", f"Parameters.parameter.where(name='{name}')")
        return value


def parse_claim(call: TaskCall) -> tuple[Target, ClaimTerms]:
    """`$accept` of a Task: `accessCode`, `line`*, `recover`, `overrideRouting`."""
    arguments = Arguments(call.resource, "accessCode", "line", "recover", "overrideRouting")
    return target_of(call, arguments.all("line", "valuePositiveInt")), _terms(arguments)


def parse_number_claim(resource: Any) -> tuple[str, Target, ClaimTerms]:
    """`$accept` on the type: the same with `number`, as printed on the prescription."""
    arguments = Arguments(resource, "number", "accessCode", "line", "recover", "overrideRouting")
    number = re.sub(r"[\s-]", "", arguments.get("number", "valueString")).upper()
    return number, Target.of("", arguments.all("line", "valuePositiveInt")), _terms(arguments)


def _terms(arguments: Arguments) -> ClaimTerms:
    return ClaimTerms(
        code=arguments.find("accessCode", "valueString"),
        recover=bool(arguments.find("recover", "valueBoolean")),
        override_routing=bool(arguments.find("overrideRouting", "valueBoolean")),
    )


def parse_rejection(call: TaskCall) -> tuple[Target, str, str | None]:
    """`$reject`: `secret`, `line`*, `reason`."""
    arguments = Arguments(call.resource, "secret", "line", "reason")
    reason = arguments.find("reason", "valueCode")
    if reason is not None and not _REASON.fullmatch(reason):
        raise invalid("the reason is not a code", "Parameters.parameter.where(name='reason')")
    target = target_of(call, arguments.all("line", "valuePositiveInt"))
    return target, arguments.get("secret", "valueString"), reason


def parse_extension(call: TaskCall) -> tuple[Target, str, str]:
    """`$extend-lease`: `secret`, `reason`, `line`*."""
    arguments = Arguments(call.resource, "secret", "reason", "line")
    target = target_of(call, arguments.all("line", "valuePositiveInt"))
    return target, arguments.get("secret", "valueString"), arguments.get("reason", "valueCode")


def parse_refusal(call: TaskCall) -> tuple[Target, Refusal]:
    """`$decline`: `secret`, `reason`, `outcome` (close or release), `line`*."""
    arguments = Arguments(call.resource, "secret", "reason", "outcome", "line")
    outcome = arguments.get("outcome", "valueCode")
    reason = arguments.get("reason", "valueCode")
    if outcome not in ("close", "release"):
        raise rx(
            "RX-INVALID",
            "the outcome is close or release",
            issue="code-invalid",
            expression="Parameters.parameter.where(name='outcome')",
        )
    if reason not in DECLINE_REASONS:
        raise rx(
            "RX-INVALID",
            f"the reason is one of {', '.join(DECLINE_REASONS)}",
            issue="code-invalid",
            expression="Parameters.parameter.where(name='reason')",
        )
    target = target_of(call, arguments.all("line", "valuePositiveInt"))
    secret = arguments.get("secret", "valueString")
    return target, Refusal(secret=secret, reason=reason, closes=outcome == "close")


def parse_withdrawal(call: TaskCall) -> tuple[str, str, int | None]:
    """`$withdraw` of a MedicationDispense: `reason`."""
    reason = Arguments(call.resource, "reason").get("reason", "valueCode")
    if reason not in WITHDRAWAL_REASONS:
        raise rx(
            "RX-INVALID",
            f"the reason is one of {', '.join(WITHDRAWAL_REASONS)}",
            issue="code-invalid",
            expression="Parameters.parameter.where(name='reason')",
        )
    return call.id, reason, call.if_match


def parse_route(call: TaskCall) -> tuple[Target, Route]:
    """`$route`: `pharmacy` and `coordinator`, as Identifier or left out; `noCoordinator`,
    `showHolder`; no pharmacy: any."""
    arguments = Arguments(call.resource, "pharmacy", "coordinator", "noCoordinator", "showHolder")
    shows = arguments.find("showHolder", "valueBoolean")
    nobody = "" if arguments.find("noCoordinator", "valueBoolean") else None
    route = Route(
        pharmacy=_party(arguments, "pharmacy") or "",
        coordinator=_party(arguments, "coordinator") or nobody,
        shows_holder=shows,
    )
    return target_of(call), route


def _party(arguments: Arguments, name: str) -> str | None:
    identifier = arguments.find(name, "valueIdentifier")
    if identifier is None:
        return None
    if identifier.get("system") != STRUCTURE or "value" not in identifier:
        raise invalid("an organisation is identified by FINESS", f"Parameters.parameter.where(name='{name}').value")
    return str(identifier["value"])


def parse_cancellation(call: TaskCall) -> tuple[Target, str]:
    """`$cancel`: `reason`, `line`*."""
    arguments = Arguments(call.resource, "reason", "line")
    reason = arguments.get("reason", "valueCode")
    if reason not in CANCEL_REASONS:
        raise rx(
            "RX-INVALID",
            f"the reason is one of {', '.join(CANCEL_REASONS)}",
            issue="code-invalid",
            expression="Parameters.parameter.where(name='reason')",
        )
    return target_of(call, arguments.all("line", "valuePositiveInt")), reason


def parse_preparation(call: BareCall) -> tuple[Target, tuple[Override, ...]]:
    """`$prepare`: `override`*."""
    if not call.body:
        return target_of(call), ()
    parts = Arguments(call.resource, "override").parts("override")
    return target_of(call), overrides_in(parts, "override", "prescriber")


def parse_signature(call: TaskCall) -> tuple[Target, Signature]:
    """`$activate`: a Provenance with the detached JWS, or Parameters: `provenance`, `override`*, `cdsDigest`."""
    provenance = call.resource
    if isinstance(provenance, dict) and provenance.get("resourceType") == "Parameters":
        arguments = Arguments(provenance, "provenance", "override", "cdsDigest")
        signed = parse_provenance(arguments.get("provenance", "resource"))
        overrides = overrides_in(arguments.parts("override"), "override", "prescriber")
        return target_of(call), replace(signed, overrides=overrides, digest=arguments.find("cdsDigest", "valueString"))
    return target_of(call), parse_provenance(provenance)


def parse_provenance(provenance: Any) -> Signature:
    """The detached JWS that a Provenance holds."""
    check(provenance, expected_type="Provenance")
    signatures = provenance.get("signature", [])
    if len(signatures) != 1:
        raise required("one signature is required", "Provenance.signature")
    (signature,) = signatures
    if signature.get("sigFormat") != JOSE or "data" not in signature:
        raise invalid(f"the signature is base64 data in format {JOSE}", "Provenance.signature[0].sigFormat")
    try:
        jws = base64.b64decode(signature["data"], validate=True).decode("ascii")
    except ValueError:
        raise invalid("the signature is not base64 of a JWS", "Provenance.signature[0].data") from None
    signed_on = day(signature["when"], "Provenance.signature[0].when")
    return Signature(jws=jws, signed_on=signed_on)
