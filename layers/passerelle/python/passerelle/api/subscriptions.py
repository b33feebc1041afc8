"""Subscriptions over HTTP: both families at one endpoint (Subscriptions R5 Backport, IHE PMIR ITI-94)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlencode

from passerelle.access import Touched
from passerelle.api.app import COMMITTED, Call, FhirApp, Reply, Wired
from passerelle.errors import Invalid
from passerelle.fhir import json as fhir_json
from passerelle.fhir import notification
from passerelle.fhir import subscription as fhir
from passerelle.fhir.bundles import Found, searchset
from passerelle.fhir.parameters import Arguments
from passerelle.notifications.service import SubscriptionService

if TYPE_CHECKING:
    from passerelle.notifications.confirmation import ConfirmationService

_INDIFFERENT: Final = frozenset({"_format", "_pretty"})


class WiredSubscriptions(Wired, Protocol):
    @property
    def subscriptions(self) -> SubscriptionService: ...

    @property
    def confirmations(self) -> ConfirmationService: ...


def serve_subscriptions(app: FhirApp) -> None:
    """Declare the routes of Subscription."""
    feed = ("ITI-94",)
    app.interaction("Subscription", "create", transactions=feed)(_create)
    app.interaction("Subscription", "read", transactions=feed)(_read)
    app.interaction("Subscription", "search-type", transactions=feed)(_search)
    app.interaction("Subscription", "update", transactions=feed)(_update)
    app.interaction("Subscription", "delete", transactions=feed)(_end)
    for method in ("GET", "POST"):
        for path, handler in (("/$status", _statuses), ("/{id}/$status", _status), ("/{id}/$events", _events)):
            app.operation("Subscription", path, needs="r", method=method, transaction="ITI-94")(handler)
    app.operation("Subscription", "/{id}/$confirm", needs="u", transaction="ITI-94")(_confirm)
    app.operation("Subscription", "/{id}/$rotate-secret", needs="u", transaction="ITI-94")(_rotate_secret)


def _create(call: Call, wired: WiredSubscriptions) -> Reply:
    made = wired.subscriptions.subscribe(call.request, fhir.parse(call.resource))
    return Reply(status=201, body=fhir.render(made), touched=COMMITTED, headers=fhir.created_headers(made))


def _read(call: Call, wired: WiredSubscriptions) -> Reply:
    found = wired.subscriptions.get(call.request, call.id)
    touched = Touched.of([], [found.reference])
    return Reply(body=fhir.render(found), touched=touched, headers=fhir.version_headers(found))


def _search(call: Call, wired: WiredSubscriptions) -> Reply:
    """The caller's own, and no others: nobody searches for those of somebody else."""
    asked = [(name, value) for name, value in call.query if name in fhir.SEARCH]
    unknown = {name for name, _ in call.query} - fhir.SEARCH.keys() - _INDIFFERENT
    if unknown and call.is_strict:
        raise Invalid("subscriptions are not searched by this parameter", code="not-supported")
    owned = wired.subscriptions.owned(call.request)
    found = {each.reference: fhir.render(each) for each in owned}
    matching = {reference: each for reference, each in found.items() if fhir.found_by(each, asked)}
    body = searchset(
        [Found(reference=reference, body=fhir_json.dumps(each)) for reference, each in matching.items()],
        base_url=call.request.base_url,
        self_url=_url(call, "Subscription", asked),
        total=len(matching),
    )
    return Reply(body=body, touched=Touched.of([], matching))


def _url(call: Call, path: str, query: Sequence[tuple[str, str]]) -> str:
    url = f"{call.request.base_url}/{path}"
    return f"{url}?{urlencode(query)}" if query else url


def _update(call: Call, wired: WiredSubscriptions) -> Reply:
    draft = fhir.parse(call.resource)
    if call.resource.get("id") != call.id:
        place = "Subscription.id"
        raise Invalid("the id in the resource is not the one in the URL", code="invariant", expression=place)
    revised = wired.subscriptions.revise(call.request, call.id, draft, if_match=call.if_match)
    return Reply(body=fhir.render(revised), touched=COMMITTED, headers=fhir.version_headers(revised))


def _end(call: Call, wired: WiredSubscriptions) -> Reply:
    wired.subscriptions.unsubscribe(call.request, call.id)
    return Reply(body=fhir.ENDED, touched=COMMITTED)


def _rotate_secret(call: Call, wired: WiredSubscriptions) -> Reply:
    return Reply(body=fhir.render_secret(wired.subscriptions.rotate_secret(call.request, call.id)), touched=COMMITTED)


def _confirm(call: Call, wired: WiredSubscriptions) -> Reply:
    code = Arguments(call.resource, {"code": "valueString"}).required("code")
    confirmed = wired.confirmations.confirm(call.request, call.id, code)
    return Reply(body=fhir.render(confirmed), touched=COMMITTED, headers=fhir.version_headers(confirmed))


def _asked(call: Call) -> Call:
    """The call of an operation, its arguments in the query wherever they came."""
    if not call.body:
        return call
    return replace(call, query=[*call.query, *notification.asked_in(call.resource)])


def _status(call: Call, wired: WiredSubscriptions) -> Reply:
    asked = wired.subscriptions.status(call.request, call.id)
    url = _url(call, f"{asked.subscription.reference}/$status", ())
    return Reply(body=notification.status_bundle([asked], call.request.at, self_url=url), touched=asked.touched)


def _statuses(call: Call, wired: WiredSubscriptions) -> Reply:
    ids, statuses = notification.parse_chosen(_asked(call).query)
    found = wired.subscriptions.statuses(call.request, ids, statuses)
    used = [*(("id", each) for each in ids), *(("status", each.value) for each in sorted(statuses))]
    url = _url(call, "Subscription/$status", used)
    touched = Touched.of(
        (patient for each in found for patient in each.touched.patients),
        (reference for each in found for reference in each.touched.references),
    )
    return Reply(body=notification.status_bundle(found, call.request.at, self_url=url), touched=touched)


def _events(call: Call, wired: WiredSubscriptions) -> Reply:
    asked = notification.parse_range(_asked(call).one)
    caught_up = wired.subscriptions.events(call.request, call.id, *asked)
    # What a Patient in it tells was left out where it was read: an event tells of now, whatever the Bundle's type.
    body = notification.events_bundle(caught_up, call.request.at)
    return Reply(body=body, touched=caught_up.touched, is_disclosed=True)
