"""A small template with every kind of thing that is served, and the handlers behind it."""

from __future__ import annotations

import base64
import copy
import json
import time
from dataclasses import replace
from typing import Any

from local.runtime import Runtime
from local.template import Stack

Json = dict[str, Any]


def _function(name: str, timeout: int = 3) -> Json:
    return {
        "Type": "AWS::Lambda::Function",
        "Metadata": {"passerelle:function": name},
        "Properties": {
            "Handler": "handler.handler",
            "Code": {"S3Bucket": "assets", "S3Key": "key"},
            "Role": {"Fn::GetAtt": ["Role", "Arn"]},
            "Runtime": "python3.14",
            "Timeout": timeout,
            "Environment": {"Variables": {"TABLE": {"Ref": "Table"}, "QUEUE": {"Ref": "Jobs"}}},
        },
    }


def _method(resource: Any, method: str, function: str, *, authorized: bool = False) -> Json:
    uri = [
        "",
        ["arn:aws:apigateway:eu-west-3:lambda:path/2015-03-31/functions/", _arn(function), "/invocations"],
    ]
    properties: Json = {
        "RestApiId": {"Ref": "Api"},
        "ResourceId": resource,
        "HttpMethod": method,
        "AuthorizationType": "CUSTOM" if authorized else "NONE",
        "Integration": {"Type": "AWS_PROXY", "IntegrationHttpMethod": "POST", "Uri": {"Fn::Join": uri}},
    }
    if authorized:
        properties["AuthorizerId"] = {"Ref": "Authorizer"}
    return {"Type": "AWS::ApiGateway::Method", "Properties": properties}


def _arn(logical_id: str) -> Json:
    return {"Fn::GetAtt": [logical_id, "Arn"]}


def _resource(parent: Any, part: str) -> Json:
    properties = {"RestApiId": {"Ref": "Api"}, "ParentId": parent, "PathPart": part}
    return {"Type": "AWS::ApiGateway::Resource", "Properties": properties}


def _response(kind: str, body: str, **properties: Any) -> Json:
    given = {
        "RestApiId": {"Ref": "Api"},
        "ResponseType": kind,
        "ResponseTemplates": {"application/json": body},
    }
    return {"Type": "AWS::ApiGateway::GatewayResponse", "Properties": given | properties}


def _authorizer() -> Json:
    uri = [
        "",
        ["arn:aws:apigateway:eu-west-3:lambda:path/2015-03-31/functions/", _arn("Gate"), "/invocations"],
    ]
    return {
        "Type": "AWS::ApiGateway::Authorizer",
        "Properties": {
            "Name": "gate",
            "RestApiId": {"Ref": "Api"},
            "Type": "REQUEST",
            "IdentitySource": "method.request.header.Authorization",
            "AuthorizerResultTtlInSeconds": 0,
            "AuthorizerUri": {"Fn::Join": uri},
        },
    }


_MOCK: Json = {
    "Type": "AWS::ApiGateway::Method",
    "Properties": {
        "RestApiId": {"Ref": "Api"},
        "ResourceId": {"Ref": "Info"},
        "HttpMethod": "GET",
        "AuthorizationType": "NONE",
        "Integration": {
            "Type": "MOCK",
            "RequestTemplates": {"application/json": '{"statusCode": 200}'},
            "IntegrationResponses": [
                {
                    "StatusCode": "200",
                    "ResponseTemplates": {"application/json": '#set($dollar=\'$\'){"op":"${dollar}x"}'},
                    "ResponseParameters": {"method.response.header.Content-Type": "'application/fhir+json'"},
                }
            ],
        },
    },
}

_TEMPLATE: Json = {
    "Parameters": {"PublicUrl": {"Type": "String", "Default": ""}},
    "Resources": {
        "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {}}},
        "Table": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "KeySchema": [{"AttributeName": "PK", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "PK", "AttributeType": "S"}],
                "BillingMode": "PAY_PER_REQUEST",
                "StreamSpecification": {"StreamViewType": "NEW_IMAGE"},
            },
        },
        "Jobs": {
            "Type": "AWS::SQS::Queue",
            "Properties": {
                "RedrivePolicy": {"deadLetterTargetArn": _arn("DeadJobs"), "maxReceiveCount": 2},
                "VisibilityTimeout": 60,
            },
        },
        "DeadJobs": {"Type": "AWS::SQS::Queue"},
        "DeadRecords": {"Type": "AWS::SQS::Queue"},
        "Echo": _function("echo"),
        "Gate": _function("gate"),
        "Worker": _function("worker"),
        "Follower": _function("follower"),
        "Slow": _function("slow", timeout=1),
        "JobsToWorker": {
            "Type": "AWS::Lambda::EventSourceMapping",
            "Properties": {
                "EventSourceArn": _arn("Jobs"),
                "FunctionName": {"Ref": "Worker"},
                "BatchSize": 10,
                "FunctionResponseTypes": ["ReportBatchItemFailures"],
            },
        },
        "TableToFollower": {
            "Type": "AWS::Lambda::EventSourceMapping",
            "Properties": {
                "EventSourceArn": {"Fn::GetAtt": ["Table", "StreamArn"]},
                "FunctionName": {"Ref": "Follower"},
                "StartingPosition": "TRIM_HORIZON",
                "BatchSize": 10,
                "BisectBatchOnFunctionError": True,
                "MaximumRetryAttempts": 2,
                "FilterCriteria": {"Filters": [{"Pattern": '{"dynamodb":{"Keys":{"PK":{"S":[{"prefix":"O#"}]}}}}'}]},
                "DestinationConfig": {"OnFailure": {"Destination": _arn("DeadRecords")}},
            },
        },
        "Api": {
            "Type": "AWS::ApiGateway::RestApi",
            "Properties": {"Name": "small", "BinaryMediaTypes": ["*/*"], "MinimumCompressionSize": 512},
        },
        "Stage": {
            "Type": "AWS::ApiGateway::Stage",
            "Properties": {"RestApiId": {"Ref": "Api"}, "StageName": "v1"},
        },
        "Authorizer": _authorizer(),
        "Things": _resource({"Fn::GetAtt": ["Api", "RootResourceId"]}, "things"),
        "Thing": _resource({"Ref": "Things"}, "{id}"),
        "Info": _resource({"Ref": "Things"}, "info"),
        "Rest": _resource({"Ref": "Things"}, "{rest+}"),
        "GetThings": _method({"Ref": "Things"}, "GET", "Echo"),
        "PostThings": _method({"Ref": "Things"}, "POST", "Echo", authorized=True),
        "GetThing": _method({"Ref": "Thing"}, "GET", "Echo"),
        "AnyThing": _method({"Ref": "Thing"}, "ANY", "Echo"),
        "GetSlow": _method({"Ref": "Thing"}, "DELETE", "Slow"),
        "GetInfo": _MOCK,
        "GetRest": _method({"Ref": "Rest"}, "GET", "Echo"),
        "NoRoute": _response("MISSING_AUTHENTICATION_TOKEN", '{"code":"not-found"}', StatusCode="404"),
        "Denied": _response(
            "ACCESS_DENIED",
            '{"issue":"$context.authorizer.issue","message":$context.error.messageString}',
            StatusCode="401",
            ResponseParameters={
                "gatewayresponse.header.WWW-Authenticate": "'Bearer'",
                "gatewayresponse.header.X-Request-Id": "context.requestId",
            },
        ),
        "Failed": _response("DEFAULT_5XX", '{"code":"exception","request":"$context.requestId"}'),
    },
}


def small_template() -> Json:
    """A copy, to be changed at will."""
    return copy.deepcopy(_TEMPLATE)


def runtime_of(stack: Stack, **options: Any) -> Runtime:
    """The stack's functions with the handlers of this module."""
    functions = {name: replace(each, handler=f"{__name__}:{each.name}") for name, each in stack.functions.items()}
    runtime = Runtime(functions, stack.environment, **options)
    runtime.load()
    return runtime


def echo(event: Json, context: Any) -> Json:
    """Answers with the event; `x-status`, `x-raise`, `x-junk` and `x-bytes` make it do otherwise."""
    headers = {name.lower(): value for name, value in event["headers"].items()}
    if "x-raise" in headers:
        raise ValueError("a name that no log may hold")
    if "x-junk" in headers:
        return {"no": "status"}
    if "x-bytes" in headers:
        content = base64.b64encode(b"\x00\xff").decode()
        return {
            "statusCode": 200,
            "headers": {"Content-Type": "image/png"},
            "body": content,
            "isBase64Encoded": True,
        }
    return {
        "statusCode": int(headers.get("x-status", 200)),
        "headers": {"Content-Type": "text/plain", "WWW-Authenticate": "Bearer"},
        "multiValueHeaders": {"X-Many": ["1", "2"]},
        "body": json.dumps(event),
    }


def gate(event: Json, context: Any) -> Json:
    """Allows `good`, denies everything else but `broken`, `unauthorized` and `elsewhere`."""
    token = {name.lower(): value for name, value in event["headers"].items()}["authorization"]
    if token == "broken":
        raise KeyError(token)
    if token == "unauthorized":
        raise Exception("Unauthorized")
    resource = "arn:aws:execute-api:*:*:*/v1/GET/elsewhere" if token == "elsewhere" else event["methodArn"]
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": resource}
    if token == "bad":
        statement["Effect"] = "Deny"
    return {
        "principalId": "somebody",
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": {"issue": "expired", "level": 3, "trusted": True},
    }


def slow(event: Json, context: Any) -> Json:
    time.sleep(1.5)
    return {"statusCode": 200}


worked: list[str] = []
followed: list[list[str]] = []


def worker(event: Json, context: Any) -> Json:
    """Takes messages; reports those that say `bad`, and fails on `boom`."""
    bodies = {record["messageId"]: record["body"] for record in event["Records"]}
    if "boom" in bodies.values():
        raise ValueError("boom")
    worked.extend(body for body in bodies.values() if body != "bad")
    return {"batchItemFailures": [{"itemIdentifier": each} for each, body in bodies.items() if body == "bad"]}


def follower(event: Json, context: Any) -> None:
    """Follows the table; fails on a record whose key ends in `bad`."""
    keys = [record["dynamodb"]["Keys"]["PK"]["S"] for record in event["Records"]]
    followed.append(keys)
    if any(key.endswith("bad") for key in keys):
        raise ValueError("bad record")
