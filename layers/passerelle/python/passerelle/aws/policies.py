"""The policy of a person as it is kept beside each source record: only what differs from saying nothing.

`consents.model.Policy` to and from the map `policy` of a person item (`aws/patients.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from passerelle.consents.model import (
    Basis,
    Block,
    Emergency,
    Mandate,
    MandateKind,
    Policy,
    RecordStatus,
    Relation,
)
from passerelle.consents.terms import terms_from_map, terms_to_map


def policy_to_map(policy: Policy) -> dict[str, Any]:
    kept = {
        "status": policy.status.value,
        "since": policy.since.isoformat(),
        "closing_motive": policy.closing_motive,
        "closing_reason": policy.closing_reason,
        "physician": policy.attending_physician,
        "physician_since": _written(policy.attending_since),
        "relations": [
            _present(
                party=each.party,
                basis=each.basis.value,
                since=_written(each.since),
                until=_written(each.until),
                source=each.source,
            )
            for each in policy.relations
        ],
        "blocks": [_present(party=each.party, since=_written(each.since)) for each in policy.blocks],
        "mandates": [
            {
                **_present(
                    holder=each.holder,
                    kind=each.kind.value,
                    since=_written(each.since),
                    until=_written(each.until),
                ),
                **({} if each.released is None else {"released": sorted(each.released)}),
            }
            for each in policy.mandates
        ],
        "emergencies": [
            _present(
                id=each.id,
                professional=each.professional,
                organisation=each.organisation,
                since=_written(each.since),
                until=_written(each.until),
                reason=each.reason,
            )
            for each in policy.emergencies
        ],
        "consents": [terms_to_map(each) for each in policy.consents],
        "opposes_emergency": policy.opposes_emergency,
        "opposes_regulation": policy.opposes_regulation,
        "agrees_to_research": policy.agrees_to_research,
    }
    return _present(**kept)


_KNOWN = frozenset(
    (
        *("status", "since", "closing_motive", "closing_reason", "physician", "physician_since", "relations", "blocks"),
        *("mandates", "emergencies", "consents", "opposes_emergency", "opposes_regulation", "agrees_to_research"),
    )
)


def policy_from_map(kept: Mapping[str, Any]) -> Policy:
    """Raises ValueError for what a later release keeps: half a policy is none."""
    if not kept.keys() <= _KNOWN:
        raise ValueError("a policy of another release")
    return Policy(
        status=RecordStatus(kept["status"]),
        since=datetime.fromisoformat(kept["since"]),
        closing_motive=kept.get("closing_motive"),
        closing_reason=kept.get("closing_reason"),
        attending_physician=kept.get("physician"),
        attending_since=_read(kept.get("physician_since")),
        relations=tuple(
            Relation(
                party=each["party"],
                basis=Basis(each["basis"]),
                since=datetime.fromisoformat(each["since"]),
                until=_read(each.get("until")),
                source=each.get("source", ""),
            )
            for each in kept.get("relations", ())
        ),
        blocks=tuple(
            Block(party=each["party"], since=datetime.fromisoformat(each["since"])) for each in kept.get("blocks", ())
        ),
        mandates=tuple(
            Mandate(
                holder=each["holder"],
                kind=MandateKind(each["kind"]),
                since=datetime.fromisoformat(each["since"]),
                until=_read(each.get("until")),
                released=frozenset(each["released"]) if "released" in each else None,
            )
            for each in kept.get("mandates", ())
        ),
        emergencies=tuple(
            Emergency(
                id=each["id"],
                professional=each["professional"],
                organisation=each["organisation"],
                since=datetime.fromisoformat(each["since"]),
                until=datetime.fromisoformat(each["until"]),
                reason=each["reason"],
            )
            for each in kept.get("emergencies", ())
        ),
        consents=tuple(terms_from_map(each) for each in kept.get("consents", ())),
        opposes_emergency=kept.get("opposes_emergency", False),
        opposes_regulation=kept.get("opposes_regulation", False),
        agrees_to_research=kept.get("agrees_to_research", False),
    )


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _written(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _read(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
