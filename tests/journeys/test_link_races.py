"""Many who open one temporary link at once: as many get the document as the link may be opened, and no one more."""

from __future__ import annotations

import uuid
from collections import Counter

import httpx

from local import samples
from tests.stack_process import Running, at_once

MANY, USES = 50, 3


def test_fifty_at_once_on_a_link_of_three(running: Running, person: str) -> None:
    hospital, practice = running.client("hospital-a"), running.client("practice")
    sent = samples.submission(f"Patient/{person}", unique=f"urn:uuid:{uuid.uuid4()}")
    answer = hospital.request("POST", "", json=sent)
    assert answer.status_code == 200, answer.text
    places = [each["response"]["location"] for each in answer.json()["entry"]]
    document = next(place for place in places if "DocumentReference" in place).split("/_history")[0]
    terms = samples.parameters(purpose__valueCode="TREAT", uses__valuePositiveInt=USES)
    made = practice.request("POST", f"{document}/$share", json=terms)
    assert made.status_code == 201, made.text
    url = next(each["valueUrl"] for each in made.json()["parameter"] if each["name"] == "url")
    with httpx.Client(timeout=40) as anyone:
        answers = at_once(MANY, lambda _: anyone.post(url))
    statuses = Counter(each.status_code for each in answers)
    assert statuses.pop(200) == USES
    assert set(statuses) <= {404, 503}  # 503: so many at once that the link could not be asked; nothing was used up
    assert {each.content for each in answers if each.status_code == 200} == {samples.CDA}
    (link,) = practice.request("GET", f"{document}/$links").json()["parameter"]
    (opened,) = (each["valueUnsignedInt"] for each in link["part"] if each["name"] == "opened")
    assert opened == USES
