"""Dosages in French words, from the structured elements (FHIR R4 Dosage and Timing).

What a prescriber wrote goes before what is made here: the rendered instruction, then the text of each dosage. Amounts
are written by the function given: digits, or words for narcotics, of which the text alone is never enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final

Json = Mapping[str, Any]
Written = Callable[[Decimal], str]

_RENDERED: Final = "renderedDosageInstruction"
_UNITS: Final[Mapping[str, tuple[str, str, bool]]] = {  # one, many, feminine
    "s": ("seconde", "secondes", True),
    "min": ("minute", "minutes", True),
    "h": ("heure", "heures", True),
    "d": ("jour", "jours", False),
    "wk": ("semaine", "semaines", True),
    "mo": ("mois", "mois", False),
    "a": ("an", "ans", False),
}
_WHEN: Final[Mapping[str, str]] = {
    "MORN": "le matin",
    "MORN.early": "tôt le matin",
    "MORN.late": "en fin de matinée",
    "NOON": "le midi",
    "AFT": "l'après-midi",
    "AFT.early": "en début d'après-midi",
    "AFT.late": "en fin d'après-midi",
    "EVE": "le soir",
    "EVE.early": "en début de soirée",
    "EVE.late": "en fin de soirée",
    "NIGHT": "la nuit",
    "PHS": "après le coucher",
    "HS": "au coucher",
    "WAKE": "au lever",
    "C": "au cours des repas",
    "CM": "au petit-déjeuner",
    "CD": "au déjeuner",
    "CV": "au dîner",
    "AC": "avant les repas",
    "ACM": "avant le petit-déjeuner",
    "ACD": "avant le déjeuner",
    "ACV": "avant le dîner",
    "PC": "après les repas",
    "PCM": "après le petit-déjeuner",
    "PCD": "après le déjeuner",
    "PCV": "après le dîner",
}
_DAYS: Final[Mapping[str, str]] = {
    "mon": "lundi",
    "tue": "mardi",
    "wed": "mercredi",
    "thu": "jeudi",
    "fri": "vendredi",
    "sat": "samedi",
    "sun": "dimanche",
}
_COUNTABLE: Final = re.compile(r"[a-zà-ÿ]{3,}[a-rt-wyà-ÿ]")
_FEMININE: Final = frozenset(
    {
        "ampoule", "application", "boîte", "bouffée", "capsule", "cartouche", "cuillère", "dose",
        "fois", "gélule", "goutte", "heure", "injection", "minute", "pastille", "pipette",
        "plaquette", "pression", "pulvérisation", "semaine", "seconde", "seringue", "unité",
    }
)  # fmt: skip


def written_plainly(amount: Decimal) -> str:
    return f"{amount.normalize():f}".replace(".", ",")


def instruction(request: Json, write: Written = written_plainly, *, is_spelt: bool = False) -> str:
    """The dosage of a MedicationRequest; `is_spelt` asks for the amounts whatever the prescriber's text says."""
    dosages = request.get("dosageInstruction", [])
    stated = _stated(request, dosages)
    if stated and not is_spelt:
        return stated
    made = _joined(dosages, [dosage_in_words(each, write) for each in dosages])
    return " - ".join(dict.fromkeys(filter(None, (stated, made))))


def _stated(request: Json, dosages: Sequence[Json]) -> str:
    for each in request.get("extension", []):
        if each.get("url", "").endswith(_RENDERED):
            return next((str(value) for name, value in each.items() if name.startswith("value")), "")
    texts = [each.get("text", "") for each in dosages]
    return _joined(dosages, texts) if all(texts) else ""


def _joined(dosages: Sequence[Json], texts: Sequence[str]) -> str:
    """Dosages of one sequence run at the same time, sequences follow each other."""
    said = ""
    for place, (dosage, text) in enumerate(zip(dosages, texts, strict=True)):
        follows = place and dosage.get("sequence") != dosages[place - 1].get("sequence")
        said += (", puis " if follows else " ; ") * bool(said and text) + text
    return said


def dosage_in_words(dosage: Json, write: Written = written_plainly) -> str:
    timing = dosage.get("timing", {})
    repeat = timing.get("repeat", {})
    return ", ".join(
        filter(
            None,
            (
                " ".join(filter(None, (_dose(dosage, write), _rhythm(timing, write), *_moments(repeat)))),
                _bounds(repeat, write),
                _as_needed(dosage),
                _maximum(dosage, write),
                _text(dosage.get("route", {})),
                *(_text(each) for each in dosage.get("additionalInstruction", [])),
            ),
        )
    )


def quantity_in_words(quantity: Json, write: Written = written_plainly) -> str:
    amount = Decimal(quantity["value"])
    code = quantity.get("code", "")
    if quantity.get("system") == "http://unitsofmeasure.org" and code in _UNITS:
        one, many, _ = _UNITS[code]
        return f"{_agreeing(write(amount), one)} {many if amount >= 2 else one}"
    unit = str(quantity.get("unit") or code)
    plural = "s" if amount >= 2 and _COUNTABLE.fullmatch(unit) else ""
    return f"{_agreeing(write(amount), unit)} {unit}{plural}".strip()


def _agreeing(count: str, noun: str) -> str:
    """`un` becomes `une` before a feminine noun."""
    words = re.findall(r"[a-zà-ÿ]+", noun.lower())
    is_feminine = bool(words) and words[0].removesuffix("s") in {each.removesuffix("s") for each in _FEMININE}
    return f"{count}e" if is_feminine and re.search(r"\bun$", count) else count


def _dose(dosage: Json, write: Written) -> str:
    for each in dosage.get("doseAndRate", []):
        if "value" in each.get("doseQuantity", {}):
            return quantity_in_words(each["doseQuantity"], write)
        low, high = (each.get("doseRange", {}).get(end, {}) for end in ("low", "high"))
        if "value" in low and "value" in high:
            return f"{write(Decimal(low['value']))} à {quantity_in_words(high, write)}"
    return ""


def _rhythm(timing: Json, write: Written) -> str:
    repeat = timing.get("repeat", {})
    times, most = repeat.get("frequency"), repeat.get("frequencyMax")
    period, unit = Decimal(repeat.get("period", 0)), str(repeat.get("periodUnit", ""))
    every = ""
    if unit in _UNITS and period:
        one, many, is_feminine = _UNITS[unit]
        every = f"par {one}" if period == 1 else f"{'toutes' if is_feminine else 'tous'} les {write(period)} {many}"
    counts = [_agreeing(write(Decimal(each)), "fois") for each in (times, most) if each]
    if not counts:
        is_said_by_moments = every == "par jour" and ("when" in repeat or "timeOfDay" in repeat)
        return "" if is_said_by_moments else every or _text(timing.get("code", {}))
    if counts == [_agreeing(write(Decimal(1)), "fois")] and every and period != 1:
        return every
    return f"{' à '.join(counts)} fois {every}".strip()


def _moments(repeat: Json) -> Iterator[str]:
    if "dayOfWeek" in repeat:
        yield "le " + _listed([_DAYS[each] for each in repeat["dayOfWeek"]])
    if "when" in repeat:
        offset = f"{repeat['offset']} minutes " if repeat.get("offset") else ""
        yield offset + _listed([_WHEN.get(each, each) for each in repeat["when"]])
    if "timeOfDay" in repeat:
        yield "à " + _listed([each[:5].replace(":", " h ") for each in repeat["timeOfDay"]])


def _bounds(repeat: Json, write: Written) -> str:
    if "value" in repeat.get("boundsDuration", {}):
        return f"pendant {quantity_in_words(repeat['boundsDuration'], write)}"
    period = repeat.get("boundsPeriod", {})
    start, end = (day(period[each]) if each in period else "" for each in ("start", "end"))
    return " ".join(filter(None, (f"à partir du {start}" if start else "", f"jusqu'au {end}" if end else "")))


def _as_needed(dosage: Json) -> str:
    reason = _text(dosage.get("asNeededCodeableConcept", {}))
    if reason or "asNeededCodeableConcept" in dosage:
        return f"si besoin ({reason})" if reason else "si besoin"
    return "si besoin" if dosage.get("asNeededBoolean") else ""


def _maximum(dosage: Json, write: Written) -> str:
    ratio = dosage.get("maxDosePerPeriod", {})
    most, period = ratio.get("numerator", {}), ratio.get("denominator", {})
    if "value" not in most or "value" not in period:
        return ""
    unit = _UNITS.get(period.get("code", ""))
    if unit and Decimal(period["value"]) == 1:
        return f"maximum {quantity_in_words(most, write)} par {unit[0]}"
    return f"maximum {quantity_in_words(most, write)} en {quantity_in_words(period, write)}"


def _text(concept: Json) -> str:
    codings = (each["display"] for each in concept.get("coding", []) if "display" in each)
    return str(concept.get("text") or next(codings, ""))


def _listed(words: Sequence[str]) -> str:
    return " et ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def day(text: str) -> str:
    """A FHIR date or dateTime as a French day, as far as it is one."""
    try:
        return date.fromisoformat(text[:10]).strftime("%d/%m/%Y")
    except ValueError:
        return text
