"""Where the references of search entries lead: chained searches, and what included resources include (R4 3.1.1.4.15).

A chain in a record is followed forwards, from the entries that the other criteria leave: they are few, and what they
refer to is read once. Nothing is found by what the caller does not see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from passerelle.errors import Invalid
from passerelle.records.search import Chain, Entry, Include, Query, matches, targets_of

MAX_FOLLOWED = 500  # references that one search follows

Read = Callable[[Sequence[str]], Mapping[str, Entry]]
"""What the caller sees at each `Type/id`."""


class Follower:
    """For one search; raises Invalid (`too-costly`) once it would have to read too much."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._known: dict[str, Entry | None] = {}

    def holds(self, entry: Entry, query: Query) -> bool:
        """Whether an entry is what a query asks for, its chains included."""
        return matches(entry, query) and all(self._leads(entry, chain) for chain in query.chains)

    def _leads(self, entry: Entry, chain: Chain) -> bool:
        queries = {query.type: query for query in chain.queries}
        named = targets_of(entry, Include(type="*", parameter=chain.parameter))
        targets = {each: query for each in named if (query := queries.get(each.partition("/")[0])) is not None}
        self._look_up(list(targets))
        return any(
            (found := self._known[target]) is not None and self.holds(found, query) for target, query in targets.items()
        )

    def _look_up(self, references: Sequence[str]) -> None:
        new = [each for each in references if each not in self._known]
        if len(self._known) + len(new) > MAX_FOLLOWED:
            raise Invalid("too many references would be followed: narrow the search", code="too-costly")
        if new:
            found = self._read(new)
            self._known |= {each: found.get(each) for each in new}
