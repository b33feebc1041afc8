"""Patient resources read and written by the French identity rules. Case ids are rows of the contract, section 16."""

from __future__ import annotations

import copy
import json
import lzma
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from local.region import (
    BIRTH_GIVEN_NAMES,
    BIRTH_PLACE,
    COMMUNES,
    INS_TEST,
    INSEE_CODE,
    PARTICIPANTS,
    RELIABILITY,
    RELIABILITY_CODES,
    ins_of,
    people,
)
from passerelle.access import Caller, Request, Scopes
from passerelle.consents.model import Policy, RecordStatus
from passerelle.errors import Forbidden, PasserelleError, Unprocessable
from passerelle.fhir.identity import declaration_of
from passerelle.fhir.patient import FhirPatientDraft, dmp_view, public_content, public_view, traits_of
from passerelle.fhir.validation import validate
from passerelle.patients.identity import differences, load_scheme, nir_key
from passerelle.patients.insi import NationalIdentity, national_identity_service
from passerelle.patients.model import Address, Caution, Member, Person, StoredPatient, Survivor, Traits
from tests import examples

NIR = "urn:oid:1.2.250.1.213.1.4.8"
NIA = "urn:oid:1.2.250.1.213.1.4.9"
DEMO = "urn:oid:1.2.250.1.213.1.4.11"
VALID = "2550600001001" + nir_key("2550600001001")
OTHER_NIR = "2550600001002" + nir_key("2550600001002")
WRONG_KEY = "123456789012345"
COMMENTS = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-identity-status-comment"
STATUSES = "https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-identity-status"
AT = datetime(2026, 3, 14, 8, 30, tzinfo=UTC)
KEY, OTHER_KEY = "7q2k9c4m1xw8z0ab", "0000000000000001"
STAGES = pytest.mark.parametrize("stage", ["dev", "prod"])

Content = dict[str, Any]
Change = Callable[[Content], object]


def patient(status: str | None = "QUAL", *changes: Change) -> Content:
    """Person 1 of the region with a French number, as FR Core has it, but for what is changed."""
    _, content = examples.patient(1)
    content["identifier"][0] = examples.national(NIR, VALID)
    content["extension"][0] = reliability(status)
    if status is None:
        del content["extension"][0]
    for change in changes:
        change(content)
    return content


def reliability(status: str | None, *comments: str, system: str = STATUSES) -> Content:
    parts: list[Content] = [{"url": "identityStatus", "valueCoding": {"system": system, "code": status}}]
    for code in comments:
        parts.append({"url": "comment", "valueCodeableConcept": {"coding": [{"system": COMMENTS, "code": code}]}})
    return {"url": RELIABILITY, "extension": parts}


def stating(status: str, *comments: str, has_identifier: bool = True) -> Change:
    def change(content: Content) -> None:
        content["extension"][0] = reliability(status, *comments)
        if not has_identifier:
            del content["identifier"][0]

    return change


def identified(*identifiers: Content) -> Change:
    return lambda content: content.update(identifier=[*identifiers, content["identifier"][1]])


def named(**changed: Any) -> Change:
    def change(content: Content) -> None:
        name = content["name"][0]
        name.update(changed)
        content["name"][0] = {member: value for member, value in name.items() if value is not None}

    return change


def without(member: str) -> Change:
    return lambda content: content.pop(member)


def draft(content: Content, stage: str = "dev") -> FhirPatientDraft:
    validate(content, expected_type="Patient")
    return FhirPatientDraft(content, load_scheme("fr", stage))


def faults(error: PasserelleError) -> list[tuple[str, str | None]]:
    return [(issue.code, issue.expression) for issue in error.issues]


def request() -> Request:
    caller = Caller(
        client_id="hospital-a",
        organisation="1990000011",
        role="hospital",
        scopes=Scopes.parse("ITI-104"),
        token_id="t",
        domain=examples.DOMAIN,
    )
    return Request(
        caller=caller, name="update", action="U", request_id="r", at=AT, base_url="https://exchange.example/fhir"
    )


def stored(content: Content) -> StoredPatient:
    """As the exchange keeps what it received."""
    return kept(FhirPatientDraft(content, load_scheme("fr", "dev"), is_stored=True))


def kept(one: FhirPatientDraft) -> StoredPatient:
    body = one.version_of(KEY, 1, request(), None).body
    assert body is not None
    traits = traits_of(json.loads(body), load_scheme("fr", "dev"))
    return StoredPatient(patient=KEY, version=1, at=AT, body=body, traits=traits, placement=None)


def person(*, replaced_by: str | None = None, status: RecordStatus = RecordStatus.OPEN) -> Person:
    member = Member(patient=KEY, origin=KEY, since=AT, policy=Policy(status=status, since=AT), replaced_by=replaced_by)
    return Person(key=KEY, records=(member,), revision=1)


# --- what a source may declare --------------------------------------------------------------------------------------

OFFICIAL = {"use": "official", "family": "DUPONT", "given": ["Élise"]}
NIA_VALUE = "7550814168025" + nir_key("7550814168025")

ACCEPTED = [
    pytest.param(patient("QUAL"), id="INS-2-QUAL"),
    pytest.param(patient("VALI"), id="INS-2-VALI"),
    pytest.param(patient("RECUP"), id="INS-2-RECUP"),
    pytest.param(patient("PROV", stating("PROV", has_identifier=False)), id="INS-1-PROV"),
    pytest.param(patient(None, lambda p: p["identifier"].pop(0)), id="INS-1-absent"),
    pytest.param(
        patient("QUAL", lambda p: p["extension"].__setitem__(0, reliability("QUAL", system=RELIABILITY_CODES))),
        id="INS-1-other-list",
    ),
    pytest.param(patient("QUAL", lambda p: p.update(gender="unknown")), id="INS-3-unknown-gender"),
    pytest.param(patient("QUAL", identified(examples.national(NIA, NIA_VALUE, "INS-NIA", use="temp"))), id="INS-4-NIA"),
    pytest.param(
        patient(
            "QUAL", identified(examples.national(NIR, VALID, use="old"), examples.national(NIR, "180072A00100" + "100"))
        ),
        id="INS-5-Corsica",
    ),
    pytest.param(
        patient("PROV", identified(examples.national(NIR, VALID, use="old")), named(extension=None)),
        id="INS-2-set-aside",
    ),
    pytest.param(patient("PROV", stating("PROV", "DOUT", has_identifier=False)), id="INS-11-DOUT"),
    pytest.param(patient("PROV", stating("PROV", "FICT", has_identifier=False)), id="INS-11-FICT"),
    pytest.param(patient("QUAL", stating("QUAL", "HOMA", "COLP")), id="INS-11-HOMA"),
]


def with_valid_keys(content: Content) -> Content:
    for each in content["identifier"]:
        if each["system"] in (NIR, NIA):
            each["value"] = each["value"][:13] + nir_key(each["value"][:13])
    return content


@STAGES
@pytest.mark.parametrize("content", ACCEPTED)
def test_what_is_accepted(content: Content, stage: str) -> None:
    draft(with_valid_keys(content), stage)


STATUS = "Patient.extension[0].extension[0].value"
COMMENT = "Patient.extension[0].extension[1].value"

REFUSED = [
    pytest.param(patient("GOOD"), "code-invalid", STATUS, id="INS-1"),
    pytest.param(
        patient("QUAL", lambda p: p["extension"].__setitem__(0, reliability("QUAL", system="urn:x"))),
        "code-invalid",
        STATUS,
        id="INS-1-other-list",
    ),
    pytest.param(
        patient("QUAL", lambda p: p["extension"].append(reliability("PROV"))),
        "invariant",
        "Patient.extension[2].extension[0].value",
        id="INS-1-two",
    ),
    pytest.param(patient("PROV"), "business-rule", "Patient.identifier[0]", id="INS-2-PROV"),
    pytest.param(patient(None), "business-rule", "Patient.identifier[0]", id="INS-2-absent"),
    pytest.param(patient("QUAL", without("name")), "required", "Patient.name", id="INS-3-name"),
    pytest.param(patient("QUAL", named(use="usual")), "required", "Patient.name", id="INS-3-official"),
    pytest.param(patient("QUAL", named(family=None)), "required", "Patient.name[0].family", id="INS-3-birth-name"),
    pytest.param(patient("QUAL", named(given=None)), "required", "Patient.name[0].given", id="INS-3-no-given"),
    pytest.param(
        patient("QUAL", named(given=["Élise", "Jeanne"])), "required", "Patient.name[0].given", id="INS-3-two-given"
    ),
    pytest.param(patient("QUAL", named(extension=None)), "required", "Patient.name[0].extension", id="INS-3-list"),
    pytest.param(
        patient("QUAL", lambda p: p["name"].append(OFFICIAL)), "invariant", "Patient.name[1].use", id="INS-3-two-names"
    ),
    pytest.param(patient("QUAL", without("birthDate")), "required", "Patient.birthDate", id="INS-3-birth-date"),
    pytest.param(
        patient("QUAL", lambda p: p.update(birthDate="1955-06")), "required", "Patient.birthDate", id="INS-3-month"
    ),
    pytest.param(patient("QUAL", without("gender")), "required", "Patient.gender", id="INS-3-gender"),
    pytest.param(
        patient("QUAL", lambda p: p.update(gender="other")), "code-invalid", "Patient.gender", id="INS-3-other"
    ),
    pytest.param(
        patient("QUAL", lambda p: p["extension"].pop(1)), "required", "Patient.extension", id="INS-3-birth-place"
    ),
    pytest.param(
        patient("VALI", lambda p: p["extension"].__setitem__(1, {"url": BIRTH_PLACE, "valueAddress": {"city": "X"}})),
        "required",
        "Patient.extension",
        id="INS-3-no-code",
    ),
    pytest.param(
        patient("QUAL", identified(examples.national(NIR, VALID, use="usual"))),
        "invariant",
        "Patient.identifier[0].use",
        id="INS-4-NIR-use",
    ),
    pytest.param(
        patient("QUAL", identified({k: v for k, v in examples.national(NIR, VALID).items() if k != "use"})),
        "invariant",
        "Patient.identifier[0].use",
        id="INS-4-no-use",
    ),
    pytest.param(
        patient("QUAL", identified(examples.national(NIA, NIA_VALUE, "INS-NIA", use="official"))),
        "invariant",
        "Patient.identifier[0].use",
        id="INS-4-NIA-use",
    ),
    pytest.param(
        patient("QUAL", identified(examples.national(NIR, VALID, "INS-NIA"))),
        "invariant",
        "Patient.identifier[0].type",
        id="INS-4-type",
    ),
    pytest.param(
        patient("QUAL", identified({k: v for k, v in examples.national(NIR, VALID).items() if k != "type"})),
        "invariant",
        "Patient.identifier[0].type",
        id="INS-4-no-type",
    ),
    pytest.param(
        patient("QUAL", identified(examples.national(NIR, VALID), examples.national(NIR, OTHER_NIR))),
        "invariant",
        "Patient.identifier[1].use",
        id="INS-4-two",
    ),
    pytest.param(
        patient("QUAL", identified(examples.national(NIR, VALID[:-1]))),
        "value",
        "Patient.identifier[0].value",
        id="INS-5-length",
    ),
    pytest.param(
        patient("QUAL", identified(examples.national(NIR, "2550X1416802538"))),
        "value",
        "Patient.identifier[0].value",
        id="INS-5-characters",
    ),
    pytest.param(patient("PROV", stating("VALI", "DOUT")), "invariant", COMMENT, id="INS-11-DOUT"),
    pytest.param(patient("PROV", stating("QUAL", "FICT")), "invariant", COMMENT, id="INS-11-FICT"),
    pytest.param(
        patient("PROV", stating("PROV", "DOUT", "FICT", has_identifier=False)),
        "invariant",
        "Patient.extension[0].extension[2].value",
        id="INS-11-both",
    ),
]


@STAGES
@pytest.mark.parametrize(("content", "code", "expression"), REFUSED)
def test_what_is_refused(content: Content, code: str, expression: str, stage: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        draft(content, stage)
    assert (refused.value.status, faults(refused.value)) == (422, [(code, expression)])
    told = " ".join(issue.diagnostics for issue in refused.value.issues)
    for value in (VALID, "DUPONT", "Élise", "1955", "00001", "GOOD"):
        assert value not in told


@pytest.mark.parametrize(("system", "type"), [(INS_TEST, "INS-NIR-TEST"), (DEMO, "INS-NIR-DEMO")])
def test_ins_6_test_and_demonstration_stay_out_of_production(system: str, type: str) -> None:
    content = patient("QUAL", identified(examples.national(system, VALID, type)))
    draft(content, "dev")
    with pytest.raises(Unprocessable) as refused:
        draft(content, "prod")
    assert faults(refused.value) == [("business-rule", "Patient.identifier[0].system")]


def test_ins_5_a_wrong_key_is_refused_in_production_and_told_elsewhere() -> None:
    content = patient("QUAL", identified(examples.national(NIR, WRONG_KEY)))
    (warning,) = draft(content, "dev").warnings
    assert (warning.code, warning.expression) == ("value", "Patient.identifier[0].value")
    assert WRONG_KEY not in warning.diagnostics
    with pytest.raises(Unprocessable) as refused:
        draft(content, "prod")
    assert faults(refused.value) == [("value", "Patient.identifier[0].value")]


@pytest.mark.parametrize(
    ("number", "told"),
    [
        ("2550600001001", []),
        ("2552000001001", []),  # the register did not know the month
        ("1550600001001", ["gender"]),
        ("2560600001001", ["birth date"]),
        ("1550700001001", ["gender", "birth date"]),
    ],
)
def test_a_number_that_tells_another_birth_is_accepted_and_told(number: str, told: list[str]) -> None:
    warnings = draft(patient("QUAL", identified(examples.national(NIR, number + nir_key(number))))).warnings
    assert [trait for trait in ("gender", "birth date") for each in warnings if trait in each.diagnostics] == told
    assert len(warnings) == len(told)


def test_every_fault_is_told_at_once() -> None:
    content = patient(
        "QUAL", without("gender"), named(family=None), identified(examples.national(NIR, "1", use="temp"))
    )
    with pytest.raises(Unprocessable) as refused:
        draft(content)
    assert faults(refused.value) == [
        ("invariant", "Patient.identifier[0].use"),
        ("value", "Patient.identifier[0].value"),
        ("required", "Patient.name[0].family"),
        ("required", "Patient.gender"),
    ]


def test_the_people_of_the_region_are_conformant_and_known_to_the_national_service() -> None:
    service = national_identity_service("dev")
    for number, (_, content) in enumerate(people(examples.DOMAIN), 1):
        one = draft(content)
        assert (one.traits.status, one.warnings) == ("QUAL", ())
        (found,) = service.search(one.traits)
        assert found.identifier == (INS_TEST, ins_of(number)) == one.traits.qualified_identifier
        assert differences(one.traits, found.traits) == ()
    assert {each.patient for each in PARTICIPANTS if each.patient} == {f"{INS_TEST}|{ins_of(1)}"}


# --- what is read ---------------------------------------------------------------------------------------------------


def read(**content: Any) -> Traits:
    return traits_of({"resourceType": "Patient", **content}, load_scheme("fr", "dev"))


def listed(names: str, *given: str) -> Content:
    return {
        "use": "official",
        "family": "LE GOFF",
        "given": list(given),
        "extension": [{"url": BIRTH_GIVEN_NAMES, "valueString": names}],
    }


@pytest.mark.parametrize(
    ("names", "families", "givens"),
    [
        ([{"family": "A", "given": ["B", "C"]}], ("A",), ("B", "C")),
        ([{"use": "usual", "family": "USED"}, {"use": "official", "family": "BORN"}], ("BORN", "USED"), ()),
        ([{"use": "usual", "family": "USED"}, {"use": "maiden", "family": "BORN"}], ("BORN", "USED"), ()),
        ([{"use": "usual", "family": "USED"}, {"family": "BORN"}], ("BORN", "USED"), ()),
        ([{"use": "maiden", "family": "A"}, {"use": "official", "family": "a"}], ("a",), ()),
        ([{"use": "nickname", "given": ["Lison"]}, listed("Élise Jeanne", "Élise")], ("LE GOFF",), None),
        ([{"use": "old", "family": "OLD"}, {"use": "usual", "family": "USED"}], ("OLD", "USED"), ()),
        ([{"use": "anonymous", "family": "X"}], (), ()),
        ([{"use": "official", "given": ["Zoé"]}, {"use": "usual", "family": "USED"}], ("USED",), ("Zoé",)),
        ([{"text": "Madame Dupont"}], (), ()),
        ([], (), ()),
    ],
)
def test_names(names: list[Content], families: tuple[str, ...], givens: tuple[str, ...] | None) -> None:
    traits = read(name=names)
    assert traits.family_names == families
    assert traits.given_names == (("Élise", "Jeanne", "Lison") if givens is None else givens)


@pytest.mark.parametrize(
    ("names", "given", "expected"),
    [
        ("MARSALI MORAG MAIREAD", ["MARSALI"], ("MARSALI", "MORAG", "MAIREAD")),
        ("Anne-Sophie Marie", ["Anne-Sophie"], ("Anne-Sophie", "Marie")),
        ("Anne Sophie Marie", ["Anne Sophie"], ("Anne Sophie", "Marie")),
        ("Anne Sophie Marie", ["Anne"], ("Anne", "Sophie", "Marie")),
        ("Marie Anne Sophie", ["Marie", "Anne Sophie"], ("Marie", "Anne Sophie")),
        ("JEAN BAPTISTE MARIE", ["Jean-Baptiste"], ("Jean-Baptiste", "MARIE")),
        ("Jean, Paul", ["Paul"], ("Paul", "Jean")),  # not the first of the list, but said to be
        ("", ["Jean"], ("Jean",)),
    ],
)
def test_birth_given_names(names: str, given: list[str], expected: tuple[str, ...]) -> None:
    assert read(name=[listed(names, *given)]).given_names == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ({"extension": [{"url": INSEE_CODE, "valueCoding": {"system": COMMUNES, "code": "2A004"}}]}, "2A004"),
        ({"district": "44192", "city": "ST VIAUD"}, "44192"),
        ({"district": "Loire-Atlantique"}, ""),
        ({"city": "Nantes"}, ""),
    ],
)
def test_birth_place(address: Content, expected: str) -> None:
    assert read(extension=[{"url": BIRTH_PLACE, "valueAddress": address}]).birth_place == expected


def test_contacts_and_addresses() -> None:
    traits = read(
        telecom=[
            {"system": "phone", "value": "01", "use": "work"},
            {"system": "phone", "value": "02"},
            {"system": "email", "value": "a@b.fr"},
            {"system": "phone", "value": "03", "use": "mobile"},
            {"system": "phone", "value": "04", "use": "old"},
            {"system": "fax", "value": "05"},
            {"system": "phone"},
        ],
        address=[
            {"use": "work", "line": ["1 rue A"], "city": "X"},
            {"use": "home", "line": ["Bât B", "2 rue B"], "postalCode": "44000"},
            {"use": "old", "city": "Z"},
        ],
    )
    assert (traits.phones, traits.emails) == (("03", "02", "01"), ("a@b.fr",))
    assert traits.addresses == (Address(line="Bât B\n2 rue B", postcode="44000"), Address(line="1 rue A", city="X"))


def test_only_identifiers_in_use_are_traits() -> None:
    traits = read(
        identifier=[
            {"system": "urn:oid:2.999.1", "value": "1", "use": "old"},
            {"system": "urn:oid:2.999.1", "value": "2"},
            {"system": "urn:oid:2.999.1", "value": "2", "use": "usual"},
            {"value": "3"},
            {"system": "urn:oid:2.999.1"},
            examples.national(NIR, VALID, use="old"),
            examples.national(NIA, NIA_VALUE),
        ]
    )
    assert traits.identifiers == (("urn:oid:2.999.1", "2"), (NIA, NIA_VALUE))
    assert traits.national == (NIA, NIA_VALUE)
    assert (traits.is_qualified, traits.qualified_identifier) == (False, None)


@pytest.mark.parametrize(
    ("comments", "expected"),
    [
        (["DOUT"], {Caution.DOUBTFUL}),
        (["FICT"], {Caution.FICTITIOUS}),
        (["HOMD"], {Caution.HOMONYM}),
        (["HOMA", "USUR"], {Caution.HOMONYM, Caution.DOUBTFUL}),
        (["DOUA", "DESA", "VIDE", "IDVER", "of another list"], set()),
    ],
)
def test_ins_11_cautions(comments: list[str], expected: set[Caution]) -> None:
    assert read(extension=[reliability("PROV", *comments)]).cautions == expected


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"identifier": {"system": "urn:oid:2.999.1", "value": "2"}}, Survivor(identifier=("urn:oid:2.999.1", "2"))),
        ({"reference": f"Patient/{KEY}"}, Survivor(patient=KEY)),
        ({"reference": f"Patient/{KEY}/_history/3"}, Survivor(patient=KEY)),
        ({"reference": f"https://exchange.example/fhir/Patient/{KEY}"}, Survivor(patient=KEY)),
        ({"reference": f"https://elsewhere.example/fhir/Patient/{KEY}"}, None),
        ({"reference": "Patient/1"}, None),
        ({"reference": f"RelatedPerson/{KEY}"}, None),
        ({"display": "somebody"}, None),
    ],
)
def test_104_4_the_survivor_of_a_merge(other: Content, expected: Survivor | None) -> None:
    content = {"resourceType": "Patient", "link": [{"other": other, "type": "replaced-by"}]}
    scheme = load_scheme("fr", "dev")
    assert traits_of(content, scheme, base_url="https://exchange.example/fhir").replaced_by == expected
    assert read(link=[{"other": other, "type": "seealso"}]).replaced_by is None


def published(shared_data: Path) -> Iterator[tuple[str, Content]]:
    """Every Patient of the published French guides, wherever it stands in an example."""

    def walk(value: Any) -> Iterator[Content]:
        if isinstance(value, dict):
            if value.get("resourceType") == "Patient":
                yield value
            value = list(value.values())
        for each in value if isinstance(value, list) else ():
            yield from walk(each)

    for name in ("ig_examples", "fr_ans_examples"):
        text = lzma.decompress((shared_data / f"{name}.ndjson.xz").read_bytes()).decode()
        for found in map(json.loads, text.splitlines()):
            if "fr" in found["file"].split("/")[0].split(".") or found["file"].startswith("fr-core"):
                yield from ((found["file"], each) for each in walk(found))


def test_published_examples_are_read(shared_data: Path) -> None:
    found = list(published(shared_data))
    assert len(found) >= 8
    for name, content in found:
        one = declaration_of(content, load_scheme("fr", "dev"))
        if "name" in content:
            assert one.traits.family_names, name
            draft(content)  # the others only point at somebody


def test_published_examples_of_fr_core(shared_data: Path) -> None:
    found = {name: content for name, content in published(shared_data) if "fr-core" in name}
    by_rnivs = traits_of(found["fr-core/FRCorePatientINSExampleRNIV (from FSH)"], load_scheme("fr", "dev"))
    assert (by_rnivs.family_names, by_rnivs.given_names) == (("Dark",), ("Jeanne", "Marie", "Cécile"))
    assert (by_rnivs.birth_place, by_rnivs.status, by_rnivs.is_active) == ("88154", "PROV", False)
    former = traits_of(found["fr-core/Patient sans NIR.json"], load_scheme("fr", "dev"))
    assert former.family_names == ("OUM OUM", "BOANALIDY")
    assert (former.birth_place, former.status, former.birth_date) == ("44192", "PROV", date(2013, 11, 30))
    assert (former.phones, former.emails) == (("+33636928854",), ("CHILUKURI.OUMOUM@somemail.fr",))


# --- what becomes of it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["PROV", "VALI", "RECUP"])
def test_ins_7_a_source_does_not_qualify(status: str) -> None:
    has_identifier = status != "PROV"
    before = stored(patient(status, stating(status, has_identifier=has_identifier)))
    raised = draft(patient("QUAL"))
    with pytest.raises(Forbidden) as refused:
        raised.revising(before)
    assert (refused.value.status, faults(refused.value)) == (403, [("forbidden", STATUS)])
    assert raised.revising(None) is raised  # a new record comes with what its source verified


@pytest.mark.parametrize(
    ("before", "after"),
    [("PROV", "VALI"), ("PROV", "RECUP"), ("VALI", "PROV"), ("RECUP", "VALI"), ("QUAL", "VALI"), ("QUAL", "PROV")],
)
def test_ins_7_other_changes_of_status_are_the_sources(before: str, after: str) -> None:
    made = draft(patient(after, stating(after, has_identifier=after != "PROV")))
    assert made.revising(stored(patient(before, stating(before, has_identifier=before != "PROV")))) is made


STRICT = [
    pytest.param(named(family="DURAND"), id="birth-name"),
    pytest.param(named(given=["Jeanne"]), id="given"),
    pytest.param(lambda p: p["name"][0]["extension"][0].update(valueString="Élise"), id="given-names"),
    pytest.param(lambda p: p.update(birthDate="1955-06-15"), id="birth-date"),
    pytest.param(lambda p: p.update(gender="unknown"), id="gender"),
    pytest.param(
        lambda p: p["extension"][1]["valueAddress"]["extension"][0]["valueCoding"].update(code="00002"),
        id="birth-place",
    ),
]


@pytest.mark.parametrize("change", STRICT)
def test_ins_9_a_changed_strict_trait_lowers_the_identity(change: Change) -> None:
    before = stored(patient("QUAL"))
    lowered = draft(patient("QUAL", change)).revising(before)
    assert (lowered.traits.status, lowered.traits.national) == ("VALI", None)
    content = json.loads(kept(lowered).body)
    assert content["identifier"][0] == examples.national(NIR, VALID, use="old")
    assert content["identifier"][1] == before_content(before)["identifier"][1]
    parts = {part["url"]: part for part in content["extension"][0]["extension"]}
    assert parts["lastUpdated"]["valueDateTime"] == "2026-03-14T08:30:00.000Z"
    assert parts["identityStatus"]["valueCoding"]["code"] == "VALI"
    sent = patient("QUAL", change)
    assert (content["name"], content["gender"], content["birthDate"]) == (
        sent["name"],
        sent["gender"],
        sent["birthDate"],
    )
    validate(content, expected_type="Patient")
    assert not draft(content).equals(before)


def before_content(before: StoredPatient) -> Content:
    content: Content = json.loads(before.body)
    return content


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(named(family="Dupont", given=["ELISE"]), id="spelling"),
        pytest.param(lambda p: p.update(address=[{"city": "Ailleurs"}]), id="address"),
        pytest.param(lambda p: p["name"].append({"use": "usual", "family": "LEROY", "given": ["Lison"]}), id="used"),
        pytest.param(lambda p: p.update(active=False), id="active"),
        pytest.param(identified(examples.national(NIR, OTHER_NIR)), id="identifier"),
    ],
)
def test_ins_9_anything_else_leaves_it_qualified(change: Change) -> None:
    made = draft(patient("QUAL", change))
    assert made.revising(stored(patient("QUAL"))) is made


def test_ins_9_an_identity_that_is_not_qualified_changes_freely() -> None:
    made = draft(patient("VALI", named(family="DURAND")))
    assert made.revising(stored(patient("VALI"))) is made


FOUND = NationalIdentity(
    identifier=(NIR, VALID),
    traits=Traits(
        identifiers=(),
        family_names=("DUPONT",),
        given_names=("ELISE", "ANNE SOPHIE"),
        birth_date=date(1955, 6, 14),
        gender="female",
        birth_place="00001",
    ),
)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(patient("VALI", stating("VALI", "HOMD", has_identifier=False)), id="validated"),
        pytest.param(patient("RECUP"), id="same-identifier"),
        pytest.param(patient("RECUP", identified(examples.national(NIR, OTHER_NIR))), id="other-identifier"),
        pytest.param(patient("VALI", identified(examples.national(NIR, VALID, use="old"))), id="set-aside-before"),
        pytest.param(
            {
                "resourceType": "Patient",
                "identifier": [{"system": examples.DOMAIN, "value": "000001"}],
                "name": [{"use": "usual", "family": "Dupont", "given": ["Élise"]}],
                "gender": "female",
                "birthDate": "1955-06-14",
            },
            id="bare",
        ),
        pytest.param(
            {
                "resourceType": "Patient",
                "identifier": [{"system": examples.DOMAIN, "value": "000001"}],
                "name": [{"family": "Dupont", "given": ["Élise"]}, {"use": "usual", "family": "LEROY"}],
                "extension": [{"url": BIRTH_PLACE, "valueAddress": {"city": "Rivières"}}],
                "gender": "female",
                "birthDate": "1955-06-14",
            },
            id="without-codes",
        ),
    ],
)
def test_ins_8_qualified_by_the_national_service(content: Content) -> None:
    made = draft(content).qualified(FOUND)
    traits = made.traits
    assert (traits.status, traits.qualified_identifier) == ("QUAL", (NIR, VALID))
    assert traits.birth_place == "00001"
    assert traits.given_names[:3] == ("ELISE", "ANNE", "SOPHIE")
    result = json.loads(kept(made).body)
    validate(result, expected_type="Patient")
    again = draft(result, "prod")
    assert again.warnings == ()
    assert result["identifier"][0] == examples.national(NIR, VALID)
    assert [each for each in result["identifier"] if each["system"] == examples.DOMAIN]
    former = {each["value"] for each in content["identifier"] if each["system"] == NIR} - {VALID}
    assert {each["value"] for each in result["identifier"] if each.get("use") == "old"} == former
    assert result["extension"][0]["extension"][0]["url"] == "lastUpdated"
    assert traits.cautions == traits_of(content, load_scheme("fr", "dev")).cautions
    assert [n for n in result["name"] if n["use"] == "usual"] == [n for n in content["name"] if n.get("use") == "usual"]
    for place in result["extension"]:
        if place["url"] == BIRTH_PLACE and "city" in content.get("extension", [{}])[0].get("valueAddress", {}):
            assert place["valueAddress"]["city"] == "Rivières"


def test_ins_11_a_doubtful_identity_cannot_be_qualified() -> None:
    with pytest.raises(Unprocessable):
        draft(patient("PROV", stating("PROV", "DOUT", has_identifier=False))).qualified(FOUND)


def merged(*, other: Content | None = None, **changed: Any) -> Content:
    named_by = other or {"identifier": {"system": examples.DOMAIN, "value": "2"}}
    link = {"other": named_by, "type": "replaced-by"}
    return {**patient("QUAL"), "active": False, "link": [link], **changed}


@pytest.mark.parametrize(
    ("content", "code", "expression"),
    [
        pytest.param(merged(active=True), "business-rule", "Patient.active", id="104-5-active"),
        pytest.param(
            {k: v for k, v in merged().items() if k != "active"}, "business-rule", "Patient.active", id="104-5-absent"
        ),
        pytest.param(
            merged(other={"identifier": {"system": examples.DOMAIN, "value": "000001"}}),
            "business-rule",
            "Patient.link[0].other",
            id="104-5-self",
        ),
        pytest.param(
            merged(other={"reference": f"Patient/{KEY}"}, id=KEY),
            "business-rule",
            "Patient.link[0].other",
            id="104-5-self-by-id",
        ),
        pytest.param(
            merged(other={"reference": "https://elsewhere.example/Patient/1"}),
            "not-found",
            "Patient.link[0].other",
            id="104-5-unknown",
        ),
        pytest.param(
            merged(link=merged()["link"] + merged(other={"reference": f"Patient/{KEY}"})["link"]),
            "business-rule",
            "Patient.link[1]",
            id="104-5-two",
        ),
    ],
)
def test_104_5_merges_that_make_no_sense(content: Content, code: str, expression: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        draft(content)
    assert faults(refused.value) == [(code, expression)]


def test_a_record_is_merged_and_what_it_was_comes_back() -> None:
    seealso = {"other": {"reference": f"Patient/{OTHER_KEY}"}, "type": "seealso"}
    before = stored(patient("QUAL", lambda p: p.update(link=[seealso])))
    made = FhirPatientDraft(json.loads(before.body), load_scheme("fr", "dev"), is_stored=True)
    replaced = made.merged_into((examples.DOMAIN, "2"), OTHER_KEY)
    assert replaced.traits.replaced_by == Survivor(identifier=(examples.DOMAIN, "2"), patient=OTHER_KEY)
    assert not replaced.traits.is_active
    assert replaced.traits.qualified_identifier == (NIR, VALID)
    content = json.loads(kept(replaced).body)
    validate(content, expected_type="Patient")
    assert [link["type"] for link in content["link"]] == ["seealso", "replaced-by"]
    assert not replaced.equals(before)
    assert made.equals(before)
    assert kept(made).body == before.body
    named_already = draft(merged()).merged_into(None, OTHER_KEY)
    assert named_already.traits.replaced_by == Survivor(identifier=(examples.DOMAIN, "2"), patient=OTHER_KEY)


# --- who sees what --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        pytest.param(patient("QUAL"), [NIR], id="qualified"),
        pytest.param(patient("VALI"), [], id="validated"),
        pytest.param(patient("RECUP"), [], id="retrieved"),
        pytest.param(
            patient("QUAL", identified(examples.national(NIR, OTHER_NIR, use="old"), examples.national(NIR, VALID))),
            [NIR],
            id="former",
        ),
        pytest.param(patient("VALI", identified(examples.national(NIR, VALID, use="old"))), [], id="set-aside"),
    ],
)
def test_ins_12_who_sees_a_national_identifier(content: Content, shown: list[str]) -> None:
    one = stored(
        {**content, "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">…</div>'}}
    )
    assert public_view(one, person(), is_source=True) == one.body
    view = public_content(one, person(), is_source=False)
    assert [each["system"] for each in view["identifier"]] == [*shown, examples.DOMAIN]
    hides = len(content["identifier"]) != len(view["identifier"])
    assert ("text" in view) is not hides
    assert (public_view(one, person(), is_source=False) == one.body) is not hides
    validate(json.loads(public_view(one, person(), is_source=False)), expected_type="Patient")


def test_ins_12_nothing_but_a_national_identifier() -> None:
    one = stored(patient("VALI", lambda p: p["identifier"].pop(1)))
    assert "identifier" not in public_content(one, person(), is_source=False)


def test_78_8_the_mothers_maiden_name_is_shown() -> None:
    extension = {"url": "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName", "valueString": "LEROY"}
    one = stored(patient("VALI", lambda p: p["extension"].append(extension)))
    assert extension in public_content(one, person(), is_source=False)["extension"]


@pytest.mark.parametrize("is_source", [True, False])
def test_d9_a_merged_record_refers_to_the_survivor(is_source: bool) -> None:
    one = stored(merged())
    view = json.loads(public_view(one, person(replaced_by=OTHER_KEY), is_source=is_source))
    (link,) = view["link"]
    assert link["other"]["reference"] == f"Patient/{OTHER_KEY}"
    assert link["other"]["identifier"]["value"] == "2"
    assert view["active"] is False


@pytest.mark.parametrize(
    ("status", "is_open"), [(RecordStatus.OPEN, True), (RecordStatus.CLOSED, False), (RecordStatus.ABSENT, False)]
)
def test_dmp_2_the_two_meanings_of_active_never_mix(status: RecordStatus, is_open: bool) -> None:
    one = stored(merged())
    whole = person(replaced_by=OTHER_KEY, status=status)
    view = dmp_view(one, whole, is_source=False)
    assert view["active"] is is_open
    assert "link" not in view
    assert public_content(one, whole, is_source=False)["active"] is False


def test_ins_12_the_dmp_view_hides_as_well() -> None:
    one = stored(patient("VALI"))
    for is_source, expected in ((False, [examples.DOMAIN]), (True, [NIR, examples.DOMAIN])):
        shown = dmp_view(one, person(), is_source=is_source)["identifier"]
        assert [each["system"] for each in shown] == expected


def test_a_draft_changes_nothing_that_it_was_given() -> None:
    content = merged()
    before = copy.deepcopy(content)
    one = draft(content)
    one.merged_into(None, OTHER_KEY)
    one.qualified(FOUND)
    kept(one.revising(stored(patient("QUAL", named(family="DURAND")))))
    assert content == before
