"""The part of the Velocity Template Language that the API's templates use: references, #set and #if.

Contract: API Gateway developer guide, "Mapping template and access logging variable reference" and "Override your
API's request and response parameters". `#set` takes a literal, or the status of the answer; `#if` and `#elseif` ask
whether a parameter of the request contains a text, and are not nested. Anything else of the language raises
TemplateError when the template is read; a dollar sign that begins no reference stays text, as in Velocity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local.intrinsics import TemplateError

_TOKEN = re.compile(
    r"""\#set\(\s*\$(?P<name>\w+)\s*=\s*(?P<quote>["'])(?P<literal>[^"'$]*|\$)(?P=quote)\s*\)[ \t]*\n?
      | \#set\(\s*\$context\.responseOverride\.status\s*=\s*(?P<status>\d{3})\s*\)[ \t]*\n?
      | \#(?P<test>if|elseif)\(
            \s*\$input\.params\('(?P<parameter>[\w-]+)'\)\.contains\('(?P<text>[^'$\#]+)'\)\s*\)[ \t]*\n?
      | \#(?P<turn>else|end)\b[ \t]*\n?
      | \#(?P<directive>if|elseif|foreach|macro|define|stop|break|include|parse|evaluate|set)\b
      | \$!?(?P<brace>\{)?(?P<reference>[A-Za-z_]\w*(?:\.\w+)*)(?(brace)\})
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference into the context; what is not there is empty."""

    path: tuple[str, ...]

    def value(self, context: Mapping[str, Any]) -> str:
        found: Any = context
        for name in self.path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return "" if found is None else str(found)


@dataclass(frozen=True, slots=True)
class Branch:
    """What is rendered if a parameter of the request contains a text; `parameter` None: in any other case."""

    parameter: str | None
    text: str
    parts: tuple[str | Reference, ...]

    def holds(self, parameters: Mapping[str, str]) -> bool:
        return self.parameter is None or self.text in parameters.get(self.parameter, "")


@dataclass(frozen=True, slots=True)
class MappingTemplate:
    """A template that was read; `render` takes what `$context` stands for, and the parameters of the request.

    `status` is what it sets the status of the answer to.
    """

    parts: tuple[str | Reference | tuple[Branch, ...], ...]
    status: int | None = None

    @classmethod
    def read(cls, text: str) -> MappingTemplate:
        reader = _Reader()
        end = 0
        for match in _TOKEN.finditer(text):
            reader.here.append(text[end : match.start()])
            end = match.end()
            reader.take(match)
        if reader.branches is not None:
            raise TemplateError("a template has an #if without #end")
        return cls((*reader.parts, text[end:]), reader.status)

    def render(self, context: Mapping[str, Any], parameters: Mapping[str, str] | None = None) -> str:
        rendered = []
        for part in self.parts:
            chosen: tuple[str | Reference, ...]
            if isinstance(part, tuple):
                chosen = next((branch.parts for branch in part if branch.holds(parameters or {})), ())
            else:
                chosen = (part,)
            rendered += [each if isinstance(each, str) else each.value(context) for each in chosen]
        return "".join(rendered)


class _Reader:
    """Takes the tokens of a template, in order."""

    def __init__(self) -> None:
        self.parts: list[str | Reference | tuple[Branch, ...]] = []
        self.status: int | None = None
        self.branches: list[Branch] | None = None  # of the #if that is open
        self.here: list[Any] = self.parts  # where text goes
        self._variables: dict[str, str] = {}

    def take(self, match: re.Match[str]) -> None:
        if directive := match["directive"]:
            raise TemplateError(f"a template uses #{directive} in a way that is not implemented")
        if match["test"] or match["turn"]:
            self._branch(match)
        elif match["status"]:
            self.status = int(match["status"])
        elif name := match["name"]:
            self._variables[name] = match["literal"]
        else:
            self.here.append(self._referred(match))

    def _branch(self, match: re.Match[str]) -> None:
        if (match["test"] == "if") != (self.branches is None):
            raise TemplateError("a template has directives that do not match, or are nested")
        if self.branches is None:
            self.branches = []
        elif self.branches:
            self.branches[-1] = Branch(self.branches[-1].parameter, self.branches[-1].text, tuple(self.here))
        if match["turn"] == "end":
            self.parts.append(tuple(self.branches))
            self.branches, self.here = None, self.parts
        else:
            self.branches.append(Branch(match["parameter"], match["text"] or "", ()))
            self.here = []

    def _referred(self, match: re.Match[str]) -> str | Reference:
        root, *path = match["reference"].split(".")
        if root == "context":
            return Reference(tuple(path))
        if root in self._variables:
            return "".join([self._variables[root], *(f".{each}" for each in path)])
        if root in ("input", "util", "stageVariables"):
            raise TemplateError(f"a template uses ${root} in a way that is not implemented")
        return match[0]
