"""Commands on the record over the real store: conditions, versions, chosen ids, withdrawals, repetition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from passerelle import wiring
from passerelle.access import Request
from passerelle.consents.model import RecordStatus
from passerelle.errors import Gone, NotFound, PasserelleError, Stale, Unprocessable
from passerelle.fhir import json as fhir_json
from passerelle.fhir.lists import ListSuccession
from passerelle.fhir.resource import ResourceDraft
from passerelle.identifiers import new_patient_key, new_resource_id
from passerelle.patients.model import Person, PersonChange
from passerelle.records.model import Condition, Draft, ResourceKey, StoredVersion, Subject
from passerelle.records.ports import Scan
from passerelle.records.service import RecordService, Written
from tests import record
from tests.people import decided
from tests.record import AT, commit, condition, draft, observation, request, version


@pytest.fixture(scope="module", autouse=True)
def _services() -> Iterator[None]:
    with record.services():
        yield


@pytest.fixture
def service() -> RecordService:
    return wiring.record_service()


@pytest.fixture
def person() -> Person:
    return record.person(members=2)


@pytest.fixture
def patient(person: Person) -> str:
    return person.members[0]


def identified(patient: str, value: str = "1", **content: Any) -> ResourceDraft:
    return observation(patient, identifier=[{"system": "urn:i", "value": value}], **content)


def having(patient: str, value: str = "1") -> Condition:
    return condition("Observation", patient=patient, identifier=f"urn:i|{value}")


def number_of(patient: str) -> int:
    return len(wiring.record_store().entries(patient, "Observation", Scan()).entries)


def status_of(service: RecordService, written: Written) -> str:
    found = fhir_json.loads(service.read(request(), written.type, written.id).body or b"")
    return str(found["status"])


def revised(**changed: Any) -> Callable[[StoredVersion], Draft]:
    return lambda current: ResourceDraft({**fhir_json.loads(current.body or b""), **changed}, record.BASE)


# --- conditions -----------------------------------------------------------------------------------------------------


def test_a_conditional_create_creates_once(service: RecordService, patient: str) -> None:
    first = service.create(request(), identified(patient), condition=having(patient))
    assert (first.version, first.is_new, first.is_unchanged) == (1, True, False)
    again = service.create(request(), identified(patient, status="amended"), condition=having(patient))
    assert (again.key, again.version, again.is_new, again.is_unchanged) == (first.key, 1, False, True)
    assert again.body == first.body
    assert number_of(patient) == 1
    other = service.create(request(), identified(patient, "2"), condition=having(patient, "2"))
    assert other.key != first.key


def test_a_condition_sees_all_records_of_a_person(service: RecordService, person: Person) -> None:
    one, other = person.members
    first = service.create(request(), identified(one), condition=having(one))
    for asked in (one, other):
        again = service.create(request(), identified(other), condition=having(asked))
        assert (again.key, again.is_new) == (first.key, False)
    updated = service.update_where(request(), identified(other, status="amended"), having(other), if_match=1)
    assert (updated.key, updated.version) == (first.key, 2)
    assert status_of(service, updated) == "amended"
    assert number_of(other) == 0
    stranger = record.person().members[0]
    with pytest.raises(Unprocessable):
        service.create(request(), identified(one), condition=having(stranger))


def test_a_deleted_resource_meets_no_condition(service: RecordService, patient: str) -> None:
    first = service.create(request(), identified(patient), condition=having(patient))
    service.delete_where(request(), "Observation", having(patient), if_match=None)
    second = service.create(request(), identified(patient), condition=having(patient))
    assert second.is_new
    assert second.key != first.key


def test_a_condition_without_identifier(service: RecordService, patient: str) -> None:
    coded = condition("Observation", patient=patient, code="urn:x|a", status="final")
    first = service.create(request(), observation(patient), condition=coded)
    assert service.create(request(), observation(patient), condition=coded).key == first.key
    assert first.is_new
    assert number_of(patient) == 1


def test_several_matches_are_refused(service: RecordService, patient: str) -> None:
    for _ in range(2):
        service.create(request(), identified(patient))
    commands: list[Callable[[], Written]] = [
        lambda: service.create(request(), identified(patient), condition=having(patient)),
        lambda: service.update_where(request(), identified(patient), having(patient), if_match=None),
        lambda: service.patch_where(request(), "Observation", having(patient), revised(), if_match=None),
        lambda: service.delete_where(request(), "Observation", having(patient), if_match=None),
    ]
    for command in commands:
        with pytest.raises(Stale) as refused:
            command()
        assert refused.value.issues[0].code == "multiple-matches"
    assert number_of(patient) == 2


def test_a_conditional_update_creates_or_revises(service: RecordService, patient: str) -> None:
    first = service.update_where(request(), identified(patient), having(patient), if_match=None)
    assert (first.version, first.is_new) == (1, True)
    second = service.update_where(request(), identified(patient, status="amended"), having(patient), if_match=1)
    assert (second.key, second.version, second.is_new) == (first.key, 2, False)
    with pytest.raises(Stale):
        service.update_where(request(), identified(patient), having(patient), if_match=1)
    assert status_of(service, second) == "amended"


def test_a_conditional_patch_and_delete_need_a_match(service: RecordService, patient: str) -> None:
    with pytest.raises(NotFound):
        service.patch_where(request(), "Observation", having(patient), revised(status="amended"), if_match=None)
    with pytest.raises(NotFound):
        service.delete_where(request(), "Observation", having(patient), if_match=None)
    first = service.create(request(), identified(patient))
    patched = service.patch_where(request(), "Observation", having(patient), revised(status="amended"), if_match=None)
    assert (patched.key, patched.version) == (first.key, 2)
    assert status_of(service, patched) == "amended"
    with pytest.raises(Stale):
        service.delete_where(request(), "Observation", having(patient), if_match=1)
    assert service.delete_where(request(), "Observation", having(patient), if_match=2).version == 3
    with pytest.raises(Gone):
        service.read(request(), "Observation", first.id)


def test_a_condition_among_shared_resources(service: RecordService) -> None:
    content = draft("Organization", name="Clinique", identifier=[{"system": "urn:o", "value": "7"}])
    asked = condition("Organization", identifier="urn:o|7")
    first = service.create(request(), content, condition=asked)
    assert first.is_new
    assert service.create(request(), content, condition=asked).key == first.key


def overtaken(service: RecordService, withdrawn: Written) -> RecordService:
    """A service in whose search a resource is withdrawn when it has been found, once."""
    search = wiring.record_search()
    found = search.hits_of_each

    class Overtaking:
        is_done = False

        def hits_of_each(self, *arguments: Any) -> Any:
            hits = list(found(*arguments))
            if not self.is_done:
                self.is_done = True
                service.delete(request(), "Observation", withdrawn.id, if_match=None)
            return hits

    return RecordService(
        store=wiring.record_store(),
        gate=wiring.gate(),
        search=Overtaking(),  # type: ignore[arg-type]
        journal=wiring.journal(),
        blinder=wiring.blinder(),
        succession=ListSuccession(),
        effects=wiring.policy_effects,
        in_parallel=lambda *calls: tuple(call() for call in calls),
        pause=lambda _: None,
    )


def test_what_is_withdrawn_after_the_search_was_there_when_it_was_searched_for(
    service: RecordService, patient: str
) -> None:
    """A creation that finds it writes nothing: it came before."""
    first = service.create(request(), identified(patient))
    written = overtaken(service, first).create(request(), identified(patient), condition=having(patient))
    assert (written.key, written.version, written.is_new) == (first.key, 1, False)


def test_what_is_withdrawn_after_the_search_is_not_written_over(service: RecordService, patient: str) -> None:
    first = service.create(request(), identified(patient))
    writing = overtaken(service, first)
    with pytest.raises(NotFound):
        writing.patch_where(request(), "Observation", having(patient), revised(status="amended"), if_match=None)
    with pytest.raises(Gone):
        service.read(request(), "Observation", first.id)


# --- versions and ids -----------------------------------------------------------------------------------------------


def test_if_match_names_the_current_version(service: RecordService, patient: str) -> None:
    first = service.create(request(), observation(patient))
    commands: dict[str, Callable[[int], Written]] = {
        "update": lambda v: service.update(request(), observation(patient), first.id, if_match=v),
        "patch": lambda v: service.patch(request(), "Observation", first.id, revised(status="amended"), if_match=v),
        "delete": lambda v: service.delete(request(), "Observation", first.id, if_match=v),
    }
    for current, command in enumerate(commands.values(), 1):
        for wrong in (0, current - 1, current + 1):
            with pytest.raises(Stale):
                command(wrong)
        assert command(current).version == current + 1


def test_a_client_chooses_an_id(service: RecordService, patient: str) -> None:
    id = f"mine-{patient}"
    with pytest.raises(Stale):
        service.update(request(), observation(patient), id, if_match=1)
    first = service.update(request(), observation(patient), id, if_match=None)
    assert (first.id, first.version, first.is_new, first.patient) == (id, 1, True, patient)
    second = service.update(request(), observation(patient, status="amended"), id, if_match=1)
    assert (second.version, second.is_new) == (2, False)
    assert service.read_version(request(), "Observation", id, 1).body == first.body
    shared = service.update(request(), draft("Location", name="Salle"), id, if_match=None)
    assert (shared.reference, shared.patient) == (f"Location/{id}", None)


def test_an_id_that_is_taken_tells_a_stranger_nothing(service: RecordService, patient: str) -> None:
    id = f"mine-{patient}"
    service.update(request(), observation(patient), id, if_match=None)
    closed = record.person()
    hidden = f"hidden-{patient}"
    service.update(request(), observation(closed.members[0]), hidden, if_match=None)
    commit(PersonChange(before=closed, after=decided(closed, RecordStatus.CLOSED)))
    with pytest.raises(NotFound):
        service.update(request(), observation(patient), hidden, if_match=None)
    with pytest.raises(Unprocessable):  # visible, but of another person
        service.update(request(), observation(record.person().members[0]), id, if_match=None)
    assert number_of(patient) == 1


@pytest.mark.parametrize(
    "id", [new_resource_id(new_patient_key(), AT), new_resource_id(None, AT)], ids=["of a record", "shared"]
)
def test_an_id_like_those_of_the_exchange_cannot_be_chosen(service: RecordService, patient: str, id: str) -> None:
    with pytest.raises(NotFound):
        service.update(request(), observation(patient), id, if_match=None)
    with pytest.raises(NotFound):
        service.update(request(), draft("Location", name="Salle"), id, if_match=None)


def test_a_withdrawal_and_what_follows(service: RecordService, patient: str) -> None:
    for id in (None, f"mine-{patient}"):
        first = (
            service.update(request(), observation(patient), id, if_match=None)
            if id
            else service.create(request(), observation(patient))
        )
        gone = service.delete(request(), "Observation", first.id, if_match=None)
        assert (gone.version, gone.is_unchanged) == (2, False)
        again = service.delete(request(), "Observation", first.id, if_match=None)
        assert (again.version, again.is_unchanged) == (2, True)
        with pytest.raises(Gone):
            service.read(request(), "Observation", first.id)
        with pytest.raises(Gone):
            service.read_version(request(), "Observation", first.id, 2)
        with pytest.raises(Gone):
            service.patch(request(), "Observation", first.id, revised(), if_match=None)
        assert number_of(patient) == 0
        back = service.update(request(), observation(patient), first.id, if_match=None)
        assert (back.key, back.version, back.is_new) == (first.key, 3, True)
        assert service.read(request(), "Observation", first.id).version == 3
        service.delete(request(), "Observation", first.id, if_match=3)
    with pytest.raises(NotFound):
        service.delete(request(), "Observation", "never", if_match=None)


def test_a_resource_stays_with_its_person(service: RecordService, person: Person) -> None:
    one, other = person.members
    first = service.create(request(), observation(one))
    moved = service.update(request(), observation(other), first.id, if_match=None)  # the same person
    assert moved.patient == one
    stranger = record.person().members[0]
    changes: list[Callable[[], Written]] = [
        lambda: service.update(request(), observation(stranger), first.id, if_match=None),
        lambda: service.patch(
            request(), "Observation", first.id, revised(subject={"reference": f"Patient/{stranger}"}), if_match=None
        ),
        lambda: service.update(request(), observation(new_patient_key()), first.id, if_match=None),
        lambda: service.update(request(), draft("Observation", status="final"), first.id, if_match=None),
    ]
    for change in changes:
        with pytest.raises(Unprocessable):
            change()
    device = service.create(request(), draft("Device"))
    owned = draft("Device", patient={"reference": f"Patient/{one}"})
    with pytest.raises(Unprocessable):
        service.update(request(), owned, device.id, if_match=None)
    assert number_of(one) == 1
    assert number_of(stranger) == 0


def test_a_search_covers_all_records_of_a_person(service: RecordService, person: Person) -> None:
    made = {service.create(request(), observation(member)).id for member in person.members}
    for member in person.members:
        query = condition("Observation", patient=member).query
        page = wiring.record_search().search(request(), query, Subject(key=member))
        assert {each.id for each in page.versions} == made
        assert page.patients == person.members


def test_what_another_capability_manages_is_not_changed_here(service: RecordService, patient: str) -> None:
    key = ResourceKey(type="MedicationRequest", id=new_resource_id(patient, AT), patient=patient)
    content = draft("MedicationRequest", subject={"reference": f"Patient/{patient}"})
    commit(version(content, key, is_managed=True))
    commands: list[Callable[[], Written]] = [
        lambda: service.update(request(), content, key.id, if_match=None),
        lambda: service.patch(request(), key.type, key.id, revised(), if_match=1),
        lambda: service.delete(request(), key.type, key.id, if_match=None),
    ]
    for command in commands:
        with pytest.raises(Unprocessable) as refused:
            command()
        assert refused.value.issues[0].code == "business-rule"
    assert service.read(request(), key.type, key.id).version == 1


# --- the same request again -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["create", "conditional create", "update", "chosen id", "patch", "delete"])
def test_a_command_sent_again_is_done_once(service: RecordService, patient: str, what: str) -> None:
    there = service.create(request(), identified(patient, "0"))
    chosen = f"mine-{patient}"
    runs: dict[str, Callable[[Request], Written]] = {
        "create": lambda r: service.create(r, identified(patient)),
        "conditional create": lambda r: service.create(r, identified(patient), condition=having(patient)),
        "update": lambda r: service.update(r, identified(patient), there.id, if_match=1),
        "chosen id": lambda r: service.update(r, identified(patient), chosen, if_match=None),
        "patch": lambda r: service.patch(r, "Observation", there.id, revised(status="amended"), if_match=None),
        "delete": lambda r: service.delete(r, "Observation", there.id, if_match=1),
    }
    run = runs[what]
    first = run(request(1, key=patient, content=what))
    before = [item for item in record.items() if item["PK"] == f"P#{patient}"]
    again = run(request(2, key=patient, content=what))
    assert replace(again, body=first.body) == first
    assert service.written_body(request(3), again) == first.body
    assert [item for item in record.items() if item["PK"] == f"P#{patient}"] == before
    with pytest.raises(Unprocessable):
        run(request(3, key=patient, content="another"))
    with pytest.raises(Unprocessable):
        runs["create"](request(3, key=patient, content="another"))
    other = runs["create"](request(3, key=patient, content=what, client="nurse"))
    assert other.is_new


def test_a_refusal_is_not_kept(service: RecordService, patient: str) -> None:
    first = service.create(request(), observation(patient))
    repeated = request(key=f"r-{patient}", content="x")
    with pytest.raises(PasserelleError):
        service.update(repeated, observation(patient), first.id, if_match=2)
    service.update(request(), observation(patient), first.id, if_match=1)
    assert service.update(repeated, observation(patient), first.id, if_match=2).version == 3
