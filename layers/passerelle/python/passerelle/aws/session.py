"""How clients of AWS services are made: with what a cold start needs, and no more.

botocore alone: boto3 adds resources and file transfers, of which nothing here has a use, in sixty modules. And
a loader that knows which services there are: botocore's own reads the folders of all four hundred to find out.
"""

from __future__ import annotations

from typing import Final

from botocore.loaders import Loader
from botocore.session import Session, get_session

SERVICES: Final = ("dynamodb", "events", "kms", "s3", "secretsmanager", "sesv2", "sns", "sqs")


class _KnownServices(Loader):
    """The models of the services in use; any other is refused as one that does not exist."""

    def list_available_services(self, type_name: str) -> list[str]:
        return list(SERVICES)


def new_session() -> Session:
    """A session of this process's environment; clients are made of it by one thread at a time."""
    session = get_session()
    session.register_component("data_loader", _KnownServices())
    return session
