"""The stack of a stage: composes the constructs, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from aws_cdk import CfnCondition, CfnOutput, CfnParameter, Duration, Fn, Stack
from constructs import Construct

from infra.alarms import Alarms
from infra.api import Api
from infra.compute import Function
from infra.documents import DocumentVault
from infra.functions import FUNCTIONS, Authorizer, Http, Outbox, Queue, Resource, Trail
from infra.grants import Protected, allow
from infra.keys import Keys
from infra.layers import Layers
from infra.ledger import AnchorVault
from infra.notifications import Notifications
from infra.routes import endpoints, fhir_routes
from infra.scanning import MalwareScanning
from infra.schedules import Schedules
from infra.settings import StageSettings
from infra.tables import Tables
from infra.telling import allow_telling
from knowledge.places import MOUNTED
from passerelle.api.ingestion import DEAD_LETTERS, NAMESPACE
from passerelle.aws.tables import TABLES
from passerelle.fhir.capability import capability_statement


class PasserelleStack(Stack):
    def __init__(self, scope: Construct, construct_id: str, *, settings: StageSettings) -> None:
        super().__init__(
            scope,
            construct_id,
            description=f"Passerelle health information exchange, stage {settings.stage}",
            termination_protection=settings.keeps_data,
            analytics_reporting=False,
        )
        keys = Keys(self, "Keys", settings=settings)
        tables = Tables(self, "Tables", settings=settings, keys=keys)
        vault = DocumentVault(self, "DocumentVault", settings=settings, keys=keys)
        anchors = AnchorVault(self, "AnchorVault", settings=settings, keys=keys, logs=vault.logs)
        notifications = Notifications(self, "Notifications", settings=settings, keys=keys)
        notifications.follow_contents(vault.bucket)
        MalwareScanning(
            self,
            "MalwareScanning",
            buckets={"documents/": vault.bucket, "uploads/": vault.uploads_bucket},
            key=keys.data,
            queue=notifications.scans,
            dead=notifications.dead["scans"],
        )
        Schedules(self, "Schedules", keys=keys, queues=notifications.queues, dead=notifications.dead)
        api = Api(self, "Api", settings=settings, keys=keys)
        layers = Layers(self, "Layers")

        environment = {
            "STAGE": settings.stage,
            **{spec.variable: tables.by_name[spec.name].table_name for spec in TABLES},
            "DOCUMENTS_BUCKET": vault.bucket.bucket_name,
            "UPLOADS_BUCKET": vault.uploads_bucket.bucket_name,
            "UPLOAD_MAX_BYTES": str(settings.upload_max_bytes),
            "EVENT_BUS": notifications.bus.ref,
            "DELIVERIES_QUEUE_URL": notifications.deliveries.queue_url,
            "TOKEN_KEY_IDS": Fn.join(" ", [key.key_id for key in keys.tokens]),
            "INDEX_SECRET_ARN": keys.index_secret.secret_arn,
            "PUBLIC_URL": self._public_url(api),
            "RETENTION_DAYS": str(settings.retention_days),
            "HOLD_UNTIL_SCANNED": str(settings.hold_until_scanned).lower(),
            "IMPLICIT_POLICY": settings.implicit_policy,
            "ANCHORS_BUCKET": anchors.bucket.bucket_name,
            "ANCHOR_KEY_ID": keys.anchor.key_id,
            "SEALS_QUEUE_URL": notifications.seals.queue_url,
            "LEDGER_SHARDS": str(settings.ledger_shards),
            "OPENID_PROVIDERS": json.dumps([asdict(each) for each in settings.openid_providers]),
            "HOME_COMMUNITY_ID": settings.home_community_id,
            "KNOWLEDGE_BASE": MOUNTED,
            "CDS_SERVICE_URL": settings.cds_service.url if settings.cds_service else "",
            "CDS_SERVICE_SECRET": settings.cds_service.secret if settings.cds_service else "",
            "MAIL_SENDER": settings.mail_sender,
            "SMS_SENDER": settings.sms_sender,
            "PARTNER_QUEUES": json.dumps(
                [{"client_id": each.client_id, "arn": each.arn} for each in settings.partner_queues]
            ),
            "MSSANTE": json.dumps(asdict(settings.mssante)) if settings.mssante else "",
            "WEBHOOK_CERTIFICATE": settings.webhook_certificate,
            "DOCUMENT_OPTIONS": " ".join(settings.document_options),
            "POWERTOOLS_SERVICE_NAME": "passerelle",
            "POWERTOOLS_LOG_LEVEL": "INFO",
            "POWERTOOLS_LOGGER_LOG_EVENT": "false",  # events hold personal data
        }
        resources: Mapping[Resource, Protected] = {
            "clinical": Protected(arn=tables.by_name["clinical"].table_arn, key=keys.data),
            "patients": Protected(arn=tables.by_name["patients"].table_arn, key=keys.data),
            "operations": Protected(arn=tables.by_name["operations"].table_arn, key=keys.data),
            "audit": Protected(arn=tables.by_name["audit"].table_arn, key=keys.data),
            "keys": Protected(arn=tables.by_name["keys"].table_arn, key=keys.data),
            "documents": vault.objects,
            "documents-bucket": Protected(arn=vault.bucket.bucket_arn),
            "uploads": vault.uploads,
            "events-bus": Protected(arn=notifications.bus.attr_arn),
            "deliveries": Protected(arn=notifications.deliveries.queue_arn, key=keys.operations),
            "ledger": Protected(arn=tables.by_name["ledger"].table_arn, key=keys.data),
            "anchors": anchors.objects,
            "anchor-key": Protected(arn=keys.anchor.key_arn),
            "seals": Protected(arn=notifications.seals.queue_arn, key=keys.operations),
            "index-secret": Protected(arn=keys.index_secret.secret_arn, key=keys.data),
            "token-key": Protected(arn=keys.tokens[0].key_arn, also=tuple(key.key_arn for key in keys.tokens[1:])),
        }
        functions = {
            spec.name: Function(
                self,
                spec.name.capitalize(),
                spec=spec,
                settings=settings,
                keys=keys,
                layers=layers,
                environment=environment,
                resources=resources,
            )
            for spec in FUNCTIONS
        }
        lambdas = {name: each.function for name, each in functions.items()}
        for provider in settings.openid_providers:
            if provider.secret:
                allow(functions["login"].role, ("secretsmanager:GetSecretValue",), Protected(arn=provider.secret))
        if settings.cds_service:
            secret = Protected(arn=settings.cds_service.secret)
            allow(functions["prescriptions"].role, ("secretsmanager:GetSecretValue",), secret)

        allow_telling(functions["deliver"].role, settings, vault.objects)
        for spec in FUNCTIONS:
            match spec.trigger:
                case Outbox():
                    functions[spec.name].follow_outbox(
                        spec.trigger,
                        table=tables.by_name["clinical"],
                        keys=keys,
                        dead=notifications.dead["outbox"],
                    )
                case Trail():
                    functions[spec.name].follow_trail(
                        spec.trigger, table=tables.by_name["audit"], keys=keys, dead=notifications.dead["append"]
                    )
                case Queue():
                    functions[spec.name].consume(spec.trigger, queue=notifications.queues[spec.trigger.name], keys=keys)
                case Http() | Authorizer():
                    pass  # the API starts them
        api.serve(endpoints(), lambdas, lambdas["authorize"])
        api.describe(capability_statement(fhir_routes()))

        alarms = Alarms(self, "Alarms", keys=keys)
        alarms.on_dead_letters(notifications.dead)
        alarms.on_errors(lambdas)
        alarms.on_stream_age("Outbox", lambdas["relay"], "events wait in the outbox")
        alarms.on_stream_age("Trail", lambdas["append"], "audit records wait for the verifiable log")
        alarms.on_incidents(
            settings.stage,
            {
                "subscription-in-error": "a subscriber is told nothing any more: its endpoint failed for too long",
                "alert-unanswered": "an alert about somebody at home has nobody left to go to: call who takes care",
                "event-not-numbered": "an event was lost on its way to the subscriptions: it was told late",
                "delivery-not-ordered": "an order of delivery was lost: it was given again",
                "notification-without-content": "a resource could not be told to a subscriber: its log says where",
            },
        )
        alarms.on_dead_messages(NAMESPACE, DEAD_LETTERS)
        alarms.on_server_errors(api.rest.metric_server_error(period=Duration.minutes(5), statistic="Average"))
        operations = tables.by_name["operations"].table_name
        CfnOutput(self, "OperationsTable", value=operations, description="For `passerelle client` and `seed`")
        CfnOutput(
            self, "IndexSecret", value=keys.index_secret.secret_arn, description="For `passerelle client` and `seed`"
        )
        CfnOutput(
            self,
            "DeliveriesQueue",
            value=notifications.deliveries.queue_url,
            description="For `passerelle subscriptions`",
        )
        CfnOutput(
            self,
            "DeliveriesDeadQueue",
            value=notifications.dead["deliveries"].queue_url,
            description="For `passerelle subscriptions redrive`",
        )
        CfnOutput(self, "AlarmTopic", value=alarms.topic.topic_arn)

    def _public_url(self, api: Api) -> str:
        """The root of the public URL: the parameter PublicUrl, else the API's own."""
        parameter = CfnParameter(
            self,
            "PublicUrl",
            default="",
            description="Root of the public URL, without /fhir; empty: the API's own",
        )
        given = CfnCondition(
            self,
            "HasPublicUrl",
            expression=Fn.condition_not(Fn.condition_equals(parameter.value_as_string, "")),
        )
        url = Fn.condition_if(given.logical_id, parameter.value_as_string, api.url).to_string()
        CfnOutput(self, "Url", value=url, description="Root of the public URL: the FHIR base is below, at /fhir")
        return url
