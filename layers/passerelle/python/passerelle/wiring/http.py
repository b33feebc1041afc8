"""What every HTTP function has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from passerelle.aws.audit import DynamoAuditTrail
from passerelle.wiring import people, process

if TYPE_CHECKING:
    from passerelle.fhir.disclosure import Disclosure


@cache
def disclosure() -> Disclosure:
    from passerelle.fhir.disclosure import Disclosure

    return Disclosure(people.identity_scheme())


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpWiring:
    """What every HTTP function has; `disclosure` is made for the first answer with a Patient in it."""

    trail: DynamoAuditTrail
    now: Callable[[], datetime] = process.now
    disclosure: Callable[[], Disclosure] = disclosure
