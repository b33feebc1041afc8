"""Identity stewards over HTTP: the worklist, decisions on links, what is known of a record; and INS qualification.

Whether the caller is a steward is the service's decision. `$ins-qualify` is the registering source's (contract INS-8).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol
from urllib.parse import urlencode

from passerelle.access import Touched
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply, Wired
from passerelle.api.interactions import version_headers
from passerelle.fhir.stewardship import (
    ReviewsQuery,
    read_decision,
    read_one,
    read_pair,
    read_reviews,
    render_card,
    render_question,
    render_reviews,
    render_settled,
)
from passerelle.matching.scoring import Model
from passerelle.patients.model import Review
from passerelle.patients.service import PatientService
from passerelle.patients.stewardship import Settled, StewardService
from passerelle.records.cursors import CURSOR, Cursors


class WiredStewards(Wired, Protocol):
    @property
    def stewards(self) -> StewardService: ...

    @property
    def patients(self) -> PatientService: ...

    @property
    def cursors(self) -> Cursors: ...


def serve_stewardship(app: FhirApp) -> None:
    """Declare the operations on Patient that identity stewards have, and `$ins-qualify`."""
    app.operation("Patient", "/$reviews", needs="r", method="GET")(_reviews)
    app.operation("Patient", "/{id}/$identity", needs="r", method="GET")(_identity)
    app.operation("Patient", "/$decide", needs="u")(_decide)
    app.operation("Patient", "/$link", needs="u")(_link)
    app.operation("Patient", "/$unlink", needs="u")(_unlink)
    app.operation("Patient", "/$merge", needs="u")(_merge)
    app.operation("Patient", "/$unmerge", needs="u")(_unmerge)
    app.operation("Patient", "/{id}/$ins-qualify", needs="u", transaction="ITI-104")(_qualify)


# --- the worklist ---------------------------------------------------------------------------------------------------


def _reviews(call: Call, wired: WiredStewards) -> Reply:
    asked = read_reviews(call.query)
    if asked.review is not None:
        question = wired.stewards.question(call.request, asked.review)
        return Reply(body=render_question(question, Model.load()), touched=_touched([question.review]))
    purpose = f"reviews {asked.status}"
    after = wired.cursors.read(call.request, purpose, asked.cursor)
    found, _ = wired.stewards.listed(call.request, asked.status, count=asked.count + 1, after=after)
    page = found[: asked.count]
    following = wired.cursors.made(call.request, purpose, page[-1].id) if len(found) > asked.count else None
    return Reply(body=render_reviews(page, _next(call, asked, following)), touched=_touched(page))


def _next(call: Call, asked: ReviewsQuery, cursor: str | None) -> str | None:
    if cursor is None:
        return None
    query = urlencode({"status": asked.status, "_count": asked.count, CURSOR: cursor})
    return f"{call.request.base_url}/Patient/$reviews?{query}"


def _touched(reviews: Iterable[Review]) -> Touched:
    return Touched.of(patient for each in reviews for patient in (each.first, each.second))


def _decide(call: Call, wired: WiredStewards) -> Reply:
    review, answer, reason = read_decision(call.resource)
    return _settled(wired.stewards.decide(call.request, review, answer, reason=reason))


# --- links ----------------------------------------------------------------------------------------------------------


def _link(call: Call, wired: WiredStewards) -> Reply:
    first, second, reason = read_pair(call.resource, "first", "second", base_url=call.request.base_url)
    return _settled(wired.stewards.link(call.request, first, second, reason=reason))


def _unlink(call: Call, wired: WiredStewards) -> Reply:
    patient, reason = read_one(call.resource, base_url=call.request.base_url)
    return _settled(wired.stewards.unlink(call.request, patient, reason=reason))


def _merge(call: Call, wired: WiredStewards) -> Reply:
    base_url = call.request.base_url
    source, target, reason = read_pair(call.resource, "source-patient", "target-patient", base_url=base_url)
    return _settled(wired.stewards.merge(call.request, source, target, reason=reason))


def _unmerge(call: Call, wired: WiredStewards) -> Reply:
    patient, reason = read_one(call.resource, base_url=call.request.base_url)
    return _settled(wired.stewards.unmerge(call.request, patient, reason=reason))


def _settled(settled: Settled) -> Reply:
    return Reply(body=render_settled(settled), touched=COMMITTED)


def _identity(call: Call, wired: WiredStewards) -> Reply:
    card = wired.stewards.card(call.request, call.id)
    return Reply(body=render_card(card), touched=Touched.of([call.id, *card.person.members]))


# --- qualification --------------------------------------------------------------------------------------------------


def _qualify(call: Call, wired: WiredStewards) -> Reply:
    registered, stored = wired.patients.qualify(call.request, call.id)
    return Reply(body=stored.body, headers=version_headers(registered.version, stored.at), touched=COMMITTED)
