"""AuditEvent: who accessed a record, for its patient, for whoever did it, and for auditors; traces of other systems."""

from __future__ import annotations

from passerelle import wiring
from passerelle.api.app import FhirApp
from passerelle.api.audit_log import serve_audit_log
from passerelle.api.ledger import serve_proofs

handler = FhirApp("audit", provide=wiring.audit)

serve_audit_log(handler)
serve_proofs(handler)
