"""The patient's control over the record, and accesses in an emergency, as Parameters (FHIR R4 section 3.2.0.5).

Nothing in R4 or in the DMP draft describes them: the operations are the exchange's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

from passerelle.consents.model import MandateKind
from passerelle.directory.identifiers import IDNST, party_of, system_of
from passerelle.errors import Invalid
from passerelle.fhir.dates import date_range
from passerelle.fhir.parameters import Arguments
from passerelle.fhir.record_status import Parameter, decision_parts, instants, national, value
from passerelle.fhir.search import DEFAULT_COUNT, MAX_COUNT
from passerelle.patients.control import Preferences, Span
from passerelle.patients.emergencies import EmergencyUse, UseSeen, UsesQuery, UseStatus, Verdict
from passerelle.patients.model import Identifier, RecordDecision
from passerelle.records.cursors import CURSOR

E = TypeVar("E", bound=StrEnum)

_KINDS: Final[Mapping[str, str]] = {
    "party": "valueIdentifier",
    "holder": "valueIdentifier",
    "kind": "valueCode",
    "period": "valuePeriod",
    "consent": "valueBoolean",
    "reason": "valueString",
    "reference": "valueReference",
    "oppose-emergency": "valueBoolean",
    "oppose-regulation": "valueBoolean",
    "agree-research": "valueBoolean",
}
_REFERENCE: Final = re.compile(r"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9.-]{1,64})")
_IGNORED: Final = ("_format", "_pretty")


class ControlArguments:
    """The parameters of a command that takes those of `names`; raises Invalid."""

    def __init__(self, body: Any, *names: str, base_url: str = "") -> None:
        self._given = Arguments(body, {name: _KINDS[name] for name in names}, repeated=("reference",))
        self._base_url = base_url

    @property
    def party(self) -> Identifier | None:
        return self._given.identifier("party")

    @property
    def holder(self) -> Identifier | None:
        return self._given.identifier("holder")

    def required(self, name: str) -> Identifier:
        """An identifier; raises Invalid (`required`)."""
        self._given.required(name)
        found = self._given.identifier(name)
        assert found is not None
        return found

    @property
    def is_consented(self) -> bool:
        return bool(self._given.get("consent", False))

    @property
    def reason(self) -> str:
        return self._given.text("reason")

    @property
    def kind(self) -> MandateKind:
        return _coded(MandateKind, self._given, "kind")

    @property
    def span(self) -> Span:
        """A period whose ends are included, as FHIR has it; a date is all of that day, UTC."""
        period, place = self._given.get("period", {}), self._given.place("period")
        start, end = (_moments(period.get(name), f"{place}.{name}") for name in ("start", "end"))
        return Span(since=start[0] if start else None, until=end[1] if end else None)

    @property
    def references(self) -> list[tuple[str, str]]:
        self._given.required("reference")
        found = []
        for each, place in self._given.all("reference"):
            match = _REFERENCE.fullmatch(str(each.get("reference", "")).removeprefix(f"{self._base_url}/"))
            if match is None:
                raise Invalid("a reference to a resource of the record is expected", code="value", expression=place)
            found.append((match[1], match[2]))
        return found

    @property
    def preferences(self) -> Preferences:
        return Preferences(
            opposes_emergency=self._given.get("oppose-emergency"),
            opposes_regulation=self._given.get("oppose-regulation"),
            agrees_to_research=self._given.get("agree-research"),
        )


def read_emergency(body: Any) -> tuple[str | None, str]:
    """Code and words, as far as they are given; raises Invalid."""
    given = Arguments(body, {"reason": "valueCode", "text": "valueString"})
    return given.get("reason"), given.text("text")


def read_review(body: Any) -> tuple[str, Verdict, str]:
    """Which use, the verdict and words; raises Invalid."""
    given = Arguments(body, {"use": "valueId", "verdict": "valueCode", "text": "valueString"})
    return str(given.required("use")), _coded(Verdict, given, "verdict"), given.text("text")


def read_uses(query: Sequence[tuple[str, str]]) -> tuple[UsesQuery, str | None]:
    """What is asked of the list, and the cursor of a later page; raises Invalid."""
    pairs = [(name, text) for name, text in query if name not in _IGNORED]
    given = dict(pairs)
    known = ("since", "until", "organization", "status", "_count", CURSOR)
    if len(given) < len(pairs) or not given.keys() <= set(known):
        raise Invalid(f"the operation takes {', '.join(known[:-1])}, each once", code="not-supported")
    since, until = (_moments(given.get(name), f"http.{name}") for name in ("since", "until"))
    asked = UsesQuery(
        since=since[0] if since else None,
        until=until[1] if until else None,
        organisation=_organisation(given.get("organization")),
        status=_status(given.get("status")),
        count=_count(given.get("_count")),
    )
    return asked, given.get(CURSOR)


def render_decisions(decisions: Sequence[RecordDecision]) -> dict[str, Any]:
    return _parameters([{"name": "decision", "part": decision_parts(each)} for each in decisions])


def render_uses(uses: Sequence[UseSeen], next_url: str | None) -> dict[str, Any]:
    listed = [
        {"name": "use", "part": [*_use_parts(each.use), *value("text", "valueString", each.text)]} for each in uses
    ]
    return _parameters([*listed, *value("next", "valueUrl", next_url)])


def render_use(use: EmergencyUse) -> dict[str, Any]:
    return _parameters(_use_parts(use))


def _use_parts(use: EmergencyUse) -> list[Parameter]:
    review = use.review
    return [
        {"name": "id", "valueId": use.id},
        {"name": "patient", "valueReference": {"reference": f"Patient/{use.patient}"}},
        *national("professional", use.professional),
        *national("organisation", use.organisation),
        {"name": "by", "valueString": use.client_id},
        {"name": "reason", "valueCode": use.reason},
        *instants(at=use.at, until=use.until),
        {"name": "status", "valueCode": use.status.value},
        *(
            [
                {"name": "verdict", "valueCode": review.verdict.value},
                *value("review", "valueString", review.text),
                *instants(reviewed=review.at),
            ]
            if review
            else []
        ),
    ]


def _parameters(listed: list[Parameter]) -> dict[str, Any]:
    return {"resourceType": "Parameters", **({"parameter": listed} if listed else {})}


def _coded(codes: type[E], given: Arguments, name: str) -> E:
    try:
        return codes(given.required(name))
    except ValueError:
        raise Invalid(
            f"{name} is one of {', '.join(codes)}", code="code-invalid", expression=given.place(name)
        ) from None


def _moments(text: Any, place: str) -> tuple[datetime, datetime] | None:
    """The first moment of a date or time, and the one after its last."""
    if text is None:
        return None
    try:
        first, last = (datetime.strptime(f"{each}+0000", "%Y%m%d%H%M%S%z") for each in date_range(str(text)))
        return first.astimezone(UTC), last.astimezone(UTC) + timedelta(seconds=1)
    except (ValueError, OverflowError):
        raise Invalid("a date or a time is expected", code="value", expression=place) from None


def _organisation(text: str | None) -> str | None:
    if text is None:
        return None
    system, separator, number = text.rpartition("|")
    party = party_of(system if separator else IDNST, number)
    if party is None or system_of(party) != IDNST:
        raise Invalid("an organisation is an IDNST or a FINESS number", code="value", expression="http.organization")
    return party


def _status(text: str | None) -> UseStatus | None:
    try:
        return UseStatus(text) if text is not None else None
    except ValueError:
        raise Invalid(
            f"a status is one of {', '.join(UseStatus)}", code="code-invalid", expression="http.status"
        ) from None


def _count(text: str | None) -> int:
    if text is None:
        return DEFAULT_COUNT
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise Invalid("_count must be a number above 0", code="value", expression="http._count")
    return min(int(text), MAX_COUNT)
