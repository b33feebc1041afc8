"""The directory holds together: references lead somewhere, what is referred to stays (contract MCSD-11, MCSD-12)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.exchange import Client, Exchange

ABSENT = {"reference": "Organization/absent"}
FACILITY = "https://profiles.ihe.net/ITI/mCSD/StructureDefinition/IHE.mCSD.FacilityLocation"


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a", "system/*.cruds")


def organization(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Organization", "name": "Centre hospitalier d'Essai", **more}


def location(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Location", "name": "Site d'Essai", **more}


def test_mcsd_11_what_refers_to_something_that_exists_is_stored(hospital: Client) -> None:
    owner = hospital.post("Organization", organization()).json["id"]
    made = hospital.post("Location", location(managingOrganization={"reference": f"Organization/{owner}"}))
    assert made.status == 201
    assert hospital.get(f"Location?organization=Organization/{owner}").json["total"] == 1


@pytest.mark.parametrize(
    ("resource", "code", "place"),
    [
        (
            location(managingOrganization={"reference": "Organization/absent"}),
            "not-found",
            "Location.managingOrganization",
        ),
        (location(endpoint=[{"reference": "Endpoint/absent"}]), "not-found", "Location.endpoint"),
        (location(meta={"profile": [FACILITY]}), "invariant", "Location.managingOrganization"),
    ],
    ids=["reference", "one of a list", "facility"],
)
def test_mcsd_11_what_does_not_hold_is_refused(hospital: Client, resource: Any, code: str, place: str) -> None:
    before = hospital.get("Location?_summary=count").json["total"]
    for answer in (hospital.post("Location", resource), hospital.put("Location?identifier=urn:x|1", resource)):
        assert answer.status == 422
        issue = answer.json["issue"][0]
        assert (issue["code"], issue["expression"]) == (code, [place])
    chosen = {**resource, "id": "chosen"}
    assert hospital.put("Location/chosen", chosen).status == 422
    assert hospital.get("Location?_summary=count").json["total"] == before
    assert hospital.get("Location/chosen").status == 404


def test_mcsd_12_what_is_referred_to_stays(hospital: Client) -> None:
    owner = hospital.post("Organization", organization()).json["id"]
    place = hospital.post("Location", location(managingOrganization={"reference": f"Organization/{owner}"})).json["id"]
    refused = hospital.request("DELETE", f"Organization/{owner}")
    assert (refused.status, refused.json["issue"][0]["code"]) == (409, "conflict")
    assert hospital.get(f"Organization/{owner}").status == 200
    assert hospital.request("DELETE", f"Location/{place}").status == 200
    assert hospital.request("DELETE", f"Organization/{owner}").status == 200
    assert hospital.get(f"Organization/{owner}").status == 410
    history = hospital.get("Organization/_history").json["entry"]
    assert history[0]["request"] == {"method": "DELETE", "url": f"Organization/{owner}"}
