"""What is supplied: MedicationDispense in (e-prescription contract, sections 4 and 5)."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from passerelle.fhir import json as fhir_json
from passerelle.fhir.prescriptions.calls import Arguments, TaskCall, target_of
from passerelle.fhir.prescriptions.dosages import unit
from passerelle.fhir.prescriptions.faults import check, invalid, located, required
from passerelle.fhir.prescriptions.orders import OWN, products
from passerelle.fhir.prescriptions.overrides import overrides_in
from passerelle.prescriptions.commands import Target
from passerelle.prescriptions.model import Supply
from passerelle.prescriptions.quantities import millionths


def parse_supply(call: TaskCall) -> tuple[Target, Supply]:
    """`$dispense`: `secret`, the MedicationDispense as `dispense`, `acknowledge`*."""
    arguments = Arguments(call.resource, "secret", "dispense", "acknowledge")
    secret = arguments.get("secret", "valueString")
    supply = supply_of(arguments.get("dispense", "resource"), secret=secret)
    acknowledged = overrides_in(arguments.parts("acknowledge"), "acknowledge", "pharmacy")
    return target_of(call), replace(supply, acknowledged=acknowledged)


def supply_of(dispense: Any, *, secret: str) -> Supply:
    """The supply that a MedicationDispense records."""
    check(dispense, expected_type="MedicationDispense")
    if dispense["status"] != "completed":
        raise invalid("a supply is recorded with status completed, as it is", "MedicationDispense.status")
    for place, extension in enumerate(dispense.get("extension", [])):
        if OWN in extension["url"]:
            raise invalid("an extension of this exchange is not taken", f"MedicationDispense.extension[{place}]")
    quantity = dispense.get("quantity", {})
    if "value" not in quantity:
        raise required("the quantity supplied is required", "MedicationDispense.quantity")
    if len(dispense.get("performer", [])) != 1:
        raise required("one performer is required", "MedicationDispense.performer")
    identifiers = [f"{each.get('system', '')}|{each['value']}" for each in dispense.get("identifier", [])]
    if len(identifiers) > 1:
        raise invalid("a supply has at most one identifier", "MedicationDispense.identifier")
    with located("MedicationDispense.quantity"):
        amount = millionths(Decimal(quantity["value"]))
    return Supply(
        secret=secret,
        quantity=amount,
        unit=unit(quantity),
        products=products(dispense, "MedicationDispense"),
        dispense=fhir_json.dumps(dispense).decode(),
        identifier=next(iter(identifiers), None),
        substitution_reason=_reason(dispense.get("substitution", {})),
    )


def _reason(substitution: Any) -> str | None:
    """Why another product is supplied, or why it is not: the first code that says so."""
    codes = [each.get("code") for reason in substitution.get("reason", []) for each in reason.get("coding", [])]
    return next((str(code) for code in codes if code), None)
