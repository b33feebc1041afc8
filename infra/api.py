"""The REST API: routes of the handlers, authorizer, `/fhir/metadata` without a function, logs without traits.

API Gateway v1, because it checks a token before the function runs, answers `/metadata` by itself and lets
every error be an OperationOutcome. The stage is called `v1`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from aws_cdk import Aws, Duration, RemovalPolicy, Size
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_certificatemanager as certificates
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.findings import accept
from infra.firewall import Firewall
from infra.gateway_responses import GATEWAY_RESPONSES
from infra.keys import Keys
from infra.logs import log_group
from infra.metadata import CHOICE, MEDIA_TYPES, XML_STATUS, json_template, xml_template
from infra.routes import Endpoint
from infra.settings import Domain, StageSettings
from passerelle.api.routes import BASE

STAGE_NAME: Final = "v1"
METADATA: Final = f"{BASE}/metadata"
# TLS 1.2 and 1.3, forward secrecy only. STRICT: the host of TLS and of HTTP must be the same.
_TLS: Final = "SecurityPolicy_TLS13_1_2_PFS_PQ_2025_09"
_ACCESS_MODE: Final = "STRICT"
_MUTUAL_TLS: Final = "TLS_1_2"  # API Gateway has no client certificates under the newer policies

# No path, query, address or user agent: `resourcePath` is the type at most; functions log the route (`api/app.py`).
_ACCESS_LOG: Final = {
    "requestId": "$context.requestId",
    "time": "$context.requestTimeEpoch",
    "method": "$context.httpMethod",
    "route": "$context.resourcePath",
    "status": "$context.status",
    "errorType": "$context.error.responseType",
    "responseBytes": "$context.responseLength",
    "latencyMs": "$context.responseLatency",
    "integrationLatencyMs": "$context.integration.latency",
    "integrationStatus": "$context.integration.integrationStatus",
    "authorizerStatus": "$context.authorizer.status",
    "authorizerLatencyMs": "$context.authorizer.latency",
    "waf": "$context.waf.status",
    "tls": "$context.tlsVersion",
}


class Api(Construct):
    def __init__(self, scope: Construct, construct_id: str, *, settings: StageSettings, keys: Keys) -> None:
        super().__init__(scope, construct_id)
        access_logs = log_group(self, "AccessLogs", settings=settings, keys=keys)
        self.rest = apigateway.RestApi(
            self,
            "Rest",
            rest_api_name=f"passerelle-{settings.stage}",
            description="Passerelle: FHIR R4 health information exchange",
            endpoint_types=[apigateway.EndpointType.REGIONAL],
            binary_media_types=["*/*"],  # bodies reach the handler as the bytes that were sent
            min_compression_size=Size.kibibytes(1),  # gzip both ways, for clients that ask for it
            disable_execute_api_endpoint=True if settings.domain else None,
            cloud_watch_role=True,
            # One role and one setting per account and region: other APIs may rely on them.
            cloud_watch_role_removal_policy=RemovalPolicy.RETAIN,
            deploy_options=apigateway.StageOptions(
                stage_name=STAGE_NAME,
                access_log_destination=apigateway.LogGroupLogDestination(access_logs),
                access_log_format=apigateway.AccessLogFormat.custom(json.dumps(_ACCESS_LOG)),
                logging_level=apigateway.MethodLoggingLevel.ERROR,
                data_trace_enabled=False,  # would log requests and answers
                metrics_enabled=True,
                tracing_enabled=settings.traces,
                throttling_rate_limit=settings.requests_per_second,
                throttling_burst_limit=settings.burst_requests,
            ),
        )
        self.rest.node.try_remove_child("Endpoint")  # an output of its own; ours is `Url`
        resource = cast(apigateway.CfnRestApi, self.rest.node.default_child)
        if settings.domain is None or settings.domain.trust_store is None:
            resource.security_policy = _TLS
            resource.endpoint_access_mode = _ACCESS_MODE
        else:
            resource.security_policy = _MUTUAL_TLS
        self._keep_execution_logs(settings, keys)
        self._respond()
        if settings.domain:
            self._name(settings.domain)
        Firewall(self, "Firewall", settings=settings, stage_arn=self.rest.deployment_stage.stage_arn)
        self._accept_findings(settings)
        # Not RestApi.url: it waits for the deployment, which waits for the functions, which need the URL.
        self.url = (
            f"https://{settings.domain.name}"
            if settings.domain
            else f"https://{self.rest.rest_api_id}.execute-api.{Aws.REGION}.{Aws.URL_SUFFIX}/{STAGE_NAME}"
        )

    def serve(
        self,
        endpoints: Iterable[Endpoint],
        functions: Mapping[str, lambda_.Function],
        authorize: lambda_.Function,
    ) -> None:
        """Deploy each endpoint; all but the public ones behind the authorizer."""
        authorizer = apigateway.RequestAuthorizer(
            self,
            "Authorizer",
            handler=authorize,
            identity_sources=[apigateway.IdentitySource.header("Authorization")],
            results_cache_ttl=Duration.seconds(0),  # a revoked or expired token stops at once
        )
        integrations = {
            name: apigateway.LambdaIntegration(function, scope_permission_to_method=False)
            for name, function in functions.items()
        }
        for endpoint in endpoints:
            resource = self.rest.root.resource_for_path(endpoint.path)
            integration = integrations[endpoint.function]
            if endpoint.public:
                _accept_public(resource.add_method(endpoint.method, integration))
            else:
                method = resource.add_method(
                    endpoint.method,
                    integration,
                    authorizer=authorizer,
                    authorization_type=apigateway.AuthorizationType.CUSTOM,
                )
                accept(method, "The authorizer verifies our own tokens", "AwsSolutions-COG4")

    def describe(self, capability: dict[str, Any]) -> None:
        """Answer `/fhir/metadata` with `capability`, fixed when the stack is synthesised, in the form asked for.

        With `*/*` as binary media type, a mock answers only if its contents are declared as text, both ways.
        """
        answers = {
            "200": ("application/fhir+json", json_template(capability)),
            XML_STATUS: ("application/fhir+xml", xml_template(capability)),
        }
        method = self.rest.root.resource_for_path(METADATA).add_method(
            "GET",
            apigateway.MockIntegration(
                content_handling=apigateway.ContentHandling.CONVERT_TO_TEXT,
                passthrough_behavior=apigateway.PassthroughBehavior.NEVER,
                request_templates=dict.fromkeys(MEDIA_TYPES, CHOICE),
                integration_responses=[
                    apigateway.IntegrationResponse(
                        status_code=status,
                        selection_pattern=None if status == "200" else status,
                        content_handling=apigateway.ContentHandling.CONVERT_TO_TEXT,
                        response_templates={"application/json": template},
                        response_parameters={
                            "method.response.header.Content-Type": f"'{media_type}'",
                            "method.response.header.Vary": "'Accept'",
                            "method.response.header.X-Content-Type-Options": "'nosniff'",
                        },
                    )
                    for status, (media_type, template) in answers.items()
                ],
            ),
            method_responses=[
                apigateway.MethodResponse(
                    status_code=status,
                    response_parameters={
                        f"method.response.header.{name}": True
                        for name in ("Content-Type", "Vary", "X-Content-Type-Options")
                    },
                )
                for status in answers
            ],
        )
        _accept_public(method)

    def _keep_execution_logs(self, settings: StageSettings, keys: Keys) -> None:
        """API Gateway names this group; made by us, it has a period and a key."""
        name = f"API-Gateway-Execution-Logs_{self.rest.rest_api_id}/{STAGE_NAME}"
        group = log_group(self, "ExecutionLogs", settings=settings, keys=keys, name=name)
        self.rest.deployment_stage.node.add_dependency(group)

    def _respond(self) -> None:
        for response in GATEWAY_RESPONSES:
            added = apigateway.CfnGatewayResponse(
                self,
                "".join(word.capitalize() for word in response.kind.split("_")),
                rest_api_id=self.rest.rest_api_id,
                response_type=response.kind,
                status_code=str(response.status) if response.status else None,
                response_templates={"application/json": response.template},
                response_parameters=response.parameters,
            )
            deployment = cast(apigateway.Deployment, self.rest.latest_deployment)
            deployment.node.add_dependency(added)
            deployment.add_to_logical_id([response.kind, response.status, response.template, response.parameters])

    def _name(self, domain: Domain) -> None:
        trust = domain.trust_store
        name = apigateway.DomainName(
            self,
            "Domain",
            domain_name=domain.name,
            certificate=certificates.Certificate.from_certificate_arn(self, "Certificate", domain.certificate_arn),
            endpoint_type=apigateway.EndpointType.REGIONAL,
            security_policy=(
                apigateway.SecurityPolicy.TLS_1_2 if trust else apigateway.SecurityPolicy.TLS13_1_2_PFS_PQ_2025_09
            ),
            endpoint_access_mode=None if trust else apigateway.EndpointAccessMode.STRICT,
            mtls=apigateway.MTLSConfig(
                bucket=s3.Bucket.from_bucket_name(self, "TrustStore", trust.bucket),
                key=trust.key,
                version=trust.version,
            )
            if trust
            else None,
        )
        name.add_base_path_mapping(self.rest, stage=self.rest.deployment_stage)

    def _accept_findings(self, settings: StageSettings) -> None:
        accept(
            self.rest,
            "Handlers validate requests: they know FHIR, and answer as OperationOutcome",
            "AwsSolutions-APIG2",
        )
        stage = self.rest.deployment_stage
        accept(
            stage,
            "No cache: every answer is an audited disclosure",
            "HIPAA.Security-APIGWCacheEnabledAndEncrypted",
        )
        accept(
            stage,
            "The integrations are Lambda functions and a mock: no backend to show a client certificate to",
            "HIPAA.Security-APIGWSSLEnabled",
        )
        if not settings.traces:
            accept(stage, "Traces are for production load", "HIPAA.Security-APIGWXrayEnabled")
        accept(
            self.rest,
            "The only policy that lets API Gateway write its logs, from its developer guide",
            "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/"
            "AmazonAPIGatewayPushToCloudWatchLogs]",
        )


def _accept_public(method: apigateway.Method) -> None:
    accept(
        method,
        "Public by its specification (FHIR, SMART App Launch, OAuth 2.0): how a client comes to a token; a link "
        "that is its own proof, by 256 random bits; or the verifiable log, which names nobody",
        "AwsSolutions-APIG4",
        "AwsSolutions-COG4",
    )
