"""The web ACL in front of the API: AWS managed rules, and a limit per address.

Rules that would refuse legitimate FHIR only count: a body may have 5 MB and holds narratives in XHTML, a
search may have a long query, a system may send no User-Agent. There is no WAF log and no sampling of
requests: both keep parts of requests, thus personal data; metrics per rule and the access log's `waf` field
say what was refused.
"""

from __future__ import annotations

from typing import Final

from aws_cdk import aws_wafv2 as wafv2
from constructs import Construct

from infra.findings import accept
from infra.settings import StageSettings

_ONLY_COUNTED: Final = (
    "CrossSiteScripting_BODY",
    "NoUserAgent_HEADER",
    "SizeRestrictions_BODY",
    "SizeRestrictions_QUERYSTRING",
)


class Firewall(Construct):
    def __init__(self, scope: Construct, construct_id: str, *, settings: StageSettings, stage_arn: str) -> None:
        super().__init__(scope, construct_id)
        acl = wafv2.CfnWebACL(
            self,
            "Acl",
            description=f"passerelle {settings.stage}",
            scope="REGIONAL",
            default_action=wafv2.CfnWebACL.DefaultActionProperty(allow={}),
            visibility_config=_metrics("Acl"),
            rules=[
                _managed(0, "AWSManagedRulesAmazonIpReputationList"),
                _managed(1, "AWSManagedRulesKnownBadInputsRuleSet"),
                _managed(2, "AWSManagedRulesCommonRuleSet", only_counted=_ONLY_COUNTED),
                wafv2.CfnWebACL.RuleProperty(
                    name="RequestsPerAddress",
                    priority=3,
                    action=wafv2.CfnWebACL.RuleActionProperty(block={}),
                    statement=wafv2.CfnWebACL.StatementProperty(
                        rate_based_statement=wafv2.CfnWebACL.RateBasedStatementProperty(
                            aggregate_key_type="IP",
                            evaluation_window_sec=300,
                            limit=settings.requests_per_address,
                        )
                    ),
                    visibility_config=_metrics("RequestsPerAddress"),
                ),
            ],
        )
        wafv2.CfnWebACLAssociation(self, "Association", resource_arn=stage_arn, web_acl_arn=acl.attr_arn)
        accept(
            acl,
            "It would hold parts of requests, thus personal data; metrics and the access log tell refusals",
            "HIPAA.Security-WAFv2LoggingEnabled",
        )


def _managed(priority: int, name: str, *, only_counted: tuple[str, ...] = ()) -> wafv2.CfnWebACL.RuleProperty:
    return wafv2.CfnWebACL.RuleProperty(
        name=name,
        priority=priority,
        override_action=wafv2.CfnWebACL.OverrideActionProperty(none={}),
        statement=wafv2.CfnWebACL.StatementProperty(
            managed_rule_group_statement=wafv2.CfnWebACL.ManagedRuleGroupStatementProperty(
                vendor_name="AWS",
                name=name,
                rule_action_overrides=[
                    wafv2.CfnWebACL.RuleActionOverrideProperty(
                        name=rule, action_to_use=wafv2.CfnWebACL.RuleActionProperty(count={})
                    )
                    for rule in only_counted
                ]
                or None,
            )
        ),
        visibility_config=_metrics(name),
    )


def _metrics(name: str) -> wafv2.CfnWebACL.VisibilityConfigProperty:
    return wafv2.CfnWebACL.VisibilityConfigProperty(
        cloud_watch_metrics_enabled=True, metric_name=name, sampled_requests_enabled=False
    )
