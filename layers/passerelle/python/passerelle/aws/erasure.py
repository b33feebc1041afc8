"""How what erasing changes is stored: rows of the stewards' worklist go (`aws/patients.py` has their keys)."""

from __future__ import annotations

from collections.abc import Sequence

from passerelle.aws.documents import PREFIX
from passerelle.aws.dynamodb import Action, delete
from passerelle.aws.journal import TableNames, actions_of
from passerelle.aws.objects import S3Objects
from passerelle.aws.records import SEALED_OBJECTS
from passerelle.erasure.model import QuestionsDropped


class S3Contents:
    """`erasure.ports.Contents`: the contents of documents, which are not sealed, and bodies too large for an item."""

    def __init__(self, objects: S3Objects) -> None:
        self._objects = objects

    def purge(self, patient: str) -> None:
        for folder in (PREFIX, SEALED_OBJECTS):
            self._objects.purge(f"{folder}{patient}/")


@actions_of.register
def _(change: QuestionsDropped, tables: TableNames) -> Sequence[Action]:
    keys = []
    for review in change.reviews:
        keys += [
            ("W", f"{review.status.value}#{review.id}"),
            (f"Q#{review.first}", review.second),
            (f"Q#{review.second}", review.first),
        ]
    return [delete(tables.patients, key) for key in dict.fromkeys(keys)]
