"""The functions of the template, run in this process as Lambda runs them.

Contract: AWS Lambda developer guide, "Invocation quotas" (6 MB each way), "Python context object". Events and
answers go through JSON, so that a handler gets and gives only what it would on AWS.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

from knowledge.places import ARTEFACT
from local.intrinsics import TemplateError
from local.resources import Made, Properties

MAX_PAYLOAD_BYTES: Final = 6 * 1024 * 1024
_NAME: Final = "passerelle:function"


class PayloadTooLargeError(Exception):
    """The event is larger than a function takes."""


class FunctionError(Exception):
    """A function raised, or answered with something that Lambda refuses; the cause says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A Lambda function of the template. `handler` is `module:attribute` in the checkout."""

    name: str
    arn: str
    handler: str
    environment: Mapping[str, str]
    timeout_seconds: int
    memory_mb: int

    @classmethod
    def read(cls, logical_id: str, given: Properties, metadata: Mapping[str, Any], made: Made) -> Function:
        given.take("Description")
        if _NAME not in metadata:
            raise TemplateError(f"{logical_id}: the metadata {_NAME} names no folder of functions/")
        name = metadata[_NAME]
        module, _, attribute = given.take("Handler").rpartition(".")
        environment = given.part("Environment")
        variables = environment.take("Variables", {})
        environment.finish()
        function = cls(
            name=name,
            arn=made.attributes["Arn"],
            handler=f"functions.{name}.{module}:{attribute}",
            environment=variables,
            timeout_seconds=int(given.take("Timeout", 3)),
            memory_mb=int(given.take("MemorySize", 128)),
        )
        given.finish()
        return function


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaContext:
    """What a handler gets beside the event."""

    function_name: str
    invoked_function_arn: str
    memory_limit_in_mb: int
    deadline: float  # time.monotonic()
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    function_version: str = "$LATEST"
    log_group_name: str = "local"
    log_stream_name: str = "local"

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.deadline - time.monotonic()) * 1000))


class Runtime:
    """Invokes functions by logical id, from any thread.

    `guard` is held during each invocation: a lock where the emulator is not thread-safe (moto). `log`
    receives what the functions write to standard output, which their loggers take hold of when they are
    imported.
    """

    def __init__(
        self,
        functions: Mapping[str, Function],
        environment: Mapping[str, str],
        *,
        guard: AbstractContextManager[Any] | None = None,
        log: TextIO | None = None,
    ) -> None:
        self.functions = functions
        self._environment = environment
        self._guard = guard or nullcontext()
        self._log = log
        self._handlers: dict[str, Callable[[Any, LambdaContext], Any]] = {}

    def load(self) -> None:
        """Set the environment of the functions, then import every handler (INIT on Lambda)."""
        os.environ.update(self._environment)
        os.environ["KNOWLEDGE_BASE"] = str(ARTEFACT)  # what Lambda would unpack from its layer
        with contextlib.redirect_stdout(self._log) if self._log else nullcontext():
            for logical_id, function in self.functions.items():
                module, _, attribute = function.handler.partition(":")
                self._handlers[logical_id] = getattr(importlib.import_module(module), attribute)

    def invoke(self, logical_id: str, event: Mapping[str, Any]) -> Any:
        """The function's answer. Raises PayloadTooLargeError and FunctionError."""
        function = self.functions[logical_id]
        payload = json.dumps(event)
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise PayloadTooLargeError
        context = LambdaContext(
            function_name=function.name,
            invoked_function_arn=function.arn,
            memory_limit_in_mb=function.memory_mb,
            deadline=time.monotonic() + function.timeout_seconds,
        )
        with self._guard:
            try:
                answer = json.dumps(self._handlers[logical_id](json.loads(payload), context))
            except Exception as error:  # whatever a handler raises is a failed invocation
                raise FunctionError(f"{function.name}: {type(error).__name__} at {_place(error)}") from error
        if len(answer) > MAX_PAYLOAD_BYTES:
            raise FunctionError(f"{function.name}: the answer is larger than {MAX_PAYLOAD_BYTES} bytes")
        return json.loads(answer)


def _place(error: BaseException) -> str:
    """Where it was raised; the message stays in the cause, since it may hold personal data."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"
