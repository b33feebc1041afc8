"""Event patterns, as event source mappings filter with them.

Contract: AWS Lambda developer guide, "Event filtering"; the operators not listed here raise TemplateError
when the template is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from local.intrinsics import TemplateError

_OPERATORS: Final = frozenset({"prefix", "suffix", "exists", "anything-but"})
_ABSENT: Final = object()


def check(pattern: Mapping[str, Any]) -> None:
    """Raise TemplateError if `matches` would not understand the pattern."""
    for rule in pattern.values():
        if isinstance(rule, Mapping):
            check(rule)
            continue
        for choice in rule:
            if isinstance(choice, Mapping) and not choice.keys() <= _OPERATORS:
                raise TemplateError(f"event pattern operators not implemented: {', '.join(choice)}")


def matches(pattern: Mapping[str, Any], event: Any) -> bool:
    """Whether every field of the pattern holds on the event."""
    for name, rule in pattern.items():
        value = event.get(name, _ABSENT) if isinstance(event, Mapping) else _ABSENT
        if isinstance(rule, Mapping):
            if not matches(rule, value):
                return False
        elif not any(_holds(choice, value) for choice in rule):
            return False
    return True


def _holds(choice: Any, value: Any) -> bool:
    if not isinstance(choice, Mapping):
        return bool(value == choice) and isinstance(value, bool) == isinstance(choice, bool)
    ((operator, operand),) = choice.items()
    match operator:
        case "exists":
            return bool((value is not _ABSENT) == operand)
        case "prefix":
            return isinstance(value, str) and value.startswith(str(operand))
        case "suffix":
            return isinstance(value, str) and value.endswith(str(operand))
        case _:  # anything-but
            unwanted = operand if isinstance(operand, list) else [operand]
            return value is not _ABSENT and value not in unwanted
