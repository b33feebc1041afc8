"""A second reading of search: official expressions run by a FHIRPath library, R4 section 3.1.1.4 by hand.

The oracle shares nothing with what it judges but the expressions as HL7 wrote them. It reads values out of resources as
plain Python values and matches them by brute force; it also makes resources and queries to judge by.
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import fhirpathpy
from fhirpathpy.models import models

import passerelle.fhir.index as index
from passerelle.fhir.definitions import definition
from passerelle.fhir.index import RECORD_TYPES

SHIPPED = json.loads((Path(index.__file__).parent / "data" / "search_parameters.json").read_text("utf-8"))["types"]
PARAMETERS = {
    name: {code: each for code, each in {**SHIPPED["Resource"], **SHIPPED[name]}.items() if code in row.search}
    for name, row in RECORD_TYPES.items()
}
# The components of R4's composites; `as(DateTime)` is how 4.0.1 writes dateTime in one of them.
COMPONENTS = {
    "value-quantity": (("token", "code"), ("quantity", "value.as(Quantity)")),
    "value-concept": (("token", "code"), ("token", "value.as(CodeableConcept)")),
    "value-date": (("token", "code"), ("date", "value.as(dateTime) | value.as(Period)")),
    "value-string": (("token", "code"), ("string", "value.as(string)")),
    "relationship": (("token", "code"), ("reference", "target")),
}


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Token:
    system: str
    code: str

    def written(self) -> str:
        return f"{self.system}|{self.code}"


@dataclass(frozen=True)
class Text:
    text: str

    def written(self) -> str:
        return self.text


@dataclass(frozen=True)
class Link:
    """To a resource, or (`token`) to what an identifier names."""

    target: str
    token: Token | None = None

    def written(self) -> str:
        return f"|{self.token.written()}" if self.token else self.target


@dataclass(frozen=True)
class Span:
    """Seconds from `start` up to but without `end`; None is open."""

    start: datetime | None
    end: datetime | None

    def written(self) -> str:
        lo = self.start.strftime("%Y%m%d%H%M%S").zfill(14) if self.start else "0" * 14
        hi = (self.end - timedelta(seconds=1)).strftime("%Y%m%d%H%M%S").zfill(14) if self.end else "9" * 14
        return f"{lo}/{hi}"


@dataclass(frozen=True)
class Amount:
    """Between two numbers; `text` is how it was written."""

    text: str
    low: Fraction | None
    high: Fraction | None
    is_low_in: bool
    is_high_in: bool
    system: str
    code: str
    unit: str

    def written(self) -> str:
        return f"{self.text}|{self.system}|{self.code}|{self.unit if self.unit != self.code else ''}"


@dataclass(frozen=True)
class Pair:
    parts: tuple[Any, ...]

    def written(self) -> str:
        return "$".join(part.written().replace("\\", "\\\\").replace("$", "\\$") for part in self.parts)


@cache
def compiled(expression: str) -> Callable[..., list[Any]]:
    return fhirpathpy.compile(expression, models["r4"])


def nodes(resource: Mapping[str, Any], expression: str, *, of_type: str = "") -> Iterator[Any]:
    """What an expression finds, of one type only if asked.

    fhirpathpy has no `resolve()`, which looks at no more than the reference here, and takes `as` for one element, where
    search parameters mean every one.
    """
    for part in expression.split(" | "):
        chain, _, target = part.partition(".where(resolve() is ")
        chain = chain.replace("Resource.", f"{resource['resourceType']}.")
        chain = re.sub(r"\(([\w.]+) as (\w+)\)", r"\1.ofType(\2)", chain).replace(".as(", ".ofType(")
        for node in compiled(chain + of_type)(resource):
            if not target or names(resource, node, target.rstrip(")")):
                yield node


def names(resource: Mapping[str, Any], reference: Any, type: str) -> bool:
    text = reference.get("reference", "")
    for each in resource.get("contained", []):
        if text == f"#{each['id']}":
            return bool(each["resourceType"] == type)
    parts = text.split("/_history")[0].split("/")
    return reference.get("type") == type or (len(parts) > 1 and parts[-2] == type)


def tokens(node: Any) -> Iterator[Token]:
    if isinstance(node, bool):
        yield Token("", "true" if node else "false")
    elif isinstance(node, str):
        yield Token("", node)
    elif "coding" in node or "text" in node:
        for coding in node.get("coding", []):
            yield from tokens(coding)
    elif node.get("system") in ("phone", "fax", "email", "pager", "url", "sms", "other"):
        yield from [Token("", node["value"])] if "value" in node else []
    elif "code" in node or "value" in node:
        yield Token(node.get("system", ""), node.get("code") or node["value"])


def texts(node: Any) -> Iterator[str]:
    """R4: CodeableConcept.text, Coding.display, Identifier.type.text."""
    if isinstance(node, dict):
        found = [node.get("display")]
        if "coding" in node or "text" in node:
            found = [node.get("text"), *(each.get("display") for each in node.get("coding", []))]
        elif isinstance(node.get("type"), dict):
            found = [node["type"].get("text")]
        yield from (each for each in found if each)


def links(node: Any) -> Iterator[Link]:
    if isinstance(node, str):
        yield Link(node)
    elif "resourceType" in node:
        yield from [Link(f"{node['resourceType']}/{node['id']}")] if "id" in node else []
    else:
        target = node.get("reference", "#").split("/_history/")[0]
        if target[0] != "#":
            yield Link(target)
        for token in tokens(node.get("identifier", {})):
            yield Link("", token)


def strings(node: Any) -> Iterator[Text]:
    if isinstance(node, str):
        yield Text(node)
        return
    for name in "text family given prefix suffix line city district state postalCode country".split():  # noqa: SIM905
        part = node.get(name, [])
        yield from (Text(each) for each in (part if isinstance(part, list) else [part]))


def spans(node: Any) -> Iterator[Span]:
    if isinstance(node, str):
        yield span(node)
    elif "start" in node or "end" in node:
        yield period(node)
    elif "event" in node or "repeat" in node:
        found = [span(each) for each in node.get("event", [])]
        if "boundsPeriod" in node.get("repeat", {}):
            found.append(period(node["repeat"]["boundsPeriod"]))
        starts, ends = [each.start for each in found], [each.end for each in found]
        if found:
            yield Span(
                None if None in starts else min(each for each in starts if each),
                None if None in ends else max(each for each in ends if each),
            )


def period(node: Mapping[str, str]) -> Span:
    start = span(node["start"]).start if "start" in node else None
    return Span(start, span(node["end"]).end if "end" in node else None)


def span(text: str) -> Span:
    day, _, time = text.partition("T")
    year, month, date = [*map(int, day.split("-")), 0, 0][:3]
    if not time:
        start = datetime(year, month or 1, date or 1, tzinfo=UTC)
        if date:
            return Span(start, start + timedelta(days=1))
        return Span(start, datetime(year + (month in (0, 12)), month % 12 + 1 if month else 1, 1, tzinfo=UTC))
    whole = re.sub(r"\.\d+", "", text).replace("Z", "+00:00")
    start = datetime.fromisoformat(whole if re.search(r"[+-]\d\d:\d\d$", whole) else f"{whole}+00:00").astimezone(UTC)
    return Span(start, start + timedelta(seconds=1 if time.count(":") > 1 and time[6:8].isdigit() else 60))


def amounts(node: Any) -> Iterator[Amount]:
    if "low" in node or "high" in node:
        low, high = node.get("low", {}), node.get("high", {})
        if "value" in low or "value" in high:
            text = f"{low.get('value', '')}~{high.get('value', '')}"
            yield amount(text, low.get("value"), high.get("value"), True, True, low or high)
    elif "value" in node:
        value, comparator = node["value"], node.get("comparator", "")
        low, high = (None if comparator[:1] == "<" else value), (None if comparator[:1] == ">" else value)
        yield amount(f"{comparator}{value}", low, high, comparator != ">", comparator != "<", node)


def amount(text: str, low: Any, high: Any, is_low_in: bool, is_high_in: bool, node: Mapping[str, str]) -> Amount:
    return Amount(
        text,
        None if low is None else Fraction(str(low)),
        None if high is None else Fraction(str(high)),
        is_low_in,
        is_high_in,
        *(node.get(each, "") for each in ("system", "code", "unit")),
    )


READERS: Mapping[str, Callable[[Any], Iterator[Any]]] = {
    "token": tokens,
    "reference": links,
    "string": strings,
    "date": spans,
    "quantity": amounts,
    "uri": strings,
}


def values(resource: Mapping[str, Any], name: str) -> list[Any]:
    row = PARAMETERS[resource["resourceType"]][name]
    found: Iterator[Any]
    if row["kind"] == "composite":
        found = pairs(resource, name, row["expression"])
    elif name == "composition" or name == "message":
        wanted = {"composition": "Composition", "message": "MessageHeader"}[name]
        first = [node for node in nodes(resource, row["expression"]) if node["resourceType"] == wanted]
        found = (value for node in first for value in links(node))
    elif row["kind"] == "quantity":
        measured = (node for node in nodes(resource, row["expression"]) if "origin" not in node)  # SampledData
        found = (value for node in measured for value in amounts(node))
    elif row["kind"] == "date":
        words = list(nodes(resource, row["expression"], of_type=".ofType(string)"))  # performedString and its like
        dates = (node for node in nodes(resource, row["expression"]) if node not in words)
        found = (value for node in dates for value in spans(node))
    else:
        found = (value for node in nodes(resource, row["expression"]) for value in READERS[row["kind"]](node))
    return list(dict.fromkeys(found))


def pairs(resource: Mapping[str, Any], name: str, expression: str) -> Iterator[Pair]:
    components = next(each for suffix, each in COMPONENTS.items() if name.endswith(suffix))
    for base in expression.split(" | "):
        count = len(compiled(base)(resource))
        for at in [f"{base}[{number}]" for number in range(count)] if "." in base else [base]:
            parts = []
            for kind, path in components:
                found = (node for part in path.split(" | ") for node in nodes(resource, f"{at}.{part}"))
                parts.append([value for node in found for value in READERS[kind](node)])
            yield from map(Pair, product(*parts))


def labels_of(resource: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    """What `:text` compares with."""
    if row["kind"] != "token":
        return []
    return [each for node in nodes(resource, row["expression"]) for each in texts(node)]


# --- matching ---------------------------------------------------------------------------------------------------------

BOOLEANS = "http://hl7.org/fhir/special-values"


def is_match(resource: Mapping[str, Any], name: str, modifier: str, asked: list[str]) -> bool:
    """Whether a search by `name:modifier=asked,…` finds the resource; what is asked for is not escaped."""
    row = PARAMETERS[resource["resourceType"]][name]
    found = values(resource, name)
    labels = labels_of(resource, row)
    if modifier == "missing":
        return (asked == ["true"]) == (not found and not labels)
    if modifier == "text":
        return any(folded(label).startswith(folded(each)) for label in labels for each in asked)
    hit = any(is_value(row, modifier, value, each) for value in found for each in asked)
    return not hit if modifier == "not" else hit


def is_value(row: Mapping[str, Any], modifier: str, value: Any, asked: str) -> bool:
    match row["kind"]:
        case "token":
            return is_token(value, asked, row.get("systems", ()))
        case "string":
            if modifier == "exact":
                return bool(value.text == asked)
            wanted, has = folded(asked), folded(value.text)
            return bool(wanted) and (wanted in has if modifier == "contains" else has.startswith(wanted))
        case "uri":
            return bool(value.text == asked or value.text.split("|")[0] == asked)
        case "reference":
            return is_link(value, modifier, asked)
        case "date":
            return is_span(value, asked)
        case "quantity":
            return is_amount(value, asked)
    systems = [each.get("systems", ()) for each in row["components"]]
    kinds = [each["kind"] for each in row["components"]]
    rows = [{"kind": kind, "systems": own} for kind, own in zip(kinds, systems, strict=True)]
    parts = asked.split("\0")
    return all(is_value(each, "", part, want) for each, part, want in zip(rows, value.parts, parts, strict=True))


def is_token(value: Token, asked: str, systems: Iterable[str]) -> bool:
    if "\1" not in asked:
        return value.code == asked
    system, code = asked.split("\1")
    is_system = value.system == system or (system in systems and value.system == "")
    return is_system and code in ("", value.code)


def is_link(value: Link, modifier: str, asked: str) -> bool:
    if modifier == "identifier":
        return value.token is not None and is_token(value.token, asked, ())
    if modifier:
        asked = f"{modifier}/{asked}"
    if "/" not in asked and ":" not in asked:
        return re.fullmatch(rf"[A-Za-z]+/{re.escape(asked)}", value.target) is not None
    return value.target == asked or value.target.partition("|")[0] == asked


def is_span(value: Span, asked: str) -> bool:
    prefix, text = (asked[:2], asked[2:]) if asked[0].isalpha() else ("eq", asked)
    want = span(text)
    assert want.start is not None
    assert want.end is not None
    start, end = value.start or datetime.min.replace(tzinfo=UTC), value.end or datetime.max.replace(tzinfo=UTC)
    is_within = want.start <= start and end <= want.end
    return {
        "eq": is_within,
        "ne": not is_within,
        "gt": end > want.end,
        "lt": start < want.start,
        "ge": end > want.start,
        "le": start < want.end,
        "sa": start >= want.end,
        "eb": end <= want.start,
    }[prefix]


def is_amount(value: Amount, asked: str) -> bool:
    number, *unit = asked.split("\1")
    if unit:
        system, code = unit
        if system and (value.system, value.code) != (system, code):
            return False
        if not system and code and code not in (value.code, value.unit):
            return False
    prefix, text = (number[:2], number[2:]) if number[0].isalpha() else ("eq", number)
    exact = Fraction(text)
    digits = len(text.partition(".")[2])
    half = Fraction(1, 2 * 10**digits)
    low_in = value.low is not None and value.low >= exact - half
    high_in = value.high is not None and value.high < exact + half
    above = value.high is None or value.high > exact
    below = value.low is None or value.low < exact
    return {
        "eq": low_in and high_in,
        "ne": not (low_in and high_in),
        "gt": above,
        "lt": below,
        "ge": above or (value.high == exact and value.is_high_in),
        "le": below or (value.low == exact and value.is_low_in),
        "sa": value.low is not None and (value.low > exact or (value.low == exact and not value.is_low_in)),
        "eb": value.high is not None and (value.high < exact or (value.high == exact and not value.is_high_in)),
    }[prefix]


def folded(text: str) -> str:
    bare = "".join(each for each in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(each))
    return " ".join(re.split(r"[ \-',.]+", bare)).strip()


# --- queries ----------------------------------------------------------------------------------------------------------
# What is asked for is written with \1 for | and \0 for $, until it is escaped.


def queries(rng: random.Random, kind: str, value: Any) -> Iterator[tuple[str, str]]:
    """Modifiers and values that have to do with a value, some matching it and some nearly."""
    match kind:
        case "token":
            asked = [value.code, f"{value.system}\1{value.code}", f"\1{value.code}", f"{value.code}x"]
            asked += [f"{value.system}\1"] if value.system else []
            yield rng.choice(["", "", "not"]), rng.choice(asked)
        case "string":
            cut = value.text[: rng.randint(1, len(value.text))]
            asked = [cut, cut.swapcase(), value.text, value.text[len(value.text) // 2 :]]
            yield rng.choice(["", "exact", "contains"]), rng.choice([each for each in asked if each.strip()])
        case "uri":
            yield "", rng.choice([value.text, value.text.split("|")[0], f"{value.text}x", value.text[:-1]])
        case "reference" if value.token:
            yield "identifier", rng.choice([value.token.code, value.token.written().replace("|", "\1", 1)])
        case "reference" if "|" in value.target or value.target.count("/") > 1 or ":" in value.target:
            yield "", rng.choice([value.target, value.target.split("|")[0]])
        case "reference":
            target, id = value.target.split("/")
            yield rng.choice([("", value.target), ("", id), (target, id), ("Group", id), ("", f"{id}x")])
        case "date":
            moment = rng.choice([each for each in (value.start, value.end) if each])
            moment -= timedelta(seconds=rng.randint(0, 1))
            form = rng.choice(["%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%dT%H:%MZ", "%Y-%m-%dT%H:%M:%SZ"])
            yield "", rng.choice(["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"]) + moment.strftime(form)
        case "quantity":
            number = rng.choice([each for each in (value.low, value.high) if each is not None])
            text = rng.choice([decimal(number), f"{float(number):.1f}", "100", "5.4"])
            unit = rng.choice(["", f"\1{value.system}\1{value.code}", f"\1\1{value.code or value.unit}", "\1\1kg"])
            unit = "" if unit.count("\1") and unit.endswith("\1") else unit
            yield "", rng.choice(["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"]) + text + unit
        case _:
            parts = [next(queries(rng, KINDS[type(part)], part)) for part in value.parts]
            if not any(modifier in ("identifier", "not") for modifier, _ in parts):
                yield "", "\0".join(f"{m}/{asked}" if m[:1].isupper() else asked for m, asked in parts)


KINDS = {Token: "token", Text: "string", Link: "reference", Span: "date", Amount: "quantity", Pair: "composite"}


def decimal(number: Fraction) -> str:
    return str(Decimal(number.numerator) / number.denominator)


def escaped(asked: str) -> str:
    return re.sub(r"([\\,|$])", r"\\\1", asked).replace("\1", "|").replace("\0", "$")


def text_of(row: Mapping[str, Any], asked: Iterable[str]) -> str:
    """The value of a search parameter, as a client writes it."""
    text = ",".join(map(escaped, asked))
    is_canonical = row["paths"] and all(path.endswith(":canonical") for path in row["paths"])
    return text.replace("\\|", "|") if is_canonical else text


def plain(kind: str, value: Any) -> tuple[str, list[str]]:
    """The query that asks for no more and no less than a value."""
    match kind:
        case "token":
            return "", [f"{value.system}\1{value.code}"]
        case "reference" if value.token:
            return "identifier", [f"{value.token.system}\1{value.token.code}"]
        case "reference":
            return "", [value.target]
        case "date":
            moment = value.start or value.end - timedelta(seconds=1)
            return "", [f"le{moment:%Y-%m-%dT%H:%M:%SZ}" if value.start else f"ge{moment:%Y-%m-%dT%H:%M:%SZ}"]
        case "quantity":
            number = value.low if value.low is not None else value.high
            sign = "ge" if value.high is None else "le"
            return "", [f"{sign}{decimal(number)}\1{value.system}\1{value.code}".rstrip("\1")]
        case "composite":
            return "", ["\0".join(plain(KINDS[type(part)], part)[1][0] for part in value.parts)]
    return ("exact" if kind == "string" else ""), [value.text]


# --- resources --------------------------------------------------------------------------------------------------------

WORDS = ["Élise", "elise-marie", "d'Œuvre", "Martin", "MARTIN Paul", "a,b", "x|y", "c$d", "e\\f", "n"]
PRIMITIVES: Mapping[str, list[Any]] = {
    "boolean": [True, False],
    "string": WORDS,
    "markdown": WORDS,
    "code": ["a", "b-1", "text/plain"],
    "id": ["1", "2"],
    "uri": ["urn:oid:2.999", "http://loinc.org", "http://x.example/a"],
    "url": ["http://x.example/a", "https://x.example/b"],
    "canonical": ["http://x.example/q", "http://x.example/q|1.0", "http://x.example/q2"],
    "oid": ["urn:oid:2.999.1"],
    "date": ["2024", "2024-02", "2024-02-29", "2025-03-14", "2023-12-31"],
    "dateTime": ["2024", "2024-02", "2024-02-29", "2024-02-29T23:30:00-05:00", "2025-03-14T07:30:10.5Z", "2023-12-31"],
    "instant": ["2024-02-29T23:30:00.000Z", "2025-03-14T08:30:10+01:00"],
    "decimal": [Decimal(text) for text in ("5", "5.4", "5.40", "100", "-0.1", "5.35", "99.5")],
    "integer": [0, 1],
    "positiveInt": [1, 2],
    "unsignedInt": [0, 7],
    "base64Binary": ["AAAA"],
    "time": ["07:30:00"],
    "uuid": ["urn:uuid:0c287d32-01e3-4d87-9953-9fcc9404eb21"],
}
SYSTEMS = {
    "Coding": ["http://loinc.org", "http://snomed.info/sct", "urn:oid:2.999"],
    "Identifier": ["urn:oid:2.999", "http://x.example/ids"],
    "ContactPoint": ["phone", "email"],
    "Quantity": ["http://unitsofmeasure.org", "urn:oid:2.999"],
}
REFERENCES: list[dict[str, Any]] = [
    {"reference": f"{type}/{id}"}
    for type in ("Patient", "Practitioner", "Encounter", "Location", "Composition", "Observation")
    for id in "12"
]
REFERENCES += [
    {"reference": "https://elsewhere.example/fhir/Practitioner/1"},
    {"reference": "Practitioner/2/_history/3"},
    {"reference": "urn:uuid:0c287d32-01e3-4d87-9953-9fcc9404eb21"},
    {"reference": "#p"},
    {"type": "Practitioner", "identifier": {"system": "urn:oid:2.999", "value": "x|y"}},
    {"identifier": {"value": "7"}, "reference": "Location/2"},
    {"display": "words alone"},
]
SKIPPED = {"extension", "modifierExtension", "contained", "text", "id", "implicitRules", "language"}


class Maker:
    """Makes resources out of the definitions of their types, with the elements that official expressions name."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def resource(self, name: str) -> dict[str, Any]:
        named = {word for row in PARAMETERS[name].values() for word in re.findall(r"\w+", row["expression"])}
        named |= {"value", "code", "target"}
        body = self._elements(name, named, 0)
        contained = {"contained": [{"resourceType": "Practitioner", "id": "p"}]}
        return {"resourceType": name, "id": self._rng.choice("12"), **contained, **body}

    def _elements(self, type: str, named: set[str] | None, depth: int) -> dict[str, Any]:
        described = definition(type)
        assert described is not None
        made: dict[str, Any] = {}
        for element, about in described.elements.items():
            stem = about.choice or element
            if (element in SKIPPED and named is not None) or element in ("extension", "id"):
                continue
            if named is not None and stem not in named and self._rng.random() > 0.02:
                continue
            if about.choice and any(other in made for other in described.choices[about.choice]):
                continue
            if self._rng.random() > (0.3 if about.choice else 0.6):
                continue
            count = self._rng.randint(1, 2) if about.many else 1
            values = [self._value(type, about, named, depth + 1) for _ in range(count)]
            values = [value for value in values if value not in (None, {}, [])]
            if values:
                made[element] = values if about.many else values[0]
        return made

    def _value(self, owner: str, about: Any, named: set[str] | None, depth: int) -> Any:
        if about.codes and about.type == "code" and owner != "Attachment":
            return self._rng.choice(sorted(about.codes)[:3])
        if about.type in PRIMITIVES:
            return self._rng.choice(PRIMITIVES[about.type])
        if about.type == "Reference":
            return dict(self._rng.choice(REFERENCES))
        if about.type == "Resource":
            return {"resourceType": self._rng.choice(["Composition", "Patient"]), "id": self._rng.choice("12")}
        if about.type in ("xhtml", "Narrative", "Extension") or depth > 5:
            return None
        is_datatype = definition(about.type) is not None and not self._is_part(owner, about.type)
        made = self._elements(about.type, None if is_datatype else named, depth)
        if about.type in SYSTEMS and "system" in made:
            made["system"] = self._rng.choice(SYSTEMS[about.type])
        return made

    def _is_part(self, owner: str, type: str) -> bool:
        return type.startswith(owner) and type != owner
