"""The stand-alone verifier against those who run the log, who have its table, its bucket and its signing key.

Each case says something false with everything else right, signature included where they would sign. The verifier runs
in a process of its own.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc.jwk import ECKey

from passerelle.ledger.model import (
    Anchor,
    Last,
    Sealed,
    anchor_to_map,
    body_of,
    commit,
    epoch_leaves,
    leaf_of,
    shard_of,
)
from passerelle.ledger.tree import EMPTY_TREE, completed_by, completing_leaf, consistency, inclusion, root_of, span_root
from tests.ledger import verdict

SHARDS = 2
PATIENT = "0123456789abcdef"
OWN = shard_of(PATIENT, SHARDS)
SALT = bytes(16)
MINUTE = 60_000
BEGAN = 1_768_383_000_000
_KEY = ec.generate_private_key(ec.SECP256R1())
JWK: Any = {**ECKey.import_key(_KEY.public_key()).as_dict(private=False), "kid": "k1"}
KEYS = {"keys": [JWK]}

Leaf = tuple[bytes, int]  # commitment, milliseconds
Json = dict[str, Any]


def event(number: int) -> str:
    seconds = number % 60
    return json.dumps({"at": f"2026-01-14T09:30:{seconds:02}.000000Z", "name": "read", "patient": PATIENT, "n": number})


def leaf(number: int, at: int | None = None) -> Leaf:
    return commit(SALT, event(number).encode()), BEGAN + number * 1000 if at is None else at


class Tree:
    def __init__(self, leaves: Sequence[Leaf]) -> None:
        self.frontier, self._nodes = EMPTY_TREE.extended(leaf_of(*each) for each in leaves)

    def __getitem__(self, node: tuple[int, int]) -> bytes:
        return self._nodes[completed_by(completing_leaf(node)) + node[0]]

    def path(self, spans: Sequence[tuple[int, int]]) -> list[str]:
        return [span_root(span, self).hex() for span in spans]  # type: ignore[arg-type]


def anchor_of(last: Last, leaves: Sequence[Leaf], time: int) -> Anchor:
    """An epoch in which the patient's shard has these leaves, signed."""
    tree = Tree(leaves).frontier
    heads = [Sealed(size=0)] * (SHARDS + 1)
    heads[OWN] = Sealed(size=tree.size, root=tree.root)
    body = body_of(last, heads, time)
    return Anchor(body=body, heads=tuple(heads), key="k1", signature=_KEY.sign(body.encode(), ec.ECDSA(SHA256())))


def proof_of(number: int, leaves: Sequence[Leaf], index: int, anchor: Anchor, previous: Anchor | None) -> Json:
    heads = list(epoch_leaves(anchor.heads))
    return {
        "event": event(number),
        "salt": SALT.hex(),
        "appended": leaves[index][1],
        "shard": OWN,
        "index": index,
        "size": len(leaves),
        "path": Tree(leaves).path(inclusion(index, len(leaves))),
        "epoch_path": [root_of(heads[first:end]).hex() for first, end in inclusion(OWN, SHARDS + 1)],
        "anchor": anchor_to_map(anchor),
        "previous": previous.body if previous else None,
    }


def growth_of(first: Anchor, second: Anchor, leaves: Sequence[Leaf]) -> Json:
    paths: list[list[str]] = [[] for _ in range(SHARDS + 1)]
    paths[OWN] = Tree(leaves).path(consistency(first.heads[OWN].size, second.heads[OWN].size))
    return {"first": anchor_to_map(first), "second": anchor_to_map(second), "paths": paths}


LEAVES = [leaf(number) for number in range(11)]
FIRST = anchor_of(Last(), LEAVES[:6], BEGAN + 5 * 1000)
SECOND = anchor_of(Last.of(FIRST), LEAVES, BEGAN + MINUTE)
THIRD = anchor_of(Last.of(SECOND), LEAVES, BEGAN + 2 * MINUTE)
PROOF = proof_of(8, LEAVES, 8, SECOND, FIRST)
GROWTH = growth_of(FIRST, SECOND, LEAVES)


def test_what_is_true_is_proved(tmp_path: Path) -> None:
    assert verdict(tmp_path, KEYS, PROOF) == (True, "proved: read at 2026-01-14T09:30:08.000000Z, epoch 1")
    assert verdict(tmp_path, KEYS, proof_of(2, LEAVES[:6], 2, FIRST, None))[0]
    assert verdict(tmp_path, KEYS, GROWTH, anchor_to_map(FIRST)) == (
        True,
        "proved: epoch 1 has everything of epoch 0",
    )
    assert verdict(tmp_path, KEYS, growth_of(SECOND, SECOND, LEAVES))[0]
    assert verdict(tmp_path, KEYS, growth_of(FIRST, THIRD, LEAVES))[0]


def changed(document: Json, *path: Any, to: Any) -> Json:
    twin = copy.deepcopy(document)
    place = twin
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to(place[path[-1]]) if callable(to) else to
    return twin


def flipped(text: str) -> str:
    return ("1" if text[0] != "1" else "2") + text[1:]


def resealed(leaves: Sequence[Leaf], time: int = BEGAN + MINUTE) -> Anchor:
    return anchor_of(Last.of(FIRST), leaves, time)


def backdated() -> Json:
    """A leaf put in after the first epoch, with a time before it: signed like any other."""
    leaves = [*LEAVES[:6], leaf(3, BEGAN + 3_000)]
    return proof_of(3, leaves, 6, resealed(leaves), FIRST)


def postdated() -> Json:
    leaves = [*LEAVES[:6], leaf(8, BEGAN + 2 * MINUTE)]
    return proof_of(8, leaves, 6, resealed(leaves), FIRST)


def recorded_elsewhen() -> Json:
    """An event that says that it happened two days before it was put into the log."""
    days = 2 * 86_400_000
    first = anchor_of(Last(), LEAVES[:6], BEGAN + days)
    leaves = [*LEAVES[:6], leaf(8, BEGAN + days + 1)]
    return proof_of(8, leaves, 6, anchor_of(Last.of(first), leaves, BEGAN + days + 2), first)


def of_another_first() -> Json:
    """The epoch before is replaced by one that ended earlier."""
    forged = anchor_of(Last(), LEAVES[:2], BEGAN + 1_000)
    return changed(backdated(), "previous", to=forged.body)


FALSE_PROOFS = {
    "event-mutated": changed(PROOF, "event", to=lambda text: text.replace("read", "vread")),
    "salt-changed": changed(PROOF, "salt", to=flipped),
    "salt-moved-into-the-event": changed(changed(PROOF, "salt", to="00" * 15), "event", to=lambda text: f"\0{text}"),
    "leaf-back-dated": changed(PROOF, "appended", to=lambda at: at - 2_500),
    "leaf-back-dated-by-who-signs": backdated(),
    "leaf-after-the-epoch-by-who-signs": postdated(),
    "event-long-before-its-leaf": recorded_elsewhen(),
    "other-epoch-before": of_another_first(),
    "no-epoch-before": changed(PROOF, "previous", to=None),
    "index-of-another": changed(PROOF, "index", to=7),
    "index-outside": changed(PROOF, "index", to=11),
    "size-truncated": changed(PROOF, "size", to=10),
    "path-changed": changed(PROOF, "path", 1, to=flipped),
    "path-shorter": changed(PROOF, "path", to=lambda path: path[:-1]),
    "path-longer": changed(PROOF, "path", to=lambda path: [*path, path[0]]),
    "shard-path-changed": changed(PROOF, "epoch_path", 0, to=flipped),
    "patient-of-another-shard": changed(PROOF, "event", to=lambda text: text.replace(PATIENT, "0" * 15 + "1")),
    "anchor-changed": changed(PROOF, "anchor", "body", to=lambda body: body.replace('"shards":3', '"shards":4')),
    "signature-changed": changed(
        PROOF, "anchor", "signature", to=lambda text: text[:-2] + ("00" if text[-2:] != "00" else "01")
    ),
    "signature-of-another-anchor": changed(PROOF, "anchor", "signature", to=FIRST.signature.hex()),
    "unknown-key": changed(PROOF, "anchor", "key", to="k2"),
    "later-epoch": changed(PROOF, "anchor", to=anchor_to_map(THIRD)),
    "nothing": {},
}


@pytest.mark.parametrize("case", FALSE_PROOFS)
def test_what_is_false_of_an_event_is_rejected(case: str, tmp_path: Path) -> None:
    holds, said = verdict(tmp_path, KEYS, FALSE_PROOFS[case])
    assert not holds
    assert said.startswith("rejected: ")


def rewritten(leaves: Sequence[Leaf]) -> Json:
    """A second epoch over other leaves, signed, with the proof that these leaves would have."""
    return growth_of(FIRST, resealed(leaves), leaves)


OTHER = [*LEAVES[:4], leaf(99, LEAVES[4][1]), *LEAVES[5:]]
FORK = anchor_of(Last(), OTHER[:6], BEGAN + 5 * 1000)
FALSE_GROWTH = {
    "leaf-mutated": rewritten(OTHER),
    "leaf-dropped": rewritten([*LEAVES[:4], *LEAVES[5:]]),
    "leaves-reordered": rewritten([*LEAVES[:3], LEAVES[4], LEAVES[3], *LEAVES[5:]]),
    "leaf-back-dated": rewritten([*LEAVES[:5], (LEAVES[5][0], LEAVES[5][1] - 500), *LEAVES[6:]]),
    "leaf-inserted": rewritten([*LEAVES[:4], leaf(99, LEAVES[4][1] - 1), *LEAVES[4:]]),
    "log-truncated": {**GROWTH, "second": anchor_to_map(resealed(LEAVES[:5]))},
    "log-emptied": {**GROWTH, "second": anchor_to_map(resealed([])), "paths": [[], [], []]},
    "shard-left-out": changed(GROWTH, "paths", to=lambda paths: paths[:2]),
    "path-changed": changed(GROWTH, "paths", OWN, 0, to=flipped),
    "path-empty": changed(GROWTH, "paths", OWN, to=[]),
    "heads-changed": changed(GROWTH, "second", "heads", OWN, 0, to=12),
    "heads-left-out": changed(GROWTH, "second", "heads", to=lambda heads: heads[:2]),
    "epochs-exchanged": {**GROWTH, "first": GROWTH["second"], "second": GROWTH["first"]},
    "two-of-one-epoch": growth_of(FIRST, FORK, OTHER[:6]),
    "not-of-the-chain": growth_of(FORK, resealed(OTHER), OTHER),
}


@pytest.mark.parametrize("case", FALSE_GROWTH)
def test_what_is_false_of_the_log_is_rejected(case: str, tmp_path: Path) -> None:
    holds, said = verdict(tmp_path, KEYS, FALSE_GROWTH[case])
    assert not holds
    assert said.startswith("rejected: ")


def test_a_log_that_replaced_an_epoch_is_told_by_who_kept_it(tmp_path: Path) -> None:
    """A whole other history, in itself consistent, shown to somebody who has an anchor of the first."""
    later = anchor_of(Last.of(FORK), OTHER, BEGAN + MINUTE)
    fork = growth_of(FORK, later, OTHER)
    assert verdict(tmp_path, KEYS, fork)[0]
    assert verdict(tmp_path, KEYS, fork, anchor_to_map(FIRST)) == (False, "rejected: the epoch that you kept is gone")
