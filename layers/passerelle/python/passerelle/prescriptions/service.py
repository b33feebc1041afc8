"""The life of a prescription, whoever acts on it: all operations of the e-prescription contract, section 5."""

from __future__ import annotations

from passerelle.prescriptions.asking import Asking
from passerelle.prescriptions.dispensing import Dispensing
from passerelle.prescriptions.examining import Examining
from passerelle.prescriptions.reading import Reading
from passerelle.prescriptions.reversals import Reversing
from passerelle.prescriptions.routing import Routing


class PrescriptionService(Routing, Dispensing, Reversing, Asking, Examining, Reading):
    """One object for the HTTP boundary; what each operation does is told by the class that has it."""
