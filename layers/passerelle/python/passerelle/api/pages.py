"""The pages that people see: those of who opens a temporary link, and that of the code of a prescription.

In French, without scripts, about nobody.

Each is complete in itself: nothing is fetched, nothing is kept, no address is passed on. Its policy lets in the one
style sheet by its hash (CSP level 3), and lets the form lead to this server, or from it to where large contents are.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#15232d;--paper:#f4f7f9;--sheet:#fff;--line:#c9d5dd;--act:#00597b;--on:#fff}
@media(prefers-color-scheme:dark){
:root{--ink:#e6edf2;--paper:#0f1a21;--sheet:#17252e;--line:#37495a;--act:#7cc7e8;--on:#0b1419}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--paper);color:var(--ink);
font:1.0625rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{width:100%;max-width:34rem;padding:2rem;background:var(--sheet);border:1px solid var(--line);border-radius:.75rem}
h1{margin:0 0 1rem;font-size:1.5rem;line-height:1.25}
p,ul{margin:0 0 1rem}
a{color:var(--act)}
ul{padding-left:1.25rem}
li{margin-bottom:.35rem}
button{width:100%;min-height:3rem;padding:.75rem 1.25rem;border:2px solid var(--act);border-radius:.5rem;
background:var(--act);color:var(--on);font:inherit;font-weight:600;cursor:pointer}
button:hover{text-decoration:underline}
button:focus-visible{outline:3px solid var(--ink);outline-offset:3px}
small{display:block;margin-top:1.25rem;padding-top:1rem;border-top:1px solid var(--line);font-size:.9375rem}
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def page(title: str, content: str) -> str:
    """A whole page; `content` is HTML."""
    return (
        '<!doctype html>\n<html lang="fr">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="robots" content="noindex, nofollow">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{title}</h1>\n{content}\n</main>\n</body>\n</html>\n"
    )


INVITATION: Final = page(
    "Un document vous est transmis",
    """<p>Un professionnel de santé ou un patient vous donne accès à un document de santé, à vous seul.</p>
<ul>
<li>Chaque ouverture compte&nbsp;: le lien ne s’ouvre qu’un nombre limité de fois.</li>
<li>L’ouverture est enregistrée, et le patient peut la voir.</li>
<li>Le document s’enregistre sur cet appareil&nbsp;: n’utilisez pas un appareil partagé.</li>
</ul>
<form method="post"><button type="submit">Ouvrir le document</button></form>
<small>Ce message ne vous était pas destiné&nbsp;? Fermez cette page et supprimez-le.</small>""",
)
REFUSAL: Final = page(
    "Ce lien n’ouvre aucun document",
    """<p>Il est incomplet, il a expiré, il a déjà servi, ou il a été retiré.</p>
<p>Demandez un nouveau lien à la personne qui vous l’a envoyé.</p>""",
)
BUSY: Final = page(
    "Le service ne répond pas pour le moment",
    """<p>Le document n’a pas été ouvert et le lien n’a pas été utilisé. Réessayez dans une minute.</p>""",
)


PRESCRIPTION: Final = page(
    "Votre ordonnance",
    """<p>Ce code est celui d’une ordonnance électronique. Il ne s’ouvre pas ici&nbsp;: présentez-le à une
pharmacie.</p>
<ul>
<li>La pharmacie lit le code imprimé, ou saisit le numéro et le code d’accès.</li>
<li>Qui a ce code peut présenter l’ordonnance&nbsp;: ne l’envoyez à personne d’autre qu’à votre pharmacie.</li>
<li>Vous voyez vos ordonnances, et qui les a consultées, dans votre espace de santé.</li>
</ul>
<p>Cette page n’a rien recherché&nbsp;: elle est la même pour tout le monde.</p>
<small lang="en">This code belongs to an electronic prescription. It does not open here: show it to a pharmacy, and
send it to nobody else. Whoever has the code can present the prescription. This page has looked nothing up, and is the
same for everybody.</small>""",
)


def page_headers(storage_origin: str = "") -> dict[str, str]:
    """The headers of a page; `storage_origin` is where the answer to its form may lead."""
    leads_to = f"'self' {storage_origin}".rstrip()
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {leads_to}; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy,
        "X-Frame-Options": "DENY",
        **PRIVATE,
    }


PRIVATE: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}
"""What every answer to a link has: nobody keeps it, shows it in a frame, or learns its address."""
