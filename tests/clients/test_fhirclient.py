"""fhirclient, SMART's Python library, feels at home: its models are strict, and read everything that is served."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fhirclient.auth import FHIROAuth2Auth
from fhirclient.client import FHIRClient
from fhirclient.models.bundle import Bundle
from fhirclient.models.observation import Observation
from fhirclient.models.operationoutcome import OperationOutcome
from fhirclient.models.parameters import Parameters
from fhirclient.models.patient import Patient
from requests import HTTPError

from benchmarks.peers import Exchange
from local.region import INS_TEST, ins_of
from tests import examples

CODE = "fhirclient"


@pytest.fixture(scope="module")
def server(served: Exchange) -> Iterator[Any]:
    client = FHIRClient(settings={"app_id": "practice", "api_base": served.child.ready["url"]})
    client.server.get_capability()
    client.server.auth = FHIROAuth2Auth()  # the library gets tokens for apps with a person; a system brings its own
    client.server.auth.access_token = served.child.ask("token")["token"]
    yield client.server
    client.server.session.close()


@pytest.fixture(scope="module")
def patient(patients: list[str]) -> str:
    return patients[1]


def created(server: Any, patient: str, **changed: Any) -> Observation:
    content = Observation(examples.observation(patient, code={"text": CODE}, **changed))
    told = content.create(server)
    return Observation(told)


def bundle(type: str, *requests: tuple[str, str, dict[str, Any] | None]) -> Bundle:
    entries = [
        {"request": {"method": method, "url": url}} | ({"resource": resource} if resource else {})
        for method, url, resource in requests
    ]
    return Bundle({"resourceType": "Bundle", "type": type, "entry": entries})


def test_metadata(server: Any) -> None:
    assert server.capabilityStatement.fhirVersion == "4.0.1"
    assert {"Observation", "Patient"} <= {each.type for each in server.capabilityStatement.rest[0].resource}


def test_create_read_and_vread(server: Any, patient: str) -> None:
    made = created(server, patient)
    read = Observation.read(made.id, server)
    assert (read.valueQuantity.value, read.meta.versionId) == (7.2, "1")
    assert Observation.read_from(f"Observation/{made.id}/_history/1", server).as_json() == read.as_json()


def test_update_and_delete(server: Any, patient: str) -> None:
    made = Observation.read(created(server, patient).id, server)
    made.status = "amended"
    assert made.update(server)["meta"]["versionId"] == "2"
    made.delete(server)
    with pytest.raises(HTTPError, match="410"):
        Observation.read(made.id, server)


def test_a_reference_is_resolved(server: Any, patient: str) -> None:
    made = Observation.read(created(server, patient).id, server)
    assert Patient.read_from(made.subject.reference, server).id == patient


def test_search_with_next_pages(server: Any, patient: str) -> None:
    made = {created(server, patient, status="registered").id for _ in range(5)}
    search = Observation.where({"patient": patient, "status": "registered", "_count": "2"})
    found = [each.id for each in search.perform_resources_iter(server)]
    assert len(found) == len(set(found))
    assert made <= set(found)


def test_search_with_include(server: Any, patient: str) -> None:
    made = created(server, patient, status="preliminary")
    search = Observation.where({"patient": patient, "status": "preliminary"}).include("subject")
    found = {(each.resource_type, each.id) for each in search.perform_resources_iter(server)}
    assert {("Observation", made.id), ("Patient", patient)} <= found


def test_people_are_found(server: Any, patient: str) -> None:
    search = Patient.where({"identifier": f"{INS_TEST}|{ins_of(2)}"})
    assert [each.id for each in search.perform_resources_iter(server)] == [patient]


def test_transaction(server: Any, patient: str) -> None:
    sent = bundle("transaction", *(("POST", "Observation", examples.observation(patient)) for _ in range(3)))
    done = Bundle(sent.create(server))
    assert [entry.response.status[:3] for entry in done.entry] == ["201"] * 3


def test_batch(server: Any, patient: str) -> None:
    made = created(server, patient)
    sent = bundle("batch", ("GET", f"Observation/{made.id}", None), ("GET", "Observation/nobody-knows", None))
    done = Bundle(sent.create(server))
    assert [entry.response.status[:3] for entry in done.entry] == ["200", "404"]


def test_history(server: Any, patient: str) -> None:
    made = Observation.read(created(server, patient).id, server)
    made.status = "amended"
    made.update(server)
    history = Bundle.read_from(f"Observation/{made.id}/_history", server)
    assert [entry.resource.meta.versionId for entry in history.entry] == ["2", "1"]
    of_type = Bundle.read_from(f"Observation/_history?patient={patient}&_count=2", server)
    assert (of_type.type, len(of_type.entry)) == ("history", 2)


def test_validate(server: Any, patient: str) -> None:
    parameter = [{"name": "resource", "resource": examples.observation(patient)}]
    sent = Parameters({"resourceType": "Parameters", "parameter": parameter})
    outcome = OperationOutcome(server.post_json("Observation/$validate", sent.as_json()).json())
    assert not [issue for issue in outcome.issue if issue.severity == "error"]


def test_everything(server: Any, patient: str) -> None:
    made = created(server, patient)
    seen, page = [], Bundle.read_from(f"Patient/{patient}/$everything?_count=5", server)
    while page is not None:
        seen += [(entry.resource.resource_type, entry.resource.id) for entry in page.entry or []]
        link = next((each.url for each in page.link or [] if each.relation == "next"), None)
        page = Bundle.read_from(link, server) if link else None
    assert ("Patient", patient) in seen
    assert ("Observation", made.id) in seen
    assert len(seen) == len(set(seen))


def test_summary(server: Any, patient: str) -> None:
    document = Bundle.read_from(f"Patient/{patient}/$summary", server)
    assert (document.type, document.entry[0].resource.resource_type) == ("document", "Composition")
