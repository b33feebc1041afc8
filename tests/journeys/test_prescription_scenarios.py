"""The scenarios of gematik's public end-to-end suite, retold as ours: what happens here in the same situation.

Contract of prescriptions, section 19, row 13. One line of the table is one of their situations, in our words; a step
is `who does what -> status code`, and without an arrow it succeeds. Where this exchange means to behave otherwise, the
story says how; what has no counterpart here is listed with the reason.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from functions.directory.handler import handler as directory
from local.region import INS_TEST, ins_of, person
from passerelle import wiring
from passerelle.access import Caller
from passerelle.directory.model import Role
from passerelle.fhir.patient import FhirPatientDraft
from passerelle.fhir.prescriptions.orders import STRUCTURE
from tests.prescribing import (
    OTHER_PRACTICE,
    PATIENT,
    PHARMACY_A,
    PHARMACY_B,
    PRACTICE,
    Region,
    bundle,
    provenance,
    region,
    request,
)
from tests.prescribing_http import Answer, Api, parameters, supply

DOMAIN = "urn:oid:2.999.3"
PEOPLE = 6


def actors(number: int) -> Mapping[str, Caller]:
    """Who plays: one of the region's people, and two pharmacies of their own, whose wrong codes nobody else counts."""
    patient = replace(PATIENT, patient=f"{INS_TEST}|{ins_of(person_of(number))}")
    return {
        "doctor": PRACTICE,
        "hospital": OTHER_PRACTICE,
        "A": replace(PHARMACY_A, organisation=f"19{number:08}"),
        "B": replace(PHARMACY_B, organisation=f"18{number:08}"),
        "patient": patient,
        "proxy": replace(patient, client_id="proxy-1", role=Role.REPRESENTATIVE),
        "stranger": replace(PATIENT, client_id="patient-2", patient=f"{INS_TEST}|{ins_of(person_of(number + 1))}"),
    }


def person_of(number: int) -> int:
    return 1 + number % PEOPLE


ISSUED = "doctor drafts; doctor signs; "
CLAIMED = ISSUED + "A accepts; "
DISPENSED = CLAIMED + "A dispenses 90; "

SCENARIOS: Mapping[str, tuple[str, str]] = {
    # --- one prescription, from the doctor to the counter (their workflow 160)
    "160-shown": ("what is prescribed shows", ISSUED + "patient reads; line is held-any"),
    "160-dispensed": (
        "code, claim, supply; the patient and the pharmacy see the end of it, as often as they want",
        DISPENSED + "line is dispensed; line has 1 supply; patient reads; A reads; A reads",
    ),
    "160-prescriber-cancels": (
        "what nobody holds is cancelled at once",
        ISSUED + "doctor cancels; line is cancelled; A accepts -> 410 RX-CANCELLED",
    ),
    "160-patient-cancels": (
        "so may the patient",
        ISSUED + "patient cancels; line is cancelled; A accepts -> 410 RX-CANCELLED; B accepts -> 410 RX-CANCELLED",
    ),
    "160-cancel-while-claimed": (
        "theirs refuses; here the pharmacy is asked to stop, and the prescriber knows",
        CLAIMED + "doctor cancels -> 202; line is cancel-pending; A dispenses 90 -> 409 RX-CANCEL-PENDING; "
        "A rejects; line is cancelled",
    ),
    "160-given-back": (
        "who gave it back cannot supply it",
        CLAIMED + "A rejects; line is held-any; A dispenses 90 -> 409 RX-NOT-CLAIMED",
    ),
    "160-closed-by-pharmacy": (
        "theirs deletes; here the line is closed with its reason",
        CLAIMED + "A declines patient-refused close; line is not-dispensed; A dispenses 90 -> 409 RX-REFUSED",
    ),
    "160-accepted-twice": (
        "the holder cannot claim again by mistake",
        CLAIMED + "A accepts -> 409 RX-ALREADY-YOURS",
    ),
    "160-second-pharmacy": (
        "of two pharmacies one has it",
        CLAIMED + "B accepts -> 409 RX-CLAIMED-BY-OTHER",
    ),
    "160-pharmacy-without-claim-closes": (
        "nothing is closed without a claim",
        ISSUED + "A declines patient-refused close -> 403 RX-SECRET; line is held-any",
    ),
    "160-patient-cancels-claimed": (
        "the patient cannot take it away from the counter",
        CLAIMED + "patient cancels -> 409 RX-CLAIMED-BY-OTHER",
    ),
    "160-patient-cancels-dispensed": (
        "theirs lets it be deleted; here what was supplied stays on record",
        DISPENSED + "patient cancels -> 409 RX-DONE; line has 1 supply",
    ),
    "160-dispensed-twice": ("what is done is done", DISPENSED + "A dispenses 90 -> 409 RX-DONE"),
    "160-wrong-secret-dispense": (
        "a wrong secret supplies nothing",
        CLAIMED + "A dispenses 90 wrong -> 403 RX-SECRET; A dispenses 90",
    ),
    "160-wrong-secret-decline": (
        "a wrong secret closes nothing",
        CLAIMED + "A declines patient-refused close wrong -> 403 RX-SECRET",
    ),
    "160-wrong-secret-reject": (
        "a wrong secret gives nothing back",
        CLAIMED + "A rejects wrong -> 403 RX-SECRET",
    ),
    "160-pharmacy-prescribes": ("a pharmacy prescribes nothing", "A drafts -> 403 RX-ROLE"),
    "160-pharmacist-signs": ("nor does it sign", "doctor drafts; A signs -> 403 RX-ROLE; line is draft"),
    "160-read-by-proxy": ("who represents the patient sees it", ISSUED + "proxy reads"),
    "160-cancelled-by-proxy": (
        "theirs asks for the access code; here the mandate counts",
        ISSUED + "stranger cancels -> 404 RX-NOT-FOUND; proxy cancels; line is cancelled",
    ),
    "160-secret-lost": (
        "a lost secret is replaced, and the old one is dead",
        CLAIMED + "A accepts recover; A dispenses 90 first -> 409 RX-LEASE-LOST; A dispenses 90",
    ),
    "160-read-unclaimed": ("no claim, nothing to see", ISSUED + "A reads -> 404 RX-NOT-FOUND"),
    "160-read-by-other-pharmacy": (
        "what one pharmacy holds the other does not see",
        CLAIMED + "B accepts -> 409 RX-CLAIMED-BY-OTHER; B reads -> 404 RX-NOT-FOUND",
    ),
    # --- what theirs leaves to the software around it, and breaks on
    "160-unsigned": (
        "an unsigned draft is not supplied",
        "doctor drafts; A accepts -> 409 RX-NOT-SIGNED; line is draft",
    ),
    "160-signed-by-another": (
        "who has not prescribed does not sign",
        "doctor drafts; hospital signs -> 404 RX-NOT-FOUND; line is draft",
    ),
    "160-without-code": ("no code, no claim", ISSUED + "A accepts without -> 403 RX-ACCESS-CODE"),
    "160-changed-bytes": ("what is signed is what was prepared", "doctor drafts; doctor missigns -> 422 RX-SIGNATURE"),
    "160-signed-twice": ("a signature is given once", ISSUED + "doctor signs -> 409 RX-STATE; line is held-any"),
    "160-next-pharmacy": (
        "given back, another pharmacy supplies it",
        CLAIMED + "A rejects; B accepts; B dispenses 90; line is dispensed",
    ),
    "160-late-with-old-secret": (
        "given back and claimed by another: the old secret opens nothing",
        CLAIMED + "A rejects; B accepts; A dispenses 90 -> 409 RX-LEASE-LOST; B dispenses 90",
    ),
    "160-too-much": ("more than is prescribed", CLAIMED + "A dispenses 91 -> 422 RX-QUANTITY; A dispenses 90"),
    # --- several packs, and the rest of them
    "md-several-packs": (
        "three packs of two sizes for one line",
        CLAIMED + "A dispenses 10; A dispenses 40; A dispenses 40; line has 3 supplies; line is dispensed",
    ),
    "md-owed": (
        "theirs deletes what was supplied by whom gives it back; here it stays, and another pharmacy supplies the rest",
        CLAIMED
        + "A dispenses 30; A rejects; line is owing; line has 1 supply; B accepts; B dispenses 61 -> 422 RX-QUANTITY; "
        "B dispenses 60; line is dispensed; line has 2 supplies",
    ),
    # --- what the patient learns meanwhile
    "now-partial": (
        "each supply shows at once, and the next one too",
        CLAIMED + "A dispenses 30; patient reads; line has 1 supply; A dispenses 30; line is partially-dispensed; "
        "line has 2 supplies",
    ),
    "now-corrected": (
        "theirs overwrites; here an entry is taken back, and a right one made",
        CLAIMED + "A dispenses 30; A withdraws; line has 0 supplies; A dispenses 60; line has 1 supply",
    ),
    "now-corrected-after-the-end": (
        "theirs refuses; here the line opens again",
        DISPENSED + "A withdraws; line is held-any; B accepts; B dispenses 90; line has 1 supply",
    ),
    "now-unclaimed": (
        "nothing is told before a claim",
        ISSUED + "A dispenses 30 -> 403 RX-SECRET; line has 0 supplies",
    ),
    # --- sent to one pharmacy (their workflow 169, and assignment by message)
    "169-direct": (
        "the prescriber sends it to one pharmacy",
        "doctor drafts; doctor routes A; doctor signs; line is routed; A accepts without; A dispenses 90",
    ),
    "169-elsewhere": (
        "another pharmacy needs the code and the patient's word",
        "doctor drafts; doctor routes A; doctor signs; B accepts -> 409 RX-ROUTED-ELSEWHERE; B accepts override; "
        "B dispenses 90",
    ),
    "169-patient-cancels": (
        "theirs refuses until it is dispensed; here an unclaimed line is the patient's",
        "doctor drafts; doctor routes A; doctor signs; patient cancels; A accepts without -> 410 RX-CANCELLED",
    ),
    "169-cancel-during-supply": (
        "not while it is being dispensed",
        "doctor drafts; doctor routes A; doctor signs; A accepts without; patient cancels -> 409 RX-CLAIMED-BY-OTHER",
    ),
    "169-cancel-after-supply": (
        "nor after",
        "doctor drafts; doctor routes A; doctor signs; A accepts without; A dispenses 90; "
        "patient cancels -> 409 RX-DONE",
    ),
    "com-assigned": (
        "the patient sends it to a pharmacy",
        ISSUED + "patient routes A; A accepts without; A dispenses 90; line is dispensed",
    ),
    "com-assigned-by-proxy": (
        "so may who represents the patient",
        ISSUED + "proxy routes A; A accepts without",
    ),
    "com-assigned-too-late": ("not once it is dispensed", DISPENSED + "patient routes B -> 409 RX-DONE"),
    "com-changed-mind": (
        "nor while it is held; but before, as often as wanted",
        ISSUED + "patient routes A; patient routes B; A accepts without -> 403 RX-ACCESS-CODE; B accepts without; "
        "patient routes A -> 409 RX-CLAIMED-BY-OTHER",
    ),
    "com-practice-asks": (
        "a practice that is not concerned asks nothing",
        ISSUED + "hospital routes A -> 404 RX-NOT-FOUND; hospital reads -> 404 RX-NOT-FOUND",
    ),
    "com-question": (
        "theirs asks the pharmacy; here the pharmacy that holds it asks the prescriber",
        CLAIMED + "A asks; doctor answers",
    ),
    "com-question-unclaimed": ("who does not hold it asks nothing", ISSUED + "A asks -> 403 RX-SECRET"),
    # --- supplied several times (their multiple prescription, two to four parts)
    "mvo-first": (
        "the first part, then wait",
        "doctor drafts repeats; doctor signs; A accepts; A dispenses 90; line is awaiting-next; "
        "A accepts -> 422 RX-TOO-EARLY",
    ),
    "mvo-not-yet": ("a validity that starts later has no place here", "doctor drafts later -> 400 RX-INVALID"),
    "mvo-parts": (
        "theirs knows two to four parts; here supplies and their amount are checked",
        "doctor drafts uncounted -> 400 RX-INVALID",
    ),
    "mvo-cancelled": (
        "what remains is cancelled, what was supplied stays",
        "doctor drafts repeats; doctor signs; A accepts; A dispenses 90; doctor cancels; "
        "line is cancelled; line has 1 supply",
    ),
}

ELSEWHERE: Mapping[str, str] = {
    "receipt signature": "tier T3; the 200 of the supply is the permission, and its event in the history",
    "messages between patient and pharmacy, and deleting them (7 scenarios)": "tier T3",
    "assigned to oneself": "no address is sent to: a pharmacy is named, or none",
    "the pharmacy may not read the supply": "it reads its own: it is answerable for it",
    "discharge prescriptions, date of acceptance (2)": "a German insurance date; validity is tested with its vectors",
    "kinds of medicine and of insurance (4)": "German forms; products are coded, whichever the system",
    "length of the product number": "codes are compared, not parsed; what is unknown is said to be unknown",
    "multiple prescriptions for others, of a discharge, linked by an id (4)": "one line with repeats here",
    "private insurance: consent, billing data, marks, changes (19)": "billing is not a matter of this exchange",
    "digital applications (13)": "no medicine, and no pharmacy",
    "health card in the pharmacy (4)": "no card is read: code, routing, or the patient",
    "notification of the pharmacy (2)": "subscriptions; tested with them",
}


@dataclass
class Play:
    """One prescription and what its actors hold."""

    api: Api
    actors: Mapping[str, Caller]
    product: Mapping[str, Any]
    id: str = ""
    code: str = ""
    secrets: dict[str, list[str]] = field(default_factory=dict)
    dispense: str = ""

    def step(self, text: str) -> None:
        told, _, expected = text.partition(" -> ")
        who, does, *how = told.split()
        if who == "line":
            self._check(does, *how)
            return
        answer: Answer = getattr(self, f"_{does}")(self.actors[who], *how)
        status, _, code = expected.partition(" ")
        assert answer.status in ({int(status)} if status else {200, 201}), (text, answer.body)
        assert not code or answer.code == (int(status), code), (text, answer.body)

    def _check(self, verb: str, expected: str, *_: str) -> None:
        line = self.api.read(f"/Task/{self.id}-01").body
        if verb == "is":
            assert line["businessStatus"]["coding"][0]["code"] == expected
        else:
            supplies = [each for each in line.get("output", []) if each["type"]["text"] == "supply"]
            assert len(supplies) == int(expected)

    def _on(self, operation: str, body: Any, by: Caller, part: str = "") -> Answer:
        answer = self.api.call(f"/Task/{self.id}{part}/{operation}", body, by=by)
        self.code = next(iter(told_in(answer.body, "accessCode")), self.code)
        return answer

    def _drafts(self, by: Caller, *how: str) -> Answer:
        days = {"value": 30, "unit": "jours", "system": "http://unitsofmeasure.org", "code": "d"}
        given: dict[str, Any] = {"expectedSupplyDuration": days}
        given |= {"numberOfRepeatsAllowed": 2} if "repeats" in how else {}
        given |= {"validityPeriod": {"start": "2100-01-01"}} if "later" in how else {}
        changes = {**self.product, "dispenseRequest": given}
        changes |= {"dosageInstruction": [{"text": "x"}]} if "uncounted" in how else {}
        created = self.api.call("/Task/$create", bundle(self.api.order(**changes)), by=by)
        if created.status == 201:
            self.id, self.code = created.resources("Task")[0]["id"], created.told("accessCode")
        return created

    def _signs(self, by: Caller, *how: str) -> Answer:
        prepared = self.api.call(f"/Task/{self.id}/$prepare", key=None, by=by)
        content = base64.b64decode(prepared.told("content")).decode() if prepared.status == 200 else "{}"
        content = content.replace("8", "9") if how else content
        return self._on("$activate", provenance(content, at=datetime.now(UTC)), by)

    def _missigns(self, by: Caller) -> Answer:
        return self._signs(by, "wrong")

    def _accepts(self, by: Caller, *how: str) -> Answer:
        given: dict[str, Any] = {} if "without" in how else {"accessCode": self.code}
        given |= {"recover": True} if "recover" in how else {}
        given |= {"overrideRouting": True} if "override" in how else {}
        answer = self._on("$accept", parameters(**given) if given else {"resourceType": "Parameters"}, by)
        if answer.status == 200:
            self.secrets.setdefault(by.client_id, []).append(answer.told("secret"))
        return answer

    def _secret(self, by: Caller, how: tuple[str, ...]) -> str:
        held = self.secrets.get(by.client_id, ["none"])
        return "wrong" if "wrong" in how else held[0] if "first" in how else held[-1]

    def _dispenses(self, by: Caller, units: str, *how: str) -> Answer:
        body = supply(self._secret(by, how), float(units))
        body["parameter"][1]["resource"] |= self.product
        answer = self._on("$dispense", body, by, "-01")
        if answer.status == 200:
            self.dispense = answer.told("dispense")["id"]
        return answer

    def _withdraws(self, by: Caller) -> Answer:
        path = f"/MedicationDispense/{self.dispense}/$withdraw"
        return self.api.call(path, parameters(reason="wrong-quantity"), by=by, scope="system/*.cruds")

    def _rejects(self, by: Caller, *how: str) -> Answer:
        return self._on("$reject", parameters(secret=self._secret(by, how), reason="out-of-stock"), by)

    def _declines(self, by: Caller, reason: str, outcome: str, *how: str) -> Answer:
        body = parameters(secret=self._secret(by, how), reason=reason)
        body["parameter"].append({"name": "outcome", "valueCode": outcome})
        return self._on("$decline", body, by)

    def _cancels(self, by: Caller) -> Answer:
        reason = "prescribing-error" if by.role == Role.PRACTICE else "patient-request"
        return self._on("$cancel", parameters(reason=reason), by)

    def _routes(self, by: Caller, to: str) -> Answer:
        pharmacy = {"system": STRUCTURE, "value": self.actors[to].organisation}
        listed = {"resourceType": "Organization", "identifier": [pharmacy], "name": to}
        self.api.call("/Organization", listed, by=OTHER_PRACTICE, function=directory, scope="system/Organization.c")
        part = {"name": "pharmacy", "valueIdentifier": pharmacy}
        return self._on("$route", {"resourceType": "Parameters", "parameter": [part]}, by)

    def _reads(self, by: Caller) -> Answer:
        return self.api.read(f"/Task/{self.id}", by=by)

    def _asks(self, by: Caller) -> Answer:
        body = parameters(secret=self._secret(by, ()), text="matin ou soir ?")
        body["parameter"].append({"name": "topic", "valueCode": "clarify"})
        return self._on("$request-change", body, by, "-01")

    def _answers(self, by: Caller) -> Answer:
        body = parameters(text="le soir")
        body["parameter"].append({"name": "answer", "valueCode": "clarify"})
        return self._on("$respond-change", body, by, "-r01")


def told_in(body: Any, name: str) -> list[str]:
    entries = [each["resource"] for each in body.get("entry", [])] or [body]
    parts = [part for each in entries for part in each.get("parameter", [])]
    return [part["valueString"] for part in parts if part["name"] == name]


@pytest.fixture(scope="module")
def stage() -> Iterator[Mapping[int, Region]]:
    with region() as made:
        yield {number: replace(made, patient=registered(number)) for number in range(1, PEOPLE + 1)}


def registered(number: int) -> str:
    draft = FhirPatientDraft(person(DOMAIN, f"{number:06}", number), wiring.identity_scheme())
    asked = request(PRACTICE, "conditional-update")
    return wiring.patient_service().register(asked, (DOMAIN, f"{number:06}"), draft)[0].patient


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario(stage: Mapping[int, Region], name: str) -> None:
    """Contract, section 19, row 13."""
    number = list(SCENARIOS).index(name)
    play = Play(Api(stage[person_of(number)]), actors(number), product(f"699{number:05}"))
    for step in SCENARIOS[name][1].split(";"):
        if step.strip():
            play.step(step.strip())


def product(cis: str) -> Mapping[str, Any]:
    """One that no other scenario supplies to the same person, as that would be found and told."""
    system = "http://data.esante.gouv.fr/ansm/medicament/SpecialitePharmaceutique"
    return {"medicationCodeableConcept": {"coding": [{"system": system, "code": cis}]}}


def test_what_is_told_elsewhere_says_why() -> None:
    assert all(ELSEWHERE.values())
