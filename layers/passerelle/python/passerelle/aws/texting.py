"""SMS by Amazon SNS, to one number at a time.

Contract relied on: SNS takes what it can route, and refuses a number that is malformed or opted out
(`InvalidParameter`, `OptedOut`). It sends no more a month than the spending limit of the account lets it.
"""

from __future__ import annotations

from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from passerelle.aws.dynamodb import count
from passerelle.notifications.model import UndeliveredError

_REFUSALS: Final = frozenset({"InvalidParameter", "InvalidParameterException", "OptedOut", "OptedOutException"})


class SnsTexting:
    """`notifications.letter_carrier.Texting`. `sender` is the name that telephones show: at most eleven characters."""

    def __init__(self, client: Any, sender: str) -> None:
        self._client = client
        self._attributes = {
            "AWS.SNS.SMS.SenderID": {"DataType": "String", "StringValue": sender},
            "AWS.SNS.SMS.SMSType": {"DataType": "String", "StringValue": "Transactional"},
        }

    def send(self, number: str, text: str) -> None:
        count("Publish")
        try:
            self._client.publish(PhoneNumber=number, Message=text, MessageAttributes=self._attributes)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            refused = code in _REFUSALS
            raise UndeliveredError("refused by the text service", is_final=refused, is_answer=refused) from None
        except BotoCoreError:
            raise UndeliveredError("connection") from None
