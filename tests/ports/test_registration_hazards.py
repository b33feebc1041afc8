"""What could mix two people up, or lose one: orders of events, names of one's own, sources that feed without end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from local.region import ins_of
from passerelle import wiring
from passerelle.errors import Conflict, NotFound, Stale, TooLarge, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.patients.model import ReviewStatus
from tests import record, registered, sources
from tests.sources import STEWARD, Source, person, reviews

A, B, C, D = Source(1), Source(2), Source(3), Source(4)
WHY = "seen at the desk"
STRANGER: dict[str, Any] = {"family": "NGUYEN", "given": "Lan", "born": "1990-10-10", "place": "99243"}
OTHER: dict[str, Any] = {"family": "BENALI", "given": "Karim", "born": "1986-12-30", "gender": "male"}


@pytest.fixture(scope="module")
def _services() -> Iterator[None]:
    with record.services():
        yield


@pytest.fixture(autouse=True)
def _index(_services: None) -> None:
    for table in ("patients", "clinical", "operations", "audit"):
        registered.empty(table)
    for source in (A, B, C):
        sources.join(source.caller)


def own(*values: str, domain: str = A.domain) -> dict[str, Any]:
    return {"identifier": [{"system": domain, "value": each} for each in values]}


def stored(key: str) -> Any:
    found = wiring.patient_store().find(key)
    assert found is not None
    return found


def steward() -> Any:
    return sources.request(STEWARD, name="$link")


def removed(source: Source, local: str) -> None:
    wiring.patient_service().remove(sources.request(source.caller), (source.domain, local))


# --- a record that carries several identifiers of its domain ---------------------------------------------------------


def test_a_revision_by_id_is_of_that_record_whichever_identifier_comes_first() -> None:
    """After a merge the survivor carries the identifier of the other one too."""
    kept, other = A.register("1"), A.register("2", **STRANGER)
    A.register("1", **own("2", "1"))
    service = wiring.patient_service()
    draft = sources.draft(A.domain, "1", **own("2", "1"), gender="unknown")
    done, _ = service.update(sources.request(A.caller), kept, draft, if_match=None)
    assert (done.patient, done.version) == (kept, 3)
    assert stored(other).traits.family_names == ("NGUYEN",)


def test_a_revision_by_id_makes_no_new_record() -> None:
    kept = A.register("1", **own("9", "1"))
    draft = sources.draft(A.domain, "1", **own("9", "1"), gender="unknown")
    done, _ = wiring.patient_service().update(sources.request(A.caller), kept, draft, if_match=None)
    assert (done.patient, done.is_new) == (kept, False)


def test_104_2_whoever_carries_the_identifier_of_the_condition_is_revised() -> None:
    kept = A.register("1", **own("1", "9"))
    assert A.register("9", **own("9", "1"), gender="unknown") == kept
    assert stored(kept).version == 2


def test_104_2_two_matches() -> None:
    first, second = A.register("1", **own("1", "9")), A.register("2", **STRANGER, **own("2", "9"))
    with pytest.raises(Stale) as refused:
        A.register("9", **OTHER)
    assert refused.value.issues[0].code == "multiple-matches"
    assert [stored(key).version for key in (first, second)] == [1, 1]


def test_an_identifier_that_a_stranger_took_before_its_domain_existed_is_nobody_s_condition() -> None:
    squatter = B.register(
        "1", identifier=[*own("1", domain=B.domain)["identifier"], *own("7", domain=D.domain)["identifier"]]
    )
    sources.join(D.caller)
    assert D.register("7", **STRANGER) != squatter
    assert stored(squatter).version == 1


# --- merges ----------------------------------------------------------------------------------------------------------


def test_a_record_leaves_with_all_that_it_replaced() -> None:
    """1 was replaced by 2, and 2 by 3: they stay one person when a steward takes 3 out of another person."""
    first, second, third = A.register("1"), A.register("2", **STRANGER), A.register("3", **OTHER)
    elsewhere = B.register("4", family="ROUX", given="Zoé", born="2001-01-01", place="13055")
    A.register("1", replaced_by="2")
    A.register("2", **STRANGER, replaced_by="3")
    wiring.steward_service().link(steward(), third, elsewhere, reason=WHY)
    wiring.steward_service().unlink(steward(), third, reason=WHY)
    assert person(elsewhere).members == (elsewhere,)
    assert person(third).members == tuple(sorted([first, second, third]))


def test_a_survivor_is_named_once() -> None:
    """Reference and identifier of the survivor tell two different records."""
    A.register("1")
    second, _ = A.register("2", **STRANGER), A.register("3", **OTHER)
    other = {"reference": f"Patient/{second}", "identifier": {"system": A.domain, "value": "3"}}
    with pytest.raises(Unprocessable):
        A.register("1", active=False, link=[{"other": other, "type": "replaced-by"}])


def test_a_national_identifier_is_no_domain_to_merge_in() -> None:
    first, second = A.register("1", ins=ins_of(1)), B.register("2", ins=ins_of(1))
    with pytest.raises(Unprocessable):
        wiring.steward_service().merge(steward(), first, second, reason=WHY)


def test_the_survivor_of_a_merge_is_named_by_an_identifier_that_is_its_own() -> None:
    first, second = A.register("1"), A.register("2", **STRANGER, **own("1", "2"))
    wiring.steward_service().merge(steward(), first, second, reason=WHY)
    (link,) = fhir_json.loads(stored(first).body)["link"]
    assert link["other"]["identifier"]["value"] == "2"
    A.register("1", active=False, link=[link])  # what is stored can be sent again


def test_a_stranger_is_no_survivor() -> None:
    A.register("1")
    foreign = B.register("2", **STRANGER)
    for other in ({"reference": f"Patient/{foreign}"}, {"identifier": {"system": B.domain, "value": "2"}}):
        with pytest.raises(Unprocessable) as refused:
            A.register("1", active=False, link=[{"other": other, "type": "replaced-by"}])
        assert refused.value.issues[0].code == "not-found"


# --- one national identifier, one person ------------------------------------------------------------------------------


def qualified_people(number: int = 1) -> set[str]:
    """The keys of the persons that are qualified with a national identifier, by what each record says."""
    blinded = wiring.patient_index().blinded(("urn:oid:1.2.250.1.213.1.4.10", ins_of(number)))
    keys = {item["PK"].removeprefix("P#") for item in record.items() if item["SK"] == "c#PERSON"}
    return {person(key).key for key in keys if person(key).qualified == blinded}


def test_an_unlink_leaves_one_person_for_a_national_identifier() -> None:
    """The record that goes takes one along that it replaced, and that carries the others' national identifier."""
    A.register("1", ins=ins_of(1))
    kept = A.register("2", **STRANGER)
    A.register("1", ins=ins_of(1), replaced_by="2")
    B.register("9", ins=ins_of(1))
    with pytest.raises(Conflict):
        wiring.steward_service().unlink(steward(), kept, reason=WHY)
    assert len(qualified_people()) == 1


def test_a_corrected_record_leaves_one_person_for_a_national_identifier() -> None:
    A.register("2", ins=ins_of(1))
    A.register("1", ins=ins_of(1), replaced_by="2")
    for local in "789":
        B.register(local, ins=ins_of(1))
    A.register("2", ins=ins_of(1), born="1971-03-09")  # no longer qualified
    assert len(qualified_people()) == 1


def test_a_replaced_record_that_is_corrected_leaves_whom_it_was_linked_to() -> None:
    first = A.register("1", ins=ins_of(1))
    kept = A.register("2", **STRANGER)
    elsewhere = B.register("9", ins=ins_of(1))
    A.register("1", ins=ins_of(1), replaced_by="2")
    A.register("1", ins=ins_of(1), born="1971-03-09", replaced_by="2")
    assert person(elsewhere).members == (elsewhere,)
    assert person(first).members == tuple(sorted([first, kept]))


def test_a_record_may_be_replaced_and_get_another_identifier_at_once() -> None:
    kept = A.register("2", **STRANGER)
    elsewhere = B.register("9", ins=ins_of(1))
    first = A.register("3", **OTHER, ins=ins_of(1), replaced_by="2")
    assert person(first).members == tuple(sorted([first, kept, elsewhere]))
    with pytest.raises(Conflict):
        A.register("4", **OTHER, ins=ins_of(2), replaced_by="2")


def test_an_identity_is_qualified_corrected_and_qualified_again() -> None:
    elise: dict[str, Any] = {"family": "DUPONT", "given": "Elise", "born": "1955-06-14", "place": "00001"}
    key, other = A.register("1", **elise, ins=ins_of(1)), B.register("2", **elise, ins=ins_of(1))
    A.register("1", **{**elise, "born": "1961-02-20"}, ins=ins_of(1))
    assert person(key).members == (key,)
    A.register("1", **elise)
    again, _ = wiring.patient_service().qualify(sources.request(A.caller), key)
    assert (again.patient, again.version) == (key, 4)
    assert person(key).members == tuple(sorted([key, other]))
    assert len(qualified_people()) == 1


def test_whom_a_steward_told_apart_the_national_identifier_joins() -> None:
    first, second = A.register("1", ins=ins_of(1)), B.register("2", **STRANGER)
    wiring.steward_service().link(steward(), first, second, reason=WHY)
    wiring.steward_service().unlink(steward(), second, reason=WHY)
    removed(B, "2")
    third = B.register("2", ins=ins_of(1))
    assert third != second
    assert person(third).members == tuple(sorted([first, third]))


def test_an_identifier_that_was_freed_names_a_new_record() -> None:
    """The one that was removed is nobody's candidate, and its person keeps what was published under it."""
    gone, other = A.register("1"), B.register("2")
    removed(A, "1")
    again = A.register("1", **STRANGER)
    assert person(again).members == (again,)
    assert person(gone).members == tuple(sorted([gone, other]))
    back = A.register("3")
    assert person(back).members == tuple(sorted([gone, other, back]))


def test_a_survivor_that_is_replaced_or_removed_later() -> None:
    first, second = A.register("1"), A.register("2", **STRANGER)
    third = A.register("3", **OTHER)
    A.register("1", replaced_by="2")
    A.register("2", **STRANGER, replaced_by="3")

    def known() -> tuple[str, ...]:
        asked = sources.request(A.caller)
        return (
            wiring.patient_service()
            .cross_reference(asked, identifier=(A.domain, "3"), patient=None, systems=())
            .patients
        )

    assert known() == (third,)
    assert person(first).members == tuple(sorted([first, second, third]))
    removed(A, "3")
    assert person(first).members == tuple(sorted([first, second, third]))
    with pytest.raises(NotFound):
        known()
    wiring.steward_service().unmerge(steward(), second, reason=WHY)
    assert person(second).members == tuple(sorted([first, second]))


# --- cautions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caution", ["DOUT", "FICT", "HOMD"])
def test_a_doubt_that_comes_after_the_link_is_a_steward_s_question(caution: str) -> None:
    """The same doubt before it would have kept the score from linking."""
    first, second = A.register("1", status="PROV"), B.register("2")
    assert person(first) == person(second)
    A.register("1", extension=doubtful(caution))
    (review,) = reviews(first)
    assert (review.cause, review.status, review.other(first)) == ("contradiction", ReviewStatus.OPEN, second)
    A.register("1", extension=doubtful(caution), gender="unknown")
    assert len(reviews(first)) == 1


# --- blocks -----------------------------------------------------------------------------------------------------------


def test_who_is_fed_again_and_again_hides_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("passerelle.aws.patients.BLOCK_LIMIT", 10)
    known = A.register("1")
    for number in range(15):
        C.register("9", ins=None, telecom=[{"system": "phone", "value": f"06112233{number:02}"}], extension=doubtful())
    joined = B.register("2")
    assert known in person(joined).members or known in {each.other(joined) for each in reviews(joined)}


def doubtful(caution: str = "DOUT") -> list[Any]:
    made = sources.patient(A.domain, "1", status="PROV")["extension"]
    made[0]["extension"].append({"url": "comment", "valueCoding": {"system": "x", "code": caution}})
    return list(made)


# --- sizes ------------------------------------------------------------------------------------------------------------


LONG = "x" * 600_000


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(own("1", *(str(n) for n in range(2, 100))), id="many-identifiers"),
        pytest.param(own("1", LONG), id="a-long-identifier"),
        pytest.param({"name": [{"family": f"N{n}"} for n in range(10_000)]}, id="many-names"),
        pytest.param({"name": [{"family": "MOREL", "given": [f"G{n}" for n in range(10_000)]}]}, id="many-given-names"),
        pytest.param({"name": [{"family": LONG, "given": [LONG]}]}, id="long-names"),
        pytest.param({"telecom": [{"system": "phone", "value": str(n)} for n in range(5_000)]}, id="many-phones"),
        pytest.param({"address": [{"city": LONG, "line": [LONG], "postalCode": LONG}]}, id="a-long-address"),
    ],
)
def test_more_than_anybody_is_known_by_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(TooLarge):
        A.register("1", **content)
    assert not record.items("patients")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(own("1", *(str(n) for n in range(100, 140))), id="40-identifiers"),
        pytest.param({"name": [{"family": f"Nom{chr(n)}", "given": [chr(n)]} for n in range(100, 140)]}, id="40-names"),
        pytest.param({"name": [{"family": "---", "given": ["''"]}]}, id="punctuation"),
        pytest.param({"name": [{"family": "X", "given": ["Y"]}]}, id="one-letter"),
        pytest.param({"name": [{"family": "\u0000\u202e\ufeff", "given": ["\U0001f600"]}]}, id="control-characters"),
        pytest.param({"name": [{"family": "INCONNU", "given": ["X"]}], "birthDate": "1900-01-01"}, id="placeholders"),
        pytest.param({"birthDate": "9999-12-31"}, id="9999"),
        pytest.param({"birthDate": "0001-01-01"}, id="0001"),
    ],
)
def test_whatever_else_is_sent_is_stored_and_found(content: dict[str, Any]) -> None:
    B.register("2")
    key = A.register("1", **content)
    for more in ({"active": False}, {"gender": "male"}, STRANGER):
        assert A.register("1", **{**content, **more}) == key
    assert wiring.patient_index().find_by_identifier(A.domain, "1") == [key]
