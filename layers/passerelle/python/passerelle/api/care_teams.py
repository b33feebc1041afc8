"""CareTeam over HTTP: the care circle of a patient (IHE DCTM PCC-45 to PCC-47, ANS CdS 2.0.1 flows 1b to 4b)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from passerelle.api.app import Call, FhirApp, Reply
from passerelle.api.interactions import ALL, SERVED, Run, WiredRecords, serve
from passerelle.api.negotiation import FHIR_JSON
from passerelle.fhir import json as fhir_json
from passerelle.fhir.care_team import CIRCLE, WRITES, declaring, is_meant_as_circle

_READS: Final = ("PCC-47",)


def serve_care_teams(app: FhirApp) -> None:
    """Declare the routes of CareTeam."""
    serve(
        app,
        "CareTeam",
        ALL,
        transactions=("PCC-46",),
        instead={"create": _as_circle(SERVED["create"]), "update": _as_circle(SERVED["update"])},
        codes_of={
            "create": WRITES,
            "update": WRITES,
            "read": _READS,
            "vread": _READS,
            "history-instance": _READS,
            "history-type": _READS,
        },
    )


def _as_circle(run: Run) -> Run:
    """A write of what is a care circle, whether it says so or not, where the token is for nothing else."""

    def served(call: Call, wired: WiredRecords, kind: str) -> Reply:
        resource = call.resource
        if isinstance(resource, dict) and is_meant_as_circle(call.request.caller.scopes):
            body = fhir_json.dumps(declaring(resource, CIRCLE))
            call = replace(call, body=body, headers={**call.headers, "content-type": FHIR_JSON})
        return run(call, wired, kind)

    return served
