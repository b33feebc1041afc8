"""The pages that a person sees while logging in, as those of `pages.py`: when it fails, and to choose an activity."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from passerelle.api.pages import page
from passerelle.authorization.activities import Activity


def refusal(*, reason: str, back: str) -> str:
    """`reason` is one of our own phrases, for whoever runs the application; `back` leads there, if it is known."""
    way = (
        f'<p><a href="{escape(back)}">Revenir à l’application</a></p>'
        if back
        else "<p>Revenez à votre application, et recommencez.</p>"
    )
    return page(
        "La connexion n’a pas abouti",
        f"<p>Vous n’êtes pas connecté.</p>\n{way}\n<small>{escape(reason)}</small>",
    )


def choice(activities: Sequence[tuple[Activity, str]]) -> str:
    items = "\n".join(
        f'<li><a href="{escape(address)}">{escape(each.name or each.organisation)}</a></li>'
        for each, address in activities
    )
    return page(
        "Où exercez-vous en ce moment ?",
        f"<p>Vous avez plusieurs activités. Celle que vous choisissez sera enregistrée avec chaque accès.</p>\n"
        f"<ul>\n{items}\n</ul>",
    )


def busy() -> str:
    return page(
        "Le service ne répond pas pour le moment",
        "<p>Vous n’êtes pas connecté. Réessayez dans une minute, depuis votre application.</p>",
    )
