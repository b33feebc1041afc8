"""Ways of being told that the settings name: what `deliver` may do for them, and for nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from infra.settings import DEV, MssanteOperator, PartnerQueue, StageSettings  # `infra` before aws_cdk: brings Node

QUEUE = "arn:aws:sqs:eu-west-1:210987654321:partner"
KEY = "arn:aws:kms:eu-west-1:210987654321:key/1"
SECRET = "arn:aws:secretsmanager:eu-west-3:123456789012:secret:mssante"
DOCUMENTS = "arn:aws:s3:::documents/*"
OPERATOR = MssanteOperator(host="smtp.operator.example", port=587, sender="a@b.mssante.fr", secret=SECRET)


def allowed(settings: StageSettings) -> list[Mapping[str, Any]]:
    """The statements of a role that was allowed to tell by these settings."""
    from aws_cdk import App, Stack
    from aws_cdk import aws_iam as iam
    from aws_cdk.assertions import Template

    from infra.grants import Protected
    from infra.telling import allow_telling

    stack = Stack(App(), "Stack")
    role = iam.Role(stack, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    allow_telling(role, settings, Protected(arn=DOCUMENTS))
    policies = Template.from_stack(stack).find_resources("AWS::IAM::Policy")
    return [
        statement
        for policy in policies.values()
        if "Role" in str(policy["Properties"]["Roles"])
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
    ]


def test_what_is_not_set_up_is_not_allowed() -> None:
    assert allowed(DEV) == []


def test_each_way_is_allowed_by_name() -> None:
    settings = replace(
        DEV,
        mail_sender="Passerelle <nouveau@exchange.example>",
        partner_queues=(PartnerQueue(arn=QUEUE, client_id="hospital-b", key=KEY),),
        mssante=OPERATOR,
        webhook_certificate=SECRET.replace("mssante", "webhooks"),
    )
    statements = allowed(settings)
    actions = [statement["Action"] for statement in statements]
    assert actions[0] == "ses:SendEmail"
    assert "identity/nouveau@exchange.example" in str(statements[0]["Resource"])
    assert "identity/exchange.example" in str(statements[0]["Resource"])
    by_arn = {str(statement["Resource"]): statement["Action"] for statement in statements}
    assert by_arn[QUEUE] == "sqs:SendMessage"
    assert by_arn[SECRET] == by_arn[SECRET.replace("mssante", "webhooks")] == "secretsmanager:GetSecretValue"
    of_key = next(each for each in statements if each["Resource"] == KEY)
    assert of_key["Condition"] == {"StringEquals": {"kms:ViaService": "sqs.eu-west-1.amazonaws.com"}}
    assert by_arn[DOCUMENTS] == "s3:GetObject"
    assert not [statement for statement in statements if statement["Resource"] == "*"]


def test_texting_names_no_topic() -> None:
    allowance, denial = allowed(replace(DEV, sms_sender="Passerelle"))
    assert (allowance["Effect"], allowance["Action"], allowance["Resource"]) == ("Allow", "sns:Publish", "*")
    assert (denial["Effect"], denial["Action"]) == ("Deny", "sns:Publish")


def test_health_mail_is_not_sent_without_a_certificate() -> None:
    with pytest.raises(ValueError):
        allowed(replace(DEV, mssante=replace(OPERATOR, secret="")))


def test_documents_are_not_sent_without_a_name_of_the_exchange() -> None:
    with pytest.raises(ValueError):
        allowed(replace(DEV, mssante=OPERATOR, home_community_id=""))
