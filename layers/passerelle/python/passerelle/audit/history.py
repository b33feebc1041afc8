"""The access log in plain words, for the patient: who saw what, when and why (contract DMP-31, TDE-7).

Words and the time zone are data, in French and in English. What is not known is not said: a name only where the token
had one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from passerelle.audit.explanation import sentences
from passerelle.audit.model import AuditRecord
from passerelle.directory.model import Role

LANGUAGES: Final = ("fr", "en")
_DATA = Path(__file__).parent / "data" / "history.json"
_EMERGENCY_PURPOSES = frozenset({"BTG", "ETREAT"})
_EMERGENCY_RULE = "emergency"
# By the name of a request, else by its audit action.
_ACTIONS: Final[Mapping[str, str]] = {
    "search-type": "search",
    "history-type": "read",
    "$everything": "read",
    "$summary": "read",
    "$changes": "read",
    "$access-history": "log",
    "$explain": "log",
    "$links": "read",
    "$share": "share",
    "$export-record": "export",
    "$open-link": "open-link",
    "notification": "tell",
    "deposit": "deposit",
    "C": "create",
    "R": "read",
    "U": "update",
    "D": "delete",
    "E": "operation",
}


_DISCLOSURES: Final = frozenset({"export", "log", "open-link", "read", "search"})


def is_disclosure(name: str, action: str) -> bool:
    """Whether a request of this name and audit action, if it succeeded, showed somebody what is in a record."""
    return _deed(name, action) in _DISCLOSURES


def _deed(name: str, action: str) -> str:
    return _ACTIONS.get(name) or _ACTIONS[action]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One line of the history, in words. `why` is the stated purpose and `ground` what the rules said; empty: none."""

    event: str  # id of the AuditEvent
    at: datetime  # in the time zone of the history
    time: str
    who: str
    what: str
    deed: str  # what was done to it
    why: str
    ground: str
    sentence: str
    is_refused: bool
    is_emergency: bool


@dataclass(frozen=True, slots=True)
class Chronicle:
    """Tells records in one language."""

    language: str

    @property
    def words(self) -> Mapping[str, Any]:
        words: Mapping[str, Any] = _content()[self.language]
        return words

    def tell(self, record: AuditRecord) -> Access:
        at = record.at.astimezone(zone())
        is_own = record.role == Role.PATIENT
        is_refused = record.outcome != "0"
        action = _deed(record.name, record.action)
        forms = self.words["actions"][action]
        did = forms[("you-asked" if is_refused else "you") if is_own else ("asked" if is_refused else "did")]
        who, what, why = self._who(record), self._what(record, action), self._why(record)
        told = self.words["refused" if is_refused else "sentence"].format(
            date=self.date(at.date()), time=self.time(at), who=who, did=did, what=what
        )
        return Access(
            event=record.id,
            at=at,
            time=self.time(at),
            who=who if "://" in who else who[:1].upper() + who[1:],
            what=what,
            deed=f"{did} {what}",
            why=why,
            ground=self._ground(record),
            sentence=f"{told} {self.words['reason'].format(why=why)}" if why else told,
            is_refused=is_refused,
            is_emergency=record.purpose in _EMERGENCY_PURPOSES or _rule(record) == _EMERGENCY_RULE,
        )

    def date(self, day: date) -> str:
        number = self.words["first-day"] if day.day == 1 else str(day.day)
        text: str = self.words["date"].format(day=number, month=self.words["months"][day.month - 1], year=day.year)
        return text

    def time(self, at: datetime) -> str:
        text: str = self.words["time"].format(hour=at.hour, minute=at.minute)
        return text

    def _who(self, record: AuditRecord) -> str:
        words = self.words
        if record.role == Role.PATIENT:
            return str(words["you"])
        role = str(words["roles"].get(record.role, words["somebody"]))
        if record.recipient:
            return str(words["roles"]["third-party"]) if record.recipient == "third-party" else record.recipient
        if record.person is not None or record.role == Role.REPRESENTATIVE:
            return str(words["on-behalf"].format(person=record.user_name)) if record.user_name else role
        profession = words["professions"].get(record.profession or "")
        if record.user_name:
            who = words["named"].format(name=record.user_name, kind=profession or words["professional"])
        elif record.professional:
            who = words["a-profession"].format(kind=profession) if profession else role
        else:
            who = role
        return str(words["at"].format(who=who, organisation=record.organisation)) if record.organisation else str(who)

    def _what(self, record: AuditRecord, action: str) -> str:
        words = self.words["what"]
        if action == "log":
            return str(words["AuditEvent"])
        kinds = [each.partition("/")[0] for each in record.references]
        # A content is that of its document, and what an operation says of both is of one.
        told = [each for each in kinds if each in words and not (each == "Binary" and "DocumentReference" in kinds)]
        if not told or action == "search":
            return str(words["AuditEvent"] if kinds and set(kinds) == {"AuditEvent"} else words[""])
        first, others = str(words[told[0]]), len(told) - 1
        if not others:
            return first
        return str(self.words["one-more" if others == 1 else "many"].format(what=first, count=others))

    def _why(self, record: AuditRecord) -> str:
        return str(self.words["purposes"].get(record.purpose, ""))

    def _ground(self, record: AuditRecord) -> str:
        if record.role == Role.PATIENT or record.decision is None:
            return ""
        return sentences().get(str(record.decision.rule), {}).get(self.language, "")


def _rule(record: AuditRecord) -> str:
    return str(record.decision.rule) if record.decision is not None and record.decision.is_permitted else ""


@cache
def zone() -> ZoneInfo:
    """The time zone that days and hours are told in."""
    return ZoneInfo(_content()["zone"])


@cache
def _content() -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads(_DATA.read_text("utf-8"))
    return content
