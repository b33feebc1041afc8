"""Refusals of monitoring."""

from __future__ import annotations

from passerelle.errors import Busy


class RateExceededError(Busy):
    """A patient's devices send more than is taken; `is_first` since they began to."""

    def __init__(self, *, seconds: int, is_first: bool) -> None:
        super().__init__("more is measured than is taken for one patient", headers={"Retry-After": str(seconds)})
        self.is_first = is_first
