"""What a deployment of the shared record takes of what IHE MHD leaves optional (contract 65-14, 65-15, 65-17; P16)."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """`relations`: replace, append, transform, sign. `folders`: Lists that order documents.

    `fhir_documents`: document Bundles as contents of a submission.
    """

    relations: bool = True
    folders: bool = True
    fhir_documents: bool = False

    @classmethod
    def parse(cls, text: str) -> Options:
        """Read the names of the options that are on, separated by spaces; raises ValueError for a name that is none."""
        named = set(text.split())
        if unknown := named - {each.name for each in fields(cls)}:
            raise ValueError(f"no option of the shared record: {', '.join(sorted(unknown))}")
        return cls(**{each.name: each.name in named for each in fields(cls)})
