"""How far two registrations agree, trait by trait (data model, 1.3).

Every comparison is symmetric. The parts of an address are no independent evidence, so it is compared as a whole; so
are names entered in the wrong place. National identifiers one digit apart are `near`; what that means is for the
weights to tell (see scoring.py).
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from passerelle.matching.names import contains, letters
from passerelle.matching.phonetics import skeleton
from passerelle.matching.placeholders import known
from passerelle.matching.record import MatchRecord

if TYPE_CHECKING:
    from types import ModuleType

UNKNOWN: Final = "unknown"

_PAIRS_KEPT: Final = 100_000
_CLOSE, _SIMILAR = 0.92, 0.82  # Jaro-Winkler: the usual cuts (Winkler 1990; the name comparisons of Splink)
_ABROAD: Final = "99"  # followed by the country
# Departments whose places have another code since: Corsica in 1976, Seine and Seine-et-Oise in 1968.
_REDRAWN: Final = {"20": ("2A", "2B"), "75": ("92", "93", "94"), "78": ("91", "92", "93", "94", "95")}
_CLOSE_TEXT = 0.9
_SIMILAR_TEXT = 0.75


@cache
def _strings() -> ModuleType:
    """Imported when names are first compared: most requests compare none, and every cold start would pay for it."""
    import rapidfuzz.distance

    return rapidfuzz.distance


class Comparison(NamedTuple):
    """The level of each trait, one of `LEVELS` or `unknown`. Pairs that agree alike are equal, so they can be counted.

    `family` is `used` when the birth name of one is the name in use of the other. `given` is `misspelt` one edit away,
    and `other` when the first given name of one is a further one of the other. `order` tells of names entered in the
    wrong place: both (`swapped`, `swapped-close`) or one (`half`). It then stands for `family` and `given`, which are
    unknown.
    """

    family: str
    given: str
    order: str
    others: str
    birth_date: str
    sex: str
    address: str
    birth_place: str
    national: str
    phone: str
    email: str


# From the strongest agreement to disagreement.
LEVELS: Final[dict[str, tuple[str, ...]]] = {
    "family": ("exact", "used", "close", "similar", "different"),
    "given": ("exact", "misspelt", "close", "similar", "other", "different"),
    "order": ("kept", "swapped", "swapped-close", "half"),
    "others": ("exact", "shared", "different"),
    "birth_date": ("exact", "near", "partial", "different"),
    "sex": ("exact", "different"),
    "address": ("door", "street", "number", "area", "near", "different"),
    "birth_place": ("exact", "department", "different"),
    "national": ("exact", "near", "different"),
    "phone": ("exact", "near", "different"),
    "email": ("exact", "different"),
}
_RANK: Final = {"exact": 0, "misspelt": 1, "close": 1, "similar": 2, "different": 3, UNKNOWN: 4}


def compare(a: MatchRecord, b: MatchRecord) -> Comparison:
    """The same whichever comes first. Some ten microseconds."""
    return Comparison(
        *_names(a, b),
        _others(a.others, b.others),
        _date(known("birth_date", a.birth_date), known("birth_date", b.birth_date)),
        _same(a.sex, b.sex),
        _address(a, b),
        _place(known("birth_place", a.birth_place), known("birth_place", b.birth_place)),
        _digits(known("national", a.national), known("national", b.national)),
        _digits(known("phone", a.phone), known("phone", b.phone)),
        _same(known("email", a.email), known("email", b.email)),
    )


def _same(a: str, b: str) -> str:
    if not a or not b:
        return UNKNOWN
    return "exact" if a == b else "different"


def _names(a: MatchRecord, b: MatchRecord) -> tuple[str, str, str]:
    """The levels of `family`, `given` and `order`."""
    family_a, family_b = known("family", a.family), known("family", b.family)
    given_a, given_b = known("given", a.given), known("given", b.given)
    family, given = _name(family_a, family_b), _name(given_a, given_b)
    order = UNKNOWN
    if family != UNKNOWN and given != UNKNOWN:
        order = _order(family, given, _name(family_a, given_b), _name(given_a, family_b))
        if order != "kept":
            return UNKNOWN, UNKNOWN, order
    if family != "exact" and (a.used or b.used):
        family = _used(family, (family_a, known("family", a.used)), (family_b, known("family", b.used)))
    if given in ("similar", "different") and (given_a in b.others or given_b in a.others):
        given = "other"
    return "close" if family == "misspelt" else family, given, order


def _order(family: str, given: str, *crossed: str) -> str:
    if _RANK[family] + _RANK[given] < 4:
        return "kept"
    if crossed == ("exact", "exact"):
        return "swapped"
    if sum(map(_RANK.__getitem__, crossed)) <= 2:
        return "swapped-close"
    return "half" if family == given == "different" and min(map(_RANK.__getitem__, crossed)) <= 1 else "kept"


def _name(a: str, b: str) -> str:
    if not a or not b:
        return UNKNOWN
    if a == b:
        return "exact"
    return _unequal_names(a, b) if a < b else _unequal_names(b, a)


@lru_cache(maxsize=_PAIRS_KEPT)
def _unequal_names(a: str, b: str) -> str:
    whole_a, whole_b = letters(a), letters(b)
    if whole_a == whole_b:
        return "exact"
    shortest = min(len(whole_a), len(whole_b))
    edits = _strings().OSA.distance(whole_a, whole_b, score_cutoff=2)
    if edits == 1 and shortest > 3:
        return "misspelt"
    likeness = _strings().JaroWinkler.similarity(whole_a, whole_b)
    if likeness >= _CLOSE or contains(a, b) or contains(b, a):
        return "close"
    if shortest > 3 and (whole_a in whole_b or whole_b in whole_a):
        return "close"
    if likeness >= _SIMILAR or (edits <= 2 and shortest > 3) or skeleton(a) == skeleton(b):
        return "similar"
    return "different"


def _used(family: str, a: tuple[str, str], b: tuple[str, str]) -> str:
    """The level of the birth names, or what the names in use tell where that is more."""
    crossed = min(
        (_name(one, other) for one, other in ((a[0], b[1]), (a[1], b[0]), (a[1], b[1]))), key=_RANK.__getitem__
    )
    if crossed == "exact":
        return "used"
    return "similar" if _RANK[crossed] == 1 and family in ("different", UNKNOWN) else family


def _others(a: tuple[str, ...], b: tuple[str, ...]) -> str:
    if not a or not b:
        return UNKNOWN
    if a == b:
        return "exact"
    return "different" if set(a).isdisjoint(b) else "shared"


def _date(a: str, b: str) -> str:
    if not a or not b:
        return UNKNOWN
    if a == b:
        return "exact"
    if a[:4] == b[:4] and a[4:6] == b[6:] and a[6:] == b[4:6]:
        return "near"
    edits = _strings().OSA.distance(a, b, score_cutoff=2)
    if edits == 1:
        return "near"
    if edits == 2 or (a[:4] == b[:4]) + (a[4:6] == b[4:6]) + (a[6:] == b[6:]) == 2:
        return "partial"
    # A day that nobody knew is often entered as the first of January.
    return "partial" if a[:4] == b[:4] and "0101" in (a[4:], b[4:]) else "different"


def _digits(a: str, b: str) -> str:
    if not a or not b:
        return UNKNOWN
    if a == b:
        return "exact"
    return "near" if _strings().OSA.distance(a, b, score_cutoff=1) == 1 else "different"


def _place(a: str, b: str) -> str:
    if not a or not b:
        return UNKNOWN
    if a == b:
        return "exact"
    one, other = sorted((a[:2], b[:2]))
    if one == other:
        return "different" if one == _ABROAD else "department"
    return "department" if other in _REDRAWN.get(one, ()) else "different"


def _text(a: str, b: str) -> str:
    if not a or not b:
        return UNKNOWN
    if a == b:
        return "exact"
    return _unequal_texts(a, b) if a < b else _unequal_texts(b, a)


@lru_cache(maxsize=_PAIRS_KEPT)
def _unequal_texts(a: str, b: str) -> str:
    likeness = _strings().JaroWinkler.similarity(letters(a), letters(b))
    return "close" if likeness >= _CLOSE_TEXT else "similar" if likeness >= _SIMILAR_TEXT else "different"


def _address(a: MatchRecord, b: MatchRecord) -> str:
    """Same door, same street, another street but the same number in the same place, same place, nearly, elsewhere.

    Unknown without a place in common to compare: every town has its rue de l'Église.
    """
    postcode = _digits(known("postcode", a.postcode), known("postcode", b.postcode))
    city = _text(known("city", a.city), known("city", b.city))
    if postcode == city == UNKNOWN:
        return UNKNOWN
    street = _text(known("street", a.street), known("street", b.street))
    has_same_number = bool(a.number) and a.number == b.number
    is_near = postcode in ("exact", "near") or city in ("exact", "close")
    if street in ("exact", "close") and is_near:
        return "door" if has_same_number else "street"
    if postcode == "exact" or city == "exact":
        return "number" if has_same_number else "area"
    return "near" if is_near or (street == "exact" and has_same_number) else "different"
