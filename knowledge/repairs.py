"""What is wrong in the published thesaurus, and is put right before anyone relies on it: defects D1 to D8.

E-prescription contract, section 20.2. D9, what the thesaurus is silent on, is the tables of local rules. One defect
more is repaired than the contract lists: in three rules the text states a contra-indication that the data have not
("hidden levels"). Each repair is counted, so that another edition of the data shows at once where it differs.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from knowledge.ansm import Entry, Row, Thesaurus
from knowledge.predicates import Branch, Predicate
from passerelle.medicines.names import normalised

COMBINATIONS: Final[Mapping[str, tuple[str, str]]] = {
    "sulfamethoxazole + trimethoprime": ("sulfamethoxazole", "trimethoprime"),
    "piperacilline/tazobactam": ("piperacilline", "tazobactam"),
    "glecaprevir + pibrentasvir": ("glecaprevir", "pibrentasvir"),
    "grazoprevir + elbasvir": ("grazoprevir", "elbasvir"),
    "ombitasvir + paritaprevir": ("ombitasvir", "paritaprevir"),
}
"""D7: classes that stand for two substances given together."""

_BROKEN: Final = re.compile(r"-\s")
_HEAD: Final = re.compile(r"(?:(?:CI|ASDEC|PE|APEC)(?:\s*-\s*(?:CI|ASDEC|PE|APEC))*)")
_ITEM: Final = re.compile(
    r"[-.•]|Contre-indication|Associations? (?:déconseill|à prendre|nécessitant)|Précaution d|A prendre en"
)
_VARIANTS: Final = ("œ", "Œ", "’")


@dataclass(frozen=True, slots=True, kw_only=True)
class Substance:
    label: str
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Between two ends, in one direction; `needs_both` are the components of an end that is a combination."""

    id: str
    a: str
    b: str
    text: str
    mechanism: str
    branches: tuple[Branch, ...]
    needs_both: tuple[str, ...] = ()
    review: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """`renamed` are names of the index that are another entry's; `uncoded` the ends that are no entry at all (D5)."""

    substances: Mapping[str, Substance]
    renamed: Mapping[str, str]
    rules: tuple[Rule, ...]
    uncoded: tuple[str, ...]
    defects: Mapping[str, int]


class RepairError(Exception):
    """The thesaurus and the tables of this folder do not fit together."""


def repaired(thesaurus: Thesaurus, predicates: Sequence[Predicate], same: Sequence[tuple[str, str]]) -> Repaired:
    """`same` are pairs of names that the index gives to one substance, the one to keep first. Raises RepairError."""
    counted: Counter[str] = Counter()
    substances, renamed = _substances(thesaurus.entries, same, counted)
    classes = {name for each in substances.values() for name in each.classes}
    rules = _rules(thesaurus.rows, predicates, renamed, counted)
    ends = {end for rule in rules for end in (rule.a, rule.b)}
    uncoded = tuple(sorted(ends - classes - substances.keys()))
    counted["D5 ends that are no entry"] = len(uncoded)
    counted["D7 combination classes"] = len(COMBINATIONS.keys() & classes)
    counted["D7 rules of a combination"] = sum(bool(rule.needs_both) for rule in rules)
    return Repaired(substances=substances, renamed=renamed, rules=rules, uncoded=uncoded, defects=dict(counted))


def rule_id(one: str, other: str) -> str:
    """The same for as long as the two ends have their names, whatever else of the rule changes."""
    return "ansm:" + hashlib.sha256("\n".join(sorted((one, other))).encode()).hexdigest()[:12]


def _substances(
    entries: Sequence[Entry], same: Sequence[tuple[str, str]], counted: Counter[str]
) -> tuple[dict[str, Substance], dict[str, str]]:
    labels: dict[str, str] = {}
    classes: defaultdict[str, dict[str, None]] = defaultdict(dict)
    broken: set[str] = set()
    variants: set[str] = set()
    for entry in entries:
        name = normalised(entry.substance)
        if name in labels:
            counted["D4 substances entered twice"] += 1  # with and without accents: their classes are put together
        labels[name] = max(labels.get(name, entry.substance), entry.substance, key=_accents)
        classes[name] |= dict.fromkeys(map(normalised, entry.classes))
        broken |= {said for said in entry.classes if _BROKEN.search(said)}
        variants |= {said for said in (entry.substance, *entry.classes) if any(sign in said for sign in _VARIANTS)}
    renamed: dict[str, str] = {}
    for kept, other in same:
        if kept not in labels or other not in labels:
            raise RepairError(f"{kept} = {other}: no longer two entries of the index")
        classes[kept] |= classes.pop(other)
        del labels[other]
        renamed[other] = kept
    counted["D3 class names broken after a hyphen"] = len(broken)
    counted["D4 substances under two names"] = len(renamed)
    counted["D8 names with œ or ’"] = len(variants)
    return (
        {
            name: Substance(label=labels[name][0].upper() + labels[name][1:], classes=tuple(sorted(classes[name])))
            for name in labels
        },
        renamed,
    )


def _accents(label: str) -> int:
    return sum(ord(letter) > 127 for letter in label)


def _rules(
    rows: Sequence[Row], predicates: Sequence[Predicate], renamed: Mapping[str, str], counted: Counter[str]
) -> tuple[Rule, ...]:
    by_ends: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        names = (normalised(row.main), normalised(row.plus))
        by_ends[tuple(sorted(renamed.get(name, name) for name in names))].append(row)
    written = {tuple(sorted(each.rule)): each for each in predicates}
    if unknown := written.keys() - by_ends.keys():
        raise RepairError(f"conditions of rules that are not in the thesaurus: {sorted(unknown)}")
    several = {ends for ends, own in by_ends.items() if any(len(row.statements) > 1 for row in own)}
    if several != {ends for ends, each in written.items() if each.kind == "several_levels"}:
        raise RepairError("the rules of several levels are not those that have conditions")
    counted["D1 rules of several levels"] = len(several)
    counted["D1 rows of several levels"] = sum(len(row.statements) > 1 for row in rows)
    counted["D2 rules whose text was glued"] = sum(any(map(_is_glued, own)) for own in by_ends.values())
    counted["D5 rules without their mirror"] = sum(
        len({(row.main, row.plus) for row in own}) == 1 for own in by_ends.values()
    )
    counted["D5 rules entered twice"] = sum(len(own) > 2 for own in by_ends.values())
    counted["D6 conditions of one level"] = sum(each.kind == "one_level" for each in predicates)
    counted["hidden levels"] = sum(each.kind == "hidden_level" for each in predicates)
    return tuple(_rule(ends, own, written.get(ends)) for ends, own in sorted(by_ends.items()))


def _rule(ends: tuple[str, ...], rows: Sequence[Row], predicate: Predicate | None) -> Rule:
    told = {prose(row): None for row in rows}
    a, b = predicate.rule if predicate else ends
    level = max(statement.level for row in rows for statement in row.statements)
    return Rule(
        id=rule_id(a, b),
        a=a,
        b=b,
        text="\n".join(dict.fromkeys(text for text, _ in told if text)),
        mechanism="\n".join(dict.fromkeys(mechanism for _, mechanism in told if mechanism)),
        branches=predicate.branches if predicate else (Branch(level=level, when=None),),
        needs_both=next((COMBINATIONS[end] for end in (a, b) if end in COMBINATIONS), ()),
        review=predicate.review if predicate else None,
    )


def prose(row: Row) -> tuple[str, str]:
    """(what to do, mechanism) of a row, from its description: there the ends of lines, which tell words apart, are kept
    (D2)."""
    head = _HEAD.match(row.description)
    start = head.end() if head else len(row.statements[0].label)
    said = row.description[start:]
    mechanism = _squeezed(row.mechanism)
    if not mechanism or not _squeezed(said).endswith(mechanism):
        return _lines(said), ""
    left, at = len(mechanism), len(said)
    while left:
        at -= 1
        left -= not said[at].isspace()
    return _lines(said[:at]), _lines(said[at:])


def _is_glued(row: Row) -> bool:
    text = " ".join(row.statements[0].text.split())
    return len(row.statements) == 1 and bool(text) and text not in " ".join(row.description.split())


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _lines(text: str) -> str:
    """Paragraphs and list items on lines of their own; lines that the width of a page broke are joined again."""
    lines: list[str] = []
    is_new = True
    for line in text.splitlines():
        said = " ".join(line.split())
        if said and (not lines or _ITEM.match(said) or (is_new and not said[0].islower())):
            lines.append(said)
        elif said:
            lines[-1] += said if lines[-1].endswith("-") else f" {said}"
        is_new = not said
    return "\n".join(lines).strip(" :\n")
