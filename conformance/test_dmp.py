"""The French shared record (DMP) on FHIR: ANS PDSm4DMP, draft 0.1.0. TD3.1 and TD3.2 stand beside ITI-67 and ITI-68."""

from __future__ import annotations

import copy
from typing import Any, Final
from urllib.parse import quote, urlencode

import pytest

from conformance.checks import all_pages, expect, ids, labels, ok, refused, searchset
from conformance.profile import Profile
from conformance.server import Actor
from conformance.shelf import Known, Published, Shelf
from conformance.submissions import (
    ARCHIVED,
    NORMAL,
    URI,
    Resource,
    fhirpath_patch,
    label,
    replacing,
    simplified,
    the,
    unique_id,
)

pytestmark = pytest.mark.option("dmp")

SHELF: Final = "first"  # whom the patient and the representative speak for
_AT_ZERO: Final = "/securityLabel/0"
_ARCHIVE: Final = f"/extension[url:'{ARCHIVED}']/valueBoolean"


def _op(path: str, value: Any, op: str = "replace") -> list[Resource]:
    return [{"op": op, "path": path, "value": value}]


def _labelled(shelf: Shelf, *codes: str) -> Published:
    return shelf.published(securityLabel=[copy.deepcopy(NORMAL), *(label(each) for each in codes)])


def _narrowed(author: Actor, profile: Profile, name: str) -> Actor:
    """The author with a token of one scope only."""
    if name not in profile.scopes:
        pytest.skip(f"the profile names no scope “{name}”")
    return author.with_scope(profile.scopes[name])


def _absent(shelf: Shelf, made: Published, by: Actor) -> None:
    """For this caller the document is as if it did not exist."""
    refused(by.get(made.reference), 404, "not-found")
    refused(by.get(made.binary, Accept="*/*"), 404, "not-found")
    answer = by.get(f"DocumentReference?patient={shelf.person.id}&identifier={quote(f'{URI}|{made.unique}')}")
    expect(searchset(answer) == [] and ok(answer)["total"] == 0, "it is in no search, and not counted", ok(answer))


def _present(shelf: Shelf, made: Published, by: Actor) -> None:
    expect(shelf.read(made, by)["id"] == made.id, "the document is read")
    expect(ids(shelf.find(made.unique, by=by)) == [made.id], "and found")
    answer = by.get(made.binary, Accept="*/*")
    expect((answer.status_code, answer.content) == (200, made.content), "and its content retrieved", answer.status_code)


# --- TD0.2 ------------------------------------------------------------------------------------------------------------


def _state(author: Actor, profile: Profile, identifier: str) -> list[Resource]:
    narrowed = _narrowed(author, profile, "administrative")
    return searchset(narrowed.get(f"Patient?identifier={quote(identifier)}"))


def _extensions(resource: Resource) -> dict[str, Resource]:
    return {each["url"].rpartition("/")[2]: each for each in resource.get("extension", ())}


@pytest.mark.row("DMP-1")
def test_dmp_1_open(author: Actor, profile: Profile, first: Known) -> None:
    (found,) = _state(author, profile, first.person.identifier)
    expect(found["active"] is True, "active is true: the record is open", found["active"])
    expect("dmp-rattachement-mes" in _extensions(found), "dmp-rattachement-mes is told", list(_extensions(found)))


@pytest.mark.row("DMP-1")
def test_dmp_1_none(author: Actor, profile: Profile, first: Known) -> None:
    found = _state(author, profile, f"{first.person.system}|199019999999999")
    expect(found == [], "nobody is found under an unknown identifier", ids(found))
    if "without_record" in profile.people:
        found = _state(author, profile, profile.people["without_record"].identifier)
        expect(found == [], "nobody is found who has no record", ids(found))


@pytest.mark.row("DMP-1")
def test_dmp_1_closed(author: Actor, profile: Profile) -> None:
    closed = _of(profile, "closed")
    (found,) = _state(author, profile, closed)
    expect(found["active"] is False, "active is false: the record is closed", found["active"])
    told = _extensions(found).get("dmp-fermeture", {})
    parts = {each["url"] for each in told.get("extension", ())}
    expect("dateFermeture" in parts, "dmp-fermeture tells dateFermeture, motifFermeture, raisonFermeture", parts)
    links = [each.get("type") for each in found.get("link", ())]
    expect("replaced-by" not in links, "a closed record is not a replaced identity", links)


def _of(profile: Profile, name: str) -> str:
    if name not in profile.people:
        pytest.skip(f"the profile names no person “{name}”")
    return profile.people[name].identifier


@pytest.mark.row("DMP-2")
def test_dmp_2_two_meanings_of_active(author: Actor, profile: Profile) -> None:
    closed = _of(profile, "closed")
    identity = _narrowed(author, profile, "identity")
    (of_record,) = _state(author, profile, closed)
    found = searchset(identity.get(f"Patient?identifier={quote(closed)}"))
    expect(of_record["active"] is False, "TD0.2: the record is closed", of_record["active"])
    expect(found and all(each.get("active") for each in found), "ITI-78: the identity is in use", found)
    expect("dmp-fermeture" not in _extensions(found[0]), "ITI-78 does not tell of the record")


@pytest.mark.row("DMP-4")
@pytest.mark.parametrize(
    ("query", "code"), [("", "required"), ("?identifier=255060000100183", "value")], ids=["missing", "without system"]
)
def test_dmp_4_identifier(author: Actor, profile: Profile, query: str, code: str) -> None:
    refused(_narrowed(author, profile, "administrative").get(f"Patient{query}"), 400, code)


@pytest.mark.row("DMP-4")
def test_dmp_4_other_system(author: Actor, profile: Profile) -> None:
    answer = _narrowed(author, profile, "administrative").get("Patient?identifier=urn:oid:2.999.4711|1")
    severities = frozenset({"warning", "error"})  # PDQm has a warning here
    refused(answer, 404, "not-found", saying="targetSystem not found", severities=severities)


# --- TD2 --------------------------------------------------------------------------------------------------------------


@pytest.mark.row("DMP-7")
@pytest.mark.parametrize("name", ["closed", "opposed", "without_record", "unqualified"])
def test_dmp_7_no_open_record(author: Actor, profile: Profile, name: str) -> None:
    resource = simplified(f"Patient?identifier={_of(profile, name)}")
    by = _narrowed(author, profile, "feeding") if name == "unqualified" else author
    refused(by.post("DocumentReference", resource), 422, "business-rule")


@pytest.mark.row("DMP-7")
@pytest.mark.parametrize("form", ["ITI-105", "ITI-65"])
def test_dmp_7_hidden_from_the_beginning(shelf: Shelf, patient: Actor, form: str) -> None:
    security = [copy.deepcopy(NORMAL), label("INVISIBLE_PATIENT")]
    if form == "ITI-65":
        made = shelf.published(securityLabel=security)
    else:
        resource = simplified(shelf.person.reference) | {"securityLabel": security}
        created = ok(shelf.author.post("DocumentReference", resource), 201)
        unique = resource["masterIdentifier"]["value"]
        binary = created["content"][0]["attachment"]["url"]
        made = Published(
            id=created["id"], set="", unique=unique, set_unique="", binary=binary, content=shelf.published().content
        )
    expect(set(labels(shelf.read(made))) == {"N", "INVISIBLE_PATIENT"}, "both labels are stored")
    _absent(shelf, made, patient)


@pytest.mark.row("DMP-8")
@pytest.mark.option("relations")
def test_dmp_8_td21(shelf: Shelf, first: Known) -> None:
    """As the published example …99999.3."""
    old = shelf.published(shelf.submission(level="pdsm"))
    bundle = shelf.submission(level="pdsm")
    for kind in ("List", "DocumentReference"):
        the(bundle, kind)["subject"] = {"reference": first.condition}
    replacing(bundle, old.reference)
    bundle["entry"][2], bundle["entry"][3] = bundle["entry"][3], bundle["entry"][2]
    entries = shelf.send(bundle)
    statuses = [each["response"]["status"][:3] for each in entries]
    expect(statuses == ["201", "201", "200", "201"], "List, document, PATCH and Binary, in this order", statuses)
    found = shelf.find(old.unique, the(bundle, "DocumentReference")["masterIdentifier"]["value"])
    stored = {each["masterIdentifier"]["value"]: each["status"] for each in found}
    expect(stored.pop(old.unique) == "superseded", "the old document is superseded")
    expect(list(stored.values()) == ["current"], "the new one is current", stored)


@pytest.mark.row("DMP-9")
@pytest.mark.option("relations")
@pytest.mark.parametrize("case", ["unknown", "hidden", "another person's"])
def test_dmp_9_not_to_be_replaced(shelf: Shelf, second: Known, professional: Actor, case: str) -> None:
    by, target, code = shelf.author, f"DocumentReference/{unique_id()[-20:].replace('.', '0')}", "not-found"
    if case == "hidden":
        by, target = professional, _labelled(shelf, "MASQUE_PS").reference
    if case == "another person's":
        target, code = Shelf(shelf.author, second).published().reference, "business-rule"
    bundle = replacing(shelf.submission(), target)
    refused(by.post("", bundle), 422, code)
    shelf.nothing_of({"entry": bundle["entry"][:3]})


# --- TD3.1 ------------------------------------------------------------------------------------------------------------


@pytest.mark.row("DMP-12")
@pytest.mark.option("relations")
def test_dmp_12_since_the_last_visit(shelf: Shelf, first: Known) -> None:
    relabelled, old = shelf.published(), shelf.published()
    visit = shelf.read(old)["meta"]["lastUpdated"]
    untouched = shelf.find(relabelled.unique)[0]["id"]
    new = shelf.published()
    ok(shelf.author.patch(relabelled.reference, _op(_AT_ZERO, label("MASQUE_PSOCIAL"))))
    bundle = replacing(shelf.submission(), old.reference)
    shelf.send(bundle)
    replacement = the(bundle, "DocumentReference")["masterIdentifier"]["value"]
    query = urlencode({"patient.identifier": first.person.identifier, "_lastUpdated": f"gt{visit}", "_count": 200})
    found = {each["id"]: each for each in all_pages(shelf.author, f"DocumentReference?{query}")}
    expect(new.id in found, "the new document is found")
    expect(untouched in found, "the relabelled document is found, under the same id")
    made = [each for each in found.values() if each["masterIdentifier"]["value"] == replacement]
    expect(len(made) == 1 and made[0].get("relatesTo"), "the replacement is found, with relatesTo", made)


@pytest.mark.row("DMP-14")
def test_dmp_14_feeding_only(shelf: Shelf, profile: Profile, professional: Actor, first: Known) -> None:
    feeding = _narrowed(shelf.author, profile, "feeding")
    mine = shelf.published()
    bundle = shelf.submission()
    other = the(bundle, "DocumentReference")["masterIdentifier"]["value"]
    shelf.send(bundle, by=professional)
    for unique, expected in ((mine.unique, [mine.id]), (other, [])):
        query = urlencode({"patient.identifier": first.person.identifier, "identifier": f"{URI}|{unique}"})
        found = ids(searchset(feeding.get(f"DocumentReference?{query}")))
        expect(found == expected, "who only feeds the record finds the own documents, and no others", found)


# --- TD3.3a: masking --------------------------------------------------------------------------------------------------


@pytest.mark.row("DMP-18")
def test_dmp_18_mask(shelf: Shelf, professional: Actor) -> None:
    made = shelf.published()
    _present(shelf, made, professional)
    after = ok(shelf.author.patch(made.reference, _op(_AT_ZERO, label("MASQUE_PS"))))
    expect("MASQUE_PS" in labels(after), "the updated resource is returned", labels(after))
    _absent(shelf, made, professional)


@pytest.mark.row("DMP-19")
def test_dmp_19_still_visible(shelf: Shelf, patient: Actor) -> None:
    made = _labelled(shelf, "MASQUE_PS")
    _present(shelf, made, shelf.author)
    _present(shelf, made, patient)


@pytest.mark.row("DMP-20")
def test_dmp_20_unmask(shelf: Shelf, professional: Actor) -> None:
    made = _labelled(shelf, "MASQUE_PS")
    _absent(shelf, made, professional)
    ok(shelf.author.patch(made.reference, _op(_AT_ZERO, NORMAL)))
    _present(shelf, made, professional)


@pytest.mark.row("DMP-20")
def test_dmp_20_attack_by_position(shelf: Shelf, patient: Actor) -> None:
    made = _labelled(shelf, "INVISIBLE_PATIENT", "MASQUE_PS")
    refused(shelf.author.patch(made.reference, _op(_AT_ZERO, NORMAL)), 422, "business-rule")
    stored = labels(shelf.read(made))
    expect({"INVISIBLE_PATIENT", "MASQUE_PS"} <= set(stored), "both labels are kept", stored)
    _absent(shelf, made, patient)


@pytest.mark.row("DMP-21")
def test_dmp_21_not_seen(shelf: Shelf, professional: Actor) -> None:
    made = _labelled(shelf, "MASQUE_PS")
    refused(professional.patch(made.reference, _op(_AT_ZERO, NORMAL)), 404, "not-found")
    expect("MASQUE_PS" in labels(shelf.read(made)), "nothing is changed")


# --- TD3.3b: the patient ----------------------------------------------------------------------------------------------


@pytest.mark.row("DMP-22")
def test_dmp_22_hidden_from_the_patient(shelf: Shelf, patient: Actor, professional: Actor) -> None:
    made = shelf.published()
    _present(shelf, made, patient)
    ok(shelf.author.patch(made.reference, _op(_AT_ZERO, label("INVISIBLE_PATIENT"))))
    _absent(shelf, made, patient)
    _present(shelf, made, professional)
    ok(shelf.author.patch(made.reference, _op(_AT_ZERO, NORMAL)))
    _present(shelf, made, patient)


@pytest.mark.row("DMP-23")
def test_dmp_23_hidden_from_representatives(shelf: Shelf, patient: Actor, representative: Actor) -> None:
    made = shelf.published()
    _present(shelf, made, representative)
    ok(shelf.author.patch(made.reference, _op(_AT_ZERO, label("INVISIBLE_REPRESENTANTS_LEGAUX"))))
    _absent(shelf, made, representative)
    _present(shelf, made, patient)


# --- TD3.3c: withdrawing ----------------------------------------------------------------------------------------------

_WITHDRAW: Final = _op("/status", "entered-in-error")


@pytest.mark.row("DMP-24")
@pytest.mark.parametrize("who", ["author", "another", "who cannot see it"])
def test_dmp_24_withdraw(shelf: Shelf, professional: Actor, who: str) -> None:
    made = _labelled(shelf, *(["MASQUE_PS"] if who == "who cannot see it" else []))
    if who == "author":
        after = ok(shelf.author.patch(made.reference, _WITHDRAW))
        expect(after["status"] == "entered-in-error", "the document is withdrawn", after["status"])
        return
    answer = professional.patch(made.reference, _WITHDRAW)
    if who == "another":
        outcome = refused(answer, 403, "forbidden")
        codes = [each["code"] for issue in outcome["issue"] for each in issue.get("details", {}).get("coding", ())]
        expect(
            codes == ["break-glass-not-possible"],
            "issue.details has the code break-glass-not-possible",
            codes or "none",
        )
    else:
        refused(answer, 404, "not-found")
    expect(shelf.read(made)["status"] == "current", "nothing is changed")


@pytest.fixture
def withdrawn(shelf: Shelf) -> Published:
    made = shelf.published()
    ok(shelf.author.patch(made.reference, _WITHDRAW))
    return made


@pytest.mark.row("DMP-25")
def test_dmp_25_withdrawn(shelf: Shelf, first: Known, withdrawn: Published) -> None:
    expect(shelf.find(withdrawn.unique) == [], "it is not found by ITI-67")
    query = urlencode({"patient": first.id, "status": "entered-in-error", "identifier": withdrawn.unique})
    found = searchset(shelf.author.get(f"DocumentReference?{query}"))
    expect(found == [], "not even with status=entered-in-error", ids(found))
    query = urlencode({"patient.identifier": first.person.identifier, "identifier": f"{URI}|{withdrawn.unique}"})
    found = searchset(shelf.author.get(f"DocumentReference?{query}"))
    expect(found == [], "nor by TD3.1b", ids(found))
    sets = shelf.find(withdrawn.set_unique, kind="List")
    items = [each["item"]["reference"] for one in sets for each in one.get("entry", ())]
    expect(not any(withdrawn.id in each for each in items), "nor in a List (ITI-66)", items)
    expect(shelf.read(withdrawn)["status"] == "entered-in-error", "it is read by id", shelf.read(withdrawn)["status"])
    refused(shelf.author.get(withdrawn.binary, Accept="*/*"), 410, "deleted")


@pytest.mark.row("DMP-26")
@pytest.mark.parametrize("case", ["again", "back", "DELETE"])
def test_dmp_26_final(shelf: Shelf, withdrawn: Published, case: str) -> None:
    if case == "again":
        ok(shelf.author.patch(withdrawn.reference, _WITHDRAW))
    elif case == "back":
        refused(shelf.author.patch(withdrawn.reference, _op("/status", "current")), 422, "business-rule")
    else:
        made = shelf.published()
        refused(shelf.author.send("DELETE", made.reference), 405, "not-supported")
        expect(shelf.read(made)["status"] == "current", "nothing is changed")
    expect(shelf.read(withdrawn)["status"] == "entered-in-error", "it stays withdrawn")


# --- TD3.3d: archiving ------------------------------------------------------------------------------------------------


@pytest.mark.row("DMP-27")
@pytest.mark.parametrize("start", [None, True, False])
@pytest.mark.parametrize("form", ["JSON Patch", "FHIRPath Patch"])
def test_dmp_27_archive(shelf: Shelf, form: str, start: bool | None) -> None:
    extension = [] if start is None else [{"url": ARCHIVED, "valueBoolean": start}]
    changes: Resource = {"extension": extension} if extension else {}
    made = shelf.published(None, **changes)
    for value in (True, False):
        body: Any = _op(_ARCHIVE, value)
        if form == "FHIRPath Patch":
            path = f"DocumentReference.extension.where(url='{ARCHIVED}').value"
            body = fhirpath_patch("replace", path, "valueBoolean", value)
        after = ok(shelf.author.patch(made.reference, body))
        kept = [each.get("valueBoolean") for each in after.get("extension", ()) if each["url"] == ARCHIVED]
        expect(kept == [value], f"isArchived is {value}, created if it was absent", kept)
        for wanted in ("true", "false"):
            query = urlencode({"patient": shelf.person.id, "identifier": made.unique, "isArchived": wanted})
            found = ids(searchset(shelf.author.get(f"DocumentReference?{query}")))
            expect(
                (made.id in found) is (wanted == str(value).lower()), f"the search isArchived={wanted} follows", found
            )


# --- faults of TD3.3 --------------------------------------------------------------------------------------------------


@pytest.mark.row("DMP-28")
@pytest.mark.parametrize("transaction", ["TD3.3a", "TD3.3b", "TD3.3c", "TD3.3d"])
def test_dmp_28_faults(shelf: Shelf, transaction: str) -> None:
    body = {
        "TD3.3a": _op(_AT_ZERO, label("MASQUE_PS")),
        "TD3.3b": _op(_AT_ZERO, label("INVISIBLE_PATIENT")),
        "TD3.3c": _WITHDRAW,
        "TD3.3d": _op(_ARCHIVE, True),
    }[transaction]
    where = "DocumentReference?identifier="
    refused(shelf.author.patch(where + quote(f"{URI}|{unique_id()}"), body), 404, "not-found")
    local = {"system": "urn:oid:2.999.41", "value": unique_id()}
    both = [shelf.published(identifier=[local]) for _ in range(2)]
    several = shelf.author.patch(where + quote(f"{local['system']}|{local['value']}"), body)
    refused(several, 412, "multiple-matches")
    bad = [body[0] | {"value": {"nothing": 1}}]
    refused(shelf.author.patch(both[0].reference, bad), (400, 422))
    for each in both:
        expect(shelf.read(each)["meta"]["versionId"] == "1", "nothing is changed")


@pytest.mark.row("DMP-28")
def test_dmp_28_closed(author: Actor, profile: Profile) -> None:
    closed = _of(profile, "closed")
    if "closed_document" not in profile.references:
        pytest.skip("the profile names no closed_document")
    expect(closed, "a person whose record is closed")
    answer = author.patch(profile.references["closed_document"], _op(_AT_ZERO, label("MASQUE_PS")))
    refused(answer, 422, "business-rule")


# --- TDE-7 ------------------------------------------------------------------------------------------------------------


@pytest.mark.row("DMP-31")
def test_dmp_31_traces(shelf: Shelf, patient: Actor, professional: Actor) -> None:
    made = shelf.published()
    shelf.read(made, professional)
    events = f"AuditEvent?patient={shelf.person.id}&date=ge2020-01-01&_count=200&_sort=-date"
    found = searchset(patient.get(events), is_first=False)
    about = [
        each
        for each in found
        if any(made.id in str(entity.get("what", {}).get("reference")) for entity in each.get("entity", ()))
    ]
    expect(len(about) >= 2, "the patient sees who published the document, and who read it", len(about))
    for each in about:
        expect(each.get("recorded"), "each access tells when", each)
        who = [agent.get("who") for agent in each.get("agent", ())]
        expect(any(who), "each access tells by whom", who)
