"""E-mail by Amazon SES v2.

Contract relied on: an answer with a MessageId says that SES took the letter, not that it arrived. Addresses that
bounced or complained are on the suppression list of the account; SES takes letters to them, and does not send them.
"""

from __future__ import annotations

from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from passerelle.aws.dynamodb import count
from passerelle.notifications.model import UndeliveredError

# What SES says of the address. MessageRejected is of the sender or the account, which the operator can mend.
_REFUSALS: Final = frozenset({"BadRequestException"})


class SesMail:
    """`notifications.letter_carrier.Mail`. The identity of `sender` is verified with SES."""

    def __init__(self, client: Any, sender: str) -> None:
        self._client = client
        self._sender = sender

    def send(self, address: str, subject: str, body: str, delivery: str) -> None:
        count("SendEmail")
        try:
            self._client.send_email(
                FromEmailAddress=self._sender,
                Destination={"ToAddresses": [address]},
                Content={
                    "Simple": {
                        "Subject": {"Data": subject, "Charset": "UTF-8"},
                        "Body": {"Text": {"Data": body, "Charset": "UTF-8"}},
                        "Headers": [
                            {"Name": "Auto-Submitted", "Value": "auto-generated"},
                            {"Name": "X-Passerelle-Delivery", "Value": delivery},
                        ],
                    }
                },
            )
        except ClientError as error:
            code = error.response["Error"]["Code"]
            refused = code in _REFUSALS  # else SES is throttled, suspended or down
            raise UndeliveredError("refused by the mail service", is_final=refused, is_answer=refused) from None
        except BotoCoreError:
            raise UndeliveredError("connection") from None
