"""The REST API: every route, its authorizer, what API Gateway answers by itself, and what it logs."""

from __future__ import annotations

import importlib
import json
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from fhir.resources.R4B.operationoutcome import OperationOutcome

from infra.functions import FUNCTIONS, Http
from infra.gateway_responses import GATEWAY_RESPONSES
from infra.metadata import json_template, xml_template
from infra.routes import endpoints, fhir_routes
from infra.settings import CdsService, OpenIdProvider
from passerelle.fhir import xml as fhir_xml
from passerelle.fhir.capability import capability_statement

PUBLIC = {
    ("GET", "/fhir/metadata"),
    ("GET", "/fhir/.well-known/smart-configuration"),
    ("GET", "/fhir/r/{number}"),
    ("GET", "/links/{token}"),
    ("GET", "/log/anchors/latest"),
    ("GET", "/log/anchors/{epoch}"),
    ("GET", "/log/consistency"),
    ("GET", "/log/keys"),
    ("GET", "/oauth2/jwks"),
    ("POST", "/links/{token}"),
    ("GET", "/.well-known/oauth-authorization-server"),
    ("GET", "/oauth2/introspect"),
    ("POST", "/oauth2/introspect"),
    ("POST", "/oauth2/revoke"),
    ("GET", "/oauth2/authorize"),
    ("POST", "/oauth2/authorize"),
    ("GET", "/oauth2/callback"),
    ("POST", "/oauth2/token"),
}
PROVIDER = OpenIdProvider(
    id="psc",
    name="Pro Santé Connect",
    profile="professionals",
    issuer="https://provider.example",
    client_id="passerelle",
    acr="eidas1",
    secret="arn:aws:secretsmanager:eu-west-3:123456789012:secret:psc-AbCdEf",
)
LICENSED = CdsService(
    url="https://base.example/cds-services/order-sign",
    secret="arn:aws:secretsmanager:eu-west-3:123456789012:secret:cds-AbCdEf",
)
# What the client gets for each failure that API Gateway can meet here (contract GEN-13, GEN-16).
EXPECTED = {
    "UNAUTHORIZED": ("401", "login"),
    "ACCESS_DENIED": ("401", "expired"),
    "MISSING_AUTHENTICATION_TOKEN": ("404", "not-supported"),
    "INVALID_SIGNATURE": ("404", "not-supported"),
    "RESOURCE_NOT_FOUND": ("404", "not-supported"),
    "REQUEST_TOO_LARGE": ("413", "too-long"),
    "UNSUPPORTED_MEDIA_TYPE": ("415", "not-supported"),
    "THROTTLED": ("429", "throttled"),
    "WAF_FILTERED": ("403", "forbidden"),
    "INTEGRATION_FAILURE": ("503", "transient"),
    "INTEGRATION_TIMEOUT": ("503", "transient"),
    "AUTHORIZER_FAILURE": ("503", "transient"),
    "DEFAULT_4XX": (None, "invalid"),
    "DEFAULT_5XX": (None, "exception"),
}


def methods(stage: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """(method, path) -> properties of every method that is deployed."""
    parts = {
        name: (resource["ParentId"], resource["PathPart"])
        for name, resource in stage.of("AWS::ApiGateway::Resource").items()
    }

    def path(resource_id: dict[str, Any]) -> str:
        if "Ref" not in resource_id:
            return ""
        parent, part = parts[resource_id["Ref"]]
        return f"{path(parent)}/{part}"

    found = {}
    for method in stage.of("AWS::ApiGateway::Method").values():
        found[method["HttpMethod"], path(method["ResourceId"])] = method
    return found


def test_every_endpoint_is_deployed_and_nothing_else(stage: Any) -> None:
    declared = {(endpoint.method, endpoint.path) for endpoint in endpoints()}
    assert methods(stage).keys() == declared | {("GET", "/fhir/metadata")}


def test_every_declared_route_reaches_the_function_that_declares_it() -> None:
    """As API Gateway finds a resource: part by part, a literal one before a variable."""
    deployed = {endpoint.path: endpoint.function for endpoint in endpoints() if endpoint.method == "ANY"}
    for spec in FUNCTIONS:
        if isinstance(spec.trigger, Http) and not spec.trigger.public:
            for route in importlib.import_module(f"functions.{spec.name}.handler").handler.routes:
                base = "/fhir" if route.path.startswith("/fhir") else ""
                kind, _, rest = route.path.removeprefix(base).strip("/").partition("/")
                place = f"{base}/{kind}" if f"{base}/{kind}" in deployed else "/fhir/{type}"
                resource = base if not kind else f"{place}/{{proxy+}}" if rest else place
                assert deployed[resource] == spec.name, route.path


def test_only_the_way_to_a_token_and_temporary_links_are_open(stage: Any) -> None:
    (authorizer,) = stage.of("AWS::ApiGateway::Authorizer")
    for endpoint, method in methods(stage).items():
        if endpoint in PUBLIC:
            assert method["AuthorizationType"] == "NONE", endpoint
        else:
            assert method["AuthorizationType"] == "CUSTOM", endpoint
            assert method["AuthorizerId"] == {"Ref": authorizer}, endpoint


def test_tokens_are_verified_on_every_request(stage: Any) -> None:
    (authorizer,) = stage.of("AWS::ApiGateway::Authorizer").values()
    assert authorizer["Type"] == "REQUEST"
    assert authorizer["IdentitySource"] == "method.request.header.Authorization"
    assert authorizer["AuthorizerResultTtlInSeconds"] == 0


def test_each_route_calls_the_function_that_declares_it(stage: Any) -> None:
    served = methods(stage)
    functions = {
        name: resource["Metadata"]["passerelle:function"]
        for name, resource in stage.template["Resources"].items()
        if resource["Type"] == "AWS::Lambda::Function"
    }
    for endpoint in endpoints():
        integration = served[endpoint.method, endpoint.path]["Integration"]
        assert integration["Type"] == "AWS_PROXY"
        (called,) = {name for name in functions if f"'{name}'" in str(integration["Uri"])}
        assert functions[called] == endpoint.function


def test_api_gateway_may_invoke_each_http_function_once(stage: Any) -> None:
    """A permission per method would end in the limit of a function's policy."""
    invoked = [str(p["FunctionName"]) for p in stage.of("AWS::Lambda::Permission").values()]
    assert len(invoked) == len(set(invoked)) == len({endpoint.function for endpoint in endpoints()}) + 1


def test_path_variables_at_the_same_place_have_the_same_name(stage: Any) -> None:
    """API Gateway refuses anything else, at deployment."""
    names = defaultdict(set)
    for resource in stage.of("AWS::ApiGateway::Resource").values():
        if resource["PathPart"].startswith("{"):
            names[str(resource["ParentId"])].add(resource["PathPart"])
    assert all(len(each) == 1 for each in names.values())


def test_the_stack_keeps_clear_of_cloudformations_limit(stage: Any) -> None:
    assert len(stage.template["Resources"]) < 400  # of 500
    assert len(json.dumps(stage.template)) < 1_000_000


# --- what API Gateway answers by itself ---------------------------------------------------------------------


def test_every_type_of_gateway_response_is_ours() -> None:
    model = boto3.client("apigateway").meta.service_model
    assert {response.kind for response in GATEWAY_RESPONSES} == set(model.shape_for("GatewayResponseType").enum)


def test_gateway_responses_are_operation_outcomes(stage: Any) -> None:
    context = {"authorizer.issue": "expired", "requestId": "00000000-0000-4000-8000-000000000000"}
    for response in stage.of("AWS::ApiGateway::GatewayResponse").values():
        (template,) = response["ResponseTemplates"].values()
        body = re.sub(r"\$context\.([\w.]+)", lambda found: context[found[1]], template)
        OperationOutcome.model_validate(json.loads(body))
        assert "$" not in body
        (issue,) = json.loads(body)["issue"]
        headers = response["ResponseParameters"]
        assert headers["gatewayresponse.header.Content-Type"] == "'application/fhir+json'"
        status = response.get("StatusCode")
        if response["ResponseType"] in EXPECTED:
            assert (status, issue["code"]) == EXPECTED[response["ResponseType"]]
        assert ("gatewayresponse.header.WWW-Authenticate" in headers) == (status == "401")


def test_a_client_without_token_learns_how_to_authenticate(stage: Any) -> None:
    headers = {
        response["ResponseType"]: response["ResponseParameters"].get("gatewayresponse.header.WWW-Authenticate")
        for response in stage.of("AWS::ApiGateway::GatewayResponse").values()
    }
    assert headers["UNAUTHORIZED"] == "'Bearer realm=\"passerelle\"'"
    assert headers["ACCESS_DENIED"] == "context.authorizer.challenge"


# --- /fhir/metadata -----------------------------------------------------------------------------------------


def test_metadata_is_the_capability_statement_of_the_routes(stage: Any) -> None:
    integration = methods(stage)["GET", "/fhir/metadata"]["Integration"]
    assert integration["Type"] == "MOCK"
    statement = capability_statement(fhir_routes())
    as_json, as_xml = integration["IntegrationResponses"]
    (json_text,) = as_json["ResponseTemplates"].values()
    (xml_text,) = as_xml["ResponseTemplates"].values()
    assert json.loads(json_text) == statement
    assert fhir_xml.loads(xml_text.partition(")")[2].encode()) == statement
    assert max(len(json_text), len(xml_text.encode())) < 300_000, "API Gateway's limit for a mapping template"
    for answer, media_type in ((as_json, "application/fhir+json"), (as_xml, "application/fhir+xml")):
        assert answer["ResponseParameters"]["method.response.header.Content-Type"] == f"'{media_type}'"
        assert integration["ContentHandling"] == answer["ContentHandling"] == "CONVERT_TO_TEXT"


def test_the_templates_of_the_statement_have_nothing_for_velocity() -> None:
    resource = {
        "resourceType": "Basic",
        "name": "$match",
        "url": "https://example.org/a#b",
        "text": "#if($x) ${y} #end",
    }
    template = json_template(resource)
    assert not {"$", "#"} & set(template)
    assert json.loads(template) == resource
    with pytest.raises(ValueError, match="mapping template"):
        xml_template({"resourceType": "Basic", "language": "$fr"})


# --- logs, limits, edge -------------------------------------------------------------------------------------


def test_logs_hold_no_path_no_query_no_address(stage: Any) -> None:
    (deployed,) = stage.of("AWS::ApiGateway::Stage").values()
    logged = json.loads(deployed["AccessLogSetting"]["Format"])
    assert logged["route"] == "$context.resourcePath"
    personal = (
        "path",
        "identity",
        "requestOverride",
        "customDomain",
        "authorizer.claims",
        "authorizer.principalId",
    )
    for variable in logged.values():
        assert variable.removeprefix("$context.").split(".")[0] not in personal
    (settings,) = deployed["MethodSettings"]
    assert settings["DataTraceEnabled"] is False
    assert settings["LoggingLevel"] == "ERROR"


def test_every_method_is_throttled(stage: Any) -> None:
    (deployed,) = stage.of("AWS::ApiGateway::Stage").values()
    (settings,) = deployed["MethodSettings"]
    assert (settings["HttpMethod"], settings["ResourcePath"]) == ("*", "/*")
    assert settings["ThrottlingBurstLimit"] >= settings["ThrottlingRateLimit"] > 0


def test_bodies_arrive_as_bytes_over_modern_tls(stage: Any) -> None:
    (api,) = stage.of("AWS::ApiGateway::RestApi").values()
    assert api["BinaryMediaTypes"] == ["*/*"]
    assert api["MinimumCompressionSize"] == 1024
    assert api["EndpointConfiguration"] == {"Types": ["REGIONAL"]}
    assert api["SecurityPolicy"].startswith("SecurityPolicy_TLS13_1_2_")


def test_the_firewall_stands_before_the_stage_and_lets_large_bodies_pass(stage: Any) -> None:
    (acl,) = stage.of("AWS::WAFv2::WebACL").values()
    (association,) = stage.of("AWS::WAFv2::WebACLAssociation").values()
    (deployed,) = stage.of("AWS::ApiGateway::Stage")
    assert deployed in str(association["ResourceArn"])
    rules = {rule["Name"]: rule["Statement"] for rule in acl["Rules"]}
    managed = rules["AWSManagedRulesCommonRuleSet"]["ManagedRuleGroupStatement"]
    counted = {rule["Name"] for rule in managed["RuleActionOverrides"] if rule["ActionToUse"] == {"Count": {}}}
    assert "SizeRestrictions_BODY" in counted
    assert rules["RequestsPerAddress"]["RateBasedStatement"]["AggregateKeyType"] == "IP"
    assert not any(rule["VisibilityConfig"]["SampledRequestsEnabled"] for rule in acl["Rules"])


@pytest.mark.usefixtures("dev")  # Node is running
def test_with_a_domain_the_api_answers_to_no_other_name(tmp_path: Path) -> None:
    from infra.settings import PROD, Domain
    from infra.synthesis import add_stack, new_app

    domain = Domain(name="fhir.example.org", certificate_arn="arn:aws:acm:eu-west-3:123456789012:certificate/x")
    app = new_app(bundling=False, outdir=tmp_path)
    stack = add_stack(app, replace(PROD, domain=domain))
    app.synth()
    template = json.loads((tmp_path / stack.template_file).read_text())
    resources = {each["Type"]: each["Properties"] for each in template["Resources"].values()}
    assert resources["AWS::ApiGateway::RestApi"]["DisableExecuteApiEndpoint"] is True
    name = resources["AWS::ApiGateway::DomainName"]
    assert (name["DomainName"], name["SecurityPolicy"][:24]) == (
        "fhir.example.org",
        "SecurityPolicy_TLS13_1_2",
    )
    url = resources["AWS::Lambda::Function"]["Environment"]["Variables"]["PUBLIC_URL"]
    assert url["Fn::If"][2] == "https://fhir.example.org"


@pytest.mark.usefixtures("dev")  # Node is running
def test_with_a_trust_store_clients_connect_with_a_certificate_or_not_at_all(tmp_path: Path) -> None:
    """API Gateway has mutual TLS under its older policies only; without the default endpoint there is no way around."""
    from infra.settings import PROD, Domain, TrustStore
    from infra.synthesis import add_stack, new_app

    trust = TrustStore(bucket="trust", key="authorities.pem", version="3")
    certificate = "arn:aws:acm:eu-west-3:123456789012:certificate/x"
    domain = Domain(name="fhir.example.org", certificate_arn=certificate, trust_store=trust)
    app = new_app(bundling=False, outdir=tmp_path)
    settings = replace(PROD, domain=domain, token_keys=(2, 1), openid_providers=(PROVIDER,), cds_service=LICENSED)
    stack = add_stack(app, settings)
    app.synth()
    resources = json.loads((tmp_path / stack.template_file).read_text())["Resources"].values()
    (name,) = (each["Properties"] for each in resources if each["Type"] == "AWS::ApiGateway::DomainName")
    (rest,) = (each["Properties"] for each in resources if each["Type"] == "AWS::ApiGateway::RestApi")
    assert name["MutualTlsAuthentication"] == {
        "TruststoreUri": "s3://trust/authorities.pem",
        "TruststoreVersion": "3",
    }
    assert name["SecurityPolicy"] == rest["SecurityPolicy"] == "TLS_1_2"
    assert "EndpointAccessMode" not in name.keys() | rest.keys()
    assert rest["DisableExecuteApiEndpoint"] is True
    # What proves the exchange to an OpenID provider is for the function where people log in, alone.
    readers = [
        (each["Properties"]["Roles"][0]["Ref"], json.dumps(statement["Resource"]))
        for each in resources
        if each["Type"] == "AWS::IAM::Policy"
        for statement in each["Properties"]["PolicyDocument"]["Statement"]
        if "secretsmanager:GetSecretValue" in statement["Action"]
    ]
    proved = [role for role, secrets in readers if PROVIDER.secret in secrets]
    assert [role.startswith("LoginRole") for role in proved] == [True]
    # And what proves it to a licensed base of medicines, for the function that asks it.
    asking = [role for role, secrets in readers if LICENSED.secret in secrets]
    assert [role.startswith("PrescriptionsRole") for role in asking] == [True]
    # While one key of access tokens replaces another, functions know both, the new one first.
    (keys,) = {
        json.dumps(each["Properties"]["Environment"]["Variables"]["TOKEN_KEY_IDS"])
        for each in resources
        if each["Type"] == "AWS::Lambda::Function" and "Environment" in each["Properties"]
    }
    assert keys.index("KeysToken2") < keys.index("KeysToken", keys.index("KeysToken2") + 1)
    allowed = [
        statement["Resource"]
        for each in resources
        if each["Type"] == "AWS::IAM::Policy"
        for statement in each["Properties"]["PolicyDocument"]["Statement"]
        if "kms:Sign" in statement["Action"] and "kms:GetPublicKey" in statement["Action"]
    ]
    assert any(len(each) == 2 for each in allowed if isinstance(each, list))
