"""Check what Passerelle proves of its access log, without Passerelle: Python 3.11 and `cryptography` are enough.

    python verify.py keys.json proof.json                   an event: what GET AuditEvent/<id>/$proof answered
    python verify.py keys.json growth.json [anchor.json]    two epochs: /log/consistency?first=<n>&second=<m>

keys.json is /log/keys, got once, by a way that you trust. anchor.json is an epoch that you kept (/log/anchors/latest):
one of the two must be it. The formats are in docs/trust.md. Exit status 0: proved; 1: rejected, with the reason.
"""

import base64
import hashlib
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

Json = dict[str, Any]


class Rejected(Exception):  # noqa: N818 - what was said is not proved
    pass


def demand(holds: bool, reason: str) -> None:
    if not holds:
        raise Rejected(reason)


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def from_hex(text: str, size: int = 32) -> bytes:
    demand(len(text) == 2 * size, "a hash has another length")
    return bytes.fromhex(text)


def signed(anchor: Json, keys: Json) -> Json:
    """What an anchor says, once its signature is verified."""
    (key,) = (key for key in keys["keys"] if key["kid"] == anchor["key"])
    x, y = (int.from_bytes(base64.urlsafe_b64decode(key[name] + "=="), "big") for name in "xy")
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    public.verify(bytes.fromhex(anchor["signature"]), anchor["body"].encode(), ec.ECDSA(SHA256()))
    body: Json = json.loads(anchor["body"])
    return body


def climbed(place: int, end: int, node: bytes, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """From a node to the roots of the tree that ends with it, and of the whole tree (RFC 9162, 2.1.3.2 and 2.1.4.2)."""
    old = new = node
    for step in path:
        demand(end > 0, "the path is too long")
        if place & 1 or place == end:
            old, new = sha256(b"\1", step, old), sha256(b"\1", step, new)
            while place and not place & 1:
                place, end = place >> 1, end >> 1
        else:
            new = sha256(b"\1", new, step)
        place, end = place >> 1, end >> 1
    demand(end == 0, "the path is too short")
    return old, new


def included(leaf: bytes, index: int, size: int, path: Sequence[str]) -> bytes:
    """The root that an inclusion proof leads to."""
    demand(0 <= index < size, "the leaf is outside the tree")
    return climbed(index, size - 1, leaf, [from_hex(step) for step in path])[1]


def check_growth(first: int, second: int, first_root: bytes, second_root: bytes, path: Sequence[str]) -> None:
    """That a tree begins with another one."""
    if first in (0, second):
        demand(not path and first_root == (second_root if first else sha256()), "the tree is another one")
        return
    demand(0 < first < second, "leaves are missing")
    place, end, steps = first - 1, second - 1, [from_hex(step) for step in path]
    if first & (first - 1) == 0:
        steps.insert(0, first_root)
    while place & 1:
        place, end = place >> 1, end >> 1
    demand(bool(steps), "the path is too short")
    roots = climbed(place, end, steps[0], steps[1:])
    demand(roots == (first_root, second_root), "leaves were changed, or taken away")


def head_of(shard: int, size: int, root: bytes) -> bytes:
    return sha256(b"\0", shard.to_bytes(4, "big"), size.to_bytes(8, "big"), root)


def check_event(proof: Json, keys: Json) -> tuple[Json, Json]:
    """The event and its epoch: that it is in the log, in the tree of its patient, since the minute that it says."""
    epoch, event, at = signed(proof["anchor"], keys), json.loads(proof["event"]), proof["appended"]
    commitment = sha256(from_hex(proof["salt"], 16), proof["event"].encode())
    leaf = sha256(b"\0", commitment, at.to_bytes(8, "big"))
    shard, patient = epoch["shards"] - 1, event.get("patient")
    if patient is not None:
        shard = int.from_bytes(sha256(patient.encode())[:4], "big") % shard
    head = head_of(shard, proof["size"], included(leaf, proof["index"], proof["size"], proof["path"]))
    root = included(head, shard, epoch["shards"], proof["epoch_path"])
    demand(root.hex() == epoch["root"], "it is not in this epoch")
    before = -1
    if epoch["epoch"]:
        demand(sha256(proof["previous"].encode()).hex() == epoch["previous"], "the epoch before is another one")
        before = json.loads(proof["previous"])["time"]
    demand(before < at <= epoch["time"], "it was put into the log at another time than it says")
    recorded = datetime.fromisoformat(event["at"]).timestamp() * 1000
    demand(abs(at - recorded) <= epoch["tolerance"], "it was recorded long before or after it was put into the log")
    return event, epoch


def root_of(level: list[bytes]) -> bytes:
    while len(level) > 1:  # in pairs from the left; one that is left over goes up as it is
        pairs = [level[place : place + 2] for place in range(0, len(level), 2)]
        level = [sha256(b"\1", *pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return level[0]


def check_epochs(growth: Json, keys: Json, kept: Json | None = None) -> tuple[Json, Json]:
    """Two epochs, the second with everything of the first; `kept` is one of them, as it once was."""
    one, other = (signed(growth[name], keys) for name in ("first", "second"))
    heads = [[(size, from_hex(root)) for size, root in growth[name]["heads"]] for name in ("first", "second")]
    for epoch, trees in zip((one, other), heads, strict=True):
        demand(len(trees) == epoch["shards"] == one["shards"] == len(growth["paths"]), "shards are missing")
        leaves = [head_of(shard, *tree) for shard, tree in enumerate(trees)]
        demand(root_of(leaves).hex() == epoch["root"], "the trees are not those of the epoch")
    bodies = [growth[name]["body"] for name in ("first", "second")]
    in_order = one["epoch"] < other["epoch"] and one["time"] < other["time"]
    demand(in_order or bodies[0] == bodies[1], "the epochs are not of one chain")
    if one["epoch"] + 1 == other["epoch"]:
        demand(sha256(bodies[0].encode()).hex() == other["previous"], "the epochs are not of one chain")
    demand(kept is None or kept["body"] in bodies, "the epoch that you kept is gone")
    for (size, root), (new_size, new_root), path in zip(*heads, growth["paths"], strict=True):
        check_growth(size, new_size, root, new_root, path)
    return one, other


def main(arguments: Sequence[str]) -> str:
    """What is proved; raises Rejected."""
    try:
        keys, said, *kept = (json.loads(Path(name).read_text("utf-8")) for name in arguments)
        if said.get("resourceType") == "Binary":
            said = json.loads(base64.b64decode(said["data"]))
        if "event" in said:
            event, epoch = check_event(said, keys)
            return f"proved: {event['name']} at {event['at']}, epoch {epoch['epoch']}"
        first, second = check_epochs(said, keys, *kept)
        return f"proved: epoch {second['epoch']} has everything of epoch {first['epoch']}"
    except InvalidSignature:
        raise Rejected("the signature of the anchor is not valid") from None
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as fault:
        raise Rejected(f"not in the form of a proof: {type(fault).__name__}") from None


if __name__ == "__main__":
    try:
        sys.stdout.write(main(sys.argv[1:]) + "\n")
    except Rejected as reason:
        sys.exit(f"rejected: {reason}")
