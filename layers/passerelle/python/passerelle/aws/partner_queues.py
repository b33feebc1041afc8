"""Queues of SQS in accounts of partners, whose policies let the exchange send, and no more.

Contract relied on: a message with its attributes is at most 1 MiB, or what the owner of the queue set; a FIFO queue
drops what has a deduplication id that it saw within five minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from passerelle.aws.dynamodb import count
from passerelle.notifications.model import UndeliveredError
from passerelle.notifications.queue_carrier import TooLongError

_MAX_BYTES: Final = 1024 * 1024
_FOR_ATTRIBUTES: Final = 4096
_TOO_LONG: Final = frozenset({"InvalidParameterValue", "InvalidMessageContents", "BatchRequestTooLong"})


class SqsPartnerQueues:
    """`notifications.queue_carrier.PartnerQueues`. `client_of` gives the SQS client of a region."""

    def __init__(self, client_of: Callable[[str], Any]) -> None:
        self._client_of = client_of

    def send(self, arn: str, body: str, attributes: Mapping[str, str], *, group: str, delivery: str) -> None:
        if len(body.encode()) > _MAX_BYTES - _FOR_ATTRIBUTES:
            raise TooLongError
        _, _, _, region, account, name = arn.split(":")
        client = self._client_of(region)
        ordered = {"MessageGroupId": group, "MessageDeduplicationId": delivery} if name.endswith(".fifo") else {}
        count("SendMessage")
        try:
            client.send_message(
                # Asking for the URL would take another permission of the partner.
                QueueUrl=f"{client.meta.endpoint_url.rstrip('/')}/{account}/{name}",
                MessageBody=body,
                MessageAttributes={
                    key: {"DataType": "String", "StringValue": value} for key, value in attributes.items()
                },
                **ordered,
            )
        except ClientError as error:
            code = error.response["Error"]["Code"].rpartition(".")[2]
            if code in _TOO_LONG:  # the owner of the queue set a lower limit
                raise TooLongError from None
            raise UndeliveredError("refused by the queue", is_answer=True) from None  # of this queue, not of SQS
        except BotoCoreError:
            raise UndeliveredError("connection") from None
