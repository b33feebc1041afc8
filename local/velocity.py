"""The part of the Velocity Template Language that the API's responses use: #set with a literal, and
references.

Contract: API Gateway developer guide, "Mapping template and access logging variable reference". Any other
directive, and any reference to `$input`, `$util` or `$stageVariables`, raises TemplateError when the template
is read; a dollar sign that begins no reference stays text, as in Velocity.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local.intrinsics import TemplateError

_TOKEN = re.compile(
    r"""\#set\(\s*\$(?P<name>\w+)\s*=\s*(?P<quote>["'])(?P<literal>[^"'$]*|\$)(?P=quote)\s*\)[ \t]*\n?
      | \#(?P<directive>if|elseif|else|end|foreach|macro|define|stop|break|include|parse|evaluate|set)\b
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
class MappingTemplate:
    """A template that was read; `render` takes what `$context` stands for."""

    parts: tuple[str | Reference, ...]

    @classmethod
    def read(cls, text: str) -> MappingTemplate:
        variables: dict[str, str] = {}
        parts: list[str | Reference] = []
        end = 0
        for match in _TOKEN.finditer(text):
            parts.append(text[end : match.start()])
            end = match.end()
            if directive := match["directive"]:
                raise TemplateError(f"a response template uses #{directive} in a way that is not implemented")
            if name := match["name"]:
                variables[name] = match["literal"]
                continue
            root, *path = match["reference"].split(".")
            if root == "context":
                parts.append(Reference(tuple(path)))
            elif root in variables:
                parts.append("".join([variables[root], *(f".{each}" for each in path)]))
            elif root in ("input", "util", "stageVariables"):
                raise TemplateError(f"a response template uses ${root}, which is not implemented")
            else:
                parts.append(match[0])
        return cls((*parts, text[end:]))

    def render(self, context: Mapping[str, Any]) -> str:
        return "".join(part if isinstance(part, str) else part.value(context) for part in self.parts)
