"""What identity stewards ask and are shown, as Parameters (FHIR R4 section 3.2.0.5).

The names of `$merge` are those of Patient-merge (R5). Nothing in R4 describes the rest: each operation is the
exchange's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from passerelle.errors import Invalid
from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import instant
from passerelle.fhir.parameters import parameters_of
from passerelle.fhir.search import DEFAULT_COUNT, MAX_COUNT
from passerelle.matching.scoring import Model
from passerelle.patients.model import Decision, IdentityEvent, Link, Member, Review, ReviewStatus
from passerelle.patients.stewardship import IdentityCard, Question, Settled
from passerelle.records.cursors import CURSOR

_ANSWERS: Final = (ReviewStatus.SAME, ReviewStatus.DIFFERENT, ReviewStatus.LATER)
_IGNORED: Final = ("_format", "_pretty")

Parameter = dict[str, Any]


# --- what is asked --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewsQuery:
    """One review by its id, or those of a status from where a cursor says."""

    status: ReviewStatus = ReviewStatus.OPEN
    count: int = DEFAULT_COUNT
    cursor: str | None = None
    review: str | None = None


def read_reviews(query: Sequence[tuple[str, str]]) -> ReviewsQuery:
    """Raises Invalid."""
    pairs = [(name, value) for name, value in query if name not in _IGNORED]
    given = dict(pairs)
    known = {"review"} if "review" in given else {"status", "_count", CURSOR}
    if len(given) < len(pairs) or not given.keys() <= known:
        raise Invalid("the operation takes review, or status and _count, each once", code="not-supported")
    if "review" in given:
        return ReviewsQuery(review=given["review"])
    try:
        status = ReviewStatus(given.get("status", ReviewStatus.OPEN))
    except ValueError:
        raise Invalid(
            f"a status is one of {', '.join(ReviewStatus)}", code="code-invalid", expression="http.status"
        ) from None
    return ReviewsQuery(status=status, count=_count(given.get("_count")), cursor=given.get(CURSOR))


def _count(text: str | None) -> int:
    if text is None:
        return DEFAULT_COUNT
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise Invalid("_count must be a number above 0", code="value", expression="http._count")
    return min(int(text), MAX_COUNT)


def read_decision(body: Any) -> tuple[str, ReviewStatus, str]:
    """Review, answer and reason; raises Invalid."""
    given = _Arguments(body, "review", "decision", "reason")
    answer = given.text("decision")
    if answer not in _ANSWERS:
        raise Invalid(
            f"a decision is one of {', '.join(_ANSWERS)}", code="code-invalid", expression=given.place("decision")
        )
    return given.text("review"), ReviewStatus(answer), given.text("reason")


def read_pair(body: Any, first: str, second: str, *, base_url: str) -> tuple[str, str, str]:
    """Two source records, in the parameters of these names, and the reason; raises Invalid."""
    given = _Arguments(body, first, second, "reason")
    return given.patient(first, base_url), given.patient(second, base_url), given.text("reason")


def read_one(body: Any, *, base_url: str) -> tuple[str, str]:
    """A source record and the reason; raises Invalid."""
    given = _Arguments(body, "patient", "reason")
    return given.patient("patient", base_url), given.text("reason")


class _Arguments:
    """The parameters of an operation that takes each of them once."""

    def __init__(self, body: Any, *names: str) -> None:
        self._given: dict[str, tuple[int, Mapping[str, Any]]] = {}
        for position, each in enumerate(parameters_of(body)):
            name = each.get("name")
            if name not in names or name in self._given:
                raise Invalid(
                    f"the operation takes {', '.join(names)}, each once",
                    code="not-supported",
                    expression=f"Parameters.parameter[{position}]",
                )
            self._given[name] = (position, each)
        missing = [name for name in names if name not in self._given]
        if missing:
            raise Invalid(f"required: {', '.join(missing)}", code="required", expression="Parameters.parameter")

    def place(self, name: str) -> str:
        return f"Parameters.parameter[{self._given[name][0]}].value"

    def text(self, name: str) -> str:
        return self._value(name, "a text", "valueString", "valueCode", "valueId", "valueMarkdown")

    def patient(self, name: str, base_url: str) -> str:
        """The id in a reference to a Patient of this server."""
        reference = self._given[name][1].get("valueReference")
        target = reference.get("reference") if isinstance(reference, Mapping) else None
        kind, _, key = str(target).removeprefix(f"{base_url}/").partition("/")
        if kind != "Patient" or not key or "/" in key:
            raise Invalid(
                "a reference to a Patient of this server is expected", code="value", expression=self.place(name)
            )
        return key

    def _value(self, name: str, what: str, *kinds: str) -> str:
        value = next((self._given[name][1][kind] for kind in kinds if kind in self._given[name][1]), None)
        if not isinstance(value, str):
            raise Invalid(f"{what} is expected", code="value", expression=self.place(name))
        return value


# --- what is shown --------------------------------------------------------------------------------------------------


def render_reviews(reviews: Iterable[Review], next_url: str | None) -> dict[str, Any]:
    following = [] if next_url is None else [_value("next", "Url", next_url)]
    return _parameters([*(_part("review", _review(each)) for each in reviews), *following])


def render_question(question: Question, model: Model) -> dict[str, Any]:
    """A review with both records, and what the model saw, field by field."""
    records = [{"name": "resource", "resource": fhir_json.loads(each.body)} for each in question.records]
    return _parameters([_part("review", [*_review(question.review), *_evidence(question.review, model), *records])])


def render_settled(settled: Settled) -> dict[str, Any]:
    """The records of the person as it is now; none, and not `changed`, where every link stays as it was."""
    return _parameters(
        [*(_patient("record", each) for each in settled.records), _value("changed", "Boolean", settled.is_changed)]
    )


def render_card(card: IdentityCard) -> dict[str, Any]:
    return _parameters(
        [
            *(_part("record", _member(each)) for each in card.person.records),
            *(_part("link", _link(each)) for each in card.person.links),
            *(_part("review", _review(each)) for each in card.reviews),
            *(_part("history", _event(each)) for each in card.history),
        ]
    )


def _review(review: Review) -> list[Parameter]:
    return [
        _value("id", "Id", review.id),
        _value("status", "Code", review.status.value),
        _value("cause", "Code", review.cause),
        _value("score", "Decimal", _decimal(review.score, 4)),
        *_given("grade", "Code", review.grade),
        _value("raised", "Instant", instant(review.raised_at)),
        _patient("first", review.first),
        _patient("second", review.second),
        *([_part("decision", _decision(review.decision))] if review.decision else []),
    ]


def _decision(decision: Decision) -> list[Parameter]:
    return _act(decision.by, decision.professional, decision.at, decision.reason)


def _act(by: str, professional: str | None, at: datetime, reason: str) -> list[Parameter]:
    return [
        _value("by", "String", by),
        *_given("professional", "String", professional),
        _value("at", "Instant", instant(at)),
        *_given("reason", "String", reason),
    ]


def _evidence(review: Review, model: Model) -> list[Parameter]:
    """Bits come from the levels, by the model that made them: of another version, only the levels are told."""
    seen = review.evidence
    made_by = seen.get("model", "")
    levels = seen.get("levels", [])
    is_current = made_by == model.version
    traits: list[tuple[str, str, float | None]]
    if is_current:
        traits = [(each.field, each.level, each.bits) for each in model.replay(levels).evidence]
    else:
        traits = [(field, level, None) for field, level, _ in levels]
    return [
        *_given("model", "String", made_by),
        *([_value("is-current-model", "Boolean", is_current)] if made_by else []),
        *([_value("bits", "Decimal", _decimal(seen["bits"], 2))] if "bits" in seen else []),
        *(_value("contradiction", "String", each) for each in seen.get("contradictions", [])),
        *(_part("evidence", _trait(*each)) for each in traits),
    ]


def _trait(field: str, level: str, bits: float | None) -> list[Parameter]:
    told = [] if bits is None else [_value("bits", "Decimal", _decimal(bits, 2))]
    return [_value("field", "Code", field), _value("level", "Code", level), *told]


def _member(member: Member) -> list[Parameter]:
    return [
        _patient("reference", member.patient),
        _value("since", "Instant", instant(member.since)),
        _value("qualified", "Boolean", member.qualified is not None),
        *([_patient("replaced-by", member.replaced_by)] if member.replaced_by else []),
        _value("removed", "Boolean", member.is_removed),
    ]


def _link(link: Link) -> list[Parameter]:
    return [
        _patient("first", link.first),
        _patient("second", link.second),
        _value("rule", "Code", link.rule.value),
        _value("at", "Instant", instant(link.at)),
    ]


def _event(event: IdentityEvent) -> list[Parameter]:
    return [
        _value("kind", "Code", event.kind.value),
        _value("rule", "Code", event.rule.value),
        *_act(event.by, event.professional, event.at, event.reason),
        *(_patient("with", each) for each in event.with_records),
    ]


def _parameters(parameters: list[Parameter]) -> dict[str, Any]:
    return {"resourceType": "Parameters", **({"parameter": parameters} if parameters else {})}


def _part(name: str, parts: list[Parameter]) -> Parameter:
    return {"name": name, "part": parts}


def _value(name: str, kind: str, value: Any) -> Parameter:
    return {"name": name, f"value{kind}": value}


def _given(name: str, kind: str, value: str | None) -> list[Parameter]:
    return [_value(name, kind, value)] if value else []


def _patient(name: str, key: str) -> Parameter:
    return _value(name, "Reference", {"reference": f"Patient/{key}"})


def _decimal(number: float, places: int) -> Decimal:
    return Decimal(f"{number:.{places}f}")
