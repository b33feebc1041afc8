"""The AWS SDK on the emulator, without what only AWS looks at: it is most of the processor time of a call."""

from __future__ import annotations

import json
from typing import Any, Final

from botocore.config import Config
from botocore.handlers import disable_signing
from botocore.session import Session

_UNSIGNED: Final = ("dynamodb", "dynamodb-streams", "eventbridge", "sqs")


def lightened(session: Session) -> Session:
    """The session, whose clients from now on sign no calls but those of S3 and KMS, and do not list what they are.

    S3's are signed because URLs that are given away are calls too. The records of a stream are given as they were sent,
    which is how functions get them.
    """
    session.set_default_client_config(Config(user_agent="passerelle"))
    for service in _UNSIGNED:
        session.register(f"choose-signer.{service}", disable_signing)
    session.register("before-parse.dynamodb-streams.GetRecords", _without_records)
    return session


def _without_records(**given: Any) -> None:
    """Leave little to parse: attribute by attribute, it takes longer than all else of the call."""
    response = given["response_dict"]
    if response["status_code"] == 200:
        answer = json.loads(response["body"])
        given["customized_response_dict"]["Records"] = answer.pop("Records")
        response["body"] = json.dumps(answer).encode()
