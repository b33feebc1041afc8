"""The boundary of functions that streams and queues start: only the records that failed come again.

    handler = BatchApp("dispatch", source="queue", provide=wiring.dispatch)

    @handler.record
    def dispatch(record: Mapping[str, Any], wired: DispatchWiring) -> None: ...

Answers in the form of ReportBatchItemFailures, which the event source mapping must have switched on. Of a
FIFO queue, the rest of a message group is left alone once one of its messages failed, so that its order is
kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    SqsFifoPartialProcessor,
    process_partial_response,
)

from passerelle.api.app import places
from passerelle.notifications.model import HeldBackError

_T = TypeVar("_T")
Source = Literal["stream", "queue", "fifo queue"]
RecordHandler = Callable[[Mapping[str, Any], Any], None]
# Serves a whole batch; what it returns is not done: where (`position`), and why.
BatchHandler = Callable[[Sequence[Mapping[str, Any]], Any], Iterable[tuple[Sequence[str], Exception]]]


def read_each(
    records: Sequence[Mapping[str, Any]], read: Callable[[Mapping[str, Any]], _T]
) -> tuple[Mapping[str, _T], list[tuple[Sequence[str], Exception]]]:
    """What records hold, by their positions; one that cannot be read is no other's fault, and fails alone."""
    found, failures = {}, list[tuple[Sequence[str], Exception]]()
    for record in records:
        try:
            found[position(record)] = read(record)
        except Exception as failure:  # noqa: BLE001 - reported with the others
            failures.append(([position(record)], failure))
    return found, failures


def position(record: Mapping[str, Any]) -> str:
    """What a record of a stream, or a message of a queue, is reported by."""
    return str(record["dynamodb"]["SequenceNumber"] if "dynamodb" in record else record["messageId"])


class BatchApp:
    """A Lambda handler of batches. `provide`, a function of `wiring`, gives the services, once for each batch."""

    def __init__(self, name: str, *, source: Source, provide: Callable[[], Any]) -> None:
        self.name = name
        self.source = source
        self._provide = provide
        self._serve: RecordHandler | None = None
        self._serve_all: BatchHandler | None = None
        self._log = Logger(service=f"passerelle-{name}")
        if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
            provide()  # at INIT, where the processor is free and fast

    def record(self, handler: RecordHandler) -> RecordHandler:
        """Declare what serves one record, in the form that Lambda gets it."""
        self._serve = handler
        return handler

    def batch(self, handler: BatchHandler) -> BatchHandler:
        """Declare what serves all records at once, instead."""
        self._serve_all = handler
        return handler

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        if self._serve_all is not None:
            return self._served_at_once(self._serve_all, event["Records"])
        processor = self._processor()
        # A batch that failed as a whole is answered like any other, not raised: Lambda would log the records'
        # errors.
        processor.raise_on_entire_batch_failure = False
        wired = self._provide()
        response = process_partial_response(
            event=event, record_handler=lambda record: self._guarded(record, wired), processor=processor
        )
        return dict(response)

    def _served_at_once(self, serve: BatchHandler, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        failed: list[str] = []
        try:
            for positions, failure in serve(records, self._provide()):
                self._report(failure)
                failed += positions
        except Exception as failure:  # noqa: BLE001 - the batch as a whole; raised, Lambda would log what is in it
            self._report(failure)
            failed = [position(record) for record in records]
        return {"batchItemFailures": [{"itemIdentifier": position} for position in failed]}

    def _processor(self) -> BatchProcessor:
        match self.source:
            case "stream":
                return BatchProcessor(event_type=EventType.DynamoDBStreams)
            case "queue":
                return BatchProcessor(event_type=EventType.SQS)
            case "fifo queue":
                return SqsFifoPartialProcessor(skip_group_on_error=True)

    def _guarded(self, record: Any, wired: Any) -> None:
        """Serve one record; log a failure by class and place, no word of the record."""
        assert self._serve is not None
        try:
            self._serve(record.raw_event, wired)
        except HeldBackError:  # nothing failed: the record comes again at its time
            raise
        except Exception as failure:
            self._report(failure)
            raise

    def _report(self, failure: Exception) -> None:
        cause = failure.__cause__
        self._log.warning(
            "record failed, to be repeated",
            failure=type(failure).__name__,
            reason=getattr(failure, "reason", ""),
            cause=type(cause).__name__ if cause else "",
            places=places(failure),
        )
