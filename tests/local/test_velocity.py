"""Mapping templates: what the API's responses use, and an error for the rest."""

from __future__ import annotations

import pytest

from local.intrinsics import TemplateError
from local.velocity import MappingTemplate

CONTEXT = {"requestId": "r-1", "authorizer": {"issue": "expired"}}
CHOICE = """\
#if($input.params('_format').contains('xml'))
one
#elseif($input.params('Accept').contains('json'))
two $context.requestId
#else
three
#end
rest"""


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


@pytest.mark.parametrize(
    ("parameters", "rendered"),
    [
        ({"_format": "application/fhir+xml", "Accept": "json"}, "one\nrest"),
        ({"Accept": "application/json"}, "two r-1\nrest"),
        ({"accept": "application/json"}, "three\nrest"),
        ({}, "three\nrest"),
    ],
)
def test_a_choice_by_the_parameters_of_the_request(parameters: dict[str, str], rendered: str) -> None:
    assert MappingTemplate.read(CHOICE).render(CONTEXT, parameters) == rendered


def test_a_template_may_set_the_status_of_the_answer() -> None:
    template = MappingTemplate.read("#set($context.responseOverride.status = 200)<x/>")
    assert (template.status, template.render(CONTEXT)) == (200, "<x/>")


@pytest.mark.parametrize(
    "text",
    [
        "#if(true)x#end",
        "$input.body",
        "$util.urlEncode('x')",
        "#set($a = $b)",
        "#end",
        "#else x #end",
        "#if($input.params('a').contains('b')) x",
        "#if($input.params('a').contains('b'))#if($input.params('a').contains('b'))#end#end",
    ],
)
def test_what_is_not_implemented_is_an_error(text: str) -> None:
    with pytest.raises(TemplateError):
        MappingTemplate.read(text)
