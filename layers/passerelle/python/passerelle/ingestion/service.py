"""Taking in what other systems send: durable first, applied by the ordinary commands, acknowledged last.

    receive -> converted (pure) -> authorised -> stored in the inbox -> applied and settled -> acknowledged

A crash anywhere is mended by the same message again: the inbox knows it by its control id, the transaction by an
idempotency key that is made of it, and neither does anything twice. Two that come at once both try: one commits, and
both learn the same. Contract relied on: HL7 2.5, chapter 2.9 (acknowledgements) and table 0357.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from passerelle.access import Request
from passerelle.directory.identifiers import IDNST
from passerelle.errors import Busy, Conflict, Fault, Forbidden, Gone, NotFound, PasserelleError, Unavailable
from passerelle.identifiers import Blinder
from passerelle.ingestion.model import (
    Advance,
    Applied,
    Conversion,
    Converter,
    Inbound,
    OvertakenError,
    Position,
    Reason,
    Refused,
    RefusedMessage,
    Settled,
    Source,
    SourceFormat,
    Status,
)
from passerelle.ingestion.ports import Exchange, Inbox, Positions
from passerelle.journal import Change

_RACES: Final = 8
_NOWHERE: Final = Position()
_HASH: Final = 20  # characters that tell the parts of one position apart
_MOST_LOST: Final = 1000
_MOST_BESIDE: Final = 20  # positions and parts that leave room in a commit, of a hundred actions, to settle a message
PAGE: Final = 100
_REASONS: Final = {
    "required": Reason.REQUIRED_FIELD_MISSING,
    "structure": Reason.DATA_TYPE,
    "value": Reason.DATA_TYPE,
    "code-invalid": Reason.TABLE_VALUE_NOT_FOUND,
    "not-found": Reason.UNKNOWN_KEY,
    "duplicate": Reason.DUPLICATE_KEY,
    "multiple-matches": Reason.DUPLICATE_KEY,
    "conflict": Reason.RECORD_LOCKED,
    "business-rule": Reason.BUSINESS_RULE,
    "not-supported": Reason.BUSINESS_RULE,
    "invariant": Reason.DATA_TYPE,
    "too-long": Reason.DATA_TYPE,
    "too-costly": Reason.DATA_TYPE,
}


Seen = Mapping[str, Position] | None
"""Positions that were read already."""


@dataclass(frozen=True, slots=True)
class _Dead:
    reason: Reason
    path: str = ""


class IngestionService:
    """`report` is told of defects, which wait with the other dead letters: a message that nobody can read must not
    keep back those behind it. `in_parallel` runs independent calls at once and returns their results in order."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        positions: Positions,
        exchange: Exchange,
        converters: Callable[[], Mapping[SourceFormat, Converter]],
        blinder: Blinder,
        report: Callable[[BaseException], None],
        in_parallel: Callable[..., tuple[Any, ...]],
    ) -> None:
        self._in_parallel = in_parallel
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
        read = self._read(of, data, source)
        if isinstance(read, Refused):
            return self._known(request, new) or read
        if isinstance(read, Conversion):
            new = replace(new, kind=read.kind)
            try:
                read = self._authorised(request, read)
            except Forbidden:
                known = self._known(request, new)
                if known is None:
                    raise
                return known
        # Where others were is read as of now, or before: the commit fails unless they still are there.
        stands, seen = self._in_parallel(lambda: self._inbox.receive(new, data), lambda: self._seen(request, read))
        return self._answered(new, stands) or self._settled(request, replace(stands, kind=new.kind), read, seen)

    def _known(self, request: Request, new: Inbound) -> Inbound | Refused | None:
        """The answer to what nothing is kept of, and came before: it is what it was."""
        known = self._inbox.find(new.id, at=request.at)
        return self._answered(new, known) if known is not None else None

    @staticmethod
    def _answered(new: Inbound, stands: Inbound) -> Inbound | Refused | None:
        """What is said of a message without another look at it."""
        if stands.digest != new.digest:
            return Refused(reason=Reason.DUPLICATE_KEY)
        return stands if stands.is_applied else None

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

    def discard(self, request: Request, id: str) -> None:
        """Keep nothing of a message that is not applied; raises NotFound, and Conflict for one that is applied."""
        waiting = self.find(request, id)
        if waiting.is_applied or self._inbox.discard(waiting) is not None:
            raise Conflict("the message is applied")

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

    def _settled(
        self, request: Request, inbound: Inbound, read: Conversion | _Dead, seen: Seen = None
    ) -> Inbound | Refused:
        if isinstance(read, _Dead):
            return self._buried(request, inbound, read)
        try:
            done = self._applied(request, inbound, read, seen)
        except (Unavailable, Busy):
            raise
        except (Forbidden, Gone):
            # The patient, or a rule, is against it, or the person was erased: it is not for us to keep.
            return self._inbox.discard(inbound) or Refused(reason=Reason.INTERNAL_ERROR)
        except PasserelleError as refusal:
            if isinstance(refusal, Fault):
                self._report(refusal)
            return self._buried(request, inbound, _dead(refusal))
        except Exception as defect:  # noqa: BLE001 - of ours, as above
            self._report(defect)
            return self._buried(request, inbound, _Dead(Reason.INTERNAL_ERROR))
        applied = _as_applied(inbound, read, done, request.at)
        return applied if done.is_settled else self._inbox.settle(applied)

    def _buried(self, request: Request, inbound: Inbound, dead: _Dead) -> Inbound:
        return self._inbox.settle(
            replace(inbound, status=Status.DEAD, reason=dead.reason, path=dead.path, settled_at=request.at)
        )

    def _applied(self, request: Request, inbound: Inbound, conversion: Conversion, seen: Seen) -> Applied:
        """A merge comes after what the message says of the survivor; the last step settles the message."""
        key = f"ingestion-{inbound.id}"
        command = replace(request, idempotency_key=key, fingerprint=inbound.digest)
        done = Applied()
        if conversion.bundle:
            done = self._in_order(command, inbound, conversion, seen)
        for number, document in enumerate(conversion.withdrawn):
            step = replace(command, idempotency_key=f"{key}-withdrawal-{number}")
            done += self._exchange.withdraw(step, document)
        if conversion.merge is not None:
            merged = self._exchange.merge(replace(command, idempotency_key=f"{key}-merge"), *conversion.merge)
            done += Applied(made=(merged,))
        return done

    def _in_order(self, command: Request, inbound: Inbound, conversion: Conversion, seen: Seen) -> Applied:
        """Apply all but what a newer message told; the commit itself fails where one comes between."""
        if conversion.at is None or not conversion.ordered:
            return self._step(command, inbound, conversion)
        at = min(conversion.at, inbound.received_at)  # a clock that is ahead must not keep back what comes after
        places = self._places(command, conversion)
        for attempt in range(_RACES):
            known = seen if seen is not None and attempt == 0 else self._found(places)
            older: set[str] = set()
            ahead: dict[str, list[str]] = {}
            for url, (name, each) in places.items():
                if known.get(name, _NOWHERE).newest.get(each, at) > at:
                    older.add(url)
                else:
                    ahead.setdefault(name, []).append(each)
            advances = [
                Advance(name=name, seen=known.get(name, _NOWHERE), of=tuple(ahead[name]), at=at)
                for name in sorted(ahead)
            ]
            try:
                return self._step(command, inbound, conversion, older, advances)
            except OvertakenError:
                continue
        raise Busy(headers={"Retry-After": "1"})

    def _step(
        self,
        command: Request,
        inbound: Inbound,
        conversion: Conversion,
        older: Collection[str] = (),
        advances: Sequence[Advance] = (),
    ) -> Applied:
        left = Applied(passed_over=tuple(url.partition("?")[0] for url in _found_by(conversion, older)))
        has_room = len(advances) + inbound.parts <= _MOST_BESIDE
        is_last = has_room and not conversion.withdrawn and conversion.merge is None

        def beside(done: Applied) -> Sequence[Change]:
            if not (is_last and done.is_settled):
                return advances
            return [*advances, Settled(inbound=_as_applied(inbound, conversion, left + done, command.at))]

        done = left + self._exchange.apply(command, conversion, older, beside)
        return replace(done, is_settled=is_last and done.is_settled)

    def _seen(self, request: Request, read: Conversion | _Dead) -> Seen:
        """The positions that a message has to do with."""
        if isinstance(read, _Dead) or read.at is None or not read.ordered:
            return None
        try:
            places = self._places(request, read)
        except Exception:  # noqa: BLE001 - of ours: it comes again once the message is stored, and is reported then
            return None
        return self._found(places)

    def _found(self, places: Mapping[str, tuple[str, str]]) -> Mapping[str, Position]:
        return self._positions.find({name for name, _ in places.values()})

    def _places(self, command: Request, conversion: Conversion) -> dict[str, tuple[str, str]]:
        """By full URL: the position that an entry has a part in, and which; how it is found is what it is."""
        about = f"{command.caller.domain}|"
        return {
            url: (
                self._blinder.blind("ingestion-position", about + conversion.ordered[url]),
                self._blinder.blind("ingestion-position", about + found_by)[:_HASH],
            )
            for url, found_by in zip(conversion.ordered, _found_by(conversion, conversion.ordered), strict=True)
        }


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


def _as_applied(inbound: Inbound, conversion: Conversion, done: Applied, at: datetime) -> Inbound:
    return replace(
        inbound,
        status=Status.APPLIED,
        reason=None,
        path="",
        made=done.made,
        lost=_listed((*conversion.lost, *done.lost)),
        kept=done.kept,
        passed_over=tuple(sorted(set(done.passed_over))),
        settled_at=at,
    )


def _found_by(conversion: Conversion, urls: Iterable[str]) -> list[str]:
    """The conditions by which entries are found, in the order of their full URLs."""
    requests = {entry.get("fullUrl"): str(entry["request"]["url"]) for entry in conversion.bundle.get("entry", ())}
    return [requests[url] for url in urls]


def _listed(lost: Sequence[str]) -> tuple[str, ...]:
    """What is lost, as far as anybody reads it; the rest by number."""
    more = len(lost) - _MOST_LOST
    return (*lost[:_MOST_LOST], f"and {more} more") if more > 0 else tuple(lost)


def _dead(refusal: PasserelleError) -> _Dead:
    issue = refusal.issues[0]
    path = issue.expression or ""
    if issue.code != "business-rule" and path.endswith((".subject", ".patient")):
        # Who that is, is what a sender's message most often leaves open.
        return _Dead(Reason.UNKNOWN_KEY, path)
    return _Dead(_REASONS.get(issue.code, Reason.INTERNAL_ERROR), path)
