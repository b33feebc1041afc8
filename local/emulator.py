"""The emulator of AWS in a process of its own: its work and that of the functions do not wait for each other's GIL."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from local.child import Child

ACCOUNT: Final = "000000000000"
REGION: Final = "eu-west-3"
CREDENTIALS: Final = "local"
"""Key id and secret: the emulator verifies the signatures of URLs that are given away."""


class Emulator(Child):
    """AWS on `url`, until `close`; with a `folder`, what it holds is there again when the next is started.

    `log` gets what it has to say of errors, otherwise standard error; it keeps the descriptors in `keeps` open until it
    has saved. Raises ChildError if it does not come up.
    """

    def __init__(self, folder: Path | None = None, *, log: IO[str] | None = None, keeps: Sequence[int] = ()) -> None:
        kept = [folder.resolve()] if folder else []
        super().__init__(
            "the emulator of AWS", [sys.executable, "-m", "local.ministack", REGION, *kept], errors=log, keeps=keeps
        )

    @property
    def url(self) -> str:
        return str(self.ready["url"])

    def save(self) -> None:
        """Write everything to the folder; nothing is served meanwhile, so that it fits together."""
        self.ask("save")
