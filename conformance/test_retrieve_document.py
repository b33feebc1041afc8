"""ITI-68 Retrieve Document: IHE MHD 4.2.4, section 2:3.68; flux 07/08 of ANS PDSm; TD3.2 of the DMP."""

from __future__ import annotations

import base64
import hashlib
from typing import Final
from urllib.parse import urlsplit

import pytest

from conformance.checks import expect, ok, refused, status_of
from conformance.server import FHIR_JSON, Actor, Server
from conformance.shelf import Published, Shelf, Shelves
from conformance.submissions import CDA, PDF, attachment_of, label, replacing, sha1_of, the

SHELF: Final = "contents"


@pytest.fixture(scope="session")
def report(shelves: Shelves) -> Published:
    """A PDF that stays current."""
    shelf = shelves.of(SHELF)
    return shelf.published(shelf.submission(content=PDF, content_type="application/pdf"))


def _is_whole(shelf: Shelf, document: Published, accept: str | None, **headers: str) -> None:
    attachment = attachment_of(shelf.read(document))
    answer = shelf.author.get(attachment["url"], Accept=accept, **headers)
    expect(answer.status_code == 200, "the content is returned", answer.status_code)
    expect(answer.content == PDF, "the bytes are those that were sent", f"{len(answer.content)} bytes")
    expect(len(answer.content) == attachment["size"], "as many as size says", attachment["size"])
    expect(sha1_of(answer.content) == attachment["hash"], "with the SHA-1 of hash", attachment["hash"])
    kind = answer.headers.get("content-type", "").partition(";")[0]
    expect(kind == "application/pdf", "Content-Type is the declared one", kind)


@pytest.mark.row("68-1")
@pytest.mark.parametrize("accept", ["application/pdf", "*/*", None])
def test_68_1_retrieve(shelf: Shelf, report: Published, accept: str | None) -> None:
    _is_whole(shelf, report, accept)


@pytest.mark.row("68-1")
def test_68_1_if_unmodified_since(shelf: Shelf, report: Published) -> None:
    _is_whole(shelf, report, "*/*", If_Unmodified_Since="Sat, 01 Jan 2000 00:00:00 GMT")


@pytest.mark.row("PDSM-17")
@pytest.mark.option("pdsm")
def test_pdsm_17_retrieve(shelf: Shelf) -> None:
    made = shelf.published(shelf.submission(level="pdsm"))
    answer = shelf.author.get(shelf.url_of(made), Accept="application/xml")
    expect((answer.status_code, answer.content) == (200, CDA), "the bytes are those that were sent", answer.status_code)
    digest = hashlib.sha1(answer.content, usedforsecurity=False).digest()
    expect(base64.b64encode(digest).decode() == attachment_of(shelf.read(made))["hash"], "with the SHA-1 of hash")


@pytest.mark.row("68-2")
@pytest.mark.option("dmp")
def test_68_2_unknown_and_hidden(shelf: Shelf, professional: Actor) -> None:
    made = shelf.published()
    url = shelf.url_of(made)
    masked = shelf.published(
        securityLabel=[*the(shelf.submission(), "DocumentReference")["securityLabel"], label("MASQUE_PS")]
    )
    hidden = professional.get(shelf.url_of(masked), Accept="*/*")
    unknown = professional.get(url[:-6] + "000000", Accept="*/*")
    for answer in (unknown, hidden):
        refused(answer, 404, "not-found", saying="Document Not Found")
    expect(hidden.content == unknown.content, "a hidden document is answered as an unknown one is", hidden.text[:300])


@pytest.mark.row("68-2")
def test_68_2_unknown(shelf: Shelf, report: Published) -> None:
    url = shelf.url_of(report)
    refused(shelf.author.get(url[:-6] + "000000", Accept="*/*"), 404, "not-found", saying="Document Not Found")


@pytest.mark.row("68-3")
@pytest.mark.option("relations")
def test_68_3_superseded(shelf: Shelf) -> None:
    old = shelf.published()
    url = shelf.url_of(old)
    shelf.send(replacing(shelf.submission(), old.reference))
    refused(shelf.author.get(url, Accept="*/*"), 410, "deleted", saying="Gone")


@pytest.mark.row("68-3")
@pytest.mark.option("pdsm")
def test_68_3_withdrawn(shelf: Shelf) -> None:
    made = shelf.published()
    url = shelf.url_of(made)
    ok(shelf.author.patch(made.reference, [{"op": "replace", "path": "/status", "value": "entered-in-error"}]))
    refused(shelf.author.get(url, Accept="*/*"), 410, "deleted", saying="Gone")


@pytest.mark.row("68-4")
def test_68_4_no_conversion(shelf: Shelf, report: Published) -> None:
    answer = shelf.author.get(shelf.url_of(report), Accept="image/png")
    refused(answer, 406, "not-supported", saying="Not Acceptable")


@pytest.mark.row("68-5")
@pytest.mark.parametrize("case", ["POST", "PATCH", "query"])
def test_68_5_not_legal(shelf: Shelf, report: Published, case: str) -> None:
    url = shelf.url_of(report)
    if case == "query":
        answer = shelf.author.get(f"{url}{'&' if urlsplit(url).query else '?'}colour=blue", Accept="*/*")
    else:
        answer = shelf.author.send(case, url, body={"resourceType": "Parameters"}, Accept="*/*")
    refused(answer, 403, "not-supported", saying="Request Type Not Supported")


# --- DMP --------------------------------------------------------------------------------------------------------------


@pytest.mark.row("DMP-15")
@pytest.mark.option("dmp")
@pytest.mark.parametrize("form", ["absolute", "relative"])
def test_dmp_15_td32(shelf: Shelf, report: Published, form: str, server: Server) -> None:
    url = shelf.url_of(report)
    if form == "absolute":
        fresh = shelf.url_of(shelf.published())
        expect(fresh.startswith("http"), "the server itself returns absolute URLs", fresh)
    else:
        expect(url.startswith(f"{server.base}/"), "the URL is below the base", url)
        url = url.removeprefix(f"{server.base}/")
    answer = shelf.author.get(url, Accept="application/pdf")
    expect((answer.status_code, answer.content) == (200, PDF), "the bytes are returned", answer.status_code)


@pytest.mark.row("DMP-16")
@pytest.mark.option("dmp")
def test_dmp_16_binary_in_fhir(shelf: Shelf, report: Published) -> None:
    url = shelf.url_of(report)
    binary = ok(shelf.author.get(url, Accept=FHIR_JSON))
    expect(binary["resourceType"] == "Binary", "the content is a Binary", binary["resourceType"])
    expect(binary["contentType"] == "application/pdf", "of the declared type", binary["contentType"])
    expect(base64.b64decode(binary["data"]) == PDF, "data is the base64 of the bytes")
    refused(shelf.author.get(url[:-6] + "000000", Accept=FHIR_JSON), 404, "not-found")


@pytest.mark.row("DMP-17")
@pytest.mark.option("dmp")
def test_dmp_17_batch(shelf: Shelf, report: Published, professional: Actor) -> None:
    other = shelf.published()
    masked = shelf.published(
        securityLabel=[*the(shelf.submission(), "DocumentReference")["securityLabel"], label("MASQUE_PS")]
    )
    entries = [
        {"request": {"method": "GET", "url": shelf.url_of(each).removeprefix(f"{shelf.author.server.base}/")}}
        for each in (report, other, masked)
    ]
    answer = ok(professional.post("", {"resourceType": "Bundle", "type": "batch", "entry": entries}))
    expect(answer["type"] == "batch-response", "the answer is a batch-response", answer["type"])
    statuses = [status_of(each) for each in answer["entry"]]
    expect(statuses == [200, 200, 404], "each entry is answered on its own", statuses)
    first = answer["entry"][0]["resource"]
    expect(base64.b64decode(first["data"]) == PDF, "a Binary with the bytes of each document")
