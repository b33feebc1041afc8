"""What versions of resources may follow one another, type by type."""

from __future__ import annotations


class Successions:
    """`records.model.Succession` of all types."""

    def check(self, type: str, before: bytes | None, after: bytes | None) -> None:
        match type:  # few requests write one of these: the rules are imported where they are asked
            case "Consent":
                from passerelle.fhir.consent import ConsentRules

                ConsentRules().check(type, before, after)
            case "List":
                from passerelle.fhir.lists import ListSuccession

                ListSuccession().check(type, before, after)
            case "MedicationDispense" | "MedicationRequest" | "Task":
                from passerelle.fhir.prescriptions.reserved import ReservedNumbers

                ReservedNumbers().check(type, before, after)
                if type == "Task" and after is not None:
                    from passerelle.fhir import json as fhir_json
                    from passerelle.fhir.monitoring.alerts import refuse_forged

                    refuse_forged(fhir_json.loads(after))
