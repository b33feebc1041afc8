"""The program that estimates the weights of the patient index, without labels (data model, 1.3).

    weights = estimate(records, candidate_pairs(records), seed=7, population=68_000_000)
    model = passerelle.matching.scoring.Model(weights)

    python -m estimation PEOPLE.csv --output weights.json     the same from a file, see `python -m estimation --help`

How often unrelated people agree comes from random pairs. How often one person's records agree, how often a relative's
do, and how many of each a look-up meets, come from EM over the pairs that the blocking keys bring together. Then the
score is calibrated on pairs that were put aside and whose truth is known without anybody's work: both identities are
qualified, so their national identifiers say it (that trait is then hidden from the score). Deterministic for a seed.

`estimate(records, pairs, *, seed, others=None, population=None, version="unnamed", profile="national", chance=200_000,
  near_identifiers=False)`
    `records`: the records, in a list. `others`: the second file when two files are linked; each pair is then an index
    into `records` and one into `others`. Without it both index `records`, and `i != j`. `pairs`: candidates, as
    `candidate_pairs` gives them. `population`: how many people the index is meant for, by default the number of
    records searched (`others`, or `records`). `chance`: how many random pairs. `near_identifiers`: whether national
    identifiers one digit apart are a level of their own; not where neighbouring ones are those of twins, as in France.
    Returns the mapping that `Model` takes and `data/weights_*.json` holds.

`candidate_pairs(left, right=None, *, profile="national", limit=100)`
    Each pair once, sorted: `(index in left, index in right)`, or `i < j` within `left`. What a look-up of each left
    record would compare, both stages; a block with more than `limit` records is passed over.
"""

from __future__ import annotations

from estimation.estimate import estimate
from estimation.pairs import candidate_pairs

__all__ = ["candidate_pairs", "estimate"]
