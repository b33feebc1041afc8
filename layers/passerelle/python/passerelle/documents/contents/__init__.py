"""What the content of a document is, and what it says of itself: read from the bytes, whatever their name.

Contract rows 65-8, 106-1 and 106-3 rest on it. Reading is bounded: nothing is decompressed, resolved or fetched that
the bytes ask for, except object streams of a PDF up to a limit.
"""

from __future__ import annotations

from passerelle.documents.contents.header import Author, Code, Header, Organisation, Relation, names_other
from passerelle.documents.contents.hl7v2 import Embedded, embedded
from passerelle.documents.contents.inspection import Inspection, Kind, inspect
from passerelle.documents.contents.signatures import Signature
from passerelle.documents.contents.study import Study

__all__ = [
    "Author",
    "Code",
    "Embedded",
    "Header",
    "Inspection",
    "Kind",
    "Organisation",
    "Relation",
    "Signature",
    "Study",
    "embedded",
    "inspect",
    "names_other",
]
