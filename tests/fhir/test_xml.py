"""A resource is the same in JSON and in XML; what is not FHIR XML is refused, and nothing outside is ever read."""

from __future__ import annotations

import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.errors import Fault, Invalid, Unprocessable
from passerelle.fhir import json, xml
from passerelle.fhir.definitions import Definition, Element, definition
from passerelle.fhir.json import WrittenDecimal
from passerelle.fhir.validation import validate

DIV = '<div xmlns="http://www.w3.org/1999/xhtml">'
FORMATTED = f"{DIV}<br />a &#233; &lt; <!-- b --></div>"
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def root(name: str, inner: str, attributes: str = "") -> bytes:
    head = f'<?xml version="1.0" encoding="UTF-8"?><{name} xmlns="http://hl7.org/fhir"{attributes}>'
    return f"{head}{inner}</{name}>".encode()


def exact(value: Any) -> Any:
    """A resource as what is compared: digits as written, a boolean no number, members in any order."""
    if isinstance(value, dict):
        return {name: exact(member) for name, member in value.items()}
    if isinstance(value, list):
        return [exact(each) for each in value]
    return value if isinstance(value, str | None) else (type(value), str(value))


# --- pairs --------------------------------------------------------------------------------------------------

PAIRS: list[tuple[str, str, str]] = [
    (
        "a boolean, a date and what is absent",
        '{"active": true, "birthDate": "1970"}',
        '<active value="true"/><birthDate value="1970"/>',
    ),
    ("an id of a resource is an element", '{"id": "a"}', '<id value="a"/>'),
    (
        "an id of an element is an attribute",
        '{"name": [{"id": "n", "family": "A"}]}',
        '<name id="n"><family value="A"/></name>',
    ),
    (
        "an extension of a primitive",
        '{"birthDate": "1970", "_birthDate": {"id": "b", "extension": [{"url": "urn:x", "valueDecimal": 1.50}]}}',
        '<birthDate value="1970" id="b"><extension url="urn:x"><valueDecimal value="1.50"/></extension></birthDate>',
    ),
    (
        "a primitive of extensions only",
        '{"_active": {"extension": [{"url": "urn:x", "valueInteger": -3}]}}',
        '<active><extension url="urn:x"><valueInteger value="-3"/></extension></active>',
    ),
    (
        "a list with holes",
        '{"name": [{"given": ["A", null, "C"], "_given": [null, {"id": "b"}, {"id": "c"}]}]}',
        '<name><given value="A"/><given id="b"/><given value="C" id="c"/></name>',
    ),
    (
        "a list of extensions only",
        '{"name": [{"_given": [{"id": "a"}, {"id": "b"}]}]}',
        '<name><given id="a"/><given id="b"/></name>',
    ),
    (
        "a contained resource",
        '{"contained": [{"resourceType": "Basic", "id": "o", "code": {"text": "x"}}], "gender": "other"}',
        '<contained><Basic><id value="o"/><code><text value="x"/></code></Basic></contained><gender value="other"/>',
    ),
    (
        "a narrative, before the extensions",
        '{"extension": [{"url": "urn:x"}], "text": {"status": "empty", "div": ' + json.dumps(FORMATTED).decode() + "}}",
        f'<text><status value="empty"/>{FORMATTED}</text><extension url="urn:x"/>',
    ),
    (
        "characters that XML writes otherwise",
        '{"name": [{"text": "a & b < \\"c\\" > d\\ne\\tf\\rg é \\ud83d\\ude00"}]}',
        '<name><text value="a &amp; b &lt; &quot;c&quot; &gt; d&#10;e&#9;f&#13;g é \U0001f600"/></name>',
    ),
    (
        "numbers as they were written",
        '{"extension": [{"url": "a", "valueDecimal": 72.50}, {"url": "b", "valueDecimal": 0.0000001},'
        ' {"url": "c", "valueDecimal": 1e-7}, {"url": "d", "valueDecimal": 10}, {"url": "e", "valuePositiveInt": 7}]}',
        "".join(
            f'<extension url="{url}"><value{kind} value="{number}"/></extension>'
            for url, kind, number in (
                ("a", "Decimal", "72.50"),
                ("b", "Decimal", "0.0000001"),
                ("c", "Decimal", "1e-7"),
                ("d", "Decimal", "10"),
                ("e", "PositiveInt", "7"),
            )
        ),
    ),
]


@pytest.mark.parametrize(("members", "inner"), [pair[1:] for pair in PAIRS], ids=[pair[0] for pair in PAIRS])
def test_pair(members: str, inner: str) -> None:
    resource = {"resourceType": "Patient"} | json.loads(members.encode())
    assert exact(xml.loads(root("Patient", inner))) == exact(resource)
    assert xml.dumps(resource) == root("Patient", inner)


def test_a_bundle_of_resources() -> None:
    outcome = {"resourceType": "OperationOutcome", "language": "fr"}
    resource = {
        "resourceType": "Bundle",
        "type": "batch-response",
        "entry": [
            {"resource": {"resourceType": "Patient"}},
            {"response": {"status": "400", "outcome": outcome}},
        ],
    }
    inner = (
        '<type value="batch-response"/><entry><resource><Patient/></resource></entry><entry><response>'
        '<status value="400"/><outcome><OperationOutcome><language value="fr"/></OperationOutcome></outcome>'
        "</response></entry>"
    )
    assert xml.loads(root("Bundle", inner)) == resource
    assert xml.dumps(resource) == root("Bundle", inner)


def test_for_reading_it_is_indented() -> None:
    resource = {
        "resourceType": "Patient",
        "text": {"status": "empty", "div": f"{DIV}a\n b</div>"},
        "name": [{"family": "A"}],
    }
    assert xml.dumps(resource, pretty=True).decode().splitlines() == [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<Patient xmlns="http://hl7.org/fhir">',
        "  <text>",
        '    <status value="empty"/>',
        f"    {DIV}a",
        " b</div>",
        "  </text>",
        "  <name>",
        '    <family value="A"/>',
        "  </name>",
        "</Patient>",
    ]
    assert xml.loads(xml.dumps(resource, pretty=True)) == resource


# --- what other writers of XML do ---------------------------------------------------------------------------


def test_prefixes_comments_instructions_and_schema_locations_mean_nothing() -> None:
    body = (
        '\ufeff<?xml version="1.0"?><?xml-stylesheet href="x.xsl"?><!-- a --><f:Patient xmlns:f="http://hl7.org/fhir"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://hl7.org/fhir x.xsd">'
        '\n <!-- b --><f:active value="true"/>\r\n</f:Patient>'
    )
    assert xml.loads(body.encode()) == {"resourceType": "Patient", "active": True}


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (f"{DIV}a<br></br>b</div>", f"{DIV}a<br></br>b</div>"),
        ('<h:div xmlns:h="http://www.w3.org/1999/xhtml"><h:p>a</h:p><h:br/></h:div>', f"{DIV}<p>a</p><br/></div>"),
        (f'{DIV}<h:p xmlns:h="http://www.w3.org/1999/xhtml">a</h:p></div>', f"{DIV}<p>a</p></div>"),
        (f"{DIV}<![CDATA[<b> & c]]></div>", f"{DIV}&lt;b&gt; &amp; c</div>"),
        (
            f'{DIV}<p xml:lang="fr" title="&lt;&quot;">é</p></div >',
            f'{DIV}<p xml:lang="fr" title="&lt;&quot;">é</p></div>',
        ),
        (f"{DIV[:-1]}/>", f"{DIV}</div>"),
    ],
)
def test_a_narrative_stands_alone(sent: str, read: str) -> None:
    resource = xml.loads(root("Patient", f'<text><status value="generated"/>{sent}</text><active value="true"/>'))
    assert resource["text"]["div"] == read
    assert resource["active"] is True
    assert xml.loads(xml.dumps(resource)) == resource


# --- what is refused ----------------------------------------------------------------------------------------


STRANGE = '<!DOCTYPE Patient SYSTEM "file:///etc/passwd"><Patient/>'
SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "the body is not XML: line 1 column 1"),
        (b"<Patient", "the body is not XML: line 1 column 1"),
        (b"<Patient xmlns='http://hl7.org/fhir'>\n &nbsp;</Patient>", "the body is not XML: line 2 column 2"),
        (b"\xff<a/>", "the body is not UTF-8"),
        ("<?xml version='1.0' encoding='UTF-16'?><a/>".encode("utf-16"), "the body is not UTF-8"),
        (STRANGE.encode(), "a document type is not allowed: line 1 column 46"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "a document type is not allowed: line 1 column 13"),
        (b"<Patient/>", "must be a resource of FHIR R4: line 1 column 1"),
        (b"<Patient xmlns='urn:hl7-org:v3'/>", "must be a resource of FHIR R4: line 1 column 1"),
        (root("Dupont", ""), "must be a resource of FHIR R4: line 1 column 39"),
        (root("HumanName", ""), "must be a resource of FHIR R4: line 1 column 39"),
        (root("DomainResource", ""), "must be a resource of FHIR R4: line 1 column 39"),
        (root("Patient", "", ' id="a"'), "Patient has no such attribute: line 1 column 39"),
    ],
)
def test_what_is_no_resource(body: bytes, text: str) -> None:
    assert refusal(body) == (text, "structure")


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        ("\n<Dupont/>", "Patient has no such element: line 2 column 1"),
        ("\n<active xmlns='' value='true'/>", "Patient has no such element: line 2 column 1"),
        ("\n<resourceType value='Patient'/>", "Patient has no such element: line 2 column 1"),
        ("\n<name Dupont='1'/>", "HumanName has no such attribute: line 2 column 1"),
        ("\n<name value='1'/>", "HumanName has no such attribute: line 2 column 1"),
        ("\n<active value='true' Dupont='1'/>", "Element has no such attribute: line 2 column 1"),
        ("\n<active value='true'><b/></active>", "Element has no such element: line 2 column 22"),
        ("\n<extension><url value='a'/></extension>", "Extension has no such element: line 2 column 12"),
        (
            "<gender value='other'/>\n<active value='true'/>",
            "Patient has its elements in another order: line 2 column 1",
        ),
        ("<active value='true'/>\n<active value='true'/>", "the element may not repeat: line 2 column 1"),
        ("\n<active/>", "the element is empty: line 2 column 1"),
        ("\nDupont", "text is not allowed here: line 2 column 7"),
        ("\n<contained/>", "one resource is expected: line 2 column 1"),
        ("\n<contained><Basic/><Basic/></contained>", "one resource is expected: line 2 column 1"),
        (f"<text>\n{DIV}{SVG}</div></text>", "a narrative is XHTML: line 2 column 43"),
        ("<text>\n<div/></text>", "Narrative has no such element: line 2 column 1"),
    ],
)
def test_structure(inner: str, text: str) -> None:
    assert refusal(root("Patient", inner)) == (text, "structure")


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        ("\n<active value='True'/>", "the value is not written as boolean: line 2 column 1"),
        ("\n<multipleBirthInteger value='1.0'/>", "the value is not written as integer: line 2 column 1"),
        (f"\n<multipleBirthInteger value='{'1' * 5000}'/>", "the number is too long: line 2 column 1"),
        (
            "\n<extension url='a'><valueDecimal value='NaN'/></extension>",
            "the value is not written as decimal: line 2 column 20",
        ),
    ],
)
def test_values(inner: str, text: str) -> None:
    assert refusal(root("Patient", inner)) == (text, "value")


def refusal(body: bytes) -> tuple[str, str]:
    with pytest.raises(Invalid) as refused:
        xml.loads(body)
    (issue,) = refused.value.issues
    return issue.diagnostics, issue.code


@pytest.mark.parametrize("depth", [40, 100, 100_000])
def test_depth_is_bounded(depth: int) -> None:
    body = root("Basic", '<extension url="a">' * depth + "</extension>" * depth)
    with pytest.raises(Invalid, match="nested too deeply"):
        xml.loads(body)


def test_what_is_read_is_not_too_deep_for_json() -> None:
    bodies = (root("Basic", '<extension url="a">' * depth + "</extension>" * depth) for depth in range(80, 0, -1))
    resource = xml.loads(next(body for body in bodies if _is_read(body)))
    assert json.loads(json.dumps(resource)) == resource
    (inner,) = resource["extension"]
    deeper = resource | {"extension": [{"url": "a", "extension": [inner]}]}
    with pytest.raises(Invalid, match="nested too deeply"):
        json.loads(json.dumps(deeper))


def _is_read(body: bytes) -> bool:
    try:
        xml.loads(body)
    except Invalid:
        return False
    return True


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: root("Patient", text)))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    if _is_read(data):
        assert xml.loads(data)["resourceType"]


@pytest.mark.parametrize(
    "resource",
    [
        {},
        {"resourceType": "Quantity"},
        {"resourceType": "Patient", "nom": 1},
        {"resourceType": "Patient", "text": {"status": "empty", "div": f"{DIV}<br></div>"}},
        {"resourceType": "Patient", "text": {"status": "empty", "div": f"<!DOCTYPE div>{DIV}x</div>"}},
    ],
)
def test_what_is_not_valid_is_not_written(resource: Any) -> None:
    with pytest.raises(Fault):
        xml.dumps(resource)


# --- JSON to XML to JSON is identity ------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), min_size=1)
NUMBERS = st.integers(-(2**31), 2**31 - 1)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "integer": NUMBERS,
    "unsignedInt": NUMBERS.map(abs),
    "positiveInt": NUMBERS.map(abs),
    "decimal": NUMBERS | st.from_regex(r"\A-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,9}|[eE][+-]?[0-9])\Z").map(WrittenDecimal),
    "xhtml": TEXTS.map(lambda text: f"{DIV}{text.replace('&', '&amp;').replace('<', '&lt;')}</div>"),
}
TYPES = [
    "Appointment",
    "AuditEvent",
    "Bundle",
    "Claim",
    "Composition",
    "Encounter",
    "ImagingStudy",
    "MedicationRequest",
    "Observation",
    "Parameters",
    "Patient",
    "Questionnaire",
    "StructureDefinition",
    "SubstanceSpecification",
]
EXTENSION = {"url": "urn:x", "valueCode": "y"}
BESIDE = [{"id": "a"}, {"extension": [EXTENSION]}, {"id": "a", "extension": [EXTENSION]}]


def one(element: Element, draw: Callable[[Any], Any], depth: int) -> Any:
    if element.type == "Resource":
        return {"resourceType": "Basic", "id": "b", "language": "fr"}
    if element.is_primitive:
        return draw(VALUES.get(element.type, TEXTS))
    found = definition(element.type)
    assert found is not None
    return members(found, draw, depth - 1) or {"id": draw(TEXTS)}


def members(found: Definition, draw: Callable[[Any], Any], depth: int) -> dict[str, Any]:
    """Some members of a type, each with or without what stands beside a primitive."""
    names = [name for name, each in found.elements.items() if depth > 0 or each.is_primitive]
    drawn: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(names), max_size=4, unique=True)) if names else ():
        element = found.elements[name]
        values = [one(element, draw, depth) for _ in range(draw(st.integers(1, 2)) if element.many else 1)]
        beside: list[Any] = [None] * len(values)
        if element.is_primitive and not element.is_attribute and element.type != "xhtml" and draw(st.booleans()):
            beside[0] = draw(st.sampled_from(BESIDE))
            values[0] = draw(st.sampled_from([values[0], None]))
        for key, each in ((name, values), (f"_{name}", beside)):
            if any(value is not None for value in each):
                drawn[key] = each if element.many else each[0]
    return drawn


@st.composite
def resources(draw: Any) -> dict[str, Any]:
    name = draw(st.sampled_from(TYPES))
    found = definition(name)
    assert found is not None
    return {"resourceType": name, **members(found, draw, 3)}


@given(resources())
def test_any_resource_is_the_same_in_both(resource: dict[str, Any]) -> None:
    assert exact(xml.loads(xml.dumps(resource))) == exact(resource)
    assert exact(xml.loads(xml.dumps(resource, pretty=True))) == exact(resource)


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_our_examples_are_the_same_in_both(example: Path) -> None:
    resource = json.loads(example.read_bytes())
    assert exact(xml.loads(xml.dumps(resource))) == exact(resource)


PUBLISHED = (
    "hl7_r4_examples",
    "ig_examples",
    "synthea2019_bundles",
    "synthea_patients_1100",
    "fr_ans_examples",
    "gematik_erezept",
    "nhs_eps_examples",
    "ms_fhir_server_testfiles",
)


def published(folder: Path, name: str) -> Iterator[tuple[str, Any]]:
    with lzma.open(folder / f"{name}.ndjson.xz") as lines:
        for line in lines:
            row = json.loads(line)
            if "text" not in row:
                yield row["file"], row.get("resource") or row.get("bundle")


def is_of_fhir(resource: Any) -> bool:
    """Whether its form is that of FHIR; a broken rule is no matter here, but for a narrative that is not XML."""
    try:
        validate(resource)
    except Invalid:
        return False
    except Unprocessable as refused:
        return not any((issue.expression or "").endswith(".div") for issue in refused.issues)
    return True


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_resources_are_the_same_in_both(shared_data: Path, name: str) -> None:
    count = 0
    for file, resource in published(shared_data, name):
        if is_of_fhir(resource):
            count += 1
            assert exact(xml.loads(xml.dumps(resource))) == exact(resource), file
    assert count >= 20


def test_the_published_examples_of_the_dmp_are_the_same_in_both(shared_data: Path) -> None:
    for file in sorted((shared_data / "dmp").glob("*.json")):
        resource = json.loads(file.read_bytes())
        assert exact(xml.loads(xml.dumps(resource))) == exact(resource), file.name
