"""A person takes the record home: everything that may be seen of it, as one file (GDPR, articles 15 and 20).

For the patient, and for who decides in the patient's place; nobody else. The file is written first; that it was is kept
with the decisions about the record, and in its access log, before the URL is given away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from passerelle.access import Request, Touched
from passerelle.audit.commands import account_of, once
from passerelle.consents.control import OWN
from passerelle.errors import Forbidden
from passerelle.exports.model import URL_LIFETIME, Exported, Packed, Part
from passerelle.exports.package import pack
from passerelle.exports.ports import ExportSpace
from passerelle.identifiers import new_ulid
from passerelle.journal import Journal
from passerelle.patients.decisions import Admissions, DecisionMaker
from passerelle.patients.model import DecisionKind, RecordDecision
from passerelle.patients.ports import PatientIndex

Compose = Callable[[], Iterable[Part]]


class ExportService(DecisionMaker):
    def __init__(
        self,
        *,
        index: PatientIndex,
        admissions: Admissions,
        journal: Journal,
        pause: Callable[[int], None],
        space: ExportSpace,
    ) -> None:
        super().__init__(index=index, admissions=admissions, journal=journal, pause=pause)
        self._space = space

    def export(self, request: Request, patient: str, compose: Compose) -> Exported:
        """Write what `compose` gives. Raises NotFound for a person who does not exist for the caller, Forbidden for
        whoever does not decide for that person, and what `compose` raises: then nothing is given away."""
        packed = once(self._journal, request, lambda: self._export(request, patient, compose), _restored)
        return Exported(
            packed=packed,
            url=self._space.link(packed.key, URL_LIFETIME),
            expires_at=request.at + URL_LIFETIME,
        )

    def _export(self, request: Request, patient: str, compose: Compose) -> Packed:
        subject = self._subject(request, patient)
        if subject.capacity not in OWN:
            raise Forbidden("a record is handed out to the patient, or to who decides for the patient")
        key = f"{patient}/{new_ulid(request.at)}"
        packed = pack(key, compose(), self._space.begin(key), request.at)
        members = subject.person.members
        touched = Touched.of(members)  # the records as such
        kept = {"key": key, "sha256": packed.sha256, "size": packed.size_bytes}
        decision = new_ulid(request.at)
        caller = request.caller
        self._journal.commit(
            [
                *(
                    RecordDecision(
                        id=decision,
                        patient=member,
                        kind=DecisionKind.EXPORTED,
                        at=request.at,
                        by=caller.client_id,
                        role=caller.role,
                        organisation=caller.organisation,
                        professional=caller.professional,
                    )
                    for member in members
                ),
                *account_of(request, touched, kept),
            ]
        )
        return packed


def _restored(kept: Mapping[str, Any]) -> Packed:
    return Packed(key=kept["key"], sha256=kept["sha256"], size_bytes=kept["size"])
