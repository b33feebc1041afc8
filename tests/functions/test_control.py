"""The patient's control over the record: shut out, let in, appointed, shown single items (DMP-3, DMP-5, DMP-11)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest

from local.gateway import Response
from local.region import INS_TEST, ins_of
from tests import contents, examples
from tests.documents import relabel
from tests.exchange import Client, Exchange, PumpedWebhook
from tests.functions.test_links import share, visit
from tests.functions.test_patients import register
from tests.somebody import Somebody

IDNPS, RPPS = "urn:oid:1.2.250.1.71.4.2.1", "https://rpps.esante.gouv.fr"
IDNST, FINESS = "urn:oid:1.2.250.1.71.4.2.2", "https://finess.esante.gouv.fr"
DOCTOR = {"system": IDNPS, "value": "810000000037"}  # of the practice
PRACTICE = {"system": IDNST, "value": "1990000037"}
SAMU = "1990000300"
PDF = b"%PDF-1.4\n%%EOF\n"
CHILD = 20  # born in 2024
_numbers = itertools.count(2)  # person 1 has an application of its own, which not every test wants
_KINDS = {str: "valueString", bool: "valueBoolean"}
_NAMED = {"party": "valueIdentifier", "holder": "valueIdentifier", "kind": "valueCode", "period": "valuePeriod"}


@pytest.fixture(scope="module")
def hospital(exchange: Exchange) -> Client:
    return exchange.client("hospital-a")


@pytest.fixture(scope="module")
def practice(exchange: Exchange) -> Client:
    return exchange.client("practice")


@pytest.fixture
def number() -> int:
    return next(_numbers)


@pytest.fixture
def key(hospital: Client, number: int) -> str:
    return str(register(hospital, number).json["id"])


@pytest.fixture
def patient(exchange: Exchange, number: int) -> Somebody:
    return patient_of(exchange, number)


def patient_of(exchange: Exchange, number: int) -> Somebody:
    return Somebody(exchange, client_id="patient-app", role="patient", patient=examples.ins(number))


def proxy_of(exchange: Exchange, number: int, holder: int) -> Somebody:
    """Person `holder` of the region, logged in for person `number`."""
    ins = examples.ins(number)
    return Somebody(exchange, client_id="patient-app", role="representative", patient=ins, person=examples.ins(holder))


def ins(number: int) -> dict[str, str]:
    return {"system": INS_TEST, "value": ins_of(number)}


def parameters(**given: Any) -> dict[str, Any]:
    listed = []
    for name, value in given.items():
        plain = name.replace("_", "-")
        if name == "references":
            listed += [{"name": "reference", "valueReference": {"reference": each}} for each in value]
        else:
            listed.append({"name": plain, _NAMED.get(name) or _KINDS[type(value)]: value})
    return {"resourceType": "Parameters", **({"parameter": listed} if listed else {})}


def order(client: Client, key: str, operation: str, **given: Any) -> Response:
    return client.post(f"Patient/{key}/${operation}", parameters(**given))


def done(client: Client, key: str, operation: str, **given: Any) -> dict[str, Any]:
    """The decision, or the first of them."""
    answer = order(client, key, operation, **given)
    assert answer.status == 200, answer.body
    return plain(answer.json["parameter"][0]["part"])


def plain(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {each["name"]: next(value for name, value in each.items() if name != "name") for each in parts}


def standing(client: Client, key: str) -> dict[str, list[Any]]:
    answer = client.get(f"Patient/{key}/$record-status")
    assert answer.status == 200, answer.body
    found: dict[str, list[Any]] = {}
    for each in answer.json["parameter"]:
        value = plain(each["part"]) if "part" in each else next(v for k, v in each.items() if k != "name")
        found.setdefault(each["name"], []).append(value)
    return found


def refusal(answer: Response) -> tuple[int, str]:
    return answer.status, answer.json["issue"][0]["code"]


def is_shut(answer: Response) -> bool:
    """403, and no emergency opens it."""
    if answer.status != 403:
        return False
    return bool(answer.json["issue"][0]["details"]["coding"][0]["code"] == "break-glass-not-possible")


# --- blocks -----------------------------------------------------------------------------------------------------------


def everything_asked(key: str, number: int, document: str, observation: str) -> dict[str, Callable[[Client], Response]]:
    dmp = f"Patient?identifier={quote(examples.ins(number))}"
    mask = json.dumps(relabel("INVISIBLE_REPRESENTANTS_LEGAUX")).encode()
    patch = {"Content_Type": "application/json-patch+json"}
    return {
        "TD0.2": lambda client: client.exchange.client(client.id, "TD0.2").get(dmp),
        "ITI-78 read": lambda client: client.get(f"Patient/{key}"),
        "ITI-83": lambda client: client.get(
            f"Patient/$ihe-pix?sourceIdentifier={quote(examples.ins(number))}&targetSystem=urn:oid:2.999.1"
        ),
        "TD3.1a": lambda client: client.get(
            f"DocumentReference?patient.identifier={quote(examples.ins(number))}&status=current"
        ),
        "search": lambda client: client.get(f"Observation?patient={key}"),
        "read": lambda client: client.get(f"Observation/{observation}"),
        "vread": lambda client: client.get(f"Observation/{observation}/_history/1"),
        "history": lambda client: client.get(f"Observation/{observation}/_history"),
        "everything": lambda client: client.get(f"Patient/{key}/$everything"),
        "summary": lambda client: client.get(f"Patient/{key}/$summary"),
        "changes": lambda client: client.get(f"Patient/{key}/$changes"),
        "TD3.2": lambda client: client.get(f"Binary/{document}", Accept="*/*"),
        "TD3.3a": lambda client: client.request("PATCH", f"DocumentReference/{document}", mask, **patch),
        "link": lambda client: client.post(
            f"DocumentReference/{document}/$share",
            {"resourceType": "Parameters", "parameter": [{"name": "purpose", "valueCode": "TREAT"}]},
        ),
        "TD2": lambda client: client.post("", contents.submission(key, PDF, "application/pdf")),
        "create": lambda client: client.post("Observation", examples.observation(key)),
        "record-status": lambda client: client.get(f"Patient/{key}/$record-status"),
        "authorize": lambda client: order(client, key, "authorize-access", consent=True),
    }


@pytest.mark.parametrize(
    ("party", "is_authorised"),
    [
        pytest.param(DOCTOR, True, id="DMP-3 professional, with authorisation"),
        pytest.param({"system": FINESS, "value": PRACTICE["value"][1:]}, False, id="DMP-3 organisation, without"),
    ],
)
def test_dmp_3_who_is_blocked_is_refused_everywhere(
    exchange: Exchange,
    hospital: Client,
    practice: Client,
    patient: Client,
    key: str,
    number: int,
    party: dict[str, str],
    is_authorised: bool,
) -> None:
    """DMP-3: TD0.2, TD2, TD3 and all the rest; as if absent where many people are looked for; open again afterwards."""
    document = contents.published(hospital, key, PDF).removeprefix("Binary/")
    observation = hospital.post("Observation", examples.observation(key)).json["id"]
    link = share(practice, document)
    family = f"Patient?family={examples.patient(number)[1]['name'][0]['family']}"
    born = f"{family}&birthdate={examples.patient(number)[1]['birthDate']}"
    if is_authorised:
        done(patient, key, "authorize-access", party=party)
    asked = everything_asked(key, number, document, observation)
    before = {name: ask(practice).status for name, ask in asked.items() if name != "authorize"}
    assert {name: status for name, status in before.items() if status not in (200, 201)} == {}
    assert done(patient, key, "block", party=party)["kind"] == "blocked"
    told = {name: ask(practice) for name, ask in asked.items()}
    assert [name for name, answer in told.items() if not is_shut(answer)] == []
    assert key not in practice.get(quote(born, safe="?=&")).body.decode()
    match = practice.post("Patient/$match", matching(number))
    assert (match.status, key in match.body.decode()) == (200, False)
    assert visit(exchange, link["url"]).status == 404
    assert hospital.get(f"Observation/{observation}").status == 200  # it is about nobody else
    assert refusal(order(patient, key, "authorize-access", party=party)) == (409, "conflict")
    done(patient, key, "unblock", party=party)
    assert practice.get(f"Observation/{observation}").status == 200
    assert "access" not in standing(patient, key)  # what was allowed before does not come back


def matching(number: int) -> dict[str, Any]:
    _, content = examples.patient(number)
    asked = {name: content[name] for name in ("resourceType", "name", "birthDate", "gender")}
    return {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": asked}]}


def test_a_source_that_is_blocked_is_left_with_what_it_registered(
    exchange: Exchange, hospital: Client, patient: Client, key: str, number: int
) -> None:
    """Whoever treats a person has to know who that is: the registration stays, and is revised; the record is shut."""
    done(patient, key, "block", party={"system": IDNST, "value": "1990000011"})
    assert hospital.get(f"Patient/{key}").status == 200
    assert register(hospital, number, address=[{"city": "Ailleurs"}]).status == 200
    assert is_shut(hospital.get(f"Observation?patient={key}"))
    assert is_shut(exchange.client("hospital-a", "TD0.2").get(f"Patient?identifier={quote(examples.ins(number))}"))


def test_who_is_blocked_gets_no_next_page_and_no_notification(
    exchange: Exchange, hospital: Client, practice: Client, patient: Client, key: str
) -> None:
    """A block binds the next request, page 2 included; events of the patient are numbered no more (SUB-10)."""
    for day in (1, 2):
        hospital.post("Observation", examples.observation(key, effectiveDateTime=f"2026-03-0{day}"))
    page = practice.get(f"Observation?patient={key}&_count=1")
    (following,) = (each["url"] for each in page.json["link"] if each["relation"] == "next")
    exchange.pump.run_until_idle()
    with PumpedWebhook(exchange.pump) as webhook:
        told = subscribe(practice, webhook, "anything-changed")
        seen = hospital.post("Observation", examples.observation(key)).json["id"]
        exchange.pump.run_until_idle()
        done(patient, key, "block", party=PRACTICE)
        hidden = hospital.post("Observation", examples.observation(key)).json["id"]
        exchange.pump.run_until_idle()
        caught_up = practice.get(f"Subscription/{told}/$events?eventsSinceNumber=1&eventsUntilNumber=99").body.decode()
        assert hidden not in caught_up
        assert seen not in caught_up  # catching up asks again
        assert key not in caught_up
        assert hidden not in repr(webhook.__dict__)
    assert is_shut(practice.get(following.partition("/fhir/")[2]))


def test_a_patient_subscribes_to_the_own_record_and_nobody_elses(
    exchange: Exchange, hospital: Client, practice: Client, key: str
) -> None:
    """Commands are told to nobody but the patient, and users of one application know nothing of each other's."""
    own = str(register(hospital, 1).json["id"])
    myself, app = exchange.client("patient-1"), "patient-1"
    with PumpedWebhook(exchange.pump) as webhook, PumpedWebhook(exchange.pump) as theirs:
        for criteria in ("", f"Patient?patient=Patient/{key}", f"Patient?patient=Patient/{'0' * 16}"):
            refused = myself.post("Subscription", subscription(webhook.url, "access-changed", criteria))
            assert refusal(refused) == (422, "not-supported")
        told = subscribe(myself, webhook, "access-changed", f"Patient?patient=Patient/{own}")
        neighbour = Somebody(exchange, client_id=app, role="patient", patient=examples.ins(2))
        assert neighbour.get(f"Subscription/{told}").status == 404
        heard = subscribe(practice, theirs, "anything-changed")
        done(myself, own, "set-preferences", agree_research=True)
        exchange.pump.run_until_idle()
        catch_up = "$events?eventsSinceNumber=1&eventsUntilNumber=9"
        assert own in myself.get(f"Subscription/{told}/{catch_up}").body.decode()
        assert own not in practice.get(f"Subscription/{heard}/{catch_up}").body.decode()


def subscribe(client: Client, webhook: PumpedWebhook, topic: str, criteria: str = "") -> str:
    answer = client.post("Subscription", subscription(webhook.url, topic, criteria))
    assert answer.status == 201, answer.body
    webhook.secret = answer.header("X-Passerelle-Webhook-Secret") or ""
    assert webhook.wait_for("handshake", 5)
    return str(answer.json["id"])


def subscription(url: str, topic: str, criteria: str) -> dict[str, Any]:
    content = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition"
    asked: dict[str, Any] = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "care coordination",
        "criteria": f"https://passerelle.example/SubscriptionTopic/{topic}",
        "channel": {
            "type": "rest-hook",
            "endpoint": url,
            "payload": "application/fhir+json",
            "_payload": {"extension": [{"url": f"{content}/backport-payload-content", "valueCode": "id-only"}]},
        },
    }
    if criteria:
        extension = {"url": f"{content}/backport-filter-criteria", "valueString": criteria}
        asked["_criteria"] = {"extension": [extension]}
    return asked


# --- authorisations ---------------------------------------------------------------------------------------------------


def test_dmp_11_an_authorisation_is_the_patients_or_attested(
    exchange: Exchange, practice: Client, patient: Client, key: str
) -> None:
    """For herself or her organisation, with the patient's consent; the patient takes back any."""
    assert refusal(order(practice, key, "authorize-access")) == (422, "required")
    assert refusal(order(practice, key, "authorize-access", party=ins(1), consent=True)) == (422, "value")
    other = {"system": RPPS, "value": "10000000011"}
    assert refusal(order(practice, key, "authorize-access", party=other, consent=True)) == (403, "forbidden")
    over = {"start": "2026-01-01", "end": "2026-01-31"}
    assert refusal(order(practice, key, "authorize-access", period=over, consent=True)) == (422, "value")
    attested = done(practice, key, "authorize-access", period={"end": "2099-12-31"}, consent=True)
    assert (attested["party"], attested["consent"], attested["until"]) == (DOCTOR, True, "2100-01-01T00:00:00.000Z")
    done(practice, key, "authorize-access", party=PRACTICE, consent=True)
    (first, second) = standing(patient, key)["access"]
    assert (first["party"], first["basis"], second["party"]) == (DOCTOR, "authorisation", PRACTICE)
    assert standing(exchange.client("hospital-b"), key).get("access") is None
    done(patient, key, "end-access", party=DOCTOR)
    assert [each["party"] for each in standing(practice, key)["access"]] == [PRACTICE]
    assert refusal(order(practice, key, "end-access")) == (409, "conflict")
    assert refusal(order(patient, key, "authorize-access")) == (422, "required")


# --- proxies ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def child(hospital: Client) -> str:
    return str(register(hospital, CHILD).json["id"])


def test_a_parents_mandate_ends_with_the_childhood(exchange: Exchange, practice: Client, child: str) -> None:
    """It is attested, or given by the other parent, until the 18th birthday; a guardian's is open."""
    mother, father = proxy_of(exchange, CHILD, 4), proxy_of(exchange, CHILD, 7)
    assert mother.get(f"Patient/{child}/$record-status").status == 404
    assert refusal(order(practice, child, "appoint-proxy", holder=ins(4), kind="parent")) == (422, "required")
    given = done(practice, child, "appoint-proxy", holder=ins(4), kind="parent", consent=True)
    assert given["until"] == "2042-01-31T00:00:00.000Z"
    assert mother.get(f"Patient/{child}").status == 200
    given = done(mother, child, "appoint-proxy", holder=ins(7), kind="parent", period={"end": "2030-12-31"})
    assert given["until"] == "2031-01-01T00:00:00.000Z"
    assert [each["kind"] for each in standing(father, child)["proxy"]] == ["parent", "parent"]
    assert refusal(order(father, child, "end-proxy", holder=ins(4))) == (403, "forbidden")
    assert refusal(order(patient_of(exchange, CHILD), child, "end-proxy", holder=ins(4)))[0] == 403
    done(father, child, "end-proxy")
    assert father.get(f"Patient/{child}/$record-status").status == 404


def test_a_grown_up_has_no_parent_and_nobody_is_the_own_proxy(
    exchange: Exchange, practice: Client, patient: Client, key: str, number: int
) -> None:
    refused = order(practice, key, "appoint-proxy", holder=ins(19), kind="parent", consent=True)
    assert refusal(refused) == (422, "business-rule")
    assert refusal(order(patient, key, "appoint-proxy", holder=ins(number), kind="carer")) == (422, "business-rule")
    assert refusal(order(patient, key, "appoint-proxy", holder=DOCTOR, kind="carer")) == (422, "value")
    assert refusal(order(patient, key, "appoint-proxy", holder=ins(19), kind="friend")) == (400, "code-invalid")


def test_a_carer_sees_what_is_released(
    exchange: Exchange, hospital: Client, patient: Client, key: str, number: int
) -> None:
    """Item by item, from the next request on, and decides nothing."""
    shown, kept = (hospital.post("Observation", examples.observation(key)).json["id"] for _ in range(2))
    carer, stranger = proxy_of(exchange, number, 19), proxy_of(exchange, number, 18)
    done(patient, key, "appoint-proxy", holder=ins(19), kind="carer")
    assert carer.get(f"Observation/{shown}").status == 404
    elsewhere = hospital.post("Observation", examples.observation(str(register(hospital, 18).json["id"]))).json["id"]
    for unknown in (elsewhere, f"{key}-{'0' * 26}"):
        refused = order(patient, key, "release", holder=ins(19), references=[f"Observation/{unknown}"])
        assert refusal(refused) == (422, "not-found")
    done(patient, key, "release", holder=ins(19), references=[f"Observation/{shown}"])
    assert carer.get(f"Observation/{shown}").status == 200
    assert carer.get(f"Observation/{kept}").status == 404
    found = carer.get(f"Observation?patient={key}").json
    assert (found["total"], found["entry"][0]["resource"]["id"]) == (1, shown)
    assert stranger.get(f"Observation/{shown}").status == 404
    for operation, given in (
        ("release", {"holder": ins(19), "references": [f"Observation/{kept}"]}),
        ("block", {"party": DOCTOR}),
        ("appoint-proxy", {"holder": ins(18), "kind": "carer"}),
        ("set-preferences", {"oppose_emergency": True}),
    ):
        assert refusal(order(carer, key, operation, **given)) == (403, "forbidden"), operation
    assert refusal(carer.post(f"Patient/{key}/$close-record", motive("deces"))) == (403, "forbidden")
    done(patient, key, "block", party=DOCTOR)
    own = standing(carer, key)
    assert [each["holder"] for each in own["proxy"]] == [ins(19)]
    assert ("block" in own, "oppose-emergency" in own) == (False, False)
    assert {each["party"]["value"] for each in own["decision"]} == {ins_of(19)}
    done(patient, key, "withdraw-release", holder=ins(19), references=[f"Observation/{shown}"])
    assert carer.get(f"Observation/{shown}").status == 404


def motive(code: str) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": [{"name": "motive", "valueCode": code}]}


# --- preferences ------------------------------------------------------------------------------------------------------


def test_dmp_5_a_regulation_centre_sees_unless_the_patient_opposes(
    exchange: Exchange, hospital: Client, patient: Client, key: str, number: int
) -> None:
    """DMP-5: no authorisation is asked for, DMP-3 still holds; the opposition binds the next request."""
    centre = Somebody(
        exchange,
        client_id="samu",
        role="regulation",
        organisation=SAMU,
        professional="810000000300",
        scope="TD0.2 system/*.rs",
    )
    dmp = f"Patient?identifier={quote(examples.ins(number))}"
    (found,) = centre.get(dmp).json["entry"]
    assert (found["resource"]["id"], found["resource"]["active"]) == (key, True)
    assert centre.get(f"Observation?patient={key}").status == 200
    done(patient, key, "set-preferences", oppose_regulation=True)
    assert is_shut(centre.get(dmp))
    assert is_shut(centre.get(f"Observation?patient={key}"))
    done(patient, key, "set-preferences", oppose_regulation=False)
    assert centre.get(dmp).status == 200
    done(patient, key, "block", party={"system": IDNST, "value": SAMU})
    assert is_shut(centre.get(dmp))
    assert is_shut(centre.get(f"Patient/{key}"))


def test_preferences_are_the_patients(exchange: Exchange, practice: Client, patient: Client, key: str) -> None:
    answer = order(patient, key, "set-preferences", oppose_emergency=True, agree_research=True)
    kinds = [plain(each["part"])["kind"] for each in answer.json["parameter"]]
    assert kinds == ["emergency-opposed", "research-agreed"]
    assert refusal(order(patient, key, "set-preferences", agree_research=True)) == (409, "conflict")
    assert refusal(order(patient, key, "set-preferences")) == (422, "required")
    assert refusal(order(practice, key, "set-preferences", oppose_emergency=False)) == (403, "forbidden")
    told = standing(patient, key)
    assert (told["oppose-emergency"], told["oppose-regulation"], told["agree-research"]) == ([True], [False], [True])


# --- every command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "given"),
    [
        ("block", {"party": DOCTOR}),
        ("unblock", {"party": DOCTOR}),
        ("set-preferences", {"oppose_emergency": True}),
        ("appoint-proxy", {"holder": ins(3), "kind": "carer"}),
        ("end-proxy", {"holder": ins(3)}),
        ("release", {"holder": ins(3), "references": [f"Observation/{'0' * 16}-{'0' * 26}"]}),
    ],
)
def test_what_is_the_patients_is_no_professionals(
    exchange: Exchange, practice: Client, child: str, operation: str, given: dict[str, Any]
) -> None:
    expected = (422, "required") if operation == "end-proxy" else (403, "forbidden")  # papers are attested
    assert refusal(order(practice, child, operation, **given)) == expected
    stranger = patient_of(exchange, 5)
    assert order(stranger, child, operation, **given).status == 404
    assert order(exchange.client("steward"), child, operation, **given).status == 403


@pytest.mark.parametrize(
    ("operation", "body", "expected"),
    [
        ("block", {}, (400, "required")),
        ("block", {"party": {"system": IDNPS}}, (400, "value")),
        ("block", {"party": {"system": IDNPS, "value": "1"}}, (422, "value")),
        ("block", {"holder": DOCTOR}, (400, "not-supported")),
        ("unblock", {"party": DOCTOR}, (409, "conflict")),
        ("authorize-access", {"party": DOCTOR, "period": {"end": "tomorrow"}}, (400, "value")),
        ("release", {"holder": ins(3), "references": ["Observation?x=y"]}, (400, "value")),
        ("release", {"holder": ins(3), "references": ["Observation/1"]}, (409, "conflict")),
        ("withdraw-release", {"holder": ins(3)}, (400, "required")),
    ],
)
def test_what_does_not_fit(
    exchange: Exchange, child: str, operation: str, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert refusal(order(patient_of(exchange, CHILD), child, operation, **body)) == expected


def test_a_decision_is_kept_audited_announced_and_made_once(
    exchange: Exchange, practice: Client, patient: Client, key: str
) -> None:
    """The history is the patient's; a professional reads of the record as such and of the own decisions."""
    once = {"Idempotency_Key": f"block-{key}"}
    first = patient.post(f"Patient/{key}/$block", parameters(party=DOCTOR, reason="Différend"), **once)
    done(patient, key, "unblock", party=DOCTOR)
    again = patient.post(f"Patient/{key}/$block", parameters(party=DOCTOR, reason="Différend"), **once)
    assert (first.status, again.body) == (200, first.body)
    done(practice, key, "authorize-access", consent=True)
    kinds = [each["kind"] for each in standing(patient, key)["decision"]]
    assert kinds == ["blocked", "unblocked", "access-authorised"]
    assert [each["kind"] for each in standing(practice, key)["decision"]] == ["access-authorised"]
    assert "decision" not in standing(exchange.client("hospital-b"), key)
    names = [item["name"]["S"] for item in exchange.table("audit") if item.get("patient", {}).get("S") == key]
    assert names.count("$block") == 2  # the repetition is an access, too
    outbox = [item for item in exchange.table("clinical") if item["PK"]["S"].startswith("O#") and key in str(item)]
    assert "access-changed" in str(outbox)
    assert DOCTOR["value"] not in str(outbox)


def test_two_decisions_at_once_both_hold(exchange: Exchange, hospital: Client) -> None:
    """Neither overwrites the other: who comes second decides on what the first left."""
    key = str(register(hospital, 1).json["id"])
    doctors = [{"system": IDNPS, "value": f"81000000{each:04}"} for each in range(2)]
    callers = [exchange.client("patient-1"), exchange.client("representative-1")]
    for each in callers:
        each.token()
    with ThreadPoolExecutor(2) as pool:
        orders = [
            pool.submit(order, caller, key, "block", party=party)
            for caller, party in zip(callers, doctors, strict=True)
        ]
        assert [each.result().status for each in orders] == [200, 200]
    blocked = standing(callers[0], key)["block"]
    assert {each["party"]["value"] for each in blocked} == {each["value"] for each in doctors}
