"""What can go wrong with a knowledge base."""

from __future__ import annotations


class KnowledgeUnavailable(Exception):  # noqa: N818 - a state of the base, said by its name
    """The base cannot be reached or loaded: nothing was checked."""
