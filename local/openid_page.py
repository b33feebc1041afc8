"""The login page of the provider on this machine: who are you? In French, without scripts, complete in itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from typing import Final
from urllib.parse import urlsplit

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#15232d;--soft:#5a6b78;--paper:#eef3f6;--sheet:#fff;--line:#d3dde4;--act:#00597b;
--tint:#e3f1f7}
@media(prefers-color-scheme:dark){
:root{--ink:#e6edf2;--soft:#9fb0bd;--paper:#0f1a21;--sheet:#17252e;--line:#2c3c48;--act:#7cc7e8;--tint:#1d3542}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;padding:2.5rem 1.25rem;background:var(--paper);color:var(--ink);
font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:44rem;margin:0 auto}
header{display:flex;gap:1rem;align-items:center;margin-bottom:1.75rem}
.mark{flex:none;width:3rem;height:3rem;border-radius:.9rem;background:var(--act);display:grid;place-items:center}
.mark::after{content:"";width:1.5rem;height:.8rem;border:.22rem solid var(--sheet);border-bottom:0;
border-radius:1rem 1rem 0 0}
h1{margin:0;font-size:1.45rem;line-height:1.2}
header p{margin:.15rem 0 0;color:var(--soft)}
.note{margin:0 0 1.25rem;padding:.75rem 1rem;border-left:.25rem solid var(--act);background:var(--tint);
border-radius:0 .5rem .5rem 0}
form{display:grid;grid-template-columns:repeat(auto-fill,minmax(19rem,1fr));gap:.75rem}
button{display:flex;gap:.9rem;align-items:center;width:100%;padding:.85rem 1rem;text-align:left;cursor:pointer;
border:1px solid var(--line);border-radius:.8rem;background:var(--sheet);color:inherit;font:inherit}
button:hover{border-color:var(--act);background:var(--tint)}
button:focus-visible{outline:3px solid var(--act);outline-offset:2px}
.face{flex:none;width:2.6rem;height:2.6rem;border-radius:50%;display:grid;place-items:center;background:var(--tint);
color:var(--act);font-weight:700;font-size:.95rem}
strong{display:block}
small{display:block;color:var(--soft);font-size:.875rem;line-height:1.35}
.none{grid-column:1/-1;justify-content:center;background:none;border-style:dashed}
"""
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def login_page(title: str, people: Sequence[tuple[str, str, str]]) -> str:
    """`people` are (what the button sends, name, what they do)."""
    buttons = "\n".join(
        f'<button name="who" value="{escape(value)}"><span class="face" aria-hidden="true">{_initials(name)}</span>'
        f"<span><strong>{escape(name)}</strong><small>{escape(does)}</small></span></button>"
        for value, name, does in people
    )
    return (
        '<!doctype html>\n<html lang="fr">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<header><span class="mark" aria-hidden="true"></span><div><h1>{escape(title)}</h1>'
        "<p>Qui êtes-vous&nbsp;?</p></div></header>\n"
        '<p class="note">Fournisseur de développement&nbsp;: sans mot de passe ni carte, avec les personnes fictives '
        "de la région de démonstration.</p>\n"
        f'<form method="post">\n{buttons}\n<button class="none" name="who" value="">Annuler</button>\n</form>\n'
        "</main>\n</body>\n</html>\n"
    )


def page_headers(callback: str) -> dict[str, str]:
    """The form leads to this server, and from it to the exchange and on to the application."""
    place = urlsplit(callback)
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": "no-store",
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; frame-ancestors 'none'; "
            f"form-action 'self' {place.scheme}://{place.netloc} https: http://127.0.0.1:* http://localhost:*"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


def _initials(name: str) -> str:
    return escape("".join(word[0] for word in name.replace("-", " ").split()[:2]).upper())
