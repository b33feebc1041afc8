"""Messages of other formats over HTTP: `POST /hl7v2`, `/hprim`, `/cda`, and `/ingestion` to look after them.

HL7 version 2 as in "HL7 over HTTP" of the HAPI project, but that every acknowledgement comes with 200: what a message
is worth is said by its ACK, and by nothing else. A sender who wants none (chapter 2.9.3) gets 204. Without a status
that says what became of a message - 503, 429, none at all - it has to be sent again, as it was.

The other formats have no acknowledgement: 201 with Parameters for what is applied, 422 with an OperationOutcome for
what waits (at `Location`) or is refused.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from email.message import Message
from typing import Any, Final, Protocol

from aws_lambda_powertools import Logger

from passerelle.access import Touched
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply, Wired, places
from passerelle.api.routes import Action
from passerelle.errors import Invalid, Issue, TooLarge, Unprocessable
from passerelle.fhir.dates import instant
from passerelle.fhir.outcome import outcome
from passerelle.hl7v2 import acknowledgement
from passerelle.hl7v2.acknowledgement import Batch, Heading, Verdict
from passerelle.identifiers import new_ulid
from passerelle.ingestion.model import Inbound, Reason, Refused, SourceFormat, Status
from passerelle.ingestion.service import IngestionService

HL7V2: Final = "application/hl7-v2"
HL7V2_TYPES: Final = (HL7V2, "application/hl7-v2+er7", "x-application/hl7-v2+er7", "text/plain")
HPRIM_TYPES: Final = ("application/hprim", "application/x-hprim", "text/plain")
CDA_TYPES: Final = ("application/cda+xml", "application/hl7-cda+xml", "application/xml", "text/xml")
MAX_BATCH: Final = 100
NAMESPACE: Final = "Passerelle"
DEAD_LETTERS: Final = "IngestionDeadLetters"
"""The metric that the alarm looks at."""
_BASE: Final = "/ingestion"
_MAX_PLACE: Final = 128


class WiredIngestion(Wired, Protocol):
    @property
    def ingestion(self) -> IngestionService: ...


def serve_ingestion(app: FhirApp) -> None:
    declared = (
        ("/hl7v2", _take_hl7v2, HL7V2_TYPES),
        ("/hprim", _take_hprim, HPRIM_TYPES),
        ("/cda", _take_cda, CDA_TYPES),
    )
    for path, take, consumes in declared:
        name = f"${path[1:]}"
        app.route(
            "POST",
            path,
            base="",
            name=name,
            action="E",
            resource=None,
            permission=None,
            raw=True,
            is_listed=False,
            consumes=consumes,
        )(take)
    looked_after: tuple[tuple[str, str, Action, Callable[[Call, WiredIngestion], Reply]], ...] = (
        ("GET", "", "R", _list),
        ("GET", "/{id}", "R", _show),
        ("POST", "/{id}/$retry", "E", _retry),
        ("DELETE", "/{id}", "D", _discard),
    )
    for method, path, action, handle in looked_after:
        app.route(
            method,
            f"{_BASE}{path}",
            base="",
            name="$retry" if method == "POST" else "$ingestion",
            action=action,
            resource=None,
            permission=None,
            is_listed=False,
        )(handle)


def report_defect(failure: BaseException) -> None:
    """Log where it failed, and no word of a message."""
    cause = failure.__cause__
    Logger(service="passerelle-ingest").error(
        "failed",
        failure=type(failure).__name__,
        cause=type(cause).__name__ if cause else "",
        places=places(failure),
    )


# --- HL7 version 2 ----------------------------------------------------------------------------------------------------


def _take_hl7v2(call: Call, wired: WiredIngestion) -> Reply:
    data = _in_its_charset(call)
    batch = acknowledgement.batch_of(data)
    if batch is None:
        answer, touched = _acknowledged(call, wired, data)
        return _er7(answer, touched)
    if len(batch.messages) > MAX_BATCH:
        raise TooLarge(f"a batch may have {MAX_BATCH} messages")
    answers = [_acknowledged(call, wired, message) for message in batch.messages]
    touched = COMMITTED if answers and all(each is COMMITTED for _, each in answers) else Touched()
    return _er7(_batch_answer(call, batch, [answer for answer, _ in answers if answer]), touched)


def _acknowledged(call: Call, wired: WiredIngestion, data: bytes) -> tuple[bytes, Touched]:
    """The ACK of one message, empty where its sender wants none."""
    heading = acknowledgement.heading_of(data)
    done: Inbound | Refused
    if heading is None:
        done = Refused(reason=Reason.UNSUPPORTED_MESSAGE_TYPE)
    elif not heading[10]:
        done = Refused(reason=Reason.REQUIRED_FIELD_MISSING, path="MSH-10")
    else:
        done = wired.ingestion.receive(
            call.request, SourceFormat.HL7V2, data, control_id=heading[10], sender=heading.sender
        )
    return _ack(heading, call, done, data), _recorded(call, done)


def _ack(heading: Heading | None, call: Call, done: Inbound | Refused, data: bytes) -> bytes:
    """The same bytes for the same message, as long as it is known: MSH-7 and MSH-10 are made of when it first came."""
    verdict = _verdict(done)
    code = heading.mode(verdict) if heading else "AR"
    if code is None:
        return b""
    fault = None
    if verdict != "A":
        fault = acknowledgement.Fault(code=done.reason or Reason.INTERNAL_ERROR, path=done.path)
    id, at = (done.id, done.received_at) if isinstance(done, Inbound) else (_digest(data), call.request.at)
    return acknowledgement.acknowledge(heading, code, id=f"{verdict}{id[:19]}", at=at, fault=fault)


def _verdict(done: Inbound | Refused) -> Verdict:
    if isinstance(done, Refused):
        return "R"
    return "A" if done.is_applied else "E"


def _batch_answer(call: Call, batch: Batch, answers: list[bytes]) -> bytes:
    return acknowledgement.acknowledge_batch(batch, answers, id=new_ulid(call.request.at)[:20], at=call.request.at)


def _er7(answer: bytes, touched: Touched) -> Reply:
    if not answer:
        return Reply(status=204, body=None, touched=touched)
    return Reply(body=answer, content_type=HL7V2, touched=touched)


def _in_its_charset(call: Call) -> bytes:
    """The message as its own header says, which alone counts; where that says nothing, as that of HTTP does."""
    heading = acknowledgement.heading_of(call.body)
    sent = Message()
    sent["content-type"] = call.content_type
    charset = sent.get_content_charset()
    if charset is None or heading is None or heading.charset:
        return call.body
    try:
        if codecs.lookup(charset).name in ("utf-8", "ascii"):
            return call.body
        return call.body.decode(charset).encode()
    except (LookupError, UnicodeDecodeError):
        raise Invalid("the body is not in the charset of its Content-Type", code="value") from None


# --- other formats ----------------------------------------------------------------------------------------------------


def _take_hprim(call: Call, wired: WiredIngestion) -> Reply:
    return _take(call, wired, SourceFormat.HPRIM)


def _take_cda(call: Call, wired: WiredIngestion) -> Reply:
    return _take(call, wired, SourceFormat.CDA)


def _take(call: Call, wired: WiredIngestion, of: SourceFormat) -> Reply:
    """What has no control id is known by its bytes."""
    if not call.body:
        raise Invalid("a body is required", code="required")
    done = wired.ingestion.receive(call.request, of, call.body, control_id=_digest(call.body), sender="")
    return _answered(call, done, status=201)


def _answered(call: Call, done: Inbound | Refused, *, status: int) -> Reply:
    if isinstance(done, Refused):
        raise Unprocessable(_said(done), code="not-supported", expression=done.path or None)
    headers = {"Location": f"{_root(call)}{_BASE}/{done.id}"}
    touched = _recorded(call, done)
    if done.is_applied:
        return Reply(status=status, body=_parameters([done]), headers=headers, touched=touched, is_disclosed=True)
    waits = Issue(code="processing", diagnostics=_said(done), expression=done.path or None)
    return Reply(status=422, body=outcome(waits, severity="error"), headers=headers, touched=touched)


def _said(done: Inbound | Refused) -> str:
    text = acknowledgement.TEXTS[done.reason or Reason.INTERNAL_ERROR]
    if isinstance(done, Refused):
        return f"refused: {text}"
    return f"kept and not applied: {text}"


# --- looking after them -----------------------------------------------------------------------------------------------


def _show(call: Call, wired: WiredIngestion) -> Reply:
    found = wired.ingestion.find(call.request, call.id)
    return Reply(body=_parameters([found]), touched=Touched(), is_disclosed=True)


def _list(call: Call, wired: WiredIngestion) -> Reply:
    """Those that are not applied: `status=dead`, `status=received`, or both."""
    asked = call.one("status")
    if asked not in (None, Status.DEAD, Status.RECEIVED):
        raise Invalid("status is dead or received", code="value", expression="status")
    status = Status(asked) if asked else None
    place = call.one("after") or ""
    if len(place) > _MAX_PLACE:
        raise Invalid("after is no place of this list", code="value", expression="after")
    found, after = wired.ingestion.waiting(call.request, status, after=place)
    return Reply(body=_parameters(found, after=after), touched=Touched(), is_disclosed=True)


def _discard(call: Call, wired: WiredIngestion) -> Reply:
    wired.ingestion.discard(call.request, call.id)
    return Reply(status=204, body=None, touched=Touched())


def _retry(call: Call, wired: WiredIngestion) -> Reply:
    return _answered(call, wired.ingestion.retry(call.request, call.id), status=200)


def _parameters(messages: list[Inbound], *, after: str = "") -> Mapping[str, Any]:
    parts: list[dict[str, Any]] = [{"name": "message", "part": _parts(each)} for each in messages]
    if after:
        parts.append({"name": "after", "valueString": after})
    return {"resourceType": "Parameters", **({"parameter": parts} if parts else {})}


def _parts(each: Inbound) -> list[dict[str, Any]]:
    """Names of fields, codes and references; the control id is the sender's own."""
    said: list[tuple[str, str, str]] = [
        ("id", "valueId", each.id),
        ("format", "valueCode", each.format.value),
        ("control-id", "valueString", each.control_id),
        ("received", "valueInstant", instant(each.received_at)),
        ("status", "valueCode", each.status.value),
    ]
    if each.kind:
        said.append(("kind", "valueString", each.kind))
    if each.reason:
        said.append(("reason", "valueCode", each.reason.value))
        said.append(("text", "valueString", acknowledgement.TEXTS[each.reason]))
    if each.path:
        said.append(("path", "valueString", each.path))
    said += [("made", "valueUri", reference) for reference in each.made]
    said += [("lost", "valueString", field) for field in each.lost]
    said += [("kept", "valueUri", reference) for reference in each.kept]
    said += [("passed-over", "valueCode", kind) for kind in each.passed_over]
    return [{"name": name, element: value} for name, element, value in said]


def _recorded(call: Call, done: Inbound | Refused) -> Touched:
    """What was applied now has its audit records in its commit; every other request is recorded as itself."""
    if isinstance(done, Inbound) and done.status is Status.DEAD and done.settled_at == call.request.at:
        _count_dead(done)
    if isinstance(done, Inbound) and done.is_applied and done.settled_at == call.request.at and done.made:
        return COMMITTED
    return Touched()


def _count_dead(done: Inbound) -> None:
    """One more dead letter, in CloudWatch's embedded metric format: a line of the log that becomes a metric."""
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [["function"]],
        "Metrics": [{"Name": DEAD_LETTERS, "Unit": "Count"}],
    }
    said = {
        "_aws": {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [directive]},
        "function": "ingest",
        DEAD_LETTERS: 1,
        "reason": done.reason,
        "kind": done.kind,
    }
    sys.stdout.write(f"{json.dumps(said)}\n")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _root(call: Call) -> str:
    return call.request.base_url.rpartition("/")[0]
