"""Large contents on the local stack, as clients send and get them: over HTTP, straight to and from storage."""

from __future__ import annotations

import base64
import hashlib

import httpx

from local import samples
from tests import contents
from tests.stack_process import Running

MIB = 1024 * 1024
DATA = contents.pdf(40 * MIB)
PART = 8 * MIB


def test_a_large_content_goes_in_and_comes_out(running: Running, person: str) -> None:
    hospital, practice = running.client("hospital-a"), running.client("practice")
    announced = samples.parameters(
        contentType__valueCode="application/pdf",
        size__valueInteger=len(DATA),
        sha256__valueBase64Binary=contents.sha256(DATA),
    )
    answer = hospital.request("POST", "Binary/$upload", json=announced).json()["parameter"]
    ticket = {each["name"]: each for each in answer}
    urls = [each["part"][2]["valueUrl"] for each in answer if each["name"] == "part"]
    assert len(urls) == 5
    assert httpx.put(urls[0].replace("X-Amz-Signature=", "X-Amz-Signature=0"), content=DATA[:PART]).status_code == 403
    for number, url in enumerate(urls):
        assert httpx.put(url, content=DATA[number * PART : (number + 1) * PART]).status_code == 200
    place = f"Binary/{ticket['id']['valueId']}/$complete"
    assert hospital.request("POST", place, content=b"").status_code == 200
    bundle = contents.uploaded_submission(person, ticket["url"]["valueUrl"], DATA, "application/pdf")
    published = hospital.request("POST", "", json=bundle)
    assert published.status_code == 200, published.text
    id = published.json()["entry"][1]["response"]["location"].split("/")[1]
    found = practice.request("GET", f"Binary/{id}", headers={"Accept": "*/*"}, follow_redirects=False)
    assert (found.status_code, found.content) == (307, b"")
    body = httpx.get(found.headers["Location"])
    assert body.headers["Content-Type"] == "application/pdf"
    assert body.headers["Content-Disposition"] == "attachment"
    digest = base64.b64encode(hashlib.sha256(body.content).digest()).decode()
    assert found.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert body.content == DATA
    part = practice.request("GET", f"Binary/{id}", headers={"Accept": "*/*", "Range": f"bytes={len(DATA) - 6}-"})
    assert (part.status_code, part.content) == (206, b"%%EOF\n")
