"""The event pump: feeds queues and streams to the functions by the template's event source mappings.

And new objects to the malware scanner (`scanner.py`), whose reports come back by a queue; and what schedules send
(`schedules.py`).

Contract: AWS Lambda developer guide, "Using Lambda with Amazon SQS" and "Using Lambda with Amazon DynamoDB":

    queue     a batch that fails, or the messages it reports, come back after the visibility timeout; the
              redrive policy, kept by the emulator, moves what failed too often to the dead-letter queue. FIFO
              groups keep their order: the emulator holds one back while a message of it is in flight
    stream    one batch at a time, in order; a batch that fails is tried again from the first record that it
              reports, halved if the mapping says so; when its retries are spent, its place in the stream goes
              to the on-failure queue

Each mapping has threads of its own, so that a slow or dead consumer stalls nothing else; a queue has several,
as Lambda does, so that one message group does not stall another.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from local import filters
from local.intrinsics import TemplateError
from local.resources import Client, Made, Properties
from local.runtime import FunctionError, PayloadTooLargeError, Runtime
from local.scanner import Scanner, ScanPlan
from local.schedules import Clock, Schedule

QUEUE_THREADS: Final = 4
MAX_RECEIVED: Final = 10  # messages of one ReceiveMessage
_STREAM_POLL_SECONDS: Final = 0.25  # as Lambda does
_IDLE_POLL_SECONDS: Final = 1.0  # of a stream in which nothing happened for a while
_QUEUE_WAIT_SECONDS: Final = 1  # also how long a stop may take
_MAX_PAUSE_SECONDS: Final = 10.0
_ROUNDS: Final = 1_000

Pause = Callable[[float], bool]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSource:
    """An event source mapping of the template; the last five fields are for streams only."""

    name: str
    function: str
    arn: str
    queue_url: str | None  # None: a stream
    patterns: tuple[Mapping[str, Any], ...]
    batch_size: int
    reports_failures: bool
    from_the_start: bool
    bisects: bool
    max_retries: int | None  # None: for as long as the stream keeps the record
    max_age_seconds: int | None
    failures_url: str | None

    @classmethod
    def read(
        cls, logical_id: str, given: Properties, by_arn: Mapping[str, str], made: Mapping[str, Made]
    ) -> EventSource:
        """Raises TemplateError for a property that the pump does not implement."""
        for name in ("ParallelizationFactor", "MaximumBatchingWindowInSeconds", "ScalingConfig"):
            given.take(name)  # how fast, not what
        if not given.take("Enabled", True):
            raise TemplateError(f"{logical_id}: a mapping is enabled")
        arn = given.take("EventSourceArn")
        if ":sqs:" not in arn and ":dynamodb:" not in arn:
            raise TemplateError(f"{logical_id}: events come from queues and table streams")
        queue = made[by_arn[arn]].ref if ":sqs:" in arn else None
        function = given.take("FunctionName")
        criteria = given.part("FilterCriteria")
        patterns = tuple(json.loads(each["Pattern"]) for each in criteria.take("Filters", []))
        criteria.finish()
        for pattern in patterns:
            filters.check(pattern)
        destination = given.part("DestinationConfig")
        on_failure = destination.part("OnFailure")
        failures = on_failure.take("Destination")
        on_failure.finish()
        destination.finish()
        retries, age = given.take("MaximumRetryAttempts", -1), given.take("MaximumRecordAgeInSeconds", -1)
        source = cls(
            name=logical_id,
            function=by_arn.get(function, function),
            arn=arn,
            queue_url=queue,
            patterns=patterns,
            batch_size=int(given.take("BatchSize", 10 if queue else 100)),
            reports_failures="ReportBatchItemFailures" in given.take("FunctionResponseTypes", []),
            from_the_start=given.take("StartingPosition") == "TRIM_HORIZON",
            bisects=given.take("BisectBatchOnFunctionError", False),
            max_retries=None if retries == -1 else retries,
            max_age_seconds=None if age == -1 else age,
            failures_url=made[by_arn[failures]].ref if failures else None,
        )
        given.finish()
        return source


class _Poller(Protocol):
    def poll(self, pause: Pause | None) -> int:
        """Take one batch, if there is one; returns how many records were taken, whatever became of them.

        `pause` waits for seconds, where there is something to wait for, and is true once it is time to stop;
        without it, nothing is waited for.
        """
        ...


@dataclass(slots=True, kw_only=True)
class _QueuePoller:
    source: EventSource
    runtime: Runtime
    sqs: Client
    region: str
    comes_back_at_once: bool = False
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def poll(self, pause: Pause | None) -> int:
        with self._turn:  # one thread waits for messages, however many there are to work on them
            messages = [] if pause is not None and pause(0) else self._received(pause is not None)
        if not messages:
            return 0
        records = [self._record(message) for message in messages]
        wanted = [record for record in records if _passes(self.source.patterns, record, "body")]
        failed = self._failures(wanted) if wanted else set()
        done = [message for message in messages if message["MessageId"] not in failed]
        for start in range(0, len(done), MAX_RECEIVED):
            entries = [_entry(message) for message in done[start : start + MAX_RECEIVED]]
            self.sqs.delete_message_batch(QueueUrl=self.source.queue_url, Entries=entries)
        if self.comes_back_at_once:
            for message in messages:
                if message["MessageId"] in failed:
                    self.sqs.change_message_visibility(
                        QueueUrl=self.source.queue_url,
                        ReceiptHandle=message["ReceiptHandle"],
                        VisibilityTimeout=0,
                    )
        return len(messages)

    def _received(self, waits: bool) -> list[Any]:
        messages: list[Any] = []
        while len(messages) < self.source.batch_size:
            wanted = min(MAX_RECEIVED, self.source.batch_size - len(messages))
            received = self.sqs.receive_message(
                QueueUrl=self.source.queue_url,
                MaxNumberOfMessages=wanted,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
                WaitTimeSeconds=_QUEUE_WAIT_SECONDS if waits and not messages else 0,
            ).get("Messages", [])
            messages += received
            if len(received) < wanted:
                break
        return messages

    def _failures(self, records: Sequence[Mapping[str, Any]]) -> set[str]:
        """The ids of the messages that must come back."""
        everything = {record["messageId"] for record in records}
        answer = _invoked(self.runtime, self.source, records)
        if answer is None:
            return everything
        reported = {failure.get("itemIdentifier") for failure in answer.get("batchItemFailures") or []}
        if not self.source.reports_failures or not reported:
            return set()
        return reported if reported <= everything else everything

    def _record(self, message: Mapping[str, Any]) -> dict[str, Any]:
        attributes = {
            name: {
                "dataType": each["DataType"],
                "stringValue": each.get("StringValue"),
                "binaryValue": each.get("BinaryValue"),
            }
            for name, each in message.get("MessageAttributes", {}).items()
        }
        return {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message.get("Attributes", {}),
            "messageAttributes": attributes,
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": self.source.arn,
            "awsRegion": self.region,
        }


@dataclass(slots=True, kw_only=True)
class _StreamPoller:
    source: EventSource
    runtime: Runtime
    streams: Client
    sqs: Client
    region: str
    now: Callable[[], float] = time.time
    _iterator: str | None = None
    _position: str | None = None  # the last sequence number done
    _backlog: list[dict[str, Any]] = field(default_factory=list)
    _size: int = 0  # of the batch under retry; 0: as many as there are
    _attempts: int = 0
    _fetched: float = float("-inf")  # when, by time.monotonic()
    _idle: float = _STREAM_POLL_SECONDS

    def poll(self, pause: Pause | None) -> int:
        if not self._backlog:
            early = self._fetched + _STREAM_POLL_SECONDS - time.monotonic()
            if pause is not None and early > 0:
                pause(early)  # what comes in between is taken together
            self._fetch()
        if not self._backlog:
            if pause is not None:
                pause(self._idle)
            self._idle = min(_IDLE_POLL_SECONDS, 1.1 * self._idle)
            return 0
        self._idle = _STREAM_POLL_SECONDS
        batch = self._backlog[: self._size or self.source.batch_size]
        records = [self._record(each) for each in batch]
        wanted = [record for record in records if _passes(self.source.patterns, record)]
        first_failed = self._first_failed(wanted) if wanted else None
        if first_failed is None:
            self._done(len(batch))
            return len(batch)
        index = next(i for i, each in enumerate(records) if _sequence(each) == first_failed)
        if index:
            self._done(index)  # progress: the retries begin again, from the record that failed
            batch = batch[index:]
        self._attempts += 1
        if self._is_given_up(batch[0]):
            self._give_up(batch)
        elif self.source.bisects and len(batch) > 1:
            self._size = len(batch) // 2
        if pause is not None:
            pause(min(_MAX_PAUSE_SECONDS, _STREAM_POLL_SECONDS * 2 ** min(self._attempts, 10)))
        return len(batch)

    @property
    def is_failing(self) -> bool:
        return self._attempts > 0

    def _fetch(self) -> None:
        iterator, self._iterator = (
            self._iterator or self._resumed(),
            None,
        )  # an iterator that fails has expired
        self._fetched = time.monotonic()
        answer = self.streams.get_records(ShardIterator=iterator, Limit=1000)
        self._iterator = answer.get("NextShardIterator")
        self._backlog = answer["Records"]

    def _resumed(self) -> str:
        """An iterator after the last record done."""
        (shard,) = self.streams.describe_stream(StreamArn=self.source.arn)["StreamDescription"]["Shards"]
        place = {"StreamArn": self.source.arn, "ShardId": shard["ShardId"]}
        if self._position is not None:
            place |= {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": self._position}
        else:
            place["ShardIteratorType"] = "TRIM_HORIZON" if self.source.from_the_start else "LATEST"
        return str(self.streams.get_shard_iterator(**place)["ShardIterator"])

    def _done(self, count: int) -> None:
        self._position = self._backlog[count - 1]["dynamodb"]["SequenceNumber"]
        del self._backlog[:count]
        self._size = self._attempts = 0

    def _first_failed(self, records: Sequence[Mapping[str, Any]]) -> str | None:
        """The sequence number to try again from; None if all went well."""
        answer = _invoked(self.runtime, self.source, records)
        if answer is None:
            return _sequence(records[0])
        reported = {failure.get("itemIdentifier") for failure in answer.get("batchItemFailures") or []}
        if not self.source.reports_failures or not reported:
            return None
        known = [_sequence(record) for record in records]
        return next((each for each in known if each in reported), known[0])

    def _is_given_up(self, record: Mapping[str, Any]) -> bool:
        retries, age = self.source.max_retries, self.source.max_age_seconds
        created = self._record(record)["dynamodb"]["ApproximateCreationDateTime"]
        return (retries is not None and self._attempts > retries) or (age is not None and self.now() - created > age)

    def _give_up(self, batch: Sequence[Mapping[str, Any]]) -> None:
        log.warning("%s: gave up on %d records", self.source.name, len(batch))
        if self.source.failures_url is not None:
            numbers = [each["dynamodb"]["SequenceNumber"] for each in batch]
            place = {
                "streamArn": self.source.arn,
                "batchSize": len(batch),
                "startSequenceNumber": numbers[0],
                "endSequenceNumber": numbers[-1],
            }
            body = {"requestContext": {"condition": "RetryAttemptsExhausted"}, "DDBStreamBatchInfo": place}
            self.sqs.send_message(QueueUrl=self.source.failures_url, MessageBody=json.dumps(body))
        self._done(len(batch))

    def _record(self, received: Mapping[str, Any]) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(json.dumps({**received, "eventSourceARN": self.source.arn}, default=_wire))
        return event


class Pump:
    """Drives every mapping: in threads (`start`, `stop`), or in the caller's for tests (`run_until_idle`)."""

    def __init__(
        self,
        sources: Iterable[EventSource],
        runtime: Runtime,
        client: Callable[[str], Client],
        *,
        region: str,
        scans: tuple[ScanPlan, ...] = (),
        schedules: tuple[Schedule, ...] = (),
    ) -> None:
        sources = tuple(sources)
        # By threads only: a caller that runs the pump itself has no clock to wait for.
        self._clocks = [Clock(schedules=schedules, sqs=client("sqs"))] if schedules else []
        self._scanners = [Scanner(plans=scans, s3=client("s3"), events=client("events"))] if scans else []
        self._queues = [
            _QueuePoller(source=source, runtime=runtime, sqs=client("sqs"), region=region)
            for source in sources
            if source.queue_url
        ]
        self._streams = [
            _StreamPoller(
                source=source,
                runtime=runtime,
                streams=client("dynamodbstreams"),
                sqs=client("sqs"),
                region=region,
            )
            for source in sources
            if not source.queue_url
        ]
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def run_until_idle(self, *, retry_at_once: bool = False) -> int:
        """Feed everything there is, and what comes of it; returns how many records were fed.

        Messages that failed wait for their visibility timeout, which is not waited for, unless
        `retry_at_once`: then they are tried again until they succeed or reach their dead-letter queue. Raises
        RuntimeError if it does not come to rest.
        """
        for queue in self._queues:
            queue.comes_back_at_once = retry_at_once
        total = 0
        for _ in range(_ROUNDS):
            fed = sum(scanner.poll(None) for scanner in self._scanners)
            fed += sum(stream.poll(None) for stream in self._streams)
            fed += sum(queue.poll(None) for queue in self._queues)
            if not fed:
                return total
            total += fed
        raise RuntimeError("the pump does not come to rest: a record fails each time")

    def start(self) -> None:
        pollers: list[_Poller] = [
            *self._clocks,
            *self._scanners,
            *self._streams,
            *(queue for queue in self._queues for _ in range(QUEUE_THREADS)),
        ]
        self._threads = [threading.Thread(target=self._run, args=(each,), daemon=True) for each in pollers]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_seconds: float = 10) -> bool:
        """Stop after the batches under way, and after what is in the streams, which the emulator does not
        keep.

        False if that takes longer, or a record fails.
        """
        self._stopping.set()
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            return False
        for stream in self._streams:
            while stream.poll(None):
                if stream.is_failing or time.monotonic() > deadline:
                    return False
        return True

    def _run(self, poller: _Poller) -> None:
        pause = _STREAM_POLL_SECONDS
        while not self._stopping.is_set():
            try:
                poller.poll(self._stopping.wait)
                pause = _STREAM_POLL_SECONDS
            except Exception:  # a mapping goes on whatever happens: on AWS it does too
                if not self._stopping.is_set():
                    log.exception("a poll failed")
                self._stopping.wait(pause)
                pause = min(_MAX_PAUSE_SECONDS, 2 * pause)


def _invoked(runtime: Runtime, source: EventSource, records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The function's answer, or None if it failed."""
    try:
        answer = runtime.invoke(source.function, {"Records": list(records)})
    except (FunctionError, PayloadTooLargeError) as error:
        log.warning("%s: %s", source.name, error)
        return None
    return answer if isinstance(answer, dict) else {}


def _passes(patterns: Sequence[Mapping[str, Any]], record: Mapping[str, Any], *json_fields: str) -> bool:
    """Whether a record is for the function; `json_fields` hold JSON text that patterns look into."""
    if not patterns:
        return True
    seen = dict(record)
    for name in json_fields:
        try:
            seen[name] = json.loads(record[name])
        except ValueError:
            continue  # plain text: patterns see it as it is
    return any(filters.matches(pattern, seen) for pattern in patterns)


def _entry(message: Mapping[str, Any]) -> dict[str, str]:
    return {"Id": message["MessageId"], "ReceiptHandle": message["ReceiptHandle"]}


def _sequence(record: Mapping[str, Any]) -> str:
    return str(record["dynamodb"]["SequenceNumber"])


def _wire(value: Any) -> Any:
    """What the SDK parsed, as it is in an event."""
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"no event holds {type(value).__name__}")
