"""The trees of the verifiable log against the vectors of Certificate Transparency, and the stand-alone verifier.

Leaves, roots and proofs: google/certificate-transparency, `cpp/merkletree/merkle_tree_test.cc`; the same in
transparency-dev/merkle, `testonly/constants.go`.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerelle.ledger.tree import (
    EMPTY,
    EMPTY_TREE,
    Frontier,
    Node,
    completed_by,
    completing_leaf,
    consistency,
    inclusion,
    leaf_hash,
    node_hash,
    root_of,
    span_root,
)
from verifier import verify

LEAVES = [
    bytes.fromhex(each)
    for each in ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
A = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
B = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
C = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
D = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
E = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
INCLUSION = {
    (0, 1): [],
    (0, 8): [A, B, C],
    (5, 8): [D, E, ROOTS[3]],
    (2, 3): [ROOTS[1]],
    (1, 5): [ROOTS[0], B, D],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): [A, B, C],
    (6, 8): ["0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a", E, ROOTS[3]],
    (2, 5): [B, D],
}


class Grown:
    """A tree, with its nodes found as storage finds them: by the leaf that completes each."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = [leaf_hash(each) for each in leaves]
        self.frontier, self.completed = EMPTY_TREE.extended(self.leaves)

    def __getitem__(self, node: Node) -> bytes:
        return self.completed[completed_by(completing_leaf(node)) + node[0]]

    def root(self, size: int) -> bytes:
        return root_of(self.leaves[:size])

    def inclusion(self, index: int, size: int) -> list[str]:
        return [span_root(span, self).hex() for span in inclusion(index, size)]  # type: ignore[arg-type]

    def consistency(self, earlier: int, later: int) -> list[str]:
        return [span_root(span, self).hex() for span in consistency(earlier, later)]  # type: ignore[arg-type]


def test_published_roots() -> None:
    assert EMPTY_TREE.root.hex() == EMPTY.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert [Grown(LEAVES[:size]).frontier.root.hex() for size in range(1, 9)] == ROOTS


def test_published_hashes_of_leaves_and_nodes() -> None:
    """transparency-dev/merkle, `rfc6962/rfc6962_test.go`."""
    assert leaf_hash(b"L123456").hex() == "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    node = "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"
    assert node_hash(b"N123", b"N456").hex() == node


@pytest.mark.parametrize(("place", "path"), INCLUSION.items())
def test_published_inclusion_proofs(place: tuple[int, int], path: list[str]) -> None:
    index, size = place
    assert Grown(LEAVES).inclusion(index, size) == path
    assert verify.included(leaf_hash(LEAVES[index]), index, size, path).hex() == ROOTS[size - 1]


@pytest.mark.parametrize(("sizes", "path"), CONSISTENCY.items())
def test_published_consistency_proofs(sizes: tuple[int, int], path: list[str]) -> None:
    earlier, later = sizes
    assert Grown(LEAVES).consistency(earlier, later) == path
    verify.check_growth(earlier, later, bytes.fromhex(ROOTS[earlier - 1]), bytes.fromhex(ROOTS[later - 1]), path)


def test_every_proof_of_small_trees_holds_and_of_nothing_else() -> None:
    tree = Grown([bytes([each]) for each in range(35)])
    for size in range(1, 36):
        for index in range(size):
            path = tree.inclusion(index, size)
            assert verify.included(tree.leaves[index], index, size, path) == tree.root(size)
            if size > 1:
                for wrong in ((index, path[:-1]), (index, [*path, A]), ((index + 1) % size, path)):
                    assert not leads_to(tree.root(size), tree.leaves[index], size, *wrong)
        for earlier in range(size + 1):
            path = tree.consistency(earlier, size)
            verify.check_growth(earlier, size, tree.root(earlier), tree.root(size), path)
            if 0 < earlier < size:
                with pytest.raises(verify.Rejected):
                    verify.check_growth(earlier, size, tree.root(earlier + 1), tree.root(size), path)
                with pytest.raises(verify.Rejected):
                    verify.check_growth(earlier, size, tree.root(earlier), tree.root(size), path[:-1])


def leads_to(root: bytes, leaf: bytes, size: int, index: int, path: list[str]) -> bool:
    try:
        return verify.included(leaf, index, size, path) == root
    except verify.Rejected:
        return False


@given(st.lists(st.integers(0, 40), max_size=6))
def test_a_tree_does_not_tell_in_which_steps_it_grew(steps: list[int]) -> None:
    leaves = [leaf_hash(number.to_bytes(2, "big")) for number in range(sum(steps))]
    frontier, completed, start = Frontier(), list[bytes](), 0
    for step in steps:
        frontier, nodes = frontier.extended(leaves[start : start + step])
        completed += nodes
        start += step
    assert (frontier, completed) == EMPTY_TREE.extended(leaves)
    assert len(completed) == completed_by(len(leaves))
    assert frontier.root == verify.root_of(leaves or [EMPTY])
