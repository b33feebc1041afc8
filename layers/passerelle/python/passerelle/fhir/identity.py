"""Where a Patient says who someone is, read and written by the rules of a country (FHIR R4, FR Core 2.2.0).

Forms of earlier and later versions of the guide are read as well: published examples have them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from passerelle.errors import Coding, TooLarge
from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import instant
from passerelle.identifiers import PATIENT_KEY
from passerelle.matching.names import normalised
from passerelle.patients.identity import (
    OFFICIAL,
    OLD,
    Declaration,
    DeclaredCode,
    DeclaredIdentifier,
    DeclaredName,
    IdentityScheme,
    national_systems,
)
from passerelle.patients.model import Address, Identifier, Survivor, Traits

Content = Mapping[str, Any]

REPLACED_BY = "replaced-by"
MAX_REPEATS = 50  # of identifiers, of names, of telecoms, of addresses
MAX_BYTES = 16_000  # of all names, all identifiers, ... in JSON
_LAST_UPDATED = "lastUpdated"
_REFERENCE = re.compile(rf"(?:(?P<base>https?://\S+)/)?Patient/(?P<key>{PATIENT_KEY.pattern})(?:/_history/\S+)?")


def check_size(content: Content) -> None:
    """Raise TooLarge for more than anybody is known by: names are compared each with each, identifiers kept often."""
    for element in ("identifier", "name", "telecom", "address"):
        listed = content.get(element, [])
        if len(listed) > MAX_REPEATS:
            raise TooLarge(f"a Patient may have {MAX_REPEATS}", expression=f"Patient.{element}")
        if len(fhir_json.dumps(listed)) > MAX_BYTES:
            raise TooLarge(f"these may have {MAX_BYTES} bytes together", expression=f"Patient.{element}")


def traits_of(content: Content, scheme: IdentityScheme, *, base_url: str = "") -> Traits:
    """What identifies the person, as the resource declares it; raises Unprocessable for an unknown status.

    With `base_url`, an absolute reference to another server names no survivor; without, the exchange wrote it.
    """
    return declaration_of(content, scheme, base_url=base_url).traits


def strict_traits_of(content: Content, scheme: IdentityScheme) -> Traits:
    """The strict traits (RNIV) alone: birth name, birth given names, birth date, gender and birth place."""
    birth = _birth_name(content)
    born = content.get("birthDate", "")
    return Traits(
        identifiers=(),
        family_names=(birth["family"],) if "family" in birth else (),
        given_names=_birth_given_names(birth, scheme),
        birth_date=date.fromisoformat(born) if len(born) == 10 else None,
        gender=content.get("gender"),
        birth_place=_birth_place(content, scheme),
    )


def declaration_of(content: Content, scheme: IdentityScheme, *, base_url: str = "") -> Declaration:
    """What the resource says of the identity, with the FHIRPath of each part: what the scheme's rules are about."""
    strict = strict_traits_of(content, scheme)
    birth = _birth_name(content)
    names = [birth, *sorted((each for each in _names(content) if each is not birth), key=_is_former)]
    identifiers = tuple(_identifiers(content))
    in_use = [(each.system, each.value) for each in identifiers if each.use != OLD and each.system and each.value]
    statuses = tuple(_statuses(content, scheme))
    status = scheme.status_of(statuses)
    comments = tuple(_comments(content, scheme))
    links = [link["other"] for link in content.get("link", []) if link.get("type") == REPLACED_BY]
    return Declaration(
        traits=Traits(
            identifiers=tuple(dict.fromkeys(in_use)),
            family_names=_distinct([*strict.family_names, *(name.get("family", "") for name in names)]),
            given_names=_distinct([*strict.given_names, *(given for name in names for given in _given(name))]),
            birth_date=strict.birth_date,
            gender=strict.gender,
            birth_place=strict.birth_place,
            addresses=tuple(_addresses(content)),
            phones=tuple(_telecoms(content, "phone", "sms")),
            emails=tuple(_telecoms(content, "email")),
            status=status,
            national=next((each for each in in_use if each[0] in scheme.systems), None),
            is_qualified=status == scheme.reliability["qualified"],
            cautions=scheme.cautions_of(comments),
            is_active=content.get("active", True),
            replaced_by=_survivor(links[0], base_url) if links else None,
        ),
        identifiers=identifiers,
        birth_names=tuple(_official_names(content, scheme)),
        comments=comments,
        status_path=statuses[0].path if statuses else "Patient.extension",
    )


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Each name once, as it is spelt first."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(normalised(name), name)
    return tuple(name for key, name in found.items() if key)


def _names(content: Content) -> list[dict[str, Any]]:
    return [name for name in content.get("name", []) if name.get("use") != "anonymous"]


def _is_former(name: Mapping[str, Any]) -> bool:
    return name.get("use") in (OLD, "temp")


def _birth_name(content: Content) -> dict[str, Any]:
    """In France the official name is the birth name; others say `maiden`, or do not say."""
    names = _names(content)
    for use in (OFFICIAL, "maiden", None):
        if found := next((name for name in names if name.get("use") == use and "family" in name), None):
            return found
    return next((name for name in names if "family" in name), names[0] if names else {})


def _given(name: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(given for given in name.get("given", []) if given)


def _birth_given_names(name: Mapping[str, Any], scheme: IdentityScheme) -> tuple[str, ...]:
    """The first given name, then the rest of the list; compound ones whole: of `Anne Sophie Marie` two, if the name is
    `Anne-Sophie`."""
    given = _given(name)
    words = _extension(name, scheme.birth_given_names).get("valueString", "").replace(",", " ").split()
    if not words:
        return given
    compounds = [normalised(each) for each in given]
    listed = []
    while words:
        length = max((_words_of(each, words) for each in compounds), default=0) or 1
        listed.append(" ".join(words[:length]))
        words = words[length:]
    return _distinct([*given[:1], *listed])


def _words_of(name: str, words: Sequence[str]) -> int:
    """How many of the first words make this normalised name; 0 if they do not."""
    lengths = range(1, len(name.split()) + 1)
    return next((n for n in lengths if normalised(" ".join(words[:n])) == name), 0)


def _extension(element: Mapping[str, Any], url: str) -> dict[str, Any]:
    return next((each for each in element.get("extension", []) if each.get("url") == url), {})


def _official_names(content: Content, scheme: IdentityScheme) -> Iterator[DeclaredName]:
    for position, name in enumerate(content.get("name", [])):
        if name.get("use") == OFFICIAL:
            yield DeclaredName(
                path=f"Patient.name[{position}]",
                family=name.get("family", ""),
                given=_given(name),
                birth_given_names=_extension(name, scheme.birth_given_names).get("valueString", ""),
            )


def _identifiers(content: Content) -> Iterator[DeclaredIdentifier]:
    for position, each in enumerate(content.get("identifier", [])):
        codings = each.get("type", {}).get("coding", [])
        yield DeclaredIdentifier(
            path=f"Patient.identifier[{position}]",
            system=each.get("system", ""),
            value=each.get("value", ""),
            use=each.get("use", ""),
            types=frozenset(Coding(system=c.get("system", ""), code=c.get("code", "")) for c in codings),
        )


def _statuses(content: Content, scheme: IdentityScheme) -> Iterator[DeclaredCode]:
    rules = scheme.reliability
    for form in (rules, rules["former"]):
        yield from _codes(content, form["extension"], form["part"])


def _comments(content: Content, scheme: IdentityScheme) -> Iterator[DeclaredCode]:
    yield from _codes(content, scheme.reliability["extension"], scheme.reliability["comment"])


def _codes(content: Content, url: str, part: str) -> Iterator[DeclaredCode]:
    """The codes in a part of an extension, which guides have as Coding and as CodeableConcept."""
    for position, extension in enumerate(content.get("extension", [])):
        if extension.get("url") != url:
            continue
        for place, each in enumerate(extension.get("extension", [])):
            if each.get("url") != part:
                continue
            for coding in each.get("valueCodeableConcept", {}).get("coding", [each.get("valueCoding", {})]):
                yield DeclaredCode(
                    path=f"Patient.extension[{position}].extension[{place}].value",
                    system=coding.get("system", ""),
                    code=coding.get("code", ""),
                )


def _birth_place(content: Content, scheme: IdentityScheme) -> str:
    rules = scheme.birth_place
    place = _extension(content, rules["extension"]).get("valueAddress", {})
    coded = _extension(place, rules["code"]).get("valueCoding", {}).get("code")
    former = place.get(rules["formerElement"], "")
    return str(coded or (former if re.fullmatch(rules["form"], former) else ""))


def _addresses(content: Content) -> Iterator[Address]:
    """Where the person lives comes first."""
    listed = [each for each in content.get("address", []) if each.get("use") not in (OLD, "billing")]
    for each in sorted(listed, key=lambda address: address.get("use") != "home"):
        lines = [line for line in each.get("line", []) if line]
        yield Address(line="\n".join(lines), city=each.get("city", ""), postcode=each.get("postalCode", ""))


def _telecoms(content: Content, *systems: str) -> Iterator[str]:
    """The most personal first: a mobile telephone, then one at home, at work last."""
    listed = [each for each in content.get("telecom", []) if each.get("system") in systems and each.get("use") != OLD]
    order = ("mobile", "home", None, "temp", "work")
    for each in sorted(listed, key=lambda telecom: order.index(telecom.get("use"))):
        if value := each.get("value"):
            yield str(value)


def _survivor(other: Mapping[str, Any], base_url: str) -> Survivor | None:
    """Whom a reference to the surviving record names; None if in no way that the exchange knows."""
    match = _REFERENCE.fullmatch(other.get("reference", ""))
    is_ours = match is not None and (not match["base"] or not base_url or match["base"] == base_url)
    named = other.get("identifier", {})
    found = Survivor(
        identifier=(named["system"], named["value"]) if "system" in named and "value" in named else None,
        patient=match["key"] if match and is_ours else None,
    )
    return None if found == Survivor() else found


# --- writing --------------------------------------------------------------------------------------------------------


def with_status(content: Content, status: str, scheme: IdentityScheme) -> dict[str, Any]:
    """With another status of the identity, and whatever else was said of its reliability."""
    rules = scheme.reliability
    parts = [
        part
        for each in content.get("extension", [])
        if each.get("url") == rules["extension"]
        for part in each.get("extension", [])
        if part.get("url") != rules["part"]
    ]
    stated = {"url": rules["part"], "valueCoding": {"system": rules["codeSystem"], "code": status}}
    reliability = {"url": rules["extension"], "extension": [stated, *parts]}
    replaced = (rules["extension"], rules["former"]["extension"])
    others = [each for each in content.get("extension", []) if each.get("url") not in replaced]
    return {**content, "extension": [reliability, *others]}


def still_qualified(content: Content, before: Content, national: Identifier, scheme: IdentityScheme) -> dict[str, Any]:
    """With the qualification of the version before: its status, its time and its national identifier.

    A birth place that is not told stays: nobody is qualified without (INS-3).
    """
    rules = scheme.reliability
    born = scheme.birth_place["extension"]
    if not _extension(content, born):
        content = {**content, "extension": [*content.get("extension", ()), _extension(before, born)]}
    known = _extension(before, rules["extension"]).get("extension", [])
    stated = with_status(with_national(content, national, scheme), str(rules["qualified"]), scheme)
    reliability, *others = stated["extension"]
    parts = [*(each for each in known if each.get("url") == _LAST_UPDATED), *reliability["extension"]]
    return {**stated, "extension": [{**reliability, "extension": parts}, *others]}


def dated(content: Content, at: datetime, scheme: IdentityScheme) -> dict[str, Any]:
    """With the time at which the exchange stated the reliability of the identity."""
    extensions = []
    for each in content["extension"]:
        if each.get("url") == scheme.reliability["extension"]:
            parts = [part for part in each["extension"] if part.get("url") != _LAST_UPDATED]
            each = {**each, "extension": [{"url": _LAST_UPDATED, "valueDateTime": instant(at)}, *parts]}
        extensions.append(each)
    return {**content, "extension": extensions}


def without_national(content: Content, scheme: IdentityScheme) -> dict[str, Any]:
    """With the national identifiers set aside: kept, and no longer in use."""
    identifiers = [
        {**each, "use": OLD} if each.get("system") in scheme.systems else each for each in content.get("identifier", [])
    ]
    return {**content, "identifier": identifiers} if identifiers else dict(content)


def with_national(content: Content, identifier: Identifier, scheme: IdentityScheme) -> dict[str, Any]:
    """With this national identifier in use, and others set aside."""
    use, type = scheme.form_of(identifier[0])
    added = {
        "use": use,
        "type": {"coding": [{"system": type.system, "code": type.code}]},
        "system": identifier[0],
        "value": identifier[1],
    }
    others = [
        each
        for each in without_national(content, scheme).get("identifier", [])
        if (each.get("system"), each.get("value")) != identifier
    ]
    return {**content, "identifier": [added, *others]}


def with_strict_traits(content: Content, traits: Traits, scheme: IdentityScheme) -> dict[str, Any]:
    """With the birth name and the birth place as the national service has them; used names stay."""
    birth = _birth_name(content)
    official = {
        "extension": [{"url": scheme.birth_given_names, "valueString": " ".join(traits.given_names)}],
        "use": OFFICIAL,
        "family": traits.family_names[0],
        "given": list(traits.given_names[:1]),
    }
    used = [each for each in content.get("name", []) if each is not birth or each.get("use") in ("usual", "nickname")]
    rules = scheme.birth_place
    place = _extension(content, rules["extension"]).get("valueAddress", {})
    code = {"url": rules["code"], "valueCoding": {"system": rules["codeSystem"], "code": traits.birth_place}}
    about = [each for each in place.get("extension", []) if each.get("url") != rules["code"]]
    born = {"url": rules["extension"], "valueAddress": {**place, "extension": [code, *about]}}
    others = [each for each in content.get("extension", []) if each.get("url") != rules["extension"]]
    extensions = [*others, born] if traits.birth_place else content.get("extension", [])
    return {**content, "extension": extensions, "name": [official, *used]}


def with_survivor(content: Content, patient: str, *, identifier: Identifier | None = None) -> dict[str, Any]:
    """With a reference to the record that replaces this one, beside whatever names it already."""
    links = list(content.get("link", []))
    position = next((n for n, link in enumerate(links) if link.get("type") == REPLACED_BY), len(links))
    other = dict(links[position]["other"]) if position < len(links) else {}
    other["reference"] = f"Patient/{patient}"
    if identifier is not None:
        other["identifier"] = {**other.get("identifier", {}), "system": identifier[0], "value": identifier[1]}
    links[position : position + 1] = [{"other": other, "type": REPLACED_BY}]
    return {**content, "link": links}


def without_undisclosed(content: Content, traits: Traits) -> Content:
    """Without the national identifiers of an identity that is not qualified, and without former ones (INS-12).

    Those by which a link names another record are left out with them. The same object when there is nothing to leave
    out.
    """
    systems = national_systems()

    def is_shown(identifier: Mapping[str, Any]) -> bool:
        return identifier.get("system") not in systems or (traits.is_qualified and identifier.get("use") != OLD)

    def told(link: Mapping[str, Any]) -> Mapping[str, Any]:
        if is_shown(link["other"].get("identifier", {})):
            return link
        return {**link, "other": {name: value for name, value in link["other"].items() if name != "identifier"}}

    listed, links = content.get("identifier", []), content.get("link", [])
    shown = {"identifier": list(filter(is_shown, listed)), "link": [told(each) for each in links]}
    if shown == {"identifier": listed, "link": links}:
        return content
    shown["link"] = [each for each in shown["link"] if each["other"]]
    rest = {name: value for name, value in content.items() if name not in (*shown, "text")}  # text may repeat it
    return {**rest, **{name: value for name, value in shown.items() if value}}
