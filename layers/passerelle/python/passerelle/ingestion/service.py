"""Taking in what other systems send: durable first, applied by the ordinary commands, acknowledged last.

    receive -> converted (pure) -> authorised -> stored in the inbox -> applied -> settled -> acknowledged

A crash anywhere is mended by the same message again: the inbox knows it by its control id, the transaction by an
idempotency key that is made of it, and neither does anything twice. Two that come at once both try: one commits, and
both learn the same. Contract relied on: HL7 2.5, chapter 2.9 (acknowledgements) and table 0357.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from passerelle.access import Request
from passerelle.directory.identifiers import IDNST
from passerelle.errors import Busy, Conflict, Fault, Forbidden, NotFound, PasserelleError, Unavailable
from passerelle.identifiers import Blinder
from passerelle.ingestion.model import (
    Advance,
    Conversion,
    Converter,
    Inbound,
    OvertakenError,
    Reason,
    Refused,
    RefusedMessage,
    Source,
    SourceFormat,
    Status,
)
from passerelle.ingestion.ports import Exchange, Inbox, Positions

_RACES: Final = 8
PAGE: Final = 100
_REASONS: Final = {
    "required": Reason.REQUIRED_FIELD_MISSING,
    "structure": Reason.DATA_TYPE,
    "value": Reason.DATA_TYPE,
    "code-invalid": Reason.TABLE_VALUE_NOT_FOUND,
    "not-found": Reason.UNKNOWN_KEY,
    "duplicate": Reason.DUPLICATE_KEY,
    "conflict": Reason.RECORD_LOCKED,
}


@dataclass(frozen=True, slots=True)
class _Dead:
    reason: Reason
    path: str = ""


class IngestionService:
    """`report` is told of defects, which wait with the other dead letters: a message that nobody can read must not
    keep back those behind it."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        positions: Positions,
        exchange: Exchange,
        converters: Callable[[], Mapping[SourceFormat, Converter]],
        blinder: Blinder,
        report: Callable[[BaseException], None],
    ) -> None:
        self._inbox = inbox
        self._positions = positions
        self._exchange = exchange
        self._converters = converters
        self._blinder = blinder
        self._report = report

    def receive(
        self, request: Request, of: SourceFormat, data: bytes, *, control_id: str, sender: str
    ) -> Inbound | Refused:
        """Take in one message; the same message again gets what it got.

        One that waits is tried again. Raises Forbidden where the caller may not write what is in it, and Unavailable or
        Busy where it is not known what became of it: the sender has to send it again.
        """
        source = _source(request)
        new = Inbound(
            id=self._id(request.caller.client_id, of, sender, control_id),
            client_id=request.caller.client_id,
            format=of,
            control_id=control_id,
            digest=hashlib.sha256(data).hexdigest(),
            received_at=request.at,
        )
        known = self._inbox.find(new.id, at=request.at)
        if known is not None and known.digest != new.digest:
            return Refused(reason=Reason.DUPLICATE_KEY)
        if known is not None and known.is_applied:
            return known
        read = self._read(of, data, source)
        if isinstance(read, Refused):
            return read
        if isinstance(read, Conversion):
            new = replace(new, kind=read.kind)
            read = self._authorised(request, read)
        stands = self._inbox.receive(new, data)
        if stands.digest != new.digest:
            return Refused(reason=Reason.DUPLICATE_KEY)
        return stands if stands.is_applied else self._settled(request, replace(stands, kind=new.kind), read)

    def retry(self, request: Request, id: str) -> Inbound | Refused:
        """Try a message that waits once more; raises NotFound for one that is not the caller's own."""
        waiting = self.find(request, id)
        if waiting.is_applied:
            return waiting
        original = self._inbox.original(waiting)
        if original is None:
            raise Conflict("the message is not whole: its sender has to send it again")
        read = self._read(waiting.format, original, _source(request))
        if isinstance(read, Refused):  # it was readable once
            read = _Dead(read.reason, read.path)
        if isinstance(read, Conversion):
            waiting = replace(waiting, kind=read.kind)
            read = self._authorised(request, read)
        return self._settled(request, waiting, read)

    def find(self, request: Request, id: str) -> Inbound:
        """A message of the caller's own; raises NotFound."""
        found = self._inbox.find(id, at=request.at)
        if found is None or found.client_id != request.caller.client_id:
            raise NotFound()
        return found

    def waiting(self, request: Request, status: Status | None, *, after: str = "") -> tuple[list[Inbound], str]:
        """The caller's messages that are not applied, the oldest first, and where to go on."""
        return self._inbox.waiting(request.caller.client_id, status, after=after, limit=PAGE)

    # --- one message --------------------------------------------------------------------------------------------

    def _id(self, client_id: str, of: SourceFormat, sender: str, control_id: str) -> str:
        return self._blinder.blind("ingestion", json.dumps([client_id, of.value, sender, control_id]))

    def _read(self, of: SourceFormat, data: bytes, source: Source) -> Conversion | _Dead | Refused:
        converter = self._converters().get(of)
        if converter is None:
            return Refused(reason=Reason.UNSUPPORTED_MESSAGE_TYPE)
        try:
            return converter(data, source)
        except RefusedMessage as refusal:
            if refusal.reason.is_of_the_kind:
                return Refused(reason=refusal.reason, path=refusal.path)
            return _Dead(refusal.reason, refusal.path)
        except Exception as defect:  # noqa: BLE001 - of ours: it must neither lose the message nor stop the next
            self._report(defect)
            return _Dead(Reason.INTERNAL_ERROR)

    def _authorised(self, request: Request, conversion: Conversion) -> Conversion | _Dead:
        """Who may not write such things leaves nothing behind."""
        try:
            self._exchange.authorise(request, conversion)
        except Forbidden:
            raise
        except PasserelleError as refusal:
            return _dead(refusal)
        return conversion

    def _settled(self, request: Request, inbound: Inbound, read: Conversion | _Dead) -> Inbound | Refused:
        if isinstance(read, _Dead):
            return self._buried(request, inbound, read)
        try:
            made, passed_over = self._applied(request, inbound, read)
        except (Unavailable, Busy):
            raise
        except Forbidden:
            self._inbox.discard(inbound)  # the patient, or a rule, is against it: it is not for us to keep
            return Refused(reason=Reason.INTERNAL_ERROR)
        except PasserelleError as refusal:
            if isinstance(refusal, Fault):
                self._report(refusal)
            return self._buried(request, inbound, _dead(refusal))
        except Exception as defect:  # noqa: BLE001 - of ours, as above
            self._report(defect)
            return self._buried(request, inbound, _Dead(Reason.INTERNAL_ERROR))
        return self._inbox.settle(
            replace(
                inbound,
                status=Status.APPLIED,
                reason=None,
                path="",
                made=made,
                lost=read.lost,
                passed_over=passed_over,
                settled_at=request.at,
            )
        )

    def _buried(self, request: Request, inbound: Inbound, dead: _Dead) -> Inbound:
        return self._inbox.settle(
            replace(inbound, status=Status.DEAD, reason=dead.reason, path=dead.path, settled_at=request.at)
        )

    def _applied(
        self, request: Request, inbound: Inbound, conversion: Conversion
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What was made, and what was passed over. A merge comes after what the message says of the survivor."""
        key = f"ingestion-{inbound.id}"
        command = replace(request, idempotency_key=key, fingerprint=inbound.digest)
        made: tuple[str, ...] = ()
        passed_over: tuple[str, ...] = ()
        if conversion.bundle:
            made, passed_over = self._in_order(command, conversion)
        for number, document in enumerate(conversion.withdrawn):
            step = replace(command, idempotency_key=f"{key}-withdrawal-{number}")
            made = (*made, self._exchange.withdraw(step, document))
        if conversion.merge is not None:
            merged = self._exchange.merge(replace(command, idempotency_key=f"{key}-merge"), *conversion.merge)
            made = (*made, merged)
        return made, passed_over

    def _in_order(self, command: Request, conversion: Conversion) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Apply all but what a newer message told; the commit itself fails where one comes between."""
        at = conversion.at
        if at is None or not conversion.ordered:
            return self._exchange.apply(command, conversion, (), ()), ()
        names = _names(command.caller.client_id, conversion)
        for _ in range(_RACES):
            newest = self._positions.newest(names.values())
            older = {url for url, name in names.items() if newest.get(name, at) > at}
            ahead = {name for url, name in names.items() if url not in older}
            try:
                made = self._exchange.apply(
                    command, conversion, older, [Advance(name=name, at=at) for name in sorted(ahead)]
                )
            except OvertakenError:
                continue
            return made, tuple(sorted(names[url].partition("|")[2].partition("?")[0] for url in older))
        raise Busy(headers={"Retry-After": "1"})


def _source(request: Request) -> Source:
    caller = request.caller
    if caller.domain is None:
        raise Forbidden("only a system that has an identifier domain may send messages")
    return Source(
        domain=caller.domain,
        organisation=caller.organisation,
        organisation_reference={
            "type": "Organization",
            "identifier": {"system": IDNST, "value": caller.organisation},
        },
        now=request.at,
    )


def _names(client_id: str, conversion: Conversion) -> dict[str, str]:
    """What the ordered entries are about, by full URL: how they are found is who they are."""
    return {
        str(entry["fullUrl"]): f"{client_id}|{entry['request']['url']}"
        for entry in conversion.bundle.get("entry", ())
        if entry.get("fullUrl") in conversion.ordered
    }


def _dead(refusal: PasserelleError) -> _Dead:
    issue = refusal.issues[0]
    path = issue.expression or ""
    if path.endswith((".subject", ".patient")):  # who that is, is what a sender's message most often leaves open
        return _Dead(Reason.UNKNOWN_KEY, path)
    return _Dead(_REASONS.get(issue.code, Reason.INTERNAL_ERROR), path)
