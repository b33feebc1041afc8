"""Whether the patient index holds together, by the items of its tables, as Python values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from passerelle.aws.patients import person_from_item
from passerelle.patients.model import Person

Items = Sequence[dict[str, Any]]


def check_index(patients: Items, clinical: Items) -> None:
    """Every record is of one person, whose copies agree; a national identifier names one person, and the right one.

    The slots of blocks are those that records know of; each review is once in the worklist, and with both records.
    """
    stored = people(patients)
    copies = {item["PK"].removeprefix("P#"): person_from_item(item) for item in clinical if item["SK"] == "c#PERSON"}
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
    _check_reviews(patients)


def _check_reviews(patients: Items) -> None:
    listed = {item["id"]: item for item in patients if item["PK"] == "W"}
    assert len(listed) == sum(item["PK"] == "W" for item in patients)
    beside = [item for item in patients if item["PK"].startswith("Q#")]
    assert {item["id"] for item in beside} == listed.keys()
    for item in beside:
        assert {item["PK"].removeprefix("Q#"), item["SK"]} == {item["first"], item["second"]}
        assert _content(item) == _content(listed[item["id"]])
        assert listed[item["id"]]["SK"] == f"{item['status']}#{item['id']}"


def _content(item: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if name not in ("PK", "SK")}


def people(patients: Items) -> dict[str, Person]:
    """By person key, those without records among them."""
    return {item["PK"].removeprefix("L#"): person_from_item(item) for item in patients if item["PK"].startswith("L#")}
