"""Mapping templates: what the API's responses use, and an error for the rest."""

from __future__ import annotations

import pytest

from local.intrinsics import TemplateError
from local.velocity import MappingTemplate

CONTEXT = {"requestId": "r-1", "authorizer": {"issue": "expired"}}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("no reference, 5 $ and a # sign", "no reference, 5 $ and a # sign"),
        ('{"id":"$context.requestId"}', '{"id":"r-1"}'),
        ("${context.authorizer.issue}!", "expired!"),
        ("[$context.authorizer.unknown]", "[]"),
        ("#set($dollar = '$')\n${dollar}validate, $dollar", "$validate, $"),
        ('"$unknown" stays', '"$unknown" stays'),
    ],
)
def test_rendering(text: str, rendered: str) -> None:
    assert MappingTemplate.read(text).render(CONTEXT) == rendered


@pytest.mark.parametrize("text", ["#if(true)x#end", "$input.body", "$util.urlEncode('x')", "#set($a = $b)"])
def test_what_is_not_implemented_is_an_error(text: str) -> None:
    with pytest.raises(TemplateError):
        MappingTemplate.read(text)
