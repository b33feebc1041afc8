"""`/fhir/metadata` as mapping templates of a mock integration: the statement itself, in JSON and in XML.

Contract: API Gateway developer guide, "Mock integrations" (the request template chooses the answer by its status),
"Use mapping templates to override" (`$context.responseOverride.status`). A mock has one answer for each status, and
both forms are a 200: the XML one is chosen by another status, which its template takes back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from passerelle.fhir import xml as fhir_xml

XML_STATUS: Final = "203"
# A GET has no body; a client may name a type of it all the same.
MEDIA_TYPES: Final = ("application/json", "application/fhir+json", "application/fhir+xml", "application/xml")


# `_format` wins over Accept; where both forms are accepted, or none, it is JSON. Over HTTP/2, names of headers are in
# lower case, and a template finds them as they were sent.
CHOICE: Final = """\
#if($input.params('_format').contains('xml'))
{"statusCode": 203}
#elseif($input.params('_format').contains('json'))
{"statusCode": 200}
#elseif($input.params('Accept').contains('json'))
{"statusCode": 200}
#elseif($input.params('accept').contains('json'))
{"statusCode": 200}
#elseif($input.params('Accept').contains('xml'))
{"statusCode": 203}
#elseif($input.params('accept').contains('xml'))
{"statusCode": 203}
#else
{"statusCode": 200}
#end
"""


def json_template(resource: Mapping[str, Any]) -> str:
    """JSON in which Velocity finds nothing to do: `$` and `#` are in strings only, where an escape says the same."""
    return json.dumps(resource, separators=(",", ":")).replace("$", "\\u0024").replace("#", "\\u0023")


def xml_template(resource: Mapping[str, Any]) -> str:
    """XML in which Velocity finds nothing to do; raises ValueError for `$` and `#`, which XML has no escape without."""
    text: str = fhir_xml.dumps(resource).decode()
    if "$" in text or "#" in text:
        raise ValueError("the statement has a $ or a #, which a mapping template would read")
    return f"#set($context.responseOverride.status = 200){text}"
