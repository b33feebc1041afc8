"""What goes wrong, how likely, and the calls that it happens to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, TypeVar, cast

_M = TypeVar("_M", bound=Callable[..., Any])


@dataclass
class Weather:
    """How likely each call, message or answer comes to harm; nothing of it when all is 0."""

    dies: float = 0.0  # the process, at a call
    fails: float = 0.0  # a call, half of the time after it took effect
    stalls: float = 0.0
    lost: float = 0.0  # on the stream and the bus
    purged: float = 0.0  # an order that the queue took: SQS keeps them, but somebody may purge it
    repeated: float = 0.0
    late: float = 0.0  # seconds that a message may take, at most
    refused: float = 0.0  # a notification, in one of the ways that endpoints have


CALM: Final = Weather()
STORM: Final = Weather(
    dies=0.004, fails=0.008, stalls=0.002, lost=0.02, purged=0.01, repeated=0.05, late=20.0, refused=0.2
)


def port(method: _M) -> _M:
    """A call over the network: takes effect at one moment, if at all, and the caller may never know."""

    @wraps(method)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.world.step(method.__name__, is_done=False)
        result = method(self, *args, **kwargs)
        self.world.step(method.__name__, is_done=True)
        return result

    return cast(_M, called)
