"""National identity rules: a data file for each country (`data/identity_<country>.json`), and what a number must be.

France: FR Core 2.2.0 and RNIV v2 (contract section 16). Another country adds its data file, and a `NationalNumber` if
its identifiers have a form that can be checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from passerelle.errors import Coding, Forbidden, Issue, Unprocessable
from passerelle.matching.names import normalised
from passerelle.matching.placeholders import known
from passerelle.matching.record import MatchRecord
from passerelle.patients.model import Caution, Traits

_DATA: Final = files("passerelle.patients") / "data"

OLD: Final = "old"  # FHIR identifier-use of an identifier that is set aside
OFFICIAL: Final = "official"  # FHIR name-use of the birth name


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredCode:
    """A code as a resource declares it; `path` is its FHIRPath."""

    path: str
    system: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredIdentifier:
    """An identifier as a resource declares it; `path` is its FHIRPath."""

    path: str
    system: str
    value: str
    use: str
    types: frozenset[Coding]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredName:
    """A birth name as a resource declares it; `path` is its FHIRPath."""

    path: str
    family: str
    given: tuple[str, ...]
    birth_given_names: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What a resource says of an identity, and where it says it. `comments` are the attributes of the identity."""

    traits: Traits
    identifiers: tuple[DeclaredIdentifier, ...]
    birth_names: tuple[DeclaredName, ...]
    comments: tuple[DeclaredCode, ...]
    status_path: str


@dataclass(frozen=True, slots=True)
class NationalNumber:
    """What can be checked of a national identifier without asking anybody. `differences` names unlike traits."""

    is_well_formed: Callable[[str], bool]
    has_valid_key: Callable[[str], bool]
    differences: Callable[[str, Traits], tuple[str, ...]]


class IdentityScheme:
    """The identity rules of one country, for one stage of deployment. No fault or warning tells a value."""

    def __init__(self, rules: Mapping[str, Any], stage: str) -> None:
        self._rules = rules
        self._stage = stage
        self._number = _NUMBERS[rules["number"]] if "number" in rules else None

    @property
    def birth_given_names(self) -> str:
        """The extension of a name that lists the birth given names."""
        return str(self._rules["birthGivenNames"])

    @property
    def birth_place(self) -> Mapping[str, Any]:
        """Where a Patient says in which place of the national register it was born."""
        rules: Mapping[str, Any] = self._rules["birthPlace"]
        return rules

    @property
    def reliability(self) -> Mapping[str, Any]:
        """Where a Patient says how far its identity was verified, and with which codes."""
        rules: Mapping[str, Any] = self._rules["identityReliability"]
        return rules

    @property
    def systems(self) -> frozenset[str]:
        """The systems of national identifiers."""
        return frozenset(self._rules["nationalIdentifiers"])

    def is_national(self, system: str, value: str) -> bool:
        """Whether it could be a national identifier of somebody, at this stage."""
        rules = self._rules["nationalIdentifiers"].get(system)
        if rules is None or self._stage not in rules["stages"]:
            return False
        return self._number is None or self._number.is_well_formed(value)

    def form_of(self, system: str) -> tuple[str, Coding]:
        """The use and the type that a national identifier of this system is declared with."""
        rules = self._rules["nationalIdentifiers"][system]
        return rules["use"], Coding(system=self._rules["identifierTypes"], code=rules["type"])

    def status_of(self, codes: tuple[DeclaredCode, ...]) -> str:
        """The reliability of an identity (INS-1): one code of the scheme; raises Unprocessable for any other."""
        rules = self.reliability
        for each in codes:
            if each.system not in rules["codeSystems"] or each.code not in rules["sourceMayChange"]:
                raise Unprocessable(
                    "the identity status is not one of the scheme's codes", code="code-invalid", expression=each.path
                )
        found = {each.code for each in codes}
        if len(found) > 1:
            raise Unprocessable("an identity has one status", code="invariant", expression=codes[1].path)
        return found.pop() if found else str(rules["absent"])

    def cautions_of(self, comments: tuple[DeclaredCode, ...]) -> frozenset[Caution]:
        """What the attributes of an identity warn of, whichever code system they are taken from."""
        meanings = self._rules["cautions"]
        return frozenset(Caution(meanings[each.code]) for each in comments if each.code in meanings)

    def check_change(self, before: str, after: str, *, path: str) -> None:
        """Raise Forbidden for a change of status that a source may not make: to qualify is not its decision (INS-7)."""
        if after != before and after not in self.reliability["sourceMayChange"][before]:
            raise Forbidden("an identity is qualified by the national service only", expression=path)

    def check(self, declared: Declaration) -> None:
        """Raise one Unprocessable with every fault (contract rows INS-2 to INS-6, INS-11)."""
        issues = (*self._attribute_faults(declared), *self._identifier_faults(declared))
        if issues:
            raise Unprocessable(issues=issues)

    def warnings(self, declared: Declaration) -> tuple[Issue, ...]:
        """What is accepted, but looks wrong: a key that a stage does not check, a number that tells another birth."""
        if self._number is None:
            return ()
        found = []
        for each in self._national(declared):
            if not self._number.is_well_formed(each.value):
                continue
            at = f"{each.path}.value"
            if not self._number.has_valid_key(each.value):
                found.append(_fault("value", "the national identifier does not match its key", at))
            elif each.use != OLD:
                found += [
                    _fault("value", f"the national identifier tells another {trait} than the resource", at)
                    for trait in self._number.differences(each.value, declared.traits)
                ]
        return tuple(found)

    def _national(self, declared: Declaration) -> list[DeclaredIdentifier]:
        return [each for each in declared.identifiers if each.system in self.systems]

    def _attribute_faults(self, declared: Declaration) -> Iterator[Issue]:
        provisional = [each for each in declared.comments if each.code in self._rules["onlyProvisional"]]
        if provisional and declared.traits.status != self.reliability["absent"]:
            yield _fault("invariant", "such an identity stays provisional", provisional[0].path)
        other = next((each for each in provisional if each.code != provisional[0].code), None)
        if other is not None:
            yield _fault("invariant", "an identity is doubtful or fictitious, not both", other.path)

    def _identifier_faults(self, declared: Declaration) -> Iterator[Issue]:
        national = self._national(declared)
        in_use = [each for each in national if each.use != OLD]
        if in_use and declared.traits.status not in self.reliability["carriesNationalIdentifier"]:
            reason = "a national identifier needs an identity that is at least validated"
            yield _fault("business-rule", reason, in_use[0].path)
            return
        for each in national:
            yield from self._form_faults(each)
        if len(in_use) > 1:
            yield _fault("invariant", "only one national identifier is in use", f"{in_use[1].path}.use")
        if in_use:
            yield from self._trait_faults(declared)

    def _form_faults(self, each: DeclaredIdentifier) -> Iterator[Issue]:
        rules = self._rules["nationalIdentifiers"][each.system]
        if self._stage not in rules["stages"]:
            reason = "this identifier system is not accepted in this stage"
            yield _fault("business-rule", reason, f"{each.path}.system")
            return
        use, type = self.form_of(each.system)
        if each.use not in (use, OLD):
            yield _fault("invariant", f"the use of this identifier is {use} or {OLD}", f"{each.path}.use")
        if type not in each.types:
            yield _fault("invariant", f"the type of this identifier is {type.code}", f"{each.path}.type")
        if self._number is None:
            return
        if not self._number.is_well_formed(each.value):
            yield _fault("value", "the national identifier has not its form", f"{each.path}.value")
        elif self._stage in self._rules["checkKeyStages"] and not self._number.has_valid_key(each.value):
            yield _fault("value", "the national identifier does not match its key", f"{each.path}.value")

    def _trait_faults(self, declared: Declaration) -> Iterator[Issue]:
        """The strict traits that go with a national identifier (INS-3)."""
        traits, names = declared.traits, declared.birth_names
        if not names:
            yield _fault("required", "a national identifier needs a birth name, of use official", "Patient.name")
        if len(names) > 1:
            yield _fault("invariant", "there is one birth name", f"{names[1].path}.use")
        for name in names[:1]:
            if not name.family:
                yield _fault("required", "a national identifier needs a birth name", f"{name.path}.family")
            if len(name.given) != 1:
                yield _fault("required", "the birth name has one given name, the first", f"{name.path}.given")
            if not name.birth_given_names:
                reason = "a national identifier needs the list of birth given names"
                yield _fault("required", reason, f"{name.path}.extension")
        if traits.birth_date is None:
            yield _fault("required", "a national identifier needs a whole birth date", "Patient.birthDate")
        if traits.gender is None:
            yield _fault("required", "a national identifier needs a gender", "Patient.gender")
        elif traits.gender not in self._rules["genders"]:
            yield _fault("code-invalid", "a civil status has no such gender", "Patient.gender")
        if not traits.birth_place:
            reason = "a national identifier needs the code of the birth place"
            yield _fault("required", reason, "Patient.extension")


def _fault(code: str, diagnostics: str, expression: str) -> Issue:
    return Issue(code=code, diagnostics=diagnostics, expression=expression)


@cache
def load_scheme(country: str, stage: str) -> IdentityScheme:
    """The scheme of a country by its code (`fr`); raises FileNotFoundError for one without a data file."""
    return IdentityScheme(json.loads((_DATA / f"identity_{country}.json").read_text("utf-8")), stage)


@cache
def national_systems() -> frozenset[str]:
    """The systems of national identifiers, of every country that the exchange knows."""
    schemes = [json.loads(each.read_text("utf-8")) for each in _DATA.iterdir() if each.name.startswith("identity_")]
    return frozenset(system for scheme in schemes for system in scheme["nationalIdentifiers"])


def french_identity(stage: str) -> IdentityScheme:
    return load_scheme("fr", stage)


# --- the number of the French register (NIR), also of those who wait for one (NIA) ----------------------------------

_NIR = re.compile(r"[1-8][0-9]{4}([0-9]{2}|2[AB])[0-9]{8}")
_SEXES: Final = {"1": "male", "3": "male", "7": "male", "2": "female", "4": "female", "8": "female"}


def is_nir(value: str) -> bool:
    """Whether it has the form: sex, year, month, place of birth (2A and 2B in Corsica), order, and two key digits."""
    return _NIR.fullmatch(value) is not None


def has_valid_nir_key(value: str) -> bool:
    """Whether 13 characters and 2 key digits agree: key = 97 - (number mod 97), Corsica's 2A as 19 and 2B as 18."""
    return is_nir(value) and nir_key(value[:13]) == value[13:]


def nir_key(number: str) -> str:
    """The two key digits of a number of 13 characters; raises ValueError for what is no number."""
    corsica = {"2A": "19", "2B": "18"}.get(number[5:7], number[5:7])
    return f"{97 - int(number[:5] + corsica + number[7:]) % 97:02d}"


def _unlike_nir(value: str, traits: Traits) -> tuple[str, ...]:
    """A month above 12 tells that the register did not know it; only male and female are compared with the number."""
    born = traits.birth_date
    sex, month = _SEXES.get(value[0]), value[3:5]
    is_other_sex = traits.gender in ("male", "female") and sex is not None and sex != traits.gender
    is_other_date = born is not None and (
        value[1:3] != f"{born:%y}" or ("01" <= month <= "12" and month != f"{born:%m}")
    )
    return (*(["gender"] if is_other_sex else []), *(["birth date"] if is_other_date else []))


_NUMBERS: Final = {"nir": NationalNumber(is_nir, has_valid_nir_key, _unlike_nir)}  # by the name that data files have


# --- comparing ------------------------------------------------------------------------------------------------------


def differences(a: Traits, b: Traits) -> tuple[str, ...]:
    """The strict traits in which two identities differ, as the national service compares them, in a fixed order.

    The first given name of one is among those of the other: few know their whole list. A birth place that one of them
    does not tell is no difference.
    """
    return tuple(name for name, is_same in _AGREEMENTS.items() if not is_same(a, b))


def same_strict_traits(a: Traits, b: Traits) -> bool:
    return not differences(a, b)


def changed_strict_traits(before: Traits, after: Traits) -> tuple[str, ...]:
    """The strict traits that a revision changes: the whole list of birth given names counts, its spelling does not.

    Expects traits of birth names alone.
    """
    found = list(differences(before, after))
    lists = [[normalised(name) for name in each.given_names] for each in (before, after)]
    if "given-names" not in found and lists[0] != lists[1]:
        found.append("given-names")
    return tuple(found)


def _same_birth_name(a: Traits, b: Traits) -> bool:
    one, other = ([normalised(name) for name in each.family_names[:1]] for each in (a, b))
    return one == other and bool(one)


def _share_given_name(a: Traits, b: Traits) -> bool:
    one, other = ([normalised(name) for name in each.given_names] for each in (a, b))
    return bool(one and other) and (one[0] in other or other[0] in one)


_AGREEMENTS: Final[Mapping[str, Callable[[Traits, Traits], bool]]] = {
    "birth-name": _same_birth_name,
    "given-names": _share_given_name,
    "gender": lambda a, b: a.gender == b.gender,
    "birth-date": lambda a, b: a.birth_date == b.birth_date,
    "birth-place": lambda a, b: not (a.birth_place and b.birth_place) or a.birth_place == b.birth_place,
}


_GIVEN_NAMES: Final = 10  # that are compared beside the first, each with each


def match_record(traits: Traits) -> MatchRecord:
    """Traits as they are compared (data model, 1.2): normalised, without what is typed when nothing is known."""
    family, *other_families = [known("family", normalised(name)) for name in traits.family_names] or [""]
    given, *others = [known("given", normalised(name)) for name in traits.given_names] or [""]
    address = max(traits.addresses, key=lambda each: (bool(each.postcode), bool(each.line)), default=None)
    number, street = split_street(address.line) if address else ("", "")
    national = traits.qualified_identifier
    born = traits.birth_date
    return MatchRecord(
        family=family,
        used=next((name for name in other_families if name and name != family), ""),
        given=given,
        others=tuple(dict.fromkeys(name for name in others if name and name != given))[:_GIVEN_NAMES],
        birth_date=known("birth_date", born.isoformat().replace("-", "")) if born else "",
        sex={"male": "m", "female": "f"}.get(traits.gender or "", ""),
        birth_place=known("birth_place", traits.birth_place.strip().upper()),
        postcode=known("postcode", "".join(filter(str.isalnum, address.postcode)).upper()) if address else "",
        city=known("city", _city(address.city)) if address else "",
        street=known("street", street),
        number=number,
        phone=_phone(traits),
        email=next((email for each in traits.emails if (email := known("email", each.strip().casefold()))), ""),
        national="|".join(national) if national else "",
    )


def _phone(traits: Traits) -> str:
    digits = ("".join(filter(str.isdigit, each))[-9:] for each in traits.phones)
    return next((each for each in digits if known("phone", each)), "")


_NUMBERED = re.compile(r"(?P<number>[0-9]{1,4})(?: ?(?P<suffix>bis|ter|quater|[a-d](?= [a-z]{2})))? (?P<street>.+)")
_AFTER_NUMBER = re.compile(r"^(\s*[0-9]+(?:\s*(?:bis|ter|quater|[a-d]))?)\s*,", re.IGNORECASE)
_POST_OFFICE = re.compile(r" cedex( [0-9]+)?$")


def split_street(line: str) -> tuple[str, str]:
    """`12 bis, av. Jean-Jaurès` as (`12 bis`, `avenue jean jaures`); flat, floor and building are left out.

    `line` may hold several lines of an address, with line feeds between them.
    """
    # Commas separate like line feeds, but for the one that some write after the number.
    lines = [part for each in line.split("\n") for part in _AFTER_NUMBER.sub(r"\1 ", each).split(",")]
    parts = [found for each in lines if (found := normalised(each))]
    for part in parts:
        if match := _NUMBERED.fullmatch(part):
            return " ".join(filter(None, (match["number"], match["suffix"]))), _street(match["street"])
    streets = [_street(part) for part in parts]
    named = (each for each in streets if each.partition(" ")[0] in _addresses()["ways"].values())
    return "", next(named, streets[0] if streets else "")


def _street(text: str) -> str:
    """With the abbreviations of addresses written out: that of the way at the beginning, those of titles anywhere."""
    way, _, name = text.partition(" ")
    return " ".join(filter(None, (_addresses()["ways"].get(way, _in_full(way)), _in_full(name))))


def _in_full(text: str) -> str:
    words = _addresses()["words"]
    return " ".join(words.get(word, word) for word in text.split())


def _city(name: str) -> str:
    return _POST_OFFICE.sub("", _in_full(normalised(name)))


@cache
def _addresses() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((_DATA / "addresses_fr.json").read_text("utf-8"))
    return found
