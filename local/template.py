"""The template loader: the one way resources come to exist outside AWS.

It reads the synthesised CloudFormation template and makes each resource with plain AWS calls and the
properties that the template gives it, so that tests (on moto), the local stack (on ministack) and AWS have
the same tables, keys, buckets, rules, queues and routes. Functions, their event sources and the REST API are
not made: they are read into `Stack`, and served by `runtime`, `pump` and `gateway`. What it does neither, and
does not list in `coverage.IGNORED`, raises TemplateError.

With a `state` file a stack outlives its process: what the file names is kept, what is new is made, and what
may change is brought up to date. Names derive from logical ids, so that they are the same each time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.session import get_session

from local.api import RestApi
from local.coverage import is_ignored, without_ignored
from local.intrinsics import Scope, TemplateError
from local.pump import EventSource
from local.resources import KINDS, Client, Cloud, Made, Properties
from local.runtime import Function
from local.scanner import ScanPlan
from local.schedules import Schedule
from local.sdk import lightened

_SECTIONS: Final = {
    "AWSTemplateFormatVersion",
    "Conditions",
    "Description",
    "Metadata",
    "Outputs",
    "Parameters",
    "Resources",
    "Rules",  # assertions that CloudFormation checks at deployment
}
_RESOURCE_KEYS: Final = {
    "Condition",
    "DeletionPolicy",  # nothing is deleted
    "DependsOn",
    "Metadata",
    "Properties",
    "Type",
    "UpdateReplacePolicy",
}
_SERVED: Final = {
    "AWS::ApiGateway::Authorizer",
    "AWS::ApiGateway::GatewayResponse",
    "AWS::ApiGateway::Method",
    "AWS::ApiGateway::Model",
    "AWS::ApiGateway::RequestValidator",
    "AWS::ApiGateway::Resource",
    "AWS::ApiGateway::RestApi",
    "AWS::ApiGateway::Stage",
    "AWS::GuardDuty::MalwareProtectionPlan",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Lambda::Function",
    "AWS::Scheduler::Schedule",
}


@cache
def clients(endpoint: str | None = None) -> Callable[[str], Client]:
    """AWS clients by service name, each made once per endpoint: making one costs more than most calls."""
    session = boto3.Session(botocore_session=lightened(get_session()) if endpoint else None)
    config = Config(max_pool_connections=32)  # the threads of the pump share them

    @cache
    def client(service: str) -> Client:
        return session.client(service, endpoint_url=endpoint, config=config)

    return client


class ChangedError(TemplateError):
    """A resource that holds data was declared otherwise when it was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A template brought up. `environment` is that of every function; `client` gives the clients used."""

    resources: Mapping[str, Made]
    outputs: Mapping[str, str]
    functions: Mapping[str, Function]
    sources: tuple[EventSource, ...]
    scans: tuple[ScanPlan, ...]
    schedules: tuple[Schedule, ...]
    api: RestApi
    environment: Mapping[str, str]
    client: Callable[[str], Client]
    region: str
    account: str

    @classmethod
    def deploy(
        cls,
        template: Mapping[str, Any],
        *,
        parameters: Mapping[str, str] | None = None,
        client: Callable[[str], Client] | None = None,
        prefix: str = "passerelle",
        state: Path | None = None,
    ) -> Stack:
        """Bring a template up under names that begin with `prefix`.

        Raises TemplateError for what it does not implement, ChangedError when a resource in `state` would
        have to be replaced.
        """
        return _Deployment(template, parameters or {}, client or clients(), prefix, state).run()


@dataclass(slots=True)
class _Deployment:
    template: Mapping[str, Any]
    parameters: Mapping[str, str]
    client: Callable[[str], Client]
    prefix: str
    state: Path | None
    made: dict[str, Made] = field(default_factory=dict)
    under_way: list[str] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    cloud: Cloud = field(init=False)
    scope: Scope = field(init=False)

    def run(self) -> Stack:
        _refuse(self.template.keys() - _SECTIONS, "the template")
        sts = self.client("sts")
        self.cloud = Cloud(
            client=self.client,
            prefix=self.prefix,
            region=sts.meta.region_name,
            account=sts.get_caller_identity()["Account"],
        )
        self.scope = Scope(
            values=self._values(),
            conditions=self.template.get("Conditions", {}),
            reference=lambda logical_id: self._make(logical_id).ref,
            attribute=self._attribute,
        )
        if self.state is not None and self.state.exists():
            self.before = json.loads(self.state.read_bytes())
        for logical_id in self.template["Resources"]:
            if self._is_wanted(logical_id):
                self._make(logical_id)
        for finish in self.cloud.last:
            finish()
        stack = self._stack()
        if self.state is not None:
            partial = self.state.with_suffix(".partial")
            partial.write_text(json.dumps({**self.before, **self.after}, indent=1))
            partial.replace(self.state)
        return stack

    def _values(self) -> dict[str, str]:
        declared = self.template.get("Parameters", {})
        _refuse(self.parameters.keys() - declared.keys(), "the parameters")
        pseudo = {
            "AWS::AccountId": self.cloud.account,
            "AWS::Partition": "aws",
            "AWS::Region": self.cloud.region,
            "AWS::StackName": self.prefix,
            "AWS::StackId": self.cloud.arn("cloudformation", f"stack/{self.prefix}/local"),
            "AWS::URLSuffix": "amazonaws.com",
        }
        defaults = {name: str(each["Default"]) for name, each in declared.items() if "Default" in each}
        values = {**defaults, **self.parameters}
        _refuse(declared.keys() - values.keys(), "parameters without a value")
        return {**pseudo, **values}

    def _is_wanted(self, logical_id: str) -> bool:
        condition = self.template["Resources"][logical_id].get("Condition")
        return condition is None or self.scope.holds(condition)

    def _attribute(self, logical_id: str, attribute: str) -> str:
        made = self._make(logical_id)
        if attribute not in made.attributes:
            raise TemplateError(f"{logical_id} has no attribute {attribute}")
        return made.attributes[attribute]

    def _make(self, logical_id: str) -> Made:
        """The resource, made now if nobody asked for it before: references give the order."""
        if logical_id in self.made:
            return self.made[logical_id]
        if logical_id not in self.template["Resources"]:
            raise TemplateError(f"there is no {logical_id} to refer to")
        if logical_id in self.under_way:
            raise TemplateError(f"circular references: {', '.join(self.under_way)}")
        resource = self.template["Resources"][logical_id]
        _refuse(resource.keys() - _RESOURCE_KEYS, logical_id)
        self.under_way.append(logical_id)
        depends = resource.get("DependsOn", [])
        for each in [depends] if isinstance(depends, str) else depends:
            if not is_ignored(self.template["Resources"][each]["Type"]):
                self._make(each)
        kind = resource["Type"]
        if kind in KINDS:
            self.made[logical_id] = self._place(logical_id, kind)
        elif kind in _SERVED or is_ignored(kind):
            self.made[logical_id] = self._imagined(logical_id, kind)
        else:
            raise TemplateError(f"{logical_id}: {kind} is not implemented")
        self.under_way.remove(logical_id)
        return self.made[logical_id]

    def _place(self, logical_id: str, kind: str) -> Made:
        """Make it, or find it in the state and bring it up to date."""
        properties = self._properties(logical_id)
        fixed = {name: value for name, value in properties.items() if name in KINDS[kind].fixed}
        entry = {"type": kind, "fixed": _digest(fixed), "all": _digest(properties)}
        known = self.before.get(logical_id)
        existing = Made(ref=known["ref"], attributes=known["attributes"]) if known else None
        if known and (known["type"], known["fixed"]) != (kind, entry["fixed"]):
            raise ChangedError(f"{logical_id} ({kind}) was made with other {', '.join(KINDS[kind].fixed)}")
        if existing is None or known is None or known["all"] != entry["all"]:
            given = Properties(logical_id, properties)
            existing = KINDS[kind].make(self.cloud, logical_id, given, existing)
            given.finish()
        self.after[logical_id] = {**entry, **asdict(existing)}
        return existing

    def _imagined(self, logical_id: str, kind: str) -> Made:
        """What references to a resource that is not made get."""
        service = kind.split("::")[1].lower()
        name = f"{self.prefix}-{logical_id}"
        arn = self.cloud.arn(service, f"function:{name}" if kind == "AWS::Lambda::Function" else name)
        return Made(
            ref=arn if kind == "AWS::Lambda::LayerVersion" else logical_id,
            attributes={"Arn": arn, "RootResourceId": "/"},
        )

    def _properties(self, logical_id: str) -> dict[str, Any]:
        resource = self.template["Resources"][logical_id]
        given = without_ignored(resource["Type"], resource.get("Properties", {}))
        resolved: dict[str, Any] = self.scope.resolve(given)
        return resolved

    def _served(self, kind: str) -> Iterator[tuple[str, Properties]]:
        """The resources of a served kind; each must be finished by whoever reads it."""
        for logical_id, resource in self.template["Resources"].items():
            if resource["Type"] == kind and self._is_wanted(logical_id):
                yield logical_id, Properties(logical_id, self._properties(logical_id))

    def _stack(self) -> Stack:
        functions = {
            logical_id: Function.read(
                logical_id,
                given,
                self.template["Resources"][logical_id].get("Metadata", {}),
                self.made[logical_id],
            )
            for logical_id, given in self._served("AWS::Lambda::Function")
        }
        environments = {json.dumps(dict(each.environment), sort_keys=True) for each in functions.values()}
        if len(environments) > 1:
            raise TemplateError("functions share a process here, so their environments must be the same")
        by_arn = {made.attributes.get("Arn", ""): logical_id for logical_id, made in self.made.items()}
        outputs = {
            name: str(self.scope.resolve(output["Value"]))
            for name, output in self.template.get("Outputs", {}).items()
            if output.get("Condition") is None or self.scope.holds(output["Condition"])
        }
        return Stack(
            resources=self.made,
            outputs=outputs,
            functions=functions,
            sources=tuple(
                EventSource.read(logical_id, given, by_arn, self.made)
                for logical_id, given in self._served("AWS::Lambda::EventSourceMapping")
            ),
            scans=tuple(ScanPlan.read(given) for _, given in self._served("AWS::GuardDuty::MalwareProtectionPlan")),
            schedules=tuple(
                Schedule.read(logical_id, given, by_arn, self.made)
                for logical_id, given in self._served("AWS::Scheduler::Schedule")
            ),
            api=RestApi.read(self._served, by_arn),
            environment=next((each.environment for each in functions.values()), {}),
            client=self.client,
            region=self.cloud.region,
            account=self.cloud.account,
        )


def _refuse(names: set[str], owner: str) -> None:
    if names:
        raise TemplateError(f"{owner}: not implemented: {', '.join(sorted(names))}")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
