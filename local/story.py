"""The story that runs through every part of the exchange: what `passerelle demo` plays and `make bench` measures.

A hospital registers a person and publishes a document, another one knows the same person, a laboratory sends results,
a practice finds them, prescribes and is told of what happens, a pharmacy dispenses; everything leaves an access record.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import httpx
from joserfc import jws
from joserfc.jwk import JWKRegistry

from local import samples
from local.exchange import ExchangeClient, Jwk
from local.region import IDNPS, IDNST, INS_TEST, PARTICIPANTS, RELIABILITY, RELIABILITY_CODES, ins_of, people, person
from local.webhook import Webhook

NUMBER: Final = 1  # of the person in the synthetic region that the story is about
_DOUBTFUL: Final = 18  # Paul Antoine to one hospital, Antoine to the other
_FIRST_HOSPITAL: Final = "urn:oid:2.999.1"
_SECOND_HOSPITAL: Final = "urn:oid:2.999.2"
_TOPIC: Final = "https://passerelle.example/SubscriptionTopic/anything-changed"
_BACKPORT: Final = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition"
_CONTENT: Final = f"{_BACKPORT}/backport-payload-content"
_FILTER: Final = f"{_BACKPORT}/backport-filter-criteria"
_TOLD: Final = "DocumentReference,MedicationDispense,Observation,Patient,Task"
_AUTHOR: Final = {"system": "urn:iso-astm:E1762-95:2013", "code": "1.2.840.10065.1.12.1.1"}


class StoryError(Exception):
    """The exchange did not do what the story tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One request of the story with its answer. `note` is what it shows, in one line."""

    chapter: str
    title: str
    client: str
    method: str
    path: str
    sent: bytes
    status: int
    received: bytes
    seconds: float
    note: str = ""


Tell = Callable[[Step], None]
Measured = Callable[[str], AbstractContextManager[Any]]


class Story:
    """Plays the story with the clients of the synthetic region; raises StoryError at the first surprise.

    `measured` is entered around each request, with the step's title. Without a `webhook` nobody is notified.
    """

    def __init__(
        self,
        clients: Callable[[str], ExchangeClient],
        keys: Mapping[str, Jwk],
        tell: Tell,
        *,
        webhook: Webhook | None,
        measured: Measured = lambda _: nullcontext(),
    ) -> None:
        self._clients = clients
        self._keys = keys
        self._tell = tell
        self._webhook = webhook
        self._measured = measured
        self._chapter = ""
        self._findings: list[str] = []  # what a pharmacist has to answer for with each supply
        self.subscription = ""  # `Subscription/id`, once there is one
        self._now = datetime.now(UTC)

    @property
    def today(self) -> date:
        return self._now.astimezone(ZoneInfo("Europe/Paris")).date()

    def play(self) -> None:
        self._tokens()
        patient = self._people()
        stranger = self._identities()
        if self._webhook is not None:
            self._subscribe(self._webhook, patient)
        document = self._document(patient)
        self._controlled(patient, document)
        self._results(patient)
        self._prescription(patient)
        self._messages(patient)
        self._at_home(patient)
        self._decided(patient)
        self._refusals(patient, stranger)
        if self._webhook is not None:
            self._notified(self._webhook)
        self._accesses(patient)

    # --- chapters ---------------------------------------------------------------------------------------------------

    def _tokens(self) -> None:
        self._chapter = "1. A system gets a token"
        for client_id in (
            "hospital-a",
            "hospital-b",
            "practice",
            "laboratory",
            "pharmacy-a",
            "pharmacy-b",
            "patient-1",
            "auditor",
            "steward",
        ):
            client = self._clients(client_id)
            began = time.perf_counter()
            with self._measured("token"):
                token = client.token()
            payload = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
            self._tell(
                Step(
                    chapter=self._chapter,
                    title="token",
                    client=client_id,
                    method="POST",
                    path="/oauth2/token",
                    sent=f"client_assertion={self._keys[client_id]['alg']} ...".encode(),
                    status=200,
                    received=json.dumps(payload).encode(),
                    seconds=time.perf_counter() - began,
                    note=f"role {payload['role']}, {payload['exp'] - payload['iat']} s",
                )
            )

    def _people(self) -> str:
        self._chapter = "2. A hospital registers a person, a practice finds them"
        local, patient = next(iter(people(_FIRST_HOSPITAL)))
        patient["telecom"] = [{"system": "phone", "value": f"+33 9 99 {uuid.uuid4().int % 1_000_000:06d}"}]
        self._call(
            "register (ITI-104)",
            "hospital-a",
            "PUT",
            f"Patient?identifier={_FIRST_HOSPITAL}|{local}",
            (200, 201),
            patient,
        )
        found = self._call("find by INS (ITI-78)", "practice", "GET", f"Patient?identifier={self._ins}", (200,))
        by_date = f"Patient?birthdate={patient['birthDate']}&family=dup"
        again = self._call("find by birth date and name", "practice", "GET", by_date, (200,))
        dmp = self._call("DMP status (TD0.2)", "practice", "GET", f"Patient?identifier={self._ins}", (200,))
        (key,) = _ids(found)
        self._must(key in _ids(again), "the same person is found")
        self._must(dmp.json()["entry"][0]["resource"]["active"] is True, "the shared record is open")
        return key

    def _identities(self) -> str:
        """Leaves the index as it was, but for the link; returns the key of somebody else's record."""
        self._chapter = "3. Two hospitals, one person"
        place = f"Patient?identifier={_SECOND_HOSPITAL}|"
        self._call("register without INS", "hospital-b", "PUT", f"{place}4711", (200, 201), _validated("4711", NUMBER))
        asked = f"Patient/$ihe-pix?sourceIdentifier={_SECOND_HOSPITAL}|4711"
        known = self._call("cross-reference (ITI-83)", "practice", "GET", asked, (200,))
        told = [part.get("valueIdentifier", {}).get("system") for part in known.json()["parameter"]]
        self._must({_FIRST_HOSPITAL, INS_TEST} <= set(told), "the records are linked")
        misspelt = {"family": "DUPOND", "given": ["Elise"]}
        traits = {"resourceType": "Patient", "name": [misspelt], "gender": "female", "birthDate": "1955-06-14"}
        sent = samples.parameters(resource__resource=traits)
        matches = self._call("match (ITI-119)", "practice", "POST", "Patient/$match", (200,), sent).json()
        self._must(matches["total"] == 1, "one person matches")
        local = f"{_DOUBTFUL:06d}"
        theirs = person(_FIRST_HOSPITAL, local, _DOUBTFUL)
        url = f"Patient?identifier={_FIRST_HOSPITAL}|{local}"
        first = self._call("register somebody else", "hospital-a", "PUT", url, (200, 201), theirs).json()["id"]
        named = [{"use": "official", "family": theirs["name"][0]["family"], "given": ["Antoine"]}]
        other = _validated("4712", _DOUBTFUL) | {"name": named}
        second = self._call("register by another name", "hospital-b", "PUT", f"{place}4712", (200, 201), other).json()[
            "id"
        ]
        self._stewarded(first, second)
        self._call("withdraw (ITI-104)", "hospital-b", "DELETE", f"{place}4712", (200,))
        return str(first)

    def _stewarded(self, first: str, second: str) -> None:
        self._call("worklist", "steward", "GET", "Patient/$reviews?_count=5", (200,))
        card = self._call("what is known of the record", "steward", "GET", f"Patient/{second}/$identity", (200,)).json()
        about = {f"Patient/{first}", f"Patient/{second}"}
        reviews = [part["part"] for part in card["parameter"] if part["name"] == "review"]
        asked = [_parameter({"parameter": each}, "id") for each in reviews if about == _references(each)]
        self._must(len(asked) == 1, "the two records are asked about")
        because = {"reason__valueString": "identity card seen at the desk"}
        decision = samples.parameters(review__valueId=asked[0], decision__valueCode="same", **because)
        self._command("decide", "steward", "Patient/$decide", (200,), decision)
        mistaken = {"patient__valueReference": {"reference": f"Patient/{second}"}}
        sent = samples.parameters(**mistaken, reason__valueString="the card was his brother's")
        apart = self._command("take it back", "steward", "Patient/$unlink", (200,), sent).json()
        self._must(_references(apart["parameter"]) == {f"Patient/{second}"}, "they are two people again")

    def _subscribe(self, webhook: Webhook, patient: str) -> None:
        """It is in no care relation yet: it names whom it means."""
        self._chapter = "4. The practice asks to be told"
        answer = self._call(
            "subscribe",
            "practice",
            "POST",
            "Subscription",
            (201,),
            {
                "resourceType": "Subscription",
                "status": "requested",
                "reason": "care coordination",
                "criteria": _TOPIC,
                "_criteria": {"extension": [{"url": _FILTER, "valueString": f"{_TOLD}?patient=Patient/{patient}"}]},
                "channel": {
                    "type": "rest-hook",
                    "endpoint": webhook.url,
                    "payload": "application/fhir+json",
                    "_payload": {"extension": [{"url": _CONTENT, "valueCode": "id-only"}]},
                },
            },
        )
        webhook.secret = answer.headers["X-Passerelle-Webhook-Secret"]
        self._must(webhook.wait_for("handshake", 30), "the handshake arrives")
        self.subscription = f"Subscription/{answer.json()['id']}"
        for _ in range(40):
            if self._clients("practice").request("GET", self.subscription).json()["status"] == "active":
                return
            time.sleep(0.25)
        raise StoryError("the subscription did not become active")

    def _document(self, patient: str) -> str:
        """The id of the document that stands at the end."""
        self._chapter = "5. The hospital publishes a document, the practice reads it"
        content = samples.CDA + f"<!-- {uuid.uuid4()} -->".encode()
        bundle = samples.submission(
            f"Patient?identifier={self._ins}", content=content, unique=f"urn:uuid:{uuid.uuid4()}"
        )
        self._call("publish (ITI-65)", "hospital-a", "POST", "", (200,), bundle)
        asked = f"DocumentReference?patient={patient}&status=current&type=11488-4&_count=1"
        listed = self._call("list (ITI-67)", "practice", "GET", asked, (200,))
        attachment = listed.json()["entry"][0]["resource"]["content"][0]["attachment"]
        retrieved = self._call("retrieve (ITI-68)", "practice", "GET", attachment["url"], (200,), accept="*/*")
        self._must(retrieved.content == content, "the same bytes come back")
        first = listed.json()["entry"][0]["resource"]["id"]
        corrected = samples.replacement(
            f"Patient?identifier={self._ins}", first, content=content + b" ", unique=f"urn:uuid:{uuid.uuid4()}"
        )
        replaced = self._call("replace (TD2.1)", "hospital-a", "POST", "", (200,), corrected)
        self._call("the first is superseded", "practice", "GET", attachment["url"], (410,), accept="*/*")
        made = [str(each["response"].get("location", "")).split("/") for each in replaced.json()["entry"]]
        return next(part[1] for part in made if part[0] == "DocumentReference" and part[1] != first)

    def _controlled(self, patient: str, document: str) -> None:
        self._chapter = "6. A result is announced first; the patient hides, shows, shares"
        place = f"DocumentReference/{document}"
        sent = samples.document(f"Patient?identifier={self._ins}", unique=f"urn:uuid:{uuid.uuid4()}")
        sent["securityLabel"] = [samples.label("INVISIBLE_PATIENT")]
        published = self._call(
            "publish, hidden from the patient (ITI-105)", "laboratory", "POST", "DocumentReference", (201,), sent
        )
        result = f"DocumentReference/{published.json()['id']}"
        self._call("not there for the patient", "patient-1", "GET", result, (404,))
        announced = samples.patch(("replace", "/securityLabel/0", samples.confidentiality("N")))
        self._call("announced (TD3.3b)", "practice", "PATCH", result, (200,), announced)
        self._call("there for the patient", "patient-1", "GET", result, (200,))
        masked = samples.patch(("add", "/securityLabel/-", samples.label("MASQUE_PS")))
        self._call("the patient masks a document (TD3.3a)", "patient-1", "PATCH", place, (200,), masked)
        self._call("not there for the practice", "practice", "GET", place, (404,))
        listed = self._call(
            "nor in a list", "practice", "GET", f"DocumentReference?patient={patient}&status=current", (200,)
        )
        self._must(document not in listed.text, "nothing tells of a masked document")
        shown = samples.patch(("replace", "/securityLabel/0", samples.confidentiality("N")))
        self._call("and shows it again", "patient-1", "PATCH", place, (200,), shown)
        purpose = samples.parameters(purpose__valueCode="TREAT", recipient__valueString="Dr MARCHAND, Genève")
        link = self._command("a link for a doctor abroad", "patient-1", f"{place}/$share", (201,), purpose)
        url = _parameter(link.json(), "url")
        self._call("opened once", "patient-1", "POST", url, (200,), accept="*/*", token="")
        self._call("and no second time", "patient-1", "POST", url, (404,), accept="*/*", token="")
        withdrawn = samples.patch(("replace", "/status", "entered-in-error"))
        self._call("the laboratory withdraws its result (TD3.3c)", "laboratory", "PATCH", result, (200,), withdrawn)
        asked = f"Patient/{patient}/$changes?_type=DocumentReference&_count=200"
        page = self._call("what changed (delta)", "practice", "GET", asked, (200,)).json()
        entries = page["entry"]
        while following := next((each["url"] for each in page["link"] if each["relation"] == "next"), None):
            page = (
                self._clients("practice").request("GET", following).json()
            )  # of a record that this is played in often
            entries += page.get("entry", [])
        deleted = [each["request"]["url"] for each in entries if each["request"]["method"] == "DELETE"]
        self._must(result in deleted, "a copy of the record drops what was withdrawn")

    def _results(self, patient: str) -> None:
        self._chapter = "7. A laboratory sends results, the practice searches them"
        bundle = samples.laboratory_results(self._ins, self.today)
        self._call("transaction", "laboratory", "POST", "", (200,), bundle)
        criteria = f"Observation?patient={patient}&code={samples.LOINC}|718-7&date=ge{self.today.year}"
        found = self._call("search", "practice", "GET", criteria, (200,))
        self._must(found.json()["total"] >= 1, "the result is found")

    def _prescription(self, patient: str) -> None:
        self._chapter = "8. A prescription: signed, routed, claimed, dispensed, taken back"
        task, code = self._issue(patient)
        sent = samples.parameters(pharmacy__valueIdentifier=self._house("pharmacy-a"))
        self._command("the patient sends it to a pharmacy", "patient-1", f"Task/{task}/$route", (200,), sent)
        held = self._command("claim, without a code", "pharmacy-a", f"Task/{task}/$accept", (200,), None)
        self._findings = _open_findings(held.json(), "hard-stop", "acknowledge")
        secret = _parameter(held.json()["entry"][0]["resource"], "secret")
        claim = samples.parameters(accessCode__valueString=code)
        other = self._command("claim by another pharmacy", "pharmacy-b", f"Task/{task}/$accept", (403,), claim)
        self._must(self._organisation("pharmacy-a") not in other.text, "the refusal does not name the holder")
        line = f"{task}-01"
        waits = samples.parameters(secret__valueString=secret, reason__valueCode="awaiting-stock")
        self._command("keep it while the stock comes", "pharmacy-a", f"Task/{line}/$extend-lease", (200,), waits)
        half = self._supply("dispense half", "pharmacy-a", patient, line, secret, 10)
        place = f"MedicationDispense/{_resource(half.json(), 'dispense')['id']}/$withdraw"
        back = samples.parameters(reason__valueCode="not-collected")
        taken = self._command("not collected: taken back", "pharmacy-a", place, (200,), back).json()
        self._must(float(_parameter(taken, "remaining")) == 20, "the ledger has all of it again")
        for quantity, statuses in ((10, (200,)), (10, (200,)), (1, (409,))):
            title = "dispense what is left" if statuses == (200,) else "and no tablet more"
            self._supply(title, "pharmacy-a", patient, line, secret, quantity, statuses)
        history = self._call("its history, which proves itself", "patient-1", "GET", f"Task/{task}/$history", (200,))
        self._must(is_proved(history.json()), "every event is hashed onto the one before")

        self._chapter = "9. Two medicines that must not meet"
        risky, code = self._create(patient, samples.CLARITHROMYCIN)
        prepared = self._command("what to sign, and what was found", "practice", f"Task/{risky}/$prepare", (200,), None)
        stops = _open_findings(prepared.json(), "hard-stop")
        self._must(bool(stops), "the two are found together")
        signature = self._signed(prepared.json(), risky)
        self._command("a contraindication stops it", "practice", f"Task/{risky}/$activate", (422,), signature)
        answers = [_answer("override", each, "treatment-stopped", "colchicine arrêtée hier") for each in stops]
        told: dict[str, Any] = {"resourceType": "Parameters", "parameter": answers}
        prepared = self._command(
            "with a reason, which is signed too", "practice", f"Task/{risky}/$prepare", (200,), told
        )
        signature = self._signed(prepared.json(), risky)
        told = {"resourceType": "Parameters", "parameter": [*answers, {"name": "provenance", "resource": signature}]}
        self._command("activate", "practice", f"Task/{risky}/$activate", (200,), told)
        claim = samples.parameters(accessCode__valueString=code)
        paper = self._call(
            "on paper, with its QR code",
            "practice",
            "POST",
            f"Task/{risky}/$print",
            (200,),
            claim,
            accept="application/pdf",
        )
        self._must(paper.content.startswith(b"%PDF-"), "a PDF")
        held = self._command("the pharmacist is shown why", "pharmacy-b", f"Task/{risky}/$accept", (200,), claim)
        self._must("colchicine arrêtée hier" in held.text, "the reason that the prescriber signed")
        self._findings = _open_findings(held.json(), "hard-stop", "acknowledge")
        secret = _parameter(held.json()["entry"][0]["resource"], "secret")
        self._supply("dispense", "pharmacy-b", patient, f"{risky}-01", secret, 20, product=samples.CLARITHROMYCIN)
        asked = self._command(
            "the patient asks for more", "patient-1", f"Task/{task}-01/$request-renewal", (201,), None
        )
        waiting = asked.headers["Location"].rpartition("/")[2]
        approved = samples.parameters(answer__valueCode="approve")
        draft = self._command(
            "the practice agrees: a draft", "practice", f"Task/{waiting}/$respond-renewal", (200,), approved
        )
        self._must(draft.json()["resourceType"] == "Bundle", "it still has to be signed")
        listed = self._call(
            "the patient's prescriptions",
            "patient-1",
            "GET",
            f"Task?patient={patient}&code=fulfil-prescription",
            (200,),
        )
        self._must(len(listed.json()["entry"]) >= 3, "all three")
        third, _ = self._issue(patient, samples.DOLIPRANE)
        reason = samples.parameters(reason__valueCode="prescribing-error")
        self._command("cancel", "practice", f"Task/{third}/$cancel", (200,), reason)

    def _supply(
        self,
        title: str,
        client: str,
        patient: str,
        line: str,
        secret: str,
        quantity: int,
        statuses: tuple[int, ...] = (200,),
        product: str = samples.COLCHICINE,
    ) -> httpx.Response:
        dispense = samples.supply(patient, self._house(client), quantity, product)
        body = samples.parameters(secret__valueString=secret, dispense__resource=dispense)
        body["parameter"] += [_answer("acknowledge", each, "patient-informed") for each in self._findings]
        return self._command(title, client, f"Task/{line}/$dispense", statuses, body)

    def _house(self, client: str) -> dict[str, str]:
        return {"system": IDNST, "value": self._organisation(client)}

    def _create(self, patient: str, product: str) -> tuple[str, str]:
        order = samples.prescription(patient, self._professional("practice"), self.today, product)
        created = self._command("create", "practice", "Task/$create", (201,), order)
        return created.headers["Location"].rpartition("/")[2], _parameter(
            created.json()["entry"][0]["resource"], "accessCode"
        )

    def _issue(self, patient: str, product: str = samples.COLCHICINE) -> tuple[str, str]:
        task, code = self._create(patient, product)
        prepared = self._command("prepare", "practice", f"Task/{task}/$prepare", (200,), None).json()
        answers = [_answer("override", each, "already-tolerated") for each in _open_findings(prepared, "hard-stop")]
        if answers:  # of what is left from another time that the story was played
            told: dict[str, Any] = {"resourceType": "Parameters", "parameter": answers}
            prepared = self._command("with reasons", "practice", f"Task/{task}/$prepare", (200,), told).json()
        signature = {"name": "provenance", "resource": self._signed(prepared, task)}
        told = {"resourceType": "Parameters", "parameter": [*answers, signature]}
        self._command("activate", "practice", f"Task/{task}/$activate", (200,), told)
        return task, code

    def _signed(self, prepared: dict[str, Any], task: str) -> dict[str, Any]:
        key = self._keys["practice"]
        content = base64.b64decode(_parameter(prepared, "content"))
        header = json.loads(base64.urlsafe_b64decode(_parameter(prepared, "protected") + "=="))
        compact = jws.serialize_compact(header, content, JWKRegistry.import_key(dict(key)), algorithms=[key["alg"]])
        protected, _, signature = compact.split(".")
        who = {"identifier": {"system": "urn:oid:1.2.250.1.71.4.2.1", "value": self._professional("practice")}}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return {
            "resourceType": "Provenance",
            "target": [{"reference": f"Task/{task}"}],
            "recorded": now,
            "agent": [{"who": who}],
            "signature": [
                {
                    "type": [_AUTHOR],
                    "when": now,
                    "who": who,
                    "targetFormat": "application/fhir+json",
                    "sigFormat": "application/jose",
                    "data": base64.b64encode(f"{protected}..{signature}".encode()).decode(),
                }
            ],
        }

    def _messages(self, patient: str) -> None:
        self._chapter = "10. A hospital and a laboratory send HL7 v2"
        number = self._now.strftime("%Y%m%d%H%M%S%f")
        left = samples.discharge(self._local, number, self._now)
        acknowledged = self._call("discharge (ADT^A03)", "hospital-a", "POST", "/hl7v2", (200,), left)
        self._must("MSA|AA|" in acknowledged.text, "it is acknowledged once it is applied")
        again = self._call("the same again", "hospital-a", "POST", "/hl7v2", (200,), left)
        self._must(again.content == acknowledged.content, "the acknowledgement is the same")
        stays = self._call("the stay", "practice", "GET", f"Encounter?patient={patient}&status=finished", (200,))
        self._must(stays.json()["total"] >= 1, "the stay is over")
        result = samples.biology(ins_of(NUMBER), number, self._now)
        acknowledged = self._call("results (ORU^R01)", "laboratory", "POST", "/hl7v2", (200,), result)
        self._must("MSA|AA|" in acknowledged.text, "who the patient is follows from the INS")
        found = self._call(
            "the result", "practice", "GET", f"Observation?patient={patient}&code={samples.LOINC}|2823-3", (200,)
        )
        self._must(found.json()["entry"][0]["resource"]["valueQuantity"]["value"] == 5.9, "a number stays a number")
        unknown = samples.discharge("nobody", f"{number}-2", self._now).replace("ADT^A03^ADT_A03", "ADT^A60")
        refused = self._call("what is not taken", "hospital-a", "POST", "/hl7v2", (200,), unknown)
        self._must("MSA|AR|" in refused.text, "the sender hears so")

    def _at_home(self, patient: str) -> None:
        self._chapter = "11. At home: a glucometer, and an alert"
        goal = self._call("what it should be", "practice", "POST", "Goal", (201,), samples.glucose_goal(patient))
        plan = samples.glucose_plan(patient, goal.json()["id"], self._now)
        place = f"CarePlan/{self._call('a care plan', 'practice', 'POST', 'CarePlan', (201,), plan).json()['id']}"
        measured = samples.glucose(patient, self._now, 118, 131, 279)
        sent = "Observation/$submit-measurements"
        first = self._call("three measurements", "hospital-a", "POST", sent, (200,), measured)
        self._must(_statuses(first) == ["201", "201", "201"], "they are stored")
        again = self._call("sent again", "hospital-a", "POST", sent, (200,), measured)
        self._must(_statuses(again) == ["200", "200", "200"], "and stored once")
        status = self._call("how it stands", "practice", "GET", f"{place}/$monitoring-status", (200,)).json()
        alert = next(iter(_references(_parts(status))))
        self._command("the practice answers the alert", "practice", f"{alert}/$acknowledge", (200,), None)
        note = samples.parameters(note__valueString="insulin adapted, seen tomorrow")
        self._command("and closes it", "practice", f"{alert}/$resolve", (200,), note)

    def _decided(self, patient: str) -> None:
        self._chapter = "12. The patient decides who looks; an emergency opens the record"
        asked = f"Observation?patient={patient}&code={samples.LOINC}|718-7"
        physician = {"system": IDNPS, "value": self._professional("practice")}
        place = f"Patient/{patient}"
        party = samples.parameters(party__valueIdentifier=physician)
        self._command("the patient blocks a physician", "patient-1", f"{place}/$block", (200,), party)
        self._call("the record is shut", "practice", "GET", asked, (403,))
        self._command("and lets the physician in again", "patient-1", f"{place}/$unblock", (200,), party)
        self._call("the record is open", "practice", "GET", asked, (200,))
        house = {"system": IDNST, "value": self._organisation("hospital-a")}
        refused = self._call(
            "a consent that refuses (ITI-108)",
            "patient-1",
            "POST",
            "Consent",
            (201,),
            samples.consent(patient, house, "deny"),
        )
        shut = self._call("the record is shut, but for an emergency", "practice", "GET", asked, (403,))
        self._must("break-glass-possible" in shut.text, "the refusal says that an emergency opens the record")
        glass = samples.parameters(reason__valueCode="unconscious", text__valueString="found unconscious at home")
        self._command("the physician breaks the glass", "practice", f"{place}/$break-glass", (200,), glass)
        self._call("the record is open for some hours", "practice", "GET", asked, (200,))
        listed = self._call("a supervisor looks at it", "auditor", "GET", "Patient/$break-glass-uses", (200,))
        self._must("parameter" in listed.json(), "the emergency is listed")
        self._call("the patient reads why", "patient-1", "GET", f"{place}/$record-status", (200,))
        withdrawn = {**refused.json(), "status": "inactive"}
        self._call(
            "and withdraws the refusal", "patient-1", "PUT", f"Consent/{refused.json()['id']}", (200,), withdrawn
        )

    def _refusals(self, patient: str, stranger: str) -> None:
        self._chapter = "13. What is refused, and how"
        wrong = {"resourceType": "Observation", "status": "done", "code": {"text": "x"}}
        self._call("invalid resource", "practice", "POST", "Observation", (422,), wrong)
        self._call("somebody else's record", "patient-1", "GET", f"Patient/{stranger}", (404,))
        self._call("no scope", "auditor", "GET", f"Patient/{patient}", (403,))
        self._call("forged token", "practice", "GET", f"Patient/{patient}", (401,), token="a.b.c")

    def _notified(self, webhook: Webhook) -> None:
        self._chapter = "14. The practice was told"
        began = time.perf_counter()
        self._must(webhook.wait_for("MedicationDispense", 30), "the notification arrives")
        numbers = webhook.numbers()
        self._must(numbers == sorted(numbers) and len(set(numbers)) == len(numbers), "no number is missing or twice")
        self._tell(
            Step(
                chapter=self._chapter,
                title="notifications",
                client="practice",
                method="POST",
                path=webhook.url,
                sent=b"",
                status=200,
                received=json.dumps(webhook.summary()).encode(),
                seconds=time.perf_counter() - began,
                note=f"{len(numbers)} events, signatures verified",
            )
        )

    def _accesses(self, patient: str) -> None:
        self._chapter = "15. Every access left a record, which can be explained"
        found = self._call(
            "who saw my record (ITI-81)",
            "patient-1",
            "GET",
            f"AuditEvent?patient=Patient/{patient}&date=ge{self._now.date().isoformat()}&_count=20",
            (200,),
        )
        self._must(len(found.json().get("entry", [])) >= 10, "the accesses of this story are there")
        day = self._now.date().isoformat()
        decided = self._call(
            "what was decided about it",
            "patient-1",
            "GET",
            f"AuditEvent?patient=Patient/{patient}&date=ge{day}&subtype=AuthZ-Consent&_count=20",
            (200,),
        )
        self._must(len(decided.json().get("entry", [])) >= 10, "each access rests on a decision")
        event = decided.json()["entry"][0]["resource"]["id"]
        self._call("why somebody was let in", "patient-1", "GET", f"AuditEvent/{event}/$explain", (200,))
        told = self._call(
            "the same in plain French",
            "patient-1",
            "GET",
            f"Patient/{patient}/$access-history?_language=fr&_count=100",
            (200,),
        )
        self._must("urgence" in told.text.lower(), "the emergency stands out")

    # --- requests ---------------------------------------------------------------------------------------------------

    @property
    def _local(self) -> str:
        """The number that the first hospital knows the person by."""
        return next(local for local, _ in people(_FIRST_HOSPITAL))

    @property
    def _ins(self) -> str:
        return f"{INS_TEST}|{ins_of(NUMBER)}"

    def _organisation(self, client_id: str) -> str:
        return next(each.organisation for each in PARTICIPANTS if each.id == client_id)

    def _professional(self, client_id: str) -> str:
        return next(str(each.professional) for each in PARTICIPANTS if each.id == client_id)

    def _command(
        self, title: str, client_id: str, path: str, statuses: tuple[int, ...], body: dict[str, Any] | None
    ) -> httpx.Response:
        return self._call(
            title, client_id, "POST", path, statuses, body or {"resourceType": "Parameters"}, is_command=True
        )

    def _call(
        self,
        title: str,
        client_id: str,
        method: str,
        path: str,
        statuses: tuple[int, ...],
        body: dict[str, Any] | list[dict[str, Any]] | str | None = None,
        *,
        accept: str = "application/fhir+json",
        token: str | None = None,
        is_command: bool = False,
    ) -> httpx.Response:
        client = self._clients(client_id)
        headers = {"Accept": accept}
        if is_command:
            headers["Idempotency-Key"] = str(uuid.uuid4())
        if token is not None:
            headers["Authorization"] = f"Bearer {token}" if token else ""
        options: dict[str, Any] = {"json": body} if body is not None else {}
        if isinstance(body, str):
            headers["Content-Type"] = "application/hl7-v2; charset=utf-8"
            options = {"content": body.encode()}
        if isinstance(body, list):
            headers["Content-Type"] = "application/json-patch+json"
            options = {"content": json.dumps(body).encode()}
        began = time.perf_counter()
        with self._measured(title):
            place = f"{client.url}{path}" if path.startswith("/") else path
            answer = client.request(method, place, headers=headers, **options)
        self._tell(
            Step(
                chapter=self._chapter,
                title=title,
                client=client_id,
                method=method,
                path=answer.request.url.raw_path.decode(),
                sent=answer.request.content,
                status=answer.status_code,
                received=answer.content,
                seconds=time.perf_counter() - began,
            )
        )
        self._must(answer.status_code in statuses, f"{title} answers {answer.status_code}: {answer.text[:400]}")
        return answer

    def _must(self, holds: bool, what: str) -> None:
        if not holds:
            raise StoryError(f"{self._chapter}: expected that {what}")


def _parameter(resource: dict[str, Any], name: str) -> str:
    part = next(part for part in resource["parameter"] if part["name"] == name)
    return str(next(value for key, value in part.items() if key.startswith("value")))


def _open_findings(answer: Mapping[str, Any], *behaviours: str) -> list[str]:
    """The ids of the findings of these behaviours that nobody has answered for."""
    parts = answer.get("parameter") or answer.get("entry", [])
    issues = [part["resource"] for part in parts if part.get("resource", {}).get("resourceType") == "DetectedIssue"]
    asking = [each for each in issues if "mitigation" not in each]
    return [
        each["identifier"][0]["value"]
        for each in asking
        if any(f'"{behaviour}"' in json.dumps(each["extension"]) for behaviour in behaviours)
    ]


def _answer(name: str, finding: str, reason: str, text: str | None = None) -> dict[str, Any]:
    parts = [{"name": "finding", "valueString": finding}, {"name": "reason", "valueCode": reason}]
    if text is not None:
        parts.append({"name": "text", "valueString": text})
    return {"name": name, "part": parts}


def _resource(parameters: dict[str, Any], name: str) -> dict[str, Any]:
    """The resource of a parameter."""
    return next(part["resource"] for part in parameters["parameter"] if part["name"] == name)


def is_proved(history: Mapping[str, Any]) -> bool:
    """Whether the history of a prescription proves itself: each event is hashed onto the one before, up to the head."""
    told, *entries = [entry["resource"] for entry in history["entry"]]
    previous = _parameter(told, "origin")
    for change in entries:
        proof = next((each for each in change.get("extension", []) if each["url"].endswith("/rx-event")), None)
        if proof is None:
            continue
        parts = {part["url"]: next(v for k, v in part.items() if k != "url") for part in proof["extension"]}
        hashed = hashlib.sha256(bytes.fromhex(previous) + base64.b64decode(parts["event"])).hexdigest()
        if (parts["previous"], parts["hash"]) != (previous, hashed):
            return False
        previous = hashed
    return previous == _parameter(told, "head")


def _statuses(answer: httpx.Response) -> list[str]:
    """Of the entries of a batch."""
    return [entry["response"]["status"][:3] for entry in answer.json()["entry"]]


def _parts(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for parameter in parameters["parameter"] for part in parameter.get("part", [])]


def _references(parameters: list[dict[str, Any]]) -> set[str]:
    return {part["valueReference"]["reference"] for part in parameters if "valueReference" in part}


def _ids(found: httpx.Response) -> list[str]:
    return [entry["resource"]["id"] for entry in found.json().get("entry", [])]


def _validated(local: str, number: int) -> dict[str, Any]:
    """A person of the region as the second hospital registers them: by an identity card, without the INS."""
    patient = person(_SECOND_HOSPITAL, local, number)
    status = {"coding": [{"system": RELIABILITY_CODES, "code": "VALI"}]}
    parts = [{"url": "identityStatus", "valueCodeableConcept": status}]
    others = [each for each in patient["extension"] if each["url"] != RELIABILITY]
    return patient | {
        "extension": [{"url": RELIABILITY, "extension": parts}, *others],
        "identifier": [each for each in patient["identifier"] if each["system"] == _SECOND_HOSPITAL],
    }
