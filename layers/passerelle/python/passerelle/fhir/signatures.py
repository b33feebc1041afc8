"""Who signed a document, as Provenance: what the exchange verified when the document came, beside the document.

FHIR R4 Provenance.signature. The signature itself stays where it is, in the content; here is who made it and when, and
whether an authority that is trusted stands behind the certificate. Whoever may not see the document sees none of it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from passerelle.documents.contents import Signature
from passerelle.fhir.bundles import TransactionEntry
from passerelle.fhir.dates import instant

TRUST_EXTENSION: Final = "https://passerelle.example/StructureDefinition/signer-is-trusted"
_PARTICIPANTS: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_PURPOSES: Final = "urn:iso-astm:E1762-95:2013"
_FORMATS: Final = {"XAdES": "application/signature+xml", "JWS": "application/jose"}


def signature_provenance_entry(signature: Signature, *, document: str, at: datetime, path: str) -> TransactionEntry:
    """The entry that creates it, of the DocumentReference that the reference `document` names."""
    resource = signature_provenance(signature, document=document, at=at)
    return TransactionEntry(
        path=path, full_url=None, method="POST", url="Provenance", type="Provenance", resource=resource
    )


def signature_provenance(signature: Signature, *, document: str, at: datetime) -> dict[str, Any]:
    """`at` is when the signature was verified; it stands for the time that a signer did not say."""
    who = {"display": signature.signer}
    author = {"system": _PARTICIPANTS, "code": "author"}
    return {
        "resourceType": "Provenance",
        "target": [{"reference": document}],
        "recorded": instant(at),
        "agent": [{"type": {"coding": [author]}, "who": who}],
        "signature": [
            {
                "extension": [{"url": TRUST_EXTENSION, "valueBoolean": signature.is_trusted}],
                "type": [{"system": _PURPOSES, "code": "1.2.840.10065.1.12.1.1", "display": "Author's Signature"}],
                "when": instant(signature.signed_at or at),
                "who": who,
                "sigFormat": _FORMATS[signature.format],
            }
        ],
    }
