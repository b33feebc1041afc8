"""What holds for every transaction: IHE ITI TF-2 Appendix Z, IUA, FHIR R4; as far as documents are concerned."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest

from conformance.checks import all_pages, expect, ids, link, ok, ok_xml, refused, searchset, values
from conformance.profile import Profile
from conformance.server import FHIR_JSON, FHIR_XML, FORM, Actor, Server
from conformance.shelf import Published, Shelf, Shelves
from conformance.submissions import (
    CDA,
    base64_of,
    from_xml,
    label,
    simplified,
    the,
    unique_id,
)

SHELF: Final = "general"

_UNRELATED: Final = "unrelated"


@pytest.fixture(scope="session")
def document(shelves: Shelves) -> Published:
    """A document that stays as it is."""
    shelf = shelves.of(SHELF)
    return shelf.published()


# --- forms ------------------------------------------------------------------------------------------------------------


def _is_form(content_type: str, form: str) -> bool:
    return content_type.partition(";")[0].strip() == (FHIR_XML if "xml" in form else FHIR_JSON)


@pytest.mark.row("GEN-1")
@pytest.mark.parametrize("form", [FHIR_JSON, FHIR_XML, "json", "xml"])
@pytest.mark.parametrize("by", ["Accept", "_format"])
@pytest.mark.parametrize("transaction", ["ITI-65", "ITI-66", "ITI-67", "read"])
def test_gen_1_form(shelf: Shelf, document: Published, transaction: str, by: str, form: str) -> None:
    path = {
        "ITI-65": "",
        "ITI-66": f"List?patient={shelf.person.id}&code=submissionset&identifier={document.set_unique}",
        "ITI-67": f"DocumentReference?patient={shelf.person.id}&identifier={document.unique}",
        "read": document.reference,
    }[transaction]
    headers = {"Accept": form} if by == "Accept" else {"Accept": "*/*"}
    if by == "_format":
        path += f"{'&' if '?' in path else '?'}_format={quote(form)}"
    answer = (
        shelf.author.post(path, shelf.submission(), **headers)
        if transaction == "ITI-65"
        else shelf.author.get(path, **headers)
    )
    expect(answer.status_code == 200, f"{by}={form} is accepted", answer.status_code)
    kind = answer.headers.get("content-type", "")
    expect(_is_form(kind, form), f"the answer has the form that {by}={form} asks for", kind)


@pytest.mark.row("GEN-1")
@pytest.mark.parametrize(("accept", "form"), [(FHIR_JSON, "xml"), (FHIR_XML, "json")])
def test_gen_1_format_wins(shelf: Shelf, document: Published, accept: str, form: str) -> None:
    answer = shelf.author.get(f"{document.reference}?_format={form}", Accept=accept)
    expect(answer.status_code == 200, "both may be sent", answer.status_code)
    kind = answer.headers.get("content-type", "")
    expect(_is_form(kind, form), f"_format={form} wins over Accept", kind)


@pytest.mark.row("GEN-2")
@pytest.mark.parametrize("by", ["Accept", "_format"])
@pytest.mark.parametrize("kind", ["read", "search"])
def test_gen_2_form_unknown(shelf: Shelf, document: Published, kind: str, by: str) -> None:
    path = document.reference if kind == "read" else f"DocumentReference?patient={shelf.person.id}"
    if by == "_format":
        answer = shelf.author.get(f"{path}{'&' if '?' in path else '?'}_format=csv")
    else:
        answer = shelf.author.get(path, Accept="text/csv")
    refused(answer, 406)


@pytest.mark.row("GEN-3")
@pytest.mark.parametrize("path", ["", "DocumentReference"])
def test_gen_3_media_type(shelf: Shelf, path: str) -> None:
    bundle = shelf.submission()
    body: Any = bundle if path == "" else simplified(shelf.person.reference)
    refused(shelf.author.post(path, json.dumps(body), content_type="text/plain"), 415, "not-supported")
    shelf.nothing_of({"entry": [{"resource": body}] if path else bundle["entry"]})


@pytest.mark.row("GEN-3")
def test_gen_3_too_large(shelf: Shelf, profile: Profile) -> None:
    if profile.max_body_bytes is None:
        pytest.skip("the profile names no limit max_body_bytes")
    bundle = shelf.submission()
    the(bundle, "List")["title"] = "x" * profile.max_body_bytes
    refused(shelf.author.post("", bundle), 413)
    shelf.nothing_of(bundle)


@pytest.mark.row("GEN-4")
@pytest.mark.parametrize("fault", ["malformed JSON", "malformed XML", "unknown element", "other type"])
def test_gen_4_no_fhir(shelf: Shelf, fault: str) -> None:
    resource = simplified(shelf.person.reference)
    unique = resource["masterIdentifier"]["value"]
    body: Any = resource
    content_type = FHIR_JSON
    if fault == "malformed JSON":
        body = json.dumps(resource)[:-2]
    if fault == "malformed XML":
        values = {"subject": shelf.person.reference, "unique": unique, "data": base64_of(CDA)}
        body, content_type = from_xml("document-reference.xml", **values)[:-12], FHIR_XML
    if fault == "unknown element":
        body = resource | {"colour": "blue"}
    if fault == "other type":
        body = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    outcome = refused(shelf.author.post("DocumentReference", body, content_type=content_type), 400, "structure")
    if fault == "unknown element":
        refused(shelf.author.post("DocumentReference", body), 400, "structure", at="colour")
    if "malformed" in fault:
        told = json.dumps(outcome["issue"])
        expect("line" in told or "expression" in told or "position" in told, "the place of the fault is given", told)
    expect(not shelf.find(unique), "nothing is stored")


@pytest.mark.row("GEN-5")
@pytest.mark.parametrize("case", ["status", "relation"])
def test_gen_5_required_binding(shelf: Shelf, document: Published, case: str) -> None:
    resource = simplified(shelf.person.reference)
    if case == "status":
        resource["status"] = "final"
    else:
        resource["relatesTo"] = [{"code": "follows", "target": {"reference": document.reference}}]
    refused(shelf.author.post("DocumentReference", resource), 422, "code-invalid")
    expect(not shelf.find(resource["masterIdentifier"]["value"]), "nothing is stored")


@pytest.mark.row("GEN-6")
def test_gen_6_round_trip(shelf: Shelf) -> None:
    unique = unique_id()
    body = from_xml("document-reference.xml", subject=shelf.person.reference, unique=unique, data=base64_of(CDA))
    precise = b'<extension url="https://example.org/fhir/weight"><valueDecimal value="1.50"/></extension>'
    body = body.replace(b"  <masterIdentifier>", b"  " + precise + b"\n  <masterIdentifier>")
    body = body.replace(b"2026-06-12T10:00:00+02:00", b"2026-06-12T10:00:00.120+02:00")
    made = ok(shelf.author.post("DocumentReference", body, content_type=FHIR_XML), 201)
    where = f"DocumentReference/{made['id']}"
    read = shelf.author.get(where)
    expect("1.50" in read.text, "a decimal keeps its digits in JSON", read.text[:400])
    expect(ok(read)["date"] == "2026-06-12T10:00:00.120+02:00", "a date is unchanged in JSON", ok(read)["date"])
    root = ok_xml(shelf.author.get(where, Accept=FHIR_XML))
    expect(values(root, "extension/valueDecimal") == ["1.50"], "a decimal keeps its digits in XML")
    expect(
        values(root, "date") == ["2026-06-12T10:00:00.120+02:00"], "a date is unchanged in XML", values(root, "date")
    )
    expect(values(root, "contained/Practitioner/name/family") == ["Tournesol"], "contained resources too")
    told = values(root, "content/attachment/title")
    expect(told == ["Compte rendu de conformité"], "text is unchanged", told)


# --- searches ---------------------------------------------------------------------------------------------------------


@pytest.mark.row("GEN-7")
@pytest.mark.parametrize("kind", ["DocumentReference", "List"])
def test_gen_7_get_and_post(shelf: Shelf, kind: str) -> None:
    made = [shelf.published() for _ in range(3)]
    unique = ",".join(each.unique if kind == "DocumentReference" else each.set_unique for each in made)
    parameters = {"patient": shelf.person.id, "identifier": unique, "_sort": "-date"}
    whole = urlencode(parameters)
    part, rest = urlencode({"patient": shelf.person.id}), urlencode({"identifier": unique, "_sort": "-date"})
    answers = [
        shelf.author.get(f"{kind}?{whole}"),
        shelf.author.post(f"{kind}/_search", whole, content_type=FORM),
        shelf.author.post(f"{kind}/_search?{part}", rest, content_type=FORM),
    ]
    found = [ids(searchset(each)) for each in answers]
    expect(len(found[0]) == 3, "all are found", found[0])
    expect(found[0] == found[1] == found[2], "the same entries in the same order", found)


@pytest.mark.row("GEN-8")
def test_gen_8_unknown_parameter(shelf: Shelf, document: Published) -> None:
    query = f"DocumentReference?patient={shelf.person.id}&identifier={document.unique}&colour=blue"
    answer = shelf.author.get(query)
    expect(ids(searchset(answer)) == [document.id], "an unknown parameter is ignored", ids(searchset(answer)))
    used = str(link(ok(answer), "self"))
    expect("colour" not in used, "and absent from link[self]", used)
    expect("identifier" in dict(parse_qsl(urlsplit(used).query)), "which tells what was used", used)
    refused(shelf.author.get(query, Prefer="handling=strict"), 400, "not-supported")


@pytest.mark.row("GEN-9")
def test_gen_9_no_match(shelf: Shelf) -> None:
    answer = shelf.author.get(f"DocumentReference?patient={shelf.person.id}&identifier={unique_id()}")
    expect((searchset(answer), ok(answer)["total"]) == ([], 0), "no match: total is 0", ok(answer)["total"])
    for each in ok(answer).get("entry", []):
        expect(each["search"]["mode"] == "outcome", "other entries are outcomes", each["search"])


@pytest.mark.row("GEN-10")
def test_gen_10_pages(shelf: Shelf, professional: Actor) -> None:
    made = [shelf.published() for _ in range(5)]
    unique = ",".join(each.unique for each in made)
    query = f"DocumentReference?{urlencode({'patient': shelf.person.id, 'identifier': unique, '_count': 2})}"
    first = shelf.author.get(query)
    expect(len(searchset(first)) == 2, "_count is respected", len(searchset(first)))
    found = ids(all_pages(shelf.author, query))
    expect(sorted(found) == sorted(each.id for each in made), "every match once", found)
    expect(ok(first)["total"] == 5, "their number is total", ok(first)["total"])
    following = link(ok(first), "next")
    expect(following, "there is a link to the next page")
    altered = f"{following}"[:-1] + ("0" if not f"{following}".endswith("0") else "1")
    refused(shelf.author.get(altered), 404)
    refused(professional.get(str(following)), 404)


# --- rights -----------------------------------------------------------------------------------------------------------


@pytest.mark.row("GEN-13")
@pytest.mark.parametrize("case", ["none", "garbage", "edited", "expired", "wrong_audience"])
@pytest.mark.parametrize("path", ["DocumentReference", "Binary/any", "List"])
def test_gen_13_no_valid_token(server: Server, author: Actor, case: str, path: str) -> None:
    token = None
    if case == "garbage":
        token = case
    if case == "edited":
        head, _, rest = server.token("author").partition(".")
        payload, _, signature = rest.partition(".")
        if not signature:
            pytest.skip("tokens are no JWT: none can be edited")
        token = f"{head}.{payload}.{signature[:-4]}{'AAAA' if signature[-4:] != 'AAAA' else 'BBBB'}"
    if case in ("expired", "wrong_audience"):
        if case not in server.refused_tokens:
            pytest.skip(f"the client file has no refused token “{case}”")
        token = server.refused_tokens[case]
    answer = server.send("GET", path, token=token)
    code = {"none": "login", "expired": "expired"}.get(case, "security")
    refused(answer, 401, code)
    challenge = answer.headers.get("www-authenticate", "")
    expect(challenge.startswith("Bearer"), "the challenge is WWW-Authenticate: Bearer", challenge)
    if token is not None:
        expect('error="invalid_token"' in challenge, "which says error=invalid_token", challenge)


def _requests(shelf: Shelf, document: Published) -> dict[str, tuple[str, str, Any]]:
    return {
        "ITI-65": ("POST", "", shelf.submission()),
        "ITI-66": ("GET", f"List?patient={shelf.person.id}&code=submissionset", None),
        "ITI-67": ("GET", f"DocumentReference?patient={shelf.person.id}", None),
        "ITI-68": ("GET", document.binary, None),
        "ITI-105": ("POST", "DocumentReference", simplified(shelf.person.reference)),
        "ITI-106": ("POST", "DocumentReference/$generate-metadata", {"resourceType": "Parameters", "parameter": []}),
        "flux 03": ("PATCH", document.reference, [{"op": "replace", "path": "/status", "value": "superseded"}]),
    }


@pytest.mark.row("GEN-14")
@pytest.mark.parametrize("transaction", ["ITI-65", "ITI-66", "ITI-67", "ITI-68", "ITI-105", "ITI-106", "flux 03"])
def test_gen_14_scope(shelf: Shelf, document: Published, profile: Profile, transaction: str) -> None:
    if _UNRELATED not in profile.scopes:
        pytest.skip(f"the profile names no scope “{_UNRELATED}”")
    method, path, body = _requests(shelf, document)[transaction]
    content_type = "application/json-patch+json" if method == "PATCH" else FHIR_JSON
    narrowed = shelf.author.with_scope(profile.scopes[_UNRELATED])
    answer = narrowed.send(method, path, body=body, content_type=content_type)
    outcome = refused(answer, 403, "forbidden")
    # Amazon API Gateway renames the header of a function's answer: both names are accepted.
    challenge = answer.headers.get("www-authenticate", answer.headers.get("x-amzn-remapped-www-authenticate", ""))
    expect('error="insufficient_scope"' in challenge, "WWW-Authenticate says error=insufficient_scope", challenge)
    codes = [each["code"] for issue in outcome["issue"] for each in issue.get("details", {}).get("coding", ())]
    expect(
        codes == ["break-glass-not-possible"], "issue.details has the code break-glass-not-possible", codes or "none"
    )


@pytest.mark.row("GEN-16")
@pytest.mark.parametrize("path", ["Documentreference", "list", "Foo", "Foo/1"])
def test_gen_16_unknown_type(author: Actor, path: str) -> None:
    refused(author.get(path), 404, "not-supported")


@pytest.mark.row("GEN-17")
@pytest.mark.option("pdsm")
def test_gen_17_old_version(shelf: Shelf) -> None:
    made = shelf.published()
    body = [{"op": "replace", "path": "/securityLabel/0", "value": label("MASQUE_PSOCIAL")}]
    ok(shelf.author.patch(made.reference, body, If_Match='W/"1"'))
    body[0]["value"] = label("MASQUE_PT")
    refused(shelf.author.patch(made.reference, body, If_Match='W/"1"'), 412, "conflict")
    expect(shelf.read(made)["meta"]["versionId"] == "2", "nothing is changed", shelf.read(made)["meta"]["versionId"])


@pytest.mark.row("GEN-18")
@pytest.mark.parametrize("kind", ["DocumentReference", "List", "Binary"])
def test_gen_18_scope_before_existence(shelf: Shelf, document: Published, profile: Profile, kind: str) -> None:
    if _UNRELATED not in profile.scopes:
        pytest.skip(f"the profile names no scope “{_UNRELATED}”")
    existing = {"DocumentReference": document.reference, "List": document.set, "Binary": document.binary}[kind]
    narrowed = shelf.author.with_scope(profile.scopes[_UNRELATED])
    answers = [narrowed.get(each) for each in (existing, existing[:-6] + "000000")]
    for each in answers:
        refused(each, 403, "forbidden")
    expect(answers[0].content == answers[1].content, "the answers are identical", [each.text[:200] for each in answers])
