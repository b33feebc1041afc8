"""What the loader leaves out, and why: the whole list. A key is a type, `service::*`, or `type.property`.

Of bucket policies only what they allow is made, see `resources.py`. Whatever is neither here nor implemented
(`resources.py`, `api.py`, `runtime.py`, `pump.py`) is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_NO_IAM = "the emulators do not evaluate policies; tests/infra compares them with the calls that are made"
_NO_OPERATIONS = "operated on AWS only: nothing outside it reads logs, metrics or traces"
_NO_EDGE = "protects the public endpoint, which listens on loopback only"
_NO_DEPLOYMENT = "the routes are read from the template itself, there is nothing to deploy"
_NO_PACKAGING = "functions run from the checkout, in this process"

IGNORED: Final[Mapping[str, str]] = {
    "AWS::IAM::*": _NO_IAM,
    "AWS::Lambda::Permission": _NO_IAM,
    "AWS::Lambda::Function.Role": _NO_IAM,
    "AWS::ApiGateway::Account": _NO_OPERATIONS,
    "AWS::CloudWatch::*": _NO_OPERATIONS,
    "AWS::Logs::*": _NO_OPERATIONS,
    "AWS::Lambda::Function.LoggingConfig": _NO_OPERATIONS,
    "AWS::ApiGateway::Stage.AccessLogSetting": _NO_OPERATIONS,
    "AWS::ApiGateway::Stage.TracingEnabled": _NO_OPERATIONS,
    "AWS::WAFv2::*": _NO_EDGE,
    "AWS::ApiGateway::Stage.MethodSettings": _NO_EDGE,
    "AWS::ApiGateway::RestApi.EndpointAccessMode": _NO_EDGE,
    "AWS::ApiGateway::RestApi.EndpointConfiguration": _NO_EDGE,
    "AWS::ApiGateway::RestApi.SecurityPolicy": _NO_EDGE,
    "AWS::ApiGateway::Deployment": _NO_DEPLOYMENT,
    "AWS::Lambda::LayerVersion": _NO_PACKAGING,
    "AWS::Lambda::Function.Layers": _NO_PACKAGING,
    "AWS::Lambda::Function.Code": _NO_PACKAGING,
    "AWS::Lambda::Function.Runtime": _NO_PACKAGING,
    "AWS::Lambda::Function.Architectures": _NO_PACKAGING,
    "AWS::KMS::Key.PendingWindowInDays": "says how long a deletion waits; nothing is deleted",
}
_ANYWHERE: Final[Mapping[str, str]] = {"Tags": "labels for cost and inventory"}


def is_ignored(kind: str) -> bool:
    return kind in IGNORED or f"{kind.rpartition('::')[0]}::*" in IGNORED


def without_ignored(kind: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties that the loader has to implement."""
    return {
        name: value for name, value in properties.items() if f"{kind}.{name}" not in IGNORED and name not in _ANYWHERE
    }
