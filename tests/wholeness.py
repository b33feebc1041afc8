"""Whether the patient index, and the record, hold together, by the items of their tables, as Python values."""

from __future__ import annotations

import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from passerelle import wiring
from passerelle.aws.keys import DataKeys, unsealed_with
from passerelle.aws.patients import person_from_item
from passerelle.aws.sealing import Sealer
from passerelle.identifiers import Blinder
from passerelle.patients.model import Person

Items = Sequence[dict[str, Any]]
SEALED_IN_REVIEWS = ("seen", "decision")


@dataclass(frozen=True)
class Opening:
    """What the items of a stage are opened with."""

    keys: DataKeys
    blinder: Blinder

    @classmethod
    def here(cls) -> Opening:
        return cls(wiring.keyring(), wiring.blinder())


def check_index(patients: Items, clinical: Items, opening: Opening | None = None) -> None:
    """Every record is of one person, whose copies agree; a national identifier names one person, and the right one.

    The slots of blocks are those that records know of; each review is once in the worklist, and with both records.
    """
    opening = opening or Opening.here()
    stored = people(patients, opening)
    copies = {item["PK"].removeprefix("P#"): _person(item, opening) for item in clinical if item["SK"] == "c#PERSON"}
    assert sorted(patient for each in stored.values() for patient in each.members) == sorted(copies)
    for key, each in stored.items():
        assert each.key == key
        assert not each.records or key == min(each.records, key=lambda it: (it.since, it.patient)).origin
        assert len({member.qualified for member in each.records} - {None}) <= 1
        assert all(copies[patient] == each for patient in each.members)
        assert all({link.first, link.second} <= set(each.members) for link in each.links)
    named = {item["PK"].removeprefix("K#"): item["person"] for item in patients if item["SK"] == "P"}
    assert named == {each.qualified: each.key for each in stored.values() if each.qualified}
    held = {item["PK"].removeprefix("S#"): item["places"] for item in patients if item["SK"] == "PLACES"}
    slots = {
        (item["PK"].removeprefix("B#"), int(item["SK"])): item["patient"]
        for item in patients
        if item["PK"].startswith("B#") and "patient" in item
    }
    assert slots == {place: patient for patient, places in held.items() for place in places.items()}
    in_use = {member.patient for each in stored.values() for member in each.records if member.is_in_use}
    assert held.keys() <= in_use
    _check_reviews(patients, Sealer(opening.blinder.subkey("reviews")))


def _check_reviews(patients: Items, sealer: Sealer) -> None:
    listed = {item["id"]: item for item in patients if item["PK"] == "W"}
    assert len(listed) == sum(item["PK"] == "W" for item in patients)
    beside = [item for item in patients if item["PK"].startswith("Q#")]
    assert {item["id"] for item in beside} == listed.keys()
    for item in beside:
        assert {item["PK"].removeprefix("Q#"), item["SK"]} == {item["first"], item["second"]}
        assert _content(item, sealer) == _content(listed[item["id"]], sealer)
        assert listed[item["id"]]["SK"] == f"{item['status']}#{item['id']}"


def _content(item: dict[str, Any], sealer: Sealer) -> dict[str, Any]:
    opened = unsealed_with(sealer, item, SEALED_IN_REVIEWS)
    return {name: value for name, value in opened.items() if name not in ("PK", "SK")}


def people(patients: Items, opening: Opening | None = None) -> dict[str, Person]:
    """By person key, those without records among them."""
    opening = opening or Opening.here()
    return {item["PK"].removeprefix("L#"): _person(item, opening) for item in patients if item["PK"].startswith("L#")}


def _person(item: dict[str, Any], opening: Opening) -> Person:
    person = person_from_item(item, opening.keys)
    assert person is not None
    return person


# --- the record -----------------------------------------------------------------------------------------------------


def check_documents(clinical: Items, contents: Collection[str]) -> None:
    """Every resource of a record stands where its current version says, and nowhere else; a document has its content.

    `contents` are the keys of the vault. What an unfinished commit staged is there for nobody, and says nothing.
    """
    shown = _shown(clinical)
    resources: dict[tuple[str, str, str], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for item in shown:
        kind, _, rest = item["SK"].partition("#")
        if item["PK"].startswith("P#") and kind in _OF_A_RESOURCE:
            code, local = _OF_A_RESOURCE[kind](rest.split("#"))
            resources[item["PK"], code, local][kind].append(item)
    for (pk, code, local), items in resources.items():
        _check_resource(pk, code, local, items)
    documents = {
        f"{pk.removeprefix('P#')}-{local}": items["v"]
        for (pk, code, local), items in resources.items()
        if code == _DOCUMENT
    }
    claims = [item for item in shown if item["PK"].startswith(f"U#{_DOCUMENT}#")]
    assert Counter(item["id"] for item in claims if item["SK"] == "U") == Counter(documents.keys())
    assert {item["id"] for item in claims} == documents.keys()
    for id, versions in documents.items():
        if not _is_awaited(versions):
            assert f"documents/{id.replace('-', '/')}" in contents, "a document without its content"
    told = Counter(
        (event["reference"], event["version"])
        for item in shown
        if item["PK"].startswith("O#")
        for event in item["events"]
        if event["reference"].startswith("DocumentReference/") and "occurrence" not in event
    )
    made = [(f"DocumentReference/{id}", item["v"]) for id, versions in documents.items() for item in versions]
    assert told == Counter(made), "each version is announced once"


def documents(clinical: Items) -> int:
    """How many documents were ever published."""
    return sum(item["SK"].startswith(f"v#{_DOCUMENT}#") and item["v"] == 1 for item in _shown(clinical))


_DOCUMENT = "DOC"  # the code of its type in keys
_OF_A_RESOURCE: Mapping[str, Callable[[list[str]], tuple[str, str]]] = {
    "v": lambda parts: (parts[0], parts[1]),
    "e": lambda parts: (parts[0], parts[2]),
    "x": lambda parts: (parts[0], parts[3]),
    "h": lambda parts: (parts[1], parts[2]),
    "r": lambda parts: (parts[0], parts[1]),
}


def _shown(clinical: Items) -> list[dict[str, Any]]:
    """The items as readers see them: staged ones if their commit was made (`aws/staging.py`)."""
    committed = {item["PK"].removeprefix("X#") for item in clinical if item.get("state") == "committed"}
    shown = []
    for item in clinical:
        following = item.get("n")
        if item.get("x") in committed:
            if following != {}:
                shown.append({**item, **(following or {})})
        elif "x" not in item or following is not None:
            shown.append(item)
    return shown


def _check_resource(pk: str, code: str, local: str, items: Mapping[str, list[dict[str, Any]]]) -> None:
    versions = sorted(items["v"], key=lambda item: int(item["v"]))
    numbers = [item["v"] for item in versions]
    assert numbers == list(range(1, len(numbers) + 1)), (pk, code, local)
    assert sorted(item["v"] for item in items["h"]) == numbers, "each version is in the history once"
    current = versions[-1]
    placement = current.get("p")
    places = set()
    if placement is not None:
        place = f"{placement['s']}#{local}"
        places = {f"e#{code}#{place}", *(f"x#{code}#{each}#{place}" for each in placement.get("r", ()))}
    placed = [*items["e"], *items["x"]]
    assert {item["SK"] for item in placed} == places, (pk, code, local)
    restricted = [(item["labels"], item.get("o")) for item in items["r"]]
    assert restricted == ([(current["labels"], current.get("o"))] if "labels" in current else [])
    assert {item["v"] for item in (*placed, *items["r"])} <= {current["v"]}


def _is_awaited(versions: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the metadata came first, and the content did not come yet."""
    bodies = [json.loads(zlib.decompress(item["b"])) for item in versions if "b" in item]
    return any(body["content"][0]["attachment"].get("size") == 0 for body in bodies)
