"""Bundles: stored bytes stay what they are, transactions are read whole or refused with every fault."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.errors import Invalid, TooLarge
from passerelle.fhir.bundles import (
    MAX_ENTRIES,
    EntryResponse,
    Found,
    parse_transaction,
    resolve_references,
    searchset,
    transaction_response,
)
from passerelle.fhir.validation import validate

BASE = "https://hie.example/fhir"
STORED = '{"resourceType":"Observation","valueQuantity":{"value":72.50},  "note":[{"text":"é\\u00e9"}]}'.encode()

# --- searchset ----------------------------------------------------------------------------------------------


def test_stored_bytes_are_embedded_as_they_are() -> None:
    bundle = searchset(
        [
            Found(reference="Observation/o1", body=STORED),
            Found(reference="Patient/p", body=b"{}", mode="include"),
        ],
        self_url=f'{BASE}/Observation?code=a"b',
        base_url=BASE,
        total=7,
        next_url=f"{BASE}/Observation?_cursor=x",
    )
    assert STORED in bundle
    parsed = json.loads(bundle)
    assert parsed["total"] == 7
    assert parsed["link"] == [
        {"relation": "self", "url": f'{BASE}/Observation?code=a"b'},
        {"relation": "next", "url": f"{BASE}/Observation?_cursor=x"},
    ]
    assert [entry["fullUrl"] for entry in parsed["entry"]] == [f"{BASE}/Observation/o1", f"{BASE}/Patient/p"]
    assert [entry["search"]["mode"] for entry in parsed["entry"]] == ["match", "include"]
    assert parsed["entry"][0]["resource"] == json.loads(STORED)


def test_an_empty_searchset_is_valid() -> None:
    bundle = json.loads(searchset([], self_url=f"{BASE}/Observation", base_url=BASE, total=0))
    assert (bundle["total"], "entry" in bundle) == (0, False)
    validate(bundle, expected_type="Bundle")


def test_an_unknown_total_is_left_out() -> None:
    assert "total" not in json.loads(searchset([], self_url="x", base_url=BASE, total=None))


# --- transactions -------------------------------------------------------------------------------------------


def post(**more: Any) -> dict[str, Any]:
    return {
        "fullUrl": "urn:uuid:0c287d32-01e3-4d87-9953-9fcc9404eb21",
        "resource": {"resourceType": "Observation"},
        "request": {"method": "POST", "url": "Observation"},
        **more,
    }


def transaction(*entries: Any, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries), **more}


def test_a_transaction() -> None:
    bundle = transaction(
        post(request={"method": "POST", "url": "Observation", "ifNoneExist": "identifier=a|b"}),
        {
            "resource": {"resourceType": "Patient", "id": "p1"},
            "request": {"method": "PUT", "url": "Patient/p1", "ifMatch": 'W/"3"'},
        },
        {
            "resource": {"resourceType": "Patient"},
            "request": {"method": "PUT", "url": "Patient?identifier=urn:oid:2.999|1"},
        },
        {
            "resource": {"resourceType": "Parameters"},
            "request": {"method": "PATCH", "url": "DocumentReference/d1"},
        },
        {"request": {"method": "GET", "url": "Patient/p1"}},
        {"request": {"method": "DELETE", "url": "Observation/o1"}},
    )
    create, update, conditional, patch, read, delete = parse_transaction(bundle)
    assert (create.path, create.type, create.id, create.if_none_exist) == (
        "Bundle.entry[0]",
        "Observation",
        None,
        "identifier=a|b",
    )
    assert (update.type, update.id, update.if_match) == ("Patient", "p1", 3)
    assert (conditional.type, conditional.id, conditional.if_match) == ("Patient", None, None)
    assert (patch.method, patch.type, read.resource, delete.id) == ("PATCH", "DocumentReference", {}, "o1")


def test_a_transaction_without_entries() -> None:
    assert parse_transaction({"resourceType": "Bundle", "type": "batch"}) == []


@pytest.mark.parametrize(
    ("entry", "code", "where"),
    [
        ({}, "required", ".request"),
        ("x", "required", ".request"),
        (post(request=[]), "required", ".request"),
        (post(request={"url": "Observation"}), "required", ".request.method"),
        (post(request={"method": "POST"}), "required", ".request.url"),
        (post(request={"method": 1, "url": "Observation"}), "structure", ".request.method"),
        (post(request={"method": "HEAD", "url": "Observation"}), "value", ".request.method"),
        (post(request={"method": "POST", "url": ""}), "structure", ".request.url"),
        (post(request={"method": "POST", "url": "/Observation"}), "value", ".request.url"),
        (post(request={"method": "POST", "url": "Observation/1"}), "value", ".request.url"),
        (
            post(request={"method": "POST", "url": "https://other.example/Observation"}),
            "value",
            ".request.url",
        ),
        (post(request={"method": "PUT", "url": "Observation"}), "value", ".request.url"),
        (post(request={"method": "PUT", "url": "Observation/../Patient"}), "value", ".request.url"),
        (post(request={"method": "PUT", "url": "Observation/1"}), "value", ".resource.id"),
        (post(request={"method": "POST", "url": "Patient"}), "structure", ".resource"),
        (post(resource=None), "required", ".resource"),
        (post(resource=[]), "required", ".resource"),
        (post(request={"method": "DELETE", "url": "Observation/1"}), "structure", ".resource"),
        (post(request={"method": "POST", "url": "Observation", "ifMatch": "3"}), "value", ".request.ifMatch"),
        (
            post(resource=None, request={"method": "GET", "url": "Observation/1", "ifNoneExist": "a=b"}),
            "value",
            ".request.ifNoneExist",
        ),
        (post(fullUrl="Observation/1"), "value", ".fullUrl"),
        (
            {"resource": {"resourceType": "Bundle", "type": "batch"}, "request": {"method": "POST", "url": "Bundle"}},
            "value",
            ".resource.type",
        ),
        (post(request={"method": "POST", "url": "Observation", "ifNoneMatch": 1}), "structure", ".request.ifNoneMatch"),
        (post(fullUrl=3), "structure", ".fullUrl"),
    ],
)
def test_a_faulty_entry_is_named(entry: Any, code: str, where: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_transaction(transaction(post(), entry))
    assert [(issue.code, issue.expression) for issue in refused.value.issues] == [(code, f"Bundle.entry[1]{where}")]


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(Invalid) as refused:
        parse_transaction(transaction({}, post(fullUrl="x"), post()))
    assert [issue.expression for issue in refused.value.issues] == [
        "Bundle.entry[0].request",
        "Bundle.entry[1].fullUrl",
    ]


def test_the_same_resource_twice() -> None:
    delete = {"request": {"method": "DELETE", "url": "Observation/1"}}
    with pytest.raises(Invalid) as refused:
        parse_transaction(transaction(post(), post(), delete, delete))
    assert [issue.expression for issue in refused.value.issues] == [
        "Bundle.entry[1].fullUrl",
        "Bundle.entry[3].request.url",
    ]


def test_in_a_batch_one_resource_may_be_changed_twice() -> None:
    delete = {"request": {"method": "DELETE", "url": "Observation/1"}}
    assert len(parse_transaction(transaction(delete, delete, type="batch"))) == 2
    with pytest.raises(Invalid):
        parse_transaction(transaction(post(), post(), type="batch"))


@pytest.mark.parametrize("url", ["Patient/1", "Patient/1/_history/2", "Patient?a=b", "Patient/1/$everything?_count=1"])
def test_a_read_is_of_any_path_below_the_base(url: str) -> None:
    (read,) = parse_transaction(transaction({"request": {"method": "GET", "url": url, "ifNoneMatch": 'W/"1"'}}))
    assert (read.type, read.url, read.if_none_match) == ("Patient", url, 'W/"1"')


@pytest.mark.parametrize("url", ["", "/", "patient/1", "../Patient", "Patient//1", "urn:x", "Patient/1 2"])
def test_no_read_leaves_the_base(url: str) -> None:
    with pytest.raises(Invalid):
        parse_transaction(transaction({"request": {"method": "GET", "url": url}}))


@pytest.mark.parametrize(
    ("bundle", "code", "where"),
    [
        (None, "structure", "Bundle"),
        ({"resourceType": "Patient"}, "structure", "Bundle"),
        ({"resourceType": "Bundle"}, "value", "Bundle.type"),
        ({"resourceType": "Bundle", "type": "collection"}, "value", "Bundle.type"),
        ({"resourceType": "Bundle", "type": "transaction", "entry": {}}, "structure", "Bundle.entry"),
    ],
)
def test_not_a_transaction(bundle: Any, code: str, where: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_transaction(bundle)
    assert [(issue.code, issue.expression) for issue in refused.value.issues] == [(code, where)]


def test_a_transaction_has_a_limit() -> None:
    entry = {"resource": {"resourceType": "Observation"}, "request": {"method": "POST", "url": "Observation"}}
    assert len(parse_transaction(transaction(*[entry] * MAX_ENTRIES))) == MAX_ENTRIES
    with pytest.raises(TooLarge):
        parse_transaction(transaction(*[entry] * (MAX_ENTRIES + 1)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["POST", "Patient", "Patient/1"]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(["request", "method", "url", "resource", "fullUrl", "resourceType", "id", "ifMatch"]),
            children,
        )
    ),
)


@given(st.lists(json_values, max_size=3))
def test_any_json_is_read_or_refused(entries: list[Any]) -> None:
    with contextlib.suppress(Invalid):
        assert len(parse_transaction(transaction(*entries))) == len(entries)


def test_a_response() -> None:
    bundle = transaction_response(
        [
            EntryResponse(status="201 Created", location="Observation/o1/_history/1", etag='W/"1"'),
            EntryResponse(status="200 OK", last_modified="2025-03-14T09:12:03Z"),
        ]
    )
    validate(bundle, expected_type="Bundle")
    assert bundle["type"] == "transaction-response"
    assert bundle["entry"][0]["response"] == {
        "status": "201 Created",
        "location": "Observation/o1/_history/1",
        "etag": 'W/"1"',
    }
    assert transaction_response([]) == {"resourceType": "Bundle", "type": "transaction-response"}


# --- references ---------------------------------------------------------------------------------------------

URN = "urn:uuid:0c287d32-01e3-4d87-9953-9fcc9404eb21"


def test_references_and_urls_are_replaced_and_nothing_else() -> None:
    resource = {
        "resourceType": "DocumentReference",
        "text": {"status": "generated", "div": URN},
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": URN},
        "subject": {"reference": URN, "display": URN},
        "author": [{"reference": URN}, {"reference": "#a"}, {"reference": "Practitioner/1"}],
        "content": [{"attachment": {"url": URN, "title": URN}}],
        "extension": [
            {"url": "https://x.example", "valueUri": URN},
            {"url": "https://x.example", "valueString": URN},
        ],
    }
    before = json.dumps(resource)
    resolved = resolve_references(resource, {URN: "Patient/p1"})
    assert json.dumps(resource) == before
    assert resolved["text"]["div"] == resolved["masterIdentifier"]["value"] == URN
    assert resolved["subject"] == {"reference": "Patient/p1", "display": URN}
    assert [each["reference"] for each in resolved["author"]] == ["Patient/p1", "#a", "Practitioner/1"]
    assert resolved["content"][0]["attachment"] == {"url": "Patient/p1", "title": URN}
    assert [list(each.values())[1] for each in resolved["extension"]] == ["Patient/p1", URN]


def test_relative_references_mean_the_neighbours_of_a_restful_full_url() -> None:
    mapping = {"https://other.example/fhir/Patient/1": "Patient/p1"}
    resource = {"resourceType": "Observation", "subject": {"reference": "Patient/1"}}
    neighbour = resolve_references(resource, mapping, full_url="https://other.example/fhir/Observation/9")
    assert neighbour["subject"]["reference"] == "Patient/p1"
    for elsewhere in ("https://third.example/fhir/Observation/9", URN, None):
        assert resolve_references(resource, mapping, full_url=elsewhere) == resource
