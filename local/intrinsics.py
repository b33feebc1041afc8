"""The intrinsic functions of CloudFormation, evaluated.

Contract: AWS CloudFormation user guide, "Intrinsic function reference". Conditions are evaluated once, on
demand; a function that is not here is an error, so that a template never means less outside AWS than it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

NO_VALUE: Final = object()
_PLACEHOLDER = re.compile(r"\$\{(!?)([^}]+)\}")


class TemplateError(Exception):
    """The template says something that the loader does not do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the names in a template stand for.

    `values` holds parameters and pseudo parameters; `reference` and `attribute` answer Ref and Fn::GetAtt for
    the resources.
    """

    values: Mapping[str, str]
    conditions: Mapping[str, Any]
    reference: Callable[[str], str]
    attribute: Callable[[str, str], str]
    _known: dict[str, bool] = field(default_factory=dict)

    def resolve(self, value: Any) -> Any:
        """The value without intrinsic functions; NO_VALUE where it is to be left out."""
        if isinstance(value, list):
            return [each for each in map(self.resolve, value) if each is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name in _FUNCTIONS:
                return _FUNCTIONS[name](self, argument)
            if name.startswith("Fn::"):
                raise TemplateError(f"the intrinsic function {name} is not implemented")
        resolved = {name: self.resolve(each) for name, each in value.items()}
        return {name: each for name, each in resolved.items() if each is not NO_VALUE}

    def holds(self, condition: str) -> bool:
        """Whether a condition of the template holds."""
        if condition not in self._known:
            if condition not in self.conditions:
                raise TemplateError(f"no condition {condition}")
            self._known[condition] = self._test(self.conditions[condition])
        return self._known[condition]

    def _test(self, expression: Any) -> bool:
        if not isinstance(expression, dict) or len(expression) != 1:
            raise TemplateError("a condition must be one function")
        ((name, argument),) = expression.items()
        match name:
            case "Condition":
                return self.holds(argument)
            case "Fn::Equals":
                left, right = self.resolve(argument)
                return bool(left == right)
            case "Fn::Not":
                return not self._test(argument[0])
            case "Fn::And":
                return all(map(self._test, argument))
            case "Fn::Or":
                return any(map(self._test, argument))
        raise TemplateError(f"the condition function {name} is not implemented")


def _ref(scope: Scope, name: str) -> Any:
    if name == "AWS::NoValue":
        return NO_VALUE
    return scope.values[name] if name in scope.values else scope.reference(name)


def _get_att(scope: Scope, argument: str | list[str]) -> str:
    logical_id, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
    return scope.attribute(logical_id, attribute)


def _join(scope: Scope, argument: list[Any]) -> str:
    separator, parts = argument
    return str(separator).join(str(part) for part in scope.resolve(parts))


def _sub(scope: Scope, argument: str | list[Any]) -> str:
    text, local = (argument, {}) if isinstance(argument, str) else argument

    def value(match: re.Match[str]) -> str:
        literal, name = match.groups()
        if literal:
            return f"${{{name}}}"
        if name in local:
            return str(scope.resolve(local[name]))
        return str(_get_att(scope, name) if "." in name else _ref(scope, name))

    return _PLACEHOLDER.sub(value, text)


def _select(scope: Scope, argument: list[Any]) -> Any:
    index, values = argument
    return scope.resolve(values)[int(index)]


def _split(scope: Scope, argument: list[Any]) -> list[str]:
    separator, text = argument
    return str(scope.resolve(text)).split(separator)


def _if(scope: Scope, argument: list[Any]) -> Any:
    condition, then, otherwise = argument
    return scope.resolve(then if scope.holds(condition) else otherwise)


_FUNCTIONS: dict[str, Callable[[Scope, Any], Any]] = {
    "Ref": _ref,
    "Fn::GetAtt": _get_att,
    "Fn::Join": _join,
    "Fn::Sub": _sub,
    "Fn::Select": _select,
    "Fn::Split": _split,
    "Fn::If": _if,
}
