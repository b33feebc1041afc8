"""The page that tells a patient who saw the record: without scripts, complete in itself, to be read and printed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from datetime import date
from html import escape
from itertools import groupby
from typing import Final

from passerelle.api.pages import PRIVATE
from passerelle.audit.history import Access, Chronicle

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#15232d;--soft:#4a5c68;--paper:#f4f7f9;--sheet:#fff;--line:#c9d5dd;
--alarm:#8f1d14;--alarmsheet:#fdf0ee;--note:#6b4a00}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf2;--soft:#a9bac6;--paper:#0f1a21;--sheet:#17252e;--line:#37495a;
--alarm:#ffb4a8;--alarmsheet:#3a1d1a;--note:#f0c869}}
*{box-sizing:border-box}
body{margin:0;padding:1.5rem;background:var(--paper);color:var(--ink);
font:1.0625rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:64rem;margin:0 auto}
h1{margin:0 0 .5rem;font-size:1.75rem;line-height:1.25}
h2{margin:2rem 0 .5rem;font-size:1.1875rem}
p{margin:0 0 .75rem;max-width:46rem}
.period{color:var(--soft)}
.summary{padding:.75rem 1rem;border:1px solid var(--line);border-left-width:.375rem;border-radius:.5rem;
background:var(--sheet);font-weight:600}
.summary.alarm{border-color:var(--alarm);background:var(--alarmsheet);color:var(--alarm)}
table{width:100%;table-layout:fixed;border-collapse:collapse;background:var(--sheet);border:1px solid var(--line)}
th,td{padding:.625rem .75rem;text-align:left;vertical-align:top;border-top:1px solid var(--line);overflow-wrap:anywhere}
thead th{border-top:0;font-size:.9375rem;color:var(--soft)}
th:nth-child(1){width:6rem}th:nth-child(2){width:27%}th:nth-child(3){width:30%}
tbody th{font-weight:600;white-space:nowrap}
td small{display:block;color:var(--soft);font-size:.9375rem}
strong.tag{display:block;width:fit-content;margin-bottom:.25rem;padding:0 .5rem;border:2px solid currentColor;
border-radius:.25rem;
font-size:.875rem;color:var(--note)}
tr.emergency{background:var(--alarmsheet)}
tr.emergency{box-shadow:inset .375rem 0 var(--alarm)}
tr.emergency strong.tag.alarm{color:var(--alarm)}
footer{margin-top:2rem;padding-top:1rem;border-top:1px solid var(--line);color:var(--soft)}
@media(max-width:40rem){
thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
tr,tbody th,td{display:block;width:auto;border:0}
tbody tr{padding:.5rem 0;border-top:1px solid var(--line)}
tbody th,td{padding:.125rem .75rem}td::before{content:attr(data-label) " ";color:var(--soft)}}
@media print{body{padding:0;background:none;font-size:10.5pt}table,.summary,tr.emergency{background:none}
tr{break-inside:avoid}h2{break-after:avoid}}
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def history_page(chronicle: Chronicle, told: Sequence[Access], first: date, last: date, *, is_cut: bool) -> str:
    """`first` and `last` are the days of the period; `is_cut`: older accesses of it are left out."""
    words = chronicle.words["page"]
    period = words["period"].format(start=chronicle.date(first), end=chronicle.date(last))
    emergencies = sum(each.is_emergency for each in told)
    number = {0: "none", 1: "one"}.get(emergencies, "many")
    kind = "summary alarm" if emergencies else "summary"
    summary = words[f"emergencies-{number}"].format(count=emergencies)
    parts = [
        f"<h1>{escape(words['title'])}</h1>",
        f'<p class="period">{escape(period)}</p>',
        f"<p>{escape(words['introduction'])}</p>",
        f'<p class="{kind}">{escape(summary)}</p>',
        *_days(chronicle, told),
    ]
    if not told:
        parts.append(f"<p>{escape(words['none'])}</p>")
    if is_cut:
        parts.append(f"<p>{escape(words['more'].format(count=len(told)))}</p>")
    content = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="{chronicle.language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="robots" content="noindex, nofollow">\n'
        f"<title>{escape(words['title'])}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{content}\n<footer><p>{escape(words['help'])}</p></footer>\n</main>\n</body>\n</html>\n"
    )


def _days(chronicle: Chronicle, told: Sequence[Access]) -> Iterable[str]:
    """A table for each day, newest first, as they come."""
    words = chronicle.words["page"]
    heads = "".join(f'<th scope="col">{escape(words[each])}</th>' for each in ("when", "who", "what", "why"))
    for day, accesses in groupby(told, key=lambda each: each.at.date()):
        yield f'<h2 id="d{day}">{escape(chronicle.date(day))}</h2>'
        rows = "\n".join(_row(chronicle, each) for each in accesses)
        yield (
            f'<table aria-labelledby="d{day}">\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>'
        )


def _row(chronicle: Chronicle, access: Access) -> str:
    words = chronicle.words["page"]
    tags = []
    if access.is_emergency:
        tags.append(f'<strong class="tag alarm">{escape(words["emergency"])}</strong>')
    if access.is_refused:
        tags.append(f'<strong class="tag">{escape(words["refused"])}</strong>')
    deed = access.deed[:1].upper() + access.deed[1:]
    why = access.why[:1].upper() + access.why[1:] or ("" if access.ground else words["unknown"])
    ground = f"<small>{escape(access.ground)}</small>" if access.ground else ""

    def label(name: str) -> str:
        return escape(words["label"].format(word=words[name]))

    row = '<tr class="emergency">' if access.is_emergency else "<tr>"
    return (
        f"{row}"
        f'<th scope="row">{escape(access.time)}</th>'
        f'<td data-label="{label("who")}">{escape(access.who)}</td>'
        f'<td data-label="{label("what")}">{"".join(tags)}{escape(deed)}</td>'
        f'<td data-label="{label("why")}">{escape(why)}{ground}</td></tr>'
    )


def history_page_headers() -> dict[str, str]:
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'none'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    return {"Content-Security-Policy": policy, "X-Frame-Options": "DENY", **PRIVATE}
