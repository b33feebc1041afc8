"""Products: the five files of the public database of medicines (BDPM) that the compiler reads, or the sample beside it.

E-prescription contract, sections 11 and 20.4. Tab-separated, no header, no quotes; UTF-8 or Windows-1252, by file and
by date. The published files carry no licence notice in the copies that circulate: the operator downloads them, we
bundle none. `sample/` was written by hand: true names, codes that nobody has.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from knowledge.conditions import Supply, supply
from passerelle.medicines.names import normalised

SAMPLE: Final = Path(__file__).with_name("sample")
FILES: Final = {
    "CIS": "CIS_bdpm.txt",
    "COMPO": "CIS_COMPO_bdpm.txt",
    "CIP": "CIS_CIP_bdpm.txt",
    "GENER": "CIS_GENER_bdpm.txt",
    "CPD": "CIS_CPD_bdpm.txt",
}
_COLUMNS: Final = {"CIS": 12, "COMPO": 8, "CIP": 7, "GENER": 4, "CPD": 2}
SYSTEM: Final = "http://data.esante.gouv.fr/ansm/medicament/"  # contract, section 3
SPECIALITY, PRESENTATION, SUBSTANCE = f"{SYSTEM}SpecialitePharmaceutique", f"{SYSTEM}Presentation", f"{SYSTEM}substance"

_MG: Final = {"kg": Decimal(10**6), "g": Decimal(1000), "mg": Decimal(1), "microgrammes": Decimal("0.001")}
_DOSE: Final = re.compile(r"(\d+(?:[ .,]\d+)*)\s*(kg|g|mg|microgrammes?|µg|μg|mcg)\b(.*)")
_COUNTED: Final = (
    "comprime|gelule|capsule|sachet|suppositoire|ovule|patch|dispositif|ampoule|dose|seringue|stylo|cartouche|flacon"
    "|pastille|film|recipient unidose|poche"
)
_PACK: Final = re.compile(rf"(?:(\d+)\s+[^,;]*?\bde\s+)?(\d+)\s+(?:[a-z-]+\s+){{0,2}}?(?:{_COUNTED})s?\b")
_VOLUME: Final = re.compile(r"\bde\s+(\d+)\s*ml\b")
_ROUTES: Final = (
    ("intraveineuse", "iv"),
    ("perfusion", "iv"),
    ("intramusculaire", "im"),
    ("sous-cutanee", "sc"),
    ("sublinguale", "sublingual"),
    ("buccogingivale", "buccal"),
    ("orale", "oral"),
    ("rectale", "rectal"),
    ("vaginale", "vaginal"),
    ("transdermique", "transdermal"),
    ("cutanee", "cutaneous"),
    ("ophtalmique", "ophthalmic"),
    ("nasale", "nasal"),
    ("inhalee", "inhaled"),
)
_TYPES: Final = frozenset({0, 1, 2, 4})  # princeps, generic, complementary, substitutable


class ProductFileError(Exception):
    """A file of the BDPM is missing, or a line of it has not its form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How the names of the BDPM become those of the thesaurus: `known` are its substances."""

    known: frozenset[str]
    synonyms: Mapping[str, Sequence[str]]
    salts_before: Sequence[str]
    salts_after: frozenset[str]

    def substances(self, label: str) -> tuple[str, ...]:
        """The substances of a name, its salt left out; a name that the thesaurus has not is returned as it is."""
        for name in self._forms(normalised(label)):
            if name in self.known:
                return (name,)
            if name in self.synonyms:
                return tuple(self.synonyms[name])
        return (self._bare(normalised(label)),)

    def _forms(self, name: str) -> Iterator[str]:
        yield name
        outside = re.sub(r"\s*\([^)]*\)", "", name)
        yield outside
        bare = self._bare(outside)
        yield bare
        yield f"acide {bare}"

    def _bare(self, name: str) -> str:
        words = name.split()
        while len(words) > 1 and words[-1] in self.salts_after:
            words.pop()
        bare = " ".join(words)
        for salt in sorted(self.salts_before, key=len, reverse=True):
            for of in (f"{salt} de ", f"{salt} d'", f"{salt} du ", f"{salt} disodique de ", f"{salt} sodique de "):
                if bare.startswith(of):
                    return bare.removeprefix(of)
        return bare


@dataclass(frozen=True, slots=True, kw_only=True)
class Products:
    """Tables of the artefact. `sha256` is of the five files together, `newest` the last marketing that they tell of;
    `brands` are those that stand for the same substances in all strengths; `unmapped` are names outside the thesaurus.
    """

    products: Mapping[str, Mapping[str, Any]]
    presentations: Mapping[str, str]
    codes: Mapping[str, Sequence[str]]
    names: Mapping[str, Sequence[str]]
    brands: Mapping[str, Sequence[str]]
    sha256: str
    newest: date
    unmapped: Mapping[str, int]
    mapped_whole: int
    unread_conditions: Mapping[str, int]


def read(folder: Path, names: Names) -> Products:
    """Raises ProductFileError."""
    files = {name: _lines(folder / file, _COLUMNS[name]) for name, file in FILES.items()}
    compositions = _by_first(files["COMPO"])
    presentations = _by_first(files["CIP"])
    groups = {line[2]: (line[0], int(line[3])) for line in files["GENER"] if line[3].strip() in map(str, _TYPES)}
    conditions = _by_first(files["CPD"])
    products: dict[str, dict[str, Any]] = {}
    codes: dict[str, Sequence[str]] = {}
    spoken: dict[str, Sequence[str]] = {}
    unmapped: defaultdict[str, int] = defaultdict(int)
    unread: defaultdict[str, int] = defaultdict(int)
    brands: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
    packs: dict[str, str] = {}
    whole = 0
    for line in files["CIS"]:
        cis, label = line[0], line[1]
        parts = _composition(compositions[cis], names)
        for code, said, substances in parts.names:
            codes[f"{SUBSTANCE}|{code}"] = substances
            if normalised(said) not in names.known:
                spoken[normalised(said)] = substances
        outside = [name for name in parts.substances if name not in names.known]
        if (brand := _brand(label)) and brand not in names.known and parts.substances:
            brands[brand].add(tuple(sorted(parts.substances)))
        whole += bool(parts.substances) and not outside
        for name in outside:
            unmapped[name] += 1
        told = [each[1].strip() for each in conditions[cis] if each[1].strip()]
        rules = supply(told, parts.substances, parts.strengths)
        for text in rules.unread:
            unread[text] += 1
        own = [(f"{PRESENTATION}|{each[6].strip()}", _units(each[2])) for each in presentations[cis]]
        packs |= {code: f"{SPECIALITY}|{cis}" for code, _ in own}
        group, rank = groups.get(cis, (None, None))
        products[f"{SPECIALITY}|{cis}"] = _product(
            code=f"{SPECIALITY}|{cis}",
            label=label,
            substances=parts.substances,
            mg_per_unit=[[name, str(amount)] for name, amount in parts.strengths],
            routes=_routes(line[3]),
            conditions=told,
            rules=rules,
            generic_group=group,
            generic_type=rank,
            packs=[[code, units] for code, units in own if units],
        )
    return Products(
        products=products,
        presentations=packs,
        codes=codes,
        names=spoken,
        brands={brand: list(kept.pop()) for brand, kept in brands.items() if len(kept) == 1},
        sha256=digest(folder),
        newest=max((_day(line[5]) for line in files["CIP"]), default=date.min),
        unmapped=dict(unmapped),
        mapped_whole=whole,
        unread_conditions=dict(unread),
    )


def _product(*, rules: Supply, **said: Any) -> dict[str, Any]:
    facts = {
        "listing": rules.listing,
        "is_secure": rules.is_secure,
        "is_exception": rules.is_exception,
        "max_days": rules.max_days,
        "fraction_days": rules.fraction_days,
        "kinds": list(rules.kinds),
        "unread_conditions": list(rules.unread),
    }
    return {name: value for name, value in {**said, **facts}.items() if value or (value == 0 and value is not False)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Composition:
    substances: list[str]
    strengths: list[tuple[str, Decimal]]
    names: list[tuple[str, str, tuple[str, ...]]]  # code, label, substances


def _composition(lines: Sequence[Sequence[str]], names: Names) -> _Composition:
    """Of a salt (SA) and its therapeutic fraction (FT), which carry the same link, the fraction is what is dosed."""
    fractions = {line[7] for line in lines if line[6].strip() == "FT"}
    spoken = []
    strengths: dict[str, Decimal] = {}
    kept: dict[str, None] = {}
    for line in lines:
        of_it = names.substances(line[3])
        spoken.append((line[2].strip(), line[3], of_it))
        if line[6].strip() == "SA" and line[7] in fractions:
            continue
        kept |= dict.fromkeys(of_it)
        amount = _milligrams(line[4], line[5])
        if amount is not None and len(of_it) == 1:
            strengths[of_it[0]] = strengths.get(of_it[0], Decimal(0)) + amount
    return _Composition(substances=list(kept), strengths=list(strengths.items()), names=spoken)


def _milligrams(dose: str, reference: str) -> Decimal | None:
    """mg in one unit, or in 1 mL of a liquid. None: not an amount of mass, or a rate (per hour)."""
    found = _DOSE.match(normalised(dose))
    if found is None or "/" in found[3]:
        return None
    unit = {"µg": "microgrammes", "μg": "microgrammes", "mcg": "microgrammes", "microgramme": "microgrammes"}.get(
        found[2], found[2]
    )
    amount = Decimal(found[1].replace(" ", "").replace(",", ".")) * _MG[unit]
    volume = re.search(r"(\d+(?:[.,]\d+)?)?\s*ml\b", normalised(reference))
    if volume:
        amount /= Decimal((volume[1] or "1").replace(",", "."))
    return amount.quantize(Decimal("0.000001")).normalize() + 0


def _units(label: str) -> int:
    """Units in a presentation, mL when it is one flask of a liquid; 0 when its label does not say."""
    text = normalised(re.sub(r"\(s\)", "s", label))
    if volume := _VOLUME.search(text):
        return int(volume[1])
    found = _PACK.search(text)
    return int(found[1] or 1) * int(found[2]) if found else 0


def _day(text: str) -> date:
    try:
        return datetime.strptime(text.strip(), "%d/%m/%Y").replace(tzinfo=UTC).date()
    except ValueError:
        return date.min


def _brand(label: str) -> str:
    """What stands before the strength: the name by which a treatment is known when it has no code."""
    words = normalised(label.partition(",")[0]).split()
    name = " ".join(itertools.takewhile(lambda word: not any(sign.isdigit() for sign in word), words))
    return name.removesuffix(" l.p.") if len(name) > 3 else ""


def _routes(text: str) -> list[str]:
    said = [normalised(each) for each in text.split(";")]
    return list(dict.fromkeys(route for each in said for word, route in _ROUTES if word in each))


def _by_first(lines: Iterable[Sequence[str]]) -> defaultdict[str, list[Sequence[str]]]:
    grouped: defaultdict[str, list[Sequence[str]]] = defaultdict(list)
    for line in lines:
        grouped[line[0]].append(line)
    return grouped


def _lines(path: Path, wanted: int) -> list[list[str]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ProductFileError(f"{path.name} is missing") from error
    lines = [line.split("\t") for line in decoded(content).splitlines() if line.strip()]
    for number, line in enumerate(lines, start=1):
        if len(line) < wanted:
            raise ProductFileError(f"{path.name}, line {number}: {len(line)} columns, {wanted} needed")
    return lines


def decoded(content: bytes) -> str:
    """UTF-8 when it is that, else Windows-1252: which of them differs by file and by date."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")


def digest(folder: Path) -> str:
    """Of the five files together."""
    return hashlib.sha256(
        b"".join(hashlib.sha256((folder / file).read_bytes()).digest() for file in FILES.values())
    ).hexdigest()
