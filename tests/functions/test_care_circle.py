"""The care circle over HTTP. Case ids are rows CDS-n of the interoperability contract (ANS CdS 2.0.1, IHE DCTM)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local.gateway import Response
from local.region import BIRTH_PLACE, IDNPS, IDNST
from tests import examples
from tests.exchange import Client, Exchange
from tests.functions.test_patients import keys, register

GUIDE = "https://interop.esante.gouv.fr/ig/fhir/cds/StructureDefinition"
CIRCLE = f"{GUIDE}/cds-ihe-careteam"
CONTACT = f"{GUIDE}/cds-fr-related-person"
ROLE_CLASS = "https://mos.esante.gouv.fr/NOS/TRE_R260-HL7RoleClass/FHIR/TRE-R260-HL7RoleClass"
ROLE_CODE = "https://mos.esante.gouv.fr/NOS/TRE_R216-HL7RoleCode/FHIR/TRE-R216-HL7RoleCode"
WRITES = "PCC-45 PCC-46 PCC-47"


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


def registered(hospital: Client, number: int) -> str:
    return str(register(hospital, number).json["id"])


def without(content: dict[str, Any], path: str) -> dict[str, Any]:
    """A copy without one element; in a list the first one is meant."""
    name, _, rest = path.partition(".")
    value = content[name]
    if not rest:
        return {key: each for key, each in content.items() if key != name}
    if isinstance(value, list):
        return {**content, name: [without(value[0], rest), *value[1:]]}
    return {**content, name: without(value, rest)}


def member(reference: str, **period: str) -> dict[str, Any]:
    return {"member": {"reference": reference}, "period": period or {"start": "2026-01-05"}}


def circle(key: str, *members: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {
        "resourceType": "CareTeam",
        "meta": {"profile": [CIRCLE]},
        "identifier": [{"system": "urn:oid:2.999.7", "value": f"circle of {key}"}],
        "status": "active",
        "name": "Cercle de soins",
        "subject": {"reference": f"Patient/{key}"},
        "period": {"start": "2026-01-05"},
        "participant": list(members) or [member("Organization/house")],
    } | changed


def contact(key: str, **changed: Any) -> dict[str, Any]:
    return {
        "resourceType": "RelatedPerson",
        "meta": {"profile": [CONTACT]},
        "identifier": [{"system": "urn:oid:2.999.7", "value": f"contact of {key}"}],
        "patient": {"reference": f"Patient/{key}"},
        "relationship": [
            {"coding": [{"system": ROLE_CLASS, "code": "ECON"}]},
            {"coding": [{"system": ROLE_CODE, "code": "NBOR"}]},
        ],
        "name": [{"family": "Ducros", "given": ["Paule"]}],
        "telecom": [{"system": "phone", "value": "0602030405"}],
        "address": [{"city": "Tourcoing", "country": "FRA"}],
    } | changed


def stored(answer: Response) -> str:
    assert answer.status == 201, answer.body
    return f"{answer.json['resourceType']}/{answer.json['id']}"


def issues(answer: Response) -> set[tuple[str, str]]:
    return {(each["code"], each.get("expression", [""])[0]) for each in answer.json["issue"]}


# --- what is written --------------------------------------------------------------------------------------------------


def test_cds_1_actors_are_written_one_by_one(hospital: Client) -> None:
    key = registered(hospital, 2)
    place = stored(hospital.post("RelatedPerson", contact(key)))
    revised = contact(key, id=place.partition("/")[2], active=True)
    assert hospital.put(place, revised).status == 200
    refused = hospital.put(place, {**revised, "id": "other"})
    assert (refused.status, refused.json["issue"][0]["code"]) == (400, "invariant")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("identifier", "required"),
        ("name", "required"),
        ("name.family", "required"),
        ("telecom", "required"),
        ("relationship.coding", "required"),
    ],
)
def test_cds_2_what_a_contact_needs(hospital: Client, path: str, code: str) -> None:
    content = without(contact(registered(hospital, 2), name=[{"family": "Ducros", "text": "Ducros"}]), path)
    if path == "relationship.coding":
        content["relationship"] = content["relationship"][1:]
    refused = hospital.post("RelatedPerson", content)
    assert refused.status == 422, refused.body
    assert code in {each for each, _ in issues(refused)}
    plain = {**content, "meta": {"tag": [{"code": "x"}]}}
    assert hospital.post("RelatedPerson", plain).status == 201  # the rules are the profile's


@pytest.mark.parametrize("name", ["identifier", "name", "name.given"])
def test_cds_2_what_a_contact_has_once(hospital: Client, name: str) -> None:
    content = contact(registered(hospital, 2))
    if name == "name.given":
        content["name"][0]["given"] *= 2
    else:
        content[name] = content[name] * 2
    refused = hospital.post("RelatedPerson", content)
    assert (refused.status, {each for each, _ in issues(refused)}) == (422, {"invariant"})


@pytest.mark.parametrize("form", ["json", "xml"])
def test_cds_3_a_circle_is_stored(hospital: Client, form: str) -> None:
    """CDS-3, and CDS-10 of what was stored."""
    key = registered(hospital, 3 if form == "json" else 4)
    created = hospital.post("CareTeam", circle(key), Accept=f"application/fhir+{form}")
    assert created.status == 201, created.body
    place = str(created.header("Location")).partition("/fhir/")[2].partition("/_history")[0]
    read = hospital.get(place)
    assert (read.json["meta"]["versionId"], "lastUpdated" in read.json["meta"]) == ("1", True)
    if form == "xml":
        sent = hospital.get(place, Accept="application/fhir+xml").body
        again = hospital.request("PUT", place, sent, Content_Type="application/fhir+xml")
        assert again.status == 200, again.body


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("identifier", "identifier"),
        ("identifier.value", "identifier[0].value"),
        ("status", "status"),
        ("name", "name"),
        ("subject", "subject"),
        ("period", "period"),
        ("period.start", "period.start"),
        ("participant", "participant"),
        ("participant.member", "participant[0].member"),
        ("participant.period", "participant[0].period.start"),
    ],
)
def test_cds_4_what_a_circle_needs(hospital: Client, path: str, place: str) -> None:
    content = circle(registered(hospital, 5), period={"start": "2026", "end": "2027"})
    refused = hospital.post("CareTeam", without(content, path))
    assert (refused.status, issues(refused)) == (422, {("required", f"CareTeam.{place}")})


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"identifier": [{"value": "1"}, {"value": "2"}]}, "invariant"),
        ({"participant": [member("Practitioner/x")]}, "invariant"),
        ({"status": "finished"}, "code-invalid"),
    ],
)
def test_cds_4_what_a_circle_may_not_be(hospital: Client, changed: dict[str, Any], code: str) -> None:
    refused = hospital.post("CareTeam", circle(registered(hospital, 5), **changed))
    assert (refused.status, refused.json["issue"][0]["code"]) == (422, code)


def test_cds_4_a_team_that_is_no_circle_is_what_r4_says(hospital: Client) -> None:
    key = registered(hospital, 5)
    for _ in range(2):
        assert (
            hospital.post("CareTeam", {"resourceType": "CareTeam", "subject": {"reference": f"Patient/{key}"}}).status
            == 201
        )


def test_cds_5_a_person_has_one_circle(hospital: Client) -> None:
    key = registered(hospital, 6)
    place = stored(hospital.post("CareTeam", circle(key)))
    refused = hospital.post("CareTeam", circle(key, status="proposed"))
    assert (refused.status, refused.json["issue"][0]["code"]) == (409, "duplicate")
    assert hospital.post("CareTeam", circle(key, status="inactive")).status == 201
    ended = circle(key, id=place.partition("/")[2], status="inactive")
    assert hospital.put(place, ended).status == 200
    assert hospital.post("CareTeam", circle(key)).status == 201
    assert hospital.put(place, {**ended, "status": "active"}).status == 409


def test_cds_5_of_circles_made_at_once_one_is(hospital: Client) -> None:
    key = registered(hospital, 7)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: hospital.post("CareTeam", circle(key)).status, range(4)))
    assert sorted(answers) == [201, 409, 409, 409]


def test_cds_6_members_come_and_go(hospital: Client) -> None:
    """CDS-6, and the history of CDS-10."""
    key = registered(hospital, 8)
    house = stored(hospital.post("Organization", {"resourceType": "Organization", "name": "Maison de santé"}))
    place = stored(hospital.post("CareTeam", circle(key)))
    id = place.partition("/")[2]
    first = member(house, start="2026-01-05", end="2026-02-01")
    for version, members in enumerate(([member(house)], [first], [first, member(house, start="2026-03-01")]), 2):
        done = hospital.put(place, circle(key, *members, id=id), If_Match=f'W/"{version - 1}"')
        assert (done.status, done.header("ETag")) == (200, f'W/"{version}"')
    assert hospital.put(place, circle(key, id=id), If_Match='W/"1"').status == 412
    assert hospital.get(place).json["meta"]["versionId"] == "4"
    assert hospital.get(f"{place}/_history/2").json["participant"] == [member(house)]
    assert hospital.get(f"{place}/_history").json["total"] == 4
    history = hospital.get(f"CareTeam/_history?patient={key}")
    assert (history.status, len(history.json["entry"])) == (200, 4)
    assert hospital.get(f"{place}x").status == 404


# --- what is found ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def team(exchange: Exchange, hospital: Client) -> dict[str, str]:
    """A person's circle with a contact, a professional in an activity and a structure; by what each is."""
    key = registered(hospital, 9)
    group = stored(hospital.post("Organization", {"resourceType": "Organization", "name": "Groupe des Trois Vallées"}))
    house = {
        "resourceType": "Organization",
        "identifier": [{"system": IDNST, "value": "1990000999"}],
        "name": "Centre de santé du Nord",
        "partOf": {"reference": group},
    }
    doctor = {
        "resourceType": "Practitioner",
        "identifier": [{"system": IDNPS, "value": "899900000999"}],
        "name": [{"family": "Vasseur"}],
    }
    found = {"key": key, "group": group, "house": stored(hospital.post("Organization", house))}
    found["doctor"] = stored(hospital.post("Practitioner", doctor))
    role = {
        "resourceType": "PractitionerRole",
        "practitioner": {"reference": found["doctor"]},
        "code": [{"coding": [{"system": "urn:x", "code": "coordinator"}]}],
    }
    found["role"] = stored(hospital.post("PractitionerRole", role))
    found["contact"] = stored(hospital.post("RelatedPerson", contact(key)))
    other = contact(key, name=[{"family": "Merle"}], address=[{"city": "Roubaix"}])
    found["other"] = stored(hospital.post("RelatedPerson", other))
    members = [
        member(found["contact"], start="2026-01-10", end="2026-06-30"),
        member(found["other"]),
        member(found["role"]),
        member(found["house"]),
    ]
    content = circle(
        key,
        *members,
        period={"start": "2026-01-05", "end": "2027-01-05"},
        category=[{"coding": [{"system": "http://loinc.org", "code": "LA27976-2"}]}],
        managingOrganization=[{"reference": found["house"]}],
    )
    found["circle"] = stored(hospital.post("CareTeam", content))
    return found


def found(hospital: Client, team: dict[str, str], query: str) -> bool:
    answer = hospital.get(f"CareTeam?patient={team['key']}&{query}", Prefer="handling=strict")
    assert answer.status == 200, answer.body
    assert keys(answer) in ([], [team["circle"].partition("/")[2]])
    return bool(answer.json["total"])


@pytest.mark.parametrize(
    ("finding", "other"),
    [
        ("identifier=urn:oid:2.999.7|", "identifier=urn:oid:2.999.8|"),
        ("status=active", "status=inactive"),
        ("_lastUpdated=gt2020", "_lastUpdated=lt2020"),
        ("category=LA27976-2", "category=LA28865-6"),
        ("participant={role}", "participant={doctor}"),
        ("managingOrganization={house}", "managingOrganization={group}"),
        ("subject={key}", "status=proposed"),
        ("date=ge2026-03", "date=lt2026"),
    ],
)
def test_cds_7_parameters(hospital: Client, team: dict[str, str], finding: str, other: str) -> None:
    assert found(hospital, team, finding.format(**team))
    assert not found(hospital, team, other.format(**team))


@pytest.mark.parametrize("name", ["start", "end", "participant-start", "participant-end"])
def test_cds_7_starts_and_ends_are_compared(hospital: Client, team: dict[str, str], name: str) -> None:
    """`participant-end` is on the end of the period: the guide's capability statement says start by mistake."""
    on = {
        "start": "2026-01-05",
        "end": "2027-01-05",
        "participant-start": "2026-01-10",
        "participant-end": "2026-06-30",
    }
    held = {"eq", "ge", "le", "ap"} | ({"ne", "lt", "eb"} if name == "participant-start" else set())
    for prefix in ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"):
        assert found(hospital, team, f"{name}={prefix}{on[name]}") == (prefix in held), prefix


@pytest.mark.parametrize(
    ("finding", "other"),
    [
        ("participant:RelatedPerson._id={contact}", "participant:RelatedPerson._id={house}"),
        ("participant:RelatedPerson.name=ducros", "participant:RelatedPerson.name=Vasseur"),
        ("participant:RelatedPerson.relationship=NBOR", "participant:RelatedPerson.relationship=SIS"),
        ("participant:RelatedPerson.address=Tourcoing", "participant:RelatedPerson.address=Lille"),
        ("participant:PractitionerRole._id={role}", "participant:PractitionerRole._id={doctor}"),
        ("participant:PractitionerRole.role=urn:x|coordinator", "participant:PractitionerRole.role=urn:x|other"),
        (
            "participant:PractitionerRole.practitioner.name=vass",
            "participant:PractitionerRole.practitioner.name=Ducros",
        ),
        (
            f"participant:PractitionerRole.practitioner:Practitioner.identifier={IDNPS}|899900000999",
            f"participant:PractitionerRole.practitioner:Practitioner.identifier={IDNPS}|899900000998",
        ),
        (
            "participant:PractitionerRole.practitioner:Practitioner.identifier=https://rpps.esante.gouv.fr|99900000999",
            "participant:PractitionerRole.practitioner:Practitioner.identifier=https://rpps.esante.gouv.fr|99900000998",
        ),
        ("participant:Organization._id={house}", "participant:Organization._id={group}"),
        (f"participant:Organization.identifier={IDNST}|1990000999", f"participant:Organization.identifier={IDNST}|1"),
        ("participant:Organization.name=centre de", "participant:Organization.name=groupe"),
        ("participant:Organization.partof.name=groupe", "participant:Organization.partof.name=centre"),
        ("participant.name:exact=Ducros", "participant.name:exact=ducros"),
    ],
)
def test_cds_8_chains(hospital: Client, team: dict[str, str], finding: str, other: str) -> None:
    ids = {name: place.partition("/")[2] for name, place in team.items()}
    assert found(hospital, team, finding.format(**ids))
    assert not found(hospital, team, other.format(**ids))


def test_cds_8_by_the_identifier_of_the_patient(hospital: Client, team: dict[str, str]) -> None:
    answer = hospital.get(f"CareTeam?patient.identifier={examples.ins(9)}")
    assert keys(answer) == [team["circle"].partition("/")[2]]


def test_chains_ask_for_the_scope_of_what_they_lead_to(exchange: Exchange, team: dict[str, str]) -> None:
    query = f"CareTeam?patient={team['key']}&participant"
    narrow = exchange.client("practice", "system/CareTeam.rs system/Organization.rs")
    assert narrow.get(f"{query}:Organization.name=centre").json["total"] == 1
    assert narrow.get(f"{query}:RelatedPerson.name=ducros").status == 403
    assert narrow.get(f"{query}.name=ducros").json["total"] == 0  # of the types that it may search, there is none
    assert scoped(exchange, "PCC-46").get(f"{query}:RelatedPerson.name=ducros").json["total"] == 1


@pytest.mark.parametrize(
    "query",
    [
        "participant:RelatedPerson.nothing=x",
        "participant:Patient.name=x",
        "subject.name=x",
        "participant:RelatedPerson.patient=x",
        "_has:CarePlan:care-team:status=active",
    ],
)
def test_cds_8_what_cannot_be_followed_is_refused(hospital: Client, team: dict[str, str], query: str) -> None:
    answer = hospital.get(f"CareTeam?patient={team['key']}&{query}")
    assert (answer.status, answer.json["issue"][0]["code"]) == (400, "not-supported")


def modes(answer: Response) -> dict[str, set[str]]:
    assert answer.status == 200, answer.body
    by_mode: dict[str, set[str]] = {}
    for each in answer.json["entry"]:
        resource = each["resource"]
        by_mode.setdefault(each["search"]["mode"], set()).add(f"{resource['resourceType']}/{resource['id']}")
    return by_mode


def test_cds_9_one_member_meets_both_criteria(hospital: Client, team: dict[str, str]) -> None:
    """The example of the guide, in the record of a person; no member is called Merle and lives in Tourcoing."""
    both = "participant:RelatedPerson.name:exact={}&participant:RelatedPerson.address=Tourcoing"
    query = f"CareTeam?patient={team['key']}&_include:iterate=CareTeam:subject&{both}"
    assert modes(hospital.get(query.format("Ducros"))) == {
        "match": {team["circle"]},
        "include": {f"Patient/{team['key']}"},
    }
    assert hospital.get(query.format("Merle")).json["total"] == 0


def test_cds_9_includes_go_on_from_what_is_included(hospital: Client, team: dict[str, str]) -> None:
    by_mode = modes(hospital.get(f"CareTeam?_include:iterate=*&patient.identifier={examples.ins(9)}"))
    everything = {team[name] for name in ("house", "group", "role", "doctor", "contact", "other")}
    assert by_mode == {"match": {team["circle"]}, "include": everything | {f"Patient/{team['key']}"}}
    one = "_include=CareTeam:participant&_include:iterate=PractitionerRole:practitioner"
    named = modes(hospital.get(f"CareTeam?patient={team['key']}&{one}"))["include"]
    assert named == everything - {team["group"]}


def test_cds_9_reverse_includes_and_elements(hospital: Client, team: dict[str, str]) -> None:
    contacts = modes(hospital.get(f"RelatedPerson?patient={team['key']}&_revinclude=CareTeam:participant"))
    assert contacts == {"match": {team["contact"], team["other"]}, "include": {team["circle"]}}
    part = hospital.get(f"CareTeam?patient={team['key']}&_elements=name").json["entry"][0]["resource"]
    assert (part["name"], "period" in part) == ("Cercle de soins", False)


def test_chains_lead_through_the_directory_too(hospital: Client, team: dict[str, str]) -> None:
    answer = hospital.get("PractitionerRole?practitioner.family=vasseur")
    assert keys(answer) == [team["role"].partition("/")[2]]
    assert hospital.get("PractitionerRole?practitioner.family=nobody").json["total"] == 0
    assert keys(hospital.get("Organization?partof.name=groupe des trois")) == [team["house"].partition("/")[2]]


# --- transactions -----------------------------------------------------------------------------------------------------


def entry(name: str, resource: dict[str, Any], method: str = "POST", url: str = "") -> dict[str, Any]:
    return {
        "fullUrl": f"urn:uuid:61ebe359-bfdc-4613-8bf2-c5e30094{name}",
        "resource": resource,
        "request": {"method": method, "url": url or resource["resourceType"]},
    }


def transaction(profile: str, *entries: dict[str, Any]) -> dict[str, Any]:
    meta = {"profile": [f"{GUIDE}/cds-bundle-transaction-{profile}"]}
    return {"resourceType": "Bundle", "type": "transaction", "meta": meta, "entry": list(entries)}


def urn(name: str) -> str:
    return f"urn:uuid:61ebe359-bfdc-4613-8bf2-c5e30094{name}"


def plain(content: dict[str, Any]) -> dict[str, Any]:
    return without(content, "meta")  # in a transaction of the guide, what it is goes without saying


HOUSE = {"resourceType": "Organization", "name": "Cabinet du Port"}


def creation(key: str, **changed: Any) -> list[dict[str, Any]]:
    members = (member(urn("000b")), member(urn("000c")))
    return [
        entry("000a", plain(circle(key, *members, **changed))),
        entry("000b", plain(contact(key))),
        entry("000c", HOUSE),
    ]


def test_cds_11_a_circle_with_its_actors(hospital: Client) -> None:
    _, person = examples.patient(10)
    own = [each for each in person["identifier"] if each["system"] == examples.DOMAIN]
    newcomer = entry("000d", {**person, "identifier": [{**own[0], "value": "cds-11"}], "extension": []})
    newcomer["resource"].pop("extension")
    bundle = creation("-", subject={"reference": urn("000d")})
    bundle[1]["resource"]["patient"] = {"reference": urn("000d")}
    done = hospital.post("", transaction("creation", newcomer, *bundle))
    assert done.status == 200, done.body
    assert done.json["type"] == "transaction-response"
    places = [each["response"]["location"].partition("/_history")[0] for each in done.json["entry"]]
    made = hospital.get(places[1]).json
    assert made["subject"]["reference"] == places[0]
    assert [each["member"]["reference"] for each in made["participant"]] == places[2:]


def test_cds_11_of_a_patient_who_is_stored(hospital: Client) -> None:
    key = registered(hospital, 11)
    done = hospital.post("", transaction("creation", *creation(key)))
    assert done.status == 200, done.body
    again = hospital.post("", transaction("creation", *creation(key)))
    assert (again.status, again.json["issue"][0]["code"]) == (409, "duplicate")  # P10: the 4xx of its cause


@pytest.mark.parametrize("case", ["no circle", "two", "method", "read", "invalid", "member"])
def test_cds_11_nothing_of_what_is_refused_is_stored(hospital: Client, case: str) -> None:
    key = registered(hospital, 12)
    first, *actors = creation(key)
    entries = {
        "no circle": actors,
        "two": [first, *actors, entry("000e", plain(circle(key)))],
        "method": [first, *actors, {"request": {"method": "DELETE", "url": "RelatedPerson/x"}}],
        "read": [first, *actors, {"request": {"method": "GET", "url": f"Patient/{key}"}}],
        "invalid": [first, entry("000b", plain(contact(key, telecom=[]) | {"telecom": [{"value": "1"}]})), actors[1]],
        "member": [first, *actors[:1], entry("000c", {"resourceType": "Practitioner"})],
    }[case]
    refused = hospital.post("", transaction("creation", *entries))
    assert refused.status == 422, refused.body
    assert hospital.get(f"CareTeam?patient={key}").json["total"] == 0
    assert hospital.get(f"RelatedPerson?patient={key}").json["total"] == 0


def test_cds_12_a_circle_and_its_actors_change_together(hospital: Client) -> None:
    key = registered(hospital, 13)
    done = hospital.post("", transaction("creation", *creation(key)))
    team, person, house = (each["response"]["location"].partition("/_history")[0] for each in done.json["entry"])
    revised = plain(circle(key, member(person), member(house), member(urn("000f")), id=team.partition("/")[2]))
    changed = plain(contact(key, id=person.partition("/")[2], active=False))
    entries = [
        entry("000a", revised, "PUT", team),
        entry("000f", {"resourceType": "Organization", "name": "Renfort"}),
        entry("000b", changed, "PUT", person),
    ]
    broken = transaction("maj", *entries[:2], entry("000b", without(changed, "telecom"), "PUT", person))
    assert hospital.post("", broken).status == 422
    assert hospital.get(team).json["meta"]["versionId"] == "1"
    assert hospital.post("", transaction("maj", *entries)).status == 200
    assert len(hospital.get(team).json["participant"]) == 3
    assert hospital.get(person).json["active"] is False


# --- scopes, and the patient's place of birth -------------------------------------------------------------------------


def test_the_scopes_of_dctm_are_enough(exchange: Exchange, hospital: Client) -> None:
    """A token for PCC-45 alone writes circles, whether they say so or not (GEN-14)."""
    key = registered(hospital, 14)
    narrow = scoped(exchange, WRITES)
    refused = narrow.post("CareTeam", without(plain(circle(key)), "name"))
    assert (refused.status, issues(refused)) == (422, {("required", "CareTeam.name")})
    created = narrow.post("CareTeam", plain(circle(key)))
    assert (created.status, created.json["meta"]["profile"]) == (201, [CIRCLE])
    assert narrow.get(f"CareTeam?patient={key}").status == 200
    assert narrow.get(f"CareTeam/{created.json['id']}").status == 200
    assert narrow.post("RelatedPerson", contact(key)).status == 403
    assert scoped(exchange, "PCC-46").get(f"CareTeam/{created.json['id']}").status == 403
    assert scoped(exchange, "PCC-46 PCC-47").post("CareTeam", circle(key)).status == 403


def scoped(exchange: Exchange, scope: str) -> Client:
    """The practice with these scopes, which its registration has for the length of the test."""
    from passerelle import wiring
    from passerelle.access import Scopes

    registered = wiring.clients().find("practice")
    assert registered is not None
    if not registered.scopes.covers(Scopes.parse(scope)):
        from dataclasses import replace

        wiring.clients().register(replace(registered, scopes=Scopes.parse(f"{registered.scopes} {WRITES}")))
    return exchange.client("practice", scope)


def test_cds_14_the_place_of_birth_is_searched(hospital: Client) -> None:
    local, person = examples.patient(15)
    (place_of_birth,) = (each for each in person["extension"] if each["url"] == BIRTH_PLACE)
    place_of_birth["valueAddress"]["city"] = "Goulven"
    registered = hospital.put(f"Patient?identifier={examples.DOMAIN}|{local}", person)
    assert registered.status in (200, 201), registered.body
    for place, count in (("goul", 1), ("Lannion", 0)):
        answer = hospital.get(f"Patient?birthdate={person['birthDate']}&birthplace={place}")
        assert (answer.status, answer.json["total"]) == (200, count)
