"""What deciding costs: 10,000 entries of a record against a patient's consents, in CPU seconds (no storage).

The goals are less than 50 ms without provisions and less than 200 ms with twenty.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any, Final

from passerelle.consents.terms import CONFIDENTIALITY, Asker, Effect, Facts, Provision, Scope, Terms, sieve
from passerelle.fhir.facts import facts_of
from passerelle.fhir.index import entry_of
from passerelle.records.model import ResourceKey

ENTRIES: Final = 10_000
ROUNDS: Final = 5
_AT: Final = datetime(2026, 3, 1, tzinfo=UTC)
_ASKER: Final = Asker(
    parties=frozenset({"810000000037", "1990000037"}), roles=frozenset({"practice", "10"}), purpose="TREAT", at=_AT
)


def measured() -> dict[str, float]:
    """Milliseconds of CPU by case: the best of ROUNDS."""
    entries = [(_key(number), entry_of(_observation(number))) for number in range(ENTRIES)]
    facts = [facts_of(key, entry) for key, entry in entries]
    return {
        "facts from entries": _best(lambda: [facts_of(key, entry) for key, entry in entries]),
        "no provisions": _best(lambda: _decided((_consent(0),), facts)),
        "20 provisions": _best(lambda: _decided((_consent(20),), facts)),
        "20 consents": _best(lambda: _decided(tuple(_consent(1, number) for number in range(20)), facts)),
    }


def _decided(consents: tuple[Terms, ...], facts: list[Facts]) -> int:
    found = sieve(consents, _ASKER)
    return len(facts) if found is None else sum(map(found, facts))


def _consent(provisions: int, number: int = 0) -> Terms:
    """Each provision hides something else: labels, authors, named data, dates, codes in turn."""
    scopes = (
        {"labels": frozenset({f"{CONFIDENTIALITY}|V"})},
        {"authors": frozenset({f"8{number:011}"})},
        {"instances": frozenset({f"Observation/{number}"})},
        {"period": (f"19{number % 90 + 10}0101000000", f"19{number % 90 + 10}1231235959")},
        {"codes": frozenset({f"http://loinc.org|{number}-0"})},
    )
    exceptions = tuple(
        Provision(effect=Effect.DENY, scope=Scope(**scopes[(number + each) % len(scopes)]))
        for each in range(provisions)
    )
    return Terms(id=f"Consent/{number}", effect=Effect.PERMIT, provisions=exceptions)


def _key(number: int) -> ResourceKey:
    return ResourceKey(type="Observation", id=f"o-{number}", patient="p")


def _observation(number: int) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"o-{number}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": f"{number % 500}-1"}]},
        "subject": {"reference": "Patient/p"},
        "encounter": {"reference": f"Encounter/e-{number % 50}"},
        "performer": [{"reference": f"Practitioner/p-{number % 20}"}],
        "effectiveDateTime": f"20{number % 20 + 6:02}-03-14T08:30:00+01:00",
    }


def _best(run: Any) -> float:
    taken = []
    for _ in range(ROUNDS):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return round(min(taken) * 1000, 1)


if __name__ == "__main__":
    print(json.dumps(measured(), indent=2))
