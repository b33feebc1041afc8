"""CDA documents as FHIR: what is made of sections, what is lost and said so, and which resource each entry meets."""

from __future__ import annotations

import base64
import json
import lzma
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from passerelle.fhir import json as fhir_json
from passerelle.fhir.conversion.cda import convert
from passerelle.fhir.conversion.cda_sections import MAX_RESOURCES, resources_of
from passerelle.fhir.conversion.embedded import document_entries
from passerelle.fhir.validation import validate
from passerelle.ingestion.model import Conversion, Reason, RefusedMessage, Source

EXAMPLE_FOLDER = Path(__file__).parent.parent / "examples" / "cda"
EXAMPLE = (EXAMPLE_FOLDER / "synthese.xml").read_bytes()
EXPECTATIONS = Path(__file__).parent.parent / "expectations" / "cda.txt"
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def source(domain: str = "urn:oid:2.999.1") -> Source:
    return Source(domain=domain, organisation="1990000011", organisation_reference={"display": "H"}, now=NOW)


@pytest.fixture(scope="module")
def converted() -> Conversion:
    return convert(EXAMPLE, source())


def of(conversion: Conversion, kind: str) -> list[Any]:
    resources = [each["resource"] for each in conversion.bundle["entry"]]
    return [each for each in resources if each["resourceType"] == kind]


def coded(resource: Any, name: str = "code") -> list[str]:
    return [each["code"] for each in resource.get(name, {}).get("coding", ())]


def status(resource: Any, name: str) -> str | None:
    return coded(resource, name)[0] if name in resource else None


def test_every_resource_is_valid(converted: Conversion) -> None:
    for each in converted.bundle["entry"]:
        validate(fhir_json.loads(fhir_json.dumps(each["resource"])))


def test_the_document_is_published_as_it_came(converted: Conversion) -> None:
    (document,) = of(converted, "DocumentReference")
    (binary,) = of(converted, "Binary")
    assert document["masterIdentifier"] == {"system": "urn:oid:2.999.1.50", "value": "SYN-1"}
    assert document["content"][0]["attachment"]["size"] == len(EXAMPLE)
    assert base64.b64decode(binary["data"]) == EXAMPLE
    assert (converted.kind, converted.sender) == ("CDA", "1990000011")


def test_a_known_patient_is_left_as_is(converted: Conversion) -> None:
    entry = converted.bundle["entry"][0]
    assert entry["request"] == {
        "method": "POST",
        "url": "Patient",
        "ifNoneExist": "identifier=urn:oid:2.999.1|N3-0001",
    }
    assert entry["resource"]["name"] == [{"use": "official", "family": "EXEMPLE", "given": ["Odile"]}]


def test_problems(converted: Conversion) -> None:
    asthma, diabetes = of(converted, "Condition")
    assert coded(asthma) == ["J45.0", "195967001"]  # with its translation
    assert asthma["code"]["text"] == "Asthme allergique depuis l'enfance"  # the words of the narrative
    assert asthma["onsetDateTime"] == "1959-04"  # as precise as it was said
    assert status(asthma, "clinicalStatus") == "active"  # a completed concern is not one that is over
    assert coded(asthma, "severity") == ["M"]
    # negationInd: she does not have it, and nothing else may be read from it
    assert (status(diabetes, "verificationStatus"), status(diabetes, "clinicalStatus")) == ("refuted", None)
    assert diabetes["code"]["text"] == "Diabète de type 2"  # not "Non", the cell that the entry refers to


def test_allergies(converted: Conversion) -> None:
    (allergy,) = of(converted, "AllergyIntolerance")
    assert (coded(allergy), allergy["type"], allergy["category"]) == (["J01CE01"], "allergy", ["medication"])
    assert status(allergy, "clinicalStatus") == "active"  # an end that nobody knows is no end
    assert allergy["reaction"][0]["manifestation"][0]["coding"][0]["code"] == "126485001"
    assert allergy["reaction"][0]["severity"] == "severe"


def test_no_known_allergy_is_no_refuted_one() -> None:
    text = EXAMPLE.decode().replace(
        '<value xsi:type="CD" code="J01CE01" displayName="Benzylpénicilline" codeSystem="2.16.840.1.113883.6.73"/>',
        '<value xsi:type="CD" code="416098002" codeSystem="2.16.840.1.113883.6.96"/>',
    )
    start = text.rindex("<observation ", 0, text.index("1.3.6.1.4.1.19376.1.5.3.1.4.6"))
    text = text[:start] + text[start:].replace("<observation ", '<observation negationInd="true" ', 1)
    (allergy,) = of(convert(text.encode(), source()), "AllergyIntolerance")
    assert (coded(allergy), status(allergy, "verificationStatus")) == (["409137002"], "confirmed")


def test_a_substance_that_is_no_allergy() -> None:
    start = EXAMPLE.rindex(b"<observation ", 0, EXAMPLE.index(b"1.3.6.1.4.1.19376.1.5.3.1.4.6"))
    negated = EXAMPLE[:start] + EXAMPLE[start:].replace(b"<observation ", b'<observation negationInd="true" ', 1)
    (allergy,) = of(convert(negated, source()), "AllergyIntolerance")
    assert (status(allergy, "verificationStatus"), status(allergy, "clinicalStatus")) == ("refuted", "inactive")
    validate(fhir_json.loads(fhir_json.dumps(allergy)))


def test_medications(converted: Conversion) -> None:
    (taken,) = of(converted, "MedicationStatement")  # what is only planned is none
    assert taken["status"] == "active"  # in IHE PCC every statement is "completed": its period says that it goes on
    assert taken["effectivePeriod"] == {"start": "2026-02-15", "end": "2026-05-15"}
    (dosage,) = taken["dosage"]
    assert dosage["text"] == "Un comprimé matin et soir"
    assert dosage["timing"] == {"repeat": {"frequency": 1, "period": 12, "periodUnit": "h"}}
    assert dosage["doseAndRate"][0]["doseQuantity"]["value"] == 1


def test_results_keep_their_digits_and_their_report(converted: Conversion) -> None:
    haemoglobin, platelets, panel = (each for each in of(converted, "Observation") if coded(each) != ["29463-7"])
    assert str(haemoglobin["valueQuantity"]["value"]) == "11.20"
    assert haemoglobin["effectiveDateTime"] == "2026-03-01T08:15:00+01:00"  # of the battery around it
    assert haemoglobin["interpretation"][0]["coding"][0]["code"] == "L"
    assert (platelets["valueQuantity"]["comparator"], str(platelets["valueQuantity"]["value"])) == (">", "500")
    (report,) = of(converted, "DiagnosticReport")
    urls = {coded(each["resource"])[0]: each["fullUrl"] for each in entries(converted, "Observation")}
    assert [each["reference"] for each in report["result"]] == [urls["58410-2"]]
    assert [each["reference"] for each in panel["hasMember"]] == [urls["718-7"], urls["777-3"]]


ISOLATE = (EXAMPLE_FOLDER / "isolate.xml").read_bytes()
NO_GERM = ISOLATE.replace(b'code="112283007" displayName="Escherichia coli"', b'nullFlavor="UNK"')


def cultured(*isolates: bytes) -> bytes:
    """The example with isolates in its laboratory report."""
    end = b"</organizer></entryRelationship>"
    assert EXAMPLE.count(end) == 1
    return EXAMPLE.replace(end, end + b"".join(isolates))


def test_a_susceptibility_names_its_germ() -> None:
    """Two germs with one result, word for word: two results."""
    other = ISOLATE.replace(b"112283007", b"3092008").replace(b"Escherichia coli", b"Staphylococcus aureus")
    conversion = convert(cultured(ISOLATE, other.replace(b"ISO-1", b"ISO-2")), source())
    urls = {each["fullUrl"]: each["resource"] for each in entries(conversion, "Observation")}
    (report,) = of(conversion, "DiagnosticReport")
    isolates = [
        (each["reference"], urls[each["reference"]])
        for each in report["result"]
        if "valueCodeableConcept" in urls[each["reference"]]
    ]
    assert [coded(each, "valueCodeableConcept") for _, each in isolates] == [["112283007"], ["3092008"]]
    assert [coded(each) for _, each in isolates] == [["41852-5"]] * 2
    for (url, isolate), number in zip(isolates, ("ISO-1", "ISO-2"), strict=True):
        (panel,) = (urls[each["reference"]] for each in isolate["hasMember"])
        (tested,) = (urls[each["reference"]] for each in panel["hasMember"])
        assert (coded(panel), coded(tested)) == (["18769-0"], ["18928-2"])
        assert tested["interpretation"][0]["coding"][0]["code"] == "S"
        assert tested["valueQuantity"]["comparator"] == "<"
        assert tested["effectiveDateTime"] == "2026-03-02T10:00:00+01:00"  # of the isolate
        for each in (panel, tested):
            assert each["derivedFrom"] == [{"reference": url}]
        for each in (isolate, panel, tested):
            assert each["specimen"]["identifier"] == {"system": "urn:oid:2.999.1.60", "value": number}
            assert each["specimen"]["display"] == isolate["valueCodeableConcept"]["coding"][0]["display"]
            validate(fhir_json.loads(fhir_json.dumps(each)))


def test_without_its_germ_nothing_is_said_of_an_isolate(converted: Conversion) -> None:
    conversion = convert(cultured(NO_GERM), source())
    assert len(conversion.bundle["entry"]) == len(converted.bundle["entry"])
    template = "1.3.6.1.4.1.19376.1.3.1.5 1.2.250.1.213.1.1.3.79"
    assert f"section[18723-7]/entry[1]/2: organizer {template}" in conversion.lost


@pytest.mark.parametrize("room", [0, 1, 2, 3])
def test_no_susceptibility_is_left_where_its_germ_finds_no_room(room: int) -> None:
    whole = cultured(ISOLATE)
    codes = [coded(each["resource"]) for each in puts(whole)]
    start = whole.index(b"<component><observation", whole.index(b"58410-2"))
    result = whole[start : whole.index(b"</component>", start) + len(b"</component>")]
    many = [result.replace(b"11.20", str(n).encode()) for n in range(MAX_RESOURCES - codes.index(["18928-2"]) - room)]
    found = [coded(each["resource"]) for each in puts(whole.replace(result, result + b"".join(many)))]
    assert [each for each in found if each in (["18928-2"], ["18769-0"], ["41852-5"])] == (
        [["18928-2"], ["18769-0"], ["41852-5"]] if room == 3 else []
    )


def puts(cda: bytes) -> list[Any]:
    return [*resources_of(cda, "Patient/p", source(), document="urn:d").entries[:-1]]


def entries(conversion: Conversion, kind: str) -> Iterator[Any]:
    return (each for each in conversion.bundle["entry"] if each["resource"]["resourceType"] == kind)


def test_immunisations_and_vital_signs(converted: Conversion) -> None:
    (given,) = of(converted, "Immunization")
    assert (given["status"], given["occurrenceDateTime"], given["lotNumber"]) == ("completed", "2025-10-12", "LOT-7")
    assert given["protocolApplied"] == [{"doseNumberPositiveInt": 2}]
    (weight,) = (each for each in of(converted, "Observation") if coded(each) == ["29463-7"])
    assert weight["category"][0]["coding"][0]["code"] == "vital-signs"
    assert weight["effectiveDateTime"] == "2026-03-02"


def test_provenance_names_document_author_and_assembler(converted: Conversion) -> None:
    (provenance,) = of(converted, "Provenance")
    made = [each for each in converted.bundle["entry"] if each["request"]["method"] == "PUT"]
    assert {each["reference"] for each in provenance["target"]} == {each["fullUrl"] for each in made}
    (document,) = entries(converted, "DocumentReference")
    assert provenance["entity"][0]["what"] == {"reference": document["fullUrl"]}
    author, assembler = provenance["agent"]
    assert author["who"]["identifier"]["value"] == "899900000018"
    assert assembler["type"]["coding"][0]["code"] == "assembler"


def test_what_is_lost_is_listed_by_place_and_template(converted: Conversion) -> None:
    assert converted.lost == (
        "section[10157-6]/entry[1]: observation 1.3.6.1.4.1.19376.1.5.3.1.4.13 1.3.6.1.4.1.19376.1.5.3.1.4.13.3",
        "section[18776-5]/entry[1]: substanceAdministration (INT) 1.3.6.1.4.1.19376.1.5.3.1.4.7",
        "section[51848-0]: no entries",
    )


def test_the_same_document_meets_the_same_resources(converted: Conversion) -> None:
    corrected = EXAMPLE.replace(b"SYN-1", b"SYN-2").replace(b'value="62.5"', b'value="63.0"')
    again = convert(corrected, source())

    def urls(conversion: Conversion) -> dict[str, list[str]]:
        puts = [each for each in conversion.bundle["entry"] if each["request"]["method"] == "PUT"]
        return {each["request"]["url"]: coded(each["resource"]) for each in puts if "code" in each["resource"]}

    with_ids = [url for url, codes in urls(converted).items() if codes == ["29463-7"]]
    assert with_ids
    assert urls(again).keys() >= set(with_ids)
    assert urls(convert(EXAMPLE, source())) == urls(converted)
    # another sender's entries are its own, whatever numbers it uses
    other = resources_of(EXAMPLE, "Patient/p", source("urn:oid:2.999.2"), document="urn:d")
    assert (
        not {each["request"]["url"] for each in other.entries if "?" in each["request"]["url"]} & urls(converted).keys()
    )


def test_two_statements_under_one_id_are_two_resources() -> None:
    doubled = EXAMPLE.replace(b"9F0A1B6E-0B60-4D8C-9B0A-000000000003", b"9F0A1B6E-0B60-4D8C-9B0A-000000000002")
    assert [coded(each)[0] for each in of(convert(doubled, source()), "Condition")] == ["J45.0", "E11"]


@pytest.mark.parametrize(
    ("data", "reason", "path"),
    [
        pytest.param(b"<ClinicalDocument/>", Reason.UNSUPPORTED_MESSAGE_TYPE, "", id="other namespace"),
        pytest.param(b"not XML", Reason.UNSUPPORTED_MESSAGE_TYPE, "", id="no XML"),
        pytest.param(
            EXAMPLE.replace(
                b"<ClinicalDocument", b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><ClinicalDocument'
            ),
            Reason.UNSUPPORTED_MESSAGE_TYPE,
            "",
            id="external entity",
        ),
        pytest.param(
            EXAMPLE.replace(b"<realmCode", b"<x>" * 250 + b"</x>" * 250 + b"<realmCode"),
            Reason.UNSUPPORTED_MESSAGE_TYPE,
            "",
            id="too deep",
        ),
        pytest.param(
            EXAMPLE.replace(b'<id root="2.999.1.50" extension="SYN-1"/>', b""),
            Reason.REQUIRED_FIELD_MISSING,
            "ClinicalDocument.id",
            id="no identifier",
        ),
        pytest.param(
            EXAMPLE.replace(b'<id root="2.999.1" extension="N3-0001"/>', b""),
            Reason.REQUIRED_FIELD_MISSING,
            "ClinicalDocument.recordTarget",
            id="nobody's",
        ),
    ],
)
def test_refused(data: bytes, reason: Reason, path: str) -> None:
    with pytest.raises(RefusedMessage) as refused:
        convert(data, source())
    assert (refused.value.reason, refused.value.path) == (reason, path)


def test_a_document_has_a_bounded_number_of_resources() -> None:
    end = b"</component>"
    measured = EXAMPLE.index(b"1.3.6.1.4.1.19376.1.5.3.1.4.13.2")
    weight = EXAMPLE[EXAMPLE.rindex(b"<component>", 0, measured) : EXAMPLE.index(end, measured) + len(end)]
    many = b"".join(weight.replace(b"62.5", str(n).encode()) for n in range(MAX_RESOURCES + 20))
    made = resources_of(EXAMPLE.replace(weight, many), "Patient/p", source(), document="urn:d")
    assert len(made.entries) == MAX_RESOURCES + 1  # and their Provenance
    assert len([each for each in made.lost if "section[8716-3]" in each]) > 20


# --- in HL7 v2 --------------------------------------------------------------------------------------------------------


def mdm(
    event: str, status: str = "F", *, masked: bool = False, cda: bytes = EXAMPLE, patient: str = "N3-0001"
) -> bytes:
    content = base64.b64encode(cda).decode()
    return "\r".join(
        (
            f"MSH|^~\\&|DPI|H|PFI|R|20260302110000||MDM^{event}^MDM_T02|1|P|2.6|||||FRA|UNICODE UTF-8",
            f"PID|||{patient}^^^H&2.999.1&ISO^PI||EXEMPLE^ODILE",
            "TXA|1|60591-5|TEXT|20260302||||||||2.999.1.50.7^H|2.999.1.50.6^H||||LA",
            f"OBX|1|ED|60591-5^Synthèse^LN||^TEXT^XML^Base64^{content}||||||{status}",
            f"OBX|2|CE|MASQUE_PS^Masqué^MetaDMPMSS||{'Y' if masked else 'N'}^^HL70136||||||F",
            "OBX|3|CE|DESTMSSANTEPS^Destinataire^MetaDMPMSS||Y^^HL70136||||||F",
        )
    ).encode()


def test_a_document_in_a_message_with_its_mask() -> None:
    found = document_entries(mdm("T02", masked=True), "urn:p", source(), sender="DPI|H")
    document = next(
        each["resource"] for each in found.entries if each["resource"]["resourceType"] == "DocumentReference"
    )
    assert document["masterIdentifier"]["value"] == "SYN-1"  # its own, before that of the message
    labels = [coding["code"] for each in document["securityLabel"] for coding in each["coding"]]
    assert "MASQUE_PS" in labels
    assert found.handled == {1, 2, 3}
    assert "OBX[3]" in found.lost  # where else it should go: nobody follows that here
    assert any(each["resource"]["resourceType"] == "Condition" for each in found.entries)


def test_a_replacement_in_a_message_supersedes_what_txa_13_names() -> None:
    found = document_entries(mdm("T10", "C"), "urn:p", source(), sender="DPI|H")
    document = next(
        each["resource"] for each in found.entries if each["resource"]["resourceType"] == "DocumentReference"
    )
    parent = {"system": "urn:ietf:rfc:3986", "value": "urn:oid:2.999.1.50.6"}
    assert document["relatesTo"] == [{"code": "replaces", "target": {"identifier": parent}}]
    (patch,) = (each for each in found.entries if each["request"]["method"] == "PATCH")
    assert patch["request"]["url"] == "DocumentReference?identifier=urn:ietf:rfc:3986|urn:oid:2.999.1.50.6"


def test_a_deletion_in_a_message_withdraws_the_document() -> None:
    found = document_entries(mdm("T04", "D"), "urn:p", source(), sender="DPI|H")
    assert (found.entries, found.withdrawn) == ((), (("urn:oid:2.999.1.50", "SYN-1"),))


def test_a_document_about_somebody_else_than_the_message_is_refused() -> None:
    with pytest.raises(RefusedMessage) as refused:
        document_entries(mdm("T02", patient="N3-0002"), "urn:p", source(), sender="DPI|H")
    assert (refused.value.reason, refused.value.path) == (Reason.UNKNOWN_KEY, "OBX[1]-5")


def test_what_is_said_to_be_a_document_and_is_none_is_refused() -> None:
    with pytest.raises(RefusedMessage) as refused:
        document_entries(mdm("T02", cda=b"Document medical au format CDA"), "urn:p", source(), sender="DPI|H")
    assert (refused.value.reason, refused.value.path) == (Reason.DATA_TYPE, "OBX[1]-5")


def test_real_messages_with_documents(shared_data: Path) -> None:
    """Of the messages of the volet: those with a CDA document publish it, those with a stand-in for one are refused."""
    outcomes = Counter[str]()
    with lzma.open(shared_data / "hl7v2_messages.ndjson.xz", "rt") as lines:
        for row in map(json.loads, lines):
            text = row["text"]
            if "ansforge" not in row["file"] or "|ED|" not in text:
                continue
            try:
                found = document_entries(text.encode(), "urn:p", source(), sender="A|B")
            except RefusedMessage as refused:
                outcomes[f"refused {refused}"] += 1
                continue
            kinds = Counter(each["resource"]["resourceType"] for each in found.entries)
            outcomes[f"{kinds['DocumentReference']} published, {len(found.withdrawn)} withdrawn"] += 1
            for each in found.entries:
                if each["request"]["method"] != "PATCH":
                    validate(fhir_json.loads(fhir_json.dumps(each["resource"])))
    assert outcomes == {
        "1 published, 0 withdrawn": 3,
        "0 published, 1 withdrawn": 3,
        "refused 102 OBX[1]-5": 5,
    }


# --- real documents ---------------------------------------------------------------------------------------------------


def outcomes(shared_data: Path) -> Iterator[str]:
    """Each file with the number of resources by type, and what was lost of it by template."""
    with lzma.open(shared_data / "cda_documents.ndjson.xz", "rt") as lines:
        for line in lines:
            row = json.loads(line)
            yield f"== {row['file']}"
            try:
                found = convert(row["text"].encode(), source())
            except RefusedMessage as refused:
                yield f"   refused {refused}"
                continue
            for each in found.bundle["entry"]:
                if each["request"]["method"] != "PATCH":
                    validate(fhir_json.loads(fhir_json.dumps(each["resource"])))
            counted = Counter(each["resource"]["resourceType"] for each in found.bundle["entry"])
            yield f"   {', '.join(f'{kind} {number}' for kind, number in sorted(counted.items()))}"
            for what, number in Counter(found.lost).items():
                yield f"   -{what}{f' ({number} times)' if number > 1 else ''}"


def test_real_documents(shared_data: Path) -> None:
    """Each converts, or is refused with a reason; the file of expectations was read by people."""
    assert "\n".join(outcomes(shared_data)).splitlines() == EXPECTATIONS.read_text("utf-8").splitlines()
